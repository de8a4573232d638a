"""All deliberate single faults of the controls, each tied to the case that must find it."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from specs.conformance.controls.planting import Fault


@cache
def all_faults() -> tuple[Fault, ...]:
    """In the order of their files.  Raises ValueError if a name is there twice."""
    names = sorted(each.name for each in pkgutil.iter_modules(__path__))
    files = [importlib.import_module(f"{__name__}.{each}") for each in names]
    found: dict[str, Fault] = {}
    for fault in (each for file in files for each in file.FAULTS):
        if fault.name in found:
            raise ValueError(f"{fault.name}: there twice")
        found[fault.name] = fault
    return tuple(found.values())
