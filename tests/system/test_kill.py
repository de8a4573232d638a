"""SIGKILL of every process: nothing that was answered 250 is lost, and service resumes.

A ledger of clients keeps sending while each process is killed in turn.  A client that loses its
connection, or gets a 4xx, sends the same message again, as mail servers do.  A duplicate is only
allowed for a message whose attempt was cut off at the end of its data: the client could not know.
"""

from __future__ import annotations

import contextlib
import os
import signal
import smtplib
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest
from system.observe import (
    Client,
    Process,
    connections,
    copies,
    events,
    insist,
    is_delivery_of,
    letter,
    named,
    only,
    queued,
    send,
    set_aside,
    some,
    stopped,
    wait_delivered,
)
from system.server import PATIENCE_S, Server, server

CONFIGURATION = "[smtpd]\nmax_uses = 20\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with server(tmp_path_factory.mktemp("kill") / "s", extra=CONFIGURATION) as running:
        yield running


def kill(server: Server, process: Process) -> None:
    """SIGKILL, and wait until it is gone."""
    with contextlib.suppress(ProcessLookupError):  # a worker may have had its last session
        os.kill(process.pid, signal.SIGKILL)
    if process.name == "spawner":
        assert server.process is not None
        server.process.wait(PATIENCE_S)
    else:
        server.wait_for(lambda: not process.alive(), f"{process.name} is gone")


# -- the ledger -----------------------------------------------------------------------------------


@dataclass
class Ledger:
    """Clients that send until told to end, and what they were told."""

    server: Server
    user: str
    acknowledged: dict[str, bytes] = field(default_factory=dict)
    #: Attempts that were cut off, or refused with 4xx, after the end of data had been sent.
    uncertain: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    ending: threading.Event = field(default_factory=threading.Event)

    def run(self, name: str) -> None:
        number = 0
        while not self.ending.is_set():
            number += 1
            token = f"{self.user}-{name}-{number}"
            sent = letter(token, b"line\r\n" * (number % 50) + b"..\r\n")
            while not self._attempt(token, sent):
                time.sleep(0.02)  # a client's own pause before it tries again

    def _attempt(self, token: str, sent: bytes) -> bool:
        at_end = False
        try:
            with smtplib.SMTP("127.0.0.1", self.server.port, timeout=PATIENCE_S) as client:
                for _ in range(3 if token.endswith("7") else 1):  # some keep their connection
                    client.ehlo("client.example.net")
                    client.mail("x@example.net")
                    client.rcpt(f"{self.user}@example.org")
                    at_end = True
                    code, text = client.data(sent)
                    if code != 250:
                        break
                    at_end = False
                    self.acknowledged[token] = sent
                    return True
        except (OSError, smtplib.SMTPException):
            code, text = 0, b""
        if at_end:
            self.uncertain[token] += 1
        if code >= 500:
            self.failures.append(f"{token}: {code} {text!r}")
        return code >= 500

    @contextlib.contextmanager
    def sending(self, clients: int):
        threads = [threading.Thread(target=self.run, args=(f"c{n}",)) for n in range(clients)]
        for each in threads:
            each.start()
        try:
            yield self
        finally:
            self.ending.set()
            for each in threads:
                each.join()

    def judge(self) -> Counter[str]:
        """Every acknowledged message is there, unaltered; returns duplicates by token."""
        assert not self.failures
        found: dict[str, list[bytes]] = {}
        for message in self.server.delivered(self.user):
            token = message.partition(b"Message-ID: <")[2].partition(b"@")[0].decode()
            found.setdefault(token, []).append(message)
        lost = [token for token in self.acknowledged if token not in found]
        assert not lost
        for token, sent in self.acknowledged.items():
            assert all(is_delivery_of(each, sent) for each in found[token]), token
        duplicates = Counter({t: len(each) - 1 for t, each in found.items() if len(each) > 1})
        unexplained = {t: n for t, n in duplicates.items() if n > self.uncertain[t]}
        assert not unexplained
        strangers = [t for t in found if t not in self.acknowledged and not self.uncertain[t]]
        assert not [t for t in strangers if t.startswith(self.user)]
        return duplicates


