"""README.md and docs/: every block runs, every name and link leads somewhere.

A page is read from top to bottom, as by a user: its blocks of Python share one namespace, and its
blocks of commands one folder. FILES, ARRAYS and SETS stand in for what a user brings. `command`
says how each kind of command is run, and ELSEWHERE which blocks another test runs.
"""

import ast
import contextlib
import importlib
import itertools
import re
import runpy
import shlex
import socket
import subprocess
import sys
import typing
from pathlib import Path
from types import ModuleType, SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import experiments
from experiments.__main__ import main as experiments_main
from jaxstruct import __main__ as about
from jaxstruct import data, models, training
from jaxstruct.data.__main__ import main as data_main
from jaxstruct.data.image_files import png
from jaxstruct.data.sets._scenes import imitate_voc
from tests.data.written import image as encoded
from tests.data.written import write

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
MAKEFILE = ROOT / "Makefile"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
BYTES = 10_000  # of the README, at most
TEXTS = {path.name: path.read_text() for path in PAGES}
FENCED = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
PROSE = {name: FENCED.sub("", text) for name, text in TEXTS.items()}
FLOORS = ("data", "figures", "losses", "metrics", "models", "ops", "training")
NAMED = re.compile(rf"`(?:jaxstruct\.)?({'|'.join(FLOORS)})\.(?!json)(\w+(?:\.\w+)*)")
SAVED = re.compile(r"Save the lines as `(\S+)`:\s*```python\n(.*?)```", re.DOTALL)

EACH_PAGE = pytest.mark.parametrize("page", TEXTS)

TRAINED = {"vae_mnist", "dense_crf_demo"}  # tests/experiments trains all, at smoke size
ELSEWHERE = {
    # Of 41 million weights and an image of 800 pixels, which that test makes smaller.
    "faster_rcnn_from_torchvision": "tests/models/test_faster_rcnn.py",
    # Likewise, of a ResNet-50.
    "segmentation_from_torchvision": "tests/models/test_torchvision_segmentation.py",
}


def photograph(height, width):
    """Uint8 [height, width, 3] with a dark stroke on a bright ground."""
    rows, columns = np.mgrid[:height, :width]
    pixels = np.full((height, width, 3), 220, np.uint8)
    pixels[abs(columns / width - rows / height) < 0.1] = 40, 60, 90
    return pixels


def save_image(path):
    Image.fromarray(photograph(48, 64)).save(path)


def save_labels(path):
    labels = np.zeros((48, 64, 3), np.uint8)
    labels[:8], labels[-8:] = (255, 0, 0), (0, 255, 0)
    Image.fromarray(labels).save(path)


def save_weights(path):
    from safetensors.numpy import save_file

    save_file(torchvision_weights(), path)


def torchvision_weights():
    """Zeros under torchvision's names, of the shapes of a ResNet-18."""
    inputs = jnp.zeros((1, 32, 32, 3))
    shapes = jax.eval_shape(models.ResNetClassifier(depth=18).init, jax.random.key(0), inputs)
    found = {}

    def add(path, variable):
        name = models.torchvision_resnet_name([key.key for key in path])
        order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(variable.ndim, (0,))
        found[name] = np.zeros([variable.shape[axis] for axis in order], np.float32)

    jax.tree_util.tree_map_with_path(add, shapes)
    return found


def save_flowers(path):
    names = [
        f"{split}/{kind}/{i}.jpg" for split in ("train", "test") for kind in "ab" for i in (1, 2)
    ]
    write(path, {name: encoded(i) for i, name in enumerate(names)})


def save_cells(folder):
    folder.mkdir(parents=True)
    lists = {"Main/train": 4, "Main/val": 2}
    imitate_voc(folder, classes=("dot", "ring"), size=(48, 64), lists=lists)


def save_streets(folder):
    labels = np.tile(np.uint8([0, 1, 255, 1]), (6, 2))
    contents = {"classes.txt": b"road\ncar\n", "train.txt": b"a\n", "val.txt": b"b.jpg\n"}
    contents |= {f"images/{name}.jpg": encoded(i) for i, name in enumerate("ab")}
    write(folder, contents | {f"masks/{name}.png": png(labels) for name in "ab"})


def save_boxes(path):
    names = [f"{i:06}" for i in range(6)]  # those of save_cells
    boxes = np.tile(np.float32([0, 0, 20, 30]), (len(names), 1))
    np.savez(path, names=names, boxes=boxes, counts=np.ones(len(names), int))


