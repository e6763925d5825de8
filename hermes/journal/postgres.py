"""The journal on PostgreSQL 15 or newer; the promises are in `base.py`, the tables in `migrations/`.

`writer.py` writes, `link.py` connects and watches, `queries.sql` holds what is said; this module joins them
and turns rows into the words of `hermes.domain`. The server's own life is `embedded.py`'s or an operator's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from hermes.domain.events import Event
from hermes.domain.inbound import PartKey, StoredPart
from hermes.domain.message import is_message_id, ulid
from hermes.domain.quotas import month_of
from hermes.domain.receipt import DeliveryReceipt
from hermes.domain.state import OPEN_STATUSES
from hermes.domain.usage import AcceptedLine, UsageDelta
from hermes.journal.base import (
    NEWS_LIVE,
    NEWS_PARKED,
    NEWS_WORKERS,
    Done,
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
    SecretDiffers,
    StoredMessage,
    WorkerRow,
    Write,
    WriteRefused,
    shard_of,
)
from hermes.journal.link import LOST, PLAN_AFRESH, PLAN_FREELY, PLAN_IN_ORDER, Connect, Link, translate
from hermes.journal.migrator import migrate_connection
from hermes.journal.partitions import (
    BY_ID_DAY,
    BY_WRITE_DAY,
    PARTITIONED,
    days_ahead,
    ensure_days,
    partition_day,
)
from hermes.journal.postgres_carriers import PostgresCarriers
from hermes.journal.postgres_consents import PostgresConsents
from hermes.journal.postgres_directory import DIRECTORY_CHANNEL, PostgresDirectory
from hermes.journal.postgres_erasure import PostgresErasure
from hermes.journal.postgres_suppressions import PostgresSuppressions
from hermes.journal.postgres_workers import CLAIMING, NEWS_CHANNEL
from hermes.journal.postgres_workers import declare_gone as declare_gone
from hermes.journal.process import is_gone, started_at, this_host
from hermes.journal.queries import QUERIES
from hermes.journal.rows import (
    CHANNEL_BIT,
    DEAD_WORKERS_SHOWN,
    IDEMPOTENCY_KEPT,
    PARKED_KEPT,
    PARTS_KEPT,
    day_of_id,
    from_json,
    inbound_from_json,
    message_from_json,
    outbox_id,
    receipt_from_json,
    recipient_hash,
    split_outbox_id,
    split_statuses,
    storable,
    to_json,
)
from hermes.journal.writer import GroupCommitWriter
from hermes.runtime.clock import Clock

if TYPE_CHECKING:
    from hermes.journal.bus import Bus  # imports nats, only where it is set

OLDEST_SERVER: Final = 15  # major version
REFS_KEPT: Final = timedelta(days=11)  # receipts come for at most 7 days after a message's end; asked for: 10
HANDOVERS_KEPT: Final = timedelta(days=8)  # a message lives at most 7 days
WORKERS_KEPT: Final = timedelta(days=7)
DRAIN_S: Final = 5.0  # how long `stop` waits for queued writes
PURGE_SLICE: Final = 5000  # rows deleted in one statement, so that none is long
HOUSEKEEPING_TIMEOUT_S: Final = 120.0  # for each statement; dropping waits for those who still read
_DROPPING: Final = 0x4865726D6575  # advisory lock: one worker drops partitions at a time
ID_SLACK: Final = timedelta(minutes=10)  # an id's own time and its message's created_at differ by less

# The status of a message for which `c` (closed_message) has no row: what its newest public event says.
_OPEN_STATUS: Final = """(
    SELECT CASE WHEN e.type IN ('accepted', 'scheduled') THEN e.type ELSE 'in_progress' END
    FROM event AS e
    WHERE e.message_id = m.message_id AND e.day = m.day AND e.type NOT IN ('sending', 'crashed')
    ORDER BY e.seq DESC LIMIT 1
)"""


class PostgresJournal(PostgresCarriers, PostgresDirectory, PostgresSuppressions, PostgresErasure, PostgresConsents):
    """A `Journal` on PostgreSQL.

    Args:
        connect: a DSN, the arguments for `asyncpg.connect`, or a function that returns either.
        worker_id: this process incarnation's name; never used again once it ended.
        clock: `now()` and `monotonic()`.
        batch_window_ms: how long a write waits for company, on average, while few are waiting.
        queue_limit: waiting writes beyond which refusable ones are refused.
        lease_s: how long after its last heartbeat a worker may be declared dead by another host.
        host: names the pid namespace this worker's pid belongs to.
        secret_digest: names the secret API keys are hashed under; workers that live together have the same. "": any.
        bus: where news for one worker go first; it is the journal's to start and to close. None: NOTIFY only.
    """

    def __init__(
        self,
        connect: Connect,
        *,
        worker_id: str,
        clock: Clock,
        batch_window_ms: float = 3.0,
        queue_limit: int = 20_000,
        lease_s: float = 10.0,
        heartbeat_s: float = 3.0,
        host: str | None = None,
        secret_digest: str = "",
        bus: Bus | None = None,
    ) -> None:
        self.worker_id = worker_id
        self._clock = clock
        self._queue_limit: Final = queue_limit
        self._lease_s: Final = lease_s
        self._heartbeat_s = heartbeat_s
        self._host = host or this_host()
        self._secret_digest: Final = secret_digest
        self._connect: Final = connect
        self._bus = bus
        self._link = Link(connect, f"hermes {worker_id}")
        self._writer = GroupCommitWriter(
            self._link,
            worker_id,
            clock.now,
            window_s=batch_window_ms / 1000,
            on_fenced=self._tell_fenced,
        )
        self._link.on_hang.append(self._writer.hang_up)
        self._link.on_look.append(self._writer.look)
        self._on_fenced: list[Callable[[], None]] = []
        self._on_directory: list[Callable[[str | None], None]] = []
        self._unseen: list[str] = []
        self._awaited: dict[str, tuple[set[str], asyncio.Semaphore]] = {}
        self._living = 1
        self._on_news: list[Callable[[str, str], None]] = []
        self._link.listen(DIRECTORY_CHANNEL, self._told_of_directory)
        self._link.listen(NEWS_CHANNEL, self._told)
        self._shards: dict[int, datetime] = {}
        self._lease_until = float("-inf")
        self._heart: asyncio.Task[None] | None = None
        self._stopped = False

    @property
    def available(self) -> bool:
        return self._link.available

    @property
    def queued(self) -> int:
        return self._writer.queued

    def on_change(self, callback: Callable[[bool], None]) -> None:
        self._link.on_change(callback)

    def on_fenced(self, callback: Callable[[], None]) -> None:
        self._on_fenced.append(callback)

    def on_batch(self, callback: Callable[[int, float], None]) -> None:
        """Call `callback(writes, seconds)` after each commit (metrics)."""
        self._writer.on_batch = callback

    def _tell_fenced(self) -> None:
        for callback in self._on_fenced:
            callback()

    # --- life
    async def start(self) -> None:
        """Connect, migrate, make partitions ahead, register this worker, start the writer.

        Raises:
            JournalAway: the database cannot be reached.
            SchemaRefused: its schema is not ours.
            SecretDiffers: a worker that lives has another secret.
            JournalError: this worker id was used before.
        """
        now, began = self._clock.now(), self._clock.monotonic()
        connection = await self._link.open()
        try:
            if connection.get_server_version()[0] < OLDEST_SERVER:
                raise JournalError(f"the database server is older than PostgreSQL {OLDEST_SERVER}")
            await migrate_connection(connection)
            await ensure_days(connection, days_ahead(now.date()))
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", CLAIMING)
                await self._compare_secrets(connection)
                await connection.execute(
                    QUERIES["register_worker"],
                    self.worker_id,
                    self._host,
                    os.getpid(),
                    started_at(os.getpid()) or "",
                    now,
                    self._lease_s,
                    self._secret_digest,
                )
        except asyncpg.UniqueViolationError:
            raise JournalError("this worker id was used before") from None
        except (asyncpg.PostgresError, *LOST) as exc:
            if (getattr(exc, "sqlstate", None) or "08")[:2] in ("08", "53", "57"):
                raise JournalAway("the database cannot be reached") from None
            raise JournalError(f"the database cannot be set up ({type(exc).__name__})") from None
        finally:
            connection.terminate()
        self._lease_until = began + self._lease_s
        await self._link.start()
        await self._writer.start()
        self._steady_since = self._clock.monotonic() - 2 * self._heartbeat_s  # a start believes the leases it finds
        self._link.on_change(self._changed_at)
        if self._bus is not None:
            self._bus.start(self._heard)
        await self.tell(NEWS_WORKERS)
        self._heart = asyncio.create_task(self._beat(), name="journal-heartbeat")

    async def _compare_secrets(self, connection: asyncpg.Connection) -> None:
        if not self._secret_digest:
            return
        for row in await connection.fetch(QUERIES["other_secrets"], self._secret_digest):
            here = row["host"] == self._host
            if not (here and await asyncio.to_thread(is_gone, row["pid"], row["process_started_at"])):
                raise SecretDiffers(row["host"].partition(" ")[0])

    async def _beat(self) -> None:
        """Extend the lease; when there is none any more, stop everything."""
        while True:
            await asyncio.sleep(self._heartbeat_s)
            began = self._clock.monotonic()  # the database counts from later on
            try:
                if not await self._link.fetch(QUERIES["extend_lease"], self.worker_id, self._lease_s, urgent=True):
                    self._writer.fence()
                    return
                self._lease_until = began + self._lease_s
                await self._link.fetch(QUERIES["forget_batches"], self.worker_id, self._writer.confirmed - 1)
            except JournalError:
                continue  # away: the monitor tells, the lease runs on

    async def stop(self) -> None:
        """Write what is queued (5 s at most), mark this worker dead, close connections."""
        if self._stopped:
            return
        self._stopped = True
        if self._bus is not None:
            await self._bus.close()
        await self._writer.drain(DRAIN_S)
        if self._heart is not None:
            self._heart.cancel()
            await asyncio.gather(self._heart, return_exceptions=True)
        await self._writer.stop()
        with contextlib.suppress(JournalError):
            await self._link.fetch(QUERIES["retire_worker"], self.worker_id)
            await self.tell(NEWS_WORKERS)
        await self._link.close()

    # --- the hot path
    def append(self, write: Write, done: Done | None = None, *, refusable: bool = False) -> None:
        if refusable:
            if not self._link.available:
                raise JournalAway("the database is away")
            if self._writer.queued >= self._queue_limit:
                raise QueueFull("too many writes are waiting")
        self._writer.append(write, done)

    def withdraw(self, write: Write) -> bool:
        return self._writer.withdraw(write)

    # --- reads
    async def load(self, message_ids: Sequence[str]) -> list[StoredMessage]:
        ids: list[str] = []
        days: list[date] = []
        for message_id in message_ids:
            with contextlib.suppress(KeyError, ValueError):
                days.append(day_of_id(message_id))
                ids.append(message_id if storable(message_id) else "")
        if not ids:
            return []
        async with self._link.borrow() as connection:
            rows = await connection.fetch(QUERIES["load_messages"], ids, days, [shard_of(i) for i in ids])
            events = await connection.fetch(QUERIES["load_events"], ids, days)
        found: dict[str, StoredMessage] = {
            row["message_id"]: StoredMessage(message_from_json(row["body"]), [], row["status"], row["due"])
            for row in rows
        }
        for message_id, seq, at, type_, step, attempt, data in events:
            stored = found.get(message_id)
            if stored is not None:
                stored.events.append(Event(seq, at, type_, step, attempt, from_json(data)))
        return [found[message_id] for message_id in ids if message_id in found]

    @staticmethod
    def list_sql(query: MessageQuery) -> tuple[str, list[Any]]:
        """Write a page's query: its ids, newest first, and the values of its parameters."""
        values: list[Any] = []

        def value(value_: Any, type_: str) -> str:
            values.append(value_)
            return f"${len(values)}::{type_}"

        where: list[str] = []
        final, open_ = split_statuses(query.statuses)
        if query.tenant is not None:
            where.append(f"m.tenant = {value(query.tenant, 'text')}")
        if query.mode is not None:
            where.append(f"m.mode = {value(query.mode, 'text')}")
        if query.channel is not None:
            where.append(f"m.channels & {value(CHANNEL_BIT[query.channel], 'smallint')} <> 0")
        if query.reference is not None:
            where.append(f"m.reference = {value(query.reference, 'text')}")
        if query.reference_prefix is not None:
            where.append(f"m.reference >= {value(query.reference_prefix, 'text')}")
            end = _after_prefix(query.reference_prefix)
            if end is not None:
                where.append(f"m.reference < {value(end, 'text')}")
        if query.created_after is not None:
            where.append(f"m.created_at >= {value(query.created_after, 'timestamptz')}")
            where.append(f"m.message_id >= {value(_id_at(_shift(query.created_after, -ID_SLACK)), 'text')}")
            where.append(f"m.day >= {value(_shift(query.created_after, -ID_SLACK).date(), 'date')}")
        if query.created_before is not None:
            where.append(f"m.created_at < {value(query.created_before, 'timestamptz')}")
            where.append(f"m.message_id < {value(_id_at(_shift(query.created_before, ID_SLACK)), 'text')}")
            where.append(f"m.day <= {value(_shift(query.created_before, ID_SLACK).date(), 'date')}")
        if query.before_id is not None:
            where.append(f"m.message_id < {value(query.before_id, 'text')}")
            if is_message_id(query.before_id):
                where.append(f"m.day <= {value(day_of_id(query.before_id), 'date')}")
        join = ""
        if query.statuses:
            join = "LEFT JOIN closed_message AS c ON c.message_id = m.message_id AND c.day = m.day"
            either = []
            if final:
                either.append(f"c.status = ANY ({value(final, 'text[]')})")
            if len(open_) == len(OPEN_STATUSES):
                either.append("c.status IS NULL")
            elif open_:
                either.append(f"c.status IS NULL AND {_OPEN_STATUS} = ANY ({value(open_, 'text[]')})")
            where.append(f"({' OR '.join(either)})")
        condition = " AND ".join(where) or "true"
        return (
            f"SELECT m.message_id FROM message AS m {join} WHERE {condition} "
            f"ORDER BY m.message_id DESC LIMIT {int(query.limit)}",
            values,
        )

    async def list_messages(self, query: MessageQuery) -> list[StoredMessage]:
        if query.channel is not None and query.channel not in CHANNEL_BIT:
            return []
        sql, values = self.list_sql(query)
        try:
            # A prefix finds its rows and sorts them; all else is read in order until the page is full.
            plan = PLAN_AFRESH if query.reference_prefix is not None else PLAN_IN_ORDER
            rows = await self._link.fetch_afresh(sql, *values, plan=plan)
        except WriteRefused:  # it asks for a text no row can hold
            return []
        return await self.load([row[0] for row in rows])

    async def count_messages(
        self,
        tenant: str | None,
        mode: str | None,
        created_after: datetime | None,
        created_before: datetime | None,
    ) -> dict[str, int]:
        values: list[Any] = []
        of_message: list[str] = []
        of_day: list[str] = []

        def ask(conditions: list[str], condition: str, value: Any) -> None:
            values.append(value)
            conditions.append(condition.format(n=len(values)))

        if tenant is not None:
            ask(of_message, "m.tenant = ${n}::text", tenant)
        if mode is not None:
            ask(of_message, "m.mode = ${n}::text", mode)
        if created_after is not None:
            ask(of_message, "m.created_at >= ${n}::timestamptz", created_after)
            ask(of_day, "day >= ${n}::date", _shift(created_after, -ID_SLACK).date())
        if created_before is not None:
            ask(of_message, "m.created_at < ${n}::timestamptz", created_before)
            ask(of_day, "day <= ${n}::date", _shift(created_before, ID_SLACK).date())
        by_day = {table: " AND ".join(f"{table}.{text}" for text in of_day) or "true" for table in "mce"}
        by_day["m"] = " AND ".join([*of_message, by_day["m"]])
        counts: dict[str, int] = {}
        async with self._link.borrow() as connection:
            await connection.execute(PLAN_FREELY)
            for name in ("count_closed", "count_open_by_status"):
                sql = QUERIES[name].format(**by_day)
                counts.update((row[0], row[1]) for row in await connection.fetch(sql, *values))
            await connection.execute("COMMIT")
        return counts

    async def count_open(self) -> int:
        rows = await self._link.fetch_afresh(QUERIES["count_open"], list(self._shards), plan=PLAN_FREELY)
        return int(rows[0][0])

    async def find_refs(self, keys: Sequence[tuple[str, str]]) -> list[RefTarget | None]:
        found: list[RefTarget | None] = [None] * len(keys)
        refs, carriers = [storable(ref) for _, ref in keys], [storable(carrier) for carrier, _ in keys]
        rows = await self._link.fetch(QUERIES["find_refs"], refs, carriers)
        for n, message_id, step, attempt, segment in rows:
            found[n - 1] = RefTarget(message_id, step, attempt, segment)
        return found

    async def find_all_refs(self, carrier: str, ref: str, limit: int) -> list[RefTarget]:
        rows = await self._link.fetch(QUERIES["find_all_refs"], storable(ref), storable(carrier), limit)
        return [RefTarget(*row) for row in rows]

    async def find_idempotent(self, tenant: str, key: str) -> IdempotencyRecord | None:
        if storable(key) is None:
            return None
        oldest = self._clock.now() - IDEMPOTENCY_KEPT
        rows = await self._link.fetch(QUERIES["find_idempotent"], tenant, key, oldest)
        return IdempotencyRecord(key, rows[0]["request_hash"], rows[0]["response"]) if rows else None

    # --- recovery and parking
    async def hot_page(self, shard: int, after_id: str, limit: int) -> list[StoredMessage]:
        rows = await self._link.fetch(QUERIES["hot_page"], shard, after_id, limit)
        return await self.load([row[0] for row in rows])

    async def due_page(self, before: datetime, limit: int, *, not_ids: Sequence[str] = ()) -> list[str]:
        shards = list(self._shards)
        rows = await self._link.fetch(QUERIES["due_page"], shards, before, limit, list(not_ids))
        return [row[0] for row in rows]

    # --- receipts nobody can match yet
    async def park_receipt(self, receipt: DeliveryReceipt, ref: str) -> int:
        async with self._link.borrow() as connection, connection.transaction():
            row = int(await connection.fetchval(QUERIES["park_receipt"], ref, to_json(receipt), self._clock.now()))
            await connection.execute(*self._news(NEWS_PARKED, str(row)))
        return row

    async def parked_receipts(self, limit: int) -> list[ParkedReceipt]:
        rows = await self._link.fetch(QUERIES["parked_receipts"], limit)
        return [ParkedReceipt(id_, receipt_from_json(body), ref, at) for id_, ref, body, at in rows]

    async def parked_by_id(self, ids: Sequence[int]) -> list[ParkedReceipt]:
        rows = await self._link.fetch(QUERIES["parked_by_id"], list(ids))
        return [ParkedReceipt(id_, receipt_from_json(body), ref, at) for id_, ref, body, at in rows]

    async def drop_parked(self, ids: Sequence[int]) -> None:
        await self._link.fetch(QUERIES["drop_parked"], list(ids))

    # --- what somebody writes to us
    async def store_inbound(
        self, record: InboundRecord, outbox: Sequence[OutboxEntry] = (), parts: PartKey | None = None
    ) -> bool:
        message = record.inbound
        known_as = message.carrier_message_id
        rows = await self._link.fetch(
            QUERIES["store_inbound"],
            record.inbound_id,
            record.tenant,
            message.carrier,
            None if known_as is None else storable(known_as),
            record.received_at,
            to_json(message),
            shard_of(record.inbound_id),
            [entry.seq for entry in outbox],
            [entry.target for entry in outbox],
            [entry.type for entry in outbox],
            [entry.due for entry in outbox],
            [entry.payload for entry in outbox],
            *((None,) * 4 if parts is None else _part_key(parts)),
        )
        return bool(rows[0][0])

    async def store_part(self, part: StoredPart) -> None:
        key, query = part.key, QUERIES["store_part"]
        rest = (part.number, part.data_coding, part.octets, part.received_at)
        await self._link.fetch(query, key.carrier, *_part_key(key), *rest)

    async def stored_parts(self, carrier: str) -> list[StoredPart]:
        rows = await self._link.fetch(QUERIES["stored_parts"], carrier)
        return [StoredPart(PartKey(*row[:5]), *row[5:]) for row in map(tuple, rows)]

    async def inbound(self, tenant: str | None, limit: int) -> list[InboundRecord]:
        rows = await self._link.fetch(QUERIES["inbound"], tenant, limit)
        return [InboundRecord(id_, owner, inbound_from_json(body), at) for id_, owner, body, at in rows]

    async def messages_to(self, phone: str, since: datetime, limit: int) -> list[StoredMessage]:
        rows = await self._link.fetch(QUERIES["messages_to"], recipient_hash(phone), since.date(), limit)
        return await self.load([row[0] for row in rows])

    # --- webhooks
    async def outbox_due(self, tenant: str | None, before: datetime, limit: int) -> list[OutboxItem]:
        shards = list(self._shards)
        if tenant is None:
            rows = await self._link.fetch(QUERIES["outbox_due_all"], before, limit, shards)
        else:
            rows = await self._link.fetch(QUERIES["outbox_due"], tenant, before, limit, shards)
        return [_outbox_item(row) for row in rows]

    async def outbox_tenants(self) -> list[str]:
        return [row[0] for row in await self._link.fetch(QUERIES["outbox_tenants"], list(self._shards))]

    async def outbox_results(self, results: Sequence[OutboxResult]) -> None:
        done = [r for r in results if r.outcome == "done"]
        undone = [r for r in results if r.outcome != "done"]
        if done:
            await self._link.fetch(
                QUERIES["outbox_done"],
                [r.message_id for r in done],
                [r.seq for r in done],
                [r.target for r in done],
            )
        if undone:
            await self._link.fetch(
                QUERIES["outbox_undone"],
                [r.message_id for r in undone],
                [r.seq for r in undone],
                [r.target for r in undone],
                [r.attempts for r in undone],
                [r.due for r in undone],
                [r.error for r in undone],
                [r.outcome == "dead" for r in undone],
                self._clock.now(),
            )

    async def dead_letters(self, tenant: str, before_id: str | None, limit: int) -> list[OutboxItem]:
        before: tuple[str | None, int | None, str | None] | None = (None, None, None)
        if before_id is not None:
            before = split_outbox_id(before_id)
        if before is None or storable(before_id or "") is None:
            return []
        return [_outbox_item(r) for r in await self._link.fetch(QUERIES["dead_letters"], tenant, *before, limit)]

    async def replay_dead_letter(self, tenant: str, id: str, due: datetime) -> bool:
        key = split_outbox_id(id)
        return (
            key is not None
            and storable(id) is not None
            and bool(await self._link.fetch(QUERIES["replay_dead_letter"], *key, tenant, due))
        )

    async def outbox_pending(self) -> int:
        return int((await self._link.fetch(QUERIES["outbox_pending"], list(self._shards)))[0][0])

    # --- what was set while the node ran
    async def put_live_setting(self, setting: LiveSetting) -> None:
        async with self._link.borrow() as connection, connection.transaction():
            await connection.execute(
                QUERIES["put_live_setting"],
                setting.kind,
                setting.name,
                setting.body,
                setting.sealed,
                setting.created_at,
            )
            await connection.execute(*self._news(NEWS_LIVE))

    async def live_settings(self) -> list[LiveSetting]:
        return [LiveSetting(**row) for row in await self._link.fetch(QUERIES["live_settings"])]

    async def delete_live_setting(self, kind: str, name: str) -> bool:
        if storable(name) is None:
            return False
        async with self._link.borrow() as connection, connection.transaction():
            gone = await connection.fetch(QUERIES["delete_live_setting"], kind, name)
            await connection.execute(*self._news(NEWS_LIVE))
        return bool(gone)

    # --- usage
    async def usage(self, tenant: str, mode: str, first: date, last: date) -> list[UsageDelta]:
        return [UsageDelta(**row) for row in await self._link.fetch(QUERIES["usage"], tenant, mode, first, last)]

    async def accepted(self, scopes: Sequence[tuple[str, str]], day: date) -> list[AcceptedLine]:
        tenants, modes = [tenant for tenant, _ in scopes], [mode for _, mode in scopes]
        first, end = month_of(day)
        found = await self._link.fetch(QUERIES["accepted"], self.worker_id, tenants, modes, day, first, end)
        return [
            AcceptedLine(
                row["tenant"],
                row["mode"],
                row["own"],
                (row["day_messages"], row["day_segments"], row["day_micros"]),
                (row["month_messages"], row["month_segments"], row["month_micros"]),
                row["day_cost"],
                row["month_cost"],
            )
            for row in found
        ]

    async def take_nonce(self, hash: bytes, now: datetime, until: datetime) -> bool:
        return bool(await self._link.fetch(QUERIES["take_nonce"], hash, now, until))

    # --- housekeeping
    async def workers(self) -> list[WorkerRow]:
        rows = await self._link.fetch(QUERIES["workers"], self._clock.now() - DEAD_WORKERS_SHOWN)
        return [WorkerRow(**row) for row in rows]

    async def announce(self, control: str) -> None:
        await self._link.fetch(QUERIES["announce"], self.worker_id, control)

    async def housekeep(self, now: datetime, messages_days: int) -> list[str]:
        connection = await self._link.open(timeout_s=HOUSEKEEPING_TIMEOUT_S)
        try:
            await ensure_days(connection, days_ahead(now.date()))
            if await connection.fetchval("SELECT pg_try_advisory_lock($1)", _DROPPING):
                await self._drop_old_days(connection, now, messages_days)
        except (asyncpg.PostgresError, *LOST) as exc:
            raise translate(exc) from None
        finally:
            connection.terminate()
        while len(await self._link.fetch(QUERIES["purge_idempotency"], now - IDEMPOTENCY_KEPT, PURGE_SLICE)):
            pass
        orphans = await self._link.fetch(QUERIES["purge_parked"], now - PARKED_KEPT)
        await self._link.fetch(QUERIES["purge_errands"], now - PARKED_KEPT)
        await self._link.fetch(QUERIES["purge_handovers"], now - HANDOVERS_KEPT)
        await self._link.fetch(QUERIES["purge_nonces"], now)
        oldest_inbound = now - timedelta(days=messages_days)
        await self._link.fetch(QUERIES["purge_inbound"], oldest_inbound)
        await self._link.fetch(QUERIES["purge_parts"], now - PARTS_KEPT)
        await self._link.fetch(
            QUERIES["purge_inbound_outbox"], "inb_" + ulid(int(oldest_inbound.timestamp() * 1000))[:10]
        )
        await self._link.fetch(QUERIES["erase_tenants"], now - timedelta(days=messages_days))
        await self._link.fetch(QUERIES["fold_usage"])
        await self._link.fetch(QUERIES["forget_workers"], now - WORKERS_KEPT)
        await self._link.fetch(QUERIES["forget_dead_batches"])
        return [receipt_from_json(row["receipt"]).carrier for row in orphans]

    async def _drop_old_days(self, connection: Any, now: datetime, messages_days: int) -> None:
        oldest_kept = (now - timedelta(days=messages_days)).date()
        oldest_ref = (now - REFS_KEPT).date()
        open_days: dict[date, bool] = {}
        for row in await connection.fetch(QUERIES["partitions"], list(PARTITIONED)):
            parent, name, day = row["parent"], row["name"], partition_day(row["name"])
            if day is None:
                continue
            if parent in BY_WRITE_DAY:
                if day >= oldest_ref:
                    continue
            elif parent in BY_ID_DAY:
                if day >= oldest_kept:
                    continue
                if day not in open_days:
                    first, end = _ids_of(day)
                    open_days[day] = await connection.fetchval(QUERIES["open_in_range"], first, end)
                    if not open_days[day]:
                        await connection.execute(QUERIES["purge_outbox"], first, end)
                if open_days[day]:
                    continue
            # Neither step locks readers or writers of the other days out.
            how = "FINALIZE" if row["detaching"] else "CONCURRENTLY"
            await connection.execute(f"ALTER TABLE {parent} DETACH PARTITION {name} {how}")
            await connection.execute(f"DROP TABLE {name}")


