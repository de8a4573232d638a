"""How fast a server is: messages delivered per second, on two processors against one, and what a
process costs here, which is told beside each of these numbers.

Servers of a kind (our compositions; real ones) are measured together, in rounds in which they take
turns in an order that changes: what else happens on the machine happens to all of them. The load is
smtp-source's: 20 clients, 4 KB, a connection for each message, all to one mailbox. Delivered is
counted in that mailbox: a Maildir, or in the monolith's composition an mbox.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from refmta.architectures.catalogue import ARCHITECTURES
from specs.claims.instruments import NotHere
from specs.claims.verdict import Reading
from subjects.measures_places import (
    COMPOSITION,
    SERVER,
    Place,
    await_delivered,
    await_empty,
    need_root,
    peers,
    place,
)
from subjects.measures_programs import beside, said, tool

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENTS, OCTETS = 20, 4096
MESSAGES, WARM_UP, ROUNDS = 400, 60, 5
#: Processes that are made and ended to see what one costs.
MADE: Final = 60
#: Makes children as a pool's template does, and says how many milliseconds each took.
FORKS: Final = f"""
import os, statistics, sys, time
import refmta.processes.pool, refmta.roles.smtpd
def one():
    began = time.perf_counter()
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return time.perf_counter() - began
print(1000 * statistics.median(one() for _ in range({MADE})))
"""


# -- what a process costs -------------------------------------------------------------------------


@cache
def process_cost() -> str:
    """In words: a fork of a warm interpreter, a small program, a new interpreter."""
    fork = float(said([sys.executable, "-c", FORKS]))
    small = statistics.median(_timed(["/bin/true"]) for _ in range(MADE))
    fresh = statistics.median(_timed([sys.executable, "-I", "-c", ""]) for _ in range(5))
    return (
        f"a process costs here {fork:.2g} ms by fork of a warm interpreter,"
        f" {small:.2g} ms by exec of a small C program, {fresh:.2g} ms by a new interpreter"
    )


def _timed(command: list[str]) -> float:
    began_s = time.perf_counter()
    said(command)
    return 1000 * (time.perf_counter() - began_s)


# -- load -----------------------------------------------------------------------------------------


def smtp_source() -> str:
    """The load generator.  Raises NotHere."""
    return tool("smtp-source", "postfix")


def delivered_per_s(found: Place, messages: int) -> float:
    """From the load's start until the last message lies in the mailbox of an idle server."""
    await_empty(found)
    os.sync()
    user, (host, port) = found.users[0], found.address
    before = found.mailboxes[user].count()
    address = f"{user}@{found.domain}"
    command = found.on_network(
        smtp_source(), f"-s{CLIENTS}", f"-m{messages}", f"-l{OCTETS}", "-f", address,
        "-t", address, f"inet:{host}:{port}",
    )  # fmt: skip
    began_s = time.perf_counter()
    with beside(command) as source:
        ended_s = await_delivered(found, user, before + messages, lambda: bool(source.poll()))
    return messages / (ended_s - began_s)


def in_turns(
    places: Mapping[str, Place], rounds: int = ROUNDS
) -> dict[str, list[float] | Exception]:
    """Each one's rates; who loses or delays mail is out of it, with the reason."""
    chance = random.Random(0)  # noqa: S311
    found: dict[str, list[float]] = {name: [] for name in places}
    errors: dict[str, Exception] = {}
    for turn in range(rounds + 1):
        for name in chance.sample(sorted(found), len(found)):
            try:
                rate = delivered_per_s(places[name], MESSAGES if turn else WARM_UP)
            except Exception as error:  # the others go on
                errors[name] = error
                del found[name]
                continue
            if turn:
                found[name].append(rate)
    return {**found, **errors}


# -- messages per second --------------------------------------------------------------------------


_RATES: Final[dict[str, Reading | Exception]] = {}


def rate(subject: str, part: str) -> Reading:
    """Messages delivered per second.  Raises NotHere, or whatever its own server raised."""
    need_root()
    smtp_source()
    if subject not in _RATES:
        _RATES.update(contest(_of_its_kind(subject)))
    found = _RATES.get(subject, NotHere(f"this measure of {subject}"))
    if isinstance(found, Exception):
        raise found
    return found


def _of_its_kind(subject: str) -> tuple[str, ...]:
    """All that it is measured beside."""
    if subject.startswith(COMPOSITION):
        return tuple(f"{COMPOSITION}{name}" for name in ARCHITECTURES)
    return tuple(f"{SERVER}{name}" for name in peers().available())


def contest(subjects: Iterable[str]) -> dict[str, Reading | Exception]:
    """The rate of each; who does not start, or loses mail, has an error instead."""
    errors: dict[str, Reading | Exception] = {}
    with ExitStack() as after:
        running: dict[str, Place] = {}
        for subject in subjects:
            try:
                running[subject] = after.enter_context(place(subject))
            except Exception as error:  # the others go on
                errors[subject] = error
        found = in_turns(running)
    return errors | {
        subject: rates if isinstance(rates, Exception) else as_reading(rates)
        for subject, rates in found.items()
    }


def as_reading(rates: list[float]) -> Reading:
    """The median, how far it spreads, and what a process costs."""
    return Reading(
        statistics.median(rates),
        f"/s, {CLIENTS} clients, {len(rates)} rounds: {min(rates):.0f} to {max(rates):.0f};"
        f" {process_cost()}",
    )


# -- a second processor ---------------------------------------------------------------------------


def scaling(subject: str, part: str) -> Reading:
    """The rate on two processors against one; the load generator may use both."""
    need_root()
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        raise NotHere("a second processor")
    one, two = [], []
    with place(subject) as found:
        delivered_per_s(found, WARM_UP)
        for _ in range(ROUNDS):
            with bound_to(found, processors[:1]):
                one.append(delivered_per_s(found, MESSAGES))
            two.append(delivered_per_s(found, MESSAGES))
    many, single = statistics.median(two), statistics.median(one)
    return Reading(many / single, f"{many:.0f}/s and {single:.0f}/s; {process_cost()}")


@contextmanager
def bound_to(found: Place, processors: Iterable[int]) -> Iterator[None]:
    """All of a server's processes, and what they make meanwhile, on these processors only."""
    everywhere = os.sched_getaffinity(0)
    bind(found, set(processors))
    try:
        yield
    finally:
        bind(found, everywhere)


def bind(found: Place, processors: set[int]) -> None:
    """Twice: what was born while we looked is found the second time."""
    for _ in range(2):
        for process in found.processes():
            for thread in _threads(process.pid):
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(thread, processors)


def _threads(pid: int) -> list[int]:
    try:
        return [int(each.name) for each in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []
