"""All servers that are measured, by name, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from subjects.conformance.aiosmtpd import Aiosmtpd
from subjects.conformance.exim import Exim
from subjects.conformance.opensmtpd import Opensmtpd
from subjects.conformance.postfix import Postfix
from subjects.conformance.refmta import Refmta
from subjects.conformance.sendmail import Sendmail
from subjects.conformance.setup import Setup

SERVERS: Final[Mapping[str, Callable[[], Setup]]] = MappingProxyType({
    "refmta": Refmta, "postfix": Postfix, "exim": Exim, "opensmtpd": Opensmtpd,
    "sendmail": Sendmail, "aiosmtpd": Aiosmtpd,
})  # fmt: skip
