"""What is lost, torn or doubled when processes are killed before the system calls that matter.

    for number in 1, 2, ...: every process of the server is traced; each is killed (SIGKILL) on the
    point of its number-th call that changes the queue, a mailbox, or what another process knows

Rules a reader may rely on:
- It is the storm (`faultinject.storm`) with another killer: the same clients, books and account.
  Several clients write all the while; who is killed is started anew by its server, and by nobody
  else; whom strace does not have yet is killed from the next round on.
- strace kills on the entry of the call, which then does nothing.  It counts the calls of each
  process by itself (`when=`).
- The program that starts all others is spared: its death is a restart of everything.
- All calls of the round count as one moment for the windows of duplicates: it is their end that
  strace tells.

Without root nobody may be traced: the measure is not here then.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import trio

from faultinject import groups
from faultinject.books import Kill, Window
from faultinject.killer import Killer
from faultinject.processes import Process
from faultinject.storm import Plan, Result, Storm
from faultinject.target import Site, Target, TargetError, Waiting
from refmta.architectures.catalogue import ARCHITECTURES
from specs.claims.instruments import NotHere
from specs.claims.verdict import Reading
from subjects.measures_places import COMPOSITION, ON_DISK, need_root, peers
from subjects.measures_programs import Failed, tool, tracing
from subjects.target import Refmta

if TYPE_CHECKING:
    from subjects.measures_peers import Peer

#: Rounds, and how long each lasts; what is sent meanwhile.
ROUNDS, ROUND_S = 24, 2.5
MESSAGES, CLIENTS = 600, 6
DRAIN_S: Final = 60.0
#: Calls that change a file or its name, or tell another process something.
MATTER: Final = (
    "write,writev,pwrite64,sendmsg,sendto,fsync,fdatasync,rename,renameat,renameat2,link,linkat,"
    "unlink,unlinkat,fchmod,ftruncate"
)
SPARED: Final = frozenset({"spawner", "supervisor", "master"})
HARM: Final = ("lost", "half_lost", "altered", "misdelivered", "invented")
_DIED = re.compile(r"^([0-9]+) +([0-9.]+) \+\+\+ killed by SIGKILL", re.MULTILINE)


@dataclass(slots=True, kw_only=True)
class CallKiller(Killer):
    """Kills by strace.  watched: processes that may be killed -> role."""

    rounds: int = ROUNDS
    watched: dict[int, str] = field(default_factory=dict)

    async def rage(
        self, seconds: float, wanted: int, processes: Callable[[], Iterable[Process]]
    ) -> None:
        """One round per call number."""
        for number in range(1, self.rounds + 1):
            await trio.to_thread.run_sync(self._round, number, seconds / self.rounds, processes)

    def _round(
        self, number: int, seconds: float, processes: Callable[[], Iterable[Process]]
    ) -> None:
        victims = [each for each in processes() if each.role not in SPARED]
        if not victims:
            time.sleep(seconds)
            return
        until_s = time.monotonic() + seconds
        with tempfile.TemporaryDirectory(prefix="refmta-kills-") as directory:
            try:
                with tracing(victims, _options(number), Path(directory)):
                    self._follow(until_s, processes)
            except Failed:  # whom it should trace has gone: nobody is killed in this round
                self._follow(until_s, processes)
                return
            text = (Path(directory) / "calls").read_text(encoding="ascii", errors="replace")
        for pid, when in _DIED.findall(text):
            role = self.watched.get(int(pid), "")
            if role:
                self.books.kills.append(Kill(role=role, when_s=float(when)))
                self.hits[role] += 1
                self.kinds[role] += 1

    def _follow(self, until_s: float, processes: Callable[[], Iterable[Process]]) -> None:
        """Learn who is born meanwhile."""
        while time.monotonic() < until_s:
            for each in processes():
                self.watched[each.pid] = each.role
            time.sleep(0.01)


def _options(number: int) -> list[str]:
    """Of strace: each process, and each child, is killed on the point of this call of its own."""
    return [
        "-f", "-ttt", "-s", "0", "-e", f"trace={MATTER}", "-e", "signal=SIGKILL",
        f"--inject={MATTER}:signal=SIGKILL:when={number}",
    ]  # fmt: skip


@dataclass(slots=True)
class Siege(Storm):
    """A storm whose killer knows system calls."""

    rounds: int = ROUNDS

    def _killer(self) -> Killer:
        return CallKiller(
            roles=self.target.roles, books=self.books, now=time.time,
            random=Random(0), rounds=self.rounds,  # noqa: S311
        )  # fmt: skip


def besiege(target: Target, rounds: int = ROUNDS, messages: int = MESSAGES) -> Result:
    """The account after it.  Raises NotHere, TargetError."""
    tool("strace")
    plan = Plan(
        messages=messages, seconds=rounds * ROUND_S, seed=5, clients=CLIENTS, hits=0,
        drain_s=DRAIN_S,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="refmta-claims-", dir=ON_DISK) as directory:
        siege = Siege(target, plan, Path(directory), lambda _: None, rounds=rounds)
        return groups.run(siege.run)


# -- the measure ----------------------------------------------------------------------------------


_ACCOUNTS: Final[dict[str, Result]] = {}


def kills(subject: str, part: str) -> Reading:
    """part: "harmed": lost, torn or altered; "harmed_or_doubled": delivered twice, too."""
    need_root()
    if subject not in _ACCOUNTS:
        _ACCOUNTS[subject] = _account(subject)
    return counted(_ACCOUNTS[subject], part)


def _account(subject: str) -> Result:
    name = subject.rpartition(":")[2]
    if subject.startswith(COMPOSITION):
        if name not in ARCHITECTURES:
            raise NotHere(f"this measure of {subject}")
        target = Refmta(relays=False, traces=False)
        target.compose(name)
        return besiege(target)
    if not name.startswith("postfix"):
        raise NotHere(f"an adapter for kills of the real server {name}")
    with peers().peer(name, POSTFIX_SETTINGS) as peer:
        postfix = PostfixTarget(peer)
        result: Result = peer.within(lambda: besiege(postfix))
        return result


def counted(result: Result, part: str) -> Reading:
    """Harm, and where it is asked for what came twice by a death."""
    account = result.account
    harmed = {name: account.found(name) for name in HARM if account.found(name)}
    doubled = account.found("duplicate") + sum(
        count for window, count in account.duplicates.items() if window.startswith("killed")
    )
    waiting = [each.text for each in result.findings if each.name in ("unanswered", "unrecovered")]
    if waiting:
        raise RuntimeError(f"the server did not come through it: {waiting[0]}")
    value = sum(harmed.values()) + (doubled if part == "harmed_or_doubled" else 0)
    if not result.hits.total():
        raise RuntimeError("nobody was killed")
    hits = ", ".join(f"{role} {count}" for role, count in sorted(result.hits.items()))
    told = "; ".join(f"{count} {name}" for name, count in harmed.items()) or "none harmed"
    return Reading(
        value,
        f"{told}, {doubled} twice, of {account.acknowledged} promised;"
        f" {result.hits.total()} kills before {MATTER.count(',') + 1} kinds of calls: {hits}",
    )


# -- Postfix as a target --------------------------------------------------------------------------

#: Retries within seconds, and a master that does not pause after a daemon's death.
POSTFIX_SETTINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "minimal_backoff_time": "2s", "maximal_backoff_time": "4s", "queue_run_delay": "2s",
        "service_throttle_time": "1s", "in_flow_delay": "0",
    }
)  # fmt: skip


#: The users of `bench.target`, whose homes are here inside.
HOMES, FIRST_NUMBERED = "/home/bench", 1_900_100_002


@dataclass(slots=True)
class PostfixTarget:
    """A Postfix that runs already, in an overlay root; mail for the storm's users is one user's."""

    peer: Peer
    name: str = "postfix"
    capabilities: frozenset[str] = frozenset()
    known_failures: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    roles: tuple[str, ...] = ("smtpd", "cleanup", "qmgr", "local")
    site: Site | None = None

    @property
    def windows(self) -> Mapping[str, Window]:
        boxes = Window(roles=frozenset({"qmgr", "local"}), before_s=3.0, after_s=20.0)
        return {"mailbox": boxes, "next hop": boxes, "report": boxes}

    @property
    def address(self) -> tuple[str, int]:
        return self.peer.address

    @property
    def spool(self) -> Path:
        return self.peer.target.spool

    @property
    def places(self) -> Mapping[str, Path]:
        return {}

    def compose(self, architecture: str) -> None:
        raise KeyError(architecture)

    def unavailable(self) -> str | None:
        return None

    def install(self) -> None:
        """It is there."""

    def configure(self, site: Site) -> None:
        """Another domain, and its users, who live in homes that there are."""
        self.site = site
        run = self.peer.overlay.run
        rows = [
            f"{name}:x:{uid}:{uid}::{HOMES}/{home}:/bin/false"
            for name, (uid, home) in self._homes(site).items()
        ]
        run("tee", "-a", "/etc/passwd", stdin="\n".join(rows) + "\n")
        run("postconf", "-e", f"mydestination={site.domain}, localhost")
        run("postfix", "reload")

    def _homes(self, site: Site) -> dict[str, tuple[int, str]]:
        """A user and a home for each mailbox."""
        numbered = list(enumerate((f"{number}bench" for number in range(1, 17)), FIRST_NUMBERED))
        return dict(zip(site.users, numbered, strict=False))

    def start(self) -> None:
        """It runs."""

    def alive(self) -> bool:
        return any(each.role == "master" for each in self.peer.processes())

    def recover(self) -> tuple[str, ...]:
        self.peer.overlay.run("postfix", "start")
        return ()

    def processes(self) -> list[Process]:
        return self.peer.processes()

    def waiting(self) -> int:
        return self.peer.target.queued()

    def flush(self) -> None:
        self.peer.overlay.run("postqueue", "-f")

    def stop(self) -> tuple[str, ...]:
        self.peer.overlay.run("postfix", "stop")
        return ()

    def mailboxes(self) -> Mapping[str, Path]:
        if self.site is None:
            raise TargetError("postfix is not configured yet")
        return {
            f"{name}@{self.site.domain}": self.peer.target.new_mail(home)
            for name, (_, home) in self._homes(self.site).items()
        }

    def queued(self) -> Iterable[Waiting]:
        for row in self.peer.overlay.run("postqueue", "-j").splitlines():
            told: dict[str, Any] = json.loads(row)
            content = self.peer.overlay.run("postcat", "-bhq", told["queue_id"])
            recipients = tuple(each["address"] for each in told["recipients"])
            yield Waiting(content=content.encode("utf-8"), recipients=recipients)

    def trace(self) -> Path | None:
        return None

    def defects(self) -> tuple[str, ...]:
        return ()

    def log_end(self) -> str:
        return ""

    def dispose(self) -> None:
        """The overlay's end is its own, and wants to find it running."""
        if not self.alive():
            self.peer.overlay.run("postfix", "start")
