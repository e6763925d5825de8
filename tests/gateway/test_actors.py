"""Orders to actors over HTTP: what they do, what they refuse, and that no message is lost by them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from actors.context import CarrierPlan
from carriers.base import Carrier
from tests.actors.cast import mock
from tests.gateway.api import OPERATOR, Api

Start = Callable[..., Awaitable[Api]]


async def order(api: Api, name: str, what: str, **more: Any) -> Any:
    """Give an order that is carried out; returns how the actor is."""
    answer = await api.call("POST", f"/v1/actors/{name}/{what}", key=OPERATOR, **more)
    assert answer.status == 200, answer.raw
    return answer.json


async def show(api: Api, name: str) -> Any:
    return (await api.call("GET", f"/v1/actors/{name}", key=OPERATOR)).json


async def test_suspended_actor_keeps_its_mail_until_it_is_resumed(api: Api) -> None:
    assert (await order(api, "provider/mock-sms", "suspend"))["state"] == "suspended"
    message_id = await api.sent()
    await api.node.until(lambda: api.node.system.info("provider/mock-sms").mailbox["main"] == 1)
    assert (await show(api, "provider/mock-sms"))["mailbox"] == 1
    assert (await order(api, "provider/mock-sms", "resume"))["state"] in ("sleep", "running")
    assert (await api.node.final(message_id)).status == "delivered"


@pytest.mark.parametrize("written", ["provider/mock-sms", "provider%2Fmock-sms"])
async def test_restart_counts_and_leaves_the_siblings_alone(api: Api, written: str) -> None:
    email = api.node.system.whereis("provider/mock-email")
    before = api.node.system.whereis("provider/mock-sms")
    assert (await order(api, written, "restart"))["restarts"] == 1
    assert api.node.system.whereis("provider/mock-sms") is not before
    assert api.node.system.whereis("provider/mock-email") is email
    assert (await order(api, written, "restart"))["restarts"] == 2


async def test_stopped_actor_is_seen_as_disabled_until_it_is_restarted(api: Api) -> None:
    assert (await order(api, "provider/mock-sms", "stop"))["state"] == "disabled"
    assert (await show(api, "provider/mock-sms"))["state"] == "disabled"
    providers = await show(api, "providers")
    assert {c["name"]: c["state"] for c in providers["children"]}["provider/mock-sms"] == "disabled"
    assert providers["children_total"] == 5
    message_id = await api.sent()
    assert (await order(api, "provider/mock-sms", "restart"))["state"] in ("sleep", "running")
    assert (await api.node.final(message_id)).status == "delivered"


class Broken(Carrier):
    """Cannot be opened while `broken`."""

    broken = False

    def __init__(self) -> None:
        made = mock("broken", "push").carrier
        self.__dict__.update(made.__dict__)
        self.send = made.send  # type: ignore[method-assign]

    async def open(self, sink: Any) -> None:
        if Broken.broken:
            raise OSError("no route to host")


async def test_actor_that_cannot_start_is_shown_in_back_off_with_its_error(start: Start) -> None:
    Broken.broken = False
    api = await start([CarrierPlan(Broken())])
    Broken.broken = True
    seen = await order(api, "provider/broken", "restart")
    assert seen["state"] == "back_off" and "no route to host" in seen["last_error"]
    assert (await show(api, "provider/broken"))["restarts"] >= 1
    Broken.broken = False
    assert (await order(api, "provider/broken", "restart"))["state"] in ("sleep", "running")


async def test_restarted_tenant_loses_no_message(start: Start) -> None:
    api = await start([mock("mock-sms", "sms", latency_ms=300, receipt_delay_ms=20)])
    ids = [await api.sent() for _ in range(20)]
    await api.node.until(lambda: api.node.context.in_flight == 20)
    await order(api, f"tenant/{api.node.tenant}", "restart")
    for message_id in ids:
        assert (await api.node.final(message_id)).status == "delivered"


async def test_restarted_message_is_brought_back_from_the_journal(start: Start) -> None:
    api = await start([mock("mock-sms", "sms", receipt_delay_ms=600)])
    message_id = await api.sent()
    await api.node.until(lambda: ("mock-sms", "submitted") in api.node.context.metrics.attempts.values)
    await order(api, f"cascade/{message_id}", "restart")
    assert (await api.node.final(message_id)).status == "delivered"


@pytest.mark.parametrize(
    "name, what, field",
    [
        ("root", "restart", "holds this very connection"),
        ("root", "stop", "holds this very connection"),
        ("gateway", "restart", "holds this very connection"),
        ("gateway", "stop", "holds this very connection"),
    ],
)
async def test_order_that_would_cut_off_its_answer_is_refused(api: Api, name: str, what: str, field: str) -> None:
    answer = await api.call("POST", f"/v1/actors/{name}/{what}", key=OPERATOR)
    assert (answer.status, answer.code) == (422, "schema_invalid")
    assert field in answer.json["detail"]


async def test_message_is_not_stopped_as_an_actor(start: Start) -> None:
    api = await start([mock("mock-sms", "sms", receipt_delay_ms=5000)])
    message_id = await api.sent()
    answer = await api.call("POST", f"/v1/actors/cascade/{message_id}/stop", key=OPERATOR)
    assert (answer.status, answer.code) == (422, "schema_invalid")
    assert api.node.system.whereis(f"cascade/{message_id}") is not None


async def test_unknown_actor_is_404_for_every_order(api: Api) -> None:
    for what in ("suspend", "resume", "restart", "stop"):
        answer = await api.call("POST", f"/v1/actors/nobody/{what}", key=OPERATOR)
        assert (answer.status, answer.code) == (404, "not_found")


async def test_only_the_operator_gives_orders(api: Api) -> None:
    before = api.node.system.whereis("provider/mock-sms")
    for key, status in ((None, 401), ("live", 403)):
        assert (await api.call("POST", "/v1/actors/provider/mock-sms/restart", key=key)).status == status
    assert api.node.system.whereis("provider/mock-sms") is before


async def test_an_order_takes_no_body_but_an_empty_one(api: Api) -> None:
    assert (await order(api, "router", "suspend", body={}))["state"] == "suspended"
    answer = await api.call("POST", "/v1/actors/router/resume", {"now": True}, key=OPERATOR)
    assert (answer.status, answer.fields) == (422, ["now"])
    await order(api, "router", "resume")


async def test_orders_are_no_part_of_a_name_when_reading(api: Api) -> None:
    assert (await api.call("GET", "/v1/actors/router/restart", key=OPERATOR)).status == 404
    answer = await api.call("POST", "/v1/actors/router", key=OPERATOR)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
