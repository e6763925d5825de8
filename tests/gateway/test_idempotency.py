"""One Idempotency-Key is one message: over repeats, restarts, races and refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.idempotency import request_hash
from hermes.journal.memory import MemoryJournal
from tests.gateway.api import OPERATOR, SMS, Api

Start = Callable[..., Awaitable[Api]]


async def count(api: Api) -> int:
    return len((await api.call("GET", "/v1/messages", key=OPERATOR)).json["data"])


async def test_a_repeat_gets_the_first_answer_and_sends_nothing(api: Api) -> None:
    first = await api.send(Idempotency_Key="k")
    assert first.status == 202 and "Idempotent-Replayed" not in first.headers
    again = await api.send(Idempotency_Key="k")
    assert (again.status, again.raw) == (202, first.raw)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"] == f"/v1/messages/{first.json['id']}"
    assert await count(api) == 1


async def test_order_and_spelling_of_the_json_do_not_matter(api: Api) -> None:
    one = b'{"channel":"sms","to":"+4520123456","content":{"text":"Hi"},"expires_in_s":600}'
    two = b' {"expires_in_s": 6e2, "content": {"text": "H\\u0069"}, "to": "+4520123456", "channel": "sms"}'
    first = await api.call("POST", "/v1/messages", raw=one, Idempotency_Key="k")
    again = await api.call("POST", "/v1/messages", raw=two, Idempotency_Key="k")
    assert (again.status, again.json["id"]) == (202, first.json["id"])


async def test_another_body_under_the_same_key_is_refused(api: Api) -> None:
    await api.sent(Idempotency_Key="k")
    answer = await api.send({**SMS, "reference": "other"}, Idempotency_Key="k")
    assert (answer.status, answer.code) == (422, "idempotency_mismatch")
    assert await count(api) == 1


async def test_a_refused_request_does_not_use_the_key_up(start: Start) -> None:
    api = await start(max_open_messages=1)
    assert (await api.send({**SMS, "to": "1"}, Idempotency_Key="k")).status == 422
    waiting = await api.sent({**SMS, "to": "+4520120004"})
    assert (await api.send(Idempotency_Key="k")).code == "too_many_open"
    await api.call("POST", f"/v1/messages/{waiting}/cancel")
    await api.sent({**SMS, "reference": "another body"}, Idempotency_Key="k")


async def test_keys_are_per_tenant_and_per_mode(api: Api) -> None:
    other = await api.call("POST", "/v1/tenants", {"name": "other"}, key=OPERATOR)
    stranger = await api.new_key(tenant=other.json["id"])
    ids = {await api.sent(key=key, Idempotency_Key="k") for key in ("live", "test", stranger)}
    assert len(ids) == 3
    # A test key never learns a live message's id, whatever its idempotency key.
    assert await api.sent(key="test", Idempotency_Key="k") in ids


async def test_the_answer_outlives_the_process(start: Start) -> None:
    journal = MemoryJournal()
    await journal.start()
    before = await start(journal=journal)
    first = await before.send(Idempotency_Key="k")
    peer = journal.peer("worker-2")
    await peer.start()
    after = await start(journal=peer)
    key = await after.new_key(tenant=before.node.tenant)
    again = await after.send(key=key, Idempotency_Key="k")
    assert (again.status, again.raw, again.headers["Idempotent-Replayed"]) == (202, first.raw, "true")
    mismatch = await after.send({**SMS, "reference": "x"}, key=key, Idempotency_Key="k")
    assert mismatch.code == "idempotency_mismatch"


class Held(MemoryJournal):
    """Answers look-ups of idempotency keys when told."""

    def __init__(self) -> None:
        super().__init__()
        self.held = asyncio.Event()
        self.asked = asyncio.Event()

    async def find_idempotent(self, tenant: str, key: str) -> Any:
        self.asked.set()
        await self.held.wait()
        return await super().find_idempotent(tenant, key)


async def test_a_second_request_while_the_first_runs_is_told_to_wait(start: Start) -> None:
    journal = Held()
    await journal.start()
    api = await start(journal=journal)
    first = asyncio.create_task(api.send(Idempotency_Key="k"))
    await journal.asked.wait()
    second = await api.send(Idempotency_Key="k")
    assert (second.status, second.code) == (409, "idempotency_running")
    assert int(second.headers["Retry-After"]) >= 1
    journal.held.set()
    assert (await first).status == 202
    assert (await api.send(Idempotency_Key="k")).json["id"] == (await first).json["id"]
    assert await count(api) == 1


class Blind(MemoryJournal):
    """Shows idempotency keys only from the second look on, as when another worker stores one in between."""

    looks = 0

    async def find_idempotent(self, tenant: str, key: str) -> Any:
        self.looks += 1
        return None if self.looks == 1 else await super().find_idempotent(tenant, key)


async def test_who_loses_the_race_between_workers_gets_the_winners_answer(start: Start) -> None:
    journal = MemoryJournal()
    await journal.start()
    winner = await start(journal=journal)
    blind = Blind(_store=journal._store, worker_id="worker-2")
    await blind.start()
    loser = await start(journal=blind)
    key = await loser.new_key(tenant=winner.node.tenant)
    first = await winner.send(Idempotency_Key="k")
    second = await loser.send(key=key, Idempotency_Key="k")
    assert (second.status, second.raw, blind.looks) == (202, first.raw, 2)
    assert second.headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("key", ["x" * 255, "a b", "~!"])
async def test_keys_of_the_right_form(api: Api, key: str) -> None:
    await api.sent(Idempotency_Key=key)


@pytest.mark.parametrize("key", ["", "x" * 256, "ü", "a\tb"])
async def test_keys_of_the_wrong_form_are_refused(api: Api, key: str) -> None:
    answer = await api.send(Idempotency_Key=key)
    assert (answer.status, answer.code, answer.fields) == (422, "schema_invalid", ["Idempotency-Key"])


async def test_a_repeat_gets_the_first_answer_though_its_policy_and_template_are_gone(api: Api) -> None:
    own = f"/v1/tenants/{api.node.tenant}"
    template = {"name": "hi", "default_locale": "en", "locales": {"en": {"text": "Hi {{ name }}"}}}
    assert (await api.call("POST", f"{own}/policies", {"name": "once", "cascade": ["sms"]})).status == 201
    assert (await api.call("POST", f"{own}/templates", template)).status == 201
    body = {
        "to": {"phone": "+4520123456"}, "policy": "once", "template": {"name": "hi", "variables": {"name": "Bo"}},
    }  # fmt: skip
    first = await api.send(body, Idempotency_Key="k")
    assert first.status == 202
    for path in ("policies/once", "templates/hi"):
        assert (await api.call("DELETE", f"{own}/{path}")).status == 204
    again = await api.send(body, Idempotency_Key="k")
    assert (again.status, again.raw, again.headers["Idempotent-Replayed"]) == (202, first.raw, "true")
    fresh = await api.send(body, Idempotency_Key="another")
    assert (fresh.status, fresh.code) == (422, "schema_invalid")
    assert (await api.send(SMS, Idempotency_Key="another")).status == 202  # it was not used up


async def test_two_keys_in_one_request_are_refused(api: Api) -> None:
    headers = CIMultiDict(Authorization=f"Bearer {api.live}")
    for key in ("one", "two"):
        headers.add("Idempotency-Key", key)
    async with api.session.post(f"{api.url}/v1/messages", json=SMS, headers=headers) as answer:
        said = await answer.json(content_type=None)
    assert (answer.status, said["code"]) == (422, "schema_invalid")
    assert [error["field"] for error in said["errors"]] == ["Idempotency-Key"]


async def test_a_batch_refuses_the_header_instead_of_ignoring_it(api: Api) -> None:
    answer = await api.call("POST", "/v1/messages/batch", {"messages": [SMS]}, Idempotency_Key="k")
    assert (answer.status, answer.fields) == (422, ["Idempotency-Key"])


async def test_answers_in_memory_are_bounded(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.idempotency._MOST_KEPT", 2)
    ids = [await api.sent(Idempotency_Key=f"k{n}") for n in range(4)]
    assert [await api.sent(Idempotency_Key=f"k{n}") for n in range(4)] == ids  # the journal knows the first ones


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def shuffled(value: Any) -> Any:
    """Write the same JSON value another way: members in reverse, whole numbers as floats."""
    if isinstance(value, dict):
        return {key: shuffled(item) for key, item in reversed(value.items())}
    if isinstance(value, list):
        return [shuffled(item) for item in value]
    if type(value) is int and abs(value) < 2**53:
        return float(value)
    return value


@given(JSON)
def test_the_hash_is_of_the_value_not_of_its_spelling(value: Any) -> None:
    assert request_hash(value) == request_hash(shuffled(value))


@given(JSON, JSON)
def test_different_values_have_different_hashes(one: Any, two: Any) -> None:
    def strict(value: Any) -> Any:
        if isinstance(value, dict):
            return {"d": sorted((key, repr(strict(item))) for key, item in value.items())}
        if isinstance(value, list):
            return ["l", *map(strict, value)]
        return (isinstance(value, bool), value)

    assert (request_hash(one) == request_hash(two)) == (strict(one) == strict(two))
