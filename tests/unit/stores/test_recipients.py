"""Whose mailboxes may be written, and as whom."""

from __future__ import annotations

import os
import pwd
from typing import Any

import msgspec
import pytest

from refmta.stores.recipients import Identity, Known, NoRecipient, Recipients, recipients

BASE = 1_900_000_000
#: System users, Debian's own and `nobody`, compartments.
RESERVED = ((0, 1000), (60_000, 65_536), (BASE, BASE + 1000))
ADA = Known(5000, 5001, "/home/ada")
TABLE = Recipients(
    users={"ada": ADA, "virtual": Known(BASE + 50, BASE + 50, "/spool/mail")},
    reserved=RESERVED,
    owners=frozenset((BASE, BASE + 1, BASE + 2)),
)


def machine(monkeypatch: pytest.MonkeyPatch, **users: tuple[int, int]) -> None:
    """The machine has these users and no others."""
    entries = {
        name: pwd.struct_passwd((name, "x", uid, gid, "", f"/home/{name}", ""))
        for name, (uid, gid) in users.items()
    }
    monkeypatch.setattr(pwd, "getpwnam", entries.__getitem__)


def test_a_user_of_the_table_even_the_owner_of_virtual_mailboxes():
    assert TABLE.identity("ada") == Identity(5000, 5001, "/home/ada")
    assert TABLE.identity("virtual") == Identity(BASE + 50, BASE + 50, "/spool/mail")


def test_a_user_of_the_machine_is_looked_up_and_the_table_comes_first(monkeypatch):
    machine(monkeypatch, grace=(6000, 6001), ada=(7000, 7001))
    assert TABLE.identity("grace") == Identity(6000, 6001, "/home/grace")
    assert TABLE.identity("ada").uid == 5000


@pytest.mark.parametrize("name", ["stranger", "", "a\0b"])
def test_nobody_else(monkeypatch, name):
    def lookup(name: str) -> pwd.struct_passwd:
        if "\0" in name:
            raise ValueError("embedded null byte")
        raise KeyError(name)

    monkeypatch.setattr(pwd, "getpwnam", lookup)
    with pytest.raises(NoRecipient, match="no such user"):
        TABLE.identity(name)


@pytest.mark.parametrize(
    ("uid", "gid"),
    [(each, 6000) for each in (0, 1, 999, 65_534, BASE, BASE + 1, BASE + 50, BASE + 999)]
    + [(6000, each) for each in (0, BASE, BASE + 1, BASE + 2)],
)
def test_no_row_of_the_machine_makes_anybody_root_a_system_user_or_one_of_us(monkeypatch, uid, gid):
    machine(monkeypatch, mole=(uid, gid))
    with pytest.raises(NoRecipient):
        TABLE.identity("mole")


@pytest.mark.parametrize(
    ("uid", "gid"),
    [(each, 6000) for each in (None, 0, BASE, BASE + 1)]
    + [(6000, each) for each in (None, 0, BASE, BASE + 1)],
)
def test_nor_does_a_row_of_the_table(uid, gid):
    table = TABLE._replace(users={"mole": Known(uid, gid, "/")})
    with pytest.raises(NoRecipient, match="may not receive mail"):
        table.identity("mole")


def test_without_root_only_its_own_mailboxes_can_be_written(monkeypatch):
    table = TABLE._replace(rootless=True, reserved=())
    assert table.identity("ada") == Identity(None, None, "/home/ada")
    machine(monkeypatch, me=(os.getuid(), 0), you=(os.getuid() + 1, 0))
    assert table.identity("me") == Identity(None, None, "/home/me")
    with pytest.raises(NoRecipient, match="without root"):
        table.identity("you")


def manifest(**changes: Any) -> dict[str, Any]:
    row = {"name": "qmgr", "uid": BASE + 1, "gid": BASE + 1, "per_user": False}
    return {
        "rootless": False,
        "reserved": [list(each) for each in RESERVED],
        "users": {"ada": {"uid": 5000, "gid": 5001, "home": "/home/ada"}},
        "compartments": [{**row, "uid": BASE, "gid": BASE}, row, {**row, "uid": 0, "gid": 0}],
        **changes,
    }


def test_the_table_of_a_manifest():
    table = recipients(manifest())
    assert table == Recipients({"ada": ADA}, RESERVED, frozenset((BASE, BASE + 1)), rootless=False)
    with pytest.raises(KeyError):
        recipients({})


@pytest.mark.parametrize(
    "table",
    [
        TABLE,
        Recipients(),
        Recipients(users={"virtual": Known(None, None, "/spool/mail")}, rootless=True),
    ],
)
def test_the_table_travels_in_a_slice(table):
    octets = msgspec.msgpack.encode(table)
    assert msgspec.msgpack.decode(octets, type=Recipients) == table
