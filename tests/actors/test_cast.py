"""The cast over the memory journal: what happens to a message, from admission to its end, crashes included."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from msgspec import structs

from actors.context import CarrierPlan
from carriers.base import Carrier, SendError, SendResult, Submission
from hermes.domain import cascade as rules
from hermes.domain.commands import (
    Admitted,
    AlreadyFinal,
    CancelMessage,
    NotFound,
    ReceiptArrived,
    Refused,
    Submit,
    SubmitAll,
)
from hermes.domain.message import Content, Message, Step
from hermes.domain.receipt import DeliveryReceipt
from hermes.journal.base import JournalAway
from hermes.runtime import SystemClock
from hermes.testing import ManualClock
from tests.actors.cast import SECRET, CastNode, message, mock, start_cast

Answer = SendResult | SendError | asyncio.Future[Any]


class Scripted(Carrier):
    """Answers as told; keeps what it was asked; reports when the test says so."""

    kind = "scripted"
    receipt_secret = SECRET

    def __init__(self, name: str = "scripted", channel: str = "sms") -> None:
        super().__init__(name, channel)
        self.asked: list[Submission] = []
        self.cancelled: list[str] = []
        self.answers: list[Any] = []
        self.answer: Callable[[Submission], Any] = lambda s: SendResult((f"{s.message_id}-{s.step}-{s.attempt}",))

    def send(self, submission: Submission) -> Any:
        self.asked.append(submission)
        answer = self.answers.pop(0) if self.answers else self.answer(submission)
        if isinstance(answer, SendError | Exception):
            raise answer
        return answer

    async def cancel(self, carrier_message_id: str) -> bool:
        self.cancelled.append(carrier_message_id)
        return True

    def report(self, carrier_message_id: str, status: str, **more: Any) -> list[bool]:
        """Send a receipt; the list gets True once it is stored."""
        stored: list[bool] = []
        assert self.sink is not None
        self.sink.receipt(DeliveryReceipt(self.name, carrier_message_id, status, **more), stored.append)
        return stored


def plan(carrier: Carrier, **limits: Any) -> CarrierPlan:
    return CarrierPlan(carrier, **limits)


def types(stored: Any) -> list[str]:
    return [e.type for e in stored.events]


async def test_a_message_falls_from_email_to_sms_and_is_delivered() -> None:
    node = await start_cast()
    m = message(node.tenant, "email", "sms", to={"email": "undelivered@example.com", "phone": "+4520120001"})
    assert await node.submit(m) == "accepted"
    stored = await node.final(m.message_id)
    assert stored.status == "delivered"
    assert types(stored) == ["accepted", "submitted", "undelivered", "fallback", "submitted", "delivered"]
    assert node.context.open_messages == 0
    await node.stop()


async def test_messages_submitted_together_are_admitted_each_for_itself() -> None:
    node = await start_cast([plan(Scripted("sms"))])
    good, nobodys, scheduled = (
        message(node.tenant, "sms"),
        message(node.tenant, "push"),
        message(node.tenant, "sms", send_at=SystemClock().now() + timedelta(hours=1)),
    )
    submits = [Submit(one) for one in (good, nobodys, scheduled)]
    ref = node.system.whereis("tenant/" + node.tenant)
    assert ref is not None
    assert await ref.call(SubmitAll(submits), timeout_s=5) is None
    first, second, third = (submit.outcome for submit in submits)
    assert first == Admitted("accepted") and third == Admitted("scheduled")
    assert isinstance(second, Refused) and (second.code, second.field) == ("no_route", "cascade[0].channel")
    stored = await node.journal.load([m.message_id for m in (good, nobodys, scheduled)])
    assert {s.message.message_id for s in stored} == {good.message_id, scheduled.message_id}
    assert submits[1].withdraw is None and submits[0].withdraw is not None and not submits[0].withdraw()
    refused = [Submit(message(node.tenant, "push"))]
    assert await ref.call(SubmitAll(refused), timeout_s=5) is None  # answered though nothing was to be stored
    assert isinstance(refused[0].outcome, Refused)
    await node.stop()


async def test_a_throttled_carrier_takes_the_third_try() -> None:
    node = await start_cast()
    m = message(node.tenant, "sms", to={"phone": "+4520120005"})
    await node.submit(m)
    stored = await node.final(m.message_id)
    assert types(stored) == ["accepted", "rejected", "rejected", "submitted", "delivered"]
    await node.stop()


async def test_the_next_carrier_of_the_channel_is_asked_at_once_when_the_first_fails() -> None:
    first, second = Scripted("first"), Scripted("second")
    first.answers = [SendError("retryable_transient", "500", retryable=True)]
    node = await start_cast([plan(first), plan(second)])
    m = message(node.tenant)
    await node.submit(m)
    await node.until(lambda: second.asked)
    assert second.asked[0].attempt == 2
    second.report(f"{m.message_id}-0-2", "delivered")
    assert (await node.final(m.message_id)).status == "delivered"
    await node.stop()


async def test_a_step_without_a_receipt_falls_back_when_its_time_is_over() -> None:
    sms, email = Scripted("one"), Scripted("two", "email")
    node = await start_cast([plan(sms), plan(email)])
    m = message(node.tenant, Step("sms", 0.2, "delivered"), "email")
    await node.submit(m)
    await node.until(lambda: email.asked)
    email.report(f"{m.message_id}-1-1", "delivered")
    stored = await node.final(m.message_id)
    assert types(stored) == ["accepted", "submitted", "timed_out", "fallback", "submitted", "delivered"]
    await node.stop()


async def test_a_late_receipt_delivers_by_the_earlier_step_and_cancels_the_other() -> None:
    sms, email = Scripted("one"), Scripted("two", "email")
    node = await start_cast([plan(sms), plan(email)])
    m = message(node.tenant, Step("sms", 0.2, "delivered"), "email")
    await node.submit(m)
    await node.until(lambda: email.asked)
    sms.report(f"{m.message_id}-0-1", "delivered")
    stored = await node.final(m.message_id)
    assert types(stored)[-2:] == ["superseded", "delivered"]
    assert stored.events[-1].step == 0
    await node.until(lambda: email.cancelled == [f"{m.message_id}-1-1"])
    await node.stop()


async def test_a_message_nobody_answers_for_ends_unknown_when_its_time_is_over() -> None:
    node = await start_cast()
    now = SystemClock().now()
    m = message(node.tenant, to={"phone": "+4520120004"}, expires_at=now + timedelta(seconds=0.3))
    await node.submit(m)
    assert (await node.final(m.message_id)).status == "unknown"
    await node.stop()


async def test_a_waiting_cascade_is_parked_and_a_receipt_wakes_it() -> None:
    carrier = Scripted()
    node = await start_cast([plan(carrier)], linger_s=0.05)
    m = message(node.tenant)
    await node.submit(m)
    await node.until(lambda: carrier.asked)
    await node.until(lambda: node.system.whereis(f"cascade/{m.message_id}") is None)
    stored = await node.stored(m.message_id)
    assert stored.due == m.expires_at and stored.status is None
    assert len(node.context.receipts) == 0 and not node.context.lingering
    ack = carrier.report(f"{m.message_id}-0-1", "delivered")
    assert (await node.final(m.message_id)).status == "delivered"
    await node.until(lambda: ack == [True])
    await node.stop()


async def test_a_cascade_that_waits_stays_in_memory_for_as_long_as_the_context_says() -> None:
    """The alarm set while the message lay in its carrier's queue, a second ahead, does not park it."""
    clock = ManualClock()
    node = await start_cast([plan(Scripted())], clock=clock, linger_s=10.0)
    m = structs.replace(message(node.tenant), created_at=clock.now(), expires_at=clock.now() + timedelta(hours=1))
    await node.submit(m)
    await clock.elapse(9.0)
    assert node.system.whereis(f"cascade/{m.message_id}") is not None
    await clock.elapse(2.0)
    assert node.system.whereis(f"cascade/{m.message_id}") is None
    await node.stop()


