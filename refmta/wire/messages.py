"""The messages that compartments send each other: one type each, every field bounded.

Rules: a value that is out of bounds does not decode; a channel's `Vocabulary` decodes only the
types that its architecture allows on it, and each direction has a vocabulary of its own.  Texts
travel as data and are escaped where they are shown.  Encoding is MessagePack by msgspec: strict
types, no code in the data.  Field order is the wire order; new fields go last.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, Union

import msgspec

from refmta.wire.frame import LIMITS, MESSAGE, FrameError

#: RFC 5321 4.5.3.1.3: a path has at most 256 octets, its brackets included.
Address = Annotated[str, msgspec.Meta(max_length=256)]
QueueId = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-HJKMNP-TV-Z]{16}\Z")]
Text = Annotated[str, msgspec.Meta(max_length=1024)]
#: A user of this machine: Debian's NAME_REGEX with inner dots, as `protocol.routing` asks for.
UserName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_][a-z0-9_.-]{0,31}\Z")]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.@-]{1,64}\Z")]
#: Who delivers: a user's name, or for remote mail the destination (`protocol.routing.Target`).
Owner = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.@:\[\]-]{1,280}\Z")]
MailboxPath = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
Code = Annotated[int, msgspec.Meta(ge=200, le=599)]
EnhancedCode = Annotated[str, msgspec.Meta(pattern=r"^([245]\.[0-9]{1,3}\.[0-9]{1,3})?\Z")]
Reference = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Octets = Annotated[int, msgspec.Meta(ge=0, lt=2**48)]
Index = Annotated[int, msgspec.Meta(ge=0, lt=100_000)]
#: An envelope as records; 1,000 recipients of 256 octets fit.
Head = Annotated[bytes, msgspec.Meta(max_length=LIMITS[MESSAGE] // 2)]
Recipients = Annotated[tuple[Address, ...], msgspec.Meta(min_length=1, max_length=1000)]


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=True):
    """A message between compartments."""


# -- supervisor and compartments ------------------------------------------------------------------


class Configure(Message, tag="configure", frozen=True):
    """Supervisor to compartment, first of all: its own slice of the configuration."""

    role: Name
    slice: Annotated[bytes, msgspec.Meta(max_length=LIMITS[MESSAGE] // 2)]


class Link(Message, tag="link", frozen=True):
    """Supervisor to compartment, with one descriptor: a channel to a peer, or a listening socket.

    `role` hears it on its port `port`, which is named after the peer's role.  A second link on the
    same port replaces the first: the peer was started anew.
    """

    role: Name
    port: Name
    detail: Annotated[str, msgspec.Meta(max_length=256)] = ""
    #: In which form the channel's messages travel (`processes.carriers`).
    carrier: Literal["frames", "qmail", "stream"] = "frames"


class Drain(Message, tag="drain", frozen=True):
    """Take no new work, finish what is begun, and exit 0."""


class Ready(Message, tag="ready", frozen=True):
    """Compartment to supervisor: recovered and at work."""


class AgentWanted(Message, tag="agent-wanted", frozen=True):
    """qmgr to supervisor: a delivery agent that runs as this recipient user."""

    user: Name


class AgentRefused(Message, tag="agent-refused", frozen=True):
    """Supervisor to qmgr: there will be no agent for that user, and why."""

    user: Name
    text: Text
    permanent: bool = False


class Ask(Message, tag="ask", frozen=True):
    """A question of the operator's commands (`ps`, `queue ...`).  key: by what the supervisor knows
    an operator (`processes.operators`).
    """

    reference: Reference
    verb: Literal["ps", "list", "show", "retry", "hold", "release", "remove"]
    queue_id: Annotated[str, msgspec.Meta(max_length=16)] = ""
    key: Annotated[bytes, msgspec.Meta(max_length=64)] = b""


class Answer(Message, tag="answer", frozen=True):
    """Its answer: JSON, or an error text; `more` says that further parts follow."""

    reference: Reference
    error: Text
    document: Annotated[bytes, msgspec.Meta(max_length=LIMITS[MESSAGE] // 2)]
    more: bool = False


# -- pools ----------------------------------------------------------------------------------------


class Session(Message, tag="session", frozen=True):
    """Pool parent to worker, with one descriptor: a client's connection, or a call.

    client: its address, or the role that calls.  detail: for whom it calls, if that matters.
    carrier: in which form a call's messages travel.
    """

    client: Annotated[str, msgspec.Meta(max_length=64)]
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)]
    detail: Annotated[str, msgspec.Meta(max_length=64)] = ""
    carrier: Literal["frames", "qmail", "stream"] = "frames"


class Stress(Message, tag="stress", frozen=True):
    """Pool parent to worker, at any time: all workers are busy, or no longer."""

    on: bool


class Idle(Message, tag="idle", frozen=True):
    """Worker to pool parent: that session has ended."""


class Busy(Message, tag="busy", frozen=True):
    """Worker to pool parent, where workers accept: it has a client now."""

    client: Annotated[str, msgspec.Meta(max_length=64)]


class Attach(Message, tag="attach", frozen=True):
    """To a server role, with one descriptor: a channel for a new worker, session or message.

    detail: for whom, if that matters (the recipient user of a delivery).
    """

    detail: Annotated[str, msgspec.Meta(max_length=64)] = ""


class Line(Message, tag="line", frozen=True):
    """To a server role, with one descriptor: another line by which somebody may call it."""


# -- smtpd and resolve ----------------------------------------------------------------------------


class Verify(Message, tag="verify", frozen=True):
    """Do we take mail for this recipient from this client (an IP address)?

    reverse_path: of the message, if it may have to be rewritten; empty else.
    """

    recipient: Address
    client: Annotated[str, msgspec.Meta(max_length=64)] = ""
    reverse_path: Address = ""


class Verified(Message, tag="verified", frozen=True):
    """Code 250: accepted.  Otherwise the reply that the client gets.

    recipient, reverse_path: what stands for them from now on; empty where they stay.
    """

    code: Code
    enhanced: EnhancedCode
    text: Text
    recipient: Address = ""
    reverse_path: Address = ""


# -- smtpd and enqueue ----------------------------------------------------------------------------


class Submit(Message, tag="submit", frozen=True):
    """A message begins; OCTETS frames with its content follow, then Finish or Abandon."""

    reverse_path: Annotated[str, msgspec.Meta(max_length=256)]
    recipients: Recipients
    client: Annotated[str, msgspec.Meta(max_length=64)]
    helo: Annotated[str, msgspec.Meta(max_length=512)]
    #: "local": made here, by the bounce role.
    protocol: Literal["SMTP", "ESMTP", "local"]


class Finish(Message, tag="finish", frozen=True):
    """The content is complete and has this many octets."""

    octets: Octets


class Abandon(Message, tag="abandon", frozen=True):
    """Forget the message that was begun."""


class Kept(Message, tag="kept", frozen=True):
    """The message is durable: file synced, name synced."""

    queue_id: QueueId


class Refused(Message, tag="refused", frozen=True):
    """The message was not kept."""

    code: Code
    enhanced: EnhancedCode
    text: Text


# -- enqueue and qmgr -----------------------------------------------------------------------------


class Arrived(Message, tag="arrived", frozen=True):
    """These chunks are durable and whole."""

    queue_ids: Annotated[tuple[QueueId, ...], msgspec.Meta(max_length=1000)]


class Register(Message, tag="register", frozen=True):
    """enqueue to qmgr, where qmgr logs envelopes: this content is durable; make its envelope so.

    head: the envelope, as records (`wire.envelope.encode_envelope`).
    """

    queue_id: QueueId
    head: Head


class Registered(Message, tag="registered", frozen=True):
    """It is; or (a text) why it is not."""

    queue_id: QueueId
    error: Text = ""


class Tried(Message, tag="tried", frozen=True):
    """qmgr to enqueue: the first attempt at this message is over, whatever came of it."""

    queue_id: QueueId


# -- qmgr and clean -------------------------------------------------------------------------------


class Cleanse(Message, tag="cleanse", frozen=True):
    """Remove files of a message, by their owner (qmail-clean).

    foop: all that is left of it.  todo: what said that it was new; it is on its way now.
    """

    reference: Reference
    queue_id: QueueId
    verb: Literal["foop", "todo"] = "foop"


class Cleansed(Message, tag="cleansed", frozen=True):
    """Whether it is gone."""

    reference: Reference
    done: bool


# -- qmgr and resolve -----------------------------------------------------------------------------


class Route(Message, tag="route", frozen=True):
    """Where does this recipient's mail go?

    reverse_path: of the message, if it may be called otherwise elsewhere; empty else.
    """

    reference: Reference
    recipient: Address
    reverse_path: Address = ""


class Target(Message, tag="target", frozen=True):
    """A mailbox: the user who owns it and its path below that user's mail directory.

    Of kind "remote": the destination, and the address to be said there.
    """

    kind: Literal["system", "virtual", "remote"]
    user: Owner
    mailbox: MailboxPath
    address: Address


class Routed(Message, tag="routed", frozen=True):
    """Its targets, or (code other than 250) why there are none.

    reverse_path: what to say elsewhere in its place; empty where it stays.
    """

    reference: Reference
    code: Code
    enhanced: EnhancedCode
    text: Text
    targets: Annotated[tuple[Target, ...], msgspec.Meta(max_length=1000)] = ()
    reverse_path: Address = ""


# -- resolve and accounts -------------------------------------------------------------------------


class Lookup(Message, tag="lookup", frozen=True):
    """May this user of the machine receive mail?"""

    reference: Reference
    name: UserName


class Account(Message, tag="account", frozen=True):
    """Whether there is such a user, and no system user.  Nothing else of him is told.

    "unknown": the user database does not answer now.
    """

    reference: Reference
    exists: Literal["yes", "no", "unknown"]


# -- qmgr and delivery agents ---------------------------------------------------------------------


class Deliver(Message, tag="deliver", frozen=True):
    """With one descriptor, read only: the chunk.  Put its message into this mailbox."""

    reference: Reference
    queue_id: QueueId
    index: Index
    mailbox: MailboxPath
    recipient: Address
    #: The recipient user, where one agent serves all.
    user: Annotated[str, msgspec.Meta(max_length=64)] = ""
    #: The envelope, where the descriptor's file holds the content alone.
    head: Head = b""


class Outcome(Message, tag="outcome", frozen=True):
    """What became of it.  `damaged`: the chunk does not certify itself."""

    reference: Reference
    kind: Literal["delivered", "deferred", "failed", "damaged"]
    enhanced: EnhancedCode
    text: Text


# -- qmgr and remote ------------------------------------------------------------------------------


class RelayRecipient(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One recipient of a job: its index in the message, and the address to say at RCPT."""

    index: Index
    address: Address


