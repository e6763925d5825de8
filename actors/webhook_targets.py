"""What waits for one of a tenant's targets, how much of it may be under way, and how much stays in memory.

A target is an endpoint, or the origin (scheme, host, port) of a `callback_url`. How many calls it may have under
way follows from how it answers (`hermes.domain.webhooks.next_window`). Nothing here does I/O or knows an actor.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from hermes.domain.webhooks import WINDOW_START, Answer, next_window
from hermes.journal.base import OutboxItem

SHARE_MOST: Final = 500  # deliveries in memory that wait for one slow target
ORIGINS_KEPT: Final = 1_024  # URLs whose origin is remembered
SLOW_S: Final = 60.0  # a target is slow when what waits for it would take longer than this


class Target:
    """Where a tenant's deliveries go.

    Attributes:
        pace_s: seconds a call takes, lately; 0 before the first answer.
        failures: in a row.
        paused_until: monotonic.
    """

    __slots__ = ("failures", "in_flight", "last_error", "name", "pace_s", "paused_until", "queue", "window")

    def __init__(self, name: str, window: int = WINDOW_START) -> None:
        self.name = name
        self.window = window
        self.queue: deque[Chain] = deque()
        self.in_flight = 0
        self.pace_s = 0.0
        self.failures = 0
        self.last_error: str | None = None
        self.paused_until = 0.0

    def has_room(self, now: float) -> bool:
        return self.in_flight < self.window and self.paused_until <= now

    def take(self, answer: Answer, error: str | None) -> None:
        """Learn from an answer; `error` is None when it was a good one."""
        self.window = next_window(self.window, answer)
        self.pace_s += (answer.elapsed_s - self.pace_s) * (0.2 if self.pace_s else 1.0)
        if error is None:
            self.failures = 0
        else:
            self.failures += 1
            self.last_error = error

    @property
    def overfull(self) -> bool:
        """True when more waits for it than a slow target may have in memory."""
        waiting = len(self.queue)
        return waiting > SHARE_MOST and waiting * self.pace_s > SLOW_S * self.window


class Chain:
    """The deliveries of one message to one target: one under way, the others after it, in order of seq."""

    __slots__ = ("key", "running", "target", "waiting")

    def __init__(self, item: OutboxItem, target: Target) -> None:
        self.key = (item.message_id, item.target)
        self.target = target
        self.waiting = [item]
        self.running: OutboxItem | None = None

    @property
    def under_way(self) -> OutboxItem:
        """The delivery it was picked for; asked only between the picking and the end of the call."""
        assert self.running is not None
        return self.running


@lru_cache(ORIGINS_KEPT)  # a customer names few URLs; reading one takes 5 us
def origin(url: str) -> str:
    """Name where a URL leads, without anything that may be secret in it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "?"
    return f"{parts.scheme}://{parts.hostname}" + (f":{port}" if port is not None else "")