async def test_a_parked_cascade_wakes_when_it_is_due() -> None:
    sms, email = Scripted("one"), Scripted("two", "email")
    node = await start_cast([plan(sms), plan(email)], linger_s=0.05)
    m = message(node.tenant, Step("sms", 3.0, "delivered"), "email")
    await node.submit(m)
    await node.until(lambda: node.system.whereis(f"cascade/{m.message_id}") is None)
    await node.until(lambda: email.asked)
    stored = await node.stored(m.message_id)
    late = (stored.events[2].at - stored.events[0].at).total_seconds() - 3.0
    assert 0 <= late < 1.0
    await node.stop()


async def test_those_that_wait_longest_are_parked_when_too_many_linger() -> None:
    node = await start_cast([plan(Scripted())], linger_limit=3)
    sent = [message(node.tenant) for _ in range(10)]
    for m in sent:
        await node.submit(m)
    await node.until(lambda: node.system.whereis(f"cascade/{sent[6].message_id}") is None)
    assert len(node.context.receipts) == 3
    assert [node.system.whereis(f"cascade/{m.message_id}") is not None for m in sent] == [False] * 7 + [True] * 3
    await node.stop()


async def test_a_scheduled_message_leaves_when_its_time_comes() -> None:
    carrier = Scripted()
    node = await start_cast([plan(carrier)], linger_s=0.05)
    m = message(node.tenant, send_at=SystemClock().now() + timedelta(seconds=3))
    assert await node.submit(m) == "scheduled"
    await node.until(lambda: node.system.whereis(f"cascade/{m.message_id}") is None)
    assert not carrier.asked
    await node.until(lambda: carrier.asked)
    assert SystemClock().now() >= m.send_at  # type: ignore[operator]
    carrier.report(f"{m.message_id}-0-1", "delivered")
    stored = await node.final(m.message_id)
    assert types(stored) == ["accepted", "scheduled", "submitted", "delivered"]
    await node.stop()


