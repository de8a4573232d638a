"""Claims on what the kernel was asked while mail went its way, and on what a kill leaves.

Controls: a trace from which one call was taken, or in which it comes too late, is refused by the
claim that was named before.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from specs.observe.files import Lock
from specs.patterns.calls import Call, parse
from specs.patterns.cut import LINES, Cut, judge, letter
from specs.patterns.manifest import Manifest
from specs.patterns.observation import Instant, Observation
from specs.patterns.unique_atomic_chunks import CLAIMS, CUT, WAY, Way

QUEUE, BOX = "/spool", "/home/ada/Maildir"
UNIT, NEW, TMP = f"{QUEUE}/chunks/ID", f"{BOX}/new/N", f"{BOX}/tmp/N"
#: (step, process, name, place, arguments, paths, opened), one a second.
STEPS = [
    ("354", "smtpd", "sendto", "socket:[9]", '9<socket:[9]>, "354 go on\\r\\n"', (), ""),
    ("create", "enqueue", "openat", "", 'O_RDWR|O_CREAT|O_EXCL', (UNIT,), UNIT),
    ("write", "enqueue", "write", UNIT, 'Subject: way0x', (), ""),
    ("sync", "enqueue", "fsync", UNIT, "", (), ""),
    ("sync the directory", "enqueue", "fsync", f"{QUEUE}/chunks", "", (), ""),
    ("250", "smtpd", "sendto", "socket:[9]", '9<socket:[9]>, "250 queued\\r\\n"', (), ""),
    ("stage", "local", "openat", "", 'O_RDWR|O_CREAT|O_EXCL', (TMP,), TMP),
    ("copy", "local", "write", TMP, 'Subject: way0x', (), ""),
    ("sync the copy", "local", "fsync", TMP, "", (), ""),
    ("rename", "local", "renameat", "", "", (TMP, NEW), ""),
    ("sync new/", "local", "fsync", f"{BOX}/new", "", (), ""),
    ("mark", "qmgr", "write", UNIT, "a mark", (), ""),
    ("unlink", "qmgr", "unlinkat", "", "", (UNIT,), ""),
]  # fmt: skip


def calls(*names: str) -> tuple[Call, ...]:
    """The steps of these names, in this order."""
    rows = {row[0]: row[1:] for row in STEPS}
    made = []
    for at, step in enumerate(names):
        process, name, place, arguments, paths, opened = rows[step]
        made.append(
            Call(
                at=float(at), until=at + 0.5, pid=len(process), process=process, name=name,
                arguments=arguments, result=0, place=place, paths=paths, opened=opened,
            )
        )  # fmt: skip
    return tuple(made)


ORDER = [row[0] for row in STEPS]
NOTHING_WRONG = Cut(answered=9, lost=(), torn=(), duplicates=1, killed=5)


def observation(
    *names: str,
    cut: Cut = NOTHING_WRONG,
    extra: tuple[Call, ...] = (),
    locks: tuple[Lock, ...] = (),
) -> Observation:
    way = Way(
        tokens=("way0x",), queue=QUEUE, mailboxes=(BOX,), calls=(*calls(*(names or ORDER)), *extra)
    )
    return Observation(
        manifest=Manifest(architecture="a", layers=(), compartments=()),
        instants=(Instant(label="loaded", processes=()),),
        locks=locks,
        results={WAY: way, CUT: cut},
    )


def violated(seen: Observation) -> set[str]:
    return {claim.name for claim in CLAIMS if claim.judge(seen)}


def moved(step: str, behind: str) -> list[str]:
    order = [each for each in ORDER if each != step]
    order.insert(order.index(behind) + 1, step)
    return order


def test_the_twin_is_accepted():
    assert violated(observation()) == set()


@pytest.mark.parametrize(
    ("step", "claim"),
    [
        ("sync", "no_reply_before_syncs"),
        ("sync the directory", "no_reply_before_syncs"),
        ("250", "no_reply_before_syncs"),
        ("write", "no_reply_before_syncs"),
        ("sync the copy", "freed_after_delivery"),
        ("sync new/", "freed_after_delivery"),
        ("copy", "freed_after_delivery"),
        ("unlink", "freed_after_delivery"),
    ],
)
def test_a_trace_without_a_step_is_refused_by_name(step, claim):
    assert claim in violated(observation(*(each for each in ORDER if each != step)))


@pytest.mark.parametrize(
    ("step", "behind", "claim"),
    [
        ("sync", "250", "no_reply_before_syncs"),
        ("sync the directory", "250", "no_reply_before_syncs"),
        ("write", "sync", "no_reply_before_syncs"),
        ("sync the copy", "unlink", "freed_after_delivery"),
        ("sync new/", "unlink", "freed_after_delivery"),
        ("rename", "sync new/", "freed_after_delivery"),
        ("copy", "sync the copy", "freed_after_delivery"),
    ],
)
def test_a_step_that_comes_too_late_is_refused_by_name(step, behind, claim):
    assert violated(observation(*moved(step, behind))) == {claim}


def test_a_mailbox_that_was_there_before_needs_no_sync_of_its_name():
    """One file for all mail: its name is as old as the first message in it."""
    steps = [each for each in ORDER if each not in ("stage", "rename", "sync new/")]
    assert violated(observation(*steps)) == set()
    steps.remove("sync the copy")
    assert violated(observation(*steps)) == {"freed_after_delivery"}


def test_a_link_that_goes_is_not_the_message():
    """qmail's: written under one name, linked to another, and the first one removed at once."""
    old, new = f"{QUEUE}/pid/1", f"{QUEUE}/mess/ID"
    renamed = {UNIT: old}
    steps = calls(*ORDER)
    linked = []
    for each in steps:
        place = renamed.get(each.place, each.place)
        paths = tuple(renamed.get(path, path) for path in each.paths)
        if each.name == "unlinkat":
            paths = (new,)
        opened = renamed.get(each.opened, each.opened)
        linked.append(replace(each, place=place, paths=paths, opened=opened))
    after = linked[2].until
    link = replace(steps[9], at=after + 0.1, until=after + 0.2, name="linkat", paths=(old, new))
    gone = replace(steps[12], at=after + 0.3, until=after + 0.4, paths=(old,))
    synced = replace(steps[4], place=f"{QUEUE}/mess")
    seen = observation()
    way = replace(seen.result(WAY, Way), calls=(*linked[:3], link, gone, *linked[3:4], synced,
                                                *linked[5:]))  # fmt: skip
    assert violated(replace(seen, results={**seen.results, WAY: way})) == set()


