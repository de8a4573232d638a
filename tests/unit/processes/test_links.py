"""What both ends of a channel are told: every row of the table."""

from __future__ import annotations

import msgspec
import pytest

from refmta.processes.calls import ON_CALL, POOLED
from refmta.processes.links import FRESH, to_client, to_server
from refmta.processes.plan import ChannelRow, Compartment

TALK = ChannelRow(client="smtpd", client_role="smtpd", server="queue", server_role="enqueue")
PROCESSES = {
    pooled: Compartment(name="it", number=1, roles=(), slices={}, pooled=pooled)
    for pooled in (False, True)
}
PROCESS, POOL = False, True


@pytest.mark.parametrize(
    ("client", "server", "fresh", "client_hears", "server_hears"),
    [
        (PROCESS, PROCESS, False, "bob", "ada"),
        (PROCESS, PROCESS, True, ON_CALL, POOLED),
        (PROCESS, POOL, False, ON_CALL, ON_CALL),
        (PROCESS, POOL, True, ON_CALL, ON_CALL),
        (POOL, PROCESS, False, POOLED, POOLED),
        (POOL, PROCESS, True, FRESH, POOLED),
        (POOL, POOL, False, POOLED, ON_CALL),
        (POOL, POOL, True, FRESH, ON_CALL),
    ],
)
def test_each_end_is_told_what_comes_by_its_link(client, server, fresh, client_hears, server_hears):
    """The client is ada's, the server bob's, if they are anybody's."""
    row = msgspec.structs.replace(TALK, fresh=fresh)
    ends = PROCESSES[client], PROCESSES[server]
    assert to_client(row, *ends, "bob").detail == client_hears
    assert to_server(row, *ends, "ada").detail == server_hears


def test_each_end_is_told_who_it_is_who_the_other_is_and_in_which_form_they_talk():
    row = msgspec.structs.replace(TALK, carrier="qmail")
    told = [each(row, PROCESSES[POOL], PROCESSES[POOL]) for each in (to_client, to_server)]
    assert [(each.role, each.port, each.carrier) for each in told] == [
        ("smtpd", "enqueue", "qmail"),
        ("enqueue", "smtpd", "qmail"),
    ]
