"""A quota is exact over kill -9: what was accepted is in the journal, and nothing else counts."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.node.harness import Node

BODY = {"channel": "sms", "to": "+4520120001", "content": {"text": "hi"}}


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
