"""Negative controls: what would be seen if the LMTP roles were wrong.

One story is told to both of them, on real files, and then accounts are made: by what lies in the
mailboxes, and not by what is said.  The machines in the middle have controls of their own
(`subjects.lmtp`).
"""

from __future__ import annotations

import errno
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import trio
from lmtp_world import (
    World,
    chunk,
    content,
    conversation,
    near_channels,
    queue_id,
    stream_channels,
    world,
)  # fmt: skip

from refmta.roles import lmtpc, lmtpd
from specs.kernel.control import Control, Verdict, run_control
from specs.kernel.mutant import hits, mutate

ACCOUNTS = (
    "delivered_is_in_the_mailbox",
    "not_delivered_is_nowhere",
    "again_replaces",
    "said_only_when_synced",
    "cut_off_leaves_nothing",
    "no_descriptor_stays_open",
    "damaged_is_said_so",
)


async def story(home: Path, client: Any, server: Any) -> set[str]:
    """Accounts that do not add up."""
    async with world(stream_channels, home, client=client, server=server) as it:
        return {
            *await _two_boxes(it),
            *await _again(it),
            *await _a_directory_that_fails(it),
            *await _damaged(it),
            *await _cut_off(it),
        }


def _lies(it: World, number: int, mailbox: str, index: int = 0) -> bool:
    """Whether that message is in that mailbox, whole."""
    path = (
        it.home / "ada" / mailbox / "new" / f"1700000000.Q{queue_id(number)}R{index}.mx.example.org"
    )
    return path.exists() and path.read_bytes().endswith(content(number).replace(b"\r\n", b"\n"))


async def _two_boxes(it: World) -> set[str]:
    """The first of two mailboxes can't be written."""
    it.disk("ada").fail("create", errno.EIO)
    for index, mailbox in enumerate("ab"):
        it.hand(1, chunk(1), reference=index, index=index, mailbox=mailbox)
    found = await it.outcomes(2)
    said = {index: found[index].kind == "delivered" for index in (0, 1)}
    there = {index: _lies(it, 1, "ab"[index], index) for index in (0, 1)}
    wrong = (
        {"delivered_is_in_the_mailbox"} if any(said[at] and not there[at] for at in said) else set()
    )
    return wrong | (
        {"not_delivered_is_nowhere"} if any(there[at] > said[at] for at in said) else set()
    )


async def _again(it: World) -> set[str]:
    """The same message twice, to the same mailbox."""
    done = it.disk("ada").done
    for _ in range(2):
        done.clear()
        await it.deliver(2, chunk(2))
    order = [each for each in done if each in ("sync", "sync_dir", "traced")]
    wrong = set() if order == ["sync", "sync_dir", "traced"] else {"said_only_when_synced"}
    return wrong | (set() if len(it.mailbox()) == 1 else {"again_replaces"})


async def _a_directory_that_fails(it: World) -> set[str]:
    it.disk("ada").fail("sync_dir", errno.EIO)
    kind = (await it.deliver(3, chunk(3))).kind
    return {"said_only_when_synced"} if kind == "delivered" else set()


async def _damaged(it: World) -> set[str]:
    kind = (await it.deliver(4, chunk(5))).kind
    return set() if kind == "damaged" else {"damaged_is_said_so"}


async def _cut_off(it: World) -> set[str]:
    """A client that goes in the middle of the content."""
    near, far = near_channels()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(conversation(it, "ada", far).run)
        for octets in (
            b"LHLO c\r\n", b"MAIL FROM:<>\r\nRCPT TO:<ada@example.org>\r\nDATA\r\n", b"half",
        ):  # fmt: skip
            near.post_octets(octets)
            await near.flush()
            await trio.testing.wait_all_tasks_blocked()
        near.close()
    return {"cut_off_leaves_nothing"} if it.leftovers() else set()


