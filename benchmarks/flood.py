"""Whether a tenant that floods moves another's latency: its p95 to accept and to deliver, alone and beside the flood.

    python -m benchmarks.flood [--rate 500] [--flood 1000] [--allowed 50] [--seconds 6] [--rounds 4]

One node. The steady tenant sends at `--rate` (half of what one process takes without strain); the other, which may send
`--allowed` a second, offers `--flood` over 64 connections, each of which sends on once it is answered. The two ways
alternate, `--rounds` times each, and the median round counts: the machine changes meanwhile. Every accepted id of both
must be final at the end, every message of the steady tenant accepted, and the flood refused (429) but for what it may
send; the command fails otherwise, or when a p95 moves by more than 20 %. The generator shares the cores; on a
machine that does other things too, what the flood costs the node in CPU says more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from dataclasses import dataclass, field

from benchmarks._node import MOCKS, BenchNode, node
from benchmarks.load import CONNECTIONS, Connection, Load, percentile, reconcile

AIM = 1.2
SETTLE_S = 1.0  # for the last receipts
BODY = json.dumps({"channel": "sms", "to": "+4520120001", "content": {"text": "Your code is 123456"}}).encode()


@dataclass
class Figures:
    """p95 of each round in milliseconds, and the CPU seconds of the node's process."""

    accept: list[float] = field(default_factory=list)
    deliver: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


class Flood(Load):
    """Sends until told to stop; what finds no free connection is not sent."""

    stopping = False

    async def run(self) -> None:
        """Send until `stop`, then wait for the answers."""
        loop = asyncio.get_running_loop()
        for _ in range(CONNECTIONS):
            await loop.create_connection(lambda: Connection(self), self.target.host, self.target.port)
        start, offered, self.count = time.perf_counter(), 0, 0
        while not self.stopping:
            while start + offered / self.rate <= time.perf_counter():
                offered += 1
                if self.free:
                    self.count += 1
                    self.send(time.perf_counter())
            await asyncio.sleep(0.001)
        while len(self.latencies) < self.count:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        self.over = True


def run(load: Load, flood: Flood | None = None) -> None:
    """Send, beside the flood if there is one."""

    async def together() -> None:
        flooding = asyncio.create_task(flood.run()) if flood is not None else None
        await load.run()
        if flood is not None and flooding is not None:
            flood.stopping = True
            await asyncio.wait_for(flooding, 30)

    asyncio.run(together())
    time.sleep(SETTLE_S)


def lost(target: BenchNode, key: str, ids: list[str]) -> tuple[dict[str, int], list[float]]:
    """Look every id up until it is final."""
    found = reconcile(target, key, ids)
    return found["statuses"], found["seconds"]


def main() -> int:
    """Run, print; exit 1 when something is lost, or a tenant was moved by more than the aim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--flood", type=float, default=1000.0)
    parser.add_argument("--allowed", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rounds", type=int, default=4)
    args = parser.parse_args()
    failures: list[str] = []
    alone, beside = Figures(), Figures()
    with node(MOCKS) as target:
        _, steady = target.tenant()
        flooder, flooding = target.tenant()
        target.ask("PUT", f"/v1/tenants/{flooder}", {"rate_per_s": args.allowed})
        run(Load(target, steady, args.rate, int(args.rate * 3), BODY))  # plans, pools, code
        for _ in range(args.rounds):
            for figures, floods in ((alone, False), (beside, True)):
                load = Load(target, steady, args.rate, int(args.rate * args.seconds), BODY)
                flood = Flood(target, flooding, args.flood, 0, BODY)
                used, began = target.cpu_python_s(), time.perf_counter()
                run(load, flood if floods else None)
                took_s = time.perf_counter() - began
                figures.cpu.append(target.cpu_python_s() - used)
                statuses, seconds = lost(target, steady, load.ids)
                if statuses != {"delivered": load.count}:
                    failures.append(f"the steady tenant: {statuses}, refused {load.refused}, of {load.count}")
                if floods:
                    kept, _ = lost(target, flooding, flood.ids)
                    most = args.allowed * (took_s + 1)  # any sliding second holds at most so many
                    told = set(flood.refused) == {429} and sum(flood.refused.values()) + len(flood.ids) == flood.count
                    if set(kept) != {"delivered"} or not told or len(flood.ids) > most:
                        failures.append(f"the flood: {kept}, refused {flood.refused}, of {flood.count}")
                figures.accept.append(percentile(load.latencies, 0.95) * 1000)
                figures.deliver.append(percentile(seconds, 0.95) * 1000)
                how = f"beside a flood of {flood.count}, {len(flood.ids)} accepted" if floods else "alone"
                print(f"accept p95 {figures.accept[-1]:7.1f} ms, deliver p95 {figures.deliver[-1]:7.1f} ms  {how}")
    for name in ("accept", "deliver"):
        without, moved = (statistics.median(getattr(figures, name)) for figures in (alone, beside))
        print(f"{name} p95: {without:.1f} ms alone, {moved:.1f} ms beside the flood: {moved / without - 1:+.0%}")
        if moved > without * AIM:
            failures.append(f"{name} p95 moved by {moved / without - 1:.0%}, more than 20 %")
    cpu, more = (statistics.median(figures.cpu) for figures in (alone, beside))
    print(
        f"CPU of the node's process in a round: {cpu:.2f} s alone, {more:.2f} s beside the flood: {more / cpu - 1:+.0%}"
    )
    for failure in failures:
        print("FAILED", failure)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
