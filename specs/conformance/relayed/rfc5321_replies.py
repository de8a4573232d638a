"""RFC 5321 4.2: what a client makes of replies, and whether it tries again or gives up.

A delivery is what a hop has answered 2yz at the end; a return is a report to the sender's domain.
A server that tries again only after minutes is not waited for: then it is recorded that the message
was neither delivered nor returned.
"""

from __future__ import annotations

from typing import Any, Final

from specs.conformance.fates import ARRIVES, COMES_BACK, IS_KEPT, OPEN, SHOULD_ARRIVE, Fates
from specs.conformance.hop import Hop
from specs.conformance.hop_records import Visit
from specs.conformance.hop_script import Say, Table, say
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import Session
from specs.conformance.way import RETRY, SOON, way_for

here = Section("5321", role="client")

STATES: Final = ("mail", "rcpt", "data", "end")
#: What ordinarily is said, by state.
GOOD: Final = {
    "greeting": "220", "ehlo": "250", "mail": "250", "rcpt": "250", "data": "354", "end": "250",
}  # fmt: skip


def _plain(name: str, state: str, code: str, rest: str, **more: Any) -> None:
    """A case of one odd reply, where nothing is wrong."""
    _table_case(name, {state: say(f"{code}{rest}")}, ARRIVES, **more)


def _table_case(
    name: str, table: Table, allowed: Fates, *, settle: float = 1.0, **more: Any
) -> None:
    """A case of one message for a next hop with that table of answers."""

    async def script(talk: Session) -> Observed:
        async with way_for(talk) as way:
            hop = await way.mx(table)
            await way.send()
            fate = way.arrives(hop) if allowed is ARRIVES else way.fate(hop, settle=settle)
            label = await fate
            # The hop has taken it; whether the reply to its end was understood shows later.
            return await way.believed(hop) if label == "delivered" and "end" in table else label

    here.case(name, needs="hops", allowed=allowed, **more)(script)


# -- codes that nobody knows -----------------------------------------------------------------------

for state, code in (
    ("greeting", "229"), ("ehlo", "259"), ("mail", "259"), ("rcpt", "259"), ("data", "359"),
    ("end", "259"),
):  # fmt: skip
    _plain(
        f"4.2-unknown-{code}-{state}", state, code, " fine", level="MUST",
        clauses="5321-4.2-d 5321bis-4.2-a",
        requirement="A code that a client does not know counts by its first digit",
        sent=f"a message for a next hop whose reply at {state.upper()} is {code}",
    )  # fmt: skip

for state in STATES:
    _table_case(
        f"4.2-unknown-459-{state}", {state: ("459 not now", f"{GOOD[state]} go on")},
        IS_KEPT, level="MUST", clauses="5321-4.2-d 5321bis-4.2-a", settle=RETRY,
        requirement="A code 4yz that a client does not know is a temporary failure",
        sent=f"a message for a next hop that answers {state.upper()} 459, the first time",
    )  # fmt: skip
    _table_case(
        f"4.2-unknown-559-{state}", {state: "559 never"},
        COMES_BACK, level="MUST", clauses="5321-4.2-d 5321bis-4.2-a", settle=1.0,
        requirement="A code 5yz that a client does not know is a permanent failure",
        sent=f"a message for a next hop that answers {state.upper()} 559",
    )  # fmt: skip

# -- texts -----------------------------------------------------------------------------------------

