"""`refmta ps`: what /proc says, in a wide table and in one of 80 columns."""

from __future__ import annotations

import os
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from refmta.architectures.configuration import Settings, load
from refmta.cli import ps
from refmta.cli.observed import capabilities, observed

CONFINED = {
    "uid": 1_900_000_005, "root": "/spool/empty", "capabilities": [], "no_new_privs": True,
    "seccomp": True, "namespaces": {"user": True, "net": True, "mnt": False}, "pss_kib": 15_800,
    "landlock": True,
}  # fmt: skip
SPAWNER = {
    **CONFINED, "pid": 4_194_000, "compartment": "spawner", "state": "running", "uid": 0,
    "root": "/", "capabilities": ["kill", "setgid", "setuid"], "landlock": False,
    "namespaces": {"user": False, "net": False, "mnt": False},
}  # fmt: skip
ROWS = [
    SPAWNER,
    {**CONFINED, "pid": 4_194_001, "compartment": "smtpd", "state": "ready", "age_s": 7.0},
    {
        **CONFINED, "pid": 4_194_002, "compartment": "smtpd/worker", "busy": True,
        "age_s": 90_061.0, "uses": 499,
    },
    {
        **CONFINED, "pid": 4_194_003, "compartment": "local", "user": "a" * 32, "age_s": 3601.0,
        "state": "ready", "root": "/home/somebody-with-a-long-name/and/a/deep/home",
    },
    {**CONFINED, "pid": 4_194_004, "compartment": "qmgr", "root": None, "capabilities": None,
     "namespaces": {"user": None, "net": None, "mnt": None}, "pss_kib": None, "uid": None,
     "no_new_privs": None, "seccomp": None, "landlock": None, "state": "starting"},
]  # fmt: skip
FOUND = {"architecture": "refmta-landlock", "missing": {"landlock": "[no] call"}, "processes": ROWS}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "refmta.toml"
    path.write_text(
        'hostname = "mx.example.org"\npostmaster = "ada@example.org"\nspool = "/spool"\n'
        '[domains."example.org"]\nmailboxes = ["ada"]\n'
    )
    return load(path)


def shown(settings: Settings, width: int, found: dict[str, Any] = FOUND) -> list[str]:
    console = Console(file=StringIO(), width=width, highlight=False)
    ps.show(found, settings, console)
    ps.footer(found, console)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [80, ps.WIDE, ps.PIPE])
def test_every_process_has_its_line_and_no_line_is_too_long(settings: Settings, width: int):
    lines = shown(settings, width)
    assert all(len(line) <= width for line in lines)
    for row in ROWS:
        assert sum(str(row["pid"]) in line for line in lines) == 1
    assert [line for line in lines if line.startswith(("architecture", "missing"))] == [
        "architecture refmta-landlock", "missing: landlock: [no] call",
    ]  # fmt: skip


def test_the_narrow_table_has_a_word_of_guards(settings: Settings):
    lines = shown(settings, 80)
    of = {row["pid"]: next(x for x in lines if str(row["pid"]) in x).split() for row in ROWS}
    assert "--3p-s" in of[4_194_000] and "uncpls" in of[4_194_001] and "??????" in of[4_194_004]
    assert {"empty", "499", "25h", "15.4M", "busy"} <= {*of[4_194_002]}


def test_the_wide_table_says_all_of_it_in_words(settings: Settings):
    lines = shown(settings, ps.PIPE)
    spawner = next(each for each in lines if "spawner" in each)
    assert "kill,setgid,setuid" in spawner and "none" in spawner
    assert "user,net" in next(each for each in lines if "smtpd " in each)


@pytest.mark.parametrize(
    ("change", "letters"),
    [
        ({"landlock": False}, "uncp-s"), ({"seccomp": False}, "uncpl-"),
        ({"no_new_privs": False}, "unc-ls"), ({"capabilities": ["kill"]}, "un1pls"),
        ({"namespaces": {"user": True, "net": False}}, "u-cpls"),
        ({"namespaces": {"user": False, "net": True}}, "-ncpls"), ({"seccomp": None}, "uncpl?"),
    ],
)  # fmt: skip
def test_each_guard_that_is_missing_is_seen(change: dict[str, Any], letters: str):
    assert ps.guards_word({**CONFINED}) == "uncpls"  # the twin
    assert ps.guards_word({**CONFINED, **change}) == letters


def test_landlock_is_known_from_the_name_and_not_before_the_proof():
    def rows(name: str) -> list[dict[str, Any]]:
        return [
            {"compartment": "spawner", "pid": 0, "state": "running"},
            {"compartment": "supervisor", "pid": 0, "architecture": name, "missing": {}},
            {"compartment": "qmgr", "pid": 0, "state": "ready"},
            {"compartment": "bounce", "pid": 0, "state": "starting"},
        ]

    def landlock(name: str) -> list[bool | None]:
        return [each["landlock"] for each in ps.judged(rows(name))["processes"]]

    assert landlock("refmta") == [False, True, True, None]
    assert landlock("refmta-landlock") == [False, False, False, None]
    assert landlock("of another version") == [None] * 4


def test_the_capabilities_of_a_mask_have_their_names():
    assert capabilities("00000000000000e0") == ["kill", "setgid", "setuid"]
    assert capabilities("0") == [] and capabilities(None) is None
    assert capabilities(f"{1 << 62:x}") == ["62"]


def test_a_process_that_is_gone_is_unknown_and_never_unguarded():
    seen = observed(1 << 22)  # over the highest number that a process can have
    assert {seen.pop("namespaces")["user"], *seen.values()} == {None}


def test_what_is_seen_of_ourselves():
    seen = observed(os.getpid())
    assert seen["uid"] == os.geteuid() and seen["root"] == "/"
    assert set(seen["namespaces"].values()) == {False} and seen["pss_kib"] > 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0s"), (119.9, "120s"), (120, "2m"), (7199, "120m"), (7200, "2h"), (172_800, "2d")],
)
def test_an_age_is_short(seconds: float, text: str):
    assert ps.age(seconds) == text
