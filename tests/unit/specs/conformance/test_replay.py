"""Dialogues: read, refused by line, and played."""

from __future__ import annotations

from importlib import resources

import pytest

from specs.conformance.model import Reply
from specs.conformance.replay import DialogueError, fits, needs, octets, parse

GOOD = """# a comment

S: 220 mx ready
C: EHLO {hostname}
S: 250-mx
S: 250-SIZE
S: 250 HELP
C: RCPT TO:<{unknown}>
S: 550|553 no
C: QUIT
S: 221|close
"""


def test_it_is_read() -> None:
    steps = parse(GOOD)
    assert [(each.who, each.text) for each in steps] == [
        ("S", "220"), ("C", "EHLO {hostname}"), ("S", "250"), ("C", "RCPT TO:<{unknown}>"),
        ("S", "550|553"), ("C", "QUIT"), ("S", "221|close"),
    ]  # fmt: skip
    assert needs(steps) == {"unknown"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("S: 220\nX: hello", "line 2"),
        ("S: 220\nC: {nobody}", "line 2.*nobody"),
        ("S: 22\n", "line 1.*'22'"),
        ("S: 1yz\n", "line 1"),
        ("S: 250|maybe", "maybe"),
        ("C: QUIT\n", "nothing is expected"),
        ("", "nothing is expected"),
    ],
)
def test_a_wrong_one_is_refused_by_its_line(text: str, says: str) -> None:
    with pytest.raises(DialogueError, match=says):
        parse(text)


@pytest.mark.parametrize(
    ("reply", "expected", "well"),
    [
        (Reply(code="250"), "250", True), (Reply(code="251"), "25z", True),
        (Reply(code="550"), "553|550", True), (Reply(code="450"), "5zz", False),
        (Reply(kind="closed"), "221|close", True), (Reply(kind="closed"), "221", False),
        (Reply(kind="silent"), "close", False), (Reply(kind="garbage"), "zzz", False),
    ],
)  # fmt: skip
def test_what_fits(reply: Reply, expected: str, well: bool) -> None:
    assert fits(reply, expected) is well


def test_escapes() -> None:
    assert octets(r"a\r\n\t\\\x00\xfF\q") == b"a\r\n\t\\\x00\xff\\q"


def test_the_scenarios_of_appendix_d_are_there() -> None:
    place = resources.files("specs.conformance.dialogues")
    found = sorted(each.name for each in place.iterdir() if each.name.endswith(".txt"))
    assert [name[:2] for name in found] == ["d1", "d2", "d3", "d4"]
    for name in found:
        parse((place / name).read_text())
