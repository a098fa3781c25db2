"""Values that no experiment can use: each is refused in one line, before anything is written."""

import dataclasses
import importlib
import math
import sys
import typing

import pytest

from experiments._checks import (
    BELOW_1,
    BELOW_HALF,
    BETWEEN_0_AND_1,
    COUNT,
    NOT_NEGATIVE,
    POSITIVE,
    SEED,
    SHARE,
    Limits,
    at_least,
    check_choices,
    check_filled,
)
from experiments._results import names
from jaxstruct.training import main

FIELDS = {
    COUNT: """
        accumulate bands batch_size codes discriminator_steps enlarged evaluations features frames
        hidden importance_images importance_samples latent latents linear_batch_size maxout most
        network_boxes numbers overcomplete parts parzen_samples patches pieces proposals proposed
        rpn_features searched shrink svm_regions tested_iterations zoom""",
    NOT_NEGATIVE: """
        balance bilateral_weight bilateral_weights early_steps epochs frozen full gaussian
        gaussian_weight gaussian_weights iterations joint_epochs linear_epochs noise police_steps
        pretraining_epochs r1 samples steps thief_steps""",
    POSITIVE: """
        clip_norm crf_epochs crf_rate evidence_rgb evidence_xy joint_rate learning_rate
        linear_learning_rate pretraining_rate ratios scales sigma_gaussian sigma_rgb sigma_xy
        sigmas_gaussian sigmas_rgb sigmas_xy svm_C trunk_rate""",
    Limits(0, 999): "classes",
    SHARE: "color corruption flip masking salt_and_pepper",
    BELOW_1: "average dropout momentum resize",
    BELOW_HALF: "background",
    BETWEEN_0_AND_1: "scribble_prob",
    SEED: "seed",
    at_least(2): "fid_images regions",
    at_least(32): "height seen_height seen_width width",
}
LIMITS = {field: limits for limits, fields in FIELDS.items() for field in fields.split()}
"""Of every number of every Config."""

OTHERS = {
    ("crf_rnn", "iterations"): COUNT,
    ("dense_crf_demo", "width"): COUNT,  # of a photograph
    ("fully_convolutional", "width"): COUNT,  # in channels
    ("slid_efficientnet", "width"): at_least(32),  # a cell
    ("slid_efficientnet", "scales"): at_least(1),
    **{
        (name, "hidden"): NOT_NEGATIVE
        for name in (
            "crf_rnn",
            "deeplab_crf_camvid",
            "deeplab_crf_voc2012",
            "fcn_camvid",
            "fcn_voc2012",
        )
    },
}
ALSO = {"fid_images": "0"}  # which is none at all

FILLED = ["codes", "finest", "latents", "methods", "numbers", "photographs", "ratios", "scales"]
FILLED += ["bilateral_weights", "gaussian_weights", "sigmas_gaussian", "sigmas_rgb", "sigmas_xy"]
"""The tuples that must have elements."""


def numeric(annotation):
    """int or float where a field holds such a number, or a tuple of them."""
    if typing.get_origin(annotation) is tuple:
        annotation = typing.get_args(annotation)[0]
    return annotation if annotation in (int, float) else None


def numbers(name):
    """(field, its kind, its limits, whether it is a tuple) of every number of an experiment."""
    config = importlib.import_module(f"experiments.{name}").Config
    for field, annotation in typing.get_type_hints(config).items():
        if kind := numeric(annotation):
            limits = OTHERS.get((name, field)) or LIMITS[field]
            yield field, kind, limits, annotation is not kind


def ends(kind, limits):
    """The numbers at the ends that are allowed, and those next to them that are not."""
    step = 1 if kind is int else 1e-3
    inside, outside = [], []
    for end, is_open, inwards in (
        (limits.least, limits.open_least, step),
        (limits.most, limits.open_most, -step),
    ):
        if math.isfinite(end):
            inside.append(kind(end + inwards if is_open else end))
            outside.append(kind(end if is_open else end - inwards))
    return inside, outside


def refused(name):
    """(field, values on the command line, what is expected) of what an experiment refuses."""
    for field, kind, limits, _ in numbers(name):
        for value in ends(kind, limits)[1]:
            if str(value) != ALSO.get(field):
                # Without FID, `fid_images` has no limit but 0.
                yield field, [str(value)], None if field in ALSO else str(limits)
        if kind is float:
            yield field, ["nan"], str(limits)
            yield from ((field, [value], "a finite number") for value in ("inf", "-inf"))
        yield field, ["-1"], None if field in ALSO else str(limits)
    config = importlib.import_module(f"experiments.{name}").Config
    for field in dataclasses.fields(config):
        if field.name in FILLED:
            yield field.name, [], "at least one value"


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs the command line of an experiment; its exit status and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # `main` sets another

    def run(name, *arguments):
        module = importlib.import_module(f"experiments.{name}")
        monkeypatch.setattr(sys, "argv", [f"{name}.py"])
        with pytest.raises(SystemExit) as caught:
            main(module.experiment, smoke=module.SMOKE, arguments=list(arguments))
        return caught.value.code, capsys.readouterr().err

    return run


@pytest.mark.parametrize("name", names())
def test_a_wrong_value_is_named_before_anything_is_written(name, command, tmp_path):
    cases = list(refused(name))
    assert len(cases) > 10
    for field, values, expected in cases:
        option = f"--{field.replace('_', '-')}"
        status, said = command(name, "--smoke", option, *values, "--devices", "1")
        given = str(float(values[0])) if values else "empty"
        assert status == 2, (option, values, said)
        assert said.startswith(f"error: {option} is "), (option, values, said)
        found, rest = said.removeprefix(f"error: {option} is ").split(", expected ")
        assert found in (given, *values), (option, values, said)
        if expected:
            assert rest == f"{expected}; --help lists what there is\n", (option, values, said)
        assert said.endswith("; --help lists what there is\n")
        assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", names())
def test_the_ends_of_the_limits_are_allowed(name):
    smoke = importlib.import_module(f"experiments.{name}").SMOKE
    for field, kind, limits, several in numbers(name):
        for value in ends(kind, limits)[0]:
            given = (value,) if several else value
            assert getattr(dataclasses.replace(smoke, **{field: given}), field) == given


@pytest.mark.parametrize("name", names())
def test_a_choice_that_there_is_not_is_refused(name):
    module = importlib.import_module(f"experiments.{name}")
    for field, annotation in typing.get_type_hints(module.Config).items():
        several = typing.get_origin(annotation) is tuple
        kind = typing.get_args(annotation)[0] if several else annotation
        if typing.get_origin(kind) is typing.Literal:
            wrong = ("nothing",) if several else "nothing"
            option = f"--{field.replace('_', '-')}"
            with pytest.raises(ValueError, match=f"^{option} is nothing, expected one of "):
                dataclasses.replace(module.SMOKE, **{field: wrong})


def test_every_limit_here_is_of_a_field():
    fields = {field for name in names() for field, *_ in numbers(name)}
    assert set(LIMITS) == fields
    every = {
        field.name
        for name in names()
        for field in dataclasses.fields(importlib.import_module(f"experiments.{name}").Config)
    }
    assert set(FILLED) <= every


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
