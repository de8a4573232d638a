"""Routing: which mailboxes or destinations a recipient means, or why it has none.

Rules a reader may rely on
- Pure: the table is plain data, and the one question about the machine (`is_user`) is passed in.
- `verify` accepts what `route` can route at that moment, so that a client hears of an unknown user
  or a loop at RCPT and not by a bounce. One exception: postmaster at a local domain, and
  `<Postmaster>`, are always accepted (RFC 5321 section 4.5.1); if that one is misconfigured its
  mail waits in the queue, where the operator sees it.
- Whether a domain is ours decides first. Mail for one of ours leaves only by an alias or catch-all
  of the operator, whoever sends it. Mail for any other goes to its destination, and `verify`
  refuses it with 550 5.7.1 unless `protocol.relaying` lets this client send there. `route` asks
  nobody's permission: it is for mail that was accepted, or that we wrote.
- The configured postmaster is an address of ours (it may be an alias that leads away): a slip in
  its domain would send away the mail that nobody else gets. `localhost` is ourselves, whatever DNS
  says (RFC 6761 section 6.3).
- One bad address in an alias refuses the whole alias. Half a delivery would tell nobody.
- Our local parts are compared in lower case (RFC 5321 section 2.4 leaves that to the host).

Within a domain the first row that knows the local part decides; then, with a separator ("+"), the
same rows for what stands before it (ada+lists means ada); then the catch-all:

    aliases -> mailboxes (virtual) -> system_users -> [postmaster] -> catch_all -> 550 5.1.1

Before all that, and at any domain, comes the operator's map `virtual` (`protocol.rewriting`), whose
rows are expanded like aliases, with the same bounds.  `entering` and `leaving_as` are his two other
maps: what an address is called here, and what it is called elsewhere.  Permission to relay is a
matter of the address that the client has said: a map must not make us an open relay, nor close us.

What is tricky
- The queue remembers the addresses of an expansion, not their targets, and asks anew after a
  restart: each of several targets' addresses must mean that one target alone (`problems`).
- A loop is an alias that is met again on the way from itself; an alias met twice on different
  ways is a duplicate and expands once. Without the second rule 10 levels could mean 10^n steps.
- Our own address literals are compared in one spelling (`relaying.literal`): "[127.0.0.01]" is us.
- A foreign local part keeps its case, and no separator is looked for in it: both are the business
  of the host that knows it (RFC 5321 section 2.4).
- A mailbox path is made of octets from outside. Each component is escaped so that it is one file
  name, never empty, never hidden, never "." or ".."; and the escape can be undone, so that no
  two mailboxes share a directory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from refmta.protocol import relaying, rewriting, rewriting_problems
from refmta.protocol.relaying import Relaying
from refmta.protocol.rewriting import Loop, Rewriting
from refmta.wire.address import AddressError, Mailbox, parse_mailbox
from refmta.wire.reply import Reply, reply

LEVELS: Final = (
    10  # of aliases; sendmail MaxAliasRecursion 10, Postfix virtual_alias_recursion 1000
)
TARGETS: Final = 1000  # of one recipient; Postfix virtual_alias_expansion_limit 1000
LOOP: Final = "5.4.6"  # RFC 3463 section 3.5: routing loop detected
POSTMASTER: Final = rewriting.POSTMASTER
LOCALHOST: Final = "localhost"
SYSTEM_MAILBOX: Final = "Maildir"  # below the user's home
VIRTUAL_OWNER: Final = "virtual"

# Debian's NAME_REGEX with inner dots; keeps NUL, "/" and the like from the user database.
_user_name = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,31}\Z")
_plain = re.compile(r"[a-z0-9_+-]\Z")

IsUser = Callable[[str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """One local domain. Keys of mailboxes and aliases: lower-cased local parts, unquoted."""

    mailboxes: frozenset[str] = frozenset()  # virtual mailboxes
    system_users: bool = False  # every user of the machine has one
    aliases: Mapping[str, tuple[Mailbox, ...]] = field(default_factory=dict)
    catch_all: Mailbox | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All that routing knows.

    domains: by lower-cased name. hostname: lower-cased; mail to it that is in no domain is only
    taken for postmaster. literals: our own address literals, as `relaying.literal` spells them;
    they mean the hostname. separator: of user and detail, "" for none.
    """

    hostname: str
    postmaster: Mailbox
    domains: Mapping[str, Domain]
    literals: frozenset[str] = frozenset()
    separator: str = "+"
    relaying: Relaying = field(default_factory=Relaying)
    rewriting: Rewriting = field(default_factory=Rewriting)

    def named(self, domain: str) -> tuple[str, bool]:
        """The one name of a domain or literal with us, and whether it is ours."""
        name = _domain_name(self, domain)
        return name, name in self.domains or name == self.hostname


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a copy goes, and the address by which it was found.

    On this machine: user owns the mailbox and delivers ("ada", or "virtual"); mailbox is the path
    of the Maildir, relative to that user's mail root. Of kind "remote": user is the destination
    (`protocol.relaying`), mailbox the address to be said at RCPT, and address what it is called
    here: the same, but for the map `generic`.
    (kind, user, mailbox) names a target uniquely.
    """

    kind: Literal["system", "virtual", "remote"]
    user: str
    mailbox: str
    address: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The recipient is ours."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The recipient gets this reply (5xx). detail: for the operator, never for the client."""

    reply: Reply
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Routed:
    """At least one target, in the order of the aliases, no mailbox twice."""

    targets: tuple[Target, ...]


