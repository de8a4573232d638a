"""Secure Pre-forking, for real: what a seized worker is worth, measured on the running server.

Each measurement (`specs.patterns.pool_sessions`) has its control: a pool with one thing wrong, as a
tree of its own (`subjects.pool_mutants`), that the same measurement must show.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from system.observe import Client, events, named
from system.server import Server, server

from specs.patterns.pool_sessions import (
    CROWD,
    Overloaded,
    Planted,
    Pool,
    capture,
    overload,
    plant,
    server_of,
)
from specs.patterns.world import session
from subjects.pool_mutants import (
    ARCHITECTURE,
    GRABBING,
    LEAKING,
    LYING,
    SEIZER,
    SHARING,
    USES,
    Changes,
    make,
)

WORKERS = 4
CONFIGURATION = f"""
[limits]
command_s = 3000.0
[smtpd]
max_workers = {{workers}}
max_uses = {USES}
stress_command_s = {{stress_s}}
"""
PROGRAM = "import sys; from refmta.cli.main import main; sys.exit(main())"
SESSIONS = 1000
CLIENTS = 4


@contextlib.contextmanager
def pool(
    directory: Path,
    changes: Changes | None = None,
    workers: int = WORKERS,
    extra: str = "",
    stress_s: float = 1.0,
):
    """A server and its pool; with changes, the mutant."""
    configuration = CONFIGURATION.format(workers=workers, stress_s=stress_s) + extra
    with server(directory / "s", extra=configuration, start=False) as running:
        if changes is not None:
            python = make(directory / "tree", changes)
            start = ["-I", "-c", PROGRAM, "serve", "--architecture", ARCHITECTURE]
            running.command = lambda _serve, *rest: [python, *start, *rest]
        running.start()
        yield (
            running,
            Pool(
                address=("127.0.0.1", running.port),
                workers=lambda: [each.pid for each in named(running, "smtpd worker")],
                max_workers=workers,
                max_uses=USES,
            ),
        )


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Iterator[tuple[Server, Pool]]:
    with pool(tmp_path_factory.mktemp("sound")) as both:
        yield both


def said(running: Server, event: str) -> list[dict[str, object]]:
    """The log's lines with that event."""
    return events(running, lambda each: each["event"] == event)


# -- planted state --------------------------------------------------------------------------------


def planted(running: Server, pool: Pool) -> Planted:
    return plant(pool, lambda: [each.pid for each in named(running, "smtpd template")])


@pytest.mark.needs("root")
def test_what_is_planted_in_a_worker_is_not_seen_by_the_next(sound):
    found = planted(*sound)
    assert found.places > 0 and found.own  # the planting works
    assert [had for _, had in found.heard] == [False]
    assert found.remembered == ()
    assert max(found.uses.values()) <= USES


@pytest.mark.needs("root")
def test_control_a_pool_that_forks_from_a_used_worker_passes_it_on(tmp_path):
    with pool(tmp_path, LEAKING, workers=1) as both:
        found = planted(*both)
        assert said(both[0], "__mutant_ran__")
    assert found.places > 0 and found.own
    assert [had for _, had in found.heard] == [True]
    assert found.remembered == (found.heard[0][0],)


# -- a worker that ignores its retirement ---------------------------------------------------------


def seize(running: Server) -> None:
    """One worker is told to turn, and used until its retirement."""
    with Client(running, SEIZER) as client:
        assert client.code("QUIT") == 221

    def turned() -> bool:
        greet(running)
        return bool(said(running, "__mutant_ran__"))

    running.wait_for(turned, "a worker ignores its retirement")


def greet(running: Server) -> str:
    """One session; what it was greeted with."""
    with Client(running, greeted=False) as client:
        code, text = client.reply()
        if text != "captured":
            assert code == 220 and client.code("QUIT") == 221
        return text


