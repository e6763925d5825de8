"""The public message, field by field."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from hermes.domain.cascade import Begin, Cancel, InDoubt, Receipt, Sending, Submitted, TimePassed
from hermes.domain.events import Event
from hermes.domain.message import Step
from hermes.domain.view import public_message
from tests.domain.test_cascade import NEVER, A
from tests.domain.world import MESSAGE_ID, START, World, message


def told(*inputs: tuple[float, Any], routes=None, **about) -> World:
    """Live through inputs at seconds after the start."""
    steps = about.pop("steps", ("sms", "email"))
    world = World(message(*steps, **about), routes or [[A] for _ in steps])
    for seconds, input in inputs:
        world.now = START + timedelta(seconds=seconds)
        world.calls[0, 1] = 1
        world.take(input)
        world.commit_all()
    return world


DELIVERED = (
    (0, Begin()),
    (1, Submitted(0, 1, "a", ("x", "y"), 2, 0.1)),
    (2, Receipt(0, 1, 0, "x", "delivered", at=START)),
    (3, Receipt(0, 1, 1, "y", "delivered")),
)


def test_a_delivered_message_looks_like_this():
    world = told(*DELIVERED, segments=2)
    assert public_message(world.message, world.journal) == {
        "id": MESSAGE_ID,
        "tenant": "ten_1",
        "status": "delivered",
        "reference": None,
        "metadata": {},
        "category": "transactional",
        "to": {"phone": "+4520123456", "email": "a@example.com", "push": "tok", "whatsapp": "+4520123456"},
        "cascade": [
            {"channel": "sms", "timeout_s": 60.0, "success": "delivered"},
            {"channel": "email", "timeout_s": 60.0, "success": "delivered"},
        ],
        "delivered_by": 0,
        "cost": 0.1,
        "created_at": "2026-05-04T12:00:00.000000Z",
        "updated_at": "2026-05-04T12:00:03.000000Z",
        "expires_at": "2026-05-04T12:10:00.000000Z",
        "final_at": "2026-05-04T12:00:03.000000Z",
        "attempts": [
            {
                "step": 0,
                "attempt": 1,
                "channel": "sms",
                "carrier": "a",
                "carrier_message_ids": ["x", "y"],
                "segments": 2,
                "segments_detail": [
                    {"n": 1, "carrier_message_id": "x", "status": "delivered", "error": None},
                    {"n": 2, "carrier_message_id": "y", "status": "delivered", "error": None},
                ],
                "status": "delivered",
                "error": None,
                "recovered": False,
                "cost": 0.1,
                "queued_at": "2026-05-04T12:00:00.000000Z",
                "submitted_at": "2026-05-04T12:00:01.000000Z",
                "ended_at": "2026-05-04T12:00:03.000000Z",
            }
        ],
        "events": [
            {
                "seq": 1,
                "at": "2026-05-04T12:00:00.000000Z",
                "type": "accepted",
                "step": None,
                "attempt": None,
                "data": {"next": {"step": 0, "attempt": 1, "channel": "sms", "carrier": "a"}},
            },
            {
                "seq": 2,
                "at": "2026-05-04T12:00:01.000000Z",
                "type": "submitted",
                "step": 0,
                "attempt": 1,
                "data": {"carrier": "a", "carrier_message_ids": ["x", "y"], "segments": 2, "cost": 0.1},
            },
            {
                "seq": 3,
                "at": "2026-05-04T12:00:02.000000Z",
                "type": "receipt",
                "step": 0,
                "attempt": 1,
                "data": {
                    "status": "delivered",
                    "segment": 0,
                    "carrier": "a",
                    "carrier_message_id": "x",
                    "carrier_at": "2026-05-04T12:00:00.000000Z",
                },
            },
            {
                "seq": 4,
                "at": "2026-05-04T12:00:03.000000Z",
                "type": "delivered",
                "step": 0,
                "attempt": 1,
                "data": {
                    "receipt": {
                        "status": "delivered",
                        "segment": 1,
                        "carrier": "a",
                        "carrier_message_id": "y",
                    }
                },
            },
        ],
    }


def test_the_view_is_json():
    world = told(*DELIVERED)
    shown = public_message(world.message, world.journal)
    assert json.loads(json.dumps(shown)) == shown


def test_the_summary_has_neither_attempts_nor_events():
    world = told(*DELIVERED)
    full = public_message(world.message, world.journal)
    summary = public_message(world.message, world.journal, full=False)
    assert summary == {k: v for k, v in full.items() if k not in ("attempts", "events")}


@pytest.mark.parametrize(
    ("until_seq", "status", "final_at"),
    [(1, "accepted", None), (2, "in_progress", None), (4, "delivered", "2026-05-04T12:00:03.000000Z")],
)
def test_a_webhook_shows_the_message_as_it_was_at_its_event(until_seq, status, final_at):
    world = told(*DELIVERED, (4, Receipt(0, 1, 0, "x", "read")))
    shown = public_message(world.message, world.journal, until_seq=until_seq)
    assert (shown["status"], shown["final_at"]) == (status, final_at)
    assert [e["seq"] for e in shown["events"]] == list(range(1, until_seq + 1))


def test_internal_events_are_left_out_and_leave_their_gap():
    world = told((0, Begin()), (1, Sending(0, 1, "a")), (2, InDoubt(0, 1, "a")), routes=[[NEVER], [A]])
    shown = public_message(world.message, world.journal)
    assert [(e["seq"], e["type"]) for e in shown["events"]] == [(1, "accepted"), (3, "ambiguous")]
    assert shown["attempts"][0]["error"]["class"] == "retryable_transient"


@pytest.mark.parametrize("channel", ["email", "push", "whatsapp"])
def test_segments_mean_nothing_outside_sms(channel):
    world = told((0, Begin()), (1, Submitted(0, 1, "a", ("x",), 1)), steps=(channel, "sms"), segments=3)
    attempt = public_message(world.message, world.journal)["attempts"][0]
    assert (attempt["segments"], attempt["segments_detail"]) == (None, [])


def test_a_queued_sms_shows_the_segments_of_its_text():
    world = told((0, Begin()), segments=3)
    attempt = public_message(world.message, world.journal)["attempts"][0]
    assert (attempt["segments"], attempt["segments_detail"], attempt["status"]) == (3, [], "queued")


def test_a_withdrawn_attempt_is_superseded_and_was_never_submitted():
    world = told((0, Begin()), (1, Cancel()))
    shown = public_message(world.message, world.journal)
    assert (shown["status"], shown["attempts"][0]["status"]) == ("cancelled", "superseded")
    assert shown["attempts"][0]["submitted_at"] is None
    assert shown["delivered_by"] is None


def test_both_costs_stay_visible():
    world = told(
        (0, Begin()),
        (1, Submitted(0, 1, "a", ("x",), 1, 0.1)),
        (60, TimePassed()),
        (61, Submitted(1, 1, "a", ("y",), 1, 0.2)),
        (62, Receipt(0, 1, 0, "x", "delivered")),
    )
    shown = public_message(world.message, world.journal)
    assert shown["cost"] == 0.3
    assert [a["cost"] for a in shown["attempts"]] == [0.1, 0.2]


def test_the_fold_does_not_change_the_events():
    world = told(*DELIVERED)
    before = [Event(e.seq, e.at, e.type, e.step, e.attempt, json.loads(json.dumps(e.data))) for e in world.journal]
    public_message(world.message, world.journal)["attempts"][0]["carrier_message_ids"].append("z")
    assert world.journal == before


def test_a_message_without_events_is_accepted():
    shown = public_message(message(Step("sms", 60.0, "delivered")), [])
    assert (shown["status"], shown["updated_at"]) == ("accepted", shown["created_at"])
