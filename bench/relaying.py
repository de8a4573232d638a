"""Relaying: mail comes in by smtp-source and goes out to smtp-sink, on the server's own network.

smtp-sink counts the messages that it has taken; *relayed* runs from the start of the load to the
moment when all are there. For the queue's sake the other next hop is dead: a port where nobody
listens. Nothing is looked up by DNS: both servers have a row for each domain.
"""

from __future__ import annotations

import random
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench.load import LoadError, Rates, Shape, settle
from bench.target import DEAD_DOMAIN, SINK_DOMAIN, SINK_PORT, Target
from tests.provision import tool

POLL_S = 0.02
STALL_S = 90.0
CLIENTS = 20
LIVE = 1000
AIM = 1.5
NOT_DELAYED_AIM = 0.8  # of the rate without a dead destination's queue beside it
_find_count = re.compile(rb"mesg=(\d+)\r").findall


class Sink:
    """smtp-sink where a target's mail for SINK_DOMAIN goes."""

    def __init__(self, target: Target, output: Path) -> None:
        self._output = output
        program = tool("smtp-sink") or "smtp-sink"
        listen = f"127.0.0.1:{SINK_PORT}"
        command = target.on_network(program, "-u", "nobody", "-c", listen, "1000")
        with open(output, "wb") as file:
            self._process = subprocess.Popen(command, stdout=file, stderr=file)

    def count(self) -> int:
        """Messages taken so far."""
        with open(self._output, "rb") as file:
            file.seek(max(0, self._output.stat().st_size - 200))
            found = _find_count(file.read())
        return int(found[-1]) if found else 0

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


@contextmanager
def sink(target: Target) -> Iterator[Sink]:
    """A sink for a target, until the end of the block."""
    running = Sink(target, target.place / "sink")
    try:
        yield running
    finally:
        running.stop()


def source(target: Target, shape: Shape, domain: str) -> list[str]:
    """The command that sends this load."""
    numbers = {"s": shape.clients, "m": shape.messages, "l": shape.octets}
    options = [f"-{key}{value}" for key, value in numbers.items()]
    options += ["-d"] if shape.kept else []
    addresses = ["-f", f"sender@{SINK_DOMAIN}", "-t", f"x@{domain}"]
    program = tool("smtp-source") or "smtp-source"
    return target.on_network(program, *options, *addresses, f"inet:{target.host}:{target.port}")


def run(target: Target, taker: Sink, shape: Shape) -> Rates:
    """Send the load to an idle server; how fast it came out at the other end."""
    before, begin = taker.count(), time.perf_counter()
    sending = subprocess.Popen(source(target, shape, SINK_DOMAIN), stdout=subprocess.DEVNULL)
    accepted = relayed = 0.0
    seen, progress = 0, begin
    try:
        while not (accepted and relayed):
            time.sleep(POLL_S)
            now, taken = time.perf_counter(), taker.count() - before
            if sending.poll() is not None and not accepted:
                accepted = now
            if taken != seen:
                seen, progress = taken, now
            if taken >= shape.messages and not relayed:
                relayed = now
            if now - progress > STALL_S or sending.returncode:
                raise LoadError(f"{target.name}: {seen} of {shape.messages} messages were relayed")
    finally:
        sending.kill()
        sending.wait()
    settle(target)
    if taker.count() - before != shape.messages:
        raise LoadError(f"{target.name}: {taker.count() - before} messages for {shape.messages}")
    return Rates(
        accepted=shape.messages / (accepted - begin), delivered=shape.messages / (relayed - begin)
    )


def shapes(quick: bool) -> list[Shape]:
    """20 clients in; the servers' own choice of connections out, at most 20."""
    every = [Shape(clients=CLIENTS, messages=2000, kept=kept) for kept in (False, True)]
    return [replace(shape, messages=600) for shape in every] if quick else every


def measure(
    targets: Sequence[tuple[Target, Sink]], shape: Shape, number: int, chance: random.Random
) -> Iterator[tuple[str, Rates]]:
    """(target's name, rates), the targets taking turns; the first passage warms up."""
    for target, taker in targets:
        run(target, taker, replace(shape, messages=CLIENTS * 5))
    for _ in range(number):
        for target, taker in chance.sample(targets, len(targets)):
            yield target.name, run(target, taker, shape)


def fill(target: Target, messages: int) -> None:
    """So many messages for the dead destination; they stay in the queue."""
    shape = Shape(clients=CLIENTS, messages=messages, kept=True)
    done = subprocess.run(
        source(target, shape, DEAD_DOMAIN), capture_output=True, check=False, timeout=1200
    )
    if done.returncode != 0:
        raise LoadError(f"{target.name}: smtp-source: {done.stderr.decode()[-500:]}")
    settle(target, quiet_s=3.0, limit_s=600.0)
    queued = target.queued()
    if queued != messages:
        raise LoadError(f"{target.name}: {queued} messages in the queue instead of {messages}")