class Relay(Message, tag="relay", frozen=True):
    """With one descriptor, read only: the chunk.  Send its message to these recipients.

    All jobs of one channel have the same destination.  reverse_path: what to say at MAIL in place
    of the message's own; empty for that one.
    """

    reference: Reference
    queue_id: QueueId
    destination: Owner
    recipients: Annotated[tuple[RelayRecipient, ...], msgspec.Meta(min_length=1, max_length=100)]
    reverse_path: Address = ""
    head: Head = b""


class Hurry(Message, tag="hurry", frozen=True):
    """The server stops: give back what can still be given back, and report."""


class RelayOutcome(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What became of one recipient.  `host`: the MTA that said `text`; empty if we say it.

    "returned": nothing was promised and nothing tried; it counts as no attempt.
    """

    index: Index
    kind: Literal["delivered", "deferred", "failed", "returned"]
    enhanced: EnhancedCode
    text: Text
    host: Annotated[str, msgspec.Meta(max_length=300)] = ""


class Relayed(Message, tag="relayed", frozen=True):
    """The end of a job: an outcome for every recipient of it.

    `destination`: "alive" if some host took our EHLO or HELO and did not fall silent or say 421;
    "dead" if none did; "unknown" if none was asked (no such domain, a damaged chunk).
    """

    reference: Reference
    destination: Literal["alive", "dead", "unknown"]
    outcomes: Annotated[tuple[RelayOutcome, ...], msgspec.Meta(min_length=1, max_length=100)]
    damaged: bool = False


# -- qmgr and bounce ------------------------------------------------------------------------------


class ReportRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One recipient of a report, with its last outcome.  `host` as in RelayOutcome."""

    address: Address
    enhanced: EnhancedCode
    text: Text
    when_s: Octets
    host: Annotated[str, msgspec.Meta(max_length=300)] = ""


class Report(Message, tag="report", frozen=True):
    """With one descriptor, read only: the chunk.  Tell `to` about these recipients of it.

    until_s: when a delayed message is given up (seconds since 1970); 0 for a failed one.
    """

    reference: Reference
    queue_id: QueueId
    kind: Literal["failed", "delayed"]
    to: Address
    rows: Annotated[tuple[ReportRow, ...], msgspec.Meta(min_length=1, max_length=100)]
    until_s: Octets = 0
    head: Head = b""


class Reported(Message, tag="reported", frozen=True):
    """The report is durable in the queue, under this id; or (empty id) why it is not.

    `damaged`: the chunk of the message that failed does not certify itself.
    """

    reference: Reference
    queue_id: Annotated[str, msgspec.Meta(pattern=r"^([0-9A-HJKMNP-TV-Z]{16})?\Z")]
    text: Text
    damaged: bool = False


class Vocabulary:
    """What may be said in one direction of a channel.

    `types`: these messages.  `octets`: OCTETS frames, too.  `descriptors`: the types that bring one
    along.
    """

    __slots__ = ("_decoder", "descriptors", "octets", "types")

    def __init__(
        self,
        *types: type[Message],
        octets: bool = False,
        descriptors: Iterable[type[Message]] = (),
    ) -> None:
        self.types = types
        self.octets = octets
        self.descriptors = frozenset(descriptors)
        self._decoder = msgspec.msgpack.Decoder(Union[types]) if types else None

    def decode(self, payload: bytes) -> Message:
        """The message in a MESSAGE frame.  Raises FrameError for one that is not allowed here."""
        if self._decoder is None:
            raise FrameError("nothing may be said on this channel")
        try:
            message: Message = self._decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise FrameError(f"message not allowed on this channel: {error}") from None
        return message

    def brings(self, message: Message) -> int:
        """How many descriptors must come with this message."""
        return 1 if type(message) in self.descriptors else 0


_encode = msgspec.msgpack.Encoder().encode


def encode_message(message: Message) -> bytes:
    """A message as the payload of a MESSAGE frame.  Raises ValueError if it is over the cap."""
    payload = _encode(message)
    if len(payload) > LIMITS[MESSAGE]:
        raise ValueError("message too long for a frame")
    return payload
