"""Sequence numbers and the requests behind them."""

from __future__ import annotations

from carriers.smpp import constants as c
from carriers.smpp.pdu import MAX_SEQUENCE_NUMBER
from carriers.smpp.window import LATE_ENTRIES, Request, Window


def request(handle, sent_at=0.0):
    return Request(handle, c.SUBMIT_SM_RESP, sent_at)


def test_1_numbers_wrap_to_1_and_skip_what_waits():
    window = Window(10, first=MAX_SEQUENCE_NUMBER - 1)
    window.add(1, request("old"))
    assert [window.number() for _ in range(3)] == [MAX_SEQUENCE_NUMBER - 1, MAX_SEQUENCE_NUMBER, 2]


def test_1_numbers_skip_those_whose_late_answer_may_still_come():
    window = Window(10, late_s=100, first=1)
    n = window.number()
    window.add(n, request("a"))
    window.expire(0.0, now=15.0)
    wrapped = Window(10, late_s=100, first=1)
    wrapped.add(1, request("a"))
    wrapped.expire(0.0, now=15.0)
    assert wrapped.number() == 2


def test_2_a_number_leaves_once():
    window = Window(2)
    window.add(1, request("a"))
    assert window.pop(1, c.QUERY_SM_RESP) is None
    taken = window.pop(1, c.SUBMIT_SM_RESP)
    assert taken is not None
    assert taken.handle == "a"
    assert window.pop(1) is None
    assert window.free == 2


def test_4_5_what_expires_is_remembered_for_a_while():
    window = Window(5, late_s=100)
    for n in range(1, 4):
        window.add(n, request(n, float(n)))
    assert [r.handle for r in window.expire(2.0, now=20.0)] == [1, 2]
    assert window.oldest() == 3.0
    late = window.pop_late(1, c.SUBMIT_SM_RESP, 30.0)
    assert late is not None
    assert window.pop_late(1, c.SUBMIT_SM_RESP, 30.0) is None
    assert window.pop_late(2, c.SUBMIT_SM_RESP, 121.0) is None


def test_5_late_requests_are_bounded():
    window = Window(1)
    for n in range(1, LATE_ENTRIES + 100):
        window.add(n, request(n, 0.0))
        window.expire(0.0, now=1.0)
    assert window.pop_late(1, None, 2.0) is None
    assert window.pop_late(LATE_ENTRIES + 99, None, 2.0) is not None
    assert len(window._late) <= LATE_ENTRIES


def test_17_a_loss_gives_everything_in_order():
    window = Window(5)
    for n in (3, 1, 2):
        window.add(n, request(n))
    assert [r.handle for r in window.drain()] == [3, 1, 2]
    assert len(window) == 0
