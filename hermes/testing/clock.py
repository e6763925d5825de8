"""A clock that stands still until the test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_MOST_ROUNDS = 10_000  # of the event loop; a test that needs more is in a live loop


class ManualTimer:
    """A pending callback of a `ManualClock`."""

    __slots__ = ("_args", "_callback", "due")

    def __init__(self, due: float, callback: Callable[..., object], args: tuple[object, ...]) -> None:
        self.due = due
        self._callback: Callable[..., object] | None = callback
        self._args = args

    def cancel(self) -> None:
        """Make the callback not run."""
        self._callback = None
        self._args = ()

    def _fire(self) -> None:
        callback, args = self._callback, self._args
        self.cancel()
        if callback is not None:
            callback(*args)


class ManualClock:
    """Time under the test's control; implements `hermes.runtime.Clock`.

    Args:
        start: what `now()` says before the first `advance`; aware.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        if start.tzinfo is None:
            raise ValueError("start must be aware")
        self._start = start
        self._at = 0.0
        self._order = itertools.count()
        self._heap: list[tuple[float, int, ManualTimer]] = []

    def now(self) -> datetime:
        """Return the start plus everything advanced, as an aware datetime."""
        return self._start + timedelta(seconds=self._at)

    def monotonic(self) -> float:
        """Return the seconds advanced so far."""
        return self._at

    def call_later(self, delay_s: float, callback: Callable[..., object], *args: object) -> ManualTimer:
        """Run `callback(*args)` when time is advanced to `delay_s` from now."""
        timer = ManualTimer(self._at + max(0.0, delay_s), callback, args)
        heapq.heappush(self._heap, (timer.due, next(self._order), timer))
        return timer

    @property
    def pending(self) -> int:
        """How many timers are waiting."""
        return sum(1 for _, _, timer in self._heap if timer._callback is not None)

    def advance(self, seconds: float) -> None:
        """Move time and run what comes due, also what that sets anew, in order of due time.

        What the callbacks start in the event loop has not run yet when this returns: see `settle` and
            `elapse`.
        """
        until = self._at + seconds
        while (due := self._next_due()) is not None and due <= until:
            self._fire_one()
        self._at = until

    async def settle(self) -> None:
        """Let the event loop run until it has nothing left to do but wait for time or I/O."""
        loop = asyncio.get_running_loop()
        ready = getattr(loop, "_ready", None)  # asyncio's own queue; other loops get a fixed number of rounds
        for done in range(_MOST_ROUNDS):
            await asyncio.sleep(0)
            if not ready if ready is not None else done >= 100:
                return
        raise RuntimeError(f"the event loop was still busy after {_MOST_ROUNDS} rounds")

    async def elapse(self, seconds: float) -> None:
        """Move time like `advance`, letting the loop settle before, after and whenever something came due."""
        await self.settle()
        until = self._at + seconds
        while (due := self._next_due()) is not None and due <= until:
            while self._next_due() == due:
                self._fire_one()
            await self.settle()
        self._at = until
        await self.settle()

    def _next_due(self) -> float | None:
        while self._heap and self._heap[0][2]._callback is None:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _fire_one(self) -> None:
        due, _, timer = heapq.heappop(self._heap)
        self._at = max(self._at, due)
        timer._fire()
