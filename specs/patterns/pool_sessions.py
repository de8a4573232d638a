"""What a pool of session workers does to its clients, measured from outside.

Theory.  A pool is an address that greets, and a set of processes that hold the connections.  Who
serves a client is not asked but seen: a connection is a row of /proc/net/tcp, its inode is a
descriptor of some worker.  Four measurements, all with plain connections:

- census: many short sessions, one after the other; who served each of them.
- plant: a text that a worker says to everybody is overwritten in the memory of that worker
  (/proc/PID/mem); its own next session must hear what was planted (else nothing was tested), and a
  worker that was born later must not.
- capture: a worker is seized in the last session that it is due; while many others come and go
  it is made, over and over, to take from each of its descriptors whatever can be taken: connections
  (accept) and descriptors (recvmsg).
- overload: five clients for each worker that there may be, all silent; how many workers live at any
  time, how many sessions they have at once, and whether silence is tolerated less than usual.

Nothing here depends on the server, as long as it speaks SMTP.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from specs.observe.memory import held, overwrite
from specs.observe.seize import Gone, Seized
from specs.observe.unavailable import Unavailable
from specs.patterns.world import PATIENCE_S, Session, Unanswered, session

#: What is planted: no server says it by itself.
PLANTED: Final = b"PLANTED-BY-THE-ONE-BEFORE-"
#: The answer to it is the same for everybody, and comes from the program's memory.
NONSENSE: Final = "BREW coffee"
#: Clients for each worker that there may be.
CROWD: Final = 5
#: Clients from one address: servers bound them.
PER_ADDRESS: Final = 20
SESSIONS: Final = 1000
_TAKEN: Final = b"220 taken\r\n"
_CODE: Final = re.compile(r"\A[245]\.[0-9]{1,3}\.[0-9]{1,3} ")
_ANCILLARY, _MESSAGE = 64, struct.Struct("=QI4xQQQQi4x")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """address: where it greets.  workers: the pids of those that live now.  max_workers, max_uses:
    what it says its bounds are.
    """

    address: tuple[str, int]
    workers: Callable[[], list[int]]
    max_workers: int
    max_uses: int


# -- who serves whom ------------------------------------------------------------------------------


def server_of(pool: Pool, port: int) -> int:
    """The worker that serves the client at this port of ours.  Raises Unanswered if none does."""
    row = _inode(pool.address[1], port)
    for pid in pool.workers():
        if row is not None and row in inodes(pid):
            return pid
    raise Unanswered("nobody has the connection")


def _inode(port: int, remote: int) -> int | None:
    """Of the server's end of a connection."""
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        ends = int(fields[1].rpartition(":")[2], 16), int(fields[2].rpartition(":")[2], 16)
        if ends == (port, remote):
            return int(fields[9])
    return None


def inodes(pid: int) -> frozenset[int]:
    """Of the sockets that a process has; none if it has ended."""
    found = set()
    with contextlib.suppress(OSError):
        for each in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                text = str(Path(each.path).readlink())
                if text.startswith("socket:["):
                    found.add(int(text[8:-1]))
    return frozenset(found)


def connections(pool: Pool) -> dict[int, int]:
    """Worker -> how many clients' connections it has now."""
    ends = set()
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) == pool.address[1] and fields[3] != "0A":
            ends.add(int(fields[9]))
    return {pid: len(inodes(pid) & ends) for pid in pool.workers()}


