"""`python -m refmta.architectures.enter ARCHITECTURE COMPARTMENT SPOOL`: how a compartment's
program begins: everything it will need is loaded, then it is confined, then it does its job.

Imports no role but those of its own row.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401  what the standard library would load at its first use
import importlib
import sys
import traceback  # noqa: F401
from types import ModuleType

import refmta.processes.no_helpers  # noqa: F401  before trio: see there

# isort: split
from refmta.architectures.architecture import Architecture, CompartmentRow
from refmta.architectures.catalogue import find
from refmta.architectures.confining import confinement
from refmta.processes import compartment, pool, supervisor
from refmta.processes.confinement import confine
from refmta.processes.worker import Pooled

#: What a role's module may have to load what it needs before it is confined.
PRELOAD = "preload"


def main() -> None:
    """Become the compartment.  Raises KeyError for an unknown one: the manifest is wrong."""
    architecture, row = find(sys.argv[1]), find(sys.argv[1]).row(sys.argv[2])
    modules = {role: importlib.import_module(f"refmta.roles.{role}") for role in row.roles}
    for each in modules.values():
        getattr(each, PRELOAD, lambda: None)()
    confine(confinement(architecture, row, sys.argv[3]))
    if row.name == "supervisor":
        supervisor.main()
    elif row.pooled:
        pool.main(_pooled(architecture, row, modules))
    else:
        compartment.main({role: module.run for role, module in modules.items()})


def _pooled(
    architecture: Architecture, row: CompartmentRow, modules: dict[str, ModuleType]
) -> Pooled:
    """The servers that its workers talk to come from the architecture's channels."""
    ((role, module),) = modules.items()
    servers = tuple(each.server_role for each in architecture.talks if each.client == row.name)
    narrow = "seccomp" in architecture.layers
    if any(each.server == row.name for each in architecture.talks):
        return Pooled(role=role, servers=servers, attend=module.attend, narrow=narrow)
    return Pooled(role=role, servers=servers, converse=module.converse, narrow=narrow)


if __name__ == "__main__":
    main()
