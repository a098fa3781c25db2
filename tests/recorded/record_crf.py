"""Records pydensecrf's mean field of the fully connected CRF: python tests/recorded/record_crf.py

Needs pydensecrf 1.0rc3 and scikit-image, which the tests do not. pydensecrf must be compiled:

    pip install 'cython<3' 'setuptools<81' wheel
    CYTHON_FORCE_REGEN=1 pip install --no-build-isolation pydensecrf

That is for Python 3.11. For 3.13 unpack its source instead, write `from .eigen cimport *` at the
top of densecrf.pxd and `from . import eigen`, `from . cimport eigen` in densecrf.pyx, and install
the folder likewise, with Cython 3.

Writes tests/recorded/ops_crf.npz. Of each scene: a crop of a photograph NAME_image [H, W, 3] and
NAME_unary [H, W, L]. Of each case: its options as JSON (the scene, the kernels and the iterations)
and the marginals after each of these [iterations, H, W, L], rounded to 1/16384; of one, what
klDivergence says after 0, 1, ..., 10 iterations. A compatibility is in pydensecrf's convention: a
number is what equal labels gain, but a vector or a matrix is what labels cost.
"""

import json
from pathlib import Path

import numpy as np
import pydensecrf.densecrf as dcrf
import skimage

# The crop (top, left, height, width) of a photograph, and the number of labels.
SCENES = {
    "astronaut": ((60, 150, 40, 50), 2),
    "coffee": ((60, 150, 40, 50), 3),
    "chelsea": ((100, 130, 33, 21), 5),
}
GAUSSIAN = {"sigma_xy": 3, "compatibility": 3}
WIDE = {"sigma_xy": 80, "sigma_rgb": 13, "compatibility": 10}
NARROW = {"sigma_xy": 67, "sigma_rgb": 3, "compatibility": 4}
VECTOR = {"coffee": [-9, -8, -10], "chelsea": [-9, -9, -8, -10, -8]}
MATRIX = {
    "coffee": [[-8, 1, 0], [1, -10, 3], [0, 3, -6]],
    # Not symmetric: pydensecrf takes the mean of it and its transpose.
    "chelsea": [
        [-9, 0, 2, 1, 0],
        [1, -7, 0, 0, 3],
        [0, 2, -8, 1, 0],
        [3, 0, 0, -6, 2],
        [1, 1, 0, 0, -10],
    ],
}
# scene, kernels, iterations
CASES = [
    *((scene, [WIDE, GAUSSIAN], [1, 5, 10]) for scene in SCENES),
    *((scene, [NARROW, GAUSSIAN], [1, 10]) for scene in SCENES),
    *((scene, [GAUSSIAN], [1, 10]) for scene in ("astronaut", "chelsea")),
    *((scene, [WIDE], [1, 10]) for scene in ("coffee", "chelsea")),
    *((scene, [WIDE | {"compatibility": c}, GAUSSIAN], [1, 10]) for scene, c in VECTOR.items()),
    *((scene, [WIDE | {"compatibility": c}, GAUSSIAN], [1, 10]) for scene, c in MATRIX.items()),
]
MEASURED = ("coffee", [WIDE, GAUSSIAN])


def scene(name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(image, unary): labels by brightness, known at half of the pixels and often wrong."""
    (top, left, height, width), labels = SCENES[name]
    image = getattr(skimage.data, name)()[top : top + height, left : left + width]
    grey = image.mean(axis=-1)
    truth = np.digitize(grey, np.quantile(grey, np.arange(1, labels) / labels))
    drawn = rng.integers(0, labels, truth.shape)
    said = np.where(rng.random(truth.shape) < 0.25, drawn, truth)
    is_known = rng.random(truth.shape) < 0.5
    unary = rng.normal(0, 0.5, (*truth.shape, labels))
    unary -= 3 * np.eye(labels)[said] * is_known[..., None]
    return np.ascontiguousarray(image), (np.round(unary * 64) / 64).astype(np.float32)


def model(image: np.ndarray, unary: np.ndarray, kernels: list[dict]) -> dcrf.DenseCRF2D:
    """Pydensecrf's CRF."""
    height, width, labels = unary.shape
    crf = dcrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(np.ascontiguousarray(unary.reshape(-1, labels).T))
    for kernel in kernels:
        compat = kernel["compatibility"]
        compat = np.array(compat, np.float32) if isinstance(compat, list) else compat
        if "sigma_rgb" in kernel:
            crf.addPairwiseBilateral(kernel["sigma_xy"], kernel["sigma_rgb"], image, compat)
        else:
            crf.addPairwiseGaussian(kernel["sigma_xy"], compat)
    return crf


def main() -> None:
    """Asks pydensecrf and writes the file."""
    rng = np.random.default_rng(0)
    scenes = {name: scene(name, rng) for name in SCENES}
    recorded: dict[str, np.ndarray] = {"versions": np.array("pydensecrf 1.0rc3")}
    for name, (image, unary) in scenes.items():
        recorded |= {f"{name}_image": image, f"{name}_unary": unary}
    for i, (name, kernels, iterations) in enumerate(CASES):
        image, unary = scenes[name]
        crf = model(image, unary, kernels)
        marginals = np.stack([np.array(crf.inference(n)).T for n in iterations])
        marginals = np.round(marginals.reshape(-1, *unary.shape) * 2**14) / 2**14
        options = {"scene": name, "kernels": kernels, "iterations": iterations}
        recorded |= {
            f"{i}/op": np.array("mean_field"),
            f"{i}/options": np.array(json.dumps(options)),
            f"{i}/marginals": marginals.astype(np.float32),
        }
        if (name, kernels) == MEASURED:
            q, *scratch = crf.startInference()
            divergences = [crf.klDivergence(q)]
            for _ in range(10):
                crf.stepInference(q, *scratch)
                divergences.append(crf.klDivergence(q))
            recorded[f"{i}/divergences"] = np.array(divergences)
    path = Path(__file__).parent / "ops_crf.npz"
    np.savez_compressed(path, **recorded)
    print(f"{len(CASES)} cases, {recorded['versions']}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
