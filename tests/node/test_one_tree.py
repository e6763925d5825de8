"""Processes that serve one database answer as one: real ones, one of which stops or is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.node.harness import SOON_S, Node, two_of_one_database, until
from tests.node.test_workers import alive, shared, workers

pytestmark = pytest.mark.slow

MESSAGES = 20  # over as many connections


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[tuple[Node, Node]]:
    async with two_of_one_database(tmp_path) as nodes:
        yield nodes


async def samples(node: Node) -> dict[tuple[Any, ...], float]:
    return parsed((await node.ask("GET", "/metrics")).body)


def parsed(text: str) -> dict[tuple[Any, ...], float]:
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def tree(node: Node) -> dict[str, Any]:
    answer = await node.ask("GET", "/v1/actors")
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.body
    return found


async def states(node: Node) -> list[bool]:
    """Whether each worker that lives by the database answers."""
    return [child["state"] != "unreachable" for child in (await tree(node)).get("children", ())]


async def test_two_processes_are_one_tree_and_one_sum_until_one_is_gone(two: tuple[Node, Node]) -> None:
    a, b = two

    async def both() -> bool:
        return [(await tree(node))["name"] for node in two] == ["workers", "workers"]

    await until(both, SOON_S, "each sees the other")
    tenant = await a.tenant()
    sent = await a.send(tenant.key, {"channel": "sms", "to": "+4520120001", "content": {"text": "Hi"}})
    await a.final(sent["id"])
    workers = {row["pid"]: row for row in (await b.ask("GET", "/v1/workers")).body["data"]}
    assert set(workers) == {a.pid, b.pid} and all(row["open"] is not None for row in workers.values())
    of_b = f"worker/{workers[b.pid]['id']}"
    shown = (await a.ask("GET", f"/v1/actors/{of_b}/provider/mock-sms")).body
    assert (shown["name"], shown["restarts"]) == (f"{of_b}/provider/mock-sms", 0)
    await a.ask("POST", f"/v1/actors/{of_b}/provider/mock-sms/restart")
    assert (await b.ask("GET", f"/v1/actors/{of_b}/provider/mock-sms")).body["restarts"] == 1
    await a.ask("POST", "/v1/carriers/mock-sms/pause")
    carrier = (await b.ask("GET", "/v1/carriers/mock-sms")).body
    assert (carrier["state"], carrier["sent"]) == ("paused", 1)
    await b.ask("POST", "/v1/carriers/mock-sms/resume")
    await b.ask("POST", "/v1/carriers/mock-push/pause")
    for node in two:
        seen = await samples(node)
        assert (seen["hermes_accepted_total",], seen["hermes_workers",]) == (1, 2)
        assert seen["hermes_workers_unreachable",] == 0

    async def answers_again() -> bool:
        return await states(a) == [True, True]

    async def asked_while_b_is_stopped(ask: Callable[[], Awaitable[Any]]) -> Any:
        """One question at a time: a process that is stopped for as long as its lease is declared dead."""
        os.kill(b.pid, signal.SIGSTOP)
        try:
            return await ask()
        finally:
            os.kill(b.pid, signal.SIGCONT)
            await until(answers_again, SOON_S, "it is in the tree again")

    assert sorted(await asked_while_b_is_stopped(partial(states, a))) == [False, True]
    seen = await asked_while_b_is_stopped(partial(samples, a))
    assert (seen["hermes_accepted_total",], seen["hermes_workers_unreachable",]) == (1, 1)
    of_router = await asked_while_b_is_stopped(partial(a.ask, "GET", f"/v1/actors/{of_b}/router"))
    assert of_router.status == 503
    shown = await asked_while_b_is_stopped(partial(a.ask, "GET", "/v1/overview"))
    assert shown.body["workers_unreachable"] == 1
    b.kill()
    seen = await samples(a)
    assert seen["hermes_accepted_total",] == 1
    assert (await a.ask("GET", "/v1/log")).status == (await a.ask("GET", "/v1/overview")).status == 200
    await b.start()  # declares its former self dead

    async def anew() -> bool:
        return await states(a) == [True, True] and (await samples(b))["hermes_accepted_total",] == 1

    await until(anew, SOON_S, "the new process is there, and knows what was counted before it")

    async def both_paused() -> bool:
        of_push = (await a.ask("GET", "/v1/actors/provider/mock-push")).body["children"]
        return [child["detail"]["state"] for child in of_push] == ["paused", "paused"]

    await until(both_paused, SOON_S, "the new process has taken the order over")
    rows = (await a.ask("GET", "/v1/workers")).body["data"]
    assert sorted(row["state"] for row in rows) == ["alive", "alive", "dead"]

    # One that stops in order leaves what it has counted, though nobody looked since.
    key = (await b.tenant("of b")).key
    sent = await b.send(key, {"channel": "sms", "to": "+4520120001", "content": {"text": "Hi"}})
    await b.final(sent["id"])
    assert await b.terminate() == 0
    assert (await samples(a))["hermes_accepted_total",] == 2


async def test_processes_on_one_port_are_one_tree_and_one_sum_whichever_is_reached(tmp_path: Path, data: Path) -> None:
    async with workers(tmp_path, data) as node:
        await until(partial(shared, node), SOON_S, "the two share all shards")
        tenant = await node.tenant()
        for _ in range(MESSAGES):
            sent = await node.send(tenant.key, {"channel": "sms", "to": "+4520120001", "content": {"text": "Hi"}})
            await node.final(sent["id"])

        async def looked_at_from_both() -> list[dict[tuple[Any, ...], float]]:
            """What each of the two shows; a process puts its own mark into the ids of its requests."""
            seen: dict[str, dict[tuple[Any, ...], float]] = {}
            while len(seen) < 2:
                answer = await node.ask("GET", "/metrics")
                seen[answer.headers["X-Request-Id"][:16]] = parsed(answer.body)
            return list(seen.values())

        for shown in await looked_at_from_both():
            assert (shown["hermes_accepted_total",], shown["hermes_workers",]) == (MESSAGES, 2)
            assert shown["hermes_final_total", ("channel", "sms"), ("status", "delivered")] == MESSAGES
            assert shown["hermes_workers_unreachable",] == 0
        before = await alive(node)
        assert sum(row["open"] for row in before.values()) == 0
        assert (await node.ask("POST", "/v1/carriers/mock-push/pause")).status == 200
        lines = (await tree(node))["children"]
        assert [line["detail"]["pid"] for line in lines] == [
            row["pid"] for row in sorted(before.values(), key=lambda row: str(row["id"]))
        ]
        assert [line["detail"]["shards"] for line in lines] == [32, 32]
        overview = (await node.ask("GET", "/v1/overview")).body
        assert (overview["workers"], overview["accepted"], overview["carriers_by_state"]["paused"]) == (2, MESSAGES, 1)

        killed = min(before)
        os.kill(killed, signal.SIGKILL)

        async def renewed() -> bool:
            found = await alive(node)
            return killed not in found and len(found) == 2 and await states(node) == [True, True]

        await until(renewed, SOON_S, "a new process has taken its place")
        for shown in await looked_at_from_both():
            assert shown["hermes_accepted_total",] == MESSAGES, "what the killed one had counted was seen by the other"

        async def both_paused() -> bool:  # the one that is asked looks for new workers once a second
            of_push = (await node.ask("GET", "/v1/actors/provider/mock-push")).body["children"]
            return [child["detail"]["state"] for child in of_push] == ["paused", "paused"]

        await until(both_paused, SOON_S, "the new process has taken the order over")

        old = set(await alive(node))
        os.kill(node.pid, signal.SIGHUP)

        async def all_renewed() -> bool:
            found = await alive(node)
            return len(found) == 2 and not old & set(found) and await states(node) == [True, True]

        await until(all_renewed, 2 * SOON_S, "both processes are new")
        for shown in await looked_at_from_both():
            assert shown["hermes_accepted_total",] == MESSAGES, "those that left have left their counts"