def share(running: Server) -> float:
    """Of the next sessions, several clients coming at a time: the part that was captured."""
    heard: list[str] = []

    def client() -> None:
        for _ in range(SESSIONS // CLIENTS):
            heard.append(greet(running))

    clients = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    assert len(heard) == SESSIONS
    return heard.count("captured") / SESSIONS


@pytest.mark.needs("root")
def test_a_worker_that_ignores_its_retirement_captures_none_of_the_next_sessions(tmp_path):
    """It lives all the time, and tries to accept and to receive on all that it has."""
    with pool(tmp_path, GRABBING, stress_s=60.0) as (running, _):
        seize(running)
        (turned,) = said(running, "__mutant_ran__")
        assert share(running) == 0
        assert turned["pid"] in [each.pid for each in named(running, "smtpd worker")]


def test_control_where_workers_share_the_listening_socket_it_captures_many(tmp_path, capsys):
    with pool(tmp_path, SHARING, stress_s=60.0) as (running, _):
        seize(running)
        captured = share(running)
    with capsys.disabled():
        print(f"\n  shared listening socket: {captured:.0%} of {SESSIONS} sessions captured")
    assert captured > 0.01


def test_a_worker_that_lies_captures_no_more_than_its_uses(tmp_path, capsys):
    """What the pattern does not prevent, and its bound: until its retirement it is handed more."""
    with pool(tmp_path, LYING, stress_s=60.0) as (running, _):
        with Client(running, SEIZER, greeted=False) as client:
            assert client.reply() == (220, "captured")
        captured = share(running) * SESSIONS
        assert len(said(running, "__mutant_ran__")) <= USES
    with capsys.disabled():
        print(f"\n  a lying worker: {captured:.0f} of {SESSIONS} sessions captured")
    assert 0 < captured < USES


@pytest.mark.needs("root", "strace")
def test_a_worker_seized_in_its_last_session_captures_none(sound):
    """The confined server as it is: the worker is made to try by ptrace."""
    found = capture(sound[1])
    assert (found.served, found.taken, found.lived) == (SESSIONS, 0, True)
    assert found.tries > 0


@pytest.mark.needs("root", "strace")
def test_control_with_a_shared_listening_socket_the_seized_one_captures(tmp_path):
    with pool(tmp_path, SHARING) as (_, its):
        found = capture(its)
    assert found.taken > 0 and found.served < SESSIONS


# -- what the parent enforces ---------------------------------------------------------------------


@pytest.mark.needs("root")
def test_a_worker_that_hangs_when_it_is_to_go_is_killed(tmp_path):
    """Idle for too long, and stopped: it can't hear that it is to go."""
    with pool(tmp_path, extra="max_idle_s = 10.0\nspare = 0\n") as (running, its):
        with session(its.address) as client:
            victim = server_of(its, client.port)
            client.say("QUIT")
        idle = [False]
        running.wait_for(
            lambda: [row["busy"] for row in running.ps() if "busy" in row] == idle,
            "its parent knows that it is idle",
        )
        os.kill(victim, signal.SIGSTOP)
        running.wait_for(lambda: victim not in its.workers(), "the worker is killed")
        (line,) = said(running, "worker ignored its retirement")
        assert line["worker"] == victim


@pytest.mark.needs("root")
def test_a_worker_that_keeps_its_session_is_told_and_then_killed(tmp_path):
    with pool(tmp_path, extra="max_session_s = 5.0\n") as (running, its):
        with Client(running) as polite, Client(running) as other:
            hung = server_of(its, other.socket.getsockname()[1])
            os.kill(hung, signal.SIGSTOP)
            assert polite.reply()[0] == 421
            assert polite.at_end()
            running.wait_for(lambda: hung not in its.workers(), "the worker is killed")
        assert {"session lasts too long", "worker breaks the rules"} <= {
            each["event"] for each in running.events()
        }


@pytest.mark.needs("root")
def test_a_worker_past_its_age_is_not_used(tmp_path):
    with pool(tmp_path, extra="max_age_s = 1.0\n") as (running, its):
        with session(its.address) as client:
            first = server_of(its, client.port)
            client.say("QUIT")
        running.wait_for(lambda: first not in its.workers(), "the worker is replaced")
        assert greet(running)


# -- overload -------------------------------------------------------------------------------------


@pytest.mark.needs("root")
def test_five_clients_for_each_place_make_no_worker_more_and_silence_is_cut_short(sound):
    """Without stress each of them could be silent for an hour."""
    running, its = sound
    found = overload(its)
    assert found.clients == CROWD * WORKERS
    assert (found.most, found.double, found.recovered) == (WORKERS, (), True)
    assert found.dismissed >= WORKERS
    running.wait_for(
        lambda: len(said(running, "stress ends")) == len(said(running, "stress begins")) > 0,
        "stress ends when there is room",
    )
    events = [each["event"] for each in running.events() if "stress" in str(each["event"])]
    assert events == ["stress begins", "stress ends"] * (len(events) // 2)


def test_sessions_that_run_already_are_cut_short_and_ps_shows_stress(tmp_path):
    with pool(tmp_path, stress_s=10.0) as (running, _), contextlib.ExitStack() as stack:
        first = stack.enter_context(Client(running))
        assert first.code("EHLO client.example.net") == 250
        state = {row["compartment"]: row["state"] for row in running.ps() if "state" in row}
        assert state["smtpd"] == "ready"
        others = [stack.enter_context(Client(running)) for _ in range(WORKERS - 1)]
        running.wait_for(lambda: said(running, "stress begins"), "stress begins")
        (row,) = [row for row in running.ps() if row["compartment"] == "smtpd"]
        assert row["state"] == "stress" and row["uses"] >= WORKERS
        for each in (first, *others):
            assert each.reply()[0] == 421
        running.wait_for(lambda: said(running, "stress ends"), "stress ends")


@pytest.mark.needs("root")
def test_control_a_parent_that_tells_only_new_workers_leaves_the_silent_ones_alone(tmp_path):
    changes: Changes = {
        "processes/staff.py": [
            ("            if not worker.retired:\n", "            if False:\n"),
        ]
    }
    with pool(tmp_path, changes) as (running, its):
        found: Overloaded = overload(its, patience_s=10.0)
        running.wait_for(lambda: said(running, "stress begins"), "stress begins")
        assert found.dismissed == 0
