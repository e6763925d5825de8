"""Which carriers serve a step, in order: today the channel's carriers in the order of the settings.

Pure: a table and a question. The `router` actor answers for it (`router.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hermes.domain.cascade import Candidate
from hermes.domain.message import Message

SANDBOX: Final = "sandbox"  # the built-in carrier of test keys, on every channel


class RoutingTable:
    """Candidates by channel. Replaced whole when the carriers change; never changed in place.

    Args:
        carriers: (name, channel, on_ambiguous) in order of preference.
    """

    def __init__(self, carriers: Sequence[tuple[str, str, str | None]]) -> None:
        by_channel: dict[str, list[Candidate]] = {}
        for name, channel, on_ambiguous in carriers:
            by_channel.setdefault(channel, []).append(Candidate(name, on_ambiguous or "resend"))
        self._by_channel = {channel: tuple(found) for channel, found in by_channel.items()}
        self._sandbox = (Candidate(SANDBOX),)

    def candidates(self, message: Message, step: int) -> Sequence[Candidate]:
        """Name the carriers for one step, best first; empty when none serves its channel."""
        if message.mode == "test":
            return self._sandbox
        return self._by_channel.get(message.cascade[step].channel, ())

    def channels(self) -> dict[str, list[str]]:
        """Carrier names by channel, in order: for the tree."""
        return {channel: [c.carrier for c in found] for channel, found in self._by_channel.items()}
