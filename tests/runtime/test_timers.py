"""The wheel: never early, hardly late, nothing left behind."""

import asyncio
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from hermes.runtime import SystemClock, TimerWheel
from hermes.runtime.timers import TICK_S, TimerOwner
from hermes.testing import ManualClock


@pytest.mark.parametrize("delay_s", [0.0, 0.01, 0.05, 0.1, 1.0, 25.6, 30.0, 3600.0, 72 * 3600.0])
def test_coarse_timer_is_never_early_and_at_most_100_ms_late(clock, delay_s):
    wheel = TimerWheel(clock)
    fired: list[Any] = []
    clock.advance(0.123)
    begun = clock.monotonic()
    wheel.after(delay_s, lambda _: fired.append(clock.monotonic() - begun), None)
    clock.advance(delay_s + 2 * TICK_S)
    assert len(fired) == 1
    assert delay_s <= fired[0] <= delay_s + 0.1 + 1e-9


@given(st.lists(st.tuples(st.floats(0, 200), st.floats(0, 100), st.booleans()), min_size=1, max_size=40))
def test_every_timer_fires_once_in_time_unless_cancelled(plan):
    clock = ManualClock()
    wheel = TimerWheel(clock)
    fired: dict[int, list[float]] = {}
    due: dict[int, float] = {}
    cancelled: set[int] = set()
    for number, (delay_s, pause_s, cancel) in enumerate(plan):
        due[number] = clock.monotonic() + delay_s
        timer = wheel.after(delay_s, lambda n: fired.setdefault(n, []).append(clock.monotonic()), number)
        if cancel:
            timer.cancel()
            timer.cancel()
            cancelled.add(number)
        clock.advance(pause_s)
    clock.advance(301)
    assert set(fired) == set(due) - cancelled
    for number, times in fired.items():
        assert len(times) == 1
        assert due[number] <= times[0] <= due[number] + 0.1 + 1e-6
    assert len(wheel) == 0


def test_wheel_whose_clock_wakes_it_too_early_asks_again(clock):
    """uvloop counts in whole milliseconds; a wheel that then waited for nobody would never fire again."""

    class Hasty:
        now, monotonic = clock.now, clock.monotonic

        def call_later(self, delay_s: float, callback: Any, *args: Any) -> Any:
            return clock.call_later(max(delay_s - 0.002, 0.0004), callback, *args)

    wheel = TimerWheel(Hasty())
    fired: list[float] = []
    for delay_s in (0.2, 0.4):
        wheel.after(delay_s, lambda _: fired.append(clock.monotonic()), None)
    clock.advance(0.1)
    while clock.pending and clock.monotonic() < 1:
        clock.advance(0.0005)
    first, second = fired
    assert 0.2 <= first <= 0.3 and 0.4 <= second <= 0.5


async def _early_by(delay_s: float) -> float:
    clock, fired = SystemClock(), asyncio.get_running_loop().create_future()
    due = clock.monotonic() + delay_s
    clock.call_later(delay_s, lambda: fired.set_result(due - clock.monotonic()))
    return float(await fired)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_clock_of_the_machine_is_never_early(loop):
    with asyncio.Runner(loop_factory=loop) as runner:
        assert max(runner.run(_early_by(0.0001 * n)) for n in range(1, 60)) <= 0


def test_timers_of_one_moment_fire_in_order_of_their_due_time(clock):
    wheel = TimerWheel(clock)
    fired: list[Any] = []
    for delay_s in (0.04, 0.01, 0.03, 0.02):
        wheel.after(delay_s, fired.append, delay_s)
    clock.advance(1)
    assert fired == [0.01, 0.02, 0.03, 0.04]


def test_whole_wheel_asks_the_clock_for_one_timer_at_a_time(clock):
    wheel = TimerWheel(clock)
    for n in range(1000):
        wheel.after(n / 10, lambda _: None, None)
    assert clock.pending == 1


def test_cancelled_timer_lets_go_of_its_message_at_once(clock):
    wheel = TimerWheel(clock)
    timer = wheel.after(72 * 3600.0, print, "held")
    timer.cancel()
    assert len(wheel) == 0
    assert timer._argument is None and not timer.pending


def test_timer_cancelled_by_one_that_fires_in_the_same_tick_does_not_fire(clock):
    wheel = TimerWheel(clock)
    fired: list[Any] = []
    second: Any = None

    def first(_):
        fired.append("first")
        second.cancel()

    wheel.after(0.01, first, None)
    second = wheel.after(0.02, fired.append, "second")
    clock.advance(1)
    assert fired == ["first"]


def test_timer_set_by_a_firing_timer_fires_too(clock):
    wheel = TimerWheel(clock)
    fired: list[Any] = []
    wheel.after(0.1, lambda _: wheel.after(0.1, fired.append, "again"), None)
    clock.advance(0.5)
    assert fired == ["again"]


def test_nearer_timer_set_after_a_far_one_is_not_late(clock):
    wheel = TimerWheel(clock)
    fired: list[Any] = []
    wheel.after(10_000, fired.append, "far")
    wheel.after(100, fired.append, "nearer epoch")
    wheel.after(1, fired.append, "near")
    clock.advance(1.2)
    assert fired == ["near"]
    clock.advance(99)
    assert fired == ["near", "nearer epoch"]


def test_owner_can_cancel_all_of_its_timers_and_only_those(clock):
    class Owner(TimerOwner):
        __slots__ = ()

        def __init__(self):
            self._timers = None

    wheel = TimerWheel(clock)
    fired: list[Any] = []
    owner = Owner()
    timers = [wheel.after(1, fired.append, n, owner) for n in range(5)]
    wheel.after(1, fired.append, "other")
    timers[2].cancel()
    owner._cancel_timers()
    clock.advance(2)
    assert fired == ["other"]
    assert owner._timers is None


def test_close_cancels_everything(clock):
    wheel = TimerWheel(clock)
    fired: list[Any] = []
    for delay_s in (0.1, 100.0):
        wheel.after(delay_s, fired.append, delay_s)
    wheel.close()
    clock.advance(200)
    assert fired == [] and clock.pending == 0
