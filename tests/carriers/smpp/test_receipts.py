"""Receipts as they are sent: what is in the table was seen, its source beside it."""

# ruff: noqa: E501 -- a receipt is one line

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carriers.smpp import constants as c
from carriers.smpp.pdu import DataSm, DeliverSm, decode
from carriers.smpp.receipts import kind_of, looks_like_receipt, read_date, read_receipt, read_text, text_of

UUID = "74e02ee1-4e2f-4a6e-a78b-4b247d756a22"

# text -> (id, state, status, error_code)
FORMS = [
    # SMPP v3.4, Appendix B, with its "Text" in capitals
    ("id:1234567890 sub:001 dlvrd:001 submit date:0901011200 done date:0901011201 stat:DELIVRD err:000 Text:Hi",
     "1234567890", "DELIVRD", "delivered", "000"),
    # cloudhopper-smpp, DeliveryReceiptTest: a real one, its text full of signs
    ("id:0059113978 sub:001 dlvrd:001 submit date:1002101730 done date:1002101731 stat:DELIVRD err:000 text:@$#!%&/:",
     "0059113978", "DELIVRD", "delivered", "000"),
    # the same: seconds in the dates, a UUID
    (f"id:{UUID} sub:001 dlvrd:001 submit date:110206193041 done date:110206193110 stat:DELIVRD err:000 text:",
     UUID, "DELIVRD", "delivered", "000"),
    # the same: any order
    (f"sub:001 id:{UUID} err:000 dlvrd:001 done date:110206193110 submit date:110206193041 stat:DELIVRD text:",
     UUID, "DELIVRD", "delivered", "000"),
    # the same: no sub, no dlvrd, years of four digits, no text
    ("id:2E179B310EDE971B2760C72B7F026E1B submit date:20110314181534 done date:20110314181741 stat:DELIVRD err:0",
     "2E179B310EDE971B2760C72B7F026E1B", "DELIVRD", "delivered", "0"),
    # the same: an id of eleven digits
    ("id:98765432101 sub:000 dlvrd:000 submit date:1001010000 done date:1001010000 stat:ENROUTE err:000 text:",
     "98765432101", "ENROUTE", "submitted", "000"),
    # cloudhopper-smpp pull request 42: err in hexadecimal
    ("id:77 sub:001 dlvrd:000 submit date:1310141200 done date:1310141201 stat:UNDELIV err:21b text:hello",
     "77", "UNDELIV", "undelivered", "21b"),
    # jSMPP issue 62
    ("id:1526758174 submit date:1701240904 done date:1701240904 stat:DELIVRD err:000 text:hellow",
     "1526758174", "DELIVRD", "delivered", "000"),
    # jSMPP, ExampleDeliveryReceiptStripperTest: no err
    ("id:123456 sub:234 dlvrd:000 submit date:1604052345 done date:1605021145 stat:DELIVRD",
     "123456", "DELIVRD", "delivered", None),
    # jSMPP, CustomDeliveryReceiptStripperTest: a state of the carrier's own
    ("id:5 sub:001 dlvrd:000 submit date:1604052345 done date:1605021145 stat:DND_REJECTED err:DND text:",
     "5", "REJECTD", "rejected", "DND"),
    # php-smpp issue 70: err of four digits
    ("id:117062714244798261 sub:001 dlvrd:001 submit date:1706271624 done date:1706271624 stat:DELIVRD err:0000 text:Hi",
     "117062714244798261", "DELIVRD", "delivered", "0000"),
    # php-smpp issue 29: a blank after the colon
    ("id:42 sub:001 dlvrd:001 submit date:1404171200 done date:1404171201 stat:DELIVRD err: 0 text:x",
     "42", "DELIVRD", "delivered", "0"),
    # Jasmin issue 70 (Clickatell)
    ("id:a29f6845555647139e5c8f3b817f2c9a sub:001 dlvrd:001 submit date:141023215253 done date:141023215259"
     " stat:DELIVRD err:000 text:",
     "a29f6845555647139e5c8f3b817f2c9a", "DELIVRD", "delivered", "000"),
    # Jasmin issue 447: FAILED, a done date of zeros
    ("id:1216080510463401720 sub:001 dlvrd:001 submit date:1608051046 done date:0000000000 stat:FAILED err:002 Text:",
     "1216080510463401720", "UNDELIV", "undelivered", "002"),
    # Jasmin issue 760: no sub, no dlvrd, no text
    ("id:fa9542be-3c16-44bb-9a8c-d277ea1851ef submit date:1911211739 done date:1911211741 stat:DELIVRD err:002",
     "fa9542be-3c16-44bb-9a8c-d277ea1851ef", "DELIVRD", "delivered", "002"),
    # Jasmin's own receipts: YYYYMMDDhhmm
    ("id:6f2929a9-e61a-435f-9c7a-55ccd3f26a7b submit date:201902261755 done date:201902261756 stat:ACCEPTD err:006",
     "6f2929a9-e61a-435f-9c7a-55ccd3f26a7b", "ACCEPTD", "submitted", "006"),
    # Kannel behind a gateway (somleng sms-gateway's tests): err 00B, two sizes of date in one receipt
    ("id:577e505a-dbd7-46ab-a04c-5a927ffb85b1 sub:001 dlvrd:000 submit date:2408201338 done date:240820093823"
     " stat:REJECTD err:00B text:You",
     "577e505a-dbd7-46ab-a04c-5a927ffb85b1", "REJECTD", "rejected", "00B"),
    # bulatnig smpp's tests: dlvrd and err of one digit
    ("id:b756c4f97aa2e1e67377dffc5e2f7d9b sub:001 dlvrd:0 submit date:0610191211 done date:0610191211 stat:REJECTD"
     " err:1 text:This is an Acti",
     "b756c4f97aa2e1e67377dffc5e2f7d9b", "REJECTD", "rejected", "1"),
    # node-smpp issue 77: dlvrd 28
    ("id:45013692 sub:0 dlvrd:28 submit date:1908121157 done date:1908121158 stat:UNDELIV err:21 Text:*100#",
     "45013692", "UNDELIV", "undelivered", "21"),
    # a SMSC of which only id and dates come before (Zain, in an integrator's code)
    ("id:86 submit date:1410160730 done date:1410160730 stat:DELIVRD", "86", "DELIVRD", "delivered", None),
    # state first, an id of letters and zeros, no submit date
    ("stat:EXPIRED err:255 id:0000AB12 done date:2607190900", "0000AB12", "EXPIRED", "undelivered", "255"),
    # fields of the carrier's own after err (seen through Kannel)
    ("id:40072910491419819 sub:001 dlvrd:001 submit date:1007291049 done date:1007291049 stat:UNDELIV err:001"
     " IMSI: MSC: ORN:VipNet MCCMNC:21910",
     "40072910491419819", "UNDELIV", "undelivered", "001"),
    # err as a status of SMPP
    ("id:9 stat:UNDELIV err:0x0000000B", "9", "UNDELIV", "undelivered", "0x0000000B"),
    # submitdate and donedate in one word
    ("id:1 sub:001 dlvrd:001 submitdate:2601011200 donedate:2601011201 stat:DELIVRD err:000 Text:dlr",
     "1", "DELIVRD", "delivered", "000"),
    # Unix times for dates (fiorix/go-smpp's example server)
    ("id:13 sub:001 dlvrd:001 submit date:1590075164 done date:1590075164 stat:DELIVRD err:000 Text:Lorem",
     "13", "DELIVRD", "delivered", "000"),
    # lower case throughout
    ("id:hw-001 sub:001 dlvrd:001 submit date:0809011130 done date:0809011131 stat:delivrd err:000 text:",
     "hw-001", "DELIVRD", "delivered", "000"),
    # capitals throughout, more than one blank
    ("ID:AB12  SUB:001  DLVRD:001  SUBMIT DATE:0809011130  DONE DATE:0809011131  STAT:DELIVRD  ERR:000  TEXT:x",
     "AB12", "DELIVRD", "delivered", "000"),
    # Appendix B as the specification prints it: a line break within "done date"
    ("id:1234567890 sub:001 dlvrd:001 submit date:0901011200 done\ndate:0901011201 stat:DELIVRD err:000 Text:Hi",
     "1234567890", "DELIVRD", "delivered", "000"),
    # blanks around
    ("  id:TRIM-001 stat:DELIVRD err:000  ", "TRIM-001", "DELIVRD", "delivered", "000"),
    # err of letters
    ("id:ERR-001 stat:UNDELIV err:E_NETWORK text:", "ERR-001", "UNDELIV", "undelivered", "E_NETWORK"),
    # a colon in the id
    ("id:ns:12345 stat:DELIVRD err:000", "ns:12345", "DELIVRD", "delivered", "000"),
    # an empty id (a gateway's test)
    ("id: sub:001 dlvrd:000 submit date:2401010000 done date:2401010001 stat:UNDELIV err:001 text:failed",
     None, "UNDELIV", "undelivered", "001"),
    # no id at all: it is in the parameter
    ("sub:001 dlvrd:001 submit date:2407190905 done date:2407191705 stat:UNDELIV err:000 text:dlink/veri",
     None, "UNDELIV", "undelivered", "000"),
    # empty err
    ("id:7 sub:001 dlvrd:001 submit date:2407190905 done date:2407191705 stat:DELETED err: text:x",
     "7", "DELETED", "undelivered", None),
    # UNKNOWN is not the end
    ("id:8 sub:001 dlvrd:000 submit date:2407190905 done date:2407191705 stat:UNKNOWN err:000 text:x",
     "8", "UNKNOWN", None, "000"),
    # a body nobody can use (a carrier that answers "ACK/" and leaves all to the parameters)
    ("ACK/", None, None, None, None),
    # padded to a fixed size
    ("id:881444543 sub:001 dlvrd:000 submit date:1512201521 done date:1512201521 stat:ACCEPTD err:000 text:ACK/OK      ",
     "881444543", "ACCEPTD", "submitted", "000"),
    # separated by commas
    ("id:abc, sub:001, dlvrd:001, submit date:2407190905, done date:2407191705, stat:DELIVRD, err:000, text:x",
     "abc", "DELIVRD", "delivered", "000"),
]  # fmt: skip


