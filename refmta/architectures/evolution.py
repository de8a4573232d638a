"""Patterns generate architecture (paper, abstract; claim C26): from the monolith to ours, one
pattern at a time, in the paper's order.

Each step is a function from one architecture to the next, and each of them runs: `evolved-0` is the
monolith, `evolved-8` is `refmta` under another name.  What a step does not need it leaves alone, so
that two neighbours differ by their pattern and by nothing else (`refmta architectures --diff`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final

from refmta.architectures.architecture import (
    OWN,
    RECIPIENT,
    ROOT,
    Architecture,
    CompartmentRow,
    Directory,
    talk,
)
from refmta.architectures.refmta import REFMTA
from refmta.architectures.sendmail import SENDMAIL
from refmta.patterns.defense_in_depth import LAYERS

PREFIX: Final = "evolved"
#: Where the monolith keeps mail.
_QUEUE: Final = ("/mqueue", "/damaged")


@dataclass(frozen=True, slots=True)
class Step:
    """pattern: its name in the paper.  text: what it does to the architecture before it."""

    pattern: str
    text: str
    apply: Callable[[Architecture], Architecture]


# -- the steps ------------------------------------------------------------------------------------


def _compartmentalize(_: Architecture) -> Architecture:
    """By what talks to whom: clients, the queue, mailboxes, next hops.  All are root's still."""
    unjailed = CompartmentRow(
        name="", roles=(), user=ROOT, jail="none", network=True, reason="nothing is jailed"
    )
    rows = (
        replace(unjailed, name="queue", roles=("enqueue", "qmgr", "resolve", "accounts", "bounce"),
                reads=("/",), changes=_QUEUE),
        replace(unjailed, name="local", roles=("local",), changes=("/",),
                ends_with="queue"),
        replace(unjailed, name="smtpd", roles=("smtpd", "resolve", "accounts"), pooled=True,
                uses=1, listener=True, reads=("/",)),
        replace(unjailed, name="remote", roles=("remote",), pooled=True, uses=1, lazy=True,
                ends_with="queue"),
    )  # fmt: skip
    return replace(
        SENDMAIL,
        compartments=rows,
        talks=(
            talk("smtpd", "queue.enqueue"),
            talk("smtpd", "smtpd.resolve"),
            talk("smtpd.resolve", "smtpd.accounts"),
            talk("queue.enqueue", "queue.qmgr"),
            talk("queue.qmgr", "queue.resolve"),
            talk("queue.resolve", "queue.accounts"),
            talk("queue.qmgr", "queue.bounce"),
            talk("queue.bounce", "queue.enqueue"),
            talk("queue.qmgr", "local"),
            talk("queue.qmgr", "remote"),
        ),
        directories=_directories("queue", "queue", 0o700),
        draining=("smtpd", "queue", "remote", "local"),
    )


def _delegate(before: Architecture) -> Architecture:
    """A user for each; mailboxes are written by their owners, one process each."""
    rows = (
        replace(row, user=RECIPIENT, per_user=True)
        if row.name == "local"
        else replace(row, user=OWN)
        for row in before.compartments
    )
    return replace(before, compartments=tuple(rows), layers=("users",))


def _partition(before: Architecture) -> Architecture:
    """Who takes mail in, who schedules it and who writes reports no longer trust each other."""
    shared = before.row("queue")
    parts = (
        replace(shared, name="enqueue", roles=("enqueue",), reads=(), changes=_QUEUE),
        replace(shared, name="qmgr", roles=("qmgr", "resolve", "accounts")),
        replace(shared, name="bounce", roles=("bounce",), reads=(), changes=(), lazy=True,
                ends_with="qmgr"),
    )  # fmt: skip
    others = (
        replace(row, ends_with="qmgr" if row.ends_with else "")
        for row in before.compartments
        if row.name != "queue"
    )
    return replace(
        before,
        compartments=(*parts, *others),
        talks=(
            talk("smtpd", "enqueue"),
            talk("smtpd", "smtpd.resolve"),
            talk("smtpd.resolve", "smtpd.accounts"),
            talk("enqueue", "qmgr"),
            talk("qmgr", "qmgr.resolve"),
            talk("qmgr.resolve", "qmgr.accounts"),
            talk("qmgr", "local"),
            talk("qmgr", "remote"),
            talk("qmgr", "bounce"),
            talk("bounce", "enqueue"),
        ),
        directories=_directories("enqueue", "qmgr", 0o2770),
        draining=("smtpd", "qmgr", "remote", "local", "bounce", "enqueue"),
    )


