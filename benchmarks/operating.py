"""What looking costs: CPU time of one scrape of /metrics and of one look of the console, as a share of one core.

    python -m benchmarks.operating [--carriers 1000] [--tenants 1000] [--open 100000] [--workers 1]

A monitor scrapes every 15 s, the console looks every 2 s. The node is the whole tree over the memory journal with that
many carriers, tenants and messages in actors: they wait for a receipt, and none is parked. Further workers have the
same carriers and tenants; all are in this process, so the figures are what all of them spend together.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from typing import Any

from actors import cascade
from hermes.domain.message import Step
from hermes.journal.memory import MemoryJournal
from hermes.runtime import SystemClock
from tests.actors.cast import message, mock
from tests.gateway.api import OPERATOR, Api, start_api, stop_api

LOOKS = 20
STEP = Step("sms", 86_400.0, "delivered")  # whose time is not over before the last message is there
SCRAPE_EVERY_S = 15.0
LOOK_EVERY_S = 2.0


async def cost(api: Api, path: str, key: str | None) -> tuple[float, int]:
    """CPU seconds of this process for one request, client included, and the answer's size; the best of LOOKS."""
    best, size = 1e9, 0
    for _ in range(LOOKS):
        began = time.process_time()
        answer = await api.call("GET", path, key=key)
        assert answer.status == 200, answer.raw
        best, size = min(best, time.process_time() - began), len(answer.raw)
    return best, size


async def main(carriers: int, tenants: int, open_: int, workers: int) -> None:
    """Build, look, print."""
    gc.disable()  # while it is built
    plans = [mock(f"carrier-{n:05}", "sms") for n in range(carriers)]
    cascade.PARK_AT_LEAST_AHEAD_S = 1e9  # type: ignore[misc]  # so none is
    journal = MemoryJournal(clock=SystemClock())
    await journal.start()
    api = await start_api(plans, journal=journal)
    for n in range(tenants - 1):
        await api.node.context.directory.create_tenant(f"tenant {n}")
    tenant_ids = [tenant.id for tenant in api.node.context.directory.tenants()]
    for n in range(open_):
        await api.node.submit(message(tenant_ids[n % len(tenant_ids)], STEP, to={"phone": "+4520120004"}))
    others = []
    for n in range(workers - 1):
        other = journal.peer(f"peer-{n}")
        await other.start()
        others.append(await start_api([mock(f"carrier-{n:05}", "sms") for n in range(carriers)], journal=other))
    gc.enable()
    gc.freeze()  # as a node does, which also never has all of these at once for the first time
    looks: list[tuple[str, str | None, float]] = [
        ("/metrics", None, SCRAPE_EVERY_S),
        ("/v1/overview?limit=8", OPERATOR, LOOK_EVERY_S),
        ("/v1/overview?limit=100", OPERATOR, LOOK_EVERY_S),
        ("/v1/actors", OPERATOR, LOOK_EVERY_S),
    ]
    print(f"{carriers} carriers, {tenants} tenants, {api.node.context.active} cascades, {workers} workers")
    for path, key, every_s in looks:
        spent, size = await cost(api, path, key)
        print(f"{path:24} {spent * 1000:8.1f} ms {size / 1024:8.0f} KiB  every {every_s:g} s: {spent / every_s:6.2%}")
    for one in (*others, api):
        await stop_api(one)


def parsed() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--carriers", type=int, default=1000)
    parser.add_argument("--tenants", type=int, default=1000)
    parser.add_argument("--open", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parsed()
    asyncio.run(main(arguments.carriers, arguments.tenants, arguments.open, arguments.workers))
