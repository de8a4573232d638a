"""Commit protocols that real servers use, as plans, with the simplest recovery that fits each.

They are here to prove that the enumeration can tell protocols apart: who syncs what, and when, is
taken from the servers (sources below); the file format and the recovery are ours and minimal.

- certified: one file under its final name, that certifies itself; file sync, directory sync.
- exim_like: body synced; header synced under a temporary name, renamed; directory synced.
- postfix_like: renamed before it is written; end record; file sync, no directory sync; after the
  reply a move to another directory, without sync. (Postfix, src/global/mail_stream.c.)
- qmail_like: hard links; both files synced; the commit is a link without directory sync.
  (qmail, INTERNALS.)
- opensmtpd_like: nothing synced, two renames.
- mailboat_like: nothing synced, one link. (Mailboat and CMAIL: proved for a crash that keeps
  completed file operations.)
- maildir: written and synced in tmp, renamed to new, new synced.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from specs.persistence.protocols import Disk, Message, Op, Recovered

Plan = Callable[[Message], Iterator[Op]]
Recover = Callable[[Disk], Recovered]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A CommitStore; several messages are committed one after the other."""

    name: str
    directories: tuple[str, ...]
    one: Plan
    recover: Recover

    def plan(self, messages: Sequence[Message]) -> list[Op]:
        return [operation for message in messages for operation in self.one(message)]


# ---- a format that certifies itself ---------------------------------------------------------


def certificate(token: str, content: bytes) -> bytes:
    """The last line of a whole file: bound to its name, its length and its octets."""
    digest = zlib.crc32(token.encode() + b"\n" + content)
    return f"end {len(content)} {digest:08x}\n".encode()


def certified_content(token: str, octets: bytes) -> bytes | None:
    """What the file holds if it is whole and its own, else None."""
    body, _, last = octets.rpartition(b"end ")
    return body if b"end " + last == certificate(token, body) else None


def _write(path: str, message: Message) -> Iterator[Op]:
    yield Op(kind="create", path=path)
    for block in message.blocks:
        yield Op(kind="write", path=path, data=block)


def _write_certified(path: str, message: Message) -> Iterator[Op]:
    yield from _write(path, message)
    yield Op(kind="write", path=path, data=certificate(message.token, message.content))


def _reply(message: Message) -> Op:
    return Op(kind="reply", path=message.token)


def read(disk: Disk, path: str) -> bytes:
    """The whole file."""
    handle = disk.open_read(path)
    try:
        return disk.read(handle, disk.size(handle), 0)
    finally:
        disk.close(handle)


# ---- the protocols --------------------------------------------------------------------------


def certified_plan(message: Message) -> Iterator[Op]:
    path = f"chunks/{message.token}"
    yield from _write_certified(path, message)
    yield Op(kind="sync", path=path)
    yield Op(kind="sync_dir", path="chunks")
    yield _reply(message)


def certified_recover(disk: Disk) -> Recovered:
    visible = {}
    for name in disk.listdir("chunks"):
        content = certified_content(name, read(disk, f"chunks/{name}"))
        if content is not None:
            visible[name] = content
        elif f"{name}.torn" in disk.listdir("damaged"):
            # A crash inside recovery may leave both names of one file, and then a rename of the
            # one to the other does nothing.
            disk.unlink(f"chunks/{name}")
        else:
            disk.rename(f"chunks/{name}", f"damaged/{name}.torn")
    aside = frozenset(f"damaged/{name}" for name in disk.listdir("damaged"))
    return Recovered(visible=visible, aside=aside)


def exim_plan(message: Message) -> Iterator[Op]:
    body, temporary = f"input/{message.token}-D", f"input/{message.token}-T"
    yield from _write(body, message)
    yield Op(kind="sync", path=body)
    yield Op(kind="create", path=temporary)
    yield Op(kind="write", path=temporary, data=message.token.encode())
    yield Op(kind="sync", path=temporary)
    yield Op(kind="rename", path=temporary, target=f"input/{message.token}-H")
    yield Op(kind="sync_dir", path="input")
    yield _reply(message)


def exim_recover(disk: Disk) -> Recovered:
    names = set(disk.listdir("input"))
    tokens = {name[:-2] for name in names if {name[:-2] + "-D", name[:-2] + "-H"} <= names}
    for name in names:
        if name[:-2] not in tokens or name.endswith("-T"):
            disk.unlink(f"input/{name}")
    return Recovered(visible={token: read(disk, f"input/{token}-D") for token in tokens})


def postfix_plan(message: Message) -> Iterator[Op]:
    path = f"incoming/{message.token}"
    yield Op(kind="create", path=f"incoming/tmp.{message.token}")
    yield Op(kind="rename", path=f"incoming/tmp.{message.token}", target=path)
    yield from list(_write_certified(path, message))[1:]
    yield Op(kind="sync", path=path)
    yield _reply(message)
    yield Op(kind="rename", path=path, target=f"active/{message.token}")