async def test_cancel_stops_a_scheduled_message_and_asks_the_carrier_of_a_submitted_one() -> None:
    carrier = Scripted()
    node = await start_cast([plan(carrier)], linger_s=0.05)
    tenant = node.system.whereis("tenant/" + node.tenant)
    assert tenant is not None
    later = message(node.tenant, send_at=SystemClock().now() + timedelta(hours=1))
    sent = message(node.tenant)
    await node.submit(later)
    await node.submit(sent)
    await node.until(lambda: carrier.asked)
    for m in (later, sent):
        await tenant.call(CancelMessage(m.message_id))
        assert (await node.stored(m.message_id)).status == "cancelled"
        with pytest.raises(AlreadyFinal):
            await tenant.call(CancelMessage(m.message_id))
    await node.until(lambda: carrier.cancelled == [f"{sent.message_id}-0-1"])
    with pytest.raises(NotFound):
        await tenant.call(CancelMessage("msg_00000000000000000000000000"))
    await node.stop()


# --- crashes ----------------------------------------------------------------------------------------------------


async def restart(node: CastNode, carriers: list[CarrierPlan], **settings: Any) -> CastNode:
    """A process that vanished, and the next one over what was committed."""
    journal = node.journal.copy()  # type: ignore[attr-defined]
    await node.stop(crash=True)
    await journal.start()
    return await start_cast(carriers, journal, **settings)


async def test_what_was_in_a_carriers_hands_at_a_crash_is_sent_again_and_says_so() -> None:
    carrier = Scripted()
    carrier.answers = [asyncio.get_running_loop().create_future()]
    node = await start_cast([plan(carrier)])
    m = message(node.tenant)
    await node.submit(m)
    await node.until(lambda: carrier.asked)
    again = Scripted()
    node = await restart(node, [plan(again)])
    await node.until(lambda: again.asked)
    assert again.asked[0].attempt == 2
    assert again.asked[0].client_reference == carrier.asked[0].client_reference
    again.report(f"{m.message_id}-0-2", "delivered")
    stored = await node.final(m.message_id)
    assert types(stored) == ["accepted", "ambiguous", "submitted", "delivered"]
    assert stored.events[1].data["next"]["recovered"] is True
    await node.stop()


async def test_under_never_what_was_in_a_carriers_hands_at_a_crash_is_not_sent_again() -> None:
    carrier = Scripted()
    carrier.answers = [asyncio.get_running_loop().create_future()]
    node = await start_cast([plan(carrier)])
    m = message(node.tenant, Step("sms", 0.3, "delivered"), "sms", on_ambiguous="never")
    await node.submit(m)
    await node.until(lambda: carrier.asked)
    again = Scripted()
    node = await restart(node, [plan(again)])
    await node.until(lambda: again.asked)
    assert [(s.step, s.attempt) for s in again.asked] == [(1, 1)]
    stored = await node.stored(m.message_id)
    assert types(stored)[:5] == ["accepted", "sending", "ambiguous", "timed_out", "fallback"]
    await node.stop()


