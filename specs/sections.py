"""What refmta-spec runs: sections, one per spec, each with explorations, enumerations, proofs and
controls, as far as the spec has them.

Subjects come from entry points, so that the specs import none of them:
- refmta.specs.stores: a factory of a CommitStore; enumerated in the section "persistence";
- refmta.specs.smtp_clients: a factory of a Client (specs.smtp_client.transcript); searched in the
  section "smtp_client";
- refmta.specs.proofs: a module for CrossHair; its section has the entry point's name;
- refmta.specs.controls: a factory of a list of Controls; a control for spec "a/b" is in section
  "a".

The specs' own controls are always there. A subject that cannot be loaded is a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import specs.evolution.controls
import specs.persistence.controls
import specs.queue.controls
import specs.queue.trace_controls
import specs.schedule.controls
from specs.kernel.control import Control, ControlResult, run_control
from specs.kernel.explore import Exploration, explore
from specs.kernel.proofs import ProofRun, prove
from specs.persistence.enumerate import Report, examine_all
from specs.persistence.expected import ExpectedError, Key, compare, expected
from specs.persistence.models import MODELS
from specs.persistence.protocols import CommitStore
from specs.persistence.workloads import WORKLOADS, apt
from specs.queue.spec import queue_spec
from specs.queue.states import Bounds
from specs.schedule.spec import schedule_spec
from specs.schedule.states import EXPLORED
from specs.smtp_client.spec import Bounds as ClientBounds
from specs.smtp_client.spec import client_spec
from specs.smtp_client.transcript import Client

STORES = "refmta.specs.stores"
SMTP_CLIENTS = "refmta.specs.smtp_clients"
PROOFS = "refmta.specs.proofs"
CONTROLS = "refmta.specs.controls"

QUEUE_BOUNDS = (
    Bounds(recipients=("ll", "ll"), resends=1, faults=1),
    Bounds(recipients=("ll",), resends=1, faults=2),
    Bounds(recipients=("ll",), resends=1, faults=1, patient=False),
    Bounds(recipients=("lr",), resends=1, faults=1, setbacks=1, followed=False),
    Bounds(recipients=("lr",), resends=1, faults=1, setbacks=1, null=True),
    Bounds(recipients=("r",), resends=1, faults=2, setbacks=1, followed=False),
    Bounds(recipients=("r",), resends=0, faults=1, setbacks=2),
    Bounds(recipients=("r", "l"), resends=0, faults=1, followed=False),
    Bounds(recipients=("r", "l"), resends=0, faults=0, setbacks=2),
)

CLIENT_BOUNDS = (
    ClientBounds(recipients=(3, 1)),
    ClientBounds(recipients=(2, 2, 1)),
    ClientBounds(recipients=(2, 1), eight_bit=True),
)


@dataclass(slots=True)
class Section:
    """One spec's results. `expected`: the violations that are known, and why."""

    name: str
    explorations: list[Exploration[Any]] = field(default_factory=list)
    enumerations: list[Report] = field(default_factory=list)
    expected: Mapping[Key, str] = field(default_factory=dict)
    proofs: list[ProofRun] = field(default_factory=list)
    controls: list[ControlResult] = field(default_factory=list)
    unavailable: list[str] = field(default_factory=list)

    def findings(self) -> list[str]:
        """Everything that does not hold, one line each."""
        found = list(self.unavailable)
        for exploration in self.explorations:
            found += [f"{exploration.bounds}: {what}" for what in exploration.findings()]
        found += map(str, compare(self.enumerations, self.expected))
        for run in self.proofs:
            found += [
                f"{run.module}.{proof.function}: {proof.verdict}: {proof.detail}"
                for proof in run.proofs
                if proof.is_finding
            ]
        found += [
            f"control {control.name}: {control.reason}"
            for control in self.controls
            if not control.counts
        ]
        return found


