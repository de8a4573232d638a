"""A short storm over the running server, with local and remote recipients: in our architecture and
in each of the four; and over mutants, which only the kills reveal.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from faultinject.storm import Plan, Storm
from subjects.mutant_tree import mutant_tree
from subjects.target import Refmta

PATIENCE_S = 550
RAN = 'self.queue.journal.error("__mutant_ran__")\n'
#: The queue file goes when the message is handed to its agent, not when it was delivered.
UNLINKED_TOO_EARLY = (
    "roles/qmgr/agents.py",
    [
        (
            "        self.queue.post(channel, job, descriptor)\n",
            "        self.queue.post(channel, job, descriptor)\n"
            '        self.queue.store.disk.unlink(f"chunks/{active.queue_id}")\n'
            f"        {RAN}",
        )
    ],
)
#: What a next hop has not taken counts as delivered.
DEFERRED_IS_DELIVERED = (
    "roles/qmgr/relays.py",
    [
        (
            "                kind: delivery.OutcomeKind = outcome.kind\n",
            "                kind: delivery.OutcomeKind = outcome.kind\n"
            '                if kind == "deferred":\n'
            '                    kind = "delivered"\n'
            f"                    {RAN}",
        )
    ],
)
#: The promise is given although the process that was to log the envelope is dead.
PROMISED_UNLOGGED = (
    "roles/submissions.py",
    [
        (
            "        if not (word.lost or word.error):\n",
            f"        if word.lost:\n            {RAN.replace('self.queue.', 'self.')}"
            "        if not word.error:\n",
        )
    ],
)
#: An mbox that takes its time between two calls; without its lock, whoever comes takes a note that
#: is there for one of the dead, and truncates.
SLOW = ("            on = beside if", "            time.sleep(0.01)\n            on = beside if")
LOCK_FREE = (
    "        if not disk.lock(handle):\n            raise BlockingIOError(",
    "        if disk.size(handle) < 0:\n            raise BlockingIOError(",
)


@pytest.fixture
def place(tmp_path):
    """A directory that the compartments' users can enter."""
    for each in (tmp_path, *tmp_path.parents):  # pytest's directories are closed
        if each.stat().st_uid == os.geteuid() and not each.stat().st_mode & 0o001:
            each.chmod(each.stat().st_mode | 0o011)
    return tmp_path


@dataclass
class Spared(Refmta):
    """Only the victim is hit."""

    victim: str = ""

    @property
    def roles(self):
        return (self.victim,)

    def processes(self):
        return [each for each in Refmta.processes(self) if each.role == self.victim]


async def storm(target: Refmta, plan: Plan, directory: Path):
    directory.mkdir()
    try:
        with trio.fail_after(PATIENCE_S):
            return await Storm(target, plan, directory, lambda _: None).run()
    except trio.TooSlowError:
        raise AssertionError(f"it does not end\n{target.log_end()}") from None


async def test_nothing_promised_is_lost(place):
    plan = Plan(messages=300, seconds=25, seed=20, hits=1, drain_s=120)
    target = Refmta()
    result = await storm(target, plan, place / "s")
    assert result.findings == [], target.log_end()
    assert result.account.acknowledged == 300
    assert result.account.delivered > 300 and result.account.at_next_hop > 50
    assert not result.account.queued
    assert set(target.roles) <= set(result.hits)


@pytest.mark.parametrize(
    ("mutation", "relays"), [(UNLINKED_TOO_EARLY, False), (DEFERRED_IS_DELIVERED, True)]
)
async def test_a_server_that_loses_mail_is_found_out(mutation, relays, place):
    python = mutant_tree(place / "python", *mutation)
    target = Refmta(python=python, relays=relays, traces=False)
    plan = Plan(messages=600, seconds=8, seed=21, clients=12, hits=0, drain_s=120)
    result = await storm(target, plan, place / "s")
    assert "__mutant_ran__" in target.log.read_text()
    names = {finding.name for finding in result.findings}
    assert "lost" in names and names <= {"lost", "half_lost"}


@pytest.mark.parametrize("architecture", ["sendmail", "qmail", "postfix", "sendmailx"])
async def test_nothing_promised_is_lost_in_other_architectures(architecture, place):
    """postfix-unjailed is the table of postfix without the jail."""
    target = Refmta(architecture=architecture)
    plan = Plan(messages=120, seconds=6, seed=22, drain_s=120)
    result = await storm(target, plan, place / "s")
    # what starts on first use may not have run long enough to be hit
    assert [each for each in result.findings if each.name != "too_calm"] == [], target.log_end()
    assert result.account.acknowledged == 120
    assert result.account.delivered > 120 and result.account.at_next_hop > 20
    assert not result.account.queued
    assert len(result.hits) > len(target.roles) / 2


async def test_a_promise_without_the_log_is_found_out(place):
    python = mutant_tree(place / "python", *PROMISED_UNLOGGED)
    target = Spared(
        architecture="sendmailx", python=python, relays=False, traces=False, victim="qmgr"
    )
    plan = Plan(messages=600, seconds=10, seed=23, clients=12, hits=2, drain_s=120)
    result = await storm(target, plan, place / "s")
    assert "__mutant_ran__" in target.log.read_text()
    assert {finding.name for finding in result.findings} == {"lost"}


@pytest.mark.parametrize("wrong", [False, True], ids=["locked", "lock-free"])
async def test_a_mailbox_without_its_lock_is_found_out_and_with_it_is_not(wrong, place):
    """Many deliveries at once, each by a process of its own, to few mailboxes; nobody is killed."""
    python = mutant_tree(place / "python", "stores/mbox.py", [SLOW, LOCK_FREE] if wrong else [SLOW])
    target = Refmta(architecture="sendmail", python=python, relays=False, traces=False)
    plan = Plan(messages=120, seconds=1, seed=24, clients=12, hits=0, drain_s=120)
    result = await storm(target, plan, place / "s")
    names = {finding.name for finding in result.findings}
    assert ("lost" in names) if wrong else (names == set()), target.log_end()
