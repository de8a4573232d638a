"""From a configuration to a running system: what is done once, before any mail, with privilege.

The launcher makes the directories, binds the sockets, writes manifest and plan into memory files,
and turns into the spawner.  Whatever is wrong is said here, before anything starts.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pwd
import secrets
import socket
import stat
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import msgspec

from refmta.architectures import validation
from refmta.architectures.architecture import Architecture
from refmta.architectures.assemble import VIRTUAL_PLACE, Assembly, assemble
from refmta.architectures.catalogue import UnknownArchitecture, find
from refmta.architectures.configuration import ConfigurationError, Settings
from refmta.architectures.interfaces import machine_addresses
from refmta.architectures.machine import Fitting, fit
from refmta.architectures.reach import closed_directory, open_view, program_paths
from refmta.patterns import least_privilege
from refmta.patterns.chroot_jail import EMPTY
from refmta.patterns.least_privilege import Identities
from refmta.protocol.routing import VIRTUAL_OWNER
from refmta.stores.disk import PosixDisk
from refmta.stores.queue import open_queue

#: Longest path of a local socket (unix(7)).
SOCKET_PATH_OCTETS = 107
#: Connections that wait in the kernel for a worker.
BACKLOG = 1024


def architecture(name: str) -> Architecture:
    """The architecture of that name, which is sound.  Raises ConfigurationError."""
    try:
        found = find(name)
    except UnknownArchitecture as error:
        raise ConfigurationError([str(error)]) from None
    unsound = validation.problems(found)
    if unsound:
        raise ConfigurationError(unsound)
    return found


def settle(name: str, allowed: Collection[str], settings: Settings) -> Fitting:
    """The architecture without the layers that may be missing and are.  Raises ConfigurationError:
    there is no such architecture, it is not sound, or a layer is missing that may not be.
    """
    fitting = fit(architecture(name), allowed, uid=settings.configuration.first_uid)
    if fitting.problems:
        raise ConfigurationError([*fitting.problems])
    return fitting


def machine_problems(settings: Settings) -> list[str]:
    """What this machine lacks for the configuration: one line each, the key path first."""
    problems = []
    configuration = settings.configuration
    for name, user in configuration.users.items():
        if not Path(user.home).is_dir():
            problems.append(f"users.{name}.home: no such directory: {user.home}")
    if os.getuid() == 0:
        problems += _taken_ids(configuration.first_uid)
        places = {"spool": settings.spool}
        if configuration.mail_root:
            places["mail_root"] = settings.mail_root
        for key, path in places.items():
            closed = closed_directory(path.parent)
            if closed is not None:
                problems.append(
                    f"{key}: {path}: the compartments' users can't enter {closed}; choose another"
                    f" place, or chmod o+x {closed}"
                )
    elif settings.spool.exists() and not os.access(settings.spool, os.W_OK):
        problems.append(f"spool: {settings.spool}: not writable for user {os.getuid()}")
    if len(os.fsencode(settings.control_socket)) > SOCKET_PATH_OCTETS:
        problems.append(
            f"spool: {settings.control_socket}: too long for a socket; choose a shorter path"
        )
    for index, address in enumerate(settings.addresses()):
        try:
            _bind(address).close()
        except OSError as error:
            problems.append(_listen_problem(index, address, error))
    return problems


def _taken_ids(base: int) -> list[str]:
    taken = [e for e in pwd.getpwall() if base <= e.pw_uid <= base + VIRTUAL_PLACE]
    return [
        f"first_uid: user {entry.pw_name} has id {entry.pw_uid}, which a compartment would get;"
        " choose another range"
        for entry in taken
    ]


def _listen_problem(index: int, address: tuple[str, int], error: OSError) -> str:
    hint = "is another server running?" if error.errno == 98 else "ports below 1024 need root"
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"listen[{index}]: {host}:{address[1]}: {os.strerror(error.errno or 0)}; {hint}"


def _bind(address: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


@dataclass(slots=True)
class Prepared:
    """Everything that the spawner inherits."""

    manifest: int
    inherited: list[int]
    layers: tuple[str, ...]
    #: Whom a process may become; None without root.
    identities: Identities | None
    #: Whether some compartment is root's: it gets what the spawner has.
    privileged: bool = False

    def turn_into_spawner(self) -> NoReturn:
        """Replace this process.  The listening sockets stay open over restarts of the rest.

        What the spawner must not be able to do is taken away here, so that it needs no code for it:
        all capabilities but three, and the system calls that neither it nor its children need.
        """
        self.confine()
        for each in (self.manifest, *self.inherited):
            os.set_inheritable(each, True)
        arguments = [sys.executable, "-I", "-m", "refmta.processes.spawner", str(self.manifest)]
        os.execv(sys.executable, [*arguments, *map(str, self.inherited)])

    def confine(self) -> None:
        """Raises OSError.  The layer "capabilities" is about the compartments: what they could
        become again is bounded by what the spawner has kept.
        """
        least_privilege.gain_nothing()
        if self.identities is not None and "capabilities" in self.layers and not self.privileged:
            least_privilege.drop_capabilities(least_privilege.SPAWNER_CAPABILITIES)
        if "seccomp" in self.layers and not self.privileged:
            least_privilege.allow_calls(("spawner",), self.identities or Identities(()))


def prepare(settings: Settings, fitting: Fitting, trace: Path | None = None) -> Prepared:
    """Directories, sockets, manifest, plan, and the trace's file.  Raises ConfigurationError."""
    chosen, root = fitting.architecture, os.getuid() == 0
    problems = machine_problems(settings)
    if problems:
        raise ConfigurationError([f"{settings.path}: {each}" for each in problems])
    assembly = assemble(chosen, settings, root=root, machine=machine_addresses())
    try:
        other = _other_store(settings, chosen)
        if other:
            raise ConfigurationError([f"{settings.path}: {other}"])
        make_directories(settings, chosen, assembly)
        settings.store_file.write_text(f"{chosen.store}\n", encoding="ascii")
        listeners = [_bind(address) for address in settings.addresses()]
        control = _control_socket(settings.control_socket)
        key = _control_key(settings.control_key)
        if root:
            open_view(program_paths())
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise ConfigurationError([f"{settings.path}: {where}{error.strerror}"]) from None
    traced = [] if trace is None else [open_trace(trace)]
    final = msgspec.structs.replace(
        assembly.plan, traced=bool(traced), missing=fitting.missing, key=key
    )
    plan = memory_file("plan", msgspec.msgpack.encode(final))
    manifest = memory_file("manifest", json.dumps(assembly.manifest).encode())
    inherited = [plan, control.detach(), *traced, *(each.detach() for each in listeners)]
    identities = Identities(assembly.identities) if root else None
    privileged = root and 0 in assembly.owners.values()
    return Prepared(manifest, inherited, chosen.layers, identities, privileged)


