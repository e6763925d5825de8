"""Several workers over one PostgreSQL: who lives, who owns which shard, and what they have for each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import asyncpg

from hermes.journal.base import (
    LOST,
    NEWS_ANSWER,
    NEWS_SEEN,
    NEWS_WORKERS,
    SHARDS,
    Errand,
    Fenced,
    shard_of,
)
from hermes.journal.link import LOST as LOST_CONNECTION
from hermes.journal.link import Connect, Link, translate
from hermes.journal.process import is_gone
from hermes.journal.queries import QUERIES
from hermes.journal.writer import GroupCommitWriter
from hermes.runtime.clock import Clock

if TYPE_CHECKING:
    from hermes.journal.bus import Bus  # imports nats, only where it is set

NEWS_CHANNEL: Final = "hermes_news"  # NOTIFY: "<worker that tells> <topic> <detail>"
GONE_WITHIN_S: Final = 15.0  # a statement; it waits for the dead worker's last batch
CLAIMING: Final = 0x4865726D6576  # advisory lock: one worker claims shards or carriers at a time
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


async def declare_gone(connect: Connect, worker_id: str) -> None:
    """Declare a worker dead whose process is known to have ended, and tell the others.

    Raises:
        JournalAway: the database cannot be reached.
    """
    connection = await Link(connect, "hermes parent").open(timeout_s=GONE_WITHIN_S)
    try:
        await connection.execute(QUERIES["declare_dead"], worker_id, True)
        await connection.execute(QUERIES["notify"], NEWS_CHANNEL, f"parent {NEWS_WORKERS} ")
    except (asyncpg.PostgresError, *LOST_CONNECTION) as exc:
        raise translate(exc) from None
    finally:
        connection.terminate()


class PostgresWorkers:
    """See `hermes.journal.base.Journal`; `PostgresJournal` is one."""

    worker_id: str
    _link: Link
    _writer: GroupCommitWriter
    _clock: Clock
    _host: str
    _heartbeat_s: float
    _shards: dict[int, datetime]
    _on_news: list[Callable[[str, str], None]]
    _steady_since: float
    _living: int
    _seen_elsewhere: Callable[[str, str], None]
    _bus: Bus | None

    # --- who lives
    def _changed_at(self, available: bool) -> None:
        self._steady_since = self._clock.monotonic() if available else float("inf")

    async def living_workers(self) -> list[str]:
        living = []
        # Nobody could extend a lease while the database was away: give them the time to do so.
        steady = self._clock.monotonic() - self._steady_since > self._heartbeat_s + 1.0
        for row in await self._link.fetch(QUERIES["living_workers"]):
            if row["id"] != self.worker_id:
                here = row["host"] == self._host
                gone = here and await asyncio.to_thread(is_gone, row["pid"], row["process_started_at"])
                if (gone or (row["lapsed"] and steady)) and await self._declare_dead(row["id"], gone):
                    continue
            living.append(row["id"])
        if self.worker_id not in living:
            self._writer.fence()
            raise Fenced("this worker was declared dead")
        self._living = len(living)
        return sorted(living)

    async def _declare_dead(self, worker_id: str, gone: bool) -> bool:
        return bool(await self._link.fetch(QUERIES["declare_dead"], worker_id, gone))

    # --- shards
    async def claim_shards(self, limit: int = SHARDS) -> dict[int, datetime]:
        await self.living_workers()
        wanted = limit - len(self._shards)
        if wanted > 0:
            async with self._link.borrow() as connection, connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", CLAIMING)
                rows = await connection.fetch(QUERIES["claim_shards"], self.worker_id, wanted)
            now = self._clock.now()
            for row in rows:
                acted = row["acted_until"]
                self._shards[row["id"]] = _NEVER if row["fresh"] else now if acted is None else min(acted, now)
            dead = await self._link.fetch(QUERIES["is_dead"], self.worker_id)
            if not dead or dead[0]["dead"]:
                self._writer.fence()
                raise Fenced("this worker was declared dead")
        return dict(self._shards)

    def leave_shards(self, shards: Collection[int]) -> None:
        for shard in shards:
            self._shards.pop(shard, None)

    async def release_shards(self, shards: Collection[int]) -> None:
        async with self._link.borrow() as connection, connection.transaction():
            await connection.execute(QUERIES["release_shards"], self.worker_id, list(shards))
            await connection.execute(*self._news(NEWS_WORKERS))

    # --- news
    def on_news(self, callback: Callable[[str, str], None]) -> None:
        self._on_news.append(callback)

    def _told(self, payload: str | None) -> None:
        if payload is None:
            worker, topic, detail = "", LOST, ""
        else:
            worker, _, rest = payload.partition(" ")
            if worker == self.worker_id:
                return
            topic, _, detail = rest.partition(" ")
        if topic == NEWS_SEEN:
            self._seen_elsewhere(worker, detail)
            return
        for callback in self._on_news:
            callback(topic, detail)

    def _news(self, topic: str, detail: str = "") -> tuple[str, str, str]:
        """Make the statement that tells the others, for a transaction that changes something, and its arguments."""
        return QUERIES["notify"], NEWS_CHANNEL, f"{self.worker_id} {topic} {detail}"

    def _heard(self, text: str) -> bool:
        """Take news that came over the bus; False for what is not told there."""
        if text.partition(" ")[2].partition(" ")[0] not in (NEWS_ANSWER, NEWS_SEEN):
            return False
        self._told(text)
        return True

    async def _tell_one(self, topic: str, detail: str) -> bool:
        """Tell the worker whose id the detail begins with over the bus; False: it is still to be told."""
        worker = detail.partition(" ")[0]
        return self._bus is not None and await self._bus.tell(worker, f"{self.worker_id} {topic} {detail}")

    async def tell(self, topic: str, detail: str = "") -> None:
        if topic == NEWS_ANSWER and await self._tell_one(topic, detail):
            return
        query, *arguments = self._news(topic, detail)
        await self._link.fetch(query, *arguments)

    # --- errands
    async def send_errands(self, errands: Sequence[Errand]) -> None:
        await self._link.fetch(QUERIES["send_errands"], *self._errand_rows(errands))

    def _errand_rows(self, errands: Sequence[Errand]) -> tuple[object, ...]:
        return (
            [shard_of(e.message_id) for e in errands],
            [e.message_id for e in errands],
            [e.kind for e in errands],
            [e.body for e in errands],
            [e.asked_by for e in errands],
            self._clock.now(),
            NEWS_CHANNEL,
            self.worker_id,
        )

    async def errands(self, limit: int, *, not_ids: Sequence[int] = ()) -> list[Errand]:
        rows = await self._link.fetch(QUERIES["errands"], list(self._shards), limit, list(not_ids))
        return [Errand(row["message_id"], row["kind"], row["body"], row["asked_by"], row["id"]) for row in rows]

    async def errands_done(self, errands: Sequence[Errand]) -> None:
        await self._link.fetch(
            QUERIES["errands_done"], [shard_of(e.message_id) for e in errands], [e.id for e in errands]
        )
