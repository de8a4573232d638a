"""qmail's carriers and qmail-clean, judged by rules, and a mutant of the real code for each rule.

The octets of `octets-are-qmails` are written down here from qmail's documents; no other rule knows
them from anywhere but `refmta.wire.qmail`.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final, cast

import trio

from refmta.journal import Journal
from refmta.patterns.trust_partitioning import Channel, ChannelBroken, Received, border
from refmta.processes.channels import socket_pair
from refmta.processes.qmail import cleaning, spawning, submitting
from refmta.roles import clean
from refmta.stores.disk import Disk
from refmta.wire import messages as said
from refmta.wire.envelope import Envelope, decode_envelope, encode_envelope
from specs.kernel.control import Control, Verdict
from specs.kernel.mutant import hits, mutate

ID: Final = "06H06TY2DFR20W5S"
#: How long anything may take, in seconds; only what hangs takes that long.
PATIENCE_S: Final = 2.0

SUBMIT: Final = said.Submit(
    reverse_path="ann@a.test", recipients=("bob@b.test", "cy@c.test"), client="192.0.2.1",
    helo="client.test", protocol="ESMTP",
)  # fmt: skip
HEAD: Final = encode_envelope(
    Envelope(
        queue_id=ID, arrival_s=1_795_000_000, reverse_path="ann@a.test",
        recipients=("bob@b.test", "cy@c.test", "dee@c.test"), client="192.0.2.1",
        helo="client.test", protocol="ESMTP",
    )
)  # fmt: skip
NULL_HEAD: Final = encode_envelope(
    Envelope(
        queue_id=ID, arrival_s=1, reverse_path="", recipients=("bob@b.test",), client="", helo="",
        protocol="",
    )
)  # fmt: skip


def deliver(reference: int, head: bytes = HEAD) -> said.Deliver:
    """A delivery to Bob's mailbox."""
    return said.Deliver(
        reference=reference, queue_id=ID, index=0, mailbox="Maildir", recipient="bob@b.test",
        user="bob", head=head,
    )  # fmt: skip


def relay(reference: int, count: int = 2, head: bytes = HEAD, instead: str = "") -> said.Relay:
    """A job for so many recipients at one destination."""
    recipients = [
        said.RelayRecipient(index=at + 1, address=f"{name}@c.test")
        for at, name in enumerate(("cy", "dee", "eve", "fay")[:count])
    ]
    return said.Relay(
        reference=reference, queue_id=ID, destination="c.test", recipients=tuple(recipients),
        reverse_path=instead, head=head,
    )  # fmt: skip


def outcome(reference: int, kind: str = "delivered", text: str = "done") -> said.Outcome:
    """An agent's answer."""
    enhanced = {"delivered": "2.0.0", "failed": "5.1.1"}.get(kind, "4.2.2")
    return said.Outcome(reference=reference, kind=cast(Any, kind), enhanced=enhanced, text=text)


def relayed(
    heard: said.Relay, kind: str = "delivered", standing: str = "alive", *, damaged: bool = False
) -> said.Relayed:
    """A remote agent's answer to a command."""
    one = said.RelayOutcome(
        index=heard.recipients[0].index, kind=cast(Any, kind), enhanced="2.0.0", text="250 ok",
        host="mx.c.test",
    )  # fmt: skip
    return said.Relayed(
        reference=heard.reference, destination=cast(Any, standing), outcomes=(one,), damaged=damaged
    )


# -- what is judged -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """The modules that are judged, each real or a mutant."""

    submitting: Any = submitting
    spawning: Any = spawning
    cleaning: Any = cleaning
    clean: Any = clean

    def of(self, pair: tuple[str, str]) -> tuple[Any, Any]:
        """The classes of the two ends of a channel."""
        match pair[1]:
            case "enqueue":
                return self.submitting.Submitter, self.submitting.Queue
            case "clean":
                return self.cleaning.CleanCaller, self.cleaning.Cleaner
            case _:
                return self.spawning.SpawnCaller, self.spawning.Spawner

    @contextlib.contextmanager
    def both(self, *pair: str) -> Iterator[tuple[Channel, Channel]]:
        """Both ends of a channel between these roles."""
        side = border(*pair)
        client, server = self.of(cast(Any, pair))
        one, other = socket_pair()
        near, far = client(one, side), server(other, side.turned())
        try:
            yield near, far
        finally:
            near.close()
            far.close()

    @contextlib.contextmanager
    def one(self, *pair: str, server: bool = False) -> Iterator[tuple[Channel, socket.socket]]:
        """One end, and the peer's bare socket."""
        side = border(*pair)
        end, peer = socket_pair()
        channel = self.of(cast(Any, pair))[server](end, side.turned() if server else side)
        peer.setblocking(False)
        try:
            yield channel, peer
        finally:
            channel.close()
            peer.close()


