"""Addresses, commands, replies and trace fields against RFC 5321's own grammar, both ways.

The oracle is the package `abnf` with the grammar text of the RFC (rfc5321.abnf), core rules and
dates from its RFC 5234 and RFC 5322.  It shares no code with refmta.  For every text:

    both accept            the parts must be equal too: local part, domain, parameters
    both refuse            fine
    they differ            a deviation of deviations.toml must explain it, else the test fails

A deviation explains a text through a predicate below, which looks at the *oracle's* parse tree
where the oracle accepts.  Each listed deviation must be shown by its example, and must be the only
one that explains it; predicate and list have the same ids.

Exhaustive: all texts of up to 4 characters over an alphabet of 8, put into seven places.
Sampled (Hypothesis): texts made of pieces of the grammar and of near misses.
Controls: three parsers with one rule broken, each refused by the same comparison.
"""

import itertools
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
from abnf import ParseError, Rule
from abnf.grammars import rfc5322
from abnf.grammars.misc import load_grammar_rulelist
from hypothesis import given, settings
from hypothesis import strategies as st

from refmta.wire import address, command, header, reply
from refmta.wire.address import AddressError, Mailbox
from refmta.wire.command import CommandError

HERE = Path(__file__).parent
FROM_RFC5322 = ("atext", "FWS", "CFWS", "date-time", "msg-id")
COMMANDS = (
    *("ehlo", "helo", "mail", "rcpt", "data", "rset", "vrfy", "expn", "help", "noop", "quit"),
)


@load_grammar_rulelist([(name, rfc5322.Rule(name)) for name in FROM_RFC5322])
class Rfc5321(Rule):
    grammar: ClassVar[str] = (HERE / "rfc5321.abnf").read_text(encoding="ascii")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Accepted with these parts, or refused; `tree` is the oracle's."""

    accepted: bool
    parts: tuple[object, ...] = ()
    tree: Any = None


REFUSED = Verdict(accepted=False)


# The oracle's opinion.


def subtrees(tree: Any, name: str) -> Iterator[Any]:
    """All nodes of that rule, in order."""
    if tree is None:
        return
    if tree.name.lower() == name.lower():
        yield tree
    for child in tree.children:
        yield from subtrees(child, name)


def nodes(tree: Any, name: str) -> Iterator[str]:
    """The texts of all nodes of that rule, in order."""
    return (node.value for node in subtrees(tree, name))


def unquoted(local: str) -> str:
    return re.sub(r"\\(.)", r"\1", local[1:-1]) if local.startswith('"') else local


def oracle_mailbox(tree: Any) -> tuple[str, ...]:
    """Local part and domain of the one mailbox in the tree, source routes aside."""
    for mailbox in nodes(tree, "Mailbox"):
        local = next(nodes(tree, "Local-part"))
        domain = mailbox[len(local) + 1 :]
        return unquoted(local), domain if domain.startswith("[") else domain.lower()
    postmaster = re.match("(?i)RCPT TO:<(Postmaster)@", tree.value)  # a rule of its own, in rcpt
    return (postmaster[1], next(nodes(tree, "Domain")).lower()) if postmaster else ()


def oracle_parts(tree: Any) -> tuple[object, ...]:
    parts: list[object] = list(oracle_mailbox(tree))
    for parameter in nodes(tree, "esmtp-param"):
        keyword, equals, value = parameter.partition("=")
        parts.append((keyword.upper(), value if equals else None))
    return tuple(parts)


@lru_cache(maxsize=4096)
def oracle(rule: str, text: str) -> Verdict:
    line = rule in COMMANDS or rule.endswith("-line")
    try:
        tree = Rfc5321(rule).parse_all(text + "\r\n" if line else text)
    except ParseError:
        return REFUSED
    return Verdict(accepted=True, parts=oracle_parts(tree), tree=tree)


# refmta's opinion.


def mailbox_parts(mailbox: Mailbox | None) -> tuple[object, ...]:
    return (mailbox.local, mailbox.domain) if mailbox and mailbox.domain else ()


