"""What a running server asks of its kernel, every process under strace, held against the table.

One run with a little of everything: mail that is delivered, relayed, refused, reported, too large
for one write; operators; clients that are too many; deaths; a stop while clients are there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import trio
from nameserver import NameServer
from system.hops import next_hop, submit
from system.observe import (
    Client,
    empty,
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
from system.server import Server, server
from system.survey import STRACE, Survey, findings, unseen

from refmta.patterns.system_calls import NEEDS, REFUSED, Need
from refmta.patterns.system_calls import Test as Compared

pytestmark = [pytest.mark.needs("strace"), pytest.mark.timeout(900)]

CONFIGURATION = """
[relay]
networks = ["127.0.0.0/8"]
nameservers = ["{nameserver}"]
port = {named}
[retry]
minimum_s = 1
maximum_s = 1
[smtpd]
max_workers = 3
max_uses = 3
max_idle_s = 1
spare = 0
[limits]
agent_idle_s = 1
[relay.next_hops]
"remote.example" = "[127.0.0.1]:{honest}"
"closed.example" = "[127.0.0.1]:{closed}"
"nobody.example" = "[127.0.0.1]:1"
"""
ZONE = {
    ("dns.example.", "MX"): ["10 mx.dns.example."],
    ("mx.dns.example.", "A"): ["127.0.0.1"],
    ("cut.example.", "MX"): "truncated",
    ("cut.example.", "MX by TCP"): ["10 mx.dns.example."],
}
TORN = "06H06TY2DFR20W5S"


@contextlib.contextmanager
def name_server() -> Iterator[str]:
    """A name server in a thread; yields "ADDRESS:PORT"."""
    found: list[tuple[str, trio.lowlevel.TrioToken, trio.CancelScope]] = []
    ready = threading.Event()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            address = await nursery.start(NameServer(ZONE).serve)
            found.append((address, trio.lowlevel.current_trio_token(), nursery.cancel_scope))
            ready.set()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    assert ready.wait(30)
    address, token, scope = found[0]
    try:
        yield address
    finally:
        token.run_sync_soon(scope.cancel)
        thread.join()


@contextlib.contextmanager
def under_strace(running: Server, record: Path) -> Iterator[None]:
    """The server runs, and each of its processes has a file in `record`."""
    record.mkdir()
    with running.log.open("ab") as log:
        running.process = subprocess.Popen(
            [*STRACE, "-o", str(record / "calls"),
             *running.command("serve", "-c", str(running.config))],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=running.directory,
        )  # fmt: skip
    running.wait_for(running.serving, "the server serves")
    yield
    if running.process.poll() is None:
        assert running.stop() == 0


# -- the run --------------------------------------------------------------------------------------


def kill(running: Server, name: str) -> None:
    victim = some(running, name)
    os.kill(victim.pid, signal.SIGKILL)
    running.wait_for(lambda: not victim.alive(), f"{name} is gone")


def mail_of_all_kinds(running: Server) -> None:
    """Delivered, relayed, refused by the next hop and reported, large, to two users."""
    assert send(running, "one")[0] == 250
    wait_delivered(running, "one")
    leftover = running.maildir("ada").parent / "tmp" / f"1.Q{TORN}R0.mx.example.org"
    leftover.write_bytes(b"of an agent that died")
    owner = leftover.parent.stat()
    os.chown(leftover, owner.st_uid, owner.st_gid)
    with Client(running) as client:
        client.ready_for_data("bob@example.org")
        client.send(letter("large", (b"x" * 70 + b"\r\n") * 40_000) + b".\r\n")
        assert client.reply()[0] == 250
        assert client.code("RCPT TO:<eve@example.org>") == 503
        assert client.code("MAIL FROM:<x@example.net>") == 250
        assert client.code("RCPT TO:<stranger@example.org>") == 550
    for token, recipient in (
        ("relayed", "kim@remote.example"), ("refused", "kim@closed.example"),
        ("waits", "kim@nobody.example"), ("named", "kim@dns.example"),
        ("truncated", "kim@cut.example"),
    ):  # fmt: skip
        submit(running, token, recipient, sender="ada@example.org")
    together(running)
    running.wait_for(
        lambda: any(b"multipart/report" in each for each in running.delivered("ada")),
        "the refusal is reported",
    )
    running.wait_for(lambda: len(queued(running)) == 1, "one waits")


def together(running: Server) -> None:
    """Three messages that end at once: one group."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(running)) for _ in range(3)]
        for each in clients:
            each.ready_for_data()
        with stopped(running, only(running, "enqueue")):
            for number, each in enumerate(clients):
                each.send(letter(f"together-{number}") + b".\r\n")
        assert [each.reply()[0] for each in clients] == [250] * 3


def leave_damage(running: Server) -> None:
    """What a crash, and somebody else, may have left: a torn chunk, and a file of another user."""
    chunks = running.spool / "chunks"
    owner = chunks.stat()
    for name, uid, gid in ((TORN, owner.st_uid, owner.st_gid), ("foreign", 0, 0)):
        (chunks / name).write_bytes(b"torn")
        if os.geteuid() == 0:
            os.chown(chunks / name, uid, gid)


def damage(running: Server) -> None:
    """A message whose content changes on the disk is set aside."""
    with stopped(running, only(running, "qmgr")):
        queue_id = send(running, "spoilt")[1].rpartition(" ")[2]
        chunk = running.spool / "chunks" / queue_id
        chunk.write_bytes(chunk.read_bytes().replace(b"spoilt", b"SPOILT"))
    running.wait_for(lambda: any(queue_id in each for each in set_aside(running)), "set aside")


