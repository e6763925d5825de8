"""Messages from handsets: their text, and their parts put together.

A part is known by its user data header (TS 23.040, 9.2.3.24.1 and .8) or by the sar_* parameters (SMPP
v3.4, 5.3.2.22-24).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from carriers.smpp import constants as c
from carriers.smpp.pdu import DataSm, DeliverSm
from carriers.smpp.text import decode_text

CONCATENATED_8: Final = 0x00  # information elements (TS 23.040, 9.2.3.24)
CONCATENATED_16: Final = 0x08


@dataclass(slots=True, frozen=True)
class InboundPart:
    """One deliver_sm or data_sm from a handset.

    Attributes:
        sender, recipient: as the carrier wrote them, with `+` before an international number; a name is read in
            the carrier's alphabet.
        octets: without the header.
        text: of this part alone; None for what is no text.
        reference, total, number: which part of which message; total 1 when it is whole.
    """

    sender: str
    recipient: str
    data_coding: int
    octets: bytes
    text: str | None
    reference: int = 0
    total: int = 1
    number: int = 1

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What the parts of one message have in common."""
        return (self.sender, self.recipient, self.reference, self.total)


def read_part(pdu: DeliverSm | DataSm, default_alphabet: str = "gsm7") -> InboundPart:
    """Read what a handset sent. Never fails: a header that makes no sense ties nothing together."""
    octets = pdu.short_message if isinstance(pdu, DeliverSm) else b""
    if not octets and pdu.tlvs:
        octets = pdu.tlv(c.MESSAGE_PAYLOAD) or b""
    reference, total, number = 0, 1, 1
    if pdu.esm_class & c.ESM_UDHI and octets:
        end = 1 + octets[0]
        reference, total, number = _concatenation(octets[1:end])
        octets = octets[end:]
    elif pdu.tlvs:
        reference, total, number = _sar(pdu)
    return InboundPart(
        sender=_address(pdu.source_addr, pdu.source_addr_ton, default_alphabet),
        recipient=_address(pdu.destination_addr, pdu.dest_addr_ton, default_alphabet),
        data_coding=pdu.data_coding,
        octets=octets,
        text=decode_text(octets, pdu.data_coding, default_alphabet),
        reference=reference,
        total=total,
        number=number,
    )


def _concatenation(header: bytes) -> tuple[int, int, int]:
    at = 0
    while at + 2 <= len(header):
        element, size = header[at], header[at + 1]
        data = header[at + 2 : at + 2 + size]
        at += 2 + size
        if element == CONCATENATED_8 and size == len(data) == 3:
            found = (data[0], data[1], data[2])
        elif element == CONCATENATED_16 and size == len(data) == 4:
            found = (data[0] << 8 | data[1], data[2], data[3])
        else:
            continue
        # A number of 0 or beyond the total: the whole element is to be ignored (TS 23.040, 9.2.3.24.1).
        if 1 <= found[2] <= found[1] and found[1] > 1:
            return found
    return 0, 1, 1


def _sar(pdu: DeliverSm | DataSm) -> tuple[int, int, int]:
    reference = pdu.tlv(c.SAR_MSG_REF_NUM)
    total, number = pdu.tlv(c.SAR_TOTAL_SEGMENTS), pdu.tlv(c.SAR_SEGMENT_SEQNUM)
    if reference is None or not total or not number or not 1 <= number[0] <= total[0] or total[0] == 1:
        return 0, 1, 1
    return int.from_bytes(reference, "big"), total[0], number[0]


def _address(address: str, ton: int, default_alphabet: str) -> str:
    if ton == c.TON_ALPHANUMERIC:
        return decode_text(address.encode("latin-1"), c.DATA_CODING_DEFAULT, default_alphabet) or ""
    return "+" + address if ton == c.TON_INTERNATIONAL and address.isdigit() else address


@dataclass(slots=True, frozen=True)
class InboundMessage:
    """A whole message, or what came of one in time.

    Attributes:
        text: of the parts that came, in order; None when they are no text.
        parts: how many it has; 0 for a part that came again.
        reference: what tied them; 0 for a message of one.
        deliveries: what the caller gave with each part: acknowledge them once the message is stored.
    """

    sender: str
    recipient: str
    text: str | None
    parts: int
    complete: bool
    deliveries: tuple[object, ...]
    reference: int = 0


