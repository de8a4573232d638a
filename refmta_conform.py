"""pytest's plugin of refmta-conform: a fixture that puts a server to the cases.

    def test_my_server(refmta_conform):
        refmta_conform("127.0.0.1:2525", "5321", rcpt="ada@example.org").check()

It stands outside the packages, and imports them when it is used, so that nobody's pytest run is
slower, or broken, because refmta is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from specs.conformance.api import Outcome


@pytest.fixture(scope="session")
def refmta_conform() -> Callable[..., Outcome]:
    """Call it with HOST[:PORT] and sections; keywords are the options of the command line, with an
    underscore for a dash: rcpt (one, or a list), unknown_rcpt, relay_rcpt, maildir, sender,
    sender_maildir, hostname, submission, tls, lmtp, user, password, names, hops, expect, strict,
    security, slow, jobs, wait, timeout, quiet, patience, seed, name.  An unknown one, and a wrong
    value, is a ValueError that names it.

    What it returns has `record`, `judged` and `check()`, which fails the test with each failure's
    requirement, what was expected, and what was got.
    """
    try:
        from specs.conformance.api import conform  # noqa: PLC0415  see above
    except ImportError as error:
        pytest.fail(
            f"refmta-conform can't be imported ({error}); is there another package `specs`, of your"
            " own, before it on sys.path?"
        )

    def call(address: str, *sections: str, **options: Any) -> Outcome:
        return conform(address, *sections, **options)

    return call
