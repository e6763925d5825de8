"""The codec against smpplib and against octets written by hand. Numbers in names: behaviours in docs/smpp.md."""

from __future__ import annotations

import random
import struct

import pytest

from carriers.smpp import constants as c
from carriers.smpp import pdu as p
from carriers.smpp.pdu import PduError, decode

consts = pytest.importorskip("smpplib.consts")
commands = pytest.importorskip("smpplib.command")
command_codes = pytest.importorskip("smpplib.command_codes")
smpp = pytest.importorskip("smpplib.smpp")

PDUS_A_KIND = 400
WRITABLE_BY_SMPPLIB = (
    "bind_transmitter", "bind_receiver", "bind_transceiver",
    "bind_transmitter_resp", "bind_receiver_resp", "bind_transceiver_resp",
    "submit_sm", "submit_sm_resp", "deliver_sm", "deliver_sm_resp", "data_sm", "data_sm_resp",
    "query_sm", "unbind", "unbind_resp", "enquire_link", "enquire_link_resp", "generic_nack",
    "alert_notification",
)  # fmt: skip
# What smpplib writes with another size than 5.3.2 gives, or cannot write.
NOT_COMPARED = {"source_addr_subunit", "alert_on_message_delivery", "source_subaddress", "dest_subaddress"}


class Client:
    sequence = 1

    def next_sequence(self):
        return 1


def header(command_id, body=b"", status=0, sequence=7, length=None):
    return struct.pack(">IIII", 16 + len(body) if length is None else length, command_id, status, sequence) + body


def words(rng, size):
    return "".join(rng.choice("0123456789ABCDEFabcdef+-_. ") for _ in range(rng.randint(0, size)))


def some_pdu(rng, name):
    """Make one PDU twice: ours, and as smpplib writes it."""
    kind = p.PDUS[command_codes.commands[name]]
    theirs_kind = commands.factory(name, client=Client())
    ours, theirs, tlvs = {}, {}, []
    for field in kind.layout:
        if field.octets == 0:
            ours[field.name] = words(rng, min(field.limit, 20))
        elif field.name == "interface_version":
            ours[field.name] = 0x34  # smpplib writes no other
        else:
            ours[field.name] = rng.choice((0, 1, 5, 255, rng.randint(0, 255)))
    if name == "query_sm" and not ours["message_id"]:
        ours["message_id"] = "1"
    if name in ("submit_sm", "deliver_sm"):
        ours["short_message"] = rng.randbytes(rng.choice((0, 1, 160, 254)))
    theirs.update(ours)
    for tag_name in theirs_kind.params_order:
        param = theirs_kind.params[tag_name]
        if tag_name not in consts.OPTIONAL_PARAMS or tag_name in NOT_COMPARED or rng.random() < 0.7:
            continue
        if tag_name == "message_payload" and ours.get("short_message"):
            continue
        tag = consts.OPTIONAL_PARAMS[tag_name]
        if param.type is int:
            number = rng.randint(0, 256**param.size - 1)
            theirs[tag_name] = number
            tlvs.append((tag, number.to_bytes(param.size, "big")))
        elif param.type is str:
            text = words(rng, min(param.max, 60) - 2) or "x"
            theirs[tag_name] = text[: param.max - 2]
            tlvs.append((tag, theirs[tag_name].encode() + b"\0"))
        else:
            octets = rng.randbytes(getattr(param, "size", None) or rng.randint(1, param.max))
            theirs[tag_name] = octets
            tlvs.append((tag, octets))
    sequence, status = rng.randint(1, 0x7FFFFFFF), rng.choice((0, 0, 8, 0x58))
    mine = kind(command_status=status, sequence_number=sequence, tlvs=tuple(tlvs), **ours)
    other = smpp.make_pdu(name, client=Client(), **theirs)
    other.sequence, other.status = sequence, status
    return mine, other.generate()


