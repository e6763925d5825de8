"""Erasing in memory: the same as `postgres_erasure.py`, for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from hermes.domain.erasure import Erasure, erased, erased_inbound, without_words, wrote
from hermes.domain.message import Message
from hermes.journal.base import Change, shard_of
from hermes.journal.memory_store import Store
from hermes.journal.rows import from_json, inbound_from_json, message_from_json, to_json


class MemoryErasure:
    """See `hermes.journal.base.Journal`; `MemoryJournal` is one."""

    _store: Store
    _shards: dict[int, datetime]
    _reach: Callable[[], None]
    _changed: Callable[[str, Change | None], None]

    async def put_erasure(self, erasure: Erasure, change: Change | None = None) -> None:
        self._reach()
        self._store.erasures[erasure.id] = replace(erasure)
        if change is not None:
            self._changed(erasure.tenant, change)

    async def erasure(self, tenant: str, id: str) -> Erasure | None:
        self._reach()
        found = self._store.erasures.get(id)
        return replace(found) if found is not None and found.tenant == tenant else None

    async def erasures(self, tenant: str, before_id: str | None, limit: int) -> list[Erasure]:
        self._reach()
        found = [e for id_, e in sorted(self._store.erasures.items(), reverse=True) if e.tenant == tenant]
        return [replace(e) for e in found if before_id is None or e.id < before_id][:limit]

    async def open_erasures(self) -> list[Erasure]:
        self._reach()
        undone = [e for _, e in sorted(self._store.erasures.items()) if e.done_at is None]
        return [replace(e) for e in undone if shard_of(e.id) in self._shards]

    async def erasable(self, tenant: str, after_id: str, before_id: str, limit: int) -> list[tuple[Message, bool]]:
        self._reach()
        page: list[tuple[Message, bool]] = []
        for message_id, row in sorted(self._store.messages.items()):
            if row.tenant == tenant and after_id < message_id < before_id and len(page) < limit:
                message = message_from_json(row.body)
                if message.erased_at is None:
                    page.append((message, not row.closed))
        return page

    async def erase_messages(self, tenant: str, message_ids: Sequence[str], at: datetime) -> int:
        self._reach()
        store, count = self._store, 0
        for message_id in message_ids:
            row = store.messages.get(message_id)
            if row is None or row.tenant != tenant:
                continue
            count += 1
            message = message_from_json(row.body)
            left = erased(message, at)
            row.body, row.reference = to_json(left), left.reference
            events = store.events.get(message_id, {})
            for seq, (when, type_, step, attempt, data) in list(events.items()):
                events[seq] = (when, type_, step, attempt, to_json(without_words(from_json(data))))
            for key in [key for key in store.refs if key[1].startswith("about:")]:
                store.refs[key] = [target for target in store.refs[key] if target.message_id != message_id]
            for (of, _, _), item in store.outbox.items():
                if of == message_id:
                    item.last_error = None
            addresses = [to for to in message.to.values() if to]
            for key, (record, _) in list(store.idempotency.items()):
                if key[0] == tenant and any(a in record.key or a in record.response for a in addresses):
                    del store.idempotency[key]
            for id_, (receipt, _, _) in list(store.parked.items()):
                if any(address in receipt for address in addresses):
                    del store.parked[id_]
        return count

    async def erase_inbound(self, tenant: str, address: str | None, before: datetime) -> int:
        self._reach()
        store, count = self._store, 0
        for inbound_id, (owner, body, received_at) in list(store.inbound.items()):
            inbound = inbound_from_json(body)
            if owner != tenant or received_at >= before or not inbound.sender:
                continue
            if address is None or wrote(inbound, address):
                store.inbound[inbound_id] = (owner, to_json(erased_inbound(inbound)), received_at)
                for key in [key for key in store.outbox if key[0] == inbound_id]:
                    del store.outbox[key]
                for at in [at for at in store.parts if at[0].carrier == inbound.carrier]:
                    if at[0].sender.lstrip("+0") == inbound.sender.lstrip("+0"):
                        del store.parts[at]
                count += 1
        return count
