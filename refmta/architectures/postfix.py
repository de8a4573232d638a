"""Postfix: resident processes on demand, pools, one low user, a jail (paper, section 4).

client -> smtpd -> cleanup -> [incoming active deferred] <- qmgr -> local (root) -> Maildir
            |                                               | | '-> smtp -> next hop
            '-------> rewrite <-----------------------------' '---> bounce -> cleanup
                         '-> proxymap

The workers of smtpd share the listening socket, and the kernel picks who gets a client; master adds
workers while none is idle.  All processes that need no root have the same user, and in the paper's
day its jail is the queue directory.  Two can't be in it: local becomes each recipient in turn, and
proxymap reads the user database for the others.

The jail of an unprivileged process is made in a user namespace here, whose capabilities it gives
up; Postfix enters it as root, before it drops that.  postfix-unjailed is the table of today's
releases.
"""

from __future__ import annotations

from dataclasses import replace

from refmta.architectures.architecture import ROOT, Architecture, CompartmentRow, Directory, talk

_QUEUE = ("/incoming", "/active", "/deferred", "/corrupt")
_LOW = "postfix"

POSTFIX = Architecture(
    name="postfix",
    summary="pools of resident processes under one low user, jailed in the queue directory",
    compartments=(
        CompartmentRow(
            name="rewrite",
            roles=("resolve",),
            user=_LOW,
            jail="spool",
            network=True,
            reason="the jail that all share",
        ),
        CompartmentRow(
            name="cleanup",
            roles=("enqueue",),
            user=_LOW,
            pooled=True,
            uses=100,
            jail="spool",
            changes=_QUEUE,
            network=True,
            reason="it writes the queue",
        ),
        CompartmentRow(
            name="qmgr",
            roles=("qmgr",),
            user=_LOW,
            jail="spool",
            changes=_QUEUE,
            network=True,
            reason="it moves mail through the queue",
        ),
        CompartmentRow(
            name="local",
            roles=("local",),
            user=ROOT,
            ends_with="qmgr",
            jail="none",
            reads=("/",),
            network=True,
            reason="it becomes each recipient in turn",
        ),
        CompartmentRow(
            name="smtpd",
            roles=("smtpd",),
            user=_LOW,
            pooled=True,
            acceptor="workers",
            uses=100,
            listener=True,
            jail="spool",
            network=True,
            reason="the jail that all share",
        ),
        CompartmentRow(
            name="bounce",
            roles=("bounce",),
            user=_LOW,
            lazy=True,
            ends_with="qmgr",
            jail="spool",
            network=True,
            reason="the jail that all share",
        ),
        CompartmentRow(
            name="smtp",
            roles=("remote",),
            user=_LOW,
            pooled=True,
            lazy=True,
            uses=100,
            ends_with="qmgr",
            jail="spool",
            network=True,
            reason="it asks name servers and connects to next hops",
        ),
        CompartmentRow(
            name="proxymap",
            roles=("accounts",),
            user=_LOW,
            lazy=True,
            jail="none",
            reads=("/",),
            network=True,
            reason="the user database is outside of the jail",
        ),
    ),
    talks=(
        talk("smtpd", "cleanup.enqueue", fresh=True),
        talk("smtpd", "rewrite.resolve"),
        talk("cleanup.enqueue", "qmgr"),
        talk("qmgr", "rewrite.resolve"),
        talk("qmgr", "local"),
        talk("qmgr", "smtp.remote"),
        talk("qmgr", "bounce"),
        talk("bounce", "cleanup.enqueue", fresh=True),
        talk("rewrite.resolve", "proxymap.accounts"),
    ),
    directories=tuple(
        Directory(path=each[1:], owner="qmgr", group="qmgr", mode=0o700) for each in _QUEUE
    ),
    draining=("smtpd", "qmgr", "smtp", "local", "bounce", "cleanup", "rewrite", "proxymap"),
    store="postfix_modebit",
    keeper="qmgr",
    scan_s=300.0,
    layers=("users", "namespace", "jail", "capabilities"),
)


def _unjailed(row: CompartmentRow) -> CompartmentRow:
    """The same compartment with the machine's root."""
    if row.jail == "none":
        return row
    return replace(row, jail="none", reason=row.reason or "nothing is jailed")


POSTFIX_UNJAILED = replace(
    POSTFIX,
    name="postfix-unjailed",
    summary="pools of resident processes under one low user, not jailed",
    compartments=tuple(map(_unjailed, POSTFIX.compartments)),
    layers=("users",),
)
