"""RFC 5322: what a server writes into messages (its fields, its reports), and what it takes in.

- Whether what came is well-formed is not the server's to judge: obsolete syntax must be taken, and
  is to arrive as it came.  A refusal is policy, and non-strict.
- Reports are had by asking for one about success (RFC 3461), so these need DSN.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from specs.conformance.arrivals import lost, taken
from specs.conformance.headers import Field, added, lf, named, on_top, parts
from specs.conformance.model import INFO, NON_STRICT, PASS, Level, Seen, Verdict
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Refused, Session
from specs.conformance.trace_fields import date_faults, stamp, zone_of

here = Section("5322", role="delivery")

#: Fields that a message may have once at most (RFC 5322 3.6).
ONCE: Final = (
    "Date",
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Subject",
)
ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
MSG_ID: Final = re.compile(rf"<{ATOM}(\.{ATOM})*@({ATOM}(\.{ATOM})*|\[[!-Z^-~]*\])>\Z")


async def fields_made(talk: Session) -> tuple[list[Field], bytes]:
    """What stands on top of an ordinary message, and the whole.  Raises Refused."""
    found = await taken(talk)
    return on_top(found), found


def shown(fields: list[Field]) -> str:
    """For people."""
    return b"".join(each.raw for each in fields).decode("latin-1")


# -- fields on top --------------------------------------------------------------------------------

JudgeFields = Callable[[list[Field]], str]


def _length(limit: int) -> JudgeFields:
    def judge(fields: list[Field]) -> str:
        longest = max((len(line) for each in fields for line in each.raw.split(b"\n")), default=0)
        return "within" if longest <= limit else "longer"

    return judge


def _names(fields: list[Field]) -> str:
    for each in fields:
        if not each.name:
            return "a line that is no field"
        if any(not (32 <= octet <= 126 or octet in (9, 10)) for octet in each.raw):
            return "not printable ASCII"
    return "well-formed"


def _folds(fields: list[Field]) -> str:
    blank = any(not line.strip() for each in fields for line in each.raw.split(b"\n")[1:-1])
    return "a line of white space" if blank else "well-formed"


def _order(fields: list[Field]) -> str:
    trace = [
        each.name.casefold()
        for each in fields
        if each.name.casefold() in ("return-path", "received")
    ]
    if "received" not in trace:
        return "no Received"
    late = "return-path" in trace and trace.index("return-path") > 0
    return (
        "Return-Path below Received"
        if late
        else "in order"
        if trace[0] == "return-path"
        else "no Return-Path"
    )


def _dates(fields: list[Field]) -> str:
    for each in named(fields, "Received"):
        if wrong := date_faults(stamp(each.value).date):
            return wrong[0]
    for each in [*named(fields, "Date"), *named(fields, "Delivery-Date")]:
        if wrong := date_faults(re.sub(r"\([^()]*\)", "", each.value)):
            return wrong[0]
    return "well-formed"


def _zones(fields: list[Field]) -> str:
    zones = [zone_of(stamp(each.value).date) for each in named(fields, "Received")]
    if not all(zones):
        return "no date"
    far = [each for each in zones if each[0] in "+-" and int(each[1:3]) > 15]
    return (
        "no zone of this world"
        if far
        else "an offset"
        if all(each[0] in "+-" for each in zones)
        else "a name"
    )


FIELDS: Final[tuple[tuple[str, str, Level, str, JudgeFields, Mapping[str, Verdict]], ...]] = (
    ("2.1.1-lines-998", "5322-2.1.1-a", "MUST",
     "No line that the server adds is longer than 998 octets",
     _length(998), {"within": PASS}),
    ("2.1.1-lines-78", "5322-2.1.1-b", "SHOULD",
     "No line that the server adds is longer than 78 characters",
     _length(78), {"within": PASS, "longer": NON_STRICT}),
    ("2.2-fields", "5322-2.2-a", "MUST",
     "Fields that the server adds are a name, a colon, and printable ASCII",
     _names, {"well-formed": PASS}),
    ("2.2.3-folds", "5322-2.2.3-a", "MUST",
     "Fields that the server folds have no lines of white space alone",
     _folds, {"well-formed": PASS}),
    ("3.6.7-trace-order", "5322-3.6.7-a", "MUST", "The trace is Return-Path, then Received",
     _order, {"in order": PASS, "no Return-Path": INFO, "no Received": INFO}),
    ("3.3-dates", "5322-3.3-a 5322-3.3-b", "MUST",
     "Dates that the server writes exist, with the right day of the week and a zone of four digits",
     _dates, {"well-formed": PASS, "a zone by name": NON_STRICT}),
    ("3.3-zones", "5322-3.3-c 5322-3.3-b", "SHOULD",
     "Zones that the server writes are offsets in digits",
     _zones, {"an offset": PASS, "a name": NON_STRICT}),
)  # fmt: skip
for name, clauses, level, requirement, judge, allowed in FIELDS:

    async def _made(talk: Session, judge: JudgeFields = judge) -> Seen:
        fields, whole = await fields_made(talk)
        return judge(fields), shown(fields) or repr(whole[:300])

    here.case(
        name,
        level=level,
        clauses=clauses,
        requirement=requirement,
        allowed=allowed,
        sent="an ordinary message; what is above it in the mailbox is looked at",
        needs="rcpt maildir",
    )(_made)


@here.case(
    "2.1.1-lines-long-names", level="MUST", clauses="5322-2.1.1-a", needs="rcpt maildir",
    sent="EHLO with a name of 253 octets, MAIL with a path of 256",
    requirement="With the longest names, too, no line that the server adds is over 998 octets",
    allowed={"within": PASS, "refused": INFO},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    name = ".".join(["n" * 60] * 4) + ".n.example"
    await talk.upto("greeting")
    for line in (
        f"EHLO {name}",
        f"MAIL FROM:<{'s' * 60}@{name[61:]}>",
        f"RCPT TO:<{talk.given.rcpt}>",
    ):
        reply = await talk.say(line)
        if not reply.positive:
            return ("refused" if reply.kind == "reply" else reply.kind), str(reply)
    talk.stage = "rcpt"
    await talk.upto("data")
    final = await talk.content(talk.message())
    if final.kind == "reply" and final.code[0] in "45":
        return "refused", str(final)
    found = await talk.arrived()
    if not found:
        return await lost(talk)
    return _length(998)(on_top(found[0])), shown(on_top(found[0]))


@here.case(
    "2.3-no-bare-cr", level="MUST NOT", clauses="5322-2.3-a", needs="rcpt maildir",
    sent="a message of 100 lines",
    requirement="What is delivered has no CR or LF of its own: lines end all in the same way",
    allowed={"none": PASS},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    found = await taken(talk, talk.message(b"line\r\n\r\n" * 50))
    bare = lf(found).count(b"\r")
    mixed = b"\r\n" in found and re.search(rb"(?<!\r)\n", found)
    return ("CR" if bare else "both CRLF and LF" if mixed else "none"), repr(found[:500])


# -- what is taken in -----------------------------------------------------------------------------

WHOLE: Final[Mapping[str, Verdict]] = {
    "kept": PASS,
    "header changed": NON_STRICT,
    "refused": NON_STRICT,
}


def _head(talk: Session, *fields: str) -> bytes:
    """A message of these fields, with this case's token."""
    lines = (
        *(talk.fill(each) for each in fields),
        f"Subject: conformance {talk.token}",
        "",
        "body",
        "",
    )
    return "\r\n".join(lines).encode()


