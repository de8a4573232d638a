"""RFC 5321 3.6.3, 4.5.5, 6.1: the notice that mail has failed, and to whom it does not go.

Notices are looked at as they come to the next hop of the sender's domain: with their envelope.
That none is sent is judged only after a later failure of another message was reported.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.hop import Hop
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed, Reply
from specs.conformance.notifications import Notification
from specs.conformance.section import Section
from specs.conformance.session import Refused, Session
from specs.conformance.way import Way, way_for

here = Section("5321", role="relay")

NO_USER: Final = "550 no such user"


async def _reported(way: Way, sender: str | None = None) -> Notification:
    """The report of a message that a hop has refused.  Raises Refused if none comes."""
    await way.mx(rcpt=NO_USER)
    await way.send(sender=sender)
    if not await way.returned():
        raise Refused("no report came", Reply(kind="silent"))
    return way.reports[0]


@here.case(
    "3.6.3-report", level="MUST", clauses="5321-3.6.3-b 5321-6.1-e", needs="hops",
    requirement="If mail that was accepted can't be delivered, its sender is told",
    sent="a message whose recipient is answered 550 by the next hop", allowed={"report": PASS},
    security="mail is lost without notice",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(rcpt=NO_USER)
        await way.send()
        await way.visited(hop)
        if await way.returned():
            return "report"
        await way.compare()
        return "report" if way.reports else ("none", f"in {talk.given.patience_s:.0f} s")


@here.case(
    "3.6.3-null-path", level="MUST", clauses="5321-3.6.3-d 5321-4.5.5-b", needs="hops",
    requirement="A report has an empty reverse-path",
    sent="a message that fails; MAIL of the report is looked at", allowed={"<>": PASS},
    security="reports about reports go round for ever",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        report = await _reported(way)
        return f"<{report.mail.sender.path}>"


@here.case(
    "3.6.3-form", level="SHOULD", clauses="5321-3.6.3-c", needs="hops",
    requirement="A report has the standard form (RFC 3464): it can be read by programs",
    sent="a message that fails; the report is looked at",
    allowed={"standard": PASS, "another": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        report = await _reported(way)
        kind = report.message.get_content_type()
        if kind != "multipart/report" or not report.blocks:
            return "another", kind
        missing = [
            each for each in ("Reporting-MTA", "Final-Recipient", "Action", "Status")
            if not report.field(each)
        ]  # fmt: skip
        return ("another", f"without {', '.join(missing)}") if missing else "standard"


@here.case(
    "3.6.3-status", level="SHOULD", clauses="5321-3.6.3-c", needs="hops",
    requirement="A report of a failure says Action: failed, and a status 5.x.x",
    sent="a message that fails; the report is looked at",
    allowed={"failed, 5": PASS, "not standard": INFO, "something else": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        report = await _reported(way)
        if not report.blocks:
            return "not standard"
        told = f"{report.actions}, {report.field('Status')}"
        status = all(each.startswith("5.") for each in report.field("Status"))
        return ("failed, 5" if status and report.actions == {"failed"} else "something else"), told


@here.case(
    "6.1-recipient", level="MUST", clauses="5321-6.1-e 5321-3.6.3-b", needs="hops",
    requirement="A report goes to the reverse-path, as it was given",
    sent="a message from <MiXeD+tag@...> that fails; RCPT of the report is looked at",
    allowed={"as it was": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        sender = f"MiXeD+tag@back.{way.domain}"
        report = await _reported(way, sender=sender)
        found = report.mail.paths
        local = sender.partition("@")[0]
        same = len(found) == 1 and found[0].rpartition("@")[0] == local
        return ("as it was" if same else "another"), ", ".join(found)


@here.case(
    "6.1-not-from", level="MUST", clauses="5321-6.1-e", needs="hops",
    requirement="A report goes to the reverse-path, whatever From, Sender and Reply-To say",
    sent="a message that fails, with other addresses in its header",
    allowed={"reverse-path": PASS}, security="reports can be led to others",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(rcpt=NO_USER)
        lines = [f"{name}: <other@back.{way.domain}>\r\n"
                 for name in ("Sender", "Reply-To", "Errors-To", "Return-Path")]  # fmt: skip
        octets = way.message(headers="".join(lines))
        await way.send(octets.replace(b"From: <sender@", b"From: <from@", 1))
        await way.visited(hop)
        if not await way.returned():
            raise Refused("no report came", Reply(kind="silent"))
        found = {path for each in way.reports for path in each.mail.paths}
        return ("reverse-path" if found == {way.sender} else "others"), ", ".join(sorted(found))


@here.case(
    "6.1-route", level="MUST", clauses="5321-6.1-e", needs="hops",
    requirement="A report goes to the last domain of a reverse-path with a source route",
    sent="a message from <@first:sender@last> that fails; RCPT of the report is looked at",
    allowed={"without route": PASS, "refused": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        await way.mx(rcpt=NO_USER)
        reply = await way.offer(sender=f"@first.{way.domain}:{way.sender}")
        if reply.code[:1] != "2":
            return "refused", str(reply)
        if not await way.reported():
            return "no report"
        path = way.reports[0].mail.paths[0]
        return ("with route" if path.startswith("@") else "without route"), path


@here.case(
    "4.5.5-null-not-reported", level="MUST NOT", clauses="5321-4.5.5-c 5321-6.1-f", needs="hops",
    requirement="The failure of a message with an empty reverse-path is not reported to anybody"
    " that its header names",
    sent="a message from <> that fails, then one with a sender that fails, too",
    allowed={"none": PASS}, security="reports about reports go round for ever",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(rcpt=NO_USER)
        octets = way.message(headers=f"Return-Path: <{way.sender}>\r\nReply-To: <{way.sender}>\r\n")
        await way.send(octets, sender="")
        await way.visited(hop)
        await way.settle()
        odd = [each for each in way.reports if b"later@" not in each.mail.content]
        return ("a report", ", ".join(odd[0].mail.paths)) if odd else "none"


@here.case(
    "6.1-no-report-of-report", level="MUST NOT", clauses="5321-6.1-f 5321-4.5.5-c", needs="hops",
    requirement="A report that can't be delivered causes no other report",
    sent="a message that fails, and whose report is refused 550, too", allowed={"none": PASS},
    security="reports about reports go round for ever",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(rcpt=NO_USER)
        refusing = await way.mx(domain=f"closed.{way.domain}", rcpt=NO_USER)
        await way.send(sender=f"nobody@closed.{way.domain}")
        await way.visited(hop)
        await way.until(lambda: any(each.lines("RCPT") for each in refusing.visits))
        if not refusing.visits:
            raise Refused("no report came", Reply(kind="silent"))
        await way.settle()
        asked = [each.line for each in refusing.commands if each.verb == "MAIL"]
        odd = [each for each in asked if "<>" not in each]
        return ("another", odd[0]) if odd else "none"


@here.case(
    "4.5.5-null-stays", level="SHOULD NOT", clauses="5321-4.5.5-d", needs="hops",
    requirement="An empty reverse-path stays empty on its way",
    sent="a message from <>; MAIL at the next hop is looked at",
    allowed={"<>": PASS, "another": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx()
        await way.send(sender="")
        path = (await way.one(hop)).sender.path
        return ("another" if path else "<>"), path


@here.case(
    "3.6.3-names-recipient", level="SHOULD", needs="hops",
    clauses="5321-3.6.3-c 5321-3.6.3-b 5321-4.4-b 5321-4.4-t",
    requirement="A report names the recipients that failed, and no others",
    sent="a message for three at one domain, of whom one is refused",
    allowed={"the one": PASS, "not standard": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop: Hop = await way.mx(rcpt=lambda _, line: NO_USER if "bob@" in line else "250 ok")
        await way.send(rcpts=[f"{each}@{way.domain}" for each in ("ann", "bob", "eve")])
        await way.visited(hop)
        if not await way.reported():
            return "no report"
        failed = {who for each in way.reports for who in each.failed()}
        if not failed:
            return "not standard"
        return ("the one" if failed == {"bob"} else "others"), ", ".join(sorted(failed))


@here.case(
    "3.6.3-no-loop", level="MUST", clauses="5321-3.6.3-b 5321-4.5.5-b", needs="hops",
    requirement="A report is one message, and comes once",
    sent="a message that fails, then another one that fails",
    allowed={"once": PASS, "several": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        await _reported(way)
        await way.settle()
        first = [each for each in way.reports if b"later@" not in each.mail.content]
        return ("once" if len(first) == 1 else "several"), str(len(first))
