"""sendmail X: persistent modules by function (paper, section 5).

client -> smtps [smtpd, enqueue -> cdb] -> qmgr [ibdb, deferred] -> smtpc -> next hop
            '----> smar <-------------------'                         '-> LMTP -> local -> Maildir

All modules are persistent, each serves many clients at once.  The server writes the content
database itself; the queue manager keeps envelopes in memory, backed by a log that it syncs in
groups, and alone schedules.  The resolver answers both.  The client delivers, also local mail,
which it hands by LMTP to agents that run as the recipient.  What holds root does no mail work: it
starts the others (the spawner here, mcp there).
"""

from __future__ import annotations

from refmta.architectures.architecture import (
    RECIPIENT,
    Architecture,
    CompartmentRow,
    Directory,
    talk,
)

SENDMAILX = Architecture(
    name="sendmailx",
    summary="persistent modules by function; content and envelope in databases of their own",
    compartments=(
        CompartmentRow(
            name="smar",
            roles=("resolve", "accounts"),
            jail="none",
            reads=("/",),
            network=True,
            reason="it reads the user database; nothing is jailed",
        ),
        CompartmentRow(
            name="qmgr",
            roles=("qmgr", "bounce"),
            jail="none",
            changes=("/cdb", "/ibdb", "/deferred", "/damaged"),
            network=True,
            reason="it keeps the envelopes; nothing is jailed",
        ),
        CompartmentRow(
            name="smtps",
            roles=("smtpd", "enqueue"),
            listener=True,
            jail="none",
            changes=("/cdb",),
            network=True,
            reason="it writes the content database; nothing is jailed",
        ),
        CompartmentRow(
            name="smtpc",
            roles=("remote", "lmtpc"),
            ends_with="qmgr",
            jail="none",
            network=True,
            reason="it asks name servers and connects to next hops",
        ),
        CompartmentRow(
            name="local",
            roles=("lmtpd",),
            user=RECIPIENT,
            per_user=True,
            ends_with="smtpc",
            jail="none",
            reads=("/",),
            network=True,
            reason="it writes mailboxes, each as its owner; nothing is jailed",
        ),
    ),
    talks=(
        talk("smtps.smtpd", "smtps.enqueue"),
        talk("smtps.smtpd", "smar.resolve", fresh=True),
        talk("smtps.enqueue", "qmgr"),
        talk("qmgr", "smar.resolve"),
        talk("qmgr", "smtpc.lmtpc"),
        talk("qmgr", "smtpc.remote", fresh=True),
        talk("smtpc.lmtpc", "local.lmtpd", carrier="stream"),
        talk("qmgr.qmgr", "qmgr.bounce"),
        talk("qmgr.bounce", "smtps.enqueue"),
        talk("smar.resolve", "smar.accounts"),
    ),
    directories=(
        # smtps writes content, qmgr opens it for those who deliver it, and removes it.
        Directory(path="cdb", owner="smtps", group="qmgr", mode=0o2770),
        Directory(path="ibdb", owner="qmgr", group="qmgr", mode=0o700),
        Directory(path="deferred", owner="qmgr", group="qmgr", mode=0o700),
        Directory(path="damaged", owner="qmgr", group="qmgr", mode=0o700),
    ),
    draining=("smtps", "qmgr", "smtpc", "local", "smar"),
    store="sendmailx_ibdb",
    keeper="qmgr",
    scan_s=0.0,
    layers=("users",),
)
