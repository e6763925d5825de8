"""One page of what goes on, the log as an operator reads it from afar, and log levels that change while it runs."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Any

import pytest

from hermes import logs
from hermes.runtime import Actor
from tests.actors.cast import mock
from tests.gateway.api import OPERATOR, Api

Start = Callable[..., Awaitable[Api]]


@pytest.fixture
async def log(api: Api, log: io.StringIO) -> io.StringIO:
    """The node's log."""
    logs.follow(api.node.system.whose_log)
    return log


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


async def overview(api: Api, query: str = "") -> Any:
    answer = await api.call("GET", f"/v1/overview{query}", key=OPERATOR)
    assert answer.status == 200, answer.raw
    return answer.json


async def test_overview_counts_messages_and_shows_who_sends_and_who_carries(api: Api) -> None:
    for _ in range(3):
        await api.node.final(await api.sent())
    await api.call("POST", "/v1/carriers/mock-push/pause", key=OPERATOR)
    seen = await overview(api)
    assert seen["ready"] and seen["journal"] == {"up": True, "queue": 0}
    assert seen["accepted"] == 3 and seen["final"] == {"delivered": 3}
    assert [(t["id"], t["accepted"]) for t in seen["tenants"]] == [(api.node.tenant, 3)]
    assert seen["carriers_by_state"] == {"up": 3, "paused": 1} and seen["carriers_total"] == 4
    assert seen["carriers"][0]["name"] == "mock-push"
    assert datetime.fromisoformat(seen["at"]).tzinfo is not None
    names = {actor["name"] for actor in seen["actors"]}
    assert f"tenant/{api.node.tenant}" in names and "provider/mock-sms" in names


async def test_overview_tells_every_decision_of_a_supervisor_newest_first(api: Api) -> None:
    for name in ("router", "provider/mock-sms"):
        ref = api.node.system.whereis(name)
        assert ref is not None
        ref.stop(ValueError(f"{name} has a bug"))
        await ref.ended()
        await api.node.until(partial(api.node.system.whereis, name))
    decisions = (await overview(api))["decisions"]
    found = [(d["supervisor"], d["child"], d["decision"]) for d in decisions]
    restart = found.index(("root", "router", "restart"))
    assert found.index(("providers", "provider/mock-sms", "back_off")) < restart
    assert "router has a bug" in decisions[restart]["reason"]
    assert (await overview(api, "?limit=1"))["decisions"] == decisions[:1]


class Crowd(Actor):
    """Has many children, the last of them with mail it does not read."""

    def init(self) -> None:
        for n in range(3000):
            self.spawn(Actor, name=f"crowd/{n}")
        busy = self.spawn(Actor, name="crowd/busy")
        busy.suspend()
        busy.send(object())


async def test_overview_does_not_look_through_thousands_of_equal_actors(api: Api) -> None:
    api.node.system.spawn(Crowd, name="crowd")
    lone = api.node.system.spawn(Actor, name="lone")
    lone.suspend()
    for _ in range(5):
        lone.send(object())
    actors = {actor["name"]: actor for actor in (await overview(api))["actors"]}
    assert "crowd/busy" not in actors
    assert (actors["lone"]["mailbox"], actors["lone"]["state"]) == (5, "suspended")


async def test_what_a_client_asks_wrong_is_told_by_name(api: Api) -> None:
    for path, field in (
        ("/v1/overview?limit=0", "limit"),
        ("/v1/overview?top=3", "top"),
        ("/v1/log?level=loud", "level"),
        ("/v1/log?after=-1", "after"),
    ):
        answer = await api.call("GET", path, key=OPERATOR)
        assert (answer.status, answer.fields) == (422, [field])
    for path in ("/v1/overview", "/v1/log"):
        assert (await api.call("GET", path, key="live")).status == 403
        assert (await api.call("GET", path, key=None)).status == 401