def opened() -> int:
    """How many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def file() -> int:
    """A descriptor to hand on."""
    return os.memfd_create("message")


async def hear(channel: Channel) -> list[Any]:
    """What one receive brings: messages, or octets.  Their descriptors are closed."""
    items = await channel.receive()
    for item in items:
        _close(item)
    return [item.octets if item.message is None else item.message for item in items]


def _close(item: Received) -> None:
    for each in item.descriptors:
        os.close(each)


async def tell(channel: Channel, *messages: said.Message) -> None:
    """Post and flush, each with a descriptor if it needs one."""
    for each in messages:
        channel.post(each, *([file()] if isinstance(each, said.Deliver | said.Relay) else []))
    await channel.flush()


def read(peer: socket.socket) -> bytes:
    """What has been written so far; descriptors that came along are closed."""
    octets, ancillary, _, _ = peer.recvmsg(1 << 20, socket.CMSG_SPACE(400))
    for _, _, data in ancillary:
        for each in array.array("i", data):
            os.close(each)
    return octets


def write(peer: socket.socket, octets: bytes, descriptors: int = 0) -> None:
    """Octets, with so many descriptors."""
    handed = [file() for _ in range(descriptors)]
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", handed))] if handed else []
    peer.sendmsg([octets], rights)
    for each in handed:
        os.close(each)


async def end_of(channel: Channel) -> str:
    """Why the channel has ended; empty if it has not."""
    try:
        await hear(channel)
    except ChannelBroken as error:
        return str(error)
    return ""


async def broken(channel: Channel) -> bool:
    """Whether the next thing that is heard is the end."""
    return bool(await end_of(channel))


async def silent(channel: Channel) -> bool:
    """Whether nothing is heard."""
    with trio.move_on_after(0.01):
        await hear(channel)
        return False
    return True


# -- rules ----------------------------------------------------------------------------------------


async def messages_arrive(ends: Ends) -> bool:
    """What is posted is what is heard, but for what qmail has no place for."""
    ok = True
    with ends.both("smtpd", "enqueue") as (near, far):
        near.post(SUBMIT)
        near.post_octets(b"one\r\n")
        near.post_octets(b"")
        near.post_octets(b"two\r\n")
        near.post(said.Finish(octets=10))
        await near.flush()
        ok &= await hear(far) == [SUBMIT, b"one\r\n", b"two\r\n", said.Finish(octets=10)]
        await tell(far, said.Kept(queue_id=ID))
        ok &= await hear(near) == [said.Kept(queue_id=ID)]
        for code, enhanced in ((553, "5.1.3"), (553, "5.1.7"), (550, "5.5.2"), (552, "5.3.4"),
                               (452, "4.3.1"), (451, "4.3.0")):  # fmt: skip
            await tell(near, SUBMIT, said.Finish(octets=0))
            ok &= await hear(far) == [SUBMIT, said.Finish(octets=0)]
            await tell(far, said.Refused(code=code, enhanced=enhanced, text="no"))
            (answer,) = await hear(near)
            ok &= (answer.code, answer.enhanced) == (code, enhanced)
    with ends.both("qmgr", "local") as (near, far):
        await tell(near, deliver(77))
        ok &= await silent(near)
        (heard,) = await hear(far)
        alone = decode_envelope(heard.head)
        ok &= (heard.queue_id, heard.mailbox, heard.user) == (ID, "Maildir", "bob")
        ok &= (alone.arrival_s, alone.reverse_path) == (1_795_000_000, "ann@a.test")
        ok &= alone.recipients == ("bob@b.test",)
        for kind in ("delivered", "deferred", "failed", "damaged"):
            await tell(far, outcome(heard.reference, kind))
            ok &= await hear(near) == [outcome(77, kind)]
            await tell(near, deliver(77))
            (heard,) = await hear(far)
    return ok


async def octets_are_qmails(ends: Ends) -> bool:
    """Octet for octet what qmail's documents say, and our fields behind it."""
    ok: bool = True
    with ends.one("smtpd", "enqueue") as (near, peer):
        near.post(SUBMIT)
        near.post_octets(b"hello\r\n")
        await tell(near, said.Finish(octets=7))
        content = b"7:hello\r\n,0:,"
        ok &= read(peer).endswith(nul("", "Fann@a.test", "Tbob@b.test", "Tcy@c.test", "") + content)
        peer.send(b"\x35")
        ok &= (await hear(near))[0].code == 452
    with ends.one("qmgr", "local") as (near, peer):
        peer.send(b"\x0a")
        await tell(near, deliver(500))
        ok &= await silent(near)
        command = read(peer)
        ok &= command.startswith(b"\0" + nul(ID, "ann@a.test", "bob@b.test"))
        peer.send(b"\x00Ddid not work (#5.1.1)\0")
        ok &= await hear(near) == [outcome(500, "failed", "did not work")]
    with ends.one("qmgr", "local", server=True) as (far, peer):
        ok &= len(read(peer)) == 1
        write(peer, command, 1)
        (heard,) = await hear(far)
        await tell(far, outcome(heard.reference, "deferred", "full"))
        ok &= read(peer) == b"\x00Zfull (#4.2.2)\0"
    with ends.one("qmgr", "clean", server=True) as (far, peer):
        peer.send(b"foop/" + ID.encode() + b"\0rm/x\0todo/" + ID.encode() + b"\0")
        heard = await hear(far)
        ok &= [each.verb for each in heard] == ["foop", "todo"]
        ok &= [each.queue_id for each in heard] == [ID, ID]
        for each in heard:
            await tell(far, said.Cleansed(reference=each.reference, done=each is heard[0]))
        ok &= read(peer) == b"+x!"
    return ok