def receipt_pdu(text, tlvs=(), **more):
    return DeliverSm(0, 1, tuple(tlvs), esm_class=c.ESM_RECEIPT, short_message=text.encode("latin-1"), **more)


@pytest.mark.parametrize(("text", "message_id", "state", "status", "error"), FORMS, ids=range(len(FORMS)))
def test_29_text_forms(text, message_id, state, status, error):
    pdu = receipt_pdu(text)
    assert kind_of(pdu) == "receipt"
    got = read_receipt(pdu)
    assert got.message_ids == (() if message_id is None else (message_id,))
    assert (got.state, got.status, got.error_code) == (state, status, error)
    assert got.final == (status in ("delivered", "undelivered", "rejected"))


def test_29_there_are_at_least_25_forms():
    assert len({text for text, *_ in FORMS}) >= 25


def test_29_keys_after_text_are_the_senders_words():
    got = read_receipt(receipt_pdu("id:1 stat:UNDELIV err:001 text: stat:DELIVRD id:2 err:000"))
    assert (got.message_ids, got.state, got.error_code) == (("1",), "UNDELIV", "001")
    # cloudhopper takes a state that stands after text:; there a sender could write it
    assert read_receipt(receipt_pdu(f"sub:001 id:{UUID} err:000 text: stat:DELIVRD")).state is None


