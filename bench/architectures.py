"""Our roles in every architecture, a column for each: what a decision costs or saves, in one run.

All of them do the same work, so what differs is how processes are made, what they say to each
other, and what they sync.  Columns are compared with one another and with no other server: beside
Debian's Postfix stands only the architecture that is ours (`bench.throughput`).

A message is seen when it lies in the mailbox; where that is one file (sendmail), it is seen before
the sync that makes it durable, elsewhere behind the sync of its file.
"""

from __future__ import annotations

from bench.load import Shape

#: Ours delivers at least what the fastest of the others does.
AIM = 1.0
#: Under which load the syncs are counted.
SYNCS = Shape(clients=20, messages=200, kept=True)


def shapes(quick: bool) -> list[Shape]:
    """One client, whose time is the latency of every step; twenty, with a connection for each
    message, and with theirs kept open; and a message for sixteen users.
    """
    messages = 300 if quick else 1000
    return [
        Shape(clients=1, messages=messages // 3),
        Shape(clients=20, messages=messages),
        Shape(clients=20, messages=messages, kept=True),
        Shape(clients=20, messages=messages // 5, kept=True, recipients=16),
    ]
