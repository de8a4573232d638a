"""Who is who: users, groups, capabilities, descriptors and files of every process, as the kernel
has it; and what the one process that keeps root refuses to do.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from system.hops import next_hop, relay, submit
from system.observe import (
    Client,
    connections,
    letter,
    named,
    only,
    processes,
    queued,
    send,
    sockets,
    wait_delivered,
)
from system.server import FIRST_RECIPIENT, PATIENCE_S, Server, server

from refmta.architectures.configuration import RESERVED, SYSTEM_IDS
from refmta.architectures.sections import FIRST_UID
from refmta.processes.children import kill_request, parse_report, start_request
from refmta.processes.spawner import request

pytestmark = pytest.mark.needs("root")

VIRTUAL = '[domains."virtual.example"]\nmailboxes = ["vera"]\n'
COMPARTMENTS = ("supervisor", "resolve", "enqueue", "qmgr", "smtpd", "remote", "bounce")


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """Every kind of process is there: an open session, an agent per kind of mailbox, a relay to a
    next hop that is silent, and a report.
    """
    if os.geteuid() != 0:  # made before a test says what it needs
        yield None
        return
    directory = tmp_path_factory.mktemp("who")
    with contextlib.ExitStack() as stack:
        hops = {
            f"{name}.example": stack.enter_context(next_hop(directory, behaviour)).port
            for name, behaviour in (("closed", "5yz-at-rcpt"), ("silent", "silence-at-greeting"))
        }
        running = stack.enter_context(server(directory / "s", extra=relay(hops) + VIRTUAL))
        client = stack.enter_context(Client(running))
        assert client.code("EHLO client.example.net") == 250
        for recipient in ("ada@example.org", "bob@example.org", "vera@virtual.example"):
            assert client.deliver("warm", recipient)[0] == 250
        submit(running, "failing", "kim@closed.example", sender="ada@example.org")
        running.wait_for(lambda: not queued(running), "all is delivered")
        submit(running, "waiting", "kim@silent.example")
        running.wait_for(lambda: named(running, "remote worker"), "it is on its way")
        yield running


def uid(running: Server, name: str) -> int:
    return int(only(running, name).status("Uid")[0])


# -- users ----------------------------------------------------------------------------------------


def test_only_the_spawner_is_root(running):
    everything = processes(running)
    assert len(everything) >= 10
    for each in everything:
        assert ("0" in each.status("Uid")) == (each.name == "spawner"), each
        assert ("0" in each.status("Gid")) == (each.name == "spawner"), each


def test_each_compartment_is_a_user_of_its_own_for_good(running):
    """Real, effective, saved and file system ids are one."""
    ids = {}
    for name in COMPARTMENTS:
        process = only(running, name)
        (ids[name],) = set(process.status("Uid"))
        assert set(process.status("Gid")) == {ids[name]}
        assert int(ids[name]) in range(FIRST_UID, FIRST_UID + RESERVED)
    assert len(set(ids.values())) == len(COMPARTMENTS)
    for pool in ("smtpd", "remote"):
        parts = (*named(running, f"{pool} template"), *named(running, f"{pool} worker"))
        assert len(parts) >= 2
        for each in parts:
            assert set(each.status("Uid")) == {ids[pool]}


def test_an_agent_is_the_recipient_and_virtual_mailboxes_have_an_owner_of_their_own(running):
    agents = {each.status("Uid")[0]: each for each in named(running, "local")}
    owner = (running.spool / "mail").stat().st_uid
    assert set(agents) == {str(FIRST_RECIPIENT), str(FIRST_RECIPIENT + 1), str(owner)}
    assert owner in range(FIRST_UID, FIRST_UID + RESERVED)
    assert owner not in {uid(running, name) for name in COMPARTMENTS}


def test_nobody_but_the_spawner_has_groups_or_capabilities(running):
    for each in processes(running):
        if each.name != "spawner":
            assert each.status("Groups") == [], each
            for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
                assert int(each.status(kind)[0], 16) == 0, (each, kind)


def test_the_environment_of_who_started_it_reaches_no_compartment(running):
    for each in processes(running):
        if each.name != "spawner":
            rows = (each.proc / "environ").read_bytes().rstrip(b"\0").split(b"\0")
            assert {row.partition(b"=")[0] for row in rows} == {b"PATH", b"LANG", b"HOME"}, each


def test_everybody_dies_with_the_spawner_or_has_a_parent_that_does(running):
    spawner = only(running, "spawner").pid
    parents = {each.pid: each.parent for each in processes(running)}
    for pid, parent in parents.items():
        assert pid == spawner or parent == spawner or parents.get(parent) in parents, pid


# -- descriptors ----------------------------------------------------------------------------------

EVERYBODY = (r"/dev/null", r"LOG", r"socket:\[\d+\]", r"anon_inode:\[eventpoll\]")
#: name -> what else may be open.
OTHERS = {
    "spawner": (r"anon_inode:\[pidfd\]", r"/memfd:plan \(deleted\)"),
    "supervisor": (r"/memfd:plan \(deleted\)",),
    "resolve": (),
    "enqueue": ("SPOOL",),
    "qmgr": ("SPOOL", "CHUNK"),
    "local": ("HOME",),
    "bounce": (),
    "remote": (),
    "remote template": (r"anon_inode:\[pidfd\]",),
    "remote worker": ("CHUNK",),
    "smtpd": (),
    "smtpd template": (r"anon_inode:\[pidfd\]",),
    "smtpd worker": (),
}


def test_every_descriptor_is_of_an_expected_kind(running):
    """One message is on its way: to a next hop, by one worker."""
    (chunk,) = queued(running)
    for each in processes(running):
        allowed = re.compile("|".join((*EVERYBODY, *OTHERS[each.name])))
        home = str((each.proc / "cwd").readlink())
        for descriptor, what in each.descriptors().items():
            kinds = {
                home: "HOME",
                str(running.log): "LOG",
                str(running.spool): "SPOOL",
                str(running.spool / "chunks" / chunk): "CHUNK",
            }
            kind = kinds.get(what, what)
            assert allowed.fullmatch(kind), (each, descriptor, what)


def test_only_who_accepts_has_listening_sockets(running):
    own = f":{running.port:04X}"
    listening = sockets(lambda row: row[1].endswith(own) and row[3] == "0A")
    assert len(listening) == 1
    holders = {
        each.name for each in processes(running) if listening & set(each.descriptors().values())
    }
    assert holders == {"spawner", "supervisor", "smtpd"}


def test_a_connection_is_held_by_its_worker_alone(running):
    connected = connections(running)
    holders = [
        each.name for each in processes(running) if connected & set(each.descriptors().values())
    ]
    assert holders == ["smtpd worker"]


def test_an_agent_has_no_descriptor_below_the_spool_but_the_one_it_was_handed(running):
    """And that one only for reading, and only while it works on it."""
    agent = next(
        each for each in named(running, "local")
        if each.status("Uid")[0] == str(FIRST_RECIPIENT)
    )  # fmt: skip
    seen: dict[str, int] = {}

    def delivered(chunk: str) -> bool:
        for descriptor, what in agent.descriptors().items():
            if what.startswith(str(running.spool)):
                with contextlib.suppress(OSError):
                    rows = (agent.proc / "fdinfo" / str(descriptor)).read_text().splitlines()
                    seen[what] = int(next(r.split()[1] for r in rows if r.startswith("flags")), 8)
        return not os.path.exists(chunk)

    number = 0
    while not seen:  # it may be quicker than we look
        number += 1
        with Client(running) as client:
            client.ready_for_data()
            client.send(letter(f"handed-{number}") + (b"x" * 998 + b"\r\n") * 30_000 + b".\r\n")
            code, text = client.reply()
            assert code == 250
        chunk = str(running.spool / "chunks" / text.rpartition(" ")[2])
        while not delivered(chunk):
            assert agent.alive()
        assert set(seen) <= {chunk}
    assert all(flags & os.O_ACCMODE == os.O_RDONLY for flags in seen.values())
    wait_delivered(running, f"handed-{number}")
    assert not [w for w in agent.descriptors().values() if w.startswith(str(running.spool))]


# -- files ----------------------------------------------------------------------------------------


def can(user: int, group: int, action: str, path: str) -> bool:
    """Whether a process of this user and no other groups may do it."""
    code = (
        f"import os, sys\nos.setgroups([]); os.setgid({group}); os.setuid({user})\n"
        f"try:\n    {action}\nexcept PermissionError:\n    sys.exit(7)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode in (0, 7), done.stderr
    return done.returncode == 0


def test_the_queue_is_enqueues_and_qmgrs_and_nobody_elses(running):
    chunks = str(running.spool / "chunks")
    allowed = {
        name: can(uid(running, name), uid(running, name), "os.listdir(sys.argv[1])", chunks)
        for name in COMPARTMENTS
    }
    assert allowed == {
        "supervisor": False, "resolve": False, "smtpd": False, "enqueue": True, "qmgr": True,
        "remote": False, "bounce": False,
    }  # fmt: skip
    for user in (FIRST_RECIPIENT, (running.spool / "mail").stat().st_uid):
        assert not can(user, user, "os.listdir(sys.argv[1])", chunks)


def test_a_chunk_is_for_enqueue_and_qmgr_and_a_message_for_its_recipient(running):
    with contextlib.ExitStack() as stack:
        for each in named(running, "qmgr"):
            os.kill(each.pid, signal.SIGSTOP)
            stack.callback(os.kill, each.pid, signal.SIGCONT)
        queue_id = send(running, "modes")[1].rpartition(" ")[2]
        found = (running.spool / "chunks" / queue_id).stat()
        assert (found.st_uid, found.st_gid) == (uid(running, "enqueue"), uid(running, "qmgr"))
        assert found.st_mode & 0o7777 == 0o660
    wait_delivered(running, "modes")
    for each in running.maildir("ada").iterdir():
        assert (each.stat().st_uid, each.stat().st_gid) == (FIRST_RECIPIENT, FIRST_RECIPIENT)
        assert each.stat().st_mode & 0o7777 == 0o600
    assert running.maildir("ada").parent.stat().st_mode & 0o077 == 0


def test_the_control_socket_is_for_its_owner(running):
    control = (running.spool / "control").stat()
    assert control.st_uid == 0 and control.st_mode & 0o777 == 0o600


# -- what the spawner refuses ---------------------------------------------------------------------

#: The spawner, with a user database of ours; its compartments say what they have become.
SPAWNER = """
import json, pwd, socket, sys
from refmta.architectures.reach import open_view, program_paths
from refmta.processes.children import Children
from refmta.processes.spawner import Spawner
real, known = pwd.getpwnam, json.loads(sys.argv[2])
def getpwnam(name):
    if name in known:
        uid, gid, home = known[name]
        return pwd.struct_passwd((name, "x", uid, gid, "", home, "/bin/sh"))
    return real(name)
