"""AUTH of the control server: RFC 4954, with PLAIN (RFC 4616), LOGIN and CRAM-MD5 (RFC 2195).

The session asks `auth_line` for each line while its mode is "auth".
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from collections.abc import Mapping
from typing import ClassVar, Literal

from specs.conformance.controls.answers import Answer, Refusal, answer, no
from specs.conformance.controls.mailbox import House

Mode = Literal["command", "auth", "content", "chunk"]
Hello = Literal["", "HELO", "EHLO", "LHLO"]


class Authentication:
    """Part of a session, whose attributes these are."""

    most_auth_line: ClassVar[int] = 12288
    mechanisms: ClassVar[tuple[str, ...]] = ("PLAIN", "LOGIN", "CRAM-MD5")
    users: ClassVar[Mapping[str, str]] = {"carol": "7-sealing-wax"}

    house: House
    hello: Hello
    mode: Mode
    tls: bool
    user: str
    transaction: object | None
    auth_step: str
    auth_name: str

    def do_auth(self, argument: str) -> Answer:
        """RFC 4954 4."""
        if self.hello not in ("EHLO", "LHLO") or self.transaction is not None or self.user:
            raise no(503, "5.5.1", "not now")
        mechanism, _, initial = argument.partition(" ")
        if not mechanism or " " in initial:
            raise no(501, "5.5.4", "AUTH mechanism [initial-response], please")
        if mechanism.upper() not in self.mechanisms:
            raise no(504, "5.5.4", "no such mechanism")
        if not self.tls:
            raise no(538, "5.7.11", "STARTTLS comes first")
        self.auth_step = mechanism.upper()
        if self.auth_step == "CRAM-MD5":
            if initial:
                raise no(501, "5.7.0", "the server speaks first")
            self.mode, self.auth_name = "auth", f"<{secrets.token_hex(8)}@{self.house.hostname}>"
            return self.challenge(self.auth_name)
        if not initial:
            self.mode = "auth"
            return self.challenge("" if self.auth_step == "PLAIN" else "Username:")
        return self.auth_response(b"" if initial == "=" else self.decoded(initial))

    def challenge(self, text: str) -> Answer:
        return answer(334, "", base64.b64encode(text.encode()).decode())

    def decoded(self, text: str) -> bytes:
        """Raises Refusal."""
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise no(501, "5.5.2", "not base64") from None

    def auth_line(self, line: bytes) -> Answer:
        """A response; whatever is wrong with it ends the exchange."""
        self.mode = "command"
        try:
            if len(line) + 2 > self.most_auth_line:
                raise no(500, "5.5.6", "line too long")
            if line == b"*":
                raise no(501, "5.7.0", "cancelled")
            return self.auth_response(self.decoded(line.decode("latin-1")))
        except Refusal as refusal:
            return refusal.answer

    def auth_response(self, response: bytes) -> Answer:
        """Raises Refusal."""
        if self.auth_step == "PLAIN":
            parts = response.split(b"\0")
            if len(parts) != 3 or not parts[1]:
                raise no(501, "5.5.2", "not authzid NUL authcid NUL password")
            may = parts[0] in (b"", parts[1])  # RFC 4616 2: nobody may act for another
            return self.judged(parts[1].decode("utf-8", "replace"), parts[2], may)
        if self.auth_step == "CRAM-MD5":
            return self.digested(response)
        if self.auth_step == "LOGIN":
            self.auth_name = response.decode("utf-8", "replace")
            self.auth_step, self.mode = "LOGIN password", "auth"
            return self.challenge("Password:")
        return self.judged(self.auth_name, response, True)

    def digested(self, response: bytes) -> Answer:
        """RFC 2195.  Raises Refusal."""
        name, _, digest = response.decode("utf-8", "replace").rpartition(" ")
        password = self.users.get(name, "")
        made = hmac.new(password.encode(), self.auth_name.encode(), "md5").hexdigest()
        return self.judged(name, password.encode() if digest == made else b"", True)

    def judged(self, name: str, password: bytes, may: bool) -> Answer:
        """Raises Refusal."""
        if not may or self.users.get(name, "").encode() != password or not password:
            raise no(535, "5.7.8", "name or password is wrong")
        self.user = name
        return answer(235, "2.7.0", "welcome")
