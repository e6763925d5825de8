"""Periods by the calendar, and which quota a message exceeds first."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.domain.quotas import NOTHING, QUOTAS, exceeded, month_of, period_of
from hermes.domain.usage import AcceptedLine, used_of

DAYS = st.dates(date(1970, 1, 1), date(9000, 1, 1))
AMOUNT = st.integers(0, 20)
AMOUNTS = st.tuples(AMOUNT, AMOUNT, AMOUNT)


@given(DAYS)
def test_a_day_is_in_its_month_and_months_leave_no_gap(day: date) -> None:
    first, end = month_of(day)
    assert first <= day < end and first.day == end.day == 1
    assert month_of(end - timedelta(days=1)) == (first, end)


@pytest.mark.parametrize(
    ("quota", "day", "begins", "ends"),
    [
        ("messages_per_day", date(2026, 2, 28), datetime(2026, 2, 28, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)),
        ("spend_per_month", date(2026, 12, 31), datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
        ("segments_per_month", date(2028, 2, 29), datetime(2028, 2, 1, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)),
    ],
)
def test_periods(quota: str, day: date, begins: datetime, ends: datetime) -> None:
    assert period_of(quota, day) == (begins, ends)


@pytest.mark.parametrize(
    ("limits", "month", "day", "adds", "over"),
    [
        ({}, (9, 9, 9), (9, 9, 9), (1, 1, 1), None),
        ({"messages_per_day": 3}, (9, 0, 0), (2, 0, 0), (1, 0, 0), None),
        ({"messages_per_day": 3}, (9, 0, 0), (3, 0, 0), (1, 0, 0), ("messages_per_day", 3)),
        ({"segments_per_day": 3}, (0, 2, 0), (0, 2, 0), (1, 2, 0), ("segments_per_day", 2)),
        ({"segments_per_day": 3}, (0, 5, 0), (0, 5, 0), (1, 0, 0), None),  # an e-mail has no parts
        ({"spend_per_month": 100}, (0, 0, 99), (0, 0, 0), (1, 1, 2), ("spend_per_month", 99)),
        ({"messages_per_day": 1, "messages_per_month": 1}, (1, 0, 0), (1, 0, 0), (1, 0, 0), ("messages_per_month", 1)),
    ],
)
def test_the_first_quota_that_is_exceeded(limits, month, day, adds, over) -> None:
    found = exceeded([limits.get(name, 0) for name in QUOTAS], month, day, adds)
    assert (None if found is None else (QUOTAS[found[0]], found[1])) == over


@given(st.tuples(*[AMOUNT] * 6), st.lists(AMOUNTS, max_size=30))
def test_no_quota_is_ever_passed_by_what_fits(limits: tuple[int, ...], messages) -> None:
    used = NOTHING
    for adds in messages:
        if exceeded(limits, used, used, adds) is None:
            used = tuple(a + b for a, b in zip(used, adds, strict=True))
    assert all(not limit or have <= limit for limit, have in zip(limits, (*used, *used), strict=True))


def test_of_what_was_expected_and_what_was_spent_the_higher_counts() -> None:
    own = AcceptedLine("t", "live", True, (1, 2, 50), (3, 4, 80), 10, 500)
    others = AcceptedLine("t", "live", False, (10, 20, 30), (10, 20, 30), 5, 5)
    assert used_of([own, others]) == (13, 24, 505, 11, 22, 80)
