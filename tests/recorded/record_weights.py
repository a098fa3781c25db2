"""Records state dicts that PyTorch saved: python tests/recorded/record_weights.py

Needs torch, which the tests do not. Writes weights_*.pth beside this file; what they hold,
`test_weights.py` says in NumPy's words.
"""

import math
import pickle
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

DTYPES = {
    "bool": torch.bool,
    "uint8": torch.uint8,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
    "complex64": torch.complex64,
    "complex128": torch.complex128,
}


def state() -> dict[str, torch.Tensor]:
    """Views of one storage, every dtype, and a module's own state dict with its attributes."""
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    with torch.no_grad():
        module[0].weight.copy_(torch.arange(6).reshape(3, 2))
    saved = module.state_dict(keep_vars=True)
    saved["base"] = base
    saved["transposed"] = base.T
    saved["part"] = base[1:3, ::2]
    saved["column"] = base[:, 4]
    saved["expanded"] = base[:1].expand(3, 6)
    saved["scalar"] = torch.tensor(7)
    saved["empty"] = torch.zeros(0, 3)
    for name, dtype in DTYPES.items():
        saved[name] = torch.tensor([0, 1, 2], dtype=torch.float32).to(dtype)
    return saved


class OldPickler(pickle.Pickler):
    """Pickles tensors as PyTorch did before 0.4."""

    def reducer_override(self, value: Any) -> Any:
        """A tensor as a call of the function of that time, which has four arguments."""
        if not isinstance(value, torch.Tensor):
            return NotImplemented
        view = value.storage_offset(), tuple(value.size()), value.stride()
        return torch._utils._rebuild_tensor, (value.storage(), *view)


def vgg() -> OrderedDict[str, torch.Tensor]:
    """Layers of a small VGG by torchvision's names: eighths, counted from each tensor's place."""
    shapes = {
        "features.0.weight": (4, 3, 3, 3),
        "features.0.bias": (4,),
        "features.2.weight": (4, 4, 3, 3),
        "features.2.bias": (4,),
        "classifier.6.weight": (2, 4),
        "classifier.6.bias": (2,),
    }
    saved = OrderedDict()
    for place, (name, shape) in enumerate(shapes.items()):
        saved[name] = torch.arange(math.prod(shape)).reshape(shape) / 8 + place
    return saved


def record_old(path: Path) -> None:
    """Asks PyTorch for a file of the kind that torchvision's vgg16-397923af.pth, of 2017, is of."""
    old = types.ModuleType("old")
    old.Pickler, old.dump = OldPickler, pickle.dump
    torch.save(
        vgg(),
        path,
        pickle_module=old,
        pickle_protocol=2,
        _use_new_zipfile_serialization=False,
    )
    assert b"_rebuild_tensor\n" in path.read_bytes()
    assert torch.equal(torch.load(path)["features.2.bias"], vgg()["features.2.bias"])


def main() -> None:
    """Asks PyTorch and writes the files."""
    here, saved = Path(__file__).parent, state()
    for name, options in {
        "stream": {"_use_new_zipfile_serialization": False},
        "stream_protocol4": {"_use_new_zipfile_serialization": False, "pickle_protocol": 4},
        "zip": {},
    }.items():
        torch.save(saved, here / f"weights_{name}.pth", **options)
    record_old(here / "weights_before_0_4.pth")
    print(f"{len(saved)} tensors, torch {torch.__version__}")


if __name__ == "__main__":
    main()