def test_29_dates():
    got = read_receipt(receipt_pdu("id:1 submit date:110206193041 done date:110206193110 stat:DELIVRD err:000 text:"))
    assert got.done_at() == datetime(2011, 2, 6, 19, 31, 10, tzinfo=UTC)
    assert got.submit_date == "110206193041"


@pytest.mark.parametrize(
    ("digits", "at"),
    [
        ("1002101731", datetime(2010, 2, 10, 17, 31, tzinfo=UTC)),
        ("240820093823", datetime(2024, 8, 20, 9, 38, 23, tzinfo=UTC)),
        ("201902261756", datetime(2019, 2, 26, 17, 56, tzinfo=UTC)),
        ("20110314181741", datetime(2011, 3, 14, 18, 17, 41, tzinfo=UTC)),
        ("0000000000", None),
        ("1590075164", None),
        ("10021017", None),
        ("", None),
    ],
)
def test_29_forms_of_dates(digits, at):
    assert read_date(digits) == at


def test_29_a_date_in_the_carriers_zone_is_told_in_utc():
    assert read_date("2407191705", timezone(timedelta(hours=2))) == datetime(2024, 7, 19, 15, 5, tzinfo=UTC)


def test_30_parameters_win_over_text():
    pdu = receipt_pdu(
        "id:0059113978 stat:UNDELIV err:027 text:",
        [(c.RECEIPTED_MESSAGE_ID, b"38601fa\0"), (c.MESSAGE_STATE, b"\2")],
    )
    got = read_receipt(pdu)
    assert got.message_ids == ("38601fa", "0059113978")
    assert (got.state, got.status, got.final, got.error_code) == ("DELIVRD", "delivered", True, "027")


