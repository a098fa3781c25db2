"""python -m experiments [list | collect WORKDIR | write]: the experiments and their results.

list (the default) names the experiments and their state; collect copies metrics and pictures of a
finished run from its workdir into experiments/results; write writes the pages of results: the
README's table, docs/results.md and a page for each experiment.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from experiments import _pages, _results
from jaxstruct.data.arguments import Parser, path, status_of
from jaxstruct.data.errors import Explained
from jaxstruct.data.output import unbroken
from jaxstruct.interrupts import raise_on_interrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    raise_on_interrupt()
    parser = Parser(prog="python -m experiments", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    verbs.add_parser("list", help="the experiments, one line each, with their state")
    adding = verbs.add_parser("collect", help="copy a finished run into experiments/results")
    adding.add_argument("workdir", type=path)
    adding.add_argument("--name", help="the folder in experiments/results [the workdir's name]")
    adding.add_argument(
        "--add",
        action="store_true",
        help="add a run of further seeds, or of further members of a study, to what is there",
    )
    verbs.add_parser("write", help="write the pages of results")
    try:
        options = parser.parse_args(arguments)
        if options.verb == "collect":
            name = options.name or options.workdir.resolve().name
            print(_results.collect(options.workdir, name, add=options.add))
        elif options.verb == "write":
            for page, text in _pages.pages().items():
                page.parent.mkdir(parents=True, exist_ok=True)
                page.write_text(text, encoding="utf-8")
        else:
            print(listing())
    except (Explained, OSError, KeyboardInterrupt) as error:
        status, line = status_of(error)
        print(line, file=sys.stderr)
        return status
    return 0


def listing() -> str:
    """A line for each experiment: its name, what it is, and its state."""
    results, lines = _results.results(), []
    width = max(map(len, _results.names()))
    for name in _results.names():
        states = [
            " ".join(filter(None, (_results.variant(name, folder), _results.data_of(result))))
            for folder, result in results.get(name, {}).items()
        ]
        state = f"results: {'; '.join(states)}" if states else "no results yet"
        lines.append(f"{name:<{width}} {_results.title(name)} [{state}]")
    return "\n".join(lines)


if __name__ == "__main__":
    with unbroken():
        sys.exit(main())
