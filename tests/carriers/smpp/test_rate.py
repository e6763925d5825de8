"""Pace: what goes, and what carriers of every kind of limit see of it."""

from __future__ import annotations

import heapq
import random
from math import ceil, inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carriers.smpp.rate import (
    BURST_S,
    CATCH_UP_S,
    CUT,
    HEADROOM,
    PAUSE_S,
    Pacer,
    RateController,
    TokenBucket,
    account_bucket,
)


@given(st.floats(1, 5_000), st.lists(st.floats(0, 0.3), min_size=1, max_size=200))
def test_14_a_bucket_never_lets_more_through_than_its_rate_and_one_burst(rate, waits):
    bucket, now, taken = TokenBucket(rate), 100.0, 0
    for wait in waits:
        now += wait
        while bucket.wait(now) == 0:
            bucket.take(now)
            taken += 1
        assert taken <= (now - 100.0) * rate + max(1.0, rate * BURST_S) + 1e-3


def test_14_a_burst_is_at_most_a_twentieth_of_a_second():
    assert BURST_S <= 1 / 20
    bucket = TokenBucket(1_000)
    n = 0
    while bucket.wait(0.0) == 0:
        bucket.take(0.0)
        n += 1
    assert n <= 50


def test_14_the_wait_is_just_long_enough():
    bucket = TokenBucket(3)
    bucket.take(7.0)
    now = 7.0
    for _ in range(1_000):
        now += bucket.wait(now)
        assert bucket.wait(now) == 0
        bucket.take(now)
    assert now == pytest.approx(7 + 1_000 / 3, rel=1e-6)


@pytest.mark.parametrize("rate", [0, inf])
def test_14_no_limit(rate):
    bucket = TokenBucket(rate)
    for _ in range(10_000):
        assert bucket.wait(1.0) == 0
        bucket.take(1.0)


def test_14_binds_share_their_accounts_bucket():
    account = account_bucket(100)
    pacers = [Pacer(80, account), Pacer(80, account)]
    now, taken = 0.0, 0
    while now < 5:
        waits = [pacer.wait(now) for pacer in pacers]
        for pacer in pacers:
            if pacer.wait(now) == 0:
                pacer.take(now)
                taken += 1
        now += max(min(waits), 0.001)
    assert 0.9 * 500 < taken <= 500


def test_14_a_bind_has_its_own_limit():
    pacer, now, taken = Pacer(50), 0.0, 0
    while now < 4:
        if pacer.wait(now) == 0:
            pacer.take(now)
            taken += 1
        else:
            now += pacer.wait(now)
    assert 0.9 * 200 < taken <= 200


def test_13_throttled_pauses_cuts_and_creeps_up_to_the_limit_again():
    controller = RateController(100)
    until = controller.throttled_at(10.0, 9.9, lambda: 0.0)
    assert until == pytest.approx(10 + PAUSE_S[0])
    for n in range(100):
        controller.accepted(11 + n / 100)
    until = controller.throttled_at(12.0, 11.9, lambda: 1.0)
    assert until == pytest.approx(12 + PAUSE_S[1])
    assert controller.wait(12.5) == pytest.approx(0.5)
    rates = [controller.rate(13 + n / 10) for n in range(300)]
    assert rates == sorted(rates)
    assert rates[-1] == 100


def test_13_the_cut_is_to_0_7_of_what_was_taken():
    controller = RateController(200)
    for n in range(200):
        controller.accepted(10 + n / 200)
    until = controller.throttled_at(11.0, 10.9, lambda: 0.5)
    assert controller.rate(until) == pytest.approx(200 * CUT, rel=0.15)


def test_13_answers_to_what_went_before_the_cut_cut_no_further():
    controller = RateController(200)
    for n in range(200):
        controller.accepted(10 + n / 200)
    until = controller.throttled_at(11.0, 10.99, lambda: 0.5)
    rate = controller.rate(until)
    for _ in range(50):
        assert controller.throttled_at(11.01, 10.995, lambda: 0.5) == until
    assert controller.rate(until) == rate
    assert controller.throttled == 51


class Centre:
    """Answers after a round trip; throttles by the second of its own clock, or by a bucket of some seconds' depth."""

    def __init__(self, limit, depth):
        self.limit, self.depth = limit, depth
        self.second, self.taken = -1, 0
        self.tokens, self.at = limit * (depth or 0), 0.0

    def takes(self, now):
        if self.depth is None:
            if int(now + 0.37) != self.second:
                self.second, self.taken = int(now + 0.37), 0
            self.taken += 1
            return self.taken <= self.limit
        self.tokens = min(self.limit * self.depth, self.tokens + (now - self.at) * self.limit)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


