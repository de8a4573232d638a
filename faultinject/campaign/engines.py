"""Where cases are run: a pool of processes here, or dask's workers on many machines.

    async with engine_of("local", width=2) as engine:
        run = await engine.run(case, timeout_s)

Rules a reader may rely on
- `run` returns an outcome, or raises EngineError: then the engine is no more, and the campaign ends
  with what it has.
- Cancelled, the local engine ends the case's processes before it returns.  A case on a dask worker
  is not waited for; it ends by itself, within its time at the latest.
- dask starts the cases of a dead worker again, elsewhere, and says nothing.  So each start is told
  to the campaign as an event, and an outcome says how many of its runs were lost (one that began
  in the last milliseconds of a worker is run again as well, and may be missing in that number).
  A case of which `LOST` workers have died is given up by dask; it is "broken", with that reason.
- Cases and outcomes travel as JSON in bytes.  dask itself pickles what it is asked to call: whoever
  reaches the scheduler's port can run anything on its workers.  It belongs in a network of its own.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol, Self

import trio

from faultinject import cases
from faultinject.campaign import job
from faultinject.campaign.records import RecordError, decode_outcome
from faultinject.cases import Case, Outcome

LOCAL: Final = "local"
DASK: Final = "dask://"
#: Patience with a scheduler that doesn't answer, and with one that has no workers, in seconds.
CONNECT_S, WORKERLESS_S = 10.0, 60.0
#: How often a case on its way is looked at, and how often the workers are, in seconds.
LOOK_S, WORKERS_S = 0.05, 2.0
#: Workers that may die of one case (dask: allowed-failures + 1).
LOST: Final = 4
#: Events of this topic: a case has begun.
TOPIC: Final = "refmta-fault"


class EngineError(Exception):
    """Cases can't be run; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """where: the machine or worker.  lost: runs that began on a worker which died."""

    outcome: Outcome
    where: str = ""
    lost: int = 0


class Engine(Protocol):
    """width: how many cases at a time."""

    width: int

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    async def run(self, case: Case, timeout_s: float) -> Run:
        """Raises EngineError."""
        ...


def engine_of(name: str, width: int | None = None) -> Engine:
    """By "local" or dask://HOST:PORT.  Raises ValueError for any other name, EngineError."""
    if name == LOCAL:
        return Local(width or len(os.sched_getaffinity(0)))
    host, _, port = name.removeprefix(DASK).rpartition(":")
    if not name.startswith(DASK) or not host or not port.isdigit():
        raise ValueError(f"{name}: neither {LOCAL} nor {DASK}HOST:PORT")
    if importlib.util.find_spec("distributed") is None:
        raise EngineError("for dask, Python needs: distributed")
    return Dask(f"tcp://{host}:{port}", width)


# -- here -----------------------------------------------------------------------------------------


