"""Two workers over one journal: shards move, and what is for the other's message gets there."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.cascade import CascadeActor
from actors.context import CarrierPlan
from actors.messages import Forward, ReceiptMail
from actors.shards import Shards, quota, surplus
from hermes.domain.cascade import Cascade
from hermes.domain.commands import (
    AlreadyFinal,
    CancelMessage,
    ErasureAsked,
    ReceiptArrived,
    Refused,
    RescheduleMessage,
    Submit,
    SuppressRecipient,
)
from hermes.domain.erasure import Erasure
from hermes.domain.message import Content, Message
from hermes.domain.receipt import DeliveryReceipt
from hermes.journal.base import SHARDS, Errand, shard_of
from hermes.journal.directory import Author
from hermes.journal.memory import MemoryJournal
from tests.actors.cast import CastNode, message, mock, start_cast


# --- how many are whose
@given(st.lists(st.text("abc123", min_size=1, max_size=5), min_size=1, max_size=40, unique=True))
def test_shares_add_up_to_all_shards_and_differ_by_one_at_most(workers: list[str]) -> None:
    shares = [quota(worker, workers) for worker in workers]
    assert sum(shares) == SHARDS
    assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize(
    ("living", "expected", "share"), [(1, 1, 64), (1, 2, 32), (2, 2, 32), (1, 3, 22), (3, 2, 22), (2, 1, 32)]
)
def test_a_share_is_no_larger_than_it_will_be(living: int, expected: int, share: int) -> None:
    workers = [f"w{n}" for n in range(living)]
    assert quota("w0", workers, expected) == share


@given(st.sets(st.integers(0, 63)), st.integers(0, 64))
def test_what_is_given_back_leaves_exactly_the_share(held: set[int], share: int) -> None:
    given_back = surplus(held, share)
    assert set(given_back) <= held
    assert len(held) - len(given_back) == min(len(held), share)


def test_new_ids_are_of_open_shards_and_refused_without_any() -> None:
    shards = Shards()
    now = message("ten_1").created_at
    with pytest.raises(Refused):
        shards.new_message_id(now)
    shards.held = dict.fromkeys((3, 40), now)
    shards.set_open({40})
    assert {shard_of(shards.new_message_id(now)) for _ in range(20)} == {40}
    assert shards.owns(shards.new_message_id(now))


# --- two workers
@dataclass
class Pair:
    first: CastNode
    second: CastNode

    def of(self, node: CastNode, *steps: str, **fields: object) -> Message:
        """A message that belongs to this worker."""
        made = message(self.first.tenant, *steps, **fields)
        made.message_id = node.context.shards.new_message_id(made.created_at)
        return made

    def memory_of(self, message_id: str) -> Cascade:
        """What the message's one cascade, on whichever worker, has in memory."""
        cascades = (actor for actor in gc.get_objects() if type(actor) is CascadeActor)
        (state,) = (actor.state for actor in cascades if actor.state.message.message_id == message_id)
        return state


async def submit(node: CastNode, made: Message) -> str:
    await node.system.call(f"tenant/{made.tenant}", Submit(made))
    return made.message_id


CARRIERS = {"receipt_delay_ms": 20}


async def join(first: CastNode, name: str = "worker-2", carriers: Sequence[CarrierPlan] | None = None) -> CastNode:
    journal = first.journal.peer(name)  # type: ignore[attr-defined]
    await journal.start()
    if carriers is None:
        carriers = [mock("mock-sms", "sms", **CARRIERS), mock("mock-email", "email", **CARRIERS)]
    return await start_cast(carriers, journal)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    journal = MemoryJournal()
    await journal.start()
    first = await start_cast([mock("mock-sms", "sms", **CARRIERS), mock("mock-email", "email", **CARRIERS)], journal)
    assert len(first.context.shards.held) == SHARDS
    second = await join(first)
    both = Pair(first, second)
    await first.until(lambda: len(second.context.shards.open) == 32 == len(first.context.shards.open), 30.0)
    yield both
    await second.stop()
    await first.stop()


