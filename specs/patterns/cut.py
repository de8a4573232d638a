"""Everything that works is killed at once while mail comes in; afterwards, what is there?

Theory.  Clients send, and note what was answered with 250.  In the middle of it all processes but
the privileged ones are killed with SIGKILL at one moment; the system starts anew by itself.  Then
every message that was answered must arrive, and each file in a mailbox must be one whole message:
absent or whole, never torn, never mixed.  A message that was not answered may be there or not.
A second copy is no loss (the window between delivery and mark), and is counted.

This shows what a kill does, not what a power cut does: the page cache survives.  (For that see
`specs.persistence`.)
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from specs.mailboxes import stored
from specs.observe.waiting import LOOK_S, within
from specs.patterns.claims import Bench
from specs.patterns.world import Unanswered, session

CLIENTS, MESSAGES, ROUNDS = 6, 8, 3
#: Lines of a message; with their length several records and pages.
LINES: Final = 700
#: Answers after which all is killed, round by round: early, in the middle, late.
KILL_AFTER: Final = (3, 17, 40)
PATIENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Cut:
    """What was found after all rounds.

    answered: messages with a 250.  lost: those of them that never arrived.  torn: files that are
    no whole message, and why.  duplicates: second copies.  killed: processes.
    """

    answered: int
    lost: tuple[str, ...]
    torn: tuple[str, ...]
    duplicates: int
    killed: int


def letter(token: str) -> bytes:
    """A message of which every line says whose it is, and the last one that it is the last."""
    head = f"Subject: {token}\r\nMessage-ID: <{token}@client.test>\r\n\r\n"
    body = "".join(f"{token} {number:05} {'x' * 60}\r\n" for number in range(LINES))
    return f"{head}{body}{token} end\r\n".encode()


def judge(content: bytes) -> tuple[str, str]:
    """(token, what is wrong) of a delivered message; an empty token if it is none of ours."""
    head, _, body = content.replace(b"\r\n", b"\n").partition(b"\n\n")
    marks = [line for line in head.split(b"\n") if line.startswith(b"Subject: cut")]
    if not marks:
        return "", ""
    token = marks[0].removeprefix(b"Subject: ").decode("ascii", "replace")
    _, _, expected = letter(token).replace(b"\r\n", b"\n").partition(b"\n\n")
    if len(marks) > 1:
        return token, "two messages in one file"
    if body == expected:
        return token, ""
    return token, "torn" if expected.startswith(body) else "mixed with something else"


@dataclass(slots=True)
class _Clients:
    """What was sent, and what was answered."""

    address: tuple[str, int]
    recipient: str
    answered: list[str] = field(default_factory=list)
    stopped: bool = False

    def send_all(self, name: str) -> None:
        for number in range(MESSAGES):
            if self.stopped:
                return
            with contextlib.suppress(OSError, Unanswered, ValueError):
                self._send(f"cut{name}x{number}")

    def _send(self, token: str) -> None:
        with session(self.address) as client:
            for line in ("EHLO client.test", "MAIL FROM:<>", f"RCPT TO:<{self.recipient}>"):
                client.say(line)
            if client.say("DATA")[0] != 354:
                return
            client.connection.sendall(letter(token) + b".\r\n")
            if client.reply()[0] == 250:
                self.answered.append(token)


def cut(bench: Bench) -> Cut:
    """All rounds."""
    recipient, mailbox = next(iter(bench.target.mailboxes().items()))
    answered: list[str] = []
    killed = 0
    for number, kill_after in enumerate(KILL_AFTER):
        clients = _Clients(bench.target.address, recipient)
        killed += _round(bench, clients, number, kill_after)
        answered += clients.answered
        bench.settle()
    _await_all(mailbox, answered)
    found, torn = _found(mailbox)
    return Cut(
        answered=len(answered),
        lost=tuple(token for token in answered if token not in found),
        torn=tuple(torn),
        duplicates=sum(count - 1 for count in found.values()),
        killed=killed,
    )


def _round(bench: Bench, clients: _Clients, number: int, kill_after: int) -> int:
    threads = [
        threading.Thread(target=clients.send_all, args=(f"{number}c{each}",))
        for each in range(CLIENTS)
    ]
    for each in threads:
        each.start()
    within(PATIENCE_S, lambda: len(clients.answered) >= kill_after, look_s=LOOK_S / 10)
    killed = _kill(bench)
    clients.stopped = True
    for each in threads:
        each.join()
    return killed


def _kill(bench: Bench) -> int:
    """Stopped first, so that none can react to another's end; then killed."""
    starter = bench.manifest.starter
    pids = [each.pid for each in bench.target.processes() if each.name != starter]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
    return len(pids)


def _await_all(mailbox: Path, tokens: Iterable[str]) -> None:
    awaited = set(tokens)
    within(PATIENCE_S, lambda: awaited <= set(_found(mailbox)[0]), look_s=10 * LOOK_S)


def _found(mailbox: Path) -> tuple[Counter[str], list[str]]:
    """Whole messages by token, and what is wrong with the others."""
    whole: Counter[str] = Counter()
    torn = []
    for each in stored(mailbox):
        token, wrong = judge(each.octets)
        if wrong:
            torn.append(f"{each.name}: {token} is {wrong}")
        elif token:
            whole[token] += 1
    return whole, torn
