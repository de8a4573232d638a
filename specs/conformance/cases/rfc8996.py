"""RFC 8996 (TLS 1.0 and 1.1 are not used any more), sections 4 and 5.

Tricky: a handshake may fail for want of a common cipher or key, so that every case asks first for
one that any server has to offer, with a version that is allowed.  The client here offers all the
ciphers that its OpenSSL has, with no lower limit on their strength.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.model import NON_STRICT, PASS, Door, Observed
from specs.conformance.section import Section
from specs.conformance.session import Refused, Session
from specs.conformance.tls import before_tls, only

here = Section("8996")

_DOORS: Final[tuple[tuple[Door, str], ...]] = (
    ("smtp", ""), ("submission", "submission"), ("tls", "tls"),
)  # fmt: skip
for _door, _needs in _DOORS:
    for _version, _section in (("1.0", "4"), ("1.1", "5")):

        @here.case(
            f"{_section}-tls-{_version.replace('.', '')}-{_door}", level="MUST NOT",
            clauses="8996-5-a" if _door == "smtp" else "8996-5-a 8314-4.1-a", needs=_needs,
            requirement=f"TLS {_version} is not negotiated ({_door})",
            sent=f"a ClientHello for TLS {_version} and no other",
            # Between servers TLS is opportunistic: without old TLS mail may go in the clear
            # (RFC 9325 5.2), so that there it only misses a SHOULD.
            allowed={"refused": PASS, "no answer": NON_STRICT}
            | ({"negotiated": NON_STRICT} if _door == "smtp" else {}),
            security="" if _door == "smtp" else "old TLS can be read or changed on the way",
        )  # fmt: skip
        async def _(talk: Session, door: Door = _door, version: str = _version) -> Observed:
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
        requirement="A client with TLS 1.0 that was turned away does not harm the next one "
        f"({_door})",
        sent="a ClientHello for TLS 1.0; then a new connection with TLS 1.2 or later",
        allowed={"works": PASS},
    )  # fmt: skip
    async def _(talk: Session, door: Door = _door) -> Observed:
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
