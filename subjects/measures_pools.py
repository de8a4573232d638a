"""Pools of workers: what reuse gains and what it costs, whether their caps hold, and how many
addresses a resident process rewrites.

Two servers that differ by nothing else run beside each other and take turns, so that what else
happens on the machine happens to both.

A session here is a greeting, EHLO and QUIT: what a process costs shows best where little else is
done. Who served it is seen from outside: which process holds the other end of the connection.

A Postfix of ours counts the uses of its workers in its architecture, not in the file that an
operator writes: the knob is turned in a copy of it that differs by this number (`mutant_tree`).
"""

from __future__ import annotations

import contextlib
import smtplib
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

import trio

from faultinject.client import Line
from refmta.architectures.catalogue import find
from specs.claims.instruments import NotHere
from specs.claims.verdict import Reading
from specs.mailboxes import stored
from subjects.measures_places import (
    COMPOSITION,
    DOMAIN,
    ON_DISK,
    Place,
    await_delivered,
    need_root,
    ours,
    peers,
)
from subjects.measures_speed import process_cost
from subjects.mutant_tree import change as change_also
from subjects.mutant_tree import mutant_tree

CLIENTS: Final = 8
SESSIONS, ROUNDS = 160, 5
#: For exposure: sessions in a row.
IN_A_ROW: Final = 40
#: How long whoever hands a connection on may hold it beside the worker, and how often it is looked.
HANDED_S, LOOK_S = 5.0, 0.01
FRESH: Final = 1
#: Where an architecture says how often a worker of smtpd is used.
USES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "postfix": (
            "architectures/postfix.py",
            '            acceptor="workers",\n            uses=100,\n',
        ),
    }
)
#: Whose worker takes a client of port 25.
FACE: Final = "smtpd"


# -- two servers that differ by one knob ----------------------------------------------------------


@contextmanager
def with_uses(subject: str, uses: int) -> Iterator[Place]:
    """A server whose workers serve so many sessions each; 0: as it is shipped.  Raises NotHere."""
    name = subject.rpartition(":")[2]
    with ExitStack() as after:
        if not subject.startswith(COMPOSITION):
            settings = {"max_use": str(uses)} if uses else {}
            yield after.enter_context(peers().peer(name, settings))
        elif not uses:
            yield after.enter_context(ours(name))
        elif name in USES:
            file, old = USES[name]
            python = after.enter_context(changed(file, old, old.replace("100", str(uses))))
            yield after.enter_context(ours(name, python=python))
        else:
            row = find(name).row(FACE)
            if row.uses:
                raise NotHere(f"a knob for the uses of {name}'s workers")
            yield after.enter_context(ours(name, {(FACE, "max_uses"): str(uses)}))


@contextmanager
def changed(*change: str) -> Iterator[str]:
    """An interpreter with another refmta: file, old text, new text; and so on."""
    with tempfile.TemporaryDirectory(prefix="refmta-knob-", dir=ON_DISK) as directory:
        Path(directory).chmod(0o711)
        place = Path(directory) / "python"
        file, old, new, *others = change
        python = mutant_tree(place, file, [(old, new)])
        while others:
            file, old, new, *others = others
            change_also(place, file, [(old, new)])
        yield python


def has_pool(subject: str) -> bool:
    """Whether that server takes its clients by workers that may be used again."""
    name = subject.rpartition(":")[2]
    if not subject.startswith(COMPOSITION):
        return name.startswith("postfix")
    return any(row.name == FACE and row.pooled for row in find(name).compartments)


def need_pool(subject: str) -> None:
    """Raises NotHere."""
    if not has_pool(subject):
        raise NotHere(f"a pool of workers in {subject}")


# -- what reuse gains -----------------------------------------------------------------------------


def session_cost(subject: str, part: str) -> Reading:
    """Sessions per second with reused workers, against a process each; median of the rounds."""
    need_pool(subject)
    with with_uses(subject, 0) as reused, with_uses(subject, FRESH) as fresh:
        for server in (reused, fresh):
            sessions(server, CLIENTS)
        rounds = [(_rate(reused), _rate(fresh)) for _ in range(ROUNDS)]
    ratios = sorted(many / one for many, one in rounds)
    many, one = (statistics.median(each) for each in zip(*rounds, strict=True))
    return Reading(
        statistics.median(ratios),
        f"{many:.0f}/s and {one:.0f}/s, {CLIENTS} clients; {ROUNDS} rounds:"
        f" {ratios[0]:.2f} to {ratios[-1]:.2f}; {process_cost()}",
    )


def _rate(server: Place) -> float:
    began_s = time.perf_counter()
    sessions(server, SESSIONS)
    return SESSIONS / (time.perf_counter() - began_s)


def sessions(server: Place, count: int, seen: Callable[[int], None] | None = None) -> None:
    """So many, by CLIENTS at once.  seen: hears who serves each."""
    server.within(lambda: trio.run(_sessions, server, count, seen))


