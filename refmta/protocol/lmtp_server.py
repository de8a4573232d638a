"""The LMTP server of one connection, as two total tables (RFC 2033).

Rules a reader may rely on
- `step(session, event, options) -> (session, effects)` is pure: no clock, no octets from a channel.
- EVENTS says what every event means in every phase, VERBS what every command means in every phase
  in which commands are read.  Both are total; where VERBS holds a Reply, that is the answer, and
  it counts as an error of the client.  OURS marks what only our own mistake can bring about.
- Every command gets one reply; DATA's content gets one for each recipient that was accepted, in the
  order of their RCPTs, also if two of them are the same (RFC 2033 section 4.2).
- A 2yz behind the content is sent for that recipient's own Delivered verdict, and for nothing else:
  there is no queue here from which a delivery could be tried again (section 3).
- CLOSED is entered with a Close effect as the last one; after that every event is ignored.

What is tricky
- The client is our own lmtpc, or whoever has seized it: it is a neighbour and no friend.  So the
  checks of the SMTP server (`smtp_server`) are all here, what is behind LHLO or DATA included.
- What is wrong with the content as a whole (too long, a bare CR or LF) is said to each recipient.
- A verdict may come while the content is still being read (disk full for one mailbox): the role
  keeps it until Commit, for the replies are due in the recipients' order and not before.

What it doesn't do: lines, dots, timers (the role), syntax (`wire.command`, `lmtp`), which mailboxes
there are and what is durable (roles.lmtpd, stores).

The file is long because vocabulary, actions and tables are read together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final

from refmta.protocol.lmtp import (
    OF_MAIL,
    OF_RCPT,
    XDELIVERY,
    Lhlo,
    Origin,
    Place,
    parse_lmtp_command,
    read_origin,
    read_place,
)
from refmta.protocol.smtp_server import (
    BAD_PARAMETER,
    BARE,
    BYE,
    GO_AHEAD,
    NESTED,
    NO_EXPN,
    NO_MAIL,
    NOT_VERIFIED,
    OK_NOOP,
    OK_RECIPIENT,
    OK_RESET,
    OK_SENDER,
    OUT_OF_STEP,
    OVERDUE,
    REFUSED_END,
    SHUTDOWN,
    TIMEOUT,
    TOO_LARGE,
    TOO_LONG,
    TOO_MANY_COMMANDS,
    TOO_MANY_ERRORS,
    TOO_MANY_RECIPIENTS,
    UNKNOWN_PARAMETER,
    Abandon,
    BodyEnd,
    BodyRefusedEnd,
    BodyTooLarge,
    Close,
    CommandLine,
    Commit,
    Connected,
    Draining,
    ImpossibleError,
    LineTooLong,
    Lost,
    RecipientVerdict,
    Send,
    TimedOut,
)
from refmta.wire.address import Mailbox
from refmta.wire.command import (
    Command,
    CommandError,
    Data,
    Ehlo,
    Expn,
    Helo,
    Help,
    Mail,
    Noop,
    Parameters,
    Quit,
    Rcpt,
    Rset,
    Vrfy,
)
from refmta.wire.reply import Reply, reply

# -- numbers --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """A number on everything that a client can make grow."""

    command_line: int = 1024
    """octets, as in wire.command"""
    recipients: int = 100
    """per message, each with a file of its own; RFC 5321 4.5.3.1.8 wants at least 100"""
    message_octets: int = 50 * 1024 * 1024
    """decoded content; as smtp_server"""
    errors: int = 10
    """refused commands since the last delivery; Haraka 10, Postfix 20"""
    rejections: int = 1000
    """recipients refused since the last delivery; as smtp_server"""
    idle_commands: int = 100
    """commands that move no mail, since the last delivery; Postfix junk limit 100"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """What the operator decides.  hostname: the domain in the greeting and LHLO's reply."""

    hostname: str
    limits: Limits = field(default_factory=Limits)


# -- state ----------------------------------------------------------------------------------------


