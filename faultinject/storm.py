"""A storm: mail comes in, next hops misbehave, and processes are killed all the while.

    clients --SMTP--> target --> mailboxes
                        '------> next hop (honest), next hop (mixed: fails in every way)
    killer --SIGKILL--> its processes, each second or more often

Rules a reader may rely on
- The storm knows its target by the Protocol alone (`faultinject.target`).
- Letters are spread evenly over the time of the kills. A killed main process is started again, by
  `recover`, as a service manager would; that is the only help which the server gets.
- Then the kills end, the next hops become honest, the clients get their last answers, the queue is
  tried again, and the server is stopped in good order. Only after that are the books filled from
  mailboxes and queue, and balanced (`ledger`).
- One seed decides letters, behaviours, pauses and victims; not the scheduling of processes, so a
  seed gives the same storm, and not always the same weather.

It runs in one process beside the server, on trio; the adapter's blocking calls have a thread.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

import trio

from faultinject import endings, networks
from faultinject.books import Books
from faultinject.client import Clients, Letter
from faultinject.collect import BookedHop
from faultinject.killer import Killer
from faultinject.ledger import Account, Finding, judge
from faultinject.network.behaviours import BEHAVIOURS, Behaviour, Drip, Endless, Say
from faultinject.target import Site, Target, TargetError

DOMAIN: Final = "storm.example"
HONEST: Final = "honest.example"
#: Many, since each has sessions of its own: one alone would be dead most of the time.
HOSTILE: Final = tuple(f"hostile{number}.example" for number in range(8))
USERS: Final = ("ada", "bob", "cyd", "dan")
REMOTE_USERS: Final = tuple(f"r{number}" for number in range(8))
#: Every next hop refuses it for good: mail for it must be reported.
REFUSED: Final = f"refused@{HONEST}"
#: The share of honest sessions at the hostile next hops.
HONEST_SHARE: Final = 0.3
LONGEST_GRACE_S: Final = 1.0
#: How often the server's life is looked at, and how often it may fail to start in a row.
LOOK_S, START_ATTEMPTS = 0.05, 20
#: How often the queue is tried again while it is drained, and how long each look is apart.
FLUSH_S, POLL_S = 5.0, 0.25
PROGRESS_S: Final = 10.0


def _deceives(behaviour: Behaviour) -> bool:
    """Whether it says 250 and takes nothing: who believes it loses the mail, and is not to blame
    for that by a storm, which is about deaths.
    """
    acts = (*behaviour.acts.values(), *behaviour.recipients)
    said = [s.octets for act in acts for s in act if isinstance(s, Say | Drip | Endless)]
    takes = behaviour.takes or "delivered" in behaviour.allows
    return not takes and any(b"250" in octets for octets in said)


#: Not for clients that aren't "wary"; nor is what they may skip, to take the 221 to their QUIT for
#: the reply to the message.
DECEITFUL: Final = frozenset(
    {name for name, row in BEHAVIOURS.items() if _deceives(row)} | {"garbage-at-final"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A storm's numbers.  hits: how often each role must be hit.  drain_s: patience at the
    end, for the last answers, and again for the queue.
    """

    messages: int
    seconds: float
    seed: int
    clients: int = 8
    hits: int = 1
    drain_s: float = 120.0

    @property
    def grace_s(self) -> float:
        """How old a process may become before it can be hit (`Killer`)."""
        return min(LONGEST_GRACE_S, 0.3 * self.seconds / max(1, self.hits))


@dataclass(slots=True, kw_only=True)
class Result:
    """What a storm found."""

    target: str
    plan: Plan
    account: Account
    findings: list[Finding] = field(default_factory=list)
    hits: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    letters_acknowledged: int = 0
    connections: int = 0
    restarts: int = 0
    behaviours: int = 0
    trace: str = ""
    seconds: dict[str, float] = field(default_factory=dict)


def letters(plan: Plan, *, remote: bool) -> Iterator[Letter]:
    """What is sent: to one or two mailboxes, to the next hops, or both."""
    random = Random(f"letters {plan.seed}")  # noqa: S311
    for number in range(plan.messages):
        local = random.sample(USERS, random.choice((0, 1, 1, 2) if remote else (1, 1, 2)))
        recipients = [f"{user}@{DOMAIN}" for user in local]
        if remote and (not recipients or random.random() < 0.3):
            recipients.append(f"{random.choice(REMOTE_USERS)}@{HONEST}")
        if remote and random.random() < 0.2:
            some = random.sample(REMOTE_USERS, random.randint(1, 2))
            domain = random.choice(HOSTILE)
            recipients += [f"{user}@{domain}" for user in some]
        if remote and random.random() < 0.05:
            recipients.append(REFUSED)
        null = len(recipients) == len(local) and random.random() < 0.05
        sender = "" if null else f"{random.choice(USERS)}@{DOMAIN}"
        yield Letter(number=number, sender=sender, recipients=tuple(recipients))