def postfix_recover(disk: Disk) -> Recovered:
    visible = {}
    for directory in ("active", "incoming"):
        for name in disk.listdir(directory):
            content = certified_content(name, read(disk, f"{directory}/{name}"))
            if content is None or name in visible:
                disk.unlink(f"{directory}/{name}")
            else:
                visible[name] = content
    return Recovered(visible=visible)


def qmail_plan(message: Message) -> Iterator[Op]:
    token = message.token
    yield Op(kind="create", path=f"pid/{token}")
    yield Op(kind="link", path=f"pid/{token}", target=f"mess/{token}")
    yield Op(kind="unlink", path=f"pid/{token}")
    yield from list(_write(f"mess/{token}", message))[1:]
    yield Op(kind="sync", path=f"mess/{token}")
    yield Op(kind="create", path=f"intd/{token}")
    yield Op(kind="write", path=f"intd/{token}", data=token.encode())
    yield Op(kind="sync", path=f"intd/{token}")
    yield Op(kind="link", path=f"intd/{token}", target=f"todo/{token}")
    yield _reply(message)


def qmail_recover(disk: Disk) -> Recovered:
    tokens = set(disk.listdir("todo")) & set(disk.listdir("mess"))
    for directory in ("pid", "intd", "todo", "mess"):
        for name in disk.listdir(directory):
            if name not in tokens or directory in {"pid", "intd"}:
                disk.unlink(f"{directory}/{name}")
    return Recovered(visible={token: read(disk, f"mess/{token}") for token in tokens})


def opensmtpd_plan(message: Message) -> Iterator[Op]:
    token = message.token
    yield from _write(f"incoming/{token}.message", message)
    yield Op(kind="create", path=f"incoming/{token}.envelope")
    yield Op(kind="write", path=f"incoming/{token}.envelope", data=token.encode())
    for part in ("envelope", "message"):
        path = f"{token}.{part}"
        yield Op(kind="rename", path=f"incoming/{path}", target=f"queue/{path}")
    yield _reply(message)


def opensmtpd_recover(disk: Disk) -> Recovered:
    for name in disk.listdir("incoming"):
        disk.unlink(f"incoming/{name}")
    names = set(disk.listdir("queue"))
    stems = {name.rpartition(".")[0] for name in names}
    whole = {stem for stem in stems if {f"{stem}.message", f"{stem}.envelope"} <= names}
    for name in names:
        if name.rpartition(".")[0] not in whole:
            disk.unlink(f"queue/{name}")
    return Recovered(visible={stem: read(disk, f"queue/{stem}.message") for stem in whole})


def mailboat_plan(message: Message) -> Iterator[Op]:
    path = f"tmp/{message.token}"
    yield from _write(path, message)
    yield Op(kind="link", path=path, target=f"new/{message.token}")
    yield Op(kind="unlink", path=path)
    yield _reply(message)


def maildir_plan(message: Message) -> Iterator[Op]:
    path = f"tmp/{message.token}"
    yield from _write(path, message)
    yield Op(kind="sync", path=path)
    yield Op(kind="rename", path=path, target=f"new/{message.token}")
    yield Op(kind="sync_dir", path="new")
    yield _reply(message)


def maildir_recover(disk: Disk) -> Recovered:
    for name in disk.listdir("tmp"):
        disk.unlink(f"tmp/{name}")
    return Recovered(visible={name: read(disk, f"new/{name}") for name in disk.listdir("new")})


CERTIFIED = Reference(
    name="certified",
    directories=("chunks", "damaged"),
    one=certified_plan,
    recover=certified_recover,
)
EXIM = Reference(name="exim-like", directories=("input",), one=exim_plan, recover=exim_recover)
POSTFIX = Reference(
    name="postfix-like",
    directories=("incoming", "active"),
    one=postfix_plan,
    recover=postfix_recover,
)
QMAIL = Reference(
    name="qmail-like",
    directories=("pid", "mess", "intd", "todo"),
    one=qmail_plan,
    recover=qmail_recover,
)
OPENSMTPD = Reference(
    name="opensmtpd-like",
    directories=("incoming", "queue"),
    one=opensmtpd_plan,
    recover=opensmtpd_recover,
)
MAILBOAT = Reference(
    name="mailboat-like", directories=("tmp", "new"), one=mailboat_plan, recover=maildir_recover
)
MAILDIR = Reference(
    name="maildir-like", directories=("tmp", "new"), one=maildir_plan, recover=maildir_recover
)
REFERENCES = (CERTIFIED, EXIM, MAILDIR, POSTFIX, QMAIL, OPENSMTPD, MAILBOAT)
