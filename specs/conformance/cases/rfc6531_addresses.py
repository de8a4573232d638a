"""RFC 6531, SMTPUTF8: sections 3.1 (the keyword) and 3.2 to 3.5 (addresses, parameter, refusals).

Tricky: a server may have no mailbox and no route for an address in UTF-8, and refuse it for that.
So what is judged is mostly that a well-formed one is not called a syntax error.  Section 3.5 names
553 and 550, with x.6.7, for an address that needs the parameter and comes without it; no text
forbids a server to bear it.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.model import INFO, NON_STRICT, PASS, Observed, Reply, Seen
from specs.conformance.section import Section
from specs.conformance.session import Refused, Session, Stage

here = Section("6531")

#: Well-formed addresses that a server has its own reasons to refuse.
POLICY: Final = {"4yz": INFO, "550": INFO, "551": INFO, "553": INFO, "554": INFO, "556": INFO}


@here.case(
    "3.1-implies-8bitmime",
    level="MUST",
    clauses="6531-3.1-a",
    requirement="A server that lists SMTPUTF8 lists 8BITMIME, too",
    sent="EHLO",
    allowed={"both": PASS},
    keywords="SMTPUTF8",
)
async def _(talk: Session) -> Seen:
    await talk.upto("ehlo")
    return ("both" if "8BITMIME" in talk.features else "SMTPUTF8 alone"), " ".join(talk.features)


here.bare_keyword("3.1-no-parameter", "SMTPUTF8", level="MUST NOT", clauses="6531-3.1-b")


# -- 3.2, 3.3: addresses --------------------------------------------------------------------------

LOCAL_PARTS: Final = (
    ("latin", "müller"), ("han", "用户"), ("cyrillic", "почта"), ("arabic", "بريد"),
    ("devanagari", "मेल"), ("emoji", "😀"), ("decomposed", "mu\u0308ller"), ("mixed", "a.é+b-ß"),
    ("quoted", '"mü ller"'), ("four-octets-last", "\U0010fffd"), ("sixty-four-octets", "é" * 32),
)  # fmt: skip
DOMAINS: Final = (
    ("u-label", "bücher.example"), ("a-label", "xn--bcher-kva.example"), ("han", "例子.example"),
    ("mixed-labels", "bücher.xn--bcher-kva.example"),
)  # fmt: skip


def at_sender(local_part: str) -> str:
    return f"{local_part}@client.conform.example"


for slug, local in LOCAL_PARTS:
    here.probe(
        f"3.2-mail-{slug}",
        level="MUST",
        clauses="6531-3.2-a",
        requirement="A sender's local-part in UTF-8 is well-formed where SMTPUTF8 is given "
        f"({slug})",
        sent=[f"MAIL FROM:<{at_sender(local)}> SMTPUTF8"],
        allowed={"250": PASS, **POLICY},
        keywords="SMTPUTF8",
    )
    here.probe(
        f"3.2-rcpt-{slug}",
        level="MUST",
        clauses="6531-3.2-a",
        requirement="A recipient's local-part in UTF-8 is well-formed where SMTPUTF8 is given "
        f"({slug})",
        sent=["MAIL FROM:<{sender}> SMTPUTF8", f"RCPT TO:<{local}@{{domain}}>"],
        allowed={"250": PASS, "251": PASS, "550": PASS, **POLICY},
        keywords="SMTPUTF8",
        needs="rcpt",
    )
for slug, domain in DOMAINS:
    here.probe(
        f"3.2-mail-domain-{slug}",
        level="MUST",
        clauses="6531-3.2-a",
        requirement=f"A sender's domain may be in UTF-8 where SMTPUTF8 is given ({slug})",
        sent=[f"MAIL FROM:<ada@{domain}> SMTPUTF8"],
        allowed={"250": PASS, **POLICY},
        keywords="SMTPUTF8",
    )
    here.probe(
        f"3.2-rcpt-domain-{slug}",
        level="MUST",
        clauses="6531-3.2-a",
        requirement=f"A recipient's domain may be in UTF-8 where SMTPUTF8 is given ({slug})",
        sent=["MAIL FROM:<{sender}> SMTPUTF8", f"RCPT TO:<ada@{domain}>"],
        allowed={"250": PASS, "251": PASS, "550": PASS, **POLICY},
        keywords="SMTPUTF8",
    )


@here.case(
    "3.2-domain-forms-alike",
    level="IMPLIED",
    clauses="6531-3.2-c",
    requirement="A domain is the same in U-labels and in A-labels: both get the same answer",
    sent="RCPT TO:<ada@bücher.example> | RCPT TO:<ada@xn--bcher-kva.example>",
    allowed={"the same": PASS, "another code": NON_STRICT},
    keywords="SMTPUTF8",
)
async def _(talk: Session) -> Observed:
    await talk.upto("ehlo")
    await talk.must(f"MAIL FROM:<{talk.given.sender}> SMTPUTF8")
    first = await talk.say("RCPT TO:<ada@bücher.example>")
    second = await talk.say("RCPT TO:<ada@xn--bcher-kva.example>")
    for each in (first, second):
        if each.kind != "reply" or each.code == "421":
            return each
    saw = f"{first} | {second}"
    if first.code[0] != second.code[0]:
        taken = first.positive or second.positive
        return ("taken in one form only" if taken else "another code"), saw
    return ("the same" if first.code == second.code else "another code"), saw


ILL_FORMED: Final = (
    ("latin-1", b"m\xfcller"), ("lone-octet", b"a\x80b"), ("cut-short", b"a\xc3"),
    ("overlong", b"a\xc0\xafb"), ("overlong-three", b"a\xe0\x80\xafb"),
    ("surrogate", b"a\xed\xa0\x80b"), ("beyond-unicode", b"a\xf4\x90\x80\x80b"),
    ("ff", b"a\xff\xfeb"),
)  # fmt: skip
for slug, raw in ILL_FORMED:
    for where in ("mail", "rcpt"):

        async def ill(talk: Session, raw: bytes = raw, where: str = where) -> Observed:
            await talk.upto("ehlo")
            if where == "mail":
                return await talk.say(b"MAIL FROM:<" + raw + b"@client.conform.example> SMTPUTF8")
            await talk.must(f"MAIL FROM:<{talk.given.sender}> SMTPUTF8")
            return await talk.say(b"RCPT TO:<" + raw + b"@" + talk.given.domain.encode() + b">")

        here.case(
            f"3.3-{where}-{slug}",
            # SMTPUTF8 lifts the rule of RFC 5321 for UTF-8 only: of others 2.4 says that they
            # should be refused, 4.1.2 that they must.
            level="SHOULD",
            clauses="6531-3.3-a 5321-4.1.2-k",
            requirement="An address whose octets are no well-formed UTF-8 is refused "
            f"({where.upper()}, {raw!r})",
            sent=f"{where.upper()} with the local-part {raw!r}, and SMTPUTF8",
            allowed={"5yz": PASS, "4yz": NON_STRICT, "2yz": NON_STRICT},
            keywords="SMTPUTF8",
            needs="rcpt" if where == "rcpt" else "",
            security="octets that programs read in different ways may name different mailboxes",
        )(ill)

# -- 3.4: the parameter ---------------------------------------------------------------------------

for slug, line in (
    ("bare", "MAIL FROM:<{sender}> SMTPUTF8"),
    ("lower-case", "MAIL FROM:<{sender}> smtputf8"),
    ("before-body", "MAIL FROM:<{sender}> SMTPUTF8 BODY=8BITMIME"),
    ("after-body", "MAIL FROM:<{sender}> BODY=8BITMIME SMTPUTF8"),
):
    here.probe(
        f"3.4-{slug}",
        level="MUST",
        clauses="6531-3.4-a",
        requirement=f"SMTPUTF8 is taken on MAIL, in any case, beside other parameters ({line})",
        sent=[line],
        allowed={"250": PASS, "4yz": INFO},
        keywords="SMTPUTF8",
    )
here.probe(
    "3.4-null-sender",
    level="MUST",
    clauses="6531-3.4-a",
    requirement="SMTPUTF8 goes with the empty reverse-path, too",
    sent=["MAIL FROM:<> SMTPUTF8"],
    allowed={"250": PASS, "4yz": INFO, "550": INFO, "554": INFO},
    keywords="SMTPUTF8",
)
for slug, parameter in (
    ("value", "SMTPUTF8=1"), ("value-yes", "SMTPUTF8=YES"), ("empty-value", "SMTPUTF8="),
):  # fmt: skip
    here.probe(
        f"3.4-{slug}",
        level="MUST",
        clauses="6531-3.4-a",
        requirement=f"SMTPUTF8 with a value is refused ({parameter})",
        sent=[f"MAIL FROM:<{{sender}}> {parameter}"],
        allowed={"501": PASS, "504": PASS, "555": PASS, "5yz": NON_STRICT}
        | ({"250": NON_STRICT} if slug == "empty-value" else {}),
        keywords="SMTPUTF8",
    )
here.probe(
    "3.4-twice",
    level="IMPLIED",
    clauses="6531-3.4-a",
    requirement="SMTPUTF8 given twice is refused, or counts as once",
    sent=["MAIL FROM:<{sender}> SMTPUTF8 SMTPUTF8"],
    allowed={"501": PASS, "555": PASS, "5yz": NON_STRICT, "250": INFO},
    keywords="SMTPUTF8",
)

# -- 3.5: without the parameter -------------------------------------------------------------------


def why(reply: Reply) -> Seen:
    """Of a refusal: whether its enhanced code says what is missing.  Raises Refused if there is no
    reply.
    """
    if reply.kind != "reply":
        raise Refused("an address in UTF-8", reply)
    if reply.code == "421":
        return "421", str(reply)
    if reply.positive:
        return "accepted", str(reply)
    code = reply.enhanced
    if not code:
        return "no code", str(reply)
    if code[0] != reply.code[0]:
        return "contradicts the reply", str(reply)
    return ("x.6.7" if code.endswith(".6.7") else "another code"), str(reply)


BARE: Final[tuple[tuple[str, Stage, str, str], ...]] = (
    ("mail-local-part", "ehlo", "MAIL FROM:<müller@client.conform.example>", ""),
    ("mail-domain", "ehlo", "MAIL FROM:<ada@bücher.example>", ""),
    ("rcpt-local-part", "mail", "RCPT TO:<müller@{domain}>", "rcpt"),
    ("rcpt-domain", "mail", "RCPT TO:<ada@bücher.example>", ""),
)
for slug, stage, line, needs in BARE:

    async def bare(talk: Session, stage: Stage = stage, line: str = line) -> Reply:
        await talk.upto(stage)
        return await talk.say(talk.fill(line))

    async def bare_why(talk: Session, stage: Stage = stage, line: str = line) -> Seen:
        await talk.upto(stage)
        return why(await talk.say(talk.fill(line)))

    here.case(
        f"3.5-{slug}",
        level="IMPLIED",
        clauses="6531-3.5-a",
        requirement=f"An address in UTF-8 without SMTPUTF8 is refused with 553 or 550 ({line})",
        sent=f"({stage}) | {line}, without SMTPUTF8",
        allowed={"553": PASS, "550": PASS, "5yz": NON_STRICT, "4yz": INFO, "250": NON_STRICT},
        keywords="SMTPUTF8",
        needs=needs,
    )(bare)
    here.case(
        f"3.5-code-{slug}",
        level="IMPLIED",
        clauses="6531-3.5-c",
        requirement="The refusal of an address in UTF-8 without SMTPUTF8 has the status code "
        f"x.6.7 ({line})",
        sent=f"({stage}) | {line}, without SMTPUTF8",
        allowed={
            "x.6.7": PASS, "another code": NON_STRICT, "no code": NON_STRICT, "accepted": INFO,
        },
        keywords="SMTPUTF8 ENHANCEDSTATUSCODES",
        needs=needs,
    )(bare_why)  # fmt: skip

# -- 3.2: a message, and DSN ----------------------------------------------------------------------


@here.case(
    "3.2-message",
    level="MUST",
    clauses="6531-3.2-a 6531-3.4-a",
    requirement="A message with UTF-8 in header and body is taken where SMTPUTF8 is given",
    sent="MAIL with SMTPUTF8 BODY=8BITMIME | a message with UTF-8 in both",
    allowed={"250": PASS, "4yz": INFO, "550": INFO, "554": INFO},
    keywords="SMTPUTF8",
    needs="rcpt",
)
async def _(talk: Session) -> Observed:
    fields = (
        "X-Name: Jürgen Müller, 用户\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
    )
    octets = talk.message("Grüße\r\n", headers=fields)
    return await talk.transact(octets, mail="SMTPUTF8 BODY=8BITMIME")


@here.case(
    "3.2-dsn-listed",
    level="MUST",
    clauses="6531-3.2-d",
    requirement="A server that lists both SMTPUTF8 and DSN knows recipients of the type utf-8",
    sent="MAIL with SMTPUTF8 | RCPT TO:<{rcpt}> ORCPT=utf-8;m\\x{FC}ller@{domain}",
    allowed={"250": PASS, "251": PASS, "4yz": INFO, "550": INFO, "553": INFO, "554": INFO},
    keywords="SMTPUTF8 DSN",
    needs="rcpt",
)
async def _(talk: Session) -> Observed:
    await talk.upto("ehlo")
    await talk.must(f"MAIL FROM:<{talk.given.sender}> SMTPUTF8")
    original = talk.fill("ORCPT=utf-8;m\\x{FC}ller@{domain}")
    return await talk.say(f"RCPT TO:<{talk.given.rcpt}> {original}")
