"""Routing, as a table of recipients, and as properties of expansion and mailbox paths."""

from __future__ import annotations

import itertools
import re
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refmta.protocol import routing
from refmta.protocol.routing import (
    ACCEPTED,
    Domain,
    Rejected,
    Routed,
    Table,
    Target,
    escape_component,
    problems,
    route,
    verify,
)
from refmta.wire.address import Mailbox, parse_forward_path, parse_mailbox


def at(*addresses: str) -> tuple[Mailbox, ...]:
    return tuple(map(parse_mailbox, addresses))


def is_user(name: str) -> bool:
    return name in ("ada", "bob", "eve", "o.h", "-dash")


CHAIN = {f"level{n}": at(f"level{n + 1}@example.org") for n in range(1, 15)}
TABLE = Table(
    hostname="mx.example.org",
    postmaster=parse_mailbox("ada@example.org"),
    literals=frozenset({"[127.0.0.1]", "[ipv6:::1]"}),
    domains={
        "example.org": Domain(
            system_users=True,
            mailboxes=frozenset({"sales", "ada", "odd name", "..", "a/b"}),
            aliases={
                "team": at("ada@example.org", "bob@example.org", "sales@example.org"),
                "all": at("team@example.org", "eve@example.org", "bob@example.org"),
                "one": at("bob@example.org"),
                "self": at("self@example.org"),
                "ping": at("pong@example.org"),
                "pong": at("bob@example.org", "ping@example.org"),
                "away": at("bob@example.org", "eve@example.com"),
                "dead": at("nobody@example.org"),
                "cross": at("anyone@catch.example"),
                "none": (),
                "level15": at("bob@example.org"),
                "tag": at("bob+tagged@example.org"),
                **CHAIN,
            },
        ),
        "virtual.example": Domain(mailboxes=frozenset({"ada", "postmaster"})),
        "catch.example": Domain(
            mailboxes=frozenset({"ada"}), catch_all=parse_mailbox("bob@example.org")
        ),
        "blackhole.example": Domain(catch_all=parse_mailbox("x@blackhole.example")),
    },
)

#: recipient: its targets (user mailbox), or the enhanced code of its refusal
ROUTES = {
    "bob@example.org": ["bob Maildir"],
    "BoB@EXAMPLE.org": ["bob Maildir"],
    "bob+lists@example.org": ["bob Maildir"],
    "bob+@example.org": ["bob Maildir"],
    "bob+a+b@example.org": ["bob Maildir"],
    "+bob@example.org": "5.1.1",
    "o.h@example.org": ["o.h Maildir"],
    "-dash@example.org": "5.1.1",
    "nobody@example.org": "5.1.1",
    "nobody+x@example.org": "5.1.1",
    "sales@example.org": ["virtual example.org/sales"],
    "sales+eu@example.org": ["virtual example.org/sales"],
    "ada@example.org": ["virtual example.org/ada"],  # a mailbox comes before a system user
    '"odd name"@example.org': ["virtual example.org/odd%20name"],
    '".."@example.org': ["virtual example.org/%2E%2E"],
    "a/b@example.org": ["virtual example.org/a%2Fb"],
    "ada@virtual.example": ["virtual virtual.example/ada"],
    "bob@virtual.example": "5.1.1",  # no system users there
    "team@example.org": ["virtual example.org/ada", "bob Maildir", "virtual example.org/sales"],
    "team+x@example.org": ["virtual example.org/ada", "bob Maildir", "virtual example.org/sales"],
    "all@example.org": [
        "virtual example.org/ada",
        "bob Maildir",
        "virtual example.org/sales",
        "eve Maildir",
    ],
    "one@example.org": ["bob Maildir"],
    "tag@example.org": ["bob Maildir"],
    "self@example.org": "5.4.6",
    "ping@example.org": "5.4.6",
    "pong@example.org": "5.4.6",
    "level1@example.org": "5.4.6",
    "level5@example.org": "5.4.6",
    "level6@example.org": ["bob Maildir"],  # ten levels
    "away@example.org": "5.4.4",
    "dead@example.org": "5.1.1",
    "none@example.org": "5.3.5",
    "cross@example.org": ["bob Maildir"],
    "ada@catch.example": ["virtual catch.example/ada"],
    "anyone@catch.example": ["bob Maildir"],
    "x@blackhole.example": "5.4.6",
    "eve@example.com": "5.7.1",
    "eve@sub.example.org": "5.7.1",
    "ada@[127.0.0.2]": "5.7.1",
    "ada@[127.0.0.1]": "5.1.1",  # ours, but only postmaster lives there
    "ada@mx.example.org": "5.1.1",
    "postmaster@example.org": ["virtual example.org/ada"],
    "PostMaster@catch.example": ["virtual example.org/ada"],  # before the catch-all
    "postmaster@virtual.example": ["virtual virtual.example/postmaster"],  # its own
    "postmaster@mx.example.org": ["virtual example.org/ada"],
    "postmaster@[127.0.0.1]": ["virtual example.org/ada"],
    "Postmaster@[IPv6:::1]": ["virtual example.org/ada"],
    "postmaster@example.com": "5.7.1",
}


