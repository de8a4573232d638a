"""Negative controls of the stores of sendmail and sendmail X, and of mbox: the real code with one
step missing or out of place, and the invariant that must catch it.

Each is judged under the weakest model under which its twin is clean: the store of sendmail syncs no
directory, so that is P2 for the way in, and P1 once a qf is replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

from refmta.stores import mbox, sendmail_qfdf, sendmailx_ibdb, sendmailx_segments
from specs.kernel.control import Control, Verdict
from specs.kernel.mutant import hits, mutate
from specs.persistence.enumerate import Workload, examine
from specs.persistence.models import P1_SPLIT, P2_SPLIT, P3_SPLIT, Model
from specs.persistence.workloads import GROUP, ONE
from subjects.stores_sendmail import mailboxes, sendmail, sendmailx


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One mutant.  module: the one that is mutated; in: the one that is judged, if another."""

    name: str
    invariant: str
    subject: Callable[..., Any]
    module: ModuleType
    old: str
    new: str
    model: Model = P3_SPLIT
    workload: Workload = ONE
    within: ModuleType | None = None


_QFDF: dict[str, Any] = {"subject": sendmail, "module": sendmail_qfdf, "model": P2_SPLIT}
_QFDF_LIFE: dict[str, Any] = {
    "subject": partial(sendmail, life=True), "module": sendmail_qfdf, "model": P1_SPLIT,
}  # fmt: skip
_IBDB: dict[str, Any] = {"subject": sendmailx, "module": sendmailx_ibdb}
_IBDB_LIFE: dict[str, Any] = {"subject": partial(sendmailx, life=True), "module": sendmailx_ibdb}
_LOG: dict[str, Any] = {
    "subject": sendmailx,
    "module": sendmailx_segments,
    "within": sendmailx_ibdb,
}
_MBOX: dict[str, Any] = {"subject": mailboxes, "module": mbox}

_COMMIT = '        plan = [Op("sync", df), *plan, Op("sync", qf)]\n'
_REWRITE = '    plan = [*plan[:2], Op("sync", tf), plan[2], Op("sync", qf)]\n'