# Files that a user has, in the folder of the page or, with ~, in the home folder.
FILES = {
    "my_digit.jpg": save_image,
    "photo.png": save_image,
    "scribbles.png": save_labels,
    "resnet18.safetensors": save_weights,
    "my_boxes.npz": save_boxes,
    "~/flowers.zip": save_flowers,
    "~/VOCdevkit/cells": save_cells,
    "~/streets": save_streets,
}
# Sets whose official files a user has: their imitations, in the official layout.
SETS = ("mnist", "bccd", "camvid")
# Values that a user has: small ones.
ARRAYS = {
    "boxes": lambda: jnp.array([[0, 0, 40, 40], [2, 2, 42, 42], [60, 10, 90, 50]], jnp.float32),
    "scores": lambda: jnp.array([0.9, 0.8, 0.7]),
    "features": lambda: jnp.ones((8, 8, 4)),
    "image": lambda: photograph(24, 32),
    "images": lambda: jnp.ones((1, 64, 64, 3)),
    "probabilities": lambda: jnp.full((24, 32, 3), 1 / 3),
    "torch_weight": lambda: np.ones((4, 5, 4, 4), np.float32),
    "torch_model": lambda: SimpleNamespace(
        state_dict=lambda: {
            name: SimpleNamespace(numpy=lambda array=array: array)
            for name, array in torchvision_weights().items()
        }
    ),
    "digits": lambda: jnp.ones((2, 784)),
    "noise": lambda: jnp.ones((2, 2)),
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """A folder with the official files of SETS."""
    folder = tmp_path_factory.mktemp("raw")
    for name in SETS:
        (folder / name).mkdir()
        data.CATALOGUE[name].imitate(folder / name)
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return tmp_path_factory.mktemp("prepared_of_pages")


@pytest.fixture
def place(tmp_path, monkeypatch, raw, prepared):
    """A user's folder, home and data; one device, and no network."""
    home = tmp_path / "home"
    for name, save in FILES.items():
        path = home / name[2:] if name.startswith("~/") else tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("JAXSTRUCT_DATA", str(raw))
    monkeypatch.setenv("JAXSTRUCT_PREPARED", str(prepared))
    one = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda *_: one)
    monkeypatch.setattr(socket.socket, "connect", offline)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # `main` sets another
    (tmp_path / "experiments").mkdir()
    monkeypatch.setattr(
        experiments, "__path__", [*experiments.__path__, str(tmp_path / "experiments")]
    )
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("experiments."):
            del sys.modules[name]
            vars(experiments).pop(name.rpartition(".")[2], None)


def offline(*_):
    raise AssertionError("a page has used the network")


# Of runpy, for a module that another page has imported.
AGAIN = pytest.mark.filterwarnings("ignore:.*found in sys.modules after import:RuntimeWarning")


@pytest.mark.slow
@AGAIN
@EACH_PAGE
def test_a_page_runs_from_top_to_bottom(page, place, monkeypatch):
    for path, block in SAVED.findall(TEXTS[page]):
        (place / path).write_text(block)
    importlib.invalidate_caches()
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    vars(module).update({name: make() for name, make in ARRAYS.items()})
    begun = set()
    for language, block in FENCED.findall(TEXTS[page]):
        if language == "python":
            if not any(word in block for word in ELSEWHERE):
                exec(compile(block, page, "exec"), vars(module))
        elif language == "sh":
            for line in block.replace("\\\n", "").splitlines():
                command(line, monkeypatch, begun)
        else:
            assert language == ""


