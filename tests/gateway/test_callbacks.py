"""What carriers report: signed, stored before the 200, and nothing changed when it is not theirs."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from yarl import URL

from actors.context import CarrierPlan
from carriers.base import CallbackAnswer, CallbackRefused, CallbackRequest, Carrier, SendResult, Submission
from hermes.domain.inbound import Inbound, NumberOwner
from hermes.domain.receipt import DeliveryReceipt
from hermes.journal.memory import MemoryJournal
from tests.gateway.api import SECRET, Answer, Api

Start = Callable[..., Awaitable[Api]]


class Provider(Carrier):
    """Takes every message under the id p-1, p-2, ...; its callbacks are JSON lists of (id, status)."""

    kind = "provider"
    receipt_secret = SECRET

    def __init__(self) -> None:
        super().__init__("provider", "sms")
        self.sent = 0
        self.asked: list[CallbackRequest] = []

    def send(self, submission: Submission) -> SendResult:
        self.sent += 1
        return SendResult((f"p-{self.sent}",))

    async def on_callback(self, request: CallbackRequest) -> CallbackAnswer:
        self.asked.append(request)
        if request.method == "GET":
            return CallbackAnswer(body=request.query["challenge"].encode())
        if "x-signature" not in request.headers:
            raise CallbackRefused(401, "no signature")
        if request.headers["x-signature"] != "good":
            raise CallbackRefused(403, "wrong signature")
        if request.body == b"bug":
            raise RuntimeError("secret")
        if request.body.startswith(b'"'):
            text = json.loads(request.body)
            return CallbackAnswer(inbound=[Inbound(self.name, "sms", "+4520123456", "1234", text, f"mo-{text}")])
        receipts = [DeliveryReceipt(self.name, id_, status) for id_, status in json.loads(request.body)]
        return CallbackAnswer(receipts, body=b"<ok/>", content_type="text/xml")


@pytest.fixture
async def provider() -> Provider:
    return Provider()


@pytest.fixture
async def api(start: Start, provider: Provider) -> Api:
    journal = MemoryJournal()
    await journal.start()
    return await start([CarrierPlan(provider)], journal=journal, server={"public_url": "https://hermes.example/base"})


async def submitted(api: Api) -> str:
    """Send a message, and wait until the provider has it."""
    message = await api.sent()

    async def is_submitted() -> bool:
        return any(event.type == "submitted" for event in (await api.node.stored(message)).events)

    await api.node.until(is_submitted)
    return message


async def report(api: Api, body: Any, *, secret: str = SECRET, signature: str | None = None, **headers: str) -> Answer:
    """POST /v1/webhooks/dlr, signed."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    signature = signature or "sha256=" + hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
    return await api.call("POST", "/v1/webhooks/dlr", key=None, raw=raw, **{"X_Hermes_Signature": signature, **headers})


def dlr(**fields: Any) -> dict[str, Any]:
    return {"carrier": "provider", "carrier_message_id": "p-1", "status": "delivered", **fields}


async def test_a_receipt_ends_its_message_and_a_second_one_changes_nothing(api: Api) -> None:
    message = await submitted(api)
    first = await report(api, dlr(at="2026-01-01T10:00:00+02:00"))
    assert (first.status, first.json) == (200, {"result": "matched"})
    assert (await api.node.final(message)).status == "delivered"
    again = await report(api, dlr())
    assert (again.status, again.json) == (200, {"result": "matched"})
    events = (await api.call("GET", f"/v1/messages/{message}")).json["events"]
    assert [event["type"] for event in events].count("delivered") == 1


async def test_an_unknown_id_is_parked_with_202(api: Api) -> None:
    answer = await report(api, dlr(carrier_message_id="nobody-knows"))
    assert (answer.status, answer.json) == (202, {"result": "parked"})


async def test_an_undelivered_receipt_keeps_its_code(api: Api) -> None:
    message = await submitted(api)
    await report(api, dlr(status="undelivered", error_code="27"))
    await api.node.final(message)
    shown = (await api.call("GET", f"/v1/messages/{message}")).json
    assert shown["attempts"][0]["status"] == "undelivered"
    assert shown["attempts"][0]["error"]["code"] == "27"


@pytest.mark.parametrize(
    "how",
    [
        {"signature": "sha256=" + "0" * 64},
        {"signature": "0" * 64},
        {"signature": "sha1=" + "0" * 40},
        {"signature": "é"},
        {"secret": "another"},
    ],
)
async def test_a_wrong_signature_changes_nothing(api: Api, how: dict[str, str]) -> None:
    message = await submitted(api)
    answer = await report(api, dlr(), **how)
    assert (answer.status, answer.code) == (401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"]
    assert (await api.node.stored(message)).status is None


async def test_unsigned_or_for_a_carrier_without_a_secret_is_401(api: Api) -> None:
    raw = json.dumps(dlr()).encode()
    assert (await api.call("POST", "/v1/webhooks/dlr", key=None, raw=raw)).status == 401
    bodies: list[Any] = [dlr(carrier="nobody"), dlr(carrier=1), {}, [], "x", None]
    for body in bodies:
        assert (await report(api, body)).status == 401, body
    assert (await report(api, b"{")).code == "malformed_json"


async def test_the_signature_is_of_the_raw_body(api: Api) -> None:
    await submitted(api)
    spaced = json.dumps(dlr(), indent=3).encode()
    assert (await report(api, spaced)).status == 200
    upper = "sha256=" + hmac.new(SECRET.encode(), spaced, hashlib.sha256).hexdigest().upper()
    assert (await report(api, spaced, signature=upper)).status == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (dlr(status="lost"), "status"),
        (dlr(carrier_message_id=""), "carrier_message_id"),
        (dlr(carrier_message_id="a\0"), "carrier_message_id"),
        (dlr(carrier_message_id=7), "carrier_message_id"),
        (dlr(error_code=7), "error_code"),
        (dlr(at="yesterday"), "at"),
        (dlr(at="2026-01-01T10:00:00"), "at"),
        (dlr(at="9999-12-31T23:59:59-12:00"), "at"),
        (dlr(colour="red"), "colour"),
        ({"carrier": "provider"}, "carrier_message_id"),
    ],
)
async def test_a_wrong_field_is_named(api: Api, body: Any, field: str) -> None:
    answer = await report(api, body)
    assert (answer.status, answer.code) == (422, "schema_invalid")
    assert field in answer.fields


