"""From sign-up over the sandbox to production, by API alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hermes.settings import SignupSettings
from tests.gateway.api import OPERATOR, SMS, Api

BODY = {"name": "Acme", "email": "anna@example.com"}
Start = Callable[..., Awaitable[Api]]


async def sign_up(api: Api) -> Any:
    answer = await api.call("POST", "/v1/signup", BODY, key=None)
    assert answer.status == 201, answer.raw
    return answer.json


async def promote(api: Api, tenant: str, key: str) -> tuple[int, Any]:
    answer = await api.call("POST", f"/v1/tenants/{tenant}/promote", key=key)
    return answer.status, answer.json


async def test_nobody_can_sign_up_unless_it_is_switched_on(api: Api) -> None:
    answer = await api.call("POST", "/v1/signup", BODY, key=None)
    assert (answer.status, answer.code) == (404, "not_found")
    assert len(api.node.context.directory.tenants()) == 1


async def test_a_customer_goes_from_sign_up_to_production_with_the_operators_word(start: Start) -> None:
    api = await start(signup=SignupSettings(mode="approval"))
    made = await sign_up(api)
    path, key = f"/v1/tenants/{made['id']}", made["key"]["key"]
    assert made["stage"] == "pending" and made["key"]["mode"] == "test"
    refused = await api.send(key=key)
    assert (refused.status, refused.code) == (403, "tenant_suspended")
    assert (await promote(api, made["id"], key))[0] == 403

    let_in = await api.call("PUT", path, {"stage": "sandbox"}, key=OPERATOR)
    assert (let_in.json["stage"], let_in.json["status"], let_in.json["email"]) == ("sandbox", "active", BODY["email"])
    await api.node.final(await api.sent({**SMS, "to": "+4520120001"}, key=key))  # in the sandbox
    live = await api.call("POST", path + "/keys", {"mode": "live"}, key=OPERATOR)
    assert (live.status, live.fields) == (422, ["mode"])

    status, asked = await promote(api, made["id"], key)
    assert (status, asked["stage"], asked["key"]) == (202, "requested", None)
    assert (await promote(api, made["id"], key))[0] == 202  # asking twice changes nothing
    status, granted = await promote(api, made["id"], OPERATOR)
    assert (status, granted["stage"], granted["key"]) == (200, "promoted", None)
    status, collected = await promote(api, made["id"], key)
    assert (status, collected["stage"], collected["key"]["mode"]) == (201, "production", "live")
    await api.sent(key=collected["key"]["key"])
    assert await promote(api, made["id"], key) == (200, {"id": made["id"], "stage": "production", "key": None})

    log = (await api.call("GET", path + "/audit", key=OPERATOR)).json["data"]
    assert [(c["action"], c["actor"]) for c in log][::-1] == [
        ("tenant.created", "signup"),
        ("key.created", "signup"),
        ("tenant.updated", "operator"),
        ("tenant.updated", made["key"]["id"]),
        ("tenant.updated", "operator"),
        ("key.created", made["key"]["id"]),
        ("tenant.updated", made["key"]["id"]),
    ]


async def test_where_all_is_open_nobody_is_asked(start: Start) -> None:
    api = await start(signup=SignupSettings(mode="open", promotion="open"))
    made = await sign_up(api)
    assert made["stage"] == "sandbox"
    await api.sent(key=made["key"]["key"])
    status, promoted = await promote(api, made["id"], made["key"]["key"])
    assert (status, promoted["stage"]) == (201, "production")
    await api.sent(key=promoted["key"]["key"])


async def test_a_test_key_of_a_tenant_the_operator_made_collects_no_live_key(api: Api) -> None:
    assert await promote(api, api.node.tenant, "test") == (
        200,
        {"id": api.node.tenant, "stage": "production", "key": None},
    )
    answer = await api.call("GET", f"/v1/tenants/{api.node.tenant}/keys", key=OPERATOR)
    assert len(answer.json["data"]) == 2


async def test_sign_ups_are_limited_by_the_hour(start: Start) -> None:
    api = await start(signup=SignupSettings(mode="open", per_hour=2))
    await sign_up(api)
    assert (await api.call("POST", "/v1/signup", {**BODY, "email": "x"}, key=None)).status == 422  # counts for nothing
    await sign_up(api)
    refused = await api.call("POST", "/v1/signup", BODY, key=None)
    assert (refused.status, refused.code) == (503, "overloaded") and int(refused.headers["Retry-After"]) > 3500


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"email": "a@example.com"}, "name"),
        ({"name": "Acme"}, "email"),
        ({**BODY, "email": "nobody"}, "email"),
        ({**BODY, "name": " "}, "name"),
        ({**BODY, "stage": "production"}, "stage"),
    ],
)
async def test_a_wrong_field_of_a_sign_up_is_named(start: Start, body: dict[str, Any], field: str) -> None:
    api = await start(signup=SignupSettings(mode="open"))
    answer = await api.call("POST", "/v1/signup", body, key=None)
    assert (answer.status, answer.fields) == (422, [field])
