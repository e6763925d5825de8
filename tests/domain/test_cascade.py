"""The rules of docs/cascade.md, one by one. Each name is a claim; the numbers are the rules'."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.domain.cascade import (
    BLOCKED,
    MAX_CRASHES,
    MAX_TRIES,
    PARKED,
    Begin,
    CallCarrier,
    Cancel,
    CancelAtCarrier,
    Candidate,
    Cascade,
    Crashed,
    Dispatch,
    Effect,
    InDoubt,
    Receipt,
    Recovered,
    Refused,
    Resume,
    Sending,
    Submitted,
    TimePassed,
    Withdraw,
    backoff_s,
    decide,
    fold,
)
from hermes.domain.events import WEBHOOK_TYPES, webhook_type
from hermes.domain.message import Step
from tests.domain.world import MESSAGE_ID, START, World, message, timeline

A, B, C = Candidate("a"), Candidate("b"), Candidate("c")
NEVER = Candidate("a", "never")
RETRYABLE = "retryable_transient"


class Life(World):
    """One message's life, told in short words; each word is committed at once."""

    def __init__(self, *steps: Step | str, routes: list[list[Candidate]] | None = None, **about) -> None:
        super().__init__(message(*steps, **about), routes or [[A] for _ in steps])

    def tell(self, input) -> list[Effect]:
        effects = self.take(input)
        self.commit_all()
        return effects

    def begin(self) -> list[Effect]:
        return self.tell(Begin())

    def at(self, seconds: float) -> None:
        """Let time pass until so many seconds after the start."""
        self.now = START + timedelta(seconds=seconds)

    def wait(self, seconds: float) -> list[Effect]:
        self.at(seconds)
        return self.tell(TimePassed())

    def submitted(self, step=0, attempt=1, *ids: str, carrier="a", cost=None) -> list[Effect]:
        self.calls[step, attempt] += 1
        return self.tell(Submitted(step, attempt, carrier, ids or (f"{step}.{attempt}",), len(ids) or 1, cost))

    def refused(self, error_class, step=0, attempt=1, carrier="a", **more) -> list[Effect]:
        return self.tell(Refused(step, attempt, carrier, error_class, **more))

    def in_doubt(self, step=0, attempt=1) -> list[Effect]:
        return self.tell(InDoubt(step, attempt, "a"))

    def receipt(self, status, step=0, attempt=1, segment=0, error_class=None) -> list[Effect]:
        return self.tell(
            Receipt(step, attempt, segment, f"{step}.{attempt}.{segment}", status, error_class, "7", "why")
        )

    def leaves(self, step=0, attempt=1) -> None:
        """The carrier is called and does not answer yet."""
        self.jobs[step, attempt].left = True
        self.calls[step, attempt] += 1

    @property
    def due(self) -> datetime:
        due = self.state.due()
        assert due is not None
        return due

    @property
    def told(self) -> list[str]:
        return timeline(self.journal)

    def attempt(self, step=0, attempt=1):
        a = self.state.find(step, attempt)
        assert a is not None
        return a

    @property
    def statuses(self) -> list[str]:
        return [f"{a.step}.{a.attempt} {a.status}" for a in self.state.attempts]


# --- the common path ---


def test_a_message_is_accepted_with_its_first_intent_and_dispatched_after_the_commit():
    m = Life("sms")
    assert m.begin() == [Dispatch(0, 1)]
    assert m.journal[0].data == {"next": {"step": 0, "attempt": 1, "channel": "sms", "carrier": "a"}}
    assert m.state.status == "accepted"
    assert m.tell(Begin()) == []
    assert m.told == ["accepted"]


def test_accepted_submitted_delivered():
    m = Life("sms")
    m.begin()
    m.at(1)
    m.submitted(cost=0.25)
    assert m.state.status == "in_progress"
    m.at(2)
    m.receipt("delivered")
    assert m.told == ["accepted", "submitted 0.1", "delivered 0.1"]
    assert (m.state.status, m.state.delivered_by, m.state.cost()) == ("delivered", 0, 0.25)
    a = m.attempt()
    assert (a.submitted_at, a.ended_at) == (START + timedelta(seconds=1), START + timedelta(seconds=2))
    assert m.state.due() is None


def test_a_scheduled_message_leaves_at_send_at_and_its_times_count_from_there():
    m = Life("sms", "email", send_in_s=100.0)
    assert m.begin() == []
    assert (m.told, m.state.status) == (["accepted", "scheduled"], "scheduled")
    assert m.state.due() == START + timedelta(seconds=100)
    assert m.wait(99.9) == []
    assert m.wait(100) == [Dispatch(0, 1)]
    assert m.state.deadline() == START + timedelta(seconds=160)


