"""Mail addresses: RFC 5321 paths and mailboxes <-> frozen values.

Rules a reader may rely on:

1. A `Mailbox` that exists is well formed.  Whoever makes one, this parser or another module, goes
   through the same check, so `str(mailbox)` never holds a control octet, an unquoted special or
   an 8-bit octet, and `parse_forward_path(f"<{mailbox}>") == mailbox`.
2. The local part is kept as it was meant, without quotes and backslashes, its case preserved
   (RFC 5321 2.4); `"a b"@x` has the local part `a b`.  Look-ups in tables use `key`.
3. The grammar of RFC 5321 4.1.2 decides, not custom.  Refused, although servers differ:
     "user@example.org."   one trailing dot: Domain = sub-domain *("." sub-domain)
     "user@ho_st"          underscore: sub-domain = Let-dig [Ldh-str]
     "a..b@x", ".a@x"      empty atoms: Dot-string = Atom *("." Atom)
     "user@x" as a path    Path = "<" [A-d-l ":"] Mailbox ">": the brackets are not optional
     " <user@x>"           3.3: no spaces on either side of the colon
     "<< >>", "<user>"     Mailbox = Local-part "@" (...); only Postmaster stands without a domain
4. Beyond the grammar, limits of prose: local part 64, domain 255, path 256 octets (4.5.3.1.1 to
   4.5.3.1.3, as written, quotes and brackets included), label 63 (RFC 1035 2.3.4), Snum <= 255
   and at most six groups beside "::" (comments in 4.1.3).  `[IPv6:junk]` is not read as a
   General-address-literal, although the bare grammar would let it through.
5. Source routes are accepted and dropped (4.1.2: "MUST BE accepted ... SHOULD be ignored").

Tricky: a quoted local part and a general literal may hold ">", "@", quotes and blanks, so the end
of a path is found by the grammar (`read_path`), never by searching for ">".

What it does not do: comments and folding of RFC 5322, internationalised addresses (SMTPUTF8 is not
offered), DNS.
"""

import re
from dataclasses import dataclass
from typing import Final

LOCAL_OCTETS: Final = 64  # RFC 5321 4.5.3.1.1
DOMAIN_OCTETS: Final = 255  # RFC 5321 4.5.3.1.2
PATH_OCTETS: Final = 256  # RFC 5321 4.5.3.1.3, with the brackets
LABEL_OCTETS: Final = 63  # RFC 1035 2.3.4

# Each pattern is deterministic (what may follow a repetition cannot continue it): linear time.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_DOT_STRING = rf"{_ATOM}(?:\.{_ATOM})*"
_QUOTED = r'"[ !#-\[\]-~]*(?:\\[ -~][ !#-\[\]-~]*)*"'
_LABEL = r"[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_LITERAL = r"\[[!-Z^-~]+\]"
_MAILBOX = rf"(?:({_DOT_STRING})|({_QUOTED}))@({_DOMAIN}|{_LITERAL})"
_SNUM = r"(?:25[0-5]|2[0-4][0-9]|[01]?[0-9]?[0-9])"

_match_dot_string = re.compile(rf"{_DOT_STRING}\Z").match
_match_domain = re.compile(rf"{_DOMAIN}\Z").match
_match_mailbox = re.compile(rf"{_MAILBOX}\Z").match
_match_path = re.compile(rf"<(?:@{_DOMAIN}(?:,@{_DOMAIN})*:)?{_MAILBOX}>").match
_match_ipv4 = re.compile(rf"{_SNUM}(?:\.{_SNUM}){{3}}\Z").match
_match_group = re.compile(r"[0-9A-Fa-f]{1,4}\Z").match
_match_general = re.compile(r"([A-Za-z0-9-]*[A-Za-z0-9]):[!-Z^-~]+\Z").match
_sub_escape = re.compile(r'(["\\])').sub
_sub_unescape = re.compile(r"\\(.)").sub

# Why a path did not match, for the reply; the first row that fits.
_REASONS: Final = (
    (re.compile(r"[^<]|\Z"), "address must begin with <"),
    (re.compile(r"<[^>]*\Z"), "address must end with >"),
    (re.compile(r"<[^\"]*[ \t]"), "unquoted space in address"),
    (re.compile(r"<[^@]*>"), "address has no domain"),
    (re.compile(r"<[^\"]*\.>"), "domain ends with a dot"),
)


