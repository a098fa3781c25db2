"""Every experiment: its smoke configuration runs, compiles once, goes on to the bit, predicts.

Parametrised over the files of experiments/, so that a new one is tested the moment it exists.
"""

import dataclasses
import importlib
import inspect
import json
import runpy
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from experiments import _dcgan, _fid
from experiments._results import claims, names
from jaxstruct import data
from jaxstruct.metrics import frechet_distance
from jaxstruct.models import resnet
from jaxstruct.training import Study, restore, run

ROOT = Path(__file__).parents[2]
NAMES = names()
OWN = ("cost", "hardware", "versions", "commit")
# Of runpy, for a file that was imported before.
AGAIN = pytest.mark.filterwarnings("ignore:.*found in sys.modules after import:RuntimeWarning")


class Killed(BaseException):
    """Ends a run as a kill would: nothing handles it."""


@pytest.fixture(scope="module", autouse=True)
def small():
    """ResNet-18 with one block a stage, few samples of a GAN and few features of its FID."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet._BLOCKS, 18, (1, 1, 1, 1))
        patch.setattr(_dcgan, "SOUGHT", 200)
        patch.setattr(_dcgan, "MOVED", 50)
        patch.setattr(_fid, "frechet_distance", distance_of_a_part)
        patch.setattr(_fid, "BATCH", 8)
        yield


def distance_of_a_part(*moments):
    """Of 1,280 features, whose covariances take seconds, the first 40."""
    return frechet_distance(*(x[(slice(40),) * x.ndim] for x in moments))


def smoke(name, change=lambda member, stage: stage):
    """The experiment of SMOKE with its stages changed, on imitations where there are no data."""
    module = importlib.import_module(f"experiments.{name}")
    made = module.experiment(module.SMOKE)

    def changed(member, one):
        stages = [change(member, stage) for stage in one.stages]
        return dataclasses.replace(one, stages=stages)

    if not isinstance(made, Study):
        return changed("", made)
    members = {member: changed(member, one) for member, one in made.experiments.items()}
    return dataclasses.replace(made, experiments=members)


def members(name):
    """The experiments of a study by name, or the experiment itself as ""."""
    made = smoke(name)
    return made.experiments if isinstance(made, Study) else {"": made}


def stages(name):
    """All stages of an experiment; there are some that train nothing."""
    return [stage for one in members(name).values() for stage in one.stages]


def half(stage):
    """The step in the middle of a stage at which a call ends."""
    return max(1, stage.steps // stage.steps_per_call // 2) * stage.steps_per_call


def saves_in_the_middle(member, stage):
    return dataclasses.replace(stage, save_every=half(stage))


# Maxout's maximum has no gradient in a program that is not optimized: see test_gan.
MAXOUT = {name: [pytest.mark.optimized] for name in ("gan_1d", "gan_mnist")}


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=MAXOUT.get(name, [])) for name in NAMES]
)
def finished(request, tmp_path_factory):
    """(name, workdir, traces of each stage's update) of a whole run."""
    traces = Counter()

    def counted(member, stage):
        def update(state, batch):
            traces[member, stage.name, stage.compilations] += 1
            return stage.update(state, batch)

        return dataclasses.replace(saves_in_the_middle(member, stage), update=update)

    workdir = tmp_path_factory.mktemp(request.param) / "run"
    with data.looking(imitations=True):
        run(smoke(request.param, counted), workdir, devices=jax.devices()[:1], name=request.param)
    yield request.param, workdir, traces
    jax.clear_caches()  # none of its programs is another experiment's


@pytest.mark.slow
def test_smoke_gives_finite_metrics_and_pictures(finished):
    name, workdir, _ = finished
    results = json.loads((workdir / "metrics.json").read_text())
    assert results["experiment"] == name
    records = results["metrics"]
    assert records
    assert all(np.isfinite(record["value"]) for record in records)
    keys = [tuple(record.values())[:4] for record in records]
    assert len(set(keys)) == len(keys)
    # What a stage has evaluated at its end is not scored once more.
    evaluated = {(member, metric) for member, _, stage, metric in keys if stage is not None}
    assert not evaluated & {(m, metric) for m, _, stage, metric in keys if stage is None}
    assert {source["origin"] for source in results["data"]} <= {"imitation", "package"}
    with data.looking(imitations=True):
        ranked = [member for member, one in members(name).items() if one.best]
    for member in ranked:  # a stage that promises the metric of best has it
        assert "best" in json.loads((workdir / member / "metrics.json").read_text())
    pictures = list((workdir / "figures").glob("*.png"))
    assert pictures
    for path in pictures:
        assert np.ptp(np.asarray(Image.open(path).convert("L"))) > 50, f"{path.name} is blank"


@pytest.mark.slow
def test_a_step_is_compiled_once(finished):
    name, _, traces = finished
    with data.looking(imitations=True):
        assert traces or not stages(name)
    for (member, stage, compilations), count in traces.items():
        assert count == compilations, f"{member} {stage} was traced {count} times"


@pytest.mark.slow
def test_a_run_that_was_cut_short_ends_with_the_same_bits(finished, tmp_path):
    name, whole, _ = finished
    with data.looking(imitations=True):
        if not stages(name):
            pytest.skip("it trains nothing")
    cut = []

    def dies(member, stage):
        stage = saves_in_the_middle(member, stage)

        def dying(batches):
            def indices(step):
                if step >= half(stage) and not cut:
                    cut.append((member, stage.name))
                    raise Killed
                return batches.indices(step)

            return dataclasses.replace(batches, indices=indices)

        prepare = stage.prepare and (lambda state: dying(stage.prepare(state)))
        return dataclasses.replace(stage, batches=dying(stage.batches), prepare=prepare)

    with data.looking(imitations=True):
        with pytest.raises(Killed):
            run(smoke(name, dies), tmp_path / "run", devices=jax.devices()[:1], name=name)
        (folder,) = {tmp_path / "run" / member for member, _ in cut}
        begun = sorted(int(p.name) for p in (folder / "checkpoints").glob("[0-9]*"))
        assert begun, "it was cut short before anything was saved"
        assert begun[0] > 0
        made = smoke(name, saves_in_the_middle)
        run(made, tmp_path / "run", devices=jax.devices()[:1], name=name)
        members = made.experiments if isinstance(made, Study) else {"": made}
        for member, one in members.items():
            ours, theirs = (restore(one, root / member) for root in (tmp_path / "run", whole))
            assert_equal_bits(ours.states, theirs.states)
            for records in (ours.history, theirs.history):
                for record in records:
                    record.pop("cost")
            assert ours.history == theirs.history
    results = [json.loads((r / "metrics.json").read_text()) for r in (tmp_path / "run", whole)]
    for result in results:
        for key in OWN:
            result.pop(key)
        timed = [record for record in result["metrics"] if "seconds" in record["metric"]]
        for record in timed:  # of this call, on this machine
            assert record.pop("value") > 0
    assert results[0] == results[1]


def assert_equal_bits(a, b):
    def check(x, y):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y), strict=True)

    jax.tree.map(check, a, b)


