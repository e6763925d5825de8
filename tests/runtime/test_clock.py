"""The clock a test owns."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hermes.runtime import SystemClock
from hermes.testing import ManualClock


def test_due_timers_fire_in_order_of_time_then_of_being_set(clock):
    fired: list[Any] = []
    clock.call_later(2, fired.append, "b")
    clock.call_later(1, fired.append, "a")
    clock.call_later(2, fired.append, "c")
    clock.call_later(5, fired.append, "later")
    clock.advance(3)
    assert fired == ["a", "b", "c"]


def test_callback_sees_the_time_it_was_due(clock):
    seen: list[Any] = []
    clock.call_later(2, lambda: seen.append(clock.monotonic()))
    clock.advance(10)
    assert seen == [2]
    assert clock.monotonic() == 10


def test_cancelled_timer_does_not_fire(clock):
    fired: list[Any] = []
    timer = clock.call_later(1, fired.append, "x")
    timer.cancel()
    clock.advance(2)
    assert fired == [] and clock.pending == 0


def test_now_moves_with_time_and_is_aware(clock):
    before = clock.now()
    clock.advance(90)
    assert clock.now() - before == timedelta(seconds=90)
    assert clock.now().tzinfo is UTC


def test_naive_start_is_refused():
    with pytest.raises(ValueError, match="aware"):
        ManualClock(datetime(2026, 1, 1))  # noqa: DTZ001 (the point)


async def test_elapse_lets_coroutines_react_at_the_moment_they_wake(clock):
    seen: list[Any] = []

    async def twice():
        for _ in range(2):
            woken = asyncio.Event()
            clock.call_later(1, woken.set)
            await woken.wait()
            seen.append(clock.monotonic())

    task = asyncio.ensure_future(twice())
    await clock.elapse(5)
    assert seen == [1, 2]
    await task


async def test_system_clock_calls_back_in_the_running_loop():
    clock, called = SystemClock(), asyncio.Event()
    handle = clock.call_later(0, called.set)
    await asyncio.wait_for(called.wait(), 5)
    handle.cancel()
    assert clock.now().tzinfo is UTC