@dataclass(slots=True)
class Subjects:
    """What entry points have brought, and what could not be loaded."""

    stores: list[CommitStore] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)
    proofs: dict[str, str] = field(default_factory=dict)
    controls: list[Control] = field(default_factory=list)
    unavailable: dict[str, list[str]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Of all sections, in the order in which they run."""
        heads = [section_of(control) for control in self.controls]
        clients = ["smtp_client"] if self.clients else []
        own = ["queue", "schedule", "persistence", *clients]
        return list(dict.fromkeys([*own, *self.proofs, *heads, *self.unavailable]))


def section_of(control: Control) -> str:
    return control.spec.partition("/")[0]


def subjects() -> Subjects:
    """Load what is registered, and the specs' own controls."""
    found = Subjects(
        controls=[
            *specs.queue.controls.controls(),
            *specs.queue.trace_controls.controls(),
            *specs.persistence.controls.controls(),
            *specs.schedule.controls.controls(),
            *specs.evolution.controls.controls(),
        ]
    )
    for point in _registered(STORES):
        _load(found, point, "persistence", lambda make: found.stores.append(make()))
    for point in _registered(SMTP_CLIENTS):
        _load(found, point, "smtp_client", lambda make: found.clients.append(make()))
    for point in _registered(PROOFS):
        found.proofs[point.name] = point.value  # not imported here: CrossHair does
    for point in _registered(CONTROLS):
        _load(found, point, point.name, lambda make: found.controls.extend(make()))
    if not found.stores:
        found.unavailable.setdefault("persistence", []).append(f"no store registered as {STORES}")
    if "smtp_client" in found.names and not found.clients:
        found.unavailable.setdefault("smtp_client", []).append(f"none loaded as {SMTP_CLIENTS}")
    return found


def _registered(group: str) -> Iterable[EntryPoint]:
    return sorted(entry_points(group=group), key=lambda point: point.name)


def _load(found: Subjects, point: EntryPoint, section: str, take: Callable[[Any], None]) -> None:
    """Whatever a subject raises is a finding of its section."""
    try:
        take(point.load())
    except Exception as error:  # it is somebody else's code
        text = f"{point.group} {point.name} ({point.value}): {type(error).__name__}: {error}"
        found.unavailable.setdefault(section, []).append(text)


def run(
    found: Subjects, names: Iterable[str], proof_seconds: int | None = None
) -> Iterator[Section]:
    """The named sections, each when it is done. Proofs run beside all else, on another core."""
    chosen = list(names)
    with ThreadPoolExecutor(max_workers=1) as beside:
        proving = {
            name: beside.submit(prove, name, module, proof_seconds)
            for name, module in found.proofs.items()
            if name in chosen
        }
        for name in chosen:
            yield _section(found, name, proving.get(name))


def _section(found: Subjects, name: str, proving: Future[ProofRun] | None) -> Section:
    section = Section(name, unavailable=list(found.unavailable.get(name, ())))
    if name == "queue":
        section.explorations += [explore(queue_spec(bounds)) for bounds in QUEUE_BOUNDS]
    if name == "schedule":
        section.explorations += [explore(schedule_spec(each)) for each in EXPLORED]
    if name == "persistence":
        section.expected = _expected(section)
        for store in found.stores:
            section.enumerations += examine_all(store, MODELS, apt(store, WORKLOADS))
    if name == "smtp_client":
        section.explorations += [
            explore(client_spec(client, bounds))
            for client in found.clients
            for bounds in CLIENT_BOUNDS
        ]
    section.controls += [
        run_control(control) for control in found.controls if section_of(control) == name
    ]
    if proving is not None:
        section.proofs.append(proving.result())
    return section


def _expected(section: Section) -> Mapping[Key, str]:
    """The rows of expected.toml; if they can't be read, that is a finding, and there are none."""
    try:
        return expected()
    except (ExpectedError, OSError) as error:
        section.unavailable.append(f"the expected violations: {error}")
        return {}