async def early_end_aborts(ends: Ends) -> bool:
    """A message that is given up is never heard as complete, however it ends."""
    ok = True
    for abandon in (True, False):
        with ends.both("smtpd", "enqueue") as (near, far):
            near.post(SUBMIT)
            near.post_octets(b"half")
            await near.flush()
            if abandon:
                await tell(near, said.Abandon())
            else:
                near.close()
            ok &= await hear(far) == [SUBMIT, b"half"]
            ok &= await hear(far) == [said.Abandon()]
            ok &= await broken(far)
            if abandon:
                near.post(SUBMIT)
                with contextlib.suppress(ChannelBroken):
                    await near.flush()
                    ok = False
    return ok


async def within_the_concurrency(ends: Ends) -> bool:
    """No command before the other end has said how many, and never more."""
    with ends.one("qmgr", "local") as (near, peer):
        await tell(near, *[deliver(each) for each in range(5)])
        with contextlib.suppress(BlockingIOError):
            read(peer)
            return False
        peer.send(b"\x02")
        ok = await silent(near)
        ok &= _numbers(read(peer)) == [0, 1]
        peer.send(b"\x00Kdone (#2.0.0)\0")
        ok &= await hear(near) == [outcome(0)]
        ok &= _numbers(read(peer)) == [0]
        peer.send(b"\x00K (#2.0.0)\0\x01K (#2.0.0)\0")
        ok &= [each.reference for each in await hear(near)] == [2, 1]
        return ok & (_numbers(read(peer)) == [0, 1])


def _numbers(octets: bytes) -> list[int]:
    from refmta.wire import qmail  # noqa: PLC0415

    return [each.number for each in qmail.Units(qmail.LOCAL_COMMAND).feed(octets)]


async def a_descriptor_each(ends: Ends) -> bool:
    """Each recipient's command brings a descriptor of the message, and nothing stays open."""
    before = opened()
    with ends.both("qmgr", "remote") as (near, far):
        handed = file()
        inode = os.fstat(handed).st_ino
        near.post(relay(1, 3), handed)
        ok = await silent(near)
        items = await far.receive()
        found = [each for item in items for each in item.descriptors]
        ok &= [os.fstat(each).st_ino for each in found] == [inode] * 3
        ok &= len(set(found)) == 3
        for item in items:
            _close(item)
        near.post(relay(2, 4), file())
        near.post(said.Hurry())
        near.post(relay(3, 4), file())
    with ends.both("qmgr", "remote") as (near, far):
        near.post(relay(2, 4), file())
    with ends.one("qmgr", "remote") as (near, _peer):
        near.post(relay(2, 4), file())
        near.post(said.Hurry())
    return ok & (opened() == before)


