"""Quotas: exact whoever sends at the same time, in one process and by Redis, over restarts; and over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime
from typing import Any

import pytest

from gateway.limits.accepted import OLDEST_S, REFRESH_S, Accepted
from gateway.limits.base import Ask, Limits, QuotaAsk, Taken
from gateway.limits.local import LocalLimits
from gateway.limits.shared import SharedLimits
from hermes.domain.quotas import QUOTAS, Amounts
from hermes.domain.usage import AcceptedLine
from hermes.journal.base import JournalAway
from tests.gateway.api import OPERATOR, SMS, Api
from tests.gateway.redis_server import RedisServer, needs_redis, running_redis

TODAY = date(2026, 3, 15)
LONG = {**SMS, "content": {"text": "x" * 200}}  # two parts


def ask(day: date = TODAY, adds: Amounts = (1, 0, 0), *, tenant: str = "t", mode: str = "live", **limits: int) -> Ask:
    quota = QuotaAsk(tenant, mode, tuple(limits.get(name, 0) for name in QUOTAS), day, adds)
    return Ask(f"{tenant}:{mode}", 0, 0, "sms", 0, quota=quota)


class Journal:
    """What a journal says was accepted; for one tenant."""

    def __init__(self) -> None:
        self.lines: list[AcceptedLine] = []
        self.away = False
        self.asked = 0

    async def accepted(self, scopes: Sequence[tuple[str, str]], day: date) -> list[AcceptedLine]:
        self.asked += 1
        if self.away:
            raise JournalAway
        return self.lines

    def says(self, messages: int, *, own: bool = False, spent: int = 0, expected: int = 0) -> None:
        counted = (messages, 0, expected)
        self.lines = [line for line in self.lines if line.own != own]
        self.lines.append(AcceptedLine("t", "live", own, counted, counted, spent, spent))


class Clock:
    """Seconds that go on when told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def refused(limits: Limits, asked: Ask) -> str | None:
    return (await limits.take(asked)).refused


# --- counting
async def test_a_quota_is_exact_for_fifty_at_once(limits: Limits) -> None:
    taken = await asyncio.gather(*(limits.take(ask(messages_per_day=20)) for _ in range(50)))
    assert [t.refused for t in taken].count(None) == 20
    assert {t for t in taken if t.refused} == {Taken("messages_per_day", 20, 0)}


async def test_each_quota_counts_what_is_its_own(limits: Limits) -> None:
    caps: dict[str, Any] = {"segments_per_day": 5, "spend_per_month": 100}
    assert await refused(limits, ask(adds=(1, 3, 60), **caps)) is None
    assert await limits.take(ask(adds=(1, 3, 10), **caps)) == Taken("segments_per_day", 5, 2)
    assert await limits.take(ask(adds=(1, 2, 50), **caps)) == Taken("spend_per_month", 100, 40)
    assert await refused(limits, ask(adds=(1, 2, 40), **caps)) is None
    assert await refused(limits, ask(adds=(1, 0, 0), **caps)) is None


async def test_days_months_tenants_and_modes_are_counted_apart(limits: Limits) -> None:
    caps: dict[str, Any] = {"messages_per_day": 1, "messages_per_month": 2}
    assert await refused(limits, ask(**caps)) is None
    assert await refused(limits, ask(**caps)) == "messages_per_day"
    others: list[dict[str, Any]] = [{"tenant": "u"}, {"mode": "test"}, {"day": date(2026, 3, 16)}]
    for other in others:
        assert await refused(limits, ask(**other, **caps)) is None
    assert await refused(limits, ask(date(2026, 3, 17), **caps)) == "messages_per_month"
    assert await refused(limits, ask(date(2026, 4, 1), **caps)) is None


async def test_what_was_not_accepted_does_not_count(limits: Limits) -> None:
    asked = ask(adds=(1, 2, 3), messages_per_day=1, segments_per_month=2, spend_per_day=3)
    for _ in range(3):
        assert await refused(limits, asked) is None
        await limits.forget(asked)
    asked.counts = False
    assert await refused(limits, asked) is None
    asked.counts = True
    assert await refused(limits, asked) is None
    assert await refused(limits, asked) == "segments_per_month"


async def test_who_is_refused_by_a_quota_takes_no_place_in_the_rate(limits: Limits) -> None:
    asked = ask(messages_per_day=1)
    asked.rate = 2
    assert await refused(limits, asked) is None
    assert [await refused(limits, asked) for _ in range(3)] == ["messages_per_day"] * 3
    asked.quota = None
    assert await refused(limits, asked) is None


