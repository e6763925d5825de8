"""The message as the public contract shows it: what GET, lists and webhooks send."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from hermes.domain.events import INTERNAL_EVENTS, Event
from hermes.domain.fold import Attempt, Cascade, fold
from hermes.domain.message import Message, rfc3339


def public_message(
    message: Message,
    events: Sequence[Event],
    *,
    full: bool = True,
    until_seq: int | None = None,
    state: Cascade | None = None,
) -> dict[str, Any]:
    """Show a message as the public contract has it: JSON values only, in the contract's order.

    The values of `to`, `metadata` and each event's `data` are the message's own: encode the answer, do not
    change it.

    Args:
        message: the accepted message.
        events: its events in order of seq, internal ones included.
        full: False leaves out `attempts` and `events` (the summary of a list).
        until_seq: show the message as it stood right after this event (a webhook's body); None: as it stands.
        state: the fold over these events, from who has it; it is not changed.
    """
    if state is None:
        state = fold(message, events if until_seq is None else [e for e in events if e.seq <= until_seq])
    shown = {
        "id": message.message_id,
        "tenant": message.tenant,
        "status": state.status,
        "reference": message.reference,
        "metadata": message.metadata,
        "category": message.category,
        "to": message.to,
        "cascade": [
            {"channel": step.channel, "timeout_s": step.timeout_s, "success": step.success} for step in message.cascade
        ],
        "delivered_by": state.delivered_by,
        "cost": state.cost(),
        "created_at": rfc3339(message.created_at),
        "updated_at": rfc3339(state.updated_at or message.created_at),
        "expires_at": rfc3339(state.message.expires_at),
        "final_at": _time(state.final_at),
    }
    if full:
        shown["attempts"] = [_attempt(message, a) for a in state.attempts]
        shown["events"] = [
            {
                "seq": event.seq,
                "at": rfc3339(event.at),
                "type": event.type,
                "step": event.step,
                "attempt": event.attempt,
                "data": event.data,
            }
            for event in events
            if event.type not in INTERNAL_EVENTS and (until_seq is None or event.seq <= until_seq)
        ]
    return shown


def _attempt(message: Message, a: Attempt) -> dict[str, Any]:
    sms = a.channel == "sms"  # radio parts mean nothing elsewhere
    return {
        "step": a.step,
        "attempt": a.attempt,
        "channel": a.channel,
        "carrier": a.carrier,
        "carrier_message_ids": a.carrier_message_ids,
        "segments": (a.segments if a.segments is not None else message.segments) if sms else None,
        "segments_detail": [
            {
                "n": n,
                "carrier_message_id": part.carrier_message_id,
                "status": part.status,
                "error": part.error,
            }
            for n, part in enumerate(a.parts, 1)
        ]
        if sms
        else [],
        "status": a.status,
        "error": a.error,
        "recovered": a.recovered,
        "cost": a.cost,
        "queued_at": rfc3339(a.queued_at),
        "submitted_at": _time(a.submitted_at),
        "ended_at": _time(a.ended_at),
    }


def _time(at: datetime | None) -> str | None:
    return None if at is None else rfc3339(at)