def accounts(client: Any = lmtpc, server: Any = lmtpd) -> frozenset[str]:
    trio.run(trio.lowlevel.checkpoint)
    before = len(os.listdir("/proc/self/fd"))
    with tempfile.TemporaryDirectory() as home:
        wrong = trio.run(story, Path(home), client, server)
    if len(os.listdir("/proc/self/fd")) != before:
        wrong.add("no_descriptor_stays_open")
    return frozenset(wrong)


@cache
def _twin() -> Verdict:
    return Verdict(violated=accounts())


COURIER = "refmta.roles.lmtpc.courier"
#: (module, name, the account that must tell, the passage, what stands there instead)
MUTANTS = (
    (
        "refmta.roles.lmtpd", "what failed to be written is said to be there",
        "delivered_is_in_the_mailbox",
        "    error = delivery.error\n",
        "    error = delivery.error if not __mutant_ran__() else None\n",
    ),
    (
        "refmta.roles.lmtpd", "250 without a commit", "said_only_when_synced",
        "        failures = await self.mailboxes.commit(entries)",
        "        failures: dict[str, OSError] = {} if __mutant_ran__() else {}",
    ),
    (
        "refmta.roles.lmtpd", "a failed commit is forgotten", "said_only_when_synced",
        "            delivery.error = failures.get(entry.name)",
        "            delivery.error = failures.get(entry.name * (not __mutant_ran__()))",
    ),
    (
        "refmta.roles.lmtpd", "traced before the commit", "said_only_when_synced",
        "        failures = await self.mailboxes.commit(entries)",
        '        self.trace("early", ran=__mutant_ran__())\n'
        "        failures = await self.mailboxes.commit(entries)",
    ),
    (
        "refmta.roles.lmtpd", "a name of our own for each delivery", "again_replaces",
        "        self._origin = body.origin or _origin_of_our_own()",
        "        self._origin = (__mutant_ran__(), _origin_of_our_own())[1]",
    ),
    (
        "refmta.roles.lmtpd", "an unfinished file stays", "cut_off_leaves_nothing",
        "                delivery.entry.discard()\n        self._deliveries",
        "                __mutant_ran__()\n        self._deliveries",
    ),
    (
        COURIER, "verdicts given out from the end", "delivered_is_in_the_mailbox",
        "        judged = iter(verdicts)",
        "        judged = iter([*verdicts][:: -1 * __mutant_ran__()])",
    ),
    (
        COURIER, "what was delivered is said to be deferred", "not_delivered_is_nowhere",
        "        self._report(job, verdict.kind, verdict.enhanced, verdict.text)",
        '        kind = "deferred" if __mutant_ran__() else verdict.kind\n'
        '        self._report(job, kind, "4.0.0", verdict.text)',
    ),
    (
        COURIER, "a message is not closed", "no_descriptor_stays_open",
        '        """The end of a delivery."""\n        self.tools.disk.close(job.descriptor)',
        '        """The end of a delivery."""\n        __mutant_ran__()',
    ),
    (
        COURIER, "damage is a passing trouble", "damaged_is_said_so",
        'self._report_all(jobs, "damaged", "5.6.0", str(error))',
        'self._report_all(jobs, "deferred" * __mutant_ran__(), "4.6.0", str(error))',
    ),
)  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each[1])
def test_the_mutant_is_told_by_its_account(mutant: tuple[str, str, str, str, str]):
    module, name, account, old, new = mutant

    def changed() -> Verdict:
        broken = mutate(module, [(old, new)])
        if module == COURIER:
            client = mutate("refmta.roles.lmtpc", [], replacing={module: broken})
            wrong = accounts(client=client)
        else:
            wrong = accounts(server=broken)
        return Verdict(violated=wrong, mutated_line_ran=hits(broken) > 0)

    result = run_control(
        Control(name=name, spec="lmtp", invariant=account, twin=_twin, mutant=changed)
    )
    assert result.counts, result.reason


def test_every_account_has_a_mutant():
    assert {account for _, _, account, *_ in MUTANTS} == set(ACCOUNTS)
