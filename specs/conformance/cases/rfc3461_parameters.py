"""RFC 3461 4, 5.1 and 5.4: the parameters of DSN at MAIL and RCPT, taken and refused.

What is tricky
- 5.1 (a) demands 501 at MAIL for what is not valid; 5.1 (b) says SHOULD of the same at RCPT.  4.5
  says SHOULD of a repeated parameter at both: so that one is never a fail here.
- A value may be empty as xtext, but not as esmtp-value (RFC 5321 4.1.2); the list of NOTIFY is a
  list of RFC 822, which may have empty elements.  Where the texts differ, nobody fails.
- Whether an address is taken at all is the server's policy.  So valid parameters are judged by
  comparison: the same command without them, before and after.
- The limits of 5.4 count the keyword: "NOTIFY=SUCCESS,FAILURE,DELAY" is 28 characters long.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.model import INFO, NON_STRICT, PASS, Reply, Seen, Verdict
from specs.conformance.section import Section
from specs.conformance.session import Refused, Session, Stage

here = Section("3461")

MAIL: Final = "MAIL FROM:<{sender}>"
RCPT: Final = "RCPT TO:<{rcpt}>"
#: 500 and 100 characters with their keywords, and none that could be taken for an address.
LONG_ORCPT: Final = "ORCPT=rfc822;" + "o" * 473 + "@other.example"
LONG_ENVID: Final = "ENVID=" + "e" * 94

#: 5.1 (a).  Another refusal is one, too, but not the code that is asked for.
WRONG_AT_MAIL: Final = {
    "501": PASS, "5yz": NON_STRICT, "4yz": NON_STRICT,
}  # fmt: skip
#: 5.1 (b).
WRONG_AT_RCPT: Final = {**WRONG_AT_MAIL, "2yz": NON_STRICT}


# -- the keyword ----------------------------------------------------------------------------------


@here.case(
    "3-keyword-alone", level="IMPLIED", clauses="3461-4-a", keywords="DSN",
    requirement="The EHLO keyword DSN stands alone on its line",
    sent="EHLO",
    allowed={"alone": PASS, "with parameters": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    await talk.upto("ehlo")
    more = talk.features.get("DSN")
    if more is None:
        raise Refused("EHLO with DSN, as before", Reply(kind="silent"))
    return ("with parameters", more) if more else ("alone", "")


# -- valid: the same reply as without -------------------------------------------------------------


async def compared(talk: Session, line: str, parameters: str) -> Seen:
    """A MAIL or RCPT with and without parameters, each in a transaction of its own."""

    async def answer(tail: str) -> Reply:
        if line.startswith("RCPT"):
            await talk.must(f"MAIL FROM:<{talk.given.sender}>")
        reply = await talk.say(talk.fill(f"{line} {tail}".rstrip()))
        if reply.kind == "reply" and reply.code != "421":
            await talk.must("RSET")
        return reply

    await talk.upto("ehlo")
    before = await answer("")
    if not before.positive:
        raise Refused(talk.fill(line), before)
    with_them = await answer(parameters)
    if with_them.kind != "reply":
        return with_them.label, str(with_them)
    if with_them.code == before.code:
        return "the same", str(with_them)
    after = await answer("")
    if after.code != before.code:
        raise Refused(f"{talk.fill(line)}, once more", after)
    return "another reply", f"{before.code} without, {with_them} with them"


#: slug, command, parameters, requirement, clauses, section
VALID: Final = (
    ("ret-full", MAIL, "RET=FULL", "RET=FULL changes nothing in the reply to MAIL",
     "3461-5.1-a 3461-4.3-a", "4.3"),
    ("ret-hdrs", MAIL, "RET=HDRS", "RET=HDRS changes nothing in the reply to MAIL",
     "3461-5.1-a 3461-4.3-a", "4.3"),
    ("ret-lower-case", MAIL, "RET=full", "The value of RET may be written in lower case",
     "3461-5.1-a 3461-4.3-a", "4.3"),
    ("ret-mixed-case", MAIL, "Ret=Hdrs", "RET and its value may be written in any mixture of cases",
     "3461-5.1-a 3461-4.3-a", "4.3"),
    ("envid", MAIL, "ENVID=QQ314159", "A plain ENVID changes nothing in the reply to MAIL",
     "3461-5.1-a 3461-4.4-a", "4.4"),
    ("envid-encoded", MAIL, "ENVID=a+20b+2Bc+3Dd", "An ENVID may have encoded octets",
     "3461-5.1-a 3461-4.4-a", "4.4"),
    ("envid-punctuation", MAIL, "ENVID=!\"#$%&'()*,-./:;<>?@[\\]^_`{|}~",
     "Every printable character but + and = may stand in an ENVID as itself",
     "3461-5.1-a 3461-4.4-a", "4.4"),
    ("envid-and-ret", MAIL, "ENVID=x1 RET=HDRS", "ENVID and RET may be given together",
     "3461-5.1-a", "5.1"),
    ("ret-and-envid", MAIL, "RET=FULL ENVID=x2", "RET may be given before ENVID",
     "3461-5.1-a", "5.1"),
    ("notify-never", RCPT, "NOTIFY=NEVER", "NOTIFY=NEVER changes nothing in the reply to RCPT",
     "3461-5.1-a 3461-4.1-a", "4.1"),
    ("notify-success", RCPT, "NOTIFY=SUCCESS", "NOTIFY=SUCCESS does not change the reply to RCPT",
     "3461-5.1-a 3461-4.1-a", "4.1"),
    ("notify-failure", RCPT, "NOTIFY=FAILURE", "NOTIFY=FAILURE does not change the reply to RCPT",
     "3461-5.1-a 3461-4.1-a", "4.1"),
    ("notify-delay", RCPT, "NOTIFY=DELAY", "NOTIFY=DELAY changes nothing in the reply to RCPT",
     "3461-5.1-a 3461-4.1-a", "4.1"),
    ("notify-all-three", RCPT, "NOTIFY=SUCCESS,FAILURE,DELAY",
     "The longest list of NOTIFY, 28 characters with its keyword, is taken",
     "3461-5.1-a 3461-4.1-a 3461-5.4-a", "5.4"),
    ("notify-another-order", RCPT, "NOTIFY=DELAY,SUCCESS", "The list of NOTIFY has no order",
     "3461-5.1-a 3461-4.1-a", "4.1"),
    ("notify-lower-case", RCPT, "notify=failure,delay", "NOTIFY and its words may be in lower case",
     "3461-5.1-a 3461-4.1-a", "4.1"),
    ("notify-never-mixed-case", RCPT, "NOTIFY=Never", "NEVER may be in any mixture of cases",
     "3461-5.1-a 3461-4.1-a", "4.1"),
    ("orcpt", RCPT, "ORCPT=rfc822;{rcpt}", "The recipient's own address is taken as ORCPT",
     "3461-5.1-a 3461-4.2-a", "4.2"),
    ("orcpt-other-address", RCPT, "ORCPT=rfc822;Other+2BBox@elsewhere.example",
     "ORCPT may name an address other than the one of RCPT",
     "3461-5.1-a 3461-4.2-a", "4.2"),
    ("orcpt-no-such-syntax", RCPT, "ORCPT=rfc822;no+20address+20at+20all",
     "The address in ORCPT is not bound to the syntax of its type",
     "3461-5.1-a 3461-4.2-a", "4.2"),
    ("orcpt-other-type", RCPT, "ORCPT=x400;/G+3DAda/S+3DByron/O+3DX/C+3Dgb/",
     "An ORCPT of another registered type of address is taken",
     "3461-5.1-a 3461-4.2-a", "4.2"),
    ("orcpt-type-upper-case", RCPT, "ORCPT=RFC822;{rcpt}", "The type in ORCPT may be in upper case",
     "3461-5.1-a 3461-4.2-a", "4.2"),
    ("notify-and-orcpt", RCPT, "NOTIFY=FAILURE ORCPT=rfc822;{rcpt}",
     "NOTIFY and ORCPT may be given together", "3461-5.1-a", "5.1"),
    ("orcpt-and-notify", RCPT, "ORCPT=rfc822;{rcpt} NOTIFY=NEVER",
     "ORCPT may be given before NOTIFY", "3461-5.1-a", "5.1"),
    ("long-envid", MAIL, LONG_ENVID, "An ENVID of 100 characters, with its keyword, is taken",
     "3461-5.4-a 3461-4.4-a", "5.4"),
    ("long-orcpt", RCPT, LONG_ORCPT, "An ORCPT of 500 characters, with its keyword, is taken",
     "3461-5.4-a 3461-4.2-a", "5.4"),
    ("long-orcpt-and-notify", RCPT, f"{LONG_ORCPT} NOTIFY=SUCCESS,FAILURE,DELAY",
     "The longest ORCPT and the longest NOTIFY are taken in one RCPT", "3461-5.4-a", "5.4"),
)  # fmt: skip


def valid(slug: str, line: str, parameters: str, requirement: str, of: str, section: str) -> None:
    shown = parameters if len(parameters) < 60 else f"{parameters[:40]}... ({len(parameters)})"

    @here.case(
        f"{section}-{slug}", level="MUST", clauses=of, requirement=requirement, keywords="DSN",
        sent=f"{line} | RSET | {line} {shown}", needs="rcpt" if line == RCPT else "",
        allowed={"the same": PASS},
    )  # fmt: skip
    async def _(talk: Session) -> Seen:
        return await compared(talk, line, parameters)


for _row in VALID:
    valid(*_row)


# -- wrong ----------------------------------------------------------------------------------------

#: slug, parameters, requirement, clauses, section, what is allowed beside a refusal
AT_MAIL: Final[tuple[tuple[str, str, str, str, str, dict[str, Verdict]], ...]] = (
    ("ret-unknown-word", "RET=FOO", "A RET other than FULL and HDRS is refused by 501",
     "3461-4.3-a", "4.3", {"2yz": NON_STRICT}),
    ("ret-both", "RET=FULL,HDRS", "RET is one word, no list: 501",
     "3461-4.3-a", "4.3", {"2yz": NON_STRICT}),
    ("ret-longer-word", "RET=FULLER", "A word that only begins with FULL is refused by 501",
     "3461-4.3-a", "4.3", {"2yz": NON_STRICT}),
    ("ret-empty", "RET=", "RET with nothing behind its sign is refused by 501",
     "3461-4.3-a", "4.3", {"2yz": NON_STRICT}),
    ("ret-without-value", "RET", "RET without a value is refused by 501",
     "3461-4.3-a", "4.3", {"555": PASS, "2yz": NON_STRICT}),
    ("envid-wrong-hex", "ENVID=a+ZZ", "A + without hexadecimal digits in ENVID is refused by 501",
     "3461-4.4-a", "4.4", {}),
    ("envid-half-hex", "ENVID=a+4", "A + with one digit at the end of ENVID is refused by 501",
     "3461-4.4-a", "4.4", {}),
    ("envid-bare-plus", "ENVID=a+", "A + that ends ENVID is refused by 501",
     "3461-4.4-a", "4.4", {}),
    ("envid-bare-equals", "ENVID=a=b", "A bare = in ENVID is refused by 501",
     "3461-4.4-a", "4.4", {}),
    ("envid-lower-case-hex", "ENVID=a+2b", "Hexadecimal digits of ENVID are in upper case",
     "3461-4.4-a", "4.4", {"2yz": NON_STRICT}),
    ("envid-empty", "ENVID=", "ENVID with nothing behind its sign is refused by 501",
     "3461-4.4-a", "4.4", {"2yz": NON_STRICT}),
    ("envid-without-value", "ENVID", "ENVID without a value is refused by 501",
     "3461-4.4-a", "4.4", {"555": PASS, "2yz": NON_STRICT}),
    ("envid-too-long", "ENVID=" + "e" * 295,
     "What becomes of an ENVID of three times the length that is allowed",
     "3461-4.4-a", "4.4", {"2yz": INFO}),
    ("envid-encoded-nul", "ENVID=a+00b", "An ENVID that stands for a NUL is refused by 501",
     "3461-4.4-a", "4.4", {"2yz": NON_STRICT}),
    ("envid-encoded-line-end", "ENVID=a+0D+0Ab",
     "An ENVID that stands for an end of line is refused by 501",
     "3461-4.4-a", "4.4", {"2yz": NON_STRICT}),
    ("ret-twice", "RET=FULL RET=HDRS", "A second RET is refused by 501",
     "3461-4.5-b", "4.5", {"2yz": NON_STRICT}),
    ("ret-twice-the-same", "RET=FULL RET=FULL", "A second RET is refused, though it is the same",
     "3461-4.5-b", "4.5", {"2yz": NON_STRICT}),
    ("envid-twice", "ENVID=x1 ENVID=x2", "A second ENVID is refused by 501",
     "3461-4.5-b", "4.5", {"2yz": NON_STRICT}),
)  # fmt: skip


def wrong_at_mail(
    slug: str, parameters: str, requirement: str, of: str, section: str, more: dict[str, Verdict]
) -> None:
    shown = parameters if len(parameters) < 60 else f"{parameters[:20]}... ({len(parameters)})"

    @here.case(
        f"{section}-{slug}", level="SHOULD" if section == "4.5" else "MUST", clauses=of,
        requirement=requirement, keywords="DSN", sent=f"{MAIL} | RSET | {MAIL} {shown}",
        allowed={**WRONG_AT_MAIL, **more},
    )  # fmt: skip
    async def _(talk: Session) -> Reply:
        await talk.upto("mail")
        await talk.must("RSET")
        return await talk.say(talk.fill(f"{MAIL} {parameters}"))


for _mail in AT_MAIL:
    wrong_at_mail(*_mail)

#: slug, parameters, requirement, clause, section
AT_RCPT: Final = (
    ("notify-never-and-more", "NOTIFY=NEVER,FAILURE", "NEVER with another word is refused by 501",
     "3461-4.1-a", "4.1"),
    ("notify-more-and-never", "NOTIFY=SUCCESS,NEVER", "NEVER after another word is refused by 501",
     "3461-4.1-a", "4.1"),
    ("notify-unknown-word", "NOTIFY=SOMETIMES", "An unknown word in NOTIFY is refused by 501",
     "3461-4.1-a", "4.1"),
    ("notify-unknown-second-word", "NOTIFY=FAILURE,SOMETIMES",
     "An unknown word behind a known one in NOTIFY is refused by 501", "3461-4.1-a", "4.1"),
    ("notify-longer-word", "NOTIFY=FAILURES", "A word that begins with FAILURE is refused by 501",
     "3461-4.1-a", "4.1"),
    ("notify-other-separator", "NOTIFY=SUCCESS;FAILURE", "The words of NOTIFY have commas between",
     "3461-4.1-a", "4.1"),
    ("notify-empty", "NOTIFY=", "NOTIFY with nothing behind its sign is refused by 501",
     "3461-4.1-a", "4.1"),
    ("notify-without-value", "NOTIFY", "NOTIFY without a value is refused by 501",
     "3461-4.1-a", "4.1"),
    ("orcpt-without-type", "ORCPT={rcpt}", "An ORCPT without a type is refused by 501",
     "3461-4.2-a", "4.2"),
    ("orcpt-empty-type", "ORCPT=;{rcpt}", "An ORCPT with an empty type is refused by 501",
     "3461-4.2-a", "4.2"),
    ("orcpt-type-alone", "ORCPT=rfc822", "An ORCPT that is only a type is refused by 501",
     "3461-4.2-a", "4.2"),
    ("orcpt-wrong-hex", "ORCPT=rfc822;a+ZZ@x.example",
     "A + without hexadecimal digits in ORCPT is refused by 501", "3461-4.2-a", "4.2"),
    ("orcpt-half-hex", "ORCPT=rfc822;a@x.example+4",
     "A + with one digit at the end of ORCPT is refused by 501", "3461-4.2-a", "4.2"),
    ("orcpt-bare-equals", "ORCPT=rfc822;a=b@x.example", "A bare = in ORCPT is refused by 501",
     "3461-4.2-a", "4.2"),
    ("orcpt-lower-case-hex", "ORCPT=rfc822;a+2bb@x.example",
     "Hexadecimal digits of ORCPT are in upper case", "3461-4.2-a", "4.2"),
    ("orcpt-encoded-nul", "ORCPT=rfc822;a+00@x.example",
     "An ORCPT that stands for a NUL is refused by 501", "3461-4.2-a", "4.2"),
    ("orcpt-encoded-line-end", "ORCPT=rfc822;a+0D+0A@x.example",
     "An ORCPT that stands for an end of line is refused by 501", "3461-4.2-a", "4.2"),
    ("orcpt-encoded-8bit", "ORCPT=rfc822;a+FF@x.example",
     "An ORCPT that stands for an octet outside ASCII is refused by 501", "3461-4.2-a", "4.2"),
    ("orcpt-empty", "ORCPT=", "ORCPT with nothing behind its sign is refused by 501",
     "3461-4.2-a", "4.2"),
    ("orcpt-without-value", "ORCPT", "ORCPT without a value is refused by 501",
     "3461-4.2-a", "4.2"),
    ("notify-twice", "NOTIFY=FAILURE NOTIFY=DELAY", "A second NOTIFY is refused by 501",
     "3461-4.5-a", "4.5"),
    ("notify-twice-never", "NOTIFY=SUCCESS NOTIFY=NEVER",
     "A second NOTIFY that contradicts the first is refused by 501", "3461-4.5-a", "4.5"),
    ("orcpt-twice", "ORCPT=rfc822;a@x.example ORCPT=rfc822;b@x.example",
     "A second ORCPT is refused by 501", "3461-4.5-a", "4.5"),
)  # fmt: skip

for _slug, _parameters, _requirement, _clause, _section in AT_RCPT:
    here.probe(
        f"{_section}-{_slug}", level="SHOULD", clauses=_clause, requirement=_requirement,
        keywords="DSN", needs="rcpt", upto="mail", sent=[RCPT, f"{RCPT} {_parameters}"],
        # A keyword alone may be another parameter, which is not known (RFC 5321 4.1.1.11).
        allowed=WRONG_AT_RCPT if "=" in _parameters else {"555": PASS, **WRONG_AT_RCPT},
    )  # fmt: skip

#: What grammar leaves open: an empty element of a list (RFC 822 2.7), a word twice, empty xtext.
OPEN: Final = (
    ("notify-leading-comma", "NOTIFY=,FAILURE", "3461-4.1-a", "4.1",
     "What becomes of an empty first element of NOTIFY"),
    ("notify-trailing-comma", "NOTIFY=FAILURE,", "3461-4.1-a", "4.1",
     "What becomes of an empty last element of NOTIFY"),
    ("notify-same-word-twice", "NOTIFY=FAILURE,FAILURE", "3461-4.1-a", "4.1",
     "What becomes of a word that is twice in NOTIFY"),
    ("orcpt-empty-address", "ORCPT=rfc822;", "3461-4.2-a", "4.2",
     "What becomes of an ORCPT with a type and an empty address"),
    ("orcpt-unregistered-type", "ORCPT=nosuchtype;a@x.example", "3461-4.2-a", "4.2",
     "What becomes of an ORCPT whose type nobody has registered"),
    ("orcpt-too-long", "ORCPT=rfc822;" + "o" * 600, "3461-4.2-a", "4.2",
     "What becomes of an ORCPT that is longer than 500 characters"),
)  # fmt: skip

for _slug, _parameters, _clause, _section, _requirement in OPEN:
    here.probe(
        f"{_section}-{_slug}", level="MAY", clauses=_clause, requirement=_requirement,
        keywords="DSN", needs="rcpt", upto="mail", sent=[RCPT, f"{RCPT} {_parameters}"],
        allowed={"2yz": INFO, "5yz": INFO, "4yz": INFO},
    )  # fmt: skip

#: A parameter of the other command is one that this command does not have (RFC 5321 4.1.1.11).
MISPLACED: Final[tuple[tuple[str, str, Stage, str, str, str], ...]] = (
    ("notify-at-mail", "4.1", "ehlo", f"{MAIL} NOTIFY=NEVER", "NOTIFY is refused at MAIL",
     "3461-4.1-a"),
    ("orcpt-at-mail", "4.2", "ehlo", f"{MAIL} ORCPT=rfc822;a@x.example", "ORCPT is refused at MAIL",
     "3461-4.2-a"),
    ("ret-at-rcpt", "4.3", "mail", f"{RCPT} RET=FULL", "RET is refused at RCPT", "3461-4.3-a"),
    ("envid-at-rcpt", "4.4", "mail", f"{RCPT} ENVID=x1", "ENVID is refused at RCPT", "3461-4.4-a"),
)  # fmt: skip

for _slug, _section, _upto, _line, _requirement, _clause in MISPLACED:
    here.probe(
        f"{_section}-{_slug}", level="IMPLIED", clauses=_clause, requirement=_requirement,
        keywords="DSN", needs="rcpt", upto=_upto, sent=[_line],
        allowed={"555": PASS, "501": PASS, "504": PASS, "5yz": NON_STRICT, "4yz": NON_STRICT,
                 "2yz": NON_STRICT},
    )  # fmt: skip


# -- what a wrong parameter leaves behind ---------------------------------------------------------


@here.case(
    "5.1-goes-on-after-wrong-rcpt", level="IMPLIED", clauses="3461-5.1-a", keywords="DSN",
    needs="rcpt",
    requirement="After a RCPT with a wrong NOTIFY the same RCPT without it is taken",
    sent="MAIL | RCPT NOTIFY=SOMETIMES | RCPT",
    allowed={"2yz": PASS},
)  # fmt: skip
async def _(talk: Session) -> Reply:
    await talk.upto("mail")
    await talk.say(f"RCPT TO:<{talk.given.rcpt}> NOTIFY=SOMETIMES")
    return await talk.say(f"RCPT TO:<{talk.given.rcpt}>")


@here.case(
    "5.1-goes-on-after-wrong-mail", level="IMPLIED", clauses="3461-5.1-a", keywords="DSN",
    requirement="After a MAIL that was refused for its RET the same MAIL without it is taken",
    sent="MAIL RET=FOO | RSET | MAIL",
    allowed={"2yz": PASS},
)  # fmt: skip
async def _(talk: Session) -> Reply:
    await talk.upto("mail")
    await talk.must("RSET")
    await talk.say(f"MAIL FROM:<{talk.given.sender}> RET=FOO")
    await talk.must("RSET")
    return await talk.say(f"MAIL FROM:<{talk.given.sender}>")


@here.case(
    "5.1-notify-of-each", level="MUST", clauses="3461-5.1-a", keywords="DSN", needs="rcpt rcpt2",
    requirement="A recipient's NOTIFY is read apart from the one of the recipient before",
    sent="MAIL | RCPT {rcpt} NOTIFY=SUCCESS | RCPT {rcpt2} NOTIFY=NEVER; then RCPT {rcpt2} alone",
    allowed={"the same": PASS},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    second = f"RCPT TO:<{talk.given.rcpt2}> NOTIFY=NEVER"
    await talk.upto("mail")
    alone = await talk.must(second)
    await talk.must("RSET")
    await talk.must(f"MAIL FROM:<{talk.given.sender}>")
    await talk.must(f"RCPT TO:<{talk.given.rcpt}> NOTIFY=SUCCESS")
    behind = await talk.say(second)
    same = behind.kind == "reply" and behind.code == alone.code
    return ("the same" if same else "another reply"), f"{alone} alone, {behind} behind another"


@here.case(
    "5.4-long-command-line", level="MUST", clauses="3461-5.4-a", keywords="DSN",
    requirement="A command line of 1036 octets is not too long where DSN is offered",
    sent="NOOP with an argument, 1036 octets with CRLF",
    allowed={"250": PASS, "2yz": PASS, "5yz": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Reply:
    # Nothing valid at RCPT can be that long: a path has at most 256 octets.  A server may refuse
    # the argument of NOOP, so a refusal alone proves nothing.
    await talk.upto("ehlo")
    return await talk.say("NOOP " + "n" * (1036 - len("NOOP \r\n")))


@here.case(
    "5.4-long-envid-null-sender", level="MUST", clauses="3461-5.1-a 3461-5.4-a", keywords="DSN",
    requirement="DSN parameters are taken with the null reverse-path, too",
    sent="MAIL FROM:<> | RSET | MAIL FROM:<> ENVID=... (100) RET=HDRS",
    allowed={"the same": PASS},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    return await compared(talk, "MAIL FROM:<>", f"{LONG_ENVID} RET=HDRS")
