"""`python -m refmta.architectures.enter ARCHITECTURE COMPARTMENT`: how a compartment's program
begins.  Imports no role but those of its own row.
"""

from __future__ import annotations

import importlib
import sys

import refmta.processes.no_helpers  # noqa: F401  first: see there

# isort: split
from refmta.architectures.catalogue import ARCHITECTURES
from refmta.processes import compartment, pool, supervisor
from refmta.processes.worker import Pooled

#: The servers that a pooled role's workers talk to come from the architecture's channels.


def main() -> None:
    """Become the compartment.  Raises KeyError for an unknown one: the manifest is wrong."""
    architecture, name = ARCHITECTURES[sys.argv[1]], sys.argv[2]
    if name == "supervisor":
        supervisor.main()
        return
    (row,) = [each for each in architecture.compartments if each.name == name]
    modules = {role: importlib.import_module(f"refmta.roles.{role}") for role in row.roles}
    if row.pooled:
        ((role, module),) = modules.items()
        servers = tuple(each.server_role for each in architecture.talks if each.client == name)
        if any(each.server == name for each in architecture.talks):
            pool.main(Pooled(role=role, servers=servers, attend=module.attend))
        else:
            pool.main(Pooled(role=role, servers=servers, converse=module.converse))
    else:
        compartment.main({role: module.run for role, module in modules.items()})


if __name__ == "__main__":
    main()
