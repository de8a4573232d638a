"""The trace of a running server, every process under strace, judged by the spec; then mutated.

Two runs: a quiet one, of whose trace no event may be removed, doubled or moved, nor any sync of its
system calls; and one in which processes of every role are killed while mail flows, which must be
accepted as it is.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from system.hops import listens
from system.observe import copies, empty, letter, named
from system.server import PATIENCE_S, Server, free_port, server

from specs.command import main
from specs.kernel.accept import accept, read_events
from specs.kernel.lives import Event
from specs.queue.durable import DURABLE, SYSTEM_CALLS, match_syncs
from specs.queue.trace import QueueTrace

pytestmark = pytest.mark.needs("root", "strace")

RELAYING = """
[domains."example.org".aliases]
team = ["ada@example.org", "bob@example.org"]
[relay]
networks = ["127.0.0.0/8"]
next_hops = {{ "remote.example" = "[127.0.0.1]:{port}" }}
timeout_factor = 0.1
[retry]
minimum_s = 1
maximum_s = 2
"""


@dataclass(frozen=True)
class Run:
    """What is left of a server: its trace, and the system calls of each of its processes."""

    trace: Path
    calls: Path

    def events(self) -> list[Event]:
        return read_events(self.trace.read_text().splitlines())

    def lines(self, pid: int) -> list[str] | None:
        file = Path(f"{self.calls}.{pid}")
        return file.read_text(errors="replace").splitlines() if file.exists() else None


@contextlib.contextmanager
def under_strace(directory: Path, behaviour: str) -> Iterator[tuple[Server, Run]]:
    """A server with a trace, all of its processes under strace, and a next hop."""
    run, port = Run(directory / "trace", directory / "calls"), free_port()
    hop = [sys.executable, "-m", "faultinject.network.next_hop", "--port", str(port)]
    strace = ["strace", "-D", "-ff", "-y", "-s", "300", "-e", f"trace={SYSTEM_CALLS}"]
    with server(directory / "s", extra=RELAYING.format(port=port), start=False) as running:
        serve = running.command("serve", "-c", str(running.config), "--trace", str(run.trace))
        with running.log.open("ab") as log:
            next_hop = subprocess.Popen([*hop, "--behaviour", behaviour], stdout=log, stderr=log)
            running.process = subprocess.Popen(
                [*strace, "-o", str(run.calls), *serve],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=running.directory,
            )  # fmt: skip
        try:
            running.wait_for(running.serving, "the server serves")
            running.wait_for(lambda: listens(port), "the next hop listens")
            yield running, run
        finally:
            next_hop.kill()
            next_hop.wait()


def submit(running: Server, token: str, sender: str, *recipients: str, octets: int = 10) -> str:
    """One message over a connection of its own; the code of its end, or what happened instead."""
    try:
        with smtplib.SMTP("127.0.0.1", running.port, timeout=PATIENCE_S) as client:
            client.ehlo("client.example.net")
            client.mail(sender)
            for each in recipients:
                client.rcpt(each)
            body = b"x" * 70 + b"\r\n"
            return str(client.data(letter(token, body * (octets // 72 + 1)))[0])
    except (smtplib.SMTPException, OSError) as error:
        return type(error).__name__


# -- a quiet run ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Local, remote, aliases, a mailbox named twice, a large one, a failure and its report."""
    directory = tmp_path_factory.mktemp("quiet")
    with under_strace(directory, "mixed-recipients") as (running, run):
        mail = [
            ("one", ["ada@example.org"], 10),
            ("two", ["ada@example.org", "bob@example.org"], 10),
            ("twice", ["team@example.org", "ada@example.org"], 10),
            ("large", ["bob@example.org"], 3_000_000),
            ("remote", [f"{each}@remote.example" for each in "xyz"], 10),
        ]
        for token, recipients, octets in mail:
            code = submit(running, token, "ada@example.org", *recipients, octets=octets)
            assert code == "250"
        running.wait_for(lambda: reports(running), "the report is delivered")
        running.wait_for(lambda: empty(running), "the queue is empty")
        assert len(copies(running, "bob", "twice")) == 1
        assert running.stop() == 0
    return run


def reports(running: Server) -> list[bytes]:
    return [each for each in running.delivered("ada") if b"multipart/report" in each]


def test_the_trace_is_accepted_and_its_syncs_are_seen(quiet: Run) -> None:
    found = CliRunner().invoke(
        main, ["accept", "queue", str(quiet.trace), "--strace", str(quiet.calls)]
    )
    assert found.exit_code == 0, found.output
    assert found.output.strip().endswith("accepted")
    actions = {event.action for event in quiet.events()}
    assert actions >= DURABLE | {"remote.sent", "bounce.reported", "smtpd.replied", "qmgr.freed"}


def numbered(events: list[Event]) -> list[Event]:
    """The same, with numbers that have no gap: a removal that only the spec can see."""
    counts: dict[int, int] = {}
    found = []
    for event in events:
        counts[event.pid] = counts.get(event.pid, 0) + 1
        found.append(
            Event(
                pid=event.pid,
                sequence=counts[event.pid],
                action=event.action,
                fields=event.fields,
            )
        )
    return found


def ended_in_a_delivery(events: list[Event], place: int) -> bool:
    """Whether what was dispatched here was delivered. Otherwise it could be resolve's refusal, or
    its deferral, which nobody is dispatched for.
    """
    recipient = [events[place].fields.get(name) for name in ("queue_id", "index")]
    actions = [
        event.action
        for event in events[place + 1 :]
        if [event.fields.get(name) for name in ("queue_id", "index")] == recipient
    ]
    return bool(actions) and actions[0] in {"local.delivered", "remote.sent"}


