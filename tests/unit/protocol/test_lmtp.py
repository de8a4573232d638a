"""What LMTP adds to SMTP's commands, and the two machines' tables; their behaviour is explored in
`tests/unit/specs/test_spec_lmtp.py`, and driven over channels in `tests/unit/roles/test_lmtp.py`.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refmta.protocol import lmtp, lmtp_client, lmtp_server
from refmta.protocol.lmtp import Lhlo, Origin, Place, parse_lmtp_command, read_origin, read_place
from refmta.wire.command import CommandError, Ehlo, Mail, Noop, Rcpt, parse_command

ID = "06H06TY2DFR20001"


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"LHLO mx.example.org", Lhlo(domain="mx.example.org")),
        (b"lhlo [192.0.2.1]", Lhlo(domain="[192.0.2.1]")),
        (b"EHLO mx.example.org", Ehlo(domain="mx.example.org")),
        (b"NOOP LHLO x", Noop(argument="LHLO x")),
    ],
)
def test_lhlo_is_read_as_ehlo_is(line: bytes, value: object):
    assert parse_lmtp_command(line) == value


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"LHLO", 501), (b"LHLO  x", 501), (b"LHLO x y", 501), (b"LHLO _", 501),
        (b"LHLOx", 500), (b"LHLO\0", 500), (b"LHLO " + b"x" * 2000, 500), (b"LHL x", 500),
    ],
)  # fmt: skip
def test_what_is_no_lhlo(line: bytes, code: int):
    with pytest.raises(CommandError) as error:
        parse_lmtp_command(line)
    assert error.value.reply.code == code
    assert "EHLO" not in str(error.value.reply)


@given(st.binary(max_size=60))
def test_every_other_line_is_smtps(line: bytes):
    if line[:4].upper() == b"LHLO":
        return
    try:
        expected: object = parse_command(line)
    except CommandError as error:
        with pytest.raises(CommandError) as refused:
            parse_lmtp_command(line)
        assert refused.value.reply == error.reply
    else:
        assert parse_lmtp_command(line) == expected


mailboxes = st.text(
    alphabet=st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="="),
    min_size=1, max_size=lmtp.MAILBOX_OCTETS,
)  # fmt: skip


@given(mailboxes, st.integers(0, 99_999), st.integers(0, 10**12 - 1))
def test_what_is_said_of_a_delivery_is_understood(mailbox: str, index: int, arrival_s: int):
    """Through the commands that carry it, at their longest."""
    place, origin = Place(mailbox=mailbox, index=index), Origin(queue_id=ID, arrival_s=arrival_s)
    address = f"{'a' * 64}@{'b.' * 90}example"
    rcpt = parse_command(f"RCPT TO:<{address}> {' '.join(lmtp.place_parameters(place))}".encode())
    mail = parse_command(f"MAIL FROM:<> {' '.join(lmtp.origin_parameters(origin))}".encode())
    assert isinstance(rcpt, Rcpt) and read_place(rcpt.parameters) == place
    assert isinstance(mail, Mail) and read_origin(mail.parameters) == origin


@pytest.mark.parametrize(
    "make",
    [
        lambda: Place(mailbox="", index=0), lambda: Place(mailbox="a b", index=0),
        lambda: Place(mailbox="a=b", index=0), lambda: Place(mailbox="a\n", index=0),
        lambda: Place(mailbox="é", index=0), lambda: Place(mailbox="x" * 641, index=0),
        lambda: Place(mailbox="x", index=-1), lambda: Place(mailbox="x", index=100_000),
        lambda: Origin(queue_id="x", arrival_s=0), lambda: Origin(queue_id=ID, arrival_s=-1),
        lambda: Origin(queue_id=ID + "\n", arrival_s=0),
        lambda: lmtp_client.Recipient(address="a@b>\r\nDATA"),
        lambda: lmtp_client.Transaction(reverse_path="", recipients=(), octets=0),
        lambda: lmtp_server.Delivered((lmtp_server.OK_RECIPIENT, lmtp_server.GO_AHEAD)),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_not_made(make):
    with pytest.raises(ValueError):
        make()


@pytest.mark.parametrize(
    "parameters",
    [
        (("XMAILBOX", "x"),), (("XINDEX", "1"),), (("XMAILBOX", None), ("XINDEX", "1")),
        (("XMAILBOX", "x"), ("XINDEX", "")), (("XMAILBOX", "x"), ("XINDEX", "+1")),
        (("XMAILBOX", "x"), ("XINDEX", "1" * 13)), (("XMAILBOX", "x"), ("XINDEX", "\u0661")),
    ],
)  # fmt: skip
def test_half_a_place_is_none(parameters: lmtp.Parameters):
    with pytest.raises(ValueError):
        read_place(parameters)


def test_without_our_parameters_there_is_nothing():
    assert read_place((("SIZE", "1"),)) is None and read_origin(()) is None


def test_the_tables_are_total():
    assert len(lmtp_server.EVENTS) == len(lmtp_server.Phase) * 11
    assert len(lmtp_server.VERBS) == len(lmtp_server.COMMAND_PHASES) * 12
    assert len(lmtp_client.EVENTS) == len(lmtp_client.Phase) * 7
    awaiting = len(lmtp_client.Phase) - 2 + len(lmtp_client.Verb)  # not ENVELOPE, not CLOSED
    assert len(lmtp_client.REPLIES) == awaiting * 4
