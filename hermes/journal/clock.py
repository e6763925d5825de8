"""The time, as the journal needs it; the kernel's clocks fit."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """The part of the kernel's clock a journal reads."""

    def now(self) -> datetime:
        """Tell the time, aware, UTC."""

    def monotonic(self) -> float:
        """Count seconds that never go back."""


class SystemClock:
    """The machine's own time."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()