@pytest.mark.parametrize("address", ROUTES)
def test_route(address: str) -> None:
    expected = ROUTES[address]
    answer = route(TABLE, parse_mailbox(address), is_user)
    if isinstance(answer, Routed):
        assert [f"{target.user} {target.mailbox}" for target in answer.targets] == expected
    else:
        assert (answer.reply.enhanced, answer.reply.code) == (expected, 550)


@pytest.mark.parametrize("address", ROUTES)
def test_verify_accepts_what_route_can_route(address: str) -> None:
    recipient = parse_mailbox(address)
    routed = isinstance(route(TABLE, recipient, is_user), Routed)
    assert (verify(TABLE, recipient, is_user) == ACCEPTED) is routed


@pytest.mark.parametrize("path", ["<Postmaster>", "<POSTMASTER>", "<postmaster>"])
def test_postmaster_without_a_domain(path: str) -> None:
    recipient = parse_forward_path(path)
    assert verify(TABLE, recipient, is_user) == ACCEPTED
    answer = route(TABLE, recipient, is_user)
    assert isinstance(answer, Routed)
    assert answer.targets == (
        Target(
            kind="virtual", user="virtual", mailbox="example.org/ada", address="ada@example.org"
        ),
    )


def test_a_broken_postmaster_is_accepted_but_not_routed() -> None:
    table = Table(hostname="mx", postmaster=parse_mailbox("postmaster@mx"), domains={})
    recipient = parse_mailbox("postmaster@mx")
    assert verify(table, recipient, is_user) == ACCEPTED
    answer = route(table, recipient, is_user)
    assert isinstance(answer, Rejected)
    assert answer.reply.enhanced == "5.4.6"


def test_separator_is_data() -> None:
    domains = {"example.org": Domain(system_users=True)}
    postmaster = parse_mailbox("ada@example.org")
    none = Table(hostname="mx", postmaster=postmaster, domains=domains, separator="")
    dash = Table(hostname="mx", postmaster=postmaster, domains=domains, separator="--")
    assert isinstance(route(none, parse_mailbox("bob+x@example.org"), is_user), Rejected)
    assert isinstance(route(dash, parse_mailbox("bob--x@example.org"), is_user), Routed)
    assert isinstance(route(dash, parse_mailbox("bob+x@example.org"), is_user), Rejected)


@pytest.mark.parametrize(
    "local", ["root/../ada", "a" * 33, "-ada", "ad@a", "ada:", "%s", '"', "ADA\\"]
)
def test_the_user_database_is_asked_for_names_only(local: str) -> None:
    def never(name: str) -> bool:
        raise AssertionError(name)

    table = Table(hostname="mx", postmaster=at("a@b")[0], domains={"d": Domain(system_users=True)})
    assert isinstance(route(table, Mailbox(local=local, domain="d"), never), Rejected)


def test_a_refusal_tells_the_client_no_other_address() -> None:
    answer = route(TABLE, parse_mailbox("away@example.org"), is_user)
    assert isinstance(answer, Rejected)
    assert answer.reply.lines == ("alias away@example.org leads to another host",)
    assert answer.detail == "leads to another host: away@example.org -> eve@example.com"


def test_too_many_targets() -> None:
    names = [f"m{n}" for n in range(routing.TARGETS + 1)]
    members = tuple(Mailbox(local=name, domain="d") for name in names)
    domain = Domain(mailboxes=frozenset(names), aliases={"full": members[:-1], "over": members})
    table = Table(hostname="mx", postmaster=members[0], domains={"d": domain})
    full = route(table, parse_mailbox("full@d"), is_user)
    assert isinstance(full, Routed)
    assert len(full.targets) == routing.TARGETS
    over = route(table, parse_mailbox("over@d"), is_user)
    assert isinstance(over, Rejected)
    assert over.reply.enhanced == "5.4.6"


def test_wide_aliases_expand_once_each() -> None:
    """Nine levels of twenty members each would be 20^9 steps without merging."""
    aliases = {
        f"a{level}-{n}": tuple(Mailbox(local=f"a{level + 1}-{m}", domain="d") for m in range(20))
        for level in range(9)
        for n in range(20)
    }
    mailboxes = frozenset(f"a9-{n}" for n in range(20))
    table = Table(
        hostname="mx",
        postmaster=at("x@d")[0],
        domains={"d": Domain(mailboxes=mailboxes, aliases=aliases)},
    )
    answer = route(table, parse_mailbox("a0-0@d"), is_user)
    assert isinstance(answer, Routed)
    assert len(answer.targets) == 20


def test_problems_name_the_key_path() -> None:
    assert problems(TABLE, is_user) == [
        'domains."example.org".aliases."self": is a loop: self@example.org -> self@example.org',
        'domains."example.org".aliases."ping": is a loop: '
        "ping@example.org -> pong@example.org -> ping@example.org",
        'domains."example.org".aliases."pong": is a loop: '
        "pong@example.org -> ping@example.org -> pong@example.org",
        'domains."example.org".aliases."away": leads to another host: '
        "away@example.org -> eve@example.com",
        'domains."example.org".aliases."dead": leads to an unknown user: '
        "dead@example.org -> nobody@example.org",
        'domains."example.org".aliases."none": has no members: none@example.org',
        *(
            f'domains."example.org".aliases."level{n}": has too many levels: '
            + " -> ".join(f"level{m}@example.org" for m in range(n, n + 11))
            for n in range(1, 6)
        ),
        'domains."blackhole.example".catch_all: is a loop: '
        "@blackhole.example -> @blackhole.example",
    ]


