"""refmta's look-ups beside the name server that lies: each outcome is one that the row allows."""

from __future__ import annotations

import trio

from faultinject.network.name_rows import ROWS
from faultinject.network.name_server import Domain, NameServer
from refmta.protocol import mx
from refmta.protocol.relaying import Hop
from refmta.roles.remote.names import Names, Route

GOOD, BAD, CLOSED = "127.40.0.1", "127.66.6.6", "127.50.0.1"
ITSELF = "mx.us.example"
PLACES = {"good": GOOD, "bad": BAD, "closed": CLOSED, "itself": ITSELF}
#: What a look-up without an answer comes to; so long it is waited for one.
LATE, PATIENCE_S = {"deferred"}, (2.4, 10.0, 30.0)
#: Where it is known what becomes of every candidate.
EXACT = {
    "no-edns": {"delivered"}, "truncated": {"delivered"},
    "first-exchanger-is-closed": {"deferred", "delivered"},
}  # fmt: skip
#: Where a connection would lead -> what comes of it.
BECOMES = {GOOD: "delivered", CLOSED: "deferred"}


async def test_every_row() -> None:
    domains = {f"{name}.example": Domain(row=row, places=PLACES) for name, row in ROWS.items()}
    own, found = mx.Own(names=frozenset({ITSELF})), dict[str, set[str]]()

    async def look_up(name: str, names: Names) -> None:
        route = Route(Hop(host=f"{name}.example", mx=True), 25, names, own)
        outcomes = found.setdefault(name, set())
        number = 0
        while (candidate := await route.candidate(number)) is not None:
            outcomes.add(BECOMES[candidate.address])
            number += 1
        if not number:
            outcomes.add(route.refusal().kind)

    wrong: dict[str, set[str]] = dict.fromkeys(ROWS, LATE)
    for patience_s in PATIENCE_S:  # who was only too late on this machine has more time
        again = [name for name, had in wrong.items() if had <= ROWS[name].allows | LATE]
        for name in again:
            found.pop(name, None)
        async with trio.open_nursery() as nursery:
            port = await nursery.start(NameServer(domains=domains).serve, "127.0.0.1", 0)
            names = Names([f"127.0.0.1:{port}"], patience_s=patience_s)
            async with trio.open_nursery() as asking:
                for name in again:
                    asking.start_soon(look_up, name, names)
            nursery.cancel_scope.cancel()
        wrong = {
            name: had
            for name, had in found.items()
            if not had & ROWS[name].allows or had != EXACT.get(name, had)
        }
    assert wrong == {}
