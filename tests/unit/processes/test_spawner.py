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
from refmta.processes.spawner import Identity, Spawner, request

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


@pytest.mark.parametrize(
    ("uid", "gid"),
    [(each, 6000) for each in (0, 1, 999, 65_534, BASE, BASE + 1, BASE + 50, BASE + 999)]
    + [(6000, each) for each in (0, BASE, BASE + 1, BASE + 2)],
)
def test_no_row_of_the_machine_makes_anybody_root_a_system_user_or_one_of_us(monkeypatch, uid, gid):
    entry = pwd.struct_passwd(("mole", "x", uid, gid, "", "/", ""))
    monkeypatch.setattr(pwd, "getpwnam", lambda _: entry)
    with pytest.raises(StartRefused):
        identity(2, "mole")


@pytest.mark.parametrize("uid", [0, BASE, BASE + 1, BASE + 2])
@pytest.mark.parametrize("kind", ["uid", "gid"])
def test_nor_does_a_row_of_the_manifest(uid, kind):
    users = {"mole": {"uid": 6000, "gid": 6000, "home": "/", kind: uid}}
    with pytest.raises(StartRefused, match="may not receive mail"):
        identity(2, "mole", users=users)


def test_without_root_only_its_own_mailboxes_can_be_written(monkeypatch):
    assert identity(2, "ada", rootless=True) == Identity(None, None, "/home/ada")
    own = pwd.struct_passwd(("me", "x", os.getuid(), 0, "", "/home/me", ""))
    other = pwd.struct_passwd(("you", "x", os.getuid() + 1, 0, "", "/home/you", ""))
    monkeypatch.setattr(pwd, "getpwnam", {"me": own, "you": other}.__getitem__)
    assert identity(2, "me", rootless=True, reserved=[]) == Identity(None, None, "/home/me")
    with pytest.raises(StartRefused, match="without root"):
        identity(2, "you", rootless=True, reserved=[])


def test_a_request_carries_a_number_and_a_name():
    assert request(258, "ada") == b"\x01\x02ada"
    with pytest.raises(UnicodeEncodeError):
        request(1, "ä")


def test_a_log_line_is_one_line_of_json(capfd):
    spawner.log("cannot start", reason="a\nb\x1b[2Jä")
    line = capfd.readouterr().err
    assert line.count("\n") == 1 and line.isascii() and "\x1b" not in line
    assert json.loads(line)["reason"] == "a\nb\x1b[2Jä"


#: What runs as root, line by line: the spawner and all of ours that it imports.
BUDGET_LINES = 450


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
    ]  # fmt: skip
    assert not {"trio", "msgspec", "click", "asyncio", "pickle"} & set(everything)
    files = [sys.modules[each].__file__ for each in ours if each in sys.modules]
    lines = sum(len(open(each).read().splitlines()) for each in files if each is not None)
    assert lines <= BUDGET_LINES
