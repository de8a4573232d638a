"""Allowed sessions, changed: each change that breaks a rule is refused, and at its octet; how a
session was cut into chunks has no part in it; and no octets make the judge fail.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.specs.smtp.sessions import ALLOWED, chunks

from specs.smtp.heard import Chunk, Heard
from specs.smtp.judge import judge

SAMPLES = {name: (chunks(text), lmtp) for name, (text, lmtp) in ALLOWED.items()}
Change = tuple[str, list[Chunk], int]


def replies(session: list[Chunk]) -> Iterator[tuple[int, int]]:
    """Each line of the server: (its index in the session, its offset in the server's stream)."""
    at = 0
    for index, each in enumerate(session):
        if each.who == "S":
            yield index, at
            at += len(each.octets)


def with_line(session: list[Chunk], index: int, line: bytes) -> list[Chunk]:
    return [*session[:index], Chunk("S", line), *session[index + 1 :]]


def first_line(session: list[Chunk], index: int) -> bool:
    """Of a reply."""
    before = [each for each in session[:index] if each.who == "S"]
    return not before or before[-1].octets[3:4] != b"-"


def changes(session: list[Chunk]) -> Iterator[Change]:
    """(what, the session, the octet that is to be blamed), for each line of the server."""
    for index, at in replies(session):
        line = session[index].octets
        end = len(line) - 2
        yield "first digit 1", with_line(session, index, b"1" + line[1:]), at
        yield "first digit 6", with_line(session, index, b"6" + line[1:]), at
        yield "second digit 6", with_line(session, index, line[:1] + b"6" + line[2:]), at + 1
        yield "no digit", with_line(session, index, line[:2] + b"x" + line[3:]), at + 2
        yield "separator", with_line(session, index, line[:3] + b"." + line[4:]), at + 3
        yield "LF", with_line(session, index, line[:end] + b"\n"), at + end
        yield "CR", with_line(session, index, line[:end] + b"\rx\r\n"), at + end
        yield "NUL", with_line(session, index, line[:end] + b"\0\r\n"), at + end
        yield "eight bits", with_line(session, index, line[:end] + b"\xff\r\n"), at + end
        long = line[:end] + b" " * 512 + b"\r\n"
        yield "too long", with_line(session, index, long), at + 512
        if not first_line(session, index):
            other = b"4" if line[:1] != b"4" else b"5"
            yield "another code", with_line(session, index, other + line[1:]), at


def doubled(session: list[Chunk]) -> Iterator[Change]:
    """A reply that comes twice; it stands where no other command awaits one."""
    whole = list(replies(session))
    for index, at in whole:
        line = session[index].octets
        awaited = index + 1 < len(session) and session[index + 1].who == "S"
        if line[3:4] == b" " and not awaited:
            more = b"299 more\r\n"
            yield "one more", with_line(session, index, line + more), at + len(line)


def early(session: list[Chunk]) -> Iterator[Change]:
    """A reply before the last octet of what it answers."""
    where = dict(replies(session))
    for (index, one), (_, other) in pairwise(enumerate(session)):
        batch = one.octets.count(b"\r\n") > 1  # its first command is whole without the last octet
        if (one.who, other.who) == ("C", "S") and not batch:
            late = [Chunk("C", one.octets[:-1]), other, Chunk("C", one.octets[-1:])]
            yield "early", [*session[:index], *late, *session[index + 2 :]], where[index + 1]


def in_place(session: list[Chunk]) -> Iterator[Change]:
    """A first digit that its command never has."""
    for index, at in replies(session):
        line = session[index].octets
        if first_line(session, index) and line[:3] in (b"250", b"221", b"354", b"220"):
            other = b"2" if line[:1] == b"3" else b"3"
            yield "another class", with_line(session, index, other + line[1:]), at


CASES = [
    pytest.param(session, lmtp, at, id=f"{name}-{number}-{what}")
    for name, (start, lmtp) in SAMPLES.items()
    for change in (changes, doubled, early, in_place)
    for number, (what, session, at) in enumerate(change(start))
]


@pytest.mark.parametrize(("session", "lmtp", "at"), CASES)
def test_a_change_that_breaks_a_rule_is_blamed_at_its_octet(
    session: list[Chunk], lmtp: bool, at: int
) -> None:
    found = judge(Heard(session), lmtp=lmtp).fault
    assert found is not None
    assert found.at == at


def test_each_kind_of_change_was_there() -> None:
    kinds = {case.id.rpartition("-")[2] for case in CASES if case.id}
    assert len(kinds) == 14
    assert len(CASES) > 500


def every_octet(session: list[Chunk]) -> list[Chunk]:
    """Marks stay."""
    return [
        part
        for each in session
        for part in ([Chunk(each.who, bytes([octet])) for octet in each.octets] or [each])
    ]


def joined(session: list[Chunk]) -> list[Chunk]:
    """Neighbours of one side in one chunk."""
    found: list[Chunk] = []
    for each in session:
        if found and found[-1].who == each.who and each.octets:
            found[-1] = Chunk(each.who, found[-1].octets + each.octets)
        else:
            found.append(each)
    return found


def two_pieces(session: list[Chunk], at: int) -> list[Chunk]:
    """The chunk that holds this octet of all is cut there."""
    found: list[Chunk] = []
    for each in session:
        if 0 < at < len(each.octets):
            found += [Chunk(each.who, each.octets[:at]), Chunk(each.who, each.octets[at:])]
        else:
            found.append(each)
        at -= len(each.octets)
    return found


@pytest.mark.parametrize("name", SAMPLES)
def test_cuts_have_no_meaning(name: str) -> None:
    session, lmtp = SAMPLES[name]
    expected = judge(Heard(session), lmtp=lmtp)
    total = sum(len(each.octets) for each in session)
    for cut in (every_octet(session), joined(session),
                *(two_pieces(session, at) for at in range(total))):  # fmt: skip
        assert judge(Heard(cut), lmtp=lmtp) == expected


@pytest.mark.parametrize("name", SAMPLES)
def test_cuts_have_no_meaning_for_a_fault(name: str) -> None:
    start, lmtp = SAMPLES[name]
    for change in (changes, doubled, in_place):
        for _, session, at in change(start):
            for cut in (every_octet(session), joined(session)):
                found = judge(Heard(cut), lmtp=lmtp).fault
                assert found is not None
                assert found.at == at


@pytest.mark.parametrize("name", SAMPLES)
def test_every_beginning_of_an_allowed_session_is_allowed(name: str) -> None:
    session, lmtp = SAMPLES[name]
    pieces = every_octet(session)
    for count in range(len(pieces)):
        assert judge(Heard(pieces[:count]), lmtp=lmtp).allowed


WHO: st.SearchStrategy[Literal["C", "S"]] = st.sampled_from(["C", "S"])
WORDS = st.sampled_from(
    [
        b"220 mx\r\n", b"250 ok\r\n", b"250-a\r\n", b"354 go\r\n", b"421 x\r\n", b"503 no\r\n",
        b"EHLO c\r\n", b"MAIL FROM:<>\r\n", b"RCPT TO:<b>\r\n", b"DATA\r\n", b".\r\n", b"\r\n",
        b"BDAT 3 LAST\r\nx\r\n", b"BDAT 99999999999999999999\r\n", b"AUTH LOGIN\r\n", b"*\r\n",
        b"STARTTLS\r\n", b"QUIT\r\n", b"LHLO c\r\n", b"RSET\r\n", b"XCLIENT\r\n", b"\n.\n",
        b"x" * 600, b"235 ok\r\n", b"334 x\r\n", b"\x16\x03\x01",
    ]
)  # fmt: skip
MARKS = st.sampled_from([Chunk("tls"), Chunk("lost")])
ANY = st.lists(st.builds(Chunk, WHO, WORDS | st.binary(max_size=20)) | MARKS, max_size=30)


#: What begins well comes further.
DEEP = st.builds(
    lambda name, share, more: SAMPLES[name][0][: int(share * len(SAMPLES[name][0]))] + more,
    st.sampled_from(sorted(SAMPLES)), st.floats(0, 1), ANY,
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(session=ANY | DEEP, lmtp=st.booleans())
def test_nothing_makes_it_fail(session: list[Chunk], lmtp: bool) -> None:
    heard = Heard(session)
    found = judge(heard, lmtp=lmtp)
    if found.fault is not None:
        assert 0 <= found.fault.at < len(heard.server)
        assert found.fault.rules and found.fault.expected and found.fault.states
        cut = judge(Heard(every_octet(session)), lmtp=lmtp).fault
        assert cut is not None
        assert cut.at == found.fault.at


@settings(max_examples=200, deadline=None)
@given(session=ANY | DEEP)
def test_what_comes_later_does_not_change_a_fault(session: list[Chunk]) -> None:
    found = judge(Heard(session)).fault
    if found is not None:
        later = judge(Heard([*session, Chunk("C", b"NOOP\r\n"), Chunk("S", b"250 ok\r\n")])).fault
        assert later is not None
        assert later.at == found.at
