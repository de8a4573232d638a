"""What an LMTP client may say of its mail, and every scripted server within bounds against one.

The judge follows the conversation as a third party, as `specs.smtp_client.judge` does, and matches
replies to commands by counting.  What differs from SMTP is at the end (RFC 2033 section 4.2):
behind the content stands a reply for each recipient that was accepted, in their order.  So the
claims that are allowed are each recipient's own:

    MAIL, its RCPT, DATA, or its own final reply: 5yz        failed (552 at RCPT: deferred)
    the same: 4yz                                            deferred
    its own final reply: 2yz                                 delivered, and nothing else
    larger than SIZE, or 8-bit without 8BITMIME, not sent    failed
    anything else                                            deferred

A state is the client's own state (a value), the judge, and what may still be asked.  The actions
are the server's: to whatever is awaited a reply of each class, octets that are no reply, a close,
silence; replies that nobody awaits; and the surroundings': jobs, content that flows, the end.

Bounds: `Bounds`; replies arrive whole and one by one; content is a few octets, and is not compared
(it is the role's to send).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from specs.kernel.explore import Spec
from specs.smtp_client.replies import Answer, Offers, Replies, offers
from specs.smtp_client.transcript import (
    Act,
    Asked,
    Claim,
    Claimed,
    Client,
    Closed,
    ContentFlows,
    Finish,
    Gone,
    Job,
    Kind,
    Received,
    Sent,
    Silence,
    Stimulus,
    WantsContent,
)

#: Invariants, and the clause that each rests on.
INVARIANTS = {
    "delivered_only_by_its_own_reply": "RFC 2033 4.2",
    "taken_is_not_sent_again": "RFC 2033 3; RFC 5321 4.2.5",
    "failed_only_when_refused_for_good": "RFC 5321 4.2.1, 4.5.3.1.10",
    "refused_for_good_is_reported": "RFC 5321 4.2.1, 6.1",
    "again_only_before_the_end": "RFC 5321 4.2.5",
    "no_recipient_forgotten": "RFC 5321 6.1",
    "enhanced_code_fits": "RFC 3463 2",
    "replies_awaited": "RFC 5321 2.1; RFC 2920 3.1",
    "silent_when_it_is_over": "RFC 5321 3.8; RFC 2920 3.1; RFC 2033 4.2",
    "content_only_after_354": "RFC 5321 4.1.1.4",
    "says_what_was_asked": "RFC 5321 4.1.1.2, 4.1.1.3",
    "parameters_as_offered": "RFC 5321 2.2.1; RFC 1870 6.1; RFC 6152 3",
    "clean_before_mail": "RFC 5321 4.1.1.2, 4.1.4",
    "lhlo_and_nothing_else": "RFC 2033 4.1",
    "usable_only_in_step": "RFC 2920 3.1",
}

_DIGITS = {"delivered": "2", "deferred": "4", "failed": "5"}
_BLAMED: dict[Kind, str] = {
    "delivered": "delivered_only_by_its_own_reply",
    "failed": "failed_only_when_refused_for_good",
    "deferred": "refused_for_good_is_reported",
    "returned": "no_recipient_forgotten",  # nothing is given back here
}
_OF_MAIL = frozenset({b"XID", b"XARRIVAL"})
_OF_RCPT = frozenset({b"XMAILBOX", b"XINDEX"})


@dataclass(frozen=True, slots=True)
class Mail:
    """What is known of the transaction for one job.  Codes: 0 is unanswered."""

    said: bool = False  # MAIL was sent
    code: int = 0
    recipients: tuple[int, ...] = ()  # RCPTs sent, each with its code
    data: int = 0
    ended: bool = False  # the end of data was sent
    ends: tuple[int, ...] = ()  # replies to it, so far

    @property
    def accepted(self) -> tuple[int, ...]:
        """Places of the recipients that the content is for."""
        taken = self.code // 100 == 2
        return tuple(at for at, code in enumerate(self.recipients) if taken and code // 100 == 2)

    def end(self, place: int) -> int:
        """The final reply to this recipient; 0 for none."""
        if place not in self.accepted or self.accepted.index(place) >= len(self.ends):
            return 0
        return self.ends[self.accepted.index(place)]


@dataclass(frozen=True, slots=True)
class Judge:
    """The conversation so far, as far as anything to come depends on it."""

    awaited: tuple[str, ...] = ("greeting",)
    replies: Replies = field(default_factory=Replies)
    line: bytes = b""
    content: bytes | None = None  # sent so far, dots stuffed; None: commands are sent
    greeted: bool = False
    offers: Offers = field(default_factory=Offers)
    places: bool = False  # XDELIVERY was offered
    held: bool = False  # the server may hold an envelope
    over: str = ""  # why nothing more may be sent
    job: Job | None = None
    mail: Mail = Mail()
    violated: tuple[tuple[str, str], ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """Of the violated invariants."""
        return frozenset(name for name, _ in self.violated)

    def blame(self, name: str, why: str) -> Judge:
        return replace(self, violated=(*self.violated, (name, why)))

    def unless(self, name: str, fine: bool, why: object) -> Judge:
        return self if fine else self.blame(name, str(why))

    def see(self, entry: Asked | Sent | Received | Claimed | Gone | Closed) -> Judge:
        """The judge after the next entry of the transcript."""
        match entry:
            case Asked(job):
                return replace(self, job=job, mail=Mail())
            case Sent(octets):
                return _sent(self, octets)
            case Received(octets):
                return _received(self, octets)
            case Claimed(claims, usable):
                return _claimed(self, claims, usable=usable)
            case Gone():
                return replace(self, over=self.over or "gone")
            case Closed():
                return self.unless("no_recipient_forgotten", self.job is None, "closed")


# -- what is sent ---------------------------------------------------------------------------------


def _sent(judge: Judge, octets: bytes) -> Judge:
    if octets and judge.line + octets != b"QUIT\r\n":
        judge = judge.unless("silent_when_it_is_over", not judge.over, (octets[:40], judge.over))
    if judge.content is not None:
        return _content(judge, judge.content + octets)
    *lines, rest = (judge.line + octets).split(b"\r\n")
    for line in lines:
        judge = _command(judge, line)
    return replace(judge, line=rest)


def _command(judge: Judge, line: bytes) -> Judge:
    verb = line.partition(b" ")[0].upper().decode("latin-1")
    grouped = judge.offers.pipelining and verb != "LHLO"
    may_follow = not judge.awaited or (
        grouped and set(judge.awaited) <= {"RSET", "MAIL", "RCPT", "END"}
    )
    judge = judge.unless("replies_awaited", may_follow, (line[:40], judge.awaited))
    judge = replace(judge, awaited=(*judge.awaited, verb))
    match verb:
        case "MAIL":
            return _mail(judge, line)
        case "RCPT":
            return _rcpt(judge, line)
        case "RSET" | "LHLO":
            return replace(judge, held=False)
        case "DATA" | "QUIT":
            return judge
        case "EHLO" | "HELO":
            return judge.blame("lhlo_and_nothing_else", verb)
        case _:
            return judge.blame("content_only_after_354", f"no command: {line[:40]!r}")


def _mail(judge: Judge, line: bytes) -> Judge:
    judge = judge.unless("clean_before_mail", not judge.held, "an earlier envelope may be held")
    judge = judge.unless("lhlo_and_nothing_else", judge.greeted, "MAIL, and no LHLO was accepted")
    judge = replace(judge, held=True)
    job = judge.job
    start = b"MAIL FROM:<%s>" % job.reverse_path.encode() if job is not None else b""
    if job is None or judge.mail.said or not line.startswith(start):
        return judge.blame("says_what_was_asked", f"{line[:80]!r}")
    judge = replace(judge, mail=Mail(said=True))
    given = line[len(start) :].split()
    rest = [each for each in given if each.partition(b"=")[0] not in _OF_MAIL]
    allowed = {b"SIZE=%d" % len(job.content)} if judge.offers.size is not None else set()
    needed = {b"BODY=8BITMIME"} if job.eight_bit else set()
    fine = (
        not _obstacle(judge.offers, job)
        and (judge.places or rest == given)
        and needed <= set(rest) <= allowed | needed
    )
    return judge.unless("parameters_as_offered", fine, given)


def _rcpt(judge: Judge, line: bytes) -> Judge:
    job, said = judge.job, judge.mail.recipients
    expected = b""
    if job is not None and judge.mail.said and len(said) < len(job.recipients):
        expected = b"RCPT TO:<%s>" % job.recipients[len(said)].encode()
    words = line[len(expected) :].split()
    judge = judge.unless(
        "says_what_was_asked", bool(expected) and line.startswith(expected), (line[:80], expected)
    )
    known = {each.partition(b"=")[0] for each in words} <= _OF_RCPT
    judge = judge.unless("parameters_as_offered", not words or (judge.places and known), words)
    return replace(judge, mail=replace(judge.mail, recipients=(*said, 0)))


def _obstacle(offered: Offers, job: Job) -> bool:
    return bool(offered.size and len(job.content) > offered.size) or (
        job.eight_bit and not offered.eight_bit
    )


def _content(judge: Judge, octets: bytes) -> Judge:
    """Up to the end of data: as many replies are due as recipients were accepted."""
    end = 0 if octets.startswith(b".\r\n") else octets.find(b"\r\n.\r\n") + 2
    if end == 1:
        return replace(judge, content=octets)
    mail = replace(judge.mail, ended=True)
    awaited = (*judge.awaited, *("END",) * len(mail.accepted))
    judge = replace(judge, content=None, mail=mail, awaited=awaited, held=False)
    return _sent(judge, octets[end + 3 :]) if octets[end + 3 :] else judge


# -- what is received -----------------------------------------------------------------------------


def _received(judge: Judge, octets: bytes) -> Judge:
    if judge.over:
        return judge  # nothing can be known from what follows
    replies, answers = judge.replies.read(octets)
    judge = replace(judge, replies=replies)
    for answer in answers:
        judge = judge if judge.over else _answer(judge, answer)
    return judge


def _answer(judge: Judge, answer: Answer) -> Judge:
    if not judge.awaited:
        return replace(judge, over=f"{answer.code}, which nobody awaited")
    what, judge = judge.awaited[0], replace(judge, awaited=judge.awaited[1:])
    mail = judge.mail
    if answer.code in (0, 421):
        return replace(judge, over="421" if answer.code else "no reply")
    possible = (3, 4, 5) if what == "DATA" else (2, 4, 5)
    if answer.digit not in possible:
        return replace(judge, over=f"out of step: {answer.code} to {what}")
    match what:
        case "MAIL":
            held = judge.held and answer.digit == 2
            judge = replace(judge, mail=replace(mail, code=answer.code), held=held)
        case "RCPT":
            place = mail.recipients.index(0)
            codes = (*mail.recipients[:place], answer.code, *mail.recipients[place + 1 :])
            judge = replace(judge, mail=replace(mail, recipients=codes))
        case "DATA":
            judge = replace(judge, mail=replace(mail, data=answer.code))
            if answer.digit == 3 and not mail.accepted:
                return replace(judge, over="354, and there is no recipient")
            judge = replace(judge, content=b"" if answer.digit == 3 else None)
        case "END":
            judge = replace(judge, mail=replace(mail, ends=(*mail.ends, answer.code)))
        case "LHLO" if answer.digit == 2:
            words = [text.split()[:1] for text in answer.texts[1:]]
            judge = replace(
                judge, greeted=True, offers=offers(answer.texts[1:]), places=[b"XDELIVERY"] in words
            )
        case "greeting" | "LHLO" | "RSET" if answer.digit != 2:
            judge = replace(judge, over=f"refused: {answer.code} to {what}")
    return judge


# -- what is claimed ------------------------------------------------------------------------------


def _claimed(judge: Judge, claims: tuple[Claim, ...], *, usable: bool) -> Judge:
    job = judge.job
    if job is None or len(claims) != len(job.recipients):
        return replace(judge, job=None).blame("no_recipient_forgotten", f"{len(claims)} claims")
    for place, claim in enumerate(claims):
        judge = _judged(judge, job, place, claim)
    idle = not (judge.over or judge.awaited or judge.content is not None)
    judge = judge.unless("usable_only_in_step", idle or not usable, (judge.over, judge.awaited))
    return replace(judge, job=None, mail=Mail())


def _judged(judge: Judge, job: Job, place: int, claim: Claim) -> Judge:
    allowed = allowed_claim(judge, job, place)
    why = f"{job.recipients[place]}: {claim.kind}, where {allowed} is allowed: {judge.mail}"
    if claim.kind != allowed:
        judge = judge.blame(_BLAMED[claim.kind], why)
        if allowed == "delivered":
            judge = judge.blame("taken_is_not_sent_again", why)
    lawful = not claim.elsewhere or (claim.kind == "deferred" and not judge.mail.ended)
    judge = judge.unless("again_only_before_the_end", lawful, why)
    fits = claim.enhanced[:1] == _DIGITS.get(claim.kind)
    return judge.unless("enhanced_code_fits", fits, f"{claim.kind} with {claim.enhanced!r}")


def allowed_claim(judge: Judge, job: Job, place: int) -> Kind:
    """What may be said of this recipient, with what is known now."""
    mail = judge.mail
    if not mail.said:
        limited = judge.greeted and not judge.over and _obstacle(judge.offers, job)
        return "failed" if limited else "deferred"
    rcpt = mail.recipients[place] if place < len(mail.recipients) else 0
    for code in (mail.code, 452 if rcpt == 552 else rcpt, mail.data, mail.end(place)):
        if code // 100 == 5:
            return "failed"
        if code // 100 == 4:
            return "deferred"
    return "delivered" if mail.end(place) // 100 == 2 else "deferred"


# -- every server within bounds -------------------------------------------------------------------

CONTENT = b"Subject: dots\r\n\r\n.\r\n..two\r\n"
#: What LHLO's reply may offer; the size of CONTENT is above the limit.
OFFERS = {
    "nothing": b"250 mx.example\r\n",
    "all": b"250-mx.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 XDELIVERY\r\n",
    "no room": b"250-mx.example\r\n250-PIPELINING\r\n250 SIZE 10\r\n",
}
REPLIES = {
    "2yz": (b"250 2.1.0 fine\r\n",),
    "3yz": (b"354 send it\r\n",),
    "4yz": (b"451 4.3.0 later\r\n",),
    "5yz": (b"550-5.1.1 nobody\r\n550 5.1.1 here\r\n", b"552\r\n"),
    "421": (b"421 4.3.2 closing\r\n",),
    "garbage": (b"2500 fine\r\n",),
}
AWAITED = ("greeting", "LHLO", "RSET", "MAIL", "RCPT", "DATA", "END", "QUIT", "nothing")
ACTIONS = frozenset(
    {f"{kind} to {what}" for kind in REPLIES for what in AWAITED}
    | {"asked", "content flows", "finish", "gone", "silence"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """recipients: of each job, in order."""

    recipients: tuple[int, ...] = (2, 1)
    offers: tuple[str, ...] = tuple(OFFERS)

    def __str__(self) -> str:
        return (
            f"jobs with {self.recipients} recipients, {sum(map(len, REPLIES.values()))} replies, "
            f"close and silence to each of {len(AWAITED) - 1} commands and to none, "
            f"LHLO offers {', '.join(self.offers)}"
        )

    def job(self, number: int) -> Job:
        names = tuple(f"r{place}@example.net" for place in range(self.recipients[number]))
        path = "" if number else "sender@example.org"
        return Job(reverse_path=path, recipients=names, content=CONTENT)


@dataclass(frozen=True, slots=True)
class State:
    """client: its own state.  wants: content may flow.  raised: what the client raised, or ""."""

    client: Hashable
    judge: Judge = field(default_factory=Judge)
    wants: bool = False
    closed: bool = False
    asked: int = 0
    finished: bool = False
    raised: str = ""


NEVER_RAISES = "never_raises"


def client_spec(client: Client, bounds: Bounds) -> Spec[State]:
    """The search's input for one client."""
    return Spec(
        name="lmtp client",
        bounds=f"{client.name}: {bounds}",
        start=lambda: [State(client.start())],
        next=lambda state: _next(client, bounds, state),
        actions=ACTIONS,
        invariants={name: partial(_holds, name) for name in (*INVARIANTS, NEVER_RAISES)},
        settled=lambda state: state.closed and state.judge.job is None,
    )


