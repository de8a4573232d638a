"""Expected failures: which protocol violates which invariant under which model, and why.

The rows stand in expected.toml, which says what a row means. Two things are findings, both by name:

    violation        seen, and no row expects it
    unexpected pass  expected by a row, and not seen in any workload that was run

so that a protocol that is weak on purpose (a composition that the paper describes is faithful to
its weaknesses) is held to them as exactly as a safe one is held to having none.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from specs.persistence.enumerate import INVARIANTS, Report
from specs.persistence.models import MODELS

FILE = Path(__file__).with_name("expected.toml")

Key = tuple[str, str, str]
"""Store, model, invariant."""

_KEYS = {"store", "models", "invariants", "reason"}
_MODELS: Mapping[str, tuple[str, ...]] = {
    **{str(model): (str(model),) for model in MODELS},
    **{
        model.name: tuple(str(each) for each in MODELS if each.name == model.name)
        for model in MODELS
    },
}


class ExpectedError(ValueError):
    """The file of expectations is not what its head says; the text says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One difference between what was seen and what was expected."""

    kind: str  # "violation" or "unexpected pass"
    store: str
    model: str
    invariant: str
    detail: str

    def __str__(self) -> str:
        return f"{self.store}, {self.model}: {self.kind} of {self.invariant}: {self.detail}"


def read_expected(text: str) -> dict[Key, str]:
    """The reason of each expected violation. Raises ExpectedError."""
    try:
        rows = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ExpectedError(str(error)) from error
    found: dict[Key, str] = {}
    if rows.keys() - {"expected"}:
        raise ExpectedError(f"only [[expected]] rows, not {', '.join(sorted(rows))}")
    for number, row in enumerate(rows.get("expected", ()), 1):
        for key in _keys_of(row, f"row {number}"):
            if key in found:
                raise ExpectedError(f"row {number}: {', '.join(key)} is expected already")
            found[key] = str(row["reason"])
    return found


def _keys_of(row: Mapping[str, object], where: str) -> Iterator[Key]:
    if row.keys() != _KEYS:
        raise ExpectedError(f"{where}: it must have exactly {', '.join(sorted(_KEYS))}")
    store, reason = row["store"], row["reason"]
    if not (isinstance(store, str) and store and isinstance(reason, str) and reason.strip()):
        raise ExpectedError(f"{where}: store and reason are texts, and not empty")
    for model in _texts(row["models"], f"{where}: models", _MODELS):
        for invariant in _texts(row["invariants"], f"{where}: invariants", INVARIANTS):
            for each in _MODELS[model]:
                yield store, each, invariant


def _texts(value: object, where: str, allowed: Iterable[str]) -> list[str]:
    known = list(allowed)
    if not isinstance(value, list) or not value or any(each not in known for each in value):
        raise ExpectedError(f"{where}: one or more of {', '.join(known)}")
    return value


@cache
def expected() -> Mapping[Key, str]:
    """The rows of expected.toml. Raises ExpectedError, OSError."""
    return read_expected(FILE.read_text(encoding="utf-8"))


def compare(reports: Iterable[Report], rows: Mapping[Key, str]) -> list[Finding]:
    """Every difference, over all workloads that were run of a store under a model.

    A row for what was not run (another store, another model) says nothing here; see `strangers`.
    """
    examined: dict[tuple[str, str], dict[str, str]] = {}
    for report in reports:
        seen = examined.setdefault((report.store, report.model), {})
        for invariant, found in report.violated.items():
            seen.setdefault(invariant, f"{report.workload}: {found.detail}")
    findings = []
    for (store, model), seen in examined.items():
        for invariant in INVARIANTS:
            reason = rows.get((store, model, invariant))
            if invariant in seen and reason is None:
                findings.append(_finding("violation", store, model, invariant, seen[invariant]))
            if invariant not in seen and reason is not None:
                detail = f"it was expected, because: {reason}"
                findings.append(_finding("unexpected pass", store, model, invariant, detail))
    return findings


def _finding(kind: str, store: str, model: str, invariant: str, detail: str) -> Finding:
    return Finding(kind=kind, store=store, model=model, invariant=invariant, detail=detail)


def strangers(stores: Iterable[str], rows: Mapping[Key, str]) -> list[str]:
    """Stores that have rows, and that nobody knows: a name was changed, or spelt wrongly."""
    return sorted({store for store, _, _ in rows} - set(stores))
