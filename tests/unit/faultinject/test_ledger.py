"""The ledger: its controls, and the windows as a table."""

from __future__ import annotations

import pytest

from faultinject.books import Answer, Books, Found, Kill, Reported, Sending, Window
from faultinject.controls import TAMPERINGS, controls
from faultinject.ledger import (
    FINDINGS,
    HOP_SILENT,
    RESENT_DEFERRED,
    RESENT_UNANSWERED,
    WINDOWS,
    judge,
)
from faultinject.letters import Copy
from faultinject.sample import WINDOWS as OPENED_BY
from faultinject.sample import sound
from specs.kernel.control import run_control

AT = {"mailbox": Window(roles=frozenset({"agent"}), before_s=1.0, after_s=10.0)}


@pytest.mark.parametrize("control", controls(), ids=lambda control: control.name)
def test_each_control_counts(control):
    result = run_control(control)
    assert result.counts, result.reason


def test_every_finding_has_a_control():
    assert {name for _, name, _ in TAMPERINGS} == set(FINDINGS)


def test_the_sound_run_opens_every_window_but_one():
    account = judge(sound(), OPENED_BY)
    assert account.findings == []
    assert set(WINDOWS) - set(account.duplicates) == {"killed between delivery and mark: next hop"}


def books(*whens, kills=(), answered=True, place="mailbox", slack_s=0.0):
    """One promised letter, found at these times."""
    copy = Copy("x-1", 1)
    sending = Sending(sender="s@x", recipients=("r@x",), digest=b"d", answer=Answer.ACKNOWLEDGED)
    found = [
        Found(
            copy=copy, recipient="r@x", digest=b"d", when_s=when, place=place, answered=answered,
            slack_s=slack_s,
        )
        for when in whens
    ]  # fmt: skip
    dead = [Kill(role=role, when_s=when) for role, when in kills]
    return Books(sendings={copy: sending}, found=found, kills=dead)


@pytest.mark.parametrize(
    ("whens", "kills", "unexplained"),
    [
        ((100,), (), 0),
        ((100, 105), (), 1),
        ((100, 105), (("agent", 100.1),), 0),
        ((100, 105), (("agent", 99.5),), 0),  # it was dead already, and finished what it had
        ((100, 105), (("agent", 98.9),), 1),
        ((100, 105), (("agent", 105.1),), 1),
        ((100, 200), (("agent", 111),), 1),
        ((100, 200), (("agent", 109),), 0),
        ((100, 105), (("clerk", 101),), 1),
        ((100, 105, 110), (("agent", 101),), 1),  # each further copy needs a death of its own
        ((100, 105, 110), (("agent", 101), ("agent", 106)), 0),
        ((110, 105, 100), (("agent", 101), ("agent", 106)), 0),  # in any order
    ],
)
def test_a_second_delivery_needs_a_death_at_its_time(whens, kills, unexplained):
    account = judge(books(*whens, kills=kills), AT)
    assert account.found("duplicate") == unexplained == len(account.findings)


@pytest.mark.parametrize(
    ("whens", "kill_s", "unexplained"),
    [((100, 100), 100.9, 0), ((100, 105), 105.9, 0), ((100, 105), 106.1, 1), ((100, 105), 98, 1)],
)
def test_times_in_whole_seconds_may_be_a_second_later(whens, kill_s, unexplained):
    account = judge(books(*whens, kills=[("agent", kill_s)], slack_s=1.0), AT)
    assert account.found("duplicate") == unexplained


def test_a_silent_next_hop_excuses_itself():
    account = judge(books(100, 105, answered=False, place="next hop"), AT)
    assert account.duplicates[HOP_SILENT] == 1 and not account.findings


@pytest.mark.parametrize(
    ("found_s", "kill_s", "unexplained"),
    [(100, 101, 0), (100, 90, 1), (120, 111, 0), (120, 121, 1), (120, 100, 1)],
)
def test_delivered_and_reported_needs_a_death_behind_the_first_of_both(
    found_s, kill_s, unexplained
):
    seen = books(found_s, kills=[("agent", kill_s)])
    report = Reported(
        copy=Copy("x-1", 1), recipient="r@x", to="s@x", message_id="m", when_s=110, made_s=110
    )
    seen.reported.append(report)
    account = judge(seen, AT | {"report": AT["mailbox"]})
    assert account.found("report_unfounded") == unexplained == len(account.findings)


def test_a_place_without_a_window_excuses_nothing():
    account = judge(books(100, 105, kills=[("agent", 101)]), {})
    assert account.found("duplicate") == 1


@pytest.mark.parametrize(
    ("answer", "window"),
    [(Answer.UNANSWERED, RESENT_UNANSWERED), (Answer.DEFERRED, RESENT_DEFERRED)],
)
def test_what_the_client_sent_again_is_its_own(answer, window):
    seen = books(100)
    for attempt in (2, 3):
        copy = Copy("x-1", attempt)
        seen.sendings[copy] = Sending(sender="s@x", recipients=("r@x",), digest=b"d", answer=answer)
        seen.found.append(
            Found(copy=copy, recipient="r@x", digest=b"d", when_s=101, place="mailbox")
        )
    # the last attempt is the one that should be there: here it is the promised one
    seen.sendings[Copy("x-1", 1)].answer = answer
    seen.sendings[Copy("x-1", 3)].answer = Answer.ACKNOWLEDGED
    account = judge(seen, AT)
    assert account.duplicates[window] == 2 and not account.findings


def test_an_attempt_without_a_promise_may_be_gone():
    seen = books()
    seen.sendings[Copy("x-1", 1)].answer = Answer.UNANSWERED
    assert judge(seen, AT).findings == []
