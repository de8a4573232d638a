"""Controls of the network harness: refmta made wrong towards others, and what must find it out.

Each is a passage of a file and what replaces it, the destinations that reveal it, and the name of
the finding.  The mutated line says in the log that it ran (a line of the journal, so that it is no
defect by itself).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from subjects.mutant_tree import mutant_tree
from subjects.target import Refmta

RAN: Final = '{"event":"__mutant_ran__"}'
_SAY: Final = f"__import__('os').write(2, b'{RAN}\\n')"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkMutant:
    """file: below refmta/.  settings: of a case of the network harness."""

    what: str
    file: str
    old: str
    new: str
    settings: Mapping[str, Any]
    finding: str

    def target(self, directory: Path) -> Refmta:
        """The server; the directory is made.  Raises MutationError."""
        python = mutant_tree(directory, self.file, [(self.old, self.new)])
        return Refmta(python=python, traces=False)


def _at(*bad: str, seconds: float = 2.5, **others: Any) -> Mapping[str, Any]:
    return MappingProxyType({"bad": list(bad), "seconds": seconds, **others})


_CLIENT: Final = "protocol/smtp_client.py"
_MX: Final = "protocol/mx.py"
_SCHEDULE: Final = "protocol/schedule.py"
_PLACES: Final = "            free = self.limits.total - self.busy\n            if free <= 0:\n"

MUTANTS: Final = (
    NetworkMutant(
        what="a 250 before the content's end is believed", file=_CLIENT,
        old='    text = f"out of step: instead',
        new="    if session.phase is Phase.CONTENT and answer.code < 300:\n"
        f"        {_SAY}\n"
        "        return _hang_up(session, _said(answer))\n"
        '    text = f"out of step: instead',
        settings=_at("smtp-final-250-with-the-354-and-close"), finding="deceived",
    ),
    NetworkMutant(
        what="the end of a connection behind the content is taken for a 250", file=_CLIENT,
        old='    reason = f": {event.text}" if event.text else ""',
        new='    reason = ""\n'
        "    if session.phase is Phase.FINAL:\n"
        f"        {_SAY}\n"
        '        return _hang_up(session, _own("delivered", "2.0.0", "probably"))',
        settings=_at("smtp-close-at-final"), finding="lost",
    ),
    NetworkMutant(
        what="a refusal for the moment is for good", file=_CLIENT,
        old="_KINDS[answer.code // 100]\n",
        new=f"({_SAY}, _KINDS[answer.code // 100].replace('deferred', 'failed'))[1]\n",
        settings=_at("smtp-4yz-at-mail"), finding="given_up",
    ),
    NetworkMutant(
        what="name servers that fail are taken for an absence", file="roles/remote/names.py",
        old='            return mx.Trouble("the name servers failed")\n',
        new=f"            {_SAY}\n            return mx.Absent.NO_DOMAIN\n",
        settings=_at("dns-servfail"), finding="given_up",
    ),
    NetworkMutant(
        what="without an answer about its MX, a domain's own address is tried", file=_MX,
        old="        case Trouble():\n            return Refusal(\n",
        new=f"        case Trouble() if {_SAY}:\n"
        "            return _cut(((domain,),), own, port, listed=False)\n"
        "        case Trouble():\n            return Refusal(\n",
        settings=_at("dns-servfail-about-mx"), finding="impostor",
    ),
    NetworkMutant(
        what="a null MX is taken for none", file=_MX,
        old='    if {record.host for record in records} == {""}:\n',
        new='    if {record.host for record in records} == {""}:\n'
        f"        {_SAY}\n"
        "        return _cut(((domain,),), own, port, listed=False)\n",
        settings=_at("dns-null-mx"), finding="impostor",
    ),
    NetworkMutant(
        what="pauses do not grow", file=_SCHEDULE,
        old="        delay_s *= schedule.factor\n", new=f"        {_SAY}\n",
        settings=_at("smtp-4yz-at-mail", seconds=8.0, paces=True), finding="retried_too_soon",
    ),
    NetworkMutant(
        what="pauses are far too long", file=_SCHEDULE,
        old="    return min(delay_s, schedule.maximum_s)\n",
        new=f"    {_SAY}\n    return 100 * min(delay_s, schedule.maximum_s)\n",
        settings=_at("smtp-4yz-at-mail", seconds=8.0, paces=True), finding="retried_too_late",
    ),
    NetworkMutant(
        what="one destination at a time", file="protocol/destinations.py",
        old=_PLACES,
        new=f"            if self.busy:\n                {_SAY}\n"
        f"                return None\n{_PLACES}",
        settings=_at("smtp-silence-at-final", seconds=4.0, burst=20, isolates=True),
        finding="delayed",
    ),
)  # fmt: skip
