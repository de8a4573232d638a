"""The SMTP server of one connection, as two total tables (RFC 5321).

Rules a reader may rely on
- `step(session, event, options) -> (session, effects)` is pure: no clock, no octets from a socket.
- EVENTS says what every event means in every phase, VERBS what every command means in every
  phase in which commands are read. Both are total. A refusal is a row too: where a table holds
  a Reply instead of an action, that is the answer, and it counts as an error of the client.
- OURS marks what cannot happen unless this program is wrong (a verdict that nobody asked for).
  It raises ImpossibleError; nothing that a client sends can reach it.
- Every command gets exactly one reply (RFC 5321 section 4.2). The reply to RCPT is sent at the
  RecipientVerdict, the second reply to DATA at the end of the content or the CommitVerdict.
- A 250 for a message is sent for a CommitVerdict with a queue id, and for nothing else.
- CLOSED is entered with a Close effect as the last one; after that every event is ignored, so
  that late verdicts, and whatever the client had sent behind its last command, do nothing.

What is tricky
- Pipelining (RFC 2920): what stands behind EHLO, HELO or DATA was sent without knowing the
  answer, and what stands behind DATA would be content or commands depending on it. That is how
  messages are smuggled; such a client is out of step and is disconnected. Before an EHLO nothing
  at all may be pipelined. (Likewise Postfix, smtpd_forbid_unauth_pipelining, and Exim,
  smtp_enforce_sync.)
- While a verdict is awaited the caller keeps the client's further input in its buffer.
- A refusal by enqueue may come before the content's end (disk full). It is remembered, the rest
  of the content is swallowed, and the refusal is the answer at the end.
- A verdict belongs to the transaction that asked. After Abandon the caller drops a verdict that
  was still on its way.

The file is long because vocabulary, actions and tables are read together; the invariants at its
end are what the proofs, the walks and the negative controls hold `step` to.

What it doesn't do: lines, dot-stuffing, timers, and reading octets (the role), syntax
(wire.command), whether a recipient is ours (protocol.routing), durability (enqueue).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final, Literal

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
    Quit,
    Rcpt,
    Rset,
    Vrfy,
    parse_command,
)
from refmta.wire.reply import Reply, reply

# --- numbers -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """A number on everything that a client can make grow."""

    command_line: int = 1024
    """octets, as in wire.command; RFC 5321 4.5.3.1.4: 512, plus 43 for extensions; Postfix 2048"""
    recipients: int = 1000
    """per message; RFC 5321 4.5.3.1.8 wants at least 100; Postfix, Exim (1000 since 4.95)"""
    message_octets: int = 50 * 1024 * 1024
    """decoded content; RFC 5321 4.5.3.1.7 wants at least 64 KiB; Exim 50M, Postfix 10M"""
    errors: int = 10
    """refused commands since the last accepted message; Haraka 10, Postfix 20, Exim 3"""
    rejections: int = 1000
    """recipients refused since the last accepted message; Postfix, overshoot limit 1000. Not
    counted as errors: a list with ten dead addresses is no attack, and a client that guesses
    addresses reconnects at no cost."""
    idle_commands: int = 100
    """commands that move no mail, since the last accepted message; Postfix junk limit 100"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """What the operator decides. hostname: the domain in the greeting and the EHLO reply."""

    hostname: str
    limits: Limits = field(default_factory=Limits)


# --- state ---------------------------------------------------------------------------------------


class Phase(Enum):
    """Where the session stands. Commands are read in CONNECTED, GREETED, MAIL and RCPT only."""

    NEW = "new"  # accepted by the parent, no greeting sent yet
    CONNECTED = "connected"  # 220 sent, no EHLO or HELO yet
    GREETED = "greeted"  # after EHLO or HELO, no transaction
    MAIL = "mail"  # a reverse-path, no recipient yet
    RCPT = "rcpt"  # at least one recipient
    RCPT_ASKED = "rcpt asked"  # a recipient's verdict is awaited
    BODY = "body"  # 354 sent, content is read and handed to enqueue
    COMMITTING = "committing"  # content complete, enqueue's verdict is awaited
    CLOSED = "closed"

    # Enum hashes by name, in Python; identity is as good and 5 times faster on the hot path.
    __hash__ = object.__hash__


BodyType = Literal["7BIT", "8BITMIME"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The whole state of one connection. The transaction's fields are empty outside of one."""

    phase: Phase = Phase.NEW
    helo: str = ""  # the client's claim, unchecked; "" before EHLO or HELO
    extended: bool = False  # EHLO, so that pipelining and parameters are allowed
    reverse_path: Mailbox | None = None  # None in a transaction is the null path, <>
    recipients: tuple[Mailbox, ...] = ()
    asked: Mailbox | None = None  # the recipient whose verdict is awaited
    size: int | None = None  # declared, octets (RFC 1870)
    body: BodyType = "7BIT"
    refused: Reply | None = None  # enqueue's refusal, kept until the content's end
    errors: int = 0
    rejections: int = 0
    idle_commands: int = 0
    draining: bool = False  # 421 is due at the next command boundary


