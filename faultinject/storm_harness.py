"""The storm (`storm`) as a harness of campaigns: each case is one storm.

    settings: messages, seconds, clients, drain_s

What finds most comes first: small storms with a kill each second find as much as large ones, and
sooner; so they begin small, each with a seed of its own, and grow.  A smaller storm has half of the
letters, or half of the time, or one client.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import trio

from faultinject import networks, show
from faultinject import target as targets
from faultinject.cases import Case, Outcome, Verdict
from faultinject.ledger import Finding
from faultinject.storm import Plan, Result, Storm
from faultinject.target import Target, TargetError

NAME: Final = "storm"
#: Of a plan.
STORMS: Final = 50
#: The first storm's letters and seconds; each is larger by as much as the first.
MESSAGES, SECONDS, DRAIN_S = 60, 4.0, 60.0
#: No storm is smaller.
FEWEST, SHORTEST_S = 4, 1.0
#: A role that was not hit says nothing of the server; a campaign has other storms.
CALM: Final = "too_calm"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of a case."""

    messages: int = MESSAGES
    seconds: float = SECONDS
    clients: int = 8
    drain_s: float = DRAIN_S


class StormHarness:
    """One way to inject faults (`faultinject.cases.Harness`)."""

    name = NAME

    def plan(self, target: str, seed: int) -> Iterator[Case]:
        """Growing storms."""
        for number in range(STORMS):
            size = 1 + number // 10
            yield _case(
                target, seed + number, Settings(messages=MESSAGES * size, seconds=SECONDS * size)
            )

    def smaller(self, case: Case) -> Iterator[Case]:
        """Half as many letters, half as long, one client: together, then one by one."""
        now = _settings(case)
        messages, seconds = max(FEWEST, now.messages // 2), max(SHORTEST_S, now.seconds / 2)
        candidates = (
            {"messages": messages, "seconds": seconds, "clients": 1},
            {"messages": messages, "seconds": seconds},
            {"messages": messages},
            {"seconds": seconds},
            {"clients": 1},
        )
        for changes in candidates:
            simpler = msgspec.structs.replace(now, **changes)
            if simpler != now:
                yield _case(case.target, case.seed, simpler)

    def run(self, case: Case, place: Path) -> Outcome:
        """A storm in that directory."""
        try:
            chosen = targets.load(case.target)
            settings = _settings(case)
        except KeyError:
            return Outcome(case=case, verdict="broken", reason=f"no such target: {case.target}")
        except msgspec.ValidationError as error:
            return Outcome(case=case, verdict="broken", reason=f"settings: {error}")
        why = chosen.unavailable()
        if why is not None:
            return Outcome(case=case, verdict="unavailable", reason=why)
        plan = Plan(
            messages=settings.messages, seconds=settings.seconds, clients=settings.clients,
            drain_s=settings.drain_s, seed=case.seed, hits=0,
        )  # fmt: skip
        said: list[str] = []
        site = place / "site"
        try:
            site.mkdir()
            with networks.around(chosen):
                result = trio.run(Storm(chosen, plan, site, said.append).run)
        except (TargetError, OSError, ExceptionGroup) as error:
            reason = "; ".join(_reasons(error))
            return Outcome(
                case=case, verdict="broken", reason=reason, evidence={"storm": "\n".join(said)}
            )
        return _outcome(case, chosen, result, said)


def _case(target: str, seed: int, settings: Settings) -> Case:
    return Case(harness=NAME, target=target, seed=seed, settings=msgspec.to_builtins(settings))


def _settings(case: Case) -> Settings:
    """Raises msgspec.ValidationError."""
    return msgspec.convert(case.settings, Settings)


def _outcome(case: Case, target: Target, result: Result, said: list[str]) -> Outcome:
    known = targets.known(target, NAME)
    findings = tuple(each for each in result.findings if each.name != CALM)
    verdict: Verdict = "found" if _surprising(findings, known) else "held"
    account = result.account
    evidence = {}
    if findings:
        report = json.dumps(show.as_json(result, known), indent=2)
        evidence = {"report": report, "log": target.log_end(), "storm": "\n".join(said)}
    return Outcome(
        case=case, verdict=verdict, findings=findings, evidence=evidence,
        counts={
            "kills": result.hits.total(), "messages": account.acknowledged,
            "recipients": account.delivered + account.reported, "restarts": result.restarts,
        },
    )  # fmt: skip


def _reasons(error: BaseException) -> Iterator[str]:
    """Of all that failed at once, in a nursery."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _reasons(each)
    else:
        yield f"{type(error).__name__}: {error}"


def _surprising(findings: tuple[Finding, ...], known: dict[str, str]) -> bool:
    return any(each.name not in known for each in findings)


def harness() -> StormHarness:
    """The storm."""
    return StormHarness()
