"""What a layer is, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.shapes import FieldError, Refusal
from hermes.domain.message import Content, Message


class Layer(Protocol):
    """One layer with a tenant's settings. Pure but for what it is given; it may fill in what the message left open.

    Attributes:
        name: as refusals and settings name it.
        code: of its refusals.
    """

    name: str
    code: str

    def check(self, message: Message) -> Sequence[FieldError]:
        """Say what is wrong, field by field; empty when nothing is."""


def refusals(layer: Layer, errors: Sequence[FieldError]) -> list[Refusal]:
    """Name the layer and its code with each thing that is wrong."""
    return [Refusal(layer.name, layer.code, error.field, error.why) for error in errors]


def said(message: Message, channel: str) -> list[tuple[str, str]]:
    """List the texts a recipient on this channel would read, each with the field of the request it comes from."""
    own = getattr(message.content, channel) or {}
    content: Content = message.content.for_channel(channel)
    names = ("text",) if channel in ("sms", "whatsapp") else ("title", "text") if channel == "push" else _EMAIL
    return [
        (f"content.{channel}.{name}" if name in own else f"content.{name}", text)
        for name in names
        if (text := getattr(content, name))
    ]


_EMAIL = ("subject", "text", "html")