ORIGIN: Final = ("From: <{sender}>", "To: <{rcpt}>")
DATED: Final = "Date: Mon, 02 Nov 2026 10:00:00 +0000"
IDENT: Final = "Message-ID: <{token}@{hostname}>"
OBSOLETE: Final[tuple[tuple[str, str, str, tuple[str, ...]], ...]] = (
    ("4-zone-name", "5322-4-a", "a zone by name", (*ORIGIN, "Date: Mon, 02 Nov 2026 10:00:00 EST",
     IDENT)),
    ("4-zone-military", "5322-4-a", "a zone of one letter",
     (*ORIGIN, "Date: Mon, 02 Nov 2026 10:00:00 Z", IDENT)),
    ("4-year-two-digits", "5322-4-a", "a year of two digits",
     (*ORIGIN, "Date: Mon, 02 Nov 26 10:00:00 +0000", IDENT)),
    ("4-date-comments", "5322-4-a", "comments in a date",
     (*ORIGIN, "Date: Mon (a), 02 (b) Nov (c) 2026 10 : 00 : 00 (d) +0000 (UTC)", IDENT)),
    ("4-route", "5322-4-a", "a route in an address",
     ("From: Some One <@a.example,@b.example:{sender}>", "To: <@c.example:{rcpt}>", DATED, IDENT)),
    ("4-address-spaces", "5322-4-a", "spaces in an address",
     (*ORIGIN, DATED, IDENT, "Reply-To: some . one @ client . example",
      "Cc: a.b@c.example,,d@e.example,")),
    ("4-phrase-dots", "5322-4-a", "dots in a name",
     (*ORIGIN, DATED, IDENT, "Cc: J. Q. Public <q@c.example>")),
    ("4-msg-id-words", "5322-4-a", "quoted strings in a message's ID",
     (*ORIGIN, DATED, 'Message-ID: <"{token} x"@{hostname}>',
      'References: some words <"a b"@c.example>')),
    ("4-blank-folds", "5322-4-a", "folds with lines of white space alone",
     (*ORIGIN, DATED, IDENT, "X-Fold: one", " ", "\t", " two")),
    ("4-fields-twice", "5322-4-a", "fields that may be there once",
     (*ORIGIN, DATED, IDENT, "Cc: a@b.example", "Cc: c@d.example", "Keywords: a", "Keywords: b")),
    ("4-order", "5322-4-a", "Received below other fields",
     (*ORIGIN, DATED, "Received: from a.example by b.example; Mon, 02 Nov 2026 09:59:59 +0000",
      IDENT)),
    ("4.5-space-before-colon", "5322-4.5-a", "a blank in front of a colon",
     (*ORIGIN, DATED, IDENT, "X-Blank : value", "Comments \t: words")),
    ("4.5-space-before-colon-from", "5322-4.5-a", "a blank in front of the colon of From and To",
     ("From : <{sender}>", "To : <{rcpt}>", DATED, IDENT)),
)  # fmt: skip
for name, clauses, what, lines in OBSOLETE:

    async def _taken(talk: Session, lines: tuple[str, ...] = lines) -> Seen:
        sent = _head(talk, *lines)
        final = await talk.transact(sent)
        if final.kind == "reply" and final.code[0] in "45":
            return "refused", str(final)
        found = await talk.arrived()
        if not found:
            return await lost(talk)
        if added(found[0], sent) is not None:
            return "kept", ""
        same = parts(found[0])[1].rstrip(b"\n") == parts(sent)[1].rstrip(b"\n")
        return ("header changed" if same else "body changed"), repr(found[0])[:1200]

    here.case(
        name,
        level="MUST",
        clauses=clauses,
        sent=f"a message with {what}",
        needs="rcpt maildir",
        requirement=f"Obsolete syntax is taken in, and delivered as it came ({what})",
        allowed=WHOLE,
    )(_taken)


