"""The queue manager through days of bad weather, killed and begun anew, in virtual time.

The machine writes a story, event by event, and it is played at the end of each example (trio's loop
runs once, on its mock clock): see `refinement.town`. Invariants, each caught by a mutant below:

- nothing_lost: each recipient is delivered, or its sender told, or it is in the queue;
- ends_in_time: a message is over within its lifetime and one step (a place, a last attempt, a
  report), counted from the last kill if that was later;
- duplicates_only_in_windows: a delivery, or a report, comes again only after a death in between,
  a kill before its mark, or a power cut;
- marks_after_delivery: whoever is marked delivered was delivered to;
- no_misdelivery, no_report_about_a_report, reports_go_to_the_sender, reports_are_true;
- no_starvation: mail for a place that was never any trouble waits for one turn at most.

All of it holds over every store: what a message has been through must be the same whichever way it
lies on the disk (`stores.queue`).
"""

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from refinement.ledger import ADDRESSES, HOSTS, LIST, PLACES, WEATHER
from refinement.machines import Broken, breaks, made, walk
from refinement.story import Event, broken_in, tell

from refmta.processes.channels import socket_channels
from refmta.roles import qmgr
from refmta.stores.disk import PosixDisk
from refmta.stores.queue import STORES, open_queue
from specs.kernel.mutant import hits, mutate

DAY_S = 86_400
CONFIG = {
    "lifetime_s": DAY_S,
    "remote_workers": 3,
    "per_destination": 2,
    "delay_warning_s": 4 * 3600,
}


class Days(RuleBasedStateMachine):
    """A story; one day's lifetime, few places."""

    role: Any = qmgr
    config = CONFIG
    absent: Any = ()  # addresses that get no mail

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []

    def then(self, what: str, *arguments: Any, **options: Any) -> None:
        self.events.append((what, arguments, options))

    @initialize(place=st.sampled_from(PLACES), weather=st.sampled_from(WEATHER))
    def it_begins(self, place: str, weather: str) -> None:
        self.then("weather", place, weather)

    @rule(
        addresses=st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=3, unique=True),
        null=st.sampled_from([False, False, False, True]),
        copies=st.sampled_from([1, 1, 3, 8]),
        each=st.booleans(),
    )
    def mail_arrives(self, addresses: list[str], null: bool, copies: int, each: bool) -> None:
        present = [address for address in addresses if address not in self.absent]
        if present:
            self.then("mail", *present, null=null, copies=copies, each=each)

    @rule(place=st.sampled_from(PLACES), weather=st.sampled_from(WEATHER))
    def weather_changes(self, place: str, weather: str) -> None:
        self.then("weather", place, weather)

    @rule(weather=st.sampled_from(["fair", "full", "dies before", "dies after"]))
    def reporter_changes(self, weather: str) -> None:
        self.then("reporter", weather)

    @rule(seconds=st.sampled_from([0.5, 2, 30, 600, 3600, 6 * 3600, DAY_S]))
    def time_passes(self, seconds: float) -> None:
        self.then("wait", seconds)

    @rule()
    def role_is_killed(self) -> None:
        self.then("kill")

    @rule(seed=st.integers(0, 99))
    def power_is_cut(self, seed: int) -> None:
        self.then("kill", power=True, seed=seed)

    @rule()
    def operator_retries(self) -> None:
        self.then("retry")

    def teardown(self) -> None:
        tell(self.role, self.events, **self.config)


def test_days_of_bad_weather():
    walk(Days, examples=60, steps=15)


class Hogs(Days):
    """Two hosts are slow, and have more mail than there are places."""

    def __init__(self) -> None:
        super().__init__()
        for host in HOSTS[:2]:
            self.then("weather", host, "slow")
            self.then("mail", f"x@{host}", copies=15)


def test_days_with_hogs():
    walk(Hogs, examples=10, steps=8)


def kept_in(store: str) -> dict[str, Any]:
    """The role's slice where messages are kept so; it recovers those of others itself."""
    return CONFIG | ({"store": store, "keeps": True} if store != "chunks" else {})


OTHERS = sorted(STORES.keys() - {"chunks"})


@pytest.mark.parametrize("store", OTHERS)
def test_days_in_other_stores(store):
    # qmail marks an octet: it can't say in whose mailbox a message is by another address already.
    absent = (LIST,) if store == "qmail_todo" else ()
    walk(made(Days, config=kept_in(store), absent=absent), examples=15, steps=15)


