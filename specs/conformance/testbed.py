"""What all relayed cases of a run share: a scripted name server, addresses for next hops, a sink.

Rules a reader may rely on
- It is laid out for a whole run, whatever its cases are: a server that asks, and hears nothing,
  does not deliver.
- Hops listen at port 25 of addresses out of --hops; "127.77.0.0/16:2525" says another port.  No
  address is used twice, also not by a later run, as far as chance goes.
- The sink takes what is left in the server's queue when a case is over.
- What can't be had is said in `Testbed.reason`; nothing is raised.
"""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import os
import re
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final

import trio

from specs.conformance.given import SMTP_PORT, Given
from specs.conformance.hop import Hop
from specs.conformance.hop_records import Bell
from specs.conformance.names import Names, place, port_of, serve
from specs.conformance.session import Unavailable
from specs.conformance.transcript import Told

TOP: Final = "hop.example"
SINK: Final = f"sink.{TOP}"
#: Pauses before another attempt where a port is taken, in seconds: it may be a connection's.
TAKEN_AGAIN_S: Final = (0.1, 0.3)


@dataclass(slots=True, kw_only=True)
class Testbed:
    """reason: why there is nothing of it, for people; "" if all is there."""

    given: Given
    reason: str = ""
    names: Names = field(default_factory=Names)
    mark: str = field(default_factory=lambda: os.urandom(3).hex())
    directory: Path | None = None
    _addresses: Iterator[str] | None = None
    _addresses6: Iterator[str] | None = None
    _certificate: ssl.SSLContext | None = None
    _making: trio.Lock = field(default_factory=trio.Lock)

    def address(self) -> str:
        """Another one.  Raises Unavailable."""
        if self._addresses is None:
            self._addresses = _addresses(self.given.hops, 4)
        return _next(self._addresses, "an IPv4 network in --hops")

    @property
    def port(self) -> int:
        """Of all hops: 25, unless the server under test was told of another."""
        return networks(self.given.hops)[0][1]

    def address6(self) -> str:
        """An IPv6 one.  Raises Unavailable."""
        if self._addresses6 is None:
            self._addresses6 = _addresses(self.given.hops, 6)
        return _next(self._addresses6, "an IPv6 network in --hops")

    async def certificate(self) -> ssl.SSLContext:
        """A server's, made for this run; nobody vouches for it.  Raises Unavailable."""
        async with self._making:
            if self._certificate is None:
                self._certificate = await trio.to_thread.run_sync(self._make_certificate)
            return self._certificate

    async def digest(self) -> str:
        """SHA-256 of that certificate, in hexadecimal digits.  Raises Unavailable."""
        await self.certificate()
        if self.directory is None:
            raise Unavailable("openssl, for a certificate")
        text = (self.directory / "certificate.pem").read_text(encoding="ascii")
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(text)).hexdigest()

    def _make_certificate(self) -> ssl.SSLContext:
        openssl = shutil.which("openssl")
        if openssl is None or self.directory is None:
            raise Unavailable("openssl, for a certificate")
        key, certificate = self.directory / "key.pem", self.directory / "certificate.pem"
        command = [
            openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
            "-nodes", "-days", "2", "-subj", f"/CN=mx.{TOP}", "-keyout", str(key),
            "-out", str(certificate),
        ]  # fmt: skip
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=30)  # noqa: S603
        except (OSError, subprocess.SubprocessError):
            raise Unavailable("openssl, for a certificate") from None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context


_NETWORK: Final = re.compile(r"([^/]+/[0-9]+)(?::([0-9]+))?\Z")


def networks(text: str) -> list[tuple[IPv4Network | IPv6Network, int]]:
    """Of "127.77.0.0/16,fd77::/64" or "127.77.0.0/16:2525".  Raises ValueError."""
    found = []
    for each in filter(None, text.split(",")):
        match = _NETWORK.match(each.strip())
        if match is None:
            raise ValueError(f"{each}: no network")
        network = ipaddress.ip_network(match[1], strict=False)
        found.append((network, port_of(match[2] or str(SMTP_PORT))))
    return found


def _addresses(text: str, version: int) -> Iterator[str]:
    """All of those networks, from a place that differs from run to run."""
    for network, _ in networks(text):
        if network.version != version:
            continue
        count = min(network.num_addresses, 1 << 24)
        begin = int.from_bytes(os.urandom(3), "big")
        for number in range(count):
            at = (begin + number) % count
            if at & 0xFF not in (0, 0xFF):
                yield str(network[at])


def _next(addresses: Iterator[str], what: str) -> str:
    try:
        return next(addresses)
    except (StopIteration, ValueError):
        raise Unavailable(what) from None


@asynccontextmanager
async def laid_out(given: Given) -> AsyncIterator[Testbed | None]:
    """Of a run; None if it was given no place for it."""
    if not given.names:
        yield None
        return
    testbed = Testbed(given=given)
    with tempfile.TemporaryDirectory(prefix="conformance-") as directory:
        testbed.directory = Path(directory)
        async with trio.open_nursery() as nursery:
            testbed.reason = await _no_names(testbed, nursery) or await _no_sink(testbed, nursery)
            yield testbed
            nursery.cancel_scope.cancel()


async def _no_names(testbed: Testbed, nursery: trio.Nursery) -> str:
    """Start the name server; why it can't be, or ""."""
    given = testbed.given
    for pause_s in (*TAKEN_AGAIN_S, None):
        try:
            await nursery.start(serve, testbed.names, place(given.names))
            break
        except (OSError, ValueError) as error:
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            if pause_s is None or not taken:
                return f"--names {given.names}: the name server can't listen there: {error}"
        await trio.sleep(pause_s)
    testbed.names.add(given.hostname, "A", "127.0.0.1")
    return ""


async def _no_sink(testbed: Testbed, nursery: trio.Nursery) -> str:
    """The same of the sink, by which it is known that hops can listen."""
    given, host = testbed.given, "no address"
    try:
        host = testbed.address()
        sink = Hop(name=SINK, host=host, port=testbed.port, told=Told(0.0, _left=0), bell=Bell())
        await sink.listen(nursery)
        testbed.names.add(SINK, "A", host)
    except (OSError, ValueError) as error:
        return f"--hops {given.hops}: no hop can listen at {host}: {error}"
    except Unavailable as need:
        return f"--hops {given.hops}: it needs {need}"
    return ""
