"""Each rule, by a session that keeps it and one that differs in one thing and breaks it.

The octet that is blamed is where `>` stands in the last line of the server's.
"""

from __future__ import annotations

from functools import cache

import pytest
from unit.specs.smtp.sessions import (
    ALLOWED,
    GREETED,
    HAILED,
    LHLO,
    MAILED,
    NAMED,
    chunks,
    fault,
    judged,
)

from specs.smtp.heard import Chunk, Heard
from specs.smtp.judge import MOST_STATES, judge
from specs.smtp.replies import LONGEST
from specs.smtp.tables import BARS, Bar

DATA = NAMED + "C: DATA\nS: 354 go\n"
LAST = NAMED + "C| BDAT 1 LAST\\r\\nx\nS: 250 taken\n"
TLS = GREETED + "C: STARTTLS\nS: 220 go\ntls\nC: EHLO c.example\nS: 250-mx.example\n"
AUTHED = HAILED + "C: AUTH PLAIN AGEAYg==\nS: 235 ok\n"
LMAILED = LHLO + "C: MAIL FROM:<>\nS: 250 ok\n"
LDATA = LMAILED + "C: RCPT TO:<a>\nS: 250 ok\nC: RCPT TO:<b>\nS: 250 ok\nC: DATA\nS: 354 go\n"

