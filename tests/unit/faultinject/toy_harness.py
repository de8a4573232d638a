"""Harnesses that do at once, and surely, what real ones do seldom: find, fail, hang, die, leak.

The target's name says what happens:

    sound         nothing is found
    buggy         a case that has both of BUG among its `faults` loses mail; each names its evidence
    known         the same, and it is known
    absent        unavailable
    raising       the harness raises
    dying         the process that runs it is killed
    hanging       it never ends
    leaking       it leaves a process of another session, and a mount
    clinging      the same, and it never ends
    nasty         like buggy; its evidence is made to break a page
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from faultinject.cases import Case, Outcome
from faultinject.ledger import Finding

BUG = frozenset({3, 7})
#: A run of the tests says here which it is, so that it knows its own leaks.
RUN = "REFMTA_TOYS_RUN"
HANG_S = 86477
NASTY = """</script><script>document.title = "owned"</script><img src=x onerror="alert(1)">
\u2028 ]]> --> &amp; \x00 \x1b[31m \ud800"""


class ToyHarness:
    """name: any; cases: how many of a plan; naps_s: how long each takes."""

    def __init__(self, name: str = "toys", cases: int = 6, nap_s: float = 0.0) -> None:
        self.name, self.cases, self.nap_s = name, cases, nap_s

    def plan(self, target: str, seed: int) -> Iterator[Case]:
        """Each with ten of twelve faults; whether BUG is among them is the seed's to say."""
        random = Random(seed)
        for number in range(self.cases):
            faults = sorted(random.sample(range(12), 10))
            yield self._case(target, seed + number, faults)

    def _case(self, target: str, seed: int, faults: list[int]) -> Case:
        return Case(harness=self.name, target=target, seed=seed, settings={"faults": faults})

    def smaller(self, case: Case) -> Iterator[Case]:
        """Without one half of the faults, or the other; without one of them."""
        faults = case.settings["faults"]
        half = len(faults) // 2
        for fewer in (
            faults[:half],
            faults[half:],
            *(faults[:n] + faults[n + 1 :] for n in range(len(faults))),
        ):
            if fewer and fewer != faults:
                yield self._case(case.target, case.seed, fewer)

    def run(self, case: Case, place: Path) -> Outcome:
        """See above."""
        (place / "trace").write_text("here")
        time.sleep(self.nap_s)
        match case.target:
            case "absent":
                return Outcome(case=case, verdict="unavailable", reason="it is not installed")
            case "raising":
                raise RuntimeError("out of order")
            case "dying":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hanging":
                _hang()
            case "leaking":
                _leak(place)
            case "clinging":
                _leak(place)
                _hang()
        faults = case.settings["faults"]
        counts = {"points": len(faults)}
        if case.target not in ("buggy", "known", "nasty") or not set(faults) >= BUG:
            return Outcome(case=case, verdict="held", counts=counts)
        text = NASTY if case.target == "nasty" else f"message {case.seed} is nowhere"
        return Outcome(
            case=case, verdict="held" if case.target == "known" else "found", counts=counts,
            findings=(Finding(name="lost", text=text),),
            evidence={"log": text, "operations": "\n".join(map(str, faults))},
        )  # fmt: skip


def _hang() -> None:
    print("it hangs", flush=True)
    while True:
        try:
            time.sleep(HANG_S)
        except KeyboardInterrupt:  # and is not asked in vain only
            continue


def leaks() -> tuple[str, str]:
    """What a leaked process sleeps for, and the name of a leaked mount: nothing else has these."""
    run = os.environ.get(RUN, "0")
    return f"{HANG_S}.{run}", f"leak-{run}"


def _leak(place: Path) -> None:
    seconds, name = leaks()
    subprocess.Popen(["sleep", seconds], start_new_session=True)
    subprocess.run(["mount", "-t", "tmpfs", name, str(place)], check=True)


def toys() -> ToyHarness:
    return ToyHarness()


def more_toys() -> ToyHarness:
    """Another fault, another column."""
    return ToyHarness("more-toys", cases=3)


def slow_toys() -> ToyHarness:
    return ToyHarness("slow-toys", cases=8, nap_s=0.5)


class _Known:
    """As much of a target as a campaign asks for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.known_failures = {"lost": "it promises nothing"} if name == "known" else {}


def __getattr__(name: str):
    """target_NAME: a callable that makes the target of that name."""
    word, _, rest = name.partition("_")
    if word != "target":
        raise AttributeError(name)
    return lambda: _Known(rest)
