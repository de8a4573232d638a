"""Each harness against each real server: a sample, by the command that people run.

Whatever is found has to be known of that server, with a reason; and what is known of those that do
not sync has to be found.  With REFMTA_FAULTS=all: all points of a message, more states and faults.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from faultinject import target

PEERS = ("aiosmtpd", "opensmtpd", "postfix", "exim", "sendmail")
#: aiosmtpd sends nothing to other hosts.
RELAYS = tuple(name for name in PEERS if name != "aiosmtpd")
ALL = os.environ.get("REFMTA_FAULTS") == "all"
pytestmark = [pytest.mark.needs("root", "overlay", "strace"), pytest.mark.timeout(3600)]

KILL = ("kill", "--script", "one", *(() if ALL else ("--every", "9")))
CRASH = ("crash", "--scene", "one", *(() if ALL else ("--most", "3", "--samples", "1")))
DISK = ("disk", "--fault", "enospc", *(("--fault", "eio") if ALL else ("--sample", "2")))
NETWORK = (
    "network", "--seconds", "2", "--bad", "smtp-4yz-at-rcpt", "--bad", "smtp-5yz-at-rcpt",
    "--bad", "smtp-4yz-at-final",
)  # fmt: skip


def run(name: str, *arguments: str) -> dict:
    """The report, if nothing was found that is not known."""
    if (why := target.load(name).unavailable()) is not None:
        pytest.skip(f"unavailable: {name} ({why})")
    call = [sys.executable, "-m", "faultinject.command", *arguments, "--target", name]
    done = subprocess.run(
        [*call, "--seed", "1", "--json", "-"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", PEERS)
def test_killed_at_some_of_its_calls(name):
    report = run(name, *KILL)
    assert report["hit"] >= 2 and report["acknowledged"] > report["hit"]


@pytest.mark.parametrize("name", PEERS)
def test_started_on_what_a_crash_may_leave(name):
    report = run(name, *CRASH)
    assert report["counts"]["minimal states tried"] >= 3
    if name in ("aiosmtpd", "opensmtpd"):
        assert any(each["name"].startswith("lost") for each in report["findings"])


@pytest.mark.parametrize("name", PEERS)
def test_without_room_for_its_files(name):
    for fault in run(name, *DISK)["faults"]:
        assert fault["verdict"] in ("held", "found") and fault["counts"]["hits"] >= 1


@pytest.mark.parametrize("name", RELAYS if ALL else RELAYS[1:])
def test_beside_hosts_that_refuse(name):
    (trial,) = run(name, *NETWORK)["trials"]
    assert trial["verdict"] in ("held", "found") and trial["counts"]["never met"] == 0
