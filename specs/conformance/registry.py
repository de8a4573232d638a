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
    """In order.  Raises ValueError if an id is there twice, or a file's cases are not in `here`."""
    found: dict[str, Case] = {}
    for module in modules():
        names = [name for name, each in vars(module).items() if isinstance(each, Section)]
        if names != ["here"] or not module.here.cases:
            raise ValueError(f"{module.__name__}: its cases are not in one Section, `here`")
        for case in module.here.cases:
            if case.id in found:
                raise ValueError(f"{case.id}: there twice, in {module.__name__} once more")
            found[case.id] = case
    return tuple(sorted(found.values(), key=order))


def order(case: Case) -> tuple[object, ...]:
    """A key to sort by: RFC, section, slug."""
    digits = "".join(each for each in case.rfc if each.isdigit())
    section = tuple(
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in case.section.split(".")
    )
    return int(digits or 0), case.rfc, section, case.id
