"""The SMTP client of one connection, as a total table (RFC 5321, RFC 2920).

Rules a reader may rely on
- `step(session, event, options) -> (session, effects)` is pure: no clock, no octets from a socket.
- EVENTS says what every event means in every phase; it is total. OURS marks what cannot happen
  unless this program is wrong; it raises ImpossibleError. Nothing that a server sends reaches it.
- A transaction that was begun ends in exactly one Done, with one verdict per recipient, in order.
- Only a 2yz that answers the end of the content, when every earlier reply had been read before,
  makes "delivered". No other reply, whatever it says, and no end of the connection does.
- "failed" needs a 5yz to this transaction's MAIL, RCPT, DATA or content, or a limit that the server
  announced (SIZE, no 8BITMIME). What a server says before MAIL is about us or about that host
  (blocked, full, misconfigured): deferred, and the next host may think otherwise.
- Commands are sent in groups only when PIPELINING was offered, and a group ends with DATA (RFC 2920
  section 3.1). Replies are matched to commands by counting.
- After a 421, and after anything that makes the count doubtful, nothing more is sent.
- CLOSED is entered with a Close effect as the last one. After that every event is ignored, but
  Begin: its recipients would be forgotten. It comes too late, and is Done at once, deferred.

What is tricky
- When pipelining, DATA has been sent before it is known whether any recipient was accepted. If
  none was and the server says 354 all the same, a lone "." ends the data (RFC 2920 section 3.1),
  and the reply to that is nobody's verdict.
- A reply that nobody awaits (an extra 250) would be taken for the answer to the next command, and
  its successor's for the next but one. So a reply between transactions, or before the end of the
  content, ends the connection. One that comes while commands are outstanding can't be told from
  the real one; but it shifts a 250 to DATA, or the 354 to the end of content, and both are of a
  class that those can't have. That too ends the connection, and delivers nothing.
- A refusal (4yz, 5yz) before the content's end can only be about the content, as everything else
  was answered. It counts as one; then the connection is closed, because the end was never sent.
- Lost while the final reply is awaited: the server may have taken the message. It is deferred, and
  may arrive twice: the window "reply lost" (RFC 5321 section 4.5.3.2.6, RFC 1047). Before that the
  end of data has not been sent, and the server must not have kept anything (section 4.1.1.4);
  `Verdict.elsewhere` says so.
- A reply by its first digit (RFC 5321 section 4.3.2): unknown codes are their class.

How to drive it (the shell: timers, sockets, content)
- Begin may be fed at once, before Connected, or in READY. Then feed what happens, in order, and do
  the effects, in order. Feed *every* reply that was parsed, also those behind the one that ended
  the transaction, before the next Begin: they may close the connection.
- SendContent: write the dot-stuffed content, but keep the last piece back (of a small message, all
  of it). Read what can be read without waiting, feed it, and if the phase is still CONTENT feed
  ContentSent. Its effect SendEnd: write the last piece and the end of data. A write of the end that
  fails is Lost *after* ContentSent; in CONTENT, nothing of the end has left.
- Read while writing: a group of a hundred RCPTs makes some 30 kB, and its replies may fill the
  other direction (RFC 2920 section 3.1 on deadlock).
- Go on until Close: after a Done that is not usable a QUIT may be under way.

What it doesn't do: sockets, timers (`patience_s` says how long), names, octets of content,
which host is next (roles.remote, protocol.mx); STARTTLS, AUTH, CHUNKING. A server that hangs up on
EHLO is not asked again with HELO.

The file is long because vocabulary, actions and tables are read together. What always holds of a
session and of a step is in `smtp_client_invariants`, which proofs, walks and controls hold it to.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final, Literal

from refmta.wire.address import parse_forward_path, parse_reverse_path
from refmta.wire.reply import Reply, escaped

# -- what is sent, and what becomes of it ---------------------------------------------------------

TEXT_OCTETS: Final = 1000  # of a verdict's text; a channel's text has 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One message for one connection.

    reverse_path: without brackets, "" for the null path. recipients: at least one, as to be said at
    RCPT, without brackets. octets: of the content as it is, line ends included, dots not stuffed
    (RFC 1870 section 5). eight_bit: the content has octets above 127.
    Raises ValueError for what is no address (it would be a command of somebody's choosing).
    """

    reverse_path: str
    recipients: tuple[str, ...]
    octets: int
    eight_bit: bool = False

    def __post_init__(self) -> None:
        if not self.recipients:
            raise ValueError("a transaction without recipients")
        if self.octets < 0:
            raise ValueError("negative size")
        parse_reverse_path(f"<{self.reverse_path}>")
        for recipient in self.recipients:
            parse_forward_path(f"<{recipient}>")


