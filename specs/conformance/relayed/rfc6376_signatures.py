"""RFC 6376: the form of a signature, where a relay makes one of its own."""

from __future__ import annotations

import re

from specs.conformance.headers import fields
from specs.conformance.model import PASS, Observed
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Session
from specs.conformance.way import Way, way_for

here = Section("6376", role="client")


async def _tags(way: Way) -> dict[str, str]:
    """Of the signature on top.  Raises NotApplicable if there is none."""
    hop = await way.mx()
    await way.send()
    for each in fields((await way.one(hop)).content):
        if each.name == "dkim-signature":
            text = re.sub(r"\s+", " ", each.value)
            pairs = (part.partition("=") for part in text.split(";"))
            return {name.strip(): value.strip() for name, _, value in pairs}
    raise NotApplicable("a signature (DKIM)")


@here.case(
    "3.5-tags", level="MUST", clauses="6376-3.5-a", needs="hops",
    requirement="A signature has all the tags that it must have, and version 1",
    sent="a message; its signature is looked at", allowed={"all": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        tags = await _tags(way)
        missing = [each for each in ("v", "a", "b", "bh", "d", "h", "s") if not tags.get(each)]
        if missing:
            return "missing", ", ".join(missing)
        return "all" if tags["v"] == "1" else ("another version", tags["v"])


@here.case(
    "5.4-from", level="MUST", clauses="6376-5.4-a", needs="hops",
    requirement="A signature covers From", sent="a message; its signature is looked at",
    allowed={"covered": PASS},
)  # fmt: skip
async def _(talk: Session) -> Observed:
    async with way_for(talk) as way:
        names = [each.strip().lower() for each in (await _tags(way)).get("h", "").split(":")]
        return "covered" if "from" in names else ("not covered", ", ".join(names))