@pytest.mark.slow
def test_predict_or_a_verb_of_its_own_answers_for_an_image(finished):
    name, workdir, _ = finished
    with data.looking(imitations=True):
        made = smoke(name, saves_in_the_middle)
        members = made.experiments if isinstance(made, Study) else {"": made}
        member, one = list(members.items())[-1]
        state = restore(one, workdir / member).state
        image = np.asarray(Image.linear_gradient("L").resize((50, 70)).convert("RGB"))
        if one.predict is None:
            assert one.commands
            return
        record, figure = one.predict(jax.random.key(0), state, image)
        plain = {key: x for key, x in record.items() if not isinstance(x, np.ndarray)}
        json.dumps(plain, allow_nan=False)  # arrays become pictures
        assert figure.get_size_inches().min() > 0
        again, _ = one.predict(jax.random.key(0), state, image)
        np.testing.assert_equal(again, record)


@pytest.mark.slow
def test_a_copied_run_predicts_without_its_data(finished, tmp_path, monkeypatch):
    name, workdir, _ = finished
    shutil.copytree(workdir, tmp_path / "copy")
    # Neither raw files nor prepared sets, and no imitation may stand in.
    monkeypatch.setenv("JAXSTRUCT_PREPARED", str(tmp_path / "empty"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "empty" / "tfds"))
    module = importlib.import_module(f"experiments.{name}")
    image = np.asarray(Image.linear_gradient("L").resize((50, 70)).convert("RGB"))
    configs = sorted(path.parent for path in workdir.glob("**/config.json"))
    member = "" if configs[-1] == workdir else str(configs[-1].relative_to(workdir))
    ours = restore(module.experiment, tmp_path / "copy", member=member)
    if ours.experiment.predict is None:
        return
    with data.looking(imitations=True):
        theirs = restore(module.experiment, workdir, member=member)
        expected, _ = theirs.predict(image)
    found, figure = ours.predict(image)
    np.testing.assert_equal(found, expected)
    assert figure.get_size_inches().min() > 0
    if ours.states:
        assert ours.experiment.model is not None
        assert_equal_bits(ours.states, theirs.states)


