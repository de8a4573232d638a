"""Delivery state: stories, the table of rows, and a search of a small world with crashes.

The world (`World`) is what delivery is for: mailboxes that count what arrives, marks on a disk,
agents that may die, a queue manager that may crash, a power cut that may take the latest marks.
Every order of its actions is searched, and in each state: nothing is lost, and no mailbox has a
message twice except for a window that was opened.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refmta.protocol import delivery
from refmta.protocol.delivery import (
    AgentLost,
    AppendMark,
    Dispatched,
    Due,
    Event,
    Expanded,
    Free,
    Held,
    ImpossibleError,
    Mark,
    MarkError,
    Message,
    Outcome,
    Recipient,
    Released,
    Removed,
    Reported,
    Retried,
    Retry,
    Status,
    Undeliverable,
    Warned,
    replay,
    start,
    step,
    to_dispatch,
    to_resolve,
    with_status,
)
from refmta.protocol.routing import Target


def target(place: str) -> Target:
    return Target(kind="system", user=place, mailbox="Maildir", address=f"{place}@example.org")


P, Q, R = target("p"), target("q"), target("r")


def outcome(index: int, kind: delivery.OutcomeKind, when_s: int = 0) -> Outcome:
    codes = {"delivered": "2.0.0", "deferred": "4.2.2", "failed": "5.2.1"}
    return Outcome(index, kind, codes[kind], kind, when_s)


def mark(kind: delivery.MarkKind, index: int, attempt: int, place: Target | None = None) -> Mark:
    codes = {"delivered": "2.0.0", "deferred": "4.2.2", "failed": "5.2.1"}
    named = () if place is None else (place.kind, place.user, place.mailbox)
    return Mark(kind, index, attempt, 0, codes[kind], kind, named)


def aim(index: int, *targets: Target) -> Expanded:
    return Expanded(index, targets, 0)


def run(message: Message, *events: Event) -> tuple[Message, list[delivery.Effect]]:
    effects: list[delivery.Effect] = []
    for event in events:
        message, further = step(message, event)
        effects += further
    return message, effects


# --- stories: recipients, events, effects, statuses ----------------------------------------------

GO = Dispatched((0,))
DELIVERED_0, DEFERRED_0, FAILED_0 = (
    outcome(0, "delivered"),
    outcome(0, "deferred"),
    outcome(0, "failed"),
)

STORIES: dict[str, tuple[str, tuple[Event, ...], list[delivery.Effect], str]] = {
    "one recipient needs no mark": (
        "a", (aim(0, P), GO, DELIVERED_0), [Free((mark("delivered", 0, 0, P),))], "delivered"),
    "the last of two needs no mark": (
        "a b",
        (aim(0, P), aim(1, Q), Dispatched((0, 1)), outcome(1, "delivered"), DELIVERED_0),
        [AppendMark((mark("delivered", 1, 0, Q),)), Free((mark("delivered", 0, 0, P),))],
        "delivered delivered"),
    "deferred, due, delivered": (
        "a",
        (aim(0, P), GO, DEFERRED_0, Due((0,)), aim(0, Q), GO, DELIVERED_0),
        [AppendMark((mark("deferred", 0, 1),)), Retry(0, 1),
         Free((mark("delivered", 0, 1, Q),))],
        "delivered"),
    "deferred twice": (
        "a",
        (aim(0, P), GO, DEFERRED_0, Due((0,)), aim(0, P), GO, DEFERRED_0),
        [AppendMark((mark("deferred", 0, 1),)), Retry(0, 1),
         AppendMark((mark("deferred", 0, 2),)), Retry(0, 2)],
        "deferred"),
    "a failed recipient keeps the chunk": (
        "a b",
        (aim(0, P), aim(1, Q), Dispatched((0, 1)), FAILED_0, outcome(1, "delivered")),
        [AppendMark((mark("failed", 0, 1),)), Undeliverable((0,)),
         AppendMark((mark("delivered", 1, 0, Q),))],
        "failed delivered"),
    "the operator retries what failed": (
        "a", (FAILED_0, Due((0,)), Retried((0,)), aim(0, P), GO, DELIVERED_0),
        [AppendMark((mark("failed", 0, 1),)), Undeliverable((0,)),
         Free((mark("delivered", 0, 1, P),))],
        "delivered"),
    "given up when its lifetime is over": (
        "a", (DEFERRED_0, FAILED_0),
        [AppendMark((mark("deferred", 0, 1),)), Retry(0, 1),
         AppendMark((mark("failed", 0, 2),)), Undeliverable((0,))],
        "failed"),
    "resolve refuses": (
        "a", (FAILED_0,), [AppendMark((mark("failed", 0, 1),)), Undeliverable((0,))], "failed"),
    "a lost agent": (
        "a", (aim(0, P), GO, AgentLost((0,)), GO, DELIVERED_0),
        [Free((mark("delivered", 0, 0, P),))], "delivered"),
    "a lost agent's answer that was on its way": (
        "a", (aim(0, P), GO, AgentLost((0,)), DELIVERED_0),
        [Free((mark("delivered", 0, 0, P),))], "delivered"),
    "an alias with one target": (
        "list b", (aim(0, P), GO, DELIVERED_0),
        [AppendMark((mark("delivered", 0, 0, P),))], "delivered pending"),
    "an alias with two": (
        "list",
        (aim(0, P, Q), Dispatched((1, 2)), outcome(2, "delivered"), outcome(1, "delivered")),
        [AppendMark((Mark("expanded", 0, 0, 0, targets=("p@example.org", "q@example.org")),)),
         AppendMark((mark("delivered", 2, 0, Q),)), Free((mark("delivered", 1, 0, P),))],
        "expanded delivered delivered"),
    "two recipients, one mailbox": (
        "a b",
        (aim(0, P), aim(1, P), GO, DELIVERED_0),
        [Free((mark("delivered", 0, 0, P), mark("delivered", 1, 0, P)))], "delivered delivered"),
    "twins share one append": (
        "a b c",
        (aim(0, P), aim(1, P), GO, DELIVERED_0),
        [AppendMark((mark("delivered", 0, 0, P), mark("delivered", 1, 0, P)))],
        "delivered delivered pending"),
    "a twin that comes after the delivery": (
        "a b c",
        (aim(0, P), GO, DELIVERED_0, aim(1, P)),
        [AppendMark((mark("delivered", 0, 0, P),)),
         AppendMark((Mark("delivered", 1, 0, 0, targets=("system", "p", "Maildir")),))],
        "delivered delivered pending"),
    "twins are deferred together, and each resolves anew": (
        "a b",
        (aim(0, P), aim(1, P), GO, DEFERRED_0, Due((1,)), aim(1, Q), Dispatched((1,)),
         outcome(1, "delivered")),
        [AppendMark((mark("deferred", 0, 1), mark("deferred", 1, 1))), Retry(0, 1), Retry(1, 1),
         AppendMark((mark("delivered", 1, 1, Q),))],
        "deferred delivered"),
    "twins fail together": (
        "a b", (aim(0, P), aim(1, P), GO, FAILED_0),
        [AppendMark((mark("failed", 0, 1), mark("failed", 1, 1))), Undeliverable((0, 1))],
        "failed failed"),
    "an alias that meets a mailbox already served": (
        "a list",
        (aim(0, P), GO, DELIVERED_0, aim(1, P, Q), Dispatched((3,)), outcome(3, "delivered")),
        [AppendMark((mark("delivered", 0, 0, P),)),
         AppendMark((Mark("expanded", 1, 0, 0, targets=("p@example.org", "q@example.org")),)),
         AppendMark((Mark("delivered", 2, 0, 0, targets=("system", "p", "Maildir")),)),
         Free((mark("delivered", 3, 0, Q),))],
        "delivered expanded delivered delivered"),
    "an alias all of whose mailboxes are served": (
        "a b list",
        (aim(0, P), aim(1, Q), Dispatched((0, 1)), DELIVERED_0, outcome(1, "delivered"),
         aim(2, P, Q)),
        [AppendMark((mark("delivered", 0, 0, P),)),
         AppendMark((mark("delivered", 1, 0, Q),)),
         AppendMark((Mark("expanded", 2, 0, 0, targets=("p@example.org", "q@example.org")),)),
         AppendMark((Mark("delivered", 3, 0, 0, targets=("system", "p", "Maildir")),)),
         Free((Mark("delivered", 4, 0, 0, targets=("system", "q", "Maildir")),))],
        "delivered delivered expanded delivered delivered"),
    "held and released": (
        "a", (Held(5), Held(6), Released(7), Released(8)),
        [AppendMark((Mark("held", -1, 0, 5),)), AppendMark((Mark("released", -1, 0, 7),))],
        "pending"),
    "removed": (
        "a b", (aim(0, P), GO, Removed(), DELIVERED_0, Held(1)), [Free()], "in flight pending"),
    "a second answer of resolve is too late": (
        "a b", (aim(0, P), aim(1, P), aim(0, Q), GO, aim(0, Q), DELIVERED_0, aim(0, Q)),
        [Free((mark("delivered", 0, 0, P), mark("delivered", 1, 0, P)))], "delivered delivered"),
    "a second outcome changes nothing": (
        "a b", (aim(0, P), GO, DELIVERED_0, DEFERRED_0, FAILED_0),
        [AppendMark((mark("delivered", 0, 0, P),))], "delivered pending"),
}  # fmt: skip


@pytest.mark.parametrize("name", STORIES)
def test_story(name: str) -> None:
    recipients, events, expected, statuses = STORIES[name]
    message, effects = run(start("0ABC", 0, recipients.split()), *events)
    assert effects == expected
    assert [recipient.status.value for recipient in message.recipients] == [
        status.replace("_", " ") for status in statuses.replace("in flight", "in_flight").split()
    ]
    assert structure_broken(message) == []


def test_what_is_to_be_done() -> None:
    message = start("0ABC", 0, ["a", "b", "c"])
    assert to_resolve(message) == (0, 1, 2)
    message, _ = run(message, aim(0, P), aim(1, P))
    assert (to_resolve(message), to_dispatch(message)) == ((2,), (0,))
    held, _ = step(message, Held(1))
    assert (to_resolve(held), to_dispatch(held)) == ((), ())
    gone, _ = step(message, Removed())
    assert (to_resolve(gone), to_dispatch(gone)) == ((), ())
    assert with_status(message, Status.PENDING) == (0, 1, 2)


def test_the_rows_are_total() -> None:
    assert set(delivery.EVENTS) == set(Event.__args__)
    for row in delivery.RECIPIENT_ROWS.values():
        assert set(row) == set(Status)
    assert set(delivery.RECIPIENT_ROWS) == set(Event.__args__) - {
        Held, Released, Removed, Warned,
    }  # fmt: skip


#: what makes the first of two recipients have this status
WAYS: dict[Status, tuple[Event, ...]] = {
    Status.PENDING: (),
    Status.EXPANDED: (aim(0, P, Q),),
    Status.IN_FLIGHT: (aim(0, P), GO),
    Status.DELIVERED: (aim(0, P), GO, DELIVERED_0),
    Status.DEFERRED: (DEFERRED_0,),
    Status.FAILED: (FAILED_0,),
    Status.REPORTED: (FAILED_0, Reported((0,), "x@example.net", 3)),
}
SAMPLES: dict[type, Event] = {
    Expanded: aim(0, R),
    Dispatched: GO,
    Outcome: outcome(0, "deferred", 9),
    AgentLost: AgentLost((0,)),
    Due: Due((0,)),
    Retried: Retried((0,)),
    Reported: Reported((0,), "x@example.net", 9),
}


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("kind", SAMPLES)
def test_every_row(kind: type, status: Status) -> None:
    before, _ = run(start("0ABC", 0, ["a", "b"]), *WAYS[status])
    if kind is Dispatched and status is Status.PENDING:
        before, _ = run(before, aim(0, R))
    assert before.recipients[0].status is status
    row = delivery.RECIPIENT_ROWS[kind][status]
    if row is delivery.IMPOSSIBLE:
        with pytest.raises(ImpossibleError):
            step(before, SAMPLES[kind])
    else:
        after, effects = step(before, SAMPLES[kind])
        assert (after != before or bool(effects)) is (row is delivery.TAKE)


def test_a_failed_recipient_stays_until_it_is_reported() -> None:
    message, _ = run(start("0ABC", 0, ["a", "b"]), aim(1, Q), Dispatched((1,)), FAILED_0)
    message, effects = step(message, outcome(1, "delivered"))
    assert not message.gone and message.open == 1
    assert not any(isinstance(each, Free) for each in effects)
    done, effects = step(message, Reported((0,), "x@example.net", 5))
    assert done.gone
    assert effects == (Free((Mark("reported", 0, 1, 5, "5.2.1", "x@example.net"),)),)


def test_a_report_is_marked_and_the_mark_means_the_same_after_a_restart() -> None:
    message, _ = run(start("0ABC", 0, ["a", "b"]), FAILED_0)
    after, effects = step(message, Reported((0, 1), "x@example.net", 5))
    assert with_status(after, Status.REPORTED) == (0,)  # b has not failed: nobody was told of it
    assert effects == (AppendMark((Mark("reported", 0, 1, 5, "5.2.1", "x@example.net"),)),)
    failed = Mark("failed", 0, 1, 0, "5.2.1", "failed")
    again, _ = replay(start("0ABC", 0, ["a", "b"]), (failed, *effects[0].marks))
    assert with_status(again, Status.REPORTED) == (0,) and again.open == 1


def test_a_delay_is_told_once_and_that_survives_a_restart() -> None:
    message, effects = step(start("0ABC", 0, ["a"]), Warned(7))
    assert message.warned and effects == (AppendMark((Mark("warned", -1, 0, 7),)),)
    assert step(message, Warned(8)) == (message, ())
    assert replay(start("0ABC", 0, ["a"]), effects[0].marks)[0].warned


def test_a_remote_attempt_is_remembered_as_such_with_who_spoke() -> None:
    far = Target(kind="remote", user="example.net", mailbox="a@example.net", address="a")
    message, _ = run(start("0ABC", 0, ["a"]), Expanded(0, (far,), 0), Dispatched((0,)))
    said = Outcome(0, "deferred", "4.2.0", "450 later", 9, "mx.example.net")
    message, effects = step(message, said)
    assert message.recipients[0].far and message.recipients[0].host == "mx.example.net"
    again, _ = replay(start("0ABC", 0, ["a"]), effects[0].marks)
    assert again.recipients[0].far and again.recipients[0].host == "mx.example.net"


IMPOSSIBLE: dict[str, tuple[Event, ...]] = {
    "no such recipient": (outcome(2, "delivered"),),
    "a negative index": (AgentLost((-1,)),),
    "dispatched before it was resolved": (GO,),
    "a twin dispatched": (aim(0, P), aim(1, P), Dispatched((1,))),
    "dispatched while held": (aim(0, P), Held(1), GO),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_our_mistakes_raise(name: str) -> None:
    with pytest.raises(ImpossibleError):
        run(start("0ABC", 0, ["a", "b"]), *IMPOSSIBLE[name])


def test_sizes_have_limits() -> None:
    with pytest.raises(ValueError, match="1 to"):
        start("0ABC", 0, [])
    with pytest.raises(ValueError, match="1 to"):
        start("0ABC", 0, ["a"] * (delivery.RECIPIENTS + 1))
    with pytest.raises(ValueError, match="no targets"):
        Expanded(0, (), 0)
    full = start("0ABC", 0, ["a"] * (delivery.RECIPIENTS - 1))
    after, effects = step(full, aim(0, P, Q))
    assert after.recipients[0].status is Status.FAILED
    assert effects[-1] == Undeliverable((0,))


def test_twenty_thousand_messages_are_small() -> None:
    """A typical message (one recipient), without its texts: some hundred octets."""
    message = start("0" * 16, 0, ["ada@example.org"])
    message, _ = run(message, aim(0, P), GO)
    (recipient,) = message.recipients
    octets = sum(map(sys.getsizeof, (message, message.recipients, recipient)))
    assert octets < 300
    assert not hasattr(message, "__dict__")
    assert not hasattr(recipient, "__dict__")


# --- after a restart -----------------------------------------------------------------------------

EXPANSION = Mark("expanded", 0, 0, 0, targets=("p@example.org", "q@example.org"))

REPLAYS: dict[str, tuple[tuple[Mark, ...], list[delivery.Effect], str]] = {
    "no marks": ((), [], "pending pending"),
    "one is delivered": ((mark("delivered", 0, 0, P),), [], "delivered pending"),
    "all are delivered": (
        (mark("delivered", 0, 0, P), mark("delivered", 1, 0, Q)), [Free()], "delivered delivered"),
    "deferred twice": (
        (mark("deferred", 0, 1), mark("deferred", 0, 2)), [Retry(0, 2)], "deferred pending"),
    "failed": ((mark("failed", 1, 1),), [Undeliverable((1,))], "pending failed"),
    "failed, retried, delivered": (
        (mark("failed", 1, 1), mark("delivered", 1, 1, P)), [], "pending delivered"),
    "expanded": ((EXPANSION,), [], "expanded pending pending pending"),
    "expanded, and a child delivered": (
        (EXPANSION, mark("delivered", 3, 0, Q), mark("deferred", 1, 1)), [Retry(1, 1)],
        "expanded deferred pending delivered"),
    "a delivered mark without a mailbox": (
        (Mark("delivered", 0, 0, 0),), [], "delivered pending"),
    "a delivered mark with another shape": (
        (Mark("delivered", 0, 0, 0, targets=("remote", "mx.example.com")),), [],
        "delivered pending"),
}  # fmt: skip


@pytest.mark.parametrize("name", REPLAYS)
def test_replay(name: str) -> None:
    marks, expected, statuses = REPLAYS[name]
    message, effects = replay(start("0ABC", 0, ["a", "b"]), marks)
    assert list(effects) == expected
    assert [recipient.status.value for recipient in message.recipients] == statuses.split()
    assert structure_broken(message) == []


def test_replay_of_hold() -> None:
    fresh = start("0ABC", 0, ["a"])
    assert replay(fresh, [Mark("held", -1, 0, 5)])[0].held
    assert not replay(fresh, [Mark("held", -1, 0, 5), Mark("released", -1, 0, 6)])[0].held


def test_replay_keeps_what_the_operator_sees() -> None:
    message, _ = replay(start("0ABC", 0, ["a"]), [Mark("deferred", 0, 3, 77, "4.2.2", "full")])
    assert message.recipients == (
        Recipient("a", Status.DEFERRED, attempt=3, when_s=77, code="4.2.2", text="full"),
    )


BAD_MARKS = {
    "no such recipient": (mark("delivered", 2, 0),),
    "a negative index": (mark("delivered", -1, 0),),
    "delivered twice": (mark("delivered", 0, 0), mark("delivered", 0, 0)),
    "deferred after delivery": (mark("delivered", 0, 0), mark("deferred", 0, 1)),
    "expanded twice": (EXPANSION, EXPANSION),
    "expanded to nobody": (Mark("expanded", 0, 0, 0),),
    "expanded to too many": (Mark("expanded", 0, 0, 0, targets=("x",) * delivery.RECIPIENTS),),
}


@pytest.mark.parametrize("name", BAD_MARKS)
def test_marks_that_we_cannot_have_written(name: str) -> None:
    with pytest.raises(MarkError):
        replay(start("0ABC", 0, ["a", "b"]), BAD_MARKS[name])


# --- the world -----------------------------------------------------------------------------------

#: Where addresses lead; "a" and "b" share a mailbox, "list" has it too.
ROUTES = {
    "a": (P,),
    "b": (P,),
    "c": (Q,),
    "list": (P, Q),
    "p@example.org": (P,),
    "q@example.org": (Q,),
}
PLACES = ("p", "q")


@dataclass(frozen=True, slots=True)
class World:
    """delivered, windows: per mailbox. in_hand: delivered, and the outcome not yet reported."""

    message: Message
    recipients: tuple[str, ...]
    marks: tuple[Mark, ...] = ()
    delivered: tuple[int, int] = (0, 0)
    windows: tuple[int, int] = (0, 0)
    in_hand: frozenset[int] = frozenset()
    freed: bool = False
    faults: int = 0


Move = tuple[str, World]


def begin(*recipients: str) -> World:
    return World(start("0ABC", 0, recipients), recipients)


def moves(world: World, faults: int, troubles: int) -> Iterator[Move]:
    """Every action that may come next. faults: crashes and lost agents; troubles: bad outcomes."""
    yield from crashes(world, faults)
    if world.freed:
        return
    message = world.message
    for index in to_resolve(message):
        where = ROUTES[message.recipients[index].address]
        yield f"resolve {index}", feed(world, Expanded(index, where, 0))
    for index in to_dispatch(message):
        yield f"dispatch {index}", feed(world, Dispatched((index,)))
    for index in with_status(message, Status.IN_FLIGHT):
        yield from in_flight(world, index, faults, troubles)
    for status, event in ((Status.DEFERRED, Due), (Status.FAILED, Retried)):
        for index in with_status(message, status):
            yield f"{event.__name__} {index}", feed(world, event((index,)))


def in_flight(world: World, index: int, faults: int, troubles: int) -> Iterator[Move]:
    recipient = world.message.recipients[index]
    assert recipient.target is not None
    place = recipient.target.user
    rest = world.in_hand - {index}
    if index in world.in_hand:
        done = replace(world, in_hand=rest)
        yield f"report {index}", feed(done, outcome(index, "delivered"))
    else:
        put = replace(world, delivered=plus(world.delivered, place))
        yield f"deliver {index}", replace(put, in_hand=world.in_hand | {index})
        if sum(each.attempt for each in world.message.recipients) < troubles:
            yield f"defer {index}", feed(world, outcome(index, "deferred"))
            yield f"fail {index}", feed(world, outcome(index, "failed"))
    if world.faults < faults:
        lost = replace(world, in_hand=rest, faults=world.faults + 1)
        if index in world.in_hand:
            lost = replace(lost, windows=plus(lost.windows, place))
        yield f"lose agent {index}", feed(lost, AgentLost((index,)))


def crashes(world: World, faults: int) -> Iterator[Move]:
    """The queue manager starts anew, with all marks, or with those that a power cut left."""
    if world.faults >= faults:
        return
    windows = world.windows
    for index in world.in_hand:
        place = world.message.recipients[index].target
        assert place is not None
        windows = plus(windows, place.user)
    kept = range(len(world.marks) + 1) if not world.freed else (len(world.marks),)
    for count in kept:
        opened = windows
        for lost in world.marks[count:]:
            if lost.kind == "delivered":
                opened = plus(opened, lost.targets[1])
        if world.freed:  # the unlink was not durable: who had no mark is delivered to again
            opened = (opened[0] + 1, opened[1] + 1)
        message, effects = replay(start("0ABC", 0, world.recipients), world.marks[:count])
        after = replace(
            world,
            message=message,
            marks=world.marks[:count],
            windows=opened,
            in_hand=frozenset(),
            freed=False,
            faults=world.faults + 1,
        )
        yield f"crash, {count} marks kept", carry_out(after, effects)


def plus(counts: tuple[int, int], place: str) -> tuple[int, int]:
    return (counts[0] + (place == "p"), counts[1] + (place == "q"))


def feed(world: World, event: Event) -> World:
    message, effects = step(world.message, event)
    return carry_out(replace(world, message=message), effects)


def carry_out(world: World, effects: tuple[delivery.Effect, ...]) -> World:
    for effect in effects:
        if isinstance(effect, AppendMark):
            world = replace(world, marks=world.marks + effect.marks)
        elif isinstance(effect, Free):
            world = replace(world, freed=True)
    return world


def structure_broken(message: Message) -> list[str]:
    found = []
    settled = sum(recipient.status in delivery.SETTLED for recipient in message.recipients)
    if message.open != len(message.recipients) - settled:
        found.append("open counts the unsettled")
    for recipient in message.recipients:
        if recipient.status is Status.IN_FLIGHT and recipient.target is None:
            found.append("in flight means a target")
        if recipient.same_as >= 0:
            first = message.recipients[recipient.same_as]
            if (
                recipient.status is not Status.PENDING
                or first.same_as >= 0
                or first.status not in (Status.PENDING, Status.IN_FLIGHT)
                or recipient.target is None
                or first.target is None
                or first.target.user != recipient.target.user
            ):
                found.append("a twin waits for one that is under way to the same mailbox")
    return found


def world_broken(world: World) -> list[str]:
    found = structure_broken(world.message)
    wanted = {where.user for address in world.recipients for where in ROUTES[address]}
    for place, count, windows in zip(PLACES, world.delivered, world.windows, strict=True):
        if world.freed and place in wanted and not count:
            found.append("freed means delivered")
        if count > 1 + windows:
            found.append("twice only through a window")
    if world.freed != world.message.gone:
        found.append("freed means gone")
    return found


def search(world: World, faults: int, troubles: int) -> tuple[int, set[str], str | None]:
    """States, actions that fired, and the first broken invariant with the way to it."""
    fired: set[str] = set()
    known = {world}
    waiting: list[tuple[World, tuple[str, ...]]] = [(world, ())]
    for before, way in waiting:  # grows: breadth first, so that the way is a shortest one
        quiet = True
        for action, after in moves(before, faults, troubles):
            fired.add(action.split(",")[0].rstrip("0123456789 "))
            quiet = quiet and action.startswith(("crash", "lose"))
            found = world_broken(after)
            if found:
                return len(known), fired, f"{found[0]}: {', '.join((*way, action))}"
            if after not in known:
                known.add(after)
                waiting.append((after, (*way, action)))
        if quiet and not before.freed:
            return len(known), fired, f"nothing is left to do, and it is not free: {way}"
    return len(known), fired, None


ACTIONS = {
    "resolve", "dispatch", "report", "deliver", "defer", "fail", "lose agent", "crash", "Due",
    "Retried",
}  # fmt: skip

#: recipients, faults, troubles: small enough to be searched to the end
WORLDS = {
    "one recipient": (("a",), 3, 2),
    "two recipients": (("a", "c"), 2, 2),
    "two recipients, one mailbox": (("a", "b"), 2, 3),
    "an alias": (("list",), 2, 2),
    "an alias that meets a recipient": (("a", "list"), 1, 1),
}


@pytest.mark.parametrize("name", WORLDS)
def test_every_order_of_events_and_crashes(name: str) -> None:
    recipients, faults, troubles = WORLDS[name]
    states, fired, found = search(begin(*recipients), faults, troubles)
    assert found is None, found
    assert fired == ACTIONS
    assert states > 30


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_long_walks(data: st.DataObject) -> None:
    names = st.lists(st.sampled_from(["a", "b", "c", "list"]), min_size=1, max_size=5)
    world = begin(*data.draw(names))
    for _ in range(80):
        choices = list(moves(world, 5, 5))
        if not choices:
            break
        action, world = data.draw(st.sampled_from(choices), label="action")
        assert world_broken(world) == [], action


# --- negative controls ---------------------------------------------------------------------------


def _mark_first(message: Message, event: Dispatched) -> delivery.Step:
    after, _ = GENUINE[Dispatched](message, event)
    marks = tuple(mark("delivered", index, 0, P) for index in event.indices)
    return after, (AppendMark(marks),)


def _believe_lost(message: Message, event: AgentLost) -> delivery.Step:
    return GENUINE[Outcome](message, outcome(event.indices[0], "delivered"))


def _free_failed(message: Message, event: Outcome) -> delivery.Step:
    after, effects = GENUINE[Outcome](message, event)
    if event.kind == "failed":
        return replace(after, gone=True), (*effects, Free())
    return after, effects


def _expand_unmarked(message: Message, event: Expanded) -> delivery.Step:
    after, effects = GENUINE[Expanded](message, event)
    return after, tuple(
        effect
        for effect in effects
        if not (isinstance(effect, AppendMark) and effect.marks[0].kind == "expanded")
    )


def _unmarked_outcome(message: Message, event: Outcome) -> delivery.Step:
    after, effects = GENUINE[Outcome](message, event)
    return after, tuple(effect for effect in effects if not isinstance(effect, AppendMark))


def _every_twin_for_itself(
    message: Message, index: int, where: Target, _when_s: int
) -> delivery.Step:
    aimed = replace(message.recipients[index], target=where)
    return delivery._set(message, {index: aimed}), ()


def _mark_without_mailbox(index: int, recipient: Recipient, code: str = "", text: str = "") -> Mark:
    # the user is what the world's ledger goes by; the shape is one that replay does not read
    assert recipient.target is not None
    place = ("-", recipient.target.user)
    return Mark("delivered", index, recipient.attempt, 0, code, text, place)


GENUINE = dict(delivery.EVENTS)
Mutant = Callable[..., object]

#: name: (event or function that is replaced, mutant, recipients, what the search must say)
MUTANTS: dict[str, tuple[type | str, Mutant, tuple[str, ...], str]] = {
    "mark before delivery": (Dispatched, _mark_first, ("a",), "freed means delivered"),
    "a lost agent is believed": (AgentLost, _believe_lost, ("a",), "freed means delivered"),
    "a failed recipient is dropped": (Outcome, _free_failed, ("a",), "freed means delivered"),
    "outcomes are not marked": (
        Outcome, _unmarked_outcome, ("a", "c"), "twice only through a window"),
    "expansion is not marked": (
        Expanded, _expand_unmarked, ("list",), "MarkError"),
    "twins are delivered each": (
        "_aim", _every_twin_for_itself, ("a", "b"), "twice only through a window"),
    "marks name no mailbox": (
        "_delivered_mark", _mark_without_mailbox, ("a", "b"), "twice only through a window"),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_the_search_finds_a_mutant(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, mutant, recipients, expected = MUTANTS[name]
    assert search(begin(*recipients), 1, 2)[2] is None
    ran = []

    def observed(*arguments: object) -> object:
        ran.append(arguments)
        return mutant(*arguments)

    if isinstance(place, str):
        monkeypatch.setattr(delivery, place, observed)
    else:
        monkeypatch.setitem(delivery.EVENTS, place, observed)
    try:
        found = search(begin(*recipients), 1, 2)[2]
    except MarkError as error:
        found = f"MarkError: {error}"
    assert found is not None
    assert found.startswith(expected), found
    assert ran
