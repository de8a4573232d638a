"""Negative controls of the borders: every kind of bad frame, on every channel of the architecture,
against the real carrier and against mutants of it, judged by the claims of a siege
(`specs.patterns.trust_partitioning`).

Here both ends are in one process, so that all kinds are tried on all channels in a second; the
siege of the running system tries each channel once, from inside its real owner.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import trio

from refmta.architectures.refmta import REFMTA
from refmta.patterns.trust_partitioning import BORDERS, Border, ChannelBroken
from refmta.processes import channels
from refmta.wire.messages import encode_message
from specs.kernel.control import Control, Verdict
from specs.kernel.mutant import hits, mutate
from specs.patterns.hostile_peer import Attack, Siege
from specs.patterns.manifest import Manifest
from specs.patterns.observation import Observation
from specs.patterns.trust_partitioning import CLAIMS, SIEGE
from subjects import hostile_frames

#: Of the claims on a siege, those that say something of a carrier alone.
JUDGED = frozenset({"bad_frames_end_the_channel", "refusals_are_logged", "no_descriptor_is_kept"})
#: How long a carrier may take to refuse what it has, in seconds.
PATIENCE_S = 1.0


def directions() -> Iterator[tuple[str, str, Border]]:
    """(who hears, who says, the hearer's side), both ways of each border."""
    for (one, other), side in BORDERS.items():
        yield one, other, side
        yield other, one, side.turned()


def attacks(module: Any = channels) -> list[Attack]:
    """Every kind on every channel."""
    found = []
    for hearer, speaker, side in directions():
        frames = {**hostile_frames.frames(), "forbidden": (_forbidden(side), 0)}
        for kind, (octets, descriptors) in frames.items():
            found.append(_attack(module, side, octets, descriptors, (speaker, hearer, kind)))
    return found


def _forbidden(side: Border) -> bytes:
    return hostile_frames.frame(encode_message(hostile_frames.wish(side.turned())))


def _attack(
    module: Any, side: Border, octets: bytes, descriptors: int, names: tuple[str, str, str]
) -> Attack:
    with _log() as log:
        before = _opened()
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with far:
            socket.send_fds(far, [octets], [log.fileno()] * descriptors)
            if names[2] == "truncated":
                far.shutdown(socket.SHUT_WR)
            ended = trio.run(_hear, module.SocketChannel(near, side))
        kept = tuple(each for each in _opened() - before if "log" in each)
        log.seek(0)
        said = [json.loads(line) for line in log.read().splitlines()]
    for each in kept:  # a mutant's
        os.close(int(each.partition(" ")[0]))
    sender, receiver, kind = names
    return Attack(
        sender=sender, receiver=receiver, kind=kind, written=len(octets), lived=True, heard=True,
        ended=ended, said=any(e["event"] in hostile_frames.REFUSALS for e in said),
        kept=kept, grown=0, mail="",
    )  # fmt: skip


async def _hear(channel: Any) -> bool:
    """Whether the channel is ended by what has come."""
    with trio.move_on_after(PATIENCE_S):
        try:
            await channel.receive()
        except ChannelBroken:
            return True
    with contextlib.suppress(OSError):
        channel._socket.close()  # not `close`, which would tidy up what was kept
    return False


def _opened() -> set[str]:
    """Descriptors of this process, and what they are open on."""
    found = set()
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(f"{each.name} {each.readlink()}")
    return found


@contextlib.contextmanager
def _log() -> Iterator[Any]:
    """A nameless file, which is standard error meanwhile: the journal writes there."""
    before = os.dup(2)
    with os.fdopen(os.memfd_create("log"), "r+") as log:
        os.dup2(log.fileno(), 2)
        try:
            yield log
        finally:
            os.dup2(before, 2)
            os.close(before)


# -- the judgement --------------------------------------------------------------------------------


def judge_borders(module: Any = channels) -> Verdict:
    """The claims that such a siege violates."""
    siege = Siege(tuple(attacks(module)))
    seen = Observation(
        manifest=Manifest(architecture=REFMTA.name, layers=(), compartments=()),
        instants=(),
        results={SIEGE: siege},
    )
    found = {claim.name: claim.judge(seen) for claim in CLAIMS if claim.name in JUDGED}
    wrong = {name: rows for name, rows in found.items() if rows}
    detail = "; ".join(rows[0] for rows in wrong.values())
    return Verdict(violated=frozenset(wrong), detail=detail or f"{len(siege.attacks)} attacks")


Replacements = Sequence[tuple[str, str]]

#: Name, claim, what is replaced in the carrier.
ROWS: Sequence[tuple[str, str, Replacements]] = (
    (
        "a frame on a channel that does not allow it",
        "bad_frames_end_the_channel",
        [(
            "        message = hears.decode(payload)\n",
            "        import msgspec\n"
            "        from refmta.wire import messages as m\n"
            "        every = [c for c in vars(m).values() if isinstance(c, type)\n"
            "                 and issubclass(c, Message) and c is not Message]\n"
            "        __mutant_ran__()\n"
            "        from typing import Union\n"
            "        try:\n"
            "            message = msgspec.msgpack.decode(payload, type=Union[tuple(every)])\n"
            "        except msgspec.DecodeError as error:\n"
            "            raise FrameError(str(error)) from None\n",
        )],
    ),
    (
        "a frame of any length is waited for",
        "bad_frames_end_the_channel",
        [(
            "            for frame in self._assembler.feed(octets):\n",
            "            try:\n"
            "                frames = self._assembler.feed(octets)\n"
            "            except FrameError as error:\n"
            "                if 'too long' not in str(error) or not __mutant_ran__():\n"
            "                    raise\n"
            "                frames = []\n"
            "            for frame in frames:\n",
        )],
    ),
    (
        "descriptors of a broken channel stay open",
        "no_descriptor_is_kept",
        [("        close_all(self._inbox)\n        self._inbox.clear()\n\n\nclass LocalChannel",
          "        __mutant_ran__()\n\n\nclass LocalChannel")],
    ),
    (
        "a peer is cut off without a word",
        "refusals_are_logged",
        [("        if reason != END:", "        if reason != END and not __mutant_ran__():")],
    ),
)  # fmt: skip


def _control(name: str, claim: str, replacements: Replacements) -> Control:
    def mutant() -> Verdict:
        carrier = mutate(channels.__name__, replacements)
        verdict = judge_borders(carrier)
        return Verdict(
            violated=verdict.violated,
            mutated_line_ran=bool(hits(carrier)),
            detail=verdict.detail,
        )

    return Control(name=name, spec="patterns", invariant=claim, twin=judge_borders, mutant=mutant)


def controls() -> list[Control]:
    """Entry point."""
    return [_control(*row) for row in ROWS]
