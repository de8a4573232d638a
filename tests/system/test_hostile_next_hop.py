"""A running server and every hostile next hop at once: each behaviour is a destination of its own.

What becomes of each message is held against the table (`faultinject.network.behaviours`): delivered
once, reported to its sender once, or still in the queue.  No process dies of it, and mail for an
honest destination passes between all the others.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import trio
from system.observe import Client, letter, processes, queued
from system.server import Server, server

from faultinject.network.behaviours import BEHAVIOURS, DEFERRED, DELIVERED, FAILED, Deaf
from faultinject.network.next_hop import NextHop

#: Deaf for longer than anyone waits at this pace.
LEFT_OUT = {
    name
    for name, row in BEHAVIOURS.items()
    if row.allows == DELIVERED
    and any(isinstance(step, Deaf) for act in row.acts.values() for step in act)
}
NAMES = [name for name in BEHAVIOURS if name not in LEFT_OUT]
SENDER = "ada@example.org"
CONFIGURATION = """
[relay]
networks = ["127.0.0.1"]
timeout_factor = 0.005
next_hops = {{ {hops} }}
[retry]
minimum_s = 2
maximum_s = 2
"""


@dataclass
class Hops:
    """Next hops in a thread: a port for each behaviour."""

    hops: dict[str, NextHop] = field(
        default_factory=lambda: {name: NextHop(behaviour=name) for name in NAMES}
    )
    ports: dict[str, int] = field(default_factory=dict)

    def taken(self) -> Counter[str]:
        """How often each token was taken."""
        return Counter(each.token for hop in self.hops.values() for each in hop.accepted)


@contextlib.contextmanager
def serving() -> Iterator[Hops]:
    """All of them, until the end."""
    found, ready, token = Hops(), threading.Event(), []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for name, hop in found.hops.items():
                found.ports[name] = await nursery.start(hop.serve)
            token.append((trio.lowlevel.current_trio_token(), nursery.cancel_scope))
            ready.set()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    assert ready.wait(30)
    try:
        yield found
    finally:
        for where, scope in token:
            where.run_sync_soon(scope.cancel)
        thread.join()


def domain(name: str) -> str:
    return f"{name}.example"


def submit(running: Server) -> dict[str, str]:
    """One message for each behaviour; queue ids by behaviour, which is the token as well."""
    ids = {}
    with Client(running) as client:
        assert client.code("EHLO client.example.net") == 250
        for name in NAMES:
            assert client.code(f"MAIL FROM:<{SENDER}>") == 250
            assert client.code(f"RCPT TO:<x@{domain(name)}>") == 250, name
            assert client.code("DATA") == 354
            client.send(f"X-Token: {name}\r\n".encode() + letter(name) + b".\r\n")
            code, text = client.reply()
            assert code == 250
            ids[name] = text.rpartition(" ")[2]
    return ids


def reported(running: Server) -> Counter[str]:
    """How often the sender was told about each behaviour's recipient."""
    mail = b"\n".join(running.delivered("ada"))
    found = re.findall(rb"(?im)^Final-Recipient: *rfc822; *x@([a-z0-9-]+)\.example", mail)
    return Counter(each.decode() for each in found)


def attempted(running: Server) -> set[str]:
    """Queue ids of which remote has said something."""
    return {each["queue_id"] for each in running.events() if each.get("role") == "remote"}


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """The server after each destination was tried, and what it made of them."""
    with serving() as hops:
        rows = ", ".join(
            f'"{domain(name)}" = "[127.0.0.1]:{port}"' for name, port in hops.ports.items()
        )
        directory = tmp_path_factory.mktemp("hostile") / "s"
        with server(directory, extra=CONFIGURATION.format(hops=rows)) as running:
            before = {each.pid for each in processes(running) if each.name in ("qmgr", "smtpd")}
            ids = submit(running)
            sure = {n for n in NAMES if BEHAVIOURS[n].allows == DELIVERED}
            told = {n for n in NAMES if BEHAVIOURS[n].allows == FAILED}
            running.wait_for(lambda: set(ids.values()) <= attempted(running), "all were tried")
            running.wait_for(lambda: sure <= set(hops.taken()), "what can be is delivered")
            running.wait_for(lambda: told <= set(reported(running)), "failures are reported")
            gone = {ids[name] for name in sure | told}
            running.wait_for(lambda: not gone & set(queued(running)), "and leave the queue")
            yield running, hops, ids, before


@pytest.mark.parametrize("name", NAMES)
def test_what_became_of_it(name: str, played) -> None:
    running, hops, ids, _ = played
    row = BEHAVIOURS[name]
    waits = ids[name] in queued(running)
    taken, told = hops.taken()[name], reported(running)[name]
    # Nothing is lost: it waits, or the next hop has it, or its sender knows.
    assert waits or taken or told
    assert told <= 1
    if not row.takes:
        assert taken <= 1 and not (taken and told)
    if row.allows == DELIVERED:
        assert taken and not told and not waits
    if row.allows == FAILED:
        assert told and not taken and not waits
    if row.allows == DEFERRED:
        assert waits and not told and (row.takes or not taken)


def test_nothing_died_of_it(played) -> None:
    running, _, _, before = played
    assert before <= {each.pid for each in processes(running)}
    bad = [each for each in running.events() if each.get("level") in ("critical", "error")]
    assert bad == []
