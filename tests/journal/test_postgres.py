"""What only a real server can show: fences, lost connections, hangs, kills, plans, partitions, migrations."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from hermes.domain.events import Event
from hermes.domain.message import Content, Message, new_message_id
from hermes.journal import link, migrator, process, writer
from hermes.journal.base import (
    SHARDS,
    CarrierRef,
    Conflict,
    Fenced,
    IdempotencyRecord,
    JournalAway,
    JournalError,
    MessageQuery,
    OutboxEntry,
    SecretDiffers,
    Write,
    WriteRefused,
    shard_of,
)
from hermes.journal.embedded import EmbeddedPostgres
from hermes.journal.link import Link
from hermes.journal.migrator import SchemaRefused
from hermes.journal.partitions import PARTITIONED, ensure_days, partition_day, partition_name
from hermes.journal.postgres import PostgresJournal, migrate
from hermes.journal.postgres_workers import CLAIMING
from hermes.journal.queries import QUERIES
from hermes.journal.writer import ENOUGH, Batch
from hermes.runtime.clock import SystemClock
from hermes.testing.database import roomy_memory, shared_cluster
from tests.journal.makers import Bench, accept, close, database, message, put, store, until

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with database() as connect:
        made = Bench("postgres", connect)
        yield made
        await made.end()


@pytest.fixture
async def journal(bench: Bench) -> Any:
    return await bench.worker()


@pytest.fixture
def now(bench: Bench) -> datetime:
    return bench.clock.now()


@pytest.fixture
async def admin(bench: Bench) -> AsyncIterator[Any]:
    """A connection of our own beside the journal's."""
    assert bench.connect is not None
    connection = await asyncpg.connect(**bench.connect)
    yield connection
    await connection.close()


async def backends(admin: Any, query: str) -> list[int]:
    rows = await admin.fetch(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE $1 "
        "AND pid <> pg_backend_pid()",
        query,
    )
    return [row["pid"] for row in rows]


async def waiting_for_lock(admin: Any, query: str) -> bool:
    return bool(
        await admin.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1 "
            "AND datname = current_database()",
            query,
        )
    )


class Blocker:
    """Stops the next batch half-way, when it has its fence: it holds a row the batch wants to write."""

    def __init__(self, connect: dict[str, Any]) -> None:
        self._connect = connect

    async def stop_at(self, made: Message) -> Write:
        """Return the write that will be stopped."""
        self._connection = await asyncpg.connect(**self._connect)
        self._transaction = self._connection.transaction()
        await self._transaction.start()
        await self._connection.execute(
            "INSERT INTO outbox (message_id, seq, target, shard, tenant, type, due, created_at) "
            "VALUES ($1, 1, 'callback', 0, '', '', now(), now())",
            made.message_id,
        )
        return accept(made, outbox=[OutboxEntry(1, "callback", "t", made.created_at)])

    async def release(self) -> None:
        await self._transaction.rollback()
        await self._connection.close()


@pytest.fixture
def blocker(bench: Bench) -> Blocker:
    assert bench.connect is not None
    return Blocker(bench.connect)


BATCH = "%alive AS MATERIALIZED%"


async def until_waiting(admin: Any, query: str) -> None:
    async with asyncio.timeout(10):
        while not await waiting_for_lock(admin, query):  # noqa: ASYNC110 - another process brings it about
            await asyncio.sleep(0.01)


# --- the fence
async def test_a_worker_declared_dead_never_commits_again(journal, admin, now):
    fenced: list[bool] = []
    journal.on_fenced(lambda: fenced.append(True))
    await admin.execute("UPDATE worker SET dead = true, dead_at = now()")
    mades = [message(now) for _ in range(3)]
    outcomes = [put(journal, accept(made)) for made in mades]
    assert [type(await outcome) for outcome in outcomes] == [Fenced] * 3
    assert await journal.load([made.message_id for made in mades]) == []
    assert isinstance(await put(journal, accept(message(now))), Fenced)
    assert fenced == [True]
    assert await admin.fetchval("SELECT count(*) FROM batch") == 0


