"""Which states a crash may leave: by hand, and against the plainest enumeration one can write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, combinations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.persistence import ModelDisk, Op, Recorded, Snapshot
from specs.persistence.crash import Enumeration, crash_states
from specs.persistence.models import (
    MODELS,
    P0,
    P1_ATOMIC,
    P1_SPLIT,
    P2_ATOMIC,
    P2_SPLIT,
    P3_ATOMIC,
    P3_SPLIT,
    Model,
)
from specs.persistence.octets import COARSE, FINE, Tearing, boundaries

Tree = dict[str, bytes]


def op(text: str, data: bytes = b"") -> Op:
    """ "rename a b" and the like."""
    kind, *rest = text.split()
    path = rest[0] if rest and rest[0] != "." else ""
    return Op(kind=kind, path=path, target=rest[1] if len(rest) > 1 else "", data=data)


def recorded(
    operations: Sequence[Op], tree: Tree | None = None
) -> tuple[Snapshot, tuple[Recorded, ...]]:
    disk = ModelDisk.from_tree(tree or {}, ["d", "e"])
    initial = disk.snapshot()
    disk.execute(operations)
    return initial, tuple(disk.record)


def trees(
    operations: Sequence[Op],
    model: Model,
    tree: Tree | None = None,
    tearing: Tearing = COARSE,
) -> list[Tree]:
    initial, record = recorded(operations, tree)
    return [state.tree for state in crash_states(initial, record, model, tearing=tearing)]


def names(operations: Sequence[Op], model: Model, tree: Tree | None = None) -> set[frozenset[str]]:
    return {frozenset(found) for found in trees(operations, model, tree)}


def sets(*paths: str) -> set[frozenset[str]]:
    return {frozenset(path.split()) for path in paths}


CREATED = [op("create d/a")]
RENAMED = [op("rename d/a e/b")]


@pytest.mark.parametrize(
    ("operations", "model", "expected"),
    [
        ([*CREATED, op("sync d/a")], P1_ATOMIC, sets("", "d/a")),
        ([*CREATED, op("create d/b")], P1_ATOMIC, sets("", "d/a", "d/a d/b")),
        ([*CREATED, op("create d/b")], P2_ATOMIC, sets("", "d/a", "d/b", "d/a d/b")),
        ([*CREATED, op("create d/b")], P3_ATOMIC, sets("", "d/a", "d/b", "d/a d/b")),
    ],
)
def test_names_of_new_files(
    operations: list[Op], model: Model, expected: set[frozenset[str]]
) -> None:
    assert names(operations, model) == expected


def after(operations: Sequence[Op], model: Model) -> set[frozenset[str]]:
    """The names that may be left if the crash comes at the very end: what a reply promises."""
    initial, record = recorded([*operations, op("reply done")])
    return {
        frozenset(state.tree)
        for state in crash_states(initial, record, model)
        if state.acknowledged
    }


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (P0, sets("d/a")),
        (P1_ATOMIC, sets("d/a")),
        (P2_ATOMIC, sets("d/a")),
        (P3_ATOMIC, sets("", "d/a")),
    ],
)
def test_what_a_sync_of_the_file_does_for_its_name(
    model: Model, expected: set[frozenset[str]]
) -> None:
    assert after([*CREATED, op("sync d/a")], model) == expected


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_a_sync_of_the_directory_keeps_the_name(model: Model) -> None:
    assert after([*CREATED, op("sync_dir d")], model) == sets("d/a")


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (P0, sets("e/b")),
        (P1_ATOMIC, sets("d/a", "e/b")),
        (P1_SPLIT, sets("d/a", "d/a e/b", "e/b")),
        (P2_ATOMIC, sets("d/a", "e/b")),
        (P2_SPLIT, sets("d/a", "d/a e/b", "e/b")),
        (P3_ATOMIC, sets("d/a", "e/b")),
        (P3_SPLIT, sets("d/a", "d/a e/b", "e/b", "")),
    ],
)
def test_a_rename_of_a_durable_file(model: Model, expected: set[frozenset[str]]) -> None:
    initial, record = recorded([*RENAMED, op("reply done")], {"d/a": b"x"})
    found = {
        frozenset(state.tree)
        for state in crash_states(initial, record, model)
        if state.acknowledged
    }
    assert found == expected


def test_only_the_weakest_model_forgets_both_names() -> None:
    for model in MODELS:
        lost = frozenset() in names(RENAMED, model, {"d/a": b"x"})
        assert lost is (model == P3_SPLIT)


@pytest.mark.parametrize(
    ("synced", "expected"),
    [
        ("e", sets("e/b", "d/a e/b")),
        ("d", sets("", "e/b")),
    ],
)
def test_a_rename_across_directories_needs_both_synced(
    synced: str, expected: set[frozenset[str]]
) -> None:
    initial, record = recorded([*RENAMED, op(f"sync_dir {synced}"), op("reply x")], {"d/a": b"x"})
    found = {
        frozenset(state.tree)
        for state in crash_states(initial, record, P3_SPLIT)
        if state.acknowledged
    }
    assert found == expected


def test_a_replaced_file_may_leave_no_name_at_all_under_p3_split_only() -> None:
    tree = {"d/a": b"new", "d/b": b"old"}
    operations = [op("rename d/a d/b")]
    assert {"d/a": b"new"} in trees(operations, P3_SPLIT, tree)
    for model in (P1_SPLIT, P2_SPLIT, P3_ATOMIC):
        assert {"d/a": b"new"} not in trees(operations, model, tree)


def test_octets_of_an_append() -> None:
    operations = [op("write d/a", b"xy")]
    found = trees(operations, P3_ATOMIC, {"d/a": b"old"})
    garbage = COARSE.garbage(3, 2)
    assert sorted(tree["d/a"] for tree in found) == sorted(
        [b"old", b"oldxy", b"old\0\0", b"old" + garbage]
    )


def test_a_lost_write_under_a_later_one_is_a_hole() -> None:
    operations = [op("write d/a", b"x"), op("write d/a", b"y")]
    found = [tree["d/a"] for tree in trees(operations, P1_ATOMIC, {"d/a": b""})]
    assert b"\0y" in found
    assert b"y" not in found


def test_a_sync_of_the_file_keeps_its_octets_and_no_others() -> None:
    operations = [op("write d/a", b"x"), op("sync d/a"), op("write d/a", b"y"), op("reply t")]
    initial, record = recorded(operations, {"d/a": b""})
    late = {
        state.tree["d/a"] for state in crash_states(initial, record, P3_SPLIT) if state.acknowledged
    }
    assert late == {b"x", b"xy", b"x\0", b"x" + COARSE.garbage(1, 1)}


def test_p0_keeps_everything_but_a_part_of_the_write_in_progress() -> None:
    operations = [op("create d/a"), op("write d/a", b"abcd"), op("unlink d/a")]
    found = trees(operations, P0)
    assert {tree.get("d/a") for tree in found} == {None, b"", b"a", b"ab", b"abcd"}


def test_the_last_unlink_truncates_first() -> None:
    operations = [op("unlink d/a")]
    assert {"d/a": b""} in trees(operations, P3_ATOMIC, {"d/a": b"x"})
    assert {"d/a": b""} in trees(operations, P2_ATOMIC, {"d/a": b"x"})
    assert {"d/a": b""} not in trees(operations, P1_ATOMIC, {"d/a": b"x"})
    linked = [op("link d/a e/a"), op("sync_dir e"), op("unlink d/a")]
    assert {"d/a": b"", "e/a": b""} not in trees(linked, P3_ATOMIC, {"d/a": b"x"})


def test_a_file_in_a_directory_whose_own_name_is_lost_is_lost() -> None:
    operations = [op("mkdir d/n"), op("create d/n/a"), op("sync_dir d/n"), op("reply t")]
    assert frozenset() in after(operations[:-1], P3_ATOMIC)
    safe = [*operations[:-1], op("sync_dir d")]
    assert after(safe, P3_ATOMIC) == sets("d/n/a")


def test_under_p2_a_synced_file_in_a_new_directory_is_found() -> None:
    operations = [op("mkdir d/n"), op("create d/n/a"), op("sync d/n/a")]
    assert after(operations, P2_ATOMIC) == sets("d/n/a")


def test_acknowledged_and_released() -> None:
    operations = [op("create d/a"), op("reply t"), op("release t"), op("unlink d/a")]
    initial, record = recorded(operations)
    states = list(crash_states(initial, record, P0))
    assert {(frozenset(s.tree), s.acknowledged) for s in states} == {
        (frozenset(), frozenset()),
        (frozenset({"d/a"}), frozenset()),
        (frozenset({"d/a"}), frozenset({"t"})),
    }


def test_equal_states_come_once() -> None:
    operations = [op("create d/a"), op("unlink d/a")] * 3
    found = trees(operations, P3_ATOMIC)
    assert len(found) == len({tuple(sorted(tree.items())) for tree in found}) == 2


def test_hard_links_stay_hard_links() -> None:
    initial, record = recorded([op("link d/a e/a")], {"d/a": b"x"})
    both = [s for s in crash_states(initial, record, P3_ATOMIC) if len(s.tree) == 2]
    assert both[0].snapshot.inodes == (1, 1)
    disk = ModelDisk(both[0].snapshot)
    disk.rename("d/a", "e/a")
    assert set(disk.tree()) == {"d/a", "e/a"}


def test_the_witness_names_what_was_lost() -> None:
    operations = [op("create d/a"), op("write d/a", b"xyz"), op("sync_dir d"), op("reply t")]
    initial, record = recorded(operations)
    states = [s for s in crash_states(initial, record, P3_ATOMIC) if s.tree == {"d/a": b"\0\0\0"}]
    assert states[0].witness() == [
        "crash after: reply t",
        "write d/a 3 octets at 0: zeros [0:3]",
    ]


def test_the_witness_leaves_out_what_need_not_have_happened() -> None:
    operations = [op("create d/a"), op("create d/b"), op("rename d/b e/b")]
    initial, record = recorded(operations)
    states = [s for s in crash_states(initial, record, P3_SPLIT) if s.tree == {"d/a": b""}]
    assert states[0].witness() == ["crash after: create d/a"]


def test_slices() -> None:
    assert boundaries(0, 1) == [0, 1]
    assert boundaries(0, 9) == [0, 1, 4, 9]
    assert boundaries(100, 9000) == [0, 1, 3996, 4500, 8092, 9000]


def test_fine_tearing_cuts_each_write_but_not_two_at_once() -> None:
    operations = [op("write d/a", b"abcd"), op("write d/a", b"efgh")]
    coarse = trees(operations, P3_ATOMIC, {"d/a": b""})
    fine = trees(operations, P3_ATOMIC, {"d/a": b""}, FINE)
    octets = {tree["d/a"] for tree in fine}
    assert {tree["d/a"] for tree in coarse} <= octets
    assert {b"a\0cdefgh", b"a\0\0\0efgh", b"ab\0\0", b"a", b"abcde\0gh"} <= octets
    assert b"a\0cde\0gh" not in octets


def test_remains_of_an_old_file_are_a_kind_of_garbage() -> None:
    found = trees(
        [op("write d/a", b"ab"), op("write d/a", b"cd")],
        P3_ATOMIC,
        {"d/a": b""},
        Tearing(stale=b"WXYZ"),
    )
    assert {"d/a": b"WXYZ"} in found
    assert {"d/a": b"WXcd"} in found


def test_too_many_combinations_are_said_to_be_a_sample() -> None:
    operations = [op(f"write d/{name}", b"12") for name in "abc"]
    initial, record = recorded(operations, {f"d/{name}": b"" for name in "abc"})
    everything = Enumeration(initial, record, P3_ATOMIC)
    sample = Enumeration(initial, record, P3_ATOMIC, limit=20)
    assert len(list(everything.states())) == 64
    assert everything.exhaustive
    few = list(sample.states())
    assert not sample.exhaustive
    assert 12 < len(few) < 65
    many_names = [op(f"create d/{number}") for number in range(6)]
    initial, record = recorded(many_names)
    cut = Enumeration(initial, record, P3_ATOMIC, limit=20)
    assert len(list(cut.states())) <= 20
    assert not cut.exhaustive


# ---- the plainest enumeration: every subset of every effect, nothing merged or left out -------

Fate = tuple[int, str]


def plain(initial: Snapshot, record: Sequence[Recorded], model: Model) -> dict[object, int]:
    """Tree -> how many were acknowledged at most. Written from the table, with no shared code."""
    found: dict[object, int] = {}
    for cut in range(len(record) + 1):
        done = record[:cut]
        acknowledged = sum(each.kind == "reply" for each in done)
        for chosen in plain_names(initial, done, model):
            for files in plain_octets(initial, done, model, chosen):
                key = tuple(sorted(files.items()))
                found[key] = max(found.get(key, 0), acknowledged)
    return found


NameEffect = tuple[int, str, str, int]  # operation, add/del/mode, path or mode, inode


def plain_effects(done: Sequence[Recorded], model: Model) -> list[NameEffect]:
    effects: list[NameEffect] = []
    for number, each in enumerate(done):
        if each.kind == "create":
            effects.append((number, "add", each.path, each.inode))
        elif each.kind == "link":
            effects.append((number, "add", each.target, each.inode))
        elif each.kind == "unlink":
            effects.append((number, "del", each.path, each.inode))
        elif each.kind == "chmod":
            effects.append((number, "mode", str(each.mode), each.inode))
        elif each.kind == "rename":
            if each.displaced and model == P3_SPLIT:
                effects.append((number, "del", each.target, each.displaced))
            effects.append((number, "add", each.target, each.inode))
            effects.append((number, "del", each.path, each.inode))
    return effects


def parent(path: str) -> str:
    return path.rsplit("/", 1)[0]


def plain_names(
    initial: Snapshot, done: Sequence[Recorded], model: Model
) -> Iterator[tuple[NameEffect, ...]]:
    effects = plain_effects(done, model)
    syncs = [(n, each) for n, each in enumerate(done) if each.kind in {"sync", "sync_dir"}]
    must: set[NameEffect] = set()
    for number, sync in syncs:
        before = [effect for effect in effects if effect[0] < number]
        if model.name == "P1":
            must |= set(before)
        elif sync.kind == "sync_dir":
            must |= {effect for effect in before if parent(effect[2]) == sync.path}
        else:
            must |= {e for e in before if e[1] == "mode" and e[3] == sync.inode}
        if model.name == "P2" and sync.kind == "sync":
            for path in {effect[2] for effect in before}:
                last = [effect for effect in before if effect[2] == path][-1]
                if last[1] == "add" and last[3] == sync.inode:
                    must.add(last)
    if model.rename == "atomic":
        renames = {effect[0] for effect in must}
        must |= {e for e in effects if e[0] in renames and done[e[0]].kind == "rename"}
    for size in range(len(effects) + 1):
        for subset in combinations(effects, size):
            if must <= set(subset) and plain_allowed(initial, done, model, effects, subset):
                yield subset


def plain_allowed(
    initial: Snapshot,
    done: Sequence[Recorded],
    model: Model,
    effects: list[NameEffect],
    subset: tuple[NameEffect, ...],
) -> bool:
    if model.name == "P1" and list(subset) != effects[: len(subset)]:
        return False
    for number, each in enumerate(done):
        if each.kind != "rename":
            continue
        mine = [effect for effect in effects if effect[0] == number]
        kept = [effect for effect in subset if effect[0] == number]
        if model.rename == "atomic" and kept and kept != mine:
            return False
        synced = each.inode in initial.inodes or any(
            earlier.kind == "sync" and earlier.inode == each.inode for earlier in done[:number]
        )
        if model.name == "P2" and synced and [effect[1] for effect in kept] == ["del"]:
            return False
    return True


def plain_octets(
    initial: Snapshot, done: Sequence[Recorded], model: Model, kept: tuple[NameEffect, ...]
) -> Iterator[dict[str, tuple[bytes, int]]]:
    names = dict(zip(initial.paths, initial.inodes, strict=True))
    modes: dict[int, int] = {}
    for _, what, path, inode in kept:
        if what == "mode":
            modes[inode] = int(path)
        elif what == "add":
            names[path] = inode
        else:
            names.pop(path, None)
    base = dict(zip(initial.inodes, initial.contents, strict=True))
    inodes = sorted(set(names.values()))
    truncated = {each.displaced or each.inode for each in done if each.last}
    choices = []
    for inode in inodes:
        possible = set(plain_content(base.get(inode, b""), done, inode))
        if inode in truncated and model.name in {"P2", "P3"}:
            possible.add(b"")
        choices.append(sorted(possible))
    for chosen in product(*choices):
        octets = dict(zip(inodes, chosen, strict=True))
        yield {path: (octets[inode], modes.get(inode, 0o600)) for path, inode in names.items()}


def plain_content(base: bytes, done: Sequence[Recorded], inode: int) -> Iterator[bytes]:
    writes = [
        (number, each)
        for number, each in enumerate(done)
        if each.kind in {"write", "overwrite"} and each.inode == inode
    ]
    last_sync = max(
        (n for n, e in enumerate(done) if e.kind == "sync" and e.inode == inode), default=-1
    )
    known = {"write": ["data", "zeros", "junk", "lost"], "overwrite": ["data", "lost"]}
    fates = [["data"] if n < last_sync else known[each.kind] for n, each in writes]
    for chosen in product(*fates):
        content = bytearray(base)
        for fate, (_, write) in zip(chosen, writes, strict=True):
            if fate == "lost":
                continue
            size = len(write.data)
            fill = {"data": write.data, "zeros": bytes(size)}.get(
                fate, COARSE.garbage(write.offset, size)
            )
            content.extend(bytes(max(0, write.offset - len(content))))
            content[write.offset : write.offset + size] = fill
        yield bytes(content)


def modes(operations: Sequence[Op], model: Model) -> set[tuple[str, ...]]:
    """The modes of d/a that a crash may leave, with what is in it."""
    initial, record = recorded(operations, {"d/a": b""})
    found = set()
    for state in crash_states(initial, record, model):
        mode = state.snapshot.modes[0] if state.snapshot.modes else 0o600
        found.add((f"{mode:o}", state.tree["d/a"].decode("latin-1")))
    return found


COMPLETE = [op("write d/a", b"x"), op("chmod d/a 700")]


@pytest.mark.parametrize("model", [P1_ATOMIC, P2_SPLIT, P3_SPLIT], ids=str)
def test_a_mode_may_land_before_the_data(model: Model) -> None:
    assert {("600", ""), ("700", ""), ("600", "x"), ("700", "x")} <= modes(COMPLETE, model)


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_the_sync_of_a_file_forces_its_mode(model: Model) -> None:
    synced = [*COMPLETE, op("sync d/a"), op("reply t")]
    initial, record = recorded(synced, {"d/a": b""})
    told = [s for s in crash_states(initial, record, model) if s.acknowledged]
    assert {(s.snapshot.modes, s.tree["d/a"]) for s in told} == {((0o700,), b"x")}


def test_the_sync_of_a_directory_forces_a_mode_only_where_metadata_are_ordered() -> None:
    synced = [op("chmod d/a 700"), op("sync_dir d"), op("reply t")]
    initial, record = recorded(synced, {"d/a": b""})
    for model, left in ((P1_ATOMIC, {(0o700,)}), (P2_ATOMIC, {(), (0o700,)})):
        told = [s for s in crash_states(initial, record, model) if s.acknowledged]
        assert {s.snapshot.modes for s in told} == left


def test_an_overwrite_is_old_or_new_and_never_zeros() -> None:
    done = [op("overwrite d/a 1", b"XYZ")]
    assert {tree["d/a"] for tree in trees(done, P3_SPLIT, {"d/a": b"abcde"})} == {
        b"abcde", b"aXYZe",
    }  # fmt: skip
    assert {tree["d/a"] for tree in trees(done, P3_SPLIT, {"d/a": b"abcde"}, FINE)} == {
        b"abcde", b"aXYZe", b"aXcde", b"abYZe",
    }  # fmt: skip
    assert trees([*done, op("sync d/a"), op("reply t")], P0, {"d/a": b"abcde"})[0] == {
        "d/a": b"aXYZe"
    }


PATHS = ["d/a", "d/b", "e/a"]
STEP = st.one_of(
    st.sampled_from(
        [op(f"{kind} {path}") for kind in ("create", "sync", "unlink") for path in PATHS]
    ),
    st.sampled_from([op(f"write {path}", b"xy") for path in PATHS]),
    st.sampled_from([op(f"overwrite {path} 1", b"z") for path in PATHS]),
    st.sampled_from([op(f"chmod {path} {mode}") for path in PATHS for mode in ("600", "700")]),
    st.sampled_from(
        [op(f"{k} {s} {t}") for k in ("rename", "link") for s in PATHS for t in PATHS if s != t]
    ),
    st.sampled_from([op("sync_dir d"), op("sync_dir e"), op("reply t")]),
)


@pytest.mark.parametrize(
    "model", [P1_ATOMIC, P1_SPLIT, P2_ATOMIC, P2_SPLIT, P3_ATOMIC, P3_SPLIT], ids=str
)
@settings(max_examples=120, deadline=None)
@given(steps=st.lists(STEP, max_size=12), old=st.sampled_from([{}, {"d/a": b"old"}]))
def test_it_finds_exactly_what_the_plainest_enumeration_finds(
    model: Model, steps: list[Op], old: Tree
) -> None:
    disk = ModelDisk.from_tree(old, ["d", "e"])
    initial = disk.snapshot()
    for number, step in enumerate(steps):
        once = replace(step, path=f"t{number}") if step.kind == "reply" else step
        try:
            disk.execute([once])
        except OSError:
            continue
        if len(disk.record) == 7:
            break
    expected = plain(initial, disk.record, model)
    found: dict[object, int] = {}
    replies = [each.path for each in disk.record if each.kind == "reply"]
    enumeration = Enumeration(initial, disk.record, model)
    for state in enumeration.states():
        at_rest = state.snapshot
        modes = at_rest.modes or (0o600,) * len(at_rest.paths)
        files = zip(at_rest.contents, modes, strict=True)
        key = tuple(sorted(zip(at_rest.paths, files, strict=True)))
        count = max(
            number
            for number in range(len(replies) + 1)
            if frozenset(replies[:number]) == state.acknowledged
        )
        found[key] = max(found.get(key, 0), count)
    if enumeration.exhaustive:
        assert found == expected
    else:
        assert found.keys() <= expected.keys()


def test_every_model_is_weaker_than_the_one_before() -> None:
    """P1 within P3, P2 within P3, atomic within split: on a plan with everything in it."""
    operations = [
        op("create d/a"),
        op("write d/a", b"xy"),
        op("sync d/a"),
        op("rename d/a e/b"),
        op("write e/b", b"z"),
        op("sync_dir e"),
    ]
    found = {
        str(model): {tuple(sorted(tree.items())) for tree in trees(operations, model)}
        for model in MODELS
        if model is not P0
    }
    pairs = chain(
        [(f"P1 {kind}", f"P3 {kind}") for kind in ("atomic", "split")],
        [(f"P2 {kind}", f"P3 {kind}") for kind in ("atomic", "split")],
        [(f"{name} atomic", f"{name} split") for name in ("P1", "P2", "P3")],
    )
    for stronger, weaker in pairs:
        assert found[stronger] <= found[weaker], (stronger, weaker)
