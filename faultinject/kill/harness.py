"""Kills as a harness of cases (`faultinject.cases`).

Settings of a case, all optional
    script    a name of `scripts.SCRIPTS`; all that the target can do
    fault     "kill", "twice", "tree" or "stop"; "kill"
    kind      of process, as the target calls it ("qmgr", "smtpd worker"); all
    numbers   [from, to]: calls; until they exceed the run
    every     only each so-manieth call, from the first: a sample
    jobs      servers side by side
    patience  seconds, for a 250 and again for an empty queue
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, cast

from faultinject import groups, networks, target
from faultinject.cases import Case, Outcome
from faultinject.kill import calls
from faultinject.kill.grip import GripError
from faultinject.kill.leftovers import NAME
from faultinject.kill.plan import Plan
from faultinject.kill.points import FAULTS, Fault, Point, Record
from faultinject.kill.scripts import SCRIPTS, possible
from faultinject.kill.siege import Result, Siege
from faultinject.kill.stand import PATIENCE_S
from faultinject.target import Target, TargetError

#: Numbers that a case is first narrowed to, when nothing is known of its length.
LONGEST: Final = 64
SETTINGS: Final = frozenset({"script", "fault", "kind", "numbers", "every", "jobs", "patience"})


class SettingsError(ValueError):
    """A setting is unknown, or wrong; the text says which."""


def unavailable() -> str | None:
    """Why nobody can be killed at a call here; None if they can."""
    if os.geteuid() != 0:
        return "processes of other users are traced: that needs root"
    return calls.unavailable()


def planned(settings: dict[str, Any], seed: int) -> Plan:
    """Raises SettingsError."""
    unknown = sorted(set(settings) - SETTINGS)
    if unknown:
        raise SettingsError(f"no such setting: {', '.join(unknown)}")
    script, fault = settings.get("script"), settings.get("fault", "kill")
    if script is not None and script not in SCRIPTS:
        raise SettingsError(f"no such script: {script} (there are: {', '.join(SCRIPTS)})")
    if fault not in FAULTS:
        raise SettingsError(f"no such fault: {fault} (there are: {', '.join(FAULTS)})")
    kind, numbers = settings.get("kind"), settings.get("numbers")
    return Plan(
        scripts=(script,) if script else tuple(SCRIPTS), faults=(cast(Fault, fault),),
        kinds=(str(kind),) if kind else None, numbers=_range(numbers), seed=seed,
        every=_count(settings, "every", 1), jobs=_count(settings, "jobs", 1),
        patience_s=float(_count(settings, "patience", int(PATIENCE_S))),
    )  # fmt: skip


def _range(numbers: object) -> tuple[int, int] | None:
    if numbers is None:
        return None
    if (
        isinstance(numbers, list | tuple)
        and len(numbers) == 2
        and all(isinstance(each, int) for each in numbers)
        and 1 <= numbers[0] <= numbers[1]
    ):
        return numbers[0], numbers[1]
    raise SettingsError(f"numbers: two of them, from 1, the first not above the second: {numbers}")


def _count(settings: dict[str, Any], name: str, default: int) -> int:
    value = settings.get(name, default)
    if not isinstance(value, int) or value < 1:
        raise SettingsError(f"{name}: a number from 1 is wanted: {value}")
    return value


def settings_of(point: Point) -> dict[str, Any]:
    """Those of a case that is nothing but this point."""
    found: dict[str, Any] = {
        "script": point.script, "fault": point.fault, "numbers": [point.number, point.number],
    }  # fmt: skip
    return found | ({"kind": point.kind} if point.kind else {})


def besiege(
    make: Callable[[], Target], plan: Plan, place: Path, record: Record, say: Callable[[str], None]
) -> Result:
    """All points of a plan, from the main thread.  Raises TargetError, GripError, OSError,
    KeyboardInterrupt.
    """
    siege = Siege(make, plan, place, record, say)
    with _network(make()):
        return groups.run(siege.run)


@contextmanager
def _network(chosen: Target) -> Iterator[None]:
    """One of its own, where nobody else takes the ports that servers are told; without the right to
    make one, this machine's, for a target that can do with it.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(networks.own())
        except networks.NetworkError:
            stack.enter_context(networks.around(chosen))
        yield


