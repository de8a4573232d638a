"""The spawner: the one code path by which compartments come to be.

It keeps root, is single-threaded, holds no mail, and imports neither trio nor any role.  It obeys
requests of the supervisor, which has no privilege: a request is a compartment's number, one
descriptor, and for a delivery agent the name of a recipient user.

Rules that hold whatever the supervisor asks:
- a compartment runs as the user that the manifest gives it, and executes what the manifest says;
- no compartment is user 0, unless the manifest calls it privileged: not one of refmta's is;
- a delivery agent runs as a user found in the table that the spawner has read itself (the
  manifest's users, then the machine's), under the rules of `stores.recipients`;
- groups, gid, uid are set in this order, checked, and only then is the program executed; it
  inherits standard error and the one descriptor, and dies with the spawner.

It starts the supervisor first, with the listening sockets, and starts it anew when it dies; all
other compartments are ended and reaped before that, so that two generations never overlap.  When
the spawner itself dies everything ends, and the service manager starts anew.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import struct
import sys
import time
from typing import Any

from refmta.processes.children import Children, StartRefused
from refmta.stores.recipients import Identity, NoRecipient, recipients

#: Descriptors of a compartment: its channel to the supervisor (the supervisor's to the spawner).
CHANNEL = 3
SUPERVISOR = 0
#: How long a supervisor that has hung up may take to exit, in seconds; then it is killed.
PATIENCE_S = 10
#: Exit codes of a child that could not become what it should (sysexits.h).
EX_NOHOME, EX_NOPERM, EX_CONFIG = 73, 77, 78
_REQUEST = struct.Struct("!H")
_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None, use_errno=True).prctl


def request(number: int, user: str = "") -> bytes:
    """What follows the token in a start request."""
    return _REQUEST.pack(number) + user.encode("ascii")


def settle(identity: Identity, parent: int) -> None:
    """Become somebody for good, at home, for as long as the parent lives.  Raises OSError,
    FileNotFoundError for a home that can't be entered.
    """
    become(identity)
    try:
        os.chdir(identity.home)
    except OSError as error:  # also when it is closed to its owner, or no directory
        raise FileNotFoundError(error.errno, f"home: {error.strerror}") from None
    die_with_parent(parent)  # after the change of user, which would undo it


def become(identity: Identity) -> None:
    """Drop to the identity for good, or stay who we are.  Raises OSError or PermissionError."""
    if identity.uid is not None and identity.gid is not None:
        os.setgroups([])
        os.setresgid(identity.gid, identity.gid, identity.gid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
        if os.getresuid() != (identity.uid,) * 3 or os.getresgid() != (identity.gid,) * 3:
            raise PermissionError("the user was not changed")
        if identity.uid == 0 or os.getgroups():
            raise PermissionError("privileges were not dropped")
    elif os.geteuid() == 0:  # it stays, without what root's own groups would open
        os.setgroups([])
    os.umask(0o007)


class Spawner:
    """Starts compartments as the manifest says."""

    def __init__(self, manifest: dict[str, Any], inherited: list[int]) -> None:
        self._compartments: list[dict[str, Any]] = manifest["compartments"]
        self._recipients = recipients(manifest)
        self._inherited = inherited
        self._stopping = False

    def run(self) -> int:
        """Until the supervisor ends by itself with 0, or was told to.  Returns the exit code."""
        pause_s = 0.0
        while True:
            born_s = time.monotonic()
            status = self._generation()
            if status == EX_CONFIG:  # a guard that is not there will not be there next time
                return EX_CONFIG
            if status == 0 or self._stopping:  # told so early, it could not yet drain: nothing ran
                return 0 if status in (0, -signal.SIGTERM) else 1
            pause_s = min(5.0, pause_s * 2 + 0.05) if time.monotonic() - born_s < 10 else 0.0
            log("supervisor ended, starting all anew", status=status, pause_s=pause_s)
            time.sleep(pause_s)

    def _generation(self) -> int:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        children = Children(ours, self.start)
        pid = self._fork(SUPERVISOR, self._identity(SUPERVISOR, ""), [theirs.fileno()])
        theirs.close()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: self._stop(pid))
        if self._stopping:
            self._stop(pid)
        try:
            children.serve()
        finally:
            children.end_all()
            ours.close()
        # The channel is closed: the supervisor is dead or dying.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL) if not _ended(pid) else None
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def _stop(self, supervisor: int) -> None:
        self._stopping = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(supervisor, signal.SIGTERM)

    def start(self, rest: bytes, descriptors: list[int]) -> int:
        """One request.  Raises StartRefused."""
        if len(rest) < _REQUEST.size or len(descriptors) != 1:
            raise StartRefused("malformed request")
        (number,) = _REQUEST.unpack_from(rest)
        if not SUPERVISOR < number < len(self._compartments):
            raise StartRefused("no such compartment")
        identity = self._identity(number, rest[_REQUEST.size :].decode("ascii", "replace"))
        return self._fork(number, identity, descriptors)

    def _identity(self, number: int, user: str) -> Identity:
        row = self._compartments[number]
        if row["per_user"]:
            try:
                return self._recipients.identity(user)
            except NoRecipient as error:
                raise StartRefused(str(error)) from None
        if user:
            raise StartRefused("this compartment has a user of its own")
        if row.get("privileged", False):
            return Identity(None, None, "/")
        if not self._recipients.rootless and not (row["uid"] and row["gid"]):
            raise StartRefused("this compartment is not privileged")
        return Identity(row["uid"], row["gid"], "/")

    def _fork(self, number: int, identity: Identity, descriptors: list[int]) -> int:
        extra = self._inherited if number == SUPERVISOR else []
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        try:
            self._exec(self._compartments[number], identity, [*descriptors, *extra], parent)
        except FileNotFoundError as error:
            log("cannot start", compartment=self._compartments[number]["name"], reason=str(error))
            os._exit(EX_NOHOME)
        except BaseException as error:
            log("cannot start", compartment=self._compartments[number]["name"], reason=str(error))
            os._exit(EX_NOPERM)
        os._exit(EX_NOPERM)  # not reached: exec does not return

    def _exec(
        self, row: dict[str, Any], identity: Identity, descriptors: list[int], parent: int
    ) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        _arrange(descriptors)
        settle(identity, parent)
        environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": identity.home}
        os.execve(sys.executable, [sys.executable, *row["arguments"]], environment)


def die_with_parent(parent: int) -> None:
    """Be killed when the parent ends; end now if it has ended already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(EX_NOPERM)


