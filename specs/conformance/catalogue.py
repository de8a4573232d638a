"""The clauses: what the standards ask, one observable thing each, and which cases look at it.

    clauses.toml        [[clause]] id, rfc, section, level, role, summary, how_to_observe; `note`
                        where it says otherwise than earlier versions of this catalogue
    uncovered.toml      id = "not observable: why", or id = "not yet covered: why"

Rules a reader may rely on
- A clause keeps its id for ever.
- Every clause is covered by a case, or it is in `uncovered.toml`; not both.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final, Literal, get_args

from specs.conformance.model import Case, Level, Role

State = Literal["covered", "not observable", "not yet covered"]
_STATES: Final = get_args(State)


class CatalogueError(Exception):
    """The catalogue, or what is said of it, contradicts itself; the text says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """One observable requirement."""

    id: str
    rfc: str
    section: str
    level: Level
    role: Role
    summary: str
    how_to_observe: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """A clause, and the ids of the cases that look at it; or why there is none."""

    clause: Clause
    state: State
    cases: tuple[str, ...] = ()
    reason: str = ""


@cache
def clauses() -> tuple[Clause, ...]:
    """All of them.  Raises CatalogueError."""
    told = tomllib.loads(_text("clauses.toml"))
    found: dict[str, Clause] = {}
    for row in told["clause"]:
        try:
            clause = Clause(**row)
        except TypeError as error:
            raise CatalogueError(f"clauses.toml: {row.get('id')}: {error}") from None
        levels, roles = get_args(Level), get_args(Role)
        if clause.level not in levels or clause.role not in roles or clause.id in found:
            raise CatalogueError(f"clauses.toml: {clause.id}: a level, a role or the id is wrong")
        found[clause.id] = clause
    return tuple(found.values())


@cache
def uncovered() -> dict[str, str]:
    """Clause to reason.  Raises CatalogueError."""
    found: dict[str, str] = tomllib.loads(_text("uncovered.toml"))
    for clause, reason in found.items():
        if reason.partition(":")[0] not in _STATES[1:]:
            raise CatalogueError(f"uncovered.toml: {clause}: it begins with none of the states")
    return found


def _text(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def coverage(cases: Iterable[Case]) -> list[Covered]:
    """Of every clause.  Raises CatalogueError if one is neither covered nor explained, or both, or
    a case names one that does not exist.
    """
    by_clause: dict[str, list[str]] = {each.id: [] for each in clauses()}
    for case in cases:
        for name in case.clauses:
            if name not in by_clause:
                raise CatalogueError(f"{case.id}: there is no clause {name}")
            by_clause[name].append(case.id)
    explained = uncovered()
    if unknown := sorted(set(explained) - set(by_clause)):
        raise CatalogueError(f"uncovered.toml: there is no clause {unknown[0]}")
    return list(_rows(by_clause, explained))


def _rows(by_clause: dict[str, list[str]], explained: dict[str, str]) -> Iterator[Covered]:
    for clause in clauses():
        names, reason = by_clause[clause.id], explained.get(clause.id, "")
        if bool(names) == bool(reason):
            both = "covered and explained" if names else "neither covered nor explained"
            raise CatalogueError(f"{clause.id}: {both}")
        word, _, why = reason.partition(":")
        state: State = "covered"
        for each in _STATES[1:]:
            state = each if word == each else state
        yield Covered(clause=clause, state=state, cases=tuple(names), reason=why.strip())


def share(rows: Sequence[Covered], *, roles: Iterable[Role], levels: Iterable[Level] = ()) -> float:
    """How many of these clauses are covered, of 1; 1 if there are none."""
    wanted, at = frozenset(roles), frozenset(levels)
    of = [
        each for each in rows
        if each.clause.role in wanted and (not at or each.clause.level in at)
    ]  # fmt: skip
    return sum(each.state == "covered" for each in of) / len(of) if of else 1.0
