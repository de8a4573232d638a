"""Messages delivered per second: every step runs, and they take turns.

Within a round each step gets the same load, in an order that changes from round to round, so that
what else happens on the machine happens to all of them; the others are idle meanwhile.  The load is
so many clients at once, a connection and a message of 4 KB each time; it has been delivered when
the last message lies in its mailbox.
"""

from __future__ import annotations

import itertools
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from specs.evolution.measured import Rates
from specs.evolution.steps import Step
from specs.patterns.bench import DOMAIN, HOSTNAME, USERS
from specs.patterns.target import Site, Target, TargetError
from specs.patterns.world import Unanswered, session, world

CLIENTS: Final = 8
OCTETS: Final = 4096
STALL_S: Final = 60.0
_LOOK_S: Final = 0.005
#: A line that each message has once; it begins another word in each run of the load.
_MARK: Final = b"\nX-Counted: "
_LINE: Final = b"x" * 62 + b"\r\n"

Tell = Callable[[str], None]


class DoesNotStart(TargetError):
    """A step's server did not start, or did not deliver; the text says which."""


# -- what is delivered ----------------------------------------------------------------------------


@dataclass(slots=True)
class Mailbox:
    """How many messages have come into it.  _read: octets of an mbox that were looked at."""

    path: Path
    _read: int = 0
    _seen: int = 0

    def count(self) -> int:
        """From the beginning on."""
        if self.path.is_dir():
            return sum(1 for _ in self.path.iterdir())
        with suppress(FileNotFoundError), self.path.open("rb") as file:
            file.seek(self._read)
            octets = file.read()
            self._seen += octets.count(_MARK)
            # what may be the beginning of a mark is looked at again
            self._read += max(0, len(octets) - len(_MARK) + 1)
        return self._seen


@dataclass(slots=True)
class Served:
    """One step's server under load."""

    step: Step
    target: Target
    mailboxes: Sequence[Mailbox] = field(default_factory=tuple)

    def count(self) -> int:
        """Messages delivered so far."""
        return sum(each.count() for each in self.mailboxes)

    def rate(self, messages: int) -> float:
        """Delivered per second.  Raises DoesNotStart."""
        before, began_s = self.count(), time.perf_counter()
        try:
            self._send(messages)
        except (OSError, Unanswered) as error:
            raise DoesNotStart(f"{self.step} under load: {error}") from None
        last, since_s = before, time.monotonic()
        while (now := self.count()) < before + messages:
            if now != last:
                last, since_s = now, time.monotonic()
            if time.monotonic() - since_s > STALL_S:
                raise DoesNotStart(f"{self.step}: {now - before} of {messages} are delivered")
            time.sleep(_LOOK_S)
        return messages / (time.perf_counter() - began_s)

    def _send(self, messages: int) -> None:
        users = itertools.cycle(USERS)
        recipients = iter([f"{next(users)}@{DOMAIN}" for _ in range(messages)])
        turn = threading.Lock()

        def client() -> None:
            while True:
                with turn:
                    recipient = next(recipients, None)
                if recipient is None:
                    return
                _send(self.target.address, recipient)

        with ThreadPoolExecutor(CLIENTS) as clients:
            for done in [clients.submit(client) for _ in range(CLIENTS)]:
                done.result()


def _send(address: tuple[str, int], recipient: str) -> None:
    """One message over a session of its own.  Raises Unanswered, OSError."""
    with session(address) as client:
        for line, expected in (
            ("EHLO client.test", 250),
            ("MAIL FROM:<client@client.test>", 250),
            (f"RCPT TO:<{recipient}>", 250),
            ("DATA", 354),
        ):
            _expect(client.say(line), expected)
        body = _LINE * (OCTETS // len(_LINE))
        client.connection.sendall(b"Subject: load\r\nX-Counted: once\r\n\r\n" + body + b".\r\n")
        _expect(client.reply("the end of data"), 250)
        client.say("QUIT")


def _expect(reply: tuple[int, str], expected: int) -> None:
    if reply[0] != expected:
        raise Unanswered(f"answered {reply[0]} {reply[1]}")


# -- side by side ---------------------------------------------------------------------------------


def rates(
    maker: Callable[[], Target], steps: Sequence[Step], rounds: int, messages: int, tell: Tell
) -> list[Rates]:
    """Of each step.  Raises DoesNotStart."""
    found: list[list[float]] = [[] for _ in steps]
    chance = random.Random(1)  # noqa: S311  the order of turns is no secret
    with ExitStack() as stack:
        served = [stack.enter_context(_serving(maker, step, tell)) for step in steps]
        for each in served:
            each.rate(2 * CLIENTS)  # to warm up
        for number in range(rounds):
            tell(f"load: round {number + 1} of {rounds}")
            for place in chance.sample(range(len(served)), len(served)):
                found[place].append(served[place].rate(messages))
    return [Rates(rounds=tuple(each)) for each in found]


@contextmanager
def _serving(maker: Callable[[], Target], step: Step, tell: Tell) -> Iterator[Served]:
    tell(f"started, to be timed: {step}")
    with tempfile.TemporaryDirectory(prefix="refmta-evolve.") as name, world() as around:
        place = Path(name)
        place.chmod(0o711)  # a system's parts are users of their own
        site = Site(
            directory=place / "target",
            hostname=HOSTNAME,
            domain=DOMAIN,
            users=USERS,
            next_hops=around.next_hops,
        )
        site.directory.mkdir(mode=0o711)
        target = maker()
        try:
            try:
                target.start(site, step.architecture)
            except TargetError as error:
                raise DoesNotStart(f"{step}: {error}") from None
            boxes = [Mailbox(path) for path in target.mailboxes().values()]
            yield Served(step, target, boxes)
            target.stop()
        finally:
            target.dispose()
