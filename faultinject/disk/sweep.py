"""One fault, at one call after the other, against one server: which steps are made, and how.

    start, a letter            -> everything runs that letters need
    a letter, watched          -> the census: which kind of process makes which call how often
    for each call and number:
        the fault begins; a letter to two mailboxes is sent, and again until it is answered 250
        the fault ends; the letter is answered and delivered (`trial`), and judged (`verdicts`)
    stop; the account

Rules a reader may rely on
- One client, one letter at a time: what fails in a step is this letter's.
- A step that hit nothing although the census knew its call is *missed*, and counted; numbers go on
  beyond the census until nothing is hit any more.  A server that looks for room before it takes a
  letter, and says that there is none, has met the fault without a failed call.
- A server whose main process dies by a fault is started again, and that is a finding.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from faultinject import endings, networks
from faultinject.books import Books
from faultinject.disk import aside, calls, verdicts
from faultinject.disk.calls import Census
from faultinject.disk.faults import Fault
from faultinject.disk.grounds import Grounds, grounds
from faultinject.disk.injections import (
    ByLimit,
    ByRoom,
    ByShortening,
    ByStrace,
    Injection,
    Watch,
    watched,
)
from faultinject.disk.room import Room, RoomError
from faultinject.disk.steps import (
    CALM,
    Limits,
    Made,
    Step,
    Swept,
    beyond,
    by_census,
    by_number,
    ends,
)
from faultinject.disk.trial import DOMAIN, SETTLES_S, USERS, Trials
from faultinject.ledger import Finding, judge
from faultinject.letters import Copy
from faultinject.processes import Process
from faultinject.target import Site, Target
from faultinject.tracing import TracingError


@dataclass(slots=True)
class Sweep:
    """directory: an empty one.  say: told of progress."""

    target: Target
    fault: Fault
    limits: Limits
    seed: int
    directory: Path
    say: Callable[[str], None]
    room: Room | None = None
    settles_s: float = SETTLES_S
    books: Books = field(default_factory=Books)
    steps: list[Made] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    _trials: Trials = field(init=False)
    _roles: frozenset[str] = frozenset()
    _defects: int = 0
    _sizes: dict[Copy, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._trials = Trials(
            target=self.target, fault=self.fault, seed=self.seed, books=self.books, say=self.say,
            settles_s=self.settles_s,
        )  # fmt: skip

    async def run(self) -> Swept:
        """From start to verdict.  Raises TargetError, Unavailable, TracingError, RoomError."""
        site = self.directory / "site"
        site.mkdir(mode=0o711, exist_ok=True)
        for name in ("spool", "home"):
            if self.room is not None:
                self.room.lend(name, site / name)
        try:
            await networks.in_thread(self.target.install)
            await networks.in_thread(lambda: self.target.configure(self._site(site)))
            await networks.in_thread(self.target.start)
            if self.room is not None and not self._on_room():
                raise RoomError(f"the queue of {self.target.name} is not at SITE/spool")
            await self._trials.calm()
            planned = await self._sweep()
            self.findings += await networks.in_thread(lambda: endings.stop(self.target))
        finally:
            with trio.CancelScope(shield=True):
                await networks.in_thread(self.target.dispose)
        return self._verdict(planned)

    @staticmethod
    def _site(directory: Path) -> Site:
        return Site(
            directory=directory, hostname=f"mx.{DOMAIN}", domain=DOMAIN, users=USERS, next_hops={}
        )

    def _on_room(self) -> bool:
        return self.room is not None and (
            self.target.spool.stat().st_dev == self.room.mail.stat().st_dev
        )

    # -- which steps ------------------------------------------------------------------------------

    async def _sweep(self) -> int:
        """All steps; how many were planned."""
        census = await self._census()
        if self.fault.way == "error":
            return await self._by_census(by_census(self.fault, census, self.limits, self.seed))
        if self.fault.way == "delay" and not census.steps(self.fault.calls):
            return 0  # it never syncs
        return await self._by_number(by_number(self.fault, self.limits, self.seed))

    async def _by_census(self, planned: list[Step]) -> int:
        for step, is_last in zip(planned, ends(planned), strict=True):
            await self._step(step, expected=True)
            if is_last and not self.limits.sample:
                await self._beyond(step)
        return len(planned)

    async def _beyond(self, last: Step) -> None:
        """Numbers that the census did not see, until nothing is hit."""
        for step in beyond(last, self.limits):
            if not (await self._step(step, expected=False)).met:
                return

    async def _by_number(self, planned: list[Step]) -> int:
        calm = 0
        for place, step in enumerate(planned):
            made = await self._step(step, expected=place == 0)
            calm = 0 if made.met else calm + 1
            if calm == CALM and not self.limits.sample:
                return place + 1
        return len(planned)

    async def _census(self) -> Census:
        """A letter is watched; whoever has to do with the disk is watched from then on."""
        place = self.directory / "census"
        place.mkdir()
        by_role: dict[str, list[Process]] = {}
        for process in self.target.processes():
            by_role.setdefault(process.kind, []).append(process)
        watch = Watch(place, watched(self.fault))
        try:
            for processes in by_role.values():
                await networks.in_thread(partial(watch.attach, processes))
            await self._trials.calm()
        finally:
            with trio.CancelScope(shield=True):
                await networks.in_thread(watch.stop)
        traces = [*zip(by_role, watch.traces(), strict=True)]
        mail = self._grounds().mail
        fair = None if self.fault.anywhere else mail
        self._roles = frozenset(role for role, _ in calls.take_census(traces, mail).numbers)
        if not self._roles:
            raise TracingError(
                f"no process of {self.target.name} was seen to use its queue or a mailbox"
            )
        return calls.take_census(traces, fair, self.fault.error)

    def _grounds(self) -> Grounds:
        target = self.target
        return grounds(target.spool, target.mailboxes().values(), target.places)

    # -- one step ---------------------------------------------------------------------------------

    async def _step(self, step: Step, *, expected: bool) -> Made:
        began_s = time.monotonic()
        made = Made(step=step, letter=self._trials.next_number(), expected=expected)
        self.steps.append(made)
        place = self.directory / f"step{made.letter}"
        place.mkdir()
        injection = self._injection(step, place)
        clients = self._trials.clients(made)
        settled = False
        try:
            await networks.in_thread(injection.begin)
            settled = await self._trials.run(clients, injection, made)
        except TracingError as error:  # whom it should hit has gone
            self.say(f"{self.fault.name} {step}: {error}")
            await networks.in_thread(injection.over)
        finally:
            with trio.CancelScope(shield=True):
                await networks.in_thread(injection.end)
        made.hits = injection.hits()
        self._sizes |= clients.sizes
        made.answers = verdicts.answers_of(clients.made, self.books)
        self.books.kills += verdicts.judge_step(
            made, self.fault, injection.calls, clients.answers, self._grounds(), settled=settled
        )
        self._look_for_defects(made)
        made.seconds = time.monotonic() - began_s
        if made.findings:
            names = ", ".join(each.name for each in made.findings)
            self.say(f"{self.fault.name} {step}: {names}")
        return made

    def _look_for_defects(self, made: Made) -> None:
        """Those that were not there before."""
        defects = self.target.defects()
        made.findings += [Finding(name="defect", text=each) for each in defects[self._defects :]]
        self._defects = len(defects)

    def _injection(self, step: Step, place: Path) -> Injection:
        watch = Watch(place, watched(self.fault))
        if self.fault.injected:
            return ByStrace(
                fault=self.fault, step=step, watch=watch, processes=lambda: self._parted(step.role)
            )
        if self.fault.way == "short":
            return ByShortening(
                fault=self.fault, step=step, processes=self._concerned,
                directories=self._grounds().mail, directory=place,
            )  # fmt: skip
        if self.fault.way == "descriptors":
            return ByLimit(
                fault=self.fault, step=step, processes=self.target.processes, watch=watch
            )
        if self.room is None:
            raise RoomError("there is no file system of its own")
        return ByRoom(
            fault=self.fault, step=step, processes=self._concerned, watch=watch, room=self.room
        )

    def _concerned(self) -> list[Process]:
        """Those that have to do with the disk."""
        return [each for each in self.target.processes() if each.kind in self._roles]

    def _parted(self, role: str) -> tuple[list[Process], list[Process]]:
        """(those of that role, or all if it is "", the others that are watched)."""
        processes = self.target.processes()
        victims = [
            each for each in processes if (each.kind == role if role else each.kind in self._roles)
        ]
        others = [each for each in processes if each.kind in self._roles and each not in victims]
        return victims, others

    # -- the end ----------------------------------------------------------------------------------

    def _verdict(self, planned: int) -> Swept:
        endings.gather(self.books, self.target)
        account = judge(self.books, verdicts.widened(self.target.windows))
        found = aside.told_apart(account.findings, aside.kept(self.target.spool, self._sizes))
        self.findings += verdicts.assign(found, self.steps)
        for made in self.steps:
            verdicts.clear(made, self.fault)
        return Swept(
            fault=self.fault, planned=planned, steps=self.steps, account=account,
            findings=verdicts.all_findings(self.findings, self.steps),
        )  # fmt: skip
