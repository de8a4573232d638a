"""The configuration: one TOML file, strict, with the place of every mistake.

Rules: an unknown key, a wrong type or a value out of bounds names the file, the key path, and what
would be right; so does a contradiction between keys.  Nothing is guessed, no file is included.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from refmta.architectures import maps, onward
from refmta.architectures.sections import Configuration, Pool, Remote, parse_listen
from refmta.patterns.secure_preforking import Rules
from refmta.protocol import routing
from refmta.protocol.relaying import spell
from refmta.roles import resolve
from refmta.stores.queue import STORES
from refmta.wire.address import AddressError, is_domain, parse_mailbox

#: How many ids from there are reserved.
RESERVED = 1000
#: Debian Policy 9.2.2: system users; 60000 to 65535 are Debian's own, `nobody` and "no id".
SYSTEM_IDS = ((0, 1000), (60_000, 65_536))


class ConfigurationError(Exception):
    """What is wrong, where; one line per problem."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration that was checked, and where it came from."""

    path: Path
    configuration: Configuration

    @property
    def spool(self) -> Path:
        """Absolute; a relative path is relative to the file."""
        return (self.path.parent / self.configuration.spool).absolute()

    @property
    def mail_root(self) -> Path:
        """Where virtual mailboxes lie."""
        root = self.configuration.mail_root
        return (self.path.parent / root).absolute() if root else self.spool / "mail"

    @property
    def control_socket(self) -> Path:
        """Where the operator's commands reach the supervisor."""
        return self.spool / "control"

    @property
    def control_key(self) -> Path:
        """What proves that a command is the operator's: who can read it is one."""
        return self.spool / "control.key"

    @property
    def store_file(self) -> Path:
        """Says which store the queue is kept by (`stores.queue`)."""
        return self.spool / "store"

    def kept_by(self) -> str:
        """The store of whoever was last started on this spool; "" if nobody was, or it is gone."""
        try:
            name = self.store_file.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return ""
        return name if name in STORES else ""

    def addresses(self) -> list[tuple[str, int]]:
        """Where to listen."""
        return [parse_listen(each) for each in self.configuration.listen]


def load(path: Path) -> Settings:
    """Read and check a file.  Raises ConfigurationError."""
    try:
        octets = path.read_bytes()
    except OSError as error:
        raise ConfigurationError([f"{path}: {error.strerror}"]) from None
    try:
        document = tomllib.loads(octets.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"{path}: not TOML: {error}"]) from None
    try:
        configuration = msgspec.convert(document, Configuration, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigurationError([f"{path}: {explain(str(error), document)}"]) from None
    problems = contradictions(configuration)
    if problems:
        raise ConfigurationError([f"{path}: {each}" for each in problems])
    return Settings(path=path.absolute(), configuration=configuration)


# -- what is wrong, where, and what would be right ------------------------------------------------


def explain(message: str, document: dict[str, Any]) -> str:
    """msgspec's message, turned round: key path first, and the nearest right key."""
    what, _, where = message.partition(" - at `$")
    path = where.rstrip("`").lstrip(".")
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", what)
    missing = re.fullmatch(r"Object missing required field `(.*)`", what)
    if missing:
        return f"{_join(path, missing[1])}: missing, and required"
    if what.startswith("Invalid enum value"):
        return f"{path}: {what[0].lower()}{what[1:]}; known here: {', '.join(_choices(path))}"
    if not unknown:
        return f"{_concrete(path, document) or 'top level'}: {what[0].lower()}{what[1:]}"
    fields = _fields(path)
    near = difflib.get_close_matches(unknown[1], fields, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(fields))}"
    return f"{_join(path, unknown[1])}: unknown key; {hint}"


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _concrete(path: str, document: dict[str, Any]) -> str:
    """msgspec says [...] for "some key of a table": name it if there is only one."""
    table: Any = document
    for part in path.partition("[...]")[0].strip(".").split("."):
        table = table.get(part, {}) if isinstance(table, dict) else {}
    if "[...]" in path and isinstance(table, dict) and len(table) == 1:
        return path.replace("[...]", f'."{next(iter(table))}"', 1)
    return path


def _fields(path: str) -> list[str]:
    """The keys that are right in a table."""
    form = _form(path)
    if isinstance(form, type) and issubclass(form, msgspec.Struct):
        return list(form.__struct_fields__)
    return []


