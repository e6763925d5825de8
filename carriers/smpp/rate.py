"""How fast a bind may send: buckets for what is allowed, a controller for what the carrier shows it takes.

Pure: time comes in as a float of seconds from any monotonic clock, randomness as a function.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import ceil, exp, inf, log, pow
from typing import Final

BURST_S: Final = 0.02  # of the rate, at once; behaviour 14 allows 0.05, a strict centre counts each second
HEADROOM: Final = 0.98  # of a given limit: with the burst, no second of the carrier's clock holds more than it
SECOND_S: Final = 1.02  # no such span holds more than a given limit: a second, and what may arrive closer than it left
# Of turns that what waits has missed (a busy loop, a full window), so much is made up for. With the burst a tenth of a
# second: what a centre's bucket holds that is no stricter.
CATCH_UP_S: Final = 0.08
FORGIVEN_S: Final = 60.0  # after being throttled, before missed turns are made up for again
CUT: Final = 0.7  # of the rate, when the carrier throttles
PAUSE_S: Final = (0.25, 1.0)  # before the first message after being throttled, drawn evenly
SLOWEST: Final = 1.0  # messages a second; below it nobody would learn that the carrier is well again
NEAR: Final = 0.92  # of the rate at which the carrier throttled
SEARCH: Final = 4.0  # times a second, after the first throttling of a carrier of unknown limit, until the second
CREEP_FAST: Final = 2.0  # times a second, up to NEAR
CREEP_SLOW: Final = 0.02  # of the rate a second, beyond
DARE_AFTER_S: Final = 6.0  # beyond NEAR; then ever faster: the carrier takes more than it did
DARE: Final = 0.05  # of the rate, a second squared
_SLOTS: Final = 10  # of the last second, for measuring


class TokenBucket:
    """Lets through `rate` a second, in bursts of at most BURST_S of it. Parts of a message count one each.

    Under a given limit, what waits keeps up to CATCH_UP_S of the turns it missed because nobody came in time to
    send it, and no SECOND_S holds more than the limit, whatever was missed.
    """

    __slots__ = ("_at", "_capacity", "_tokens", "_waits", "_went", "limit", "rate")

    def __init__(self, rate: float = inf, limit: float = inf) -> None:
        """Start full.

        Args:
            rate: messages a second; inf or 0 for no limit.
            limit: messages a second that the carrier takes, where that is known; inf where it is not.
        """
        self.limit = limit
        self._went: deque[float] | None = None if limit == inf else deque(maxlen=max(1, ceil(limit)))  # newest last
        self._waits = False  # something waits, and may make up for what it misses
        self._at: float | None = None
        self.rate = inf
        self._capacity = inf
        self._tokens = inf
        self.set_rate(rate)
        self._tokens = self._capacity

    def set_rate(self, rate: float) -> None:
        """Change the rate; what is in the bucket stays, as far as it fits."""
        self.rate = rate if rate > 0 else inf
        self._resize()

    def waits(self, yes: bool, now: float) -> None:
        """Say whether something waits from now on; what is missed while nothing does is not made up for."""
        if yes is not self._waits:
            self._fill(now)
            self._waits = yes
            self._resize()

    def _resize(self) -> None:
        self._capacity = max(1.0, self.rate * BURST_S)
        if self._waits and self._went is not None:
            self._capacity += self.rate * CATCH_UP_S
        self._tokens = min(self._tokens, self._capacity)

    def _fill(self, now: float) -> None:
        if self._at is not None and now > self._at:
            self._tokens = min(self._capacity, self._tokens + (now - self._at) * self.rate)
        self._at = now if self._at is None else max(self._at, now)

    def wait(self, now: float) -> float:
        """Tell in how many seconds a message may go; 0 when now."""
        if self.rate == inf:
            return 0.0
        self._fill(now)
        # A hair under one counts: a timer set for this very moment must not find 0.9999999.
        wait = 0.0 if self._tokens >= 1.0 - 1e-9 else (1.0 - self._tokens) / self.rate
        went = self._went
        if went is not None and len(went) == went.maxlen:
            second = went[0] + SECOND_S - now
            if second > wait and second > 1e-9:
                return second
        return wait

    def take(self, now: float) -> None:
        """Count a message that goes. Taking more than there is makes the next wait longer."""
        if self.rate != inf:
            self._fill(now)
            self._tokens -= 1.0
            if self._went is not None:
                self._went.append(now)


class RateController:
    """Finds the rate a carrier takes, by what it throttles (ESME_RTHROTTLED, ESME_RMSGQFUL).

    Throttled: pause, go on at CUT times what was taken, quickly up to near the old rate, slowly over it, and
    faster again when nothing comes of that. Answers to messages sent before the cut say nothing new and are
    not counted again. Without a limit the first second shows how much a carrier takes at once, not for how
    long: after the first cut the rate grows until a second one.
    """

    __slots__ = (
        "_ceiling",
        "_cut_at",
        "_limit",
        "_rate",
        "_rate_at",
        "_searching",
        "_slot",
        "_taken",
        "paused_until",
        "throttled",
    )

    def __init__(self, limit: float = inf) -> None:
        """Start at the limit.

        Args:
            limit: messages a second, inf or 0 when unknown.
        """
        self._limit = limit if limit > 0 else inf
        self._rate = self._limit
        self._rate_at = 0.0
        self._ceiling = inf
        self._searching = self._limit == inf
        self._cut_at = -inf
        self._taken = [0] * _SLOTS
        self._slot = 0
        self.paused_until = -inf
        self.throttled = 0  # answers in all

    def accepted(self, now: float) -> None:
        """Count a message the carrier took."""
        self._forget(now)
        self._taken[self._slot % _SLOTS] += 1

    def throttled_at(self, now: float, sent_at: float, random: Callable[[], float]) -> float:
        """Count a message the carrier would not take now.

        Args:
            now: when its answer came.
            sent_at: when it went.
            random: gives 0 <= x < 1.

        Returns:
            The time until which nothing may go.
        """
        self.throttled += 1
        if sent_at <= self._cut_at or now < self.paused_until:
            return self.paused_until
        self._forget(now)
        taken = float(sum(self._taken))
        before = self.rate(now)
        if before == inf:
            rate = max(taken, SLOWEST)
        else:
            latest = sum(self._taken[(self._slot - n) % _SLOTS] for n in range(3)) * _SLOTS / 3
            rate = max(min(before, max(taken, latest)), SLOWEST)
            self._searching = False
        self._ceiling = rate
        self._rate = max(rate * CUT, SLOWEST)
        self._cut_at = now
        self.paused_until = now + PAUSE_S[0] + (PAUSE_S[1] - PAUSE_S[0]) * random()
        self._rate_at = self.paused_until
        return self.paused_until

    def rate(self, now: float) -> float:
        """Tell how many messages a second may go now; inf for no limit."""
        if self._rate >= self._limit:
            return self._rate
        rate, seconds = self._rate, now - self._rate_at
        if seconds <= 0:
            return rate
        if self._searching:
            return min(rate * pow(SEARCH, min(seconds, 30.0)), self._limit)
        near = self._ceiling * NEAR
        fast_s = log(near / rate) / log(CREEP_FAST) if rate < near else 0.0
        if seconds < fast_s:
            return min(rate * pow(CREEP_FAST, seconds), self._limit)
        beyond = seconds - fast_s
        grown = CREEP_SLOW * beyond + DARE * max(0.0, beyond - DARE_AFTER_S) ** 2
        return min(max(rate, near) * exp(min(grown, 50.0)), self._limit)

    def wait(self, now: float) -> float:
        """Tell how many seconds the pause still lasts."""
        return max(0.0, self.paused_until - now)

    def throttled_lately(self, now: float) -> bool:
        """Tell whether the carrier counts more finely than we do: it gets no turns that were missed."""
        return now - self._cut_at < FORGIVEN_S

    def _forget(self, now: float) -> None:
        slot = int(now * _SLOTS)
        if slot > self._slot:
            for n in range(self._slot + 1, min(slot, self._slot + _SLOTS) + 1):
                self._taken[n % _SLOTS] = 0
            self._slot = slot


class Pacer:
    """A bind's pace: its bucket, its account's bucket (shared by the account's binds), its controller."""

    __slots__ = ("_account", "_bind", "_limit", "controller")

    def __init__(self, bind_rate: float = inf, account: TokenBucket | None = None) -> None:
        """Take the limits.

        Args:
            bind_rate: `throughput_per_bind_s`; inf or 0 when there is none.
            account: of `throughput_per_s`, made once a carrier with `account_bucket`.
        """
        account_rate, account_limit = (account.rate, account.limit) if account is not None else (inf, inf)
        own = bind_rate if bind_rate > 0 else inf
        self._limit = own * HEADROOM
        self.controller = RateController(min(self._limit, account_rate))
        self._bind = TokenBucket(self._limit, min(own, account_limit))
        self._account = account

    def wait(self, now: float) -> float:
        """Tell in how many seconds one message may go; 0 when now."""
        paused = self.controller.wait(now)
        if paused > 0:
            return paused
        rate = self.controller.rate(now)
        if rate != self._bind.rate:
            self._bind.set_rate(rate)
        wait = self._bind.wait(now)
        return wait if self._account is None else max(wait, self._account.wait(now))

    def waits(self, yes: bool, now: float) -> None:
        """Say whether something waits, for this bind or another of the account, and may make up for delays."""
        self._bind.waits(yes, now)
        if self._account is not None:
            self._account.waits(yes, now)

    def take(self, now: float) -> None:
        """Count one message that goes."""
        self._bind.take(now)
        if self._account is not None:
            self._account.take(now)


def account_bucket(throughput_per_s: float) -> TokenBucket:
    """Make the bucket an account's binds share; 0 for no limit."""
    return TokenBucket(throughput_per_s * HEADROOM, throughput_per_s if throughput_per_s > 0 else inf)