async def test_under_never_what_had_not_left_at_a_crash_is_sent() -> None:
    carrier = Scripted()
    carrier.answers = [asyncio.get_running_loop().create_future()]
    node = await start_cast([plan(carrier, max_in_flight=1)])
    first, second = message(node.tenant, on_ambiguous="never"), message(node.tenant, on_ambiguous="never")
    await node.submit(first)
    await node.until(lambda: carrier.asked)
    await node.submit(second)
    again = Scripted()
    node = await restart(node, [plan(again)])
    await node.until(lambda: again.asked)
    assert [(s.message_id, s.attempt) for s in again.asked] == [(second.message_id, 1)]
    await node.stop()


async def test_a_receipt_finds_its_message_after_a_crash() -> None:
    carrier = Scripted()
    node = await start_cast([plan(carrier)])
    m = message(node.tenant)
    await node.submit(m)
    await node.until(lambda: len(node.context.receipts))
    await node.until(lambda: not node.journal.queued)
    again = Scripted()
    node = await restart(node, [plan(again)])
    again.report(f"{m.message_id}-0-1".upper(), "delivered")
    assert (await node.final(m.message_id)).status == "delivered"
    assert not again.asked
    await node.stop()


async def test_mock_receipts_survive_a_crash() -> None:
    node = await start_cast([mock("m", "sms", receipt_delay_ms=500)])
    m = message(node.tenant)
    await node.submit(m)
    await node.until(lambda: len(node.context.receipts))
    await node.until(lambda: not node.journal.queued)
    node = await restart(node, [mock("m", "sms", receipt_delay_ms=500)])
    stored = await node.final(m.message_id)
    assert types(stored) == ["accepted", "submitted", "delivered"]
    await node.stop()


async def test_mock_receipts_survive_parking() -> None:
    node = await start_cast([mock("m", "sms", receipt_delay_ms=3000)], linger_s=0.05)
    m = message(node.tenant)
    await node.submit(m)
    await node.until(lambda: node.system.whereis(f"cascade/{m.message_id}") is None)
    node = await restart(node, [mock("m", "sms", receipt_delay_ms=3000)])
    assert (await node.final(m.message_id)).status == "delivered"
    await node.stop()


async def test_an_orderly_stop_leaves_nothing_in_doubt() -> None:
    carrier = Scripted()
    carrier.answers = [asyncio.get_running_loop().create_future()]
    node = await start_cast([plan(carrier, max_in_flight=1)])
    first, waiting = message(node.tenant), message(node.tenant)
    await node.submit(first)
    await node.until(lambda: carrier.asked)
    await node.submit(waiting)
    node.context.draining = True
    held = node.system.whereis(f"cascade/{waiting.message_id}")
    assert held is not None
    await node.system.shutdown()
    await node.until(lambda: not node.journal.queued)
    journal = node.journal.copy()  # type: ignore[attr-defined]
    await journal.start()
    again = Scripted()
    node = await start_cast([plan(again)], journal)
    await node.until(lambda: len(again.asked) == 2)
    tries = {s.message_id: s.attempt for s in again.asked}
    assert tries == {first.message_id: 2, waiting.message_id: 1}  # the first had left, the other had not
    await node.stop()


async def test_a_cascade_that_crashes_is_resumed_and_given_up_after_five_crashes() -> None:
    carrier = Scripted()
    node = await start_cast([plan(carrier)])
    m = message(node.tenant)
    await node.submit(m)
    await node.until(lambda: carrier.asked)
    for n in range(rules.MAX_CRASHES):
        ref = await node.until(lambda: node.system.whereis(f"cascade/{m.message_id}"))
        ref.send("what no cascade understands")

        async def crashed(n: int = n) -> bool:
            return types(await node.stored(m.message_id)).count("crashed") == n + 1

        await node.until(crashed)
    stored = await node.final(m.message_id)
    assert stored.status == "failed"
    assert stored.events[-1].data["error"]["code"] == "cascade_crashed"
    assert len(carrier.asked) == 1
    await node.stop()


async def test_a_carrier_actor_that_crashes_gives_its_jobs_back() -> None:
    carrier = Scripted()
    carrier.answers = [asyncio.get_running_loop().create_future()]
    node = await start_cast([plan(carrier, max_in_flight=1)])
    left, waiting = message(node.tenant), message(node.tenant)
    await node.submit(left)
    await node.until(lambda: carrier.asked)
    await node.submit(waiting)
    provider = node.system.whereis("provider/scripted")
    assert provider is not None
    provider.send("what no provider understands")
    await node.until(lambda: len(carrier.asked) == 3)
    tries = {s.message_id: s.attempt for s in carrier.asked[1:]}
    assert tries == {left.message_id: 2, waiting.message_id: 1}
    await node.stop()


