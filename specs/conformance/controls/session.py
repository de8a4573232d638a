"""One connection's state machine: octets in, octets out, nothing else.

    session = Session(house=house, door=SMTP, peer="127.0.0.1")
    session.greeting()                     # octets to send first
    session.receive(octets)                # octets to answer with
    session.wants_tls, session.ended       # what to do after they are sent

Theory
- `mode` says how the next octets are read: as lines of commands, as one line of an AUTH exchange,
  as content up to CRLF . CRLF, or as a chunk of so many octets.
- Only CRLF ends a line.  A bare CR or LF in a command is an octet that no command has.
- A command is a method do_VERB: it returns its Answer or raises Refusal; either way that is the one
  reply.  Only `receive_content` may give several (LMTP: one for each recipient).
- Faults replace methods and attributes; so each decision stands in a method of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final, Literal

from specs.conformance.controls import parameters
from specs.conformance.controls.answers import Answer, Refusal, answer, no
from specs.conformance.controls.authentication import Authentication
from specs.conformance.controls.mailbox import (
    Envelope,
    House,
    Recipient,
    fields_of,
    name_of,
    new_id,
    split,
)
from specs.conformance.controls.parameters import Parameter
from specs.conformance.controls.syntax import Path, Syntax, Wrong


@dataclass(frozen=True, slots=True)
class Door:
    """What is spoken behind it.  submission: AUTH comes before mail (RFC 6409 4.3)."""

    name: Literal["smtp", "submission", "tls", "lmtp"]
    submission: bool = False
    tls_first: bool = False
    lmtp: bool = False


SMTP: Final = Door("smtp")
SUBMISSION: Final = Door("submission", submission=True)
TLS: Final = Door("tls", submission=True, tls_first=True)
LMTP: Final = Door("lmtp", lmtp=True)

OK: Final = answer(250, "2.0.0", "ok")
#: Commands of the standard that this server knows, and has not (RFC 5321 4.2.4).
KNOWN: Final = frozenset({"SEND", "SOML", "SAML", "TURN", "XCLIENT", "XFORWARD"})
HELLOS: Final = frozenset({"EHLO", "HELO", "LHLO"})


@dataclass(slots=True)
class Transaction:
    """From MAIL on.  kept: values of parameters.  chunks: of BDAT; None before the first."""

    sender: Path
    kept: dict[str, object]
    recipients: list[Recipient] = field(default_factory=list)
    chunks: list[bytes] | None = None
    failed: bool = False

    @property
    def octets(self) -> int:
        return sum(len(each) for each in self.chunks or ())


class Session(Authentication):
    """See above."""

    syntax: ClassVar[Syntax] = Syntax()
    of_mail: ClassVar[Mapping[str, Parameter]] = parameters.OF_MAIL
    of_rcpt: ClassVar[Mapping[str, Parameter]] = parameters.OF_RCPT
    most_octets: ClassVar[int] = 1 << 20
    most_recipients: ClassVar[int] = 150
    most_line: ClassVar[int] = 2048
    most_hops: ClassVar[int] = 100
    most_hold_s: ClassVar[int] = 7 * 86400
    line_end: ClassVar[bytes] = b"\r\n"
    end_of_data: ClassVar[bytes] = b"\r\n.\r\n"
    owners_since: ClassVar[datetime] = datetime(2001, 1, 1, tzinfo=UTC)

    def __init__(self, *, house: House, door: Door, peer: str) -> None:
        self.house, self.door, self.peer = house, door, peer
        self.tls = door.tls_first
        self.can_tls = True
        self.wants_tls = self.ended = False
        self.input = b""
        self.skipping = False
        self.forget()

    def forget(self) -> None:
        """As after the connection was made (RFC 3207 4.2)."""
        self.hello = ""
        self.helo = ""
        self.user = ""
        self.transaction: Transaction | None = None
        self.mode = "command"
        self.auth_step = ""
        self.auth_name = ""
        self.left = 0
        self.last = False
        self.content = bytearray()
        self.chunk = bytearray()

    # -- octets -----------------------------------------------------------------------------------

    def greeting(self) -> bytes:
        """RFC 5321 3.1."""
        protocol = "LMTP" if self.door.lmtp else "ESMTP"
        return self.written(answer(220, "", f"{self.house.hostname} {protocol} control"))

    def receive(self, octets: bytes) -> bytes:
        """The replies to all that is whole, in one piece (RFC 2920 3.2)."""
        self.input += octets
        out = b""
        while not self.ended and not self.wants_tls:
            answers = self.step()
            if answers is None:
                break
            out += b"".join(self.written(each) for each in answers)
        return out

    def written(self, each: Answer) -> bytes:
        return each.octets()

    def secured(self) -> None:
        """TLS is on.  What was sent before, and not yet read, is dropped (RFC 3207 4.2)."""
        self.forget()
        self.input = b""
        self.tls, self.wants_tls = True, False

    def step(self) -> list[Answer] | None:
        """Of one line, chunk or content; None if it is not whole."""
        match self.mode:
            case "content":
                return self.step_content()
            case "chunk":
                return self.step_chunk()
        line = self.take_line()
        if line is None:
            return None
        found = self.auth_line(line) if self.mode == "auth" else self.command(line)
        return [] if found is CHUNK_BEGINS else [found]

    def take_line(self) -> bytes | None:
        """Without its end; a line that is too long is cut so that it stays so."""
        end = self.input.find(self.line_end)
        if end < 0:
            if len(self.input) > self.longest() + 2:
                self.input = self.input[: self.longest() + 2] + self.input[-1:]
            return None
        line, self.input = self.input[:end], self.input[end + len(self.line_end) :]
        return line

    def longest(self) -> int:
        """With CRLF.  RFC 5321 4.5.3.1.4 has 512 and more for extensions, RFC 4954 4 more."""
        exchange = self.mode == "auth" or self.input[:5].upper() == b"AUTH "
        return self.most_auth_line if exchange else self.most_line

    # -- commands ---------------------------------------------------------------------------------

    def command(self, line: bytes) -> Answer:
        """The one answer to it."""
        verb = ""
        try:
            if len(line) + 2 > self.limit_of(line):
                raise no(500, "5.5.2", "line too long")
            verb, argument = self.parsed(line)
            return self.dispatch(verb, argument)
        except Refusal as refusal:
            bare = verb in HELLOS and not self.door.lmtp
            return Answer(refusal.answer.code, "", refusal.answer.lines) if bare else refusal.answer

    def limit_of(self, line: bytes) -> int:
        return self.most_auth_line if line[:5].upper() == b"AUTH " else self.most_line

    def parsed(self, line: bytes) -> tuple[str, str]:
        """(verb in capitals, argument).  White space at the end is no part of it (RFC 5321 4.1.1).
        Raises Refusal.
        """
        line = line.rstrip(b" \t")
        found = re.fullmatch(rb"([A-Za-z][A-Za-z0-9-]*)(?: (.*))?", line, re.DOTALL)
        if found is None or not self.has(found[1].decode().upper()):
            known = found is not None and found[1].decode().upper() in KNOWN
            raise no(502, "5.5.1", "not here") if known else no(500, "5.5.1", "no such command")
        verb = found[1].decode().upper()
        return verb, self.argument(found[2] or b"")

    def has(self, verb: str) -> bool:
        if self.door.lmtp:
            return verb not in ("HELO", "EHLO") and verb in VERBS
        return verb in VERBS and verb != "LHLO"

    def argument(self, octets: bytes) -> str:
        """Raises Refusal (RFC 5321 4.1.2)."""
        if re.search(rb"[\x00-\x1f\x7f]", octets):
            raise no(501, "5.5.2", "control characters in a command")
        try:
            return octets.decode()
        except UnicodeDecodeError:
            raise no(501, "5.5.2", "not UTF-8") from None

    def dispatch(self, verb: str, argument: str) -> Answer:
        """Raises Refusal."""
        method = getattr(self, f"do_{verb.lower()}")
        found = method(argument)
        if not isinstance(found, Answer):
            raise TypeError(f"Answer was expected, not {found!r}")
        return found

    def without_argument(self, argument: str) -> None:
        """RFC 5321 4.3.2.  Raises Refusal."""
        if argument:
            raise no(501, "5.5.4", "no argument, please")

    # -- EHLO and what it offers ------------------------------------------------------------------

    def keywords(self) -> list[str]:
        """Lines of EHLO, in the session's present state."""
        lines = [
            "PIPELINING", f"SIZE {self.most_octets}", "8BITMIME", "ENHANCEDSTATUSCODES", "DSN",
            "CHUNKING", "BINARYMIME", "SMTPUTF8", "DELIVERBY", "MT-PRIORITY", "MTRK", "RRVS",
        ]  # fmt: skip
        if not self.door.lmtp:
            lines += ["EXPN", "HELP", "ETRN", "ATRN"]
        if self.can_tls and not self.tls and not self.door.lmtp:
            lines.append("STARTTLS")
        if self.tls:
            lines += [f"AUTH {' '.join(self.mechanisms)}", "REQUIRETLS"]
        if self.door.submission and self.tls:
            lines.append("BURL imap")
        if self.door.submission:
            lines.append(f"FUTURERELEASE {self.most_hold_s} {self.latest():%Y-%m-%dT%H:%M:%SZ}")
        return lines

    def latest(self) -> datetime:
        """Until when mail may be held: the end of a day, so that it stays the same for a while."""
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return today + timedelta(days=1, seconds=self.most_hold_s)

    def offered(self, keyword: str) -> bool:
        """In this session, as it is now: nothing is after HELO."""
        if self.hello not in ("EHLO", "LHLO"):
            return False
        return keyword in {each.partition(" ")[0] for each in self.keywords()}

    def hail(self, verb: Literal["HELO", "EHLO", "LHLO"], argument: str) -> None:
        """RFC 5321 4.1.1.1, 4.1.4: a wrong one changes nothing.  Raises Refusal."""
        try:
            self.syntax.domain(argument)
        except Wrong:
            raise no(501, "", "a domain or an address literal, please") from None
        if not argument.isascii():
            raise no(501, "", "ASCII, please")
        self.hello, self.helo, self.transaction = verb, argument, None

    def do_ehlo(self, argument: str) -> Answer:
        self.hail("EHLO", argument)
        return answer(250, "", f"{self.house.hostname} greets {self.helo}", *self.keywords())

    def do_lhlo(self, argument: str) -> Answer:
        """RFC 2033 4.1."""
        self.hail("LHLO", argument)
        return answer(250, "", f"{self.house.hostname} greets {self.helo}", *self.keywords())

    def do_helo(self, argument: str) -> Answer:
        self.hail("HELO", argument)
        return answer(250, "", f"{self.house.hostname} greets {self.helo}")

    # -- a transaction ----------------------------------------------------------------------------

    def greeted(self) -> None:
        """Raises Refusal."""
        if not self.hello:
            raise no(503, "5.5.1", "EHLO comes first")

    def do_mail(self, argument: str) -> Answer:
        """RFC 5321 4.1.1.2."""
        self.greeted()
        if self.transaction is not None:
            raise no(503, "5.5.1", "there is a sender already")
        if self.door.submission and not self.user:
            raise no(530, "5.7.0", "AUTH comes first")
        path, rest = self.path(argument, "FROM:", "5.1.7")
        kept = self.read_parameters(rest, self.of_mail)
        self.check_international(path, bool(kept.get("SMTPUTF8")))
        self.check_qualified(path, "5.1.8")
        if "HOLDFOR" in kept and "HOLDUNTIL" in kept:
            raise no(501, "5.5.4", "HOLDFOR or HOLDUNTIL, not both")
        self.transaction = Transaction(path, kept)
        return answer(250, "2.1.0", "sender ok")

    def do_rcpt(self, argument: str) -> Answer:
        """RFC 5321 4.1.1.3."""
        transaction = self.opened()
        if transaction.chunks is not None:
            raise no(503, "5.5.1", "content has begun")
        path, rest = self.path(argument, "TO:", "5.1.3")
        kept = self.read_parameters(rest, self.of_rcpt)
        self.check_international(path, bool(transaction.kept.get("SMTPUTF8")))
        self.check_qualified(path, "5.1.2")
        self.check_recipient(path)
        if len(transaction.recipients) >= self.most_recipients:
            raise no(452, "4.5.3", "too many recipients")
        self.add_recipient(transaction, path, kept)
        return answer(250, "2.1.5", "recipient ok")

    def add_recipient(
        self, transaction: Transaction, path: Path, kept: Mapping[str, object]
    ) -> None:
        notify, orcpt = kept.get("NOTIFY"), kept.get("ORCPT")
        transaction.recipients.append(
            Recipient(
                path=path,
                notify=notify if isinstance(notify, frozenset) else frozenset(),
                orcpt=orcpt if isinstance(orcpt, tuple) else None,
            )
        )

    def opened(self) -> Transaction:
        """Raises Refusal."""
        self.greeted()
        if self.transaction is None:
            raise no(503, "5.5.1", "MAIL comes first")
        return self.transaction

    def path(self, argument: str, word: Literal["FROM:", "TO:"], status: str) -> tuple[Path, str]:
        """(path, what stands behind it).  Raises Refusal."""
        if argument[: len(word)].upper() != word:
            raise no(501, "5.5.4", f"{word}<address>, please")
        text = argument[len(word) :]
        try:
            return self.syntax.path(text, null=word == "FROM:", postmaster=word == "TO:")
        except Wrong as wrong:
            raise no(501, status, str(wrong)) from None

    def read_parameters(self, text: str, table: Mapping[str, Parameter]) -> dict[str, object]:
        """RFC 5321 4.1.1.11.  Raises Refusal."""
        try:
            words = self.syntax.parameters(text)
        except Wrong as wrong:
            raise no(501, "5.5.4", str(wrong)) from None
        kept: dict[str, object] = {}
        wide = any(keyword == "SMTPUTF8" for keyword, _ in words)
        for keyword, value in words:
            row = table.get(keyword)
            if row is None or not self.offered(row.keyword):
                raise no(555, "5.5.4", f"no parameter {keyword}")
            if keyword in kept:
                raise no(501, "5.5.4", f"{keyword} is there twice")
            if value and not value.isascii() and not (wide or self.international()):
                raise no(501, "5.5.4", f"{keyword} has octets beyond ASCII")
            kept[keyword] = row.read(self, value)
        return kept

    def international(self) -> bool:
        return self.transaction is not None and bool(self.transaction.kept.get("SMTPUTF8"))

    def check_international(self, path: Path, allowed: bool) -> None:
        """RFC 6531 3.5.  Raises Refusal."""
        if path.international and not allowed:
            raise no(553, "5.6.7", "that address needs SMTPUTF8")

    def check_qualified(self, path: Path, status: str) -> None:
        """RFC 6409 4.2.  Raises Refusal."""
        if self.door.submission and path.domain and not re.search(r"[.\[]", path.domain):
            raise no(550, status, "that domain is not fully qualified")

    def check_recipient(self, path: Path) -> None:
        """No relaying for strangers, no mail for nobody.  Raises Refusal."""
        where = self.house.knows(path)
        if where == "elsewhere" and not self.user:
            raise no(550, "5.7.1", "this server does not relay")
        if where == "unknown" and not self.house.late:
            raise no(550, "5.1.1", "no such user")

    def with_recipient(self) -> Transaction:
        """Raises Refusal."""
        transaction = self.opened()
        if not transaction.recipients:
            raise no(503, "5.5.1", "no valid recipients")
        return transaction

    def do_data(self, argument: str) -> Answer:
        """RFC 5321 4.1.1.4, RFC 3030 2 and 3."""
        self.without_argument(argument)
        transaction = self.with_recipient()
        if transaction.chunks is not None:
            raise no(503, "5.5.1", "BDAT was used already")
        if transaction.kept.get("BODY") == "BINARYMIME":
            raise no(503, "5.5.1", "BINARYMIME needs BDAT")
        self.mode, self.content = "content", bytearray(b"\r\n")
        return answer(354, "", "end with a dot on a line of its own")

    def step_content(self) -> list[Answer] | None:
        """Up to CRLF . CRLF and not a dot earlier.  The first dot of a line goes (4.5.2)."""
        searched = max(0, len(self.content) - len(self.end_of_data))
        self.content += self.input
        self.input = b""
        end = self.content.find(self.end_of_data, searched)
        if end < 0:
            return None
        self.input = bytes(self.content[end + len(self.end_of_data) :])
        content = bytes(self.content[: end + 2])
        self.mode, self.content = "command", bytearray()
        return self.receive_content(self.unstuffed(content)[2:], dotted=True)

    def unstuffed(self, content: bytes) -> bytes:
        return content.replace(b"\r\n.", b"\r\n")

    def receive_content(self, content: bytes, *, dotted: bool) -> list[Answer]:
        """A whole message; the transaction is over (4.1.1.4)."""
        transaction = self.transaction
        if transaction is None:
            raise RuntimeError("there is no transaction")
        self.transaction = None
        try:
            self.check_content(content, dotted=dotted)
            self.keep(self.envelope(transaction), content)
            final = answer(250, "2.0.0", f"accepted, {len(content)} octets")
        except Refusal as refusal:
            final = refusal.answer
        return self.final(transaction, final)

    def given_up(self, final: Answer) -> list[Answer]:
        """Refused, whatever else there is to say."""
        transaction, self.transaction = self.transaction, None
        return self.final(transaction, final) if transaction is not None else [final]

    def final(self, transaction: Transaction, final: Answer) -> list[Answer]:
        """RFC 2033 4.2: one for each recipient; else one."""
        return [final] * (len(transaction.recipients) if self.door.lmtp else 1)

    def keep(self, envelope: Envelope, content: bytes) -> None:
        self.house.accept(envelope, content)

    def check_content(self, content: bytes, *, dotted: bool) -> None:
        """Raises Refusal."""
        if len(content) > self.most_octets:
            raise no(552, "5.3.4", "larger than this server takes")
        if dotted and re.search(rb"(?<!\r)\n|\r(?!\n)", content):
            raise no(550, "5.6.11", "a bare CR or LF")
        hops = [each for each in fields_of(split(content)[0]) if name_of(each) == b"received"]
        if len(hops) > self.most_hops:
            raise no(554, "5.4.6", "a loop")

    def envelope(self, transaction: Transaction) -> Envelope:
        kept = transaction.kept
        hold = kept.get("HOLDFOR", kept.get("HOLDUNTIL", 0.0))
        envid = kept.get("ENVID")
        return Envelope(
            sender=transaction.sender,
            recipients=tuple(transaction.recipients),
            helo=self.helo,
            peer=self.peer,
            protocol=self.protocol(bool(kept.get("SMTPUTF8"))),
            submitted=self.door.submission,
            international=bool(kept.get("SMTPUTF8")),
            requiretls=bool(kept.get("REQUIRETLS")),
            ret=str(kept.get("RET", "")),
            envid=envid if isinstance(envid, str) else None,
            hold_s=hold if isinstance(hold, float) else 0.0,
            id=new_id(),
        )

    def protocol(self, international: bool) -> str:
        """RFC 3848, RFC 6531 4.3."""
        if self.hello == "HELO":
            return "SMTP"
        more = ("S" if self.tls else "") + ("A" if self.user else "")
        family = "LMTP" if self.door.lmtp else "SMTP" if international else "ESMTP"
        return f"UTF8{family}{more}" if international else f"{family}{more}"

    # -- BDAT -------------------------------------------------------------------------------------

    def do_bdat(self, argument: str) -> Answer:
        """RFC 3030 2.  Its octets are taken in any case, once it is known how many."""
        found = re.fullmatch(r"([0-9]{1,20})( LAST)?", argument, re.IGNORECASE)
        if found is None:
            raise no(501, "5.5.4", "BDAT size [LAST], please")
        self.mode, self.left, self.last = "chunk", int(found[1]), bool(found[2])
        self.chunk = bytearray()
        return CHUNK_BEGINS

    def step_chunk(self) -> list[Answer] | None:
        """The octets of a chunk, as they are."""
        taken = self.input[: self.left]
        self.input, self.left = self.input[len(taken) :], self.left - len(taken)
        if len(self.chunk) <= self.most_octets:
            self.chunk += taken
        if self.left:
            return None
        self.mode, chunk, self.chunk = "command", bytes(self.chunk), bytearray()
        try:
            return self.receive_chunk(chunk)
        except Refusal as refusal:
            return [refusal.answer]

    def receive_chunk(self, chunk: bytes) -> list[Answer]:
        """Raises Refusal.  After one that fails, all others do until the transaction is over."""
        transaction = self.with_recipient()
        if transaction.failed:
            raise no(503, "5.5.1", "a chunk before this one has failed")
        transaction.chunks = [*(transaction.chunks or ()), chunk]
        if transaction.octets > self.most_octets:
            transaction.failed, transaction.chunks = True, []
            raise no(552, "5.3.4", "larger than this server takes")
        if not self.last:
            return [answer(250, "2.0.0", f"{len(chunk)} octets received")]
        return self.receive_content(b"".join(transaction.chunks), dotted=False)

    # -- STARTTLS ---------------------------------------------------------------------------------

    def do_starttls(self, argument: str) -> Answer:
        """RFC 3207 4."""
        self.without_argument(argument)
        if self.tls:
            raise no(503, "5.5.1", "TLS is on already")
        if not self.can_tls or self.door.lmtp:
            raise no(502, "5.5.1", "no TLS here")
        self.greeted()
        self.wants_tls = True
        return answer(220, "2.0.0", "go ahead")

    # -- the others -------------------------------------------------------------------------------

    def do_rset(self, argument: str) -> Answer:
        self.without_argument(argument)
        self.transaction = None
        return OK

    def do_noop(self, argument: str) -> Answer:
        return OK

    def do_quit(self, argument: str) -> Answer:
        self.without_argument(argument)
        self.ended = True
        return answer(221, "2.0.0", f"{self.house.hostname} bye")

    def do_help(self, argument: str) -> Answer:
        if argument and argument.upper() not in VERBS:
            raise no(504, "5.5.4", "no help on that")
        return answer(214, "2.0.0", "See RFC 5321.", "Ask the postmaster for more.")

    def do_vrfy(self, argument: str) -> Answer:
        """RFC 5321 7.3: neither yes nor no."""
        if not argument:
            raise no(501, "5.5.4", "VRFY name, please")
        if not argument.removesuffix(" SMTPUTF8").isascii() and not argument.endswith(" SMTPUTF8"):
            raise no(553, "5.6.7", "that name needs SMTPUTF8")
        return answer(252, "2.0.0", "not told here; try RCPT")

    def do_expn(self, argument: str) -> Answer:
        """RFC 5321 3.5: lists of this server are no secret."""
        if not argument:
            raise no(501, "5.5.4", "EXPN list, please")
        members = self.house.lists.get(argument.strip("<>").lower())
        if members is None:
            return answer(252, "2.0.0", "not told here")
        return answer(250, "2.0.0", *(f"<{each}>" for each in members))

    def do_etrn(self, argument: str) -> Answer:
        """RFC 1985 5: there is never anything to send."""
        self.greeted()
        if self.transaction is not None:
            raise no(503, "5.5.1", "not in a transaction")
        try:
            self.syntax.domain(argument.lstrip("@#") if argument[:1] in ("@", "#") else argument)
        except Wrong:
            raise no(501, "5.5.4", "ETRN domain, please") from None
        if argument.lower() not in self.house.domains:
            return answer(459, "4.7.1", "not for that domain")
        return answer(251, "2.0.0", "no messages waiting")

    def do_atrn(self, argument: str) -> Answer:
        """RFC 2645 5.2."""
        self.greeted()
        if self.transaction is not None:
            raise no(503, "5.5.1", "not in a transaction")
        if not self.user:
            raise no(530, "5.7.0", "AUTH comes first")
        return answer(453, "4.3.0", "you have no mail")

    def do_burl(self, argument: str) -> Answer:
        """RFC 4468 3: there is no store of messages that this server could ask."""
        self.greeted()
        if not re.fullmatch(r"\S+( LAST)?", argument, re.IGNORECASE):
            raise no(501, "5.5.4", "BURL url [LAST], please")
        self.with_recipient()
        self.transaction = None
        raise no(554, "5.6.6", "not to be had")


#: Given by do_bdat when its octets come first: no reply of its own.
CHUNK_BEGINS: Final = answer(0, "")
VERBS: Final = frozenset(
    {"EHLO", "HELO", "LHLO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "QUIT", "VRFY", "EXPN",
     "HELP", "STARTTLS", "AUTH", "ETRN", "ATRN", "BURL"}
)  # fmt: skip
