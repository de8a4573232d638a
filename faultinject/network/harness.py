"""Faults of the network as a harness: a case is one trial, of one target, with some destinations.

Settings of a case
    group      of `places.GROUPS`, or one of `SPECIAL`; or
    bad        the names of the bad destinations themselves
    burst      letters for each of them
    live       letters to honest destinations, each time
    seconds    how long the fault lasts
    isolates   whether isolation is judged: for one bad destination
    paces      whether the schedule of retries is judged: for destinations that fail at once
    prompt     whether a final outcome must come while the fault lasts
    wave       so many destinations have their letters at once; 0: all
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec

from faultinject import cases, groups, networks, target
from faultinject.cases import Case, Outcome
from faultinject.network import places, schedules, verdicts
from faultinject.network.trial import Plan, Seen, Trial
from faultinject.target import Target, TargetError

NAME: Final = "network"
#: Where one bad destination must not delay the others: all that hang, and how much mail there is.
ISOLATING: Final = (
    "smtp-silence-at-greeting", "smtp-silence-at-final", "smtp-half-open-at-data",
    "tcp-black-hole", "dns-silent",
)  # fmt: skip
BURST: Final = 40
#: They fail at once, each at another stage; so what passes between two visits is a pause.
PACED: Final = (
    "smtp-4yz-at-greeting", "smtp-close-at-greeting", "smtp-4yz-at-mail", "smtp-421-at-rcpt",
    "smtp-reset-at-data", "smtp-4yz-at-final",
)  # fmt: skip
#: Beside `places.GROUPS`.
SPECIAL: Final[Mapping[str, dict[str, Any]]] = {
    "schedule": {"bad": PACED, "paces": True, "seconds": 13.0, "live": 4},
    **{
        f"isolation-{name}": {"bad": (name,), "isolates": True, "burst": BURST, "seconds": 4.0}
        for name in ISOLATING
    },
    "all": {"bad": tuple(places.ALLOWED), "seconds": 15.0, "prompt": False, "wave": 24},
}
#: Where many hang at once, and where a name server is waited for.
OF_GROUPS: Final[Mapping[str, dict[str, Any]]] = {
    "silences": {"prompt": False, "seconds": 10.0},
    "deceit": {"prompt": False, "seconds": 10.0},
    "names": {"seconds": 10.0},
    "names-failing": {"seconds": 10.0},
    "names-lying": {"prompt": False, "seconds": 10.0},
}
#: What a plan has: everything, once.
GROUPS: Final = (*places.GROUPS, *(name for name in SPECIAL if name != "all"))


class SettingsError(ValueError):
    """A case's settings are wrong; the text says which."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As in a case file; what is absent is the group's, or the default."""

    group: str = ""
    bad: tuple[str, ...] | None = None
    burst: int | None = None
    live: int | None = None
    seconds: float | None = None
    isolates: bool | None = None
    paces: bool | None = None
    prompt: bool | None = None
    wave: int | None = None


def plan_of(case: Case) -> Plan:
    """Raises SettingsError."""
    try:
        settings = msgspec.convert(case.settings, Settings)
    except msgspec.ValidationError as error:
        raise SettingsError(f"settings of {NAME}: {error}") from None
    given = {
        name: value
        for name in ("bad", "burst", "live", "seconds", "isolates", "paces", "prompt", "wave")
        if (value := getattr(settings, name)) is not None
    }
    plan = Plan(**{**_of_group(settings.group), **given}, seed=case.seed)
    unknown = [each for each in plan.bad if each not in places.ALLOWED]
    if unknown:
        raise SettingsError(f"no such destination: {unknown[0]} (--list shows them)")
    if not plan.bad:
        raise SettingsError("no bad destination: say a group, or which")
    if not (1 <= plan.burst <= 1000 and 1 <= plan.live <= 1000 and 0 < plan.seconds <= 3600):
        raise SettingsError("burst and live are from 1 to 1000, seconds at most 3600")
    if plan.wave < 0:
        raise SettingsError("wave is a number of destinations, or 0")
    if plan.isolates and len(plan.bad) != 1:
        raise SettingsError("isolation is judged beside one bad destination")
    return plan


def _of_group(group: str) -> dict[str, Any]:
    if not group:
        return {"bad": ()}
    if group in SPECIAL:
        return dict(SPECIAL[group])
    if group in places.GROUPS:
        return {"bad": places.GROUPS[group], **OF_GROUPS.get(group, {})}
    names = ", ".join((*places.GROUPS, *SPECIAL))
    raise SettingsError(f"no such group: {group} (there are: {names})")


def unavailable() -> str | None:
    """Why no trial can run here; None if it can."""
    return "a network of its own needs root" if os.geteuid() != 0 else None


class NetworkHarness:
    """faultinject.cases.Harness."""

    name = NAME

    def plan(self, name: str, seed: int) -> Iterator[Case]:
        """A case for each group."""
        for group in GROUPS:
            yield Case(harness=NAME, target=name, seed=seed, settings={"group": group})

    def run(self, case: Case, place: Path) -> Outcome:
        try:
            server = target.load(case.target)
        except KeyError:
            return Outcome(
                case=case, verdict="unavailable", reason=f"no such target: {case.target}"
            )
        return run_on(server, case, place)

    def smaller(self, case: Case) -> Iterator[Case]:
        """Each half of the destinations; then fewer letters, then less time."""
        plan = plan_of(case)

        def with_settings(**changes: Any) -> Case:
            kept = {
                "bad": list(plan.bad), "burst": plan.burst, "live": plan.live,
                "seconds": plan.seconds, "isolates": plan.isolates, "paces": plan.paces,
                "prompt": plan.prompt, "wave": plan.wave,
            }  # fmt: skip
            return Case(
                harness=NAME, target=case.target, seed=case.seed, settings={**kept, **changes}
            )

        middle = len(plan.bad) // 2
        if middle:
            yield with_settings(bad=list(plan.bad[:middle]))
            yield with_settings(bad=list(plan.bad[middle:]))
        for name, least in (("burst", 1), ("live", 1)):
            if (now := getattr(plan, name)) > least:
                yield with_settings(**{name: max(least, now // 2)})


def run_on(
    server: Target, case: Case, place: Path, say: Callable[[str], None] = lambda _: None,
    **changes: Any,
) -> Outcome:  # fmt: skip
    """One case against that server.  changes: of its plan."""
    began_s = time.monotonic()

    def without(verdict: cases.Verdict, reason: str) -> Outcome:
        return Outcome(
            case=case, verdict=verdict, reason=reason, seconds=time.monotonic() - began_s
        )

    why = unavailable() or server.unavailable()
    if why is None and "remote" not in server.capabilities:
        why = f"{case.target} sends no mail to other hosts"
    if why is not None:
        return without("unavailable", why)
    try:
        plan = replace(plan_of(case), **changes)
        site = place / "site"
        site.mkdir()
        for directory in (place, site):
            directory.chmod(0o711)
        with networks.own():
            seen = groups.run(Trial(server, plan, site, say).run)
    except (SettingsError, TargetError, OSError) as error:
        return without("broken", str(error))
    return outcome(case, seen, server, time.monotonic() - began_s)


def outcome(case: Case, seen: Seen, server: Target, seconds: float) -> Outcome:
    """What a trial says of its case."""
    known = target.known(server, NAME)
    findings = tuple(verdicts.all_findings(seen, case.target))
    found = [each for each in findings if each.name not in known]
    became = Counter(each.outcome for each in verdicts.fates(seen))
    counts = {
        "destinations": len(seen.plan.bad), "messages": seen.acknowledged,
        **{f"{name} while it lasted": number for name, number in sorted(became.items())},
        "live letters beside it": seen.arrived, "open then": seen.hung,
        "queued then": seen.waiting, "never met": len(seen.unmet),
        "milliseconds alone": round(seen.alone_s * 1000),
        "milliseconds beside it": round(seen.beside_s * 1000), "findings": len(findings),
    }  # fmt: skip
    return Outcome(
        case=case, verdict="found" if found else "held", findings=findings, counts=counts,
        evidence=_evidence(seen, server, findings), seconds=seconds,
    )  # fmt: skip


def _evidence(seen: Seen, server: Target, findings: tuple[Any, ...]) -> dict[str, str]:
    rows = []
    fates: dict[str, Counter[str]] = {}
    for fate in verdicts.fates(seen):
        fates.setdefault(fate.destination, Counter())[fate.outcome] += 1
    for name in seen.plan.bad:
        became = ", ".join(f"{count} {what}" for what, count in fates.get(name, {}).items())
        allowed = "/".join(sorted(places.ALLOWED[name]))
        visited = ""
        if name in seen.hosts.hops:
            pauses = schedules.pauses(verdicts.visits(seen, name))
            visited = f"; {len(seen.hosts.hops[name].attempts)} attempts, pauses {list(pauses)} s"
        rows.append(f"{name}: {became or 'nothing'} (allowed: {allowed}){visited}")
    evidence = {"destinations.txt": "\n".join([*rows, f"trace: {seen.trace}", ""])}
    if seen.plan.paces:
        schedule = schedules.schedule_of(server.name)
        evidence["schedule.txt"] = f"{schedule.says if schedule else 'not known'}\n"
    if findings:
        evidence["log.txt"] = server.log_end()
        evidence["findings.json"] = json.dumps(
            [{"name": each.name, "text": each.text} for each in findings], indent=2
        )
    return evidence


def harness() -> NetworkHarness:
    """Entry point (refmta.faultinject.harnesses)."""
    return NetworkHarness()
