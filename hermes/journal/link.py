"""Connections to PostgreSQL: open them, lend a few for reading, know within a second whether it is there.

This module and `writer.py` are the border: what asyncpg raises becomes a `JournalError` here, without its
text, because the server's texts quote the values of a row (message texts, addresses).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

import asyncpg

from hermes.errors import HermesError
from hermes.journal.base import Conflict, JournalAway, JournalError, WriteRefused

Connect = Mapping[str, Any] | str | Callable[[], Mapping[str, Any] | str]

PING_EVERY_S: Final = 0.3
PING_TIMEOUT_S: Final = 0.5  # with the pause before it: a server that hangs is away after 0.8 s at most
CONNECT_TIMEOUT_S: Final = 3.0
READ_TIMEOUT_S: Final = 15.0
PAUSE_S: Final = 10.0  # within a transaction: whoever is silent as long as a lease holds no lock any more
BACK_OFF_S: Final = (0.1, 1.0)  # first and longest pause between two tries to connect

# Our hot queries look rows up by their keys. Plans made while the tables were empty must still do that when
# they hold a hundred million rows: the planner is told never to read a whole table, whatever it knows of it.
PLAN_BY_KEYS: Final = {
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
# For the lists' many forms: a plan for these very values, still by keys.
PLAN_AFRESH: Final = "BEGIN READ ONLY; SET LOCAL plan_cache_mode = force_custom_plan"
PLAN_IN_ORDER: Final = f"{PLAN_AFRESH}; SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off"
# For counting: read everything once. A wrong guess of a size would make an endless loop of look-ups.
PLAN_FREELY: Final = (
    f"{PLAN_AFRESH}; SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; "
    "SET LOCAL enable_nestloop = off; SET LOCAL enable_partitionwise_join = on; SET LOCAL work_mem = '128MB'"
)

# The last one is what asyncpg raises when the server's farewell arrives while it prepares a statement.
LOST: Final = (OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError, asyncpg.InternalClientError)


def is_refusal(exc: BaseException) -> bool:
    """Tell whether the database refuses this very data, now and always, rather than being unable to work."""
    if isinstance(exc, asyncpg.DataError | asyncpg.exceptions.DataError):
        return True  # ours: asyncpg could not encode it; theirs: class 22
    state = getattr(exc, "sqlstate", None) or ""
    return state[:2] in ("22", "23", "21", "54")


def refusal(exc: BaseException) -> Conflict | WriteRefused:
    """Translate a refusal. Its text holds the server's code only."""
    state = getattr(exc, "sqlstate", None) or "client"
    if state == "23505":
        return Conflict("the database holds such a row already")
    if state == "22012":  # write_batch divides by zero when an idempotency key is stored already
        return Conflict("the idempotency key is stored already")
    return WriteRefused(f"the database cannot hold this write ({state})")


def translate(exc: BaseException) -> JournalError:
    """Translate what a read or a small write raised."""
    if is_refusal(exc):
        return refusal(exc)
    state = getattr(exc, "sqlstate", None)
    return JournalAway("the database cannot be reached" if state is None else f"the database says {state}")


