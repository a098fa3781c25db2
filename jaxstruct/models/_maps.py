"""The maps that a network returns by name, up to its last one.

What may be added: another rule that all networks follow that return maps by name.
"""


def until(last: str | None, strides: dict[str, int]) -> dict[str, int]:
    """The strides of the maps up to `last`, of all for None; ValueError for another name."""
    if last is None:
        return strides
    names = list(strides)
    if last not in strides:
        raise ValueError(f"got last {last!r}, expected one of {', '.join(names)}")
    return {name: strides[name] for name in names[: names.index(last) + 1]}