def command(line, monkeypatch, begun):
    """Runs a line of a shell block, with --smoke where it trains.

    `begun` are the runs that the page has begun before, (module, workdir or other options).
    """
    match shlex.split(line, comments=True):
        case ["make", *arguments]:
            # Not made, since that is a virtual environment and the whole suite.
            shown = subprocess.run(
                ["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True
            )
            assert shown.returncode == 0, shown.stderr
        case [".", activate]:
            assert f"VENV ?= {activate.removesuffix('/bin/activate')}\n" in MAKEFILE.read_text()
        case ["python", "-m", "jaxstruct"]:
            assert "jaxlib" in about.report()
        case ["python", "-m", "jaxstruct.data", *arguments]:
            assert data_main(arguments) == 0, line
        case ["python", "-m", "experiments"]:
            assert experiments_main([]) == 0, line
        case ["python", "-m", module, *arguments] if module.startswith("benchmarks."):
            # Asked for help, which lists the options: measuring takes minutes and a peer.
            told = subprocess.run(
                [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True
            )
            assert told.returncode == 0, told.stderr
            options = re.findall(r"--[a-z-]+", told.stdout)
            assert set(filter(is_option, arguments)) <= set(options), line
        case ["python", "-m", module, *arguments] if module.startswith("experiments."):
            if module.removeprefix("experiments.") in TRAINED:
                run_experiment(module, at_smoke_size(arguments), monkeypatch)
            else:
                # Made and not trained: detectors compile for a minute.
                make_experiment(module, arguments, monkeypatch, begun)
        case _:
            pytest.fail(f"no rule for the command {line!r}")


def is_option(argument):
    return argument.startswith("--")


def at_smoke_size(arguments):
    return arguments if {"--smoke", "--help"} & set(arguments) else [*arguments, "--smoke"]


def run_experiment(module, arguments, monkeypatch):
    """Runs the file as `python -m` does."""
    monkeypatch.setattr(sys, "argv", [f"{module.removeprefix('experiments.')}.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert ended.value.code in (0, None), (module, arguments)


class Made(BaseException):
    """Ends a command where its configuration is known."""


def make_experiment(module, arguments, monkeypatch, begun):
    """Reads the arguments as the command does, makes the experiment, and trains nothing.

    A verb has to be of a run in the default workdir or in one that is named, begun before.
    """
    workdir = dict(itertools.pairwise(arguments)).get("--workdir")
    if arguments and not is_option(arguments[0]):
        assert (module, workdir or ()) in begun, f"{arguments}: no such run on this page"
    else:
        begun.add((module, workdir or tuple(arguments)))
    found = []

    def stops(experiment, **variants):
        def make(config):
            found.append((experiment, config))
            raise Made

        make.__annotations__ = typing.get_type_hints(experiment)
        main(make, **variants)

    main = training.main
    with monkeypatch.context() as patch, contextlib.suppress(Made):
        patch.setattr(training, "main", stops)
        run_experiment(module, arguments, patch)
    ((experiment, config),) = found
    with data.looking(imitations=True):
        assert experiment(config).config == config


def test_what_is_run_otherwise_is_named_there():
    for word, path in ELSEWHERE.items():
        assert (
            sum(word in block for text in TEXTS.values() for _, block in FENCED.findall(text)) == 1
        )
        assert word in (ROOT / path).read_text()


def test_no_stand_in_is_left_of_what_no_page_needs():
    blocks = "".join(block for text in TEXTS.values() for _, block in FENCED.findall(text))
    assert all(name in blocks for name in FILES)
    assert all(f'"{name}"' in blocks or f" {name} " in blocks for name in SETS)
    used = {
        node.id
        for text in TEXTS.values()
        for language, block in FENCED.findall(text)
        if language == "python"
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Name)
    }
    assert set(ARRAYS) <= used


@AGAIN
def test_a_page_of_a_command_that_does_not_exist_is_seen(place, monkeypatch):
    for line, message in (
        ("pip install x", "no rule for the command"),
        ("python -m jaxstruct.data prepare no_such_set", "prepare no_such_set"),
        ("python -m experiments.vae_mnist --hiden 3", "vae_mnist"),
        ("python -m experiments.faster_rcnn_bccd predict --image cells.jpg", "faster_rcnn_bccd"),
        ("python -m experiments.faster_rcnn_bccd predict --workdir runs/a", "no such run"),
        ("python -m benchmarks.roi --no-such-option", "no-such-option"),
        ("make no_such_target", "no_such_target"),
    ):
        with pytest.raises((AssertionError, pytest.fail.Exception), match=message):
            command(line, monkeypatch, {("experiments.faster_rcnn_bccd", ())})


def test_the_readme_is_short():
    assert len(README.read_bytes()) <= BYTES


def test_the_readme_leads_to_every_page():
    for name in TEXTS:
        assert name == "README.md" or f"(docs/{name})" in TEXTS["README.md"], name


@EACH_PAGE
def test_what_a_page_links_to_and_shows_is_there(page):
    folder = README.parent if page == "README.md" else ROOT / "docs"
    targets = re.findall(r"\]\(([^)\s]+)\)", PROSE[page]) + re.findall(
        r'src="([^"]+)"', PROSE[page]
    )
    for target in targets:
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (folder / path).resolve() if path else folder / page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text()), target


def anchors(text):
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@EACH_PAGE
def test_every_picture_has_a_width_and_says_what_it_shows(page):
    assert "![" not in PROSE[page]
    for picture in re.findall(r"<img [^>]*>", PROSE[page]):
        assert re.search(r'width="\d+"', picture), picture
        assert re.search(r'alt="[^"]{10,}"', picture), picture


@EACH_PAGE
def test_files_that_a_page_names_are_there(page):
    saved = {path for path, _ in SAVED.findall(TEXTS[page])}
    named = re.findall(r"`((?:jaxstruct|experiments|benchmarks|tests|docs)/[^`\s]*)`", PROSE[page])
    for path in set(named) - saved:
        assert "NAME" in path or (ROOT / path).exists(), path


@EACH_PAGE
def test_modules_and_names_that_a_page_names_are_there(page):
    for module in re.findall(r"`python -m ([\w.]+)", PROSE[page]):
        last = module.rpartition(".")[2]
        assert last == last.upper() or importlib.util.find_spec(module), module
    for floor, names in NAMED.findall(PROSE[page]):
        found = importlib.import_module(f"jaxstruct.{floor}")
        for name in names.split("."):
            # Of the data sets' folder pages name files, too, and of classes attributes.
            known = dir(found) if floor == "data" else getattr(found, "__all__", dir(found))
            assert name in known, f"{floor}.{names}"
            found = getattr(found, name)


def test_names_are_found_in_the_pages():
    found = {name for prose in PROSE.values() for name in NAMED.findall(prose)}
    assert {floor for floor, _ in found} >= {"data", "metrics", "models", "ops"}
    assert ("ops", "gaussian.normalized") in found
