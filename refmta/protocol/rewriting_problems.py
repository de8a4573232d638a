"""What is wrong with maps, before a server starts: rows that no look-up finds, ways without end.

Theory: a way through a map is a chain of rows, one after the other, each found by the address that
the one before made.  Chains differ only by the local parts and extensions that rows name, and one
of each that no row names stands for all others.  So `samples` yields finitely many addresses, and
every chain begins as that of one of them does; each is followed to its end.  A property test
compares this with maps and addresses of all kinds: no problem named, no loop met.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from refmta.protocol.rewriting import (
    CHAINS,
    KINDS,
    LEVELS,
    Key,
    Kind,
    Loop,
    Named,
    Rewriting,
    Rows,
    SameAt,
    rewrite,
    spell,
)
from refmta.wire.address import AddressError, Mailbox

#: Stands for everybody, and for every extension, that no row names.
ANYBODY: Final = "any.local.part"
ANY_EXTENSION: Final = "any"


def problems(rewriting: Rewriting, named: Named, domains: tuple[str, ...]) -> list[str]:
    """What can never be found, and what does not end: a line per row, key path first.

    domains: ours, where users of rows without a domain are.
    """
    found: dict[str, str] = {}
    for kind in KINDS:
        for key in rewriting.rows(kind):
            if key.domain is not None and named(key.domain)[0] != key.domain:
                right = spell(Key(key.local, named(key.domain)[0]))
                found[_place(kind, key)] = f"never found: with us it is {right}"
    for kind in CHAINS:
        for key, mailbox in samples(rewriting, kind, domains):
            answer = rewrite(rewriting, kind, mailbox, named)
            if isinstance(answer, Loop):
                found.setdefault(_place(kind, key), str(answer))
    return [f"{where}: {what}" for where, what in found.items()]


def _place(kind: Kind, key: Key) -> str:
    return f'rewrite.{kind}."{spell(key)}"'


def samples(
    rewriting: Rewriting, kind: Kind, domains: tuple[str, ...]
) -> Iterator[tuple[Key, Mailbox]]:
    """Addresses that show all that a map can do: every way through it begins as one of them does.

    Of a row: its address (for a user, one at each domain of ours), plain and with the extensions
    that rows name.  Of "@domain": somebody of whom there is no row, and everybody of whom there is
    one at a domain that it leads to.
    """
    rows = rewriting.rows(kind)
    extensions = _extensions(rows, rewriting.separator)
    known: dict[str | None, set[str]] = defaultdict(set)
    for key in rows:
        if key.local is not None:
            known[key.domain].add(key.local)
    for key in rows:
        locals_ = {ANYBODY if key.local is None else key.local}
        if key.local is None:
            locals_ = locals_.union(*(known[each] for each in _led_on(rows, key.domain)))
        for domain in domains if key.domain is None else (key.domain,):
            for local in sorted(locals_):
                yield from ((key, each) for each in _extended(local, extensions, domain))


def _extended(local: str, extensions: list[str], domain: str) -> Iterator[Mailbox]:
    for extension in extensions:
        try:
            yield Mailbox(local=local + extension, domain=domain)
        except AddressError:
            continue  # too long together: nobody can write to it


def _extensions(rows: Rows, separator: str) -> list[str]:
    """None, one that no row names, and all that rows name."""
    if not separator:
        return [""]
    named = {key.local.partition(separator)[2] for key in rows if key.local is not None}
    return ["", *(f"{separator}{each}" for each in sorted({ANY_EXTENSION, *named} - {""}))]


def _led_on(rows: Rows, domain: str | None) -> set[str | None]:
    """The domains that "@domain" leads to, by one row or several, itself included; None for those
    rows that are about any.
    """
    way = {domain, None}
    for _ in range(LEVELS):
        members = [member for each in way for member in rows.get(Key(None, each), ())]
        way |= {member.domain for member in members if isinstance(member, SameAt)}
    return way
