"""The queue's invariants: named predicates, true of every state that can be reached.

All but one say the same of each mail, whatever the others do; a mail is the same in very many
states, so what was found for it is remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

from specs.queue.states import Bounds, Mail, State


def _for_each_mail(holds: Callable[[Mail], bool]) -> Callable[[State], bool]:
    """The invariant says the same of each mail, and mails are the same in many states."""
    known = lru_cache(maxsize=1 << 18)(holds)
    return lambda state: all(map(known, state.mails))


def _no_loss(mail: Mail) -> bool:
    """Acknowledged means: delivered to each recipient, or in the queue for it."""
    if not any(copy.acknowledged for copy in mail.copies):
        return True
    for column in zip(*(copy.recipients for copy in mail.copies), strict=True):
        delivered = any(recipient.deliveries for recipient in column)
        queued = any(
            copy.in_queue and recipient.phase != "marked"
            for copy, recipient in zip(mail.copies, column, strict=True)
        )
        if not delivered and not queued:
            return False
    return True


def _no_misdelivery(mail: Mail) -> bool:
    """Nothing is delivered under another message's envelope."""
    return all(
        copy.own or not any(recipient.deliveries for recipient in copy.recipients)
        for copy in mail.copies
    )


def _no_early_reply(mail: Mail) -> bool:
    """A 250 is sent only for what was durable, name and octets."""
    return all(copy.safe or not copy.acknowledged for copy in mail.copies)


def _duplicates_only_in_windows(mail: Mail) -> bool:
    """Each delivery but the first has its window."""
    for copy in mail.copies:
        for recipient in copy.recipients:
            if recipient.deliveries > 1 + len(recipient.windows):
                return False
    resent = [copy for copy in mail.copies if any(r.deliveries for r in copy.recipients)]
    return all(copy.client in {"lost", "refused"} for copy in resent[:-1])


def _marks_after_delivery(mail: Mail) -> bool:
    """Whoever is marked was delivered to, by this very copy."""
    return all(
        recipient.deliveries or recipient.phase != "marked"
        for copy in mail.copies
        for recipient in copy.recipients
    )


def queue_id_never_reused(state: State) -> bool:
    """No two transactions ever have the same queue id."""
    used = [copy.queue_id for mail in state.mails for copy in mail.copies if copy.queue_id]
    return len(used) == len(set(used))


def _bounded(bounds: Bounds) -> Callable[[State], bool]:
    """The queue holds no more than was sent, and a message comes once, plus once per fault."""

    def holds(mail: Mail) -> bool:
        return len(mail.copies) <= 1 + bounds.resends and all(
            recipient.deliveries <= 1 + bounds.faults
            for copy in mail.copies
            for recipient in copy.recipients
        )

    return _for_each_mail(holds)


def settled(state: State) -> bool:
    """Everybody is up, no client waits, and no chunk is left."""
    return (
        state.enqueue
        and state.qmgr
        and all(
            bool(mail.copies)
            and not mail.crashed
            and all(
                copy.client != "waiting" and copy.name in {"absent", "removed"}
                for copy in mail.copies
            )
            for mail in state.mails
        )
    )


def invariants(bounds: Bounds) -> Mapping[str, Callable[[State], bool]]:
    """By name."""
    return {
        "no_loss": _for_each_mail(_no_loss),
        "no_misdelivery": _for_each_mail(_no_misdelivery),
        "no_early_reply": _for_each_mail(_no_early_reply),
        "duplicates_only_in_windows": _for_each_mail(_duplicates_only_in_windows),
        "marks_after_delivery": _for_each_mail(_marks_after_delivery),
        "queue_id_never_reused": queue_id_never_reused,
        "bounded": _bounded(bounds),
    }
