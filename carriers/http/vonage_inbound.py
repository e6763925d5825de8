"""Messages from handsets as Vonage brings them: each part of a long one in a call of its own.

A part's call is answered only once the whole message is stored, so nothing rests on memory: what a crash or the
time limit of the call leaves unanswered, Vonage brings again. Parts are looked for on the worker that takes them.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from hermes.domain.inbound import Inbound, e164
from hermes.runtime.clock import Clock

KEPT_S: Final = 300.0  # after its first part, a message is given as it is when a part comes again
MOST: Final = 1_000  # messages whose parts are remembered; the oldest goes first
MOST_PARTS: Final = 255


@dataclass(slots=True)
class _Waiting:
    since: float
    parts: dict[int, tuple[str, str]] = field(default_factory=dict)  # number -> id, text
    whole: asyncio.Event = field(default_factory=asyncio.Event)


class Parts:
    """Puts the parts of long messages together."""

    def __init__(self, carrier: str, channel: str, clock: Clock) -> None:
        self._carrier = carrier
        self._channel = channel
        self._clock = clock
        self._waiting: OrderedDict[tuple[str, str, str, int], _Waiting] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    async def take(self, id_: str, fields: dict[str, str]) -> Inbound:
        """Give the message a call brings; for a part, the message once all its parts are here.

        Each of their calls gets the same message, under the id of its first part: it is stored once. Waits as long
        as the caller lets it.
        """
        sender, recipient, text = e164(fields["msisdn"]), e164(fields["to"]), fields.get("text")
        total, number = _number(fields.get("concat-total")), _number(fields.get("concat-part"))
        if fields.get("concat", "").lower() != "true" or not 1 < total <= MOST_PARTS or not 1 <= number <= total:
            return Inbound(self._carrier, self._channel, sender, recipient, text, id_)
        key = (sender, recipient, fields.get("concat-ref", ""), total)
        now = self._clock.monotonic()
        waiting = self._waiting.get(key)
        if waiting is not None and waiting.parts.get(number, (id_, ""))[0] != id_:
            waiting = None  # the reference is in use again, for another message
        if waiting is None:
            waiting = self._waiting[key] = _Waiting(now)
            if len(self._waiting) > MOST:
                self._waiting.popitem(last=False)
        again = number in waiting.parts
        waiting.parts[number] = (id_, text or "")
        if len(waiting.parts) == total or (again and now - waiting.since > KEPT_S):
            waiting.whole.set()
        await waiting.whole.wait()
        parts = [waiting.parts[n] for n in sorted(waiting.parts)]
        return Inbound(
            self._carrier, self._channel, sender, recipient, "".join(text for _, text in parts), parts[0][0], total
        )


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 4 else 0
