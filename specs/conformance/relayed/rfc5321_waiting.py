"""RFC 5321 4.5.3.2, 4.5.4.1: how long a client waits, and how many connections it makes.

The times of the standard are minutes: those cases are slow.  A run against a server that was told
to be impatient sees non-strict ones.
"""

from __future__ import annotations

from typing import Final

import trio

from specs.conformance.fates import SHOULD_ARRIVE
from specs.conformance.hop_script import CLOSE, HANG, Say, say
from specs.conformance.model import INFO, NON_STRICT, PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import Session
from specs.conformance.way import SOON, way_for

here = Section("5321", role="client")

#: A little less than the standard's minutes.
SPARE_S: Final = 5.0


@here.case(
    "4.5.3.2-each", level="MUST", clauses="5321-4.5.3.2-a", needs="hops",
    requirement="Time is measured for each command, not for the whole transaction",
    sent="a message for a next hop that takes 1.5 seconds for each reply",
    allowed={"delivered": PASS, "kept waiting": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        late: dict[str, Say] = {
            "greeting": say("220 hello", after_s=1.5),
            "mail": say("250 ok", after_s=1.5), "rcpt": say("250 ok", after_s=1.5),
            "data": say("354 go on", after_s=1.5), "end": say("250 ok", after_s=1.5),
        }  # fmt: skip
        hop = await way.mx(late)
        await way.send()
        label = await way.fate(hop, limit_s=max(25.0, talk.given.patience_s))
        return "put off" if label == "kept waiting" and len(hop.visits) > 1 else label


for section, clause, state, text, minutes in (
    ("4.5.3.2.1", "5321-4.5.3.2.1-a", "greeting", "220 hello", 5),
    ("4.5.3.2.2", "5321-4.5.3.2.2-a", "mail", "250 ok", 5),
    ("4.5.3.2.3", "5321-4.5.3.2.3-a", "rcpt", "250 ok", 5),
    ("4.5.3.2.4", "5321-4.5.3.2.4-a", "data", "354 go on", 2),
    ("4.5.3.2.6", "5321-4.5.3.2.6-a", "end", "250 ok", 10),
):

    @here.case(
        f"{section}-{state}", level="SHOULD", clauses=clause, needs="hops", slow=True,
        requirement=f"A client waits {minutes} minutes for the reply to {state.upper()}",
        sent=f"a message for a next hop that takes as long ({state.upper()})",
        allowed=SHOULD_ARRIVE,
    )  # fmt: skip
    async def _(
        talk: Session, state: str = state, text: str = text, minutes: int = minutes
    ) -> Observed:
        async with way_for(talk) as way:
            late_s = 60.0 * minutes - SPARE_S
            hop = await way.mx({state: say(text, after_s=late_s)})
            await way.send()
            return await way.fate(hop, limit_s=late_s + 60.0)


@here.case(
    "4.5.3.2.5-block", level="SHOULD", clauses="5321-4.5.3.2.5-a", needs="hops", slow=True,
    requirement="A client waits three minutes until a next hop reads on",
    sent="a message of 20 million octets for a next hop that stops reading for that long",
    allowed={**SHOULD_ARRIVE, "refused": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(stall_s=180.0 - SPARE_S, room=4096, features=("SIZE 50000000",))
        reply = await way.offer(way.message((b"0123456789" * 7 + b"\r\n") * 280_000))
        if reply.code[:1] != "2":
            return "refused", str(reply)
        return await way.fate(hop, limit_s=400.0)


@here.case(
    "4.5.4.1-interval", level="SHOULD", clauses="5321-4.5.4.1-b", needs="hops", slow=True,
    requirement="How soon a message is tried again is recorded; the standard says half an hour",
    sent="a message for a next hop that always answers MAIL 451",
    allowed={"not in 14 minutes": PASS, "sooner": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(mail="451 not now")
        await way.send()
        await way.visited(hop)
        if not await way.bell.until(lambda: len(hop.visits) > 1 or bool(way.reports), 830.0):
            return "not in 14 minutes"
        if way.reports:
            return "returned"
        first, second = (each.began_s for each in hop.visits[:2])
        return "sooner", f"{second - first:.0f} s"


@here.case(
    "4.5.4.1-again", level="MUST", clauses="5321-4.5.4.1-a 5321-4.2.1-b", needs="hops", slow=True,
    requirement="A message that could not be delivered is tried again",
    sent="a message for a next hop that answers MAIL 451, the first time; 14 minutes are waited",
    allowed={"delivered": PASS, "not yet": INFO},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(mail=("451 not now", "250 ok"))
        await way.send()
        await way.visited(hop)
        await way.bell.until(lambda: bool(hop.taken) or bool(way.reports), 830.0)
        if hop.taken:
            return "delivered"
        return "returned" if way.reports else "not yet"


@here.case(
    "4.5.4.1-parallel", level="IMPLIED", clauses="5321-4.5.4.1-e", needs="hops", alone=True,
    requirement="Connections to one host are limited",
    sent="30 messages for a next hop that does not greet; connections are counted",
    allowed={"limited": PASS, "30 at once": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(connect=HANG)
        for _number in range(30):
            await way.send()
        await way.visited(hop)
        await way.until(lambda: len(hop.open) >= 30, SOON)
        return ("30 at once" if len(hop.open) >= 30 else "limited"), str(len(hop.open))


@here.case(
    "4.5.4.1-others-go-on", level="IMPLIED", clauses="5321-4.5.4.1-e", needs="hops",
    requirement="A next hop that hangs does not hold up mail for others",
    sent="a message for a next hop that does not greet, then one for another domain",
    allowed={"delivered": PASS, "held up": NON_STRICT},
    security="one host can stop the mail of all others",
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hanging = await way.mx(connect=HANG)
        good = await way.mx(domain=f"good.{way.domain}")
        await way.send()
        await way.visited(hanging)
        await way.send(rcpts=[f"rcpt@good.{way.domain}"])
        await way.until(lambda: bool(good.taken))
        return "delivered" if good.taken else "held up"


@here.case(
    "4.5.4.1-hung-is-left", level="IMPLIED", clauses="5321-4.5.3.2-a", needs="hops", slow=True,
    requirement="A client does not wait for ever for a next hop that says nothing",
    sent="a message for a next hop that does not greet; 14 minutes are waited",
    allowed={"left": PASS, "still there": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(connect=HANG)
        await way.send()
        await way.visited(hop)
        left = await way.bell.until(lambda: any(each.ended for each in hop.visits), 830.0)
        return "left" if left else "still there"


@here.case(
    "4.5.4.1-remembered", level="SHOULD", clauses="1123-5.3.1.1-a", needs="hops",
    requirement="Whether a host that does not answer is tried for each message anew is recorded",
    sent="8 messages, half a second apart, for a next hop that closes at once; connections are"
    " counted",
    allowed={"fewer": PASS, "for each": INFO},  # or each was tried again meanwhile
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        hop = await way.mx(connect=CLOSE)
        for _number in range(8):
            await way.send()
            await way.visited(hop)  # a server that has not yet begun remembers nothing
            await trio.sleep(0.5)
        return ("for each" if len(hop.visits) >= 8 else "fewer"), str(len(hop.visits))
