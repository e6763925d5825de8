"""What became of an e-mail at Amazon SES: its events (event publishing) and notifications, as receipts.

Source: docs.aws.amazon.com/ses, "Contents of event data that Amazon SES publishes to Amazon SNS" and "Amazon SNS
notification contents for Amazon SES" (read 2026-11-24).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from carriers.errors import classify, classify_status, meaning, receipt_status
from hermes.domain.receipt import DeliveryReceipt

# Where an event keeps what it has to say; Open -> open and so on by its own name.
_PART: Final = {"DeliveryDelay": "deliveryDelay", "Rendering Failure": "failure"}


def read_event(carrier: str, text: str) -> Sequence[DeliveryReceipt]:
    """Turn the text of a notification into a receipt; what says nothing of a message's fate gives none.

    A complaint, and a recipient who left every list, is a `submitted` receipt of class `blocked_or_opted_out`: it
    changes no status. What a mail server said is left out, because it may name the recipient.
    """
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        return ()  # SES greets a new topic with a sentence
    if not isinstance(event, dict):
        return ()
    kind = event.get("eventType") or event.get("notificationType")
    mail = event.get("mail")
    carrier_message_id = mail.get("messageId") if isinstance(mail, dict) else None
    if not isinstance(kind, str) or not isinstance(carrier_message_id, str) or not carrier_message_id:
        return ()
    assert isinstance(mail, dict)
    part = event.get(_PART.get(kind, kind.lower()))
    said: dict[str, Any] = part if isinstance(part, dict) else {}
    at = _time(said.get("timestamp")) or _time(mail.get("timestamp"))
    if kind == "Bounce":
        types = (str(said.get("bounceType"))[:40], str(said.get("bounceSubType"))[:40])
        listed = f"Bounce/{types[0]}/{types[1]}"
        error_class = classify("ses", "delivery", listed).error_class
        detail = meaning("ses", "delivery", listed) or "bounced"
        code = "/".join(types)
        return (DeliveryReceipt(carrier, carrier_message_id, "undelivered", error_class, code, detail, at),)
    if kind == "Complaint" or (kind == "Subscription" and _left_all(said)):
        detail = "complaint" if kind == "Complaint" else "unsubscribed"
        refusal = "blocked_or_opted_out"
        return (DeliveryReceipt(carrier, carrier_message_id, "submitted", refusal, None, detail, at),)
    status = receipt_status(classify_status("ses", kind).canonical)
    if status is None:
        return ()
    if status != "undelivered":
        return (DeliveryReceipt(carrier, carrier_message_id, status, at=at),)
    error_class = classify("ses", "delivery", kind).error_class
    detail = meaning("ses", "delivery", kind)
    return (DeliveryReceipt(carrier, carrier_message_id, status, error_class, None, detail, at),)


def _left_all(subscription: dict[str, Any]) -> bool:
    preferences = subscription.get("newTopicPreferences")
    return isinstance(preferences, dict) and preferences.get("unsubscribeAll") is True


def _time(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
