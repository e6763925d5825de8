"""What looking costs: CPU time of one scrape of /metrics and of one look of the console, as a share of one core.

    python -m benchmarks.operating [--carriers 1000] [--tenants 1000] [--open 100000]

A monitor scrapes every 15 s, the console looks every 2 s. The node is the whole tree over the memory journal with that
many carriers, tenants and messages in actors: carriers that do not answer hold them there.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import replace
from typing import Any

from actors import gauges
from tests.actors.cast import message, mock
from tests.gateway.api import OPERATOR, Api, start_api, stop_api

LOOKS = 20
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


async def main(carriers: int, tenants: int, open_: int) -> None:
    """Build, look, print."""
    plans = [replace(mock(f"carrier-{n:05}", "sms", latency_ms=3_600_000), timeout_s=0.0) for n in range(carriers)]
    api = await start_api(plans, linger_s=3600.0, linger_limit=10**9)
    gauges.measure(api.node.context)
    for n in range(tenants - 1):
        await api.node.context.directory.create_tenant(f"tenant {n}")
    tenant_ids = [tenant.id for tenant in api.node.context.directory.tenants()]
    for n in range(open_):
        await api.node.submit(message(tenant_ids[n % len(tenant_ids)], "sms", to={"phone": "+4520120004"}))
    looks: list[tuple[str, str | None, float]] = [
        ("/metrics", None, SCRAPE_EVERY_S),
        ("/v1/overview?limit=8", OPERATOR, LOOK_EVERY_S),
        ("/v1/overview?limit=100", OPERATOR, LOOK_EVERY_S),
        ("/v1/actors", OPERATOR, LOOK_EVERY_S),
    ]
    print(f"{carriers} carriers, {tenants} tenants, {api.node.context.active} cascades")
    for path, key, every_s in looks:
        spent, size = await cost(api, path, key)
        print(f"{path:24} {spent * 1000:8.1f} ms {size / 1024:8.0f} KiB  every {every_s:g} s: {spent / every_s:6.2%}")
    await stop_api(api)


def parsed() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--carriers", type=int, default=1000)
    parser.add_argument("--tenants", type=int, default=1000)
    parser.add_argument("--open", type=int, default=100_000)
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parsed()
    asyncio.run(main(arguments.carriers, arguments.tenants, arguments.open))
