"""RFC 8996 (TLS 1.0 and 1.1 are not used any more), sections 4 and 5.

Tricky: a handshake may fail for want of a common cipher or key, so that every case asks first for
one that any server has to offer, with a version that is allowed.  The client here offers all the
ciphers that its OpenSSL has, with no lower limit on their strength.
"""

from __future__ import annotations

import ssl
import warnings
from contextlib import suppress
from typing import Final

from specs.conformance.model import NON_STRICT, PASS, Door, Observed
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Refused, Session, Unavailable, trusting

here = Section("8996")

VERSIONS: Final = {
    "1.0": (ssl.TLSVersion.TLSv1, b"\x03\x01"),
    "1.1": (ssl.TLSVersion.TLSv1_1, b"\x03\x02"),
    "1.2": (ssl.TLSVersion.TLSv1_2, b"\x03\x03"),
}


def only(version: str) -> ssl.SSLContext:
    """This version and no other, whatever the strength.  Raises Unavailable."""
    kind, octets = VERSIONS[version]
    context = trusting()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = kind
        context.maximum_version = kind
    context.set_ciphers("ALL:@SECLEVEL=0")
    if hello(context)[9:11] != octets:
        raise Unavailable(f"TLS {version} in the OpenSSL of this machine")
    return context


def hello(context: ssl.SSLContext) -> bytes:
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


_DOORS: Final[tuple[tuple[Door, str], ...]] = (
    ("smtp", ""), ("submission", "submission"), ("tls", "tls"),
)  # fmt: skip
for _door, _needs in _DOORS:
    for _version, _section in (("1.0", "4"), ("1.1", "5")):

        @here.case(
            f"{_section}-tls-{_version.replace('.', '')}-{_door}", level="MUST NOT",
            clauses="8996-5-a" if _door == "smtp" else "8996-5-a 8314-4.1-a", needs=_needs,
            requirement=f"TLS {_version} is not negotiated",
            sent=f"a ClientHello for TLS {_version} and no other",
            allowed={"refused": PASS, "no answer": NON_STRICT},
            security="old TLS can be read or changed on the way",
        )  # fmt: skip
        async def _(
            talk: Session, door: Door = _door, version: str = _version
        ) -> Observed | tuple[str, str]:
            context = only(version)
            control = await before_tls(talk, door)
            await control.handshake()
            await control.close()
            plain = await before_tls(talk, door)
            try:
                await plain.handshake(context)
            except Refused as refused:
                ended = refused.reply.kind == "closed"
                return ("refused" if ended else "no answer"), str(refused)
            return "negotiated"

    @here.case(
        f"5-survives-{_door}", level="IMPLIED", clauses="8996-5-a", needs=_needs,
        requirement="A client with TLS 1.0 that was turned away does not harm the next one",
        sent="a ClientHello for TLS 1.0; then a new connection with TLS 1.2 or later",
        allowed={"works": PASS},
    )  # fmt: skip
    async def _(talk: Session, door: Door = _door) -> Observed | tuple[str, str]:
        context = only("1.0")
        control = await before_tls(talk, door)
        await control.handshake()
        old = await before_tls(talk, door)
        try:
            await old.handshake(context)
        except Refused:
            await old.close()
        new = await before_tls(talk, door)
        try:
            await new.handshake()
        except Refused as refused:
            return "no handshake", str(refused)
        return "works"
