"""WhatsApp Cloud API against the contract's cases, Meta's own examples and Prism over its description."""

import hashlib
import hmac
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from carriers.base import CallbackRefused, CallbackRequest, SendError, SendResult
from carriers.http.whatsapp import LONGEST_TEXT
from carriers.registry import make_carrier
from hermes.domain.inbound import asked_for
from hermes.domain.message import Content
from hermes.errors import SettingsError
from hermes.testing import ManualClock
from hermes.testing.carriers import (
    Case,
    RememberingSink,
    check_answer,
    check_keeps_secrets,
    check_receipt,
    load_cases,
    submission,
)
from tests.carriers.http import servers
from tests.carriers.http.prism import SPECS, needs_prism, prism

CONTRACTS = Path(__file__).parents[2] / "contracts"
PAYLOADS = CONTRACTS / "payloads/whatsapp"
SIGNATURES = json.loads((CONTRACTS / "signatures/meta.json").read_text())["cases"]
EXAMPLES = json.loads((SPECS / "whatsapp_examples.json").read_text())
SECRETS = {"access_token": "EAAG-canary", "app_secret": "app-canary", "verify_token": "verify-canary"}
OK = (200, {"content-type": "application/json"}, b'{"messages": [{"id": "wamid.1"}]}')
NUMBER = "106540352242922"


def make(**settings):
    options = {"phone_number_id": NUMBER, **SECRETS, **settings}
    options = {name: value for name, value in options.items() if value is not None}
    return make_carrier("whatsapp", "wa", "whatsapp", options, clock=ManualClock())


@asynccontextmanager
async def carrier_to(url, **settings):
    carrier = make(base_url=url, **settings)
    await carrier.open(RememberingSink())
    try:
        yield carrier
    finally:
        await carrier.close()


def chat(content=None, **changes):
    return submission(
        channel="whatsapp", content=content or Content(text="Your code is 9876543"), **{"to": "+16505551234", **changes}
    )


def own(**block):
    return Content(text="common", whatsapp=block).for_channel("whatsapp")


def signature(body, secret=SECRETS["app_secret"]):
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def call(body=b"", method="POST", query="", signed=None):
    headers = {"content-type": "application/json"}
    if method == "POST":
        headers["x-hub-signature-256"] = signature(body) if signed is None else signed
    url = "https://hermes.test/v1/webhooks/wa" + ("?" + query if query else "")
    return CallbackRequest(method, url, dict(parse_qsl(query)), headers, body)


async def receive(document):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return await make().on_callback(call(body))


# What we send


TEMPLATE = {
    "name": "order_update",
    "language": {"code": "en_US"},
    "components": [{"type": "body", "parameters": [{"type": "text", "text": "17"}]}],
}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (Content(text="Hej"), {"type": "text", "text": {"body": "Hej"}}),
        (own(text="own"), {"type": "text", "text": {"body": "own"}}),
        (own(template=TEMPLATE), {"type": "template", "template": TEMPLATE}),
        (
            own(media={"type": "image", "link": "https://x.test/a.png", "caption": "see"}),
            {"type": "image", "image": {"link": "https://x.test/a.png", "caption": "see"}},
        ),
        (
            own(media={"type": "document", "id": "77", "filename": "a.pdf"}),
            {"type": "document", "document": {"id": "77", "filename": "a.pdf"}},
        ),
    ],
)
async def test_texts_templates_and_media_are_written_as_meta_takes_them(content, said):
    async with servers.provider() as meta, carrier_to(meta.url) as carrier:
        meta.answer = OK
        assert await carrier.send(chat(content)) == SendResult(("wamid.1",))
    asked = meta.asked[0]
    assert (asked.method, asked.path) == ("POST", f"/v23.0/{NUMBER}/messages")
    assert asked.headers["authorization"] == f"Bearer {SECRETS['access_token']}"
    to = {"messaging_product": "whatsapp", "recipient_type": "individual", "to": "+16505551234"}
    assert json.loads(asked.body) == {**to, **said}


@pytest.mark.parametrize(
    ("content", "error_class"),
    [
        (Content(subject="x"), "invalid_request"),
        (Content(text=""), "invalid_request"),
        (Content(text="x" * (LONGEST_TEXT + 1)), "message_too_large"),
    ],
)
async def test_what_meta_cannot_take_is_not_sent(content, error_class):
    async with servers.provider() as meta, carrier_to(meta.url) as carrier:
        error = await servers.failure(carrier.send(chat(content)))
        assert (error.error_class, error.ambiguous) == (error_class, False)
        assert not meta.asked


