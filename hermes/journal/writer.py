"""The group-commit writer: one connection, one batch in flight, one statement and one fsync for all of it.

Invariants:
- Writes are committed in the order of `append`; the next batch is taken when the last one's outcome is known.
- A batch carries a number and leaves it in table `batch`, so after a lost connection the outcome is read and
  not guessed; if the server still works on the old copy when the new one comes, the number lets only one in.
- A batch the database refuses is halved until the refused writes are alone; the others are committed, in
  order. Later writes of a message whose write was refused are refused too: they build on it.
- No living worker row, no write (`Fenced`): checked and locked inside the statement.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from itertools import islice
from typing import Any, Final

import asyncpg

from hermes.domain.message import Message
from hermes.journal.base import (
    KEEP,
    Conflict,
    Done,
    Fenced,
    JournalAway,
    JournalError,
    Write,
    WriteRefused,
    shard_of,
)
from hermes.journal.link import BACK_OFF_S, CONNECT_TIMEOUT_S, LOST, Link, is_refusal, refusal
from hermes.journal.partitions import ensure_days
from hermes.journal.queries import QUERIES
from hermes.journal.rows import channel_mask, day_of_id, encode, encode_lines, recipient_of

BATCH_LIMIT: Final = 1000  # writes; encoding them keeps the event loop busy for 4 ms
BYTES_LIMIT: Final = 16 * 1024 * 1024  # of bodies and data; the server takes at most 1 GB as one text
AT_ONCE: Final = 16  # bodies or data written in one call; with more, too much is noticed late
STUCK_S: Final = 15.0  # a batch in flight for longer: look whether its connection is the reason
ENOUGH: Final = 64  # writes: with so many waiting, do not wait for more
STRANGEST_DAY: Final = timedelta(days=400)  # from now: a partition further away is a bug's, not a message's

_Entry = tuple[Write, Done | None]
_Row = tuple[Any, ...]
_WRITE_BATCH: Final = QUERIES["write_batch"]
_BATCH_IS_IN: Final = QUERIES["batch_is_in"]


class Batch:
    """The parameters of one statement, from $3 on: each table's rows as one text (`queries.sql` says how).

    Raises:
        _TooLong: take fewer writes.
        Exception: one of the writes cannot be encoded.
    """

    __slots__ = ("arguments", "days")

    def __init__(self, entries: Sequence[_Entry], now: datetime) -> None:
        messages: list[_Row] = []
        references: list[str | None] = []
        bodies: list[Message] = []
        events: list[_Row] = []
        data: list[dict[str, Any]] = []
        refs: list[_Row] = []
        ref_carriers: list[str] = []
        ref_texts: list[str] = []
        outbox: list[_Row] = []
        targets: list[str] = []
        types: list[str] = []
        payloads: list[str | None] = []
        answers: list[_Row] = []
        keys: list[str] = []
        responses: list[str] = []
        # One statement sees the tables as they were before it, so what touches one row twice is joined here.
        opened: dict[str, datetime | None] = {}
        closed: dict[str, tuple[str, date | None, str, datetime, int]] = {}
        parked: dict[str, datetime | None] = {}
        usage: dict[tuple[str, str, date, str, str, str], list[int]] = {}
        first_day: date | None = None
        day: date | None = None  # of the message in hand, where it is not the first one's
        days: set[date] = set()

        for write, _ in entries:
            message_id, message, status = write.message_id, write.message, write.status
            if write.events or message is not None or status is not None:
                of_id = day_of_id(message_id)
                if first_day is None:
                    first_day = of_id
                day = None if of_id == first_day else of_id
                days.add(of_id)
            if message is not None:
                mask = channel_mask(tuple([step.channel for step in message.cascade]))
                recipient = recipient_of(message.to)
                messages.append((message_id, day, message.tenant, message.mode, mask, message.created_at, recipient))
                references.append(message.reference)
                bodies.append(message)
                opened[message_id] = None
            for event in write.events:
                events.append((message_id, day, event.seq, event.at, event.type, event.step, event.attempt))
                data.append(event.data)
            for ref in write.refs:
                refs.append((message_id, ref.step, ref.attempt, ref.segment))
                ref_carriers.append(ref.carrier)
                ref_texts.append(ref.ref)
            for entry in write.outbox:
                outbox.append((message_id, entry.seq, shard_of(message_id), write.tenant, entry.due))
                targets.append(entry.target)
                types.append(entry.type)
                payloads.append(entry.payload)
            for delta in write.usage:
                key = (write.tenant, delta.mode, delta.day, delta.channel, delta.carrier, delta.status)
                line = usage.get(key)
                if line is None:
                    line = usage[key] = [0, 0, 0, 0]
                line[0] += delta.messages
                line[1] += delta.attempts
                line[2] += delta.segments
                line[3] += delta.cost_micros
            record = write.idempotency
            if record is not None:
                answers.append((write.tenant, record.request_hash))
                keys.append(record.key)
                responses.append(record.response)
            if status is not None:
                before = closed.get(message_id)
                at = before[3] if before is not None else write.events[-1].at if write.events else now
                closed[message_id] = (message_id, day, status, at, shard_of(message_id))
                opened.pop(message_id, None)
                parked.pop(message_id, None)
            elif write.due is not KEEP:
                if message_id in opened:
                    opened[message_id] = write.due
                elif message_id not in closed:
                    parked[message_id] = write.due

        self.days: Final = days
        room = BYTES_LIMIT if len(entries) > 1 else sys.maxsize
        body_lines = _json_lines(bodies, room)
        data_lines = _json_lines(data, room - len(body_lines))
        self.arguments: Final[list[Any]] = [
            *(now, first_day),
            *(_lines(messages), _texts(references), body_lines[:-1].decode() or None),
            _lines([(shard_of(message_id), message_id, due) for message_id, due in opened.items()]),
            *(_lines(events), data_lines[:-1].decode() or None),
            *(_lines(refs), _texts(ref_carriers), _texts(ref_texts)),
            *(_lines(outbox), _texts(targets), _texts(types), _texts(payloads)),
            *(_lines(answers), _texts(keys), _texts(responses)),
            _lines(list(closed.values())),
            _lines([(shard_of(message_id), message_id, due) for message_id, due in parked.items()]),
            _lines([(*line, *added) for line, added in usage.items()]),
        ]


def _lines(rows: list[_Row]) -> str | None:
    """Write a line a row, commas between its fields: what msgspec writes of them, without brackets and quotes.

    Raises:
        ValueError: a field holds what separates fields, or a backslash; no id and no name of ours does.
    """
    if not rows:
        return None
    text = encode_lines(rows)[1:-2].replace(b"]\n[", b"\n").replace(b'"', b"")
    if b"\\" in text or text.count(b",") != len(rows) * (len(rows[0]) - 1):
        raise ValueError("a field holds what separates fields")
    return text.decode()


def _json_lines(values: Sequence[Any], room: int) -> bytes:
    """Write values as JSON, a line each.

    Raises:
        _TooLong: more than `room` bytes; not all were written to learn it.
    """
    parts = []
    for n in range(0, len(values), AT_ONCE):
        parts.append(encode_lines(values[n : n + AT_ONCE]))
        room -= len(parts[-1])
        if room < 0:
            raise _TooLong
    return b"".join(parts)


def _texts(texts: Sequence[str | None]) -> str | None:
    """Write texts as a JSON array; nothing when there are none.

    Raises:
        ValueError: a NUL, which no text column can hold.
    """
    if texts.count(None) == len(texts):
        return None
    array = encode(texts)
    if b"\\u0000" in array and any("\0" in text for text in texts if text):
        raise ValueError("a text holds a NUL")
    return array.decode()


class _TooLong(Exception):
    """Too much text for one statement."""


class _Refused(Exception):
    """The database refused the batch; carries our translation."""

    def __init__(self, error: Conflict | WriteRefused) -> None:
        self.error: Final = error


class GroupCommitWriter:
    """See the module docstring.

    Args:
        now: the time that rows get which carry none of their own.
        window_s: how long a write waits for company, on average, while few are waiting.
        on_batch: told the size and the seconds of each commit (metrics).
    """

    def __init__(
        self,
        link: Link,
        worker_id: str,
        now: Callable[[], datetime],
        *,
        window_s: float,
        on_fenced: Callable[[], None],
        batch_limit: int = BATCH_LIMIT,
    ) -> None:
        self._link: Final = link
        self._worker_id: Final = worker_id
        self._now: Final = now
        self._window_s: Final = window_s
        self._batch_limit: Final = batch_limit
        self._on_fenced: Final = on_fenced
        self.on_batch: Callable[[int, float], None] | None = None
        self._queue: dict[int, _Entry] = {}  # by id(write), in order of append
        self._in_flight = 0
        self._resting = False
        self._wake: Final = asyncio.Event()
        self._connection: Any = None
        self._statement: Any = None
        self._task: asyncio.Task[None] | None = None
        self._ended: JournalError | None = None  # why nothing is taken any more
        self._n = 0
        self._since: float | None = None  # loop time at which the server got what it has not answered
        self.confirmed = 0  # number of the last batch whose outcome is known

    @property
    def queued(self) -> int:
        """Writes not yet committed, those in flight included."""
        return len(self._queue) + self._in_flight

    @property
    def fenced(self) -> bool:
        """True once this worker was found dead in the database."""
        return isinstance(self._ended, Fenced)

    # --- called from anywhere on the loop
    def append(self, write: Write, done: Done | None) -> None:
        """Queue a write."""
        if self._ended is not None:
            if done is not None:
                asyncio.get_running_loop().call_soon(done, self._ended)
            return
        key = id(write)
        if key in self._queue:
            raise ValueError("this very write is queued already")
        self._queue[key] = (write, done)
        if not self._in_flight and (not self._resting or len(self._queue) >= ENOUGH):
            self._wake.set()

    def withdraw(self, write: Write) -> bool:
        """Take a queued write back; False when it is no longer waiting."""
        return self._queue.pop(id(write), None) is not None

    def hang_up(self) -> None:
        """Cut the connection: the server hangs. The batch in flight is then looked up and redone."""
        if self._connection is not None:
            self._connection.terminate()

    # --- life
    async def start(self) -> None:
        """Connect and begin.

        Raises:
            JournalAway: the database cannot be reached now.
        """
        await self._open()
        self._task = asyncio.create_task(self._run(), name="journal-writer")

    async def drain(self, timeout_s: float) -> bool:
        """Wait until all that is queued is written; False when time ran out."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s
        while self.queued and self._ended is None:
            if loop.time() >= end:
                return False
            await asyncio.sleep(0.005)
        return True

    async def stop(self) -> None:
        """Stop writing. What still waits is told `Fenced`; the outcome of a batch in flight stays untold."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._end(Fenced("the journal is stopped"))
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def fence(self) -> None:
        """Stop for good: this worker was declared dead."""
        if self._ended is None:
            self._end(Fenced("this worker was declared dead"))
            self._on_fenced()

    def _end(self, error: JournalError) -> None:
        if self._ended is None:
            self._ended = error
        queue, self._queue = self._queue, {}
        for _, done in queue.values():
            self._tell(done, error)

    # --- the loop
    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        rested = 0.0
        while self._ended is None:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
                continue
            wait = rested - loop.time()
            if wait > 0 and len(self._queue) < ENOUGH:
                await self._rest(wait)
                if not self._queue:
                    continue
            batch = self._take()
            began = loop.time()
            try:
                await self._commit(batch)
            except Fenced:
                self.fence()
            finally:
                self._in_flight = 0
            ended = loop.time()
            rested = ended + 2 * self._window_s  # who comes in between waits half of it
            if self.on_batch is not None:
                self.on_batch(len(batch), ended - began)

    async def _rest(self, seconds: float) -> None:
        """Let writes gather, until there are enough of them."""
        self._resting = True
        self._wake.clear()
        timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            self._resting = False
            timer.cancel()

    def _take(self) -> list[_Entry]:
        if len(self._queue) <= self._batch_limit:
            queue, self._queue = self._queue, {}
            batch = list(queue.values())
        else:
            batch = list(islice(self._queue.values(), self._batch_limit))
            for write, _ in batch:
                del self._queue[id(write)]
        self._in_flight = len(batch)
        return batch

    def _tell(self, done: Done | None, error: JournalError | None) -> None:
        if done is None:
            return
        try:
            done(error)
        except Exception as exc:  # a caller's bug, told to the loop's handler; the others must still hear theirs
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a journal callback failed", "exception": exc}
            )

    async def _commit(self, entries: list[_Entry]) -> None:
        """Commit in order; halve what is refused until the culprits are alone.

        Raises:
            Fenced: nothing more of `entries` was or will be committed; all of them have been told.
        """
        refused: dict[str, JournalError] = {}
        parts = [entries]
        while parts:
            part = parts.pop()
            if refused:
                part = self._leave_out(part, refused)
            if not part:
                continue
            try:
                await self._execute(self._encode(part))
            except _TooLong:
                pass
            except _Refused as exc:
                if len(part) == 1:
                    write, done = part[0]
                    refused[write.message_id] = exc.error
                    self._refuse(write, done, exc.error)
                    continue
            except Fenced as exc:
                for waiting in [part, *reversed(parts)]:
                    for _, done in waiting:
                        self._tell(done, exc)
                raise
            else:
                self._in_flight -= len(part)
                for _, done in part:
                    if done is not None:
                        self._tell(done, None)
                continue
            half = len(part) // 2
            parts += (part[half:], part[:half])

    def _encode(self, part: list[_Entry]) -> Batch:
        try:
            return Batch(part, self._now())
        except _TooLong:
            raise
        except Exception as exc:  # what made the write is told (`done`), once the write is alone
            raise _Refused(WriteRefused(f"the write cannot be encoded ({type(exc).__name__})")) from None

    def _leave_out(self, part: list[_Entry], refused: dict[str, JournalError]) -> list[_Entry]:
        """Refuse what follows a refused write of the same message; return the others."""
        left = []
        for write, done in part:
            error = refused.get(write.message_id)
            if error is None:
                left.append((write, done))
            else:
                self._in_flight -= 1
                self._tell(done, type(error)("an earlier write of this message was refused"))
        return left

    def _refuse(self, write: Write, done: Done | None, error: JournalError) -> None:
        """Tell the refused write, after taking what follows it out of the queue (nobody could know yet)."""
        self._in_flight -= 1
        follow = [entry for entry in self._queue.values() if entry[0].message_id == write.message_id]
        for later, _ in follow:
            del self._queue[id(later)]
        self._tell(done, error)
        for _, later_done in follow:
            self._tell(later_done, type(error)("an earlier write of this message was refused"))

    async def _execute(self, batch: Batch) -> None:
        """Commit one batch, whatever happens to the connection.

        Raises:
            _Refused: the database cannot hold it; nothing was written.
            Fenced: this worker is dead; nothing was written.
        """
        self._n += 1
        doubtful = False  # True iff this batch may have been committed without our knowing
        made_partitions = False
        pause, longest = BACK_OFF_S
        while True:
            await self._ensure_open()
            connection, self._since = self._connection, asyncio.get_running_loop().time()
            try:
                if doubtful and await connection.fetchval(_BATCH_IS_IN, self._worker_id, self._n):
                    break
                try:
                    written = await self._statement.fetchval(self._worker_id, self._n, *batch.arguments)
                except (asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
                    if not is_refusal(exc):
                        raise
                    # An old copy that the server finished just now refuses this one: by its rows, its number.
                    if doubtful and await connection.fetchval(_BATCH_IS_IN, self._worker_id, self._n):
                        break
                    if getattr(exc, "sqlstate", None) == "23514" and not made_partitions:
                        made_partitions = True
                        if await self._make_partitions(connection, batch.days):
                            continue
                    self.confirmed = self._n
                    raise _Refused(refusal(exc)) from None
                if written:
                    break
                if doubtful and await connection.fetchval(_BATCH_IS_IN, self._worker_id, self._n):
                    break
                raise Fenced("this worker was declared dead")
            except JournalError:
                raise
            except _Refused:
                raise
            except Exception as exc:  # told to the monitor, and by it to everyone: the database does not work
                doubtful = True
                self._link.suspect()
                if not isinstance(exc, asyncpg.PostgresError):
                    connection.terminate()
                if not connection.is_closed():  # it answers but cannot work: disk full, read-only, ...
                    self._link.writer_is(False)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, longest)
            finally:
                self._since = None
        self.confirmed = self._n
        self._link.writer_is(True)

    def look(self) -> None:
        """Cut a connection on which a batch waits for an answer much too long; called now and then."""
        if self._since is not None and asyncio.get_running_loop().time() - self._since > STUCK_S:
            self.hang_up()

    async def _make_partitions(self, connection: Any, days: set[date]) -> bool:
        today = self._now().date()
        if any(abs(day - today) > STRANGEST_DAY for day in days):
            return False
        await ensure_days(connection, {*days, today})
        return True

    async def _open(self) -> None:
        connection = await self._link.open()
        try:
            # Before the other: what comes next ends the transaction in which asyncpg leaves what it prepared, with its
            # locks on the tables.
            statement = await connection.prepare(_WRITE_BATCH, timeout=CONNECT_TIMEOUT_S)
            await connection.execute(
                "SELECT set_config('synchronous_commit', 'on', false) "
                "WHERE current_setting('synchronous_commit') = 'off'",
                timeout=CONNECT_TIMEOUT_S,
            )
        except BaseException as exc:
            connection.terminate()
            if isinstance(exc, (asyncpg.PostgresError, *LOST)):
                raise JournalAway("the database cannot be reached") from None
            raise
        self._connection, self._statement = connection, statement

    async def _ensure_open(self) -> None:
        """Have a connection; try for ever."""
        pause, longest = BACK_OFF_S
        while self._connection is None or self._connection.is_closed():
            try:
                await self._open()
            except JournalAway:
                self._link.suspect()
                self._link.writer_is(False)
                await asyncio.sleep(pause)
                pause = min(pause * 2, longest)
