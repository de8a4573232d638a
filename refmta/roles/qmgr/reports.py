"""Who is told of failures and delays: qmgr decides, the bounce role writes the report.

A message whose recipients failed stays in the queue until every report about them is durable;
then a mark says so.  In between lies a named window: when we die, the report is made again.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from refmta.patterns.trust_partitioning import Channel, ChannelBroken
from refmta.protocol import delivery, dsn
from refmta.roles.qmgr.state import TROUBLE_S, Active
from refmta.wire import messages as wire

if TYPE_CHECKING:
    from refmta.roles.qmgr.queue import Queue

#: Reports under way at once; and messages that may wait in memory for theirs.
UNDER_WAY: Final = 32
WAITING: Final = 200
#: Recipients in one report; those beyond get another.
ROWS: Final = 100


@dataclass(slots=True, eq=False)
class Account:
    """One message's reports: for which recipients, whom to tell still, whom we told."""

    active: Active
    kind: dsn.Event
    indices: tuple[int, ...]
    tells: deque[str]
    told: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Trouble:
    """A report that could not be kept: when it is tried again, after which pause.

    Who was told before is in the account, and is not told again.
    """

    when_s: float
    pause_s: float
    account: Account


@dataclass(slots=True)
class Reports:
    """Accounts under way by reference, and those that wait."""

    queue: Queue
    bounce: Channel | None = None
    waiting: deque[Account] = field(default_factory=deque)
    under_way: dict[int, Account] = field(default_factory=dict)
    #: Queue id -> what could not be told, to be tried again.
    troubled: dict[str, Trouble] = field(default_factory=dict)

    def flying(self) -> bool:
        """Whether a report is being written."""
        return bool(self.under_way)

    def being_told(self, active: Active) -> set[int]:
        """Recipients of whom somebody hears now, or has heard while another has not."""
        accounts = [each for each in self.under_way.values() if each.active is active]
        accounts += [each for each in self.waiting if each.active is active and each.told]
        trouble = self.troubled.get(active.queue_id)
        if trouble is not None and trouble.account.told:
            accounts.append(trouble.account)
        return {index for each in accounts if each.kind == "failed" for index in each.indices}

    # -- what the queue asks ----------------------------------------------------------------------

    def begin(self, active: Active) -> bool:
        """Have told what must be; whether the message has to stay in memory for it."""
        if active.reports:
            return True
        if active.state.held or self._later(active):
            return False
        failed = delivery.with_status(active.state, delivery.Status.FAILED)
        if failed:
            return self._tell(active, "failed", failed[:ROWS])
        if not active.state.warned and self._warning_s(active) <= self.queue.wall():
            late = [*self._late(active)][:ROWS]
            if late:
                return self._tell(active, "delayed", tuple(late))
        return False

    def times_s(self, active: Active) -> Iterator[float]:
        """When a message that rests is to be looked at because of a report."""
        failed = bool(delivery.with_status(active.state, delivery.Status.FAILED))
        late = not active.state.warned and any(True for _ in self._late(active))
        if failed or (late and self._warning_s(active) <= self.queue.wall()):
            trouble = self.troubled.get(active.queue_id)
            yield trouble.when_s if trouble else self.queue.wall() + TROUBLE_S
        elif late:
            yield self._warning_s(active)

    def _later(self, active: Active) -> bool:
        """Whether it was in vain a moment ago, or too many wait."""
        trouble = self.troubled.get(active.queue_id)
        if trouble is not None and trouble.when_s > self.queue.wall():
            return True
        return len(self.waiting) >= WAITING

    def _warning_s(self, active: Active) -> float:
        delay_s = self.queue.config.delay_warning_s
        return active.envelope.arrival_s + delay_s if delay_s else float("inf")

    def _late(self, active: Active) -> Iterable[int]:
        """Who waits: after an attempt, or for a destination that is dead."""
        waiting = delivery.to_dispatch(active.state)
        return (*delivery.with_status(active.state, delivery.Status.DEFERRED), *waiting)

    def forget(self, queue_id: str) -> None:
        """The message is gone: nothing of it is to be tried again."""
        self.troubled.pop(queue_id, None)

    # -- accounts ---------------------------------------------------------------------------------

    def _tell(self, active: Active, kind: dsn.Event, indices: tuple[int, ...]) -> bool:
        envelope = active.envelope
        tells = dsn.decide(kind, envelope.reverse_path, self._notify(), envelope.recipients)
        account = Account(active, kind, indices, deque(each.to for each in tells))
        trouble = self.troubled.get(active.queue_id)
        if trouble is not None and (trouble.account.kind, trouble.account.indices) == (
            kind, indices,
        ):  # fmt: skip
            account.tells, account.told = trouble.account.tells, trouble.account.told
        if not account.tells:
            self._close(account)
            return not active.state.gone and self.begin(active)
        active.reports += 1
        self.waiting.append(account)
        self._send()
        return True

    def _notify(self) -> dsn.Notify:
        config = self.queue.config
        copies = frozenset(each for each in dsn.COPIES if each in config.copies)
        return dsn.Notify(hostname=config.hostname, postmaster=config.postmaster, copies=copies)

    def _send(self) -> None:
        """As many as may be under way; the rest waits."""
        while (
            self.waiting
            and self.bounce is not None
            and not self.queue.draining
            and len(self.under_way) < UNDER_WAY
        ):
            account = self.waiting.popleft()
            if account.active.state.gone:
                continue
            try:
                descriptor = self.queue.descriptor(account.active)
            except OSError as error:
                self._failed(account, os.strerror(error.errno or 0))
                continue
            reference = self.queue.reference()
            self.under_way[reference] = account
            report = self._report(account, reference)
            self.queue.post(self.bounce, report, descriptor)

    def _report(self, account: Account, reference: int) -> wire.Report:
        active, recipients = account.active, account.active.state.recipients
        ends_s = active.envelope.arrival_s + self.queue.config.lifetime_s
        return wire.Report(
            reference=reference,
            queue_id=active.queue_id,
            kind=account.kind,
            to=account.tells[0],
            rows=tuple(
                wire.ReportRow(
                    address=recipients[index].address,
                    enhanced=recipients[index].code,
                    text=recipients[index].text,
                    when_s=recipients[index].when_s,
                    host=recipients[index].host,
                )
                for index in account.indices
            ),
            until_s=ends_s if account.kind == "delayed" else 0,
            head=active.head,
        )

    async def follow(self, channel: Channel) -> None:
        """Send anew what the former one left open, then hear how it went."""
        self.bounce = channel
        self._open_again()
        self._send()
        await self.queue.flush()
        try:
            while True:
                for item in await channel.receive():
                    if isinstance(item.message, wire.Reported):
                        self._reported(item.message)
                self._send()
                await self.queue.proceed()
        except ChannelBroken:
            channel.close()
            if self.bounce is channel:
                self.bounce = None
                self._open_again()

    def _open_again(self) -> None:
        """Whoever had these is gone; whether it kept any report nobody knows (a named window)."""
        self.waiting.extendleft(reversed(self.under_way.values()))
        self.under_way.clear()

    def _reported(self, answer: wire.Reported) -> None:
        account = self.under_way.pop(answer.reference, None)
        if account is None:
            return
        if not answer.queue_id:
            self._failed(account, answer.text)
            if answer.damaged:
                self.queue.examine(account.active)
            return
        to = account.tells.popleft()
        account.told.append(to)
        self.queue.journal.info(
            "reported", queue_id=account.active.queue_id, to=to, report=answer.queue_id,
            what=account.kind,
        )  # fmt: skip
        if account.tells and not account.active.state.gone:
            self.waiting.append(account)
            return
        account.active.reports -= 1
        self._close(account)
        self._go_on(account)

    def _failed(self, account: Account, text: str) -> None:
        """Nobody was told: the message waits, and is tried again."""
        queue_id = account.active.queue_id
        self.queue.journal.error("report not kept", queue_id=queue_id, reason=text)
        if account.active.state.gone:
            return
        # enqueue may be starting anew: soon again, then more rarely
        before = self.troubled.get(queue_id)
        pause_s = min(TROUBLE_S, before.pause_s * 2 if before else 1.0)
        self.troubled[queue_id] = Trouble(self.queue.wall() + pause_s, pause_s, account)
        account.active.reports -= 1
        self._go_on(account)

    def _go_on(self, account: Account) -> None:
        if not account.active.state.gone:
            self.queue.dispatch(account.active)
            self.queue.rest(account.active)

    def _close(self, account: Account) -> None:
        """Everybody was told who is to be told: perhaps nobody."""
        active, now_s = account.active, int(self.queue.wall())
        self.troubled.pop(active.queue_id, None)
        if active.state.gone:
            return
        if account.kind == "delayed":
            self.queue.step(active, delivery.Warned(now_s))
            return
        to = ", ".join(account.told)[:250]
        if not to:
            self.queue.journal.warning(
                "discarded", queue_id=active.queue_id, recipients=len(account.indices),
                reason="its sender is null: nobody is told of a report's failure",
            )  # fmt: skip
        self._mark(account, to, now_s)

    def _mark(self, account: Account, to: str, now_s: int) -> None:
        active = account.active
        outcome = "reported" if to else "discarded"
        before = active.state.recipients
        self.queue.step(active, delivery.Reported(account.indices, to, now_s))
        for index in account.indices:
            if before[index].status is delivery.Status.FAILED:
                self.queue.trace(
                    "qmgr.marked", queue_id=active.queue_id, recipient=before[index].address,
                    index=index, outcome=outcome,
                )  # fmt: skip
        self.queue.trace_freed(active)
