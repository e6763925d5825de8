"""Whose receipt it is, when nobody knows its id."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hermes.domain.doubt import the_one
from hermes.domain.events import Event
from hermes.domain.message import Content, Message, Step

SENT = datetime(2026, 11, 24, 12, 7, 30, tzinfo=UTC)


def doubtful(message_id: str, *after: tuple[str, dict[str, Any]], segments: int = 1, sent: datetime = SENT) -> Any:
    message = Message(
        message_id,
        "ten_1",
        to={"phone": "+4520123456"},
        cascade=(Step("sms", 60.0, "delivered"),),
        content=Content(text="Hi"),
        created_at=sent,
        expires_at=sent + timedelta(hours=1),
        segments=segments,
    )
    following = {"step": 0, "attempt": 1, "channel": "sms", "carrier": "tele", "on_ambiguous": "never"}
    facts: list[tuple[str, dict[str, Any]]] = [
        ("accepted", {"next": following}),
        ("sending", {"carrier": "tele"}),
        ("ambiguous", {"carrier": "tele", "error": {"class": "retryable_transient", "code": None, "detail": ""}}),
        *after,
    ]
    events = [
        Event(n, sent, type_, None if type_ == "accepted" else 0, None if type_ == "accepted" else 1, data)
        for n, (type_, data) in enumerate(facts, 1)
    ]
    return message, events, (0, 1)


ANSWERED = ("submitted", {"carrier": "tele", "carrier_message_ids": ["other"]})
REPORTED = ("receipt", {"status": "submitted", "segment": 0, "carrier_message_id": "id-1"})


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ([], None),
        ([doubtful("msg_a")], "msg_a"),
        ([doubtful("msg_a"), doubtful("msg_b")], None),
        ([doubtful("msg_a", ANSWERED)], None),
        ([doubtful("msg_a", ANSWERED), doubtful("msg_b")], "msg_b"),
        ([doubtful("msg_a", segments=2)], None),
        ([doubtful("msg_a", REPORTED), doubtful("msg_b")], "msg_a"),
    ],
)
def test_a_receipt_is_the_one_doubtful_messages_that_fits(found: list[Any], wanted: str | None) -> None:
    one = the_one(found, "id-1", None)
    assert one == (None if wanted is None else (wanted, (0, 1)))


def test_a_message_that_had_the_receipt_of_another_id_does_not_fit() -> None:
    assert the_one([doubtful("msg_a", REPORTED)], "id-2", None) is None


@pytest.mark.parametrize(
    ("submitted", "fits"),
    [
        (SENT, True),
        (SENT.replace(second=0), True),
        (SENT + timedelta(hours=1), True),
        (SENT - timedelta(hours=5, minutes=45), True),
        (SENT + timedelta(minutes=5), False),
        (SENT - timedelta(minutes=7), False),
    ],
)
def test_the_time_it_was_submitted_must_agree_in_some_zone(submitted: datetime, fits: bool) -> None:
    assert (the_one([doubtful("msg_a")], "id-1", submitted) is not None) is fits
