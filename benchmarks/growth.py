"""What a message costs with millions of rows stored, beside an empty database: CPU per 1,000 messages.

    python -m benchmarks.growth [--rows 10000000] [--rate 1000] [--seconds 20] [--rounds 3]

The same load goes to a node on an empty database, then some messages of it are copied inside the database (rows of
`message`, `closed_message`, `event` and `carrier_ref`, under ids of their own, of the same day) until so many rows are
stored, and the load comes again. Of several rounds the cheapest counts. Aim: within 10 %. Exits 1 when a message is
lost; a missed aim is only printed, machines differ.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks._node import MOCKS, BenchNode, node
from benchmarks.load import measure
from hermes.journal.embedded import DATABASE, PORT, USER

BODY = json.dumps({"channel": "sms", "to": "+4520120001", "content": {"text": "Your code is 123456"}}).encode()
TEMPLATES = 1_000  # messages that are copied
AT_ONCE = 100  # copies of each in one transaction
# The last eight of an id's random characters become the copy's number: digits are in its alphabet.
COPIES = {
    "message": "tenant, mode, reference, channels, created_at, body, recipient",
    "closed_message": "status, closed_at",
    "event": "seq, at, type, step, attempt, data",
}


async def fill(connection: asyncpg.Connection[Any], rows: int) -> int:
    """Copy messages until `rows` rows are stored; returns how many are."""
    await connection.execute(
        f"CREATE TEMP TABLE template AS SELECT message_id, day FROM message ORDER BY message_id LIMIT {TEMPLATES}"
    )
    stored = per_copy = await connection.fetchval(
        "SELECT (SELECT count(*) FROM template) * 2"
        " + (SELECT count(*) FROM event JOIN template USING (message_id, day))"
        " + (SELECT count(*) FROM carrier_ref JOIN template USING (message_id))"
    )
    first = 1
    while stored < rows:
        copies = min(AT_ONCE, -(-(rows - stored) // per_copy))
        numbers = f"generate_series({first}, {first + copies - 1}) AS n"
        copied_id = "overlay(message_id placing lpad(n::text, 8, '0') from 23)"
        async with connection.transaction():
            for table, columns in COPIES.items():
                await connection.execute(
                    f"INSERT INTO {table} (message_id, day, {columns}) "
                    f"SELECT {copied_id}, day, {columns} FROM {table} JOIN template USING (message_id, day), {numbers}"
                )
            await connection.execute(
                "INSERT INTO carrier_ref (ref, carrier, at, message_id, step, attempt, segment) "
                f"SELECT ref || '-' || n, carrier, at, {copied_id}, step, attempt, segment "
                f"FROM carrier_ref JOIN template USING (message_id), {numbers}"
            )
        first += copies
        stored += copies * per_copy
    await connection.execute("VACUUM ANALYZE")
    await connection.execute("CHECKPOINT")
    return int(stored)


def cheapest(target: BenchNode, key: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return the round with the least CPU; exits when something is lost."""
    rounds = []
    for _ in range(args.rounds):
        found = measure(target, key, args.rate, args.seconds, BODY)
        if set(found["final"]) != {"delivered"}:
            raise SystemExit(f"lost or not delivered: {found['final']}")
        rounds.append(found)
    return min(rounds, key=_cost)


def _cost(found: dict[str, Any]) -> float:
    return float(found["python_cpu_s_per_1000"] + found["postgres_cpu_s_per_1000"])


async def main() -> int:
    """Measure, fill, measure again, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hermes-growth-") as folder, node(MOCKS, Path(folder, "data")) as target:
        _, key = target.tenant()
        await asyncio.to_thread(measure, target, key, 500, 4, BODY)  # warm-up, and what is copied later
        before = await asyncio.to_thread(cheapest, target, key, args)
        print(json.dumps({"rows": 0, **before}), flush=True)
        began = time.monotonic()
        connection = await asyncpg.connect(
            host=str(target.data_dir / "postgres"), port=PORT, user=USER, database=DATABASE, command_timeout=900
        )
        try:
            stored = await fill(connection, args.rows)
        finally:
            await connection.close()
        print(f"{stored:,} rows stored after {time.monotonic() - began:.0f} s", flush=True)
        after = await asyncio.to_thread(cheapest, target, key, args)
        print(json.dumps({"rows": stored, **after}), flush=True)
    grown = _cost(after) / _cost(before) - 1
    print(f"cost per message: {grown:+.1%} (aim: within 10 %)  {'ok' if grown <= 0.10 else 'MISSED'}")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
