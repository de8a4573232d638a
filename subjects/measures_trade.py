"""One knob of an architecture turned, both sides of the trade measured (claim C25).

    the product = gain in speed x loss in exposure or durability, of the looser setting against the
    tighter one; where several knobs are asked for, the smallest product: each must be a trade

    syncs    loss: violated invariants over the crash states of its store, one more each, so that
             none is a number to divide by
    uses     loss: of sessions in a row, the most that one worker saw (`measures_pools`)
    jail     loss: files that the user of the process that faces the network can open from its root,
             one more each; by a process of ours that takes its place, and nobody is seized
    groups   loss: messages that one failed sync refuses, as many as share it

What is tricky: a product above 1 may rest on one side alone; so both are told, and what a setting
does not gain in speed is seen there.
"""

from __future__ import annotations

import re
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from refmta.architectures.catalogue import ARCHITECTURES
from specs.claims.instruments import NotHere
from specs.claims.verdict import Reading
from specs.persistence.enumerate import examine
from specs.persistence.models import MODELS
from specs.persistence.protocols import Message
from specs.persistence.workloads import ONE
from subjects import stores, stores_qmail_postfix, stores_sendmail
from subjects.measures_places import COMPOSITION, Place, need_root, ours
from subjects.measures_pools import changed, exposure, session_cost
from subjects.measures_programs import said, tracing
from subjects.measures_speed import (
    MESSAGES,
    WARM_UP,
    delivered_per_s,
    in_turns,
    process_cost,
)

ROUNDS: Final = 3


@dataclass(frozen=True, slots=True)
class Side:
    """gain in speed, loss in the other thing; told: both, in words."""

    gain: float
    loss: float
    told: str

    @property
    def product(self) -> float:
        return self.gain * self.loss


def trade(subject: str, part: str) -> Reading:
    """The smallest product of the knobs that this part names."""
    need_root()
    name = subject.removeprefix(COMPOSITION)
    if not subject.startswith(COMPOSITION) or name not in ARCHITECTURES:
        raise NotHere(f"this measure of {subject}")
    if part not in KNOBS:
        raise NotHere(f"the knob {part}")
    return smallest({knob: TURN[knob](name) for knob in KNOBS[part]}, process_cost())


def smallest(sides: Mapping[str, Side], cost: str) -> Reading:
    """The knob that is the least of a trade."""
    told = "; ".join(f"{knob}: {side.told}" for knob, side in sides.items())
    return Reading(min(side.product for side in sides.values()), f"{told}; {cost}")


def faster(loose: Place, tight: Place) -> tuple[float, str]:
    """How many times as fast the looser one is, in turns."""
    rates = []
    for found in in_turns({"loose": loose, "tight": tight}, ROUNDS).values():
        if isinstance(found, Exception):
            raise found
        rates.append(statistics.median(found))
    one, other = rates
    return one / other, f"{one:.0f}/s instead of {other:.0f}/s"


# -- syncs ----------------------------------------------------------------------------------------

#: No sync of a file, none of a directory.
NO_SYNC: Final = (
    "stores/disk.py",
    "    def sync(self, handle: int) -> None:\n        os.fsync(handle)\n",
    "    def sync(self, handle: int) -> None:\n        pass\n",
    "stores/disk.py",
    "        self._with_directory(path, os.fsync)\n",
    "        self._with_directory(path, lambda _: None)\n",
)
LOSING: Final = ("P1 atomic", "P2 atomic", "P3 atomic")
STORES: Final[Mapping[str, Callable[[], Any]]] = MappingProxyType(
    {
        "refmta": stores.chunk_store,
        "sendmail": stores_sendmail.sendmail_store,
        "qmail": stores_qmail_postfix.qmail_store,
    }
)


@dataclass(frozen=True, slots=True)
class Unsynced:
    """A store that does all but sync."""

    store: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def plan(self, messages: Sequence[Message]) -> Sequence[Any]:
        """Without what forces anything to the disk."""
        planned = self.store.plan(messages)
        return [each for each in planned if each.kind not in ("sync", "sync_dir")]


def violations(store: Any) -> int:
    """Over all states that a crash may leave of one message."""
    chosen = [model for model in MODELS if str(model) in LOSING]
    return sum(len(examine(store, model, ONE).violated) for model in chosen)


def turn_syncs(name: str) -> Side:
    with ExitStack() as after:
        tight = after.enter_context(ours(name))
        if name == "sendmail":
            loose = after.enter_context(ours(name, {("sendmail", "super_safe"): '"false"'}))
            store: Any = stores_sendmail.sendmail_unsafe()
        else:
            python = after.enter_context(changed(*NO_SYNC))
            loose = after.enter_context(ours(name, python=python))
            store = Unsynced(STORES[name]())
        gain, told = faster(loose, tight)
    lost, kept = violations(store), violations(STORES[name]())
    return Side(
        gain, (1 + lost) / (1 + kept), f"{told}, {lost} violations instead of {kept} without syncs"
    )


