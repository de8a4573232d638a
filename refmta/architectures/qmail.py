"""qmail: mutually distrusting processes, each as short-lived as it can be (paper, section 3).

client -> smtpd -> queue -> [pid mess intd todo] -> send -> lspawn -> (as the recipient) -> Maildir
                     ^                              | | '-> rspawn -> next hop
                     '------------------------------' '---> clean -> [mess intd todo]

A process per connection, per message and per delivery.  Two programs run as root: the one that
starts the others (the spawner, here), and lspawn, whose children become the recipient.  Nothing is
jailed.  Routing is done where it is needed: smtpd and send each look for themselves.

What qmail makes by exec is made here by fork from a parent that has served nobody, within one trust
domain: an interpreter takes too long to start.  Bounces go into the queue as other mail does.
"""

from __future__ import annotations

from refmta.architectures.architecture import ROOT, Architecture, CompartmentRow, Directory, talk

#: The users that qmail gives its processes; rows that name the same one share it.
_QMAILD, _QMAILQ, _QMAILS, _QMAILR = "qmaild", "qmailq", "qmails", "qmailr"

QMAIL = Architecture(
    name="qmail",
    summary="a process and a user for each step; per connection, per message, per delivery",
    compartments=(
        CompartmentRow(
            name="smtpd",
            roles=("smtpd", "resolve", "accounts"),
            user=_QMAILD,
            pooled=True,
            uses=1,
            listener=True,
            jail="none",
            reads=("/",),
            network=True,
            reason="nothing is jailed in qmail",
        ),
        CompartmentRow(
            name="queue",
            roles=("enqueue",),
            user=_QMAILQ,
            pooled=True,
            uses=1,
            jail="none",
            changes=("/pid", "/mess", "/intd", "/todo"),
            network=True,
            reason="nothing is jailed in qmail; it writes the queue",
        ),
        CompartmentRow(
            name="send",
            roles=("qmgr", "resolve", "accounts", "bounce"),
            user=_QMAILS,
            jail="none",
            reads=("/", "/mess", "/todo"),
            changes=("/info", "/local", "/remote", "/bounce", "/damaged"),
            network=True,
            reason="nothing is jailed in qmail; it keeps the queue's books",
        ),
        CompartmentRow(
            name="clean",
            roles=("clean",),
            user=_QMAILQ,
            jail="none",
            changes=("/pid", "/mess", "/intd", "/todo"),
            network=True,
            reason="nothing is jailed in qmail; it removes what its user wrote",
        ),
        CompartmentRow(
            name="lspawn",
            roles=("local",),
            user=ROOT,
            pooled=True,
            uses=1,
            becomes=True,
            ends_with="send",
            jail="none",
            reads=("/",),
            network=True,
            reason="its children become the recipients",
        ),
        CompartmentRow(
            name="rspawn",
            roles=("remote",),
            user=_QMAILR,
            pooled=True,
            uses=1,
            ends_with="send",
            jail="none",
            network=True,
            reason="it asks name servers and connects to next hops",
        ),
    ),
    talks=(
        talk("smtpd", "queue.enqueue", fresh=True, carrier="qmail"),
        talk("smtpd", "smtpd.resolve"),
        talk("smtpd.resolve", "smtpd.accounts"),
        talk("queue.enqueue", "send.qmgr"),
        talk("send.qmgr", "send.resolve"),
        talk("send.resolve", "send.accounts"),
        talk("send.qmgr", "send.bounce"),
        talk("send.bounce", "queue.enqueue", fresh=True, carrier="qmail"),
        talk("send.qmgr", "lspawn.local", carrier="qmail"),
        talk("send.qmgr", "rspawn.remote", carrier="qmail"),
        talk("send.qmgr", "clean", carrier="qmail"),
    ),
    directories=(
        # What is made here gets send's group, and is linked to where send may read it.
        Directory(path="pid", owner="queue", group="send", mode=0o2700),
        Directory(path="intd", owner="queue", group="send", mode=0o2700),
        # send reads what queue wrote, and writes nothing there.
        Directory(path="mess", owner="queue", group="send", mode=0o2750),
        Directory(path="todo", owner="queue", group="send", mode=0o2750),
        Directory(path="info", owner="send", group="send", mode=0o700),
        Directory(path="local", owner="send", group="send", mode=0o700),
        Directory(path="remote", owner="send", group="send", mode=0o700),
        Directory(path="bounce", owner="send", group="send", mode=0o700),
        Directory(path="damaged", owner="send", group="send", mode=0o700),
    ),
    draining=("smtpd", "send", "rspawn", "lspawn", "queue", "clean"),
    store="qmail_todo",
    keeper="qmgr",
    scan_s=1500.0,
    layers=("users",),
)
