"""A disk that is full or fails: the true reply, nothing half-kept, and service when it is mended.

The file systems are tmpfs of a few MB, mounted before the server starts (it may live in a mount
namespace of its own) and unmounted after it has ended.  Failing syncs come from strace.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from system.observe import (
    Client,
    Process,
    copies,
    empty,
    events,
    is_delivery_of,
    letter,
    named,
    only,
    queued,
    send,
    set_aside,
    wait_delivered,
)
from system.server import FIRST_RECIPIENT, PATIENCE_S, Server, server

SPOOL_OCTETS = 8 << 20
pytestmark = pytest.mark.needs("root")


@contextlib.contextmanager
def mounted(path: Path, options: str) -> Iterator[None]:
    path.mkdir(exist_ok=True, parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """The spool and ada's home are small file systems of their own."""
    if os.geteuid() != 0:  # made before a test says what it needs
        yield None
        return
    directory = tmp_path_factory.mktemp("disk") / "s"
    ada = f"mode=0700,uid={FIRST_RECIPIENT},gid={FIRST_RECIPIENT},size=2m"
    with contextlib.ExitStack() as stack:
        stack.enter_context(mounted(directory / "spool", f"mode=0711,size={SPOOL_OCTETS}"))
        running = stack.enter_context(server(directory, start=False))
        stack.enter_context(mounted(directory / "home" / "ada", ada))
        running.start()
        room = free(running.spool)
        try:
            assert send(running, "before")[0] == 250
            wait_delivered(running, "before")
            running.wait_for(lambda: free(running.spool) == room, "nothing is left of it")
            yield running
        finally:
            running.kill()  # before the file systems go


def free(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_bsize


@contextlib.contextmanager
def filled(directory: Path, *, leaving: int) -> Iterator[None]:
    """A ballast in the way, so that only so many octets are free."""
    ballast = directory / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free(directory) - leaving)
    assert free(directory) == leaving
    try:
        yield
    finally:
        ballast.unlink()


def offer(client: Client, token: str, body: bytes) -> tuple[int, str]:
    client.begin()
    client.send(letter(token, body) + b".\r\n")
    return client.reply()


BODIES = {"nothing free": (0, b"small\r\n"), "half of it fits": (1 << 20, b"x" * 77 + b"\r\n")}