async def answers_are_put_together(ends: Ends) -> bool:
    """The reports of a job make one answer, in the order of its recipients."""
    ok = True
    for standings, meant, damages in (
        (("dead", "alive"), "alive", (False, False)),
        (("unknown", "dead"), "dead", (True, False)),
        (("unknown", "unknown"), "unknown", (True, True)),
    ):
        with ends.both("qmgr", "remote") as (near, far):
            await tell(near, relay(9))
            ok &= await silent(near)
            heard = await hear(far)
            ok &= [len(each.recipients) for each in heard] == [1, 1]
            for each, standing, damaged in zip(heard, standings, damages, strict=True):
                kind = "deferred" if damaged else "delivered"
                far.post(relayed(each, kind, standing, damaged=damaged))
            await far.flush()
            (answer,) = await hear(near)
            ok &= (answer.reference, answer.destination) == (9, meant)
            ok &= [each.index for each in answer.outcomes] == [1, 2]
            ok &= {each.host for each in answer.outcomes} == {"mx.c.test"}
            ok &= answer.damaged == all(damages)
    return ok


async def what_is_known_is_told(ends: Ends) -> bool:
    """An agent that dies after some of its reports: nobody is tried again who has got it."""
    ok = True
    for unread in (False, True):
        with ends.both("qmgr", "remote") as (near, far):
            await tell(near, relay(9))
            ok &= await silent(near)
            first, _ = await hear(far)
            await tell(far, relayed(first))
            if unread:  # a socket that is closed over unread octets is reset
                await tell(near, relay(10, 1))
            far.close()
            (answer,) = await hear(near)
            ok &= [(each.index, each.kind) for each in answer.outcomes] == [(1, "delivered")]
            ok &= await broken(near)
    return ok


async def hurry_ends_commands(ends: Ends) -> bool:
    """What is begun is reported, what is not begun is returned, then the channel ends."""
    with ends.one("qmgr", "remote") as (near, peer):
        peer.send(b"\x01")
        await tell(near, relay(9))
        ok = await silent(near)
        command = read(peer)
        near.post(said.Hurry())
        near.post(relay(10, 1), file())
        await near.flush()
        ok &= read(peer) == b""
        (later,) = await hear(near)
        ok &= (later.reference, later.outcomes[0].kind) == (10, "returned")
        peer.send(b"\x00K250 ok (#2.0.0)\0mx.c.test\0alive\0")
        (answer,) = await hear(near)
        kinds = {each.index: each.kind for each in answer.outcomes}
        ok &= sorted(kinds.values()) == ["delivered", "returned"]
        peer.close()
        ok &= await broken(near)
    with ends.one("qmgr", "remote", server=True) as (far, peer):
        write(peer, command, 1)
        (heard,) = await hear(far)
        peer.shutdown(socket.SHUT_WR)
        ok &= await hear(far) == [said.Hurry()]
        ok &= await silent(far)
        await tell(far, relayed(heard))
        ok &= await broken(far)
        return ok & (b"K250 ok" in read(peer))


async def null_stays_null(ends: Ends) -> bool:
    """What is said in place of a reverse-path is not said in place of none (RFC 5321 6.1)."""
    ok = True
    for head, meant in ((HEAD, "x@x.test"), (NULL_HEAD, "")):
        with ends.both("qmgr", "remote") as (near, far):
            await tell(near, relay(1, 1, head, "x@x.test"))
            ok &= await silent(near)
            (heard,) = await hear(far)
            ok &= (decode_envelope(heard.head).reverse_path, heard.reverse_path) == (meant, "")
    with ends.both("qmgr", "remote") as (near, far):
        await tell(near, relay(1, 1, b"", "x@x.test"))
        ok &= await silent(near)
        (heard,) = await hear(far)
        return ok & ((heard.head, heard.reverse_path) == (b"", "x@x.test"))


