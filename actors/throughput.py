"""How much goes through something, as an operator wants to see it."""

from __future__ import annotations

from typing import Final


class Throughput:
    """Messages per second, over the last ten whole seconds."""

    __slots__ = ("_counts", "_second")

    SECONDS: Final = 10

    def __init__(self) -> None:
        self._counts = [0] * (self.SECONDS + 1)
        self._second = 0

    def _advance(self, now: float) -> None:
        second = int(now)
        for passed in range(self._second + 1, min(second, self._second + len(self._counts)) + 1):
            self._counts[passed % len(self._counts)] = 0
        if second - self._second > len(self._counts):
            self._counts = [0] * len(self._counts)
        self._second = second

    def count(self, now: float) -> None:
        """Count one, at `now` (monotonic seconds)."""
        if int(now) != self._second:
            self._advance(now)
        self._counts[self._second % len(self._counts)] += 1

    def per_s(self, now: float) -> float:
        """Return the mean over the last ten whole seconds before `now`."""
        self._advance(now)
        current = self._counts[self._second % len(self._counts)]
        return round((sum(self._counts) - current) / self.SECONDS, 1)
