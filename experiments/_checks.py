"""What experiments expect of the numbers of their configurations.

What may be added: other properties that several experiments ask for.
"""

from typing import Any


def at_least(config: Any, **least: float) -> None:
    """Raises ValueError that names the first field below its least value, or number of a tuple."""
    for name, value in least.items():
        given = getattr(config, name)
        for number in given if isinstance(given, tuple) else (given,):
            if number < value:
                option = name.replace("_", "-")
                raise ValueError(f"--{option} is {number}, expected at least {value:g}")
