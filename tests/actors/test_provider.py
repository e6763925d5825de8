"""A carrier's actor: its breaker, an operator's orders, and what becomes of what waits."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from msgspec.structs import replace

from actors import provider
from carriers.base import SendError, SendResult
from hermes.domain.commands import ControlCarrier
from hermes.runtime import Actor
from tests.actors.cast import CastNode, message, start_cast
from tests.actors.test_cast import Scripted, plan, types
from tests.actors.test_lanes import job


def failing() -> SendError:
    return SendError("retryable_transient", "500", retryable=True)


def shown(node: CastNode, name: str) -> dict[str, Any]:
    return node.system.info("provider/" + name).detail


async def order(node: CastNode, name: str, what: str) -> dict[str, Any]:
    ref = node.system.whereis("provider/" + name)
    assert ref is not None
    answer: dict[str, Any] = await ref.call(ControlCarrier(what))
    return answer


async def test_five_failures_open_the_breaker_and_the_next_carrier_gets_the_traffic() -> None:
    sick, well = Scripted("sick"), Scripted("well")
    sick.answer = lambda s: failing()
    node = await start_cast([plan(sick, breaker_open_s=60.0), plan(well)])
    for _ in range(12):
        await node.submit(message(node.tenant))
    await node.until(lambda: len(well.asked) == 12)
    assert len(sick.asked) == 5
    assert shown(node, "sick")["state"] == "down" and shown(node, "sick")["breaker"] == "open"
    await node.stop()


async def test_an_open_breaker_half_opens_and_closes_when_the_probe_succeeds() -> None:
    carrier = Scripted()
    carrier.answers = [failing(), failing()]
    node = await start_cast([plan(carrier, breaker_failures=2, breaker_open_s=0.3)])
    first, second = message(node.tenant), message(node.tenant)
    await node.submit(first)
    await node.submit(second)
    await node.until(lambda: len(carrier.asked) == 2)
    assert shown(node, "scripted")["breaker"] == "open"
    third = message(node.tenant)
    await node.submit(third)  # nobody else is left: it waits
    await node.until(lambda: any(s.message_id == third.message_id for s in carrier.asked))
    await node.until(lambda: shown(node, "scripted")["state"] == "up")
    await node.stop()


async def test_what_waits_for_a_paused_carrier_moves_to_the_next() -> None:
    first, second = Scripted("first"), Scripted("second")
    held: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    first.answers = [held]
    node = await start_cast([plan(first, max_in_flight=1), plan(second)])
    messages = [message(node.tenant) for _ in range(5)]
    for m in messages:
        await node.submit(m)
    await node.until(lambda: shown(node, "first")["queue"] == 4)
    assert (await order(node, "first", "pause"))["state"] == "paused"
    await node.until(lambda: len(second.asked) == 4)
    assert [s.attempt for s in second.asked] == [1, 1, 1, 1]  # it had certainly not left: no try was spent
    stored = await node.stored(messages[1].message_id)
    assert types(stored)[0] == "accepted"
    held.set_result(SendResult(("x",)))
    await node.stop()


class Listening(Actor):
    """Stands for a cascade that hears what its carrier says, and has not got to it yet."""

    def __init__(self, heard: list[tuple[str, Any]]) -> None:
        self._heard = heard

    def handle(self, message: Any) -> None:
        self._heard.append((type(message).__name__, getattr(message, "job", message)))


async def test_what_waits_when_the_carrier_becomes_unfit_keeps_its_place_before_what_comes_later() -> None:
    carrier = Scripted()
    held: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    carrier.answers = [held]
    node = await start_cast([plan(carrier, max_in_flight=1)])
    heard: list[tuple[str, Any]] = []
    cascade = node.system.spawn(Listening, heard)
    jobs = [replace(job(n, allowed=True), cascade=cascade, allowed=False) for n in range(6)]
    for each in jobs[:4]:
        node.system.send("provider/scripted", each)
    await node.until(lambda: shown(node, "scripted")["queue"] == 3)
    await order(node, "scripted", "pause")
    await node.until(lambda: len(heard) == 3)
    assert heard == [("ChooseAgain", each) for each in jobs[1:4]]
    for each in jobs[4:]:  # on their way when it became unfit
        node.system.send("provider/scripted", each)
    await node.until(lambda: len(heard) == 5)
    assert shown(node, "scripted")["queue"] == 5
    await order(node, "scripted", "resume")
    held.set_result(SendResult(("x",)))
    await node.until(lambda: len(carrier.asked) == 6)
    assert [submission.message_id for submission in carrier.asked] == [each.submission.message_id for each in jobs]
    await node.stop()


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_a_job_that_waited_in_the_mailbox_of_an_actor_that_ended_is_handed_over_again(end: str) -> None:
    carrier = Scripted()
    node = await start_cast([plan(carrier)])
    ref = node.system.whereis("provider/scripted")
    assert ref is not None
    ref.suspend()
    m = message(node.tenant)
    await node.submit(m)
    await node.until(lambda: ref.mailbox == 1)
    assert not carrier.asked
    ref.stop() if end == "stop" else ref.kill()
    await node.until(lambda: [asked.message_id for asked in carrier.asked] == [m.message_id])
    await node.stop()


async def test_a_paused_carrier_without_another_keeps_what_waits_until_it_is_resumed() -> None:
    carrier = Scripted()
    node = await start_cast([plan(carrier)])
    await order(node, "scripted", "pause")
    m = message(node.tenant)
    await node.submit(m)
    await node.until(lambda: shown(node, "scripted")["queue"] == 1)
    assert not carrier.asked
    assert (await order(node, "scripted", "resume"))["state"] == "up"
    await node.until(lambda: carrier.asked)
    await node.stop()


async def test_a_refused_password_stops_the_carrier_until_it_is_resumed() -> None:
    wrong, well = Scripted("wrong"), Scripted("well")
    wrong.answers = [SendError("provider_auth", "535")]
    node = await start_cast([plan(wrong), plan(well)])
    for _ in range(3):
        await node.submit(message(node.tenant))
    await node.until(lambda: len(well.asked) == 3)
    assert len(wrong.asked) == 1
    assert (shown(node, "wrong")["state"], shown(node, "wrong")["reason"]) == ("down", "provider_auth 535")
    await order(node, "wrong", "resume")
    await node.submit(message(node.tenant))
    await node.until(lambda: len(wrong.asked) == 2)
    await node.stop()


async def test_an_order_outlives_a_crash_of_the_actor() -> None:
    carrier = Scripted()
    node = await start_cast([plan(carrier)])
    await order(node, "scripted", "pause")
    ref = node.system.whereis("provider/scripted")
    assert ref is not None
    ref.send("what no provider understands")
    await node.until(lambda: node.system.whereis("provider/scripted") not in (None, ref))
    assert shown(node, "scripted")["state"] == "paused"
    await node.stop()


async def test_a_carrier_tells_its_queue_age_and_rate() -> None:
    carrier = Scripted()
    node = await start_cast([plan(carrier)])
    await node.submit(message(node.tenant))
    await node.until(lambda: shown(node, "scripted")["sent"] == 1)
    await order(node, "scripted", "pause")
    await node.submit(message(node.tenant))
    await node.until(lambda: shown(node, "scripted")["queue"] == 1)
    await node.until(lambda: shown(node, "scripted")["queue_age_s"] > 0)
    await node.until(lambda: shown(node, "scripted")["rate_per_s"] == 0.1)  # one message within the last ten seconds
    await node.stop()


async def test_what_waits_for_an_unfit_carrier_is_noted_at_once_as_not_left() -> None:
    carrier = Scripted()
    node = await start_cast([plan(carrier)])
    await order(node, "scripted", "pause")
    m = message(node.tenant)
    await node.submit(m)
    await node.until(lambda: shown(node, "scripted")["queue"] == 1)
    await node.until(lambda: not node.journal.queued)
    assert (await node.stored(m.message_id)).due is not None
    await order(node, "scripted", "resume")
    await node.until(lambda: carrier.asked)
    assert (await node.stored(m.message_id)).due is None  # taken back before the call
    await node.stop()


async def test_a_carrier_knows_its_webhook_by_the_public_url_only() -> None:
    for public_url, webhook in (
        ("https://hermes.example", "https://hermes.example/v1/webhooks/mock-sms"),
        (None, None),
    ):
        node = await start_cast(public_url=public_url)
        assert node.context.carriers["mock-sms"].carrier.callback_url == webhook
        await node.stop()


async def test_an_idle_carrier_is_asked_how_it_is_and_a_message_tells_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider, "HEALTH_EVERY_S", 0.02)
    answers: list[Any] = ["provider_auth: HTTP 401"]

    class Checked(Scripted):
        async def health(self) -> str | None:
            answer = answers[0]
            if isinstance(answer, Exception):
                raise answer
            return cast("str | None", answer)

    node = await start_cast([plan(Checked())])
    health = node.context.health["scripted"]

    async def becomes(state: str, reason: str | None) -> None:
        def shown() -> bool:
            now = node.context.clock.monotonic()
            return (health.state(now), health.reason(now)) == (state, reason)

        await node.until(shown)

    await becomes("degraded", "health check: provider_auth: HTTP 401")
    answers[0] = RuntimeError("bug")
    await becomes("degraded", "health check: RuntimeError")
    answers[0] = None
    await becomes("up", None)
    answers[0] = "unwell"
    await becomes("degraded", "health check: unwell")
    monkeypatch.setattr(provider, "HEALTH_EVERY_S", 3600)
    await node.submit(message(node.tenant))  # it is asked all the same
    await becomes("up", None)
    await node.stop()
