"""`python old_kernel.py LACKING -- COMMAND...`: run a command as on a kernel that lacks something.

A filter of system calls around the command answers as such a kernel would; the real one stays as
it is.  LACKING: a key of LACKS; several are joined by commas.
"""

from __future__ import annotations

import errno
import os
import sys

import pyseccomp
from pyseccomp import Arg

NEWUSER, NEWNET, PR_SET_SECCOMP = 0x10000000, 0x40000000, 22

#: what is lacking -> (system call, its errno, conditions)
LACKS = {
    "landlock": [("landlock_create_ruleset", errno.ENOSYS, ())],
    "landlock off": [("landlock_create_ruleset", errno.EOPNOTSUPP, ())],
    "namespace": [("unshare", errno.EPERM, (Arg(0, pyseccomp.MASKED_EQ, NEWUSER, NEWUSER),))],
    "network": [("unshare", errno.EINVAL, (Arg(0, pyseccomp.MASKED_EQ, NEWNET, NEWNET),))],
    "jail": [("chroot", errno.EPERM, ())],
    "capabilities": [("capset", errno.EPERM, ())],
    "seccomp": [
        ("seccomp", errno.EINVAL, ()),
        ("prctl", errno.EINVAL, (Arg(0, pyseccomp.EQ, PR_SET_SECCOMP),)),
    ],
    "users": [("setresuid", errno.EINVAL, ())],
}


def main() -> None:
    lacking, _, *command = sys.argv[1:]
    kernel = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    for each in lacking.split(","):
        for call, number, conditions in LACKS[each]:
            kernel.add_rule(pyseccomp.ERRNO(number), call, *conditions)
    kernel.load()
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()
