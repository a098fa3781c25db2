"""The command line that every experiment has: train, predict, and verbs of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import inspect
import io
import itertools
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import jax

from jaxstruct import data
from jaxstruct.data.arguments import WrongUsage, status_of
from jaxstruct.data.errors import Explained
from jaxstruct.data.output import unbroken
from jaxstruct.data.places import expanded
from jaxstruct.interrupts import raise_on_interrupt
from jaxstruct.training import memory, parallel
from jaxstruct.training.errors import Stopped
from jaxstruct.training.experiment import Experiment, config_type, mistyped
from jaxstruct.training.keys import check_seed
from jaxstruct.training.predictions import predict_images
from jaxstruct.training.restored import restore
from jaxstruct.training.run import run
from jaxstruct.training.study import Study, of_member, seeds
from jaxstruct.training.workdir import below, read_config, stored_config, stored_sets


@dataclass(frozen=True)
class Options:
    """What every verb takes beside the fields of Config."""

    workdir: Path | None = None  # folder of the run [runs/NAME and what differs from the defaults]
    smoke: bool = False  # the configuration that runs every line in seconds, even without data
    paper: bool = False  # the paper's configuration
    data_dir: Path | None = None  # folder searched for raw files first, before $JAXSTRUCT_DATA
    devices: int | None = None  # how many devices share a batch [all]
    distributed: bool = False  # several processes (jax.distributed; detected on clusters)
    deterministic: bool = False  # on a GPU: equal bits from run to run, slower scatter-adds
    return_memory: bool = False  # give freed memory back at once: slower convolutions on a CPU
    debug: bool = False  # show tracebacks


@dataclass(frozen=True)
class Train(Options):
    """Options of `train`."""

    seeds: int = 1  # repeat under this many seeds, from --seed on; reports mean and spread
    profile: bool = False  # write a trace of some steps into the workdir


@dataclass(frozen=True)
class Predict(Options):
    """Options of `predict`."""

    images: tuple[Path, ...] = ()  # image files of any size [none: predict draws samples]
    out: Path = Path("predictions")  # folder for a picture and JSON per image; replaces no file
    member: str | None = None  # which experiment of a study, or which seed (seed=0, say)
    checkpoint: Literal["last", "best"] = "last"  # which state of the run answers
    sample_seed: int = 0  # seed of what predict draws


@dataclass(frozen=True)
class Own(Options):
    """Options of a verb that an experiment adds."""

    member: str | None = None  # which experiment of a study, or which seed (seed=0, say)


def main(
    experiment: Callable[[Any], Experiment | Study],
    *,
    smoke: Any = None,
    paper: Any = None,
    arguments: Sequence[str] | None = None,
) -> None:
    """Runs an experiment file from the command line, and exits.

    `experiment(config)` makes the experiment, and its annotation names the Config; `smoke` and
    `paper` are the configurations of --smoke and --paper; `arguments` replaces sys.argv[1:]. The
    exit status is 0; 2 with one line for a usage error; 1 with one line for a run that failed;
    128 + n for a run that saved on signal n. The run continues where nobody reads its output.
    """
    raise_on_interrupt()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with unbroken():
        _finish(experiment, {"smoke": smoke, "paper": paper}, arguments)


def _finish(make: Callable, variants: dict[str, Any], arguments: list[str]) -> NoReturn:
    """Runs the command and exits with its status; an error becomes one line on stderr."""
    debug = "--debug" in arguments
    try:
        status = _main(make, variants, arguments)
    except (Exception, KeyboardInterrupt) as error:
        status, line = status_of(error)
        if debug and status == 1:
            raise
        if status > 128:
            where = "there" if isinstance(error, Stopped) else "the last checkpoint"
            line += f"; the same command resumes from {where}"
        if not isinstance(error, Explained | OSError | ValueError | KeyboardInterrupt):
            line += " (--debug shows where)"
        print(line, file=sys.stderr)
    sys.exit(status)


def _main(make: Callable, variants: dict[str, Any], arguments: list[str]) -> int:
    _prepare_jax(arguments)
    kind = config_type(make)
    verb = arguments.pop(0) if arguments and not arguments[0].startswith("-") else "train"
    base, variant = _base(kind, variants, arguments)
    known: dict[str, type] = {"train": Train, "predict": Predict}
    added: type | None = None
    if verb not in known:
        if meant := mistyped(verb):  # before the experiment is made, which may take long
            raise WrongUsage(f"unknown verb {verb!r}; did you mean {meant}?")
        default = "-".join(filter(None, (Path(sys.argv[0]).stem, variant)))
        sets = _sets_of(arguments, Path("runs") / default)
        with data.looking(None, imitations=True), data.recorded(sets):
            made = make(base)
        commands = made.commands if isinstance(made, Experiment) else {}
        if verb not in commands:
            raise WrongUsage(f"unknown verb {verb!r}{_nearest(verb, [*known, *commands])}")
        known[verb], added = Own, commands[verb][0]
    config, options, own = _parse(kind, known[verb], added, base, variant, arguments)
    _check_seeds(config, options, own)
    if not options.return_memory:
        memory.keep_freed()
    name = Path(sys.argv[0]).stem
    workdir = options.workdir or _default_workdir(name, config, base, variant, options)
    if verb == "train":
        with data.looking(options.data_dir, imitations=options.smoke):
            return _train(make, config, base, variant, options, workdir, name)
    member = _member(workdir, options.member)
    folder = workdir / (member or "")
    config = stored_config(workdir, config)
    with (
        data.looking(options.data_dir, imitations=options.smoke or _imitated(folder)),
        data.recorded(stored_sets(folder)),
    ):
        made = of_member(make, config, member)
        if verb == "predict":
            failed = predict_images(
                made,
                folder,
                options.images,
                options.out,
                which=options.checkpoint,
                seed=options.sample_seed,
            )
            return 1 if failed else 0
        made.commands[verb][1](own, restore(made, folder))
        return 0


def _train(
    make: Callable, config: Any, base: Any, variant: str, options: Any, workdir: Path, name: str
) -> int:
    if options.seeds < 1:
        raise WrongUsage(f"--seeds is {options.seeds}, expected at least 1")
    repeated = options.seeds > 1
    if repeated and not hasattr(config, "seed"):
        raise WrongUsage("--seeds needs a field seed in the Config, and there is none")
    try:
        if repeated:
            check_seed(config.seed + options.seeds - 1, "the last seed of --seeds")
        devices = parallel.choose(options.devices)
    except ValueError as error:
        raise WrongUsage(str(error)) from error
    made = seeds(make, config, options.seeds) if repeated else make(config)
    command = [*_invocation().split(), *([f"--{variant}"] if variant else [])]
    for key, value in _differing(config, base).items():
        flag = key.replace("_", "-")
        if isinstance(value, bool):
            command += [f"--{flag}" if value else f"--no-{flag}"]
        else:
            command += [f"--{flag}", *map(str, value if _listed(value) else [value])]
    command += ["--seeds", str(options.seeds)] if repeated else []
    run(
        made,
        workdir,
        devices=devices,
        name=name,
        command=shlex.join(command),
        profile=options.profile,
    )
    return 0


def _base(kind: type, variants: dict[str, Any], arguments: list[str]) -> tuple[Any, str]:
    chosen = [v for v in variants if f"--{v}" in arguments]
    if len(chosen) > 1:
        raise WrongUsage("--smoke and --paper are two configurations; choose one")
    if not chosen:
        return kind(), ""
    if variants[chosen[0]] is None:
        raise WrongUsage(f"this experiment has no configuration --{chosen[0]}")
    return variants[chosen[0]], chosen[0]


def _description(kind: type) -> str:
    """What the experiment's file and its configuration say of themselves."""
    said = sys.modules["__main__"].__doc__ or ""
    # Indented lines of commands stay lines.
    said = "\n".join(
        f"  {line}" if line.startswith("python") else line for line in said.split("\n")
    )
    own = inspect.getdoc(kind) or ""
    return said if own.startswith(f"{kind.__name__}(") else f"{said.strip()}\n\n{own}"


