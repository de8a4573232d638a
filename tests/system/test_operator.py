"""The operator's commands: what they say, what they do, and to whom."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys

import pytest
from click.testing import CliRunner, Result
from system.observe import (
    Client,
    copies,
    events,
    letter,
    only,
    processes,
    queued,
    send,
    set_aside,
    stopped,
    wait_delivered,
)
from system.server import PATIENCE_S, Server, server

from refmta.cli.main import main
from refmta.wire.frame import MESSAGE, Frame, encode
from refmta.wire.messages import Ask, encode_message

NOBODY = 65534
NO_SUCH = "06H06TY2DFR20W5S"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with server(tmp_path_factory.mktemp("operator") / "s") as running:
        yield running


@pytest.fixture
def waiting(running):
    """A message that waits, for a mailbox that can't be made; removed at the end."""
    with obstructed(running):
        code, text = send(running, "waiting", "bob@example.org")
        assert code == 250
        queue_id = text.rpartition(" ")[2]
        deferred(running, queue_id, 1)
        yield queue_id
    run(running, "queue", "remove", queue_id)


@contextlib.contextmanager
def obstructed(running: Server):
    """A file lies where bob's mailbox should be."""
    mailbox = running.maildir("bob").parent
    mailbox.parent.mkdir(exist_ok=True, parents=True)
    shutil.rmtree(mailbox, ignore_errors=True)
    mailbox.write_text("in the way")
    try:
        yield
    finally:
        clear(running)


def clear(running: Server) -> None:
    mailbox = running.maildir("bob").parent
    if mailbox.is_file():
        mailbox.unlink()


def deferred(running: Server, queue_id: str, times: int) -> None:
    running.wait_for(
        lambda: len(events(running, lambda e: e["event"] == "deferred"
                           and e["queue_id"] == queue_id)) == times, f"deferred {times} times",
    )  # fmt: skip


def run(running: Server, *arguments: str) -> Result:
    """A command, in this process: a new one each time would cost a third of a second."""
    return CliRunner().invoke(main, [*arguments, "-c", str(running.config)])