async def test_a_bug_in_a_carrier_is_in_doubt_and_harms_nobody() -> None:
    carrier = Scripted()
    carrier.answers = [ZeroDivisionError("bug")]
    node = await start_cast([plan(carrier)])
    m = message(node.tenant)
    await node.submit(m)
    await node.until(lambda: len(carrier.asked) == 2)
    assert types(await node.stored(m.message_id))[:2] == ["accepted", "ambiguous"]
    await node.stop()


# --- receipts ---------------------------------------------------------------------------------------------------


async def test_a_receipt_that_comes_before_the_submit_answer_is_not_lost() -> None:
    node = await start_cast([mock("m", "sms", early_receipt_rate=1.0)])
    sent = [message(node.tenant) for _ in range(50)]
    for m in sent:
        await node.submit(m)
    for m in sent:
        assert (await node.final(m.message_id)).status == "delivered"
    await node.until(lambda: not node.context.receipts.unmatched)
    await node.stop()


async def test_an_unknown_receipt_is_parked_and_matched_after_a_crash() -> None:
    carrier = Scripted()
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    carrier.answers = [answer]
    node = await start_cast([plan(carrier)])
    ack = carrier.report("early-1", "delivered")
    await node.until(lambda: ack == [True])
    again = Scripted()
    again.answers = [SendResult(("EARLY-1",))]
    node = await restart(node, [plan(again)])
    m = message(node.tenant)
    await node.submit(m)
    assert (await node.final(m.message_id)).status == "delivered"

    async def dropped() -> bool:
        return not await node.journal.parked_receipts(10)

    await node.until(dropped)
    await node.stop()


async def test_a_receipt_is_not_acknowledged_while_the_database_is_away() -> None:
    carrier = Scripted()
    node = await start_cast([plan(carrier)])
    node.journal.set_available(False)  # type: ignore[attr-defined]
    ack = carrier.report("nobody-knows", "delivered")
    await node.until(lambda: ack == [False])
    await node.stop()


async def test_a_receipt_after_the_end_is_recorded_and_a_repeat_is_not() -> None:
    carrier = Scripted()
    node = await start_cast([plan(carrier)])
    m = message(node.tenant)
    await node.submit(m)
    await node.until(lambda: carrier.asked)
    carrier.report(f"{m.message_id}-0-1", "delivered")
    await node.final(m.message_id)
    for _ in range(2):
        ack = carrier.report(f"{m.message_id}-0-1", "read")
        await node.until(partial([True].__eq__, ack))
    stored = await node.stored(m.message_id)
    assert types(stored) == ["accepted", "submitted", "delivered", "receipt"]
    await node.until(lambda: node.system.whereis(f"cascade/{m.message_id}") is None)
    await node.stop()


async def test_a_positive_receipt_corrects_a_failed_message() -> None:
    carrier = Scripted()
    node = await start_cast([plan(carrier)])
    m = message(node.tenant)
    await node.submit(m)
    await node.until(lambda: carrier.asked)
    carrier.report(f"{m.message_id}-0-1", "undelivered")
    assert (await node.final(m.message_id)).status == "failed"
    carrier.report(f"{m.message_id}-0-1", "delivered")

    async def corrected() -> bool:
        return (await node.stored(m.message_id)).status == "delivered"

    await node.until(corrected)
    assert types(await node.stored(m.message_id))[-1] == "corrected"
    await node.stop()


# --- pressure ---------------------------------------------------------------------------------------------------


async def test_a_full_queue_refuses_new_messages_and_loses_none() -> None:
    carrier = Scripted()
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    carrier.answers = [answer]
    node = await start_cast([plan(carrier, max_in_flight=1, queue_limit=10)])
    sent = []
    with pytest.raises(Refused) as refused:
        for _ in range(50):
            m = message(node.tenant)
            await node.submit(m)
            sent.append(m)
            await node.until(lambda: carrier.asked)
    assert refused.value.code == "overloaded"
    answer.set_result(SendResult(("first",)))
    await node.until(lambda: len(carrier.asked) == len(sent))
    await node.stop()


