"""Coroutines an actor runs beside its mailbox: they end with it, and it ends with their errors."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from hermes.runtime import Clock, Ref


class Background:
    """The coroutines of one actor.

    A coroutine that raises ends the actor with that error, as a handler would; its supervisor decides what follows.
    """

    __slots__ = ("_ref", "_tasks")

    def __init__(self, ref: Ref) -> None:
        self._ref = ref
        self._tasks: set[asyncio.Task[Any]] = set()

    def run(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start one."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def cancel(self) -> None:
        """End them all; call it from `terminate`."""
        for task in self._tasks:
            task.cancel()

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._ref.stop(error)


async def sleep(clock: Clock, seconds: float) -> None:
    """Wait by the clock that the actors go by, which a test may own."""
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    timer = clock.call_later(seconds, _wake, over)
    try:
        await over
    finally:
        timer.cancel()


async def wait(event: asyncio.Event, clock: Clock, seconds: float) -> None:
    """Wait for an event, which is set after so long by the clock if nobody sets it before."""
    timer = clock.call_later(seconds, event.set)
    try:
        await event.wait()
    finally:
        timer.cancel()


def _wake(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)
