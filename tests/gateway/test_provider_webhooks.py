"""From the API to a provider and back by its webhook: SES over SNS, WhatsApp, FCM; and no secret on the way."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from actors.context import CarrierPlan
from carriers.registry import make_carrier
from hermes.runtime.clock import SystemClock
from tests.carriers.http import servers
from tests.carriers.http.sns_key import TOPIC, SnsKey, make_sns_key
from tests.gateway.api import OPERATOR, Answer, Api

Start = Callable[..., Awaitable[Api]]

# Nothing of these may show anywhere.
CANARIES = [
    "ses-canary-secret",
    "ses-canary-token",
    "wa-canary-token",
    "wa-canary-app-secret",
    "wa-canary-verify",
    "fcm-canary-access",
    "PRIVATE KEY",
    "text-canary",
    "provider-said-canary",
]
TEXT = "text-canary"
SAID = "provider-said-canary"
FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
TEMPLATE = {"name": "order_update", "language": "en_US", "components": [{"type": "body", "parameters": []}]}


@pytest.fixture
async def provider() -> AsyncIterator[servers.Provider]:
    async with servers.provider() as it:
        it.answer = (
            200,
            {"content-type": "application/json"},
            json.dumps(
                {
                    "MessageId": "ses-1",
                    "messages": [{"id": "wamid.1"}],
                    "name": "projects/demo/messages/1",
                    "access_token": "fcm-canary-access",
                    "expires_in": 3600,
                }
            ).encode(),
        )
        yield it


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SnsKey:
    return make_sns_key(tmp_path_factory.mktemp("sns"))


@pytest.fixture
async def api(start: Start, provider: servers.Provider, key: SnsKey) -> Api:
    private_key = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    account = {"private_key": private_key.decode(), "client_email": "h@demo.test", "token_uri": "http://unused.test"}
    options: dict[str, tuple[str, dict[str, Any]]] = {
        "ses": (
            "email",
            {
                "region": "eu-west-1",
                "from": "news@acme.test",
                "access_key_id": "AKID",
                "secret_access_key": "ses-canary-secret",
                "session_token": "ses-canary-token",
                "sns_topic_arns": [TOPIC],
                "sns_cert_dir": str(key.folder),
            },
        ),
        "whatsapp": (
            "whatsapp",
            {
                "phone_number_id": "106540352242922",
                "access_token": "wa-canary-token",
                "app_secret": "wa-canary-app-secret",
                "verify_token": "wa-canary-verify",
            },
        ),
        "fcm": (
            "push",
            {"project_id": "demo", "service_account": json.dumps(account), "token_url": f"{provider.url}/token"},
        ),
    }
    plans = [
        CarrierPlan(make_carrier(kind, kind, channel, {**own, "base_url": provider.url}, clock=SystemClock()))
        for kind, (channel, own) in options.items()
    ]
    return await start(plans)


async def submitted(api: Api, body: dict[str, Any]) -> str:
    message = await api.sent(body)

    async def is_submitted() -> bool:
        return any(event.type == "submitted" for event in (await api.node.stored(message)).events)

    await api.node.until(is_submitted)
    return message


async def posted(api: Api, name: str, body: bytes, **headers: str) -> Answer:
    return await api.call("POST", f"/v1/webhooks/{name}", key=None, raw=body, **headers)


def mail(**more: Any) -> dict[str, Any]:
    return {"channel": "email", "to": "jane@example.com", "content": {"text": TEXT, "subject": "x"}, **more}


def bounce(**more: Any) -> dict[str, Any]:
    said = {"bounceType": "Permanent", "bounceSubType": "General", "bouncedRecipients": [{"diagnosticCode": SAID}]}
    return {"eventType": "Bounce", "mail": {"messageId": "ses-1"}, "bounce": said, **more}


async def test_a_signed_bounce_ends_the_message_and_an_unsigned_one_changes_nothing(api: Api, key: SnsKey) -> None:
    message = await submitted(api, mail())
    signed = key.notify(bounce())
    forged = signed.replace(b"ses-1", b"ses-2")
    assert (await posted(api, "ses", forged, Content_Type="text/plain; charset=UTF-8")).status == 401
    assert (await posted(api, "ses", key.notify(bounce(), TopicArn=TOPIC + "2"))).status == 403
    assert (await api.node.stored(message)).status is None
    for _ in range(2):  # SNS may say it twice
        assert (await posted(api, "ses", signed, Content_Type="text/plain; charset=UTF-8")).status == 200
    assert (await api.node.final(message)).status == "failed"
    shown = (await api.call("GET", f"/v1/messages/{message}")).json
    error = shown["attempts"][0]["error"]
    assert (error["class"], error["code"]) == ("invalid_destination", "Permanent/General")
    assert [event["type"] for event in shown["events"]].count("undelivered") == 1


async def suppressed(api: Api) -> tuple[str, str, str]:
    """Wait for the first entry of the do-not-contact list."""
    found: list[dict[str, str]] = []

    async def listed() -> bool:
        nonlocal found
        found = (await api.call("GET", f"/v1/tenants/{api.node.tenant}/suppressions")).json["data"]
        return bool(found)

    await api.node.until(listed)
    return found[0]["channel"], found[0]["address"], found[0]["reason"]


async def test_a_complaint_changes_no_status_and_ends_the_writing(api: Api, key: SnsKey) -> None:
    message = await submitted(api, mail())
    complaint = {"eventType": "Complaint", "mail": {"messageId": "ses-1"}, "complaint": {}}
    assert (await posted(api, "ses", key.notify(complaint))).status == 200
    assert await suppressed(api) == ("email", "jane@example.com", "complaint")
    assert (await api.node.stored(message)).status is None
    assert (await api.send(mail())).code == "do_not_contact"


async def test_an_unregistered_token_is_not_written_to_again(api: Api, provider: servers.Provider) -> None:
    granted = provider.answer  # the token endpoint is asked first
    error = {"status": "NOT_FOUND", "details": [{"@type": FCM_ERROR, "errorCode": "UNREGISTERED"}]}
    provider.answers = [granted, (404, {}, json.dumps({"error": error}).encode())]
    push = {"channel": "push", "to": "tok:en", "content": {"text": TEXT}}
    assert (await api.node.final(await api.sent(push))).status == "failed"
    assert await suppressed(api) == ("push", "tok:en", "invalid_destination")
    assert (await api.send(push)).code == "do_not_contact"


async def test_stop_by_whatsapp_ends_the_writing(api: Api) -> None:
    chat = {"channel": "whatsapp", "to": "+4520123456", "content": {"text": TEXT}}
    await submitted(api, chat)
    said = {"from": "4520123456", "id": "wamid.2", "type": "text", "text": {"body": "Stop!"}}
    value = {"metadata": {"display_phone_number": "15550783881"}, "messages": [said]}
    document = {"object": "whatsapp_business_account", "entry": [{"changes": [{"field": "messages", "value": value}]}]}
    body = json.dumps(document).encode()
    for _ in range(2):  # Meta may say it twice
        assert (await posted(api, "whatsapp", body, X_Hub_Signature_256=meta_signature(body))).status == 200
    assert await suppressed(api) == ("whatsapp", "+4520123456", "opted_out")
    assert (await api.send(chat)).code == "do_not_contact"


def meta_signature(body: bytes) -> str:
    return "sha256=" + hmac.new(b"wa-canary-app-secret", body, hashlib.sha256).hexdigest()


def statuses(*names: str) -> bytes:
    said = [{"id": "wamid.1", "status": name, "timestamp": "1749416383"} for name in names]
    value = {"metadata": {"display_phone_number": "15550783881"}, "statuses": said}
    change = {"field": "messages", "value": value}
    return json.dumps({"object": "whatsapp_business_account", "entry": [{"changes": [change]}]}).encode()


async def test_a_template_reaches_meta_and_its_statuses_reach_the_message(api: Api, provider: servers.Provider) -> None:
    content = {"text": "for others", "whatsapp": {"template": TEMPLATE}}
    message = await submitted(api, {"channel": "whatsapp", "to": "+4520123456", "content": content})
    asked = json.loads(provider.asked[-1].body)
    assert asked["template"] == {**TEMPLATE, "language": {"code": "en_US"}}
    assert (asked["type"], asked["to"]) == ("template", "+4520123456")
    body = statuses("read", "delivered", "sent")
    assert (await posted(api, "whatsapp", body)).status == 401
    assert (await posted(api, "whatsapp", body, X_Hub_Signature_256=meta_signature(body + b" "))).status == 401
    assert (await api.node.stored(message)).status is None
    assert (await posted(api, "whatsapp", body, X_Hub_Signature_256=meta_signature(body))).status == 200
    assert (await api.node.final(message)).status == "delivered"
    shown = (await api.call("GET", f"/v1/messages/{message}")).json
    assert shown["attempts"][0]["status"] == "read"


async def test_a_file_reaches_meta(api: Api, provider: servers.Provider) -> None:
    media = {"type": "image", "link": "https://acme.test/a.png", "caption": "see"}
    await submitted(api, {"channel": "whatsapp", "to": "+4520123456", "content": {"whatsapp": {"media": media}}})
    asked = json.loads(provider.asked[-1].body)
    assert (asked["type"], asked["image"]) == ("image", {"link": media["link"], "caption": "see"})


async def test_metas_challenge_is_answered(api: Api) -> None:
    path = "/v1/webhooks/whatsapp?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token="
    answer = await api.call("GET", path + "wa-canary-verify", key=None)
    assert (answer.status, answer.raw) == (200, b"1158201444")
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert (await api.call("GET", path + "other", key=None)).status == 403


async def test_a_push_step_is_over_when_fcm_took_it(api: Api) -> None:
    cascade = [{"channel": "push", "success": "submitted"}]
    message = await api.sent({"to": {"push": "tok:en"}, "cascade": cascade, "content": {"text": TEXT}})
    assert (await api.node.final(message)).status == "delivered"
    shown = (await api.call("GET", f"/v1/messages/{message}")).json
    assert shown["attempts"][0]["carrier_message_ids"] == ["projects/demo/messages/1"]


async def test_no_secret_shows_in_logs_messages_errors_or_the_tree(
    api: Api, provider: servers.Provider, key: SnsKey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    said: list[object] = []
    bodies = [
        mail(),
        {"channel": "whatsapp", "to": "+4520123456", "content": {"text": TEXT}},
        {"channel": "push", "to": "tok:en", "content": {"text": TEXT}},
    ]
    error = {"code": 131009, "status": "INVALID_ARGUMENT", "message": SAID, "error_data": {"details": SAID}}
    refusal = json.dumps({"error": error, "message": SAID, "__type": "BadRequestException"}).encode()
    for answer in (None, (400, {}, refusal), (503, {"x-amzn-errortype": "X"}, SAID.encode()), (200, {}, SAID.encode())):
        if answer is not None:
            provider.answer = answer
        for body in bodies:
            message = await api.sent(body)

            async def tried(message: str = message) -> bool:
                return len((await api.node.stored(message)).events) > 1

            await api.node.until(tried)
            said.append((await api.call("GET", f"/v1/messages/{message}")).raw)
    for name in ("ses", "whatsapp", "fcm"):
        said.append((await posted(api, name, SAID.encode())).raw)
    said.append((await posted(api, "ses", key.notify(bounce()))).raw)
    said.append((await api.call("GET", "/v1/webhooks/whatsapp?hub.verify_token=x", key=None)).raw)
    for path in ("/v1/actors", "/v1/carriers", "/v1/actors/provider/ses", "/v1/actors/provider/fcm"):
        said.append((await api.call("GET", path, key=OPERATOR)).raw)
    said += [plan.carrier for plan in api.node.context.carriers.values()]
    said += [record.getMessage() + str(record.__dict__) for record in caplog.records]
    text = "\n".join(f"{thing!s} {thing!r}" for thing in said)
    assert "projects/demo" in text or "wamid.1" in text  # the answers are among what is searched
    assert [canary for canary in CANARIES if canary in text] == []
