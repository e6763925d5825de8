"""What a tenant used: it adds up to its messages, and the sandbox is apart."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.gateway.api import OPERATOR, SMS, Api


async def usage(api: Api, query: str = "", key: str = OPERATOR) -> Any:
    answer = await api.call("GET", f"/v1/tenants/{api.node.tenant}/usage{query}", key=key)
    assert answer.status == 200, answer.raw
    return answer.json["data"]


async def send_and_wait(api: Api, to: str, count: int = 1, key: str = "live") -> list[Any]:
    ids = [await api.sent({**SMS, "to": to}, key=key) for _ in range(count)]
    for message_id in ids:
        await api.node.final(message_id)
    return [(await api.call("GET", f"/v1/messages/{message_id}", key=key)).json for message_id in ids]


async def test_usage_adds_up_to_the_messages(api: Api) -> None:
    messages = await send_and_wait(api, "+4520120001", 3)
    messages += await send_and_wait(api, "+4520120002", 2)  # refused at once
    lines = await usage(api)
    today = api.node.context.clock.now().date().isoformat()
    assert lines == [
        {"day": today, "channel": "sms", "carrier": "mock-sms", "status": "delivered", "messages": 3, "attempts": 3,
         "segments": 3, "cost": 0.03},
        {"day": today, "channel": "sms", "carrier": "mock-sms", "status": "failed", "messages": 2, "attempts": 2,
         "segments": 0, "cost": 0.0},
    ]  # fmt: skip
    assert sum(line["cost"] for line in lines) == pytest.approx(sum(m["cost"] or 0 for m in messages))
    assert await usage(api, key="live") == lines


async def test_a_message_that_is_not_final_is_not_counted_yet(api: Api) -> None:
    await api.sent({**SMS, "to": "+4520120004"})
    scheduled = await api.sent({**SMS, "send_at": "2026-12-31T23:59:59Z"})
    assert await usage(api) == []
    await api.call("POST", f"/v1/messages/{scheduled}/cancel")
    (line,) = await usage(api)
    assert (line["carrier"], line["status"], line["messages"], line["attempts"]) == (None, "cancelled", 1, 0)


async def test_the_sandbox_is_apart(api: Api) -> None:
    await send_and_wait(api, "+4520120001", 2, key="test")
    assert await usage(api) == [] == await usage(api, key="live")
    (line,) = await usage(api, key="test")
    assert line["carrier"] == "sandbox" and line["messages"] == 2
    assert await usage(api, "?mode=test") == [line]
    for key, mode in (("live", "test"), ("test", "live")):
        answer = await api.call("GET", f"/v1/tenants/{api.node.tenant}/usage?mode={mode}", key=key)
        assert (answer.status, answer.fields) == (422, ["mode"])


async def test_days_are_chosen_both_included(api: Api) -> None:
    await send_and_wait(api, "+4520120001")
    now = api.node.context.clock.now()
    today, before, after = (now + timedelta(days=n) for n in (0, -1, 1))
    lines = await usage(api)
    for query, found in (
        (f"?from={today.date()}&to={today.date()}", lines),
        (f"?from={before.date()}&to={after.date()}", lines),
        (f"?from={today.date()}T00:00:00Z&to={after.date()}T00:00:00Z", lines),
        (f"?to={before.date()}", []),
        (f"?from={after.date()}&to={after.date()}", []),
    ):
        assert await usage(api, query) == found, query


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?from=yesterday", "from"),
        ("?to=2026-02-30", "to"),
        ("?to=2026-01-01T25:00:00Z", "to"),
        ("?to=0001-01-01T00:00:00%2B14:00", "to"),
        ("?from=2026-01-02&to=2026-01-01", "from"),
        ("?from=2020-01-02&to=2026-01-01", "from"),
        ("?mode=both", "mode"),
        ("?day=2026-01-01", "day"),
    ],
)
async def test_a_wrong_parameter_is_named(api: Api, query: str, field: str) -> None:
    answer = await api.call("GET", f"/v1/tenants/{api.node.tenant}/usage{query}", key=OPERATOR)
    assert (answer.status, answer.fields) == (422, [field])


async def test_the_first_day_there_is_can_be_asked_for(api: Api) -> None:
    assert await usage(api, "?to=0001-01-05") == []
