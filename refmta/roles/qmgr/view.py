"""What the operator sees of a message in the queue, read from the disk."""

from __future__ import annotations

from typing import Any

import msgspec

from refmta.protocol import delivery
from refmta.stores.queue import QueueStore
from refmta.wire.envelope import ChunkError, Envelope


class RecipientRow(msgspec.Struct, frozen=True, kw_only=True):
    """One recipient: where it stands, and what the last attempt said."""

    address: str
    status: str
    attempts: int
    code: str
    text: str


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One message.  Times in seconds since 1970; next_attempt_s is null if none is planned."""

    queue_id: str
    state: str
    arrival_s: int
    octets: int
    sender: str
    client: str
    recipients: tuple[RecipientRow, ...]
    next_attempt_s: float | None = None


def look(store: QueueStore[Any], queue_id: str, next_s: float | None = None) -> Row | None:
    """The row of a message; None if it is not (or no longer) there."""
    try:
        loaded = store.look(queue_id)
    except (ChunkError, OSError):
        return None
    store.disk.close(loaded.handle)
    envelope = loaded.envelope
    state = delivery.start(queue_id, envelope.arrival_s, envelope.recipients)
    try:
        state, _ = delivery.replay(state, loaded.marks)
    except delivery.MarkError:
        return None
    return _row(envelope, state, loaded.octets, next_s)


def _row(envelope: Envelope, state: delivery.Message, octets: int, next_s: float | None) -> Row:
    planned = next_s is not None and 0 < next_s < float("inf")
    return Row(
        queue_id=envelope.queue_id,
        state=_state(state),
        arrival_s=envelope.arrival_s,
        octets=octets,
        sender=envelope.reverse_path,
        client=envelope.client,
        recipients=tuple(
            RecipientRow(
                address=each.address,
                status=each.status.value,
                attempts=each.attempt,
                code=each.code,
                text=each.text,
            )
            for each in state.recipients
        ),
        next_attempt_s=next_s if planned else None,
    )


def _state(state: delivery.Message) -> str:
    """One word for the whole message: the one that asks most for attention."""
    if state.held:
        return "held"
    statuses = {each.status for each in state.recipients}
    for status in (delivery.Status.FAILED, delivery.Status.DEFERRED):
        if status in statuses:
            return str(status.value)
    return "active"
