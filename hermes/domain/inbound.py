"""What somebody writes to one of our numbers, decided purely: whose it is, what its words ask for, who is told.

Carriers of every protocol make an `Inbound`; `actors/mo.py` carries out what is decided here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from hermes.domain.message import Message, rfc3339

WROTE_WITHIN: Final = timedelta(days=30)  # API.md: how long an answer belongs to the tenant that wrote last
KEYWORD_LIMIT: Final = 100  # characters; a longer text is no keyword


@dataclass(slots=True, frozen=True)
class Inbound:
    """A whole message from somebody, whatever protocol brought it (webhook, deliver_sm).

    Attributes:
        carrier: the configured name of the carrier that brought it.
        sender: E.164 with `+` where it is a number.
        recipient: our number or short code, as `sender`.
        text: None when it is no text.
        carrier_message_id: the same when the carrier brings it again; None: it gives none, each one counts.
        parts: how many the text was put together from.
        media: URLs, as the carrier gave them.
        asked: stop, start or help when the carrier itself says that it was asked for; else the keywords decide.
    """

    carrier: str
    channel: str
    sender: str
    recipient: str
    text: str | None
    carrier_message_id: str | None = None
    parts: int = 1
    media: tuple[str, ...] = ()
    asked: str | None = None

    def __repr__(self) -> str:
        return f"Inbound({self.carrier!r}, {self.channel!r}, ...)"  # no text and no address in a log


# --- keywords

STOP_WORDS: Final = ("STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "AFMELD")
START_WORDS: Final = ("START", "UNSTOP", "TILMELD")
HELP_WORDS: Final = ("HELP", "INFO", "HJÆLP")
DEFAULT_KEYWORDS: Final[Mapping[str, Iterable[str]]] = {
    "stop": STOP_WORDS,
    "start": START_WORDS,
    "help": HELP_WORDS,
}


def plain(text: str) -> str:
    """Reduce a text to what is compared of it: case-folded, outer blanks and punctuation dropped."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    start, end = 0, len(folded)
    while start < end and _is_outer(folded[start]):
        start += 1
    while end > start and _is_outer(folded[end - 1]):
        end -= 1
    return " ".join(folded[start:end].split())


def _is_outer(letter: str) -> bool:
    return letter == "\ufe0f" or unicodedata.category(letter)[0] in "PSZC"  # U+FE0F: how an emoji is drawn


class Keywords:
    """Words a whole message may consist of: what they ask for. STOP within a sentence asks for nothing."""

    __slots__ = ("_meaning",)

    def __init__(self, sets: Mapping[str, Iterable[str]] | None = None) -> None:
        """Take the sets.

        Args:
            sets: what is asked -> its words, in any case; the defaults stand for a set that is absent.
        """
        self._meaning: dict[str, str] = {}
        for asked, words in {**DEFAULT_KEYWORDS, **(sets or {})}.items():
            for word in words:
                key = plain(word)
                if key:
                    self._meaning.setdefault(key, asked)

    def find(self, text: str | None) -> tuple[str, str] | None:
        """Tell what a text asks for: ("stop", the keyword as it was compared); None for any other text."""
        if not text or len(text) > KEYWORD_LIMIT:
            return None
        word = plain(text)
        asked = self._meaning.get(word)
        return None if asked is None else (asked, word)


KEYWORDS: Final = Keywords()


def asked_for(inbound: Inbound, keywords: Keywords = KEYWORDS) -> tuple[str, str] | None:
    """Tell what a message asks for: (stop, start, help or a set of the operator's, the keyword in capitals).

    What the carrier says wins: it knows its own words.
    """
    found = keywords.find(inbound.text)
    if inbound.asked is not None:
        word = found[1] if found is not None else plain((inbound.text or "")[:KEYWORD_LIMIT])
        return inbound.asked, word.upper()
    return None if found is None else (found[0], found[1].upper())


# --- whose it is


@dataclass(slots=True, frozen=True)
class NumberOwner:
    """One `[[number]]`: messages to this number belong to this tenant.

    Attributes:
        carrier: only those this carrier brings; None: any.
        keyword: only those whose first word it is, in any case; None: any. For shared short codes.
    """

    number: str
    tenant: str
    carrier: str | None = None
    keyword: str | None = None


def number_key(number: str) -> str:
    """Give the form in which numbers and sender names are compared: no `+`, no blanks around, one case."""
    return number.strip().removeprefix("+").casefold()


def e164(number: str) -> str:
    """Write an international number that came without `+` with it; short codes and names stay as they are.

    Seven digits are the fewest a number with its country code has (E.164 sets only the most, 15).
    """
    digits = number.removeprefix("00") if number.startswith("00") else number
    return "+" + digits if digits.isascii() and digits.isdigit() and 7 <= len(digits) <= 15 else number


