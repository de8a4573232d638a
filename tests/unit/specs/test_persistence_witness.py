"""How a state is told: with the fewest operations, and with what became of each."""

from specs.persistence.crash import crash_states
from specs.persistence.model_disk import ModelDisk
from specs.persistence.models import P1_ATOMIC, P2_ATOMIC, P3_ATOMIC, P3_SPLIT
from specs.persistence.octets import TRUNCATED
from specs.persistence.protocols import Op
from specs.persistence.sample import single_losses

#: A message is written and promised; then somebody else begins a file of his own.
COMMITTED = (
    ("create", "q/a", b"", ""), ("write", "q/a", b"abcd", ""), ("sync", "q/a", b"", ""),
    ("link", "q/a", b"", "new/a"), ("reply", "m1", b"", ""),
    ("create", "q/b", b"", ""), ("write", "q/b", b"xy", ""),
)  # fmt: skip
DELIVERED = (*COMMITTED[:3], ("reply", "m1", b"", ""), ("unlink", "q/a", b"", ""))


def made(steps):
    """(the disk before, the operations)."""
    disk = ModelDisk.from_tree({}, ["q", "new"])
    initial = disk.snapshot()
    disk.execute([Op(kind=k, path=p, data=d, target=t) for k, p, d, t in steps])
    return initial, tuple(disk.record)


def stories(steps, model, wanted):
    """Of the states that are wanted, shortest first."""
    found = [each.witness() for each in crash_states(*made(steps), model) if wanted(each)]
    return sorted(found, key=len)


def without_new(state):
    return "m1" in state.acknowledged and "new/a" not in state.tree


def test_what_follows_a_loss_and_is_lost_with_it_is_not_told():
    """The prefix loses the later name too, and with it the octets of a file without a name."""
    assert stories(COMMITTED, P1_ATOMIC, without_new)[0] == [
        "crash after: reply m1", "link q/a -> new/a: lost",
    ]  # fmt: skip


def test_what_was_kept_is_the_end_of_the_story():
    kept = stories(COMMITTED, P3_ATOMIC, lambda each: without_new(each) and "q/b" in each.tree)
    assert kept[0] == ["crash after: write q/b 2 octets at 0", "link q/a -> new/a: lost"]


def test_a_name_that_outlives_its_octets_is_told():
    """It is a loss, although the removal of the name did not happen."""
    emptied = stories(DELIVERED, P2_ATOMIC, lambda each: each.tree.get("q/a") == b"")
    assert emptied[0] == ["crash after: unlink q/a", f"unlink q/a: {TRUNCATED}"]
    assert stories(DELIVERED, P2_ATOMIC, lambda each: each.tree.get("q/a") == b"abcd")[0] == [
        "crash after: reply m1"
    ]


def test_a_half_lost_rename_is_told_in_full():
    steps = (*COMMITTED[:3], ("sync_dir", "q", b"", ""), ("rename", "q/a", b"", "new/a"))
    gone = stories(steps, P3_SPLIT, lambda each: not each.tree and each.cut == len(steps))
    assert gone[0] == ["crash after: rename q/a -> new/a", "rename q/a -> new/a: new name lost"]


def test_an_emptied_file_is_among_the_single_losses():
    contents = {
        str(model): {each.tree.get("q/a") for each in single_losses(*made(DELIVERED), model)}
        for model in (P1_ATOMIC, P2_ATOMIC)
    }
    assert contents == {"P1 atomic": {None, b"abcd"}, "P2 atomic": {None, b"abcd", b""}}


def test_a_single_loss_is_a_state_of_its_model():
    for model in (P1_ATOMIC, P2_ATOMIC, P3_SPLIT):
        initial, operations = made(DELIVERED)
        allowed = {each.snapshot for each in crash_states(initial, operations, model)}
        assert {each.snapshot for each in single_losses(initial, operations, model)} <= allowed