pwd.getpwnam = getpwnam
open_view(program_paths())
spawner = Spawner(json.loads(sys.argv[1]), [])
children = Children(socket.socket(fileno=int(sys.argv[3])), spawner.start)
children.serve()
children.end_all()
"""
BECOME = """
import ctypes, json, os
number = ctypes.c_int()
ctypes.CDLL(None).prctl(2, ctypes.byref(number))
umask = os.umask(0)
said = dict(uid=os.getresuid(), gid=os.getresgid(), groups=os.getgroups(), umask=umask,
    cwd=os.getcwd(), env=sorted(os.environ), fds=sorted(map(int, os.listdir("/proc/self/fd")))[:-1],
    leader=os.getsid(0) == os.getpid(), dies_with_parent=number.value)
os.write(3, json.dumps(said).encode())
os.read(3, 1)
"""
OWN = FIRST_UID
MANIFEST = {
    "rootless": False,
    "reserved": [*SYSTEM_IDS, (OWN, OWN + RESERVED)],
    "users": {
        "ada": {"uid": FIRST_RECIPIENT, "gid": FIRST_RECIPIENT, "home": "/tmp"},
        "zero": {"uid": 0, "gid": FIRST_RECIPIENT, "home": "/tmp"},
        "zero-group": {"uid": FIRST_RECIPIENT, "gid": 0, "home": "/tmp"},
        "inside": {"uid": OWN + 1, "gid": FIRST_RECIPIENT, "home": "/tmp"},
        "inside-group": {"uid": FIRST_RECIPIENT, "gid": OWN + 1, "home": "/tmp"},
        "homeless": {"uid": FIRST_RECIPIENT, "gid": FIRST_RECIPIENT, "home": "/nowhere"},
        "shut-out": {"uid": FIRST_RECIPIENT, "gid": FIRST_RECIPIENT, "home": "/proc/1/root"},
    },
    "compartments": [
        {"name": name, "uid": OWN + place, "gid": OWN + place, "per_user": name == "local",
         "arguments": ["-c", BECOME]}
        for place, name in enumerate(("supervisor", "enqueue", "local"))
    ],
}  # fmt: skip
#: What the machine's user database says.
DATABASE = {
    "grace": (5000, 5000, "/tmp"),
    "toor": (0, 0, "/root"),
    "daemon2": (999, 999, "/tmp"),
    "mole": (OWN + 700, 5000, "/tmp"),
    "group-mole": (5000, OWN + 1, "/tmp"),
    "root-group": (5000, 0, "/tmp"),
}


class Requester:
    """The supervisor's end of the spawner."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        end.settimeout(PATIENCE_S)
        self.token = 0

    def ask(self, rest: bytes, *descriptors: int) -> tuple[str, int, str]:
        self.token += 1
        rights = array.array("i", descriptors)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else []
        self._end.sendmsg([start_request(self.token, rest)], ancillary)
        return self.report()

    def kill(self, token: int, number: int = signal.SIGKILL) -> None:
        self._end.send(kill_request(token, number))

    def report(self) -> tuple[str, int, str]:
        kind, token, value, text = parse_report(self._end.recv(4096))
        assert token == self.token
        return kind, value, text


