"""What is registered by entry points, by group and name: the judged come to the judge this way."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any


def names(group: str) -> tuple[str, ...]:
    """All of that group."""
    return tuple(sorted(point.name for point in entry_points(group=group)))


def make(group: str, name: str) -> Any:
    """What the registered factory of that name makes.  Raises KeyError if there is none."""
    for point in entry_points(group=group):
        if point.name == name:
            return point.load()()
    raise KeyError(name)
