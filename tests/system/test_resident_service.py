"""The claims about a resident service on real servers: refmta, and mutants that they refuse."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest

from specs.patterns import gather
from specs.patterns.observation import Observation
from specs.patterns.resident_service import CLAIMS, EXPERIMENT, Rewritten, rewrite_many
from specs.patterns.target import TargetError
from subjects.architecture import Architecture
from subjects.mutant_tree import mutant_tree
from subjects.rewriting import MUTANTS

pytestmark = pytest.mark.needs("root")


def refused(python: str, architecture: str) -> tuple[set[str], Rewritten]:
    """The claims that a server of that interpreter does not fulfil, and what was seen."""
    found: list[tuple[set[str], Rewritten]] = []
    # A mutant may leave processes behind that its stop complains of; they are ended all the same.
    with (
        contextlib.suppress(TargetError),
        gather.running(lambda: Architecture(python=python), architecture) as bench,
    ):
        seen = rewrite_many(bench)
        observation = Observation(manifest=bench.manifest, instants=(), results={EXPERIMENT: seen})
        found.append(({each.name for each in CLAIMS if each.judge(observation)}, seen))
    (only,) = found
    return only


def test_refmta_rewrites_by_a_resident_service():
    names, seen = refused(sys.executable, "refmta")
    print(seen.measured())
    assert names == set()


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_refused_by_its_claim(name: str, tmp_path: Path):
    claim, architecture, file, change = MUTANTS[name]
    for each in (tmp_path, *tmp_path.parents):  # pytest's directories are closed
        if each.stat().st_uid == 0 and not each.stat().st_mode & 0o001:
            each.chmod(each.stat().st_mode | 0o011)
    names, seen = refused(mutant_tree(tmp_path / "tree", file, change), architecture)
    assert claim in names, seen
