"""Pure functions of arrays; this floor imports jax and numpy, and nothing else."""

__all__: list[str] = []
