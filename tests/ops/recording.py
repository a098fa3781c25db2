"""The recorded answers of PyTorch and torchvision in tests/recorded."""

import json
from pathlib import Path

import numpy as np


def recorded(file, op):
    """The cases of an op: (options, {name: array}) each."""
    with np.load(Path(__file__).parents[1] / "recorded" / file) as stored:
        arrays = {name: stored[name] for name in stored.files if "/" in name}
    cases = []
    for i in sorted({int(name.split("/")[0]) for name in arrays}):
        case = {n.split("/")[1]: a for n, a in arrays.items() if n.startswith(f"{i}/")}
        if str(case.pop("op")) == op:
            options = json.loads(str(case.pop("options")))
            options = {n: tuple(v) if isinstance(v, list) else v for n, v in options.items()}
            cases.append((options, case))
    return cases