async def test_a_second_worker_gets_half_and_both_accept_what_is_theirs(pair: Pair) -> None:
    held = [set(node.context.shards.held) for node in (pair.first, pair.second)]
    assert held[0] | held[1] == set(range(SHARDS))
    assert not held[0] & held[1]
    for node in (pair.first, pair.second):
        message_id = await submit(node, pair.of(node))
        assert (await node.final(message_id)).status == "delivered"


async def test_a_message_of_the_other_worker_is_refused(pair: Pair) -> None:
    with pytest.raises(Refused):
        await submit(pair.first, pair.of(pair.second))


async def test_a_receipt_that_comes_to_the_other_worker_ends_the_message(pair: Pair) -> None:
    made = pair.of(pair.second, to={"phone": "+4520120004"})  # no receipt of its own
    message_id = await submit(pair.second, made)

    async def submitted() -> str | None:
        for event in (await pair.first.stored(message_id)).events:
            if event.type == "submitted":
                return str(event.data["carrier_message_ids"][0])
        return None

    carrier_message_id = await pair.first.until(submitted)
    receipt = DeliveryReceipt("mock-sms", carrier_message_id, "delivered")
    assert await pair.first.system.call("dlr", ReceiptArrived(receipt)) == "matched"
    assert (await pair.first.final(message_id)).status == "delivered"
    await pair.first.until(lambda: not pair.first.journal._store.errands)  # type: ignore[attr-defined]


async def test_a_receipt_that_is_first_and_at_the_other_worker_is_claimed_by_the_submit_answer(pair: Pair) -> None:
    receipt = DeliveryReceipt("mock-sms", "early-1", "delivered")
    assert await pair.first.system.call("dlr", ReceiptArrived(receipt)) == "parked"
    await pair.second.until(lambda: pair.second.context.receipts.unmatched)
    (parked,) = await pair.second.journal.parked_receipts(10)
    ref = pair.second.system.whereis("dlr")
    assert ref is not None
    (mine,) = pair.second.context.receipts.expect(("mock-sms", "early-1"), ref, 0, 1, 0)
    assert mine.row == parked.id


async def test_a_cancel_at_the_other_worker_is_answered_by_the_owner(pair: Pair) -> None:
    made = pair.of(pair.second, to={"phone": "+4520120004"})
    message_id = await submit(pair.second, made)
    tenant = f"tenant/{made.tenant}"
    await pair.first.system.call(tenant, CancelMessage(message_id), timeout_s=30.0)
    assert (await pair.first.stored(message_id)).status == "cancelled"
    with pytest.raises(AlreadyFinal, match="cancelled"):
        await pair.first.system.call(tenant, CancelMessage(message_id), timeout_s=30.0)
    with pytest.raises(AlreadyFinal):
        await pair.first.system.call(tenant, RescheduleMessage(message_id, made.expires_at), timeout_s=30.0)


