"""Message ids, times and content."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.domain.message import (
    _LETTER,
    Content,
    is_message_id,
    message_created_ms,
    new_message_id,
    rfc3339,
    ulid,
)

LAST_MS = (1 << 48) - 1
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
times = st.integers(0, LAST_MS)


@given(times)
def test_an_id_tells_its_creation_time(ms):
    message_id = "msg_" + ulid(ms)
    assert is_message_id(message_id)
    assert message_created_ms(message_id) == ms


@given(times, times)
def test_ids_sort_by_creation_time(a, b):
    if a != b:
        assert (ulid(a) < ulid(b)) == (a < b)


def test_a_ulid_is_26_letters_of_crockfords_base32():
    # The time part of ulid/spec's own example: 1469918176385 is 01ARYZ6S41.
    assert ulid(1469918176385)[:10] == "01ARYZ6S41"
    assert ulid(0)[:10] == "0" * 10
    assert ulid(LAST_MS)[:10] == "7" + "Z" * 9
    assert all(len(ulid()) == 26 and set(ulid()) <= set(CROCKFORD) for _ in range(100))


def test_every_random_letter_is_as_likely():
    assert len(_LETTER) == 256
    assert {_LETTER.count(letter) for letter in b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"} == {8}


def test_ids_of_one_millisecond_differ():
    assert len({ulid(1) for _ in range(10_000)}) == 10_000


def test_a_new_id_is_of_now_or_of_the_time_given():
    at = datetime(2026, 5, 4, 12, 0, 0, 123_999, tzinfo=UTC)
    assert message_created_ms(new_message_id(at)) == int(at.timestamp() * 1000)
    before = datetime.now(UTC)
    made = message_created_ms(new_message_id()) / 1000
    assert before - timedelta(milliseconds=1) <= datetime.fromtimestamp(made, UTC) <= datetime.now(UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "msg_",
        "msg_01ARYZ6S41",
        "msg_01ARYZ6S410123456789ABCDE",  # 25
        "msg_01ARYZ6S410123456789ABCDEFG",  # 27
        "ten_01ARYZ6S410123456789ABCDEF",
        "MSG_01ARYZ6S410123456789ABCDEF",
        "msg_81ARYZ6S410123456789ABCDEF",  # beyond 48 bits of time
        "msg_01aryz6s410123456789abcdef",  # one id, one spelling
        "msg_01ARYZ6S41012345678IABCDEF",  # no I, L, O, U
        "msg_01ARYZ6S41012345678_ABCDEF",
        "msg_01ARYZ6S4101234567８9ABCDEF",
    ],
)
def test_what_is_no_id_is_told(text):
    assert not is_message_id(text)


def test_times_are_written_with_microseconds_and_z():
    assert rfc3339(datetime(2026, 5, 4, 12, 0, tzinfo=UTC)) == "2026-05-04T12:00:00.000000Z"
    assert rfc3339(datetime(2026, 5, 4, 12, 0, 0, 7, tzinfo=timezone.utc)) == "2026-05-04T12:00:00.000007Z"  # noqa: UP017


def test_a_channels_own_content_wins():
    content = Content(text="long", subject="s", html="<p>", sms={"text": "short"}, push={"data": {"k": 1}})
    assert content.for_channel("sms").text == "short"
    assert content.for_channel("sms").subject == "s"
    assert content.for_channel("push") == Content(text="long", subject="s", html="<p>", data={"k": 1})
    assert content.for_channel("email") is content


def test_a_forked_process_makes_ids_of_its_own() -> None:
    ulid()  # the parent has drawn a block
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, ulid(0).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 26).decode() not in {ulid(0) for _ in range(1000)}
    os.close(read)
    os.close(write)