def parse_command(rule: str, text: str) -> Verdict:
    """Accepted only as the command that the rule is for."""
    try:
        value = command.parse_command(text.encode("latin-1", "replace"))
    except CommandError:
        return REFUSED
    if type(value).__name__.lower() != rule:
        return REFUSED
    if isinstance(value, command.Mail):
        return Verdict(accepted=True, parts=(*mailbox_parts(value.reverse_path), *value.parameters))
    if isinstance(value, command.Rcpt):
        return Verdict(accepted=True, parts=(*mailbox_parts(value.forward_path), *value.parameters))
    return Verdict(accepted=True)


PARSERS: dict[str, Callable[[str], Mailbox | None]] = {
    "Mailbox": address.parse_mailbox,
    "Reverse-path": address.parse_reverse_path,
    "Forward-path": address.parse_forward_path,
}


def refmta(rule: str, text: str) -> Verdict:
    if rule in COMMANDS:
        return parse_command(rule, text)
    if rule == "Reply-line":  # what Reply.encode sends is what refmta "accepts"
        sent = reply.reply(int(text[:3]), None, text[4:]).encode()
        return Verdict(accepted=sent == text.encode("latin-1") + b"\r\n")
    try:
        return Verdict(accepted=True, parts=mailbox_parts(PARSERS[rule](text)))
    except AddressError:
        return REFUSED


# Deviations.


def longest(tree: Any, rule: str) -> int:
    return max(map(len, nodes(tree, rule)), default=0)


def too_many_groups(tree: Any) -> bool:
    """More than six groups beside "::", or four where a dotted quad follows."""
    return any(
        sum(1 for _ in subtrees(literal, "IPv6-hex")) > most
        for rule, most in (("IPv6-comp", 6), ("IPv6v4-comp", 4))
        for literal in subtrees(tree, rule)
    )


def other_ipv6(tree: Any) -> bool:
    return any(
        text[:5].lower() == "ipv6:" and not oracle("IPv6-address-literal", text).accepted
        for text in nodes(tree, "General-address-literal")
    )


def repeated(tree: Any) -> bool:
    keywords = [text.upper() for text in nodes(tree, "esmtp-keyword")]
    return len(set(keywords)) < len(keywords)


def any_text(*verbs: str) -> Callable[[str, str, Any], bool]:
    return lambda rule, text, _: rule in verbs and bool(re.fullmatch(r"\w{4} [ -~]*[!-~]", text))


Predicate = Callable[[str, str, Any], bool]
ORACLE_ACCEPTS: dict[str, Predicate] = {
    "local-part-over-64": lambda rule, text, tree: longest(tree, "Local-part") > 64,
    "domain-over-255": lambda rule, text, tree: longest(tree, "Domain") > 255,
    "path-over-256": lambda rule, text, tree: (
        longest(tree, "Path") > 256 or longest(tree, "Mailbox") > 254
    ),
    "label-over-63": lambda rule, text, tree: longest(tree, "sub-domain") > 63,
    "snum-over-255": lambda rule, text, tree: max(map(int, nodes(tree, "Snum")), default=0) > 255,
    "ipv6-too-many-groups": lambda rule, text, tree: too_many_groups(tree),
    "ipv6-tag-with-other-content": lambda rule, text, tree: other_ipv6(tree),
    "line-over-1024": lambda rule, text, tree: rule in COMMANDS and len(text) > 1024,
    "parameter-twice": lambda rule, text, tree: repeated(tree),
}
REFMTA_ACCEPTS: dict[str, Predicate] = {
    "trailing-blanks": lambda rule, text, _: rule in COMMANDS and text.endswith((" ", "\t")),
    "postmaster-alone": lambda rule, text, _: (
        (rule, text.lower()) == ("Forward-path", "<postmaster>")
    ),
    "helo-with-literal": lambda rule, text, _: (
        rule == "helo" and oracle("address-literal", text[5:]).accepted
    ),
    "vrfy-any-text": any_text("vrfy", "expn"),
    "noop-any-text": any_text("noop"),
    "help-any-text": any_text("help"),
    "reply-space-without-text": lambda rule, text, _: rule == "Reply-line" and text[3:] == " ",
}


@dataclass(frozen=True, slots=True)
class Deviation:
    id: str
    rule: str
    example: str
    accepts: str
    reason: str


def listed() -> dict[str, Deviation]:
    entries = tomllib.loads((HERE / "deviations.toml").read_text(encoding="ascii"))["deviation"]
    return {entry["id"]: Deviation(**entry) for entry in entries}


