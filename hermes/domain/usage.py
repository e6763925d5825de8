"""What a message counts for in its tenant's usage: by channel, carrier and how the message ended. Pure.

A message is counted when it is final, under the day it was created (UTC), so that a day's figures add up to the
messages listed for it. What changes later (a correction, the late answer of a carrier) is counted as a difference.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Final

from msgspec import Struct

from hermes.domain.fold import Attempt, Cascade

ACCEPTED: Final = "accepted"  # the status of lines that count what was accepted, for quotas; usage leaves them out
MICROS: Final = 1_000_000  # costs are added up in millionths, as whole numbers: no sum depends on its order

Counts = dict[tuple[str, str], tuple[int, int, int, int]]  # (channel, carrier) -> messages, attempts, segments, micros


class UsageDelta(Struct, frozen=True, gc=False):
    """What to add to one line of a tenant's usage; negative where something was counted otherwise before.

    Attributes:
        carrier: empty for a message that no carrier was asked to take.
        status: how the message ended.
        messages: a message is counted once, on the line of the attempt that decided it.
        attempts: tries that reached a carrier, refused ones included.
        segments: radio parts of SMS that a carrier took.
        cost_micros: millionths of the operator's currency.
    """

    mode: str
    day: date
    channel: str
    carrier: str
    status: str
    messages: int
    attempts: int
    segments: int
    cost_micros: int


def usage_of(state: Cascade) -> Counts:
    """Count a final message: nothing of one that is open."""
    counts: Counts = {}
    if state.open:
        return counts
    deciding: Attempt | None = None
    for a in state.attempts:
        if a.status == "queued" or (a.status == "superseded" and a.submitted_at is None):
            continue  # it never left
        if deciding is None or state.delivered_by is None or a.step == state.delivered_by:
            deciding = a
        key = (a.channel, a.carrier)
        messages, attempts, segments, micros = counts.get(key, (0, 0, 0, 0))
        if a.submitted_at is not None and a.channel == "sms":
            segments += a.segments if a.segments is not None else state.message.segments or 1
        if a.cost is not None:
            micros += round(a.cost * MICROS)
        counts[key] = (messages, attempts + 1, segments, micros)
    key = (deciding.channel, deciding.carrier) if deciding is not None else (state.message.cascade[0].channel, "")
    _, attempts, segments, micros = counts.get(key, (0, 0, 0, 0))
    counts[key] = (1, attempts, segments, micros)
    return counts


def difference(state: Cascade, before: Counts, before_status: str) -> list[UsageDelta]:
    """Say what to add for a message that counted as `before` while it had `before_status`, and stands so now."""
    message = state.message
    day = message.created_at.date()
    if not before:  # it was open: nothing of it is counted yet
        return [
            UsageDelta(message.mode, day, channel, carrier, state.status, *counted)
            for (channel, carrier), counted in usage_of(state).items()
        ]
    lines: dict[tuple[str, str, str], list[int]] = {}
    for (channel, carrier), counted in usage_of(state).items():
        lines[channel, carrier, state.status] = list(counted)
    for (channel, carrier), counted in before.items():
        line = lines.setdefault((channel, carrier, before_status), [0, 0, 0, 0])
        for n, value in enumerate(counted):
            line[n] -= value
    return [
        UsageDelta(message.mode, day, channel, carrier, status, *line)
        for (channel, carrier, status), line in lines.items()
        if any(line)
    ]


@dataclass(slots=True, frozen=True)
class AcceptedLine:
    """What was accepted of a tenant's messages of one mode, in a day and in its month; by one worker, or all others.

    Attributes:
        own: True for the worker that asks.
        day, month: messages, segments, and millionths of what they were expected to cost.
        day_cost, month_cost: what usage says those that ended did cost, in millionths.
    """

    tenant: str
    mode: str
    own: bool
    day: tuple[int, int, int]
    month: tuple[int, int, int]
    day_cost: int
    month_cost: int


def accepted(mode: str, day: date, segments: int, cost_micros: int) -> UsageDelta:
    """Count one accepted message, for quotas."""
    return UsageDelta(mode, day, "", "", ACCEPTED, 1, 0, segments, cost_micros)


def used_of(lines: Iterable[AcceptedLine]) -> tuple[int, ...]:
    """Add up what counts for one tenant's quotas, in the order of `hermes.domain.quotas.QUOTAS`.

    Of what was expected to be spent and what has been, the higher counts.
    """
    day, month, day_cost, month_cost = [0, 0, 0], [0, 0, 0], 0, 0
    for line in lines:
        for n in range(3):
            day[n] += line.day[n]
            month[n] += line.month[n]
        day_cost += line.day_cost
        month_cost += line.month_cost
    day[2] = max(day[2], day_cost)
    month[2] = max(month[2], month_cost)
    return (*month, *day)
