"""Proofs of the commit plans: no crash prefix of a plan has the reply without both syncs.

A plan is a function of the paths of its group alone, so the number of messages is all that can be
symbolic; a plan treats the members of a group alike.  `cut` is where the crash comes.
"""

from __future__ import annotations

from collections.abc import Sequence

from refmta.patterns.unique_atomic_chunks import Op
from refmta.stores import chunks, maildir

#: The largest group that is looked at.
GROUP = 4


def chunk_replies_come_after_both_syncs(messages: int, member: int, cut: int) -> bool:
    """In every prefix of the chunk plan that holds a member's reply, its file was synced before,
    and the directory after its creation.

    pre: 1 <= messages <= 4
    pre: 0 <= member < messages
    pre: 0 <= cut <= 20
    post: _
    """
    paths = [f"chunks/{number}" for number in range(messages)]
    plan = chunks.commit_plan(paths)[:cut]
    path = paths[member]
    if not _has(plan, "reply", path):
        return True
    return _before(plan, ("sync", path), ("reply", path)) and _before(
        plan, ("sync_dir", "chunks"), ("reply", path)
    )


def maildir_reports_come_after_both_syncs(messages: int, member: int, cut: int) -> bool:
    """In every prefix of the Maildir plan: the file is synced before its rename, the rename comes
    before the sync of new/, and that before the report.

    pre: 1 <= messages <= 3
    pre: 0 <= member < messages
    pre: 0 <= cut <= 16
    post: _
    """
    names = [str(number) for number in range(messages)]
    plan = maildir.commit_plan("M", names)[:cut]
    name = names[member]
    tmp, new = f"M/tmp/{name}", ("sync_dir", "M/new")
    if _has(plan, "rename", tmp) and not _before(plan, ("sync", tmp), ("rename", tmp)):
        return False
    if not _has(plan, "reply", name):
        return True
    return _before(plan, ("rename", tmp), new) and _before(plan, new, ("reply", name))


def setting_aside_never_loses_both_names(cut: int) -> bool:
    """In every prefix of the plan that sets a chunk aside: unlinked only after the new name was
    made and its directory synced.

    pre: 0 <= cut <= 5
    post: _
    """
    plan = chunks.aside_plan("ID", "torn")[:cut]
    if not _has(plan, "unlink", "chunks/ID"):
        return True
    synced, unlinked = ("sync_dir", "damaged"), ("unlink", "chunks/ID")
    return _before(plan, ("link", "chunks/ID"), synced) and _before(plan, synced, unlinked)


def _has(plan: Sequence[Op], kind: str, path: str) -> bool:
    return any(op.kind == kind and op.path == path for op in plan)


def _before(plan: Sequence[Op], first: tuple[str, str], second: tuple[str, str]) -> bool:
    """Whether both are in the plan, in this order."""
    steps = [(op.kind, op.path) for op in plan]
    return first in steps and second in steps and steps.index(first) < steps.index(second)
