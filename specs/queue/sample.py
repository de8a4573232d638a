"""A small trace, with its system calls, as a running server writes them: controls mutate it.

One message for two recipients: one delivered at once, the other refused by the next hop; the report
about it goes back through that next hop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from specs.kernel.lives import Event

SUPERVISOR, ENQUEUE, SMTPD, QMGR, ADA, REMOTE, BOUNCE = 1, 10, 20, 30, 40, 50, 60
SPOOL, HOME, TRACE = "/var/spool/chunks", "/home/ada", "/var/log/trace"

Said = tuple[int, str, Mapping[str, str]]


def _one(queue_id: str, index: int, recipient: str, **more: str) -> dict[str, str]:
    return {"queue_id": queue_id, "index": str(index), "recipient": recipient, **more}


def _committed(queue_id: str, recipients: int, sender: str) -> Said:
    fields = {
        "queue_id": queue_id,
        "recipients": str(recipients),
        "sender": sender,
        "path": f"chunks/{queue_id}",
    }
    return ENQUEUE, "enqueue.committed", fields


ADA_0 = _one("M", 0, "ada@example.org")
BOB_1 = _one("M", 1, "bob@example.net")
EVE_0 = _one("R", 0, "eve@example.org")
REPORTED = {
    "queue_id": "M",
    "report": "R",
    "recipients": "1",
    "kind": "failed",
    "to": "eve@example.org",
}

SAID: tuple[Said, ...] = (
    (SUPERVISOR, "supervisor.started", {}),
    _committed("M", 2, "eve@example.org"),
    (SMTPD, "smtpd.replied", {"queue_id": "M"}),
    (QMGR, "qmgr.dispatched", ADA_0),
    (QMGR, "qmgr.dispatched", BOB_1),
    (ADA, "local.delivered", ADA_0 | {"path": "Maildir/new/m0"}),
    (QMGR, "qmgr.marked", ADA_0 | {"outcome": "delivered"}),
    (QMGR, "qmgr.deferred", BOB_1),
    (QMGR, "qmgr.dispatched", BOB_1),
    (QMGR, "qmgr.marked", BOB_1 | {"outcome": "failed"}),
    _committed("R", 1, ""),
    (BOUNCE, "bounce.reported", REPORTED),
    (QMGR, "qmgr.marked", BOB_1 | {"outcome": "reported"}),
    (QMGR, "qmgr.freed", {"queue_id": "M"}),
    (QMGR, "qmgr.dispatched", EVE_0),
    (REMOTE, "remote.sent", EVE_0),
    (QMGR, "qmgr.marked", EVE_0 | {"outcome": "delivered"}),
    (QMGR, "qmgr.freed", {"queue_id": "R"}),
)


def numbered(said: Sequence[Said]) -> list[Event]:
    """As events, each process counting its own."""
    counts: dict[int, int] = {}
    events = []
    for pid, action, fields in said:
        counts[pid] = counts.get(pid, 0) + 1
        events.append(Event(pid=pid, sequence=counts[pid], action=action, fields=fields))
    return events


def line(pid: int, sequence: int, action: str) -> str:
    """The write of an event, as strace shows it."""
    text = rf"{{\"pid\": {pid}, \"sequence\": {sequence}, \"action\": \"{action}\""
    return f'write(9<{TRACE}>, "{text}"..., 140) = 140'


def chunk(name: str, sequence: int) -> tuple[str, ...]:
    """enqueue's calls for one message."""
    return (
        f'openat(4</var/spool>, "chunks/{name}", O_RDWR|O_CREAT|O_EXCL|O_APPEND|O_NOFOLLOW'
        f"|O_CLOEXEC, 0660) = 7<{SPOOL}/{name}>",
        f'write(7<{SPOOL}/{name}>, "E..."..., 900) = 900',
        f"fsync(7<{SPOOL}/{name}>) = 0",
        f'openat(4</var/spool>, "chunks", O_RDONLY|O_NOFOLLOW|O_CLOEXEC|O_DIRECTORY) = 8<{SPOOL}>',
        f"fsync(8<{SPOOL}>) = 0",
        line(ENQUEUE, sequence, "enqueue.committed"),
    )


MAILDIR, STAGING = f"{HOME}/Maildir", "tmp"
STAGED = f"{MAILDIR}/{STAGING}/m0"
DELIVERY = (
    f'mkdirat(4<{HOME}>, "Maildir", 0700) = 0',
    f'mkdirat(4<{HOME}>, "Maildir/{STAGING}", 0700) = 0',
    f'mkdirat(4<{HOME}>, "Maildir/new", 0700) = 0',
    f"fsync(5<{HOME}>) = 0",
    f"fsync(5<{MAILDIR}>) = 0",
    f'openat(4<{HOME}>, "Maildir/{STAGING}/m0", O_RDWR|O_CREAT|O_EXCL, 0600) = 7<{STAGED}>',
    f'write(7<{STAGED}>, "Return-Path:"..., 800) = 800',
    f"fsync(7<{STAGED}>) = 0",
    f'renameat(4<{HOME}>, "Maildir/{STAGING}/m0", 4<{HOME}>, "Maildir/new/m0") = 0',
    f"fsync(8<{MAILDIR}/new>) = 0",
    line(ADA, 1, "local.delivered"),
)

CALLS: Mapping[int, Sequence[str]] = {
    ENQUEUE: (*chunk("M", 1), *chunk("R", 2)),
    ADA: DELIVERY,
}
