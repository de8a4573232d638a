"""resolve over both carriers: every question gets its one answer, and users are asked of accounts.

Questions of smtpd are answered in order, also where one of them has to wait; those of qmgr, which
are numbered, may overtake one that waits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
import pytest
import trio

from refmta.journal import journal
from refmta.patterns.compartmentalization import Context, Linked
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes.channels import local_channels, socket_channels
from refmta.roles import resolve
from refmta.roles.resolve import DomainSlice, RelaySlice, RewriteSlice, Slice
from refmta.wire.messages import (
    Account,
    Lookup,
    Message,
    Route,
    Routed,
    Target,
    Verified,
    Verify,
)

both = pytest.mark.parametrize("pair", [socket_channels, local_channels])
Pair = Callable[..., tuple[Channel, Channel]]

CONFIG = Slice(
    hostname="mx.example.org",
    postmaster="ada@example.org",
    domains={
        "Example.ORG": DomainSlice(
            mailboxes=("ada",), system_users=True,
            aliases={"All": ("ada@example.org", "grace@example.org"), "gone": ("x@example.com",)},
        ),
        "caught.example": DomainSlice(catch_all="ada@example.org"),
    },
    literals=("[127.0.0.1]",),
    relay=RelaySlice(
        networks=("127.0.0.0/8", "2001:db8::/32"), domains=("Backup.example",),
        next_hops={"Hop.example": "[::1]:2526"}, smarthost="Smart.example:587",
    ),
    users=("listed",),
)  # fmt: skip

#: Whom accounts knows, and may receive mail (`roles.accounts` leaves out whoever may not).
DATABASE = ("grace", "last")


@dataclass
class Database:
    """accounts, as a script: whom there is, and whether it answers at all."""

    answering: trio.Event = field(default_factory=trio.Event)
    asked: list[str] = field(default_factory=list)
    unknown: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.answering.set()

    async def serve(self, channel: Channel) -> None:
        try:
            while True:
                for item in await channel.receive():
                    assert isinstance(item.message, Lookup)
                    self.asked.append(item.message.name)
                    await self.answering.wait()
                    channel.post(self._answer(item.message))
                await channel.flush()
        except ChannelBroken:
            channel.close()

    def _answer(self, question: Lookup) -> Account:
        if question.name in self.unknown:
            return Account(reference=question.reference, exists="unknown")
        exists = "yes" if question.name in DATABASE else "no"
        return Account(reference=question.reference, exists=exists)


@dataclass
class World:
    """resolve at work, with accounts behind it."""

    context: Context
    pair: Pair
    accounts: Channel

    def link(self, role: str) -> Channel:
        near, far = self.pair(border(role, "resolve"))
        self.context.port(role).put(Linked(far))
        return near


@asynccontextmanager
async def world(
    pair: Pair, config: Slice = CONFIG, database: Database | None = None
) -> AsyncIterator[World]:
    context = Context(slices={"resolve": msgspec.msgpack.encode(config)})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(resolve.run, context, journal("resolve"))
        ours, theirs = pair(border("resolve", "accounts"))
        nursery.start_soon((database or Database()).serve, theirs)
        context.port("accounts").put(Linked(ours))
        yield World(context, pair, theirs)
        context.draining.set()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def peer(
    pair: Pair, role: str = "smtpd", config: Slice = CONFIG, database: Database | None = None
) -> AsyncIterator[Channel]:
    """resolve at work, and a channel to it."""
    async with world(pair, config, database) as here:
        near = here.link(role)
        yield near
        near.close()
        await trio.testing.wait_all_tasks_blocked()


async def ask(channel: Channel, *questions: Message) -> list[Message | None]:
    for each in questions:
        channel.post(each)
    await channel.flush()
    answers: list[Message | None] = []
    while len(answers) < len(questions):
        answers += [each.message for each in await channel.receive()]
    return answers


@both
@pytest.mark.parametrize(
    ("recipient", "code"),
    [
        ("ada@example.org", 250), ("Ada@EXAMPLE.org", 250), ("ada+x@example.org", 250),
        ("all@example.org", 250), ("ALL@example.org", 250), ("listed@example.org", 250),
        ("grace@example.org", 250), ("last@example.org", 250), ("anyone@caught.example", 250),
        ("postmaster@mx.example.org", 250), ("postmaster@[127.0.0.1]", 250),
        ("virtual@example.org", 550), ("daemon@example.org", 550), ("nobody@example.org", 550),
        ("mole@example.org", 550),
        ("stranger@example.org", 550), ("gone@example.org", 250), ("ada@example.com", 550),
        ("any@backup.example", 250), ("any@sub.backup.example", 550), ("ada@[127.0.0.2]", 550),
        ('"a\\\\b"@example.org', 550), ("ada", 553), ("", 553), ("a@b@c", 553),
    ],
)  # fmt: skip
async def test_a_recipient_is_ours_or_refused(pair: Pair, recipient: str, code: int):
    async with peer(pair) as channel:
        (answer,) = await ask(channel, Verify(recipient=recipient))
        assert isinstance(answer, Verified) and answer.code == code
        assert (answer.text == "") == (code == 250)


@both
@pytest.mark.parametrize(
    ("client", "code"),
    [
        ("127.0.0.1", 250), ("127.255.255.255", 250), ("::ffff:127.0.0.1", 250),
        ("2001:db8::7", 250), ("2001:db8:ffff::%lo", 250),
        ("126.255.255.255", 550), ("128.0.0.0", 550), ("::1", 550), ("2001:db9::", 550),
        ("::ffff:128.0.0.0", 550), ("::127.0.0.1", 550), ("", 550), ("localhost", 550),
        ("127.0.0.1 ", 550), ("127.1", 550), ("2130706433", 550), ("127.0.0.1/8", 550),
    ],
)  # fmt: skip
async def test_who_may_relay_is_a_matter_of_the_clients_address(pair: Pair, client: str, code: int):
    async with peer(pair) as channel:
        away, ours = await ask(
            channel,
            Verify(recipient="eve@example.com", client=client),
            Verify(recipient="ada@example.org", client=client),
        )
        assert isinstance(away, Verified) and isinstance(ours, Verified)
        assert (away.code, ours.code) == (code, 250)
        assert away.enhanced == ("2.1.5" if code == 250 else "5.7.1")


@both
@pytest.mark.parametrize(
    ("recipient", "destination"),
    [
        ("Eve@HOP.example", "[IPv6:::1]:2526"),
        ("eve@elsewhere.example", "smart.example:587"),
        ("eve@[192.0.2.1]", "smart.example:587"),
    ],
)
async def test_a_route_that_leads_away_names_the_next_hop(
    pair: Pair, recipient: str, destination: str
):
    """Whoever may relay: qmgr asks for mail that was taken, or that we wrote."""
    async with peer(pair, "qmgr") as channel:
        (routed,) = await ask(channel, Route(reference=1, recipient=recipient))
        address = recipient.replace("HOP", "hop")
        (target,) = routed.targets
        assert target == Target(kind="remote", user=destination, mailbox=address, address=address)


@both
async def test_questions_are_answered_in_their_order(pair: Pair):
    async with peer(pair) as channel:
        names = ["ada", "stranger", "grace", "mole"] * 50
        answers = await ask(channel, *(Verify(recipient=f"{n}@example.org") for n in names))
        assert [each.code for each in answers] == [250, 550, 250, 550] * 50


@both
async def test_a_route_names_every_target_once(pair: Pair):
    async with peer(pair, "qmgr") as channel:
        answers = await ask(
            channel,
            Route(reference=7, recipient="all+x@example.org"),
            Route(reference=8, recipient="stranger@example.org"),
            Route(reference=9, recipient="@"),
        )
        routed, refused, bad = sorted(answers, key=lambda each: each.reference)
        assert routed == Routed(
            reference=7, code=250, enhanced="2.1.5", text="",
            targets=(
                Target(kind="virtual", user="virtual", mailbox="example.org/ada",
                       address="ada@example.org"),
                Target(kind="system", user="grace", mailbox="Maildir", address="grace@example.org"),
            ),
        )  # fmt: skip
        assert (refused.reference, refused.code, refused.targets) == (8, 550, ())
        assert (bad.reference, bad.code, bad.targets) == (9, 553, ())


@both
async def test_what_is_verified_can_be_routed_and_the_reverse(pair: Pair):
    names = ["ada", "grace", "listed", "all", "gone", "mole", "stranger", "postmaster", "nobody"]
    async with peer(pair) as smtpd, peer(pair, "qmgr") as qmgr:
        for name in names:
            recipient = f"{name}@example.org"
            (verified,) = await ask(smtpd, Verify(recipient=recipient))
            (routed,) = await ask(qmgr, Route(reference=1, recipient=recipient))
            assert (verified.code == 250) == bool(routed.targets), name


async def test_who_asks_what_is_not_his_business_is_cut_off_and_others_are_served():
    async with peer(socket_channels) as channel, peer(socket_channels) as other:
        channel.post(Route(reference=1, recipient="ada@example.org"))
        await channel.flush()
        with pytest.raises(ChannelBroken):
            await channel.receive()
        (answer,) = await ask(other, Verify(recipient="ada@example.org"))
        assert answer.code == 250


# -- users of the machine -------------------------------------------------------------------------


@both
async def test_a_user_is_asked_of_accounts_once_and_remembered(pair: Pair):
    database = Database()
    async with peer(pair, database=database) as channel:
        for _ in range(3):
            for name, code in (("grace", 250), ("stranger", 550), ("listed", 250), ("ada", 250)):
                (answer,) = await ask(channel, Verify(recipient=f"{name}@example.org"))
                assert answer.code == code, name
    assert database.asked == ["grace", "stranger"]


@both
async def test_without_system_users_nobody_is_asked(pair: Pair):
    domains = {"example.org": DomainSlice(mailboxes=("ada",), catch_all="ada@example.org")}
    config = msgspec.structs.replace(CONFIG, domains=domains)
    database = Database()
    async with peer(pair, config=config, database=database) as channel:
        for name in ("ada", "grace", "stranger", "postmaster"):
            (answer,) = await ask(channel, Verify(recipient=f"{name}@example.org"))
            assert answer.code == 250
    assert database.asked == []


@both
async def test_nobody_is_refused_for_good_while_accounts_does_not_know(pair: Pair):
    database = Database(unknown=frozenset({"grace"}))
    async with world(pair, database=database) as here:
        smtpd, qmgr = here.link("smtpd"), here.link("qmgr")
        (verified,) = await ask(smtpd, Verify(recipient="grace@example.org"))
        assert (verified.code, verified.enhanced) == (451, "4.3.0")
        (routed,) = await ask(qmgr, Route(reference=3, recipient="all@example.org"))
        assert (routed.reference, routed.code, routed.targets) == (3, 451, ())


@both
async def test_accounts_away_is_no_no_either(pair: Pair):
    database = Database(answering=trio.Event())
    database.answering = trio.Event()  # it never answers
    async with world(pair, database=database) as here:
        smtpd = here.link("smtpd")
        smtpd.post(Verify(recipient="grace@example.org"))
        await smtpd.flush()
        await trio.testing.wait_all_tasks_blocked()
        here.accounts.close()  # and dies
        (answer,) = [each.message for each in await smtpd.receive()]
        assert answer.code == 451


@both
async def test_smtpds_answers_keep_their_order_and_qmgrs_may_overtake(pair: Pair):
    database = Database()
    database.answering = trio.Event()
    async with world(pair, database=database) as here:
        smtpd, qmgr, other = here.link("smtpd"), here.link("qmgr"), here.link("smtpd")
        for name in ("grace", "ada"):
            smtpd.post(Verify(recipient=f"{name}@example.org"))
            qmgr.post(Route(reference=len(name), recipient=f"{name}@example.org"))
        await smtpd.flush()
        await qmgr.flush()
        (early,) = [each.message for each in await qmgr.receive()]
        assert early.reference == len("ada")  # known: it does not wait for grace
        (answer,) = await ask(other, Verify(recipient="ada@example.org"))
        assert answer.code == 250  # nor does anybody else
        database.answering.set()
        (late,) = [each.message for each in await qmgr.receive()]
        assert late.reference == len("grace") and late.targets
        codes: list[int] = []
        while len(codes) < 2:
            codes += [each.message.code for each in await smtpd.receive()]
        assert codes == [250, 250]


@both
async def test_an_alias_of_many_users_is_asked_at_once(pair: Pair):
    """Two passes, whatever the number: quadratic work would be a way to stop the service."""
    names = [f"user{number}" for number in range(500)]
    members = tuple(f"{name}@example.org" for name in names)
    domains = {"example.org": DomainSlice(system_users=True, aliases={"all": members})}
    config = msgspec.structs.replace(CONFIG, domains=domains, postmaster="all@example.org")
    database = Database()
    async with peer(pair, "qmgr", config, database) as channel:
        (routed,) = await ask(channel, Route(reference=1, recipient="all@example.org"))
        assert routed.code == 550  # nobody is there, and the first one is named
    assert sorted(database.asked) == sorted(names)


# -- rewriting ------------------------------------------------------------------------------------

MAPPED = msgspec.structs.replace(
    CONFIG,
    rewrite=RewriteSlice(
        canonical={
            "@old.example": "@example.org",
            "ada.l": "ada@example.org",
            "loop": "loop+x@example.org",
        },
        virtual={"both@example.org": ("ada@example.org", "eve@hop.example")},
        generic={"@example.org": "@public.example", "eve@hop.example": "Eve@hop.example"},
    ),
)  # fmt: skip


@both
@pytest.mark.parametrize(
    ("recipient", "sender", "means"),
    [
        ("ada@example.org", "", ("", "")),
        ("Ada.L@example.org", "", ("ada@example.org", "")),
        ("ada.l@example.org", "ada.l@example.org", ("ada@example.org", "ada@example.org")),
        ("ada@example.org", "x@OLD.example", ("", "x@example.org")),
        ("both@example.org", "x@example.net", ("", "")),  # virtual rows are for qmgr
        ("ada@example.org", "no address", ("", "")),
        ("ada@example.org", "loop@example.org", ("", "")),  # `check` refuses such a map
    ],
)
async def test_smtpd_hears_what_is_meant_with_the_verdict(
    pair: Pair, recipient: str, sender: str, means: tuple[str, str]
):
    async with peer(pair, config=MAPPED) as channel:
        (answer,) = await ask(channel, Verify(recipient=recipient, reverse_path=sender))
        assert answer.code == 250
        assert (answer.recipient, answer.reverse_path) == means


@both
async def test_who_is_refused_is_told_nothing(pair: Pair):
    async with peer(pair, config=MAPPED) as channel:
        for recipient in ("stranger@example.org", "ada@old.example", "loop@example.org", "@"):
            question = Verify(recipient=recipient, reverse_path="ada.l@example.org")
            (answer,) = await ask(channel, question)
            assert answer.code >= 500 and answer.recipient == answer.reverse_path == ""


@both
async def test_qmgr_hears_what_is_said_elsewhere(pair: Pair):
    async with peer(pair, "qmgr", MAPPED) as channel:
        question = Route(reference=1, recipient="both@example.org", reverse_path="ada@example.org")
        (routed,) = await ask(channel, question)
        here, there = routed.targets
        assert (here.kind, here.address) == ("virtual", "ada@example.org")
        assert (there.mailbox, there.address) == ("Eve@hop.example", "eve@hop.example")
        assert routed.reverse_path == "ada@public.example"
        (routed,) = await ask(channel, Route(reference=2, recipient="both@example.org"))
        assert routed.reverse_path == ""
        for each in routed.targets:  # what the queue remembers means the same again
            (again,) = await ask(channel, Route(reference=3, recipient=each.address))
            assert again.targets == (each,)


def test_without_maps_nothing_is_said_of_them():
    role = resolve.Resolve(CONFIG)
    answer = role.at_once(Verify(recipient="ada@example.org", reverse_path="ada@example.org"))
    assert answer == Verified(code=250, enhanced="2.1.5", text="")
