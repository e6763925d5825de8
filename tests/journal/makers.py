"""Messages, events and writes for the journal's tests, and a journal of either kind to write them to."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from hermes.domain.events import Event
from hermes.domain.message import Content, Message, Step, new_message_id
from hermes.journal.base import JournalError, Write, shard_of
from hermes.journal.memory import MemoryJournal
from hermes.journal.migrator import migrate_connection
from hermes.journal.postgres import PostgresJournal
from hermes.runtime.clock import SystemClock
from hermes.testing.database import SharedCluster, shared_cluster

_template: str | None = None
_workers = itertools.count(1)


class TurnableClock(SystemClock):
    """The machine's time, set forward or back by the test."""

    def __init__(self) -> None:
        self.offset = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.offset


async def template(cluster: SharedCluster) -> str:
    """A database with the schema in it, to be copied."""
    global _template
    if _template is None:
        kwargs = await cluster.create_database()
        connection = await asyncpg.connect(**kwargs)
        await migrate_connection(connection)
        await connection.close()
        _template = str(kwargs["database"])
    return _template


@contextlib.asynccontextmanager
async def database() -> AsyncIterator[dict[str, Any]]:
    cluster = await shared_cluster()
    async with cluster.database(template=await template(cluster)) as kwargs:
        yield kwargs


class Bench:
    """One database of either kind, and workers over it."""

    def __init__(self, kind: str, connect: dict[str, Any] | None) -> None:
        self.kind = kind
        self.connect = connect
        self.clock = TurnableClock()
        self.journals: list[MemoryJournal | PostgresJournal] = []

    async def worker(self, *, claim: bool = True, **options: Any) -> MemoryJournal | PostgresJournal:
        worker_id = f"worker-{next(_workers)}"
        journal: MemoryJournal | PostgresJournal
        if self.kind == "memory":
            first = next((j for j in self.journals if isinstance(j, MemoryJournal)), None)
            journal = (
                MemoryJournal(self.clock, worker_id=worker_id, **options) if first is None else first.peer(worker_id)
            )
        else:
            assert self.connect is not None
            journal = PostgresJournal(self.connect, worker_id=worker_id, clock=self.clock, **options)
        self.journals.append(journal)
        await journal.start()
        if claim:
            await journal.claim_shards()
        return journal

    async def end(self) -> None:
        for journal in self.journals:
            await journal.stop()


def message(at: datetime, **fields: Any) -> Message:
    defaults: dict[str, Any] = {
        "message_id": new_message_id(at),
        "tenant": "ten_1",
        "to": {"phone": "+4520123456"},
        "cascade": (Step("sms", 60.0, "delivered"),),
        "content": Content(text="Hi"),
        "created_at": at,
        "expires_at": at + timedelta(hours=72),
    }
    return Message(**{**defaults, **fields})


def in_shard(shard: int, make: Callable[[], Message]) -> Message:
    """A message of one shard."""
    while True:
        made = make()
        if shard_of(made.message_id) == shard:
            return made


def event(seq: int, at: datetime, type: str = "accepted", **data: Any) -> Event:
    return Event(seq, at, type, None if seq == 1 else 0, None if seq == 1 else 1, data)


def accept(made: Message, **fields: Any) -> Write:
    """The first write of a message."""
    events = [event(1, made.created_at)]
    return Write(made.message_id, made.tenant, events, message=made, **fields)


def close(made: Message, seq: int = 2, status: str = "delivered", **fields: Any) -> Write:
    events = [event(seq, made.created_at + timedelta(seconds=seq), status)]
    return Write(made.message_id, made.tenant, events, status=status, **fields)


class Outcome:
    """Collects what `done` is told; awaiting it waits for that."""

    def __init__(self) -> None:
        self._future: asyncio.Future[JournalError | None] = asyncio.get_running_loop().create_future()

    def __call__(self, error: JournalError | None) -> None:
        assert not self._future.done(), "done was called twice"
        self._future.set_result(error)

    @property
    def told(self) -> bool:
        return self._future.done()

    def __await__(self) -> Any:
        return asyncio.wait_for(asyncio.shield(self._future), 20.0).__await__()


def put(journal: Any, write: Write, **options: Any) -> Outcome:
    outcome = Outcome()
    journal.append(write, outcome, **options)
    return outcome


async def store(journal: Any, *writes: Write) -> None:
    """Write and insist that all went well."""
    outcomes = [put(journal, write) for write in writes]
    for outcome in outcomes:
        error = await outcome
        assert error is None, error


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait for something that other processes or connections bring about."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - nothing could set an event
            await asyncio.sleep(0.01)
