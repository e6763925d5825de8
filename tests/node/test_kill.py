"""kill -9 of the node and of its database, again and again, while messages come in: nothing is lost."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from tests.node.harness import READY_AGAIN_WITHIN_S, Node, running
from tests.node.hooks import ALLOW, Customer
from tests.node.load import Load, check_kept, check_usage, mail_server

KILLS = (
    ["the node"] * 8
    + ["the node while it starts"] * 2
    + ["the node and its database"] * 3
    + ["the postmaster"] * 3
    + ["one process of the database"] * 2
    + ["every process of the database"] * 2
)
FINAL_WITHIN_S = 90.0  # after the last kill; the slowest messages take 20 s


def kill_processes(processes: list[psutil.Process]) -> None:
    assert processes, "the database is not there"
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


async def kill(node: Node, what: str) -> None:
    """kill -9 what is named, and start the node again if that was killed."""
    if what == "the postmaster":
        kill_processes(node.postgres()[:1])
    elif what == "one process of the database":
        kill_processes([random.choice(node.postgres()[1:])])
    elif what == "every process of the database":
        kill_processes(node.postgres())
    else:
        if what == "the node and its database":
            servers = node.postgres()
            node.kill()
            kill_processes(servers)
        elif what == "the node while it starts":
            node.kill()
            node.launch()
            await asyncio.sleep(random.uniform(0.05, 1.0))
            node.kill()
        else:
            node.kill()
        await node.start()


@pytest.mark.timeout(400)
async def test_twenty_kills_under_load_lose_nothing_and_send_never_twice(tmp_path: Path, data: Path) -> None:
    plan = random.sample(KILLS, len(KILLS))
    assert len(plan) == 20
    customer = Customer()
    async with (
        mail_server() as (carriers, mail),
        customer.listening(),
        running(tmp_path, carriers, server=ALLOW, data=data) as node,
    ):
        tenant = await node.tenant()
        load = Load(node, tenant.key, customer=customer)
        ready: list[tuple[float, str]] = []
        async with load.coming_in():
            for what in plan:
                await asyncio.sleep(random.uniform(0.1, 1.3))  # a random moment under load
                print(f"{len(load.ids)} accepted; kill {what}")
                killed = time.monotonic()
                await kill(node, what)
                await load.goes_on(3 * READY_AGAIN_WITHIN_S)
                ready.append((time.monotonic() - killed, what))
        print(f"slowest answer {load.slowest_s:.2f} s, accepted again after", max(ready), dict(load.answers))
        messages = await check_kept(load, mail, FINAL_WITHIN_S)
        await check_usage(node, tenant.id, messages.values())
        node.check_alive()
        ends = Counter(f"{m['metadata']['policy']} {m['status']}" for m in messages.values())
        print(f"{len(customer.told)} webhooks of {len(customer.by_message)} messages")
        print(f"ends {dict(ends)}, copies at the mail server {dict(Counter(mail.taken.values()))}")
        assert max(ready)[0] < READY_AGAIN_WITHIN_S
        assert len(messages) > 20 * len(KILLS), "too little traffic to prove anything"
