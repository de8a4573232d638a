"""One server measured: its runs, and the record that they make together."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import trio

from specs.conformance import records
from specs.conformance.given import Given
from specs.conformance.model import Door, Result
from specs.conformance.records import Record
from specs.conformance.registry import order
from specs.conformance.run import Offered, Run

#: What asks for an end; the run then tells what it has.
ENDS: Final = (signal.SIGINT, signal.SIGTERM)


def measured(
    name: str, runs: Iterable[Run], *, spared: Iterable[Result] = (), stoppable: bool = False,
    **more: str,
) -> Record:  # fmt: skip
    """Runs one after the other, of one server; the first one's doors are what is told of it, and of
    a case that is in two the later result.  They may be made while it goes on.

    spared: results of what is not put to it.  stoppable: SIGINT and SIGTERM end it, with a result
    for each case all the same (for a program of its own; `Run.stopped` names the signal).  more:
    what else the record says.  Raises run.Unreachable, run.NoTestbed, and RuntimeError where trio
    runs already.
    """
    began_s, began = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    results = {each.case.id: each for each in spared}
    offered: dict[Door, Offered] = {}
    given: Given | None = None
    stopped = ""
    for run in runs:
        if stopped:
            run.stop(stopped)
        found = trio.run(_until_stopped if stoppable else Run.run, run)
        results |= {each.case.id: each for each in found}
        offered, stopped, given = {**run.offered, **offered}, run.stopped, given or run.given
    if given is None:
        raise ValueError("there is no run to measure")
    return records.of(
        name, given, offered, sorted(results.values(), key=lambda each: order(each.case)),
        began=began, seconds=time.monotonic() - began_s, **more,
    )  # fmt: skip


async def _until_stopped(run: Run) -> list[Result]:
    with _asked_to_end(run):
        return await run.run()


@contextmanager
def _asked_to_end(run: Run) -> Iterator[None]:
    token = trio.lowlevel.current_trio_token()

    def ask(number: int, _: object) -> None:
        token.run_sync_soon(run.stop, signal.Signals(number).name)

    before = {each: signal.signal(each, ask) for each in ENDS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