def _chunk(before: Architecture) -> Architecture:
    """One self-certifying file for each message, one for each in a mailbox; no lock."""
    return replace(
        before,
        compartments=_moved(before.compartments, _QUEUE, ("/chunks", "/damaged")),
        directories=REFMTA.directories,
        store=REFMTA.store,
        mailbox=REFMTA.mailbox,
        keeper=REFMTA.keeper,
        scan_s=REFMTA.scan_s,
    )


def _deepen(before: Architecture) -> Architecture:
    """Layers that need no jail."""
    kept = {*before.layers, "capabilities", "landlock", "seccomp"}
    return replace(before, layers=tuple(each for each in LAYERS if each in kept))


def _prefork(before: Architecture) -> Architecture:
    """Workers serve again, as often as their parent allows."""
    return replace(before, compartments=tuple(replace(row, uses=0) for row in before.compartments))


def _reside(before: Architecture) -> Architecture:
    """One resolver for all who ask, and one process that reads the user database."""
    kept = (replace(row, roles=(row.roles[0],)) for row in before.compartments)
    rows = [replace(row, reads=()) if row.name in ("smtpd", "qmgr") else row for row in kept]
    service = replace(before.row("bounce"), ends_with="")
    rows += [
        replace(service, name="resolve", roles=("resolve",)),
        replace(service, name="accounts", roles=("accounts",), reads=("/",)),
    ]
    return replace(before, compartments=tuple(rows), talks=REFMTA.talks, draining=REFMTA.draining)


def _jail(before: Architecture) -> Architecture:
    """Each in an empty directory, or the one that it works in, and without a network."""
    jailed = {row.name: row for row in REFMTA.compartments}
    return replace(
        before,
        compartments=tuple(jailed[row.name] for row in before.compartments),
        layers=REFMTA.layers,
    )


def _directories(owner: str, group: str, mode: int) -> tuple[Directory, ...]:
    return tuple(
        Directory(path=each.path, owner=owner, group=group, mode=mode)
        for each in SENDMAIL.directories
    )


def _moved(
    rows: Iterable[CompartmentRow], old: tuple[str, ...], new: tuple[str, ...]
) -> tuple[CompartmentRow, ...]:
    return tuple(replace(row, changes=new) if row.changes == old else row for row in rows)


STEPS: Final = (
    Step("Compartmentalization", "a process for each of clients, queue, mailboxes, next hops",
         _compartmentalize),
    Step("Distributed Delegation", "each its own user; mailboxes by their owners", _delegate),
    Step("Trust Partitioning", "enqueue, qmgr and bounce apart, each checking the other",
         _partition),
    Step("Unique Atomic Chunks", "one file for each message, published by one step", _chunk),
    Step("Defense in Depth", "no capabilities, Landlock, seccomp", _deepen),
    Step("Secure Pre-forking", "workers are used again, within limits", _prefork),
    Step("Resident service", "one resolver, one reader of the user database", _reside),
    Step("chroot Jail", "an empty root, or its own directory, and no network", _jail),
)  # fmt: skip


def _evolve() -> dict[str, Architecture]:
    start = replace(SENDMAIL, summary="the monolith")
    line = accumulate(STEPS, _next, initial=start)
    return {
        f"{PREFIX}-{number}": replace(each, name=f"{PREFIX}-{number}")
        for number, each in enumerate(line)
    }


def _next(before: Architecture, step: Step) -> Architecture:
    return replace(step.apply(before), summary=f"{step.pattern}: {step.text}")


#: evolved-0 to evolved-8, by name.
EVOLUTION: Final = _evolve()
