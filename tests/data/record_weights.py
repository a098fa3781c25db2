"""Records state dicts that PyTorch saved: python tests/data/record_weights.py

Needs torch, which the tests do not. Writes weights_*.pth beside this file; what they hold,
`test_weights.py` says in NumPy's words.
"""

from pathlib import Path

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


def main() -> None:
    """Asks PyTorch and writes the files."""
    here, saved = Path(__file__).parent, state()
    for name, options in {
        "stream": {"_use_new_zipfile_serialization": False},
        "stream_protocol4": {"_use_new_zipfile_serialization": False, "pickle_protocol": 4},
        "zip": {},
    }.items():
        torch.save(saved, here / f"weights_{name}.pth", **options)
    print(f"{len(saved)} tensors, torch {torch.__version__}")


if __name__ == "__main__":
    main()
