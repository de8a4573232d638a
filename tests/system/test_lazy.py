"""Compartments that start on first use: when they are there, and that their deaths lose nothing."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from system.hops import NextHop, next_hop, relay, submit
from system.observe import (
    Process,
    empty,
    events,
    insist,
    named,
    only,
    processes,
    wait_delivered,
)
from system.server import Server, server

LAZY = ("resolve", "remote", "bounce")
#: What is there while nothing was used.
ALWAYS = {"spawner", "supervisor", "enqueue", "qmgr", "smtpd", "smtpd template"}


@pytest.fixture
def hop(tmp_path: Path) -> Iterator[NextHop]:
    with next_hop(tmp_path) as hop:
        yield hop


@pytest.fixture
def running(tmp_path: Path, hop: NextHop) -> Iterator[Server]:
    """It relays to an honest next hop, and to one that refuses every recipient."""
    with (
        next_hop(tmp_path, "5yz-at-rcpt") as closed,
        server(
            tmp_path / "s", extra=relay({"remote.example": hop.port, "closed.example": closed.port})
        ) as running,
    ):
        yield running


def names(running: Server) -> set[str]:
    return {each.name for each in processes(running)}


def starts(running: Server, name: str) -> int:
    """How often a compartment was started."""
    return len(events(running, lambda e: e["event"] == "started" and e["compartment"] == name))


def reports(running: Server, user: str = "ada") -> list[bytes]:
    return [each for each in running.delivered(user) if b"multipart/report" in each]


def kill(running: Server, process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):  # a worker may have had its last session
        os.kill(process.pid, signal.SIGKILL)
    running.wait_for(lambda: not process.alive(), f"{process.name} is gone")


def use(running: Server, hop: NextHop, name: str, token: str) -> None:
    """Mail that needs this compartment; returns when it has arrived where it should."""
    if name == "resolve":
        wait_delivered(running, insist(running, token))
    elif name == "remote":
        submit(running, token, "kim@remote.example")
        running.wait_for(lambda: token in hop.taken(), f"{token} is relayed")
    else:
        before = len(reports(running))
        submit(running, token, "kim@closed.example", sender="ada@example.org")
        running.wait_for(lambda: len(reports(running)) > before, f"{token} is reported")
    running.wait_for(lambda: empty(running), "the queue is empty")


# -- when they are there --------------------------------------------------------------------------


def test_nobody_is_there_before_the_first_use_and_a_stop_waits_for_nobody(running):
    assert names(running) == ALWAYS
    assert {row["compartment"] for row in running.ps()} & set(LAZY) == set()
    assert names(running) == ALWAYS
    assert running.stop() == 0
    assert not any(starts(running, name) for name in LAZY)


def test_each_starts_on_its_first_use_and_once(running, hop):
    use(running, hop, "resolve", "first")
    assert {"resolve"} == names(running) & set(LAZY)
    use(running, hop, "remote", "second")
    assert {"resolve", "remote"} == names(running) & set(LAZY)
    use(running, hop, "bounce", "third")
    assert set(LAZY) <= names(running)
    for number, name in enumerate(LAZY):
        use(running, hop, name, f"again-{number}")
    assert [starts(running, name) for name in LAZY] == [1, 1, 1]
    assert running.stop() == 0


@pytest.mark.parametrize("name", LAZY)
def test_it_starts_again_on_the_next_use_after_its_death_and_not_before(running, hop, name):
    use(running, hop, name, "before")
    for number in range(2):
        kill(running, only(running, name))
        # What else happens meanwhile does not need it: the operator's question goes to qmgr.
        assert running.queue() == []
        assert starts(running, name) == number + 1
        use(running, hop, name, f"after-{number}")
        assert starts(running, name) == number + 2
    assert running.stop() == 0


# -- nothing is lost ------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", ["remote", "remote template", "remote worker", "qmgr"])
def test_kills_of_those_who_relay_lose_nothing(running, hop, victim):
    """Each is killed while messages are on their way; what was answered 250 arrives."""
    tokens = []
    for number in range(12):
        tokens.append(f"{victim.replace(' ', '-')}-{number}")
        submit(running, tokens[-1], f"kim-{number}@remote.example")
        if number % 3 == 0:
            running.wait_for(lambda: named(running, victim) or empty(running), victim)
            for process in named(running, victim)[:1]:
                kill(running, process)
    running.wait_for(lambda: set(tokens) <= set(hop.taken()), "all are relayed")
    running.wait_for(lambda: empty(running), "the queue is empty")
    assert running.stop() == 0


@pytest.mark.parametrize("victim", ["bounce", "enqueue", "qmgr"])
def test_kills_of_those_who_report_lose_nothing(running, hop, victim):
    """Every sender hears of every failure; perhaps twice, if a report was kept and not marked."""
    use(running, hop, "bounce", "warm")
    tokens = [f"{victim}-{number}" for number in range(9)]
    for number, token in enumerate(tokens):
        with contextlib.suppress(AssertionError, ConnectionError):  # enqueue may be away
            submit(running, token, "kim@closed.example", sender="ada@example.org")
            tokens[number] = f"{token} accepted"
        if number % 3 == 0:
            for process in named(running, victim):
                kill(running, process)
    accepted = [each.split()[0] for each in tokens if each.endswith("accepted")]
    assert len(accepted) >= 6

    def heard(token: str) -> bool:
        return any(f"<{token}@example.net>".encode() in each for each in reports(running))

    def all_heard() -> bool:
        if not all(map(heard, accepted)):
            running.run("queue", "retry")  # what could not be reported waits for a minute
        return all(map(heard, accepted))

    running.wait_for(all_heard, "all failures are reported")
    running.wait_for(lambda: empty(running), "the queue is empty")
    assert running.stop() == 0


def test_who_relays_ends_with_qmgr_and_before_its_successor(running, hop):
    """Its workers' channels lead to a dead one: what they send, its successor sends again."""
    use(running, hop, "remote", "before")
    remote, qmgr = only(running, "remote"), only(running, "qmgr")
    os.kill(remote.pid, signal.SIGSTOP)  # it can't end by itself
    kill(running, qmgr)
    running.wait_for(lambda: starts(running, "qmgr") == 2, "qmgr is started anew")
    assert not remote.alive()
    use(running, hop, "remote", "after")
    assert running.stop() == 0


def test_a_stop_while_mail_is_leaving_keeps_it_in_the_queue_or_sends_it(running, hop):
    tokens = [f"stop-{number}" for number in range(8)]
    for token in tokens:
        submit(running, token, "kim@remote.example")
    assert running.stop() == 0
    taken, left = hop.taken(), len(os.listdir(running.spool / "chunks"))
    assert len(set(taken)) == len(taken)
    assert len(taken) + left == len(tokens)
    running.start()
    running.wait_for(lambda: set(tokens) <= set(hop.taken()), "all are relayed")
    running.wait_for(lambda: empty(running), "the queue is empty")
    assert len(hop.taken()) == len(tokens)
    assert running.stop() == 0
