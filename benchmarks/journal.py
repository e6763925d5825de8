"""What a message costs in the journal: CPU of Python and of PostgreSQL, batch sizes, commit latency.

    python -m benchmarks.journal [--rates 1000,5000] [--seconds 5] [--payload 200]

Open loop: messages arrive at the given rate whatever the journal does. Each makes three writes, one after the
other, as a message on mock carriers does: accepted (message row, event), submitted (event, carrier's id),
delivered (event, close, webhook, usage). The driver's own CPU is measured against a journal that does nothing
and taken off. fsync is on.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from hermes.domain.events import Event
from hermes.domain.message import Content, Message, Step, new_message_id
from hermes.domain.usage import UsageDelta
from hermes.journal.base import CarrierRef, Done, JournalError, OutboxEntry, Write
from hermes.journal.embedded import EmbeddedPostgres
from hermes.journal.postgres import PostgresJournal
from hermes.runtime.clock import SystemClock

TICK_S = 0.002


@dataclass(slots=True)
class Figures:
    """What one run saw."""

    accepted: list[float] = field(default_factory=list)  # seconds from append to done, first writes
    finished: int = 0
    errors: int = 0


class NoJournal:
    """Answers at once: what is left is the driver."""

    def append(self, write: Write, done: Done | None = None) -> None:
        if done is not None:
            asyncio.get_running_loop().call_soon(done, None)


class Drive:
    """Sends messages at a rate and walks each through its three writes."""

    def __init__(self, journal: Any, payload: int) -> None:
        self.journal = journal
        self.text = "x" * payload
        self.figures = Figures()
        self.cascade = (Step("sms", 60.0, "delivered"),)

    def accept(self, n: int) -> None:
        now = datetime.now(UTC)
        message_id = new_message_id(now)
        message = Message(
            message_id=message_id,
            tenant=f"ten_{n % 10}",
            to={"phone": "+4520123456"},
            cascade=self.cascade,
            content=Content(text=self.text),
            created_at=now,
            expires_at=now + timedelta(hours=72),
            reference=f"order-{n}" if n % 2 else None,
            segments=1,
            encoding="gsm7",
        )
        events = [Event(1, now, "accepted", None, None, {"route": ["mock-1"]})]
        began = time.perf_counter()

        def accepted(error: JournalError | None) -> None:
            self.figures.accepted.append(time.perf_counter() - began)
            self.submit(message, error)

        self.journal.append(Write(message_id, message.tenant, events, message=message), accepted)

    def submit(self, message: Message, error: JournalError | None) -> None:
        self.figures.errors += error is not None
        ref = "mock-" + message.message_id
        event = Event(2, datetime.now(UTC), "submitted", 0, 1, {"carrier": "mock-1", "ids": [ref], "cost": 0.01})
        write = Write(message.message_id, message.tenant, [event], refs=[CarrierRef("mock-1", ref, 0, 1, 0)])
        self.journal.append(write, lambda error: self.deliver(message, error))

    def deliver(self, message: Message, error: JournalError | None) -> None:
        self.figures.errors += error is not None
        now = datetime.now(UTC)
        event = Event(3, now, "delivered", 0, 1, {"delivered_by": 0, "carrier": "mock-1"})
        write = Write(
            message.message_id,
            message.tenant,
            [event],
            status="delivered",
            outbox=[OutboxEntry(3, "callback", "message.delivered", now)],
            usage=[UsageDelta("live", now.date(), "sms", "mock-1", "delivered", 1, 1, 1, 10_000)],
        )
        self.journal.append(write, self.finish)

    def finish(self, error: JournalError | None) -> None:
        self.figures.errors += error is not None
        self.figures.finished += 1

    async def all_finished(self, total: int) -> None:
        while self.figures.finished < total:  # noqa: ASYNC110 - an event per message would be measured too
            await asyncio.sleep(TICK_S)

    async def run(self, rate: int, seconds: float) -> float:
        """Return the seconds until the last message was finished."""
        total = int(rate * seconds)
        began = time.perf_counter()
        sent = 0
        while sent < total:
            due = min(total, int((time.perf_counter() - began) * rate))
            while sent < due:
                self.accept(sent)
                sent += 1
            await asyncio.sleep(TICK_S)
        await self.all_finished(total)
        return time.perf_counter() - began


def cpu_of_server(pid: int) -> float:
    """CPU seconds of a server and its children, those that ended included."""
    server = psutil.Process(pid)
    times = server.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in server.children(recursive=True):
        child_times = child.cpu_times()
        total += child_times.user + child_times.system
    return float(total)


async def measure(journal: Any, rate: int, seconds: float, payload: int, server_cpu: Callable[[], float]) -> Any:
    gc.collect()
    drive = Drive(journal, payload)
    python, server = time.process_time(), server_cpu()
    took = await drive.run(rate, seconds)
    python, server = time.process_time() - python, server_cpu() - server
    return drive.figures, took, python, server


def percentiles(values: list[float]) -> str:
    values = sorted(values)
    return f"p50 {values[len(values) // 2]:.2f}, p99 {values[int(len(values) * 0.99)]:.2f}"


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="1000,5000")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--payload", type=int, default=200, help="characters of message text")
    parser.add_argument("--window-ms", type=float, default=3.0)
    parser.add_argument("--dir", default=None)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hermes-bench-", dir=options.dir))
    server = EmbeddedPostgres(folder)
    await server.start()
    try:
        pid = server.pid
        assert pid is not None
        journal = PostgresJournal(
            server.connect_kwargs(),
            worker_id="bench",
            clock=SystemClock(),
            batch_window_ms=options.window_ms,
        )
        batches: list[tuple[int, float]] = []
        journal.on_batch(lambda writes, seconds: batches.append((writes, seconds)))
        await journal.start()
        await journal.claim_shards()
        await measure(journal, 500, 1.0, options.payload, lambda: 0.0)  # warm up
        for rate in map(int, options.rates.split(",")):
            total = int(rate * options.seconds)
            _, _, driver, _ = await measure(NoJournal(), rate, options.seconds, options.payload, lambda: 0.0)
            batches.clear()
            figures, took, python, postgres = await measure(
                journal, rate, options.seconds, options.payload, lambda: cpu_of_server(pid)
            )
            commits = [seconds * 1000 for _, seconds in batches]
            sizes = [writes for writes, _ in batches]
            accept = [seconds * 1000 for seconds in figures.accepted]
            print(f"{rate}/s: {total} messages, done in {took:.2f} s, {figures.errors} errors")
            per_1000 = [seconds / total * 1000 for seconds in (python - driver, driver, postgres)]
            print("  CPU-s per 1,000: Python {:.4f} (and driver {:.4f}), PostgreSQL {:.4f}".format(*per_1000))
            rate_of_batches = len(batches) / took
            print(f"  {rate_of_batches:.0f} batches/s, {statistics.mean(sizes):.1f} writes (most {max(sizes)})")
            print(f"  commit ms: {percentiles(commits)}; append to done, first writes: {percentiles(accept)}")
        await journal.stop()
    finally:
        await server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main())
