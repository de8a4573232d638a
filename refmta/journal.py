"""The journal: one structured line per message event, with the queue id.

Readable on a terminal, JSON otherwise.  Each line is one write to standard error, so that lines
of many processes never mix.  Every octet that came from outside is escaped: JSON does it, and the
terminal form passes each value through the same escaping.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

import msgspec

_encode = msgspec.json.Encoder().encode
#: Longer texts are cut, and longer lines too: a write of more could mix with another's.
TEXT_LETTERS = 1500
LINE_OCTETS = 4000


class Journal:
    """Writes lines that say which role of which process speaks.

    structlog would do this, too, but brings rich into every process: 50 ms and 7 MB each.
    """

    __slots__ = ("_descriptor", "_pid", "_role", "_terminal")

    def __init__(self, role: str, descriptor: int, *, terminal: bool) -> None:
        self._role = role
        self._descriptor = descriptor
        self._terminal = terminal
        self._pid = os.getpid()

    def info(self, event: str, **fields: object) -> None:
        """What happens every day."""
        self._write("", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """What an operator may want to look into."""
        self._write("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """What somebody has to mend."""
        self._write("error", event, fields)

    def critical(self, event: str, **fields: object) -> None:
        """What ends a process."""
        self._write("critical", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        line = self._line(level, event, {name: _cut(value) for name, value in fields.items()})
        if len(line) > LINE_OCTETS:  # what is left must be a line that a program can read
            cut = line[:TEXT_LETTERS].decode("ascii")
            line = self._line(level, event, {"queue_id": _cut(fields.get("queue_id")), "cut": cut})
        try:
            os.write(self._descriptor, line + b"\n")
        except OSError:
            return  # a log that can't be written must not stop the mail

    def _line(self, level: str, event: str, fields: dict[str, object]) -> bytes:
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        if self._terminal:
            return _escape(_readable(time, self._role, level, event, fields))
        head: dict[str, object] = {"time": time, "role": self._role, "pid": self._pid}
        if level:
            head["level"] = level
        return _escape(_encode({**head, "event": event, **fields}))


def journal(role: str, *, terminal: bool = False, descriptor: int = 2) -> Journal:
    """A journal on standard error."""
    return Journal(role, descriptor, terminal=terminal)


def _readable(time: str, role: str, level: str, event: str, fields: dict[str, object]) -> bytes:
    rest = b" ".join(name.encode() + b"=" + _value(value) for name, value in fields.items())
    head = f"{time[11:23]} {role:<10} {level + ' ' if level else ''}{event}".encode()
    return head + b"  " + rest if rest else head


def _cut(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not value.isascii():  # a file's name may hold octets that are no UTF-8 (surrogates here)
        value = value.encode("utf-8", "backslashreplace").decode("utf-8")
    return f"{value[:TEXT_LETTERS]}..." if len(value) > TEXT_LETTERS else value


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
        letter.encode() if " " <= letter <= "~" else _unicode_escape(letter) for letter in text
    )


def _unicode_escape(letter: str) -> bytes:
    """As JSON has it: beyond the first plane, a pair of surrogates."""
    units = letter.encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)).encode()
