"""Two processes that serve one database: what one of them is asked to forget, or is told, counts for the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.node.harness import SOON_S, Node, two_of_one_database, until

pytestmark = pytest.mark.slow

PHONE = "+4520120004"  # submitted, and never a receipt
SMS = {"channel": "sms", "to": PHONE, "content": {"text": "Hi"}}


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[tuple[Node, Node]]:
    async with two_of_one_database(tmp_path) as nodes:
        yield nodes


async def test_one_worker_erases_what_another_holds_and_both_know_who_agreed(two: tuple[Node, Node]) -> None:
    a, b = two
    tenant = await a.tenant()
    path = f"/v1/tenants/{tenant.id}"

    async def known() -> bool:
        return (await b.ask("GET", path)).status == 200

    await until(known, SOON_S, "the other hears of the tenant")

    async def shared() -> bool:
        rows = (await a.ask("GET", "/v1/workers")).body["data"]
        return len(rows) == 2 and all(row["shards"] for row in rows)

    await until(shared, SOON_S, "both have shards")
    ids = [(await node.send(tenant.key, SMS))["id"] for node in (a, b, a, b)]
    asked = (await a.ask("POST", path + "/erasures", {"address": PHONE}, key=tenant.key)).body

    async def done() -> Any:
        return (await b.ask("GET", f"{path}/erasures/{asked['id']}", key=tenant.key)).body["done_at"]

    await until(done, SOON_S, "it is erased")
    for node in two:
        found = await node.messages(ids, tenant.key)
        assert {(m["status"], str(m["to"])) for m in found.values()} == {("cancelled", "{}")} and len(found) == 4

    layers = {"layers": {"compliance": {"require_consent": ["marketing"]}}}
    assert (await a.ask("PUT", path, layers)).status == 200
    body = {"channel": "sms", "address": PHONE, "proof": {"source": "form"}}
    made = (await a.ask("POST", path + "/consents", body, key=tenant.key)).body

    async def accepted() -> bool:
        verdict = await b.ask("POST", "/v1/messages/validate", {**SMS, "category": "marketing"}, key=tenant.key)
        return bool(verdict.body["accepted"])

    await until(accepted, SOON_S, "the other hears who agreed")
    assert (await a.ask("POST", f"{path}/consents/{made['id']}/withdraw", key=tenant.key)).status == 200

    async def refused() -> bool:
        return not await accepted()

    await until(refused, SOON_S, "the other hears who does not any more")
