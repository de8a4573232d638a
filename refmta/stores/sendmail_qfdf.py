"""sendmail's queue: a data file and a control file for each message, shared by many processes.

    lock and write mqueue/dfID; sync it; make mqueue/qfID, lock it, write it; sync it; reply 250

The qf says what is to be done, so it is the commit: a df without a qf is nothing.  Its lines are
those of sendmail (queueup() in queue.c), ended by a line with a dot, which tells a whole qf from
one that was cut short.  Nothing certifies the df: it is the content, raw, and what a crash makes of
it is delivered if the qf is whole.  The syncs stand between the two, and the option SuperSafe says
which there are:

    true         the df is synced before the qf is made, the qf before the reply
    interactive  as true, but only if the first attempt leaves something (`confirm`): what was
                 delivered before the reply never needed the disk.  Safe only where the reply
                 waits for the first attempt, as in sendmail's delivery mode of that name
    false        nothing is synced, ever

No directory is synced when a message is queued: queueup() does so only when it rewrites a qf.  On a
file system where the sync of a new file does not cover its name, acknowledged mail can vanish.

A qf (`stores.sendmail_control`) is rewritten after each attempt, as tfID renamed to qfID; who is
done has no R line any more.  SuperSafe syncs the tf before and after the rename, and then the
directory, unless `requires_dir_fsync` is false (RequiresDirfsync, on by default under Linux).

Legal states of a message (the instant of commit is the return of the qf's sync):

    df                  being written, by the process that has it locked; else a crash: it goes
    df, qf torn         being committed, df and qf locked; else a crash: both are set aside
    df, qf              committed; being delivered by the process that has the qf locked
    df, qf, tf          the qf is being rewritten; else a crash: the tf goes
    qf                  its df was lost in a crash: set aside, with that reason
    any, damaged/       being set aside, or set aside
    none                refused, aborted, or every recipient is done

What a crash may do (models of `specs/persistence`, SuperSafe true): under P1 nothing.  Under P2 and
P3 a qf that is being replaced may be truncated first, and is set aside as torn; and a df that is
being removed may be truncated while its qf stays, so that an empty message is delivered again.
Under P3 the names of a new message may be lost although it was acknowledged.  With SuperSafe false
it may be lost or torn under each of them.

Several processes work on it at once, so every lock is asked for and none is waited for
(`Claimed`).  A lock belongs to a file, not to its name; so whoever got it looks the name up once
more, and whoever removes or replaces a name does so under its lock:

- the df's lock is its writer's, until the message is committed or discarded;
- the qf's lock is with the one who delivers it, from `load` to `release`.

`recover` runs beside others at will: what is locked is somebody's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar, Final

from refmta.patterns.unique_atomic_chunks import Disk, Op
from refmta.protocol.delivery import Mark
from refmta.stores.queue import Claimed, Loaded
from refmta.stores.raw_draft import RawDraft, create_locked
from refmta.stores.sendmail_control import (
    CONTROL_OCTETS,
    Control,
    decode_control,
    encode_control,
    marked,
)
from refmta.stores.steps import OUT_OF_DESCRIPTORS, carry_aside, free_reason
from refmta.wire.envelope import ChunkError, Envelope, encode_envelope, is_queue_id

QUEUE: Final = "mqueue"
DAMAGED: Final = "damaged"
#: QueueFileMode: whose the directory is decides who gets at the files; sendmail's own is for one
#: user, and so without a group.
MODE: Final = 0o660
#: Which syncs there are before the reply.
SUPER_SAFE: Final = ("true", "interactive", "false")


def df_path(queue_id: str) -> str:
    """Where a message's content lies."""
    return f"{QUEUE}/df{queue_id}"


def qf_path(queue_id: str) -> str:
    """Where its control file lies."""
    return f"{QUEUE}/qf{queue_id}"


def tf_path(queue_id: str) -> str:
    """Where its next control file is written."""
    return f"{QUEUE}/tf{queue_id}"


# -- plans: pure ----------------------------------------------------------------------------------


def commit_plan(queue_id: str, control: bytes, super_safe: str = "true") -> list[Op]:
    """Make a written df durable, then the qf that makes it a message: the order is the argument."""
    df, qf = df_path(queue_id), qf_path(queue_id)
    plan = [Op("create", qf), Op("write", qf, control)]
    if super_safe == "true":
        plan = [Op("sync", df), *plan, Op("sync", qf)]
    return [*plan, Op("reply", qf)]


