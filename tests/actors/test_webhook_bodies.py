"""Bodies of webhooks that are made when the event is committed: the same as the journal's, and bounded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.webhook_bodies import Bodies, Body, render
from actors.webhook_client import WebhookClient
from carriers.base import SendError
from hermes.domain.commands import CancelMessage, ErasureAsked
from hermes.domain.erasure import Erasure
from hermes.domain.message import ulid
from hermes.domain.webhooks import RETRY_DELAYS_S, Answer
from hermes.journal.base import OutboxItem, StoredMessage
from hermes.journal.memory import MemoryJournal
from hermes.runtime import SystemClock
from hermes.testing import ManualClock
from tests.actors.cast import CastNode, message, start_cast
from tests.actors.test_cast import Scripted, plan

URL = "http://customer.example/hook"


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 3), st.integers(0, 60), st.booleans()), max_size=60),
)
def test_bodies_never_take_more_than_their_room(steps: list[tuple[str, int, int, bool]]) -> None:
    bodies, kept = Bodies(100), {}
    for message_id, seq, size, put in steps:
        if put:
            bodies.put(message_id, seq, Body(None, b"x" * size, 1))
            kept[message_id, seq] = size
        else:
            bodies.called(message_id, seq)
        kept = {key: size for key, size in kept.items() if bodies.find(*key) is not None}
        assert bodies.octets == sum(kept.values()) <= 100
        assert len(bodies) == len(kept)


def test_the_oldest_body_is_given_up_first() -> None:
    bodies = Bodies(30)
    for n in range(4):
        bodies.put("msg", n, Body(None, b"x" * 10, 1))
    assert [n for n in range(4) if bodies.find("msg", n) is not None] == [1, 2, 3]


def test_a_body_is_kept_until_the_last_of_its_targets_is_called() -> None:
    bodies = Bodies()
    bodies.put("msg", 4, Body(None, b"x", 2))
    bodies.called("msg", 4)
    assert bodies.find("msg", 4) is not None
    bodies.called("msg", 4)
    assert (bodies.find("msg", 4), bodies.octets) == (None, 0)
    bodies.called("msg", 4)  # a second try was read from the journal


class Reads(MemoryJournal):
    """A journal that remembers which messages were read."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock=clock)
        self.read: list[str] = []

    async def load(self, message_ids: Sequence[str]) -> list[StoredMessage]:
        self.read += message_ids
        return await super().load(message_ids)


@dataclass
class Customer:
    """What the node's webhook client was asked to post, and what it answers."""

    answers: list[Answer] = field(default_factory=list)
    posts: list[tuple[str, bytes, dict[str, str]]] = field(default_factory=list)

    async def post(self, client: Any, url: str, body: bytes, headers: dict[str, str]) -> Answer:
        self.posts.append((url, body, dict(headers)))
        return self.answers.pop(0) if self.answers else Answer(204)


@pytest.fixture
def customer(monkeypatch: pytest.MonkeyPatch) -> Customer:
    customer = Customer()

    async def post(self: Any, url: str, body: bytes, headers: dict[str, str]) -> Answer:
        return await customer.post(self, url, body, headers)

    monkeypatch.setattr(WebhookClient, "post", post)
    return customer


async def begin(carrier: Scripted, clock: Any = None, **settings: Any) -> tuple[CastNode, Reads]:
    """A node, its webhook actor at work, and its journal."""
    journal = Reads(clock or SystemClock())
    await journal.start()
    node = await start_cast([plan(carrier)], journal, clock=journal._clock, **settings)
    return node, journal


async def delivered(node: CastNode, carrier: Scripted, **fields: Any) -> str:
    """A message whose receipt came. Returns its id."""
    sent = message(node.tenant, callback_url=URL, **fields)
    asked = len(carrier.asked)
    await node.submit(sent)
    await node.until(lambda: len(carrier.asked) > asked)
    carrier.report(f"{sent.message_id}-0-1", "delivered")
    return sent.message_id


async def from_the_journal(node: CastNode, message_id: str) -> bytes:
    """What a webhook of the message's last event says, read back."""
    stored = await MemoryJournal.load(node.journal, [message_id])  # type: ignore[arg-type]
    last = stored[0].events[-1]
    item = OutboxItem(message_id, last.seq, "callback", node.tenant, "message." + last.type, last.at, 0, last.at)
    return render(item, stored[0])


