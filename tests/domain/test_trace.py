"""A message's trace: its spans follow from its events, their ids from its id."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.domain import trace
from hermes.domain.cascade import Attempt, Cascade
from hermes.domain.message import Content, Message, Step

AT = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"  # W3C Trace Context, 3.2.4


def message(traceparent: str | None = None) -> Message:
    return Message(
        "msg_01JABCDEFGHJKMNPQRSTVWXYZ0",
        "ten_1",
        {"email": "a@example.com", "phone": "+4520120001"},
        (Step("email", 30.0, "delivered"), Step("sms", 60.0, "delivered")),
        Content(text="Hi"),
        AT,
        AT + timedelta(hours=1),
        traceparent=traceparent,
    )


def s(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def delivered(traceparent: str | None = None) -> Cascade:
    """E-mail timed out after 30 s, SMS was delivered 2 s later."""
    email = Attempt(0, 1, "email", "mail", s(0), "timed_out", submitted_at=s(0.1), ended_at=s(30))
    error = {"class": "invalid_destination", "code": "1", "detail": "no such number"}
    refused = Attempt(1, 1, "sms", "telco", s(30), "rejected", ended_at=s(30.2), error=error)
    sms = Attempt(1, 2, "sms", "other", s(30.2), "delivered", submitted_at=s(30.5), ended_at=s(32))
    sms.carrier_message_ids = ["c-1"]
    return Cascade(
        message(traceparent), "delivered", 9, 1, s(30), [email, refused, sms], delivered_by=1, final_at=s(32)
    )


def test_one_trace_with_a_span_for_each_try_and_each_wait() -> None:
    spans = trace.message_spans(delivered(), s(0.02))
    own = spans[0]
    assert [(span.name, span.kind, span.error) for span in spans] == [
        ("message", "server", None),
        ("accept", "internal", None),
        ("send email", "client", "timed_out"),
        ("await receipt", "internal", "timed_out"),
        ("send sms", "client", "invalid_destination"),
        ("send sms", "client", None),
        ("await receipt", "internal", None),
    ]
    assert len({span.trace_id for span in spans}) == 1
    assert len({span.span_id for span in spans}) == len(spans)
    assert (own.start, own.end, own.parent_id) == (s(0), s(32), None)
    assert own.attributes["hermes.status"] == "delivered" and own.attributes["hermes.delivered_by"] == "sms"
    sends = [span for span in spans if span.name.startswith("send")]
    assert {span.parent_id for span in sends} == {own.span_id}
    waits = [span for span in spans if span.name == "await receipt"]
    assert [span.parent_id for span in waits] == [sends[0].span_id, sends[2].span_id]
    assert [(span.start, span.end) for span in waits] == [(s(0.1), s(30)), (s(30.5), s(32))]
    assert sends[2].attributes["hermes.carrier_message_id"] == "c-1"


def test_spans_hold_no_address_and_no_text() -> None:
    assert not any(secret in repr(trace.message_spans(delivered(), None)) for secret in ("example.com", "4520", "Hi"))


def test_message_is_a_child_of_its_callers_span() -> None:
    own = trace.message_spans(delivered(CALLER), None)[0]
    assert f"{own.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert own.parent_id == 0xB7AD6B7169203331
    assert trace.trace_of(message(CALLER)).sampled is True
    assert trace.trace_of(message(CALLER[:-2] + "00")).sampled is False


def test_late_receipt_knows_its_parent_without_being_told() -> None:
    sent = trace.message_spans(delivered(CALLER), None)[1]
    late = trace.receipt_span(message(CALLER), 0, 1, "mail", "delivered", s(3600))
    assert (late.trace_id, late.parent_id, late.links) == (
        sent.trace_id,
        sent.span_id,
        ((sent.trace_id, sent.span_id),),
    )


@pytest.mark.parametrize(
    "text",
    [
        None, "", "00", CALLER.upper(), CALLER[:-1], CALLER + "-x", "ff" + CALLER[2:], CALLER.replace("-", "_"),
        "00-" + "0" * 32 + "-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        CALLER + "\n", " " + CALLER, CALLER + "-" + "x" * 200,
    ],
)  # fmt: skip
def test_traceparent_of_the_wrong_form_is_none(text: Any) -> None:
    assert trace.parse_traceparent(text) is None
    assert trace.trace_of(message(text)).parent_id is None


def test_later_version_of_traceparent_may_say_more() -> None:
    assert trace.parse_traceparent("01" + CALLER[2:] + "-more") is not None


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1))
def test_traceparent_we_write_is_read_back(trace_id: int, span_id: int) -> None:
    assert trace.parse_traceparent(trace.traceparent(trace_id, span_id)) == (trace_id, span_id, True)


@given(st.text(max_size=130))
def test_any_text_is_read_without_an_error(text: str) -> None:
    trace.parse_traceparent(text)
