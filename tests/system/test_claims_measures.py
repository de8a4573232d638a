"""The measures behind the ledger of claims, on running servers; what they tell apart.

Each has a control: a server that differs by one thing, which the measure must see.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from specs.claims.verdict import Reading
from subjects import measures, measures_kills, measures_parts, measures_pools
from subjects.measures_kills import besiege, counted
from subjects.mutant_tree import mutant_tree
from subjects.target import Refmta

#: A pool whose parent counts uses and ends no worker for them.
ENDLESS = ("patterns/secure_preforking.py", [("worker.uses >= rules.max_uses or ", "")])
#: The queue file goes when the message is handed to its agent, not when it was delivered.
UNLINKED_TOO_EARLY = (
    "roles/qmgr/agents.py",
    [
        (
            "        self.queue.post(channel, job, descriptor)\n",
            "        self.queue.post(channel, job, descriptor)\n"
            '        self.queue.store.disk.unlink(f"chunks/{active.queue_id}")\n',
        )
    ],
)


IN_A_ROW = 12


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough to tell one from many."""
    monkeypatch.setattr(measures_pools, "IN_A_ROW", IN_A_ROW)
    monkeypatch.setattr(measures_pools, "SESSIONS", 16)
    monkeypatch.setattr(measures_pools, "ROUNDS", 1)
    monkeypatch.setattr(measures_pools, "IDLE_S", 1.0)
    monkeypatch.setattr(measures_pools, "LATE_S", 20.0)
    monkeypatch.setattr(measures_pools, "REWRITTEN", 50)
    monkeypatch.setattr(measures_parts, "MESSAGES", 3)
    monkeypatch.setattr(measures_parts, "_SEEN", {})


@pytest.fixture
def mutant(tmp_path: Path) -> Path:
    """Where an interpreter of the compartments' users may lie."""
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)
    return tmp_path / "mutant"


# -- what a server is made of ---------------------------------------------------------------------


@pytest.mark.needs("root")
@pytest.mark.needs("strace")
def test_a_monolith_works_alone_and_as_root_and_others_do_not(short: None) -> None:
    assert measures.processes("composition:sendmail", "").value == 1
    assert measures.privileged("composition:sendmail", "").value >= 1
    found = measures.processes("composition:postfix", "")
    assert set(found.detail.partition(";")[0].split(", ")) == {
        "cleanup", "local", "qmgr", "rewrite", "smtpd",
    }  # fmt: skip
    assert measures.privileged("composition:postfix", "").detail.startswith("local;")


@pytest.mark.needs("root")
def test_roots_are_seen_while_mail_flows(short: None) -> None:
    assert measures.roots("composition:sendmailx", "all").value == 1
    assert measures.roots("composition:sendmail", "unexpected").value > 1


def test_one_configuration_has_both_ways_out(short: None) -> None:
    assert measures.configuration("composition:refmta", "transports").value == 2


def test_the_monolith_has_all_code_in_its_largest_process() -> None:
    monolith = measures.largest_part("composition:sendmail", "root")
    ours = measures.largest_part("composition:refmta", "root")
    assert ours.value < monolith.value / 4


# -- pools ----------------------------------------------------------------------------------------


def _counts(detail: str) -> tuple[int, int]:
    """The most sessions of one worker: with many uses, and with one use each."""
    match = re.match(rf"(\d+) and (\d+) of {IN_A_ROW} sessions", detail)
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
def test_a_pool_that_never_ends_a_worker_is_found_out(
    short: None, mutant: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: it must be seen that the cap is not enforced; unchanged it is."""
    assert measures.pool_caps(measures.OURS, "").value == 0
    python = mutant_tree(mutant, *ENDLESS)
    monkeypatch.setattr(
        "subjects.measures_places.Refmta", lambda **options: Refmta(python=python, **options)
    )
    found = measures.pool_caps(measures.OURS, "")
    assert "sessions, exceeded" in found.detail


@pytest.mark.needs("root")
def test_the_uses_of_our_postfix_are_turned_in_a_copy(short: None) -> None:
    reused, fresh = _counts(measures.exposure("composition:postfix", "").detail)
    assert fresh == 1 < reused


def test_the_cost_of_sessions_is_measured_on_both_servers(short: None) -> None:
    found = measures.session_cost(measures.OURS, "")
    assert found.value > 0
    assert "8 clients; 1 rounds" in found.detail
    assert "a process costs here" in found.detail


@pytest.mark.needs("root")
def test_a_resident_process_rewrites_all_addresses(short: None) -> None:
    found = measures.rewriting("composition:postfix", "")
    assert found.detail == "100 addresses, 1 processes"


# -- kills ----------------------------------------------------------------------------------------


def _besieged(target: Refmta, monkeypatch: pytest.MonkeyPatch) -> Reading:
    monkeypatch.setattr(measures_kills, "ROUND_S", 2.5)
    monkeypatch.setattr(measures_kills, "DRAIN_S", 120.0)
    return counted(besiege(target, rounds=4, messages=80), "harmed")


@pytest.mark.needs("root")
@pytest.mark.needs("strace")
def test_kills_before_system_calls_harm_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _besieged(Refmta(relays=False, traces=False), monkeypatch)
    assert found.value == 0
    assert "enqueue" in found.detail


@pytest.mark.needs("root")
@pytest.mark.needs("strace")
def test_kills_find_a_server_that_forgets_too_early(
    mutant: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = mutant_tree(mutant, *UNLINKED_TOO_EARLY)
    found = _besieged(Refmta(python=python, relays=False, traces=False), monkeypatch)
    assert found.value > 0
    assert "lost" in found.detail