# -- reports --------------------------------------------------------------------------------------


async def report(talk: Session) -> bytes:
    """The server's report about a delivery.  Raises NotApplicable, Refused."""
    final = await talk.transact(rcpt="NOTIFY=SUCCESS", mail="RET=HDRS")
    if final.code != "250":
        raise Refused("a message", final)
    found = await talk.reports()
    if not found:  # its text may not have our token: the server may not report on success itself
        raise NotApplicable("DSN (no report arrived)")
    return found[0]


def _single(fields: list[Field]) -> str:
    wrong = [name for name in ONCE if len(named(fields, name)) > 1]
    return f"{wrong[0]} twice" if wrong else "once"


def _origin(fields: list[Field]) -> str:
    counts = {name: len(named(fields, name)) for name in ("Date", "From")}
    return "one each" if set(counts.values()) == {1} else f"{counts}"


def _date(fields: list[Field]) -> str:
    value = "".join(each.value for each in named(fields, "Date"))
    wrong = date_faults(re.sub(r"\([^()]*\)", "", value))
    return wrong[0] if wrong else "well-formed"


def _ident(fields: list[Field]) -> str:
    found = named(fields, "Message-ID")
    return "none" if not found else "well-formed" if MSG_ID.match(found[0].value) else "ill-formed"


