"""The ledger's measures on a real server: Debian's Postfix, in an overlay root."""

from __future__ import annotations

import pytest

from subjects.measures_parts import watched
from subjects.measures_places import place
from subjects.measures_pools import most_by_one


@pytest.mark.needs("overlay")
@pytest.mark.needs("postfix")
@pytest.mark.needs("strace")
def test_postfix_is_seen_at_work() -> None:
    """Who works on a message, by strace; who serves a session, on the peer's own network."""
    with place("server:postfix") as peer:
        found = {each.program: each.is_root for each in watched(peer)}
        assert most_by_one(peer) > 1
    assert {"smtpd", "cleanup", "qmgr", "local"} <= found.keys()
    assert not found["smtpd"]
    assert found["local"]
