"""The queue: from a client's message to its mailboxes and next hops, or to a report to its sender;
with crash, kill and restart as actions.

    client --sent--> smtpd --> enqueue: created, written, synced, committed --> smtpd: replied
                                  |
                                  '--> qmgr: dispatched --> local: written, delivered, reported
                                         |      |                                        |
                                         |      '--> hop.accepted, remote: sent, reported |
                                         '<-- marked; freed when every recipient is done -'

    refused, or its lifetime is over: qmgr: failed, asked --> bounce submits a report to enqueue
    (a copy like any other), heard that it is kept: bounce.reported --> qmgr: reported

Rules that the implementation must keep, and that hold here because of these actions:
- a 250 is sent only after file and directory were synced; one directory sync commits a group;
- enqueue alone says which chunks are committed: after each commit, at its own start (what is whole
  is committed, what is torn is set aside) and when qmgr starts anew;
- a mark is written after the delivery was reported, a chunk freed after its last mark;
- a recipient that failed is marked as done only after its report is kept, or if the sender is null;
- a report has a null sender, so that there is none about a report;
- when qmgr has died, its agents are ended before the next one starts;
- whoever waits for enqueue when it dies is answered 451: nothing is known about the message.

Duplicates, only by these windows:
- delivered_not_marked: delivered, and the agent or the machine went before the mark was durable;
- qmgr_dead_in_flight: delivered, and qmgr went before it marked;
- remote_reply_lost: the next hop took it, but its 250 did not arrive;
- report_not_marked: a report was, or may have been, kept, and bounce, qmgr or the machine went
  before the mark was durable: a second report, or a delivery although a report was sent;
- report_refused_but_survived: a report whose commit failed, as below, survived all the same;
- reply_lost: the message survived, but the client lost the connection before our 250;
- refused_but_survived: answered 451 (a failed directory sync, or enqueue died), yet it survived.

Abstractions. Bounce is always up (it starts on use) and makes one report at a time per message;
when qmgr dies, the report that it waits for counts as one whose bounce has died. Reports go to
local senders; with `followed=False` in the bounds a report is explored until it is committed, and
then leaves at once: from there on it is a message with a null sender, and as such explored by
other bounds. A deferral or refusal is a setback, of which the bounds allow a number; a deferral
leads to a further try or to the end of the lifetime.

What one mail does alone is worked out once for all states in which the others differ (`alone`).

Not here: delay warnings, copies for a postmaster, aliases, what an operator does, disk full, a
client that gives up early; and times (specs/schedule).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from specs.kernel.explore import Spec
from specs.queue.actions import FAULTS, SETBACKS, actions
from specs.queue.disk import (
    DELIVERED_NOT_MARKED,
    QMGR_DEAD_IN_FLIGHT,
    REMOTE_REPLY_LOST,
    REPORT_NOT_MARKED,
    REPORT_REFUSED,
    directory_synced,
    gone,
    licensed,
    noted,
    survivors,
    undone,
    unlinked,
)
from specs.queue.invariants import invariants, settled
from specs.queue.states import (
    LOCAL,
    SETTLED,
    Bounds,
    Copy,
    Mail,
    Recipient,
    State,
    canonical,
)

Step = tuple[str, State]
BEFORE_COMMIT = frozenset({"none", "created", "written", "synced"})


def start(bounds: Bounds) -> Iterator[State]:
    yield State(mails=bounds.mails(), faults=bounds.faults, setbacks=bounds.setbacks)


def next_states(state: State, bounds: Bounds) -> Iterator[Step]:
    """Every action that is possible; while a crash is being settled, nothing else is."""
    for number, mail in enumerate(state.mails):
        if mail.crashed:
            for left in survivors(mail):
                yield f"disk.settled({number})", _with_mail(state, number, left)
            return
    yield from _machine(state)
    for number, mail in enumerate(state.mails):
        yield from _sent(state, number, mail, bounds)
        if state.enqueue:
            yield from _created(state, number, mail)
        chance = Chance(state.enqueue, state.qmgr, state.faults > 0, state.setbacks > 0)
        for action, which, changed in alone(mail, chance):
            following = _with_mail(state, number, changed)
            yield f"{action}({number}{which})", _paid(action, following)


def _with_mail(state: State, number: int, mail: Mail) -> State:
    mails = state.mails
    changed = (*mails[:number], mail, *mails[number + 1 :])
    return State(changed, state.enqueue, state.qmgr, state.faults, state.setbacks)


def _with_copy(mail: Mail, index: int, copy: Copy) -> Mail:
    return mail._replace(copies=(*mail.copies[:index], copy, *mail.copies[index + 1 :]))


def _paid(action: str, state: State) -> State:
    """A fault or a setback uses up one of those that may happen."""
    if action in FAULTS:
        return state._replace(faults=state.faults - 1)
    return state._replace(setbacks=state.setbacks - 1) if action in SETBACKS else state


def _every_copy(state: State, change: Callable[[Copy], Copy]) -> State:
    return state._replace(
        mails=tuple(
            mail._replace(copies=tuple(change(copy) for copy in mail.copies))
            for mail in state.mails
        )
    )


def _all_choices(state: State, choices: Callable[[Copy], list[Copy]]) -> Iterator[State]:
    """Every combination of a choice for each copy."""
    per_mail = [
        [
            mail._replace(copies=chosen)
            for chosen in product(*(choices(copy) for copy in mail.copies))
        ]
        for mail in state.mails
    ]
    for mails in product(*per_mail):
        yield state._replace(mails=mails)


# ---- what depends on the other mails --------------------------------------------------------


def _sent(state: State, number: int, mail: Mail, bounds: Bounds) -> Iterator[Step]:
    if _sends(state, mail, bounds):
        fresh = Copy(recipients=tuple(map(Recipient, mail.recipients)))
        changed = mail._replace(copies=(*mail.copies, fresh))
        yield f"client.sent({number})", _with_mail(state, number, changed)


def _sends(state: State, mail: Mail, bounds: Bounds) -> bool:
    """Whether the client has a reason to send (again) now."""
    if not mail.copies:
        return True
    if sum(max(0, len(each.sent) - 1) for each in state.mails) >= bounds.resends:
        return False
    last = mail.sent[-1]
    return last.client in {"lost", "refused"} and (_quiet(mail, last) or not bounds.patient)


def _quiet(mail: Mail, last: Copy) -> bool:
    """The former copy has left the queue, and so has any report about it."""
    return all(
        copy.progress == "ended" and copy.name in {"absent", "removed"}
        for copy in (last, *mail.reports)
    )


def _created(state: State, number: int, mail: Mail) -> Iterator[Step]:
    for index, copy in enumerate(mail.copies):
        if copy.progress == "none" and copy.client == "waiting":
            created = copy._replace(
                progress="created", name="volatile", queue_id=_fresh_queue_id(state)
            )
            changed = _with_copy(mail, index, created)
            yield f"enqueue.created({number})", _with_mail(state, number, changed)


def _fresh_queue_id(state: State) -> int:
    used = {copy.queue_id for mail in state.mails for copy in mail.copies}
    return max(used) + 1


# ---- what a mail does alone -----------------------------------------------------------------

Alone = tuple[str, str, Mail]
"""An action, which recipient (",1") or "", and the mail afterwards."""


class Chance(NamedTuple):
    """Who is up, and what may happen."""

    enqueue: bool
    qmgr: bool
    fault: bool
    setback: bool


@lru_cache(maxsize=1 << 18)
def alone(mail: Mail, chance: Chance) -> tuple[Alone, ...]:
    """The steps of one mail, given who is up and what may happen."""
    found: list[Alone] = []
    for index, copy in enumerate(mail.copies):
        steps: list[tuple[str, str, Copy]] = []
        if copy.about < 0:
            steps += [("", action, after) for action, after in _session(copy, chance.fault)]
        if chance.enqueue:
            steps += [("", action, after) for action, after in _enqueue(copy)]
        steps += _delivery(copy, chance, has_sender=mail.has_sender(copy))
        found += [(action, which, _with_copy(mail, index, after)) for which, action, after in steps]
    found += [(action, "", after) for action, after in _reporting(mail, chance)]
    return tuple(found)


def _session(copy: Copy, may_fail: bool) -> Iterator[tuple[str, Copy]]:
    """The client and its smtpd."""
    if copy.client == "waiting" and copy.progress == "committed":
        answered = copy._replace(client="answered", acknowledged=True, progress="ended")
        yield "smtpd.replied", answered
    if copy.client == "waiting" and copy.progress == "failed":
        yield "smtpd.refused", copy._replace(client="refused", progress="ended")
    if may_fail and copy.client in {"waiting", "answered"}:
        lost = copy._replace(client="lost")
        yield "connection.lost", lost
        yield "smtpd.killed", lost


def _enqueue(copy: Copy) -> Iterator[tuple[str, Copy]]:
    match copy.progress:
        case "created":
            yield "enqueue.written", copy._replace(progress="written", data="volatile")
        case "written":
            yield "enqueue.synced", noted(copy._replace(progress="synced", data="durable"))
    if copy.client == "lost" and copy.progress in {"none", "created", "written"}:
        dropped = unlinked(copy) if copy.name != "absent" else gone(copy)
        yield "enqueue.abandoned", dropped._replace(progress="ended")
    if copy.client == "lost" and copy.progress in {"committed", "failed"}:
        yield "enqueue.abandoned", copy._replace(progress="ended")


def _delivery(copy: Copy, chance: Chance, *, has_sender: bool) -> list[tuple[str, str, Copy]]:
    """qmgr and the delivery agents."""
    found = []
    for index, recipient in enumerate(copy.recipients):
        steps = [*_by_agent(recipient, chance)]
        if chance.qmgr:
            steps += _by_qmgr(copy, recipient, has_sender=has_sender)
        for action, changed in steps:
            recipients = (*copy.recipients[:index], changed, *copy.recipients[index + 1 :])
            found.append((f",{index}", action, copy._replace(recipients=recipients)))
    if chance.qmgr and copy.listed and all(each.phase in SETTLED for each in copy.recipients):
        found.append(("", "qmgr.freed", unlinked(copy)))
    return found


def _by_agent(recipient: Recipient, chance: Chance) -> Iterator[tuple[str, Recipient]]:
    """local or remote, and the next hop."""
    moves = LOCAL_MOVES if recipient.kind == LOCAL else REMOTE_MOVES
    if recipient.phase in moves:
        action, phase, deliveries = moves[recipient.phase]
        done = recipient.deliveries + deliveries
        yield action, recipient._replace(phase=phase, deliveries=done)
    if chance.setback and recipient.phase == "dispatched":
        yield "agent.deferred", recipient._replace(phase="put_off")
        yield "agent.failed", recipient._replace(phase="rejected", refused=True)
    if chance.fault and recipient.phase in moves:
        for left in undone(recipient, DELIVERED_NOT_MARKED, marks_lost=False):
            yield f"{recipient.kind}.killed", left
    if chance.fault and recipient.phase == "accepted":
        yield "remote.reply_lost", licensed(recipient, "put_off", REMOTE_REPLY_LOST)


LOCAL_MOVES = {
    "dispatched": ("local.written", "written", 0),
    "written": ("local.delivered", "delivered", 1),
    "delivered": ("local.reported", "reported", 0),
}
REMOTE_MOVES = {
    "dispatched": ("hop.accepted", "accepted", 1),
    "accepted": ("remote.sent", "delivered", 0),
    "delivered": ("remote.reported", "reported", 0),
}


def _by_qmgr(
    copy: Copy, recipient: Recipient, *, has_sender: bool
) -> Iterator[tuple[str, Recipient]]:
    """What qmgr makes of outcomes, and of those that wait."""
    match recipient.phase:
        case "pending" if copy.listed:
            yield "qmgr.dispatched", recipient._replace(phase="dispatched")
        case "reported":
            yield "qmgr.marked", recipient._replace(phase="marked")
        case "put_off":
            yield "qmgr.deferred", recipient._replace(phase="deferred")
        case "deferred" if copy.listed:
            yield "qmgr.retried", recipient._replace(phase="pending")
            yield "qmgr.expired", recipient._replace(phase="failed", refused=True)
        case "rejected":
            yield "qmgr.failed", recipient._replace(phase="failed")
        case "failed" if copy.listed and not has_sender:
            yield "qmgr.discarded", recipient._replace(phase="discarded")
        case "told":
            yield "qmgr.reported", recipient._replace(phase="closed")


# ---- reports --------------------------------------------------------------------------------


def _reporting(mail: Mail, chance: Chance) -> Iterator[tuple[str, Mail]]:
    """The bounce role, which is the client of a report's copy."""
    for index, copy in enumerate(mail.copies):
        phases = {recipient.phase for recipient in copy.recipients}
        idle = phases.isdisjoint({"telling", "told"})
        if chance.qmgr and copy.listed and "failed" in phases and idle and mail.has_sender(copy):
            yield "qmgr.asked", _asked(mail, index)
        if chance.fault and "told" in phases:
            yield "bounce.killed", _about(mail, index, "told", _untold(REPORT_NOT_MARKED))
    for index, report in enumerate(mail.copies):
        if report.about >= 0 and report.client == "waiting":
            yield from _submitting(mail, index, report, chance.fault)


