"""What is asked of the limits for one message, and what they answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

# The contract's second, and a margin: a message's `created_at` is some milliseconds older than its place in the window,
# and any second of those times must hold the limit too.
WINDOW_S: Final = 1.01


@dataclass(slots=True)
class Ask:
    """One message of one tenant. 0 means no limit.

    Attributes:
        scope: tenant and mode: test messages have limits of their own.
        rate, burst: of the tenant.
        channel: of the first step.
        duplicate: what the message is the same as others by; None when that does not matter.
        duplicate_s: for how long.
        counts: False only looks.
    """

    scope: str
    rate: int
    burst: int
    channel: str
    channel_rate: int
    duplicate: bytes | None = None
    duplicate_s: float = 0.0
    counts: bool = True


@dataclass(slots=True, frozen=True)
class Taken:
    """What the limits say. Nothing is counted when they refuse.

    Attributes:
        refused: "tenant" or a channel's name (its rate), "duplicate"; None: the message may go.
        limit: of the narrowest rate that applies; 0: there is none.
        remaining: messages that may follow at once.
        wait_s: until one more may go.
    """

    refused: str | None = None
    limit: int = 0
    remaining: int = 0
    wait_s: float = 0.0


NO_LIMIT: Final = Taken()


class Limits(Protocol):
    """Counts messages against limits, exactly, whoever asks at the same time."""

    async def take(self, ask: Ask) -> Taken:
        """Count one message, or say what refuses it."""

    async def forget(self, ask: Ask) -> None:
        """The message was not accepted after all: the same may be sent again. Its place in the rates stays taken."""

    async def close(self) -> None:
        """Let go of connections."""
