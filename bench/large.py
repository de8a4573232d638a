"""One 100 MB message: what it adds to each process, and what it does to small ones meanwhile."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench.load import LoadError, Shape, empty, run, sending, settle
from bench.memory import Growth
from bench.target import DOMAIN, NUMBERED, Target

OCTETS = 100 << 20
SMALL_OCTETS = 1000
BEFORE_S = 3.0
TIMEOUT_S = 180.0
PROJECT = Path(__file__).parent.parent
SMALL_USER = NUMBERED[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """What was seen while one large message passed; seconds, octets."""

    took_s: float
    before: list[tuple[float, float]]  # of each small message: until 250, until delivered
    during: list[tuple[float, float]]
    growth: dict[str, int]  # role -> the largest growth of one of its processes

    def slow_down(self) -> float:
        """Median time to delivery of the small ones, during against before."""
        during, before = ([each[1] for each in some] for some in (self.during, self.before))
        return statistics.median(during) / statistics.median(before)


@contextmanager
def probing(target: Target, samples: list[tuple[float, float]]) -> Iterator[None]:
    """Small messages one after the other; their times are in `samples` afterwards."""
    where = (target.host, str(target.port), f"{SMALL_USER}@{DOMAIN}")
    command = (sys.executable, "-m", "bench.probe", *where, str(target.new_mail(SMALL_USER)))
    probe = subprocess.Popen(
        target.on_network(*command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    )
    try:
        if probe.stdout:
            probe.stdout.readline()  # it is at work now; the first message warms up
        yield
    finally:
        output, errors = probe.communicate()
    if probe.returncode != 0:
        raise LoadError(f"{target.name}: {errors.strip()[-500:]}")
    samples += [(sample[0], sample[1]) for sample in map(json.loads, output.splitlines())]


def arrived(directory: Path) -> bool:
    """Whether the large message is there; a file is in new/ only when it is whole."""
    return any(entry.stat().st_size >= OCTETS * 9 // 10 for entry in directory.iterdir())


def measure(target: Target) -> Passage:
    """Pass one large message through the idle server, which has had a small one the same way: a
    process that starts meanwhile would count as grown by all that it loads.
    """
    shape = Shape(clients=1, messages=1, octets=OCTETS)
    run(target, replace(shape, octets=SMALL_OCTETS))
    empty(target)
    settle(target)
    before: list[tuple[float, float]] = []
    during: list[tuple[float, float]] = []
    with probing(target, before):
        time.sleep(BEFORE_S)
    growth = Growth(target)
    with probing(target, during):
        begin = time.monotonic()
        with sending(target, shape):
            while not arrived(target.new_mail(shape.user)):
                growth.look()
                if time.monotonic() - begin > TIMEOUT_S:
                    raise LoadError(f"{target.name}: 100 MB not delivered in {TIMEOUT_S:.0f} s")
                time.sleep(0.02)
        took_s = time.monotonic() - begin
    grown = growth.by_role()
    empty(target)
    return Passage(took_s=took_s, before=before, during=during, growth=grown)