# --- what the journal says
@pytest.fixture(params=["local", pytest.param("redis", marks=needs_redis)])
async def told(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Limits, Journal, Clock]]:
    """Limits that hear of a journal, by a clock of their own."""
    journal, clock = Journal(), Clock()
    accepted = Accepted(journal.accepted, clock)
    if request.param == "local":
        yield LocalLimits(clock, accepted), journal, clock
        return
    async with running_redis() as server:
        made = SharedLimits(server.url, clock, accepted)
        yield made, journal, clock
        await made.close()


async def read_again(journal: Journal, clock: Clock, limits: Limits, asked: Ask) -> None:
    """Let the figures grow old, have them asked for and wait until they are new."""
    clock.now += REFRESH_S
    asked.counts = False
    before = journal.asked
    await limits.take(asked)
    async with asyncio.timeout(10):
        while journal.asked == before:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    asked.counts = True


async def test_what_was_accepted_before_a_restart_and_elsewhere_counts(told) -> None:
    limits, journal, clock = told
    journal.says(7)
    asked = ask(messages_per_day=10)
    assert [await refused(limits, asked) for _ in range(3)] == [None] * 3
    assert await refused(limits, asked) == "messages_per_day"
    assert journal.asked == 1
    # One of its own was not accepted, and another worker accepted none more: the journal says both.
    await limits.forget(asked)
    journal.says(2, own=True)
    await read_again(journal, clock, limits, asked)
    assert await refused(limits, asked) is None
    assert await refused(limits, asked) == "messages_per_day"


async def test_what_others_accept_counts_once_it_was_read_again(told) -> None:
    limits, journal, clock = told
    journal.says(0)
    asked = ask(messages_per_day=10)
    assert await refused(limits, asked) is None
    journal.says(1, own=True)
    journal.says(9)
    await read_again(journal, clock, limits, asked)
    assert await refused(limits, asked) == "messages_per_day"


async def test_a_tenant_that_rested_is_not_judged_by_what_was_known_before(told) -> None:
    limits, journal, clock = told
    journal.says(0)
    asked = ask(messages_per_day=10)
    assert await refused(limits, asked) is None
    clock.now += OLDEST_S
    journal.says(1, own=True)
    journal.says(9)
    assert await refused(limits, asked) == "messages_per_day"


async def test_what_was_spent_beyond_what_was_expected_counts(told) -> None:
    limits, journal, _ = told
    journal.says(1, own=True, expected=50, spent=80)
    asked = ask(adds=(1, 0, 10), spend_per_day=100)
    assert [await refused(limits, asked) for _ in range(2)] == [None, None]
    assert await limits.take(asked) == Taken("spend_per_day", 100, 0)


async def test_while_the_journal_is_away_nobody_is_let_through_on_a_guess(told) -> None:
    limits, journal, _ = told
    journal.away = True
    with pytest.raises(JournalAway):
        await limits.take(ask(messages_per_day=1))
    journal.away = False
    assert await refused(limits, ask(messages_per_day=1)) is None


@needs_redis
async def test_two_workers_share_a_quota_and_a_redis_that_forgot_is_told(redis: RedisServer) -> None:
    journal, clock = Journal(), Clock()
    one, two = (SharedLimits(redis.url, clock, Accepted(journal.accepted, clock)) for _ in range(2))
    asked = ask(messages_per_month=30)
    taken = await asyncio.gather(*(limits.take(asked) for _ in range(25) for limits in (one, two)))
    assert [t.refused for t in taken].count(None) == 30
    await redis.stop()
    await redis.start()
    journal.says(30)
    for limits in (one, two):
        clock.now += 2
        await read_again(journal, clock, limits, asked)
        assert await refused(limits, asked) == "messages_per_month"
        await limits.close()


# --- over HTTP
async def set_tenant(api: Api, **what: Any) -> Any:
    answer = await api.call("PUT", f"/v1/tenants/{api.node.tenant}", what, key=OPERATOR)
    assert answer.status == 200, answer.raw
    return answer.json


async def shown(api: Api, key: str = OPERATOR, query: str = "") -> dict[str, Any]:
    answer = await api.call("GET", f"/v1/tenants/{api.node.tenant}/quotas{query}", key=key)
    assert answer.status == 200, answer.raw
    return {line["quota"]: line for line in answer.json["data"]}


