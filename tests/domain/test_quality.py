"""How well a carrier delivers: ratio, median, the way back to neutral, and silence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.domain.quality import (
    NEUTRAL_RATIO,
    NEUTRAL_S,
    SILENT_AFTER_S,
    SILENT_LEAST,
    WINDOW_S,
    Quality,
)


def after(events: list[tuple[str, float]], now: float = 0.0) -> Quality:
    quality = Quality()
    for kind, value in events:
        if kind == "delivered":
            quality.delivered(now, value)
        else:
            quality.failed(now, heard=True)
    return quality


def test_a_carrier_without_a_past_is_neutral() -> None:
    quality = Quality()
    assert quality.ratio(0.0) == pytest.approx(NEUTRAL_RATIO)
    assert quality.median_s(0.0) == NEUTRAL_S


def test_few_messages_weigh_little_and_many_weigh_all() -> None:
    one, many = after([("failed", 0)]), after([("failed", 0)] * 2000)
    assert 0.8 < one.ratio(1.0) < NEUTRAL_RATIO
    assert many.ratio(1.0) < 0.02


def test_slow_receipts_cost_half_for_each_minute() -> None:
    quick, slow = after([("delivered", 3.0)] * 500), after([("delivered", 120.0)] * 500)
    assert quick.median_s(1.0) == 4.0 and slow.median_s(1.0) == 128.0
    assert quick.score(1.0) > 3 * slow.score(1.0)


@given(st.lists(st.tuples(st.sampled_from(["delivered", "failed"]), st.floats(0, 5000)), max_size=200))
def test_what_slid_out_of_the_window_is_forgotten_and_scores_stay_between_0_and_1(
    events: list[tuple[str, float]],
) -> None:
    quality = after(events)
    assert 0 <= quality.score(1.0) <= 1
    gone = WINDOW_S + 60
    assert quality.score(gone) == pytest.approx(Quality().score(gone))


@given(st.integers(0, 300), st.integers(0, 300))
def test_more_deliveries_never_lower_the_ratio(delivered: int, failed: int) -> None:
    events = [("delivered", 1.0)] * delivered + [("failed", 0.0)] * failed
    assert after([*events, ("delivered", 1.0)]).ratio(0.0) >= after(events).ratio(0.0)


def test_what_is_not_the_carriers_fault_is_heard_and_does_not_count() -> None:
    quality = Quality()
    quality.failed(0.0, heard=True, its_fault=False)
    assert quality.ratio(0.0) == pytest.approx(NEUTRAL_RATIO)


def test_a_carrier_that_used_to_report_and_stopped_is_silent_after_a_minute() -> None:
    quality = Quality()
    quality.delivered(0.0, 1.0)
    for n in range(SILENT_LEAST):
        quality.taken(100.0 + n)
    assert not quality.fell_silent(130.0)
    assert quality.fell_silent(150.0 + SILENT_AFTER_S)
    quality.forgive_silence()
    assert not quality.fell_silent(160.0 + SILENT_AFTER_S)


def test_a_carrier_that_never_reported_is_not_silent_but_not_set_up() -> None:
    quality = Quality()
    for n in range(1000):
        quality.taken(float(n) / 100)
    assert not quality.fell_silent(400.0)


def test_a_carrier_that_reports_on_some_is_not_silent() -> None:
    quality = Quality()
    for n in range(100):
        quality.taken(100.0)
        if n % 5 == 0:
            quality.delivered(101.0, 1.0)
    assert not quality.fell_silent(300.0)
