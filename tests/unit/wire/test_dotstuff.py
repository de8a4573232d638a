"""The dot-stuffing decoder against the per-octet table in its module's docstring.

Exhaustive: every string over {CR, LF, ".", "a"} of up to 8 octets (87,381), whole, octet by octet,
and at every split into two; every string of up to 6 octets at every split into three.  After each
piece the content so far, the status, `bare`, `size` and, at an end, `rest` must be those of the
table.  The table in turn is compared with the definition by line ends, on all 87,381 strings.
Sampled (Hypothesis): up to 200 pieces of longer strings over a larger alphabet at up to 12 splits,
and round trips of `encode`.
Controls: five decoders with one rule broken, each refused by the same check by the named field.
"""

import itertools
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refmta.wire import dotstuff
from refmta.wire.dotstuff import Decoder, encode

Table = Mapping[tuple[str, int], tuple[str, str]]
CR, LF, DOT = b"\r\n."
EMITTING = ("line", "text", "cr", "lf")


@dataclass(frozen=True, slots=True)
class Outcome:
    content: bytes
    status: str
    bare: bool
    rest: bytes


def read_table(text: str) -> Table:
    """The table of the docstring: (state, CR | LF | DOT | -1) -> (next state, marks)."""
    table = {}
    lines = text[text.index("state  |") :].split("\n\n", maxsplit=1)[0].splitlines()
    for line in lines[1:]:
        state, *cells = line.split("|")
        for octet, cell in zip((CR, LF, DOT, -1), cells, strict=True):
            goal, *marks = cell.split()
            table[state.strip(), octet] = goal, "".join(marks)
    return table


TABLE = read_table(dotstuff.__doc__ or "")


def by_table(octets: bytes, table: Table = TABLE) -> Outcome:
    state, bare, content = "line", False, bytearray()
    for index, octet in enumerate(octets):
        state, marks = table[state, octet if octet in b"\r\n." else -1]
        bare = bare or "!" in marks
        content += b"." if "." in marks else b""
        if state in EMITTING:
            content.append(octet)
        elif state == "COMPLETE":
            return Outcome(bytes(content), "complete", bare, octets[index + 1 :])
        elif state == "REFUSED":
            return Outcome(bytes(content), "refused_end", bare, b"")
    return Outcome(bytes(content), "more", bare, b"")


def strings(longest: int) -> Iterator[bytes]:
    for length in range(longest + 1):
        for octets in itertools.product(b"\r\n.a", repeat=length):
            yield bytes(octets)


def check_pieces(
    make: Callable[[], Decoder], pieces: Iterable[bytes], expect: Callable[[bytes], Outcome]
) -> None:
    """Feeds `pieces` until the end; after each, the decoder must stand where the table stands."""
    decoder, fed, content = make(), b"", b""
    for piece in pieces:
        fed += piece
        content += decoder.feed(piece)
        want = expect(fed)
        assert decoder.status == want.status, f"status after {fed!r}"
        assert content == want.content, f"content after {fed!r}"
        assert decoder.bare == want.bare, f"bare after {fed!r}"
        assert decoder.rest == want.rest, f"rest after {fed!r}"
        assert decoder.size == len(content), f"size after {fed!r}"
        if want.status != "more":
            return


def check_all(make: Callable[[], Decoder], longest: int, longest_in_three: int) -> None:
    """The exhaustive comparison of the module's docstring."""
    expect = cache(by_table)
    for octets in strings(longest):
        size = len(octets)
        check_pieces(make, (octets,), expect)
        check_pieces(make, (octets[i : i + 1] for i in range(size)), expect)
        for i in range(1, size):
            check_pieces(make, (octets[:i], octets[i:]), expect)
        if size <= longest_in_three:
            for i, j in itertools.combinations(range(1, size), 2):
                check_pieces(make, (octets[:i], octets[i:j], octets[j:]), expect)


def test_decoder_equals_table() -> None:
    check_all(Decoder, longest=8, longest_in_three=6)


