"""Sessions as texts, and allowed ones to start from.

`C:` and `S:` lines; "C| " is a client's line without CRLF, "tls" a mark.  In a line, \\r, \\n and
\\xHH are octets.
"""

from __future__ import annotations

from specs.smtp.heard import Chunk, Heard
from specs.smtp.judge import Fault, Judgement, judge


def chunks(text: str) -> list[Chunk]:
    """A line each."""
    found = []
    for line in map(str.lstrip, text.split("\n")):
        if not line:
            continue
        who, mark, rest = line[:1], line[1:2], line[3:]
        said = rest.encode().decode("unicode_escape").encode("latin-1")
        if line == "tls":
            found.append(Chunk("tls"))
        elif line == "lost":
            found.append(Chunk("lost"))
        elif who == "C":
            found.append(Chunk("C", said + (b"\r\n" if mark == ":" else b"")))
        else:
            assert (who, mark) == ("S", ":"), line
            found.append(Chunk("S", said + b"\r\n"))
    return found


def judged(text: str, *, lmtp: bool = False) -> Judgement:
    return judge(Heard(chunks(text)), lmtp=lmtp)


def fault(text: str, *, lmtp: bool = False) -> Fault:
    found = judged(text, lmtp=lmtp).fault
    assert found is not None, f"it is allowed:\n{text}"
    return found


#: Up to the greeting, EHLO, MAIL, RCPT, DATA.
GREETED = "S: 220 mx.example ESMTP\n"
HAILED = GREETED + "C: EHLO c.example\nS: 250-mx.example\nS: 250-CHUNKING\nS: 250 BINARYMIME\n"
MAILED = HAILED + "C: MAIL FROM:<a@c.example>\nS: 250 ok\n"
NAMED = MAILED + "C: RCPT TO:<b@mx.example>\nS: 250 ok\n"
LHLO = "S: 220 mx.example LMTP\nC: LHLO c.example\nS: 250-mx.example\nS: 250 CHUNKING\n"

#: name -> (text, LMTP).  Every one is allowed.
ALLOWED = {
    "mail": (NAMED + """
        C: RCPT TO:<nobody@mx.example>
        S: 550 5.1.1 no such user
        C: DATA
        S: 354 go on
        C: Subject: x
        C:
        C: ..
        C: .
        S: 250 2.0.0 taken
        C: QUIT
        S: 221 bye
        """, False),
    "pipelined": (HAILED + """
        C| MAIL FROM:<a@c.example>\\r\\nRCPT TO:<b@mx.example>\\r\\nRCPT TO:<@>\\r\\nDATA\\r\\n
        S: 250 ok
        S: 250 ok
        S: 501 no
        S: 354 go on
        C| .\\r\\nRSET\\r\\nQUIT\\r\\n
        S: 550 nothing in it
        S: 250 ok
        S: 221 bye
        """, False),
    "chunks": (NAMED + """
        C| BDAT 5\\r\\nQUIT\\n
        S: 250 ok
        C| BDAT 0 LAST\\r\\n
        S: 250 taken
        C: RSET
        S: 250 ok
        C: QUIT
        S: 221 bye
        """, False),
    "old": ("""
        S: 220 mx.example
        C: HELO c.example
        S: 250 mx.example
        C: HELP
        S: 214-help
        S: 214 is here
        C: VRFY x
        S: 252 perhaps
        C: EXPN x
        S: 502 no
        C: NOOP
        S: 250 ok
        C: QUIT
        S: 221 bye
        """, False),
    "auth": (GREETED + """
        C: EHLO c.example
        S: 250-mx.example
        S: 250 AUTH PLAIN LOGIN
        C: AUTH LOGIN
        S: 334 VXNlcm5hbWU6
        C: *
        S: 501 cancelled
        C: AUTH PLAIN
        S: 334 x
        C: AGEAYg==
        S: 235 welcome
        C: AUTH PLAIN AGEAYg==
        S: 503 again?
        C: QUIT
        S: 221 bye
        """, False),
    "tls": (GREETED + """
        C: EHLO c.example
        S: 250-mx.example
        S: 250 STARTTLS
        C: STARTTLS
        S: 220 go on
        tls
        C: EHLO c.example
        S: 250-mx.example
        S: 250 SIZE 100
        C: QUIT
        S: 221 bye
        """, False),
    "lmtp": (LHLO + """
        C: MAIL FROM:<>
        S: 250 ok
        C: RCPT TO:<a@mx.example>
        S: 250 ok
        C: RCPT TO:<x@mx.example>
        S: 550 no
        C: RCPT TO:<b@mx.example>
        S: 250 ok
        C: DATA
        S: 354 go on
        C: text
        C: .
        S: 250 a has it
        S: 452 b is full
        C: QUIT
        S: 221 bye
        """, True),
    "turned away": ("""
        S: 554 not you
        C: EHLO c.example
        S: 503 no
        C: RSET
        S: 503 no
        C: QUIT
        S: 221 bye
        """, False),
}  # fmt: skip
