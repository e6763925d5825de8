"""Columns and words: what both journals rest on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.domain.message import Content, Step, new_message_id, ulid
from hermes.journal.base import SHARDS, shard_of
from hermes.journal.queries import QUERIES
from hermes.journal.rows import (
    channel_mask,
    day_of_id,
    message_from_json,
    open_status,
    outbox_id,
    split_outbox_id,
    split_statuses,
    to_json,
)
from tests.journal.makers import message

NOW = datetime(2026, 1, 31, 23, 59, 59, 999_000, tzinfo=UTC)


@given(st.integers(0, 7 * 10**12))
def test_the_day_of_an_id_is_the_day_it_was_made(ms):
    at = datetime.fromtimestamp(ms / 1000, UTC)
    assert day_of_id(new_message_id(at)) == at.date()


def test_the_day_changes_at_midnight_to_the_millisecond():
    for _ in range(2):  # the second time from memory
        assert day_of_id(new_message_id(NOW)).day == 31
        assert day_of_id(new_message_id(NOW + timedelta(milliseconds=1))).day == 1


@pytest.mark.parametrize("text", ["", "msg_", "msg_01", "msg_UUUUUUUUUUUUUUUUUUUUUUUUUU"])
def test_what_is_no_id_has_no_day(text):
    with pytest.raises((KeyError, ValueError)):
        day_of_id(text)


def test_a_shard_is_the_same_for_ever():
    assert shard_of("msg_01M85VD84ZHHB8QM2S546DPEM8") == 14
    assert {shard_of("msg_" + ulid()) for _ in range(2000)} == set(range(SHARDS))


def test_a_body_with_unknown_and_missing_fields_is_read():
    """Two versions of Hermes share one journal during an upgrade."""
    made = message(NOW, content=Content(text="Hi"), cascade=(Step("sms", 1.5, "delivered"),))
    newer = to_json(made)[:-1] + ',"new_field":{"a":[1]}}'
    assert message_from_json(newer) == made
    older = to_json(made).replace('"on_ambiguous":null,', "").replace(',"encoding":null', "")
    assert message_from_json(older) == made


def test_channels_are_bits_in_the_order_of_the_contract():
    assert channel_mask(("email",)) == 1
    assert channel_mask(("sms", "whatsapp", "sms")) == 2 + 8


@pytest.mark.parametrize(
    ("types", "status"),
    [
        ([], "accepted"),
        (["accepted", "sending", "crashed"], "accepted"),
        (["accepted", "scheduled", "crashed"], "scheduled"),
        (["accepted", "scheduled", "submitted"], "in_progress"),
        (["accepted", "rejected", "sending"], "in_progress"),
    ],
)
def test_an_open_message_is_called_by_its_newest_public_event(types, status):
    assert open_status(types) == status


def test_statuses_are_split_into_final_and_open():
    assert split_statuses(["delivered", "scheduled"]) == (["delivered"], ["scheduled"])
    assert split_statuses(["open", "accepted"]) == ([], ["accepted", "in_progress", "scheduled"])


@given(st.integers(1, 10**9 - 1), st.text(min_size=1))
def test_a_delivery_is_found_by_its_name(seq, target):
    id_ = new_message_id()
    assert split_outbox_id(outbox_id(id_, seq, target)) == (id_, seq, target)


@pytest.mark.parametrize("text", ["", "a", "a.b", "a.x.c", "a.²1.c", "a.-1.c", "a.99999999999.c"])
def test_what_names_no_delivery_is_told_apart(text):
    assert split_outbox_id(text) is None


def test_queries_are_read_by_name():
    assert QUERIES["find_idempotent"].startswith("SELECT request_hash")
    assert all(query and "-- name" not in query for query in QUERIES.values())
