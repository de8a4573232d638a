"""Reports as a next hop has received them, envelope and all (RFC 3464).

`reports` takes apart what has arrived in a mailbox; here it is asked what a relay has sent, and to
whom, in whatever form.
"""

from __future__ import annotations

import email
import email.policy
import re
from dataclasses import dataclass
from email.message import EmailMessage, Message
from typing import Final

from specs.conformance.hop_records import Mail

STATUS: Final = ("message/delivery-status", "message/global-delivery-status")
_ACTION: Final = re.compile(rb"^action:[ \t]*([a-z]+)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Notification:
    """mail: as it came to the hop of the sender's domain, with its envelope."""

    mail: Mail

    @property
    def of_failure(self) -> bool:
        """What does not say what it is, is one: nothing else should come."""
        actions = {each.lower() for each in _ACTION.findall(self.mail.content)}
        return not actions or b"failed" in actions

    @property
    def actions(self) -> set[str]:
        return {each.decode().lower() for each in _ACTION.findall(self.mail.content)}

    @property
    def message(self) -> EmailMessage:
        return email.message_from_bytes(self.mail.content, policy=email.policy.default)

    @property
    def blocks(self) -> list[Message]:
        """Of its delivery-status part (RFC 3464): of the message, then of each recipient."""
        for part in self.message.walk():
            found = part.get_payload()
            if part.get_content_type() in STATUS and isinstance(found, list):
                return [each for each in found if isinstance(each, Message)]
        return []

    def field(self, name: str) -> list[str]:
        """Values of a field, of all blocks."""
        return [str(value) for each in self.blocks for value in each.get_all(name, [])]

    def failed(self) -> set[str]:
        """Local parts of the recipients that it calls failed, in lower case."""
        found = set()
        for each in self.blocks:
            who = str(each.get("Final-Recipient", "")).rpartition(";")[2].strip(" <>")
            if str(each.get("Action", "")).strip().lower() == "failed" and who:
                found.add(who.rpartition("@")[0].lower())
        return found
