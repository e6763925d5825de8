"""A scheduled message is moved over HTTP, and leaves at its new time, over a restart too."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from hermes.domain.message import rfc3339
from tests.gateway.api import OPERATOR, SMS, Api, start_api, stop_api


async def scheduled(api: Api, **more: Any) -> str:
    at = api.node.context.clock.now() + timedelta(days=1)
    return await api.sent({**SMS, "to": "+4520120001", "send_at": rfc3339(at), **more})


async def move(api: Api, message_id: str, at: datetime | str, key: str = "live") -> Any:
    body = {"send_at": at if isinstance(at, str) else rfc3339(at)}
    return await api.call("POST", f"/v1/messages/{message_id}/reschedule", body, key=key)


async def test_a_scheduled_message_is_moved_and_sent(api: Api) -> None:
    message_id = await scheduled(api, expires_in_s=3600)
    later = api.node.context.clock.now() + timedelta(days=2)
    moved = await move(api, message_id, later)
    assert moved.status == 200 and moved.json["status"] == "scheduled"
    assert moved.json["expires_at"] == rfc3339(later + timedelta(hours=1))
    assert (await api.call("GET", f"/v1/messages/{message_id}")).json == moved.json
    listed = (await api.call("GET", "/v1/messages?status=scheduled&fields=full")).json["data"]
    assert listed == [moved.json]
    now = await move(api, message_id, api.node.context.clock.now())
    assert now.status == 200
    assert (await api.node.final(message_id)).status == "delivered"


async def test_a_moved_message_leaves_at_its_new_time_after_a_restart(api: Api) -> None:
    message_id = await scheduled(api)
    soon = api.node.context.clock.now() + timedelta(seconds=0.4)
    assert (await move(api, message_id, soon)).status == 200
    again = await start_api(journal=await restarted(api))
    assert (await again.node.final(message_id)).status == "delivered"
    stored = await again.node.stored(message_id)
    submitted = next(event for event in stored.events if event.type == "submitted")
    assert submitted.at >= soon
    await stop_api(again)


async def restarted(api: Api) -> Any:
    """What is stored, as another process finds it after this one vanished."""
    await api.node.until(lambda: not api.node.journal.queued)
    copy = api.node.journal.copy()  # type: ignore[attr-defined]
    await copy.start()
    return copy


async def test_what_cannot_be_moved_is_told_apart(api: Api) -> None:
    waiting = await api.sent({**SMS, "to": "+4520120004"})
    assert (await move(api, waiting, "2026-12-30T00:00:00Z")).code == "already_begun"
    done = await api.sent({**SMS, "to": "+4520120001"})
    await api.node.final(done)
    assert (await move(api, done, "2026-12-30T00:00:00Z")).code == "already_final"
    message_id = await scheduled(api)
    assert (await move(api, "msg_00000000000000000000000000", "2026-12-30T00:00:00Z")).status == 404
    assert (await move(api, message_id, "2026-12-30T00:00:00Z", key="test")).status == 404
    assert (await move(api, message_id, "2026-12-30T00:00:00Z", key=OPERATOR)).code == "scope_missing"


@pytest.mark.parametrize("at", ["tomorrow", "2026-12-30T00:00:00", "2999-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00"])
async def test_a_wrong_time_is_refused_by_name(api: Api, at: str) -> None:
    message_id = await scheduled(api)
    answer = await move(api, message_id, at)
    assert (answer.status, answer.fields) == (422, ["send_at"])
