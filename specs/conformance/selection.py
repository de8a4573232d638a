"""Which cases: by RFC, by section, by id, and by what they cost.

5321               an RFC            5321-4.1       a section with all below it
4.1                of RFC 5321       5321-4.1.1.10-quit-lower   a case
relay              a role
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, get_args

from specs.conformance.model import Case, Role

ROLES: Final = get_args(Role)
_SECTION: Final = re.compile(r"([0-9]+|[A-Z])(\.[0-9]+)+\Z")


class NothingMatches(Exception):
    """No case fits; the text names the word that nothing fits."""


def chosen(
    cases: Iterable[Case], words: Sequence[str], *, security: bool = False, slow: bool = False
) -> list[Case]:
    """In order.  Raises NothingMatches for a word that no case fits, and for no case at all."""
    known = list(cases)
    for word in words:
        if not any(fits(each, word) for each in known):
            raise NothingMatches(f"no case matches {word}")
    found = [
        each
        for each in known
        if (not words or any(fits(each, word) for word in words))
        and (not security or each.security)
        and (slow or not each.slow or each.id in words)
    ]
    if not found:
        more = " (slow ones need --slow)" if not slow else ""
        raise NothingMatches(f"no case matches{more}")
    return found


def fits(case: Case, word: str) -> bool:
    """See above; upper and lower case are one, and `rfc` before a number is nothing."""
    name = re.sub(r"\Arfc ?", "", word.strip(), flags=re.IGNORECASE)
    if name.lower() in ROLES:
        return case.role == name.lower()
    if _SECTION.match(name):
        name = f"5321-{name}"
    identity, name = case.id.lower(), name.lower().rstrip(".")
    return identity == name or identity.startswith((f"{name}-", f"{name}."))
