"""What a hop of news between two workers takes: by the database's NOTIFY and over NATS.

    apt-get install nats-server
    python -m benchmarks.news [--count 500]

One journal tells another, one word after the other, each when the last was heard. Both are in this process, so the CPU
is that of both ends; the database's and the NATS server's are not counted. Embedded PostgreSQL, fsync on.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.load import percentile
from hermes.journal.base import NEWS_ANSWER
from hermes.journal.bus import Bus
from hermes.journal.embedded import EmbeddedPostgres
from hermes.journal.postgres import PostgresJournal
from hermes.runtime.clock import SystemClock
from hermes.testing.servers import free_port


async def measure(teller: PostgresJournal, listener: PostgresJournal, count: int) -> str:
    """Tell so many words and say how long each took.

    Raises:
        TimeoutError: a word was not heard within 5 s.
    """
    heard = asyncio.Event()
    listener.on_news(lambda topic, _: heard.set() if topic == NEWS_ANSWER else None)
    seconds = []
    used = time.process_time()
    for n in range(count):
        heard.clear()
        began = time.perf_counter()
        await teller.tell(NEWS_ANSWER, f"{listener.worker_id} {n}")
        await asyncio.wait_for(heard.wait(), 5)
        seconds.append((time.perf_counter() - began) * 1000)
    used = (time.process_time() - used) / count * 1e6
    return f"p50 {percentile(seconds, 0.5):.2f} ms, p99 {percentile(seconds, 0.99):.2f} ms, {used:.0f} us of both ends"


async def run(folder: Path, count: int) -> None:
    """Measure both ways."""
    server = EmbeddedPostgres(folder)
    await server.start()
    port = free_port()
    nats = await asyncio.create_subprocess_exec(
        "nats-server", "-a", "127.0.0.1", "-p", str(port), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        buses = [Bus(f"nats://127.0.0.1:{port}", "bench", name) for name in ("one", "two")]
        for way, (one, two) in {"NOTIFY": (None, None), "NATS": buses}.items():
            names = ("a", "b") if one is None else ("one", "two")
            teller, listener = (
                PostgresJournal(server.connect_kwargs(), worker_id=name, clock=SystemClock(), bus=bus)
                for name, bus in zip(names, (one, two), strict=True)
            )
            await teller.start()
            await listener.start()
            async with asyncio.timeout(10):
                while not all(bus is None or bus.connected for bus in (one, two)):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            await measure(teller, listener, 50)  # warm-up
            print(f"{way}: {await measure(teller, listener, count)}", flush=True)
            await teller.stop()
            await listener.stop()
    finally:
        nats.kill()
        await nats.wait()
        await server.stop()


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500)
    args = parser.parse_args()
    if shutil.which("nats-server") is None:
        print("nats-server is not installed: nothing was measured")
        return 0
    with tempfile.TemporaryDirectory(prefix="hermes-bench-") as folder:
        asyncio.run(run(Path(folder), args.count))
    return 0


if __name__ == "__main__":
    sys.exit(main())
