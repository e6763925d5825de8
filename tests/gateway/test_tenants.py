"""Tenants, keys, secrets, endpoints and dead letters: what the operator does, and what a tenant may do itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, get_args

import pytest

from gateway.shapes import EventType
from hermes.domain.events import ALL_WEBHOOK_TYPES, DEFAULT_WEBHOOK_TYPES
from hermes.domain.message import rfc3339
from hermes.journal.base import OutboxEntry, OutboxResult, Write
from tests.gateway.api import OPERATOR, SMS, Api

URL = "https://192.0.43.8/hook"  # a public address: nobody is asked


async def ask(api: Api, method: str, path: str, body: Any = None, key: str = OPERATOR) -> Any:
    answer = await api.call(method, path, body, key=key)
    assert answer.status in (200, 201, 202, 204), answer.raw
    return answer.json if answer.raw else None


async def test_a_tenants_life(api: Api) -> None:
    made = await api.call("POST", "/v1/tenants", {"name": "Åcme"}, key=OPERATOR)
    assert made.status == 201 and made.json["name"] == "Åcme" and made.json["status"] == "active"
    path = f"/v1/tenants/{made.json['id']}"
    assert made.headers["Location"] == path and made.json["id"].startswith("ten_")
    assert await ask(api, "GET", path) == made.json
    assert made.json in (await ask(api, "GET", "/v1/tenants"))["data"]
    assert (await ask(api, "PUT", path, {"name": "New"}))["status"] == "active"
    assert (await ask(api, "PUT", path, {"status": "suspended"}))["name"] == "New"
    assert await ask(api, "PUT", path, {}) == {**made.json, "name": "New", "status": "suspended"}
    assert await ask(api, "PUT", path, await ask(api, "GET", path)) == await ask(api, "GET", path)
    gone = await api.call("DELETE", path, key=OPERATOR)
    assert (gone.status, gone.raw) == (204, b"")
    for method in ("GET", "PUT", "DELETE"):
        answer = await api.call(method, path, {} if method == "PUT" else None, key=OPERATOR)
        assert (answer.status, answer.code) == (404, "not_found")


async def test_a_new_tenant_can_send_at_once_and_a_deleted_ones_keys_end_at_once(api: Api) -> None:
    tenant = await ask(api, "POST", "/v1/tenants", {"name": "new"})
    key = await api.new_key(tenant=tenant["id"])
    message = await api.sent(key=key)
    await ask(api, "DELETE", f"/v1/tenants/{tenant['id']}")
    assert (await api.send(key=key)).status == 401
    await api.node.final(message)  # what is open still ends


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "a\0"}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": 1}, "name"),
        ({"name": "x", "status": "deleted"}, "status"),
        ({"name": "x", "id": "ten_1"}, "id"),
        ({"name": "x", "colour": 1}, "colour"),
        ({"name": "x", "stage": "deleted"}, "stage"),
        ({"name": "x", "email": "nobody"}, "email"),
        ({"name": "x", "numbers": ["20123456", "12"]}, "numbers[1]"),
        ({"name": "x", "channel_rates": 1}, "channel_rates"),
    ],
)
async def test_a_wrong_field_of_a_tenant_is_named(api: Api, body: dict[str, Any], field: str) -> None:
    answer = await api.call("POST", "/v1/tenants", body, key=OPERATOR)
    assert (answer.status, answer.code, answer.fields) == (422, "schema_invalid", [field])
    if field not in ("name", "id"):
        answer = await api.call("PUT", f"/v1/tenants/{api.node.tenant}", body, key=OPERATOR)
        assert (answer.status, answer.fields) == (422, [field])


async def test_numbers_are_normalised_and_belong_to_one_tenant(api: Api) -> None:
    one = await ask(api, "POST", "/v1/tenants", {"name": "one", "numbers": ["+45 20 12 34 56", "+4520123456", "1234"]})
    assert one["numbers"] == ["+4520123456", "1234"]
    path = f"/v1/tenants/{one['id']}"
    assert await ask(api, "PUT", path, {"numbers": one["numbers"]}) == one  # its own are not another's
    taken = await api.call("POST", "/v1/tenants", {"name": "two", "numbers": ["5678", "1234"]}, key=OPERATOR)
    assert (taken.status, taken.fields) == (422, ["numbers[1]"])
    assert (await ask(api, "PUT", path, {"numbers": []}))["numbers"] == []
    await ask(api, "POST", "/v1/tenants", {"name": "two", "numbers": ["1234"]})


async def test_put_cannot_change_the_id(api: Api) -> None:
    answer = await api.call("PUT", f"/v1/tenants/{api.node.tenant}", {"id": "ten_x"}, key=OPERATOR)
    assert (answer.status, answer.fields) == (422, ["id"])


async def test_a_key_is_shown_once(api: Api) -> None:
    path = f"/v1/tenants/{api.node.tenant}/keys"
    made = await ask(api, "POST", path, {"mode": "test", "scopes": ["messages:read", "messages:read"]})
    assert set(made) == {"id", "key", "mode", "scopes"}
    assert made["key"].startswith("hk_test_") and made["id"].startswith("key_")
    assert (made["mode"], made["scopes"]) == ("test", ["messages:read"])
    listed = await api.call("GET", path, key=OPERATOR)
    assert made["key"].encode() not in listed.raw
    shown = next(key for key in listed.json["data"] if key["id"] == made["id"])
    assert made["key"].startswith(shown["prefix"]) and len(shown["prefix"]) < 16
    every = await ask(api, "POST", path, {"mode": "live"})
    assert every["scopes"] == ["messages:write", "messages:read", "tenant:manage"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "mode"),
        ({"mode": "dry"}, "mode"),
        ({"mode": "live", "scopes": ["all"]}, "scopes[0]"),
        ({"mode": "live", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"mode": "live", "expires_at": "2099-01-01T00:00:00"}, "expires_at"),
        ({"mode": "live", "expires_at": "9999-12-31T23:59:59-12:00"}, "expires_at"),
        ({"mode": "live", "allow_from": ["192.0.2.0/24", "here"]}, "allow_from[1]"),
        ({"mode": "live", "allow_from": ["192.0.2.0/33"]}, "allow_from[0]"),
        ({"mode": "live", "name": "x"}, "name"),
    ],
)
async def test_a_wrong_field_of_a_key_is_named(api: Api, body: dict[str, Any], field: str) -> None:
    answer = await api.call("POST", f"/v1/tenants/{api.node.tenant}/keys", body, key=OPERATOR)
    assert (answer.status, answer.code, answer.fields) == (422, "schema_invalid", [field])


async def test_a_key_expires(api: Api) -> None:
    now = api.node.context.clock.now()
    key = await api.new_key(expires_at=rfc3339(now + timedelta(hours=1)))
    await api.sent(key=key)
    directory = api.node.context.directory
    found = directory.find_key(key)
    assert found is not None and found.expires_at == now + timedelta(hours=1)
    directory._keys[found.key_hash] = replace(found, expires_at=now)  # as an hour later
    assert (await api.send(key=key)).status == 401


async def test_rotating_a_key_ends_the_old_one_at_once_or_after_the_overlap(api: Api) -> None:
    path = f"/v1/tenants/{api.node.tenant}/keys"
    old = await ask(api, "POST", path, {"mode": "live", "scopes": ["messages:write"]})
    new = await ask(api, "POST", f"{path}/{old['id']}/rotate", {"overlap_s": 3600})
    assert set(new) == {"id", "key"} and new["id"] != old["id"]
    await api.sent(key=old["key"])
    await api.sent(key=new["key"])
    assert (await api.call("GET", "/v1/messages", key=new["key"])).status == 403  # the same rights
    last = await ask(api, "POST", f"{path}/{new['id']}/rotate")
    assert (await api.send(key=new["key"])).status == 401
    await api.sent(key=last["key"])
    wrong = await api.call("POST", f"{path}/{last['id']}/rotate", {"overlap_s": -1}, key=OPERATOR)
    assert (wrong.status, wrong.fields) == (422, ["overlap_s"])


async def test_a_revoked_key_ends_at_once(api: Api) -> None:
    path = f"/v1/tenants/{api.node.tenant}/keys"
    made = await ask(api, "POST", path, {"mode": "live"})
    await api.sent(key=made["key"])
    assert (await api.call("DELETE", f"{path}/{made['id']}", key=OPERATOR)).status == 204
    assert (await api.send(key=made["key"])).status == 401
    for method, rest in (("DELETE", ""), ("POST", "/rotate")):
        answer = await api.call(method, f"{path}/{made['id']}{rest}", key=OPERATOR)
        assert (answer.status, answer.code) == (404, "not_found")


async def test_a_key_of_another_tenant_is_not_found(api: Api) -> None:
    other = await ask(api, "POST", "/v1/tenants", {"name": "other"})
    mine = (await ask(api, "GET", f"/v1/tenants/{api.node.tenant}/keys"))["data"][0]["id"]
    for method, rest in (("DELETE", ""), ("POST", "/rotate")):
        answer = await api.call(method, f"/v1/tenants/{other['id']}/keys/{mine}{rest}", key=OPERATOR)
        assert (answer.status, answer.code) == (404, "not_found")


async def test_when_a_key_was_last_used_is_shown(api: Api) -> None:
    path = f"/v1/tenants/{api.node.tenant}/keys"
    made = await ask(api, "POST", path, {"mode": "live"})
    await api.sent(key=made["key"])
    await api.node.context.directory.note_use()
    used = {key["id"]: key["last_used_at"] for key in (await ask(api, "GET", path))["data"]}
    assert used.pop(made["id"]).endswith("Z") and set(used.values()) == {None}


async def test_the_audit_log_tells_who_changed_what(api: Api) -> None:
    tenant = await ask(api, "POST", "/v1/tenants", {"name": "Acme"})
    path = f"/v1/tenants/{tenant['id']}"
    key = await ask(api, "POST", path + "/keys", {"mode": "live"})
    answer = await api.call("PUT", path, {"name": "New"}, key=OPERATOR, X_Request_Id="req-17")
    assert answer.status == 200
    await ask(api, "POST", path + "/webhooks", {"url": URL}, key=key["key"])
    page = await ask(api, "GET", path + "/audit?limit=2", key=key["key"])
    endpoint, renamed = page["data"]
    assert (endpoint["action"], endpoint["actor"]) == ("endpoint.created", key["id"])
    assert (renamed["action"], renamed["actor"], renamed["request_id"]) == ("tenant.updated", "operator", "req-17")
    assert (renamed["before"], renamed["after"]) == ({"name": "Acme"}, {"name": "New"})
    rest = await ask(api, "GET", f"{path}/audit?cursor={page['next_cursor']}")
    assert [change["action"] for change in rest["data"]] == ["key.created", "tenant.created"]
    assert rest["next_cursor"] is None
    await ask(api, "DELETE", path)
    everything = await ask(api, "GET", "/v1/audit?limit=1")
    assert everything["data"][0]["tenant"] == tenant["id"] and everything["next_cursor"] is not None
    for cursor in ("x", "9" * 19, "%00", "-1"):
        assert (await api.call("GET", f"/v1/audit?cursor={cursor}", key=OPERATOR)).fields == ["cursor"]


async def test_the_secret_is_shown_and_rotated(api: Api) -> None:
    path = f"/v1/tenants/{api.node.tenant}/secret"
    first = await ask(api, "GET", path, key="live")
    assert set(first) == {"secret"} and first["secret"].startswith("whsec_")
    second = await ask(api, "POST", path, key="live")
    assert second != first and await ask(api, "GET", path) == second
    tenant = api.node.context.directory.tenant(api.node.tenant)
    assert tenant is not None and tenant.previous_secret == first["secret"]  # signs beside it for a day
    assert (await api.call("POST", path, {"overlap_s": "x"})).fields == ["overlap_s"]


def test_an_endpoint_may_name_exactly_the_events_there_are() -> None:
    named = get_args(EventType)
    assert set(named) == ALL_WEBHOOK_TYPES and len(named) == len(ALL_WEBHOOK_TYPES)


async def test_endpoints(api: Api) -> None:
    path = f"/v1/tenants/{api.node.tenant}/webhooks"
    made = await ask(api, "POST", path, {"url": URL}, key="live")
    assert set(made) == {"id", "secret"} and made["secret"].startswith("whsec_")
    chosen = ["message.read", "inbound.received"]
    await ask(api, "POST", path, {"url": URL, "events": chosen})
    listed = await api.call("GET", path)
    assert made["secret"].encode() not in listed.raw
    first, second = listed.json["data"]
    assert first["id"] == made["id"] and first["url"] == URL and first["disabled_at"] is None
    assert set(first["events"]) == DEFAULT_WEBHOOK_TYPES and second["events"] == chosen
    assert (await api.call("DELETE", f"{path}/{made['id']}")).status == 204
    assert (await api.call("DELETE", f"{path}/{made['id']}")).status == 404
    assert len((await ask(api, "GET", path))["data"]) == 1
    for body, field in (
        ({}, "url"),
        ({"url": "x"}, "url"),
        ({"url": URL, "events": ["message.lost"]}, "events[0]"),
        ({"url": URL, "secret": "x"}, "secret"),
    ):
        answer = await api.call("POST", path, body)
        assert (answer.status, answer.fields) == (422, [field])


async def dead_letters(api: Api, count: int) -> list[str]:
    """Make deliveries that were given up."""
    clock, journal = api.node.context.clock, api.node.journal
    message = await api.sent({**SMS, "to": "+4520120004"})
    stored = await api.node.stored(message)
    write = next(iter(stored.events))
    tenant = api.node.tenant
    far = clock.now() + timedelta(days=1)
    names = [f"whk_{n}" for n in range(count)]
    journal.append(
        Write(message, tenant, [], outbox=[OutboxEntry(write.seq, name, "message.failed", far) for name in names])
    )
    await api.node.until(lambda: not journal.queued)
    await journal.outbox_results(
        [OutboxResult(message, write.seq, name, "dead", attempts=9, error="HTTP 500") for name in names]
    )
    return [f"{message}.{write.seq}.{name}" for name in names]


async def test_dead_letters_are_paged_and_replayed(api: Api) -> None:
    path = f"/v1/tenants/{api.node.tenant}/dead-letters"
    made = await dead_letters(api, 5)
    page = await ask(api, "GET", path + "?limit=3", key="live")
    rest = await ask(api, "GET", f"{path}?limit=3&cursor={page['next_cursor']}", key="live")
    assert sorted(letter["id"] for letter in page["data"] + rest["data"]) == sorted(made)
    assert rest["next_cursor"] is None
    assert page["data"][0]["last_error"] == "HTTP 500" and page["data"][0]["attempts"] == 9
    letter = page["data"][0]["id"]
    webhooks = api.node.system.whereis("webhooks")
    assert webhooks is not None
    webhooks.suspend()  # or it would try the letter at once, and find that its endpoint is no more
    waiting = webhooks.mailbox
    replayed = await api.call("POST", f"{path}/{letter}/replay")
    assert (replayed.status, replayed.json["id"]) == (202, letter)
    assert webhooks.mailbox == waiting + 1  # it was told
    assert (await api.call("POST", f"{path}/{letter}/replay")).status == 404
    assert len((await ask(api, "GET", path))["data"]) == 4
    for bad in ("nothing", "%00"):
        answer = await api.call("POST", f"{path}/{bad}/replay")
        assert (answer.status, answer.code) == (404, "not_found")


async def test_another_tenants_things_do_not_exist(api: Api) -> None:
    other = await ask(api, "POST", "/v1/tenants", {"name": "other"})
    theirs, nobodys = f"/v1/tenants/{other['id']}", "/v1/tenants/ten_nobody"
    for method, rest, body in (
        ("GET", "/secret", None),
        ("POST", "/secret", None),
        ("GET", "/webhooks", None),
        ("POST", "/webhooks", {"url": URL}),
        ("DELETE", "/webhooks/whk_1", None),
        ("GET", "/dead-letters", None),
        ("GET", "/audit", None),
        ("POST", "/dead-letters/x/replay", None),
    ):
        one, two = await api.call(method, theirs + rest, body), await api.call(method, nobodys + rest, body)
        assert (one.status, one.code) == (404, "not_found")
        assert {**one.json, "request_id": 0} == {**two.json, "request_id": 0}
