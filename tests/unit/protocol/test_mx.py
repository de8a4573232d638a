"""Which hosts, in which order: the rules of RFC 5321 5.1 and RFC 7505 as tables."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refmta.protocol import mx
from refmta.protocol.mx import Absent, Candidate, Exchanger, Found, Levels, Own, Refusal, Trouble
from refmta.protocol.relaying import parse_hop

OWN = Own(names=frozenset({"mx.us.example"}), addresses=frozenset({"192.0.2.99", "2001:db8::99"}))
STRANGER = Own()
CHANCES = [0.5] * mx.RECORDS


def records(*rows: tuple[int, str]) -> tuple[Exchanger, ...]:
    return tuple(Exchanger(preference, host) for preference, host in rows)


def levels(*rows: tuple[int, str], own: Own = OWN, port: int = 25) -> Levels | Refusal:
    return mx.levels("x.example", records(*rows), own, port, CHANCES)


@pytest.mark.parametrize(
    ("rows", "hosts", "cut"),
    [
        ([(10, "a")], (("a",),), False),
        ([(20, "b"), (10, "a")], (("a",), ("b",)), False),
        ([(10, "a"), (10, "a"), (20, "a")], (("a",),), False),  # once, at its best
        ([(10, "A.Example")], (("a.example",),), False),
        # RFC 7505 3: "." beside others is no host; nor is what can't be a host's name.
        ([(0, ""), (10, "a")], (("a",),), False),
        ([(0, "\\000x"), (10, "a"), (5, "x" * 64), (5, "y." * 127 + "z")], (("a",),), False),
        ([(10, "under_score.example")], (("under_score.example",),), False),
        # Ourselves, and all at our level and behind it.
        ([(10, "a"), (20, "mx.us.example"), (20, "b"), (30, "c")], (("a",),), True),
        ([(10, "a"), (20, "MX.US.example")], (("a",),), True),
        ([(10, "mx.us.example"), (20, "b")], (), True),
        ([(10, "mx.us.example"), (10, "b")], (), True),
    ],
)
def test_levels(rows: list[tuple[int, str]], hosts: tuple[tuple[str, ...], ...], cut: bool) -> None:
    assert levels(*rows) == Levels(hosts=hosts, cut=cut, listed=True)


@pytest.mark.parametrize(
    ("answer", "kind", "enhanced"),
    [
        (Absent.NO_DOMAIN, "failed", "5.1.2"),
        (Trouble("no answer in time"), "deferred", "4.4.3"),
        (records((0, "")), "failed", "5.1.10"),
        (records((7, ""), (9, "")), "failed", "5.1.10"),
    ],
)
def test_no_levels(answer: mx.MxAnswer, kind: str, enhanced: str) -> None:
    refusal = mx.levels("x.example", answer, OWN, 25, CHANCES)
    assert isinstance(refusal, Refusal)
    assert (refusal.kind, refusal.enhanced) == (kind, enhanced)


def test_the_implicit_mx_only_without_any_record() -> None:
    assert mx.levels("x.example", Absent.NO_DATA, OWN, 25, CHANCES) == Levels(
        hosts=(("x.example",),)
    )
    ours = mx.levels("mx.us.example", Absent.NO_DATA, OWN, 25, CHANCES)
    assert ours == Levels(hosts=(), cut=True)


def test_our_name_at_a_port_that_is_not_ours_is_somebody_else() -> None:
    assert levels((10, "mx.us.example"), port=2525) == Levels(
        hosts=(("mx.us.example",),), listed=True
    )


def test_every_order_of_equals_comes_up() -> None:
    """Chance decides among equals, and among equals only."""
    rows = records((10, "a"), (10, "b"), (10, "c"), (5, "first"), (20, "last"))
    seen = set()
    for chances in permutations([0.1, 0.5, 0.9]):
        found = mx.levels("x.example", rows, OWN, 25, [*chances, 0.99, 0.0])
        assert isinstance(found, Levels)
        assert (found.hosts[0], found.hosts[2]) == (("first",), ("last",))
        seen.add(found.hosts[1])
    assert seen == set(permutations("abc"))


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["a", "b", "c", "mx.us.example", ""]))),
    st.lists(st.floats(0, 0.999), min_size=mx.RECORDS, max_size=mx.RECORDS),
)
def test_what_may_come_out(rows: list[tuple[int, str]], chances: list[float]) -> None:
    """Never ourselves nor anything at or behind us; each host once; preferences ascend."""
    if not rows:
        return
    found = mx.levels("x.example", records(*rows), OWN, 25, chances)
    if isinstance(found, Refusal):
        assert {host for _, host in rows} == {""}
        return
    best: dict[str, int] = {}
    for preference, host in sorted(rows):
        best.setdefault(host, preference)
    flat = [host for level in found.hosts for host in level]
    assert len(flat) == len(set(flat)) and "" not in flat
    assert [best[host] for host in flat] == sorted(best[host] for host in flat)
    ours = best.get("mx.us.example", 99)
    assert set(flat) == {host for host, at in best.items() if at < ours and host}
    assert found.cut == (ours != 99)


# -- addresses ------------------------------------------------------------------------------------


def found(
    answers: dict[str, mx.AddressAnswer], *, own: Own = OWN, port: int = 25, limit: int = 5,
    chance: float = 0.9,
) -> Found:  # fmt: skip
    return mx.found(list(answers), answers, own, port, limit, [chance] * len(answers))


def test_families_take_turns() -> None:
    answer = ("192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1")
    four = found({"a": answer}, chance=0.9)
    assert [each.address for each in four.candidates] == [
        "192.0.2.3", "2001:db8::1", "192.0.2.1", "192.0.2.2",
    ]  # fmt: skip
    six = found({"a": answer}, chance=0.0)
    assert [each.address for each in six.candidates] == [
        "2001:db8::1", "192.0.2.1", "192.0.2.2", "192.0.2.3",
    ]  # fmt: skip


def test_the_last_place_goes_to_the_other_family() -> None:
    answers: dict[str, mx.AddressAnswer] = {
        "a": ("192.0.2.1", "192.0.2.2"), "b": ("2001:db8::1",)
    }  # fmt: skip
    two = found(answers, limit=2).candidates
    assert two == (Candidate("a", "192.0.2.2"), Candidate("b", "2001:db8::1"))
    assert len(found(answers, limit=1).candidates) == 1


@pytest.mark.parametrize(
    ("address", "port", "ours"),
    [
        ("192.0.2.99", 25, True),
        ("2001:db8::99", 25, True),
        ("192.0.2.98", 25, False),
        ("127.0.0.1", 25, True),
        ("127.0.0.2", 25, False),
        ("::1", 25, True),
        ("0.0.0.0", 25, True),
        ("::", 25, True),
        ("192.0.2.99", 2525, False),
        ("127.0.0.1", 2525, False),
    ],
)
def test_ourselves_by_address(address: str, port: int, ours: bool) -> None:
    """One address of ours anywhere in a level cuts the whole level."""
    level = found({"a": ("192.0.2.1",), "b": ("192.0.2.2", address)}, port=port)
    assert level.cut is ours
    assert bool(level.candidates) is not ours


def test_trouble_is_told_and_absence_is_not() -> None:
    level = found({"a": Trouble("no answer in time"), "b": Absent.NO_DOMAIN, "c": ("192.0.2.1",)})
    assert level.candidates == (Candidate("c", "192.0.2.1"),)
    assert level.trouble == "address look-up of a: no answer in time"
    assert not found({"b": Absent.NO_DATA}).trouble


@given(
    st.dictionaries(
        st.sampled_from("abcd"),
        st.lists(st.sampled_from([*(f"192.0.2.{n}" for n in range(5)), "2001:db8::1"])).map(tuple),
        min_size=1,
    ),
    st.integers(1, 6),
    st.floats(0, 0.999),
)
def test_candidates_are_bounded_and_of_both_families(
    answers: dict[str, tuple[str, ...]], limit: int, chance: float
) -> None:
    level = mx.found(list(answers), answers, OWN, 25, limit, [chance] * len(answers)).candidates
    pairs = {(host, address) for host, each in answers.items() for address in each}
    assert {(each.host, each.address) for each in level} <= pairs
    assert len(level) == min(limit, len(pairs))
    families = {":" in address for _, address in pairs}
    if limit > 1:
        assert {":" in each.address for each in level} == families


@pytest.mark.parametrize(
    ("cut", "trouble", "listed", "expected"),
    [
        (False, "t", True, ("deferred", "4.4.3")),
        (True, "t", True, ("deferred", "4.4.3")),  # the one that failed may have been the better
        (True, "", True, ("failed", "5.4.6")),
        (False, "", True, ("failed", "5.4.4")),
        (False, "", False, ("failed", "5.1.2")),
    ],
)
def test_nobody_to_ask(cut: bool, trouble: str, listed: bool, expected: tuple[str, str]) -> None:
    refusal = mx.refusal("x.example", Levels(hosts=(), listed=listed), cut=cut, trouble=trouble)
    assert (refusal.kind, refusal.enhanced) == expected


def test_a_hop_without_mx_is_its_own_only_level() -> None:
    assert mx.direct(parse_hop("[relay.example]:2525")).hosts == (("relay.example",),)
    assert mx.direct(parse_hop("[192.0.2.1]")).hosts == (("[192.0.2.1]",),)