NO_RELAY: Final = Rejected(reply(550, "5.7.1", "relaying denied"))  # RFC 5321 section 3.6.2
NO_USER: Final = Rejected(reply(550, "5.1.1", "no such user"))  # RFC 5321 section 3.4
NO_HOST: Final = Rejected(reply(550, "5.1.2", "this address literal names no host"))
ACCEPTED: Final = Accepted()


def verify(table: Table, recipient: Mailbox, is_user: IsUser, client: str) -> Accepted | Rejected:
    """Do we take mail for this recipient from this client (an IP address)? The question at RCPT."""
    if _is_postmaster(table, recipient):
        return ACCEPTED
    if not is_ours(table, recipient.domain) and not relaying.may_relay(
        table.relaying, recipient.domain.lower(), client
    ):
        return NO_RELAY
    known = entering(table, recipient)
    answer = known if isinstance(known, Rejected) else route(table, known, is_user)
    return answer if isinstance(answer, Rejected) else ACCEPTED


def entering(table: Table, mailbox: Mailbox) -> Mailbox | Rejected:
    """What an address that comes in is called here, of a sender or a recipient."""
    return _settled(rewriting.rewrite(table.rewriting, "canonical", mailbox, table.named), mailbox)


def leaving_as(table: Table, mailbox: Mailbox) -> Mailbox | Rejected:
    """What an address is called elsewhere, of a sender or a recipient."""
    return _settled(rewriting.rewrite(table.rewriting, "generic", mailbox, table.named), mailbox)


def _settled(found: Mailbox | Loop, mailbox: Mailbox) -> Mailbox | Rejected:
    if isinstance(found, Loop):
        return Rejected(reply(550, LOOP, f"address {mailbox} can't be rewritten"), str(found))
    return found


def route(table: Table, recipient: Mailbox, is_user: IsUser) -> Routed | Rejected:
    """Where does this recipient's mail go? The question of the queue manager."""
    expansion = _Expansion(table, recipient, is_user)
    refusal = expansion.add(recipient, ())
    return refusal or Routed(tuple(expansion.targets.values()))


def is_ours(table: Table, domain: str) -> bool:
    """Whether mail for this domain or literal ends here ("": for our postmaster)."""
    return table.named(domain)[1]


def leaving(table: Table) -> list[tuple[str, str]]:
    """Every alias, catch-all, and row of a map for what comes in, that leads straight from us to
    another host: (key path, address or "@domain").
    """
    aliased = [
        (path, str(member))
        for path, members in _members(table)
        for member in members
        if not is_ours(table, member.domain)
    ]
    return aliased + [
        (f'rewrite.{kind}."{rewriting.spell(key)}"', rewriting.spell_member(member))
        for kind in rewriting.ON_ENTRY
        for key, members in table.rewriting.rows(kind).items()
        for member in members
        if (key.domain is None or is_ours(table, key.domain)) and not is_ours(table, member.domain)
    ]


def problems(table: Table, is_user: IsUser = lambda _user: True) -> list[str]:
    """What the operator should mend, one line each, beginning with the key path.

    Every alias, catch-all and the postmaster is routed. Without `is_user` every user exists.
    """
    found = _bad_keys(table) + _foreign_postmaster(table)
    found += rewriting_problems.problems(table.rewriting, table.named, _own_names(table))
    found += _hidden_aliases(table)
    for path, source in _sources(table):
        found += _problems_of(table, path, source, is_user)
    for path, source, whole in _rewritten(table):
        if not any(each.startswith(f"{path}: ") for each in found):  # one line per row
            found += _problems_of(table, path, source, is_user, exists=whole)
    return found


