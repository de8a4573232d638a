"""The world around a judged server does what its next hops are named after, and the order of the
seized spares what holds up the rest.
"""

from __future__ import annotations

import socket

import pytest

from specs.patterns.gather import _order
from specs.patterns.manifest import Compartment, Manifest
from specs.patterns.world import HONEST, REFUSING, SILENT, Unanswered, session, world


@pytest.fixture
def hops():
    with world() as found:
        yield {name: ("127.0.0.1", port) for name, port in found.next_hops.items()}, found


def test_honest_takes_everything(hops):
    addresses, around = hops
    assert around.send(addresses[HONEST], "somebody@honest.test") == (250, "2.0.0 taken")


def test_refusing_refuses_recipients(hops):
    addresses, around = hops
    code, _ = around.send(addresses[REFUSING], "somebody@refusing.test")
    assert code == 550


def test_silent_says_nothing(hops):
    addresses, _ = hops
    with socket.create_connection(addresses[SILENT], timeout=0.2) as connection:
        connection.sendall(b"EHLO us\r\n")
        with pytest.raises(TimeoutError):
            connection.recv(1)


def test_a_server_that_hangs_up_is_unanswered(hops):
    addresses, _ = hops
    with session(addresses[HONEST]) as client:
        assert client.say("QUIT")[0] == 221
        with pytest.raises(Unanswered):
            client.reply()


def test_tokens_are_unique(hops):
    _, around = hops
    assert len({around.token() for _ in range(100)}) == 100


def test_afterwards_nobody_listens():
    with world() as around:
        ports = list(around.next_hops.values())
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()


def test_workers_are_seized_first_and_root_last_and_gently():
    rows = (
        Compartment(name="spawner", parts=("spawner",), user=0),
        Compartment(name="queue", parts=("queue",), user=1),
        Compartment(name="pool", parts=("pool", "pool template", "pool worker"), user=2),
        Compartment(name="lazy", parts=("lazy",), user=3, lazy=True),
    )
    order = _order(Manifest(architecture="some", layers=(), compartments=rows))
    names = [name for name, _ in order]
    assert names.index("lazy") < names.index("pool worker") < names.index("queue")
    assert order[-1] == ("spawner", True)
    assert not any(gently for _, gently in order[:-1])
