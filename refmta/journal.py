"""The journal: one structured line per message event, with the queue id.

Readable on a terminal, JSON otherwise.  Each line is one write to standard error, so that lines
of many processes never mix.  Every octet that came from outside is escaped: JSON does it, and the
terminal form passes each value through the same escaping.
"""

from __future__ import annotations

import os
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

Journal = structlog.typing.FilteringBoundLogger
_encode = msgspec.json.Encoder().encode
#: A line longer than this is cut: a write of more could mix with another's.
LINE_OCTETS = 4000


class _Stream:
    """Writes a line to a descriptor, at once and whole."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def msg(self, line: bytes) -> None:
        if len(line) > LINE_OCTETS:
            line = line[:LINE_OCTETS] + b"..."
        try:
            os.write(self._descriptor, line + b"\n")
        except OSError:
            return  # a log that can't be written must not stop the mail

    debug = info = warning = error = critical = msg


def journal(role: str, *, terminal: bool = False, descriptor: int = 2) -> Journal:
    """A logger whose lines say which role speaks."""
    stream = _Stream(descriptor)
    form: Callable[..., bytes] = _readable if terminal else _json
    logger: Journal = structlog.wrap_logger(
        stream,
        processors=[_stamp, form],
        wrapper_class=structlog.make_filtering_bound_logger(20),
        role=role,
        pid=os.getpid(),
    )
    return logger


def _stamp(_: object, level: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["time"] = datetime.now(UTC).isoformat(timespec="milliseconds")
    if level not in ("info", "debug"):
        event["level"] = level
    return event


def _json(_: object, __: str, event: MutableMapping[str, Any]) -> bytes:
    return _escape(_encode(event))


def _readable(_: object, level: str, event: MutableMapping[str, Any]) -> bytes:
    time = str(event.pop("time"))[11:23]
    role, what = event.pop("role"), event.pop("event")
    event.pop("pid", None)
    level = event.pop("level", "")
    rest = b" ".join(name.encode() + b"=" + _value(value) for name, value in event.items())
    head = f"{time} {role:<10} {level + ' ' if level else ''}{what}".encode()
    return _escape(head + (b"  " + rest if rest else b""))


def _value(value: object) -> bytes:
    text = _encode(value)
    plain = text[1:-1] if text[:1] == b'"' else text
    return plain if plain and b" " not in plain else text


def _escape(octets: bytes) -> bytes:
    """ASCII without control octets: JSON escapes the C0 ones, not DEL and not the C1 ones."""
    if octets.isascii() and b"\x7f" not in octets:
        return octets
    text = octets.decode("utf-8", "replace")
    return b"".join(
        letter.encode()
        if " " <= letter <= "~"
        else f"\\u{ord(letter):04x}".encode()
        if ord(letter) < 0x10000
        else f"\\U{ord(letter):08x}".encode()
        for letter in text
    )
