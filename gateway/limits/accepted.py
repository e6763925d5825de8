"""What the journal says was accepted, for quotas: read when a tenant is first asked for, and again while it is.

The journal counts each message in the statement that stores it, so this is never more than what was accepted, and
less by what is on its way only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from hermes.domain.quotas import NOTHING, Amounts
from hermes.domain.usage import AcceptedLine
from hermes.journal.base import JournalAway, JournalError

REFRESH_S: Final = 1.0  # how old a figure may be before it is read again; nobody waits for that
OLDEST_S: Final = 2.0  # how old a figure may be that counts: a tenant that rested waits for a new one
ANSWER_S: Final = 1.0  # how long a message waits
AT_ONCE: Final = 500  # tenants in one question
MOST_KEPT: Final = 10_000  # figures; beyond, the oldest are read again when they are wanted

Read = Callable[[Sequence[tuple[str, str]], date], Awaitable[list[AcceptedLine]]]
_Key = tuple[str, str, date]


@dataclass(slots=True, frozen=True)
class Known:
    """What was accepted of one tenant and mode in a day and its month, as last read.

    Attributes:
        own_day, own_month: by this process.
        others_day, others_month: by all others, those that ended included.
        over_day, over_month: millionths that usage says were spent beyond what was expected.
        at: when it was read, monotonic seconds.
    """

    own_day: Amounts = NOTHING
    own_month: Amounts = NOTHING
    others_day: Amounts = NOTHING
    others_month: Amounts = NOTHING
    over_day: int = 0
    over_month: int = 0
    at: float = 0.0


NOTHING_KNOWN: Final = Known()


class Accepted:
    """Figures of the tenants that are asked for, in one question to the journal at a time.

    Args:
        read: `Journal.accepted`.
        monotonic: seconds, from any start.
    """

    def __init__(self, read: Read, monotonic: Callable[[], float]) -> None:
        self._read = read
        self._monotonic = monotonic
        self._known: dict[_Key, Known] = {}
        self._wanted: dict[_Key, asyncio.Future[Known]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def of(self, tenant: str, mode: str, day: date) -> Known:
        """Give what is known; waits only for what never was, or is older than `OLDEST_S`.

        Raises:
            JournalAway: it could not be read in time.
        """
        key = (tenant, mode, day)
        known = self._known.get(key)
        if known is None or known.at + OLDEST_S <= self._monotonic():
            try:
                return await asyncio.wait_for(asyncio.shield(self._want(key)), ANSWER_S)
            except (JournalError, TimeoutError) as exc:
                raise JournalAway("what was accepted before cannot be read") from exc
        if known.at + REFRESH_S <= self._monotonic():
            self._want(key)
        return known

    def close(self) -> None:
        """Read no more."""
        if self._reading is not None:
            self._reading.cancel()

    def _want(self, key: _Key) -> asyncio.Future[Known]:
        wanted = self._wanted.get(key)
        if wanted is None:
            wanted = self._wanted[key] = asyncio.get_running_loop().create_future()
            wanted.add_done_callback(_seen)
            if self._reading is None:
                self._reading = asyncio.create_task(self._read_wanted(), name="quotas-read")
        return wanted

    async def _read_wanted(self) -> None:
        try:
            while self._wanted:
                day = next(iter(self._wanted))[2]
                keys = [key for key in self._wanted if key[2] == day][:AT_ONCE]
                try:
                    lines = await self._read([key[:2] for key in keys], day)
                except JournalError as exc:  # whoever waits is told; who knows an older figure goes on with it
                    for key in keys:
                        self._wanted.pop(key).set_exception(exc)
                    continue
                self._take_in(keys, lines)
        finally:
            self._reading = None
            for wanted in self._wanted.values():
                wanted.cancel()
            self._wanted.clear()

    def _take_in(self, keys: Sequence[_Key], lines: Sequence[AcceptedLine]) -> None:
        by_scope: dict[tuple[str, str], list[AcceptedLine]] = {}
        for line in lines:
            by_scope.setdefault((line.tenant, line.mode), []).append(line)
        now = self._monotonic()
        for key in keys:
            self._known.pop(key, None)  # the newest is the last
            known = self._known[key] = _known(by_scope.get(key[:2], ()), now)
            self._wanted.pop(key).set_result(known)
        while len(self._known) > MOST_KEPT:
            del self._known[next(iter(self._known))]


def _known(lines: Sequence[AcceptedLine], at: float) -> Known:
    own_day = own_month = others_day = others_month = NOTHING
    cost_day = cost_month = 0
    for line in lines:
        if line.own:
            own_day, own_month = line.day, line.month
        else:
            others_day, others_month = line.day, line.month
        cost_day += line.day_cost
        cost_month += line.month_cost
    over_day = max(cost_day - own_day[2] - others_day[2], 0)
    over_month = max(cost_month - own_month[2] - others_month[2], 0)
    return Known(own_day, own_month, others_day, others_month, over_day, over_month, at)


def _seen(future: asyncio.Future[Known]) -> None:
    """Read the failure of a question nobody waited for."""
    if not future.cancelled():
        future.exception()
