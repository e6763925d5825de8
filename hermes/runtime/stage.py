"""Demand-driven producers and consumers: pressure flows back, memory never absorbs an outage.

A consumer subscribes and asks for so many items; a producer sends only what was asked for. A `Stage` may be
either or both. What a producer has and nobody asked for lies in its dispatcher's buffer, which is bounded and
has a stated policy for when it is full.

Invariants:
- Per subscription, asked and not yet sent (`demand`) never exceeds `max_demand`.
- Items leave a producer only against demand, so a consumer's system lane holds at most `max_demand` of them.
- Delivery is at most once: what a consumer had in hand when it ended is not sent again.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, ClassVar

from hermes.runtime.actor import Actor
from hermes.runtime.fairqueue import Entry, FairQueue
from hermes.runtime.mailbox import Down, SystemItem
from hermes.runtime.reasons import NORMAL, Reason, is_abnormal
from hermes.runtime.ref import Ref


class Cancel(enum.Enum):
    """What a consumer does when its producer is gone."""

    PERMANENT = "permanent"  # end with the same reason
    TRANSIENT = "transient"  # end if the reason is abnormal
    TEMPORARY = "temporary"  # stay


class Overflow(enum.Enum):
    """What a full buffer does with one more item."""

    REFUSE = "refuse"  # not take it; `emit` says so
    DROP_OLDEST = "drop_oldest"  # lose the item that waited longest
    DROP_NEWEST = "drop_newest"  # lose the new one


class Subscription:
    """One consumer at one producer; both hold the same object.

    Attributes:
        partition: which part of the items it wants; only the partition dispatcher looks at it.
        demand: items asked for and not yet sent.
    """

    __slots__ = (
        "_finished",
        "_watch_consumer",
        "_watch_producer",
        "cancel",
        "consumer",
        "demand",
        "manual",
        "max_demand",
        "min_demand",
        "partition",
        "producer",
    )

    def __init__(
        self,
        producer: Ref,
        consumer: Ref,
        max_demand: int,
        min_demand: int,
        cancel: Cancel,
        partition: Hashable,
        manual: bool,
    ) -> None:
        self.producer = producer
        self.consumer = consumer
        self.max_demand = max_demand
        self.min_demand = min_demand
        self.cancel = cancel
        self.partition = partition
        self.manual = manual
        self.demand = 0
        self._finished = 0  # items done and not yet asked for again
        self._watch_producer = 0
        self._watch_consumer = 0


class Dispatcher:
    """Where a producer's items wait, and who gets them. Pure: it sends nothing itself.

    Args:
        limit: items that may wait; 1 or more.
        overflow: what happens to one more.
    """

    def __init__(self, limit: int = 10_000, overflow: Overflow = Overflow.REFUSE) -> None:
        if limit < 1:
            raise ValueError("a buffer needs a limit of 1 or more")
        self.limit = limit
        self.overflow = overflow
        self.dropped = 0
        self.subscriptions: list[Subscription] = []

    def add(self, subscription: Subscription) -> None:
        """Take up a subscription."""
        self.subscriptions.append(subscription)

    def remove(self, subscription: Subscription) -> None:
        """Drop a subscription; what was meant for it waits for another."""
        if subscription in self.subscriptions:
            self.subscriptions.remove(subscription)

    def put(self, item: Any) -> bool:
        """Let an item wait; False when it was refused. A dropped item counts as taken, and in `dropped`."""
        if self.waiting >= self.limit:
            if self.overflow is Overflow.REFUSE:
                return False
            self.dropped += 1
            if self.overflow is Overflow.DROP_NEWEST or not self._drop_oldest():
                return True
        self._store(item)
        return True

    def take(self) -> list[tuple[Subscription, list[Any]]]:
        """Take what can be sent now, in order; the demand it meets is taken off the subscriptions."""
        batches: dict[int, tuple[Subscription, list[Any]]] = {}
        while (pair := self._next()) is not None:
            subscription, item = pair
            subscription.demand -= 1
            batch = batches.get(id(subscription))
            if batch is None:
                batches[id(subscription)] = (subscription, [item])
            else:
                batch[1].append(item)
        return list(batches.values())

    def neediest(self, among: Sequence[Subscription] | None = None) -> Subscription | None:
        """Return who has the most demand; the first of equals; None when nobody has any."""
        best: Subscription | None = None
        for subscription in self.subscriptions if among is None else among:
            if subscription.demand > (best.demand if best is not None else 0):
                best = subscription
        return best

    @property
    def waiting(self) -> int:
        """How many items wait."""
        raise NotImplementedError

    def _store(self, item: Any) -> None:
        raise NotImplementedError

    def _drop_oldest(self) -> bool:
        raise NotImplementedError

    def _next(self) -> tuple[Subscription, Any] | None:
        raise NotImplementedError


class DemandDispatcher(Dispatcher):
    """First in, first out, to whoever has the most demand."""

    def __init__(self, limit: int = 10_000, overflow: Overflow = Overflow.REFUSE) -> None:
        super().__init__(limit, overflow)
        self._items: deque[Any] = deque()

    @property
    def waiting(self) -> int:
        """How many items wait."""
        return len(self._items)

    def _store(self, item: Any) -> None:
        self._items.append(item)

    def _drop_oldest(self) -> bool:
        self._items.popleft()
        return True

    def _next(self) -> tuple[Subscription, Any] | None:
        if not self._items:
            return None
        subscription = self.neediest()
        return None if subscription is None else (subscription, self._items.popleft())


class PartitionDispatcher(Dispatcher):
    """Each item to a subscriber of its own partition; in order within a partition, which may wait alone.

    Args:
        partition: names the partition of an item.
    """

    def __init__(
        self, partition: Callable[[Any], Hashable], limit: int = 10_000, overflow: Overflow = Overflow.REFUSE
    ) -> None:
        super().__init__(limit, overflow)
        self._partition = partition
        self._arrivals = 0
        self._waiting = 0
        self._lines: dict[Hashable, deque[tuple[int, Any]]] = {}

    @property
    def waiting(self) -> int:
        """How many items wait."""
        return self._waiting

    def _store(self, item: Any) -> None:
        key = self._partition(item)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = deque()
        self._arrivals += 1
        line.append((self._arrivals, item))
        self._waiting += 1

    def _drop_oldest(self) -> bool:
        key = min(self._lines, key=lambda name: self._lines[name][0][0])
        self._pop(key)
        return True

    def _pop(self, key: Hashable) -> Any:
        line = self._lines[key]
        _, item = line.popleft()
        if not line:
            del self._lines[key]
        self._waiting -= 1
        return item

    def _next(self) -> tuple[Subscription, Any] | None:
        for subscription in self.subscriptions:
            if subscription.demand > 0 and subscription.partition in self._lines:
                key = subscription.partition
                same = [other for other in self.subscriptions if other.partition == key]
                return self.neediest(same) or subscription, self._pop(key)
        return None


class FairDispatcher(Dispatcher):
    """Fair between keys, urgent lanes first (`FairQueue`), to whoever has the most demand.

    A full queue refuses: there is no oldest item to drop without being unfair to somebody.

    Args:
        classify: names key, lane and cost of an item.
        queue: where the items wait; also for `remove` and `put_front`.
    """

    def __init__(self, classify: Callable[[Any], tuple[str, str, int]], queue: FairQueue) -> None:
        super().__init__(queue.limit, Overflow.REFUSE)
        self._classify = classify
        self.queue = queue

    @property
    def waiting(self) -> int:
        """How many items wait."""
        return len(self.queue)

    def put(self, item: Any) -> bool:
        """Let an item wait in its key's line; False when the queue is full."""
        return self.put_entry(item) is not None

    def put_entry(self, item: Any, queued_at: float | None = None) -> Entry | None:
        """Like `put`, but return the entry, to withdraw it with `queue.remove`."""
        key, lane, cost = self._classify(item)
        return self.queue.put(key, lane, cost, item, queued_at)

    def _next(self) -> tuple[Subscription, Any] | None:
        subscription = self.neediest()
        entry = self.queue.pop() if subscription is not None else None
        return None if subscription is None or entry is None else (subscription, entry.item)