def test_a_sync_that_failed_or_had_not_ended_is_none():
    for change in ({"result": -1}, {"until": 5.4}):
        seen = observation()
        way = seen.result(WAY, Way)
        wrong = [
            replace(c, **change) if c.place == UNIT and c.name == "fsync" else c for c in way.calls
        ]
        results = {**seen.results, WAY: replace(way, calls=tuple(wrong))}
        assert violated(replace(seen, results=results)) == {"no_reply_before_syncs"}


def extra(name: str, arguments: str, opened: str = "", place: str = "") -> Call:
    return Call(
        at=99.0, until=99.1, pid=1, process="qmgr", name=name, arguments=arguments, result=0,
        opened=opened, place=place,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("call", "claim"),
    [
        (extra("openat", "O_RDWR|O_CREAT", f"{QUEUE}/shared"), "names_are_unique"),
        (extra("openat", "O_RDWR|O_CREAT|O_EXCL", UNIT), "names_are_unique"),
        (extra("flock", "7<x>, LOCK_EX"), "no_locks"),
        (extra("fcntl", "7<x>, F_SETLKW, {l_type=F_WRLCK}"), "no_locks"),
        (extra("fcntl", "7<x>, F_OFD_SETLK, {l_type=F_WRLCK}"), "no_locks"),
    ],
)
def test_a_call_too_many_is_refused_by_name(call, claim):
    assert violated(observation(extra=(call,))) == {claim}