def _part_key(key: PartKey) -> tuple[str | None, str | None, int, int]:
    return storable(key.sender), storable(key.recipient), key.reference, key.total


def _outbox_item(row: Any) -> OutboxItem:
    return OutboxItem(**row, id=outbox_id(row["message_id"], row["seq"], row["target"]))


def _shift(at: datetime, by: timedelta) -> datetime:
    """Add, but stay where there are dates."""
    try:
        return at + by
    except OverflowError:
        return at


def _id_at(at: datetime) -> str:
    """Make the smallest message id of a moment."""
    return "msg_" + ulid(max(0, int(at.timestamp() * 1000)))[:10]


def _ids_of(day: date) -> tuple[str, str]:
    """Bound the ids of a day: from (inclusive), to (exclusive)."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return _id_at(start), _id_at(start + timedelta(days=1))


def _after_prefix(prefix: str) -> str | None:
    """Make the smallest text greater than every text with this prefix, by bytes; None when there is none."""
    while prefix:
        code = ord(prefix[-1]) + 1
        if code == 0xD800:
            code = 0xE000  # surrogates are no text
        if code <= 0x10FFFF:
            return prefix[:-1] + chr(code)
        prefix = prefix[:-1]
    return None


async def migrate(connect: Connect) -> list[str]:
    """Bring a database's schema up to date, for the command line.

    Returns:
        The names of the migrations applied now; empty when there was nothing to do.

    Raises:
        JournalAway: the database cannot be reached.
        SchemaRefused: its schema is not ours.
    """
    connection = await Link(connect, "hermes migrate").open()
    try:
        return await migrate_connection(connection)
    except (asyncpg.PostgresError, *LOST) as exc:
        raise JournalError(f"the migration failed ({type(exc).__name__}); nothing was changed") from None
    finally:
        connection.terminate()
