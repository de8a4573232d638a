"""The table of system calls: what is in it, and what follows from it."""

from __future__ import annotations

import pyseccomp
import pytest

from refmta.patterns.system_calls import (
    ABSENT,
    KINDS,
    NEEDS,
    REFUSED,
    Need,
    Rule,
    absent,
    calls,
    limit,
    rules,
)
from refmta.patterns.system_calls import Test as Compared

#: What leads to another program, another user, another process's memory, or out of a jail.
WAYS_OUT = {
    "execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "setresuid", "setuid",
    "chroot", "unshare", "setns", "mount", "pivot_root", "kill", "open_by_handle_at", "bpf",
    "io_uring_setup", "userfaultfd", "keyctl", "add_key", "perf_event_open", "clone3", "openat2",
    "pidfd_getfd", "memfd_create", "symlinkat", "mknodat", "fchmodat", "fchownat", "listen",
}  # fmt: skip
CONFINED = KINDS - {"spawner", "starting"}


@pytest.mark.parametrize("kind", sorted(CONFINED))
def test_nobody_but_who_starts_has_a_way_out(kind):
    assert calls([kind]) & WAYS_OUT <= ({"kill"} if kind == "spawner" else set())


@pytest.mark.parametrize("kind", ["smtpd", "resolve", "bounce", "supervisor", "worker", "remote"])
def test_who_needs_no_file_opens_none(kind):
    assert not {name for name in calls([kind]) if "open" in name and name != "pidfd_open"}


@pytest.mark.parametrize("kind", sorted(CONFINED - {"remote", "accounts"}))
def test_who_needs_no_network_makes_no_connection(kind):
    assert not {"socket", "connect", "bind"} & calls([kind])


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_filter_is_inherited_so_that_the_spawner_allows_what_anybody_needs(kind):
    assert limit([*NEEDS]) == rules(["spawner"])
    assert calls([kind]) <= calls(["spawner"])


def test_memory_that_is_written_is_not_executed():
    allowed = [rule for rule in rules(["worker", "smtpd"]) if rule.name in ("mmap", "mprotect")]
    assert [rule.tests for rule in allowed] == [(Compared(2, 0, 4),)] * 2


def test_accounts_reads_and_does_not_write():
    (rule,) = [rule for rule in rules(["accounts"]) if rule.name == "openat"]
    (test,) = rule.tests
    assert test.value == 0 and test.mask & 0o3 == 0o3


def test_a_call_that_one_row_does_not_limit_has_one_rule():
    limited = Need("a b", ("every",), "", ((Compared(0, 1),), (Compared(0, 2), Compared(1, 3))))
    free = Need("b", ("every",), "")
    assert limit([limited, free]) == (
        Rule("b"), Rule("a", (Compared(0, 1),)), Rule("a", (Compared(0, 2), Compared(1, 3))),
    )  # fmt: skip


def test_the_c_library_is_told_to_fall_back_where_it_can():
    assert "clone3" in absent(["spawner"])
    for kind in KINDS:
        assert absent([kind]) == set(ABSENT) - calls([kind])


def test_every_row_is_complete():
    for row in (*NEEDS, *REFUSED):
        assert row.names.split() and row.kinds and row.reason
        assert set(row.kinds) <= KINDS
        for tests in row.tests:  # libseccomp takes one comparison of an argument
            assert tests and len({test.argument for test in tests}) == len(tests)


def test_an_unknown_kind_is_an_error():
    with pytest.raises(ValueError, match="no such kind of process: smtp"):
        rules(["smtp"])


#: Names that a libseccomp of 2020 (2.5.0) does not know yet.
YOUNG = {
    "epoll_pwait2", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self",
}  # fmt: skip


def test_no_name_is_misspelt():
    """libseccomp knows the names of all processors; one that it does not know is left out."""
    unknown = set()
    for name in {*calls(["spawner"]), *ABSENT}:
        try:
            pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
        except (OSError, ValueError):
            unknown.add(name)
    assert unknown <= YOUNG