@dataclass(slots=True)
class Storm:
    """One storm's state."""

    target: Target
    plan: Plan
    directory: Path
    say: Callable[[str], None]
    books: Books = field(default_factory=Books)
    findings: list[Finding] = field(default_factory=list)
    restarts: int = 0
    calm: bool = False
    _clock: dict[str, float] = field(default_factory=dict)

    async def run(self) -> Result:
        """From start to verdict.  Raises TargetError if the server does not start at all."""
        remote = "remote" in self.target.capabilities
        hops = self._hops() if remote else {}
        failure: TargetError | None = None
        async with trio.open_nursery() as nursery:
            ports = {domain: await nursery.start(hop.serve) for domain, hop in hops.items()}
            try:
                await self._start(ports)
                clients, killer = self._clients(remote), self._killer()
                await self._rage(clients, killer, list(hops.values()))
                self.findings += await networks.in_thread(lambda: endings.stop(self.target))
            except TargetError as error:
                failure = error  # raised outside: a nursery would wrap it
            finally:
                with trio.CancelScope(shield=True):
                    await networks.in_thread(self.target.dispose)
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        met = set().union(*(hop.seen for hop in hops.values()))
        return self._verdict(clients, killer, len(met))

    async def _start(self, ports: dict[str, int]) -> None:
        site = Site(
            directory=self.directory, hostname=f"mx.{DOMAIN}", domain=DOMAIN, users=USERS,
            next_hops=ports,
        )  # fmt: skip
        await networks.in_thread(self.target.install)
        await networks.in_thread(lambda: self.target.configure(site))
        await networks.in_thread(self.target.start)
        self.say(f"{self.target.name} answers; the storm begins (seed {self.plan.seed})")

    # -- who takes part ---------------------------------------------------------------------------

    def _hops(self) -> dict[str, BookedHop]:
        """A next hop for each remote domain, so that each is a destination of its own."""
        wary = "wary" in self.target.capabilities
        among = tuple(name for name in BEHAVIOURS if wary or name not in DECEITFUL)
        return {
            domain: BookedHop(
                behaviour="honest" if domain == HONEST else "mixed", among=among,
                seed=self.plan.seed * 100 + place, honest_share=HONEST_SHARE,
                keep_content=True, books=self.books,
            )
            for place, domain in enumerate((HONEST, *HOSTILE))
        }  # fmt: skip

    def _clients(self, remote: bool) -> Clients:
        per_letter_s = 0.95 * self.plan.seconds / max(1, self.plan.messages)
        return Clients(
            run=f"s{self.plan.seed}", address=self.target.address,
            outbox=letters(self.plan, remote=remote), books=self.books,
            random=Random(f"clients {self.plan.seed}"),  # noqa: S311
            due_s=lambda letter: letter.number * per_letter_s, findings=self.findings,
        )  # fmt: skip

    def _killer(self) -> Killer:
        return Killer(
            roles=self.target.roles, books=self.books, now=time.time,
            random=Random(f"killer {self.plan.seed}"),  # noqa: S311
            grace_s=self.plan.grace_s,
        )  # fmt: skip

    # -- the storm --------------------------------------------------------------------------------

    async def _rage(self, clients: Clients, killer: Killer, hops: list[BookedHop]) -> None:
        """Kills while mail flows, then calm until everything is settled, or patience ends."""
        began_s = trio.current_time()
        answered = trio.Event()

        async def send() -> None:
            await clients.send_all(self.plan.clients)
            answered.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._manage)
            nursery.start_soon(self._progress, clients, killer)
            nursery.start_soon(send)
            await killer.rage(self.plan.seconds, self.plan.hits, self.target.processes)
            self.calm = True
            self._clock["kills"] = trio.current_time() - began_s
            for hop in hops:
                hop.become("honest")
            self.say("the kills end; the next hops are honest from now on")
            with trio.move_on_after(self.plan.drain_s):
                await answered.wait()
            self._clock["answered"] = trio.current_time() - began_s
            with trio.move_on_after(self.plan.drain_s):
                await endings.drain(self.target, self.say, flush_s=FLUSH_S, look_s=POLL_S)
            self._clock["drained"] = trio.current_time() - began_s
            nursery.cancel_scope.cancel()
        missing = self.plan.messages - clients.acknowledged
        refused = sum(each.name == "refused" for each in self.findings)
        if missing > refused:
            text = f"{missing - refused} letters had no 250 when patience ended"
            self.findings.append(Finding(name="unanswered", text=text))

    async def _manage(self) -> None:
        """What a service manager does: start it again when its main process is dead."""
        failed = 0
        while failed < START_ATTEMPTS:
            await trio.sleep(LOOK_S)
            if self.target.alive():
                continue
            if self.calm and failed == 0 and self._last_kill_s() > 10:
                self.findings.append(Finding(name="died", text="by itself, in the calm"))
            try:
                await networks.in_thread(self._recover)
                failed = 0
            except TargetError as error:
                failed += 1
                last = error
        self.findings.append(Finding(name="unrecovered", text=str(last)))

    def _last_kill_s(self) -> float:
        return time.time() - self.books.kills[-1].when_s if self.books.kills else float("inf")

    def _recover(self) -> None:
        self.restarts += 1
        for oddity in self.target.recover():
            self.findings.append(Finding(name="leftover", text=oddity))

    async def _progress(self, clients: Clients, killer: Killer) -> None:
        began_s = trio.current_time()
        while True:
            await trio.sleep(PROGRESS_S)
            self.say(
                f"{trio.current_time() - began_s:4.0f} s: {clients.acknowledged} acknowledged,"
                f" {self.target.waiting()} queued, {killer.hits.total()} kills,"
                f" {self.restarts} restarts"
            )

    # -- afterwards -------------------------------------------------------------------------------

    def _verdict(self, clients: Clients, killer: Killer, behaviours: int) -> Result:
        endings.gather(self.books, self.target)
        account = judge(self.books, self.target.windows)
        spared = killer.spared(self.plan.hits)
        if spared:
            text = ", ".join(f"{role} {killer.hits[role]}" for role in spared)
            self.findings.append(
                Finding(name="too_calm", text=f"hit fewer than {self.plan.hits} times: {text}")
            )
        said, found = endings.health(self.target)
        return Result(
            target=self.target.name, plan=self.plan, account=account,
            findings=[*account.findings, *self.findings, *found],
            hits=killer.hits, kinds=killer.kinds, letters_acknowledged=clients.acknowledged,
            connections=clients.connections, restarts=self.restarts, behaviours=behaviours,
            trace=said, seconds=self._clock,
        )  # fmt: skip
