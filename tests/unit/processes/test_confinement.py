"""Each layer is put on in a real process and proved; a layer that is silently absent is found by
the attempt that it should have stopped.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from refmta.patterns.chroot_jail import EMPTY
from refmta.patterns.defense_in_depth import LAYERS, RESTS_ON, without
from refmta.patterns.least_privilege import blocks
from refmta.processes.confinement import GUARDS

CONFINED = """
import os, sys
import refmta.processes.no_helpers
from refmta.patterns import chroot_jail, least_privilege
from refmta.processes import confinement
from refmta.processes.confinement import Confinement, confine
if os.getuid() == 0 and {become}:
    os.setgroups([]); os.setresgid({user}, {user}, {user}); os.setresuid({user}, {user}, {user})
least_privilege.pyprctl.set_dumpable(True)  # exec would have done it
{mutation}
confine(Confinement(
    compartment="it", layers=frozenset({layers!r}), jail={jail!r}, kinds=("enqueue",),
    reads={reads!r}, changes={changes!r}, network={network!r}, granted=frozenset((0, 1, 2)),
))
os.write(1, b"confined")
{after}
"""
USER = 1_900_000_777
ALL = tuple(each for each in LAYERS if each != "users" or os.geteuid() == 0)


def confined(tmp_path, *, mutation="", after="", layers=ALL, become=True, jail=None, **row):
    """(exit code, standard output, standard error) of a process that confines itself."""
    place = tmp_path / EMPTY
    place.mkdir()
    for each in (tmp_path, *tmp_path.parents):  # the user must get there
        if each.stat().st_uid == os.geteuid() and not each.stat().st_mode & 1:
            each.chmod(0o711)
    place.chmod(0o555)
    code = CONFINED.format(
        become=become, user=USER, mutation=mutation, layers=tuple(layers), after=after,
        jail=str(place) if jail is None else jail, reads=row.get("reads", ()),
        changes=row.get("changes", ()), network=row.get("network", False),
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_all_layers_go_on_and_hold(tmp_path):
    assert confined(tmp_path)[:2] == (0, "confined")


@pytest.mark.parametrize("taken", LAYERS)
def test_any_layer_can_be_left_out(tmp_path, taken):
    assert confined(tmp_path, layers=without(ALL, [taken]))[:2] == (0, "confined")


def test_every_layer_has_its_guard_in_the_order_of_the_list():
    assert list(GUARDS) == list(LAYERS)


def test_a_layer_goes_with_what_it_rests_on():
    for layer, needs in RESTS_ON.items():
        for need in needs:
            assert layer not in without(LAYERS, [need])
            assert list(LAYERS).index(need) < list(LAYERS).index(layer)


MUTANTS = {
    "not another user": ("", {"become": False}, "users: be root"),
    "landlock silently absent": (
        "least_privilege.restrict_files = lambda *_, **__: None", {}, "landlock: read the root",
    ),
    "landlock silently absent, for who writes": (
        "least_privilege.restrict_files = lambda *_, **__: None",
        {"changes": ("/var/tmp",), "jail": ""}, "landlock: make a socket",
    ),
    "landlock silently absent, for who reads": (
        "least_privilege.restrict_files = lambda *_, **__: None",
        {"reads": ("/",), "jail": ""}, "landlock: write elsewhere",
    ),
    "seccomp silently absent": (
        "least_privilege.allow_calls = lambda *_: None", {}, "seccomp: call what is not listed",
    ),
    "execve is listed": (
        "real = least_privilege.system_calls.rules\n"
        "least_privilege.system_calls.rules = lambda kinds: "
        "(*real(kinds), least_privilege.Rule('execve'))", {}, "seccomp: run a program",
    ),
    "the jail is not entered": (
        "chroot_jail.enter = lambda _: None", {}, "jail: see the machine",
    ),
    "a directory from outside is open": (
        "outside = os.open('/', os.O_RDONLY)\n"
        "real = confinement.foreign_descriptors\n"
        "confinement.foreign_descriptors = lambda granted: []", {}, "jail: climb",
    ),
    "the network is kept": (
        "real = chroot_jail.own_user_namespace\n"
        "chroot_jail.own_user_namespace = lambda network: real(network=True)", {},
        "network: use the network",
    ),
    "a capability left": (
        "drop = least_privilege.drop_capabilities\n"
        "least_privilege.drop_capabilities = lambda: drop([least_privilege.pyprctl.Cap.CHOWN])",
        {}, "capabilities: have capabilities",
    ),
    "all capabilities left": (
        "least_privilege.drop_capabilities = lambda: None", {}, "capabilities: jail again",
    ),
    "new privileges may be had": (
        "least_privilege.gain_nothing = lambda: None", {}, "capabilities: have capabilities",
    ),
    "may be traced": (
        "least_privilege.be_opaque = lambda: None", {}, "capabilities: be looked into",
    ),
    "one descriptor too many": (
        "os.dup2(2, 7)", {}, "descriptors: 7 were not granted",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_the_control_is_refused_by_name(tmp_path, name):
    mutation, row, attempt = MUTANTS[name]
    if attempt.startswith("users") and os.geteuid() != 0:
        assert "users" not in ALL  # only root can fail to drop its user
        return
    code, out, err = confined(tmp_path, mutation=mutation, **row)
    assert (code, out) == (78, "")
    assert '"confinement is not tight"' in err
    assert f'"reason":"{attempt}"' in err


@pytest.mark.parametrize(
    ("after", "what"),
    [
        ("open('/etc/passwd')", "FileNotFoundError"),
        ("import socket; socket.socket()", "PermissionError"),
        ("os.fork()", "PermissionError"),
        ("os.kill(os.getppid(), 0)", "PermissionError"),
        ("os.setresuid(0, 0, 0)", "PermissionError"),
        ("os.listdir('/')", "PermissionError"),
        ("os.mkdir('/x')", "PermissionError"),
    ],
)
def test_what_is_refused_afterwards_is_an_error_and_not_the_end(tmp_path, after, what):
    code, out, err = confined(tmp_path, after=after)
    assert (code, out) == (1, "confined")
    assert what in err.splitlines()[-1]


def test_a_layer_that_the_kernel_refuses_is_an_error_that_names_it(tmp_path):
    """As one that knows no user namespaces would."""
    mutation = "chroot_jail.CLONE_NEWUSER = 1"  # no such namespace: EINVAL
    code, out, err = confined(tmp_path, mutation=mutation)
    assert (code, out) == (78, "")
    assert '"confinement failed"' in err
    assert "unshare: Invalid argument" in err


# -- the ids that the spawner may set -------------------------------------------------------------


@pytest.mark.parametrize(
    "ids",
    [
        range(1), range(1, 2), range(1000), range(1000, 60000), range(65536, 1 << 20),
        range(5, 5), range(7, 1031), range(1, 1 << 12),
    ],
    ids=str,
)  # fmt: skip
def test_blocks_are_the_range_and_nothing_else(ids):
    found = blocks(ids)
    limit = min(ids.stop + 5000, 1 << 20)
    start = max(0, ids.start - 5000)
    for each in range(start, limit):
        assert any(each & mask == value for value, mask in found) == (each in ids)


def test_the_whole_range_but_zero_is_few_blocks():
    found = blocks(range(1, 1 << 32))
    assert len(found) == 32
    assert not any(mask & 0 == value for value, mask in found)
    assert any((1 << 32) - 1 & mask == value for value, mask in found)


IDS = """
import os, sys
import refmta.processes.no_helpers
from refmta.patterns.least_privilege import Identities, allow_calls, drop_capabilities
from refmta.patterns import least_privilege
allow_calls(("spawner",), Identities((range(1000, 2000), range(1900000003, 1900000004))))
def may(call, *arguments):
    pid = os.fork()
    if not pid:
        try:
            call(*arguments)
        except PermissionError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0
print(
    [may(os.setresuid, n, n, n) for n in (0, 999, 1000, 1999, 2000, 1900000003, 1900000004)],
    may(os.setresuid, 1000, 1000, 0), may(os.setresuid, -1, 1000, -1),
    [may(os.setresgid, n, n, n) for n in (0, 1, 100, 1900000003)],
    may(os.setgroups, []), may(os.setgroups, [0]), may(os.setuid, 0), may(os.setgid, 0),
    may(os.setreuid, 0, 0), may(os.setregid, 0, 0),
)
"""


@pytest.mark.needs("root")
def test_the_spawner_becomes_nobody_but_those_it_should():
    done = subprocess.run(
        [sys.executable, "-c", IDS], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.split("\n")[0] == (
        "[False, False, True, True, False, True, False] False False [False, True, True, True]"
        " True False False False False False"
    )
