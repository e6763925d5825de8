"""PDUs that are wrong, from PDUs that are right: what the fuzz tests and the longer runs feed on."""

from __future__ import annotations

import random

from carriers.smpp import constants as c
from carriers.smpp import pdu as p

_SM = ("", 1, 1, "4520123456", 5, 0, "Hermes", 0x44, 0, 0, "260101120000000+", "000001000000000R", 1, 0, 8, 0)
_TLVS = (
    (c.RECEIPTED_MESSAGE_ID, b"38601fa\0"),
    (c.MESSAGE_STATE, b"\2"),
    (c.SAR_MSG_REF_NUM, b"\0\7"),
    (c.SAR_TOTAL_SEGMENTS, b"\2"),
    (c.SAR_SEGMENT_SEQNUM, b"\1"),
    (0x1401, b"vendor"),
)
RECEIPT = b"id:38601fa sub:001 dlvrd:001 submit date:2601011200 done date:2601011201 stat:DELIVRD err:000 text:Hi"

CORPUS = [
    p.BindTransceiver(0, 1, (), "hermes", "secret", "SMS", 0x34, 1, 1, "45*").encode(),
    p.BindTransceiverResp(0, 1, ((c.SC_INTERFACE_VERSION, b"\x34"),), "smsc").encode(),
    p.Outbind(0, 1, (), "smsc", "secret").encode(),
    p.SubmitSm(0, 2, _TLVS[2:], *_SM, b"\5\0\3\7\2\1hello").encode(),
    p.SubmitSmResp(0, 2, (), "38601fa").encode(),
    p.DeliverSm(0, 3, _TLVS, *_SM, RECEIPT).encode(),
    p.DeliverSm(0, 3, ((c.MESSAGE_PAYLOAD, RECEIPT * 4),), *_SM).encode(),
    p.DeliverSm(0, 3, (), *_SM, b"\6\x08\4\1\7\2\1" + "😀".encode("utf-16-be")).encode(),
    p.DeliverSmResp(0, 3).encode(),
    p.DataSm(0, 4, ((c.MESSAGE_PAYLOAD, RECEIPT), *_TLVS), *_SM[:8], 1, 0).encode(),
    p.DataSmResp(0, 4, ((c.ADDITIONAL_STATUS_INFO_TEXT, b"ok\0"),), "42").encode(),
    p.QuerySm(0, 5, (), "42", 1, 1, "45").encode(),
    p.QuerySmResp(0, 5, (), "42", "260101120000000+", 2, 0).encode(),
    p.CancelSm(0, 6, (), "", "42", 1, 1, "45", 1, 1, "46").encode(),
    p.ReplaceSm(0, 7, (), "42", 1, 1, "45", "", "", 1, 0, b"new").encode(),
    p.AlertNotification(0, 8, ((c.MS_AVAILABILITY_STATUS, b"\0"),), 1, 1, "45", 1, 1, "46").encode(),
    p.EnquireLink(0, 9).encode(),
    p.EnquireLinkResp(0, 9).encode(),
    p.GenericNack(c.ESME_RINVCMDID, 10).encode(),
    p.Unbind(0, 11).encode(),
    p.UnbindResp(0, 11).encode(),
]
_IDS = [*p.PDUS, 0x21, 0x80000021, 0x777, 0x80000777, 0xFFFFFFFF, 0x10200]


def with_length(frame: bytes) -> bytes:
    """Give a frame the command_length it has."""
    return len(frame).to_bytes(4, "big") + frame[4:]


def mutate(rng: random.Random) -> bytes:
    """Make a frame of the length it says, wrong in one to four places."""
    frame = bytearray(rng.choice(CORPUS))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(4, len(frame))
        match rng.randrange(9):
            case 0:
                frame[at] = rng.randrange(256)
            case 1:
                del frame[max(at, 16) :]
            case 2:
                frame[at:at] = rng.randbytes(rng.randint(1, 40))
            case 3:
                del frame[max(at, 16) : max(at, 16) + rng.randint(1, 8)]
            case 4:
                frame[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))
            case 5:
                frame[4:8] = rng.choice(_IDS).to_bytes(4, "big")
            case 6:
                frame = frame[:16] + bytearray(x or 0x41 for x in frame[16:])  # no NUL left
            case 7:
                frame += rng.randbytes(rng.randint(1, 6))
            case _:
                frame += rng.choice((0x1E, 0x427, 0x424, 0x20C, 0x1401)).to_bytes(2, "big")
                frame += rng.choice((0, 1, 2, 66, 255, 0xFFFF)).to_bytes(2, "big") + rng.randbytes(rng.randint(0, 3))
    if len(frame) < 16:
        frame += bytes(16 - len(frame))
    return with_length(bytes(frame))
