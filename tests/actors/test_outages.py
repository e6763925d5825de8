"""A provider that fails in every way, on the real tree and under a clock of our own: what becomes of the messages.

The first carrier is sick for a while, then well; the second is well all the time, or there is none. Whatever it
does: each message moves on within its step's time, the breaker opens, half-opens and closes, and nothing is lost or
doubled silently.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from carriers.base import SendError, SendResult, Submission
from hermes.domain.message import Message, Step
from hermes.testing import ManualClock
from tests.actors.cast import CastNode, message, start_cast
from tests.actors.test_cast import Scripted, plan, types

TIMEOUT_S = 2.0  # of a call
OPEN_S = 5.0
SICK_S = 30.0
STEP_S = 20.0

REFUSALS = {
    "answers 503": SendError("retryable_transient", "503", retryable=True),
    "refuses our settings": SendError("provider_config", "20003"),
    "throttles": SendError("throttled", "429", retryable=True, retry_after_s=0.5),
    "has no money": SendError("insufficient_funds", "402"),
}
DOUBTS: dict[str, Callable[[], Exception]] = {
    "hangs": lambda: SendError("retryable_transient", None, "no answer", ambiguous=True),
    "resets": lambda: SendError("retryable_transient", None, "connection lost", ambiguous=True),
    "talks garbage": lambda: SendError("unknown", None, "not an answer", ambiguous=True),
    "has a bug": lambda: ValueError("a bug of the adapter"),
}


class Sick(Scripted):
    """Fails until it is well; then takes messages and reports them delivered a second later."""

    def __init__(self, name: str, clock: ManualClock, how: str = "", channel: str = "sms") -> None:
        super().__init__(name, channel)
        self.clock = clock
        self.how = how
        self.taken: Counter[str] = Counter()
        self.left: Counter[str] = Counter()  # what may have been taken: the bytes were on their way

    def send(self, submission: Submission) -> Any:
        self.asked.append(submission)
        sick = self.how and self.clock.monotonic() < SICK_S
        if sick and self.how in REFUSALS:
            raise REFUSALS[self.how]
        self.left[submission.message_id] += 1
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if sick:
            wait = TIMEOUT_S if self.how == "hangs" else 0.05
            self.clock.call_later(wait, answer.set_exception, DOUBTS[self.how]())
            return answer
        self.taken[submission.message_id] += 1
        carrier_message_id = f"{self.name}-{len(self.asked)}"
        self.clock.call_later(0.05, answer.set_result, SendResult((carrier_message_id,)))
        self.clock.call_later(1.0, self.report, carrier_message_id, "delivered")
        return answer


class Blocking(Sick):
    """Says that the recipient has opted out."""

    def send(self, submission: Submission) -> Any:
        self.asked.append(submission)
        raise SendError("blocked_or_opted_out", "21610")


def sms(node: CastNode, clock: ManualClock, *steps: Step, **fields: Any) -> Message:
    now = clock.now()
    m = message(node.tenant, *(steps or (Step("sms", STEP_S, "delivered"),)), **fields)
    return structs.replace(m, created_at=now, expires_at=now + timedelta(hours=1))


async def play(node: CastNode, clock: ManualClock, messages: int, seconds: float, **fields: Any) -> list[str]:
    """Send so many messages, one each second, then let the time pass; returns their ids."""
    ids: list[str] = []
    for n in range(int(seconds * 4)):
        if n % 4 == 0 and len(ids) < messages:
            m = sms(node, clock, **fields)
            ids.append(m.message_id)
            await node.submit(m)
        await clock.elapse(0.25)
    return ids


def breaker_of(node: CastNode, name: str, seen: list[str]) -> None:
    """Note each state the breaker goes through, twice a second."""
    health = node.context.health[name]
    state = health.breaker.state(node.context.clock.monotonic())
    if not seen or seen[-1] != state:
        seen.append(state)
    node.context.clock.call_later(0.5, breaker_of, node, name, seen)


@pytest.mark.parametrize("how", [*REFUSALS, *DOUBTS])
async def test_messages_move_to_the_well_carrier_within_their_step_and_none_is_lost(how: str) -> None:
    clock = ManualClock()
    sick, well = Sick("sick", clock, how), Sick("well", clock)
    node = await start_cast([plan(sick, breaker_open_s=OPEN_S, timeout_s=TIMEOUT_S), plan(well)], clock=clock)
    ids = await play(node, clock, 40, 60)
    for message_id in ids:
        stored = await node.stored(message_id)
        assert stored.status == "delivered", types(stored)
        took = (stored.events[-1].at - stored.message.created_at).total_seconds()
        assert took <= STEP_S, types(stored)
        sent = sick.left[message_id] + well.left[message_id]
        told = sum(e.type == "ambiguous" for e in stored.events)
        assert sent <= 1 + told, "sent twice and nobody was told"
        if how in REFUSALS:
            assert sick.taken[message_id] + well.taken[message_id] == 1
    assert sum(sick.taken.values()) > 0, "it is asked again once it is well"
    assert node.context.open_messages == 0
    await node.stop()


@pytest.mark.parametrize(
    "how", [h for h in [*REFUSALS, *DOUBTS] if h not in ("throttles", "has no money", "refuses our settings")]
)
async def test_the_breaker_opens_half_opens_and_closes(how: str) -> None:
    clock = ManualClock()
    sick, well = Sick("sick", clock, how), Sick("well", clock)
    node = await start_cast([plan(sick, breaker_open_s=OPEN_S, timeout_s=TIMEOUT_S), plan(well)], clock=clock)
    seen: list[str] = []
    breaker_of(node, "sick", seen)
    await play(node, clock, 50, 60)
    assert seen[:3] == ["closed", "open", "half_open"]
    assert seen[-1] == "closed"
    asked_while_sick = len(sick.asked) - sum(sick.taken.values())
    under_way = TIMEOUT_S + 1 if how == "hangs" else 1  # called before the fifth failure was known
    assert asked_while_sick <= 5 + under_way + SICK_S / OPEN_S, "an open breaker lets one message through each time"
    await node.stop()


@pytest.mark.parametrize("how", [*REFUSALS, *DOUBTS])
async def test_without_another_carrier_the_next_channel_delivers_in_time(how: str) -> None:
    clock = ManualClock()
    sick, mail = Sick("sick", clock, how), Sick("mail", clock, channel="email")
    node = await start_cast([plan(sick, breaker_open_s=OPEN_S, timeout_s=TIMEOUT_S), plan(mail)], clock=clock)
    steps = (Step("sms", 5.0, "delivered"), Step("email", STEP_S, "delivered"))
    ids = []
    for _ in range(10):
        m = sms(node, clock, *steps)
        ids.append(m.message_id)
        await node.submit(m)
        await clock.elapse(1.0)
    await clock.elapse(15.0)
    for message_id in ids:
        stored = await node.stored(message_id)
        delivered = next(e for e in stored.events if e.type == "delivered")
        assert (stored.status, delivered.step) == ("delivered", 1), types(stored)
        fallback = next(e for e in stored.events if e.type == "fallback")
        assert (fallback.at - stored.message.created_at).total_seconds() <= 5.1
    await node.stop()


@pytest.mark.parametrize("how", [*DOUBTS])
async def test_under_never_no_message_leaves_twice_whatever_the_carrier_does(how: str) -> None:
    clock = ManualClock()
    sick, well = Sick("sick", clock, how), Sick("well", clock)
    node = await start_cast([plan(sick, breaker_open_s=OPEN_S, timeout_s=TIMEOUT_S), plan(well)], clock=clock)
    ids = await play(node, clock, 20, 60, on_ambiguous="never")
    for message_id in ids:
        assert sick.left[message_id] + well.left[message_id] == 1
    await node.stop()


async def test_a_recipient_who_opted_out_is_not_tried_again_on_that_channel() -> None:
    clock = ManualClock()
    blocking, well, mail = Blocking("blocking", clock), Sick("well", clock), Sick("mail", clock, channel="email")
    node = await start_cast([plan(blocking), plan(well), plan(mail)], clock=clock)
    m = sms(node, clock, Step("sms", 5.0, "delivered"), Step("sms", 5.0, "delivered"), Step("email", 5.0, "delivered"))
    await node.submit(m)
    await clock.elapse(10.0)
    stored = await node.stored(m.message_id)
    assert (stored.status, stored.events[-1].step) == ("delivered", 2)
    assert len(blocking.asked) == 1 and well.asked == []
    await node.stop()
