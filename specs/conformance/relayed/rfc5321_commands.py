"""RFC 5321 2 to 4.1: which commands a client sends, in which form and order, and how it leaves.

What was sent is read off a plain message on its way.  Which extensions a client uses is its own
choice; that it uses none which was not offered is not.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from specs.conformance.fates import BASIC, SHOULD_ARRIVE, all_without_reply
from specs.conformance.hop import Hop
from specs.conformance.hop_records import Mail, Visit
from specs.conformance.hop_script import CLOSE, Say, say
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import Session
from specs.conformance.way import RETRY, SOON, Way, way_for

here = Section("5321", role="client")

#: Parameters of MAIL and RCPT by the keyword that allows them.
PARAMETERS: Final = {
    "SIZE": {"SIZE"}, "8BITMIME": {"BODY"}, "DSN": {"RET", "ENVID", "NOTIFY", "ORCPT"},
    "SMTPUTF8": {"SMTPUTF8"},
}  # fmt: skip
#: Verbs by the keyword that allows them.
EXTENDED: Final = {"STARTTLS": "STARTTLS", "CHUNKING": "BDAT", "AUTH": "AUTH", "ETRN": "ETRN"}
_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\Z")


async def _relayed(way: Way, hop: Hop) -> Mail:
    await way.send()
    return await way.one(hop)


# -- 2.2.2: only what was offered ------------------------------------------------------------------

for slug, offered in (
    ("none", ()), ("size", ("SIZE 1000000",)), ("8bitmime", ("8BITMIME",)),
    ("pipelining", ("PIPELINING",)), ("dsn", ("DSN",)), ("unknown", ("XYZZY", "X-OTHER 1 2 3")),
):  # fmt: skip

    @here.case(
        f"2.2.2-only-offered-{slug}", level="MUST NOT", clauses="5321-2.2.2-a", needs="hops",
        requirement="A client uses no parameter and no command that EHLO's reply did not offer",
        sent=f"a message for a next hop that offers {', '.join(offered) or 'nothing'}",
        allowed={"none": PASS},
    )  # fmt: skip
    async def _(talk: Session, offered: tuple[str, ...] = offered) -> Observed:
        async with way_for(talk) as way:
            hop = await way.mx(features=offered)
            mail = await _relayed(way, hop)
            keywords = {each.split()[0] for each in offered}
            known = {word for each in keywords for word in PARAMETERS.get(each, ())}
            used = [each for each in mail.parameters if each not in known]
            verbs = BASIC | {EXTENDED[each] for each in keywords if each in EXTENDED}
            used += [each for each in hop.visits[0].verbs if each not in verbs]
            return ("used", ", ".join(used)) if used else "none"


@here.case(
    "2.2.2-after-helo", level="MUST NOT", clauses="5321-2.2.2-a 5321-4.3.1-a", needs="hops",
    requirement="After HELO a client uses no extension",
    sent="a message for a next hop that knows only HELO", allowed={"none": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(ehlo="502 not here", rcpt=say("250 ok", after_s=0.3),
            mail=say("250 ok", after_s=0.3))  # fmt: skip
        mail = await _relayed(way, hop)
        used = mail.parameters
        if early := all_without_reply(hop):
            used.append(f"sent without waiting: {early}")
        return ("used", ", ".join(used)) if used else "none"


# -- 2.3.5, 4.1.1.1: names -------------------------------------------------------------------------


@here.case(
    "2.3.5-qualified", level="MUST", clauses="5321-2.3.5-a 5321-2.3.5-c", needs="hops",
    requirement="Domains in EHLO, MAIL and RCPT are fully qualified, or address literals",
    sent="a message; EHLO, MAIL and RCPT are looked at", allowed={"qualified": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx()
        mail = await _relayed(way, hop)
        domains = [_argument(hop.visits[0])]
        domains += [each.path.rpartition("@")[2] for each in (mail.sender, *mail.rcpts)]
        bad = [each for each in domains if not each.startswith("[") and "." not in each]
        return ("not qualified", ", ".join(bad)) if bad else "qualified"


@here.case(
    "4.1.1.1-name", level="SHOULD", clauses="5321-4.1.1.1-d", needs="hops",
    requirement="The argument of EHLO is a host name, or an address literal",
    sent="a message; EHLO is looked at",
    allowed={"name": PASS, "literal": PASS, "neither": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx()
        await _relayed(way, hop)
        return _kind_of(_argument(hop.visits[0]))


def _argument(visit: Visit) -> str:
    hellos = [each for each in visit.commands if each.verb in ("EHLO", "HELO")]
    return hellos[0].line.partition(" ")[2] if hellos else ""


def _kind_of(argument: str) -> tuple[str, str]:
    if argument.startswith("[") and argument.endswith("]"):
        inside = argument[1:-1]
        try:
            ipaddress.ip_address(inside.removeprefix("IPv6:"))
        except ValueError:
            return "neither", argument
        return "literal", argument
    labels = argument.split(".")
    well = all(_LABEL.match(each) and len(each) < 64 for each in labels) and len(argument) < 256
    return ("name" if well else "neither"), argument


@here.case(
    "4.1.1.1-first", level="MUST", clauses="5321-4.1.1.1-c", needs="hops",
    requirement="A client's first command is EHLO or HELO",
    sent="a message; the first command is looked at", allowed={"EHLO": PASS, "HELO": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx()
        await _relayed(way, hop)
        return hop.visits[0].verbs[0], hop.visits[0].commands[0].line


@here.case(
    "3.2-ehlo", level="SHOULD", clauses="5321-3.2-a", needs="hops",
    requirement="A client begins with EHLO, not with HELO",
    sent="a message; the first command is looked at",
    allowed={"EHLO": PASS, "HELO": NON_STRICT, "neither": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx()
        await _relayed(way, hop)
        verb = hop.visits[0].verbs[0]
        return (verb if verb in ("EHLO", "HELO") else "neither"), verb


for code in ("500", "502", "501", "504", "550", "554"):

    @here.case(
        f"3.2-fallback-{code}", level="SHOULD", clauses="5321-3.2-a", needs="hops",
        requirement="A client whose EHLO is refused as unknown says HELO",
        sent=f"a message for a next hop that answers EHLO {code}, and HELO 250",
        allowed=SHOULD_ARRIVE if code in ("500", "502")
        else {"delivered": PASS, "put off": INFO, "kept waiting": INFO, "returned": INFO},
    )  # fmt: skip
    async def _(talk: Session, code: str = code) -> Observed:
        async with way_for(talk) as way:
            hop = await way.mx(ehlo=f"{code} what is that?")
            await way.send()
            return await way.fate(hop)

    @here.case(
        f"4.1.4-after-{code}", level="IMPLIED", clauses="5321-4.1.4-i", needs="hops",
        requirement="After a refused EHLO a client says HELO or leaves, and begins no mail",
        sent=f"a message for a next hop that answers EHLO {code}", allowed={"HELO or QUIT": PASS},
    )  # fmt: skip
    async def _(talk: Session, code: str = code) -> Observed:
        async with way_for(talk) as way:
            hop = await way.mx(ehlo=f"{code} what is that?")
            await way.send()
            await way.fate(hop, settle=SOON)
            for visit in hop.visits:
                verbs = visit.verbs
                if "MAIL" in verbs and "HELO" not in verbs[: verbs.index("MAIL")]:
                    return "MAIL", ", ".join(verbs)
            return "HELO or QUIT"


@here.case(
    "3.2-ehlo-421", level="SHOULD", clauses="5321-3.2-a 5321-4.2.1-b", needs="hops",
    requirement="421 to EHLO is a temporary failure: the message is kept",
    sent="a message for a next hop that answers the first EHLO 421, then 250",
    allowed={"delivered": PASS, "put off": INFO, "kept waiting": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(ehlo=("421 not now", f"250 mx1.{way.domain}"), helo="421 not now")
        await way.send()
        return await way.fate(hop, settle=0.4)


# -- 3.3, 4.1.1: the form of commands --------------------------------------------------------------


@here.case(
    "3.3-no-blank", level="IMPLIED", clauses="5321-3.3-e", needs="hops",
    requirement="There is no blank between the colon of MAIL FROM or RCPT TO and the bracket",
    sent="a message; MAIL and RCPT are looked at", allowed={"none": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx()
        await _relayed(way, hop)
        begins = ("MAIL FROM:<", "RCPT TO:<")
        bad = [
            each.line for each in hop.visits[0].commands
            if each.verb in ("MAIL", "RCPT") and not each.line.upper().startswith(begins)
        ]  # fmt: skip
        return ("blank", bad[0]) if bad else "none"


@here.case(
    "4.1.1-no-trailing-space", level="IMPLIED", clauses="5321-4.1.1-b", needs="hops",
    requirement="No command ends in a blank",
    sent="a message; all commands are looked at", allowed={"none": PASS, "blank": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx()
        await _relayed(way, hop)
        await way.farewell(hop)
        bad = [each.line for each in hop.commands if each.line != each.line.rstrip(" \t")]
        return ("blank", repr(bad[0])) if bad else "none"


@here.case(
    "2.3.8-command-lines", level="MUST", clauses="5321-2.3.8-c", needs="hops",
    requirement="Every command ends in CRLF",
    sent="a message; all commands are looked at", allowed={"CRLF": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx()
        await _relayed(way, hop)
        await way.farewell(hop)
        bad = [each for each in hop.commands if not each.octets.endswith(b"\r\n")]
        bad += [each for each in hop.commands if b"\r" in each.octets[:-2]]
        return ("something else", repr(bad[0].octets)) if bad else "CRLF"


for code in ("250", "503", "554", "451", "550", "220"):

    @here.case(
        f"3.3-content-after-{code}", level="MUST NOT", clauses="5321-3.3-j", needs="hops",
        requirement="A client sends content only after 354",
        sent=f"a message for a next hop that answers DATA {code}", allowed={"held back": PASS},
        security="content is read as commands",
    )  # fmt: skip
    async def _(talk: Session, code: str = code) -> Observed:
        async with way_for(talk) as way:
            hop = await way.mx(data=f"{code} no content yet", features=("SIZE 1000000",))
            await way.send(way.message("XCONTENT of a message\r\n"))
            await way.fate(hop, settle=SOON)
            # A dot alone ends what was not begun (RFC 2920 3.1 has clients do so): no content.
            odd = [e.line for e in hop.commands if e.verb not in BASIC and e.line not in (".", "")]
            return ("sent", odd[0][:80]) if odd else "held back"


# -- 4.1.1.10: QUIT --------------------------------------------------------------------------------

#: What the hop answers, and whether the standard has a say in how the client leaves then.
FAREWELLS: Final[tuple[tuple[str, dict[str, Say], bool], ...]] = (
    ("delivered", {}, True),
    ("rcpt-550", {"rcpt": "550 no such user"}, True),
    ("rcpt-451", {"rcpt": "451 not now"}, True),
    ("mail-450", {"mail": "450 not now"}, True),
    ("data-451", {"data": "451 not now"}, True),
    ("end-554", {"end": "554 no"}, True),
    ("greeting-554", {"greeting": "554 no mail here"}, False),
)
for slug, table, judged in FAREWELLS:

    @here.case(
        f"4.1.1.10-quit-{slug}", level="MUST NOT", clauses="5321-4.1.1.10-f 5321-4.1.1.10-b",
        needs="hops", requirement="A client closes only after it has said QUIT",
        sent=f"a message ({slug}); the end of the connection is looked at",
        allowed={"QUIT": PASS, "did not wait for 221": NON_STRICT, "kept open": INFO,
                 **({} if judged else {"closed": NON_STRICT})},
    )  # fmt: skip
    async def _(talk: Session, table: dict[str, Say] = table) -> Observed:
        async with way_for(talk) as way:
            hop = await way.mx(table, quit=say("221 bye", after_s=1.0))
            await way.send()
            visit = await way.visited(hop)
            if not await way.farewell(hop, RETRY):
                return "kept open"
            if visit.ended == "quit":
                return "did not wait for 221" if visit.hasty else "QUIT"
            return "closed", visit.ended


# -- 4.3.1, 3.8: order -----------------------------------------------------------------------------


@here.case(
    "4.3.1-one-by-one", level="MUST", clauses="5321-4.3.1-a", needs="hops",
    requirement="Without PIPELINING a client waits for each reply before its next command",
    sent="a message for a next hop that takes its time, and does not offer PIPELINING",
    allowed={"waited": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        slow: dict[str, Say] = {
            key: say(text, after_s=0.4)
            for key, text in (("mail", "250 ok"), ("rcpt", "250 ok"), ("data", "354 go on"),
                              ("end", "250 ok"))
        }  # fmt: skip
        hop = await way.mx(table=slow, features=("SIZE 1000000",))
        await _relayed(way, hop)
        await way.farewell(hop)
        too_early = all_without_reply(hop)
        if too_early.upper().startswith("QUIT"):
            return "waited", "but for QUIT"
        return ("did not wait", too_early) if too_early else "waited"


@here.case(
    "4.3.1-quit-waits", level="MUST", clauses="5321-4.3.1-a", needs="hops",
    requirement="Without PIPELINING a client does not say QUIT before the message is answered",
    sent="a message for a next hop that answers its end late, and does not offer PIPELINING",
    allowed={"waited": PASS, "did not wait": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(features=("SIZE 1000000",), end=say("250 ok", after_s=1.0))
        await _relayed(way, hop)
        await way.farewell(hop)
        too_early = all_without_reply(hop)
        return ("did not wait", too_early) if too_early else "waited"


@here.case(
    "4.3.1-greeting", level="SHOULD", clauses="5321-4.3.1-b", needs="hops",
    requirement="A client waits for the greeting before it sends anything",
    sent="a message for a next hop that greets after 2 seconds",
    allowed={"waited": PASS, "did not wait": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(greeting=say("220 at last", after_s=2.0))
        await _relayed(way, hop)
        too_early = hop.visits[0].commands[0]
        return ("did not wait", too_early.line) if too_early.early else "waited"


@here.case(
    "4.1.1.1-ehlo-waits", level="MUST", clauses="5321-4.3.1-a 2920-3.1-a", needs="hops",
    requirement="A client sends nothing before EHLO is answered",
    sent="a message for a next hop that answers EHLO after a second",
    allowed={"waited": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(
            ehlo=say(f"250-mx1.{way.domain}\r\n250 PIPELINING", after_s=1.0)
        )  # fmt: skip
        await _relayed(way, hop)
        commands = hop.visits[0].commands
        return ("did not wait", commands[1].line) if commands[1].early else "waited"


LOSSES: Final[tuple[tuple[str, dict[str, Say]], ...]] = (
    ("greeting", {"greeting": (CLOSE, "220 hello")}), ("ehlo", {"ehlo": (CLOSE, "250 hello")}),
    ("mail", {"mail": (CLOSE, "250 ok")}), ("rcpt", {"rcpt": (CLOSE, "250 ok")}),
    ("data", {"data": (CLOSE, "354 go on")}), ("end", {"end": (CLOSE, "250 ok")}),
    ("end-half", {"end": (say(b"250 o", then="close"), "250 ok")}),
)  # fmt: skip
for slug, table in LOSSES:

    @here.case(
        f"3.8-lost-at-{slug}", level="SHOULD", clauses="5321-3.8-c", needs="hops",
        requirement="A connection that is lost in a transaction is a temporary failure: the message"
        " is kept, and tried again",
        sent=f"a message for a next hop that closes the connection ({slug}), the first time",
        allowed={"delivered": PASS, "put off": INFO, "kept waiting": INFO, "returned": NON_STRICT},
        security="mail is lost or refused when a connection breaks",
    )  # fmt: skip
    async def _(talk: Session, table: dict[str, Say] = table) -> Observed:
        async with way_for(talk) as way:
            hop = await way.mx({"helo": CLOSE, **table} if "ehlo" in table else table)
            await way.send()
            return await way.fate(hop, settle=0.4)
