"""Routing, as a table of recipients, and as properties of expansion and mailbox paths."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refmta.protocol import rewriting, routing
from refmta.protocol.relaying import Relaying, parse_network
from refmta.protocol.routing import (
    ACCEPTED,
    Domain,
    Rejected,
    Routed,
    Table,
    Target,
    escape_component,
    is_ours,
    leaving,
    problems,
    route,
    verify,
)
from refmta.wire.address import Mailbox, parse_forward_path, parse_mailbox
from specs.kernel.mutant import hits, mutate


def at(*addresses: str) -> tuple[Mailbox, ...]:
    return tuple(map(parse_mailbox, addresses))


def is_user(name: str) -> bool:
    return name in ("ada", "bob", "eve", "o.h", "-dash")


INSIDE, OUTSIDE = "127.0.0.5", "192.0.2.1"  # clients

CHAIN = {f"level{n}": at(f"level{n + 1}@example.org") for n in range(1, 15)}
TABLE = Table(
    hostname="mx.example.org",
    postmaster=parse_mailbox("ada@example.org"),
    literals=frozenset({"[127.0.0.1]", "[IPv6:::1]"}),
    relaying=Relaying(
        networks=(parse_network("127.0.0.0/8"),),
        domains=frozenset({"backup.example"}),
        next_hops={"hop.example": "[127.0.0.1]:2526", "backup.example": "mx2.backup.example:26"},
    ),
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
                "away": at("bob@example.org", "Eve+x@example.com", "sales@example.org"),
                "away2": at("away@example.org", "Eve+x@example.com", "eve+x@example.com"),
                "nowhere": at("bob@example.org", "eve@[x400:c=us]"),
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
        "away.example": Domain(catch_all=parse_mailbox("in@hop.example")),
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
    "away@example.org": [
        "bob Maildir",
        "example.com Eve+x@example.com",
        "virtual example.org/sales",
    ],
    "away2@example.org": [
        "bob Maildir",
        "example.com Eve+x@example.com",
        "virtual example.org/sales",
        "example.com eve+x@example.com",  # another mailbox, for all that we know
    ],
    "any@away.example": ["[127.0.0.1]:2526 in@hop.example"],
    "nowhere@example.org": "5.4.4",
    "dead@example.org": "5.1.1",
    "none@example.org": "5.3.5",
    "cross@example.org": ["bob Maildir"],
    "ada@catch.example": ["virtual catch.example/ada"],
    "anyone@catch.example": ["bob Maildir"],
    "x@blackhole.example": "5.4.6",
    "eve@example.com": ["example.com eve@example.com"],
    "EvE+x@EXAMPLE.com": ["example.com EvE+x@example.com"],
    "eve@sub.example.org": ["sub.example.org eve@sub.example.org"],
    "a@hop.example": ["[127.0.0.1]:2526 a@hop.example"],
    "a@sub.hop.example": ["sub.hop.example a@sub.hop.example"],
    "a@backup.example": ["mx2.backup.example:26 a@backup.example"],
    "ada@[127.0.0.2]": ["[127.0.0.2] ada@[127.0.0.2]"],
    "ada@[127.000.0.02]": ["[127.0.0.2] ada@[127.000.0.02]"],
    "ada@[IPv6:2001:DB8:0:0::1]": ["[IPv6:2001:db8::1] ada@[IPv6:2001:DB8:0:0::1]"],
    "ada@[x400:c=us]": "5.1.2",
    "ada@[127.000.000.001]": "5.1.1",
    "ada@[IPv6:0:0:0:0:0:0:0:1]": "5.1.1",
    "ada@[IPv6:::ffff:127.0.0.1]": "5.1.1",
    "ada@localhost": "5.1.1",
    "postmaster@LOCALHOST": ["virtual example.org/ada"],
    "ada@[127.0.0.1]": "5.1.1",  # ours, but only postmaster lives there
    "ada@mx.example.org": "5.1.1",
    "postmaster@example.org": ["virtual example.org/ada"],
    "PostMaster@catch.example": ["virtual example.org/ada"],  # before the catch-all
    "postmaster@virtual.example": ["virtual virtual.example/postmaster"],  # its own
    "postmaster@mx.example.org": ["virtual example.org/ada"],
    "postmaster@[127.0.0.1]": ["virtual example.org/ada"],
    "Postmaster@[IPv6:::1]": ["virtual example.org/ada"],
    "postmaster@example.com": ["example.com postmaster@example.com"],
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
    """From a client inside; from one outside, if it is ours or we are its backup."""
    recipient = parse_mailbox(address)
    routed = isinstance(route(TABLE, recipient, is_user), Routed)
    assert (verify(TABLE, recipient, is_user, INSIDE) == ACCEPTED) is routed
    allowed = is_ours(TABLE, recipient.domain) or recipient.domain == "backup.example"
    for client in (OUTSIDE, "", "unknown", "::1"):
        answer = verify(TABLE, recipient, is_user, client)
        assert (answer == ACCEPTED) is (routed and allowed)
        assert allowed or answer == routing.NO_RELAY


#: Ways around a check of the domain: each of these local parts is at ours, and nobody's.
HACKS = [
    "eve%example.com@example.org", '"eve@example.com"@example.org', "example.com!eve@example.org",
    '"<eve@example.com>"@example.org', "@example.com:nobody@example.org",
]  # fmt: skip


@pytest.mark.parametrize("address", HACKS)
@pytest.mark.parametrize("client", [INSIDE, OUTSIDE])
def test_no_local_part_is_a_way_out(address: str, client: str) -> None:
    recipient = parse_forward_path(f"<{address}>")
    assert verify(TABLE, recipient, is_user, client) == routing.NO_USER


def test_a_source_route_by_us_is_no_way_out() -> None:
    recipient = parse_forward_path("<@example.org,@mx.example.org:eve@example.com>")
    assert verify(TABLE, recipient, is_user, OUTSIDE) == routing.NO_RELAY


def test_a_target_elsewhere_keeps_the_address_as_it_came() -> None:
    answer = route(TABLE, parse_mailbox("EvE+x@EXAMPLE.com"), is_user)
    assert isinstance(answer, Routed)
    assert answer.targets == (
        Target(
            kind="remote", user="example.com", mailbox="EvE+x@example.com",
            address="EvE+x@example.com",
        ),
    )  # fmt: skip


def test_a_user_named_like_a_destination_is_another_target() -> None:
    domain = Domain(system_users=True, aliases={"both": at("ex.ample@d", "x@ex.ample")})
    table = Table(hostname="mx", postmaster=at("a@d")[0], domains={"d": domain})
    answer = route(table, parse_mailbox("both@d"), lambda _name: True)
    assert isinstance(answer, Routed)
    assert [(each.kind, each.user) for each in answer.targets] == [
        ("system", "ex.ample"), ("remote", "ex.ample"),
    ]  # fmt: skip


def test_what_leaves_by_the_configuration_is_listed() -> None:
    assert leaving(TABLE) == [
        ('domains."example.org".aliases."away"', "Eve+x@example.com"),
        ('domains."example.org".aliases."away2"', "Eve+x@example.com"),
        ('domains."example.org".aliases."away2"', "eve+x@example.com"),
        ('domains."example.org".aliases."nowhere"', "eve@[x400:c=us]"),
        ('domains."away.example".catch_all', "in@hop.example"),
    ]


@pytest.mark.parametrize("path", ["<Postmaster>", "<POSTMASTER>", "<postmaster>"])
def test_postmaster_without_a_domain(path: str) -> None:
    recipient = parse_forward_path(path)
    assert verify(TABLE, recipient, is_user, OUTSIDE) == ACCEPTED
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
    assert verify(table, recipient, is_user, OUTSIDE) == ACCEPTED
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
    answer = route(TABLE, parse_mailbox("nowhere@example.org"), is_user)
    assert isinstance(answer, Rejected)
    assert answer.reply.lines == ("alias nowhere@example.org leads to no host",)
    assert answer.detail == "leads to no host: nowhere@example.org -> eve@[x400:c=us]"


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
        'domains."example.org".aliases."nowhere": leads to no host: '
        "nowhere@example.org -> eve@[x400:c=us]",
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
    assert found[-1] == (
        "postmaster: gone@example.net: at another host; name a mailbox or an alias of ours"
    )


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


# -- the operator's maps (`protocol.rewriting`) ----------------------------------------------------


def mapped(**maps: dict[str, str | tuple[str, ...]]) -> Table:
    """TABLE with maps, keys and members as the configuration has them."""
    rows = {
        kind: {
            rewriting.parse_key(key): tuple(
                map(rewriting.parse_member, (row,) if isinstance(row, str) else row)
            )
            for key, row in texts.items()
        }
        for kind, texts in maps.items()
    }
    return replace(TABLE, rewriting=rewriting.Rewriting(**rows))


VIRTUAL = mapped(
    virtual={
        "both@example.org": ("bob@example.org", "eve@example.com"),
        "bob": "ada@example.org",
        "chain@far.example": "@near.example",
        "@near.example": "sales@example.org",
        "keep@near.example": "keep@near.example",
        "to-alias": "team@example.org",
        "dangling": "nobody@example.org",
        "round": "round@example.org",
        "round2": ("round2@example.org", "ada@example.org"),
        "left": "right@example.org",
        "right": "left@example.org",
        "@catch.example": "@far.example",
    },
    generic={"@example.com": "@public.example"},
)

#: recipient: its targets, or the enhanced code of its refusal
VIRTUAL_ROUTES = {
    "both@example.org": [
        "virtual example.org/ada", "example.com eve@public.example",
    ],  # bob is somebody else's row
    "bob+x@example.org": ["virtual example.org/ada"],
    "Bob@Example.ORG": ["virtual example.org/ada"],
    "bob@mx.example.org": ["virtual example.org/ada"],
    "bob@[127.0.0.1]": ["virtual example.org/ada"],
    "bob@example.com": ["example.com bob@public.example"],
    "chain@far.example": ["virtual example.org/sales"],
    "chain+x@far.example": ["virtual example.org/sales"],
    "keep@near.example": ["near.example keep@near.example"],
    "to-alias@example.org": ["virtual example.org/ada", "virtual example.org/sales"],
    "dangling@example.org": "5.1.1",
    "round@example.org": "5.1.1",  # it means itself, and is nobody
    "round2@example.org": "5.4.6",
    "left@example.org": "5.4.6",
    "postmaster@catch.example": ["virtual example.org/ada"],
    "anyone@catch.example": ["far.example anyone@far.example"],
    "team@example.org": ["virtual example.org/ada", "virtual example.org/sales"],
}  # fmt: skip


@pytest.mark.parametrize("address", VIRTUAL_ROUTES)
def test_rows_of_virtual_come_first_and_are_expanded_like_aliases(address: str) -> None:
    expected = VIRTUAL_ROUTES[address]
    answer = route(VIRTUAL, parse_mailbox(address), is_user)
    if isinstance(answer, Routed):
        assert [f"{target.user} {target.mailbox}" for target in answer.targets] == expected
    else:
        assert answer.reply.enhanced == expected


@pytest.mark.parametrize("address", [a for a, row in VIRTUAL_ROUTES.items() if row[0] != "5"])
def test_every_address_of_an_expansion_means_its_target_and_nothing_else(address: str) -> None:
    """The queue remembers these addresses, and asks anew after a restart."""
    answer = route(VIRTUAL, parse_mailbox(address), is_user)
    assert isinstance(answer, Routed)
    for target in answer.targets:
        assert route(VIRTUAL, parse_mailbox(target.address), is_user) == Routed((target,))


def test_a_map_neither_opens_nor_closes_the_relay() -> None:
    """Permission is a matter of what the client said."""
    table = mapped(
        canonical={"away@example.org": "eve@example.com", "eve@example.com": "ada@example.org"},
        virtual={"zoe@example.com": "ada@example.org", "out@example.org": "eve@other.example"},
    )
    for said, outside in (
        ("away@example.org", ACCEPTED), ("out@example.org", ACCEPTED),
        ("eve@example.com", routing.NO_RELAY), ("zoe@example.com", routing.NO_RELAY),
    ):  # fmt: skip
        assert verify(table, parse_mailbox(said), is_user, OUTSIDE) == outside
        assert verify(table, parse_mailbox(said), is_user, INSIDE) == ACCEPTED


def test_what_comes_in_is_looked_for_under_its_canonical_name() -> None:
    table = mapped(canonical={"old@example.org": "bob@example.org", "ada": "x@example.org"})
    assert verify(table, parse_mailbox("old@example.org"), is_user, OUTSIDE) == ACCEPTED
    assert verify(table, parse_mailbox("ada@example.org"), is_user, OUTSIDE) == routing.NO_USER
    # Who routes asks about what came in: it has its name already.
    assert isinstance(route(table, parse_mailbox("ada@example.org"), is_user), Routed)
    assert str(routing.entering(table, parse_mailbox("old@example.org"))) == "bob@example.org"


def test_a_loop_of_a_map_is_a_refusal_and_never_an_error() -> None:
    table = mapped(
        canonical={"a": "b@example.org", "b": "a@example.org"},
        generic={"a@x.example": "b@x.example", "b@x.example": "a@x.example"},
    )
    answer = verify(table, parse_mailbox("a@example.org"), is_user, INSIDE)
    assert isinstance(answer, Rejected) and answer.reply.enhanced == "5.4.6"
    assert "b@example.org" not in answer.reply.lines[0]  # the client hears only what it said
    answer = route(table, parse_mailbox("a@x.example"), is_user)
    assert isinstance(answer, Rejected) and answer.reply.enhanced == "5.4.6"


def test_problems_of_maps_name_the_row() -> None:
    table = mapped(
        virtual={
            "gone": "nobody@example.org", "l": ("l@example.org", "ada@example.org"),
            "team@example.org": "ada@example.org", "ada+x@example.org": "ada+x@example.org",
            "list@example.org": ("ada+x@example.org", "sales@example.org"),
            "ada@example.org": "bob@example.org", "@p.example": "@q.example",
            "@q.example": "@p.example", "@r.example": "@virtual.example",
        },
        canonical={"c": "c+x@example.org"},
    )  # fmt: skip
    table = replace(table, domains={**TABLE.domains, "example.org": replace(
        TABLE.domains["example.org"], aliases={"team": at("bob@example.org")})})  # fmt: skip
    lines = [each for each in problems(table, is_user) if "blackhole" not in each]
    assert [each.split(": ")[0] for each in lines] == [
        'rewrite.canonical."c"', 'domains."example.org".aliases."team"',
        'rewrite.virtual."gone"', 'rewrite.virtual."l"',
        'rewrite.virtual."list@example.org"', 'rewrite.virtual."@p.example"',
        'rewrite.virtual."@q.example"', 'rewrite.virtual."@r.example"',  # by way of l
    ]  # fmt: skip
    assert "leads to ada@example.org, which means something else by itself" in lines[4]


def test_what_leaves_by_a_map_is_listed() -> None:
    table = mapped(
        canonical={"@example.org": "@example.com", "x@example.com": "y@example.com"},
        virtual={"gone": ("gone@example.com", "ada@example.org")},
    )
    assert leaving(table)[-2:] == [
        ('rewrite.canonical."@example.org"', "@example.com"),
        ('rewrite.virtual."gone"', "gone@example.com"),
    ]


#: what a map must not do: the passage, the change, the question and the answer that shows it
OPENED = {
    "permission by the canonical name": (
        "    if not is_ours(table, recipient.domain) and not relaying",
        "    recipient = entering(table, recipient) if __mutant_ran__() else recipient\n"
        "    if not is_ours(table, recipient.domain) and not relaying",
        "eve@example.com",
    ),
    "a row of virtual makes its domain ours": (
        "    if not is_ours(table, recipient.domain) and not relaying",
        "    if _virtual(table, recipient) and __mutant_ran__():\n        return ACCEPTED\n"
        "    if not is_ours(table, recipient.domain) and not relaying",
        "zoe@example.com",
    ),
}


@pytest.mark.parametrize("name", OPENED)
def test_a_relay_that_a_map_opens_would_be_noticed(name: str) -> None:
    passage, change, said = OPENED[name]
    mutated = mutate("refmta.protocol.routing", [(passage, change)])
    table = mapped(
        canonical={"eve@example.com": "ada@example.org"},
        virtual={"zoe@example.com": "ada@example.org"},
    )
    recipient = parse_mailbox(said)
    assert verify(table, recipient, is_user, OUTSIDE) == routing.NO_RELAY
    assert mutated.verify(table, recipient, is_user, OUTSIDE) != routing.NO_RELAY
    assert hits(mutated) > 0
