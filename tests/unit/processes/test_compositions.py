"""Whole servers in one real process each, of the roles that every architecture has.

    resident   sendmail X's and Postfix's way: a compartment with many roles, many clients at once
    monolith   sendmail's way: a worker that is a server; a process per connection, which ends when
               what came by it is delivered

Control: a worker that says that its session is over before the delivery is.
"""

from __future__ import annotations

import json
import os
import signal
import smtplib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import trio

from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes.channels import SocketChannel, socket_pair
from refmta.roles import accounts, bounce, enqueue, local, qmgr, resolve, smtpd
from refmta.stores.recipients import Known, Recipients
from refmta.wire.messages import Configure, Drain, Idle, Link, Ready, Session

BEHIND = ("qmgr", "resolve", "accounts", "local", "bounce", "enqueue")
WITHIN = (
    ("smtpd", "enqueue"), ("smtpd", "resolve"), ("enqueue", "qmgr"), ("qmgr", "resolve"),
    ("qmgr", "local"), ("qmgr", "bounce"), ("bounce", "enqueue"), ("resolve", "accounts"),
)  # fmt: skip

PROGRAM = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
import refmta.processes.no_helpers
from refmta.architectures.enter import members
from refmta.patterns.trust_partitioning import border
from refmta.processes import compartment, worker
from refmta.processes.channels import adopt
from refmta.processes.within import Within
from refmta.roles import accounts, bounce, enqueue, local, qmgr, resolve, smtpd
import trio

BEHIND, WITHIN = {behind!r}, {within!r}
modules = {{each: globals()[each] for each in BEHIND}}
{control}
if sys.argv[2] == "resident":
    compartment.main(members({{"smtpd": smtpd, **modules}}), WITHIN)
else:
    pooled = worker.Pooled(
        role="smtpd", converse=smtpd.converse, standby=members(modules), within=WITHIN
    )
    slice_ = open(0, "rb").read()
    trio.run(worker.work, pooled, slice_, adopt(3, border("worker", "pool")))
"""
HASTY = """
async def settled(self, stopping):
    os.write(2, b'{"event": "__mutant_ran__"}\\n')