def _problems_of(
    table: Table, path: str, source: Mailbox, is_user: IsUser, *, exists: bool = True
) -> list[str]:
    """exists: whether that very address is meant, and not only what becomes of its like."""
    answer = route(table, source, is_user)
    if isinstance(answer, Rejected):
        if not exists and answer.reply.enhanced != LOOP:
            return []
        return [f"{path}: {answer.detail or f'{source}: {answer.reply.lines[0]}'}"]
    for target in answer.targets if len(answer.targets) > 1 else ():
        if route(table, parse_mailbox(target.address), is_user) != Routed((target,)):
            return [f"{path}: leads to {target.address}, which means something else by itself"]
    return []


def _own_names(table: Table) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*table.domains, table.hostname)))


def _hidden_aliases(table: Table) -> list[str]:
    """A row of `virtual` comes first: whoever wrote the alias, too, means one of them."""
    return [
        f'domains."{name}".aliases."{local}": never reached: a row of rewrite.virtual comes first'
        for name, domain in table.domains.items()
        for local in domain.aliases
        if _is_key(local, name) and _virtual(table, Mailbox(local=local, domain=name)) is not None
    ]


def _rewritten(table: Table) -> Iterator[tuple[str, Mailbox, bool]]:
    """What rows of `virtual` are about, and whether it must exist: not what keeps its local part
    at another domain, as it stands for everybody who may be there.
    """
    maps = table.rewriting
    for key, mailbox in rewriting_problems.samples(maps, "virtual", _own_names(table)):
        whole = key.local is not None or not rewriting.keeps_local(maps.virtual[key])
        yield f'rewrite.virtual."{rewriting.spell(key)}"', mailbox, whole


def _bad_keys(table: Table) -> list[str]:
    """Names that no look-up can ever find."""
    return [
        f'domains."{name}".{kind}: {local!r} is not a lower-cased local part'
        for name, domain in table.domains.items()
        for kind, locals_ in (("mailboxes", sorted(domain.mailboxes)), ("aliases", domain.aliases))
        for local in locals_
        if not _is_key(local, name)
    ]


def _foreign_postmaster(table: Table) -> list[str]:
    """A slip in the domain would send away the mail that RFC 5321 section 4.5.1 is about."""
    if is_ours(table, table.postmaster.domain):
        return []
    return [f"postmaster: {table.postmaster}: at another host; name a mailbox or an alias of ours"]


def _members(table: Table) -> Iterator[tuple[str, tuple[Mailbox, ...]]]:
    """The addresses that each alias and catch-all leads to."""
    for name, domain in table.domains.items():
        for local, members in domain.aliases.items():
            yield f'domains."{name}".aliases."{local}"', members
        if domain.catch_all is not None:
            yield f'domains."{name}".catch_all', (domain.catch_all,)


def _is_key(local: str, domain: str) -> bool:
    try:
        return local == local.lower() and bool(Mailbox(local=local, domain=domain))
    except AddressError:
        return False


def _sources(table: Table) -> Iterator[tuple[str, Mailbox]]:
    """Every place of the configuration that names addresses to deliver to."""
    yield "postmaster", table.postmaster
    for name, domain in table.domains.items():
        for local in domain.aliases:
            if _is_key(local, name):
                yield f'domains."{name}".aliases."{local}"', Mailbox(local=local, domain=name)
        if domain.catch_all is not None:
            yield f'domains."{name}".catch_all', domain.catch_all


def _is_postmaster(table: Table, mailbox: Mailbox) -> bool:
    """RFC 5321 section 4.5.1: at every domain that we serve, in any case."""
    if mailbox.local.lower() != POSTMASTER:
        return False
    return is_ours(table, mailbox.domain)


def _domain_name(table: Table, domain: str) -> str:
    """`<Postmaster>` has no domain and our literals have no name: both mean the hostname."""
    domain = domain.lower()
    if domain.startswith("["):
        return table.hostname if relaying.literal(domain) in table.literals else domain
    ourselves = not domain or (domain == LOCALHOST and domain not in table.domains)
    return table.hostname if ourselves else domain


# --- one step ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Alias:
    """What has to be expanded further: an alias, a catch-all, or postmaster."""

    key: str
    members: tuple[Mailbox, ...]


def _look_up(table: Table, mailbox: Mailbox, is_user: IsUser) -> Target | _Alias | Rejected:
    """The rows of the module's docstring, in their order."""
    members = _virtual(table, mailbox)
    if members is not None:
        return _Alias(f"rewritten {mailbox.key}", members)
    name = _domain_name(table, mailbox.domain)
    domain = table.domains.get(name)
    if domain is not None:
        for local in _candidates(mailbox.local.lower(), table.separator):
            found = _in_domain(domain, name, local, is_user)
            if found is not None:
                return found
    if _is_postmaster(table, mailbox):
        return _Alias(f"{POSTMASTER}@{name}", (table.postmaster,))
    if domain is None:
        return NO_USER if name == table.hostname else _remote(table, mailbox, name)
    if domain.catch_all is not None:
        return _Alias(f"@{name}", (domain.catch_all,))
    return NO_USER


