"""resolve: the resident service that answers questions about addresses.

smtpd asks at RCPT whether we take mail for a recipient from its client; qmgr asks where it goes.
Each hears in the same answer what the operator's maps make of its addresses (`protocol.rewriting`):
smtpd of the recipient and of the reverse-path that come in, qmgr, for mail that leaves, of what is
said to the next host.  So rewriting costs no question, and without maps no octet.

`protocol.routing` decides, over plain data and one question that it can't answer, whether a user of
the machine exists; `roles.users` knows that or asks `accounts`.  resolve makes no connection and
asks no DNS: whoever it names as destination, `remote` finds.

What is tricky: a routing that needs an unknown user is begun anew when the answer is there.  It
then goes on as if every unknown user existed, to learn of all that it has to ask at once; an alias
of a thousand users costs two passes, not a thousand.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final

import msgspec
import trio

from refmta.journal import Journal
from refmta.patterns.compartmentalization import Context
from refmta.patterns.resident_service import Later, Service
from refmta.protocol import relaying, rewriting, routing
from refmta.protocol.rewriting import Rewriting
from refmta.roles.users import AccountsAway, Unasked, Users
from refmta.wire.address import AddressError, Mailbox, parse_mailbox
from refmta.wire.messages import Message, Route, Routed, Target, Verified, Verify
from refmta.wire.reply import Reply


class DomainSlice(msgspec.Struct, frozen=True, kw_only=True):
    """One local domain; addresses as texts."""

    mailboxes: tuple[str, ...] = ()
    system_users: bool = False
    aliases: dict[str, tuple[str, ...]] = {}
    catch_all: str = ""


class RelaySlice(msgspec.Struct, frozen=True, kw_only=True):
    """Who may relay, and by which next hop; networks and hops as texts."""

    networks: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    next_hops: dict[str, str] = {}
    smarthost: str = ""


class RewriteSlice(msgspec.Struct, frozen=True, kw_only=True):
    """The operator's maps, as texts (`protocol.rewriting`)."""

    canonical: dict[str, str] = {}
    virtual: dict[str, tuple[str, ...]] = {}
    generic: dict[str, str] = {}


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """resolve's configuration.  users: those of the configuration, besides the machine's."""

    hostname: str
    postmaster: str
    domains: dict[str, DomainSlice]
    literals: tuple[str, ...] = ()
    separator: str = "+"
    users: tuple[str, ...] = ()
    relay: RelaySlice = RelaySlice()
    rewrite: RewriteSlice = RewriteSlice()


Rewrite = Callable[[routing.Table, Mailbox], Mailbox | routing.Rejected]
#: How often a routing is begun anew; each time leads one alias further, so this is not reached.
PASSES: Final = 2 * routing.LEVELS
AWAY: Final = "nobody can say now whether this user exists; try again"


def table(config: Slice) -> routing.Table:
    """The routing table.  Raises AddressError, and ValueError for a network, a hop or a map."""
    return routing.Table(
        hostname=config.hostname.lower(),
        postmaster=parse_mailbox(config.postmaster),
        domains={name.lower(): _domain(each) for name, each in config.domains.items()},
        literals=frozenset(filter(None, map(relaying.literal, config.literals))),
        separator=config.separator,
        relaying=relay_rules(config.relay),
        rewriting=maps(config.rewrite, config.separator),
    )


def maps(rewrite: RewriteSlice, separator: str) -> Rewriting:
    """The operator's maps.  Raises ValueError (AddressError is one)."""
    return Rewriting(
        canonical={
            rewriting.parse_key(key): (rewriting.parse_member(member),)
            for key, member in rewrite.canonical.items()
        },
        virtual={
            rewriting.parse_key(key): tuple(map(rewriting.parse_member, members))
            for key, members in rewrite.virtual.items()
        },
        generic={
            rewriting.parse_key(key): (rewriting.parse_member(member),)
            for key, member in rewrite.generic.items()
        },
        separator=separator,
    )


def relay_rules(relay: RelaySlice) -> relaying.Relaying:
    """Who may relay.  Raises ValueError."""
    return relaying.Relaying(
        networks=tuple(map(relaying.parse_network, relay.networks)),
        domains=frozenset(each.lower() for each in relay.domains),
        next_hops={
            name.lower(): str(relaying.parse_hop(hop)) for name, hop in relay.next_hops.items()
        },
        smarthost=str(relaying.parse_hop(relay.smarthost)) if relay.smarthost else "",
    )


def _domain(domain: DomainSlice) -> routing.Domain:
    return routing.Domain(
        mailboxes=frozenset(each.lower() for each in domain.mailboxes),
        system_users=domain.system_users,
        aliases={
            name.lower(): tuple(map(parse_mailbox, members))
            for name, members in domain.aliases.items()
        },
        catch_all=parse_mailbox(domain.catch_all) if domain.catch_all else None,
    )


