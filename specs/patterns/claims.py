"""Claims: one sentence each, a predicate over an observation, and how all of them are found.

Theory.  `judge` returns counterexamples, each one line that names process, thing and rule; none
means that the claim holds.  It raises `Unavailable` if the observation can't tell.  A predicate
that finds nothing to look at must say so as a counterexample: a claim about all workers holds for
no workers only by mistake.

A pattern's module has CLAIMS, a tuple of these, and perhaps `table(observation)`, rows for people,
the head first.  What a claim needs beyond everybody's observation
is an `Experiment` in the same module's EXPERIMENTS, whose result it finds by name
(`Observation.result`); experiments run one after the other on the running target, the destructive
ones last, each on a system that works again.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import specs.patterns
from specs.patterns.manifest import Manifest
from specs.patterns.observation import Observation, Unavailable
from specs.patterns.target import Named, Target
from specs.patterns.world import World

__all__ = [
    "Bench", "Claim", "Experiment", "Unavailable", "claims", "experiments", "patterns", "tables",
]  # fmt: skip

Judge = Callable[[Observation], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Claim:
    """pattern: the module's name.  name: in_words, unique within the pattern.  text: one sentence
    in the indicative, as in the paper.
    """

    pattern: str
    name: str
    text: str
    judge: Judge

    @property
    def key(self) -> str:
        """How a matrix names it: pattern.name."""
        return f"{self.pattern}.{self.name}"


class Bench(Protocol):
    """What an experiment has: a running target under load, and the means to start another."""

    @property
    def target(self) -> Target:
        """Running."""
        ...

    @property
    def manifest(self) -> Manifest:
        """Of the running target."""
        ...

    @property
    def world(self) -> World:
        """Who is around the target: next hops; and a client that sends mail."""
        ...

    @property
    def directory(self) -> Path:
        """A place of its own for this experiment, which others can't enter."""
        ...

    def load(self) -> None:
        """Return when every kind of process lives, and clients' sessions are held at several
        points.  Raises TargetError.
        """
        ...

    def process(self, name: str) -> Named:
        """A living process of that name; the load makes one if there is none.  Raises
        TargetError after a while.
        """
        ...

    def settle(self) -> None:
        """Return when a new mail goes all the way into a mailbox.  Raises TargetError."""
        ...

    def fresh(self, architecture: str) -> AbstractContextManager[Bench]:
        """Another instance, of that architecture ("refmta-landlock"), started and under load."""
        ...


@dataclass(frozen=True, slots=True)
class Experiment:
    """name: unique among all patterns.  run: its return value is the result; may raise
    Unavailable.  destructive: processes may die of it, or new instances be started.
    """

    name: str
    run: Callable[[Bench], object]
    destructive: bool = False


def patterns() -> tuple[str, ...]:
    """The names of the patterns that have claims, in alphabetical order."""
    return tuple(name for name, _ in _modules())


def claims(only: tuple[str, ...] = ()) -> tuple[Claim, ...]:
    """All claims, or those of some patterns.  Raises ValueError if one occurs twice or stands in
    another pattern's module.
    """
    found: dict[str, Claim] = {}
    for name, module in _modules(only):
        for claim in module.CLAIMS:
            if claim.key in found or claim.pattern != name:
                raise ValueError(f"{claim.key} stands in {name}, or twice")
            found[claim.key] = claim
    return tuple(found.values())


def experiments(only: tuple[str, ...] = ()) -> tuple[Experiment, ...]:
    """All experiments, or those of some patterns, the destructive ones last."""
    found = [each for _, module in _modules(only) for each in getattr(module, "EXPERIMENTS", ())]
    return tuple(sorted(found, key=lambda each: each.destructive))


def tables(
    observation: Observation, only: tuple[str, ...] = ()
) -> dict[str, tuple[tuple[str, ...], ...]]:
    """What patterns have to show besides verdicts: rows, the head first.  A table whose experiment
    was not made, or broke down, is left out: its claims say so.
    """
    found = {}
    for name, module in _modules(only):
        if hasattr(module, "table"):
            with suppress(Unavailable, RuntimeError):
                found[name] = module.table(observation)
    return found


class _Pattern(Protocol):
    CLAIMS: tuple[Claim, ...]


def _modules(only: tuple[str, ...] = ()) -> Iterator[tuple[str, _Pattern]]:
    for each in pkgutil.iter_modules(specs.patterns.__path__):
        if only and each.name not in only:
            continue
        module = importlib.import_module(f"specs.patterns.{each.name}")
        if hasattr(module, "CLAIMS"):
            yield each.name, module
