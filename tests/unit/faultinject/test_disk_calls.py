"""Which call is about which file, and the census."""

from __future__ import annotations

import pytest

from faultinject.disk.calls import Census, fair, is_below, places, take_census
from faultinject.disk.descriptors import limit
from faultinject.disk.faults import FAULTS
from faultinject.disk.steps import Limits, Step, beyond, by_census, by_number, ends
from faultinject.tracing import parse

PLACES = {
    "write(5</spool/a>, \"\"..., 7) = 7": ("/spool/a",),
    "sendto(5<socket:[77]>, \"\"..., 7, 0, NULL, 0) = 7": ("socket:[77]",),
    'openat(3</spool>, "x/a", O_RDONLY) = 4</spool/x/a>': ("/spool/x/a",),
    'openat(AT_FDCWD</var/spool>, "active/A", O_RDWR) = 4': ("/var/spool/active/A",),
    'openat(AT_FDCWD</>, "/etc/passwd", O_RDONLY) = 4': ("/etc/passwd",),
    'unlink("/spool/a") = 0': ("/spool/a",),
    'rename("/spool/a", "/spool/b") = 0': ("/spool/a", "/spool/b"),
    'linkat(3</t>, "a", 4</n>, "b", 0) = 0': ("/t/a", "/n/b"),
    'utimensat(5</spool/a>, NULL, NULL, 0) = 0': ("/spool/a",),
    "fsync(9</spool/a>(deleted)) = 0": ("/spool/a",),
    "write(5) = ?": ("",),
}  # fmt: skip


def one(line: str, pid: int = 7):
    (call,) = parse([f"{pid} 1.000000 {line} <0.000010>"])
    return call


@pytest.mark.parametrize("line", PLACES)
def test_what_a_call_is_about(line):
    assert places(one(line)) == PLACES[line]


def test_below():
    assert is_below("/spool/a/b", ["/spool"]) and is_below("/spool", ["/spool"])
    assert not is_below("/spool2/a", ["/spool"]) and not is_below("", ["/spool"])
    assert fair(one('rename("/tmp/a", "/spool/b") = 0'), ["/spool"])


def test_only_what_creates_or_writes_may_find_no_room():
    reads = one('openat(3</spool>, "a", O_RDONLY) = 4')
    makes = one('openat(3</spool>, "a", O_RDWR|O_CREAT, 0600) = 4')
    assert fair(reads, ["/spool"], "EIO") and not fair(reads, ["/spool"], "ENOSPC")
    assert fair(makes, ["/spool"], "ENOSPC")


QUEUE = [
    '10 1.0 write(5</log>, ""..., 7) = 7 <0.1>',
    '10 1.1 write(5</spool/a>, ""..., 7) = 7 <0.1>',
    "10 1.2 fsync(5</spool/a>) = 0 <0.1>",
    "10 1.3 clone(child_stack=NULL) = 3 <0.1>",
    '12 1.4 write(5</spool/b>, ""..., 7) = 7 <0.1>',
]
SMTPD = ['11 1.5 write(5<socket:[7]>, ""..., 7) = 7 <0.1>']


def census(directories: list[str] | None = None) -> Census:
    """Who is made by a process has its role, whatever number it was told."""
    return take_census([("queue", parse(QUEUE)), ("smtpd", parse(SMTPD))], directories)


def test_numbers_are_counted_by_thread_and_only_fair_ones_are_steps():
    found = census(["/spool"])
    assert found.steps(["write", "fsync"]) == [("queue", "write", (1, 2)), ("queue", "fsync", (1,))]
    assert found.counted["queue", "write"] == 2 and found.counted["smtpd", "write"] == 1
    assert found.steps(["rename"]) == []


def test_everything_is_fair_if_nothing_is_named():
    assert ("smtpd", "write", (1,)) in census().steps(["write"])


def test_the_steps_of_a_census():
    steps = by_census(FAULTS["eio"], census(["/spool"]), Limits(), 1)
    assert [str(each) for each in steps] == ["queue write 1", "queue write 2", "queue fsync 1"]
    assert ends(steps) == [False, True, True]
    assert ends([]) == []
    fewer = by_census(FAULTS["eio"], census(["/spool"]), Limits(call="write", first=2), 1)
    assert [str(each) for each in fewer] == ["queue write 2"]
    assert by_census(FAULTS["eio"], census(["/spool"]), Limits(role="smtpd"), 1) == []
    assert len(by_census(FAULTS["eio"], census(["/spool"]), Limits(sample=2), 1)) == 2


def test_beyond_the_census_numbers_go_on():
    last = Step(role="queue", call="write", number=2)
    assert [each.number for each in beyond(last, Limits())] == [3, 4, 5]
    assert list(beyond(last, Limits(last=2))) == []


@pytest.mark.parametrize("name", [name for name, row in FAULTS.items() if row.way != "error"])
def test_steps_without_a_census(name):
    steps = by_number(FAULTS[name], Limits(), 1)
    numbers = [each.number for each in steps]
    assert numbers == sorted(set(numbers)) and numbers[0] in (0, 1)
    assert [each.number for each in by_number(FAULTS[name], Limits(first=1, last=1), 1)] == [1]
    few = by_number(FAULTS[name], Limits(sample=3), 1)
    assert len(few) == min(3, len(steps)) and few == by_number(FAULTS[name], Limits(sample=3), 1)


def test_each_fault_says_what_fails_and_why():
    for name, row in FAULTS.items():
        assert row.name == name and row.why
        assert bool(row.calls) == (row.way in ("error", "delay", "short", "descriptors"))
        assert bool(row.error) == (row.way not in ("delay", "short"))


def test_a_limit_leaves_so_many_descriptors():
    assert [limit({0, 1, 2, 5, 9}, left) for left in range(5)] == [3, 4, 6, 7, 8]
