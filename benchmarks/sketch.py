"""What the same path costs as a bare sketch on this machine, now: what our aims are multiples of.

    python -m benchmarks.sketch --rate 1000 --rate 5000 [--rounds 2] [--loop uvloop]

The aims of the whole path (0.25 and 0.16 CPU-s of Python per 1,000 messages at 1,000/s and 5,000/s) were set where a
sketch of it measured 0.15 and 0.08. Machines differ by a factor of two, and so does one machine from hour to hour; the
sketch moves with it. This command runs the sketch and a real node by turns under the same load, and prints both, and
how many sketches a message costs. Aims: 0.25 / 0.15 = 1.67 sketches at 1,000/s, 0.16 / 0.08 = 2 at 5,000/s.

The sketch is aiohttp's own server, msgspec, one group-commit statement a batch (message, event and receipt-map rows
and the closing update) and cascades that are callbacks. It validates nothing, knows no tenant, key, layer, retry,
restart, metric or log, and its receipts need no search.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec
import uvloop
from aiohttp import web

from benchmarks._node import MOCKS, BenchNode, node, used_s
from benchmarks.load import CONNECTIONS, Load, measure
from hermes.journal.embedded import EmbeddedPostgres

BODY: Final = b'{"channel": "sms", "to": "+4520120001", "content": {"text": "Your code is 123456"}}'
RECEIPT_S: Final = 0.2  # the mock carrier's
WINDOW_S: Final = 0.005  # a batch gathers for so long, as Hermes' does
AIMS: Final = {1000.0: 0.25 / 0.15, 5000.0: 0.16 / 0.08}

SCHEMA: Final = """
create table message (id text primary key, body jsonb not null, status text);
create table event (
    id text not null, seq int not null, type text not null, at timestamptz not null, primary key (id, seq)
);
create table ref (ref text primary key, id text not null)
"""
STATEMENT: Final = """
with m as (insert into message (id, body) select * from unnest($1::text[], $2::jsonb[])),
     e as (insert into event (id, seq, type, at) select *, now() from unnest($3::text[], $4::int[], $5::text[])),
     r as (insert into ref (ref, id) select * from unnest($6::text[], $7::text[]))
update message set status = 'delivered' where id = any($8::text[])
"""


class Content(msgspec.Struct):
    """What a message says."""

    text: str


class Body(msgspec.Struct):
    """A message as the customer posts it, short form."""

    channel: str
    to: str
    content: Content


_decode: Final = msgspec.json.Decoder(Body).decode
_encode: Final = msgspec.json.Encoder().encode
Done = Callable[[], None]


class Journal:
    """Writes that wait are committed together, one batch after the other."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self.columns: list[list[Any]] = [[] for _ in range(8)]
        self.waiting: list[Done] = []
        self.wake = asyncio.Event()

    def insert(self, message_id: str, body: str, done: Done) -> None:
        """Store a message and its first event."""
        self.columns[0].append(message_id)
        self.columns[1].append(body)
        self.event(message_id, 1, "accepted", done)

    def event(self, message_id: str, seq: int, kind: str, done: Done) -> None:
        """Store an event."""
        columns = self.columns
        columns[2].append(message_id)
        columns[3].append(seq)
        columns[4].append(kind)
        self.waiting.append(done)
        self.wake.set()

    async def run(self) -> None:
        """Commit, as long as the process lives."""
        statement = await self.connection.prepare(STATEMENT)
        while True:
            await self.wake.wait()
            await asyncio.sleep(WINDOW_S)
            self.wake.clear()
            columns, self.columns = self.columns, [[] for _ in range(8)]
            waiting, self.waiting = self.waiting, []
            await statement.fetch(*columns)
            for done in waiting:
                done()


