"""Numbers that only a running refmta gives, for the ledger of claims (`specs.claims`).

Both turn one knob, how many sessions a worker of smtpd may serve, and look at one side of the
trade (paper, sections 4 and 6) each: what reuse gains in speed, and what it costs in exposure. Two
servers that differ by nothing else run beside each other and take turns, so that what else happens
on the machine happens to both.

A session here is a greeting, EHLO and QUIT: what a process costs shows best where little else is
done. Who served it is seen from outside: which worker holds the other end of the connection.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

import trio

from faultinject.client import Line
from faultinject.target import Site
from refmta.architectures.catalogue import ARCHITECTURES
from specs.claims.instruments import NotHere
from specs.claims.verdict import Reading
from subjects.target import Refmta

#: As shipped, and a process for each session.
REUSED, FRESH = 500, 1
CLIENTS: Final = 8
SESSIONS, ROUNDS = 160, 5
#: For exposure: sessions in a row.
IN_A_ROW: Final = 40
OURS: Final = "composition:refmta"


def compositions() -> tuple[str, ...]:
    """Entry point: what can be composed of our roles."""
    return tuple(ARCHITECTURES)


def session_cost(subject: str, part: str) -> Reading:
    """Sessions per second with reused workers, against a process each; median of the rounds."""
    _only_ours(subject, part)
    with _serving(REUSED) as reused, _serving(FRESH) as fresh:
        for server in (reused, fresh):
            trio.run(_sessions, server, CLIENTS)
        rounds = [(_rate(reused), _rate(fresh)) for _ in range(ROUNDS)]
    ratios = sorted(many / one for many, one in rounds)
    many, one = (statistics.median(each) for each in zip(*rounds, strict=True))
    return Reading(
        statistics.median(ratios),
        f"{many:.0f}/s and {one:.0f}/s, {CLIENTS} clients; {ROUNDS} rounds:"
        f" {ratios[0]:.2f} to {ratios[-1]:.2f}",
    )


def exposure(subject: str, part: str) -> Reading:
    """The most of so many sessions in a row that one worker served, against a process each."""
    _only_ours(subject, part)
    if os.geteuid() != 0:
        raise NotHere("machine with root")
    most = []
    for uses in (REUSED, FRESH):
        with _serving(uses) as server:
            served = Counter(trio.run(_who_serves, server) for _ in range(IN_A_ROW))
            most.append(max(served.values()))
    return Reading(most[0] / most[1], f"{most[0]} and {most[1]} of {IN_A_ROW} sessions")


#: Entry points of the group refmta.specs.measures.
MEASURES: Final = MappingProxyType({"session_cost": session_cost, "exposure": exposure})


def _only_ours(subject: str, part: str) -> None:
    if subject != OURS or part:
        raise NotHere(f"this measure of {subject}")


# -- a server -------------------------------------------------------------------------------------


@contextmanager
def _serving(uses: int, server: Refmta | None = None) -> Iterator[Refmta]:
    """A server whose workers serve so many sessions each."""
    server = server or Refmta(relays=False, traces=False)
    lacks = server.unavailable()
    if lacks:
        raise NotHere(lacks)
    with ExitStack() as after:
        directory = Path(after.enter_context(tempfile.TemporaryDirectory(prefix="refmta-claims-")))
        server.configure(
            Site(
                directory=directory, hostname="mx.claims.test", domain="claims.test",
                users=("ada",), next_hops={},
            )
        )  # fmt: skip
        configuration = directory / "refmta.toml"
        text = configuration.read_text(encoding="utf-8")
        configuration.write_text(_with_uses(text, uses), encoding="utf-8")
        after.callback(server.dispose)
        server.start()
        yield server


def _with_uses(text: str, uses: int) -> str:
    """The configuration with another max_uses for smtpd."""
    lines = text.splitlines()
    place = lines.index("[smtpd]")
    kept = [line for line in lines[place + 1 :] if not line.startswith("max_uses")]
    return "\n".join([*lines[: place + 1], f"max_uses = {uses}", *kept, ""])


# -- sessions -------------------------------------------------------------------------------------


def _rate(server: Refmta) -> float:
    began_s = time.perf_counter()
    trio.run(_sessions, server, SESSIONS)
    return SESSIONS / (time.perf_counter() - began_s)


async def _sessions(server: Refmta, count: int) -> None:
    numbers = iter(range(count))

    async def client() -> None:
        for _ in numbers:
            await _session(server.address)

    async with trio.open_nursery() as nursery:
        for _ in range(CLIENTS):
            nursery.start_soon(client)


async def _session(address: tuple[str, int]) -> None:
    line = Line(await trio.open_tcp_stream(*address), left=0)
    await line.expect("220")
    await line.say("EHLO client.claims.test")
    await line.expect("250")
    await line.quit()


async def _who_serves(server: Refmta) -> int:
    """The worker that greets a new connection; nobody else holds it any more."""
    line = Line(await trio.open_tcp_stream(*server.address), left=0)
    await line.expect("220")
    port = line.stream.socket.getsockname()[1]
    inode = _accepted(server.address[1], port)
    holders = [each.pid for each in server.processes() if _holds(each.pid, inode)]
    await line.quit()
    if len(holders) != 1:
        raise RuntimeError(f"{len(holders)} processes hold one session")
    return holders[0]


def _accepted(port: int, peer: int) -> int:
    """The inode of the server's end of a connection (/proc/net/tcp, proc(5))."""
    ends = (f"{port:04X}", f"{peer:04X}")
    for row in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
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
