"""One time limit for many calls, with one timer for all of them.

`asyncio.timeout` makes a timer for each call and drops it again: 12 us of a call that costs 140. Calls with the same
limit end in the order they began, so the first one's timer is enough.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import TypeVar

_T = TypeVar("_T")


class _Running:
    """A call under way. `task` is None once it ended; `expired` iff we cancelled it."""

    __slots__ = ("due", "expired", "task")

    def __init__(self, due: float, task: asyncio.Task[object] | None) -> None:
        self.due = due
        self.task = task
        self.expired = False


class Deadlines:
    """Gives every call the same time."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._running: deque[_Running] = deque()  # first begun first; those that ended leave from its head
        self._timer: asyncio.TimerHandle | None = None  # at the head's due time, or before it

    def __len__(self) -> int:
        return len(self._running)

    async def run(self, call: Awaitable[_T]) -> _T:
        """Await a call; 0 as the limit gives it all the time it wants.

        Raises:
            TimeoutError: it took longer, and was cancelled.
        """
        if not self._limit_s:
            return await call
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        running = self._running
        while running and running[0].task is None:
            running.popleft()
        mine = _Running(loop.time() + self._limit_s, task)
        running.append(mine)
        if self._timer is None:
            self._timer = loop.call_at(mine.due, self._expire, loop)
        cancelling = task.cancelling()
        try:
            return await call
        except asyncio.CancelledError:
            # Ours, and nobody else's: as asyncio.timeout tells it.
            if not mine.expired or task.uncancel() > cancelling:
                raise
        finally:
            mine.task = None
        raise TimeoutError

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        while self._running:
            first = self._running[0]
            if first.task is not None:
                if first.due > now:
                    self._timer = loop.call_at(first.due, self._expire, loop)
                    return
                first.expired = True
                first.task.cancel()
            self._running.popleft()

    def close(self) -> None:
        """Forget the timer; call it when nothing is under way any more."""
        self._running.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