# --- events --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connected:
    """A client is there. early: it has sent something before the greeting."""

    early: bool = False


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A line without its CRLF. pipelined: more input was already buffered behind it."""

    octets: bytes
    pipelined: bool = False


@dataclass(frozen=True, slots=True)
class LineTooLong:
    """A line longer than limits.command_line has been swallowed to its end."""


@dataclass(frozen=True, slots=True)
class RecipientVerdict:
    """The answer to AskRecipient. reply: required with a refusal (4xx, 5xx), else 250 is sent."""

    accepted: bool
    reply: Reply | None = None

    def __post_init__(self) -> None:
        if self.reply is None:
            if not self.accepted:
                raise ValueError("a refused recipient needs a reply")
        elif (self.reply.code < 400) is not self.accepted:
            raise ValueError("the recipient's reply contradicts the verdict")


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyEnd:
    """CRLF.CRLF. size: decoded octets. bare: a CR or LF stood alone somewhere in the content."""

    size: int
    bare: bool = False


@dataclass(frozen=True, slots=True)
class BodyRefusedEnd:
    """Something that other servers may take for an end (LF.LF and its kin), but is none."""


@dataclass(frozen=True, slots=True)
class BodyTooLarge:
    """The content passed limits.message_octets and has been swallowed to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitVerdict:
    """Enqueue's answer: the queue id of what is now durable, or a refusal (4xx, 5xx)."""

    queue_id: str | None = None
    reply: Reply | None = None

    def __post_init__(self) -> None:
        if (self.queue_id is None) is (self.reply is None):
            raise ValueError("a commit has either a queue id or a refusal")
        if self.queue_id == "":
            raise ValueError("an empty queue id")
        if self.reply is not None and self.reply.code < 400:
            raise ValueError("a refusal with a positive reply")


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The client was silent for longer than RFC 5321 4.5.3.2 asks for, or a verdict is overdue."""


@dataclass(frozen=True, slots=True)
class Draining:
    """The server stops: finish the command that is being executed, then 421."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is gone (end of file, reset)."""


Event = (
    Connected
    | CommandLine
    | LineTooLong
    | RecipientVerdict
    | BodyEnd
    | BodyRefusedEnd
    | BodyTooLarge
    | CommitVerdict
    | TimedOut
    | Draining
    | Lost
)


# --- effects, to be carried out in order ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Write the reply. May be kept back while pipelined commands are at hand (RFC 2920 3.2)."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class AskRecipient:
    """Ask resolve, and come back with a RecipientVerdict."""

    recipient: Mailbox


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBody:
    """Hand the envelope to enqueue, then the content as it comes. Before the 354 is sent."""

    reverse_path: Mailbox | None
    recipients: tuple[Mailbox, ...]
    size: int | None
    body: BodyType
    helo: str
    extended: bool


@dataclass(frozen=True, slots=True)
class Commit:
    """The content is complete (size octets): enqueue may make it durable."""

    size: int


