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

from tests.node.harness import READY_WITHIN_S, Node, running, until
from tests.node.load import Load, check_kept, mail_server

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


async def accepting(load: Load, traffic: asyncio.Future[None], since: float) -> float:
    """Wait until a message is accepted that was begun after `since`; returns the seconds from then."""

    def accepted() -> bool:
        if traffic.done():
            traffic.result()
        return load.newest > since

    await until(accepted, 3 * READY_WITHIN_S, "messages are accepted again")
    return time.monotonic() - since


@pytest.mark.timeout(400)
async def test_twenty_kills_under_load_lose_nothing_and_send_never_twice(tmp_path: Path, data: Path) -> None:
    plan = random.sample(KILLS, len(KILLS))
    assert len(plan) == 20
    async with mail_server() as (carriers, mail), running(tmp_path, carriers, data=data) as node:
        load = Load(node, (await node.tenant()).key)
        traffic = asyncio.ensure_future(load.run())
        ready: list[tuple[float, str]] = []
        for what in plan:
            await asyncio.sleep(random.uniform(0.2, 1.6))  # a random moment under load
            print(f"{len(load.ids)} accepted; kill {what}")
            killed = time.monotonic()
            await kill(node, what)
            ready.append((await accepting(load, traffic, killed), what))
        load.stopping = True
        await traffic
        print(f"slowest answer {load.slowest_s:.2f} s, accepted again after", max(ready), dict(load.answers))
        messages = await check_kept(load, mail, FINAL_WITHIN_S)
        node.check_alive()
        ends = Counter(f"{m['metadata']['policy']} {m['status']}" for m in messages.values())
        print(f"ends {dict(ends)}, copies at the mail server {dict(Counter(mail.taken.values()))}")
        assert max(ready)[0] < READY_WITHIN_S
        assert len(messages) > 20 * len(KILLS), "too little traffic to prove anything"
