"""The queue's invariants: named predicates, true of every state that can be reached.

All but one say the same of each mail, whatever the others do; a mail is the same in very many
states, so what was found for it is remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

from specs.queue.disk import DELIVERED_NOT_MARKED, QMGR_DEAD_IN_FLIGHT, REMOTE_REPLY_LOST
from specs.queue.states import REMOTE, SETTLED, Bounds, Copy, Mail, Recipient, State


def _for_each_mail(holds: Callable[[Mail], bool]) -> Callable[[State], bool]:
    """The invariant says the same of each mail, and mails are the same in many states."""
    known = lru_cache(maxsize=1 << 18)(holds)
    return lambda state: all(map(known, state.mails))


def _no_loss(mail: Mail) -> bool:
    """Acknowledged means: delivered to each recipient, or its sender told by a report that is not
    lost itself, or in the queue for it. With a null sender a refusal ends it.
    """
    sent = mail.sent
    if any(copy.acknowledged for copy in sent):
        for column in zip(*(copy.recipients for copy in sent), strict=True):
            if not any(map(_kept(mail.null), sent, column)):
                return False
    return all(
        _kept(True)(report, recipient)
        for report in mail.reports
        if report.acknowledged
        for recipient in report.recipients
    )


def _kept(null: bool) -> Callable[[Copy, Recipient], bool]:
    """Whether this copy has done its duty to this recipient, or still may."""

    def holds(copy: Copy, recipient: Recipient) -> bool:
        ended = recipient.deliveries or recipient.told or (null and recipient.refused)
        return bool(ended) or (copy.in_queue and recipient.phase not in SETTLED)

    return holds


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
    """Each delivery or report but the first has its window."""
    for copy in mail.copies:
        for recipient in copy.recipients:
            if recipient.deliveries + recipient.reports > 1 + len(recipient.windows):
                return False
    resent = [copy for copy in mail.sent if any(r.deliveries for r in copy.recipients)]
    return all(copy.client in {"lost", "refused"} for copy in resent[:-1])


SEND_WINDOWS = frozenset({DELIVERED_NOT_MARKED, QMGR_DEAD_IN_FLIGHT, REMOTE_REPLY_LOST})


def _sent_again_only_in_windows(mail: Mail) -> bool:
    """To a next hop a message goes again only if it is not known whether it was taken."""
    return all(
        recipient.deliveries <= 1 + sum(each in SEND_WINDOWS for each in recipient.windows)
        for copy in mail.copies
        for recipient in copy.recipients
        if recipient.kind == REMOTE
    )


def _marks_after_delivery(mail: Mail) -> bool:
    """Whoever is marked was delivered to, by this very copy."""
    return all(
        recipient.deliveries or recipient.phase != "marked"
        for copy in mail.copies
        for recipient in copy.recipients
    )


def _failures_reported(mail: Mail) -> bool:
    """Whoever is done with for good without a delivery: a report was kept, or nobody is to be told.

    And no sender is told of a failure that was none.
    """
    for copy in mail.copies:
        for recipient in copy.recipients:
            if recipient.phase == "closed" and not recipient.told:
                return False
            if recipient.phase == "discarded" and mail.has_sender(copy):
                return False
            if recipient.reports and not recipient.refused:
                return False
    return True


def _no_report_about_a_report(mail: Mail) -> bool:
    """Nor about anything else that has a null sender."""
    return all(mail.has_sender(mail.copies[report.about]) for report in mail.reports)


def queue_id_never_reused(state: State) -> bool:
    """No two transactions ever have the same queue id."""
    used = [copy.queue_id for mail in state.mails for copy in mail.copies if copy.queue_id]
    return len(used) == len(set(used))


def _bounded(bounds: Bounds) -> Callable[[State], bool]:
    """The queue holds no more than was sent, and a message comes once, plus once per fault;
    and so does a report about a recipient.
    """

    def holds(mail: Mail) -> bool:
        return len(mail.sent) <= 1 + bounds.resends and all(
            max(recipient.deliveries, recipient.reports) <= 1 + bounds.faults
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
        "sent_again_only_in_windows": _for_each_mail(_sent_again_only_in_windows),
        "marks_after_delivery": _for_each_mail(_marks_after_delivery),
        "failures_reported": _for_each_mail(_failures_reported),
        "no_report_about_a_report": _for_each_mail(_no_report_about_a_report),
        "queue_id_never_reused": queue_id_never_reused,
        "bounded": _bounded(bounds),
    }
