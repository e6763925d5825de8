"""A bounded queue that is fair between keys: strict priority lanes, deficit round robin within a lane.

A carrier's queue, keyed by tenant with the cost in segments, is the first user; nothing here knows that.
Pure and synchronous: no clock, no actor, no event loop.

Within a lane each key in turn earns `quantum` units of credit and sends what it can pay for, so a key with
long items gets no more than one with short ones, and a key with a million items waiting delays another by at
most one quantum. Within a lane and key the order is first in, first out.

Invariants:
- `len(queue)` is the number of live entries (neither popped nor removed); never more than `limit` by `put`.
- A key is in a lane's ring iff it has entries there; credit is lost with the last one, so an idle key takes
  no memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

_SLACK: Final = 32  # places of removed entries a lane or line may hold before they are swept out


class Entry:
    """One item in line.

    Attributes:
        cost: units it takes from its key's credit; 1 or more.
        queued_at: the caller's own time, or None; the queue only hands it back.
    """

    __slots__ = ("_queued", "cost", "item", "key", "lane", "queued_at")

    def __init__(self, key: str, lane: str, cost: int, item: Any, queued_at: float | None) -> None:
        self.key = key
        self.lane = lane
        self.cost = cost
        self.item = item
        self.queued_at = queued_at
        self._queued = True

    def __repr__(self) -> str:
        return f"Entry({self.key!r}, {self.lane!r}, {self.cost}, {self.item!r})"


class _Line:
    """What one key has in one lane."""

    __slots__ = ("credit", "entries", "key", "live")

    def __init__(self, key: str) -> None:
        self.key = key
        self.credit = 0
        self.entries: deque[Entry] = deque()
        self.live = 0  # entries not removed; the line is dropped when it reaches 0


class _Lane:
    __slots__ = ("lines", "ring")

    def __init__(self) -> None:
        self.lines: dict[str, _Line] = {}
        self.ring: deque[_Line] = deque()  # whose turn it is next; dropped lines are skipped when met


class FairQueue:
    """Lanes by priority, keys by turns, items in order.

    Args:
        lanes: names, the most urgent first; a lane is served only while those before it are empty.
        limit: most entries `put` lets in.
        quantum: units of cost a key earns per turn; 1 or more.
    """

    __slots__ = ("_lanes", "_live", "_order", "limit", "quantum")

    def __init__(self, lanes: Sequence[str], limit: int, quantum: int = 8) -> None:
        if not lanes or len(set(lanes)) != len(lanes) or limit < 1 or quantum < 1:
            raise ValueError("a fair queue needs distinct lanes, a limit and a quantum of 1 or more")
        self.limit = limit
        self.quantum = quantum
        self._lanes = {name: _Lane() for name in lanes}
        self._order = tuple(self._lanes.values())
        self._live = 0

    def __len__(self) -> int:
        return self._live

    @property
    def full(self) -> bool:
        """Tell whether `put` would refuse."""
        return self._live >= self.limit

    def put(self, key: str, lane: str, cost: int, item: Any, queued_at: float | None = None) -> Entry | None:
        """Queue an item at the end of its key's line; None when the queue is full.

        Raises:
            KeyError: no such lane.
            ValueError: the cost is below 1.
        """
        if self._live >= self.limit:
            return None
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        where = self._lanes[lane]
        entry = Entry(key, lane, cost, item, queued_at)
        line = where.lines.get(key)
        if line is None:
            line = where.lines[key] = _Line(key)
            where.ring.append(line)
        line.entries.append(entry)
        line.live += 1
        self._live += 1
        return entry

    def put_front(self, entry: Entry) -> None:
        """Put a popped entry back before everything else of its key and lane; its key is next. Never refused.

        Entries popped one after the other and put back last first are in their old order again. The credit it
        cost is given back.

        Raises:
            ValueError: the entry is still queued.
        """
        if entry._queued:
            raise ValueError("the entry is still queued")
        entry._queued = True
        where = self._lanes[entry.lane]
        line = where.lines.get(entry.key)
        if line is None:
            line = where.lines[entry.key] = _Line(entry.key)
            where.ring.appendleft(line)
        line.entries.appendleft(entry)
        line.live += 1
        line.credit += entry.cost
        self._live += 1

    def pop(self) -> Entry | None:
        """Take the entry whose turn it is; None when the queue is empty."""
        for lane in self._order:
            ring = lane.ring
            while ring:
                line = ring[0]
                entries = line.entries
                while entries and not entries[0]._queued:
                    entries.popleft()
                if not entries:
                    ring.popleft()
                    continue
                entry = entries[0]
                if line.credit < entry.cost:
                    others = len(ring) > 1
                    line.credit += self.quantum
                    if others:
                        ring.rotate(-1)
                    continue
                line.credit -= entry.cost
                entries.popleft()
                self._gone(lane, line, entry)
                return entry
        return None

    def remove(self, entry: Entry) -> bool:
        """Withdraw an entry; False if it was popped or removed before. O(1) in the long run."""
        if not entry._queued:
            return False
        lane = self._lanes[entry.lane]
        line = lane.lines[entry.key]
        self._gone(lane, line, entry)
        entry.item = None
        # A queue that nobody pops from must not fill up with skipped places: sweep when they are the most.
        if len(line.entries) > 2 * line.live + _SLACK:
            line.entries = deque(other for other in line.entries if other._queued)
        if len(lane.ring) > 2 * len(lane.lines) + _SLACK:
            lane.ring = deque(other for other in lane.ring if other.live)
        return True

    def entries(self) -> list[Entry]:
        """Return all entries, lane by lane and key by key, each line in order. O(n)."""
        return [
            entry for lane in self._order for line in lane.lines.values() for entry in line.entries if entry._queued
        ]

    def oldest_at(self) -> float | None:
        """Return the smallest `queued_at` at the head of any line; None when nothing with a time is queued.

        O(keys with entries). Within a line the head is the oldest, as callers put items in as they come.
        """
        times = [head.queued_at for head in self._heads() if head.queued_at is not None]
        return min(times, default=None)

    def keys(self) -> dict[str, int]:
        """Return the entries waiting by key, over all lanes."""
        waiting: dict[str, int] = {}
        for lane in self._order:
            for key, line in lane.lines.items():
                waiting[key] = waiting.get(key, 0) + line.live
        return waiting

    def waiting(self, key: str) -> int:
        """Count the entries of one key, over all lanes. O(lanes)."""
        lines = (lane.lines.get(key) for lane in self._order)
        return sum(line.live for line in lines if line is not None)

    def _heads(self) -> Iterator[Entry]:
        for lane in self._order:
            for line in lane.lines.values():
                while not line.entries[0]._queued:
                    line.entries.popleft()
                yield line.entries[0]

    def _gone(self, lane: _Lane, line: _Line, entry: Entry) -> None:
        entry._queued = False
        self._live -= 1
        line.live -= 1
        if not line.live:
            del lane.lines[line.key]
            line.entries.clear()