async def test_a_heartbeat_finds_out_that_its_worker_is_dead(bench, admin):
    journal = await bench.worker(heartbeat_s=0.01)
    fenced = asyncio.Event()
    journal.on_fenced(fenced.set)
    await admin.execute("UPDATE worker SET dead = true, dead_at = now()")
    await asyncio.wait_for(fenced.wait(), 10)


async def test_a_heartbeat_extends_the_lease(bench, admin):
    journal = await bench.worker(heartbeat_s=0.01)
    first = await admin.fetchval("SELECT lease_until FROM worker")
    async with asyncio.timeout(10):
        while await admin.fetchval("SELECT lease_until FROM worker") == first:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert journal.available


async def test_the_taker_waits_for_the_batch_in_flight(bench, journal, admin, now, blocker):
    """Its batch was sent before it was declared dead: it is committed before the shards are taken."""
    made = message(now)
    outcome = put(journal, await blocker.stop_at(made))
    await until_waiting(admin, BATCH)

    taker = await bench.worker(claim=False)
    declared = asyncio.create_task(taker._link.fetch(QUERIES["declare_dead"], journal.worker_id, True))
    await until_waiting(admin, "%UPDATE worker SET dead%")
    assert not declared.done()
    await blocker.release()
    await declared
    assert await outcome is None
    assert len(await taker.claim_shards()) == SHARDS
    assert len(await taker.load([made.message_id])) == 1
    assert isinstance(await put(journal, accept(message(now))), Fenced)


async def test_a_lapsed_lease_alone_stops_nobody_until_somebody_takes_over(bench, journal, admin, now):
    await admin.execute("UPDATE worker SET lease_until = now() - interval '1 hour', host = 'elsewhere'")
    await store(journal, accept(message(now)))
    before = bench.clock.now()
    other = await bench.worker(claim=False)
    claimed = await other.claim_shards()
    assert len(claimed) == SHARDS
    assert all(at >= before for at in claimed.values())  # it may have acted until just now
    assert isinstance(await put(journal, accept(message(now))), Fenced)


async def test_a_living_worker_of_another_host_is_left_alone(bench, journal, admin):
    await admin.execute("UPDATE worker SET host = 'elsewhere', pid = 1, process_started_at = 'never'")
    other = await bench.worker(claim=False)
    assert await other.claim_shards() == {}


async def test_a_vanished_process_of_this_host_is_dead_at_once(bench, admin, now):
    """Its lease still runs: what was not due by now was not sent, and nobody waits for the lease."""
    await bench.worker()
    await admin.execute("UPDATE worker SET process_started_at = '1'")  # its pid belongs to another process now
    other = await bench.worker(claim=False)
    claimed = await other.claim_shards()
    assert len(claimed) == SHARDS
    assert all(now <= at <= bench.clock.now() for at in claimed.values())


async def test_a_vanished_process_may_have_acted_after_its_lease_had_ended(bench, admin, now):
    """The database was away whenever it wanted to extend it; it went on with what it had."""
    await bench.worker()
    await admin.execute("UPDATE worker SET process_started_at = '1', lease_until = now() - interval '1 hour'")
    before = bench.clock.now()
    other = await bench.worker(claim=False)
    claimed = await other.claim_shards()
    assert len(claimed) == SHARDS
    assert all(at >= before for at in claimed.values())


async def test_a_worker_that_was_taken_for_dead_is_told_when_it_claims(bench, journal, admin):
    await admin.execute("UPDATE worker SET dead = true, dead_at = now()")
    journal._shards.clear()
    with pytest.raises(Fenced):
        await journal.claim_shards()


async def test_many_workers_claim_at_once_without_sharing_a_shard(bench):
    workers = [await bench.worker(claim=False) for _ in range(4)]
    claims = await asyncio.gather(*(worker.claim_shards(16) for worker in workers))
    assert sorted(shard for claim in claims for shard in claim) == list(range(SHARDS))


