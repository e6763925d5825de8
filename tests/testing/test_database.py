"""The tests' own database: every test gets a fresh one, quickly, from one server."""

from __future__ import annotations

import os
import time
from pathlib import Path

import asyncpg
import pytest

from hermes.testing import database
from hermes.testing.database import shared_cluster


async def test_every_caller_gets_the_same_server_and_a_database_of_its_own() -> None:
    cluster = await shared_cluster()
    assert await shared_cluster() is cluster
    async with cluster.database() as one, cluster.database() as other:
        first, second = await asyncpg.connect(**one), await asyncpg.connect(**other)
        await first.execute("CREATE TABLE thing (number int)")
        with pytest.raises(asyncpg.UndefinedTableError):
            await second.execute("SELECT * FROM thing")
        await first.close()
        await second.close()


async def test_template_is_copied_and_database_is_dropped_under_open_connections() -> None:
    cluster = await shared_cluster()
    async with cluster.database() as template:
        connection = await asyncpg.connect(**template)
        await connection.execute("CREATE TABLE thing AS SELECT 42 AS number")
        await connection.close()
        async with cluster.database(template=template["database"]) as copy:
            left_open = await asyncpg.connect(**copy)
            assert await left_open.fetchval("SELECT number FROM thing") == 42
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(**copy)
    left_open.terminate()


def test_folder_of_a_killed_session_is_removed_and_one_in_use_is_not(tmp_path: Path) -> None:
    abandoned, fresh, foreign = (tmp_path / f"{database.FOLDER_PREFIX}{name}" for name in "abc")
    for folder in (abandoned, fresh, foreign):
        folder.mkdir()
    (abandoned / "node.lock").touch()
    (fresh / "node.lock").touch()
    long_ago = time.time() - 3600
    os.utime(abandoned, (long_ago, long_ago))
    os.utime(foreign, (long_ago, long_ago))  # no lock file: not a data folder
    database._remove_abandoned(tmp_path)
    assert sorted(path.name[-1] for path in tmp_path.iterdir()) == ["b", "c"]
