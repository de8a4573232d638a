"""What there is to be read: the files that somebody who seizes a process would look for.

queue and mailboxes are what the load has left there; keys are planted, as a server's private keys
lie on a disk: root's, 0600; the machine's files are such as everybody may read.

A file is within reach of a process if it opens it for reading, by its path as seen from outside or
below its own root, or has it open already.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from specs.observe.seize import Seized
from specs.patterns.bench import Running

#: In the order of their worth.
KINDS: Final = ("queue", "mailboxes", "keys", "passwords", "configuration", "machine")
_KEYS: Final = ("tls.key", "dkim.key")
_PASSWORDS: Final = ("/etc/shadow", "/etc/gshadow")
_MACHINE: Final = ("/etc/passwd", "/etc/group", "/etc/hosts", "/etc/fstab", sys.executable)
_AT_FDCWD: Final = -100

Inventory = Mapping[str, tuple[Path, ...]]


def inventory(bench: Running) -> Inventory:
    """Kind -> its files, seen from outside, no link among them."""
    assets = bench.manifest.assets
    found: Mapping[str, Iterable[Path]] = {
        "queue": bench.target.queued(),
        "mailboxes": _delivered(bench.target.mailboxes().values()),
        "keys": _planted(bench.site.directory.parent / "keys"),
        "passwords": map(Path, _PASSWORDS),
        "configuration": (Path(each.path) for each in assets if each.name == "configuration"),
        "machine": map(Path, _MACHINE),
    }
    return {
        kind: tuple(sorted({each.resolve() for each in found[kind] if each.is_file()}))
        for kind in KINDS
    }


def _delivered(mailboxes: Iterable[Path]) -> Iterator[Path]:
    for mailbox in mailboxes:
        yield from mailbox.iterdir() if mailbox.is_dir() else (mailbox,)


def _planted(directory: Path) -> Iterator[Path]:
    directory.mkdir(mode=0o755, exist_ok=True)
    for name in _KEYS:
        file = directory / name
        file.touch(mode=0o600)
        file.write_text("a private key\n", encoding="ascii")
        yield file


def within_reach(victim: Seized, files: Iterable[Path]) -> Iterator[Path]:
    """Those that the seized process can read.  Raises Gone."""
    has = {_opened(victim.pid, number) for number in _descriptors(victim.pid)}
    root = _link(Path(f"/proc/{victim.pid}/root"))
    for file in files:
        if file in has or any(_opens(victim, file, name) for name in _names(file, root)):
            yield file


def _names(file: Path, root: Path) -> Iterator[Path]:
    """As from outside, and below the root of the process."""
    yield file
    if root != Path("/") and file.is_relative_to(root):
        yield Path("/") / file.relative_to(root)


def _opens(victim: Seized, file: Path, name: Path) -> bool:
    victim.forget()
    number = victim.call("openat", _AT_FDCWD, victim.write(os.fsencode(name)), os.O_RDONLY, 0)
    if number < 0:
        return False
    it_is = _opened(victim.pid, number) == file
    victim.call("close", number)
    return it_is


def _descriptors(pid: int) -> list[int]:
    return [int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()]


def _opened(pid: int, number: int) -> Path:
    """What a descriptor is open to, seen from outside; what is closed meanwhile is nothing."""
    with suppress(OSError):
        return _link(Path(f"/proc/{pid}/fd/{number}"))
    return Path()


def _link(path: Path) -> Path:
    return path.readlink()
