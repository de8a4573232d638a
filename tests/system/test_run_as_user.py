"""Sendmail's RunAsUser: nobody that handles mail is root, so mailboxes that need no account are
written, and those that need one are not; their mail waits, with the reason, and nobody dies of it.
"""

from __future__ import annotations

import smtplib

import pytest
from system.server import PATIENCE_S, Server, server

pytestmark = pytest.mark.needs("root")

LETTER = "Subject: x\r\n\r\nhello\r\n"
MORE = """
[domains."virtual.example"]
mailboxes = ["eve"]
"""


def architecture(lowered: bool) -> str:
    said = "true" if lowered else "false"
    return f"{MORE}\n[sendmail]\nrun_as_user = {said}\nqueue_interval_s = 2\n"


def send(running: Server, *recipients: str) -> None:
    with smtplib.SMTP("127.0.0.1", running.port, timeout=PATIENCE_S) as client:
        client.sendmail("", recipients, LETTER)


def roots(running: Server) -> set[str]:
    """Compartments with user 0, of those that run."""
    return {str(row["compartment"]) for row in running.ps() if row["uid"] == 0}


@pytest.mark.parametrize("lowered", [True, False], ids=["lowered", "root"])
def test_who_gave_root_up_writes_what_needs_no_account(tmp_path, lowered: bool):
    place = tmp_path / "server"
    text = architecture(lowered)
    with server(place, users=("ada",), extra=text, start=False, architecture="sendmail") as running:
        running.start()
        others = roots(running) - {"spawner"}
        assert not others if lowered else others
        send(running, "ada@example.org", "eve@virtual.example")
        mbox = running.spool / "mail" / "virtual.example" / "eve"
        running.wait_for(lambda: mbox.exists() and b"hello" in mbox.read_bytes(), "eve's mail")
        if not lowered:
            running.wait_for(lambda: not running.queue(), "ada's mail")
            return
        assert mbox.stat().st_uid == mbox.parent.stat().st_uid != 0
        said = "home: Operation not permitted"
        running.wait_for(lambda: said in running.run("queue", "list").stdout, "ada's mail waits")
        assert running.stop() == 0
        assert not [each for each in running.events() if each.get("event") == "ended"]
