"""`python -m refmta.architectures.enter ARCHITECTURE COMPARTMENT SPOOL`: how a compartment's
program begins: everything it will need is loaded, then it is confined, then it does its job.

Imports no role but those of its own row, and what makes a process or a pool of it.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401  what the standard library would load at its first use
import importlib
import sys
import traceback  # noqa: F401
from types import ModuleType
from typing import Any

import refmta.processes.no_helpers  # noqa: F401  before trio: see there

# isort: split
from refmta.architectures.architecture import Architecture, CompartmentRow
from refmta.architectures.catalogue import find
from refmta.architectures.confining import confinement
from refmta.processes.confinement import confine

#: What a role's module may have to load what it needs before it is confined.
PRELOAD = "preload"


def main() -> None:
    """Become the compartment.  Raises KeyError for an unknown one: the manifest is wrong."""
    architecture, row = find(sys.argv[1]), find(sys.argv[1]).row(sys.argv[2])
    kind = "supervisor" if row.name == "supervisor" else "pool" if row.pooled else "compartment"
    process = importlib.import_module(f"refmta.processes.{kind}")
    modules = {role: importlib.import_module(f"refmta.roles.{role}") for role in row.roles}
    for each in modules.values():
        getattr(each, PRELOAD, lambda: None)()
    confine(confinement(architecture, row, sys.argv[3]))
    if kind == "supervisor":
        process.main()
    elif kind == "pool":
        ((role, module),) = modules.items()
        process.main(_pooled(process, architecture, row, role, module))
    else:
        process.main({role: module.run for role, module in modules.items()})


def _pooled(
    pool: ModuleType, architecture: Architecture, row: CompartmentRow, role: str, module: ModuleType
) -> Any:
    """The servers that its workers talk to come from the architecture's channels."""
    servers = tuple(each.server_role for each in architecture.talks if each.client == row.name)
    called = any(each.server == row.name for each in architecture.talks)
    session = {"attend": module.attend} if called else {"converse": module.converse}
    narrow = "seccomp" in architecture.layers
    return pool.Pooled(role=role, servers=servers, narrow=narrow, **session)


if __name__ == "__main__":
    main()