def _other_store(settings: Settings, chosen: Architecture) -> str:
    """What is wrong if mail lies in this spool that this architecture would never find."""
    kept = settings.kept_by()
    if kept in ("", chosen.store):
        return ""
    root = os.open(settings.spool, os.O_DIRECTORY | os.O_PATH | os.O_CLOEXEC)
    try:
        count = len(open_queue(kept, PosixDisk(root), {}).names())
    except OSError:
        count = 0  # a queue of which the directories are not there
    finally:
        os.close(root)
    if not count:
        return ""
    return (
        f"spool: {settings.spool}: {count} messages are kept by the store {kept}, and"
        f" {chosen.name} has the store {chosen.store}: deliver them first, or choose another spool"
    )


def open_trace(path: Path) -> int:
    """The file that every process appends to, its owner's alone.  Raises ConfigurationError."""
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise ConfigurationError([f"--trace: {path}: {error.strerror}"]) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # writes would mix, or block
        os.close(descriptor)
        raise ConfigurationError([f"--trace: {path}: not a regular file"])
    return descriptor


def make_directories(settings: Settings, chosen: Architecture, assembly: Assembly) -> None:
    """The spool's tree, with its owners.  Raises OSError."""
    root = os.getuid() == 0
    settings.spool.mkdir(parents=True, exist_ok=True)
    settings.spool.chmod(0o711 if root else 0o700)
    for row in chosen.directories:
        _directory(
            settings.spool / row.path,
            assembly.owners[row.owner],
            assembly.owners[row.group],
            row.mode if root else 0o700,
        )
    owner = assembly.owners[VIRTUAL_OWNER]
    _directory(settings.mail_root, owner, owner, 0o700)
    _empty_directory(settings.spool / EMPTY)


def _empty_directory(path: Path) -> None:
    """The jail of whoever needs no file.  Raises OSError, also if there is something in it."""
    path.mkdir(exist_ok=True)
    if os.getuid() == 0:
        os.chown(path, 0, 0, follow_symlinks=False)
    path.chmod(0o555)
    if any(path.iterdir()):
        raise OSError(errno.ENOTEMPTY, "must be empty: it is a jail", str(path))


def _directory(path: Path, owner: int | None, group: int | None, mode: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    if owner is not None and group is not None:
        os.chown(path, owner, group, follow_symlinks=False)
    path.chmod(mode)


def _control_socket(path: Path) -> socket.socket:
    """Only its owner can connect: the mode is set before it listens."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        control.bind(str(path))
    finally:
        os.umask(before)
    control.listen(16)
    return control


def _control_key(path: Path) -> bytes:
    """A new key, in a file that only its owner can read.  Raises OSError."""
    key = secrets.token_bytes(32)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
    return key


def memory_file(name: str, octets: bytes) -> int:
    """A descriptor on a nameless file with this content, at its start."""
    descriptor = os.memfd_create(name)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(octets)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