def send(pacer, centre, total, window, rtt=0.005, late_s=0.0):
    """Send at one moment after another; each comes up to `late_s` later than it was asked for."""
    rng, now, queue, sent, throttled = random.Random(3), 0.0, total, 0, 0
    under_way: list[tuple[float, float, bool]] = []
    accepted: list[float] = []
    while len(accepted) < total:
        assert now < 120
        can = queue and len(under_way) < window
        pacer.waits(bool(queue) and not pacer.controller.throttled_lately(now), now)
        now = max(now, min(now + pacer.wait(now) if can else inf, under_way[0][0] if under_way else inf))
        now += late_s * rng.random()
        while under_way and under_way[0][0] <= now:
            at, sent_at, taken = heapq.heappop(under_way)
            if taken:
                accepted.append(at)
                pacer.controller.accepted(at)
            else:
                throttled += 1
                queue += 1
                pacer.controller.throttled_at(at, sent_at, rng.random)
        while queue and len(under_way) < window and pacer.wait(now) <= 0:
            pacer.take(now)
            queue -= 1
            sent += 1
            heapq.heappush(under_way, (now + rtt, now, centre.takes(now + rtt / 2)))
    return now, throttled / sent, accepted


@pytest.mark.parametrize("depth", [None, 1.0, 0.1, 0.02])
@pytest.mark.parametrize("window", [10, 50])
def test_13_14_a_limit_of_200_a_second_is_used_and_kept(depth, window):
    seconds, throttled, _ = send(Pacer(0, account_bucket(200)), Centre(200, depth), 1_000, window)
    assert throttled <= 0.01
    assert 1_000 / seconds >= 0.9 * 200


@pytest.mark.parametrize("depth", [None, 1.0, 0.1])
def test_14_a_limit_is_used_and_kept_though_every_turn_comes_up_to_50_ms_late(depth):
    seconds, throttled, _ = send(Pacer(0, account_bucket(200)), Centre(200, depth), 2_000, 50, late_s=0.05)
    assert throttled <= 0.01
    assert 2_000 / seconds >= 0.9 * 200


def test_14_a_strict_centre_is_not_caught_up_with_once_it_throttled():
    _, throttled, _ = send(Pacer(0, account_bucket(200)), Centre(200, 0.02), 2_000, 50, late_s=0.05)
    assert throttled <= 0.02


steps = st.lists(
    st.tuples(
        st.one_of(st.just(0.0), st.floats(0, 0.05), st.floats(0, 0.4), st.floats(0, 3)),  # how late the next turn is
        st.booleans(),  # whether something waits meanwhile
        st.integers(0, 400),  # how many there are to send
    ),
    min_size=1,
    max_size=60,
)


@given(st.floats(0.3, 500), steps)
def test_14_no_second_holds_more_than_the_limit_however_late_turns_come(limit, turns):
    pacer, now, went = Pacer(0, account_bucket(limit)), 50.0, []
    for late_s, waits, many in turns:
        now += late_s
        for _ in range(many):
            if pacer.wait(now) > 0:
                break
            pacer.take(now)
            went.append(now)
        pacer.waits(waits, now)
    most = max(1, ceil(limit))
    for first, last in zip(went, went[most:], strict=False):
        assert last - first >= 1.0


@given(st.floats(20, 500), st.lists(st.floats(0, 0.05), min_size=200, max_size=400))
def test_14_a_limit_is_used_to_nine_tenths_by_a_clock_that_is_late_by_up_to_50_ms(limit, lateness):
    pacer, now, sent = Pacer(0, account_bucket(limit)), 50.0, 0
    pacer.waits(True, now)
    for late_s in lateness:
        now += pacer.wait(now) + late_s
        while pacer.wait(now) <= 0:
            pacer.take(now)
            sent += 1
    assert sent >= 0.9 * limit * (now - 50.0)


def test_14_what_does_not_wait_makes_up_for_nothing():
    bucket = account_bucket(1_000)
    bucket.take(0.0)
    n = 0
    while bucket.wait(5.0) == 0:
        bucket.take(5.0)
        n += 1
    assert n <= 1_000 * BURST_S


def test_14_what_waits_makes_up_for_a_tenth_of_a_second_at_most():
    bucket = account_bucket(1_000)
    bucket.take(0.0)
    bucket.waits(True, 0.0)
    n = 0
    while bucket.wait(5.0) == 0:
        bucket.take(5.0)
        n += 1
    assert 1_000 * BURST_S < n <= 1_000 * (BURST_S + CATCH_UP_S)
    bucket.waits(True, 10.0)
    bucket.waits(False, 10.0)  # nothing is left: what it had is not for those who come next
    assert bucket.wait(10.0) == 0
    n = 0
    while bucket.wait(10.0) == 0:
        bucket.take(10.0)
        n += 1
    assert n <= 1_000 * BURST_S


@pytest.mark.parametrize("depth", [None, 1.0, 0.1, 0.02])
@pytest.mark.parametrize("window", [10, 50])
def test_13_an_unknown_limit_of_200_a_second_is_found(depth, window):
    seconds, throttled, accepted = send(Pacer(), Centre(200, depth), 4_000, window)
    assert throttled <= 0.1
    late = sum(at > 5 for at in accepted)
    assert late / (seconds - 5) >= 0.7 * 200


def test_headroom_is_within_the_tenth_that_may_be_lost():
    assert HEADROOM > 0.9
