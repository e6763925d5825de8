"""Do-not-contact entries in memory: the same as `postgres_suppressions.py`, for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hermes.domain.suppression import Suppression
from hermes.journal.base import NEWS_SUPPRESSIONS, WriteRefused
from hermes.journal.memory_store import Store
from hermes.journal.rows import suppression_news


class MemorySuppressions:
    """See `hermes.journal.base.Journal`; `MemoryJournal` is one."""

    _store: Store
    _reach: Callable[[], None]
    _tell_others: Callable[[str, str], None]

    async def put_suppressions(self, entries: Sequence[Suppression]) -> list[Suppression]:
        self._reach()
        if any("\0" in text for e in entries for text in (e.address, e.reason)):
            raise WriteRefused("a text of an entry holds a NUL")
        stored = [self._store.suppressions.setdefault((e.tenant, e.channel, e.address), e) for e in entries]
        for detail in suppression_news("+", stored):
            self._tell_others(NEWS_SUPPRESSIONS, detail)
        return stored

    def _suppressions(self, tenant: str | None) -> list[Suppression]:
        self._reach()
        return [entry for entry in self._store.suppressions.values() if entry.tenant == tenant]

    async def delete_suppression(self, tenant: str | None, id: str) -> Suppression | None:
        for entry in self._suppressions(tenant):
            if entry.id == id:
                for detail in suppression_news("-", [entry]):
                    self._tell_others(NEWS_SUPPRESSIONS, detail)
                return self._store.suppressions.pop((tenant, entry.channel, entry.address))
        return None

    async def find_suppressions(self, tenant: str | None, address: str) -> list[Suppression]:
        return [entry for entry in self._suppressions(tenant) if entry.address == address]

    async def suppressions(self, tenant: str | None, before_id: str | None, limit: int) -> list[Suppression]:
        found = [entry for entry in self._suppressions(tenant) if before_id is None or entry.id < before_id]
        return sorted(found, key=lambda entry: entry.id, reverse=True)[:limit]

    async def all_suppressions(self, after_id: str, limit: int) -> list[Suppression]:
        self._reach()
        found = [entry for entry in self._store.suppressions.values() if entry.id > after_id]
        return sorted(found, key=lambda entry: entry.id)[:limit]
