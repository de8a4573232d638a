"""One connection at a time of a destination, and the job that it is at.

See the package for the rules.  A conversation has several lanes; they share its hosts and its
jobs, and nothing else.  Connections that are of no more use end beside the work, within seconds.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import trio

from refmta.patterns.trust_partitioning import ChannelBroken
from refmta.protocol import mx
from refmta.protocol import smtp_client as smtp
from refmta.roles.remote import content
from refmta.roles.remote.connection import Connection, reason
from refmta.roles.remote.jobs import Job, Progress, same
from refmta.roles.remote.names import Route
from refmta.wire.envelope import ChunkError
from refmta.wire.messages import Relay, Relayed

if TYPE_CHECKING:
    from refmta.roles.remote.conversation import Conversation

#: Transactions that were lost before their end, and are begun once more elsewhere.
AGAIN = 1
#: Whose reply is logged.
SEVERITY = {"delivered": 0, "returned": 1, "deferred": 2, "failed": 3}


@dataclass(slots=True, eq=False)
class Lane:
    """Does one job after the other, over a connection that it keeps for a while."""

    owner: Conversation
    nursery: trio.Nursery
    _connection: Connection | None = None
    _route: Route | None = None
    _asking: trio.CancelScope | None = None

    async def work(self) -> None:
        """Until the caller is gone, or nothing has come for the idle time."""
        owner = self.owner
        try:
            while not owner.gone:
                job = await owner.next_job()
                if job is None:
                    return
                relayed = same(job.relay, "deferred", "4.3.0", "the delivery agent was ended")
                try:
                    relayed = await self.relay(job)
                finally:
                    owner.done(job, relayed)
                with contextlib.suppress(ChannelBroken):  # whoever hears it will know
                    await owner.channel.flush()
        finally:
            self._part()

    def hurry(self) -> None:
        """The server stops: give back what nobody was promised."""
        if self._connection is not None:
            self._connection.hurry()
        if self._asking is not None:
            self._asking.cancel()

    def close(self) -> None:
        """At once, without a word."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _part(self) -> None:
        """End the connection, if there is one, beside what goes on."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self.nursery.start_soon(connection.end)

    # -- one job ----------------------------------------------------------------------------------

    async def relay(self, job: Job) -> Relayed:
        """What became of it, whatever the next hop does."""
        relay = job.relay
        if self.owner.hurried:
            return same(relay, "returned", "", "this server stops")
        try:
            letter = await content.read(self.owner.disk, job.descriptor, relay.queue_id, relay.head)
            return await self._deliver(Progress(job, letter, relay.recipients))
        except ChunkError as error:
            self._log(relay, "damaged", str(error))
            return same(relay, "deferred", "4.6.0", str(error), damaged=True)
        except content.Unsendable as error:
            self._log(relay, "refused", error.text)
            return same(relay, "failed", error.enhanced, error.text)
        except OSError as error:
            self.close()  # in an unknown state: no word is said on it any more
            self._log(relay, "unreadable", reason(error))
            return same(relay, "deferred", "4.3.0", f"the queue: {reason(error)}")

    async def _deliver(self, progress: Progress) -> Relayed:
        """To the connection that we have, then to one host after the other."""
        connection = self._connection
        if connection is not None and await connection.still_usable():
            await self._attempt(progress, connection, reused=True)
        number, self._route = 0, None
        while progress.pending and progress.begun <= AGAIN and not self.owner.hurried:
            candidate = await self._candidate(number)
            if candidate is None:
                break
            self._part()
            hop_port = self._route.port if self._route is not None else self.owner.config.port
            connection = Connection(
                candidate, hop_port, self.owner.options, self.owner.config.timeouts_factor
            )
            await self._attempt(progress, connection, reused=False)
            number += 1
        if not progress.outcomes:
            return self._nowhere(progress.job.relay)
        if progress.finding == "dead":
            self.owner.forget_route()
        return progress.relayed()

    async def _attempt(self, progress: Progress, connection: Connection, *, reused: bool) -> None:
        """One transaction, for the recipients that are still open."""
        transaction = progress.transaction()
        self._connection = connection
        done = await connection.transact(transaction, progress.letter)
        if connection.began and not reused:
            progress.begun += 1
        for recipient in progress.settle(connection.candidate.host, str(connection), done):
            # Written after the final reply was read, and before anyone is told.
            self.owner.trace(
                "remote.sent", queue_id=progress.job.relay.queue_id,
                recipient=recipient.address, index=recipient.index,
            )  # fmt: skip
        if not connection.usable:
            self._part()
        self._log_attempt(progress.job.relay, connection, done)

    def _nowhere(self, relay: Relay) -> Relayed:
        """No host was asked."""
        if self.owner.hurried:
            return same(relay, "returned", "", "this server stops")
        refusal = self._refusal()
        self.owner.forget_route()
        self._log(relay, "no host", refusal.text)
        ended = same(relay, refusal.kind, refusal.enhanced, refusal.text)
        # Nobody can be reached while the name servers are silent: as good as dead.
        return msgspec.structs.replace(ended, destination="dead") if _is_later(refusal) else ended

    # -- hosts ------------------------------------------------------------------------------------

    async def _candidate(self, number: int) -> mx.Candidate | None:
        """The next address; None if there is none, or the server stops."""
        if number == 0:
            self._route = self.owner.route()
        if self._route is None:
            return None
        with trio.CancelScope() as self._asking:
            return await self._route.candidate(number)
        return None

    def _refusal(self) -> mx.Refusal:
        if self._route is None:
            text = f"no way to look for {self.owner.destination}"
            return mx.Refusal(kind="deferred", enhanced="4.3.5", text=text)
        return self._route.refusal()

    # -- the journal ------------------------------------------------------------------------------

    def _log_attempt(self, relay: Relay, connection: Connection, done: smtp.Done) -> None:
        kinds = Counter[str](each.kind for each in done.verdicts)
        worst = max(done.verdicts, key=lambda each: SEVERITY[each.kind])
        self.owner.journal.info(
            "relayed" if kinds["delivered"] == len(done.verdicts) else "not relayed",
            queue_id=relay.queue_id, host=str(connection), **kinds, reply=worst.text,
        )  # fmt: skip

    def _log(self, relay: Relay, event: str, text: str) -> None:
        self.owner.journal.warning(
            event, queue_id=relay.queue_id, destination=relay.destination, reason=text
        )


def _is_later(refusal: mx.Refusal) -> bool:
    return refusal.enhanced == "4.4.3"