def _virtual(table: Table, mailbox: Mailbox) -> tuple[Mailbox, ...] | None:
    return rewriting.look_up(table.rewriting, "virtual", mailbox, table.named)


def _remote(table: Table, mailbox: Mailbox, name: str) -> Target | Rejected:
    """The address goes to the next host as it came, but for the map `generic`."""
    destination = relaying.destination(table.relaying, name)
    if destination is None:
        return NO_HOST
    said = leaving_as(table, mailbox)
    if isinstance(said, Rejected):
        return said
    return Target(kind="remote", user=destination, mailbox=str(said), address=str(mailbox))


def _candidates(local: str, separator: str) -> tuple[str, ...]:
    """ada+lists -> ada+lists, ada. Nothing before the separator names nobody."""
    if not separator or local.find(separator) < 1:
        return (local,)
    return local, local.partition(separator)[0]


def _in_domain(domain: Domain, name: str, local: str, is_user: IsUser) -> Target | _Alias | None:
    members = domain.aliases.get(local)
    if members is not None:
        return _Alias(f"{local}@{name}", members)
    if local in domain.mailboxes:
        path = f"{escape_component(name)}/{escape_component(local)}"
        address = str(Mailbox(local=local, domain=name))
        return Target(kind="virtual", user=VIRTUAL_OWNER, mailbox=path, address=address)
    if domain.system_users and _user_name.match(local) and is_user(local):
        address = f"{local}@{name}"
        return Target(kind="system", user=local, mailbox=SYSTEM_MAILBOX, address=address)
    return None


# --- all steps of one recipient ------------------------------------------------------------------


class _Expansion:
    """The work of one `route`: targets found so far, aliases that are done."""

    __slots__ = ("_done", "_is_user", "_recipient", "_table", "targets")

    def __init__(self, table: Table, recipient: Mailbox, is_user: IsUser) -> None:
        self._table = table
        self._recipient = recipient
        self._is_user = is_user
        self._done: set[str] = set()
        self.targets: dict[tuple[str, str, str], Target] = {}

    def add(self, mailbox: Mailbox, way: tuple[str, ...]) -> Rejected | None:
        """Add the targets of a mailbox that was reached over these aliases, or say why not."""
        found = _look_up(self._table, mailbox, self._is_user)
        if isinstance(found, Target):
            self.targets.setdefault((found.kind, found.user, found.mailbox), found)
            too_many = len(self.targets) > TARGETS
            return self._refuse(LOOP, "has too many targets", way) if too_many else None
        if isinstance(found, _Alias):
            return self._follow(found, way)
        return self._dangling(found, mailbox, way) if way else found

    def _follow(self, alias: _Alias, way: tuple[str, ...]) -> Rejected | None:
        further = (*way, alias.key)
        if alias.key in way:
            return self._refuse(LOOP, "is a loop", further)
        if len(way) >= LEVELS:
            return self._refuse(LOOP, "has too many levels", further)
        if not alias.members:
            return self._refuse("5.3.5", "has no members", further)
        if alias.key in self._done:
            return None
        for member in alias.members:
            refusal = self.add(member, further)
            if refusal is not None:
                return refusal
        self._done.add(alias.key)
        return None

    def _dangling(self, cause: Rejected, mailbox: Mailbox, way: tuple[str, ...]) -> Rejected:
        if cause is NO_HOST:
            return self._refuse("5.4.4", "leads to no host", (*way, str(mailbox)))
        return self._refuse("5.1.1", "leads to an unknown user", (*way, str(mailbox)))

    def _refuse(self, enhanced: str, what: str, way: tuple[str, ...]) -> Rejected:
        """The client reads the address that it asked for, and no other; the operator the way."""
        answer = reply(550, enhanced, f"alias {self._recipient} {what}")
        return Rejected(answer, f"{what}: {' -> '.join(way)}")


# --- mailbox paths -------------------------------------------------------------------------------


def escape_component(text: str) -> str:
    """Text as one file name: [a-z0-9_+-] and inner dots stay, other octets become %XX.

    Never empty ("%" alone stands for that), ".", "..", or with a leading dot. Different texts have
    different names. At most three times as long as the text: 192 octets for a local part.
    """
    last = len(text) - 1
    escaped = (
        char if _plain.match(char) or (char == "." and 0 < place < last) else _percent(char)
        for place, char in enumerate(text)
    )
    return "".join(escaped) or "%"


def _percent(char: str) -> str:
    return "".join(f"%{octet:02X}" for octet in char.encode())