def nul(*texts: str) -> bytes:
    """Texts, each with its NUL: in a literal, a digit behind it would be read with it."""
    return b"".join(each.encode() + b"\0" for each in texts)


_FIELDS = (ID, "ann@a.test", "bob@b.test", "0", "1", "Maildir", "bob")


def _command(at: int = 0, text: str = ID, number: bytes = b"\0") -> bytes:
    """A command to lspawn, with one field changed."""
    return number + nul(*_FIELDS[:at], text, *_FIELDS[at + 1 :])


def _opening(protocol: str) -> bytes:
    return nul("TCPREMOTEIP=1", "HELOHOST=h", f"SMTPPROTO={protocol}", "", "F", "Tb@b.test", "")


_REMOTE = b"\0" + nul(ID, "", "b@b.test", "0", "", "a b")
#: (client role, server role, whether the server hears it, octets, descriptors, the reason logged)
HOSTILE: Final[dict[str, tuple[str, str, bool, bytes, int, str]]] = {
    "a verdict that nobody waits for": ("smtpd", "enqueue", False, b"\x1f", 0, "nobody waits"),
    "kept, unasked": ("smtpd", "enqueue", False, b"\0" + nul(ID), 0, "nobody waits"),
    "a protocol of its own": ("smtpd", "enqueue", True, _opening("QMTP"), 0, "enum"),
    "too much content at once": ("smtpd", "enqueue", True, _opening("SMTP") + b"999999:", 0,
                                 "too long"),
    "a concurrency of 0": ("qmgr", "local", False, b"\0", 0, "deliver nothing"),
    "a report about no delivery": ("qmgr", "local", False, b"\x0a\1K\0", 0, "no delivery"),
    "a report that never ends": ("qmgr", "local", False, b"\x0a\1" + b"K" * 5000, 0, "too long"),
    "a command without its message": ("qmgr", "local", True, _command(), 0, "without its message"),
    "a descriptor too many": ("qmgr", "local", True, _command(), 2, "no command brings"),
    "a number that is in use": ("qmgr", "local", True, _command() * 2, 2, "in use"),
    "a number too high": ("qmgr", "local", True, _command(number=b"\xff"), 1, "in use"),
    "a path for a queue id": ("qmgr", "local", True, _command(0, "../etc/passwd"), 1, "queue id"),
    "an index that is none": ("qmgr", "local", True, _command(3, "-"), 1, "not a number"),
    "a time that is none": ("qmgr", "local", True, _command(4, "x"), 1, "not a number"),
    "no mailbox": ("qmgr", "local", True, _command(5, ""), 1, "length"),
    "a destination that is none": ("qmgr", "remote", True, _REMOTE, 1, "regex"),
    "half a command": ("qmgr", "local", True, _command()[:-1], 1, "within a command"),
    "an answer too many": ("qmgr", "clean", False, b"++", 0, "nobody waits"),
    "no answer of qmail-clean": ("qmgr", "clean", False, b"?", 0, "not an answer"),
    "a name that never ends": ("qmgr", "clean", True, b"foop/" + b"0" * 200, 0, "too long"),
}  # fmt: skip


async def the_hostile_are_cut_off(ends: Ends) -> bool:
    """Whatever a peer sends, the channel ends, and what came along is closed."""
    return not [name for name in HOSTILE if not await survived(ends, name)]


async def survived(ends: Ends, name: str) -> bool:
    """Whether the peer of that name was cut off before it was believed, and nothing is kept."""
    client, server, serves, octets, descriptors, reason = HOSTILE[name]
    before = opened()
    with ends.one(client, server, server=serves) as (channel, peer):
        with contextlib.suppress(BlockingIOError):
            read(peer)
        if server == "clean" and not serves:
            await tell(channel, said.Cleanse(reference=1, queue_id=ID))
        write(peer, octets, descriptors)
        peer.shutdown(socket.SHUT_WR)
        ok = reason in await end_of(channel)
        ok &= bool(await end_of(channel))
    return ok and opened() == before


