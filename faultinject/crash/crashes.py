"""Crash states as a harness of cases (`faultinject.cases`).

Settings of a case, all optional
    part      "stores" (in process, by the server's own code) or "live" (the server itself)
    scene     "one" letter or "two" at once; both
    state     the number of one state of that scene; all that are chosen
    most      minimal states tried per scene; 1000
    samples   further ones by chance, per scene; 10
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from faultinject import target, tracing
from faultinject.cases import Case, Outcome, Verdict
from faultinject.crash import confirm, stores, worker
from faultinject.crash.live import Lived
from faultinject.crash.recorder import SCENES
from faultinject.ledger import Finding
from faultinject.target import TargetError
from specs.persistence.expected import ExpectedError, expected

NAME: Final = "crash"
SETTINGS: Final = frozenset({"part", "scene", "state", "most", "samples"})
MOST, SAMPLES = 1_000, 10


class SettingsError(ValueError):
    """A setting is unknown, or wrong; the text says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done. parts: "stores", "live"; none: all that the target has."""

    parts: tuple[str, ...] = ()
    scenes: tuple[str, ...] = tuple(SCENES)
    state: int | None = None
    most: int = MOST
    samples: int = SAMPLES
    seed: int = 0


@dataclass(slots=True, kw_only=True)
class Result:
    """unavailable: part -> why there is none.  confirmed: whether the plan was seen by strace."""

    target: str
    plan: Plan
    enumerated: stores.Enumerated | None = None
    lived: Lived | None = None
    confirmed: confirm.Confirmed | None = None
    unavailable: dict[str, str] = field(default_factory=dict)

    def findings(self) -> list[Finding]:
        """All of them, known ones too."""
        found = []
        if self.enumerated is not None:
            found += [
                Finding(name=_NAMES.get(each.invariant, each.invariant), text=str(each))
                for each in self.enumerated.findings
                if each.kind == "violation"
            ]
        if self.lived is not None:
            found += [each.finding for each in self.lived.shown.values()]
        if self.confirmed is not None and self.confirmed.difference:
            found.append(Finding(name="unplanned", text=self.confirmed.difference))
        return found


NOTHING: Final = "no state was tried: there is none such"
#: Invariants by the names that the ledger has for the same.
_NAMES: Final = {"acknowledged_present": "lost", "visible_is_complete": "altered"}


def known(name: str) -> dict[str, str]:
    """Name of a finding -> why it is known: of the target, and what is expected of its stores."""
    found = target.known(target.load(name), NAME)
    own = stores.of(name)
    names = [each.name for each in own.stores(name.partition(":")[2])] if own is not None else []
    for (store, model, invariant), why in expected().items():
        if store in names and invariant in _NAMES:
            found.setdefault(f"{_NAMES[invariant]} under {model.partition(' ')[0]}", why)
    return found


def planned(settings: dict[str, Any], seed: int) -> Plan:
    """Raises SettingsError."""
    unknown = sorted(set(settings) - SETTINGS)
    if unknown:
        raise SettingsError(f"no such setting: {', '.join(unknown)}")
    part, scene = settings.get("part"), settings.get("scene")
    if part not in (None, "stores", "live"):
        raise SettingsError(f"part: stores or live, not {part}")
    if scene is not None and scene not in SCENES:
        raise SettingsError(f"scene: one of {', '.join(SCENES)}, not {scene}")
    return Plan(
        parts=(part,) if part else (), scenes=(scene,) if scene else tuple(SCENES),
        state=_count(settings, "state", None), most=_count(settings, "most", MOST) or 0,
        samples=_count(settings, "samples", SAMPLES) or 0, seed=seed,
    )  # fmt: skip


def _count(settings: dict[str, Any], name: str, default: int | None) -> int | None:
    value = settings.get(name, default)
    if value is not None and (not isinstance(value, int) or value < 0):
        raise SettingsError(f"{name}: a number from 0 is wanted: {value}")
    return value


def unavailable(name: str) -> str | None:
    """Why that server can't be started on crash states here; None if it can."""
    if os.geteuid() != 0:
        return "files of several users are written: that needs root"
    return tracing.unavailable() or target.load(name).unavailable()


