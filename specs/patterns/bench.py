"""A running target under load: what experiments work on.

The load makes every kind of process live and busy at once: SMTP sessions held at several points, a
message for each local user, one to a next hop that never says a word (so that a worker waits and
a message stays in the queue), one to a next hop that refuses it (so that a report is made), and
a recipient whom nobody knows.  It is the same for every target and says nothing but SMTP.

Who lives for one delivery only (`Compartment.fleeting`) is caught in it: a large message is sent,
and the process that delivers it is stopped (SIGSTOP) until it was looked at.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from specs.mailboxes import stored
from specs.observe.process import look_around
from specs.observe.rest import await_rest
from specs.observe.waiting import within
from specs.patterns.claims import Bench
from specs.patterns.manifest import Manifest
from specs.patterns.observation import Instant
from specs.patterns.target import Named, Site, Target, TargetError
from specs.patterns.world import (
    PATIENCE_S,
    REFUSING,
    SILENT,
    Session,
    Unanswered,
    World,
    session,
    world,
)

DOMAIN: Final = "judged.test"
HOSTNAME: Final = "mx.judged.test"
USERS: Final = ("ada", "bob")
#: Of a message whose delivery takes long enough to be seen; how often that is tried, for how long.
LARGE_LINES: Final = 100_000
TRIES: Final = 5
CATCH_S: Final = 3.0

Maker = Callable[[], Target]


@dataclass(slots=True)
class Running:
    """A `Bench`: one running target, its world and its load."""

    target: Target
    site: Site
    architecture: str
    world: World
    maker: Maker
    manifest: Manifest
    held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    #: Processes that are stopped, by name.
    caught: dict[str, Named] = field(default_factory=dict)

    @property
    def directory(self) -> Path:
        """Made anew at each call, for root only."""
        return Path(tempfile.mkdtemp(prefix="experiment.", dir=self.site.directory.parent))

    # -- load -------------------------------------------------------------------------------------

    def load(self) -> None:
        """Return when every kind of process lives, or none comes any more.  Raises TargetError."""
        self.held.close()
        self.release()
        with _as_target_error("under load"):
            for until in ("EHLO", "RCPT", "DATA"):
                self._hold(until)
            for user in self.site.users:
                self.deliver(user)
            first = f"{self.site.users[0]}@{self.site.domain}"
            self._accepted(f"somebody@{SILENT}", first)
            self._accepted(f"somebody@{REFUSING}", first)
            self.world.send(self.target.address, f"nobody.knows@{self.site.domain}", first)
        parts = {part for each in self.manifest.compartments for part in each.parts}
        parts -= self._fleeting()
        within(PATIENCE_S / 2, lambda: parts <= {each.name for each in self.target.processes()})
        within(PATIENCE_S / 2, lambda: bool(self.target.queued()))
        await_rest(each.pid for each in self.target.processes())

    def _hold(self, until: str) -> Session:
        """A session that is left open after that command."""
        client = self.held.enter_context(session(self.target.address))
        recipient = f"{self.site.users[0]}@{self.site.domain}"
        for verb, line in (
            ("EHLO", "EHLO client.test"),
            ("MAIL", "MAIL FROM:<client@client.test>"),
            ("RCPT", f"RCPT TO:<{recipient}>"),
            ("DATA", "DATA"),
        ):
            client.say(line)
            if verb == until:
                break
        return client

    def _accepted(self, recipient: str, sender: str = "", token: str = "", lines: int = 1) -> None:
        code, text = self.world.send(self.target.address, recipient, sender, token, lines)
        if code != 250:
            raise Unanswered(f"mail to {recipient} is answered {code} {text}")

    def deliver(self, user: str) -> None:
        """A message goes all the way into the user's mailbox.  Raises TargetError."""
        token, address = self.world.token(), f"{user}@{self.site.domain}"
        mailbox = self.target.mailboxes()[address]
        with _as_target_error("delivery"):
            self._accepted(address, "", token)
        if not within(PATIENCE_S, lambda: _holds(mailbox, token.encode())):
            raise TargetError(f"mail to {address} does not arrive")

    # -- those that live for a moment -------------------------------------------------------------

    def _fleeting(self) -> set[str]:
        return {part for each in self.manifest.compartments for part in each.fleeting}

    def _catch(self, name: str) -> Named:
        """A process of that name that has become its recipient, and is stopped."""
        there = self.caught.get(name)
        if there is not None and there in self.target.processes():
            return there
        address = f"{self.site.users[0]}@{self.site.domain}"
        for _ in range(TRIES):
            with _as_target_error("a large message"):
                self._accepted(address, token=self.world.token(), lines=LARGE_LINES)
            deadline = time.monotonic() + CATCH_S
            while time.monotonic() < deadline:
                for each in self.target.processes():
                    found = each.name == name and each.detail and _stop(each.pid)
                    if found and each in self.target.processes():
                        self.caught[name] = each
                        return each
        raise TargetError(f"no process {name} was caught")

    def release(self) -> None:
        """Let those go on who were stopped."""
        for each in self.caught.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGCONT)
        self.caught.clear()

    # -- what experiments use ---------------------------------------------------------------------

    def process(self, name: str) -> Named:
        """See `Bench`."""
        if name in self._fleeting():
            return self._catch(name)
        for _ in range(2):
            for each in self.target.processes():
                if each.name == name:
                    await_rest([each.pid])
                    if each in self.target.processes():  # it may have been about to end
                        return each
            self.load()
        raise TargetError(f"no process {name}, even under load")

    def _serves(self) -> bool:
        with contextlib.suppress(TargetError):
            self.deliver(self.site.users[-1])
            return True
        return False

    def settle(self) -> None:
        """See `Bench`.  A target that is dead, or does not come back, is started anew."""
        self.release()
        if within(PATIENCE_S, self._serves):
            return
        self.target.dispose()
        self.target.start(self.site, self.architecture)
        self.deliver(self.site.users[-1])

    def fresh(self, architecture: str) -> AbstractContextManager[Bench]:
        """See `Bench`."""
        return running(self.maker, architecture)

    def instant(self, label: str) -> Instant:
        """One look around."""
        for name in sorted(self._fleeting()):
            with contextlib.suppress(TargetError):
                self._catch(name)
        who = [(each.pid, each.name, each.detail) for each in self.target.processes()]
        seen = Instant(label=label, processes=look_around(who))
        self.release()
        return seen


@contextlib.contextmanager
def running(maker: Maker, architecture: str) -> Iterator[Running]:
    """A target in a directory of its own, started and under load; stopped and removed at the end.
    Raises TargetError, NoSuchArchitecture.
    """
    with tempfile.TemporaryDirectory(prefix="refmta-matrix.") as name, world() as around:
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
            target.start(site, architecture)
            bench = Running(target, site, architecture, around, maker, target.manifest())
            with bench.held:
                bench.load()
                yield bench
            target.stop()
        finally:
            target.dispose()


@contextlib.contextmanager
def _as_target_error(when: str) -> Iterator[None]:
    try:
        yield
    except (OSError, Unanswered) as error:
        raise TargetError(f"{when}: {error}") from None


def _stop(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGSTOP)
    except ProcessLookupError:
        return False
    return True


def _holds(mailbox: Path, token: bytes) -> bool:
    with contextlib.suppress(OSError):
        return any(token in each.octets for each in stored(mailbox))
    return False
