"""What was seen of a running system: frozen values, on which all claims are judged.

Theory.  An observation is made once (`gather`), and all claims are judged on the same one, so that
two claims never contradict each other because the system moved on in between.  It holds several
instants (`Instant`), since a thing that must never be is judged on each of them; what was tried
from inside (`probes`); and what the patterns' own experiments brought (`results`).

A claim that is to be tested needs no system: an observation is plain data, made by hand in a test,
with one thing wrong in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from specs.observe.files import File, Lock
from specs.observe.probes import Outcome
from specs.observe.process import Process
from specs.observe.unavailable import Unavailable
from specs.patterns.manifest import Manifest

__all__ = ["Failed", "Instant", "Module", "Observation", "Outcome", "Unavailable"]

_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class Module:
    """A Python module that a process has loaded.  file: "" if it has none (built in).  lines: of
    its source, 0 if it has none.  own: whether it is the judged's own code.
    """

    name: str
    file: str
    lines: int
    own: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Instant:
    """All processes, as one look around found them.  label: "started", "loaded", "after"."""

    label: str
    processes: tuple[Process, ...]

    def named(self, name: str) -> tuple[Process, ...]:
        """The processes of that name."""
        return tuple(each for each in self.processes if each.name == name)

    def process(self, pid: int) -> Process | None:
        """The process of that number, if it was there."""
        return next((each for each in self.processes if each.pid == pid), None)


@dataclass(frozen=True, slots=True)
class Failed:
    """An experiment that broke down: why.  Claims that need its result fail."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """The whole.

    manifest: what should be.  instants: at least one, oldest first; "loaded" is the one with
    every process alive.  machine: a process of the machine, not of the target (the observer):
    its namespaces are the machine's.  files, locks: below spool and mailboxes, under load.
    probes: (process name, probe's name) -> outcome; one process of each name was tried.
    modules: process name -> what it has loaded.  events: the journal's lines in their order.
    results: an experiment's name -> what it returned.
    """

    manifest: Manifest
    instants: tuple[Instant, ...]
    machine: Process | None = None
    files: tuple[File, ...] = ()
    locks: tuple[Lock, ...] = ()
    probes: Mapping[tuple[str, str], Outcome] = field(default_factory=dict)
    modules: Mapping[str, tuple[Module, ...]] = field(default_factory=dict)
    events: tuple[Mapping[str, object], ...] = ()
    results: Mapping[str, object] = field(default_factory=dict)

    def sightings(self) -> Iterator[tuple[Instant, Process]]:
        """Each process at each instant."""
        for instant in self.instants:
            for process in instant.processes:
                yield instant, process

    def outcomes(self, probe: str) -> dict[str, Outcome]:
        """Process name -> what became of that attempt there."""
        return {who: outcome for (who, what), outcome in self.probes.items() if what == probe}

    def result(self, experiment: str, form: type[_R]) -> _R:
        """What an experiment brought.  Raises Unavailable if it couldn't be made, RuntimeError if
        it broke down or brought something else.
        """
        found = self.results.get(experiment)
        if isinstance(found, Unavailable):
            raise found
        if isinstance(found, Failed):
            raise RuntimeError(f"the experiment {experiment} broke down: {found.reason}")
        if not isinstance(found, form):
            raise RuntimeError(f"the experiment {experiment} brought {type(found).__name__}")
        return found
