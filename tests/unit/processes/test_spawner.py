"""Whom a process may become: the rules that need no privilege to be tried, and what the privileged
code is made of.  (Those that need root: tests/system/test_privileges.py.)
"""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from typing import Any

import pytest

from refmta.processes import spawner
from refmta.processes.children import StartRefused
from refmta.processes.spawner import Spawner, request
from refmta.stores.recipients import Identity

BASE = 1_900_000_000
#: System users, Debian's own and `nobody`, compartments.
RESERVED = [[0, 1000], [60_000, 65_536], [BASE, BASE + 1000]]


def manifest(**changes: Any) -> dict[str, Any]:
    return {
        "rootless": False,
        "reserved": RESERVED,
        "users": {
            "ada": {"uid": 5000, "gid": 5001, "home": "/home/ada"},
            "virtual": {"uid": BASE + 50, "gid": BASE + 50, "home": "/spool/mail"},
        },
        "compartments": [
            {"name": name, "uid": BASE + place, "gid": BASE + place, "per_user": name == "local"}
            for place, name in enumerate(("supervisor", "qmgr", "local"))
        ],
        **changes,
    }


def identity(number: int, user: str = "", **changes: Any) -> Identity:
    return Spawner(manifest(**changes), [])._identity(number, user)


def test_a_compartment_is_its_own_user():
    assert identity(1) == Identity(BASE + 1, BASE + 1, "/")


def test_an_agent_is_the_user_of_the_table_even_the_owner_of_virtual_mailboxes():
    assert identity(2, "ada") == Identity(5000, 5001, "/home/ada")
    assert identity(2, "virtual") == Identity(BASE + 50, BASE + 50, "/spool/mail")


def test_a_user_of_the_machine_is_looked_up_by_the_spawner_itself(monkeypatch):
    entry = pwd.struct_passwd(("grace", "x", 6000, 6001, "", "/home/grace", ""))
    monkeypatch.setattr(pwd, "getpwnam", {"grace": entry}.__getitem__)
    assert identity(2, "grace") == Identity(6000, 6001, "/home/grace")
    with pytest.raises(StartRefused, match="no such user"):
        identity(2, "stranger")


@pytest.mark.parametrize("uid", [0, BASE, BASE + 1, BASE + 2])
@pytest.mark.parametrize("kind", ["uid", "gid"])
def test_no_agent_is_root_or_one_of_us(uid, kind):
    """All other rules about recipients: `test_recipients`."""
    users = {"mole": {"uid": 6000, "gid": 6000, "home": "/", kind: uid}}
    with pytest.raises(StartRefused, match="may not receive mail"):
        identity(2, "mole", users=users)


# -- who stays root -------------------------------------------------------------------------------


def rows(**changes: Any) -> list[dict[str, Any]]:
    """The usual compartments, the second one with these changes."""
    found: list[dict[str, Any]] = manifest()["compartments"]
    return [found[0], {**found[1], **changes}, found[2]]


def test_a_privileged_compartment_stays_whoever_the_spawner_is():
    for changes in ({"uid": 0, "gid": 0}, {}):
        compartments = rows(**changes, privileged=True)
        assert identity(1, compartments=compartments) == Identity(None, None, "/")


@pytest.mark.parametrize("changes", [{"uid": 0}, {"gid": 0}, {"uid": None}, {"gid": None}])
@pytest.mark.parametrize("privileged", [{}, {"privileged": False}])
def test_no_other_does_by_a_slip_of_its_row(changes, privileged):
    with pytest.raises(StartRefused, match="not privileged"):
        identity(1, compartments=rows(**changes, **privileged))


def test_without_root_everybody_is_oneself():
    compartments = rows(uid=None, gid=None)
    assert identity(1, compartments=compartments, rootless=True) == Identity(None, None, "/")


def test_a_user_is_named_for_agents_only():
    for privileged in (False, True):
        with pytest.raises(StartRefused, match="a user of its own"):
            identity(1, "ada", compartments=rows(privileged=privileged))


