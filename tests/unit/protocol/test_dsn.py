"""Reports: the table of who is told, and the octets of single rules.

The whole of a report is judged by specs.dsn, in tests/unit/specs/test_dsn_*.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from refmta.protocol.dsn import (
    COPIES,
    HEADER_OCTETS,
    Facts,
    Notify,
    Tell,
    compose,
    decide,
    status,
)
from refmta.wire.messages import ReportRow

HOST = "mx.example.org"
SENDER = "eve@remote.example"
POSTMASTER = "ada@example.org"
TOKEN = "T.1"
NOTIFY = Notify(hostname=HOST, postmaster=POSTMASTER, copies=COPIES)
QUIET = Notify(hostname=HOST, postmaster="")
ROW = ReportRow(
    address="bob@remote.example", enhanced="5.1.1", text="550 5.1.1 no", when_s=1, host="mx.example"
)


# -- who is told ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "reverse_path", "notify", "recipients", "told"),
    [
        ("failed", SENDER, QUIET, ("b@x.org",), [(SENDER, "sender")]),
        ("failed", SENDER, NOTIFY, ("b@x.org",), [(SENDER, "sender"), (POSTMASTER, "postmaster")]),
        ("failed", POSTMASTER, NOTIFY, ("b@x.org",), [(POSTMASTER, "sender")]),
        ("failed", "ADA@example.org", NOTIFY, ("b@x.org",), [("ADA@example.org", "sender")]),
        ("failed", "", NOTIFY, ("b@x.org",), [(POSTMASTER, "postmaster")]),
        ("failed", "", NOTIFY, ("b@x.org", "Ada@example.org"), []),
        ("failed", "", QUIET, ("b@x.org",), []),
        ("failed", f"Mailer-Daemon@{HOST}", NOTIFY, ("b@x.org",), [(POSTMASTER, "postmaster")]),
        ("failed", f"double-bounce@{HOST}", QUIET, ("b@x.org",), []),
        ("delayed", SENDER, NOTIFY, ("b@x.org",), [(SENDER, "sender")]),
        ("delayed", "", NOTIFY, ("b@x.org",), []),
        ("delayed", f"mailer-daemon@{HOST}", NOTIFY, ("b@x.org",), []),
    ],
)
def test_decide(event: Any, reverse_path: str, notify: Notify, recipients: Any, told: Any) -> None:
    wanted = tuple(Tell(event, to, who) for to, who in told)
    assert decide(event, reverse_path, notify, recipients) == wanted


def test_each_copy_is_configured_for_itself() -> None:
    failed = Notify(hostname=HOST, postmaster=POSTMASTER, copies=frozenset({"failed"}))
    double = Notify(hostname=HOST, postmaster=POSTMASTER, copies=frozenset({"double"}))
    assert len(decide("failed", SENDER, failed, ("b@x.org",))) == 2
    assert len(decide("failed", SENDER, double, ("b@x.org",))) == 1
    assert not decide("failed", "", failed, ("b@x.org",))
    assert len(decide("failed", "", double, ("b@x.org",))) == 1


def test_copies_need_a_postmaster() -> None:
    with pytest.raises(ValueError, match="no address"):
        Notify(hostname=HOST, postmaster="", copies=COPIES)
    with pytest.raises(ValueError, match="no such copy"):
        Notify(hostname=HOST, postmaster=POSTMASTER, copies=frozenset({"all"}))  # type: ignore[arg-type]


# -- the report -----------------------------------------------------------------------------------


def report(
    header: bytes = b"Subject: x\r\n\r\nbody\r\n", token: str = TOKEN, **changes: Any
) -> str:
    fields: dict[str, Any] = {
        "hostname": HOST, "kind": "failed", "to": SENDER, "queue_id": "06H06TY2DFR20001",
        "arrival_s": 1_700_000_000, "reverse_path": SENDER, "rows": (ROW,), **changes,
    }  # fmt: skip
    octets = compose(Facts(**fields), header, now_s=1_700_000_100, token=token)
    return octets.decode("ascii")


def test_a_whole_report() -> None:
    assert report() == RAW.replace("\n", "\r\n")


RAW = """\
From: "MAILER-DAEMON" <postmaster@mx.example.org>
To: <eve@remote.example>
Subject: Undelivered mail: your message could not be delivered
Date: Tue, 14 Nov 2023 22:15:00 +0000
Message-ID: <T.1@mx.example.org>
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="=_T.1"

This is a report in the format of RFC 3464, in several parts.

--=_T.1
Content-Type: text/plain; charset=us-ascii
Content-Description: Notification
Content-Transfer-Encoding: 7bit

This is the mail system at mx.example.org.

Your message could not be delivered to the recipients below, for the reasons
given there.  It will not be tried again for them.

  <bob@remote.example>
    mx.example said: 550 5.1.1 no

Please look at the addresses and the reasons.  If a reason says that another
attempt may help, send the message again; else ask postmaster@mx.example.org
for help.

It arrived here on Tue, 14 Nov 2023 22:13:20 +0000, under the queue id
06H06TY2DFR20001.  The header of the message is attached.

