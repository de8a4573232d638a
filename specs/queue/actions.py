"""The actions of the queue spec: which there are, and which of them must happen within bounds.

An exploration in which a declared action never happens fails, so what is declared depends on the
bounds: without a remote recipient nothing is sent to a next hop.
"""

from __future__ import annotations

from specs.queue.states import Bounds

CORE = frozenset(
    {
        "client.sent",
        "smtpd.replied",
        "enqueue.created",
        "enqueue.written",
        "enqueue.synced",
        "enqueue.committed",
        "qmgr.dispatched",
        "qmgr.marked",
        "qmgr.freed",
    }
)
CORE_FAULTS = frozenset(
    {
        "connection.lost",
        "smtpd.killed",
        "enqueue.sync_failed",
        "enqueue.killed",
        "qmgr.killed",
        "machine.crashed",
    }
)
AFTER_FAULTS = frozenset(
    {
        "smtpd.refused",
        "enqueue.abandoned",
        "enqueue.restarted",
        "qmgr.restarted",
        "disk.settled",
    }
)
LOCALLY = frozenset({"local.written", "local.delivered", "local.reported"})
REMOTELY = frozenset({"hop.accepted", "remote.sent", "remote.reported"})
REMOTE_FAULTS = frozenset({"remote.killed", "remote.reply_lost"})
SETBACKS = frozenset({"agent.deferred", "agent.failed"})
PUT_OFF = frozenset({"qmgr.deferred", "qmgr.retried", "qmgr.expired"})
TOLD = frozenset({"qmgr.asked", "bounce.reported", "qmgr.reported"})
FAULTS = CORE_FAULTS | REMOTE_FAULTS | {"local.killed", "bounce.killed"}


def actions(bounds: Bounds) -> frozenset[str]:
    """What can happen within these bounds, and must."""
    remote = any("r" in each for each in bounds.recipients)
    unlucky = bounds.setbacks > 0 or (remote and bounds.faults > 0)
    reports = unlucky and not bounds.null
    found = CORE
    if bounds.faults:
        found |= CORE_FAULTS | AFTER_FAULTS
    if remote:
        found |= REMOTELY | (REMOTE_FAULTS if bounds.faults else frozenset())
    local, followed = any("l" in each for each in bounds.recipients), reports and bounds.followed
    if local or followed:
        found |= LOCALLY
    if (local and bounds.faults) or (followed and _reports_fail(bounds)):
        found |= {"local.killed"}
    if unlucky:
        found |= PUT_OFF
    if bounds.setbacks:
        found |= SETBACKS | {"qmgr.failed"}
    if reports:
        found |= TOLD | ({"bounce.refused", "bounce.killed"} if _reports_fail(bounds) else set())
    twice = bounds.setbacks > 1 or (bounds.setbacks == 1 and remote and bounds.faults > 0)
    if (unlucky and bounds.null) or (followed and twice):
        found |= {"qmgr.discarded"}
    return found


def _reports_fail(bounds: Bounds) -> bool:
    """With one fault and no setback, that fault is what led to the report."""
    return bounds.faults > 1 or (bounds.faults > 0 and bounds.setbacks > 0)
