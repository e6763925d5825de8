"""What Meta posts to a WhatsApp webhook: statuses of what we sent, and messages from people.

Source: facebook/openapi business-messaging-api_v23.0.yaml @ecba623 (statuses, errors and examples of messages).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from carriers.errors import classify, classify_status, meaning, receipt_status
from hermes.domain.inbound import Inbound, e164
from hermes.domain.receipt import DeliveryReceipt

_MEDIA: Final = frozenset({"audio", "document", "image", "sticker", "video", "voice"})
_SILENT: Final = frozenset({"reaction", "system"})  # nobody wrote anything
_NO_DIGITS: Final = re.compile(r"[^0-9]")


class Events(NamedTuple):
    """What one call held, in its order."""

    receipts: list[DeliveryReceipt]
    inbound: list[Inbound]


def read_events(carrier: str, channel: str, document: dict[str, Any], media_root: str) -> Events:
    """Read everything of a call; what says nothing we know is left out.

    Args:
        carrier: its configured name.
        channel: the channel it serves.
        document: the JSON that was posted.
        media_root: what a media id is appended to, to make the URL where it is described.
    """
    events = Events([], [])
    for value in _values(document):
        for status in _objects(value.get("statuses")):
            receipt = _receipt(carrier, status)
            if receipt is not None:
                events.receipts.append(receipt)
        number = _number(_object(value.get("metadata")).get("display_phone_number"))
        for message in _objects(value.get("messages")):
            inbound = _inbound(carrier, channel, number, message, media_root)
            if inbound is not None:
                events.inbound.append(inbound)
    return events


def _values(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if document.get("object") != "whatsapp_business_account":
        return
    for entry in _objects(document.get("entry")):
        for change in _objects(entry.get("changes")):
            if change.get("field") == "messages":
                yield _object(change.get("value"))


def _receipt(carrier: str, status: dict[str, Any]) -> DeliveryReceipt | None:
    carrier_message_id = _text(status.get("id"))
    canonical = classify_status("whatsapp", _text(status.get("status"))).canonical
    receipt = receipt_status(canonical)
    if carrier_message_id is None or receipt is None:
        return None
    at = _time(status.get("timestamp"))
    if receipt != "undelivered":
        return DeliveryReceipt(carrier, carrier_message_id, receipt, at=at)
    error = next(_objects(status.get("errors")), {})
    code = error.get("code")
    if isinstance(code, bool) or not isinstance(code, int | str):
        return DeliveryReceipt(carrier, carrier_message_id, receipt, "unknown", at=at)
    error_class = classify("whatsapp", "api", code).error_class
    detail = meaning("whatsapp", "api", code) or None
    return DeliveryReceipt(carrier, carrier_message_id, receipt, error_class, str(code)[:64], detail, at)


def _inbound(carrier: str, channel: str, number: str, message: dict[str, Any], media_root: str) -> Inbound | None:
    kind, sender = _text(message.get("type")), _number(message.get("from"))
    if kind is None or not sender or kind in _SILENT:
        return None
    said = _object(message.get(kind))
    media: tuple[str, ...] = ()
    if kind in _MEDIA:
        text = _text(said.get("caption"))
        media_id = _text(said.get("id"))
        if media_id is not None and media_id.isascii() and media_id.isalnum():
            media = (media_root + media_id,)
    elif kind == "text":
        text = _text(said.get("body"))
    elif kind == "button":
        text = _text(said.get("text"))
    elif kind == "interactive":
        text = _text(_object(said.get(_text(said.get("type")) or "")).get("title"))
    else:
        text = None  # a place, a contact, an order: somebody wrote, and it is no text
    return Inbound(carrier, channel, sender, number, text, _text(message.get("id")), media=media)


def _number(text: object) -> str:
    """Write a number of WhatsApp, which comes as digits alone or dressed up, as E.164; empty when it is none."""
    return e164(_NO_DIGITS.sub("", text)) if isinstance(text, str) else ""


def _objects(found: object) -> Iterator[dict[str, Any]]:
    return (item for item in found if isinstance(item, dict)) if isinstance(found, list) else iter(())


def _object(found: object) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}


def _text(found: object) -> str | None:
    return found if isinstance(found, str) and found else None


def _time(seconds: object) -> datetime | None:
    if isinstance(seconds, bool) or not isinstance(seconds, int | str):
        return None
    try:
        return datetime.fromtimestamp(int(str(seconds)[:20]), UTC)
    except (ValueError, OverflowError, OSError):
        return None
