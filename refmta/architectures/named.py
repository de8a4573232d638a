"""One architecture by its name, and nothing loaded of any other: what a process of the running
system is entered with.  (`catalogue` has them all.)

What a process loads is counted, and all architectures together are more lines than many a role.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from refmta.architectures.architecture import Architecture
from refmta.patterns.defense_in_depth import LAYERS, without

#: Architecture -> the module beside this one that has it, as a constant of its name.
MODULES: Final = {
    "refmta": "refmta",
    "sendmail": "sendmail",
    "qmail": "qmail",
    "postfix": "postfix",
    "postfix-unjailed": "postfix",
    "sendmailx": "sendmailx",
}
#: Those on the way from the monolith to ours are made from it, and are found in a table.
EVOLVED: Final = "evolved-"


class UnknownArchitecture(Exception):
    """No architecture of that name, or no such layer; the text says what there is."""


def find(name: str) -> Architecture:
    """The architecture of that name.  Raises UnknownArchitecture."""
    return without_layers(_whole(name), name)


def _whole(name: str) -> Architecture:
    """The architecture from which that name takes layers away.  Raises UnknownArchitecture."""
    if name.startswith(EVOLVED):
        steps = importlib.import_module("refmta.architectures.evolution").EVOLUTION
        return steps[base(name, steps)]  # type: ignore[no-any-return]  # loaded by name
    known = base(name, MODULES)
    module = importlib.import_module(f"refmta.architectures.{MODULES[known]}")
    return getattr(module, known.upper().replace("-", "_"))  # type: ignore[no-any-return]


def base(name: str, known: Iterable[str]) -> str:
    """The name without the layers that it takes away.  Raises UnknownArchitecture."""
    bases = [each for each in known if f"{name}-".startswith(f"{each}-")]
    if not bases:
        raise UnknownArchitecture(f"no architecture {name!r}; there are: {', '.join(MODULES)}")
    return max(bases, key=len)


def without_layers(architecture: Architecture, name: str) -> Architecture:
    """The architecture without the layers that a name takes away.  Raises UnknownArchitecture."""
    taken = name[len(architecture.name) + 1 :].split("-") if name != architecture.name else []
    for each in taken:
        if each not in LAYERS:
            raise UnknownArchitecture(f"no layer {each!r}; there are: {', '.join(LAYERS)}")
    return take_away(architecture, taken)


def take_away(architecture: Architecture, taken: Iterable[str]) -> Architecture:
    """The same without some layers, and without those that rest on them; its name says so."""
    layers = without(architecture.layers, taken)
    gone = [each for each in architecture.layers if each not in layers]
    return replace(architecture, name="-".join([architecture.name, *gone]), layers=layers)
