"""Timers: one wheel for the thousands of coarse timeouts, the clock itself for the few exact ones.

A `call_later` per message costs twice the CPU of a wheel entry and 40 % more memory, and nearly every
timeout is cancelled before it fires. So a coarse timer is one dictionary entry in the bucket of its tick:
adding, cancelling and firing are O(1), and a cancelled timer leaves nothing behind.

Invariants:
- A coarse timer never fires early and at most two ticks (`TICK_S` each) late.
- At most one `call_later` of the clock is pending for the whole wheel.
- A timer is in exactly one bucket while pending (`_home`), and in its owner's list while it has an owner.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from hermes.runtime.clock import Clock, TimerHandle

TICK_S = 0.05  # seconds; two ticks are the promised granularity of 100 ms
_EPOCH_BITS = 9  # 512 ticks (25.6 s) an epoch: timers further away wait in one bucket per epoch


class TimerOwner:
    """Something that is told of nothing but can cancel all its timers at once: an actor's ref."""

    __slots__ = ("_timers",)

    _timers: Timer | None

    def _cancel_timers(self) -> None:
        while (timer := self._timers) is not None:
            timer.cancel()


class Timer:
    """One pending callback. Cancelling it twice, or after it fired, does nothing."""

    __slots__ = ("_argument", "_callback", "_home", "_next", "_owner", "_previous")

    def __init__(self, callback: Callable[[Any], object], argument: Any, owner: TimerOwner | None = None) -> None:
        self._callback: Callable[[Any], object] | None = callback
        self._argument = argument
        self._home: dict[Timer, float] | TimerHandle | None = None
        self._owner = owner
        self._previous: Timer | None = None
        self._next: Timer | None = None
        if owner is not None:
            head = owner._timers
            if head is not None:
                head._previous = self
                self._next = head
            owner._timers = self

    @property
    def pending(self) -> bool:
        """Tell whether the callback is still to come."""
        return self._callback is not None

    def cancel(self) -> None:
        """Forget the callback; the message or future it held is released at once."""
        home = self._home
        if home is not None:
            self._home = None
            if type(home) is dict:
                del home[self]
            else:
                home.cancel()  # type: ignore[union-attr]
        self._forget()

    def _forget(self) -> None:
        self._callback = self._argument = None
        owner = self._owner
        if owner is not None:
            self._owner = None
            before, after = self._previous, self._next
            if before is None:
                owner._timers = after
            else:
                before._next = after
                self._previous = None
            if after is not None:
                after._previous = before
                self._next = None

    def _fire(self) -> None:
        callback, argument = self._callback, self._argument
        self._home = None
        self._forget()
        if callback is not None:
            callback(argument)


class TimerWheel:
    """Coarse timers over one clock."""

    __slots__ = (
        "_armed",
        "_clock",
        "_epoch",
        "_far",
        "_far_heap",
        "_near",
        "_near_heap",
        "_origin",
        "_wake_tick",
    )

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._origin = clock.monotonic()  # ticks count from here: small numbers keep the rounding exact
        self._epoch = 0  # epochs up to this one have been dealt out to `_near`
        self._near: dict[int, dict[Timer, float]] = {}
        self._near_heap: list[int] = []
        self._far: dict[int, dict[Timer, float]] = {}
        self._far_heap: list[int] = []
        self._armed: TimerHandle | None = None
        self._wake_tick = -1  # the tick the pending call_later is for; -1 when there is none

    def __len__(self) -> int:
        """Return how many timers are pending."""
        return sum(map(len, self._near.values())) + sum(map(len, self._far.values()))

    def after(
        self,
        delay_s: float,
        callback: Callable[[Any], object],
        argument: Any,
        owner: TimerOwner | None = None,
    ) -> Timer:
        """Run `callback(argument)` once, between `delay_s` and `delay_s + 2 * TICK_S` seconds from now.

        Args:
            delay_s: seconds, 0 or more; a negative one counts as 0.
            callback: plain function, run in the event loop; it must not raise.
            argument: its only argument, released when the timer fires or is cancelled.
            owner: whose end cancels the timer.
        """
        due = self._clock.monotonic() - self._origin + (delay_s if delay_s > 0 else 0.0)
        timer = Timer(callback, argument, owner)
        # The first tick strictly after `due`: at that tick the delay is over for certain.
        tick = int(due / TICK_S) + 1
        epoch = tick >> _EPOCH_BITS
        if epoch <= self._epoch:
            bucket = self._near.get(tick)
            if bucket is None:
                bucket = self._near[tick] = {}
                heapq.heappush(self._near_heap, tick)
                if self._wake_tick < 0 or tick < self._wake_tick:
                    self._arm()
        else:
            bucket = self._far.get(epoch)
            if bucket is None:
                bucket = self._far[epoch] = {}
                heapq.heappush(self._far_heap, epoch)
                if self._wake_tick < 0 or epoch << _EPOCH_BITS < self._wake_tick:
                    self._arm()
        bucket[timer] = due
        timer._home = bucket
        return timer

    def close(self) -> None:
        """Cancel every pending timer."""
        for buckets in (self._near, self._far):
            for bucket in list(buckets.values()):
                for timer in list(bucket):
                    timer.cancel()
            buckets.clear()
        self._near_heap.clear()
        self._far_heap.clear()
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None
        self._wake_tick = -1

    def _arm(self) -> None:
        """Ask the clock for the earliest bucket; a far epoch counts as its first tick."""
        tick = self._near_heap[0] if self._near_heap else -1
        if self._far_heap:
            first = self._far_heap[0] << _EPOCH_BITS
            if tick < 0 or first < tick:
                tick = first
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None
        self._wake_tick = tick
        if tick >= 0:
            delay_s = self._origin + tick * TICK_S - self._clock.monotonic()
            self._armed = self._clock.call_later(delay_s if delay_s > 0 else 0.0, self._turn)

    def _turn(self) -> None:
        """Deal out the epochs that began, fire every bucket whose tick has come, arm again."""
        self._armed = None
        # Rounded half a millisecond up: a clock may wake its timers one resolution early. Earlier than that, it is
        # asked again.
        now = self._clock.monotonic() - self._origin
        tick = int((now + 0.0005) / TICK_S)
        due: list[tuple[float, Timer]] = []
        while self._far_heap and self._far_heap[0] << _EPOCH_BITS <= tick:
            epoch = heapq.heappop(self._far_heap)
            for timer, at in self._far.pop(epoch).items():
                its_tick = int(at / TICK_S) + 1
                bucket = self._near.get(its_tick)
                if bucket is None:
                    bucket = self._near[its_tick] = {}
                    heapq.heappush(self._near_heap, its_tick)
                bucket[timer] = at
                timer._home = bucket
        self._epoch = max(self._epoch, tick >> _EPOCH_BITS)
        while self._near_heap and self._near_heap[0] <= tick:
            due.extend((at, timer) for timer, at in self._near.pop(heapq.heappop(self._near_heap)).items())
        due.sort(key=_when)
        try:
            for _, timer in due:
                # A callback may have cancelled a later one: it then holds no callback any more.
                timer._home = None
            for _, timer in due:
                timer._fire()
        finally:
            if self._armed is None or self._wake_tick <= tick:
                self._arm()


def _when(entry: tuple[float, Timer]) -> float:
    return entry[0]