@pytest.fixture(scope="module")
def spawner() -> Iterator[tuple[Requester, subprocess.Popen[bytes]] | None]:
    if os.geteuid() != 0:
        yield None
        return
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        arguments = [json.dumps(MANIFEST), json.dumps(DATABASE), str(theirs.fileno())]
        process = subprocess.Popen(
            [sys.executable, "-c", SPAWNER, *arguments], pass_fds=[theirs.fileno()],
            stderr=subprocess.DEVNULL, env={**os.environ, "SECRET": "of the operator"},
        )  # fmt: skip
        theirs.close()
        try:
            yield Requester(ours), process
        finally:
            ours.close()
            assert process.wait(PATIENCE_S) in (0, -signal.SIGKILL)


@pytest.mark.parametrize(
    ("rest", "descriptors", "text"),
    [
        (b"", 1, "malformed request"),
        (b"\0", 1, "malformed request"),
        (request(1), 0, "malformed request"),
        (request(1), 2, "malformed request"),
        (request(0), 1, "no such compartment"),
        (request(3), 1, "no such compartment"),
        (request(65535), 1, "no such compartment"),
        (request(1, "ada"), 1, "this compartment has a user of its own"),
        (request(2), 1, "no such user"),
        (request(2, "stranger"), 1, "no such user"),
        (request(2, "../ada"), 1, "no such user"),
        (request(2) + b"ad\xff", 1, "no such user"),
        (request(2) + b"ada\0", 1, "no such user"),
        (request(2, "root"), 1, "a system user receives no mail"),
        (request(2, "toor"), 1, "a system user receives no mail"),
        (request(2, "daemon2"), 1, "a system user receives no mail"),
        (request(2, "zero"), 1, "that user may not receive mail"),
        (request(2, "zero-group"), 1, "that user may not receive mail"),
        (request(2, "root-group"), 1, "that user may not receive mail"),
        (request(2, "inside"), 1, "that user may not receive mail"),
        (request(2, "inside-group"), 1, "that user may not receive mail"),
        (request(2, "nobody"), 1, "a system user receives no mail"),
        (request(2, "mole"), 1, "a system user receives no mail"),
        (request(2, "group-mole"), 1, "that user may not receive mail"),
    ],
    ids=lambda value: repr(value) if isinstance(value, bytes) else None,
)
def test_the_spawner_refuses(spawner, rest, descriptors, text):
    requester, process = spawner
    ends = [socket.socketpair() for _ in range(descriptors)]
    try:
        answer = requester.ask(rest, *(theirs.fileno() for _, theirs in ends))
        assert answer == ("E", 0, text)
        assert process.poll() is None
    finally:
        for pair in ends:
            for each in pair:
                each.close()


