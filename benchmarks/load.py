"""The whole path on mock carriers under an open-loop load: accept, walk, deliver, reconcile every id.

    python -m benchmarks.load --rate 1000 --seconds 20
    python -m benchmarks.load --saturate              # rising steps until it takes no more
    python -m benchmarks.load --batch 500 --rate 20000   # by POST /v1/messages/batch
    python -m benchmarks.load --batch 500 --rate 20000 --later --workers 2   # taken and stored only
    python -m benchmarks.load --workers 2 --rate 5000

Messages are sent at a fixed rate whether or not earlier ones were answered; latency counts from the moment a message
should have been sent. At the end every accepted id is looked up and must be final. Prints CPU-seconds of Python and
PostgreSQL per 1,000 messages (CPU, not wall time: the machines are shared), latencies, and what was lost.

The generator is a process of its own and speaks HTTP/1.1 by hand over kept-open connections, so that it takes as
little as possible of the cores it shares with what it measures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks._node import MOCKS, BenchNode, node

CONNECTIONS = 64
BATCH_CONNECTIONS = 8  # a batch on each is what the node keeps in its queues at most
STEPS = (1000.0, 2000.0, 3000.0, 4000.0, 5000.0, 6000.0, 7000.0, 8000.0, 10000.0, 12000.0)  # messages/s, for --saturate
KEPT_UP = 0.95  # of the rate that was offered: less, and the step is past saturation
_ID = re.compile(rb'"(msg_[0-9A-Z]{26})"')


class Connection(asyncio.Protocol):
    """One kept-open connection: one request at a time."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.transport: asyncio.Transport | None = None
        self.buffer = b""
        self.intended = 0.0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.load.free.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.load.over:
            self.load.broken += 1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            head, found, rest = self.buffer.partition(b"\r\n\r\n")
            if not found:
                return
            lower = head.lower()
            at = lower.find(b"content-length:")
            length = int(lower[at + 15 : lower.find(b"\r\n", at) if b"\r\n" in lower[at:] else None])
            if len(rest) < length:
                return
            self.buffer = rest[length:]
            self.load.answered(self, int(head[9:12]), rest[:length])


class Load:
    """Sends `count` messages at `rate` per second, `batch` in a request (0: one, by the route for one)."""

    def __init__(
        self,
        target: BenchNode,
        key: str,
        rate: float,
        count: int,
        body: bytes,
        batch: int = 0,
        connections: int = CONNECTIONS,
    ) -> None:
        self.target = target
        self.connections = BATCH_CONNECTIONS if batch else connections
        self.batch = batch
        self.rate = rate / (batch or 1)  # requests
        self.count = count // (batch or 1)
        self.free: deque[Connection] = deque()
        self.waiting: deque[float] = deque()
        self.latencies: list[float] = []
        self.ids: list[str] = []
        self.bodies: list[bytes] = []  # answers to batches, read when the load is over
        self.refused: dict[int, int] = {}
        self.broken = 0
        self.over = False
        self.done = asyncio.Event()
        path = "/v1/messages"
        if batch:
            path += "/batch"
            body = b'{"messages": [' + b",".join([body] * batch) + b"]}"
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {target.host}\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.request = head.encode() + body

    async def run(self) -> None:
        """Send everything and wait for every answer."""
        await self.connect()
        start = time.perf_counter()
        sent = 0
        while sent < self.count:
            now = time.perf_counter()
            while sent < self.count and start + sent / self.rate <= now:
                self.send(start + sent / self.rate)
                sent += 1
            await asyncio.sleep(0.001)
        await asyncio.wait_for(self.done.wait(), 60)
        self.over = True

    async def connect(self) -> None:
        """Open the connections."""
        loop = asyncio.get_running_loop()
        for _ in range(self.connections):
            await loop.create_connection(lambda: Connection(self), self.target.host, self.target.port)

    def send(self, intended: float) -> None:
        """Send on a free connection, or as soon as one is."""
        if self.free:
            connection = self.free.popleft()
            connection.intended = intended
            assert connection.transport is not None
            connection.transport.write(self.request)
        else:
            self.waiting.append(intended)

    def answered(self, connection: Connection, status: int, body: bytes) -> None:
        """Take an answer and reuse its connection."""
        self.latencies.append(time.perf_counter() - connection.intended)
        if status == 202:
            self.ids.append(body[body.find(b"msg_") :][:30].decode())
        elif status == 200 and self.batch:
            self.bodies.append(body)
        else:
            self.refused[status] = self.refused.get(status, 0) + 1
        self.free.append(connection)
        if self.waiting:
            self.send(self.waiting.popleft())
        if len(self.latencies) >= self.count:
            self.done.set()