def _asked(mail: Mail, index: int) -> Mail:
    """One report about all recipients of a copy that have failed by now."""
    begun = _about(
        mail, index, "failed", lambda each: each._replace(phase="telling", reports=each.reports + 1)
    )
    recipients = (Recipient(),) if mail.followed else ()
    return begun._replace(copies=(*begun.copies, Copy(recipients=recipients, about=index)))


def _submitting(mail: Mail, index: int, report: Copy, may_fail: bool) -> Iterator[tuple[str, Mail]]:
    if report.progress == "committed":
        answered = report._replace(client="answered", acknowledged=True, progress="ended")
        kept = _with_copy(mail, index, answered)
        yield (
            "bounce.reported",
            _about(
                kept, report.about, "telling", lambda each: each._replace(phase="told", told=True)
            ),
        )
    if report.progress == "failed":
        refused = _with_copy(mail, index, report._replace(client="refused", progress="ended"))
        yield "bounce.refused", _about(refused, report.about, "telling", _untold(REPORT_REFUSED))
    if may_fail:
        lost = _with_copy(mail, index, report._replace(client="lost"))
        yield "bounce.killed", _about(lost, report.about, "telling", _untold(REPORT_NOT_MARKED))


def _untold(window: str) -> Callable[[Recipient], Recipient]:
    """Nobody knows of a report: qmgr will ask for another."""
    return lambda recipient: licensed(recipient, "failed", window)


