"""/v1/carriers and /v1/routes over a real server and the real cast."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from actors.routing import SANDBOX
from tests.actors.test_cast import Scripted, plan
from tests.gateway.api import OPERATOR, Api


@pytest.fixture
async def api(start: Callable[..., Awaitable[Api]]) -> Api:
    return await start([plan(Scripted("first")), plan(Scripted("second")), plan(Scripted("mail", "email"))])


async def ask(api: Api, method: str, path: str, body: Any = None, key: str = OPERATOR) -> tuple[int, Any]:
    answer = await api.call(method, path, body, key=key)
    return answer.status, answer.json


FIELDS = {
    "name", "kind", "channel", "tenant", "state", "since", "reason", "breaker", "queue", "queue_age_s", "in_flight",
    "sent", "failed", "rate_per_s", "binds",
}  # fmt: skip


async def test_carriers_are_listed_in_order_with_every_field_and_without_the_sandbox(api: Api) -> None:
    status, page = await ask(api, "GET", "/v1/carriers")
    assert status == 200
    assert [c["name"] for c in page["data"]] == ["first", "second", "mail"]
    assert all(set(c) == FIELDS for c in page["data"])
    assert page["data"][0]["state"] == "up" and page["data"][0]["binds"] == []


async def test_pause_and_resume_change_the_state_and_say_why(api: Api) -> None:
    status, carrier = await ask(api, "POST", "/v1/carriers/first/pause")
    assert (status, carrier["state"], carrier["reason"]) == (200, "paused", "paused by an operator")
    assert (await ask(api, "GET", "/v1/carriers/first"))[1]["state"] == "paused"
    assert (await ask(api, "POST", "/v1/carriers/first/drain"))[1]["state"] == "draining"
    assert (await ask(api, "POST", "/v1/carriers/first/resume"))[1]["state"] == "up"


@pytest.mark.parametrize("name", ["nobody", SANDBOX])
async def test_an_unknown_carrier_is_not_found(api: Api, name: str) -> None:
    for method, path in (("GET", ""), ("POST", "/pause")):
        status, problem = await ask(api, method, f"/v1/carriers/{name}{path}")
        assert (status, problem["code"]) == (404, "not_found")


async def test_a_tenants_key_may_not_operate_carriers(api: Api) -> None:
    _, key = await api.node.context.directory.create_key(api.node.tenant, "live")
    status, problem = await ask(api, "POST", "/v1/carriers/first/pause", key=key)
    assert (status, problem["code"]) == (403, "scope_missing")


async def test_explain_lists_every_candidate_with_its_reason(api: Api) -> None:
    await ask(api, "POST", "/v1/carriers/first/pause")
    body = {"tenant": api.node.tenant, "channel": "sms", "to": "+4520123456", "content": {"text": "Hi"}}
    status, answer = await ask(api, "POST", "/v1/routes/explain", body)
    assert status == 200
    assert [(c["carrier"], c["eligible"]) for c in answer["candidates"]] == [
        ("second", True),
        ("first", False),
        ("mail", False),
    ]
    assert answer["candidates"][1]["reason"] == "paused: paused by an operator"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"tenant": "ten_nobody", "channel": "sms", "to": "+4520123456", "content": {"text": "Hi"}}, "tenant"),
        ({"channel": "sms", "to": "+4520123456", "content": {"text": "Hi"}}, "tenant"),
        ({"tenant": "", "channel": "sms", "to": "12", "content": {"text": "Hi"}}, "tenant"),
    ],
)
async def test_explain_names_the_wrong_field(api: Api, body: dict[str, Any], field: str) -> None:
    status, problem = await ask(api, "POST", "/v1/routes/explain", body)
    assert (status, problem["code"]) == (422, "schema_invalid")
    assert problem["errors"][0]["field"] == field


async def test_routes_are_listed(api: Api) -> None:
    assert await ask(api, "GET", "/v1/routes") == (200, {"data": [], "next_cursor": None})