class Phase(Enum):
    """Where the session stands.  Commands are read in CONNECTED, GREETED, MAIL and RCPT only."""

    NEW = "new"  # no greeting sent yet
    CONNECTED = "connected"  # 220 sent, no LHLO yet
    GREETED = "greeted"  # after LHLO, no transaction
    MAIL = "mail"  # a reverse-path, no recipient yet
    RCPT = "rcpt"  # at least one recipient
    RCPT_ASKED = "rcpt asked"  # a recipient's verdict is awaited
    BODY = "body"  # 354 sent, content is read
    COMMITTING = "committing"  # content complete, the verdicts are awaited
    CLOSED = "closed"

    # Enum hashes by name, in Python; identity is as good and faster.
    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """Who was named at RCPT.  place: what XDELIVERY said of it, if it did."""

    address: Mailbox
    place: Place | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The whole state of one connection.  The transaction's fields are empty outside of one."""

    phase: Phase = Phase.NEW
    greeted: bool = False  # LHLO was said
    reverse_path: Mailbox | None = None  # None in a transaction is the null path, <>
    origin: Origin | None = None
    recipients: tuple[Recipient, ...] = ()
    asked: Recipient | None = None  # whose verdict is awaited
    errors: int = 0
    rejections: int = 0
    idle_commands: int = 0
    draining: bool = False  # 421 is due at the next command boundary


# -- events and effects: SMTP's, and these --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of each recipient, in order: 250 for what is durable in its mailbox, else 4yz or
    5yz.
    """

    replies: tuple[Reply, ...]

    def __post_init__(self) -> None:
        if any(each.code != 250 and each.code < 400 for each in self.replies):
            raise ValueError("a verdict is 250, or a refusal")


Event = (
    Connected
    | CommandLine
    | LineTooLong
    | RecipientVerdict
    | BodyEnd
    | BodyRefusedEnd
    | BodyTooLarge
    | Delivered
    | TimedOut
    | Draining
    | Lost
)


@dataclass(frozen=True, slots=True)
class AskRecipient:
    """Is there such a mailbox?  Come back with a RecipientVerdict."""

    recipient: Recipient


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBody:
    """Open a file for each recipient, and take the content as it comes.  Before the 354 is sent."""

    reverse_path: Mailbox | None
    origin: Origin | None
    recipients: tuple[Recipient, ...]


Effect = Send | AskRecipient | ReadBody | Commit | Abandon | Close
Effects = tuple[Effect, ...]
Step = tuple[Session, Effects]
Action = Callable[[Session, Any, ServerOptions], Step]

# -- replies that SMTP does not have --------------------------------------------------------------

NOT_SMTP: Final = reply(500, "5.5.1", "this is LMTP: send LHLO")  # RFC 2033 section 4.1
NO_LHLO: Final = reply(503, "5.5.1", "send LHLO first")
NO_RECIPIENTS: Final = reply(503, "5.5.1", "no valid recipients")  # RFC 2033 section 4.2
HELP: Final = reply(214, "2.0.0", "LHLO MAIL RCPT DATA RSET NOOP QUIT VRFY HELP", "see RFC 2033")

# -- ways a step ends -----------------------------------------------------------------------------

_CLOSE: Final = Close()
_CLOSED: Final = Session(phase=Phase.CLOSED)


def _close(answer: Reply, *before: Effect) -> Step:
    return _CLOSED, (*before, Send(answer), _CLOSE)


def _answer(session: Session, answer: Reply, *before: Effect) -> Step:
    """One command is done: its reply, and at this boundary the 421 of a server that drains."""
    if session.draining:
        return _close(SHUTDOWN, *before, Send(answer))
    return session, (*before, Send(answer))


def _refuse(session: Session, answer: Reply, options: ServerOptions, *before: Effect) -> Step:
    """A client's mistake.  The one that reaches the limit gets 421 in place of its own reply."""
    errors = session.errors + 1
    if errors >= options.limits.errors:
        return _close(TOO_MANY_ERRORS, *before)
    return _answer(replace(session, errors=errors), answer, *before)


def _reject(session: Session, answer: Reply, options: ServerOptions) -> Step:
    """A recipient that is not taken: no mistake, but not without end either."""
    rejections = session.rejections + 1
    if rejections >= options.limits.rejections:
        return _close(TOO_MANY_ERRORS)
    return _answer(replace(session, rejections=rejections), answer)


def _idle(session: Session, answer: Reply, options: ServerOptions) -> Step:
    """A command that moves no mail."""
    idle_commands = session.idle_commands + 1
    if idle_commands >= options.limits.idle_commands:
        return _close(TOO_MANY_COMMANDS)
    return _answer(replace(session, idle_commands=idle_commands), answer)