class Link:
    """The way to one database.

    Args:
        connect: arguments for `asyncpg.connect`, a DSN, or a function that returns either, asked each time.
        name: shown in pg_stat_activity.
        readers: connections for reads and small writes; more callers wait their turn.
    """

    def __init__(self, connect: Connect, name: str, *, readers: int = 4) -> None:
        self._connect: Final = connect
        self._name: Final = name[:63]
        self._slots: Final = asyncio.Semaphore(readers)
        self._idle: list[Any] = []
        self._all: set[Any] = set()
        self._suspicious: Final = asyncio.Event()
        self._answers = False  # the last ping did
        self._writes = True  # the writer is not stuck
        self._closed = False
        self._monitor: asyncio.Task[None] | None = None
        self._ping: Any = None
        self._on_change: list[Callable[[bool], None]] = []
        self.on_hang: list[Callable[[], None]] = []  # called when the server stopped answering: hang up
        self.on_look: list[Callable[[], None]] = []  # called after each sign of life
        self._listeners: list[tuple[str, Callable[[str | None], None]]] = []

    @property
    def available(self) -> bool:
        """True while the database answers and takes writes."""
        return self._answers and self._writes

    def on_change(self, callback: Callable[[bool], None]) -> None:
        """Call `callback(available)` at each change."""
        self._on_change.append(callback)

    async def open(self, settings: Mapping[str, str] | None = None, *, timeout_s: float | None = None) -> Any:
        """Open a connection. `timeout_s` bounds each later statement on it, here and at the server.

        Raises:
            JournalAway: it cannot be opened now.
        """
        try:
            target = self._connect() if callable(self._connect) else self._connect
        except HermesError:
            raise JournalAway("the database has no address now") from None
        arguments: dict[str, Any] = {"dsn": target} if isinstance(target, str) else dict(target)
        arguments["server_settings"] = {
            "application_name": self._name,
            "timezone": "UTC",
            "idle_in_transaction_session_timeout": str(int(PAUSE_S * 1000)),
            **PLAN_BY_KEYS,
            **arguments.get("server_settings", {}),
            **(settings or {}),
        }
        arguments.setdefault("timeout", CONNECT_TIMEOUT_S)
        if timeout_s is not None:
            arguments["server_settings"]["statement_timeout"] = str(int(timeout_s * 1000))
            arguments["command_timeout"] = timeout_s + 2.0
        try:
            return await asyncpg.connect(**arguments)
        except (asyncpg.PostgresError, *LOST) as exc:
            raise translate(exc) from None

    # --- life
    async def start(self) -> None:
        """Connect once; then watch until `close`.

        Raises:
            JournalAway: the database cannot be reached now.
        """
        self._ping = await self._open_ping()
        self._answers = True
        self._monitor = asyncio.create_task(self._watch(), name="journal-monitor")

    async def close(self) -> None:
        """Close every connection."""
        self._closed = True
        if self._monitor is not None:
            self._monitor.cancel()
            await asyncio.gather(self._monitor, return_exceptions=True)
        self._drop_all()

    def _drop_all(self) -> None:
        """Cut every connection but the writer's; whoever waits for an answer gets `JournalAway` now."""
        for connection in [*self._all, self._ping]:
            if connection is not None:
                connection.terminate()
        self._all.clear()
        self._idle.clear()
        self._ping = None

    # --- is it there
    def suspect(self) -> None:
        """Look now whether the database answers: something on it failed."""
        self._suspicious.set()

    def writer_is(self, working: bool) -> None:
        """Take the writer's word on whether writes go through."""
        if working != self._writes:
            self._set(self._answers, working)

    def _set(self, answers: bool, writes: bool) -> None:
        before = self.available
        self._answers, self._writes = answers, writes
        if before != self.available:
            for callback in self._on_change:
                try:
                    callback(self.available)
                except Exception as exc:  # a listener's bug, told to the loop's handler; watching must go on
                    asyncio.get_running_loop().call_exception_handler(
                        {"message": "a listener of the journal failed", "exception": exc}
                    )

    def listen(self, channel: str, callback: Callable[[str | None], None]) -> None:
        """Call `callback(payload)` for each NOTIFY on a channel; before `start`.

        None means that the connection was lost meanwhile: what was told then is not known.
        """
        self._listeners.append((channel, callback))

    async def _open_ping(self) -> Any:
        connection = await self.open({"synchronous_commit": "off"})
        try:
            for channel, callback in self._listeners:
                await connection.add_listener(channel, lambda _c, _pid, _channel, text, tell=callback: tell(text))
        except BaseException as exc:
            connection.terminate()
            if isinstance(exc, (asyncpg.PostgresError, *LOST)):
                raise translate(exc) from None
            raise
        connection.add_termination_listener(lambda _: self.suspect())
        return connection

    async def _watch(self) -> None:
        pause, longest = BACK_OFF_S
        while True:
            if self._ping is None or self._ping.is_closed():
                try:
                    self._ping = await asyncio.wait_for(self._open_ping(), CONNECT_TIMEOUT_S)
                    for _, callback in self._listeners:
                        callback(None)
                except (JournalError, TimeoutError):
                    self._lost(hangs=False)
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, longest)
                    continue
            if not await self._pong():
                if not self._ping.is_closed():
                    self._lost(hangs=True)
                continue
            for look in self.on_look:
                look()
            pause = BACK_OFF_S[0]
            self._set(True, self._writes)
            self._suspicious.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._suspicious.wait(), PING_EVERY_S)

    async def _pong(self) -> bool:
        """Ask for a sign of life. A loop that was busy for long gets a second look at what has arrived."""
        loop = asyncio.get_running_loop()
        asked = loop.time()
        ping = asyncio.ensure_future(self._ping.fetchval("SELECT 1"))
        try:
            done, _ = await asyncio.wait({ping}, timeout=PING_TIMEOUT_S)
            if not done and loop.time() - asked > PING_TIMEOUT_S + 0.2:
                done, _ = await asyncio.wait({ping}, timeout=0.2)
        finally:
            if not ping.done():
                ping.cancel()
        if not done:
            return False
        return ping.exception() is None

    def _lost(self, *, hangs: bool) -> None:
        self._drop_all()
        if hangs or self._answers:
            for callback in self.on_hang:
                callback()
        self._set(False, self._writes)

    # --- reads and small writes
    @contextlib.asynccontextmanager
    async def borrow(self, *, urgent: bool = False) -> AsyncIterator[Any]:
        """Lend a connection; whatever asyncpg raises inside comes out as a `JournalError`.

        Args:
            urgent: do not wait for a turn.

        Raises:
            JournalAway: the database is away, or went away meanwhile.
        """
        if not self._answers or self._closed:
            raise JournalAway("the database is away")
        async with contextlib.nullcontext() if urgent else self._slots:
            connection = self._idle.pop() if self._idle else None
            if connection is None or connection.is_closed():
                try:
                    connection = await self.open(timeout_s=READ_TIMEOUT_S)
                except JournalAway:
                    self.suspect()
                    raise
                self._all.add(connection)
            sound = False
            try:
                yield connection
                sound = True
            except (asyncpg.PostgresError, *LOST) as exc:
                if isinstance(exc, asyncpg.PostgresError) and not connection.is_closed():
                    sound = not connection.is_in_transaction()  # which a terminated one cannot tell
                if not is_refusal(exc):
                    self.suspect()
                raise translate(exc) from None
            finally:
                if sound and not connection.is_closed() and connection in self._all:
                    self._idle.append(connection)
                else:
                    self._all.discard(connection)
                    connection.terminate()

    async def fetch(self, query: str, *arguments: Any, urgent: bool = False) -> list[Any]:
        """Run one query by its keys."""
        async with self.borrow(urgent=urgent) as connection:
            rows: list[Any] = await connection.fetch(query, *arguments)
            return rows

    async def fetch_afresh(self, query: str, *arguments: Any, plan: str = PLAN_AFRESH) -> list[Any]:
        """Run one query planned for its values; with `PLAN_FREELY`, one that may read whole tables."""
        async with self.borrow() as connection:
            await connection.execute(plan)
            rows: list[Any] = await connection.fetch(query, *arguments)
            await connection.execute("COMMIT")
            return rows
