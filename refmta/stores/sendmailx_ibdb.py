"""sendmail X's queue: content and envelope in databases of their own, each with its own writer.

    smtps   write cdb/ID; ... start the write-back of each; sync each; sync cdb/ once
    qmgr    append an envelope for each to ibdb/LOG in one write; sync it once
    smtps   reply 250 to each

The queue manager holds the envelopes of what is under way in memory; the incoming backup database
is there for a crash only.  It is a log (`stores.sendmailx_log`), so a group of messages costs one
sync, whatever its size.  A message whose first attempt has failed gets a file in the deferred
database: envelope, end record and marks, as a chunk without content.  When the log is long, a new
one begins, with a snapshot of what is alive.  (The design papers of sendmail X call these CDB,
IBDB and DEFEDB; formats and names are ours.)

Legal states of a message (the instant of commit is the return of the log's sync):

    cdb                       being written, or waiting for its record: its writer has it locked;
                              else a crash: it goes
    cdb, E in the log         committed, under way
    cdb, E, deferred          it comes to rest, and D is not in the log yet: if deferred is whole it
                              counts, else the log does
    cdb, deferred             it rests, or is tried again
    cdb, F in the log         done; cdb and deferred go as soon as F is synced
    deferred torn, no E       set aside: nothing like this is left by a crash
    E or deferred, no cdb     done: the content goes last
    any, damaged/             being set aside, or set aside
    none                      refused, aborted, or done

What a crash may do (models of `specs/persistence`): under P1, P2 and P3 nothing that was
acknowledged is lost or altered.  What was done may come back whole, and is delivered again.

Rules a reader may rely on
- *The log's end is synced before content goes.*  The removal of a file is not ordered behind a
  record that nobody synced: a message whose F was lost, and whose content was truncated on its way
  out, would be delivered again as an empty one.  So content waits for the next sync of the log, for
  FREED_AT_ONCE others, or until somebody asks for `names`.
- deferred/ID and its name are synced before D is written; marks, D and F are not synced.
- A write to the log that fails makes the rest of that segment worthless: the next one begins.
- The content is raw.  Its sync comes before the envelope's, and nothing else speaks for it.
- One process drafts, one other keeps the rest.  Only `draft` and `commit` may be used by the first.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import ClassVar, Final

from refmta.patterns.unique_atomic_chunks import Disk, Op, carry_out
from refmta.protocol.delivery import Mark
from refmta.stores.queue import Loaded
from refmta.stores.raw_draft import RawDraft
from refmta.stores.sendmailx_log import (
    Entry,
    envelope_record,
    freed_record,
    logged_mark,
    rested_record,
)
from refmta.stores.sendmailx_segments import Segments
from refmta.stores.steps import (
    OUT_OF_DESCRIPTORS,
    OpenFiles,
    append_at,
    carry_aside,
    decode_marks,
    encode_marks,
    free_reason,
)
from refmta.wire.envelope import (
    ChunkError,
    Envelope,
    decode_chunk,
    encode_chunk,
    encode_envelope,
    is_queue_id,
)

CDB: Final = "cdb"
DEFERRED: Final = "deferred"
DAMAGED: Final = "damaged"
#: Contents that wait for the sync of what says that they are done.
FREED_AT_ONCE: Final = 64


def content_path(queue_id: str) -> str:
    """Where a message's content lies."""
    return f"{CDB}/{queue_id}"


def deferred_path(queue_id: str) -> str:
    """Where its envelope and marks lie once it has come to rest."""
    return f"{DEFERRED}/{queue_id}"


# -- plans: pure ----------------------------------------------------------------------------------


def content_plan(paths: Sequence[str]) -> list[Op]:
    """Make a group of contents durable: smtps's half.  Nothing is promised yet."""
    plan = [Op("writeback", path) for path in paths] if len(paths) > 1 else []
    return [*plan, *(Op("sync", path) for path in paths), Op("sync_dir", CDB)]


def rest_plan(queue_id: str, octets: bytes) -> list[Op]:
    """Write a message into the deferred database."""
    path = deferred_path(queue_id)
    return [
        Op("create", path),
        Op("write", path, octets),
        Op("sync", path),
        Op("sync_dir", DEFERRED),
    ]


def deferred_octets(entry: Entry) -> bytes:
    """What deferred/ID holds: a chunk without content, and marks."""
    return encode_chunk(entry.envelope, ()) + encode_marks(entry.marks)


# -- the store ------------------------------------------------------------------------------------


