"""The carrier that asks an actor of this node: what each answer and each failure of the actor means."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from carriers.base import SendError, SendResult, Submission
from carriers.guest import GuestCarrier, GuestSettings
from hermes.domain.message import Content
from hermes.runtime import CallTimeout, MailboxFull, NotAlive, SystemClock
from hermes.runtime.thespian import Door, Poisoned

NOW = datetime(2026, 11, 24, tzinfo=UTC)
SUBMISSION = Submission(
    "msg_1", "ten_1", 0, 1, "sms", "+4520123456", None, Content(text="code 4711"), "otp", NOW, "msg_1-0", 1, "gsm7"
)


class Sink:
    def __init__(self, good: bool = True) -> None:
        self.good = good
        self.receipts: list[Any] = []
        self.offered = asyncio.Event()

    def receipt(self, receipt: Any, stored: Any = None) -> None:
        self.receipts.append(receipt)
        if len(self.receipts) > 1:
            self.offered.set()
        stored(self.good)


def carrier(answer: Any) -> tuple[GuestCarrier, list[Any]]:
    asked = []

    async def call(name: str, request: Any, timeout_s: float) -> Any:
        asked.append((name, request))
        if type(request) is Door:
            return "an address"
        if isinstance(answer, Exception):
            raise answer
        return answer

    made = GuestCarrier("pager", "sms", GuestSettings(guest="pager"), clock=SystemClock())
    made.call = call
    return made, asked


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        ({"carrier_message_ids": ["a"]}, SendResult(("a",))),
        ({"carrier_message_ids": ["a", "b"], "cost": 0.5}, SendResult(("a", "b"), 0.5)),
        ({}, SendResult()),
    ],
)
async def test_what_the_guest_took(answer: Any, result: SendResult) -> None:
    made, asked = carrier(answer)
    assert await made.send(SUBMISSION) == result
    name, request = asked[-1]
    assert name == "guest/pager"
    assert (request["message_id"], request["text"], request["receipts"]) == ("msg_1", "code 4711", "an address")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"error": {"class": "content_rejected", "code": 7}}, ("content_rejected", "7", False, False)),
        ({"error": {"class": "throttled", "retryable": True}}, ("throttled", None, True, False)),
        ({"error": {"class": "no such class"}}, ("unknown", None, False, False)),
        ({"error": {}}, ("unknown", None, False, False)),
        ({"unexpected": 1}, ("unknown", "malformed_answer", False, True)),
        (None, ("unknown", "malformed_answer", False, True)),
        (NotAlive("guest/pager"), ("retryable_transient", "not_alive", True, False)),
        (NotAlive("guest/pager", ValueError()), ("retryable_transient", "not_alive", True, True)),
        (MailboxFull(), ("throttled", "mailbox_full", True, False)),
        (CallTimeout(), ("retryable_transient", "timeout", False, True)),
        (Poisoned("ValueError: code 4711"), ("unknown", "failed", False, True)),
    ],
)
async def test_what_the_guest_did_not_take(answer: Any, error: Any) -> None:
    made, _ = carrier(answer)
    with pytest.raises(SendError) as raised:
        await made.send(SUBMISSION)
    told = raised.value
    assert (told.error_class, told.code, told.retryable, told.ambiguous) == error
    assert "4711" not in str(told) and "+4520123456" not in str(told)


async def test_receipts_reach_the_sink_and_nonsense_is_counted() -> None:
    made, _ = carrier({})
    sink = Sink()
    await made.open(sink)
    made._on_receipt({"carrier_message_id": "a", "status": "delivered", "at": NOW})
    made._on_receipt({"carrier_message_id": "a", "status": "undelivered", "error_class": "x", "error_code": 5})
    for nonsense in ("hello", {}, {"carrier_message_id": "a", "status": "perhaps"}):
        made._on_receipt(nonsense)
    assert [(r.status, r.error_class, r.error_code) for r in sink.receipts] == [
        ("delivered", None, None),
        ("undelivered", "unknown", "5"),
    ]
    assert sink.receipts[0].at == NOW
    assert made.inspect()["malformed"] == 3


async def test_a_receipt_that_could_not_be_stored_is_offered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carriers.guest.OFFER_AGAIN_S", 0.01)
    made, _ = carrier({})
    sink = Sink(good=False)
    await made.open(sink)
    made._on_receipt({"carrier_message_id": "a", "status": "delivered"})
    assert made.inspect()["receipts_held"] == 1
    async with asyncio.timeout(10):
        await sink.offered.wait()
    sink.good = True