def _form(path: str) -> Any:
    """The type at a key path; of a collection, that of its elements."""
    form: Any = Configuration
    for part in filter(None, re.split(r"\.|(\[(?:\.\.\.|[0-9]+)\])", path)):
        if part.startswith("["):
            continue
        hint = get_type_hints(form).get(part) if isinstance(form, type) else None
        inner = [e for e in get_args(hint) if isinstance(e, type) or get_origin(e) is Literal]
        form = inner[-1] if inner else hint
    return form


def _choices(path: str) -> list[str]:
    """The words that are right in a place."""
    return sorted(map(str, get_args(_form(path))))


def contradictions(configuration: Configuration) -> list[str]:
    """What the types can't say: one line per problem, key path first."""
    problems = []
    if not is_domain(configuration.hostname):
        problems.append(f"hostname: not a domain name: {configuration.hostname!r}")
    if not configuration.domains:
        problems.append('domains: at least one is needed, such as [domains."example.org"]')
    problems += _addresses(configuration)
    for place, text in enumerate(configuration.listen):
        try:
            parse_listen(text)
        except ValueError as error:
            problems.append(f"listen[{place}]: {error}")
    for text in configuration.trusted:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            problems.append(f"trusted: not an IP address: {text!r}")
    problems += _users(configuration)
    problems += maps.problems(configuration)
    if not problems:
        problems += onward.problems(configuration)
    if not problems:
        problems += routing.problems(resolve.table(routing_slice(configuration)))
    return problems


def _addresses(configuration: Configuration) -> list[str]:
    problems = []
    places = [("postmaster", configuration.postmaster)]
    for name, domain in configuration.domains.items():
        if not is_domain(name):
            problems.append(f"domains: not a domain name: {name!r}")
            continue
        key = f'domains."{name}"'
        if domain.catch_all:
            places.append((f"{key}.catch_all", domain.catch_all))
        for local in (*domain.mailboxes, *domain.aliases):
            places.append((f"{key}: mailbox or alias", f"{local}@{name}"))
        for alias, members in domain.aliases.items():
            if not members:
                problems.append(f'{key}.aliases."{alias}": leads to nobody')
            places += [(f'{key}.aliases."{alias}"', member) for member in members]
    for where, text in places:
        try:
            parse_mailbox(text)
        except AddressError as error:
            problems.append(f"{where}: {text!r}: {error}")
    return problems


def _users(configuration: Configuration) -> list[str]:
    problems = []
    compartments = range(configuration.first_uid, configuration.first_uid + 100)
    for name, user in configuration.users.items():
        if not re.fullmatch(r"[a-z0-9_][a-z0-9_.-]{0,31}", name):
            problems.append(f"users: not a user name: {name!r}")
        if name == routing.VIRTUAL_OWNER:
            problems.append(f"users.{name}: the name of who owns virtual mailboxes; take another")
        if user.uid in compartments or user.gid in compartments:
            problems.append(f"users.{name}.uid: belongs to a compartment; choose another")
        if not Path(user.home).is_absolute():
            problems.append(f"users.{name}.home: must be an absolute path")
    return problems


def routing_slice(configuration: Configuration, machine: Sequence[str] = ()) -> resolve.Slice:
    """resolve's slice.  machine: the addresses that a wildcard in `listen` stands for."""
    return resolve.Slice(
        hostname=configuration.hostname,
        postmaster=configuration.postmaster,
        domains={
            name: resolve.DomainSlice(
                mailboxes=domain.mailboxes,
                system_users=domain.system_users,
                aliases=domain.aliases,
                catch_all=domain.catch_all,
            )
            for name, domain in configuration.domains.items()
        },
        literals=tuple(map(spell, onward.ourselves(configuration, machine))),
        separator=configuration.separator,
        users=tuple(configuration.users),
        relay=onward.relay_slice(configuration),
        rewrite=maps.rewrite_slice(configuration),
    )


def reserved_ids(configuration: Configuration) -> tuple[tuple[int, int], ...]:
    """Ranges of user ids whose accounts receive no mail, however they are asked for."""
    base = configuration.first_uid
    return (*SYSTEM_IDS, (base, base + RESERVED))


def pool_rules(section: Pool | Remote) -> Rules:
    """The rules of a pool."""
    return msgspec.convert(msgspec.to_builtins(section), Rules)