def operators(running: Server) -> None:
    """Every command that asks or orders."""
    assert running.ps()
    (waiting,) = running.queue()
    with (running.spool / "chunks" / waiting["queue_id"]).open("ab") as chunk:
        chunk.write(b"a mark that was cut off")
    for verb in ("show", "hold", "release", "retry", "remove"):
        assert running.run("queue", verb, waiting["queue_id"]).returncode == 0
    running.wait_for(lambda: empty(running), "the queue is empty")


def deaths(running: Server) -> None:
    """Each compartment dies once, and mail is delivered afterwards; one is held for a while."""
    with stopped(running, only(running, "enqueue")):
        pass
    for name in ("smtpd worker", "enqueue", "resolve", "qmgr", "smtpd template", "supervisor"):
        with Client(running) as client:  # as long as it is there, there is a worker
            assert client.code("EHLO client.example.net") == 250
            assert client.deliver(name.replace(" ", "-"))[0] == 250
            kill(running, name)
        running.wait_for(lambda: accepts(running, "ada@example.org"), f"mail after {name}")


def accepts(running: Server, recipient: str) -> bool:
    """Whether a whole transaction succeeds now."""
    with contextlib.suppress(OSError, AssertionError):
        return send(running, "after", recipient)[0] == 250
    return False


def crowd(running: Server) -> None:
    """More clients than workers; those that are served stay until the server stops."""
    clients = [Client(running, greeted=False) for _ in range(6)]
    running.wait_for(lambda: len(named(running, "smtpd worker")) == 3, "all workers are busy")
    assert running.process is not None
    assert running.stop() == 0
    for each in clients:
        each.close()


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that strace wrote to."""
    directory = tmp_path_factory.mktemp("calls")
    record = directory / "record"
    with (
        name_server() as address,
        next_hop(directory) as honest,
        next_hop(directory, "5yz-at-rcpt") as closed,
    ):
        extra = CONFIGURATION.format(
            nameserver=address, named=honest.port, honest=honest.port, closed=closed.port
        )
        with (
            server(directory / "s", extra=extra, start=False) as running,
            under_strace(running, record),
        ):
            leave_damage(running)
            kill(running, "supervisor")
            running.wait_for(lambda: accepts(running, "ada@example.org"), "all has begun anew")
            mail_of_all_kinds(running)
            operators(running)
            damage(running)
            deaths(running)
            crowd(running)
    return record


@pytest.fixture(scope="module")
def survey(record: Path) -> Survey:
    return Survey(record)


# -- what it shows --------------------------------------------------------------------------------


def told(survey: Survey, needs: Iterable[Need]) -> list[str]:
    """What no row allows, a line each."""
    return [
        f"{phase}: {made.name} {dict(made.arguments)}"
        for phase, made in findings(survey.phases(), needs)
    ]


#: Every part must have been there, or the run shows nothing about it.
PARTS = {
    "spawner", "supervisor", "starting", "enqueue", "qmgr", "local", "resolve", "bounce",
    "accounts", *(f"{pool} {part}" for pool in ("smtpd", "remote")
                  for part in ("parent", "template", "worker")),
}  # fmt: skip


def test_every_part_of_the_server_was_seen(survey: Survey):
    missing = PARTS - set(survey.phases())
    assert missing <= (set() if os.geteuid() == 0 else {"accounts"})


def test_each_compartment_proved_that_its_filter_is_there(survey: Survey):
    lives = [each for each in survey.lives.values() if each.filtered and each.program]
    without = [each.program for each in lives if each.proofs == 0 and each.program != "spawner"]
    assert lives and without == []


def test_no_process_makes_a_call_that_the_table_does_not_allow(survey: Survey):
    assert told(survey, (*NEEDS, *REFUSED)) == []


@pytest.mark.needs("root")  # without it there is less to do
def test_what_the_run_does_not_need_says_why_it_is_listed(survey: Survey):
    rows = [(row.names, kind) for row, kind in unseen(survey.phases(), NEEDS) if not row.unseen]
    assert rows == []


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        ("fsync", "qmgr"), ("getrandom", "smtpd template"), ("connect", "remote worker"),
        ("recvmsg", "supervisor"), ("wait4", "spawner"), ("chroot", "starting"),
        ("renameat", "local"), ("accept4", "smtpd parent"), ("pread64", "bounce"),
    ],
)  # fmt: skip
def test_a_table_without_one_of_its_calls_is_found_out_by_name(survey: Survey, name, phase):
    shorter = [row for row in NEEDS if name not in row.names.split()]
    found = told(survey, (*shorter, *REFUSED))
    assert f"{phase}: {name}" in " ".join(found)
    assert all(f": {name} " in each for each in found if not each.startswith("starting"))


def test_a_table_that_allows_other_arguments_is_found_out_by_name(survey: Survey):
    """fork(3) with the flags of a thread; a socket of another family."""
    changed = [
        row._replace(tests=((Compared(0, 40),),)) if row.names == "socket" else row for row in NEEDS
    ]
    assert any(each.startswith("remote worker: socket") for each in told(survey, changed))


def test_a_call_that_a_process_should_not_make_is_found_out(
    survey: Survey, record: Path, tmp_path: Path
):
    """One line more in the record of qmgr: it connects."""
    copy = tmp_path / "record"
    shutil.copytree(record, copy)
    pid = next(each.pid for each in survey.lives.values() if "qmgr" in each.made)
    with (copy / f"calls.{pid}").open("a") as file:
        file.write("connect(0x7, 0x7ffc0, 0x10) = 0\n")
    assert told(Survey(copy), (*NEEDS, *REFUSED)) == ["qmgr: connect {}"]
