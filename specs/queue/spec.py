"""The queue: from a client's message to its mailboxes, with crash, kill and restart as actions.

    client --sent--> smtpd --> enqueue: created, written, synced, committed --> smtpd: replied
                                  |
                                  '--> qmgr: dispatched --> local: written, delivered, reported
                                         '<-- marked; freed when every recipient is

Rules that the implementation must keep, and that hold here because of these actions:
- a 250 is sent only after file and directory were synced; one directory sync commits a group;
- enqueue alone says which chunks are committed: after each commit, at its own start (what is whole
  is committed, what is torn is set aside) and when qmgr starts anew;
- a mark is written after the delivery was reported, a chunk freed after its last mark;
- when qmgr has died, its agents are ended before the next one starts;
- whoever waits for enqueue when it dies is answered 451: nothing is known about the message.

Duplicates, only by these windows:
- delivered_not_marked: delivered, and the agent or the machine went before the mark was durable;
- qmgr_dead_in_flight: delivered, and qmgr went before it marked;
- reply_lost: the message survived, but the client lost the connection before our 250;
- refused_but_survived: answered 451 (a failed directory sync, or enqueue died), yet it survived.

What one mail does alone is worked out once for all states in which the others differ (`alone`).

Not here: deferral and retries, bounces, remote delivery, disk full, a client that gives up early.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import product

from specs.kernel.explore import Spec
from specs.queue.disk import (
    DELIVERED_NOT_MARKED,
    QMGR_DEAD_IN_FLIGHT,
    directory_synced,
    gone,
    noted,
    survivors,
    undone,
    unlinked,
)
from specs.queue.invariants import invariants, settled
from specs.queue.states import Bounds, Copy, Mail, Recipient, State, canonical

FAULTS = frozenset(
    {
        "connection.lost",
        "smtpd.killed",
        "enqueue.sync_failed",
        "enqueue.killed",
        "qmgr.killed",
        "local.killed",
        "machine.crashed",
    }
)
ACTIONS = FAULTS | {
    "client.sent",
    "smtpd.replied",
    "smtpd.refused",
    "enqueue.created",
    "enqueue.written",
    "enqueue.synced",
    "enqueue.committed",
    "enqueue.abandoned",
    "enqueue.restarted",
    "qmgr.dispatched",
    "qmgr.marked",
    "qmgr.freed",
    "qmgr.restarted",
    "local.written",
    "local.delivered",
    "local.reported",
    "disk.settled",
}

Step = tuple[str, State]
BEFORE_COMMIT = frozenset({"none", "created", "written", "synced"})


def start(bounds: Bounds) -> Iterator[State]:
    yield State(mails=tuple(map(Mail, bounds.recipients)), faults=bounds.faults)


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
        for action, which, changed in alone(mail, state.enqueue, state.qmgr, state.faults > 0):
            following = _with_mail(state, number, changed)
            yield f"{action}({number}{which})", _paid(action, following)


def _with_mail(state: State, number: int, mail: Mail) -> State:
    mails = state.mails
    changed = (*mails[:number], mail, *mails[number + 1 :])
    return State(changed, state.enqueue, state.qmgr, state.faults)


def _with_copy(mail: Mail, index: int, copy: Copy) -> Mail:
    return mail._replace(copies=(*mail.copies[:index], copy, *mail.copies[index + 1 :]))


def _paid(action: str, state: State) -> State:
    """A fault uses up one of those that may happen."""
    return state._replace(faults=state.faults - 1) if action in FAULTS else state


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
        fresh = Copy(recipients=(Recipient(),) * mail.recipients)
        changed = mail._replace(copies=(*mail.copies, fresh))
        yield f"client.sent({number})", _with_mail(state, number, changed)


def _sends(state: State, mail: Mail, bounds: Bounds) -> bool:
    """Whether the client has a reason to send (again) now."""
    if not mail.copies:
        return True
    if sum(max(0, len(each.copies) - 1) for each in state.mails) >= bounds.resends:
        return False
    last = mail.copies[-1]
    quiet = last.progress == "ended" and last.name in {"absent", "removed"}
    return last.client in {"lost", "refused"} and (quiet or not bounds.patient)


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


@lru_cache(maxsize=1 << 18)
def alone(mail: Mail, enqueue: bool, qmgr: bool, may_fail: bool) -> tuple[Alone, ...]:
    """The steps of one mail, given who is up and whether a fault may happen."""
    found: list[Alone] = []
    for index, copy in enumerate(mail.copies):
        steps = [("", action, after) for action, after in _session(copy, may_fail)]
        if enqueue:
            steps += [("", action, after) for action, after in _enqueue(copy)]
        steps += _delivery(copy, qmgr, may_fail)
        found += [(action, which, _with_copy(mail, index, after)) for which, action, after in steps]
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


def _delivery(copy: Copy, qmgr: bool, may_fail: bool) -> list[tuple[str, str, Copy]]:
    """qmgr and the delivery agents."""
    found = []
    for index, recipient in enumerate(copy.recipients):
        for action, changed in _one_recipient(copy, recipient, qmgr, may_fail):
            recipients = (*copy.recipients[:index], changed, *copy.recipients[index + 1 :])
            found.append((f",{index}", action, copy._replace(recipients=recipients)))
    if qmgr and copy.listed and all(each.phase == "marked" for each in copy.recipients):
        found.append(("", "qmgr.freed", unlinked(copy)))
    return found


def _one_recipient(
    copy: Copy, recipient: Recipient, qmgr: bool, may_fail: bool
) -> Iterator[tuple[str, Recipient]]:
    match recipient.phase:
        case "pending" if qmgr and copy.listed:
            yield "qmgr.dispatched", recipient._replace(phase="dispatched")
        case "dispatched":
            yield "local.written", recipient._replace(phase="written")
        case "written":
            done = recipient._replace(phase="delivered", deliveries=recipient.deliveries + 1)
            yield "local.delivered", done
        case "delivered":
            yield "local.reported", recipient._replace(phase="reported")
        case "reported" if qmgr:
            yield "qmgr.marked", recipient._replace(phase="marked")
    if may_fail and recipient.phase in {"dispatched", "written", "delivered"}:
        for left in undone(recipient, DELIVERED_NOT_MARKED, marks_lost=False):
            yield "local.killed", left


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
    choices = [
        list(undone(recipient, QMGR_DEAD_IN_FLIGHT, marks_lost=False))
        for recipient in copy.recipients
    ]
    return [copy._replace(recipients=chosen) for chosen in product(*choices)]


def _cut_off(copy: Copy) -> list[Copy]:
    """A client that waits loses its connection; one that was answered may not have heard it."""
    lost = copy._replace(client="lost")
    return {"waiting": [lost], "answered": [lost, copy]}.get(copy.client, [copy])


def queue_spec(bounds: Bounds) -> Spec[State]:
    """The spec within these bounds."""
    return Spec(
        name="queue",
        bounds=str(bounds),
        start=lambda: start(bounds),
        next=lambda state: next_states(state, bounds),
        actions=ACTIONS,
        invariants=invariants(bounds),
        canonical=canonical,
        settled=settled,
    )
