"""SMS through Twilio, Vonage and Messente end to end: a real node between a customer and a provider on loopback."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from twilio.request_validator import RequestValidator

from carriers.http.vonage_signature import METHODS, sign
from tests.carriers.http import servers
from tests.node.harness import SOON_S, Answer, Node, carrier, mock, until
from tests.node.hooks import ALLOW, Customer

TO, OURS = "+4520987654", "+4510101010"
TEXT = "canary-text of a message"
SECRETS = ("canary-one", "canary-two", "canary-three")

Call = tuple[bytes, dict[str, str]]  # body, headers


@dataclass(frozen=True)
class Kind:
    """A provider: its settings, its answer, and the calls that it signs."""

    name: str
    settings: dict[str, str]
    answer: Callable[[str], servers.Answer]
    asked_for: Callable[[servers.Asked], tuple[str, str]]  # recipient, callback URL
    delivered: Callable[[str, str], Call]  # by carrier_message_id and URL
    wrote: Callable[[str, str], Call]  # by text and URL


def form(fields: dict[str, str], **headers: str) -> Call:
    return urlencode(fields).encode(), {"Content-Type": "application/x-www-form-urlencoded", **headers}


def twilio(fields: dict[str, str], url: str) -> Call:
    body, headers = form(fields)
    return body, {**headers, "X-Twilio-Signature": RequestValidator("canary-one").compute_signature(url, fields)}


def vonage(fields: dict[str, str], url: str) -> Call:
    fields = {**fields, "timestamp": str(int(datetime.now(UTC).timestamp()))}
    return form({**fields, "sig": sign(fields, "canary-two", METHODS["sha256"])})


def messente(fields: dict[str, str], secret: str) -> Call:
    body = json.dumps(fields).encode()
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return body, {"Content-Type": "application/json", "X-Messente-Signature": signature}


def of_form(*names: str) -> Callable[[servers.Asked], tuple[str, str]]:
    def read(asked: servers.Asked) -> tuple[str, str]:
        fields = dict(parse_qsl(asked.body.decode()))
        return "+" + fields[names[0]].removeprefix("+"), fields[names[1]]

    return read


KINDS = [
    Kind(
        "twilio",
        {"account_sid": "AC1", "auth_token": "canary-one", "from_": OURS},
        lambda id_: (201, {}, json.dumps({"sid": id_}).encode()),
        of_form("To", "StatusCallback"),
        lambda id_, url: twilio({"MessageSid": id_, "MessageStatus": "delivered"}, url),
        lambda text, url: twilio(
            {"MessageSid": f"in-{text}", "SmsStatus": "received", "From": TO, "To": OURS, "Body": text}, url
        ),
    ),
    Kind(
        "vonage",
        {
            "api_key": "abcd1234",
            "api_secret": "canary-one",
            "signature_secret": "canary-two",
            "signature_method": "sha256",
            "from_": OURS,
        },
        lambda id_: (200, {}, json.dumps({"messages": [{"status": "0", "message-id": id_}]}).encode()),
        of_form("to", "callback"),
        lambda id_, url: vonage({"messageId": id_, "status": "delivered", "err-code": "0"}, url),
        lambda text, url: vonage({"messageId": f"in-{text}", "msisdn": TO[1:], "to": OURS[1:], "text": text}, url),
    ),
    Kind(
        "messente",
        {"username": "user", "password": "canary-one", "inbound_secret": "canary-three", "from_": OURS},
        lambda id_: (201, {}, json.dumps({"messages": [{"message_id": id_}]}).encode()),
        lambda asked: (json.loads(asked.body)["to"], json.loads(asked.body)["dlr_url"]),
        lambda id_, url: messente({"message_id": id_, "status": "DELIVRD"}, "canary-one"),
        lambda text, url: messente(
            {"msg_id": f"in-{text}", "sender": TO, "recipient": OURS, "text": text}, "canary-three"
        ),
    ),
]


@asynccontextmanager
async def node_with(folder: Path, data: Path, carriers: str, server: str = "") -> AsyncIterator[Node]:
    """A node that knows its public URL and says all it has to say."""
    node = Node(folder, data=data)
    public = f'public_url = "{node.url}"\n{ALLOW}\n{server}\n[log]\nlevel = "debug"'
    node.configure(carriers, server=public)
    try:
        await node.start()
        yield node
    finally:
        await node.close()


async def post(node: Node, kind: Kind, call: Call) -> Answer:
    """Call the carrier's webhook as the provider does."""
    body, headers = call
    return await node.ask("POST", f"/v1/webhooks/{kind.name}", body, headers={**headers, "Authorization": "none"})


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_a_message_its_receipt_its_answer_and_its_opt_out(tmp_path: Path, data: Path, kind: Kind) -> None:
    customer = Customer()
    async with servers.provider() as provider, customer.listening():
        provider.answer = kind.answer("id-1")
        settings = carrier(name=kind.name, kind=kind.name, channel="sms", base_url=provider.url, **kind.settings)
        async with node_with(tmp_path, data, settings) as node:
            tenant = await node.tenant()
            events = ["message.delivered", "inbound.received", "recipient.opted_out"]
            body = {"url": customer.url, "events": events}
            assert (await node.ask("POST", f"/v1/tenants/{tenant.id}/webhooks", body)).status == 201
            url = f"{node.url}/v1/webhooks/{kind.name}"
            message = {"channel": "sms", "to": TO, "content": {"text": TEXT}}

            sent = (await node.send(tenant.key, message))["id"]
            await until(lambda: provider.asked or None, SOON_S, "the provider is asked")
            assert kind.asked_for(provider.asked[0]) == (TO, url)

            raw, headers = kind.delivered("id-1", url)
            spoiled = raw.replace(b"id-1", b"id-2")
            assert (await post(node, kind, (spoiled, headers))).status in (401, 403)
            assert (await post(node, kind, (raw, {}))).status in (401, 403)
            assert (await node.message(sent))["status"] == "in_progress"
            for _ in range(2):
                assert (await post(node, kind, (raw, headers))).status == 200
            assert (await node.final(sent))["status"] == "delivered"

            for text in ("canary-hello", "Stop!"):
                for _ in range(2):  # the provider repeats itself
                    assert (await post(node, kind, kind.wrote(text, url))).status == 200
            await until(lambda: len(customer.told) >= 4 or None, SOON_S, "the customer is told")
            told = [(one.type, json.loads(one.raw)["data"]) for one in customer.told]
            texts = [told_data["text"] for type_, told_data in told if type_ == "inbound.received"]
            assert sorted(texts) == ["Stop!", "canary-hello"]
            assert (
                "recipient.opted_out",
                {"recipient": TO, "channel": "sms", "number": OURS, "keyword": "STOP"},
            ) in told
            assert len(customer.told) == 4

            refused = await node.ask("POST", "/v1/messages", message, key=tenant.key)
            assert (refused.status, refused.body["code"]) == (422, "do_not_contact")
            assert len(provider.asked) == 1

            shown = [node.log]
            actor = f"/v1/actors/provider/{kind.name}"
            for path in (f"/v1/messages/{sent}", "/v1/actors", "/v1/carriers", "/metrics", actor):
                answer = await node.ask("GET", path)
                assert answer.status == 200, path
                shown.append(json.dumps(answer.body))
            for secret in SECRETS:
                assert not any(secret in text for text in shown)
            assert not any(private in node.log for private in (TEXT, TO[1:], "canary-hello"))


