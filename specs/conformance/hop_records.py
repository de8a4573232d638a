"""What a scripted next hop has heard: commands, envelopes and messages, visit by visit.

Nothing here judges.  A command is early if its first octet was there before the last reply was
sent; it is never true of a client that waited.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

import trio

VERBS: Final = {
    "EHLO": "ehlo", "HELO": "helo", "MAIL": "mail", "RCPT": "rcpt", "DATA": "data", "RSET": "rset",
    "NOOP": "noop", "QUIT": "quit", "VRFY": "vrfy", "STARTTLS": "starttls", "BDAT": "bdat",
}  # fmt: skip


class Bell:
    """Rung whenever anything was recorded."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def ring(self) -> None:
        self._event.set()
        self._event = trio.Event()

    async def until(self, condition: Callable[[], bool], limit_s: float) -> bool:
        """Whether it holds within that time."""
        with trio.move_on_after(max(0.0, limit_s)):
            while not condition():
                await self._event.wait()
        return condition()


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command.  line: without its end; octets: with it.  at_s: when its first octet came."""

    line: str
    octets: bytes
    at_s: float
    early: bool
    tls: bool

    @property
    def verb(self) -> str:
        return self.line.split(" ", 1)[0].split(":", 1)[0].upper()

    @property
    def key(self) -> str:
        """Of the table of answers."""
        return VERBS.get(self.verb, "other")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvelopePath:
    """Of MAIL or RCPT.  path: between the brackets, or "" (also if there are none)."""

    path: str
    parameters: tuple[str, ...]
    code: str

    @property
    def keywords(self) -> dict[str, str]:
        """Keyword in capitals to its value."""
        pairs = (each.partition("=") for each in self.parameters)
        return {name.upper(): value for name, _, value in pairs}


@dataclass(slots=True, kw_only=True)
class Mail:
    """A message whose content came.  wire: as it came, with dots doubled; content: without that.
    code: what its end was answered, "" as long as it was not.
    """

    hop: str
    visit: int
    sender: EnvelopePath
    rcpts: tuple[EnvelopePath, ...]
    wire: bytes
    content: bytes
    at_s: float
    tls: bool
    by: Literal["DATA", "BDAT"] = "DATA"
    code: str = ""

    @property
    def parameters(self) -> list[str]:
        """Of its MAIL and RCPTs, in capitals, without values."""
        return [keyword for path in (self.sender, *self.rcpts) for keyword in path.keywords]

    @property
    def taken(self) -> bool:
        return self.code[:1] == "2"

    @property
    def paths(self) -> tuple[str, ...]:
        """Of the recipients that were not refused."""
        return tuple(each.path for each in self.rcpts if each.code[:1] == "2")


@dataclass(slots=True, kw_only=True)
class Visit:
    """One connection.  ended: "" while it lasts; "quit", "closed" without QUIT, "reset", "by us".
    hasty: it did not wait for a late 221.  handshake: "" if there was none, "done", or why there
    is no TLS.  early_octets: what came before the 220 to STARTTLS.
    """

    hop: str
    number: int
    began_s: float
    commands: list[Command] = field(default_factory=list)
    mails: list[Mail] = field(default_factory=list)
    ended: str = ""
    said_bye: bool = False
    hasty: bool = False
    handshake: str = ""
    early_octets: bytes = b""
    mail: EnvelopePath | None = None
    rcpts: list[EnvelopePath] = field(default_factory=list)
    chunks: bytearray = field(default_factory=bytearray)

    @property
    def tls(self) -> bool:
        return self.handshake == "done"

    @property
    def verbs(self) -> list[str]:
        return [each.verb for each in self.commands]

    def lines(self, verb: str) -> list[Command]:
        """The commands of that verb."""
        return [each for each in self.commands if each.verb == verb]

    def forget(self) -> None:
        """The transaction is over."""
        self.mail, self.rcpts, self.chunks = None, [], bytearray()


def path_of(line: str, code: str = "") -> EnvelopePath:
    """Of a MAIL or RCPT: what stands in the brackets, and what behind them."""
    begins = line.find("<")
    end, quoted, at = -1, False, begins
    while 0 <= at < len(line):
        if quoted and line[at] == "\\":
            at += 1
        elif line[at] == '"':
            quoted = not quoted
        elif line[at] == ">" and not quoted:
            end = at
            break
        at += 1
    if end < 0:
        return EnvelopePath(path="", parameters=(), code=code)
    parameters = tuple(line[end + 1 :].split())
    return EnvelopePath(path=line[begins + 1 : end], parameters=parameters, code=code)
