"""The do-not-contact lists: a tenant's own, the operator's, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.api import OPERATOR, SMS, Api

PHONE = "+4520123456"


def path(api: Api, tail: str = "") -> str:
    return f"/v1/tenants/{api.node.tenant}/suppressions{tail}"


async def add(api: Api, address: str, channel: str | None = "sms", **more: Any) -> Any:
    answer = await api.call("POST", path(api), {"address": address, "channel": channel, **more})
    assert answer.status == 201, answer.raw
    return answer.json


async def test_an_entrys_life(api: Api) -> None:
    made = await add(api, "+45 2012-3456", reason="asked us")
    assert made["id"].startswith("sup_") and made["created_at"].endswith("Z")
    assert (made["channel"], made["address"], made["reason"]) == ("sms", PHONE, "asked us")
    again = await api.call("POST", path(api), {"address": PHONE, "channel": "sms", "reason": "again"}, key=OPERATOR)
    assert (again.status, again.json) == (200, made)
    listed = await api.call("GET", path(api))
    assert listed.json == {"data": [made], "next_cursor": None}
    refused = await api.send()
    assert (refused.status, refused.code, refused.json["layer"]) == (422, "do_not_contact", "do_not_contact")
    assert refused.fields == ["to.phone"] and PHONE not in refused.json["detail"]
    gone = await api.call("DELETE", path(api, "/" + made["id"]))
    assert (gone.status, gone.raw) == (204, b"")
    assert (await api.call("DELETE", path(api, "/" + made["id"]))).status == 404
    assert (await api.send()).status == 202


async def test_a_code_goes_to_who_opted_out_and_a_batch_says_which_do_not(api: Api) -> None:
    await add(api, PHONE, None)
    assert (await api.send({**SMS, "category": "otp"})).status == 202
    other = {**SMS, "to": "+4520123457"}
    results = (await api.call("POST", "/v1/messages/batch", {"messages": [SMS, other]})).json["results"]
    assert [r["status"] for r in results] == [422, 202]
    assert results[0]["problem"]["code"] == "do_not_contact"


async def test_the_operators_list_holds_for_every_tenant_and_category(api: Api) -> None:
    made = await api.call("POST", "/v1/suppressions", {"address": PHONE}, key=OPERATOR)
    assert made.status == 201 and made.json["channel"] is None
    assert (await api.call("GET", path(api))).json["data"] == []
    assert (await api.call("GET", "/v1/suppressions", key=OPERATOR)).json["data"] == [made.json]
    for category in ("otp", "marketing"):
        assert (await api.send({**SMS, "category": category})).code == "do_not_contact"
    assert (await api.call("GET", "/v1/suppressions")).status == 403
    assert (await api.call("DELETE", path(api, "/" + made.json["id"]))).status == 404
    assert (await api.call("DELETE", "/v1/suppressions/" + made.json["id"], key=OPERATOR)).status == 204


async def test_a_step_that_may_be_sent_lets_the_message_in(api: Api) -> None:
    await add(api, "A@example.com", "email")
    body = {
        "to": {"phone": "+4520120001", "email": "a@Example.com"},
        "cascade": ["email", "sms"],
        "content": {"text": "Hi", "subject": "Hi"},
    }
    stored = await api.node.final(await api.sent(body))
    assert stored.status == "delivered"
    shown = (await api.call("GET", f"/v1/messages/{stored.message.message_id}")).json
    assert [(a["channel"], a["status"]) for a in shown["attempts"]] == [("email", "rejected"), ("sms", "delivered")]
    assert shown["attempts"][0]["error"]["class"] == "blocked_or_opted_out"


async def test_validate_reports_it_beside_the_rest(api: Api) -> None:
    await add(api, PHONE)
    verdict = (await api.call("POST", "/v1/messages/validate", SMS)).json
    assert verdict["accepted"] is False
    assert [(r["layer"], r["code"], r["field"]) for r in verdict["refusals"]] == [
        ("do_not_contact", "do_not_contact", "to.phone")
    ]


async def test_nobody_sees_or_changes_another_tenants_list(api: Api) -> None:
    made = await add(api, PHONE)
    other = (await api.call("POST", "/v1/tenants", {"name": "other"}, key=OPERATOR)).json["id"]
    key = await api.new_key(tenant=other)
    for method, tail, body in (
        ("GET", "", None),
        ("POST", "", {"address": PHONE}),
        ("DELETE", "/" + made["id"], None),
        ("GET", "/export", None),
    ):
        assert (await api.call(method, path(api, tail), body, key=key)).status == 404
    theirs = f"/v1/tenants/{other}/suppressions"
    assert (await api.call("DELETE", f"{theirs}/{made['id']}", key=key)).status == 404
    assert (await api.call("GET", theirs, key=key)).json["data"] == []
    assert (await api.send(key=key)).status == 202
    reader = await api.new_key(scopes=["messages:read"])
    assert (await api.call("GET", path(api), key=reader)).status == 403


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "address"),
        ({"address": ""}, "address"),
        ({"address": "12"}, None),
        ({"address": "12", "channel": "sms"}, "address"),
        ({"address": "a@b", "channel": "push"}, None),
        ({"address": "two words"}, "address"),
        ({"address": "a\0"}, "address"),
        ({"address": PHONE, "channel": "fax"}, "channel"),
        ({"address": PHONE, "reason": "a\nb"}, "reason"),
        ({"address": PHONE, "colour": 1}, "colour"),
    ],
)
async def test_a_wrong_field_is_named(api: Api, body: dict[str, Any], field: str | None) -> None:
    answer = await api.call("POST", path(api), body)
    if field is None:
        assert answer.status == 201
    else:
        assert (answer.status, answer.fields) == (422, [field])


# --- CSV
async def import_csv(api: Api, text: str | bytes, **more: Any) -> Any:
    raw = text.encode() if isinstance(text, str) else text
    return await api.call("POST", path(api, "/import"), raw=raw, Content_Type="text/csv", **more)


async def test_what_was_exported_can_be_imported(api: Api) -> None:
    entries = [await add(api, "a@example.com", None, reason='said "no", twice'), await add(api, PHONE)]
    page = await api.call("GET", path(api, "/export"))
    assert page.headers["Content-Type"] == "text/csv; charset=utf-8" and "Link" not in page.headers
    first = await api.call("GET", path(api, "/export?limit=1"))
    following = first.headers["Link"].removeprefix("<").removesuffix('>; rel="next"')
    second = await api.call("GET", following)
    lines = page.raw.splitlines()
    assert first.raw.splitlines() + second.raw.splitlines()[1:] == lines and len(lines) == 3
    for entry in entries:
        await api.call("DELETE", path(api, "/" + entry["id"]))
    answer = await import_csv(api, page.raw)
    assert answer.json == {"rows": 2, "added": 2, "known": 0, "refused": 0, "errors": []}
    again = await import_csv(api, page.raw)
    assert (again.json["added"], again.json["known"]) == (0, 2)
    listed = (await api.call("GET", path(api))).json["data"]
    assert {(e["channel"], e["address"], e["reason"]) for e in listed} == {
        (e["channel"], e["address"], e["reason"]) for e in entries
    }


async def test_rows_that_are_wrong_are_told_and_the_others_stored(api: Api) -> None:
    rows = ["address,Channel", "+45 20123456,sms", "", "nobody@,", "+4520123457,fax", "a@b.example,,x", "+4520123458"]
    text = "\ufeff" + "\r\n".join(rows) + "\r\n"
    answer = (await import_csv(api, text)).json
    assert (answer["rows"], answer["added"], answer["refused"]) == (5, 2, 3)
    assert [(e["row"], e["field"]) for e in answer["errors"]] == [(4, "address"), (5, "channel"), (6, "row")]
    assert (await api.send()).code == "do_not_contact"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"phone\n+4520123456\n",
        b"channel\nsms\n",
        b"address,address\na,b\n",
        b"address\n\xff\n",
        b'address\n"open',
        b"address\n" + b"+4520123456\n" * 10_001,
    ],
)
async def test_a_file_that_is_none_is_refused_whole(api: Api, raw: bytes) -> None:
    answer = await import_csv(api, raw)
    assert (answer.status, answer.code, answer.fields) == (422, "schema_invalid", ["body"])
    assert (await api.call("GET", path(api))).json["data"] == []


async def test_another_content_type_than_csv_is_refused(api: Api) -> None:
    assert (await api.call("POST", path(api, "/import"), raw=b"{}")).status == 415
