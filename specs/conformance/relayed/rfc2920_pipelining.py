"""RFC 2920: commands in groups, and the replies to them.

Whether a client pipelines is its own choice: what it does wrong is only seen of those that do.  A
next hop of ours holds replies back until the group is there, and sends them in one piece, or in
many.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from specs.conformance.fates import ARRIVES, COMES_BACK
from specs.conformance.hop import Hop
from specs.conformance.hop_records import Visit
from specs.conformance.hop_script import Say, say
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import Session
from specs.conformance.way import SOON, Way, way_for

here = Section("2920", role="client")

#: These end a group (section 3.1): nothing follows before they are answered.
LAST: Final = ("EHLO", "DATA", "VRFY", "EXPN", "TURN", "QUIT", "NOOP")
LOCALS: Final = ("ann", "bob", "eve", "joe")


@here.case(
    "3.1-used", level="MAY", clauses="2920-3.1-a", needs="hops",
    requirement="Whether a client pipelines is recorded",
    sent="a message for three; the next hop offers PIPELINING, and answers late",
    allowed={"pipelines": PASS, "does not": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(mail=say("250 ok", after_s=0.4))
        await way.send(rcpts=[f"{each}@{way.domain}" for each in LOCALS])
        await way.one(hop)
        found = [each for each in hop.visits[0].commands if each.early]
        return ("pipelines", found[0].line) if found else "does not"


@here.case(
    "3.1-last", level="MUST", clauses="2920-3.1-a", needs="hops",
    requirement="EHLO, DATA and QUIT end a group of commands: nothing is sent behind them before"
    " they are answered",
    sent="a message; the next hop offers PIPELINING, and answers late", allowed={"last": PASS},
    security="content or commands are read where they are not meant",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        ehlo = say(f"250-mx1.{way.domain}\r\n250 PIPELINING", after_s=0.5)
        hop = await way.mx(ehlo=ehlo, data=say("354 go on", after_s=0.7))
        await way.send()
        await way.one(hop)
        await way.farewell(hop)
        for before, after in pairwise(hop.visits[0].commands):
            if before.verb in LAST and before.verb != "DATA" and after.early:
                return f"{after.verb} behind {before.verb}"
        return "last"


@here.case(
    "3.1-data-waits", level="MUST NOT", clauses="2920-3.1-a 5321-3.3-j", needs="hops",
    requirement="Content is not sent behind DATA before 354",
    sent="a message; the next hop offers PIPELINING, and answers DATA late, with 451",
    allowed={"held back": PASS}, security="content is read as commands",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(data=say("451 not now", after_s=0.7))
        await way.send(way.message("XCONTENT of a message\r\n"))
        await way.fate(hop, settle=SOON)
        odd = [each.line for each in hop.commands if each.key == "other" and each.verb != "BDAT"]
        return ("sent", odd[0][:80]) if odd else "held back"


#: How the replies of a group come.
PIECES: Final[tuple[tuple[str, dict[str, Say]], ...]] = (
    ("one-segment", {"mail": say("250 ok", held=True), "rcpt": say("250 ok", held=True)}),
    ("octets", {"mail": say("250 ok", drip=True), "rcpt": say("250 ok", drip=True),
                "data": say("354 go on", drip=True)}),
    ("lines", {"mail": "250-ok\r\n250-ok\r\n250 ok", "rcpt": "250-one\r\n250 two",
               "data": "354-go\r\n354 on", "end": "250-ok\r\n250 ok"}),
    ("lines-one-segment", {"mail": say("250-ok\r\n250 ok", held=True),
                           "rcpt": say("250-550 no\r\n250 ok", held=True)}),
    ("late", {"rcpt": say("250 ok", after_s=0.4), "data": say("354 go on", after_s=0.4)}),
)  # fmt: skip
for slug, table in PIECES:

    @here.case(
        f"3.1-replies-{slug}", level="MUST", clauses="2920-3.1-c 2920-3.1-g 2920-3.1-b",
        needs="hops", requirement="Replies to a group are told apart, however they are cut",
        sent=f"a message for four; the replies come in pieces ({slug})", allowed=ARRIVES,
    )  # fmt: skip
    async def _(talk: Session, table: dict[str, Say] = table) -> Observed:
        async with way_for(talk) as way:
            hop = await way.mx(table)
            await way.send(rcpts=[f"{each}@{way.domain}" for each in LOCALS])
            return await _all_arrive(way, hop, 4)


async def _all_arrive(way: Way, hop: Hop, count: int) -> Observed:
    """Of one message for so many, perhaps in several copies.  Raises Refused."""
    label = await way.arrives(hop)
    if not await way.until(lambda: _count(hop) >= count or bool(way.reports)):
        await way.compare()
    return label if _count(hop) == count else (f"{_count(hop)} of {count} recipients", label)


def _count(hop: Hop) -> int:
    return sum(len(each.paths) for each in hop.taken)


def _each(line: str) -> str:
    code = {"ann": "550", "bob": "250", "eve": "451", "joe": "250"}
    return next((f"{code[who]} {who}" for who in LOCALS if f"{who}@" in line), "250 ok")


@here.case(
    "3.1-each-status", level="MUST", clauses="2920-3.1-b", needs="hops",
    requirement="Each reply of a group counts for its own command",
    sent="a message for four, answered 550, 250, 451 and 250 in one segment",
    allowed={"right": PASS},
    security="mail counts as delivered that was refused",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:

        def rcpt(visit: Visit, line: str) -> Say:
            return say(_each(line), held=visit.number == 1)

        hop = await way.mx(rcpt=rcpt)
        await way.send(rcpts=[f"{each}@{way.domain}" for each in LOCALS])
        if not await way.until(lambda: _count(hop) >= 2 and bool(way.reports)):
            await way.settle()
        taken = sorted({p.partition("@")[0] for mail in hop.taken for p in mail.paths})
        failed = sorted({who for each in way.reports for who in each.failed()})
        shown = f"taken: {', '.join(taken)}; reported: {', '.join(failed)}"
        if not await way.reported():
            return "nobody reported", shown
        if failed and failed != ["ann"]:
            return "others reported", shown
        return ("right" if taken == ["bob", "joe"] else "others delivered"), shown


@here.case(
    "3.1-none-taken", level="MUST", clauses="2920-3.1-b", needs="hops",
    requirement="If no recipient was taken and DATA is answered 354 nevertheless, no content is"
    " sent, and the message counts as refused",
    sent="a message whose RCPT is answered 550; DATA behind it is answered 354, and the end 250",
    allowed={"no content": PASS, "only the end": PASS, "content": NON_STRICT},
    security="mail counts as delivered that was refused",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(
            mail=say("250 ok", held=True), rcpt=say("550 no such user", held=True),
            data="354 go on",
        )  # fmt: skip
        await way.send()
        await way.visited(hop)
        if not await way.reported():
            return "believed", "no report came"
        contents = [mail.content for mail in hop.mails]
        if any(contents):
            return "content", f"{len(contents[0])} octets"
        return "only the end" if contents else "no content"


@here.case(
    "3.1-large-group", level="MUST", clauses="2920-3.1-d", needs="hops",
    requirement="A large group of commands does not block both ends",
    sent="a message for 90; the next hop has small windows, and long replies", allowed=ARRIVES,
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(rcpt=f"250 {'x' * 500}", room=2048)
        await way.send(rcpts=[f"user{number}-{'y' * 40}@{way.domain}" for number in range(90)])
        return await _all_arrive(way, hop, 90)


@here.case(
    "3.1-mail-refused", level="MUST", clauses="2920-3.1-b", needs="hops",
    requirement="If MAIL is refused in a group, later replies of the group change nothing",
    sent="a message whose MAIL is answered 550, and what follows in its group 250 and 354",
    allowed=COMES_BACK,
    security="mail counts as delivered that was refused",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(mail=say("550 no", held=True), rcpt=say("503 MAIL first", held=True),
                           data="503 MAIL first")  # fmt: skip
        await way.send()
        label = await way.fate(hop)
        return label if label != "delivered" else "believed"


@here.case(
    "3.1-after-end", level="MAY", clauses="2920-3.1-a", needs="hops",
    requirement="Whether a client sends commands behind the end of content is recorded",
    sent="a message; the next hop offers PIPELINING, and answers the end late",
    allowed={"waits": PASS, "sends": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(end=say("250 ok", after_s=0.7))
        await way.send()
        mail = await way.one(hop)
        await way.farewell(hop)
        found = [each for each in hop.visits[0].commands if each.early and each.at_s >= mail.at_s]
        return ("sends", found[0].line) if found else "waits"