async def _sessions(server: Place, count: int, seen: Callable[[int], None] | None) -> None:
    numbers = iter(range(count))

    async def client() -> None:
        for _ in numbers:
            served = await _session(server, look=seen is not None)
            if seen is not None:
                seen(served)

    async with trio.open_nursery() as nursery:
        for _ in range(CLIENTS):
            nursery.start_soon(client)


async def _session(server: Place, *, look: bool = False) -> int:
    """One; the process that served it, if that was looked for."""
    line = Line(await trio.open_tcp_stream(*server.address), left=0)
    await line.expect("220")
    served = _server_of(server, line.stream.socket.getsockname()[1]) if look else 0
    await line.say("EHLO client.claims.test")
    await line.expect("250")
    await line.quit()
    return served


# -- what it costs --------------------------------------------------------------------------------


def exposure(subject: str, part: str) -> Reading:
    """The most of so many sessions in a row that one worker served, against a process each."""
    need_root()
    need_pool(subject)
    most = []
    for uses in (0, FRESH):
        with with_uses(subject, uses) as server:
            most.append(most_by_one(server))
    return Reading(most[0] / most[1], f"{most[0]} and {most[1]} of {IN_A_ROW} sessions")


def most_by_one(server: Place) -> int:
    """Of the sessions in a row, how many one process served at most."""
    served = Counter(
        server.within(lambda: trio.run(_looked_at, server)) for _ in range(IN_A_ROW)
    )  # fmt: skip
    return max(served.values())


async def _looked_at(server: Place) -> int:
    return await _session(server, look=True)


def _server_of(server: Place, port: int) -> int:
    """The process that greets a new connection.  Whoever accepted it and handed it on may hold it
    for some moments more.  Raises RuntimeError if several do for longer.
    """
    deadline_s = time.monotonic() + HANDED_S
    while True:
        processes = [each.pid for each in server.processes()]
        inode = _accepted(processes[0], server.address[1], port)
        holders = [pid for pid in processes if _holds(pid, inode)]
        if len(holders) == 1:
            return holders[0]
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"{len(holders)} processes hold one session")
        time.sleep(LOOK_S)


def _accepted(pid: int, port: int, peer: int) -> int:
    """The inode of the server's end of a connection (proc(5)), on that process's network."""
    ends = (f"{port:04X}", f"{peer:04X}")
    for row in Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        fields = row.split()
        if (fields[1].rpartition(":")[2], fields[2].rpartition(":")[2]) == ends:
            return int(fields[9])
    raise RuntimeError(f"no connection from port {peer} to port {port}")


def _holds(pid: int, inode: int) -> bool:
    wanted = f"socket:[{inode}]"
    with contextlib.suppress(OSError):
        for each in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if str(each.readlink()) == wanted:
                    return True
    return False


# -- the caps -------------------------------------------------------------------------------------

#: The caps that are set, and how late a worker may go: masters look about once a second.
WORKERS, USED, IDLE_S, LATE_S = 4, 5, 2.0, 3.0
#: Five times the load that so many workers can take at once.
LOAD: Final = 5 * WORKERS


@dataclass(slots=True)
class Staff:
    """What was seen of a pool.  workers: by process, when it was seen first and last."""

    first_s: dict[int, float] = field(default_factory=dict)
    last_s: dict[int, float] = field(default_factory=dict)
    served: Counter[int] = field(default_factory=Counter)
    now: int = 0
    most: int = 0
    quiet_s: float = 0.0


def pool_caps(subject: str, part: str) -> Reading:
    """How many of three caps are exceeded: workers at once, sessions each, time without any."""
    need_root()
    need_pool(subject)
    with capped(subject) as server:
        staff = crowd(server)
    return exceeded(staff)


def capped(subject: str) -> AbstractContextManager[Place]:
    """A server with the three caps."""
    name = subject.rpartition(":")[2]
    if not subject.startswith(COMPOSITION):
        settings = {"max_use": str(USED), "max_idle": f"{IDLE_S:.0f}s"}
        found: AbstractContextManager[Place] = peers().peer(
            name, settings, {"smtp/inet/process_limit": str(WORKERS)}
        )
        return found
    return _our_caps(name)


@contextmanager
def _our_caps(name: str) -> Iterator[Place]:
    knobs = {
        (FACE, "max_workers"): str(WORKERS), (FACE, "max_idle_s"): str(IDLE_S), (FACE, "spare"): "0"
    }  # fmt: skip
    with ExitStack() as after:
        python = ""
        if name in USES:
            file, old = USES[name]
            python = after.enter_context(changed(file, old, old.replace("100", str(USED))))
        else:
            knobs[FACE, "max_uses"] = str(USED)
        yield after.enter_context(ours(name, knobs, python=python))


