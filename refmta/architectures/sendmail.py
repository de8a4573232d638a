"""sendmail: the monolith (paper, section 2).

client -> daemon [smtpd, resolve, enqueue -> mqueue -> qmgr -> local | remote | bounce]
          runner [the same without smtpd]  <- mqueue

A root process per connection does it all, in one address space and without a channel that leaves
it: it parses, rewrites, queues and delivers.  What it leaves in the queue the runner takes up, now
and then.  Both write to the same queue, and keep out of each other's way by locks on its files.

Where sendmail forks once more to deliver in the background, this process goes on with it itself,
beside the session: a process that runs trio must not fork.  The small supervisor that starts both
has no privilege; sendmail has none.
"""

from __future__ import annotations

from refmta.architectures.architecture import ROOT, Architecture, CompartmentRow, Directory, talk

#: What every process can do, in the order in which it is brought to an end; and with whom.
_DELIVERY = ("qmgr", "remote", "local", "bounce", "enqueue", "resolve", "accounts")
_WITHIN = (
    ("enqueue", "qmgr"),
    ("qmgr", "resolve"),
    ("qmgr", "local"),
    ("qmgr", "remote"),
    ("qmgr", "bounce"),
    ("bounce", "enqueue"),
    ("resolve", "accounts"),
)

SENDMAIL = Architecture(
    name="sendmail",
    summary="one root process per connection that does all",
    compartments=(
        CompartmentRow(
            name="daemon",
            roles=("smtpd", *_DELIVERY),
            user=ROOT,
            pooled=True,
            uses=1,
            listener=True,
            jail="none",
            reads=("/",),
            changes=("/mqueue", "/damaged"),
            network=True,
            reason="it is all there is",
        ),
        CompartmentRow(
            name="runner",
            roles=_DELIVERY,
            user=ROOT,
            jail="none",
            reads=("/",),
            changes=("/mqueue", "/damaged"),
            network=True,
            reason="it is the same program, on its rounds through the queue",
        ),
    ),
    talks=(
        talk("daemon.smtpd", "daemon.enqueue"),
        talk("daemon.smtpd", "daemon.resolve"),
        *(
            talk(f"{name}.{client}", f"{name}.{server}")
            for name in ("daemon", "runner")
            for client, server in _WITHIN
        ),
    ),
    directories=(
        Directory(path="mqueue", owner="daemon", group="daemon", mode=0o700),
        Directory(path="damaged", owner="daemon", group="daemon", mode=0o700),
    ),
    draining=("daemon", "runner"),
    store="sendmail_qfdf",
    mailbox="mbox",
    keeper="qmgr",
    scan_s=1800.0,
    layers=(),
)
