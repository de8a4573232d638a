"""A number on everything that a client can make grow, and what it gets at that number."""

from __future__ import annotations

import contextlib
import time

import pytest
from system.observe import (
    Client,
    Process,
    letter,
    named,
    only,
    queued,
    send,
    sockets,
    wait_delivered,
)
from system.server import server

CONFIGURATION = """
[limits]
message_octets = 65536
recipients = 100
errors = 3
connections_per_client = 3
agents = 1
agent_idle_s = 1.0
[smtpd]
max_workers = 4
max_uses = 2
max_idle_s = 1.0
spare = 0
"""
#: How long a client may be silent: for a server of its own, as all others need their time.
HASTY = """
[limits]
command_s = 3.0
data_s = 3.0
"""
#: Not a trusted address, unlike 127.0.0.1.
ELSEWHERE = "127.0.0.2"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with server(tmp_path_factory.mktemp("limits") / "s", extra=CONFIGURATION) as running:
        yield running


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    with server(tmp_path_factory.mktemp("hasty") / "s", extra=HASTY) as running:
        yield running


@pytest.fixture
def client(running):
    with Client(running) as client:
        assert client.code("EHLO client.example.net") == 250
        yield client


# -- lines ----------------------------------------------------------------------------------------


def test_a_line_of_the_longest_length_is_read_and_one_more_is_refused(client):
    assert client.code("NOOP " + "x" * (1024 - 2 - 5)) == 250
    assert client.code("NOOP " + "x" * (1024 - 2 - 4)) == 500
    assert client.code("NOOP") == 250


@pytest.mark.parametrize("octets", [2_000, 300_000])
def test_a_line_without_end_is_swallowed_and_gets_one_reply(client, octets):
    client.send(b"NOOP " + b"x" * octets)
    client.send(b"\r\nNOOP\r\n")
    assert client.reply()[0] == 500
    assert client.reply()[0] == 250


def test_a_path_has_an_end(client):
    assert client.code("MAIL FROM:<" + "x" * 64 + "@" + "d" * 60 + ".example>") == 250
    assert client.code("RSET") == 250
    assert client.code("MAIL FROM:<" + "x" * 65 + "@example.net>") == 501


# -- messages -------------------------------------------------------------------------------------


def test_a_size_that_is_declared_too_large_is_refused_at_once(client):
    assert client.code("MAIL FROM:<x@example.net> SIZE=65537") == 552
    assert client.code("MAIL FROM:<x@example.net> SIZE=65536") == 250


@pytest.mark.parametrize(("excess", "expected"), [(0, 250), (1, 552), (500_000, 552)])
def test_content_is_counted_without_stuffing_and_refused_when_too_large(
    running, client, excess, expected
):
    token = f"size-{excess}"
    head = letter(token, b"")
    body = b"." * 70 + b"\r\n"
    lines, rest = divmod(65536 + excess - len(head), len(body))
    sent = head + body * (lines - 1) + b"y" * (len(body) + rest - 2) + b"\r\n"
    assert len(sent) == 65536 + excess
    client.begin()
    client.send(sent.replace(b"\r\n.", b"\r\n..") + b".\r\n")
    assert client.reply()[0] == expected
    assert client.code("NOOP") == 250
    if expected == 250:
        wait_delivered(running, token)
    running.wait_for(lambda: not queued(running), "nothing of it stays")


def test_the_hundred_and_first_recipient_is_452_and_the_message_goes_to_the_others(running, client):
    assert client.code("MAIL FROM:<x@example.net>") == 250
    client.send(b"RCPT TO:<ada@example.org>\r\n" * 101)
    assert [client.reply()[0] for _ in range(101)] == [250] * 100 + [452]
    assert client.code("DATA") == 354
    client.send(letter("hundred") + b".\r\n")
    assert client.reply()[0] == 250
    wait_delivered(running, "hundred")  # once: they all are one mailbox


# -- errors and idling ----------------------------------------------------------------------------


def test_the_third_error_ends_the_session(client):
    assert client.code("BREW coffee") == 500
    assert client.code("DATA") == 503
    code, text = client.say("BREW more")
    assert (code, text[:5]) == (421, "4.7.0")
    assert client.at_end()


