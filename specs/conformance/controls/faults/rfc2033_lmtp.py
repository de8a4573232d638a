"""Faults against RFC 2033: LMTP."""

from __future__ import annotations

from typing import Any, Final

from specs.conformance.controls.answers import Answer, answer, no
from specs.conformance.controls.planting import (
    Fault,
    around,
    both,
    offering,
    refusing,
)
from specs.conformance.controls.session import Session


def _one(go: Any, self: Session, transaction: Any, final: Answer) -> list[Answer]:
    return [final]


def _named_replies(go: Any, self: Any, transaction: Any, final: Answer) -> list[Answer]:
    """One reply a mailbox, however often it was named."""
    names = {each.path.text for each in transaction.recipients}
    return [final] * len(names)


def _all_asked(go: Any, self: Any, argument: str) -> Any:
    """Refused recipients have a reply in the end, too."""
    try:
        return go(argument)
    except Exception:
        self.refused = getattr(self, "refused", 0) + 1
        raise


def _with_refused(go: Any, self: Any, transaction: Any, final: Answer) -> list[Answer]:
    more, self.refused = getattr(self, "refused", 0), 0
    given: list[Answer] = go(transaction, final)
    return given + [answer(550, "5.1.1", "no such user")] * more


def _each_chunk(go: Any, self: Session, chunk: bytes) -> list[Answer]:
    found: list[Answer] = go(chunk)
    if not self.last and self.transaction is not None:
        return found * len(self.transaction.recipients)
    return found


def _both_hellos(go: Any, self: Session, verb: str) -> bool:
    return True


def _data_for_none(go: Any, self: Session, argument: str) -> Any:
    if self.transaction is not None and not self.transaction.recipients:
        raise no(554, "5.5.1", "no valid recipients")
    return go(argument)


def _still(go: Any, self: Session, *rest: Any) -> None:
    kept = self.transaction
    go(*rest)
    self.transaction = kept


FAULTS: Final = (
    Fault("lmtp-one-reply", "2033-4.2-two", "LMTP answers a message once", around("final", _one)),
    Fault(
        "lmtp-reply-a-mailbox",
        "2033-4.2-same-twice",
        "LMTP answers once for each mailbox",
        around("final", _named_replies),
    ),
    Fault(
        "lmtp-refused-replies",
        "2033-4.2-refused-between",
        "LMTP answers for refused recipients, too",
        both(around("do_rcpt", _all_asked), around("final", _with_refused)),
    ),
    Fault("lmtp-ehlo", "2033-4.1-ehlo", "LMTP takes EHLO", around("has", _both_hellos)),
    Fault("lmtp-helo", "2033-4.1-helo", "LMTP takes HELO", around("has", _both_hellos)),
    Fault(
        "lmtp-no-lhlo",
        "2033-4.1-lhlo-lower-case",
        "LMTP knows no LHLO in small letters",
        refusing("(?-i:lhlo) .*", 500, "5.5.1"),
    ),
    Fault(
        "lmtp-data-554",
        "2033-4.2-data-without-rcpt",
        "DATA without recipients is 554",
        around("do_data", _data_for_none),
    ),
    Fault(
        "lmtp-chunks",
        "2033-4.3-chunks",
        "Each chunk is answered for each recipient",
        around("receive_chunk", _each_chunk),
    ),
    Fault(
        "lmtp-last-once", "2033-4.3-last", "The last chunk is answered once", around("final", _one)
    ),
    Fault(
        "lmtp-no-pipelining",
        "2033-5-offers-pipelining",
        "LMTP does not offer PIPELINING",
        offering(drop=["PIPELINING"]),
    ),
    Fault(
        "lmtp-no-enhanced",
        "2033-5-offers-enhancedstatuscodes",
        "LMTP does not offer ENHANCEDSTATUSCODES",
        offering(drop=["ENHANCEDSTATUSCODES"]),
    ),
    Fault(
        "lmtp-lhlo-goes-on",
        "2033-4.1-lhlo-resets",
        "LHLO leaves the transaction open",
        around("hail", _still),
    ),
    Fault(
        "lmtp-lost",
        "2033-4.2-accepted-arrives",
        "What LMTP takes does not arrive",
        around("keep", lambda go, self, *rest: None if self.door.lmtp else go(*rest)),
    ),
)