ROWS = (
    # -- sendmail_qfdf ----------------------------------------------------------------------------
    Row(
        name="sendmail_qfdf: the df is not synced", invariant="visible_is_complete", **_QFDF,
        old=_COMMIT,
        new='        plan = [*plan, Op("sync", qf)] if __mutant_ran__() else []\n',
    ),
    Row(
        name="sendmail_qfdf: the df is synced behind the qf", invariant="visible_is_complete",
        **_QFDF,
        old=_COMMIT,
        new='        plan = [*plan, Op("sync", df), Op("sync", qf)] if __mutant_ran__() else []\n',
    ),
    Row(
        name="sendmail_qfdf: the qf is not synced", invariant="acknowledged_present", **_QFDF,
        old=_COMMIT,
        new='        plan = [Op("sync", df), *plan] if __mutant_ran__() else []\n',
    ),
    Row(
        name="sendmail_qfdf: recovery leaves a df without a qf", invariant="nothing_left_over",
        **_QFDF,
        old="                self.disk.unlink(df_path(queue_id))\n            return None",
        new="                __mutant_ran__()\n            return None",
    ),
    Row(
        name="sendmail_qfdf: recovery leaves the tf", invariant="nothing_left_over", **_QFDF_LIFE,
        old="            self.disk.unlink(tf_path(queue_id))\n        try:\n"
        "            self.examine",
        new="            __mutant_ran__()\n        try:\n            self.examine",
    ),
    Row(
        name="sendmail_qfdf: a qf replaced by one that is not synced",
        invariant="acknowledged_present", **_QFDF_LIFE,
        old=_REWRITE,
        new='    plan = [*plan, Op("sync", qf)] if __mutant_ran__() else []\n',
    ),
    # -- sendmailx_ibdb ---------------------------------------------------------------------------
    Row(
        name="sendmailx_ibdb: the content is not synced", invariant="visible_is_complete", **_IBDB,
        old='*(Op("sync", path) for path in paths)',
        new='*(Op("writeback", path) for path in paths if __mutant_ran__())',
    ),
    Row(
        name="sendmailx_ibdb: the content's name is not synced", invariant="acknowledged_present",
        workload=GROUP, **_IBDB,
        old=', Op("sync_dir", CDB)]',
        new="][: len(plan) + len(paths) + __mutant_ran__()]",
    ),
    Row(
        name="sendmailx_ibdb: the log is not synced", invariant="acknowledged_present", **_LOG,
        old="                    self._disk.sync(handle)\n        except OSError:\n"
        "            self._broken = True\n            with suppress",
        new="                    __mutant_ran__()\n        except OSError:\n"
        "            self._broken = True\n            with suppress",
    ),
    Row(
        name="sendmailx_ibdb: recovery leaves content without an envelope",
        invariant="nothing_left_over", **_IBDB,
        old="if self.disk.lock(handle) and not self._has(queue_id):",
        new="if not __mutant_ran__():",
    ),
    Row(
        name="sendmailx_ibdb: the deferred database is not synced",
        invariant="acknowledged_present", **_IBDB_LIFE,
        old='        Op("sync", path),\n        Op("sync_dir", DEFERRED),',
        new='        *([Op("sync_dir", DEFERRED)] if __mutant_ran__() else []),',
    ),
    Row(
        name="sendmailx_ibdb: the deferred database's name is not synced",
        invariant="acknowledged_present", **_IBDB_LIFE,
        old='        Op("sync", path),\n        Op("sync_dir", DEFERRED),',
        new='        *([Op("sync", path)] if __mutant_ran__() else []),',
    ),
    Row(
        name="sendmailx_ibdb: content goes before the log says so",
        invariant="visible_is_complete", **_IBDB_LIFE,
        old="            self._log.sync()\n            self._remove_freed()",
        new="            __mutant_ran__()\n            self._remove_freed()",
    ),
    # -- mbox -------------------------------------------------------------------------------------
    Row(
        name="mbox: the mailbox is not synced", invariant="acknowledged_present", **_MBOX,
        old='    plan.append(Op("sync", mailbox))\n',
        new="    __mutant_ran__()\n",
    ),
    Row(
        name="mbox: the note is not synced", invariant="visible_is_complete", **_MBOX,
        old=', Op("sync", beside)]',
        new="][: 1 + __mutant_ran__()]",
    ),
    Row(
        name="mbox: the note's name is not synced", invariant="visible_is_complete", **_MBOX,
        old='        plan.append(Op("sync_dir", directory))\n',
        new="        __mutant_ran__()\n",
    ),
    Row(
        name="mbox: reported while the note is there", invariant="acknowledged_present", **_MBOX,
        old='        plan += [Op("unlink", beside), Op("sync_dir", directory)]\n',
        new='        plan += [Op("unlink", beside)] if __mutant_ran__() else []\n',
    ),
    Row(
        name="mbox: what the note records is ignored", invariant="visible_is_complete", **_MBOX,
        old="length if ours and length < size else None",
        new="None if __mutant_ran__() else 0",
    ),
    Row(
        name="mbox: truncated back without a sync", invariant="crash_in_recovery", **_MBOX,
        old=', Op("sync", mailbox)]\n    return [*plan, Op("unlink"',
        new='] * __mutant_ran__()\n    return [*plan, Op("unlink"',
    ),
)  # fmt: skip


def controls() -> list[Control]:
    """Entry point."""
    return [_control(row) for row in ROWS]


def _control(row: Row) -> Control:
    def twin() -> Verdict:
        return _judge(row, row.subject())

    def mutant() -> Verdict:
        changed = mutate(row.module.__name__, [(row.old, row.new)])
        judged = changed
        if row.within is not None:
            judged = mutate(row.within.__name__, [], replacing={row.module.__name__: changed})
        verdict = _judge(row, row.subject(judged))
        return Verdict(
            violated=verdict.violated, mutated_line_ran=hits(changed) > 0, detail=verdict.detail
        )

    spec = f"persistence/{row.name.partition(':')[0]}"
    return Control(name=row.name, spec=spec, invariant=row.invariant, twin=twin, mutant=mutant)


def _judge(row: Row, subject: Any) -> Verdict:
    report = examine(subject, row.model, row.workload)
    return Verdict(violated=frozenset(report.violated), detail=f"{report.distinct} states")