def status_by_line_ends(octets: bytes) -> str:
    """EOL1 "." EOL2 as in the docstring's first table, by cutting the string into line ends."""
    tokens = [b"\r\n", *re.findall(rb"\r\n|\r|\n|[^\r\n]+", octets)]
    for index in range(1, len(tokens) - 1):
        before, token, after = tokens[index - 1 : index + 2]
        if token != b".":
            continue
        if before == after == b"\r\n":
            return "complete"
        undecided = after == b"\r" and index + 2 == len(tokens)  # CRLF . CR and no more yet
        if before != b"\r\n" or not undecided:
            return "refused_end"
    return "more"


def test_table_equals_definition_by_line_ends() -> None:
    assert len(TABLE) == 7 * 4
    for octets in strings(8):
        assert by_table(octets).status == status_by_line_ends(octets), octets


PIECES = st.sampled_from(
    (
        b"\r\n",
        b"\r\n.",
        b"\r\n..",
        b"\r",
        b"\n",
        b".",
        b"a",
        b"\0\x1a\x7f",
        b"\xff\x80",
        b"line " * 9,
    )
)


@settings(max_examples=700, deadline=None)
@given(
    st.lists(PIECES, max_size=200).map(b"".join),
    st.lists(st.integers(0, 2000), max_size=12).map(sorted),
    st.sampled_from((b"", b".\r\n", b"\r\n.\r\n", b"\r\n.\r\nQUIT\r\n", b"\r\n.\r\n\n.\n")),
)
def test_decoder_equals_table_on_long_strings(head: bytes, cuts: list[int], end: bytes) -> None:
    octets = head + end
    edges = [0, *cuts, len(octets)]
    pieces = [octets[i:j] for i, j in itertools.pairwise(edges)]
    check_pieces(Decoder, pieces, by_table)


@settings(max_examples=500, deadline=None)
@given(st.lists(PIECES, max_size=200).map(b"".join), st.binary(max_size=8))
def test_encode_round_trip(content: bytes, rest: bytes) -> None:
    bare = re.search(rb"\r(?!\n)|(?<!\r)\n", content)
    if bare:
        with pytest.raises(ValueError, match="bare"):
            encode(content)
        content = content.replace(b"\r", b"").replace(b"\n", b"\r\n")
    decoder = Decoder()
    decoded = decoder.feed(encode(content) + rest)
    ended = content if content.endswith(b"\r\n") or not content else content + b"\r\n"
    assert (decoded, decoder.rest) == (ended, rest)
    assert (decoder.status, decoder.bare) == ("complete", False)


@pytest.mark.parametrize(
    ("octets", "content", "status", "bare", "rest"),
    [
        (b".\r\n", b"", "complete", False, b""),
        (b"\r\n.\r\n", b"\r\n", "complete", False, b""),
        (b"a\r\n.\r\nQUIT\r\n", b"a\r\n", "complete", False, b"QUIT\r\n"),
        (b"..\r\n...\r\n.x\r\n.\r\n", b".\r\n..\r\nx\r\n", "complete", False, b""),
        (b"a\nb\r\n.\r\n", b"a\nb\r\n", "complete", True, b""),
        (b"a\rb\r\n.\r\n", b"a\rb\r\n", "complete", True, b""),
        (b"a\n.b\n..\r\n.\r\n", b"a\n.b\n..\r\n", "complete", True, b""),
        (b"\0\x01\x7f\xff\r\n.\r\n", b"\0\x01\x7f\xff\r\n", "complete", False, b""),
        # What other servers have taken for an end (SMTP smuggling, 2023).
        (b"a\n.\nMAIL", b"a\n", "refused_end", True, b""),
        (b"a\n.\r\nMAIL", b"a\n", "refused_end", True, b""),
        (b"a\r\n.\nMAIL", b"a\r\n", "refused_end", False, b""),
        (b"a\r\n.\rMAIL", b"a\r\n", "refused_end", False, b""),
        (b"a\r.\rMAIL", b"a\r", "refused_end", True, b""),
        (b"a\r.\r\nMAIL", b"a\r", "refused_end", True, b""),
        (b"a\r.\nMAIL", b"a\r", "refused_end", True, b""),
        (b"a\n.\rMAIL", b"a\n", "refused_end", True, b""),
        (b"a\r\r\n.\r\n", b"a\r\r\n", "complete", True, b""),
        (b".\n", b"", "refused_end", False, b""),
        (b".\rx", b"", "refused_end", False, b""),
        (b".\r", b"", "more", False, b""),
    ],
)
def test_examples(octets: bytes, content: bytes, status: str, bare: bool, rest: bytes) -> None:
    decoder = Decoder()
    got = decoder.feed(octets)
    assert (got, decoder.status, decoder.bare, decoder.rest) == (content, status, bare, rest)


