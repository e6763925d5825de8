"""What cascades are counted by: metrics, how well carriers deliver, traces. Nothing follows from it for a message."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from actors.context import Context
from hermes.domain import cascade as rules
from hermes.domain.cascade import Attempt, Cascade
from hermes.domain.events import Event

# Classes of an undelivered receipt that say nothing about the carrier: another would not have delivered either.
NOT_THE_CARRIERS: Final = frozenset(
    {
        "invalid_destination",
        "blocked_or_opted_out",
        "content_rejected",
        "invalid_request",
        "message_too_large",
        "policy_window",
    }
)


def count_answer(context: Context, state: Cascade, answer: rules.Refused | rules.InDoubt) -> None:
    """Count a carrier's answer that was none of success."""
    metrics = context.metrics
    metrics.errors.inc(answer.carrier, answer.error_class)
    if type(answer) is rules.InDoubt:
        attempt = state.find(answer.step, answer.attempt)
        metrics.attempts.inc(answer.carrier, "ambiguous")
        metrics.ambiguous.inc(attempt.policy if attempt is not None else "resend")
    else:
        metrics.attempts.inc(answer.carrier, "rejected")


def count_event(context: Context, state: Cascade, event: Event) -> None:
    """Count the end of an attempt (timed_out), or of a step (fallback); call it before the event is applied."""
    if event.type == "fallback":
        _count_step(context, state)
    elif event.step is not None and event.attempt is not None:
        a = state.find(event.step, event.attempt)
        if a is not None:
            context.metrics.attempts.inc(a.carrier, "timed_out")
            quality = context.quality.get(a.carrier)
            if quality is not None and a.status == "submitted":
                quality.failed(context.clock.monotonic(), heard=False)


def count_final(context: Context, state: Cascade, accepted_at: datetime | None) -> None:
    """Count a message that has just become final; `accepted_at` by this process, where traces are made, else None."""
    _count_step(context, state)
    context.closed(state.message.tenant)
    step = state.delivered_by if state.delivered_by is not None else state.step
    channel = state.message.cascade[step].channel
    context.metrics.final.inc(state.status, channel)
    if state.final_at is not None:
        began = state.message.send_at or state.message.created_at
        context.metrics.end_to_end_seconds.observe((state.final_at - began).total_seconds(), channel)
    if context.tracer is not None:
        context.tracer.ended(state, accepted_at)


def judge(context: Context, a: Attempt, error_class: str | None) -> None:
    """Let a final receipt say how well its carrier delivers."""
    quality = context.quality.get(a.carrier)
    if quality is None:
        return
    now = context.clock.monotonic()
    if a.status == "delivered" or a.status == "read":
        took = (context.clock.now() - a.submitted_at).total_seconds() if a.submitted_at is not None else 0.0
        quality.delivered(now, max(took, 0.0))
    elif a.status == "undelivered":
        quality.failed(now, heard=True, its_fault=error_class not in NOT_THE_CARRIERS)


def _count_step(context: Context, state: Cascade) -> None:
    began = state.step_started_at
    if began is not None:
        took_s = (context.clock.now() - began).total_seconds()
        context.metrics.step_seconds.observe(max(took_s, 0.0))