async def fill(node: CastNode, tenant: str) -> tuple[int, str]:
    """Submit until it is refused; gives how many were taken, and why no more were."""
    for n in range(2_000):
        try:
            await node.submit(message(tenant))
        except Refused as refused:
            return n, refused.code
    raise AssertionError("nothing bounds this tenant")


async def test_a_tenant_that_fills_a_carriers_queue_leaves_room_for_another() -> None:
    carrier = Scripted()
    held: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    carrier.answers = [held]
    node = await start_cast([plan(carrier, max_in_flight=1, queue_limit=1000)])
    other = (await node.context.directory.create_tenant("other")).id
    taken, code = await fill(node, node.tenant)
    assert (taken >= 901, code) == (True, "overloaded")
    late = message(other)
    assert await node.submit(late) == "accepted"
    await node.until(lambda: node.context.queues["scripted"].waiting(other) == 1)
    assert node.context.queues["scripted"].waiting(node.tenant) == 900  # what else it has waits in its cascades
    assert (await fill(node, other))[1] == "overloaded"
    held.set_result(SendResult(("first",)))
    await node.until(lambda: late.message_id in {s.message_id for s in carrier.asked})
    before = [s.tenant for s in carrier.asked].index(other)
    assert before <= 1 + 8  # its turn comes after one of the others' quantum
    carrier.report(f"{late.message_id}-0-1", "delivered")
    assert (await node.final(late.message_id)).status == "delivered"
    await node.stop()


async def test_a_tenant_that_has_as_much_open_as_it_may_leaves_room_for_another() -> None:
    carrier = Scripted()
    node = await start_cast([plan(carrier)], max_open_messages=1000)
    other = (await node.context.directory.create_tenant("other")).id
    assert await fill(node, node.tenant) == (900, "too_many_open")
    late = message(other)
    assert await node.submit(late) == "accepted"
    await node.until(lambda: len(carrier.asked) == 901)
    carrier.report(f"{late.message_id}-0-1", "delivered")
    assert (await node.final(late.message_id)).status == "delivered"
    await node.until(lambda: other not in node.context.open_of)
    assert node.context.open_messages == node.context.open_of[node.tenant] == 900
    assert await fill(node, other) == (50, "too_many_open")  # as much as is free then
    await node.stop()


async def test_a_carriers_rate_is_kept() -> None:
    carrier = Scripted()
    times: list[float] = []
    loop = asyncio.get_running_loop()
    carrier.answer = lambda s: times.append(loop.time()) or SendResult((s.message_id,))  # type: ignore[func-returns-value]
    node = await start_cast([plan(carrier, throughput_per_s=100.0)])
    for _ in range(40):
        await node.submit(message(node.tenant))
    await node.until(lambda: len(times) == 40)
    # 40 messages at 100/s, of which 5 may go ahead: at least 0.34 s; never faster, whatever the machine does
    assert times[-1] - times[0] >= 0.33
    await node.stop()


async def test_one_time_codes_overtake_marketing_in_a_carriers_queue() -> None:
    carrier = Scripted()
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    carrier.answers = [answer]
    node = await start_cast([plan(carrier, max_in_flight=1)])
    await node.submit(message(node.tenant, category="marketing"))
    await node.until(lambda: carrier.asked)
    for category in ("marketing", "transactional", "otp"):
        await node.submit(message(node.tenant, category=category))
    await node.until(
        lambda: (
            len(node.system.info("provider/scripted").detail)
            and node.system.info("provider/scripted").detail["queue"] == 3
        )
    )
    answer.set_result(SendResult(("first",)))
    await node.until(lambda: len(carrier.asked) == 4)
    assert [s.category for s in carrier.asked[1:]] == ["otp", "transactional", "marketing"]
    await node.stop()


@pytest.mark.parametrize(
    ("settings", "channel", "code"),
    [({"max_open_messages": 1}, "sms", "too_many_open"), ({}, "push", "no_route")],
)
async def test_a_message_that_cannot_be_taken_is_refused_and_not_stored(
    settings: dict[str, Any], channel: str, code: str
) -> None:
    node = await start_cast([plan(Scripted())], **settings)
    node.context.open_messages = 1
    m = message(node.tenant, channel)
    with pytest.raises(Refused) as refused:
        await node.submit(m)
    assert refused.value.code == code
    assert not await node.journal.load([m.message_id])
    await node.stop()