def example_text(example: str) -> str:
    return re.sub(r"\{(.+?)\*(\d+)\}", lambda match: match[1] * int(match[2]), example)


def explained_by(rule: str, text: str, theirs: Verdict) -> list[str]:
    predicates = ORACLE_ACCEPTS if theirs.accepted else REFMTA_ACCEPTS
    return [name for name, holds in predicates.items() if holds(rule, text, theirs.tree)]


def stripped(rule: str, text: str) -> str:
    """Trailing blanks are one deviation; what stands before them must stand by itself."""
    return text.rstrip(" \t") if rule in COMMANDS else text


def compare(rule: str, text: str, ours_of: Callable[[str, str], Verdict] = refmta) -> str:
    """ "" where both agree, the id of the deviation where they may differ; else AssertionError."""
    ours, theirs = ours_of(rule, text), oracle(rule, text)
    if ours.accepted and not theirs.accepted and stripped(rule, text) != text:
        compare(rule, stripped(rule, text), ours_of)
        return "trailing-blanks"
    if ours.accepted == theirs.accepted:
        assert ours.parts == theirs.parts, f"parts differ: {rule} {text!r}"
        return ""
    names = explained_by(rule, text, theirs)
    assert names, f"unlisted: {rule} {text!r}, {'refmta' if ours.accepted else 'grammar'} accepts"
    return names[0]


# Tests.


def test_every_listed_deviation_deviates() -> None:
    deviations = listed()
    assert deviations.keys() == ORACLE_ACCEPTS.keys() | REFMTA_ACCEPTS.keys()
    for name, deviation in deviations.items():
        text = example_text(deviation.example)
        ours, theirs = refmta(deviation.rule, text), oracle(deviation.rule, text)
        who = {(True, False): "refmta", (False, True): "grammar"}.get(
            (ours.accepted, theirs.accepted)
        )
        assert who == deviation.accepts, f"no longer deviates as listed: {name}"
        assert compare(deviation.rule, text) == name
        assert explained_by(deviation.rule, text, theirs) == [name]
        assert re.search(r"RFC \d+ \d+\.\d", deviation.reason), name


PLACES = (
    ("Mailbox", "{}"),
    ("Mailbox", '"{}"@b'),
    ("Forward-path", "<a@{}>"),
    ("Reverse-path", "<{}@b>"),
    ("mail", "MAIL FROM:{}"),
    ("rcpt", "RCPT TO:<a@b>{}"),
    ("ehlo", "EHLO {}"),
)


def check_small(ours_of: Callable[[str, str], Verdict], longest_text: int) -> None:
    """The exhaustive comparison of the module's docstring."""
    for length in range(longest_text + 1):
        for letters in itertools.product('a.@<>" -', repeat=length):
            for rule, place in PLACES:
                compare(rule, place.format("".join(letters)), ours_of)


def test_all_small_texts() -> None:
    check_small(refmta, 4)


# fmt: off
EDGES = {
    ("Mailbox", "{}"): ("a@b", '"a\\"b"@c', "a@[IPv6:::]", "a@[IPv6:1:2:3:4:5:6:7::]"),
    ("Mailbox", "a@[IPv6:{}]"): (
        "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "::1:2:3:4:5:6", "1::8",
        "1:2:3:4:5:6::", "1:2:3::4:5:6", "::", ":::", "1:::2", "1::2::3", "12345::", "g::",
        "1:2:3:4:5:6:1.2.3.4", "::1.2.3.4", "1::1.2.3.4", "1:2:3:4::1.2.3.4",
        "::1:2:3:4:1.2.3.4", "1:2:3::4:5:1.2.3.4", "1:2:3:4:5::1.2.3.4", "1:2:3:4:5:1.2.3.4",
        "1.2.3.4", ":1.2.3.4", "::1.2.3", "::1.2.3.256", "::1.2.3.4:5", "::01.002.3.4", "", "1",
        "::1.2.3.4.5", "::1.2.3.4::",
    ),
    ("Mailbox", "a@[{}]"): (
        "1.2.3.4", "1.2.3", "1.2.3.4.5", "01.02.03.004", "1.2.3.0004", "256.1.1.1", "1..2.3",
        "x:y", "x-y:z", "-x:y", "x-:y", "x:", ":y", "x", "x:y:z", "x:]", "x:\\", "x:[", "x: ",
    ),
    ("Forward-path", "{}"): (
        "<@a:b@c>", "<@a,@b:c@d>", "<@a,b@c>", "<@a:>", "<@[1.2.3.4]:b@c>", "<@a,@b:>",
        "<@a::b@c>", "<>", "<a>", "<a@b", "a@b>", "<<a@b>>", "<a@b>>", "< a@b>", "<a@b >",
        "<Postmaster@b>",
    ),
    ("mail", "{}"): ("mail from:<a@b>", "Mail From:<>", "MAIL FROM :<>", "MAIL\tFROM:<>"),
    ("mail", "MAIL FROM:<a@b>{}"): (
        " A", " A=", " A=b", " A=b=c", " A B", "  A", " A ", "A", " -A", " A-", " A--b=-", " A_b",
        " A=\x7f", " A=!~", " A=<>", " a=1 A=2", " A=b\tC",
    ),
} | {
    (verb, verb.upper() + "{}"): (
        "", " ", " x", "  x", " x y", ' "x y"', ' "x', " x\0", " x\x80", " [1.2.3.4]", "x", " x\r",
    )
    for verb in COMMANDS
}
# fmt: on


