"""What RFC 5321 lets a server answer: one table for each question, so that no two cases differ.

Rules a reader may rely on
- A demand with a code in it is taken by its letter: RCPT without MAIL is 503 (3.3), RSET is 250
  (4.1.1.5), QUIT is 221 (4.1.1.10), a verb of 4.5.1 is never 500 (4.3.2; but of
  VRFY 3.5.3 says otherwise).
- A command that is wrong may get any 5yz.  4yz says that it might be right later (4.2.1): that is
  no good answer, and not forbidden.
- A command that is right may be refused for policy (7.9) or for now; what the server may not say
  is that it is wrong.
- Where the text leaves it open, the milder verdict stands.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.model import INFO, NON_STRICT, PASS, Verdict

Allowed = dict[str, Verdict]

# -- what is wrong --------------------------------------------------------------------------------

#: To hang up on what looks like no SMTP at all is a known defence (7.8), against 3.8.
HUNG_UP: Final[Allowed] = {"221": NON_STRICT, "closed": NON_STRICT}
#: A verb that nobody knows: 500, rather than 502 (4.2.4).
UNKNOWN_COMMAND: Final[Allowed] = {"500": PASS, "5yz": NON_STRICT, "4yz": NON_STRICT, **HUNG_UP}
#: What may be read as a verb that is unknown, or as one that is known with a wrong argument.
NO_COMMAND: Final[Allowed] = UNKNOWN_COMMAND | {"501": PASS}
#: A verb of RFC 821 that EHLO does not list (4.2.4, F.1, F.6).
OBSOLETE: Final[Allowed] = {
    "500": PASS, "502": PASS, "5yz": NON_STRICT, "4yz": NON_STRICT, **HUNG_UP,
}  # fmt: skip
#: A known verb with an argument that is none, or without one.
SYNTAX_ERROR: Final[Allowed] = {"500": PASS, "501": PASS, "5yz": NON_STRICT, "4yz": NON_STRICT}
#: The same of MAIL and RCPT: what is no mailbox can't be known here either (3.3).
NO_PATH: Final[Allowed] = SYNTAX_ERROR | {"55z": PASS}
#: The same where it is plain what is meant, and a lenient server does no harm.
LENIENT: Final[Allowed] = NO_PATH | {"2yz": NON_STRICT}
#: Octets that may be nowhere in a command: 501, if there is no other reason to refuse it (4.1.2).
FORBIDDEN: Final[Allowed] = {
    "501": PASS, "55z": PASS, "5yz": NON_STRICT, "4yz": NON_STRICT, **HUNG_UP,
}  # fmt: skip
#: Octets above 127: they should be refused (2.4), and must be (4.1.2).
EIGHT_BIT: Final[Allowed] = FORBIDDEN | {"500": PASS, "2yz": NON_STRICT}
#: A parameter of MAIL or RCPT that the server does not know.
UNKNOWN_PARAMETER: Final[Allowed] = {"555": PASS, "5yz": NON_STRICT}

# -- what is out of order -------------------------------------------------------------------------

RCPT_WITHOUT_MAIL: Final[Allowed] = {"503": PASS, "530": INFO, "4yz": NON_STRICT}
#: A second MAIL; it may also be taken, if it begins anew.
MAIL_AGAIN: Final[Allowed] = {
    "503": PASS, "5yz": NON_STRICT, "4yz": NON_STRICT, "2yz": NON_STRICT,
}  # fmt: skip
MAIL_BEFORE_EHLO: Final[Allowed] = {"503": PASS, "25z": INFO, "5yz": NON_STRICT, "4yz": INFO}
#: Of `asking.data_refused`.  354 and a failure in the end is allowed, too (3.3, RFC 2920 3.1).
NOTHING_TO_SEND: Final[Allowed] = {
    "503": PASS, "554": PASS, "5yz": NON_STRICT, "4yz": NON_STRICT,
    "354, then refused": NON_STRICT,
}  # fmt: skip

# -- who is greeted -------------------------------------------------------------------------------

#: A well-formed argument.  The reply to EHLO has one code of success (4.1.1.1).
EHLO: Final[Allowed] = {"250": PASS, "504": INFO, "55z": INFO, "53z": INFO, "4yz": INFO}
HELO: Final[Allowed] = EHLO | {"2yz": NON_STRICT}
#: A name that does not check, where that is the only reason to refuse: none (4.1.4).
UNVERIFIED: Final[Allowed] = {
    "250": PASS, "504": NON_STRICT, "55z": NON_STRICT, "53z": INFO, "4yz": INFO,
}  # fmt: skip
#: How a second EHLO may be refused (4.1.4).  Of HELO nothing is said, but that it is known (F.3).
EHLO_AGAIN: Final[Allowed] = {
    "250": PASS, "501": NON_STRICT, "500": NON_STRICT, "502": NON_STRICT, "550": NON_STRICT,
}  # fmt: skip
HELO_AGAIN: Final[Allowed] = {
    "250": PASS, "2yz": NON_STRICT, "501": NON_STRICT, "503": NON_STRICT, "55z": NON_STRICT,
    "4yz": INFO,
}  # fmt: skip

# -- who is a sender, who a recipient -------------------------------------------------------------

#: MAIL and RCPT that nothing can be said against.
MAIL_TAKEN: Final[Allowed] = {"250": PASS, "2yz": NON_STRICT, "4yz": INFO}
RCPT_TAKEN: Final[Allowed] = {"250": PASS, "251": PASS, "2yz": NON_STRICT, "4yz": INFO}
#: A valid sender that the server need not like; 500, 501 and 555 would say that it is not valid.
SENDER: Final[Allowed] = {
    **MAIL_TAKEN, "504": INFO, "521": INFO, "53z": INFO, "550": INFO, "551": INFO, "552": INFO,
    "553": INFO, "554": INFO, "556": INFO,
}  # fmt: skip
#: The same of a mailbox that is here.
MAILBOX: Final[Allowed] = SENDER | RCPT_TAKEN
#: The same of a recipient who need not exist.
RECIPIENT: Final[Allowed] = MAILBOX | {"550": PASS, "551": PASS, "554": PASS}
#: "Not allowed here" is a policy, and 501 only a bad code for it; 500 and 555 tell another thing.
LITERAL_SENDER: Final[Allowed] = SENDER | {"501": NON_STRICT}
LITERAL_RECIPIENT: Final[Allowed] = RECIPIENT | {"501": NON_STRICT}
#: What local parts it has is the convention of the receiver (4.1.1), not that of others.
OWN_RECIPIENT: Final[Allowed] = RECIPIENT | {"501": NON_STRICT}
UNKNOWN_RECIPIENT: Final[Allowed] = {
    "550": PASS, "551": PASS, "5yz": NON_STRICT, "4yz": INFO, "2yz": NON_STRICT,
}  # fmt: skip
#: Parsed and ignored, says RFC 5321 (3.6.1, 4.1.1.3); RFC 5321bis lets a server refuse it.
ROUTED: Final[Allowed] = {
    "250": PASS, "251": PASS, "2yz": NON_STRICT, "550": PASS, "551": PASS, "554": PASS,
    "5yz": NON_STRICT, "4yz": INFO,
}  # fmt: skip
#: Of a recipient, or a message, after MAIL FROM:<> was taken: that a mailbox takes no reports,
#: because it never sends, is policy.
FROM_NOBODY: Final[Allowed] = {
    **RCPT_TAKEN, "550": NON_STRICT, "551": NON_STRICT, "553": NON_STRICT, "554": NON_STRICT,
}  # fmt: skip

# -- the other verbs ------------------------------------------------------------------------------

DATA: Final[Allowed] = {"354": PASS, "550": INFO, "554": INFO, "4yz": INFO}
RSET: Final[Allowed] = {"250": PASS}
NOOP: Final[Allowed] = {"250": PASS, "2yz": NON_STRICT}
QUIT: Final[Allowed] = {"221": PASS}
#: Before EHLO: these need none (4.1.4).
EARLY: Final[Allowed] = {"503": NON_STRICT}
#: HELP should be there; what it may be asked, is the server's affair.
HELP: Final[Allowed] = {
    "211": PASS, "214": PASS, "2yz": NON_STRICT, "5yz": NON_STRICT, "4yz": NON_STRICT,
}  # fmt: skip
HELP_ABOUT: Final[Allowed] = HELP | {"5yz": INFO, "4yz": INFO}
#: VRFY of whatever is in order.  It is required (4.5.1), and 500 to it a violation (4.3.2); but who
#: verifies nothing should answer 502 or 500 (3.5.3).  Switched off it is 252 (7.3).
VRFY: Final[Allowed] = {
    "250": PASS, "251": PASS, "252": PASS, "504": PASS, "55z": PASS, "500": NON_STRICT,
    "501": NON_STRICT, "502": NON_STRICT, "503": NON_STRICT, "53z": INFO, "4yz": INFO,
}  # fmt: skip
VRFY_KNOWN: Final[Allowed] = VRFY | {"55z": NON_STRICT}
VRFY_ELSEWHERE: Final[Allowed] = VRFY | {"250": NON_STRICT}
VRFY_UNKNOWN: Final[Allowed] = {
    code: verdict for code, verdict in VRFY.items() if code not in ("250", "251")
}
#: EXPN is optional.
EXPN: Final[Allowed] = VRFY | {"500": PASS, "502": PASS}
EXPN_UNKNOWN: Final[Allowed] = VRFY_UNKNOWN | {"500": PASS, "502": PASS}
#: Where there should be an argument.
NOTHING_TO_VERIFY: Final[Allowed] = SYNTAX_ERROR | {"502": PASS, "504": PASS, "252": NON_STRICT}
#: The end of a message that nothing can be said against (4.3.2).
MESSAGE: Final[Allowed] = {
    "250": PASS, "552": PASS, "554": PASS, "451": PASS, "452": PASS, "450": PASS, "550": PASS,
    "2yz": NON_STRICT, "4yz": NON_STRICT, "55z": NON_STRICT, "53z": NON_STRICT, "521": NON_STRICT,
}  # fmt: skip


def with_argument(done: str) -> Allowed:
    """DATA, RSET and QUIT take none: 501 (4.3.2).  done: the code where it is ignored."""
    return {"501": PASS, "5yz": NON_STRICT, "4yz": NON_STRICT, done: NON_STRICT}
