"""How often a supervisor may restart before it gives up. Pure: times in, verdict out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Intensity:
    """At most `max_restarts` restarts within any `period_s` seconds; 0 allows none."""

    max_restarts: int = 3
    period_s: float = 5.0

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if self.max_restarts < 0 or self.period_s <= 0:
            raise ValueError(f"intensity needs max_restarts >= 0 and period_s > 0, got {self}")


def count_restart(intensity: Intensity, past: tuple[float, ...], now: float) -> tuple[tuple[float, ...], bool]:
    """Add one restart to the window.

    Args:
        intensity: the limit.
        past: monotonic times of earlier restarts, ascending, as this function returned them.
        now: monotonic time of this one.

    Returns:
        The times still within the period, this one included, and whether the restart is allowed. A restart
        exactly `period_s` old still counts.
    """
    since = now - intensity.period_s
    window = (*[at for at in past if at >= since], now)
    return window, len(window) <= intensity.max_restarts
