"""Defense in Depth: independent guards around each compartment, in a fixed order, each proved.

Context (paper, section 3): every mechanism fails some day: a kernel's, a library's, ours.
Problem: a system that rests on one idea falls with it.
Forces: a layer costs time at each start, and what it forbids is missed at the worst moment.
Solution: layers that do not know of one another, applied in an order in which none undoes or
needs another that comes later; after the last one the compartment tries to get back out, and
refuses to start if any attempt succeeds.
Observable claim: take any one layer away, and a named attack still fails at another one.

This file is the list and the order.  What a layer does is in the pattern that it belongs to:
`chroot_jail`, `least_privilege`, `compartmentalization`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

#: layer -> what it is, in the order in which they are put on.
LAYERS: Final[dict[str, str]] = {
    "users": "a user of its own for each compartment",
    "namespace": "a user namespace of its own, without which there is neither jail nor network",
    "network": "an empty network for whoever needs none",
    "jail": "an empty directory, or the one it works in, as its root",
    "capabilities": "no capability, none to be had, no new privileges, not dumpable",
    "landlock": "no file but those below its own directories, no TCP port, no signal outwards",
    "seccomp": "no system call but those that were seen to be needed",
}
#: layer -> what it can't do without.
RESTS_ON: Final[dict[str, tuple[str, ...]]] = {"network": ("namespace",), "jail": ("namespace",)}


def without(layers: Iterable[str], taken: Iterable[str]) -> tuple[str, ...]:
    """The layers that are left, in their order, when some and all that rest on them are taken."""
    gone = set(taken)
    gone |= {each for each, needs in RESTS_ON.items() if gone & set(needs)}
    return tuple(each for each in LAYERS if each in set(layers) - gone)
