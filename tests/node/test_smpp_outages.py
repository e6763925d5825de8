"""A real node on a simulated carrier: what survives kill -9 and a carrier that is away."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hermes.smsc import Smsc, SmscSettings
from tests.node.harness import FINAL, SOON_S, Node, carrier, running, until

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
async def test_a_carrier_that_is_away_under_load_gets_everything_when_it_is_back(tmp_path: Path, data: Path) -> None:
    settings = SmscSettings(receipt_delay_s=0.05, magic=False)
    async with Smsc(settings) as smsc:
        carriers = telecom(smsc, window_size=20)
        async with running(tmp_path, carriers, data=data) as node:
            tenant = await node.tenant()
            await smsc.wait_for_binds()
            loop = asyncio.get_running_loop()
            ids: list[str] = []
            away_s, rate = 10.0, 100
            began = loop.time()
            await smsc.go_away()
            back: asyncio.Task[None] | None = None
            for n in range(int(rate * (away_s + 3))):
                ids.append(await send(node, tenant.key, n))
                if back is None and loop.time() - began >= away_s:
                    back = loop.create_task(smsc.come_back())
                await asyncio.sleep(max(0.0, began + n / rate - loop.time()))
            if back is None:
                await smsc.come_back()
            found = await finals(node, tenant.key, ids, 60)
            assert {each["status"] for each in found} == {"delivered"}
            sent = [m.destination for m in smsc.messages]
            assert len(sent) == len(ids) == len(set(sent))
            log = node.log
            assert log.count("bind is down") < 5