def settled(monkeypatch, whose: Identity, *, root: bool = True) -> list[tuple[object, ...]]:
    """What the kernel is asked for, in order."""
    calls: list[tuple[object, ...]] = []

    def called(name: str, answer: Any = None) -> None:
        def record(*arguments: object) -> Any:
            calls.append((name, *arguments))
            return answer

        monkeypatch.setattr(os, name, record)

    for name in ("setgroups", "setresgid", "setresuid", "umask", "chdir"):
        called(name)
    monkeypatch.setattr(os, "getresuid", lambda: (whose.uid,) * 3)
    monkeypatch.setattr(os, "getresgid", lambda: (whose.gid,) * 3)
    monkeypatch.setattr(os, "getgroups", list)
    monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000)
    monkeypatch.setattr(spawner, "die_with_parent", lambda parent: calls.append(("die", parent)))
    spawner.settle(whose, 7)
    return calls


def test_groups_then_group_then_user_then_home_and_it_dies_with_its_parent(monkeypatch):
    """The death signal comes last: a change of user takes it away."""
    assert settled(monkeypatch, Identity(5000, 5001, "/home/ada")) == [
        ("setgroups", []), ("setresgid", 5001, 5001, 5001), ("setresuid", 5000, 5000, 5000),
        ("umask", 0o007), ("chdir", "/home/ada"), ("die", 7),
    ]  # fmt: skip


def test_who_stays_root_has_no_groups_of_roots(monkeypatch):
    stays = Identity(None, None, "/")
    last = [("umask", 0o007), ("chdir", "/"), ("die", 7)]
    assert settled(monkeypatch, stays) == [("setgroups", []), *last]
    assert settled(monkeypatch, stays, root=False) == last


def test_nobody_becomes_user_0_whatever_was_asked(monkeypatch):
    with pytest.raises(PermissionError, match="not dropped"):
        settled(monkeypatch, Identity(0, 5001, "/"))


# -- small things ---------------------------------------------------------------------------------


def test_a_request_carries_a_number_and_a_name():
    assert request(258, "ada") == b"\x01\x02ada"
    with pytest.raises(UnicodeEncodeError):
        request(1, "ä")


@pytest.mark.parametrize(
    ("lasts_s", "patience_s", "by_itself"), [(1.5, spawner.PATIENCE_S, True), (60, 1, False)]
)
def test_a_supervisor_that_has_hung_up_may_take_its_time_but_not_for_ever(
    lasts_s, patience_s, by_itself, monkeypatch
):
    """A busy machine ends nobody at once: killed too early, a clean stop is none."""
    monkeypatch.setattr(spawner, "PATIENCE_S", patience_s)
    with subprocess.Popen(["sleep", str(lasts_s)]) as hung_up:
        try:
            assert spawner._ended(hung_up.pid) is by_itself
        finally:
            hung_up.kill()


def test_a_log_line_is_one_line_of_json(capfd):
    spawner.log("cannot start", reason="a\nb\x1b[2Jä")
    line = capfd.readouterr().err
    assert line.count("\n") == 1 and line.isascii() and "\x1b" not in line
    assert json.loads(line)["reason"] == "a\nb\x1b[2Jä"


#: What runs as root, line by line: the spawner and all of ours that it imports.
BUDGET_LINES = 500


def test_the_privileged_code_is_small_and_imports_no_trio_no_role_and_no_parser_of_mail():
    code = """
import sys
from refmta.processes import spawner
print(*sorted(each for each in sys.modules if each.partition(".")[0] == "refmta"))
print(*sorted(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours, everything = (line.split() for line in done.stdout.splitlines())
    assert ours == [
        "refmta", "refmta.processes", "refmta.processes.children", "refmta.processes.spawner",
        "refmta.stores", "refmta.stores.recipients",
    ]  # fmt: skip
    assert not {"trio", "msgspec", "click", "asyncio", "pickle"} & set(everything)
    files = [sys.modules[each].__file__ for each in ours if each in sys.modules]
    lines = sum(len(open(each).read().splitlines()) for each in files if each is not None)
    assert lines <= BUDGET_LINES
