"""The schedule of behaviour 18 as a table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carriers.smpp import constants as c
from carriers.smpp.reconnect import cause_of, reconnect_delay

CAUSES = ("lost", "unbound", "closed_before_bind", "already_bound", "refused", "busy")


@pytest.mark.parametrize(
    ("cause", "attempt", "since_s", "delay"),
    [
        ("lost", 0, 0.0, 0.0),
        ("lost", 1, 0.1, 0.8),
        ("lost", 70, 59.0, 0.8),
        ("lost", 80, 62.0, 2.0),
        ("lost", 81, 64.0, 4.0),
        ("lost", 82, 68.0, 8.0),
        ("lost", 90, 3_600.0, 30.0),
        ("unbound", 0, 0.0, 1.0),
        ("unbound", 1, 3.0, 4.0),
        ("refused", 0, 0.0, 5.0),
        ("refused", 1, 5.0, 30.0),
        ("refused", 2, 35.0, 60.0),
        ("refused", 50, 9_999.0, 60.0),
        ("closed_before_bind", 0, 0.0, 2.0),
        ("closed_before_bind", 3, 14.0, 16.0),
        ("closed_before_bind", 99, 9_999.0, 30.0),
        ("already_bound", 0, 0.0, 1.0),
        ("already_bound", 2, 3.0, 3.0),
        ("already_bound", 99, 300.0, 3.0),
        ("busy", 0, 0.0, 2.0),
    ],
)
def test_18_delays(cause, attempt, since_s, delay):
    assert reconnect_delay(cause, attempt, since_s, 30.0, 0.0) == delay


@given(
    st.sampled_from(CAUSES),
    st.integers(0, 10_000),
    st.floats(0, 1e7),
    st.floats(1, 600),
    st.floats(0, 1, exclude_max=True),
)
def test_18_bounds(cause, attempt, since_s, max_s, jitter):
    delay = reconnect_delay(cause, attempt, since_s, max_s, jitter)
    assert 0 <= delay <= max(66.0, max_s * 1.1)
    if cause == "lost" and since_s <= 60:
        assert delay <= 0.8
    if cause == "already_bound":
        assert delay <= 3.0
    if cause == "refused":
        assert delay >= 5.0
    if cause == "closed_before_bind":
        assert delay >= 2.0
    if attempt and cause != "lost":
        assert delay > 0  # no storm


def test_18_a_carrier_gone_for_3_s_is_tried_within_1_s_of_its_return():
    now = 0.0
    for attempt in range(100):
        now += reconnect_delay("lost", attempt, now, 30.0, 0.0)
        if now > 3.0:
            break
    assert now <= 4.0


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (c.ESME_RALYBND, "already_bound"),
        (c.ESME_RINVPASWD, "refused"),
        (c.ESME_RINVSYSID, "refused"),
        (c.ESME_RBINDFAIL, "refused"),
        (c.ESME_RSYSERR, "busy"),
        (c.ESME_RTHROTTLED, "busy"),
        (0x433, "refused"),
    ],
)
def test_19_what_a_refused_bind_means(status, cause):
    assert cause_of(status) == cause
