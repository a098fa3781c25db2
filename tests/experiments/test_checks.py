"""Values that no experiment can use: each is refused in one line, before anything is written."""

import dataclasses
import importlib
import math
import sys
import typing

import pytest

from experiments._checks import (
    BELOW_1,
    BETWEEN_0_AND_1,
    COUNT,
    NOT_NEGATIVE,
    POSITIVE,
    SEED,
    SHARE,
    at_least,
    check_choices,
    check_filled,
)
from experiments._results import names
from jaxstruct.training import main

ZEROS = [
    "accumulate",
    "clip_norm",
    "batch_size",
    "codes",
    "discriminator_steps",
    "evaluations",
    "evidence_rgb",
    "evidence_xy",
    "features",
    "height",
    "hidden",
    "importance_images",
    "importance_samples",
    "latent",
    "latents",
    "learning_rate",
    "linear_batch_size",
    "linear_learning_rate",
    "maxout",
    "most",
    "overcomplete",
    "parts",
    "parzen_samples",
    "photographs",
    "pieces",
    "pretraining_rate",
    "proposals",
    "ratios",
    "regions",
    "rpn_features",
    "scales",
    "scribble_prob",
    "sigma_gaussian",
    "sigma_rgb",
    "sigma_xy",
    "svm_C",
    "width",
]
"""The fields for which 0 is no value."""

TOO_LARGE = {
    "average": 1,
    "color": 1.5,
    "corruption": 2,
    "dropout": 1,
    "flip": 1.01,
    "masking": 1.5,
    "momentum": 1,
    "resize": 1,
    "salt_and_pepper": 2,
    "scribble_prob": 1,
    "seed": 2**32,
}
"""The fields that have a largest value, and one above it."""

TOO_SMALL = {"fid_images": 1, "height": 31, "width": 31, "regions": 1}
"""Other limits. The width of dense_crf_demo's photographs has none but 1."""

FILLED = ["codes", "latents", "photographs", "ratios", "scales"]
"""The tuples that must have elements."""


def numeric(annotation):
    """int or float where a field holds such a number, or a tuple of them."""
    if typing.get_origin(annotation) is tuple:
        annotation = typing.get_args(annotation)[0]
    return annotation if annotation in (int, float) else None


def refused():
    """(experiment, field, values on the command line) of every value that is refused."""
    for name in names():
        config = importlib.import_module(f"experiments.{name}").Config
        hints = typing.get_type_hints(config)
        for field in dataclasses.fields(config):
            kind = numeric(hints[field.name])
            values = ["-1"] if kind else []
            values += ["nan", "inf", "-inf"] if kind is float else []
            values += ["0"] if kind and field.name in ZEROS else []
            values += [str(TOO_LARGE[field.name])] if field.name in TOO_LARGE else []
            if field.name in TOO_SMALL and name != "dense_crf_demo":
                values.append(str(TOO_SMALL[field.name]))
            yield from ((name, field.name, [value]) for value in values)
            if field.name in FILLED:
                yield name, field.name, []


CASES = list(refused())


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs the command line of an experiment; its exit status and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # `main` sets another
    monkeypatch.delenv("JAXSTRUCT_DATA", raising=False)

    def run(name, *arguments):
        module = importlib.import_module(f"experiments.{name}")
        monkeypatch.setattr(sys, "argv", [f"{name}.py"])
        with pytest.raises(SystemExit) as caught:
            main(module.experiment, smoke=module.SMOKE, arguments=list(arguments))
        return caught.value.code, capsys.readouterr().err

    return run


@pytest.mark.parametrize("name", names())
def test_a_wrong_value_is_named_before_anything_is_written(name, command, tmp_path):
    cases = [(field, values) for one, field, values in CASES if one == name]
    assert len(cases) > 15
    for field, values in cases:
        option = f"--{field.replace('_', '-')}"
        status, said = command(name, "--smoke", option, *values, "--devices", "1")
        given = str(float(values[0])) if values else "empty"
        assert status == 2, (option, values, said)
        assert said.startswith(f"{option} is "), (option, values, said)
        assert said.split(", expected ")[0].removeprefix(f"{option} is ") in (given, *values)
        assert said.endswith("; --help lists what there is\n")
        assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_every_number_that_has_a_limit_here_is_a_field():
    fields = {field for _, field, _ in CASES}
    assert set(ZEROS) | set(TOO_LARGE) | set(TOO_SMALL) | set(FILLED) <= fields


@pytest.mark.parametrize(
    ("limits", "inside", "outside", "text"),
    [
        (COUNT, [1, 10**9], [0, -3], "at least 1"),
        (NOT_NEGATIVE, [0, 0.5], [-1e-9], "at least 0"),
        (POSITIVE, [1e-9, 7], [0, -1], "more than 0"),
        (SHARE, [0, 0.5, 1], [-0.1, 1.1], "at least 0 and at most 1"),
        (BELOW_1, [0, 0.99], [-0.1, 1], "at least 0 and less than 1"),
        (BETWEEN_0_AND_1, [0.01, 0.99], [0, 1], "more than 0 and less than 1"),
        (SEED, [0, 2**32 - 1], [-1, 2**32], "at least 0 and at most 4294967295"),
        (at_least(32), [32], [31], "at least 32"),
    ],
)
def test_limits_hold_what_their_text_says(limits, inside, outside, text):
    assert all(map(limits.hold, inside))
    assert not any(map(limits.hold, [*outside, math.nan, math.inf, -math.inf]))
    assert str(limits) == text


@dataclasses.dataclass(frozen=True)
class Config:
    kind: typing.Literal["round", "flat"] = "round"
    kinds: tuple[typing.Literal["a", "b"], ...] = ("a",)
    sizes: tuple[int, ...] = (2, 3)
    step_size: float = 0.5

    def __post_init__(self):
        check_choices(self)
        check_filled(self, "sizes")
        COUNT.check(self, "sizes")
        POSITIVE.check(self, "step_size")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"kind": "square"}, "--kind is square, expected one of round, flat"),
        ({"kinds": ("b", "c")}, "--kinds is c, expected one of a, b"),
        ({"sizes": ()}, "--sizes is empty, expected at least one value"),
        ({"sizes": (2, 0)}, "--sizes is 0, expected at least 1"),
        ({"step_size": 0.0}, "--step-size is 0.0, expected more than 0"),
        ({"step_size": math.nan}, "--step-size is nan, expected more than 0"),
        ({"step_size": math.inf}, "--step-size is inf, expected a finite number"),
    ],
)
def test_a_configuration_names_the_field_and_what_it_expects(options, problem):
    assert dataclasses.replace(Config(), kind="flat", sizes=(1,)).sizes == (1,)
    with pytest.raises(ValueError, match=f"^{problem}$"):
        Config(**options)


def test_denoising_needs_some_noise():
    from experiments.denoising_mnist import SMOKE

    dataclasses.replace(SMOKE, masking=(), gaussian=(0.1,), salt_and_pepper=())
    with pytest.raises(ValueError, match="--masking is empty, expected at least one value"):
        dataclasses.replace(SMOKE, masking=(), gaussian=(), salt_and_pepper=())


def test_a_detector_s_batch_is_accumulated_in_equal_parts():
    from experiments.faster_rcnn_bccd import SMOKE

    dataclasses.replace(SMOKE, batch_size=6, accumulate=3)
    with pytest.raises(ValueError, match="--accumulate is 4, expected a divisor of --batch-size 6"):
        dataclasses.replace(SMOKE, batch_size=6, accumulate=4)