async def test_who_used_the_quota_up_is_told_which_and_until_when(api: Api) -> None:
    view = await set_tenant(api, quotas={"messages_per_day": 3, "segments_per_month": 100})
    assert view["quotas"] | {"messages_per_day": 0} == {
        "messages_per_day": 0,
        "messages_per_month": 0,
        "segments_per_day": 0,
        "segments_per_month": 100,
        "spend_per_day": 0.0,
        "spend_per_month": 0.0,
    }
    answers = await asyncio.gather(*(api.send() for _ in range(20)))
    assert [a.status for a in answers].count(202) == 3
    over = next(a for a in answers if a.status == 429)
    assert (over.code, over.json["layer"], over.fields) == ("quota_exceeded", "rate", ["quotas.messages_per_day"])
    wait_s = int(over.headers["Retry-After"])
    assert over.headers["RateLimit-Policy"] == '"tenant";q=3;w=86400'
    assert over.headers["RateLimit"] == f'"tenant";r=0;t={wait_s}'
    now = datetime.now(UTC)
    ends = datetime.fromisoformat((await shown(api))["messages_per_day"]["resets_at"])
    assert abs((ends - now).total_seconds() - wait_s) < 600 and wait_s <= 86_400
    assert f"{ends:%Y-%m-%dT%H:%M:%SZ}" in over.json["detail"]
    verdict = (await api.call("POST", "/v1/messages/validate", SMS)).json
    assert [(r["layer"], r["code"], r["field"]) for r in verdict["refusals"]] == [
        ("rate", "quota_exceeded", "quotas.messages_per_day")
    ]
    assert (await api.send(key="test")).status == 202  # counted apart
    await set_tenant(api, quotas={"messages_per_day": 4})
    assert [(await api.send()).status for _ in range(2)] == [202, 429]


async def test_what_is_used_is_shown_by_mode(api: Api) -> None:
    await set_tenant(api, quotas={"segments_per_day": 5})
    for body in (SMS, LONG, {"channel": "email", "to": "a@example.com", "content": {"text": "Hi"}}):
        await api.sent(body)
    await api.sent(key="test")
    refused_ = await api.send({**SMS, "content": {"text": "x" * 400}})
    assert (refused_.code, refused_.fields) == ("quota_exceeded", ["quotas.segments_per_day"])
    lines = await shown(api, "live")
    assert (lines["segments_per_day"]["limit"], lines["segments_per_day"]["used"]) == (5, 3)
    assert (lines["messages_per_day"]["used"], lines["messages_per_month"]["used"]) == (3, 3)
    assert (await shown(api, "test"))["messages_per_day"]["used"] == 1
    assert (await shown(api, OPERATOR, "?mode=test"))["segments_per_day"]["used"] == 1
    other = await api.call("GET", f"/v1/tenants/{api.node.tenant}/quotas?mode=test")
    assert (other.status, other.fields) == (422, ["mode"])


async def test_a_cap_on_spending_counts_the_price_of_the_carrier_that_would_be_asked(api: Api) -> None:
    await set_tenant(api, quotas={"spend_per_day": 0.035})  # a part costs 0.01
    assert [(await api.send()).status, (await api.send(LONG)).status] == [202, 202]
    over = await api.send()
    assert (over.status, over.fields) == (429, ["quotas.spend_per_day"])
    assert "at most 0.035 of the operator's currency" in over.json["detail"]
    assert (await shown(api))["spend_per_day"]["used"] == pytest.approx(0.03)


async def test_what_was_refused_later_on_does_not_count(api: Api) -> None:
    await set_tenant(api, quotas={"messages_per_day": 1})
    api.node.context.draining = True
    assert [(await api.send()).status for _ in range(3)] == [503] * 3
    api.node.context.draining = False
    first = await api.send(Idempotency_Key="k")
    assert (first.status, (await api.send(Idempotency_Key="k")).json) == (202, first.json)
    assert (await api.send()).status == 429
    batch = await api.call("POST", "/v1/messages/batch", {"messages": [SMS, SMS]})
    assert [r["problem"]["code"] for r in batch.json["results"]] == ["quota_exceeded"] * 2


@pytest.mark.parametrize(
    ("quotas", "field"),
    [
        ({"messages_per_day": -1}, "quotas.messages_per_day"),
        ({"messages_per_week": 1}, "quotas.messages_per_week"),
        ({"spend_per_day": "x"}, "quotas.spend_per_day"),
    ],
)
async def test_a_wrong_quota_is_named(api: Api, quotas: dict[str, Any], field: str) -> None:
    answer = await api.call("PUT", f"/v1/tenants/{api.node.tenant}", {"quotas": quotas}, key=OPERATOR)
    assert (answer.status, answer.fields) == (422, [field])