# -- uses of a worker -----------------------------------------------------------------------------


def turn_uses(name: str) -> Side:
    gain = session_cost(f"{COMPOSITION}{name}", "")
    loss = exposure(f"{COMPOSITION}{name}", "")
    return Side(gain.value, loss.value, f"{gain.detail.partition(',')[0]}, {loss.detail}")


# -- the jail -------------------------------------------------------------------------------------

UNJAILED: Final = MappingProxyType({"postfix": "postfix-unjailed", "refmta": "refmta-jail"})
FACE: Final = "smtpd"
#: Takes the place of a process: its root, its users and groups; counts what it can open there.
LOOKS_AROUND: Final = """
import os, stat, sys
pid = int(sys.argv[1])
with open(f"/proc/{pid}/status") as file:
    rows = dict(line.rstrip("\\n").split(":", 1) for line in file if ":" in line)
user, group = (int(rows[key].split()[1]) for key in ("Uid", "Gid"))
groups = [int(each) for each in rows["Groups"].split()]
os.chdir(f"/proc/{pid}/root")
os.chroot(".")
os.setgroups(groups)
os.setresgid(group, group, group)
os.setresuid(user, user, user)
count = 0
for place, directories, files in os.walk("/"):
    if place == "/":
        directories[:] = [each for each in directories if each not in ("proc", "sys", "dev")]
    for name in files:
        path = os.path.join(place, name)
        try:
            if stat.S_ISREG(os.lstat(path).st_mode):
                os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
                count += 1
        except OSError:
            pass
print(count)
"""


def readable_files(place: Place) -> int:
    """By the user of a process that faces the network, from its root."""
    delivered_per_s(place, WARM_UP)
    pids = [each.pid for each in place.processes() if each.role == FACE and each.part == "worker"]
    return int(said([sys.executable, "-I", "-c", LOOKS_AROUND, str(pids[0])]))


def turn_jail(name: str) -> Side:
    with ours(name) as tight, ours(UNJAILED[name]) as loose:
        outside, inside = readable_files(loose), readable_files(tight)
        gain, told = faster(loose, tight)
    return Side(
        gain, (1 + outside) / (1 + inside), f"{told}, {outside} files instead of {inside}, unjailed"
    )


# -- groups ---------------------------------------------------------------------------------------

#: One message each, in the queue manager's log and in the commits of what comes in.
ALONE: Final = (
    "roles/qmgr/intake.py",
    "            group, self.registering, self._gathered = self.registering, [], trio.Event()\n",
    "            group, self.registering = self.registering[:1], self.registering[1:]\n"
    "            if not self.registering:\n"
    "                self._gathered = trio.Event()\n",
    "roles/submissions.py",
    "            group, self.group, self.complete = self.group, [], trio.Event()\n",
    "            group, self.group = self.group[:1], self.group[1:]\n"
    "            if not self.group:\n"
    "                self.complete = trio.Event()\n",
)
#: What a group shares, as strace -y tells it.
SHARED: Final = MappingProxyType(
    {"sendmailx": re.compile(r"fsync\(\d+<[^>]*/ibdb/[^>]*>"),
     "refmta": re.compile(r"fsync\(\d+<[^>]*/chunks>")}
)  # fmt: skip


def turn_groups(name: str) -> Side:
    with ExitStack() as after:
        python = after.enter_context(changed(*ALONE))
        loose = after.enter_context(ours(name))
        tight = after.enter_context(ours(name, python=python))
        gain, told = faster(loose, tight)
        many, one = (MESSAGES / max(1, shared_syncs(each, SHARED[name])) for each in (loose, tight))
    return Side(gain, many / one, f"{told}, {many:.1f} messages in a group instead of {one:.1f}")


def shared_syncs(place: Place, shared: re.Pattern[str]) -> int:
    """How many syncs of what a group shares a load of messages takes.  Raises NotHere."""
    options = ["-f", "-y", "-e", "trace=fsync", "-e", "signal=none"]
    with tempfile.TemporaryDirectory(prefix="refmta-syncs-") as directory:
        with tracing(place.processes(), options, Path(directory)):
            delivered_per_s(place, MESSAGES)
        text = Path(directory, "calls").read_text(encoding="ascii", errors="replace")
    return sum(bool(shared.search(line)) for line in text.splitlines())


#: What a part of the measure turns; sessions at once per worker is no knob of ours: it is one.
KNOBS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "syncs": ("syncs",),
        "uses_and_jail": ("uses", "jail"),
        "groups": ("groups",),
        "the_other_knobs": ("jail", "syncs", "groups"),
    }
)
TURN: Final[Mapping[str, Callable[[str], Side]]] = MappingProxyType(
    {"syncs": turn_syncs, "uses": turn_uses, "jail": turn_jail, "groups": turn_groups}
)
