"""Limits in this process's memory: a log of the last second, the messages of each tenant's last minutes, and quotas.

A rate of n lets a message go iff fewer than n went in the second before it. When n went, it takes one of the `burst`
credits. Credits come back, n a second, only while the last second holds no message: under steady load the burst is
there once, after a rest again.

Of quotas it counts what this process took; what others accepted, and what was accepted before, the journal says
(`accepted.py`). Alone it is exact. Beside other workers it knows of what they accept a second late, and may let so
much more go.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import date
from typing import Final

from gateway.limits.accepted import Accepted, Known
from gateway.limits.base import NO_LIMIT, WINDOW_S, Ask, QuotaAsk, Taken
from hermes.domain.quotas import NOTHING, QUOTAS, Amounts, exceeded, month_of

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
        credit = self._credits(now, rate, burst)
        left = max(rate - len(times), 0) + int(credit)
        if left > 0:
            return Taken(None, rate, left - 1, 0.0)
        # Rates may have been lowered meanwhile: then more than one has to leave.
        leaves = times[len(times) - rate]
        return Taken("tenant", rate, 0, max(leaves + WINDOW_S - now, 0.0))

    def count(self, now: float, rate: int, burst: int) -> None:
        """Count a message that goes now."""
        credit = self._credits(now, rate, burst)
        if len(self._times) >= rate:
            credit -= 1
        self._credit = credit
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


class Counted:
    """What this process took for quotas, by day and month. A period of a tenant's is forgotten after the next two."""

    def __init__(self) -> None:
        self._took: dict[tuple[str, str], tuple[dict[date, Amounts], dict[date, Amounts]]] = {}

    def used(self, ask: QuotaAsk, known: Known) -> tuple[Amounts, Amounts]:
        """Tell what is used of the message's day and month, by all workers."""
        days, months = self._periods(ask)
        first, _ = month_of(ask.day)
        # What was on its way when the tenant got its first quota is in the journal only.
        own_day = days[ask.day] = _most(days.get(ask.day, NOTHING), known.own_day)
        own_month = months[first] = _most(months.get(first, NOTHING), known.own_month)
        return (
            _plus(_plus(own_day, known.others_day), (0, 0, known.over_day)),
            _plus(_plus(own_month, known.others_month), (0, 0, known.over_month)),
        )

    def add(self, ask: QuotaAsk, times: int = 1) -> None:
        """Count a message, or (-1) take it back."""
        adds = (ask.adds[0] * times, ask.adds[1] * times, ask.adds[2] * times)
        for periods, period in zip(self._periods(ask), (ask.day, month_of(ask.day)[0]), strict=True):
            periods[period] = _plus(periods.get(period, NOTHING), adds)
            if len(periods) > 3:
                del periods[min(periods)]

    def _periods(self, ask: QuotaAsk) -> tuple[dict[date, Amounts], dict[date, Amounts]]:
        return self._took.setdefault((ask.tenant, ask.mode), ({}, {}))


def _plus(a: Amounts, b: Amounts) -> Amounts:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _most(a: Amounts, b: Amounts) -> Amounts:
    return max(a[0], b[0]), max(a[1], b[1]), max(a[2], b[2])


class LocalLimits:
    """`Limits` of one process; exact, because nothing waits between looking and counting.

    Args:
        monotonic: seconds, from any start.
        accepted: what was accepted before and elsewhere; None: nothing.
    """

    def __init__(self, monotonic: Callable[[], float], accepted: Accepted | None = None) -> None:
        self._monotonic = monotonic
        self._accepted = accepted
        self._counted = Counted()
        self._windows: dict[tuple[str, str], tuple[SlidingWindow, int, int]] = {}
        self._sent: OrderedDict[tuple[str, bytes], float] = OrderedDict()  # until when, by (scope, duplicate)
        self._asked = 0

    async def take(self, ask: Ask) -> Taken:
        """See `Limits`."""
        quota = ask.quota
        known = Known()
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
            of_day, of_month = self._counted.used(quota, known)
            over = exceeded(quota.limits, of_month, of_day, quota.adds)
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
            self._counted.add(quota)
        self._asked += 1
        if self._asked >= SWEEP_EVERY or len(self._sent) > MOST_DUPLICATES:
            self._sweep(now)
        return taken

    async def forget(self, ask: Ask) -> None:
        """See `Limits`."""
        if ask.duplicate is not None:
            self._sent.pop((ask.scope, ask.duplicate), None)
        if ask.quota is not None:
            self._counted.add(ask.quota, -1)

    async def close(self) -> None:
        """See `Limits`."""
        if self._accepted is not None:
            self._accepted.close()

    def _rates(self, ask: Ask) -> list[tuple[SlidingWindow, str, int, int]]:
        rates = []
        for name, rate, burst in (("tenant", ask.rate, ask.burst), (ask.channel, ask.channel_rate, 0)):
            if rate:
                known = self._windows.get((ask.scope, name))
                window = SlidingWindow() if known is None else known[0]
                self._windows[ask.scope, name] = (window, rate, burst)
                rates.append((window, name, rate, burst))
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
