"""One server under one tracer: a message for each point, a fault at each, and the account.

Rules a reader may rely on
- A point begins and ends in quiet: the queue is empty, and nobody is awake (`quiet`).  In between
  one letter is sent, again and again until it is answered 250, and delivered.
- A killed process is started anew by its server, and by nobody else; if the main process is dead,
  `Target.recover` starts it, as a service manager would.  A server that has all its processes and
  leaves its queue alone (it looks at it each half hour, say) is stopped and started in good order,
  and that is counted.
- The account is that of the ledger (`faultinject.ledger`), over everything since the server began:
  what is finally delivered counts.  A finding belongs to the point of whose letter it speaks.
- Letters are numbered by their points: no two points share one.

What is tricky: a kind of process may not be there when a point begins (it starts on first use, or
ends after some uses).  Then letters without a fault bring it back, so that calls are counted from
the same state each time.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import trio

from faultinject import endings
from faultinject.books import Books, Kill, Window
from faultinject.client import Clients, Letter
from faultinject.collect import BookedHop, book_mailboxes, book_queue
from faultinject.kill.grip import Grip, GripError, Hit, Seen
from faultinject.kill.points import ALL, Fault, Point, Trial
from faultinject.kill.quiet import until_quiet
from faultinject.kill.scripts import SCRIPTS, USERS, Patient, recipients
from faultinject.ledger import Account, Finding, judge
from faultinject.letters import compose
from faultinject.networks import in_thread
from faultinject.processes import Process, strike
from faultinject.storm import DOMAIN, HONEST
from faultinject.target import Site, Target, TargetError

#: How long a stopped process stays so.
STOPPED_S: Final = 0.3
#: Patience: for a reply 250 and again for an empty queue; for quiet; for a kind of process to be
#: there, in seconds.
PATIENCE_S, QUIET_S, BACK_S = 60.0, 10.0, 5.0
#: When the queue is tried again by hand, and how often; how often it is looked at.
FLUSH_S, LOOK_S = 2.5, 0.008
#: When a server that has all its processes, and a queue that it does not look at, is started anew,
#: and how often for one letter.
ANEW_S: Final = 6.0
ANEWS: Final = 3
#: On a slow machine both wait until so many letters without a fault would have come and gone, but
#: no more than so much longer.
SLOWNESS, SLOWEST = 8, 4
#: How often the main process may fail to start in a row.
STARTS: Final = 5
#: Octets that no letter reaches: some of the storm's are large.
LONGEST_OCTETS: Final = 50_000
#: How long the word that somebody is struck may take; it is said before it is done.
HEARD_S: Final = 2.0
#: Characters of a log in a finding.
TOLD: Final = 500
#: Letters without a fault, at the beginning and when a kind of process is missing.
WARM: Final = 2


class StandError(Exception):
    """The server can't be used any more; the text says why."""


