"""How the words of `hermes.domain` lie in columns: one place, so that both journals hold the same.

Bodies, event data and settings are JSON text (not jsonb: the database never looks inside, and parsing costs
it CPU). Decoding ignores fields it does not know and fills in those that are missing, so that two versions of
Hermes can read one journal during an upgrade.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import msgspec

from hermes.domain.events import INTERNAL_EVENTS, Event
from hermes.domain.inbound import Inbound
from hermes.domain.message import Message, message_created_ms
from hermes.domain.receipt import DeliveryReceipt
from hermes.domain.state import CHANNELS, OPEN_STATUSES
from hermes.domain.suppression import Suppression

encode: Final = msgspec.json.Encoder().encode  # any of our values to JSON, as UTF-8
encode_lines: Final = msgspec.json.Encoder().encode_lines  # a list of them, each on a line of its own
_decode = msgspec.json.Decoder().decode
_decode_message = msgspec.json.Decoder(Message).decode
_decode_inbound = msgspec.json.Decoder(Inbound).decode
_decode_receipt = msgspec.json.Decoder(DeliveryReceipt).decode

IDEMPOTENCY_KEPT: Final = timedelta(hours=24)
PARKED_KEPT: Final = timedelta(days=1)
PARTS_TOGETHER: Final = timedelta(minutes=5)  # the same reference again after that: another message
PARTS_KEPT: Final = timedelta(days=1)  # of inbound messages; they wait five minutes for each other while a node runs
DEAD_WORKERS_SHOWN: Final = timedelta(days=1)

_DAY_MS: Final = 86_400_000
_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
CHANNEL_BIT: Final[dict[str, int]] = {channel: 1 << n for n, channel in enumerate(CHANNELS)}

# What "open" stands for, and which of its three words an open message has: its newest public event tells.
_OPEN_STATUS_OF: Final[dict[str, str]] = {"accepted": "accepted", "scheduled": "scheduled"}


def to_json(value: Any) -> str:
    """Write any of our values as JSON text."""
    return encode(value).decode()


def from_json(text: str) -> Any:
    """Read JSON text written by `to_json` back into plain values."""
    return _decode(text)


def message_from_json(text: str) -> Message:
    """Read a message body; unknown fields are ignored, missing ones get their defaults."""
    return _decode_message(text)


def receipt_from_json(text: str) -> DeliveryReceipt:
    """Read a parked receipt."""
    return _decode_receipt(text)


def storable(text: str) -> str | None:
    """Return the text, or None when no text column can hold it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return None if "\0" in text else text


def inbound_from_json(text: str) -> Inbound:
    """Read a stored inbound message."""
    return _decode_inbound(text)


def recipient_of(to: Mapping[str, str]) -> int | None:
    """Hash the number a message goes to, for finding who wrote to it; None when it goes to none."""
    number = to.get("phone") or to.get("whatsapp")
    return recipient_hash(number) if number else None


def recipient_hash(number: str) -> int:
    """Hash a number to a bigint, the same with and without `+`."""
    digest = blake2b(number.removeprefix("+").encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


_days: dict[str, date] = {}  # first 6 characters of an id's time, a window of 17.5 minutes -> its day


def day_of_id(message_id: str) -> date:
    """Name the partition a message lies in: the UTC day its id was made.

    Remembered by the id's beginning, as almost all ids of one batch begin alike; of those that do, the rest is
    not looked at.

    Raises:
        KeyError, ValueError: not the form of an id.
    """
    if len(message_id) < 14:
        raise ValueError("a message id is longer")
    day = _days.get(message_id[4:10])
    if day is not None:
        return day
    ms = message_created_ms(message_id)
    day = date.fromordinal(_EPOCH_ORDINAL + ms // _DAY_MS)
    window = ms >> 20
    if (window << 20) // _DAY_MS == ((window + 1) << 20) // _DAY_MS:  # does not cross midnight
        if len(_days) > 4096:
            _days.clear()
        _days[message_id[4:10]] = day
    return day


@lru_cache(maxsize=256)
def channel_mask(channels: tuple[str, ...]) -> int:
    """Write the channels of a cascade as a bit mask, one bit a channel in the order of `CHANNELS`."""
    mask = 0
    for channel in channels:
        mask |= CHANNEL_BIT[channel]
    return mask


def open_status(types: Iterable[str]) -> str:
    """Name the status of an open message from its events' types, in order of seq."""
    newest = "accepted"
    for type_ in types:
        if type_ not in INTERNAL_EVENTS:
            newest = type_
    return _OPEN_STATUS_OF.get(newest, "in_progress")


def status_of(status: str | None, events: Sequence[Event]) -> str:
    """Name the public status of a stored message."""
    return status if status is not None else open_status(event.type for event in events)


def split_statuses(statuses: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a query's statuses into final ones and open ones, with "open" written out."""
    final = [status for status in statuses if status not in OPEN_STATUSES and status != "open"]
    if "open" in statuses:
        return final, sorted(OPEN_STATUSES)
    return final, sorted({status for status in statuses if status in OPEN_STATUSES})


_decode_suppressions = msgspec.json.Decoder(list[Suppression]).decode
NEWS_BYTES: Final = 7_000  # of 8,000 that NOTIFY takes
NEWS_ENTRIES: Final = 10  # in one


def suppression_news(sign: str, entries: Sequence[Suppression]) -> list[str]:
    """Write what others are told of entries that were added ("+") or removed ("-"); "" means: look yourself."""
    told = []
    for n in range(0, len(entries), NEWS_ENTRIES):
        text = sign + to_json(entries[n : n + NEWS_ENTRIES])
        if len(text.encode()) > NEWS_BYTES:
            return [""]
        told.append(text)
    return told


def suppressions_told(text: str) -> list[Suppression]:
    """Read the entries in news of `suppression_news`, without its sign."""
    return _decode_suppressions(text)


def outbox_id(message_id: str, seq: int, target: str) -> str:
    """Name one webhook delivery."""
    return f"{message_id}.{seq}.{target}"


def split_outbox_id(id_: str) -> tuple[str, int, str] | None:
    """Read a delivery's name; None when it is none."""
    parts = id_.split(".", 2)
    if len(parts) != 3 or not parts[1].isdecimal() or not parts[1].isascii() or len(parts[1]) > 9:
        return None
    return parts[0], int(parts[1]), parts[2]
