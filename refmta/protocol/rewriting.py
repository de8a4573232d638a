"""Rewriting: which address stands for which other one in an envelope.

Rules a reader may rely on
- Pure: three maps, plain data, and one question about domains (`Named`) that is passed in.
- A map only says what replaces an address.  Whether mail is taken for it, and where it goes, is
  decided afterwards, and by others: `protocol.routing`.
- The null reverse-path is never looked up: it must stay null (RFC 5321 section 6.1), or two servers
  report to each other for ever.
- Every function is total: an address that rewriting would make too long is not made (`_extended`,
  and `DOMAIN_OCTETS` for the configuration), and what does not come to rest is a `Loop`.

The maps, as in Postfix (canonical(5), virtual(5), generic(5)):

    map        applied to                      when                        one address becomes
    canonical  reverse-path and recipients     mail comes in               one
    virtual    recipients                      mail is routed              one or more
    generic    reverse-path and recipients     mail leaves for a host      one

The first row that there is decides, in their order:

    ada+lists@example.org    the whole address
    ada@example.org          without its extension
    ada+lists, then ada      that user, at any domain of ours
    @example.org             everybody there

A row leads to an address, or to "@domain": the same local part there.  Keys are compared in lower
case, with domains by the one name that they have with us: localhost and our address literals are
the hostname.  An extension that no row names survives `canonical` ("ada+lists" is still for
Ada's lists), but not `virtual`, as in our aliases, nor `generic`, as in Postfix: the provider who
knows ada@isp.example knows no ada+lists.

What is tricky
- Canonical and generic are applied until nothing changes, so that a second pass changes nothing:
  a report comes back to an address that was rewritten already.  `LEVELS` bounds it, and
  `rewriting_problems` finds what would not end
  before the server starts.
- A row that leads to itself is the way to exempt an address from "@domain".  It ends the search.
- `postmaster` of a domain of ours is taken by no "@domain" row of canonical or virtual: a row for
  a whole domain is seldom meant to send away the mail that RFC 5321 section 4.5.1 is about.
- Message headers are never rewritten.  They are signed (RFC 6376 section 5.4 asks for From), and
  what a server alters it can also damage; the envelope is ours, the message is not.

What it does not do: expand (virtual rows are expanded by `routing`, with its loops and bounds).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from refmta.wire.address import (
    LOCAL_OCTETS,
    PATH_OCTETS,
    AddressError,
    Mailbox,
    is_domain,
    parse_mailbox,
)

#: Rows in a chain; sendmail MaxAliasRecursion 10, as aliases have here; Postfix 1000.
LEVELS: Final = 10
#: Rows of one map.  They are kept in memory, and checked at every start: 10,000 take a second.
ROWS: Final = 10_000
#: Members of one row; Postfix virtual_alias_expansion_limit 1000.
MEMBERS: Final = 1000
#: Longest domain that "@domain" may lead to, so that every local part fits before it.
DOMAIN_OCTETS: Final = PATH_OCTETS - LOCAL_OCTETS - len("<@>")
POSTMASTER: Final = "postmaster"

Kind = Literal["canonical", "virtual", "generic"]
Chain = Literal["canonical", "generic"]
KINDS: Final[tuple[Kind, ...]] = ("canonical", "virtual", "generic")
#: Maps for what comes in.
ON_ENTRY: Final[tuple[Kind, ...]] = ("canonical", "virtual")
#: Maps that are applied until nothing changes.
CHAINS: Final[tuple[Chain, ...]] = ("canonical", "generic")
#: Which maps give the extension on; Postfix: propagate_unmatched_extensions = canonical, virtual.
PROPAGATES: Final[Mapping[Kind, bool]] = {"canonical": True, "virtual": False, "generic": False}
#: Which maps' "@domain" rows take postmaster, too.  Generic ones do: he writes to other hosts.
TAKES_POSTMASTER: Final[Mapping[Kind, bool]] = {
    "canonical": False, "virtual": False, "generic": True,
}  # fmt: skip

#: A domain's one name with us, lower-cased, and whether it is ours.
Named = Callable[[str], tuple[str, bool]]


@dataclass(frozen=True, slots=True)
class Key:
    """What a row is about: local part (lower-cased, unquoted) and domain; None for any of them."""

    local: str | None
    domain: str | None


@dataclass(frozen=True, slots=True)
class SameAt:
    """ "@domain": the same local part there.  Lower-cased, at most DOMAIN_OCTETS."""

    domain: str

    def __post_init__(self) -> None:
        if not is_domain(self.domain) or self.domain != self.domain.lower():
            raise AddressError("bad domain")
        if len(self.domain) > DOMAIN_OCTETS:
            raise AddressError(f"domain is longer than {DOMAIN_OCTETS} octets")


Member = Mailbox | SameAt
Rows = Mapping[Key, tuple[Member, ...]]


@dataclass(frozen=True, slots=True)
class Rewriting:
    """The three maps.  Canonical and generic rows have one member each; separator: as in routing.

    Raises ValueError for a row of any other size, or too many of them.
    """

    canonical: Rows = field(default_factory=dict)
    virtual: Rows = field(default_factory=dict)
    generic: Rows = field(default_factory=dict)
    separator: str = "+"

    def __post_init__(self) -> None:
        for kind in KINDS:
            rows, most = self.rows(kind), 1 if kind in CHAINS else MEMBERS
            if len(rows) > ROWS:
                raise ValueError(f"{kind}: more than {ROWS} rows")
            if not all(1 <= len(members) <= most for members in rows.values()):
                raise ValueError(f"{kind}: a row with no member, or more than {most}")

    def rows(self, kind: Kind) -> Rows:
        """The map of that name."""
        match kind:
            case "canonical":
                return self.canonical
            case "virtual":
                return self.virtual
            case "generic":
                return self.generic


@dataclass(frozen=True, slots=True)
class Loop:
    """Rewriting does not come to rest.  way: the addresses, from the first one on."""

    way: tuple[Mailbox, ...]

    def __str__(self) -> str:
        what = "is a loop" if self.way[-1] in self.way[:-1] else "has too many levels"
        return f"{what}: {' -> '.join(map(str, self.way))}"


# -- one row --------------------------------------------------------------------------------------


def look_up(
    rewriting: Rewriting, kind: Kind, mailbox: Mailbox, named: Named
) -> tuple[Mailbox, ...] | None:
    """What replaces an address at once; None if no row is about it, or the row keeps it."""
    rows = rewriting.rows(kind)
    if not rows:
        return None
    name, ours = named(mailbox.domain)
    for key, extension in _candidates(mailbox.local, name, ours, rewriting.separator, kind):
        members = rows.get(key)
        if members is not None:
            kept = extension if PROPAGATES[kind] else ""
            found = tuple([_made(member, mailbox, kept) for member in members])
            return None if found == (mailbox,) else found
    return None


def _candidates(
    local: str, domain: str, ours: bool, separator: str, kind: Kind
) -> Iterator[tuple[Key, str]]:
    """Keys in the order of the module's docstring, each with the extension that it leaves over."""
    whole = local.lower()
    parts = [(whole, "")]
    place = local.find(separator) if separator else -1
    if place > 0:
        parts.append((whole[:place], local[place:]))
    for base, extension in parts:
        yield Key(base, domain), extension
    if ours:
        for base, extension in parts:
            yield Key(base, None), extension
    if TAKES_POSTMASTER[kind] or not (ours and parts[-1][0] == POSTMASTER):
        yield Key(None, domain), ""