class KillHarness:
    """faultinject.cases.Harness."""

    name = NAME

    def plan(self, name: str, seed: int) -> Iterator[Case]:
        """A case for each fault and script; deaths of processes first."""
        try:
            can = possible(target.load(name).capabilities)
        except KeyError:
            return
        for fault in FAULTS:
            for script in can:
                yield Case(
                    harness=NAME, target=name, seed=seed,
                    settings={"script": script, "fault": fault},
                )  # fmt: skip

    def run(self, case: Case, place: Path) -> Outcome:
        began_s = time.monotonic()

        def missing(verdict: Any, reason: str) -> Outcome:
            return Outcome(
                case=case, verdict=verdict, reason=reason, seconds=time.monotonic() - began_s
            )

        try:
            server = target.load(case.target)
        except KeyError:
            return missing("unavailable", f"no such target: {case.target}")
        if (why := unavailable() or server.unavailable()) is not None:
            return missing("unavailable", why)
        try:
            plan = planned(case.settings, case.seed)
            if not {*plan.scripts} & {*possible(server.capabilities)}:
                return missing("unavailable", f"{case.target} can't do {', '.join(plan.scripts)}")
            place.chmod(0o711)
            result = besiege(
                lambda: target.load(case.target), plan, place, Record(None), lambda _: None
            )
        except (SettingsError, TargetError, GripError, OSError) as error:
            return missing("broken", str(error))
        return outcome(case, result, target.known(server, NAME), time.monotonic() - began_s)

    def smaller(self, case: Case) -> Iterator[Case]:
        """One kind of process each; then each half of the numbers."""

        def with_settings(**settings: Any) -> Case:
            return Case(
                harness=NAME, target=case.target, seed=case.seed,
                settings={**case.settings, **settings},
            )  # fmt: skip

        settings = case.settings
        if "kind" not in settings and settings.get("fault") != "tree":
            try:
                roles = target.load(case.target).roles
            except KeyError:
                return
            for role in roles:
                for part in ("", "worker", "template"):
                    yield with_settings(kind=f"{role} {part}".rstrip())
            return
        first, last = settings.get("numbers", [1, LONGEST])
        if "numbers" not in settings or first < last:
            middle = (first + last) // 2
            yield with_settings(numbers=[first, middle])
            yield with_settings(numbers=[middle + 1, last])


def outcome(case: Case, result: Result, known: dict[str, str], seconds: float) -> Outcome:
    """What a run says of its case."""
    findings = tuple(result.all_findings())
    found = [each for each in findings if each.name not in known]
    counts = {
        "points": len(result.trials), "hit": result.hit, "missed": len(result.missed),
        "messages": result.acknowledged, "findings": len(findings),
    }  # fmt: skip
    evidence = {
        "points.txt": "".join(
            f"{point}: before {trial.struck}'s {trial.call} {trial.place}".rstrip() + "\n"
            if trial.hit
            else f"{point}: not hit\n"
            for point, trial in sorted(result.trials.items())
        )
    }
    if findings:
        evidence["log.txt"] = result.log
    if not found and result.trials and not result.hit:
        return Outcome(
            case=case, verdict="broken", reason="no point was hit", counts=counts, seconds=seconds
        )
    return Outcome(
        case=case, verdict="found" if found else "held", findings=findings, counts=counts,
        evidence=evidence, seconds=seconds,
    )  # fmt: skip


def harness() -> KillHarness:
    """Entry point (refmta.faultinject.harnesses)."""
    return KillHarness()