# What Meta answers


@pytest.mark.parametrize("case", load_cases(PAYLOADS / "send_responses.json"), ids=str)
async def test_an_answer_means_what_the_table_says(case: Case):
    response = case.given["response"]
    async with servers.provider() as meta, carrier_to(meta.url) as carrier:
        meta.answer = (response["status"], response["headers"], response["body"].encode())
        try:
            answer: SendResult | SendError = await carrier.send(chat())
        except SendError as error:
            answer = error
            assert not error.ambiguous
        check_answer(case, answer)
        check_keeps_secrets(carrier, [*SECRETS.values(), "9876543", "16505551234", "fbtrace"], answer)


@pytest.mark.parametrize(
    ("status", "body", "error_class", "code"),
    [
        (401, {"error": {"code": 0, "message": "AuthException"}}, "provider_auth", "0"),
        (400, {"error": {"code": "131056"}}, "throttled", "131056"),
        (400, {"error": {"code": 999999}}, "unknown", "999999"),
        (500, {"error": {"code": 1}}, "retryable_transient", "1"),
        (403, {"error": {"code": 200}}, "provider_auth", "200"),
        (400, {"error": {"code": True}}, "invalid_request", None),
        (400, {"error": {}}, "invalid_request", None),
        (400, {"error": "no"}, "invalid_request", None),
        (200, {"error": {"code": 131047}}, "policy_window", "131047"),
    ],
)
async def test_the_code_decides_and_not_the_status(status, body, error_class, code):
    async with servers.provider() as meta, carrier_to(meta.url) as carrier:
        meta.answer = (status, {}, json.dumps(body).encode())
        error = await servers.failure(carrier.send(chat()))
        assert (error.error_class, error.code, error.ambiguous) == (error_class, code, False)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"messages": []}', b'{"messages": [{"id": 5}]}', b'{"messages": [1]}'])
async def test_a_200_without_an_id_is_in_doubt(body):
    async with servers.provider() as meta, carrier_to(meta.url) as carrier:
        meta.answer = (200, {}, body)
        assert (await servers.failure(carrier.send(chat()))).ambiguous


async def test_a_reset_after_the_request_is_in_doubt():
    async with servers.raw_server(servers.reset_after_request) as url, carrier_to(url) as carrier:
        assert (await servers.failure(carrier.send(chat()))).ambiguous


