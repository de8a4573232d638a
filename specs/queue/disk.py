"""What the disk does in the queue spec: syncs force, crashes choose.

This is the environment: no mutant changes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from specs.queue.states import Copy, Mail, Recipient, State

DELIVERED_NOT_MARKED = "delivered_not_marked"
QMGR_DEAD_IN_FLIGHT = "qmgr_dead_in_flight"
REMOTE_REPLY_LOST = "remote_reply_lost"
REPORT_NOT_MARKED = "report_not_marked"
REPORT_REFUSED = "report_refused_but_survived"


def noted(copy: Copy) -> Copy:
    """Ghost: remember that the chunk was durable once."""
    if copy.name == "durable" and copy.data == "durable" and not copy.safe:
        return copy._replace(safe=True)
    return copy


def directory_synced(state: State) -> State:
    """Every name is durable from here on, and every removal."""
    return state._replace(
        mails=tuple(
            mail._replace(copies=tuple(_name_synced(copy) for copy in mail.copies))
            for mail in state.mails
        )
    )


def _name_synced(copy: Copy) -> Copy:
    if copy.name == "volatile":
        return noted(copy._replace(name="durable"))
    if copy.name == "removed":
        return gone(copy)
    return copy


def unlinked(copy: Copy) -> Copy:
    """The name goes; a crash may bring it back."""
    return copy._replace(name="removed", listed=False)


def gone(copy: Copy) -> Copy:
    """No chunk any more: what happened is kept, the rest is forgotten, so that states merge."""
    return copy._replace(
        name="absent",
        data="partial",
        listed=False,
        safe=copy.safe and (copy.acknowledged or copy.client == "waiting"),
        recipients=tuple(recipient._replace(phase="gone") for recipient in copy.recipients),
    )


def licensed(recipient: Recipient, phase: str, window: str) -> Recipient:
    """Back to this phase, with one more delivery or report licensed by this window."""
    windows = tuple(sorted((*recipient.windows, window)))
    return recipient._replace(phase=phase, windows=windows)


def undone(recipient: Recipient, window: str, *, marks_lost: bool) -> Iterator[Recipient]:
    """What becomes of a recipient when those who worked for it are dead.

    With `marks_lost` (the machine crashed) an unsynced delivery or mark may be lost, or not.
    """
    again = recipient._replace(phase="pending")
    match recipient.phase:
        case "dispatched" | "put_off" | "rejected":
            yield again
        case "written":
            yield again
            repeated = licensed(recipient, "pending", window)
            yield repeated._replace(deliveries=recipient.deliveries + 1)
        case "accepted" | "delivered" | "reported":
            yield licensed(recipient, "pending", window)
        case "telling" | "told":
            yield licensed(recipient, "failed", REPORT_NOT_MARKED)
            if marks_lost:
                yield licensed(recipient, "pending", REPORT_NOT_MARKED)
        case "marked" if marks_lost:
            yield recipient
            yield licensed(recipient, "pending", window)
        case "closed" if marks_lost:
            yield recipient
            yield licensed(recipient, "failed", REPORT_NOT_MARKED)
            yield licensed(recipient, "pending", REPORT_NOT_MARKED)
        case "discarded" if marks_lost:
            yield recipient
            yield recipient._replace(phase="failed")
            yield again
        case "deferred" | "failed" if marks_lost:
            yield recipient
            yield again
        case _:
            yield recipient


def survivors(mail: Mail) -> Iterator[Mail]:
    """Each way in which the disk may come back for one mail."""
    for copies in product(*(_survivors(copy) for copy in mail.copies)):
        yield mail._replace(copies=copies, crashed=False)


def _survivors(copy: Copy) -> list[Copy]:
    """Unsynced things are lost in any combination; memory is lost altogether."""
    names = {"absent": ["absent"], "durable": ["durable"]}.get(copy.name, ["absent", "durable"])
    data = ["partial", "durable"] if copy.data == "volatile" else [copy.data]
    recipients = [
        list(undone(recipient, DELIVERED_NOT_MARKED, marks_lost=True))
        for recipient in copy.recipients
    ]
    ended = copy._replace(progress="ended", listed=False)
    found = []
    for name, octets, chosen in product(names, data, product(*recipients)):
        left = ended._replace(name=name, data=octets, recipients=chosen)
        found.append(noted(left) if name == "durable" else gone(left))
    return list(dict.fromkeys(found))
