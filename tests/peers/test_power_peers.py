"""Loss of power on real servers: those that sync before they promise lose nothing, the others are
found out.  What each is known for is its adapter's to say; here is what the cuts find.

One of each kind; with REFMTA_FAULTS=all in the environment all of them.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from system.harness_killed import gone, held, leaves_nothing

from faultinject import target as targets
from faultinject.overlay import SCRATCH, scratch
from faultinject.power.injector import PowerHarness, case
from faultinject.power.records import Settings

ALL = os.environ.get("REFMTA_FAULTS") == "all"
pytestmark = [pytest.mark.needs("root", "overlay", "file-systems"), pytest.mark.timeout(900)]
SETTINGS = Settings(fs="ext4", cuts=3, again_one_in=3)
SYNCS = ("postfix", "exim", "sendmail")
SYNCS_NOT = ("opensmtpd", "aiosmtpd")


def found(name: str):
    """What a round finds; that the server can't be had here is no result at all."""
    with scratch("power-test") as (place, _):
        (place / "round").mkdir(mode=0o711)
        outcome = PowerHarness().run(case(name, 1, SETTINGS), place / "round")
    assert outcome.verdict in ("held", "found"), outcome.reason
    assert outcome.counts["cuts"] == 4
    assert outcome.counts["promised"] >= 3 * SETTINGS.clients
    return {finding.name for finding in outcome.findings}, outcome


@pytest.mark.parametrize("name", SYNCS if ALL else SYNCS[:1])
def test_servers_that_sync_lose_nothing(name):
    names, outcome = found(name)
    assert "lost" not in names, outcome.findings


@pytest.mark.parametrize("name", SYNCS_NOT if ALL else SYNCS_NOT[:1])
def test_servers_that_do_not_sync_are_found_out(name):
    names, _ = found(name)
    assert "lost" in names


def test_that_is_what_they_are_known_for():
    for name in SYNCS_NOT:
        assert "lost" in targets.known(targets.load(name), "power")
    for name in ("refmta", *SYNCS):
        why = targets.known(targets.load(name), "power").get("lost", "")
        assert not why or (name == "sendmail" and "procmail" in why and "btrfs" in why), name


@pytest.mark.needs("strace")
@pytest.mark.parametrize(
    ("harness", "more"),
    [("power", ["--fs", "xfs", "--cuts", "5"]), ("crash", ["--scene", "one", "--samples", "0"])],
)
def test_a_harness_that_is_killed_leaves_no_server_behind(harness, more, tmp_path):
    """Nor its overlay root, which the kernel removes with the last process in it."""
    before = set(SCRATCH.glob("refmta-overlay-opensmtpd-*"))
    arguments = ["--target", "opensmtpd", "--seed", "1", *more]
    leaves_nothing(harness, arguments, signal.SIGKILL, tmp_path / "said")

    def abandoned() -> list[Path]:
        with scratch("overlay-opensmtpd"):  # the next start removes what has no owner
            left = set(SCRATCH.glob("refmta-overlay-opensmtpd-*")) - before
            return [each for each in left if not held(each)]

    # The kernel may let go of the dead one's lock a moment after its processes are gone.
    assert gone(abandoned), abandoned()