class _Join(SystemItem):
    __slots__ = ("subscription",)

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription


class _Leave(SystemItem):
    """From either side: the subscription is over."""

    __slots__ = ("reason", "subscription")

    def __init__(self, subscription: Subscription, reason: Reason) -> None:
        self.subscription = subscription
        self.reason = reason


class _Ask(SystemItem):
    __slots__ = ("count", "subscription")

    def __init__(self, subscription: Subscription, count: int) -> None:
        self.subscription = subscription
        self.count = count


class _Items(SystemItem):
    __slots__ = ("items", "subscription")

    def __init__(self, subscription: Subscription, items: list[Any]) -> None:
        self.subscription = subscription
        self.items = items


class Stage(Actor):
    """A producer, a consumer, or both. `handle` and `handle_call` stay free for other messages.

    Args:
        dispatcher: where items wait and who gets them; None for a pure consumer.
    """

    __slots__ = ("_stage_consuming", "_stage_producing", "dispatcher")

    kind: ClassVar[str] = "Stage"

    def __init__(self, dispatcher: Dispatcher | None = None) -> None:
        self.dispatcher = dispatcher
        self._stage_producing: dict[int, Subscription] = {}  # monitor of the consumer -> subscription
        self._stage_consuming: dict[int, Subscription] = {}  # monitor of the producer -> subscription

    # -- producing

    def handle_demand(self, count: int) -> None:
        """Produce up to `count` more items and `emit` them, now or later. Called with each new demand only.

        A stage that is pushed into (by messages) leaves it alone and emits as items come.
        """

    def consumer_gone(self, subscription: Subscription, reason: Reason) -> None:
        """Hear that a consumer left or ended."""

    def emit(self, *items: Any) -> int:
        """Send items to whoever asked, let the rest wait; return how many were taken.

        Fewer than given means the buffer is full (`Overflow.REFUSE`): the first ones were taken.
        """
        dispatcher = self._stage_dispatcher()
        taken = 0
        for item in items:
            if not dispatcher.put(item):
                self.dispatch()
                if not dispatcher.put(item):
                    break
            taken += 1
        self.dispatch()
        return taken

    def dispatch(self) -> None:
        """Send what waits as far as there is demand; needed after putting into the dispatcher directly."""
        dispatcher = self._stage_dispatcher()
        for subscription in dispatcher.subscriptions:
            if not subscription.consumer.alive:
                subscription.demand = 0  # its `Down` is under way; nothing more is sent into the void
        for subscription, items in dispatcher.take():
            subscription.consumer.send_system(_Items(subscription, items))

    @property
    def demand(self) -> int:
        """Items asked for and not yet sent, over all subscriptions."""
        return sum(subscription.demand for subscription in self._stage_producing.values())

    def _stage_dispatcher(self) -> Dispatcher:
        if self.dispatcher is None:
            raise TypeError(f"{self.kind} has no dispatcher: it only consumes")
        return self.dispatcher

    # -- consuming

    def handle_items(self, items: list[Any], subscription: Subscription) -> Awaitable[None] | None:
        """Consume items, plain or async; when it is done as many are asked for again (unless `manual`)."""
        raise TypeError(f"{self.kind} has no handle_items()")

    def producer_gone(self, subscription: Subscription, reason: Reason) -> None:
        """Hear that a producer ended or left, when that does not end this stage."""

    def subscribe(
        self,
        producer: Ref,
        max_demand: int = 100,
        min_demand: int | None = None,
        cancel: Cancel = Cancel.PERMANENT,
        partition: Hashable = None,
        manual: bool = False,
    ) -> Subscription:
        """Ask a producer for items from now on.

        Args:
            producer: a stage with a dispatcher.
            max_demand: most items asked for and not finished; 1 or more.
            min_demand: asks again when this few are left; half of `max_demand` unless given.
            cancel: what happens here when the producer is gone.
            partition: for a partition dispatcher.
            manual: finished items are reported by `finished`, one by one, not by the handler's return.
        """
        least = max_demand // 2 if min_demand is None else min_demand
        if not 0 <= least < max_demand:
            raise ValueError("demand needs 0 <= min_demand < max_demand")
        subscription = Subscription(producer, self.ref, max_demand, least, cancel, partition, manual)
        subscription._watch_producer = self.monitor(producer)
        self._stage_consuming[subscription._watch_producer] = subscription
        producer.send_system(_Join(subscription))
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Leave a producer; items already sent still arrive."""
        if self._stage_consuming.pop(subscription._watch_producer, None) is not None:
            self.demonitor(subscription._watch_producer)
            subscription.producer.send_system(_Leave(subscription, NORMAL))

    def finished(self, subscription: Subscription, count: int = 1) -> None:
        """Say that so many items are done; asks for more once few enough are left."""
        subscription._finished += count
        if subscription._finished >= subscription.max_demand - subscription.min_demand:
            count, subscription._finished = subscription._finished, 0
            subscription.producer.send_system(_Ask(subscription, count))

    # -- between stages

    def _kernel_system(self, item: object) -> Awaitable[None] | None:
        kind = type(item)
        if kind is _Items:
            return self._stage_consume(item)  # type: ignore[arg-type]
        if kind is _Ask:
            self._stage_asked(item)  # type: ignore[arg-type]
        elif kind is _Join:
            self._stage_joined(item.subscription)  # type: ignore[attr-defined]
        elif kind is _Leave:
            self._stage_left(item)  # type: ignore[arg-type]
        elif isinstance(item, Down):
            if (leaving := self._stage_producing.pop(item.monitor, None)) is not None:
                self._stage_drop(leaving, item.reason)
            elif (losing := self._stage_consuming.pop(item.monitor, None)) is not None:
                self._stage_lose(losing, item.reason)
            else:
                return self.handle_down(item)
        return None

    def _stage_consume(self, item: _Items) -> Awaitable[None] | None:
        subscription = item.subscription
        pending = self.handle_items(item.items, subscription)
        if pending is not None and hasattr(type(pending), "__await__"):
            return self._stage_consume_later(pending, subscription, len(item.items))
        if not subscription.manual:
            self.finished(subscription, len(item.items))
        return None

    async def _stage_consume_later(self, pending: Awaitable[None], subscription: Subscription, count: int) -> None:
        await pending
        if not subscription.manual:
            self.finished(subscription, count)

    def _stage_joined(self, subscription: Subscription) -> None:
        if self.dispatcher is None:
            error = TypeError(f"{self.ref} has no dispatcher: nobody can subscribe to it")
            subscription.consumer.send_system(_Leave(subscription, error))
            return
        subscription._watch_consumer = self.monitor(subscription.consumer)
        self._stage_producing[subscription._watch_consumer] = subscription
        self.dispatcher.add(subscription)
        self._stage_demanded(subscription, subscription.max_demand)

    def _stage_asked(self, item: _Ask) -> None:
        if item.subscription._watch_consumer in self._stage_producing:
            self._stage_demanded(item.subscription, item.count)

    def _stage_demanded(self, subscription: Subscription, count: int) -> None:
        """Take up new demand: first from what waits, the rest is for `handle_demand`."""
        before = subscription.demand
        # A consumer that asks for more than it said gets no more than it said.
        subscription.demand = min(subscription.max_demand, before + count)
        fresh = subscription.demand - before
        waiting = self._stage_dispatcher().waiting
        self.dispatch()
        fresh -= waiting - self._stage_dispatcher().waiting
        if fresh > 0:
            self.handle_demand(fresh)

    def _stage_left(self, item: _Leave) -> None:
        subscription = item.subscription
        if subscription.consumer is self.ref:
            if self._stage_consuming.pop(subscription._watch_producer, None) is not None:
                self.demonitor(subscription._watch_producer)
                self._stage_lose(subscription, item.reason)
        elif self._stage_producing.pop(subscription._watch_consumer, None) is not None:
            self.demonitor(subscription._watch_consumer)
            self._stage_drop(subscription, item.reason)

    def _stage_drop(self, subscription: Subscription, reason: Reason) -> None:
        self._stage_dispatcher().remove(subscription)
        subscription.demand = 0
        self.consumer_gone(subscription, reason)

    def _stage_lose(self, subscription: Subscription, reason: Reason) -> None:
        if subscription.cancel is Cancel.PERMANENT or (subscription.cancel is Cancel.TRANSIENT and is_abnormal(reason)):
            self.stop(reason)
        else:
            self.producer_gone(subscription, reason)
