"""A siege of the running system, and the way of mail through it: as it is, and with a mutated tree.

The whole siege is the matrix's (`refmta-spec matrix`); here a few channels are attacked, so that
the controls can be: a refmta whose carrier drops what is forbidden instead of ending the channel,
whose queue replies before its directory is synced, and that asks for locks, is refused by the
claims that were named before.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from specs.patterns import trust_partitioning, unique_atomic_chunks
from specs.patterns.claims import Bench
from specs.patterns.gather import running
from specs.patterns.hostile_peer import siege
from specs.patterns.observation import Instant, Observation
from specs.patterns.unique_atomic_chunks import way
from subjects.architecture import Architecture
from subjects.mutant_tree import mutant_tree

pytestmark = pytest.mark.needs("root", "strace")

ROWS = (
    (("smtpd worker", "enqueue"), "forbidden"),
    (("smtpd worker", "resolve"), "unknown message"),
    (("smtpd worker", "smtpd"), "garbage"),
    (("local", "qmgr"), "oversized"),
)
#: File, old text, new text.
MUTATIONS = (
    (
        "processes/channels.py",
        "                received.append(self._admit("
        "frame.kind, frame.payload, frame.descriptors))\n",
        "                try:\n"
        "                    one = self._admit(frame.kind, frame.payload, frame.descriptors)\n"
        "                except FrameError:\n                    continue\n"
        "                received.append(one)\n",
    ),
    ("stores/chunks.py", '    plan.append(Op("sync_dir", CHUNKS))\n', ""),
    (
        "stores/disk.py",
        "    def sync(self, handle: int) -> None:\n",
        "    def sync(self, handle: int) -> None:\n        import fcntl\n        try:\n"
        "            fcntl.flock(handle, fcntl.LOCK_EX)\n        except OSError:\n"
        "            pass\n",
    ),
)
#: The claims that must refuse the mutant, and no others do.  What is not refused is not said.
NAMED = {
    "bad_frames_end_the_channel", "refusals_are_logged", "no_reply_before_syncs", "no_locks",
}  # fmt: skip
CLAIMS = {each.name: each for each in (*trust_partitioning.CLAIMS, *unique_atomic_chunks.CLAIMS)}
#: What is said of a siege that is whole, of files, and of what a kill leaves, is not asked here.
ASKED = set(CLAIMS) - {
    "every_channel_was_attacked", "files_belong_as_said", "absent_or_whole",
    "nothing_answered_is_lost",
}  # fmt: skip


def observed(bench: Bench) -> Observation:
    results = {unique_atomic_chunks.WAY: way(bench), trust_partitioning.SIEGE: siege(bench, ROWS)}
    return Observation(
        manifest=bench.manifest,
        instants=(Instant(label="loaded", processes=()),),
        events=tuple(bench.target.journal()),
        results=results,
    )


def violated(seen: Observation) -> dict[str, tuple[str, ...]]:
    judged = {name: CLAIMS[name].judge(seen) for name in ASKED}
    return {name: found for name, found in judged.items() if found}


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[str]:
    """An interpreter with the mutated refmta; the compartments' users can enter."""
    for each in (tmp_path, *tmp_path.parents):
        if each.stat().st_uid == 0 and not each.stat().st_mode & 0o001:
            each.chmod(each.stat().st_mode | 0o011)
    file, old, new = MUTATIONS[0]
    python = mutant_tree(tmp_path / "tree", file, [(old, new)])
    (packages,) = (tmp_path / "tree").glob("lib/python*/site-packages/refmta")
    for file, old, new in MUTATIONS[1:]:
        text = (packages / file).read_text()
        assert text.count(old) == 1, file
        (packages / file).write_text(text.replace(old, new))
    yield python


def test_a_seized_peer_gains_nothing_and_no_promise_comes_early():
    with running(Architecture, "refmta") as bench:
        seen = observed(bench)
    assert violated(seen) == {}
    assert [each for each in seen.events if each["event"] == "defect"] == []
    attacks = seen.results[trust_partitioning.SIEGE].attacks
    assert len(attacks) == len(ROWS) and all(each.heard and each.written > 0 for each in attacks)


def test_a_refmta_without_these_patterns_is_refused_by_their_claims(tree):
    with running(lambda: Architecture(python=tree), "refmta") as bench:
        seen = observed(bench)
    found = violated(seen)
    assert set(found) == NAMED, found
    assert any("forbidden from smtpd worker" in e for e in found["bad_frames_end_the_channel"])
