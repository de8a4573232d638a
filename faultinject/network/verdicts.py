"""What a trial says of its server: the ledger, and what only a faulty network can show.

Rules a reader may rely on
- Pure, over what was seen.  Whatever the ledger finds is found.  One name of it is told apart:
  `lost` at a destination that said 250 and took nothing is `deceived`.
- What is found at a bad destination is named by it, too ("given_up at smtp-552-at-rcpt"): what a
  server is known to do at one of them is not known of the others.
- While the fault lasted: a recipient may be reported failed only where the destination's row allows
  it; must be where it allows nothing else; and must have the letter where it allows nothing else.
- What an impostor took was sent there on a stranger's word.
- Isolation: the live letters arrive beside the fault, within a multiple of what they took alone,
  and some of them while a connection hangs; pauses may be longer by as much.
- A destination that was never met shows nothing: that is found, too, unless so many hang that it
  had to wait (`Plan.prompt`); the same holds for outcomes that did not come in time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from faultinject.books import Sending
from faultinject.ledger import FINDINGS, Finding
from faultinject.letters import Copy
from faultinject.network import places, schedules
from faultinject.network.behaviours import DELIVERED, FAILED
from faultinject.network.schedules import Visits
from faultinject.network.trial import Seen

#: What is found beside the ledger's names.
NAMES: Final[Mapping[str, str]] = MappingProxyType({
    "deceived": "a 250 that was out of place or not whole was believed, and the mail lost",
    "given_up": "reported as failed for good, on a failure that may pass",
    "not_given_up": "refused for good, and not reported while the refusal lasted",
    "not_delivered": "nothing stood in its way, and it was not delivered",
    "impostor": "sent where only a forged answer leads",
    "delayed": "mail for others waited for a bad destination",
    schedules.TOO_SOON: "tried again before its time",
    schedules.TOO_LATE: "not tried again in time",
    "unmet": "the server never came to a destination: nothing was shown there",
    "unanswered": "no 250 in time",
    "died": "the server died by itself",
    "defect": "in the server's log",
    "trace": "its events are not those of the queue's specification",
})  # fmt: skip
#: What may become of a recipient while a fault lasts.
OUTCOMES: Final = ("delivered", "failed", "deferred")
MEANINGS: Final[Mapping[str, str]] = MappingProxyType({**FINDINGS, **NAMES})
#: No machine is so busy that a pause may be longer by more than that.
BUSIEST_S: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What became of a recipient at a bad destination while it was bad.  alone: its letter has no
    other recipient.
    """

    destination: str
    copy: Copy
    recipient: str
    outcome: str  # of OUTCOMES
    alone: bool = True


def all_findings(seen: Seen, target: str) -> list[Finding]:
    """In the order of their weight."""
    lost = [_named(each) for each in seen.account.findings]
    found = [*lost, *impostors(seen), *outcomes(seen), *seen.oddities]
    if seen.plan.isolates:
        found += isolation(seen)
    if seen.plan.paces:
        found += pace(seen, target)
    if seen.plan.prompt:
        found += [Finding(name=_at("unmet", name), text=name) for name in seen.unmet]
    return found


def _named(finding: Finding) -> Finding:
    """A text of `lost` is "COPY for RECIPIENT"."""
    recipient = finding.text.rpartition(" ")[2]
    where = places.destination(recipient)
    if finding.name == "lost" and places.deceives(where):
        return Finding(name=_at("deceived", where), text=finding.text)
    return finding


_AT: Final = " at "


def _at(kind: str, destination: str) -> str:
    return f"{kind}{_AT}{destination}" if destination else kind


def kind(name: str) -> str:
    """Of a finding: its name without the destination, a key of `MEANINGS`."""
    return name.partition(_AT)[0]


