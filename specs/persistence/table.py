"""The crash table: every commit protocol under every persistence model, on one page.

The protocols are the registered stores and the references (references.py); each is examined with
the workloads that are small enough to be exhausted (`SMALL`), so that the table is made in well
under a minute. What it counts are states of the disk:

    lost        an acknowledged message is not there                     acknowledged_present
    torn        what is there under its name is something else           visible_is_complete
    left over   a file serves nothing, and nobody has set it aside       nothing_left_over
    recovery    it fails, or is not idempotent, or a crash inside it     the other three
                spoils what it would have kept

and whether that was expected (expected.py). Counts tell how wide a hole is, not how likely.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from specs import registered
from specs.persistence.enumerate import INVARIANTS, Report, Workload, examine_all
from specs.persistence.expected import Finding, Key, compare, strangers
from specs.persistence.models import MODELS, Model
from specs.persistence.protocols import CommitStore
from specs.persistence.references import REFERENCES
from specs.persistence.workloads import ONE, REMAINS, apt

STORES = "refmta.specs.stores"
SMALL: tuple[Workload, ...] = (ONE, REMAINS)
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "lost": ("acknowledged_present",),
    "torn": ("visible_is_complete",),
    "left over": ("nothing_left_over",),
    "recovery": ("recovery_completes", "recovery_idempotent", "crash_in_recovery"),
}
"""Which invariants each column counts the violations of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One protocol under one model. counts: states, by column."""

    store: str
    model: str
    states: int
    exhaustive: bool
    counts: Mapping[str, int]
    findings: tuple[Finding, ...]
    reasons: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """FINDING, as expected, or clean."""
        if self.findings:
            found = (f"{each.kind} of {each.invariant}" for each in self.findings)
            return "FINDING: " + ", ".join(found)
        return "as expected" if self.reasons else "clean"


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocols:
    """What is to be examined, and which registered store could not be made."""

    stores: tuple[CommitStore, ...]
    unavailable: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        return [store.name for store in self.stores]


def protocols() -> Protocols:
    """The registered stores, then the references."""
    found: list[CommitStore] = []
    unavailable = []
    for name in registered.names(STORES):
        try:
            found.append(registered.make(STORES, name))
        except Exception as error:  # it is somebody else's code
            unavailable.append(f"{STORES} {name}: {type(error).__name__}: {error}")
    return Protocols(stores=(*found, *REFERENCES), unavailable=tuple(unavailable))


def rows(
    stores: Iterable[CommitStore],
    expected: Mapping[Key, str],
    *,
    models: Sequence[Model] = MODELS,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[Row]:
    """A row for each store and model, as soon as it is known."""
    for store in stores:
        tell(store.name)
        reports = list(examine_all(store, models, apt(store, SMALL)))
        for model in models:
            yield _row([each for each in reports if each.model == str(model)], expected)


def _row(reports: Sequence[Report], expected: Mapping[Key, str]) -> Row:
    first = reports[0]
    violated = [name for name in INVARIANTS if any(name in each.violated for each in reports)]
    known = [expected.get((first.store, first.model, name)) for name in violated]
    return Row(
        store=first.store,
        model=first.model,
        states=sum(each.recovered for each in reports),
        exhaustive=all(each.exhaustive for each in reports),
        counts={
            column: sum(each.counts.get(name, 0) for each in reports for name in invariants)
            for column, invariants in COLUMNS.items()
        },
        findings=tuple(compare(reports, expected)),
        reasons=tuple(dict.fromkeys(reason for reason in known if reason is not None)),
    )


def findings(made: Sequence[Row], every: Protocols, expected: Mapping[Key, str]) -> list[str]:
    """Everything that is not as it was expected, one line each."""
    found = list(every.unavailable)
    found += [f"{each}: expected violations of a store that nobody knows"
              for each in strangers(every.names, expected)]  # fmt: skip
    return found + [str(finding) for row in made for finding in row.findings]


# -- how it is said -------------------------------------------------------------------------------

HEADINGS = ("protocol", "model", "states", *COLUMNS, "verdict")


def cells(row: Row) -> tuple[str, ...]:
    """One line of the table."""
    states = str(row.states) + ("" if row.exhaustive else " (sampled)")
    counts = tuple(str(number) if number else "-" for number in row.counts.values())
    return (row.store, row.model, states, *counts, row.verdict)


def reasons(made: Iterable[Row]) -> list[str]:
    """Why, for each protocol, once."""
    known: dict[str, list[str]] = {}
    for row in made:
        told = known.setdefault(row.store, [])
        told += [reason for reason in row.reasons if reason not in told]
    return [f"{store}: {reason}" for store, told in known.items() for reason in told]


def as_json(row: Row) -> dict[str, Any]:
    """The same, for programs."""
    return {
        "protocol": row.store,
        "model": row.model,
        "states": row.states,
        "exhaustive": row.exhaustive,
        **{column.replace(" ", "_"): number for column, number in row.counts.items()},
        "verdict": row.verdict.partition(":")[0],
        "reasons": list(row.reasons),
        "findings": [str(finding) for finding in row.findings],
    }