async def test_a_process_that_is_stopped_while_it_claims_holds_up_nobody_for_long(bench, journal, monkeypatch):
    monkeypatch.setattr(link, "PAUSE_S", 0.2)
    stopped = await journal._link.open()
    await stopped.execute("BEGIN")
    await stopped.execute("SELECT pg_advisory_xact_lock($1)", CLAIMING)
    await stopped.execute("SELECT FROM shard FOR UPDATE")
    await journal.stop()
    other = await bench.worker(claim=False)
    assert len(await other.claim_shards()) == SHARDS  # a statement that waits gives up after 15 s
    stopped.terminate()


async def test_a_worker_id_is_used_once(bench, journal):
    again = PostgresJournal(bench.connect, worker_id=journal.worker_id, clock=bench.clock)
    with pytest.raises(JournalError):
        await again.start()
    await again.stop()


def test_a_process_is_known_by_pid_and_start():
    started = process.started_at(os.getpid())
    assert started
    assert not process.is_gone(os.getpid(), started)
    assert process.is_gone(os.getpid(), started + "0")
    child = subprocess.Popen([sys.executable, "-c", ""])
    started = process.started_at(child.pid) or "0"
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie now
    assert process.is_gone(child.pid, started)
    child.wait()
    assert process.is_gone(child.pid, started)


# --- lost connections, truthful outcomes
async def test_a_writer_cut_in_mid_batch_writes_it_once(journal, admin, now, blocker):
    made = message(now)
    outcome = put(journal, await blocker.stop_at(made))
    parked = put(journal, Write(made.message_id, "ten_1", [], due=now))
    await until_waiting(admin, BATCH)
    for pid in await backends(admin, BATCH):
        await admin.execute("SELECT pg_terminate_backend($1)", pid)
    await blocker.release()
    assert await outcome is None
    assert await parked is None
    assert await admin.fetchval("SELECT count(*) FROM event") == 1
    assert await admin.fetchval("SELECT count(*) FROM outbox") == 1


async def test_a_batch_that_was_committed_unheard_is_not_written_again(journal, admin, now):
    """The connection is cut after the commit and before its answer: the outcome is looked up."""
    writer = journal._writer
    statement = writer._statement

    class Deaf:
        """Passes the first batch on, then loses the connection with the answer."""

        async def fetchval(self, *arguments: Any) -> Any:
            assert await statement.fetchval(*arguments)
            writer._connection.terminate()
            raise ConnectionResetError

    writer._statement = Deaf()
    made = message(now)
    outcomes = [put(journal, accept(made)), put(journal, Write(made.message_id, "ten_1", [], due=now))]
    assert [await outcome for outcome in outcomes] == [None, None]
    assert await admin.fetchval("SELECT count(*) FROM batch") == 1
    assert await admin.fetchval("SELECT count(*) FROM event") == 1
    await store(journal, close(made))


async def test_an_old_copy_still_at_work_makes_the_new_one_wait_and_counts(journal, admin, now, blocker):
    """The client gave up; the server goes on with the batch. Whichever copy wins, it is written once."""
    made = message(now)
    outcome = put(journal, await blocker.stop_at(made))
    await until_waiting(admin, BATCH)
    writer = journal._writer
    protocol_socket = writer._connection._transport.get_extra_info("socket")
    keep = protocol_socket.dup()  # the server sees no end of the connection and works on
    writer._connection.terminate()
    async with asyncio.timeout(10):
        while len(await backends(admin, BATCH)) < 2:  # noqa: ASYNC110 - another process brings it about
            await asyncio.sleep(0.01)
    assert not outcome.told
    await blocker.release()
    assert await outcome is None
    keep.close()
    assert await admin.fetchval("SELECT count(*) FROM event") == 1
    assert await admin.fetchval("SELECT count(*) FROM batch") == 1


async def test_a_conflict_is_still_told_after_a_lost_connection(journal, now):
    made = message(now)
    await store(journal, accept(made))
    journal._writer._connection.terminate()
    good = message(now)
    outcomes = [put(journal, accept(made)), put(journal, accept(good))]
    assert isinstance(await outcomes[0], Conflict)
    assert await outcomes[1] is None