@pytest.mark.parametrize("crash_at", [50, 100, 101])
def test_a_scheduled_message_survives_a_crash_and_is_not_doubted_before_its_time(crash_at):
    m = Life("sms", send_in_s=100.0)
    m.begin()
    m.at(crash_at)
    m.crash_process()
    m.commit_all()
    if crash_at < 100:
        assert m.told == ["accepted", "scheduled"]
        assert m.wait(100) == [Dispatch(0, 1)]
    else:  # it was due, so it may have left
        assert m.told == ["accepted", "scheduled", "ambiguous 0.1"]
        assert m.attempt(0, 2).recovered


def test_a_message_no_carrier_serves_fails_at_once_even_when_scheduled():
    for send_in_s in (None, 60.0):
        m = Life("sms", "push", routes=[[], []], send_in_s=send_in_s)
        assert m.begin() == []
        assert m.told == ["accepted", "failed"]
        assert m.journal[1].data["error"]["code"] == "no_route"


# --- rule 1: steps in order ---


def test_1_a_refused_last_step_fails_the_message_while_an_earlier_one_has_no_receipt_yet():
    m = Life("sms", "email")
    m.begin()
    m.submitted()
    m.wait(60)
    m.refused("invalid_destination", step=1)
    assert m.told[-2:] == ["rejected 1.1", "failed 1"]
    assert m.journal[-1].data["error"]["class"] == "invalid_destination"
    m.receipt("delivered")
    assert m.told[-1] == "corrected 0.1"


def test_1_a_step_begins_when_the_one_before_timed_out_and_not_earlier():
    m = Life("email", "sms", "push")
    m.begin()
    m.submitted()
    assert m.wait(59.9) == []
    assert m.wait(60) == [Dispatch(1, 1)]
    assert m.told[-2:] == ["timed_out 0.1", "fallback 1.1"]
    assert m.journal[-1].data["reason"] == "timed_out"
    assert m.state.due() == START + timedelta(seconds=120)


def test_1_a_step_begins_when_the_one_before_is_undelivered():
    m = Life("sms", "email")
    m.begin()
    m.submitted()
    assert m.receipt("undelivered", error_class="unreachable_handset") == [Dispatch(1, 1)]
    assert m.told[-2:] == ["undelivered 0.1", "fallback 1.1"]
    assert m.attempt().error == {"class": "unreachable_handset", "code": "7", "detail": "why"}


def test_1_a_step_without_a_carrier_is_skipped():
    m = Life("email", "sms", "push", routes=[[A], [], [B]])
    m.begin()
    assert m.refused("invalid_destination") == [Dispatch(2, 1)]
    assert m.journal[-1].data["from_step"] == 0


def test_1_no_step_begins_after_expires_at():
    m = Life("sms", "email", expires_in_s=50.0)
    m.begin()
    m.at(50)
    assert m.refused("content_rejected") == []
    assert m.told == ["accepted", "rejected 0.1", "expired"]


def test_1_a_bounce_after_expires_at_begins_no_step():
    m = Life("sms", "email", expires_in_s=50.0)
    m.begin()
    m.submitted()
    m.at(51)
    assert m.receipt("undelivered") == []
    assert m.told[-2:] == ["undelivered 0.1", "failed 0"]


def test_1_a_step_that_times_out_with_nothing_to_fall_back_to_waits_until_expires_at():
    m = Life("sms", "push", routes=[[A], []])
    m.begin()
    m.submitted()
    assert m.wait(60) == []
    assert m.told == ["accepted", "submitted 0.1"]
    assert m.state.due() == m.message.expires_at
    m.receipt("delivered")
    assert m.state.status == "delivered"


# --- rule 2: carriers inside a step ---


@pytest.mark.parametrize(
    "error_class", [RETRYABLE, "throttled", "provider_auth", "provider_config", "insufficient_funds"]
)
def test_2_an_error_of_the_carrier_moves_to_the_next_carrier_at_once(error_class):
    m = Life("sms", routes=[[A, B]])
    m.begin()
    assert m.refused(error_class) == [Dispatch(0, 2)]
    assert m.attempt(0, 2).carrier == "b"
    assert m.journal[-1].type == "rejected"  # the one event carries the result and the next intent


@pytest.mark.parametrize(
    "error_class",
    ["invalid_destination", BLOCKED, "content_rejected", "invalid_request", "sender_not_allowed", "unknown",
     "unreachable_handset", "policy_window", "message_too_large", "expired"],
)  # fmt: skip
def test_2_an_error_of_the_message_ends_the_step_at_once(error_class):
    m = Life("sms", "email", routes=[[A, B], [A]])
    m.begin()
    assert m.refused(error_class) == [Dispatch(1, 1)]
    assert m.statuses == ["0.1 rejected", "1.1 queued"]


def test_2_an_unknown_error_that_may_be_retried_is_retried():
    m = Life("sms")
    m.begin()
    m.refused("unknown", retryable=True)
    assert m.statuses == ["0.1 rejected", "0.2 queued"]


