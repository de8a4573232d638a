"""A pool: a parent that hands connections or calls to workers, and a template for these.

    [template]  forked before trio starts, single-threaded, unused: forks workers on request
    [parent]    accepts, hands out, counts, retires; holds no channel that carries mail
    [worker]    one session at a time, with channels of its own to each server role

A connection comes from a listening socket; a call (`processes.calls`) from another compartment.
Calls are handed out in their order, under the same rules; those that find no worker wait in their
link, unread, so that a caller without measure fills its own pipe only.

The policy is `patterns.secure_preforking`; this file forks, accepts and kills.  A worker that is
told to go (its control channel ends) has `GRACE_S` to do so; then it is killed.  So is one that
leaves a session lying, says that it is idle when it had none, or keeps one for too long.

When a server
role dies, its channels in the workers are dead too: idle workers are retired at once, busy ones
after their session, and no worker is made until the server is back; connections wait in the
listening socket meanwhile.
"""

from __future__ import annotations

import contextlib
import gc
import ipaddress
import itertools
import os
import signal
import socket
import traceback
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import trio

from refmta.journal import Journal, journal
from refmta.patterns.least_privilege import allow_calls
from refmta.patterns.secure_preforking import Pool, Rules
from refmta.patterns.trust_partitioning import (
    Channel,
    ChannelBroken,
    Received,
    border,
    close_all,
)
from refmta.processes.channels import SocketChannel, adopt, socket_pair
from refmta.processes.children import (
    Children,
    kill_request,
    parse_report,
    send_request,
    start_request,
)
from refmta.processes.compartment import ON_CALL, TRACE, report
from refmta.processes.spawner import CHANNEL, die_with_parent
from refmta.processes.worker import Pooled, work
from refmta.trace import Emit, Trace, silent
from refmta.wire.messages import (
    Answer,
    Ask,
    Attach,
    Configure,
    Drain,
    Idle,
    Link,
    Message,
    Ready,
    Session,
    Stress,
)
from refmta.wire.reply import reply

#: Time for a retired worker to go by itself.
GRACE_S = 5.0
#: How long a connection waits for a busy worker before a new one is made for it.
PATIENCE_S = 0.01
#: How long a worker may leave what it is handed lying: an idle one takes it at once.
TAKING_S = 1.0
#: Pause after an accept that failed for want of descriptors.
ACCEPT_PAUSE_S = 0.1
TOO_MANY = reply(421, "4.7.0", "too many connections from your address").encode()


class PoolSlice(msgspec.Struct, frozen=True, kw_only=True):
    """The pool's configuration, in the slice named "pool"."""

    rules: Rules
    connections_per_client: int = 50
    trusted: tuple[str, ...] = ()


# -- the template ---------------------------------------------------------------------------------


def template(pooled: Pooled, requests: socket.socket) -> None:
    """Fork workers on request until the parent is gone; then end them all."""

    def start(rest: bytes, descriptors: list[int]) -> int:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            die_with_parent(parent)
            for each in children.descriptors():
                os.close(each)
            if pooled.narrow:
                allow_calls((pooled.role, "worker"))
            (control,) = descriptors
            trio.run(work, pooled, rest, adopt(control, border("worker", "pool")))
            status = 0
        except BaseException as error:
            log = journal(pooled.role, terminal=os.isatty(2))
            log.critical("defect", reason=repr(error), traceback=traceback.format_exc(limit=-6))
        os._exit(status)

    # What is there now stays: the collector of a worker must not touch, and so copy, our pages.
    gc.collect()
    gc.freeze()
    children = Children(requests, start)
    children.serve()
    children.end_all()


# -- the parent -----------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Hand:
    """The parent's hold on one worker."""

    number: int
    control: SocketChannel
    client: str = ""
    pid: int = 0
    stale: bool = False


