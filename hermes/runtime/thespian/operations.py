"""The way onto the event loop's thread: operations that other threads post and the loop runs, in that order."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

log = logging.getLogger("hermes.runtime.thespian")

LINGER_S: Final = 0.001  # the loop looks again after so long before posters have to wake it
SLICE: Final = 256  # operations before the loop does something else


class Operations:
    """A queue of functions to call in the loop. Made on the loop's thread.

    Waking a loop costs a system call and a hand-over between threads, ten times what an operation does. So the loop,
    once awake, looks again by itself after `LINGER_S`; only who has nothing else to do insists on being served now.
    """

    __slots__ = ("_awake", "_linger", "_loop", "queue", "thread")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.thread = threading.get_ident()
        self.queue: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._awake = False  # True iff `run` is scheduled, runs, or will look again by itself
        self._linger: asyncio.TimerHandle | None = None

    def post(self, operation: Callable[..., object], *arguments: Any) -> None:
        """Let the loop run an operation soon; any thread may."""
        self.queue.append((operation, arguments))
        self.wake(False)

    def wake(self, now: bool) -> None:
        """See to it that the loop runs what was posted: `now`, or within `LINGER_S` if it is amid such work."""
        if now or not self._awake:
            self._awake = True
            try:
                self._loop.call_soon_threadsafe(self.run)
            except RuntimeError:  # the loop is closed: nobody is left to act for
                self.queue.clear()

    def run(self) -> None:
        """Run a slice of the operations; look again after LINGER_S, so that a stream of them needs no wake-ups."""
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        operations = self.queue
        served = 0
        while operations:
            operation, arguments = operations.popleft()
            try:
                operation(*arguments)
            except Exception:  # the log is told: one operation must not keep the others from running
                log.exception("an operation of a guest failed")
            served += 1
            if served >= SLICE:
                self._loop.call_soon(self.run)
                return
        if served:
            self._linger = self._loop.call_later(LINGER_S, self.run)
            return
        self._awake = False
        if operations:  # posted between the last look and the line above, by someone who saw us awake
            self._awake = True
            self._loop.call_soon(self.run)

    def close(self) -> None:
        """Look no more."""
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
