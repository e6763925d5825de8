"""Erasing a recipient, decided purely: which messages reach them, and what is left of a message.

What is left are the facts of sending: ids, times, channels, carriers, statuses, parts and costs. What goes is whom
it went to and what it said, and what a customer or a carrier wrote in words beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from msgspec import structs

from hermes.domain.address import same_recipient
from hermes.domain.inbound import Inbound, e164
from hermes.domain.message import Content, Message
from hermes.domain.state import ADDRESS_FIELD


@dataclass(slots=True)
class Erasure:
    """One recipient to be erased, and how far that has come.

    Attributes:
        id: `era_` and 26 characters that sort by time.
        recipient: keyed hash of tenant and address: what is kept of whom it was.
        address: as `same_recipient` writes it; None once it is done.
        messages, inbound: how many were erased.
        after_id: messages up to this id are done.
    """

    id: str
    tenant: str
    recipient: str
    address: str | None
    asked_by: str
    created_at: datetime
    messages: int = 0
    inbound: int = 0
    after_id: str = ""
    done_at: datetime | None = None

    def __repr__(self) -> str:
        return f"Erasure({self.id!r}, {self.tenant!r}, {self.recipient!r}, ...)"  # no address in a log


def reaches(message: Message, address: str) -> bool:
    """Tell whether a message goes to this recipient (as `same_recipient` writes it), on whatever channel."""
    for channel, name in ADDRESS_FIELD.items():
        to = message.to.get(name)
        if to is not None and (to == address or same_recipient(channel, to) == address):
            return True
    return False


def wrote(inbound: Inbound, address: str) -> bool:
    """Tell whether an inbound message is from this recipient."""
    return inbound.sender == address or same_recipient(None, e164(inbound.sender)) == address


def erased(message: Message, at: datetime) -> Message:
    """Leave of a message what does not tell whom it went to or what it said.

    The customer's `reference` and `callback_url` stay, so that they can still tell which of theirs it was, unless an
    address of the recipient is in them.
    """
    known = [text.casefold() for text in message.to.values() if text]

    def harmless(text: str | None) -> str | None:
        return None if text is None or any(part in text.casefold() for part in known) else text

    return structs.replace(
        message,
        to={},
        content=Content(),
        metadata={},
        reference=harmless(message.reference),
        callback_url=harmless(message.callback_url),
        country=None,
        number_type=None,
        traceparent=None,
        erased_at=at,
    )


def without_words(data: Mapping[str, Any]) -> dict[str, Any]:
    """Give an event's data without what a carrier said in words: it often repeats the address."""
    error = data.get("error")
    if not isinstance(error, dict) or not error.get("detail"):
        return dict(data)
    return {**data, "error": {**error, "detail": ""}}


def erased_inbound(inbound: Inbound) -> Inbound:
    """Leave of an inbound message that it came, when, and on which of our numbers."""
    return replace(inbound, sender="", text=None, media=())
