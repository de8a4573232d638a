"""Who wrote which event of a trace: one process, from its start to its end.

The kernel gives a process id out again, and who is killed says nothing any more. So the file is
read once, in its order, for what it tells of lives:

- a process numbers its events from 1; a second number 1, after its end was said, begins another
  life of its id;
- NAME.ended is said by the parent, when the dead one was reaped: `process` is its id, `status` its
  exit code, or minus the signal; "0" says that it had finished. Without `process` the writer's own
  id is meant;
- a process may have several roles: NAME.ended is the end of NAME, and of every role in whose name
  it has spoken;
- events of a pool's worker carry `pool`, the id of its parent: they end together, but a worker may
  speak for some milliseconds after its parent's end was said, and also for the first time then;
- supervisor.started begins a generation: all processes of an earlier one are dead. One that speaks
  all the same is a ghost: two generations must not work on the same mail.

What comes out: the same events with an id of their own for each life, the *context* (which lives
have ended, and which of these before they had finished), and what ghosts have said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

#: Ids of later lives lie above those that the kernel gives out.
LIFE = 1 << 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that a process says it has done; `sequence` counts within the process."""

    pid: int
    sequence: int
    action: str
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def role(self) -> str:
        return self.action.partition(".")[0]

    def __str__(self) -> str:
        fields = ", ".join(f"{name}={value}" for name, value in self.fields.items())
        return f"{self.action}({fields}) by process {self.pid % LIFE}, its event {self.sequence}"


Context = frozenset[tuple[str, int]]
"""What is known of processes: (action, life). "NAME.ended", and "NAME.died" if it had not finished;
any other event without a key, as it is. Life 0 stands for "some process".
"""


@dataclass(slots=True)
class Lives:
    """The file as far as it was read."""

    current: dict[int, int] = field(default_factory=dict)
    roles: dict[int, set[str]] = field(default_factory=dict)
    workers: dict[int, set[int]] = field(default_factory=dict)
    #: Who is dead, and whether it had finished.
    dead: dict[int, bool] = field(default_factory=dict)
    begun: set[int] = field(default_factory=set)
    context: set[tuple[str, int]] = field(default_factory=set)
    former: set[int] = field(default_factory=set)
    ghosts: list[Event] = field(default_factory=list)

    def take(self, event: Event) -> Event:
        """The next event, with its writer's own id."""
        life = self._life(event.pid, begins=event.sequence == 1)
        if event.action == "supervisor.started":
            self._generation_ends()
        if event.action.endswith(".ended"):
            finished = event.fields.get("status") == "0"
            process = event.fields.get("process", "")
            dead = self._life(int(process), begins=False) if process.isdigit() else life
            self._ends({event.role, *self.roles.get(dead, ())}, dead, finished=finished)
        elif event.role != "supervisor":
            self.roles.setdefault(life, set()).add(event.role)
        pool = event.fields.get("pool", "")
        if pool.isdigit():
            parent = self._life(int(pool), begins=False)
            if parent in self.dead:
                self._ends(self.roles.get(life, ()), life, finished=self.dead[parent])
            else:
                self.workers.setdefault(parent, set()).add(life)
        taken = replace(event, pid=life) if life != event.pid else event
        if life in self.former:
            self.ghosts.append(taken)
        return taken

    def _life(self, pid: int, *, begins: bool) -> int:
        life = self.current.setdefault(pid, pid)
        if begins:
            if life in self.dead and life in self.begun:
                life = self.current[pid] = life + LIFE
            self.begun.add(life)
        return life

    def _ends(self, roles: Iterable[str], life: int, *, finished: bool) -> None:
        self.dead[life] = finished
        how = ("ended",) if finished else ("ended", "died")
        for role in roles:
            self.context |= {(f"{role}.{each}", whose) for each in how for whose in (life, 0)}
        for worker in self.workers.pop(life, set()) - self.dead.keys():
            self._ends({*roles, *self.roles.get(worker, ())}, worker, finished=finished)

    def _generation_ends(self) -> None:
        for life, roles in self.roles.items():
            if life not in self.dead:
                self._ends(roles, life, finished=False)
                self.former.add(life)


class Told(NamedTuple):
    """The events, each with the id of its writer's life; what is known of processes; and those
    events whose writers should have been dead.
    """

    events: list[Event]
    context: set[tuple[str, int]]
    ghosts: list[Event]


def told_apart(events: Iterable[Event]) -> Told:
    """Who wrote which event."""
    lives = Lives()
    return Told([lives.take(event) for event in events], lives.context, lives.ghosts)