# Runs the files of the names that it is given, each with nothing of the project imported before.
ALONE = """
import contextlib, io, runpy, sys
for name in sys.argv[1:]:
    for loaded in [*sys.modules]:
        if loaded.partition(".")[0] in ("experiments", "jaxstruct"):
            del sys.modules[loaded]
    sys.argv = [name, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as told:
        try:
            runpy.run_module("experiments." + name, run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            assert not ended.code, name
    assert "--smoke" in told.getvalue(), name
"""


def test_every_file_starts_alone():
    subprocess.run([sys.executable, "-c", ALONE, *NAMES], cwd=ROOT, check=True)


@pytest.fixture
def told(monkeypatch, capsys):
    """`told(name, *arguments)`: what a file says to --help, run as `python -m` runs it."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # `main` sets another

    def text(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments, "--help"])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)
        said = capsys.readouterr()
        assert ended.value.code == 0, said.err
        return said.out

    return text


@AGAIN
@pytest.mark.parametrize("name", NAMES)
def test_help_lists_every_field(name, told):
    module = importlib.import_module(f"experiments.{name}")
    said = told(name)
    for field in dataclasses.fields(module.SMOKE):
        assert f"--{field.name.replace('_', '-')}" in said
    for option in ("--smoke", "--paper", "--workdir", "--seeds"):
        assert option in said
    lines = [line.strip() for line in said.splitlines()]
    for line in module.__doc__.splitlines():
        assert not line.startswith("python") or line in lines
    assert inspect.getdoc(type(module.SMOKE)).splitlines()[0] in lines


@AGAIN
@pytest.mark.parametrize("name", NAMES)
def test_help_of_a_verb_of_its_own_lists_every_argument(name, told):
    with data.looking(imitations=True):
        made = smoke(name)
    for verb, (arguments, _) in getattr(made, "commands", {}).items():
        said = told(name, verb)
        for field in dataclasses.fields(arguments):
            assert f"--{field.name.replace('_', '-')}" in said


@pytest.mark.parametrize("name", NAMES)
def test_a_configuration_makes_an_experiment(name):
    module = importlib.import_module(f"experiments.{name}")
    with data.looking(imitations=True):
        made = module.experiment(module.Config())
        assert made.config == module.Config()
        assert list(made.claims) == list(claims(name))
        paper = getattr(module, "PAPER", module.SMOKE)
        if name == "dcgan_rooms":  # LSUN is TFDS's, of 43 GB, and nothing imitates it
            with pytest.raises(data.DataError, match=r"no data set 'lsun/bedroom'.*array_record"):
                module.experiment(paper)
        else:
            assert module.experiment(paper).config == paper
