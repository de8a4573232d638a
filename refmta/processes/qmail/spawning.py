"""Between the queue manager and the spawners: commands with a descriptor each, and reports."""

from __future__ import annotations

import contextlib
import os
import socket
from collections import deque
from dataclasses import dataclass, field
from typing import Final

import trio

from refmta.patterns.trust_partitioning import Border, ChannelBroken, Received, close_all
from refmta.processes.channels import END
from refmta.processes.qmail.ends import QmailChannel
from refmta.wire import envelope, qmail
from refmta.wire.frame import FrameError
from refmta.wire.messages import (
    Deliver,
    Hurry,
    Message,
    Outcome,
    Relay,
    Relayed,
    RelayRecipient,
)
from refmta.wire.qmail import QmailError

#: An outcome, and the letter of its report.  "returned" is for remote mail, "damaged" for local.
LETTERS: Final = {"delivered": "K", "deferred": "Z", "failed": "D", "returned": "R", "damaged": "X"}
KINDS: Final = {letter: kind for kind, letter in LETTERS.items()}
DAMAGED: Final = LETTERS["damaged"]
#: What may be known of a destination; of several reports, the first of these that one of them says.
STANDINGS: Final = ("alive", "dead", "unknown")


@dataclass(slots=True, eq=False)
class Job:
    """A Deliver, or a Relay with what is known of its recipients so far.

    outcomes: by index, the fields of a RelayOutcome, in their order.  damaged: how many said so.
    """

    message: Deliver | Relay
    outcomes: dict[int, tuple[int, str, str, str, str]] = field(default_factory=dict)
    standings: set[str] = field(default_factory=lambda: {"unknown"})
    damaged: int = 0


@dataclass(frozen=True, slots=True)
class Command:
    """A delivery that waits for its number: its job, whom it is for, the octets that follow the
    number, and its descriptor.
    """

    job: Job
    index: int
    octets: bytes
    descriptor: int


