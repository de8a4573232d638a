"""What always holds of an SMTP client's session, and of one step of it.

The proofs (subjects.proofs_smtp_client), the search over all reachable states and the negative
controls hold `smtp_client.step` to these. They are about the machine's own state; what a next hop
may see and what may be claimed of it is judged from outside, over transcripts (specs.smtp_client).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from refmta.protocol.smtp_client import (
    Begin,
    Close,
    Done,
    Effects,
    Event,
    Extensions,
    Hurry,
    Phase,
    Replied,
    Send,
    SendContent,
    SendEnd,
    Session,
    Transaction,
    Verb,
    Verdict,
)

IN_TRANSACTION: Final = (Phase.ENVELOPE, Phase.CONTENT, Phase.FINAL)
_BETWEEN: Final = (Phase.READY, Phase.QUIT, Phase.CLOSED)


def _in_order(session: Session) -> bool:
    """`outstanding` is what is left of a group, or one command that stands alone."""
    left = len(session.verdicts) - session.answered
    group = (Verb.RSET, Verb.MAIL, *(Verb.RCPT,) * left, Verb.DATA)
    if session.extensions.pipelining:
        return session.outstanding in (group, group[1:], group[2:])
    return session.outstanding in ((Verb.RSET,), (Verb.MAIL,), (group[2],))


def _unasked_are_open(session: Session) -> bool:
    """A recipient has its verdict by its RCPT, or all have one because MAIL was refused."""
    return None not in session.verdicts or not any(session.verdicts[session.answered :])


INVARIANTS: Final[Mapping[str, Callable[[Session], bool]]] = {
    "a transaction while one is under way": lambda s: (
        (s.transaction is not None or s.phase not in IN_TRANSACTION)
        and (s.transaction is None or s.phase not in _BETWEEN)
    ),
    "a place for a verdict per recipient": lambda s: (
        len(s.verdicts) == (len(s.transaction.recipients) if s.transaction else 0)
        and 0 <= s.answered <= len(s.verdicts)
    ),
    "outstanding commands in ENVELOPE, in order": lambda s: (
        bool(s.outstanding) is (s.phase is Phase.ENVELOPE)
        and (not s.outstanding or _in_order(s))
    ),
    "verdicts by RCPT, or all by MAIL": lambda s: (
        _unasked_are_open(s)
        and (any(s.verdicts) is False or s.phase in IN_TRANSACTION)
        and (s.answered == 0 or s.phase in IN_TRANSACTION)
        and (not s.outstanding or s.outstanding[0] in (Verb.RCPT, Verb.DATA)
             or (not any(s.verdicts) and s.answered == 0))
    ),
    "a verdict before the end is a refusal": lambda s: (
        all(each is None or (each.said and each.kind in ("deferred", "failed"))
            for each in s.verdicts)
    ),
    "content for somebody": lambda s: (
        s.phase is not Phase.CONTENT or (None in s.verdicts and s.answered == len(s.verdicts))
    ),
    "DATA for somebody, or in a group": lambda s: (
        s.extensions.pipelining or s.outstanding != (Verb.DATA,) or None in s.verdicts
    ),
    "hurried only while the last reply is awaited": lambda s: (
        not s.hurried or s.phase is Phase.FINAL
    ),
    "nothing is known of a server before EHLO": lambda s: (
        s.phase in (Phase.READY, *IN_TRANSACTION)
        or (s.extensions == Extensions() and not s.dirty)
    ),
}  # fmt: skip


def _begun(before: Session, event: Event) -> Transaction | None:
    """The transaction that this step may end."""
    return event.transaction if isinstance(event, Begin) else before.transaction


def _outcomes(effects: Effects) -> tuple[Done, ...]:
    return tuple(effect for effect in effects if isinstance(effect, Done))


def _new(before: Session, effects: Effects) -> tuple[Verdict, ...]:
    """Verdicts of a Done that were not there before."""
    known = before.verdicts
    return tuple(
        verdict
        for done in _outcomes(effects)
        for place, verdict in enumerate(done.verdicts)
        if place >= len(known) or known[place] is None
    )


def _code(event: Event) -> int:
    return event.reply.code if isinstance(event, Replied) else 0


def _may_fail(before: Session, event: Event) -> bool:
    """A 5yz to this transaction, or nothing was sent because a limit forbids it."""
    if before.phase not in IN_TRANSACTION:
        return isinstance(event, Begin) or (
            before.phase in (Phase.EHLO, Phase.HELO) and 200 <= _code(event) < 300
        )
    too_many = before.outstanding[:1] == (Verb.RCPT,) and _code(event) == 552
    return _code(event) >= 500 and not too_many


def _sent(effects: Effects) -> int:
    return sum(isinstance(effect, Send | SendContent | SendEnd) for effect in effects)


STEP_INVARIANTS: Final[Mapping[str, Callable[[Session, Event, Session, Effects], bool]]] = {
    "delivered only by the reply to the content": lambda before, event, _after, effects: (
        all(verdict.kind != "delivered" for verdict in _new(before, effects))
        or (before.phase is Phase.FINAL and 200 <= _code(event) < 300)
    ),
    "taken is delivered": lambda before, event, _after, effects: (
        before.phase is not Phase.FINAL
        or not 200 <= _code(event) < 300
        or all(verdict.kind == "delivered" for verdict in _new(before, effects))
    ),
    "failed only by a refusal for good": lambda before, event, _after, effects: (
        all(verdict.kind != "failed" for verdict in _new(before, effects))
        or _may_fail(before, event)
    ),
    "returned or elsewhere only while no end was sent": lambda before, event, _after, effects: (
        all(
            (verdict.kind != "returned" or isinstance(event, Hurry))
            and ((verdict.kind != "returned" and not verdict.elsewhere)
                 or before.phase is not Phase.FINAL)
            for verdict in _new(before, effects)
        )
    ),
    "every transaction has one Done, complete": lambda before, event, after, effects: (
        tuple(len(done.verdicts) for done in _outcomes(effects))
        == tuple(
            len(transaction.recipients)
            for transaction in (_begun(before, event),)
            if transaction is not None and after.transaction is None
        )
    ),
    "a verdict stands": lambda before, _event, after, effects: (
        all(
            known is None or verdicts[place] == known
            for verdicts in (after.verdicts, *(done.verdicts for done in _outcomes(effects)))
            if verdicts
            for place, known in enumerate(before.verdicts)
        )
    ),
    "after 421 only the end": lambda before, event, after, effects: (
        _code(event) != 421
        or before.phase is Phase.CLOSED
        or (after.phase is Phase.CLOSED and _sent(effects) == 0)
    ),
    "one thing is sent, when nothing is outstanding": lambda before, _event, _after, effects: (
        _sent(effects) <= 1 and (_sent(effects) == 0 or len(before.outstanding) <= 1)
    ),
    "usable is ready": lambda _before, _event, after, effects: (
        all(done.usable is (after.phase is Phase.READY) for done in _outcomes(effects))
    ),
    "closing is the end": lambda before, event, after, effects: (
        (after == before and (effects == () or isinstance(event, Begin)))
        if before.phase is Phase.CLOSED
        else (
            sum(isinstance(effect, Close) for effect in effects) == (after.phase is Phase.CLOSED)
            and (after.phase is not Phase.CLOSED or isinstance(effects[-1], Close))
        )
    ),
}  # fmt: skip


def broken_invariants(session: Session) -> list[str]:
    """Names of the invariants that this state breaks: none, or there is a bug here."""
    return [name for name, holds in INVARIANTS.items() if not holds(session)]


def broken_by_step(before: Session, event: Event, after: Session, effects: Effects) -> list[str]:
    """Names of the invariants that this step breaks."""
    return [
        name for name, holds in STEP_INVARIANTS.items() if not holds(before, event, after, effects)
    ]
