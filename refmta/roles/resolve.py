"""resolve: the resident service that answers questions about addresses, and asks none.

smtpd asks at RCPT whether we take mail for a recipient from its client; qmgr asks where it goes.
`protocol.routing` decides; this file adds the one thing that is not pure, the machine's user
database.  It makes no connection and asks no DNS: whoever it names as destination, `remote` finds.
"""

from __future__ import annotations

import pwd

import msgspec
import trio

from refmta.journal import Journal
from refmta.patterns.compartmentalization import Context
from refmta.patterns.trust_partitioning import Channel, ChannelBroken
from refmta.protocol import relaying, routing
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


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """resolve's configuration.  `users`: users besides those of the machine; the reserved range
    of user ids (of the compartments) never receives mail.
    """

    hostname: str
    postmaster: str
    domains: dict[str, DomainSlice]
    literals: tuple[str, ...] = ()
    separator: str = "+"
    users: tuple[str, ...] = ()
    #: Whose passwd entries receive no mail: system users, `nobody` and its kin, compartments.
    reserved: tuple[tuple[int, int], ...] = ()
    relay: RelaySlice = RelaySlice()


def table(config: Slice) -> routing.Table:
    """The routing table.  Raises AddressError, and ValueError for a network or a hop."""
    return routing.Table(
        hostname=config.hostname.lower(),
        postmaster=parse_mailbox(config.postmaster),
        domains={name.lower(): _domain(each) for name, each in config.domains.items()},
        literals=frozenset(filter(None, map(relaying.literal, config.literals))),
        separator=config.separator,
        relaying=relay_rules(config.relay),
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


class Users:
    """Who has a mailbox on this machine."""

    def __init__(self, config: Slice) -> None:
        self._named = frozenset(config.users)
        self._reserved = config.reserved

    def __call__(self, name: str) -> bool:
        if name == routing.VIRTUAL_OWNER:  # an account of that name is not he
            return False
        if name in self._named:
            return True
        try:
            uid = pwd.getpwnam(name).pw_uid
        except (KeyError, ValueError):
            return False
        return not any(low <= uid < high for low, high in self._reserved)


class Resolve:
    """Answers; keeps nothing between questions."""

    def __init__(self, config: Slice) -> None:
        self._table = table(config)
        self._is_user = Users(config)

    def answer(self, question: Message) -> Message | None:
        """The answer to one question; None for what is none."""
        match question:
            case Verify():
                return self._verify(question)
            case Route():
                return self._route(question)
        return None

    def _verify(self, question: Verify) -> Verified:
        mailbox = _parse(question.recipient)
        if mailbox is None:
            return Verified(code=553, enhanced="5.1.3", text="bad recipient address")
        answer = routing.verify(self._table, mailbox, self._is_user, question.client)
        if isinstance(answer, routing.Rejected):
            return Verified(
                code=answer.reply.code,
                enhanced=answer.reply.enhanced or "",
                text=_text(answer.reply),
            )
        return Verified(code=250, enhanced="2.1.5", text="")

    def _route(self, question: Route) -> Routed:
        mailbox = _parse(question.recipient)
        if mailbox is None:
            return _refused(question, 553, "5.1.3", "bad recipient address")
        answer = routing.route(self._table, mailbox, self._is_user)
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
            reference=question.reference, code=250, enhanced="2.1.5", text="", targets=targets
        )

    async def serve(self, channel: Channel) -> None:
        """Answer one peer until it goes away."""
        try:
            while True:
                for item in await channel.receive():
                    answer = None if item.message is None else self.answer(item.message)
                    if answer is not None:
                        channel.post(answer)
                await channel.flush()
        except ChannelBroken:
            channel.close()


def _parse(text: str) -> Mailbox | None:
    try:
        return parse_mailbox(text)
    except AddressError:
        return None


def _text(reply: Reply) -> str:
    return " ".join(reply.lines)[:1000]


def _refused(question: Route, code: int, enhanced: str, text: str) -> Routed:
    return Routed(reference=question.reference, code=code, enhanced=enhanced, text=text)


async def run(context: Context, journal: Journal) -> None:
    """The role: answer until drained."""
    del journal  # its answers are logged by those who act on them
    role = Resolve(context.slice("resolve", Slice))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_accept, context, "smtpd", role, nursery)
        nursery.start_soon(_accept, context, "qmgr", role, nursery)
        context.ready()
        await context.draining.wait()
        nursery.cancel_scope.cancel()


async def _accept(context: Context, port: str, role: Resolve, nursery: trio.Nursery) -> None:
    while True:
        linked = await context.port(port).get()
        nursery.start_soon(role.serve, linked.channel)