def _parse(
    kind: type, options: type, own: type | None, base: Any, variant: str, arguments: list[str]
) -> tuple[Any, Any, Any]:
    """The configuration, the options, and the arguments of a verb that the experiment adds."""
    import tyro

    parts = {"config": base, "options": options(**({variant: True} if variant else {}))}
    if own is not None:
        fields = dataclasses.fields(own)
        required = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]
        parts["own"] = own(**dict.fromkeys(required, tyro.MISSING))
    names = [f.name for part in parts.values() for f in dataclasses.fields(part)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise WrongUsage(f"two options are named {', '.join(twice)}; rename the experiment's own")
    unnamed = tyro.conf.arg(name="")
    all_parts = dataclasses.make_dataclass(
        "all_parts",
        [(name, Annotated[type(part), unnamed]) for name, part in parts.items()],
        frozen=True,
    )
    default = all_parts(**parts)
    arguments = [a for a in arguments if a not in ("--smoke", "--paper")] + (
        ["--help"] if {"-h", "--help"} & set(arguments) else []
    )
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            parsed = tyro.cli(
                all_parts,
                args=arguments,
                default=default,
                prog=_invocation(),
                description=_description(kind),
                config=(tyro.conf.FlagCreatePairsOff,),
                registry=_of_paths(arguments),
            )
    except SystemExit as stop:
        if stop.code:
            raise WrongUsage(_one_line(errors.getvalue(), arguments, _flags(default))) from None
        raise
    except ValueError as error:  # of a Config, whose __post_init__ knows the limits of its fields
        raise WrongUsage(str(error)) from error
    for part in (parsed.config, parsed.options, parsed.own if own else None):
        _check_integers(part)
    return parsed.config, parsed.options, parsed.own if own else None


def _check_integers(part: Any) -> None:
    """Raises WrongUsage for an integer that no array can have as size or index."""
    for field in dataclasses.fields(part) if part is not None else ():
        value = getattr(part, field.name)
        for number in value if _listed(value) else [value]:
            if isinstance(number, int) and abs(number) >= 2**63:
                flag = field.name.replace("_", "-")
                raise WrongUsage(f"--{flag} is {number}, expected an integer of 64 bits")


def _check_seeds(*parts: Any) -> None:
    """Raises WrongUsage for a seed out of range in any part of the command line."""
    for part in parts:
        for name in ("seed", "sample_seed"):
            if isinstance(seed := getattr(part, name, None), int):
                try:
                    check_seed(seed, f"--{name.replace('_', '-')}")
                except ValueError as error:
                    raise WrongUsage(str(error)) from None


def _of_paths(arguments: list[str]) -> Any:
    """The rule by which tyro makes paths; see `places.expanded`."""
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec

    registry = ConstructorRegistry()

    @registry.primitive_rule
    def rule(of: Any) -> Any:
        make = lambda given: _path(given[0], arguments)
        is_path, text = lambda x: isinstance(x, Path), lambda path: [str(path)]
        spec = PrimitiveConstructorSpec(1, "PATH", make, is_path, text)
        return spec if of.type is Path else None

    return registry


def _path(given: str, arguments: Sequence[str]) -> Path:
    """A path from the command line; a WrongUsage names the option whose path is refused."""
    try:
        return expanded(given)
    except ValueError as error:
        option = ""
        for argument in arguments:
            flag, equals, value = argument.partition("=")
            option = flag if flag.startswith("--") else option
            if given == (value if flag == option and equals else argument):
                break
        raise WrongUsage(f"{option}: {error}") from None


def _flags(default: Any) -> list[str]:
    """All options, by name; an option that is True has only its --no- form."""
    flags: list[str] = []
    for field in dataclasses.fields(default):
        value = getattr(default, field.name)
        no = "no-" if value is True else ""
        name = f"--{no}{field.name.replace('_', '-')}"
        flags += _flags(value) if dataclasses.is_dataclass(value) else [name]
    return flags


def _one_line(box: str, arguments: list[str], flags: list[str]) -> str:
    """The error in tyro's box as one line, with the nearest name that exists."""
    for argument in arguments:
        flag = argument.split("=")[0].replace("_", "-")
        if flag.startswith("--") and flag not in (*flags, "--help"):
            return f"unknown option {argument.split('=')[0]}{_nearest(flag, flags)}"
    # Rules separate the sections. The error is the first section; in a terminal of ASCII letters,
    # where the box has no frame, it is the second, after a title.
    sections: list[list[str]] = [[]]
    for line in (line.strip("│ ") for line in box.splitlines()):
        if line.startswith(("─", "---")):
            sections.append([])
        elif line and not line.startswith(("╭", "╰")):
            sections[-1].append(line)
    body = sections[:1] if "╭" in box else sections[1:2]
    return " ".join(itertools.chain(*body)).rstrip(".") or "the arguments cannot be understood"


def _nearest(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; expected one of {', '.join(names)}"


def _invocation() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name}" if spec else f"python {Path(sys.argv[0]).name}"


def _listed(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _differing(config: Any, base: Any) -> dict[str, Any]:
    now, before = dataclasses.asdict(config), dataclasses.asdict(base)
    return {key: value for key, value in now.items() if value != before[key]}


def _default_workdir(name: str, config: Any, base: Any, variant: str, options: Any) -> Path:
    parts = [name, *([variant] if variant else [])]
    for key, value in _differing(config, base).items():
        parts.append(f"{key}={'x'.join(map(str, value)) if _listed(value) else value}")
    parts += ["seeds"] if getattr(options, "seeds", 1) > 1 else []
    try:
        # Neither further folders, nor what `run` refuses in a path.
        return expanded(Path("runs") / re.sub(r"[/\\[\]]|\*\*", "_", "-".join(parts)))
    except ValueError as error:
        raise WrongUsage(
            f"the workdir is named after the options: {error}; give --workdir"
        ) from None


def _sets_of(arguments: Sequence[str], default: Path) -> list[data.SetRecord]:
    """The sets of the run that --workdir names, found before the options are parsed."""
    folder = default
    for i, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        given = [value] if equals else arguments[i + 1 : i + 2]
        if flag == "--workdir" and given:
            folder = _path(given[0], arguments)
    found = (stored_sets(path.parent) for path in below(folder, "config.json"))
    return next(filter(None, found), [])


def _member(workdir: Path, member: str | None) -> str | None:
    """Which of the runs in --workdir answers: that of --member, or the only one of a study."""
    runs = [path.parent for path in below(workdir, "config.json")]
    members = [str(run.relative_to(workdir)) for run in runs if run != workdir]
    if len(members) == 1:
        member = member or members[0]
    if members and member not in members:
        choice = f"choose one with --member ({', '.join(members)})"
        missing = f", and not {member}" if member else ""
        raise WrongUsage(f"{workdir} holds several runs{missing}; {choice}")
    if member and not members:
        raise WrongUsage(f"{workdir} does not hold several runs; leave out --member")
    return member


def _imitated(workdir: Path) -> bool:
    """Whether a run was trained on an imitation; predicting may then use the imitation, too."""
    stored = read_config(workdir) or {}
    return any(source["origin"] == "imitation" for source in stored.get("data", ()))


def _prepare_jax(arguments: list[str]) -> None:
    """Sets flags and loggers before JAX's backend starts, which reads its flags once."""
    import logging

    # Orbax warns of each of its defaults, and shows tracebacks of its threads. Where several arrays
    # cannot be written, Orbax raises the first error, and the event loop logs the others (or, where
    # Orbax has closed the loop, fails to). `checkpoints` says what a user must know.
    debug = "--debug" in arguments
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.ERROR if debug else logging.CRITICAL)
    if not debug:
        sys.unraisablehook = lambda _: None
    if "--deterministic" in arguments:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()
    if "--distributed" in arguments or "JAX_COORDINATOR_ADDRESS" in os.environ:
        jax.distributed.initialize()
