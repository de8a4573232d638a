"""Rewriting, as a table of look-ups, and as properties: it ends, and a second time changes nothing.

The properties are about maps of all kinds, small enough that rows meet; the negative controls are
maps whose chains do not end, which `problems` must name, and mutants that the properties catch.
"""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refmta.protocol import rewriting, rewriting_problems
from refmta.protocol.rewriting import (
    DOMAIN_OCTETS,
    LEVELS,
    ROWS,
    Key,
    Loop,
    Rewriting,
    SameAt,
    look_up,
    parse_key,
    parse_member,
    rewrite,
    spell,
    spell_member,
)
from refmta.wire.address import AddressError, Mailbox, parse_mailbox

OURS = ("example.org", "mx.example.org")


def named(domain: str) -> tuple[str, bool]:
    """As routing names domains: two of ours, one with other spellings."""
    name = domain.lower()
    name = "mx.example.org" if name in ("", "localhost", "[127.0.0.1]") else name
    return name, name in OURS


def table(texts: dict[str, str | tuple[str, ...]]) -> dict[Key, tuple[rewriting.Member, ...]]:
    return {
        parse_key(key): tuple(
            map(parse_member, (members,) if isinstance(members, str) else members)
        )
        for key, members in texts.items()
    }


ORDER = {
    "ada+lists@example.org": "whole@x.example",
    "ada@example.org": "base@x.example",
    "ada+lists": "user-whole@x.example",
    "ada": "user@x.example",
    "@example.org": "@domain.example",
    "@far.example": "one@x.example",
    "keep@example.org": "keep@example.org",
    "postmaster@far.example": "pm@x.example",
    '"odd name"@example.org': "odd@x.example",
}
#: address: (canonical, virtual, generic); None: it stays.
LOOK_UPS = {
    "ada+lists@example.org": ("whole@x.example",) * 3,
    "Ada+Lists@Example.ORG": ("whole@x.example",) * 3,
    "ada+other@example.org": ("base+other@x.example", "base@x.example", "base@x.example"),
    "ada@example.org": ("base@x.example",) * 3,
    "ada+lists@mx.example.org": ("user-whole@x.example",) * 3,
    "ada+Other@mx.example.org": ("user+Other@x.example", "user@x.example", "user@x.example"),
    "ada@[127.0.0.1]": ("user@x.example",) * 3,
    "ada@localhost": ("user@x.example",) * 3,
    "ada@elsewhere.example": (None,) * 3,
    "Bob+X@example.org": ("Bob+X@domain.example",) * 3,
    '"odd name"@example.org': ("odd@x.example",) * 3,
    '"Odd Name+x"@example.org': ("odd+x@x.example", "odd@x.example", "odd@x.example"),
    "+ada@example.org": ("+ada@domain.example",) * 3,
    "bob@far.example": ("one@x.example",) * 3,
    "bob+x@far.example": ("one@x.example",) * 3,
    "keep@example.org": (None,) * 3,
    "KEEP@example.org": ("keep@example.org",) * 3,
    "keep+x@example.org": (None, "keep@example.org", "keep@example.org"),
    "postmaster@example.org": (None, None, "postmaster@domain.example"),
    "PostMaster+x@example.org": (None, None, "PostMaster+x@domain.example"),
    "postmaster@far.example": ("pm@x.example",) * 3,
    "bob@sub.example.org": (None,) * 3,
    "bob@[192.0.2.1]": (None,) * 3,
}


@pytest.mark.parametrize(("address", "expected"), LOOK_UPS.items(), ids=LOOK_UPS)
def test_the_first_row_decides_in_the_order_of_the_docstring(address, expected):
    maps = Rewriting(canonical=table(ORDER), virtual=table(ORDER), generic=table(ORDER))
    for kind, text in zip(rewriting.KINDS, expected, strict=True):
        found = look_up(maps, kind, parse_mailbox(address), named)
        assert (found and tuple(map(str, found))) == (text and (text,)), kind


def test_without_maps_and_without_a_separator():
    ada = parse_mailbox("ada+x@example.org")
    assert all(look_up(Rewriting(), kind, ada, named) is None for kind in rewriting.KINDS)
    maps = Rewriting(virtual=table({"ada": "bob@example.org"}), separator="")
    assert look_up(maps, "virtual", ada, named) is None