@pytest.mark.parametrize("name", WRITABLE_BY_SMPPLIB)
def test_what_smpplib_can_write_is_equal_octet_for_octet_and_is_read_back(name):
    rng = random.Random(name)
    for _ in range(PDUS_A_KIND):
        mine, theirs = some_pdu(rng, name)
        assert mine.encode() == theirs
        assert decode(theirs) == mine


def test_names_and_numbers_are_those_of_smpplib():
    for name, value in vars(consts).items():
        if name.startswith("SMPP_ESME_R"):
            assert getattr(c, name.removeprefix("SMPP_")) == value
    for name, value in consts.OPTIONAL_PARAMS.items():
        assert getattr(c, name.upper()) == value
    for name, value in command_codes.commands.items():
        if not name.startswith("submit_multi"):
            assert p.NAMES[value] == name
            assert getattr(c, name.upper()) == value
    assert set(p.PDUS) == {v for n, v in command_codes.commands.items() if "multi" not in n}


@pytest.mark.parametrize(
    ("mine", "body"),
    [  # by hand from 4.9.1, 4.10.1, 4.1.7, 4.8.2: smpplib lacks them or writes them wrongly
        (
            p.CancelSm(0, 7, (), "CMT", "42", 1, 1, "45", 5, 0, "ab"),
            b"CMT\0" b"42\0" b"\1\1" b"45\0" b"\5\0" b"ab\0",
        ),
        (p.CancelSmResp(0, 7), b""),
        (
            p.ReplaceSm(0, 7, (), "42", 1, 1, "45", "", "000001000000000R", 1, 0, b"new"),
            b"42\0" b"\1\1" b"45\0" b"\0" b"000001000000000R\0" b"\1\0" b"\3new",
        ),
        (p.ReplaceSmResp(0, 7), b""),
        (p.Outbind(0, 7, (), "smsc", "secret"), b"smsc\0secret\0"),
        (p.QuerySmResp(0, 7, (), "42", "260101120000000+", 2, 0), b"42\x00260101120000000+\0\2\0"),
    ],
)  # fmt: skip
def test_pdus_smpplib_cannot_write_have_the_specifications_octets(mine, body):
    assert mine.encode() == header(mine.command_id, body)
    assert decode(mine.encode()) == mine


def test_9_unknown_command_id_is_answered_with_rinvcmdid():
    with pytest.raises(PduError) as e:
        decode(header(0x00000999, b"whatever", sequence=99))
    assert (e.value.command_status, e.value.sequence_number, e.value.broken) == (c.ESME_RINVCMDID, 99, False)


DELIVER = p.DeliverSm(
    0,
    7,
    ((c.MESSAGE_STATE, b"\2"),),
    "",
    1,
    1,
    "4520123456",
    5,
    0,
    "Hermes",
    4,
    short_message=b"id:1 stat:DELIVRD",
)


