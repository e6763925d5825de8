"""The benchmark of waiting messages on a small scale: that it finds nothing wrong, not how fast it is."""

from __future__ import annotations

import asyncio
import json
import sys

from tests.node.harness import REPOSITORY, environment


async def test_thousands_of_waiting_messages_are_parked_woken_and_on_time() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.waiting", "--count", "5000", "--receipts", "200", "--json"),
        cwd=REPOSITORY,
        env=environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    print(out.decode(), err.decode())
    assert process.returncode == 0
    assert json.loads(out)["wrong"] == []
