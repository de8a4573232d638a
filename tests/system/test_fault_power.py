"""Loss of power on ext4, xfs and btrfs: nothing that was promised is lost; servers that do not sync
are found out, and their twins that do are not; a harness that is killed leaves nothing.

With REFMTA_FAULTS=all in the environment as many cuts on xfs and btrfs as on ext4.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from system.harness_killed import leaves_nothing
from unit.faultinject.toy_target import Toy

from faultinject import namespaces
from faultinject.namespaces import in_turn, run
from faultinject.overlay import scratch
from faultinject.power.images import KINDS
from faultinject.power.injector import PowerHarness, case
from faultinject.power.records import Failed, Judged, Settings, decode, encode
from faultinject.power.round import Round, tally
from subjects.mutant_tree import mutant_tree
from subjects.target import Refmta

ALL = os.environ.get("REFMTA_FAULTS") == "all"
pytestmark = [pytest.mark.needs("root", "file-systems"), pytest.mark.timeout(900)]
PATIENCE_S = 800.0
RAN = "__mutant_ran__"
#: Contents are not forced to the disk; names are.
NO_CONTENTS = (
    "    def sync(self, handle: int) -> None:\n        os.fsync(handle)\n",
    f'    def sync(self, handle: int) -> None:\n        os.write(2, b"{RAN}\\n")\n',
)
#: Nor are names.  (This alone shows nothing here: `images.BLIND`.)
NO_NAMES = (
    "        self._with_directory(path, os.fsync)\n",
    "        self._with_directory(path, lambda handle: None)\n",
)


@pytest.fixture
def place():
    """On a disk, where users can enter; if we are killed, the next start removes it."""
    with scratch("power-test") as (directory, _):
        yield directory


def words_of(target, settings: Settings, place: Path, seed: int = 1) -> list:
    """What a round with that very target says, in a namespace."""

    def work(write) -> None:
        round_ = Round(target=target, settings=settings, seed=seed, place=place / "round")
        round_.place.mkdir(mode=0o711)
        for word in round_.run():
            write(encode(word))

    (ended,) = in_turn([work], 1, PATIENCE_S)
    assert not ended.late and ended.status == 0, ended
    words = [decode(line) for line in ended.output.splitlines()]
    assert not [each for each in words if isinstance(each, Failed)], words
    return words


def judged(target, settings: Settings, place: Path) -> list[Judged]:
    return [each for each in words_of(target, settings, place) if isinstance(each, Judged)]


# -- servers that differ by a sync, and by nothing else -------------------------------------------


@pytest.mark.parametrize("fs", KINDS)
def test_a_server_that_does_not_sync_is_found_out_and_its_twin_is_not(fs, place):
    settings = Settings(fs=fs, cuts=4, clients=4, recipients=1, most_octets=20_000, again_one_in=2)
    (place / "sound").mkdir()
    without = tally(judged(Toy("sound"), settings, place / "sound"))
    assert without["lost"] > 0, without
    (place / "synced").mkdir()
    found = judged(Toy("synced"), settings, place / "synced")
    assert [each.examples for each in found if each.found] == []
    twin = tally(found)
    assert twin["cuts"] == 6 and twin["cuts during recovery"] == 2 and twin["promised"] > 20


DROPPED = [(NO_CONTENTS,), (NO_CONTENTS, NO_NAMES)]


class Marking(Refmta):
    """Its log's end says whether the changed line was run, however long ago."""

    def log_end(self) -> str:
        return RAN * (RAN in self.log.read_text(errors="replace")) + super().log_end()


@pytest.mark.parametrize("dropped", DROPPED if ALL else DROPPED[:1])
def test_refmta_without_syncs_is_found_out(dropped, place):
    python = mutant_tree(place / "python", "stores/disk.py", dropped)
    target = Marking(python=python, traces=False)
    loaded, *found = words_of(target, Settings(cuts=4, again_one_in=0), place)
    assert RAN in loaded.log
    sums = tally(found)
    assert sums["lost"] > 0, sums
    lost = [text for each in found for name, text in each.examples if name == "lost"]
    assert all("its 250 was read" in text for text in lost)


# -- refmta ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fs", "cuts"), [(fs, 24 if ALL else 8) for fs in KINDS])
def test_nothing_promised_is_lost(fs, cuts, place):
    """One clone in four was cut again while the server recovered from the first cut."""
    seen: list = []
    (place / "round").mkdir(mode=0o711)
    settings = Settings(fs=fs, cuts=cuts)
    outcome = PowerHarness(seen.append).run(case("refmta", 11, settings), place / "round")
    assert outcome.verdict == "held", (outcome.findings, outcome.reason, outcome.evidence)
    again = cuts // settings.again_one_in
    assert outcome.counts["cuts"] == cuts + again == sum(isinstance(w, Judged) for w in seen)
    assert outcome.counts["cuts during recovery"] == again
    assert outcome.counts["acknowledged"] >= cuts * settings.clients
    assert outcome.counts["promised"] >= cuts * (cuts + 1) // 2 * settings.clients
    assert outcome.counts["in flight"] > 0  # how fresh promises are, is the machine's to say


# -- nothing is left ------------------------------------------------------------------------------

#: Of this run: there may be others.
MARK = f"a daemon of the power test {os.getpid()}"


def daemons() -> list[int]:
    found = []
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                if MARK.encode() in (each / "cmdline").read_bytes():
                    found.append(int(each.name))
            except OSError:
                continue
    return found


def start_daemon(write) -> None:
    """One that has left its session, as daemons do."""
    subprocess.Popen(
        ["python3", "-c", "import time; time.sleep(300)", MARK], start_new_session=True
    )
    run("mount", "-t", "tmpfs", "none", "/mnt")
    Path("/mnt/inside").touch()
    write(b"done")


def test_a_child_leaves_neither_mounts_nor_processes():
    (ended,) = in_turn([start_daemon], 1, PATIENCE_S)
    assert ended.output == b"done" and ended.status == 0
    assert not daemons() and not Path("/mnt/inside").exists()


def test_a_child_that_does_not_end_is_killed_with_all_its_own(tmp_path, monkeypatch):
    """Its time is over as soon as it has done what it is to be killed for."""
    begun = tmp_path / "begun"

    def hang(write) -> None:
        start_daemon(write)
        begun.touch()
        time.sleep(PATIENCE_S)

    clock = SimpleNamespace(monotonic=lambda: 2 * PATIENCE_S if begun.exists() else 0.0)
    monkeypatch.setattr(namespaces, "time", clock)
    (ended,) = in_turn([hang], 1, PATIENCE_S)
    assert ended.late and ended.output == b"done"
    assert not daemons() and not Path("/mnt/inside").exists()


def test_a_child_that_raises_says_so():
    def fail(write) -> None:
        raise RuntimeError("as told")

    (ended,) = in_turn([fail], 1, PATIENCE_S)
    assert ended.status == 70 and ended.output == b""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_harness_that_is_killed_leaves_nothing(number, tmp_path):
    arguments = ["--target", "refmta", "--fs", "ext4", "--cuts", "5", "--seed", "1"]
    leaves_nothing("power", arguments, number, tmp_path / "said")
