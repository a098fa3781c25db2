"""Parts of a network that are not trained: they leave the parameters, and return at `apply`.

A subtree outside `State.params` needs no gradient, no moments and no backward pass; with a mask of
the optimiser, the backward pass would remain. The frozen subtree lives in `State.model_state`,
where it is saved; the `init` of a later stage may move it back:

    params, frozen = partition(params, ["features/conv1_1", "features/conv1_2"])
    state = State.create(key, params, optimizer.init(params), {"frozen": frozen})
    model.apply({"params": merge(params, model_state["frozen"])}, images)  # in the loss
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def partition(params: Mapping[str, Any], frozen: Sequence[str]) -> tuple[dict, dict]:
    """Splits nested parameters in two: (trained, frozen).

    Args:
        params: a tree of dictionaries, as a linen module's.
        frozen: the paths of whole subtrees or arrays, as "features/conv1_1".

    Returns:
        two trees without empty dictionaries; `merge` is the inverse.

    Raises:
        ValueError: a path leads nowhere.
    """
    kept = _copied(params)
    taken: dict[str, Any] = {}
    for place in frozen:
        *above, last = place.split("/")
        inside: Any = kept
        for name in above:
            inside = inside.get(name) if isinstance(inside, dict) else None
        if not isinstance(inside, dict) or last not in inside:
            raise ValueError(
                f"there is no {place!r} to freeze, expected a path in {_places(params)}"
            )
        target = taken
        for name in above:
            target = target.setdefault(name, {})
        value = inside.pop(last)
        # A part of the subtree may be frozen already.
        target[last] = merge(value, target[last]) if last in target else value
    return _pruned(kept), taken


def merge(trained: Mapping[str, Any], frozen: Mapping[str, Any]) -> dict:
    """One tree of two. Raises ValueError where an array or a name is in both."""
    whole = _copied(trained)
    for name, value in frozen.items():
        if name not in whole:
            whole[name] = _copied(value) if isinstance(value, Mapping) else value
        elif isinstance(value, Mapping) and isinstance(whole[name], dict):
            whole[name] = merge(whole[name], value)
        else:
            raise ValueError(f"{name!r} is both trained and frozen, expected it in one of the two")
    return whole


def _copied(tree: Mapping[str, Any]) -> dict:
    return {k: _copied(x) if isinstance(x, Mapping) else x for k, x in tree.items()}


def _pruned(tree: dict) -> dict:
    found = {k: _pruned(x) if isinstance(x, dict) else x for k, x in tree.items()}
    return {k: x for k, x in found.items() if not (isinstance(x, dict) and not x)}


def _places(params: Mapping[str, Any], depth: int = 2) -> str:
    found = []
    for name, value in params.items():
        inside = isinstance(value, Mapping) and depth > 1
        found += [f"{name}/{below}" for below in value] if inside else [name]
    shown = ", ".join(found[:20])
    return shown + (f" and {len(found) - 20} more" if len(found) > 20 else "")
