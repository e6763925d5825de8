"""A message as submit_sm."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from carriers.smpp import constants as c
from carriers.smpp.pdu import PduError
from carriers.smpp.segmentation import References
from carriers.smpp.submit import SubmitSettings, absolute_time, build_submits, relative_time, source_address

NOW = datetime(2026, 1, 31, 23, 59, 30, tzinfo=UTC)


def build(text="Hello", to="+4520123456", sender="Hermes", now=None, expires_at=None, **settings):
    references = References(1_800_000_000.0)
    return build_submits(text, to, sender, SubmitSettings(**settings), references, now=now, expires_at=expires_at)


@pytest.mark.parametrize(
    ("sender", "expected"),
    [
        ("Hermes", (5, 0, "Hermes")),
        ("Ørsted", (5, 0, "\x0brsted")),
        ("+4520123456", (1, 1, "4520123456")),
        ("4520123456", (1, 1, "4520123456")),
        ("1231", (3, 0, "1231")),
        ("24-7 Taxi", (5, 0, "24-7 Taxi")),
        ("elevenchars", (5, 0, "elevenchars")),
    ],
)
def test_39_senders(sender, expected):
    assert source_address(sender) == expected


@pytest.mark.parametrize("sender", ["", "twelve chars", "[[brackets]]", "Дом", "me@home", "`"])
def test_39_senders_nobody_can_send(sender):
    with pytest.raises(PduError) as e:
        source_address(sender)
    assert e.value.command_status == c.ESME_RINVSRCADR


def test_39_a_sender_in_the_carriers_alphabet():
    assert source_address("Ørsted", "latin1") == (5, 0, "Ørsted")
    with pytest.raises(PduError):
        source_address("Ørsted", "ascii")


@pytest.mark.parametrize("to", ["", "+", "4512345678901234567890", "not a number", "+45 20"])
def test_39_destinations_that_are_no_number(to):
    with pytest.raises(PduError) as e:
        build(to=to)
    if to not in ("", "+"):
        assert e.value.command_status == c.ESME_RINVDSTADR


def test_34_38_39_41_a_short_message():
    segmented, (pdu,) = build()
    assert (segmented.encoding, len(segmented.parts)) == ("gsm7", 1)
    assert (pdu.source_addr_ton, pdu.source_addr_npi, pdu.source_addr) == (5, 0, "Hermes")
    assert (pdu.dest_addr_ton, pdu.dest_addr_npi, pdu.destination_addr) == (1, 1, "4520123456")
    assert (pdu.esm_class, pdu.protocol_id, pdu.priority_flag, pdu.data_coding) == (0, 0, 0, 0)
    assert pdu.registered_delivery == 1
    assert pdu.validity_period == pdu.schedule_delivery_time == ""
    pdu.encode()


@pytest.mark.parametrize(("concatenation", "esm_class"), [("udh8", 0x40), ("udh16", 0x40), ("sar", 0)])
def test_34_36_37_41_parts(concatenation, esm_class):
    _, pdus = build("ж" * 190, concatenation=concatenation)
    assert len(pdus) == 3
    assert {pdu.esm_class for pdu in pdus} == {esm_class}
    assert {pdu.registered_delivery for pdu in pdus} == {1}
    assert {pdu.data_coding for pdu in pdus} == {8}
    for pdu in pdus:
        pdu.encode()


def test_35_two_long_messages_to_one_number_have_different_references():
    references = References(1_800_000_000.0)
    heads = []
    for _ in range(3):
        _, pdus = build_submits("x" * 200, "+4520123456", "Hermes", SubmitSettings(), references)
        heads.append(pdus[0].short_message[3])
        assert len({pdu.short_message[3] for pdu in pdus}) == 1
    assert len(set(heads)) == 3


def test_38_41_settings_of_a_carrier():
    _, (pdu,) = build(
        sender="1231", source_ton=6, source_npi=0, dest_ton=2, dest_npi=8, registered_delivery=0,
        service_type="CMT", esm_mode=3, protocol_id=1, priority_flag=2, tlvs=((0x1400, b"x"),),
    )  # fmt: skip
    assert (pdu.source_addr_ton, pdu.source_addr_npi, pdu.dest_addr_ton, pdu.dest_addr_npi) == (6, 0, 2, 8)
    assert (pdu.registered_delivery, pdu.service_type, pdu.esm_class) == (0, "CMT", 3)
    assert (pdu.protocol_id, pdu.priority_flag, pdu.tlvs) == (1, 2, ((0x1400, b"x"),))


def test_40_times():
    assert absolute_time(NOW) == "260131235930000+"
    assert absolute_time(NOW.astimezone(timezone(timedelta(hours=2)))) == "260131235930000+"
    assert relative_time(60) == "000000000100000R"
    assert relative_time(3 * 86_400 + 4_000) == "000003010640000R"
    assert relative_time(-5) == "000000000001000R"
    assert relative_time(10**9) == "000099000000000R"
    for text in (absolute_time(NOW), relative_time(600)):
        assert len(text) == 16


def test_40_what_the_message_has_waited_is_taken_off():
    later = NOW + timedelta(minutes=5)
    _, (pdu,) = build(now=NOW + timedelta(minutes=2), expires_at=later, relative_validity=True)
    assert pdu.validity_period == relative_time(180)
    _, (pdu,) = build(now=NOW, expires_at=later)
    assert pdu.validity_period == "260201000430000+"


def test_a_text_too_long_has_the_carriers_status():
    with pytest.raises(PduError) as e:
        build("x" * 40_000)
    assert e.value.command_status == c.ESME_RINVMSGLEN
