"""Sequence numbers, and which requests wait for an answer.

Invariant: a number is in the window exactly while its request waits; it leaves once, by answer, refusal,
time-out or loss, and only then may another take its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from carriers.smpp.pdu import MAX_SEQUENCE_NUMBER

LATE_ENTRIES: Final = 10_000  # requests remembered after their time-out; the oldest goes first


class Request(NamedTuple):
    """A request that went out."""

    handle: object
    response_id: int
    sent_at: float


class Window:
    """One connection's requests. A new connection starts with a new one, at sequence number 1."""

    __slots__ = ("_late", "_late_s", "_next", "_waiting", "size")

    def __init__(self, size: int, late_s: float = 300.0, first: int = 1) -> None:
        """Start empty.

        Args:
            size: requests that may wait at once.
            late_s: seconds a request is remembered after its time-out.
            first: sequence number, 1..0x7FFFFFFF (SMPP v3.4, 5.1.4).
        """
        self.size = size
        self._late_s = late_s
        self._next = first
        self._waiting: dict[int, Request] = {}
        self._late: dict[int, tuple[Request, float]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def free(self) -> int:
        """How many more requests may wait."""
        return self.size - len(self._waiting)

    def number(self) -> int:
        """Give the next sequence number; none that still waits, or whose late answer would be mistaken."""
        n = self._next
        while n in self._waiting or n in self._late:
            n = n + 1 if n < MAX_SEQUENCE_NUMBER else 1
        self._next = n + 1 if n < MAX_SEQUENCE_NUMBER else 1
        return n

    def add(self, sequence_number: int, request: Request) -> None:
        """Put a request in. The caller has seen that there is room."""
        self._waiting[sequence_number] = request

    def pop(self, sequence_number: int, response_id: int | None = None) -> Request | None:
        """Take the request an answer belongs to; None when none waits under this number, or for it."""
        request = self._waiting.get(sequence_number)
        if request is None or (response_id is not None and request.response_id != response_id):
            return None
        del self._waiting[sequence_number]
        return request

    def pop_late(self, sequence_number: int, response_id: int | None, now: float) -> Request | None:
        """Take the request a late answer belongs to; None when it is forgotten, or was never asked."""
        late = self._late.get(sequence_number)
        if late is None or (response_id is not None and late[0].response_id != response_id):
            return None
        del self._late[sequence_number]
        return late[0] if late[1] > now else None

    def oldest(self) -> float | None:
        """When the request that waits longest went; None when none waits."""
        for request in self._waiting.values():
            return request.sent_at
        return None

    def remembers(self, now: float) -> bool:
        """Tell whether an answer may still come for what timed out."""
        return any(until > now for _, until in reversed(self._late.values()))

    def expire(self, sent_before: float, now: float) -> list[Request]:
        """Take out what went at or before a time and still waits; it is remembered for a late answer."""
        expired: list[tuple[int, Request]] = []
        for n, request in self._waiting.items():
            if request.sent_at > sent_before:
                break
            expired.append((n, request))
        for n, request in expired:
            del self._waiting[n]
            self._late[n] = (request, now + self._late_s)
        while self._late:
            n = next(iter(self._late))
            if self._late[n][1] > now and len(self._late) <= LATE_ENTRIES:
                break
            del self._late[n]
        return [request for _, request in expired]

    def drain(self) -> Iterator[Request]:
        """Take out everything, in the order it went: the connection is gone."""
        waiting, self._waiting, self._late = self._waiting, {}, {}
        return iter(waiting.values())