class Resolve:
    """Decides; keeps nothing between questions but what `Users` remembers."""

    def __init__(self, config: Slice) -> None:
        self._table = table(config)
        self.users = Users(config.users)
        #: Addresses for which another one was said.
        self.rewritten = 0

    def at_once(self, question: Message) -> Message | None:
        """The answer, from what is known; None to what is no question.  Raises Later."""
        try:
            return self._answer(question, self.users)
        except Unasked:
            raise Later from None

    async def in_time(self, question: Message) -> Message | None:
        """The answer, whoever has to be asked for it."""
        for _ in range(PASSES):
            unknown: set[str] = set()
            answer = self._answer(question, self._supposing(unknown))
            if not unknown:
                return answer
            if not await self._ask(unknown):
                break
        return _away(question)

    def _supposing(self, unknown: set[str]) -> routing.IsUser:
        """As if whoever is unknown existed; who that is, is noted."""

        def is_user(name: str) -> bool:
            try:
                return self.users(name)
            except Unasked:
                unknown.add(name)
                return True

        return is_user

    async def _ask(self, names: set[str]) -> bool:
        """Ask about all of them at once; whether all were answered."""
        answered: list[str] = []

        async def one(name: str) -> None:
            with contextlib.suppress(AccountsAway):
                await self.users.ask(name)
                answered.append(name)

        async with trio.open_nursery() as nursery:
            for name in sorted(names):
                nursery.start_soon(one, name)
        return len(answered) == len(names)

    def _answer(self, question: Message, is_user: routing.IsUser) -> Message | None:
        match question:
            case Verify():
                return self._verify(question, is_user)
            case Route():
                return self._route(question, is_user)
        return None

    def _verify(self, question: Verify, is_user: routing.IsUser) -> Verified:
        mailbox = _parse(question.recipient)
        if mailbox is None:
            return Verified(code=553, enhanced="5.1.3", text="bad recipient address")
        answer = routing.verify(self._table, mailbox, is_user, question.client)
        if isinstance(answer, routing.Rejected):
            return Verified(
                code=answer.reply.code,
                enhanced=answer.reply.enhanced or "",
                text=_text(answer.reply),
            )
        return Verified(
            code=250,
            enhanced="2.1.5",
            text="",
            recipient=self._instead(question.recipient, routing.entering),
            reverse_path=self._instead(question.reverse_path, routing.entering),
        )

    def _route(self, question: Route, is_user: routing.IsUser) -> Routed:
        mailbox = _parse(question.recipient)
        if mailbox is None:
            return _refused(question, 553, "5.1.3", "bad recipient address")
        answer = routing.route(self._table, mailbox, is_user)
        if isinstance(answer, routing.Rejected):
            reply = answer.reply
            return _refused(question, reply.code, reply.enhanced or "", _text(reply))
        targets = tuple(
            Target(
                kind=target.kind, user=target.user, mailbox=target.mailbox, address=target.address
            )
            for target in answer.targets
        )
        return Routed(
            reference=question.reference,
            code=250,
            enhanced="2.1.5",
            text="",
            targets=targets,
            reverse_path=self._instead(question.reverse_path, routing.leaving_as),
        )

    def _instead(self, address: str, rewrite: Rewrite) -> str:
        """What stands for an address; empty if it stays, as the null reverse-path does."""
        mailbox = _parse(address) if address else None
        if mailbox is None:
            return ""
        found = rewrite(self._table, mailbox)
        if isinstance(found, routing.Rejected) or found == mailbox:
            return ""
        self.rewritten += 1
        return str(found)


def _parse(text: str) -> Mailbox | None:
    try:
        return parse_mailbox(text)
    except AddressError:
        return None


def _text(reply: Reply) -> str:
    return " ".join(reply.lines)[:1000]


def _away(question: Message) -> Message | None:
    match question:
        case Verify():
            return Verified(code=451, enhanced="4.3.0", text=AWAY)
        case Route():
            return _refused(question, 451, "4.3.0", AWAY)
    return None


def _refused(question: Route, code: int, enhanced: str, text: str) -> Routed:
    return Routed(reference=question.reference, code=code, enhanced=enhanced, text=text)


async def run(context: Context, journal: Journal) -> None:
    """The role: answer until drained."""
    role = Resolve(context.slice("resolve", Slice))
    service = Service(role.at_once, role.in_time, overtakes=(Route,))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(role.users.listen, context.port("accounts"))
        for port in ("smtpd", "qmgr"):
            nursery.start_soon(service.accept, context, port, nursery)
        context.ready()
        await context.draining.wait()
        nursery.cancel_scope.cancel()
    books = service.books
    journal.info(
        "answered",
        answers=books.answered,
        waited=books.waited,
        rewritten=role.rewritten,
        per_answer_us=books.per_answer_us(),
    )
