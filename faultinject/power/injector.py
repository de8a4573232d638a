"""Power cuts as a harness: a case is one round (`round`), run in a process of its own (`worker`).

    settings: fs, cuts, clients, recipients, least_octets, most_octets, pause_s, again_one_in,
              at_once, drain_s        (`records.Settings`)

A case that is run again sends the same letters in the same order, and cuts after the same pauses;
what the server was doing at that instant is chance, so that a finding may need several runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from faultinject import target as targets
from faultinject.cases import Case, Outcome, Verdict
from faultinject.ledger import Finding
from faultinject.power.images import KINDS, unavailable
from faultinject.power.records import Failed, Judged, Loaded, Request, Settings, Word, decode
from faultinject.power.round import tally
from faultinject.target import Target
from faultinject.workers import worker

NAME: Final = "power"
#: Of a plan, for each file system.
ROUNDS: Final = 50


class PowerHarness:
    """One way to inject faults (`faultinject.cases.Harness`).  on_word: is told of each word."""

    name = NAME

    def __init__(self, on_word: Callable[[Word], None] = lambda _: None) -> None:
        self.on_word = on_word

    def plan(self, target: str, seed: int) -> Iterator[Case]:
        """Rounds on each file system in turn, each with a seed of its own."""
        for number in range(ROUNDS):
            for fs in KINDS:
                yield case(target, seed + number, Settings(fs=fs))

    def smaller(self, case: Case) -> Iterator[Case]:
        """Fewer cuts, then one client, one mailbox, small messages, no second cuts."""
        now = settings_of(case)
        changes: tuple[dict[str, int], ...] = (
            {"cuts": max(1, now.cuts // 4), "again_one_in": 0, "clients": 1},
            {"cuts": max(1, now.cuts // 2)},
            {"again_one_in": 0},
            {"clients": 1},
            {"recipients": 1},
            {"most_octets": now.least_octets},
        )
        for each in changes:
            simpler = msgspec.structs.replace(now, **each)
            if simpler != now:
                yield Case(
                    harness=NAME, target=case.target, seed=case.seed,
                    settings=msgspec.to_builtins(simpler),
                )  # fmt: skip

    def run(self, case: Case, place: Path) -> Outcome:
        """A round in that directory."""
        try:
            settings, chosen = settings_of(case), targets.load(case.target)
        except KeyError:
            return Outcome(case=case, verdict="broken", reason=f"no such target: {case.target}")
        except msgspec.ValidationError as error:
            return Outcome(case=case, verdict="broken", reason=f"settings: {error}")
        wrong = settings.wrong()
        if wrong is not None:
            return Outcome(case=case, verdict="broken", reason=f"settings: {wrong}")
        why = unavailable(KINDS[settings.fs]) or chosen.unavailable()
        if why is not None:
            return Outcome(case=case, verdict="unavailable", reason=why)
        words, complaints = self._work(case, settings, place)
        return outcome(case, chosen, words, complaints)

    def _work(self, case: Case, settings: Settings, place: Path) -> tuple[list[Word], str]:
        """Everything that the worker says."""
        request = Request(
            target=case.target, seed=case.seed, settings=settings, place=str(place.absolute())
        )
        words: list[Word] = []
        with worker("faultinject.power.worker", msgspec.json.encode(request)) as running:
            for line in running.words():
                words.append(decode(line))
                self.on_word(words[-1])
            said, status = running.complaints(), running.status
        if status:
            words.append(Failed(reason=f"the worker ended with code {status}: {said}".strip()))
        return words, said


def case(target: str, seed: int, settings: Settings) -> Case:
    """One round."""
    return Case(harness=NAME, target=target, seed=seed, settings=msgspec.to_builtins(settings))


def settings_of(case: Case) -> Settings:
    """Raises msgspec.ValidationError."""
    return msgspec.convert(case.settings, Settings)


def outcome(case: Case, target: Target, words: list[Word], complaints: str) -> Outcome:
    """What the words come to.  A clone without a verdict makes the round broken."""
    known = targets.known(target, NAME)
    judged = [each for each in words if isinstance(each, Judged)]
    failed = [each.reason for each in words if isinstance(each, Failed)]
    findings = tuple(
        Finding(name=name, text=f"{_where(case, each)}: {text}")
        for each in judged
        for name, text in each.examples
    )
    verdict: Verdict = "held"
    if failed or not judged:
        verdict = "broken"
    if any(each.name not in known for each in findings):
        verdict = "found"
    reason = "; ".join(dict.fromkeys(failed)) or ("" if judged else "nothing was judged")
    return Outcome(
        case=case, verdict=verdict, findings=findings, reason=reason, counts=tally(words),
        evidence=_evidence(judged, complaints if failed else ""),
        seconds=sum(each.seconds for each in words if isinstance(each, Loaded)),
    )  # fmt: skip


def _where(case: Case, judged: Judged) -> str:
    again = ", cut again while it recovered" if judged.again else ""
    return f"{case.settings.get('fs', Settings().fs)}, cut {judged.number}{again}"


def _evidence(judged: list[Judged], complaints: str) -> dict[str, str]:
    """The log of the first clone with a finding; and what went wrong here."""
    evidence = {"worker": complaints} if complaints else {}
    for each in judged:
        if each.log:
            evidence["log"] = f"cut {each.number}:\n{each.log}"
            break
    return evidence


def harness() -> PowerHarness:
    """Entry point."""
    return PowerHarness()