async def test_cut_readers_answer_away_and_the_next_read_works(journal, admin, now):
    made = message(now)
    await store(journal, accept(made))
    assert await journal.load([made.message_id])
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with contextlib.suppress(JournalAway):
        await journal.load([made.message_id])
    await until(lambda: journal.available)
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(JournalAway):
                if await journal.load([made.message_id]):
                    break
            await asyncio.sleep(0.01)
    await store(journal, close(made))


async def test_reads_tell_nothing_of_the_values(journal):
    with pytest.raises(JournalError) as caught:
        await journal._link.fetch("SELECT $1::text::integer", "+4520123456")
    assert "4520123456" not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


async def test_conflicts_tell_nothing_of_the_values(journal, now):
    made = message(now, reference="secret-1")
    await store(journal, accept(made))
    error = await put(journal, accept(made))
    assert isinstance(error, Conflict)
    assert made.message_id not in str(error)
    assert "secret" not in str(error)


# --- a server that dies, hangs and comes back
@pytest.fixture(scope="module")
def server_folder() -> Any:
    folder = Path(tempfile.mkdtemp(prefix="hermes-test-", dir=roomy_memory()))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def server(server_folder: Path) -> AsyncIterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(server_folder, settings={"full_page_writes": "off"})
    await server.start()
    yield server
    await server.stop()


@contextlib.asynccontextmanager
async def node(server: EmbeddedPostgres) -> AsyncIterator[tuple[Any, list[bool]]]:
    bench = Bench("postgres", server.connect_kwargs())
    journal = await bench.worker(claim=False)
    changes: list[bool] = []
    journal.on_change(changes.append)
    yield journal, changes
    await bench.end()


def heard(changes: list[bool], what: bool, since: int) -> Callable[[], bool]:
    return lambda: what in changes[since:]


def longer(told: list[str], count: int) -> Callable[[], bool]:
    return lambda: len(told) > count


async def timed(condition: Callable[[], bool]) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await until(condition, 20.0)
    return loop.time() - began


@pytest.mark.slow
async def test_kill_9_of_the_server_loses_nothing_that_was_told_and_writes_nothing_twice(server):
    async with node(server) as (journal, changes):
        watching = asyncio.create_task(server.watch())
        now = journal._clock.now()
        told: list[str] = []
        errors: list[Any] = []
        sent: list[str] = []
        stop = False

        async def traffic() -> None:
            while not stop:
                made = message(journal._clock.now())

                def done(error: Any, id_: str = made.message_id) -> None:
                    (told.append(id_) if error is None else errors.append(error))

                sent.append(made.message_id)
                journal.append(accept(made), done)
                await asyncio.sleep(0.001)

        sending = asyncio.create_task(traffic())
        await until(lambda: len(told) > 50)
        for _ in range(2):
            before = len(changes)
            count = len(told)
            os.kill(server.pid, signal.SIGKILL)
            assert await timed(heard(changes, False, before)) < 1.0
            with pytest.raises(JournalAway):
                put(journal, accept(message(now)), refusable=True)
            with pytest.raises(JournalAway):
                await journal.load([told[0]])
            assert await timed(heard(changes, True, before)) < 15.0
            await until(longer(told, count + 50))
        stop = True
        await sending
        await until(lambda: journal.queued == 0)
        assert errors == []
        assert told == sent  # all of it, in order
        found = [stored for stored in await journal.load(sent) if len(stored.events) == 1]
        assert len(found) == len(sent)
        watching.cancel()


