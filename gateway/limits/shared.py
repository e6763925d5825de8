"""Limits in Redis, for all workers: one script (take.lua). While Redis is away, each worker counts for itself.

What is asked while a question is under way goes with the next one: one connection, one round trip and one run of the
script for all of them, and one judgement for all messages that ask for the same, as those of one tenant most often do.
One server, or one that is looked at as one: the keys of a run lie in several slots of a cluster.

Quotas count here too; what the journal says was accepted is the least that counts, so that a Redis that lost its
memory, or was away, knows better within a second.

Without Redis a tenant may send its limit at each worker: with N workers up to N times as much, never less, and nobody
waits for Redis. It is asked again every second; what was counted before is then forgotten in a second by itself.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from gateway.limits.accepted import NOTHING_KNOWN, Accepted, Known
from gateway.limits.base import WINDOW_S, Ask, QuotaAsk, Taken
from gateway.limits.local import LocalLimits
from hermes.domain.quotas import QUOTAS
from hermes.logs import get_logger

log = get_logger("hermes.limits")

ANSWER_S: Final = 0.2  # a slower Redis counts as away: a message waits for it no longer
AT_ONCE: Final = 500  # messages in one round trip, and
GROUPS_AT_ONCE: Final = 32  # that ask for something else: about half a millisecond of Redis, which others wait for too
ASK_AGAIN_S: Final = 1.0  # while it is away
PREFIX: Final = "hermes:limit:"

_SCRIPT: Final = files(__package__).joinpath("take.lua").read_text("utf-8")
_WHO: Final = ("", "tenant", "channel", "duplicate", *QUOTAS)
_WINDOW_US: Final = int(WINDOW_S * 1e6)
_KEPT_MS: Final = (33 * 86_400_000, 2 * 86_400_000)  # a month and a day, and a day more

# What the script reads and writes, as it says itself.
_ALL: Final = struct.pack(">3d", _WINDOW_US, *_KEPT_MS)
_count: Final = struct.Struct(">d").pack
_limits: Final = struct.Struct(">6d").pack
_quotas: Final = struct.Struct(">17d").pack
_answers: Final = struct.Struct(">7d").iter_unpack


@dataclass(slots=True)
class _Question:
    """One message, and who waits: for None when Redis is away.

    Attributes:
        base: what the names of its keys begin with.
        same: the script's argument but for how many ask: what messages that ask for the same have in common.
        alone: it has more to ask than that.
    """

    base: str
    same: bytes
    alone: bool
    answer: asyncio.Future[Taken | None]


class SharedLimits:
    """`Limits` in Redis.

    Args:
        url: redis://, rediss:// or unix://.
        monotonic: seconds, from any start.
        accepted: what was accepted, for quotas; None: nothing.
    """

    def __init__(self, url: str, monotonic: Callable[[], float], accepted: Accepted | None = None) -> None:
        # `_answer` bounds each question as a whole: a time-out of the client's own costs a task for each write and a
        # timer for each answer it reads, half of what a question costs.
        self._redis: Redis = Redis.from_url(url, socket_timeout=None, socket_connect_timeout=ANSWER_S)
        self._evaluate: Callable[..., Awaitable[Any]] = self._redis.execute_command
        self._sha = sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()
        self._waiting: list[_Question] = []
        self._asking: asyncio.Task[None] | None = None
        self._accepted = accepted
        self._local = LocalLimits(monotonic, accepted)
        self._monotonic = monotonic
        self._ask_again_at: float | None = None  # None: Redis answers

    @property
    def away(self) -> bool:
        """Whether each worker counts for itself now."""
        return self._ask_again_at is not None

    async def take(self, ask: Ask) -> Taken:
        """See `Limits`."""
        if not self._answers():
            return await self._local.take(ask)
        base = f"{PREFIX}{{{ask.scope}}}:"  # braces: one slot of a cluster
        duplicate, kept_ms = "-", 0
        if ask.duplicate is not None:
            duplicate, kept_ms = ask.duplicate.hex(), max(int(ask.duplicate_s * 1000), 1)
        names = f"{ask.channel or '-'} {duplicate}"
        quota = ask.quota
        numbers = _limits(ask.rate, ask.burst, ask.channel_rate, kept_ms, ask.counts, quota is not None)
        if quota is not None:
            known = NOTHING_KNOWN
            if self._accepted is not None:
                known = await self._accepted.of(quota.tenant, quota.mode, quota.day)
            numbers += _quota_numbers(quota, known)
            names += " " + " ".join(_periods(quota))
        alone = kept_ms > 0 or not ask.counts
        question = _Question(base, numbers + names.encode(), alone, asyncio.get_running_loop().create_future())
        self._waiting.append(question)
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all(), name="redis-limits")
        found = await question.answer
        if found is None:
            return await self._local.take(ask)
        return found._replace(refused=ask.channel) if found.refused == "channel" else found

    async def forget(self, ask: Ask) -> None:
        """See `Limits`."""
        await self._local.forget(ask)
        if (ask.duplicate is None and ask.quota is None) or not self._answers():
            return
        base = f"{PREFIX}{{{ask.scope}}}:"
        pipeline = self._redis.pipeline(transaction=False)
        if ask.duplicate is not None:
            pipeline.delete(f"{base}sent:{ask.duplicate.hex()}")
        if ask.quota is not None:
            day, month = _periods(ask.quota)
            for key, kept_ms in zip((f"{base}month:{month}", f"{base}day:{day}"), _KEPT_MS, strict=True):
                for name, added in zip(("messages", "segments", "micros"), ask.quota.adds, strict=True):
                    pipeline.hincrby(key, name, -added)
                pipeline.pexpire(key, kept_ms)
        await self._answer(pipeline.execute())

    async def close(self) -> None:
        """See `Limits`."""
        if self._asking is not None:
            self._asking.cancel()
        await self._local.close()
        await self._redis.aclose()

    def _answers(self) -> bool:
        """Tell whether to ask Redis: also once in a while when it was away."""
        if self._ask_again_at is None:
            return True
        if self._monotonic() < self._ask_again_at:
            return False
        self._ask_again_at = self._monotonic() + ASK_AGAIN_S
        return True

    async def _ask_all(self) -> None:
        """Ask what waits, until nothing does."""
        try:
            while self._waiting:
                groups = self._next_groups()
                answers = await self._answer(self._ask(groups))
                told = _answers(answers) if answers is not None else [None] * len(groups)
                for group, one in zip(groups, told, strict=True):
                    found = [None] * len(group) if one is None else _told(one, len(group))
                    for question, taken in zip(group, found, strict=True):
                        if not question.answer.done():
                            question.answer.set_result(taken)
        finally:
            self._asking = None
            for question in self._waiting:
                question.answer.cancel()

    def _next_groups(self) -> list[list[_Question]]:
        """Take what waits longest, as much as goes in one round trip, those together that ask for the same."""
        together: dict[tuple[str, bytes, int], list[_Question]] = {}
        taken = 0
        for question in self._waiting[:AT_ONCE]:
            key = (question.base, question.same, taken + 1 if question.alone else 0)
            if key not in together:
                if len(together) == GROUPS_AT_ONCE:
                    break
                together[key] = []
            together[key].append(question)
            taken += 1
        self._waiting = self._waiting[taken:]
        return list(together.values())

    async def _ask(self, groups: Sequence[Sequence[_Question]]) -> bytes:
        bases = [group[0].base for group in groups]
        asked = [_count(len(group)) + group[0].same for group in groups]
        for known in (True, False):
            if not known:  # Redis was restarted, or is asked for the first time
                await self._redis.script_load(_SCRIPT)
            try:
                found: bytes = await self._evaluate("EVALSHA", self._sha, len(bases), *bases, _ALL, *asked)
                return found
            except NoScriptError:  # none of them was counted
                continue
        raise RedisError("Redis forgets the script")

    async def _answer(self, call: Any) -> Any:
        """Wait for an answer; None when Redis is away."""
        try:
            async with asyncio.timeout(ANSWER_S):
                found = await call
        except (RedisError, OSError, TimeoutError) as exc:
            if self._ask_again_at is None:
                log.warning("redis is away: each worker counts limits for itself", error=type(exc).__name__)
            self._ask_again_at = self._monotonic() + ASK_AGAIN_S
            return None
        if self._ask_again_at is not None:
            self._ask_again_at = None
            log.warning("redis is back: limits are shared again")
        return found


def _periods(ask: QuotaAsk) -> tuple[str, str]:
    day = ask.day.isoformat()
    return day, day[:7]


def _quota_numbers(ask: QuotaAsk, known: Known) -> bytes:
    least_month = [own + others for own, others in zip(known.own_month, known.others_month, strict=True)]
    least_day = [own + others for own, others in zip(known.own_day, known.others_day, strict=True)]
    return _quotas(*ask.limits, *ask.adds, *least_month, *least_day, known.over_month, known.over_day)


def _told(numbers: tuple[float, ...], asked: int) -> list[Taken]:
    """Read what the script says of so many messages that asked for the same."""
    goes, limit, remaining, who, its_limit, its_remaining = map(int, numbers[:6])
    taken = [Taken(None, limit, max(remaining - n, 0)) for n in range(goes)]
    if goes < asked:
        taken += [Taken(_WHO[who], its_limit, its_remaining, numbers[6] / 1e6)] * (asked - goes)
    return taken
