"""Octets that no PDU should be, to send to an ESME: `hermes smsc`'s control and tests choose them by name."""

from __future__ import annotations

from typing import Final

from carriers.smpp import constants as c
from carriers.smpp.pdu import DeliverSm


def _with_length(octets: bytes) -> bytes:
    return len(octets).to_bytes(4, "big") + octets[4:]


_GOOD: Final = DeliverSm(
    0, 0x7FFFFFF0, (), "", 1, 1, "4520123456", 1, 1, "4520654321", c.ESM_RECEIPT, short_message=b"id:1 stat:DELIVRD"
).encode()
_SM_LENGTH: Final = len(_GOOD) - len(b"id:1 stat:DELIVRD") - 1

# The link survives these: each is answered with an error.
SURVIVED: Final[dict[str, bytes]] = {
    "sm_length": _GOOD[:_SM_LENGTH] + b"\xff" + _GOOD[_SM_LENGTH + 1 :],
    "cut_parameter": _with_length(_GOOD + b"\x00\x1e\x00\x40"),
    "no_nul": _with_length(_GOOD[:16] + b"\x01" * 40),
    "trailing_octets": _with_length(_GOOD + b"\0"),
    "unknown_command": _with_length(_GOOD[:4] + b"\x00\x00\x07\x77" + _GOOD[8:16]),
    "unknown_answer": _with_length(_GOOD[:4] + b"\x80\x00\x00\x04" + _GOOD[8:16] + b"42\0"),
}
# These break the stream's framing: the ESME should close.
BREAKING: Final[dict[str, bytes]] = {
    "short_length": b"\x00\x00\x00\x0f" + _GOOD[4:],
    "huge_length": b"\x7f\xff\xff\xff" + _GOOD[4:],
}
MALFORMED: Final[dict[str, bytes]] = {**SURVIVED, **BREAKING}
