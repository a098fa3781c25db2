"""The splits of a detector as batches: of images, of maps that are known, of stored proposals.

What may be added: something else that has to be there before the first step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments import _box_batches, _detector_maps, _detector_svm
from experiments._detector_config import Config
from experiments._detector_evaluation import Detector, Sweep
from experiments._detector_training import proposes
from jaxstruct import data
from jaxstruct.data import Reader
from jaxstruct.training import Batches


def batches_of(config: Config, reader: Reader, *, train: bool, mirrored: bool = False) -> Batches:
    """The batches of a split: moved by chance in training, else all as they are, or `mirrored`."""
    stored = 0 if proposes(config.method) else config.proposals
    placing = _box_batches.Placing(
        (config.height, config.width), config.most, config.flip, config.resize, config.color,
        stored, mirrored,
    )  # fmt: skip
    size = config.batch_size if train else max(config.batch_size, 4)
    return _box_batches.batches_of(reader, size, placing, train=train, seed=config.seed)


class Batched(NamedTuple):
    """The splits as batches: what trains, and sweeps through all, given the network's variables.

    `prepare` makes what trains of the variables, where maps are known or proposals are stored;
    None elsewhere. `kept` are these maps, to be forgotten when the last score is known.
    """

    train: Batches
    sweeps: dict[str, Sweep]
    images: dict[str, Batches]
    prepare: Sweep | None = None
    kept: Sequence[dict[bytes, _detector_maps.Rows]] = ()


def batched(config: Config, detector: Detector, readers: Mapping[str, Reader]) -> Batched:
    """The splits of a detector; SPPnet's hold maps, unless they are computed in each step."""
    train = batches_of(config, readers["train"], train=True)
    images = {split: batches_of(config, x, train=False) for split, x in readers.items()}
    if not (config.method == "sppnet" and config.maps == "once"):
        fixed = lambda batches: lambda variables: batches
        stored = None if proposes(config.method) else searched_first(readers, fixed(train))
        return Batched(train, {split: fixed(x) for split, x in images.items()}, images, stored)
    sizes = {split: reader.size for split, reader in readers.items()}
    total = sum(sizes.values()) + (sizes["train"] if config.flip else 0)
    kept: dict[str, dict[bytes, _detector_maps.Rows]] = {x: {} for x in (*images, "mirrored")}
    rows = {
        split: _detector_maps.known(detector, x, sizes[split], total, kept[split])
        for split, x in images.items()
    }
    mirrored = batches_of(config, readers["train"], train=False, mirrored=True)
    sweeps = {split: _detector_maps.in_order(x, images[split].size) for split, x in rows.items()}
    prepare = _detector_maps.shuffled(
        rows["train"],
        _detector_maps.known(detector, mirrored, sizes["train"], total, kept["mirrored"]),
        config.batch_size,
        flip=config.flip,
        seed=config.seed,
    )
    return Batched(train, sweeps, images, searched_first(readers, prepare), [*kept.values()])


def searched_first(readers: Mapping[str, Reader], prepare: Sweep) -> Sweep:
    """The same, before which proposals of all splits are there: they are searched in this thread.

    It is called before the first step, and raises what `ReaderWithProposals.ready` raises.
    """

    def searched(variables: Any) -> Batches:
        search(readers)
        return prepare(variables)

    return searched


def svms_checked(config: Config, images: int, prepare: Sweep) -> Sweep:
    """The same, before which it is checked that SVMs can be trained in the end."""

    def checked(variables: Any) -> Batches:
        regions = config.most + min(config.svm_regions, config.proposals)
        _detector_svm.check_memory(images, regions, config.hidden)
        return prepare(variables)

    return checked


def search(readers: Mapping[str, Reader]) -> None:
    """Searches the proposals that readers look for and that are missing, or raises DataError."""
    for reader in readers.values():
        if isinstance(reader, data.ReaderWithProposals):
            reader.ready()
