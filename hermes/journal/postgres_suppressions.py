"""Do-not-contact entries on PostgreSQL: the part of the journal that `Suppressions` reads and writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hermes.domain.suppression import Suppression
from hermes.journal.base import NEWS_SUPPRESSIONS
from hermes.journal.link import Link
from hermes.journal.queries import QUERIES
from hermes.journal.rows import storable, suppression_news


class PostgresSuppressions:
    """See `hermes.journal.base.Journal`; `PostgresJournal` is one."""

    _link: Link
    _news: Callable[[str, str], tuple[str, str, str]]

    async def put_suppressions(self, entries: Sequence[Suppression]) -> list[Suppression]:
        # One statement may touch a row once; the first entry of those that are the same wins.
        wanted = {(e.tenant, e.channel, e.address): e for e in reversed(entries)}
        async with self._link.borrow() as connection, connection.transaction():
            rows = await connection.fetch(
                QUERIES["put_suppressions"],
                [e.id for e in wanted.values()],
                [e.tenant for e in wanted.values()],
                [e.channel for e in wanted.values()],
                [e.address for e in wanted.values()],
                [e.reason for e in wanted.values()],
                [e.created_at for e in wanted.values()],
            )
            stored = {(row["tenant"], row["channel"], row["address"]): Suppression(**row) for row in rows}
            for detail in suppression_news("+", list(stored.values())):
                await connection.execute(*self._news(NEWS_SUPPRESSIONS, detail))
        return [stored[e.tenant, e.channel, e.address] for e in entries]

    async def delete_suppression(self, tenant: str | None, id: str) -> Suppression | None:
        if storable(id) is None:
            return None
        async with self._link.borrow() as connection, connection.transaction():
            rows = await connection.fetch(QUERIES["delete_suppression"], tenant, id)
            removed = [Suppression(**row) for row in rows]
            for detail in suppression_news("-", removed):
                await connection.execute(*self._news(NEWS_SUPPRESSIONS, detail))
        return removed[0] if removed else None

    async def find_suppressions(self, tenant: str | None, address: str) -> list[Suppression]:
        if storable(address) is None:
            return []
        return [Suppression(**row) for row in await self._link.fetch(QUERIES["find_suppressions"], tenant, address)]

    async def suppressions(self, tenant: str | None, before_id: str | None, limit: int) -> list[Suppression]:
        if before_id is not None and storable(before_id) is None:
            return []
        rows = await self._link.fetch(QUERIES["suppressions"], tenant, before_id, limit)
        return [Suppression(**row) for row in rows]

    async def all_suppressions(self, after_id: str, limit: int) -> list[Suppression]:
        return [Suppression(**row) for row in await self._link.fetch(QUERIES["all_suppressions"], after_id, limit)]
