"""What system tests see of a server from outside: its processes by /proc, its queue by the file
system, and a client that talks octets.

Nothing here asks the server about itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from system.lines import whole_lines
from system.server import PATIENCE_S, Server

from refmta.wire.envelope import Chunk, decode_chunk

#: The module that a compartment's program begins with.
MARK = b"refmta.architectures.enter"


@dataclass(frozen=True, slots=True)
class Process:
    """One process, as the kernel describes it."""

    pid: int
    parent: int
    #: "spawner", "supervisor", a compartment, or of a pool "smtpd template", "smtpd worker".
    name: str

    @property
    def proc(self) -> Path:
        return Path(f"/proc/{self.pid}")

    def status(self, key: str) -> list[str]:
        """The words of one line of /proc/PID/status."""
        lines = (self.proc / "status").read_text().splitlines()
        return next(line.split()[1:] for line in lines if line.startswith(f"{key}:"))

    def stopped(self) -> bool:
        return self.status("State")[0] in "Tt"

    def alive(self) -> bool:
        with contextlib.suppress(OSError):
            return self.status("State")[0] not in "ZX"
        return False

    def descriptors(self) -> dict[int, str]:
        """Descriptor -> what it is open on."""
        found = {}
        for each in (self.proc / "fd").iterdir():
            with contextlib.suppress(OSError):
                found[int(each.name)] = str(each.readlink())
        return found


def processes(server: Server) -> list[Process]:
    """All of a server's processes."""
    assert server.process is not None
    spawner = server.process.pid
    rows: dict[int, tuple[int, str]] = {}
    for pid in server.survivors():
        with contextlib.suppress(OSError):
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if MARK in arguments:  # else it has just ended
                # what follows: the architecture, the compartment, the spool
                rows[pid] = _parent(pid), arguments[arguments.index(MARK) + 2].decode()
    found = [Process(spawner, os.getpid(), "spawner")]
    for pid, (parent, name) in rows.items():
        part = ""
        if parent != spawner:
            part = " template" if rows.get(parent, (0, ""))[0] == spawner else " worker"
        found.append(Process(pid, parent, name + part))
    return found


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def named(server: Server, name: str) -> list[Process]:
    """The processes of that name."""
    return [each for each in processes(server) if each.name == name]


def only(server: Server, name: str) -> Process:
    """The one process of that name, as soon as there is exactly one."""
    return _seen(server, name, lambda found: len(found) == 1)


def some(server: Server, name: str) -> Process:
    """A process of that name, as soon as there is one."""
    return _seen(server, name, bool)


def _seen(server: Server, name: str, enough: Callable[[list[Process]], bool]) -> Process:
    """The first of those who were seen when they were enough: the next look may see others."""
    found: list[Process] = []

    def look() -> bool:
        found[:] = named(server, name)
        return enough(found)

    server.wait_for(look, f"{name}, as many as there should be")
    return found[0]


def sockets(condition: Callable[[list[str]], bool]) -> set[str]:
    """The machine's TCP sockets, as descriptors show them.  condition: on a row of /proc/net/tcp
    (proc(5)): 1 is the local address, 2 the other one, 3 the state, 9 the inode.
    """
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {f"socket:[{row[9]}]" for row in rows if condition(row)}


def connections(server: Server) -> set[str]:
    """The server's ends of its clients' connections."""
    own = f":{server.port:04X}"
    return sockets(lambda row: row[1].endswith(own) and row[3] == "01")


@contextlib.contextmanager
def stopped(server: Server, process: Process) -> Iterator[None]:
    """Hold a process (SIGSTOP) while the block runs; it may end meanwhile."""
    os.kill(process.pid, 19)
    try:
        server.wait_for(process.stopped, f"{process.name} is stopped")
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, 18)


# -- the queue ------------------------------------------------------------------------------------


def queued(server: Server) -> list[str]:
    """The names in the queue."""
    return sorted(os.listdir(server.spool / "chunks"))


def set_aside(server: Server) -> list[str]:
    """The names in damaged/."""
    return sorted(os.listdir(server.spool / "damaged"))


def content_of(server: Server, name: str) -> tuple[Chunk, bytes]:
    """A queued message: its chunk and its content, the trace header on top."""
    octets = (server.spool / "chunks" / name).read_bytes()
    chunk = decode_chunk(octets)
    parts = [octets[each.offset : each.offset + each.length] for each in chunk.content]
    return chunk, b"".join(parts)


def empty(server: Server) -> bool:
    """Whether nothing is left in the queue."""
    return not queued(server)


