"""A text as the parts that carry it: octets, data_coding, and what ties several parts together.

How parts are tied is the carrier's `concatenation`:
- `udh8`, `udh16`: a user data header with an 8- or 16-bit reference in each part, UDHI set (TS 23.040,
  9.2.3.24.1 and 9.2.3.24.8);
- `sar`: the three sar_* parameters, UDHI not set (SMPP v3.4, 5.3.2.22-24); the centre writes the header, so
  the parts are as short as with `udh8`;
- `payload`: one PDU with the whole text in message_payload (5.3.2.32), which the centre cuts.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Final

from carriers.smpp import constants as c
from carriers.smpp.pdu import Tlv
from carriers.smpp.text import choose_encoding, encode_text
from hermes.domain.segments import (
    GSM7_EXTENSION,
    UDH8_OCTETS,
    UDH16_OCTETS,
    part_size,
    split,
)

CONCATENATIONS: Final = ("udh8", "udh16", "sar", "payload")
MAX_PARTS: Final = 255  # the count is one octet (TS 23.040, 9.2.3.24.1)
MAX_PAYLOAD: Final = 64_000  # octets; the frame around it stays under 64 KiB
COUNTERS: Final = 65_536  # 128 KiB


class TextTooLong(ValueError):
    """A text needs more parts, or a longer payload, than SMS can tie together."""


@dataclass(slots=True)
class Part:
    """What one submit_sm carries.

    Attributes:
        short_message: octets, header included; empty when `tlvs` hold message_payload.
        esm_class: ESM_UDHI when there is a header, else 0.
        tlvs: sar_* or message_payload.
    """

    short_message: bytes
    esm_class: int = 0
    tlvs: tuple[Tlv, ...] = ()


@dataclass(slots=True)
class Segmented:
    """A text ready to be sent: its parts in order, all of one data_coding.

    Attributes:
        encoding: as the API names it: gsm7, latin1 or ucs2.
    """

    encoding: str
    data_coding: int
    parts: tuple[Part, ...]


class References:
    """Reference numbers that stay unique per destination for hours, in bounded memory.

    Each destination has a counter, shared with the others of its hash: they only make it skip. A counter
    starts at the minutes since 1970, so that after a restart it goes on ahead of what it gave before, as
    long as a destination gets fewer than one long message a minute. Seen from one destination an 8-bit
    number comes back after 256 long messages to its counter: 17 hours at a million long messages an hour.
    """

    __slots__ = ("_counters", "_start")

    def __init__(self, now_s: float, counters: int = COUNTERS) -> None:
        """Start the counters.

        Args:
            now_s: Unix time, seconds.
            counters: how many; each takes two octets.
        """
        self._start = int(now_s // 60) & 0xFFFF
        self._counters = array("H", bytes(2 * counters))

    def next(self, destination: str) -> int:
        """Give the next number for a destination, 0..65535; an 8-bit reference is its low octet."""
        slot = hash(destination) % len(self._counters)
        given = self._counters[slot]
        self._counters[slot] = (given + 1) & 0xFFFF
        return (self._start + given) & 0xFFFF


def segment(
    text: str,
    reference: int = 0,
    *,
    default_alphabet: str = "gsm7",
    concatenation: str = "udh8",
) -> Segmented:
    """Cut and write a text.

    Args:
        text: what the customer wrote.
        reference: ties the parts together, see `References`; unused for a single part.
        default_alphabet: see `text`.
        concatenation: see above.

    Raises:
        TextTooLong: over 255 parts, or a payload over 64,000 octets.
    """
    encoding, data_coding = choose_encoding(text, default_alphabet)
    name = "gsm7" if encoding == "ascii" else encoding
    if concatenation == "payload":
        octets = encode_text(text, encoding)
        limit = 140 if encoding in ("ucs2", "latin1") else 160
        if len(octets) <= limit:
            return Segmented(name, data_coding, (Part(octets),))
        if len(octets) > MAX_PAYLOAD:
            raise TextTooLong(f"{len(octets)} octets")
        return Segmented(name, data_coding, (Part(b"", 0, ((c.MESSAGE_PAYLOAD, octets),)),))
    header_octets = UDH16_OCTETS if concatenation == "udh16" else UDH8_OCTETS
    if encoding == "ascii":
        pieces = _split_ascii(text, header_octets)
    else:
        pieces = split(text, encoding, header_octets=header_octets)
    total = len(pieces)
    if total == 1:
        return Segmented(name, data_coding, (Part(encode_text(pieces[0], encoding)),))
    if total > MAX_PARTS:
        raise TextTooLong(f"{total} parts")
    parts = []
    for n, piece in enumerate(pieces, 1):
        octets = encode_text(piece, encoding)
        if concatenation == "udh8":
            parts.append(Part(bytes((5, 0, 3, reference & 0xFF, total, n)) + octets, c.ESM_UDHI))
        elif concatenation == "udh16":
            header = bytes((6, 8, 4, reference >> 8 & 0xFF, reference & 0xFF, total, n))
            parts.append(Part(header + octets, c.ESM_UDHI))
        else:
            sar = (
                (c.SAR_MSG_REF_NUM, (reference & 0xFFFF).to_bytes(2, "big")),
                (c.SAR_TOTAL_SEGMENTS, bytes((total,))),
                (c.SAR_SEGMENT_SEQNUM, bytes((n,))),
            )
            parts.append(Part(octets, 0, sar))
    return Segmented(name, data_coding, tuple(parts))


def _split_ascii(text: str, header_octets: int) -> list[str]:
    """Cut as the centre will have to: in septets, two for a letter of the extension table."""
    sizes = [2 if letter in GSM7_EXTENSION else 1 for letter in text]
    if sum(sizes) <= part_size("gsm7"):
        return [text]
    each = part_size("gsm7", header_octets)
    pieces: list[str] = []
    start, room = 0, each
    for n, size in enumerate(sizes):
        if size > room:
            pieces.append(text[start:n])
            start, room = n, each
        room -= size
    pieces.append(text[start:])
    return pieces