async def test_nothing_is_accepted_while_the_database_is_away_and_work_goes_on_after() -> None:
    node = await start_cast()
    node.journal.set_available(False)  # type: ignore[attr-defined]
    with pytest.raises(Refused) as refused:
        await node.submit(message(node.tenant))
    assert refused.value.code == "journal_away"
    node.journal.set_available(True)  # type: ignore[attr-defined]
    m = message(node.tenant)
    await node.submit(m)
    assert (await node.final(m.message_id)).status == "delivered"
    await node.stop()


async def test_a_test_keys_message_goes_to_the_sandbox_only() -> None:
    carrier = Scripted()
    node = await start_cast([plan(carrier)])
    m = message(node.tenant, "push", mode="test", content=Content(title="Hi"))
    await node.submit(m)
    stored = await node.final(m.message_id)
    assert stored.status == "delivered" and stored.events[1].data["carrier"] == "sandbox"
    assert not carrier.asked
    await node.stop()


async def test_a_message_whose_carrier_is_not_set_any_more_takes_the_next_one() -> None:
    first, second = Scripted("first"), Scripted("second")
    node = await start_cast([plan(first), plan(second)], linger_s=0.05)
    m = message(node.tenant, send_at=SystemClock().now() + timedelta(seconds=3))
    await node.submit(m)
    await node.until(lambda: node.system.whereis(f"cascade/{m.message_id}") is None)
    second = Scripted("second")
    node = await restart(node, [plan(second)])
    await node.until(lambda: second.asked)

    async def submitted() -> bool:
        return types(await node.stored(m.message_id)) == ["accepted", "scheduled", "submitted"]

    await node.until(submitted)
    assert second.asked[0].attempt == 1
    await node.stop()


async def test_open_messages_of_a_deleted_tenant_still_end_after_a_restart() -> None:
    carrier = Scripted()
    node = await start_cast([plan(carrier)])
    other = await node.context.directory.create_tenant("other")
    m = message(other.id)
    await node.submit(m)
    await node.until(lambda: len(node.context.receipts))
    await node.context.directory.delete_tenant(other.id)
    await node.until(lambda: not node.journal.queued)
    again = Scripted()
    node = await restart(node, [plan(again)])
    again.report(f"{m.message_id}-0-1", "delivered")
    assert (await node.final(m.message_id)).status == "delivered"
    await node.stop()


async def test_a_full_queue_is_asked_again_after_a_while_and_not_in_a_busy_loop() -> None:
    carrier = Scripted()
    held: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    carrier.answers = [held]
    node = await start_cast([plan(carrier, max_in_flight=1, queue_limit=1)])
    sent = [message(node.tenant) for _ in range(3)]
    await asyncio.gather(*(node.submit(m) for m in sent))
    await node.until(lambda: carrier.asked and node.system.info("provider/scripted").detail["queue"] == 1)
    waiting = [node.system.info(f"cascade/{m.message_id}") for m in sent]
    before = sum(info.messages_in for info in waiting)
    end = asyncio.get_running_loop().time() + 0.3
    await node.until(lambda: asyncio.get_running_loop().time() > end)
    assert sum(node.system.info(f"cascade/{m.message_id}").messages_in for m in sent) - before < 5
    held.set_result(SendResult(("x",)))
    await node.until(lambda: len(carrier.asked) == 3)
    await node.stop()


async def test_the_answer_of_a_call_that_overtook_its_withdrawal_is_recorded_and_cancelled() -> None:
    sms, email = Scripted("one"), Scripted("two", "email")
    late: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    email.answers = [late]
    node = await start_cast([plan(sms), plan(email)])
    m = message(node.tenant, Step("sms", 0.2, "delivered"), "email")
    await node.submit(m)
    await node.until(lambda: email.asked)
    sms.report(f"{m.message_id}-0-1", "delivered")
    await node.final(m.message_id)
    late.set_result(SendResult(("late-id",)))
    await node.until(lambda: email.cancelled == ["late-id"])
    stored = await node.stored(m.message_id)
    assert types(stored)[-1] == "submitted" and stored.status == "delivered"
    await node.stop()


