"""The ledger: what would decide each of the paper's claims, written down before it is run.

`specs/claims.toml` has a table per claim. A claim is about some architectures, and has *trials*:
each names what is tried (`on`), what number is observed, how it is compared, with which threshold,
and how the number is taken. A ledger that contradicts itself is refused as a whole: a claim that
nothing could decide, a measure that nobody describes, a prediction of a failure without a reason.

Who is tried, as `on`:
- composition:NAME  our roles, composed as that architecture
- server:NAME       the real server, where it can be installed
- protocol:NAME     what the server does to its queue files, as a plan (`specs.persistence`)

A trial whose architecture is not one of those that the claim is about is *beside*: told, and no
part of the verdict. One with a `condition` that does not hold makes the claim conditional; every
other one decides.
"""

from __future__ import annotations

import hashlib
import math
import operator
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

LEDGER: Final = Path(__file__).parents[1] / "claims.toml"
IDS: Final = tuple(f"C{number:02}" for number in range(1, 27))
SUBJECTS: Final = ("composition", "server", "protocol")
ARCHITECTURES: Final = ("sendmail", "qmail", "postfix", "postfix-unjailed", "sendmailx", "refmta")
COMPARISONS: Final[dict[str, Callable[[float, float], bool]]] = {
    "==": operator.eq,
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
}
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]*")
Role = Literal["decides", "condition", "beside"]


class LedgerError(ValueError):
    """The ledger is wrong; the text says where, one reason per line."""


class _Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file: no key but these."""


class CrashStates(_Row, frozen=True, kw_only=True, tag_field="by", tag="crash_states"):
    """Count the violated invariants over every state that a crash may leave of these stores."""

    stores: tuple[str, ...]
    models: tuple[str, ...]


class Matrix(_Row, frozen=True, kw_only=True, tag_field="by", tag="matrix"):
    """Count the claims of these patterns that do not hold on the running system."""

    patterns: tuple[str, ...]


class Proofs(_Row, frozen=True, kw_only=True, tag_field="by", tag="proofs"):
    """Count the conditions that CrossHair refutes, or cannot check, in these proofs."""

    proofs: tuple[str, ...]


class Measure(_Row, frozen=True, kw_only=True, tag_field="by", tag="measure"):
    """Whatever the measure of that name says; the ledger's [measures] describes it.

    part: which of its numbers, if it has several.
    """

    name: str
    part: str = ""


Taken = CrashStates | Matrix | Proofs | Measure


class Trial(_Row, frozen=True, kw_only=True):
    """One number, and what it is held to.

    observation: which number, in words.  against: another subject, to whose number it is the
    ratio.  unit: of number and threshold.  needs: what must exist besides the obvious, KIND:NAME.
    expected: the prediction; reason: why, wherever it is that the paper's claim fails here.
    """

    on: str
    observation: str
    comparison: Literal["==", "<=", "<", ">=", ">"]
    threshold: float
    unit: str
    taken: Taken
    against: str = ""
    condition: str = ""
    needs: tuple[str, ...] = ()
    expected: Literal["holds", "fails"] = "holds"
    reason: str = ""

    @property
    def architecture(self) -> str:
        return self.on.partition(":")[2]

    @property
    def asked(self) -> str:
        """A digest of which number this is, whatever it is held to."""
        number = (self.on, self.observation, self.against, self.taken)
        return hashlib.sha256(repr(number).encode()).hexdigest()[:12]

    @property
    def criterion(self) -> str:
        """Comparison, threshold and unit, as a reader writes them."""
        return f"{self.comparison} {self.threshold:g} {self.unit}"


class Claim(_Row, frozen=True, kw_only=True):
    """One of the paper's claims.  section: where it stands ("abstract", "1" to "6")."""

    section: Literal["abstract", "1", "2", "3", "4", "5", "6"]
    claim: str
    architectures: tuple[str, ...]
    trials: tuple[Trial, ...]

    def role(self, trial: Trial) -> Role:
        """What the trial is for."""
        if trial.architecture not in self.architectures:
            return "beside"
        return "condition" if trial.condition else "decides"

    @property
    def digest(self) -> str:
        """Of all that it is held to: a verdict that quotes it was reached under just that."""
        held_to = [
            (each.on, each.observation, each.criterion, each.against, each.taken, each.condition)
            for each in self.trials
        ]
        return hashlib.sha256(repr((self.claim, held_to)).encode()).hexdigest()[:12]


