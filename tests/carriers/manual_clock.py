"""A clock the test moves. Timers run inside `advance`, in order, each at its own time."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count


class Timer:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class HandClock:
    def __init__(self) -> None:
        self.start = datetime(2026, 1, 1, tzinfo=UTC)
        self.elapsed_s = 0.0
        self.timers_made = 0
        self._order = count()
        self._timers: list[tuple[float, int, Timer, Callable[..., object], tuple[object, ...]]] = []

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.elapsed_s)

    def monotonic(self) -> float:
        return self.elapsed_s

    def call_later(self, delay_s: float, callback: Callable[..., object], *args: object) -> Timer:
        timer = Timer()
        self.timers_made += 1
        heapq.heappush(self._timers, (self.elapsed_s + delay_s, next(self._order), timer, callback, args))
        return timer

    def advance(self, seconds: float) -> None:
        until = self.elapsed_s + seconds
        while self._timers and self._timers[0][0] <= until + 1e-9:
            due, _, timer, callback, args = heapq.heappop(self._timers)
            self.elapsed_s = max(self.elapsed_s, due)
            if not timer.cancelled:
                callback(*args)
        self.elapsed_s = until
