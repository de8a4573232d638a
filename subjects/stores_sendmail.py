"""The stores of sendmail and sendmail X, and mbox, as subjects of the persistence spec: the real
code, rehearsed.

A queue has two subjects: the way in, and a whole life: with everything settled on the disk, an
attempt, marks, rest, another attempt, the end.  sendmail's has one more for each of the other
values of its option SuperSafe, and mbox one for mail.local as it is, which leaves no note.
Recovery is what the keeper of the queue does at its start; then every message is loaded, and read
as an agent reads it.

A mailbox holds old mail, which must stay as it is.  Only who has its lock appends to it, so the
messages of one plan go to one mailbox, and those of another plan to another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from refmta.protocol.delivery import Mark
from refmta.stores import letters, mbox, sendmail_qfdf, sendmailx_ibdb, sendmailx_log
from specs.persistence.model_disk import ModelDisk
from specs.persistence.protocols import Disk, Message, Op, Recovered
from specs.persistence.rehearsal import rehearsed, release, reply, time_passes
from subjects.tokens import envelope_of, queue_id_of, token_of

DEFERRED = Mark("deferred", 0, 1, 2, "4.2.2", "mailbox full")
DELIVERED = Mark("delivered", 0, 1, 3)


# -- queues ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue store over a module, which may be a mutant.  life: what comes after the reply too."""

    name: str
    module: Any
    store: str  # its class
    directories: tuple[str, ...]
    options: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    life: bool = False
    apart: bool = False

    @property
    def told(self) -> bool:
        """The way in is the other subject's."""
        return self.life

    def open(self, disk: Disk) -> Any:
        return getattr(self.module, self.store)(disk, **self.options)

    # -- what is done -----------------------------------------------------------------------------

    def plan(self, messages: Sequence[Message]) -> Sequence[Op]:
        """What the store does; each block is a write of its own."""
        return rehearsed(self.directories, lambda disk: self._act(disk, messages), self.files)

    def _act(self, disk: ModelDisk, messages: Sequence[Message]) -> None:
        store = self.open(disk)
        drafts = []
        for message in messages:
            drafts.append(store.draft(envelope_of(message.token)))
            for block in message.blocks:
                drafts[-1].add(block)
            drafts[-1].finish()
        failures = store.commit(drafts) or store.log([each.envelope for each in drafts])
        if failures:
            raise ValueError(f"the rehearsal failed: {failures}")
        for message, draft in zip(messages, drafts, strict=True):
            store.confirm(queue_id_of(message.token))
            draft.close()
            reply(disk, message.token)
        if self.life:
            time_passes(disk)
            for message in messages:
                self._deliver(disk, store, message)

    def _deliver(self, disk: ModelDisk, store: Any, message: Message) -> None:
        """Two attempts, the second successful; then what is done is removed."""
        queue_id = queue_id_of(message.token)
        for mark in (DEFERRED, DELIVERED):
            loaded = store.load(queue_id)
            disk.close(loaded.handle)
            if mark is DELIVERED:
                release(disk, message.token)
            store.append_marks(queue_id, loaded.end, [mark])
            store.rested(queue_id)
            store.release(queue_id)
        disk.close(store.load(queue_id).handle)
        store.free(queue_id)
        store.names()

    # -- after a crash ----------------------------------------------------------------------------

    def recover(self, disk: Disk) -> Recovered:
        store = self.open(disk)
        visible = {}
        for name, reason in list(store.recover()):
            if not reason:
                token, content = self._read(disk, store, name)
                visible[token] = content
        if store.logs_envelopes:
            store.close()
        aside = frozenset(f"damaged/{name}" for name in disk.listdir("damaged"))
        return Recovered(visible=visible, aside=aside)

    def _read(self, disk: Disk, store: Any, name: str) -> tuple[str, bytes]:
        """The token of its envelope, and its content, as an agent reads it."""
        loaded = store.load(name)
        try:
            _, content = letters.read(disk, loaded.handle, name, loaded.head)
        finally:
            disk.close(loaded.handle)
            store.release(name)
        return loaded.envelope.reverse_path.partition("@")[0], content


def sendmail(
    module: ModuleType = sendmail_qfdf, *, super_safe: str = "true", life: bool = False
) -> Queue:
    """sendmail's queue, or a mutant of it."""
    name = "sendmail_qfdf" if super_safe == "true" else f"sendmail_qfdf, SuperSafe {super_safe}"
    return Queue(
        name=_name(name, life=life),
        module=module,
        store="SendmailQfdf",
        directories=(sendmail_qfdf.QUEUE, sendmail_qfdf.DAMAGED),
        options={"super_safe": super_safe},
        life=life,
        apart=True,  # a process per message, and no directory is ever synced
    )