def owner_of(
    inbound: Inbound, owners: Iterable[NumberOwner], numbers_of_tenants: Mapping[str, Collection[str]]
) -> str | None:
    """Name the tenant that owns the called number; None when nobody does.

    The narrowest `[[number]]` that fits wins (keyword, then carrier, then the first in the file); a tenant's own
    `numbers` come last.

    Args:
        inbound: the message.
        owners: in the order of the settings.
        numbers_of_tenants: tenant -> its `numbers`.
    """
    number = number_key(inbound.recipient)
    words = plain(inbound.text or "").split(None, 1)
    first_word = words[0] if words else ""
    best: tuple[tuple[bool, bool], str] | None = None
    for owner in owners:
        if number_key(owner.number) != number or owner.carrier not in (None, inbound.carrier):
            continue
        if owner.keyword is not None and plain(owner.keyword) != plain(first_word):
            continue
        rank = (owner.keyword is not None, owner.carrier is not None)
        if best is None or rank > best[0]:
            best = (rank, owner.tenant)
    if best is not None:
        return best[1]
    for tenant, numbers in numbers_of_tenants.items():
        if any(number_key(own) == number for own in numbers):
            return tenant
    return None


def last_writer(inbound: Inbound, messages: Iterable[tuple[Message, Collection[str]]]) -> str | None:
    """Name the tenant that last wrote to this sender from the called number, or over the same carrier.

    Args:
        inbound: the message.
        messages: those to its sender of the last `WROTE_WITHIN`, newest first, each with the carriers that were
            asked to send it.
    """
    sender, number = number_key(inbound.sender), number_key(inbound.recipient)
    for message, carriers in messages:
        if message.mode != "live":
            continue
        addresses = (message.to.get("phone"), message.to.get("whatsapp"))
        if not any(address is not None and number_key(address) == sender for address in addresses):
            continue
        own = message.sender.get(inbound.channel)
        if inbound.carrier in carriers or (own is not None and number_key(own) == number):
            return message.tenant
    return None


# --- who is told


def received_data(inbound: Inbound, received_at: datetime) -> dict[str, Any]:
    """Give the data of an `inbound.received` webhook (API.md)."""
    return {
        "from": inbound.sender,
        "to": inbound.recipient,
        "text": inbound.text,
        "channel": inbound.channel,
        "carrier": inbound.carrier,
        "parts": inbound.parts,
        "media": list(inbound.media),
        "received_at": rfc3339(received_at),
    }


def opted_out_data(inbound: Inbound, keyword: str) -> dict[str, Any]:
    """Give the data of a `recipient.opted_out` webhook (API.md)."""
    return {
        "recipient": inbound.sender,
        "channel": inbound.channel,
        "number": inbound.recipient,
        "keyword": keyword,
    }


def storable(inbound: Inbound) -> Inbound:
    """Replace what no UTF-8 holds (lone surrogates), so that anything a carrier brings can be kept."""

    def clean(text: str) -> str:
        return text if text.isascii() else text.encode("utf-8", "replace").decode()

    def each(text: str | None) -> str | None:
        return None if text is None else clean(text)

    return Inbound(
        inbound.carrier,
        inbound.channel,
        clean(inbound.sender),
        clean(inbound.recipient),
        each(inbound.text),
        each(inbound.carrier_message_id),
        inbound.parts,
        tuple(clean(url) for url in inbound.media),
        inbound.asked,
    )


# Called once when the message is stored (True), or could not be (False: do not acknowledge it, or offer it again).
InboundStored = Callable[[bool], None]


@dataclass(slots=True, frozen=True)
class PartKey:
    """What the parts of one long message have in common; the addresses as the carrier wrote them."""

    carrier: str
    sender: str
    recipient: str
    reference: int
    total: int

    def __repr__(self) -> str:
        return f"PartKey({self.carrier!r}, ...)"  # no address in a log


@dataclass(slots=True, frozen=True)
class StoredPart:
    """A part of a long message that is not whole yet; or, with number 0, that its message is stored.

    Attributes:
        octets: without their header; what they mean `data_coding` says.
    """

    key: PartKey
    number: int
    data_coding: int
    octets: bytes
    received_at: datetime

    def __repr__(self) -> str:
        return f"StoredPart({self.key!r}, {self.number})"  # no text in a log


@dataclass(slots=True, frozen=True)
class PartReceived:
    """To `mo`: store a part, before it is acknowledged. `stored` is told once, from the event loop."""

    part: StoredPart
    stored: InboundStored


@dataclass(slots=True, frozen=True)
class PartsWanted:
    """To `mo`: which parts of a carrier are stored, oldest first? `given` is told once; None: ask again later."""

    carrier: str
    given: Callable[[list[StoredPart] | None], None]


@dataclass(slots=True, frozen=True)
class InboundReceived:
    """To `mo`, by `send` or as a call: a carrier brings a message.

    As a call it is answered "stored", "repeated" (it is stored already) or "unrouted" (stored, but nobody's) once
    it is stored; JournalAway to the caller when it cannot be now: do not acknowledge it to the carrier.

    Attributes:
        stored: told once, from the event loop, when it was sent and not called.
        parts: those it was put together from: forgotten with its storing.
    """

    inbound: Inbound
    stored: InboundStored | None = None
    parts: PartKey | None = None
