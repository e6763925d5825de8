"""A node of several processes: kills, stops, renewals, and what comes to the process that does not own it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import psutil  # type: ignore[import-untyped]
import pytest

from hermes.parent import RESTARTS_A_WORKER, failures_after, intensity
from hermes.runtime.intensity import count_restart
from tests.node.harness import (
    FIRST_START_WITHIN_S,
    MOCKS,
    SOON_S,
    Node,
    is_alive,
    mock,
    receipt,
    started,
    two_of_one_database,
    until,
    waiting_for_receipts,
)
from tests.node.hooks import ALLOW, Customer
from tests.node.load import Load, check_kept, check_usage, mail_server

pytestmark = pytest.mark.slow

MOVED_WITHIN_S = 60.0  # the contract says 12 s, on a machine that has nothing else to do
FINAL_WITHIN_S = 120.0
SEVERAL = 8  # connections: enough for each of two processes to get some


@asynccontextmanager
async def workers(folder: Path, data: Path, carriers: str = MOCKS, *, server: str = "") -> AsyncIterator[Node]:
    """A node with two workers; each request comes over a connection of its own, to either of them."""
    node = Node(folder, carriers, server=f"workers = 2\n{server}", data=data)
    node._session = aiohttp.ClientSession(node.url, connector=aiohttp.TCPConnector(limit=0, force_close=True))
    async with started(node, FIRST_START_WITHIN_S):
        yield node


async def alive(node: Node) -> dict[int, dict[str, Any]]:
    """The living workers by pid, as the first says that answers: one that is stopped or dies takes no time from it."""
    while True:
        asked = [asyncio.ensure_future(node.ask("GET", "/v1/workers", timeout_s=1)) for _ in range(SEVERAL)]
        try:
            for answered in asyncio.as_completed(asked):
                with suppress(aiohttp.ClientError, OSError, TimeoutError):
                    answer = await answered
                    if answer.status == 200:
                        return {row["pid"]: row for row in answer.body["data"] if row["state"] == "alive"}
        finally:
            for one in asked:
                one.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        node.check_alive()


async def shared(node: Node) -> dict[int, dict[str, Any]] | None:
    """The two workers, once they share all shards."""
    found = await alive(node)
    return found if sorted(row["shards"] for row in found.values()) == [32, 32] else None


def test_a_worker_that_lived_long_begins_anew_and_many_deaths_end_the_node() -> None:
    assert [failures_after(0, 1.0), failures_after(4, 1.0), failures_after(4, 31.0)] == [1, 5, 1]
    past: tuple[float, ...] = ()
    allowed = True
    deaths = 0
    while allowed:
        past, allowed = count_restart(intensity(2), past, float(deaths))
        deaths += allowed
    assert deaths == 2 * RESTARTS_A_WORKER


async def test_what_comes_to_the_worker_that_does_not_own_it_is_done_all_the_same(tmp_path: Path, data: Path) -> None:
    async with workers(tmp_path, data) as node:
        await until(lambda: shared(node), MOVED_WITHIN_S, "the workers share the shards")
        tenant = await node.tenant()
        # Known to every worker, soon: none is asked before it knows.
        key = tenant.key

        async def everywhere(status: int) -> bool:
            return all([(await node.ask("GET", "/v1/messages", key=key)).status == status for _ in range(SEVERAL)])

        await until(lambda: everywhere(200), SOON_S, "every worker knows the key")
        messages = await waiting_for_receipts(node, tenant.key, 20)
        for message in messages[:10]:
            answer = await receipt(node, message["attempts"][0]["carrier_message_ids"][0])
            assert answer.status in (200, 202), answer
        done = await node.all_final([message["id"] for message in messages[:10]], SOON_S)
        assert {message["status"] for message in done.values()} == {"delivered"}
        for message in messages[10:]:
            answer = await node.ask("POST", f"/v1/messages/{message['id']}/cancel", key=tenant.key)
            if answer.status == 503:  # this machine was slow: the outcome was unknown, and it was carried out
                assert (await node.final(message["id"]))["status"] == "cancelled"
            else:
                assert (answer.status, answer.body["status"]) == (200, "cancelled"), answer
        added = await node.ask("POST", "/v1/carriers", {"name": "second", "kind": "mock", "channel": "sms"})
        assert added.status == 201, added

        async def known() -> bool:
            return all([(await node.ask("GET", "/v1/carriers/second")).status == 200 for _ in range(SEVERAL)])

        await until(known, SOON_S, "every worker has the new carrier")
        (listed,) = (await node.get(f"/v1/tenants/{tenant.id}/keys"))["data"][:1]
        assert (await node.ask("DELETE", f"/v1/tenants/{tenant.id}/keys/{listed['id']}")).status == 204
        key = tenant.key if listed["mode"] == "live" else tenant.test_key
        await until(lambda: everywhere(401), SOON_S, "no worker takes the key that was revoked")
        assert await node.terminate(SOON_S) == 0
        assert len(node.postgres()) == 0


@pytest.mark.timeout(400)
async def test_killed_workers_lose_nothing_and_send_never_twice(tmp_path: Path, data: Path) -> None:
    customer = Customer()
    async with (
        mail_server() as (carriers, mail),
        customer.listening(),
        workers(tmp_path, data, carriers, server=ALLOW) as node,
    ):
        await until(lambda: shared(node), MOVED_WITHIN_S, "the workers share the shards")
        tenant = await node.tenant()
        load = Load(node, tenant.key, customer=customer)
        async with load.coming_in():
            for _ in range(6):
                await asyncio.sleep(random.uniform(0.2, 2.0))  # a random moment under load
                victim = random.choice(list(await alive(node)))
                print(f"{len(load.ids)} accepted; kill worker {victim}")
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                await load.goes_on(MOVED_WITHIN_S)
            await until(lambda: shared(node), MOVED_WITHIN_S, "two workers share the shards again")
        messages = await check_kept(load, mail, FINAL_WITHIN_S)
        await check_usage(node, tenant.id, messages.values())
        print(len(messages), dict(load.answers))
        assert len(messages) > 50, "too little traffic to prove anything"


@pytest.mark.timeout(400)
async def test_a_worker_stopped_beyond_its_lease_commits_nothing_more_and_ends(tmp_path: Path, data: Path) -> None:
    async with mail_server() as (carriers, mail), workers(tmp_path, data, carriers, server=ALLOW) as node:
        await until(lambda: shared(node), MOVED_WITHIN_S, "the workers share the shards")
        tenant = await node.tenant()
        load = Load(node, tenant.key)
        stopped = random.choice(list(await alive(node)))
        async with load.coming_in():
            await load.goes_on(SOON_S)
            os.kill(stopped, signal.SIGSTOP)
            began = time.monotonic()

            async def moved() -> bool:
                return [row["shards"] for row in (await alive(node)).values()] == [64]

            try:
                await until(moved, MOVED_WITHIN_S, "the other worker has all shards")
                print(f"moved after {time.monotonic() - began:.1f} s")
            finally:
                os.kill(stopped, signal.SIGCONT)
            await until(lambda: not psutil.pid_exists(stopped), SOON_S, "the one that was stopped ends")
            assert stopped not in await until(lambda: shared(node), MOVED_WITHIN_S, "another takes its place")
        await check_kept(load, mail, FINAL_WITHIN_S)


async def test_workers_end_with_their_parent_and_the_next_one_goes_on(tmp_path: Path, data: Path) -> None:
    async with workers(tmp_path, data) as node:
        found = await until(lambda: shared(node), MOVED_WITHIN_S, "the workers share the shards")
        processes = [psutil.Process(pid) for pid in found]
        tenant = await node.tenant()
        sent = await node.send(tenant.key, {"channel": "sms", "to": "+4520120006", "content": {"text": "Hi"}})
        node.kill()
        await until(lambda: not any(map(is_alive, processes)), SOON_S, "the workers end")
        await node.start(FIRST_START_WITHIN_S)
        assert (await node.final(sent["id"], MOVED_WITHIN_S))["status"] == "delivered"


@pytest.mark.timeout(300)
async def test_a_renewal_refuses_no_message(tmp_path: Path, data: Path) -> None:
    async with workers(tmp_path, data, mock("sms")) as node:
        former = set(await until(lambda: shared(node), MOVED_WITHIN_S, "the workers share the shards"))
        tenant = await node.tenant()
        body = {"channel": "sms", "to": "+4520120001", "content": {"text": "Hi"}}
        await until(lambda: _taken_everywhere(node, tenant.key, body), SOON_S, "every worker knows the key")
        ids: list[str] = []
        renewed = asyncio.Event()

        async def client(connector: aiohttp.TCPConnector) -> None:
            headers = {"Authorization": f"Bearer {tenant.key}"}
            async with aiohttp.ClientSession(node.url, connector=connector, headers=headers) as session:
                while not renewed.is_set():
                    async with session.post("/v1/messages", json=body) as answer:
                        assert answer.status == 202, await answer.text()
                        ids.append((await answer.json())["id"])
                    await asyncio.sleep(0.02)

        async with asyncio.TaskGroup() as clients:
            for n in range(SEVERAL):
                clients.create_task(client(aiohttp.TCPConnector(limit=1, force_close=n % 2 == 0)))
            os.kill(node.pid, signal.SIGHUP)

            async def all_new() -> bool:
                found = await shared(node)
                return found is not None and not former & set(found)

            try:
                await until(all_new, 150.0, "both workers are new")
            finally:
                renewed.set()
        print(f"{len(ids)} accepted while two workers were renewed")
        done = await node.all_final(ids, FINAL_WITHIN_S)
        assert {message["status"] for message in done.values()} == {"delivered"}
        assert all(len(message["attempts"]) == 1 for message in done.values())


async def _taken_everywhere(node: Node, key: str, body: dict[str, Any]) -> bool:
    return all([(await node.ask("POST", "/v1/messages", body, key=key)).status == 202 for _ in range(SEVERAL)])


async def test_a_node_with_another_secret_for_keys_is_refused_and_told_which_file_to_copy(tmp_path: Path) -> None:
    async with two_of_one_database(tmp_path) as (a, b):
        assert await b.terminate(SOON_S) == 0
        secret = b.data_dir / "key-hash.secret"
        same = secret.read_text()
        secret.write_text("1e" * 32)
        b.launch()
        assert b.process is not None
        code = await until(b.process.poll, SOON_S, "the node is refused")
        b.process = None
        assert code == 2
        assert f"Copy key-hash.secret from the data folder of that node over {secret}" in b.log
        assert len(await alive(a)) == 1
        secret.write_text(same)
        await b.start()
        assert len(await alive(a)) == 2


async def test_a_node_that_dies_is_taken_over_by_the_other_and_nothing_is_sent_again(tmp_path: Path) -> None:
    async with two_of_one_database(tmp_path) as (a, b):
        found = await until(lambda: shared(a), MOVED_WITHIN_S, "the nodes share the shards")
        assert set(found) == {a.pid, b.pid}
        tenant = await a.tenant()
        late = {"channel": "sms", "to": "+4520120006", "content": {"text": "Hi"}}  # a receipt after 3 s
        ids = [
            (await b.send(tenant.key, {**late, "on_ambiguous": policy}))["id"]
            for policy in ("never", "resend")
            for _ in range(20)
        ]

        async def submitted() -> bool:
            found = (await a.messages(ids)).values()
            return all(message["attempts"] and message["attempts"][0]["submitted_at"] for message in found)

        await until(submitted, SOON_S, "every message is at its carrier")
        b.kill()
        began = time.monotonic()

        async def moved() -> bool:
            return [row["shards"] for row in (await alive(a)).values()] == [64]

        await until(moved, MOVED_WITHIN_S, "the other node has all shards")
        print(f"moved after {time.monotonic() - began:.1f} s")
        done = await a.all_final(ids, FINAL_WITHIN_S)
        assert {message["status"] for message in done.values()} == {"delivered"}
        assert all(len(message["attempts"]) == 1 for message in done.values())
