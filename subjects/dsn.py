"""refmta's reports as the specs see them, and wrong versions of them that the oracles must catch.

`reported` runs the whole role `bounce` on channels that only take notes, so that the envelope and
the octets are those that enqueue would get.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from types import ModuleType
from typing import Any

import trio

from refmta.journal import journal
from refmta.patterns.trust_partitioning import ChannelBroken, Received
from refmta.protocol import dsn
from refmta.roles import bounce
from refmta.wire.envelope import Envelope as ChunkEnvelope
from refmta.wire.envelope import encode_chunk
from refmta.wire.messages import Kept, Message, Report, ReportRow, Submit
from specs.dsn import decision, report
from specs.dsn.decision import Told
from specs.dsn.truth import Envelope, Row, Truth
from specs.kernel.control import Control, Verdict
from specs.kernel.mutant import hits, mutate

QUEUE_ID = "06H06TY2DFR20001"
TOKEN = "06H06TY2DFR20001.0a1b2c3d"  # noqa: S105
NOW_S = 1_700_001_000


# -- the subject ----------------------------------------------------------------------------------


def decide_of(module: Any) -> decision.Decide:
    """A module's decision as the spec asks for it."""

    def decide(
        event: str,
        reverse_path: str,
        *,
        hostname: str,
        postmaster: str,
        copies: frozenset[str],
        recipients: Collection[str],
    ) -> list[Told]:
        notify = module.Notify(hostname=hostname, postmaster=postmaster, copies=copies)
        tells = module.decide(event, reverse_path, notify, recipients)
        return [Told(tell.to, tell.kind) for tell in tells]

    return decide


def composed(truth: Truth, module: Any = dsn, token: str = TOKEN) -> bytes:
    """A module's report about these facts."""
    facts = module.Facts(
        hostname=truth.hostname,
        kind=truth.kind,
        to=truth.to,
        queue_id=truth.queue_id,
        arrival_s=truth.arrival_s,
        reverse_path=truth.reverse_path,
        rows=tuple(map(_row, truth.rows)),
        until_s=truth.until_s,
    )
    octets: bytes = module.compose(facts, truth.header, now_s=NOW_S, token=token)
    return octets


def _row(row: Row) -> ReportRow:
    return ReportRow(
        address=row.address, enhanced=row.enhanced, text=row.text, when_s=row.when_s, host=row.host
    )


class _Notes:
    """A channel whose peer has said what it has to say, and whose other direction is kept."""

    def __init__(self, *heard: Received) -> None:
        self.heard = [[each] for each in heard]
        self.said: list[Message] = []
        self.octets = b""

    def post(self, message: Message, *_descriptors: int) -> None:
        self.said.append(message)

    def post_octets(self, octets: bytes) -> None:
        self.octets += octets

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive(self) -> list[Received]:
        await trio.lowlevel.checkpoint()
        if not self.heard:
            raise ChannelBroken("end of stream")
        return self.heard.pop(0)

    def close(self) -> None:
        self.heard.clear()


