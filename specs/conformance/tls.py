"""TLS (RFC 3207, 8314, 8996), for several files of cases: clients of all kinds, and how they begin.

Any certificate is taken; only whether there is TLS, and which, is asked.
"""

from __future__ import annotations

import ssl
import warnings
from contextlib import suppress
from typing import Final

from specs.conformance.model import Door
from specs.conformance.session import NotApplicable, Refused, Session, Unavailable, trusting

#: What a client says that has this version and no other: its first octets, too.
VERSIONS: Final = {
    "1.0": (ssl.TLSVersion.TLSv1, b"\x03\x01"),
    "1.1": (ssl.TLSVersion.TLSv1_1, b"\x03\x02"),
    "1.2": (ssl.TLSVersion.TLSv1_2, b"\x03\x03"),
}


def lenient() -> ssl.SSLContext:
    """Any version, any strength."""
    context = trusting()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def only(version: str) -> ssl.SSLContext:
    """This version and no other, whatever the strength.  Raises Unavailable."""
    kind, octets = VERSIONS[version]
    context = lenient()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = kind
        context.maximum_version = kind
    if _hello(context)[9:11] != octets:
        raise Unavailable(f"TLS {version} in the OpenSSL of this machine")
    return context


def _hello(context: ssl.SSLContext) -> bytes:
    """The first octets of a client; none if OpenSSL will not speak so."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


async def before_tls(talk: Session, door: Door) -> Session:
    """A connection whose next octets are a ClientHello.  Raises Refused, NotApplicable."""
    if door == "tls":
        plain = talk.another("smtp")  # a session of the door "tls" would begin TLS by itself
        await plain.connect(talk.given.tls)
        return plain
    plain = talk.another(door)
    await plain.upto("ehlo")
    if "STARTTLS" not in plain.features:
        raise NotApplicable("STARTTLS")
    await plain.must("STARTTLS")
    return plain


async def secured(talk: Session) -> str:
    """STARTTLS and the handshake, and no more: "" or why there is no TLS.  No TLS is a refusal that
    most cases allow.
    """
    reply = await talk.say("STARTTLS")
    if reply.code != "220":
        return f"refused: {reply}"
    try:
        await talk.handshake(lenient())
    except Refused as refused:
        return f"no handshake: {refused}"
    return ""
