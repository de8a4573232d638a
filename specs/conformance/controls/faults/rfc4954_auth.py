"""Faults against RFC 4954, 4616 and 6409: AUTH, and submission."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from typing import Any, Final

from specs.conformance.controls.answers import Answer, answer, no
from specs.conformance.controls.planting import (
    AUTH_IN_CLEAR,
    Fault,
    answering,
    around,
    having,
    house_around,
    refusing,
    then,
)
from specs.conformance.controls.session import Session
from specs.conformance.controls.syntax import Path, Syntax
from specs.conformance.model import NON_STRICT


def _lenient(go: Any, self: Session, text: str) -> bytes:
    """Everything outside the alphabet is passed over."""
    text = re.sub(r"[^A-Za-z0-9+/]", "", text)
    return base64.b64decode(text[: len(text) - (len(text) % 4 == 1)] + "=" * (-len(text) % 4))


def _empty(go: Any, self: Session, text: str) -> bytes:
    try:
        found: bytes = go(text)
    except Exception:
        return b"\0carol\x007-sealing-wax"
    return found


def _fields(go: Any, self: Session, response: bytes) -> Any:
    """Of PLAIN only the end counts."""
    parts = response.split(b"\0")
    if self.auth_step == "PLAIN" and len(parts) >= 2:
        return go(b"\0".join([b"", *parts[-2:]]))
    return go(response)


def _first_three(go: Any, self: Session, response: bytes) -> Any:
    """What stands behind a third NUL does not count."""
    parts = response.split(b"\0")
    return go(b"\0".join(parts[:3]) if self.auth_step == "PLAIN" else response)


def _cram_same(go: Any, self: Session, text: str) -> Answer:
    if text.startswith("<"):
        self.auth_name = text = "<1@mx.control.example>"
    return go(text)  # type: ignore[no-any-return]


def _prefix_password(go: Any, self: Session, name: str, password: bytes, may: bool) -> Answer:
    """A password that begins right is good."""
    whole = self.users.get(name, "").encode()
    good = whole and (password.startswith(whole) or password.upper() == whole.upper())
    return go(name, whole if good else password, may)  # type: ignore[no-any-return]


def _again(go: Any, self: Session, argument: str) -> Any:
    self.user = ""
    return go(argument)


def _in_transaction(go: Any, self: Session, argument: str) -> Any:
    kept, self.transaction = self.transaction, None
    try:
        return go(argument)
    finally:
        self.transaction = kept


def _gives_up(go: Any, self: Session, argument: str) -> Any:
    if self.transaction is not None:
        self.transaction = None
        raise no(503, "5.5.1", "not now")
    return go(argument)


def _star(go: Any, self: Session, line: bytes) -> Any:
    if line == b"*":
        self.mode = "command"
        return answer(250, "2.0.0", "as you like")
    return go(line)


def _any_user(go: Any, self: Session, *rest: Any) -> Answer:
    found: Answer = go(*rest)
    if found.code >= 500 and not self.user:
        self.user = "somebody"
    return found


def _failed_still(go: Any, self: Session, name: str, password: bytes, may: bool) -> Answer:
    """Who fails is let in all the same."""
    try:
        return go(name, password, may)  # type: ignore[no-any-return]
    finally:
        self.user = self.user or name


def _echo_secret(go: Any, self: Session, name: str, password: bytes, may: bool) -> Answer:
    try:
        return go(name, password, may)  # type: ignore[no-any-return]
    except Exception:
        raise no(535, "5.7.8", f"{password.decode('latin-1')} is wrong") from None


def _shorter(go: Any, self: Any) -> list[str]:
    """PLAIN is left out once EHLO was said."""
    lines: list[str] = go()
    self.asked = getattr(self, "asked", 0) + 1
    return [each.replace("PLAIN ", "") if self.asked > 1 else each for each in lines]


def _twice(found: Answer, wrong: bool) -> Answer:
    if not wrong:
        return found
    return answer(500, "5.5.6", "line too long\r\n500 5.5.2 and what is this?")


def _locked(go: Any, self: Any, name: str, password: bytes, may: bool) -> Any:
    try:
        return go(name, b"" if getattr(self, "wrong", False) else password, may)
    except Exception:
        self.wrong = True
        raise


def _unchecked_mail(self: Session, argument: str) -> Answer:
    kept, self.user = self.user, self.user or "nobody"
    try:
        return Session.do_mail(self, argument)
    finally:
        self.user = kept


class _Short(Syntax):
    """Mailboxes need no domain."""

    def mailbox(self, text: str) -> Path:
        return Syntax.mailbox(self, text) if "@" in text else Path(text, "", text)


FAULTS: Final = (
    # -- RFC 4954 ----------------------------------------------------------------------------------
    Fault(
        "auth-comma-list",
        "4954-3-keyword-starttls",
        "Mechanisms are listed with commas",
        around(
            "keywords",
            lambda go, self: [each.replace("PLAIN LOGIN", "PLAIN,LOGIN") for each in go()],
        ),
    ),
    Fault(
        "auth-list-changes",
        "4954-4-same-list-tls",
        "A second EHLO lists other mechanisms",
        around("keywords", _shorter),
    ),
    Fault(
        "auth-in-transaction",
        "4954-4-in-transaction",
        "AUTH is taken in a transaction",
        around("do_auth", _in_transaction),
    ),
    Fault(
        "auth-ends-transaction",
        "4954-4-in-transaction-goes-on",
        "AUTH in a transaction ends it",
        around("do_auth", _gives_up),
    ),
    Fault("auth-twice", "4954-4-twice-at-once", "AUTH is taken twice", around("do_auth", _again)),
    Fault(
        "auth-unknown-334",
        "4954-4-mechanism-unknown",
        "An unknown mechanism is answered 334",
        answering("AUTH [A-Z-]*(FAKE|X-|NO|UNK|[A-Z0-9-]*)", 334, within="!user"),
    ),
    Fault(
        "auth-base64-lenient",
        "4954-4-base64-ignored-space",
        "What is no base64 is passed over",
        around("decoded", _lenient),
    ),
    Fault(
        "auth-base64-taken",
        "4954-4-base64-initial-one-left",
        "What is no base64 counts as a good password",
        around("decoded", _empty),
    ),
    Fault(
        "auth-cancel-250",
        "4954-4-cancel-plain",
        "A cancelled AUTH is answered 250",
        around("auth_line", _star),
    ),
    Fault(
        "auth-cancel-login-250",
        "4954-4-cancel-login",
        "A cancelled LOGIN is answered 250",
        around("auth_line", _star),
    ),
    Fault(
        "auth-success-250",
        "4954-4-success",
        "Success is 250",
        around("judged", lambda go, self, *rest: replace(go(*rest), code=250)),
    ),
    Fault(
        "auth-challenge-text",
        "4954-4-challenge-login",
        "A challenge is no base64",
        having(challenge=lambda self, text: answer(334, "", text or "go on")),
    ),
    Fault(
        "auth-empty-challenge",
        "4954-4-challenge-plain",
        "The empty challenge has a text",
        around(
            "challenge",
            lambda go, self, text: go(text) if text else answer(334, "", "PLAIN, please"),
        ),
    ),
    Fault(
        "auth-initial-missing",
        "4954-4-success",
        "An initial response is not taken",
        around(
            "do_auth",
            lambda go, self, a: (
                go(a) if " " not in a else answer(501, "5.5.4", "no initial response")
            ),
        ),
    ),
    Fault(
        "auth-empty-initial",
        "4954-4-empty-initial",
        "= is a good password",
        around(
            "auth_response", lambda go, self, response: go(response or b"\0carol\x007-sealing-wax")
        ),
    ),
    Fault(
        "auth-any-password",
        "4954-4-wrong-password-other",
        "Any password is good",
        around("judged", lambda go, self, name, password, may: go("carol", b"7-sealing-wax", may)),
    ),
    Fault(
        "auth-password-longer",
        "4954-4-wrong-password-longer",
        "A password may go on behind its end",
        around("judged", _prefix_password),
    ),
    Fault(
        "auth-password-case",
        "4954-4-wrong-password-case",
        "A password has no case",
        around("judged", _prefix_password),
    ),
    Fault(
        "auth-failed-still",
        "4954-4-wrong-gives-nothing",
        "Who fails may relay all the same",
        around("judged", _failed_still),
    ),
    Fault(
        "auth-cancelled-still",
        "4954-4-cancelled-gives-nothing",
        "Who cancels may relay all the same",
        around("auth_line", _any_user),
    ),
    Fault(
        "auth-failed-pipelined",
        "4954-4-wrong-pipelined",
        "Who fails is in before it is told",
        around("judged", _failed_still),
    ),
    Fault(
        "auth-long-line-loops",
        "4954-4-long-response-64k",
        "A long response is answered twice",
        around("auth_line", lambda go, self, line: _twice(go(line), len(line) > 12288)),
    ),
    Fault(
        "auth-in-clear",
        "4954-4-plaintext-taken-smtp",
        "AUTH is taken in the clear, though not listed",
        AUTH_IN_CLEAR,
    ),
    Fault(
        "auth-clear-relay",
        "4954-4-plaintext-taken-submission",
        "AUTH is taken in the clear at submission",
        AUTH_IN_CLEAR,
    ),
    Fault(
        "auth-cram-same",
        "4954-4-cram-md5-fresh",
        "The challenge of CRAM-MD5 is always the same",
        around("challenge", _cram_same),
    ),
    Fault(
        "auth-secret-told",
        "4954-4-secret-in-reply",
        "The reply tells the password",
        around("judged", _echo_secret),
        NON_STRICT,
    ),
    Fault(
        "auth-of-mail-refused",
        "4954-5-mail-mailbox",
        "AUTH= behind MAIL is refused",
        refusing("MAIL .*AUTH=.*", 555, "5.5.4"),
    ),
    Fault(
        "auth-of-mail-ends",
        "4954-5-mail-bad-hex",
        "AUTH= that is no xtext is answered 354",
        answering("MAIL .*AUTH=[^ ]*[+](?![0-9A-F]{2}).*", 354),
    ),
    Fault(
        "auth-failed-ends",
        "4954-4-goes-on-after-504",
        "A failed AUTH ends the connection",
        then(
            "AUTH .*", lambda self: setattr(self, "ended", not self.user and self.mode == "command")
        ),
        observed="closed",
    ),
    Fault(
        "auth-locked",
        "4954-4-wrong-then-good",
        "After one mistake nothing is good",
        around("judged", _locked),
    ),
    # -- RFC 4616 ----------------------------------------------------------------------------------
    Fault(
        "plain-fields",
        "4616-2-malformed-field-behind",
        "A fourth field of PLAIN is passed over",
        around("auth_response", _first_three),
        NON_STRICT,
    ),
    Fault(
        "plain-one-nul",
        "4616-2-malformed-one-nul",
        "PLAIN needs only one NUL",
        around("auth_response", _fields),
    ),
    Fault(
        "plain-identity",
        "4616-2-identity-nobody",
        "Anybody may act for anybody, and 334 says so",
        around(
            "judged",
            lambda go, self, name, password, may: (
                go(name, password, may) if may else answer(334, "", "")
            ),
        ),
    ),
    Fault(
        "plain-short-fields",
        "4616-2-long-password",
        "A long password is a syntax error",
        around(
            "judged",
            lambda go, self, name, password, may: (
                go(name, password, may) if len(password) < 200 else answer(501, "5.5.2", "too long")
            ),
        ),
    ),
    # -- RFC 6409 ----------------------------------------------------------------------------------
    Fault(
        "submission-relays",
        "6409-4.3-relay-without-auth-submission",
        "Submission relays for everybody",
        having(
            do_mail=_unchecked_mail,
            check_recipient=lambda self, path: None,
        ),
    ),
    Fault(
        "submission-unqualified",
        "6409-4.2-sender-one-label",
        "A name alone is a domain",
        having(check_qualified=lambda self, path, status: None),
        NON_STRICT,
    ),
    Fault(
        "submission-no-greeting",
        "6409-3.1-esmtp",
        "Submission knows no EHLO",
        around(
            "do_ehlo",
            lambda go, self, a: (
                answer(502, "", "HELO, please") if self.door.submission and not self.tls else go(a)
            ),
        ),
    ),
    Fault(
        "submission-two-ids",
        "6409-8.3-message-id-kept",
        "A second Message-ID is added",
        house_around(
            "prepared",
            lambda go, self, envelope, content: (
                go(envelope, b"Message-ID: <another@control.example>\r\n" + content)
                if envelope.submitted
                else content
            ),
        ),
    ),
    Fault(
        "with-a-of-failed",
        "3848-1-failed-auth",
        "WITH says A of who failed to authenticate",
        around("judged", _failed_still),
    ),
    Fault(
        "submission-no-domain",
        "6409-4.2-sender-no-domain",
        "A local part alone is a sender",
        having(syntax=_Short()),
    ),
)
