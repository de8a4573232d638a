"""What the page says of each kind of fault: what is done, how much of it, and what it can't show.

A harness that has no row here is shown by its name alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Words:
    """does: a few words, for a column's head.  reach: what is exhaustive and what is sampled.
    blind: what no result of it can show.
    """

    does: str
    reach: str = ""
    blind: tuple[str, ...] = ()


HARNESSES: Final = {
    "kill": Words(
        "processes die at their system calls",
        "One process at a time: exhaustive for each script and kind of process whose case has ended"
        " (before every call that changes a file or answers). All processes at once: before each"
        " sixth call, later before each.",
        (
            "anything about power: the kernel and its page cache live on",
            "a death between two calls that has an effect on neither disk nor network",
        ),
    ),
    "crash": Words(
        "what a crash may leave on disk",
        "Of a server whose stores run in process: every distinct state that the models P1, P2 and"
        " P3 allow. Of a running server: first the 6 states that lose least and 2 by chance, later"
        " all states that lose one operation.",
        (
            "file systems as they are: the models allow more than most of them do",
            "writes through memory maps, which no tracer of system calls sees",
        ),
    ),
    "power": Words(
        "power cuts on ext4, xfs and btrfs",
        "Sampled: cuts at instants that the seed spaces, under load.",
        (
            "a missing flush of the device's own cache: all that reached the device counts",
            "torn sectors, and writes that the device reorders",
            "a missing sync of a directory, where the file system forces the name with the file",
        ),
    ),
    "disk": Words(
        "full, failing and slow disks",
        "For each fault first 3 of the server's calls, chosen by the seed, then 12, then all.",
        (
            'a device that says "synced" and has not',
            "what a failed sync leaves in the cache: pages stay dirty when a tracer makes it fail",
        ),
    ),
    "network": Words(
        "bad next hops, bad DNS",
        "Exhaustive over the table of bad destinations, a group to each case.",
        (
            "lost, delayed and reordered packets: everything is on this machine",
            "TLS and DNSSEC",
        ),
    ),
    "storm": Words(
        "random kills under load",
        "Sampled: a random process each second, and random bad next hops.",
        ("what is rarer than the kills that there was time for",),
    ),
}
#: Of all harnesses.
ALWAYS: Final = (
    "A cell that held says that these faults, on this machine, in this time, have shown nothing."
    " It is no proof.",
    "A known failure is one that this server is documented to have, with a reason. It is counted,"
    " and is no surprise.",
    "What the scheduler does is not in a seed: a case that is run again makes the same faults, and"
    " not always at the same instant.",
)
