"""Who must not be written to: what is queued for them ends at once, and who says so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from actors.context import CarrierPlan
from carriers.base import SendError, SendResult
from hermes.domain.commands import ControlCarrier, LiftOptOut, SuppressRecipient
from hermes.domain.message import Step
from hermes.domain.suppression import OPTED_OUT
from hermes.journal.base import JournalAway
from hermes.journal.memory import MemoryJournal
from hermes.journal.suppressions import NoAddress
from tests.actors.cast import CastNode, message, start_cast
from tests.actors.test_cast import Scripted

PHONE = "+4520120001"
BLOCKED = "blocked_or_opted_out"


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Awaitable[CastNode]]]:
    nodes: list[CastNode] = []

    async def make(*carriers: Scripted, **more: Any) -> CastNode:
        nodes.append(await start_cast([CarrierPlan(c, max_in_flight=1) for c in carriers], **more))
        return nodes[-1]

    yield make
    for node in nodes:
        await node.stop()


async def stop_word(node: CastNode, address: str = PHONE, channel: str | None = "sms") -> None:
    ref = node.system.whereis("suppressions")
    assert ref is not None
    assert await ref.call(SuppressRecipient(node.tenant, channel, address, OPTED_OUT), timeout_s=5) is None


async def start_word(node: CastNode, address: str = PHONE) -> bool:
    ref = node.system.whereis("suppressions")
    assert ref is not None
    lifted: bool = await ref.call(LiftOptOut(node.tenant, "sms", address), timeout_s=5)
    return lifted


def end(stored: Any) -> tuple[str, list[str], dict[str, Any]]:
    """Status, event types, and the last event's error."""
    return stored.status, [e.type for e in stored.events], stored.events[-1].data.get("error") or {}


async def test_a_stop_ends_what_is_queued_and_leaves_others(start: Any) -> None:
    carrier = Scripted()
    node = await start(carrier)
    provider = node.system.whereis(node.context.carriers["scripted"].actor)
    await provider.call(ControlCarrier("pause"), timeout_s=5)
    doomed = message(node.tenant)
    other = message(node.tenant, to={"phone": "+4520120002"})
    code = message(node.tenant, category="otp")
    for one in (doomed, other, code):
        await node.submit(one)
    await node.until(lambda: len(node.context.queues["scripted"]) == 3)
    await stop_word(node)
    status, events, error = end(await node.final(doomed.message_id))
    assert (status, events, error["class"]) == ("failed", ["accepted", "rejected", "failed"], BLOCKED)
    assert error["code"] == "do_not_contact" and PHONE not in str(error)
    await provider.call(ControlCarrier("resume"), timeout_s=5)
    await node.until(lambda: len(carrier.asked) == 2)
    assert {s.message_id for s in carrier.asked} == {other.message_id, code.message_id}


async def test_a_stop_holds_for_what_is_scheduled_and_lets_another_channel_take_over(start: Any) -> None:
    sms, mail = Scripted("sms", "sms"), Scripted("mail", "email")
    node = await start(sms, mail)
    made = message(node.tenant, Step("sms", 60.0, "delivered"), Step("email", 60.0, "submitted"))
    made.send_at = made.created_at + timedelta(seconds=0.2)
    assert await node.submit(made) == "scheduled"
    await stop_word(node)
    status, events, _ = end(await node.final(made.message_id))
    assert (status, sms.asked) == ("delivered", [])
    assert events == ["accepted", "scheduled", "rejected", "fallback", "submitted", "delivered"]


async def test_a_retry_does_not_leave_after_a_stop(start: Any) -> None:
    carrier = Scripted()
    node = await start(carrier)
    carrier.answers = [SendError("throttled", "x", retryable=True, retry_after_s=0.2)]
    made = message(node.tenant)
    await node.submit(made)
    await node.until(lambda: carrier.asked)
    await stop_word(node)
    assert end(await node.final(made.message_id))[0] == "failed"
    assert len(carrier.asked) == 1