def done(running: Server, *arguments: str) -> str:
    """A command that must succeed; what it printed."""
    result = run(running, *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def show(running: Server, queue_id: str) -> dict:
    return json.loads(done(running, "queue", "show", "--json", queue_id))


# -- looking --------------------------------------------------------------------------------------


def test_ps_shows_every_process_and_what_it_runs_as(running):
    with Client(running) as client:
        assert client.code("EHLO client.example.net") == 250
        rows, seen = [], {}

        def agree() -> bool:  # one that starts is told of sooner, or later, than it is seen
            rows[:] = json.loads(done(running, "ps", "--json"))["processes"]
            seen.clear()
            seen.update((each.pid, each) for each in processes(running))
            return {row["pid"] for row in rows} == set(seen)

        running.wait_for(agree, "ps tells of all that there is")
        for row in rows:
            assert row["uid"] == int(seen[row["pid"]].status("Uid")[0])
            assert row["pss_kib"] > 0
        assert [row["compartment"] for row in rows[:2]] == ["spawner", "supervisor"]
        assert {row["compartment"] for row in rows} >= {
            "resolve", "enqueue", "qmgr", "smtpd", "smtpd/template", "smtpd/worker",
        }  # fmt: skip
        (busy,) = [row for row in rows if row.get("busy")]
        assert seen[busy["pid"]].name == "smtpd worker"
        text = running.run("ps").stdout  # the real command, in a pipe
        assert all(str(row["pid"]) in text for row in rows)


def test_the_queue_is_listed_for_people_and_for_programs(running, waiting):
    listed = json.loads(done(running, "queue", "list", "--json"))
    assert listed["set_aside"] == []
    (row,) = [each for each in listed["messages"] if each["queue_id"] == waiting]
    assert row["state"] == "deferred"
    assert row["sender"] == "x@example.net" and row["client"] == "127.0.0.1"
    assert row["octets"] > len(letter("waiting"))  # with its Received line
    text = done(running, "queue", "list")
    (line,) = [line for line in text.splitlines() if waiting in line]
    assert "deferred" in line and "<x@example.net>" in line and "bob@example.org" in line
    assert "1 messages in the queue" in text
    assert all(line.isascii() for line in text.splitlines())


def test_one_message_is_shown_recipient_by_recipient(running, waiting):
    row = show(running, waiting)
    (recipient,) = row["recipients"]
    assert recipient == {
        "address": "bob@example.org", "status": "deferred", "attempts": 1, "code": "4.2.0",
        "text": recipient["text"],
    }  # fmt: skip
    assert recipient["text"].endswith("Not a directory")
    assert row["next_attempt_s"] > row["arrival_s"]
    text = done(running, "queue", "show", waiting)
    assert waiting in text and recipient["text"] in text and "next attempt" in text


def test_the_queue_of_a_stopped_server_is_read_from_the_disk(running, waiting):
    before = show(running, waiting)
    assert running.stop() == 0
    try:
        listed = json.loads(done(running, "queue", "list", "--json"))["messages"]
        assert [row["queue_id"] for row in listed] == [waiting]
        after = show(running, waiting)
        assert after["recipients"] == before["recipients"]
        assert waiting in done(running, "queue", "list")
        assert "4.2.0" in done(running, "queue", "show", waiting)
        for command in (["ps"], ["queue", "retry"], *(["queue", v, waiting] for v in VERBS)):
            result = run(running, *command)
            assert result.exit_code == 3, command
            assert result.stderr.startswith("the server can't be reached: ")
            assert str(running.spool / "control") in result.stderr
        assert queued(running) == [waiting]
    finally:
        running.start()


# -- acting ---------------------------------------------------------------------------------------

VERBS = ["retry", "hold", "release", "remove"]


def test_retry_tries_now_and_says_what_it_did(running, waiting):
    assert done(running, "queue", "retry", waiting) == f"retry: {waiting}\n"
    deferred(running, waiting, 2)
    assert show(running, waiting)["recipients"][0]["attempts"] == 2
    clear(running)
    answer = json.loads(done(running, "queue", "retry", "--json", waiting))
    assert answer == {"done": "retry", "queue_id": waiting}
    wait_delivered(running, "waiting", "bob")
    running.wait_for(lambda: waiting not in queued(running), "it leaves the queue")


def test_retry_without_an_id_tries_all(running, waiting):
    clear(running)
    assert done(running, "queue", "retry") == "retry: all\n"
    wait_delivered(running, "waiting", "bob")


def test_a_held_message_waits_over_a_restart_until_it_is_released(running, waiting):
    done(running, "queue", "hold", waiting)
    assert show(running, waiting)["state"] == "held"
    clear(running)
    done(running, "queue", "retry", waiting)
    done(running, "queue", "retry")
    assert running.stop() == 0
    running.start()
    # What came later is delivered; so this one has had its chance.
    assert send(running, "after-hold", "bob@example.org")[0] == 250
    wait_delivered(running, "after-hold", "bob")
    assert not copies(running, "bob", "waiting")
    row = show(running, waiting)
    assert row["state"] == "held" and row["next_attempt_s"] is None
    done(running, "queue", "release", waiting)
    done(running, "queue", "retry", waiting)
    wait_delivered(running, "waiting", "bob")


def test_a_message_can_be_held_before_its_first_attempt(running):
    """Its recipient was verified before resolve stopped: the route is asked for in vain."""
    with Client(running) as client:
        assert client.code("EHLO client.example.net") == 250
        client.begin("bob+early@example.org")
        with stopped(running, only(running, "resolve")):
            client.send(letter("early") + b".\r\n")
            code, text = client.reply()
            assert code == 250
            queue_id = text.rpartition(" ")[2]
            running.wait_for(
                lambda: run(running, "queue", "hold", queue_id).exit_code == 0, "qmgr knows of it"
            )
    assert send(running, "later", "bob@example.org")[0] == 250
    wait_delivered(running, "later", "bob")
    assert not copies(running, "bob", "early")
    done(running, "queue", "release", queue_id)
    wait_delivered(running, "early", "bob")


def test_a_removed_message_is_gone(running, waiting):
    done(running, "queue", "remove", waiting)
    assert waiting not in queued(running)
    clear(running)
    done(running, "queue", "retry")
    assert send(running, "after-remove", "bob@example.org")[0] == 250
    wait_delivered(running, "after-remove", "bob")
    assert not copies(running, "bob", "waiting")
    assert not set_aside(running)


def test_every_act_is_a_line_of_the_log(running, waiting):
    for verb in ("hold", "release", "retry", "remove"):
        done(running, "queue", verb, waiting)
    said = [e["event"] for e in events(running, lambda e: e.get("queue_id") == waiting)]
    acts = [each for each in said if str(each).startswith("operator: ")]
    assert acts == ["operator: hold", "operator: release", "operator: retry", "operator: remove"]


# -- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["show", *VERBS])
def test_an_id_that_is_not_in_the_queue_is_said_to_be_so(running, verb):
    result = run(running, "queue", verb, NO_SUCH)
    assert result.exit_code == 1
    assert NO_SUCH in result.stderr and "no" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("verb", ["show", "hold", "remove"])
@pytest.mark.parametrize("wrong", ["x", NO_SUCH.lower(), "../../etc/passwd", NO_SUCH + "\n"])
def test_what_is_no_queue_id_is_wrong_usage(running, verb, wrong):
    result = run(running, "queue", verb, wrong)
    assert result.exit_code == 2
    assert "a queue id has 16 letters and digits" in result.stderr


def test_wrong_usage_is_exit_2(running):
    for command in (["queue", "eat"], ["queue", "show"], ["ps", "--xml"], ["queue", "remove"]):
        assert run(running, *command).exit_code == 2, command


# -- who may --------------------------------------------------------------------------------------

GUESS = encode(Frame(MESSAGE, encode_message(Ask(reference=1, verb="ps", key=b"k" * 32)))).hex()
KNOCK = """
import os, socket, sys
os.setgroups([]); os.setgid({uid}); os.setuid({uid})
s = socket.socket(socket.AF_UNIX)
try:
    s.connect(sys.argv[1])
    s.settimeout(30)
    s.sendall(bytes.fromhex(sys.argv[2]))
    sys.exit(0 if s.recv(1) == b"" else 9)
except PermissionError:
    sys.exit(7)
"""


@pytest.mark.needs("root")
def test_another_user_cannot_open_the_control_socket(running):
    control = str(running.spool / "control")
    knock = [sys.executable, "-c", KNOCK.format(uid=NOBODY), control, GUESS]
    assert subprocess.run(knock, timeout=PATIENCE_S, check=False).returncode == 7


@pytest.mark.needs("root")
def test_another_user_is_sent_away_even_if_the_socket_is_open_to_all(running):
    """He can't read the key, which each question must bring."""
    control = running.spool / "control"
    mode = control.stat().st_mode
    control.chmod(0o666)
    try:
        knock = [sys.executable, "-c", KNOCK.format(uid=NOBODY), str(control), GUESS]
        assert subprocess.run(knock, timeout=PATIENCE_S, check=False).returncode == 0
    finally:
        control.chmod(mode)
    assert done(running, "ps")


def test_who_talks_nonsense_to_the_control_socket_is_cut_off_and_nobody_else(running):
    for nonsense in (b"GET / HTTP/1.0\r\n\r\n", b"\x01\0\0\0\0\x04spam", b"\x01\x03\0\0\0\0"):
        with socket.socket(socket.AF_UNIX) as knock:
            knock.settimeout(PATIENCE_S)
            knock.connect(str(running.spool / "control"))
            knock.sendall(nonsense)
            assert knock.recv(1) == b""
    assert done(running, "ps")
    assert os.path.exists(running.spool / "control")
