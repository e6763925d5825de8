"""Stored cascades: what a message that names one gets, and what it says itself."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.gateway.api import OPERATOR, Api

OTP: dict[str, Any] = {
    "name": "otp",
    "cascade": [{"channel": "email", "timeout_s": 5, "success": "read"}, "sms"],
    "category": "otp",
    "expires_in_s": 300,
    "on_ambiguous": "never",
}
MESSAGE = {
    "to": {"phone": "+4520120001", "email": "delivered@example.com"},
    "content": {"text": "Your code is 123456", "subject": "Code"},
    "policy": "otp",
}


def path(api: Api, name: str = "") -> str:
    return f"/v1/tenants/{api.node.tenant}/policies" + (f"/{name}" if name else "")


async def make(api: Api, **fields: Any) -> Any:
    answer = await api.call("POST", path(api), {**OTP, **fields})
    assert answer.status == 201, answer.raw
    return answer.json


async def shown(api: Api, **fields: Any) -> Any:
    """Send a message and show it."""
    message_id = await api.sent({**MESSAGE, **fields})
    return (await api.call("GET", f"/v1/messages/{message_id}")).json


async def test_a_policys_life(api: Api) -> None:
    made = await api.call("POST", path(api), OTP)
    assert made.status == 201 and made.headers["Location"] == path(api, "otp")
    policy = made.json
    times = {name: policy.pop(name) for name in ("created_at", "updated_at")}
    step = {"channel": "email", "timeout_s": 5.0, "success": "read"}
    assert policy == {**OTP, "cascade": [step, "sms"], "expires_in_s": 300.0}
    assert (await api.call("GET", path(api, "otp"))).json == {**policy, **times}
    assert [p["name"] for p in (await api.call("GET", path(api))).json["data"]] == ["otp"]
    changed = await api.call("PUT", path(api, "otp"), {"cascade": ["sms"]})
    assert changed.status == 200 and changed.json["category"] is None and changed.json["cascade"] == ["sms"]
    assert changed.json["created_at"] == times["created_at"] < changed.json["updated_at"]
    assert (await api.call("DELETE", path(api, "otp"))).status == 204
    for method in ("GET", "PUT", "DELETE"):
        body = {"cascade": ["sms"]} if method == "PUT" else None
        assert (await api.call(method, path(api, "otp"), body)).code == "not_found"


async def test_a_message_gets_what_it_does_not_say_itself(api: Api) -> None:
    await make(api)
    message = await shown(api)
    assert message["category"] == "otp"
    assert message["cascade"][0] == {"channel": "email", "timeout_s": 5.0, "success": "read"}
    assert message["cascade"][1]["channel"] == "sms"
    created, expires = (datetime.fromisoformat(message[name]) for name in ("created_at", "expires_at"))
    assert expires - created == timedelta(seconds=300)
    (stored,) = await api.node.journal.load([message["id"]])
    assert stored.message.on_ambiguous == "never"


async def test_the_requests_own_fields_win(api: Api) -> None:
    await make(api)
    message = await shown(api, cascade=["sms"], category="marketing", expires_in_s=60, on_ambiguous="resend")
    assert [step["channel"] for step in message["cascade"]] == ["sms"] and message["category"] == "marketing"
    short = await shown(api, channel="sms", to="+4520120001")
    assert [step["channel"] for step in short["cascade"]] == ["sms"] and short["category"] == "otp"


async def test_an_accepted_message_keeps_its_cascade(api: Api) -> None:
    await make(api)
    message = await shown(api)
    await api.call("DELETE", path(api, "otp"))
    again = (await api.call("GET", f"/v1/messages/{message['id']}")).json
    assert again["cascade"] == message["cascade"]


async def test_an_unknown_policy_or_another_tenants_is_refused_alike(api: Api) -> None:
    other = (await api.call("POST", "/v1/tenants", {"name": "other"}, key=OPERATOR)).json["id"]
    await api.call("POST", f"/v1/tenants/{other}/policies", {**OTP, "name": "theirs"}, key=OPERATOR)
    for name in ("theirs", "nobodys", ""):
        body = {**MESSAGE, "policy": name, "cascade": ["sms"]}
        answer = await api.send(body)
        assert (answer.status, answer.code, answer.fields) == (422, "schema_invalid", ["policy"])
        verdict = await api.call("POST", "/v1/messages/validate", body)
        assert [r["field"] for r in verdict.json["refusals"]] == ["policy"]
        batch = await api.call("POST", "/v1/messages/batch", {"messages": [body]})
        assert batch.json["results"][0]["problem"]["errors"][0]["field"] == "policy"


async def test_a_step_of_the_policy_without_its_address_is_named(api: Api) -> None:
    await make(api)
    answer = await api.send({**MESSAGE, "to": {"phone": "+4520120001"}})
    assert (answer.status, answer.fields) == (422, ["to.email"])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({**OTP, "name": "OTP"}, "name"),
        ({**OTP, "name": "a/b"}, "name"),
        ({**OTP, "name": ""}, "name"),
        ({"name": "x"}, "cascade"),
        ({**OTP, "cascade": []}, "cascade"),
        ({**OTP, "cascade": ["fax"]}, "cascade[0]"),
        ({**OTP, "cascade": [{"channel": "sms", "timeout_s": 0}]}, "cascade[0].timeout_s"),
        ({**OTP, "category": "x"}, "category"),
        ({**OTP, "expires_in_s": 0}, "expires_in_s"),
        ({**OTP, "to": {}}, "to"),
    ],
)
async def test_a_wrong_field_of_a_policy_is_named(api: Api, body: dict[str, Any], field: str) -> None:
    answer = await api.call("POST", path(api), body)
    assert (answer.status, answer.fields) == (422, [field])


async def test_a_name_is_taken_once_and_cannot_be_changed(api: Api) -> None:
    await make(api)
    assert (await api.call("POST", path(api), OTP)).fields == ["name"]
    assert (await api.call("PUT", path(api, "otp"), {**OTP, "name": "other"})).fields == ["name"]


async def test_explaining_a_route_knows_the_tenants_policies(api: Api) -> None:
    await make(api)
    answer = await api.call("POST", "/v1/routes/explain", {**MESSAGE, "tenant": api.node.tenant}, key=OPERATOR)
    assert {c["channel"] for c in answer.json["candidates"]} == {"email", "sms"}