class SendmailxIbdb:
    """`stores.queue.QueueStore`, for one process that drafts and one that does the rest."""

    logs_envelopes: ClassVar[bool] = True

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self._log = Segments(disk, self._before_roll)
        #: The log is ours: what it says is in memory.
        self._keeps = False
        #: Done; their files go when that is synced.
        self._freed: dict[str, None] = {}
        #: Files of deferred/ have gone, and nobody has synced that.
        self._vanished = False

    # -- the way in -------------------------------------------------------------------------------

    def draft(self, envelope: Envelope) -> RawDraft:
        """The group of cdb/ (qmgr) opens it for those who deliver it."""
        return RawDraft(self.disk, envelope, content_path(envelope.queue_id), mode=0o660)

    def commit(self, group: Sequence[RawDraft]) -> dict[str, OSError]:
        """Make contents durable; `log` makes messages of them."""
        handles = {each.path: each.handle for each in group if each.handle is not None}
        if len(handles) < len(group):
            raise ValueError("a draft was not finished")
        failed = carry_out(self.disk, content_plan(list(handles)), handles)
        together = dict.fromkeys(handles, failed.directory) if failed.directory else {}
        return {**together, **failed.units}

    def log(self, envelopes: Sequence[Envelope]) -> dict[str, OSError]:
        """One write, one sync for the group: it stands or falls together."""
        names = [each.queue_id for each in envelopes]
        if not names:
            return {}
        try:
            self._keep()
            self._log.append(b"".join([envelope_record(each) for each in envelopes]), names)
        except OSError as error:
            return dict.fromkeys(names, error)
        self._log.entries.update({each.queue_id: Entry(each) for each in envelopes})
        self._remove_freed()
        return {}

    def confirm(self, queue_id: str) -> None:
        """`log` puts nothing off."""

    # -- delivery ---------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """By age.  A good moment to remove what is done."""
        self._settle()
        return self._names()

    def _names(self) -> list[str]:
        log = self._known()
        there = {*log.entries, *self.disk.listdir(DEFERRED)}
        return sorted(there - log.freed - self._freed.keys())

    def load(self, queue_id: str) -> Loaded:
        """From memory, or from the deferred database."""
        self._keep()
        return self.look(queue_id)

    def look(self, queue_id: str) -> Loaded:
        log = self._known()
        if not is_queue_id(queue_id):
            raise ChunkError("the file's name is no queue id")
        if queue_id in log.freed or queue_id in self._freed:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), queue_id)
        entry, end = log.entries.get(queue_id), 0
        if entry is None:
            entry, end = self._deferred(queue_id)
        handle = self.disk.open_read(content_path(queue_id))
        return Loaded(
            handle=handle,
            envelope=entry.envelope,
            marks=entry.marks,
            end=end,
            octets=self.disk.size(handle),
            head=encode_envelope(entry.envelope),
        )

    def _deferred(self, queue_id: str) -> tuple[Entry, int]:
        """What the deferred database says, and where the next mark goes there."""
        handle = self.disk.open_read(deferred_path(queue_id))
        try:
            octets = self.disk.read(handle, self.disk.size(handle), 0)
        finally:
            self.disk.close(handle)
        chunk = decode_chunk(octets)
        if chunk.envelope.queue_id != queue_id:
            raise ChunkError("the envelope belongs to another queue id")
        marks, octets_of_marks = decode_marks(octets[chunk.certified :])
        return Entry(chunk.envelope, marks), chunk.certified + octets_of_marks

    def open(self, queue_id: str) -> int:
        return self.disk.open_read(content_path(queue_id))

    def append_marks(self, queue_id: str, end: int, marks: Iterable[Mark]) -> int:
        """To the log, or to the deferred database at `end`; not synced."""
        marks = tuple(marks)
        self._keep()
        entry = self._log.entries.get(queue_id)
        if entry is None:
            _, end = self._deferred(queue_id)  # it may have come there since it was loaded
            return append_at(self.disk, deferred_path(queue_id), end, encode_marks(marks))
        self._log.append(b"".join([logged_mark(queue_id, mark) for mark in marks]))
        self._log.entries[queue_id] = Entry(entry.envelope, entry.marks + marks)
        return end

    def rested(self, queue_id: str) -> None:
        """From the log into the deferred database, if it is not there already."""
        self._keep()
        entry = self._log.entries.get(queue_id)
        if entry is None:
            return
        with suppress(FileNotFoundError):
            self.disk.unlink(deferred_path(queue_id))  # of a time that a crash cut off
        self._rest(entry)
        self._log.append(rested_record(queue_id))
        del self._log.entries[queue_id]

    def _rest(self, entry: Entry) -> None:
        queue_id, files = entry.envelope.queue_id, OpenFiles(self.disk)
        try:
            files.perform(rest_plan(queue_id, deferred_octets(entry)))
        except OSError:
            self._remove_deferred(queue_id)  # the log still has it
            raise
        finally:
            files.close()

    def free(self, queue_id: str) -> None:
        """It is done; its files go when the log's end is synced."""
        self._keep()
        self._log.append(freed_record(queue_id))
        self._log.entries.pop(queue_id, None)
        self._freed[queue_id] = None
        if len(self._freed) >= FREED_AT_ONCE:
            self._settle()

    def release(self, queue_id: str) -> None:
        """Nobody else delivers from here."""

    # -- what is done -----------------------------------------------------------------------------

    def _settle(self) -> None:
        """Sync the log's end, and remove what it says is done."""
        if self._freed:
            self._log.sync()
            self._remove_freed()

    def _remove_freed(self) -> None:
        """Only behind a sync of the log.  Raises nothing: what stays, recovery removes."""
        freed, self._freed = self._freed, {}
        for queue_id in freed:
            self._remove_deferred(queue_id)
            with suppress(OSError):
                self.disk.unlink(content_path(queue_id))

    def _remove_deferred(self, queue_id: str) -> None:
        with suppress(OSError):
            self.disk.unlink(deferred_path(queue_id))
            self._vanished = True

    def _before_roll(self) -> None:
        """The next segment will not say what was done, so it must not come back by deferred/."""
        for queue_id in self._freed:
            self._remove_deferred(queue_id)
        if self._vanished:
            self.disk.sync_dir(DEFERRED)
            self._vanished = False

    # -- the log ----------------------------------------------------------------------------------

    def _keep(self) -> None:
        """From now on the log is ours.  What it says is done goes, then it is said no more."""
        if self._keeps:
            return
        reading = Segments(self.disk)
        reading.read()
        self._freed = dict.fromkeys(sorted(reading.freed))
        self._log.open(done=self._gone(reading))
        self._remove_freed()
        for queue_id in self._log.entries.keys() & set(self.disk.listdir(DEFERRED)):
            self._remove_deferred(queue_id)  # torn: it never came to rest
        self._keeps = True

    def close(self) -> None:
        """Leave the log to others."""
        self._log.close()
        self._keeps = False

    def _gone(self, reading: Segments) -> frozenset[str]:
        """What the log has and nobody needs: without content, or at rest."""
        contents = set(self.disk.listdir(CDB))
        return frozenset(
            queue_id
            for queue_id in reading.entries
            if queue_id not in contents or self._rests(queue_id)
        )

    def _rests(self, queue_id: str) -> bool:
        """Whether the deferred database has it, whole."""
        try:
            self._deferred(queue_id)
        except (ChunkError, OSError):
            return False
        return True

    def _known(self) -> Segments:
        """What the log says: in memory if it is ours, else on the disk now."""
        if self._keeps:
            return self._log
        reading = Segments(self.disk)
        reading.read()
        return reading

    # -- what is damaged --------------------------------------------------------------------------

    def examine(self, queue_id: str) -> None:
        """Whether envelope and content are there: nothing says what the content should be."""
        self.disk.close(self.look(queue_id).handle)

    def set_aside(self, queue_id: str, reason: str) -> None:
        """Envelope and content, durably.  Doing it again after a crash ends it."""
        if is_queue_id(queue_id):
            self._keep()
            entry = self._log.entries.get(queue_id)
            if entry is not None and not self._rests(queue_id):
                self._remove_deferred(queue_id)
                self._rest(entry)
        reason = free_reason(queue_id, reason, self.disk.listdir(DAMAGED))
        moves = [
            (deferred_path(queue_id), f"{DAMAGED}/{queue_id}.envelope.{reason}"),
            (content_path(queue_id), f"{DAMAGED}/{queue_id}.{reason}"),
        ]
        there = [each for each in moves if queue_id in self.disk.listdir(each[0].partition("/")[0])]
        carry_aside(self.disk, there, DAMAGED)
        self._vanished = True
        self._log.entries.pop(queue_id, None)

    # -- after a crash ----------------------------------------------------------------------------

    def recover(self, candidates: Iterable[str] | None = None) -> Iterator[tuple[str, str]]:
        """Also while smtps works: content that is locked is about to become a message.  What
        `candidates` says concerns messages, not content that belongs to none.
        """
        self._keep()
        for name in self._names() if candidates is None else candidates:
            reason = self._recover(name)
            if reason is not None:
                yield name, reason
        for name in sorted(self.disk.listdir(CDB)):
            if not is_queue_id(name):
                yield name, self._give_up(name, "not a file of the queue", "stranger")
            elif not self._has(name):
                self._remove_orphan(name)
        self._log.remove()

    def _recover(self, queue_id: str) -> str | None:
        """One message, by the table of legal states.  None: it is done."""
        try:
            self.examine(queue_id)
        except FileNotFoundError:
            self._remove_deferred(queue_id)
            return None
        except ChunkError as error:
            return self._give_up(queue_id, str(error), "damaged")
        except OSError as error:
            if error.errno in OUT_OF_DESCRIPTORS:
                raise
            return self._give_up(queue_id, os.strerror(error.errno or 0), "damaged")
        return ""

    def _give_up(self, name: str, text: str, reason: str) -> str:
        """One such thing must not hold up all others, so what can't even be moved stays."""
        try:
            self.set_aside(name, reason)
        except OSError as error:
            return f"{text}; it stays where it is: {os.strerror(error.errno or 0)}"
        return text

    def _has(self, queue_id: str) -> bool:
        """Whether content belongs to a message, or will be removed in its turn."""
        there = self._log.entries.keys() | self._freed.keys()
        return queue_id in there or queue_id in self.disk.listdir(DEFERRED)

    def _remove_orphan(self, queue_id: str) -> None:
        """Content without an envelope, unless its writer lives: then it has it locked until the
        envelope is in the log, or never will be.
        """
        try:
            handle = self.disk.open_read(content_path(queue_id))
        except FileNotFoundError:
            return
        try:
            if self.disk.lock(handle) and not self._has(queue_id):
                self.disk.unlink(content_path(queue_id))
        finally:
            self.disk.close(handle)