def crash_states(name: str, plan: Plan, place: Path, say: Callable[[str], None]) -> Result:
    """Raises KeyError, TargetError, tracing.Unavailable, ExpectedError, OSError."""
    server, own = target.load(name), stores.of(name)
    parts = plan.parts or (("stores", "live") if own is not None else ("live",))
    found = Result(target=server.name, plan=plan)
    if "stores" in parts:
        if own is None:
            found.unavailable["stores"] = "its code is not to be had in process"
        else:
            say(f"{server.name}: every state of its stores, recovered in process")
            found.enumerated = stores.enumerated(own.stores(name.partition(":")[2]))
    why = unavailable(name) if "live" in parts else None
    if why is not None:
        found.unavailable["live"] = why
    elif "live" in parts:
        request = worker.Request(
            target=name, place=str(place.absolute()), seed=plan.seed, scenes=plan.scenes,
            most=plan.most, samples=plan.samples, state=plan.state,
        )  # fmt: skip
        told = worker.run(request, say)
        found.lived, found.confirmed = told.lived(), told.confirmed
    return found


class CrashHarness:
    """faultinject.cases.Harness."""

    name = NAME

    def plan(self, name: str, seed: int) -> Iterator[Case]:
        """The stores first: they are the quickest; then each scene."""
        parts: list[dict[str, Any]] = [{"part": "live", "scene": scene} for scene in SCENES]
        if stores.of(name) is not None:
            parts.insert(0, {"part": "stores"})
        for settings in parts:
            yield Case(harness=NAME, target=name, seed=seed, settings=settings)

    def run(self, case: Case, place: Path) -> Outcome:
        began_s = time.monotonic()

        def ended(verdict: Verdict, reason: str) -> Outcome:
            seconds = time.monotonic() - began_s
            return Outcome(case=case, verdict=verdict, reason=reason, seconds=seconds)

        try:
            target.load(case.target)
        except KeyError:
            return ended("unavailable", f"no such target: {case.target}")
        try:
            plan = planned(case.settings, case.seed)
            place.chmod(0o711)
            result = crash_states(case.target, plan, place, lambda _: None)
        except tracing.Unavailable as error:
            return ended("unavailable", str(error))
        except (SettingsError, TargetError, ExpectedError, OSError) as error:
            return ended("broken", str(error))
        found = outcome(case, result, time.monotonic() - began_s)
        if result.unavailable and found.verdict == "held":
            return ended("unavailable", "; ".join(result.unavailable.values()))
        return found

    def smaller(self, case: Case) -> Iterator[Case]:
        """The state that shows it, alone: known from a run of this case's evidence."""
        settings = case.settings
        if settings.get("part") != "live" or "state" in settings:
            return
        for scene in (settings["scene"],) if "scene" in settings else tuple(SCENES):
            for samples in (0, SAMPLES):
                if settings.get("samples", SAMPLES) > samples or "scene" not in settings:
                    smaller = settings | {"scene": scene, "samples": samples}
                    yield Case(harness=NAME, target=case.target, seed=case.seed, settings=smaller)


def nothing_tried(result: Result) -> bool:
    """No state at all: there was none of that number, say."""
    tried = ("minimal states tried", "sampled states tried")
    lived = sum(result.lived.counts[each] for each in tried) if result.lived else 0
    return not lived and result.lived is not None and result.enumerated is None


def outcome(case: Case, result: Result, seconds: float) -> Outcome:
    """The verdict: what the target is known to do is not found."""
    if nothing_tried(result):
        return Outcome(case=case, verdict="broken", reason=NOTHING, seconds=seconds)
    accepted = known(case.target)
    findings = result.findings()
    found = any(each.name not in accepted for each in findings)
    return Outcome(
        case=case, verdict="found" if found else "held", findings=tuple(findings),
        counts=counts(result), evidence=evidence(result), seconds=seconds,
    )  # fmt: skip


def counts(result: Result) -> dict[str, int]:
    """By name."""
    found = {}
    if result.enumerated is not None:
        found["disks recovered"] = result.enumerated.distinct
        found["disks per second"] = result.enumerated.per_second
    if result.lived is not None:
        found |= dict(result.lived.counts)
    return found


def evidence(result: Result) -> dict[str, str]:
    """File name -> text."""
    found = {}
    if result.enumerated is not None:
        for report, invariant, example in result.enumerated.stories():
            story = "\n".join([example.detail, *example.story])
            found[f"{report.store}-{report.model}-{invariant}.txt".replace(" ", "-")] = story
    if result.lived is not None:
        for name, shown in result.lived.shown.items():
            where = f"scene {shown.scene}, state {shown.number}"
            found[f"{name}.txt"] = "\n".join([shown.finding.text, where, *shown.story])
        if result.lived.shown:
            found["log.txt"] = result.lived.log
        for scene, operations in result.lived.operations.items():
            found[f"operations-{scene}.txt"] = "\n".join(operations)
    return found


def harness() -> CrashHarness:
    """Entry point (refmta.faultinject.harnesses)."""
    return CrashHarness()
