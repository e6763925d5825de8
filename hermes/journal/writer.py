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
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from itertools import islice
from secrets import token_hex
from typing import Any, Final

import asyncpg

from hermes.domain.message import message_created_ms
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
from hermes.journal.link import BACK_OFF_S, LOST, Link, is_refusal, refusal
from hermes.journal.partitions import ensure_days
from hermes.journal.queries import QUERIES
from hermes.journal.rows import channel_mask, day_from_number, encode

BATCH_LIMIT: Final = 2000  # writes; at 0.1 ms each the longest batch stays near 200 ms
ENOUGH: Final = 200  # writes: with so many waiting, do not wait for more
STRANGEST_DAY: Final = timedelta(days=400)  # from now: a partition further away is a bug's, not a message's

_Entry = tuple[Write, Done | None]
_WRITE_BATCH: Final = QUERIES["write_batch"]
_BATCH_IS_IN: Final = QUERIES["batch_is_in"]

_SEPARATOR: Final = "\x1f"  # JSON has it only escaped, so it can occur in no body and no data
# Places in `columns` below; the place of $6 is 0.
_TEXT_COLUMNS: Final = (0, 2, 3, 4, 7, 9, 11, 15, 18, 19, 20, 21, 25, 27, 29, 30, 32, 33, 34, 36, 37, 39, 43)
_NUMBER_COLUMNS: Final = (13, 16, 17, 22, 23, 24, 26, 28, 41)

_DAY_MS: Final = 86_400_000
_days: dict[str, date] = {}  # first 6 characters of an id's time (a window of 17.5 minutes) -> its day