def _holds(name: str, state: State) -> bool:
    return not state.raised if name == NEVER_RAISES else name not in state.judge.names


def _next(client: Client, bounds: Bounds, state: State) -> Iterator[tuple[str, State]]:
    if state.closed or state.raised or state.judge.violated:
        return
    for action, stimulus, change in _happenings(bounds, state):
        yield action, _fed(client, change(state), stimulus)


def _happenings(
    bounds: Bounds, state: State
) -> Iterator[tuple[str, Stimulus, Callable[[State], State]]]:
    awaited = state.judge.awaited
    if state.wants:
        yield "content flows", ContentFlows(), lambda state: replace(state, wants=False)
    if state.judge.job is None and not state.finished:
        if state.asked < len(bounds.recipients):
            asked = Asked(bounds.job(state.asked))
            yield "asked", asked, lambda state: replace(state, asked=state.asked + 1)
        yield "finish", Finish(), lambda state: replace(state, finished=True)
    yield "gone", Gone(), lambda state: state
    if awaited:
        yield "silence", Silence(), lambda state: state
    what = awaited[0] if awaited else "nothing"
    for kind, shapes in REPLIES.items():
        offered = tuple(OFFERS[name] for name in bounds.offers)
        for octets in offered if (kind, what) == ("2yz", "LHLO") else shapes:
            yield f"{kind} to {what}({octets!r})", Received(octets), lambda state: state


def _fed(client: Client, state: State, stimulus: Stimulus) -> State:
    """The client's next state, its acts judged."""
    try:
        after, acts = client.feed(state.client, stimulus)
    except Exception as error:  # whatever it raises, it should not have
        return replace(state, raised=f"{type(error).__name__}: {error}")
    judge = state.judge
    if isinstance(stimulus, Asked | Received | Gone):
        judge = judge.see(stimulus)
    if isinstance(stimulus, Silence):
        judge = judge.see(Gone())
    return _done(replace(state, client=after, judge=judge), acts)


def _done(state: State, acts: Iterable[Act]) -> State:
    for act in acts:
        if isinstance(act, WantsContent):
            state = replace(state, wants=True)
            continue
        state = replace(state, judge=state.judge.see(act))
        if isinstance(act, Closed):
            state = replace(state, closed=True, wants=False)
        if isinstance(act, Claimed) and not act.usable:
            state = replace(state, finished=True)
    return state
