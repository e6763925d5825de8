"""What all workers have counted, also those that have ended: what /metrics adds up.

A worker that ends leaves its counts with the others, and every `LEAVE_EVERY_S` with one of them, in case it is killed.

Invariant: `Gone` knows of each worker the greatest counts that anybody who told us has seen; so they never become less,
whoever is asked, in whatever order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.workers.peers import Peers
from hermes.metrics import Metrics
from hermes.samples import Samples, counted, encoded, later

MOST_GONE: Final = 100  # workers that are remembered; a hundred restarts beside a worker that lives on
LEAVE_EVERY_S: Final = 10.0  # shorter than the time between two scrapes (15 s)
COUNTS: Final = "/counts/"  # of the control channel, and the worker's id


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

    def take(self, worker: str, body: bytes) -> None:
        """Take in what a worker leaves with us; what cannot be read is another version's, and let go."""
        try:
            left = msgspec.msgpack.decode(body, type=Figures)
        except (ValueError, RecursionError):
            return
        self.hear(worker, left.own)
        for other, samples in left.gone.items():
            self.hear(other, samples)


async def leave_with_one(peers: Peers, metrics: Metrics) -> None:
    """Leave this worker's counts with the next one by id, again and again, until cancelled."""
    while True:
        await asyncio.sleep(LEAVE_EVERY_S)
        others = sorted(await peers.others(), key=lambda row: (row.id < peers.own, row.id))
        if others:
            figures = encoded(Figures(metrics.counts()))
            await peers.ask(others[0], "POST", COUNTS + peers.own, figures)


async def leave_with_all(peers: Peers, metrics: Metrics, gone: Gone) -> None:
    """Leave this worker's counts, and those it remembers, with all others: it ends."""
    figures = encoded(Figures(metrics.counts(), gone.besides({})))
    await peers.ask_all(await peers.others(), "POST", COUNTS + peers.own, figures)