@dataclass(slots=True)
class Parent:
    """Accepts and hands out."""

    pooled: Pooled
    requests: socket.socket
    supervisor: Channel
    nursery: trio.Nursery
    template: int
    configuration: bytes = b""
    rules: PoolSlice = field(default_factory=lambda: PoolSlice(rules=Rules()))
    pool: Pool = field(default_factory=lambda: Pool(Rules()))
    hands: dict[int, Hand] = field(default_factory=dict)
    servers: dict[str, Channel] = field(default_factory=dict)
    clients: Counter[str] = field(default_factory=Counter)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    dirty: list[Channel] = field(default_factory=list)
    crowded: bool = False
    changed: trio.Event = field(default_factory=trio.Event)
    #: What brings sessions: each listening socket, and each caller's line.
    doors: list[trio.CancelScope] = field(default_factory=list)
    trace: Emit = silent
    #: The trace's descriptor, to be handed on to workers; -1 if there is none.
    traced: int = -1
    journal: Journal = field(default_factory=lambda: journal("pool", terminal=os.isatty(2)))

    async def run(self) -> None:
        """Until the supervisor is gone, or the nursery is cancelled because all is drained."""
        self.nursery.start_soon(self._hear_template)
        self.nursery.start_soon(self._housekeeping)
        try:
            while True:
                for item in await self.supervisor.receive():
                    if item.message is not None:
                        self._hear(item.message, item.descriptors)
                await self.supervisor.flush()
        except ChannelBroken:
            return

    def _hear(self, message: Message, descriptors: tuple[int, ...]) -> None:
        match message:
            case Configure(role="pool"):
                self.rules = msgspec.msgpack.decode(message.slice, type=PoolSlice)
                self.pool = Pool(self.rules.rules)
            case Configure():
                self.configuration = message.slice
                self.supervisor.post(Ready())
            case Link(port="listener"):
                self.nursery.start_soon(self._accept, descriptors[0])
            case Link() if message.port == TRACE:
                self.trace, self.traced = Trace(descriptors[0]), descriptors[0]
            case Link() if message.detail == ON_CALL:
                line = adopt(descriptors[0], border("pool", "caller"))
                self.nursery.start_soon(self._answer, message.port, line)
            case Link():
                self._serve_by(message.port, descriptors[0])
            case Ask():
                self.supervisor.post(self._describe(message))
            case Drain():
                self.nursery.start_soon(self._drain)
            case _:
                raise ChannelBroken("not for a pool")

    # -- servers ----------------------------------------------------------------------------------

    def _serve_by(self, port: str, descriptor: int) -> None:
        channel = adopt(descriptor, border("pool", "server"))
        self._renounce(port)
        self.servers[port] = channel
        self.changed.set()
        self.nursery.start_soon(self._watch, port, channel)

    async def _watch(self, port: str, channel: Channel) -> None:
        """The server says nothing; its end is the news."""
        try:
            while True:
                await channel.receive()
        except ChannelBroken:
            if self.servers.get(port) is channel:
                self._renounce(port)

    def _renounce(self, port: str) -> None:
        """Workers that hold a channel to the former server must go."""
        former = self.servers.pop(port, None)
        if former is None:
            return
        former.close()
        for hand in list(self.hands.values()):
            hand.stale = True
            if not self.pool.workers[hand.number].busy:
                self._retire(hand)

    # -- connections and calls --------------------------------------------------------------------

    async def _accept(self, descriptor: int) -> None:
        """Take connections while there is, or may be, a worker for them."""
        with trio.CancelScope() as scope, socket.socket(fileno=descriptor) as listener:
            self.doors.append(scope)
            listener.setblocking(False)
            while True:
                await self._until(self._has_room)
                try:
                    connection, address = listener.accept()
                except BlockingIOError:
                    await trio.lowlevel.wait_readable(listener)
                    continue
                except OSError as error:  # EMFILE, ECONNABORTED
                    self.journal.error("accept failed", reason=os.strerror(error.errno or 0))
                    await trio.sleep(ACCEPT_PAUSE_S)
                    continue
                client = str(address[0])
                if self._welcome(connection, client):
                    session = Session(client=client, port=int(address[1]))
                    await self._hand_out(session, network(client), connection)

    async def _answer(self, caller: str, line: Channel) -> None:
        """Hand out one caller's calls, until it is gone; those that still wait are hung up."""
        waiting: deque[Received] = deque()
        with trio.CancelScope() as scope, contextlib.suppress(ChannelBroken):
            self.doors.append(scope)
            try:
                while True:
                    waiting += await line.receive()
                    while waiting:
                        await self._until(self._has_room)
                        (descriptor,) = waiting.popleft().descriptors
                        end = socket.socket(fileno=descriptor)
                        await self._hand_out(Session(client=caller, port=0), caller, end)
            finally:
                self.doors.remove(scope)
                line.close()
                for each in waiting:
                    close_all(each.descriptors)

    def _welcome(self, connection: socket.socket, client: str) -> bool:
        """Whether this client may have one more connection."""
        if client in self.rules.trusted:
            return True
        if self.clients[network(client)] < self.rules.connections_per_client:
            return True
        with contextlib.suppress(OSError), connection:
            connection.setblocking(False)
            connection.send(TOO_MANY)
        self.journal.info("refused", client=client, reply="421 4.7.0 too many connections")
        return False

    async def _hand_out(self, session: Session, client: str, end: socket.socket) -> None:
        """Give a session to a worker, when there is one; `client` is whom it counts for."""
        with end:  # closed if we are to stop meanwhile
            hand = self.hands[await self._worker()]
            hand.client = client
            self.clients[client] += 1
            hand.control.post(session, end.detach())
        self._look()
        with trio.move_on_after(TAKING_S) as scope, contextlib.suppress(ChannelBroken):
            await hand.control.flush()  # if it fails the client sees a close, and comes again
        if scope.cancelled_caught:
            self._distrust(hand, "it does not take its session")

    async def _worker(self) -> int:
        """A worker that was free, or a new one; it is busy now."""
        while True:
            number = self.pool.hand_out(trio.current_time())
            if number is not None:
                return number
            if not self._may_fork():
                await self._until(self._has_room)
            elif not await self._worth_waiting() and self._may_fork():  # things may have changed
                self._fork()

    async def _worth_waiting(self) -> bool:
        """Whether a busy worker becomes free sooner than a new one would be made.

        A client that says QUIT and comes back is here before its worker has reported; without
        this there would soon be twice the workers that are needed.  Once the wait was in vain,
        nobody waits until some worker has become free.
        """
        used_once = self.rules.rules.max_uses == 1
        if self.crowded or used_once or not self.pool.workers:
            return False
        with trio.move_on_after(PATIENCE_S):
            await self._until(lambda: self.pool.has_free(trio.current_time()))
            return True
        self.crowded = True
        return False

    def _has_room(self) -> bool:
        return self.pool.has_free(trio.current_time()) or self._may_fork()

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Many wait at once: the event is replaced only once it was set, or some never wake."""
        while not condition():
            if self.changed.is_set():
                self.changed = trio.Event()
            await self.changed.wait()

    # -- workers ----------------------------------------------------------------------------------

    def _may_fork(self) -> bool:
        return self.pool.may_grow() and all(port in self.servers for port in self.pooled.servers)

    def _fork(self) -> None:
        """One more worker, with a channel of its own to each server."""
        number = next(self.numbers)
        ours, theirs = socket_pair()
        request = start_request(number, self.configuration)
        send_request(self.requests, request, [theirs.fileno()])
        theirs.close()
        hand = Hand(number, SocketChannel(ours, border("pool", "worker")))
        if self.traced >= 0:
            link = Link(role=self.pooled.role, port=TRACE, detail=str(os.getpid()))
            hand.control.post(link, os.dup(self.traced))
        if self.pool.stressed:
            hand.control.post(Stress(on=True))
        for port in self.pooled.servers:
            near, far = socket_pair()
            link = Link(role=self.pooled.role, port=port)
            hand.control.post(link, near.detach())
            self.servers[port].post(Attach(), far.detach())
            self.dirty.append(self.servers[port])
        self.hands[number] = hand
        self.pool.born(number, trio.current_time())
        self.nursery.start_soon(self._follow, hand)

    async def _follow(self, hand: Hand) -> None:
        """Hear one worker, until it ends."""
        try:
            await self._flush_servers()
            while True:
                for item in await hand.control.receive():
                    if isinstance(item.message, Idle):
                        self._idle(hand)
        except ChannelBroken:
            self._retire(hand)

    def _distrust(self, hand: Hand, reason: str) -> None:
        """An honest worker does not do that: it is ended at once."""
        self.journal.warning("worker breaks the rules", worker=hand.pid, reason=reason)
        self._retire(hand)
        self._kill(hand, signal.SIGKILL)

    async def _flush_servers(self) -> None:
        dirty, self.dirty = self.dirty, []
        for channel in dirty:
            with contextlib.suppress(ChannelBroken):
                await channel.flush()

    def _idle(self, hand: Hand) -> None:
        if not hand.client:
            self._distrust(hand, "it is idle without having had a session")
            return
        self.clients[hand.client] -= 1
        hand.client = ""
        self.pool.take_back(hand.number, trio.current_time())
        self.crowded = False
        if hand.stale or self.pool.is_spent(hand.number, trio.current_time()):
            self._retire(hand)  # now: its place is wanted
        self.changed.set()

    def _retire(self, hand: Hand) -> None:
        """No more sessions; it should end by itself, and is ended if it does not."""
        worker = self.pool.workers.get(hand.number)
        hand.control.close()
        if worker is not None and not worker.retired:
            self.pool.retire(hand.number)
            self.nursery.start_soon(self._end, hand)

    async def _end(self, hand: Hand) -> None:
        with trio.move_on_after(GRACE_S):
            await self._until(lambda: hand.number not in self.hands)
            return
        self.journal.warning("worker ignored its retirement", worker=hand.pid)
        self._kill(hand, signal.SIGKILL)

    def _kill(self, hand: Hand, number: int) -> None:
        with contextlib.suppress(OSError):
            send_request(self.requests, kill_request(hand.number, number), [])

    async def _hear_template(self) -> None:
        """Births and ends, as the template reports them."""
        while True:
            await trio.lowlevel.wait_readable(self.requests)
            octets = self.requests.recv(4096)
            if not octets:
                self.journal.critical("cannot work", reason="the template has ended")
                raise SystemExit(1)
            try:
                kind, number, value, text = parse_report(octets)
            except ValueError as error:
                self.journal.critical("cannot work", reason=f"the template: {error}")
                raise SystemExit(1) from None
            hand = self.hands.get(number)
            if hand is None:
                continue
            if kind == "P":
                hand.pid = value
                continue
            if kind == "E":
                self.journal.error("worker not started", reason=text)
            else:
                status = os.waitstatus_to_exitcode(value)
                self.trace(f"{self.pooled.role}.ended", process=hand.pid, status=status)
            self._gone(hand)

    def _gone(self, hand: Hand) -> None:
        hand.control.close()
        self.hands.pop(hand.number, None)
        if hand.client:
            self.clients[hand.client] -= 1
        self.pool.gone(hand.number)
        self.changed.set()

    async def _housekeeping(self) -> None:
        """Retire what is due, end what lasts too long, once a second."""
        while True:
            await trio.sleep(1)
            for number in self.pool.due(trio.current_time()):
                self._retire(self.hands[number])
            self._end_overlong()
            self._look()
            self.clients += Counter()  # drops the zeros

    def _end_overlong(self) -> None:
        told, killed = self.pool.overlong(trio.current_time())
        for number in told:
            self.journal.warning("session lasts too long", worker=self.hands[number].pid)
            self._kill(self.hands[number], signal.SIGTERM)
        for number in killed:
            self._distrust(self.hands[number], "it does not end its session")

    def _look(self) -> None:
        """Notice stress, and tell every worker when it begins or ends."""
        change = self.pool.look(trio.current_time())
        if change is None:
            return
        say = self.journal.warning if change else self.journal.info
        say(f"stress {'begins' if change else 'ends'}", workers=len(self.pool.workers))
        for number, worker in self.pool.workers.items():
            if not worker.retired:
                self.hands[number].control.post(Stress(on=change))
                self.nursery.start_soon(self._flush, self.hands[number].control)

    @staticmethod
    async def _flush(channel: Channel) -> None:
        with contextlib.suppress(ChannelBroken):
            await channel.flush()

    async def _drain(self) -> None:
        """Let nobody in, let sessions end as soon as they may (421 to the next command), and go."""
        for scope in self.doors:
            scope.cancel()
        for hand in list(self.hands.values()):
            if hand.client:
                self._kill(hand, signal.SIGTERM)
            else:
                self._retire(hand)
        while any(hand.client for hand in self.hands.values()):
            await trio.sleep(0.05)
        self.nursery.cancel_scope.cancel()

    def _describe(self, ask: Ask) -> Answer:
        now_s = trio.current_time()
        state = "stress" if self.pool.stressed else "ready"
        rows: list[dict[str, object]] = [
            {"part": "pool", "uses": self.pool.sessions, "state": state},
            {"part": "template", "pid": self.template},
        ]
        rows += [
            {
                "part": "worker",
                "pid": self.hands[number].pid,
                "uses": worker.uses,
                "busy": worker.busy,
                "age_s": round(now_s - worker.born_s, 1),
            }
            for number, worker in self.pool.workers.items()
        ]
        return Answer(reference=ask.reference, error="", document=msgspec.json.encode(rows))


def network(client: str) -> str:
    """What counts as one client: an IPv4 address, or an IPv6 /64 network."""
    if ":" not in client:
        return client
    return str(ipaddress.IPv6Network((client.partition("%")[0], 64), strict=False))


def main(pooled: Pooled) -> None:
    """Run a pool's parent on descriptor 3, its template beside it."""
    requests, others = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        die_with_parent(parent)
        os.close(CHANNEL)
        requests.close()
        if pooled.narrow:
            allow_calls((pooled.role, "template", "worker"))
        template(pooled, others)
        os._exit(0)
    others.close()
    requests.setblocking(False)
    if pooled.narrow:
        allow_calls(("pool parent",))

    async def enter() -> None:
        supervisor = adopt(CHANNEL, border("compartment", "supervisor"))
        async with trio.open_nursery() as nursery:
            await Parent(pooled, requests, supervisor, nursery, pid).run()
            nursery.cancel_scope.cancel()

    report(f"{pooled.role} pool", lambda: trio.run(enter))
