"""RFC 4865, mail that is held for some time: FUTURERELEASE, section 4.

Tricky: the extension is for submission, where AUTH comes first; a case authenticates there.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from specs.conformance.model import INFO, NON_STRICT, PASS, Door, Observed, Reply
from specs.conformance.section import Section
from specs.conformance.session import NotApplicable, Refused, Session

here = Section("4865")

_DOORS: Final[tuple[tuple[Door, str], ...]] = (("smtp", ""), ("submission-starttls", "user"))
_TAKEN: Final = {"250": PASS, "530": INFO, "550": INFO, "554": INFO}
_REFUSED: Final = {"501": PASS, "530": INFO, "5yz": NON_STRICT}


async def _ready(talk: Session) -> None:
    await talk.upto("ehlo")
    if talk.door != "smtp":
        await talk.auth()


#: (slug, what stands behind MAIL, what is allowed); {over} is a second more than the most.
ROWS: Final = (
    ("for", "HOLDFOR=60", _TAKEN),
    ("for-over", "HOLDFOR={over}", _REFUSED),
    ("for-zero", "HOLDFOR=0", _REFUSED),
    ("for-negative", "HOLDFOR=-60", _REFUSED),
    ("for-word", "HOLDFOR=soon", _REFUSED),
    ("for-ten-digits", "HOLDFOR=1234567890", _REFUSED),
    ("for-empty", "HOLDFOR=", _REFUSED),
    ("until", "HOLDUNTIL={minute}", _TAKEN),
    ("until-over", "HOLDUNTIL={late}", _REFUSED),
    ("until-word", "HOLDUNTIL=tomorrow", _REFUSED),
    ("until-thirteenth-month", "HOLDUNTIL=2027-13-01T00:00:00Z", _REFUSED),
    ("both", "HOLDFOR=60 HOLDUNTIL={minute}", _REFUSED),
    ("twice", "HOLDFOR=60 HOLDFOR=61", {**_REFUSED, "250": NON_STRICT}),
)
for _door, _needs in _DOORS:
    for _slug, _text, _allowed in ROWS:

        @here.case(
            f"4-{_slug}-{_door}", level="MUST", clauses="4865-4-a", door=_door, needs=_needs,
            keywords="FUTURERELEASE",
            requirement="HOLDFOR= and HOLDUNTIL= are taken within the limits listed, and are 501 "
            f"otherwise ({_text})",
            sent=f"MAIL FROM:<...> {_text}", allowed=_allowed,
        )  # fmt: skip
        async def _(talk: Session, text: str = _text) -> Observed:
            await _ready(talk)
            most = talk.features["FUTURERELEASE"].split()
            if len(most) < 2 or not most[0].isdigit():
                raise NotApplicable("limits of FUTURERELEASE")
            now = datetime.now(UTC)
            over = int(most[0]) + 1
            known = {
                "{over}": str(over), "{minute}": _stamp(now + timedelta(minutes=1)),
                "{late}": _stamp(now + timedelta(days=365 * 60)),
            }  # fmt: skip
            for name, value in known.items():
                text = text.replace(name, value)
            return await talk.say(talk.fill(f"MAIL FROM:<{{sender}}> {text}"))

    @here.case(
        f"4-keyword-{_door}", level="IMPLIED", clauses="4865-4-a", door=_door,
        keywords="FUTURERELEASE",
        requirement="FUTURERELEASE in the EHLO reply is followed by the longest time, in seconds, "
        "and the last date",
        sent="EHLO", allowed={"well formed": PASS},
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
        await talk.upto("ehlo")
        text = talk.features["FUTURERELEASE"]
        words = text.split()
        if len(words) != 2 or not (words[0].isdigit() and len(words[0]) <= 9):
            return "malformed", text
        try:
            datetime.fromisoformat(words[1])
        except ValueError:
            return "malformed", text
        return "well formed", text

    @here.case(
        f"4-held-{_door}", level="MUST", clauses="4865-4-a", door=_door, role="delivery",
        keywords="FUTURERELEASE", needs=f"rcpt maildir {_needs}",
        requirement="Mail with HOLDFOR= is not delivered before its time",
        sent="a message with HOLDFOR=60 | a message without", allowed={"held": PASS},
    )  # fmt: skip
    async def _(talk: Session) -> Observed:
        held, now = f"held-{talk.token[::-1]}", f"now-{talk.token}"
        box = talk.given.maildirs[0]
        # An earlier run may have left its own.
        before = {each: len(await talk.look(box, token=each, patience_s=0)) for each in (held, now)}
        await _ready(talk)
        for token, mail in ((held, "HOLDFOR=60"), (now, "")):
            content = talk.message().replace(talk.token.encode(), token.encode())
            reply = await talk.transact(content, mail=mail)
            if not reply.positive:
                raise Refused("the message", reply)
        if len(await talk.arrived(token=now, count=before[now] + 1)) <= before[now]:
            raise Refused("the delivery of the other", Reply(kind="silent"))
        found = await talk.look(
            box, token=held, count=before[held] + 1, patience_s=talk.given.quiet_s
        )
        return "delivered at once" if len(found) > before[held] else "held"


def _stamp(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