#: (what is so, session until then, the server's last line when kept, when broken, section)
RULES = (
    ("greeting", "", "220 mx", ">354 mx", "3.1"),
    ("greeting-code", "", "220 mx", ">190 mx", "4.2"),
    ("second-digit", GREETED + "C: NOOP\n", "250 ok", "2>60 ok", "4.2"),
    ("first-digit", GREETED + "C: NOOP\n", "250 ok", ">600 ok", "4.2"),
    ("no-digit", GREETED + "C: NOOP\n", "250 ok", "25>x ok", "4.2"),
    ("separator", GREETED + "C: NOOP\n", "250 ok", "250>_ok", "4.2"),
    ("tab", GREETED + "C: NOOP\n", "250 ok", "250>\\tok", "4.2"),
    ("bare", GREETED + "C: NOOP\n", "250", "250>\\nok", "4.2"),
    ("bare-lf", GREETED + "C: NOOP\n", "250 ok", "250 o>\\nk", "2.3.8"),
    ("bare-cr", GREETED + "C: NOOP\n", "250 ok", "250 o>\\rk", "2.3.8"),
    ("tls", GREETED + "C: NOOP\n", "250 ok", ">\\x15\\x03", "4.2"),
    ("nul", GREETED + "C: NOOP\n", "250 ok", "250 o>\\0k", "4.2"),
    ("eight-bit", GREETED + "C: NOOP\n", "250 ok", "250 o>\\xe4k", "4.2"),
    ("same-code", GREETED + "C: HELP\n", "214-a\\r\\n214 b", "214-a\\r\\n2>50 b", "4.2.1"),
    ("same-code-last", GREETED + "C: HELP\n", "214-a\\r\\n214 b", "214-a\\r\\n21>5 b", "4.2.1"),
    ("one-greeting", GREETED, "421 going", ">220 again", "4.2"),
    ("one-reply", GREETED + "C: NOOP\nS: 250 ok\n", "421 going", ">250 ok", "4.2"),
    ("half-a-command", GREETED + "C| NOOP\\r\n", "421 going", ">250 ok", "4.2"),
    ("ehlo", GREETED + "C: EHLO c\n", "250 mx", ">354 mx", "4.1.1.1"),
    ("ehlo-name", GREETED + "C: EHLO c\n", "250 mx.example hi", "250 >-hi", "4.1.1.1"),
    ("ehlo-literal", GREETED + "C: EHLO c\n", "250 [192.0.2.1]", "250 >[]", "4.1.1.1"),
    ("ehlo-keyword", GREETED + "C: EHLO c\n", "250-m\\r\\n250 SIZE 1", "250-m\\r\\n250 >S_ZE 1",
     "4.1.1.1"),
    ("ehlo-parameter", GREETED + "C: EHLO c\n", "250-m\\r\\n250 SIZE 1",
     "250-m\\r\\n250 SIZE>  1", "4.1.1.1"),
    ("ehlo-binary", GREETED + "C: EHLO c\n", "250-m\\r\\n250-BINARYMIME\\r\\n250 CHUNKING",
     "250-m\\r\\n250->BINARYMIME\\r\\n250 SIZE", "RFC 3030 3"),
    ("ehlo-utf8", GREETED + "C: EHLO c\n", "250-m\\r\\n250-SMTPUTF8\\r\\n250 8BITMIME",
     "250-m\\r\\n250->SMTPUTF8\\r\\n250 SIZE", "RFC 6531 3.1"),
    ("ehlo-in-tls", TLS, "250 SIZE", "250 >STARTTLS", "RFC 3207 4.2"),
    ("mail", HAILED + "C: MAIL FROM:<>\n", "250 ok", ">354 ok", "4.1.1.2"),
    ("rcpt", MAILED + "C: RCPT TO:<b>\n", "251 ok", ">354 ok", "4.1.1.3"),
    ("rcpt-before-mail", HAILED + "C: RCPT TO:<b>\n", "503 no", ">250 ok", "3.3"),
    ("rcpt-after-refused-mail", HAILED + "C: MAIL FROM:\nS: 501 no\nC: RCPT TO:<b>\n", "503 no",
     ">250 ok", "3.3"),
    ("rcpt-after-rset", NAMED + "C: RSET\nS: 250 ok\nC: RCPT TO:<b>\n", "503 no", ">250 ok",
     "3.3"),
    ("rcpt-after-ehlo", NAMED + "C: EHLO c\nS: 250 mx\nC: RCPT TO:<b>\n", "503 no", ">250 ok",
     "3.3"),
    ("rcpt-after-mail", DATA + "C: .\nS: 250 ok\nC: RCPT TO:<b>\n", "503 no", ">250 ok", "3.3"),
    ("rcpt-of-before-tls", MAILED + "C: STARTTLS\nS: 220 go\ntls\nC: RCPT TO:<b>\n", "503 no",
     ">250 ok", "3.3"),
    ("data", NAMED + "C: DATA\n", "354 go", ">250 ok", "4.1.1.4"),
    ("content", DATA + "C: x\nC: .\n", "250 ok", ">354 more", "4.1.1.4"),
    ("content-early", DATA + "C: x\n", "421 going", ">250 ok", "4.2"),
    ("content-early-refused", DATA + "C: x\nC: ..\n", "421 going", ">552 too big", "4.2"),
    ("content-lf-dot-lf", DATA + "C| x\\n.\\n\n", "550 no", ">250 ok", "2.3.8"),
    ("content-lf-dot-crlf", DATA + "C| x\\n.\\r\\n\n", "550 no", ">250 ok", "2.3.8"),
    ("content-crlf-dot-cr", DATA + "C| x\\r\\n.\\rQUIT\\r\\n\n", "550 no", ">250 ok", "2.3.8"),
    ("smuggled", DATA + "C| x\\n.\\nMAIL FROM:<>\\r\\n.\\r\\n\nS: 250 ok\n", "421 x", ">250 ok",
     "4.2"),
    ("content-for-nobody", MAILED + "C: DATA\nS: 354 go\nC: .\n", "554 nobody", ">250 ok", "3.3"),
    ("one-reply-to-content", DATA + "C: .\nS: 250 ok\n", "421 going", ">250 ok", "4.2"),
    ("rset", GREETED + "C: RSET\n", "250 ok", "25>1 ok", "4.1.1.5"),
    ("rset-refused", HAILED + "C: RSET\n", "250 ok", "5>00 no", "4.1.1.5"),
    ("rset-503", HAILED + "C: RSET\n", "530 TLS first", "5>03 no", "4.1.1.5"),
    ("quit", HAILED + "C: QUIT\n", "221 bye", "2>50 bye", "4.1.1.10"),
    ("quit-refused", HAILED + "C: QUIT\n", "221 bye", ">503 no", "4.1.1.10"),
    ("after-quit", HAILED + "C| QUIT\\r\\nNOOP\\r\\n\nS: 221 bye\n", "421 gone", ">250 ok", "4.2"),
    ("noop", GREETED + "C: NOOP\n", "250 ok", ">334 ok", "4.1.1.9"),
    ("vrfy", GREETED + "C: VRFY x\n", "252 ok", ">354 ok", "4.1.1.6"),
    ("lf-is-no-end", GREETED + "C| NOOP\\n\n", "500 bare LF", ">250 ok", "2.3.8"),
    ("lf-is-no-end-two", GREETED + "C| NOOP\\nNOOP\\r\\n\nS: 500 no\n", "421 x", ">250 ok", "4.2"),
    ("long-line", GREETED + f"C| NOOP {'x' * 600}\n", "500 long", ">250 ok", "4.5.3.1"),
    ("long-line-twice", GREETED + f"C| NOOP {'x' * 600}\nS: 500 long\nC: \n", "421 x", ">500 no",
     "4.2"),
    ("bdat-early", NAMED + "C| BDAT 3\\r\\nxx\n", "421 x", ">250 ok", "4.2"),
    ("bdat-refused-early", NAMED + "C| BDAT 3\\r\\nxx\n", "421 x", ">552 no", "4.2"),
    ("bdat-as-commands", NAMED + "C| BDAT 6\\r\\nQUIT\\r\\n\nS: 554 no\n", "421 x", ">221 bye",
     "4.2"),
    ("bdat-for-nobody", MAILED + "C| BDAT 1\\r\\nx\n", "503 no", ">250 ok", "RFC 3030 2"),
    ("bdat-no-mail", HAILED + "C| BDAT 1\\r\\nx\n", "503 no", ">250 ok", "RFC 3030 2"),
    ("bdat-after-last", LAST + "C| BDAT 1\\r\\nx\n", "503 no", ">250 ok", "RFC 3030 2"),
    ("data-after-bdat", NAMED + "C| BDAT 1\\r\\nx\nS: 250 ok\nC: DATA\n", "503 no", ">354 go",
     "RFC 3030 2"),
    ("data-after-bdat-503", NAMED + "C| BDAT 1\\r\\nx\nS: 250 ok\nC: DATA\n", "503 no", "5>54 no",
     "RFC 3030 2"),
    ("data-binary", HAILED + "C: MAIL FROM:<> body=binarymime\nS: 250 ok\nC: RCPT TO:<b>\n"
     "S: 250 ok\nC: DATA\n", "503 no", ">354 go", "RFC 3030 3"),
    ("starttls", HAILED + "C: STARTTLS\n", "220 go", ">334 go", "RFC 3207 4"),
    ("starttls-once", HAILED + "C: STARTTLS\nS: 220 go\n", "421 x", ">220 go", "4.2"),
    ("starttls-injection", HAILED + "C| STARTTLS\\r\\nNOOP\\r\\n\nS: 220 go\ntls\n", "421 x",
     ">250 ok", "4.2"),
    ("auth", HAILED + "C: AUTH LOGIN\n", "334 x", "3>60 x", "4.2"),
    ("auth-early", HAILED + "C: AUTH LOGIN\nS: 334 x\n", "421 x", ">334 y", "4.2"),
    ("auth-cancelled", HAILED + "C: AUTH LOGIN\nS: 334 x\nC: *\n", "501 ok", ">334 y",
     "RFC 4954 4"),
    ("auth-cancelled-235", HAILED + "C: AUTH LOGIN\nS: 334 x\nC: *\n", "501 ok", ">235 y",
     "RFC 4954 4"),
    ("auth-again", AUTHED + "C: AUTH LOGIN\n", "503 no", ">334 x", "RFC 4954 4"),
    ("auth-in-mail", MAILED + "C: AUTH LOGIN\n", "503 no", ">334 x", "RFC 4954 4"),
    ("auth-is-over", AUTHED + "C: DATA\n", "503 no", ">235 ok", "4.1.1.4"),
    ("lmtp-ehlo", LHLO + "C: EHLO c\n", "500 no", ">250 mx", "RFC 2033 4.1"),
    ("lmtp-helo", LHLO + "C: HELO c\n", "500 no", ">250 mx", "RFC 2033 4.1"),
    ("lmtp-nobody", LMAILED + "C: DATA\n", "503 no", ">354 go", "RFC 2033 4.2"),
    ("lmtp-nobody-503", LMAILED + "C: DATA\n", "503 no", "5>54 no", "RFC 2033 4.2"),
    ("lmtp-each", LDATA + "C: .\nS: 250 a\n", "452 b", ">354 x", "RFC 2033 4.2"),
    ("lmtp-each-only", LDATA + "C: .\nS: 250 a\nS: 250 b\n", "421 x", ">250 c", "4.2"),
    ("lmtp-chunks", LMAILED + "C: RCPT TO:<a>\nS: 250 ok\nC| BDAT 1 LAST\\r\\nx\nS: 250 a\n",
     "421 x", ">250 b", "4.2"),
)  # fmt: skip


