"""Events: the producer never waits, the slow one learns what it lost."""

import pytest

from hermes.runtime import Actor, EventBook, EventReady


class Listener(Actor):
    """Takes a batch whenever it is told that there is one."""

    mailbox_limit = 5

    def __init__(self):
        self.batches = []

    def handle(self, message):
        if isinstance(message, EventReady):
            self.batches.append(message.subscription.take())


def listen(system, event, limit=100):
    actor = Listener()
    ref = system.spawn(lambda: actor)
    return ref, actor, event.subscribe(ref, limit)


async def test_every_subscriber_gets_every_item_in_order(system, clock):
    event = EventBook().event("carrier")
    listeners = [listen(system, event)[1] for _ in range(3)]
    for n in range(5):
        assert event.publish(n) == 3
    await clock.settle()
    for actor in listeners:
        assert [batch.items for batch in actor.batches] == [(0, 1, 2, 3, 4)]
        assert actor.batches[0].lost == 0 and actor.batches[0].name == "carrier"


async def test_slow_subscriber_loses_the_oldest_and_learns_how_many(system, clock):
    event = EventBook().event("e")
    ref, actor, _ = listen(system, event, limit=3)
    _, quick, _ = listen(system, event)
    ref.suspend()
    for n in range(10):
        event.publish(n)
    await clock.settle()
    ref.resume()
    await clock.settle()
    assert [(batch.items, batch.lost) for batch in actor.batches] == [((7, 8, 9), 7)]
    assert quick.batches[0].lost == 0
    event.publish(10)
    await clock.settle()
    assert [(batch.items, batch.lost) for batch in actor.batches[1:]] == [((10,), 0)]


async def test_subscriber_costs_one_message_however_many_items(system, clock):
    event = EventBook().event("e")
    ref, _, _ = listen(system, event)
    for n in range(50):
        event.publish(n)
    assert ref.mailbox == 1


async def test_full_mailbox_is_told_with_a_later_item(system, clock):
    event = EventBook().event("e")
    ref, actor, _ = listen(system, event)
    ref.suspend()
    for _ in range(5):
        ref.send("filling")
    event.publish(1)
    ref.resume()
    await clock.settle()
    event.publish(2)
    await clock.settle()
    assert [batch.items for batch in actor.batches] == [(1, 2)]


async def test_new_subscriber_starts_with_the_items_kept(system, clock):
    event = EventBook().event("e", keep=2)
    for n in range(5):
        event.publish(n)
    _, actor, _ = listen(system, event)
    await clock.settle()
    assert [batch.items for batch in actor.batches] == [(3, 4)]


async def test_ended_and_cancelled_subscribers_are_dropped(system, clock):
    event = EventBook().event("e")
    ref, _, _ = listen(system, event)
    _, actor, subscription = listen(system, event)
    ref.kill()
    assert event.publish(1) == 1
    subscription.cancel()
    assert event.publish(2) == 0 and len(event) == 0
    await clock.settle()
    assert actor.batches == [None]


def test_book_knows_its_events_by_name():
    book = EventBook()
    event = book.event("a")
    assert book.event("a") is event
    book.remove("a")
    book.remove("a")
    assert book.event("a") is not event


async def test_meaningless_buffer_is_refused(system):
    with pytest.raises(ValueError, match="limit"):
        EventBook().event("e").subscribe(system.spawn(Actor), 0)