#: Two slow hosts have all places, and more mail; then there is mail for a third.
NEWCOMER: list[Event] = [
    ("weather", ("one.example", "slow"), {}),
    ("weather", ("two.example", "slow"), {}),
    ("mail", ("x@one.example", "x@two.example"), {"copies": 16, "each": True}),
    ("wait", (60,), {}),
    ("mail", ("x@three.example",), {}),
    ("wait", (DAY_S / 4,), {}),
]
#: A session is idle and told to make room; in the same wake-up there is mail for it (the routes
#: are remembered).
AT_THE_LAST_MOMENT: list[Event] = [
    ("weather", ("two.example", "slow"), {}),
    ("mail", ("y@two.example", "y@one.example"), {"each": True}),
    ("wait", (1.5,), {}),
    ("mail", ("y@two.example",) * 3 + ("y@one.example",), {"each": True}),
]
#: A socket carries at once what is written to it.
THREE_PLACES = CONFIG | {"remote_workers": 3, "carrier": socket_channels}


#: A session ends while another channel is written to (the in-process carrier yields there).
CUT_IN_THE_MIDDLE: list[Event] = [
    ("weather", ("two.example", "slow"), {}),
    ("mail", ("x@one.example", "x@two.example"), {"each": True, "copies": 15}),
    ("weather", ("one.example", "fails"), {}),
    ("wait", (30,), {}),
]


def test_what_was_to_be_written_when_a_session_ended_is_written():
    for _ in range(5):  # the order of what happens at one moment is trio's choice
        assert broken_in(qmgr, CUT_IN_THE_MIDDLE, **CONFIG) == ""


def test_a_newcomer_waits_for_one_turn():
    assert broken_in(qmgr, NEWCOMER, **CONFIG) == ""


def test_nothing_is_handed_to_a_session_that_was_told_to_end():
    assert broken_in(qmgr, AT_THE_LAST_MOMENT, **THREE_PLACES) == ""


def test_a_week_of_retries():
    """Five days for one who never answers and one who always defers: told, and never delivered."""
    events: list[Event] = [
        ("weather", ("one.example", "dead"), {}),
        ("weather", ("two.example", "defers"), {}),
        ("weather", ("ada", "defers"), {}),
        ("mail", ("x@one.example", "x@two.example", "ada@example.org"), {"copies": 3}),
    ]
    ledger = tell(qmgr, events, **(CONFIG | {"lifetime_s": 5 * DAY_S}))
    assert not ledger.delivered
    assert set(ledger.reported.values()) == {1}
    assert len(ledger.reported) == 9
    assert ledger.warned == {"m1": 1, "m2": 1, "m3": 1}


# -- controls -------------------------------------------------------------------------------------

QUEUE, RELAYS, REPORTS = (f"{qmgr.__name__}.{each}" for each in ("queue", "relays", "reports"))