@dataclass(frozen=True, slots=True)
class Abandon:
    """Enqueue must drop what it has of this transaction."""


@dataclass(frozen=True, slots=True)
class Close:
    """Flush, close the connection, discard unread input."""


Effect = Send | AskRecipient | ReadBody | Commit | Abandon | Close
Effects = tuple[Effect, ...]
Step = tuple[Session, Effects]
Action = Callable[[Session, Any, ServerOptions], Step]


class ImpossibleError(AssertionError):
    """The caller fed an event that the phase excludes. Our mistake, never the client's."""


# --- replies -------------------------------------------------------------------------------------

OK_RESET = reply(250, "2.0.0", "reset")
OK_NOOP = reply(250, "2.0.0", "OK")
OK_SENDER = reply(250, "2.1.0", "sender OK")
OK_RECIPIENT = reply(250, "2.1.5", "recipient OK")
GO_AHEAD = reply(354, None, "end with CRLF.CRLF")
BYE = reply(221, "2.0.0", "bye")
HELP = reply(214, "2.0.0", "EHLO HELO MAIL RCPT DATA RSET NOOP QUIT VRFY EXPN HELP", "see RFC 5321")
NOT_VERIFIED = reply(252, "2.0.0", "not verified here; send mail and see")  # RFC 5321 3.5.3, 7.3
NO_EXPN = reply(502, "5.5.1", "EXPN is not implemented")  # RFC 5321 4.2.4
NO_HELLO = reply(503, "5.5.1", "send EHLO or HELO first")  # RFC 5321 4.1.4
NO_MAIL = reply(503, "5.5.1", "send MAIL first")  # RFC 5321 3.3, 4.1.4
NESTED = reply(503, "5.5.1", "a transaction is already open")  # RFC 5321 4.1.4
NO_RECIPIENTS = reply(554, "5.5.1", "no valid recipients")  # RFC 5321 3.3
NO_PARAMETERS = reply(555, "5.5.4", "parameters need EHLO")  # RFC 5321 2.2.1, 4.1.1.11
UNKNOWN_PARAMETER = reply(555, "5.5.4", "parameter not implemented")  # RFC 5321 4.1.1.11
BAD_PARAMETER = reply(501, "5.5.4", "bad value of a parameter")
TOO_LONG = reply(500, "5.5.2", "line too long")  # RFC 5321 4.5.3.1.9
TOO_MANY_RECIPIENTS = reply(452, "4.5.3", "too many recipients")  # RFC 5321 4.5.3.1.10
TOO_LARGE = reply(552, "5.3.4", "message exceeds the size limit")  # RFC 1870 6.1, 6.3
BARE = reply(550, "5.6.0", "bare CR or LF in the message; see RFC 5321 section 2.3.8")
REFUSED_END = reply(550, "5.5.2", "end of data is CRLF.CRLF only; see RFC 5321 section 2.3.8")
OUT_OF_STEP = reply(554, "5.5.0", "commands sent before the reply to an earlier one")
TOO_MANY_ERRORS = reply(421, "4.7.0", "too many errors")
TOO_MANY_COMMANDS = reply(421, "4.7.0", "too many commands without mail")
TIMEOUT = reply(421, "4.4.2", "timeout")  # RFC 5321 3.8, 4.5.3.2
OVERDUE = reply(421, "4.3.0", "a part of this server does not answer")
SHUTDOWN = reply(421, "4.3.2", "service shutting down")  # RFC 5321 3.8

# --- ways a step ends ----------------------------------------------------------------------------

_CLOSE: Final = Close()
_CLOSED: Final = Session(phase=Phase.CLOSED)


def _close(answer: Reply, *before: Effect) -> Step:
    return _CLOSED, (*before, Send(answer), _CLOSE)


def _answer(session: Session, answer: Reply, *before: Effect) -> Step:
    """One command is done: its reply, and at this boundary the 421 of a server that drains.

    The 421 is the reply to whatever the client says next (RFC 5321 section 3.8).
    """
    if session.draining:
        return _close(SHUTDOWN, *before, Send(answer))
    return session, (*before, Send(answer))


