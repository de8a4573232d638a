"""Our own architecture: every compartment its own user, descriptors instead of queue access.

client -> smtpd -> enqueue -> [chunks] -> qmgr -> local (as the recipient) -> Maildir
            |         ^                   ^ | '-> remote -> next hop
            |         '----- bounce <-----|-'
            '---------> resolve <---------'        resolve -> accounts
"""

from __future__ import annotations

from refmta.architectures.architecture import (
    RECIPIENT,
    Architecture,
    CompartmentRow,
    Directory,
    talk,
)

REFMTA = Architecture(
    name="refmta",
    summary="every compartment its own user; delivery agents get one descriptor and no queue",
    # A compartment's place is its user id, which owns files: new ones come last.
    compartments=(
        CompartmentRow(name="resolve", roles=("resolve",), lazy=True),
        CompartmentRow(
            name="enqueue",
            roles=("enqueue",),
            jail="spool",
            changes=("/chunks", "/damaged"),
            reason="it writes the queue",
        ),
        CompartmentRow(
            name="qmgr",
            roles=("qmgr",),
            jail="spool",
            changes=("/chunks", "/damaged"),
            reason="it marks and frees what is in the queue",
        ),
        CompartmentRow(
            name="local",
            roles=("local",),
            user=RECIPIENT,
            per_user=True,
            ends_with="qmgr",
            jail="home",
            changes=("/",),
            reason="it writes mailboxes, each as its owner",
        ),
        CompartmentRow(name="smtpd", roles=("smtpd",), pooled=True, listener=True),
        CompartmentRow(name="bounce", roles=("bounce",), lazy=True, ends_with="qmgr"),
        CompartmentRow(
            name="remote",
            roles=("remote",),
            pooled=True,
            lazy=True,
            ends_with="qmgr",
            network=True,
            reason="it asks name servers and connects to next hops",
        ),
        CompartmentRow(
            name="accounts",
            roles=("accounts",),
            lazy=True,
            jail="none",
            reads=("/",),
            reason="the C library reads the user database, and what it needs for it, when asked",
        ),
    ),
    talks=(
        talk("smtpd", "enqueue"),
        talk("smtpd", "resolve"),
        talk("enqueue", "qmgr"),
        talk("qmgr", "resolve"),
        talk("qmgr", "local"),
        talk("qmgr", "remote"),
        talk("qmgr", "bounce"),
        talk("bounce", "enqueue"),
        talk("resolve", "accounts"),
    ),
    directories=(
        # enqueue creates, qmgr marks and unlinks; new chunks belong to the group qmgr (setgid).
        Directory(path="chunks", owner="enqueue", group="qmgr", mode=0o2770),
        Directory(path="damaged", owner="enqueue", group="qmgr", mode=0o2770),
    ),
    # enqueue outlives bounce, so that a report that is begun is kept, and its outcome marked.
    draining=("smtpd", "qmgr", "remote", "local", "bounce", "enqueue", "resolve", "accounts"),
)
