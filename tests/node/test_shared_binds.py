"""SMPP carriers of a node with several workers: one holds the binds, all send by them, whatever happens to whom."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.node.harness import FIRST_START_WITHIN_S, SOON_S, Node, started, two_of_one_database, until
from tests.node.test_smpp import Centre, hermes_smsc, smpp
from tests.node.test_workers import FINAL_WITHIN_S, MOVED_WITHIN_S, SEVERAL, alive, shared

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BINDS = 2
IN_HANDS = 240  # at most, of a worker: what it has taken over for others, and two windows of its own


@asynccontextmanager
async def sharing(folder: Path, data: Path, centre: Centre, **settings: Any) -> AsyncIterator[Node]:
    """A node with two workers and a carrier with two binds, which are up."""
    carrier = smpp(centre, binds=BINDS, **settings)
    node = Node(folder, carrier, server="workers = 2", data=data)
    node._session = aiohttp.ClientSession(node.url, connector=aiohttp.TCPConnector(limit=0, force_close=True))
    async with started(node, FIRST_START_WITHIN_S):
        await until(lambda: shared(node), MOVED_WITHIN_S, "the workers share the shards")
        await until(lambda: bound(centre), SOON_S, "the binds are up")
        yield node


async def binds(centre: Centre) -> int:
    return sum(bind["bound"] for bind in (await centre.get("/stats"))["binds"])


async def bound(centre: Centre) -> bool:
    return await binds(centre) == BINDS


async def holder(node: Node) -> int | None:
    """The process id of the worker that has the connections; None while nobody answers for them."""
    try:
        tree = await node.ask("GET", "/v1/actors", timeout_s=5)
    except (aiohttp.ClientError, OSError, TimeoutError):
        return None  # it came to the one that was stopped, or killed
    if tree.status != 200:
        return None
    rows = {row["id"]: pid for pid, row in (await alive(node)).items()}
    found = [name for name in _names(tree.body) if name.endswith("smpp/direct/connection/1")]
    if len(found) != 1:
        return None
    if found[0].startswith("worker/"):
        return rows.get(found[0].split("/")[1])
    return next(iter(rows.values())) if len(rows) == 1 else None  # alone, its actors have plain names


def _names(actor: dict[str, Any]) -> list[str]:
    actor = actor.get("data", actor)
    return [actor["name"], *(name for child in actor["children"] for name in _names(child))]


class Flow:
    """Messages that are posted again and again, over connections to either worker."""

    def __init__(self, node: Node, key: str, **fields: Any) -> None:
        self.node = node
        self.key = key
        self.fields = fields
        self.ids: list[str] = []
        self.texts: dict[str, str] = {}

    async def post(self, count: int) -> None:
        for _ in range(count):
            n = len(self.texts)
            text = f"no. {n}"
            body = {
                "channel": "sms",
                "to": f"+45{2_000 + n // 10 % 7_000}500{n % 10}",
                "content": {"text": text},
            } | self.fields
            self.texts[text] = ""
            with suppress(aiohttp.ClientError, OSError, TimeoutError):
                answer = await self.node.ask("POST", "/v1/messages", body, key=self.key, timeout_s=5)
                if answer.status == 202:
                    self.ids.append(answer.body["id"])
                    self.texts[text] = answer.body["id"]

    @asynccontextmanager
    async def coming_in(self, customers: int = SEVERAL, pause_s: float = 0.05) -> AsyncIterator[None]:
        """Messages all the time."""
        over = asyncio.Event()

        async def customer() -> None:
            while not over.is_set():
                await self.post(1)
                await asyncio.sleep(pause_s)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(customers):
                tasks.create_task(customer())
            try:
                yield
            finally:
                over.set()

    async def goes_on(self, more: int = 20) -> None:
        wanted = len(self.ids) + more

        async def there() -> bool:
            return len(self.ids) >= wanted

        await until(there, MOVED_WITHIN_S, "messages are accepted")


async def taken(centre: Centre) -> Counter[str]:
    """How often the centre took each text."""
    found: Counter[str] = Counter()
    for digit in range(10):  # it lists 1,000 at once
        page = await centre.get(f"/messages?limit=1000&destination=500{digit}")
        found.update(message["text"] for message in page["messages"])
    return found


async def tenant_everywhere(node: Node) -> str:
    key = (await node.tenant()).key

    async def known() -> bool:
        return all([(await node.ask("GET", "/v1/messages", key=key)).status == 200 for _ in range(SEVERAL)])

    await until(known, SOON_S, "every worker knows the key")
    return key


async def test_both_workers_send_by_the_binds_of_one_and_its_orders_hold_for_all(tmp_path: Path, data: Path) -> None:
    async with hermes_smsc() as centre, sharing(tmp_path, data, centre) as node:
        key = await tenant_everywhere(node)
        flow = Flow(node, key)
        await asyncio.gather(*(flow.post(25) for _ in range(SEVERAL)))
        assert len(flow.ids) == 25 * SEVERAL
        done = await node.all_final(flow.ids, FINAL_WITHIN_S)
        assert {message["status"] for message in done.values()} == {"delivered"}
        assert all(len(message["attempts"]) == 1 for message in done.values())
        assert set((await taken(centre)).values()) == {1}
        assert await binds(centre) == BINDS
        shown = await node.get("/v1/carriers/direct")
        assert (shown["state"], len(shown["binds"]), shown["sent"]) == ("up", BINDS, len(flow.ids))

        assert (await node.ask("POST", "/v1/carriers/direct/pause")).status == 200
        held = Flow(node, key)
        held.texts = dict(flow.texts)
        await held.post(20)
        assert len(held.ids) == 20
        assert (await node.get("/v1/carriers/direct"))["state"] == "paused"
        assert sum((await taken(centre)).values()) == len(flow.ids)
        assert (await node.ask("POST", "/v1/carriers/direct/resume")).status == 200
        done = await node.all_final(held.ids, FINAL_WITHIN_S)
        assert {message["status"] for message in done.values()} == {"delivered"}
        assert await node.terminate(SOON_S) == 0


@pytest.mark.parametrize("times", [3])
async def test_a_holder_that_is_killed_loses_nothing_and_nothing_is_sent_twice(
    tmp_path: Path, data: Path, times: int
) -> None:
    async with hermes_smsc() as centre, sharing(tmp_path, data, centre) as node:
        flow = Flow(node, await tenant_everywhere(node), on_ambiguous="never")
        async with flow.coming_in():
            for _ in range(times):
                await flow.goes_on()
                victim = await until(lambda: holder(node), MOVED_WITHIN_S, "a worker holds the carrier")
                os.kill(victim, signal.SIGKILL)

                async def moved(former: int = victim) -> bool:
                    return await holder(node) not in (None, former) and await bound(centre)

                await until(moved, MOVED_WITHIN_S, "another worker has the binds")
                await until(lambda: shared(node), MOVED_WITHIN_S, "two workers share the shards")
            await flow.goes_on()
        await _none_lost_none_twice(node, centre, flow, times * IN_HANDS)


async def _none_lost_none_twice(node: Node, centre: Centre, flow: Flow, most_doubtful: int = 0) -> None:
    """All are delivered, but for what a worker that is gone had in its hands, not at the centre: nobody sends that."""

    async def settled() -> dict[str, Any] | None:
        messages = await node.messages(flow.ids)
        left = [id_ for id_, message in messages.items() if message["status"] != "delivered"]
        doubtful = {id_ for id_ in left if [a["status"] for a in messages[id_]["attempts"]] == ["ambiguous"]}
        sent = {flow.texts[text] for text in await taken(centre)}
        return messages if doubtful == set(left) and not doubtful & sent else None

    try:
        messages = await until(settled, FINAL_WITHIN_S, "what the centre took is delivered, the rest is in doubt")
        found = await taken(centre)
        assert max(found.values()) == 1
        doubtful = sum(message["status"] != "delivered" for message in messages.values())
        print(f"{len(messages)} accepted, {doubtful} in doubt and not sent")
        assert doubtful <= most_doubtful
    except AssertionError:
        await _tell_of_those_left(node, centre, flow)
        raise


async def _tell_of_those_left(node: Node, centre: Centre, flow: Flow) -> None:
    sent = set(await taken(centre))
    texts = {id_: text for text, id_ in flow.texts.items()}
    left = [id_ for id_, message in (await node.messages(flow.ids)).items() if message["status"] != "delivered"]
    for id_ in left:
        told = await node.get(f"/v1/messages/{id_}", key=flow.key)
        print(f"{id_} taken by the centre: {texts[id_] in sent}; {told['events']}")


async def test_a_holder_that_was_stopped_sends_nothing_more_when_it_wakes(tmp_path: Path, data: Path) -> None:
    async with hermes_smsc() as centre, sharing(tmp_path, data, centre) as node:
        flow = Flow(node, await tenant_everywhere(node), on_ambiguous="never")
        async with flow.coming_in():
            await flow.goes_on()
            stopped = await until(lambda: holder(node), MOVED_WITHIN_S, "a worker holds the carrier")
            os.kill(stopped, signal.SIGSTOP)
            try:

                async def moved() -> bool:
                    return await holder(node) not in (None, stopped)

                await until(moved, MOVED_WITHIN_S, "another worker holds the carrier")
                await flow.goes_on()
            finally:
                os.kill(stopped, signal.SIGCONT)
            await until(lambda: bound(centre), MOVED_WITHIN_S, "only the new holder is bound")
            await flow.goes_on()
        await _none_lost_none_twice(node, centre, flow, IN_HANDS)


async def test_a_rolling_restart_hands_the_carrier_over_and_refuses_nothing(tmp_path: Path, data: Path) -> None:
    async with hermes_smsc() as centre, sharing(tmp_path, data, centre) as node:
        former = set(await alive(node))
        flow = Flow(node, await tenant_everywhere(node), on_ambiguous="never")
        async with flow.coming_in():
            await flow.goes_on()
            os.kill(node.pid, signal.SIGHUP)

            async def renewed() -> bool:
                found = await shared(node)
                return found is not None and not former & set(found) and await bound(centre)

            await until(renewed, 150.0, "both workers are new, and the binds are up")
            await flow.goes_on()
        await _none_lost_none_twice(node, centre, flow)


async def test_two_nodes_over_one_database_share_a_carrier(tmp_path: Path) -> None:
    async with hermes_smsc() as centre, two_of_one_database(tmp_path, smpp(centre, binds=BINDS)) as (a, b):
        await until(lambda: shared(a), MOVED_WITHIN_S, "the nodes share the shards")
        await until(lambda: bound(centre), SOON_S, "the binds are up")
        key = (await a.tenant()).key
        body = {"channel": "sms", "to": "+4520120001", "content": {"text": "Hi"}}

        async def known() -> bool:
            return (await b.ask("GET", "/v1/messages", key=key)).status == 200

        await until(known, SOON_S, "the other node knows the key")
        ids = [(await node.send(key, body))["id"] for node in (a, b) for _ in range(20)]
        done = await a.all_final(ids, FINAL_WITHIN_S)
        assert {message["status"] for message in done.values()} == {"delivered"}
        assert await binds(centre) == BINDS