def test_2_the_same_carrier_is_tried_again_after_1_2_and_4_seconds_and_at_most_4_times():
    m = Life("sms")
    m.begin()
    waits = []
    for attempt in (1, 2, 3):
        assert m.refused(RETRYABLE, attempt=attempt) == []
        due = m.due
        waits.append((due - m.now).total_seconds())
        m.now = due - timedelta(milliseconds=1)
        assert m.tell(TimePassed()) == []
        m.now = due
        assert m.tell(TimePassed()) == [Dispatch(0, attempt + 1)]
    assert [round(math.log2(w)) for w in waits] == [0, 1, 2]
    m.refused(RETRYABLE, attempt=MAX_TRIES)
    assert m.state.status == "failed"


def test_2_the_back_off_has_jitter_of_20_percent_that_a_replay_draws_again():
    for tried, base in ((1, 1.0), (2, 2.0), (3, 4.0), (9, 4.0)):
        draws = [backoff_s(f"msg_{n}", 0, 2, tried) for n in range(300)]
        assert base * 0.8 <= min(draws) < base * 0.85
        assert base * 1.15 < max(draws) <= base * 1.2
    assert backoff_s(MESSAGE_ID, 0, 2, 1) == backoff_s(MESSAGE_ID, 0, 2, 1)


def test_2_a_carriers_retry_after_replaces_the_back_off_and_holds_after_other_carriers():
    m = Life("sms", routes=[[A, B]], expires_in_s=600.0)
    m.begin()
    m.refused("throttled", retry_after_s=30.0)
    m.refused(RETRYABLE, attempt=2, carrier="b")
    third = m.attempt(0, 3)
    assert (third.carrier, third.not_before) == ("a", START + timedelta(seconds=30))


def test_2_a_short_retry_after_is_taken_at_its_word():
    m = Life("sms")
    m.begin()
    m.refused("throttled", retry_after_s=0.1)
    assert m.state.due() == START + timedelta(seconds=0.1)


@pytest.mark.parametrize("retry_after_s", [60.0, 1e300, math.inf])
def test_2_a_retry_after_beyond_the_steps_time_ends_the_step(retry_after_s):
    m = Life("sms", "email")
    m.begin()
    assert m.refused("throttled", retry_after_s=retry_after_s) == [Dispatch(1, 1)]


@pytest.mark.parametrize("retry_after_s", [-5.0, 0.0, math.nan])
def test_2_a_retry_after_in_the_past_means_now(retry_after_s):
    m = Life("sms")
    m.begin()
    m.refused("throttled", retry_after_s=retry_after_s)
    assert m.tell(TimePassed()) == [Dispatch(0, 2)]


def test_2_a_carrier_that_waits_too_long_gives_way_to_one_that_does_not():
    m = Life("sms", "email", routes=[[A, B], [A]])
    m.begin()
    m.refused("throttled", retry_after_s=3600.0)
    m.refused(RETRYABLE, attempt=2, carrier="b")
    assert m.attempt(0, 3).carrier == "b"


def test_2_a_carrier_that_is_out_of_order_is_not_tried_again_in_the_step():
    m = Life("sms", "email", routes=[[A, B], [A]])
    m.begin()
    m.refused("provider_auth")
    m.refused(RETRYABLE, attempt=2, carrier="b")
    assert m.attempt(0, 3).carrier == "b"
    m.refused("insufficient_funds", attempt=3, carrier="b")
    assert m.told[-1] == "fallback 1.1"


def test_2_no_other_carrier_is_tried_after_the_steps_time():
    m = Life("sms", "email", routes=[[A, B], [A]])
    m.begin()
    m.at(60)
    assert m.refused(RETRYABLE) == [Dispatch(1, 1)]


def test_2_a_blocked_recipient_is_not_tried_on_that_channel_again():
    m = Life("sms", "sms", "email")
    m.begin()
    assert m.refused(BLOCKED) == [Dispatch(2, 1)]
    assert m.journal[-1].data["reason"] == BLOCKED
    m.refused("content_rejected", step=2)
    assert m.told[-1] == "failed 2"


def test_2_a_late_block_withdraws_what_waits_on_that_channel():
    m = Life("sms", "sms", "email")
    m.begin()
    m.submitted()
    m.wait(60)
    assert m.receipt("undelivered", error_class=BLOCKED) == [Withdraw(1, 1), Dispatch(2, 1)]
    assert m.told[-3:] == ["undelivered 0.1", "superseded 1.1", "fallback 2.1"]


def test_2_a_late_block_leaves_another_channel_alone():
    m = Life("sms", "email", "sms")
    m.begin()
    m.submitted()
    m.wait(60)
    assert m.receipt("undelivered", error_class=BLOCKED) == []
    m.refused("invalid_destination", step=1)
    assert m.state.status == "failed"  # the third step is SMS again