def test_a_row_may_have_many_members_and_keeps_their_order():
    members = ("b@x.example", "@far.example", "a@x.example")
    maps = Rewriting(virtual=table({"ada": members}))
    found = look_up(maps, "virtual", parse_mailbox("Ada@example.org"), named)
    assert found and list(map(str, found)) == ["b@x.example", "Ada@far.example", "a@x.example"]


def test_an_extension_that_does_not_fit_is_dropped():
    maps = Rewriting(canonical=table({"a": f"{'b' * 60}@x.example"}))
    for extension, left in (("+123", "+123"), ("+1234", "")):
        found = rewrite(maps, "canonical", parse_mailbox(f"a{extension}@example.org"), named)
        assert str(found) == f"{'b' * 60}{left}@x.example"


def test_every_local_part_fits_before_the_longest_domain_of_a_row():
    labels = ".".join(["x" * 47] * 4)[:DOMAIN_OCTETS]
    assert len(labels) == DOMAIN_OCTETS
    local = '"' + '\\"' * 31 + '"'  # 64 octets as it is written
    maps = Rewriting(generic=table({"@example.org": f"@{labels}"}))
    found = rewrite(maps, "generic", parse_mailbox(f"{local}@example.org"), named)
    assert str(found) == f"{local}@{labels}"
    with pytest.raises(AddressError):
        parse_member(f"@x{labels}")


@pytest.mark.parametrize("levels", [1, LEVELS - 1, LEVELS, LEVELS + 1, LEVELS + 2])
def test_a_chain_ends_or_is_too_long(levels):
    chain = {f"a{n}@x.example": f"a{n + 1}@x.example" for n in range(levels)}
    maps = Rewriting(canonical=table(chain))
    found = rewrite(maps, "canonical", parse_mailbox("a0@x.example"), named)
    if levels <= LEVELS:
        assert str(found) == f"a{levels}@x.example"
    else:
        assert isinstance(found, Loop) and str(found).startswith("has too many levels: a0@x.ex")
    assert bool(rewriting_problems.problems(maps, named, OURS)) == (levels > LEVELS)


@pytest.mark.parametrize(
    "bad", ["", "@", "@-x", "a@", "a b", "a@b@c", "@[127.0.0.1]", "a@x.", "é@x.example"]
)
def test_what_is_no_key_and_no_member(bad):
    with pytest.raises(AddressError):
        parse_key(bad)
    with pytest.raises(AddressError):
        parse_member(bad)


def test_keys_and_members_are_spelled_as_they_are_read():
    for text in ("ada@example.org", "ada", "@example.org", '"a b"@example.org', '"a b"'):
        assert spell(parse_key(text)) == text
    for text in ("Ada@example.org", "@example.org"):
        assert spell_member(parse_member(text)) == text
    with pytest.raises(AddressError):
        parse_member("ada")


def test_a_map_has_its_bounds():
    two = table({"a": ("b@x.example", "c@x.example")})
    for maps in ({"canonical": two}, {"generic": two}, {"virtual": {Key("a", None): ()}}):
        with pytest.raises(ValueError):
            Rewriting(**maps)
    many = {Key(f"a{n}", None): (SameAt("x.example"),) for n in range(ROWS + 1)}
    with pytest.raises(ValueError):
        Rewriting(virtual=many)


# -- what the operator should mend ----------------------------------------------------------------

#: map: the row that is named, and how the line goes on
WRONG = [
    ({"a@x.example": "b@x.example", "b@x.example": "a@x.example"}, "a@x.example", "is a loop"),
    ({"@x.example": "@y.example", "@y.example": "@x.example"}, "@x.example", "is a loop"),
    ({"ada": "ada+y@example.org"}, "ada", "has too many levels"),
    ({"@old.example": "@example.org", "ada@example.org": "ada@old.example"}, "@old.example",
     "is a loop: ada@old.example -> ada@example.org -> ada@old.example"),
    ({"a+x@x.example": "b+x@x.example", "b@x.example": "a@x.example"}, "b@x.example",
     "is a loop: b+x@x.example -> a+x@x.example -> b+x@x.example"),
    ({"ada@localhost": "a@x.example"}, "ada@localhost",
     "never found: with us it is ada@mx.example.org"),
    ({"@localhost": "a@x.example"}, "@localhost", "never found: with us it is @mx.example.org"),
]  # fmt: skip