@pytest.mark.slow
async def test_a_server_that_hangs_is_away_within_a_second_and_nothing_is_lost(server):
    async with node(server) as (journal, _):
        now = journal._clock.now()
        mades = [message(now) for _ in range(3)]
        await store(journal, accept(mades[0]))
        pids = [int(pid) for pid in subprocess.check_output(["pgrep", "-P", str(server.pid)]).split()]
        for pid in [server.pid, *pids]:
            os.kill(pid, signal.SIGSTOP)
        try:
            outcome = put(journal, accept(mades[1]))
            reading = asyncio.create_task(journal.load([mades[0].message_id]))
            assert await timed(lambda: not journal.available) < 1.0
            with pytest.raises(JournalAway):
                await reading
            assert not outcome.told
            waiting = put(journal, accept(mades[2]))
        finally:
            for pid in [server.pid, *pids]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        assert await outcome is None
        assert await waiting is None
        await until(lambda: journal.available)
        stored = await journal.load([made.message_id for made in mades])
        assert [len(one.events) for one in stored] == [1, 1, 1]


async def test_a_start_without_a_database_says_so(tmp_path):
    journal = PostgresJournal({"host": str(tmp_path), "user": "x"}, worker_id="w", clock=Bench("x", None).clock)
    with pytest.raises(JournalAway):
        await journal.start()
    assert not journal.available
    with pytest.raises(JournalAway):
        await journal.load([new_message_id()])
    await journal.stop()


async def test_a_database_that_cannot_write_is_away_and_the_write_waits(bench, journal, admin, now):
    """Disk full, read-only: it answers, but it does not work. Here: somebody renamed a table."""
    await admin.execute("ALTER TABLE event RENAME TO event_gone")
    outcome = put(journal, accept(message(now)))
    await until(lambda: not journal.available)
    assert not outcome.told
    await admin.execute("ALTER TABLE event_gone RENAME TO event")
    assert await outcome is None
    await until(lambda: journal.available)


