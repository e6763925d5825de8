"""The facts of a message's life. The journal stores them; the state is a fold over them (`cascade.py`)."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Final

from msgspec import Struct

from hermes.domain.quiet import Quiet

# Facts that the journal needs and the public timeline does not show:
# - `sending` is written ahead of a carrier call under on_ambiguous=never;
# - `crashed` counts a cascade actor's crashes;
# - `stays`: the step's time is over but no later step can be begun: it waits until the message's time ends.
INTERNAL_EVENTS: Final[frozenset[str]] = frozenset({"sending", "crashed", "stays"})

# Event type -> customer webhook type. `receipt` becomes message.read when its status is read.
WEBHOOK_TYPES: Final[dict[str, str]] = {
    "submitted": "message.submitted",
    "fallback": "message.fallback",
    "delivered": "message.delivered",
    "failed": "message.failed",
    "expired": "message.expired",
    "cancelled": "message.cancelled",
    "unknown": "message.unknown",
    "corrected": "message.corrected",
}
# What an endpoint gets when it names no events, and what a callback_url always gets.
DEFAULT_WEBHOOK_TYPES: Final[frozenset[str]] = frozenset(
    {
        "message.delivered",
        "message.failed",
        "message.expired",
        "message.cancelled",
        "message.unknown",
        "message.corrected",
    }
)
ALL_WEBHOOK_TYPES: Final[frozenset[str]] = frozenset(WEBHOOK_TYPES.values()) | {
    "message.read",
    "inbound.received",
    "recipient.opted_out",
}


class Event(Quiet, Struct, gc=False):
    """One fact about a message.

    Attributes:
        seq: 1, 2, 3, ... within its message; with the message id it is unique for ever.
        type: one of the public contract's event types, or an internal one.
        data: JSON values only, so that a replay from the journal sees exactly what the first run saw.
    """

    quiet: ClassVar[frozenset[str]] = frozenset({"data"})

    seq: int
    at: datetime
    type: str
    step: int | None
    attempt: int | None
    data: dict[str, Any]


def webhook_type(event: Event) -> str | None:
    """Name the customer webhook an event causes; None when it causes none."""
    if event.type == "receipt":
        return "message.read" if event.data.get("status") == "read" else None
    return WEBHOOK_TYPES.get(event.type)
