"""The named attacks: what an attacker who has seized a process wants, and who refuses it.

`layer_of` reads the error: the filter of system calls answers EPERM to everything, Landlock EACCES
to files and ports, a jail ENOENT, an empty network ENETUNREACH.  Users and capabilities answer
EACCES or EPERM, too, so it names all who may have said it, those in force only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from specs.observe.probes import Outcome
from specs.observe.unavailable import Unavailable
from specs.patterns.manifest import Manifest

SECCOMP: Final = "seccomp"


@dataclass(frozen=True, slots=True)
class Attack:
    """name: what the attacker wants, in words.  job: of the process that he has seized
    (`Manifest.victims`).  probe: his attempt.
    """

    name: str
    job: str
    probe: str

    def victim(self, manifest: Manifest) -> str:
        """The name of the process that does that job.  Raises Unavailable."""
        try:
            return manifest.victims[self.job]
        except KeyError:
            raise Unavailable(f"the manifest does not say who is the {self.job}") from None

    def of(self, tried: Mapping[tuple[str, str], Outcome], manifest: Manifest) -> Outcome:
        """What became of it; "none" if nobody tried it.  Raises Unavailable."""
        return tried.get((self.victim(manifest), self.probe), Outcome("none"))

    @property
    def bare(self) -> bool:
        """Whether an ordinary user of a bare system could do it.  The users' layer stands for the
        file system's modes, so mail is not among what is open to all.
        """
        return self.probe in ("open_passwd", "read_other", "connect", "execute")


#: Who is seized: a client's session, who sends mail on, who writes the queue.
VICTIMS: Final = ("session", "sender", "writer")
_WORKER, _SENDER, _WRITER = VICTIMS
ATTACKS: Final = (
    Attack("a session reads another's queued mail", _WORKER, "open_message"),
    Attack("a session reads a mailbox", _WORKER, "open_delivered"),
    Attack("a session learns the users of the machine", _WORKER, "open_passwd"),
    Attack("a session reads another process's memory", _WORKER, "read_other"),
    Attack("a session goes into the inner network", _WORKER, "connect"),
    Attack("a session runs a program", _WORKER, "execute"),
    Attack("a session becomes root", _WORKER, "become_root"),
    Attack("a session mounts a file system", _WORKER, "mount"),
    Attack("the queue's writer reads a mailbox", _WRITER, "open_delivered"),
    Attack("the queue's writer sends mail out by itself", _WRITER, "connect"),
    Attack("the queue's writer runs a program", _WRITER, "execute"),
    Attack("the queue's writer becomes root", _WRITER, "become_root"),
    Attack("a sender reads another's queued mail", _SENDER, "open_message"),
    Attack("a sender reads a mailbox", _SENDER, "open_delivered"),
    Attack("a sender reads another process's memory", _SENDER, "read_other"),
    Attack("a sender runs a program", _SENDER, "execute"),
    Attack("a sender becomes root", _SENDER, "become_root"),
)
_FILES, _NETWORK, _OTHERS, _PRIVILEGES = "files", "network", "others", "privileges"
_KINDS: Final = {
    "open_message": _FILES, "open_delivered": _FILES, "open_passwd": _FILES, "execute": _FILES,
    "connect": _NETWORK, "read_other": _OTHERS, "become_root": _PRIVILEGES, "mount": _PRIVILEGES,
}  # fmt: skip
#: (what is attempted, the error): who may have said it.
ANSWERS: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    (_FILES, "EACCES"): ("users", "landlock"),
    (_FILES, "ENOENT"): ("jail",),
    (_NETWORK, "EACCES"): ("landlock",),
    (_NETWORK, "ENETUNREACH"): ("network",),
    (_OTHERS, "EPERM"): ("users", "namespace", "capabilities", "landlock"),
    (_OTHERS, "EACCES"): ("users", "capabilities"),
    (_PRIVILEGES, "EPERM"): ("users", "capabilities", "landlock"),
    (_PRIVILEGES, "EINVAL"): ("namespace",),
}


def layer_of(probe: str, outcome: Outcome, layers: Iterable[str]) -> str:
    """Who may have refused, of the layers in force: the filter of system calls alone if it is
    there and the error is its own, since it comes before everybody else.
    """
    present = set(layers)
    if outcome.result == "EPERM" and SECCOMP in present:
        return SECCOMP
    said = ANSWERS.get((_KINDS.get(probe, ""), outcome.result), ())
    return " or ".join(each for each in said if each in present) or "the kernel"
