"""Which carrier with binds goes from which worker to which, so that each holds about as many. Pure: no actor, no clock.

Nobody coordinates. Each worker sees the same table of leases, and so comes to the same answer: the worker with fewest
carriers asks, the one with most gives, and of several the one whose id comes first. A carrier moves only between two
that differ by two or more: then the move makes the difference smaller, so moves come to an end and none is undone.
Carriers are counted, not what is sent by them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Final

WORTH_A_MOVE: Final = 2  # so many more must the giver hold

Holders = Mapping[str, str]  # the living worker that holds each carrier


@dataclass(slots=True, frozen=True)
class Wish:
    """What the worker with fewest carriers asks for: one of these.

    Attributes:
        giver: the worker that holds them.
        more: how many more that one holds.
        carriers: which it could give, in order.
    """

    giver: str
    more: int
    carriers: tuple[str, ...]


def wish_of(taker: str, workers: Collection[str], holders: Holders, ready: Collection[str]) -> Wish | None:
    """Say what a worker should be given; None: it is not its turn, or nothing is worth a move.

    Args:
        taker: the worker.
        workers: all that live, in any order.
        holders: who holds what, of the carriers that the one who asks knows.
        ready: the carriers that are well enough to be moved.
    """
    counts = Counter(holders.values())
    if taker != min(workers, key=lambda worker: (counts[worker], worker), default=None):
        return None
    for giver in sorted(workers, key=lambda worker: (-counts[worker], worker)):
        more = counts[giver] - counts[taker]
        if more < WORTH_A_MOVE:
            return None
        carriers = sorted(name for name, holder in holders.items() if holder == giver and name in ready)
        if carriers:
            return Wish(giver, more, tuple(carriers))
    return None


def to_give(
    giver: str, taker: str, wanted: Collection[str], workers: Collection[str], holders: Holders, ready: Collection[str]
) -> str | None:
    """Name the carrier that a worker gives to one that asked; None: none, because it sees no such need.

    Args:
        wanted: the carriers asked for. A worker asks only for those it knows.
    """
    wish = wish_of(taker, workers, holders, ready)
    if wish is None or wish.giver != giver:
        return None
    return next((name for name in wish.carriers if name in wanted), None)


class Steady:
    """Tells for how long what was seen has been the same."""

    def __init__(self) -> None:
        self._seen: Hashable = None
        self._since = 0.0

    def for_s(self, seen: Hashable, now: float) -> float:
        """Take in what is seen now (monotonic seconds); gives the seconds since it last differed."""
        if seen != self._seen:
            self._seen, self._since = seen, now
        return now - self._since