async def hang(writer: asyncio.StreamWriter) -> bool:
    await asyncio.Event().wait()
    return False


async def reset(writer: asyncio.StreamWriter) -> bool:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def answer(status: int, body: bytes) -> Callable[[asyncio.StreamWriter], Awaitable[bool]]:
    """Answer, and keep the connection."""

    async def talk(writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)
        await writer.drain()
        return True

    return talk


GOOD = answer(201, b'{"sid": "SM1"}')
OUTAGES = [
    pytest.param(answer(500, b"oops"), "resend", id="answers 500"),
    pytest.param(answer(200, b"<html>"), "never", id="answers garbage"),
    pytest.param(hang, "never", id="hangs"),
    pytest.param(reset, "never", id="resets"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("sick", "policy"), OUTAGES)
async def test_when_a_provider_fails_messages_move_on_and_the_breaker_opens_and_closes(
    tmp_path: Path, data: Path, sick: Any, policy: str
) -> None:
    """Each message is delivered once by the fallback, and the provider sees no try that the message does not show."""
    does = [sick]
    requests = 0

    async def provider(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        while await servers.read_request(reader):
            requests += 1
            if not await does[0](writer):
                return

    async with servers.raw_server(provider) as url:
        account = {"account_sid": "AC1", "auth_token": "x", "from_": OURS, "on_ambiguous": policy}
        limits = {"timeout_s": 0.3, "breaker_failures": 3, "breaker_open_s": 0.3}
        sms = carrier(name="twilio", kind="twilio", channel="sms", base_url=url, **account, **limits)
        async with node_with(tmp_path, data, sms + mock("email")) as node:
            key = (await node.tenant()).key
            body = {
                "to": {"phone": TO, "email": "delivered@example.com"},
                "cascade": [{"channel": "sms", "timeout_s": 2}, "email"],
                "content": {"text": TEXT, "subject": "x"},
            }
            ids = [(await node.send(key, body))["id"] for _ in range(8)]
            ended = await node.all_final(ids, SOON_S)
            tries = 0
            for message in ended.values():
                assert (message["status"], message["delivered_by"]) == ("delivered", 1)
                assert sum(attempt["channel"] == "email" for attempt in message["attempts"]) == 1
                tries += sum(attempt["channel"] == "sms" for attempt in message["attempts"])
            assert 3 <= requests <= tries

            async def breaker() -> str:
                (found,) = [one for one in (await node.get("/v1/carriers"))["data"] if one["name"] == "twilio"]
                return str(found["breaker"])

            assert await breaker() in ("open", "half_open")
            does[0] = GOOD
            body["cascade"] = [{"channel": "sms", "success": "submitted"}]
            last = (await node.send(key, body))["id"]
            assert (await node.final(last))["status"] == "delivered"
            assert await breaker() == "closed"
