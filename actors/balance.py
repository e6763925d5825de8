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


@dataclass(slots=True, frozen=True)
class Seen:
    """What a worker sees when it decides.

    Attributes:
        workers: all that live, in any order.
        holders: who holds what, of the carriers that the one who looks knows.
        ready: the carriers that are well enough to be moved.
    """

    workers: Collection[str]
    holders: Mapping[str, str]
    ready: Collection[str]


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


def wish_of(taker: str, seen: Seen) -> Wish | None:
    """Say what a worker should be given; None: it is not its turn, or nothing is worth a move."""
    counts = Counter(seen.holders.values())
    if taker != min(seen.workers, key=lambda worker: (counts[worker], worker), default=None):
        return None
    for giver in sorted(seen.workers, key=lambda worker: (-counts[worker], worker)):
        more = counts[giver] - counts[taker]
        if more < WORTH_A_MOVE:
            return None
        carriers = sorted(name for name in seen.ready if seen.holders.get(name) == giver)
        if carriers:
            return Wish(giver, more, tuple(carriers))
    return None


def to_give(giver: str, taker: str, wanted: Collection[str], seen: Seen) -> str | None:
    """Name the carrier that a worker gives to one that asked; None: none, because it sees no such need.

    Only one of those that were wanted: a worker asks for no carrier that it does not know.
    """
    wish = wish_of(taker, seen)
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
