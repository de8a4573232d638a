"""A relayed case's way through the server: a domain of its own, hops for it, and mail for them.

    async with way_for(talk) as way:
        first = await way.mx(rcpt="451 later")             # mx1.DOMAIN, with an MX record
        second = await way.mx(preference=20)
        await way.send()                                   # through the server under test
        return await way.fate(first, second)               # "delivered", "returned", "put off"

Rules a reader may rely on
- The sender of what is sent is at a domain of the case's own, too (`way.sender`); its mail comes to
  a hop, `way.back`.  So a report is seen as it is sent, envelope and all, and no mailbox is needed.
- All waiting is a share of --patience, and no longer than it must be.
- A server that is only slow has failed nothing.  One that never comes to a hop raises Refused: the
  case could not begin.  `arrives` and `reported` say no only once another message, sent later, has
  got through.
- When a case is over, its hops end, and all its names lead to the sink of the testbed.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import trio

from specs.conformance.hop import Hop
from specs.conformance.hop_records import Bell, Mail, Visit
from specs.conformance.hop_script import FEATURES, Say, Table
from specs.conformance.model import Reply
from specs.conformance.names import Names
from specs.conformance.notifications import Notification
from specs.conformance.session import Refused, Session, Unavailable, written
from specs.conformance.testbed import SINK, TOP, Testbed

#: Shares of patience.  After a visit that ended without a delivery: how long another attempt may
#: take where a case judges what was said, and not the end.
SOON: Final = 0.15
#: How long a second attempt is waited for where a later one is allowed, too: many servers take
#: minutes.
RETRY: Final = 0.6
#: Whether a message that was taken comes a second time, or back, is watched for so long.
TWICE: Final = 0.125


@asynccontextmanager
async def way_for(talk: Session) -> AsyncIterator[Way]:
    """For one case.  Raises Unavailable, Refused."""
    testbed = talk.testbed
    if not isinstance(testbed, Testbed):
        raise Unavailable("--names")
    if testbed.reason:
        raise Unavailable(testbed.reason)
    domain = f"{talk.token[:10]}-{testbed.mark}.{TOP}"
    failure: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                way = Way(talk=talk, testbed=testbed, domain=domain, nursery=nursery)
                way.back = await way.mx(
                    domain=f"back.{domain}", name=f"backmx.{domain}",
                    features=(*FEATURES, "SMTPUTF8"),
                )  # fmt: skip
                yield way
                way.check()
            except Exception as error:  # as it is, not in a group of the nursery's
                failure = error
            nursery.cancel_scope.cancel()
    finally:
        testbed.names.retire(domain, SINK)
    if failure is not None:
        raise failure


@dataclass(slots=True, kw_only=True)
class Way:
    """domain: of this case.  back: the hop of its sender's domain.  hops: all but that."""

    talk: Session
    testbed: Testbed
    domain: str
    nursery: trio.Nursery
    bell: Bell = field(default_factory=Bell)
    hops: list[Hop] = field(default_factory=list)
    _back: Hop | None = None

    @property
    def back(self) -> Hop:
        if self._back is None:
            raise Unavailable("a hop for reports")
        return self._back

    @back.setter
    def back(self, hop: Hop) -> None:
        self._back = hop
        self.hops.remove(hop)

    @property
    def names(self) -> Names:
        return self.testbed.names

    @property
    def rcpt(self) -> str:
        return f"rcpt@{self.domain}"

    @property
    def sender(self) -> str:
        return f"sender@back.{self.domain}"

    # -- hops -------------------------------------------------------------------------------------

    async def hop(
        self, table: Table | None = None, *, name: str = "", features: Sequence[str] = FEATURES,
        tls_features: Sequence[str] | None = None, stall_s: float = 0.0, room: int = 0,
        address: str = "", **more: Say,
    ) -> Hop:  # fmt: skip
        """One that listens, and whose name has its address; nothing leads to it yet.  table, more:
        its answers (`hop_script`).  With STARTTLS among the features it has a certificate.

        Raises Unavailable.
        """
        name = name or f"mx{len(self.hops) + 1}.{self.domain}"
        certificate = await self.testbed.certificate() if "STARTTLS" in features else None
        made = Hop(
            name=name, host=address or self.testbed.address(), port=self.testbed.port,
            told=self.talk.told, bell=self.bell,
            table={**(table or {}), **more}, features=tuple(features), certificate=certificate,
            stall_s=stall_s, room=room,
            tls_features=None if tls_features is None else tuple(tls_features),
        )  # fmt: skip
        try:
            await self._listen(made, again=not address)
        except OSError as error:
            raise Unavailable(f"--hops: {made.host} port {made.port}: {error}") from None
        self.names.add(name, "AAAA" if ":" in made.host else "A", made.host)
        self.hops.append(made)
        return made

    async def _listen(self, hop: Hop, *, again: bool) -> None:
        """again: at other addresses, where somebody (another run) listens at this one already.

        Raises OSError, Unavailable.
        """
        try:
            await hop.listen(self.nursery)
        except OSError as error:
            if not again or error.errno != errno.EADDRINUSE:
                raise
            hop.host = self.testbed.address()
            await hop.listen(self.nursery)

    async def mx(
        self, table: Table | None = None, *, preference: int = 10, domain: str = "",
        name: str = "", features: Sequence[str] = FEATURES,
        tls_features: Sequence[str] | None = None, stall_s: float = 0.0, room: int = 0,
        address: str = "", **more: Say,
    ) -> Hop:  # fmt: skip
        """The same, with an MX record of the case's domain, or of another."""
        made = await self.hop(
            table, name=name, features=features, tls_features=tls_features, stall_s=stall_s,
            room=room, address=address, **more,
        )  # fmt: skip
        self.names.add(domain or self.domain, "MX", f"{preference} {made.name}.")
        return made

    def nobody(self, name: str = "") -> str:
        """A name with an address where nobody listens: connections are refused."""
        name = name or f"nobody.{self.domain}"
        self.names.add(name, "A", self.testbed.address())
        return name

    def check(self) -> None:
        """Whether all that is ours has worked.  Raises RuntimeError."""
        hops = [*self.hops, *([self._back] if self._back else [])]
        wrong = [each.broken for each in hops if each.broken] + self.names.broken(self.domain)
        if wrong:
            raise RuntimeError(wrong[0])

    # -- mail -------------------------------------------------------------------------------------

    def message(
        self, body: str | bytes = "A message of the conformance suite.\r\n", *, headers: str = "",
        to: str = "",
    ) -> bytes:  # fmt: skip
        """A whole one, with this case's token, in lines that end in CRLF."""
        return written(
            body.encode() if isinstance(body, str) else body, sender=self.sender,
            to=to or self.rcpt, token=self.talk.token, domain=self.domain, headers=headers,
        )  # fmt: skip

    async def offer(
        self, octets: bytes | None = None, *, sender: str | None = None,
        rcpts: Sequence[str] | None = None, mail: str = "", rcpt: str = "",
        over: Session | None = None,
    ) -> Reply:  # fmt: skip
        """Send a message through the server: the reply to its end, or what refused it before (then
        RSET).  over: another session of the case.  Raises Refused only if there is no session.
        """
        talk = over or self.talk
        await talk.upto("ehlo")
        path = self.sender if sender is None else sender
        lines = [f"MAIL FROM:<{path}> {mail}".rstrip()]
        lines += [f"RCPT TO:<{each}> {rcpt}".rstrip() for each in rcpts or (self.rcpt,)]
        for line in [*lines, "DATA"]:
            reply = await talk.say(line)
            if not reply.positive:
                await talk.say("RSET")
                return reply
        return await talk.content(self.message() if octets is None else octets)

    async def send(
        self, octets: bytes | None = None, *, sender: str | None = None,
        rcpts: Sequence[str] | None = None, mail: str = "", rcpt: str = "",
    ) -> None:  # fmt: skip
        """The same.  Raises Refused unless it was accepted."""
        reply = await self.offer(octets, sender=sender, rcpts=rcpts, mail=mail, rcpt=rcpt)
        if reply.code[:1] != "2":
            raise Refused("mail to be relayed", reply)

    # -- what becomes of it -----------------------------------------------------------------------

    async def until(self, condition: Callable[[], bool], share: float = 1.0) -> bool:
        """Whether it holds, by now or within that share of patience."""
        return await self.bell.until(condition, share * self.talk.given.patience_s)

    @property
    def reports(self) -> list[Notification]:
        """Of failures, as far as they say what they are."""
        found = [Notification(mail) for mail in self.back.mails]
        return [each for each in found if each.of_failure]

    def taken(self, *hops: Hop) -> list[Mail]:
        """What these hops (or all of the case) have accepted."""
        return [mail for hop in hops or self.hops for mail in hop.taken]

    async def fate(
        self, *hops: Hop, count: int = 1, limit_s: float | None = None, settle: float = 1.0
    ) -> str:
        """What becomes of a message: "delivered" (so many), "returned" (a report of its failure),
        "put off" (the server came, left, and was not seen again for the share `settle` of patience,
        or until it ended), or "kept waiting" (it came, and is still there).  Raises Refused if it
        never came.
        """
        watched = hops or (*self.hops,)
        patience_s = self.talk.given.patience_s
        ends_s = trio.current_time() + (patience_s if limit_s is None else limit_s)
        state = self._state(watched)
        while not self._decided(watched, count):
            state = self._state(watched)
            left_s = ends_s - trio.current_time()
            gone_s = settle * patience_s if state[0] > 0 and state[1] == 0 else left_s
            if not await self._changes(watched, count, min(gone_s, left_s)):
                break
        if len(self.taken(*watched)) >= count:
            return "delivered"
        if self.reports:
            return "returned"
        if not state[0]:
            raise Refused("the server came to no hop", Reply(kind="silent"))
        return "kept waiting" if state[1] else "put off"

    async def arrives(self, *hops: Hop) -> str:
        """The same where nothing stands in the way: a message that was only slow is not "put off".
        Raises Refused, too, if an ordinary one takes as long.
        """
        watched = hops or (*self.hops,)
        label = await self.fate(*watched)
        if label in ("put off", "kept waiting"):
            await self.compare()
            late = "returned" if self.reports else label
            return "delivered" if self.taken(*watched) else late
        return label

    async def compare(self) -> None:
        """Until an ordinary message, sent now, has arrived at a hop that offers nothing.  Raises
        Refused if it does not: then nothing is known of one that has not, either.
        """
        domain = f"plain{len(self.hops)}.{self.domain}"
        hop = await self.mx(domain=domain, features=())
        await self.send(rcpts=[f"rcpt@{domain}"])
        if not await self.until(lambda: bool(hop.taken)):
            raise Refused("an ordinary message, relayed in time", Reply(kind="silent"))

    def _decided(self, hops: Sequence[Hop], count: int) -> bool:
        return len(self.taken(*hops)) >= count or bool(self.reports)

    async def _changes(self, hops: Sequence[Hop], count: int, limit_s: float) -> bool:
        before = self._state(hops)
        return await self.bell.until(
            lambda: self._decided(hops, count) or self._state(hops) != before, limit_s
        )

    @staticmethod
    def _state(hops: Sequence[Hop]) -> tuple[int, int]:
        """(visits, those of them that last)"""
        return sum(len(each.visits) for each in hops), sum(len(each.open) for each in hops)

    async def believed(self, *hops: Hop) -> str:
        """Of a message that a hop has taken, whether the server knows that: "delivered", or else
        "sent again", or "returned".
        """
        taken = len(self.taken(*hops))
        await self.until(lambda: len(self.taken(*hops)) > taken or bool(self.reports), TWICE)
        if self.reports:
            return "returned"
        return "sent again" if len(self.taken(*hops)) > taken else "delivered"

    async def visited(self, *hops: Hop) -> Visit:
        """The first visit of these, or of all.  Raises Refused if there is none within patience."""
        watched = hops or (*self.hops,)
        await self.until(lambda: any(each.visits for each in watched))
        for each in watched:
            if each.visits:
                return each.visits[0]
        raise Refused("the server came to no hop", Reply(kind="silent"))

    async def one(self, *hops: Hop) -> Mail:
        """The message, as a hop has accepted it.  Raises Refused if none has."""
        label = await self.fate(*hops)
        if label != "delivered":
            raise Refused(f"the message was {label}", Reply(kind="silent"))
        return self.taken(*hops)[0]

    async def returned(self, count: int = 1) -> bool:
        """Whether so many reports of failures have come, by now or within patience."""
        return await self.until(lambda: len(self.reports) >= count)

    async def reported(self) -> bool:
        """Whether a failure was reported; that it was not is said only once that of another message
        was.  Raises Refused if that is not, either.
        """
        if not await self.returned():
            await self.settle()
        return any(b"later@" not in each.mail.content for each in self.reports)

    async def settle(self) -> None:
        """Until the failure of another message, for "later@...", was reported: so are those before
        it.  Raises Refused.
        """
        before = len(self.reports)
        domain = f"later{len(self.hops)}.{self.domain}"
        await self.mx(domain=domain, rcpt="550 no such user")
        rcpt = f"later@{domain}"
        await self.send(self.message(to=rcpt), rcpts=[rcpt])
        if not await self.returned(before + 1):
            raise Refused("no report of another failure came", Reply(kind="silent"))

    async def farewell(self, hop: Hop, share: float = 0.25) -> bool:
        """Whether all visits of a hop have ended."""
        return await self.until(lambda: bool(hop.visits) and not hop.open, share)