async def test_errands_that_are_done_while_others_are_being_forgotten_are_forgotten_too(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = pair.second.journal
    forget = journal.errands_done

    async def slowly(errands: Sequence[Errand]) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        await forget(errands)

    monkeypatch.setattr(journal, "errands_done", slowly)
    for n in range(60):
        await pair.first.journal.send_errands([Errand(pair.of(pair.second).message_id, "wake", "{}")])
        for _ in range(n % 12):
            await asyncio.sleep(0)
    await pair.first.until(lambda: not pair.first.journal._store.errands)  # type: ignore[attr-defined]
    await pair.second.until(lambda: pair.second.system.info("errands").detail["doing"] == 0)


async def test_a_receipt_that_is_being_stored_when_the_actor_ends_is_offered_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    storing = asyncio.Event()

    async def never(errands: Sequence[Errand]) -> None:
        storing.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(pair.first.journal, "send_errands", never)
    told: list[bool] = []
    mail = ReceiptMail(DeliveryReceipt("mock-sms", "m-1", "delivered"), told.append, (0, 1, 0))
    pair.first.system.send("errands", Forward(pair.of(pair.second).message_id, mail))
    await storing.wait()
    ref = pair.first.system.whereis("errands")
    assert ref is not None
    ref.stop()
    await ref.ended()
    assert told == [False]


async def test_what_one_worker_suppresses_the_other_does_not_send(pair: Pair) -> None:
    made = pair.of(pair.second)
    await pair.first.system.call("suppressions", SuppressRecipient(made.tenant, "sms", made.to["phone"], "stop"))
    await pair.second.until(lambda: len(pair.second.context.suppressions))
    message_id = await submit(pair.second, made)
    assert (await pair.second.final(message_id)).status == "failed"


async def test_an_erasure_reaches_the_cascade_that_another_worker_still_has() -> None:
    journal = MemoryJournal()
    await journal.start()
    slow = [mock("mock-sms", "sms", latency_ms=3_600_000)]
    first = await start_cast(slow, journal)
    second = await join(first, carriers=slow)
    pair = Pair(first, second)
    await first.until(lambda: len(second.context.shards.open) == 32 == len(first.context.shards.open), 30.0)
    message_id = await submit(second, pair.of(second))
    await second.until(lambda: pair.memory_of(message_id).attempts)
    now = second.context.clock.now()
    erasure = Erasure(
        "era_" + first.context.shards.new_message_id(now)[4:], first.tenant, "hash", "+4520120001", "test", now
    )
    await first.journal.put_erasure(erasure)
    first.system.send("erasures", ErasureAsked())
    # Cancelled, and yet in a carrier's hands: whatever that says of it is to be written without its words.
    await first.until(lambda: pair.memory_of(message_id).message.erased_at, 30.0)
    held = pair.memory_of(message_id)
    assert (held.status, held.message.to, held.message.content) == ("cancelled", {}, Content())
    await first.until(lambda: not journal._store.errands)
    await second.stop(crash=True)
    await first.stop(crash=True)


async def test_a_consent_withdrawn_at_one_worker_has_the_other_look_at_what_it_queued(pair: Pair) -> None:
    consents, there = pair.first.context.suppressions.consents, pair.second.context.suppressions
    whom = (pair.first.tenant, "sms", "+4520120001", "marketing")
    by = Author("test", None)
    made = await consents.add(whom[0], "sms", "marketing", whom[2], "form", None, None, None, by=by)
    await pair.second.until(lambda: there.consents.given(*whom))
    looked: list[bool] = []
    there.on_added.append(lambda: looked.append(there.consents.given(*whom)))
    withdrawn = await consents.withdraw(whom[0], made.id, by=by)
    assert withdrawn is not None and withdrawn.withdrawn_at is not None
    await pair.second.until(lambda: looked)
    assert looked == [False]


async def test_shards_move_with_what_waits_in_them_and_back_when_a_worker_ends() -> None:
    journal = MemoryJournal()
    await journal.start()
    carriers = [mock("mock-sms", "sms", **CARRIERS), mock("mock-email", "email", **CARRIERS)]
    first = await start_cast(carriers, journal)
    silent = [message(first.tenant, "sms", "email", to={"phone": "+4520120004", "email": "delivered@example.com"})]
    silent += [message(first.tenant, to={"phone": "+4520120004"}) for _ in range(40)]
    ids = [await submit(first, made) for made in silent]
    second = await join(first)
    await first.until(lambda: len(second.context.shards.open) == 32, 30.0)
    moved = [message_id for message_id in ids if second.context.shards.owns(message_id)]
    assert 0 < len(moved) < len(ids)
    assert not [m for m in moved if first.system.whereis("cascade/" + m)]
    assert first.context.open_messages + second.context.open_messages == len(ids)
    await second.stop()
    await second.journal.stop()
    await first.until(lambda: len(first.context.shards.open) == SHARDS, 30.0)
    assert first.context.open_messages == len(ids)
    await asyncio.gather(*(first.system.call(f"tenant/{first.tenant}", CancelMessage(m), 30.0) for m in ids))
    assert {(await first.stored(m)).status for m in ids} == {"cancelled"}
    await first.stop()
