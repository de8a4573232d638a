"""Between the queue manager and qmail-clean: a file's verb and name, and an octet back."""

from __future__ import annotations

import socket
from collections import deque

from refmta.patterns.trust_partitioning import Border, Received
from refmta.processes.channels import END
from refmta.processes.qmail.ends import QmailChannel
from refmta.wire import qmail
from refmta.wire.envelope import is_queue_id
from refmta.wire.frame import FrameError
from refmta.wire.messages import Cleanse, Cleansed, Message


class CleanCaller(QmailChannel):
    """qmgr's end."""

    __slots__ = ("_awaited",)

    def __init__(self, end: socket.socket, border: Border) -> None:
        super().__init__(end, border)
        self._awaited: deque[int] = deque()

    def post(self, message: Message, *descriptors: int) -> None:
        self._check(message, descriptors)
        if not isinstance(message, Cleanse):
            raise ValueError("qmail-clean is told to clean")
        self._queue(qmail.cleaning(message.verb, message.queue_id), ())
        self._awaited.append(message.reference)

    def _understand(self, octets: bytes) -> list[Received]:
        return [self._answer(octets[at : at + 1]) for at in range(len(octets))]

    def _answer(self, answer: bytes) -> Received:
        if answer not in (qmail.DONE, qmail.FAILED, qmail.NOT_UNDERSTOOD):
            raise qmail.QmailError("not an answer of qmail-clean")
        if not self._awaited:
            raise qmail.QmailError("an answer that nobody waits for")
        reference = self._awaited.popleft()
        return self._heard(Cleansed, reference=reference, done=answer == qmail.DONE)

    def _ended(self) -> list[Received]:
        raise FrameError(END)


class Cleaner(QmailChannel):
    """The end of whoever cleans.  Its answers come in the order of what was asked."""

    __slots__ = ("_answers", "_asked", "_last", "_units")

    def __init__(self, end: socket.socket, border: Border) -> None:
        super().__init__(end, border)
        self._units = qmail.Units(qmail.CLEANING)
        self._last = 0
        self._asked: deque[int] = deque()
        self._answers: dict[int, bytes] = {}

    def _understand(self, octets: bytes) -> list[Received]:
        received: list[Received] = []
        for each in self._units.feed(octets):
            self._last += 1
            self._asked.append(self._last)
            verb, _, queue_id = each.texts[0].partition("/")
            if verb in qmail.VERBS and is_queue_id(queue_id):
                asked = self._heard(Cleanse, reference=self._last, queue_id=queue_id, verb=verb)
                received.append(asked)
            else:
                self._answer(self._last, qmail.NOT_UNDERSTOOD)
        self._push()
        return received

    def post(self, message: Message, *descriptors: int) -> None:
        self._check(message, descriptors)
        if not isinstance(message, Cleansed) or message.reference not in self._asked:
            raise ValueError("an answer to nothing")
        self._answer(message.reference, qmail.DONE if message.done else qmail.FAILED)

    def _answer(self, reference: int, answer: bytes) -> None:
        self._answers[reference] = answer
        while self._asked and self._asked[0] in self._answers:
            self._queue(self._answers.pop(self._asked.popleft()), ())

    def _ended(self) -> list[Received]:
        raise FrameError("end of stream within a command" if self._units.pending else END)