async def test_the_end_of_a_message_is_told_without_reading_it_back(customer: Customer) -> None:
    carrier = Scripted()
    node, journal = await begin(carrier)
    endpoint = await node.context.directory.create_endpoint(node.tenant, "http://other.example/", [])
    message_id = await delivered(node, carrier, metadata={"order": "17"}, reference="ref")
    await node.until(lambda: len(customer.posts) == 2)
    assert {url for url, _, _ in customer.posts} == {URL, endpoint.url}
    assert {body for _, body, _ in customer.posts} == {await from_the_journal(node, message_id)}
    assert journal.read == []
    assert (len(node.context.bodies), node.context.bodies.octets) == (0, 0)
    await node.stop()


async def test_a_second_try_reads_the_journal_and_sends_the_same_octets(customer: Customer) -> None:
    carrier, clock = Scripted(), ManualClock()
    customer.answers = [Answer(503)]
    node, journal = await begin(carrier, clock)
    message_id = await delivered(node, carrier)
    await node.until(lambda: len(customer.posts) == 1)

    async def due_again() -> bool:
        rows = await journal.outbox_due(node.tenant, clock.now() + timedelta(days=1), 1)
        return bool(rows) and rows[0].attempts == 1

    await node.until(due_again)
    assert journal.read == []
    await clock.elapse(RETRY_DELAYS_S[0] * 1.25)
    await node.until(lambda: len(customer.posts) == 2)
    assert journal.read == [message_id]
    (_, first, headers), (_, again, headers_again) = customer.posts
    assert (again, headers_again["webhook-id"]) == (first, headers["webhook-id"])
    await node.stop()


async def test_what_has_no_room_is_read_back(customer: Customer) -> None:
    carrier = Scripted()
    node, journal = await begin(carrier, bodies=Bodies(room=100))
    message_id = await delivered(node, carrier)
    await node.until(lambda: len(customer.posts) == 1)
    assert journal.read == [message_id]
    assert customer.posts[0][1] == await from_the_journal(node, message_id)
    await node.stop()


async def test_a_message_that_was_brought_back_is_read_for_its_webhook(customer: Customer) -> None:
    carrier = Scripted()
    node, _ = await begin(carrier, linger_s=0.05)
    sent = message(node.tenant, callback_url=URL)
    await node.submit(sent)
    await node.until(lambda: node.system.whereis(f"cascade/{sent.message_id}") is None)  # it waits, parked
    carrier.report(f"{sent.message_id}-0-1", "delivered")
    await node.until(lambda: len(customer.posts) == 1)
    assert customer.posts[0][1] == await from_the_journal(node, sent.message_id)
    assert len(node.context.bodies) == 0
    await node.stop()


async def test_a_failure_and_a_cancellation_are_told_as_the_journal_has_them(customer: Customer) -> None:
    carrier = Scripted()
    carrier.answers = [SendError("invalid_destination", "11", "no such number")]
    node, _ = await begin(carrier)
    failed = message(node.tenant, callback_url=URL)
    await node.submit(failed)
    await node.until(lambda: len(customer.posts) == 1)
    cancelled = message(node.tenant, callback_url=URL)
    await node.submit(cancelled)
    await node.until(lambda: len(carrier.asked) == 2)
    tenant = node.system.whereis("tenant/" + node.tenant)
    assert tenant is not None
    await tenant.call(CancelMessage(cancelled.message_id), timeout_s=5)
    await node.until(lambda: len(customer.posts) == 2)
    for sent, (_, body, _) in zip((failed, cancelled), customer.posts, strict=True):
        assert body == await from_the_journal(node, sent.message_id)
        assert json.loads(body)["data"]["id"] == sent.message_id
    await node.stop()


async def test_an_erased_message_is_told_without_what_was_erased(customer: Customer) -> None:
    carrier = Scripted()
    node, journal = await begin(carrier)
    bodies = node.context.bodies
    webhooks = node.system.whereis("webhooks")
    assert webhooks is not None
    webhooks.suspend()  # nobody calls yet
    message_id = await delivered(node, carrier)
    await node.until(lambda: len(bodies) == 1)
    phone = message(node.tenant).to["phone"]
    await journal.put_erasure(
        Erasure("era_" + ulid(), node.tenant, "hash", phone, "test", node.context.clock.now() + timedelta(seconds=1))
    )
    node.system.send("erasures", ErasureAsked())

    async def erased() -> bool:
        return not await journal.open_erasures()

    await node.until(erased)
    webhooks.resume()
    await node.until(lambda: len(customer.posts) == 1)
    assert phone.encode() not in customer.posts[0][1]
    assert customer.posts[0][1] == await from_the_journal(node, message_id)
    await node.stop()
