"""The architectures by name; and what a name may take away.

    refmta                    as it is
    refmta-landlock-jail      without these layers (patterns.defense_in_depth)

So a layer that a machine lacks, or that an experiment takes away, is part of the name that every
process of the system is started with, and of whatever is said about it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from refmta.architectures.architecture import Architecture
from refmta.architectures.refmta import REFMTA
from refmta.patterns.defense_in_depth import LAYERS, without

ARCHITECTURES = {each.name: each for each in (REFMTA,)}


class UnknownArchitecture(Exception):
    """No architecture of that name, or no such layer; the text says what there is."""


def find(name: str) -> Architecture:
    """The architecture of that name.  Raises UnknownArchitecture."""
    bases = [each for each in ARCHITECTURES if f"{name}-".startswith(f"{each}-")]
    if not bases:
        known = ", ".join(ARCHITECTURES)
        raise UnknownArchitecture(f"no architecture {name!r}; there are: {known}")
    base = max(bases, key=len)
    taken = name[len(base) + 1 :].split("-") if name != base else []
    for each in taken:
        if each not in LAYERS:
            raise UnknownArchitecture(f"no layer {each!r}; there are: {', '.join(LAYERS)}")
    return take_away(ARCHITECTURES[base], taken)


def take_away(architecture: Architecture, taken: Iterable[str]) -> Architecture:
    """The same without some layers, and without those that rest on them; its name says so."""
    layers = without(architecture.layers, taken)
    gone = [each for each in architecture.layers if each not in layers]
    return replace(architecture, name="-".join([architecture.name, *gone]), layers=layers)
