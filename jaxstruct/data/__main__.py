"""python -m jaxstruct.data list | prepare | describe | draw | propose, the last four with a NAME.

What may be added: another verb on data sets.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxstruct.data import (
    CATALOGUE,
    DataError,
    keep_proposals,
    load,
    looking,
    prepare,
    prepare_folder,
    propose,
    where,
)
from jaxstruct.data.arguments import Parser, WrongUsage, path, positive, status_of
from jaxstruct.data.errors import Explained
from jaxstruct.data.names import free_path
from jaxstruct.data.on_disk import description
from jaxstruct.data.output import unbroken
from jaxstruct.data.prepared import about, exists, locate, unknown, without_version
from jaxstruct.data.regular_files import check_regular
from jaxstruct.data.selective_search import MODES
from jaxstruct.data.sheet import contact_sheet
from jaxstruct.interrupts import raise_on_interrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    0; 1 for bad data, 2 for a wrong usage, 130 after Ctrl-C.
    """
    raise_on_interrupt()
    try:
        options = _parser().parse_args(arguments)
        with looking(options.data_dir, imitations=getattr(options, "imitations", False)):
            print(_VERBS[options.verb](options))
    except (Explained, KeyboardInterrupt) as error:
        status, line = status_of(error)
        print(line, file=sys.stderr)
        return status
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m jaxstruct.data",
        description="Data sets: list, prepare, describe, draw, propose.",
    )
    everywhere = Parser(add_help=False)
    everywhere.add_argument(
        "--data-dir", type=path, help="look for the raw files of NAME in this folder's NAME first"
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("list", parents=[everywhere], help="what is known, found and prepared")
    for verb, text in (
        ("prepare", "download the raw files if need be, and prepare the set"),
        ("describe", "what the set is, where its files are looked for, its arrays"),
        ("draw", "a contact sheet as a PNG"),
        ("propose", "search boxes for all images (Selective Search), kept beside the set"),
    ):
        adding = verbs.add_parser(verb, parents=[everywhere], help=text)
        adding.add_argument("name", metavar="NAME")
        if verb in _OPTIONS:
            _OPTIONS[verb](adding)
    return parser


def _add_drawing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=path,
        help="the PNG to write, in place of one that is there "
        "(NAME.png, or NAME-2.png and so on, which replaces none)",
    )
    parser.add_argument("--split", default="train", help="in TFDS's slice syntax (train)")
    parser.add_argument("--count", type=positive, default=64, help="evenly spaced examples (64)")
    parser.add_argument(
        "--imitations", action="store_true", help="draw an imitation where there are no data"
    )


def _add_proposing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--split", nargs="+", action="extend", help="whole splits (all); what is done stays"
    )
    parser.add_argument("--mode", choices=MODES, help="of Selective Search (fast)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--width", type=positive, metavar="N", help="shrink images that are wider first (320)"
    )
    size.add_argument("--full-width", action="store_true", help="shrink no image")
    parser.add_argument("--workers", type=positive, metavar="N", help="threads (one a core)")
    parser.add_argument(
        "--imitations", action="store_true", help="take an imitation where there are no data"
    )
    own = parser.add_argument_group("proposals of your own")
    own.add_argument(
        "--from",
        dest="path",
        type=path,
        metavar="FILE",
        help="an .npz of names, boxes and counts, or a .mat as of Fast R-CNN's release",
    )
    own.add_argument("--as", dest="kind", metavar="KIND", help="how they are called")


def _add_own(parser: argparse.ArgumentParser) -> None:
    own = parser.add_argument_group("images of your own, to be called NAME")
    own.add_argument(
        "--from",
        dest="path",
        type=path,
        metavar="PATH",
        help="a folder, .zip or .tar of CLASS/x.jpg, or train/CLASS/x.jpg and test/CLASS/x.jpg; or "
        "a folder with boxes in PASCAL VOC's or COCO's layout; or one with images/, masks/ and "
        "classes.txt",
    )
    own.add_argument(
        "--masks", action="store_true", help="of a folder with boxes and masks, read the masks"
    )
    own.add_argument("--size", type=positive, metavar="N", help="resize each image to N x N")
    own.add_argument("--crop", action="store_true", help="resize the square in its middle")
    own.add_argument(
        "--skip-unreadable",
        action="store_true",
        help="name and leave out files that cannot be read, which are refused otherwise",
    )


def _known(name: str) -> str:
    name = without_version(name)
    if not exists(name):
        raise WrongUsage(unknown(name))
    return name