@pytest.mark.parametrize("answer", ["refused", "doubt"])
def test_2_a_block_heard_of_one_attempt_ends_the_tries_of_the_other(answer):
    m = Life("sms", "email")
    m.begin()
    m.in_doubt()
    m.wait(2)
    m.leaves(0, 2)
    m.receipt("undelivered", error_class=BLOCKED)
    if answer == "refused":
        m.refused(RETRYABLE, attempt=2)
        assert m.statuses == ["0.1 undelivered", "0.2 rejected", "1.1 queued"]
    else:
        m.in_doubt(0, 2)
        assert m.statuses == ["0.1 undelivered", "0.2 ambiguous"]


# --- rule 3: success, expired, unknown ---


def test_3_submitted_is_enough_where_the_step_says_so():
    m = Life(Step("push", 60.0, "submitted"), "sms")
    m.begin()
    m.submitted()
    assert m.told == ["accepted", "submitted 0.1", "delivered 0.1"]
    assert m.statuses == ["0.1 submitted"]


def test_3_delivered_is_not_enough_where_the_step_wants_read():
    m = Life(Step("whatsapp", 60.0, "read"), "sms")
    m.begin()
    m.submitted()
    m.receipt("delivered")
    assert m.state.open
    m.wait(60)
    assert m.told[-2:] == ["receipt 0.1", "fallback 1.1"]
    m.receipt("read")
    assert (m.state.status, m.state.delivered_by) == ("delivered", 0)


def test_3_read_is_enough_where_delivered_is_wanted_and_is_told_as_read_too():
    m = Life("whatsapp")
    m.begin()
    m.submitted()
    m.receipt("read")
    assert m.told[-2:] == ["receipt 0.1", "delivered 0.1"]
    assert [webhook_type(e) for e in m.journal[-2:]] == ["message.read", "message.delivered"]
    assert m.statuses == ["0.1 read"]


@pytest.mark.parametrize(
    ("taken", "status", "attempt"),
    [("no", "expired", "superseded"), ("left", "unknown", "timed_out"), ("yes", "unknown", "timed_out"),
     ("doubt", "unknown", "timed_out"), ("read", "unknown", "delivered")],
)  # fmt: skip
def test_3_a_message_out_of_time_is_unknown_when_a_carrier_may_have_it_else_expired(taken, status, attempt):
    m = Life(Step("sms", 60.0, "read"), on_ambiguous="never")
    m.begin()
    if taken == "left":
        m.leaves()
    elif taken == "doubt":
        m.in_doubt()
    elif taken != "no":
        m.submitted()
        if taken == "read":
            m.receipt("delivered")
    m.wait(600)
    assert (m.state.status, m.statuses) == (status, [f"0.1 {attempt}"])


def test_3_a_refusal_or_bounce_leaves_nothing_unknown():
    for late in ("refused", "undelivered"):
        m = Life("sms", "email")
        m.begin()
        if late == "refused":
            m.leaves()
            m.wait(60)
            m.refused("invalid_destination")
        else:
            m.submitted()
            m.wait(60)
            m.receipt("undelivered")
        m.wait(600)
        assert m.state.status == "expired"


def test_3_a_queued_attempt_that_never_left_is_superseded_when_its_step_times_out():
    m = Life("sms", "email")
    m.begin()
    assert m.wait(60) == [Withdraw(0, 1), Dispatch(1, 1)]
    assert m.statuses == ["0.1 superseded", "1.1 queued"]
    assert m.attempt().submitted_at is None


def test_3_an_attempt_in_the_carriers_hands_times_out_and_is_not_withdrawn():
    m = Life("sms", "email")
    m.begin()
    m.leaves()
    assert m.wait(60) == [Dispatch(1, 1)]
    assert m.statuses == ["0.1 timed_out", "1.1 queued"]


def test_3_a_late_answer_that_is_enough_delivers_even_a_timed_out_step():
    m = Life(Step("push", 60.0, "submitted"), "sms")
    m.begin()
    m.leaves()
    m.wait(60)
    assert m.submitted() == [Withdraw(1, 1)]
    assert (m.state.delivered_by, m.statuses) == (0, ["0.1 submitted", "1.1 superseded"])


# --- rules 4 and 5: late receipts ---


def test_4_a_late_receipt_withdraws_the_fallback_that_has_not_left():
    m = Life("sms", "email")
    m.begin()
    m.submitted()
    m.wait(60)
    assert m.receipt("delivered") == [Withdraw(1, 1)]
    assert m.told[-2:] == ["superseded 1.1", "delivered 0.1"]
    assert (m.state.delivered_by, m.statuses) == (0, ["0.1 delivered", "1.1 superseded"])


def test_5_after_the_fallback_left_the_first_receipt_wins_and_the_other_is_cancelled():
    m = Life("sms", "email")
    m.begin()
    m.submitted(cost=0.25)
    m.wait(60)
    m.submitted(1, cost=0.5)
    assert m.receipt("delivered") == [CancelAtCarrier(1, 1)]
    assert (m.state.delivered_by, m.statuses) == (0, ["0.1 delivered", "1.1 superseded"])
    m.receipt("delivered", step=1)  # recorded all the same
    assert m.told[-1] == "receipt 1.1"
    assert (m.state.delivered_by, m.statuses[1], m.state.cost()) == (0, "1.1 superseded", 0.75)


