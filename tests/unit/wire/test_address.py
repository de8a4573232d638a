"""Addresses by hand: one row per rule; test_grammar_oracle.py has the grammar's own opinion."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refmta.wire.address import (
    AddressError,
    Mailbox,
    is_address_literal,
    is_domain,
    parse_forward_path,
    parse_mailbox,
    parse_reverse_path,
    read_path,
)

L63 = "a" * 63
LOCAL64 = "l" * 64
DOMAIN189 = f"{L63}.{L63}." + "b" * 61  # with LOCAL64, "@" and brackets: 256


@pytest.mark.parametrize(
    ("text", "local", "domain", "canonical"),
    [
        ("alice@example.org", "alice", "example.org", "alice@example.org"),
        ("Alice@EXAMPLE.Org", "Alice", "example.org", "Alice@example.org"),
        ("a.b+c=d@x", "a.b+c=d", "x", "a.b+c=d@x"),
        ("!#$%&'*+-/=?^_`{|}~@x", "!#$%&'*+-/=?^_`{|}~", "x", "!#$%&'*+-/=?^_`{|}~@x"),
        ('"alice"@x', "alice", "x", "alice@x"),
        ('"a b"@x', "a b", "x", '"a b"@x'),
        ('"a\\b"@x', "ab", "x", "ab@x"),
        ('"a\\"\\\\"@x', 'a"\\', "x", '"a\\"\\\\"@x'),
        ('"a@b>c"@x', "a@b>c", "x", '"a@b>c"@x'),
        ('"a..b"@x', "a..b", "x", '"a..b"@x'),
        ('""@x', "", "x", '""@x'),
        ('"\\ "@x', " ", "x", '" "@x'),
        ("a@1.2.3.4", "a", "1.2.3.4", "a@1.2.3.4"),
        ("a@x--y.0", "a", "x--y.0", "a@x--y.0"),
        ("a@[127.0.0.1]", "a", "[127.0.0.1]", "a@[127.0.0.1]"),
        ("a@[IPv6:FE80::1]", "a", "[IPv6:FE80::1]", "a@[IPv6:FE80::1]"),
        ('a@[tag:">@<]', "a", '[tag:">@<]', 'a@[tag:">@<]'),
        (f"a@{L63}.x", "a", f"{L63}.x", f"a@{L63}.x"),
        (f"{LOCAL64}@{DOMAIN189}", LOCAL64, DOMAIN189, f"{LOCAL64}@{DOMAIN189}"),
    ],
)
def test_accepted(text: str, local: str, domain: str, canonical: str) -> None:
    mailbox = parse_mailbox(text)
    assert (mailbox.local, mailbox.domain, str(mailbox)) == (local, domain, canonical)
    assert mailbox.key == f"{local}@{domain}".lower()
    assert parse_mailbox(str(mailbox)) == mailbox
    assert parse_reverse_path(f"<{text}>") == parse_forward_path(f"<{text}>") == mailbox


REFUSED = [
    "",
    "a",
    "@x",
    "a@",
    "a@x.",
    "a@.x",
    "a@x..y",
    "a@-x",
    "a@x-",
    "a@x_y",
    "a@x y",
    "a b@x",
    ".a@x",
    "a.@x",
    "a..b@x",
    "a@b@x",
    "a@x\n",
    "a@x\0",
    "\u00e4@x",
    "a@\u00e4",
    "a@\u0661.x",
    '"a@x',
    'a"b"@x',
    '"a"b@x',
    '"a"."b"@x',
    '"a"b"@x',
    '"a\\"@x',
    '"a\t"@x',
    "a(comment)@x",
    "a@(comment)x",
    "a@[127.0.0.256]",
    "a@[1.2.3]",
    "a@[1.2.3.4.5]",
    "a@[\u0661.2.3.4]",
    "a@[IPv6:1:2:3:4:5:6:7]",
    "a@[IPv6:1:2:3:4:5:6:7::]",
    "a@[IPv6:12345::]",
    "a@[IPv6:::::]",
    "a@[IPv6:1::2::3]",
    "a@[IPv6:g::]",
    "a@[IPv6:]",
    "a@[]",
    "a@[::1]",
    "a@[tag:]",
    "a@[tag-:x]",
    "a@[tag:a]b]",
    "a@[tag:a b]",
    "a@127.0.0.1]",
    "a" * 65 + "@x",
    '"' + "a" * 63 + '"@x',
    f"a@{L63}a.x",
    f"{LOCAL64}@{DOMAIN189}b",
    f'"{LOCAL64[:62]}"@{DOMAIN189}b',
    "a@" + "b." * 127 + "bb",
]


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text: str) -> None:
    with pytest.raises(AddressError) as bare:
        parse_mailbox(text)
    with pytest.raises(AddressError) as bracketed:
        parse_forward_path(f"<{text}>")
    for reason in (bare.value.reason, bracketed.value.reason):
        assert reason.isascii()
        assert reason.isprintable()
        assert len(reason) < 60


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a@x", "address must begin with <"),
        ("", "address must begin with <"),
        (" <a@x>", "address must begin with <"),
        ("<a@x", "address must end with >"),
        ("<a@x>>", "junk after the address"),
        ("<a@x> ", "junk after the address"),
        ("<a @x>", "unquoted space in address"),
        ("< a@x>", "unquoted space in address"),
        ("<alice>", "address has no domain"),
        ("<a@x.>", "domain ends with a dot"),
        ("<a@x_y>", "not an address of RFC 5321 4.1.2"),
        ("<" + "a" * 65 + "@x>", "local part is longer than 64 octets"),
        ("<a@[1.2.3.256]>", "bad address literal"),
        (f"<a@{L63}a>", "bad domain"),
        ("<@" + "r" * 250 + ":a@x>", "address is longer than 256 octets"),
    ],
)
def test_reasons(text: str, reason: str) -> None:
    with pytest.raises(AddressError) as error:
        parse_reverse_path(text)
    assert error.value.reason == reason


def test_source_routes_are_dropped() -> None:
    assert str(parse_forward_path("<@a,@b.c:d@e>")) == "d@e"
    assert str(parse_reverse_path("<@a:d@e>")) == "d@e"
    for text in ("<@a,b:d@e>", "<@a:>", "<@a d@e>", "<@a,:d@e>", "<@[1.2.3.4]:d@e>", "<:d@e>"):
        with pytest.raises(AddressError):
            parse_forward_path(text)


def test_null_and_postmaster() -> None:
    postmaster = Mailbox(local="postmaster", domain="")
    assert parse_reverse_path("<>") is None
    with pytest.raises(AddressError):
        parse_forward_path("<>")
    for text in ("<Postmaster>", "<POSTMASTER>", "<postmaster>"):
        assert parse_forward_path(text) == postmaster
        with pytest.raises(AddressError):
            parse_reverse_path(text)
    assert (str(postmaster), postmaster.key) == ("postmaster", "postmaster@")
    assert parse_forward_path("<Postmaster@X>") == Mailbox(local="Postmaster", domain="x")


@pytest.mark.parametrize(
    ("local", "domain"),
    [
        ("a\r\n", "x"),
        ("\u00e4", "x"),
        ("a" * 65, "x"),
        (" " * 63, "x"),
        ("a", "X"),
        ("a", "x\n"),
        ("a", ""),
        ("Postmaster", ""),
        ("a", "[1.2.3.4"),
        ("a", "[x]"),
    ],
)
def test_no_malformed_mailbox_can_be_made(local: str, domain: str) -> None:
    with pytest.raises(AddressError):
        Mailbox(local=local, domain=domain)


@pytest.mark.parametrize(
    ("text", "mailbox", "end"),
    [
        ("<a@b> SIZE=1", "a@b", 5),
        ("<a@b>>", "a@b", 5),
        ('<">"@b>x', '">"@b', 7),
        ("<a@[x:>]>", "a@[x:>]", 9),
        ("<>", "None", 2),
    ],
)
def test_read_path_finds_the_end(text: str, mailbox: str, end: int) -> None:
    found, where = read_path(text)
    assert (str(found), where) == (mailbox, end)
    assert read_path("junk" + text, 4) == (found, end + 4)


@settings(max_examples=500, deadline=None)
@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=62))
def test_any_printable_local_part_round_trips(local: str) -> None:
    try:
        mailbox = Mailbox(local=local, domain="example.org")
    except AddressError:
        assert len(local) + local.count('"') + local.count("\\") + 2 > 64
        return
    assert parse_mailbox(str(mailbox)) == mailbox
    assert parse_forward_path(f"<{mailbox}>") == mailbox


def test_domains_and_literals() -> None:
    assert is_domain("a" * 63 + "." + "b" * 63)
    assert is_domain(("a" * 63 + ".") * 3 + "b" * 63)
    assert not is_domain(("a" * 63 + ".") * 4)
    assert not is_domain("")
    assert not is_domain("x\n")
    for literal in (
        *("[0.0.0.0]", "[255.255.255.255]", "[001.02.3.4]", "[IPv6:::]", "[ipv6:::1]"),
        *("[IPv6:1:2:3:4:5:6:7:8]", "[IPv6:1:2:3::4:5:6]", "[IPv6:1::]", "[IPv6:::1.2.3.4]"),
        *("[IPv6:1:2:3:4:5:6:1.2.3.4]", "[IPv6:1:2::3:4:1.2.3.4]", "[x:y]", "[-x:y:z]"),
    ):
        assert is_address_literal(literal), literal
        assert not is_address_literal(literal + "\n")
    assert not is_address_literal("[IPv6:1:2:3::4:5:1.2.3.4]")
    assert not is_address_literal("[IPv6:1.2.3.4]")


@pytest.mark.parametrize("text", ["a", "a.", "-", "a-", '"\\', "@a,", "[", "<", "\\", "1:", "."])
def test_hostile_addresses_come_to_an_end(text: str) -> None:
    """1,024 octets (what a command line may have) of anything are refused; a pattern that tries
    every way to read them would take longer than the time that a test has.
    """
    hostile = text * (1000 // len(text))
    for start in ("<", '<"', "<a@", "<@a:", "<a@[x:", "<@"):
        with pytest.raises(AddressError):
            read_path(start + hostile)
