"""Users of the machine: resolve sits in an empty jail, so it asks accounts; on a real server."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from system.observe import Client, copies, events, named, only, send
from system.server import Server, server

pytestmark = pytest.mark.needs("root")

#: A user of the machine, and one whom its id makes a system user.
GRACE, DAEMON = 5000, 250
#: Runs what follows where this file is /etc/passwd, and nowhere else.
WITH_PASSWD = 'mount --bind "$0" /etc/passwd && exec "$@"'


@dataclass
class Machine(Server):
    """A server on a machine with users of our own making."""

    passwd: Path = Path()

    def command(self, *arguments: str) -> list[str]:
        prefix = ["unshare", "--mount", "sh", "-c", WITH_PASSWD, str(self.passwd)]
        return [*(prefix if arguments[0] == "serve" else []), *super().command(*arguments)]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Machine]:
    with server(tmp_path, start=False) as plain:
        home = plain.directory / "home" / "grace"
        home.mkdir()
        os.chown(home, GRACE, GRACE)
        passwd = plain.directory / "passwd"
        passwd.write_text(
            Path("/etc/passwd").read_text()
            + f"grace:x:{GRACE}:{GRACE}::{home}:/bin/sh\nmole:x:{DAEMON}:{DAEMON}::{home}:/bin/sh\n"
        )
        passwd.chmod(0o644)
        machine = Machine(plain.directory, plain.port, plain.config, passwd=passwd)
        try:
            machine.start()
            yield machine
        finally:
            plain.process = machine.process


def codes(running: Server, *users: str) -> list[int]:
    """The replies to RCPT, in one session."""
    with Client(running) as client:
        assert client.code("EHLO client.example.net") == 250
        assert client.code("MAIL FROM:<x@example.net>") == 250
        return [client.code(f"RCPT TO:<{user}@example.org>") for user in users]


def test_a_user_of_the_machine_gets_mail_and_nobody_else_is_one(running: Machine):
    assert not named(running, "accounts")  # nobody has asked
    assert codes(running, "ada", "grace", "mole", "root", "stranger", "virtual") == [
        250, 250, 550, 550, 550, 550,
    ]  # fmt: skip
    accounts, resolve = only(running, "accounts"), only(running, "resolve")
    assert accounts.status("Uid") != resolve.status("Uid")
    assert (accounts.proc / "root").readlink() == Path("/")
    assert send(running, "to-grace", "grace@example.org")[0] == 250
    running.wait_for(lambda: copies(running, "grace", "to-grace"), "delivery to grace")
    (place,) = running.maildir("grace").iterdir()
    assert place.stat().st_uid == GRACE


def test_only_who_needs_it_asks_and_one_question_answers_for_a_while(running: Machine):
    assert codes(running, "ada", "bob", "postmaster") == [250, 250, 250]
    assert not named(running, "accounts")
    assert codes(running, "grace") == [250]
    process = only(running, "accounts").pid
    os.kill(process, signal.SIGSTOP)  # what is known is answered without it
    try:
        assert codes(running, "grace", "ada") == [250, 250]
    finally:
        os.kill(process, signal.SIGCONT)


def test_its_death_never_means_that_there_is_no_such_user(running: Machine):
    assert codes(running, "stranger0") == [550]
    for number in range(1, 4):
        only(running, "accounts")
        os.kill(only(running, "accounts").pid, signal.SIGKILL)
        running.wait_for(lambda: not named(running, "accounts"), "accounts is dead")
        who, truth = ("grace", 250) if number == 1 else (f"stranger{number}", 550)

        def answers(who: str = who, truth: int = truth) -> bool:
            """A question that went down with it is 451; it is started for the next one."""
            (code,) = codes(running, who)
            assert code in (truth, 451)
            return code == truth

        running.wait_for(answers, "it is asked again")
        running.wait_for(lambda: named(running, "accounts"), "accounts is back")
    assert codes(running, "ada", "bob") == [250, 250]
    ended = events(running, lambda e: e["event"] == "ended" and e["compartment"] == "accounts")
    assert len(ended) == 3 and not events(running, lambda e: e.get("level") == "critical")