def test_5_the_fallback_may_win_too():
    m = Life("sms", "email")
    m.begin()
    m.submitted()
    m.wait(60)
    m.submitted(1)
    assert m.receipt("delivered", step=1) == [CancelAtCarrier(0, 1)]
    m.receipt("delivered")
    assert (m.state.delivered_by, m.statuses) == (1, ["0.1 delivered", "1.1 delivered"])


def test_5_a_fallback_in_flight_is_cancelled_when_its_answer_comes():
    m = Life("sms", "email")
    m.begin()
    m.submitted()
    m.wait(60)
    m.leaves(1)
    assert m.receipt("delivered") == []  # too late to withdraw, too early to cancel
    assert m.submitted(1) == [CancelAtCarrier(1, 1)]
    assert m.attempt(1).submitted_at is not None


# --- rule 6: corrections ---


@pytest.mark.parametrize("final", ["failed", "expired", "unknown", "cancelled", "delivered"])
def test_6_a_positive_receipt_corrects_failed_expired_and_unknown_only(final):
    m = Life("sms")
    m.begin()
    if final == "expired":
        m.wait(600)
        m.submitted()  # the withdrawal came too late
    else:
        m.submitted()
        if final == "failed":
            m.receipt("undelivered")
        elif final == "unknown":
            m.wait(600)
        elif final == "cancelled":
            m.tell(Cancel())
        else:
            m.receipt("delivered")
    assert m.state.status == final
    first_final = m.state.final_at
    m.at(700)
    m.receipt("read")
    corrects = final in ("failed", "expired", "unknown")
    assert m.told[-1] == ("corrected 0.1" if corrects else "receipt 0.1")
    assert m.state.status == ("delivered" if corrects else final)
    assert m.state.final_at == first_final
    if corrects:
        assert (m.journal[-1].data["from"], m.state.delivered_by) == (final, 0)


def test_6_delivered_is_never_taken_back():
    m = Life("sms")
    m.begin()
    m.submitted()
    m.receipt("delivered")
    m.receipt("undelivered")
    assert m.told[-1] == "receipt 0.1"
    assert (m.state.status, m.statuses) == ("delivered", ["0.1 delivered"])


def test_6_a_late_answer_corrects_where_submitted_is_enough():
    m = Life(Step("push", 60.0, "submitted"))
    m.begin()
    m.leaves()
    m.wait(600)
    assert m.state.status == "unknown"
    m.submitted()
    assert (m.told[-1], m.statuses) == ("corrected 0.1", ["0.1 submitted"])


# --- rules 7 and 8: receipts and segments ---


def test_7_a_receipt_is_recorded_once():
    m = Life("sms")
    m.begin()
    m.submitted()
    for _ in range(3):
        m.receipt("submitted")
        m.receipt("delivered")
        m.receipt("undelivered")
    assert m.told[2:] == ["receipt 0.1", "delivered 0.1", "receipt 0.1"]


@pytest.mark.parametrize("before", ["timed_out", "rejected", "undelivered", "superseded"])
def test_7_a_submitted_receipt_does_not_bring_an_ended_attempt_back(before):
    m = Life("sms", "email")
    m.begin()
    if before == "rejected":
        m.refused("content_rejected")
    elif before == "superseded":
        m.wait(60)
    else:
        m.submitted()
        m.receipt("undelivered") if before == "undelivered" else m.wait(60)
    m.receipt("submitted")
    assert m.statuses[0] == f"0.1 {before}"


def test_7_what_is_not_known_changes_nothing():
    m = Life("sms")
    m.begin()
    m.submitted()
    for input in (
        Receipt(3, 1, 0, "x", "delivered"),
        Receipt(0, 9, 0, "x", "delivered"),
        Receipt(0, 1, -1, "x", "delivered"),
        Receipt(0, 1, 10_000, "x", "delivered"),
        Receipt(0, 1, 0, "x", "lost"),
        Submitted(5, 1, "a"),
        Submitted(0, 1, "a", ("again",)),
        Refused(0, 1, "a", RETRYABLE),
        InDoubt(0, 1, "a"),
        Sending(0, 1, "a"),
    ):
        assert m.tell(input) == []
    assert m.told == ["accepted", "submitted 0.1"]


def test_8_a_long_message_is_delivered_when_all_its_segments_are():
    m = Life("sms")
    m.begin()
    m.submitted(0, 1, "x", "y", "z")
    m.receipt("delivered", segment=2)
    m.receipt("delivered", segment=0)
    assert m.state.open
    m.receipt("delivered", segment=1)
    assert m.state.status == "delivered"
    assert [p.carrier_message_id for p in m.attempt().parts] == ["x", "y", "z"]


