"""The results of a campaign: a directory, owned by the one that runs.

    results.jsonl   a record a line (`records`), appended and synced; nothing else is the truth
    cases/          the smallest case of each finding
    report.html     the page, made from the results whenever a campaign ends
    lock            who holds it runs

What a kill may leave is a last line without its end: it is cut off, and its case runs again.  Any
other line that can't be read is an error: somebody else wrote there, and nothing is guessed.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from faultinject import journal
from faultinject.campaign.records import Record, RecordError, decode, encode

FILE: Final = "results.jsonl"
CASES: Final = "cases"
PAGE: Final = "report.html"
LOCK: Final = "lock"
#: How the first record does.
BEGINS: Final = b'{"type":"campaign",'


class ResultsError(Exception):
    """The directory can't be used; the text says why."""


class Results:
    """A directory of results, from entering the context to leaving it; made if it is not there.

    Raises ResultsError if it is in use, is no such directory, or has a line that can't be read.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.records: list[Record] = []
        self._log: IO[bytes] | None = None
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._refuse_strangers()
            self._own()
            self._open()
        except OSError as error:
            self._close()
            raise ResultsError(f"{error.filename or self.directory}: {error.strerror}") from None
        except ResultsError:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _refuse_strangers(self) -> None:
        """A directory that has other things, and no results, is somebody else's."""
        if not (self.directory / FILE).exists() and any(
            each.name != LOCK for each in self.directory.iterdir()
        ):
            raise ResultsError(f"{self.directory}: not empty, and has no {FILE}")

    def _own(self) -> None:
        self._lock = (self.directory / LOCK).open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ResultsError(f"{self.directory}: another campaign runs there") from None

    def _open(self) -> None:
        self._log = (self.directory / FILE).open("a+b")
        self._log.seek(0)
        self.records, length = _read(self._log.read(), self.directory / FILE)
        self._log.truncate(length)
        os.fsync(self._log.fileno())
        _sync(self.directory)

    def _close(self) -> None:
        for each in (self._log, self._lock):
            if each is not None:
                each.close()
        self._log = self._lock = None

    def add(self, record: Record) -> None:
        """On return it will survive a power cut.  Raises ResultsError, such as for a full disk."""
        if self._log is None:
            raise ResultsError(f"{self.directory}: not open")
        try:
            self._log.write(encode(record) + b"\n")
            self._log.flush()
            os.fsync(self._log.fileno())
        except OSError as error:
            raise ResultsError(f"{self.directory / FILE}: {error.strerror}") from None
        self.records.append(record)

    def write(self, name: str, octets: bytes) -> Path:
        """A file beside the results: the old one or the new one is there, never a part of it."""
        path = self.directory / name
        try:
            path.parent.mkdir(exist_ok=True)
            partial = path.with_name(f".{path.name}.new")
            with partial.open("wb") as file:
                file.write(octets)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            _sync(path.parent)
        except OSError as error:
            raise ResultsError(f"{path}: {error.strerror}") from None
        return path


def read(directory: Path) -> list[Record]:
    """What is there, whether or not a campaign is running.  Raises ResultsError."""
    path = directory / FILE
    try:
        return _read(path.read_bytes(), path)[0]
    except OSError as error:
        raise ResultsError(f"{path}: {error.strerror}") from None


def _read(octets: bytes, path: Path) -> tuple[list[Record], int]:
    """The records of all whole lines, and how many octets these are."""
    try:
        length = journal.whole(octets, BEGINS, path)
    except ValueError as error:
        raise ResultsError(str(error)) from None
    records = []
    for number, line in enumerate(octets[:length].splitlines(), 1):
        try:
            records.append(decode(line))
        except RecordError as error:
            raise ResultsError(f"{path}:{number}: {error}") from None
    return records, length


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
