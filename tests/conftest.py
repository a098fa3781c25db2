"""Every test: eight devices on one CPU, prepared sets in a folder of the session, strict ranks.

No test sees real data but through the fixture `real_data`.
"""

import os
import signal
import sys
from importlib import metadata
from pathlib import Path

# A suite in the background of a shell, or under nohup, ignores these, and so would the processes
# that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Before the first import of jax, which reads them once.
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# A test compiles more than it computes. With 0, everything is compiled as it is for users.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# jaxlib 0.10 compiles in half the time with its older emitters; later versions have no others.
if os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1" and metadata.version("jaxlib") < "0.11":
    flags = os.environ.get("XLA_FLAGS", ""), "--xla_cpu_use_fusion_emitters=false"
    os.environ["XLA_FLAGS"] = " ".join(filter(None, flags))
# Small programs, too, come back in one test after the other.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "jax")
)

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
REAL = os.environ.get("JAXSTRUCT_DATA")  # before `prepared_sets` takes it away
QUICKLY = jax.config.read("jax_disable_most_optimizations")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Before any fixture, whatever its scope."""
    quickly = QUICKLY and item.get_closest_marker("optimized") is None
    jax.config.update("jax_disable_most_optimizations", quickly)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty current folder and no data anywhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["tiny.py"])
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # `main` sets another
    return tmp_path


@pytest.fixture(scope="session", autouse=True)
def prepared_sets(tmp_path_factory):
    """A folder for prepared sets, shared by the session, so that nothing of the user's is used.

    A real set that one test prepares there would take the place of the imitation in others.
    """
    names = "JAXSTRUCT_PREPARED", "TFDS_DATA_DIR", "JAXSTRUCT_DATA"
    before = {name: os.environ.get(name) for name in names}
    os.environ.pop("JAXSTRUCT_DATA", None)
    root = tmp_path_factory.mktemp("prepared")
    os.environ |= {"JAXSTRUCT_PREPARED": str(root), "TFDS_DATA_DIR": str(root / "tfds")}
    yield root
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.fixture
def real_data(request):
    """The folder of real raw files, which has those that the test's marker `real_data` names.

    Without $JAXSTRUCT_DATA the test is skipped; a folder that lacks the files fails it.
    """
    names = request.node.get_closest_marker("real_data").args
    if not REAL:
        pytest.skip(
            f"compares with files that are no part of the project: {' '.join(names)}; name a "
            "folder that has them in $JAXSTRUCT_DATA"
        )
    root = Path(REAL).expanduser().absolute()
    if missing := [name for name in names if not (root / name).exists()]:
        pytest.fail(
            f"$JAXSTRUCT_DATA is {root}, which lacks {' '.join(missing)}; put the files there, or "
            "unset the variable to skip what reads real files",
            pytrace=False,
        )
    return root


@pytest.fixture(scope="session", autouse=True)
def memory_goes_back():
    """This process runs many programs, and would keep the memory of them all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxstruct.training.memory.keep_freed", lambda: False)
        yield


@pytest.fixture(scope="module", autouse=True)
def programs_go():
    """Those of one file are of no use to the next, and would be kept to the end."""
    yield
    jax.clear_caches()


@pytest.fixture
def devices():
    """`devices(n)`: the first n of the CPU's devices."""
    return lambda n=1: jax.devices()[:n]
