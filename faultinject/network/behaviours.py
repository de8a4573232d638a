"""What a hostile next hop does: a table of named behaviours.

A behaviour is a row: for each stage of a session what is said instead of the honest reply, and
what a correct client may conclude.  Next hops that do such things exist: a proxy that falls
silent, a load balancer that closes, a tarpit that trickles, a host that loses its power, a server
that takes the message and dies before it says so.

Rules a reader may rely on
- An act is a tuple of steps: say octets as they are (`Say`), one by one (`Drip`) or without end
  (`Endless`), fall silent or deaf, close, vanish.  After its last step the session goes
  on, as far as the code that was said (if any) lets it.
- `allows` is the oracle: what a client that obeys RFC 5321 may report for a recipient after a
  session with this behaviour and no other host to turn to.  A set, since the RFC leaves choices.
  "delivered" is in it only where the final 2yz is really sent, in answer to the end of content.
- `takes`: the message is accepted (it will be in the record) even though the reply never comes.
- Recipients whose local part begins with "refused" get 550 and those with "busy" get 450 in every
  behaviour, as at any honest server.

RFC 5321 4.2 (replies), 4.2.4.2 and 4.3.2 (codes out of place), 4.5.3.2 (timeouts); RFC 2920.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

STAGES: Final = ("greeting", "ehlo", "helo", "mail", "rcpt", "data", "final", "rset", "quit")


@dataclass(frozen=True, slots=True)
class Say:
    """These octets, in one write."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Drip:
    """These octets one by one, with a pause after each."""

    octets: bytes
    pause_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Endless:
    """These octets again and again, until the client is gone; `pause_s` > 0: octet by octet."""

    octets: bytes
    pause_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Silence:
    """Not a word more: read and drop what comes, until the client is gone."""


