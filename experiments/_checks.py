"""The limits of a configuration's numbers, and one wording for what lies outside of them.

What may be added: another kind of limit that several experiments have.
"""

import dataclasses
import math
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from jaxstruct import machine
from jaxstruct.training import RunError


class Limits(NamedTuple):
    """The finite numbers from `least` to `most`; an open end is not among them."""

    least: float = -math.inf
    most: float = math.inf
    open_least: bool = False
    open_most: bool = False

    def check(self, config: Any, *names: str) -> None:
        """Raises ValueError that names the first of these fields of a Config outside the limits.

        Of a tuple, each number is checked. A Config's `__post_init__` calls this, so that a wrong
        option fails before an experiment reads, trains or writes anything.
        """
        for name in names:
            for number in _elements(getattr(config, name)):
                if abs(number) == math.inf:
                    raise _refused(name, number, "a finite number")
                if not self.hold(number):
                    raise _refused(name, number, self)

    def hold(self, number: float) -> bool:
        """Whether a number is finite and lies between the ends."""
        above = number > self.least if self.open_least else number >= self.least
        below = number < self.most if self.open_most else number <= self.most
        return abs(number) < math.inf and above and below  # an integer may overflow a float

    def __str__(self) -> str:
        lower = f"{'more than' if self.open_least else 'at least'} {self.least:.10g}"
        upper = f"{'less than' if self.open_most else 'at most'} {self.most:.10g}"
        return f"{lower} and {upper}" if math.isfinite(self.most) else lower


def at_least(number: float) -> Limits:
    """No number below this one."""
    return Limits(number)


COUNT = at_least(1)
NOT_NEGATIVE = at_least(0)
POSITIVE = Limits(0, open_least=True)
SHARE = Limits(0, 1)
BELOW_1 = Limits(0, 1, open_most=True)
BELOW_HALF = Limits(0, 0.5, open_most=True)
BETWEEN_0_AND_1 = Limits(0, 1, open_least=True, open_most=True)
SEED = Limits(0, 2**32 - 1)
"""Seeds of JAX: a larger one would give the same random numbers as one of these."""


def check_image(image: Any, asked: str) -> None:
    """Raises ValueError where `predict` got no image, and what is `asked` needs one."""
    if image is None:
        raise ValueError(f"{asked} draws no samples; name images with --images")


def check_memory(needed: int, what: str, remedy: str) -> None:
    """Raises RunError where `what` needs more bytes than this process may use."""
    there = machine.memory()
    if needed > there:
        raise RunError(
            f"{what} need {needed / 2**30:,.1f} GiB of memory, and there are "
            f"{there / 2**30:,.1f} GiB; {remedy}"
        )


def check_filled(config: Any, *names: str) -> None:
    """Raises ValueError that names the first of these tuples of a Config that is empty."""
    for name in names:
        if not getattr(config, name):
            raise _refused(name, "empty", "at least one value")


def check_different(config: Any, *names: str) -> None:
    """Raises ValueError that names the first of these tuples of a Config that repeats a value."""
    for name in names:
        if len(set(getattr(config, name))) < len(getattr(config, name)):
            raise _refused(name, getattr(config, name), "different values")


def check_multiple(config: Any, of: int, *names: str) -> None:
    """Raises ValueError that names the first of these integers of a Config that is no multiple."""
    for name in names:
        if getattr(config, name) % of:
            raise _refused(name, getattr(config, name), f"a multiple of {of}")


def check_choices(config: Any) -> None:
    """Raises ValueError that names the first field whose value its Literal does not have.

    The command line refuses other values itself; Python does not.
    """
    hints = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        annotation = hints[field.name]
        if get_origin(annotation) is tuple:
            annotation = get_args(annotation)[0]
        if get_origin(annotation) is not Literal:
            continue
        for value in _elements(getattr(config, field.name)):
            if value not in get_args(annotation):
                raise _refused(
                    field.name, value, f"one of {', '.join(map(str, get_args(annotation)))}"
                )


def _refused(name: str, value: Any, expected: Any) -> ValueError:
    return ValueError(f"--{name.replace('_', '-')} is {value}, expected {expected}")


def _elements(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
