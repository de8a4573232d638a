"""Queue ids that carry a workload's token, so that what recovery finds can be told apart."""

from __future__ import annotations

from refmta.wire.envelope import Envelope, queue_id

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
TOKEN_OCTETS = 10


def queue_id_of(token: str) -> str:
    """A queue id for a token of at most ten ASCII letters."""
    number = int.from_bytes(token.encode("ascii").rjust(TOKEN_OCTETS, b"\0"), "big")
    return queue_id(number >> 32, number & 0xFFFFFFFF)


def token_of(name: str) -> str:
    """The token in a queue id."""
    number = 0
    for letter in name:
        number = number << 5 | _ALPHABET.index(letter)
    return number.to_bytes(TOKEN_OCTETS, "big").lstrip(b"\0").decode("ascii", "replace")


def envelope_of(token: str) -> Envelope:
    """An envelope that names its token in each address."""
    return Envelope(
        queue_id=queue_id_of(token),
        arrival_s=1,
        reverse_path=f"{token}@sender.example",
        recipients=(f"{token}@example.org",),
        client="192.0.2.1",
        helo="client.example",
        protocol="ESMTP",
    )