def impostors(seen: Seen) -> Iterator[Finding]:
    """Of all destinations."""
    for each in seen.hosts.impostor.fooled:
        for recipient in each.recipients:
            name = _at("impostor", places.destination(recipient))
            yield Finding(name=name, text=f"mail for {recipient}")


# -- each destination -----------------------------------------------------------------------------


def fates(seen: Seen) -> Iterator[Fate]:
    """Of all recipients at bad destinations, of letters that were promised."""
    taken = {
        (each.copy, each.recipient)
        for each in seen.books.found
        if each.place == "next hop" and each.when_s <= seen.mended_s
    }
    told = {(each.copy, each.recipient): each.made_s for each in seen.books.reported}
    for copy, sending in seen.books.sendings.items():
        for recipient in _at_bad_ones(sending):
            key = (copy, recipient)
            outcome = "deferred"
            if key in told and told[key] <= seen.mended_s:
                outcome = "failed"
            elif key in taken:
                outcome = "delivered"
            name = places.destination(recipient)
            yield Fate(
                destination=name, copy=copy, recipient=recipient, outcome=outcome,
                alone=len(sending.recipients) == 1,
            )  # fmt: skip


def _at_bad_ones(sending: Sending) -> tuple[str, ...]:
    if not sending.answered_s:
        return ()
    return tuple(each for each in sending.recipients if places.destination(each))


def outcomes(seen: Seen) -> Iterator[Finding]:
    """What the destination's row does not allow.  One report may be about all recipients of a
    letter, and so wait for those that hang: what is not yet is judged of letters to one.
    """
    for fate in fates(seen):
        allowed = places.ALLOWED[fate.destination]
        what = f"{fate.copy} for {fate.recipient}: {fate.outcome} while the fault lasted"
        if fate.outcome == "failed" and "failed" not in allowed:
            yield Finding(name=_at("given_up", fate.destination), text=what)
        if not (seen.plan.prompt and fate.alone):
            continue
        if fate.outcome != "failed" and allowed == FAILED:
            yield Finding(name=_at("not_given_up", fate.destination), text=what)
        if fate.outcome != "delivered" and allowed == DELIVERED:
            yield Finding(name=_at("not_delivered", fate.destination), text=what)


# -- beside others, and in time -------------------------------------------------------------------


def isolation(seen: Seen) -> Iterator[Finding]:
    """Live letters, beside the fault and alone."""
    took = f"{seen.beside_s:.2f} s" if seen.beside_s else "longer than the fault"
    if not 0 < seen.beside_s <= seen.bound_s or seen.meanwhile == 0:
        text = (
            f"{seen.arrived} of {len(seen.live_tokens)} letters to others arrived; they took {took}"
            f" beside {', '.join(seen.plan.bad)}, and {seen.alone_s:.2f} s alone;"
            f" while a connection hung there, {seen.meanwhile} of them were taken"
        )
        yield Finding(name="delayed", text=text)


def visits(seen: Seen, name: str) -> Visits:
    """Attempts at a bad destination, while it was bad; one that is open then has no end yet."""
    return [
        (each.came_s, each.gone_s or seen.mended_s)
        for each in seen.hosts.hops[name].attempts
        if each.came_s < seen.mended_s
    ]


def pace(seen: Seen, target: str) -> Iterator[Finding]:
    """Pauses between attempts, where the target's schedule is known.  Nothing of a destination
    whose letter was sent again, since its answer was lost: each copy has pauses of its own.
    """
    schedule = schedules.schedule_of(target)
    if schedule is None:
        return
    copies = Counter(
        name
        for each in seen.books.sendings.values()
        for name in map(places.destination, each.recipients)
    )
    for name in seen.plan.bad:
        if name in seen.hosts.hops and copies[name] <= 1:
            seen_there = visits(seen, name)
            busy_s = min(seen.bound_s, BUSIEST_S)
            for each in schedules.judge(name, seen_there, schedule, seen.mended_s, busy_s):
                yield Finding(name=_at(each.name, name), text=each.text)
