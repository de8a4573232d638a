"""The world around a judged server: next hops that keep its agents busy, and a client.

silent.test takes connections and never says a word, so that a worker waits on it for minutes;
refusing.test is polite and refuses every recipient for good, so that reports are made;
honest.test takes everything.  All are threads of the judge, on ports of 127.0.0.1.

The client speaks plain SMTP, one command at a time, and holds a session at the point where its
caller leaves it.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final

SILENT, REFUSING, HONEST = "silent.test", "refusing.test", "honest.test"
PATIENCE_S: Final = 30.0
_REFUSAL: Final = b"550 5.1.1 no such user here\r\n"


class Unanswered(Exception):
    """The server under judgement did not answer, or not as it must; the text has the dialogue."""


@dataclass(slots=True)
class World:
    """Next hops by domain, and how to send."""

    next_hops: dict[str, int] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def token(self) -> str:
        """A word that no other message has."""
        return f"token{next(self._numbers):06}x"

    def send(
        self,
        address: tuple[str, int],
        recipient: str,
        sender: str = "",
        token: str = "",
        lines: int = 1,
    ) -> tuple[int, str]:
        """One message over a session of its own; the reply to its end of data, or to what was
        refused before.  Raises Unanswered, OSError.
        """
        with session(address) as client:
            for line in ("EHLO client.test", f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>"):
                code, text = client.say(line)
                if code != 250:
                    return code, text
            code, text = client.say("DATA")
            return client.finish(token or self.token(), lines) if code == 354 else (code, text)


# -- the client -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Session:
    """One SMTP session."""

    connection: socket.socket
    lines: BinaryIO

    @property
    def port(self) -> int:
        """Of our end: so the server's descriptor can be found."""
        number: int = self.connection.getsockname()[1]
        return number

    def say(self, line: str) -> tuple[int, str]:
        """A command and its reply: (code, text).  Raises Unanswered."""
        self.connection.sendall(line.encode() + b"\r\n")
        return self.reply(line)

    def reply(self, after: str = "the greeting") -> tuple[int, str]:
        """The next reply.  Raises Unanswered."""
        texts = []
        while line := self.lines.readline():
            texts.append(line[4:].decode("ascii", "replace").strip())
            if line[3:4] != b"-":
                return int(line[:3]), "\n".join(texts)
        raise Unanswered(f"closed after {after}")

    def finish(self, token: str, lines: int = 1) -> tuple[int, str]:
        """The content of a message after DATA, and the reply to its end."""
        self.connection.sendall(letter(token, lines) + b".\r\n")
        return self.reply("the end of data")

    def close(self) -> None:
        self.lines.close()
        self.connection.close()


def session(address: tuple[str, int]) -> contextlib.closing[Session]:
    """Connected and greeted.  Raises Unanswered, OSError."""
    connection = socket.create_connection(address, timeout=PATIENCE_S)
    opened = Session(connection, connection.makefile("rb"))
    try:
        code, text = opened.reply()
    except BaseException:
        opened.close()
        raise
    if code != 220:
        opened.close()
        raise Unanswered(f"greeted with {code} {text}")
    return contextlib.closing(opened)


def letter(token: str, lines: int = 1) -> bytes:
    """A message that is known by its token, and short if nobody asks for more lines."""
    head = f"Subject: {token}\r\nMessage-ID: <{token}@client.test>\r\n\r\nhello\r\n".encode()
    return head + (lines - 1) * (b"more of it, and ever more of it, until it is large enough\r\n")


# -- the next hops --------------------------------------------------------------------------------


@contextlib.contextmanager
def world() -> Iterator[World]:
    """All next hops listen, until the block ends."""
    with contextlib.ExitStack() as stack:
        hops = {}
        for name, serve in ((SILENT, _silent), (REFUSING, _refusing), (HONEST, _honest)):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
            hops[name] = listener.getsockname()[1]
            stack.enter_context(_served(listener, serve))
        yield World(hops)


@contextlib.contextmanager
def _served(listener: socket.socket, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    """Each connection in a thread of its own; at the end all are closed."""
    open_ones: list[socket.socket] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                open_ones.append(connection)
                threading.Thread(target=_one, args=(serve, connection), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        for each in open_ones:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def _one(serve: Callable[[socket.socket], None], connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        serve(connection)


def _silent(connection: socket.socket) -> None:
    """Nothing is said; everything is read."""
    while connection.recv(4096):
        pass


def _refusing(connection: socket.socket) -> None:
    _polite(connection, _REFUSAL)


def _honest(connection: socket.socket) -> None:
    _polite(connection, b"250 2.1.5 ok\r\n")


def _polite(connection: socket.socket, to_recipients: bytes) -> None:
    connection.sendall(b"220 hop.test ESMTP\r\n")
    with connection.makefile("rb") as lines:
        in_data = False
        while line := lines.readline():
            if in_data:
                in_data = line != b".\r\n"
                if in_data:
                    continue
                connection.sendall(b"250 2.0.0 taken\r\n")
                continue
            verb = line[:4].upper()
            connection.sendall(_REPLIES.get(verb, to_recipients if verb == b"RCPT" else _OK))
            in_data = verb == b"DATA"
            if verb == b"QUIT":
                return


_OK: Final = b"250 2.0.0 ok\r\n"
_REPLIES: Final = {b"DATA": b"354 go on\r\n", b"QUIT": b"221 2.0.0 bye\r\n"}
