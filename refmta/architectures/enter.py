"""`python -m refmta.architectures.enter ARCHITECTURE COMPARTMENT SPOOL`: how a compartment's
program begins: everything it will need is loaded, then it is confined, then it does its job.

Imports no role but those of its own row, and what makes a process or a pool of it.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401  what the standard library would load at its first use
import importlib
import sys
import traceback  # noqa: F401
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING

import refmta.processes.no_helpers  # noqa: F401  before trio: see there

# isort: split
from refmta.architectures.architecture import Architecture, CompartmentRow
from refmta.architectures.confining import confinement
from refmta.architectures.named import find
from refmta.processes.confinement import confine

if TYPE_CHECKING:
    from refmta.processes.entries import Member
    from refmta.processes.worker import Pooled

#: What a role's module may have to load what it needs before it is confined.
PRELOAD = "preload"
#: Roles that open the queue, by whatever store the architecture names.
OPEN_THE_QUEUE = frozenset({"enqueue", "qmgr"})


def main() -> None:
    """Become the compartment.  Raises KeyError for an unknown one: the manifest is wrong."""
    architecture, row = find(sys.argv[1]), find(sys.argv[1]).row(sys.argv[2])
    kind = "supervisor" if row.name == "supervisor" else "pool" if row.pooled else "compartment"
    process = importlib.import_module(f"refmta.processes.{kind}")
    modules = {role: importlib.import_module(f"refmta.roles.{role}") for role in row.roles}
    if kind != "supervisor":
        carriers = importlib.import_module("refmta.processes.carriers")
        carriers.preload(_carriers(architecture, row))
    for each in modules.values():
        getattr(each, PRELOAD, lambda: None)()
    if OPEN_THE_QUEUE.intersection(row.roles):
        queue = importlib.import_module("refmta.stores.queue")
        importlib.import_module(queue.STORES[architecture.store])
    confine(confinement(architecture, row, sys.argv[3]))
    if kind == "supervisor":
        process.main()
    elif kind == "pool":
        process.main(pooled(architecture, row, modules))
    else:
        process.main(members(modules), within(architecture, row))


def _carriers(architecture: Architecture, row: CompartmentRow) -> set[str]:
    """In which forms this compartment's channels travel."""
    return {each.carrier for each in architecture.talks if row.name in (each.client, each.server)}


def members(modules: Mapping[str, ModuleType]) -> tuple[Member, ...]:
    """The roles, as their process enters them."""
    entries = importlib.import_module("refmta.processes.entries")
    return tuple(
        entries.Member(
            role=role, run=getattr(module, "run", None), attend=getattr(module, "attend", None)
        )
        for role, module in modules.items()
    )


def within(architecture: Architecture, row: CompartmentRow) -> tuple[tuple[str, str], ...]:
    """Who talks to whom in this compartment, the client first."""
    return tuple(
        (each.client_role, each.server_role)
        for each in architecture.talks
        if each.client == each.server == row.name
    )


def pooled(
    architecture: Architecture, row: CompartmentRow, modules: Mapping[str, ModuleType]
) -> Pooled:
    """A pool's workers: their first role has the sessions, the others stand by.

    Whom it talks to, and whether it is called, follows from the architecture's channels.
    """
    worker = importlib.import_module("refmta.processes.worker")
    first, *others = row.roles
    talks = [each for each in architecture.talks if each.client != each.server]
    called = any(each.server == row.name for each in talks)
    session = modules[first]
    return worker.Pooled(  # type: ignore[no-any-return]  # loaded by name
        role=first,
        servers=tuple(each.server_role for each in talks if each.client == row.name),
        converse=None if called else session.converse,
        attend=session.attend if called else None,
        narrow="seccomp" in architecture.layers,
        standby=members({role: modules[role] for role in others}),
        within=within(architecture, row),
    )


if __name__ == "__main__":
    main()
