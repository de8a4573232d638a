"""Findings as they are told: with the fewest losses, and under the strongest model."""

import itertools
from collections import Counter

from unit.faultinject.test_crash import SAFE, recording

from faultinject.books import Books
from faultinject.crash.live import SHORTER, Live, Lived
from faultinject.crash.recorder import Scene
from faultinject.crash.states import minimal, sampled, smaller
from faultinject.ledger import Finding
from specs.persistence.models import P1_ATOMIC, P3_ATOMIC

#: One that is promised before its directory is synced, and then others, which nobody misses.
OTHERS = tuple(
    step for name in "bcd"
    for step in (("create", f"q/{name}", b"", ""), ("write", f"q/{name}", b"octets", ""))
)  # fmt: skip
MADE = recording(*SAFE[:3], SAFE[4], *OTHERS)


def is_lost(tried):
    return bool(tried.state.acknowledged) and "q/a" not in tried.state.tree


class Told(Live):
    """A server that loses what is not on the disk; no server is started."""

    def _try(self, scene, tried, found):
        return [Finding(name="lost", text="t/1")] if is_lost(tried) else []


def told(tmp_path, most, samples):
    scene = Scene(
        name="one", base=tmp_path, recording=MADE, tops=("q",), owners={}, books=Books(), spool="q"
    )
    found = Lived(target="toy", seed=1)
    live = Told(
        make=lambda: None, place=tmp_path, seed=1, say=lambda _: None, most=most, samples=samples
    )
    live._scene(scene, found)
    return found


def test_a_sample_becomes_smaller_as_long_as_it_can():
    tried = next(each for each in sampled(MADE, 3) if is_lost(each) and each.lost > 2)
    steps = 0
    while (next_ := next(filter(is_lost, smaller(MADE, tried)), None)) is not None:
        assert sum(map(bool, next_.choices)) == sum(map(bool, tried.choices)) - 1
        tried, steps = next_, steps + 1
    assert steps > 1 and [what for _, what in tried.state.told()[1]] == ["lost"]


def test_smaller_samples_are_states_of_the_same_model_and_instant():
    for tried in itertools.islice(sampled(MADE, 5), 50):
        for each in smaller(MADE, tried):
            assert (each.model, each.state.cut) == (tried.model, tried.state.cut)


def test_a_finding_of_a_sample_alone_is_told_with_few_losses(tmp_path):
    found = told(tmp_path, most=0, samples=40)
    (name,) = found.shown
    assert name == "lost under P3"
    shown = found.shown[name]
    assert [line.rpartition(": ")[2] for line in shown.story[1:]] == ["lost"]
    assert "create q/a" in shown.story[1] and shown.times > 1
    assert 0 < found.counts["states tried to shorten"] <= SHORTER


def test_what_minimal_states_show_is_not_told_again_by_samples(tmp_path):
    alone = told(tmp_path, most=1000, samples=0)
    both = told(tmp_path, most=1000, samples=40)
    assert alone.shown.keys() == both.shown.keys() == {"lost under P3"}
    (one,), (two,) = alone.shown.values(), both.shown.values()
    assert one.story == two.story and one.times < two.times
    assert both.counts["states tried to shorten"] == 0


def test_the_strongest_model_names_a_minimal_state():
    models = Counter(each.model for each in minimal(MADE))
    assert models[P1_ATOMIC] and models[P3_ATOMIC]
    assert {each.model for each in minimal(MADE) if is_lost(each)} == {P3_ATOMIC}
