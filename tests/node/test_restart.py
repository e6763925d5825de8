"""What a node still knows after it was killed or stopped: keys, answers, appointments, webhooks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks

from tests.node.harness import MOCKS, SOON_S, Node, receipt, running, until, waiting_for_receipts
from tests.node.hooks import ALLOW, Customer

LATE_S = 3.0  # the receipt of recipient 0006 (API.md, magic recipients)
PUNCTUAL_S = 10.0  # what may be late on a machine that does much else; the contract says 1 s


def sms(to: str = "+4520120001", **more: Any) -> dict[str, Any]:
    return {"channel": "sms", "to": to, "content": {"text": "Your code is 123456"}, **more}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def in_s(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


@pytest.fixture
async def node(tmp_path: Path, data: Path) -> AsyncIterator[Node]:
    async with running(tmp_path, MOCKS, server=ALLOW, data=data) as node:
        yield node


async def end(node: Node, how: str) -> None:
    if how == "SIGKILL":
        node.kill()
    else:
        assert await node.terminate() == 0


async def test_tenants_keys_and_answers_are_kept(node: Node) -> None:
    acme, other = await node.tenant("acme"), await node.tenant("other")
    keys = f"/v1/tenants/{acme.id}/keys"
    revoked = (await node.ask("POST", keys, {"mode": "live"})).body
    assert (await node.ask("DELETE", f"{keys}/{revoked['id']}")).status == 204
    old = (await node.ask("POST", keys, {"mode": "live", "scopes": ["messages:read"]})).body
    new = (await node.ask("POST", f"{keys}/{old['id']}/rotate", {"overlap_s": 600})).body
    gone = (await node.ask("POST", "/v1/tenants", {"name": "gone"})).body
    assert (await node.ask("DELETE", f"/v1/tenants/{gone['id']}")).status == 204
    await node.ask("PUT", f"/v1/tenants/{other.id}", {"name": "another"})
    rotated = await node.ask("POST", f"/v1/tenants/{acme.id}/secret")
    assert rotated.status == 200, rotated
    secret = rotated.body["secret"]
    operator_key = node.operator_key

    headers = {"Idempotency-Key": "order-17"}
    first = await node.ask("POST", "/v1/messages", sms(), key=acme.key, headers=headers)
    assert first.status == 202
    tested = await node.ask("POST", "/v1/messages", sms(), key=acme.test_key, headers=headers)
    assert tested.body["id"] != first.body["id"]
    taken = await node.ask("POST", "/v1/messages", sms("nobody"), key=acme.key, headers={"Idempotency-Key": "k2"})
    assert taken.status == 422

    await end(node, "SIGKILL")
    await node.start()

    assert node.operator_key == operator_key
    tenants = {tenant["id"]: tenant["name"] for tenant in (await node.get("/v1/tenants"))["data"]}
    assert tenants == {acme.id: "acme", other.id: "another"}
    assert (await node.get(f"/v1/tenants/{acme.id}/secret"))["secret"] == secret
    for key, status in ((acme.key, 200), (revoked["key"], 401), (old["key"], 200), (new["key"], 200)):
        assert (await node.ask("GET", "/v1/messages", key=key)).status == status
    assert (await node.ask("POST", "/v1/messages", sms(), key=new["key"])).body["code"] == "scope_missing"

    for key, before in ((acme.key, first), (acme.test_key, tested)):
        again = await node.ask("POST", "/v1/messages", sms(), key=key, headers=headers)
        assert (again.status, again.body) == (202, before.body)
        assert again.headers["Idempotent-Replayed"] == "true"
        assert again.headers["Location"] == before.headers["Location"]
    mismatch = await node.ask("POST", "/v1/messages", sms("+4520120002"), key=acme.key, headers=headers)
    assert (mismatch.status, mismatch.body["code"]) == (422, "idempotency_mismatch")
    elsewhere = await node.ask("POST", "/v1/messages", sms(), key=other.key, headers=headers)
    assert elsewhere.status == 202
    assert elsewhere.body["id"] != first.body["id"]
    refused = await node.ask("POST", "/v1/messages", sms(), key=acme.key, headers={"Idempotency-Key": "k2"})
    assert (refused.status, refused.headers.get("Idempotent-Replayed")) == (202, None)

    assert (await node.final(first.body["id"]))["status"] == "delivered"
    assert (await node.ask("GET", f"/v1/messages/{first.body['id']}", key=other.key)).status == 404
    assert (await node.ask("GET", f"/v1/messages/{tested.body['id']}", key=acme.key)).status == 404
    assert len((await node.get("/v1/messages", acme.key))["data"]) == 2


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
async def test_what_was_to_happen_later_happens_on_time(node: Node, how: str) -> None:
    key = (await node.tenant()).key
    overslept = await node.send(key, sms(send_at=in_s(0.8)))  # its time comes while nobody is there
    scheduled = await node.send(key, sms(send_at=in_s(6)))
    far = await node.send(key, sms(send_at=in_s(3600)))
    late = await node.send(key, sms("+4520120006"))
    falls = await node.send(
        key,
        {
            "to": {"phone": "+4520120004", "push": "tok-delivered"},
            "cascade": [{"channel": "sms", "timeout_s": 5}, "push"],
            "content": {"text": "hi"},
        },
    )
    expires = await node.send(key, sms("+4520120004", expires_in_s=5))
    waiting = await waiting_for_receipts(node, key, 1)
    await end(node, how)
    await asyncio.sleep(1)  # nobody is there
    await node.start()

    message = await node.final(overslept["id"])
    assert message["status"] == "delivered"
    assert message["attempts"][0]["queued_at"] >= message["created_at"]

    message = await node.final(late["id"])
    assert message["status"] == "delivered"
    submitted_at = at(message["attempts"][0]["submitted_at"])
    after = (at(message["final_at"]) - submitted_at).total_seconds()
    assert LATE_S <= after < LATE_S + PUNCTUAL_S

    message = await node.final(falls["id"])
    assert (message["status"], message["delivered_by"]) == ("delivered", 1)
    first, second = message["attempts"]
    after = (at(second["queued_at"]) - at(first["queued_at"])).total_seconds()
    assert 5 <= after < 5 + PUNCTUAL_S

    message = await node.final(expires["id"])
    assert message["status"] == "unknown"
    after = (at(message["final_at"]) - at(message["expires_at"])).total_seconds()
    assert 0 <= after < PUNCTUAL_S

    message = await node.final(scheduled["id"])
    assert message["status"] == "delivered"
    (event,) = [event for event in message["events"] if event["type"] == "submitted"]
    due = at(message["expires_at"]) - timedelta(seconds=259_200)  # which counts from send_at
    assert 0 <= (at(event["at"]) - due).total_seconds() < PUNCTUAL_S

    assert (await node.message(far["id"]))["status"] == "scheduled"
    (one,) = waiting
    assert (await node.message(one["id"]))["status"] == "in_progress"
    answer = await receipt(node, one["attempts"][0]["carrier_message_ids"][0])
    assert answer.status == 200, answer
    assert (await node.message(one["id"]))["status"] == "delivered"


async def test_parked_messages_and_receipts_are_kept_and_need_no_actor(node: Node) -> None:
    """A node that was stopped has parked everything; after the next start nobody holds what only waits."""
    tenant = await node.tenant()
    waiting = await waiting_for_receipts(node, tenant.key, 5)
    answer = await receipt(node, "nobody-knows-me")
    assert (answer.status, answer.body["result"]) == (202, "parked")
    family = await node.get(f"/v1/actors/tenant%2F{tenant.id}")
    assert family["children_total"] == 5
    assert await node.terminate() == 0
    await node.start()

    async def parked() -> bool:
        waker = (await node.get("/v1/actors/waker"))["detail"]
        return not waker["recovering"]

    await until(parked, SOON_S, "the waker has recovered")
    assert (await node.get("/v1/actors/dlr"))["detail"]["unmatched"] == 1
    family = await node.get(f"/v1/actors/tenant%2F{tenant.id}")
    assert family["children_total"] == 0, "what only waits needs no actor"
    for message in waiting[:3]:
        answer = await receipt(node, message["attempts"][0]["carrier_message_ids"][0])
        assert (answer.status, answer.body["result"]) == (200, "matched"), answer
        assert (await node.message(message["id"]))["status"] == "delivered"
    cancelled = waiting[3]["id"]
    assert (await node.ask("POST", f"/v1/messages/{cancelled}/cancel", key=tenant.key)).status == 200
    assert (await node.message(cancelled))["status"] == "cancelled"
    assert (await node.message(waiting[4]["id"]))["status"] == "in_progress"


async def test_webhooks_that_are_owed_are_delivered_after_a_restart(node: Node) -> None:
    tenant = await node.tenant()
    secret = (await node.get(f"/v1/tenants/{tenant.id}/secret"))["secret"]
    customer = Customer()
    made = await node.ask("POST", f"/v1/tenants/{tenant.id}/webhooks", {"url": customer.url})
    assert made.status == 201, made
    ids = [(await node.send(tenant.key, sms(callback_url=customer.url)))["id"] for _ in range(5)]
    failed = (await node.send(tenant.key, sms("+4520120002", callback_url=customer.url)))["id"]
    for one in (*ids, failed):
        await node.final(one)
    await end(node, "SIGTERM")
    async with customer.listening():
        await node.start()
        await until(lambda: len(customer.told) >= 12, SOON_S, "two webhooks for each message")
        for one in (*ids, failed):
            to_endpoint, to_callback = sorted(customer.of(one), key=lambda t: signed_by(t, secret))
            assert to_endpoint.id == to_callback.id
            assert signed_by(to_callback, secret)
            assert signed_by(to_endpoint, made.body["secret"])
            body = json.loads(to_callback.raw)
            assert body["type"] == ("message.failed" if one == failed else "message.delivered")
            assert body["data"] == await node.message(one)

        async def nothing_is_owed() -> bool:
            hooks = await node.get("/v1/actors/webhooks")
            return all(not child["detail"].get("held") for child in hooks["children"])

        await until(nothing_is_owed, SOON_S, "all webhooks are done with")
        assert len(customer.told) == 12
        assert (await node.get(f"/v1/tenants/{tenant.id}/dead-letters"))["data"] == []


def signed_by(told: Any, secret: str) -> bool:
    """Ask the customers' own library."""
    try:
        standardwebhooks.Webhook(secret).verify(told.raw, {k.lower(): v for k, v in told.headers.items()})
    except standardwebhooks.WebhookVerificationError:
        return False
    return True
