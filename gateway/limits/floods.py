"""What a flood costs: its sender's time, not the other tenants'.

A refusal takes the node half of what an accepted message does. Whoever is refused again and again, and sends on, gets
its answers later; on a connection one request follows the other's answer, so the flood is as wide as its connections,
not as fast as the node. Not all wait equally long, or they would come back together. Who keeps to `Retry-After` never
notices.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

AT_ONCE: Final = 20  # refusals of one tenant in a second that are answered at once
HOLD_S: Final = (0.25, 0.75)  # how long an answer after these is held back, at random; an answer may take 2 s


class Floods:
    """Counts refusals by tenant and second.

    Args:
        monotonic: seconds, from any start.
        sleep: waits.
    """

    def __init__(
        self, monotonic: Callable[[], float], sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        self._monotonic = monotonic
        self._sleep = sleep
        self._second = 0
        self._refused: dict[str, int] = {}

    async def hold(self, tenant: str, left_s: float, refusals: int = 1) -> None:
        """Count what was refused, and wait with the answer, as long as it may be waited, when that was too much."""
        second = int(self._monotonic())
        if second != self._second:
            self._second = second
            self._refused = {}
        count = self._refused[tenant] = self._refused.get(tenant, 0) + refusals
        if count > AT_ONCE:
            await self._sleep(max(min(random.uniform(*HOLD_S), left_s), 0.0))
