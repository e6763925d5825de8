"""Texts in and out of the simulated centre: parts put together, and texts cut as a handset does."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from carriers.smpp import constants as c
from carriers.smpp.pdu import DataSm, DeliverSm, SubmitSm, Tlv
from carriers.smpp.text import decode_text, encode_text
from hermes.domain.segments import UDH8_OCTETS, UDH16_OCTETS, encoding_of, split

Concatenation = Literal["udh8", "udh16", "sar", "payload"]

_ELEMENTS: Final = {0x00: 1, 0x08: 2}  # information element -> octets of its reference (TS 23.040, 9.2.3.24.1, .8)
MAX_UNFINISHED: Final = 10_000  # messages of which parts are awaited


@dataclass(slots=True)
class Submit:
    """One submit_sm or data_sm as it came, and what became of it.

    Attributes:
        n: counts all submits from 1, in the order they came.
        bind: number of the bind it came on.
        status: what it was answered; ESME_ROK when it was taken, even if the answer was lost.
        message_id, receipt_id: its id as the answer and as receipts spell it; empty when refused.
        state: ENROUTE until its final receipt is due, then the receipt's word; empty when refused.
        text: of this part alone; None for what is no text.
        at: the event loop's clock, seconds.
    """

    n: int
    bind: int
    system_id: str
    pdu: SubmitSm | DataSm
    at: float
    submitted_at: datetime
    text: str | None = field(repr=False)
    status: int = c.ESME_ROK
    message_id: str = ""
    receipt_id: str = ""
    state: str = ""
    done_at: datetime | None = None


@dataclass(slots=True)
class Message:
    """A message the centre took, its parts put together.

    Attributes:
        text: None for what is no text.
        submits: its parts in order; some are missing when it is not `complete`.
    """

    text: str | None = field(repr=False)
    submits: tuple[Submit, ...]
    complete: bool = True

    @property
    def source(self) -> str:
        return self.submits[0].pdu.source_addr

    @property
    def destination(self) -> str:
        return self.submits[0].pdu.destination_addr

    @property
    def message_ids(self) -> tuple[str, ...]:
        return tuple(submit.message_id for submit in self.submits)


def octets_of(pdu: SubmitSm | DataSm | DeliverSm) -> bytes:
    """Give what a PDU carries, its header included: short_message, else message_payload."""
    octets = b"" if isinstance(pdu, DataSm) else pdu.short_message
    if not octets and pdu.tlvs:
        octets = pdu.tlv(c.MESSAGE_PAYLOAD) or b""
    return octets


def part_of(pdu: SubmitSm | DataSm) -> tuple[bytes, int, int, int]:
    """Give a part's octets without its header, its reference, the number of parts and which one it is, from 1."""
    octets = octets_of(pdu)
    if pdu.esm_class & c.ESM_UDHI and octets:
        end = 1 + octets[0]
        at = 1
        while at + 2 <= min(end, len(octets)):
            element, size = octets[at], octets[at + 1]
            data = octets[at + 2 : at + 2 + size]
            width = _ELEMENTS.get(element)
            if width is not None and len(data) == width + 2 and 0 < data[-1] <= data[-2] > 1:
                return octets[end:], int.from_bytes(data[:width], "big"), data[-2], data[-1]
            at += 2 + size
        return octets[end:], 0, 1, 1
    if pdu.tlvs:
        reference = pdu.tlv(c.SAR_MSG_REF_NUM)
        total, number = pdu.tlv(c.SAR_TOTAL_SEGMENTS), pdu.tlv(c.SAR_SEGMENT_SEQNUM)
        if reference and total and number and 0 < number[0] <= total[0] > 1:
            return octets, int.from_bytes(reference, "big"), total[0], number[0]
    return octets, 0, 1, 1


class Joiner:
    """Puts parts together. Bounded: the oldest unfinished message is given as it is."""

    __slots__ = ("_unfinished", "default_alphabet")

    def __init__(self, default_alphabet: str) -> None:
        self.default_alphabet = default_alphabet
        self._unfinished: dict[tuple[str, str, str, int, int], dict[int, tuple[bytes, Submit]]] = {}

    def __len__(self) -> int:
        return len(self._unfinished)

    def add(self, submit: Submit, part: tuple[bytes, int, int, int]) -> list[Message]:
        """Take a part; give the messages that are done with. The same part again replaces the first."""
        octets, reference, total, number = part
        if total == 1:
            return [Message(submit.text, (submit,))]
        pdu = submit.pdu
        key = (submit.system_id, pdu.source_addr, pdu.destination_addr, reference, total)
        given: list[Message] = []
        parts = self._unfinished.get(key)
        if parts is None:
            if len(self._unfinished) >= MAX_UNFINISHED:
                oldest = next(iter(self._unfinished))
                given.append(self._give(self._unfinished.pop(oldest), complete=False))
            parts = self._unfinished[key] = {}
        parts[number] = (octets, submit)
        if len(parts) == total:
            given.append(self._give(self._unfinished.pop(key), complete=True))
        return given

    def _give(self, parts: dict[int, tuple[bytes, Submit]], *, complete: bool) -> Message:
        ordered = [parts[number] for number in sorted(parts)]
        submits = tuple(submit for _, submit in ordered)
        codings = {submit.pdu.data_coding for submit in submits}
        if len(codings) == 1:  # joined as octets: a letter may have been cut in two
            text = decode_text(b"".join(octets for octets, _ in ordered), codings.pop(), self.default_alphabet)
        else:
            text = "".join(submit.text or "" for submit in submits)
        return Message(text, submits, complete)