class AddressError(ValueError):
    """Not an address of RFC 5321 4.1.2.  `reason` holds no octet from outside."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailbox:
    """A mailbox (RFC 5321 4.1.2).

    local: 0 to 64 printable ASCII characters, unquoted, case preserved.
    domain: lower-cased name; or an address literal with its brackets, spelled as it came; or ""
        for the one mailbox that needs none, `postmaster` (RFC 5321 4.1.1.3).
    Raises AddressError when made of anything else.
    """

    local: str
    domain: str

    def __post_init__(self) -> None:
        if not (self.local.isascii() and self.local.isprintable()):
            raise AddressError("local part holds a character that is not printable ASCII")
        local_octets = len(_quoted(self.local))
        if local_octets > LOCAL_OCTETS:
            raise AddressError("local part is longer than 64 octets")
        if local_octets + len(self.domain) + len("<@>") > PATH_OCTETS:
            raise AddressError("address is longer than 256 octets")
        _check_domain(self.local, self.domain)

    @property
    def key(self) -> str:
        """Lower-cased local@domain, for look-ups; one key per mailbox, cases aside."""
        return f"{self.local}@{self.domain}".lower()

    def __str__(self) -> str:
        """The canonical form, quoted only where needed; without brackets."""
        local = _quoted(self.local)
        return f"{local}@{self.domain}" if self.domain else local


def _check_domain(local: str, domain: str) -> None:
    if domain.startswith("["):
        if not is_address_literal(domain):
            raise AddressError("bad address literal")
    elif domain:
        if not is_domain(domain):
            raise AddressError("bad domain")
        if domain != domain.lower():
            raise AddressError("domain is not lower-cased")
    elif local != "postmaster":
        raise AddressError("address has no domain")


def _quoted(local: str) -> str:
    if _match_dot_string(local):
        return local
    return '"' + _sub_escape(r"\\\1", local) + '"'


def _made(dot_string: str | None, quoted: str | None, domain: str) -> Mailbox:
    """The Mailbox of a match; AddressError where a limit of prose is passed."""
    written = dot_string or quoted or ""
    if len(written) > LOCAL_OCTETS:
        raise AddressError("local part is longer than 64 octets")
    local = dot_string or _sub_unescape(r"\1", written[1:-1])
    return Mailbox(local=local, domain=domain if domain[0] == "[" else domain.lower())


def read_path(text: str, start: int = 0) -> tuple[Mailbox | None, int]:
    """Reads the path that begins at `start`; returns it and the index after its ">".

    None stands for "<>".  The caller caps the length of `text`; the path itself may have 256
    octets, source route included.  Raises AddressError.
    """
    match = _match_path(text, start)
    if match is None:
        if text.startswith("<>", start):
            return None, start + 2
        rest = text[start : start + PATH_OCTETS]
        fits = (reason for pattern, reason in _REASONS if pattern.match(rest))
        raise AddressError(next(fits, "not an address of RFC 5321 4.1.2"))
    if match.end() - start > PATH_OCTETS:
        raise AddressError("address is longer than 256 octets")
    return _made(*match.groups()), match.end()


def read_forward_path(text: str, start: int = 0) -> tuple[Mailbox, int]:
    """As `read_path`, but "<Postmaster>" in any case is good, and "<>" is not."""
    if text[start : start + 12].lower() == "<postmaster>":
        return Mailbox(local="postmaster", domain=""), start + 12
    mailbox, end = read_path(text, start)
    if mailbox is None:
        raise AddressError("a recipient cannot be empty")
    return mailbox, end


def parse_reverse_path(text: str) -> Mailbox | None:
    """`Reverse-path` with its brackets; "<>" is None.  At most 256 octets; AddressError."""
    mailbox, end = read_path(_capped(text))
    _expect_end(text, end)
    return mailbox


def parse_forward_path(text: str) -> Mailbox:
    """`Forward-path` or "<Postmaster>", with brackets.  At most 256 octets; AddressError."""
    mailbox, end = read_forward_path(_capped(text))
    _expect_end(text, end)
    return mailbox


def parse_mailbox(text: str) -> Mailbox:
    """`Mailbox`, without brackets.  At most 254 octets (a path without brackets); AddressError."""
    match = _match_mailbox(_capped(text, PATH_OCTETS - len("<>")))
    if match is None:
        raise AddressError("not an address of RFC 5321 4.1.2")
    return _made(*match.groups())


def _capped(text: str, octets: int = PATH_OCTETS) -> str:
    if len(text) > octets:
        raise AddressError("address is longer than 256 octets")
    return text


def _expect_end(text: str, end: int) -> None:
    if end != len(text):
        raise AddressError("junk after the address")


def is_domain(text: str) -> bool:
    """`Domain` (RFC 5321 4.1.2): LDH labels of at most 63 octets, 255 in all, no trailing dot."""
    if len(text) > DOMAIN_OCTETS or not _match_domain(text):
        return False
    return len(text) <= LABEL_OCTETS or max(map(len, text.split("."))) <= LABEL_OCTETS


def is_address_literal(text: str) -> bool:
    """`address-literal` (RFC 5321 4.1.3) with its brackets: IPv4, IPv6 or general."""
    if len(text) > DOMAIN_OCTETS or text[:1] != "[" or text[-1:] != "]":
        return False
    inner = text[1:-1]
    if inner[:5].lower() == "ipv6:":
        return _is_ipv6(inner[5:])
    return bool(_match_ipv4(inner) or _match_general(inner))


def _is_ipv6(text: str) -> bool:
    if "." in text:  # IPv6v4-full, IPv6v4-comp: the dotted quad stands for two groups
        head, _, quad = text.rpartition(":")
        if not _match_ipv4(quad):
            return False
        text = f"{head}:0:0"
    sides = [side.split(":") if side else [] for side in text.split("::")]
    groups = [group for side in sides for group in side]
    if not all(map(_match_group, groups)):
        return False
    return len(groups) == 8 if len(sides) == 1 else len(sides) == 2 and len(groups) <= 6