def sendmailx(module: ModuleType = sendmailx_ibdb, *, life: bool = False) -> Queue:
    """sendmail X's queue, or a mutant of it.  A log is there already: all append to one."""
    empty = sendmailx_log.snapshot_record({})
    return Queue(
        name=_name("sendmailx_ibdb", life=life),
        module=module,
        store="SendmailxIbdb",
        directories=("cdb", "ibdb", "deferred", "damaged"),
        files={"ibdb/00000001": empty},
        life=life,
    )


def _name(store: str, *, life: bool) -> str:
    return f"{store}, a whole life" if life else store


# -- mbox -----------------------------------------------------------------------------------------

OLD = b"From ada@example.org Sat Jan  1 00:00:00 2000\n\nold mail\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailboxes:
    """mbox over a module, which may be a mutant.  notes: with the note that mends it."""

    name: str
    module: Any = mbox
    notes: bool = True
    directories: tuple[str, ...] = ("mail",)
    files: Mapping[str, bytes] = field(
        default_factory=lambda: {"mail/m1": OLD, "mail/m2": OLD, "mail/m3": OLD}
    )

    def plan(self, messages: Sequence[Message]) -> Sequence[Op]:
        """Append all to the mailbox that is called after the first."""
        return rehearsed(self.directories, lambda disk: self._act(disk, messages), self.files)

    def _act(self, disk: ModelDisk, messages: Sequence[Message]) -> None:
        mailbox = f"mail/{messages[0].token}"
        group = []
        for message in messages:
            queue_id = queue_id_of(message.token)
            staged = self.module.Staged(mailbox, queue_id)
            group.append(staged)
            staged.write(self.module.heading(f"{queue_id}@sender.example", "b@example.org", 1))
            for block in message.blocks:
                staged.write(self.module.stored(block))
        self.module.ensure(disk, mailbox)
        failures = self.module.commit(disk, mailbox, group, notes=self.notes)
        if failures:
            raise ValueError(f"the rehearsal failed: {failures}")
        for message in messages:
            reply(disk, message.token)

    def recover(self, disk: Disk) -> Recovered:
        """What the next delivery does first; what a mail reader sees then."""
        names = {name.removesuffix(mbox.NOTE) for name in disk.listdir("mail")}
        visible: dict[str, bytes] = {}
        for name in sorted(names):
            self.module.recover(disk, f"mail/{name}")
        for path in self.files:
            visible |= self._read(disk, path)
        return Recovered(visible=visible)

    def _read(self, disk: Disk, path: str) -> dict[str, bytes]:
        """The messages of a mailbox by token.  Old mail is one only if it was touched."""
        try:
            handle = disk.open_read(path)
        except FileNotFoundError:
            return {f"old mail of {path}": b"gone"}
        try:
            octets = disk.read(handle, disk.size(handle), 0)
        finally:
            disk.close(handle)
        if not octets.startswith(OLD):
            return {f"old mail of {path}": octets}
        found = {}
        for text in octets[len(OLD) :].split(b"From ")[1:]:
            head, _, rest = text.partition(b"\nDelivered-To: b@example.org\n")
            token = head.partition(b"@")[0].decode("ascii", "replace")
            token = token_of(token) if token.isalnum() else token
            found[token] = rest.removesuffix(b"\n\n") if rest.endswith(b"\n\n") else b"cut " + rest
        rest = octets[len(OLD) :]
        if rest and not rest.startswith(b"From "):
            found[f"no message in {path}"] = rest
        return found


def mailboxes(module: ModuleType = mbox, *, notes: bool = True) -> Mailboxes:
    """mbox, or a mutant of it."""
    return Mailboxes(name="mbox" if notes else "mbox of mail.local", module=module, notes=notes)


# -- entry points ---------------------------------------------------------------------------------


def sendmail_store() -> Queue:
    """Entry point."""
    return sendmail()


def sendmail_life() -> Queue:
    """Entry point."""
    return sendmail(life=True)


def sendmail_interactive() -> Queue:
    """Entry point."""
    return sendmail(super_safe="interactive")


def sendmail_unsafe() -> Queue:
    """Entry point."""
    return sendmail(super_safe="false")


def sendmailx_store() -> Queue:
    """Entry point."""
    return sendmailx()


def sendmailx_life() -> Queue:
    """Entry point."""
    return sendmailx(life=True)


def mbox_store() -> Mailboxes:
    """Entry point."""
    return mailboxes()


def mbox_of_mail_local() -> Mailboxes:
    """Entry point."""
    return mailboxes(notes=False)
