"""The architectures by name."""

from __future__ import annotations

from refmta.architectures.refmta import REFMTA

ARCHITECTURES = {each.name: each for each in (REFMTA,)}
