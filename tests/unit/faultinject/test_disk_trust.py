"""Which replies rest on a failed sync: tables of calls, as strace writes them."""

from __future__ import annotations

import pytest

from faultinject.disk import trust
from faultinject.disk.controls import controls
from faultinject.disk.trust import TRUSTED, TRUSTED_DELIVERY, Answered
from faultinject.tracing import Call, parse
from specs.kernel.control import run_control

LETTER = Answered(what="disk-1/1", begun_s=100.0, answered_s=200.0)
MAIL = ("/home/ada/Maildir",)
QUEUE, BOX = "/spool/a", "/home/ada/Maildir/tmp/a"
CREATE = 'openat(3</spool>, "{}", O_RDWR|O_CREAT|O_EXCL, 0600) = 5</spool/{}>'
FAILS = "= -1 EIO (Input/output error) (INJECTED)"


def created(name: str) -> str:
    return CREATE.format(name, name)


def calls(lines: list[str], first_s: float = 110.0) -> list[Call]:
    rows = (f"7 {first_s + place:.6f} {line} <0.000010>" for place, line in enumerate(lines))
    return [each for each in parse(rows) if isinstance(each, Call)]


def judged(lines: list[str], *, settled: bool = True, answers=(LETTER,)) -> list[str]:
    found = trust.judge(calls(lines), answers, MAIL, settled=settled)
    return [each.name for each in found]


SYNCED = "fsync(5</spool/a>) = 0"
FAILED = f"fsync(5</spool/a>) {FAILS}"
SYNCED_DIR = "fsync(6</spool>) = 0"
FAILED_DIR = f"fsync(6</spool>) {FAILS}"
ROWS = {
    "all is well": ([created("a"), SYNCED, SYNCED_DIR], []),
    "retried": ([created("a"), FAILED, SYNCED, SYNCED_DIR], [TRUSTED]),
    "not even retried": ([created("a"), FAILED, SYNCED_DIR], [TRUSTED]),
    "retried by fdatasync": ([created("a"), FAILED, "fdatasync(5</spool/a>) = 0"], [TRUSTED]),
    "no room": (
        [created("a"), "fsync(5</spool/a>) = -1 ENOSPC (No space left on device)", SYNCED],
        [TRUSTED],
    ),
    "interrupted": ([created("a"), "fsync(5</spool/a>) = -1 EINTR (x) (INJECTED)", SYNCED], []),
    "given up": ([created("a"), FAILED, 'unlink("/spool/a") = 0', created("b")], []),
    "given up in vain": (
        [created("a"), FAILED, f'unlink("/spool/a") {FAILS}', created("b")], [TRUSTED],
    ),
    "made anew": (
        [created("a"), FAILED, 'unlinkat(3</spool>, "a", 0) = 0', created("a"), SYNCED], [],
    ),
    "renamed": (
        [created("a"), FAILED, 'renameat(3</spool>, "a", 3</spool>, "b") = 0'], [TRUSTED],
    ),
    "one of two names is left": (
        [created("a"), 'linkat(3</spool>, "a", 3</spool>, "b", 0) = 0', FAILED,
         'unlink("/spool/a") = 0'],
        [TRUSTED],
    ),
    "emptied and written anew": (
        [created("a"), FAILED, "ftruncate(5</spool/a>, 0) = 0", SYNCED], [],
    ),
    "a directory, retried": ([created("a"), SYNCED, FAILED_DIR, SYNCED_DIR], [TRUSTED]),
    "a directory, the name given up": (
        [created("a"), SYNCED, FAILED_DIR, 'unlink("/spool/a") = 0', created("b"), SYNCED_DIR],
        [],
    ),
    "a directory of older names": (
        ['openat(3</spool>, ".", O_RDONLY|O_DIRECTORY) = 6</spool>', FAILED_DIR], [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_a_reply_and_the_syncs_that_it_rests_on(row):
    lines, names = ROWS[row]
    assert judged(lines) == names


def test_what_failed_in_another_letter_is_that_letters():
    early = Answered(what="disk-0/1", begun_s=50.0, answered_s=60.0)
    late = Answered(what="disk-2/1", begun_s=300.0, answered_s=400.0)
    assert judged([created("a"), FAILED], answers=(early, late)) == []


def test_a_sync_that_fails_after_the_reply_is_no_lie():
    early = Answered(what="disk-0/1", begun_s=100.0, answered_s=110.5)
    assert judged([created("a"), FAILED], answers=(early,)) == []


EARLY = Answered(what="disk-0/1", begun_s=100.0, answered_s=112.5)  # behind the third call
PREPARED = [created("m"), created("a"), FAILED]
GIVEN_UP = 'unlink("/spool/a") = 0'
DELIVERY = 'openat(3</home/ada>, "Maildir/tmp/a", O_WRONLY|O_CREAT|O_EXCL, 0600) = 5</x>'


def test_what_is_given_up_before_a_delivery_begins_was_not_trusted():
    assert judged([*PREPARED, GIVEN_UP, created("a"), DELIVERY], answers=(EARLY,)) == []
    assert judged([*PREPARED, DELIVERY, GIVEN_UP], answers=(EARLY,)) == [TRUSTED]
    assert judged([*PREPARED, SYNCED, DELIVERY, GIVEN_UP], answers=(EARLY,)) == [TRUSTED]
    assert judged([*PREPARED, SYNCED], answers=(EARLY,)) == [TRUSTED]


def test_a_delivery_that_began_before_the_reply_counts_too():
    early = Answered(what="disk-0/1", begun_s=100.0, answered_s=113.5)
    assert judged([*PREPARED, DELIVERY, GIVEN_UP], answers=(early,)) == [TRUSTED]


BOX_CREATED = (
    'openat(3</home/ada>, "Maildir/tmp/a", O_RDWR|O_CREAT|O_EXCL, 0600)'
    " = 5</home/ada/Maildir/tmp/a>"
)
BOX_FAILED = f"fsync(5</home/ada/Maildir/tmp/a>) {FAILS}"
RENAMED = 'rename("/home/ada/Maildir/tmp/a", "/home/ada/Maildir/new/a") = 0'


def test_a_delivery_rests_on_its_syncs_too():
    assert judged([BOX_CREATED, BOX_FAILED, RENAMED]) == [TRUSTED_DELIVERY]
    assert judged([BOX_CREATED, BOX_FAILED, RENAMED], settled=False) == []
    assert judged([BOX_CREATED, BOX_FAILED, f'unlink("{BOX}") = 0']) == []
    assert judged([BOX_CREATED, BOX_FAILED]) == []


@pytest.mark.parametrize("control", controls(), ids=lambda each: each.name.replace(" ", "-"))
def test_controls_count(control):
    result = run_control(control)
    assert result.counts, result.reason


def test_the_order_is_that_of_ends():
    """Two tracers write two files: what was seen last may be told first."""
    tail = calls(['unlink("/spool/a") = 0'], 120.0)
    assert trust.judge([*tail, *calls([created("a"), FAILED])], (LETTER,), MAIL, settled=True) == []
