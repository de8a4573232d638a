"""Negative controls of the stores of qmail and Postfix: the real code with one step missing or out
of place, and the invariant that must catch it.

What these stores are expected to violate (specs/persistence/expected.toml) is left out of each
verdict, so that a twin is clean, and a mutant is caught by what it alone does wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from refmta.stores import postfix_modebit, qmail_todo
from specs.kernel.control import Control, Verdict
from specs.kernel.mutant import hits, mutate
from specs.persistence.enumerate import Workload, examine
from specs.persistence.expected import expected
from specs.persistence.models import P0, P1_ATOMIC, P2_SPLIT, Model
from specs.persistence.workloads import LARGE, ONE, REMAINS
from subjects.stores_qmail_postfix import QueueSubject, postfix, qmail


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One mutant."""

    name: str
    invariant: str
    subject: Callable[..., QueueSubject]
    module: ModuleType
    model: Model
    old: str
    new: str
    workload: Workload = ONE


_POSTFIX: dict[str, Any] = {"subject": postfix, "module": postfix_modebit, "model": P2_SPLIT}
_QMAIL: dict[str, Any] = {"subject": qmail, "module": qmail_todo}

ROWS = (
    # -- postfix_modebit --------------------------------------------------------------------------
    Row(
        name="postfix_modebit: the file is not synced", invariant="acknowledged_present",
        **_POSTFIX,
        old='Op("sync", path), Op("reply", path)]',
        new='Op("reply", path)][: 2 * __mutant_ran__()]',
    ),
    Row(
        name="postfix_modebit: complete behind the sync", invariant="acknowledged_present",
        **_POSTFIX,
        old='[Op("chmod", path, target=f"{COMPLETE:o}"), Op("sync", path), Op("reply", path)]',
        new='[Op("sync", path), Op("chmod", path, target=f"{COMPLETE:o}")][: 2 * __mutant_ran__()]',
    ),
    Row(
        name="postfix_modebit: recovery does not check the digest",
        invariant="recovery_completes", workload=LARGE, **{**_POSTFIX, "model": P1_ATOMIC},
        old="            read_chunk(self.disk, handle, queue_id, verify=True)",
        new="            read_chunk(self.disk, handle, queue_id, verify=not __mutant_ran__())",
    ),
    Row(
        name="postfix_modebit: recovery leaves unfinished files", invariant="nothing_left_over",
        **_POSTFIX,
        old='                unlink_if_there(self.disk, f"{INCOMING}/{name}")',
        new="                __mutant_ran__()",
    ),
    Row(
        name="postfix_modebit: a move that was cut in two is not ended",
        invariant="nothing_left_over", **_POSTFIX,
        old='                    unlink_if_there(self.disk, f"{directory}/{name}")',
        new="                    __mutant_ran__()",
    ),
    # -- qmail_todo -------------------------------------------------------------------------------
    Row(
        name="qmail_todo: the content is not synced", invariant="visible_is_complete",
        model=P1_ATOMIC, **_QMAIL,
        old='        Op("sync", mess),\n        Op("create", intd),',
        new='        *([Op("create", intd)] if __mutant_ran__() else []),',
    ),
    Row(
        name="qmail_todo: the envelope is not synced", invariant="visible_is_complete",
        model=P1_ATOMIC, workload=REMAINS, **_QMAIL,
        old='        Op("sync", intd),\n        Op("link", intd, target=todo),',
        new='        *([Op("link", intd, target=todo)] if __mutant_ran__() else []),',
    ),
    Row(
        name="qmail_todo: info is not synced", invariant="visible_is_complete",
        model=P1_ATOMIC, workload=REMAINS, **_QMAIL,
        old='    plan += [Op("sync", path_of(part, queue_id)) for part in files]\n',
        new="    __mutant_ran__()\n",
    ),
    Row(
        name="qmail_todo: todo goes before info is there", invariant="acknowledged_present",
        model=P0, **_QMAIL,
        old='    return [*plan, Op("unlink", path_of(INTD, queue_id)), '
        'Op("unlink", path_of(TODO, queue_id))]',
        new='    return [Op("unlink", path_of(INTD, queue_id)), '
        'Op("unlink", path_of(TODO, queue_id)), *plan][: 99 * __mutant_ran__()]',
    ),
    Row(
        name="qmail_todo: recovery leaves what is unfinished", invariant="nothing_left_over",
        model=P0, **_QMAIL,
        old="                        unlink_if_there(self.disk, path_of(part, name))",
        new="                        __mutant_ran__()",
    ),
)  # fmt: skip


def controls() -> list[Control]:
    """Entry point."""
    return [_control(row) for row in ROWS]


def _control(row: Row) -> Control:
    def mutant() -> Verdict:
        changed = mutate(row.module.__name__, [(row.old, row.new)])
        found = _judge(row, row.subject(changed))
        return Verdict(
            violated=found.violated, mutated_line_ran=hits(changed) > 0, detail=found.detail
        )

    return Control(
        name=row.name,
        spec=f"persistence/{row.name.partition(':')[0]}",
        invariant=row.invariant,
        twin=lambda: _judge(row, row.subject()),
        mutant=mutant,
    )


def _judge(row: Row, store: QueueSubject) -> Verdict:
    """Every crash state of one workload; the violations that nobody expects."""
    report = examine(store, row.model, row.workload)
    known = expected()
    return Verdict(
        violated=frozenset(
            name for name in report.violated if (store.name, str(row.model), name) not in known
        ),
        detail=f"{report.distinct} states",
    )
