"""From an architecture's row to what a process puts on: names become paths.

Directories that a row names are below its jail; those of a row without one are the spool's, but
for "/", which is the machine's.  Pure.
"""

from __future__ import annotations

from refmta.architectures.architecture import ROOT, Architecture, CompartmentRow
from refmta.patterns.chroot_jail import EMPTY
from refmta.patterns.compartmentalization import GRANTED
from refmta.processes.confinement import Confinement

#: Whose system calls a pool's first process may make: what it and its forks need.
POOL_KINDS = ("pool parent", "template", "worker")


def confinement(architecture: Architecture, row: CompartmentRow, spool: str) -> Confinement:
    """spool: its path, as the machine calls it."""
    place = directory(row, spool)
    root = "/" if is_jailed(architecture, row) else spool if row.jail == "none" else place
    return Confinement(
        compartment=row.name,
        # What is root's stays root, and whoever is root gets out of anything.
        layers=frozenset(() if row.user == ROOT else architecture.layers),
        jail=place if row.jail != "none" else "",
        reads=tuple(_below(root, each, row) for each in row.reads),
        changes=tuple(_below(root, each, row) for each in row.changes),
        network=row.network,
        granted=None if row.name == "supervisor" else GRANTED,
        kinds=("supervisor",) if row.name == "supervisor" else (*row.roles, *_kinds(row)),
    )


def is_jailed(architecture: Architecture, row: CompartmentRow) -> bool:
    """Whether its "/" is its jail."""
    return "jail" in architecture.layers and row.jail != "none"


def directory(row: CompartmentRow, spool: str) -> str:
    """Its jail, as the machine calls it; a recipient's home is where its process begins."""
    places = {"empty": f"{spool}/{EMPTY}", "spool": spool, "home": ".", "none": "/"}
    return places[row.jail]


def _below(root: str, path: str, row: CompartmentRow) -> str:
    if path == "/":
        return "/" if row.jail == "none" else root
    return f"{root.rstrip('/')}{path}"


def _kinds(row: CompartmentRow) -> tuple[str, ...]:
    return POOL_KINDS if row.pooled else ("compartment",)