# --- batches
async def test_a_thousand_writes_with_refused_ones_among_them_keep_their_order(journal, now):
    known = [message(now) for _ in range(4)]
    await store(journal, *map(accept, known))
    order: list[int] = []
    refused: list[int] = []
    for n in range(1000):
        made = known[n // 250] if n % 250 == 17 else message(now)

        def done(error: Any, n: int = n) -> None:
            order.append(n)
            if error is not None:
                refused.append(n)

        journal.append(accept(made), done)
    await until(lambda: len(order) == 1000)
    assert refused == [17, 267, 517, 767]
    assert order == sorted(order)


async def test_a_batch_that_is_too_long_is_not_written_out_to_its_end(now, monkeypatch):
    monkeypatch.setattr(writer, "BYTES_LIMIT", 1000)
    long = [(accept(message(now)), None)] * writer.AT_ONCE
    endless = (Write(new_message_id(now), "ten_1", [Event(1, now, "t", None, None, {"what": object()})]), None)
    with pytest.raises(writer._TooLong):
        Batch([*long, endless], now)
    assert Batch(long[:1], now).days


async def test_a_name_that_would_tear_its_row_apart_is_refused_alone(journal, now):
    odd = ["a,b", "a\\b", 'a"b', "a\nb", "a\0b"]
    names = [*odd, "]", "null", "fine"]
    outcomes = [put(journal, accept(message(now, tenant=name, reference="\\u0000"))) for name in names]
    told = [await outcome for outcome in outcomes]
    assert [type(error) for error in told] == [WriteRefused] * len(odd) + [type(None)] * 3
    for tenant in ("]", "null", "fine"):
        page = await journal.list_messages(MessageQuery(tenant=tenant, reference="\\u0000"))
        assert [stored.message.tenant for stored in page] == [tenant]


async def test_messages_of_several_days_in_one_batch_lie_in_their_days(journal, admin, now):
    mades = [message(now - n * DAY) for n in (1, 0, 2, 1)]
    await ensure_days(admin, {made.created_at.date() for made in mades})
    await store(journal, *map(accept, mades), *map(close, mades))
    for table in ("message", "event", "closed_message"):
        rows = await admin.fetch(f"SELECT DISTINCT message_id, day FROM {table}")
        assert {row["message_id"]: row["day"] for row in rows} == {m.message_id: m.created_at.date() for m in mades}


async def test_a_writer_that_was_given_nothing_yet_holds_no_lock(journal, admin):
    assert await admin.fetch("SELECT pid FROM pg_locks WHERE relation = 'event'::regclass") == []


async def test_enough_writes_end_the_rest_after_a_commit_and_fewer_do_not(bench, now):
    journal = await bench.worker(batch_window_ms=300_000.0)
    await store(journal, accept(message(now)))
    few = [put(journal, accept(message(now))) for _ in range(ENOUGH - 1)]
    await journal.load([])  # a round trip to the database: the writer has had its turn
    assert journal.queued == ENOUGH - 1
    async with asyncio.timeout(10):  # of a rest of ten minutes
        await put(journal, accept(message(now)))
        assert [await outcome for outcome in few] == [None] * len(few)


async def test_bodies_of_many_megabytes_go_in_several_statements(journal, now):
    mades = [message(now, content=Content(text="x" * 250_000)) for _ in range(150)]
    await store(journal, *map(accept, mades))
    stored = await journal.load([made.message_id for made in mades[::50]])
    assert [one.message for one in stored] == mades[::50]


async def test_a_message_of_an_unprepared_day_gets_its_partition(journal, admin, now):
    made = message(now - 30 * DAY)
    await store(journal, accept(made))
    name = partition_name("event", made.created_at.date())
    assert await admin.fetchval(f"SELECT count(*) FROM {name}") == 1


# --- partitions
async def test_partitions_are_made_ahead_once_by_many_at_a_time(bench, admin, now):
    days = [now.date() + n * DAY for n in range(10)]
    assert bench.connect is not None
    connections = [await asyncpg.connect(**bench.connect) for _ in range(3)]
    await asyncio.gather(*(ensure_days(connection, days) for connection in connections))
    for connection in connections:
        await connection.close()
    rows = await admin.fetch(QUERIES["partitions"], list(PARTITIONED))
    assert len(rows) == 10 * len(PARTITIONED)
    assert {partition_day(row["name"]) for row in rows} == set(days)


async def test_making_partitions_waits_for_no_reader(bench, admin, now):
    async with admin.transaction():
        await admin.fetch("SELECT * FROM event")  # holds its lock until the end
        assert bench.connect is not None
        connection = await asyncpg.connect(**bench.connect)
        await asyncio.wait_for(ensure_days(connection, [now.date()]), 5)
        await connection.close()


async def test_refs_are_kept_ten_days(bench, admin, now):
    journal = await bench.worker()
    mades = []
    for days in (12, 10, 0):
        bench.clock.offset = -days * DAY
        mades.append(message(now))
        await store(journal, accept(mades[-1], refs=[CarrierRef("mock", f"r{days}", 0, 1, 0)]))
    bench.clock.offset = timedelta(0)
    await journal.housekeep(now, 30)
    found = await journal.find_refs([("mock", "r12"), ("mock", "r10"), ("mock", "r0")])
    assert [target is not None for target in found] == [False, True, True]


async def test_dropping_old_days_stops_no_writer(bench, admin, now):
    journal = await bench.worker()
    bench.clock.offset = -40 * DAY
    old = message(now - 40 * DAY)
    await store(journal, accept(old), close(old))
    bench.clock.offset = timedelta(0)
    assert bench.connect is not None
    reader = await asyncpg.connect(**bench.connect)
    async with reader.transaction():
        await reader.fetch("SELECT * FROM event")  # it is slow: dropping waits for it, writing does not
        keeping = asyncio.create_task(journal.housekeep(now, 30))
        await until_waiting(admin, "%DETACH PARTITION%")
        await store(journal, *(accept(message(now)) for _ in range(10)))
        assert not keeping.done()
    await reader.close()
    await keeping
    rows = await admin.fetch(QUERIES["partitions"], list(PARTITIONED))
    days = [partition_day(row["name"]) for row in rows]
    assert all(day is not None and day > (now - 30 * DAY).date() for day in days)


# --- plans
async def explain(connection: Any, query: str, *arguments: Any) -> str:
    rows = await connection.fetch("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) " + query, *arguments)
    return "\n".join(row[0] for row in rows)


async def test_hot_statements_use_keys_and_one_partition_even_when_planned_on_empty_tables(bench, journal, now):
    assert bench.connect is not None
    connection = await Link(bench.connect, "plans").open()
    try:
        made = message(now, reference="r")
        day = made.created_at.date()
        name = f"{day:%Y%m%d}"
        entries = [
            (accept(made), None),
            (close(message(now), outbox=[OutboxEntry(2, "callback", "t", now)]), None),
            (Write(message(now).message_id, "t", [], due=now), None),
        ]
        batch = await explain(connection, QUERIES["write_batch"], journal.worker_id, 99, *Batch(entries, now).arguments)
        assert "Seq Scan" not in batch, batch
        assert "Index Scan using open_message_pkey" in batch
        assert "Hash Join" not in batch and "Merge Join" not in batch

        id_ = made.message_id
        ids, days, shards = [id_], [day], [shard_of(id_)]
        for query, arguments in {
            "load_messages": (ids, days, shards),
            "load_events": (ids, days),
            "hot_page": (1, "", 100),
            "due_page": (list(range(SHARDS)), now, 100, []),
            "find_refs": (["r"], ["c"]),
            "outbox_due": ("t", now, 10, [1]),
            "outbox_due_all": (now, 10, [1]),
            "outbox_tenants": ([1],),
            "dead_letters": ("t", None, None, None, 10),
            "find_idempotent": ("t", "k", now),
            "open_in_range": ("a", "b"),
        }.items():
            plan = await explain(connection, QUERIES[query], *arguments)
            assert "Seq Scan" not in plan, (query, plan)
            if query.startswith("load"):  # the other days' partitions are not looked at
                touched = set(re.findall(r"Scan using \w+ on (\w+_\d{8})(?: \w+)? \(actual", plan))
                assert all(partition.endswith(name) for partition in touched), plan
        plan = await explain(connection, QUERIES["find_refs"], ["r"], ["c"])
        assert "Sort" not in plan, plan
        plan = await explain(connection, QUERIES["due_page"], list(range(SHARDS)), now, 100, [])
        assert "Index Scan using open_message_due" in plan
        assert "Sort" not in plan, plan
    finally:
        connection.terminate()


async def test_lists_read_an_index_in_its_order(bench, journal, admin, now):
    values = ",".join(
        f"('{new_message_id(now - timedelta(seconds=n))}', '{(now - timedelta(seconds=n)).date()}', "
        f"'ten_{n % 20}', 'live', 'order-{n}', 2, now(), '{{}}')"
        for n in range(5000)
    )
    await ensure_days(admin, [now.date() - DAY])
    columns = "(message_id, day, tenant, mode, reference, channels, created_at, body)"
    await admin.execute(f"INSERT INTO message {columns} VALUES {values}")
    await admin.execute("ANALYZE message")
    assert bench.connect is not None
    reader = await Link(bench.connect, "plans").open()
    for query, index in (
        (MessageQuery(tenant="ten_1", limit=10), "tenant_message_id_idx"),
        (
            MessageQuery(tenant="ten_1", before_id=new_message_id(now), statuses=["open"], limit=10),
            "tenant_m",
        ),
        (MessageQuery(tenant="ten_1", reference="order-1"), "reference"),
        (MessageQuery(tenant="ten_1", reference_prefix="order-17"), "reference"),
        (MessageQuery(limit=10), "pkey"),
    ):
        sql, arguments = PostgresJournal.list_sql(query)
        async with reader.transaction():
            await reader.execute("SET LOCAL plan_cache_mode = force_custom_plan")
            plan = await explain(reader, sql, *arguments)
        assert index in plan, plan
        assert not re.search(r"Seq Scan|Hash Join|Hash \w+ Join|Merge Join", plan), plan
    reader.terminate()
    sql, arguments = PostgresJournal.list_sql(MessageQuery(tenant="ten_1", created_after=now, limit=10))
    plan = await explain(admin, sql, *arguments)
    assert f"{now.date() - DAY:%Y%m%d}" not in plan or now.hour == 0, plan


# --- migrations
async def test_migrations_apply_once_from_empty_and_in_parallel():
    cluster = await shared_cluster()
    async with cluster.database() as connect:
        done = await asyncio.gather(*(migrate(connect) for _ in range(3)))
        shipped = [name for _, name, _ in migrator.shipped()]
        assert sorted(done) == [[], [], shipped]
        assert await migrate(connect) == []
        connection = await asyncpg.connect(**connect)
        rows = await connection.fetch("SELECT version, name, length(checksum) FROM schema_version")
        await connection.close()
        assert [tuple(row) for row in rows] == [(number, name, 64) for number, name, _ in migrator.shipped()]


async def test_a_newer_schema_refuses_the_start_and_says_what_to_do(bench, admin):
    await admin.execute("INSERT INTO schema_version (version, name, checksum) VALUES (9999, '9999_x.sql', '')")
    journal = PostgresJournal(bench.connect, worker_id="w", clock=bench.clock)
    with pytest.raises(SchemaRefused, match=r"9999.*newer Hermes"):
        await journal.start()
    await journal.stop()


async def test_a_changed_migration_refuses_the_start(bench, admin):
    await admin.execute("UPDATE schema_version SET checksum = 'x'")
    assert bench.connect is not None
    with pytest.raises(SchemaRefused, match="must not be changed"):
        await migrate(bench.connect)


async def test_a_failing_migration_changes_nothing(monkeypatch):
    bad = [*migrator.shipped(), (9998, "9998_bad.sql", "CREATE TABLE half (id int); SELECT 1/0")]
    monkeypatch.setattr(migrator, "shipped", lambda: bad)
    cluster = await shared_cluster()
    async with cluster.database() as connect:
        with pytest.raises(JournalError):
            await migrate(connect)
        connection = await asyncpg.connect(**connect)
        assert await connection.fetchval("SELECT to_regclass('schema_version')") is None
        await connection.close()


# --- connections
async def test_commits_are_synchronous_whatever_the_server_says(journal):
    """The tests' server has synchronous_commit = off: the promise of `append` does not hang on that."""
    assert await journal._writer._connection.fetchval("SHOW synchronous_commit") == "on"


async def test_a_dsn_and_a_function_connect_too(bench):
    cluster = await shared_cluster()
    assert bench.connect is not None
    dsn = cluster.server.dsn().replace("/hermes?", f"/{bench.connect['database']}?")
    for connect in (dsn, lambda: dsn):
        connection = await Link(connect, "test").open()
        assert await connection.fetchval("SELECT current_database()") == bench.connect["database"]
        connection.terminate()


async def test_more_readers_than_connections_take_turns(journal, now):
    made = message(now)
    await store(journal, accept(made))
    pages = await asyncio.gather(*(journal.load([made.message_id]) for _ in range(50)))
    assert all(len(page) == 1 for page in pages)
    assert len(journal._link._all) <= 4


async def test_an_idempotency_conflict_is_told_apart_from_a_fence(journal, admin, now):
    record = IdempotencyRecord("k", b"", "{}")
    await store(journal, accept(message(now), idempotency=record))
    await admin.execute("UPDATE worker SET dead = true, dead_at = now()")
    assert isinstance(await put(journal, accept(message(now), idempotency=record)), Fenced)


def test_the_monitor_finds_a_hang_within_a_second():
    assert link.PING_EVERY_S + link.PING_TIMEOUT_S < 1.0


async def test_a_worker_with_another_secret_is_refused_while_one_lives_that_has_the_first(bench):
    def worker(name, secret, **options):
        return PostgresJournal(bench.connect, worker_id=name, clock=SystemClock(), secret_digest=secret, **options)

    first, second, other = worker("w1", "s1"), worker("w2", "s1"), worker("w3", "s2", host="elsewhere 1 2")
    await first.start()
    await second.start()
    with pytest.raises(SecretDiffers):
        await other.start()
    await first.stop()
    await second.stop()
    await other.start()
    with pytest.raises(SecretDiffers) as refused:
        await worker("w4", "s1").start()
    assert refused.value.host == "elsewhere"
    await other.stop()