class SpawnCaller(QmailChannel):
    """qmgr's end."""

    __slots__ = (
        "_concurrency", "_flying", "_form", "_jobs", "_over", "_ready", "_units", "_waiting"
    )  # fmt: skip

    def __init__(self, end: socket.socket, border: Border) -> None:
        super().__init__(end, border)
        remote = Relay in border.says.types
        self._form = qmail.REMOTE_COMMAND if remote else qmail.LOCAL_COMMAND
        self._units = qmail.Units(qmail.REMOTE_REPORT if remote else qmail.LOCAL_REPORT)
        self._concurrency = 0
        self._flying: dict[int, tuple[Job, int]] = {}
        self._waiting: deque[Command] = deque()
        self._jobs: dict[Job, None] = {}
        self._ready: list[Received] = []
        self._over = False

    def post(self, message: Message, *descriptors: int) -> None:
        self._check(message, descriptors)
        if isinstance(message, Deliver | Relay):
            self._divide(Job(message), descriptors[0])
        else:
            self._hurry()
        self._number()

    def _divide(self, job: Job, descriptor: int) -> None:
        """A command for each recipient, with a descriptor each."""
        whom = _recipients(job.message)
        octets = [qmail.unit(self._form, _texts(job.message, each))[1:] for each in whom]
        self._jobs[job] = None
        for who, each in zip(whom[:-1], octets[:-1], strict=True):
            try:
                self._waiting.append(Command(job, who.index, each, os.dup(descriptor)))
            except OSError as error:
                self._settle(job, who.index, "returned", "", f"the queue: {error.strerror}", "")
        self._waiting.append(Command(job, whom[-1].index, octets[-1], descriptor))

    def _number(self) -> None:
        """Write commands for what waits, as many as the other end allows."""
        while self._waiting and len(self._flying) < self._concurrency and not self._over:
            number = next(each for each in range(256) if each not in self._flying)
            command = self._waiting.popleft()
            self._flying[number] = (command.job, command.index)
            self._queue(bytes((number,)) + command.octets, (command.descriptor,))
        if self._over:
            self._return()

    def _hurry(self) -> None:
        """No more commands: what waits is returned, what was written is reported."""
        self._over = True
        self._push()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def _return(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        for each in waiting:
            os.close(each.descriptor)
            self._settle(each.job, each.index, "returned", "", "this server stops", "")

    # -- reports ----------------------------------------------------------------------------------

    async def receive(self) -> list[Received]:
        # What a read has set free: commands, fewer than a socket holds.
        await self._idle()
        try:
            return self._taken() or await super().receive()
        except ChannelBroken:
            self._tell_known()
            if self._ready:
                return self._taken()
            raise

    def _understand(self, octets: bytes) -> list[Received]:
        if not self._concurrency:
            self._concurrency, octets = octets[0], octets[1:]
            if not self._concurrency:
                raise QmailError("a spawner that may deliver nothing")
        for each in self._units.feed(octets):
            if each.number not in self._flying:
                raise QmailError("a report about no delivery")
            self._report(*self._flying.pop(each.number), each.texts)
        self._number()
        self._push()
        return self._taken()

    def _report(self, job: Job, index: int, texts: tuple[str, ...]) -> None:
        said = qmail.parse_said(texts[0])
        kind = KINDS[said.letter]
        if isinstance(job.message, Deliver):
            self._jobs.pop(job, None)
            reference = job.message.reference
            outcome = self._heard(
                Outcome, reference=reference, kind=kind, enhanced=said.enhanced, text=said.text
            )
            self._ready.append(outcome)
            return
        _, host, standing = texts
        if standing not in STANDINGS:
            raise QmailError("nothing that may be said of a destination")
        job.standings.add(standing)
        if said.letter == DAMAGED:
            job.damaged += 1
            kind = "deferred"
        self._settle(job, index, kind, said.enhanced, said.text, host)

    def _settle(self, job: Job, index: int, kind: str, enhanced: str, text: str, host: str) -> None:
        """Note an outcome; the last one makes the answer to the job."""
        job.outcomes[index] = (index, kind, enhanced, text, host)
        if len(job.outcomes) == len(_recipients(job.message)):
            self._tell(job)

    def _tell(self, job: Job) -> None:
        self._jobs.pop(job, None)
        known = [job.outcomes[each.index] for each in _recipients(job.message)
                 if each.index in job.outcomes]  # fmt: skip
        relayed = self._heard(
            Relayed,
            reference=job.message.reference,
            destination=next(each for each in STANDINGS if each in job.standings),
            outcomes=known,
            # They read one file: they differ only if it was damaged while they did.
            damaged=job.damaged == len(known),
        )
        self._ready.append(relayed)

    def _tell_known(self) -> None:
        """The other end is gone; those whose outcome is known are not tried again for that."""
        for job in [each for each in self._jobs if each.outcomes]:
            self._tell(job)

    def _taken(self) -> list[Received]:
        ready, self._ready = self._ready, []
        return ready

    def _ended(self) -> list[Received]:
        raise FrameError("end of stream within a report" if self._units.pending else END)

    def close(self) -> None:
        close_all([each.descriptor for each in self._waiting])
        self._waiting.clear()
        super().close()


def _recipients(message: Deliver | Relay) -> tuple[RelayRecipient, ...]:
    if isinstance(message, Relay):
        return message.recipients
    return (RelayRecipient(index=message.index, address=message.recipient),)


def _texts(message: Deliver | Relay, who: RelayRecipient) -> list[str]:
    """A command's texts (`qmail.LOCAL_COMMAND`, `REMOTE_COMMAND`)."""
    sender = arrival = instead = ""
    if message.head:
        told = envelope.decode_envelope(message.head)
        sender, arrival = told.reverse_path, str(told.arrival_s)
    if isinstance(message, Deliver):
        last = [message.mailbox, message.user]
    else:
        last, instead = [message.destination], message.reverse_path
    if sender or not message.head:  # null stays null (RFC 5321 6.1)
        sender = instead or sender
    return [message.queue_id, sender, who.address, str(who.index), arrival, *last]


class Spawner(QmailChannel):
    """An agent's end."""

    __slots__ = ("_busy", "_gone", "_hurried", "_remote", "_settled", "_units")

    def __init__(self, end: socket.socket, border: Border) -> None:
        super().__init__(end, border)
        self._remote = Relay in border.hears.types
        self._units = qmail.Units(qmail.REMOTE_COMMAND if self._remote else qmail.LOCAL_COMMAND)
        self._busy: set[int] = set()
        self._hurried = False
        self._gone = False
        self._settled = trio.Event()
        self._queue(bytes((qmail.CONCURRENCY,)), ())
        self._push()

    # -- commands ---------------------------------------------------------------------------------

    def _understand(self, octets: bytes) -> list[Received]:
        received: list[Received] = []
        try:
            for each in self._units.feed(octets):
                received.append(self._command(each))
            if self._inbox and not self._units.pending:
                raise QmailError("a descriptor that no command brings")
        except ValueError:
            for item in received:
                close_all(item.descriptors)
            raise
        return received

    def _command(self, unit: qmail.Unit) -> Received:
        if unit.number in self._busy or unit.number >= qmail.CONCURRENCY:
            raise QmailError("a number that is in use, or beyond the concurrency")
        if not self._inbox:
            raise QmailError("a command without its message")
        self._busy.add(unit.number)
        queue_id, sender, recipient, index, arrival, *last = unit.texts
        head = _head(queue_id, sender, recipient, arrival)
        told = {"reference": unit.number, "queue_id": queue_id, "head": head}
        whom = (_integer(index), recipient)
        descriptor = self._inbox.popleft()
        if self._remote:
            instead = "" if head else sender
            return self._heard(
                Relay, descriptor, **told, destination=last[0], recipients=[whom],
                reverse_path=instead,
            )  # fmt: skip
        return self._heard(
            Deliver, descriptor, **told, index=whom[0], mailbox=last[0], recipient=recipient,
            user=last[1],
        )  # fmt: skip

    def _ended(self) -> list[Received]:
        if self._units.pending:
            raise QmailError("end of stream within a command")
        if not self._busy or Hurry not in self._border.hears.types:
            raise FrameError(END)
        if self._hurried:
            return []  # what was begun is still to be reported
        self._hurried, self._settled = True, trio.Event()
        return [self._heard(Hurry)]

    async def _idle(self) -> None:
        if self._hurried:
            await self._settled.wait()
        await super()._idle()

    # -- reports ----------------------------------------------------------------------------------

    def post(self, message: Message, *descriptors: int) -> None:
        self._check(message, descriptors)
        if not isinstance(message, Outcome | Relayed):
            raise ValueError("no report")
        if message.reference not in self._busy and not self._gone:
            raise ValueError("a report about no delivery")
        form, texts = _report(message)
        self._queue(qmail.unit(form, texts, message.reference), ())
        self._busy.discard(message.reference)

    async def flush(self) -> None:
        try:
            await super().flush()
        except ChannelBroken:
            self._end()
            raise
        if not self._busy:
            self._settled.set()

    def close(self) -> None:
        self._end()
        super().close()

    def _end(self) -> None:
        """Nobody hears reports any more; the next flush says so."""
        self._gone = True
        self._busy.clear()
        self._settled.set()


def _report(message: Outcome | Relayed) -> tuple[qmail.Form, list[str]]:
    if isinstance(message, Outcome):
        said = qmail.said(LETTERS[message.kind], message.enhanced, message.text)
        return qmail.LOCAL_REPORT, [said]
    (one,) = message.outcomes
    letter = DAMAGED if message.damaged else LETTERS[one.kind]
    said = qmail.said(letter, one.enhanced, one.text)
    return qmail.REMOTE_REPORT, [said, one.host, message.destination]


def _head(queue_id: str, sender: str, recipient: str, arrival: str) -> bytes:
    """An envelope of what a command tells; none where the file has its own."""
    if not arrival:
        return b""
    try:
        return envelope.encode_envelope(
            envelope.Envelope(
                queue_id=queue_id,
                arrival_s=_integer(arrival),
                reverse_path=sender,
                recipients=(recipient,),
                client="",
                helo="",
                protocol="",
            )
        )
    except ValueError as error:
        raise QmailError(f"not an envelope: {error}") from None


def _integer(text: str) -> int:
    """A field's caps keep it small.  Raises QmailError."""
    if not (text.isascii() and text.isdigit()):
        raise QmailError("not a number")
    return int(text)
