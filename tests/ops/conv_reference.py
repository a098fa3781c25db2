"""PyTorch's recorded answers for convolutions and max pooling."""

import json
from pathlib import Path

import numpy as np

RECORDED = Path(__file__).parents[1] / "data" / "ops_conv.npz"


def recorded(op):
    """The cases of an op: (options, {name: array of float32}) each."""
    with np.load(RECORDED) as file:
        arrays = {name: file[name] for name in file.files if "/" in name}
    cases = []
    for i in sorted({int(name.split("/")[0]) for name in arrays}):
        case = {n.split("/")[1]: a for n, a in arrays.items() if n.startswith(f"{i}/")}
        if str(case.pop("op")) == op:
            options = json.loads(str(case.pop("options")))
            options = {n: tuple(v) if isinstance(v, list) else v for n, v in options.items()}
            cases.append((options, {n: a.astype(np.float32) for n, a in case.items()}))
    return cases


def name(case):
    (options, arrays), join = case, lambda v: str(v).replace(" ", "")
    size = "x".join(map(str, arrays.get("weight", arrays["x"]).shape))
    return ",".join([size, *(join(value) for value in options.values())])