VICTIMS = [
    "resolve", "enqueue", "qmgr", "local", "smtpd", "smtpd template", "smtpd worker",
    "supervisor", "spawner",
]  # fmt: skip


def test_whatever_is_killed_under_load_nothing_acknowledged_is_lost(running):
    """Each process in turn; between two, service must have resumed."""
    ledger = Ledger(running, "ada")
    with ledger.sending(2):
        for victim in VICTIMS:
            before = len(ledger.acknowledged)
            running.wait_for(lambda b=before: len(ledger.acknowledged) > b + 10, "load")
            kill(running, some(running, victim))
            if victim == "spawner":
                running.wait_for(lambda: not running.survivors(), "all end with the spawner")
                running.start(wait=False)  # what a service manager does
            after = len(ledger.acknowledged)
            running.wait_for(
                lambda a=after: len(ledger.acknowledged) > a + 10, f"service resumes after {victim}"
            )
            running.wait_for(lambda v=victim: named(running, v), f"a new {victim}")
    running.wait_for(lambda: not queued(running), "the queue is empty")
    duplicates = ledger.judge()
    print(f"{len(ledger.acknowledged)} acknowledged, {sum(duplicates.values())} duplicates")
    # Half-written chunks may have been set aside: none of them was ever acknowledged.
    assert all(name.endswith((".torn", ".damaged")) for name in set_aside(running))


# -- moments that matter --------------------------------------------------------------------------


def test_qmgr_killed_before_it_heard_of_a_message(running):
    qmgr = only(running, "qmgr")
    with stopped(running, qmgr):
        assert send(running, "unheard")[0] == 250
        assert queued(running)
        kill(running, qmgr)
    assert is_delivery_of(wait_delivered(running, "unheard"), letter("unheard"))
    running.wait_for(lambda: not queued(running), "the queue is empty")


def agents(running: Server, user: str) -> list[Process]:
    """The delivery agent of a user: as root known by its user id, else by its home."""
    found = named(running, "local")
    if os.geteuid() == 0:
        uid = os.stat(running.directory / "home" / user).st_uid
        found = [each for each in found if int(each.status("Uid")[0]) == uid]
    return found


def warm(running: Server, *users: str) -> None:
    """Every user has an agent, every route is known."""
    for user in users:
        token = insist(running, f"warm-{user}-{time.monotonic_ns()}", f"{user}@example.org")
        wait_delivered(running, token, user)


@pytest.mark.needs("root")
def test_an_agent_killed_with_a_delivery_in_its_hands(running):
    """One agent is stopped and gets a delivery; that it has it shows another user's, sent later."""
    warm(running, "ada", "bob")
    (agent,) = agents(running, "ada")
    with stopped(running, agent):
        assert send(running, "in-hand")[0] == 250
        assert send(running, "later", "bob@example.org")[0] == 250
        wait_delivered(running, "later", "bob")
        assert not copies(running, "ada", "in-hand")
        kill(running, agent)
    wait_delivered(running, "in-hand")
    running.wait_for(lambda: not queued(running), "the queue is empty")
    assert len(copies(running, "ada", "in-hand")) == 1


def test_agents_end_before_the_next_qmgr_starts(running):
    """An orphan would deliver what the next one delivers, too; even a stopped one is ended."""
    warm(running, "ada")
    qmgr, before = only(running, "qmgr"), named(running, "local")
    assert before
    with stopped(running, before[0]):
        os.kill(qmgr.pid, signal.SIGKILL)
        running.wait_for(
            lambda: [each for each in named(running, "qmgr") if each.pid != qmgr.pid], "a new qmgr"
        )
        assert not [each for each in before if each.alive()]
    running.wait_for(
        lambda: events(running, lambda e: e["event"] == "started" and e["process"] == only(
            running, "qmgr").pid), "the log says so"
    )  # fmt: skip
    order = [
        (event["event"], event["compartment"])
        for event in events(running, lambda e: e.get("compartment") in ("qmgr", "local"))
    ]
    last = len(order) - order[::-1].index(("ended", "qmgr"))
    assert ("started", "qmgr") in order[last:]
    warm(running, "ada")


