"""Erasing on PostgreSQL: whom a message went to and what it said, wherever there is something of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from hermes.domain.erasure import Erasure, erased, erased_inbound, without_words, wrote
from hermes.domain.message import Message
from hermes.journal.base import Change, shard_of
from hermes.journal.link import Link
from hermes.journal.queries import QUERIES
from hermes.journal.rows import day_of_id, from_json, inbound_from_json, message_from_json, storable, to_json

INBOUND_PAGE: Final = 500  # rows looked at in one read


class PostgresErasure:
    """See `hermes.journal.base.Journal`; `PostgresJournal` is one."""

    _link: Link
    _shards: dict[int, datetime]

    async def _changed(self, query: str, tenant: str, change: Change | None, *arguments: Any) -> bool:
        raise NotImplementedError  # PostgresDirectory's

    async def put_erasure(self, erasure: Erasure, change: Change | None = None) -> None:
        row = (
            erasure.id,
            erasure.tenant,
            erasure.recipient,
            erasure.address,
            erasure.asked_by,
            erasure.created_at,
            erasure.messages,
            erasure.inbound,
            erasure.after_id,
            erasure.done_at,
        )
        if change is None:
            await self._link.fetch(QUERIES["put_erasure"], *row)
        else:
            await self._changed("put_erasure", erasure.tenant, change, *row)

    async def erasure(self, tenant: str, id: str) -> Erasure | None:
        rows = await self._link.fetch(QUERIES["erasure"], tenant, id) if storable(id) is not None else []
        return Erasure(**rows[0]) if rows else None

    async def erasures(self, tenant: str, before_id: str | None, limit: int) -> list[Erasure]:
        if before_id is not None and storable(before_id) is None:
            return []
        return [Erasure(**row) for row in await self._link.fetch(QUERIES["erasures"], tenant, before_id, limit)]

    async def open_erasures(self) -> list[Erasure]:
        found = [Erasure(**row) for row in await self._link.fetch(QUERIES["open_erasures"])]
        return [erasure for erasure in found if shard_of(erasure.id) in self._shards]

    async def erasable(self, tenant: str, after_id: str, before_id: str, limit: int) -> list[tuple[Message, bool]]:
        rows = await self._link.fetch(QUERIES["erasable"], tenant, after_id, before_id, limit)
        return [(message_from_json(row["body"]), row["open"]) for row in rows]

    async def erase_messages(self, tenant: str, message_ids: Sequence[str], at: datetime) -> int:
        ids = list(message_ids)
        days = [day_of_id(message_id) for message_id in ids]
        async with self._link.borrow() as connection, connection.transaction():
            rows = await connection.fetch(QUERIES["load_messages"], ids, days, [0] * len(ids))
            messages = [message_from_json(row["body"]) for row in rows]
            left = [erased(message, at) for message in messages if message.tenant == tenant]
            ids = [message.message_id for message in left]
            days = [day_of_id(message_id) for message_id in ids]
            bodies, references = [to_json(message) for message in left], [message.reference for message in left]
            await connection.execute(QUERIES["erase_messages"], ids, days, bodies, references, at)
            words: list[tuple[str, int, str]] = []
            for message_id, seq, _, _, _, _, text in await connection.fetch(QUERIES["load_events"], ids, days):
                data = from_json(text)
                if (plain := without_words(data)) != data:
                    words.append((message_id, seq, to_json(plain)))
            await connection.execute(
                QUERIES["erase_events"],
                [message_id for message_id, _, _ in words],
                [day_of_id(message_id) for message_id, _, _ in words],
                [seq for _, seq, _ in words],
                [text for _, _, text in words],
            )
            addresses = sorted({to for message in messages for to in message.to.values() if to})
            await connection.execute(QUERIES["erase_refs"], ids)
            await connection.execute(QUERIES["erase_outbox"], ids)
            await connection.execute(QUERIES["erase_answers"], tenant, addresses)
            await connection.execute(QUERIES["erase_parked"], addresses)
        return len(ids)

    async def erase_inbound(self, tenant: str, address: str | None, before: datetime) -> int:
        count, after = 0, ""
        while rows := await self._link.fetch(QUERIES["erasable_inbound"], tenant, after, before, INBOUND_PAGE):
            after = rows[-1]["inbound_id"]
            left: dict[str, str] = {}
            wrote_by: list[tuple[str, str]] = []
            for row in rows:
                inbound = inbound_from_json(row["body"])
                if inbound.sender and (address is None or wrote(inbound, address)):
                    left[row["inbound_id"]] = to_json(erased_inbound(inbound))
                    wrote_by.append((inbound.carrier, inbound.sender))
            if left:
                carriers, senders = [carrier for carrier, _ in wrote_by], [sender for _, sender in wrote_by]
                await self._link.fetch(QUERIES["erase_inbound"], list(left), list(left.values()), carriers, senders)
            count += len(left)
        return count