--=_T.1
Content-Type: message/delivery-status
Content-Description: Delivery report
Content-Transfer-Encoding: 7bit

Reporting-MTA: dns; mx.example.org
X-Refmta-Queue-ID: 06H06TY2DFR20001
Arrival-Date: Tue, 14 Nov 2023 22:13:20 +0000

Final-Recipient: rfc822; bob@remote.example
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.example
Diagnostic-Code: smtp; 550 5.1.1 no
Last-Attempt-Date: Thu, 01 Jan 1970 00:00:01 +0000

--=_T.1
Content-Type: text/rfc822-headers
Content-Description: Header of the message
Content-Transfer-Encoding: 7bit

Subject: x

--=_T.1--
"""


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"kind": "delayed", "until_s": 86_400}, "Will-Retry-Until: Fri, 02 Jan 1970 00:00:00"),
        ({"kind": "delayed", "until_s": 86_400}, "trying until Fri, 02 Jan 1970 00:00:00 +0000,"),
        ({"kind": "delayed"}, "This system goes on trying, and tells you if it gives up."),
        ({"kind": "delayed"}, "Status: 4.0.0\r\n"),
        ({"to": POSTMASTER}, "A message from <eve@remote.example> could not be delivered"),
        ({"to": POSTMASTER}, "The sender has been told, too."),
        ({"to": POSTMASTER, "reverse_path": ""}, "Nobody else has been told."),
        ({"to": POSTMASTER, "reverse_path": ""}, "Subject: Undelivered mail: notice for"),
        ({"header": b"X: \xff\r\n"}, "\r\n\r\nX: =FF\r\n\r\n--=_T.1--\r\n"),
        ({"header": b"X: " + b"y" * HEADER_OCTETS}, "It was too long"),
        ({"arrival_s": 2**48 - 1}, "Arrival-Date: Fri, 31 Dec 9999 23:59:59 +0000"),
    ],
)
def test_what_is_shown(changes: dict[str, Any], shown: str) -> None:
    assert shown in report(**changes)


@pytest.mark.parametrize(
    ("row", "lines"),
    [
        ({"host": ""}, ["Diagnostic-Code: X-Refmta; 550 5.1.1 no"]),
        ({"text": "closed the connection"}, ["Remote-MTA: dns; mx.example",
            "Diagnostic-Code: X-Refmta; closed the connection"]),
        ({"host": "[192.0.2.1]:25"}, ["Remote-MTA: dns; [192.0.2.1]"]),
        ({"host": "mx.example[192.0.2.1]:25"}, ["Remote-MTA: dns; mx.example"]),
        ({"text": "550 a\r\nX: b"}, [r"Diagnostic-Code: smtp; 550 a\x0d\x0aX: b"]),
        ({"text": "550 \u20ac"}, [r"Diagnostic-Code: smtp; 550 \u20ac"]),
        ({"address": '"a  b"@x.example'}, ['Final-Recipient: rfc822; "a  b"@x.example']),
    ],
)  # fmt: skip
def test_recipient_fields(row: dict[str, str], lines: list[str]) -> None:
    fields: dict[str, Any] = {
        "address": ROW.address, "enhanced": "", "text": ROW.text, "when_s": 0, "host": ROW.host,
    }  # fmt: skip
    found = report(rows=(ReportRow(**(fields | row)),)).split("\r\n")
    assert [line for line in lines if line not in found] == []
    assert not [line for line in found if line.startswith(("Last-Attempt", "X:"))]


def test_no_text_no_diagnosis() -> None:
    found = report(rows=(ReportRow(address="b@x.example", enhanced="", text=" ", when_s=0),))
    assert "Diagnostic-Code" not in found and "Remote-MTA" not in found
    assert "no reason was given" in found


@pytest.mark.parametrize(
    ("kind", "enhanced", "code"),
    [
        ("failed", "5.1.1", "5.1.1"),
        ("failed", "4.4.7", "4.4.7"),
        ("failed", "5.01.001", "5.1.1"),
        ("failed", "2.0.0", "5.0.0"),
        ("failed", "", "5.0.0"),
        ("delayed", "4.4.1", "4.4.1"),
        ("delayed", "5.1.1", "4.0.0"),
        ("delayed", "", "4.0.0"),
    ],
)
def test_status(kind: Any, enhanced: str, code: str) -> None:
    assert status(kind, enhanced) == code


@pytest.mark.parametrize("token", ["", ".a", "a.", "a..b", "a b", "a\r\nb", '"', "a" * 61, "a\n"])
def test_a_token_is_a_word(token: str) -> None:
    with pytest.raises(ValueError, match="token"):
        report(token=token)


def test_a_report_is_about_somebody() -> None:
    with pytest.raises(ValueError, match="nobody"):
        report(rows=())


def test_whatever_is_returned_a_hundred_recipients_stay_small() -> None:
    row = ReportRow(
        address="b" * 256, enhanced="5.0.0", text="\U0001f600" * 1024, when_s=1, host="h" * 300
    )
    assert len(report(header=b"\xff" * 200_000, rows=(row,) * 100)) < 600_000
