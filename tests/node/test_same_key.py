"""One Idempotency-Key, fifty posts at once, with and without kill -9 in between: one message, counted once."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from tests.node.harness import SOON_S, Node
from tests.node.load import check_usage

POSTS = 50


def body(reference: str) -> dict[str, Any]:
    return {"channel": "sms", "to": "+4520120001", "content": {"text": "hi"}, "reference": reference}


@dataclass
class Posts:
    """Fifty clients that post one message under one key until each has its 202, over broken connections too.

    Attributes:
        kill_at: the node is killed when this many of the posts were answered; None: never.
        firsts: answers that are no repeats.
    """

    node: Node
    key: str
    reference: str
    kill_at: int | None = None
    answers: Counter[str] = field(default_factory=Counter)
    ids: list[str] = field(default_factory=list)
    firsts: int = 0
    killed: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(POSTS):
                group.create_task(self._post())

    async def _post(self) -> None:
        headers = {"Idempotency-Key": self.reference}
        while True:
            try:
                answer = await self.node.ask(
                    "POST", "/v1/messages", body(self.reference), key=self.key, headers=headers
                )
            except (aiohttp.ClientError, OSError):
                self.answers["none"] += 1
                await asyncio.sleep(0.05)  # the node is away: no need to ask faster
                continue
            self.answers[str(answer.status)] += 1
            if self.answers.total() - self.answers["none"] == self.kill_at:
                self.node.kill()
                self.killed.set()
            if answer.status == 202:
                self.ids.append(answer.body["id"])
                self.firsts += "Idempotent-Replayed" not in answer.headers
                return
            assert answer.status == 503 or answer.body["code"] == "idempotency_running", answer
            assert answer.headers["Retry-After"].isdigit()
            await asyncio.sleep(0.01)  # sooner than told


async def test_fifty_posts_at_once_with_one_key_make_one_message(node: Node) -> None:
    tenant = await node.tenant()
    posts = Posts(node, tenant.key, "order-1")
    await posts.run()
    assert len(posts.ids) == POSTS
    assert len(set(posts.ids)) == 1
    assert posts.firsts == 1
    assert [message["reference"] for message in await node.listed(tenant.key)] == ["order-1"]
    messages = await node.all_final(posts.ids[:1], SOON_S)
    await check_usage(node, tenant.id, messages.values())


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_kill_among_fifty_posts_with_one_key_makes_no_second_message(node: Node) -> None:
    tenant = await node.tenant()
    ids: list[str] = []
    for kill_at in (1, 25):  # while the first one waits for its commit, and among the repeats
        posts = Posts(node, tenant.key, f"order-{len(ids)}", kill_at)
        running = asyncio.create_task(posts.run())
        await asyncio.wait_for(posts.killed.wait(), SOON_S)
        await node.start()
        await running
        print(dict(posts.answers), "firsts", posts.firsts)
        assert len(posts.ids) == POSTS
        assert len(set(posts.ids)) == 1
        assert posts.firsts <= 1  # the first answer may have died with the node
        ids.append(posts.ids[0])
    messages = await node.all_final(ids, SOON_S)
    listed = await node.listed(tenant.key)
    assert Counter(message["reference"] for message in listed) == {f"order-{n}": 1 for n in range(len(ids))}
    await check_usage(node, tenant.id, messages.values())