@pytest.mark.parametrize(
    ("answer", "well"),
    [
        ((200, {}, b'{"id": "1"}'), True),
        ((401, {}, b'{"error": {"code": 190}}'), False),
        ((404, {}, b""), False),
    ],
)
async def test_health_asks_for_our_number(answer, well):
    async with servers.provider() as meta, carrier_to(meta.url) as carrier:
        meta.answer = answer
        assert (await carrier.health() is None) == well
        assert (meta.asked[0].method, meta.asked[0].path) == ("GET", f"/v23.0/{NUMBER}?fields=id")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"phone_number_id": None}, "phone_number_id"),
        ({"phone_number_id": "+45 20 12"}, "phone_number_id"),
        ({"access_token": ""}, "access_token"),
        ({"app_secret": ""}, "app_secret"),
        ({"verify_token": ""}, "verify_token"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(settings, named):
    with pytest.raises(SettingsError, match=named) as caught:
        make(**settings)
    assert "canary" not in str(caught.value)


# Whose call it is


@pytest.mark.parametrize("case", SIGNATURES, ids=lambda case: case["id"])
async def test_signature_vectors_of_the_contract(case):
    carrier = make(app_secret=case["secret"])
    given = call(case["body"].encode(), signed=case["signature"])
    if case["valid"]:
        answer = await carrier.on_callback(given)
        assert answer.status == (200 if case["body"].startswith("{") else 400)
    else:
        with pytest.raises(CallbackRefused) as caught:
            await carrier.on_callback(given)
        assert caught.value.status == 401


@pytest.mark.parametrize("signed", ["", "é", "sha256=", "sha256=" + "0" * 64, signature(b"{}").removeprefix("sha256=")])
async def test_a_call_that_is_not_signed_is_refused(signed):
    with pytest.raises(CallbackRefused) as caught:
        await make().on_callback(call(b"{}", signed=signed))
    assert caught.value.status == 401


async def test_without_an_app_secret_every_call_is_refused():
    with pytest.raises(CallbackRefused) as caught:
        await make(app_secret=None).on_callback(call(b"{}"))
    assert caught.value.status == 403


@pytest.mark.parametrize(
    ("settings", "query", "right"),
    [
        ({}, "hub.mode=subscribe&hub.challenge=11&hub.verify_token=verify-canary", True),
        ({}, "hub.mode=subscribe&hub.challenge=11&hub.verify_token=verify-canary2", False),
        ({}, "hub.mode=subscribe&hub.challenge=11&hub.verify_token=%C3%A9", False),
        ({}, "hub.mode=unsubscribe&hub.challenge=11&hub.verify_token=verify-canary", False),
        ({}, "hub.challenge=11&hub.verify_token=verify-canary", False),
        ({}, "hub.mode=subscribe&hub.challenge=11", False),
        ({}, "", False),
        ({"verify_token": None}, "hub.mode=subscribe&hub.challenge=11&hub.verify_token=", False),
        ({"verify_token": None}, "hub.mode=subscribe&hub.challenge=11", False),
    ],
)
async def test_the_challenge_is_given_back_to_who_knows_the_verify_token(settings, query, right):
    carrier = make(**settings)
    if right:
        answer = await carrier.on_callback(call(method="GET", query=query))
        assert (answer.status, answer.body, answer.content_type) == (200, b"11", "text/plain")
    else:
        with pytest.raises(CallbackRefused) as caught:
            await carrier.on_callback(call(method="GET", query=query))
        assert caught.value.status == 403


# What Meta posts


@pytest.mark.parametrize("case", load_cases(PAYLOADS / "status_webhooks.json"), ids=str)
async def test_a_status_means_what_the_table_says(case: Case):
    answer = await receive(case.given["webhook"]["body"].encode())
    assert answer.status == case.expect.get("reply_status", 200)
    expected = case.expect.get("events", [] if case.expect.get("ignored") else [case.expect])
    assert len(answer.receipts) == len(expected)
    for receipt, expect in zip(answer.receipts, expected, strict=True):
        check_receipt(Case(case.id, case.given, expect), [receipt])
        assert receipt.at == datetime(2025, 6, 8, 20, 59, 43, tzinfo=UTC)
    assert not answer.inbound


@pytest.mark.parametrize("case", load_cases(PAYLOADS / "inbound_webhooks.json"), ids=str)
async def test_an_inbound_message_means_what_the_table_says(case: Case):
    webhook, expect = case.given["webhook"], case.expect
    if webhook["method"] == "GET":
        answer = await make(verify_token="s3cret").on_callback(call(method="GET", query=webhook["query"]))
        assert (answer.status, answer.body.decode()) == (expect["reply_status"], expect["reply_body"])
        with pytest.raises(CallbackRefused) as caught:
            await make(verify_token="another").on_callback(call(method="GET", query=webhook["query"]))
        assert caught.value.status == 403
        return
    answer = await receive(webhook["body"].encode())
    (inbound,) = answer.inbound
    assert (inbound.carrier, inbound.channel, inbound.recipient) == ("wa", "whatsapp", "+15550783881")
    assert inbound.sender == "+" + expect.get("from", "16505551234")
    if "text" in expect:
        assert inbound.text == expect["text"]
    if "provider_message_id" in expect:
        assert inbound.carrier_message_id == expect["provider_message_id"]
    if "media_id" in expect:
        assert inbound.media == (f"https://graph.facebook.com/v23.0/{expect['media_id']}",)
    assert (asked_for(inbound) == ("stop", "STOP")) == (expect.get("keyword") == "opt_out")


@pytest.mark.parametrize("name", EXAMPLES["webhooks"])
async def test_metas_own_examples_are_understood(name):
    answer = await receive(EXAMPLES["webhooks"][name])
    texts = {
        "Text Message": "Does it come in another color?",
        "Text Message with Context (Product Inquiry)": "Is this still available?",
        "Text Message from Click to WhatsApp Ad": "Hello! Can I get more info on this?",
        "Image Message": "Taj Mahal",
        "Button Message": "Unsubscribe",
        "Interactive List Reply Message": "Priority Mail Express",
        "Interactive Button Reply Message": "Cancel",
        "Location Message": None,
        "Contact Sharing Message": None,
        "Unsupported Message": None,
        "Order Message": None,
    }
    assert answer.status == 200
    assert not answer.receipts
    if name in texts:
        (inbound,) = answer.inbound
        assert inbound.text == texts[name]
        assert inbound.sender == "+16505551234"
    else:
        assert not answer.inbound  # a reaction, a system note, a group


def status(**changes):
    return {"id": "wamid.1", "status": "sent", "timestamp": "1749416383", "recipient_id": "1", **changes}


def failed(*errors):
    return status(status="failed", errors=list(errors))


def posted(field="messages", object_="whatsapp_business_account", **value):
    value = {"metadata": {"display_phone_number": "+1 555-078-3881"}, **value}
    return {"object": object_, "entry": [{"id": "1", "changes": [{"field": field, "value": value}]}]}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (posted(statuses=[status(status="played")]), [("read", None, None)]),
        (posted(statuses=[status(status="failed")]), [("undelivered", "unknown", None)]),
        (posted(statuses=[failed({"code": 131047})]), [("undelivered", "policy_window", "131047")]),
        (posted(statuses=[failed({"code": 5})]), [("undelivered", "unknown", "5")]),
        (posted(statuses=[failed({"code": 0})]), [("undelivered", "provider_auth", "0")]),
        (posted(statuses=[failed(5, {"code": None})]), [("undelivered", "unknown", None)]),
        (posted(statuses=[status(status="failed", errors="x")]), [("undelivered", "unknown", None)]),
        (posted(statuses=[status(id=5), status(id=""), status(status=5), status(status=None), 5, "x"]), []),
        (posted(statuses=[status()], object_="page"), []),
        (posted(statuses=[status()], field="account_update"), []),
        (posted(statuses={"id": "x"}), []),
        ({"object": "whatsapp_business_account"}, []),
        ({"object": "whatsapp_business_account", "entry": [5, {"changes": [5, {"field": "messages"}]}]}, []),
        ({}, []),
    ],
)
async def test_statuses_beyond_the_table(document, expected):
    receipts = (await receive(document)).receipts
    assert [(r.status, r.error_class, r.error_code) for r in receipts] == expected