#: Invariant, module, what is replaced in it, by what.
MUTANTS = {
    "a retry that never comes": (
        "ends_in_time", QUEUE,
        "            heapq.heappush(self.due, (when_s, queue_id))\n",
        "            __mutant_ran__()\n",
    ),
    "an outcome frame lost": (
        "duplicates_only_in_windows", RELAYS,
        "            outcome = outcomes.get(index)\n",
        "            lost = int(self.queue.wall()) % 5 == 0 and __mutant_ran__()\n"
        "            outcome = None if lost else outcomes.get(index)\n",
    ),
    "a report that is not marked": (
        "duplicates_only_in_windows", REPORTS,
        "        self.queue.step(active, delivery.Reported(",
        "        if not to or not __mutant_ran__():\n"
        "            self.queue.step(active, delivery.Reported(",
    ),
    "a report about a report": (
        "no_report_about_a_report", REPORTS,
        "tells = dsn.decide(kind, envelope.reverse_path,",
        'tells = dsn.decide(kind, envelope.reverse_path or "x@y.example" * __mutant_ran__(),',
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_a_walk_finds_the_mutant_by_the_named_invariant(name):
    invariant, module, old, new = MUTANTS[name]
    role, changed = role_with(module, old, new)
    assert breaks(made(Days, role=role), invariant, examples=600, steps=15)
    assert hits(changed)


def role_with(module: str, old: str, new: str) -> tuple[Any, Any]:
    """The role over a mutant of one of its modules, and the mutant."""
    changed = mutate(module, [(old, new)])
    parts = {module: changed}
    if module == REPORTS:
        parts = {QUEUE: mutate(QUEUE, [], replacing=parts)}
    return mutate(qmgr.__name__, [], replacing=parts), changed


@pytest.mark.parametrize("store", STORES)
def test_a_mark_before_delivery_is_caught(store):
    role, changed = role_with(
        QUEUE,
        "                carrier.take(owner, active, indices)\n",
        "                carrier.take(owner, active, indices)\n"
        "                early = [delivery.Mark('delivered', i, 0, 0) for i in indices]\n"
        "                __mutant_ran__()\n"
        "                self.store.append_marks(active.queue_id, active.end, early)\n",
    )
    assert broken_in(qmgr, CUT_IN_THE_MIDDLE, **kept_in(store)) == ""
    assert broken_in(role, CUT_IN_THE_MIDDLE, **kept_in(store)) == "marks_after_delivery"
    assert hits(changed)


class Forgetful:
    """A store that keeps no mark."""

    def __init__(self, *arguments: Any) -> None:
        self.store = open_queue(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def append_marks(self, _queue_id: str, end: int, _marks: Any) -> int:
        return end


@pytest.mark.parametrize("store", STORES)
def test_a_store_that_forgets_what_was_delivered_is_caught(
    store: str, monkeypatch: pytest.MonkeyPatch
):
    one_waits: list[Event] = [
        ("weather", ("bob", "defers"), {}),
        ("mail", ("ada@example.org", "bob@example.org"), {}),
        ("wait", (DAY_S / 4,), {}),
    ]
    assert broken_in(qmgr, one_waits, **kept_in(store)) == ""
    monkeypatch.setattr(qmgr, "open_queue", Forgetful)
    assert broken_in(qmgr, one_waits, **kept_in(store)) == "duplicates_only_in_windows"


@pytest.mark.parametrize("store", STORES)
def test_a_chunk_that_is_freed_at_the_first_failure_is_caught(store):
    role, changed = role_with(
        QUEUE,
        "                    pass  # `rest` reads",
        "                    if isinstance(effect, delivery.Undeliverable) and __mutant_ran__():\n"
        "                        self.store.free(queue_id)\n"
        "                    # `rest` reads",
    )
    failed: list[Event] = [
        ("reporter", ("full",), {}),  # what is freed is not told of any more
        ("weather", ("one.example", "fails"), {}),
        ("mail", ("x@one.example",), {}),
        ("wait", (60,), {}),
    ]
    assert broken_in(qmgr, failed, **kept_in(store)) == ""
    assert broken_in(role, failed, **kept_in(store)) == "nothing_lost"
    assert hits(changed)


class Stubborn(PosixDisk):
    """The next calls that unlink, or append, fail."""

    unlinks = appends = 0

    def unlink(self, path: str) -> None:
        if Stubborn.unlinks:
            Stubborn.unlinks -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        super().unlink(path)

    def open_append(self, path: str) -> int:
        if Stubborn.appends:
            Stubborn.appends -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return super().open_append(path)


#: It is delivered, and can't be unlinked; then it can.
STUCK: list[Event] = [("mail", ("ada@example.org",), {}), ("wait", (10,), {})]
FREED: dict[str, list[Event]] = {
    "in time": [*STUCK, ("wait", (DAY_S / 4,), {})],
    "when the operator says so": [*STUCK, ("retry", (), {}), ("wait", (10,), {})],
    "by the next life": [*STUCK, ("kill", (), {}), ("wait", (10,), {})],
}


@pytest.fixture
def deliveries(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """How often it is delivered. appends: how often the disk takes no mark, either."""

    def count(role: Any, how: str, *, appends: int) -> int:
        monkeypatch.setattr(role, "PosixDisk", Stubborn)
        Stubborn.unlinks, Stubborn.appends = 1, appends
        delivered = tell(role, FREED[how], **CONFIG).delivered
        assert (Stubborn.unlinks, Stubborn.appends) == (0, 0)
        return sum(delivered.values())

    return count


@pytest.mark.parametrize("how", ["in time", "when the operator says so"])
def test_what_can_not_be_unlinked_is_freed_later_and_not_delivered_again(
    how: str, deliveries: Callable[..., int]
):
    role, changed = role_with(
        QUEUE,
        "if queue_id in self.unfreed:",
        "if queue_id in self.unfreed and not __mutant_ran__():",
    )
    assert deliveries(qmgr, how, appends=0) == deliveries(qmgr, how, appends=1) == 1
    with pytest.raises(Broken, match="duplicates_only_in_windows"):
        deliveries(role, how, appends=1)
    assert hits(changed)


def test_what_can_not_be_unlinked_is_marked_and_so_freed_by_the_next_life(
    deliveries: Callable[..., int],
):
    how = "by the next life"
    role, changed = role_with(
        QUEUE,
        "if not self._free(queue_id) and effect.marks:",
        "if not self._free(queue_id) and not __mutant_ran__():",
    )
    assert deliveries(qmgr, how, appends=0) == 1
    assert deliveries(qmgr, how, appends=1) == 2  # nobody remembers what the disk never took
    assert deliveries(role, how, appends=0) == 2
    assert hits(changed)


def test_a_slow_destination_that_keeps_its_places_is_caught():
    role, changed = role_with(
        RELAYS,
        "            if session.jobs and self.books.newcomer(self.queue.wall()):\n",
        "            if not __mutant_ran__():\n",
    )
    assert broken_in(role, NEWCOMER, **CONFIG) == "no_starvation"
    assert hits(changed)


def test_a_job_for_a_session_that_was_told_to_end_is_caught():
    role, _ = role_with(
        RELAYS,
        "not (session.over or session.scope.cancel_called)",
        "not (session.over and __mutant_ran__())",
    )
    assert broken_in(role, AT_THE_LAST_MOMENT, **THREE_PLACES) == "duplicates_only_in_windows"
