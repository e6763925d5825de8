"""What the limits cost: latency and CPU of one question, in process and with Redis, and whether they are exact.

    python -m benchmarks.limits [--clients 50] [--rounds 200]

A real redis-server on a Unix socket. `one tenant`: all clients send for one, as a tenant's burst does; `each its own`:
no two questions alike. Tenants have a rate and a burst; `all limits` adds a channel's rate and quotas. `at once`: all
clients ask in the same turn of the loop, again and again; `paced`: 1,000 questions a second in all, each client at
random. CPU is of this process (less what the clients cost with nobody to ask) and of Redis, per question. The
command fails when a limit is passed, or not reached.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import time
from collections.abc import Awaitable, Callable

import psutil  # type: ignore[import-untyped]

from gateway.limits.base import Ask, Limits, QuotaAsk
from gateway.limits.local import LocalLimits
from gateway.limits.shared import SharedLimits
from hermes.domain.message import UTC
from hermes.runtime import SystemClock
from tests.gateway.redis_server import RedisServer, running_redis

PACED_PER_S = 1000
PACED_S = 4.0
FREE = 1_000_000  # a rate nobody reaches

Take = Callable[[Ask], Awaitable[None]]
Load = Callable[[Take], Awaitable[None]]


def ask(tenant: str, rate: int = FREE, *, all_limits: bool = False) -> Ask:
    """One message of a tenant with a rate and a burst; and with a channel's rate and quotas."""
    if not all_limits:
        return Ask(f"{tenant}:live", rate, 10, "sms", 0)
    day = SystemClock().now().astimezone(UTC).date()
    quota = QuotaAsk(tenant, "live", (FREE, 0, 0, FREE, 0, 0), day, (1, 1, 0))
    return Ask(f"{tenant}:live", rate, 10, "sms", FREE, quota=quota)


class Measured:
    """Latencies of questions, and the CPU that went by."""

    def __init__(self, limits: Limits, redis: RedisServer | None) -> None:
        self._limits = limits
        self._redis = None if redis is None or redis.pid is None else psutil.Process(redis.pid)
        self.latencies: list[float] = []

    async def take(self, asked: Ask) -> None:
        """Ask once."""
        began = time.perf_counter()
        taken = await self._limits.take(asked)
        self.latencies.append(time.perf_counter() - began)
        assert taken.refused is None, taken

    async def run(self, name: str, load: Load) -> None:
        """Run a load, first with nobody to ask, and print what the limits cost."""

        async def nothing(asked: Ask) -> None:
            self.latencies.append(time.perf_counter())

        idle = await self._cpu(load, nothing)
        spent = await self._cpu(load, self.take)
        took, count = sorted(self.latencies), len(self.latencies)
        p50, p99 = (took[int(count * share)] * 1000 for share in (0.5, 0.99))
        own, theirs = ((b - a) / count * 1e6 for a, b in zip(idle, spent, strict=True))
        print(f"{name:36} p50 {p50:6.2f} ms  p99 {p99:6.2f} ms  CPU {own:5.1f} us here, {theirs:5.1f} us in Redis")

    async def _cpu(
        self,
        load: Load,
        take: Take,
    ) -> tuple[float, float]:
        gc.collect()
        self.latencies.clear()
        before, theirs = time.process_time(), self._theirs()
        await load(take)
        return time.process_time() - before, self._theirs() - theirs

    def _theirs(self) -> float:
        times = self._redis.cpu_times() if self._redis is not None else None
        return 0.0 if times is None else float(times.user + times.system)


async def measure(limits: Limits, redis: RedisServer | None, clients: int, rounds: int) -> None:
    """Run the loads."""
    measured = Measured(limits, redis)

    def at_once(asks: list[Ask]) -> Load:
        async def load(take: Take) -> None:
            for _ in range(rounds):
                await asyncio.gather(*(take(one) for one in asks))

        return load

    def paced(asks: list[Ask]) -> Load:
        async def client(asked: Ask, take: Take) -> None:
            end = time.monotonic() + PACED_S
            while time.monotonic() < end:
                await asyncio.sleep(random.expovariate(PACED_PER_S / clients))
                await take(asked)

        async def load(take: Take) -> None:
            await asyncio.gather(*(client(one, take) for one in asks))

        return load

    one = [ask("ten_1") for _ in range(clients)]
    own = [ask(f"ten_{n}") for n in range(clients)]
    all_limits = [ask(f"ten_{n}", all_limits=True) for n in range(clients)]
    for name, asks in (("one tenant", one), ("each its own", own), ("each its own, all limits", all_limits)):
        await measured.run(f"{clients} at once, {name}", at_once(asks))
        await measured.run(f"{clients} paced, {name}", paced(asks))


async def exact(workers: list[Limits], clients: int) -> None:
    """Have more asked at once than a rate and a burst let go, and see that exactly those go."""
    asked = ask("ten_exact", rate=clients)
    offered = 4 * (clients + asked.burst)
    taken = await asyncio.gather(*(workers[n % len(workers)].take(asked) for n in range(offered)))
    went = sum(one.refused is None for one in taken)
    assert went == clients + asked.burst, f"{went} went, not {clients + asked.burst}"
    print(f"{offered} at once over {len(workers)} workers: {went} went, {clients} + {asked.burst} may")


async def main(clients: int, rounds: int) -> None:
    """Measure both."""
    monotonic = SystemClock().monotonic
    print("in process")
    await measure(LocalLimits(monotonic), None, clients, rounds)
    await exact([LocalLimits(monotonic)], clients)
    async with running_redis() as server:
        print("with Redis")
        limits = SharedLimits(server.url, monotonic)
        await measure(limits, server, clients, rounds)
        other = SharedLimits(server.url, monotonic)
        await exact([limits, other], clients)
        await limits.close()
        await other.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=200)
    given = parser.parse_args()
    asyncio.run(main(given.clients, given.rounds))
