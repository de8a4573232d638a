"""What is committed while the machine crashes.

- one: one message in three writes; under `fine` tearing each write is cut in turn.
- large: a message with a block of more than two pages, cut at multiples of 4096.
- remains: one message, whose file is given blocks of a message that was committed and freed
  before: garbage is then the valid records of an old message.
- concurrent: two messages, each committed by a plan of its own, their operations interleaved: in
  turn, one inside the other at each point, and one behind the other by each distance.
- group: three messages in one group commit.
- overlapping: two concurrent messages, each in three writes or more.

Some stores say that some of these tell nothing new of them (`apt`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from specs.persistence.enumerate import Run, Workload
from specs.persistence.model_disk import ModelDisk
from specs.persistence.octets import FINE, Tearing
from specs.persistence.protocols import CommitStore, Message, Operation


def message(token: str, blocks: int, size: int = 12) -> Message:
    """A message whose octets name it and say where they belong."""
    texts = (f"{token} block {number} ".encode() for number in range(blocks))
    return Message(
        token=token, blocks=tuple((text * (1 + size // len(text)))[:size] for text in texts)
    )


def empty(store: CommitStore) -> ModelDisk:
    """The store's disk before anything happens to it."""
    return ModelDisk.from_tree(getattr(store, "files", {}), store.directories)


def record(store: CommitStore, plan: Sequence[Operation]) -> Run:
    """Execute a plan on an empty store."""
    disk = empty(store)
    initial = disk.snapshot()
    disk.execute(plan)
    return Run(initial=initial, operations=tuple(disk.record))


def together(store: CommitStore, messages: tuple[Message, ...]) -> Iterator[Run]:
    """One plan for all messages."""
    yield record(store, store.plan(messages))


def interleaved(store: CommitStore, messages: tuple[Message, ...]) -> Iterator[Run]:
    """Two plans, merged by each of the schedules."""
    first, second = (store.plan([message]) for message in messages)
    for schedule in schedules(first, second):
        yield record(store, schedule)


def schedules(first: Sequence[Operation], second: Sequence[Operation]) -> Iterator[list[Operation]]:
    """Merged plans in which each keeps its own order."""
    for inside in range(len(first)):
        yield [*first[:inside], *second, *first[inside:]]
    for behind in range(len(first)):
        merged = list(first[:behind])
        for number in range(max(len(first) - behind, len(second))):
            merged += second[number : number + 1]
            merged += first[behind + number : behind + number + 1]
        yield merged


def remains(store: CommitStore) -> Tearing:
    """Garbage is what the largest file of an older message held when it was largest."""
    disk, largest = empty(store), b""
    for operation in store.plan([message("m0", 3)]):
        disk.execute([operation])
        largest = max((largest, *disk.snapshot().contents), key=len)
    return Tearing(stale=largest)


ONE = Workload(name="one message in three writes", messages=(message("m1", 3),), runs=together)
FINELY = Workload(
    name="one message in three writes, each torn",
    messages=(message("m1", 3),),
    runs=together,
    tearing=lambda _: FINE,
)
LARGE = Workload(
    name="one large message, torn by 4096",
    messages=(message("m1", 1, 9_000),),
    runs=together,
    tearing=lambda _: FINE,
)
REMAINS = Workload(
    name="one message over the remains of another",
    messages=(message("m1", 3),),
    runs=together,
    tearing=remains,
)
CONCURRENT = Workload(
    name="two concurrent messages",
    messages=(message("m1", 1), message("m2", 1)),
    runs=interleaved,
)
OVERLAPPING = Workload(
    name="two concurrent messages, each in three writes",
    messages=(message("m1", 2), message("m2", 2)),
    runs=interleaved,
)
GROUP = Workload(
    name="a group of three",
    messages=(message("m1", 1), message("m2", 1), message("m3", 1)),
    runs=together,
)
WORKLOADS = (ONE, REMAINS, CONCURRENT, GROUP, FINELY, LARGE)


def apt(store: CommitStore, workloads: Sequence[Workload] = WORKLOADS) -> tuple[Workload, ...]:
    """Those that may say something new of this store; see `protocols.CommitStore`."""
    apart, told = getattr(store, "apart", False), getattr(store, "told", False)
    return tuple(
        each
        for each in workloads
        if not (apart and len(each.messages) > 1)
        and not (told and (each.runs is interleaved or each.tearing(store).fine))
    )