def _reset(session: Session) -> Session:
    """Without the transaction: only what is named here survives (RFC 5321 section 4.1.1.5)."""
    return Session(
        phase=Phase.GREETED if session.greeted else Phase.CONNECTED,
        greeted=session.greeted,
        errors=session.errors,
        rejections=session.rejections,
        idle_commands=session.idle_commands,
        draining=session.draining,
    )


def _each(session: Session, answer: Reply, options: ServerOptions) -> Step:
    """The content is taken for nobody: the same reply to every recipient (RFC 2033 section 4.2)."""
    others = [Send(answer) for _ in session.recipients[1:]]
    return _refuse(_reset(session), answer, options, Abandon(), *others)


# -- actions: commands ----------------------------------------------------------------------------


def _lhlo(session: Session, _command: Lhlo, options: ServerOptions) -> Step:
    """RFC 2033 section 4.1; also a reset.  Lists what is implemented, no more."""
    answer = reply(
        250,
        None,  # RFC 2034 section 4: no enhanced code in this reply
        options.hostname,
        "PIPELINING",  # RFC 2920; RFC 2033 section 5: MUST
        f"SIZE {options.limits.message_octets}",  # RFC 1870
        "8BITMIME",  # RFC 6152; RFC 2033 section 5: SHOULD
        "ENHANCEDSTATUSCODES",  # RFC 2034; RFC 2033 section 5: MUST
        XDELIVERY,
    )
    return _idle(replace(_reset(session), phase=Phase.GREETED, greeted=True), answer, options)


def _mail(session: Session, command: Mail, options: ServerOptions) -> Step:
    wrong = _wrong_parameter(command.parameters, options)
    if wrong is not None:
        return _refuse(session, wrong, options)
    try:
        origin = read_origin(command.parameters)
    except ValueError:
        return _refuse(session, BAD_PARAMETER, options)
    opened = replace(session, phase=Phase.MAIL, reverse_path=command.reverse_path, origin=origin)
    return _answer(opened, OK_SENDER)


def _wrong_parameter(parameters: Parameters, options: ServerOptions) -> Reply | None:
    """Of MAIL's; XDELIVERY's are read by themselves."""
    for keyword, value in parameters:
        if keyword == "SIZE":
            if value is None or not value.isdigit() or len(value) > 20:  # RFC 1870 section 3
                return BAD_PARAMETER
            if int(value) > options.limits.message_octets:  # RFC 1870 section 6.1
                return TOO_LARGE
        elif keyword == "BODY":  # 8-bit content is taken as it is, said or not
            if value is None or value.upper() not in ("7BIT", "8BITMIME"):
                return BAD_PARAMETER
        elif keyword not in OF_MAIL:
            return UNKNOWN_PARAMETER
    return None


def _rcpt(session: Session, command: Rcpt, options: ServerOptions) -> Step:
    if any(keyword not in OF_RCPT for keyword, _ in command.parameters):
        return _refuse(session, UNKNOWN_PARAMETER, options)
    if len(session.recipients) >= options.limits.recipients:
        return _reject(session, TOO_MANY_RECIPIENTS, options)
    try:
        place = read_place(command.parameters)
    except ValueError:
        return _refuse(session, BAD_PARAMETER, options)
    recipient = Recipient(address=command.forward_path, place=place)
    return replace(session, phase=Phase.RCPT_ASKED, asked=recipient), (AskRecipient(recipient),)


def _data(session: Session, _command: Data, _options: ServerOptions) -> Step:
    envelope = ReadBody(
        reverse_path=session.reverse_path, origin=session.origin, recipients=session.recipients
    )
    return replace(session, phase=Phase.BODY), (envelope, Send(GO_AHEAD))


def _rset(session: Session, _command: Rset, options: ServerOptions) -> Step:
    return _idle(_reset(session), OK_RESET, options)


def _noop(session: Session, _command: Noop, options: ServerOptions) -> Step:
    return _idle(session, OK_NOOP, options)


def _help(session: Session, _command: Help, options: ServerOptions) -> Step:
    return _idle(session, HELP, options)


def _vrfy(session: Session, _command: Vrfy, options: ServerOptions) -> Step:
    return _idle(session, NOT_VERIFIED, options)


def _quit(_session: Session, _command: Quit, _options: ServerOptions) -> Step:
    return _close(BYE)


# -- actions: events ------------------------------------------------------------------------------


