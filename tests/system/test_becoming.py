"""Who stays root, and who becomes somebody when he is called: real processes, as root.

Of a pool whose workers become the user that they are called for, the parent and the template stay
root and read nothing of a call; the worker is the recipient, at home, for good, before it reads a
word.  The spawner leaves root to the rows of the manifest that say so, and to no others.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import trio

from refmta.patterns.secure_preforking import Rules
from refmta.patterns.trust_partitioning import ChannelBroken, border
from refmta.processes.calls import ON_CALL, Switchboard
from refmta.processes.channels import SocketChannel, socket_pair
from refmta.processes.pool_slice import POOL, PoolSlice
from refmta.stores.recipients import Known, Recipients
from refmta.wire.messages import Answer, Ask, Configure, Link, Ready, Relayed, RelayOutcome

pytestmark = pytest.mark.needs("root")

#: Says who it is and where, and whether it could be root again; then waits for its caller to go.
PROGRAM = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
import refmta.processes.no_helpers
from refmta.patterns.trust_partitioning import ChannelBroken
from refmta.processes import pool
from refmta.processes.worker import Pooled
from refmta.wire.messages import Relayed, RelayOutcome

def could_return():
    try:
        os.setresuid(-1, 0, -1)
    except PermissionError:
        return "for good"
    return "until it likes to return"

class Say:
    clean = True
    def __init__(self, channel):
        self.channel = channel
    async def run(self):
        who = [*os.getresuid(), *os.getresgid(), os.getgroups(), os.getcwd(), could_return()]
        text = " ".join(map(str, [os.getpid(), *who]))
        outcome = RelayOutcome(index=0, kind="returned", enhanced="", text=text)
        self.channel.post(Relayed(reference=0, destination="unknown", outcomes=(outcome,)))
        try:
            await self.channel.flush()
            await self.channel.receive()
        except ChannelBroken:
            pass
    def drain(self):
        pass

def attend(channel, client, configuration, channels, journal, trace):
    return Say(channel)

pool.main(Pooled(role="remote", attend=attend))
"""


@dataclass
class Running:
    """The pool; the test is its supervisor and its caller."""

    process: subprocess.Popen[bytes]
    board: Switchboard
    supervisor: SocketChannel

    async def asked(self, user: str) -> list[str]:
        """What a worker says that was called for this user; empty if the call just ended."""
        call = self.board.call("qmgr", "remote", user)
        try:
            with trio.fail_after(60):
                (item,) = await call.receive()
        except ChannelBroken:
            return []
        finally:
            call.close()
        assert isinstance(item.message, Relayed)
        (outcome,) = item.message.outcomes
        assert isinstance(outcome, RelayOutcome)
        return outcome.text.split(" ", 1)

    async def template(self) -> int:
        self.supervisor.post(Ask(reference=1, verb="ps"))
        await self.supervisor.flush()
        (item,) = await self.supervisor.receive()
        assert isinstance(item.message, Answer)
        rows = msgspec.json.decode(item.message.document)
        return next(row["pid"] for row in rows if row["part"] == "template")


@asynccontextmanager
async def running(recipients: Recipients) -> AsyncIterator[Running]:
    near, far = socket_pair()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(far.fileno())], pass_fds=[far.fileno()]
    )
    far.close()
    supervisor = SocketChannel(near, border("supervisor", "compartment"))
    line, its = socket_pair()
    terms = PoolSlice(rules=Rules(max_uses=50), becomes=recipients)
    try:
        supervisor.post(Configure(role="remote", slice=b""))
        supervisor.post(Configure(role=POOL, slice=msgspec.msgpack.encode(terms)))
        supervisor.post(Link(role="remote", port="qmgr", detail=ON_CALL), its.detach())
        await supervisor.flush()
        assert [each.message for each in await supervisor.receive()] == [Ready()]
        async with trio.open_nursery() as nursery:
            board = Switchboard(nursery)
            board.connect("qmgr", "remote", SocketChannel(line, border("caller", "pool")))
            yield Running(process, board, supervisor)
            nursery.cancel_scope.cancel()
    finally:
        supervisor.close()
        line.close()
        process.kill()
        process.wait()


