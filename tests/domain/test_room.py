"""Who may still take of what all tenants share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.domain.room import KEPT_BACK, KEPT_BACK_FROM, has_room, holds_little


@pytest.mark.parametrize(
    ("own", "held", "limit", "may"),
    [
        (0, 0, 1, True),
        (0, 1, 1, False),
        (998, 998, 999, True),  # of few places none is kept back
        (999, 999, 999, False),
        (899, 899, 1000, True),  # alone it takes all but the last tenth
        (900, 900, 1000, False),
        (0, 900, 1000, True),  # which is there for who holds little
        (49, 949, 1000, True),
        (50, 950, 1000, False),
        (0, 950, 1000, True),  # also for who comes after that one
        (0, 999, 1000, True),
        (0, 1000, 1000, False),
        (0, 50.5, 50.5, False),  # a worker's part of the limit
    ],
)
def test_the_last_tenth_is_for_who_holds_less_than_is_free(own: int, held: int, limit: float, may: bool) -> None:
    assert has_room(own, held, limit) is may


@given(limit=st.integers(KEPT_BACK_FROM, 3_000), greedy=st.integers(1, 5))
def test_a_newcomer_finds_room_however_few_fill_it(limit: int, greedy: int) -> None:
    own = [0] * greedy
    while True:
        before = sum(own)
        for n in range(greedy):
            if has_room(own[n], sum(own), limit):
                own[n] += 1
        if sum(own) == before:
            break
    held = sum(own)
    assert held >= limit - limit // KEPT_BACK
    kept = limit // KEPT_BACK // (greedy + 1)
    assert limit - held >= min(kept, 1)
    if kept:
        assert has_room(0, held, limit) and holds_little(0, held, limit)