def _connected(session: Session, event: Connected, options: ServerOptions) -> Step:
    """RFC 5321 section 4.3.1: the client waits for the greeting."""
    if event.early:
        return _close(OUT_OF_STEP)
    greeting = reply(220, None, f"{options.hostname} LMTP refmta")
    return replace(session, phase=Phase.CONNECTED), (Send(greeting),)


def _command(session: Session, event: CommandLine, options: ServerOptions) -> Step:
    """What stands behind LHLO or DATA was sent without knowing the answer (RFC 2920 3.1)."""
    if event.pipelined and not session.greeted:
        return _close(OUT_OF_STEP)
    try:
        command = parse_lmtp_command(event.octets)
    except CommandError as error:
        return _refuse(session, error.reply, options)
    if event.pipelined and isinstance(command, ALONE):
        return _close(OUT_OF_STEP)
    return obey(session, command, options)


def _too_long(session: Session, _event: LineTooLong, options: ServerOptions) -> Step:
    return _refuse(session, TOO_LONG, options)


def _recipient(session: Session, event: RecipientVerdict, options: ServerOptions) -> Step:
    if session.asked is None:
        raise ImpossibleError("a verdict without a recipient")
    if event.accepted:
        recipients = (*session.recipients, session.asked)
        kept = replace(session, phase=Phase.RCPT, recipients=recipients, asked=None)
        return _answer(kept, event.reply or OK_RECIPIENT)
    phase = Phase.RCPT if session.recipients else Phase.MAIL
    return _reject(replace(session, phase=phase, asked=None), event.reply or OVERDUE, options)


def _body_end(session: Session, event: BodyEnd, options: ServerOptions) -> Step:
    if event.bare:  # RFC 5321 section 2.3.8, 4.1.1.4
        return _each(session, BARE, options)
    if event.size > options.limits.message_octets:
        return _each(session, TOO_LARGE, options)
    return replace(session, phase=Phase.COMMITTING), (Commit(event.size),)


def _body_too_large(session: Session, _event: BodyTooLarge, options: ServerOptions) -> Step:
    return _each(session, TOO_LARGE, options)  # RFC 1870 section 6.3


def _body_refused_end(_session: Session, _event: BodyRefusedEnd, _options: ServerOptions) -> Step:
    """What follows may be commands to one server and content to another: execute none of it."""
    return _close(REFUSED_END, Abandon())


def _delivered(session: Session, event: Delivered, _options: ServerOptions) -> Step:
    """The transaction is over, whatever became of it; counters begin anew if anything moved."""
    if len(event.replies) != len(session.recipients):
        raise ImpossibleError("not a verdict for each recipient")
    *others, last = event.replies
    rest = _reset(session)
    if any(each.code == 250 for each in event.replies):
        rest = Session(phase=Phase.GREETED, greeted=True, draining=session.draining)
    return _answer(rest, last, *map(Send, others))


def _timeout(_session: Session, _event: TimedOut, _options: ServerOptions) -> Step:
    return _close(TIMEOUT)


def _timeout_body(_session: Session, _event: TimedOut, _options: ServerOptions) -> Step:
    return _close(TIMEOUT, Abandon())


def _overdue(_session: Session, _event: TimedOut, _options: ServerOptions) -> Step:
    """A commit that is under way is not taken back: the client delivers again, under the same name
    (XDELIVERY)."""
    return _close(OVERDUE)


def _shut_down(_session: Session, _event: Draining, _options: ServerOptions) -> Step:
    return _close(SHUTDOWN)


def _drain(session: Session, _event: Draining, _options: ServerOptions) -> Step:
    return replace(session, draining=True), ()


def _lost(_session: Session, _event: Lost, _options: ServerOptions) -> Step:
    return _CLOSED, (_CLOSE,)


def _lost_body(_session: Session, _event: Lost, _options: ServerOptions) -> Step:
    """No end, no message (RFC 5321 section 4.1.1.10)."""
    return _CLOSED, (Abandon(), _CLOSE)


def _ignore(session: Session, _event: Event, _options: ServerOptions) -> Step:
    return session, ()


def _ours(session: Session, event: Event, _options: ServerOptions) -> Step:
    raise ImpossibleError(f"{type(event).__name__} in phase {session.phase.value}")


OURS: Final = _ours

# -- the tables -----------------------------------------------------------------------------------

#: What may not have input behind it (RFC 2920 section 3.1).
ALONE: Final = (Lhlo, Ehlo, Helo, Data)

