"""POST, PUT and DELETE /v1/carriers over a real server and the real cast."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.actors.cast import mock
from tests.gateway.api import OPERATOR, Answer, Api
from tests.gateway.test_carriers import FIELDS

NEW = {"name": "new", "kind": "mock", "channel": "sms", "receipt_delay_ms": 20, "secret": "canary-secret"}


@pytest.fixture
async def api(start: Callable[..., Awaitable[Api]]) -> Api:
    return await start([mock("mail", "email")])


async def ask(api: Api, method: str, path: str = "", body: Any = None, **more: Any) -> Answer:
    return await api.call(method, "/v1/carriers" + path, body, key=more.pop("key", OPERATOR), **more)


async def test_a_carrier_is_added_changed_and_removed_and_its_secret_never_shown(api: Api) -> None:
    added = await ask(api, "POST", "", NEW)
    assert added.status == 201 and added.headers["Location"] == "/v1/carriers/new"
    assert set(added.json) == FIELDS
    assert (added.json["name"], added.json["kind"], added.json["channel"]) == ("new", "mock", "sms")
    assert added.json["state"] == "up"
    message = await api.sent()
    assert (await api.node.final(message)).status == "delivered"
    changed = await ask(api, "PUT", "/new", {"cost": 0.5, "tenant": api.node.tenant})
    assert (changed.status, changed.json["tenant"]) == (200, api.node.tenant)
    listed = await ask(api, "GET")
    assert [c["name"] for c in listed.json["data"]] == ["mail", "new"]
    tree = await api.call("GET", "/v1/actors", key=OPERATOR)
    for answer in (added, changed, listed, tree):
        assert b"canary" not in answer.raw
    assert (await ask(api, "DELETE", "/new")).status == 204
    assert (await ask(api, "GET", "/new")).status == 404
    assert (await api.send()).code == "no_route"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({**NEW, "succes_rate": 1}, "succes_rate"),
        ({**NEW, "success_rate": "all"}, "success_rate"),
        ({**NEW, "name": "mail"}, "name"),
        ({**NEW, "name": None}, "name"),
        ({**NEW, "kind": 1}, "kind"),
        ({**NEW, "secret": "a\0b"}, "secret"),
        ({**NEW, "secret": "env:HERMES_OPERATOR_KEY"}, "secret"),
        ({"name": "m", "kind": "smtp", "channel": "email", "host": "h", "ca_file": "/nowhere"}, "ca_file"),
        ([], "body"),
    ],
)
async def test_a_wrong_setting_is_422_and_names_the_key(api: Api, body: Any, field: str) -> None:
    answer = await ask(api, "POST", "", body)
    assert (answer.status, answer.code, answer.fields) == (422, "schema_invalid", [field])
    assert b"canary" not in answer.raw


async def test_carriers_of_the_settings_file_are_read_only_here(api: Api) -> None:
    for method, body in (("PUT", {"cost": 1}), ("DELETE", None)):
        answer = await ask(api, method, "/mail", body)
        assert (answer.status, answer.fields) == (422, ["name"])
        assert "settings file" in answer.json["detail"]


@pytest.mark.parametrize("field", ["name", "kind", "channel"])
async def test_what_a_carrier_is_does_not_change(api: Api, field: str) -> None:
    await ask(api, "POST", "", NEW)
    answer = await ask(api, "PUT", "/new", {field: "email"})
    assert (answer.status, answer.fields) == (422, [field])
    assert (await ask(api, "PUT", "/new", {field: NEW[field]})).status == 200


async def test_an_unknown_carrier_and_a_tenants_key_get_nothing(api: Api) -> None:
    for method, body in (("PUT", {"cost": 1}), ("DELETE", None)):
        assert (await ask(api, method, "/nobody", body)).status == 404
        assert (await ask(api, method, "/sandbox", body)).status == 404
    assert (await ask(api, "POST", "", NEW, key="live")).status == 403
    assert (await ask(api, "POST", "", raw=b"{")).code == "malformed_json"


async def test_without_the_database_it_is_503_and_nothing_changed(api: Api) -> None:
    api.node.journal.set_available(False)  # type: ignore[attr-defined]
    assert (await ask(api, "POST", "", NEW)).code == "journal_away"
    assert [c["name"] for c in (await ask(api, "GET")).json["data"]] == ["mail"]
    api.node.journal.set_available(True)  # type: ignore[attr-defined]


async def test_receipts_signed_under_a_live_carriers_secret_are_taken_even_after_it_was_removed(api: Api) -> None:
    await ask(api, "POST", "", NEW)
    await ask(api, "DELETE", "/new")
    assert api.node.fleet.secret("new") == "canary-secret"


async def test_a_carrier_that_is_off_takes_no_orders(api: Api) -> None:
    await ask(api, "POST", "", {**NEW, "enabled": False})
    shown = (await ask(api, "GET", "/new")).json
    assert (shown["state"], shown["reason"]) == ("down", "enabled = false")
    assert (await ask(api, "POST", "/new/pause")).status == 422


ROUTE = {"channel": "sms", "carriers": ["new", "cheap"], "match": {"mcc": 238}, "strategy": "least_cost"}
RATES = "mcc,price\n238,0.01\n,0.2\n"


async def explained(api: Api, to: str = "+4520123456") -> list[tuple[Any, ...]]:
    body = {"tenant": api.node.tenant, "channel": "sms", "to": to, "content": {"text": "Hi"}}
    answer = await api.call("POST", "/v1/routes/explain", body, key=OPERATOR)
    assert answer.status == 200, answer.raw
    return [(c["carrier"], c["eligible"], c["price"], c["reason"]) for c in answer.json["candidates"]]


async def test_routes_set_live_decide_at_once_and_explain_shows_prices(api: Api) -> None:
    await ask(api, "POST", "", {**NEW, "cost": 0.05})
    await ask(api, "POST", "", {**NEW, "name": "cheap", "cost": 0.5, "rates": RATES})
    put = await api.call("PUT", "/v1/routes", {"data": [ROUTE]}, key=OPERATOR)
    assert put.status == 200, put.raw
    shown = await api.call("GET", "/v1/routes", key=OPERATOR)
    assert shown.raw == put.raw and shown.json["data"][0]["strategy"] == "least_cost"
    assert (await explained(api))[:2] == [
        ("cheap", True, 0.01, "route 1, least_cost"),
        ("new", True, 0.05, "route 1, least_cost"),
    ]
    assert [c[0] for c in await explained(api, "+46701234567")][:2] == ["new", "cheap"]
    verdict = await api.call("POST", "/v1/messages/validate", {"channel": "sms", "to": "+4520123456", **TEXT})
    assert (verdict.json["route"], verdict.json["price"]) == (["cheap", "new"], 0.01)
    message = await api.node.final(await api.sent())
    assert message.events[0].data["next"]["why"] == {"route": 1, "strategy": "least_cost"}
    assert message.events[1].data["cost"] == 0.01
    assert (await api.call("PUT", "/v1/routes", shown.json, key=OPERATOR)).raw == put.raw
    assert (await api.call("PUT", "/v1/routes", [], key=OPERATOR)).json["data"] == []
    assert [c[0] for c in await explained(api)][:2] == ["new", "cheap"]


TEXT = {"content": {"text": "Hi"}}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"data": [{**ROUTE, "carriers": ["nobody"]}]}, "data[0].carriers"),
        ({"data": [{**ROUTE, "carriers": ["mail"]}]}, "data[0].carriers"),
        ([ROUTE, {**ROUTE, "match": {"mcc": "45"}}], "data[1].match.mcc"),
        ([{**ROUTE, "strategy": "best"}], "data[0].strategy"),
        ([{**ROUTE, "match": {"zip": "1"}}], "data[0].match"),
        ([1], "data[0]"),
        ({"routes": []}, "data"),
        ("x", "data"),
    ],
)
async def test_a_wrong_route_is_422_names_the_key_and_changes_nothing(api: Api, body: Any, field: str) -> None:
    for name in ("new", "cheap"):
        await ask(api, "POST", "", {**NEW, "name": name})
    answer = await api.call("PUT", "/v1/routes", body, key=OPERATOR)
    assert (answer.status, answer.code, answer.fields) == (422, "schema_invalid", [field])
    assert (await api.call("GET", "/v1/routes", key=OPERATOR)).json["data"] == []


async def test_a_wrong_deck_is_422_with_line_and_column(api: Api) -> None:
    answer = await ask(api, "POST", "", {**NEW, "rates": "mcc,price\n23,1"})
    assert (answer.status, answer.fields) == (422, ["rates"])
    assert "line 2: mcc" in answer.json["detail"]
