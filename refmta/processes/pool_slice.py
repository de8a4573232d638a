"""A pool's own slice of the configuration: its terms.

Made by `architectures.assemble`; the supervisor sends it to the parent as the slice named "pool".
The parent passes it on to workers that keep to terms by themselves: those that accept, and those
that become their session's user.
"""

from __future__ import annotations

import msgspec

from refmta.patterns.secure_preforking import Rules
from refmta.stores.recipients import Recipients

#: The role in whose name the slice travels.
POOL = "pool"


class PoolSlice(msgspec.Struct, frozen=True, kw_only=True):
    """uses: sessions per worker, whatever the rules say; 0: what they say.

    shared: workers share the listening sockets and accept by themselves; nobody counts a client's
    connections then.  becomes: each worker becomes the user that its session is for, and serves no
    other session.
    """

    rules: Rules
    uses: int = 0
    connections_per_client: int = 50
    trusted: tuple[str, ...] = ()
    shared: bool = False
    becomes: Recipients | None = None

    def terms(self) -> Rules:
        """The rules that apply: who has become somebody is used up."""
        uses = 1 if self.becomes is not None else self.uses or self.rules.max_uses
        return msgspec.structs.replace(self.rules, max_uses=uses)
