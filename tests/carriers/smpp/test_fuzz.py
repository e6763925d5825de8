"""30,000 malformed PDUs: one error type, memory flat, the link survives all but framing errors.

The figure is in docs/smpp.md; a longer run: tests/fuzz/smpp_atheris.py.
"""

from __future__ import annotations

import gc
import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carriers.smpp import constants as c
from carriers.smpp import pdu as p
from carriers.smpp.framer import Framer
from carriers.smpp.inbound import Reassembler
from carriers.smpp.pdu import PduError, decode
from carriers.smpp.session import Answered, Close, InboundArrived, ReceiptArrived, Send
from tests.carriers.smpp.driver import Driver
from tests.carriers.smpp.malformed import CORPUS, mutate, with_length

CASES = 30_000
LEAVES = {c.UNBIND, c.UNBIND_RESP, c.GENERIC_NACK}  # well read, these end a session


def check(frame: bytes) -> bool:
    """Decode; tell whether it was taken. What is taken says just what it was: it is written again as it came."""
    try:
        pdu = decode(frame)
    except PduError as exc:
        assert exc.command_status in c.STATUS_NAMES
        assert not exc.broken
        return False
    repr(pdu)
    if len(frame) == 16 and pdu.may_lack_body:
        return True
    if getattr(pdu, "short_message", b"") and pdu.tlv(c.MESSAGE_PAYLOAD) is not None:
        return True  # read, never written (behaviour 37)
    assert pdu.encode() == frame
    return True


def test_30_000_malformed_pdus_raise_one_error_and_what_is_taken_is_what_came():
    rng = random.Random(30_000)
    taken = sum(check(mutate(rng)) for _ in range(CASES))
    # Many a mutation is none: a letter for a letter, a vendor's parameter. smpplib takes 3,758 that are refused here.
    assert taken < 0.25 * CASES


@pytest.mark.slow
def test_30_000_malformed_pdus_leave_the_link_up_and_memory_flat():
    rng = random.Random(31_000)
    driver = Driver(max_unacknowledged=100).bound()
    reassembler = Reassembler(max_messages=50)
    session, sizes = driver.session, []
    tracemalloc.start()
    for n in range(CASES):
        frame = mutate(rng)
        if int.from_bytes(frame[4:8], "big") in LEAVES:
            continue
        session.submit(n, p.SubmitSm(destination_addr="45"), driver.now)
        for o in session.received(frame, driver.now):
            if isinstance(o, Send):
                decode(o.data)
            elif isinstance(o, InboundArrived):
                reassembler.add(o.part, o.delivery, driver.now)
                session.acknowledge(o.delivery, driver.now)
            elif isinstance(o, ReceiptArrived):
                o.receipt.delivery_receipt("carrier")
                session.acknowledge(o.delivery, driver.now)
            else:
                assert isinstance(o, Answered)
        assert session.state == "bound"
        if n % 5_000 == 4_999:
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert session.in_flight <= session.settings.window_size
    assert sizes[-1] - sizes[1] < 64_000


def test_framing_errors_alone_break_the_link_and_say_so():
    rng = random.Random(32_000)
    for _ in range(2_000):
        frame = bytearray(mutate(rng))
        wrong = rng.choice((0, 1, 15, 65_537, 0x7FFFFFFF, 0xFFFFFFFF, 0x16030100))
        frame[:4] = wrong.to_bytes(4, "big")
        driver = Driver().bound()
        out = driver.session.received(bytes(frame), driver.now)
        assert any(isinstance(o, Close) for o in out)
        assert driver.session.state == "down"


@given(st.lists(st.binary(max_size=80), max_size=12))
def test_any_octets_in_any_pieces_give_frames_or_a_broken_stream(pieces):
    framer = Framer()
    for piece in pieces:
        for frame in framer.feed(piece):
            check(frame)
        assert framer.buffered <= 65_536


@given(st.sampled_from([*p.PDUS, 0x777]), st.binary(max_size=300), st.integers(0, 0xFFFFFFFF))
@settings(max_examples=1_500)
def test_any_body_under_any_command_id(command_id, body, sequence_number):
    head = command_id.to_bytes(4, "big") + bytes(4) + sequence_number.to_bytes(4, "big")
    check(with_length(bytes(4) + head + body))


@given(st.sampled_from(CORPUS), st.integers(16, 600))
def test_every_prefix_of_a_good_pdu(frame, size):
    check(with_length(frame[:size]))
