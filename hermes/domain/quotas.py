"""How much a tenant may have accepted in a day and in a calendar month (UTC), and whether one more message fits. Pure.

What counts is what was accepted, by the time the message was created: its number, its radio parts as SMS, and what it
was expected to cost. Where usage says that what has ended did cost more than was expected, that counts instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final

Amounts = tuple[int, int, int]  # messages, segments, millionths of the operator's currency
NOTHING: Final[Amounts] = (0, 0, 0)

# In this order they are asked: who is told of a month's end does not come back the next day in vain.
QUOTAS: Final = (
    "messages_per_month",
    "segments_per_month",
    "spend_per_month",
    "messages_per_day",
    "segments_per_day",
    "spend_per_day",
)


@lru_cache(maxsize=64)
def month_of(day: date) -> tuple[date, date]:
    """Give the first day of a day's calendar month, and that of the next one."""
    first = day.replace(day=1)
    return first, (first + timedelta(days=31)).replace(day=1)


def period_of(quota: str, day: date) -> tuple[datetime, datetime]:
    """Tell when a quota's period that holds this day began, and when the next one begins; aware, UTC."""
    first, end = month_of(day) if quota.endswith("month") else (day, day + timedelta(days=1))
    return datetime.combine(first, time(), UTC), datetime.combine(end, time(), UTC)


def exceeded(limits: Sequence[int], month: Sequence[int], day: Sequence[int], adds: Amounts) -> tuple[int, int] | None:
    """Name the first quota that one more message would exceed. A message that adds nothing to a quota does not.

    Args:
        limits: in the order of `QUOTAS`; 0: none.
        month: what is used of it.
        day: what is used of it.
        adds: what the message adds to both.

    Returns:
        Its place in `QUOTAS` and what is used of it; None: the message fits.
    """
    for n, limit in enumerate(limits):
        if limit:
            used, more = (month[n] if n < 3 else day[n - 3]), adds[n % 3]
            if more and used + more > limit:
                return n, used
    return None
