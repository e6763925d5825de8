"""The waker: of what is due the earliest comes first, once, and never more of it than may be in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import pytest
from msgspec.structs import replace

from actors import waker
from hermes.domain.message import Message, Step
from hermes.journal.base import StoredMessage
from hermes.journal.memory import MemoryJournal
from hermes.testing import ManualClock
from tests.actors.cast import CastNode, message, start_cast
from tests.actors.test_cast import Scripted, plan

TIMEOUT_S = 60.0


class Read(MemoryJournal):
    """A journal that remembers what was read of it."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.loaded: list[str] = []

    async def load(self, message_ids: Sequence[str]) -> list[StoredMessage]:
        self.loaded += message_ids
        return await super().load(message_ids)


async def parked(
    count: int, apart_s: float, clock: ManualClock, *, scheduled: bool = False
) -> tuple[CastNode, list[Message]]:
    """A node with messages that wait in the journal, each due so long after the one before; the latest was first."""
    journal = Read(clock)
    await journal.start()
    node = await start_cast([plan(Scripted()), plan(Scripted("two", "email"))], journal, clock=clock, linger_s=0.05)
    now = clock.now()
    sent = [
        replace(
            message(node.tenant, Step("sms", TIMEOUT_S + n * apart_s, "delivered"), "email"),
            created_at=now,
            expires_at=now + timedelta(hours=1),
            send_at=now + timedelta(seconds=TIMEOUT_S + n * apart_s) if scheduled else None,
        )
        for n in range(count)
    ]
    for one in reversed(sent):
        await node.submit(one)
    await clock.elapse(5.0)
    assert alive(node, sent) == []
    return node, sent


def alive(node: CastNode, sent: list[Message]) -> list[Message]:
    return [one for one in sent if node.system.whereis(f"cascade/{one.message_id}") is not None]


async def fallen_back(node: CastNode, one: Message) -> bool:
    return "fallback" in [event.type for event in (await node.stored(one.message_id)).events]


async def test_a_message_on_its_way_to_its_tenant_is_not_read_again() -> None:
    clock = ManualClock()
    node, sent = await parked(3, 0.0, clock)
    assert isinstance(node.journal, Read)
    tenant = node.system.whereis("tenant/" + node.tenant)
    assert tenant is not None
    tenant.suspend()  # as one before which others have their turns
    await clock.elapse(TIMEOUT_S - 5.0 - waker.LOOK_AHEAD_S + waker.LOOK_EVERY_S)
    assert len(node.journal.loaded) == 3 and alive(node, sent) == []
    await clock.elapse(waker.HANDED_FOR_S - 2 * waker.LOOK_EVERY_S)
    assert Counter(node.journal.loaded) == {one.message_id: 1 for one in sent}
    tenant.resume()
    await clock.elapse(waker.LOOK_AHEAD_S)
    for one in sent:
        assert await fallen_back(node, one)
    await node.stop()


async def test_a_message_that_got_lost_on_its_way_to_its_tenant_is_read_again() -> None:
    clock = ManualClock()
    node, sent = await parked(1, 0.0, clock)
    tenant = node.system.whereis("tenant/" + node.tenant)
    assert tenant is not None
    tenant.suspend()
    await clock.elapse(TIMEOUT_S - 5.0 - waker.LOOK_AHEAD_S + waker.LOOK_EVERY_S)
    tenant.kill()  # with its mail
    await clock.elapse(waker.LOOK_AHEAD_S + waker.HANDED_FOR_S + waker.LOOK_EVERY_S)
    assert await fallen_back(node, sent[0])
    await node.stop()


async def test_mail_for_a_message_on_its_way_to_its_tenant_goes_with_it() -> None:
    clock = ManualClock()
    node, sent = await parked(1, 0.0, clock)
    assert isinstance(node.journal, Read)
    tenant = node.system.whereis("tenant/" + node.tenant)
    assert tenant is not None
    tenant.suspend()
    await clock.elapse(TIMEOUT_S - 5.0 - waker.LOOK_AHEAD_S + waker.LOOK_EVERY_S)
    sms = node.context.carriers["scripted"].carrier
    assert isinstance(sms, Scripted)
    stored = sms.report(f"{sent[0].message_id}-0-1", "delivered")
    await clock.elapse(waker.LOOK_EVERY_S)
    assert node.journal.loaded == [sent[0].message_id] and stored == []
    tenant.resume()
    await clock.elapse(waker.LOOK_EVERY_S)
    assert stored == [True]
    assert (await node.stored(sent[0].message_id)).status == "delivered"
    await node.stop()


async def test_no_more_is_brought_back_ahead_of_its_time_than_may_be_in_memory_and_the_earliest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waker, "LOAD_AT_ONCE", 5)
    monkeypatch.setattr(waker, "LOOK_THROUGH", 20)
    clock = ManualClock()
    node, sent = await parked(60, 0.001, clock, scheduled=True)
    await clock.elapse(TIMEOUT_S - 5.0 - 0.1)  # all of them are near, none is due
    assert alive(node, sent) == sent[:20]
    await clock.elapse(3.0)
    for one in sent:
        assert "submitted" in [event.type for event in (await node.stored(one.message_id)).events]
    await node.stop()


async def test_no_more_is_brought_back_than_a_busy_node_has_turns_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waker, "LOAD_AT_ONCE", 5)
    monkeypatch.setattr(waker, "GIVEN_MOST", 10)
    clock = ManualClock()
    node, sent = await parked(60, 0.001, clock)
    its_ref = node.system.whereis("waker")
    assert its_ref is not None
    its_ref.suspend()  # whose turn does not come, as that of the others before it
    await clock.elapse(TIMEOUT_S)
    assert isinstance(node.journal, Read)
    brought_back = len(node.journal.loaded)
    assert 10 <= brought_back <= 10 + 5 * waker.LOADS
    its_ref.resume()
    await clock.elapse(3.0)
    for one in sent:
        assert await fallen_back(node, one)
    await node.stop()


async def test_a_message_brought_back_ahead_of_its_time_is_not_parked_again() -> None:
    clock = ManualClock()
    node, sent = await parked(1, 0.0, clock)
    await clock.elapse(TIMEOUT_S - 5.0 - 0.1)
    assert alive(node, sent) == sent
    assert isinstance(node.journal, Read)
    assert node.journal.loaded == [sent[0].message_id]
    await node.stop()
