"""A real node on a simulated carrier: what survives kill -9 and a carrier that is away."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hermes.smsc import Smsc, SmscSettings
from tests.node.harness import FINAL, SOON_S, Node, carrier, running, until
from tests.node.hooks import ALLOW, Customer

COUNT = 60


def telecom(smsc: Smsc, **settings: Any) -> str:
    return carrier(
        name="telecom",
        kind="smpp",
        channel="sms",
        host="127.0.0.1",
        port=smsc.port,
        system_id="hermes",
        password="secret",
        from_="Hermes",
        **settings,
    )


async def send(node: Node, key: str, n: int, **fields: Any) -> str:
    body = {"channel": "sms", "to": f"+4522{n:06d}", "content": {"text": f"message {n}"}, **fields}
    answer = await node.ask("POST", "/v1/messages", body, key=key)
    assert answer.status == 202, answer
    return str(answer.body["id"])


async def finals(node: Node, key: str, ids: list[str], within_s: float = SOON_S) -> list[dict[str, Any]]:
    async def ended() -> list[dict[str, Any]] | None:
        found = [await node.get(f"/v1/messages/{id_}", key=key) for id_ in ids]
        return found if all(each["status"] in FINAL for each in found) else None

    found: list[dict[str, Any]] = await until(ended, within_s, "every message is final")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["never", "resend"])
async def test_kill_with_a_full_window_loses_nothing_and_never_sends_twice(
    tmp_path: Path, data: Path, policy: str
) -> None:
    settings = SmscSettings(receipt_delay_s=0.1, response_delay_s=0.3, magic=False)
    async with Smsc(settings) as smsc:
        carriers = telecom(smsc, window_size=10, on_ambiguous=policy)
        async with running(tmp_path, carriers, data=data) as node:
            tenant = await node.tenant()
            await smsc.wait_for_binds()
            ids = await asyncio.gather(*(send(node, tenant.key, n) for n in range(COUNT)))
            await smsc.wait_until(lambda: smsc.submitted >= 30)  # ten of them unanswered
            node.kill()
            await node.start()
            if policy == "resend":
                found = await finals(node, tenant.key, list(ids), 60)
                assert {each["status"] for each in found} == {"delivered"}
                assert len(smsc.messages) <= COUNT + 20  # the window, and what was answered and not yet stored
                return

            async def settled() -> list[dict[str, Any]] | None:
                found = [await node.get(f"/v1/messages/{id_}", key=tenant.key) for id_ in ids]
                taken = {"+" + m.destination for m in smsc.messages}
                over = [m["status"] == "delivered" if m["to"]["phone"] in taken else doubtful(m) for m in found]
                return found if all(over) else None

            await until(settled, 60, "what was taken is delivered, the rest is doubtful")
            taken = [m.destination for m in smsc.messages]
            assert len(taken) == len(set(taken)) >= COUNT - 10


def doubtful(message: dict[str, Any]) -> bool:
    return any(event["type"] == "ambiguous" for event in message["events"])


@pytest.mark.slow
async def test_kill_between_the_parts_of_a_handsets_message_loses_none_and_tells_it_once(
    tmp_path: Path, data: Path
) -> None:
    customer, text = Customer(), "Ja tak, jeg vil gerne have den blå cykel. " * 9
    async with (
        Smsc(SmscSettings(magic=False, deliver_retry_s=0.1)) as smsc,
        customer.listening(),
        running(tmp_path, telecom(smsc), data=data, server=ALLOW) as node,
    ):
        tenant = await node.tenant()
        changed = await node.ask("PUT", f"/v1/tenants/{tenant.id}", {"numbers": ["1234"]})
        assert changed.status == 200, changed
        hook = {"url": customer.url, "events": ["inbound.received"]}
        assert (await node.ask("POST", f"/v1/tenants/{tenant.id}/webhooks", hook)).status == 201
        parts: list[list[int]] = [[3], [1], [2]]
        for n, order in enumerate(parts):
            await smsc.wait_for_binds()
            assert await smsc.inject_mo("+4520111111", "1234", text, reference=7, order=order) == [0]
            if n < 2:
                node.kill()
                await smsc.wait_until(lambda: not smsc.bound_now(), SOON_S)
                await node.start()
        await until(lambda: customer.told or None, SOON_S, "the customer is told")
        node.kill()
        await smsc.wait_until(lambda: not smsc.bound_now(), SOON_S)
        await node.start()
        await smsc.wait_for_binds()
        # As if its acknowledgement had been lost: it is no second message.
        assert await smsc.inject_mo("+4520111111", "1234", text, reference=7, order=[2]) == [0]
        assert await smsc.inject_mo("+4520111111", "1234", "another") == [0]
        await until(lambda: len(customer.told) >= 2 or None, SOON_S, "the customer is told of the next")
        told = {one.id: json.loads(one.raw)["data"]["text"] for one in customer.told}
        assert sorted(told.values()) == sorted([text, "another"])


AWAY_S = 60.0
RATE = 200  # messages a second, of two tenants in two lanes
LANES = ("transactional", "marketing")
SHORT_LIVED = 20  # one in so many lives for five seconds only


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_minute_without_the_carrier_loses_nothing_and_keeps_the_order_of_each_lane(
    tmp_path: Path, data: Path
) -> None:
    settings = SmscSettings(receipt_delay_s=0.05, magic=False, keep=50_000)
    async with Smsc(settings) as smsc, running(tmp_path, telecom(smsc, window_size=20), data=data) as node:
        tenants = [await node.tenant("acme"), await node.tenant("bank")]
        await smsc.wait_for_binds()
        loop = asyncio.get_running_loop()
        ids: dict[str, tuple[str, int]] = {}  # whose, and which number, in the order they were accepted
        count = 0

        async def batch(key: str) -> None:
            """A twentieth of a second's messages of one tenant, numbered on in each lane."""
            nonlocal count
            messages: list[dict[str, Any]] = []
            first = count
            for _ in range(RATE // 20 // len(tenants)):
                message: dict[str, Any] = {"channel": "sms", "to": f"+4522{count:06d}", "content": {"text": "x"}}
                message["category"] = LANES[count % 2]
                if count % SHORT_LIVED == 0:
                    message["expires_in_s"] = 5
                messages.append(message)
                count += 1
            answer = await node.ask("POST", "/v1/messages/batch", {"messages": messages}, key=key)
            for n, each in enumerate(answer.body["results"], first):
                ids[each["message"]["id"]] = (key, n)

        async def load(seconds: float) -> None:
            began = loop.time()
            for n in range(int(seconds * 20)):
                for tenant in tenants:
                    await batch(tenant.key)
                await asyncio.sleep(max(0.0, began + (n + 1) / 20 - loop.time()))

        await load(2)
        await smsc.wait_until(lambda: smsc.taken >= count - count // SHORT_LIVED, SOON_S)
        before_mb = node.rss_mb()
        await smsc.go_away()
        gone, taken = datetime.now(UTC), smsc.taken
        await load(AWAY_S)
        assert smsc.taken == taken
        grown_mb = node.rss_mb() - before_mb
        back = datetime.now(UTC)
        await smsc.come_back()
        await asyncio.gather(load(3), smsc.wait_until(lambda: smsc.taken > taken, SOON_S))

        assert count == RATE * (AWAY_S + 5)
        assert grown_mb < 200  # 12,000 messages that wait
        await smsc.wait_until(lambda: smsc.taken >= count - count // SHORT_LIVED, 120)
        found = await node.all_final([*ids], 120)
        sent = [int(message.destination[4:]) for message in smsc.messages]
        assert len(sent) == len(set(sent))
        for message in found.values():
            number = int(message["to"]["phone"][5:])
            created_at, expires_at = (datetime.fromisoformat(message[name]) for name in ("created_at", "expires_at"))
            if created_at > gone and expires_at < back:  # its life ended in the queue
                assert (message["status"], number in sent) == ("expired", False)
            elif number % SHORT_LIVED:
                assert (message["status"], number in sent) == ("delivered", True)
        place = {number: at for at, number in enumerate(sent)}
        for key in {key for key, _ in ids.values()}:
            for lane in range(len(LANES)):
                mine = [place[n] for owner, n in ids.values() if owner == key and n % 2 == lane and n in place]
                assert mine == sorted(mine)
        assert node.log.count("bind is down") < 5