Within.settled = settled
"""


def slices(directory: Path, *, keeps: bool) -> dict[str, bytes]:
    spool = directory / "spool"
    for each in ("chunks", "damaged"):
        (spool / each).mkdir(parents=True, exist_ok=True)
    home = directory / "ada"
    home.mkdir(exist_ok=True)
    known = {"ada": Known(os.getuid(), os.getgid(), str(home))}
    given: dict[str, msgspec.Struct] = {
        "smtpd": smtpd.Slice(
            hostname="mx.example.org", message_octets=10**6, recipients=10, errors=5,
            command_s=60, data_s=60, verdict_s=60, stress_s=60, connections_per_client=5,
        ),
        "enqueue": enqueue.Slice(
            spool=str(spool), hostname="mx.example.org", message_octets=10**6, keeps=keeps
        ),
        "qmgr": qmgr.Slice(spool=str(spool), hostname="mx.example.org", agents="shared"),
        "resolve": resolve.Slice(
            hostname="mx.example.org", postmaster="ada@example.org", users=("ada",),
            domains={"example.org": resolve.DomainSlice(system_users=True)},
        ),
        "accounts": accounts.Slice(),
        "local": local.Slice(
            hostname="mx.example.org", all_users=True,
            recipients=Recipients(users=known, rootless=True),
        ),
        "bounce": bounce.Slice(hostname="mx.example.org"),
    }  # fmt: skip
    return {role: msgspec.msgpack.encode(each) for role, each in given.items()}


@dataclass
class Running:
    """A process, and the other end of its channel."""

    process: subprocess.Popen[bytes]
    channel: Channel
    directory: Path

    def delivered(self) -> list[str]:
        found = (self.directory / "ada").glob("**/new/*")
        return sorted(each.read_text().partition("\n\n")[2] for each in found)

    def queued(self) -> int:
        return len(list((self.directory / "spool/chunks").iterdir()))

    def lines(self) -> list[dict[str, str]]:
        assert self.process.stderr is not None
        return [json.loads(each) for each in self.process.stderr.read().splitlines()]

    async def exit(self) -> int:
        with trio.fail_after(60):
            return await trio.to_thread.run_sync(self.process.wait, abandon_on_cancel=True)


@asynccontextmanager
async def running(
    directory: Path, kind: str, given: dict[str, bytes], control: str = ""
) -> AsyncIterator[Running]:
    ours, theirs = socket_pair()
    text = PROGRAM.format(behind=BEHIND, within=WITHIN, control=control)
    process = subprocess.Popen(
        [sys.executable, "-c", text, str(theirs.fileno()), kind],
        pass_fds=[theirs.fileno()], stdin=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    theirs.close()
    assert process.stdin is not None
    if kind == "monolith":
        process.stdin.write(given["smtpd"])
    process.stdin.close()
    side = border("pool", "worker") if kind == "monolith" else border("supervisor", "compartment")
    channel = SocketChannel(ours, side)
    try:
        for role, slice_ in given.items():
            if kind == "resident" or role != "smtpd":
                channel.post(Configure(role=role, slice=slice_))
        await channel.flush()
        yield Running(process, channel, directory)
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
        channel.close()


def send(session: smtplib.SMTP, text: str, to: str = "ada@example.org") -> None:
    session.sendmail("x@example.net", [to], f"Subject: {text}\r\n\r\n{text}\r\n")


# -- one process that stays -----------------------------------------------------------------------


@asynccontextmanager
async def resident(directory: Path) -> AsyncIterator[tuple[Running, int]]:
    """The server, and its port."""
    async with running(directory, "resident", slices(directory, keeps=True)) as it:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            it.channel.post(Link(role="smtpd", port="listener"), os.dup(listener.fileno()))
            await it.channel.flush()
        with trio.fail_after(60):
            assert [each.message for each in await it.channel.receive()] == [Ready()]
        yield it, port


async def test_one_process_serves_many_clients_at_once_and_drains(tmp_path: Path):
    async with resident(tmp_path) as (it, port):

        def talk() -> None:
            sessions = [smtplib.SMTP("127.0.0.1", port, timeout=60) for _ in range(5)]
            with pytest.raises(smtplib.SMTPConnectError, match="too many connections"):
                smtplib.SMTP("127.0.0.1", port, timeout=60)
            for number, each in enumerate(sessions):
                each.ehlo()
                send(each, f"letter {number}")
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                send(sessions[0], "to nobody", "nobody-of-that-name@example.org")
            for each in sessions[1:]:
                each.quit()
            again = smtplib.SMTP("127.0.0.1", port, timeout=60)  # there is room again
            send(again, "letter 5")
            again.quit()
            trio.from_thread.run(drain)
            code, _ = sessions[0].getreply()  # nobody asked: who is here is told
            assert code == 421
            sessions[0].close()

        async def drain() -> None:
            it.channel.post(Drain())
            await it.channel.flush()

        await trio.to_thread.run_sync(talk)
        assert await it.exit() == 0
        assert it.delivered() == [f"letter {number}\n" for number in range(6)]
        assert it.queued() == 0


# -- a process per connection ---------------------------------------------------------------------


@dataclass
class Connection:
    """A client of a worker that is a whole server."""

    running: Running
    client: smtplib.SMTP

    async def end(self) -> list[object]:
        """What the worker says to its parent after the session."""
        await trio.to_thread.run_sync(self.client.quit)
        with trio.fail_after(60):
            return [each.message for each in await self.running.channel.receive()]


@asynccontextmanager
async def connected(directory: Path, control: str = "") -> AsyncIterator[Connection]:
    given = slices(directory, keeps=False)
    async with running(directory, "monolith", given, control) as it:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            client = smtplib.SMTP(timeout=60)

            def connect() -> None:
                client.connect("127.0.0.1", port)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, connect)
                connection, address = await trio.to_thread.run_sync(listener.accept)
                session = Session(client=address[0], port=address[1])
                it.channel.post(session, connection.detach())
                await it.channel.flush()
        yield Connection(it, client)
        client.close()


async def test_a_session_ends_when_all_that_came_by_it_is_delivered(tmp_path: Path):
    async with connected(tmp_path) as it:
        for number in range(20):
            await trio.to_thread.run_sync(send, it.client, f"letter {number:02}")
        assert await it.end() == [Idle()]
        assert it.running.delivered() == [f"letter {number:02}\n" for number in range(20)]
        assert it.running.queued() == 0
        it.running.channel.close()
        assert await it.running.exit() == 0


#: Slow enough for a hasty worker to show: local waits before each delivery.
SLOW = """
serve = local.Local.serve
async def later(self, *arguments):
    await trio.sleep(3)
    await serve(self, *arguments)
local.Local.serve = later
"""


async def delivered_when_it_says_so(directory: Path, control: str = "") -> list[str]:
    """What is in the mailbox when the worker of a slow server says Idle."""
    async with connected(directory, SLOW + control) as it:
        await trio.to_thread.run_sync(send, it.client, "slow")
        assert await it.end() == [Idle()]
        delivered = it.running.delivered()
        it.running.channel.close()
        assert await it.running.exit() == 0
        ran = any(line["event"] == "__mutant_ran__" for line in it.running.lines())
        assert ran == bool(control)
        return delivered


async def test_a_session_lasts_as_long_as_its_deliveries(tmp_path: Path):
    assert await delivered_when_it_says_so(tmp_path) == ["slow\n"]


async def test_control_a_worker_that_does_not_wait_for_them(tmp_path: Path):
    assert await delivered_when_it_says_so(tmp_path, HASTY) == []


async def test_who_is_told_to_stop_keeps_what_was_promised(tmp_path: Path):
    """SIGTERM in a session: 421, and nothing that was answered 250 is lost."""
    async with connected(tmp_path, SLOW) as it:
        await trio.to_thread.run_sync(send, it.client, "promised")
        it.running.process.send_signal(signal.SIGTERM)
        code, _ = await trio.to_thread.run_sync(it.client.getreply)
        assert code == 421
        it.client.close()
        with trio.fail_after(60):
            assert [each.message for each in await it.running.channel.receive()] == [Idle()]
            with pytest.raises(ChannelBroken):
                await it.running.channel.receive()
        assert await it.running.exit() == 0
        assert len(it.running.delivered()) + it.running.queued() == 1