async def test_a_caller_is_told_whether_a_receipt_was_matched_or_parked() -> None:
    carrier = Scripted()
    node = await start_cast([plan(carrier)])
    m = message(node.tenant)
    await node.submit(m)
    await node.until(lambda: carrier.asked)
    dlr = node.system.whereis("dlr")
    assert dlr is not None
    known = DeliveryReceipt("scripted", f"{m.message_id}-0-1", "delivered")
    assert await dlr.call(ReceiptArrived(known)) == "matched"
    assert await dlr.call(ReceiptArrived(DeliveryReceipt("scripted", "nobody", "delivered"))) == "parked"
    node.journal.set_available(False)  # type: ignore[attr-defined]
    with pytest.raises(JournalAway):
        await dlr.call(ReceiptArrived(DeliveryReceipt("scripted", "other", "delivered")))
    await node.stop()


async def test_what_waited_in_a_carriers_queue_at_a_crash_is_not_in_doubt() -> None:
    carrier = Scripted()
    carrier.answers = [asyncio.get_running_loop().create_future()]
    node = await start_cast([plan(carrier, max_in_flight=1)])
    left, waiting = message(node.tenant), message(node.tenant)
    await node.submit(left)
    await node.until(lambda: carrier.asked)
    await node.submit(waiting)

    async def noted() -> bool:
        return (await node.stored(waiting.message_id)).due is not None

    await node.until(noted)
    assert (await node.stored(left.message_id)).due is None
    again = Scripted()
    node = await restart(node, [plan(again)])
    await node.until(lambda: len(again.asked) == 2)
    assert {s.message_id: s.attempt for s in again.asked} == {left.message_id: 2, waiting.message_id: 1}

    async def submitted() -> bool:
        return types(await node.stored(waiting.message_id)) == ["accepted", "submitted"]

    await node.until(submitted)
    await node.stop()


async def test_what_waited_long_in_a_carriers_queue_is_in_doubt_again_once_it_has_left() -> None:
    carrier = Scripted()
    first: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    carrier.answers = [first, asyncio.get_running_loop().create_future()]
    node = await start_cast([plan(carrier, max_in_flight=1)])
    blocking, waiting = message(node.tenant), message(node.tenant)
    await node.submit(blocking)
    await node.until(lambda: carrier.asked)
    await node.submit(waiting)

    async def noted() -> bool:
        return (await node.stored(waiting.message_id)).due is not None

    await node.until(noted)
    first.set_result(SendResult(("first",)))
    await node.until(lambda: len(carrier.asked) == 2)  # it asked first: the note is gone before the call
    assert (await node.stored(waiting.message_id)).due is None
    again = Scripted()
    node = await restart(node, [plan(again)])
    await node.until(lambda: again.asked)
    assert (again.asked[0].message_id, again.asked[0].attempt) == (waiting.message_id, 2)
    await node.stop()


async def test_what_may_leave_is_not_noted_as_not_left_while_its_carrier_has_yet_to_hear_so() -> None:
    carrier = Scripted()
    first: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    carrier.answers = [first]
    node = await start_cast([plan(carrier, max_in_flight=1)])
    provider = node.system.whereis("provider/scripted")
    assert provider is not None
    blocking, waiting, later = (message(node.tenant) for _ in range(3))

    async def noted(m: Message) -> bool:
        return (await node.stored(m.message_id)).due is not None

    await node.submit(blocking)
    await node.until(lambda: carrier.asked)
    await node.submit(waiting)
    await node.until(partial(noted, waiting))
    node.journal.set_available(False)  # type: ignore[attr-defined]
    first.set_result(SendResult(("first",)))
    await node.until(lambda: node.journal.queued == 2)  # what was answered, and that `waiting` may leave
    provider.suspend()
    node.journal.set_available(True)  # type: ignore[attr-defined]
    await node.submit(later)
    await node.until(partial(noted, later))  # its second is over, and so is that of `waiting`
    assert not await noted(waiting)  # a crash would send it again without a word
    provider.resume()
    await node.until(lambda: len(carrier.asked) == 3)
    await node.stop()


async def test_webhooks_that_are_not_done_are_counted() -> None:
    carrier = Scripted()
    node = await start_cast([plan(carrier)])
    m = message(node.tenant, callback_url="http://127.0.0.1:1/nobody-listens")
    await node.submit(m)
    await node.until(lambda: carrier.asked)
    carrier.report(f"{m.message_id}-0-1", "delivered")
    await node.until(lambda: node.context.webhooks_pending == 1)
    await node.stop()