@dataclass(frozen=True, slots=True)
class Deaf:
    """For some time read nothing, so that the client's writes are blocked."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Close:
    """Close; `reset`: by RST, so that what the client has not yet read is lost."""

    reset: bool = False


@dataclass(frozen=True, slots=True)
class Vanish:
    """As if the host, or the way to it, were gone: nothing is acknowledged any more, and no end is
    told.  A connection that is open at one end only (`vanishing`).
    """


Step: TypeAlias = Say | Drip | Endless | Silence | Deaf | Close | Vanish
Act: TypeAlias = tuple[Step, ...]

DELIVERED: Final = frozenset({"delivered"})
DEFERRED: Final = frozenset({"deferred"})
FAILED: Final = frozenset({"failed"})
GIVEN_UP: Final = DEFERRED | FAILED

#: Between the octets of a slow reply: a reply of ours takes less than a second and a half.
SLOW_S: Final = 0.01

FEATURES: Final = ("PIPELINING", "SIZE 52428800", "8BITMIME", "ENHANCEDSTATUSCODES")

#: The honest replies, by stage.
HONEST: Final[Mapping[str, bytes]] = {
    "greeting": b"220 next-hop.example ESMTP\r\n",
    "helo": b"250 next-hop.example\r\n",
    "mail": b"250 2.1.0 sender ok\r\n",
    "rcpt": b"250 2.1.5 recipient ok\r\n",
    "data": b"354 go ahead\r\n",
    "final": b"250 2.0.0 taken\r\n",
    "rset": b"250 2.0.0 forgotten\r\n",
    "quit": b"221 2.0.0 bye\r\n",
}


def ehlo(features: tuple[str, ...] = FEATURES) -> bytes:
    """The honest reply to EHLO with these keywords."""
    lines = ("next-hop.example", *features)
    marks = ("-",) * (len(lines) - 1) + (" ",)
    return b"".join(f"250{m}{t}\r\n".encode() for m, t in zip(marks, lines, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """A row of the table.

    acts: by stage; where none is named the honest reply is given.  recipients: acts for the 1st,
    2nd, ... RCPT of a transaction, then from the start again; instead of acts["rcpt"].
    """

    acts: Mapping[str, Act] = field(default_factory=dict)
    recipients: tuple[Act, ...] = ()
    features: tuple[str, ...] = FEATURES
    takes: bool = False
    allows: frozenset[str] = DELIVERED


def _said(stage: str, *steps: Step, allows: frozenset[str] = DEFERRED) -> Behaviour:
    return Behaviour(acts={stage: steps}, allows=allows)


def _at_each_stage() -> dict[str, Behaviour]:
    """Refusals, silence and closes at each stage up to the final reply, as the RFC sorts them."""
    rows: dict[str, Behaviour] = {}
    for stage in STAGES[:7]:
        refusal = f"no {stage} today\r\n".encode()
        # A greeting of 5yz: "this host", not "this recipient" (Postfix tries the next MX, too).
        # EHLO refused leads to HELO (RFC 5321 3.2), which is granted here.
        hard = {"greeting": GIVEN_UP, "ehlo": DELIVERED, "helo": GIVEN_UP}.get(stage, FAILED)
        soft = DEFERRED | DELIVERED if stage == "ehlo" else DEFERRED
        acts: dict[str, tuple[Act, frozenset[str]]] = {
            "4yz": ((Say(b"451 4.3.0 " + refusal),), soft),
            "5yz": ((Say(b"554 5.3.0 " + refusal),), hard),
            "421": ((Say(b"421 4.3.2 " + refusal), Close()), DEFERRED),
            "421-and-on": ((Say(b"421 4.3.2 " + refusal),), DEFERRED),
            "silence": ((Silence(),), DEFERRED),
            "close": ((Close(),), DEFERRED),
            "reset": ((Close(reset=True),), DEFERRED),
            "half-open": ((Vanish(),), DEFERRED),
            "slow": ((Drip(_honest(stage), SLOW_S),), DELIVERED),
            "half-a-reply": ((Say(b"250 2.0"), Close()), DEFERRED),
            "half-a-list": ((Say(b"250-2.0.0 one\r\n"), Close()), DEFERRED),
        }
        for name, (act, allows) in acts.items():
            stages = {stage: act}
            if stage == "helo":
                stages["ehlo"] = (Say(b"502 5.5.1 what?\r\n"),)
            rows[f"{name}-at-{stage}"] = Behaviour(acts=stages, allows=allows)
    for stage in STAGES[7:]:  # too late to matter for the message
        for name, act in {
            "5yz": (Say(b"554 5.3.0 no\r\n"),),
            "421": (Say(b"421 4.3.2 no\r\n"), Close()),
            "silence": (Silence(),),
            "reset": (Close(reset=True),),
            "half-open": (Vanish(),),
            "close": (Close(),),
        }.items():
            rows[f"{name}-at-{stage}"] = Behaviour(acts={stage: act})
    return rows


def _honest(stage: str) -> bytes:
    return ehlo() if stage == "ehlo" else HONEST[stage]


def _malformed() -> dict[str, Behaviour]:
    """Replies that are none, or nearly."""
    garbage = bytes(range(1, 256)) * 2 + b"\r\n"
    lists = b"".join(b"250-%d what\r\n" % number for number in range(60))
    return {
        "garbage-at-greeting": _said("greeting", Say(garbage)),
        "garbage-at-ehlo": _said("ehlo", Say(garbage)),
        "garbage-at-mail": _said("mail", Say(garbage)),
        "garbage-at-final": _said("final", Say(garbage)),
        "http-at-greeting": _said("greeting", Say(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Close()),
        "endless-lines-at-greeting": _said("greeting", Endless(b"220-more\r\n")),
        "endless-lines-at-ehlo": _said("ehlo", Endless(b"250-X-MORE\r\n")),
        "endless-lines-at-final": _said("final", Endless(b"250-more\r\n")),
        "endless-line-at-greeting": _said("greeting", Say(b"220 "), Endless(b"x" * 4096)),
        "endless-line-at-rcpt": _said("rcpt", Say(b"250 "), Endless(b"x" * 4096)),
        "endless-line-at-final": _said("final", Say(b"250 "), Endless(b"x" * 4096)),
        "endless-replies-at-final": _said(
            "final", Endless(HONEST["final"]), allows=DELIVERED | DEFERRED
        ),
        "trickle-at-greeting": _said("greeting", Endless(b"220-slow\r\n", 0.02)),
        "trickle-at-mail": _said("mail", Endless(b"250-slow\r\n", 0.02)),
        "trickle-at-final": _said("final", Endless(b"250-slow\r\n", 0.02)),
        "bare-lf-at-greeting": _said("greeting", Say(b"220 next-hop.example\n")),
        "bare-lf-at-final": _said("final", Say(b"250 2.0.0 taken\n")),
        "bare-lf-inside-at-final": _said("final", Say(b"550 5.0.0 no\n250 2.0.0 taken\r\n")),
        "different-codes-at-final": _said("final", Say(b"250-2.0.0 one\r\n550 5.0.0 two\r\n")),
        "nul-at-final": _said("final", Say(b"\0" * 600)),
        "code-199-at-mail": _said("mail", Say(b"199 what\r\n")),
        "code-600-at-final": _said("final", Say(b"600 what\r\n")),
        # With a message that fills the buffers on the way, the client is stopped in the middle.
        "deaf-at-data": _said("data", Say(HONEST["data"]), Deaf(400), Close()),
        "452-and-deaf-at-data": _said(
            "data", Say(HONEST["data"]), Deaf(1), Say(b"452 4.3.1 full\r\n"), Deaf(400), Close()
        ),
        "552-and-deaf-at-data": _said(
            "data",
            Say(HONEST["data"]),
            Deaf(1),
            Say(b"552 5.3.4 too big\r\n"),
            Deaf(400),
            Close(),
            allows=GIVEN_UP,
        ),
        "deaf-for-a-while-at-data": Behaviour(
            acts={"data": (Say(HONEST["data"]), Deaf(60))}, allows=DELIVERED
        ),
        "multi-line-everywhere": Behaviour(
            acts={
                stage: (Say(lists.replace(b"250-", octets[:3] + b"-") + octets),)
                for stage, octets in HONEST.items()
            }
        ),
        "no-text-everywhere": Behaviour(
            acts={stage: (Say(octets[:3] + b"\r\n"),) for stage, octets in HONEST.items()}
        ),
        "empty-text-everywhere": Behaviour(
            acts={stage: (Say(octets[:3] + b" \r\n"),) for stage, octets in HONEST.items()}
        ),
        "octet-by-octet": Behaviour(
            acts={stage: (Drip(octets),) for stage, octets in {**HONEST, "ehlo": ehlo()}.items()}
        ),
        "eight-bit-text": Behaviour(
            acts={"final": (Say(b"250 2.0.0 \xe9\x80\x1b[31m\x7f taken\r\n"),)}
        ),
        "hostile-text-at-rcpt": _said(
            "rcpt", Say(b"550 5.1.1 \xff\x1b]0;x\x07 {0} %s ${jndi}\r\n"), allows=FAILED
        ),
    }


def _out_of_place() -> dict[str, Behaviour]:
    """Good replies where they don't belong."""
    mail, rcpt, data, final = (HONEST[each] for each in ("mail", "rcpt", "data", "final"))
    return {
        "code-259-at-mail": _said("mail", Say(b"259 fine\r\n"), allows=DELIVERED),
        "code-299-at-mail": _said("mail", Say(b"299 fine\r\n"), allows=DEFERRED | DELIVERED),
        "code-259-at-final": Behaviour(acts={"final": (Say(b"259 fine\r\n"),)}),
        "code-459-at-final": _said("final", Say(b"459 perhaps\r\n")),
        "code-559-at-final": _said("final", Say(b"559 never\r\n"), allows=FAILED),
        "code-599-at-final": _said("final", Say(b"599 never\r\n"), allows=GIVEN_UP),
        "354-at-mail": _said("mail", Say(data), allows=GIVEN_UP),
        "354-at-rcpt": _said("rcpt", Say(data), allows=GIVEN_UP),
        "354-at-final": _said("final", Say(data), allows=GIVEN_UP),
        "250-at-data": _said("data", Say(final), allows=GIVEN_UP),
        "250-at-data-and-close": _said("data", Say(final), Close(), allows=GIVEN_UP),
        "250-at-greeting-and-close": _said("greeting", Say(final), Close(), allows=GIVEN_UP),
        "extra-250-at-greeting": _said(
            "greeting", Say(HONEST["greeting"] + final), allows=GIVEN_UP
        ),
        "extra-250-at-ehlo": _said("ehlo", Say(ehlo() + final), allows=GIVEN_UP),
        "extra-250-at-mail": _said("mail", Say(mail + final), allows=GIVEN_UP),
        "extra-250-at-rcpt": _said("rcpt", Say(rcpt + final), allows=GIVEN_UP),
        "final-250-with-the-354": _said("data", Say(data + final)),
        "final-250-with-the-354-and-close": _said("data", Say(data + final), Close()),
        "extra-250-at-final": Behaviour(acts={"final": (Say(final + final),)}),
        "421-after-final": Behaviour(acts={"final": (Say(final + b"421 4.3.2 bye\r\n"), Close())}),
        "close-after-final": Behaviour(acts={"final": (Say(final), Close())}),
        "552-at-rcpt": _said("rcpt", Say(b"552 5.5.3 too many recipients\r\n")),
        "354-without-recipients": Behaviour(
            acts={"rcpt": (Say(b"550 5.1.1 no such user\r\n"),), "data": (Say(data),)},
            allows=FAILED,
        ),
    }


