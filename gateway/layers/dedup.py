"""Whether the same message was sent a moment ago. Remembering is `gateway.limits`."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

import msgspec

from gateway.limits.base import Ask
from gateway.problems import Problem
from hermes.domain.message import Message
from hermes.tenancy import DedupSettings

_encode: Final = msgspec.json.Encoder(order="sorted").encode


class DedupLayer:
    """`dedup`: same recipient, content and reference within the window."""

    name = "dedup"
    code = "duplicate"

    def __init__(self, settings: DedupSettings) -> None:
        self._window_s = settings.window_s

    def limits(self, message: Message, ask: Ask) -> None:
        """Say what the message is the same as others by."""
        same = _encode((message.to, message.content, message.reference))
        ask.duplicate = blake2b(same, digest_size=16).digest()
        ask.duplicate_s = self._window_s

    def refusal(self) -> Problem:
        """Say that it was sent already."""
        detail = f"The same content and reference went to this recipient within the last {self._window_s:g} s."
        return Problem(self.code, detail, layer=self.name)
