"""One case's talk with a server: raw octets both ways, every one of them in the transcript.

    await talk.upto("rcpt")                   # connect, greeting, EHLO, MAIL, RCPT: or `Refused`
    reply = await talk.say("DATA")            # a line, and its reply
    await talk.send(b"...")                   # octets as they are
    reply = await talk.reply()                # the next one; "closed" or "silent" are replies, too
    reply = await talk.unasked()              # "silent" if nothing comes by itself for a while

Rules a reader may rely on
- A server's behaviour never raises, but in `must`, `upto` and what is built on them (`Refused`):
  there the case could not be carried out, and nothing is said about the server.
- What is said of octets in `connection` holds here, too.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import trio

from specs.conformance.connection import (
    Connection,
    NotApplicable,
    Refused,
    Unavailable,
    trusting,
)
from specs.conformance.given import Address
from specs.conformance.maildir import LOOK_S, messages
from specs.conformance.model import Door, Reply
from specs.conformance.replies import features

#: What a case needs of this room and of `connection`.
__all__ = [
    "STAGES", "NotApplicable", "Refused", "Session", "Stage", "Unavailable", "token_of", "trusting",
    "written",
]  # fmt: skip

Stage = Literal["connect", "greeting", "ehlo", "mail", "rcpt", "data"]
STAGES: Final[tuple[Stage, ...]] = ("connect", "greeting", "ehlo", "mail", "rcpt", "data")
#: Pauses before another attempt, in seconds: where the greeting is 421, or there is none; where
#: there is no connection.  A port where nobody listens is to be told soon.
AGAIN_S: Final = (0.3, 1.0, 2.5)
REFUSED_AGAIN_S: Final = (0.2, 0.6)
TURNED_AWAY: Final = (ConnectionRefusedError, ConnectionResetError)


@dataclass(slots=True, kw_only=True)
class Session(Connection):
    """Use as an asynchronous context: it closes what is open.  token: a word of this case's own,
    which every message of `message` has.  features: of the last EHLO.
    """

    token: str
    features: dict[str, str] = field(default_factory=dict)
    stage: Stage | Literal[""] = ""
    #: What relayed cases share (`testbed`).
    testbed: object | None = None
    _others: list[Session] = field(default_factory=list)
    _seen: dict[tuple[Path, bytes], dict[str, bytes | None]] = field(default_factory=dict)

    async def connect(self, address: Address | None = None) -> None:
        """Without reading the greeting.  Raises OSError."""
        await Connection.connect(self, address)
        self.stage = "connect"

    # -- lines and replies ------------------------------------------------------------------------

    async def say(self, line: str | bytes, timeout_s: float | None = None) -> Reply:
        """A line (CRLF is added), and its reply."""
        await self.send(_octets(line) + b"\r\n")
        return await self.reply(timeout_s)

    async def must(self, line: str | bytes) -> Reply:
        """The same.  Raises Refused unless it is answered 2yz or 3yz."""
        reply = await self.say(line)
        if not reply.positive:
            raise Refused(_octets(line).decode("utf-8", "backslashreplace")[:80], reply)
        return reply

    async def replies(self, count: int) -> list[Reply]:
        """So many, or fewer when the connection ended or fell silent: that is the last one then."""
        found: list[Reply] = []
        while len(found) < count:
            found.append(await self.reply())
            if found[-1].kind in ("closed", "silent", "flood"):
                break
        return found

    async def hello(self, verb: str = "") -> Reply:
        """EHLO, or LHLO at LMTP's door; its features are kept.  Raises Refused."""
        word = verb or ("LHLO" if self.door == "lmtp" else "EHLO")
        reply = await self.must(f"{word} {self.given.hostname}")
        self.features = features(reply)
        self.stage = "ehlo"
        return reply

    async def upto(self, stage: Stage) -> Reply:
        """As far as that, in good order, from where the session is; the last reply.  "ehlo": at a
        door in TLS, with the EHLO inside it.  Raises Refused, NotApplicable, OSError.
        """
        reply = Reply(kind="silent")
        done = STAGES.index(self.stage) if self.stage else -1
        for each in STAGES[done + 1 : STAGES.index(stage) + 1]:
            reply = await self._go_on(each)
            if each == "greeting" and done < 0:
                reply = await self._again(reply)
            if each == "greeting" and reply.code != "220":
                raise Refused("the greeting", reply)
            self.stage = each
        return reply

    async def _again(self, reply: Reply) -> Reply:
        """A server may have too many connections just now, and say so (421), or close them: another
        greeting, a little later.  This is a set-up: a case that asks how it is greeted connects by
        itself.
        """
        ends_s = trio.current_time() + self.given.timeout_s
        for pause_s in AGAIN_S:
            full = reply.code == "421" or (reply.kind == "closed" and not reply.octets)
            if not full or trio.current_time() + pause_s > ends_s:
                break
            self.note(f"the greeting was {reply}: once more in {pause_s} s")
            await self.close()
            await trio.sleep(pause_s)
            await self._connected()
            reply = await self.reply()
        return reply

    async def _connected(self) -> None:
        """The same where it refuses connections.  Raises OSError, Refused."""
        ends_s = trio.current_time() + self.given.timeout_s
        for pause_s in REFUSED_AGAIN_S:
            try:
                await self.connect()
            except (OSError, Refused) as error:
                if not _turned_away(error) or trio.current_time() + pause_s > ends_s:
                    raise
                self.note(f"{error}: once more in {pause_s} s")
            else:
                return
            await self.close()
            await trio.sleep(pause_s)
        await self.connect()

    async def _go_on(self, stage: Stage) -> Reply:
        match stage:
            case "connect":
                await self._connected()
                return Reply(kind="silent")
            case "greeting":
                return await self.reply()
            case "ehlo":
                reply = await self.hello()
                if self.door in ("starttls", "submission-starttls"):
                    reply = await self.starttls()
                return reply
            case "mail":
                return await self.must(f"MAIL FROM:<{self.given.sender}>")
            case "rcpt":
                return await self.must(f"RCPT TO:<{self.given.rcpt}>")
            case "data":
                reply = await self.must("DATA")
                if reply.code != "354":
                    raise Refused("DATA", reply)
                return reply

    def fill(self, line: str) -> str:
        """With what stands in braces (`given.PLACES`) filled in."""
        return self.given.fill(line, self.token)

    # -- TLS and AUTH -----------------------------------------------------------------------------

    async def starttls(self) -> Reply:
        """STARTTLS, the handshake, and EHLO inside.  Raises Refused, NotApplicable."""
        if "STARTTLS" not in self.features:
            raise NotApplicable("STARTTLS")
        reply = await self.must("STARTTLS")
        if reply.code != "220":
            raise Refused("STARTTLS", reply)
        await self.handshake()
        return await self.hello()

    async def auth(self) -> Reply:
        """AUTH PLAIN as the user that was given.  Raises Refused, NotApplicable, Unavailable."""
        if not self.given.user:
            raise Unavailable("--user")
        if "PLAIN" not in self.features.get("AUTH", "").upper().split():
            raise NotApplicable("AUTH PLAIN")
        return await self.must(f"AUTH PLAIN {self.plain()}")

    def plain(self, user: str | None = None, password: str | None = None) -> str:
        """The initial response of PLAIN (RFC 4616), in base64."""
        name = self.given.user if user is None else user
        word = self.given.password if password is None else password
        return base64.b64encode(_octets(f"\0{name}\0{word}")).decode()

    # -- mail -------------------------------------------------------------------------------------

    def message(
        self, body: str | bytes = "A message of the conformance suite.\r\n", *, headers: str = ""
    ) -> bytes:
        """A whole message with this case's token, in lines that end in CRLF, not dot-stuffed."""
        return written(
            _octets(body), sender=self.given.sender, to=self.given.rcpt, token=self.token,
            domain=self.given.hostname, headers=headers,
        )  # fmt: skip

    async def content(self, octets: bytes) -> Reply:
        """After a 354: dot-stuffed, ended; the last reply."""
        stuffed = (b"\r\n" + octets).replace(b"\r\n.", b"\r\n..")[2:]
        end = b".\r\n" if stuffed.endswith(b"\r\n") else b"\r\n.\r\n"
        await self.send(stuffed + end)
        self.stage = "ehlo"
        return await self.reply()

    async def transact(
        self, octets: bytes | None = None, *, sender: str | None = None,
        rcpts: Sequence[str] | None = None, mail: str = "", rcpt: str = "",
    ) -> Reply:  # fmt: skip
        """A whole transaction, from "ehlo" on; the reply to its end.  mail, rcpt: parameters behind
        the addresses.  Raises Refused if it does not come to the end.
        """
        await self.upto("ehlo")
        path = self.given.sender if sender is None else sender
        await self.must(f"MAIL FROM:<{path}> {mail}".rstrip())
        for each in (self.given.rcpt,) if rcpts is None else rcpts:
            await self.must(f"RCPT TO:<{each}> {rcpt}".rstrip())
        await self.must("DATA")
        return await self.content(self.message() if octets is None else octets)

    async def arrived(self, *, box: int = 0, count: int = 1, token: str = "") -> list[bytes]:
        """What lies in the Maildir of that `rcpt` with this token: as soon as there are so many, or
        when patience ends, however many there are.  Raises Unavailable.
        """
        if len(self.given.maildirs) <= box:
            raise Unavailable("--maildir")
        return await self.look(self.given.maildirs[box], count=count, token=token)

    async def reports(self, *, count: int = 1, token: str = "") -> list[bytes]:
        """The same in the mailbox of the sender.  Raises Unavailable."""
        if self.given.sender_maildir is None:
            raise Unavailable("--sender-maildir")
        return await self.look(self.given.sender_maildir, count=count, token=token)

    async def look(
        self, maildir: Path, *, count: int = 1, token: str = "", patience_s: float | None = None
    ) -> list[bytes]:
        """Messages with a token (this case's, if none is given) in a Maildir."""
        wanted = (token or self.token).encode()
        found: list[bytes] = []
        limit_s = self.given.patience_s if patience_s is None else patience_s
        with trio.move_on_after(limit_s):
            while True:
                found = self.here_now(maildir, wanted)
                if len(found) >= count:
                    break
                await trio.sleep(LOOK_S)
        self.note(f"{len(found)} messages with the token {wanted.decode()} in {maildir}")
        return found

    def here_now(self, maildir: Path, token: bytes) -> list[bytes]:
        """What has come there with a token since the case began."""
        seen = self._seen.setdefault((maildir, token), {})
        return messages(maildir, token, self.told.since_s, seen)

    # -- beside it --------------------------------------------------------------------------------

    def another(self, door: Door | None = None) -> Session:
        """A second connection of this case, not yet connected; it is closed with this one."""
        beside = Session(
            given=self.given, door=door or self.door, token=self.token, told=self.told,
            testbed=self.testbed,
        )  # fmt: skip
        self._others.append(beside)
        return beside

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(self, *_: object) -> None:
        with trio.CancelScope(shield=True):
            for each in (*self._others, self):
                if each._stream is not None:
                    await trio.aclose_forcefully(each._stream)
                    each._stream = None


def _turned_away(error: OSError | Refused) -> bool:
    """At each address of the host, or in the handshake of TLS."""
    if isinstance(error, Refused):
        return error.reply.kind == "closed"
    causes = error.__cause__  # trio's, of each address
    return isinstance(causes, ExceptionGroup) and not causes.split(TURNED_AWAY)[1]


def _octets(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text


def written(
    body: bytes, *, sender: str, to: str, token: str, domain: str, headers: str = ""
) -> bytes:
    """A whole message, which no server needs to mend, in lines that end in CRLF."""
    head = (
        f"From: <{sender}>\r\nTo: <{to}>\r\n"
        f"Subject: conformance {token}\r\nDate: Mon, 02 Nov 2026 10:00:00 +0000\r\n"
        f"Message-ID: <{token}@{domain}>\r\n{headers}\r\n"
    )
    return head.encode() + body


def token_of(case: str, seed: int) -> str:
    """A word that no other case, and no other seed, has."""
    return "t" + hashlib.sha256(f"{seed} {case}".encode()).hexdigest()[:15]
