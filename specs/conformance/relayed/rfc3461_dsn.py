"""RFC 3461 5.2: what becomes of DSN's parameters on their way.

All cases need a server that offers DSN itself: else it is never told of them.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.hop_records import Mail
from specs.conformance.hop_script import FEATURES
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.notifications import Notification
from specs.conformance.section import Section
from specs.conformance.session import Session
from specs.conformance.way import Way, way_for

here = Section("3461", role="relay")

OFFERED: Final = (*FEATURES, "DSN")


async def _passed_on(
    way: Way, *, mail: str = "", rcpt: str = "", features: tuple[str, ...] = OFFERED
) -> Mail:
    hop = await way.mx(features=features)
    await way.send(mail=mail, rcpt=rcpt)
    return await way.one(hop)


def _same(keyword: str, found: str, value: str) -> bool:
    if keyword == "NOTIFY":
        return {*found.upper().split(",")} == {*value.upper().split(",")}
    if keyword == "ORCPT":  # the type of an address has no case
        return found[:7].lower() + found[7:] == value
    return found == value if keyword == "ENVID" else found.upper() == value


for slug, mail, rcpt, keyword, value in (
    ("envid", "ENVID=QQ314+2B159", "", "ENVID", "QQ314+2B159"),
    ("ret-hdrs", "RET=HDRS", "", "RET", "HDRS"),
    ("ret-full", "RET=FULL", "", "RET", "FULL"),
    ("notify-never", "", "NOTIFY=NEVER", "NOTIFY", "NEVER"),
    ("notify-success", "", "NOTIFY=SUCCESS", "NOTIFY", "SUCCESS"),
    ("notify-two", "", "NOTIFY=FAILURE,DELAY", "NOTIFY", "FAILURE,DELAY"),
    ("orcpt", "", "ORCPT=rfc822;Bob+2Bx@elsewhere.example", "ORCPT",
     "rfc822;Bob+2Bx@elsewhere.example"),
):  # fmt: skip
    clause = {"ENVID": "3461-5.2.1-b", "RET": "3461-5.2.1-b", "NOTIFY": "3461-5.2.1-c",
              "ORCPT": "3461-5.2.1-a"}[keyword]  # fmt: skip

    @here.case(
        f"5.2.1-{slug}", level="MUST", clauses=clause, needs="hops", keywords="DSN",
        requirement=f"{keyword} is passed on to a host that offers DSN",
        sent=f"a message with {mail or rcpt}", allowed={"passed on": PASS},
    )  # fmt: skip
    async def _(
        talk: Session, mail: str = mail, rcpt: str = rcpt, keyword: str = keyword,
        value: str = value,
    ) -> Observed:  # fmt: skip
        async with way_for(talk) as way:
            came = await _passed_on(way, mail=mail, rcpt=rcpt)
            path = came.sender if mail else came.rcpts[0]
            found = path.keywords.get(keyword)
            if found is None:
                return "dropped"
            return ("passed on" if _same(keyword, found, value) else "changed"), found


@here.case(
    "5.2.1-none-invented", level="MUST NOT", clauses="3461-5.2.1-d", needs="hops", keywords="DSN",
    requirement="ENVID, RET and NOTIFY are not made up",
    sent="a message without parameters; the next hop offers DSN", allowed={"none": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        came = await _passed_on(way)
        found = {**came.sender.keywords, **came.rcpts[0].keywords}
        made = [each for each in ("ENVID", "RET", "NOTIFY") if each in found]
        return ("made up", ", ".join(made)) if made else "none"


@here.case(
    "5.2.1-orcpt-added", level="MUST", clauses="3461-5.2.1-e", needs="hops", keywords="DSN",
    requirement="An ORCPT that a relay adds is the address that it was given",
    sent="a message without ORCPT; the next hop offers DSN",
    allowed={"not added": PASS, "the address": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        found = (await _passed_on(way)).rcpts[0].keywords.get("ORCPT", "")
        if not found:
            return "not added"
        kind, _, address = found.partition(";")
        same = kind.lower() == "rfc822" and address.lower() == way.rcpt.lower()
        return ("the address" if same else "another"), found


@here.case(
    "4-not-offered", level="IMPLIED", clauses="3461-4-b", needs="hops", keywords="DSN",
    requirement="Parameters of DSN are not sent to a host that does not offer it",
    sent="a message with RET, ENVID, NOTIFY and ORCPT; the next hop does not offer DSN",
    allowed={"none": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        came = await _passed_on(
            way, mail="RET=HDRS ENVID=abc", rcpt=f"NOTIFY=FAILURE ORCPT=rfc822;{way.rcpt}",
            features=FEATURES,
        )  # fmt: skip
        found = {**came.sender.keywords, **came.rcpts[0].keywords}
        sent = [each for each in ("ENVID", "RET", "NOTIFY", "ORCPT") if each in found]
        return ("sent", ", ".join(sent)) if sent else "none"


def _of(way: Way, action: str) -> list[Notification]:
    found = [Notification(each) for each in way.back.mails]
    return [each for each in found if action in each.actions]


@here.case(
    "5.2.2-relayed", level="MUST", clauses="3461-5.2.2-a", needs="hops", keywords="DSN",
    requirement="If success was to be reported and the next hop does not offer DSN, the sender is"
    " told that the message was relayed",
    sent="a message with NOTIFY=SUCCESS; the next hop does not offer DSN",
    allowed={"relayed": PASS, "delivered": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        await _passed_on(way, rcpt="NOTIFY=SUCCESS", features=FEATURES)
        if not await way.until(lambda: bool(way.back.mails)):
            await way.settle()
        if _of(way, "relayed"):
            return "relayed"
        return ("delivered" if _of(way, "delivered") else "no report"), str(len(way.back.mails))


@here.case(
    "5.2.2-not-relayed", level="MUST NOT", clauses="3461-5.2.1-c", needs="hops", keywords="DSN",
    requirement="If the next hop offers DSN, the report of success is left to it",
    sent="a message with NOTIFY=SUCCESS for a next hop with DSN, then another that fails",
    allowed={"none": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(features=OFFERED)
        await way.send(rcpt="NOTIFY=SUCCESS")
        await way.one(hop)
        await way.settle()
        odd = [each for each in way.back.mails if b"later@" not in each.content]
        return ("a report", str(Notification(odd[0]).actions)) if odd else "none"


@here.case(
    "5.2.2-never", level="MUST NOT", clauses="3461-5.2.2-b", needs="hops", keywords="DSN",
    requirement="With NOTIFY=NEVER no failure is reported",
    sent="a message with NOTIFY=NEVER that fails, then another that fails",
    allowed={"none": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(rcpt="550 no such user")
        await way.send(rcpt="NOTIFY=NEVER")
        await way.visited(hop)
        await way.settle()
        odd = [each for each in way.reports if b"later@" not in each.mail.content]
        return "a report" if odd else "none"


@here.case(
    "5.2.2-never-path", level="SHOULD", clauses="3461-5.2.2-b", needs="hops", keywords="DSN",
    requirement="What reverse-path a message with NOTIFY=NEVER has for a host without DSN is"
    " recorded",
    sent="a message with NOTIFY=NEVER; the next hop does not offer DSN",
    allowed={"empty": PASS, "as it was": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        path = (await _passed_on(way, rcpt="NOTIFY=NEVER", features=FEATURES)).sender.path
        return {"": "empty", way.sender: "as it was"}.get(path, "another"), path


@here.case(
    "5.2.2-orcpt-in-report", level="MUST", clauses="3461-5.2.1-a", needs="hops", keywords="DSN",
    requirement="A report names the original recipient and the envelope id that were given",
    sent="a message with ENVID and ORCPT that fails; the report is looked at",
    allowed={"both": PASS, "not standard": INFO, "no report": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        await way.mx(rcpt="550 no such user", features=OFFERED)
        await way.send(mail="ENVID=Id-77", rcpt="ORCPT=rfc822;first@origin.example")
        if not await way.returned():
            return "no report"
        report = way.reports[0]
        if not report.blocks:
            return "not standard"
        envelope = report.field("Original-Envelope-Id")
        original = report.field("Original-Recipient")
        well = envelope[:1] == ["Id-77"] and "first@origin.example" in "".join(original)
        return ("both" if well else "not both"), f"{envelope}, {original}"
