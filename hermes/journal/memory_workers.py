"""Several workers in memory: the same as `postgres_workers.py`, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from hermes.journal.base import NEWS_ERRAND, NEWS_WORKERS, SHARDS, Errand, Fenced, shard_of
from hermes.journal.memory_store import Store
from hermes.runtime.clock import Clock

_NEVER: Final = datetime.min.replace(tzinfo=UTC)


class MemoryWorkers:
    """See `hermes.journal.base.Journal`; `MemoryJournal` is one."""

    worker_id: str
    _store: Store
    _clock: Clock
    _fenced: bool
    _shards: dict[int, datetime]
    _reach: Callable[[], None]

    # --- who lives
    async def living_workers(self) -> list[str]:
        self._reach()
        now = self._clock.now()
        if self._fenced or self._store.workers[self.worker_id].row.dead:
            raise Fenced("this worker was declared dead")
        for worker in self._store.workers.values():
            if worker.gone and not worker.row.dead:
                worker.row.dead, worker.dead_at = True, now
        return sorted(id_ for id_, worker in self._store.workers.items() if not worker.row.dead)

    # --- shards
    async def claim_shards(self, limit: int = SHARDS) -> dict[int, datetime]:
        await self.living_workers()
        store, now = self._store, self._clock.now()
        for shard in range(SHARDS):
            if len(self._shards) >= limit:
                break
            owner = store.owners.get(shard)
            if owner is None:
                self._shards[shard] = _NEVER
            elif owner != self.worker_id and store.workers[owner].row.dead:
                self._shards[shard] = min(now, store.workers[owner].dead_at or now)
            else:
                continue
            store.owners[shard] = self.worker_id
        return dict(self._shards)

    def leave_shards(self, shards: Collection[int]) -> None:
        for shard in shards:
            self._shards.pop(shard, None)

    async def release_shards(self, shards: Collection[int]) -> None:
        self._reach()
        for shard in shards:
            if self._store.owners.get(shard) == self.worker_id:
                del self._store.owners[shard]
        self._tell_others(NEWS_WORKERS)

    # --- news
    def on_news(self, callback: Callable[[str, str], None]) -> None:
        self._store.news.append((self.worker_id, callback))

    def _tell_others(self, topic: str, detail: str = "") -> None:
        for worker_id, callback in self._store.news:
            if worker_id != self.worker_id:
                asyncio.get_running_loop().call_soon(callback, topic, detail)

    async def tell(self, topic: str, detail: str = "") -> None:
        self._reach()
        self._tell_others(topic, detail)

    # --- errands
    async def send_errands(self, errands: Sequence[Errand]) -> None:
        self._reach()
        store = self._store
        for errand in errands:
            store.errand_id += 1
            store.errands[store.errand_id] = replace(errand, id=store.errand_id)
        owners = {store.owners.get(shard_of(errand.message_id)) for errand in errands}
        for owner in sorted(owner for owner in owners if owner is not None):
            self._tell_others(NEWS_ERRAND, owner)

    async def errands(self, limit: int, *, not_ids: Sequence[int] = ()) -> list[Errand]:
        self._reach()
        mine = (e for e in self._store.errands.values() if shard_of(e.message_id) in self._shards)
        return [errand for errand in mine if errand.id not in not_ids][:limit]

    async def errands_done(self, errands: Sequence[Errand]) -> None:
        self._reach()
        for errand in errands:
            self._store.errands.pop(errand.id, None)