for state, code in GOOD.items():
    if state not in ("ehlo",):
        _plain(
            f"4.2-no-text-{state}", state, code, "", level="MUST", clauses="5321-4.2-e",
            requirement="A reply without any text is accepted",
            sent=f"a message for a next hop whose reply at {state.upper()} is the bare {code}",
        )  # fmt: skip
        _plain(
            f"4.2-blank-text-{state}", state, code, " ", level="MUST", clauses="5321-4.2-e",
            requirement="A reply with an empty text is accepted",
            sent=f"a message for a next hop whose reply at {state.upper()} is {code} and a blank",
        )  # fmt: skip
    _plain(
        f"4.2-misleading-{state}", state, code, " 550 error: rejected, no such user",
        level="MUST NOT", clauses="5321-4.2-f",
        requirement="A client goes by the code, whatever the text says",
        sent=f"a message; the reply at {state.upper()} is {code} with the text of a refusal",
    )  # fmt: skip
    _table_case(
        f"4.2.1-lines-{state}",
        {state: say(f"{code}-first\r\n{code}-second\r\n{code} third", drip=True)},
        ARRIVES, level="MUST", clauses="5321-4.2-f 2920-3.1-g",
        requirement="A reply of several lines is one reply, however it is cut in pieces",
        sent=f"a message; the reply at {state.upper()} has three lines, and comes octet by octet",
    )  # fmt: skip
    _table_case(
        f"4.5.3.1.5-512-{state}", {state: f"{code} {'x' * 506}"}, ARRIVES, level="MUST",
        clauses="5321-4.5.3.1.5-b",
        requirement="A reply line of 512 octets is accepted",
        sent=f"a message; the reply at {state.upper()} has 512 octets",
    )  # fmt: skip
    _table_case(
        f"4.5.3.1.5-2000-{state}", {state: f"{code} {'x' * 2000}"}, SHOULD_ARRIVE,
        level="IMPLIED", clauses="5321-4.5.3.1.5-b",
        requirement="A reply line that is longer than the standard allows does no harm",
        sent=f"a message; the reply at {state.upper()} has 2006 octets",
    )  # fmt: skip

for state in ("rcpt", "end"):
    _table_case(
        f"4.2-misleading-550-{state}", {state: "550 250 ok accepted for delivery"},
        COMES_BACK, level="MUST NOT", clauses="5321-4.2-f", settle=1.0,
        requirement="A client goes by the code, whatever the text says",
        sent=f"a message; the reply at {state.upper()} is 550 with the text of a success",
        security="mail that was refused counts as delivered",
    )  # fmt: skip
    _table_case(
        f"4.2-misleading-451-{state}",
        {state: ("451 550 5.1.1 permanent failure, no such user", "250 ok")},
        IS_KEPT, level="MUST NOT", clauses="5321-4.2-f", settle=RETRY,
        requirement="A client goes by the code, whatever the text says",
        sent=f"a message; the first reply at {state.upper()} is 451 with the text of a 550",
    )  # fmt: skip

for state in ("mail", "rcpt"):

    @here.case(
        f"4.2-preliminary-{state}", level="IMPLIED", clauses="5321-4.2-h", needs="hops",
        requirement="A reply 1yz is not taken for success",
        sent=f"a message for a next hop that answers {state.upper()} 150, and nothing more",
        allowed={"waits, or gives up": PASS, "goes on": NON_STRICT},
    )  # fmt: skip
    async def _(talk: Session, state: str = state) -> Observed:
        async with way_for(talk) as way:
            hop = await way.mx({state: "150 wait", "data": "354 go on"}, features=())
            await way.send()
            visit = await way.visited(hop)
            await way.until(lambda: bool(visit.ended) or "DATA" in visit.verbs, 0.3)
            went_on = "DATA" in visit.verbs or (state == "mail" and "RCPT" in visit.verbs)
            return ("goes on" if went_on else "waits, or gives up"), ", ".join(visit.verbs)


# -- 4yz: again; 5yz: never ------------------------------------------------------------------------

for state, code in (
    ("greeting", "421"), ("ehlo", "451"), ("mail", "451"), ("mail", "421"), ("mail", "452"),
    ("rcpt", "450"), ("rcpt", "451"), ("rcpt", "452"), ("rcpt", "421"), ("data", "451"),
    ("data", "421"), ("end", "451"), ("end", "452"), ("end", "421"),
):  # fmt: skip
    clause = "5321-4.2.5-b" if state == "end" else "5321-4.5.4.1-a"
    _table_case(
        f"4.2.1-{code}-{state}", {state: (f"{code} not now", f"{GOOD[state]} go on")},
        IS_KEPT, level="MUST", clauses=f"5321-4.2.1-b {clause}", settle=RETRY,
        requirement="After 4yz a message is kept, and tried again",
        sent=f"a message for a next hop that answers {state.upper()} {code}, the first time",
        security="mail is refused for good on a failure that passes",
    )  # fmt: skip