class Local:
    """Each case in processes of its own on this machine."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._threads = trio.CapacityLimiter(width)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def run(self, case: Case, timeout_s: float) -> Run:
        running = job.Job(case)
        try:
            await self._thread(running.__enter__)
            outcome = await trio.to_thread.run_sync(
                running.wait, timeout_s, abandon_on_cancel=True, limiter=self._threads
            )
        except OSError as error:
            raise EngineError(f"{case.harness} against {case.target}: {error}") from None
        finally:
            with trio.CancelScope(shield=True):
                await self._thread(partial(running.__exit__, None, None, None))
        return Run(outcome=outcome, where=socket.gethostname())

    @staticmethod
    async def _thread(call: Callable[[], object]) -> None:
        await trio.to_thread.run_sync(call, abandon_on_cancel=False)


# -- on many machines -----------------------------------------------------------------------------


def run_told(octets: bytes, timeout_s: float, key: str) -> tuple[bytes, str]:
    """What a worker of dask calls: tells that it begins, runs; the outcome, and where."""
    distributed: Any = importlib.import_module("distributed")
    worker = distributed.get_worker()
    worker.log_event(TOPIC, {"key": key, "worker": worker.address})
    return job.run(octets, timeout_s), str(worker.address)


def _hush() -> None:
    """What is wrong, we say.  Each of dask's loggers has a level and a handler of its own."""
    for name in ["distributed", *logging.root.manager.loggerDict]:
        if name.partition(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


@dataclass(slots=True)
class Dask:
    """The workers of a scheduler.  width: all of their threads, unless it is given."""

    address: str
    asked: int | None = None
    width: int = 0
    _client: Any = None
    _begun: Counter[str] = field(default_factory=Counter)
    _number: int = 0
    _workers_s: float = 0.0
    _looking: trio.Lock = field(default_factory=trio.Lock)

    async def __aenter__(self) -> Self:
        distributed: Any = importlib.import_module("distributed")
        _hush()
        try:
            self._client = await trio.to_thread.run_sync(
                partial(distributed.Client, self.address, timeout=CONNECT_S, set_as_default=False)
            )
        except OSError as error:
            raise EngineError(f"{self.address}: {error or 'no answer'}") from None
        await trio.to_thread.run_sync(self._client.subscribe_topic, TOPIC, self._hear)
        threads = await self._threads()
        if not threads:
            await self._close()
            raise EngineError(f"{self.address}: the scheduler has no workers")
        self.width = self.asked or threads
        self._workers_s = time.monotonic()
        return self

    async def __aexit__(self, *_: object) -> None:
        with trio.CancelScope(shield=True):
            await self._close()

    async def _close(self) -> None:
        await trio.to_thread.run_sync(partial(self._client.close, timeout=CONNECT_S))

    def _hear(self, event: tuple[float, Any]) -> None:
        """In the client's thread: a case has begun on a worker."""
        self._begun[event[1]["key"]] += 1

    async def _threads(self) -> int:
        """Of all workers that live."""
        return sum((await trio.to_thread.run_sync(self._client.nthreads)).values())

    async def run(self, case: Case, timeout_s: float) -> Run:
        self._number += 1
        key = f"refmta-{os.getpid()}-{time.time_ns()}-{self._number}"
        octets = cases.encode(case)
        future = await trio.to_thread.run_sync(
            partial(self._client.submit, run_told, octets, timeout_s, key, key=key, pure=False)
        )
        try:
            while not future.done():
                await trio.sleep(LOOK_S)
                await self._see_workers()
            return await self._taken(case, key, future)
        finally:
            future.release()

    async def _see_workers(self) -> None:
        """Without a worker a case would wait for ever.  Raises EngineError."""
        async with self._looking:
            if time.monotonic() - self._workers_s < WORKERS_S:
                return
            try:
                alive = self._client.status == "running" and await self._threads() > 0
            except Exception:  # of many kinds, while it reconnects
                alive = False
            if alive:
                self._workers_s = time.monotonic()
            elif time.monotonic() - self._workers_s > WORKERLESS_S:
                raise EngineError(f"{self.address}: no scheduler, or no workers any more")

    async def _taken(self, case: Case, key: str, future: Any) -> Run:
        """What came of it.  Raises EngineError if dask itself has failed."""
        distributed: Any = importlib.import_module("distributed")
        try:
            octets, where = await trio.to_thread.run_sync(partial(future.result, timeout=CONNECT_S))
            outcome = decode_outcome(octets)
        except distributed.KilledWorker as error:
            reason = f"{LOST} workers have died of it, the last one {error.last_worker}"
            return self._broken(case, reason, lost=LOST)
        except RecordError as error:
            return self._broken(case, f"its outcome can't be read: {error}", lost=0)
        except distributed.CancelledError:
            raise EngineError(f"{self.address}: the scheduler is gone") from None
        except Exception as error:  # whatever was raised on the worker, which is another machine
            return self._broken(case, f"on the worker: {type(error).__name__}: {error}", lost=0)
        return Run(outcome=outcome, where=where, lost=max(0, self._begun.pop(key, 1) - 1))

    @staticmethod
    def _broken(case: Case, reason: str, *, lost: int) -> Run:
        return Run(outcome=Outcome(case=case, verdict="broken", reason=reason), lost=lost)
