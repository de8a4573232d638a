"""Names of known failures, as the harnesses call what they find (`faultinject.target.known`)."""

from __future__ import annotations

from typing import Final

#: Models of persistence (specs.persistence), from what today's file systems do to what POSIX says.
MODELS: Final = ("P1", "P2", "P3")

# -- what several are known to do, and where ------------------------------------------------------

CODES: Final = "a reply code of no class that RFC 5321 knows is a refusal for good"
NO_CODES: Final = ("smtp-code-199-at-mail", "smtp-code-600-at-final")
FULL: Final = (
    "552 to RCPT is a refusal for good; RFC 5321 4.5.3.1.10 wants it to be taken for a 452"
)
TOO_MANY: Final = ("smtp-552-at-rcpt",)
LATER_LINE: Final = "of a reply whose lines contradict one another the one with 550 counts"
CONTRADICTIONS: Final = ("smtp-bare-lf-inside-at-final", "smtp-different-codes-at-final")
FIRST_LINE: Final = "of a reply whose lines have different codes the first one counts"
BARE_LF: Final = "a reply that ends in a bare LF counts"
EARLY: Final = "a 250 that came with the 354, before the message, counts as the reply to it"
TOO_EARLY: Final = ("smtp-final-250-with-the-354", "smtp-final-250-with-the-354-and-close")
NO_RESPONSE: Final = "the C library takes a datagram for an answer that is marked as a question"
QUESTIONS: Final = ("dns-no-response", "dns-no-response-first")
OTHERS_NAMES: Final = "records of another name than was asked for count"
DIGITS: Final = "an MX whose name looks like an address is taken for that address"

# -- keys -----------------------------------------------------------------------------------------


def by(why: str, finding: str, *harnesses: str) -> dict[str, str]:
    """Found by those harnesses only."""
    return {f"{harness}/{finding}": why for harness in harnesses}


def under(why: str, finding: str, *models: str) -> dict[str, str]:
    """On crash states; models: the strongest that allows such a state."""
    return {f"crash/{finding} under {model}": why for model in models}


def at(why: str, finding: str, *destinations: str) -> dict[str, str]:
    """At bad destinations (`faultinject.network.places`)."""
    return {f"network/{finding} at {destination}": why for destination in destinations}