async def test_log_is_read_on_from_where_one_was(api: Api, log: io.StringIO) -> None:
    first = (await api.call("GET", "/v1/log", key=OPERATOR)).json["last"]
    logging.getLogger("hermes.x").warning("one", extra={"carrier": "a", "password": "hunter2"})
    logging.getLogger("hermes.x").info("two")
    page = (await api.call("GET", f"/v1/log?after={first}", key=OPERATOR)).json
    assert [(line["event"], line["level"], line["facts"]) for line in page["data"]] == [
        ("one", "warning", {"carrier": "a", "password": "***"}),
        ("two", "info", {}),
    ]
    again = (await api.call("GET", f"/v1/log?after={page['last']}", key=OPERATOR)).json
    assert again["data"] == []
    only = (await api.call("GET", f"/v1/log?after={first}&level=warning", key=OPERATOR)).json
    assert [line["event"] for line in only["data"]] == ["one"]


async def set_level(api: Api, name: str, level: str | None) -> Any:
    answer = await api.call("POST", f"/v1/actors/{name}/log-level", {"level": level}, key=OPERATOR)
    assert answer.status == 200, answer.raw
    return answer.json


async def test_level_of_one_tenant_changes_live_and_its_lines_say_whose_they_are(api: Api, log: io.StringIO) -> None:
    other = (await api.call("POST", "/v1/tenants", {"name": "other"}, key=OPERATOR)).json["id"]
    key = await api.new_key(tenant=other)
    assert (await set_level(api, f"tenant/{other}", "debug"))["levels"] == {f"tenant/{other}": "debug"}
    await api.node.final(await api.sent())
    message_id = await api.sent(key=key)
    await api.node.final(message_id)
    events = [line for line in lines(log) if line["level"] == "debug"]
    assert events and {(line["tenant"], line["message_id"]) for line in events} == {(other, message_id)}
    assert [line["type"] for line in events] == ["submitted", "delivered"]
    assert all(line["actor"] == f"cascade/{message_id}" for line in events)
    assert (await set_level(api, f"tenant/{other}", None))["levels"] == {}
    before = len(lines(log))
    await api.node.final(await api.sent(key=key))
    assert [line for line in lines(log)[before:] if line["level"] == "debug"] == []


async def test_a_noisy_actor_can_be_made_quieter_than_the_rest(api: Api, log: io.StringIO) -> None:
    await set_level(api, "provider/mock-sms", "error")
    for name in ("sms", "push"):
        await api.call("POST", f"/v1/carriers/mock-{name}/pause", key=OPERATOR)
    assert [line["carrier"] for line in lines(log) if line["event"] == "carrier state"] == ["mock-push"]


async def test_level_outlives_a_restart_of_the_actor(api: Api, log: io.StringIO) -> None:
    await set_level(api, "providers", "debug")
    await api.call("POST", "/v1/actors/provider/mock-sms/restart", key=OPERATOR)
    assert api.node.system.log_level("provider/mock-sms") == logging.DEBUG
    assert (await overview(api))["log_levels"] == {"providers": "debug"}


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [("router", {"level": "loud"}, 422), ("router", {}, 422), ("nobody", {"level": "debug"}, 404)],
)
async def test_wrong_level_or_actor_is_refused(api: Api, name: str, body: Any, status: int) -> None:
    assert (await api.call("POST", f"/v1/actors/{name}/log-level", body, key=OPERATOR)).status == status


async def test_crash_of_an_actor_is_logged_with_whom_it_was_about(start: Start, log: io.StringIO) -> None:
    api = await start([mock("mock-sms", "sms", receipt_delay_ms=300)])
    logs.follow(api.node.system.whose_log)
    message_id = await api.sent()
    cascade = api.node.system.whereis(f"cascade/{message_id}")
    assert cascade is not None
    cascade.send("what no cascade understands")
    await api.node.final(message_id)
    crashes = [line for line in lines(log) if line["level"] == "error"]
    assert crashes and all(line["message_id"] == message_id for line in crashes)
    assert all(line["tenant"] == api.node.tenant for line in crashes)