def test_8_a_long_message_is_undelivered_when_one_segment_is():
    m = Life("sms", "email")
    m.begin()
    m.submitted(0, 1, "x", "y")
    m.receipt("delivered", segment=0)
    assert m.receipt("undelivered", segment=1) == [Dispatch(1, 1)]
    m.receipt("delivered", segment=1)  # positive wins
    assert (m.state.delivered_by, m.statuses[0]) == (0, "0.1 delivered")


# --- rule 9: ambiguous dispatch ---


def test_9_resend_is_a_new_attempt_at_the_same_carrier_after_a_back_off():
    m = Life("sms", routes=[[A, B]])
    m.begin()
    assert m.in_doubt() == []
    again = m.attempt(0, 2)
    assert (again.carrier, again.recovered, m.attempt().status) == ("a", True, "ambiguous")
    assert again.not_before == START + timedelta(seconds=backoff_s(MESSAGE_ID, 0, 2, 1))


def test_9_never_waits_for_a_receipt_then_takes_the_next_step():
    m = Life("sms", "email", routes=[[NEVER, B], [A]])
    m.begin()
    m.tell(Sending(0, 1, "a"))
    m.in_doubt()
    assert m.statuses == ["0.1 ambiguous"]
    assert m.state.due() == START + timedelta(seconds=60)
    assert m.wait(60) == [Dispatch(1, 1)]
    m.receipt("delivered")
    assert m.state.delivered_by == 0


def test_9_never_on_the_last_step_ends_unknown():
    m = Life("sms", routes=[[NEVER]])
    m.begin()
    m.tell(Sending(0, 1, "a"))
    m.crash_process()
    m.commit_all()
    assert m.statuses == ["0.1 ambiguous"]
    m.wait(600)
    assert m.state.status == "unknown"


def test_9_never_calls_the_carrier_only_once_the_write_ahead_is_stored():
    m = Life("sms", routes=[[NEVER]])
    m.begin()
    assert m.tell(Sending(0, 1, "a")) == [CallCarrier(0, 1)]
    assert m.tell(Sending(0, 1, "a")) == []


def test_9_a_call_written_ahead_may_have_been_made():
    m = Life("sms", routes=[[NEVER]])
    m.begin()
    m.tell(Sending(0, 1, "a"))
    assert m.wait(600) == [Withdraw(0, 1)]  # perhaps not too late
    assert (m.state.status, m.statuses) == ("unknown", ["0.1 timed_out"])


@pytest.mark.parametrize("why", ["cancelled", "late"])
def test_9_a_withdrawn_attempt_gets_no_go_ahead(why):
    m = Life("sms", routes=[[NEVER]])
    m.begin()
    if why == "cancelled":
        m.tell(Cancel())
    else:
        m.at(600)
    assert m.tell(Sending(0, 1, "a")) == []


@pytest.mark.parametrize(
    ("of_message", "of_route", "policy"),
    [
        (None, "resend", "resend"),
        (None, "never", "never"),
        ("resend", "never", "resend"),
        ("never", "resend", "never"),
    ],
)
def test_9_the_messages_policy_wins_over_the_routes(of_message, of_route, policy):
    m = Life("sms", routes=[[Candidate("a", of_route)]], on_ambiguous=of_message)
    m.begin()
    assert m.attempt().policy == policy


def test_9_a_crash_under_resend_sends_again_at_once():
    m = Life("sms")
    m.begin()
    m.crash_process()
    m.commit_all()
    assert m.statuses == ["0.1 ambiguous", "0.2 queued"]
    assert (0, 2) in m.jobs


def test_9_a_crash_under_never_dispatches_what_was_certainly_not_sent():
    m = Life("sms", routes=[[NEVER]])
    m.begin()
    m.crash_process()
    m.commit_all()
    assert m.told == ["accepted"]
    assert (0, 1) in m.jobs


def test_9_a_retry_that_was_not_due_before_the_crash_is_not_doubted():
    m = Life("sms")
    m.begin()
    m.refused(RETRYABLE)
    m.crash_process()
    m.commit_all()
    assert m.statuses == ["0.1 rejected", "0.2 queued"]


def test_9_what_was_parked_is_not_doubted():
    m = Life("sms")
    m.begin()
    m.revive(PARKED, None)
    m.commit_all()
    assert m.statuses == ["0.1 queued"]


def test_9_what_was_parked_is_not_doubted_though_its_call_was_written_ahead():
    m = Life("sms", routes=[[NEVER]])
    m.begin()
    m.tell(Sending(0, 1, "a"))
    m.commit_all()
    m.revive(PARKED, None)
    m.commit_all()
    assert (m.statuses, list(m.jobs)) == (["0.1 queued"], [(0, 1)])


