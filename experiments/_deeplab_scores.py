"""What DeepLab says with and without its CRF: on the test set, on validation images, to a user.

What may be added: another number that compares both.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments import _canvases, _checks, _mask_batches, _segmenter_crf
from experiments._segmenter_crf import CRF, SearchCRF, Seen, counted, mean_iou
from experiments._segmenter_evaluation import (
    Segmenter,
    class_map_of,
    drawn,
    of_canvas,
    on_canvas,
    pixels,
    record_of,
    scores,
)
from experiments._spread import spread
from jaxstruct.metrics import Confusion
from jaxstruct.training import Run, State
from jaxstruct.training.parallel import is_first

INTERVAL = 20.0  # seconds between lines about the progress


def seen(segmenter: Segmenter, state: State, reader: Any, indices: np.ndarray) -> Iterator[Seen]:
    """Images of a split, as they are scored, and the logits of a state, one after the other."""
    placing = _mask_batches.Placing(segmenter.canvas, segmenter.canvas, False, boundaries=True)
    for index in indices:
        example = {key: values[0] for key, values in reader(index[None]).items()}
        shared = _canvases.turned(segmenter.canvas, np.shape(example["image"])[:2])
        placed = _mask_batches.place(placing, shared, None, example)
        rows, columns = placed["size"]
        logits = np.asarray(of_canvas(segmenter, state, placed["image"]))
        parts = placed["image"], logits, placed["class_map"], placed["boundary_distance"]
        yield Seen(*(part[:rows, :columns] for part in parts))


def told(what: str, images: Iterator[Seen], size: int) -> Iterator[Seen]:
    """The images; says on stderr now and then how far the work on them is."""
    begin = said = time.monotonic()
    for done, one in enumerate(images):
        now = time.monotonic()
        if now - said >= INTERVAL and is_first():
            said, left = now, (size - done) * (now - begin) / max(done, 1)
            print(f"{what}: {done:,} of {size:,} images, {left:,.0f} s left", file=sys.stderr)
        yield one


def found_crf(
    config: Any, segmenter: Segmenter, sets: Any, workdir: Path | None, state: State, own: SearchCRF
) -> CRF:
    """The best parameters on validation images. Prints what was tried, and writes crf.json."""
    reader = sets.readers["validation"]
    indices = spread(reader.size, own.images or config.searched)
    grid = _segmenter_crf.grid_of(config, own)
    images = told(f"{len(grid)} CRFs", seen(segmenter, state, reader, indices), len(indices))
    best, tried = _segmenter_crf.search(segmenter, images, grid)
    if is_first():
        print(f"CRFs on {len(indices)} images of {config.validation}:")
        print(_segmenter_crf.table(tried))
        if workdir is not None:
            step = int(state.step)
            _segmenter_crf.write(workdir, best, tried, config.validation, len(indices), step)
    return best


def search_crf(config: Any, segmenter: Segmenter, sets: Any, own: SearchCRF, run: Run) -> None:
    """The verb: see `SearchCRF`."""
    assert run.state is not None
    found_crf(config, segmenter, sets, run.workdir, run.state, own)
    found = f"{run.workdir / _segmenter_crf.FILE} has the best of these; predict reads it"
    if run.metrics:
        found += (
            ", and the run keeps the scores of the former one: remove metrics.json for new ones"
        )
    print(found)


def score(
    config: Any, segmenter: Segmenter, sets: Any, workdir: Path | None, states: Mapping[str, State]
) -> dict[str, float]:
    """The scores on the test set, of the network alone and with the CRF, and what the CRF adds.

    The CRF's parameters are those of crf.json in the workdir, if they were found for this network,
    or are searched.
    """
    (state,) = states.values()
    parameters = _segmenter_crf.read(workdir, int(state.step))
    if parameters is None:
        parameters = found_crf(config, segmenter, sets, workdir, state, SearchCRF())
    reader, classes = sets.readers["test"], len(segmenter.classes)
    before, after, seconds = [], [], []
    images = seen(segmenter, state, reader, np.arange(reader.size))
    for one in told("CRF of test images", images, reader.size):
        before.append(counted(one, one.logits.argmax(-1), classes, config.bands))
        since = time.perf_counter()
        marginals = _segmenter_crf.refined(parameters, one.logits, one.image)
        labels = np.asarray(jnp.argmax(marginals, -1))
        seconds.append(time.perf_counter() - since)
        after.append(counted(one, labels, classes, config.bands))
    found = compared(segmenter, np.stack(before), np.stack(after), config.bands)
    if is_first():
        print(summary(found))
    chosen = {f"crf/{name}": float(x) for name, x in parameters._asdict().items()}
    return found | chosen | {"crf/seconds": statistics.median(seconds)}


def compared(
    segmenter: Segmenter, before: np.ndarray, after: np.ndarray, bands: tuple[int, ...]
) -> dict[str, float]:
    """The scores before and after, and gains with their errors, of counts [N, 1 + bands, C, C]."""
    found: dict[str, float] = {}
    for name, counts in (("test", before), ("test_crf", after)):
        values = scores(segmenter, Confusion(counts[:, 0].sum(0)))
        found |= {f"{name}/{metric}": value for metric, value in values.items()}
    found |= {
        f"test/{name}": count for name, count in pixels(segmenter, before[:, 0].sum(0)).items()
    }
    measure = lambda counts: mean_iou(segmenter, counts)
    for place, suffix in enumerate(["", *(f"_{width}px" for width in bands)]):
        pair = before[:, place], after[:, place]
        for name, counts in zip(("test", "test_crf"), pair, strict=True):
            found[f"{name}/mean_iou{suffix}"] = measure(counts.sum(0))
        gain, error = paired(measure, *pair)
        found |= {f"gain/mean_iou{suffix}": gain, f"gain/mean_iou{suffix}_error": error}
    for name in [x.removeprefix("test/") for x in found if x.startswith("test/iou/")]:
        found[f"gain/{name}"] = found[f"test_crf/{name}"] - found[f"test/{name}"]
    return found


def paired(
    measure: Callable[[np.ndarray], float], before: np.ndarray, after: np.ndarray
) -> tuple[float, float]:
    """By how much a measure of summed counts grows, and the standard error of that over images.

    The counts [N, C, C] are of the same images. The error is the jackknife's, of the measure
    without each of the images in turn; 0 of a single image.

    Source: Efron & Tibshirani 1993, An introduction to the bootstrap, eq. 11.5.
    """
    count = len(before)
    totals = before.sum(0), after.sum(0)
    gain = measure(totals[1]) - measure(totals[0])
    if count < 2:
        return gain, 0.0
    without = [measure(totals[1] - after[i]) - measure(totals[0] - before[i]) for i in range(count)]
    return gain, float(np.sqrt((count - 1) * np.var(without)))


def summary(found: Mapping[str, float]) -> str:
    """What the CRF adds, in words, and which classes lose by it."""
    gain, error = (100 * found[f"gain/mean_iou{x}"] for x in ("", "_error"))
    words = f"the CRF changes the mean IoU by {gain:+.2f} ± {error:.2f} points"
    lost = {
        name.removeprefix("gain/iou/"): value
        for name, value in sorted(found.items(), key=lambda item: item[1])
        if name.startswith("gain/iou/") and value < 0
    }
    named = ", ".join(f"{name} {100 * value:.1f}" for name, value in lost.items())
    return f"{words}; classes that lose: {named or 'none'}"


def predict(
    segmenter: Segmenter, workdir: Path | None, key: Any, state: State | None, image: Any
) -> tuple[dict[str, Any], Figure]:
    """The class of each pixel of a user's image, by the network and by its CRF.

    See `Experiment.predict`. The CRF works where the image is scored, on a canvas, and what it says
    is interpolated to a larger image. Without crf.json there is the network alone.
    """
    _checks.check_image(image, "a segmenter")
    assert state is not None
    parameters = _segmenter_crf.read(workdir)
    if parameters and _segmenter_crf.read(workdir, int(state.step)) is None:
        print(
            f"note: {_segmenter_crf.FILE} was found for another checkpoint; search_crf finds one "
            "for this",
            file=sys.stderr,
        )
    canvas, (rows, columns) = on_canvas(segmenter, image)
    seen_there, size = canvas[:rows, :columns], image.shape[:2]
    times = []

    def timed(f: Callable[[], jax.Array]) -> jax.Array:
        jax.block_until_ready(f())  # compiles
        since = time.perf_counter()
        found = jax.block_until_ready(f())
        times.append(time.perf_counter() - since)
        return found

    logits = timed(lambda: of_canvas(segmenter, state, canvas))[:rows, :columns]
    network = class_map_of(logits, size)
    maps = {"network": [network]}
    record = record_of(segmenter, network)
    told = f"{size[1]} x {size[0]} pixels: network {times[0]:.2f} s"
    if parameters is None:
        where = f"{workdir} has no {_segmenter_crf.FILE}" if workdir else "there is no workdir"
        print(f"note: {where}: the network alone; search_crf finds a CRF", file=sys.stderr)
    else:
        marginals = timed(lambda: _segmenter_crf.refined(parameters, logits, seen_there))
        record = record_of(segmenter, class_map_of(marginals, size))
        maps["network and CRF"] = [record["class_map"]]
        record |= {"class_map_of_network": network, "crf": parameters._asdict()}
        told += f", CRF {times[1]:.2f} s"
    print(told)
    return record, drawn(segmenter, [image], maps, over_image=True)