class Ledger(_Row, frozen=True, kw_only=True):
    """The file.  measures: name -> what is measured, and with what."""

    measures: dict[str, str]
    claims: dict[str, Claim]


# -- reading it -----------------------------------------------------------------------------------


def load(path: Path = LEDGER) -> Ledger:
    """The ledger in this file.  Raises LedgerError, OSError."""
    return parse(path.read_text(encoding="utf-8"))


def parse(text: str) -> Ledger:
    """The ledger of that text.  Raises LedgerError."""
    ledger = convert(text)
    problems = list(contradictions(ledger))
    if problems:
        raise LedgerError("\n".join(problems))
    return ledger


def convert(text: str) -> Ledger:
    """The same, but only as far as types go.  Raises LedgerError."""
    try:
        return msgspec.convert(tomllib.loads(text), Ledger, strict=True)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise LedgerError(str(error)) from error


def contradictions(ledger: Ledger) -> Iterator[str]:
    """What the types let pass, and where."""
    if tuple(ledger.claims) != IDS:
        odd = sorted(set(ledger.claims) ^ set(IDS)) or ["the order"]
        yield f"claims: must be {IDS[0]} to {IDS[-1]}, each once, in order; wrong: {', '.join(odd)}"
    for name, claim in ledger.claims.items():
        yield from (f"{name}: {what}" for what in _of_claim(claim))
        for number, trial in enumerate(claim.trials, 1):
            yield from (f"{name}, trial {number}: {what}" for what in _of_trial(ledger, trial))
    trials = [trial for claim in ledger.claims.values() for trial in claim.trials]
    used = {each.taken.name for each in trials if isinstance(each.taken, Measure)}
    for name in sorted(set(ledger.measures) - used):
        yield f"measures: {name} is used by no trial"


def _of_claim(claim: Claim) -> Iterator[str]:
    unknown = set(claim.architectures) - set(ARCHITECTURES)
    if unknown:
        yield f"unknown architecture {', '.join(sorted(unknown))}"
    if not claim.claim.strip():
        yield "has no text"
    deciding = {trial.architecture for trial in claim.trials if claim.role(trial) == "decides"}
    for name in claim.architectures:
        if name not in deciding:
            yield f"is about {name}, and no trial on it decides"
    if not claim.architectures:
        yield "is about no architecture"
    for trial in claim.trials:
        if trial.condition and claim.role(trial) == "beside":
            yield f"a condition on {trial.on}, which it is not about"
    numbers = Counter((trial.on, trial.taken, trial.against) for trial in claim.trials)
    for (on, _, _), times in numbers.items():
        if times > 1:
            yield f"the same number of {on} under {times} names"


def _of_trial(ledger: Ledger, trial: Trial) -> Iterator[str]:
    for key in ("on", "against"):
        subject = getattr(trial, key)
        kind, _, name = subject.partition(":")
        if (subject or key == "on") and (kind not in SUBJECTS or name not in ARCHITECTURES):
            yield f"{key} {subject!r}: not {', '.join(f'{each}:' for each in SUBJECTS)} and a name"
    if trial.against and not isinstance(trial.taken, Measure):
        yield "against: only a measure is taken of two subjects"
    for key in ("observation", "unit"):
        if not getattr(trial, key).strip():
            yield f"has no {key}"
    if not math.isfinite(trial.threshold):
        yield "the threshold is no number"
    if (trial.expected == "fails") != bool(trial.reason):
        yield "a reason is needed where it is expected to fail, and only there"
    if isinstance(trial.taken, Measure) and trial.taken.name not in ledger.measures:
        yield f"measure {trial.taken.name!r} is described nowhere"
    for need in trial.needs:
        if need.partition(":")[0] not in NEEDS or not _NAME.fullmatch(need.partition(":")[2]):
            yield f"need {need!r}: not one of {', '.join(f'{kind}:' for kind in NEEDS)}"


#: Kinds of what a trial may wait for -> in words.
NEEDS: Final[dict[str, str]] = {
    "composition": "the composition",
    "server": "an adapter to the real server",
    "pattern": "the spec of the pattern",
    "store": "the store",
    "proof": "the proofs",
    "measure": "the measure",
    "fault": "the fault injection",
    "machine": "a machine with",
}