def _about(mail: Mail, index: int, phase: str, change: Callable[[Recipient], Recipient]) -> Mail:
    """The mail with each recipient of a copy that is in this phase changed."""
    copy = mail.copies[index]
    recipients = tuple(change(each) if each.phase == phase else each for each in copy.recipients)
    return _with_copy(mail, index, copy._replace(recipients=recipients))


# ---- the machine, and what concerns every mail at once --------------------------------------


def _machine(state: State) -> Iterator[Step]:
    if state.enqueue:
        yield from _commit(state)
    else:
        yield "enqueue.restarted", _every_copy(state._replace(enqueue=True), _recovered)
    if not state.qmgr:
        for after in _all_choices(state._replace(qmgr=True), _agents_ended):
            yield "qmgr.restarted", after
    for action, after in _fallen(state) if state.faults else ():
        yield action, _paid(action, after)


def _fallen(state: State) -> Iterator[Step]:
    """A process is killed, or the machine crashes."""
    if state.enqueue:
        for after in _all_choices(state._replace(enqueue=False), _abandoned_by_enqueue):
            yield "enqueue.killed", after
    if state.qmgr:
        yield "qmgr.killed", state._replace(qmgr=False)
    if any(mail.copies for mail in state.mails):
        for after in _all_choices(state._replace(enqueue=False, qmgr=False), _cut_off):
            crashed = tuple(mail._replace(crashed=bool(mail.copies)) for mail in after.mails)
            yield "machine.crashed", after._replace(mails=crashed)