async def test_start_lifts_an_opt_out_and_nothing_else(start: Any) -> None:
    node = await start(Scripted())
    blocks = node.context.suppressions.blocks
    await stop_word(node)
    assert blocks(node.tenant, "sms", PHONE, "marketing")
    assert await start_word(node, "+45 20 12 00 01") is True
    assert not blocks(node.tenant, "sms", PHONE, "marketing")
    assert await start_word(node) is False
    await node.context.suppressions.add(node.tenant, "sms", PHONE, "complaint")
    assert await start_word(node) is False and await start_word(node, "nobody") is False
    assert blocks(node.tenant, "sms", PHONE, "marketing")


async def test_entries_outlive_a_restart(start: Any) -> None:
    node = await start(Scripted())
    await stop_word(node)
    again = await start(Scripted(), journal=await _reborn(node.journal))
    assert again.context.suppressions.blocks(node.tenant, "sms", PHONE, "transactional")


async def _reborn(journal: MemoryJournal) -> MemoryJournal:
    copy = journal.copy()
    await copy.start()
    return copy


async def test_whoever_waits_is_told_what_could_not_be_stored(start: Any) -> None:
    node = await start(Scripted())
    with pytest.raises(NoAddress):
        await stop_word(node, "nobody")
    node.journal.set_available(False)
    with pytest.raises(JournalAway):
        await stop_word(node)
    node.journal.set_available(True)


async def test_a_dead_device_token_is_not_written_to_again(start: Any) -> None:
    carrier = Scripted(channel="push")
    node = await start(carrier)
    carrier.answers = [SendError("invalid_destination", "UNREGISTERED")]
    made = message(node.tenant, "push", to={"push": "tok-dead"})
    await node.submit(made)
    assert end(await node.final(made.message_id))[0] == "failed"
    await node.until(lambda: node.context.suppressions.blocks(node.tenant, "push", "tok-dead", "transactional"))
    (entry,) = await node.journal.suppressions(node.tenant, None, 10)
    assert (entry.channel, entry.reason) == ("push", "invalid_destination")


@pytest.mark.parametrize(
    ("receipts", "reason"),
    [
        ([("submitted", {"error_class": BLOCKED, "error_detail": "complaint"})], "complaint"),
        ([("submitted", {"error_class": BLOCKED, "error_detail": "unsubscribed"})], "opted_out"),
        ([("delivered", {}), ("undelivered", {"error_class": "invalid_destination"})], "bounced"),
    ],
)
async def test_what_a_carrier_reports_of_the_recipient_is_remembered(start: Any, receipts: Any, reason: str) -> None:
    carrier = Scripted(channel="email")
    carrier.answer = lambda s: SendResult(("id-1",))
    node = await start(carrier)
    made = message(node.tenant, "email", to={"email": "Anna@example.com"})
    await node.submit(made)
    await node.until(lambda: len(node.context.receipts))
    for status, more in receipts:
        stored = carrier.report("id-1", status, **more)
        await node.until(lambda: stored)  # noqa: B023 - called before the next round
    blocks = node.context.suppressions.blocks
    await node.until(lambda: blocks(node.tenant, "email", "anna@example.com", "marketing"))
    (entry,) = await node.journal.suppressions(node.tenant, None, 10)
    assert (entry.address, entry.reason) == ("anna@example.com", reason)


async def test_what_a_mock_refuses_suppresses_nobody() -> None:
    node = await start_cast()
    made = message(node.tenant, "push", to={"push": "tok-rejected"})
    await node.submit(made)
    assert end(await node.final(made.message_id))[2]["class"] == "invalid_destination"
    await stop_word(node)  # goes through the same mailbox, after what the refusal would have sent
    assert [e.address for e in await node.journal.suppressions(node.tenant, None, 10)] == [PHONE]
    await node.stop()