def last(line: str) -> tuple[str, int]:
    """(without `>`, where it stood: an offset in octets)."""
    before, _, behind = line.partition(">")
    return before + behind, len(before.encode().decode("unicode_escape"))


@pytest.mark.parametrize("row", RULES, ids=[row[0] for row in RULES])
def test_a_rule_refuses_what_breaks_it_at_that_octet(row: tuple[str, str, str, str, str]) -> None:
    _, before, kept, broken, section = row
    found = judged(f"{before}S: {kept}\n").fault
    assert found is None
    line, at = last(broken)
    refused = fault(f"{before}S: {line}\n")
    said = Heard(chunks(before)).server if before else b""
    assert (refused.at - len(said), refused.octet) == (
        at,
        line.encode().decode("unicode_escape").encode("latin-1")[at : at + 1],
    )
    assert section in " ".join(refused.rules)
    assert refused.states and refused.expected
    assert refused.line == refused.before.count(b"\n") + said[: refused.at - 30].count(b"\n") + 1


@cache
def broken_rules() -> list[str]:
    return [
        rule
        for _, before, _, broken, _ in RULES
        for rule in fault(f"{before}S: {last(broken)[0]}\n").rules
    ]


@pytest.mark.parametrize("bar", BARS, ids=[each.says for each in BARS])
def test_every_bar_is_a_reason_somewhere(bar: Bar) -> None:
    assert any(rule.startswith(bar.says) for rule in broken_rules())