def _arrange(descriptors: list[int]) -> None:
    """The granted descriptors as 3, 4, ...; nothing else but standard error stays open."""
    high = [os.dup2(each, 200 + place) for place, each in enumerate(descriptors)]
    for place, each in enumerate(high):
        os.dup2(each, CHANNEL + place, inheritable=True)
    os.closerange(CHANNEL + len(descriptors), 65536)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0, inheritable=True)
    os.dup2(null, 1, inheritable=True)
    os.close(null)


def _ended(pid: int) -> bool:
    """Whether the supervisor has ended by itself, given PATIENCE_S to finish."""
    for _ in range(100 * PATIENCE_S):
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return True
        time.sleep(0.01)
    return False


def log(event: str, **fields: object) -> None:
    """One line on standard error."""
    line = json.dumps({"role": "spawner", "pid": os.getpid(), "event": event, **fields})
    with contextlib.suppress(OSError):
        os.write(2, line.encode() + b"\n")


def main() -> None:
    """`python -m refmta.processes.spawner MANIFEST-FD FD...`: the FDs go to the supervisor."""
    manifest_descriptor, *inherited = map(int, sys.argv[1:])
    with os.fdopen(manifest_descriptor) as file:
        manifest = json.load(file)
    sys.exit(Spawner(manifest, inherited).run())


if __name__ == "__main__":
    main()