def test_enqueue_killed_with_half_a_body_sets_the_torn_chunk_aside(running):
    aside, before = set(set_aside(running)), set(queued(running))
    with Client(running) as client:
        client.ready_for_data()
        client.send(letter("torn") + b"x" * 600_000 + b"\r\n")
        running.wait_for(
            lambda: any(
                (running.spool / "chunks" / name).stat().st_size for name in queued(running)
                if name not in before
            ), "half of it is on disk",
        )  # fmt: skip
        kill(running, only(running, "enqueue"))
        client.send(b"rest\r\n.\r\n")
        assert client.reply()[0] == 451
    running.wait_for(lambda: set(set_aside(running)) - aside, "it is set aside")
    (name,) = set(set_aside(running)) - aside
    assert name.endswith(".torn")
    running.wait_for(lambda: not queued(running), "the queue is empty")
    warm(running, "ada")
    assert not copies(running, "ada", "torn")


def test_enqueue_killed_between_end_of_data_and_answer_is_not_a_250(running):
    warm(running, "ada")
    enqueue = only(running, "enqueue")
    with Client(running) as client:
        assert client.code("EHLO client.example.net") == 250
        with stopped(running, enqueue):
            client.begin()
            client.send(letter("between") + b".\r\n")
            kill(running, enqueue)
        assert client.reply()[0] == 451
    warm(running, "ada")
    assert not copies(running, "ada", "between")


def test_resolve_killed_while_it_is_asked_is_a_451_and_the_next_try_succeeds(running):
    warm(running, "ada")
    resolve = only(running, "resolve")
    with Client(running) as client:
        assert client.code("EHLO client.example.net") == 250
        assert client.code("MAIL FROM:<x@example.net>") == 250
        with stopped(running, resolve):
            client.send(b"RCPT TO:<ada@example.org>\r\n")
            kill(running, resolve)
        assert client.reply()[0] == 451
    warm(running, "ada")


def test_a_worker_that_ignores_its_retirement_wins_no_connection_and_is_killed(running):
    """Its channel to the former resolve is dead, so it must go; it is stopped, and does not."""
    warm(running, "ada")
    running.wait_for(lambda: idle(running), "its parent knows that it is idle")
    stubborn = named(running, "smtpd worker")
    for each in stubborn:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each.pid, signal.SIGSTOP)
    stubborn = [each for each in stubborn if each.alive()]
    assert stubborn
    parent = only(running, "smtpd")
    before = len(parent.descriptors())
    kill(running, only(running, "resolve"))
    # Before it has heard of it, a worker may be given a last session, which it would never end.
    running.wait_for(lambda: len(parent.descriptors()) < before, "the parent retires them")
    with Client(running) as client:  # served by another, while these are still there
        assert client.code("EHLO client.example.net") == 250
        connected = connections(running)
        assert any(holds(each, connected) for each in named(running, "smtpd worker"))
        assert not any(holds(each, connected) for each in stubborn)
    warm(running, "ada")
    running.wait_for(lambda: not any(each.alive() for each in stubborn), "they are killed")
    said = events(running, lambda e: e["event"] == "worker ignored its retirement")
    assert {each.pid for each in stubborn} <= {event["worker"] for event in said}


def holds(process: Process, sockets: set[str]) -> bool:
    """Whether it has one of these open; nobody has who has ended."""
    with contextlib.suppress(OSError):
        return not sockets.isdisjoint(process.descriptors().values())
    return False


def idle(running: Server) -> bool:
    """Whether the pool has workers, and knows that all are idle."""
    busy = [row["busy"] for row in running.ps() if "busy" in row]
    return bool(busy) and not any(busy)


def test_everything_killed_at_once_and_started_anew_delivers_all(running):
    """As a power cut that spares the page cache."""
    running.wait_for(lambda: not queued(running), "the queue is empty")
    for process in named(running, "qmgr"):
        os.kill(process.pid, signal.SIGSTOP)
    tokens = [f"cut-{n}" for n in range(10)]
    for token in tokens:
        assert send(running, token)[0] == 250
    running.kill()
    assert len(queued(running)) == 10
    running.start()
    for token in tokens:
        wait_delivered(running, token)
    running.wait_for(lambda: not queued(running), "the queue is empty")
    assert running.stop() == 0
