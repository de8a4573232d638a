"""Real servers as targets: each lives, is killed, lives again, and hands out what it was given.

What is asserted is what the harnesses rest on: letters come through octet for octet; the account of
the ledger is balanced with what lies in mailboxes, at next hops and in the listed queue; a spool
that a dead life has left is taken up, by the same object, and a copy of it by another; nothing
stays behind.

A sample, in minutes; with REFMTA_FAULTS=all in the environment a storm on each.
"""

from __future__ import annotations

import contextvars
import os
import smtplib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from faultinject import letters, networks
from faultinject.books import Answer, Books, Sending
from faultinject.collect import BookedHop, book_mailboxes, book_queue
from faultinject.ledger import judge
from faultinject.letters import Copy
from faultinject.overlay import scratch
from faultinject.peers.aiosmtpd import aiosmtpd
from faultinject.peers.exim import exim
from faultinject.peers.opensmtpd import opensmtpd
from faultinject.peers.peer import Peer
from faultinject.peers.postfix import postfix
from faultinject.peers.qmail import qmail
from faultinject.peers.sendmail import sendmail
from faultinject.processes import look, strike_all
from faultinject.storm import Plan, Storm
from faultinject.target import Site, TargetError, Waiting, known
from tests.provision import tool

pytestmark = [pytest.mark.needs("overlay", "dnsmasq"), pytest.mark.timeout(700)]
MAKERS = {maker().name: maker for maker in (postfix, exim, opensmtpd, sendmail, aiosmtpd, qmail)}
RELAYS = [name for name in MAKERS if name != "aiosmtpd"]
ADA, BOB = "ada@storm.example", "bob@storm.example"
NEAR, LOST, BY_MX = "r1@near.example", "r1@lost.example", "r1@mx.example"
DNS, MX = "127.0.0.253", "127.0.1.25"
#: Until all that is to come has come, on a machine that has other things to do.
PATIENCE_S = 120.0
ALL = os.environ.get("REFMTA_FAULTS") == "all"
#: Who is met by a storm: one that relays, and one that promises nothing.
STRUCK = tuple(MAKERS) if ALL else ("sendmail", "aiosmtpd")


def made(name: str) -> Peer:
    """Installed."""
    target = MAKERS[name]()
    why = target.unavailable()
    if why is not None:
        pytest.skip(f"unavailable: {name} ({why})")  # qmail is listed; any other fails the run
    target.install()
    return target


@pytest.fixture
def place() -> Iterator[Path]:
    with scratch("peers-test") as (directory, _):
        (directory / "site").mkdir()
        yield directory / "site"


