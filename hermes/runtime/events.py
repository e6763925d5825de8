"""Named events: one producer, any number of subscribers, nobody waits for anybody.

Each subscriber has its own bounded buffer, taken from by its own turns. A buffer that is full loses its
oldest entry, and the next batch says how many were lost: the producer never notices a slow subscriber. At
most once.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from hermes.runtime.mailbox import SendResult
from hermes.runtime.ref import Ref


@dataclass(frozen=True, slots=True)
class EventBatch:
    """What a subscriber gets, in its main lane.

    Attributes:
        name: of the event.
        items: oldest first; at least one.
        lost: how many before these the subscriber was too slow for, since the batch before.
    """

    name: str
    items: tuple[Any, ...]
    lost: int


class Subscription:
    """One subscriber's buffer. `take` is for the subscriber, `cancel` for anyone."""

    __slots__ = ("_buffer", "_event", "_lost", "_told", "ref")

    def __init__(self, event: Event, ref: Ref, limit: int) -> None:
        self._event = event
        self.ref = ref
        self._buffer: deque[Any] = deque(maxlen=limit)
        self._lost = 0
        self._told = False  # True iff an `EventReady` lies in the subscriber's mailbox

    def take(self) -> EventBatch | None:
        """Take all that is buffered; None when there is nothing."""
        self._told = False
        if not self._buffer:
            return None
        batch = EventBatch(self._event.name, tuple(self._buffer), self._lost)
        self._buffer.clear()
        self._lost = 0
        return batch

    def cancel(self) -> None:
        """Stop listening; what is buffered is dropped."""
        self._event._subscriptions.pop(self, None)
        self._buffer.clear()

    def _put(self, item: Any) -> bool:
        if len(self._buffer) == self._buffer.maxlen:
            self._lost += 1
        self._buffer.append(item)
        if not self._told:
            result = self.ref.send(EventReady(self))
            if result is SendResult.TERMINATED:
                return False
            self._told = result is SendResult.DELIVERED  # a full mailbox: told with a later event
        return True


@dataclass(frozen=True, slots=True)
class EventReady:
    """Sent to a subscriber: there is something to `subscription.take()`."""

    subscription: Subscription


class Event:
    """A named event with its last items and its subscribers.

    Args:
        name: unique within its `EventBook`.
        keep: how many past items a new subscriber gets to start with.
    """

    __slots__ = ("_past", "_subscriptions", "name")

    def __init__(self, name: str, keep: int = 0) -> None:
        self.name = name
        self._past: deque[Any] = deque(maxlen=keep)
        self._subscriptions: dict[Subscription, None] = {}

    def publish(self, item: Any) -> int:
        """Give the item to every subscriber's buffer; return to how many. Ended subscribers are dropped."""
        if self._past.maxlen:
            self._past.append(item)
        gone = [subscription for subscription in self._subscriptions if not subscription._put(item)]
        for subscription in gone:
            subscription.cancel()
        return len(self._subscriptions)

    def subscribe(self, ref: Ref, limit: int = 100) -> Subscription:
        """Listen from now on, after the past items that are kept.

        Args:
            ref: gets an `EventReady` whenever its empty buffer has something again.
            limit: items buffered, 1 or more; a full buffer loses its oldest.
        """
        if limit < 1:
            raise ValueError(f"a buffer needs a limit of 1 or more, got {limit}")
        subscription = Subscription(self, ref, limit)
        self._subscriptions[subscription] = None
        for item in self._past:
            subscription._put(item)
        return subscription

    def __len__(self) -> int:
        """Return the number of subscribers."""
        return len(self._subscriptions)


class EventBook:
    """Events by name."""

    __slots__ = ("_events",)

    def __init__(self) -> None:
        self._events: dict[str, Event] = {}

    def event(self, name: str, keep: int = 0) -> Event:
        """Return the event of that name, made now if need be; `keep` counts for a new one."""
        found = self._events.get(name)
        if found is None:
            found = self._events[name] = Event(name, keep)
        return found

    def remove(self, name: str) -> None:
        """Forget an event and its subscriptions; unknown names are ignored."""
        self._events.pop(name, None)
