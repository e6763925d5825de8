"""Is a carrier fit to be asked? Its breaker, and what an operator or the carrier itself said. Pure: time is passed in.

    closed --(`failures` transient failures in a row)--> open --(`open_s` seconds)--> half_open
    half_open --(one probe succeeds)--> closed;  --(it fails)--> open again

What counts as a failure: `retryable_transient` refusals and calls without an answer. Any other answer shows that the
carrier works, and starts the count again; `throttled` says nothing either way. Receipts that stop coming open it too
(`quality.Quality.fell_silent`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

CarrierState = Literal["up", "degraded", "down", "paused", "draining"]
BreakerState = Literal["closed", "open", "half_open"]

DEFAULT_FAILURES: Final = 5
DEFAULT_OPEN_S: Final = 10.0


@dataclass(slots=True)
class Breaker:
    """Counts failures in a row.

    Attributes:
        limit: failures that open it; 0: it never opens.
        open_s: seconds before a probe is let through.
        opened_at: monotonic seconds; None while closed.
        why: what opened it, when it was not failures in a row.
        probing: a probe is under way.
    """

    limit: int = DEFAULT_FAILURES
    open_s: float = DEFAULT_OPEN_S
    failures: int = 0
    opened_at: float | None = None
    why: str | None = None
    probing: bool = False

    def state(self, now: float) -> BreakerState:
        """Name the state at `now` (monotonic seconds)."""
        if self.opened_at is None:
            return "closed"
        return "half_open" if now >= self.opened_at + self.open_s else "open"

    def lets_through(self, now: float) -> bool:
        """Tell whether one more call may go now: any while closed, one at a time while half open."""
        if self.opened_at is None:
            return True
        return now >= self.opened_at + self.open_s and not self.probing

    def called(self, now: float) -> None:
        """A call goes out."""
        if self.opened_at is not None:
            self.probing = True

    def succeeded(self) -> bool:
        """An answer showed that the carrier works; True when that closed the breaker."""
        was_open = self.opened_at is not None
        self.failures = 0
        self.opened_at = None
        self.why = None
        self.probing = False
        return was_open

    def trip(self, now: float, why: str) -> bool:
        """Something else than failures in a row shows that the carrier is sick; True when that opened the breaker."""
        if not self.limit or self.opened_at is not None:
            return False
        self.opened_at = now
        self.why = why
        return True

    def failed(self, now: float) -> bool:
        """A transient failure or no answer; True when that opened the breaker."""
        self.failures += 1
        if self.opened_at is not None:
            if self.probing:
                self.probing = False
                self.opened_at = now
            return False
        if self.limit and self.failures >= self.limit:
            self.opened_at = now
            return True
        return False

    def said_nothing(self) -> None:
        """The probe's answer (throttled) says nothing either way: the next call is the probe."""
        self.probing = False


@dataclass(slots=True)
class CarrierHealth:
    """What the router asks, and `/v1/carriers` shows.

    Attributes:
        since: when the state last changed (aware, UTC).
        order: an operator's word: None, "paused" or "draining".
        stopped: why the carrier is stopped until somebody resumes it (provider_auth), or None.
        away: why it cannot be reached (no bind, no connection), or None.
        unwell: what its health check said while nothing was sent, or None. It is asked all the same.
    """

    since: datetime
    breaker: Breaker = field(default_factory=Breaker)
    order: Literal["paused", "draining"] | None = None
    stopped: str | None = None
    away: str | None = None
    unwell: str | None = None

    def state(self, now: float) -> CarrierState:
        """Name the state at `now` (monotonic seconds)."""
        if self.order is not None:
            return self.order
        if self.stopped is not None or self.away is not None:
            return "down"
        breaker = self.breaker.state(now)
        if breaker == "closed":
            return "up" if self.unwell is None else "degraded"
        return "down" if breaker == "open" else "degraded"

    def reason(self, now: float) -> str | None:
        """Say why it is not simply up."""
        if self.order is not None:
            return f"{self.order} by an operator"
        if self.stopped is not None:
            return self.stopped
        if self.away is not None:
            return self.away
        if self.breaker.opened_at is not None:
            return self.breaker.why or f"{self.breaker.failures} failures in a row"
        return self.unwell

    def available(self, now: float) -> bool:
        """Tell whether it is a candidate while another is left."""
        return self.order is None and self.stopped is None and self.away is None and self.breaker.state(now) != "open"

    def may_call(self, now: float) -> bool:
        """Tell whether its queue may be served now."""
        return self.order is None and self.stopped is None and self.away is None and self.breaker.lets_through(now)
