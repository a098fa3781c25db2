"""What `predict` does: it asks a trained run about images and writes the answers as files.

There is a picture and a JSON file for each image, an index PNG for each class map, and one file
about all images.

What may be added: another kind of value in a record that has a file format of its own.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from jaxstruct.data import DataError, read_image
from jaxstruct.data.label_maps import write_class_map
from jaxstruct.data.names import numbered, taken
from jaxstruct.training.errors import RunError
from jaxstruct.training.experiment import Experiment
from jaxstruct.training.restored import restore


def predict_images(
    experiment: Experiment,
    workdir: Path,
    images: Sequence[Path],
    out: Path,
    *,
    which: Literal["last", "best"] = "last",
    seed: int = 0,
) -> int:
    """Writes what the experiment's `predict` says about each image, or about none, into `out`.

    Prints the path of each picture that was written. On stderr it says of what checkpoint the
    answers are, and which images cannot be read; these are skipped.

    Args:
        experiment: the experiment of the run.
        workdir: the folder of the run.
        images: image files; without any, `predict` draws samples.
        out: the folder that is written into; no file in it is replaced.
        which: the run's last state, or its best.
        seed: of what `predict` draws.

    Returns:
        how many images were skipped.

    Raises:
        RunError: the experiment has no `predict`, or the workdir no such checkpoint.
    """
    answer = experiment.at(workdir).predict
    if answer is None:
        others = f"; there is {', '.join(experiment.commands)}" if experiment.commands else ""
        raise RunError(f"this experiment has no predict{others}")
    restored = restore(experiment, workdir, which=which)
    state = restored.state
    if state is not None:
        at = f"stage {list(restored.states)[-1]!r}, step {int(state.step):,}"
        if which == "best":
            print(f"note: the best checkpoint is that of {at}", file=sys.stderr)
        elif not (workdir / "metrics.json").exists():
            print(f"note: the run in {workdir} has not ended; this is {at}", file=sys.stderr)
    written = Predictions(out, experiment.colors)
    skipped = 0
    for path in images or (None,):
        try:
            image = None if path is None else read_image(path)
        except DataError as error:
            print(f"skipped: {error}", file=sys.stderr)
            skipped += 1
            continue
        record, figure = answer(jax.random.key(seed), state, image)
        print(written.add(path, record, figure))
    for path in written.collect(experiment.collect):
        print(path)
    return skipped


class Predictions:
    """The files of one call of `predict`, in a folder; none replaces another that is there."""

    def __init__(self, folder: Path, colors: Any = None):
        self._folder, self._colors = folder, colors
        self._records: list[dict[str, Any]] = []
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, image: Path | None, record: Mapping[str, Any], figure: Any) -> Path:
        """Writes what was predicted of an image, or the samples without one; returns the picture.

        uint8 arrays [H, W] of the record become index PNGs, whose names stand in their place.
        """
        arrays = {k: x for k, x in record.items() if isinstance(x, np.ndarray | jax.Array)}
        maps = {k: np.asarray(x) for k, x in arrays.items() if (x.ndim, x.dtype) == (2, np.uint8)}
        endings = [".json", ".png", *(f"-{key}.png" for key in maps)]
        stem = self._claimed("samples" if image is None else image.stem, endings)
        try:
            figure.savefig(self._folder / f"{stem}.png")
            about = {"image": str(image) if image else None, **record}
            named = {key: f"{stem}-{key}.png" for key in maps}
            for key, labels in maps.items():
                write_class_map(self._folder / named[key], labels, self._colors)
            _write_json(self._folder / f"{stem}.json", {**about, **named})
        except BaseException:
            (self._folder / f"{stem}.json").unlink()  # it holds nothing
            raise
        self._records.append(about)
        return self._folder / f"{stem}.png"

    def collect(self, of_all: Callable[[Sequence[dict]], Mapping[str, Any]] | None) -> list[Path]:
        """Writes what the records of all images become, a JSON file for each name."""
        found = []
        for name, value in (of_all(self._records) if of_all else {}).items():
            stem = self._claimed(Path(name).stem, [Path(name).suffix or ".json"])
            found.append(self._folder / f"{stem}{Path(name).suffix or '.json'}")
            _write_json(found[-1], value)
        return found

    def _claimed(self, stem: str, endings: Sequence[str]) -> str:
        """The stem, or one with a number, of whose files none is there; the first is made empty.

        Of two calls at once that see the same name free, one makes that file and has the name.
        """
        free = (
            name
            for name in numbered(stem)
            if not any(taken(self._folder / f"{name}{ending}") for ending in endings)
        )
        for name in free:
            with contextlib.suppress(FileExistsError):
                (self._folder / f"{name}{endings[0]}").touch(exist_ok=False)
                return name
        raise AssertionError("numbers do not end")


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