@pytest.mark.parametrize(
    ("frame", "status"),
    [
        (header(c.DELIVER_SM), c.ESME_RINVSERTYP),
        (header(c.DELIVER_SM, b"CMT"), c.ESME_RINVSERTYP),
        (header(c.DELIVER_SM, b"TOOLONG\0" + b"\0" * 20), c.ESME_RINVSERTYP),
        (header(c.DELIVER_SM, b"\0\1\1" + b"4" * 21 + b"\0" + b"\0" * 20), c.ESME_RINVSRCADR),
        (header(c.DELIVER_SM, b"\0\1\1" + b"\0\1\1" + b"4" * 21 + b"\0" + b"\0" * 20), c.ESME_RINVDSTADR),
        (header(c.DELIVER_SM, b"\0\1\1\0\1\1\0\0\0\0" + b"1" * 17 + b"\0" * 20), c.ESME_RINVSCHED),
        (header(c.DELIVER_SM, b"\0\1\1\0\1\1\0\0\0\0\0" + b"1" * 17 + b"\0" * 20), c.ESME_RINVEXPIRY),
        (header(c.DELIVER_SM, b"\0\1\1\0\1\1\0\0\0\0\0\0\0\0\0"), c.ESME_RINVCMDLEN),
        (header(c.DELIVER_SM, b"\0\1\1\0\1\1\0\0\0\0\0\0\0\0\0\0"), c.ESME_RINVMSGLEN),
        (header(c.DELIVER_SM, b"\0\1\1\0\1\1\0\0\0\0\0\0\0\0\0\0\5abcd"), c.ESME_RINVMSGLEN),
        (header(c.DELIVER_SM, b"\0\1\1\0\1\1\0\0\0\0\0\0\0\0\0\0\xff" + b"a" * 255), c.ESME_RINVMSGLEN),
        (header(c.DELIVER_SM, DELIVER.encode()[16:-5] + b"\x04"), c.ESME_RINVOPTPARSTREAM),
        (header(c.DELIVER_SM, DELIVER.encode()[16:-1]), c.ESME_RINVOPTPARSTREAM),
        (header(c.DELIVER_SM, DELIVER.encode()[16:-5] + b"\x14\x01\xff\xffab"), c.ESME_RINVOPTPARSTREAM),
        (header(c.DELIVER_SM, DELIVER.encode()[16:-5] + b"\x04\x27\0\0"), c.ESME_RINVPARLEN),
        (header(c.DELIVER_SM, DELIVER.encode()[16:-5] + b"\x04\x27\0\2\2\0"), c.ESME_RINVPARLEN),
        (header(c.DELIVER_SM, DELIVER.encode()[16:-5] + b"\0\x1e\0\0"), c.ESME_RINVPARLEN),
        (header(c.DELIVER_SM, DELIVER.encode()[16:-5] + b"\0\x1e\0\x42" + b"1" * 66), c.ESME_RINVPARLEN),
        (header(c.DATA_SM, b"\0\1\1\0\1\1\0\0\0"), c.ESME_RINVCMDLEN),
        (header(c.SUBMIT_SM_RESP, b"no-nul"), c.ESME_RINVMSGID),
        (header(c.SUBMIT_SM_RESP, b"1" * 65 + b"\0"), c.ESME_RINVMSGID),
        (header(c.BIND_TRANSCEIVER, b"hermes\0" + b"p" * 9 + b"\0" * 10), c.ESME_RINVPASWD),
        (header(c.ENQUIRE_LINK, b"junk!"), c.ESME_RINVOPTPARSTREAM),
        (header(c.REPLACE_SM, b"1\0\1\1\0\0\0\0\0\5abc"), c.ESME_RINVMSGLEN),
    ],
)  # fmt: skip
def test_10_a_bad_body_is_one_error_that_names_the_answer_and_keeps_the_link(frame, status):
    with pytest.raises(PduError) as e:
        decode(frame)
    assert e.value.command_status == status
    assert not e.value.broken
    assert e.value.sequence_number == 7


@pytest.mark.parametrize("frame", [b"", b"\0" * 15, header(c.UNBIND, length=17), header(c.UNBIND, b"\0", length=16)])
def test_8_a_frame_that_is_not_as_long_as_it_says_breaks_the_stream(frame):
    with pytest.raises(PduError) as e:
        decode(frame)
    assert e.value.broken


def test_11_unknown_and_vendor_parameters_are_kept_raw_in_order_and_repeated():
    tlvs = ((0x1401, b"vendor"), (0x3FFF, b""), (0x1401, b"again"), (c.SOURCE_PORT, b"\0\1\2"))
    sent = p.DeliverSm(0, 7, tlvs, short_message=b"hi")
    got = decode(sent.encode())
    assert got == sent
    assert got.tlv(0x1401) == b"vendor"
    assert got.tlv(0x1402) is None


def test_11_vendor_status_is_read_and_named():
    got = decode(header(c.SUBMIT_SM_RESP, b"", status=0x411))
    assert (got.command_status, c.status_name(got.command_status)) == (0x411, "0x00000411")
    assert got.command_status in c.VENDOR_STATUSES


@pytest.mark.parametrize("value", [b"1d305b4c\0", b"1d305b4c"])
def test_30_receipted_message_id_with_and_without_nul_keeps_its_last_digit(value):
    sent = p.DeliverSm(0, 7, ((c.RECEIPTED_MESSAGE_ID, value),))
    assert decode(sent.encode()).tlv(c.RECEIPTED_MESSAGE_ID) == value