def _list(options: argparse.Namespace) -> str:
    rows = [("name", "splits", "prepared", "raw files", "origin")]
    found = where()
    for row in found:
        splits = ", ".join(f"{name} {size}" for name, size in (row["splits"] or {}).items())
        raw = str(row["raw"] or ("not found" if row["looked"] else "none needed"))
        prepared = "damaged" if row["damaged"] else str(row["path"] or "no")
        rows.append((row["name"], splits or "-", prepared, raw, row["origin"] or "-"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    lines += [f"{row['name']}: {row['damaged']}" for row in found if row["damaged"]]
    return "\n".join(lines)


def _prepare(options: argparse.Namespace) -> str:
    asked = {
        "size": options.size,
        "crop": options.crop,
        "skip_unreadable": options.skip_unreadable,
        "masks": options.masks,
    }
    if options.path is not None:
        try:
            found = prepare_folder(options.name, options.path, **asked)
        except ValueError as error:
            raise WrongUsage(str(error)) from None
    elif any(asked.values()):
        raise WrongUsage(
            "--size, --crop, --skip-unreadable and --masks are for images of your own: --from"
        )
    elif (name := _known(options.name)) not in CATALOGUE:
        return f"{locate(name).name}: already prepared"
    else:
        found = prepare(name)
    return f"{found.name}: {_sizes(found.splits)} ({found.origin}) in {found.path}"


def _describe(options: argparse.Namespace) -> str:
    name = _known(options.name)
    lines = [name]
    if entry := CATALOGUE.get(name):
        lines += [entry.description, entry.citation]
        lines += [
            f"raw file: {file.name}" + (f", from {file.urls[0]}" if file.urls else "")
            for file in entry.files
        ]
        lines.append(entry.by_hand and f"to get them: {entry.by_hand}")
    row = about(name)
    if not entry and row["path"]:
        lines.append(description(row["path"]))
    lines += [f"looked in: {folder}" for folder in row["looked"]]
    lines.append(f"raw files: {row['raw'] or 'not found'}" if row["looked"] else "")
    state = f"{row['path']} ({row['origin']}): {_sizes(row['splits'])}" if row["path"] else "no"
    lines.append(f"prepared: {row['damaged'] or state}")
    lines.append(row["classes"] and f"classes: {', '.join(row['classes'])}")
    return "\n".join(filter(None, lines))


def _sizes(splits: dict[str, int] | None) -> str:
    return ", ".join(f"{size} {name}" for name, size in (splits or {}).items())


def _draw(options: argparse.Namespace) -> str:
    examples = load(_known(options.name), options.split)
    shown = examples.spread(options.count)
    out = options.out or free_path(Path(f"{options.name.replace('/', '-')}.png"))
    try:
        if out.exists():
            check_regular(out)
        contact_sheet(shown).save(out, "PNG")
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror})") from None
    except (KeyError, ValueError) as error:
        raise DataError(f"{options.name}: cannot be drawn: {error}") from None
    origin = examples.source.origin if examples.source else "-"
    return f"{out}: {shown.size} of {examples.size} examples of {options.split} ({origin})"


def _propose(options: argparse.Namespace) -> str:
    name = _known(options.name)
    searching = (options.mode, options.width, options.full_width or None, options.workers)
    if (options.path is None) != (options.kind is None):
        raise WrongUsage("--from FILE and --as KIND are for proposals of your own: both, or none")
    if options.path is not None and any(searching):
        raise WrongUsage(
            "--mode, --width, --full-width and --workers are for a search, not with --from"
        )
    try:
        if options.path is not None:
            found = keep_proposals(name, options.path, options.kind, options.split)
        else:
            width = None if options.full_width else options.width or 320
            mode = options.mode or MODES[0]
            found = propose(name, options.split, mode=mode, width=width, workers=options.workers)
    except ValueError as error:
        raise WrongUsage(str(error)) from None
    took = "" if found.seconds is None else f" and {found.seconds:.2f} s of a core"
    sizes = _sizes(found.splits)
    return f"{found.name}: {found.boxes:,.0f} boxes{took} an image ({sizes}) in {found.path}"


_OPTIONS = {"prepare": _add_own, "draw": _add_drawing, "propose": _add_proposing}
_VERBS = {
    "list": _list,
    "prepare": _prepare,
    "describe": _describe,
    "draw": _draw,
    "propose": _propose,
}

if __name__ == "__main__":
    with unbroken():
        sys.exit(main())