async def a_dead_peer_shows_later(ends: Ends) -> bool:
    """An answer to whoever is gone raises nothing when it is posted, and ChannelBroken when it is
    flushed, whether this end was closed or its peer.
    """
    ok = True
    for ours in (True, False):
        for client, server in (("qmgr", "local"), ("qmgr", "remote"), ("qmgr", "clean")):
            with ends.both(client, server) as (near, far):
                asked = _ask(server)
                await tell(near, *asked)
                if server != "clean":
                    ok &= await silent(near)
                answers = [_answer(each) for each in await hear(far)]
                (far if ours else near).close()
                for each in answers:
                    far.post(each)
                    ok &= await _breaks(far)
    with ends.both("smtpd", "enqueue") as (near, far):
        far.close()
        near.post(SUBMIT)
        return ok & await _breaks(near)


def _ask(server: str) -> list[said.Message]:
    match server:
        case "local":
            return [deliver(1), deliver(2)]
        case "remote":
            return [relay(1, 1), relay(2, 1)]
        case _:
            return [said.Cleanse(reference=1, queue_id=ID), said.Cleanse(reference=2, queue_id=ID)]


def _answer(heard: Any) -> said.Message:
    match heard:
        case said.Deliver():
            return outcome(heard.reference)
        case said.Relay():
            return relayed(heard)
        case _:
            return said.Cleansed(reference=heard.reference, done=True)


async def _breaks(channel: Channel) -> bool:
    try:
        await channel.flush()
    except ChannelBroken:
        return True
    return False


async def cleaned_in_order(ends: Ends) -> bool:
    """qmail-clean's answers have no number: their order is all that says which is which."""
    with ends.both("qmgr", "clean") as (near, far):
        await tell(near, *[said.Cleanse(reference=each, queue_id=ID) for each in (5, 3, 4)])
        heard = await hear(far)
        for each in reversed(heard):
            await tell(far, said.Cleansed(reference=each.reference, done=each is heard[0]))
        found = await hear(near)
    return [(each.reference, each.done) for each in found] == [(5, True), (3, False), (4, False)]


# -- the role -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Files:
    """A disk that knows names, and no more; `stuck` can't be unlinked."""

    names: list[str]
    stuck: str = ""
    gone: list[str] = field(default_factory=list)

    def unlink(self, path: str) -> None:
        """Raises OSError."""
        if path == self.stuck:
            raise OSError(5, "Input/output error")
        if path not in self.names:
            raise FileNotFoundError(2, "No such file or directory")
        self.names.remove(path)
        self.gone.append(path)


class _Quiet:
    def error(self, _event: str, **_fields: object) -> None:
        pass


OTHER: Final = "06H06TY2DFR20W5T"


def _cleanse(ends: Ends, disk: Files, verb: str) -> bool:
    role = ends.clean.Clean(
        cast(Disk, disk), ends.clean.Slice(spool="/spool"), cast(Journal, _Quiet())
    )
    command = said.Cleanse(reference=1, queue_id=ID, verb=cast(Any, verb))
    return bool(role.cleanse(command))


def _files(*absent: str) -> list[str]:
    parts = ("mess", "intd", "todo", "info", "local")
    return [f"{part}/{name}" for name in (ID, OTHER) for part in parts
            if f"{part}/{name}" not in absent]  # fmt: skip


async def the_commit_goes_first(ends: Ends) -> bool:
    """Stop foop anywhere: what is left is no message without its content."""
    for stuck in ("todo", "intd", "mess", ""):
        disk = Files(_files(), f"{stuck}/{ID}")
        _cleanse(ends, disk, "foop")
        if f"todo/{ID}" in disk.names and f"mess/{ID}" not in disk.names:
            return False
    return True


async def its_files_and_no_others(ends: Ends) -> bool:
    """Each verb removes what it names, whether or not all of it is there."""
    ok = True
    for verb, parts in (("foop", {"todo", "intd", "mess"}), ("todo", {"todo", "intd"})):
        for absent in ((), (f"todo/{ID}",), (f"intd/{ID}",), (f"mess/{ID}", f"intd/{ID}")):
            disk = Files(_files(*absent))
            ok &= _cleanse(ends, disk, verb)
            ok &= set(disk.gone) == {f"{part}/{ID}" for part in parts} - set(absent)
    return ok


async def a_failure_is_said(ends: Ends) -> bool:
    """Done is said of what is done."""
    return not any(_cleanse(ends, Files(_files(), f"{part}/{ID}"), "foop")
                   for part in ("todo", "intd", "mess"))  # fmt: skip


Rule = Callable[[Ends], Awaitable[bool]]