#: What the standards leave open.
OPEN = {
    "mail-without-ehlo": GREETED + "C: MAIL FROM:<>\nS: 250 ok",
    "mail-again": MAILED + "C: MAIL FROM:<>\nS: 250 ok",
    "data-for-nobody": MAILED + "C: DATA\nS: 354 go\nC: .\nS: 554 nobody",
    "data-before-mail": HAILED + "C: DATA\nS: 354 go\nC: .\nS: 503 nobody",
    "odd-codes": HAILED + "C: MAIL FROM:<>\nS: 259 fine\nC: RCPT TO:<b>\nS: 459 no",
    "code-alone": GREETED + "C: NOOP\nS: 250",
    "code-and-space": "S: 220 \nC: NOOP\nS: 250 ",
    "421-at-any-time": "S: 220 mx\nS: 421 going\nC: NOOP\nS: 421 going",
    "421-in-content": DATA + "C: x\nS: 421 going",
    "421-and-on": GREETED + "C: NOOP\nS: 421 busy\nS: 250 ok\nC: NOOP\nS: 250 ok",
    "empty-line-answered": GREETED + "C:\nS: 500 what?\nC: NOOP\nS: 250 ok",
    "empty-line-passed-over": GREETED + "C:\nC: NOOP\nS: 250 ok",
    "chunk-of-no-chunking": GREETED + "C| BDAT 6\\r\\nQUIT\\r\\n\nS: 500 what?\nS: 221 bye",
    "chunk-after-helo": GREETED + "C: HELO c\nS: 250 mx\nC| BDAT 6\\r\\nQUIT\\r\\n\nS: 503 no",
    "malformed-chunk": NAMED + "C| BDAT x\\r\\nNOOP\\r\\n\nS: 501 no\nS: 250 ok",
    "chunk-then-what": NAMED + "C| BDAT 1\\r\\nx\nS: 451 no\nC| BDAT 1 LAST\\r\\nx\nS: 250 ok",
    "private-command": HAILED + "C: XYZZY\nS: 250 ok\nC: RCPT TO:<b>\nS: 250 ok",
    "private-exchange": HAILED + "C: XYZZY\nS: 350 go on\nC: x\nS: 699 what is this\n",
    "roles-turned": HAILED + "C: ATRN\nS: 250 ok\nS: EHLO mx\n",
    "clear-text-after-starttls": HAILED + "C: STARTTLS\nS: 220 go\nC: NOOP\nS: 554 no TLS?",
    "failed-message-kept": DATA + "C: .\nS: 451 no\nC: DATA\nS: 354 go",
    "failed-message-dropped": DATA + "C: .\nS: 451 no\nC: DATA\nS: 503 no",
    "echo-of-eight-bit": GREETED + "C: n\\xe4\nS: 500 n\\xe4?",
    "utf-8-for-smtputf8": HAILED + "C: MAIL FROM:<a> SMTPUTF8\nS: 250 \\xc3\\xa4",
    "long-echo": GREETED + f"C: {'x' * 510}\nS: 500 {'x' * 510}?",
    "refused-for-a-bare-lf": DATA
    + "C| x\\ny\nS: 550 bare LF\nC| \\r\\n.\\r\\n\nC: NOOP\nS: 250 ok",
    "lower-case": GREETED + "C: ehlo c\nS: 250 mx\nC: mail from:<>\nS: 250 ok\nC: quit\nS: 221 x",
    "ahead-of-the-greeting": "C: EHLO c\nS: 220 mx\nS: 250 mx",
    "end-of-data-in-pieces": DATA + "C| x\\r\nC| \\n.\nC| \\r\nC| \\n\nS: 250 ok",
    "many-spaces": GREETED + "C:  NOOP\nS: 250 ok\nC: RSET now\nS: 501 no\nC: QUIT now\nS: 501 no",
    "old-auth": GREETED + "C: EHLO c\nS: 250-mx\nS: 250-AUTH PLAIN\nS: 250 AUTH=PLAIN",
    "cut-off": GREETED + "C: NOOP\nS: 250-o",
    "lmtp-one-refusal-of-chunks": LMAILED + "C| BDAT 1 LAST\\r\\nx\nS: 503 no\nC: NOOP\nS: 250 ok",
}


