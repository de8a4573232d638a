"""Recovery runs once on each disk, for real; what is remembered changes no verdict."""

import time
from dataclasses import replace

import pytest

from specs.kernel.control import Control, Verdict, run_control
from specs.persistence import ModelDisk, Snapshot
from specs.persistence.crash import Enumeration
from specs.persistence.enumerate import examine, examine_all
from specs.persistence.models import MODELS, P2_SPLIT, P3_ATOMIC, P3_SPLIT
from specs.persistence.recoveries import Inside, Recoveries, only
from specs.persistence.references import CERTIFIED, MAILDIR, POSTFIX, REFERENCES
from specs.persistence.sample import cut_short, single_losses
from specs.persistence.states import Merged
from specs.persistence.workloads import CONCURRENT, ONE, OVERLAPPING, message, record

WEAK = [model for model in MODELS if model.octets_lost]


def counting(store, seen):
    """The same store; notes each disk that it recovers."""

    def recover(disk):
        seen.append(disk.canonical())
        return store.recover(disk)

    return replace(store, recover=recover)


@pytest.mark.parametrize("store", REFERENCES, ids=lambda store: store.name)
def test_what_was_learnt_under_one_model_changes_nothing_under_the_next(store):
    together = list(examine_all(store, MODELS, [ONE]))
    alone = [examine(store, model, ONE) for model in MODELS]
    for one, two in zip(together, alone, strict=True):
        assert (one.distinct, one.recovered, one.counts) == (
            two.distinct, two.recovered, two.counts,
        )  # fmt: skip
        assert one.violated.keys() == two.violated.keys()
        assert one.fresh <= two.fresh == two.recovered


def test_each_disk_that_counts_was_recovered_for_real_and_once():
    seen = []
    reports = list(examine_all(counting(CERTIFIED, seen), WEAK, [ONE, CONCURRENT]))
    fresh = sum(report.fresh for report in reports)
    assert fresh <= len(set(seen))
    for report in reports[: len(WEAK)]:
        assert report.fresh <= report.recovered
    alone = []
    list(examine_all(counting(CERTIFIED, alone), WEAK, [ONE]))
    assert len(alone) == len(set(alone))


def test_a_block_that_was_made_is_counted_and_not_made_again():
    run = record(CERTIFIED, CERTIFIED.plan([message("m1", 2)]))
    merged = Merged()
    first = Enumeration(run.initial, run.operations, P3_ATOMIC, merged=merged)
    again = Enumeration(run.initial, run.operations, P3_ATOMIC, merged=merged)
    assert len(list(first.states())) > 10
    assert list(again.states()) == []
    assert again.enumerated == first.enumerated


def test_crashes_inside_recovery_are_those_of_a_plain_enumeration():
    """With marks for the octets, and without: also where recovery changes octets."""

    def recover(disk):
        found = CERTIFIED.recover(disk)
        for name in disk.listdir("damaged"):
            handle = disk.open_append(f"damaged/{name}")
            disk.truncate(handle, 1)
            disk.write(handle, b"x")
            disk.close(handle)
        return found

    store = replace(CERTIFIED, recover=recover)
    run = record(store, store.plan([message("m1", 2), message("m2", 2)]))
    recoveries, inside = Recoveries(store, {}), Inside(P3_SPLIT)
    compared = 0
    for state in Enumeration(run.initial, run.operations, P3_SPLIT).states():
        ran = recoveries.ran(state.snapshot)
        if not ran.changed:
            continue
        plainly = Enumeration(state.snapshot, ran.record, P3_SPLIT)
        plain = {each.snapshot for each in plainly.states()}
        assert {snapshot for snapshot, _ in inside.states(state.snapshot, ran.record)} == plain
        compared += len(plain)
    assert compared > 1_000


def test_a_part_of_a_disk_is_canonical():
    disk = Snapshot(("d/a", "d/b", "e/b"), (1, 2, 2), (b"1", b"2", b"2"), frozenset({"", "d", "e"}))
    assert only(disk, [1, 2]) == Snapshot(
        ("d/b", "e/b"), (1, 1), (b"2", b"2"), frozenset({"", "d", "e"})
    )
    assert only(disk, [0, 1, 2]) is disk
    assert ModelDisk(disk).canonical() == disk


# -- single losses --------------------------------------------------------------------------------


@pytest.mark.parametrize("model", WEAK, ids=str)
@pytest.mark.parametrize("store", [MAILDIR, POSTFIX], ids=lambda store: store.name)
def test_single_losses_are_states_of_the_model_with_one_operation_lost(store, model):
    run = record(store, store.plan([message("m1", 1)]))
    found = list(single_losses(run.initial, run.operations, model))
    assert found[0].losses == ()
    whole = ModelDisk(run.initial)
    whole.execute(store.plan([message("m1", 1)]))
    assert found[0].tree == whole.snapshot().tree
    for state in found[1:]:
        assert state.losses
        if model.names == "subset" and model.rename == "atomic":
            assert len({index for index, _ in state.losses}) == 1
    stories = [state.losses for state in found]
    assert len(set(stories)) == len(stories)


def test_each_unforced_operation_is_lost_alone_in_some_state():
    run = record(POSTFIX, POSTFIX.plan([message("m1", 1)]))
    found = {index for s in single_losses(run.initial, run.operations, P2_SPLIT)
             for index, _ in s.losses}  # fmt: skip
    assert [str(run.operations[index]) for index in sorted(found)] == [
        "create incoming/tmp.m1",  # its sync forces the name that it has then
        "rename incoming/tmp.m1 -> incoming/m1",
        "rename incoming/m1 -> active/m1",
    ]


def test_nothing_is_lost_where_nothing_is_chosen():
    run = record(MAILDIR, MAILDIR.plan([message("m1", 1)]))
    state = cut_short(run.initial, run.operations, P3_SPLIT, lambda _: 0)
    assert state.losses == () and state.acknowledged == {"m1"}


# -- controls -------------------------------------------------------------------------------------


def verdict(store):
    violated = set()
    for report in examine_all(store, [P2_SPLIT, P3_ATOMIC], [ONE]):
        violated |= report.violated.keys()
    return Verdict(violated=frozenset(violated), mutated_line_ran=store is not CERTIFIED)


def test_control_a_loss_under_the_second_model_only_is_found():
    """Whatever the first model has taught."""
    control = Control(
        name="postfix-like, P2 before P3", spec="persistence", invariant="acknowledged_present",
        twin=lambda: verdict(CERTIFIED), mutant=lambda: verdict(POSTFIX),
    )  # fmt: skip
    result = run_control(control)
    assert result.counts, result.reason


# -- how much is recovered ------------------------------------------------------------------------


def test_distinct_disks():
    """All of them; merged duplicates do not count.  How many in a second is told."""
    started = time.thread_time()
    reports = list(examine_all(CERTIFIED, WEAK, [ONE, OVERLAPPING]))
    seconds = time.thread_time() - started
    fresh = sum(report.fresh for report in reports)
    print(f"{fresh / seconds:.0f} distinct disks per second")
    assert all(report.exhaustive for report in reports)
    assert 14_000 < fresh < sum(report.recovered for report in reports)
