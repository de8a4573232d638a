"""Disk faults as a harness: a case is one fault, swept over one target.

Settings of a case: `fault` (a row of `faults.FAULTS`), and of `Limits` what is to be narrowed.  A
finding's evidence has the case of its step, to be run again by itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import msgspec

from faultinject import cases, groups, networks, target, tracing
from faultinject.cases import Case, Outcome
from faultinject.disk import room
from faultinject.disk.faults import FAULTS, Fault
from faultinject.disk.room import Room, RoomError
from faultinject.disk.steps import Limits, Made, Swept
from faultinject.disk.sweep import Sweep
from faultinject.target import Target, TargetError
from faultinject.tracing import TracingError, Unavailable

NAME: Final = "disk"
#: Which file system a way of a fault needs.
ROOMS: Final = {"space": "ext4", "inodes": "ext4", "read-only": "ext4", "quota": "btrfs"}
#: Numbers to which a case is narrowed, one by one; beyond them by halves, up to the last.
NARROW, FAR = 8, 64
#: Settings that name calls: where there is none such, nothing was shown.
NARROWING: Final = frozenset({"role", "call", "first"})


class SettingsError(ValueError):
    """A case's settings are wrong; the text says which."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As in a case file."""

    fault: str
    role: str = ""
    call: str = ""
    first: int = 0
    last: int | None = None
    sample: int = 0

    @property
    def limits(self) -> Limits:
        """Without the fault."""
        return Limits(
            role=self.role, call=self.call, first=self.first, last=self.last, sample=self.sample
        )


def settings_of(case: Case) -> Settings:
    """Raises SettingsError."""
    try:
        found = msgspec.convert(case.settings, Settings)
    except msgspec.ValidationError as error:
        raise SettingsError(f"settings of {NAME}: {error}") from None
    if found.fault not in FAULTS:
        raise SettingsError(f"no such disk fault: {found.fault} (there are: {', '.join(FAULTS)})")
    return found


def unavailable(fault: Fault) -> str | None:
    """Why it can't be brought about here; None if it can."""
    if os.geteuid() != 0:
        return "processes of other users are traced: that needs root"
    if (why := tracing.unavailable()) is not None:
        return why
    return room.unavailable(ROOMS[fault.way]) if fault.way in ROOMS else None


class DiskHarness:
    """faultinject.cases.Harness."""

    name = NAME

    def plan(self, name: str, seed: int) -> Iterator[Case]:
        """A case for each fault."""
        for fault in FAULTS:
            yield Case(harness=NAME, target=name, seed=seed, settings={"fault": fault})

    def run(self, case: Case, place: Path) -> Outcome:
        try:
            server = target.load(case.target)
        except KeyError:
            return Outcome(
                case=case, verdict="unavailable", reason=f"no such target: {case.target}"
            )
        return run_on(server, case, place)

    def smaller(self, case: Case) -> Iterator[Case]:
        """One number, then one call, then one kind of process."""
        settings = settings_of(case)
        fault = FAULTS[settings.fault]

        def narrowed(**changes: Any) -> Case:
            return Case(
                harness=NAME, target=case.target, seed=case.seed,
                settings={**case.settings, "sample": 0, **changes},
            )  # fmt: skip

        if settings.last is None or settings.last > settings.first:
            yield from (narrowed(first=one, last=one) for one in range(NARROW))
            first, last = (
                max(settings.first, NARROW),
                FAR if settings.last is None else settings.last,
            )
            if first <= last:
                middle = (first + last) // 2
                yield narrowed(first=first, last=middle)
                yield narrowed(first=middle + 1, last=last)
        elif fault.way == "error" and not settings.call:
            yield from (narrowed(call=call) for call in fault.calls)
        elif fault.way == "error" and not settings.role:
            yield from (narrowed(role=role) for role in _kinds(case.target))


def _kinds(name: str) -> list[str]:
    """Of processes, as the target may call them."""
    try:
        roles = target.load(name).roles
    except KeyError:
        return []
    return [f"{role} {part}".rstrip() for role in roles for part in ("", "worker", "template")]


