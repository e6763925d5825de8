"""Limits on real parts: a quota is exact over kill -9 and over workers; what one worker knows the others keep to."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hermes.domain.signing import signature_of
from tests.gateway.redis_server import needs_redis, running_redis
from tests.node.harness import SOON_S, Node, Tenant, mock, until
from tests.node.test_workers import MOVED_WITHIN_S, SEVERAL, shared, workers

BODY = {"channel": "sms", "to": "+4520120001", "content": {"text": "hi"}}
REFRESHED_S = 3.0  # a worker's figure of what the others accepted is two seconds old at most


@pytest.mark.slow
@pytest.mark.timeout(200)
async def test_a_quota_is_exact_over_a_kill(node: Node) -> None:
    tenant = await node.tenant()
    quotas = {"quotas": {"messages_per_month": 20}}
    assert (await node.ask("PUT", f"/v1/tenants/{tenant.id}", quotas)).status == 200
    for _ in range(12):
        await node.send(tenant.key, BODY)
    node.kill()
    await node.start()
    answers = await asyncio.gather(*(node.ask("POST", "/v1/messages", BODY, key=tenant.key) for _ in range(50)))
    assert Counter(answer.status for answer in answers) == {202: 8, 429: 42}
    assert {a.body["code"] for a in answers if a.status == 429} == {"quota_exceeded"}
    lines = (await node.get(f"/v1/tenants/{tenant.id}/quotas"))["data"]
    assert {line["quota"]: line["used"] for line in lines}["messages_per_month"] == 20
    assert len(await node.listed(tenant.key)) == 20


async def everywhere(node: Node, path: str, key: str, status: int) -> bool:
    """Whether each worker answers so; each request is a connection of its own."""
    answers = await asyncio.gather(*(node.ask("GET", path, key=key) for _ in range(2 * SEVERAL)))
    return {answer.status for answer in answers} == {status}


async def with_quota(node: Node, **quotas: float) -> Tenant:
    """A tenant with quotas, known to every worker."""
    await until(lambda: shared(node), MOVED_WITHIN_S, "the workers share the shards")
    tenant = await node.tenant()
    assert (await node.ask("PUT", f"/v1/tenants/{tenant.id}", {"quotas": quotas})).status == 200

    async def known() -> bool:
        asked = (node.get(f"/v1/tenants/{tenant.id}") for _ in range(2 * SEVERAL))
        shown: list[Any] = await asyncio.gather(*asked)
        return all(one["quotas"].items() >= quotas.items() for one in shown)

    await until(known, SOON_S, "every worker knows the quota")
    await until(lambda: everywhere(node, "/v1/messages", tenant.key, 200), SOON_S, "every worker knows the key")
    return tenant


async def send_many(node: Node, tenant: Tenant, count: int) -> Counter[int]:
    answers = await asyncio.gather(*(node.ask("POST", "/v1/messages", BODY, key=tenant.key) for _ in range(count)))
    return Counter(answer.status for answer in answers)


async def send_signed_again_and_again(node: Node, tenant: Tenant) -> Counter[int]:
    """Send the same signed request over several connections at once."""
    raw = json.dumps({**BODY, "to": "+4520120002"}).encode()
    await node.ask("PUT", f"/v1/tenants/{tenant.id}", {"quotas": {"messages_per_month": 0}})
    keys = (await node.get(f"/v1/tenants/{tenant.id}/keys"))["data"]
    live = next(one["id"] for one in keys if one["mode"] == "live")
    secret = (await node.get(f"/v1/tenants/{tenant.id}/keys/{live}/signing-secret"))["signing_secret"]
    at, nonce = str(int(time.time())), "a-nonce-of-this-test"
    signature = signature_of(secret, at, nonce, "POST", "/v1/messages", raw)
    signed = {"X-Hermes-Timestamp": at, "X-Hermes-Nonce": nonce, "X-Hermes-Signature": signature}
    asked = (node.ask("POST", "/v1/messages", raw, key=tenant.key, headers=signed) for _ in range(2 * SEVERAL))
    return Counter(answer.status for answer in await asyncio.gather(*asked))


@pytest.mark.slow
@pytest.mark.timeout(200)
@needs_redis
async def test_two_workers_with_redis_keep_to_a_quota_and_a_spend_cap_exactly(tmp_path: Path, data: Path) -> None:
    shared_limits, priced = '[redis]\nurl = "{}"', mock("sms", cost=0.05)
    async with (
        running_redis() as redis,
        workers(tmp_path, data, priced, server=shared_limits.format(redis.url)) as node,
    ):
        thrifty = await with_quota(node, spend_per_month=0.5)
        assert await send_many(node, thrifty, 40) == {202: 10, 429: 30}
        tenant = await with_quota(node, messages_per_month=20)
        assert await send_many(node, tenant, 60) == {202: 20, 429: 40}
        assert await send_signed_again_and_again(node, tenant) == {202: 1, 401: 2 * SEVERAL - 1}

        for _ in range(5):
            made = await node.ask("POST", f"/v1/tenants/{tenant.id}/keys", {"mode": "live"})
            key = made.body["key"]
            known = partial(everywhere, node, "/v1/messages", key, 200)
            await until(known, SOON_S, "every worker knows the key")
            assert (await node.ask("DELETE", f"/v1/tenants/{tenant.id}/keys/{made.body['id']}")).status == 204
            assert await everywhere(node, "/v1/messages", key, 401), "a revoked key is refused at once"


@pytest.mark.slow
@pytest.mark.timeout(200)
async def test_two_workers_alone_pass_a_quota_by_little_and_take_a_signed_request_once(
    tmp_path: Path, data: Path
) -> None:
    async with workers(tmp_path, data) as node:
        tenant = await with_quota(node, messages_per_month=20)
        first = await send_many(node, tenant, 60)
        assert 20 <= first[202] <= 40 and first[202] + first[429] == 60  # each for itself lets 20 through

        async def all_know() -> bool:
            return await send_many(node, tenant, 2 * SEVERAL) == {429: 2 * SEVERAL}

        await until(all_know, REFRESHED_S + SOON_S, "no worker takes more")
        assert len(await node.listed(tenant.key)) <= 40
        assert await send_signed_again_and_again(node, tenant) == {202: 1, 401: 2 * SEVERAL - 1}
