"""Negative controls: what the tests of remote would say if remote were wrong.

Each breaks one rule of the shell around the protocol's machine, and the books of the next hop, or
the bound on time, must tell.  The unbroken twin passes the same check in `test_remote_hostile` and
`test_remote`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import trio
import trio.testing
from nameserver import NameServer
from remote_world import letter, world

from faultinject.network import next_hop
from faultinject.network.behaviours import HONEST, Behaviour, Close, Deaf, Say, Silence
from faultinject.network.next_hop import NextHop
from refmta.protocol import smtp_client as smtp
from refmta.roles.remote import content
from refmta.roles.remote.connection import Connection
from refmta.roles.remote.jobs import Progress
from refmta.wire.messages import Relayed

X = ("x@example.net",)


@pytest.fixture
def autojump_clock() -> trio.testing.MockClock:
    return trio.testing.MockClock(autojump_threshold=0.01)


async def once(name: str, octets: int = 200, **changes: Any) -> tuple[Relayed, NextHop]:
    async with world(name, **changes) as place:
        relayed = await place.relay(1, letter(1, octets)[0], X)
        await place.hop.wait_for(lambda: place.hop.open == 0)
    return relayed, place.hop


async def test_without_a_look_before_the_end_an_early_250_delivers(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 250 that came with the 354 must be fed before the end is sent."""
    real = Connection._write_content

    async def write_content(self: Connection) -> smtp.Event:
        held = list(self._replies)
        self._replies.clear()
        event = await real(self)
        self._replies.extend(held)
        return event

    async def next_(self: Connection) -> smtp.Event:
        if self.session.phase is smtp.Phase.CONTENT:
            return await write_content(self)
        return await real_next(self)

    early = Behaviour(acts={"data": (Say(HONEST["data"] + HONEST["final"]), Silence())})
    monkeypatch.setitem(next_hop.BEHAVIOURS, "honest", early)  # type: ignore[arg-type]
    relayed, hop = await once("honest")
    assert relayed.outcomes[0].kind == "deferred" and not hop.accepted
    real_next = Connection._next
    monkeypatch.setattr(Connection, "_next", next_)
    relayed, hop = await once("honest")
    assert relayed.outcomes[0].kind == "delivered" and not hop.accepted


async def test_a_reply_to_an_end_that_has_not_left_delivers_nothing(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One huge last piece, and a server that says 250 and reads nothing."""
    real = content.Outgoing.pieces

    def pieces(self: content.Outgoing) -> Iterator[bytes]:
        yield b"".join(real(self))

    steps = (Say(HONEST["data"]), Deaf(1), Say(HONEST["final"]), Deaf(400), Close())
    lying = Behaviour(acts={"data": steps})
    monkeypatch.setitem(next_hop.BEHAVIOURS, "honest", lying)  # type: ignore[arg-type]
    monkeypatch.setattr(content.Outgoing, "pieces", pieces)
    relayed, hop = await once("honest", 24 << 20)
    assert relayed.outcomes[0].kind == "deferred" and not hop.accepted
    monkeypatch.setattr(Connection, "_spoken_to", lambda _self: False)
    relayed, hop = await once("honest", 24 << 20)
    assert relayed.outcomes[0].kind == "delivered" and not hop.accepted


async def test_a_deadline_per_read_is_no_bound(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trickling server: the deadline belongs to the reply."""
    real = Connection._look

    def look(self: Connection) -> None:
        real(self)
        self._deadline = trio.current_time() + smtp.patience_s(self.session) * self._factor

    factor = 0.001  # 300 ms for the reply to MAIL
    with trio.fail_after(3):
        assert (await once("trickle-at-mail", factor=factor))[0].outcomes[0].kind == "deferred"
    monkeypatch.setattr(Connection, "_look", look)
    with pytest.raises(trio.TooSlowError), trio.fail_after(3):
        await once("trickle-at-mail", factor=factor)


async def test_trying_elsewhere_what_may_have_been_taken_doubles_it(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what a verdict says may be tried elsewhere."""
    real = Progress.settle

    def settle(self: Progress, *arguments: Any) -> Any:
        pending = self.pending
        result = real(self, *arguments)
        kept = {each.index for each in self.outcomes.values() if each.kind == "deferred"}
        self.pending = tuple(each for each in pending if each.index in kept)
        return result

    monkeypatch.setattr(Progress, "settle", settle)
    server = NameServer({("example.net.", "A"): ["127.0.0.1", "127.0.0.2"]})
    second = NextHop(behaviour="taken-and-close")
    async with trio.open_nursery() as nursery:
        address = await nursery.start(server.serve)
        async with (
            world(
                "taken-and-close", destination="example.net", nameservers=(address,), own_ports=(1,)
            ) as place,
            trio.open_nursery() as inner,
        ):
            await inner.start(second.serve, place.conversation.config.port, "127.0.0.2")
            await place.relay(1, letter(1)[0], X)
            await place.hop.wait_for(lambda: place.hop.open == 0)
            inner.cancel_scope.cancel()
        nursery.cancel_scope.cancel()
    assert len(place.hop.accepted) + len(second.accepted) == 2


async def test_a_reply_before_garbage_counts(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fed as a whole, the parser forgets the 250 in front of what is none."""
    row = Behaviour(acts={"final": (Say(HONEST["final"] + b"junk\r\n"),)})
    monkeypatch.setitem(next_hop.BEHAVIOURS, "honest", row)  # type: ignore[arg-type]
    relayed, hop = await once("honest")
    assert relayed.outcomes[0].kind == "delivered" and len(hop.accepted) == 1
