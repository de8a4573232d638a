"""The stores against the persistence spec: every crash state within the bounds, by real recovery.

Exhaustive within the workloads of `specs.persistence.workloads` and the slices of each tearing
("coarse" and "fine" in `specs.persistence.octets`); the models are P0 to P3, with atomic and with
split renames.  The negative controls are in `test_controls.py`.
"""

import pytest

from refmta.stores import chunks, maildir
from refmta.stores.chunks import Draft, OpenDraft
from specs.persistence.enumerate import examine
from specs.persistence.model_disk import ModelDisk
from specs.persistence.models import MODELS
from specs.persistence.workloads import WORKLOADS
from subjects.stores import HOST, MAILBOX, ChunkStore, MaildirStore
from subjects.tokens import envelope_of, queue_id_of

STORES = [ChunkStore(), MaildirStore()]


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda each: each.name)
@pytest.mark.parametrize("model", MODELS, ids=str)
@pytest.mark.parametrize("store", STORES, ids=lambda each: each.name)
def test_no_crash_state_loses_or_tears_a_message(store, model, workload):
    report = examine(store, model, workload)
    assert report.exhaustive
    assert not report.violated, report.violated


def calls(disk: ModelDisk) -> list[tuple[str, str]]:
    """What was done to a disk, without opening and closing."""
    return [(each.kind, each.path) for each in disk.record if each.kind not in ("close",)]


@pytest.mark.parametrize("messages", [1, 2, 3])
def test_the_shell_of_the_queue_carries_out_the_plan(messages):
    """`OpenDraft` and `chunks.commit`, which the enqueue role runs, do what the plan says."""
    tokens = [f"m{number}" for number in range(messages)]
    disk = ModelDisk.from_tree({}, (chunks.CHUNKS, chunks.DAMAGED))
    drafts, plan = [], []
    for token in tokens:
        drafts.append(OpenDraft(disk, Draft(envelope_of(token))))
        drafts[-1].add(b"content")
        drafts[-1].finish()
        planned = Draft(envelope_of(token))
        plan += planned.add(b"content") + planned.finish()
    assert chunks.commit(disk, drafts) == {}
    plan += chunks.commit_plan([each.path for each in drafts])
    assert calls(disk) == [(op.kind, op.path) for op in plan if op.kind not in SILENT]


@pytest.mark.parametrize("messages", [1, 2, 3])
def test_the_shell_of_the_maildir_carries_out_the_plan(messages):
    names = [maildir.unique_name(1, queue_id_of(f"m{n}"), 0, HOST) for n in range(messages)]
    disk = ModelDisk.from_tree({}, MaildirStore().directories)
    group, plan = [], []
    for name in names:
        group.append(maildir.Staged(disk, MAILBOX, name))
        group[-1].write(b"content")
        plan += maildir.stage_plan(MAILBOX, name, [b"content"])
    assert maildir.commit(disk, MAILBOX, group) == {}
    plan += maildir.commit_plan(MAILBOX, names)
    assert calls(disk) == [(op.kind, op.path) for op in plan if op.kind not in SILENT]


#: Kinds that change nothing on a disk, so that a disk does not record them.
SILENT = ("reply", "writeback")
