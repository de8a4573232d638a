"""What a campaign writes down: one record a line, in the order in which things became known.

    campaign   once, first: what it was asked, and what each target is known for
    ran        a case was run; `of` is the key of the case that it is a smaller one of
    smallest   a finding was shrunk: the case to replay
    closed     a cell has no further cases, and why
    ended      a start of the campaign has ended, how, and what was cut off by that

Evidence is cut to `LONGEST_TEXT` characters a text, its end kept: an end tells more of a log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Literal

import msgspec

from faultinject.cases import Case, Outcome
from faultinject.ledger import Finding

#: Of the records; a number more whenever a field changes its meaning.
VERSION: Final = 1
#: Characters of one text of evidence, texts and findings of one outcome.
LONGEST_TEXT, MOST_TEXTS, MOST_FINDINGS = 20_000, 20, 200
CUT: Final = "[the beginning is cut]\n"

#: target -> harness -> name of a finding -> why it is known (`faultinject.target.known`).
Known = Mapping[str, Mapping[str, Mapping[str, str]]]
Ending = Literal["minimal", "enough tries", "the harness failed", "not shrunk"]
Closing = Literal["complete", "unavailable", "broken", "enough"]
End = Literal["complete", "the budget is spent", "interrupted"]


class RecordError(ValueError):
    """A record can't be read; the text says why."""


class Campaign(msgspec.Struct, frozen=True, kw_only=True, tag="campaign"):
    """known: target -> harness -> finding -> reason.  began: date and time, UTC, for people.
    planned: target -> harness -> how many cases there are, as far as they were counted.  versions:
    of the targets, where they are known; tool: of this program.
    """

    seed: int
    targets: tuple[str, ...]
    harnesses: tuple[str, ...]
    known: Known = {}
    began: str = ""
    planned: Mapping[str, Mapping[str, int]] = {}
    versions: Mapping[str, str] = {}
    tool: str = ""
    version: int = VERSION


class Ran(msgspec.Struct, frozen=True, kw_only=True, tag="ran"):
    """at_s: when it ended, in seconds of the campaign's own clock, which stands still while it
    doesn't run.  again: 0, or its number among the runs that confirm the smallest case.  where:
    on which machine or worker.  lost: how many runs of it began on a worker that died.
    """

    outcome: Outcome
    of: str = ""
    again: int = 0
    where: str = ""
    lost: int = 0
    at_s: float = 0.0


class Smallest(msgspec.Struct, frozen=True, kw_only=True, tag="smallest"):
    """finding: the name of what it shows.  of: the key of the case in which it was found.
    fails, runs: how often it failed when it was run again.  file: its name, beside the results.
    """

    case: Case
    finding: str
    of: str
    tries: int
    ending: Ending
    fails: int = 0
    runs: int = 0
    file: str = ""
    at_s: float = 0.0


class Closed(msgspec.Struct, frozen=True, kw_only=True, tag="closed"):
    """why: "enough" if the campaign was told to run no more of them."""

    target: str
    harness: str
    why: Closing
    reason: str = ""
    at_s: float = 0.0


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """A case that was under way when a start of the campaign ended; the next start runs it again.
    after_s: how long it had run.  finding: whose shrinking wanted it, "" if it is of the plan.
    """

    case: Case
    after_s: float
    finding: str = ""


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag="ended"):
    """unfinished: (target, harness) of the cells that had cases left."""

    why: End
    budget_s: float = 0.0
    cut: tuple[Cut, ...] = ()
    unfinished: tuple[tuple[str, str], ...] = ()
    at_s: float = 0.0


Record = Campaign | Ran | Smallest | Closed | Ended


def encode(record: Record) -> bytes:
    """A line, its end excluded."""
    return msgspec.json.encode(record, order="deterministic")


def decode(line: bytes) -> Record:
    """Raises RecordError."""
    try:
        record: Record = msgspec.json.decode(line, type=Record)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecordError(str(error)) from None
    if isinstance(record, Campaign) and record.version != VERSION:
        raise RecordError(f"of version {record.version}, not {VERSION}: it can't be continued")
    return record


def encode_outcome(outcome: Outcome) -> bytes:
    """As it travels from the process that ran the case."""
    return msgspec.json.encode(bounded(outcome))


def decode_outcome(octets: bytes) -> Outcome:
    """Raises RecordError."""
    try:
        return msgspec.json.decode(octets, type=Outcome)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecordError(str(error)) from None


def bounded(outcome: Outcome) -> Outcome:
    """The same, with nothing too long in it, and no character that is none."""
    findings = outcome.findings[:MOST_FINDINGS]
    texts = list(outcome.evidence.items())[:MOST_TEXTS]
    return replace(
        outcome,
        findings=tuple(Finding(name=each.name, text=_text(each.text)) for each in findings),
        reason=_text(outcome.reason),
        counts={_text(name): int(count) for name, count in outcome.counts.items()},
        evidence={_text(name): _text(text) for name, text in texts},
    )


def _text(text: str) -> str:
    if len(text) > LONGEST_TEXT:
        text = CUT + text[-LONGEST_TEXT:]
    return text.encode("utf-8", "backslashreplace").decode()


def unknown(outcome: Outcome, known: Known) -> tuple[Finding, ...]:
    """The findings that its target is not known for."""
    rows = known.get(outcome.case.target, {}).get(outcome.case.harness, {})
    return tuple(each for each in outcome.findings if each.name not in rows)
