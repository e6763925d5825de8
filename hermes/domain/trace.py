"""A message's trace: spans made from what its events say, with ids that follow from the message's id.

Nothing is carried along while a message is on its way. What a message did is in its events, so its spans are made
when it has ended, by whoever ended it; and since every id follows from the message's, a receipt that comes an hour
later in another process, or a webhook call, knows whose child it is. Pure: what is done with spans is telemetry.py's.

Sources: W3C Trace Context (traceparent, 3.2), OpenTelemetry's messaging span conventions, 1.27 (names, kinds).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Final, Literal, NamedTuple

from hermes.domain.fold import Attempt, Cascade
from hermes.domain.message import Message

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Value = str | int | float | bool

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_FAILED: Final = frozenset({"rejected", "undelivered", "timed_out", "ambiguous"})


class TraceParent(NamedTuple):
    """Who called us: ids of the caller's trace and span, and whether it records its trace."""

    trace_id: int
    span_id: int
    sampled: bool


class Trace(NamedTuple):
    """Where a message's spans belong.

    Attributes:
        parent_id: the caller's span; None when the trace begins here.
        sampled: what the caller said; None when there was none to say it.
    """

    trace_id: int
    parent_id: int | None
    sampled: bool | None


@dataclass(slots=True, frozen=True)
class SpanEvent:
    """Something that happened at a moment of a span."""

    name: str
    at: datetime
    attributes: Mapping[str, Value] = field(default_factory=dict)


@dataclass(slots=True, frozen=True)
class Span:
    """One span, ready to be exported.

    Attributes:
        error: why it failed; None when it did not.
        links: (trace id, span id) of spans it belongs to beside its parent.
    """

    name: str
    trace_id: int
    span_id: int
    parent_id: int | None
    kind: Kind
    start: datetime
    end: datetime
    attributes: Mapping[str, Value]
    events: tuple[SpanEvent, ...] = ()
    error: str | None = None
    links: tuple[tuple[int, int], ...] = ()


def parse_traceparent(text: str | None) -> TraceParent | None:
    """Read a traceparent header; None when it is none, as the specification wants it to be treated."""
    match = _TRACEPARENT.fullmatch(text) if text is not None and len(text) <= 128 else None
    if match is None or match[1] == "ff" or (match[1] == "00" and match[5]):
        return None
    trace_id, span_id = int(match[2], 16), int(match[3], 16)
    return TraceParent(trace_id, span_id, bool(int(match[4], 16) & 1)) if trace_id and span_id else None


def traceparent(trace_id: int, span_id: int) -> str:
    """Write the header for a call we make within a trace we record."""
    return f"00-{trace_id:032x}-{span_id:016x}-01"


def trace_of(message: Message) -> Trace:
    """Say in which trace a message's spans belong: its caller's, or its own."""
    caller = parse_traceparent(message.traceparent)
    if caller is not None:
        return Trace(caller.trace_id, caller.span_id, caller.sampled)
    return Trace(_id(message.message_id, "trace", 16), None, None)


def message_span(message_id: str) -> int:
    """Return the id of a message's own span, the parent of all others."""
    return _id(message_id, "message", 8)


def attempt_span(message_id: str, step: int, attempt: int) -> int:
    """Return the id of the span of one try."""
    return _id(message_id, f"attempt {step} {attempt}", 8)


def webhook_span(message_id: str, seq: int, target: str, attempts: int) -> int:
    """Return the id of the span of one call to a customer's webhook."""
    return _id(message_id, f"webhook {seq} {target} {attempts}", 8)


def message_spans(state: Cascade, accepted_at: datetime | None) -> list[Span]:
    """Make the spans of a message that has ended: its own, its acceptance, its tries and their waits for a receipt.

    Args:
        state: with a final status.
        accepted_at: when its 202 was committed; None: that was in another process, and nobody knows any more.
    """
    message = state.message
    trace = trace_of(message)
    own = message_span(message.message_id)
    end = state.final_at or message.created_at
    about: dict[str, Value] = {
        "hermes.message_id": message.message_id,
        "hermes.tenant": message.tenant,
        "hermes.status": state.status,
        "hermes.category": message.category,
        "hermes.mode": message.mode,
        "hermes.cascade": ",".join(step.channel for step in message.cascade),
    }
    if state.delivered_by is not None:
        about["hermes.delivered_by"] = message.cascade[state.delivered_by].channel
    spans = [
        Span(
            "message",
            trace.trace_id,
            own,
            trace.parent_id,
            "server",
            message.created_at,
            max(end, message.created_at),
            about,
            error=None if state.status in ("delivered", "cancelled") else state.status,
        ),
    ]
    if accepted_at is not None:
        id_ = _id(message.message_id, "accept", 8)
        about = {"hermes.message_id": message.message_id, "hermes.tenant": message.tenant}
        begun = message.created_at
        spans.append(Span("accept", trace.trace_id, id_, own, "internal", begun, max(accepted_at, begun), about))
    for a in state.attempts:
        spans.extend(_attempt_spans(message, trace, own, a, end))
    return spans


def _attempt_spans(message: Message, trace: Trace, own: int, a: Attempt, end: datetime) -> list[Span]:
    id_ = attempt_span(message.message_id, a.step, a.attempt)
    start = a.not_before or a.queued_at
    ended = max(a.ended_at or end, start)
    submitted = a.submitted_at
    about: dict[str, Value] = {
        "hermes.message_id": message.message_id,
        "hermes.step": a.step,
        "hermes.attempt": a.attempt,
        "hermes.channel": a.channel,
        "hermes.carrier": a.carrier,
        "hermes.status": a.status,
        "hermes.recovered": a.recovered,
    }
    if a.carrier_message_ids:
        about["hermes.carrier_message_id"] = a.carrier_message_ids[0]
    if a.segments is not None:
        about["hermes.segments"] = a.segments
    error = None
    if a.status in _FAILED:
        error = a.status
        if a.error is not None:
            about["error.type"] = str(a.error["class"])
            error = str(a.error["class"])
    events = (SpanEvent("submitted", submitted, {"hermes.carrier": a.carrier}),) if submitted is not None else ()
    spans = [Span(f"send {a.channel}", trace.trace_id, id_, own, "client", start, ended, about, events, error)]
    if submitted is not None and ended > submitted:
        wait = _id(message.message_id, f"wait {a.step} {a.attempt}", 8)
        facts: dict[str, Value] = {"hermes.carrier": a.carrier, "hermes.status": a.status}
        spans.append(Span("await receipt", trace.trace_id, wait, id_, "internal", submitted, ended, facts, (), error))
    return spans


def receipt_span(message: Message, step: int, attempt: int, carrier: str, status: str, at: datetime) -> Span:
    """Make the span of a receipt that came after its message had ended: a child of its try, linked to it."""
    trace = trace_of(message)
    sent = attempt_span(message.message_id, step, attempt)
    about: dict[str, Value] = {
        "hermes.message_id": message.message_id,
        "hermes.tenant": message.tenant,
        "hermes.carrier": carrier,
        "hermes.status": status,
    }
    id_ = _id(message.message_id, f"receipt {step} {attempt} {status} {at.isoformat()}", 8)
    links = ((trace.trace_id, sent),)
    return Span("receipt", trace.trace_id, id_, sent, "consumer", at, at, about, links=links)


def _id(message_id: str, what: str, octets: int) -> int:
    """Derive an id; never 0, which means none."""
    return int.from_bytes(blake2b(f"{message_id} {what}".encode(), digest_size=octets).digest(), "big") or 1
