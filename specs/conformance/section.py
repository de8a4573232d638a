"""A file of cases: one RFC, or one part of it.

    here = Section("5321")

    here.probe("4.1.1.10-quit", level="MUST", clauses="5321-4.1.1.10-a",
               requirement="QUIT is answered 221", sent=["QUIT"], allowed={"221": PASS})

    @here.case("3.3-order", level="MUST", clauses="5321-3.3-b 5321-3.3-c", requirement="...",
               sent="RCPT before MAIL", allowed={"503": PASS, "5yz": NON_STRICT})
    async def _(talk: Session) -> Observed:
        await talk.upto("ehlo")
        return await talk.say(f"RCPT TO:<{talk.given.rcpt}>")

A probe is a case without a script of its own: after `upto`, each of `sent` is said and answered;
all but the last must be answered 2yz or 3yz, and the last one's reply is judged.  {rcpt}, {sender},
{unknown}, {relay}, {hostname} and {token} in it are filled in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from specs.conformance.model import ALLOWED, Case, Level, Observed, Role, Script, Verdict
from specs.conformance.session import Session, Stage

ID: Final = re.compile(r"[0-9a-z]+-[0-9A-Z][0-9A-Za-z.]*-[a-z0-9]+(-[a-z0-9]+)*\Z")


@dataclass(slots=True)
class Section:
    """Cases of one file, in order.  Raises ValueError for a case that says nothing, or nonsense."""

    rfc: str
    role: Role = "server"
    cases: list[Case] = field(default_factory=list)

    def case(
        self, name: str, *, level: Level, clauses: str, requirement: str, sent: str,
        allowed: Mapping[str, Verdict], **more: Any,
    ) -> Callable[[Script], Script]:  # fmt: skip
        """A decorator.  name: SECTION-SLUG.  clauses: ids, with spaces between.  more: other fields
        of a Case; needs and keywords may be written with spaces between, too.
        """

        def add(script: Script) -> Script:
            self._add(name, level, clauses, requirement, sent, allowed, script, more)
            return script

        return add

    def probe(
        self, name: str, *, level: Level, clauses: str, requirement: str, sent: Sequence[str],
        allowed: Mapping[str, Verdict], upto: Stage = "ehlo", **more: Any,
    ) -> None:  # fmt: skip
        """Lines whose last reply is judged."""

        async def script(talk: Session) -> Observed:
            await talk.upto(upto)
            for line in sent[:-1]:
                await talk.must(talk.fill(line))
            return await talk.say(talk.fill(sent[-1]))

        shown = " | ".join([*(() if upto == "connect" else (f"({upto})",)), *sent])
        self._add(name, level, clauses, requirement, shown, allowed, script, more)

    def bare_keyword(self, name: str, keyword: str, *, level: Level, clauses: str) -> None:
        """A keyword of EHLO that has no parameter."""

        async def script(talk: Session) -> Observed:
            await talk.upto("ehlo")
            value = talk.features[keyword]
            return ("a parameter" if value else "none"), f"{keyword} {value}".rstrip()

        self._add(
            name, level, clauses, f"The {keyword} keyword has no parameter", "EHLO",
            {"none": Verdict.PASS}, script, {"keywords": keyword},
        )  # fmt: skip

    def _add(
        self, name: str, level: Level, clauses: str, requirement: str, sent: str,
        allowed: Mapping[str, Verdict], script: Script, more: dict[str, Any],
    ) -> None:  # fmt: skip
        identity = f"{self.rfc}-{name}"
        if not ID.match(identity) or not allowed or not set(allowed.values()) <= ALLOWED:
            raise ValueError(f"{identity}: not an id, or nothing is allowed")
        if any(each.id == identity for each in self.cases):
            raise ValueError(f"{identity}: there twice")
        more.setdefault("role", self.role)
        more["needs"] = frozenset(_words(more.get("needs", ())))
        more["keywords"] = tuple(_words(more.get("keywords", ())))
        self.cases.append(
            Case(
                id=identity,
                clauses=tuple(clauses.split()),
                level=level,
                requirement=requirement,
                sent=sent,
                allowed=dict(allowed),
                script=script,
                **more,
            )
        )


def _words(what: str | Sequence[str]) -> Sequence[str]:
    return what.split() if isinstance(what, str) else what
