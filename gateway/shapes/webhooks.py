"""Callbacks: a tenant's endpoints and dead letters, and the receipts that carriers of our own kind send."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from gateway.shapes.base import Instant, Shape

EventType = Literal[
    "message.submitted",
    "message.fallback",
    "message.delivered",
    "message.failed",
    "message.expired",
    "message.cancelled",
    "message.unknown",
    "message.corrected",
    "message.read",
    "inbound.received",
    "recipient.opted_out",
]


class EndpointBody(Shape, forbid_unknown_fields=True):
    """Where a tenant wants to hear of its messages."""

    url: Annotated[str, Meta(max_length=2048)]
    events: Annotated[list[EventType], Meta(description="default: the final ones and message.corrected")] | None = None


class EndpointCreated(Shape):
    """The endpoint's secret, shown this once."""

    id: str
    secret: str


class EndpointView(Shape):
    """An endpoint."""

    id: str
    url: str
    events: list[str]
    created_at: str
    disabled_at: str | None


class EndpointPage(Shape):
    """A tenant's endpoints, oldest first."""

    data: list[EndpointView]
    next_cursor: str | None


class DeadLetter(Shape):
    """A webhook that was given up."""

    id: str
    message_id: str
    seq: int
    type: str
    target: str
    attempts: int
    last_error: str | None
    created_at: str
    dead_at: str | None


class DeadLetterPage(Shape):
    """Dead letters, newest first."""

    data: list[DeadLetter]
    next_cursor: str | None


class Replayed(Shape):
    """The dead letter is due again."""

    id: str
    due: str


class ReceiptBody(Shape, forbid_unknown_fields=True):
    """A delivery receipt of a mock or in-house carrier."""

    carrier: Annotated[str, Meta(min_length=1, max_length=128)]
    carrier_message_id: Annotated[str, Meta(min_length=1, max_length=255)]
    status: Literal["submitted", "delivered", "read", "undelivered"]
    error_code: Annotated[str, Meta(max_length=128)] | None = None
    at: Instant | None = None


class ReceiptAnswer(Shape):
    """What became of the receipt, once stored."""

    result: Literal["matched", "parked"]
