"""What is asked of the limits for one message, and what they answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Final, NamedTuple, Protocol

from hermes.domain.quotas import Amounts

# The contract's second, and a margin: a message's `created_at` is some milliseconds older than its place in the window,
# and any second of those times must hold the limit too.
WINDOW_S: Final = 1.01


@dataclass(slots=True)
class QuotaAsk:
    """What one message adds to its tenant's quotas.

    Attributes:
        limits: in the order of `hermes.domain.quotas.QUOTAS`, spending in millionths; 0: none.
        day: the message was created on, by UTC.
        adds: one message, its segments, and what it is expected to cost.
    """

    tenant: str
    mode: str
    limits: tuple[int, ...]
    day: date
    adds: Amounts


@dataclass(slots=True)
class Ask:
    """One message of one tenant. 0 means no limit.

    Attributes:
        scope: tenant and mode: test messages have limits of their own.
        rate, burst: of the tenant.
        channel: of the first step.
        quota: what the message counts for in quotas; None when the tenant has none.
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
    quota: QuotaAsk | None = None


class Taken(NamedTuple):
    """What the limits say. Nothing is counted when they refuse.

    Attributes:
        refused: "tenant" or a channel's name (its rate), a quota's name, "duplicate"; None: the message may go.
        limit: of the narrowest rate that applies, or of the quota that refused; 0: there is none.
        remaining: messages that may follow at once; what is left of the quota that refused.
        wait_s: until one more may go; 0 for a quota, whose period the tenant's layer knows.
    """

    refused: str | None = None
    limit: int = 0
    remaining: int = 0
    wait_s: float = 0.0


NO_LIMIT: Final = Taken()


class Limits(Protocol):
    """Counts messages against limits, exactly, whoever asks at the same time."""

    async def take(self, ask: Ask) -> Taken:
        """Count one message, or say what refuses it.

        Raises:
            JournalAway: the tenant has quotas, and what it has used of them cannot be read.
        """

    async def forget(self, ask: Ask) -> None:
        """The message was not accepted after all: the same may be sent again, and no quota counts it.

        Its place in the rates stays taken.
        """

    async def close(self) -> None:
        """Let go of connections."""