def test_9_what_was_written_ahead_and_not_parked_is_doubted_whenever_its_owner_was_alive():
    m = Life("sms", routes=[[NEVER]])
    m.begin()
    m.tell(Sending(0, 1, "a"))
    m.commit_all()
    m.revive(START - timedelta(days=1), None)
    m.commit_all()
    assert m.statuses == ["0.1 ambiguous"]


def test_9_the_late_answer_drops_the_resend_that_has_not_left():
    m = Life("sms")
    m.begin()
    m.in_doubt()
    m.submitted()
    assert m.statuses == ["0.1 submitted", "0.2 superseded"]


@pytest.mark.parametrize("status", ["submitted", "undelivered"])
def test_9_a_receipt_drops_the_resend_that_has_not_left(status):
    m = Life("sms", "email")
    m.begin()
    m.in_doubt()
    m.receipt(status)
    assert m.statuses[:2] == [f"0.1 {status}", "0.2 superseded"]
    assert m.told[-1] == ("superseded 0.2" if status == "submitted" else "fallback 1.1")


def test_9_a_doubtful_attempt_stays_doubtful_when_its_resend_delivers():
    m = Life("sms")
    m.begin()
    m.in_doubt()
    m.wait(2)
    m.submitted(0, 2)
    m.receipt("delivered", attempt=2)
    assert m.statuses == ["0.1 ambiguous", "0.2 delivered"]
    assert m.submitted() == [CancelAtCarrier(0, 1)]


def test_9_when_both_were_taken_the_step_waits_for_both():
    m = Life("sms", "email")
    m.begin()
    m.in_doubt()
    m.wait(2)
    m.leaves(0, 2)
    m.submitted()
    m.submitted(0, 2)
    assert m.statuses == ["0.1 submitted", "0.2 submitted"]
    m.receipt("undelivered", attempt=2)
    assert m.state.step == 0
    m.receipt("undelivered")
    assert m.told[-1] == "fallback 1.1"


def test_9_a_withdrawn_resend_that_was_sent_all_the_same_is_cancelled_at_the_carrier():
    m = Life("sms")
    m.begin()
    m.in_doubt()
    m.wait(2)
    assert m.submitted() == [Withdraw(0, 2)]
    assert m.submitted(0, 2) == [CancelAtCarrier(0, 2)]


def test_9_a_late_refusal_settles_the_doubt():
    m = Life("sms", "email", routes=[[NEVER], [A]])
    m.begin()
    m.in_doubt()
    assert m.refused("invalid_destination") == [Dispatch(1, 1)]
    assert m.statuses == ["0.1 rejected", "1.1 queued"]


def test_9_a_late_refusal_of_what_bounced_says_nothing_new():
    m = Life("sms", "email")
    m.begin()
    m.in_doubt()
    m.receipt("undelivered")
    assert m.refused(RETRYABLE) == []
    assert m.statuses[0] == "0.1 undelivered"


def test_9_doubts_use_up_the_tries_of_the_step():
    m = Life("sms", "email")
    m.begin()
    for attempt in range(1, MAX_TRIES + 1):
        m.in_doubt(0, attempt)
        m.now = max(m.now, m.due if attempt < MAX_TRIES else m.now)
        m.tell(TimePassed())
    assert m.statuses == [f"0.{n} ambiguous" for n in range(1, MAX_TRIES + 1)]
    assert m.wait(60) == [Dispatch(1, 1)]


def test_9_a_doubt_about_an_attempt_that_was_given_up_makes_the_end_unknown():
    m = Life("sms", "email")
    m.begin()
    m.wait(60)
    assert m.statuses[0] == "0.1 superseded"
    m.in_doubt()  # the call had overtaken the withdrawal
    m.in_doubt()
    assert m.told.count("ambiguous 0.1") == 1
    m.wait(600)
    assert m.state.status == "unknown"


def test_9_a_receipt_before_the_late_answer_keeps_its_place():
    m = Life("sms", routes=[[NEVER]])
    m.begin()
    m.in_doubt()
    m.tell(Receipt(0, 1, 0, "y", "submitted"))
    assert m.attempt().carrier_message_ids == ["y"]
    m.submitted(0, 1, "x", "y")
    assert [(p.carrier_message_id, p.seen) for p in m.attempt().parts] == [("x", ()), ("y", ("submitted",))]


def test_9_submitted_attempts_are_waited_for_again_after_a_restart():
    m = Life("sms", "email")
    m.begin()
    m.submitted()
    m.wait(60)
    m.submitted(1)
    m.crash_process()
    m.commit_all()
    assert m.resumed == [(0, 1), (1, 1)]
    assert m.told == ["accepted", "submitted 0.1", "timed_out 0.1", "fallback 1.1", "submitted 1.1"]
    assert m.tell(Recovered(START)) == [Resume(0, 1), Resume(1, 1)]


