"""All chosen cases against one server: many at once, each over connections of its own.

Rules a reader may rely on
- Every chosen case has one result, in the order of the cases; nothing that a server does, and no
  mistake in a case, ends the run.  A case that is not done in time is an `error`.
- What each door offers is asked once, before; a case whose keyword is not there is not carried out:
  whatever else it needs, it is not applicable.
  A door that was given and can't be connected to ends the run before it begins, as does a name
  server of ours that can't listen.
- Cases that must be alone run after the others, one by one.
- A run that is stopped has a result for each case, too: those not done are an `error`.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from specs.conformance.given import Given
from specs.conformance.model import Case, Door, Reply, Result, Verdict
from specs.conformance.session import (
    NotApplicable,
    Refused,
    Session,
    Unavailable,
    token_of,
)
from specs.conformance.testbed import laid_out
from specs.conformance.transcript import Told

#: How much longer a slow case may take, in seconds.
SLOW_S: Final = 900.0
#: Between two attempts to connect to a server that is not up yet, in seconds.
AGAIN_S: Final = 0.2


class Unreachable(Exception):
    """A door of the server can't be spoken to at all; the text says which, and how far it went."""


class NoTestbed(Exception):
    """What was given for the scripted name server and next hops can't be had; the text says why."""


@dataclass(frozen=True, slots=True)
class Offered:
    """What the EHLO of a door says; `reason`: why nothing is known of it.  connected: whether
    somebody listens there.
    """

    features: Mapping[str, str] = field(default_factory=dict)
    greeting: str = ""
    reason: str = ""
    connected: bool = True


@dataclass(slots=True, kw_only=True)
class Run:
    """One server's.  say: is told each result as it comes (for progress).  wait_s: how long the
    server may take until it listens.
    """

    given: Given
    cases: Sequence[Case]
    jobs: int = 16
    wait_s: float = 0.0
    say: Callable[[Result], None] = lambda _: None
    offered: dict[Door, Offered] = field(default_factory=dict)
    testbed: object | None = None
    #: Why it was stopped; "" if it was not.
    stopped: str = ""
    _scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    _results: dict[str, Result] = field(default_factory=dict)

    async def run(self) -> list[Result]:
        """Raises Unreachable, NoTestbed."""
        wrong: Exception | None = None
        with self._scope:
            async with laid_out(self.given) as self.testbed:
                wrong = await self._unfit()
                if wrong is None:
                    beside = [each for each in self.cases if not each.alone]
                    await self._all(beside, self.jobs)
                    await self._all([each for each in self.cases if each.alone], 1)
        if wrong is not None:
            raise wrong
        return [self._results.get(each.id) or self._not_done(each) for each in self.cases]

    @property
    def results(self) -> list[Result]:
        """Of the cases that are done."""
        return list(self._results.values())

    def stop(self, why: str) -> None:
        """What is not done is left.  Also before it begins."""
        self.stopped = why
        self._scope.cancel()

    def _not_done(self, case: Case) -> Result:
        return Result(case=case, verdict=Verdict.ERROR, saw=f"not done: {self.stopped}")

    async def _unfit(self) -> Exception | None:
        """Why it can't begin."""
        reason = getattr(self.testbed, "reason", "")
        if reason:
            return NoTestbed(reason)
        asked = {each.door for each in self.cases if self.given.address(each.door)}
        doors: list[Door] = sorted(asked | {"smtp"})
        for door in doors:
            found = self.offered[door] = await self._ask_until_there(door)
            needed = door != "smtp" or not asked or asked & {"smtp", "starttls"}
            if needed and (not found.connected or (door == "smtp" and found.reason)):
                host, port = self.given.address(door) or self.given.smtp
                return Unreachable(f"{host} port {port}: {found.reason}")
        return None

    async def _ask_until_there(self, door: Door) -> Offered:
        until_s = trio.current_time() + self.wait_s
        while (found := await self._ask(door)).reason and trio.current_time() < until_s:
            if door != "smtp" and found.connected:
                break
            await trio.sleep(AGAIN_S)
        return found

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
        async with Session(given=given, door=door, token=token, told=told) as talk:
            try:
                await talk.upto("connect")
                greeting = await talk.upto("greeting")
                await talk.upto("ehlo")
                return Offered(talk.features, greeting.text)
            except NotApplicable as keyword:
                return Offered(reason=str(keyword))
            except (Refused, Unavailable) as reason:
                return Offered(reason=str(reason))
            except (OSError, UnicodeError) as error:
                told_so = f"{type(error).__name__}: {error}"
                return Offered(reason=told_so, connected=bool(talk.stage))


def longest_s(given: Given) -> float:
    """How long one case may take: four replies at their slowest, and mail that arrives twice."""
    return max(60.0, 4 * given.timeout_s + 2 * given.patience_s)


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

    missing = given.missing(case)
    if given.address(case.door) is None:
        return ended(Verdict.UNAVAILABLE, saw=f"{missing} was not given")
    door = offered.get(case.door, Offered())
    if door.reason:
        known = door.reason == "STARTTLS"
        return ended(Verdict.NOT_APPLICABLE if known else Verdict.ERROR, saw=door.reason)
    for keyword in case.keywords:
        if keyword not in door.features:
            return ended(Verdict.NOT_APPLICABLE, saw=keyword)
    if missing:
        return ended(Verdict.UNAVAILABLE, saw=f"{missing} was not given")
    try:
        with trio.fail_after(longest_s(given) + SLOW_S * case.slow):
            token = token_of(case.id, given.seed)
            async with Session(
                given=given, door=case.door, token=token, told=told, testbed=testbed
            ) as talk:
                label, saw = _seen(await case.script(talk))
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
