"""A message on its way between guests."""

from __future__ import annotations

from typing import Any

from thespian.actors import ActorAddress


class Mail:
    """A message between guests, with its sender's address."""

    __slots__ = ("message", "sender")

    def __init__(self, sender: ActorAddress, message: Any) -> None:
        self.sender = sender
        self.message = message
