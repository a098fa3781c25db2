"""Going fully convolutional: a classifier of patches, slid over whole images as one network.

Long et al. 2015, section 3.1 and figure 2; Sermanet et al. 2014.

python -m experiments.fully_convolutional          # patches of street scenes of CamVid
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from matplotlib.figure import Figure
from PIL import Image

from experiments import _canvases, _checks, _mask_batches
from experiments._schedules import cosine
from experiments._segmenter_sets import CAMVID_COLORS
from experiments._spread import spread
from experiments._timing import median_seconds
from jaxstruct import data, figures, losses, models, ops
from jaxstruct.metrics import Confusion, Mean
from jaxstruct.models import Conv
from jaxstruct.training import (
    Claim,
    Experiment,
    Reference,
    Run,
    Stage,
    State,
    augment_each,
    main,
    make_evaluation,
    make_step,
    shuffled_reads,
)

PATCH, STRIDE = 60, 8  # of the network, in pixels
FRAME = 360, 480  # height and width of frames, in pixels
SHOWN = "car"  # the class of the heat maps


@dataclass(frozen=True)
class Config:
    """The defaults: half an hour on two cores."""

    width: int = 32  # channels of the first two layers; the others have twice and four times that
    frames: int = 8  # frames a step
    patches: int = 8  # of each of these frames
    steps: int = 4000  # of Adam
    learning_rate: float = 1e-3  # rises over 100 steps, falls as a cosine
    balance: float = 0.5  # classes weigh the median frequency over theirs, to this power; 0: alike
    evaluations: int = 5  # how often whole frames are scored during training
    seed: int = 0  # of initialisation, order and patches

    def __post_init__(self) -> None:
        _checks.COUNT.check(self, "width", "frames", "patches", "evaluations")
        _checks.POSITIVE.check(self, "learning_rate")
        _checks.NOT_NEGATIVE.check(self, "balance", "steps")
        _checks.SEED.check(self, "seed")


SMOKE = Config(width=4, frames=4, patches=4, steps=4, evaluations=1)


CLAIMS = [
    Claim(
        "sliding is faster than patch by patch (seconds a frame)",
        orders=[[Reference(name, "lower") for name in ("slid_seconds", "patches_seconds")]],
        source="Long et al. 2015, section 3.1",
        why="theirs is more than five times as fast: AlexNet, 10 x 10 answers",
    )
]


class PatchClassifier(nn.Module):
    """Which class the pixel in the middle of a patch has: convolutions without padding.

    Called with patches [B, 60, 60, 3] in [0, 1] it returns logits [B, 1, 1, classes]. Called with
    images [B, H, W, 3] it returns those of all patches that are 8 pixels apart,
    [B, (H - 60) // 8 + 1, (W - 60) // 8 + 1, classes]: every pooling divides a patch without rest,
    and nothing is padded, so that a patch's layers are a part of the image's.
    """

    classes: int
    width: int

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Returns the logits."""
        x = 4 * images - 2
        for block in range(3):
            for layer in range(2):
                features = self.width * 2**block
                conv = Conv(features, (3, 3), padding="VALID", name=f"conv{block + 1}_{layer + 1}")
                x = nn.relu(conv(x))
            x = ops.max_pool(x, window=2, stride=2)
        x = nn.relu(Conv(8 * self.width, (4, 4), padding="VALID", name="fc1")(x))
        return Conv(self.classes, (1, 1), name="fc2")(x)


def logits_of(model: PatchClassifier, params: Any, images: jax.Array) -> jax.Array:
    """What the network says of images; see `PatchClassifier`."""
    found: Any = model.apply({"params": params}, images)
    return found


def middles(class_map: Any) -> Any:
    """The labels [..., h, w] of the pixels in the middle of all patches of [..., H, W]."""
    height, width = ((side - PATCH) // STRIDE + 1 for side in class_map.shape[-2:])
    at = PATCH // 2
    found = class_map[..., at::STRIDE, at::STRIDE]
    return found[..., :height, :width]


def patches(count: int, draw: np.random.Generator, example: Mapping[str, Any]) -> dict[str, Any]:
    """So many patches of a frame, anywhere and mirrored half of the time, and their middles' class.

    Returns image, uint8 [count, 60, 60, 3], and label, uint8 [count]; 255 is none.
    """
    image, class_map = example["image"], example["class_map"]
    images, labels = [], []
    for _ in range(count):
        y, x = (int(draw.integers(side - PATCH + 1)) for side in class_map.shape)
        step = 1 if draw.random() < 0.5 else -1
        images.append(image[y : y + PATCH, x : x + PATCH][:, ::step])
        labels.append(class_map[y : y + PATCH, x : x + PATCH][:, ::step][PATCH // 2, PATCH // 2])
    return {"image": np.stack(images), "label": np.array(labels)}


def experiment(config: Config) -> Experiment:
    readers = {split: data.open_reader("camvid", split) for split in ("train", "val", "test")}
    classes = readers["train"].classes
    model = PatchClassifier(len(classes), config.width)
    optimizer = optax.adam(cosine(config.learning_rate, config.steps))
    weights = _mask_batches.class_weights("camvid", "train", config.balance)

    def init(key: jax.Array, previous: State | None) -> State:
        params = jax.jit(model.init)(key, jnp.zeros((1, PATCH, PATCH, 3)))["params"]
        return State.create(key, params, optimizer.init(params))

    def loss(params: Any, model_state: Any, batch: Any, keys: jax.Array) -> Any:
        images = batch["image"].reshape(-1, PATCH, PATCH, 3)
        logits = logits_of(model, params, images)[:, 0, 0]
        labels = batch["label"].reshape(-1)
        found, weight = losses.segmentation_loss(logits, labels, class_weights=weights())
        return {"cross_entropy": Mean(jnp.sum(found), jnp.sum(weight))}, model_state

    def count(state: State, batch: Any, valid: jax.Array, keys: jax.Array) -> Any:
        found = jnp.argmax(logits_of(model, state.params, batch["image"]), -1)
        there = middles(batch["class_map"])
        return {"confusion": Confusion.of(there, found, len(classes), valid)}

    def finish(sums: Mapping[str, Any]) -> dict[str, float]:
        confusion = sums["confusion"]
        return {"mean_iou": confusion.mean_iou(), "accuracy": confusion.accuracy()}

    whole = _mask_batches.Placing(FRAME, FRAME, enlarge=False)
    evaluate, test = (
        make_evaluation(
            count,
            _mask_batches.batches_of(readers[split], 4, whole, train=False, seed=0),
            finish=finish,
            compilations=_canvases.shapes_of(FRAME),
        )
        for split in ("val", "test")
    )
    every = max(1, round(config.steps / config.evaluations))
    stage = Stage(
        name="patches",
        steps=every * max(1, round(config.steps / every)),
        init=init,
        update=make_step(loss, optimizer),
        batches=shuffled_reads(
            readers["train"],
            readers["train"].size,
            config.frames,
            like={
                "image": np.zeros((1, PATCH, PATCH, 3), np.uint8),
                "class_map": np.zeros((1, PATCH, PATCH), np.uint8),
            },
            seed=config.seed,
            augment=augment_each(partial(patches, config.patches)),
        ),
        evaluate=evaluate,
        evaluate_every=every,
    )

    def score(states: Mapping[str, State]) -> dict[str, float]:
        state = states[stage.name]
        found = {f"test/{name}": x for name, x in test(state).items()}
        frame = jnp.asarray(readers["test"](np.array([0]))["image"][0], jnp.float32) / 255
        return found | times(model, state.params, frame)

    return Experiment(
        config,
        [stage],
        score=score,
        figures=partial(draw, model, readers["test"]),
        predict=partial(predict, model, classes),
        best=("patches/mean_iou", "max"),
        claims=CLAIMS,
        model=model,
        data=[readers["val"].source, readers["test"].source],
        colors=CAMVID_COLORS,
    )


def times(model: PatchClassifier, params: Any, frame: jax.Array) -> dict[str, float]:
    """The median seconds of a frame as one network, and patch by patch."""
    calls, _ = both_ways(model, params, frame)
    return {f"{way}_seconds": median_seconds(call) for way, call in calls.items()}


def both_ways(
    model: PatchClassifier, params: Any, frame: jax.Array
) -> tuple[dict[str, Callable[[], Any]], int]:
    """A frame [H, W, 3] as one network and patch by patch, 64 at once; how many patches it has.

    "slid" and "patches"; each call waits.
    """
    windows = models.slid_windows(*frame.shape[:2], size=PATCH, stride=STRIDE).reshape(-1, 4)
    corners = jnp.asarray(windows[:, :2], jnp.int32)
    some_corners = [corners[i : i + 64] for i in range(0, len(corners), 64)]

    @jax.jit
    def some(corners: jax.Array) -> jax.Array:
        cut = lambda at: jax.lax.dynamic_slice(frame, (at[1], at[0], 0), (PATCH, PATCH, 3))
        return logits_of(model, params, jax.vmap(cut)(corners))

    calls = {
        "slid": lambda: jax.block_until_ready(slid(model, params, frame)),
        "patches": lambda: jax.block_until_ready([some(c) for c in some_corners]),
    }
    return calls, len(windows)


@partial(jax.jit, static_argnums=0)
def slid(model: PatchClassifier, params: Any, image: jax.Array) -> jax.Array:
    """Probabilities [h, w, classes] of all patches of an image [H, W, 3] in [0, 1]."""
    return jax.nn.softmax(logits_of(model, params, image[None])[0])


def predict(
    model: PatchClassifier, classes: Sequence[str], key: Any, state: State | None, image: Any
) -> tuple[dict[str, Any], Figure]:
    """The class of the middle of each patch of a user's image; see `Experiment.predict`.

    An image that is larger than a frame is shrunk to its size: patches are what they were then.
    """
    _checks.check_image(image, "a classifier")
    assert state is not None
    size = image.shape[:2]
    least = min(1.0, *np.divide(_canvases.turned(FRAME, size), size))
    height, width = (max(1, round(side * least)) for side in size)
    small = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
    missing = [(0, max(0, PATCH - side)) for side in small.shape[:2]]
    large = np.pad(small, (*missing, (0, 0)), mode="edge")  # as large as a patch at least
    found = np.asarray(slid(model, state.params, jnp.asarray(large, jnp.float32) / 255))
    class_map = np.full(large.shape[:2], 255, np.uint8)
    cells = np.kron(np.argmax(found, -1), np.ones((STRIDE, STRIDE), int))  # around the middles
    at = (PATCH - STRIDE) // 2
    class_map[at : at + cells.shape[0], at : at + cells.shape[1]] = cells
    whole = Image.fromarray(class_map[:height, :width])
    class_map = np.asarray(whole.resize(size[::-1], Image.Resampling.NEAREST))
    counts = np.bincount(np.argmax(found, -1).ravel(), minlength=len(classes)) / found[..., 0].size
    shares = {name: round(float(x), 4) for name, x in zip(classes, counts, strict=True) if x}
    record = {"size": list(size), "shares": shares, "class_map": class_map}
    shown = {"class of the middle": [class_map]}
    panels = figures.class_map_panels(
        [image], shown, classes, colors=CAMVID_COLORS, over_image=True
    )
    return record, panels


def draw(model: PatchClassifier, reader: data.Reader, run: Run) -> dict[str, Figure]:
    """Heat maps of a class and the maps of all classes on test frames; the scores in training."""
    assert run.state is not None
    classes = reader.classes
    examples = reader(spread(reader.size, 3))
    images, truth = ([np.asarray(x) for x in examples[key]] for key in ("image", "class_map"))
    answers = [
        np.asarray(slid(model, run.state.params, jnp.asarray(x, jnp.float32) / 255)) for x in images
    ]
    key = jax.random.key(0)
    maps = [predict(model, classes, key, run.state, x)[0]["class_map"] for x in images]
    steps, values = run.curve("mean_iou")
    column = f"is this pixel a {SHOWN}?"
    return {
        "heat_maps": figures.heat_maps(
            images,
            {column: [x[..., classes.index(SHOWN)] for x in answers]},
            quantity=f"probability of a {SHOWN}",
            limits=(0, 1),
            grids={column: (STRIDE, (PATCH - STRIDE) / 2)},
        ),
        "class_maps": figures.class_map_panels(
            images,
            {"truth": truth, "class of the middle": maps},
            classes,
            colors=CAMVID_COLORS,
        ),
        "mean_iou": figures.curves(
            {"validation": (steps, values)}, x_label="steps", y_label="mean IoU"
        ),
    }


if __name__ == "__main__":
    main(experiment, smoke=SMOKE)