@contextmanager
def name_server() -> Iterator[None]:
    """Knows that mail for mx.example goes to MX."""
    rows = ["--mx-host=mx.example,host.example,10", f"--host-record=host.example,{MX}"]
    rows += ["--local=/#/", "--no-resolv", "--no-hosts", "--user=root", "--pid-file="]
    line, inherited = networks.command(
        tool("dnsmasq") or "dnsmasq", "--keep-in-foreground", "--conf-file=",
        f"--listen-address={DNS}", "--bind-interfaces", *rows,
    )  # fmt: skip
    server = subprocess.Popen(line, pass_fds=inherited, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        server.kill()
        server.wait()


class World:
    """One target, a live next hop, one that is found by DNS, and one that comes later."""

    def __init__(self, target: Peer, directory: Path) -> None:
        self.target, self.directory, self.books = target, directory, Books()
        self.ports: dict[str, int] = {}

    def site(self) -> Site:
        return Site(
            directory=self.directory, hostname="mx.storm.example", domain="storm.example",
            users=("ada", "bob"), next_hops=self.ports, nameserver=DNS,
        )  # fmt: skip

    async def hop(self, nursery: trio.Nursery, port: int = 0, host: str = "127.0.0.1") -> int:
        found: int = await nursery.start(BookedHop(keep_content=True, books=self.books).serve,
                                         port, host)  # fmt: skip
        return found

    def send(self, number: int, recipients: tuple[str, ...]) -> None:
        """A letter from ada; it is promised, or the test fails."""
        octets = letters.compose("life", number, 1, ADA, recipients)
        with smtplib.SMTP(*self.target.address, timeout=30) as client:
            assert client.sendmail(ADA, list(recipients), octets) == {}
        self.books.sendings[Copy(letters.token_of("life", number), 1)] = Sending(
            sender=ADA, recipients=recipients, digest=letters.digest(octets),
            answer=Answer.ACKNOWLEDGED,
        )  # fmt: skip

    def account(self, queued: tuple[Waiting, ...]) -> dict[str, int]:
        """What became of all letters, and every finding."""
        book_mailboxes(self.books, self.target.mailboxes())
        book_queue(self.books, queued)
        found = judge(self.books, self.target.windows)
        sums = {"delivered": found.delivered, "reported": found.reported, "queued": found.queued}
        return sums | {f"{each.name}: {each.text}": 1 for each in found.findings}


async def thread(call: Callable[..., object], *arguments: object) -> None:
    await trio.to_thread.run_sync(lambda: networks.within(lambda: call(*arguments)))


async def wait_for(condition: Callable[[], bool], target: Peer, *, flush: bool = False) -> None:
    deadline, next_s = time.monotonic() + PATIENCE_S, 0.0
    while not condition():
        assert time.monotonic() < deadline, target.log_end()
        if flush and time.monotonic() >= next_s:
            next_s = time.monotonic() + 2
            await thread(target.flush)
        await trio.sleep(0.05)


def arrived(world: World, count: int) -> Callable[[], bool]:
    """Whether so many recipients have their letters, or reports lie in mailboxes."""

    def condition() -> bool:
        boxes = [each for each in world.target.mailboxes().values() if each.is_dir()]
        delivered = sum(len(list(box.iterdir())) for box in boxes)
        return delivered + len(world.books.found) >= count

    return condition


@pytest.mark.parametrize("name", RELAYS)
def test_a_relay_delivers_reports_queues_and_survives(name: str, place: Path) -> None:
    """Two mailboxes, a next hop, one by MX, one that refuses, one that is down until the end."""
    target = made(name)
    world = World(target, place)
    roots: list[int] = []

    async def first_life(nursery: trio.Nursery) -> None:
        world.ports = {"near.example": await world.hop(nursery), "lost.example": 1}
        await world.hop(nursery, 25, MX)
        await thread(target.configure, world.site())
        await thread(target.start)
        roots.append(target.overlay.init)
        await thread(world.send, 1, (ADA, BOB))
        await thread(world.send, 2, (ADA, NEAR, BY_MX))
        await thread(world.send, 3, ("refused@near.example",))
        await thread(world.send, 4, (LOST,))
        await wait_for(arrived(world, 6), target)
        assert {target.main_role} <= {each.role for each in target.processes()}
        await wait_for(lambda: target.waiting() >= 1, target)
        assert strike_all(target.processes)
        assert not target.alive()
        await thread(target.recover)
        assert target.alive()
        await wait_for(lambda: target.waiting() >= 1, target)
        await thread(world.send, 5, (BOB,))
        await wait_for(arrived(world, 7), target)
        await thread(target.stop)
        assert target.processes() == []

    async def second_life(nursery: trio.Nursery) -> None:
        """Elsewhere: numbers of files that names are made from (Postfix) are others there."""
        world.ports = world.ports | {"lost.example": await world.hop(nursery)}
        world.directory = place.with_name("copy")
        subprocess.run(["cp", "-a", place, world.directory], check=True)
        world.target = again = MAKERS[name]()
        await thread(again.configure, world.site())
        try:
            await thread(again.start)
            await wait_for(lambda: again.waiting() == 0, again, flush=True)
            assert await trio.to_thread.run_sync(again.stop) == ()
            assert again.queued() == ()
        finally:
            await thread(again.dispose)

    async def lives() -> None:
        async with trio.open_nursery() as nursery:
            await first_life(nursery)
            queued = target.queued()
            assert [each.recipients for each in queued] == [(LOST,)]
            await thread(target.dispose)
            assert target.queued() == queued
            await second_life(nursery)
            nursery.cancel_scope.cancel()

    with networks.around(target), name_server():
        try:
            trio.run(lives)
        finally:
            target.dispose()
    assert world.account(()) == {"delivered": 7, "reported": 1, "queued": 0}
    assert look(roots[0]) is None and target.processes() == []


@pytest.mark.parametrize("name", STRUCK)
def test_a_storm_knows_it_by_the_protocol_alone(name: str, place: Path) -> None:
    """Killed at every role; what is found is nothing, or known."""
    target = made(name)
    plan = Plan(messages=40, seconds=5, seed=3, clients=4, hits=0, drain_s=PATIENCE_S)
    with networks.around(target):
        result = trio.run(Storm(target, plan, place, lambda _: None).run)
    found = {f"{each.name}: {each.text}" for each in result.findings
             if each.name not in known(target, "storm")}  # fmt: skip
    assert found == set(), target.log_end()
    assert result.letters_acknowledged == plan.messages
    assert result.hits.total() >= 1, "how many more is a matter of how soon it starts again"


def test_two_of_a_kind_live_in_one_network(place: Path) -> None:
    """Configured at the same moment, each has an address of its own."""
    both = [made("opensmtpd"), made("opensmtpd")]
    for number in range(2):
        (place / str(number)).mkdir()
        (place / str(number)).chmod(0o711)
    place.chmod(0o711)

    def configure(number: int) -> None:
        world = World(both[number], place / str(number))
        networks.within(lambda: both[number].configure(world.site()))

    with networks.around(both[0]):
        context = contextvars.copy_context()
        threads = [
            threading.Thread(target=context.copy().run, args=(configure, number))
            for number in range(2)
        ]
        try:
            for each in threads:
                each.start()
            for each in threads:
                each.join()
            assert len({target.address for target in both}) == 2
            for number, target in enumerate(both):
                target.start()
                World(target, place / str(number)).send(1, (ADA,))
        finally:
            for target in both:
                target.dispose()


def test_what_the_queue_does_not_tell_is_lost(place: Path) -> None:
    """Control: the same account without the queue's list finds the letter lost, by that name."""
    target = made("opensmtpd")
    world = World(target, place)
    world.ports = {"lost.example": 1}

    def life() -> tuple[Waiting, ...]:
        target.configure(world.site())
        target.start()
        world.send(1, (LOST,))
        target.stop()
        return target.queued()

    with networks.around(target):
        try:
            queued = life()
        finally:
            target.dispose()
    assert {key.split(":")[0] for key in world.account(()) if ":" in key} == {"lost"}
    assert world.account(queued) == {"delivered": 0, "reported": 0, "queued": 1}


def test_a_server_that_does_not_start_says_why(place: Path, monkeypatch) -> None:
    target = made("opensmtpd")
    monkeypatch.setattr("faultinject.peers.opensmtpd.CONFIGURATION", "listen on nonsense\n")
    with networks.around(target):
        try:
            target.configure(World(target, place).site())
            with pytest.raises(TargetError, match="does not answer"):
                target.start()
        finally:
            target.dispose()


def test_what_the_machine_lacks_is_said() -> None:
    """qmail: an adapter to an installed one."""
    why = qmail().unavailable()
    assert (why is None) == Path("/var/qmail/bin/qmail-send").exists()
