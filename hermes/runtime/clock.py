"""Time, as the kernel sees it: the only door to the real clock.

Everything that waits asks a `Clock`, so that a test can own time (`hermes.testing.ManualClock`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final, Protocol

# uvloop counts in whole milliseconds: it rounds a delay to the nearest, from the last one that began.
LOOP_MAY_BE_EARLY_S: Final = 0.0015


class TimerHandle(Protocol):
    """What `call_later` returns."""

    def cancel(self) -> None:
        """Make the callback not run; does nothing when it ran or was cancelled already."""


class Clock(Protocol):
    """Wall time for people, monotonic time for waiting."""

    def now(self) -> datetime:
        """Return the wall clock as an aware UTC datetime."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start; never goes back."""

    def call_later(self, delay_s: float, callback: Callable[..., object], *args: object) -> TimerHandle:
        """Run `callback(*args)` in the event loop once, `delay_s` seconds from now or a little later."""


class SystemClock:
    """The machine's clock and the running event loop's timers."""

    __slots__ = ()

    monotonic = staticmethod(time.monotonic)  # no Python frame between a spawn and the clock

    now = staticmethod(partial(datetime.now, UTC))  # an aware datetime, and no frame either

    def call_later(self, delay_s: float, callback: Callable[..., object], *args: object) -> TimerHandle:
        """Run `callback(*args)` once in the running event loop, never early; needs one to be running."""
        return asyncio.get_running_loop().call_later(delay_s + LOOP_MAY_BE_EARLY_S, callback, *args)
