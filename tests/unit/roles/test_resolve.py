"""resolve over both carriers: every question gets its one answer, in order, and nobody is asked."""

from __future__ import annotations

import pwd
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio

from refmta.journal import journal
from refmta.patterns.compartmentalization import Context, Linked
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, border
from refmta.processes.channels import local_channels, socket_channels
from refmta.roles import resolve
from refmta.roles.resolve import DomainSlice, RelaySlice, Slice
from refmta.wire.messages import Message, Route, Routed, Target, Verified, Verify

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
    reserved=((0, 1000), (60_000, 65_536), (1_900_000_000, 1_900_001_000)),
)  # fmt: skip

DATABASE = {
    "grace": 5000, "virtual": 5001, "daemon": 1, "nobody": 65534, "mole": 1_900_000_003,
    "last": 59_999,
}  # fmt: skip


@pytest.fixture(autouse=True)
def users(monkeypatch: pytest.MonkeyPatch) -> None:
    def getpwnam(name: str) -> pwd.struct_passwd:
        if "\0" in name:
            raise ValueError("embedded null byte")
        return pwd.struct_passwd((name, "x", DATABASE[name], DATABASE[name], "", "/", ""))

    monkeypatch.setattr(pwd, "getpwnam", getpwnam)


@asynccontextmanager
async def peer(pair: Pair, role: str = "smtpd") -> AsyncIterator[Channel]:
    """resolve at work, and a channel to it."""
    context = Context(slices={"resolve": msgspec.msgpack.encode(CONFIG)})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(resolve.run, context, journal("resolve"))
        near, far = pair(border(role, "resolve"))
        context.port(role).put(Linked(far))
        yield near
        near.close()
        await trio.testing.wait_all_tasks_blocked()
        context.draining.set()


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
        routed, refused, bad = await ask(
            channel,
            Route(reference=7, recipient="all+x@example.org"),
            Route(reference=8, recipient="stranger@example.org"),
            Route(reference=9, recipient="@"),
        )
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
