"""What was measured once, with date, machine and versions: `measured.toml` beside this file.

Some numbers need minutes, root, and real servers from Debian. They are taken when somebody asks
(`refmta-spec claims --peers`), and may be written down (`--record`). A later run without them reads
the record, says so, and judges the number by the ledger's threshold as it is then.

Rules a reader may rely on:
- A row is of one trial, by a digest of what was asked (subject, observation, against whom, how it
  is taken). A trial that asks anything else has no record.
- A record stands in for what can't be measured now, never for a measure that broke.
- The file says nothing about verdicts, and nobody edits numbers: a run writes them.
"""

from __future__ import annotations

import json
import math
import os
import platform
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import msgspec

from specs.claims.ledger import Measure, Trial
from specs.claims.verdict import Outcome, Reading

FILE: Final = Path(__file__).with_name("measured.toml")
HEAD: Final = """\
# What `refmta-spec claims --peers --record` has measured; read where it is not measured anew.
# Written by that command; how to read it: specs/claims/record.py.
"""


class RecordError(ValueError):
    """The file is not what it should be; the text says where."""


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number. asked: the trial's digest; on, against, measure, part: the same for readers."""

    asked: str
    on: str
    measure: str
    value: float
    detail: str
    date: str
    machine: str
    versions: str
    against: str = ""
    part: str = ""


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    measured: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """All rows, by what was asked."""

    rows: Mapping[str, Row]

    def of(self, trial: Trial) -> Reading | None:
        """The number that was written down for just this trial."""
        row = self.rows.get(trial.asked)
        if row is None:
            return None
        return Reading(row.value, row.detail, recorded=f"{row.date}, {row.machine}")


def read(text: str) -> Record:
    """Raises RecordError."""
    try:
        found = msgspec.convert(tomllib.loads(text), _File, strict=True)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise RecordError(str(error)) from error
    rows: dict[str, Row] = {}
    for row in found.measured:
        if row.asked in rows:
            raise RecordError(f"{row.asked}: two numbers for one trial")
        if math.isnan(row.value):
            raise RecordError(f"{row.asked}: no number")
        rows[row.asked] = row
    return Record(rows)


def load(file: Path = FILE) -> Record:
    """The record, or an empty one if there is no file. Raises RecordError, OSError."""
    try:
        return read(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Record({})


# -- writing --------------------------------------------------------------------------------------


def rows(outcomes: Iterable[Outcome], date: str) -> dict[str, Row]:
    """Of what these trials measured anew."""
    found = {}
    for outcome in outcomes:
        trial, taking = outcome.trial, outcome.taking
        if isinstance(taking, Reading) and not taking.recorded and isinstance(trial.taken, Measure):
            found[trial.asked] = Row(
                asked=trial.asked, on=trial.on, against=trial.against, measure=trial.taken.name,
                part=trial.taken.part, value=taking.value, detail=taking.detail, date=date,
                machine=machine(), versions=versions(),
            )  # fmt: skip
    return found


def text_of(rows: Mapping[str, Row]) -> str:
    """The file."""
    tables = []
    for row in sorted(rows.values(), key=lambda row: (row.measure, row.on, row.part, row.asked)):
        lines = ["[[measured]]"]
        for key in row.__struct_fields__:
            value = getattr(row, key)
            if value != "":
                lines.append(f"{key} = {_toml(value)}")
        tables.append("\n".join(lines))
    return "\n\n".join([HEAD.rstrip(), *tables]) + "\n"


def _toml(value: str | float) -> str:
    """Basic strings of TOML are JSON's, where those are ASCII."""
    return json.dumps(value) if isinstance(value, str) else str(float(value))


def machine() -> str:
    """The processors, and the memory."""
    octets = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    count = os.cpu_count() or 1
    return f"{count} processors {platform.machine()}, {round(octets / 2**30)} GB"


def versions() -> str:
    """What the numbers depend on most."""
    try:
        ours = version("refmta")
    except PackageNotFoundError:
        ours = "?"
    return f"refmta {ours}, Python {platform.python_version()}, Linux {platform.release()}"
