"""Inbound messages: stored before they are acknowledged, with the tenant they belong to and its webhooks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors import mo
from hermes.domain.commands import ControlCarrier
from hermes.domain.inbound import Inbound, InboundReceived, Keywords, NumberOwner
from hermes.journal.base import JournalAway, OutboxItem
from hermes.journal.memory import MemoryJournal
from tests.actors.cast import CastNode, message, start_cast

SENDER = "+4520120001"


def inbound(text: str | None = "Hello", recipient: str = "1234", **fields: Any) -> Inbound:
    return Inbound(
        **{"carrier": "mock-sms", "channel": "sms", "sender": SENDER, **fields}, recipient=recipient, text=text
    )


@pytest.fixture
async def node() -> AsyncIterator[CastNode]:
    made = await start_cast()
    made.context.numbers = (NumberOwner("1234", made.tenant),)
    yield made
    await made.stop()


async def bring(node: CastNode, message: Inbound) -> str:
    ref = node.system.whereis("mo")
    assert ref is not None
    return str(await ref.call(InboundReceived(message), timeout_s=5))


async def webhooks(node: CastNode) -> list[OutboxItem]:
    return list(node.journal._store.outbox.values())  # type: ignore[attr-defined]


async def test_a_message_to_a_tenants_number_is_stored_and_told(node: CastNode) -> None:
    endpoint = await node.context.directory.create_endpoint(node.tenant, "http://127.0.0.1:9/", ["inbound.received"])
    await node.context.directory.create_endpoint(node.tenant, "http://127.0.0.1:9/", [])  # the default: not inbound
    assert await bring(node, inbound(media=("https://m.example/1",), parts=2)) == "stored"
    (record,) = await node.journal.inbound(node.tenant, 10)
    assert record.inbound == inbound(media=("https://m.example/1",), parts=2)
    (item,) = await webhooks(node)
    assert (item.message_id, item.seq, item.target, item.type) == (
        *(record.inbound_id, 1, endpoint.id),
        "inbound.received",
    )
    assert item.payload is not None
    told = json.loads(item.payload)
    assert told.pop("received_at")
    assert told == {
        "from": SENDER,
        "to": "1234",
        "text": "Hello",
        "channel": "sms",
        "carrier": "mock-sms",
        "parts": 2,
        "media": ["https://m.example/1"],
    }


async def test_what_a_carrier_brings_again_is_told_once(node: CastNode) -> None:
    await node.context.directory.create_endpoint(node.tenant, "http://127.0.0.1:9/", ["inbound.received"])
    assert await bring(node, inbound(carrier_message_id="SM1")) == "stored"
    assert await bring(node, inbound(carrier_message_id="SM1")) == "repeated"
    assert len(await node.journal.inbound(node.tenant, 10)) == 1
    assert len(await webhooks(node)) == 1


async def test_a_tenants_own_numbers_count(node: CastNode) -> None:
    tenant = node.context.directory.tenant(node.tenant)
    assert tenant is not None
    tenant.settings["numbers"] = ["+4599999999"]
    assert await bring(node, inbound(recipient="4599999999")) == "stored"


async def test_an_answer_belongs_to_who_wrote_last_over_that_carrier(node: CastNode) -> None:
    sent = message(node.tenant, to={"phone": SENDER})
    await node.submit(sent)
    await node.final(sent.message_id)
    assert await bring(node, inbound(recipient="+4599999999")) == "stored"
    assert await bring(node, inbound(recipient="+4599999999", carrier="another")) == "unrouted"


async def test_nobodys_message_is_kept(node: CastNode) -> None:
    assert await bring(node, inbound(recipient="+4599999999")) == "unrouted"
    (record,) = await node.journal.inbound(None, 10)
    assert (record.tenant, record.inbound.text) == (None, "Hello")
    node.context.numbers = (NumberOwner("1234", "ten_gone"),)
    assert await bring(node, inbound()) == "unrouted"


async def test_nothing_is_acknowledged_while_the_journal_is_away(node: CastNode) -> None:
    journal = node.journal
    assert isinstance(journal, MemoryJournal)
    told: list[bool] = []
    journal.set_available(False)
    with pytest.raises(JournalAway):
        await bring(node, inbound())
    node.system.send("mo", InboundReceived(inbound(), told.append))
    await node.until(lambda: told)
    assert told == [False]
    journal.set_available(True)
    node.system.send("mo", InboundReceived(inbound(), told.append))
    await node.until(lambda: len(told) == 2)
    assert told == [False, True]
    assert len(await journal.inbound(node.tenant, 10)) == 1


async def test_beyond_its_limit_carriers_are_asked_to_offer_again(
    node: CastNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mo, "WAITING_LIMIT", 5)
    told: list[bool] = []
    for _ in range(100):
        node.system.send("mo", InboundReceived(inbound(), told.append))
    await node.until(lambda: len(told) == 100)
    assert 0 < told.count(False) < 100
    assert len(await node.journal.inbound(node.tenant, 200)) == told.count(True)


async def test_any_text_can_be_stored(node: CastNode) -> None:
    for text in ("nul\0", "lone \ud800", "💬", "", None):
        assert await bring(node, inbound(text, carrier_message_id=f"id {text}")) == "stored"
    stored = {record.inbound.text for record in await node.journal.inbound(node.tenant, 10)}
    assert stored == {None, "", "💬", "lone ?", "nul\0"}


def blocked(node: CastNode, category: str = "transactional", channel: str = "sms") -> bool:
    return node.context.suppressions.blocks(node.tenant, channel, SENDER, category)


async def test_stop_suppresses_that_recipient_on_that_channel_and_is_told(node: CastNode) -> None:
    events = ["inbound.received", "recipient.opted_out"]
    await node.context.directory.create_endpoint(node.tenant, "http://127.0.0.1:9/", events)
    assert await bring(node, inbound("Stop!", carrier_message_id="SM1")) == "stored"
    assert blocked(node)
    assert blocked(node, "marketing")
    assert not blocked(node, "otp")
    assert not blocked(node, channel="whatsapp")
    received, opted_out = await webhooks(node)
    assert (received.seq, received.type) == (1, "inbound.received")
    assert (opted_out.seq, opted_out.type, opted_out.message_id) == (2, "recipient.opted_out", received.message_id)
    assert json.loads(opted_out.payload or "") == {
        "recipient": SENDER,
        "channel": "sms",
        "number": "1234",
        "keyword": "STOP",
    }


async def test_start_lifts_an_opt_out_and_help_changes_nothing(node: CastNode) -> None:
    await bring(node, inbound("AFMELD"))
    await bring(node, inbound("HELP"))
    assert blocked(node)
    await bring(node, inbound("start"))
    assert not blocked(node)


async def test_a_carriers_own_words_and_own_word_count(node: CastNode) -> None:
    node.context.carriers["mock-sms"].carrier.keywords = Keywords({"stop": ["Afslut"]})
    await bring(node, inbound("STOP"))
    assert not blocked(node)
    await bring(node, inbound("afslut"))
    assert blocked(node)
    await bring(node, inbound("weiter", asked="start"))
    assert not blocked(node)


async def test_a_stop_to_nobodys_number_or_of_no_number_changes_nothing(node: CastNode) -> None:
    assert await bring(node, inbound("STOP", recipient="+4599999999")) == "unrouted"
    assert await bring(node, inbound("STOP", sender="Acme")) == "stored"
    assert len(node.context.suppressions) == 0


async def test_a_stop_is_not_acknowledged_before_it_counts(node: CastNode) -> None:
    journal = node.journal
    assert isinstance(journal, MemoryJournal)
    journal.set_available(False)
    with pytest.raises(JournalAway):
        await bring(node, inbound("STOP", carrier_message_id="SM1"))
    journal.set_available(True)
    assert not blocked(node)
    assert await bring(node, inbound("STOP", carrier_message_id="SM1")) == "stored"
    assert blocked(node)


async def test_what_is_queued_for_who_opted_out_ends(node: CastNode) -> None:
    ref = node.system.whereis("provider/mock-sms")
    assert ref is not None
    await ref.call(ControlCarrier("pause"), timeout_s=5)
    sent = message(node.tenant, to={"phone": SENDER})
    await node.submit(sent)
    await bring(node, inbound("STOP"))
    await ref.call(ControlCarrier("resume"), timeout_s=5)
    stored = await node.final(sent.message_id)
    assert stored.status == "failed"
    assert stored.events[-1].data["error"]["class"] == "blocked_or_opted_out"