@dataclass(slots=True)
class _Set:
    due: float
    parts: dict[int, InboundPart] = field(default_factory=dict)
    deliveries: list[object] = field(default_factory=list)


class Reassembler:
    """Puts the parts of long messages together. Bounded: the oldest unfinished message is given up first."""

    __slots__ = ("_alphabet", "_done", "_max_messages", "_sets", "_timeout_s")

    def __init__(self, timeout_s: float = 300.0, max_messages: int = 1_000, default_alphabet: str = "gsm7") -> None:
        """Start empty.

        Args:
            timeout_s: seconds from a message's first part until it is given as it is.
            max_messages: unfinished ones held at once; each at most 255 parts of a PDU.
            default_alphabet: what data_coding 0 means.
        """
        self._timeout_s = timeout_s
        self._max_messages = max_messages
        self._alphabet = default_alphabet
        self._sets: dict[tuple[str, str, int, int], _Set] = {}
        self._done: dict[tuple[str, str, int, int], float] = {}

    def __len__(self) -> int:
        return len(self._sets)

    def add(self, part: InboundPart, delivery: object, now: float) -> list[InboundMessage]:
        """Take a part; give what it completes, and what must go to make room.

        A part that comes again is no second one: its delivery is given with the message, or, when that is
        already gone, by itself with no text and `complete`: acknowledge it and store nothing.
        """
        if part.total == 1:
            return [InboundMessage(part.sender, part.recipient, part.text, 1, True, (delivery,))]
        key = part.key
        done = self._done.get(key)
        if done is not None and done > now:
            return [InboundMessage(part.sender, part.recipient, None, 0, True, (delivery,))]
        given: list[InboundMessage] = []
        waiting = self._sets.get(key)
        if waiting is None:
            if len(self._sets) >= self._max_messages:
                given.append(self._give(next(iter(self._sets)), now))
            waiting = self._sets[key] = _Set(now + self._timeout_s)
        waiting.parts.setdefault(part.number, part)
        waiting.deliveries.append(delivery)
        if len(waiting.parts) == part.total:
            given.append(self._give(key, now))
        return given

    def whole(self, part: InboundPart, at: float, now: float) -> tuple[object, ...]:
        """Know that the message of a part was stored at `at`: its parts are repetitions, for as long as they may come.

        Returns the deliveries of those that waited here: acknowledge them.
        """
        if at + self._timeout_s <= now:
            return ()
        self._done[part.key] = at + self._timeout_s
        waited = self._sets.pop(part.key, None)
        return () if waited is None else tuple(waited.deliveries)

    def due(self, now: float) -> bool:
        """Tell whether `expire` has something to give."""
        return any(waiting.due <= now for waiting in self._sets.values())

    def expire(self, now: float) -> list[InboundMessage]:
        """Give what waited too long, without the parts that did not come."""
        due = [key for key, waiting in self._sets.items() if waiting.due <= now]
        return [self._give(key, now) for key in due]

    def next_due(self) -> float | None:
        """When `expire` has something to do; None when nothing waits."""
        for waiting in self._sets.values():
            return waiting.due
        return None

    def _give(self, key: tuple[str, str, int, int], now: float) -> InboundMessage:
        waiting = self._sets.pop(key)
        while self._done:
            oldest = next(iter(self._done))
            if self._done[oldest] > now and len(self._done) < self._max_messages:
                break
            del self._done[oldest]
        self._done[key] = now + self._timeout_s
        parts = [waiting.parts[n] for n in sorted(waiting.parts)]
        total = key[3]
        return InboundMessage(
            sender=key[0],
            recipient=key[1],
            text=self._text(parts),
            parts=total,
            complete=len(parts) == total,
            deliveries=tuple(waiting.deliveries),
            reference=key[2],
        )

    def _text(self, parts: list[InboundPart]) -> str | None:
        runs: list[tuple[int, int, bytes]] = []  # data_coding, last number, octets
        for part in parts:
            # Joined as octets where the next part follows: a handset may have cut a letter in two.
            if runs and runs[-1][0] == part.data_coding and runs[-1][1] == part.number - 1:
                runs[-1] = (part.data_coding, part.number, runs[-1][2] + part.octets)
            else:
                runs.append((part.data_coding, part.number, part.octets))
        texts = [decode_text(octets, coding, self._alphabet) for coding, _, octets in runs]
        known = [text for text in texts if text is not None]
        return "".join(known) if known else None
