"""All chosen cases against one server: many at once, each over connections of its own.

Rules a reader may rely on
- Every chosen case has one result, in the order of the cases; nothing that a server does, and no
  mistake in a case, ends the run.  A case that is not done in time is an `error`.
- What each door offers is asked once, before; a case whose keyword is not there is not carried out.
- Cases that must be alone run after the others, one by one.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import trio

from specs.conformance.given import Given
from specs.conformance.model import Case, Door, Reply, Result, Verdict
from specs.conformance.session import (
    NotApplicable,
    Refused,
    Session,
    Told,
    Unavailable,
    token_of,
)
from specs.conformance.testbed import laid_out

#: How long one case may take, in seconds: many replies, and mail that arrives.  A slow one: more.
CASE_S, SLOW_CASE_S = 60.0, 900.0


class Unreachable(Exception):
    """The server cannot be spoken to at all; the text says how far it went."""


@dataclass(frozen=True, slots=True)
class Offered:
    """What the EHLO of a door says; `reason`: why nothing is known of it."""

    features: Mapping[str, str] = field(default_factory=dict)
    greeting: str = ""
    reason: str = ""


@dataclass(slots=True, kw_only=True)
class Run:
    """One server's.  say: is told each result as it comes (for progress)."""

    given: Given
    cases: Sequence[Case]
    jobs: int = 16
    say: Callable[[Result], None] = lambda _: None
    offered: dict[Door, Offered] = field(default_factory=dict)
    testbed: object | None = None
    _results: dict[str, Result] = field(default_factory=dict)

    async def run(self) -> list[Result]:
        """Raises Unreachable if the first door can't be spoken to."""
        doors = {each.door for each in self.cases if not self.given.missing(each)}
        first: set[Door] = {"smtp"}
        async with laid_out(self.given) as self.testbed:
            for door in sorted(doors | first):
                self.offered[door] = await self._ask(door)
            unreachable = self.offered["smtp"].reason if doors & {"smtp", "starttls"} else ""
            if not unreachable:
                beside = [each for each in self.cases if not each.alone]
                await self._all(beside, self.jobs)
                await self._all([each for each in self.cases if each.alone], 1)
        if unreachable:
            raise Unreachable(unreachable)
        return [self._results[each.id] for each in self.cases]

    async def _all(self, cases: Iterable[Case], jobs: int) -> None:
        waiting = iter(cases)

        async def worker() -> None:
            for case in waiting:
                result = await one(case, self.given, self.offered, self.testbed)
                self._results[case.id] = result
                self.say(result)

        async with trio.open_nursery() as nursery:
            for _ in range(max(1, jobs)):
                nursery.start_soon(worker)

    async def _ask(self, door: Door) -> Offered:
        told = Told(trio.current_time())
        given, token = self.given, token_of("", self.given.seed)
        try:
            async with Session(given=given, door=door, token=token, told=told) as talk:
                await talk.upto("connect")
                greeting = await talk.upto("greeting")
                await talk.upto("ehlo")
                return Offered(talk.features, greeting.text)
        except NotApplicable as keyword:
            return Offered(reason=str(keyword))
        except (Refused, Unavailable, OSError, UnicodeError) as error:
            return Offered(reason=f"{type(error).__name__}: {error}")


async def one(
    case: Case, given: Given, offered: Mapping[Door, Offered], testbed: object | None = None
) -> Result:
    """One case's result; nothing raises.  testbed: what relayed cases share."""
    began_s = trio.current_time()
    told = Told(began_s)

    def ended(verdict: Verdict, observed: str = "", saw: str = "") -> Result:
        return Result(
            case=case, verdict=verdict, observed=observed, saw=saw,
            seconds=trio.current_time() - began_s, transcript=tuple(told.lines),
        )  # fmt: skip

    if missing := given.missing(case):
        return ended(Verdict.UNAVAILABLE, saw=f"{missing} was not given")
    door = offered.get(case.door, Offered())
    if door.reason:
        known = door.reason == "STARTTLS"
        return ended(Verdict.NOT_APPLICABLE if known else Verdict.ERROR, saw=door.reason)
    for keyword in case.keywords:
        if keyword not in door.features:
            return ended(Verdict.NOT_APPLICABLE, saw=keyword)
    try:
        with trio.fail_after(SLOW_CASE_S if case.slow else CASE_S):
            token = token_of(case.id, given.seed)
            async with Session(
                given=given, door=case.door, token=token, told=told, testbed=testbed
            ) as talk:
                observed = await case.script(talk)
    except NotApplicable as keyword:
        return ended(Verdict.NOT_APPLICABLE, saw=str(keyword))
    except Unavailable as need:
        return ended(Verdict.UNAVAILABLE, saw=str(need))
    except Refused as refused:
        return ended(Verdict.ERROR, saw=f"could not begin: {refused}")
    except trio.TooSlowError:
        return ended(Verdict.ERROR, saw="not done in time")
    except (OSError, ssl.SSLError) as error:
        return ended(Verdict.ERROR, saw=f"no connection: {error}")
    except Exception as error:  # a mistake in a case must not end the run
        return ended(Verdict.ERROR, saw=f"the case is wrong: {type(error).__name__}: {error}")
    label, saw = _seen(observed)
    if label == "421" and label not in case.allowed:  # which it may say at any time (RFC 5321 3.8)
        return ended(Verdict.ERROR, saw=f"it would not go on: {saw}")
    return ended(case.verdict_on(label), label, saw)


def _seen(observed: Reply | str | tuple[str, str]) -> tuple[str, str]:
    match observed:
        case Reply():
            return observed.label, str(observed)
        case str():
            return observed, ""
        case (label, saw):
            return label, saw
