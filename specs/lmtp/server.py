"""What a user's LMTP server may answer, and every client within bounds against one.

The judge knows what the server was told, by its client and by the disk, and holds each answer to
it.  A server here has no queue (RFC 2033 section 3): its 2yz behind the content says that the mail
is in the mailbox, so the judge asks for each recipient whether it was stored.

    told                    the answer
    EHLO, HELO              no 2yz (section 4.1)
    DATA, no recipient      503 (section 4.2)
    DATA                    the mailboxes are opened, then 354
    a mailbox's verdict     2yz if there is one, else a refusal
    content, whole          nothing yet: the disk is asked
    what the disk says      a reply for each recipient in their order: 2yz if it was stored, else
                            4yz or 5yz (section 4.2)
    content, not to be had  the files are dropped; a refusal for each recipient
    what other servers may  the files are dropped; one refusal, and the connection is closed
    take for an end
    silence, a stop         421 at the latest at the next boundary; what is open is dropped

Any answer may be followed, and the last of a refused command's replaced, by 421 and a close.

Bounds: `COMMANDS`, and the server's own limits, which its adapter makes small.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import Literal, Protocol

from specs.kernel.explore import Spec

#: Invariants, and the clause that each rests on.
INVARIANTS = {
    "lhlo_and_nothing_else": "RFC 2033 4.1",
    "lhlo_before_mail": "RFC 2033 4.1; RFC 5321 4.1.4",
    "data_needs_a_recipient": "RFC 2033 4.2",
    "opened_before_354": "RFC 5321 4.1.1.4",
    "a_mailbox_by_its_verdict": "RFC 5321 3.3",
    "no_reply_before_the_disk": "RFC 2033 3, 4.2",
    "a_reply_for_each_recipient": "RFC 2033 4.2",
    "delivered_only_when_stored": "RFC 2033 3; RFC 5321 6.1",
    "stored_is_said": "RFC 2033 3",
    "one_reply_to_a_command": "RFC 5321 4.2",
    "opened_is_committed_or_dropped_once": "RFC 5321 4.1.1.4, 4.1.1.10",
    "a_refused_end_closes": "RFC 5321 2.3.8, 4.1.1.4",
    "closed_is_the_end": "RFC 5321 3.8",
}

# -- what a server is told, and what it does ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """A command, and nothing behind it."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Whether there is that recipient's."""

    there: bool


End = Literal["whole", "bare", "too large", "smuggled"]


@dataclass(frozen=True, slots=True)
class Content:
    """Its end."""

    end: End


@dataclass(frozen=True, slots=True)
class Stored:
    """What the disk says: whether each recipient's copy is durable."""

    copies: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Happens:
    """From outside of the conversation."""

    what: Literal["connected", "silence", "stop", "gone"]


Stimulus = Line | Mailbox | Content | Stored | Happens


@dataclass(frozen=True, slots=True)
class Said:
    """A reply."""

    code: int


#: Asks: for a mailbox.  Opens, Commits, Drops: the files of a message.
Deed = Literal["asks", "opens", "commits", "drops", "closes"]
Act = Said | Deed


class Server(Protocol):
    """A server as values: what it is after a stimulus, and what it did."""

    @property
    def name(self) -> str: ...

    def start(self) -> Hashable: ...

    def feed(self, state: Hashable, stimulus: Stimulus) -> tuple[Hashable, tuple[Act, ...]]: ...


# -- the judge ------------------------------------------------------------------------------------

Awaits = Literal["connection", "command", "mailbox", "content", "disk", "nothing"]


