"""What enqueue takes into the queue: submitters are not believed, so envelopes are parsed again.

What is refused, with the reply for the client:

    550/553        an envelope that does not parse (smtpd would not have sent it)
    552 5.3.4      more content than is allowed
    452 4.3.1      the disk is full
    451 4.3.0      any other failure of the disk, or of whoever keeps the envelopes

A submitter that says what it may not say is cut off (ChannelBroken).
"""

from __future__ import annotations

from refmta.patterns.trust_partitioning import ChannelBroken
from refmta.stores.disk import out_of_space
from refmta.wire.address import AddressError, is_address_literal, parse_mailbox
from refmta.wire.envelope import Envelope
from refmta.wire.messages import Refused, Submit


class Rejection(Exception):
    """A submission that is refused, with the reply for the client."""

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        super().__init__(text)
        self.refused = Refused(code=code, enhanced=enhanced, text=text)


def check_origin(message: object, submitter: str) -> None:
    """Only bounce says that a message was made here, says so of each, and writes as nobody: a
    seized smtpd can't hide where mail came from.  Raises ChannelBroken.
    """
    if not isinstance(message, Submit):
        return
    made_here = message.protocol == "local"
    if made_here != (submitter == "bounce") or (made_here and message.reverse_path):
        raise ChannelBroken("a message that this submitter may not send")


def check(envelope: Envelope) -> None:
    """Parse the envelope again: smtpd may be seized.  Raises Rejection."""
    try:
        if envelope.reverse_path:
            parse_mailbox(envelope.reverse_path)
    except AddressError:
        raise Rejection(553, "5.1.7", "Bad sender address") from None
    try:
        for recipient in envelope.recipients:
            parse_mailbox(recipient)
    except AddressError:
        raise Rejection(553, "5.1.3", "Bad recipient address") from None
    if not (_visible(envelope.helo) and _is_ip(envelope.client)):
        raise Rejection(550, "5.5.2", "Bad client name")


def _visible(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _is_ip(text: str) -> bool:
    literal = f"[IPv6:{text.partition('%')[0]}]" if ":" in text else f"[{text}]"
    return _visible(text) and is_address_literal(literal)


def disk_rejection(error: OSError) -> Rejection:
    """The true reply for a failure of the disk."""
    if out_of_space(error):
        return Rejection(452, "4.3.1", "Insufficient system storage")
    return Rejection(451, "4.3.0", "The queue could not be written")
