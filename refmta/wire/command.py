"""SMTP commands (RFC 5321 4.1.1): one line of octets -> one frozen value.

Rules a reader may rely on:

1. What `parse_command` returns is well formed; whether it is in order, known or permitted is the
   business of protocol/.  What it raises carries the reply to give.
2. Only printable ASCII gets in.  NUL, controls, 8-bit octets: 500, whatever the verb.
3. Strict where the grammar is: one space after the verb, none around the colon (3.3: "spaces are
   not permitted on either side of the colon"), brackets required, one space between parameters,
   `=` only before a value.  A parameter given twice is refused: which of two SIZE values counts?
4. Lenient in four places, with the clause that asks for it:
     trailing blanks              4.1.1: receivers SHOULD tolerate them
     VRFY, EXPN take any text     3.5.1: arguments "cannot be further restricted"
     NOOP, HELP take any text     4.1.1.9: SHOULD ignore it; 4.1.1.8: any command name
     HELO takes a literal         4.1.3: a literal is an alternative to a domain name

Replies: 500 5.5.2 not a command, or too long; 501 5.5.4 bad argument; 501 5.1.7 bad sender;
501 5.1.3 bad recipient (RFC 5321 4.2.2, RFC 3463 3.2 and 3.6).

What it does not do: find the end of the line (the caller's reader, which also keeps the 512 octets
of 4.5.3.1.4), or judge parameters (SIZE, BODY: protocol/).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from refmta.wire.address import (
    AddressError,
    Mailbox,
    is_address_literal,
    is_domain,
    read_forward_path,
    read_path,
)
from refmta.wire.reply import Reply, reply

# Without CRLF.  RFC 5321 4.5.3.1.4 says 512 with CRLF; extensions add to MAIL and RCPT: SIZE 26,
# 8BITMIME 17, DSN 500 (RFC 1870, 6152, 3461).  Postfix: 2048; Exim: 16384.
LINE_OCTETS: Final = 1024

Parameters: TypeAlias = tuple[tuple[str, str | None], ...]

_match_parameter = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~]+))?\Z").match


@dataclass(frozen=True, slots=True, kw_only=True)
class Ehlo:
    """RFC 5321 4.1.1.1; `domain` as sent: Domain or address literal."""

    domain: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Helo:
    """RFC 5321 4.1.1.1; `domain` as sent: Domain or address literal."""

    domain: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """RFC 5321 4.1.1.2; None is "<>".  Keywords upper-cased, each once; values as sent."""

    reverse_path: Mailbox | None
    parameters: Parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Rcpt:
    """RFC 5321 4.1.1.3.  Keywords upper-cased, each once; values as sent."""

    forward_path: Mailbox
    parameters: Parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """RFC 5321 4.1.1.4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rset:
    """RFC 5321 4.1.1.5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vrfy:
    """RFC 5321 4.1.1.6; any printable text."""

    argument: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expn:
    """RFC 5321 4.1.1.7; any printable text."""

    argument: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Help:
    """RFC 5321 4.1.1.8; any printable text, "" where there is none."""

    argument: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Noop:
    """RFC 5321 4.1.1.9; any printable text, "" where there is none."""

    argument: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Quit:
    """RFC 5321 4.1.1.10."""


Command: TypeAlias = Ehlo | Helo | Mail | Rcpt | Data | Rset | Vrfy | Expn | Help | Noop | Quit


class CommandError(ValueError):
    """The line is no command.  `reply` says so to the client, without octets of the line."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


TOO_LONG: Final = reply(500, "5.5.2", "Line too long")
#: RFC 5321 4.1.2: invalid characters in a command that is known are answered 501.
UNPRINTABLE: Final = reply(501, "5.5.2", "Only printable ASCII in commands")
UNKNOWN: Final = reply(500, "5.5.2", "Command not recognized")
REPEATED: Final = reply(501, "5.5.4", "Parameter given twice")
BAD_PARAMETER: Final = reply(
    501, "5.5.4", "Bad parameter: one space, then KEYWORD or KEYWORD=value"
)