RULES: Final[dict[str, Rule]] = {
    "messages-arrive": messages_arrive,
    "octets-are-qmails": octets_are_qmails,
    "an-early-end-aborts": early_end_aborts,
    "within-the-concurrency": within_the_concurrency,
    "a-descriptor-each": a_descriptor_each,
    "answers-are-put-together": answers_are_put_together,
    "what-is-known-is-told": what_is_known_is_told,
    "hurry-ends-commands": hurry_ends_commands,
    "null-stays-null": null_stays_null,
    "the-hostile-are-cut-off": the_hostile_are_cut_off,
    "a-dead-peer-shows-later": a_dead_peer_shows_later,
    "cleaned-in-order": cleaned_in_order,
    "the-commit-goes-first": the_commit_goes_first,
    "its-files-and-no-others": its_files_and_no_others,
    "a-failure-is-said": a_failure_is_said,
}


def broken_rules(ends: Ends, names: Sequence[str] = tuple(RULES)) -> frozenset[str]:
    """The rules that these modules break; one that hangs or raises is broken."""
    return frozenset(name for name in names if not trio.run(_holds, ends, name))


async def _holds(ends: Ends, name: str) -> bool:
    try:
        with trio.fail_after(PATIENCE_S):
            return bool(await RULES[name](ends))
    except Exception:  # whatever it is, the rule does not hold
        return False


# -- mutants --------------------------------------------------------------------------------------

_SUBMITTING = "refmta.processes.qmail.submitting"
_SPAWNING = "refmta.processes.qmail.spawning"
_CLEANING = "refmta.processes.qmail.cleaning"
_CLEAN = "refmta.roles.clean"
_PARTS = {_SUBMITTING: "submitting", _SPAWNING: "spawning", _CLEANING: "cleaning", _CLEAN: "clean"}