def _day(message_id: str) -> date:
    """`day_of_id`, remembered: almost every id of the last minutes begins alike.

    Raises:
        KeyError, ValueError: not the form of an id.
    """
    day = _days.get(message_id[4:10])
    if day is not None and len(message_id) >= 14:
        return day
    ms = message_created_ms(message_id)
    if len(message_id) < 14:
        raise ValueError("a message id is longer")
    day = day_from_number(ms // _DAY_MS)
    window = ms >> 20
    if (window << 20) // _DAY_MS == ((window + 1) << 20) // _DAY_MS:  # does not cross midnight
        if len(_days) > 4096:
            _days.clear()
        _days[message_id[4:10]] = day
    return day


class Batch:
    """The parameters of one statement, from $3 on. `refused` holds the writes that cannot even be encoded."""

    __slots__ = ("arguments", "days", "refused")

    def __init__(self, entries: Iterable[_Entry], now: datetime) -> None:
        self.refused: dict[int, WriteRefused] = {}
        m_id: list[str] = []
        m_day: list[date] = []
        m_tenant: list[str] = []
        m_mode: list[str] = []
        m_reference: list[str] = []
        m_channels: list[int] = []
        m_created: list[datetime] = []
        m_body: list[str] = []
        e_id: list[str] = []
        e_day: list[date] = []
        e_seq: list[str] = []
        e_at: list[datetime] = []
        e_type: list[str] = []
        e_step: list[str] = []
        e_attempt: list[str] = []
        e_data: list[str] = []
        refs: list[tuple[str, str, str, str, str, str]] = []
        outbox: list[tuple[str, str, str, str, str, str, datetime, str]] = []
        answers: list[tuple[str, str, bytes, str]] = []
        # One statement sees the tables as they were before it, so what touches one row twice is joined here.
        opened: dict[str, datetime | None] = {}
        closed: dict[str, tuple[date, str, datetime]] = {}
        parked: dict[str, datetime | None] = {}
        days: set[date] = set()

        for write, _ in entries:
            message_id, events, message, status = write.message_id, write.events, write.message, write.status
            try:
                if events or message is not None or status is not None:
                    day = _day(message_id)
                    days.add(day)
                data = [encode(event.data).decode() for event in events]
                if message is not None:
                    body = encode(message).decode()
                    channels = channel_mask(tuple([step.channel for step in message.cascade]))
            except (KeyError, ValueError, TypeError, IndexError) as exc:
                self.refused[id(write)] = WriteRefused(f"the write cannot be encoded ({type(exc).__name__})")
                continue
            if message is not None:
                m_id.append(message_id)
                m_day.append(day)
                m_tenant.append(message.tenant)
                m_mode.append(message.mode)
                m_reference.append("" if message.reference is None else "=" + message.reference)
                m_channels.append(channels)
                m_created.append(message.created_at)
                m_body.append(body)
                opened[message_id] = None
            for event, text in zip(events, data, strict=True):
                e_id.append(message_id)
                e_day.append(day)
                e_seq.append(str(event.seq))
                e_at.append(event.at)
                e_type.append(event.type)
                e_step.append("" if event.step is None else str(event.step))
                e_attempt.append("" if event.attempt is None else str(event.attempt))
                e_data.append(text)
            for ref in write.refs:
                refs.append(
                    (ref.ref, ref.carrier, message_id, str(ref.step), str(ref.attempt), str(ref.segment))
                )
            if write.outbox:
                shard = str(shard_of(message_id))
                for entry in write.outbox:
                    payload = "" if entry.payload is None else "=" + entry.payload
                    outbox.append(
                        (
                            message_id,
                            str(entry.seq),
                            entry.target,
                            shard,
                            write.tenant,
                            entry.type,
                            entry.due,
                            payload,
                        )
                    )
            record = write.idempotency
            if record is not None:
                answers.append((write.tenant, record.key, record.request_hash, record.response))
            if status is not None:
                before = closed.get(message_id)
                at = before[2] if before is not None else events[-1].at if events else now
                closed[message_id] = (day, status, at)
                opened.pop(message_id, None)
                parked.pop(message_id, None)
            elif write.due is not KEEP:
                if message_id in opened:
                    opened[message_id] = write.due
                elif message_id not in closed:
                    parked[message_id] = write.due

        self.days: Final = days
        closes = list(closed.values())
        c_day = [close[0] for close in closes]
        if len(days) <= 1:
            m_day = e_day = c_day = []
        columns: list[list[Any] | tuple[Any, ...]] = [
            *(m_id, m_day, m_tenant, m_mode, m_reference, m_channels, m_created, m_body),
            *([shard_of(message_id) for message_id in opened], list(opened), list(opened.values())),
            *(e_id, e_day, e_seq, e_at, e_type, e_step, e_attempt, e_data),
            *(zip(*refs, strict=True) if refs else [()] * 6),
            *(zip(*outbox, strict=True) if outbox else [()] * 8),
            *(zip(*answers, strict=True) if answers else [()] * 4),
            *(list(closed), c_day, [close[1] for close in closes], [close[2] for close in closes]),
            [str(shard_of(message_id)) for message_id in closed],
            *([shard_of(message_id) for message_id in parked], list(parked), list(parked.values())),
        ]
        separator = _SEPARATOR
        try:
            texts = self._join(columns, separator)
            while texts is None:  # a text holds the separator: take one that nobody can foresee
                separator = _SEPARATOR + token_hex(8)
                texts = self._join(columns, separator)
        except TypeError:  # something that is no text: the whole batch, halved until the culprit is alone
            self.arguments: list[Any] | None = None
            return
        self.arguments = [now, separator, next(iter(days), None), *texts]

    @staticmethod
    def _join(columns: list[list[Any] | tuple[Any, ...]], separator: str) -> list[Any] | None:
        """Join the text columns; None when the separator occurs in a text."""
        arguments: list[Any] = list(columns)
        for n in _TEXT_COLUMNS:
            column = columns[n]
            joined = arguments[n] = separator.join(column)
            if column and joined.count(separator) != len(column) - 1:
                return None
        for n in _NUMBER_COLUMNS:
            arguments[n] = ",".join(columns[n])
        return arguments


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
        self._wake: Final = asyncio.Event()
        self._connection: Any = None
        self._statement: Any = None
        self._task: asyncio.Task[None] | None = None
        self._ended: JournalError | None = None  # why nothing is taken any more
        self._n = 0
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
        if not self._in_flight:
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
                await asyncio.sleep(wait)
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
        except (
            Exception
        ) as exc:  # a caller's bug, told to the loop's handler; the others must still hear theirs
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
            batch = Batch(part, self._now())
            if batch.refused:
                for write, done in part:
                    error = batch.refused.get(id(write))
                    if error is not None:
                        refused[write.message_id] = error
                        self._refuse(write, done, error)
                rest = [entry for entry in part if id(entry[0]) not in batch.refused]
                parts.append(self._leave_out(rest, refused))
                continue
            if not part:
                continue
            try:
                await self._execute(batch)
            except _Refused as exc:
                if len(part) == 1:
                    write, done = part[0]
                    refused[write.message_id] = exc.error
                    self._refuse(write, done, exc.error)
                else:
                    half = len(part) // 2
                    parts += (part[half:], part[:half])
                continue
            except Fenced as exc:
                for waiting in [part, *reversed(parts)]:
                    for _, done in waiting:
                        self._tell(done, exc)
                raise
            self._in_flight -= len(part)
            for _, done in part:
                if done is not None:
                    self._tell(done, None)

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
        doubtful = False
        made_partitions = False
        pause, longest = BACK_OFF_S
        arguments = batch.arguments
        if arguments is None:
            raise _Refused(WriteRefused("the write cannot be encoded"))
        while True:
            try:
                await self._ensure_open()
                if doubtful and await self._connection.fetchval(_BATCH_IS_IN, self._worker_id, self._n):
                    break
                written = await self._statement.fetchval(self._worker_id, self._n, *arguments)
            except (asyncpg.PostgresError, *LOST) as exc:
                if is_refusal(exc):
                    if doubtful and await self._is_in():
                        break
                    if getattr(exc, "sqlstate", None) == "23514" and not made_partitions:
                        made_partitions = True
                        if await self._make_partitions(batch.days):
                            continue
                    self.confirmed = self._n
                    raise _Refused(refusal(exc)) from None
                doubtful = True
                lost = self._connection is None or self._connection.is_closed()
                self._link.suspect()
                if not lost:  # it answers but cannot work: disk full, read-only, shutting down, ...
                    self._link.writer_is(False)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, longest)
                continue
            if not written:
                if doubtful and await self._is_in():
                    break
                raise Fenced("this worker was declared dead")
            break
        self.confirmed = self._n
        self._link.writer_is(True)

    async def _is_in(self) -> bool:
        """Find out whether the current batch was committed; for as long as it takes."""
        while True:
            try:
                await self._ensure_open()
                found: bool = await self._connection.fetchval(_BATCH_IS_IN, self._worker_id, self._n)
                return found
            except (asyncpg.PostgresError, *LOST):
                self._link.suspect()
                await asyncio.sleep(BACK_OFF_S[0])

    async def _make_partitions(self, days: set[date]) -> bool:
        today = self._now().date()
        if any(abs(day - today) > STRANGEST_DAY for day in days):
            return False
        await ensure_days(self._connection, {*days, today})
        return True

    async def _open(self) -> None:
        connection = await self._link.open()
        try:
            await connection.execute(
                "SELECT set_config('synchronous_commit', 'on', false) "
                "WHERE current_setting('synchronous_commit') = 'off'"
            )
            self._statement = await connection.prepare(_WRITE_BATCH)
        except (asyncpg.PostgresError, *LOST):
            connection.terminate()
            raise JournalAway("the database cannot be reached") from None
        self._connection = connection

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
