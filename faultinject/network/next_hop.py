"""A scripted SMTP server: an honest next hop, or a hostile one, that keeps the books.

    python -m faultinject.network.next_hop --port 2526 --behaviour mixed --seed 1 --record FILE

Rules a reader may rely on
- A connection's behaviour (`behaviours.BEHAVIOURS`) is chosen when it is accepted.  "mixed": by
  seed and the connection's number, half of them honest (or the given share), the others drawn
  from all rows.  The same seed gives the same behaviours in the same order.
- What is accepted is recorded, one JSON line per transaction, written when the reply to its end
  was sent, or is about to be withheld or cut off, in one write:
      {"token", "reverse_path", "recipients": [accepted ones], "octets", "sha256", "body_sha256",
       "replied": bool, "behaviour", "connection"}
  `replied`: a whole 2yz reply to the end of the content was handed to the kernel.  false: the
  message was taken, and the client cannot know (the window for an honest duplicate).  `sha256` is
  of the content as it was before dot-stuffing; `body_sha256` of what follows its first empty line;
  `token` the value of the first header field of that name (`token_header`).
- A message that was refused, or cut off before its end, is not recorded.
- `become("honest")`, or SIGUSR1 to the process: the connections from now on are honest.

It takes anything that looks like SMTP, and keeps at most one message per connection in memory.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import click
import trio

from faultinject.network.behaviours import BEHAVIOURS
from faultinject.network.session import Accepted, Conversation, Gone

__all__ = ["TOKEN_HEADER", "Accepted", "NextHop", "main"]

TOKEN_HEADER = "X-Token"  # noqa: S105


@dataclass(slots=True)
class Visit:
    """A connection, or an attempt: when it came and went, in seconds since 1970; gone_s is 0 while
    it is open.  behaviour: what it met.
    """

    came_s: float
    behaviour: str
    gone_s: float = 0.0


@dataclass(slots=True, kw_only=True)
class NextHop:
    """The server's state, for a test to look at.

    behaviour: a name of `BEHAVIOURS`, or "mixed" (drawn from `among`, all by default).
    seen: connections by behaviour.  visits: all of them, in order.  attempts: the same, but that
    each MAIL on a connection that was kept open begins another.  commands: every command line, in
    order (the last 10,000).
    """

    behaviour: str = "honest"
    seed: int = 0
    honest_share: float = 0.5
    among: tuple[str, ...] = tuple(BEHAVIOURS)
    record: Path | None = None
    keep_content: bool = False
    token_header: str = TOKEN_HEADER
    accepted: list[Accepted] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    visits: list[Visit] = field(default_factory=list)
    attempts: list[Visit] = field(default_factory=list)
    commands: list[bytes] = field(default_factory=list)
    open: int = 0
    overfed: int = 0  # clients that read an endless reply to our own limit
    _connections: int = 0
    _changed: trio.Event = field(default_factory=trio.Event)

    def __post_init__(self) -> None:
        for name in (*self.among, *(() if self.behaviour == "mixed" else (self.behaviour,))):
            if name not in BEHAVIOURS:
                raise ValueError(f"no such behaviour: {name}")

    def become(self, behaviour: str) -> None:
        """What connections do from now on."""
        self.behaviour = behaviour

    async def serve(
        self,
        port: int = 0,
        host: str = "127.0.0.1",
        *,
        task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Until cancelled; `nursery.start` returns the port.  Raises OSError."""
        listeners = await trio.open_tcp_listeners(port, host=host, backlog=512)
        task_status.started(listeners[0].socket.getsockname()[1])
        await self.serve_at(listeners)

    async def serve_at(self, listeners: list[trio.SocketListener]) -> None:
        """At sockets that listen already."""
        await trio.serve_listeners(self._converse, listeners)

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Until it holds; looked at after each command, message and connection."""
        while not condition():
            await self._changed.wait()

    def _draw(self) -> str:
        if self.behaviour != "mixed":
            return self.behaviour
        dice = random.Random(f"{self.seed}/{self._connections}")  # noqa: S311
        if dice.random() < self.honest_share:
            return "honest"
        return dice.choice(self.among)

    async def _converse(self, stream: trio.SocketStream) -> None:
        self._connections += 1
        name = self._draw()
        self.seen[name] += 1
        visit = Visit(time.time(), name)
        self.visits.append(visit)
        attempts = [Visit(visit.came_s, name)]
        self.attempts.append(attempts[0])
        self.open += 1
        self.changed()

        def again(ended_s: float) -> None:
            attempts[-1].gone_s = ended_s
            attempts.append(Visit(time.time(), name))
            self.attempts.append(attempts[-1])

        conversation = Conversation(self, stream, name, BEHAVIOURS[name], self._connections, again)
        try:
            await conversation.run()
        except (Gone, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.open -= 1
            visit.gone_s = time.time()  # a connection may be kept open when the attempt is over
            attempts[-1].gone_s = conversation.over_s or visit.gone_s
            self.changed()
            await trio.aclose_forcefully(stream)

    def note(self, accepted: Accepted) -> None:
        """Into the books, and on to the disk."""
        self.accepted.append(accepted)
        if self.record is not None:
            handle = os.open(self.record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.write(handle, accepted.line())
            os.close(handle)
        self.changed()

    def heard(self, line: bytes) -> None:
        """A command came."""
        self.commands.append(line)
        if len(self.commands) > 20_000:
            del self.commands[:10_000]
        self.changed()

    def changed(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


# -- as a process ---------------------------------------------------------------------------------


async def _run(hop: NextHop, port: int, host: str) -> None:
    async with trio.open_nursery() as nursery:
        listening = await nursery.start(hop.serve, port, host)
        click.echo(f"listening on {host}:{listening}, behaviour {hop.behaviour}, seed {hop.seed}")
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGUSR1) as signals:
            async for number in signals:
                if number != signal.SIGUSR1:
                    nursery.cancel_scope.cancel()
                    return
                hop.become("honest")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=0, help="0: any; it is printed")
@click.option("--behaviour", default="honest", show_default=True, help='a name, or "mixed"')
@click.option("--honest-share", default=0.5, show_default=True, help='of "mixed"')
@click.option("--seed", default=0, show_default=True)
@click.option("--record", type=click.Path(path_type=Path), help="accepted messages, JSON lines")
@click.option("--token-header", default=TOKEN_HEADER, show_default=True)
@click.option("--list", "listing", is_flag=True, help="print the behaviours and end")
def main(
    host: str, port: int, behaviour: str, honest_share: float, seed: int,
    record: Path | None, token_header: str, listing: bool,
) -> None:  # fmt: skip
    """A next hop that does what the behaviour says.  SIGUSR1 makes it honest."""
    if listing:
        for name, row in BEHAVIOURS.items():
            click.echo(f"{name:40} {', '.join(sorted(row.allows))}{' (taken)' * row.takes}")
        return
    try:
        hop = NextHop(
            behaviour=behaviour, seed=seed, honest_share=honest_share, record=record,
            token_header=token_header,
        )  # fmt: skip
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    trio.run(_run, hop, port, host)


if __name__ == "__main__":
    main()