@pytest.mark.parametrize(
    ("state", "word", "status", "final"),
    [
        (1, "ENROUTE", "submitted", False),
        (2, "DELIVRD", "delivered", True),
        (3, "EXPIRED", "undelivered", True),
        (4, "DELETED", "undelivered", True),
        (5, "UNDELIV", "undelivered", True),
        (6, "ACCEPTD", "submitted", False),
        (7, "UNKNOWN", None, False),
        (8, "REJECTD", "rejected", True),
        (0, "SCHEDULED", "submitted", False),
        (99, "99", None, False),
    ],
)
@pytest.mark.parametrize("nul", [b"", b"\0"])
def test_30_32_empty_text_and_parameters_alone(state, word, status, final, nul):
    pdu = receipt_pdu("", [(c.RECEIPTED_MESSAGE_ID, b"42" + nul), (c.MESSAGE_STATE, bytes((state,)))])
    back = decode(pdu.encode())
    assert isinstance(back, DeliverSm)
    got = read_receipt(back)
    assert (got.message_ids, got.state, got.status, got.final) == (("42",), word, status, final)


def test_30_network_error_code_stands_in_for_err():
    tlvs = [(c.RECEIPTED_MESSAGE_ID, b"42"), (c.MESSAGE_STATE, b"\5"), (c.NETWORK_ERROR_CODE, b"\3\0\x1b")]
    assert read_receipt(receipt_pdu("", tlvs)).error_code == "27"
    assert read_receipt(receipt_pdu("id:42 err:0A1", tlvs)).error_code == "0A1"
    odd = [*tlvs[:2], (c.NETWORK_ERROR_CODE, b"\3\0")]
    assert read_receipt(receipt_pdu("", odd)).error_code == "0300"


def test_30_text_in_message_payload_and_in_data_sm():
    text = b"id:5 sub:001 dlvrd:001 submit date:2407190905 done date:2407191705 stat:DELIVRD err:000 text:x"
    for pdu in (
        DeliverSm(0, 1, ((c.MESSAGE_PAYLOAD, text),), esm_class=4),
        DataSm(0, 1, ((c.MESSAGE_PAYLOAD, text),), esm_class=4),
        DeliverSm(0, 1, (), esm_class=4, data_coding=8, short_message=text.decode().encode("utf-16-be")),
        DeliverSm(0, 1, (), esm_class=4, data_coding=8, short_message=text),
    ):
        assert kind_of(pdu) == "receipt"
        assert read_receipt(pdu).message_ids == ("5",)


def test_29_text_in_another_coding_after_ascii_keys():
    # python-smpplib's test_parse_deliver_sm: Cyrillic UTF-16 after "text:" under data_coding 0
    text = "id:0489708364 sub:001 dlvrd:001 submit date:1810151907 done date:1810151907 stat:DELIVRD err:000 text:"
    pdu = DeliverSm(0, 1, (), esm_class=4, short_message=text.encode() + "Привет".encode("utf-16-be"))
    assert read_receipt(pdu).message_ids == ("0489708364",)


def test_30_no_nul_gets_through():
    got = read_receipt(receipt_pdu("id:a\0b stat:UNDELIV\0 err:0\x001 text:"))
    assert (got.message_ids, got.state, got.error_code) == (("a",), "UNDELIV", "0")
    tlvs = [(c.RECEIPTED_MESSAGE_ID, b"a\0b"), (c.MESSAGE_STATE, b"\2")]
    assert read_receipt(receipt_pdu("", tlvs)).message_ids == ("a",)