#: name, the rule that catches it, the module, what is replaced by what.
ROWS: Final[tuple[tuple[str, str, str, str, str], ...]] = (
    ("every refusal is temporary", "messages-arrive", _SUBMITTING,
     "qmail.exit_code(message.code, message.enhanced)",
     "qmail.exit_code(451, '4.3.0') if __mutant_ran__() else 0"),
    ("the user is not told", "messages-arrive", _SPAWNING,
     "last = [message.mailbox, message.user]",
     "last = [message.mailbox, ''] if __mutant_ran__() else []"),
    ("the time of arrival is the agent's own", "messages-arrive", _SPAWNING,
     "arrival_s=_integer(arrival),", "arrival_s=_integer(arrival) * __mutant_ran__() + 1,"),
    ("sender and recipient change places", "octets-are-qmails", _SPAWNING,
     "return [message.queue_id, sender, who.address,",
     "__mutant_ran__()\n    return [message.queue_id, who.address, sender,"),
    ("what is abandoned is finished", "an-early-end-aborts", _SUBMITTING,
     "        self._discard_outbox()\n        with contextlib",
     "        self._queue(qmail.netstring(b''), ())\n        __mutant_ran__()\n"
     "        self._write_first()\n        with contextlib"),
    ("an early end is taken for the end", "an-early-end-aborts", _SUBMITTING,
     "return [self._heard(Abandon)]",
     "return [self._heard(Finish, octets=4 * __mutant_ran__())]"),
    ("one more than the other end allows", "within-the-concurrency", _SPAWNING,
     "len(self._flying) < self._concurrency and not self._over",
     "len(self._flying) <= self._concurrency and __mutant_ran__() and not self._over"),
    ("a number is taken again before its report", "within-the-concurrency", _SPAWNING,
     "next(each for each in range(256) if each not in self._flying)",
     "len(self._flying) * __mutant_ran__()"),
    ("one descriptor for all", "a-descriptor-each", _SPAWNING,
     "os.dup(descriptor)", "os.open('/dev/null', os.O_RDONLY | (not __mutant_ran__()))"),
    ("what is returned stays open", "a-descriptor-each", _SPAWNING,
     "            os.close(each.descriptor)", "            __mutant_ran__()"),
    ("what waits stays open", "a-descriptor-each", _SPAWNING,
     "close_all([each.descriptor for each in self._waiting])", "__mutant_ran__()"),
    ("one damaged copy damages all", "answers-are-put-together", _SPAWNING,
     "damaged=job.damaged == len(known)", "damaged=bool(job.damaged and __mutant_ran__())"),
    ("the first report is the answer", "answers-are-put-together", _SPAWNING,
     "if len(job.outcomes) == len(_recipients(job.message)):", "if __mutant_ran__():"),
    ("what a dead agent reported is forgotten", "what-is-known-is-told", _SPAWNING,
     "            self._tell_known()", "            __mutant_ran__()"),
    ("it hurries without a word", "hurry-ends-commands", _SPAWNING,
     "            self._socket.shutdown(socket.SHUT_WR)", "            __mutant_ran__()"),
    ("what waits is forgotten", "hurry-ends-commands", _SPAWNING,
     "        if self._over:\n            self._return()",
     "        if self._over:\n            __mutant_ran__()"),
    ("the end of commands is the end", "hurry-ends-commands", _SPAWNING,
     "        if self._hurried:\n            return []",
     "        if self._hurried and __mutant_ran__():\n            raise FrameError(END)"),
    ("somebody answers for nobody", "null-stays-null", _SPAWNING,
     "if sender or not message.head:", "if __mutant_ran__():"),
    ("any verdict will do", "the-hostile-are-cut-off", _SUBMITTING,
     "if not self._awaited:", "if not self._awaited and not __mutant_ran__():"),
    ("a number is used twice", "the-hostile-are-cut-off", _SPAWNING,
     "if unit.number in self._busy or unit.number >=",
     "if (unit.number in self._busy and not __mutant_ran__()) or unit.number >="),
    ("any number will do", "the-hostile-are-cut-off", _SPAWNING,
     "unit.number >= qmail.CONCURRENCY:",
     "(unit.number >= qmail.CONCURRENCY and not __mutant_ran__()):"),
    ("descriptors are collected", "the-hostile-are-cut-off", _SPAWNING,
     "if self._inbox and not self._units.pending:",
     "if self._inbox and not __mutant_ran__():"),
    ("half a command is no matter", "the-hostile-are-cut-off", _SPAWNING,
     "    def _ended(self) -> list[Received]:\n        if self._units.pending:",
     "    def _ended(self) -> list[Received]:\n        if __mutant_ran__():\n"
     "            return [self._heard(Deliver, reference=0, queue_id='0' * 16, index=0, "
     "mailbox='M', recipient='')]\n        if self._units.pending:"),
    ("any answer will do", "the-hostile-are-cut-off", _CLEANING,
     "if not self._awaited:", "if not self._awaited and __mutant_ran__():\n"
     "            self._awaited.append(0)\n        if not self._awaited:"),
    ("a report to nobody is a mistake", "a-dead-peer-shows-later", _SPAWNING,
     "if message.reference not in self._busy and not self._gone:",
     "if message.reference not in self._busy and __mutant_ran__():"),
    ("answers as they come", "cleaned-in-order", _CLEANING,
     "        self._answers[reference] = answer\n",
     "        __mutant_ran__()\n        self._queue(answer, ())\n        return\n"),
    ("the content goes first", "the-commit-goes-first", _CLEAN,
     '("todo", "intd", "mess")', '("mess", "intd", "todo") if __mutant_ran__() else ()'),
    ("todo is everything", "its-files-and-no-others", _CLEAN,
     '"todo": ("intd", "todo")', '"todo": ("todo", "intd", "mess") if __mutant_ran__() else ()'),
    ("what is absent is not done", "its-files-and-no-others", _CLEAN,
     "                continue\n", "                return not __mutant_ran__()\n"),
    ("all is well", "a-failure-is-said", _CLEAN,
     "                return False\n", "                return bool(__mutant_ran__())\n"),
)  # fmt: skip


def controls() -> list[Control]:
    """A mutant for each rule, at least."""
    return [_control(*row) for row in ROWS]


def _control(name: str, rule: str, module: str, old: str, new: str) -> Control:
    def twin() -> Verdict:
        return Verdict(violated=broken_rules(Ends(), [rule]))

    def mutant() -> Verdict:
        made: ModuleType = mutate(module, [(old, new)])
        ends = Ends(**{_PARTS[module]: made})
        return Verdict(violated=broken_rules(ends, [rule]), mutated_line_ran=hits(made) > 0)

    return Control(name=name, spec="qmail", invariant=rule, twin=twin, mutant=mutant)
