"""[rewrite]: what is wrong with a single row of the maps, and resolve's part of the configuration.

What rows do together (loops, rows that hide each other) is found by `protocol.routing.problems`,
once each of them can be read.
"""

from __future__ import annotations

from collections.abc import Iterator

from refmta.architectures.sections import Configuration, Rewrite
from refmta.protocol import rewriting
from refmta.roles import resolve
from refmta.wire.address import AddressError

Row = tuple[rewriting.Kind, str, tuple[str, ...]]


def problems(configuration: Configuration) -> list[str]:
    """One line per problem, key path first."""
    found: list[str] = []
    seen: dict[tuple[rewriting.Kind, rewriting.Key], str] = {}
    for kind, text, members in _rows(configuration.rewrite):
        where = f'rewrite.{kind}."{text}"'
        found += _members(where, members)
        try:
            key = rewriting.parse_key(text)
        except AddressError as error:
            found.append(f"{where}: {error}")
            continue
        first = seen.setdefault((kind, key), text)
        if first != text:
            found.append(f'{where}: the same as "{first}"; keys are compared in lower case')
    return found


def _rows(rewrite: Rewrite) -> Iterator[Row]:
    for text, member in rewrite.canonical.items():
        yield "canonical", text, (member,)
    for text, members in rewrite.virtual.items():
        yield "virtual", text, members
    for text, member in rewrite.generic.items():
        yield "generic", text, (member,)


def _members(where: str, members: tuple[str, ...]) -> list[str]:
    if not members:
        return [f"{where}: leads to nobody"]
    if len(members) > rewriting.MEMBERS:
        return [f"{where}: leads to {len(members)} addresses; {rewriting.MEMBERS} at the most"]
    found = []
    for text in members:
        try:
            rewriting.parse_member(text)
        except AddressError as error:
            found.append(f"{where}: {text!r}: {error}")
    return found


def rewrite_slice(configuration: Configuration) -> resolve.RewriteSlice:
    """resolve's part of [rewrite]."""
    rewrite = configuration.rewrite
    return resolve.RewriteSlice(
        canonical=rewrite.canonical, virtual=rewrite.virtual, generic=rewrite.generic
    )
