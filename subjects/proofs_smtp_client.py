"""Proofs of one step of the SMTP client, for CrossHair.

Theory. `refmta.protocol.smtp_client_invariants` names what always holds of a session and of one
step. Each function here builds a session of one phase that fulfils them, from a few symbolic
numbers (and checks that it does), feeds it every event that can happen there, and says what is
broken after it: nothing. With the initial session that is the step of an induction over all
sequences of events, of any length.

What is symbolic: the limit of SIZE, which event and which reply, how far a group was answered and
what became of each recipient, flags. What is not: texts (the step never looks into them) and the
number of recipients, which is 2: a place is answered, is being answered, or is still to come. The
search of specs.smtp_client has 1 to 3, over whole conversations, with the octets.

An ImpossibleError counts as a failure: no function filters it out. The events that the caller must
not feed (OURS) are left out by name, in `happenings`.
"""

from __future__ import annotations

from dataclasses import replace

from refmta.protocol.smtp_client import (
    EVENTS,
    OURS,
    Begin,
    ClientOptions,
    Connected,
    ContentSent,
    Event,
    Extensions,
    Finish,
    Hurry,
    Lost,
    NotAReply,
    Phase,
    Replied,
    Session,
    TimedOut,
    Transaction,
    Verb,
    Verdict,
    step,
)
from refmta.protocol.smtp_client_invariants import broken_by_step, broken_invariants
from refmta.wire.reply import reply

OPTIONS = ClientOptions(hostname="client.example")
SEVEN = Transaction(
    reverse_path="a@example.org", recipients=("b@x.example", "c@x.example"), octets=9
)
EIGHT = Transaction(
    reverse_path="", recipients=("b@x.example", "c@x.example"), octets=9, eight_bit=True
)
FAILED = Verdict(kind="failed", enhanced="5.1.1", text="550 5.1.1 no", said=True)
DEFERRED = Verdict(kind="deferred", enhanced="4.2.0", text="450 4.2.0 later", said=True)
#: What became of a recipient whose RCPT was answered.
FATES = (None, FAILED, DEFERRED)

REPLIES = tuple(Replied(reply(code, None, "text")) for code in (250, 354, 421, 450, 550, 552))
#: Every event; several of each whose arguments matter to the step.
HAPPENINGS: tuple[Event, ...] = (
    *REPLIES,
    NotAReply("no reply"),
    Lost("reset"),
    TimedOut(),
    Hurry(),
    Connected(),
    Begin(SEVEN),
    Begin(EIGHT),
    ContentSent(),
    Finish(),
)
_ALONE = (Begin, Finish)  # not while there is a transaction


def happenings(phase: Phase, *, busy: bool) -> tuple[Event, ...]:
    """Those that the phase does not exclude."""
    return tuple(
        event
        for event in HAPPENINGS
        if EVENTS[phase, type(event)] is not OURS and not (busy and isinstance(event, _ALONE))
    )


UNGREETED = (Phase.NEW, Phase.GREETING, Phase.EHLO, Phase.HELO)
BUSY = {phase: happenings(phase, busy=True) for phase in Phase}
IDLE = {phase: happenings(phase, busy=False) for phase in Phase}
MOST = len(HAPPENINGS)


def _broken(before: Session, events: tuple[Event, ...], which: int) -> list[str]:
    """Of what was built, too: the proof is not vacuous. Beyond the last event: nothing."""
    if which >= len(events):
        return []
    after, effects = step(before, events[which], OPTIONS)
    return [
        *broken_invariants(before),
        *broken_by_step(before, events[which], after, effects),
        *broken_invariants(after),
    ]


def _offers(pipelining: bool, size: int, eight_bit_mime: bool) -> Extensions:
    limit = size if size >= 0 else None
    return Extensions(pipelining=pipelining, size=limit, eight_bit_mime=eight_bit_mime)


def _busy(
    phase: Phase, offers: Extensions, eight_bit: bool, first: int, second: int, answered: int
) -> Session:
    """In the middle of a transaction: `answered` recipients have fates."""
    fates = (FATES[first] if answered > 0 else None, FATES[second] if answered > 1 else None)
    transaction = EIGHT if eight_bit else SEVEN
    return Session(
        phase=phase, extensions=offers, transaction=transaction, verdicts=fates, answered=answered
    )


def initial(busy: bool) -> list[str]:
    """
    post: __return__ == []
    """
    verdicts = (None, None) if busy else ()
    return broken_invariants(Session(transaction=SEVEN if busy else None, verdicts=verdicts))


