"""One visit to a scripted next hop: SMTP, as its table has it.

After 3yz to DATA what comes is content, until CRLF.CRLF and nothing else.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, replace
from typing import Literal

import trio

from specs.conformance.hop_records import Command, EnvelopePath, Mail, path_of
from specs.conformance.hop_script import ScriptedReply, say
from specs.conformance.hop_stream import LINGER_S, Ended, HopStream


@dataclass(slots=True)
class Conversation(HopStream):
    """Commands, content, and TLS."""

    async def hold(self, stream: trio.SocketStream) -> None:
        """All of it."""
        self._stream = stream
        async with trio.open_nursery() as nursery:
            self._start_reading(nursery)
            try:
                await self._speak(nursery)
            except Ended:
                pass
            except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError, OSError):
                self._gone()
            nursery.cancel_scope.cancel()

    async def _speak(self, nursery: trio.Nursery) -> None:
        for key in ("connect", "greeting"):
            await self._send(self.hop.answer_to(key, self.visit, ""))
        while True:
            heard = await self._command()
            answer = self.hop.answer_to(heard.key, self.visit, heard.line)
            if heard.key == "bdat":
                await self._chunk(heard, answer)
                continue
            self._note_transaction(heard, answer)
            if heard.key == "starttls" and answer.code == "220" and not self.visit.tls:
                await self._start_tls(answer, nursery)
                continue
            await self._send(answer)
            if heard.key == "data" and answer.code[:1] == "3":
                await self._content()
            elif heard.key == "quit":
                await self._close_after_quit()

    async def _command(self) -> Command:
        begins = self._cut
        octets = await self._until(b"\n")
        at_s = self._came_s(begins)
        heard = Command(
            line=octets.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8", "surrogateescape"),
            octets=octets, at_s=at_s, early=at_s < self._answered_s or self._answered_s < 0,
            tls=self.visit.tls,
        )  # fmt: skip
        self.visit.commands.append(heard)
        self.visit.said_bye = heard.key == "quit"
        self.hop.bell.ring()
        return heard

    def _note_transaction(self, heard: Command, answer: ScriptedReply) -> None:
        visit = self.visit
        good = answer.code[:1] == "2"
        match heard.key:
            case "ehlo" | "helo" | "rset" if good:
                visit.forget()
            case "mail" if good:
                visit.forget()
                visit.mail = path_of(heard.line, answer.code)
            case "rcpt":
                visit.rcpts.append(path_of(heard.line, answer.code))

    async def _content(self) -> None:
        """After 354."""
        self._stalled_until_s = trio.current_time() + self.hop.stall_s
        if self._buffer[:3] != b".\r\n" and len(self._buffer) < 3:
            while len(self._buffer) < 3:
                await self._wait_for_more()
        wire = await self._exactly(3) if self._buffer[:3] == b".\r\n" else b""
        wire = wire or await self._until(b"\r\n.\r\n")
        raw = wire[: -len(b".\r\n")]
        content = (b"\r\n" + raw).replace(b"\r\n.", b"\r\n")[2:]
        await self._received(raw, content, "DATA", self.hop.answer_to("end", self.visit, ""))

    async def _chunk(self, heard: Command, answer: ScriptedReply) -> None:
        words = heard.line.upper().split()
        if len(words) < 2 or not words[1].isdigit():
            await self._send(say("501 how many?"))
            return
        self.visit.chunks += await self._exactly(int(words[1]))
        if answer.code[:1] != "2":
            self.visit.forget()
        if words[-1] != "LAST" or answer.code[:1] != "2":
            await self._send(answer)
            return
        raw = bytes(self.visit.chunks)
        await self._received(raw, raw, "BDAT", answer)

    async def _received(
        self, wire: bytes, content: bytes, by: Literal["DATA", "BDAT"], answer: ScriptedReply
    ) -> None:
        visit = self.visit
        mail = Mail(
            hop=self.hop.name, visit=visit.number, rcpts=tuple(visit.rcpts), wire=wire,
            sender=visit.mail or EnvelopePath(path="", parameters=(), code=""), content=content,
            at_s=trio.current_time(), tls=visit.tls, by=by,
        )  # fmt: skip
        visit.mails.append(mail)
        visit.forget()
        try:
            await self._send(answer)
        finally:
            mail.code = answer.code
            self.hop.bell.ring()

    async def _start_tls(self, answer: ScriptedReply, nursery: trio.Nursery) -> None:
        """What comes before our 220 was sent is kept apart: it is no part of a handshake."""
        if self.hop.certificate is None:
            await self._send(answer)
            return
        await trio.sleep(answer.after_s)
        await self._stop_reading()
        self.visit.early_octets = self._take(len(self._buffer))
        await self._send(replace(answer, after_s=0.0))
        if not isinstance(self._stream, trio.SocketStream):
            raise Ended
        inside = trio.SSLStream(
            self._stream, self.hop.certificate, server_side=True, https_compatible=True
        )
        try:
            await inside.do_handshake()
        except (trio.BrokenResourceError, ssl.SSLError, OSError) as error:
            self.visit.handshake = f"{error.__cause__ or error}" or "failed"
            self.note(f"TLS: {self.visit.handshake}")
            self.end("closed")
            raise Ended from None
        self.visit.handshake = "done"
        self.visit.forget()
        self.note("from here on inside TLS")
        self._stream = inside
        self._start_reading(nursery)

    async def _close_after_quit(self) -> None:
        """RFC 5321 4.1.1.10: we close once 221 was sent; who closes first is not judged."""
        if self._over == "":
            await self._more.until(lambda: bool(self._over), LINGER_S)
        self.end("quit")
        raise Ended