@pytest.mark.parametrize("octets", [b".\r\n", b".\n"])
def test_no_feeding_after_the_end(octets: bytes) -> None:
    decoder = Decoder()
    decoder.feed(octets)
    with pytest.raises(RuntimeError):
        decoder.feed(b"")


class Mutant(Decoder):
    """A decoder with one rule broken; `ran` shows that the broken rule was used."""

    ran = False


class AcceptsLfLf(Mutant):
    def _find_end(self, buffer: bytes, clean: bool, start: int) -> int | None:
        dot = super()._find_end(buffer, clean, start)
        if dot is not None and buffer[dot - 1 : dot + 2] == b"\n.\n":
            type(self).ran = True
            self.status = "complete"
            self.rest = buffer[dot + 2 :]
        return dot


class MissesLfLf(Mutant):
    def _find_end(self, buffer: bytes, clean: bool, start: int) -> int | None:
        dot = super()._find_end(buffer, clean, start)
        if dot is not None and buffer[dot - 1 : dot + 2] == b"\n.\n":
            type(self).ran = True
            self.status = "more"
            return None
        return dot


class EmitsDotEarly(Mutant):
    def _keep(self, buffer: bytes) -> int:
        held = super()._keep(buffer)
        if held and buffer.endswith(b"."):
            type(self).ran = True
            self._emitted += 1
            return 0
        return held


class ForgetsCr(Mutant):
    def _keep(self, buffer: bytes) -> int:
        held = super()._keep(buffer)
        if self._context == b"\r":
            type(self).ran = True
            self._context, self._emitted = b"", 0
        return held


class GivesRest(Mutant):
    def _find_end(self, buffer: bytes, clean: bool, start: int) -> int | None:
        dot = super()._find_end(buffer, clean, start)
        if dot is not None and self.status == "refused_end":
            type(self).ran = True
            self.rest = buffer[dot + 2 :]
        return dot


@pytest.mark.parametrize(
    ("mutant", "verdict"),
    [
        (AcceptsLfLf, "status after"),
        (MissesLfLf, "status after"),
        (EmitsDotEarly, "content after"),
        (ForgetsCr, "bare after"),
        (GivesRest, "rest after"),
    ],
)
def test_check_refuses(mutant: type[Mutant], verdict: str) -> None:
    check_all(Decoder, longest=5, longest_in_three=4)
    with pytest.raises(AssertionError, match=f"^{verdict}"):
        check_all(mutant, longest=5, longest_in_three=4)
    assert mutant.ran


def test_check_refuses_a_wrong_table() -> None:
    """The comparison binds both ways: a table that takes LF.LF for the end is refused too."""
    wrong = {**TABLE, ("held", LF): ("COMPLETE", "")}
    with pytest.raises(AssertionError, match=r"^status after"):
        check_pieces(Decoder, (b"a\n.\n",), lambda octets: by_table(octets, wrong))


@pytest.mark.parametrize(
    "octets",
    [b"a line of text\r\n", b"\r\n", b"..\r\n", b"\n", b"\r", b"\n.a", b"\r.a", b"\r\n\n.a", b"a"],
)
def test_no_input_is_handled_octet_by_octet(octets: bytes) -> None:
    """Nor line by line (7 MB/s): twice as much makes no more lines of Python run."""
    assert lines_run(octets * 2000) <= lines_run(octets * 1000) + 2


def lines_run(buffer: bytes) -> int:
    """Lines of Python that a decoder runs through for this."""
    decoder, count = Decoder(), 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Callable[..., Any]:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        decoder.feed(buffer)
    finally:
        sys.settrace(before)
    return count


def test_control_line_by_line_is_seen() -> None:
    def handle(octets: bytes) -> int:
        """As many lines as its input has."""
        count = 0
        for _ in octets.splitlines():
            count += 1
        return count

    class Slow:
        def feed(self, octets: bytes) -> int:
            return handle(octets)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "Decoder", Slow)
        assert lines_run(b"a\n" * 2000) > lines_run(b"a\n" * 1000) + 900
