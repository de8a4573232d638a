"""What a scripted next hop answers: a table, by what the server under test has said.

    hop = await way.mx(rcpt="550 no such user")                  # one answer, whenever asked
    hop = await way.mx(mail=("451 later", "250 ok"))             # the first time, then ever after
    hop = await way.mx(end=say("250 ok", after_s=2.0))           # late
    hop = await way.mx(rcpt=lambda visit, line: "550 no" if "bob" in line else "250 ok")

| key               | is answered             | unless the table says otherwise               |
|-------------------|-------------------------|-----------------------------------------------|
| connect           | before anything is said | nothing; `then` may end the visit             |
| greeting          | first                   | 220                                           |
| ehlo, helo        |                         | 250, with `features` (in TLS: `tls_features`) |
| mail              | MAIL                    | 250                                           |
| rcpt              | RCPT                    | 250, or 503 without MAIL                      |
| data              | DATA                    | 354, or 503 if no recipient was taken         |
| end               | the end of the content  | 250                                           |
| bdat              | each chunk, once whole  | 250                                           |
| rset, noop, quit, vrfy |                    | 250, 250, 221, 252                            |
| starttls          | STARTTLS                | 220 if it is offered, else 502                |
| other             | everything else         | 500                                           |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from specs.conformance.hop_records import Visit

FEATURES: Final = ("PIPELINING", "8BITMIME", "SIZE 52428800")
Then = Literal["", "close", "hang"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedReply:
    """octets: as they are sent.  after_s: how long it takes.  then: what becomes of the connection.
    drip: octet by octet.  held: sent together with the next answer, if a next command is there.
    counts: the code that it stands for, if that is not the one of its first line.
    """

    octets: bytes = b""
    after_s: float = 0.0
    then: Then = ""
    drip: bool = False
    held: bool = False
    counts: str = ""

    @property
    def code(self) -> str:
        """What a client goes by."""
        return self.counts or self.octets[:3].decode("ascii", "replace")


Say: TypeAlias = "str | bytes | ScriptedReply | tuple[Say, ...] | Callable[[Visit, str], Say]"
Table: TypeAlias = "Mapping[str, Say]"


def say(
    what: str | bytes, *, after_s: float = 0.0, then: Then = "", drip: bool = False,
    held: bool = False, counts: str = "",
) -> ScriptedReply:  # fmt: skip
    """Text gets its CRLF; octets are as they are."""
    octets = what if isinstance(what, bytes) else what.encode("utf-8", "surrogateescape") + b"\r\n"
    return ScriptedReply(
        octets=octets, after_s=after_s, then=then, drip=drip, held=held, counts=counts
    )  # fmt: skip


CLOSE: Final = ScriptedReply(then="close")
HANG: Final = ScriptedReply(then="hang")
