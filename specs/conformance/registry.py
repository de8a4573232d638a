"""All cases: those of each module in `cases` and `relayed`, in the order of RFC and section."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache
from types import ModuleType

import specs.conformance.cases as server_side
import specs.conformance.relayed as client_side
from specs.conformance.model import Case
from specs.conformance.section import Section


def modules() -> Iterator[ModuleType]:
    """Each file of cases."""
    for package in (server_side, client_side):
        for each in sorted(pkgutil.iter_modules(package.__path__), key=lambda found: found.name):
            yield importlib.import_module(f"{package.__name__}.{each.name}")


@cache
def all_cases() -> tuple[Case, ...]:
    """In order.  Raises ValueError if an id is there twice."""
    found: dict[str, Case] = {}
    for module in modules():
        for name, section in vars(module).items():
            if not isinstance(section, Section) or name != "here":
                continue
            for case in section.cases:
                if case.id in found:
                    raise ValueError(f"{case.id}: there twice, in {module.__name__} once more")
                found[case.id] = case
    return tuple(sorted(found.values(), key=_order))


def _order(case: Case) -> tuple[object, ...]:
    digits = "".join(each for each in case.rfc if each.isdigit())
    section = tuple(
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in case.section.split(".")
    )
    return int(digits or 0), case.rfc, section, case.id