def test_what_is_no_lock_and_no_queue_is_no_offence():
    innocent = (
        extra("fcntl", "7<x>, F_SETFD, FD_CLOEXEC"),
        extra("openat", "O_RDWR|O_CREAT", "/var/log/somewhere"),
    )
    assert violated(observation(extra=innocent)) == set()


def test_a_lock_that_is_held_is_refused():
    lock = Lock(pid=7, kind="FLOCK", path=UNIT)
    assert violated(observation(locks=(lock,))) == {"no_locks"}


def test_a_trace_of_nothing_proves_nothing():
    (nothing,) = (Way(tokens=("way0x",), queue=QUEUE, mailboxes=(BOX,), calls=()),)
    seen = observation()
    seen = replace(seen, results={**seen.results, WAY: nothing})
    assert violated(seen) == {"no_reply_before_syncs", "freed_after_delivery", "names_are_unique"}


# -- everything killed ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cut", "claims"),
    [
        (replace(NOTHING_WRONG, lost=("cut1",)), {"nothing_answered_is_lost"}),
        (replace(NOTHING_WRONG, torn=("N: cut1 is torn",)), {"absent_or_whole"}),
        (replace(NOTHING_WRONG, killed=0), {"absent_or_whole", "nothing_answered_is_lost"}),
        (replace(NOTHING_WRONG, answered=0), {"absent_or_whole", "nothing_answered_is_lost"}),
    ],
)
def test_what_a_kill_left_is_judged_by_name(cut, claims):
    assert violated(observation(cut=cut)) == claims


def stored(token: str) -> bytes:
    return b"Return-Path: <>\nReceived: by us\n" + letter(token).replace(b"\r\n", b"\n")


def test_a_message_is_whole_or_torn_or_mixed():
    whole, other = stored("cut0c1x2"), stored("cut0c1x3")
    assert judge(whole) == ("cut0c1x2", "")
    assert judge(whole[:-1])[1] == judge(whole[: len(whole) // 2])[1] == "torn"
    line = whole.splitlines(keepends=True)[LINES // 2]
    assert judge(whole.replace(line, b"", 1))[1] == "mixed with something else"
    assert judge(whole[: len(whole) // 2] + other[len(other) // 2 :])[1]
    assert judge(b"Subject: another\n\nhello\n") == ("", "")


# -- lines of strace ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            '1.5 openat(5</spool>, "chunks/ID", O_RDWR|O_CREAT|O_EXCL, 0660) = 9</spool/chunks/ID>'
            " <0.25>",
            {"name": "openat", "opened": UNIT, "paths": (UNIT,), "result": 9, "place": "/spool"},
        ),
        ("2.0 fsync(9</spool/chunks/ID>) = 0 <0.5>", {"place": UNIT, "until": 2.5, "result": 0}),
        ("2.0 fsync(9</spool/chunks/ID>) = -1 EIO (Input/output error) <0.5>", {"result": -1}),
        (
            '3.0 renameat(5</home>, "ada/Maildir/tmp/N", 5</home>, "ada/Maildir/new/N") = 0 <0.1>',
            {"paths": (TMP, NEW)},
        ),
        ('3.0 unlink("/spool/chunks/ID") = 0 <0.1>', {"paths": (UNIT,)}),
        (
            '4.0 sendto(7<socket:[77]>, "250 (= kept) \\"x\\"\\r\\n", 9, 0, NULL, 0) = 9 <0.1>',
            {"place": "socket:[77]", "result": 9},
        ),
    ],
)
def test_a_line_of_strace_is_read(line, expected):
    (call,) = parse([line], 1, "qmgr")
    assert {name: getattr(call, name) for name in expected} == expected


@pytest.mark.parametrize(
    "line",
    ["1.0 fsync(9</x>", "1.0 --- SIGTERM {si_signo=SIGTERM} ---", "1.0 +++ exited with 0 +++", "",
     "1.0 fsync(9</x>) = ?", "1.0 write(2</l>, \"a\", 1 <unfinished ...>"],
)  # fmt: skip
def test_what_did_not_return_is_no_call(line):
    assert list(parse([line], 1, "qmgr")) == []