@pytest.mark.parametrize("timestamp", [None, True, "x", "", "9" * 30, -(10**18), {}])
async def test_a_time_that_is_none_is_left_out(timestamp):
    assert (await receive(posted(statuses=[status(timestamp=timestamp)]))).receipts[0].at is None


@pytest.mark.parametrize(
    "message",
    [
        5,
        {},
        {"from": "1650"},
        {"type": "text"},
        {"from": 5, "type": "text"},
        {"from": "me", "type": "text"},
        {"from": "1650", "type": "reaction"},
    ],
)
async def test_what_is_no_message_is_left_out(message):
    assert not (await receive(posted(messages=[message]))).inbound


@pytest.mark.parametrize(
    ("message", "text", "media"),
    [
        ({"type": "text"}, None, ()),
        ({"type": "text", "text": {"body": 5}}, None, ()),
        ({"type": "image", "image": {"id": "../me?x"}}, None, ()),
        ({"type": "image", "image": {"id": "５", "caption": "x"}}, "x", ()),
        ({"type": "voice", "voice": {"id": "9"}}, None, ("https://graph.facebook.com/v23.0/9",)),
        ({"type": "interactive", "interactive": {"type": "nfm_reply", "nfm_reply": {}}}, None, ()),
        ({"type": "hologram", "hologram": 5}, None, ()),
    ],
)
async def test_messages_beyond_the_table(message, text, media):
    (inbound,) = (await receive(posted(messages=[{"from": "16505551234", "id": "wamid.1", **message}]))).inbound
    assert (inbound.text, inbound.media, inbound.recipient) == (text, media, "+15550783881")


@pytest.mark.parametrize("body", [b"", b"[]", b"5", b"\xff", b"{" * 100_000])
async def test_a_signed_call_that_is_no_json_object_is_400(body):
    answer = await receive(body)
    assert (answer.status, list(answer.receipts), list(answer.inbound)) == (400, [], [])


# Meta's own description


@needs_prism
@pytest.mark.slow
async def test_prism_finds_nothing_wrong_with_what_we_send_and_its_refusals_are_understood():
    async with prism("whatsapp_cloud_v23_relaxed.json") as it, carrier_to(it.url) as carrier:
        it.watch(carrier)
        for content in (
            Content(text="Hej"),
            own(template=TEMPLATE),
            own(template={"name": "hello_world", "language": {"code": "en_US"}}),
            own(media={"type": "image", "link": "https://x.test/a.png"}),
            own(media={"type": "document", "id": "1", "filename": "a.pdf", "caption": "x"}),
        ):
            assert (await carrier.send(chat(content))).carrier_message_ids[0].startswith("wamid.")
        assert it.violations == []
        classes = {}
        for code in (400, 401, 403, 503):
            it.prefer = f"code={code}"
            classes[code] = (await servers.failure(carrier.send(chat()))).error_class
    assert classes == {
        400: "invalid_request",
        401: "provider_auth",
        403: "throttled",
        503: "retryable_transient",
    }
