"""What all workers have counted, also those that have ended: what /metrics adds up.

Invariant: `Gone` knows of each worker the greatest counts that anybody who told us has seen; so they never become less,
whoever is asked, in whatever order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from hermes.samples import Samples, counted, later

MOST_GONE: Final = 100  # workers that are remembered; a hundred restarts beside a worker that lives on


class Figures(msgspec.Struct, frozen=True):
    """What a worker tells another: its own samples, and what it knows of workers that do not answer any more."""

    own: Samples
    gone: dict[str, Samples] = {}


class Gone:
    """Remembers what workers had counted when they were last heard."""

    def __init__(self) -> None:
        self._seen: dict[str, Samples] = {}

    def hear(self, worker: str, samples: Samples) -> None:
        """Take in what a worker has counted, as it says itself or as another remembers it."""
        known = self._seen.pop(worker, None)
        fresh = counted(samples)
        self._seen[worker] = fresh if known is None else later(known, fresh)
        while len(self._seen) > MOST_GONE:
            del self._seen[next(iter(self._seen))]

    def besides(self, told: Mapping[str, Samples]) -> dict[str, Samples]:
        """Return what is known of workers that have not told now."""
        return {worker: samples for worker, samples in self._seen.items() if worker not in told}
