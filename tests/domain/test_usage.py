"""What a message counts for: as tables, and the same whatever the order of events."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given

from hermes.domain.cascade import Cascade, apply
from hermes.domain.events import Event
from hermes.domain.usage import Counts, UsageDelta, difference, usage_of
from tests.domain.test_cascade_world import fuzz, operations, run, worlds
from tests.domain.world import START, World, message

SMS, EMAIL = ("sms", "a"), ("email", "m")


def queue(step: int, attempt: int, carrier: str) -> dict[str, Any]:
    return {"next": {"step": step, "attempt": attempt, "carrier": carrier}}


def ids(cost: float | None = None, segments: int | None = None, carrier: str | None = None) -> dict[str, Any]:
    data: dict[str, Any] = {"carrier_message_ids": ["1"], "cost": cost, "segments": segments}
    return data if carrier is None else {**data, "carrier": carrier}


def error(class_: str = "unreachable_handset") -> dict[str, Any]:
    return {"error": {"class": class_, "code": None, "detail": ""}}


def lived(steps: tuple[str, ...], *events: tuple[str, int | None, int | None, dict[str, Any]]) -> Cascade:
    state = Cascade(message(*steps, segments=2))
    for seq, (type_, step, attempt, data) in enumerate(events, 1):
        apply(state, Event(seq, START + timedelta(seconds=seq), type_, step, attempt, data))
    return state


ACCEPTED = ("accepted", None, None, queue(0, 1, "a"))
RECEIPT = {"segment": 0, "status": "delivered", "carrier_message_id": "1"}


@pytest.mark.parametrize(
    ("state", "status", "counts"),
    [
        (lived(("sms",), ACCEPTED), "accepted", {}),
        (lived(("sms",), ACCEPTED, ("submitted", 0, 1, ids(0.02, 2))), "in_progress", {}),
        (
            lived(("sms",), ACCEPTED, ("submitted", 0, 1, ids(0.02, 2)), ("delivered", 0, 1, {"receipt": RECEIPT})),
            "delivered",
            {SMS: (1, 1, 2, 20_000)},
        ),
        # what the carrier does not say of its parts is what the text needs
        (
            lived(("sms",), ACCEPTED, ("submitted", 0, 1, ids(0.01)), ("delivered", 0, 1, {})),
            "delivered",
            {SMS: (1, 1, 2, 10_000)},
        ),
        # no carrier was asked
        (
            lived(("sms",), ACCEPTED, ("superseded", 0, 1, {}), ("cancelled", None, None, {})),
            "cancelled",
            {("sms", ""): (1, 0, 0, 0)},
        ),
        (
            lived(("sms",), ("accepted", None, None, {}), ("expired", None, None, {})),
            "expired",
            {("sms", ""): (1, 0, 0, 0)},
        ),
        # a refused try at one carrier, then another took it
        (
            lived(
                ("sms",),
                ACCEPTED,
                ("rejected", 0, 1, {**error("provider_auth"), **queue(0, 2, "b")}),
                ("submitted", 0, 2, ids(0.03, 1)),
                ("delivered", 0, 2, {"receipt": RECEIPT}),
            ),
            "delivered",
            {SMS: (0, 1, 0, 0), ("sms", "b"): (1, 1, 1, 30_000)},
        ),
        # the fallback's cost and the first step's are both there; the message is counted where it was delivered
        (
            lived(
                ("email", "sms"),
                ("accepted", None, None, queue(0, 1, "m")),
                ("submitted", 0, 1, ids(0.001)),
                ("timed_out", 0, 1, {}),
                ("fallback", 1, None, queue(1, 1, "a")),
                ("submitted", 1, 1, ids(0.02, 2)),
                ("delivered", 0, 1, {"receipt": RECEIPT}),
            ),
            "delivered",
            {EMAIL: (1, 1, 0, 1_000), SMS: (0, 1, 2, 20_000)},
        ),
        (
            lived(
                ("email", "sms"),
                ("accepted", None, None, queue(0, 1, "m")),
                ("rejected", 0, 1, error()),
                ("fallback", 1, None, queue(1, 1, "a")),
                ("rejected", 1, 1, error()),
                ("failed", 1, 1, {}),
            ),
            "failed",
            {EMAIL: (0, 1, 0, 0), SMS: (1, 1, 0, 0)},
        ),
    ],
)
def test_a_final_message_counts_once_and_each_try_at_its_carrier(state: Cascade, status: str, counts: Counts) -> None:
    assert state.status == status
    assert usage_of(state) == counts


def test_a_correction_moves_a_message_from_one_status_to_another() -> None:
    failed = lived(("sms",), ACCEPTED, ("submitted", 0, 1, ids(0.02, 2)), ("failed", 0, 1, {}))
    before = usage_of(failed)
    apply(failed, Event(9, START, "corrected", 0, 1, {"receipt": RECEIPT}))
    day = START.date()
    assert difference(failed, before, "failed") == [
        UsageDelta("live", day, "sms", "a", "delivered", 1, 1, 2, 20_000),
        UsageDelta("live", day, "sms", "a", "failed", -1, -1, -2, -20_000),
    ]
    assert difference(failed, usage_of(failed), "delivered") == []


def added(world: World, events: list[Event]) -> tuple[Cascade, Counter[tuple[str, str, str, str]]]:
    """Add up the differences of a life, event by event, as a cascade actor writes them."""
    state = Cascade(world.message)
    total: Counter[tuple[str, str, str, str]] = Counter()
    for event in events:
        before, status = usage_of(state), state.status
        apply(state, event)
        if state.open:
            continue
        for delta in difference(state, before, status):
            for name in ("messages", "attempts", "segments", "cost_micros"):
                total[delta.channel, delta.carrier, delta.status, name] += getattr(delta, name)
    return state, total


@pytest.mark.slow
@fuzz
@given(worlds(), operations)
def test_the_differences_of_any_life_add_up_to_what_the_message_counts_for(
    world: World, operations: list[tuple[str, int]]
) -> None:
    run(world, operations)
    world.commit_all()
    state, total = added(world, world.journal)
    expected: Counter[tuple[str, str, str, str]] = Counter()
    for (channel, carrier), counts in usage_of(state).items():
        for name, value in zip(("messages", "attempts", "segments", "cost_micros"), counts, strict=True):
            expected[channel, carrier, state.status, name] += value
    assert {k: v for k, v in total.items() if v} == {k: v for k, v in expected.items() if v}
    assert sum(v for k, v in total.items() if k[3] == "messages") == (0 if state.open else 1)
    cost = sum(v for k, v in total.items() if k[3] == "cost_micros")
    assert state.open or cost == round((state.cost() or 0) * 1_000_000)