def _refuse(session: Session, answer: Reply, options: ServerOptions, *before: Effect) -> Step:
    """A client's mistake. The one that reaches the limit gets 421 in place of its own reply."""
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
        phase=Phase.GREETED if session.helo else Phase.CONNECTED,
        helo=session.helo,
        extended=session.extended,
        errors=session.errors,
        rejections=session.rejections,
        idle_commands=session.idle_commands,
        draining=session.draining,
    )


def _abandon(session: Session) -> tuple[Effect, ...]:
    """Abandon is due once per ReadBody; a refusal by enqueue has had its own."""
    return (Abandon(),) if session.refused is None else ()


# --- actions: commands ---------------------------------------------------------------------------


def _ehlo(session: Session, command: Ehlo, options: ServerOptions) -> Step:
    """RFC 5321 section 4.1.1.1, 4.1.4: also a reset. Lists what is implemented, no more."""
    answer = reply(
        250,
        None,  # RFC 2034 section 4: no enhanced code in replies to EHLO and HELO
        options.hostname,
        "PIPELINING",  # RFC 2920
        f"SIZE {options.limits.message_octets}",  # RFC 1870
        "8BITMIME",  # RFC 6152
        "ENHANCEDSTATUSCODES",  # RFC 2034
        "HELP",  # RFC 5321 section 4.1.1.1
    )
    greeted = replace(_reset(session), phase=Phase.GREETED, helo=command.domain, extended=True)
    return _idle(greeted, answer, options)


def _helo(session: Session, command: Helo, options: ServerOptions) -> Step:
    greeted = replace(_reset(session), phase=Phase.GREETED, helo=command.domain, extended=False)
    return _idle(greeted, reply(250, None, options.hostname), options)


def _mail(session: Session, command: Mail, options: ServerOptions) -> Step:
    size: int | None = None
    body: BodyType = "7BIT"
    if command.parameters and not session.extended:
        return _refuse(session, NO_PARAMETERS, options)
    for keyword, value in command.parameters:
        if keyword == "SIZE":
            size = _size(value)
            if size is None:
                return _refuse(session, BAD_PARAMETER, options)
            if size > options.limits.message_octets:  # RFC 1870 section 6.1
                return _refuse(session, TOO_LARGE, options)
        elif keyword == "BODY":
            # 8-bit content without the parameter is taken as it is. RFC 6152 section 3 binds the
            # client, and has a server that accepts 8-bit content preserve every bit; we do.
            if value is None or value.upper() not in ("7BIT", "8BITMIME"):
                return _refuse(session, BAD_PARAMETER, options)
            body = "8BITMIME" if value.upper() == "8BITMIME" else "7BIT"
        else:
            return _refuse(session, UNKNOWN_PARAMETER, options)
    opened = replace(
        session, phase=Phase.MAIL, reverse_path=command.reverse_path, size=size, body=body
    )
    return _answer(opened, OK_SENDER)


def _size(value: str | None) -> int | None:
    """RFC 1870 section 3: 1 to 20 digits, else None."""
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 20:
        return None
    return int(value)


def _rcpt(session: Session, command: Rcpt, options: ServerOptions) -> Step:
    if command.parameters:  # none is implemented (RFC 5321 section 4.1.1.11)
        return _refuse(session, UNKNOWN_PARAMETER if session.extended else NO_PARAMETERS, options)
    if len(session.recipients) >= options.limits.recipients:
        return _reject(session, TOO_MANY_RECIPIENTS, options)
    recipient = command.forward_path
    return replace(session, phase=Phase.RCPT_ASKED, asked=recipient), (AskRecipient(recipient),)