def test_a_message_that_is_accepted_pays_for_the_errors_before_it(client):
    for number in range(3):
        assert client.code("BREW coffee") == 500
        assert client.code("BREW coffee") == 500
        assert client.deliver(f"paid-{number}")[0] == 250


def test_a_client_that_only_idles_is_sent_away(client):
    codes = [client.code("NOOP") for _ in range(99)]  # EHLO was the first
    assert codes == [250] * 98 + [421]
    assert client.at_end()


@pytest.mark.parametrize("phase", ["greeted", "half a line", "content"])
def test_a_silent_client_is_told_so_and_holds_no_worker(hasty, phase):
    with Client(hasty) as client:
        assert client.code("EHLO client.example.net") == 250
        if phase == "half a line":
            client.send(b"MAIL FR")
        if phase == "content":
            client.begin()
            client.send(letter("silent"))
        code, text = client.reply()
        assert (code, text[:5]) == (421, "4.4.2")
        assert client.at_end()
    hasty.wait_for(lambda: not queued(hasty), "nothing of it stays")


# -- connections and processes --------------------------------------------------------------------


def test_one_client_may_have_so_many_connections_and_others_are_not_kept_out(running):
    held = [Client(running, ELSEWHERE) for _ in range(3)]
    try:
        with Client(running, ELSEWHERE, greeted=False) as fourth:
            code, text = fourth.reply()
            assert (code, text[:5]) == (421, "4.7.0")
            assert fourth.at_end()
        with Client(running) as other:
            assert other.code("NOOP") == 250
        held.pop().close()
        running.wait_for(lambda: _is_welcome(running), "a place is free again")
    finally:
        for each in held:
            each.close()


def _is_welcome(running) -> bool:
    with Client(running, ELSEWHERE, greeted=False) as client:
        return client.reply()[0] == 220


def test_there_are_never_more_workers_than_allowed_and_waiting_clients_are_served_in_the_end(
    running,
):
    held = [Client(running) for _ in range(4)]
    assert len(named(running, "smtpd worker")) == 4
    waiting = Client(running, greeted=False)
    other = Client(running, greeted=False)
    assert len(named(running, "smtpd worker")) == 4
    for each in held:
        each.close()
    for each in (waiting, other):
        with each:
            assert each.reply()[0] == 220
    assert len(named(running, "smtpd worker")) <= 4


def test_a_worker_serves_so_many_sessions_and_is_then_replaced(running):
    """max_uses is 2: no process has a third."""
    served: dict[int, int] = {}
    for _ in range(8):
        with Client(running) as client:
            busy = [
                each.pid for each in named(running, "smtpd worker") if _has_connection(each, client)
            ]
            (pid,) = busy
            served[pid] = served.get(pid, 0) + 1
            assert client.code("QUIT") == 221
            assert client.at_end()
    assert max(served.values()) <= 2
    assert len(served) >= 4


def _has_connection(process: Process, client: Client) -> bool:
    """Whether a process holds the other end of the client's connection."""
    port = f":{client.socket.getsockname()[1]:04X}"
    held = sockets(lambda row: row[2].endswith(port))
    with contextlib.suppress(OSError):  # it has ended
        return not held.isdisjoint(process.descriptors().values())
    return False


def test_idle_workers_and_idle_agents_end_by_themselves(running):
    assert send(running, "last")[0] == 250
    wait_delivered(running, "last")
    running.wait_for(lambda: not named(running, "smtpd worker"), "idle workers end")
    running.wait_for(lambda: not named(running, "local"), "idle agents end")
    assert only(running, "smtpd template")
    assert send(running, "woken")[0] == 250
    wait_delivered(running, "woken")


@pytest.mark.needs("root")
def test_there_are_never_more_agents_than_allowed_and_every_user_has_a_turn(running):
    """agents is 1: bob's mail waits until ada's agent has been idle for long enough."""
    seen = {0}

    def both_served() -> bool:
        seen.add(len(named(running, "local")))
        return not queued(running)

    while max(seen) == 0:  # they may be quicker than we look
        for user in ("ada", "bob") * 2:
            token = f"turn-{user}-{time.monotonic_ns()}"
            assert send(running, token, f"{user}@example.org")[0] == 250
        running.wait_for(both_served, "both have had their turn")
    assert max(seen) == 1
