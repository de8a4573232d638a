"""One job: a message, its recipients, and what is known of each of them so far.

Rules a reader may rely on
- The first attempt settles every recipient; a later one only those that the connection, not the
  host, had failed (`Verdict.elsewhere`).  So there is no outcome yet, or one for each.
- Words of a host are told with its name; ours say in the text whom they are about.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from refmta.protocol import smtp_client as smtp
from refmta.roles.remote.content import Outgoing, Unsendable
from refmta.wire.messages import Relay, Relayed, RelayOutcome, RelayRecipient

#: Bounds of the fields of a RelayOutcome, in octets of ASCII.
TEXT = 1024
HOST = 300


@dataclass(frozen=True, slots=True)
class Job:
    """A message to relay, and the descriptor of its chunk."""

    relay: Relay
    descriptor: int


@dataclass(slots=True)
class Progress:
    """What is known so far of one job.

    pending: who is still to be tried.  begun: transactions that came to MAIL, on new connections.
    """

    job: Job
    letter: Outgoing
    pending: tuple[RelayRecipient, ...]
    outcomes: dict[int, RelayOutcome] = field(default_factory=dict)
    finding: Literal["alive", "dead", "unknown"] = "unknown"
    begun: int = 0

    def transaction(self) -> smtp.Transaction:
        """For the recipients that are still open.  Raises Unsendable."""
        try:
            return smtp.Transaction(
                reverse_path=self._reverse_path(),
                recipients=tuple([each.address for each in self.pending]),
                octets=self.letter.octets,
                eight_bit=self.letter.eight_bit,
            )
        except ValueError as error:  # our queue's mistake, and a command of somebody's choosing
            raise Unsendable("5.1.3", f"not to be said in SMTP: {error}") from None

    def _reverse_path(self) -> str:
        """The message's own, or what the queue says in its place; null stays so (RFC 5321 6.1)."""
        own = self.letter.reverse_path
        return own and (self.job.relay.reverse_path or own)

    def settle(self, host: str, connection: str, done: smtp.Done) -> list[RelayRecipient]:
        """Note the verdicts of an attempt; who has got the message.

        What failed with the connection stays open for the next one.
        """
        if done.destination == "alive" or self.finding == "unknown":
            self.finding = done.destination
        judged = list(zip(self.pending, done.verdicts, strict=True))
        for recipient, verdict in judged:
            text = verdict.text if verdict.said else f"{connection}: {verdict.text}"
            self.outcomes[recipient.index] = RelayOutcome(
                index=recipient.index,
                kind=verdict.kind,
                enhanced=verdict.enhanced,
                text=text[:TEXT],
                host=host[:HOST] if verdict.said else "",
            )
        self.pending = tuple(
            [who for who, what in judged if what.elsewhere and what.kind == "deferred"]
        )
        return [who for who, what in judged if what.kind == "delivered"]

    def relayed(self) -> Relayed:
        """The end of the job."""
        relay = self.job.relay
        return Relayed(
            reference=relay.reference,
            destination=self.finding,
            outcomes=tuple([self.outcomes[each.index] for each in relay.recipients]),
        )


def same(
    relay: Relay,
    kind: Literal["deferred", "failed", "returned"],
    enhanced: str,
    text: str,
    *,
    damaged: bool = False,
) -> Relayed:
    """One outcome for all; nobody was asked."""
    outcomes = [
        RelayOutcome(index=each.index, kind=kind, enhanced=enhanced, text=text[:TEXT])
        for each in relay.recipients
    ]
    return Relayed(
        reference=relay.reference,
        destination="unknown",
        outcomes=tuple(outcomes),
        damaged=damaged,
    )
