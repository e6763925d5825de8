"""What customers are sent: a webhook's body, and those of the latest events until they are called.

The journal is the truth: every body can be made from it, and is after a restart, a failed try, or a hand-over to
another worker. But who commits the event that ends a message knows the message, and what is called at once then
needs no read of the journal. What waits longer than there is room is read back.

Invariant: `Bodies` holds at most `ROOM` octets of bodies, however many customers do not answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from hermes.domain.events import Event
from hermes.domain.fold import Cascade
from hermes.domain.message import rfc3339
from hermes.domain.view import public_message
from hermes.journal.base import OutboxEntry, OutboxItem, StoredMessage

ROOM: Final = 4 << 20  # octets, over all tenants: some 3,000 bodies; at 2,000 a second, more than a second of them

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Body:
    """Of one event.

    Attributes:
        url: the message's callback_url.
        octets: as they are sent.
        calls: targets that are to have it and have not been called yet.
    """

    url: str | None
    octets: bytes
    calls: int


class Bodies:
    """Bodies by message id and seq, the oldest given up first."""

    def __init__(self, room: int = ROOM) -> None:
        self._room: Final = room
        self._bodies: dict[tuple[str, int], Body] = {}  # in order of their coming
        self._octets = 0

    def __len__(self) -> int:
        return len(self._bodies)

    @property
    def octets(self) -> int:
        """How many there are in all bodies."""
        return self._octets

    def put(self, message_id: str, seq: int, body: Body) -> None:
        """Keep a body while there is room."""
        bodies = self._bodies
        self._drop((message_id, seq))
        bodies[message_id, seq] = body
        self._octets += len(body.octets)
        while self._octets > self._room:
            self._drop(next(iter(bodies)))

    def find(self, message_id: str, seq: int) -> Body | None:
        """Look at a body; None: it must be made from the journal."""
        return self._bodies.get((message_id, seq))

    def called(self, message_id: str, seq: int) -> None:
        """One of its targets is called with it: nobody needs it after the last one."""
        body = self._bodies.get((message_id, seq))
        if body is not None:
            body.calls -= 1
            if body.calls <= 0:
                self._drop((message_id, seq))

    def forget(self, message_id: str) -> None:
        """The message was erased."""
        for key in [key for key in self._bodies if key[0] == message_id]:
            self._drop(key)

    def _drop(self, key: tuple[str, int]) -> None:
        body = self._bodies.pop(key, None)
        if body is not None:
            self._octets -= len(body.octets)


def render(item: OutboxItem, stored: StoredMessage | None) -> bytes:
    """Write a webhook's body: the message as it stood right after the event, or the row's own payload.

    Raises:
        ValueError: the message has no such event.
    """
    if item.payload is not None:
        return envelope(item.type, item.created_at, msgspec.Raw(item.payload.encode()))
    event = None if stored is None else next((e for e in stored.events if e.seq == item.seq), None)
    if stored is None or event is None:
        raise ValueError("the message has no such event")
    return envelope(item.type, event.at, public_message(stored.message, stored.events, until_seq=item.seq))


def body_now(state: Cascade, events: Sequence[Event], outbox: Sequence[OutboxEntry]) -> Body | None:
    """Make the body of the newest of a message's events, before it is stored.

    Args:
        state: right after that event.
        events: all of the message's, in order.
        outbox: who is to be told, of this event last; nobody is told anything of a later one.

    Returns:
        None: whoever calls shall make it from the journal.
    """
    last = outbox[-1]
    if last.seq != state.seq:
        return None
    message = state.message
    try:
        octets = envelope(last.type, last.due, public_message(message, events, state=state))
    except Exception:  # whoever calls meets it again, and tells the log
        return None
    return Body(message.callback_url, octets, sum(entry.seq == last.seq for entry in outbox))


def envelope(type_: str, at: datetime, data: Any) -> bytes:
    """Write a body around what happened at that time."""
    return _encode({"type": type_, "timestamp": rfc3339(at), "data": data})
