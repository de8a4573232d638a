"""RFC 8601 2.2, 4 and 5: Authentication-Results in mail that arrives.

What is tricky
- Nobody has to write the field.  Who does not is not judged: section 5 binds who conforms to it.
- A server may trust its neighbours, and take their word for a field with its own name (5).  A
  client that may relay is trusted in that sense; then forged fields prove nothing.
- Which authserv-id is a server's own is learnt from the field that it writes: the topmost one.
"""

from __future__ import annotations

from typing import Final

from specs.conformance.arrivals import delivered, taken
from specs.conformance.authentication_results import Malformed, parsed
from specs.conformance.headers import pairs as headers
from specs.conformance.model import INFO, NON_STRICT, PASS, Seen
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Session, Unavailable

here = Section("8601", role="delivery")

FIELD: Final = "authentication-results"
#: Registered for the methods that servers use (RFC 8601 2.7, RFC 7489 11.2, RFC 8617 10.2).
KNOWN: Final = {
    "spf": "none neutral pass fail softfail policy temperror permerror hardfail",
    "dkim": "none pass fail policy neutral temperror permerror",
    "dmarc": "none pass fail temperror permerror",
    "arc": "none pass fail",
    "auth": "none pass fail temperror permerror",
    "iprev": "pass fail temperror permerror",
}


async def received(talk: Session, headers_of: str = "") -> list[tuple[str, str]]:
    """The header of a message as it arrives.  Raises Refused."""
    return headers(await taken(talk, talk.message(headers=headers_of)))


async def written(talk: Session) -> tuple[list[tuple[str, str]], str]:
    """A header, and the field that the server has put into it.  Raises NotApplicable."""
    header = await received(talk)
    values = [value for name, value in header if name == FIELD]
    if not values:
        raise NotApplicable("Authentication-Results")
    return header, values[0]


@here.case(
    "2.2-grammar", level="MUST", clauses="8601-2.2-a", needs="rcpt maildir",
    requirement="Authentication-Results has a service's name and then results, by its grammar",
    sent="an ordinary message",
    allowed={"well formed": PASS, "an empty result": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    header, _ = await written(talk)
    for value in [value for name, value in header if name == FIELD]:
        try:
            parsed(value)
        except Malformed as why:
            return str(why).partition(":")[0], value
    return "well formed", value


@here.case(
    "2.7-registered-results", level="MUST", clauses="8601-2.2-a", needs="rcpt maildir",
    requirement="The results of well-known methods are words that are registered for them",
    sent="an ordinary message",
    allowed={"registered": PASS, "another word": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    header, _ = await written(talk)
    for value in [value for name, value in header if name == FIELD]:
        try:
            results = parsed(value).results
        except Malformed:
            raise Unavailable("a well formed Authentication-Results") from None
        for method, result in results:
            if method in KNOWN and result not in KNOWN[method].split():
                return "another word", f"{method}={result}"
    return "registered", value


@here.case(
    "4.1-prepended", level="MUST", clauses="8601-4-a", needs="rcpt maildir",
    requirement="Authentication-Results is put above what the message had, best above Received",
    sent="an ordinary message",
    allowed={"above the trace": PASS, "below a Received": NON_STRICT},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    header, _ = await written(talk)
    names = [name for name, _ in header]
    ours = min(names.index(name) for name in ("from", "to", "subject") if name in names)
    last = max(at for at, name in enumerate(names) if name == FIELD)
    if last > ours:
        return "below the message's own fields", ", ".join(names)
    trace = [at for at, name in enumerate(names) if name == "received"]
    above = not trace or names.index(FIELD) < trace[0]
    return ("above the trace" if above else "below a Received"), ", ".join(names)


async def untrusted(talk: Session) -> None:
    """Raises Unavailable for a client that may relay."""
    address = talk.given.relay or "x@no-such-domain.invalid"
    beside = talk.another()
    await beside.upto("mail")
    if (await beside.say(f"RCPT TO:<{address}>")).positive:
        raise Unavailable("a client that the server does not trust")


#: slug, how a forged field is written; ID and ID-IN-CAPITALS are put in
FORGED: Final = (
    ("plain", "Authentication-Results: {id}; spf=pass smtp.mailfrom={word}.example"),
    ("capitals", "AUTHENTICATION-RESULTS: {ID}; spf=pass smtp.mailfrom={word}.example"),
    ("comment", "Authentication-Results: (a comment) {id} (more); spf=pass"
     " smtp.mailfrom={word}.example"),
    ("folded", "Authentication-Results:\r\n {id};\r\n spf=pass smtp.mailfrom={word}.example"),
    ("version", "Authentication-Results: {id} 1; spf=pass smtp.mailfrom={word}.example"),
    ("quoted", 'Authentication-Results: "{id}"; spf=pass smtp.mailfrom={word}.example'),
    ("unknown-version", "Authentication-Results: {id} 99; spf=pass smtp.mailfrom={word}.example"),
)  # fmt: skip


def forged(slug: str, field: str) -> None:
    @here.case(
        f"5-forged-{slug}", level="MUST", clauses="8601-5-a", needs="rcpt maildir",
        security="mail that seems to have been authenticated",
        requirement="An Authentication-Results from outside with the server's own name is "
        f"removed ({slug})",
        sent=f"a message with {field.format(id='ID', ID='ID', word='TOKEN')!r}",
        allowed={"removed": PASS, "refused": PASS, "obscured": PASS},
    )  # fmt: skip
    async def _(talk: Session) -> Seen:
        await untrusted(talk)
        _, own = await written(talk)
        try:
            name = parsed(own).id
        except Malformed:
            raise Unavailable("a well formed Authentication-Results") from None
        talk.token = "u" + talk.token[1:]  # the first message has arrived, too
        word = f"forged-{talk.token}"
        line = field.format(id=name, ID=name.upper(), word=word)
        reply = await talk.transact(talk.message(headers=f"{line}\r\n"))
        if reply.code[:1] == "5":
            return "refused", str(reply)
        found = await delivered(talk, reply)
        kept = [(key, value) for key, value in headers(found[0]) if word in value]
        for key, value in kept:
            if key == FIELD:
                return "kept", value
        return ("obscured" if kept else "removed"), ", ".join(key for key, _ in kept)


for _slug, _field in FORGED:
    forged(_slug, _field)


@here.case(
    "5-foreign-field", level="MAY", clauses="8601-5-a", needs="rcpt maildir",
    requirement="What becomes of an Authentication-Results with somebody else's name",
    sent="a message with Authentication-Results: elsewhere.example; spf=pass",
    allowed={"kept": INFO, "removed": INFO, "obscured": INFO},
)  # fmt: skip
async def _(talk: Session) -> Seen:
    word = f"foreign-{talk.token}"
    line = f"Authentication-Results: elsewhere.example; spf=pass smtp.mailfrom={word}.example"
    found = [(key, value) for key, value in await received(talk, f"{line}\r\n") if word in value]
    keys = [key for key, _ in found]
    return ("kept" if FIELD in keys else "obscured" if keys else "removed"), ", ".join(keys)
