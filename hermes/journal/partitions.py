"""Partitions of one UTC day: made ahead, dropped whole.

A partition is made as a table of its own and then attached, which locks nobody out; `CREATE TABLE ...
PARTITION OF` would wait for every reader and make every writer wait behind it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any, Final

BY_ID_DAY: Final = ("message", "closed_message", "event")  # by the day the message's id was made
BY_WRITE_DAY: Final = ("carrier_ref",)  # by the day the row was written
PARTITIONED: Final = (*BY_ID_DAY, *BY_WRITE_DAY)
DAYS_AHEAD: Final = 3

_LOCK: Final = 0x4865726D6574  # one process makes partitions at a time
# Rows are only added and the table is dropped whole: nothing to vacuum, and statistics change nothing.
_OPTIONS: Final = "autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_scale_factor = 1.0"


def partition_name(parent: str, day: date) -> str:
    """Name a partition: `event_20260131`."""
    return f"{parent}_{day:%Y%m%d}"


def partition_day(name: str) -> date | None:
    """Read the day out of a partition's name; None when it is not one of ours."""
    digits = name.rpartition("_")[2]
    if len(digits) != 8 or not digits.isdecimal():
        return None
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None


def days_ahead(today: date) -> list[date]:
    """List the days that must have partitions now: yesterday (late ids) to three days ahead."""
    return [today + timedelta(days=n) for n in range(-1, DAYS_AHEAD + 1)]


async def ensure_days(connection: Any, days: Iterable[date]) -> None:
    """Make the partitions of these days that are missing, over an asyncpg connection."""
    wanted = {partition_name(parent, day): (parent, day) for parent in PARTITIONED for day in days}
    found = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relname = ANY ($1::text[]) AND relispartition",
        list(wanted),
    )
    for row in found:
        wanted.pop(row["relname"], None)
    if not wanted:
        return
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        for name, (parent, day) in wanted.items():
            attached = await connection.fetchval(
                "SELECT relispartition FROM pg_class WHERE oid = to_regclass($1)", name
            )
            if attached:
                continue
            if attached is None:
                await connection.execute(
                    f"CREATE TABLE {name} (LIKE {parent} INCLUDING DEFAULTS INCLUDING STORAGE "
                    f"INCLUDING COMPRESSION) WITH ({_OPTIONS})"
                )
            zone = " 00:00:00+00" if parent in BY_WRITE_DAY else ""
            await connection.execute(
                f"ALTER TABLE {parent} ATTACH PARTITION {name} "
                f"FOR VALUES FROM ('{day}{zone}') TO ('{day + timedelta(days=1)}{zone}')"
            )