@pytest.mark.parametrize(("rule", "place"), EDGES)
def test_edges(rule: str, place: str) -> None:
    for text in EDGES[rule, place]:
        compare(rule, place.format(text))


def joined(*pieces: str, most: int = 6) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(pieces), max_size=most).map("".join)


def listed_with(
    separator: str, *pieces: str, least: int = 1, most: int = 4
) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(pieces), min_size=least, max_size=most).map(separator.join)


@st.composite
def nearly(draw: st.DrawFn, texts: st.SearchStrategy[str], odd: str) -> str:
    """A text as it is, or with one character dropped, doubled, or an odd one put in."""
    text = draw(texts)
    index = draw(st.integers(0, len(text)))
    change = draw(st.sampled_from(("none", "none", "drop", "double", "put")))
    if change == "drop":
        return text[:index] + text[index + 1 :]
    if change == "double":
        return text[:index] + text[index : index + 1] + text[index:]
    return text if change == "none" else text[:index] + draw(st.sampled_from(odd)) + text[index:]


# Instances of the grammar ...
LOCALS = st.one_of(
    listed_with(".", "a", "Z9", "x-y+z", "!#$%&'*", "/=?^_`{|}~", "a" * 15, "a" * 40),
    joined("a", " ", "@", ">", ".", "[", '\\"', "\\\\", "\\ ", "\\z", "a" * 20).map('"{}"'.format),
)
NAMES = listed_with(".", "a", "B", "0", "x--y", "xn--a", "a" * 62, "a" * 63, "a" * 64, most=5)
QUADS = listed_with(".", "0", "1", "25", "255", "255", "256", "007", "999", least=4)
SIXES = st.one_of(
    listed_with(":", "0", "1", "AbCd", "ffff", "g", least=8, most=8),
    st.builds(
        "{}::{}".format,
        listed_with(":", "0", "1", "abcd", least=0, most=5),
        listed_with(":", "2", "3", "ABCD", least=0, most=5),
    ),
    st.builds("{}:{}".format, listed_with(":", "1", "2", least=6, most=6), QUADS),
    st.builds(
        "{}::{}{}".format,
        listed_with(":", "1", "2", least=0, most=4),
        joined("1:", "2:", "abcd:", most=3),
        QUADS,
    ),
)
LITERALS = st.one_of(
    QUADS,
    st.builds("{}{}".format, st.sampled_from(("IPv6:", "IPv6:", "ipV6:")), SIXES),
    st.builds("{}:{}".format, st.sampled_from(("x", "-x-y", "IPv4")), joined("x", ":", "@", '">')),
).map("[{}]".format)
# ... nearly, and put together.
DOMAINS = nearly(NAMES, ".-_ \xe9") | nearly(LITERALS, ":.0[]\\ ")
MAILBOXES = st.builds("{}@{}".format, nearly(LOCALS, '." \\@<>\t\xe9'), DOMAINS)
ROUTES = st.one_of(
    st.just(""),
    nearly(listed_with(",", "@r", "@s.t", "@" + "r." * 40 + "r").map("{}:".format), "@,:. "),
)
PATHS = nearly(
    st.builds("<{}{}>".format, ROUTES, MAILBOXES)
    | st.sampled_from(("<>", "<Postmaster>", "<postmaster@b>")),
    "<>@ ",
)
PARAMETERS = nearly(
    listed_with(
        "", *(" A", " b-", " 1--c=<x>", " SIZE=1", " BODY=8BITMIME", " v=" + "v" * 300), least=0
    ),
    " =-_\t\x7f",
)
WORDS = nearly(
    joined("a", "Z", "+", most=4) | joined("a", " ", "\\\\", '\\"', "a" * 400).map('"{}"'.format),
    ' "\\<\t\xff\r\n',
)
LINES = st.one_of(
    st.tuples(st.just("mail"), st.builds("MAIL FROM:{}{}".format, PATHS, PARAMETERS)),
    st.tuples(st.just("rcpt"), st.builds("rcpt to:{}{}".format, PATHS, PARAMETERS)),
    st.tuples(st.just("ehlo"), st.builds("EHLO {}".format, DOMAINS)),
    st.tuples(st.just("helo"), st.builds("Helo {}".format, DOMAINS)),
    st.sampled_from(COMMANDS).flatmap(
        lambda rule: st.tuples(st.just(rule), WORDS.map(lambda text: f"{rule} {text}"))
    ),
)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(("Reverse-path", "Forward-path")), PATHS)
def test_paths(rule: str, text: str) -> None:
    compare(rule, text)