def confirm_plan(queue_id: str) -> list[Op]:
    """What SuperSafe "interactive" has put off."""
    return [Op("sync", df_path(queue_id)), Op("sync", qf_path(queue_id))]


def rewrite_plan(
    queue_id: str, control: bytes, super_safe: str = "true", *, sync_directory: bool = True
) -> list[Op]:
    """Another qf in the place of this one.  It is synced before it takes the place: else a crash
    could leave neither; and after it (for file systems where that makes the rename durable).
    """
    qf, tf = qf_path(queue_id), tf_path(queue_id)
    plan = [Op("create", tf), Op("write", tf, control), Op("rename", tf, target=qf)]
    if super_safe == "false":
        return plan
    plan = [*plan[:2], Op("sync", tf), plan[2], Op("sync", qf)]
    return [*plan, Op("sync_dir", QUEUE)] if sync_directory else plan


# -- the store ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Claim:
    """A message that this process has locked.  holders: how often it was loaded."""

    handle: int
    control: Control
    holders: int = 1


class SendmailQfdf:
    """`stores.queue.QueueStore`, for as many processes as there are.

    super_safe, requires_dir_fsync: sendmail's options SuperSafe and RequiresDirfsync; see above.
    """

    logs_envelopes: ClassVar[bool] = False

    def __init__(
        self, disk: Disk, super_safe: str = "true", requires_dir_fsync: str = "true"
    ) -> None:
        """Raises ValueError for an option that there isn't."""
        if super_safe not in SUPER_SAFE or requires_dir_fsync not in ("true", "false"):
            raise ValueError("super_safe or requires_dir_fsync is not what sendmail knows")
        self.disk = disk
        self._super_safe = super_safe
        self._sync_directory = requires_dir_fsync == "true"
        self._claims: dict[str, Claim] = {}

    # -- the way in -------------------------------------------------------------------------------

    def draft(self, envelope: Envelope) -> RawDraft:
        """It is called by its qf: that is the commit."""
        queue_id = envelope.queue_id
        return RawDraft(self.disk, envelope, df_path(queue_id), qf_path(queue_id), MODE)

    def commit(self, group: Sequence[RawDraft]) -> dict[str, OSError]:
        """One after the other: sendmail knows no groups.  Nothing stays claimed."""
        failures = {}
        for draft in group:
            try:
                self._commit(draft)
            except OSError as error:
                failures[draft.path] = error
        return failures

    def _commit(self, draft: RawDraft) -> None:
        if draft.handle is None:
            raise ValueError("the draft was not finished")
        control = encode_control(Control(envelope=draft.envelope))
        plan = commit_plan(draft.envelope.queue_id, control, self._super_safe)
        handles = {draft.content: draft.handle}
        try:
            self._carry_out(plan, handles)
        except OSError:
            if draft.path in handles:  # it was refused, so it must not be delivered
                with suppress(OSError):
                    self.disk.unlink(draft.path)
            raise
        finally:
            if draft.path in handles:
                self.disk.close(handles[draft.path])

    def _carry_out(self, plan: Iterable[Op], handles: dict[str, int]) -> None:
        """Carry out a plan.  What it creates is locked before anything is written; `handles` are
        the open files by name, and keep up with it.  Raises the first OSError.
        """
        for op in plan:
            match op.kind:
                case "create":
                    handles[op.path] = create_locked(self.disk, op.path, MODE)
                case "write":
                    self.disk.write(handles[op.path], op.data)
                case "sync":
                    self.disk.sync(handles[op.path])
                case "rename":
                    self.disk.rename(op.path, op.target)
                    handles[op.target] = handles.pop(op.path)
                case "sync_dir":
                    self.disk.sync_dir(op.path)

    def log(self, envelopes: Sequence[Envelope]) -> dict[str, OSError]:
        """A qf holds its envelope."""
        return {}

    def confirm(self, queue_id: str) -> None:
        """Sync what SuperSafe "interactive" has put off; raises OSError."""
        if self._super_safe != "interactive":
            return
        for op in confirm_plan(queue_id):
            handle = self.disk.open_append(op.path)
            try:
                self.disk.sync(handle)
            finally:
                self.disk.close(handle)

    # -- delivery ---------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Queue ids that have a qf, and strangers by their own names."""
        found = set()
        for name in self.disk.listdir(QUEUE):
            if not _is_ours(name):
                found.add(name)
            elif name[:2] == "qf":
                found.add(name[2:])
        return sorted(found)

    def load(self, queue_id: str) -> Loaded:
        """Claim it, and read it.  As often as it is loaded it has to be released."""
        claim = self._claims.get(queue_id)
        if claim is None:
            self._claims[queue_id] = claim = self._claim(queue_id)
        else:
            claim.holders += 1
        try:
            return self._loaded(claim.control)
        except BaseException:
            self.release(queue_id)
            raise

    def look(self, queue_id: str) -> Loaded:
        return self._loaded(self._read_control(queue_id))

    def _loaded(self, control: Control) -> Loaded:
        queue_id = control.envelope.queue_id
        try:
            handle = self.disk.open_read(df_path(queue_id))
        except FileNotFoundError:
            raise ChunkError("its content is missing") from None
        return Loaded(
            handle=handle,
            envelope=control.envelope,
            marks=control.marks,
            end=control.written,
            octets=self.disk.size(handle),
            head=encode_envelope(control.envelope),
        )

    def open(self, queue_id: str) -> int:
        return self.disk.open_read(df_path(queue_id))

    def append_marks(self, queue_id: str, end: int, marks: Iterable[Mark]) -> int:
        """Rewrite the qf.  `end` is how often that was done; the claim knows it, too."""
        held = queue_id in self._claims
        claim = self._claims[queue_id] if held else self._claim_or_fail(queue_id)
        try:
            self._rewrite(claim, marked(claim.control, marks))
        finally:
            if not held:
                self.disk.close(claim.handle)
        return claim.control.written

    def _rewrite(self, claim: Claim, control: Control) -> None:
        queue_id = control.envelope.queue_id
        qf, tf = qf_path(queue_id), tf_path(queue_id)
        with suppress(FileNotFoundError):
            self.disk.unlink(tf)  # of a rewriting that was cut off: whoever has the qf has the tf
        plan = rewrite_plan(
            queue_id, encode_control(control), self._super_safe, sync_directory=self._sync_directory
        )
        handles: dict[str, int] = {}
        try:
            self._carry_out(plan, handles)
        except OSError:
            if tf in handles:
                self.disk.close(handles[tf])
                with suppress(OSError):
                    self.disk.unlink(tf)
            raise
        finally:
            if qf in handles:  # it took the place, with its lock
                self.disk.close(claim.handle)
                claim.handle, claim.control = handles[qf], control

    def rested(self, queue_id: str) -> None:
        """It waits where it lies."""

    def free(self, queue_id: str) -> None:
        """The qf first: what a crash leaves is a df without one, which is nothing."""
        try:
            self.disk.unlink(qf_path(queue_id))
            with suppress(FileNotFoundError):
                self.disk.unlink(df_path(queue_id))
        finally:
            self._let_go(queue_id)

    def release(self, queue_id: str) -> None:
        claim = self._claims.get(queue_id)
        if claim is None:
            return
        claim.holders -= 1
        if claim.holders == 0:
            self._let_go(queue_id)

    def _let_go(self, queue_id: str) -> None:
        claim = self._claims.pop(queue_id, None)
        if claim is not None:
            self.disk.close(claim.handle)

    # -- claims -----------------------------------------------------------------------------------

    def _claim(self, queue_id: str) -> Claim:
        """Lock the qf.  Raises Claimed, ChunkError, FileNotFoundError, OSError."""
        if not is_queue_id(queue_id):
            raise ChunkError("the file's name is no queue id")
        handle = self.disk.open_change(qf_path(queue_id))
        try:
            # Its writer locks it before the first octet.
            if self.disk.size(handle) == 0 or not self.disk.lock(handle):
                raise Claimed(queue_id)
            octets = self.disk.read(handle, CONTROL_OCTETS, 0)
            # Whoever had the lock before may have put another qf in its place; `written` differs.
            if octets != self._read(qf_path(queue_id)):
                raise Claimed(queue_id)
            return Claim(handle, decode_control(octets, queue_id))
        except BaseException:
            self.disk.close(handle)
            raise

    def _claim_or_fail(self, queue_id: str) -> Claim:
        try:
            return self._claim(queue_id)
        except (Claimed, ChunkError) as error:
            raise BlockingIOError(f"{qf_path(queue_id)}: {error}") from error

    def _read_control(self, queue_id: str) -> Control:
        if not is_queue_id(queue_id):
            raise ChunkError("the file's name is no queue id")
        return decode_control(self._read(qf_path(queue_id)), queue_id)

    def _read(self, path: str) -> bytes:
        handle = self.disk.open_read(path)
        try:
            return self.disk.read(handle, CONTROL_OCTETS, 0)
        finally:
            self.disk.close(handle)

    # -- what is damaged --------------------------------------------------------------------------

    def examine(self, queue_id: str) -> None:
        """Whether its qf is whole and its df is there: nothing says what the df should hold."""
        self.disk.close(self.look(queue_id).handle)

    def set_aside(self, queue_id: str, reason: str) -> None:
        """Both files, durably.  Doing it again after a crash ends it."""
        ours = is_queue_id(queue_id)
        names = [f"qf{queue_id}", f"df{queue_id}"] if ours else [queue_id]
        there = set(self.disk.listdir(QUEUE))
        reason = free_reason(queue_id, reason, self.disk.listdir(DAMAGED))
        moves = [(f"{QUEUE}/{each}", f"{DAMAGED}/{each}.{reason}") for each in names]
        moves = [move for name, move in zip(names, moves, strict=True) if name in there]
        carry_aside(self.disk, moves, DAMAGED)
        self._let_go(queue_id)

    # -- after a crash ----------------------------------------------------------------------------

    def recover(self, candidates: Iterable[str] | None = None) -> Iterator[tuple[str, str]]:
        """Beside others at will: what is locked is theirs, and is left alone."""
        wanted = None if candidates is None else set(candidates)
        for name in _units(self.disk.listdir(QUEUE)):
            if wanted is not None and name not in wanted:
                continue
            try:
                reason = self._recover(name)
            except OSError as error:
                if error.errno in OUT_OF_DESCRIPTORS:
                    raise
                reason = self._give_up(name, error)
            if reason is not None:
                yield name, reason

    def _give_up(self, name: str, error: OSError) -> str:
        """Set aside what can't be read (a directory, a file of another's).  One such thing must not
        hold up all others, so what can't even be moved stays, and is named.
        """
        text = os.strerror(error.errno or 0)
        try:
            self.set_aside(name, "damaged")
        except OSError as second:
            return f"{text}; it stays where it is: {os.strerror(second.errno or 0)}"
        return text

    def _recover(self, queue_id: str) -> str | None:
        """One message, by the table of legal states.  None: it is nobody's business."""
        if not is_queue_id(queue_id):
            self.set_aside(queue_id, "stranger")
            return "not a file of the queue"
        held: list[int] = []
        try:
            if not self._lock(df_path(queue_id), held):
                return None  # being written
            if not self._lock(qf_path(queue_id), held):
                return ""  # being delivered
            return self._mend(queue_id)
        finally:
            for handle in held:
                self.disk.close(handle)

    def _lock(self, path: str, held: list[int]) -> bool:
        """Whether it is ours now, or not there at all."""
        try:
            held.append(self.disk.open_append(path))
        except FileNotFoundError:
            return True
        return self.disk.lock(held[-1])

    def _mend(self, queue_id: str) -> str | None:
        with suppress(FileNotFoundError):
            self.disk.unlink(tf_path(queue_id))
        try:
            self.examine(queue_id)
        except FileNotFoundError:
            with suppress(FileNotFoundError):
                self.disk.unlink(df_path(queue_id))
            return None
        except ChunkError as error:
            self.set_aside(queue_id, "torn" if "cut short" in str(error) else "damaged")
            return str(error)
        return ""


def _is_ours(name: str) -> bool:
    return name[:2] in ("qf", "df", "tf") and is_queue_id(name[2:])


def _units(names: Iterable[str]) -> list[str]:
    """What recovery looks at, by age: queue ids, and strangers by their own names."""
    return sorted({name[2:] if _is_ours(name) else name for name in names})
