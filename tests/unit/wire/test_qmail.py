"""qmail's formats: as its own sources have them, at every split, and against octets of all kinds.

The octets on the left are written down from qmail's documents, not made by the code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refmta.wire import qmail
from refmta.wire.qmail import (
    CLEANING,
    LOCAL_COMMAND,
    LOCAL_REPORT,
    REMOTE_COMMAND,
    REMOTE_REPORT,
    Closing,
    Opening,
    QmailError,
    Record,
    Submissions,
    Unit,
    Units,
    Verdicts,
)

ID = "06H06TY2DFR20W5S"
ENVELOPE = b"Fann@a.test\0Tbob@b.test\0Tcy@c.test\0\0"
OPENING = (
    b"TCPREMOTEIP=192.0.2.1\0HELOHOST=client.test\0SMTPPROTO=ESMTP\0\0" + ENVELOPE
)  # fmt: skip
OPENED = Opening(
    {"TCPREMOTEIP": "192.0.2.1", "HELOHOST": "client.test", "SMTPPROTO": "ESMTP"},
    "ann@a.test",
    ("bob@b.test", "cy@c.test"),
)


# -- records and envelopes ------------------------------------------------------------------------


def test_an_envelope_is_what_qmail_queue_reads():
    assert qmail.encode_envelope("ann@a.test", ["bob@b.test", "cy@c.test"]) == ENVELOPE
    assert qmail.encode_envelope("", ["bob@b.test"]) == b"F\0Tbob@b.test\0\0"
    (opened,) = Submissions().feed(OPENING.replace(ENVELOPE, b"F\0Tbob@b.test\0\0"))
    assert opened == Opening(OPENED.environment, "", ("bob@b.test",))


@pytest.mark.parametrize("end", range(len(ENVELOPE)))
def test_an_early_end_opens_nothing(end: int):
    cut = Submissions()
    assert cut.feed(OPENING[: len(OPENING) - len(ENVELOPE) + end]) == []
    assert not cut.opened


WRONG_ENVELOPES = {
    "empty": b"\0",
    "no sender": b"Tbob@b.test\0\0",
    "no recipient": b"Fann@a.test\0\0",
    "two senders": b"Fann@a.test\0Fann@a.test\0Tbob@b.test\0\0",
    "another letter": b"Fann@a.test\0Dbob@b.test\0\0",
    "more behind it": ENVELOPE + b"Tdave@d.test\0\0",
    "a sender too long": b"F" + b"a" * 257 + b"\0Tbob@b.test\0\0",
    "a recipient too long": b"Fann@a.test\0T" + b"a" * 257 + b"\0\0",
    "too many": b"F\0" + b"Tb@b.test\0" * 1001 + b"\0",
    "no text": b"F\xff\0Tbob@b.test\0\0",
}


@pytest.mark.parametrize("octets", WRONG_ENVELOPES.values(), ids=WRONG_ENVELOPES)
def test_a_wrong_envelope_is_refused(octets: bytes):
    with pytest.raises(QmailError):
        Submissions().feed(OPENING.replace(ENVELOPE, octets) + b"x")


@pytest.mark.parametrize(
    ("sender", "recipients"),
    [("a", []), ("a", ["b"] * 1001), ("a\0", ["b"]), ("a", ["b\0T"]), ("a" * 257, ["b"]),
     ("a", ["b" * 257]), ("\udc80", ["b"])],
)  # fmt: skip
def test_no_envelope_out_of_bounds_is_made(sender: str, recipients: list[str]):
    with pytest.raises(QmailError):
        qmail.encode_envelope(sender, recipients)


def test_records_say_where_their_letters_lie():
    octets = qmail.record("T", "bob@b.test") + qmail.record("D", "") + qmail.record("T", "cy")
    assert octets == b"Tbob@b.test\0D\0Tcy\0"
    found = qmail.records(octets, "TD")
    assert found == [Record(0, "T", "bob@b.test"), Record(12, "D", ""), Record(14, "T", "cy")]
    assert [octets[each.offset : each.offset + 1] for each in found] == [b"T", b"D", b"T"]
    assert qmail.records(b"", "T") == []


@pytest.mark.parametrize(
    "octets",
    [b"Tbob", b"\0", b"Tbob\0\0", b"Xbob\0", b"Tbob\0X\0", b"T" + b"a" * 1025 + b"\0", b"T\xff\0"],
)
def test_a_file_that_is_cut_short_or_damaged_is_refused(octets: bytes):
    with pytest.raises(QmailError):
        qmail.records(octets, "TD")


@pytest.mark.parametrize(("letter", "text"), [("", "a"), ("TT", "a"), ("1", "a"), ("é", "a"),
                                              ("T", "a\0"), ("T", "a" * 1025)])  # fmt: skip
def test_no_record_out_of_bounds_is_made(letter: str, text: str):
    with pytest.raises(QmailError):
        qmail.record(letter, text)


# -- streams, at every split ----------------------------------------------------------------------

Cutter = Callable[[], Any]
LOCAL_TEXTS = (ID, "ann@a.test", "bob@b.test", "3", "1795000000", "Maildir", "bob")

#: what: (a cutter, octets as qmail has them, what they mean)
STREAMS: dict[str, tuple[Cutter, bytes, list[Any]]] = {
    "commands to lspawn": (
        lambda: Units(LOCAL_COMMAND),
        b"\x00" + b"\0".join(each.encode() for each in LOCAL_TEXTS) + b"\0"
        b"\x07" + ID.encode() + b"\0\0bob@b.test\0" + b"0\0\0M\0\0",
        [Unit(0, LOCAL_TEXTS), Unit(7, (ID, "", "bob@b.test", "0", "", "M", ""))],
    ),
    "commands to rspawn": (
        lambda: Units(REMOTE_COMMAND),
        b"\x09" + ID.encode() + b"\0ann@a.test\0cy@c.test\0" + b"12\0\0c.test\0",
        [Unit(9, (ID, "ann@a.test", "cy@c.test", "12", "", "c.test"))],
    ),
    "reports": (
        lambda: Units(LOCAL_REPORT),
        b"\x00Kdone\0\x63Zfull (#4.2.2)\0\x00D\0",
        [Unit(0, ("Kdone",)), Unit(99, ("Zfull (#4.2.2)",)), Unit(0, ("D",))],
    ),
    "reports of remote mail": (
        lambda: Units(REMOTE_REPORT),
        b"\x05Dno such user (#5.1.1)\0mx.c.test\0alive\0",
        [Unit(5, ("Dno such user (#5.1.1)", "mx.c.test", "alive"))],
    ),
    "to qmail-clean": (
        lambda: Units(CLEANING),
        b"foop/" + ID.encode() + b"\0todo/" + ID.encode() + b"\0",
        [Unit(0, (f"foop/{ID}",)), Unit(0, (f"todo/{ID}",))],
    ),
    "to qmail-queue": (
        Submissions,
        OPENING + b"5:hello,2:\0\0,0:," + OPENING + b"0:,",
        [OPENED, b"hello", b"\0\0", Closing(7), OPENED, Closing(0)],
    ),
    "verdicts": (
        Verdicts,
        b"\x00" + ID.encode() + b"\0\x1f\x35\x00" + ID.encode() + b"\0",
        [(0, ID), (31, ""), (53, ""), (0, ID)],
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_every_split_means_the_same(name: str):
    cutter, stream, meant = STREAMS[name]
    assert cutter().feed(stream) == meant
    singly = cutter()
    assert [each for at in range(len(stream)) for each in singly.feed(stream[at : at + 1])] == meant
    for first in range(len(stream) + 1):
        for second in range(first, len(stream) + 1):
            split = cutter()
            found = [*split.feed(stream[:first]), *split.feed(stream[first:second])]
            found += split.feed(stream[second:])
            assert found == meant, (first, second)


@pytest.mark.parametrize("form", [LOCAL_COMMAND, REMOTE_COMMAND, LOCAL_REPORT, REMOTE_REPORT,
                                  CLEANING])  # fmt: skip
def test_a_unit_is_bounded_text_by_text(form: qmail.Form):
    longest = ["x" * cap for cap in form.caps]
    octets = qmail.unit(form, longest, 255 if form.numbered else 0)
    assert Units(form).feed(octets) == [Unit(255 if form.numbered else 0, tuple(longest))]
    for at, text in enumerate(longest):
        with pytest.raises(QmailError):
            qmail.unit(form, [*longest[:at], text + "x", *longest[at + 1 :]])
        cut = Units(form)
        before = sum(len(each) + 1 for each in longest[:at]) + form.numbered
        assert cut.feed(octets[:before] + text.encode()) == []
        assert cut.pending == before + len(text)
        with pytest.raises(QmailError):
            cut.feed(b"x")
    for texts in ([], longest[:-1], [*longest, ""]):
        with pytest.raises(QmailError):
            qmail.unit(form, texts)


@pytest.mark.parametrize("number", [-1, 256])
def test_a_number_is_one_octet(number: int):
    with pytest.raises(QmailError):
        qmail.unit(LOCAL_REPORT, ["K"], number)
    with pytest.raises(QmailError):
        qmail.unit(CLEANING, ["foop/1"], 1)


WRONG_STREAMS: dict[str, tuple[Cutter, bytes]] = {
    "an environment of other names": (Submissions, b"PATH=/\0\0"),
    "in another order": (Submissions, b"HELOHOST=h\0TCPREMOTEIP=1\0SMTPPROTO=SMTP\0\0"),
    "with one missing": (Submissions, b"TCPREMOTEIP=1\0HELOHOST=h\0\0"),
    "with one more": (Submissions, OPENING.replace(b"\0\0F", b"\0A=b\0\0F")),
    "a value too long": (Submissions, b"TCPREMOTEIP=" + b"1" * 65 + b"\0HELOHOST=\0SMTPPROTO=\0\0"),
    "a string without end": (Submissions, b"T" * 1025),
    "too many recipients": (Submissions, OPENING[:-1] + b"Tb@b.test\0" * 1000),
    "content without a length": (Submissions, OPENING + b"hello"),
    "a negative length": (Submissions, OPENING + b"-1:,"),
    "a length that begins with 0": (Submissions, OPENING + b"05:hello,"),
    "a length too long": (Submissions, OPENING + b"262145:"),
    "a length without end": (Submissions, OPENING + b"1111111"),
    "another end of a netstring": (Submissions, OPENING + b"5:hello;"),
    "another end of the empty one": (Submissions, OPENING + b"0:\0"),
    "an Arabic digit": (Submissions, OPENING + "٣:".encode()),
    "a queue id too long": (Verdicts, b"\0" + b"0" * 17),
    "a queue id that is no text": (Verdicts, b"\0\xff\0"),
    "a command too long": (lambda: Units(CLEANING), b"f" * 101),
}


@pytest.mark.parametrize("name", WRONG_STREAMS)
def test_what_breaks_a_rule_is_refused_at_every_split(name: str):
    cutter, stream = WRONG_STREAMS[name]
    for at in range(len(stream) + 1):
        cut = cutter()
        with pytest.raises(QmailError):
            cut.feed(stream[:at])
            cut.feed(stream[at:])


def test_an_end_within_a_submission_shows():
    for end in range(1, len(OPENING) + 8):
        cut = Submissions()
        cut.feed((OPENING + b"5:hello,0:,")[:end])
        assert cut.opened == (end >= len(OPENING))
    cut = Submissions()
    cut.feed(OPENING + b"5:hello,0:,")
    assert not cut.opened


@given(st.binary(max_size=300), st.sampled_from(sorted(STREAMS)), st.integers(0, 300))
def test_any_octets_are_units_or_an_error(octets: bytes, name: str, at: int):
    cutter, stream, _ = STREAMS[name]
    for whole in (octets, stream[: len(octets)] + octets, stream[:at] + octets + stream[at:]):
        cut = cutter()
        try:
            for each in (whole[:at], whole[at:]):
                cut.feed(each)
        except QmailError:
            continue


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@given(st.integers(0, 255), st.lists(TEXTS, min_size=3, max_size=3))
def test_what_fits_comes_back(number: int, texts: Sequence[str]):
    form = qmail.Form(True, (80, 80, 80))
    assert Units(form).feed(qmail.unit(form, texts, number)) == [Unit(number, tuple(texts))]


@given(st.binary(max_size=600))
def test_any_content_comes_back(content: bytes):
    cut = Submissions()
    stream = OPENING + (qmail.netstring(content) if content else b"") + qmail.netstring(b"")
    assert cut.feed(stream) == [OPENED, *([content] if content else []), Closing(len(content))]


def test_a_piece_of_content_has_a_cap():
    assert len(qmail.netstring(bytes(qmail.PIECE_OCTETS))) == qmail.PIECE_OCTETS + 8
    with pytest.raises(QmailError):
        qmail.netstring(bytes(qmail.PIECE_OCTETS + 1))


# -- reports --------------------------------------------------------------------------------------


def test_a_report_reads_as_qmails_do():
    assert qmail.said("Z", "4.2.2", "mailbox is full") == "Zmailbox is full (#4.2.2)"
    assert qmail.parse_said("Dsorry, no mailbox here by that name. (#5.1.1)") == (
        "D", "5.1.1", "sorry, no mailbox here by that name.",
    )  # fmt: skip
    assert qmail.parse_said("Kdid 1+0+0") == ("K", "", "did 1+0+0")
    for wrong in ("", "x", "k", "4.2.2"):
        with pytest.raises(QmailError):
            qmail.parse_said(wrong)


@given(
    st.sampled_from(qmail.REPORT_LETTERS),
    st.sampled_from(["", "2.0.0", "4.2.2", "5.123.999"]),
    st.one_of(TEXTS, st.sampled_from([" (#5.1.1)", "(#", "a (#4.0.0) (#)", ""])),
)
def test_what_is_said_comes_back(letter: str, enhanced: str, text: str):
    report = qmail.said(letter, enhanced, text)
    assert qmail.parse_said(report) == (letter, enhanced, text)


@given(st.text(max_size=30).map(lambda text: text * 300))
def test_whatever_a_peer_said_fits_a_report(text: str):
    octets = qmail.unit(LOCAL_REPORT, [qmail.said("D", "5.1.1", text)], 1)
    (unit,) = Units(LOCAL_REPORT).feed(octets)
    assert qmail.parse_said(unit.texts[0])[:2] == ("D", "5.1.1")


# -- exit codes -----------------------------------------------------------------------------------


def test_an_exit_code_is_permanent_from_11_to_40_and_its_meaning_agrees():
    for status in range(1, 256):
        meaning = qmail.exit_meaning(status)
        assert (meaning.code >= 500) == (11 <= status <= 40)
        assert meaning.enhanced[0] == str(meaning.code)[0]


@pytest.mark.parametrize("status", qmail.EXITS)
def test_what_an_exit_code_means_is_said_by_one_of_that_meaning(status: int):
    meaning = qmail.EXITS[status]
    again = qmail.exit_code(meaning.code, meaning.enhanced)
    assert qmail.exit_meaning(again)[:2] == meaning[:2]


@pytest.mark.parametrize("code", [421, 450, 451, 452, 499, 500, 550, 554, 599])
def test_a_refusal_stays_permanent_or_temporary(code: int):
    for enhanced in ("", "4.9.9", "5.9.9", "4.3.0", "5.1.3"):
        status = qmail.exit_code(code, enhanced)
        assert qmail.is_permanent(status) == (code >= 500)


def test_a_queue_id_comes_with_0_and_with_nothing_else():
    assert qmail.verdict(0, ID) == b"\0" + ID.encode() + b"\0"
    assert qmail.verdict(31) == b"\x1f"
    for status, queue_id in ((0, ""), (31, ID), (-1, ""), (256, "")):
        with pytest.raises(QmailError):
            qmail.verdict(status, queue_id)


def test_qmail_clean_is_told_foop_and_todo_and_nothing_else():
    assert qmail.cleaning("foop", ID) == b"foop/" + ID.encode() + b"\0"
    for verb, name in (("rm", ID), ("foop", "a" * 100), ("", ID)):
        with pytest.raises(QmailError):
            qmail.cleaning(verb, name)