def keeps_local(members: tuple[Member, ...]) -> bool:
    """Whether a row makes an address of the local part that it finds."""
    return any(isinstance(member, SameAt) for member in members)


def _made(member: Member, mailbox: Mailbox, extension: str) -> Mailbox:
    if isinstance(member, SameAt):
        return Mailbox(local=mailbox.local, domain=member.domain)
    return _extended(member, extension) if extension else member


def _extended(member: Mailbox, extension: str) -> Mailbox:
    """With the extension, if there is room for it; else the address that the row has."""
    try:
        return Mailbox(local=member.local + extension, domain=member.domain)
    except AddressError:
        return member


# -- to the end -----------------------------------------------------------------------------------


def rewrite(rewriting: Rewriting, kind: Chain, mailbox: Mailbox, named: Named) -> Mailbox | Loop:
    """What an address becomes: rewritten until no row changes it.  At most LEVELS rows."""
    way = [mailbox]
    for _ in range(LEVELS + 1):
        found = look_up(rewriting, kind, way[-1], named)
        if found is None:
            return way[-1]
        again = found[0] in way
        way.append(found[0])
        if again:
            break
    return Loop(tuple(way))


# -- the configuration's texts --------------------------------------------------------------------


def parse_key(text: str) -> Key:
    """ "ada@example.org", "ada" or "@example.org".  Raises AddressError."""
    if text.startswith("@"):
        if not is_domain(text[1:]):
            raise AddressError('should look like "ada@example.org", "ada" or "@example.org"')
        return Key(None, text[1:].lower())
    if "@" in text:
        mailbox = parse_mailbox(text)
        return Key(mailbox.local.lower(), mailbox.domain.lower())
    return Key(parse_mailbox(f"{text}@localhost").local.lower(), None)


def parse_member(text: str) -> Member:
    """ "ada@example.org" or "@example.org".  Raises AddressError."""
    if text.startswith("@"):
        return SameAt(text[1:].lower())
    return parse_mailbox(text)


def spell(key: Key) -> str:
    """A key as the configuration has it."""
    if key.local is None:
        return f"@{key.domain}"
    local, _, _ = str(Mailbox(local=key.local, domain="localhost")).rpartition("@")
    return local if key.domain is None else f"{local}@{key.domain}"


def spell_member(member: Member) -> str:
    """A member as the configuration has it."""
    return f"@{member.domain}" if isinstance(member, SameAt) else str(member)