class Sketch:
    """Takes messages, and walks each through its three writes."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.numbers = count()
        self.receipts: deque[tuple[float, str]] = deque()
        self.delivered = 0

    async def post(self, request: web.Request) -> web.Response:
        """Answer 202 once the message is stored."""
        raw = await request.read()
        body = _decode(raw)
        message_id = f"msg_{next(self.numbers):026}"
        stored = asyncio.get_running_loop().create_future()

        def done() -> None:
            stored.set_result(None)
            self.submit(message_id)

        self.journal.insert(message_id, _encode(body).decode(), done)
        await stored
        answer = _encode({"id": message_id, "status": "accepted"})
        return web.Response(status=202, body=answer, content_type="application/json")

    def submit(self, message_id: str) -> None:
        """The carrier takes it at once, and will report."""
        columns = self.journal.columns
        columns[5].append("mock-" + message_id)
        columns[6].append(message_id)
        self.journal.event(message_id, 2, "submitted", lambda: None)
        self.receipts.append((time.monotonic() + RECEIPT_S, message_id))

    async def report(self) -> None:
        """Let receipts come, as long as the process lives."""
        while True:
            await asyncio.sleep(0.01)
            now = time.monotonic()
            while self.receipts and self.receipts[0][0] <= now:
                _, message_id = self.receipts.popleft()
                self.journal.columns[7].append(message_id)
                self.journal.event(message_id, 3, "delivered", self.end)

    def end(self) -> None:
        """One more is over."""
        self.delivered += 1

    async def count(self, _: web.Request) -> web.Response:
        """Say how many were delivered."""
        return web.json_response({"delivered": self.delivered})


async def serve(folder: Path) -> None:
    """Run the sketch on a database of its own; says its port and its database's pid."""
    server = EmbeddedPostgres(folder)
    await server.start()
    try:
        connection = await asyncpg.connect(**server.connect_kwargs())
        await connection.execute(SCHEMA)
        sketch = Sketch(Journal(connection))
        tasks = [asyncio.create_task(sketch.journal.run()), asyncio.create_task(sketch.report())]
        app = web.Application()
        app.router.add_post("/v1/messages", sketch.post)
        app.router.add_get("/delivered", sketch.count)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        (folder / "said.new").write_text(json.dumps({"port": port}))
        (folder / "said.new").rename(folder / "said")
        await asyncio.to_thread(sys.stdin.read)  # until the one who measures closes it
        for task in tasks:
            task.cancel()
        await runner.cleanup()
        await connection.close()
    finally:
        await server.stop()


@contextmanager
def sketch(loop: str) -> Iterator[BenchNode]:
    """Run the sketch in a process of its own until the block ends."""
    with tempfile.TemporaryDirectory(prefix="hermes-sketch-") as name:
        folder = Path(name)
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.sketch", "--serve", name, "--loop", loop], stdin=subprocess.PIPE
        )
        try:
            end = time.monotonic() + 60
            while not (folder / "said").exists():
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit("the sketch did not start")
                time.sleep(0.05)
            port = json.loads((folder / "said").read_text())["port"]
            yield BenchNode(process, folder, "127.0.0.1", port, "")
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def measure_sketch(target: BenchNode, rate: float, seconds: float) -> dict[str, Any]:
    """Run one load against the sketch and return its figures.

    Raises:
        SystemExit: what was accepted was not delivered within 60 s.
    """
    before = target.ask("GET", "/delivered")["delivered"]
    load = Load(target, "", rate, int(rate * seconds), BODY, connections=CONNECTIONS)
    python, postgres, began = used_s(target.pid), target.cpu_postgres_s(), time.perf_counter()
    asyncio.run(load.run())
    wall = time.perf_counter() - began
    time.sleep(1.0)
    python, postgres = used_s(target.pid) - python, target.cpu_postgres_s() - postgres
    end = time.monotonic() + 60
    while target.ask("GET", "/delivered")["delivered"] - before < load.count:
        if time.monotonic() > end:
            raise SystemExit("the sketch lost something")
        time.sleep(0.1)
    thousands = load.count / 1000
    return {
        "reached_per_s": round(load.count / wall),
        "python_cpu_s_per_1000": round(python / thousands, 3),
        "postgres_cpu_s_per_1000": round(postgres / thousands, 3),
    }


def main() -> int:
    """Parse, run by turns, print; exit 1 when something accepted was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, action="append", help="messages per second; may be repeated")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio", help="the sketch's event loop")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve is not None:
        run = uvloop.run if args.loop == "uvloop" else asyncio.run
        run(serve(Path(args.serve)))
        return 0
    well = True
    with sketch(args.loop) as bare, node(MOCKS) as target:
        _, key = target.tenant()
        measure(target, key, 500, 2, BODY)  # warm-up: plans, pools, code
        measure_sketch(bare, 500, 2)
        for rate in args.rate or [1000.0, 5000.0]:
            costs: list[tuple[float, float]] = []
            for _ in range(args.rounds):
                of_sketch = measure_sketch(bare, rate, args.seconds)
                ours = measure(target, key, rate, args.seconds, BODY)
                well = well and ours["final"] == {"delivered": ours["sent"]}
                costs.append((ours["python_cpu_s_per_1000"], of_sketch["python_cpu_s_per_1000"]))
                print(
                    json.dumps({"rate": rate, "sketch": of_sketch, "hermes": {k: ours[k] for k in of_sketch}}),
                    flush=True,
                )
            ours_least, bare_least = (min(column) for column in zip(*costs, strict=True))
            aim = f" (aim {AIMS[rate]:.2f})" if rate in AIMS else ""
            print(f"{rate:.0f}/s: {ours_least:.3f} and {bare_least:.3f}: {ours_least / bare_least:.2f} sketches{aim}")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