class _OneFile:
    """The reading side of a Disk that holds one chunk."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def read(self, _handle: int, size: int, offset: int) -> bytes:
        return self._octets[offset : offset + size]

    def close(self, _handle: int) -> None:
        self._octets = b""


def reported(truth: Truth, module: Any = bounce) -> tuple[Envelope, bytes]:
    """What the role hands to enqueue when qmgr orders this report.  Raises ValueError: nothing."""
    envelope = ChunkEnvelope(
        queue_id=truth.queue_id,
        arrival_s=truth.arrival_s,
        reverse_path=truth.reverse_path,
        recipients=tuple(row.address for row in truth.rows),
        client="192.0.2.1",
        helo="client.example",
        protocol="ESMTP",
    )
    order = Report(
        reference=1,
        queue_id=truth.queue_id,
        kind="delayed" if truth.kind == "delayed" else "failed",
        to=truth.to,
        rows=tuple(map(_row, truth.rows)),
        until_s=truth.until_s,
    )
    enqueue = _Notes(Received(Kept(queue_id=QUEUE_ID)))
    role = module.Bounce(
        _OneFile(encode_chunk(envelope, [truth.header])),
        module.Slice(hostname=truth.hostname, postmaster=decision.POSTMASTER),
        journal("bounce", descriptor=-1),
        now=lambda: NOW_S,
        token=lambda: TOKEN,
    )
    role.enqueue = enqueue
    role.linked.set()
    trio.run(role.serve, _Notes(Received(order, descriptors=(0,))))
    submits = [each for each in enqueue.said if isinstance(each, Submit)]
    if len(submits) != 1:
        raise ValueError("nothing was submitted")
    return Envelope(submits[0].reverse_path, submits[0].recipients), enqueue.octets


# -- facts that are hard to report ----------------------------------------------------------------

REFUSED = Row(
    address="bob@remote.example",
    enhanced="5.1.1",
    text="550 5.1.1 no such user here",
    when_s=1_700_000_100,
    host="mx.remote.example[192.0.2.7]:25",
)


def _truth(**changes: Any) -> Truth:
    fields: dict[str, Any] = {
        "hostname": decision.HOSTNAME,
        "kind": "failed",
        "to": decision.STRANGER,
        "reverse_path": decision.STRANGER,
        "queue_id": QUEUE_ID,
        "arrival_s": 1_700_000_000,
        "rows": (REFUSED,),
        "header": b"Received: by x\r\nSubject: y\r\n\r\nbody\r\n",
        "header_limit": dsn.HEADER_OCTETS,
        **changes,
    }
    return Truth(**fields)


_FORGED = "550 no\r\nFinal-Recipient: rfc822; eve@remote.example\r\n\r\n--=_x"
_DELIMITER = b"\r\n--=_" + TOKEN.encode("ascii")

TRUTHS: tuple[Truth, ...] = (
    _truth(),
    _truth(rows=(REFUSED, Row(address='"a  b"@remote.example', text="no route"))),
    _truth(rows=(Row(address="bob@remote.example", text=_FORGED, host="[192.0.2.7]"),)),
    _truth(
        rows=(Row(address="bob@remote.example", text="550 " + "word " * 190, host="a.example"),)
    ),
    _truth(rows=(Row(address="bob@remote.example", text="x" * 1024, enhanced="2.0.0"),)),
    _truth(kind="delayed", until_s=1_700_400_000),
    _truth(kind="delayed", rows=(Row(address="bob@remote.example", enhanced="4.4.1"),)),
    _truth(until_s=1_700_400_000),
    _truth(to=decision.POSTMASTER, reverse_path=""),
    _truth(to=decision.POSTMASTER),
    _truth(header=b"Subject: x" + _DELIMITER + b"--\r\nX: y\r\n\r\n"),
    _truth(
        header=b"Subject: h\xe9llo \t\r\nX: \0\x0b\rz \r\n" + b"Y: " + b"=\xff" * 90 + b"\r\n\r\n"
    ),
    _truth(header=b"X: " + b"y" * 1200 + b"\r\n\r\n"),
    _truth(header=b"A: " + b"b\r\n c" * 20_000 + b"\r\n\r\n"),
    _truth(header=b"A: b\r\n c\r\n" * 10_000),
    _truth(header=b"\r\nbody"),
    _truth(header=b"Subject: no end"),
)


def judge_octets(compose: Callable[[Truth], tuple[Envelope, bytes]]) -> dict[str, str]:
    """The oracle over all of TRUTHS: each invariant that some report violates."""
    violated: dict[str, str] = {}
    for truth in TRUTHS:
        envelope, octets = compose(truth)
        for invariant, detail in report.judge(octets, truth, envelope).items():
            violated.setdefault(invariant, detail)
    return violated


# -- controls -------------------------------------------------------------------------------------


def _decision(module: Any) -> dict[str, str]:
    return decision.judge(decide_of(module))


def _octets(module: Any) -> dict[str, str]:
    return judge_octets(lambda truth: (Envelope("", (truth.to,)), composed(truth, module)))


def _role(module: Any) -> dict[str, str]:
    return judge_octets(lambda truth: reported(truth, module))


Judge = Callable[[Any], dict[str, str]]
#: (name, invariant, module, judge, passage, what stands in its place)
ROWS: tuple[tuple[str, str, ModuleType, Judge, str, str], ...] = (
    ("a report about a report", "no_report_about_report", dsn, _decision,
     "    return bool(reverse_path) and not ours",
     "    return __mutant_ran__()"),
    ("a notice about a notice", "reports_end", dsn, _decision,
     "    himself = bool(key) and any(each.lower() == key for each in recipients)",
     "    himself = not __mutant_ran__()"),
    ("a copy that nobody wanted", "postmaster_as_configured", dsn, _decision,
     "        if copy is None or copy in notify.copies:",
     "        if copy is None or __mutant_ran__():"),
    ("a sender who is not told", "sender_is_told", dsn, _decision,
     "    ours = domain == hostname.lower() and local in OWN_LOCAL_PARTS",
     "    ours = local in OWN_LOCAL_PARTS and __mutant_ran__()"),
    ("a report with a sender", "null_reverse_path", bounce, _role,
     '            reverse_path="",  # RFC 5321 6.1',
     "            reverse_path=to * __mutant_ran__(),  # RFC 5321 6.1"),
    ("the boundary in the header", "boundary_not_inside", dsn, _octets,
     "    if _is_seven_bit(header) and boundary not in header:",
     "    if _is_seven_bit(header) and __mutant_ran__():"),
    ("a line end in a reply's text", "status_fields", dsn, _octets,
     '" ".join(escaped(text[:TEXT_OCTETS]).split())',
     '" ".join(text[:TEXT_OCTETS].split(" " * __mutant_ran__()))'),
    ("a status of another class", "status_agrees", dsn, _octets,
     '    allowed = "45" if kind == "failed" else "4"',
     '    allowed = "245" * __mutant_ran__()'),
    ("a failed one that is tried again", "will_retry_only_delayed", dsn, _octets,
     '    if facts.kind == "delayed" and facts.until_s:',
     "    if facts.until_s and __mutant_ran__():"),
    ("8-bit octets in a 7bit part", "plain_octets", dsn, _octets,
     "    if _is_seven_bit(header) and boundary not in header:",
     "    if boundary not in header and __mutant_ran__():"),
    ("a header cut within a field", "header_returned", dsn, _octets,
     "    return (fields[0] if fields else header[:HEADER_OCTETS]), False",
     "    return header[: HEADER_OCTETS - __mutant_ran__()], False"),
    ("a recipient forgotten", "facts", dsn, _octets,
     "for row in facts.rows)]",
     "for row in facts.rows[:1] if __mutant_ran__())]"),
    ("a report that is answered", "message_fields", dsn, _octets,
     '        "Auto-Submitted: auto-replied",',
     '        f"Precedence: bulk{__mutant_ran__()}",'),
)  # fmt: skip


def controls() -> list[Control]:
    """Entry point: all of them."""
    return [_control(*row) for row in ROWS]


def _control(
    name: str, invariant: str, original: ModuleType, judge: Judge, old: str, new: str
) -> Control:
    def twin() -> Verdict:
        found = judge(original)
        return Verdict(violated=frozenset(found), detail=str(found))

    def mutant() -> Verdict:
        changes: Sequence[tuple[str, str]] = [(old, new)]
        module = mutate(original.__name__, changes)
        found = judge(module)
        return Verdict(
            violated=frozenset(found),
            mutated_line_ran=hits(module) > 0,
            detail=found.get(invariant, ""),
        )

    return Control(name=name, spec="dsn", invariant=invariant, twin=twin, mutant=mutant)
