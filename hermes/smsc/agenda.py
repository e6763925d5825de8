"""Calls to make later, behind one timer of the event loop: thousands of receipts cost one wake-up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Final

SLACK: Final = 0.001  # seconds a call may be late, so that calls due together are made together


class Agenda:
    """Calls made in the order they are due, and in the order they were asked for when due together."""

    __slots__ = ("_calls", "_closed", "_loop", "_n", "_timer", "_went")

    def __init__(self, loop: asyncio.AbstractEventLoop, went: Callable[[], None]) -> None:
        """Have nothing to do yet; `went` is called after calls were made."""
        self._loop = loop
        self._went = went
        self._calls: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._n = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._calls)

    def after(self, delay_s: float, call: Callable[..., None], *args: Any) -> None:
        """Call after so many seconds; at once (not from here) when that is 0."""
        due = self._loop.time() + delay_s
        self._n += 1
        heappush(self._calls, (due, self._n, call, args))
        if self._calls[0][1] == self._n and not self._closed:
            self._arm(due)

    def close(self) -> None:
        """Make no more calls."""
        self._closed = True
        self._calls.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= due + SLACK:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due + SLACK, self._run)

    def _run(self) -> None:
        self._timer = None
        now = self._loop.time()
        try:
            while self._calls and self._calls[0][0] <= now:
                _, _, call, args = heappop(self._calls)
                call(*args)
        finally:
            if self._calls and not self._closed:
                self._arm(self._calls[0][0])
        self._went()
