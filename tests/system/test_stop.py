"""SIGTERM: what is begun is finished, nobody is cut off in a lie, and nothing is left running."""

from __future__ import annotations

import os
import signal
import socket

import pytest
from system.observe import (
    Client,
    content_of,
    copies,
    is_delivery_of,
    letter,
    named,
    processes,
    queued,
    send,
    set_aside,
    stopped,
    wait_delivered,
)
from system.server import PATIENCE_S, Server, server


@pytest.fixture
def running(tmp_path):
    with server(tmp_path / "s") as running:
        yield running


@pytest.fixture
def hasty(tmp_path):
    """Who does not go on with its content is soon cut off."""
    with server(tmp_path / "s", extra="[limits]\ndata_s = 2.0\n") as running:
        yield running


def terminate(running: Server, number: int = signal.SIGTERM) -> None:
    assert running.process is not None
    running.process.send_signal(number)


def ended_well(running: Server) -> None:
    """Exit 0, no process, no listening socket; the queue's directories are as they should be."""
    assert running.process is not None
    assert running.process.wait(PATIENCE_S) == 0
    running.wait_for(lambda: not running.survivors(), "no process is left")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", running.port))
    assert not set_aside(running)


def test_open_sessions_end_with_421_and_content_on_its_way_is_still_accepted(running):
    with Client(running) as idle, Client(running) as busy, Client(running) as asked:
        assert idle.code("EHLO client.example.net") == 250
        busy.ready_for_data()
        busy.send(letter("drained")[:20])
        assert asked.code("EHLO client.example.net") == 250
        assert asked.code("MAIL FROM:<x@example.net>") == 250
        terminate(running)
        for each in (idle, asked):
            code, text = each.reply()
            assert (code, text[:5]) == (421, "4.3.2")
            assert each.at_end()
        busy.send(letter("drained")[20:] + b".\r\n")
        assert busy.reply()[0] == 250
        assert busy.reply()[0] == 421
        assert busy.at_end()
    ended_well(running)
    if not copies(running, "ada", "drained"):
        (name,) = queued(running)
        assert content_of(running, name)[1].endswith(letter("drained"))
        running.start()
        wait_delivered(running, "drained")


def test_a_client_that_does_not_go_on_is_told_so_and_holds_up_nothing(hasty):
    with Client(hasty) as client:
        client.ready_for_data()
        client.send(letter("stuck"))
        terminate(hasty)
        assert client.reply()[0] == 421
        assert client.at_end()
    ended_well(hasty)
    assert not queued(hasty)


def test_what_was_accepted_just_before_is_in_the_queue_or_delivered(running):
    send(running, "first")
    tokens = [f"late-{n}" for n in range(30)]
    with Client(running) as client:
        assert client.code("EHLO client.example.net") == 250
        for token in tokens:
            assert client.deliver(token)[0] == 250
        terminate(running)
        assert client.reply()[0] == 421
    ended_well(running)
    waiting = [content_of(running, name)[1] for name in queued(running)]
    for token in tokens:
        delivered = copies(running, "ada", token)
        in_queue = [each for each in waiting if each.endswith(letter(token))]
        assert len(delivered) <= 1 and len(delivered) + len(in_queue) >= 1, token
        assert all(is_delivery_of(each, letter(token)) for each in delivered)
    running.start()
    for token in tokens:
        wait_delivered(running, token)
    running.wait_for(lambda: not queued(running), "the queue is empty")
    assert running.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_stop_while_it_starts_stops(tmp_path, number):
    """At every moment of the start: as soon as each process has appeared."""
    for name in ("supervisor", "enqueue", "smtpd"):
        with server(tmp_path / name, start=False) as starting:
            starting.start(wait=False)
            starting.wait_for(lambda n=name, s=starting: named(s, n), name)
            terminate(starting, number)
            assert starting.process is not None
            assert starting.process.wait(PATIENCE_S) in (0, -number), name
            starting.wait_for(lambda s=starting: not s.survivors(), "no process is left")


def test_a_second_start_is_refused_while_the_first_runs_and_harms_nothing(running):
    assert send(running, "one")[0] == 250
    done = running.run("serve")
    assert done.returncode == 2
    assert "Address already in use" in done.stderr
    assert send(running, "two")[0] == 250
    wait_delivered(running, "two")
    assert running.run("ps").returncode == 0
    terminate(running)
    ended_well(running)


def test_a_compartment_that_does_not_drain_is_killed_in_the_end(tmp_path):
    """A stopped local agent can't drain; the deadline is long, so it is killed here as it is
    there: what it had is in the queue, and the exit code is 0."""
    with server(tmp_path / "s") as running:
        assert send(running, "warm")[0] == 250
        wait_delivered(running, "warm")
        (agent,) = named(running, "local")
        with stopped(running, agent):
            terminate(running)
            waiting = {"spawner", "supervisor", "enqueue", "resolve", "local"}
            running.wait_for(
                lambda: {each.name for each in processes(running)} == waiting,
                "all before it have drained",
            )
            os.kill(agent.pid, signal.SIGKILL)
        ended_well(running)
