"""What rounds have shown, as JSON Lines: so that a campaign goes on where it was stopped, and its
result can be kept.

Rules: a row for each round that has judged all of its clones, written and synced when it is over.
A last line without its end was being written when somebody was killed: it is taken away.  Anything
else that can't be read is refused, and the file left as it is.  Who has the file open owns it.
"""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import msgspec

from faultinject import journal
from faultinject.cases import Case, Outcome, Verdict

VERSION: Final = 1
#: How each row does.
BEGINS: Final = b'{"case":'


class ResultsError(ValueError):
    """A file of results can't be continued; the text says where and why."""


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A round.  seed: the campaign's; findings: (name, text), some of each kind; counts: all."""

    case: Case
    seed: int
    verdict: Verdict
    findings: list[tuple[str, str]] = []
    counts: dict[str, int] = {}
    seconds: float = 0.0
    version: int = VERSION

    @property
    def fs(self) -> str:
        """Its file system."""
        return str(self.case.settings["fs"])

    @property
    def cuts(self) -> int:
        """How many clones were judged."""
        return self.counts.get("cuts", 0)


def row(outcome: Outcome, seed: int, seconds: float) -> Row:
    """Of a round that is over."""
    return Row(
        case=outcome.case, seed=seed, verdict=outcome.verdict, seconds=round(seconds, 2),
        counts=dict(outcome.counts), findings=[(each.name, each.text) for each in outcome.findings],
    )  # fmt: skip


def first_cuts(clones: int, again_one_in: int) -> int:
    """How many cuts a round needs for so many clones, with those that follow during recovery."""
    cuts = clones
    while again_one_in and cuts > 1 and cuts + cuts // again_one_in > clones:
        cuts -= 1
    return cuts


@dataclass(slots=True)
class Results:
    """All rows, and where they are kept, if anywhere."""

    rows: list[Row] = field(default_factory=list)
    _descriptor: int | None = None

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises ResultsError, OSError."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            text = path.read_bytes()
            length = _whole(text, path)
            rows = _rows(text[:length], path)
            os.ftruncate(descriptor, length)
        except BlockingIOError:
            os.close(descriptor)
            raise ResultsError(f"{path}: another campaign is writing it") from None
        except BaseException:
            os.close(descriptor)
            raise
        return cls(rows, descriptor)

    @classmethod
    def read(cls, path: Path) -> Self:
        """To be looked at, also while a campaign writes it.  Raises ResultsError, OSError."""
        text = path.read_bytes()
        return cls(_rows(text[: _whole(text, path)], path))

    def add(self, new: Row) -> None:
        """It is kept when this returns."""
        self.rows.append(new)
        if self._descriptor is not None:
            line = msgspec.json.encode(new) + b"\n"
            while line:
                line = line[os.write(self._descriptor, line) :]
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Let others have the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def seed(self) -> int | None:
        """The campaign's; None if nothing was tried yet."""
        return self.rows[0].seed if self.rows else None

    def target(self) -> str | None:
        """Whose results these are."""
        return self.rows[0].case.target if self.rows else None

    def of(self, fs: str) -> list[Row]:
        """Those of one file system."""
        return [each for each in self.rows if each.fs == fs]

    def cuts(self, fs: str) -> int:
        """Clones judged there."""
        return sum(each.cuts for each in self.of(fs))

    def sums(self, fs: str) -> Counter[str]:
        """All counts of one file system, and the seconds as whole milliseconds."""
        total: Counter[str] = Counter()
        for each in self.of(fs):
            total.update(each.counts)
            total["milliseconds"] += round(1000 * each.seconds)
        return total

    def findings(self) -> list[tuple[str, str]]:
        """(name, text) of the examples, of all file systems."""
        return [finding for each in self.rows for finding in each.findings]

    def next_seed(self, fs: str, seed: int) -> int:
        """Of the next round there: none is used twice."""
        used = [each.case.seed for each in self.of(fs)]
        return max(used) + 1 if used else seed


def _whole(text: bytes, path: Path) -> int:
    try:
        return journal.whole(text, BEGINS, path)
    except ValueError as error:
        raise ResultsError(str(error)) from None


def _rows(text: bytes, path: Path) -> list[Row]:
    lines = text.splitlines()
    return [_read(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]


def _read(line: bytes, where: str) -> Row:
    try:
        read = msgspec.json.decode(line, type=Row)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ResultsError(f"{where}: {error}") from None
    if read.version != VERSION:
        raise ResultsError(f"{where}: of version {read.version}, not {VERSION}")
    if not isinstance(read.case.settings.get("fs"), str):
        raise ResultsError(f"{where}: its case names no file system")
    return read
