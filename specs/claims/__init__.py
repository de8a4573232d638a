"""The paper's claims: what would decide each is written down first, and judged as far as it goes.

`specs/claims.toml` is the ledger. `ledger` reads it, `installed` finds the `instruments` that there
are, `take` takes the numbers, `record` keeps those that take long, `verdict` compares, `show`
tells; `claims` is the command.
"""

from specs.claims.command import claims

__all__ = ["claims"]