def write_inbound(
    source: str,
    destination: str,
    text: str | bytes,
    *,
    data_coding: int | None = None,
    concatenation: Concatenation = "udh8",
    reference: int = 0,
    source_ton: int | None = None,
    dest_ton: int = c.TON_UNKNOWN,
) -> list[DeliverSm]:
    """Write a message from a handset as the deliver_sm that carry it; their sequence_numbers are the caller's.

    Args:
        source: who sends it; a leading `+` or nothing but digits make it international (TON 1), else it is a name.
        destination: whom it is for.
        text: octets go as they are in one PDU, with data_coding 4 (binary) if none is named.
        data_coding: None chooses 0 (GSM, unpacked) or 8 (UCS-2); 3 is Latin-1.
        concatenation: what ties the parts of a long text together; `payload` puts any text whole into one PDU's
            message_payload.
        reference: the number that ties them.
        source_ton: instead of what the source's form says.
        dest_ton: type of the destination's number.

    Raises:
        ValueError: the text has a letter that data_coding lacks, or needs more than 255 parts.
    """
    ton = source_ton
    if ton is None:
        ton = c.TON_INTERNATIONAL if source.startswith("+") or source.isdigit() else c.TON_ALPHANUMERIC
    npi = c.NPI_UNKNOWN if ton == c.TON_ALPHANUMERIC else c.NPI_ISDN
    parts: list[_Part]
    if isinstance(text, bytes):
        coding, parts = 4 if data_coding is None else data_coding, [(text, 0, ())]
    else:
        coding, parts = _cut(text, data_coding, concatenation, reference)
    return [
        DeliverSm(
            tlvs=tlvs,
            source_addr_ton=ton,
            source_addr_npi=npi,
            source_addr=source.removeprefix("+"),
            dest_addr_ton=dest_ton,
            dest_addr_npi=c.NPI_ISDN,
            destination_addr=destination.removeprefix("+"),
            esm_class=esm_class,
            data_coding=coding,
            short_message=octets,
        )
        for octets, esm_class, tlvs in parts
    ]


_Part = tuple[bytes, int, tuple[Tlv, ...]]  # octets, esm_class, parameters


def _cut(text: str, coding: int | None, concatenation: Concatenation, reference: int) -> tuple[int, list[_Part]]:
    if coding is None:
        coding = c.DATA_CODING_DEFAULT if encoding_of(text) == "gsm7" else c.DATA_CODING_UCS2
    encoding = {c.DATA_CODING_UCS2: "ucs2", c.DATA_CODING_LATIN1: "latin1"}.get(coding, "gsm7")
    if concatenation == "payload":
        return coding, [(b"", 0, ((c.MESSAGE_PAYLOAD, encode_text(text, encoding)),))]
    pieces = split(text, encoding, header_octets=UDH16_OCTETS if concatenation == "udh16" else UDH8_OCTETS)
    total = len(pieces)
    if total > 255:
        raise ValueError(f"{total} parts: one message has at most 255")
    if total == 1:
        return coding, [(encode_text(text, encoding), 0, ())]
    parts: list[_Part] = []
    for number, piece in enumerate(pieces, 1):
        octets = encode_text(piece, encoding)
        if concatenation == "sar":
            sar = (
                (c.SAR_MSG_REF_NUM, (reference & 0xFFFF).to_bytes(2, "big")),
                (c.SAR_TOTAL_SEGMENTS, bytes((total,))),
                (c.SAR_SEGMENT_SEQNUM, bytes((number,))),
            )
            parts.append((octets, 0, sar))
        elif concatenation == "udh16":
            header = bytes((6, 8, 4, reference >> 8 & 0xFF, reference & 0xFF, total, number))
            parts.append((header + octets, c.ESM_UDHI, ()))
        else:
            parts.append((bytes((5, 0, 3, reference & 0xFF, total, number)) + octets, c.ESM_UDHI, ()))
    return coding, parts