def before_mail(phase: int, busy: bool, eight_bit: bool, event: int) -> list[str]:
    """
    pre: 0 <= phase < len(UNGREETED)
    pre: 0 <= event < MOST
    post: __return__ == []
    """
    here = UNGREETED[phase]
    before = Session(phase=here)
    if busy:
        before = _busy(here, Extensions(), eight_bit, 0, 0, 0)
    return _broken(before, (BUSY if busy else IDLE)[here], event)


def ready(pipelining: bool, size: int, eight_bit_mime: bool, dirty: bool, event: int) -> list[str]:
    """
    pre: -1 <= size
    pre: 0 <= event < MOST
    post: __return__ == []
    """
    offers = _offers(pipelining, size, eight_bit_mime)
    before = Session(phase=Phase.READY, extensions=offers, dirty=dirty)
    return _broken(before, IDLE[Phase.READY], event)


def one_command(
    verb: int, first: int, second: int, size: int, dirty: bool, event: int
) -> list[str]:
    """
    Without PIPELINING. verb: RSET, MAIL, the first RCPT, the second, DATA.

    pre: 0 <= verb < 5
    pre: 0 <= first < len(FATES)
    pre: 0 <= second < len(FATES)
    pre: -1 <= size
    pre: 0 <= event < MOST
    pre: first == 0 or verb >= 3
    pre: second == 0 or (verb == 4 and first == 0)
    post: __return__ == []
    """
    verbs = (Verb.RSET, Verb.MAIL, Verb.RCPT, Verb.RCPT, Verb.DATA)
    before = _busy(
        Phase.ENVELOPE, _offers(False, size, True), False, first, second, max(verb - 2, 0)
    )
    before = replace(before, outstanding=(verbs[verb],), dirty=dirty)
    return _broken(before, BUSY[Phase.ENVELOPE], event)


def in_a_group(done: int, first: int, second: int, dirty: bool, event: int) -> list[str]:
    """
    With PIPELINING; `done` of RSET, MAIL, RCPT, RCPT, DATA were answered.

    pre: 0 <= done < 5
    pre: 0 <= first < len(FATES)
    pre: 0 <= second < len(FATES)
    pre: first == 0 or done >= 3
    pre: second == 0 or done == 4
    pre: 0 <= event < MOST
    post: __return__ == []
    """
    group = (Verb.RSET, Verb.MAIL, Verb.RCPT, Verb.RCPT, Verb.DATA)
    before = _busy(Phase.ENVELOPE, _offers(True, 0, True), True, first, second, max(done - 2, 0))
    before = replace(before, outstanding=group[done:], dirty=dirty)
    return _broken(before, BUSY[Phase.ENVELOPE], event)


def after_mail_was_refused(answered: int, for_good: bool, event: int) -> list[str]:
    """
    With PIPELINING: all have their verdict, and the rest of the group is outstanding.

    pre: 0 <= answered <= 2
    pre: 0 <= event < MOST
    post: __return__ == []
    """
    verdict = FAILED if for_good else DEFERRED
    before = _busy(Phase.ENVELOPE, _offers(True, 0, True), False, 0, 0, answered)
    outstanding = (Verb.RCPT, Verb.RCPT, Verb.DATA)[answered:]
    before = replace(before, outstanding=outstanding, verdicts=(verdict, verdict))
    return _broken(before, BUSY[Phase.ENVELOPE], event)


def content(pipelining: bool, first: int, second: int, event: int) -> list[str]:
    """
    pre: 0 <= first < len(FATES)
    pre: 0 <= second < len(FATES)
    pre: first == 0 or second == 0
    pre: 0 <= event < MOST
    post: __return__ == []
    """
    before = _busy(Phase.CONTENT, _offers(pipelining, 0, True), True, first, second, 2)
    return _broken(before, BUSY[Phase.CONTENT], event)


def final(first: int, second: int, hurried: bool, pipelining: bool, event: int) -> list[str]:
    """
    Also the reply to a lone dot, when nobody was accepted.

    pre: 0 <= first < len(FATES)
    pre: 0 <= second < len(FATES)
    pre: 0 <= event < MOST
    post: __return__ == []
    """
    before = _busy(Phase.FINAL, _offers(pipelining, 0, True), False, first, second, 2)
    before = replace(before, hurried=hurried)
    return _broken(before, BUSY[Phase.FINAL], event)


def at_the_end(closed: bool, event: int) -> list[str]:
    """
    pre: 0 <= event < MOST
    post: __return__ == []
    """
    phase = Phase.CLOSED if closed else Phase.QUIT
    return _broken(Session(phase=phase), IDLE[phase], event)