def test_9_what_was_begun_after_the_last_known_sign_of_life_may_have_left():
    """Its own events say that the owner lived then, whatever is known otherwise (clocks differ)."""
    m = Life("sms")
    m.begin()
    m.attempt().dispatched = False  # a new process
    m.tell(Recovered(START - timedelta(minutes=1)))
    assert m.told[-1] == "ambiguous 0.1"


# --- rule 10: cancel ---


def test_10_cancel_before_submit_stops_it():
    m = Life("sms", "email")
    m.begin()
    assert m.tell(Cancel()) == [Withdraw(0, 1)]
    assert m.told == ["accepted", "superseded 0.1", "cancelled"]


def test_10_cancel_after_submit_asks_the_carriers_of_every_step():
    m = Life("sms", "email", "push")
    m.begin()
    m.submitted()
    m.wait(60)
    m.submitted(1)
    assert m.tell(Cancel()) == [CancelAtCarrier(0, 1), CancelAtCarrier(1, 1)]
    m.wait(600)
    assert m.told[-1] == "cancelled"


def test_10_cancel_with_an_attempt_in_flight_asks_the_carrier_once_it_answers():
    m = Life("sms")
    m.begin()
    m.leaves()
    assert m.tell(Cancel()) == []
    assert m.submitted() == [CancelAtCarrier(0, 1)]
    assert (m.state.status, m.statuses) == ("cancelled", ["0.1 superseded"])
    m.receipt("delivered")
    assert m.state.status == "cancelled"


def test_10_cancel_before_a_scheduled_message_leaves():
    m = Life("sms", send_in_s=100.0)
    m.begin()
    assert m.tell(Cancel()) == []
    assert m.told == ["accepted", "scheduled", "superseded 0.1", "cancelled"]
    assert m.wait(100) == []


def test_10_a_final_message_is_not_cancelled():
    m = Life("sms")
    m.begin()
    m.submitted()
    m.receipt("delivered")
    assert m.tell(Cancel()) == []
    assert m.told[-1] == "delivered 0.1"


# --- rules 11 and 12, and crashes ---


def test_11_the_last_steps_timeout_is_ignored():
    m = Life("email", "sms")
    m.begin()
    m.refused("content_rejected")
    m.submitted(1)
    assert m.wait(599) == []
    assert m.state.due() == m.message.expires_at
    m.wait(600)
    assert m.told[-2:] == ["timed_out 1.1", "unknown"]


def test_12_every_final_status_and_the_correction_has_one_webhook_type():
    for final in ("delivered", "failed", "expired", "cancelled", "unknown", "corrected"):
        assert WEBHOOK_TYPES[final] == f"message.{final}"


def test_a_message_whose_actor_keeps_crashing_fails_and_its_attempt_is_withdrawn():
    m = Life("sms")
    m.begin()
    for n in range(1, MAX_CRASHES + 1):
        assert m.state.open
        effects = m.tell(Crashed("KeyError"))
        assert m.state.crashes == n
    assert effects == [Withdraw(0, 1)]
    assert m.told[-1] == "failed"
    assert m.journal[-1].data["error"]["code"] == "cascade_crashed"


def test_a_decision_changes_nothing():
    m = Life("sms")
    m.begin()
    before = fold(m.message, m.journal)
    decide(m.state, Submitted(0, 1, "a", ("x",)), m.now, m.route)
    assert m.state == before


def test_every_input_has_an_answer_in_an_empty_state():
    state = Cascade(message("sms"))
    for input in (
        TimePassed(),
        Sending(0, 1, "a"),
        Submitted(0, 1, "a"),
        Refused(0, 1, "a", RETRYABLE),
        InDoubt(0, 1, "a"),
        Receipt(0, 1, 0, "x", "delivered"),
        Cancel(),
        Recovered(START),
        Crashed("KeyError"),
        Begin(),
    ):
        decide(state, input, START, lambda step: [A])


@given(st.permutations(["submitted", "first", "second", "again"]))
def test_what_the_receipts_of_all_segments_say_it_costs_wins_in_any_order(order: list[str]) -> None:
    m = Life("sms")
    m.begin()
    steps = {
        "submitted": lambda: m.tell(Submitted(0, 1, "a", ("x", "y"), 2, 0.5)),
        "first": lambda: m.tell(Receipt(0, 1, 0, "x", "submitted", cost=0.25)),
        "second": lambda: m.tell(Receipt(0, 1, 1, "y", "delivered", cost=0.125)),
        "again": lambda: m.tell(Receipt(0, 1, 0, "x", "delivered", cost=0.25)),
    }
    for step in order:
        steps[step]()
    assert m.state.cost() == 0.375


def test_a_price_for_some_segments_leaves_the_one_that_was_expected() -> None:
    m = Life("sms")
    m.begin()
    m.tell(Submitted(0, 1, "a", ("x", "y"), 2, 0.5))
    m.tell(Receipt(0, 1, 0, "x", "delivered", cost=0.25))
    assert m.state.cost() == 0.5
