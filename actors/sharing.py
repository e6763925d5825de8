"""The shards actor: claims this worker's fair share, and gives back what is more than that.

It looks once a second, and at once when another worker comes, goes or frees shards. A worker of this host whose
process is gone is declared dead at that look, any other when its lease is over.

A shard is given back in this order, so that nothing of it is in memory, in a queue or half written when the next owner
takes it:
1. No new ids are made in it. What was read before is accepted or refused within two seconds.
2. It is not held any more: a message of it that comes late is refused, mail for it goes to its owner as an errand.
3. The journal's queue is flushed, and each tenant and the waker asked: what was accepted has its cascade now.
4. Every cascade of it takes back what has not left, awaits what has, is parked, and ends.
5. The journal's queue is flushed again, and the shard released.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from actors.background import Background, sleep, wait
from actors.context import Context
from actors.messages import HAND_OVER, Gained, Settle
from actors.shards import quota, surplus
from hermes.journal.base import (
    LOST,
    NEWS_WORKERS,
    Fenced,
    JournalError,
    Write,
    shard_of,
)
from hermes.logs import get_logger
from hermes.runtime import Actor, CallTimeout, MailboxFull, Ref, RuntimeFault

log = get_logger("hermes.shards")

LOOK_EVERY_S: Final = 1.0
EXPECTED_FOR_S: Final = 10.0  # after a start, for the other workers of this node to be there
LAST_ACCEPTED_S: Final = 2.5  # what a request that was read may take, and some
LOOK_AGAIN_S: Final = 0.05  # at cascades that are to end
SETTLED_WITHIN_S: Final = 30.0


class ShardsActor(Actor):
    """`shards`: see the module.

    Args:
        expected: how many workers this node is to have.
    """

    kind = "Shards"

    def __init__(self, context: Context, expected: int = 1) -> None:
        self._context = context
        self._expected = expected
        self._look_now = asyncio.Event()
        self._given_back = 0
        self._fenced = False

    def init(self) -> None:
        """Begin to look."""
        self._background = Background(self.ref)
        self._context.journal.on_news(self._told)
        leaving = self._context.shards.leaving
        if leaving:  # this actor crashed on the way
            self._background.run(self._give_back(leaving))
        self._background.run(self._live())

    def _told(self, topic: str, detail: str) -> None:
        if topic in (NEWS_WORKERS, LOST):
            self._look_now.set()

    async def _live(self) -> None:
        clock = self._context.clock
        expected_until = clock.monotonic() + EXPECTED_FOR_S
        while not self._fenced:
            self._look_now.clear()
            try:
                await self._look(self._expected if clock.monotonic() < expected_until else 1)
            except Fenced:
                return  # the node stops
            except JournalError:
                pass  # it is away; what is held stays held
            await wait(self._look_now, clock, LOOK_EVERY_S)

    async def _look(self, expected: int) -> None:
        """Claim and give back, so that this worker comes to hold its share."""
        context = self._context
        journal, shards = context.journal, context.shards
        living = await journal.living_workers()
        shards.workers = tuple(living)
        share = quota(journal.worker_id, living, expected)
        if len(shards.held) < share:
            claimed = await journal.claim_shards(share)
            gained = {shard: at for shard, at in claimed.items() if shard not in shards.held}
            if gained:
                await self._gain(gained)
        elif len(shards.held) > share and not shards.leaving:
            spare = surplus(shards.open - shards.recovering, share - len(shards.held) + len(shards.open))
            if spare:
                self._background.run(self._give_back(frozenset(spare)))

    async def _gain(self, gained: dict[int, datetime]) -> None:
        context = self._context
        context.shards.held.update(gained)
        self.system.send("waker", Gained(gained))
        self.system.send("errands", Gained(gained))
        await self._count_open()
        if len(gained) < len(context.shards.held):
            log.info("took over shards", count=len(gained), held=len(context.shards.held))

    async def _count_open(self) -> None:
        """Count anew what is open of this worker's shards."""
        context = self._context
        before = context.open_messages
        counted = await context.journal.count_open()
        context.open_messages = max(counted + context.open_messages - before, 0)  # what came and went meanwhile

    async def _give_back(self, leaving: Collection[int]) -> None:
        context = self._context
        shards, journal = context.shards, context.journal
        shards.leaving = frozenset(leaving)
        shards.set_open(shards.open - shards.leaving)
        await sleep(context.clock, LAST_ACCEPTED_S)
        for shard in leaving:
            shards.held.pop(shard, None)
        journal.leave_shards(leaving)
        try:
            await self._flush()
            await self._settle()
            await self._end_cascades(shards.leaving)
            await self._flush()
        except Fenced:
            return
        while True:
            try:
                await journal.release_shards(leaving)
                break
            except Fenced:
                return
            except JournalError:
                await sleep(context.clock, LOOK_EVERY_S)
        shards.leaving = frozenset()
        self._given_back += len(leaving)
        log.info("gave shards back", count=len(leaving), held=len(shards.held))
        await self._count_open_again()

    async def _count_open_again(self) -> None:
        while True:
            try:
                return await self._count_open()
            except JournalError:
                await sleep(self._context.clock, LOOK_EVERY_S)

    async def _flush(self) -> None:
        """Wait until everything that is queued is written: writes are committed in order."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: JournalError | None) -> None:
            if not written.done():
                if error is None:
                    written.set_result(None)
                else:
                    written.set_exception(error)

        self._context.journal.append(Write("", "", ()), done)
        await written

    async def _settle(self) -> None:
        """Have the waker and each tenant go through the mail they have: what is being brought back is there then."""
        tenants = [ref for name, ref in self.system.registry.items() if name.startswith("tenant/")]
        for ref in [self.system.whereis("waker"), *tenants]:
            while ref is not None:
                try:
                    await ref.call(Settle(), timeout_s=SETTLED_WITHIN_S)
                    break
                except (CallTimeout, MailboxFull):
                    await sleep(self._context.clock, LOOK_AGAIN_S)
                except RuntimeFault:
                    break  # it ended, and with it what it had

    async def _end_cascades(self, leaving: Collection[int]) -> None:
        """Wait until no cascade of these shards is left; what is being brought back is told when it is there."""
        told: set[Ref] = set()
        while left := self._cascades(leaving):
            for ref in left:
                if ref not in told:
                    ref.send_system(HAND_OVER)
                    told.add(ref)
            await sleep(self._context.clock, LOOK_AGAIN_S)

    def _cascades(self, leaving: Collection[int]) -> list[Ref]:
        prefix = "cascade/"
        return [
            ref
            for name, ref in self.system.registry.items()
            if name.startswith(prefix) and shard_of(name[len(prefix) :]) in leaving
        ]

    def handle(self, message: Any) -> None:
        """Take no mail."""
        raise TypeError(f"shards do not understand {type(message).__name__}")

    def terminate(self, reason: Any) -> None:
        """Look no more."""
        self._fenced = True
        self._background.cancel()

    def inspect(self) -> dict[str, Any]:
        """Show what is held, and how many workers there are."""
        shards = self._context.shards
        return {
            "held": len(shards.held),
            "open": len(shards.open),
            "leaving": len(shards.leaving),
            "workers": shards.living,
            "given_back": self._given_back,
        }
