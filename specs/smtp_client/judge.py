"""The oracle: over a transcript, which octets and which claims RFC 5321 and its kin allow.

The judge follows the conversation as a third party: it reads the client's commands and the server's
replies, and matches them by counting (RFC 2920 section 3.1). So it knows for each recipient what
the server said, and hence the *set* of claims that are allowed; a client may choose within it.

    the reply to the end of its content was 2yz              delivered, and nothing else
    MAIL, its RCPT, DATA or its content: 5yz                 failed (552 at RCPT: deferred)
    the same: 4yz                                            deferred
    a refusal while the content was under way, 5yz           failed, deferred
    larger than SIZE, or 8-bit without 8BITMIME, not sent    failed
    anything else, the end of its content was sent           deferred
    anything else                                            deferred, returned

"Anything else" holds a 421, a lost connection, silence, octets that are no reply, a reply of a
class that the command can't have, one that nobody awaited, and a refusal before MAIL.

What may be sent: INVARIANTS. Judged over what the client had read (see transcript). The state is a
value, so that a search can hold many; memory is the job's content, once.

What it doesn't do: time (what was waited for how long), and whether the message should have gone
to this host at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from specs.smtp_client.replies import Answer, Offers, Replies, offers
from specs.smtp_client.transcript import (
    Asked,
    Claim,
    Claimed,
    Closed,
    Entry,
    Gone,
    Job,
    Kind,
    Received,
    Sent,
)

INVARIANTS = {
    "delivered_only_by_the_final_reply": "RFC 5321 3.3, 4.1.1.4, 6.1",
    "taken_is_not_sent_again": "RFC 5321 4.1.1.4, 4.2.5",
    "failed_only_when_refused_for_good": "RFC 5321 4.2.1, 4.5.3.1.10",
    "refused_for_good_is_reported": "RFC 5321 4.2.1, 6.1",
    "returned_only_before_the_end": "RFC 5321 4.2.5",
    "elsewhere_only_before_the_end": "RFC 5321 4.2.5, 5.1",
    "no_recipient_forgotten": "RFC 5321 6.1",
    "enhanced_code_fits": "RFC 3463 2",
    "replies_awaited": "RFC 5321 2.1, 3.1; RFC 2920 3.1",
    "silent_after_421": "RFC 5321 3.8, 4.2.3",
    "silent_when_out_of_step": "RFC 2920 3.1",
    "content_only_after_354": "RFC 5321 4.1.1.4",
    "content_is_the_message": "RFC 5321 4.5.2; RFC 2920 3.1",
    "says_what_was_asked": "RFC 5321 4.1.1.2, 4.1.1.3",
    "parameters_as_offered": "RFC 5321 2.2.1; RFC 1870 6.1; RFC 6152 3",
    "clean_before_mail": "RFC 5321 4.1.1.2, 4.1.4",
    "hello_before_mail": "RFC 5321 3.2, 4.1.4",
    "usable_only_in_step": "RFC 2920 3.1",
}

_MID_GROUP = frozenset({"RSET", "MAIL", "RCPT", "END"})  # RFC 2920 3.1: what may have more behind
_DIGITS = {"delivered": "2", "deferred": "4", "failed": "5", "returned": ""}
_CLAIM_INVARIANTS: dict[Kind, str] = {
    "delivered": "delivered_only_by_the_final_reply",
    "failed": "failed_only_when_refused_for_good",
    "returned": "returned_only_before_the_end",
    "deferred": "refused_for_good_is_reported",
}


@dataclass(frozen=True, slots=True)
class Mail:
    """What is known of the transaction for one job. Codes: 0 is unanswered."""

    said: bool = False  # MAIL was sent
    code: int = 0
    recipients: tuple[int, ...] = ()  # RCPTs sent, each with its code
    data: int = 0
    early: int = 0  # a refusal while content was sent
    ended: bool = False  # the end of data was sent
    end: int = 0

    @property
    def for_somebody(self) -> bool:
        return self.code // 100 == 2 and any(code // 100 == 2 for code in self.recipients)


@dataclass(frozen=True, slots=True)
class Judge:
    """The conversation so far, as far as anything to come depends on it."""

    awaited: tuple[str, ...] = ("greeting",)
    replies: Replies = field(default_factory=Replies)
    line: bytes = b""  # of a command, sent so far
    content: bytes | None = None  # sent so far, dots stuffed; None: commands are sent
    greeted: bool = False  # EHLO or HELO was accepted
    offers: Offers = field(default_factory=Offers)
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

    def see(self, entry: Entry) -> Judge:
        """The judge after the next entry of the transcript."""
        match entry:
            case Asked(job):
                judge = self if self.job is None else self.blame("no_recipient_forgotten", "asked")
                return replace(judge, job=job, mail=Mail())
            case Sent(octets):
                return _sent(self, octets)
            case Received(octets):
                return _received(self, octets)
            case Claimed(claims, usable):
                return _claimed(self, claims, usable=usable)
            case Gone():
                return replace(self, over=self.over or "gone")
            case Closed():
                forgotten = self.job is not None
                return self.blame("no_recipient_forgotten", "closed") if forgotten else self


def judge(transcript: Iterable[Entry]) -> Judge:
    """All of it. `violated` has invariants and details, in order; empty: all is allowed."""
    state = Judge()
    for entry in transcript:
        state = state.see(entry)
    return state


# -- what is sent ---------------------------------------------------------------------------------


def _sent(judge: Judge, octets: bytes) -> Judge:
    if judge.content is not None:
        spoken = octets and not judge.mail.early  # refused already: it may be sent to its end
        return _content(_silent(judge, octets) if spoken else judge, judge.content + octets)
    *lines, rest = (judge.line + octets).split(b"\r\n")
    for line in lines:
        judge = _command(judge, line)
    return replace(judge, line=rest)


def _silent(judge: Judge, octets: bytes) -> Judge:
    """These octets were sent: where nothing may be, that is a violation."""
    if not judge.over:
        return judge
    name = "silent_after_421" if judge.over == "421" else "silent_when_out_of_step"
    return judge.blame(name, f"sent {octets[:40]!r} after: {judge.over}")


def _command(judge: Judge, line: bytes) -> Judge:
    judge = judge if line.upper() == b"QUIT" else _silent(judge, line)
    verb = line[:4].upper().decode("latin-1")
    may_follow = judge.offers.pipelining and set(judge.awaited) <= _MID_GROUP
    if judge.awaited and not (may_follow and verb not in {"EHLO", "HELO"}):
        judge = judge.blame("replies_awaited", f"{line[:40]!r} while {judge.awaited} are awaited")
    judge = replace(judge, awaited=(*judge.awaited, verb))
    match verb:
        case "MAIL":
            return _mail(judge, line)
        case "RCPT":
            return _rcpt(judge, line)
        case "RSET" | "EHLO" | "HELO":
            return replace(judge, held=False)
        case "DATA" | "QUIT" | "NOOP":
            return judge
        case _:
            return judge.blame("content_only_after_354", f"no command: {line[:40]!r}")


def _mail(judge: Judge, line: bytes) -> Judge:
    if judge.held:
        judge = judge.blame("clean_before_mail", "MAIL, and an earlier envelope may be held")
    if not judge.greeted:
        judge = judge.blame("hello_before_mail", "MAIL, and no EHLO or HELO was accepted")
    judge = replace(judge, held=True)
    job = judge.job
    start = b"MAIL FROM:<%s>" % job.reverse_path.encode() if job is not None else b""
    if job is None or judge.mail.said or not line.startswith(start):
        return judge.blame("says_what_was_asked", f"{line[:80]!r}")
    judge = replace(judge, mail=Mail(said=True))
    wrong = _wrong_parameters(judge.offers, job, line[len(start) :].split())
    return judge.blame("parameters_as_offered", wrong) if wrong else judge


def _wrong_parameters(offered: Offers, job: Job, parameters: list[bytes]) -> str:
    size = b"SIZE=%d" % len(job.content)
    if _obstacle(offered, job):
        return "MAIL for what the server can't take"
    allowed = {size} if offered.size is not None else set()
    needed = {b"BODY=8BITMIME"} if job.eight_bit else set()
    if offered.eight_bit:
        allowed |= needed or {b"BODY=7BIT", b"BODY=8BITMIME"}
    if len(parameters) == len(set(parameters)) and needed <= set(parameters) <= allowed:
        return ""
    return f"{parameters} where {sorted(allowed)} are allowed, and {sorted(needed)} needed"


def _obstacle(offered: Offers, job: Job) -> bool:
    return bool(offered.size and len(job.content) > offered.size) or (
        job.eight_bit and not offered.eight_bit
    )


def _rcpt(judge: Judge, line: bytes) -> Judge:
    job, said = judge.job, judge.mail.recipients
    expected = b""
    if job is not None and judge.mail.said and len(said) < len(job.recipients):
        expected = b"RCPT TO:<%s>" % job.recipients[len(said)].encode()
    if line != expected:
        return judge.blame("says_what_was_asked", f"{line[:80]!r}, not {expected!r}")
    return replace(judge, mail=replace(judge.mail, recipients=(*said, 0)))


def _content(judge: Judge, octets: bytes) -> Judge:
    """Up to the end of data; what stands behind it are commands."""
    end = 0 if octets.startswith(b".\r\n") else octets.find(b"\r\n.\r\n") + 2
    if end == 1:
        return replace(judge, content=octets)
    mail = replace(judge.mail, ended=True)
    wanted = judge.job.content if judge.job is not None and mail.for_somebody else b""
    if _unstuffed(octets[:end]) != wanted:
        judge = judge.blame("content_is_the_message", f"{octets[: end + 3][-60:]!r}")
    awaited = (*judge.awaited, "END")
    judge = replace(judge, content=None, mail=mail, awaited=awaited, held=False)
    return _sent(judge, octets[end + 3 :])


def _unstuffed(octets: bytes) -> bytes:
    """RFC 5321 section 4.5.2, line by line."""
    lines = octets.split(b"\r\n")
    return b"\r\n".join([line[1:] if line.startswith(b".") else line for line in lines])


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
        return _unasked(judge, answer)
    what, judge = judge.awaited[0], replace(judge, awaited=judge.awaited[1:])
    mail = judge.mail
    match what:
        case "MAIL":
            refused = answer.digit in (4, 5)
            judge = replace(judge, mail=replace(mail, code=answer.code))
            judge = replace(judge, held=judge.held and not refused)
        case "RCPT":
            place = mail.recipients.index(0)
            codes = (*mail.recipients[:place], answer.code, *mail.recipients[place + 1 :])
            judge = replace(judge, mail=replace(mail, recipients=codes))
        case "DATA":
            judge = replace(judge, mail=replace(mail, data=answer.code))
            judge = replace(judge, content=b"" if answer.digit == 3 else None)
        case "END":
            judge = replace(judge, mail=replace(mail, end=answer.code))
        case "EHLO" | "HELO" if answer.digit == 2:
            offered = offers(answer.texts[1:]) if what == "EHLO" else Offers()
            judge = replace(judge, greeted=True, offers=offered)
        case "RSET" if answer.digit != 2:
            judge = replace(judge, over="RSET was refused")
    return replace(judge, over=judge.over or _trouble(what, answer))


def _trouble(what: str, answer: Answer) -> str:
    """Why the conversation can't go on after this answer; "" if it can."""
    if answer.code in (0, 421):
        return "421" if answer.code else "no reply"
    possible = (3, 4, 5) if what == "DATA" else (2, 4, 5)
    if answer.digit not in possible:
        return f"out of step: {answer.code} to {what}"
    refused = answer.digit != 2 and what in {"greeting", "HELO", "QUIT"}
    refused = refused or (what == "EHLO" and answer.digit == 4)
    return f"refused: {answer.code} to {what}" if refused else ""