@pytest.mark.parametrize(
    ("rest", "identity", "home"),
    [
        (request(1), OWN + 1, "/"),
        (request(2, "ada"), FIRST_RECIPIENT, "/tmp"),
        (request(2, "grace"), 5000, "/tmp"),
    ],
    ids=["a compartment", "a user of the manifest", "a user of the machine"],
)
def test_what_the_spawner_starts_is_what_it_should_be_and_has_nothing_else(
    spawner, rest, identity, home
):
    requester, _ = spawner
    ours, theirs = socket.socketpair()
    with ours, theirs:
        kind, pid, _ = requester.ask(rest, theirs.fileno())
        assert kind == "P"
        theirs.close()
        ours.settimeout(PATIENCE_S)
        assert json.loads(ours.recv(4096)) == {
            "uid": [identity] * 3, "gid": [identity] * 3, "groups": [], "umask": 0o007,
            "cwd": home, "env": ["HOME", "LANG", "PATH"], "fds": [0, 1, 2, 3], "leader": True,
            "dies_with_parent": signal.SIGKILL,
        }  # fmt: skip
        requester.kill(requester.token)
        assert requester.report() == ("X", signal.SIGKILL, "")
        assert ours.recv(1) == b""
        requester.kill(requester.token)  # it is gone: nobody else is hit
        assert not os.path.exists(f"/proc/{pid}")


@pytest.mark.parametrize("user", ["homeless", "shut-out"])
def test_a_home_that_cannot_be_entered_is_an_exit_code_of_its_own(spawner, user):
    requester, _ = spawner
    ours, theirs = socket.socketpair()
    with ours, theirs:
        kind, _, _ = requester.ask(request(2, user), theirs.fileno())
        assert kind == "P"
        kind, status, _ = requester.report()
        assert (kind, os.waitstatus_to_exitcode(status)) == ("X", 73)


def test_who_the_spawner_started_dies_with_it(spawner):
    """The last test: it ends the spawner."""
    requester, process = spawner
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert requester.ask(request(1), theirs.fileno())[0] == "P"
        theirs.close()
        ours.settimeout(PATIENCE_S)
        assert ours.recv(4096)
        process.kill()
        assert ours.recv(1) == b""
