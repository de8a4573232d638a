"""Between those who submit and the queue: what qmail-queue reads, and how it exits."""

from __future__ import annotations

import contextlib
import socket

from refmta.patterns.trust_partitioning import Border, ChannelBroken, Received
from refmta.processes.channels import END
from refmta.processes.qmail.ends import QmailChannel
from refmta.wire import qmail
from refmta.wire.frame import OCTETS, FrameError, check_header
from refmta.wire.messages import Abandon, Finish, Kept, Message, Refused, Submit


class Submitter(QmailChannel):
    """smtpd's and bounce's end."""

    __slots__ = ("_awaited", "_begun", "_octets", "_over", "_verdicts")

    def __init__(self, end: socket.socket, border: Border) -> None:
        super().__init__(end, border)
        self._verdicts = qmail.Verdicts()
        self._awaited = 0
        self._begun = False
        self._octets = 0
        self._over = False

    def post(self, message: Message, *descriptors: int) -> None:
        self._check(message, descriptors)
        match message:
            case Submit() if not self._begun:
                self._queue(_opening(message), ())
                self._begun, self._octets = True, 0
            case Finish() if self._begun and message.octets == self._octets:
                self._queue(qmail.netstring(b""), ())
                self._begun = False
                self._awaited += 1
            case Abandon():
                if self._begun:
                    self._abandon()
            case _:
                raise ValueError(f"out of order: {type(message).__name__}")

    def post_octets(self, octets: bytes) -> None:
        if not self._begun:
            raise ValueError("content without a message")
        check_header(OCTETS, 0, len(octets))
        if octets:  # an empty netstring is the end
            self._octets += len(octets)
            self._queue(qmail.netstring(octets), ())

    def _abandon(self) -> None:
        self._over, self._begun = True, False
        self._discard_outbox()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    async def flush(self) -> None:
        if self._over and self._outbox:
            self._discard_outbox()
            raise ChannelBroken("a message was abandoned: the next one needs a new channel")
        await super().flush()

    def _understand(self, octets: bytes) -> list[Received]:
        return [self._verdict(*each) for each in self._verdicts.feed(octets)]

    def _verdict(self, status: int, queue_id: str) -> Received:
        if not self._awaited:
            raise qmail.QmailError("a verdict that nobody waits for")
        self._awaited -= 1
        if status == qmail.KEPT:
            return self._heard(Kept, queue_id=queue_id)
        return self._heard(Refused, **qmail.exit_meaning(status)._asdict())

    def _ended(self) -> list[Received]:
        raise FrameError("end of stream within a verdict" if self._verdicts.pending else END)


def _opening(submit: Submit) -> bytes:
    environment = {
        "TCPREMOTEIP": submit.client,
        "HELOHOST": submit.helo,
        "SMTPPROTO": submit.protocol,
    }
    return qmail.encode_opening(environment, submit.reverse_path, submit.recipients)


class Queue(QmailChannel):
    """The end of the queue."""

    __slots__ = ("_submissions",)

    def __init__(self, end: socket.socket, border: Border) -> None:
        super().__init__(end, border)
        self._submissions = qmail.Submissions()

    def post(self, message: Message, *descriptors: int) -> None:
        self._check(message, descriptors)
        match message:
            case Kept():
                self._queue(qmail.verdict(qmail.KEPT, message.queue_id), ())
            case Refused():
                self._queue(qmail.verdict(qmail.exit_code(message.code, message.enhanced)), ())
            case _:
                raise ValueError(f"no verdict: {type(message).__name__}")

    def _understand(self, octets: bytes) -> list[Received]:
        return [self._item(each) for each in self._submissions.feed(octets)]

    def _item(self, item: qmail.Opening | bytes | qmail.Closing) -> Received:
        match item:
            case bytes():
                return Received(None, item)
            case qmail.Closing():
                return self._heard(Finish, octets=item.octets)
            case qmail.Opening(environment, sender, recipients):
                return self._heard(
                    Submit,
                    reverse_path=sender,
                    recipients=recipients,
                    client=environment["TCPREMOTEIP"],
                    helo=environment["HELOHOST"],
                    protocol=environment["SMTPPROTO"],
                )

    def _ended(self) -> list[Received]:
        if not self._submissions.opened:
            raise FrameError(END)
        self._submissions = qmail.Submissions()
        return [self._heard(Abandon)]
