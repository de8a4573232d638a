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
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from refinement.machines import breaks, hold, made, walk
from refinement.town import ADDRESSES, HOSTS, PLACES, ROLE, WEATHER, tell
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

    role: Any = ROLE
    config = CONFIG

    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def then(self, what: str, *arguments: Any, **options: Any) -> None:
        self.events.append((what, arguments, options))

    @initialize(place=st.sampled_from(PLACES), weather=st.sampled_from(WEATHER))
    def it_begins(self, place: str, weather: str) -> None:
        self.then("weather", place, weather)

    @rule(
        addresses=st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=3, unique=True),
        null=st.sampled_from([False, False, False, True]),
        copies=st.sampled_from([1, 1, 4]),
    )
    def mail_arrives(self, addresses: list[str], null: bool, copies: int) -> None:
        self.then("mail", *addresses, null=null, copies=copies)

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
        spool = Path(tempfile.mkdtemp(prefix="refmta-town-"))
        try:
            tell(spool, self.role, self.events, **self.config)
        finally:
            shutil.rmtree(spool)


def test_days_of_bad_weather():
    walk(Days, examples=60, steps=15)