def test_no_event_may_be_removed(quiet: Run) -> None:
    """With a gap in the numbers; and without one, if it says that something was done."""
    events = quiet.events()
    places = [n for n, event in enumerate(events) if event.fields.get("queue_id")]
    assert len(places) > 30
    for place in places:
        event, rest = events[place], [*events[:place], *events[place + 1 :]]
        gap = accept(QueueTrace(), rest).refusals
        if any(each.pid == event.pid and each.sequence > event.sequence for each in events):
            assert any(each.rule == "numbers" for each in gap), event
        harmless = event.action == "qmgr.deferred" or (
            event.action == "qmgr.dispatched" and not ended_in_a_delivery(events, place)
        )
        assert harmless or not accept(QueueTrace(), numbered(rest)).accepted, event


def test_no_event_may_be_doubled(quiet: Run) -> None:
    events = quiet.events()
    for place, event in enumerate(events):
        if event.fields.get("queue_id") and event.action != "qmgr.deferred":
            doubled = numbered([*events[:place], event, *events[place:]])
            assert not accept(QueueTrace(), doubled).accepted, event
        if event.fields.get("queue_id"):
            assert not accept(QueueTrace(), [*events, event]).accepted, event


def test_a_cut_trace_is_refused_unless_the_server_was_running(quiet: Run, tmp_path: Path) -> None:
    lines = quiet.trace.read_text().splitlines()
    place = next(n for n, line in enumerate(lines) if "smtpd.replied" in line)
    cut = tmp_path / "cut"
    cut.write_text("\n".join(lines[:place]) + "\n")
    assert CliRunner().invoke(main, ["accept", "queue", str(cut)]).exit_code == 1
    running = CliRunner().invoke(main, ["accept", "queue", str(cut), "--running"])
    assert running.exit_code == 0, running.output


def syncs(lines: list[str]) -> list[int]:
    """Places of the syncs that a durability event may rely on."""
    return [
        n
        for n, line in enumerate(lines)
        if line.startswith("fsync(")
        and line.endswith(" = 0")
        and ("chunks" in line or "/new" in line)
    ]


def test_no_sync_may_be_missing_or_come_too_late(quiet: Run) -> None:
    """Dropped, failed, or moved behind the event: of the queue's files, and of mailboxes."""
    events = quiet.events()
    tried = 0
    for pid in {event.pid for event in events if event.action in DURABLE}:
        lines = quiet.lines(pid)
        assert lines is not None
        for place in syncs(lines):
            said = next((n for n in range(place, len(lines)) if is_durability(lines[n])), None)
            if said is None or not is_needed(lines, place, said):
                continue
            rest = [*lines[:place], *lines[place + 1 :]]
            failed = lines[place].replace(" = 0", " = -1 EIO (Input/output error)")
            for mutated in (
                rest,
                [*rest[:said], lines[place], *rest[said:]],
                [*lines[:place], failed, *lines[place + 1 :]],
            ):
                tried += 1
                assert refused(quiet, events, pid, mutated), f"{pid}: {lines[place]}"
    assert tried >= 30


def is_durability(line: str) -> bool:
    return line.startswith("write(") and any(action in line for action in DURABLE)


def is_needed(lines: list[str], place: int, said: int) -> bool:
    """Whether no other sync of this file comes before the event: a large body is synced twice."""
    return not any(
        other.partition("<")[2] == lines[place].partition("<")[2]
        for other in [*lines[max(0, place - 40) : place], *lines[place + 1 : said]]
        if other.startswith("fsync(") and "chunks>" not in other and "/new>" not in other
    )


def refused(run: Run, events: list[Event], pid: int, mutated: list[str]) -> bool:
    found = match_syncs(events, lambda each: mutated if each == pid else run.lines(each))
    return any(each.rule in {"file_synced", "directory_synced"} for each in found.unproved)


# -- a run with kills -----------------------------------------------------------------------------

ROLES = ("enqueue", "qmgr", "local", "smtpd worker", "remote", "bounce", "supervisor", "smtpd")
RECIPIENTS = (
    ("ada@example.org",),
    ("team@example.org", "bob@example.org"),
    ("x@remote.example", "ada@example.org"),
    ("x@remote.example", "y@remote.example", "z@remote.example"),
)


def test_a_run_with_kills_is_accepted(tmp_path: Path) -> None:
    chance = random.Random(7)
    with under_strace(tmp_path, "mixed-recipients") as (running, run):
        with ThreadPoolExecutor(4) as clients:
            sending: list[Future[str]] = []
            for round_ in range(12):
                for number in range(4):
                    token = f"t{round_}-{number}"
                    recipients = chance.choice(RECIPIENTS)
                    sending.append(
                        clients.submit(submit, running, token, "ada@example.org", *recipients)
                    )
                kill(running, ROLES[round_ % len(ROLES)])
                running.wait_for(lambda: sum(not each.done() for each in sending) < 4, "replies")
        answered = sum(each.result() == "250" for each in sending)
        assert answered > 12
        running.wait_for(lambda: empty(running), "the queue is empty")
        assert running.stop() == 0
    found = CliRunner().invoke(
        main, ["accept", "queue", str(run.trace), "--strace", str(run.calls)]
    )
    assert found.exit_code == 0, found.output
    deaths = [each for each in run.events() if each.action.endswith(".ended")]
    assert any(each.fields["status"] == "-9" for each in deaths)


def kill(running: Server, name: str) -> None:
    """One process of that name, if there is one now."""
    for process in named(running, name)[:1]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
