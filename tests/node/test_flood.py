"""A tenant that floods is refused, and others' messages go as if it were not there: the causes, not the timings.

How much a flood moves another tenant's latency is a figure: benchmarks/flood.py.
"""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.node.harness import MOCKS, SOON_S, Answer, Node, mock, running, until

BODY = {"channel": "sms", "to": "+4520120001", "content": {"text": "hi"}}
RATE = 20
BACKLOG = 400
STEADY = 10


def at(message: dict[str, Any], name: str = "created_at") -> datetime:
    where = message if name == "created_at" else message["attempts"][0]
    return datetime.fromisoformat(where[name])


async def flood(node: Node, key: str, answers: list[Answer], refused: asyncio.Event) -> None:
    while True:
        answer = await node.ask("POST", "/v1/messages", BODY, key=key)
        answers.append(answer)
        if answer.status == 429:
            refused.set()


async def test_a_flood_is_refused_and_all_of_the_other_tenants_messages_go(node: Node) -> None:
    flooder, steady = await node.tenant("flooder"), await node.tenant("steady")
    limited = await node.ask("PUT", f"/v1/tenants/{flooder.id}", {"rate_per_s": RATE})
    assert limited.status == 200
    answers: list[Answer] = []
    refused = asyncio.Event()
    floods = [asyncio.create_task(flood(node, flooder.key, answers, refused)) for _ in range(8)]
    try:
        await asyncio.wait_for(refused.wait(), SOON_S)
        before = len(answers)
        ids = [(await node.send(steady.key, BODY))["id"] for _ in range(50)]  # each must be a 202
        await until(lambda: len(answers) >= before + 50, SOON_S, "the flood goes on meanwhile")
    finally:
        for task in floods:
            task.cancel()
        await asyncio.gather(*floods, return_exceptions=True)
    assert {answer.status for answer in answers} == {202, 429}
    for answer in answers:
        if answer.status == 429:
            assert (answer.body["code"], answer.body["layer"]) == ("rate_limited", "rate")
            assert int(answer.headers["Retry-After"]) >= 1
            assert answer.headers["RateLimit-Policy"] == f'"tenant";q={RATE};w=1'
    assert {m["status"] for m in (await node.all_final(ids, SOON_S)).values()} == {"delivered"}
    window: deque[datetime] = deque()
    for message in sorted(await node.listed(flooder.key), key=at):
        window.append(at(message))
        while window[0] <= window[-1] - timedelta(seconds=1):
            window.popleft()
        assert len(window) <= RATE


@pytest.mark.slow
@pytest.mark.timeout(200)
async def test_a_backlog_of_one_tenant_is_passed_by_another(tmp_path: Path, data: Path) -> None:
    carriers = MOCKS.replace(mock("sms"), mock("sms", throughput_per_s=10, max_in_flight=2))
    async with running(tmp_path, carriers, data=data) as node:
        flooder, steady = await node.tenant("flooder"), await node.tenant("steady")
        batch = await node.ask("POST", "/v1/messages/batch", {"messages": [BODY] * BACKLOG}, key=flooder.key)
        backlog = [result["message"]["id"] for result in batch.body["results"]]
        ids = [(await node.send(steady.key, BODY))["id"] for _ in range(STEADY)]
        sent = (await node.all_final(ids, SOON_S)).values()
        queued = max(at(message, "queued_at") for message in sent)
        last = max(at(message, "submitted_at") for message in sent)
        theirs = (await node.messages(backlog)).values()
        went = [at(m, "submitted_at") for m in theirs if m["attempts"] and m["attempts"][0]["submitted_at"]]
        ahead = [moment for moment in went if queued < moment < last]
        print(f"{len(ahead)} of {len(theirs)} of the backlog went while {STEADY} others waited")
        # By turns of at most 8 (`FairQueue.quantum`): two of the backlog's for the two that ten messages need, one that
        # was begun, and what the carrier held already.
        assert len(ahead) <= 3 * 8 + 2
        assert len([moment for moment in went if moment < last]) < len(theirs)  # the others did not wait for its end
