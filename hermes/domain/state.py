"""Statuses, channels, categories and error classes: the closed vocabularies of the public contract.

They are plain strings (`Literal` types), because they travel unchanged through the journal, the API,
webhooks, metrics and logs, and because a string compares in nanoseconds.
"""

from __future__ import annotations

from typing import Final, Literal

Channel = Literal["email", "sms", "push", "whatsapp"]
CHANNELS: Final[tuple[Channel, ...]] = ("email", "sms", "push", "whatsapp")

# The field of `to` that holds a channel's address.
ADDRESS_FIELD: Final[dict[str, str]] = {
    "email": "email",
    "sms": "phone",
    "push": "push",
    "whatsapp": "whatsapp",
}

Category = Literal["otp", "transactional", "marketing"]
CATEGORIES: Final[tuple[Category, ...]] = ("otp", "transactional", "marketing")  # in order of priority

Success = Literal["submitted", "delivered", "read"]
OnAmbiguous = Literal["resend", "never"]
Mode = Literal["live", "test"]

MessageStatus = Literal[
    "accepted", "scheduled", "in_progress", "delivered", "failed", "expired", "cancelled", "unknown"
]
OPEN_STATUSES: Final[frozenset[str]] = frozenset({"accepted", "scheduled", "in_progress"})
FINAL_STATUSES: Final[frozenset[str]] = frozenset({"delivered", "failed", "expired", "cancelled", "unknown"})
# A positive receipt may still turn these into `delivered` (CASCADE rule 6).
CORRECTABLE_STATUSES: Final[frozenset[str]] = frozenset({"failed", "expired", "unknown"})

AttemptStatus = Literal[
    "queued",
    "submitted",
    "delivered",
    "read",
    "undelivered",
    "rejected",
    "timed_out",
    "ambiguous",
    "superseded",
]

ReceiptStatus = Literal["submitted", "undelivered", "delivered", "read"]
# Positive wins, in any order of arrival (CASCADE rule 7).
RECEIPT_RANK: Final[dict[str, int]] = {"submitted": 1, "undelivered": 2, "delivered": 3, "read": 4}

ErrorClass = Literal[
    "retryable_transient",
    "throttled",
    "provider_auth",
    "provider_config",
    "invalid_request",
    "invalid_destination",
    "unreachable_handset",
    "blocked_or_opted_out",
    "sender_not_allowed",
    "content_rejected",
    "policy_window",
    "expired",
    "insufficient_funds",
    "message_too_large",
    "unknown",
]
