"""How a compartment's program begins: which entries of its roles its process uses, and who talks to
whom in it, follows from the architecture's rows and channels, for all of them.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

from refmta.architectures.architecture import Architecture, CompartmentRow
from refmta.architectures.catalogue import ARCHITECTURES
from refmta.architectures.enter import members, pooled, within

ROWS = [(each, row) for each in ARCHITECTURES.values() for row in each.compartments]
every_row = pytest.mark.parametrize(
    ("architecture", "row"), ROWS, ids=[f"{each.name}-{row.name}" for each, row in ROWS]
)


def modules(row: CompartmentRow) -> dict[str, ModuleType]:
    return {role: importlib.import_module(f"refmta.roles.{role}") for role in row.roles}


@every_row
def test_every_role_can_be_entered_where_it_is(architecture: Architecture, row: CompartmentRow):
    inner = within(architecture, row)
    if row.pooled:
        worker = pooled(architecture, row, modules(row))
        assert (worker.converse is None) != (worker.attend is None)
        assert (worker.converse is not None) == row.listener
        assert worker.roles == row.roles
        beside = worker.standby
    else:
        beside = members(modules(row))
        assert [each.role for each in beside] == list(row.roles)
    for each in beside:
        # What can't live of its own is called, by somebody here or elsewhere.
        callers = [talk for talk in architecture.talks if talk.server_role == each.role]
        assert each.run is not None or (each.attend is not None and callers)
    assert {role for talk in inner for role in talk} <= set(row.roles)


@every_row
def test_what_a_worker_talks_to_is_elsewhere(architecture: Architecture, row: CompartmentRow):
    if not row.pooled:
        return
    worker = pooled(architecture, row, modules(row))
    talks = [each for each in architecture.talks if each.client == row.name != each.server]
    assert list(worker.servers) == [each.server_role for each in talks]
    assert worker.within == within(architecture, row)


def test_the_monolith_is_all_in_one():
    architecture = ARCHITECTURES["sendmail"]
    row = architecture.row("daemon")
    worker = pooled(architecture, row, modules(row))
    assert worker.role == "smtpd" and worker.servers == () and len(worker.standby) == 7
    assert ("smtpd", "enqueue") in worker.within and ("enqueue", "qmgr") in worker.within
