"""RFC 7208 8 and 9: what a server writes of SPF into mail that arrives.

Nobody has to check SPF, or to write its result.  What is asked for here is only the form of what
is written; how a policy is evaluated needs a name server with policies of ours.
"""

from __future__ import annotations

import re
from typing import Final

from specs.conformance.arrivals import taken
from specs.conformance.authentication_results import Malformed, parsed
from specs.conformance.headers import pairs as headers
from specs.conformance.model import NON_STRICT, PASS, Seen
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Session

here = Section("7208", role="delivery")

RESULTS: Final = ("none", "neutral", "pass", "fail", "softfail", "temperror", "permerror")


async def arrived(talk: Session) -> list[tuple[str, str]]:
    return headers(await taken(talk))


@here.case(
    "9.1-received-spf", level="IMPLIED", clauses="7208-8-a", needs="rcpt maildir",
    requirement="Received-SPF begins with one of the seven results",
    sent="an ordinary message",
    allowed={"one of seven": PASS},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    values = [value for name, value in await arrived(talk) if name == "received-spf"]
    if not values:
        raise NotApplicable("Received-SPF")
    for value in values:
        word = re.split(r"[\s(;]", value, maxsplit=1)[0]
        if word.lower() not in RESULTS:
            return "another word", value
    return "one of seven", values[0]


@here.case(
    "9.1-received-spf-above-trace", level="IMPLIED", clauses="7208-8-a", needs="rcpt maildir",
    requirement="Received-SPF is put above the Received of the same server",
    sent="an ordinary message",
    allowed={"above": PASS, "below": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    names = [name for name, _ in await arrived(talk)]
    if "received-spf" not in names:
        raise NotApplicable("Received-SPF")
    above = "received" not in names or names.index("received-spf") < names.index("received")
    return ("above" if above else "below"), ", ".join(names)


@here.case(
    "9.2-authentication-results", level="IMPLIED", clauses="7208-8-a", needs="rcpt maildir",
    requirement="The result of SPF in Authentication-Results is one of the seven",
    sent="an ordinary message",
    allowed={"one of seven": PASS, "policy": PASS, "hardfail": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    words = []
    for value in [value for name, value in await arrived(talk) if name == "authentication-results"]:
        try:
            words += [result for method, result in parsed(value).results if method == "spf"]
        except Malformed:
            continue  # the grammar is another case
    if not words:
        raise NotApplicable("spf in Authentication-Results")
    for word in words:
        if word not in RESULTS:
            return word, ", ".join(words)
    return "one of seven", ", ".join(words)
