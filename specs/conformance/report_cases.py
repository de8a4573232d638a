"""What cases about reports share: one question to two reports, on a delivery and on a failure; and
what has come before a report that does not come.

    both = Both(here=here)
    both("2.1-blocks", blocks, level="MUST", clauses="...", requirement="...", allowed={...})
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from specs.conformance.model import Level, Seen, Verdict
from specs.conformance.reports import (
    Failing,
    Report,
    failing,
    hand_in,
    in_form,
    of_delivery,
    of_failure,
    unwanted,
    wait,
)
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Refused, Session, Unavailable

Look = Callable[[Report], Seen]
Provoke = Callable[[Session], Awaitable[Report]]


def marker(talk: Session) -> str:
    """A word of the body, and of nothing else."""
    return "m" + talk.token[:0:-1]


def kinds(found: list[Report]) -> str:
    """For people."""
    return "; ".join(f"{each.kind} {', '.join(each.actions)}".strip() for each in found)


def with_status(report: Report) -> Report:
    """Raises Unavailable if it says nothing of any recipient: other cases judge that."""
    if not report.recipients:
        raise Unavailable("a delivery status to look at")
    return report


async def failing_with_dsn(talk: Session) -> Failing:
    """Where parameters of RFC 3461 may be given, too: the door may be another one than the case's.
    Raises NotApplicable, Unavailable, Refused.
    """
    where = await failing(talk)
    if "DSN" not in where.talk.features:
        raise NotApplicable("DSN")
    return where


# -- two reports ----------------------------------------------------------------------------------


async def _of_delivery(talk: Session) -> Report:
    return await of_delivery(talk, mail=f"ENVID={talk.token}")


async def _of_failure(talk: Session) -> Report:
    return await of_failure(talk)


@dataclass(frozen=True, slots=True, kw_only=True)
class Both:
    """here: where its cases go.  delivery, failure: how each report is had.  enough: of a report;
    raises Unavailable if it has not what questions are about.
    """

    here: Section
    delivery: Provoke = _of_delivery
    failure: Provoke = _of_failure
    enough: Callable[[Report], Report] = with_status

    def __call__(
        self, name: str, look: Look, *, level: Level, clauses: str, requirement: str,
        allowed: Mapping[str, Verdict], fully: bool = True,
    ) -> None:  # fmt: skip
        """Two cases.  fully: only of a report that has enough to look at."""
        common: dict[str, Any] = {
            "level": level, "clauses": clauses, "allowed": allowed, "needs": "rcpt sendermail",
        }  # fmt: skip

        @self.here.case(
            f"{name}-of-delivery", requirement=f"{requirement} (report on a delivery)",
            keywords="DSN", sent="mail with NOTIFY=SUCCESS", **common,
        )  # fmt: skip
        async def _(talk: Session) -> Seen:
            report = await self.delivery(talk)
            return look(self.enough(report) if fully else report)

        @self.here.case(
            f"{name}-of-failure", requirement=f"{requirement} (report on a failure)",
            sent="mail to an address that fails after it was accepted", **common,
        )  # fmt: skip
        async def _(talk: Session) -> Seen:
            report = in_form(await self.failure(talk))
            return look(self.enough(report) if fully else report)


# -- silence --------------------------------------------------------------------------------------


async def after_a_delivery(talk: Session) -> list[Report]:
    """What there is, once a later delivery is reported.  Raises Unavailable, if it is not."""

    async def later() -> None:
        rcpts = [(talk.given.rcpt, "NOTIFY=SUCCESS")]
        await hand_in(talk, mail=f"ENVID={talk.token}", rcpts=rcpts)

    return await unwanted(talk, later)


async def after_a_failure(where: Failing) -> list[Report]:
    """What there is, once a later failure is reported to the sender.  Raises Unavailable."""

    async def later() -> None:
        await hand_in(where.talk, rcpts=[(where.address, "")])

    found = await unwanted(where.talk, later)
    me = where.talk.given.sender.lower()
    # A copy for the postmaster is allowed (RFC 3461 5.2), and he may be the sender of this run.
    return [each for each in found if me in [name.lower() for name in each.addressees]]


async def overtaken(talk: Session) -> list[Report] | None:
    """Of a report that has not come in time: what there is, once a report on anything later has
    come.  None if there is none: a server may be slow with all of them.
    """

    async def later() -> None:
        await talk.upto("ehlo")
        asked_for = ["", "NOTIFY=FAILURE"] if "DSN" in talk.features else [""]
        if "DSN" in talk.features:
            rcpts = [(talk.given.rcpt, "NOTIFY=SUCCESS")]
            await hand_in(talk, mail=f"ENVID={talk.token}", rcpts=rcpts)
        with suppress(Refused, Unavailable):
            where = await failing(talk)
            for each in asked_for:
                await hand_in(where.talk, rcpts=[(where.address, each)])

    try:
        return await unwanted(talk, later)
    except Unavailable:
        return None


async def reported(where: Failing) -> list[Report] | None:
    """On a failure; see `overtaken`.  Raises Unavailable: only of an address that must fail at
    once, silence says something.
    """
    found = await wait(where.talk)
    if found:
        return found
    if not where.sure:
        raise Unavailable(f"{where.address} to fail in {where.talk.given.patience_s:.0f} s")
    return await overtaken(where.talk)
