"""Mutants of the queue spec that each invariant must refuse.

Each is the spec's own source with one passage changed, explored within the smallest bounds in which
the change matters; the twin is the unchanged spec within the same bounds.
"""

from __future__ import annotations

from specs.kernel.control import Control, Verdict
from specs.kernel.explore import explore
from specs.kernel.mutant import hits, mutate
from specs.queue import spec as original
from specs.queue.states import Bounds

MODULE = "specs.queue.spec"
ALONE = Bounds(recipients=("l",), resends=1, faults=1)
TWO = Bounds(recipients=("l", "l"), resends=0, faults=0)
NEVER_AGAIN = Bounds(recipients=("l",), resends=0, faults=1)
TWO_RECIPIENTS = Bounds(recipients=("ll",), resends=0, faults=0)
REMOTE = Bounds(recipients=("r",), resends=0, faults=0)
REFUSED = Bounds(recipients=("r",), resends=0, faults=0, setbacks=1)
REFUSED_TWICE = Bounds(recipients=("r",), resends=0, faults=0, setbacks=2)
REPORT_FAILS = Bounds(recipients=("l",), resends=0, faults=1, setbacks=1)

MUTANTS: tuple[tuple[str, str, Bounds, str, str], ...] = (
    (
        "mark before delivery",
        "marks_after_delivery",
        ALONE,
        "yield action, recipient._replace(phase=phase, deliveries=done)",
        'phase = "marked" if phase == "written" and __mutant_ran__() else phase\n'
        "        yield action, recipient._replace(phase=phase, deliveries=done)",
    ),
    (
        "reply before the directory sync",
        "no_early_reply",
        ALONE,
        'copy.client == "waiting" and copy.progress == "committed":',
        'copy.client == "waiting" and copy.progress == "synced" and __mutant_ran__():',
    ),
    (
        "directory sync without file sync",
        "no_early_reply",
        ALONE,
        'noted(copy._replace(progress="synced", data="durable"))',
        '__mutant_ran__() and noted(copy._replace(progress="synced"))',
    ),
    (
        "a queue id reused",
        "queue_id_never_reused",
        TWO,
        "used = {copy.queue_id for mail in state.mails for copy in mail.copies}\n"
        "    return max(used) + 1",
        "used = {copy.queue_id for mail in state.mails for copy in mail.copies\n"
        '            if copy.name in {"volatile", "durable"}}\n'
        "    return max(used, default=0) + __mutant_ran__()",
    ),
    (
        "one message under another's envelope",
        "no_misdelivery",
        TWO,
        'progress="created", name="volatile", queue_id',
        'own=not any(other.progress == "created" and __mutant_ran__()'
        " for mail in state.mails for other in mail.copies),\n"
        '                progress="created", name="volatile", queue_id',
    ),
    (
        "recovery that drops what has no mark",
        "no_loss",
        ALONE,
        'if copy.data == "partial":',
        'if not any(r.phase == "marked" for r in copy.recipients) and __mutant_ran__():',
    ),
    (
        "freed at the first mark",
        "no_loss",
        TWO_RECIPIENTS,
        "all(each.phase in SETTLED for each in copy.recipients)",
        "any(each.phase in SETTLED and __mutant_ran__() for each in copy.recipients)",
    ),
    (
        "an outcome frame lost",
        "duplicates_only_in_windows",
        ALONE,
        'yield "qmgr.marked", recipient._replace(phase="marked")',
        'yield "qmgr.dispatched", recipient._replace(phase="dispatched" * __mutant_ran__())',
    ),
    (
        "an outcome frame of remote lost",
        "sent_again_only_in_windows",
        REMOTE,
        'yield "qmgr.marked", recipient._replace(phase="marked")',
        'yield "qmgr.dispatched", recipient._replace(phase="dispatched" * __mutant_ran__())',
    ),
    (
        "a lost reply taken for a refusal",
        "failures_reported",
        NEVER_AGAIN._replace(recipients=("r",)),
        'licensed(recipient, "put_off", REMOTE_REPLY_LOST)',
        'licensed(recipient, "rejected" * __mutant_ran__(), REMOTE_REPLY_LOST)',
    ),
    (
        "a report dropped",
        "failures_reported",
        REFUSED,
        'case "failed" if copy.listed and not has_sender:',
        'case "failed" if copy.listed and __mutant_ran__():',
    ),
    (
        "a failed recipient forgotten",
        "no_loss",
        REFUSED,
        'yield "qmgr.failed", recipient._replace(phase="failed")',
        '__mutant_ran__(); yield "qmgr.marked", recipient._replace(phase="discarded")',
    ),
    (
        "a report about a report",
        "no_report_about_a_report",
        REFUSED_TWICE,
        "and idle and mail.has_sender(copy):",
        "and idle and (mail.has_sender(copy) or __mutant_ran__()):",
    ),
    (
        "a refused report taken for one that is kept",
        "no_loss",
        REPORT_FAILS,
        '_about(refused, report.about, "telling", _untold(REPORT_REFUSED))',
        '_about(refused, report.about, "telling",\n'
        '            lambda each: each._replace(phase="told" * __mutant_ran__()))',
    ),
    (
        "bounce's answer lost",
        "duplicates_only_in_windows",
        REFUSED,
        'yield "qmgr.reported", recipient._replace(phase="closed")',
        'yield "qmgr.reported", recipient._replace(phase="failed" * __mutant_ran__())',
    ),
    (
        "a client that sends without end",
        "bounded",
        NEVER_AGAIN,
        ">= bounds.resends:",
        ">= bounds.resends + __mutant_ran__():",
    ),
)


def controls() -> list[Control]:
    """One control per mutant."""
    return [_control(*mutant) for mutant in MUTANTS]


def _control(name: str, invariant: str, bounds: Bounds, old: str, new: str) -> Control:
    def twin() -> Verdict:
        found = explore(original.queue_spec(bounds))
        return Verdict(violated=frozenset(found.violated), detail="; ".join(found.findings()))

    def mutant() -> Verdict:
        changed = mutate(MODULE, [(old, new)])
        found = explore(changed.queue_spec(bounds), stop_at=[invariant], cap=200_000)
        return Verdict(
            violated=frozenset(found.violated),
            mutated_line_ran=hits(changed) > 0,
            detail=str(found.violated.get(invariant, "")),
        )

    return Control(name=name, spec="queue", invariant=invariant, twin=twin, mutant=mutant)
