"""Which layers of confinement can this machine give?  Each is tried before anything starts.

Version numbers and files in /proc say what a kernel knows, not what it allows: a container, a
distribution's switch or a filter of system calls around us may refuse what the kernel could do.
So each layer is put on for real, exactly as a compartment does it (`processes.confinement`), in a
child that then ends: with the user of a compartment, on top of the layers that it rests on.

Rules
- A layer that can't be had is an error that names it, what was tried and what the kernel said; with
  `--allow-missing LAYER` it is taken away instead, and with it those that rest on it.  From then on
  its absence is part of the architecture's name, which every process is started with.
- `--allow-missing` of a layer that is there takes nothing away.
- Who is not root has no users to give: "users" is then missing without being asked for.
- That a layer went on is no proof that it holds: each compartment proves that for itself at its
  start, and refuses to start if one does not.
"""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, NoReturn

from refmta.architectures.architecture import Architecture
from refmta.architectures.catalogue import take_away, whole
from refmta.architectures.sections import FIRST_UID
from refmta.patterns import least_privilege
from refmta.patterns.defense_in_depth import RESTS_ON, without
from refmta.processes import spawner
from refmta.processes.confinement import GUARDS, Confinement
from refmta.stores.recipients import Identity

#: layer -> what its trial does, for the message.
TRIED: Final[dict[str, str]] = {
    "users": "setgroups, setresgid, setresuid to a compartment's id",
    "namespace": "unshare(CLONE_NEWUSER) and writing its id maps",
    "network": "unshare(CLONE_NEWNET) in a user namespace",
    "jail": "chroot in a user namespace",
    "capabilities": "prctl(PR_SET_NO_NEW_PRIVS), capset, prctl(PR_SET_DUMPABLE)",
    "landlock": "landlock_create_ruleset, landlock_restrict_self",
    "seccomp": "loading a filter by libseccomp",
}
NO_ROOT: Final = "started without root"
BY_NAME: Final = "taken away by the architecture's name"
#: More than any message of a trial has.
_REPORT_OCTETS: Final = 4000


@dataclass(frozen=True, slots=True)
class Missing:
    """A layer that this machine does not give.  number: what the kernel said (errno), 0 if it was
    something else (a library that is not there).
    """

    layer: str
    number: int
    text: str

    @property
    def reason(self) -> str:
        """What was tried, and what came of it: for the log."""
        said = errno.errorcode.get(self.number, "")
        return f"{TRIED[self.layer]}: {self.text}" + (f" ({said})" if said else "")

    @property
    def problem(self) -> str:
        """The same for whoever starts the server, with the way out."""
        also = [each for each, needs in RESTS_ON.items() if self.layer in needs]
        resting = f", and of {' and '.join(also)}, which rest on it" if also else ""
        return (
            f"layer {self.layer}: missing on this machine: {self.reason}; to start without it"
            f"{resting}: --allow-missing {self.layer}"
        )


@dataclass(frozen=True, slots=True)
class Fitting:
    """What can be started here.  missing: layer -> why it is not there.  problems: layers that the
    machine lacks and that nobody has allowed to be missing.
    """

    architecture: Architecture
    missing: dict[str, str]
    problems: tuple[str, ...]


def fit(architecture: Architecture, allowed: Collection[str], *, uid: int = FIRST_UID) -> Fitting:
    """The architecture without what this machine lacks, as far as that is allowed.

    uid: a compartment's id, which the trials run with; nobody else's.  Raises OSError (fork).
    """
    root = os.getuid() == 0
    chosen = architecture if root else take_away(architecture, ("users",))
    found = lacking(chosen.layers, uid)
    refused = tuple(each.problem for each in found if each.layer not in allowed)
    final = take_away(chosen, [each.layer for each in found]) if found else chosen
    reasons = {each.layer: each.reason for each in found}
    return Fitting(final, why_missing(final, reasons, root=root), refused)


def why_missing(
    architecture: Architecture, reasons: dict[str, str], *, root: bool
) -> dict[str, str]:
    """Each layer that the architecture should have and does not, and why."""
    gone = [each for each in whole(architecture.name).layers if each not in architecture.layers]
    found = {} if root else {"users": NO_ROOT}
    for layer in gone:
        resting = [each for each in RESTS_ON.get(layer, ()) if each in gone]
        default = f"rests on {resting[0]}" if resting else BY_NAME
        found.setdefault(layer, reasons.get(layer, default))
    return {layer: found[layer] for layer in gone if layer in found}


def lacking(layers: Iterable[str], uid: int) -> list[Missing]:
    """The layers that this machine does not give; not those that only rest on one of these."""
    found: list[Missing] = []
    for layer in layers:
        left = without(layers, [each.layer for each in found])
        if layer in left:
            missing = trial(layer, uid if "users" in left else None)
            if missing is not None:
                found.append(missing)
    return found


# -- one trial, in a child ------------------------------------------------------------------------


def trial(layer: str, uid: int | None) -> Missing | None:
    """Put one layer on in a child, as that user; None if that went well.  Raises OSError (fork)."""
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _child(layer, uid, theirs)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        report = pipe.read(_REPORT_OCTETS).decode("utf-8", "replace")
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == 0:
        return None
    if status < 0:
        return Missing(layer, 0, f"the trial was ended by signal {-status}")
    number, _, text = report.partition("\n")
    return Missing(layer, int(number or 0), text or "it failed without a word")


def _child(layer: str, uid: int | None, report: int) -> NoReturn:
    """Whatever happens, this process ends here."""
    try:
        _put_on(layer, uid)
        os._exit(0)
    except OSError as error:
        said = f"{error.errno or 0}\n{error.strerror or error}"
    except BaseException as error:
        said = f"0\n{' '.join(traceback.format_exception_only(error)).strip()}"
    os.write(report, said.encode("utf-8", "replace")[:_REPORT_OCTETS])
    os._exit(1)


def _put_on(layer: str, uid: int | None) -> None:
    """As a compartment does.  Raises whatever the libraries raise."""
    if uid is not None:
        _become(uid)
    if layer == "users":
        return
    below = (*RESTS_ON.get(layer, ()), layer)
    plan = Confinement(
        compartment="trial", layers=frozenset(below), jail="/", kinds=("supervisor",)
    )
    if layer in ("landlock", "seccomp"):  # the kernel wants it from whoever has no privilege
        least_privilege.gain_nothing()
    for each in below:
        GUARDS[each].put_on(plan)


def _become(uid: int) -> None:
    spawner.become(Identity(uid, uid, "/"))
    # A compartment is executed after this, which makes /proc/self its own; here it is still root's.
    least_privilege.be_transparent()
