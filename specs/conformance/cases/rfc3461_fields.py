"""RFC 3461 6.3: what a report says of ENVID, ORCPT, the recipient, and its status.

What is tricky
- 6.3 says of ENVID that its value must be decoded, of ORCPT only that the value is taken from it.
- ENVID carries the case's token, so that a report is found which returns nothing of the message;
  where ENVID must not be given, the header that is returned has it (6.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from specs.conformance.headers import first
from specs.conformance.model import NON_STRICT, PASS, Seen, Verdict
from specs.conformance.report_cases import (
    with_status,
)
from specs.conformance.reports import (
    Report,
    deliveries,
    failing,
    in_form,
    of_delivery,
    of_failure,
    value,
    wait,
)
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Refused, Session, Unavailable
from specs.conformance.status_codes import FORM, registered

here = Section("3461")


# -- 6.3: ENVID -----------------------------------------------------------------------------------

#: slug, xtext, what it stands for, requirement; each goes behind the token and a dot
ENVIDS: Final = (
    ("plain", "QQ314159", "QQ314159", "An ENVID is told in the report"),
    ("case", "AbCdEf", "AbCdEf", "An ENVID keeps its upper and lower case in the report"),
    ("plus-and-equals", "a+2Bb+3Dc", "a+b=c", "An ENVID's encoded + and = are decoded"),
    ("space", "two+20words", "two words", "An ENVID's encoded space is decoded"),
    ("needless", "+41+42C", "ABC", "What need not have been encoded in an ENVID is decoded"),
    ("encoded-escape", "+2B41", "+41", "An ENVID is decoded once, not twice"),
    ("parentheses", "(no+20comment)x", "(no comment)x", "Parentheses in an ENVID are kept"),
    ("punctuation", "!\"#$%&'*,-./:;<>?@[\\]^_`{|}~", "!\"#$%&'*,-./:;<>?@[\\]^_`{|}~",
     "Every printable character of an ENVID is kept"),
    ("long", "e" * 77, "e" * 77, "An ENVID of 100 characters, with its keyword, is told whole"),
)  # fmt: skip


def compared(got: str, decoded: str, encoded: str, *, plain: bool = False) -> str:
    """Raises NotApplicable if nothing was got: whether the field is there is asked once (plain)."""
    if not got and not plain:
        raise NotApplicable("the field in reports")
    if not got:
        return "absent"
    if got == decoded:
        return "decoded"
    return "still encoded" if got == encoded else "changed"


def envid(slug: str, xtext: str, decoded: str, requirement: str) -> None:
    @here.case(
        f"6.3-envid-{slug}", level="MUST", clauses="3461-6.3-a", keywords="DSN",
        needs="rcpt sendermail", requirement=requirement, allowed={"decoded": PASS},
        sent=f"mail with ENVID={{token}}.{xtext} and NOTIFY=SUCCESS",
    )  # fmt: skip
    async def _(talk: Session) -> Seen:
        try:
            found = await of_delivery(talk, mail=f"ENVID={talk.token}.{xtext}")
        except Refused as error:
            if slug == "punctuation" and error.what.startswith("MAIL"):  # judged in 4.4
                raise Unavailable("an ENVID with punctuation") from None
            raise
        report = with_status(found)
        got = first(report.about, "original-envelope-id")
        is_plain = slug == "plain"
        return compared(
            got, f"{talk.token}.{decoded}", f"{talk.token}.{xtext}", plain=is_plain
        ), got


for _envid in ENVIDS:
    envid(*_envid)


@here.case(
    "6.3-envid-of-failure", level="MUST", clauses="3461-6.3-a", keywords="DSN",
    needs="rcpt sendermail", requirement="An ENVID is told, decoded, in a report on a failure",
    sent="mail with ENVID={token}.a+2Bb to an address that fails after it was accepted",
    allowed={"decoded": PASS},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    report = with_status(in_form(await of_failure(talk, mail=f"ENVID={talk.token}.a+2Bb")))
    got = first(report.about, "original-envelope-id")
    return compared(got, f"{talk.token}.a+b", f"{talk.token}.a+2Bb"), got


def without(report: Report, name: str) -> Seen:
    """That no block has this field."""
    found = [text for group in with_status(report).groups for text in group.get(name, ())]
    return ("present" if found else "absent"), ", ".join(found)


@here.case(
    "6.3-no-envid", level="MUST NOT", clauses="3461-6.3-b", keywords="DSN", role="delivery",
    needs="rcpt sendermail", allowed={"absent": PASS},
    requirement="A report has no Original-Envelope-Id if no ENVID was given",
    sent="mail with NOTIFY=SUCCESS and without ENVID",
)  # fmt: skip
async def _(talk: Session) -> Seen:
    return without(await of_delivery(talk), "original-envelope-id")


@here.case(
    "6.3-no-envid-of-failure", level="MUST NOT", clauses="3461-6.3-b", role="delivery",
    needs="rcpt sendermail", keywords="DSN", allowed={"absent": PASS},
    requirement="A report on a failure has no Original-Envelope-Id if no ENVID was given",
    sent="mail without ENVID to an address that fails after it was accepted",
)  # fmt: skip
async def _(talk: Session) -> Seen:
    return without(in_form(await of_failure(talk)), "original-envelope-id")


@here.case(
    "6.3-envid-of-earlier-mail", level="MUST NOT", clauses="3461-6.3-b", keywords="DSN",
    needs="rcpt sendermail", role="delivery", allowed={"absent": PASS},
    requirement="The ENVID of an earlier transaction is not told of a later one without",
    sent="MAIL with ENVID and RET | RCPT with ORCPT | RSET | mail with NOTIFY=SUCCESS alone",
)  # fmt: skip
async def _(talk: Session) -> Seen:
    await talk.upto("ehlo")
    await talk.must(f"MAIL FROM:<{talk.given.sender}> ENVID=earlier RET=HDRS")
    await talk.must(f"RCPT TO:<{talk.given.rcpt}> ORCPT=rfc822;earlier@x.example NOTIFY=NEVER")
    await talk.must("RSET")
    return without(await of_delivery(talk), "original-envelope-id")


# -- 6.3: ORCPT -----------------------------------------------------------------------------------

#: slug, ORCPT, type, address, requirement
ORCPTS: Final = (
    ("plain", "rfc822;first@elsewhere.example", "rfc822", "first@elsewhere.example",
     "An ORCPT is told in the report"),
    ("case", "rfc822;First.Last@Elsewhere.Example", "rfc822", "First.Last@Elsewhere.Example",
     "An ORCPT keeps its upper and lower case in the report"),
    ("plus-and-equals", "rfc822;a+2Bb+3Dc@elsewhere.example", "rfc822",
     "a+b=c@elsewhere.example", "An ORCPT's encoded + and = are decoded"),
    ("space", "rfc822;+22two+20words+22@elsewhere.example", "rfc822",
     '"two words"@elsewhere.example', "An ORCPT's encoded space is decoded"),
    ("other-type", "x400;/G+3DAda/S+3DByron/O+3DX/C+3Dgb/", "x400", "/G=Ada/S=Byron/O=X/C=gb/",
     "An ORCPT of another type is told with its type"),
    ("no-address", "rfc822;no+20address+20at+20all", "rfc822", "no address at all",
     "An ORCPT that is no address is told as it is"),
    ("long", "rfc822;" + "o" * 473 + "@other.example", "rfc822", "o" * 473 + "@other.example",
     "An ORCPT of 500 characters, with its keyword, is told whole"),
)  # fmt: skip


def orcpt(slug: str, xtext: str, kind: str, address: str, requirement: str) -> None:
    @here.case(
        f"6.3-orcpt-{slug}", level="MUST", clauses="3464-2.3.1-a 3461-4.2-a", keywords="DSN",
        needs="rcpt sendermail", requirement=requirement, role="delivery",
        allowed={"decoded": PASS, "still encoded": NON_STRICT},
        sent=f"mail with ORCPT={xtext if len(xtext) < 70 else xtext[:20] + '...'}, NOTIFY=SUCCESS",
    )  # fmt: skip
    async def _(talk: Session) -> Seen:
        try:
            report = await of_delivery(talk, mail=f"ENVID={talk.token}", rcpt=f"ORCPT={xtext}")
        except Refused as error:
            if slug in ("long", "other-type") and error.what.startswith("RCPT"):  # judged in 4.2
                raise Unavailable("an ORCPT that is long, or of another type") from None
            raise
        got = first(with_status(report).recipients[0], "original-recipient")
        is_plain = slug == "plain"
        label = compared(value(got)[1], address, xtext.partition(";")[2], plain=is_plain)
        return ("another type" if value(got)[0] != kind and label != "absent" else label), got


for _orcpt in ORCPTS:
    orcpt(*_orcpt)


def invented(talk: Session, report: Report) -> Seen:
    """Whether there is an Original-Recipient, and another than the recipient."""
    label, saw = without(report, "original-recipient")
    for group in report.recipients:
        own = {value(first(group, "final-recipient"))[1].lower(), talk.given.rcpt.lower()}
        said = [value(each)[1].lower() for each in group.get("original-recipient", ())]
        if any(each not in own for each in said):
            return "another", saw
    return label, saw


#: 6.3 (d) forbids it; 5.2.1 (d) allows an ORCPT that was not given, with the recipient's own
#: address, on the way: the texts differ.
NO_ORCPT: Final[Mapping[str, Verdict]] = {"absent": PASS, "present": NON_STRICT}


@here.case(
    "6.3-no-orcpt", level="MUST NOT", clauses="3461-6.3-c", keywords="DSN", role="delivery",
    needs="rcpt sendermail", allowed=NO_ORCPT,
    requirement="A report has no Original-Recipient if no ORCPT was given",
    sent="mail with NOTIFY=SUCCESS and without ORCPT",
)  # fmt: skip
async def _(talk: Session) -> Seen:
    return invented(talk, await of_delivery(talk, mail=f"ENVID={talk.token}"))


@here.case(
    "6.3-no-orcpt-of-failure", level="MUST NOT", clauses="3461-6.3-c", role="delivery",
    needs="rcpt sendermail", allowed=NO_ORCPT,
    requirement="A report on a failure has no Original-Recipient if no ORCPT was given",
    sent="mail without ORCPT to an address that fails after it was accepted",
)  # fmt: skip
async def _(talk: Session) -> Seen:
    return invented(talk, in_form(await of_failure(talk)))


@here.case(
    "6.3-orcpt-of-earlier-rcpt", level="MUST NOT", clauses="3461-6.3-c", keywords="DSN",
    needs="rcpt sendermail", role="delivery", allowed={"its own or none": PASS},
    requirement="The ORCPT of an earlier transaction is not told of a later one without",
    sent="MAIL | RCPT with ORCPT | RSET | mail with NOTIFY=SUCCESS and without ORCPT",
)  # fmt: skip
async def _(talk: Session) -> Seen:
    await talk.upto("ehlo")
    await talk.must(f"MAIL FROM:<{talk.given.sender}>")
    await talk.must(f"RCPT TO:<{talk.given.rcpt}> ORCPT=rfc822;earlier@x.example")
    await talk.must("RSET")
    report = with_status(await of_delivery(talk, mail=f"ENVID={talk.token}"))
    got = first(report.recipients[0], "original-recipient")
    return ("the earlier one" if "earlier@x.example" in got else "its own or none"), got


@here.case(
    "6.3-orcpt-of-each", level="MUST", clauses="3464-2.3.1-a 3461-6.3-c", keywords="DSN",
    needs="rcpt rcpt2 sendermail", role="delivery",
    requirement="An ORCPT stays with its recipient, and is not given to another without one",
    sent="mail for two mailboxes with NOTIFY=SUCCESS, the second with an ORCPT",
    allowed={"each its own": PASS},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    rcpts = [
        (talk.given.rcpt, "NOTIFY=SUCCESS"),
        (talk.given.rcpt2, "NOTIFY=SUCCESS ORCPT=rfc822;second@elsewhere.example"),
    ]

    def both(reports: list[Report]) -> bool:
        return all(any(each.of(to) for each in reports) for to, _ in rcpts)

    found = await deliveries(talk, mail=f"ENVID={talk.token}", rcpts=rcpts, enough=both)
    if not both(found):
        raise Unavailable("reports on both deliveries")
    of = [
        next(block for each in found if (block := each.of(to)) is not None) for to, _ in rcpts
    ]  # fmt: skip
    said = [value(first(block, "original-recipient"))[1] for block in of]
    if not any(said):
        raise NotApplicable("Original-Recipient in reports")
    if said[1] != "second@elsewhere.example":
        return "lost or changed", f"{said[1]!r} for the second"
    if said[0] == said[1]:
        return "given to another", f"{said[0]!r} for the first"
    # An Original-Recipient of the server's own making is the question of 6.3-no-orcpt.
    return "each its own", ", ".join(said)


# -- 6.3: the recipient, and the status -----------------------------------------------------------


def final(report: Report, address: str) -> Seen:
    got = first(with_status(report).recipients[0], "final-recipient")
    kind, said = value(got)
    if said == address:
        return ("the same" if kind == "rfc822" else "another type"), got
    local, _, domain = address.rpartition("@")
    if said.lower() == f"{local}@{domain}".lower():
        same_local = said.rpartition("@")[0] == local
        return ("the domain's case is changed" if same_local else "case is changed"), got
    return "another", got


FINAL: Final[Mapping[str, Verdict]] = {
    "the same": PASS, "the domain's case is changed": NON_STRICT,
}  # fmt: skip


@here.case(
    "6.3-final-recipient", level="MUST", clauses="3461-6.3-d", keywords="DSN", role="delivery",
    needs="rcpt sendermail", allowed=FINAL,
    requirement="Final-Recipient has the recipient of the envelope, of type rfc822",
    sent="mail with NOTIFY=SUCCESS and another address as ORCPT",
)  # fmt: skip
async def _(talk: Session) -> Seen:
    report = await of_delivery(
        talk, mail=f"ENVID={talk.token}", rcpt="ORCPT=rfc822;another@elsewhere.example"
    )
    return final(report, talk.given.rcpt)


@here.case(
    "6.3-final-recipient-case", level="MUST", clauses="3461-6.3-d", keywords="DSN",
    needs="rcpt sendermail", allowed=FINAL, role="delivery",
    requirement="Final-Recipient keeps the case in which the domain was given",
    sent="mail with NOTIFY=SUCCESS for the mailbox with its domain in capitals",
)  # fmt: skip
async def _(talk: Session) -> Seen:
    local, _, domain = talk.given.rcpt.rpartition("@")
    address = f"{local}@{domain.upper()}"
    return final(await of_delivery(talk, mail=f"ENVID={talk.token}", to=address), address)


@here.case(
    "6.3-final-recipient-of-failure", level="MUST", clauses="3461-6.3-d", role="delivery",
    needs="rcpt sendermail", allowed=FINAL,
    requirement="Final-Recipient has the recipient of the envelope, of type rfc822, on a failure",
    sent="mail to an address that fails after it was accepted",
)  # fmt: skip
async def _(talk: Session) -> Seen:
    address = (await failing(talk)).address
    return final(in_form(await of_failure(talk)), address)


@here.case(
    "6.3-status-of-failure", level="MUST", clauses="3461-6.3-e", role="delivery",
    needs="rcpt sendermail",
    requirement="The Status of a failure is a code that is registered, or 4.0.0 or 5.0.0",
    sent="mail to an address that fails after it was accepted",
    allowed={"registered": PASS, "not registered": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    report = with_status(in_form(await of_failure(talk)))
    status = first(report.recipients[0], "status").partition("(")[0].strip()
    if status.partition(".")[0] not in ("4", "5"):
        return "no failure", status
    known = FORM.match(status) and registered(status)
    return ("registered" if known else "not registered"), status


# -- injection ------------------------------------------------------------------------------------

#: slug, what the encoded octets do to the line
ENDS: Final = (("crlf", "+0D+0A"), ("lf", "+0A"), ("cr", "+0D"), ("empty-line", "+0A+0A"))


def injected(name: str, slug: str, end: str) -> None:
    @here.case(
        f"6.3-injection-{name}-{slug}", level="IMPLIED",
        clauses="3461-6.3-a" if name == "envid" else "3464-2.3.1-a", keywords="DSN",
        needs="rcpt sendermail", role="delivery",
        security="fields, and whole recipients, of a report written by whoever sends mail",
        requirement=f"What {name.upper()} decodes to begins no line of a report ({end})",
        sent=f"mail with {name.upper()}=...{end}X-Injected:+20yes and NOTIFY=SUCCESS",
        allowed={"refused": PASS, "no line of its own": PASS, "refused later": PASS},
    )  # fmt: skip
    async def _(talk: Session) -> Seen:
        tail = f"{end}X-Injected:+20yes"
        mail = f"ENVID={talk.token}{tail if name == 'envid' else ''}"
        more = f" ORCPT=rfc822;a@x.example{tail}" if name == "orcpt" else ""
        await talk.upto("ehlo")
        reply = await talk.say(f"MAIL FROM:<{talk.given.sender}> {mail}")
        if not reply.positive:
            return ("refused" if reply.kind == "reply" else reply.label), str(reply)
        reply = await talk.say(f"RCPT TO:<{talk.given.rcpt}> NOTIFY=SUCCESS{more}")
        if not reply.positive:
            return ("refused" if reply.kind == "reply" else reply.label), str(reply)
        await talk.must("DATA")
        reply = await talk.content(talk.message())
        if not reply.positive:
            return ("refused later" if reply.kind == "reply" else reply.label), str(reply)
        found = await wait(talk)
        if not found:
            raise Unavailable("a report on a delivery, asked for by NOTIFY=SUCCESS")
        for report in found:
            status = report.status.body if report.status else b""
            head = report.raw.partition(b"\n\n")[0]
            for text in (b"\n" + head, b"\n" + status):
                if b"\nX-Injected:" in text:
                    return "a line of its own", text.decode("latin-1")
                if b"\rX-Injected:" in text:
                    return "behind a bare CR", text.decode("latin-1")
        return "no line of its own", ""


for _name in ("envid", "orcpt"):
    for _slug, _end in ENDS:
        injected(_name, _slug, _end)
