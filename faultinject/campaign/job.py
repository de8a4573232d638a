"""One case, run apart: what it starts, mounts or breaks is gone with it.

    job (here) --> unshare --> keeper (process 1 of a pid namespace) --> one (runs the case)
                                                                          '--> servers, strace, ...

Rules a reader may rely on
- As root everything runs in pid and mount namespaces of its own.  When the case ends, its time is
  up, or we die in any way, the kernel kills all that is left in them, and their mounts are gone.
  Without root, or where namespaces are forbidden, only the process that runs the case is killed,
  and what it left behind stays.
- The keeper first asks (SIGINT), so that a harness can clean up; after `GRACE_S` all is over.
- There is an outcome in any case: of a process that ended without one, or in time, it is "broken",
  with how it ended and the end of what it said.
- The directory is one of `overlay.scratch`: its owner's lock tells the next start that it may go.

The outcome comes back as JSON in a file, and nothing here is pickled: what a case has done to its
process can't reach the one that asked.  (What dask does between machines is told in `engines`.)
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from functools import cache
from typing import Final, Self

from faultinject import cases
from faultinject.campaign.records import RecordError, bounded, decode_outcome, encode_outcome
from faultinject.cases import Case, Outcome
from faultinject.overlay import scratch

#: How long a case that is told to end may clean up, in seconds.
GRACE_S: Final = 15.0
#: Beyond it, for the processes in between.
SLACK_S: Final = 5.0
APART: Final = ("unshare", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc")
#: Octets of what it said that are kept.
SAID: Final = 20_000
NAME: Final = "case"


@cache
def apart() -> tuple[str, ...]:
    """The beginning of a command line that runs the rest in namespaces; empty if it can't."""
    if os.geteuid() != 0 or shutil.which(APART[0]) is None:
        return ()
    done = subprocess.run([*APART, "true"], capture_output=True, check=False)  # noqa: S603
    return APART if done.returncode == 0 else ()


class Job:
    """A case being run, from entering the context to leaving it; leaving it early ends it."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self._cleanup = ExitStack()
        self._began_s = 0.0

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self.place, lock = undo.enter_context(scratch(NAME))
            (self.place / "case.json").write_bytes(cases.encode(self.case))
            (self.place / "run").mkdir(mode=0o711)
            self._began_s = time.monotonic()
            self._process = undo.enter_context(self._start(lock))
            undo.callback(self.end)
            self._cleanup = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def _start(self, lock: int) -> subprocess.Popen[bytes]:
        """In a session of its own: a terminal's SIGINT is ours alone."""
        python = [sys.executable, "-P", "-m", "faultinject.campaign.keeper", str(GRACE_S)]
        with (self.place / "said").open("wb") as said:
            return subprocess.Popen(  # noqa: S603
                [*apart(), *python, str(self.place)],
                stdin=subprocess.PIPE, stdout=said, stderr=said, cwd=self.place,
                start_new_session=True, pass_fds=(lock,),
            )  # fmt: skip

    def wait(self, timeout_s: float) -> Outcome:
        """What came of it.  Blocks, longer than that by what cleaning up takes."""
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.end()
            return self._broken(f"it did not end within {timeout_s:.0f} s")
        try:
            outcome = decode_outcome((self.place / "outcome.json").read_bytes())
        except FileNotFoundError:
            how = f"signal {status - 128}" if status > 128 else f"exit code {status}"
            return self._broken(f"the process that ran it ended with {how}, and no outcome")
        except RecordError as error:
            return self._broken(f"its outcome can't be read: {error}")
        if outcome.case != self.case:
            return self._broken(f"the outcome is that of another case: {outcome.case.key}")
        return outcome

    def _broken(self, reason: str) -> Outcome:
        with suppress(OSError):
            said = (self.place / "said").read_bytes()[-SAID:].decode(errors="backslashreplace")
            return self._outcome(reason, {"what it said": said} if said else {})
        return self._outcome(reason, {})

    def _outcome(self, reason: str, evidence: dict[str, str]) -> Outcome:
        return Outcome(
            case=self.case, verdict="broken", reason=reason, evidence=evidence,
            seconds=time.monotonic() - self._began_s,
        )  # fmt: skip

    def end(self) -> None:
        """Tell it to end, wait, and make sure.  Nothing if it has ended."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(GRACE_S + SLACK_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def run(octets: bytes, timeout_s: float) -> bytes:
    """A case file in, an outcome out: what is sent to another machine.  Raises CaseError."""
    case = cases.decode(octets, "what was sent")
    with Job(case) as job:
        return encode_outcome(bounded(job.wait(timeout_s)))
