"""Each role's own slice of the configuration, and each pool's: what it needs, and nothing else.

What differs between architectures reaches a role here, as data: which store, who keeps the queue,
where local deliveries go.  A role that is in several compartments may be told different things in
each: the queue manager of a connection's process does not keep the queue, the runner's does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import msgspec

from refmta.architectures.architecture import Architecture, CompartmentRow
from refmta.architectures.configuration import Settings, pool_rules, reserved_ids, routing_slice
from refmta.architectures.confining import is_jailed
from refmta.architectures.onward import ourselves, own_ports
from refmta.architectures.sections import Configuration
from refmta.patterns.secure_preforking import Rules
from refmta.processes.pool_slice import POOL, PoolSlice
from refmta.protocol.routing import LOCALHOST
from refmta.roles import (
    accounts,
    bounce,
    clean,
    enqueue,
    lmtpc,
    lmtpd,
    local,
    qmgr,
    remote,
    smtpd,
)
from refmta.stores.recipients import Recipients


class Jobs(NamedTuple):
    """How much one session to a destination may do."""

    recipients: int = qmgr.RECIPIENTS
    jobs: int = qmgr.JOBS


@dataclass(frozen=True, slots=True)
class Slices:
    """recipients: whose mailboxes may be written, for those who become their users.  machine: its
    addresses, for those who listen on all of them.
    """

    architecture: Architecture
    settings: Settings
    recipients: Recipients
    machine: Sequence[str] = ()

    @property
    def configuration(self) -> Configuration:
        return self.settings.configuration

    def of(self, row: CompartmentRow) -> dict[str, bytes]:
        """Of all roles of a compartment, encoded, and of its pool."""
        found: dict[str, Any] = {role: getattr(self, f"_{role}")(row) for role in row.roles}
        if row.pooled:
            found[POOL] = self.pool(row)
        return {name: msgspec.msgpack.encode(each) for name, each in found.items()}

    # -- what several ask -------------------------------------------------------------------------

    def _inside(self, row: CompartmentRow) -> str:
        """The spool, as this compartment calls it."""
        jailed = row.jail == "spool" and is_jailed(self.architecture, row)
        return "/" if jailed else str(self.settings.spool)

    def _delivery(self) -> Literal["background", "interactive", "queue"]:
        """When what arrives is tried: only a monolith has a choice."""
        mode = self.configuration.sendmail.delivery_mode
        return mode if self.architecture.store == "sendmail_qfdf" else "background"

    def _options(self) -> dict[str, str]:
        """Of the store."""
        if self.architecture.store == "sendmail_qfdf":
            return {"super_safe": self.configuration.sendmail.super_safe}
        if self.architecture.store == "qmail_todo":
            return {"local_domains": " ".join(self.configuration.domains)}
        return {}

    def _jobs(self) -> Jobs:
        """Of remote deliveries: a worker's session is one call, so uses are jobs of a session."""
        (row, *_) = [each for each in self.architecture.compartments if "remote" in each.roles]
        if row.pooled and row.uses == 1:
            return Jobs(recipients=1, jobs=1)
        return Jobs(jobs=row.uses) if row.pooled and row.uses else Jobs()

    def _agents(self) -> Literal["wanted", "shared", "called"]:
        """Where local deliveries go."""
        rows = self.architecture.compartments
        if any("lmtpc" in row.roles for row in rows):
            return "shared"
        (first, *_) = [row for row in rows if "local" in row.roles]
        if first.per_user:
            return "wanted"
        return "called" if first.pooled and first.roles[0] == "local" else "shared"

    # -- ways in ----------------------------------------------------------------------------------

    def _smtpd(self, row: CompartmentRow) -> smtpd.Slice:
        configuration, limits = self.configuration, self.configuration.limits
        return smtpd.Slice(
            hostname=configuration.hostname,
            message_octets=limits.message_octets,
            recipients=limits.recipients,
            errors=limits.errors,
            command_s=limits.command_s,
            data_s=limits.data_s,
            stress_s=configuration.smtpd.stress_command_s,
            verdict_s=limits.verdict_s,
            rewrites=bool(configuration.rewrite.canonical),
            sessions=configuration.smtpd.max_workers,
            connections_per_client=limits.connections_per_client,
            trusted=() if row.pooled else configuration.trusted,
        )

    def _enqueue(self, row: CompartmentRow) -> enqueue.Slice:
        # A Received line and its kin come on top of what the client may send.
        return enqueue.Slice(
            spool=str(self.settings.spool),
            root=self._inside(row),
            hostname=self.configuration.hostname,
            message_octets=self.configuration.limits.message_octets,
            store=self.architecture.store,
            options=self._options(),
            keeps=self.architecture.keeper == "enqueue",
            delivery=self._delivery(),
        )

    def _resolve(self, _: CompartmentRow) -> msgspec.Struct:
        return routing_slice(self.configuration, self.machine)

    def _accounts(self, _: CompartmentRow) -> accounts.Slice:
        return accounts.Slice(reserved=reserved_ids(self.configuration))

    # -- the queue, and ways out ------------------------------------------------------------------

    def _qmgr(self, row: CompartmentRow) -> qmgr.Slice:
        configuration, architecture = self.configuration, self.architecture
        stays, most = not row.pooled, self._jobs()
        scan_s = architecture.scan_s
        if architecture.store == "sendmail_qfdf":
            scan_s = configuration.sendmail.queue_interval_s
        return qmgr.Slice(
            spool=self._inside(row),
            store=architecture.store,
            options=self._options(),
            keeps=architecture.keeper == "qmgr" and stays,
            scan_s=scan_s if stays else 0.0,
            delivery=self._delivery(),
            cleaned=any("clean" in each.roles for each in architecture.compartments),
            hostname=configuration.hostname,
            lifetime_s=configuration.limits.lifetime_s,
            retry_minimum_s=configuration.retry.minimum_s,
            retry_maximum_s=configuration.retry.maximum_s,
            delay_warning_s=configuration.reports.delay_warning_s,
            copies=configuration.reports.postmaster,
            postmaster=configuration.postmaster,
            remote_workers=configuration.remote.max_workers,
            per_destination=configuration.relay.per_destination,
            rewrites=bool(configuration.rewrite.generic),
            agents=self._agents(),
            local_workers=configuration.limits.agents,
            recipients_per_job=most.recipients,
            jobs_per_session=most.jobs,
        )

    def _clean(self, row: CompartmentRow) -> clean.Slice:
        return clean.Slice(spool=str(self.settings.spool), root=self._inside(row))

    def _local(self, row: CompartmentRow) -> local.Slice:
        shared = not row.per_user and not row.becomes
        return local.Slice(
            hostname=self.configuration.hostname,
            idle_s=self.configuration.limits.agent_idle_s,
            mailbox=self.architecture.mailbox,
            all_users=shared,
            recipients=self.recipients if shared else Recipients(),
        )

    def _lmtpc(self, _: CompartmentRow) -> lmtpc.Slice:
        return lmtpc.Slice(hostname=self.configuration.hostname)

    def _lmtpd(self, _: CompartmentRow) -> lmtpd.Slice:
        return lmtpd.Slice(
            hostname=self.configuration.hostname,
            idle_s=self.configuration.limits.agent_idle_s,
            mailbox=self.architecture.mailbox,
        )

    def _remote(self, _: CompartmentRow) -> remote.Slice:
        configuration = self.configuration
        return remote.Slice(
            hostname=configuration.hostname,
            port=configuration.relay.port,
            own=(LOCALHOST, *map(str, ourselves(configuration, self.machine))),
            own_ports=own_ports(configuration),
            nameservers=configuration.relay.nameservers,
            timeouts_factor=configuration.relay.timeout_factor,
        )

    def _bounce(self, _: CompartmentRow) -> bounce.Slice:
        return bounce.Slice(
            hostname=self.configuration.hostname, postmaster=self.configuration.postmaster
        )

    # -- pools ------------------------------------------------------------------------------------

    def pool(self, row: CompartmentRow) -> PoolSlice:
        """What the file says of that role's workers, within what the architecture says."""
        configuration = self.configuration
        rules = {
            "smtpd": pool_rules(configuration.smtpd),
            "remote": pool_rules(configuration.remote),
            "local": Rules(max_workers=configuration.limits.agents, spare=0),
        }
        return PoolSlice(
            rules=rules.get(row.roles[0], Rules()),
            uses=row.uses,
            connections_per_client=configuration.limits.connections_per_client,
            trusted=configuration.trusted if row.listener else (),
            shared=row.acceptor == "workers",
            becomes=self.recipients if row.becomes else None,
        )