def _commit(state: State) -> Iterator[Step]:
    """One directory sync for every message whose file is synced; it may fail for all of them."""
    group = [
        number
        for number, mail in enumerate(state.mails)
        if any(copy.progress == "synced" for copy in mail.copies)
    ]
    if not group:
        return
    names = ",".join(map(str, group))
    yield f"enqueue.committed({names})", _every_copy(directory_synced(state), _committed)
    if state.faults:
        refused = _every_copy(state, _refused)
        yield f"enqueue.sync_failed({names})", _paid("enqueue.sync_failed", refused)


def _committed(copy: Copy) -> Copy:
    if copy.progress == "synced":
        return copy._replace(progress="committed", listed=True)
    return copy


def _refused(copy: Copy) -> Copy:
    if copy.progress == "synced":
        return unlinked(copy._replace(progress="failed"))
    return copy


def _abandoned_by_enqueue(copy: Copy) -> list[Copy]:
    """Enqueue is dead: smtpd may or may not have heard that this one is committed."""
    if copy.progress in BEFORE_COMMIT:
        return [copy._replace(progress="failed")]
    if copy.progress == "committed":
        return [copy, copy._replace(progress="failed")]
    return [copy]


def _recovered(copy: Copy) -> Copy:
    """Enqueue starts: what is whole is in the queue, what is torn is set aside."""
    if copy.name not in {"volatile", "durable"}:
        return copy
    if copy.data == "partial":
        return gone(copy)
    return copy._replace(listed=True)


def _agents_ended(copy: Copy) -> list[Copy]:
    """Before the next qmgr starts; what they had delivered is not known to it."""
    copy = _deserted(copy)
    choices = [
        list(undone(recipient, QMGR_DEAD_IN_FLIGHT, marks_lost=False))
        for recipient in copy.recipients
    ]
    return [copy._replace(recipients=chosen) for chosen in product(*choices)]


def _deserted(copy: Copy) -> Copy:
    """A report whose bounce is dead, if bounce was waiting."""
    if copy.about >= 0 and copy.client == "waiting":
        return copy._replace(client="lost")
    return copy


def _cut_off(copy: Copy) -> list[Copy]:
    """A client that waits loses its connection; one that was answered may not have heard it."""
    if copy.about >= 0:
        return [_deserted(copy)]
    lost = copy._replace(client="lost")
    return {"waiting": [lost], "answered": [lost, copy]}.get(copy.client, [copy])


def queue_spec(bounds: Bounds) -> Spec[State]:
    """The spec within these bounds."""
    return Spec(
        name="queue",
        bounds=str(bounds),
        start=lambda: start(bounds),
        next=lambda state: next_states(state, bounds),
        actions=actions(bounds),
        invariants=invariants(bounds),
        canonical=canonical,
        settled=settled,
    )