TEXT = "id:1 sub:001 dlvrd:001 submit date:2407190905 done date:2407191705 stat:DELIVRD err:000 text:x"


@pytest.mark.parametrize(
    ("esm_class", "flagged", "kind"),
    [
        (0x04, False, "receipt"),
        (0x07, False, "receipt"),
        (0x44, False, "receipt"),
        (0xC4, False, "receipt"),
        (0x20, False, "intermediate"),
        (0x00, False, "inbound"),  # an MO that looks like one stays an MO
        (0x00, True, "receipt"),
        (0x40, False, "inbound"),
        (0x03, False, "inbound"),
        (0x08, False, "acknowledgement"),
        (0x10, False, "acknowledgement"),
        (0x18, False, "acknowledgement"),
        (0x0C, False, "inbound"),  # reserved
    ],
)
def test_31_is_it_a_receipt(esm_class, flagged, kind):
    pdu = DeliverSm(0, 1, (), esm_class=esm_class, short_message=TEXT.encode())
    assert kind_of(pdu, flagged) == kind


@pytest.mark.parametrize("text", ["", "Hello", "my id: 5, call me", "id:5 stat:whatever", "Your identity"])
def test_31_a_flagged_carriers_messages_from_handsets_stay_messages(text):
    assert not looks_like_receipt(text)
    assert kind_of(DeliverSm(0, 1, (), short_message=text.encode()), True) == "inbound"


def test_31_both_parameters_make_a_receipt_whatever_esm_class_says():
    both = ((c.RECEIPTED_MESSAGE_ID, b"42\0"), (c.MESSAGE_STATE, b"\2"))
    assert kind_of(DeliverSm(0, 1, both)) == "receipt"
    assert kind_of(DeliverSm(0, 1, both[:1])) == "inbound"


def test_31_an_intermediate_notification_is_never_final():
    got = read_receipt(DeliverSm(0, 1, (), esm_class=0x20, short_message=TEXT.encode()), intermediate=True)
    assert (got.status, got.final) == ("submitted", False)


def test_32_the_domains_receipt():
    got = read_receipt(receipt_pdu("id:1 done date:2407191705 stat:EXPIRED err:027 text:"))
    made = got.delivery_receipt("telco")
    assert made is not None
    assert (made.status, made.error_class, made.error_code) == ("undelivered", "expired", "027")
    assert made.at == datetime(2024, 7, 19, 17, 5, tzinfo=UTC)
    rejected = read_receipt(receipt_pdu("id:1 stat:REJECTD err:11")).delivery_receipt(
        "telco", "key", "content_rejected"
    )
    assert rejected is not None
    assert (rejected.status, rejected.error_class) == ("undelivered", "content_rejected")
    assert rejected.carrier_message_id == "key"
    delivered = read_receipt(receipt_pdu("id:1 stat:DELIVRD err:000")).delivery_receipt("telco")
    assert delivered is not None
    assert (delivered.status, delivered.error_class, delivered.error_code) == ("delivered", None, None)
    for nothing in ("id:1 stat:UNKNOWN", "stat:DELIVRD", "ACK/"):
        assert read_receipt(receipt_pdu(nothing)).delivery_receipt("telco") is None


@given(
    st.binary(max_size=254),
    st.integers(0, 255),
    st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=9))),
)
def test_no_receipt_makes_the_parser_fail(octets, data_coding, tlvs):
    pdu = DeliverSm(0, 1, tuple((t, v) for t, v in tlvs if t != c.MESSAGE_STATE), short_message=octets)
    kind_of(pdu, True)
    read_receipt(pdu)


@given(st.text(max_size=300))
def test_no_text_makes_the_parser_fail(text):
    read_text(text)


@pytest.mark.parametrize("text", [" " * 1_000, "id " * 330, "text" * 250, "submit" + " " * 990, "done date" * 110])
def test_the_parsers_time_is_linear(text):
    for _ in range(20):
        read_text(text)


def test_text_beyond_a_thousand_octets_is_not_read():
    pdu = DataSm(0, 1, ((c.MESSAGE_PAYLOAD, b" " * 60_000 + b"id:1"),), esm_class=4)
    assert len(text_of(pdu)) == 1_000
