"""A scheduled message is sent at another time: only while nothing of it has been begun."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from hermes.domain.cascade import (
    Begin,
    Cancel,
    Candidate,
    Cascade,
    Dispatch,
    Effect,
    Input,
    Reschedule,
    TimePassed,
    apply,
    decide,
    fold,
)
from hermes.domain.events import Event
from hermes.domain.view import public_message
from tests.domain.world import START, message, through_json


class Life:
    """A cascade whose decisions are taken in at once."""

    def __init__(self, send_in_s: float | None) -> None:
        self.state = Cascade(message("sms", "email", send_in_s=send_in_s, expires_in_s=600))
        self.message = self.state.message
        self.events: list[Event] = []
        self.now = START
        self.take(Begin())

    def take(self, input: Input) -> list[Effect]:
        decision = decide(self.state, input, self.now, lambda step: [Candidate("a")])
        for event in decision.events:
            apply(self.state, event)
        self.events += decision.events
        for effect in decision.effects:
            if isinstance(effect, Dispatch):
                a = self.state.find(effect.step, effect.attempt)
                assert a is not None
                a.dispatched = True
        return decision.effects

    def at(self, s: float) -> datetime:
        return START + timedelta(seconds=s)


def test_it_is_sent_at_the_new_time_and_its_end_moves_as_far() -> None:
    life = Life(100)
    assert life.take(Reschedule(life.at(300))) == []
    assert life.state.status == "scheduled" and life.state.due() == life.at(300)
    shown = public_message(life.message, life.events)
    assert shown["expires_at"] == "2026-05-04T12:15:00.000000Z"
    assert [event["type"] for event in shown["events"]] == ["accepted", "scheduled", "scheduled"]
    assert shown["events"][-1]["data"]["send_at"] == "2026-05-04T12:05:00.000000Z"
    life.now = life.at(299)
    assert life.take(TimePassed()) == []
    life.now = life.at(300)
    assert life.take(TimePassed()) == [Dispatch(0, 1)]
    assert life.state.deadline() == life.at(360)  # its first step's time counts from then


def test_it_can_be_sent_earlier_and_a_time_that_has_passed_means_now() -> None:
    life = Life(100)
    life.now = life.at(50)
    life.take(Reschedule(life.at(10)))
    assert life.state.due() == life.at(50) and life.state.message.expires_at == life.at(650)
    assert life.take(TimePassed()) == [Dispatch(0, 1)]


def test_nothing_is_moved_that_was_not_scheduled_or_has_begun_or_is_over() -> None:
    begun = Life(100)
    begun.now = begun.at(100)
    begun.take(TimePassed())
    cancelled = Life(100)
    cancelled.take(Cancel())
    for life in (Life(None), begun, cancelled):
        assert not life.state.movable
        before = len(life.events)
        life.take(Reschedule(life.at(500)))
        assert len(life.events) == before


@given(
    st.lists(
        st.tuples(st.sampled_from(["move", "move", "time", "wait", "restart", "cancel"]), st.integers(0, 400)),
        max_size=12,
    )
)
def test_whatever_is_wished_it_leaves_once_and_never_before_its_last_time(wishes: list[tuple[str, int]]) -> None:
    life = Life(100)
    due, left = life.at(100), 0
    for wish, n in wishes:
        if wish == "move":
            movable = life.state.movable
            life.take(Reschedule(life.at(n)))
            if movable:
                due = max(life.at(n), life.now)
        elif wish == "wait":
            life.now += timedelta(seconds=n)
        elif wish == "cancel" and n < 40:
            life.take(Cancel())
        elif wish == "restart":
            read = fold(life.message, through_json(life.events))
            assert read == life.state
            if not left:
                life.state = read
        elif wish == "time":
            effects = life.take(TimePassed())
            if Dispatch(0, 1) in effects:
                left += 1
                assert life.now >= due
    assert left <= 1
    assert life.state.message.expires_at - (life.state.message.send_at or START) == timedelta(seconds=600)