# -- mail -----------------------------------------------------------------------------------------


def letter(token: str, body: bytes = b"hello\r\n") -> bytes:
    """A message that is known by its token."""
    return f"Subject: {token}\r\nMessage-ID: <{token}@example.net>\r\n\r\n".encode() + body


def copies(server: Server, user: str, token: str) -> list[bytes]:
    """The delivered messages with this token."""
    mark = f"Message-ID: <{token}@example.net>\n".encode()
    return [each for each in server.delivered(user) if mark in each]


def is_delivery_of(message: bytes, sent: bytes) -> bool:
    """Whether a delivered message is the one that was sent, below the lines added on top."""
    head, separator, _ = message.partition(sent.replace(b"\r\n", b"\n"))
    lines = head.splitlines()
    added = (b"Return-Path: ", b"Delivered-To: ", b"Received: ", b"\t")
    return bool(separator) and message == head + sent.replace(b"\r\n", b"\n") and all(
        line.startswith(added) for line in lines
    )  # fmt: skip


class Client:
    """An SMTP client that says what it is told, octet by octet."""

    def __init__(self, server: Server, source: str = "127.0.0.1", *, greeted: bool = True) -> None:
        self.socket = socket.create_connection(
            ("127.0.0.1", server.port), timeout=PATIENCE_S, source_address=(source, 0)
        )
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines = self.socket.makefile("rb")
        if greeted:
            assert self.reply()[0] == 220

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._lines.close()
        self.socket.close()

    def send(self, octets: bytes) -> None:
        self.socket.sendall(octets)

    def reply(self) -> tuple[int, str]:
        """(code, text) of the next reply; code 0 at the end of the stream."""
        texts = []
        while line := self._lines.readline():
            assert line.endswith(b"\r\n") and len(line) <= 512, line
            texts.append(line[4:-2].decode("ascii"))
            if line[3:4] != b"-":
                return int(line[:3]), "\n".join(texts)
        return 0, "\n".join(texts)

    def say(self, line: str) -> tuple[int, str]:
        """One command and its reply."""
        self.send(line.encode() + b"\r\n")
        return self.reply()

    def code(self, line: str) -> int:
        """One command and its reply's code."""
        return self.say(line)[0]

    def at_end(self) -> bool:
        """Whether the server closes, having said nothing more."""
        try:
            return self._lines.read() == b""
        except ConnectionResetError:
            return True

    def ready_for_data(self, recipient: str = "ada@example.org") -> None:
        """EHLO, MAIL, RCPT and DATA, all accepted."""
        assert self.code("EHLO client.example.net") == 250
        self.begin(recipient)

    def begin(self, recipient: str = "ada@example.org") -> None:
        """MAIL, RCPT and DATA, all accepted."""
        assert self.code("MAIL FROM:<x@example.net>") == 250
        assert self.code(f"RCPT TO:<{recipient}>") == 250
        assert self.code("DATA") == 354

    def deliver(self, token: str, recipient: str = "ada@example.org") -> tuple[int, str]:
        """A whole transaction after EHLO; the reply to its end of data."""
        self.begin(recipient)
        self.send(letter(token) + b".\r\n")
        return self.reply()


def send(server: Server, token: str, recipient: str = "ada@example.org") -> tuple[int, str]:
    """One message over a connection of its own; the reply to its end of data."""
    with Client(server) as client:
        assert client.code("EHLO client.example.net") == 250
        return client.deliver(token, recipient)


def insist(server: Server, token: str, recipient: str = "ada@example.org") -> str:
    """Send a message until it is taken; returns its token, a new one each time.  A session that a
    pool's parent gives away before it has heard of a death may be answered 451; the next is not.
    """
    tokens: list[str] = []

    def taken() -> bool:
        tokens.append(f"{token}-{len(tokens)}")
        with contextlib.suppress(AssertionError, ConnectionError):
            return send(server, tokens[-1], recipient)[0] == 250
        return False

    server.wait_for(taken, f"{token} is taken")
    return tokens[-1]


def wait_delivered(server: Server, token: str, user: str = "ada") -> bytes:
    """Wait until a message lies in the mailbox, once; returns it."""
    server.wait_for(lambda: copies(server, user, token), f"{token} is delivered to {user}")
    (message,) = copies(server, user, token)
    return message


def events(
    server: Server, condition: Callable[[dict[str, object]], bool]
) -> list[dict[str, object]]:
    """The log's lines, those written by this start, for which a condition holds."""
    lines = whole_lines(server.log, server.begun)
    return [event for event in map(json.loads, lines) if condition(event)]