@pytest.mark.parametrize("kind", [p.SubmitSmResp, p.DeliverSmResp, p.DataSmResp, p.BindTransceiverResp, p.QuerySmResp])
@pytest.mark.parametrize("status", [0, 0x58])
def test_a_response_may_lack_its_body(kind, status):
    assert decode(header(kind.command_id, status=status)) == kind(status, 7)


@pytest.mark.parametrize(
    ("mine", "status"),
    [
        (p.SubmitSm(destination_addr="4" * 21), c.ESME_RINVDSTADR),
        (p.SubmitSm(source_addr="4" * 21), c.ESME_RINVSRCADR),
        (p.SubmitSm(source_addr="a\0b"), c.ESME_RINVSRCADR),
        (p.SubmitSm(source_addr="€"), c.ESME_RINVSRCADR),
        (p.SubmitSm(service_type="TOOBIG"), c.ESME_RINVSERTYP),
        (p.SubmitSm(schedule_delivery_time="1" * 17), c.ESME_RINVSCHED),
        (p.SubmitSm(validity_period="1" * 17), c.ESME_RINVEXPIRY),
        (p.SubmitSm(short_message=b"a" * 255), c.ESME_RINVMSGLEN),
        (p.SubmitSm(esm_class=256), c.ESME_RINVPARLEN),
        (p.SubmitSm(data_coding=-1), c.ESME_RINVPARLEN),
        (p.SubmitSm(sequence_number=1 << 32), c.ESME_RINVCMDLEN),
        (p.SubmitSm(tlvs=((1 << 16, b""),)), c.ESME_RINVPARLEN),
        (p.SubmitSm(tlvs=((c.MESSAGE_PAYLOAD, b"x" * 65_536),)), c.ESME_RINVPARLEN),
        (p.BindTransceiver(password="p" * 9), c.ESME_RINVPASWD),
        (p.SubmitSmResp(message_id="1" * 65), c.ESME_RINVMSGID),
        (p.ReplaceSm(short_message=b"a" * 255), c.ESME_RINVMSGLEN),
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_the_same_error(mine, status):
    with pytest.raises(PduError) as e:
        mine.encode()
    assert e.value.command_status == status


def test_37_short_message_and_message_payload_are_never_written_together():
    with pytest.raises(PduError):
        p.SubmitSm(short_message=b"a", tlvs=((c.MESSAGE_PAYLOAD, b"b"),)).encode()


def test_26_deliver_sm_resp_has_an_empty_message_id():
    expected = header(c.DELIVER_SM_RESP, b"\0", status=0x14, sequence=9)
    assert p.encode_answer(c.DELIVER_SM_RESP, c.ESME_RMSGQFUL, 9) == expected
    assert p.response_to(p.DeliverSm(sequence_number=9), c.ESME_RMSGQFUL).encode() == expected
    assert p.encode_answer(c.ENQUIRE_LINK_RESP, 0, 9) == header(c.ENQUIRE_LINK_RESP, sequence=9)


def test_44_alert_notification_and_outbind_have_no_response():
    for kind in (p.AlertNotification, p.Outbind, p.GenericNack, p.SubmitSmResp):
        with pytest.raises(PduError):
            p.response_to(kind())


def test_50_repr_shows_no_password_no_text_and_no_whole_number():
    shown = repr(p.BindTransceiver(0, 1, (), "hermes", "s3cret"))
    assert "hermes" in shown
    assert "s3cret" not in shown
    shown = repr(
        p.SubmitSm(0, 1, ((c.MESSAGE_PAYLOAD, b"your code"),), destination_addr="4520123456", short_message=b"code 1")
    )
    assert "20123456" not in shown
    assert "code" not in shown
    assert repr(p.SubmitSmResp(0x58, 3)) == "submit_sm_resp(seq=3 status=ESME_RTHROTTLED)"