def crowd(server: Place) -> Staff:
    """Five times more clients than workers, then nobody."""
    staff, over = Staff(), threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            _look_at(server, staff)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        server.within(lambda: trio.run(_crowd, server, staff))
        staff.quiet_s = time.monotonic()
        deadline_s = staff.quiet_s + IDLE_S + 2 * LATE_S
        while staff.now and time.monotonic() < deadline_s:
            time.sleep(0.01)
    finally:
        over.set()
        thread.join()
    return staff


async def _crowd(server: Place, staff: Staff) -> None:
    async def client() -> None:
        for _ in range(USED):
            staff.served[await _session(server, look=True)] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(LOAD):
            nursery.start_soon(client)


def _look_at(server: Place, staff: Staff) -> None:
    """The workers that there are now."""
    now_s = time.monotonic()
    part = server.worker_part
    found = [each.pid for each in server.processes() if (each.role, each.part) == (FACE, part)]
    staff.now, staff.most = len(found), max(staff.most, len(found))
    for pid in found:
        staff.first_s.setdefault(pid, now_s)
        staff.last_s[pid] = now_s


def exceeded(staff: Staff) -> Reading:
    """Compare what was seen with the caps."""
    uses = max(staff.served.values(), default=0)
    idle_s = max((last - staff.quiet_s for last in staff.last_s.values()), default=0.0)
    caps = {
        f"{staff.most} of {WORKERS} workers": staff.most > WORKERS,
        f"{uses} of {USED} sessions": uses > USED,
        f"the last gone {max(idle_s, 0.0):.1f} s after the last session, of {IDLE_S:.0f} s": (
            idle_s > IDLE_S + LATE_S
        ),
    }
    told = "; ".join(f"{text}{', exceeded' if over else ''}" for text, over in caps.items())
    return Reading(
        sum(caps.values()), f"{told}; {len(staff.first_s)} workers, {staff.served.total()} sessions"
    )


# -- rewriting ------------------------------------------------------------------------------------

#: Messages, and how many go over one connection.
REWRITTEN, PER_CONNECTION = 1000, 50
OLD, NEW = "old", "ada"
#: The processes that rewrite, by server.
REWRITERS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {"composition": frozenset({"rewrite", "resolve"}),
     "server": frozenset({"trivial-rewrite", "cleanup"})}
)  # fmt: skip


def rewriting(subject: str, part: str) -> Reading:
    """Addresses rewritten per process created for it, over 1,000 messages."""
    need_root()
    kind, _, name = subject.partition(":")
    seen: set[int] = set()
    with _rewriting(kind, name) as server:
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.005):
                seen.update(
                    each.pid for each in server.processes() if each.role in REWRITERS[kind]
                )  # fmt: skip

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            server.within(lambda: _submit(server))
            user = server.users[0]
            await_delivered(server, user, REWRITTEN)
        finally:
            over.set()
            thread.join()
        addresses = rewritten_in(server.mailboxes[user].path, f"{user}@{server.domain}")
    if not seen:
        raise NotHere(f"a process of {subject} that rewrites")
    return Reading(addresses / len(seen), f"{addresses} addresses, {len(seen)} processes")


@contextmanager
def _rewriting(kind: str, name: str) -> Iterator[Place]:
    """A server with a map from the old address to the user's."""
    if kind == "server":
        with peers().peer(name) as peer:
            user, domain = peer.users[0], peer.domain
            row = f"inline:{{{OLD}@{domain}={user}@{domain}}}"
            peer.overlay.run("postconf", "-e", f"canonical_maps={row}")
            peer.overlay.run("postfix", "reload")
            yield peer
    else:
        key = ("rewrite.canonical", f'"{OLD}@{DOMAIN}"')
        with ours(name, {key: f'"{NEW}@{DOMAIN}"'}) as found:
            yield found


def _submit(server: Place) -> None:
    """Messages from the old address, to the user."""
    old, user = f"{OLD}@{server.domain}", f"{server.users[0]}@{server.domain}"
    for begin in range(0, REWRITTEN, PER_CONNECTION):
        with smtplib.SMTP(*server.address, local_hostname="client.test", timeout=60) as client:
            for number in range(begin, begin + PER_CONNECTION):
                client.sendmail(old, [old], f"Subject: {number}\r\n\r\nfor {user}\r\n")


def rewritten_in(mailbox: Path, user: str) -> int:
    """Messages that bear the new address as the sender's, and their recipients, which are there."""
    wanted = f"return-path: <{user}>".encode()
    senders = recipients = 0
    for each in stored(mailbox):
        recipients += 1
        head = each.octets.partition(b"\n\n")[0].lower()
        senders += wanted in head
    return senders + recipients


#: Measures of this file, by name.
POOLS: Final[Mapping[str, Callable[[str, str], Reading]]] = MappingProxyType(
    {
        "session_cost": session_cost,
        "exposure": exposure,
        "pool_caps": pool_caps,
        "rewriting": rewriting,
    }
)
