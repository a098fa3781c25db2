"""What experiments expect of the numbers of their configurations.

What may be added: other properties that several experiments ask for.
"""

from typing import Any


def at_least(config: Any, **least: float) -> None:
    """Raises ValueError that names the first field below its least value."""
    for name, value in least.items():
        if getattr(config, name) < value:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} is {getattr(config, name)}, expected at least {value:g}")
