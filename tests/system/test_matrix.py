"""`refmta-spec matrix` on the running architecture: a part of the claims, whose experiments are
short; all of them are judged by the command that the README names.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from specs.observe.process import look
from specs.patterns.gather import running
from subjects.architecture import refmta

pytestmark = pytest.mark.needs("root")
PATTERNS = ("least_privilege", "chroot_jail", "distributed_delegation")


def matrix(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "specs.command", "matrix", *arguments],
        check=False, capture_output=True, text=True, timeout=500, cwd=Path(__file__).parents[2],
    )  # fmt: skip


def test_refmta_is_as_expected():
    only = [word for each in PATTERNS for word in ("--only", each)]
    done = matrix("--target", "refmta:refmta", "--json", *only)
    report = json.loads(done.stdout)
    odd = [
        (each["name"], each["verdict"], each["counterexamples"][:3])
        for each in report["claims"]
        if not each["as_expected"]
    ]
    assert not odd
    assert done.returncode == 0
    assert {each["pattern"] for each in report["claims"]} == set(PATTERNS)


def test_who_lives_for_one_delivery_is_caught_in_it():
    """qmail's lspawn: a process for each, which becomes the recipient."""
    with running(refmta, "qmail") as bench:
        caught = bench.process("lspawn worker")
        assert caught == bench.process("lspawn worker")  # it waits
        assert caught.detail in bench.site.users
        loaded = bench.instant("loaded")
        (seen,) = loaded.named("lspawn worker")
        assert seen.uids == (bench.manifest.recipients[seen.detail],) * 4
        parts = {part for each in bench.manifest.compartments for part in each.parts}
        assert parts <= {each.name for each in loaded.processes}
        bench.settle()
        assert not [each for each in bench.target.processes() if each.pid == caught.pid]


def test_an_unknown_architecture():
    done = matrix("--target", "refmta:nonesuch", "--only", "chroot_jail")
    assert done.returncode == 2
    assert "nonesuch" in done.stderr


def test_every_part_lives_under_load_and_nothing_is_left():
    with running(refmta, "refmta") as bench:
        parts = {part for each in bench.manifest.compartments for part in each.parts}
        there = bench.target.processes()
        assert parts <= {each.name for each in there}
        assert {each.detail for each in there if each.name == "local"} == set(bench.site.users)
        assert len([each for each in there if each.name == "smtpd worker"]) >= 3
        pids, place = [each.pid for each in there], bench.site.directory
    assert not [each for each in map(look, pids) if each is not None]
    assert not place.exists()
