"""The control over HTTP: what it tells, what it orders, and what it refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from carriers.smpp import constants as c
from carriers.smpp.pdu import AlertNotification, EnquireLink, EnquireLinkResp, Pdu, Unbind
from carriers.smpp.receipts import read_receipt
from hermes.smsc import Smsc, SmscSettings
from hermes.smsc.control import Control
from tests.hermes.smsc.peer import bind


class Client:
    """Asks the control; gives (HTTP status, document)."""

    def __init__(self, smsc: Smsc, session: aiohttp.ClientSession, url: str) -> None:
        self.smsc = smsc
        self.session = session
        self.url = url

    async def get(self, path: str) -> Any:
        async with self.session.get(self.url + path) as answer:
            assert answer.status == 200
            return await answer.json()

    async def order(self, path: str, order: object = None, method: str = "POST") -> tuple[int, Any]:
        async with self.session.request(method, self.url + path, json=order or {}) as answer:
            return answer.status, await answer.json()


@asynccontextmanager
async def controlled(**settings: Any) -> AsyncIterator[Client]:
    values = {"accounts": {"hermes": "secret"}, "receipt_delay_s": 0, **settings}
    async with Smsc(SmscSettings(**values)) as smsc, aiohttp.ClientSession() as session:
        control = Control(smsc)
        await control.start("127.0.0.1", 0)
        try:
            yield Client(smsc, session, f"http://127.0.0.1:{control.port}")
        finally:
            await control.stop()


async def test_it_tells_binds_counters_and_messages() -> None:
    async with controlled() as client:
        first, second = await bind(client.smsc), await bind(client.smsc, "transmitter")
        taken = await first.submit("4520999901", short_message=b"hello")
        await first.receipt()
        await second.submit("4520990002", tlvs=((0x1401, b"\1"),))
        await client.smsc.wait_for_receipts(1)
        stats = await client.get("/stats")
        assert [(each["n"], each["mode"], each["submits"], each["bound"]) for each in stats["binds"]] == [
            (1, "transceiver", 1, True),
            (2, "transmitter", 1, True),
        ]
        assert stats["submit_statuses"] == {"ESME_ROK": 1, "ESME_RINVDSTADR": 1}
        assert stats["deliveries"]["receipt"] == {"sent": 1, "acknowledged": 1}
        (message,) = (await client.get("/messages"))["messages"]
        assert (message["text"], message["message_ids"], message["states"]) == (
            "hello",
            [taken.message_id],
            ["DELIVRD"],
        )
        (refused,) = (await client.get("/submits?bind=2"))["submits"]
        assert (refused["status"], refused["parameters"]) == ("ESME_RINVDSTADR", {"0x1401": "01"})
        assert (await client.get("/messages?destination=77&limit=5"))["messages"] == []
        assert (await client.get("/magic"))["0001"] == "delivered"


async def test_settings_are_shown_without_passwords_and_changed() -> None:
    async with controlled() as client:
        assert (await client.get("/settings"))["accounts"] == {"hermes": "***"}
        assert await client.order("/settings", {"error_rate": 1, "error_status": "0x401"}, "PATCH") == (200, {})
        esme = await bind(client.smsc)
        assert (await esme.submit()).command_status == 0x401
        status, answer = await client.order("/settings", {"error_rate": 2}, "PATCH")
        assert (status, "error_rate" in answer["error"]) == (400, True)


async def test_orders_reach_the_esme() -> None:
    async with controlled() as client:
        esme = await bind(client.smsc)
        inbound = {"source": "+4520123456", "destination": "1234", "text": "STOP"}
        assert await client.order("/inbound", inbound) == (200, {})
        assert (await esme.receipt()).short_message == b"STOP"
        assert await client.order("/alert", {"source": "+4520123456"}) == (200, {"connections": 1})
        await esme.read(AlertNotification)
        assert await client.order("/malformed", {"hex": EnquireLink(0, 77).encode().hex()}) == (
            200,
            {"connections": 1},
        )
        asked: Pdu = await esme.read(EnquireLink)
        assert asked.sequence_number == 77
        assert await client.order("/freeze", {"bind": 1}) == (200, {"connections": 1})
        esme.write(EnquireLink())
        assert await client.order("/thaw") == (200, {"connections": 1})
        await esme.read(EnquireLinkResp)
        assert await client.order("/unbind", {"bind": 9}) == (200, {"connections": 0})
        assert await client.order("/unbind") == (200, {"connections": 1})
        await esme.read(Unbind)
        assert await client.order("/drop", {"how": "close"}) == (200, {"connections": 1})
        await esme.ended()


async def test_it_goes_away_and_comes_back() -> None:
    async with controlled() as client:
        esme = await bind(client.smsc)
        assert await client.order("/go-away", {"for_s": 0.05}) == (200, {})
        await esme.ended()
        await client.smsc.wait_until(lambda: client.smsc.stats()["listening"])
        again = await bind(client.smsc)
        await client.order("/go-away")
        assert not (await client.get("/stats"))["listening"]
        assert await client.order("/come-back") == (200, {})
        await again.ended()
        last = await bind(client.smsc)
        assert read_receipt(await _submitted(last)).state == "DELIVRD"


async def _submitted(esme: Any) -> Any:
    await esme.submit()
    return await esme.receipt()


@pytest.mark.parametrize(
    ("path", "order", "status"),
    [
        ("/inbound", {"source": "x" * 30, "destination": "1", "text": "x"}, 400),
        ("/inbound", {"source": "1", "destination": "1", "text": "😀", "data_coding": 0}, 400),
        ("/inbound", {"source": "1", "destination": "1", "text": "x", "order": [2]}, 400),
        ("/inbound", {"source": "1"}, 400),
        ("/inbound", [1], 400),
        ("/drop", {"how": "gently"}, 400),
        ("/malformed", {"hex": "xyz"}, 400),
        ("/malformed", {"name": "nonsense"}, 400),
        ("/malformed", {}, 400),
        ("/outbind", {"host": "127.0.0.1", "port": 1}, 409),
        ("/outbind", {"host": "127.0.0.1", "port": 99999}, 409),
    ],
)
async def test_a_wrong_order_is_refused(path: str, order: object, status: int) -> None:
    async with controlled() as client:
        esme = await bind(client.smsc)
        given, answer = await client.order(path, order)
        assert (given, list(answer)) == (status, ["error"])
        assert (await esme.submit()).command_status == c.ESME_ROK


async def test_a_message_for_one_of_two_accounts_must_name_it() -> None:
    async with controlled(accounts={"hermes": "secret", "other": "secret"}) as client:
        order = {"source": "1", "destination": "1", "text": "x"}
        assert (await client.order("/inbound", order))[0] == 409
        assert (await client.order("/inbound", {**order, "system_id": "other"}))[0] == 200


async def test_an_order_that_does_not_say_it_is_json_is_refused() -> None:
    async with controlled() as client, client.session.post(client.url + "/drop", data="{}") as answer:
        assert answer.status == 415