for state, code in (
    ("mail", "550"), ("mail", "552"), ("rcpt", "550"), ("rcpt", "553"), ("rcpt", "551"),
    ("data", "554"), ("end", "554"), ("end", "552"), ("end", "550"),
):  # fmt: skip
    clause = "5321-4.2.5-b " if state == "end" else ""
    _table_case(
        f"4.2.1-{code}-{state}", {state: f"{code} never"},
        COMES_BACK, level="SHOULD", clauses=f"{clause}5321-4.2.1-c 5321-3.6.3-b",
        requirement="After 5yz a message is given up, and its sender told", settle=1.0,
        sent=f"a message for a next hop that answers {state.upper()} {code}",
    )  # fmt: skip


@here.case(
    "4.2.1-5yz-once", level="SHOULD NOT", clauses="5321-4.2.1-c", needs="hops",
    requirement="What was refused with 5yz is not tried again unchanged",
    sent="a message whose recipient is answered 550", allowed={"once": PASS, "again": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(rcpt="550 no such user")
        await way.send()
        await way.fate(hop)
        tries = sum("RCPT" in each.verbs for each in hop.visits)
        again = tries > 1 or await way.until(
            lambda: sum("RCPT" in each.verbs for each in hop.visits) > tries, SOON
        )
        return "again" if again else "once"


# -- several recipients, several answers -----------------------------------------------------------


def _by_name(**codes: str) -> Say:
    """An answer to RCPT by the local part."""

    def answer(_: Visit, line: str) -> Say:
        return next((f"{code} so" for who, code in codes.items() if f"{who}@" in line), "250 ok")

    return answer


@here.case(
    "4.2.1-one-of-two", level="MUST", clauses="5321-3.6.3-b 5321-4.2.1-c 2920-3.1-b", needs="hops",
    requirement="Of two recipients of whom one is refused, one gets the message, and the other is"
    " reported",
    sent="a message for two; the first RCPT is answered 550, the second 250",
    allowed={"one delivered, one returned": PASS, "one delivered": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(rcpt=_by_name(ann="550"))
        await way.send(rcpts=[f"ann@{way.domain}", f"bob@{way.domain}"])
        if not await way.until(lambda: bool(way.taken(hop)) and bool(way.reports)):
            await way.compare()
        taken = [path for mail in way.taken(hop) for path in mail.paths]
        failed = {who for each in way.reports for who in each.failed()}
        if [each.partition("@")[0] for each in taken] != ["bob"]:
            return "taken by others", ", ".join(taken) or "nobody"
        if not way.reports:
            return "one delivered"
        if failed and failed != {"ann"}:
            return "others reported", ", ".join(sorted(failed))
        return "one delivered, one returned"


@here.case(
    "4.2.1-one-later", level="MUST", clauses="5321-4.2.1-b 5321-4.5.4.1-a", needs="hops",
    requirement="Of two recipients of whom one is put off, one gets the message once, and the other"
    " is not given up",
    sent="a message for two; the first RCPT is answered 451 once, the second 250",
    allowed={"both delivered": PASS, "one waits": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        answers = iter(("451 not now",))

        def rcpt(_: Visit, line: str) -> Say:
            return next(answers, "250 ok") if "ann@" in line else "250 ok"

        hop = await way.mx(rcpt=rcpt)
        await way.send(rcpts=[f"ann@{way.domain}", f"bob@{way.domain}"])
        if not await way.until(lambda: bool(_who(hop)) or bool(way.reports)):
            await way.compare()
        await way.until(lambda: len(_who(hop)) >= 2 or bool(way.reports), RETRY)
        if way.reports:
            return "returned"
        who = sorted(_who(hop))
        named = {("ann", "bob"): "both delivered", ("bob",): "one waits"}
        return named.get(tuple(who), f"delivered to {', '.join(who) or 'nobody'}"), str(len(who))


def _who(hop: Hop) -> list[str]:
    return [path.partition("@")[0] for mail in hop.taken for path in mail.paths]


@here.case(
    "4.5.3.1.10-552", level="SHOULD", clauses="5321-4.5.3.1.10-b", needs="hops",
    requirement="552 to a RCPT, after others were taken, counts as 452: the rest is sent later",
    sent="a message for three; the third RCPT is answered 552, the first time",
    allowed={"delivered": PASS, "kept": INFO, "returned": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        seen: list[str] = []

        def rcpt(_: Visit, line: str) -> Say:
            seen.append(line)
            return "552 too many recipients" if len(seen) == 3 else "250 ok"

        hop = await way.mx(rcpt=rcpt)
        await way.send(rcpts=[f"{each}@{way.domain}" for each in ("ann", "bob", "eve")])
        await way.until(lambda: len(_who(hop)) >= 3 or bool(way.reports), RETRY)
        if way.reports:
            return "returned"
        return "delivered" if len(_who(hop)) >= 3 else "kept"


@here.case(
    "4.5.3.1.10-452", level="MUST", clauses="5321-4.5.3.1.10-b 5321-4.2.1-b", needs="hops",
    requirement="452 to a RCPT, after others were taken: these get the message, the rest is not"
    " given up",
    sent="a message for three; the third RCPT is answered 452, the first time",
    allowed={"delivered": PASS, "two delivered": INFO, "kept": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        seen: list[str] = []

        def rcpt(_: Visit, line: str) -> Say:
            seen.append(line)
            return "452 too many recipients" if len(seen) == 3 else "250 ok"

        hop = await way.mx(rcpt=rcpt)
        await way.send(rcpts=[f"{each}@{way.domain}" for each in ("ann", "bob", "eve")])
        await way.until(lambda: len(_who(hop)) >= 3 or bool(way.reports), RETRY)
        if way.reports:
            return "returned"
        return {3: "delivered", 2: "two delivered"}.get(len(_who(hop)), "kept")


@here.case(
    "4.5.4.1-one-copy", level="SHOULD", clauses="5321-4.5.4.1-d", needs="hops",
    requirement="Recipients at one host get one copy in one transaction",
    sent="a message for three at one domain",
    allowed={"one copy": PASS, "several copies": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx()
        await way.send(rcpts=[f"{each}@{way.domain}" for each in ("ann", "bob", "eve")])
        if not await way.until(lambda: len(_who(hop)) >= 3):
            await way.compare()
        if sorted(_who(hop)) != ["ann", "bob", "eve"]:
            return "delivered to others", ", ".join(_who(hop))
        return ("one copy" if len(hop.taken) == 1 else "several copies"), str(len(hop.taken))


@here.case(
    "4.5.4.1-not-remembered", level="MUST NOT", clauses="5321-4.5.4.1-f", needs="hops",
    requirement="A 5yz to MAIL of one message is not held against the next",
    sent="two messages; the first MAIL is answered 550, the second 250",
    allowed={"second delivered": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(mail=("550 not this one", "250 ok"))
        await way.send()
        first = await way.fate(hop)
        if first != "returned":
            return "second delivered", f"the first was {first}: nothing is shown"
        await way.send()
        came = await way.until(lambda: bool(way.taken(hop)) or len(way.reports) > 1)
        if not came:
            await way.compare()
        if way.taken(hop):
            return "second delivered"
        return ("second returned" if came else "second not seen"), f"{len(hop.visits)} visits"


# -- replies that are none -------------------------------------------------------------------------

for slug, octets in (
    ("letters", b"hello there\r\n"), ("two-digits", b"25 ok\r\n"), ("four-digits", b"2500 ok\r\n"),
    ("mixed-codes", b"250-ok\r\n550 no\r\n"),
):  # fmt: skip
    _table_case(
        f"4.2-no-reply-{slug}", {"rcpt": (say(octets), "250 ok")}, OPEN, level="MAY",
        clauses="5321-4.2-d", settle=RETRY,
        requirement="What a client makes of a line that is no reply is recorded",
        sent=f"a message; RCPT is answered {octets!r}, the first time",
    )  # fmt: skip
