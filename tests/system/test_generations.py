"""No process outlives its generation: when the supervisor is dead, everything ends and starts anew,
and two generations never work on the same mail.

In sendmail's architecture a worker is a whole server, and root's: to write a mailbox it takes on
its owner's ids for a moment, by which the kernel forgets that it is to die with its parent
(prctl(2)).
"""

from __future__ import annotations

import contextlib
import os
import signal
import smtplib
import time

import pytest
from system.server import PATIENCE_S

from faultinject.target import Site
from faultinject.traces import judge_trace
from subjects.mutant_tree import mutant_tree
from subjects.target import Refmta

LETTER = "Subject: x\r\n\r\nhello\r\n"
#: Whoever changes ids does not ask for the signal again.
OUTLIVES = (
    "stores/owners.py",
    [
        ("        least_privilege.die_with(parent, death)\n        yield\n", "        yield\n"),
        (
            "        _return(groups)\n        least_privilege.die_with(parent, death)\n",
            "        _return(groups)\n        os.write(2, b'__mutant_ran__\\n')\n",
        ),
    ],
)


def wait_for(condition, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.02)


def generations(target: Refmta) -> int:
    return target.log.read_bytes().count(b'"event":"serving"')


def next_serves(target: Refmta, client: smtplib.SMTP) -> bool:
    """Whether the next generation is there; until then the client's session is kept from idling."""
    with contextlib.suppress(smtplib.SMTPServerDisconnected):
        client.noop()
    return generations(target) == 2


def speak_to_two_generations(target: Refmta, directory) -> bool:
    """Whether the first one still takes mail, in a client's session, when the next one is there."""
    directory.mkdir()
    for each in (directory, *directory.parents):  # pytest's directories are closed
        if each.stat().st_uid == os.geteuid() and not each.stat().st_mode & 0o001:
            each.chmod(each.stat().st_mode | 0o011)
    domain = "storm.example"
    target.configure(
        Site(
            directory=directory, hostname=f"mx.{domain}", domain=domain, users=("ada",),
            next_hops={},
        )
    )  # fmt: skip
    try:
        target.start()
        with contextlib.closing(smtplib.SMTP(*target.address, timeout=PATIENCE_S)) as client:
            client.sendmail("", [f"ada@{domain}"], LETTER)
            wait_for(lambda: not target.waiting(), "it is delivered")
            (supervisor,) = (each for each in target.processes() if each.role == "supervisor")
            os.kill(supervisor.pid, signal.SIGKILL)
            wait_for(lambda: next_serves(target, client), "the next generation serves")
            try:
                client.sendmail("", [f"ada@{domain}"], LETTER)
            except smtplib.SMTPServerDisconnected:
                return False
            return True
    finally:
        target.dispose()


@pytest.mark.parametrize("architecture", ["sendmail", "qmail"])
def test_no_session_outlives_the_supervisor(architecture, tmp_path):
    target = Refmta(architecture=architecture)
    assert not speak_to_two_generations(target, tmp_path / "s")
    said, refused = judge_trace(tmp_path / "s" / "trace")
    assert refused == [], said


@pytest.mark.needs("root")
def test_a_worker_that_does_is_found_out_by_the_trace(tmp_path):
    python = mutant_tree(tmp_path / "python", *OUTLIVES)
    tmp_path.joinpath("python").chmod(0o755)
    target = Refmta(architecture="sendmail", python=python)
    assert speak_to_two_generations(target, tmp_path / "s")
    assert "__mutant_ran__" in target.log.read_text()
    _, refused = judge_trace(tmp_path / "s" / "trace")
    assert any("a later generation had begun" in each.text for each in refused)
