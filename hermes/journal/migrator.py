"""Bring a database's schema to the one this version of Hermes needs: numbered SQL files, each applied once.

Safe to run from many processes at once (an advisory lock) and again (what is applied is skipped). A file that
was changed after it was applied, or a version this Hermes does not know, stops the start.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Any, Final

from hermes.journal.base import JournalError

_LOCK: Final = 0x4865726D6573  # "Hermes": the key of the advisory lock, any number would do

_VERSIONS: Final = """
CREATE TABLE IF NOT EXISTS schema_version (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)"""


class SchemaRefused(JournalError):
    """The database's schema is not one this Hermes can work with; the text says why and what to do."""


def shipped() -> list[tuple[int, str, str]]:
    """List the migrations this Hermes ships, in order: number, file name, SQL."""
    found = []
    for file in files(__package__).joinpath("migrations").iterdir():
        if file.name.endswith(".sql"):
            found.append((int(file.name[:4]), file.name, file.read_text("utf-8")))
    return sorted(found)


async def migrate_connection(connection: Any) -> list[str]:
    """Apply what is missing, in one transaction, over an asyncpg connection.

    Returns:
        The names of the files applied now; empty when there was nothing to do.

    Raises:
        SchemaRefused: the database was migrated by a newer Hermes, or a migration was changed.
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await connection.execute(_VERSIONS)
        rows = await connection.fetch("SELECT version, name, checksum FROM schema_version ORDER BY version")
        applied = {row["version"]: row for row in rows}
        migrations = shipped()
        known = {number for number, _, _ in migrations}
        for version, row in applied.items():
            if version not in known:
                raise SchemaRefused(
                    f"the database has schema version {version} ({row['name']}) and this Hermes knows only "
                    f"up to {max(known)}: start the newer Hermes that made it, or restore an older backup"
                )
        done = []
        for number, name, sql in migrations:
            checksum = hashlib.sha256(sql.encode()).hexdigest()
            row = applied.get(number)
            if row is None:
                await connection.execute(sql)
                await connection.execute(
                    "INSERT INTO schema_version (version, name, checksum) VALUES ($1, $2, $3)",
                    number,
                    name,
                    checksum,
                )
                done.append(name)
            elif row["checksum"] != checksum:
                raise SchemaRefused(
                    f"migration {name} is not the one that was applied to this database: it must not be "
                    "changed once shipped; start the Hermes that applied it"
                )
        return done
