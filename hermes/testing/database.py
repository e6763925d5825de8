"""A real PostgreSQL for tests: one server a test session, a fresh database for each test that asks.

    async def test_something_durable() -> None:
        cluster = await shared_cluster()
        async with cluster.database() as connect_kwargs:
            connection = await asyncpg.connect(**connect_kwargs)

The server does not sync to disk, so it is fast and proves nothing about crashes; tests that kill it start
their own `EmbeddedPostgres`.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import fcntl
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg

from hermes.journal.embedded import EmbeddedPostgres

FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "100"}
FOLDER_PREFIX = "hermes-cluster-"
MEMORY_BYTES = 4 * 1024**3  # free; a cluster with 2 GB of write-ahead log fits twice

_shared: SharedCluster | None = None


class SharedCluster:
    """A running server that hands out databases."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.server = server
        self._numbers = itertools.count(1)

    async def create_database(self, *, template: str = "template1") -> dict[str, Any]:
        """Create a database and return its arguments for `asyncpg.connect`.

        Args:
            template: The database to copy, for instance one with the schema in it; nobody may be
                connected to it.
        """
        name = f"test_{next(self._numbers)}"
        await self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
        return {**self.server.connect_kwargs(), "database": name}

    async def drop_database(self, connect_kwargs: dict[str, Any]) -> None:
        """Drop a database that `create_database` made, whoever is still connected."""
        await self._execute(f'DROP DATABASE IF EXISTS "{connect_kwargs["database"]}" WITH (FORCE)')

    @contextlib.asynccontextmanager
    async def database(self, *, template: str = "template1") -> AsyncIterator[dict[str, Any]]:
        """Lend a fresh database; it is dropped at the end."""
        connect_kwargs = await self.create_database(template=template)
        try:
            yield connect_kwargs
        finally:
            await self.drop_database(connect_kwargs)

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(**{**self.server.connect_kwargs(), "database": "postgres"})
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


async def shared_cluster() -> SharedCluster:
    """Return the session's server, started by the first call and stopped when the process ends.

    Call it from the main thread: the server ends with the thread that started it. Any event loop will do.
    """
    global _shared
    if _shared is None:
        place = roomy_memory() or Path(tempfile.gettempdir())
        _remove_abandoned(place)
        folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=place))
        server = EmbeddedPostgres(folder, settings=FAST)
        atexit.register(_end, server, folder, os.getpid())
        await server.start()
        _shared = SharedCluster(server)
    return _shared


def _remove_abandoned(place: Path) -> None:
    """Remove the folders of sessions that were killed: nobody holds their lock, and they are not new."""
    for folder in place.glob(f"{FOLDER_PREFIX}*"):
        with contextlib.suppress(OSError):
            found = folder.lstat()
            if found.st_uid != os.geteuid() or time.time() - found.st_mtime < 60:
                continue
            with (folder / "node.lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)


def roomy_memory() -> Path | None:
    """A file system in memory if there is one with room (a container's often has 64 MB), else None.

    A database is 300 files; making them takes 0.05 s in memory and 0.3 s on disk.
    """
    memory = Path("/dev/shm")
    try:
        roomy = os.access(memory, os.W_OK | os.X_OK) and shutil.disk_usage(memory).free > MEMORY_BYTES
    except OSError:
        return None
    return memory if roomy else None


def _end(server: EmbeddedPostgres, folder: Path, starter: int) -> None:
    if os.getpid() == starter:  # not in a forked child
        asyncio.run(server.stop())
        shutil.rmtree(folder, ignore_errors=True)