COMMAND_PHASES: Final = (Phase.CONNECTED, Phase.GREETED, Phase.MAIL, Phase.RCPT)

# fmt: off
_VERB_ROWS: Mapping[type, tuple[Action | Reply, ...]] = {
    #      CONNECTED  GREETED        MAIL           RCPT
    Lhlo: (_lhlo,     _lhlo,         _lhlo,         _lhlo),      # RFC 2033 4.1
    Ehlo: (NOT_SMTP,  NOT_SMTP,      NOT_SMTP,      NOT_SMTP),   # "MUST NOT return a Positive
    Helo: (NOT_SMTP,  NOT_SMTP,      NOT_SMTP,      NOT_SMTP),   # Completion reply": 4.1
    Mail: (NO_LHLO,   _mail,         NESTED,        NESTED),
    Rcpt: (NO_LHLO,   NO_MAIL,       _rcpt,         _rcpt),
    Data: (NO_LHLO,   NO_MAIL,       NO_RECIPIENTS, _data),      # 4.2
    Rset: (_rset,     _rset,         _rset,         _rset),
    Noop: (_noop,     _noop,         _noop,         _noop),
    Quit: (_quit,     _quit,         _quit,         _quit),
    Vrfy: (_vrfy,     _vrfy,         _vrfy,         _vrfy),
    Expn: (NO_EXPN,   NO_EXPN,       NO_EXPN,       NO_EXPN),
    Help: (_help,     _help,         _help,         _help),
}

_EVENT_ROWS: Mapping[type, tuple[Action, ...]] = {
    #                  NEW         CONNECTED   GREETED     MAIL        RCPT
    #                  RCPT_ASKED  BODY               COMMITTING  CLOSED
    Connected:        (_connected, OURS,       OURS,       OURS,       OURS,
                       OURS,       OURS,              OURS,       _ignore),
    CommandLine:      (OURS,       _command,   _command,   _command,   _command,
                       OURS,       OURS,              OURS,       _ignore),
    LineTooLong:      (OURS,       _too_long,  _too_long,  _too_long,  _too_long,
                       OURS,       OURS,              OURS,       _ignore),
    RecipientVerdict: (OURS,       OURS,       OURS,       OURS,       OURS,
                       _recipient, OURS,              OURS,       _ignore),
    BodyEnd:          (OURS,       OURS,       OURS,       OURS,       OURS,
                       OURS,       _body_end,         OURS,       _ignore),
    BodyRefusedEnd:   (OURS,       OURS,       OURS,       OURS,       OURS,
                       OURS,       _body_refused_end, OURS,       _ignore),
    BodyTooLarge:     (OURS,       OURS,       OURS,       OURS,       OURS,
                       OURS,       _body_too_large,   OURS,       _ignore),
    Delivered:        (OURS,       OURS,       OURS,       OURS,       OURS,
                       OURS,       OURS,              _delivered, _ignore),
    TimedOut:         (_timeout,   _timeout,   _timeout,   _timeout,   _timeout,
                       _overdue,   _timeout_body,     _overdue,   _ignore),
    Draining:         (_shut_down, _shut_down, _shut_down, _shut_down, _shut_down,
                       _drain,     _drain,            _drain,     _ignore),
    Lost:             (_lost,      _lost,      _lost,      _lost,      _lost,
                       _lost,      _lost_body,        _lost,      _ignore),
}
# fmt: on

VERBS: Final[dict[tuple[Phase, type], Action | Reply]] = {
    (phase, verb): row
    for verb, rows in _VERB_ROWS.items()
    for phase, row in zip(COMMAND_PHASES, rows, strict=True)
}
EVENTS: Final[dict[tuple[Phase, type], Action]] = {
    (phase, kind): row
    for kind, rows in _EVENT_ROWS.items()
    for phase, row in zip(Phase, rows, strict=True)
}

# -- the interpreter ------------------------------------------------------------------------------


def step(session: Session, event: Event, options: ServerOptions) -> Step:
    """One event: the next state, and what the caller has to do, in this order."""
    return EVENTS[session.phase, type(event)](session, event, options)


def obey(session: Session, command: Command | Lhlo, options: ServerOptions) -> Step:
    """One well-formed command, in a phase that reads commands."""
    row = VERBS[session.phase, type(command)]
    if isinstance(row, Reply):
        return _refuse(session, row, options)
    return row(session, command, options)
