"""The journal in a dict: what tests run against, with the same promises as PostgreSQL (one contract suite).

Writes are committed on the next turn of the event loop and `done` is called from there, never from `append`.
Everything is stored encoded and decoded on the way out, so that nobody can change what was written.

For tests beyond the contract: `set_available(False)` is a database that died (reads raise `JournalAway`,
writes wait), `peer()` is a second worker over the same database, `kill()` a process that vanished, and
`copy()` a machine that crashed: a new worker over what was committed, without what was only queued.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Final

from hermes.domain.events import Event
from hermes.domain.inbound import PartKey, StoredPart
from hermes.domain.message import is_message_id
from hermes.domain.quotas import month_of
from hermes.domain.receipt import DeliveryReceipt
from hermes.domain.usage import ACCEPTED, AcceptedLine, UsageDelta
from hermes.journal.base import (
    KEEP,
    NEWS_LIVE,
    NEWS_PARKED,
    NEWS_WORKERS,
    Conflict,
    Done,
    Fenced,
    IdempotencyRecord,
    InboundRecord,
    JournalAway,
    JournalError,
    LiveSetting,
    MessageQuery,
    OutboxEntry,
    OutboxItem,
    OutboxResult,
    ParkedReceipt,
    QueueFull,
    RefTarget,
    StoredMessage,
    WorkerRow,
    Write,
    WriteRefused,
    shard_of,
)
from hermes.journal.memory_carriers import MemoryCarriers
from hermes.journal.memory_consents import MemoryConsents
from hermes.journal.memory_directory import MemoryDirectory
from hermes.journal.memory_erasure import MemoryErasure
from hermes.journal.memory_store import MessageRow, Store, WorkerEntry
from hermes.journal.memory_suppressions import MemorySuppressions
from hermes.journal.rows import (
    DEAD_WORKERS_SHOWN,
    IDEMPOTENCY_KEPT,
    PARKED_KEPT,
    PARTS_KEPT,
    PARTS_TOGETHER,
    day_of_id,
    from_json,
    inbound_from_json,
    message_from_json,
    outbox_id,
    receipt_from_json,
    recipient_hash,
    recipient_of,
    split_outbox_id,
    split_statuses,
    status_of,
    to_json,
)
from hermes.runtime.clock import Clock, SystemClock


class MemoryJournal(MemoryCarriers, MemoryDirectory, MemorySuppressions, MemoryErasure, MemoryConsents):
    """A `Journal` in memory; see the module docstring.

    Args:
        clock: anything with `now()` and `monotonic()`; the machine's own when absent.
        worker_id: this worker's name; never used again once it died.
        queue_limit: writes that may wait before refusable ones are refused.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        worker_id: str = "worker-1",
        queue_limit: int = 20_000,
        lease_s: float = 10.0,
        _store: Store | None = None,
    ) -> None:
        self.worker_id = worker_id
        self._clock: Clock = clock or SystemClock()
        self._store: Store = _store or Store()
        self._queue_limit: Final = queue_limit
        self._lease_s: Final = lease_s
        self._queue: dict[int, tuple[Write, Done | None]] = {}  # by id(write), in order of append
        self._available = True
        self._fenced = False
        self._stopped = False
        self._flushing = False
        self._shards: dict[int, datetime] = {}
        self._on_change: list[Callable[[bool], None]] = []
        self._on_fenced: list[Callable[[], None]] = []

    # --- what tests turn
    def set_available(self, available: bool) -> None:
        """Let the database die, or come back: queued writes are then committed."""
        if available == self._available:
            return
        self._available = available
        for callback in self._on_change:
            callback(available)
        if available and self._queue:
            self._schedule()

    def kill(self) -> None:
        """Let the process vanish: what was queued is lost, its shards are there to be claimed."""
        self._queue.clear()
        self._stopped = True
        worker = self._store.workers.get(self.worker_id)
        if worker is not None:
            worker.gone = True

    def copy(self, *, worker_id: str | None = None, clock: Clock | None = None) -> MemoryJournal:
        """Make a new worker over a copy of what is committed now, as after a crash of the whole machine."""
        store = deepcopy(replace(self._store, watchers=[], news=[]))
        for worker in store.workers.values():
            worker.gone = True
        return self._over(store, worker_id, clock)

    def peer(self, worker_id: str, *, clock: Clock | None = None) -> MemoryJournal:
        """Make another worker over the same database."""
        return self._over(self._store, worker_id, clock)

    def _over(self, store: Store, worker_id: str | None, clock: Clock | None) -> MemoryJournal:
        return MemoryJournal(
            clock or self._clock,
            worker_id=worker_id or f"worker-{len(store.workers) + 1}",
            queue_limit=self._queue_limit,
            lease_s=self._lease_s,
            _store=store,
        )

    # --- state
    @property
    def available(self) -> bool:
        return self._available

    @property
    def queued(self) -> int:
        return len(self._queue)

    def on_change(self, callback: Callable[[bool], None]) -> None:
        self._on_change.append(callback)

    def on_fenced(self, callback: Callable[[], None]) -> None:
        self._on_fenced.append(callback)

    # --- life
    async def start(self) -> None:
        self._reach()
        now = self._clock.now()
        if self.worker_id in self._store.workers:
            raise JournalError("a worker id is used once")
        lease = now + timedelta(seconds=self._lease_s)
        self._store.workers[self.worker_id] = WorkerEntry(
            WorkerRow(self.worker_id, "memory", 0, "", now, lease, dead=False, shards=0)
        )

    async def stop(self) -> None:
        if self._stopped:
            return
        if self._available:
            self._flush()
        self._stopped = True
        self._refuse_all(Fenced("the journal is stopped"))
        worker = self._store.workers.get(self.worker_id)
        if worker is not None and self._available:
            worker.row.dead, worker.dead_at = True, self._clock.now()
            self._tell_others(NEWS_WORKERS)

    # --- the hot path
    def append(self, write: Write, done: Done | None = None, *, refusable: bool = False) -> None:
        if self._fenced or self._stopped:
            if done is not None:
                asyncio.get_running_loop().call_soon(done, Fenced("this worker was declared dead or is stopped"))
            return
        if refusable:
            if not self._available:
                raise JournalAway("the database is away")
            if len(self._queue) >= self._queue_limit:
                raise QueueFull("too many writes are waiting")
        if id(write) in self._queue:
            raise ValueError("this very write is queued already")
        self._queue[id(write)] = (write, done)
        self._schedule()

    def withdraw(self, write: Write) -> bool:
        return self._queue.pop(id(write), None) is not None

    def _schedule(self) -> None:
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if not self._available or self._stopped or not self._queue:
            return
        worker = self._store.workers.get(self.worker_id)
        if worker is not None and worker.row.dead:
            self._fenced = True
            self._refuse_all(Fenced("this worker was declared dead"))
            for callback in self._on_fenced:
                callback()
            return
        batch, self._queue = self._queue, {}
        refused: dict[str, type[JournalError]] = {}
        outcomes: list[tuple[Done, JournalError | None]] = []
        for write, done in batch.values():
            error: JournalError | None = None
            try:
                before = refused.get(write.message_id)
                if before is not None:
                    raise before("an earlier write of this message was refused")
                self._commit(write)
            except (Conflict, WriteRefused) as exc:
                refused[write.message_id] = type(exc)
                error = exc
            if done is not None:
                outcomes.append((done, error))
        for done, error in outcomes:
            try:
                done(error)
            except Exception as exc:  # a caller's bug, told to the loop's handler; the others hear theirs
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "a journal callback failed", "exception": exc}
                )

    def _refuse_all(self, error: Fenced) -> None:
        queue, self._queue = self._queue, {}
        for _, done in queue.values():
            if done is not None:
                asyncio.get_running_loop().call_soon(done, error)

    def _commit(self, write: Write) -> None:
        """Commit one write, all of it or nothing: every check comes before the first change."""
        store, now, message_id = self._store, self._clock.now(), write.message_id
        message = write.message
        events: dict[int, tuple[datetime, str, int | None, int | None, str]] = {}
        stored = store.events.get(message_id, {})
        try:
            self._refuse_unstorable(write)
            if write.events or message is not None:
                day_of_id(message_id)
            for event in write.events:
                if event.seq in stored or event.seq in events:
                    raise Conflict("this event is stored already")
                events[event.seq] = (event.at, event.type, event.step, event.attempt, to_json(event.data))
            body = "" if message is None else to_json(message)
        except (ValueError, KeyError, TypeError, IndexError) as exc:
            raise WriteRefused("the write cannot be encoded") from exc
        if message is not None and message_id in store.messages:
            raise Conflict("this message is stored already")
        record = write.idempotency
        if record is not None:
            known = store.idempotency.get((write.tenant, record.key))
            if known is not None and known[1] > now - IDEMPOTENCY_KEPT:
                raise Conflict("this idempotency key is stored already")
        for entry in write.outbox:
            if (message_id, entry.seq, entry.target) in store.outbox:
                raise Conflict("this delivery is stored already")

        if message is not None:
            store.messages[message_id] = MessageRow(
                tenant=message.tenant,
                mode=message.mode,
                reference=message.reference,
                channels=frozenset(step.channel for step in message.cascade),
                created_at=message.created_at,
                status=None,
                closed=False,
                due=None,
                body=body,
            )
        if events:
            store.events.setdefault(message_id, {}).update(events)
        for ref in write.refs:
            target = RefTarget(message_id, ref.step, ref.attempt, ref.segment)
            store.refs.setdefault((ref.carrier, ref.ref), []).append(target)
        for entry in write.outbox:
            key = (message_id, entry.seq, entry.target)
            store.outbox[key] = OutboxItem(
                *key, write.tenant, entry.type, entry.due, 0, now, entry.payload, id=outbox_id(*key)
            )
        for delta in write.usage:
            line = (write.tenant, delta.mode, delta.day, delta.channel, delta.carrier, delta.status, self.worker_id)
            counts = store.usage.setdefault(line, [0, 0, 0, 0])
            for n, value in enumerate((delta.messages, delta.attempts, delta.segments, delta.cost_micros)):
                counts[n] += value
        if record is not None:
            store.idempotency[write.tenant, record.key] = (record, now)
        row = store.messages.get(message_id)
        if row is not None:
            if write.status is not None:
                row.status, row.closed, row.due = write.status, True, None
            elif write.due is not KEEP and not row.closed:
                row.due = write.due

    @staticmethod
    def _refuse_unstorable(write: Write) -> None:
        """Refuse what a text column cannot hold. Inside JSON it is escaped: bodies and data may have it."""
        texts = [write.tenant, write.status or ""]
        texts += [text for ref in write.refs for text in (ref.carrier, ref.ref)]
        texts += [text for entry in write.outbox for text in (entry.target, entry.type, entry.payload or "")]
        texts += [event.type for event in write.events]
        if write.message is not None:
            texts += [write.message.tenant, write.message.mode, write.message.reference or ""]
        if write.idempotency is not None:
            texts += [write.idempotency.key, write.idempotency.response]
        if "\0" in "".join(texts).encode().decode():  # encode() refuses lone surrogates
            raise WriteRefused("a text of this write holds a NUL")

    # --- reads
    def _reach(self) -> None:
        if not self._available:
            raise JournalAway("the database is away")

    def _stored(self, message_id: str) -> StoredMessage:
        row = self._store.messages[message_id]
        events = [
            Event(seq, at, type_, step, attempt, from_json(data))
            for seq, (at, type_, step, attempt, data) in sorted(self._store.events.get(message_id, {}).items())
        ]
        return StoredMessage(message_from_json(row.body), events, row.status, row.due)

    async def load(self, message_ids: Sequence[str]) -> list[StoredMessage]:
        self._reach()
        return [self._stored(message_id) for message_id in message_ids if message_id in self._store.messages]

    def _status(self, message_id: str) -> str:
        stored = self._stored(message_id)
        return status_of(stored.status, stored.events)

    async def list_messages(self, query: MessageQuery) -> list[StoredMessage]:
        self._reach()
        final, open_ = split_statuses(query.statuses)
        wanted = {*final, *open_}
        page: list[StoredMessage] = []
        for message_id, row in sorted(self._store.messages.items(), reverse=True):
            if len(page) >= query.limit:
                break
            if (
                (query.before_id is None or message_id < query.before_id)
                and (query.tenant is None or row.tenant == query.tenant)
                and (query.mode is None or row.mode == query.mode)
                and (query.channel is None or query.channel in row.channels)
                and (query.reference is None or row.reference == query.reference)
                and (query.reference_prefix is None or (row.reference or "").startswith(query.reference_prefix))
                and (query.created_after is None or row.created_at >= query.created_after)
                and (query.created_before is None or row.created_at < query.created_before)
                and (not query.statuses or self._status(message_id) in wanted)
                and not (query.reference_prefix is not None and row.reference is None)
            ):
                page.append(self._stored(message_id))
        return page

    async def count_messages(
        self,
        tenant: str | None,
        mode: str | None,
        created_after: datetime | None,
        created_before: datetime | None,
    ) -> dict[str, int]:
        self._reach()
        counts: dict[str, int] = {}
        for message_id, row in self._store.messages.items():
            if (
                (tenant is None or row.tenant == tenant)
                and (mode is None or row.mode == mode)
                and (created_after is None or row.created_at >= created_after)
                and (created_before is None or row.created_at < created_before)
            ):
                status = self._status(message_id)
                counts[status] = counts.get(status, 0) + 1
        return counts

    async def count_open(self) -> int:
        self._reach()
        messages = self._store.messages.items()
        return sum(not row.closed and shard_of(message_id) in self._shards for message_id, row in messages)

    async def find_refs(self, keys: Sequence[tuple[str, str]]) -> list[RefTarget | None]:
        self._reach()
        return [self._store.refs[key][-1] if key in self._store.refs else None for key in keys]

    async def find_all_refs(self, carrier: str, ref: str, limit: int) -> list[RefTarget]:
        self._reach()
        return self._store.refs.get((carrier, ref), [])[: -limit - 1 : -1]

    async def find_idempotent(self, tenant: str, key: str) -> IdempotencyRecord | None:
        self._reach()
        known = self._store.idempotency.get((tenant, key))
        return known[0] if known is not None and known[1] > self._clock.now() - IDEMPOTENCY_KEPT else None

    # --- recovery and parking
    async def hot_page(self, shard: int, after_id: str, limit: int) -> list[StoredMessage]:
        self._reach()
        hot = sorted(
            message_id
            for message_id, row in self._store.messages.items()
            if not row.closed and row.due is None and message_id > after_id and shard_of(message_id) == shard
        )
        return [self._stored(message_id) for message_id in hot[:limit]]

    async def due_page(self, before: datetime, limit: int, *, not_ids: Sequence[str] = ()) -> list[str]:
        self._reach()
        left_out = set(not_ids)
        due = sorted(
            (row.due, message_id)
            for message_id, row in self._store.messages.items()
            if row.due is not None
            and row.due < before
            and message_id not in left_out
            and shard_of(message_id) in self._shards
        )
        return [message_id for _, message_id in due[:limit]]

    # --- receipts nobody can match yet
    async def park_receipt(self, receipt: DeliveryReceipt, ref: str) -> int:
        self._reach()
        store = self._store
        store.parked_id += 1
        store.parked[store.parked_id] = (to_json(receipt), ref, self._clock.now())
        self._tell_others(NEWS_PARKED, str(store.parked_id))
        return store.parked_id

    async def parked_receipts(self, limit: int) -> list[ParkedReceipt]:
        self._reach()
        newest = sorted(self._store.parked.items(), reverse=True)[:limit]
        return [ParkedReceipt(id_, receipt_from_json(body), ref, at) for id_, (body, ref, at) in newest]

    async def parked_by_id(self, ids: Sequence[int]) -> list[ParkedReceipt]:
        return [parked for parked in await self.parked_receipts(len(self._store.parked)) if parked.id in ids]

    async def drop_parked(self, ids: Sequence[int]) -> None:
        self._reach()
        for id_ in ids:
            self._store.parked.pop(id_, None)

    # --- what somebody writes to us
    async def store_inbound(
        self, record: InboundRecord, outbox: Sequence[OutboxEntry] = (), parts: PartKey | None = None
    ) -> bool:
        self._reach()
        store, message = self._store, record.inbound
        if parts is not None:
            whole = store.parts.get((parts, 0))
            if whole is not None and whole.received_at >= record.received_at - PARTS_TOGETHER:
                return False
            store.parts = {at: part for at, part in store.parts.items() if at[0] != parts}
            store.parts[parts, 0] = StoredPart(parts, 0, 0, b"", record.received_at)
        if message.carrier_message_id is not None:
            known = (message.carrier, message.carrier_message_id)
            if known in store.inbound_known:
                return False
            store.inbound_known.add(known)
        store.inbound[record.inbound_id] = (record.tenant, to_json(message), record.received_at)
        for entry in outbox:
            key = (record.inbound_id, entry.seq, entry.target)
            store.outbox[key] = OutboxItem(
                *key,
                record.tenant or "",
                entry.type,
                entry.due,
                0,
                record.received_at,
                entry.payload,
                id=outbox_id(*key),
            )
        return True

    async def store_part(self, part: StoredPart) -> None:
        self._reach()
        self._store.parts[part.key, part.number] = part

    async def stored_parts(self, carrier: str) -> list[StoredPart]:
        self._reach()
        mine = {at: part for at, part in self._store.parts.items() if part.key.carrier == carrier}
        whole = {key: part.received_at for (key, number), part in mine.items() if not number}
        open_ = [p for p in mine.values() if not p.number or p.key not in whole or whole[p.key] < p.received_at]
        return sorted(open_, key=lambda part: (part.received_at, part.number))

    async def inbound(self, tenant: str | None, limit: int) -> list[InboundRecord]:
        self._reach()
        newest = sorted((row for row in self._store.inbound.items() if row[1][0] == tenant), reverse=True)[:limit]
        return [InboundRecord(id_, owner, inbound_from_json(body), at) for id_, (owner, body, at) in newest]

    async def messages_to(self, phone: str, since: datetime, limit: int) -> list[StoredMessage]:
        self._reach()
        wanted = recipient_hash(phone)
        newest = sorted(self._store.messages.items(), reverse=True)
        found = [
            stored
            for stored in (self._stored(id_) for id_, row in newest if row.mode == "live")
            if recipient_of(stored.message.to) == wanted and day_of_id(stored.message.message_id) >= since.date()
        ]
        return found[:limit]

    # --- webhooks
    def _undone(self) -> list[OutboxItem]:
        """Deliveries of this worker's shards that are neither done nor dead, earliest first."""
        items = [
            item
            for item in self._store.outbox.values()
            if item.dead_at is None and shard_of(item.message_id) in self._shards
        ]
        return sorted(items, key=lambda item: (item.due, item.message_id, item.seq, item.target))

    async def outbox_due(self, tenant: str | None, before: datetime, limit: int) -> list[OutboxItem]:
        self._reach()
        due = [item for item in self._undone() if item.due < before and tenant in (None, item.tenant)]
        return [replace(item) for item in due[:limit]]

    async def outbox_tenants(self) -> list[str]:
        self._reach()
        return sorted({item.tenant for item in self._undone()})

    async def outbox_results(self, results: Sequence[OutboxResult]) -> None:
        self._reach()
        for result in results:
            key = (result.message_id, result.seq, result.target)
            item = self._store.outbox.get(key)
            if item is None:
                continue
            if result.outcome == "done":
                del self._store.outbox[key]
                continue
            item.attempts, item.last_error = result.attempts, result.error
            if result.due is not None:
                item.due = result.due
            if result.outcome == "dead":
                item.dead_at = self._clock.now()

    async def dead_letters(self, tenant: str, before_id: str | None, limit: int) -> list[OutboxItem]:
        self._reach()
        dead = sorted((k for k, i in self._store.outbox.items() if i.dead_at and i.tenant == tenant), reverse=True)
        before = None if before_id is None else split_outbox_id(before_id)
        if before_id is not None and before is None:
            return []
        return [replace(self._store.outbox[key]) for key in dead if before is None or key < before][:limit]

    async def replay_dead_letter(self, tenant: str, id: str, due: datetime) -> bool:
        self._reach()
        key = split_outbox_id(id)
        item = None if key is None else self._store.outbox.get(key)
        if item is None or item.dead_at is None or item.tenant != tenant:
            return False
        item.dead_at, item.attempts, item.due = None, 0, due
        return True

    async def outbox_pending(self) -> int:
        self._reach()
        return len(self._undone())

    # --- what was set while the node ran
    async def put_live_setting(self, setting: LiveSetting) -> None:
        self._reach()
        key = (setting.kind, setting.name)
        former = self._store.live_settings.get(key)
        self._store.live_settings[key] = replace(setting, created_at=former.created_at) if former else setting
        self._tell_others(NEWS_LIVE)

    async def live_settings(self) -> list[LiveSetting]:
        self._reach()
        return sorted(self._store.live_settings.values(), key=lambda s: (s.created_at, s.kind, s.name))

    async def delete_live_setting(self, kind: str, name: str) -> bool:
        self._reach()
        self._tell_others(NEWS_LIVE)
        return self._store.live_settings.pop((kind, name), None) is not None

    # --- usage
    async def usage(self, tenant: str, mode: str, first: date, last: date) -> list[UsageDelta]:
        self._reach()
        sums: dict[tuple[date, str, str, str], list[int]] = {}
        for (of, of_mode, day, channel, carrier, status, _), counts in self._store.usage.items():
            if of == tenant and of_mode == mode and first <= day <= last and status != ACCEPTED:
                line = sums.setdefault((day, channel, carrier, status), [0, 0, 0, 0])
                for n, value in enumerate(counts):
                    line[n] += value
        return [UsageDelta(mode, *line, *counts) for line, counts in sorted(sums.items()) if any(counts)]

    async def accepted(self, scopes: Sequence[tuple[str, str]], day: date) -> list[AcceptedLine]:
        self._reach()
        first, end = month_of(day)
        # What was accepted (3) and what it cost, of the day and of the month.
        sums: dict[tuple[str, str, bool], tuple[list[int], list[int]]] = {}
        for (tenant, mode, at, _, _, status, worker), counts in self._store.usage.items():
            if (tenant, mode) in scopes and first <= at < end:
                messages, _, segments, micros = counts
                of_day, of_month = sums.setdefault((tenant, mode, worker == self.worker_id), ([0] * 4, [0] * 4))
                for n, value in enumerate((messages, segments, micros, 0) if status == ACCEPTED else (0, 0, 0, micros)):
                    of_month[n] += value
                    of_day[n] += value if at == day else 0
        return [
            AcceptedLine(*whose, (d[0], d[1], d[2]), (m[0], m[1], m[2]), d[3], m[3]) for whose, (d, m) in sums.items()
        ]

    async def take_nonce(self, hash: bytes, now: datetime, until: datetime) -> bool:
        self._reach()
        nonces = self._store.nonces
        if nonces.get(hash, now) > now:
            return False
        nonces[hash] = until
        return True

    # --- housekeeping
    async def workers(self) -> list[WorkerRow]:
        self._reach()
        now = self._clock.now()
        owned: dict[str, int] = {}
        for owner in self._store.owners.values():
            owned[owner] = owned.get(owner, 0) + 1
        return [
            replace(worker.row, shards=owned.get(id_, 0))
            for id_, worker in sorted(self._store.workers.items())
            if worker.dead_at is None or worker.dead_at > now - DEAD_WORKERS_SHOWN
        ]

    async def announce(self, control: str) -> None:
        self._reach()
        self._store.workers[self.worker_id].row.control = control

    async def housekeep(self, now: datetime, messages_days: int) -> list[str]:
        self._reach()
        store = self._store
        oldest_kept = (now - timedelta(days=messages_days)).date()
        by_day: dict[date, list[str]] = {}
        for message_id in store.messages:
            by_day.setdefault(day_of_id(message_id), []).append(message_id)
        for day, ids in by_day.items():
            if day < oldest_kept and all(store.messages[message_id].closed for message_id in ids):
                for message_id in ids:
                    del store.messages[message_id]
                    store.events.pop(message_id, None)
        for key in list(store.outbox):
            if is_message_id(key[0]) and key[0] not in store.messages and day_of_id(key[0]) < oldest_kept:
                del store.outbox[key]
        self._erase_tenants(now - timedelta(days=messages_days))
        for idem, (_, at) in list(store.idempotency.items()):
            if at <= now - IDEMPOTENCY_KEPT:
                del store.idempotency[idem]
        for inbound_id, (_, body, at) in list(store.inbound.items()):
            if at < now - timedelta(days=messages_days):
                message = inbound_from_json(body)
                store.inbound_known.discard((message.carrier, message.carrier_message_id or ""))
                del store.inbound[inbound_id]
        for key in list(store.outbox):
            if key[0].startswith("inb_") and key[0] not in store.inbound:
                del store.outbox[key]
        store.parts = {at: part for at, part in store.parts.items() if part.received_at >= now - PARTS_KEPT}
        store.nonces = {hash: until for hash, until in store.nonces.items() if until >= now}
        orphans = [id_ for id_, (_, _, at) in store.parked.items() if at <= now - PARKED_KEPT]
        return [receipt_from_json(store.parked.pop(id_)[0]).carrier for id_ in orphans]

    def _erase_tenants(self, before: datetime) -> None:
        store = self._store
        gone = {
            t.id for t in store.tenants.values() if t.status == "deleted" and t.deleted_at and t.deleted_at < before
        }
        store.tenants = {id_: t for id_, t in store.tenants.items() if id_ not in gone}
        store.keys = {id_: key for id_, key in store.keys.items() if key.tenant not in gone}
        store.endpoints = {id_: endpoint for id_, endpoint in store.endpoints.items() if endpoint.tenant not in gone}
        store.policies = {key: policy for key, policy in store.policies.items() if policy.tenant not in gone}
        store.templates = {key: kept for key, kept in store.templates.items() if key[0] not in gone}
        store.suppressions = {key: entry for key, entry in store.suppressions.items() if entry.tenant not in gone}
        store.inbound = {id_: kept for id_, kept in store.inbound.items() if kept[0] not in gone}
        store.consents = {id_: consent for id_, consent in store.consents.items() if consent.tenant not in gone}
        store.erasures = {id_: erasure for id_, erasure in store.erasures.items() if erasure.tenant not in gone}
        store.outbox = {key: item for key, item in store.outbox.items() if item.tenant not in gone}
        store.idempotency = {key: kept for key, kept in store.idempotency.items() if key[0] not in gone}
        store.changes = [replace(c, before=None, after=None) if c.tenant in gone else c for c in store.changes]