Kind = Literal["delivered", "deferred", "failed", "returned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one recipient.

    enhanced: of the kind's class (2, 4, 5), or "" with "returned".
    text: at most 1000 octets of printable ASCII; with `said`, the server's words as they came, the
    code first ("550 5.1.1 no such user"), which is what a Diagnostic-Code takes (RFC 3464 2.3.6).
    elsewhere: deferred because the connection failed, or the host turned us away, before the end of
    the content was sent: another host, or a new connection, may be tried at once.
    """

    kind: Kind
    enhanced: str
    text: str
    said: bool
    elsewhere: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Extensions:
    """From the reply to EHLO. size: octets; 0: offered without a limit; None: not offered."""

    pipelining: bool = False
    size: int | None = None
    eight_bit_mime: bool = False
    enhanced_status_codes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """What the operator decides. hostname: said in EHLO and HELO, a domain or address literal."""

    hostname: str


# -- state ----------------------------------------------------------------------------------------


class Phase(Enum):
    """Where the session stands; what is awaited."""

    NEW = "new"  # the connection is being made
    GREETING = "greeting"  # the server's first words
    EHLO = "ehlo"  # the reply to EHLO
    HELO = "helo"  # the reply to HELO, after EHLO was refused
    READY = "ready"  # nothing: no transaction is open
    ENVELOPE = "envelope"  # replies to `outstanding`
    CONTENT = "content"  # the shell: it sends content
    FINAL = "final"  # the reply to the end of data
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

    phase: Phase = Phase.NEW
    extensions: Extensions = Extensions()
    transaction: Transaction | None = None  # from Begin to Done
    outstanding: tuple[Verb, ...] = ()  # sent, not answered, in order; in ENVELOPE only
    answered: int = 0  # recipients whose RCPT has been answered
    verdicts: tuple[Verdict | None, ...] = ()  # one per recipient; None: open
    dirty: bool = False  # the server may hold parts of an envelope: RSET before MAIL
    hurried: bool = False  # no further transaction: QUIT after this one


# -- events ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connected:
    """The connection stands."""


@dataclass(frozen=True, slots=True)
class Replied:
    """A whole reply was read."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class NotAReply:
    """Octets that are no reply (wire.reply.ReplyError). text: why; no octet from outside."""

    text: str


@dataclass(frozen=True, slots=True)
class Begin:
    """Send this message."""

    transaction: Transaction


@dataclass(frozen=True, slots=True)
class ContentSent:
    """All content is written but the last piece, and nothing is there to be read."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection could not be made, or is gone. text: why, if known (printable ASCII)."""

    text: str = ""


@dataclass(frozen=True, slots=True)
class TimedOut:
    """What was awaited did not come within `patience_s`."""


@dataclass(frozen=True, slots=True)
class Finish:
    """No more transactions: QUIT. Not while there is one."""


@dataclass(frozen=True, slots=True)
class Hurry:
    """The server stops: give back what can be given back, and close."""


Event = Connected | Replied | NotAReply | Begin | ContentSent | Lost | TimedOut | Finish | Hurry

# -- effects, to be carried out in order ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Write these octets (commands, or the lone dot), at once and in one piece."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class SendContent:
    """Write the content but its last piece, then feed ContentSent (see the top)."""


@dataclass(frozen=True, slots=True)
class SendEnd:
    """Write the last piece of the content, and the end of data."""


Destination = Literal["alive", "dead", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The transaction is over.

    verdicts: one per recipient, in order. destination: "alive": this host took our EHLO or HELO
    and went on talking; "dead": it did not, or fell silent, hung up, said 421 or no reply at all;
    "unknown": it was not asked (Hurry, or Begin came too late). usable: the connection may serve
    another Begin.
    """

    verdicts: tuple[Verdict, ...]
    destination: Destination
    usable: bool


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection, discard unread input."""


Effect = Send | SendContent | SendEnd | Done | Close
Effects = tuple[Effect, ...]
Step = tuple[Session, Effects]
Action = Callable[[Session, Any, ClientOptions], Step]


class ImpossibleError(AssertionError):
    """The caller fed an event that the phase excludes. Our mistake, never the server's."""


# -- the API's functions --------------------------------------------------------------------------


def step(session: Session, event: Event, options: ClientOptions) -> Step:
    """One event: the next state, and what the caller has to do, in this order."""
    return EVENTS[session.phase, type(event)](session, event, options)


def patience_s(session: Session) -> float:
    """How long to wait for what is awaited now, in seconds (RFC 5321 section 4.5.3.2).

    In CONTENT: per block written. READY: without end (the caller's idle time). CLOSED: 0.
    """
    if session.outstanding:
        return VERB_PATIENCE_S[session.outstanding[0]]
    return PATIENCE_S[session.phase]


def awaited(session: Session) -> str:
    """What is awaited, for logs and verdicts: "the reply to RCPT"."""
    if session.outstanding:
        return f"the reply to {session.outstanding[0].value}"
    return AWAITED[session.phase]


# -- numbers --------------------------------------------------------------------------------------

PATIENCE_S: Final[Mapping[Phase, float]] = {
    Phase.NEW: 30.0,  # not in the RFC; Postfix smtp_connect_timeout 30 s, Exim 5 minutes
    Phase.GREETING: 300.0,  # 4.5.3.2.1
    Phase.EHLO: 300.0,  # not in the RFC; Postfix smtp_helo_timeout 300 s
    Phase.HELO: 300.0,
    Phase.READY: math.inf,
    Phase.ENVELOPE: 300.0,  # see VERB_PATIENCE_S
    Phase.CONTENT: 180.0,  # 4.5.3.2.5, per block
    Phase.FINAL: 600.0,  # 4.5.3.2.6
    Phase.QUIT: 10.0,  # the mail is done; Postfix doesn't wait at all (smtp_skip_quit_response)
    Phase.CLOSED: 0.0,
}
VERB_PATIENCE_S: Final[Mapping[Verb, float]] = {
    Verb.RSET: 300.0,  # not in the RFC; Postfix smtp_rset_timeout 20 s
    Verb.MAIL: 300.0,  # 4.5.3.2.2
    Verb.RCPT: 300.0,  # 4.5.3.2.3
    Verb.DATA: 120.0,  # 4.5.3.2.4
}
AWAITED: Final[Mapping[Phase, str]] = {
    Phase.NEW: "the connection",
    Phase.GREETING: "the greeting",
    Phase.EHLO: "the reply to EHLO",
    Phase.HELO: "the reply to HELO",
    Phase.READY: "nothing",
    Phase.ENVELOPE: "the reply to a command",
    Phase.CONTENT: "the sending of the content",
    Phase.FINAL: "the reply to the end of data",
    Phase.QUIT: "the reply to QUIT",
    Phase.CLOSED: "nothing",
}

# -- verdicts -------------------------------------------------------------------------------------

# What a code alone says: RFC 5321 section 4.2.3 for its meaning, RFC 3463 section 3 for the nearest
# subject and detail. 550 and 554 mean too many things for anything but x.0.0, as does any other.
ENHANCED: Final[Mapping[int, str]] = {
    421: "4.3.2",  # service not available | system not accepting network messages
    450: "4.2.0",  # mailbox unavailable | other mailbox status
    451: "4.3.0",  # local error in processing | other mail system status
    452: "4.3.1",  # insufficient system storage | mail system full
    455: "4.5.4",  # unable to accommodate parameters | invalid command arguments
    500: "5.5.2",  # syntax error | syntax error
    501: "5.5.4",  # syntax error in parameters | invalid command arguments
    502: "5.5.1",  # command not implemented | invalid command
    503: "5.5.1",  # bad sequence of commands | invalid command
    504: "5.5.4",  # parameter not implemented | invalid command arguments
    521: "5.3.2",  # RFC 7504: host accepts no mail | system not accepting network messages
    551: "5.1.6",  # user not local | mailbox has moved, no forwarding address
    552: "5.2.2",  # exceeded storage allocation | mailbox full
    553: "5.1.0",  # mailbox name not allowed | other address status
    555: "5.5.4",  # parameters not recognized | invalid command arguments
    556: "5.1.10",  # RFC 7504: domain accepts no mail | RFC 7505 section 3
}
_KINDS: Final[Mapping[int, Kind]] = {2: "delivered", 4: "deferred", 5: "failed"}


def _said(answer: Reply, *, deferred: bool = False, elsewhere: bool = False) -> Verdict:
    """The verdict in the server's words; `deferred`: whatever its class."""
    enhanced = answer.enhanced or ENHANCED.get(answer.code, f"{answer.code // 100}.0.0")
    if deferred:
        enhanced = "4" + enhanced[1:]
    kind: Kind = "deferred" if deferred else _KINDS[answer.code // 100]
    text = str(answer)[:TEXT_OCTETS]
    return Verdict(kind=kind, enhanced=enhanced, text=text, said=True, elsewhere=elsewhere)


def _own(kind: Kind, enhanced: str, text: str, *, elsewhere: bool = False) -> Verdict:
    """A verdict in our words."""
    text = escaped(text)[:TEXT_OCTETS]
    return Verdict(kind=kind, enhanced=enhanced, text=text, said=False, elsewhere=elsewhere)


# -- ways a step ends -----------------------------------------------------------------------------

_CLOSE: Final = Close()
_CLOSED: Final = Session(phase=Phase.CLOSED)
_END_OF_NOTHING: Final = Send(b".\r\n")
_UNGREETED: Final = (Phase.NEW, Phase.GREETING, Phase.EHLO, Phase.HELO)


def _command(*words: str) -> bytes:
    return " ".join(words).encode("ascii") + b"\r\n"


def _done(
    session: Session, rest: Verdict, *, usable: bool = False, dead: bool = False
) -> tuple[Effect, ...]:
    """Done, if there is a transaction; `rest` for the recipients that are still open."""
    if session.transaction is None:
        return ()
    destination: Destination = "dead" if dead else "alive"
    if session.phase in _UNGREETED:
        destination = "unknown" if rest.kind == "returned" else "dead"
    verdicts = tuple(verdict or rest for verdict in session.verdicts)
    return (Done(verdicts=verdicts, destination=destination, usable=usable),)


def _hang_up(session: Session, rest: Verdict, *, dead: bool = False) -> Step:
    """The connection is of no more use, nor is talking to it."""
    return _CLOSED, (*_done(session, rest, dead=dead), _CLOSE)


def _say_quit(*before: Effect) -> Step:
    """RFC 5321 section 4.1.1.10."""
    return Session(phase=Phase.QUIT), (*before, Send(_command("QUIT")))


def _over(session: Session, rest: Verdict, *, dirty: bool) -> Step:
    """The transaction has its verdicts, and nothing is outstanding."""
    if session.hurried:
        return _say_quit(*_done(session, rest))
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
    rest = _own("deferred", "4.4.2", "the connection was closed", elsewhere=True)
    verdicts = (rest,) * len(event.transaction.recipients)
    return session, (Done(verdicts=verdicts, destination="unknown", usable=False),)


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
        text = f"message of {transaction.octets} octets, the host takes {extensions.size}"
        return _own("failed", "5.3.4", text)
    if transaction.eight_bit and not extensions.eight_bit_mime:  # RFC 6152 section 3
        return _own("failed", "5.6.3", "8-bit content, and the host doesn't take 8BITMIME")
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
    verb: Verb, transaction: Transaction, extensions: Extensions, recipients: Iterator[str]
) -> bytes:
    if verb is Verb.RCPT:
        return _command(f"RCPT TO:<{next(recipients)}>")
    if verb is Verb.MAIL:
        return _command(
            f"MAIL FROM:<{transaction.reverse_path}>", *_offered(transaction, extensions)
        )
    return _command(verb.value)


def _offered(transaction: Transaction, extensions: Extensions) -> Iterator[str]:
    """MAIL's parameters: only what EHLO's reply named (RFC 5321 section 2.2.1)."""
    if extensions.size is not None:
        yield f"SIZE={transaction.octets}"  # RFC 1870 section 5
    if transaction.eight_bit:
        yield "BODY=8BITMIME"  # RFC 6152 section 2


# -- actions: replies before a transaction --------------------------------------------------------


def _replied(session: Session, event: Replied, options: ClientOptions) -> Step:
    """Any reply: by what is awaited, and its first digit. 421 means the same everywhere."""
    if event.reply.code == 421:
        return _shut_down(session, event.reply, options)
    expected = session.outstanding[0] if session.outstanding else session.phase
    return REPLIES[expected, event.reply.code // 100](session, event.reply, options)


def _shut_down(session: Session, answer: Reply, _options: ClientOptions) -> Step:
    """421: the server closes (RFC 5321 section 3.8); nothing that was outstanding is done."""
    verdict = _said(answer, deferred=True, elsewhere=_unended(session))
    return _hang_up(session, verdict, dead=True)


def _out_of_step(session: Session, answer: Reply, _options: ClientOptions) -> Step:
    """A class that this command can't have: which reply answers what is no longer known."""
    text = f"out of step: instead of {awaited(session)}: {answer}"
    return _hang_up(session, _own("deferred", "4.5.0", text, elsewhere=_unended(session)))


def _greeted(session: Session, _answer: Reply, options: ClientOptions) -> Step:
    hello = _command("EHLO", options.hostname)
    return replace(session, phase=Phase.EHLO), (Send(hello),)


def _say_helo(session: Session, _answer: Reply, options: ClientOptions) -> Step:
    """RFC 5321 section 3.2: a server that doesn't know EHLO is an old one."""
    hello = _command("HELO", options.hostname)
    return replace(session, phase=Phase.HELO), (Send(hello),)


def _extended(session: Session, answer: Reply, _options: ClientOptions) -> Step:
    return _start(replace(session, extensions=_extensions(answer.lines[1:])))


def _welcomed(session: Session, _answer: Reply, _options: ClientOptions) -> Step:
    return _start(session)


def _turned_away(session: Session, answer: Reply, _options: ClientOptions) -> Step:
    """A refusal before MAIL: deferred, also with 5yz, and the next host may be tried.

    It says something of this host or of us, not of the mail: "554 no SMTP service here" (RFC 5321
    section 3.1) stands in front of many a host that an MX record names by mistake, or that blocks
    an address for an hour. Postfix has the same default (smtp_skip_5xx_greeting). Mail to hosts
    that never take any ends with its lifetime, or with a null MX. The server waits for a QUIT.
    """
    return _say_quit(*_done(session, _said(answer, deferred=True, elsewhere=True)))


def _unasked(_session: Session, _answer: Reply, _options: ClientOptions) -> Step:
    """Nobody asked: it would be taken for the answer to the next command."""
    return _CLOSED, (_CLOSE,)


_is_keyword = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*\Z").match
_is_size = re.compile(r"[0-9]{1,20}\Z").match  # RFC 1870 section 3


def _extensions(lines: Iterable[str]) -> Extensions:
    """EHLO's keywords (RFC 5321 section 4.1.1.1), in any case; what is unknown is passed over."""
    offered: dict[str, list[str]] = {}
    for line in lines:
        keyword, *parameters = line.split() or [""]
        if _is_keyword(keyword):
            offered.setdefault(keyword.upper(), parameters)
    return Extensions(
        pipelining="PIPELINING" in offered,
        size=_size(offered.get("SIZE")),
        eight_bit_mime="8BITMIME" in offered,
        enhanced_status_codes="ENHANCEDSTATUSCODES" in offered,
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
    """`verb` was answered. If nothing else is outstanding, the next command, or the end."""
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
    return _hang_up(session, _said(answer, deferred=True, elsewhere=True))


def _refused_all(session: Session, answer: Reply, _options: ClientOptions) -> Step:
    """MAIL or DATA: the verdict of all recipients that have none."""
    verb = session.outstanding[0]
    verdict = _said(answer)
    verdicts = tuple(each or verdict for each in session.verdicts)
    return _proceed(replace(session, verdicts=verdicts), verb)


def _accepted(session: Session, _answer: Reply, _options: ClientOptions) -> Step:
    """The recipient stays open. (After a refused MAIL it isn't, and the server talks nonsense.)"""
    return _proceed(replace(session, answered=session.answered + 1), Verb.RCPT)


def _refused_one(session: Session, answer: Reply, _options: ClientOptions) -> Step:
    """552 means "too many recipients" here: temporary (RFC 5321 section 4.5.3.1.10)."""
    place = session.answered
    verdict = session.verdicts[place] or _said(answer, deferred=answer.code == 552)
    verdicts = (*session.verdicts[:place], verdict, *session.verdicts[place + 1 :])
    return _proceed(replace(session, verdicts=verdicts, answered=place + 1), Verb.RCPT)


def _go_ahead(session: Session, _answer: Reply, _options: ClientOptions) -> Step:
    """Content for those who were accepted; a lone dot if there are none (RFC 2920 3.1)."""
    session = replace(session, outstanding=())
    if None in session.verdicts:
        return replace(session, phase=Phase.CONTENT), (SendContent(),)
    return replace(session, phase=Phase.FINAL), (_END_OF_NOTHING,)


def _refused_early(session: Session, answer: Reply, _options: ClientOptions) -> Step:
    """While content is sent. It can't be about anything else; the end is not sent any more."""
    return _hang_up(session, _said(answer))


def _content_sent(session: Session, _event: ContentSent, _options: ClientOptions) -> Step:
    return replace(session, phase=Phase.FINAL), (SendEnd(),)


def _answered_content(session: Session, answer: Reply, _options: ClientOptions) -> Step:
    """The one reply that may deliver. Either way the server's buffers are empty (4.1.1.4)."""
    return _over(session, _said(answer), dirty=False)


# -- actions: everything else ---------------------------------------------------------------------


def _connected(session: Session, _event: Connected, _options: ClientOptions) -> Step:
    return replace(session, phase=Phase.GREETING), ()


def _garbled(session: Session, event: NotAReply, _options: ClientOptions) -> Step:
    text = f"no reply while waiting for {awaited(session)}: {event.text}"
    verdict = _own("deferred", "4.5.0", text, elsewhere=_unended(session))
    return _hang_up(session, verdict, dead=True)


def _unreachable(session: Session, event: Lost | TimedOut, _options: ClientOptions) -> Step:
    reason = "timed out" if isinstance(event, TimedOut) else event.text or "lost"
    verdict = _own("deferred", "4.4.1", f"no connection: {reason}", elsewhere=True)
    return _hang_up(session, verdict)


def _lost(session: Session, event: Lost, _options: ClientOptions) -> Step:
    """As if 451 had been said (RFC 5321 section 3.8)."""
    reason = f": {event.text}" if event.text else ""
    text = f"connection lost while waiting for {awaited(session)}{reason}"
    verdict = _own("deferred", "4.4.2", text, elsewhere=_unended(session))
    return _hang_up(session, verdict, dead=True)


def _timed_out(session: Session, _event: TimedOut, _options: ClientOptions) -> Step:
    text = f"timed out while waiting for {awaited(session)}"
    verdict = _own("deferred", "4.4.2", text, elsewhere=_unended(session))
    return _hang_up(session, verdict, dead=True)


def _give_back(session: Session, _event: Hurry, _options: ClientOptions) -> Step:
    """No end of data was sent, so the server keeps nothing (RFC 5321 section 4.1.1.4)."""
    return _hang_up(session, _own("returned", "", "this server stops"))


def _hurry(session: Session, _event: Hurry, _options: ClientOptions) -> Step:
    """The server may have the message already: its answer is worth waiting for."""
    return replace(session, hurried=True), ()


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
    Phase.EHLO:     (_extended,         STEP,       _turned_away,      _say_helo),
    Phase.HELO:     (_welcomed,         STEP,       _turned_away,      _turned_away),
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
    #             NEW           GREETING    EHLO        HELO        READY
    #             ENVELOPE      CONTENT        FINAL       QUIT     CLOSED
    Connected:   (_connected,   OURS,       OURS,       OURS,       OURS,
                  OURS,         OURS,          OURS,       OURS,    _ignore),
    Replied:     (OURS,         _replied,   _replied,   _replied,   _replied,
                  _replied,     _replied,      _replied,   _replied, _ignore),
    NotAReply:   (OURS,         _garbled,   _garbled,   _garbled,   _garbled,
                  _garbled,     _garbled,      _garbled,   _close,  _ignore),
    Begin:       (_note,        _note,      _note,      _note,      _begin,
                  OURS,         OURS,          OURS,       _too_late, _too_late),
    ContentSent: (OURS,         OURS,       OURS,       OURS,       OURS,
                  OURS,         _content_sent, OURS,       OURS,    _ignore),
    Lost:        (_unreachable, _lost,      _lost,      _lost,      _close,
                  _lost,        _lost,         _lost,      _close,  _ignore),
    TimedOut:    (_unreachable, _timed_out, _timed_out, _timed_out, _quit,
                  _timed_out,   _timed_out,    _timed_out, _close,  _ignore),
    Finish:      (_leave,       _leave,     _leave,     _leave,     _quit,
                  OURS,         OURS,          OURS,       _ignore, _ignore),
    Hurry:       (_give_back,   _give_back, _give_back, _give_back, _quit,
                  _give_back,   _give_back,    _hurry,     _ignore, _ignore),
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
