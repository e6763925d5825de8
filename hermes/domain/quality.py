"""How well a carrier delivers: its receipts over a sliding window. Pure: time is passed in, monotonic seconds.

The score is the share of messages delivered, halved for each minute that the median receipt takes. It begins at a
neutral value, as if `PRIOR` ordinary messages were always in the window; what a carrier did is forgotten as it slides
out, so that one that is not asked any more drifts back to neutral and is tried again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from typing import Final

WINDOW_S: Final = 900.0
BUCKETS: Final = 30
PRIOR: Final = 20  # neutral messages always in the window: so many real ones weigh as much
NEUTRAL_RATIO: Final = 0.9
NEUTRAL_S: Final = 8.0  # seconds to a receipt; an edge of TIMES
HALVES_AFTER_S: Final = 60.0
# Upper edges, in seconds, of the classes that receipt times are counted in.
TIMES: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)

SILENT_AFTER_S: Final = 60.0  # a receipt that takes longer is slow
SILENT_LEAST: Final = 20  # slow receipts needed before a carrier counts as silent
SILENT_SHARE: Final = 0.1  # at most so many came

_BUCKET_S: Final = WINDOW_S / BUCKETS
_NEUTRAL_CLASS: Final = TIMES.index(NEUTRAL_S)


class _Bucket:
    __slots__ = ("delivered", "failed", "heard", "number", "taken", "times")

    def __init__(self, number: int) -> None:
        self.number = number  # of its slice of time
        self.delivered = self.failed = self.taken = self.heard = 0
        self.times = [0] * (len(TIMES) + 1)


class Quality:
    """What one carrier did in the last quarter of an hour."""

    __slots__ = ("_buckets", "_looked_at", "_reports", "_sum")

    def __init__(self) -> None:
        self._buckets: deque[_Bucket] = deque()  # oldest first
        self._sum = _Bucket(-1)  # of all buckets
        self._reports = False  # it gave a receipt once
        self._looked_at = 0.0

    def taken(self, now: float) -> None:
        """It took a message that it should report on."""
        for bucket in self._now(now):
            bucket.taken += 1

    def delivered(self, now: float, seconds: float) -> None:
        """It reported a delivery, so many seconds after it took the message."""
        for bucket in self._now(now):
            bucket.delivered += 1
            bucket.heard += 1
            bucket.times[bisect_left(TIMES, seconds)] += 1
        self._reports = True

    def failed(self, now: float, *, heard: bool, its_fault: bool = True) -> None:
        """A message it took was not delivered: it reported so (`heard`), or said nothing in the step's time."""
        for bucket in self._now(now):
            bucket.failed += its_fault
            bucket.heard += heard
        self._reports = self._reports or heard

    def ratio(self, now: float) -> float:
        """Share delivered, 0..1, the neutral messages included."""
        self._forget(now)
        delivered = self._sum.delivered
        return (delivered + PRIOR * NEUTRAL_RATIO) / (delivered + self._sum.failed + PRIOR)

    def median_s(self, now: float) -> float:
        """Median seconds from the carrier's answer to the receipt, to the class's upper edge."""
        self._forget(now)
        times = self._sum.times
        half = (self._sum.delivered + PRIOR) / 2
        for n, edge in enumerate(TIMES):
            half -= times[n] + (PRIOR if n == _NEUTRAL_CLASS else 0)
            if half <= 0:
                return edge
        return TIMES[-1]

    def score(self, now: float) -> float:
        """0..1, the more the better: the ratio, halved for each minute of the median."""
        ratio: float = self.ratio(now) * 2.0 ** (-self.median_s(now) / HALVES_AFTER_S)
        return ratio

    def fell_silent(self, now: float) -> bool:
        """Tell, at most once a second, whether it used to report and no longer does: receipts are a minute late."""
        if not self._reports or now - self._looked_at < 1.0:
            return False
        self._looked_at = now
        self._forget(now)
        ripe = int((now - SILENT_AFTER_S) / _BUCKET_S)
        due = sum(b.taken for b in self._buckets if b.number < ripe)
        return due >= SILENT_LEAST and self._sum.heard <= due * SILENT_SHARE

    def forgive_silence(self) -> None:
        """It was set aside for its silence: what it owes from before does not count again."""
        for bucket in (*self._buckets, self._sum):
            bucket.taken = 0

    def _now(self, now: float) -> tuple[_Bucket, _Bucket]:
        """Give what is counted now, and the sum: both are to be counted in."""
        number = int(now / _BUCKET_S)
        if not self._buckets or self._buckets[-1].number < number:
            self._forget(now)
            self._buckets.append(_Bucket(number))
        return self._buckets[-1], self._sum

    def _forget(self, now: float) -> None:
        """Drop what slid out of the window."""
        first, total = int(now / _BUCKET_S) - BUCKETS, self._sum
        while self._buckets and self._buckets[0].number <= first:
            gone = self._buckets.popleft()
            total.delivered -= gone.delivered
            total.failed -= gone.failed
            total.taken -= gone.taken
            total.heard -= gone.heard
            for n, count in enumerate(gone.times):
                total.times[n] -= count