def _everyday() -> dict[str, Behaviour]:
    """What is allowed, and not as usual."""
    yes, soft, hard = (
        (Say(HONEST["rcpt"]),), (Say(b"450 4.2.1 busy\r\n"),), (Say(b"550 5.1.1 unknown\r\n"),)
    )  # fmt: skip
    junk = ("", "-", "SIZE", "SIZE x", "X=\t=", "\xe9\x00", "AUTH " + "LOGIN " * 200)
    return {
        "honest": Behaviour(),
        "no-pipelining": Behaviour(features=FEATURES[1:]),
        "no-extensions": Behaviour(features=()),
        "no-size": Behaviour(features=("PIPELINING", "8BITMIME")),
        "size-without-limit": Behaviour(features=("PIPELINING", "SIZE", "8BITMIME")),
        "size-zero": Behaviour(features=("SIZE 0", "8BITMIME")),
        "tiny-size": Behaviour(features=("PIPELINING", "SIZE 10", "8BITMIME"), allows=FAILED),
        "lower-case-features": Behaviour(features=("pipelining", "size 1000000", "8bitmime")),
        "garbage-features": Behaviour(features=(*junk, *FEATURES)),
        "mixed-recipients": Behaviour(
            recipients=(yes, soft, hard), allows=DELIVERED | DEFERRED | FAILED
        ),
        "taken-and-close": Behaviour(acts={"final": (Close(),)}, takes=True, allows=DEFERRED),
        "taken-and-reset": Behaviour(
            acts={"final": (Close(reset=True),)}, takes=True, allows=DEFERRED
        ),
        "taken-and-half-open": Behaviour(acts={"final": (Vanish(),)}, takes=True, allows=DEFERRED),
        "taken-and-silence": Behaviour(acts={"final": (Silence(),)}, takes=True, allows=DEFERRED),
        "taken-and-half-a-reply": Behaviour(
            acts={"final": (Say(b"250 2.0.0 ta"), Close())}, takes=True, allows=DEFERRED
        ),
        "taken-and-4yz": Behaviour(
            acts={"final": (Say(b"451 4.3.0 later\r\n"),)}, takes=True, allows=DEFERRED
        ),
    }


#: name -> behaviour
BEHAVIOURS: Final[Mapping[str, Behaviour]] = {
    **_everyday(),
    **_at_each_stage(),
    **_malformed(),
    **_out_of_place(),
}