@dataclass(frozen=True, slots=True)
class Judge:
    """The conversation so far, as far as anything to come depends on it."""

    awaits: Awaits = "connection"
    greeted: bool = False
    sender: bool = False
    recipients: int = 0
    opened: bool = False
    violated: tuple[tuple[str, str], ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """Of the violated invariants."""
        return frozenset(name for name, _ in self.violated)

    def unless(self, name: str, fine: bool, why: object) -> Judge:
        return self if fine else replace(self, violated=(*self.violated, (name, str(why))))

    def over(self) -> Judge:
        """The transaction has ended."""
        return replace(self, sender=False, recipients=0)

    def see(self, stimulus: Stimulus, acts: tuple[Act, ...]) -> Judge:
        """The judge after what the server was told, and what it did then."""
        if self.awaits == "nothing":
            return self.unless("closed_is_the_end", not acts, acts)
        closes = "closes" in acts
        codes = tuple([each.code for each in acts if isinstance(each, Said)])
        judge = _files(self, acts)
        last = closes or 421 not in codes
        judge = judge.unless("closed_is_the_end", last and "closes" not in acts[:-1], acts)
        rest = codes[:-1] if closes and codes[-1:] == (421,) else codes
        judge = _judged(judge, stimulus, acts, rest)
        if closes:
            judge = judge.unless(
                "opened_is_committed_or_dropped_once", not judge.opened, "closed, and files open"
            )
            return Judge(awaits="nothing", violated=judge.violated)
        return judge


def _files(judge: Judge, acts: tuple[Act, ...]) -> Judge:
    """Opened before they are committed or dropped, and either once."""
    for act in acts:
        if act == "opens":
            judge = judge.unless("opened_is_committed_or_dropped_once", not judge.opened, act)
            judge = replace(judge, opened=True)
        if act in ("commits", "drops"):
            judge = judge.unless("opened_is_committed_or_dropped_once", judge.opened, act)
            judge = replace(judge, opened=False)
    return judge


def _judged(
    judge: Judge, stimulus: Stimulus, acts: tuple[Act, ...], codes: tuple[int, ...]
) -> Judge:
    """codes: of the replies but a last 421."""
    match stimulus:
        case Line(octets):
            return _command(judge, octets.split(b" ")[0].upper(), acts, codes)
        case Mailbox(there):
            said = [code // 100 == 2 for code in codes]
            fine = said == [there] or (not said and not there)  # a 421 in its place
            judge = judge.unless("a_mailbox_by_its_verdict", fine, codes)
            return replace(judge, awaits="command", recipients=judge.recipients + there)
        case Content("whole"):
            judge = judge.unless("no_reply_before_the_disk", acts == ("commits",), acts)
            return replace(judge, awaits="disk")
        case Content(end):
            judge = judge.unless("delivered_only_when_stored", not _positive(codes), (end, codes))
            if end == "smuggled":
                judge = judge.unless("a_refused_end_closes", "closes" in acts, acts)
            else:  # the last of them may be a 421
                whole = len(codes) + (421 in _codes(acts)) >= judge.recipients
                judge = judge.unless("a_reply_for_each_recipient", whole, (end, codes))
            return replace(judge.over(), awaits="command")
        case Stored(copies):
            return _stored(judge, copies, codes)
        case Happens(what):
            judge = judge.unless(
                "delivered_only_when_stored", what == "connected" or not codes, acts
            )
            return replace(judge, awaits="command") if what == "connected" else judge


def _command(judge: Judge, verb: bytes, acts: tuple[Act, ...], codes: tuple[int, ...]) -> Judge:
    if "asks" in acts:
        judge = judge.unless("lhlo_before_mail", judge.greeted and judge.sender, acts)
        judge = judge.unless("one_reply_to_a_command", not codes, acts)
        return replace(judge, awaits="mailbox")
    one = len(codes) == 1 or (not codes and "closes" in acts)
    judge = judge.unless("one_reply_to_a_command", one, (verb, codes))
    code = codes[0] if codes else 421
    taken = code < 400
    match verb:
        case b"EHLO" | b"HELO":
            return judge.unless("lhlo_and_nothing_else", not taken, code)
        case b"LHLO" if taken:
            return replace(judge.over(), greeted=True)
        case b"RSET" if taken:
            return judge.over()
        case b"MAIL" if taken:
            judge = judge.unless("lhlo_before_mail", judge.greeted, code)
            return replace(judge, sender=True)
        case b"DATA":
            if not judge.recipients:
                return judge.unless("data_needs_a_recipient", code in (503, 421), code)
            first = acts[:1] == ("opens",)
            judge = judge.unless("opened_before_354", first == (code == 354), acts)
            return replace(judge, awaits="content" if taken else "command")
    return judge


def _stored(judge: Judge, copies: tuple[bool, ...], codes: tuple[int, ...]) -> Judge:
    judge = judge.unless("a_reply_for_each_recipient", len(codes) == len(copies), (copies, codes))
    for copy, code in zip(copies, codes, strict=False):
        positive = code // 100 == 2
        judge = judge.unless("delivered_only_when_stored", copy or not positive, (copies, codes))
        judge = judge.unless("stored_is_said", positive or not copy, (copies, codes))
    return replace(judge.over(), awaits="command")


def _codes(acts: tuple[Act, ...]) -> tuple[int, ...]:
    return tuple([each.code for each in acts if isinstance(each, Said)])


def _positive(codes: tuple[int, ...]) -> bool:
    return any(code < 400 for code in codes)


# -- every client within bounds -------------------------------------------------------------------

COMMANDS = (
    b"LHLO client", b"EHLO client", b"HELO client", b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>",
    b"RCPT TO:<c@d> XMAILBOX=box XINDEX=1", b"DATA", b"RSET", b"NOOP", b"nonsense", b"QUIT",
)  # fmt: skip
ENDS: tuple[End, ...] = ("whole", "bare", "too large", "smuggled")
ACTIONS = frozenset(
    {each.split(b" ")[0].decode() for each in COMMANDS}
    | {"mailbox", "content", "stored", "connected", "silence", "stop", "gone"}
)
NEVER_RAISES = "never_raises"


@dataclass(frozen=True, slots=True)
class State:
    """server: its own state.  raised: what it raised, or ""."""

    server: Hashable
    judge: Judge = field(default_factory=Judge)
    raised: str = ""


def server_spec(server: Server) -> Spec[State]:
    """The search's input for one server."""
    return Spec(
        name="lmtp server",
        bounds=f"{server.name}: {len(COMMANDS)} commands in any order, 4 ends of content, "
        f"every verdict of the disk, silence, a stop and a close at any time",
        start=lambda: [State(server.start())],
        next=lambda state: _next(server, state),
        actions=ACTIONS,
        invariants={name: partial(_holds, name) for name in (*INVARIANTS, NEVER_RAISES)},
        settled=lambda state: state.judge.awaits == "nothing",
    )


def _holds(name: str, state: State) -> bool:
    return not state.raised if name == NEVER_RAISES else name not in state.judge.names


def _next(server: Server, state: State) -> Iterator[tuple[str, State]]:
    if state.raised or state.judge.violated:
        return
    for action, stimulus in _happenings(state.judge):
        try:
            after, acts = server.feed(state.server, stimulus)
        except Exception as error:  # whatever it raises, it should not have
            yield action, replace(state, raised=f"{type(error).__name__}: {error}")
            continue
        yield action, State(after, state.judge.see(stimulus, acts))


def _happenings(judge: Judge) -> Iterator[tuple[str, Stimulus]]:
    match judge.awaits:
        case "connection":
            yield "connected", Happens("connected")
        case "command":
            for line in COMMANDS:
                yield f"{line.split(b' ')[0].decode()}({line!r})", Line(line)
        case "mailbox":
            for there in (True, False):
                yield f"mailbox({there})", Mailbox(there)
        case "content":
            for end in ENDS:
                yield f"content({end})", Content(end)
        case "disk":
            for copies in product((True, False), repeat=judge.recipients):
                yield f"stored({copies})", Stored(copies)
    for what in ("silence", "stop", "gone"):
        yield what, Happens(what)
