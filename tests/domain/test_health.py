"""The breaker and what a carrier's state is made of."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.domain.health import Breaker, CarrierHealth

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_breaker_opens_after_five_failures_in_a_row_and_not_before() -> None:
    breaker = Breaker()
    assert [breaker.failed(0.0) for _ in range(5)] == [False, False, False, False, True]
    assert breaker.state(0.0) == "open" and not breaker.lets_through(9.9)


def test_an_answer_in_between_starts_the_count_again() -> None:
    breaker = Breaker()
    for _ in range(4):
        breaker.failed(0.0)
    breaker.succeeded()
    assert [breaker.failed(0.0) for _ in range(4)] == [False] * 4
    assert breaker.state(0.0) == "closed"


def test_half_open_lets_one_probe_through_at_a_time() -> None:
    breaker = Breaker(limit=1, open_s=10.0)
    breaker.failed(0.0)
    assert breaker.state(10.0) == "half_open" and breaker.lets_through(10.0)
    breaker.called(10.0)
    assert not breaker.lets_through(10.0)


def test_a_failed_probe_opens_it_for_the_whole_time_again() -> None:
    breaker = Breaker(limit=1, open_s=10.0)
    breaker.failed(0.0)
    breaker.called(10.0)
    breaker.failed(11.0)
    assert breaker.state(20.9) == "open" and breaker.state(21.0) == "half_open"


def test_a_successful_probe_closes_it() -> None:
    breaker = Breaker(limit=1, open_s=10.0)
    breaker.failed(0.0)
    breaker.called(10.0)
    assert breaker.succeeded()
    assert breaker.state(10.0) == "closed" and breaker.failures == 0


def test_a_throttled_probe_is_followed_by_another() -> None:
    breaker = Breaker(limit=1, open_s=10.0)
    breaker.failed(0.0)
    breaker.called(10.0)
    breaker.said_nothing()
    assert breaker.lets_through(10.0) and breaker.state(10.0) == "half_open"


def test_a_limit_of_zero_never_opens() -> None:
    breaker = Breaker(limit=0)
    assert not any(breaker.failed(0.0) for _ in range(100))


@pytest.mark.parametrize(
    ("health", "state", "reason", "available", "may_call"),
    [
        (CarrierHealth(NOW), "up", None, True, True),
        (CarrierHealth(NOW, order="paused"), "paused", "paused by an operator", False, False),
        (CarrierHealth(NOW, order="draining"), "draining", "draining by an operator", False, False),
        (CarrierHealth(NOW, stopped="provider_auth 535"), "down", "provider_auth 535", False, False),
        (CarrierHealth(NOW, away="ESME_RINVPASWD"), "down", "ESME_RINVPASWD", False, False),
        (CarrierHealth(NOW, Breaker(failures=5, opened_at=95.0)), "down", "5 failures in a row", False, False),
        (CarrierHealth(NOW, Breaker(failures=5, opened_at=80.0)), "degraded", "5 failures in a row", True, True),
        (
            CarrierHealth(NOW, Breaker(failures=5, opened_at=80.0, probing=True)),
            "degraded",
            "5 failures in a row",
            True,
            False,
        ),
    ],
)
def test_state_of_a_carrier(
    health: CarrierHealth, state: str, reason: str | None, available: bool, may_call: bool
) -> None:
    assert (health.state(100.0), health.reason(100.0)) == (state, reason)
    assert (health.available(100.0), health.may_call(100.0)) == (available, may_call)


@given(st.lists(st.tuples(st.sampled_from(["ok", "fail", "call", "nothing"]), st.floats(0, 20)), max_size=60))
def test_an_open_breaker_lets_nothing_through_and_always_half_opens(steps: list[tuple[str, float]]) -> None:
    breaker, now = Breaker(limit=2, open_s=5.0), 0.0
    for step, wait in steps:
        now += wait
        if step == "ok":
            breaker.succeeded()
        elif step == "fail":
            breaker.failed(now)
        elif step == "call" and breaker.lets_through(now):
            breaker.called(now)
        elif step == "nothing":
            breaker.said_nothing()
        if breaker.state(now) == "open":
            assert not breaker.lets_through(now)
            assert breaker.state(now + 5.0) == "half_open"


def test_a_breaker_tripped_by_something_else_says_why_and_closes_as_usual() -> None:
    health = CarrierHealth(NOW, Breaker(open_s=10.0))
    assert health.breaker.trip(0.0, "its receipts stopped coming")
    assert not health.breaker.trip(1.0, "again")
    assert (health.state(5.0), health.reason(5.0)) == ("down", "its receipts stopped coming")
    health.breaker.called(10.0)
    health.breaker.succeeded()
    assert (health.state(10.0), health.reason(10.0)) == ("up", None)
    assert not Breaker(limit=0).trip(0.0, "never")


def test_a_carrier_whose_health_check_fails_is_degraded_and_asked_all_the_same() -> None:
    health = CarrierHealth(NOW, unwell="health check: refused")
    assert (health.state(0.0), health.reason(0.0)) == ("degraded", "health check: refused")
    assert health.available(0.0) and health.may_call(0.0)
    health.away = "no bind"
    assert (health.state(0.0), health.reason(0.0)) == ("down", "no bind")