@settings(max_examples=500, deadline=None)
@given(MAILBOXES)
def test_mailboxes(text: str) -> None:
    compare("Mailbox", text)


@settings(max_examples=700, deadline=None)
@given(LINES)
def test_commands(line: tuple[str, str]) -> None:
    compare(*line)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=3), st.sampled_from(("2.1.0", None)))
def test_replies(texts: list[str], enhanced: str | None) -> None:
    """Whatever the text, the grammar takes what is sent; a line without text: see deviations."""
    lines = [text or "x" for text in texts]
    sent = reply.reply(250, enhanced, *lines).encode().decode("ascii")
    assert oracle("Reply-line", sent.removesuffix("\r\n")).accepted


@settings(max_examples=60, deadline=None)
@given(MAILBOXES, st.sampled_from(("x.example", "[192.0.2.1]", "[IPv6:::1]")), st.booleans())
def test_trace_fields(text: str, helo: str, alone: bool) -> None:
    """Every mailbox that we take, we write into trace fields that the grammar takes."""
    try:
        mailbox = str(address.parse_mailbox(text))
    except AddressError:
        mailbox = "a@b"
    written = header.received(
        helo=helo,
        client="192.0.2.1",
        hostname="mx.example",
        protocol="ESMTP",
        queue_id="0ABC",
        recipient=mailbox if alone else None,
        unix_time_s=1_700_000_000,
    )
    for rule, octets in (
        ("Time-stamp-line", written),
        ("Return-path-line", header.return_path(mailbox)),
    ):
        assert oracle(rule, octets.decode("ascii").removesuffix("\r\n")).accepted, octets


# Controls: the comparison refuses a parser with one rule broken.


def keeps_quotes(rule: str, text: str) -> Verdict:
    ours = refmta(rule, text)
    if ours.parts and '"' in text:
        return Verdict(accepted=True, parts=(f'"{ours.parts[0]}"', *ours.parts[1:]))
    return ours


def takes_trailing_dot(rule: str, text: str) -> Verdict:
    return refmta(rule, text.replace(".>", ">"))


def takes_space_after_colon(rule: str, text: str) -> Verdict:
    return refmta(rule, text.replace(": ", ":"))


@pytest.mark.parametrize(
    ("mutant", "verdict"),
    [
        (keeps_quotes, "parts differ: Mailbox"),
        (takes_trailing_dot, "unlisted: Forward-path '<a@a.>', refmta accepts"),
        (takes_space_after_colon, "unlisted: mail 'MAIL FROM: <>', refmta accepts"),
    ],
)
def test_comparison_refuses(mutant: Callable[[str, str], Verdict], verdict: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(verdict)):
        check_small(mutant, 3)
