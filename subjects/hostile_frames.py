"""What refmta's frames look like when they are wrong, and who rests on whom: facts for a siege
(`specs.patterns.hostile_peer`).

A frame that is *forbidden* is no garbage: it is well made, and right on some other channel; it is
the most useful one that a seized process could try, such as an order of the supervisor's sent to
it, or a delivery sent to the queue's writer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from refmta.architectures.architecture import Architecture
from refmta.patterns.trust_partitioning import Border, border
from refmta.wire import messages
from refmta.wire.frame import HEADER_OCTETS, LIMITS, MESSAGE, encode_header
from refmta.wire.messages import Message, encode_message
from subjects.parts import between, working

_ID: Final = "06H06TY2DFR20W5S"
#: What a seized process would like to say, the best first; on each channel the first one that is
#: not allowed there is tried.
WISHES: Final[tuple[Message, ...]] = (
    messages.Configure(role="qmgr", slice=b"x"),
    messages.Drain(),
    messages.Kept(queue_id=_ID),
    messages.AgentWanted(user="root"),
    messages.Arrived(queue_ids=(_ID,)),
    messages.Outcome(reference=1, kind="delivered", enhanced="2.0.0", text=""),
    messages.Ask(reference=1, verb="remove", queue_id=_ID),
)
#: Messages of one octet too much for the cap, in the header's words.
_TOO_LONG: Final = bytes([MESSAGE, 0]) + (LIMITS[MESSAGE] + 1).to_bytes(4, "big")
_SUPERVISOR: Final = "supervisor"
#: Events of the journal by which a process says that it has heard something wrong.
REFUSALS: Final = ("peer cut off", "supervisor ended, starting all anew", "cannot work")
#: Where the channel is a dialogue in words (LMTP), a refusal is a reply, and a line of the log.
REFUSED_IN_WORDS: Final = "refused"


def frame(payload: bytes, descriptors: int = 0) -> bytes:
    """A message's frame; whether it may be said is not asked."""
    return encode_header(MESSAGE, descriptors, len(payload)) + payload


def frames() -> dict[str, tuple[bytes, int]]:
    """Kind -> (octets, descriptors that go with them)."""
    unknown = b"\x92\xabno-such-one\x01"
    return {
        # With the end of a text, for those who read texts.
        "garbage": (b"\xff" * 64 + b"\0\r\n", 0),
        "oversized": (_TOO_LONG + b"\x93" * 512, 0),
        "truncated": (frame(bytes(100))[: HEADER_OCTETS + 10], 0),
        "descriptors": (frame(unknown, 3), 3),
        "unknown message": (frame(unknown), 0),
    }


def forbidden(architecture: Architecture) -> dict[tuple[str, str], bytes]:
    """(sender's process name, receiver's) -> a frame that it may not say there."""
    return {
        ends: frame(encode_message(wish(side)))
        for one, other, side in _channels(architecture)
        for ends, side in (((one, other), side), ((other, one), side.turned()))
    }


def wish(side: Border) -> Message:
    """The first wish that may not be said from this side."""
    return next(each for each in WISHES if type(each) not in side.says.types)


def _channels(architecture: Architecture) -> Iterator[tuple[str, str, Border]]:
    """(process, process, the first one's side)."""
    for row in architecture.compartments:
        yield row.name, _SUPERVISOR, border("compartment", "supervisor")
        if row.pooled:
            yield row.name, f"{row.name} worker", border("pool", "worker")
    for talk in between(architecture):
        client, server = architecture.row(talk.client), architecture.row(talk.server)
        roles = talk.client_role, talk.server_role
        yield working(client), working(server), border(*roles)
        if client.pooled:
            yield client.name, server.name, border("pool", "server")
        if server.pooled:
            yield client.name, server.name, border("caller", "pool")


def rests_on(architecture: Architecture) -> frozenset[tuple[str, str]]:
    """(sender, receiver): the receiver ends with its channel to the sender, and is started anew.

    Every compartment rests on the supervisor, a pool's worker on its parent and on the servers that
    it talks to, parent and template on each other, an agent on who sends it, and who serves one
    session on whose it is.
    """
    found: set[tuple[str, str]] = set()
    for row in architecture.compartments:
        found.add((_SUPERVISOR, row.name))
        if row.pooled:
            template = f"{row.name} template"
            found |= {(row.name, template), (template, row.name)}
            found.add((row.name, f"{row.name} worker"))
    for talk in between(architecture):
        client, server = architecture.row(talk.client), architecture.row(talk.server)
        if client.pooled:
            found.add((working(server), working(client)))
        if server.ends_with == client.name or server.uses == 1:
            found.add((working(client), working(server)))
    return frozenset(found)


def _in_words(architecture: Architecture) -> bool:
    return any(each.carrier == "stream" for each in architecture.talks)


def facts(architecture: Architecture) -> Mapping[str, object]:
    """What the siege needs to know."""
    return {
        "frames": frames(),
        "forbidden": forbidden(architecture),
        "rests_on": rests_on(architecture),
        "refusals": (*REFUSALS, *({REFUSED_IN_WORDS} if _in_words(architecture) else ())),
    }
