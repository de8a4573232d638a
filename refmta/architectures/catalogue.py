"""The architectures by name; and what a name may take away.

    refmta                    as it is
    refmta-landlock-jail      without these layers (patterns.defense_in_depth)
    evolved-3                 on the way from the monolith to ours (`evolution`)

So a layer that a machine lacks, or that an experiment takes away, is part of the name that every
process of the system is started with, and of whatever is said about it.
"""

from __future__ import annotations

from refmta.architectures.architecture import Architecture
from refmta.architectures.evolution import EVOLUTION
from refmta.architectures.named import UnknownArchitecture, base, take_away, without_layers
from refmta.architectures.postfix import POSTFIX, POSTFIX_UNJAILED
from refmta.architectures.qmail import QMAIL
from refmta.architectures.refmta import REFMTA
from refmta.architectures.sendmail import SENDMAIL
from refmta.architectures.sendmailx import SENDMAILX

__all__ = ["ARCHITECTURES", "UnknownArchitecture", "find", "take_away", "whole"]

ARCHITECTURES = {
    each.name: each for each in (REFMTA, SENDMAIL, QMAIL, POSTFIX, POSTFIX_UNJAILED, SENDMAILX)
}


def find(name: str) -> Architecture:
    """The architecture of that name.  Raises UnknownArchitecture."""
    return without_layers(whole(name), name)


def whole(name: str) -> Architecture:
    """The architecture from which that name takes layers away.  Raises UnknownArchitecture."""
    there = {**ARCHITECTURES, **EVOLUTION}
    return there[base(name, there)]