@pytest.mark.parametrize(("texts", "row", "what"), WRONG)
def test_what_never_ends_or_is_never_found_is_named(texts, row, what):
    found = rewriting_problems.problems(Rewriting(canonical=table(texts)), named, OURS)
    assert any(each.startswith(f'rewrite.canonical."{row}": {what}') for each in found), found


# -- properties -----------------------------------------------------------------------------------

LOCALS = ("a", "b", "a+x", "b+x", "postmaster")
DOMAINS = ("example.org", "mx.example.org", "x.example", "y.example")
ADDRESSES = [
    Mailbox(local=local, domain=domain)
    for local in (*LOCALS, "c", "c+x", "a+z", "A+X", "+", "a+x+y")
    for domain in (*DOMAINS, "z.example", "localhost", "[127.0.0.1]")
]
keys = st.sampled_from(
    [Key(local, domain) for local in (*LOCALS, None) for domain in (*DOMAINS, None)][:-1]
)
members = st.one_of(
    st.builds(SameAt, st.sampled_from(DOMAINS)),
    st.builds(Mailbox, local=st.sampled_from(LOCALS), domain=st.sampled_from(DOMAINS)),
)
chains = st.dictionaries(keys, members.map(lambda each: (each,)), max_size=6)


@settings(max_examples=400)
@given(chains)
def test_where_no_problem_is_named_every_address_comes_to_rest_and_stays(rows_):
    maps = Rewriting(canonical=rows_, generic=rows_)
    if rewriting_problems.problems(maps, named, OURS):
        return
    for kind, address in itertools.product(rewriting.CHAINS, ADDRESSES):
        once = rewrite(maps, kind, address, named)
        assert isinstance(once, Mailbox), (kind, str(address), str(once))
        assert rewrite(maps, kind, once, named) == once


@given(chains)
def test_postmaster_of_ours_is_taken_only_by_a_row_that_names_him(rows_):
    maps = Rewriting(canonical=rows_, virtual=rows_)
    for kind, domain in itertools.product(rewriting.ON_ENTRY, OURS):
        found = look_up(maps, kind, Mailbox(local="postmaster", domain=domain), named)
        if found is not None:
            assert {Key("postmaster", domain), Key("postmaster", None)} & set(rows_)


@given(chains, st.sampled_from(ADDRESSES))
def test_whatever_is_made_is_an_address(rows_, address):
    for kind in rewriting.KINDS:
        found = look_up(Rewriting(canonical=rows_, virtual=rows_, generic=rows_),
                        kind, address, named)  # fmt: skip
        for each in found or ():
            assert parse_mailbox(str(each)) == each


# -- negative controls: checks that look at less, and the maps that show it ------------------------

LONG = {f"a{n}@y.example": f"a{n + 1}@y.example" for n in range(LEVELS)}
BLIND = {
    "_extensions": (
        lambda _rows, _separator: [""],
        {f"a{n}@x.example": f"a{n + 1}@x.example" for n in range(LEVELS)}
        | {"b+x@x.example": "a0+x@x.example", f"a{LEVELS}+x@x.example": "b+x@x.example"},
        "b+x@x.example",
    ),
    "_led_on": (lambda _rows, _domain: set(), {"@x.example": "@y.example", **LONG}, "a0@x.example"),
}


@pytest.mark.parametrize("helper", BLIND)
def test_a_check_that_looks_at_less_would_miss_a_way_without_end(helper, monkeypatch):
    blind, texts, address = BLIND[helper]
    maps = Rewriting(canonical=table(texts))
    assert isinstance(rewrite(maps, "canonical", parse_mailbox(address), named), Loop)
    named_rows = set(rewriting_problems.problems(maps, named, OURS))
    monkeypatch.setattr(rewriting_problems, helper, blind)
    assert set(rewriting_problems.problems(maps, named, OURS)) < named_rows


def test_a_rewriting_that_stops_after_one_row_is_not_at_rest(monkeypatch):
    maps = Rewriting(canonical=table({"a": "b@example.org", "b": "c@x.example"}))
    a = parse_mailbox("a@example.org")
    once = look_up(maps, "canonical", a, named)
    assert once and rewrite(maps, "canonical", once[0], named) != once[0]
    assert str(rewrite(maps, "canonical", a, named)) == "c@x.example"
