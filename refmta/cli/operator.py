"""The operator's line to a running server: one question, its answer, over the control socket."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import msgspec

from refmta.architectures.configuration import Settings
from refmta.patterns.trust_partitioning import border
from refmta.roles.qmgr.view import Row
from refmta.wire.frame import MESSAGE, Assembler, Frame, FrameError, encode
from refmta.wire.messages import Answer, Ask, encode_message

#: How long an answer may take, in seconds.
PATIENCE_S = 60.0


class UnreachableError(Exception):
    """Nobody answers; the text says where we knocked."""


class RefusedError(Exception):
    """The server answers, and says no."""


def ask(settings: Settings, question: Ask) -> list[bytes]:
    """The documents (JSON) of the answer.  Raises UnreachableError, RefusedError."""
    path = settings.control_socket
    decoder, hears = Assembler(), border("operator", "supervisor").hears
    documents: list[bytes] = []
    try:
        with _connect(path) as connection:
            proved = msgspec.structs.replace(question, key=settings.control_key.read_bytes())
            connection.sendall(encode(Frame(MESSAGE, encode_message(proved))))
            while octets := connection.recv(1 << 18):
                for frame in decoder.feed(octets):
                    answer = hears.decode(frame.payload)
                    if not isinstance(answer, Answer):
                        continue
                    if answer.error:
                        raise RefusedError(answer.error)
                    documents.append(answer.document)
                    if not answer.more:
                        return documents
    except (OSError, FrameError) as error:
        raise UnreachableError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    raise UnreachableError(f"{path}: the server ended before it had answered")


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(PATIENCE_S)
        connection.connect(str(path))
    except BaseException:
        connection.close()
        raise
    return connection


def rows(settings: Settings, queue_id: str = "") -> list[Row]:
    """The queue as the running server sees it.  Raises as `ask` does."""
    question = Ask(reference=1, verb="show" if queue_id else "list", queue_id=queue_id)
    return [
        row
        for document in ask(settings, question)
        for row in msgspec.json.decode(document, type=list[Row])
    ]


def exit_unreachable(error: UnreachableError) -> None:
    """Say so and exit 3."""
    sys.stderr.write(f"the server can't be reached: {error}\n")
    raise SystemExit(3)
