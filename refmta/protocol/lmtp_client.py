"""The LMTP client of one connection, as a total table (RFC 2033).

Rules a reader may rely on
- `step(session, event, options) -> (session, effects)` is pure: no clock, no octets from a channel.
- EVENTS says what every event means in every phase, REPLIES what every class of reply means where
  it is awaited.  Both are total.  OURS marks what cannot happen unless this program is wrong;
  nothing that a server sends reaches it.
- A transaction that was begun ends in exactly one Done, with one verdict per recipient, in order.
- Only a 2yz behind the end of the content, in this recipient's own place among the replies, makes
  "delivered" (RFC 2033 section 4.2): one for each recipient that was accepted, in their order.
- "failed" needs a 5yz to this transaction's MAIL or DATA, or to this recipient's RCPT or content,
  or a limit that the server announced.  What a server says before MAIL is deferred.
- Commands are sent in a group only when PIPELINING was offered, and a group ends with DATA.
- After a 421, and after anything that makes the count of replies doubtful, nothing more is sent.
- CLOSED is entered with a Close effect as the last one.  After that every event is ignored, but
  Begin: it comes too late, and is Done at once, deferred.

What is tricky
- Lost in the middle of the final replies: those that were read stand; of the others nobody knows,
  and they are deferred.  If they are delivered again it is under the same name (`lmtp.XDELIVERY`).
- A refusal (4yz, 5yz) before the content's end is no recipient's in particular, so it is not for
  good: all are deferred, and the connection is closed, for the end was never sent.
- DATA accepted though no recipient was: in SMTP a lone dot would be due; here the server must have
  said 503, and no reply would follow the dot.  The connection is closed.

How to drive it (the role: octets, times, content)
- The channel stands from the start.  Begin may be fed at once, or in READY.  Then feed what
  happens, in order, and do the effects, in order.
- SendContent: write the dot-stuffed content, but keep the last piece back.  Feed what could be read
  meanwhile, and if the phase is still CONTENT feed ContentSent: its effect is SendEnd.
- Read while writing: replies may fill the other direction.

What it doesn't do: channels, timers (`patience_s` says how long), octets of content, which agent is
next (roles.lmtpc).  There is no HELO to fall back to (section 4.1), and no other host.

The file is long because vocabulary, actions and tables are read together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final, Literal

from refmta.protocol.lmtp import XDELIVERY, Origin, Place, origin_parameters, place_parameters
from refmta.protocol.smtp_client import (
    ENHANCED,
    TEXT_OCTETS,
    Close,
    ContentSent,
    Finish,
    ImpossibleError,
    Lost,
    NotAReply,
    Replied,
    Send,
    SendContent,
    SendEnd,
    TimedOut,
)
from refmta.wire.address import parse_forward_path, parse_reverse_path
from refmta.wire.reply import Reply, escaped

# -- what is sent, and what becomes of it ---------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """To be said at RCPT, without brackets; place: to be said with it where XDELIVERY is offered.

    Raises ValueError for what is no address (it would be a command of somebody's choosing).
    """

    address: str
    place: Place | None = None

    def __post_init__(self) -> None:
        parse_forward_path(f"<{self.address}>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One message.  As `smtp_client.Transaction`; origin: to be said where XDELIVERY is offered."""

    reverse_path: str
    recipients: tuple[Recipient, ...]
    octets: int
    eight_bit: bool = False
    origin: Origin | None = None

    def __post_init__(self) -> None:
        if not self.recipients:
            raise ValueError("a transaction without recipients")
        if self.octets < 0:
            raise ValueError("negative size")
        parse_reverse_path(f"<{self.reverse_path}>")


Kind = Literal["delivered", "deferred", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one recipient.

    enhanced: of the kind's class (2, 4, 5).  text: at most 1000 octets of printable ASCII; with
    `said`, the server's words.  again: deferred because the connection failed before the end of
    the content was sent, so the server keeps nothing, and a new connection may be tried at once.
    """

    kind: Kind
    enhanced: str
    text: str
    said: bool
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Extensions:
    """From the reply to LHLO.  size: octets; 0: offered without a limit; None: not offered."""

    pipelining: bool = False
    size: int | None = None
    eight_bit_mime: bool = False
    delivery: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """What the operator decides.  hostname: said in LHLO, a domain or address literal."""

    hostname: str


# -- state ----------------------------------------------------------------------------------------


class Phase(Enum):
    """Where the session stands; what is awaited."""

    GREETING = "greeting"  # the server's first words
    LHLO = "lhlo"  # the reply to LHLO
    READY = "ready"  # nothing: no transaction is open
    ENVELOPE = "envelope"  # replies to `outstanding`
    CONTENT = "content"  # the role: it sends content
    FINAL = "final"  # the replies to the end of data, one per recipient that is still open
    QUIT = "quit"  # the reply to QUIT
    CLOSED = "closed"

    # Enum hashes by name, in Python; identity is as good and faster.
    __hash__ = object.__hash__


class Verb(Enum):
    """A command of the envelope that was sent, and whose reply is awaited."""

    RSET = "RSET"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"

    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The whole state of one connection."""

    phase: Phase = Phase.GREETING
    extensions: Extensions = Extensions()
    transaction: Transaction | None = None  # from Begin to Done
    outstanding: tuple[Verb, ...] = ()  # sent, not answered, in order; in ENVELOPE only
    answered: int = 0  # recipients whose RCPT has been answered
    verdicts: tuple[Verdict | None, ...] = ()  # one per recipient; None: open
    dirty: bool = False  # the server may hold parts of an envelope: RSET before MAIL


# -- events and effects: SMTP's, and these --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Begin:
    """Send this message."""

    transaction: Transaction


Event = Replied | NotAReply | Begin | ContentSent | Lost | TimedOut | Finish


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The transaction is over.  verdicts: one per recipient, in order.  usable: the connection may
    serve another Begin.
    """

    verdicts: tuple[Verdict, ...]
    usable: bool


Effect = Send | SendContent | SendEnd | Done | Close
Effects = tuple[Effect, ...]
Step = tuple[Session, Effects]
Action = Callable[[Session, Any, ClientOptions], Step]

# -- the API's functions --------------------------------------------------------------------------


def step(session: Session, event: Event, options: ClientOptions) -> Step:
    """One event: the next state, and what the caller has to do, in this order."""
    return EVENTS[session.phase, type(event)](session, event, options)


def patience_s(session: Session) -> float:
    """How long to wait for what is awaited now, in seconds.  In CONTENT: per piece written."""
    return PATIENCE_S[session.phase]


def awaited(session: Session) -> str:
    """What is awaited, for logs and verdicts: "the reply to RCPT"."""
    if session.outstanding:
        return f"the reply to {session.outstanding[0].value}"
    return AWAITED[session.phase]


#: RFC 5321 4.5.3.2 gives minutes, for hosts that are far away.  This server is on our machine, and
#: what it does is to write one file per recipient, so a minute is long; a commit may be behind
#: those of others.
PATIENCE_S: Final[Mapping[Phase, float]] = {
    Phase.GREETING: 60.0,
    Phase.LHLO: 60.0,
    Phase.READY: math.inf,
    Phase.ENVELOPE: 60.0,
    Phase.CONTENT: 60.0,
    Phase.FINAL: 600.0,  # RFC 5321 4.5.3.2.6; too short delivers twice
    Phase.QUIT: 10.0,
    Phase.CLOSED: 0.0,
}
AWAITED: Final[Mapping[Phase, str]] = {
    Phase.GREETING: "the greeting",
    Phase.LHLO: "the reply to LHLO",
    Phase.READY: "nothing",
    Phase.ENVELOPE: "the reply to a command",
    Phase.CONTENT: "the sending of the content",
    Phase.FINAL: "the replies to the end of data",
    Phase.QUIT: "the reply to QUIT",
    Phase.CLOSED: "nothing",
}

# -- verdicts -------------------------------------------------------------------------------------

_KINDS: Final[Mapping[int, Kind]] = {2: "delivered", 4: "deferred", 5: "failed"}


def _said(answer: Reply, *, deferred: bool = False, again: bool = False) -> Verdict:
    """The verdict in the server's words; `deferred`: whatever its class."""
    enhanced = answer.enhanced or ENHANCED.get(answer.code, f"{answer.code // 100}.0.0")
    if deferred:
        enhanced = "4" + enhanced[1:]
    kind: Kind = "deferred" if deferred else _KINDS[answer.code // 100]
    text = str(answer)[:TEXT_OCTETS]
    return Verdict(kind=kind, enhanced=enhanced, text=text, said=True, again=again)


def _own(kind: Kind, enhanced: str, text: str, *, again: bool = False) -> Verdict:
    """A verdict in our words."""
    text = escaped(text)[:TEXT_OCTETS]
    return Verdict(kind=kind, enhanced=enhanced, text=text, said=False, again=again)


# -- ways a step ends -----------------------------------------------------------------------------

_CLOSE: Final = Close()
_CLOSED: Final = Session(phase=Phase.CLOSED)


def _command(*words: str) -> bytes:
    return " ".join(words).encode("ascii") + b"\r\n"


def _done(session: Session, rest: Verdict, *, usable: bool = False) -> tuple[Effect, ...]:
    """Done, if there is a transaction; `rest` for the recipients that are still open."""
    if session.transaction is None:
        return ()
    verdicts = tuple([verdict or rest for verdict in session.verdicts])
    return (Done(verdicts=verdicts, usable=usable),)


def _hang_up(session: Session, rest: Verdict) -> Step:
    """The connection is of no more use, nor is talking to it."""
    return _CLOSED, (*_done(session, rest), _CLOSE)


def _say_quit(*before: Effect) -> Step:
    return Session(phase=Phase.QUIT), (*before, Send(_command("QUIT")))


def _over(session: Session, rest: Verdict, *, dirty: bool) -> Step:
    """The transaction has its verdicts, and nothing is outstanding."""
    ready = Session(phase=Phase.READY, extensions=session.extensions, dirty=dirty)
    return ready, _done(session, rest, usable=True)


def _unended(session: Session) -> bool:
    """Of this transaction no end of data was sent."""
    return session.phase is not Phase.FINAL


# -- actions: beginning a transaction -------------------------------------------------------------


def _note(session: Session, event: Begin, options: ClientOptions) -> Step:
    """It starts when the server has greeted us."""
    if session.transaction is not None:
        return _ours(session, event, options)
    verdicts = (None,) * len(event.transaction.recipients)
    return replace(session, transaction=event.transaction, verdicts=verdicts), ()


def _begin(session: Session, event: Begin, options: ClientOptions) -> Step:
    return _start(_note(session, event, options)[0])


def _too_late(session: Session, event: Begin, _options: ClientOptions) -> Step:
    """The server has ended the connection, or we have, while the caller made up its mind."""
    rest = _own("deferred", "4.4.2", "the connection was closed", again=True)
    verdicts = (rest,) * len(event.transaction.recipients)
    return session, (Done(verdicts=verdicts, usable=False),)


def _start(session: Session) -> Step:
    """The first group of commands: all of them if pipelined, else the first one."""
    session = replace(session, phase=Phase.READY)
    if session.transaction is None:
        return session, ()
    obstacle = _obstacle(session.transaction, session.extensions)
    if obstacle is not None:
        return _over(session, obstacle, dirty=session.dirty)
    return _send(session, _first_group(session))


def _obstacle(transaction: Transaction, extensions: Extensions) -> Verdict | None:
    """Why this server can't take it, whatever it would say: nothing is sent."""
    if extensions.size and transaction.octets > extensions.size:  # RFC 1870 section 6.1
        text = f"message of {transaction.octets} octets, the mailbox takes {extensions.size}"
        return _own("failed", "5.3.4", text)
    if transaction.eight_bit and not extensions.eight_bit_mime:  # RFC 6152 section 3
        return _own("failed", "5.6.3", "8-bit content, and the mailbox doesn't take 8BITMIME")
    return None


def _first_group(session: Session) -> tuple[Verb, ...]:
    """RFC 2920 section 3.1: RSET, MAIL and RCPT anywhere in a group, DATA as its last one."""
    recipients = (Verb.RCPT,) * len(session.verdicts)
    group = (*((Verb.RSET,) if session.dirty else ()), Verb.MAIL, *recipients, Verb.DATA)
    return group if session.extensions.pipelining else group[:1]


def _send(session: Session, verbs: tuple[Verb, ...]) -> Step:
    """Write the commands, in one piece; RCPT goes on where the answers have come to."""
    transaction = session.transaction
    if transaction is None:
        raise ImpossibleError("commands without a transaction")
    recipients = iter(transaction.recipients[session.answered :])
    lines = [_line(verb, transaction, session.extensions, recipients) for verb in verbs]
    session = replace(session, phase=Phase.ENVELOPE, outstanding=verbs)
    return session, (Send(b"".join(lines)),)


def _line(
    verb: Verb,
    transaction: Transaction,
    extensions: Extensions,
    recipients: Iterator[Recipient],
) -> bytes:
    if verb is Verb.RCPT:
        recipient = next(recipients)
        place = recipient.place if extensions.delivery else None
        words = () if place is None else place_parameters(place)
        return _command(f"RCPT TO:<{recipient.address}>", *words)
    if verb is Verb.MAIL:
        return _command(
            f"MAIL FROM:<{transaction.reverse_path}>", *_offered(transaction, extensions)
        )
    return _command(verb.value)


def _offered(transaction: Transaction, extensions: Extensions) -> Iterator[str]:
    """MAIL's parameters: only what LHLO's reply named (RFC 5321 section 2.2.1)."""
    if extensions.size is not None:
        yield f"SIZE={transaction.octets}"  # RFC 1870 section 5
    if transaction.eight_bit:
        yield "BODY=8BITMIME"  # RFC 6152 section 2
    if extensions.delivery and transaction.origin is not None:
        yield from origin_parameters(transaction.origin)


# -- actions: replies before a transaction --------------------------------------------------------


def _replied(session: Session, event: Replied, options: ClientOptions) -> Step:
    """Any reply: by what is awaited, and its first digit.  421 means the same everywhere."""
    if event.reply.code == 421:
        return _shut_down(session, event.reply, options)
    expected = session.outstanding[0] if session.outstanding else session.phase
    return REPLIES[expected, event.reply.code // 100](session, event.reply, options)


def _shut_down(session: Session, answer: Reply, _options: ClientOptions) -> Step:
    """421: the server closes (RFC 5321 section 3.8); nothing that was outstanding is done."""
    return _hang_up(session, _said(answer, deferred=True, again=_unended(session)))


def _out_of_step(session: Session, answer: Reply, _options: ClientOptions) -> Step:
    """A class that this command can't have: which reply answers what is no longer known."""
    text = f"out of step: instead of {awaited(session)}: {answer}"
    return _hang_up(session, _own("deferred", "4.5.0", text, again=_unended(session)))


def _greeted(session: Session, _answer: Reply, options: ClientOptions) -> Step:
    return replace(session, phase=Phase.LHLO), (Send(_command("LHLO", options.hostname)),)


def _extended(session: Session, answer: Reply, _options: ClientOptions) -> Step:
    return _start(replace(session, extensions=_extensions(answer.lines[1:])))


def _turned_away(session: Session, answer: Reply, _options: ClientOptions) -> Step:
    """A refusal before MAIL says nothing of the mail.  Also of LHLO: there is no HELO (4.1)."""
    return _say_quit(*_done(session, _said(answer, deferred=True)))


def _unasked(_session: Session, _answer: Reply, _options: ClientOptions) -> Step:
    """Nobody asked: it would be taken for the answer to the next command."""
    return _CLOSED, (_CLOSE,)


_is_keyword = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*\Z").match
_is_size = re.compile(r"[0-9]{1,20}\Z").match  # RFC 1870 section 3


def _extensions(lines: Iterable[str]) -> Extensions:
    """LHLO's keywords, in any case; what is unknown is passed over."""
    offered: dict[str, list[str]] = {}
    for line in lines:
        keyword, *parameters = line.split() or [""]
        if _is_keyword(keyword):
            offered.setdefault(keyword.upper(), parameters)
    return Extensions(
        pipelining="PIPELINING" in offered,
        size=_size(offered.get("SIZE")),
        eight_bit_mime="8BITMIME" in offered,
        delivery=XDELIVERY in offered,
    )


def _size(parameters: list[str] | None) -> int | None:
    """None for what is no SIZE of RFC 1870: then it is not used."""
    if parameters == []:
        return 0
    return int(parameters[0]) if parameters and _is_size(parameters[0]) else None


# -- actions: replies within a transaction --------------------------------------------------------


def _go_on(session: Session, _answer: Reply, _options: ClientOptions) -> Step:
    return _proceed(session, session.outstanding[0])


def _proceed(session: Session, verb: Verb) -> Step:
    """`verb` was answered.  If nothing else is outstanding, the next command, or the end."""
    session = replace(session, outstanding=session.outstanding[1:])
    if session.outstanding:
        return session, ()
    if verb is Verb.RSET:
        return _send(session, (Verb.MAIL,))
    if None not in session.verdicts:
        return _over(session, _NOBODY, dirty=True)
    if session.answered < len(session.verdicts):
        return _send(session, (Verb.RCPT,))
    return _send(session, (Verb.DATA,))


_NOBODY: Final = _own("deferred", "4.0.0", "stands for no recipient")


def _not_reset(session: Session, answer: Reply, _options: ClientOptions) -> Step:
    """What the server still holds is unknown: a MAIL might be added to it."""
    return _hang_up(session, _said(answer, deferred=True, again=True))


def _refused_all(session: Session, answer: Reply, _options: ClientOptions) -> Step:
    """MAIL or DATA: the verdict of all recipients that have none."""
    verb = session.outstanding[0]
    verdict = _said(answer)
    verdicts = tuple([each or verdict for each in session.verdicts])
    return _proceed(replace(session, verdicts=verdicts), verb)


def _accepted(session: Session, _answer: Reply, _options: ClientOptions) -> Step:
    """The recipient stays open.  (After a refused MAIL it isn't, and the server talks nonsense.)"""
    return _proceed(replace(session, answered=session.answered + 1), Verb.RCPT)


def _refused_one(session: Session, answer: Reply, _options: ClientOptions) -> Step:
    """552 means "too many recipients" here: temporary (RFC 5321 section 4.5.3.1.10)."""
    verdict = _said(answer, deferred=answer.code == 552)
    session = _judge(session, session.answered, verdict)
    return _proceed(replace(session, answered=session.answered + 1), Verb.RCPT)


def _judge(session: Session, place: int, verdict: Verdict) -> Session:
    """The verdict of one recipient; the first one stands."""
    verdicts = list(session.verdicts)
    verdicts[place] = verdicts[place] or verdict
    return replace(session, verdicts=tuple(verdicts))


def _go_ahead(session: Session, answer: Reply, options: ClientOptions) -> Step:
    """Content for those who were accepted; if there are none, this is no reply to DATA (4.2)."""
    if None not in session.verdicts:
        return _out_of_step(session, answer, options)
    return replace(session, phase=Phase.CONTENT, outstanding=()), (SendContent(),)


def _refused_early(session: Session, answer: Reply, _options: ClientOptions) -> Step:
    """While content is sent.  The end is not sent any more."""
    return _hang_up(session, _said(answer, deferred=True))


def _content_sent(session: Session, _event: ContentSent, _options: ClientOptions) -> Step:
    return replace(session, phase=Phase.FINAL), (SendEnd(),)


def _answered_content(session: Session, answer: Reply, _options: ClientOptions) -> Step:
    """Of the first recipient that is still open (RFC 2033 section 4.2): the order is all there is.

    After the last one the server's buffers are empty (RFC 5321 section 4.1.1.4).
    """
    session = _judge(session, session.verdicts.index(None), _said(answer))
    if None in session.verdicts:
        return session, ()
    return _over(session, _NOBODY, dirty=False)


# -- actions: everything else ---------------------------------------------------------------------


def _garbled(session: Session, event: NotAReply, _options: ClientOptions) -> Step:
    text = f"no reply while waiting for {awaited(session)}: {event.text}"
    return _hang_up(session, _own("deferred", "4.5.0", text, again=_unended(session)))


def _lost(session: Session, event: Lost, _options: ClientOptions) -> Step:
    """As if 451 had been said (RFC 5321 section 3.8)."""
    reason = f": {event.text}" if event.text else ""
    text = f"connection lost while waiting for {awaited(session)}{reason}"
    return _hang_up(session, _own("deferred", "4.4.2", text, again=_unended(session)))


def _timed_out(session: Session, _event: TimedOut, _options: ClientOptions) -> Step:
    text = f"timed out while waiting for {awaited(session)}"
    return _hang_up(session, _own("deferred", "4.4.2", text, again=_unended(session)))


def _leave(session: Session, event: Finish, options: ClientOptions) -> Step:
    if session.transaction is not None:
        return _ours(session, event, options)
    return _CLOSED, (_CLOSE,)


def _quit(_session: Session, _event: Event, _options: ClientOptions) -> Step:
    return _say_quit()


def _close(_session: Session, _event: Event | Reply, _options: ClientOptions) -> Step:
    return _CLOSED, (_CLOSE,)


def _ignore(session: Session, _event: Event, _options: ClientOptions) -> Step:
    return session, ()


def _ours(session: Session, event: Event, _options: ClientOptions) -> Step:
    raise ImpossibleError(f"{type(event).__name__} in phase {session.phase.value}")


OURS: Final = _ours
STEP: Final = _out_of_step

# -- the tables -----------------------------------------------------------------------------------

# fmt: off
_REPLY_ROWS: Mapping[Phase | Verb, tuple[Action, ...]] = {
    #                2yz                3yz         4yz                5yz (421: _shut_down)
    Phase.GREETING: (_greeted,          STEP,       _turned_away,      _turned_away),
    Phase.LHLO:     (_extended,         STEP,       _turned_away,      _turned_away),
    Phase.READY:    (_unasked,          _unasked,   _unasked,          _unasked),
    Verb.RSET:      (_go_on,            STEP,       _not_reset,        _not_reset),
    Verb.MAIL:      (_go_on,            STEP,       _refused_all,      _refused_all),
    Verb.RCPT:      (_accepted,         STEP,       _refused_one,      _refused_one),
    Verb.DATA:      (STEP,              _go_ahead,  _refused_all,      _refused_all),
    Phase.CONTENT:  (STEP,              STEP,       _refused_early,    _refused_early),
    Phase.FINAL:    (_answered_content, STEP,       _answered_content, _answered_content),
    Phase.QUIT:     (_close,            _close,     _close,            _close),
}

_EVENT_ROWS: Mapping[type, tuple[Action, ...]] = {
    #             GREETING    LHLO        READY       ENVELOPE
    #             CONTENT        FINAL       QUIT       CLOSED
    Replied:     (_replied,   _replied,   _replied,   _replied,
                  _replied,      _replied,   _replied,  _ignore),
    NotAReply:   (_garbled,   _garbled,   _garbled,   _garbled,
                  _garbled,      _garbled,   _close,    _ignore),
    Begin:       (_note,      _note,      _begin,     OURS,
                  OURS,          OURS,       _too_late, _too_late),
    ContentSent: (OURS,       OURS,       OURS,       OURS,
                  _content_sent, OURS,       OURS,      _ignore),
    Lost:        (_lost,      _lost,      _close,     _lost,
                  _lost,         _lost,      _close,    _ignore),
    TimedOut:    (_timed_out, _timed_out, _quit,      _timed_out,
                  _timed_out,    _timed_out, _close,    _ignore),
    Finish:      (_leave,     _leave,     _quit,      OURS,
                  OURS,          OURS,       _ignore,   _ignore),
}
# fmt: on

REPLIES: Final[dict[tuple[Phase | Verb, int], Action]] = {
    (expected, digit): row
    for expected, rows in _REPLY_ROWS.items()
    for digit, row in zip((2, 3, 4, 5), rows, strict=True)
}
EVENTS: Final[dict[tuple[Phase, type], Action]] = {
    (phase, kind): row
    for kind, rows in _EVENT_ROWS.items()
    for phase, row in zip(Phase, rows, strict=True)
}
