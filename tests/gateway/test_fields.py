"""The limits of a message, field by field: what is refused is named, what is left out has its default."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.gateway.api import OPERATOR, SMS, Api

TO = {"phone": "+4520123456", "email": "a@example.com", "push": "tok-1", "whatsapp": "+4520123456"}
FULL: dict[str, Any] = {
    "to": TO,
    "cascade": [{"channel": "email", "timeout_s": 30, "success": "delivered"}, "sms"],
    "content": {"text": "Hi", "subject": "Hi"},
}


def step(**fields: Any) -> dict[str, Any]:
    return {**FULL, "cascade": [{"channel": "sms", **fields}]}


def full(**fields: Any) -> dict[str, Any]:
    return {**FULL, **fields}


def to(**fields: Any) -> dict[str, Any]:
    return full(to={**TO, **fields})


def without(name: str, body: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in body.items() if k != name}


def whatsapp(**block: Any) -> dict[str, Any]:
    return {"to": TO, "cascade": ["whatsapp"], "content": {"whatsapp": block}}


def nested(levels: int) -> dict[str, Any]:
    return {"a": nested(levels - 1)} if levels else {}


TEMPLATE = {"name": "order_update", "language": "en_US", "components": [{"type": "body"}]}

WRONG: list[tuple[Any, str]] = [
    # steps
    (step(timeout_s=0.09), "cascade[0].timeout_s"),
    (step(timeout_s=0), "cascade[0].timeout_s"),
    (step(timeout_s=-1), "cascade[0].timeout_s"),
    (step(timeout_s=259_200.1), "cascade[0].timeout_s"),
    (step(timeout_s=True), "cascade[0].timeout_s"),
    (step(timeout_s="60"), "cascade[0].timeout_s"),
    (step(success="seen"), "cascade[0].success"),
    (step(wait_s=1), "cascade[0].wait_s"),
    (step(channel="fax"), "cascade[0].channel"),
    (full(cascade=["sms", "fax"]), "cascade[1]"),
    (full(cascade=["sms", 1]), "cascade[1]"),
    (full(cascade=[{}]), "cascade[0].channel"),
    (full(cascade=[]), "cascade"),
    (full(cascade=["sms"] * 9), "cascade"),
    (full(cascade="sms"), "cascade"),
    (full(cascade=None), "cascade"),
    (full(channel="sms"), "channel"),
    # addresses
    (full(to={"email": "a@example.com"}), "to.phone"),
    (full(to={"phone": "+4520123456"}), "to.email"),
    (full(cascade=["push"], to={}), "to.push"),
    (full(cascade=["whatsapp"], to={"phone": "+4520123456"}), "to.whatsapp"),
    (without("to", FULL), "to"),
    (full(to=None), "to"),
    (full(to="+4520123456"), "to"),
    (full(to=["+4520123456"]), "to"),
    (to(fax="1"), "to.fax"),
    (to(phone="20123456"), "to.phone"),
    (to(phone="+0020123456"), "to.phone"),
    (to(phone="+45201"), "to.phone"),
    (to(phone="+4520123456789012"), "to.phone"),
    (to(phone="+45 2012 345x"), "to.phone"),
    (to(phone="+٤٥٢٠١٢٣٤٥٦"), "to.phone"),
    (to(phone=""), "to.phone"),
    (to(phone=4520123456), "to.phone"),
    (to(phone="+4520123456\n"), "to.phone"),
    (to(email="nobody"), "to.email"),
    (to(email="a@"), "to.email"),
    (to(email="@example.com"), "to.email"),
    (to(email="a b@example.com"), "to.email"),
    (to(email="a@exa mple.com"), "to.email"),
    (to(email="a@example.com\r\nBcc: b@example.com"), "to.email"),
    (to(email="a@example.com,b@example.com"), "to.email"),
    (to(email="a..b@example.com"), "to.email"),
    (to(email="a@-example.com"), "to.email"),
    (to(email="a" * 65 + "@example.com"), "to.email"),
    (to(email="a@" + "b" * 300 + ".com"), "to.email"),
    (to(push=""), "to.push"),
    (to(push="a b"), "to.push"),
    (to(push="x" * 4097), "to.push"),
    (to(whatsapp="12"), "to.whatsapp"),
    ({**SMS, "to": "12"}, "to"),
    ({**SMS, "to": {"email": "a@example.com"}}, "to.phone"),
    ({"channel": "email", "to": "+4520123456", "content": {"text": "x"}}, "to"),
    # content
    (without("content", FULL), "content"),
    (full(content={}), "content.text"),
    (full(content={"text": ""}), "content.text"),
    (full(content="Hi"), "content"),
    (full(content={"text": 1}), "content.text"),
    (full(content={"text": "Hi", "body": "x"}), "content.body"),
    (full(content={"text": "Hi", "sms": {"txt": "x"}}), "content.sms.txt"),
    (full(content={"text": "Hi", "data": []}), "content.data"),
    (full(content={"text": "x" * 153 * 256, "subject": "x"}), "content.text"),
    (full(content={"text": "Hi", "subject": "a\r\nBcc: b"}), "content.subject"),
    (full(content={"text": "a\0b"}), "content.text"),
    (full(content={"text": "Hi", "data": {"a\0": 1}}), "content.data.a\0"),
    (whatsapp(), "content.text"),
    (whatsapp(template={"name": "a"}), "content.whatsapp.template.language"),
    (whatsapp(template={"name": "a", "language": {"code": 5}}), "content.whatsapp.template.language.code"),
    (whatsapp(template={"name": "", "language": "en"}), "content.whatsapp.template.name"),
    (whatsapp(template={**TEMPLATE, "namespace": "x"}), "content.whatsapp.template.namespace"),
    (whatsapp(template={**TEMPLATE, "components": [nested(33)]}), "content.whatsapp.template.components"),
    (whatsapp(template=TEMPLATE, text="x"), "content.whatsapp.template"),
    (whatsapp(template=TEMPLATE, media={"type": "image", "id": "1"}), "content.whatsapp.media"),
    (whatsapp(media={"type": "image"}), "content.whatsapp.media"),
    (whatsapp(media={"type": "image", "id": "1", "link": "https://x.test/"}), "content.whatsapp.media"),
    (whatsapp(media={"type": "image", "link": "file:///etc/passwd"}), "content.whatsapp.media.link"),
    (whatsapp(media={"type": "hologram", "id": "1"}), "content.whatsapp.media.type"),
    (whatsapp(media={"type": "audio", "id": "1", "caption": "x"}), "content.whatsapp.media.caption"),
    (whatsapp(media={"type": "image", "id": "1", "filename": "x"}), "content.whatsapp.media.filename"),
    # the rest
    (full(expires_in_s=0.9), "expires_in_s"),
    (full(expires_in_s=604_800.5), "expires_in_s"),
    (full(expires_in_s=True), "expires_in_s"),
    (full(category="news"), "category"),
    (full(on_ambiguous="guess"), "on_ambiguous"),
    (full(reference=""), "reference"),
    (full(reference="x" * 129), "reference"),
    (full(reference=17), "reference"),
    (full(reference="a\nb"), "reference"),
    (full(metadata={str(n): "x" for n in range(21)}), "metadata"),
    (full(metadata={"k": "x" * 501}), "metadata.k"),
    (full(metadata={"k": 1}), "metadata.k"),
    (full(metadata={"k": None}), "metadata.k"),
    (full(metadata=[]), "metadata"),
    (full(metadata={"k": "\0"}), "metadata.k"),
    (full(send_at="2030-01-01T00:00:00"), "send_at"),
    (full(send_at="tomorrow"), "send_at"),
    (full(send_at=1_900_000_000), "send_at"),
    (full(send_at="2999-01-01T00:00:00Z"), "send_at"),
    (full(callback_url="ftp://example.com/"), "callback_url"),
    (full(callback_url="https://"), "callback_url"),
    (full(callback_url="nothing"), "callback_url"),
    (full(callback_url="https://a:b@example.com/"), "callback_url"),
    (full(callback_url="https://example.com/" + "x" * 2048), "callback_url"),
    ({**FULL, "from": {"sms": ""}}, "from.sms"),
    ({**FULL, "from": {"fax": "x"}}, "from.fax"),
    ({**FULL, "from": {"email": "a@b.c\r\nBcc: x"}}, "from.email"),
    ({**FULL, "from": "Hermes"}, "from"),
    (full(colour="red"), "colour"),
    (full(tenant="ten_x"), "tenant"),
    (full(policy="otp"), "policy"),
    ([], "body"),
    ("text", "body"),
    (None, "body"),
    (1, "body"),
]


@pytest.mark.parametrize(("body", "field"), WRONG, ids=[f"{n}-{field[:30]!a}" for n, (_, field) in enumerate(WRONG)])
async def test_a_wrong_field_is_named_by_send_validate_and_batch(api: Api, body: Any, field: str) -> None:
    raw = json.dumps(body).encode()
    answer = await api.call("POST", "/v1/messages", raw=raw)
    assert (answer.status, answer.code, answer.json["layer"]) == (422, "schema_invalid", "schema"), answer.raw
    assert answer.fields == [field], answer.raw
    verdict = await api.call("POST", "/v1/messages/validate", raw=raw)
    assert (verdict.status, verdict.json["accepted"]) == (200, False)
    assert [(r["layer"], r["code"], r["field"]) for r in verdict.json["refusals"]] == [
        ("schema", "schema_invalid", field)
    ]
    batch = await api.call("POST", "/v1/messages/batch", raw=b'{"messages":[' + raw + b"]}")
    assert batch.status == 200, batch.raw
    (result,) = batch.json["results"]
    assert (result["status"], [e["field"] for e in result["problem"]["errors"]]) == (422, [field])
    assert (await api.call("GET", "/v1/messages")).json["data"] == []


async def test_all_wrong_fields_are_named_at_once(api: Api) -> None:
    answer = await api.send(
        {"to": {"phone": 1}, "cascade": [{"channel": "sms", "timeout_s": 0}], "content": {}, "x": 1}
    )
    assert sorted(answer.fields) == ["cascade[0].timeout_s", "to.phone", "x"]
    answer = await api.send({"to": {"phone": "1"}, "cascade": ["sms", "email"], "content": {}, "reference": "\t"})
    assert sorted(answer.fields) == ["content.text", "reference", "to.email", "to.phone"]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"channel":"sms","to":"+4520123456","content":{"text":"Hi"},"expires_in_s":NaN}',
        b'{"channel":"sms","to":"+4520123456","content":{"text":"Hi"},"expires_in_s":Infinity}',
        b'{"channel":"sms","to":"+4520123456","content":{"text":"\\ud800"}}',
        b'{"channel":"sms","to":"+4520123456","content":{"text":"\\udc00x"}}',
        b'{"channel":"sms","to":"+4520123456","content":{"text":"\xed\xa0\x80"}}',
        b'{"channel":"sms","to":"+4520123456","content":{"text":"a\nb"}}',
        b'{"channel":"sms","to":"+4520123456","content":{"text":"Hi"}}{}',
        b'\xef\xbb\xbf{"channel":"sms","to":"+4520123456","content":{"text":"Hi"}} x',
    ],
)
async def test_what_json_does_not_have_is_malformed(api: Api, raw: bytes) -> None:
    answer = await api.call("POST", "/v1/messages", raw=raw)
    assert (answer.status, answer.code) == (400, "malformed_json"), answer.raw


async def test_numbers_out_of_range_are_refused_by_name(api: Api) -> None:
    for number in ("1e400", "1e308", "-1e308", "1" + "0" * 400):
        raw = b'{"channel":"sms","to":"+4520123456","content":{"text":"Hi"},"expires_in_s":' + number.encode() + b"}"
        answer = await api.call("POST", "/v1/messages", raw=raw)
        assert answer.status in (400, 422), answer.raw
        if answer.status == 422:
            assert answer.fields == ["expires_in_s"]


@pytest.mark.parametrize(
    "body",
    [
        step(timeout_s=0.1), step(timeout_s=259_200), step(timeout_s=None, success=None), full(expires_in_s=1),
        full(expires_in_s=604_800), full(cascade=["sms"] * 8), full(reference="x" * 128), full(reference="Größe 😀"),
        full(metadata={str(n): "x" * 500 for n in range(20)}), full(metadata={"k": ""}), full(send_at=None),
        full(send_at="2020-01-01T00:00:00+02:00"), to(email="jürgen@exämple.de"), to(phone="+45 20-12.34 (56)"),
        to(email="a+b@sub.example.co.uk"), full(content={"text": "Hi", "data": {"a": {"b": [1, None, "x"]}}}),
        full(content={"email": {"html": "<p>x</p>"}, "sms": {"text": "x"}}), full(category=None, on_ambiguous=None),
        full(**{"from": {"sms": "Hermes", "email": "no-reply@example.com"}}),
        {"channel": "push", "to": "tok-1", "content": {"title": "Hi"}},
        {"channel": "whatsapp", "to": "+4520123456", "content": {"text": "Hi"}},
        whatsapp(template=TEMPLATE), whatsapp(template={**TEMPLATE, "components": None}, text=None, media=None),
        whatsapp(template={"name": "a", "language": {"code": "en_US"}}),
        whatsapp(media={"type": "document", "id": "1", "caption": "x", "filename": "x.pdf"}),
        full(content={"text": "Hi", "whatsapp": {"template": TEMPLATE}}),
        {**SMS, "to": {"phone": "+4520123456"}},
    ],
)  # fmt: skip
async def test_the_limits_themselves_are_fine(api: Api, body: Any) -> None:
    assert (await api.send(body)).status == 202
    verdict = await api.call("POST", "/v1/messages/validate", body)
    assert verdict.json["accepted"] is True and verdict.json["refusals"] == []


UNPRINTABLE_TO_PYTHON = (
    "a\u00a0b",
    "1\u202f000",
    "👨\u200d👩\u200d👧",
    "می\u200cخواهم",
    "a\u00adb",
    "\ufdd0\U000e0000",
)


@pytest.mark.parametrize("text", UNPRINTABLE_TO_PYTHON)
async def test_spaces_and_joiners_of_living_languages_are_no_control_characters(api: Api, text: str) -> None:
    body = {
        "channel": "email", "to": "anna@example.com", "content": {"text": "Hi", "subject": text}, "reference": text,
        "from": {"email": f"{text} <no-reply@example.com>"},
    }  # fmt: skip
    message_id = await api.sent(body)
    for query in ({"reference": text}, {"reference_prefix": text}):
        page = await api.call("GET", "/v1/messages?" + urlencode(query))
        assert [message["id"] for message in page.json["data"]] == [message_id]
    tenant = f"/v1/tenants/{api.node.tenant}"
    assert (await api.call("PUT", tenant, {"name": text}, key=OPERATOR)).json["name"] == text
    entry = {"address": "+4520123456", "reason": text}
    assert (await api.call("POST", f"{tenant}/suppressions", entry)).json["reason"] == text


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\tb", "\x1b[0m", "\x7f", "\x85", "\u2028", "\u2029"])
async def test_control_characters_and_ends_of_lines_are_refused_where_a_line_is_meant(api: Api, text: str) -> None:
    body = {
        "channel": "email", "to": "anna@example.com", "content": {"text": "Hi", "subject": text}, "reference": text,
        "from": {"email": text},
    }  # fmt: skip
    answer = await api.send(body)
    assert (answer.status, sorted(answer.fields)) == (422, ["content.subject", "from.email", "reference"])


async def test_what_is_left_out_has_its_default(api: Api) -> None:
    body = {"to": TO, "cascade": ["email", "sms", "push", "whatsapp"], "content": {"text": "Hi", "subject": "Hi"}}
    answer = await api.send(body)
    assert answer.json["cascade"] == [
        {"channel": channel, "timeout_s": timeout_s, "success": "delivered"}
        for channel, timeout_s in (("email", 300), ("sms", 60), ("push", 60), ("whatsapp", 60))
    ]
    message = (await api.call("GET", answer.json["links"]["self"])).json
    assert (message["category"], message["reference"], message["metadata"]) == ("transactional", None, {})
    assert moment(message["expires_at"]) - moment(message["created_at"]) == timedelta(seconds=259_200)
    assert message["expires_at"] == answer.json["expires_at"]


async def test_expiry_counts_from_send_at(api: Api) -> None:
    at = api.node.context.clock.now() + timedelta(days=30)
    for expires_in_s in (None, 600):
        answer = await api.send({**SMS, "send_at": at.isoformat(), "expires_in_s": expires_in_s})
        assert answer.json["status"] == "scheduled"
        assert moment(answer.json["expires_at"]) - at == timedelta(seconds=expires_in_s or 259_200)
        assert (await api.call("GET", answer.json["links"]["self"])).json["status"] == "scheduled"


def moment(text: str) -> datetime:
    assert len(text) == len("2026-01-01T00:00:00.000000Z") and text.endswith("Z"), text
    return datetime.fromisoformat(text)


QUERIES = [
    ("/v1/messages", "colour=red", "colour"),
    ("/v1/messages", "limit=0", "limit"),
    ("/v1/messages", "limit=1001", "limit"),
    ("/v1/messages", "limit=many", "limit"),
    ("/v1/messages", "limit=1&limit=2", "limit"),
    ("/v1/messages", "status=lost", "status[0]"),
    ("/v1/messages", "channel=fax", "channel"),
    ("/v1/messages", "cursor=x", "cursor"),
    ("/v1/messages", "cursor=cur_x", "cursor"),
    ("/v1/messages", "cursor=", "cursor"),
    ("/v1/messages", "fields=some", "fields"),
    ("/v1/messages", "created_after=yesterday", "created_after"),
    ("/v1/messages", "created_before=2026-01-01T00:00:00", "created_before"),
    ("/v1/messages", "created_after=1767225600", "created_after"),
    ("/v1/messages", "created_after=null", "created_after"),
    ("/v1/messages", "reference=%00", "reference"),
    ("/v1/messages", "reference=", "reference"),
    ("/v1/messages", "reference_prefix=" + "x" * 129, "reference_prefix"),
    ("/v1/messages/counts", "status=open", "status"),
    ("/v1/messages/counts", "created_after=x", "created_after"),
]


@pytest.mark.parametrize(("path", "query", "field"), QUERIES)
async def test_a_wrong_query_parameter_is_named(api: Api, path: str, query: str, field: str) -> None:
    answer = await api.call("GET", f"{path}?{query}")
    assert (answer.status, answer.code) == (422, "schema_invalid"), answer.raw
    assert answer.fields == [field]


async def test_unknown_query_parameters_are_refused_everywhere(api: Api) -> None:
    message, own = await api.sent(), f"/v1/tenants/{api.node.tenant}"
    for method, path, body in (
        ("GET", f"/v1/messages/{message}", None), ("POST", "/v1/messages", SMS), ("POST", "/v1/messages/validate", SMS),
        ("POST", "/v1/messages/batch", {"messages": [SMS]}), ("POST", "/v1/messages/lookup", {"ids": []}),
        ("POST", f"/v1/messages/{message}/cancel", None), ("GET", "/v1/tenants", None), ("GET", own, None),
        ("POST", "/v1/tenants", {"name": "x"}), ("PUT", own, {"name": "x"}), ("POST", own + "/keys", {"mode": "live"}),
        ("GET", own + "/keys", None), ("GET", own + "/secret", None), ("POST", own + "/secret", None),
        ("GET", own + "/webhooks", None), ("POST", own + "/webhooks", {"url": "https://example.com/"}),
        ("GET", own + "/dead-letters", None), ("GET", "/v1/actors", None), ("GET", "/v1/workers", None),
        ("GET", "/v1/carriers", None), ("GET", "/v1/routes", None), ("POST", "/v1/carriers/mock-sms/resume", None),
        ("DELETE", own, None),
    ):  # fmt: skip
        key = "live" if path.startswith("/v1/messages") else OPERATOR
        answer = await api.call(method, path + "?dry_run=1", body, key=key)
        assert (answer.status, answer.code) == (422, "schema_invalid"), (method, path, answer.raw)
        assert answer.fields == ["dry_run"]
    assert len((await api.call("GET", "/v1/messages")).json["data"]) == 1