def table(directory: Path, **changes: object) -> Recipients:
    """Ada has a home, bob's is closed to him, and the mole would be root."""
    homes = {name: directory / name for name in ("ada", "bob", "mole", "clerk")}
    for home in homes.values():
        home.mkdir(mode=0o700)
    os.chown(homes["ada"], 50_001, 50_002)
    directory.chmod(0o755)
    users = {
        "ada": Known(50_001, 50_002, str(homes["ada"])),
        "bob": Known(50_003, 50_003, str(homes["bob"])),
        "mole": Known(0, 50_004, str(homes["mole"])),
        "clerk": Known(50_005, 50_006, str(homes["clerk"])),
    }
    return Recipients(users=users, owners=frozenset((50_006,)))._replace(**changes)


@pytest.fixture
def homes():
    """A directory that every user can reach: those of pytest are its own."""
    made = Path(tempfile.mkdtemp(dir="/var/tmp"))
    yield made
    shutil.rmtree(made)


async def test_each_call_is_served_by_its_user_at_home_for_good(homes):
    async with running(table(homes)) as pool:
        pids = set()
        for _ in range(3):
            pid, who = await pool.asked("ada")
            assert who == f"50001 50001 50001 50002 50002 50002 [] {homes}/ada for good"
            pids.add(pid)
        assert len(pids) == 3  # used once, whatever the rules say
        for pid in (pool.process.pid, await pool.template()):
            status = Path(f"/proc/{pid}/status").read_text()
            assert "\nUid:\t0\t0\t0\t0\n" in status


@pytest.mark.parametrize("user", ["", "mole", "clerk", "bob", "stranger", "root"])
async def test_a_call_for_nobody_who_may_receive_mail_ends(homes, user, capfd):
    """In order: for nobody, for root, for a compartment's group, for one who can't enter his home,
    for one who is not there, for a user of the machine who is a system user's or root.
    """
    async with running(table(homes, reserved=((0, 1000),))) as pool:
        assert await pool.asked(user) == []
        assert (await pool.asked("ada"))[1].endswith("for good")  # the pool lives on
        said = ""
        with trio.fail_after(60):  # it hangs up first
            while "call refused" not in said:
                said += capfd.readouterr().err
                await trio.sleep(0.01)


async def test_without_a_table_the_worker_stays_root(homes):
    """Control: it is the terms that make it somebody."""
    async with running(table(homes)) as pool:
        terms = PoolSlice(rules=Rules())
        pool.supervisor.post(Configure(role=POOL, slice=msgspec.msgpack.encode(terms)))
        near, far = socket_pair()
        pool.supervisor.post(Link(role="remote", port="qmgr", detail=ON_CALL), far.detach())
        await pool.supervisor.flush()
        pool.board.connect("qmgr", "remote", SocketChannel(near, border("caller", "pool")))
        _, who = await pool.asked("ada")
        assert who.startswith("0 0 0 0 0 0") and who.endswith("until it likes to return")


async def test_one_who_has_become_somebody_dies_with_the_template(homes):
    """A change of user takes the death signal away: it is asked for again."""
    async with running(table(homes)) as pool:
        call = pool.board.call("qmgr", "remote", "ada")
        with trio.fail_after(60):
            await call.receive()
            os.kill(await pool.template(), signal.SIGKILL)
            with pytest.raises(ChannelBroken):
                await call.receive()
        call.close()


# -- the spawner ----------------------------------------------------------------------------------

#: Starts the second compartment, and waits for its end.  Where that would be executed it says who
#: it is: no other user may run this interpreter.
SPAWN = """
import json, os, socket, sys
from refmta.processes.spawner import Spawner, request

def say(*_):
    os.write(2, repr((os.getresuid(), os.getresgid(), os.getgroups())).encode())
    os._exit(0)

os.execve = say
os.setgroups([0, 7])
spawner = Spawner(json.loads(sys.argv[1]), [])
pid = spawner.start(request(1), [socket.socketpair()[0].detach()])
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.parametrize(
    ("row", "who"),
    [
        ({"privileged": True}, ((0, 0, 0), (0, 0, 0), [])),
        ({"uid": 50_001, "gid": 50_002}, ((50_001,) * 3, (50_002,) * 3, [])),
        ({"uid": 50_001, "gid": 50_002, "privileged": True}, ((0, 0, 0), (0, 0, 0), [])),
    ],
)
def test_the_spawner_leaves_root_to_privileged_rows_only(row, who):
    manifest = {
        "rootless": False,
        "reserved": [],
        "users": {},
        "compartments": [
            {"name": "supervisor", "uid": 50_000, "gid": 50_000, "per_user": False},
            {"name": "it", "uid": 0, "gid": 0, "per_user": False, "arguments": [], **row},
        ],
    }
    command = [sys.executable, "-c", SPAWN, json.dumps(manifest)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, repr(who))
