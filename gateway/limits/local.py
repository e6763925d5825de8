"""Limits in this process's memory: a log of the last second, the messages of each tenant's last minutes, and quotas.

A rate of n lets a message go iff fewer than n went in the second before it. When n went, it takes one of the `burst`
credits. Credits come back, n a second, only while the last second holds no message: under steady load the burst is
there once, after a rest again.

Of quotas it counts what this process took; what others accepted, and what was accepted before, the journal says
(`accepted.py`). Alone it is exact. Beside other workers it knows of what they accept two seconds late at most, and may
let so much more go.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import date, timedelta
from typing import Final

from gateway.limits.accepted import NOTHING_KNOWN, Accepted, Known
from gateway.limits.base import NO_LIMIT, WINDOW_S, Ask, QuotaAsk, Taken
from hermes.domain.quotas import QUOTAS, Amounts, exceeded, month_of

MOST_DUPLICATES: Final = 1_000_000  # messages remembered, about 200 octets each; beyond, the oldest are forgotten
SWEEP_EVERY: Final = 10_000  # questions between two looks for tenants that rest


class SlidingWindow:
    """One rate: which messages went in the last second, and what is left of the burst."""

    __slots__ = ("_credit", "_last", "_times")

    def __init__(self) -> None:
        self._times: deque[float] = deque()
        self._credit: float | None = None  # None: the burst is untouched
        self._last = float("-inf")

    def look(self, now: float, rate: int, burst: int) -> Taken:
        """Say whether a message may go now; nothing is counted."""
        times = self._times
        while times and times[0] <= now - WINDOW_S:
            times.popleft()
        left = rate - len(times)
        if burst:
            left = max(left, 0) + int(self._credits(now, rate, burst))
        if left > 0:
            return Taken(None, rate, left - 1)
        # Rates may have been lowered meanwhile: then more than one has to leave.
        leaves = times[len(times) - rate]
        return Taken("tenant", rate, 0, max(leaves + WINDOW_S - now, 0.0))

    def count(self, now: float, rate: int, burst: int) -> None:
        """Count a message that goes now."""
        if burst:
            credit = self._credits(now, rate, burst)
            self._credit = credit - 1 if len(self._times) >= rate else credit
        self._last = now
        self._times.append(now)

    def rests(self, now: float, rate: int, burst: int) -> bool:
        """Tell whether there is nothing left to remember."""
        return now - self._last > WINDOW_S and (not burst or self._credits(now, rate, burst) >= burst)

    def _credits(self, now: float, rate: int, burst: int) -> float:
        if self._credit is None:
            return burst
        rest = now - self._last - WINDOW_S
        return min(burst, self._credit + rest * rate) if rest > 0 else min(burst, self._credit)


class Sums:
    """What is used of a tenant's quotas in one day or month: what this process took, and what the journal says.

    Attributes:
        used: messages, segments, millionths: by all workers.
    """

    __slots__ = ("_known", "_own", "used")

    def __init__(self) -> None:
        self.used = [0, 0, 0]
        self._own = [0, 0, 0]
        self._known: Known | None = None

    def take_in(self, known: Known, own: Amounts, others: Amounts, over: int) -> None:
        """Take in what was read from the journal."""
        if known is self._known:
            return
        self._known = known
        # What was on its way when the tenant got its first quota is in the journal only.
        self._own = [max(took, stored) for took, stored in zip(self._own, own, strict=True)]
        self.used = [took + others_ for took, others_ in zip(self._own, others, strict=True)]
        self.used[2] += over

    def add(self, adds: Amounts, times: int = 1) -> None:
        """Count a message, or (-1) take it back."""
        for n in (0, 1, 2):
            more = adds[n]
            if more:
                self._own[n] += more * times
                self.used[n] += more * times


class LocalLimits:
    """`Limits` of one process; exact, because nothing waits between looking and counting.

    Args:
        monotonic: seconds, from any start.
        accepted: what was accepted before and elsewhere; None: nothing.
    """

    def __init__(self, monotonic: Callable[[], float], accepted: Accepted | None = None) -> None:
        self._monotonic = monotonic
        self._accepted = accepted
        self._days: dict[tuple[str, str, date], tuple[Sums, Sums]] = {}  # a day's, and its month's
        self._months: dict[tuple[str, str, date], Sums] = {}
        self._newest = date.min
        self._windows: dict[tuple[str, str], tuple[SlidingWindow, int, int]] = {}
        self._sent: OrderedDict[tuple[str, bytes], float] = OrderedDict()  # until when, by (scope, duplicate)
        self._asked = 0

    async def take(self, ask: Ask) -> Taken:
        """See `Limits`."""
        quota = ask.quota
        known = NOTHING_KNOWN
        if quota is not None and self._accepted is not None:
            known = await self._accepted.of(quota.tenant, quota.mode, quota.day)
        return self.take_at_once(ask, known)

    def take_at_once(self, ask: Ask, known: Known) -> Taken:
        """Do `take`, with what the journal says was accepted."""
        now = self._monotonic()
        taken = NO_LIMIT
        rates = self._rates(ask)
        for window, name, rate, burst in rates:
            found = window.look(now, rate, burst)
            if found.refused is not None:
                return Taken(name, found.limit, 0, found.wait_s)
            if taken is NO_LIMIT or found.remaining < taken.remaining:
                taken = found
        quota = ask.quota
        if quota is not None:
            day, month = self._sums(quota)
            day.take_in(known, known.own_day, known.others_day, known.over_day)
            month.take_in(known, known.own_month, known.others_month, known.over_month)
            over = exceeded(quota.limits, month.used, day.used, quota.adds)
            if over is not None:
                return over_quota(quota, *over)
        if ask.duplicate is not None:
            key = (ask.scope, ask.duplicate)
            until = self._sent.get(key)
            if until is not None and until > now:
                return Taken("duplicate", wait_s=until - now)
            if ask.counts:
                self._sent[key] = now + ask.duplicate_s
                self._sent.move_to_end(key)
        if not ask.counts:
            return taken
        for window, _, rate, burst in rates:
            window.count(now, rate, burst)
        if quota is not None:
            day.add(quota.adds)
            month.add(quota.adds)
        self._asked += 1
        if self._asked >= SWEEP_EVERY or len(self._sent) > MOST_DUPLICATES:
            self._sweep(now)
        return taken

    async def forget(self, ask: Ask) -> None:
        """See `Limits`."""
        if ask.duplicate is not None:
            self._sent.pop((ask.scope, ask.duplicate), None)
        if ask.quota is not None:
            for sums in self._sums(ask.quota):
                sums.add(ask.quota.adds, -1)

    async def close(self) -> None:
        """See `Limits`."""
        if self._accepted is not None:
            self._accepted.close()

    def _sums(self, ask: QuotaAsk) -> tuple[Sums, Sums]:
        """Find what is used of the message's day and month."""
        key = (ask.tenant, ask.mode, ask.day)
        found = self._days.get(key)
        if found is None:
            if ask.day > self._newest:
                self._newest = ask.day
                oldest = ask.day - timedelta(days=2)  # messages that were created before midnight may still come
                self._days = {of: sums for of, sums in self._days.items() if of[2] >= oldest}
                self._months = {of: sums for of, sums in self._months.items() if of[2] >= month_of(oldest)[0]}
            month = self._months.setdefault((ask.tenant, ask.mode, month_of(ask.day)[0]), Sums())
            found = self._days[key] = (Sums(), month)
        return found

    def _rates(self, ask: Ask) -> list[tuple[SlidingWindow, str, int, int]]:
        rates = []
        scope, windows = ask.scope, self._windows
        for name, rate, burst in (("tenant", ask.rate, ask.burst), (ask.channel, ask.channel_rate, 0)):
            if rate:
                key = (scope, name)
                known = windows.get(key)
                if known is None or known[1] != rate or known[2] != burst:
                    known = windows[key] = (SlidingWindow() if known is None else known[0], rate, burst)
                rates.append((known[0], name, rate, burst))
        return rates

    def _sweep(self, now: float) -> None:
        self._asked = 0
        for key, (window, rate, burst) in list(self._windows.items()):
            if window.rests(now, rate, burst):
                del self._windows[key]
        for sent, until in list(self._sent.items()):
            if until <= now or len(self._sent) > MOST_DUPLICATES:
                del self._sent[sent]


def over_quota(ask: QuotaAsk, n: int, used: int) -> Taken:
    """Say which quota a message would exceed, by its place in `QUOTAS`, and what is left of it."""
    return Taken(QUOTAS[n], ask.limits[n], max(ask.limits[n] - used, 0))
