"""Two nodes that tell each other over NATS: what they tell arrives, with the bus and without it."""

from __future__ import annotations

from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.journal.nats_server import PASSWORD, NatsServer, needs_nats
from tests.node.harness import MOCKS, SOON_S, Node, two_of_one_database, until, waiting_for_receipts

pytestmark = needs_nats


async def cancel_at(node: Node, key: str, message_id: str) -> None:
    answer = await node.ask("POST", f"/v1/messages/{message_id}/cancel", key=key)
    if answer.status != 503:  # this machine was slow: the outcome was unknown, and it is carried out
        assert (answer.status, answer.body["status"]) == (200, "cancelled"), answer
    assert (await node.final(message_id))["status"] == "cancelled"


@pytest.mark.timeout(240)
async def test_answers_between_nodes_go_over_nats_and_go_on_without_it(tmp_path: Path) -> None:
    bus = NatsServer()
    await bus.start()
    try:
        async with two_of_one_database(tmp_path, f'{MOCKS}\n[nats]\nurl = "{bus.url}"\n') as (first, second):
            on_the_bus = "nats is there"
            await until(lambda: on_the_bus in first.log and on_the_bus in second.log, SOON_S, "both are on the bus")
            heard: list[bytes] = []

            async def hear(message: Msg) -> None:
                heard.append(message.data)

            listener = Client()
            await listener.connect(bus.url)
            await listener.subscribe("hermes.*.news.*", cb=hear)
            await listener.flush()

            tenant = await first.tenant()

            async def known() -> bool:
                return (await second.ask("GET", "/v1/messages", key=tenant.key)).status == 200

            await until(known, SOON_S, "the other node knows the key")
            messages = await waiting_for_receipts(first, tenant.key, 6)
            for message in messages[:3]:
                await cancel_at(second, tenant.key, message["id"])
            await until(lambda: any(b" answer " in text for text in heard), SOON_S, "an answer went over NATS")
            await listener.close()

            await bus.stop()
            await until(lambda: "nats is away" in first.log, SOON_S, "the log says that NATS is away")
            for message in messages[3:]:
                await cancel_at(second, tenant.key, message["id"])

            for node in (first, second):
                assert await node.terminate() == 0, node.log
                assert PASSWORD not in node.log
    finally:
        await bus.stop()
