"""The measures behind the ledger of claims, on the running server; what they tell apart."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from specs.claims.instruments import NotHere
from subjects import measures
from subjects.mutant_tree import mutant_tree
from subjects.target import Refmta

#: A pool whose parent counts uses and ends no worker for them.
ENDLESS = [("worker.uses >= rules.max_uses or ", "")]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough to tell one from many."""
    monkeypatch.setattr(measures, "IN_A_ROW", 6)
    monkeypatch.setattr(measures, "SESSIONS", 16)
    monkeypatch.setattr(measures, "ROUNDS", 1)


def _counts(detail: str) -> tuple[int, int]:
    """The most sessions of one worker: with many uses, and with one use each."""
    match = re.match(r"(\d+) and (\d+) of 6 sessions", detail)
    assert match is not None, detail
    return int(match[1]), int(match[2])


@pytest.mark.needs("root")
def test_exposure_is_the_number_of_sessions_that_one_worker_saw(short: None) -> None:
    found = measures.exposure(measures.OURS, "")
    reused, fresh = _counts(found.detail)
    # A client that is back before its worker has reported finds another one: on a busy machine
    # the sessions may be divided among a few.
    assert fresh == 1 < reused
    assert found.value == reused


@pytest.mark.needs("root")
def test_a_pool_that_never_ends_a_worker_gains_nothing_from_the_knob(
    short: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the measure must see that the cap is not enforced."""
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)
    python = mutant_tree(tmp_path / "mutant", "patterns/secure_preforking.py", ENDLESS)
    monkeypatch.setattr(measures, "Refmta", lambda **options: Refmta(python=python, **options))
    _, fresh = _counts(measures.exposure(measures.OURS, "").detail)
    assert fresh > 1


def test_the_cost_of_sessions_is_measured_on_both_servers(short: None) -> None:
    found = measures.session_cost(measures.OURS, "")
    assert found.value > 0
    assert "8 clients; 1 rounds" in found.detail


@pytest.mark.parametrize(("subject", "part"), [("server:postfix", ""), (measures.OURS, "x")])
def test_what_can_not_be_measured_is_said(subject: str, part: str) -> None:
    for measure in measures.MEASURES.values():
        with pytest.raises(NotHere, match=subject):
            measure(subject, part)