def percentile(values: list[float], share: float) -> float:
    """Return the value below which `share` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def reconcile(
    target: BenchNode, key: str, ids: list[str], timeout_s: float = 60.0, later: bool = False
) -> dict[str, Any]:
    """Look every id up until all are final (`later`: once); counts statuses and end-to-end seconds."""
    end = time.monotonic() + timeout_s
    left = list(ids)
    statuses: dict[str, int] = {}
    seconds: list[float] = []
    while left:
        still: list[str] = []
        for i in range(0, len(left), 1000):
            part = left[i : i + 1000]
            answer = target.ask("POST", "/v1/messages/lookup", {"ids": part}, key)
            found = {m["id"]: m for m in answer["data"]}
            for message_id in part:
                message = found.get(message_id)
                if message is None:
                    statuses["LOST"] = statuses.get("LOST", 0) + 1
                elif message["final_at"] is None and not later:
                    still.append(message_id)
                else:
                    statuses[message["status"]] = statuses.get(message["status"], 0) + 1
                    if message["final_at"] is not None:
                        took = datetime.fromisoformat(message["final_at"]) - datetime.fromisoformat(
                            message["created_at"]
                        )
                        seconds.append(took.total_seconds())
        left = still
        if time.monotonic() > end:
            statuses["NOT FINAL"] = len(left)
            break
        if left:
            time.sleep(0.2)
    return {"statuses": statuses, "seconds": seconds}


def measure(
    target: BenchNode,
    key: str,
    rate: float,
    seconds: float,
    body: bytes,
    batch: int = 0,
    connections: int = CONNECTIONS,
    later: bool = False,
) -> dict[str, Any]:
    """Run one load against a running node and return its figures; `later`: of messages that are only stored."""
    count = int(rate * seconds) // (batch or 1) * (batch or 1)
    load = Load(target, key, rate, count, body, batch, connections)
    python, postgres, began = target.cpu_python_s(), target.cpu_postgres_s(), time.perf_counter()
    own = time.process_time()
    asyncio.run(load.run())
    wall = time.perf_counter() - began
    for answer in load.bodies:
        found = _ID.findall(answer)
        load.ids += [message_id.decode() for message_id in found]
        if len(found) < batch:
            load.refused[429] = load.refused.get(429, 0) + batch - len(found)
    time.sleep(1.0)  # the last receipts (200 ms) and their commits belong to the measurement
    python, postgres = target.cpu_python_s() - python, target.cpu_postgres_s() - postgres
    own = time.process_time() - own
    found = reconcile(target, key, load.ids, later=later)
    thousands = count / 1000
    return {
        "rate": rate,
        "sent": count,
        "accepted": len(load.ids),
        "refused": load.refused,
        "final": found["statuses"],
        "workers": target.workers,
        "reached_per_s": round(count / wall),
        "accept_ms": {p: round(percentile(load.latencies, float(p) / 100) * 1000, 1) for p in ("50", "99", "99.9")},
        "end_to_end_ms": {p: round(percentile(found["seconds"], float(p) / 100) * 1000) for p in ("50", "99")},
        "python_cpu_s_per_1000": round(python / thousands, 3),
        "postgres_cpu_s_per_1000": round(postgres / thousands, 3),
        "generator_cpu_s_per_1000": round(own / thousands, 3),
        "rss_mb": round(target.rss_mb()),
    }


def main() -> int:
    """Parse, run, print; exit 1 when something accepted is lost or not final."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, action="append", help="messages per second; may be repeated")
    parser.add_argument("--saturate", action="store_true", help="rising rates, until one is not reached")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--channel", default="sms")
    parser.add_argument("--batch", type=int, default=0, help="messages in a request; 0: the route for one")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help="of the generator, for single messages")
    parser.add_argument("--later", action="store_true", help="messages for tomorrow: taken and stored, not sent")
    args = parser.parse_args()
    message = {"channel": args.channel, "to": "+4520120001", "content": {"text": "Your code is 123456"}}
    body = warm_up = json.dumps(message)
    if args.later:
        body = json.dumps({**message, "send_at": (datetime.now(UTC) + timedelta(days=1)).isoformat()})
    end = "scheduled" if args.later else "delivered"
    rates = args.rate or (list(STEPS) if args.saturate else [1000.0, 5000.0])
    lost = False
    with node(MOCKS, workers=args.workers) as target:
        _, key = target.tenant()
        measure(target, key, 500, 2, warm_up.encode())  # plans, pools, code
        for rate in rates:
            result = measure(target, key, rate, args.seconds, body.encode(), args.batch, args.connections, args.later)
            print(json.dumps(result), flush=True)
            lost |= set(result["final"]) != {end} or sum(result["final"].values()) != result["accepted"]
            if args.saturate and result["reached_per_s"] < KEPT_UP * rate:
                break
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