def _data(session: Session, _command: Data, _options: ServerOptions) -> Step:
    envelope = ReadBody(
        reverse_path=session.reverse_path,
        recipients=session.recipients,
        size=session.size,
        body=session.body,
        helo=session.helo,
        extended=session.extended,
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


# --- actions: events -----------------------------------------------------------------------------


def _connected(session: Session, event: Connected, options: ServerOptions) -> Step:
    """RFC 5321 section 4.3.1: the client waits for the greeting. RFC 2034: no enhanced code."""
    if event.early:
        return _close(OUT_OF_STEP)
    greeting = reply(220, None, f"{options.hostname} ESMTP refmta")
    return replace(session, phase=Phase.CONNECTED), (Send(greeting),)


def _command(session: Session, event: CommandLine, options: ServerOptions) -> Step:
    if event.pipelined and not session.extended:
        # also before syntax: a browser made to speak to us stops at its first line
        return _close(OUT_OF_STEP)
    try:
        command = parse_command(event.octets)
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
    if session.refused is not None:
        return _answer(_reset(session), session.refused)
    if event.bare:  # RFC 5321 section 2.3.8, 4.1.1.4: not to be passed on, nor repaired
        return _refuse(_reset(session), BARE, options, Abandon())
    if event.size > options.limits.message_octets:
        return _body_too_large(session, BodyTooLarge(), options)
    return replace(session, phase=Phase.COMMITTING), (Commit(event.size),)


def _body_too_large(session: Session, _event: BodyTooLarge, options: ServerOptions) -> Step:
    return _refuse(_reset(session), TOO_LARGE, options, *_abandon(session))  # RFC 1870 6.3


def _body_refused_end(session: Session, _event: BodyRefusedEnd, _options: ServerOptions) -> Step:
    """What follows may be commands to one server and content to another: execute none of it."""
    return _close(REFUSED_END, *_abandon(session))


def _refused_early(session: Session, event: CommitVerdict, _options: ServerOptions) -> Step:
    if event.reply is None:
        raise ImpossibleError("a queue id for a message that is not complete")
    return replace(session, refused=session.refused or event.reply), _abandon(session)


def _committed(session: Session, event: CommitVerdict, _options: ServerOptions) -> Step:
    """Both ways the transaction is over (RFC 5321 section 4.1.1.4)."""
    if event.reply is not None:
        return _answer(_reset(session), event.reply)
    fresh = Session(  # counters begin anew: this client moves mail
        phase=Phase.GREETED,
        helo=session.helo,
        extended=session.extended,
        draining=session.draining,
    )
    return _answer(fresh, reply(250, "2.0.0", f"queued as {event.queue_id}"))


def _timeout(_session: Session, _event: TimedOut, _options: ServerOptions) -> Step:
    return _close(TIMEOUT)


def _timeout_body(session: Session, _event: TimedOut, _options: ServerOptions) -> Step:
    return _close(TIMEOUT, *_abandon(session))


def _overdue(_session: Session, _event: TimedOut, _options: ServerOptions) -> Step:
    """A commit that is under way is not taken back: the client asks again, and the message may
    arrive twice (the window "our commit done but our 250 not received")."""
    return _close(OVERDUE)


def _shut_down(_session: Session, _event: Draining, _options: ServerOptions) -> Step:
    return _close(SHUTDOWN)


def _drain(session: Session, _event: Draining, _options: ServerOptions) -> Step:
    return replace(session, draining=True), ()


def _lost(_session: Session, _event: Lost, _options: ServerOptions) -> Step:
    return _CLOSED, (_CLOSE,)


def _lost_body(session: Session, _event: Lost, _options: ServerOptions) -> Step:
    """No end, no message (RFC 5321 section 4.1.1.10)."""
    return _CLOSED, (*_abandon(session), _CLOSE)


def _ignore(session: Session, _event: Event, _options: ServerOptions) -> Step:
    return session, ()


def _ours(session: Session, event: Event, _options: ServerOptions) -> Step:
    raise ImpossibleError(f"{type(event).__name__} in phase {session.phase.value}")


OURS: Final = _ours

# --- the tables ----------------------------------------------------------------------------------

# What may not have input behind it. RFC 2920 section 3.1 names EHLO, DATA, VRFY, EXPN, TURN, QUIT
# and NOOP; those that neither change the state nor the meaning of what follows are tolerated.
ALONE: Final = (Ehlo, Helo, Data)

COMMAND_PHASES: Final = (Phase.CONNECTED, Phase.GREETED, Phase.MAIL, Phase.RCPT)

# fmt: off
_VERB_ROWS: Mapping[type, tuple[Action | Reply, ...]] = {
    #      CONNECTED     GREETED       MAIL           RCPT          RFC 5321
    Ehlo: (_ehlo,        _ehlo,        _ehlo,         _ehlo),     # 4.1.1.1, resets: 4.1.4
    Helo: (_helo,        _helo,        _helo,         _helo),     # 4.1.1.1
    Mail: (NO_HELLO,     _mail,        NESTED,        NESTED),    # 4.1.1.2, 4.1.4
    Rcpt: (NO_HELLO,     NO_MAIL,      _rcpt,         _rcpt),     # 4.1.1.3
    Data: (NO_HELLO,     NO_MAIL,      NO_RECIPIENTS, _data),     # 4.1.1.4, 3.3
    Rset: (_rset,        _rset,        _rset,         _rset),     # 4.1.1.5, any time: 4.1.4
    Noop: (_noop,        _noop,        _noop,         _noop),     # 4.1.1.9
    Quit: (_quit,        _quit,        _quit,         _quit),     # 4.1.1.10
    Vrfy: (_vrfy,        _vrfy,        _vrfy,         _vrfy),     # 4.1.1.6, 3.5.3
    Expn: (NO_EXPN,      NO_EXPN,      NO_EXPN,       NO_EXPN),   # 4.1.1.7, 3.5.3
    Help: (_help,        _help,        _help,         _help),     # 4.1.1.8
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
    CommitVerdict:    (OURS,       OURS,       OURS,       OURS,       OURS,
                       OURS,       _refused_early,    _committed, _ignore),
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

# --- the interpreter -----------------------------------------------------------------------------


def step(session: Session, event: Event, options: ServerOptions) -> Step:
    """One event: the next state, and what the caller has to do, in this order."""
    return EVENTS[session.phase, type(event)](session, event, options)


def obey(session: Session, command: Command, options: ServerOptions) -> Step:
    """One well-formed command, in a phase that reads commands."""
    row = VERBS[session.phase, type(command)]
    if isinstance(row, Reply):
        return _refuse(session, row, options)
    return row(session, command, options)


# --- what always holds ---------------------------------------------------------------------------

_WITH_RECIPIENTS: Final = (Phase.RCPT, Phase.RCPT_ASKED, Phase.BODY, Phase.COMMITTING)
_WAITING: Final = (Phase.RCPT_ASKED, Phase.BODY, Phase.COMMITTING)
_OPEN_TRANSACTION: Final = (Phase.MAIL, *_WITH_RECIPIENTS)

INVARIANTS: Final[Mapping[str, Callable[[Session, ServerOptions], bool]]] = {
    "recipients only in a transaction": lambda s, _: (
        not s.recipients or s.phase in _WITH_RECIPIENTS
    ),
    "content only with recipients": lambda s, _: (
        bool(s.recipients) or s.phase not in (Phase.RCPT, Phase.BODY, Phase.COMMITTING)
    ),
    "envelope empty outside of a transaction": lambda s, _: (
        s.phase in _OPEN_TRANSACTION
        or (s.reverse_path is None and s.size is None and s.body == "7BIT")
    ),
    "one recipient is asked for, when asked": lambda s, _: (
        (s.asked is not None) is (s.phase is Phase.RCPT_ASKED)
    ),
    "a transaction only after EHLO or HELO": lambda s, _: (
        bool(s.helo) is (s.phase in (Phase.GREETED, *_OPEN_TRANSACTION))
    ),
    "extended only after EHLO": lambda s, _: not s.extended or bool(s.helo),
    "a refusal is kept only while content is read": lambda s, _: (
        s.refused is None or (s.phase is Phase.BODY and s.refused.code >= 400)
    ),
    "draining is kept only while something is awaited": lambda s, _: (
        not s.draining or s.phase in _WAITING
    ),
    "every counter below its limit": lambda s, o: (
        0 <= s.errors < o.limits.errors
        and 0 <= s.rejections < o.limits.rejections
        and 0 <= s.idle_commands < o.limits.idle_commands
        and len(s.recipients) <= o.limits.recipients
        and (s.phase is not Phase.RCPT_ASKED or len(s.recipients) < o.limits.recipients)
        and (s.size is None or 0 <= s.size <= o.limits.message_octets)
    ),
}


def _count(effects: Effects, *kinds: type) -> int:
    return sum(isinstance(effect, kinds) for effect in effects)


def _handed_over(session: Session) -> bool:
    """Enqueue has an unfinished message of this session, not yet complete."""
    return session.phase is Phase.BODY and session.refused is None


def _positive(effects: Effects) -> bool:
    return any(isinstance(effect, Send) and effect.reply.code < 300 for effect in effects)


STEP_INVARIANTS: Final[Mapping[str, Callable[[Session, Event, Session, Effects], bool]]] = {
    "a message's 250 only for a queue id": lambda before, event, _after, effects: (
        before.phase not in (Phase.BODY, Phase.COMMITTING)
        or not _positive(effects)
        or (
            before.phase is Phase.COMMITTING
            and isinstance(event, CommitVerdict)
            and event.queue_id is not None
        )
    ),
    "commit only complete content with recipients": lambda before, event, after, effects: (
        _count(effects, Commit) == 0
        or (
            _handed_over(before)
            and bool(before.recipients)
            and isinstance(event, BodyEnd)
            and not event.bare
            and after.phase is Phase.COMMITTING
            and effects == (Commit(event.size),)
        )
    ),
    "content handed over is committed or abandoned, once": lambda before, _event, after, effects: (
        _count(effects, Commit, Abandon) == (_handed_over(before) and not _handed_over(after))
    ),
    "content is asked for once, before the 354": lambda before, _event, after, effects: (
        (after.phase is Phase.BODY and before.phase is not Phase.BODY)
        is (_count(effects, ReadBody) == 1)
        and (
            _count(effects, ReadBody) == 0
            or (
                isinstance(effects[0], ReadBody)
                and effects[1:] == (Send(GO_AHEAD),)
                and effects[0].recipients == before.recipients != ()
                and effects[0].reverse_path == before.reverse_path
            )
        )
    ),
    "recipients are added by an accepting verdict": lambda before, event, after, _effects: (
        len(after.recipients) <= len(before.recipients)
        or (
            isinstance(event, RecipientVerdict)
            and event.accepted
            and after.recipients == (*before.recipients, before.asked)
        )
    ),
    "one answer to a command": lambda before, event, _after, effects: (
        not isinstance(event, CommandLine | LineTooLong)
        or before.phase is Phase.CLOSED
        or _count(effects, AskRecipient, Send) == 1
    ),
    "closing is the end": lambda before, _event, after, effects: (
        (effects == () and after == before)
        if before.phase is Phase.CLOSED
        else (
            _count(effects, Close) == (after.phase is Phase.CLOSED)
            and (after.phase is not Phase.CLOSED or isinstance(effects[-1], Close))
        )
    ),
    "a refused end closes": lambda before, event, after, _effects: (
        not isinstance(event, BodyRefusedEnd) or after.phase is Phase.CLOSED
    ),
}


def broken_invariants(session: Session, options: ServerOptions) -> list[str]:
    """Names of the invariants that this state breaks: none, or there is a bug here."""
    return [name for name, holds in INVARIANTS.items() if not holds(session, options)]


def broken_by_step(before: Session, event: Event, after: Session, effects: Effects) -> list[str]:
    """Names of the invariants that this step breaks."""
    return [
        name for name, holds in STEP_INVARIANTS.items() if not holds(before, event, after, effects)
    ]
