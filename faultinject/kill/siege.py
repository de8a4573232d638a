"""Every point of every script, against one server or several of its kind side by side.

    survey: each script once without a fault: who makes which calls that matter
    then, for each fault, script and kind of process: number 1, 2, ... until it exceeds the run

Rules a reader may rely on
- A point that was not hit is tried again (TRIES), and then counted as missed, and said.  Past the
  calls of the survey points are tried until OVER in a row were not hit; these are no points.
- Whatever was tried is judged soon (UNIT), and then in the record: a run that is killed goes on
  from there.
- A server that can't be used any more ends with a finding at that point, and another is started.
- A server that starts its processes anew more and more slowly is stopped, and another is started.
- SIGINT and SIGTERM end a run in good order.  Points that were not judged by then are no points: a
  letter that is under way is neither lost nor kept.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import trio

from faultinject.kill.grip import GripError, Seen, gripping
from faultinject.kill.plan import Lane, Plan, Turns, lanes
from faultinject.kill.points import Other, Point, Record, Trial
from faultinject.kill.scripts import possible
from faultinject.kill.stand import Stand, StandError
from faultinject.ledger import Finding
from faultinject.networks import in_thread
from faultinject.target import Target, TargetError

#: How often a point is tried that is not hit.
TRIES: Final = 3
#: Points that are judged together.
UNIT: Final = 8
#: A server's start, first letters and stop cost so much more than start and letters.
START_COSTS: Final = 1.5
#: Servers that may fail, before the run is given up.
FAILURES: Final = 12
PROGRESS_S: Final = 5.0


@dataclass(slots=True)
class Result:
    """What came of it.  calls: of the survey, by script.  left_out: scripts beyond the target.
    findings: those that belong to no point.  restarts: of a dead server; operated: by an operator,
    so that it looked at its queue; remnants: what deaths have left there, and nobody waits for.
    """

    target: str
    plan: Plan
    trials: dict[Point, Trial] = field(default_factory=dict)
    calls: dict[str, tuple[Seen, ...]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    findings: list[Finding] = field(default_factory=list)
    acknowledged: int = 0
    duplicates: Counter[str] = field(default_factory=Counter)
    restarts: int = 0
    operated: int = 0
    remnants: int = 0
    servers: int = 0
    traces: list[str] = field(default_factory=list)
    log: str = ""
    tried: int = 0
    seconds: float = 0.0

    @property
    def hit(self) -> int:
        """Points at which a fault happened."""
        return sum(trial.hit for trial in self.trials.values())

    @property
    def missed(self) -> list[Point]:
        """Points that were not come to."""
        return sorted(point for point, trial in self.trials.items() if not trial.hit)

    def all_findings(self) -> list[Finding]:
        """Of points and of none."""
        found = [
            Finding(name=name, text=f"{point} ({_before(trial)}): {text}")
            for point, trial in sorted(self.trials.items())
            for name, text in trial.findings
        ]
        return found + self.findings


def _before(trial: Trial) -> str:
    return f"before {trial.struck}'s {trial.call} {trial.place}".rstrip() if trial.hit else "no hit"


@dataclass(slots=True)
class Siege:
    """make: a target, each time a new one.  place: an empty directory on a disk.  say: progress."""

    make: Callable[[], Target]
    plan: Plan
    place: Path
    record: Record
    say: Callable[[str], None]
    lanes: list[Lane] = field(default_factory=list)
    failure: Exception | None = None
    _surveyed: trio.Event = field(default_factory=trio.Event)
    _starting: trio.Lock = field(default_factory=trio.Lock)
    _kinds: frozenset[str] = frozenset()
    _failures: int = 0
    _points: int = 0
    _interrupted: bool = False
    _result: Result | None = None

    @property
    def result(self) -> Result:
        """What is known so far."""
        if self._result is None:
            raise RuntimeError("the siege has not begun")
        return self._result

    async def run(self) -> Result:
        """All of it.  Raises TargetError, GripError, OSError, KeyboardInterrupt."""
        began_s = time.monotonic()
        target = self.make()
        can = possible(target.capabilities)
        self._result = Result(target.name, self.plan, trials=dict(self.record.done))
        self.result.findings = [Finding(name=e.name, text=e.text) for e in self.record.others]
        self.result.left_out = tuple(each for each in self.plan.scripts if each not in can)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._progress)
            nursery.start_soon(self._heed, nursery.cancel_scope)
            async with trio.open_nursery() as workers:
                for number in range(self.plan.jobs):
                    workers.start_soon(self._worker, number)
            nursery.cancel_scope.cancel()
        if self._interrupted:
            raise KeyboardInterrupt
        if self.failure is not None:
            raise self.failure
        self.result.seconds = time.monotonic() - began_s
        return self.result

    async def _heed(self, scope: trio.CancelScope) -> None:
        """The signals that end a run; only a main thread gets any."""
        if threading.current_thread() is threading.main_thread():
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for _ in signals:
                    self._interrupted = True
                    scope.cancel()

    async def _progress(self) -> None:
        while True:
            await trio.sleep(PROGRESS_S)
            trials = self.result.trials.values()
            found = sum(bool(trial.findings) for trial in trials) + len(self.result.findings)
            self.say(f"{len(trials)} of {self._points} points, {found} with findings")

    async def _worker(self, number: int) -> None:
        if number > 0:
            await self._surveyed.wait()
        while self.failure is None and (self._open() or not self._surveyed.is_set()):
            try:
                await self._serve()
            except (TargetError, GripError, OSError) as error:
                self.failure = error
            self._surveyed.set()

    # -- one server -------------------------------------------------------------------------------

    async def _serve(self) -> None:
        """A server from its start to its end.  Raises TargetError, GripError."""
        target, began_s = self.make(), time.monotonic()
        self.result.servers += 1
        number = self.result.servers
        directory = self.place / f"s{number}"
        directory.mkdir()
        directory.chmod(0o711)
        failure: Exception | None = None
        try:
            async with gripping(target.processes) as grip, trio.open_nursery() as nursery:
                stand = Stand(target, grip, directory, number, self.plan.seed, self.plan.patience_s)
                hops = stand.hops()
                ports = {domain: await nursery.start(hop.serve) for domain, hop in hops.items()}
                try:
                    async with self._starting:  # its address is free until it listens
                        await stand.start(ports)
                    nursery.start_soon(stand.manage)
                    await self._tasks(stand, began_s)
                    nursery.cancel_scope.cancel()
                    with trio.CancelScope(shield=True):
                        await in_thread(partial(self._end, stand))
                except (TargetError, GripError, OSError) as error:
                    failure = error  # raised outside: a nursery would wrap it
                    nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await in_thread(target.dispose)
        if failure is not None:
            raise failure

    async def _tasks(self, stand: Stand, began_s: float) -> None:
        """The survey if nobody has made it, then units of work until there are none."""
        try:
            if not self._surveyed.is_set():
                await self._survey(stand)
            else:
                await stand.warm(next(iter(self.result.calls)))
                stand.kinds |= self._kinds
            await self._try(stand, Turns(START_COSTS * (time.monotonic() - began_s)))
        except StandError as error:
            self._failures += 1
            self.say(f"a server is given up: {error}")
            if self._failures >= FAILURES or not self._surveyed.is_set():
                raise TargetError(f"{error}\n{stand.target.log_end()}") from None

    async def _survey(self, stand: Stand) -> None:
        for script in self.plan.scripts:
            if script not in self.result.left_out:
                self.result.calls[script] = await stand.survey(script)
        self.lanes = list(lanes(self.plan, self.result.calls, stand.kinds))
        points = {point for lane in self.lanes for point in lane.points}
        self._points = len(points | set(self.result.trials))
        for lane in self.lanes:
            lane.leave_out(self.result.trials)
        self._kinds = frozenset(stand.kinds)
        self._surveyed.set()
        self.say(f"{self._points} points, {len(self.result.trials)} tried before")

    def _open(self) -> list[Lane]:
        return [lane for lane in self.lanes if lane.open]

    async def _try(self, stand: Stand, turns: Turns) -> None:
        """Points until there are none, or the server is tired; some at a time are judged.

        Raises StandError, GripError.
        """
        trials = dict[Point, Trial]()
        failure: StandError | None = None
        while failure is None and (found := self._open()):
            absent = stand.kinds - await stand.running()
            lane = turns.choose(found, absent, trio.current_time())
            if turns.tired(lane, trio.current_time()):
                break  # another server goes on
            point, beyond = lane.take()
            trial = Trial(point=point, hit=False)
            try:
                trial = await self._attempt(stand, point, 1 if beyond else TRIES)
            except StandError as error:
                failure = error  # judged all the same: that is what it says of the point
            lane.over = lane.over + 1 if beyond and not trial.hit else 0
            if trial.hit or not beyond:
                trials[point] = trial
            turns.note(lane.kind, trial.seconds, trio.current_time())
            if len(trials) >= UNIT:
                await trio.to_thread.run_sync(self._settle, stand, trials)
                trials = {}
        await trio.to_thread.run_sync(self._settle, stand, trials)
        if failure is not None:
            raise failure

    @staticmethod
    async def _attempt(stand: Stand, point: Point, tries: int) -> Trial:
        for _ in range(tries):
            trial = await stand.try_point(point)
            if trial.hit:
                break
        return trial

    # -- the account ------------------------------------------------------------------------------

    def _settle(self, stand: Stand, trials: Mapping[Point, Trial]) -> None:
        self._note(trials, stand.settle()[1])
        self._note_others(stand)

    def _note(
        self, trials: Mapping[Point, Trial], found: Mapping[Point, Sequence[Finding]]
    ) -> None:
        """Findings go to their points; what is new goes into the record."""
        changed = dict(trials)
        for point, findings in found.items():
            trial = changed.get(point) or self.result.trials.get(point)
            trial = trial or Trial(point=point, hit=False)
            more = tuple((each.name, each.text) for each in findings)
            changed[point] = msgspec.structs.replace(trial, findings=trial.findings + more)
        self.result.trials |= changed
        self.result.tried += len(trials)
        self.record.add(changed.values())

    def _note_others(self, stand: Stand) -> bool:
        """Whether there is any new finding of no point."""
        found, stand.findings = stand.findings, []
        self.result.findings += found
        self.record.add_others(Other(name=each.name, text=each.text) for each in found)
        return bool(found)

    def _end(self, stand: Stand) -> None:
        account, found = stand.end()
        self._note({}, found)
        others = self._note_others(stand)
        result = self.result
        result.acknowledged += account.acknowledged
        result.duplicates += account.duplicates
        result.restarts += stand.restarts
        result.operated += stand.operated
        result.remnants += stand.remnants
        result.traces.append(stand.trace)
        if others or found:
            result.log = stand.target.log_end()
