"""The house: imports only go down, and every room has a name and a docstring."""

import ast
import graphlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {
    "ops": set(),
    "losses": {"ops"},
    "models": {"ops"},
    "metrics": {"ops"},
    "figures": {"ops"},
    "data": {"ops"},
    "training": {"data", "metrics"},
}
ALL = set(FLOORS)
NO_ROOM = {"utils", "helpers", "common", "base", "misc", "manager"}


def files(folder):
    return sorted((ROOT / folder).rglob("*.py"))


def imported(path):
    """The modules that a file imports, inside functions too, as dotted names."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (start, node.module)))
            yield module
            # `from jaxstruct import data` imports a floor, too.
            yield from (f"{module}.{alias.name}" for alias in node.names)


def floors_seen(path):
    parts = [name.split(".") for name in imported(path)]
    return {p[1] for p in parts if p[0] == "jaxstruct" and len(p) > 1 and p[1] in ALL}


@pytest.mark.parametrize("floor", FLOORS)
def test_a_floor_sees_only_the_floors_below(floor):
    for path in files(f"jaxstruct/{floor}"):
        above = floors_seen(path) - FLOORS[floor] - {floor}
        assert not above, f"{path} imports {above}"


def test_one_file_asks_about_processes():
    named = re.compile(r"\bjax\.process_(count|index)\b")
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in ("jaxstruct", "experiments", "benchmarks")
        for path in files(folder)
        if named.search(path.read_text())
    }
    assert found == {"jaxstruct/training/parallel.py"}


def module_of(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


@pytest.mark.parametrize("floor", FLOORS)
def test_no_file_imports_itself_through_others(floor):
    modules = {module_of(path): path for path in files(f"jaxstruct/{floor}")}
    imports = {name: set(imported(path)) & set(modules) - {name} for name, path in modules.items()}
    # A package's __init__ lists what is in it, which imports none of it.
    imports[f"jaxstruct.{floor}"] = set()
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError


def test_every_package_is_a_floor():
    packages = {path.parent.name for path in (ROOT / "jaxstruct").glob("*/__init__.py")}
    assert packages == ALL


def test_the_library_sees_neither_experiments_nor_benchmarks_nor_tensorflow_nor_torch():
    for path in files("jaxstruct"):
        roots = {name.split(".")[0] for name in imported(path)}
        assert not roots & {"experiments", "benchmarks", "tests", "tensorflow", "torch"}, path


def test_ops_import_jax_and_numpy_alone():
    allowed = {"jax", "numpy", "jaxstruct", "__future__", "collections", "functools", "math"}
    allowed |= {"typing", "dataclasses"}
    for path in files("jaxstruct/ops"):
        assert {name.split(".")[0] for name in imported(path)} <= allowed, path


def test_experiments_do_not_import_each_other():
    for path in files("experiments"):
        rooms = {n.split(".")[1] for n in imported(path) if n.startswith("experiments.")}
        assert all(room.startswith("_") for room in rooms), f"{path} imports {rooms}"
        assert not any(name.split(".")[0] == "benchmarks" for name in imported(path)), path


def test_only_one_file_names_pmap():
    named = {
        path.name
        for path in (*files("jaxstruct"), *files("experiments"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute | ast.Name)
        and getattr(node, "attr", getattr(node, "id", None)) in {"pmap", "shard_map"}
    }
    assert named == {"parallel.py"}


def test_the_loop_is_below_a_hundred_lines():
    tree = ast.parse((ROOT / "jaxstruct/training/loop.py").read_text())
    train = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "train")
    assert train.end_lineno - train.lineno < 100


def opens_text(call):
    """Whether a call opens a file as text, as far as its name and its mode tell."""
    name = getattr(call.func, "attr", getattr(call.func, "id", None))
    of = getattr(getattr(call.func, "value", None), "id", None)
    modes = [x.value for x in call.args if isinstance(x, ast.Constant) and isinstance(x.value, str)]
    if name == "open":
        return of not in {"os", "tarfile", "Image"} and not any("b" in mode for mode in modes)
    return name in {"read_text", "write_text"} and of != "files"


@pytest.mark.parametrize("folder", ["jaxstruct", "experiments", "benchmarks"])
def test_text_is_utf8_in_every_surrounding(folder):
    for path in files(folder):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and opens_text(node):
                given = [*node.args, *(word.value for word in node.keywords)]
                encodings = {x.value for x in given if isinstance(x, ast.Constant)}
                named = getattr(node.func, "id", None) == "write_text"  # the one of workdir.py
                assert named or "utf-8" in encodings, f"{path}, line {node.lineno}"


@pytest.mark.parametrize("folder", ["jaxstruct", "experiments", "benchmarks"])
def test_a_file_is_a_room(folder):
    for path in files(folder):
        assert path.stem not in NO_ROOM, path
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path} says nothing of itself"
        lines = len(path.read_text().splitlines())
        assert lines <= 500, f"{path} has {lines} lines"
