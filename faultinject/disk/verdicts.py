"""What is judged of a step, and of all of them.  Pure.

- The fault excuses second deliveries (the windows of the target, at the time of a failed call), and
  nothing else.
- strace counts calls, whatever they are about: a server with a process for each connection may be
  hit elsewhere as well (in /etc/passwd, on a socket).  Then what is `BLURRED` is no finding, since
  it need not come from the disk with the mail; what was lost or untrue still is one.
- "250" is judged twice: by what is delivered in the end (`ledger`), and by the syncs that it rests
  on (`trust`), since a disk that dropped what it could not write is not at hand.

Findings, besides the ledger's and those of `trust`, are in `FINDINGS`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from faultinject.books import Books, Kill, Window
from faultinject.disk import calls, trust
from faultinject.disk.aside import SET_ASIDE
from faultinject.disk.faults import WATCHED, Fault
from faultinject.disk.grounds import Grounds
from faultinject.disk.sender import RUN
from faultinject.disk.steps import Made
from faultinject.disk.trust import Answered
from faultinject.ledger import Finding
from faultinject.letters import Copy
from faultinject.tracing import Call

#: What a sweep finds by itself.
FINDINGS: Final = {
    "refused": "a fault that passes was answered 5yz: the mail would go back to its sender",
    "unanswered": "the fault had ended, and the letter got no 250",
    "still_queued": "the fault had ended, and the letter was still queued",
    SET_ASIDE: "promised, and put where the server does not try it again; it is on the disk",
    "died": "the main process ended",
    "defect": "the log tells of a crash or a failed assertion",
    "leftover": "processes outlived their master",
    "stop": "it did not stop in good order",
    trust.TRUSTED: "250 after a failed sync of what holds the letter",
    trust.TRUSTED_DELIVERY: "delivered although a sync of the mailbox's file failed",
}
#: What is not judged where a call failed elsewhere.
BLURRED: Final = frozenset({"refused", "defect", "died", "invented"})
#: In the ledger's windows, the role of whoever met a fault.
DISK: Final = "disk"
#: What an attempt that never came to DATA counts as.
TURNED_AWAY: Final = "turned away before DATA"
_LETTER = re.compile(rf"\b{RUN}-([0-9]+)/")


def judge_step(
    made: Made, fault: Fault, seen: Sequence[Call], answers: Sequence[Answered], grounds: Grounds,
    *, settled: bool,
) -> list[Kill]:  # fmt: skip
    """Write into `made` what the calls show; returns what excuses second deliveries.

    settled: the letter was answered, and nothing was queued at the end.
    """
    failed = [call for call in seen if call.injected or call.error == fault.error != ""]
    made.elsewhere = sum(not calls.fair(call, grounds.mail, fault.error) for call in failed)
    disk = [call for call in seen if call.name in WATCHED]
    made.findings += trust.judge(disk, answers, grounds.boxes, settled=settled)
    return [Kill(role=DISK, when_s=call.at + call.took) for call in failed]


def answers_of(attempts: Iterable[Copy], books: Books) -> Counter[str]:
    """How attempts to send a letter ended."""
    sendings = (books.sendings.get(copy) for copy in attempts)
    return Counter(each.answer.value if each else TURNED_AWAY for each in sendings)


def widened(windows: Mapping[str, Window]) -> dict[str, Window]:
    """A target's windows, in which a fault excuses what a kill does."""
    return {
        place: replace(window, roles=window.roles | {DISK}) for place, window in windows.items()
    }


def assign(findings: Iterable[Finding], steps: Iterable[Made]) -> list[Finding]:
    """Give each finding of the ledger to the step whose letter it names; returns the others."""
    by_letter = {made.letter: made for made in steps}
    left: list[Finding] = []
    for finding in findings:
        named = _LETTER.search(finding.text)
        made = by_letter.get(int(named[1])) if named else None
        (left if made is None else made.findings).append(finding)
    return left


def clear(made: Made, fault: Fault) -> None:
    """Set aside the step's findings that need not come from the disk with the mail."""
    if fault.anywhere or not made.elsewhere:
        return
    made.blurred += [each.name for each in made.findings if each.name in BLURRED]
    made.findings = [each for each in made.findings if each.name not in BLURRED]


def all_findings(own: Iterable[Finding], steps: Iterable[Made]) -> list[Finding]:
    """Of the sweep, then of each step, with its name."""
    told = (
        replace(each, text=f"{made.step}: {each.text}") for made in steps for each in made.findings
    )
    return [*own, *told]