def test_problems_of_keys_and_postmaster() -> None:
    domain = Domain(
        mailboxes=frozenset({"Upper", "x" * 65}), aliases={"List": at("upper@example.org")}
    )
    table = Table(
        hostname="mx", postmaster=at("gone@example.net")[0], domains={"example.org": domain}
    )
    found = problems(table)
    assert [line.partition(":")[0] for line in found] == [
        'domains."example.org".mailboxes',
        'domains."example.org".mailboxes',
        'domains."example.org".aliases',
        "postmaster",
    ]
    assert "'Upper' is not a lower-cased local part" in found[0]
    assert found[-1] == "postmaster: gone@example.net: relaying denied"


def test_a_sound_table_has_no_problems() -> None:
    sound = Domain(system_users=True, aliases={"team": at("ada@example.org", "bob@example.org")})
    table = Table(
        hostname="mx", postmaster=at("ada@example.org")[0], domains={"example.org": sound}
    )
    assert problems(table) == []
    assert problems(table, is_user) == []
    assert problems(table, lambda name: name == "ada") == [
        'domains."example.org".aliases."team": leads to an unknown user: '
        "team@example.org -> bob@example.org"
    ]


# --- mailbox paths -------------------------------------------------------------------------------


def unescape(component: str) -> str:
    """The oracle: what an escaped name stands for."""
    if component == "%":
        return ""
    return re.sub(
        rb"%([0-9A-F]{2})", lambda match: bytes([int(match[1], 16)]), component.encode()
    ).decode()


ESCAPES = {
    "ada": "ada",
    "a.b": "a.b",
    "a..b": "a..b",
    "": "%",
    ".": "%2E",
    "..": "%2E%2E",
    "...": "%2E.%2E",
    ".ada": "%2Eada",
    "ada.": "ada%2E",
    "%": "%25",
    "%2E": "%252%45",
    "a/b": "a%2Fb",
    "../../etc/passwd": "%2E.%2F..%2Fetc%2Fpasswd",
    "Ada": "%41da",
    "a\x00b": "a%00b",
    "\n": "%0A",
    "é": "%C3%A9",
}


@pytest.mark.parametrize("text", ESCAPES)
def test_escape(text: str) -> None:
    assert escape_component(text) == ESCAPES[text]
    assert unescape(ESCAPES[text]) == text


def check_component(text: str) -> None:
    name = escape_component(text)
    assert re.fullmatch(r"[a-z0-9_+.%0-9A-F-]+", name)
    assert not name.startswith(".")
    assert PurePosixPath("root", name).parts == ("root", name)
    assert unescape(name) == text


def test_every_short_name_stays_in_its_directory() -> None:
    for length in range(5):
        for letters in itertools.product("a.%/2E\0A", repeat=length):
            check_component("".join(letters))


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_name_stays_in_its_directory(text: str) -> None:
    check_component(text)


# --- any table -----------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c", "d", "e", "f", "g", "h"])
MEMBERS = st.lists(
    st.builds(lambda local: Mailbox(local=local, domain="d"), NAMES), min_size=1, max_size=3
).map(tuple)


@given(aliases=st.dictionaries(NAMES, MEMBERS), mailboxes=st.frozensets(NAMES), catch=st.booleans())
def test_expansion_agrees_with_reachability(
    aliases: dict[str, tuple[Mailbox, ...]], mailboxes: frozenset[str], catch: bool
) -> None:
    """A recipient is routed to what its aliases reach, unless they reach a loop or a dead end."""
    domain = Domain(
        mailboxes=mailboxes,
        aliases=aliases,
        catch_all=Mailbox(local="h", domain="d") if catch else None,
    )
    table = Table(hostname="mx", postmaster=at("x@y")[0], domains={"d": domain})
    for name in "abcdefgh":
        answer = route(table, Mailbox(local=name, domain="d"), lambda _: False)
        reached = _reach(name, domain, ())
        if isinstance(answer, Routed):
            assert [target.mailbox for target in answer.targets] == [
                f"d/{local}" for local in dict.fromkeys(reached or ())
            ]
        else:
            assert reached is None


def _reach(local: str, domain: Domain, way: tuple[str, ...]) -> list[str] | None:
    """The plain definition: depth first, without merging."""
    if local in domain.aliases:
        key, members = local, domain.aliases[local]
    elif local in domain.mailboxes:
        return [local]
    elif domain.catch_all is not None:
        key, members = "@", (domain.catch_all,)
    else:
        return None
    if key in way or len(way) >= routing.LEVELS:
        return None
    found = []
    for member in members:
        below = _reach(member.local, domain, (*way, key))
        if below is None:
            return None
        found += below
    return found