# -- census and plant -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """victim: in whose memory it was planted, at how many places.  own: whether the victim's own
    next session heard it.  heard: (worker, whether its client heard the planted text), for
    workers born later.  remembered: workers born later, and others, that have it in memory.
    uses: worker -> sessions that it was seen to serve.
    """

    victim: int
    places: int
    own: bool
    heard: tuple[tuple[int, bool], ...]
    remembered: tuple[int, ...]
    uses: Mapping[int, int]


def plant(pool: Pool, others: Callable[[], list[int]] = list) -> Planted:
    """others: further processes that must not have it (the template).  Raises Unanswered,
    Unavailable.
    """
    uses: Counter[int] = Counter()
    with session(pool.address) as client:
        victim = server_of(pool, client.port)
        uses[victim] += 1
        said = _words(client)
        planted = (PLANTED * (len(said) // len(PLANTED) + 1))[: len(said)]
        before = {*pool.workers(), *others()}
        places = overwrite(victim, said, planted)
        own = _words(client) == planted
    heard = []
    for _ in range(pool.max_uses * (len(before) + 2)):
        with session(pool.address) as client:
            server = server_of(pool, client.port)
            uses[server] += 1
            if server not in before:
                heard.append((server, _words(client) == planted))
                break
            client.say("QUIT")
    later = [pid for pid, _ in heard]
    remembered = [pid for pid in (*later, *others()) if planted in _held(pid, planted)]
    return Planted(
        victim=victim,
        places=places,
        own=own,
        heard=tuple(heard),
        remembered=tuple(remembered),
        uses=dict(uses),
    )


def _words(client: Session) -> bytes:
    """What is said to nonsense, without the code: that may be put before it when it is said."""
    return _CODE.sub("", client.say(NONSENSE)[1]).encode()


def _held(pid: int, text: bytes) -> frozenset[bytes]:
    with contextlib.suppress(OSError):
        return held(pid, [text])
    return frozenset()


# -- capture --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """Of so many sessions of others: how many were served as they must be, how many were taken
    by the seized worker (which said so to its clients, or has them), after how many tries.
    lived: whether it was alive to the end.
    """

    sessions: int
    served: int
    taken: int
    tries: int
    lived: bool


def capture(pool: Pool, sessions: int = SESSIONS) -> Captured:
    """Raises Unanswered, Unavailable."""
    taken = tries = 0
    lived = True
    with _last_session(pool) as victim, _clients(pool, sessions) as (crowd, served):
        try:
            with Seized(victim, patience_s=0.05) as seized:
                crowd.start()
                while crowd.is_alive():
                    taken += _take(seized, victim)
                    tries += 1
        except Gone:
            lived = False
    return Captured(sessions=sessions, served=sum(served), taken=taken, tries=tries, lived=lived)


@contextlib.contextmanager
def _clients(pool: Pool, sessions: int) -> Iterator[tuple[threading.Thread, list[int]]]:
    """A thread that makes the sessions, one after the other; which of them were served."""
    served: list[int] = []
    crowd = threading.Thread(target=lambda: served.extend(_greeted(pool) for _ in range(sessions)))
    try:
        yield crowd, served
    finally:
        if crowd.ident is not None:
            crowd.join()


@contextlib.contextmanager
def _last_session(pool: Pool) -> Iterator[int]:
    """A worker in a session after which it is due for no other."""
    before, uses = set(pool.workers()), Counter[int]()
    for _ in range(pool.max_uses * (len(before) + pool.max_workers + 2)):
        with session(pool.address) as client:
            server = server_of(pool, client.port)
            uses[server] += 1
            if server not in before and uses[server] >= pool.max_uses:
                yield server
                return
            client.say("QUIT")
    raise Unavailable("no worker comes to its last session")


def _greeted(pool: Pool) -> int:
    try:
        with session(pool.address) as client:
            return int(client.say("QUIT")[0] == 221)
    except (Unanswered, OSError):
        return 0


def _take(seized: Seized, pid: int) -> int:
    """How many connections and descriptors it gets when it tries all that it has."""
    taken = 0
    for number in sorted(int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()):
        if not _is_socket(pid, number):
            continue
        connection = seized.call("accept4", number, 0, 0, socket.SOCK_NONBLOCK)
        if connection >= 0:
            seized.forget()
            taken += 1
            seized.call("write", connection, seized.write(_TAKEN), len(_TAKEN))
            seized.call("close", connection)
        taken += _descriptors(seized, number)
    return taken


def _is_socket(pid: int, number: int) -> bool:
    with contextlib.suppress(OSError):
        return str(Path(f"/proc/{pid}/fd/{number}").readlink()).startswith("socket:")
    return False


def _descriptors(seized: Seized, number: int) -> int:
    """Whether a message that waits on a socket brings descriptors: it is taken."""
    seized.forget()
    octets, ancillary = seized.write(bytes(4096)), seized.write(bytes(_ANCILLARY))
    vector = seized.write(struct.pack("=QQ", octets, 4096))
    message = seized.write(_MESSAGE.pack(0, 0, vector, 1, ancillary, _ANCILLARY, 0))
    if seized.call("recvmsg", number, message, socket.MSG_DONTWAIT) < 0:
        return 0
    return int(_MESSAGE.unpack(seized.read(message, _MESSAGE.size))[5] > 0)


# -- overload -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Overloaded:
    """clients: all silent.  most: workers that lived at once, over so many looks.  double: workers
    seen with more than one client.  dismissed: clients that were sent away while the others
    waited (0: patience was not shorter).  recovered: whether a client is served afterwards.
    """

    clients: int
    looks: int
    most: int
    double: tuple[int, ...]
    dismissed: int
    recovered: bool


def overload(pool: Pool, patience_s: float = PATIENCE_S) -> Overloaded:
    """Until as many clients were sent away as there are places, or patience is over."""
    looks = most = dismissed = 0
    double: set[int] = set()
    with contextlib.ExitStack() as stack:
        crowd = [
            stack.enter_context(_silent(pool, each)) for each in range(CROWD * pool.max_workers)
        ]
        open_ones, deadline = set(crowd), time.monotonic() + patience_s
        while dismissed < pool.max_workers and time.monotonic() < deadline:
            had = connections(pool)
            looks, most = looks + 1, max(most, len(had))
            double |= {pid for pid, count in had.items() if count > 1}
            gone = {each for each in open_ones if _sent_away(each)}
            dismissed, open_ones = dismissed + len(gone), open_ones - gone
            select.select([], [], [], 0.02)
    return Overloaded(
        clients=len(crowd), looks=looks, most=most, double=tuple(sorted(double)),
        dismissed=dismissed, recovered=_greeted(pool) == 1,
    )  # fmt: skip


def _silent(pool: Pool, number: int) -> socket.socket:
    """A connection that says nothing; its address is one of many."""
    source = (f"127.0.1.{1 + number // PER_ADDRESS % 250}", 0)
    connection = socket.create_connection(pool.address, PATIENCE_S, source_address=source)
    connection.setblocking(False)
    return connection


def _sent_away(connection: socket.socket) -> bool:
    """Whether the server has said 421 and closed."""
    try:
        while octets := connection.recv(4096):
            if b"421 " in octets:
                return True
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
