"""The doors of the control server: sockets, TLS, and a directory with its Maildirs.

async with serving(Parts()) as given: ...      # a Given for a run against it
"""

from __future__ import annotations

import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import trio

from specs.conformance.controls.mailbox import House, make
from specs.conformance.controls.parts import Parts
from specs.conformance.controls.session import LMTP, SMTP, SUBMISSION, TLS, Door, Session
from specs.conformance.controls.witness import BrokenDown, Witness
from specs.conformance.given import Given

HOSTNAME: Final = "mx.control.example"
DOMAIN: Final = "control.example"
RCPTS: Final = (f"ada@{DOMAIN}", f"bob@{DOMAIN}")
SENDER: Final = "sender@client.conform.example"
Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]
BROKEN: Final = (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError, OSError)


@cache
def certificate() -> bytes | None:
    """A self-signed one with its key, made by `openssl`; None where there is no such program."""
    with tempfile.TemporaryDirectory(prefix="control-") as directory:
        key, made = Path(directory) / "key.pem", Path(directory) / "certificate.pem"
        command = [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
            "-nodes", "-days", "3650", "-subj", f"/CN={HOSTNAME}",
            "-addext", f"subjectAltName=DNS:{HOSTNAME},IP:127.0.0.1",
            "-keyout", str(key), "-out", str(made),
        ]  # fmt: skip
        try:
            subprocess.run(command, check=True, capture_output=True)  # noqa: S603
        except (OSError, subprocess.CalledProcessError):
            return None
        return key.read_bytes() + made.read_bytes()


def context_of(parts: Parts) -> ssl.SSLContext | None:
    """TLS 1.2 and later (RFC 8996)."""
    pem = certificate() if parts.tls else None
    if pem is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with tempfile.NamedTemporaryFile(prefix="control-") as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)
    parts.context(context)
    return context


@dataclass(slots=True, kw_only=True)
class Server:
    """All doors of one house."""

    parts: Parts
    house: House
    context: ssl.SSLContext | None

    async def serve(self, door: Door, stream: Stream) -> None:
        """One connection; a fault's own mistake ends nothing else, and is noted."""
        made = (door.lmtp and self.parts.lmtp) or self.parts.session
        try:
            session = made(house=self.house, door=door, peer="127.0.0.1")
            session.can_tls = self.context is not None
            if door.tls_first:
                stream = await self.secure(stream)
            await self.talk(session, stream)
        except (*BROKEN, BrokenDown):
            pass
        except Exception as error:
            self.parts.witness.note(error)
        finally:
            await trio.aclose_forcefully(stream)

    async def secure(self, stream: Stream) -> Stream:
        if self.context is None:
            raise RuntimeError("there is no self.context")
        if not isinstance(stream, trio.SocketStream):
            raise TypeError(f"trio.SocketStream was expected, not {stream!r}")
        secured = trio.SSLStream(stream, self.context, server_side=True, https_compatible=True)
        await secured.do_handshake()
        return secured

    async def talk(self, session: Session, stream: Stream) -> None:
        watching = self.parts.witness.watching
        with watching():
            greeting = session.greeting()
        await stream.send_all(greeting)
        while not session.ended:
            octets = bytes(await stream.receive_some(1 << 16))
            if not octets:
                return
            with watching():
                replies = self.parts.talk(session, octets)
            if replies:
                await trio.sleep(self.parts.delay_s)
                await self.send(stream, replies)
            if session.wants_tls:
                stream = await self.secure(stream)
                with watching():
                    session.secured()
        await self.farewell(stream)

    async def send(self, stream: Stream, octets: bytes) -> None:
        step = self.parts.segment or len(octets)
        for at in range(0, len(octets), step):
            await stream.send_all(octets[at : at + step])

    async def farewell(self, stream: Stream) -> None:
        """The end is sent before the connection is dropped, lest a reset eat the last reply."""
        if isinstance(stream, trio.SSLStream):
            with trio.move_on_after(1):
                await stream.aclose()
        else:
            await stream.send_eof()


@asynccontextmanager
async def serving(parts: Parts) -> AsyncIterator[Given]:
    """It runs while the context is open, with its Maildirs in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="control-") as own:
        boxes = {name: Path(own) / name.partition("@")[0] for name in (*RCPTS, SENDER)}
        boxes["postmaster"] = boxes[RCPTS[0]]
        for each in boxes.values():
            make(each)
        async with trio.open_nursery() as nursery:
            house = parts.house(
                hostname=HOSTNAME,
                domains=frozenset({DOMAIN, SENDER.partition("@")[2], HOSTNAME, "[127.0.0.1]"}),
                mailboxes=boxes,
                lists=dict.fromkeys(("staff", "postmaster"), RCPTS),
                late=parts.late,
                later=partial(_later, nursery, parts.witness),
            )
            server = Server(parts=parts, house=house, context=context_of(parts))
            doors = [SMTP, SUBMISSION, LMTP, *([TLS] if server.context else [])]
            opened = {each.name: await _open(nursery, server, each) for each in doors}
            yield Given(
                smtp=opened["smtp"], submission=opened["submission"], lmtp=opened["lmtp"],
                tls=opened.get("tls"), rcpts=RCPTS, unknown=f"nobody@{DOMAIN}",
                relay="someone@elsewhere.example", sender=SENDER, sender_maildir=boxes[SENDER],
                maildirs=tuple(boxes[each] for each in RCPTS),
                user="carol", password=Session.users["carol"],
            )  # fmt: skip
            nursery.cancel_scope.cancel()


def _later(
    nursery: trio.Nursery, witness: Witness, seconds: float, then: Callable[[], None]
) -> None:
    async def wait() -> None:
        await trio.sleep(seconds)
        with suppress(BrokenDown), witness.watching():
            then()

    nursery.start_soon(wait)


async def _open(nursery: trio.Nursery, server: Server, door: Door) -> tuple[str, int]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    serve: Any = partial(trio.serve_listeners, partial(server.serve, door), listeners)
    await nursery.start(serve)
    host, port = listeners[0].socket.getsockname()
    return str(host), int(port)
