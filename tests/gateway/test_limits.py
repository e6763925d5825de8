"""Rates and duplicates: exact in one process and over Redis, and what holds while Redis is away."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge import ANSWER_WITHIN_S
from gateway.limits.base import WINDOW_S, Ask, Limits
from gateway.limits.floods import AT_ONCE, HOLD_S, Floods
from gateway.limits.local import LocalLimits, SlidingWindow
from gateway.limits.shared import ASK_AGAIN_S, GROUPS_AT_ONCE, SharedLimits
from hermes.tenancy import merged
from tests.gateway.api import OPERATOR, SMS, Api
from tests.gateway.redis_server import RedisServer, needs_redis


def ask(rate: int = 0, burst: int = 0, channel_rate: int = 0, *, scope: str = "ten_1:live", **more: Any) -> Ask:
    return Ask(scope, rate, burst, "sms", channel_rate, **more)


async def until_taken(limits: Limits, asked: Ask) -> None:
    """Ask until it may go; fail after 10 s."""
    async with asyncio.timeout(10):
        while (await limits.take(asked)).refused is not None:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


# --- the window itself
@given(
    st.integers(1, 5),
    st.integers(0, 4),
    st.lists(st.floats(0, 0.7, allow_nan=False, allow_infinity=False), max_size=60),
)
def test_no_second_holds_more_than_rate_and_burst_and_steady_load_no_more_than_rate(
    rate: int, burst: int, gaps: list[float]
) -> None:
    window, now, went = SlidingWindow(), 0.0, []
    for gap in gaps:
        now += gap
        if window.look(now, rate, burst).refused is None:
            window.count(now, rate, burst)
            went.append(now)
    for n, start in enumerate(went):
        in_second = [t for t in went[n:] if t < start + WINDOW_S]
        assert len(in_second) <= rate + burst
    # While no second is empty, the burst is there once.
    rests = any(later - earlier > WINDOW_S for earlier, later in pairwise(went))
    if went and not rests:
        seconds = int((went[-1] - went[0]) / WINDOW_S) + 1
        assert len(went) <= seconds * rate + burst


def test_a_window_lets_go_again_exactly_when_the_second_is_over() -> None:
    window = SlidingWindow()
    for n in range(3):
        assert window.look(n * 0.1, 3, 0).remaining == 2 - n
        window.count(n * 0.1, 3, 0)
    refused = window.look(0.9, 3, 0)
    assert (refused.refused, refused.remaining) == ("tenant", 0)
    assert 0.9 + refused.wait_s == pytest.approx(WINDOW_S)
    assert window.look(WINDOW_S, 3, 0).refused is None
    window.count(WINDOW_S, 3, 0)
    assert window.look(WINDOW_S + 0.05, 3, 0).refused == "tenant"


def test_the_burst_comes_back_with_rest_only() -> None:
    window = SlidingWindow()

    def go(now: float) -> int:
        went = 0
        while window.look(now, 2, 3).refused is None:
            window.count(now, 2, 3)
            went += 1
        return went

    assert [go(0.0), go(0.5), go(WINDOW_S), go(2 * WINDOW_S)] == [5, 0, 2, 2]
    assert go(3 * WINDOW_S + 0.5) == 3  # half a second of rest: one of the burst
    assert go(60.0) == 5


# --- both kinds
async def test_a_rate_is_exact_for_fifty_at_once(limits: Limits) -> None:
    asks = [ask(20, 7, 30) for _ in range(200)]
    started = time.monotonic()
    found = await asyncio.gather(*(limits.take(one) for one in asks))
    if time.monotonic() - started < WINDOW_S:  # else some of them lie in the next second
        assert sum(taken.refused is None for taken in found) == 27
    assert sum(taken.refused is None for taken in found) >= 27
    over = next(taken for taken in found if taken.refused)
    assert over.refused == "tenant" and over.limit == 20 and 0 < over.wait_s <= WINDOW_S


async def test_a_channels_rate_is_its_own_and_counts_nothing_when_it_refuses(limits: Limits) -> None:
    assert [(await limits.take(ask(5, 0, 1))).refused for _ in range(3)] == [None, "sms", "sms"]
    left = await limits.take(ask(5))
    assert (left.refused, left.remaining) == (None, 3)
    assert (await limits.take(ask(5, scope="ten_1:test"))).remaining == 4
    assert (await limits.take(ask())).limit == 0


async def test_a_place_is_free_again_after_a_second(limits: Limits) -> None:
    started = time.monotonic()
    assert (await limits.take(ask(1))).refused is None
    await until_taken(limits, ask(1))
    assert time.monotonic() - started >= WINDOW_S - 0.005


async def test_the_same_message_is_refused_until_it_is_forgotten_or_old(limits: Limits) -> None:
    same = ask(duplicate=b"a", duplicate_s=30.0)
    assert (await limits.take(same)).refused is None
    again = await limits.take(same)
    assert again.refused == "duplicate" and 0 < again.wait_s <= 30
    assert (await limits.take(ask(duplicate=b"b", duplicate_s=30.0))).refused is None
    assert (await limits.take(ask(duplicate=b"a", duplicate_s=30.0, scope="ten_2:live"))).refused is None
    await limits.forget(same)
    assert (await limits.take(ask(duplicate=b"a", duplicate_s=0.05))).refused is None
    await until_taken(limits, ask(duplicate=b"a", duplicate_s=0.05))


async def test_looking_counts_nothing(limits: Limits) -> None:
    for _ in range(5):
        looked = await limits.take(ask(1, duplicate=b"a", duplicate_s=30.0, counts=False))
        assert looked.refused is None
    assert (await limits.take(ask(1, duplicate=b"a", duplicate_s=30.0))).refused is None
    assert (await limits.take(ask(1, counts=False))).refused == "tenant"


async def test_what_rests_takes_no_memory() -> None:
    now = 0.0
    limits = LocalLimits(lambda: now)
    for n in range(100):
        await limits.take(ask(5, 5, duplicate=b"%d" % n, duplicate_s=1.0, scope=f"ten_{n}"))
    now = 100.0
    limits._sweep(now)
    assert (len(limits._windows), len(limits._sent)) == (0, 0)


# --- Redis
@needs_redis
async def test_two_workers_share_a_rate_and_agree_with_one_process(redis: RedisServer) -> None:
    workers = [SharedLimits(redis.url, time.monotonic) for _ in range(2)]
    for worker in workers:
        await worker.take(ask(scope="warm"))
    started = time.monotonic()
    found = await asyncio.gather(*(workers[n % 2].take(ask(10, 3)) for n in range(50)))
    if time.monotonic() - started < WINDOW_S:
        assert sum(taken.refused is None for taken in found) == 13
    assert not any(worker.away for worker in workers)
    for worker in workers:
        await worker.close()


@needs_redis
async def test_tenants_that_ask_at_once_are_counted_apart_each_exactly(redis: RedisServer) -> None:
    workers = [SharedLimits(redis.url, time.monotonic) for _ in range(2)]
    for worker in workers:
        await worker.take(ask(scope="warm"))
    scopes = [f"ten_{n}:live" for n in range(2 * GROUPS_AT_ONCE + 1)]
    started = time.monotonic()
    asked = [(scope, n) for n in range(6) for scope in scopes]
    found = await asyncio.gather(
        *(
            workers[n % 2].take(ask(2, 1, 4, scope=scope, duplicate=b"%d" % (n // 3), duplicate_s=30))
            for scope, n in asked
        )
    )
    in_a_second = time.monotonic() - started < WINDOW_S
    for scope in scopes:
        own = [taken.refused for (of, _), taken in zip(asked, found, strict=True) if of == scope]
        assert own.count(None) == 2 and own.count("duplicate") == 4, (scope, own)  # of three alike one goes
    more = await asyncio.gather(*(workers[n % 2].take(ask(2, 1, scope=scope)) for scope in scopes for n in range(3)))
    if in_a_second and time.monotonic() - started < WINDOW_S:
        assert [taken.refused for taken in more].count(None) == len(scopes)  # what the rate and the burst have left
    assert not any(worker.away for worker in workers)
    for worker in workers:
        await worker.close()


@needs_redis
async def test_without_redis_each_worker_counts_for_itself_until_it_is_back(redis: RedisServer) -> None:
    now = 0.0
    limits = SharedLimits(redis.url, lambda: now)
    assert [(await limits.take(ask(2))).refused for _ in range(3)] == [None, None, "tenant"]
    await redis.stop()
    assert [(await limits.take(ask(2))).refused for _ in range(3)] == [None, None, "tenant"]
    assert limits.away
    same = ask(duplicate=b"a", duplicate_s=30.0)
    assert [(await limits.take(same)).refused for _ in range(2)] == [None, "duplicate"]
    await limits.forget(same)
    assert (await limits.take(same)).refused is None
    await redis.start()
    assert (await limits.take(ask(2))).refused == "tenant"  # not asked again yet
    now += ASK_AGAIN_S
    assert (await limits.take(ask(2))).refused is None
    assert not limits.away
    await limits.close()


@needs_redis
async def test_a_redis_that_hangs_is_away_and_nobody_waits_for_it_twice(redis: RedisServer) -> None:
    now = 100.0
    limits = SharedLimits(redis.url, lambda: now)
    assert (await limits.take(ask(rate=2))).refused is None
    redis.hang()
    try:
        taken = await asyncio.gather(*(limits.take(ask(rate=2)) for _ in range(3)))
        assert limits.away
        assert [t.refused for t in taken].count(None) == 2  # counted here, from nothing
    finally:
        redis.go_on()
    now += 60
    async with asyncio.timeout(30):
        while limits.away:
            await limits.take(ask(scope="other:live", rate=100))
            now += 2
    await limits.close()


# --- floods
async def test_who_sends_on_although_refused_is_answered_later_and_nobody_else() -> None:
    now, held = 100.0, []

    async def sleep(seconds: float) -> None:
        held.append(seconds)

    floods = Floods(lambda: now, sleep)
    for _ in range(AT_ONCE):
        await floods.hold("flooder", 2.0)
    assert held == []
    await floods.hold("flooder", 2.0)
    await floods.hold("flooder", 2.0)
    assert len(held) == 2 and all(HOLD_S[0] <= seconds <= HOLD_S[1] for seconds in held)
    await floods.hold("other", 2.0)
    assert len(held) == 2
    await floods.hold("batches", 0.1, AT_ONCE + 1)
    await floods.hold("batches", -0.1, AT_ONCE + 1)
    assert held[2:] == [0.1, 0.0]  # no answer is later than the contract has it
    now += 1
    await floods.hold("flooder", 2.0)
    assert len(held) == 4


async def test_a_flood_is_held_back_over_http_and_what_is_accepted_is_not(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, int]] = []

    async def hold(self: Floods, tenant: str, left_s: float, refusals: int = 1) -> None:
        assert 0 < left_s <= ANSWER_WITHIN_S
        told.append((tenant, refusals))

    monkeypatch.setattr(Floods, "hold", hold)
    await set_tenant(api, rate_per_s=1)
    answers = await asyncio.gather(*(api.send() for _ in range(10)))
    refused = sum(answer.status == 429 for answer in answers)
    assert refused >= 8 and told == [(api.node.tenant, 1)] * refused
    told.clear()
    await until_refused(api)
    batch = await api.call("POST", "/v1/messages/batch", {"messages": [SMS] * 3})
    statuses = [result["status"] for result in batch.json["results"]]
    assert told[-1] == ((api.node.tenant, 3) if statuses == [429] * 3 else (api.node.tenant, 1))


async def until_refused(api: Api) -> None:
    """Send until the rate is used up."""
    while (await api.send()).status != 429:
        pass


# --- over HTTP
async def set_tenant(api: Api, **what: Any) -> Any:
    answer = await api.call("PUT", f"/v1/tenants/{api.node.tenant}", what, key=OPERATOR)
    assert answer.status == 200, answer.raw
    return answer.json


async def test_who_sends_too_fast_is_told_how_fast_and_when(api: Api) -> None:
    shown = await set_tenant(api, rate_per_s=2, burst=1)
    assert (shown["rate_per_s"], shown["burst"], shown["channel_rates"]) == (2, 1, {})
    answers = await asyncio.gather(*(api.send() for _ in range(20)))
    accepted = [a for a in answers if a.status == 202]
    refused = [a for a in answers if a.status == 429]
    assert len(accepted) + len(refused) == 20 and len(accepted) >= 3
    first = await api.node.stored(min(a.json["id"] for a in accepted))
    in_second = [a for a in accepted if await _within(api, a.json["id"], first)]
    assert len(in_second) == 3
    over = refused[0]
    assert (over.code, over.json["layer"]) == ("rate_limited", "rate")
    assert over.headers["RateLimit-Policy"] == '"tenant";q=2;w=1'
    assert over.headers["RateLimit"] == '"tenant";r=0;t=' + over.headers["Retry-After"]
    assert int(over.headers["Retry-After"]) in (1, 2)
    assert {a.headers["RateLimit-Policy"] for a in accepted} == {'"tenant";q=2;w=1'}


async def _within(api: Api, message_id: str, first: Any) -> bool:
    stored = await api.node.stored(message_id)
    return bool(stored.message.created_at - first.message.created_at < timedelta(seconds=1))


async def test_test_messages_and_other_tenants_have_rates_of_their_own(api: Api) -> None:
    await set_tenant(api, rate_per_s=1)
    assert (await api.send()).status == 202
    assert (await api.send(key="test")).status == 202
    other = (await api.call("POST", "/v1/tenants", {"name": "other"}, key=OPERATOR)).json["id"]
    key = await api.new_key(tenant=other)
    free = await api.send(key=key)
    assert free.status == 202 and "RateLimit" not in free.headers


async def test_a_channels_rate_names_the_channel(api: Api) -> None:
    await set_tenant(api, channel_rates={"sms": 1})
    answers = [await api.send() for _ in range(4)]
    over = next(a for a in answers if a.status == 429)
    assert {a.headers["RateLimit-Policy"] for a in answers} == {'"tenant";q=1;w=1'}
    assert over.headers["RateLimit"] == '"tenant";r=0;t=' + over.headers["Retry-After"]
    assert "channel sms" in over.json["detail"]
    mail = {"channel": "email", "to": "a@example.com", "content": {"text": "Hi"}}
    assert (await api.send(mail)).status == 202
    await set_tenant(api, layers={"rate": {"enabled": False}})
    assert [(await api.send()).status for _ in range(3)] == [202] * 3


async def test_a_repeat_with_its_key_is_no_new_message(api: Api) -> None:
    await set_tenant(api, rate_per_s=1, layers={"dedup": {"enabled": True}})
    first = await api.send(Idempotency_Key="k")
    again = await api.send(Idempotency_Key="k")
    assert (first.status, again.status, again.json) == (202, 202, first.json)
    await api.call("POST", f"/v1/tenants/{api.node.tenant}/suppressions", {"address": SMS["to"]})
    assert (await api.send(Idempotency_Key="k")).json == first.json
    assert (await api.send(Idempotency_Key="other")).code == "do_not_contact"


async def test_the_same_message_soon_after_is_a_duplicate(api: Api) -> None:
    await set_tenant(api, layers={"dedup": {"enabled": True, "window_s": 600}})
    assert (await api.send()).status == 202
    again = await api.send()
    assert (again.status, again.code, again.json["layer"]) == (409, "duplicate", "dedup")
    for other in ({"reference": "r"}, {"content": {"text": "Ho"}}, {"to": "+4520123457"}):
        assert (await api.send({**SMS, **other})).status == 202
    verdict = (await api.call("POST", "/v1/messages/validate", SMS)).json
    assert [(r["layer"], r["code"]) for r in verdict["refusals"]] == [("dedup", "duplicate")]


async def test_what_was_not_accepted_may_be_sent_again(api: Api) -> None:
    await set_tenant(api, layers={"dedup": {"enabled": True}})
    api.node.context.draining = True
    assert (await api.send()).status == 503
    api.node.context.draining = False
    assert (await api.send()).status == 202


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"rate_per_s": -1}, "rate_per_s"),
        ({"rate_per_s": "x"}, "rate_per_s"),
        ({"burst": 1.5}, "burst"),
        ({"channel_rates": {"fax": 1}}, "channel_rates.fax"),
        ({"channel_rates": {"sms": -1}}, "channel_rates.sms"),
        ({"layers": {"dedup": {"window_s": 0}}}, "layers.dedup.window_s"),
    ],
)
async def test_a_wrong_limit_is_named(api: Api, body: dict[str, Any], field: str) -> None:
    answer = await api.call("PUT", f"/v1/tenants/{api.node.tenant}", body, key=OPERATOR)
    assert (answer.status, answer.fields) == (422, [field])


def test_settings_are_laid_over_each_other_at_every_depth() -> None:
    old = {"a": {"b": 1, "c": [1]}, "d": 1}
    assert merged(old, {"a": {"c": [2]}, "e": {}}) == {"a": {"b": 1, "c": [2]}, "d": 1, "e": {}}
    assert old == {"a": {"b": 1, "c": [1]}, "d": 1}
