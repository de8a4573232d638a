"""Load by smtp-source, and the counting of what arrives in the mailboxes.

*Delivered* runs from the start of the load to the moment the last copy lies in its mailbox,
*accepted* to the end of smtp-source, which exits after its last 250. Each run begins idle and with
empty mailboxes; the discards of the emptying are waited for. Counts are verified: a copy too many,
too few, or too short is a `LoadError`, not a number.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.target import DOMAIN, MAIN_USER, NUMBERED, USERS, Target
from tests.provision import tool

MESSAGE_OCTETS = 4096
POLL_S = 0.01
STALL_S = 60.0  # no new message for so long: given up
SETTLE_LIMIT_S = 60.0
TICKS = os.sysconf("SC_CLK_TCK")


class LoadError(Exception):
    """The load failed, or what was delivered is not what was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One way to send: `messages` messages of 4 KB, each to `recipients` users."""

    clients: int
    messages: int
    kept: bool = False  # connections stay open; otherwise one for each message
    recipients: int = 1
    octets: int = MESSAGE_OCTETS
    user: str = MAIN_USER

    def __str__(self) -> str:
        connection = "kept open" if self.kept else "one each"
        return f"{self.clients:3} clients, {connection}, {self.recipients:2} rcpt"

    @property
    def users(self) -> list[str]:
        """Who receives: smtp-source puts numbers before the name, counting down to none."""
        return [self.user, *NUMBERED[1 : self.recipients]]

    @property
    def copies(self) -> int:
        """How many files must appear."""
        return self.messages * self.recipients


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Messages per second."""

    accepted: float
    delivered: float


def smtp_source(target: Target, shape: Shape) -> list[str]:
    """The command that sends this load where the target listens."""
    numbers = {"s": shape.clients, "m": shape.messages, "l": shape.octets, "r": shape.recipients}
    options = [f"-{key}{value}" for key, value in numbers.items()]
    options += ["-d"] if shape.kept else []
    addresses = ["-f", f"sender@{DOMAIN}", "-t", f"{shape.user}@{DOMAIN}"]
    program = tool("smtp-source") or "smtp-source"
    return target.on_network(program, *options, *addresses, f"inet:{target.host}:{target.port}")


def count(target: Target, users: Iterable[str]) -> int:
    """How many messages lie in the mailboxes."""
    return sum(target.box(user).count() for user in users)


def empty(target: Target) -> None:
    """Remove all delivered mail, and wait for what that costs the disk."""
    for user in USERS:
        target.box(user).empty()
    os.sync()


def cpu_ticks(processes: Iterable[int]) -> int:
    """User and system time of the processes together, in clock ticks."""
    total = 0
    for process in processes:
        try:
            fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
        except OSError:  # gone meanwhile
            continue
        after_name = fields.rpartition(")")[2].split()
        total += int(after_name[11]) + int(after_name[12])
    return total


def settle(target: Target, quiet_s: float = 0.3, limit_s: float = SETTLE_LIMIT_S) -> None:
    """Wait until the server has used no processor time for a while; not longer than the limit."""
    begin = quiet_since = time.monotonic()
    before = cpu_ticks(target.processes())
    while time.monotonic() - quiet_since < quiet_s and time.monotonic() - begin < limit_s:
        time.sleep(POLL_S * 10)
        now = cpu_ticks(target.processes())
        if now > before:
            quiet_since = time.monotonic()
        before = now


@contextmanager
def sending(target: Target, shape: Shape) -> Iterator[subprocess.Popen[bytes]]:
    """smtp-source at work; at the end it must have exited 0."""
    command = smtp_source(target, shape)
    source = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        yield source
    except BaseException:
        source.kill()
        raise
    finally:
        said = source.communicate()[0].decode(errors="replace").strip()
    if source.returncode != 0:
        raise LoadError(f"{target.name}, {shape}: smtp-source: {said[-500:]}")


def run(target: Target, shape: Shape) -> Rates:
    """Send the load to an idle server with empty mailboxes; how fast it went."""
    empty(target)
    settle(target)
    begin = time.perf_counter()
    with sending(target, shape) as source:
        accepted, delivered = watch(target, shape, source)
    verify(target, shape)
    return Rates(
        accepted=shape.messages / (accepted - begin),
        delivered=shape.messages / (delivered - begin),
    )


def watch(target: Target, shape: Shape, source: subprocess.Popen[bytes]) -> tuple[float, float]:
    """Poll until all is accepted and delivered; the two moments."""
    accepted = delivered = 0.0
    seen, progress = 0, time.perf_counter()
    while not (accepted and delivered):
        time.sleep(POLL_S)
        now, arrived = time.perf_counter(), count(target, shape.users)
        if source.poll() is not None and not accepted:
            accepted = now
        if arrived != seen:
            seen, progress = arrived, now
        if arrived >= shape.copies and not delivered:
            delivered = now
        if source.returncode:
            break  # `sending` says why
        if now - progress > STALL_S:
            raise LoadError(f"{target.name}, {shape}: {seen} of {shape.copies} copies arrived")
    return accepted, delivered


def verify(target: Target, shape: Shape) -> None:
    """Each user has as many messages as were sent, and each has its length."""
    for user in shape.users:
        sizes = target.box(user).sizes()
        if len(sizes) != shape.messages:
            wrong = f"{len(sizes)} messages for {user}, {shape.messages} were sent"
            raise LoadError(f"{target.name}, {shape}: {wrong}")
        if min(sizes) < shape.octets * 9 // 10:  # CRLF became LF
            raise LoadError(f"{target.name}, {shape}: {min(sizes)} octets for {user}: cut short")
