"""Messages from handsets."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carriers.smpp import constants as c
from carriers.smpp.inbound import Reassembler, read_part
from carriers.smpp.pdu import DataSm, DeliverSm
from carriers.smpp.segmentation import segment


def parts_of(text, concatenation="udh8", reference=7, sender="4520123456", **more):
    segmented = segment(text, reference, concatenation=concatenation)
    return [
        DeliverSm(
            0, n, part.tlvs, "", 1, 1, sender, 3, 0, "1231", part.esm_class,
            data_coding=segmented.data_coding, short_message=part.short_message, **more,
        )
        for n, part in enumerate(segmented.parts, 1)
    ]  # fmt: skip


LONG = "Grüße und {liebe} € Wünsche. " * 20
EMOJI = "Hej 😀 med dig. " * 30


@pytest.mark.parametrize("concatenation", ["udh8", "udh16", "sar", "payload"])
@pytest.mark.parametrize("text", ["short", LONG, EMOJI])
def test_42_parts_in_any_order_become_the_text(concatenation, text):
    pdus = parts_of(text, concatenation)
    random.Random(1).shuffle(pdus)
    reassembler = Reassembler()
    got = [m for pdu in pdus for m in reassembler.add(read_part(pdu), pdu.sequence_number, 5.0)]
    assert [(m.text, m.parts, m.complete) for m in got] == [(text, len(pdus), True)]
    assert set(got[0].deliveries) == {pdu.sequence_number for pdu in pdus}
    assert (got[0].sender, got[0].recipient) == ("+4520123456", "1231")
    assert len(reassembler) == 0


def test_42_a_letter_cut_in_two_by_the_handset_is_put_together():
    octets = "a😀b".encode("utf-16-be")
    reassembler = Reassembler()
    got = []
    for n, piece in enumerate((octets[:4], octets[4:]), 1):
        pdu = DeliverSm(0, n, esm_class=c.ESM_UDHI, data_coding=8, short_message=bytes((5, 0, 3, 9, 2, n)) + piece)
        got += reassembler.add(read_part(pdu), n, 5.0)
    assert got[0].text == "a😀b"


def test_42_messages_of_different_senders_or_references_are_not_mixed():
    reassembler = Reassembler()
    one, two, three = parts_of(LONG), parts_of(LONG, sender="4599999999"), parts_of(LONG, reference=8)
    got = []
    for pdus in zip(one, two, three, strict=True):
        for pdu in pdus:
            got += reassembler.add(read_part(pdu), 0, 5.0)
    assert [m.text for m in got] == [LONG] * 3


def test_42_what_does_not_come_in_time_is_given_as_it_is():
    reassembler = Reassembler(timeout_s=300)
    pdus = parts_of(LONG)
    for pdu in pdus[:1] + pdus[2:]:
        assert reassembler.add(read_part(pdu), pdu.sequence_number, 5.0) == []
    assert reassembler.next_due() == 305.0
    assert reassembler.expire(304.9) == []
    (given,) = reassembler.expire(305.0)
    assert not given.complete
    assert given.parts == len(pdus)
    assert given.text is not None
    assert LONG.startswith(given.text[:100])
    assert reassembler.next_due() is None


def test_42_a_part_that_comes_twice_is_one_part():
    reassembler = Reassembler()
    pdus = parts_of(LONG)
    assert reassembler.add(read_part(pdus[0]), "a", 5.0) == []
    assert reassembler.add(read_part(pdus[0]), "b", 5.0) == []
    got = [m for pdu in pdus[1:] for m in reassembler.add(read_part(pdu), "c", 5.0)]
    assert got[0].text == LONG
    assert set(got[0].deliveries) == {"a", "b", "c"}
    (again,) = reassembler.add(read_part(pdus[0]), "d", 6.0)
    assert (again.text, again.deliveries, again.complete) == (None, ("d",), True)
    assert len(reassembler) == 0


def test_42_unfinished_messages_are_bounded_and_the_oldest_goes_first():
    reassembler = Reassembler(max_messages=10)
    given = []
    for n in range(1_000):
        given += reassembler.add(read_part(parts_of(LONG, sender=str(n))[0]), n, float(n))
    assert len(reassembler) == 10
    assert [m.deliveries for m in given[:3]] == [(0,), (1,), (2,)]
    assert len(reassembler._done) <= 10


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"\5\0\3\7\2\1", (7, 2, 1)),
        (b"\6\x08\4\1\7\2\1", (263, 2, 1)),
        (b"\x0b\5\4\0\1\0\2\0\3\7\2\1", (7, 2, 1)),  # ports first
        (b"\5\0\3\7\2\0", (0, 1, 1)),
        (b"\5\0\3\7\2\3", (0, 1, 1)),
        (b"\5\0\3\7\0\0", (0, 1, 1)),
        (b"\5\0\3\7\1\1", (0, 1, 1)),
        (b"\5\0\4\7\2\1", (0, 1, 1)),
        (b"\0", (0, 1, 1)),
        (b"\xff\0\3", (0, 1, 1)),
        (b"\1\0", (0, 1, 1)),
    ],
)
def test_42_headers(header, expected):
    part = read_part(DeliverSm(0, 1, esm_class=c.ESM_UDHI, short_message=header + b"text"))
    assert (part.reference, part.total, part.number) == expected


@given(st.binary(max_size=140), st.integers(0, 255), st.integers(0, 255))
def test_42_nothing_from_a_handset_makes_it_fail(octets, esm_class, data_coding):
    part = read_part(DeliverSm(0, 1, esm_class=esm_class, data_coding=data_coding, short_message=octets))
    Reassembler().add(part, 1, 1.0)


def test_42_sar_parameters_that_make_no_sense_tie_nothing():
    for total, number in ((0, 1), (2, 0), (2, 3), (1, 1)):
        sar = (
            (c.SAR_MSG_REF_NUM, b"\0\1"),
            (c.SAR_TOTAL_SEGMENTS, bytes((total,))),
            (c.SAR_SEGMENT_SEQNUM, bytes((number,))),
        )
        assert read_part(DeliverSm(0, 1, sar, short_message=b"x")).total == 1


def test_42_addresses_and_alphabets():
    part = read_part(DeliverSm(0, 1, (), "", 5, 0, "Google", 1, 1, "4520000000", short_message=b"caf\xe9"), "latin1")
    assert (part.sender, part.recipient, part.text) == ("Google", "+4520000000", "café")
    assert read_part(DeliverSm(0, 1, (), "", 5, 0, "\x0brsted")).sender == "Ørsted"
    assert read_part(DataSm(0, 1, ((c.MESSAGE_PAYLOAD, b"hi"),))).text == "hi"
    assert read_part(DeliverSm(0, 1, data_coding=4, short_message=b"\1\2")).text is None