def _ascii(fields: list[Field]) -> str:
    return _names(fields)


REPORTS: Final[tuple[tuple[str, str, Level, str, JudgeFields, Mapping[str, Verdict]], ...]] = (
    ("3.6-report-origin", "5322-3.6-a", "MUST", "A report has one Date and one From", _origin,
     {"one each": PASS}),
    ("3.6-report-once", "5322-3.6-b", "MUST", "A report has no field twice that may be there once",
     _single, {"once": PASS}),
    ("3.6.4-report-id", "5322-3.6.4-a", "SHOULD", "A report has a well-formed Message-ID", _ident,
     {"well-formed": PASS, "none": NON_STRICT, "ill-formed": NON_STRICT}),
    ("3.3-report-date", "5322-3.3-a 5322-3.3-b", "MUST",
     "The Date of a report exists, with the right day of the week",
     _date, {"well-formed": PASS, "a zone by name": NON_STRICT}),
    ("2.2-report-fields", "5322-2.2-a", "MUST",
     "The fields of a report are a name, a colon, and printable ASCII",
     _ascii, {"well-formed": PASS}),
    ("2.2.3-report-folds", "5322-2.2.3-a", "MUST",
     "A report has no folded line of white space alone",
     _folds, {"well-formed": PASS}),
)  # fmt: skip
for name, clauses, level, requirement, judge, allowed in REPORTS:

    async def _report(talk: Session, judge: JudgeFields = judge) -> Seen:
        fields, _body = parts(await report(talk))
        return judge(fields), shown(fields)

    here.case(
        name,
        level=level,
        clauses=clauses,
        requirement=requirement,
        allowed=allowed,
        keywords="DSN",
        sent="a message whose success is to be reported; the report is looked at",
        needs="rcpt sendermail",
    )(_report)


@here.case(
    "2.1.1-report-lines",
    level="MUST",
    clauses="5322-2.1.1-a 5322-2.3-a 5322-2.1.1-b",
    keywords="DSN",
    sent="a message whose success is to be reported",
    needs="rcpt sendermail",
    requirement="No line of a report is over 998 octets (78 is better), and none has a bare CR",
    allowed={"within 78": PASS, "within 998": NON_STRICT},
)
async def _(talk: Session) -> Seen:
    whole = lf(await report(talk))
    longest = max(len(line) for line in whole.split(b"\n"))
    if b"\r" in whole:
        return "a bare CR", ""
    return ("within 78" if longest <= 78 else "within 998" if longest <= 998 else "longer"), str(
        longest
    )


@here.case(
    "3.6.4-report-id-unique",
    level="SHOULD",
    clauses="5322-3.6.4-a",
    keywords="DSN",
    needs="rcpt sendermail",
    sent="two messages whose success is to be reported",
    requirement="Two reports have two Message-IDs",
    allowed={"two": PASS, "none": NON_STRICT},
)
async def _(talk: Session) -> Seen:
    await report(talk)
    await talk.transact(rcpt="NOTIFY=SUCCESS", mail="RET=HDRS")
    found = await talk.reports(count=2)
    if len(found) < 2:
        raise NotApplicable("DSN (one report for two messages)")
    idents = [each.value for one in found[:2] for each in named(parts(one)[0], "Message-ID")]
    if len(idents) < 2:
        return "none", ""
    return ("two" if idents[0] != idents[1] else "the same"), " ".join(idents)
