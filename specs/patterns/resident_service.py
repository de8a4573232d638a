"""Resident Service, judged: rewriting an address must not cost a process.

The pattern (paper, section 4) is about small and frequent jobs.  So many addresses are rewritten
over one SMTP session, one question each, and all processes are counted before and after: whoever
answers must be the same process, by number and by the time of its start, and the system must not
have made a process for each of them (sessions and deliveries that go on meanwhile make some).

That something was rewritten at all is seen from outside: a message to an address that exists only
in a map arrives in the mailbox that the map names, and an address that no mailbox stands behind is
refused there as well as without the map.

The target says which addresses it rewrites, by the fact "rewriting" of its manifest (`FACT`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from specs.mailboxes import stored
from specs.observe.process import look
from specs.observe.waiting import within
from specs.patterns.claims import Bench, Claim, Experiment
from specs.patterns.observation import Observation, Unavailable
from specs.patterns.world import Session, session

PATTERN: Final = "resident_service"
#: {"service": the process that rewrites, "says": a domain, "means": the local one it stands for}
FACT: Final = "rewriting"
EXPERIMENT: Final = "rewritten addresses"
#: Addresses of one session: half of what RFC 5321 servers usually take for one message.
ADDRESSES: Final = 500
#: Fewer addresses per process created than this, and processes are made for them.
LEAST_PER_PROCESS: Final = 10
PATIENCE_S: Final = 30.0
Identity = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """What became of the addresses.

    before, after: (pid, start) of each process of the service.  created: names of the target's
    processes that were there after, and not before.  seconds: for all addresses, as the client
    waited, one after the other.  stranger: the code for a name that no mailbox stands behind.
    """

    service: str
    addresses: int
    accepted: int
    before: frozenset[Identity]
    after: frozenset[Identity]
    created: tuple[str, ...]
    seconds: float
    arrived: bool
    stranger: int

    def measured(self) -> str:
        """For people: the pattern's two numbers."""
        made = len(self.created)
        per = f"{self.addresses // made}" if made else f"all of {self.addresses}"
        micros = self.seconds / max(1, self.addresses) * 1e6
        return f"{per} addresses per process created; {micros:.0f} us each, for the client"


# -- the experiment -------------------------------------------------------------------------------


def rewrite_many(bench: Bench) -> Rewritten:
    """Raises Unavailable for a target that names no rewritten address, TargetError, OSError."""
    fact = bench.manifest.facts.get(FACT)
    if not isinstance(fact, Mapping):
        raise Unavailable("no address is rewritten: the target names none")
    service, says, means = (str(fact[key]) for key in ("service", "says", "means"))
    mailbox = next(each for each in sorted(bench.target.mailboxes()) if each.endswith(means))
    said = mailbox.removesuffix(means) + says
    arrived = _arrives(bench, said, bench.target.mailboxes()[mailbox])
    bench.process(service)
    everybody = _identities(bench)
    before = _of(bench, service)
    begun_s = time.monotonic()
    with session(bench.target.address) as client:
        codes, stranger = _ask(client, said, f"nobody.knows{says}")
        seconds = time.monotonic() - begun_s
        # While the session lasts, so that who answered in it is there to be seen.
        after = _of(bench, service)
        created = tuple(name for name, identity in _named(bench) if identity not in everybody)
    return Rewritten(
        service=service, addresses=len(codes), accepted=codes.count(250), before=before,
        after=after, created=created, seconds=seconds, arrived=arrived, stranger=stranger,
    )  # fmt: skip


def _ask(client: Session, said: str, nobody: str) -> tuple[list[int], int]:
    client.say("EHLO client.test")
    client.say(f"MAIL FROM:<{said}>")
    codes = [client.say(f"RCPT TO:<{said}>")[0] for _ in range(ADDRESSES)]
    return codes, client.say(f"RCPT TO:<{nobody}>")[0]


def _arrives(bench: Bench, said: str, mailbox: Path) -> bool:
    token = bench.world.token()
    if bench.world.send(bench.target.address, said, said, token)[0] != 250:
        return False
    wanted = token.encode()
    return within(PATIENCE_S, lambda: _holds(mailbox, wanted))


def _holds(mailbox: Path, token: bytes) -> bool:
    with contextlib.suppress(OSError):  # a message was moved meanwhile
        return any(token in each.octets for each in stored(mailbox))
    return False


def _named(bench: Bench) -> Iterator[tuple[str, Identity]]:
    for each in bench.target.processes():
        process = look(each.pid)
        if process is not None:
            yield each.name, (process.pid, process.started)


def _identities(bench: Bench) -> frozenset[Identity]:
    return frozenset(identity for _, identity in _named(bench))


def _of(bench: Bench, service: str) -> frozenset[Identity]:
    return frozenset(identity for name, identity in _named(bench) if name == service)


# -- predicates -----------------------------------------------------------------------------------


def addresses_are_rewritten(observation: Observation) -> tuple[str, ...]:
    """Otherwise the other claims hold for a system that does nothing."""
    seen = observation.result(EXPERIMENT, Rewritten)
    wrong = []
    if not seen.arrived:
        wrong.append("a message to a rewritten address did not arrive where the map leads")
    if not seen.addresses or seen.accepted < seen.addresses:
        wrong.append(f"only {seen.accepted} of {seen.addresses} rewritten addresses were accepted")
    if not 500 <= seen.stranger <= 599:
        wrong.append(f"a name that no mailbox stands behind is answered {seen.stranger}")
    return tuple(wrong)


def the_same_process_answers(observation: Observation) -> tuple[str, ...]:
    """By number and by start time: a number may be used again."""
    seen = observation.result(EXPERIMENT, Rewritten)
    if not seen.before:
        return (f"no {seen.service} was there before",)
    gone, new = seen.before - seen.after, seen.after - seen.before
    return (
        *(f"{seen.service} {pid} is gone" for pid, _ in sorted(gone)),
        *(f"{seen.service} {pid} was started meanwhile" for pid, _ in sorted(new)),
    )


def no_process_per_address(observation: Observation) -> tuple[str, ...]:
    seen = observation.result(EXPERIMENT, Rewritten)
    most = seen.addresses // LEAST_PER_PROCESS
    if len(seen.created) <= most:
        return ()
    kinds = ", ".join(sorted(set(seen.created)))
    return (f"{len(seen.created)} processes for {seen.addresses} addresses: {kinds}",)


CLAIMS: Final = (
    Claim(
        PATTERN,
        "addresses_are_rewritten",
        "An envelope address that a map names stands for another one, and only for that.",
        addresses_are_rewritten,
    ),
    Claim(
        PATTERN,
        "the_same_process_answers",
        "The process that rewrites is the same one before and after any number of addresses.",
        the_same_process_answers,
    ),
    Claim(
        PATTERN,
        "no_process_per_address",
        "Rewriting an address creates no process.",
        no_process_per_address,
    ),
)
EXPERIMENTS: Final = (Experiment(EXPERIMENT, rewrite_many),)
