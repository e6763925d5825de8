"""Pressure flows back: nobody is sent what nobody asked for."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes.runtime import (
    NORMAL,
    Actor,
    Cancel,
    DemandDispatcher,
    FairDispatcher,
    FairQueue,
    Overflow,
    PartitionDispatcher,
    Stage,
    System,
)
from hermes.testing import Do, ManualClock
from tests.runtime.cast import Boom


class Producer(Stage):
    """Emits what it is sent; remembers the demand it heard of."""

    def __init__(self, dispatcher=None):
        super().__init__(dispatcher or DemandDispatcher())
        self.heard, self.taken, self.gone = [], 0, []

    def handle(self, message):
        if isinstance(message, Do):
            message.action(self)
        else:
            self.taken += self.emit(*message)

    def handle_demand(self, count):
        self.heard.append(count)

    def consumer_gone(self, subscription, reason):
        self.gone.append(reason)


class Counter(Producer):
    """Makes numbers on demand."""

    next = 0

    def handle_demand(self, count):
        super().handle_demand(count)
        self.emit(*range(self.next, self.next + count))
        self.next += count


class Consumer(Stage):
    """Keeps what it gets; with a gate, each batch waits for it."""

    def __init__(self, producer, gate=None, **options):
        super().__init__()
        self.producer, self.gate, self.options = producer, gate, options
        self.items, self.batches, self.lost = [], [], []

    def init(self):
        self.subscription = self.subscribe(self.producer, **self.options)

    def handle(self, message):
        message.action(self)

    def handle_items(self, items, subscription):
        self.items.extend(items)
        self.batches.append(len(items))
        return None if self.gate is None else self.gate.acquire()

    def producer_gone(self, subscription, reason):
        self.lost.append(reason)


def start(system, factory, *args, **options):
    made: list[Any] = []

    def make():
        made.append(factory(*args, **options))
        return made[0]

    return system.spawn(make), made[0]


async def test_producer_emits_only_what_was_asked_for(system, clock):
    ref, producer = start(system, Counter)
    gate = asyncio.Semaphore(0)
    _, consumer = start(system, Consumer, ref, gate, max_demand=10, min_demand=5)
    await clock.settle()
    assert consumer.items == list(range(10)) and producer.heard == [10]
    gate.release()
    await clock.settle()
    assert consumer.items == list(range(20)) and producer.heard == [10, 10]


async def test_without_demand_items_wait_in_the_buffer_and_then_refuse(system, clock):
    ref, producer = start(system, Producer, DemandDispatcher(limit=3))
    ref.send(["a", "b", "c", "d"])
    await clock.settle()
    assert producer.taken == 3 and producer.dispatcher.waiting == 3
    _, consumer = start(system, Consumer, ref, max_demand=2)
    await clock.settle()
    assert consumer.items == ["a", "b", "c"]


@pytest.mark.parametrize(("overflow", "kept"), [(Overflow.DROP_OLDEST, [3, 4, 5]), (Overflow.DROP_NEWEST, [0, 1, 2])])
async def test_full_buffer_drops_by_its_stated_policy_and_counts(system, clock, overflow, kept):
    ref, producer = start(system, Producer, DemandDispatcher(3, overflow))
    ref.send(range(6))
    await clock.settle()
    assert producer.dispatcher.dropped == 3 and producer.taken == 6
    _, consumer = start(system, Consumer, ref, max_demand=10)
    await clock.settle()
    assert consumer.items == kept


async def test_waiting_items_meet_demand_before_the_producer_is_asked(system, clock):
    ref, producer = start(system, Producer)
    ref.send(range(3))
    await clock.settle()
    start(system, Consumer, ref, asyncio.Semaphore(0), max_demand=5)
    await clock.settle()
    assert producer.heard == [2]


async def test_idle_consumer_gets_more_than_a_busy_one(system, clock):
    ref, _ = start(system, Producer)
    start(system, Consumer, ref, asyncio.Semaphore(0), max_demand=4)
    _, idle = start(system, Consumer, ref, max_demand=4)
    await clock.settle()
    for n in range(40):
        ref.send([n])
        await clock.settle()
    assert len(idle.items) >= 36  # the busy one is sent no more than the four it asked for


async def test_partition_dispatcher_sends_each_item_to_its_partition_in_order(system, clock):
    ref, producer = start(system, Producer, PartitionDispatcher(lambda n: n % 2))
    _, even = start(system, Consumer, ref, partition=0, max_demand=100)
    await clock.settle()
    ref.send(range(10))
    await clock.settle()
    assert even.items == [0, 2, 4, 6, 8]
    assert producer.dispatcher.waiting == 5  # the odd ones wait for somebody
    _, odd = start(system, Consumer, ref, partition=1, max_demand=100)
    await clock.settle()
    assert odd.items == [1, 3, 5, 7, 9]


async def test_partition_buffer_drops_the_oldest_of_all_partitions(system, clock):
    ref, producer = start(
        system, Producer, PartitionDispatcher(lambda n: n % 2, limit=3, overflow=Overflow.DROP_OLDEST)
    )
    ref.send([1, 2, 4, 6])
    await clock.settle()
    _, odd = start(system, Consumer, ref, partition=1)
    _, even = start(system, Consumer, ref, partition=0)
    await clock.settle()
    assert odd.items == [] and even.items == [2, 4, 6] and producer.dispatcher.dropped == 1


async def test_fair_dispatcher_is_fair_between_keys_under_a_slow_consumer(system, clock):
    queue = FairQueue(["high", "normal"], limit=100, quantum=2)
    ref, producer = start(system, Producer, FairDispatcher(lambda item: (item[0], item[1], 1), queue))
    ref.send([("flood", "normal", n) for n in range(50)])
    ref.send([("small", "normal", 0), ("small", "high", 1)])
    await clock.settle()
    _, consumer = start(system, Consumer, ref, max_demand=1)
    await clock.settle()
    assert consumer.items[0] == ("small", "high", 1)
    assert consumer.items.index(("small", "normal", 0)) <= 3
    assert len(consumer.items) == 52
    assert producer.emit(*[("flood", "normal", n) for n in range(200)]) < 200  # full: refused


async def test_withdrawn_entry_is_never_sent(system, clock):
    queue = FairQueue(["normal"], limit=10)
    dispatcher = FairDispatcher(lambda item: (item, "normal", 1), queue)
    ref, _ = start(system, Producer, dispatcher)
    entry = dispatcher.put_entry("a")
    dispatcher.put_entry("b")
    assert entry is not None and queue.remove(entry)
    _, consumer = start(system, Consumer, ref)
    await clock.settle()
    assert consumer.items == ["b"]


async def test_manual_consumer_is_sent_more_only_as_items_are_finished(system, clock):
    ref, _ = start(system, Counter)
    consumer_ref, consumer = start(system, Consumer, ref, max_demand=3, min_demand=2, manual=True)
    await clock.settle()
    assert consumer.items == [0, 1, 2]
    consumer_ref.send(Do(lambda actor: actor.finished(actor.subscription)))
    await clock.settle()
    assert consumer.items == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("cancel", "reason", "lives"),
    [
        (Cancel.PERMANENT, NORMAL, False),
        (Cancel.PERMANENT, Boom(), False),
        (Cancel.TRANSIENT, NORMAL, True),
        (Cancel.TRANSIENT, Boom(), False),
        (Cancel.TEMPORARY, Boom(), True),
    ],
)
async def test_end_of_the_producer_ends_the_consumer_as_it_asked(system, clock, cancel, reason, lives):
    ref, _ = start(system, Producer)
    consumer_ref, consumer = start(system, Consumer, ref, cancel=cancel)
    await clock.settle()
    ref.stop(reason)
    await clock.settle()
    assert consumer_ref.alive is lives
    assert consumer.lost == ([reason] if lives else [])
    assert lives or consumer_ref.reason is reason


async def test_end_of_a_consumer_frees_its_demand_and_the_others_go_on(system, clock):
    ref, producer = start(system, Producer)
    first_ref, _ = start(system, Consumer, ref, max_demand=5)
    _, second = start(system, Consumer, ref, max_demand=3)
    await clock.settle()
    first_ref.stop(Boom())
    await clock.settle()
    assert len(producer.gone) == 1 and producer.demand == 3
    ref.send(range(20))
    await clock.settle()
    assert second.items == list(range(20))


async def test_nothing_is_sent_to_a_consumer_that_just_ended(system, clock):
    ref, producer = start(system, Producer)
    dead_ref, _ = start(system, Consumer, ref, max_demand=50)
    _, other = start(system, Consumer, ref, max_demand=5)
    await clock.settle()
    dead_ref.kill()
    producer.emit(*range(5))  # before the producer heard of the end
    await clock.settle()
    assert other.items == list(range(5))


async def test_unsubscribed_consumer_gets_no_more_and_lives(system, clock):
    ref, producer = start(system, Producer)
    consumer_ref, consumer = start(system, Consumer, ref)
    await clock.settle()
    consumer_ref.send(Do(lambda actor: actor.unsubscribe(actor.subscription)))
    await clock.settle()
    ref.send([1])
    await clock.settle()
    assert consumer.items == [] and producer.gone == [NORMAL] and consumer_ref.alive


async def test_subscribing_to_what_only_consumes_is_refused(system, clock):
    ref, _ = start(system, Stage)
    consumer_ref, _ = start(system, Consumer, ref)
    await clock.settle()
    assert isinstance(consumer_ref.reason, TypeError)


async def test_own_monitors_of_a_stage_still_arrive(system, clock):
    downs: list[Any] = []

    class Watching(Producer):
        def handle_down(self, down):
            downs.append(down)

    _, producer = start(system, Watching)
    other = system.spawn(Actor)
    producer.monitor(other)
    other.kill()
    await clock.settle()
    assert [down.ref for down in downs] == [other]


@pytest.mark.parametrize(("most", "least"), [(0, None), (1, 1), (5, -1)])
async def test_meaningless_demand_is_refused(system, most, least):
    ref, _ = start(system, Producer)
    with pytest.raises(ValueError, match="demand"):
        start(system, Consumer, ref, max_demand=most, min_demand=least)


@settings(max_examples=60, deadline=None)
@given(
    consumers=st.lists(st.tuples(st.integers(1, 6), st.integers(0, 5)), min_size=1, max_size=4),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("emit"), st.integers(1, 8)),
            st.tuples(st.just("finish"), st.integers(0, 3)),
            st.tuples(st.just("die"), st.integers(0, 3)),
        ),
        max_size=40,
    ),
)
def test_demand_is_never_exceeded_and_nothing_is_lost_or_doubled(consumers, steps):
    async def run():
        clock = ManualClock()
        system = System(clock)
        ref, producer = start(system, Producer, DemandDispatcher(limit=1000))
        alive: list[Any] = []
        for most, least in consumers:
            alive.append(start(system, Consumer, ref, max_demand=most, min_demand=min(least, most - 1), manual=True))
        everyone = [consumer for _, consumer in alive]
        done = dict.fromkeys(everyone, 0)
        emitted = 0
        await clock.settle()
        for what, n in steps:
            if what == "emit":
                ref.send(range(emitted, emitted + n))
                emitted += n
            elif alive and what == "finish":
                consumer_ref, consumer = alive[n % len(alive)]
                open_items = len(consumer.items) - done[consumer]
                if open_items:
                    done[consumer] += 1
                    consumer_ref.send(Do(lambda actor: actor.finished(actor.subscription)))
            elif what == "die" and len(alive) > 1:
                alive.pop(n % len(alive))[0].kill()
            await clock.settle()
            for _, consumer in alive:
                in_hand = len(consumer.items) - done[consumer]
                assert in_hand <= consumer.subscription.max_demand
                assert 0 <= consumer.subscription.demand <= consumer.subscription.max_demand
            sent = sorted(item for consumer in everyone for item in consumer.items)
            assert sent == sorted(set(sent))
            assert len(sent) + producer.dispatcher.waiting == emitted
            # Whoever still has demand has it because nothing waits.
            assert not (producer.dispatcher.waiting and any(c.subscription.demand for _, c in alive))

    asyncio.run(run())