@pytest.mark.parametrize("case", BODIES)
def test_a_full_spool_is_a_452_and_nothing_stays_of_the_message(running, case):
    leaving, line = BODIES[case]
    body = line * (3_000_000 // len(line) if leaving else 1)
    room = free(running.spool)
    with Client(running) as client:
        assert client.code("EHLO client.example.net") == 250
        with filled(running.spool, leaving=leaving):
            for _ in range(2):
                code, text = offer(client, "full", body)
                assert (code, text[:5]) == (452, "4.3.1")
                running.wait_for(lambda: not queued(running), "no chunk is left")
                running.wait_for(lambda: free(running.spool) == leaving, "all its room is free")
        # The same session, and the space is there again.
        code, _ = offer(client, f"fits-{bool(leaving)}", b"y\r\n" * 1000)
        assert code == 250
    wait_delivered(running, f"fits-{bool(leaving)}")
    running.wait_for(lambda: free(running.spool) == room, "nothing is left of it")
    assert not copies(running, "ada", "full")
    assert not set_aside(running)
    said = events(running, lambda e: e["event"] == "refused: disk")
    assert said[-1]["reason"] == "No space left on device"
    assert str(said[-1]["path"]).startswith(f"{running.spool}/chunks/")


def test_small_messages_go_on_while_a_large_one_finds_no_room(running):
    with filled(running.spool, leaving=1 << 20), Client(running) as large:
        large.ready_for_data("bob@example.org")
        large.send(letter("large") + b"x" * 3_000_000 + b"\r\n")
        assert send(running, "small", "bob@example.org")[0] == 250
        wait_delivered(running, "small", "bob")
        large.send(b".\r\n")
        assert large.reply()[0] == 452
    assert not copies(running, "bob", "large")


def test_a_full_mailbox_defers_with_the_reason_and_is_delivered_later(running):
    home = running.directory / "home" / "ada"
    body = b"z" * 998 + b"\r\n"
    with filled(home, leaving=0), Client(running) as client:
        assert client.code("EHLO client.example.net") == 250
        code, text = offer(client, "mailbox-full", body * 20)
        assert code == 250
        queue_id = text.rpartition(" ")[2]
        running.wait_for(
            lambda: events(running, lambda e: e["event"] == "deferred"
                           and e["queue_id"] == queue_id), "it is deferred",
        )  # fmt: skip
        row = json.loads(running.run("queue", "show", "--json", queue_id).stdout)
        (recipient,) = row["recipients"]
        assert recipient["code"] == "4.2.2"
        assert recipient["text"] == "Maildir: No space left on device"
        assert not os.listdir(home / "Maildir" / "tmp")
        # The queue is not ada's: others' mail goes on.
        assert send(running, "bob-goes-on", "bob@example.org")[0] == 250
        wait_delivered(running, "bob-goes-on", "bob")
    assert running.run("queue", "retry", queue_id).returncode == 0
    assert is_delivery_of(
        wait_delivered(running, "mailbox-full"), letter("mailbox-full", body * 20)
    )
    running.wait_for(lambda: empty(running), "the queue is empty")


# -- failing syncs --------------------------------------------------------------------------------


@contextlib.contextmanager
def failing(running: Server, process: Process, injection: str) -> Iterator[Path]:
    """strace attached to a process while the block runs; yields its record."""
    record = running.directory / "strace"
    record.write_text("")
    command = ["strace", "-qq", "-f", "-e", "trace=fsync", "-e", f"inject={injection}"]
    tracer = subprocess.Popen([*command, "-o", str(record), "-p", str(process.pid)])
    try:
        running.wait_for(lambda: process.status("TracerPid") != ["0"], "strace is attached")
        yield record
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(PATIENCE_S)


#: Which fsync of the message fails: its file's, or that of the directory.
SYNCS = {"of the file": 1, "of the directory": 2}


@pytest.mark.needs("strace")
@pytest.mark.parametrize("which", SYNCS)
def test_a_failed_sync_is_a_451_and_never_a_250(running, which):
    enqueue = only(running, "enqueue")
    token = "unsynced-" + which.rpartition(" ")[2]
    with (
        failing(running, enqueue, f"fsync:error=EIO:when={SYNCS[which]}") as record,
        Client(running) as client,
    ):
        assert client.code("EHLO client.example.net") == 250
        code, text = client.deliver(token)
        assert (code, text[:5]) == (451, "4.3.0")
        assert record.read_text().count("INJECTED") == 1
        # The client sends it again, and this time it is kept: the failed sync is not retried.
        assert client.deliver(f"{token}-again")[0] == 250
        assert record.read_text().count("INJECTED") == 1
    wait_delivered(running, f"{token}-again")
    running.wait_for(lambda: empty(running), "the queue is empty")
    assert not copies(running, "ada", token)
    said = events(running, lambda e: e["event"] == "refused: disk")
    assert said[-1]["reason"] == "Input/output error"


@pytest.mark.needs("strace")
def test_a_failed_sync_of_a_mailbox_defers_and_nothing_is_lost_or_left_behind(running):
    """The agent's fsync fails: no 'delivered', no copy left in tmp/."""
    assert send(running, "agent-up")[0] == 250
    wait_delivered(running, "agent-up")
    running.wait_for(lambda: empty(running), "the agent has done with it")
    agent = next(
        each for each in named(running, "local") if each.status("Uid")[0] == str(FIRST_RECIPIENT)
    )
    with failing(running, agent, "fsync:error=EIO:when=1"):
        queue_id = send(running, "agent-unsynced")[1].rpartition(" ")[2]
        running.wait_for(
            lambda: events(running, lambda e: e["event"] == "deferred"
                           and e["queue_id"] == queue_id), "it is deferred",
        )  # fmt: skip
    assert queued(running) == [queue_id]
    assert not os.listdir(running.directory / "home" / "ada" / "Maildir" / "tmp")
    assert not copies(running, "ada", "agent-unsynced")
    assert running.run("queue", "retry", queue_id).returncode == 0
    wait_delivered(running, "agent-unsynced")