@dataclass(slots=True)
class Stand:
    """target: as yet not configured.  directory: empty.  number: of this stand, for letters."""

    target: Target
    grip: Grip
    directory: Path
    number: int = 0
    seed: int = 0
    patience_s: float = PATIENCE_S
    books: Books = field(default_factory=Books)
    findings: list[Finding] = field(default_factory=list)
    points: dict[str, Point] = field(default_factory=dict)  # by letter
    kinds: set[str] = field(default_factory=set)  # of processes, at rest
    restarts: int = 0
    remnants: int = 0  # in the queue, that nobody waits for
    operated: int = 0  # started anew by an operator, so that the queue was looked at
    duplicates: Counter[str] = field(default_factory=Counter)
    trace: str = ""
    _letters: int = 0
    _found: list[Finding] = field(default_factory=list)  # of clients
    _told: set[Finding] = field(default_factory=set)
    _failure: str = ""
    _blows: int = 0  # when it was last started
    _changing: trio.Lock = field(default_factory=trio.Lock)  # one at a time starts or stops it
    _pace_s: float = 0.0
    _scope: trio.CancelScope | None = None

    # -- its life ---------------------------------------------------------------------------------

    def hops(self) -> dict[str, BookedHop]:
        """The next hops that it needs; whoever runs the stand serves them."""
        if "remote" not in self.target.capabilities:
            return {}
        return {HONEST: BookedHop(keep_content=True, books=self.books)}

    async def start(self, ports: dict[str, int]) -> None:
        """Raises TargetError, GripError."""
        site = Site(
            directory=self.directory, hostname=f"mx.{DOMAIN}", domain=DOMAIN, users=USERS,
            next_hops=ports,
        )  # fmt: skip
        await in_thread(self.target.install)
        await in_thread(lambda: self.target.configure(site))
        await in_thread(self.target.start)
        await self.grip.seize()

    async def manage(self) -> None:
        """What a service manager does.  Never returns."""
        failed = 0
        while True:
            await trio.sleep(LOOK_S * 3)
            try:
                async with self._changing:
                    if self.target.alive():
                        continue
                    await self._ask_why()
                    self.restarts += 1
                    odd = await in_thread(self.target.recover)
                    self.findings += [Finding(name="leftover", text=each) for each in odd]
                    await self.grip.seize()
                failed = 0
            except TargetError as error:
                failed += 1
                if failed == STARTS:
                    self._give_up("unrecovered", str(error))
                    return
            except GripError as error:
                self._give_up("broken", str(error))
                return

    async def _ask_why(self) -> None:
        """Of a main process that is dead, although nobody was struck since it was started."""
        if len(self.books.kills) == self._blows:
            with trio.move_on_after(HEARD_S):
                await self.grip.struck.wait()
            if self.grip.hit is None:
                self.findings.append(Finding(name="died", text=self.target.log_end()[-TOLD:]))
        self._blows = len(self.books.kills)

    def _give_up(self, name: str, text: str) -> None:
        if name != "broken":
            self._found.append(Finding(name=name, text=text))
        self._failure = text
        if self._scope is not None:
            self._scope.cancel()

    # -- a letter ---------------------------------------------------------------------------------

    def _letter(self, script: str) -> Letter:
        """A new one; none is large, or its calls would be others."""
        row, size = SCRIPTS[script], LONGEST_OCTETS
        named = recipients(row, self.target.capabilities)
        while size >= LONGEST_OCTETS:
            self._letters += 1
            size = len(compose(self.run, self._letters, 1, row.sender, named))
        return Letter(number=self._letters, sender=row.sender, recipients=named)

    async def _deliver(self, letter: Letter) -> None:
        """From the first attempt to an empty queue and quiet.  Raises StandError."""
        clients = Clients(
            run=self.run, address=self.target.address, outbox=iter([letter]), books=self.books,
            random=Patient(), findings=self._found,
        )  # fmt: skip
        with trio.CancelScope(deadline=trio.current_time() + self.patience_s) as self._scope:
            await clients.send_all(1)
        self._check("unanswered", letter, f"no 250 in {self.patience_s:.0f} s")
        with trio.CancelScope(deadline=trio.current_time() + self.patience_s) as self._scope:
            await self._drain(letter)
        self._check("undrained", letter, f"the queue is not empty after {self.patience_s:.0f} s")
        self._scope = None

    def _check(self, name: str, letter: Letter, what: str) -> None:
        if self._scope is not None and self._scope.cancelled_caught:
            if not self._failure:
                token = f"{self.run}-{letter.number}"
                self._found.append(Finding(name=name, text=f"{token}/0: {what}"))
            raise StandError(self._failure or what)

    @property
    def run(self) -> str:
        """The name of this stand's letters."""
        return f"k{self.seed}s{self.number}"

    async def _drain(self, letter: Letter) -> None:
        """Until the queue is empty and all rest; where that takes long, an operator helps.

        What stays after that, while the letter has come to its end, is a remnant of a death.
        """
        flush_s, anew_s = map(self._at_this_pace, (FLUSH_S, ANEW_S))
        began_s = flushed_s = trio.current_time()
        anews = 0
        while True:
            await trio.sleep(LOOK_S)
            if await self._is_empty(letter):
                await until_quiet(self.target.processes, QUIET_S)
                if await self._is_empty(letter) and self.target.alive():
                    return
            elif (
                trio.current_time() >= began_s + anew_s
                and anews < ANEWS
                and not self.kinds - await self.running()
            ):
                await self._start_anew()
                await until_quiet(self.target.processes, QUIET_S)
                if await trio.to_thread.run_sync(self._has_ended, letter):
                    self.remnants = max(self.remnants, await self._waiting())
                began_s, anews = self._from_now(), anews + 1
            elif trio.current_time() >= flushed_s + flush_s:
                with suppress(TargetError):
                    await in_thread(self.target.flush)
                flushed_s = trio.current_time()

    def _at_this_pace(self, seconds: float) -> float:
        most_s = min(SLOWEST * seconds, self.patience_s / 3)
        return min(max(seconds, SLOWNESS * self._pace_s), most_s)

    def _from_now(self) -> float:
        """The time; patience begins again."""
        now_s = trio.current_time()
        if self._scope is not None:
            self._scope.deadline = now_s + self.patience_s
        return now_s

    async def _is_empty(self, letter: Letter) -> bool:
        """But for remnants; as many of something else are none, while this letter is awaited."""
        waiting = await self._waiting()
        if waiting <= 0:
            return waiting == 0
        return waiting <= self.remnants and await trio.to_thread.run_sync(self._has_ended, letter)

    def _has_ended(self, letter: Letter) -> bool:
        """Whether nobody waits for this letter: all have it, or have heard of it."""
        books = self._with_mailboxes()
        name = f"{self.run}-{letter.number}/"
        found = judge(books, self._windows()).findings
        return not any(e.name in ("lost", "half_lost") and name in e.text for e in found)

    async def _start_anew(self) -> None:
        """As an operator does: some servers look through their queue then, and seldom else."""
        async with self._changing:
            self.operated += 1
            try:
                with trio.CancelScope(shield=True):
                    odd = await in_thread(self.target.stop)
                    self.findings += [Finding(name="stop", text=each) for each in odd]
                    await in_thread(self.target.start)
                    await self.grip.seize()
            except (TargetError, GripError) as error:
                self._give_up("unrecovered", str(error))

    async def _waiting(self) -> int:
        try:
            return await trio.to_thread.run_sync(self.target.waiting)
        except (TargetError, OSError):
            return -1  # can't be told just now: it changes while it is read

    async def warm(self, script: str, kinds: frozenset[str] = frozenset()) -> None:
        """Letters without a fault, until processes of these kinds are there.  Raises StandError."""
        for _ in range(WARM):
            began_s = trio.current_time()
            await self._deliver(self._letter(script))
            self._pace_s = trio.current_time() - began_s
        with trio.move_on_after(BACK_S):
            while not kinds <= await self.running():
                await trio.sleep(LOOK_S)
            await until_quiet(self.target.processes, QUIET_S)

    async def running(self) -> frozenset[str]:
        """The kinds of processes that there are now."""
        return frozenset(each.kind for each in await self._running())

    async def _running(self) -> list[Process]:
        return await trio.to_thread.run_sync(lambda: list(self.target.processes()))

    # -- points -----------------------------------------------------------------------------------

    async def survey(self, script: str) -> tuple[Seen, ...]:
        """The calls that matter while such a letter is under way.  Raises StandError, GripError."""
        await self.warm(script)
        self.kinds |= await self.running()
        await self.grip.arm(None, 0)
        await self._deliver(self._letter(script))
        return await self.grip.disarm()

    async def try_point(self, point: Point) -> Trial:
        """One letter, one fault.  Raises StandError, GripError."""
        began_s = time.monotonic()
        kinds = frozenset({point.kind} - {ALL})
        missing = (kinds & self.kinds) - await self.running()
        if missing or point.fault == "tree":
            await self.warm(point.script, missing)
        letter = self._letter(point.script)
        self.points[f"{self.run}-{letter.number}"] = point
        if point.fault == "twice":
            await self.grip.arm(None, point.number)
            await self._strike(point.kind)
        else:
            await self.grip.arm(kinds or None, point.number, point.fault)
        failure: StandError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow, point.fault)
            try:
                await self._deliver(letter)
            except StandError as error:
                failure = error  # raised outside: a nursery would wrap it
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        await self.grip.disarm()
        hit = self.grip.hit
        if hit is not None and point.fault == "stop":
            await until_quiet(self.target.processes, QUIET_S)
        seconds = time.monotonic() - began_s
        if hit is None:
            return Trial(point=point, hit=False, seconds=seconds)
        return Trial(
            point=point, hit=True, struck=hit.kind, call=hit.call, place=hit.place, seconds=seconds
        )

    async def _strike(self, kind: str) -> None:
        """One process of this kind dies at rest."""
        for each in await self._running():
            if each.kind == kind:
                self.books.kills.append(Kill(role=each.role, when_s=time.time()))
                strike(each)
                return

    async def _follow(self, fault: Fault) -> None:
        """What is to be done when it has struck."""
        await self.grip.struck.wait()
        hit = self.grip.hit
        if hit is None:
            return
        if fault == "stop":
            with trio.CancelScope(shield=True):
                await trio.sleep(STOPPED_S)
                await self.grip.go_on(hit.process)
        else:
            self.books.kills += self._kills(fault, hit)

    def _kills(self, fault: Fault, hit: Hit) -> Iterator[Kill]:
        roles = set(self.target.roles) if fault == "tree" else set()
        for role in sorted(roles | {self._role(hit.kind)}):
            yield Kill(role=role, when_s=hit.when_s)

    def _role(self, kind: str) -> str:
        """The role of a kind of process (`Process.kind`: the role, and perhaps a part)."""
        known = [role for role in self.target.roles if kind == role or kind.startswith(f"{role} ")]
        return max(known, key=len, default=kind.partition(" ")[0])

    # -- the account ------------------------------------------------------------------------------

    def settle(self) -> tuple[Account, dict[Point, list[Finding]]]:
        """The account so far, in quiet; new findings by point, the others in `findings`."""
        return self._judged(self._with_mailboxes())

    def _windows(self) -> dict[str, Window]:
        """The target's; what a death leaves behind takes longer to end on a slow machine."""
        return {
            place: replace(window, before_s=self._at_this_pace(window.before_s))
            for place, window in self.target.windows.items()
        }

    def _with_mailboxes(self) -> Books:
        """The books, and what lies in mailboxes now."""
        books = replace(self.books, found=[*self.books.found], reported=[*self.books.reported],
                        queued=[], strangers=[*self.books.strangers])  # fmt: skip
        book_mailboxes(books, self.target.mailboxes())
        return books

    def _judged(self, books: Books) -> tuple[Account, dict[Point, list[Finding]]]:
        account = judge(books, self._windows())
        self.duplicates = account.duplicates
        by_point: dict[Point, list[Finding]] = {}
        for finding in (*account.findings, *self._found):
            if finding in self._told:
                continue
            self._told.add(finding)
            token = _TOKEN.search(finding.text)
            point = self.points.get(token[0]) if token is not None else None
            if point is None:
                self.findings.append(finding)
            else:
                by_point.setdefault(point, []).append(finding)
        return account, by_point

    def end(self) -> tuple[Account, dict[Point, list[Finding]]]:
        """Stop it in good order, and settle everything: queue, log and trace, too."""
        self.findings += endings.stop(self.target)
        books = self._with_mailboxes()
        book_queue(books, self.target.queued())
        self.trace, found = endings.health(self.target)
        self.findings += found
        return self._judged(books)


_TOKEN: Final = re.compile(r"\bk\d+s\d+-\d+(?=/)")
