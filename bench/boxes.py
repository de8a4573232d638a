"""A user's mailbox, as the bench looks at it: how many messages are there, how long each is.

It is asked a hundred times a second while mail arrives, so a file with all of them is read on from
where the last look ended.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

#: The line that begins a message; one within a message is quoted with ">".
_FROM = re.compile(rb"^From ", re.MULTILINE)


class Maildir:
    """A file for each message; `home` is the user's."""

    def __init__(self, home: Path) -> None:
        self.place = home / "Maildir" / "new"

    def count(self) -> int:
        """How many messages are there now."""
        return len(os.listdir(self.place))  # noqa: PTH208

    def sizes(self) -> list[int]:
        """The octets of each."""
        return [entry.stat().st_size for entry in os.scandir(self.place)]

    def empty(self) -> None:
        """Remove all."""
        for entry in os.scandir(self.place):
            Path(entry.path).unlink()


class Mbox:
    """One file for all messages, which is there from the first one on."""

    def __init__(self, home: Path) -> None:
        self.place = home / "mbox"
        self._read = self._count = 0

    def count(self) -> int:
        """How many messages have begun; a look at half of a line does not count it."""
        with suppress(FileNotFoundError), self.place.open("rb") as file:
            if os.fstat(file.fileno()).st_size < self._read:
                self._read = self._count = 0
            file.seek(self._read)
            octets = file.read()
            whole = octets[: octets.rfind(b"\n") + 1]
            self._read += len(whole)
            self._count += len(_FROM.findall(whole))
        return self._count

    def sizes(self) -> list[int]:
        """The octets of each."""
        try:
            octets = self.place.read_bytes()
        except FileNotFoundError:
            return []
        begins = [each.start() for each in _FROM.finditer(octets)]
        return [end - begin for begin, end in zip(begins, [*begins[1:], len(octets)], strict=True)]

    def empty(self) -> None:
        """Remove all."""
        self.place.unlink(missing_ok=True)
        self._read = self._count = 0


Box = Maildir | Mbox