def run_on(
    server: Target, case: Case, place: Path, say: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> Outcome:  # fmt: skip
    """One case against that server.  options: of Sweep."""

    def without(verdict: cases.Verdict, reason: str) -> Outcome:
        return Outcome(case=case, verdict=verdict, reason=reason)

    try:
        settings = settings_of(case)
        fault = FAULTS[settings.fault]
        if (why := unavailable(fault) or server.unavailable()) is not None:
            return without("unavailable", why)
        place.chmod(0o711)
        with ExitStack() as stack:
            own = None
            if fault.way in ROOMS:
                own = stack.enter_context(Room(ROOMS[fault.way], place / "room"))
            stack.enter_context(networks.around(server))
            sweep = Sweep(
                server, fault, settings.limits, case.seed, place, say, room=own, **options
            )
            swept = groups.run(sweep.run)
    except Unavailable as error:
        return without("unavailable", str(error))
    except (SettingsError, TargetError, TracingError, RoomError, OSError) as error:
        return without("broken", str(error))
    return outcome(case, swept, target.known(server, NAME))


def outcome(case: Case, swept: Swept, known: dict[str, str]) -> Outcome:
    """What a sweep says of its case."""
    found = [each for each in swept.findings if each.name not in known]
    hits = sum(made.hits for made in swept.steps)
    counts = {
        "planned": swept.planned, "steps": len(swept.steps), "hits": hits,
        "elsewhere": sum(made.elsewhere for made in swept.steps),
        "missed": sum(made.missed for made in swept.steps),
        "blurred": sum(len(made.blurred) for made in swept.steps),
        "acknowledged": swept.account.acknowledged,
        **{f"answer: {name}": count for name, count in sorted(swept.answers.items())},
        "findings": len(swept.findings),
    }  # fmt: skip
    if not found and swept.planned and not any(made.met for made in swept.steps):
        return Outcome(case=case, verdict="broken", reason="no step hit anything", counts=counts)
    if not found and not swept.planned and NARROWING & {*case.settings}:
        return Outcome(case=case, verdict="broken", reason="no such call is made", counts=counts)
    return Outcome(
        case=case, verdict="found" if found else "held", findings=tuple(swept.findings),
        reason="" if swept.planned else "the server makes no call that could fail so",
        counts=counts, evidence=_evidence(case, swept),
    )  # fmt: skip


def _evidence(case: Case, swept: Swept) -> dict[str, str]:
    evidence = {"steps.txt": "".join(f"{_told(made)}\n" for made in swept.steps)}
    for made in swept.steps:
        for finding in made.findings:
            name = f"case-{finding.name}.json"
            if name not in evidence:
                evidence[name] = cases.encode(case_of(case, made)).decode()
    return evidence


def _told(made: Made) -> str:
    answers = ", ".join(f"{count} {name}" for name, count in sorted(made.answers.items()))
    found = ", ".join(each.name for each in made.findings)
    blurred = ", ".join(made.blurred)
    elsewhere = f" ({made.elsewhere} elsewhere)" if made.elsewhere else ""
    return (
        f"{made.step}: hits {made.hits}{elsewhere}; {answers}; {made.seconds:.2f} s"
        f"{f'; FOUND {found}' if found else ''}"
        f"{f'; blurred {blurred}' if blurred else ''}"
    )


def case_of(case: Case, made: Made) -> Case:
    """That step alone."""
    number = made.step.number
    settings = {"fault": case.settings["fault"], "first": number, "last": number}
    settings |= {name: text for name, text in _whose(made).items() if text}
    return Case(harness=NAME, target=case.target, seed=case.seed, settings=settings)


def _whose(made: Made) -> dict[str, str]:
    return {"role": made.step.role, "call": made.step.call}


def harness() -> DiskHarness:
    """Entry point (refmta.faultinject.harnesses)."""
    return DiskHarness()
