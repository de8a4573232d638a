"""The grammar of RFC 5321 4.1.2 and 4.1.3, of RFC 3461's xtext, and RFC 6531's extension of both.

Strict: what the grammar does not have is refused, and what it has is taken, up to the sizes of
4.5.3.1.  A fault loosens or tightens one entry of `Syntax`.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final


class Wrong(ValueError):
    """Not of the grammar; the text says what."""


@dataclass(frozen=True, slots=True)
class Path:
    """A mailbox.  local: unquoted.  text: the address as it was written, without a route.
    Both empty: the null path.  domain is empty for <Postmaster>.
    """

    local: str = ""
    domain: str = ""
    text: str = ""

    @property
    def null(self) -> bool:
        return not self.text

    @property
    def international(self) -> bool:
        return not self.text.isascii()

    @property
    def literal(self) -> bool:
        return self.domain.startswith("[")


ATEXT: Final = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~-"
UTF8: Final = "\u0080-\U0010ffff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Syntax:
    """What is taken.  atom, quoted, label: without anchors; quoted_pair: what stands behind a
    backslash.  most_*: octets (RFC 5321 4.5.3.1).
    """

    dot_string: str = rf"[{UTF8}{ATEXT}]+(?:\.[{UTF8}{ATEXT}]+)*"
    quoted: str = rf'"(?:[ !#-\[\]-~{UTF8}]|\\[ -~])*"'
    label: str = rf"[A-Za-z0-9{UTF8}](?:[A-Za-z0-9{UTF8}-]*[A-Za-z0-9{UTF8}])?"
    most_local: int = 64
    most_domain: int = 255
    most_path: int = 256
    most_label: int = 63
    before_path: str = ""
    brackets: bool = True
    routes: bool = True
    literals: bool = True

    # -- parts of it ------------------------------------------------------------------------------

    def domain(self, text: str) -> str:
        """A domain or an address literal.  Raises Wrong."""
        if text.startswith("["):
            return self.address_literal(text)
        if len(text.encode()) > self.most_domain:
            raise Wrong("the domain is too long")
        if not re.fullmatch(rf"{self.label}(?:\.{self.label})*", text):
            raise Wrong("not a domain")
        if any(len(each) > self.most_label for each in text.split(".")):
            raise Wrong("a label is too long")
        return text

    def address_literal(self, text: str) -> str:
        """RFC 5321 4.1.3; of tags only IPv6 is registered.  Raises Wrong."""
        inside = text[1:-1]
        if not self.literals or not text.endswith("]"):
            raise Wrong("not an address literal")
        try:
            if inside[:5].upper() == "IPV6:":
                if "%" in inside:
                    raise Wrong("a literal has no zone")
                ipaddress.IPv6Address(inside[5:])
            elif re.fullmatch(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}", inside):
                if any(int(each) > 255 for each in inside.split(".")):
                    raise Wrong("not an IPv4 address")
            else:
                raise Wrong("not an address literal")
        except ipaddress.AddressValueError as error:
            raise Wrong("not an IPv6 address") from error
        return text

    def local_part(self, text: str) -> str:
        """Unquoted (4.1.2: `"a"` and `a` are the same).  Raises Wrong."""
        if len(text.encode()) > self.most_local:
            raise Wrong("the local part is too long")
        if re.fullmatch(self.dot_string, text):
            return text
        if re.fullmatch(self.quoted, text):
            return re.sub(r"\\(.)", r"\1", text[1:-1])
        raise Wrong("not a local part")

    def mailbox(self, text: str) -> Path:
        """local@domain.  Raises Wrong."""
        quoted = re.match(self.quoted, text)
        at = quoted.end() if quoted else text.rfind("@")
        if at < 0 or text[at : at + 1] != "@":
            raise Wrong("no mailbox")
        return Path(self.local_part(text[:at]), self.domain(text[at + 1 :]), text)

    # -- arguments --------------------------------------------------------------------------------

    def path(self, text: str, *, null: bool = False, postmaster: bool = False) -> tuple[Path, str]:
        """(the path that the text begins with, what stands behind it).  Raises Wrong.

        4.1.1.3: a source route is parsed, and ignored.  null: <> is one.  postmaster: that word
        is one without a domain.
        """
        opening = re.match(self.before_path + "<", text)
        if opening is None:
            if self.brackets:
                raise Wrong("no path in angle brackets")
            word, _, rest = text.partition(" ")
            return self.mailbox(word), f" {rest}" if rest else ""
        end = self.end_of(text, opening.end())
        inside, behind = text[opening.end() : end], text[end + 1 :]
        if len(inside.encode()) + 2 > self.most_path:
            raise Wrong("the path is too long")
        if not inside:
            if null:
                return Path(), behind
            raise Wrong("a null path")
        if postmaster and inside.lower() == "postmaster":
            return Path(inside, "", inside), behind
        return self.mailbox(self.without_route(inside)), behind

    def end_of(self, text: str, at: int) -> int:
        """Of the closing bracket that is not inside quotes.  Raises Wrong."""
        quoted = False
        while at < len(text):
            if quoted and text[at] == "\\":
                at += 1
            elif text[at] == '"':
                quoted = not quoted
            elif text[at] == ">" and not quoted:
                return at
            at += 1
        raise Wrong("no closing bracket")

    def without_route(self, inside: str) -> str:
        """@a,@b:user@c is user@c.  Raises Wrong."""
        if not inside.startswith("@"):
            return inside
        route, colon, mailbox = _outside_literal(inside)
        if not self.routes or not colon:
            raise Wrong("not a source route")
        for hop in route.split(","):
            if not hop.startswith("@"):
                raise Wrong("not a source route")
            self.domain(hop[1:])
        return mailbox

    def parameters(self, text: str) -> list[tuple[str, str | None]]:
        """SP keyword[=value] ... (4.1.2); keywords in capitals.  Raises Wrong."""
        found: list[tuple[str, str | None]] = []
        if text and not text.startswith(" "):
            raise Wrong("no space before the parameters")
        for word in text.split(" ")[1:]:
            match = re.fullmatch(
                rf"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~{UTF8}]+))?", word
            ) or re.fullmatch(r"(AUTH)=(<>|[!-~]+)", word, re.IGNORECASE)
            if match is None:
                raise Wrong("not a parameter")
            found.append((match[1].upper(), match[2]))
        return found


def _outside_literal(text: str) -> tuple[str, str, str]:
    """Cut at the first colon that is not in an address literal."""
    depth = 0
    for at, each in enumerate(text):
        depth += {"[": 1, "]": -1}.get(each, 0)
        if each == ":" and not depth:
            return text[:at], ":", text[at + 1 :]
    return text, "", ""


def of_xtext(text: str) -> str:
    """Decoded (RFC 3461 4).  Raises Wrong."""
    if not re.fullmatch(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*", text):
        raise Wrong("not xtext")
    return re.sub(r"\+([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), text)


def of_unitext(text: str) -> str:
    """utf-8-addr-xtext or utf-8-addr-unitext decoded (RFC 6533 3).  Raises Wrong."""
    one = rf"[!-*,-<>-\[\]-~{UTF8}]|\\x\{{[0-9A-F]{{2,6}}\}}|\+[0-9A-F]{{2}}"
    if not re.fullmatch(f"(?:{one})*", text):
        raise Wrong("not a utf-8 address")
    text = re.sub(r"\\x\{([0-9A-F]+)\}", lambda found: _character(int(found[1], 16)), text)
    return re.sub(r"\+([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), text)


def _character(number: int) -> str:
    if number > 0x10FFFF or 0xD800 <= number < 0xE000:
        raise Wrong("not a character")
    return chr(number)