def _syntax(text: str) -> Reply:
    return reply(501, "5.5.4", f"Syntax: {text}")


EHLO_SYNTAX: Final = _syntax("EHLO domain-or-[literal]")
HELO_SYNTAX: Final = _syntax("HELO domain-or-[literal]")
MAIL_SYNTAX: Final = _syntax("MAIL FROM:<address> [parameters], no space after the colon")
RCPT_SYNTAX: Final = _syntax("RCPT TO:<address> [parameters], no space after the colon")


def parse_command(line: bytes) -> Command:
    """One command line without its CRLF, at most 1024 octets.  Raises CommandError."""
    if len(line) > LINE_OCTETS:
        raise CommandError(TOO_LONG)
    text = line.rstrip(b" \t").decode("latin-1")
    verb, _, argument = text.partition(" ")
    parse = _PARSERS.get(verb.upper())
    if parse is None:
        raise CommandError(UNKNOWN)
    if not (argument.isascii() and argument.isprintable()):
        raise CommandError(UNPRINTABLE)
    return parse(argument)


def _ehlo(argument: str) -> Ehlo:
    return Ehlo(domain=_checked_host(argument, EHLO_SYNTAX))


def _helo(argument: str) -> Helo:
    return Helo(domain=_checked_host(argument, HELO_SYNTAX))


def _checked_host(argument: str, otherwise: Reply) -> str:
    if not (is_domain(argument) or is_address_literal(argument)):
        raise CommandError(otherwise)
    return argument


def _mail(argument: str) -> Mail:
    if argument[:5].upper() != "FROM:":
        raise CommandError(MAIL_SYNTAX)
    try:
        path, end = read_path(argument, 5)
    except AddressError as error:
        raise CommandError(reply(501, "5.1.7", f"Bad sender: {error.reason}")) from None
    return Mail(reverse_path=path, parameters=_parameters(argument, end))


def _rcpt(argument: str) -> Rcpt:
    if argument[:3].upper() != "TO:":
        raise CommandError(RCPT_SYNTAX)
    try:
        path, end = read_forward_path(argument, 3)
    except AddressError as error:
        raise CommandError(reply(501, "5.1.3", f"Bad recipient: {error.reason}")) from None
    return Rcpt(forward_path=path, parameters=_parameters(argument, end))


def _parameters(argument: str, start: int) -> Parameters:
    """`[SP esmtp-param *(SP esmtp-param)]` (RFC 5321 4.1.2)."""
    if start == len(argument):
        return ()
    space, *words = argument[start:].split(" ")
    matches = [_match_parameter(word) for word in words]
    if space or None in matches:
        raise CommandError(BAD_PARAMETER)
    parameters = tuple((match[1].upper(), match[2]) for match in matches if match)
    if len(dict(parameters)) != len(parameters):
        raise CommandError(REPEATED)
    return parameters


def _bare(value: Command, verb: str) -> Callable[[str], Command]:
    """For verbs that take no argument."""
    otherwise = _syntax(f"{verb}, without argument")

    def parse(argument: str) -> Command:
        if argument:
            raise CommandError(otherwise)
        return value

    return parse


def _vrfy(argument: str) -> Vrfy:
    return Vrfy(argument=_some(argument, "VRFY"))


def _expn(argument: str) -> Expn:
    return Expn(argument=_some(argument, "EXPN"))


def _some(argument: str, verb: str) -> str:
    if not argument:
        raise CommandError(_syntax(f"{verb} text"))
    return argument


_PARSERS: Final[dict[str, Callable[[str], Command]]] = {
    "EHLO": _ehlo,
    "HELO": _helo,
    "MAIL": _mail,
    "RCPT": _rcpt,
    "DATA": _bare(Data(), "DATA"),
    "RSET": _bare(Rset(), "RSET"),
    "VRFY": _vrfy,
    "EXPN": _expn,
    "HELP": lambda argument: Help(argument=argument),
    "NOOP": lambda argument: Noop(argument=argument),
    "QUIT": _bare(Quit(), "QUIT"),
}
