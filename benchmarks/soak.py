"""Hours of traffic with kill -9 in between: every accepted message must be final at the end, memory must stay flat.

    python -m benchmarks.soak [--minutes 10] [--kill-every 20] [--clients 32] [--pause 0.1]

Clients post messages with an Idempotency-Key each and repeat a post until it is accepted, whatever happens in
between. The node - its embedded PostgreSQL dies with it - is killed at random moments, `--kill-every` seconds apart on
average, and started again on the same data folder. Prints a line of JSON a start (seconds until ready, resident
memory, messages so far) and one at the end. Exits 1 when a message is lost, not final or not delivered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks._node import MOCKS, BenchNode, node
from benchmarks.load import reconcile

AGAIN_S = 0.2  # a client waits so long before it repeats a post
RECONCILED_WITHIN_S = 300.0
# A receipt at once, a fallback after an "undelivered", a late receipt: magic recipients of the mock carriers.
BODIES: tuple[dict[str, Any], ...] = (
    {"channel": "sms", "to": "+4520120001", "content": {"text": "x"}},
    {
        "to": {"phone": "+4520120003", "push": "tok-delivered"},
        "cascade": [{"channel": "sms", "timeout_s": 30}, "push"],
        "content": {"text": "x"},
    },
    {"channel": "sms", "to": "+4520120006", "content": {"text": "x"}},
)


@dataclass
class Traffic:
    """What the clients have sent. `url` is where the node of the moment listens; None while there is none."""

    key: str
    pause_s: float
    url: str | None = None
    ids: list[str] = field(default_factory=list)
    repeats: int = 0
    over: bool = False
    numbers: int = 0

    async def client(self, session: aiohttp.ClientSession) -> None:
        """Send one message after the other until it is over."""
        while not self.over:
            self.numbers += 1
            await self._send(session, BODIES[self.numbers % len(BODIES)], f"soak-{self.numbers}")
            await asyncio.sleep(random.uniform(0, 2 * self.pause_s))

    async def _send(self, session: aiohttp.ClientSession, body: dict[str, Any], key: str) -> None:
        headers = {"Authorization": f"Bearer {self.key}", "Idempotency-Key": key}
        while True:
            try:
                if self.url is not None:
                    async with session.post(f"{self.url}/v1/messages", json=body, headers=headers) as answer:
                        if answer.status == 202:
                            self.ids.append((await answer.json())["id"])
                            return
                        if answer.status not in (409, 429, 503):
                            raise SystemExit(f"{answer.status}: {await answer.text()}")
            except (aiohttp.ClientError, TimeoutError, ConnectionError):
                pass
            self.repeats += 1
            await asyncio.sleep(AGAIN_S)


async def run(args: argparse.Namespace, data: Path) -> int:
    """Let it run, kill, start again; returns the exit code."""
    random.seed(args.seed)
    ends = time.monotonic() + args.minutes * 60
    kills = 0
    traffic: Traffic | None = None
    clients: list[asyncio.Task[None]] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
        while True:
            began = time.monotonic()
            running = node(MOCKS, data)
            target = await asyncio.to_thread(running.__enter__)
            took = time.monotonic() - began
            if traffic is None:
                traffic = Traffic(target.tenant()[1], args.pause)
                clients = [asyncio.create_task(traffic.client(session)) for _ in range(args.clients)]
            traffic.url = f"http://{target.host}:{target.port}"
            say(start=kills, ready_s=round(took, 2), messages=len(traffic.ids), rss_mb=round(target.rss_mb()))
            last = time.monotonic() >= ends
            await _watch(clients, 1.0 if last else min(random.expovariate(1 / args.kill_every), args.kill_every * 4))
            if last:
                traffic.over = True
                await asyncio.gather(*clients)
                found = await asyncio.to_thread(reconcile, target, traffic.key, traffic.ids, RECONCILED_WITHIN_S)
                rss = round(target.rss_mb())
                await asyncio.to_thread(running.__exit__, None, None, None)
                return _end(traffic, kills, found["statuses"], rss)
            traffic.url = None
            kill(target)
            kills += 1
            await asyncio.to_thread(running.__exit__, None, None, None)


async def _watch(clients: list[asyncio.Task[None]], seconds: float) -> None:
    """Wait; a client that ends before its time ends the run."""
    done, _ = await asyncio.wait(clients, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for one in done:
        one.result()


def kill(target: BenchNode) -> None:
    """End the node as a power cut would."""
    target.process.send_signal(signal.SIGKILL)
    target.process.wait()


def _end(traffic: Traffic, kills: int, statuses: dict[str, int], rss_mb: int) -> int:
    twice = len(traffic.ids) - len(set(traffic.ids))
    say(
        messages=len(traffic.ids),
        kills=kills,
        repeats=traffic.repeats,
        statuses=statuses,
        rss_mb=rss_mb,
        same_id_twice=twice,
    )
    return 0 if set(statuses) == {"delivered"} and not twice else 1


def say(**facts: Any) -> None:
    """Print a line."""
    print(json.dumps(facts), flush=True)


def main() -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--kill-every", type=float, default=20.0, help="seconds, on average")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument(
        "--pause", type=float, default=0.1, help="of a client between two messages, on average, seconds"
    )
    parser.add_argument("--seed", type=int, default=None)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hermes-soak-") as folder:
        return asyncio.run(run(args, Path(folder, "data")))


if __name__ == "__main__":
    sys.exit(main())