async def test_nothing_is_acknowledged_while_the_database_is_away(api: Api, provider: Provider) -> None:
    message = await submitted(api)
    journal = api.node.journal
    assert isinstance(journal, MemoryJournal)
    journal.set_available(False)
    for answer in (
        await report(api, dlr(carrier_message_id="unknown")),
        await call(api, [["unknown", "delivered"]]),
    ):
        assert (answer.status, answer.code) == (503, "journal_away")
        assert int(answer.headers["Retry-After"]) >= 1
    journal.set_available(True)
    assert (await report(api, dlr())).status == 200
    assert (await api.node.final(message)).status == "delivered"


async def call(api: Api, body: Any, signature: str | None = "good", **headers: str) -> Answer:
    """POST /v1/webhooks/provider."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    if signature is not None:
        headers["X_Signature"] = signature
    return await api.call("POST", "/v1/webhooks/provider?a=1&b=%2F", key=None, raw=raw, **headers)


async def test_a_provider_is_answered_in_its_own_format_once_its_receipts_are_stored(api: Api) -> None:
    messages = [await submitted(api), await submitted(api)]
    answer = await call(api, [["p-1", "delivered"], ["p-2", "undelivered"], ["p-3", "delivered"]])
    assert (answer.status, answer.raw, answer.headers["Content-Type"]) == (200, b"<ok/>", "text/xml")
    assert [(await api.node.final(message)).status for message in messages] == ["delivered", "failed"]


async def test_an_inbound_message_is_stored_before_its_200_and_once(api: Api) -> None:
    api.node.context.numbers = (NumberOwner("1234", api.node.tenant),)
    for _ in range(2):
        assert (await call(api, "Hello")).status == 200
    (record,) = await api.node.journal.inbound(api.node.tenant, 10)
    assert record.inbound.text == "Hello"
    assert (await call(api, "Hello again", signature="bad")).status == 403
    assert len(await api.node.journal.inbound(api.node.tenant, 10)) == 1


async def test_an_inbound_message_is_not_acknowledged_while_the_database_is_away(api: Api) -> None:
    journal = api.node.journal
    assert isinstance(journal, MemoryJournal)
    journal.set_available(False)
    answer = await call(api, "Hello")
    assert (answer.status, answer.code) == (503, "journal_away")
    journal.set_available(True)
    assert (await call(api, "Hello")).status == 200


async def test_a_provider_is_told_apart_by_the_public_url_not_the_host_header(api: Api, provider: Provider) -> None:
    url = URL(f"{api.url}/v1/webhooks/provider?a=1&b=%2F", encoded=True)
    headers = {"Host": "evil.example", "X-Signature": "good"}
    async with api.session.post(url, data=b"[]", headers=headers) as answer:
        assert answer.status == 200
    (asked,) = provider.asked
    assert asked.url == "https://hermes.example/base/v1/webhooks/provider?a=1&b=%2F"
    assert asked.query == {"a": "1", "b": "/"} and asked.body == b"[]" and asked.method == "POST"
    assert all(name == name.lower() for name in asked.headers)


async def test_a_challenge_is_answered(api: Api) -> None:
    answer = await api.call("GET", "/v1/webhooks/provider?challenge=42", key=None)
    assert (answer.status, answer.raw) == (200, b"42")


async def test_what_is_not_the_providers_changes_nothing(api: Api) -> None:
    message = await submitted(api)
    unsigned = await call(api, [["p-1", "delivered"]], signature=None)
    assert (unsigned.status, unsigned.code) == (401, "unauthenticated")
    forged = await call(api, [["p-1", "delivered"]], signature="bad")
    assert forged.status == 403
    unknown = await api.call("POST", "/v1/webhooks/nobody", key=None, raw=b"{}")
    assert (unknown.status, unknown.code) == (404, "not_found")
    assert (await api.node.stored(message)).status is None


async def test_a_carriers_bug_is_500_without_a_word_about_it(api: Api) -> None:
    answer = await call(api, b"bug")
    assert (answer.status, answer.code) == (500, "internal")
    assert b"secret" not in answer.raw


async def test_a_carrier_without_callbacks_is_not_found(start: Start) -> None:
    api = await start()
    answer = await api.call("POST", "/v1/webhooks/mock-sms", key=None, raw=b"{}")
    assert (answer.status, answer.code) == (404, "not_found")


async def test_receipts_of_one_call_are_stored_together_not_one_after_the_other(api: Api) -> None:
    answer = await asyncio.wait_for(call(api, [[f"x-{n}", "delivered"] for n in range(500)]), 2)
    assert answer.status == 200
    assert len(await api.node.journal.parked_receipts(1000)) == 500