@pytest.mark.parametrize("name", OPEN)
def test_what_is_open_is_allowed(name: str) -> None:
    found = judged(OPEN[name]).fault
    assert found is None


@pytest.mark.parametrize("name", ALLOWED)
def test_samples_are_allowed_without_a_remark(name: str) -> None:
    text, lmtp = ALLOWED[name]
    found = judged(text, lmtp=lmtp)
    assert (found.fault, found.remarks, found.opaque) == (None, (), "")


#: Allowed, and worth a word.
REMARKS = (
    (HAILED + "C: MAIL FROM:<>\nS: 259 fine", "259 is not usual for MAIL"),
    (GREETED + "C: n\\xe4\nS: 500 n\\xe4?", "visible ASCII"),
    (GREETED + f"C: {'x' * 510}\nS: 500 {'x' * 510}?", "512 octets"),
    (GREETED + "C: EHLO c\nS: 250-mx\nS: 250 AUTH=PLAIN", "AUTH="),
    (GREETED + "C: QUIT\nS: 221 bye\nS: 421 lost", "after the reply to QUIT"),
    (HAILED + "C: XYZZY\nS: 250 ok", "250 is not usual for another command"),
)


@pytest.mark.parametrize(("text", "word"), REMARKS)
def test_what_is_odd_has_a_remark(text: str, word: str) -> None:
    found = judged(text)
    assert found.allowed
    assert len(found.remarks) == 1
    assert word in found.remarks[0]


#: Where judging ends.
OPAQUE = (
    ("C: \\x16\\x03\\x01\nS: \\x16\\x03\\x03", "the client speaks TLS", 0),
    (HAILED + "C: STARTTLS\nS: 220 go\nC| \\x16\\x03\\x01\nS: \\x16", "after STARTTLS", 3),
    ("C: EHLO c\nS: \\x15\\x03\\x01", "the server speaks TLS", 0),
    (HAILED + "C: STARTTLS\nS: 220 go\nC: x\nS: \\x15\\x03\\x01", "the server speaks TLS", 3),
    (HAILED + "C: ATRN\nS: 250 ok\nS: EHLO mx", "ATRN", 3),
    (HAILED + "C: XYZZY\nS: 350 ok\nS: 699", "XYZZY", 3),
    (HAILED + "lost\nS: 699", "missing", 2),
)


@pytest.mark.parametrize(("text", "word", "replies"), OPAQUE)
def test_what_cannot_be_judged_is_said(text: str, word: str, replies: int) -> None:
    found = judged(text)
    assert found.allowed
    assert word in found.opaque
    assert found.replies == replies


def test_a_line_that_is_too_long_is_blamed_at_its_first_octet_too_many() -> None:
    right = b"250 " + b"x" * (LONGEST - 6) + b"\r\n"
    begin = [Chunk("S", b"220 mx\r\n"), Chunk("C", b"NOOP\r\n")]
    assert judge(Heard([*begin, Chunk("S", right)])).fault is None
    long = right.replace(b"x\r", b"xx\r")
    found = judge(Heard([*begin, Chunk("S", long)])).fault
    assert found is not None
    assert found.at == 8 + LONGEST
    found = judge(Heard([*begin, Chunk("S", long[:-1])])).fault
    assert found is None  # its end may not have been seen, and 512 were


def test_lmtp_is_told_or_found() -> None:
    text = "S: 220 mx\nC: EHLO c\nS: 250 mx"
    assert judged(text).allowed
    assert fault(text, lmtp=True).at == 8


def test_too_many_ways_are_not_followed() -> None:
    empty = [Chunk("S", b"220 mx\r\n"), Chunk("C", b"\r\n" * 2 * MOST_STATES)]
    found = judge(Heard([*empty, Chunk("S", b"500 what?\r\n" * 10)]))
    assert found.allowed
    assert "ways to understand" in found.opaque
