"""The other workers, as one of them sees them: who lives by the database, and what each says when it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from hermes.journal.base import Journal, JournalError, WorkerRow
from hermes.runtime import Clock

ASK_WITHIN_S: Final = 0.5  # for what a worker knows by heart; one that is stopped must not hold up the others' figures
ORDER_WITHIN_S: Final = 1.7  # for an order: an actor's supervisor may take 1.5 s, and the caller is answered within 2 s
LOOK_EVERY_S: Final = 1.0  # the workers' rows are read at most so often
LOOK_WITHIN_S: Final = 0.3

T = TypeVar("T")


class Told(NamedTuple):
    """What a worker answered.

    Attributes:
        status: of HTTP; 0: no answer in time.
    """

    worker: WorkerRow
    status: int = 0
    body: bytes = b""

    def read(self, shape: type[T]) -> T | None:
        """Read the document of a good answer; None for anything else, also for what another version would say."""
        return self._read(msgspec.json.decode, shape)

    def read_packed(self, shape: type[T]) -> T | None:
        """Read a good answer in MessagePack; None as `read`."""
        return self._read(msgspec.msgpack.decode, shape)

    def _read(self, decode: Callable[..., T], shape: type[T]) -> T | None:
        if self.status != 200:
            return None
        try:
            return decode(self.body, type=shape)
        except (ValueError, RecursionError):
            return None


class Peers:
    """Asks the other workers of the same database.

    Attributes:
        own: this worker's id.
    """

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._rows: list[WorkerRow] = []
        self._looked_at: float | None = None  # monotonic
        self._looking = asyncio.Lock()
        self._sessions: dict[str, tuple[aiohttp.ClientSession, str]] = {}  # by control URL; with what paths go on
        self.own = journal.worker_id

    async def rows(self) -> list[WorkerRow]:
        """List the workers that live by the database, this one too; as they were last known while it is away."""
        async with self._looking:
            now = self._clock.monotonic()
            if self._looked_at is None or now - self._looked_at >= LOOK_EVERY_S:
                self._looked_at = now
                with suppress(JournalError, TimeoutError):
                    async with asyncio.timeout(LOOK_WITHIN_S):
                        self._rows = [row for row in await self._journal.workers() if not row.dead]
                    await self._forget_sessions()
        return self._rows

    async def others(self) -> list[WorkerRow]:
        """List the other workers that live, oldest first."""
        return [row for row in await self.rows() if row.id != self.own]

    async def ask(
        self, worker: WorkerRow, method: str, path: str, body: bytes = b"", within_s: float = ASK_WITHIN_S
    ) -> Told:
        """Ask one; `path` with its query, percent-encoded. Raises nothing but cancellation."""
        if worker.control is None:
            return Told(worker)  # it has not opened yet, or cannot be reached from here
        try:
            session, root = self._session(worker.control)
            headers = {"Content-Type": "application/json"} if body else None
            async with asyncio.timeout(within_s):
                async with session.request(method, root + path, data=body or None, headers=headers) as answer:
                    return Told(worker, answer.status, await answer.read())
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return Told(worker)

    async def ask_all(
        self, workers: Sequence[WorkerRow], method: str, path: str, body: bytes = b"", within_s: float = ASK_WITHIN_S
    ) -> list[Told]:
        """Ask several at once; one answer for each, in their order."""
        return list(await asyncio.gather(*(self.ask(w, method, path, body, within_s) for w in workers)))

    async def close(self) -> None:
        """Close the connections."""
        sessions, self._sessions = self._sessions, {}
        for session, _ in sessions.values():
            await session.close()

    def _session(self, control: str) -> tuple[aiohttp.ClientSession, str]:
        known = self._sessions.get(control)
        if known is not None:
            return known
        parts = urlsplit(control)
        unix = parts.scheme == "http+unix"
        root = "http://worker" if unix else f"http://{parts.netloc.rpartition('@')[2]}"
        session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(parts.path) if unix else aiohttp.TCPConnector(),
            headers={"Authorization": f"Bearer {parts.password}"},
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
        )
        self._sessions[control] = session, root
        return session, root

    async def _forget_sessions(self) -> None:
        living = {row.control for row in self._rows}
        for control in [known for known in self._sessions if known not in living]:
            session, _ = self._sessions.pop(control)
            await session.close()