def _unasked(judge: Judge, answer: Answer) -> Judge:
    """Nothing is awaited: only a refusal of the content that is being sent makes sense."""
    if judge.content is not None and answer.digit in (4, 5) and answer.code != 421:
        judge = replace(judge, mail=replace(judge.mail, early=answer.code))
    why = "421" if answer.code == 421 else f"{answer.code}, which nobody awaited"
    return replace(judge, over=why)


# -- what is claimed ------------------------------------------------------------------------------


def _claimed(judge: Judge, claims: tuple[Claim, ...], *, usable: bool) -> Judge:
    job = judge.job
    if job is None or len(claims) != len(job.recipients):
        return replace(judge, job=None).blame("no_recipient_forgotten", f"{len(claims)} claims")
    for place, claim in enumerate(claims):
        judge = _judged(judge, job, place, claim)
    if usable and (judge.over or judge.awaited or judge.content is not None):
        judge = judge.blame("usable_only_in_step", judge.over or f"{judge.awaited} are awaited")
    return replace(judge, job=None, mail=Mail())


def _judged(judge: Judge, job: Job, place: int, claim: Claim) -> Judge:
    allowed = allowed_claims(judge, job, place)
    why = f"{job.recipients[place]}: {claim.kind}, where {sorted(allowed)} is allowed: {judge.mail}"
    if claim.kind not in allowed:
        judge = judge.blame(_CLAIM_INVARIANTS[claim.kind], why)
        if allowed == {"delivered"}:
            judge = judge.blame("taken_is_not_sent_again", why)
    if claim.elsewhere and (judge.mail.ended or claim.kind != "deferred"):
        judge = judge.blame("elsewhere_only_before_the_end", why)
    if claim.enhanced[:1] != _DIGITS[claim.kind]:
        judge = judge.blame("enhanced_code_fits", f"{claim.kind} with {claim.enhanced!r}")
    return judge


def allowed_claims(judge: Judge, job: Job, place: int) -> frozenset[Kind]:
    """What may be said of this recipient, with what is known now."""
    mail = judge.mail
    rcpt = mail.recipients[place] if place < len(mail.recipients) else 0
    if not mail.said:
        working = judge.greeted and not judge.over and "QUIT" not in judge.awaited
        limit = working and _obstacle(judge.offers, job)
        return frozenset({"failed"}) if limit else frozenset({"deferred", "returned"})
    for code in (mail.code, 452 if rcpt == 552 else rcpt, mail.data, mail.end):
        if code // 100 == 5:
            return frozenset({"failed"})
        if code // 100 == 4:
            return frozenset({"deferred"})
    if mail.end // 100 == 2 and rcpt // 100 == 2:
        return frozenset({"delivered"})
    if mail.early // 100 == 5:
        return frozenset({"failed", "deferred"})
    return frozenset({"deferred"}) if mail.ended else frozenset({"deferred", "returned"})
