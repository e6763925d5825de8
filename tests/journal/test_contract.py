"""What `hermes.journal.base` promises, held against both journals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from msgspec import structs

from hermes.domain.consent import Consent
from hermes.domain.erasure import Erasure
from hermes.domain.inbound import Inbound, PartKey, StoredPart
from hermes.domain.message import Content, Step, new_inbound_id, new_message_id, ulid
from hermes.domain.receipt import DeliveryReceipt
from hermes.domain.suppression import Suppression
from hermes.domain.usage import AcceptedLine, UsageDelta, accepted
from hermes.journal.base import (
    NEWS_ANSWER,
    NEWS_CARRIERS,
    NEWS_ERRAND,
    NEWS_HANDOVER,
    NEWS_LIVE,
    NEWS_PARKED,
    NEWS_SUPPRESSIONS,
    NEWS_WORKERS,
    SHARDS,
    ApiKey,
    CarrierRef,
    Change,
    Conflict,
    Endpoint,
    Errand,
    Fenced,
    Handover,
    IdempotencyRecord,
    InboundRecord,
    LiveSetting,
    MessageQuery,
    OutboxEntry,
    OutboxResult,
    QueueFull,
    RefTarget,
    Tenant,
    Write,
    WriteRefused,
    shard_of,
)
from hermes.journal.rows import suppressions_told
from tests.journal.makers import Bench, accept, close, database, event, in_shard, message, put, store

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture(params=["memory", "postgres"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "memory":
        made = Bench("memory", None)
        yield made
        await made.end()
    else:
        async with database() as connect:
            made = Bench("postgres", connect)
            yield made
            await made.end()


@pytest.fixture
async def journal(bench: Bench) -> Any:
    return await bench.worker()


@pytest.fixture
def now(bench: Bench) -> datetime:
    return bench.clock.now()


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# --- appending
async def test_what_was_written_comes_back_equal(journal, now):
    made = message(
        now,
        to={"phone": "+4520123456", "email": "a@example.com"},
        cascade=(Step("email", 300.0, "delivered"), Step("sms", 0.1, "submitted")),
        content=Content(text="tab\tnul\0 é 💬 \x1f", data={"a": [1, None, {"b": 2.5}]}, sms={"text": "short"}),
        category="otp",
        mode="test",
        sender={"sms": "Hermes"},
        send_at=now + HOUR,
        reference="order-17",
        metadata={"k": "v"},
        callback_url="https://customer.example/hook",
        on_ambiguous="never",
        segments=2,
        encoding="ucs2",
    )
    second = event(2, now + HOUR, "submitted", text="\x1f\0é", n=1.5, deep={"a": [True, None]})
    third = event(3, now + HOUR, "crashed")
    await store(journal, accept(made), Write(made.message_id, made.tenant, [second, third], due=now + 2 * HOUR))
    (stored,) = await journal.load([made.message_id])
    assert stored.message == made
    assert stored.events == [event(1, now), second, third]
    assert (stored.status, stored.due) == (None, now + 2 * HOUR)


async def test_times_keep_their_microseconds(journal, now):
    made = message(now.replace(microsecond=1))
    await store(journal, accept(made, due=now.replace(microsecond=999_999)))
    (stored,) = await journal.load([made.message_id])
    assert stored.message.created_at.microsecond == 1
    assert stored.due == now.replace(microsecond=999_999)


async def test_load_keeps_the_order_asked_and_leaves_unknown_ids_out(journal, now):
    mades = [message(now) for _ in range(3)]
    await store(journal, *map(accept, mades))
    ids = [mades[2].message_id, new_message_id(now), "nonsense", mades[0].message_id]
    assert [s.message for s in await journal.load(ids)] == [mades[2], mades[0]]
    assert await journal.load([]) == []


async def test_done_is_never_called_from_append(journal, now):
    outcome = put(journal, accept(message(now)))
    assert not outcome.told
    assert journal.queued == 1
    assert await outcome is None
    assert journal.queued == 0


async def test_writes_are_committed_in_the_order_of_append(journal, now):
    order: list[int] = []
    mades = [message(now) for _ in range(50)]
    for n, made in enumerate(mades):
        journal.append(accept(made), lambda error, n=n: order.append(n))
    assert await put(journal, accept(message(now))) is None
    assert order == list(range(50))


async def test_a_failing_callback_does_not_silence_the_others(journal, now, bench):
    heard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))

    def fails(error: Any) -> None:
        raise RuntimeError("a bug")

    journal.append(accept(message(now)), fails)
    assert await put(journal, accept(message(now))) is None
    assert [type(context["exception"]) for context in heard] == [RuntimeError]


async def test_the_same_event_twice_is_a_conflict_and_nothing_of_it_is_written(journal, now):
    made = message(now)
    await store(journal, accept(made))
    again = Write(
        made.message_id,
        made.tenant,
        [event(2, now, "submitted"), event(1, now)],
        refs=[CarrierRef("mock", "never", 0, 1, 0)],
        outbox=[OutboxEntry(2, "callback", "message.submitted", now)],
        status="failed",
    )
    assert isinstance(await put(journal, again), Conflict)
    (stored,) = await journal.load([made.message_id])
    assert ([e.seq for e in stored.events], stored.status) == ([1], None)
    assert await journal.find_refs([("mock", "never")]) == [None]
    assert await journal.outbox_pending() == 0


async def test_the_same_message_twice_is_a_conflict(journal, now):
    made = message(now)
    await store(journal, accept(made))
    assert isinstance(await put(journal, Write(made.message_id, "ten_1", [], message=made)), Conflict)


async def test_one_conflict_leaves_its_neighbours_alone_and_takes_its_followers_along(journal, now):
    known = message(now)
    await store(journal, accept(known))
    neighbours = [message(now) for _ in range(20)]
    outcomes = [put(journal, accept(made)) for made in neighbours[:10]]
    refused = put(journal, Write(known.message_id, "ten_1", [event(1, now)]))
    follower = put(journal, Write(known.message_id, "ten_1", [event(2, now, "submitted")]))
    outcomes += [put(journal, accept(made)) for made in neighbours[10:]]
    assert isinstance(await refused, Conflict)
    assert isinstance(await follower, Conflict)
    assert [await outcome for outcome in outcomes] == [None] * 20
    assert len(await journal.load([made.message_id for made in neighbours])) == 20
    assert [e.seq for e in (await journal.load([known.message_id]))[0].events] == [1]
    await store(journal, Write(known.message_id, "ten_1", [event(2, now, "submitted")]))


async def test_data_the_database_cannot_hold_is_refused_alone(journal, now):
    outcomes = [
        put(journal, accept(message(now, reference="a\0b"))),
        put(journal, accept(message(now, content=Content(text="\ud800")))),
        put(journal, accept(message(now, reference="\ud800"))),
        put(journal, accept(message(now, message_id="msg_not"))),
        put(journal, accept(message(now, message_id="msg_" + "U" * 26))),
        put(journal, Write(new_message_id(now), "ten_1", [event(1, now, what=object())])),
        put(journal, accept(message(now, content=Content(text="fine")))),
    ]
    told = [await outcome for outcome in outcomes]
    assert [type(error) for error in told[:-1]] == [WriteRefused] * 6
    assert told[-1] is None
    assert not any("fine" in str(error) or "a\0b" in str(error) for error in told)


async def test_a_text_with_every_control_character_is_kept(journal, now):
    odd = "".join(map(chr, range(1, 33))) + "=,{}\"'\\"
    mades = [message(now, reference=odd), message(now, reference=""), message(now)]
    await store(
        journal,
        accept(mades[0], refs=[CarrierRef(odd, odd, 0, 1, 0)], outbox=[OutboxEntry(1, odd, odd, now, odd)]),
    )
    await store(journal, accept(mades[1]))
    await store(journal, accept(mades[2], outbox=[OutboxEntry(1, "callback", "x", now, "")]))
    ids = [made.message_id for made in mades]
    assert [s.message.reference for s in await journal.load(ids)] == [odd, "", None]
    for reference, id_ in ((odd, ids[0]), ("", ids[1])):
        page = await journal.list_messages(MessageQuery(tenant="ten_1", reference=reference))
        assert [s.message.message_id for s in page] == [id_]
    assert await journal.find_refs([(odd, odd)]) == [RefTarget(ids[0], 0, 1, 0)]
    items = await journal.outbox_due(None, now + HOUR, 10)
    assert {item.message_id: item.payload for item in items} == {ids[0]: odd, ids[2]: ""}


async def test_a_ref_of_several_messages_leads_to_all_of_them_the_newest_first(journal, now):
    made = [message(now) for _ in range(3)]
    for n, each in enumerate(made):
        write = accept(each)
        write.refs = [CarrierRef("a", "about", 0, n + 1, 0)]
        await store(journal, write)
    found = await journal.find_all_refs("a", "about", 2)
    assert len(found) == 2 and {target.message_id for target in found} <= {each.message_id for each in made}
    assert len(await journal.find_all_refs("a", "about", 9)) == 3
    assert await journal.find_all_refs("b", "about", 9) == []
    assert await journal.find_all_refs("a", "\0", 9) == []


async def test_a_withdrawn_write_is_never_written(journal, now):
    kept, taken = message(now), message(now)
    outcome, write = put(journal, accept(kept)), accept(taken)
    never = put(journal, write)
    assert journal.withdraw(write)
    assert not journal.withdraw(write)
    assert await outcome is None
    assert await put(journal, accept(message(now))) is None
    assert await journal.load([taken.message_id]) == []
    assert not never.told


async def test_a_written_write_cannot_be_withdrawn(journal, now):
    write = accept(message(now))
    assert await put(journal, write) is None
    assert not journal.withdraw(write)


async def test_a_full_queue_refuses_at_once_what_may_be_refused(bench, now):
    journal = await bench.worker(queue_limit=3)
    outcomes = [put(journal, accept(message(now)), refusable=True) for _ in range(3)]
    with pytest.raises(QueueFull):
        put(journal, accept(message(now)), refusable=True)
    outcomes.append(put(journal, accept(message(now))))  # a receipt, say: it waits
    assert [await outcome for outcome in outcomes] == [None] * 4
    assert await put(journal, accept(message(now)), refusable=True) is None


# --- life of a message
async def test_closing_ends_parking_and_keeps_the_first_status_out_of_open_lists(journal, now):
    made = message(now)
    await store(journal, accept(made, due=now), close(made))
    (stored,) = await journal.load([made.message_id])
    assert (stored.status, stored.due) == ("delivered", None)
    assert await journal.count_open() == 0
    assert await journal.due_page(now + HOUR, 10) == []


async def test_everything_may_happen_in_one_batch(journal, now):
    """Accepted, parked, woken, closed and corrected before the first commit: as if each had its own."""
    made, parked = message(now), message(now)
    await store(
        journal,
        accept(made),
        Write(made.message_id, "ten_1", [], due=now + HOUR),
        accept(parked),
        close(made, 2, "failed"),
        Write(made.message_id, "ten_1", [event(3, now, "receipt")], due=now + HOUR),
        Write(made.message_id, "ten_1", [event(4, now, "corrected")], status="delivered"),
        Write(parked.message_id, "ten_1", [], due=now),
        Write(parked.message_id, "ten_1", [], due=None),
        Write(parked.message_id, "ten_1", [], due=now + 2 * HOUR),
    )
    done, waiting = await journal.load([made.message_id, parked.message_id])
    assert (done.status, done.due, len(done.events)) == ("delivered", None, 4)
    assert (waiting.status, waiting.due) == (None, now + 2 * HOUR)


async def test_a_final_message_is_never_parked_again(journal, now):
    made = message(now)
    await store(journal, accept(made), close(made, status="failed"))
    await store(journal, Write(made.message_id, "ten_1", [event(3, now, "receipt")], due=now))
    await store(journal, Write(made.message_id, "ten_1", [event(4, now, "corrected")], status="delivered"))
    (stored,) = await journal.load([made.message_id])
    assert (stored.status, stored.due) == ("delivered", None)
    assert await journal.count_open() == 0


async def test_a_message_may_be_final_with_its_first_write(journal, now):
    made = message(now)
    write = Write(made.message_id, "ten_1", [event(1, now), event(2, now, "failed")], message=made, status="failed")
    await store(journal, write)
    (stored,) = await journal.load([made.message_id])
    assert stored.status == "failed"
    assert await journal.count_open() == 0


async def test_due_pages_come_earliest_first_and_leave_out_what_is_asked(journal, now):
    mades = [message(now) for _ in range(5)]
    for n, made in enumerate(mades):
        await store(journal, accept(made, due=now + timedelta(seconds=n)))
    ids = [made.message_id for made in mades]
    assert await journal.due_page(now + timedelta(seconds=3), 10) == ids[:3]  # before, not at
    assert await journal.due_page(now + HOUR, 2) == ids[:2]
    assert await journal.due_page(now + HOUR, 2, not_ids=[ids[0], ids[2]]) == [ids[1], ids[3]]
    await store(journal, Write(ids[0], "ten_1", [], due=None))
    assert await journal.due_page(now + HOUR, 1) == [ids[1]]
    assert (await journal.load([ids[0]]))[0].due is None


async def test_hot_pages_show_what_actors_held_by_id(journal, now):
    mades = sorted((in_shard(7, lambda: message(now)) for _ in range(5)), key=lambda made: made.message_id)
    await store(journal, *map(accept, mades))
    await store(journal, Write(mades[1].message_id, "ten_1", [], due=now), close(mades[2]))
    first = await journal.hot_page(7, "", 2)
    assert [s.message for s in first] == [mades[0], mades[3]]
    assert [s.message for s in await journal.hot_page(7, mades[3].message_id, 2)] == [mades[4]]
    assert await journal.hot_page(8, "", 10) == []


async def test_refs_lead_to_the_newest_attempt(journal, now, bench):
    first, second = message(now), message(now)
    await store(journal, accept(first, refs=[CarrierRef("a", "r1", 0, 1, 0), CarrierRef("a", "r2", 0, 1, 1)]))
    bench.clock.offset = timedelta(seconds=1)
    await store(journal, accept(second, refs=[CarrierRef("a", "r1", 2, 3, 1)]))
    assert await journal.find_refs([("a", "r2"), ("b", "r1"), ("a", "r1"), ("a", "\0")]) == [
        RefTarget(first.message_id, 0, 1, 1),
        None,
        RefTarget(second.message_id, 2, 3, 1),
        None,
    ]


# --- idempotency
async def test_a_key_is_kept_for_24_hours_and_stops_a_second_write(journal, now, bench):
    record = IdempotencyRecord("key-1", b"\x00\xff", '{"id": 1}')
    await store(journal, accept(message(now), idempotency=record))
    assert await journal.find_idempotent("ten_1", "key-1") == record
    assert await journal.find_idempotent("ten_2", "key-1") is None
    assert await journal.find_idempotent("ten_1", "\0") is None
    second = message(now)
    assert isinstance(await put(journal, accept(second, idempotency=record)), Conflict)
    assert await journal.load([second.message_id]) == []
    other = message(now, tenant="ten_2")
    await store(journal, accept(other, idempotency=record))

    bench.clock.offset = timedelta(hours=24, seconds=1)
    assert await journal.find_idempotent("ten_1", "key-1") is None
    newer = IdempotencyRecord("key-1", b"2", "{}")
    await store(journal, accept(message(bench.clock.now()), idempotency=newer))
    assert await journal.find_idempotent("ten_1", "key-1") == newer


async def test_the_first_of_two_writes_with_one_key_wins(journal, now):
    mades = [message(now), message(now)]
    outcomes = [
        put(journal, accept(made, idempotency=IdempotencyRecord("k", b"", str(n)))) for n, made in enumerate(mades)
    ]
    assert await outcomes[0] is None
    assert isinstance(await outcomes[1], Conflict)
    assert (await journal.find_idempotent("ten_1", "k")).response == "0"


# --- lists
async def test_lists_filter_by_everything_and_come_newest_first(journal, now):
    def at(n: int) -> Any:
        return now + timedelta(seconds=n)

    mades = [
        message(at(0), reference="order-1"),
        message(
            at(1),
            reference="order-10",
            cascade=(Step("email", 60, "delivered"), Step("push", 60, "delivered")),
        ),
        message(at(2), mode="test", reference="order-2"),
        message(at(3), tenant="ten_2", reference="order-1"),
        message(at(4), reference="other"),
        message(at(5)),
    ]
    await store(journal, *map(accept, mades))

    async def listed(**fields: Any) -> list[int]:
        page = await journal.list_messages(MessageQuery(**fields))
        return [mades.index(stored.message) for stored in page]

    assert await listed() == [5, 4, 3, 2, 1, 0]
    assert await listed(tenant="ten_1") == [5, 4, 2, 1, 0]
    assert await listed(tenant="ten_1", mode="live") == [5, 4, 1, 0]
    assert await listed(tenant="ten_1", limit=2) == [5, 4]
    assert await listed(tenant="ten_1", before_id=mades[4].message_id, limit=2) == [2, 1]
    assert await listed(before_id=mades[0].message_id) == []
    assert await listed(channel="sms") == [5, 4, 3, 2, 0]
    assert await listed(channel="push") == [1]
    assert await listed(channel="whatsapp") == []
    assert await listed(channel="pigeon") == []
    assert await listed(tenant="ten_1", reference="order-1") == [0]
    assert await listed(reference="order-1") == [3, 0]
    assert await listed(tenant="ten_1", reference_prefix="order-1") == [1, 0]
    assert await listed(tenant="ten_1", reference_prefix="order-") == [2, 1, 0]
    assert await listed(tenant="ten_1", reference_prefix="") == [4, 2, 1, 0]
    assert await listed(tenant="ten_1", reference="\0") == []
    assert await listed(created_after=at(2), created_before=at(4)) == [3, 2]
    assert await listed(created_after=datetime.min.replace(tzinfo=UTC), limit=1) == [5]
    assert await listed(created_before=datetime.max.replace(tzinfo=UTC), limit=1) == [5]
    assert await listed(tenant="nobody") == []


async def test_prefixes_are_compared_by_characters_of_every_kind(journal, now):
    references = ["a%b", "a_b", "aXb", "é1", "é2", "\U0010ffff1", "퟿z", "A"]
    for reference in references:
        await store(journal, accept(message(now, reference=reference)))
    for prefix in ("a%", "a_", "a", "é", "\U0010ffff", "퟿", "aXb", "zz"):
        page = await journal.list_messages(MessageQuery(tenant="ten_1", reference_prefix=prefix))
        found = {stored.message.reference for stored in page}
        assert found == {reference for reference in references if reference.startswith(prefix)}


async def test_lists_and_counts_name_open_messages_by_their_newest_public_event(journal, now):
    histories = [
        ["accepted"],
        ["accepted", "sending"],
        ["accepted", "scheduled", "crashed"],
        ["accepted", "scheduled", "submitted"],
        ["accepted", "submitted", "crashed"],
        ["accepted", "delivered"],
        ["accepted", "submitted", "failed"],
        ["accepted", "failed", "corrected"],
    ]
    statuses = [None, None, None, None, None, "delivered", "failed", "delivered"]
    mades = [message(now + timedelta(milliseconds=n)) for n in range(len(histories))]
    for made, history, status in zip(mades, histories, statuses, strict=True):
        events = [event(n + 1, now, type_) for n, type_ in enumerate(history)]
        await store(journal, Write(made.message_id, "ten_1", events, message=made, status=status))

    async def listed(*wanted: str) -> list[int]:
        page = await journal.list_messages(MessageQuery(tenant="ten_1", statuses=wanted))
        return sorted(mades.index(stored.message) for stored in page)

    assert await listed("accepted") == [0, 1]
    assert await listed("scheduled") == [2]
    assert await listed("in_progress") == [3, 4]
    assert await listed("open") == [0, 1, 2, 3, 4]
    assert await listed("delivered") == [5, 7]
    assert await listed("failed", "scheduled") == [2, 6]
    assert await listed("open", "failed", "delivered") == list(range(8))
    assert await listed("nonsense") == []
    assert await journal.count_messages("ten_1", None, None, None) == {
        "accepted": 2,
        "scheduled": 1,
        "in_progress": 2,
        "delivered": 2,
        "failed": 1,
    }
    assert await journal.count_messages("ten_2", None, None, None) == {}
    assert await journal.count_messages(None, "test", None, None) == {}
    later = now + timedelta(milliseconds=6)
    assert await journal.count_messages(None, "live", later, None) == {"failed": 1, "delivered": 1}
    assert await journal.count_messages(None, None, None, now + timedelta(milliseconds=1)) == {"accepted": 1}
    assert await journal.count_open() == 5


# --- receipts
async def test_parked_receipts_are_kept_until_dropped(journal, now):
    receipts = [DeliveryReceipt("mock", f"id-{n}", "delivered", at=now) for n in range(3)]
    ids = [await journal.park_receipt(receipt, f"ref-{n}") for n, receipt in enumerate(receipts)]
    newest = await journal.parked_receipts(2)
    assert [(p.id, p.receipt, p.ref) for p in newest] == [
        (ids[2], receipts[2], "ref-2"),
        (ids[1], receipts[1], "ref-1"),
    ]
    await journal.drop_parked([ids[2], ids[0]])
    assert [p.id for p in await journal.parked_receipts(10)] == [ids[1]]


# --- webhooks
async def test_a_delivery_is_due_retried_dead_and_replayed(journal, now):
    made = message(now)
    entries = [
        OutboxEntry(2, "callback", "message.delivered", now),
        OutboxEntry(2, "whk_1", "message.delivered", now + HOUR),
    ]
    await store(journal, accept(made), close(made, outbox=entries))
    (item,) = await journal.outbox_due("ten_1", now + timedelta(seconds=1), 10)
    assert (item.message_id, item.seq, item.target, item.type) == (
        made.message_id,
        2,
        "callback",
        "message.delivered",
    )
    assert (item.attempts, item.payload, item.dead_at) == (0, None, None)
    assert item.id == f"{made.message_id}.2.callback"
    assert await journal.outbox_due("ten_1", now, 10) == []  # before, not at
    assert await journal.outbox_due("ten_2", now + DAY, 10) == []
    assert [i.target for i in await journal.outbox_due(None, now + DAY, 10)] == ["callback", "whk_1"]
    assert await journal.outbox_due(None, now + DAY, 1) == [item]
    assert await journal.outbox_tenants() == ["ten_1"]
    assert await journal.outbox_pending() == 2

    key = (made.message_id, 2, "callback")
    await journal.outbox_results([OutboxResult(*key, "retry", 1, now + 2 * HOUR, "HTTP 500")])
    (_, item) = await journal.outbox_due("ten_1", now + DAY, 10)
    assert (item.attempts, item.due, item.last_error) == (1, now + 2 * HOUR, "HTTP 500")

    done = OutboxResult(made.message_id, 2, "whk_1", "done", 1)
    await journal.outbox_results([done, OutboxResult(*key, "dead", 9, error="HTTP 500"), done])
    assert await journal.outbox_pending() == 0
    assert await journal.outbox_tenants() == []
    (dead,) = await journal.dead_letters("ten_1", None, 10)
    assert (dead.id, dead.attempts, dead.last_error) == (item.id, 9, "HTTP 500")
    assert dead.dead_at is not None

    assert not await journal.replay_dead_letter("ten_2", dead.id, now)
    assert not await journal.replay_dead_letter("ten_1", "nonsense", now)
    assert not await journal.replay_dead_letter("ten_1", dead.id + "\0", now)
    assert await journal.replay_dead_letter("ten_1", dead.id, now)
    assert not await journal.replay_dead_letter("ten_1", dead.id, now)
    (item,) = await journal.outbox_due("ten_1", now + timedelta(seconds=1), 10)
    assert (item.attempts, item.due, item.dead_at) == (0, now, None)


async def test_dead_letters_are_paged_newest_first_by_number(journal, now):
    made = message(now)
    entries = [OutboxEntry(seq, target, "t", now) for seq in (2, 10) for target in ("callback", "whk_1")]
    await store(journal, accept(made, outbox=entries))
    await journal.outbox_results([OutboxResult(made.message_id, e.seq, e.target, "dead", 1) for e in entries])
    seen: list[tuple[int, str]] = []
    cursor = None
    while page := await journal.dead_letters("ten_1", cursor, 1):
        seen.append((page[0].seq, page[0].target))
        cursor = page[0].id
    assert seen == [(10, "whk_1"), (10, "callback"), (2, "whk_1"), (2, "callback")]
    assert await journal.dead_letters("ten_1", "nonsense", 10) == []


async def test_a_delivery_needs_no_message(journal, now):
    """Inbound messages and opt-outs are told to the customer too."""
    id_ = "inb_" + new_message_id(now)[4:]
    entry = OutboxEntry(1, "whk_1", "inbound.received", now, payload='{"from": "+45"}')
    await store(journal, Write(id_, "ten_1", [], outbox=[entry]))
    (item,) = await journal.outbox_due("ten_1", now + HOUR, 10)
    assert (item.message_id, item.payload) == (id_, '{"from": "+45"}')


async def test_tenants_with_deliveries_are_named_once(journal, now):
    for n in range(3):
        for _ in range(2):
            made = message(now, tenant=f"ten_{n}")
            await store(journal, accept(made, outbox=[OutboxEntry(1, "callback", "t", now)]))
    assert await journal.outbox_tenants() == ["ten_0", "ten_1", "ten_2"]
    assert len(await journal.outbox_due(None, now + HOUR, 10)) == 6


# --- tenants and keys
async def test_tenants_keys_and_endpoints_come_back_equal(journal, now):
    old = Tenant("ten_2", "Two", "active", now, "whsec_1")
    tenant = Tenant("ten_1", "One", "suspended", now, "whsec_2", "whsec_0", now + DAY, {"rate_per_s": 5})
    for one in (old, tenant):
        await journal.put_tenant(one)
    assert await journal.tenants() == [tenant, old]
    old.status = "deleted"
    await journal.put_tenant(old)
    assert await journal.tenants() == [tenant]

    key = ApiKey("key_1", "ten_1", b"\x00\x01", "hk_live_ab", "live", ("messages:read",), now)
    brief = ApiKey("key_2", "ten_1", b"2", "p", "test", (), now, now + HOUR, ("10.0.0.0/8",), now)
    past = ApiKey("key_3", "ten_1", b"3", "p", "test", (), now, now - HOUR)
    for each in (key, brief, past, key):
        await journal.put_key(each)
    assert await journal.keys() == [key, brief]
    assert await journal.delete_key("ten_1", "key_1")
    assert not await journal.delete_key("ten_1", "key_1")
    assert not await journal.delete_key("ten_1", "\0")

    endpoint = Endpoint("whk_1", "ten_1", "https://x.example", ("message.read",), "whsec_3", now)
    await journal.put_endpoint(endpoint)
    endpoint.disabled_at = now
    await journal.put_endpoint(endpoint)
    assert await journal.endpoints() == [endpoint]
    assert await journal.delete_endpoint("ten_1", "whk_1")
    assert not await journal.delete_endpoint("ten_1", "whk_1")


async def test_a_deleted_tenant_is_erased_once_its_messages_are(bench, journal, now):
    secret = "whsec_erased"
    for n, age in enumerate((timedelta(days=31), timedelta(days=29), None)):
        name = f"ten_{n}"
        deleted = None if age is None else now - age
        status = "active" if age is None else "deleted"
        await journal.put_tenant(
            Tenant(name, "Acme", status, now, secret, email="a@example.com", deleted_at=deleted),
            Change(now, "operator", name, "tenant.updated", name, {"name": "Acme"}, {"name": "New"}),
        )
        await journal.put_key(ApiKey(f"key_{n}", name, b"%d" % n, "p", "live", (), now))
        await journal.put_endpoint(Endpoint(f"whk_{n}", name, "https://x.example", (), secret, now))
    await journal.housekeep(now, 30)
    assert [key.tenant for key in await journal.keys()] == ["ten_1", "ten_2"]
    assert [endpoint.tenant for endpoint in await journal.endpoints()] == ["ten_1", "ten_2"]
    (erased,) = await journal.changes("ten_0", None, 10)
    (kept,) = await journal.changes("ten_1", None, 10)
    assert (erased.actor, erased.action, erased.before, erased.after) == ("operator", "tenant.updated", None, None)
    assert kept.after == {"name": "New"}
    if bench.kind == "postgres":
        connection = await asyncpg.connect(**bench.connect)
        assert [row[0] for row in await connection.fetch("SELECT id FROM tenant ORDER BY id")] == ["ten_1", "ten_2"]
        await connection.close()


# --- what was set while the node ran
async def test_live_settings_come_back_oldest_first_and_keep_their_place_when_replaced(journal, now):
    first = LiveSetting("carrier", "b", '{"kind": "mock"}', now, b"\x00\xff")
    second = LiveSetting("carrier", "a", "{}", now + HOUR)
    other = LiveSetting("routes", "a", "[]", now + DAY)
    for one in (second, other, first):
        await journal.put_live_setting(one)
    assert await journal.live_settings() == [first, second, other]
    await journal.put_live_setting(replace(first, body="{}", sealed=None, created_at=now + DAY))
    assert await journal.live_settings() == [replace(first, body="{}", sealed=None), second, other]
    assert await journal.delete_live_setting("carrier", "a")
    assert not await journal.delete_live_setting("carrier", "a")
    assert not await journal.delete_live_setting("carrier", "\0")
    assert [s.name for s in await journal.live_settings()] == ["b", "a"]


# --- workers
async def test_the_first_worker_gets_every_shard_and_a_second_one_none(bench):
    first, second = await bench.worker(claim=False), await bench.worker(claim=False)
    claimed = await first.claim_shards()
    assert sorted(claimed) == list(range(SHARDS))
    assert all(at < datetime(1900, 1, 1, tzinfo=UTC) for at in claimed.values())
    assert await second.claim_shards() == {}
    assert await first.claim_shards() == claimed
    assert sorted((row.dead, row.shards) for row in await first.workers()) == [(False, 0), (False, 64)]


async def test_workers_share_shards_by_limit_and_see_only_their_own_due(bench, now):
    first, second = await bench.worker(claim=False), await bench.worker(claim=False)
    mine = set(await first.claim_shards(32))
    yours = set(await second.claim_shards(32))
    assert len(mine) == len(yours) == 32
    assert mine | yours == set(range(SHARDS))
    mades = [message(now) for _ in range(40)]
    entry = OutboxEntry(1, "callback", "t", now)
    await store(first, *(accept(made, due=now, outbox=[entry]) for made in mades))
    for journal, shards in ((first, mine), (second, yours)):
        expected = {made.message_id for made in mades if shard_of(made.message_id) in shards}
        assert set(await journal.due_page(now + HOUR, 100)) == expected
        assert {item.message_id for item in await journal.outbox_due("ten_1", now + HOUR, 100)} == expected
        assert {item.message_id for item in await journal.outbox_due(None, now + HOUR, 100)} == expected
        assert await journal.outbox_pending() == len(expected)
        assert await journal.count_open() == len(expected)


async def test_released_shards_are_for_others_and_nothing_of_them_was_left_hot(bench, now):
    first, second = await bench.worker(), await bench.worker(claim=False)
    made = message(now)
    shard = shard_of(made.message_id)
    await store(first, accept(made, due=now))
    first.leave_shards({shard})
    assert await first.due_page(now + HOUR, 10) == []
    assert await second.claim_shards() == {}  # left, and not released yet
    await first.release_shards({shard})
    claimed = await second.claim_shards()
    assert list(claimed) == [shard] and claimed[shard] < datetime(1900, 1, 1, tzinfo=UTC)
    assert await second.due_page(now + HOUR, 10) == [made.message_id]
    assert await first.living_workers() == sorted([first.worker_id, second.worker_id])


async def test_an_errand_is_told_to_the_owner_and_stays_until_it_is_done(bench, now):
    first, second = await bench.worker(claim=False), await bench.worker(claim=False)
    await first.claim_shards(32)
    await second.claim_shards(32)
    told = []
    second.on_news(lambda topic, detail: told.append((topic, detail)))
    theirs = in_shard(min(await second.claim_shards(32)), lambda: message(now))
    await first.send_errands([Errand(theirs.message_id, "receipt", '{"n":1}'), Errand(theirs.message_id, "wake", "{}")])
    await until(lambda: (NEWS_ERRAND, second.worker_id) in told)
    assert await first.errands(10) == []
    found = await second.errands(10)
    assert [(e.message_id, e.kind, e.body) for e in found] == [
        (theirs.message_id, "receipt", '{"n":1}'),
        (theirs.message_id, "wake", "{}"),
    ]
    assert await second.errands(10, not_ids=[found[0].id]) == found[1:]
    await second.errands_done(found[:1])
    assert await second.errands(10) == found[1:]


def _handover(made, **fields):
    known = {"once": False, "expires_at": made.expires_at, "body": "{}"} | fields
    return Handover("direct", "submit", made.message_id, 0, 1, **known)


async def test_a_carrier_has_one_holder_until_that_one_is_dead(bench, now):
    first, second = await bench.worker(claim=False), await bench.worker(claim=False)
    assert await first.claim_carriers(["a", "b"]) == ["a", "b"]
    assert await second.claim_carriers(["a", "b", "c"]) == ["c"]
    told = []
    second.on_news(lambda topic, detail: told.append(topic))
    await first.tell_carrier("a", "down", "no bind")
    await second.tell_carrier("a", "up", None)  # it is not its own to speak of
    await until(lambda: NEWS_CARRIERS in told)
    known = [
        (lease.carrier, lease.owner, lease.state, lease.reason, lease.free) for lease in await second.carrier_leases()
    ]
    assert known == [
        ("a", first.worker_id, "down", "no bind", False),
        ("b", first.worker_id, "up", None, False),
        ("c", second.worker_id, "up", None, False),
    ]
    await first.stop()
    assert [lease.carrier for lease in await second.carrier_leases() if lease.free] == ["a", "b"]
    assert await second.claim_carriers(["a", "b", "c"]) == ["a", "b"]


async def test_a_holder_gives_its_carrier_to_a_worker_that_lives_and_only_what_is_its_own(bench, now):
    first, second = await bench.worker(claim=False), await bench.worker(claim=False)
    third = await bench.worker(claim=False)
    assert await first.claim_carriers(["a", "b"]) == ["a", "b"]
    told = []
    second.on_news(lambda topic, detail: told.append(topic))
    assert not await second.give_carrier("a", second.worker_id)  # it is not its own
    assert not await second.give_carrier("a", third.worker_id)
    assert not await first.give_carrier("unheard-of", second.worker_id)
    assert not await first.give_carrier("a", first.worker_id)
    await third.stop()
    assert not await first.give_carrier("a", third.worker_id)  # nobody would hold it
    assert NEWS_CARRIERS not in told
    assert await first.give_carrier("a", second.worker_id)
    await until(lambda: NEWS_CARRIERS in told)
    assert not await first.give_carrier("a", second.worker_id)
    held = {lease.carrier: (lease.owner, lease.free) for lease in await first.carrier_leases()}
    assert held == {"a": (second.worker_id, False), "b": (first.worker_id, False)}
    assert await first.claim_carriers(["a"]) == []


async def test_who_was_given_a_carrier_takes_what_was_handed_over_before_and_the_giver_nothing(bench, now):
    first, second = await bench.worker(), await bench.worker(claim=False)
    await first.claim_carriers(["direct"])
    await second.hand_over([_handover(message(now))])
    await first.give_carrier("direct", second.worker_id)
    assert await first.take_handovers("direct", 10) == []
    assert len(await second.take_handovers("direct", 10)) == 1


async def test_what_is_handed_over_is_taken_once_by_the_holder_and_its_outcome_is_an_errand(bench, now):
    first, second = await bench.worker(), await bench.worker(claim=False)
    await second.claim_carriers(["direct"])
    told = []
    second.on_news(lambda topic, detail: told.append((topic, detail)))
    made = [message(now) for _ in range(3)]
    await first.hand_over([_handover(one, body=str(n)) for n, one in enumerate(made)])
    await until(lambda: (NEWS_HANDOVER, second.worker_id) in told)
    assert await first.take_handovers("direct", 10) == []  # it does not hold the carrier
    taken = await second.take_handovers("direct", 2)
    assert [(h.message_id, h.body, h.worker) for h in taken] == [
        (one.message_id, str(n), first.worker_id) for n, one in enumerate(made[:2])
    ]
    assert await second.taken_handovers("direct") == taken
    await second.give_back_handovers("direct", [taken[1].id])
    await second.answer_handovers([Errand(made[0].message_id, "answer", "{}")], [("direct", taken[0].id)])
    assert await second.taken_handovers("direct") == []
    assert [(e.message_id, e.kind) for e in await first.errands(10)] == [(made[0].message_id, "answer")]
    again = await second.take_handovers("direct", 10)
    assert [h.message_id for h in again] == [one.message_id for one in made[1:]]


async def test_only_what_nobody_has_taken_is_recalled(bench, now):
    first, second = await bench.worker(), await bench.worker(claim=False)
    await second.claim_carriers(["direct"])
    taken, over, waiting = (message(now) for _ in range(3))
    await first.hand_over([_handover(taken)])
    assert len(await second.take_handovers("direct", 10)) == 1
    await first.hand_over([_handover(over, expires_at=bench.clock.now() - HOUR), _handover(waiting)])
    assert await first.handed_over("direct") == {made.message_id for made in (taken, over, waiting)}
    assert await second.recall_handovers("direct") == []  # they are not its own
    assert await first.recall_handovers("direct", within_s=0.0) == [(over.message_id, 0, 1)]
    left = (waiting.expires_at - bench.clock.now()).total_seconds()
    assert await first.recall_handovers("direct", within_s=left - 60) == []
    assert await second.take_handovers("direct", 10, lasting_s=left + 60) == []
    assert await first.recall_handovers("direct") == [(waiting.message_id, 0, 1)]
    assert await first.handed_over("direct") == {taken.message_id}
    (row,) = await second.taken_handovers("direct")
    await second.answer_handovers([Errand(taken.message_id, "answer", "{}")], [("direct", row.id)])
    assert await first.handed_over("direct") == {taken.message_id}  # its outcome was not read yet
    await first.errands_done(await first.errands(10))
    assert await first.handed_over("direct") == set()
    assert await second.take_handovers("direct", 10) == []


async def test_of_a_dead_workers_handovers_only_those_are_sent_that_nobody_sends_again(bench, now):
    first, second = await bench.worker(), await bench.worker(claim=False)
    await second.claim_carriers(["direct"])
    again, once = message(now), message(now)
    await first.hand_over([_handover(again), _handover(once, once=True)])
    await first.stop()
    assert [h.message_id for h in await second.take_handovers("direct", 10)] == [once.message_id]
    assert [h.message_id for h in await second.taken_handovers("direct")] == [once.message_id]


async def test_a_holder_that_died_leaves_what_it_had_taken_to_be_seen_by_the_next(bench, now):
    first, second, third = await bench.worker(), await bench.worker(claim=False), await bench.worker(claim=False)
    await second.claim_carriers(["direct"])
    taken, waiting = message(now), message(now)
    await first.hand_over([_handover(taken), _handover(waiting)])
    assert len(await second.take_handovers("direct", 1)) == 1
    await second.stop()
    assert await third.claim_carriers(["direct"]) == ["direct"]
    assert [h.message_id for h in await third.taken_handovers("direct")] == [taken.message_id]
    assert [h.message_id for h in await third.take_handovers("direct", 10)] == [waiting.message_id]


async def test_news_reach_the_others_and_not_whoever_tells(bench, now):
    first, second = await bench.worker(), await bench.worker(claim=False)
    told, own = [], []
    second.on_news(lambda topic, detail: told.append((topic, detail)))
    first.on_news(lambda topic, detail: own.append((topic, detail)))
    receipt = DeliveryReceipt("c", "id-1", "delivered")
    row = await first.park_receipt(receipt, "id-1")
    await first.put_live_setting(LiveSetting("carrier", "c", "{}", now))
    entry = Suppression("sup_" + ulid(), "ten_1", "sms", "+4520123456", "stop", now)
    await first.put_suppressions([entry])
    await first.delete_suppression("ten_1", entry.id)
    await first.tell(NEWS_ANSWER, "w ok")
    await until(lambda: (NEWS_ANSWER, "w ok") in told)
    assert [topic for topic, _ in told] == [NEWS_PARKED, NEWS_LIVE, NEWS_SUPPRESSIONS, NEWS_SUPPRESSIONS, NEWS_ANSWER]
    assert told[0][1] == str(row)
    assert [(d[0], suppressions_told(d[1:])) for _, d in told[2:4]] == [("+", [entry]), ("-", [entry])]
    assert [parked.receipt for parked in await second.parked_by_id([row])] == [receipt]
    assert [topic for topic, _ in own if topic != NEWS_WORKERS] == []  # it hears that the second came


async def test_a_stopped_worker_leaves_its_shards_and_writes_nothing_more(bench, now):
    first, second = await bench.worker(), await bench.worker()
    outcome = put(first, accept(message(now)))
    await first.stop()
    assert await outcome is None  # what was queued was written
    assert isinstance(await put(first, accept(message(now))), Fenced)
    claimed = await second.claim_shards()
    assert sorted(claimed) == list(range(SHARDS))
    assert all(now - HOUR < at <= bench.clock.now() for at in claimed.values())


# --- housekeeping
async def test_old_days_go_when_nothing_in_them_is_open(bench, now):
    journal = await bench.worker()
    bench.clock.offset = -40 * DAY
    closed = message(now - 40 * DAY)
    still_open = message(now - 39 * DAY)
    final = message(now - 39 * DAY)
    young = message(now - 20 * DAY)
    dead = OutboxEntry(2, "callback", "t", now)
    for made in (closed, final, young, still_open):
        await store(journal, accept(made))
        if made is not still_open:
            await store(journal, close(made, outbox=[dead]))
    bench.clock.offset = timedelta(0)
    ids = [made.message_id for made in (closed, still_open, final, young)]
    await journal.housekeep(now, 30)
    assert [s.message for s in await journal.load(ids)] == [still_open, final, young]
    assert {item.message_id for item in await journal.outbox_due(None, now + HOUR, 10)} == {
        final.message_id,
        young.message_id,
    }
    await store(journal, close(still_open))
    await journal.housekeep(now, 30)
    assert [s.message for s in await journal.load(ids)] == [young]


async def test_housekeeping_forgets_old_keys_and_receipts(bench, now):
    journal = await bench.worker()
    bench.clock.offset = -25 * HOUR
    await journal.park_receipt(DeliveryReceipt("mock", "old", "delivered"), "old")
    await store(journal, accept(message(now), idempotency=IdempotencyRecord("old", b"", "{}")))
    bench.clock.offset = -23 * HOUR
    await journal.park_receipt(DeliveryReceipt("mock", "new", "delivered"), "new")
    await store(journal, accept(message(now), idempotency=IdempotencyRecord("new", b"", "{}")))
    assert await journal.housekeep(now, 30) == ["mock"]
    assert [p.ref for p in await journal.parked_receipts(10)] == ["new"]
    assert await journal.find_idempotent("ten_1", "old") is None
    assert await journal.find_idempotent("ten_1", "new") is not None


# --- what somebody writes to us
def written(inbound_id="inb_1", tenant="ten_1", at=None, **fields):
    given: dict[str, Any] = {"carrier": "a", "channel": "sms", "sender": "+4520123456", "recipient": "1234"}
    return InboundRecord(inbound_id, tenant, Inbound(**{**given, "text": "nul\0 é 💬", **fields}), at)


async def test_an_inbound_message_comes_back_equal_and_its_webhooks_are_due(journal, now):
    record = written(new_inbound_id(now), at=now, carrier_message_id="SM1", media=("https://m.example/1",), parts=2)
    entry = OutboxEntry(1, "whk_1", "inbound.received", now, '{"text":"nul\\u0000"}')
    assert await journal.store_inbound(record, [entry])
    assert await journal.inbound("ten_1", 10) == [record]
    assert await journal.inbound(None, 10) == []
    (item,) = await journal.outbox_due("ten_1", now + HOUR, 10)
    assert (item.message_id, item.seq, item.target, item.type, item.payload, item.created_at) == (
        *(record.inbound_id, 1, "whk_1", "inbound.received", entry.payload),
        now,
    )


async def test_what_a_carrier_brings_again_is_stored_once(journal, now):
    entry = OutboxEntry(1, "whk_1", "inbound.received", now, "{}")
    assert await journal.store_inbound(written("inb_1", at=now, carrier_message_id="SM1"), [entry])
    assert not await journal.store_inbound(written("inb_2", at=now, carrier_message_id="SM1"), [entry])
    assert await journal.store_inbound(written("inb_3", at=now, carrier="b", carrier_message_id="SM1"))
    assert [record.inbound_id for record in await journal.inbound("ten_1", 10)] == ["inb_3", "inb_1"]
    assert len(await journal.outbox_due("ten_1", now + HOUR, 10)) == 1


async def test_inbound_without_the_carriers_id_always_counts(journal, now):
    for n in range(2):
        assert await journal.store_inbound(written(f"inb_{n}", None, at=now))
    assert len(await journal.inbound(None, 10)) == 2
    assert [record.inbound_id for record in await journal.inbound(None, 1)] == ["inb_1"]


def part_of(key, number, at):
    return StoredPart(key, number, 8, b"\x00\xff" * number, at)


async def test_parts_are_kept_until_their_message_is_stored(journal, now):
    key, other = PartKey("a", "+4520123456", "1234", 7, 3), PartKey("a", "+4520123456", "1234", 8, 3)
    elsewhere = PartKey("b", "+4520123456", "1234", 7, 3)
    first, second = part_of(key, 2, now), part_of(key, 1, now + HOUR)
    for part in (second, first, first, part_of(other, 1, now), part_of(elsewhere, 1, now)):
        await journal.store_part(part)
    assert sorted(await journal.stored_parts("a"), key=lambda p: (p.key.reference, p.number)) == [
        *(second, first, part_of(other, 1, now)),
    ]
    assert (await journal.stored_parts("a"))[-1] == second  # oldest first
    assert await journal.store_inbound(written(at=now + 2 * HOUR), [], key)
    whole = StoredPart(key, 0, 0, b"", now + 2 * HOUR)
    twice = written("inb_2", at=now + 2 * HOUR + timedelta(minutes=5))
    assert not await journal.store_inbound(twice, [OutboxEntry(1, "whk_1", "inbound.received", now, "{}")], key)
    assert [record.inbound_id for record in await journal.inbound("ten_1", 10)] == ["inb_1"]
    assert await journal.outbox_due("ten_1", now + 9 * HOUR, 10) == []
    assert await journal.stored_parts("a") == [part_of(other, 1, now), whole]
    await journal.store_part(second)  # it was on its way when the message became whole
    assert await journal.stored_parts("a") == [part_of(other, 1, now), whole]
    again = part_of(key, 1, now + 3 * HOUR)  # the number of a later message
    await journal.store_part(again)
    assert await journal.stored_parts("a") == [part_of(other, 1, now), whole, again]
    assert await journal.stored_parts("b") == [part_of(elsewhere, 1, now)]
    await journal.housekeep(now + 25 * HOUR, 30)
    assert await journal.stored_parts("a") == [whole, again]
    later = now + 2 * HOUR + timedelta(minutes=6)
    assert await journal.store_inbound(written("inb_3", at=later), [], key)  # the same number, another message
    assert [part.number for part in await journal.stored_parts("a")] == [0]


async def test_messages_to_a_number_are_found_newest_first(journal, now):
    old = message(now - 40 * DAY)
    first, second = message(now - HOUR), message(now, to={"whatsapp": "+4520123456"})
    others = [
        message(now, to={"phone": "+4520999999"}),
        message(now, to={"email": "a@example.com"}),
        message(now, mode="test"),
    ]
    await store(journal, *(accept(made) for made in (old, first, second, *others)))
    found = await journal.messages_to("4520123456", now - 30 * DAY, 10)
    assert [stored.message for stored in found] == [second, first]
    assert found[0].events
    assert [stored.message for stored in await journal.messages_to("+4520123456", now - 30 * DAY, 1)] == [second]


async def test_inbound_messages_leave_after_their_retention_with_their_dead_letters(journal, now):
    entry = OutboxEntry(1, "whk_1", "inbound.received", now, "{}")
    for age in (40 * DAY, HOUR):
        id_ = new_inbound_id(now - age)
        assert await journal.store_inbound(written(id_, at=now - age, carrier_message_id=f"SM{age}"), [entry])
    await journal.housekeep(now, 30)
    (kept,) = await journal.inbound("ten_1", 10)
    assert kept.received_at == now - HOUR
    assert [item.message_id for item in await journal.outbox_due("ten_1", now + HOUR, 10)] == [kept.inbound_id]
    assert await journal.store_inbound(written("inb_1", at=now, carrier_message_id=f"SM{40 * DAY}"))


# --- who must not be written to
def suppression(now: datetime, address: str, tenant: str | None = "ten_1", channel: str | None = "sms") -> Suppression:
    return Suppression("sup_" + ulid(), tenant, channel, address, "manual", now)


async def test_an_entry_is_stored_once_for_its_tenant_channel_and_address(journal, now):
    first, again = suppression(now, "+451"), suppression(now, "+451")
    others = [
        suppression(now, "+451", tenant="ten_2"),
        suppression(now, "+451", tenant=None),
        suppression(now, "+451", channel="whatsapp"),
        suppression(now, "+451", channel=None),
        suppression(now, "+452"),
    ]
    assert await journal.put_suppressions([first]) == [first]
    assert await journal.put_suppressions([again, *others, *others]) == [first, *others, *others]
    assert await journal.put_suppressions([]) == []
    assert await journal.find_suppressions("ten_2", "+451") == [others[0]]
    assert await journal.find_suppressions(None, "+451") == [others[1]]
    assert await journal.find_suppressions("ten_1", "\0") == []


async def test_entries_are_read_page_by_page_by_their_owner_only(journal, now):
    mine = sorted([suppression(now, f"+45{n}") for n in range(5)], key=lambda e: e.id, reverse=True)
    theirs, everybodys = suppression(now, "+451", "ten_2"), suppression(now, "+451", None)
    await journal.put_suppressions([*mine, theirs, everybodys])
    assert await journal.suppressions("ten_1", None, 3) == mine[:3]
    assert await journal.suppressions("ten_1", mine[2].id, 3) == mine[3:]
    assert await journal.suppressions(None, None, 3) == [everybodys]
    assert await journal.delete_suppression("ten_2", mine[0].id) is None
    assert await journal.delete_suppression(None, mine[0].id) is None
    assert await journal.delete_suppression("ten_1", mine[0].id) == mine[0]
    assert await journal.delete_suppression("ten_1", mine[0].id) is None
    everything = sorted([*mine[1:], theirs, everybodys], key=lambda e: e.id)
    assert await journal.all_suppressions("", 3) == everything[:3]
    assert await journal.all_suppressions(everything[2].id, 10) == everything[3:]


async def test_an_entry_the_database_cannot_hold_stores_none(journal, now):
    with pytest.raises(WriteRefused):
        await journal.put_suppressions([suppression(now, "+451"), suppression(now, "a\0b")])
    assert await journal.suppressions("ten_1", None, 10) == []


# --- usage
def used(day, carrier="a", status="delivered", mode="live", messages=1, micros=10_000):
    return UsageDelta(mode, day, "sms", carrier, status, messages, 1, 2, micros)


async def test_usage_adds_up_by_tenant_mode_day_and_line(journal, now):
    today, yesterday = now.date(), (now - DAY).date()
    first, second, other = (message(now, tenant=tenant) for tenant in ("ten_1", "ten_1", "ten_2"))
    await store(
        journal,
        accept(first),
        accept(second),
        accept(other),
        close(first, usage=[used(today), used(today, carrier="b", messages=0)]),
        close(second, usage=[used(today), used(yesterday, mode="test")]),
        close(other, usage=[used(today, micros=7)]),
    )
    line = UsageDelta("live", today, "sms", "a", "delivered", 2, 2, 4, 20_000)
    assert await journal.usage("ten_1", "live", today, today) == [line, used(today, carrier="b", messages=0)]
    assert await journal.usage("ten_1", "test", yesterday, today) == [used(yesterday, mode="test")]
    assert await journal.usage("ten_2", "live", yesterday, today) == [used(today, micros=7)]
    assert await journal.usage("ten_3", "live", yesterday, today) == []
    assert await journal.usage("ten_1", "live", yesterday, yesterday) == []


async def test_what_is_taken_back_whole_leaves_no_line_of_usage(journal, now):
    made = message(now)
    minus = UsageDelta("live", now.date(), "sms", "a", "failed", -1, -1, -2, -10_000)
    await store(
        journal,
        accept(made),
        close(made, status="failed", usage=[used(now.date(), status="failed")]),
        close(made, seq=3, usage=[used(now.date()), minus]),
    )
    assert await journal.usage("ten_1", "live", now.date(), now.date()) == [used(now.date())]


async def test_a_refused_write_counts_for_nothing(journal, now):
    made, twice = message(now), message(now)
    await store(journal, accept(made), accept(twice))
    outcomes = [
        put(journal, close(made, usage=[used(now.date())])),
        put(journal, close(twice, seq=1, usage=[used(now.date())])),  # contradicts what is stored
    ]
    assert [type(await outcome) for outcome in outcomes] == [type(None), Conflict]
    assert await journal.usage("ten_1", "live", now.date(), now.date()) == [used(now.date())]


async def test_what_was_accepted_is_added_up_by_day_and_month_own_and_others_apart(bench, now):
    noon = datetime(2026, 3, 15, 12, tzinfo=UTC)
    today, this_month, next_month = noon.date(), noon.date().replace(day=1), date(2026, 4, 1)
    journal, other = await bench.worker(), await bench.worker()
    counted = [accepted("live", day, 2, 30) for day in (today, today, this_month, next_month)]
    await store(journal, *(structs.replace(accept(message(now)), usage=[delta]) for delta in counted))
    await store(journal, structs.replace(accept(message(now)), usage=[accepted("test", today, 1, 0)]))
    made = message(now)
    await store(other, structs.replace(accept(made), usage=[counted[0]]))
    await store(other, close(made, usage=[used(today)]))
    found = await journal.accepted([("ten_1", "live"), ("ten_2", "live")], today)
    assert sorted(found, key=lambda line: line.own) == [
        AcceptedLine("ten_1", "live", False, (1, 2, 30), (1, 2, 30), 10_000, 10_000),
        AcceptedLine("ten_1", "live", True, (2, 4, 60), (3, 6, 90), 0, 0),
    ]
    assert await journal.usage("ten_1", "live", this_month, next_month) == [used(today)]


async def test_usage_is_the_same_after_the_workers_that_wrote_it_are_gone(bench, now):
    today = now.date()
    for _ in range(3):
        journal = await bench.worker()
        made = message(now)
        await store(journal, accept(made), close(made, usage=[used(today)]))
        await journal.stop()
    journal = await bench.worker()
    made = message(now)
    await store(journal, accept(made), close(made, usage=[used(today)]))
    line = UsageDelta("live", today, "sms", "a", "delivered", 4, 4, 8, 40_000)
    assert await journal.usage("ten_1", "live", today, today) == [line]
    for _ in range(2):
        await journal.housekeep(bench.clock.now(), 30)
        assert await journal.usage("ten_1", "live", today, today) == [line]
    if bench.kind == "postgres":
        connection = await asyncpg.connect(**bench.connect)
        assert await connection.fetchval("SELECT count(*) FROM usage") == 2  # the dead ones', and this worker's
        await connection.close()
    made = message(now)
    await store(journal, accept(made), close(made, usage=[used(today)]))
    assert (await journal.usage("ten_1", "live", today, today))[0].messages == 5


# --- erasing and consent
async def test_of_an_erased_message_its_facts_are_left(journal, now):
    content = Content(text="secret", sms={"text": "short"})
    made = message(now, content=content, reference="order-17", metadata={"k": "v"})
    words = {"carrier": "c", "error": {"class": "unknown", "code": "7", "detail": "+4520123456 is off"}}
    ref = CarrierRef("c", "about:digest", 0, 1, 0)
    outbox = [OutboxEntry(2, "callback", "message.delivered", now)]
    await store(journal, accept(made), close(made, refs=[ref], outbox=outbox))
    await store(journal, Write(made.message_id, made.tenant, [event(3, now, "rejected", **words)]))
    other = message(now, to=made.to)
    await store(journal, accept(other))
    page = await journal.erasable(made.tenant, "", "msg_~", 10)
    assert [(m.message_id, is_open) for m, is_open in page] == sorted(
        [(made.message_id, False), (other.message_id, True)]
    )
    assert await journal.erase_messages("ten_nobody", [made.message_id], now) == 0
    assert await journal.erase_messages(made.tenant, [made.message_id], now) == 1
    (left,) = await journal.load([made.message_id])
    assert (left.message.to, left.message.content, left.message.metadata) == ({}, Content(), {})
    assert (left.message.reference, left.message.erased_at, left.status) == ("order-17", now, "delivered")
    assert left.events[-1].data["error"] == {"class": "unknown", "code": "7", "detail": ""}
    assert await journal.find_all_refs("c", "about:digest", 10) == []
    assert [item.message_id for item in await journal.outbox_due(made.tenant, now + DAY, 10)] == [made.message_id]
    assert [m.message_id for m, _ in await journal.erasable(made.tenant, "", "msg_~", 10)] == [other.message_id]
    (untouched,) = await journal.load([other.message_id])
    assert untouched.message == other
    assert [m.message.message_id for m in await journal.messages_to(made.to["phone"], now - DAY, 9)] == [
        other.message_id
    ]


async def test_who_wrote_is_erased_and_that_something_came_is_kept(journal, now):
    mine = Inbound("c", "sms", "+4520123456", "+4570101010", "secret", "in-1")
    for n, (tenant, inbound) in enumerate([("ten_1", mine), ("ten_2", replace(mine, carrier_message_id="in-2"))]):
        record = InboundRecord(new_inbound_id(now), tenant, inbound, now)
        assert await journal.store_inbound(record, [OutboxEntry(1, f"whk_{n}", "inbound.received", now, "secret")])
    assert await journal.erase_inbound("ten_1", "+4520123457", now + HOUR) == 0
    assert await journal.erase_inbound("ten_1", "+4520123456", now) == 0, "not before"
    assert await journal.erase_inbound("ten_1", "+4520123456", now + HOUR) == 1
    assert await journal.erase_inbound("ten_1", None, now + HOUR) == 0, "once more there is nothing to erase"
    (left,) = await journal.inbound("ten_1", 10)
    assert (left.inbound.sender, left.inbound.text, left.inbound.recipient) == ("", None, "+4570101010")
    assert [item.tenant for item in await journal.outbox_due(None, now + DAY, 10)] == ["ten_2"]
    repeated = InboundRecord(new_inbound_id(now), "ten_1", mine, now)
    assert not await journal.store_inbound(repeated), "the carrier brings it again"


async def test_an_erasure_is_open_until_it_is_done(journal, now):
    erasure = Erasure("era_1", "ten_1", "hash", "+4520123456", "operator", now)
    await journal.put_erasure(erasure)
    assert await journal.open_erasures() == [erasure] == await journal.erasures("ten_1", None, 10)
    done = replace(erasure, address=None, messages=7, after_id="msg_1", done_at=now)
    await journal.put_erasure(done)
    assert await journal.open_erasures() == []
    assert await journal.erasure("ten_1", "era_1") == done
    assert await journal.erasure("ten_2", "era_1") is None


async def test_consents_are_withdrawn_by_channel_and_category_and_outlive_their_recipient(journal, now):
    def consent(n: int, channel: str = "sms", recipient: str = "hash") -> Consent:
        proof = ("form", "192.0.2.1", None, now, now, now)
        return Consent(f"con_{n}", "ten_1", channel, "marketing", recipient, "+4520123456", *proof)

    made = [consent(1), consent(2), consent(3, "whatsapp"), consent(4, recipient="other")]
    for one in made:
        await journal.put_consent(one)
    assert await journal.consents("ten_1", None, None, 10) == made[::-1]
    assert await journal.consents("ten_1", "hash", "con_3", 10) == [made[1], made[0]]
    later = now + HOUR
    await journal.withdraw_consents(made[0], later)
    gone = {c.id for c in await journal.consents("ten_1", None, None, 10) if c.withdrawn_at == later}
    assert gone == {"con_1", "con_2"}
    assert [c.id for c in await journal.consents_changed(now, "con_3", 10)] == ["con_4", "con_1", "con_2"]
    await journal.erase_consents("ten_1", "hash", later + HOUR)
    left = {c.id: c for c in await journal.consents("ten_1", "hash", None, 10)}
    assert {(c.address, c.ip, c.source) for c in left.values()} == {(None, None, "form")}
    assert (left["con_1"].withdrawn_at, left["con_3"].withdrawn_at) == (later, later + HOUR)
    assert await journal.consent("ten_1", "con_4") == made[3]


async def test_a_nonce_is_taken_once_until_it_is_old(journal, now):
    assert await journal.take_nonce(b"a", now, now + HOUR)
    assert not await journal.take_nonce(b"a", now + HOUR / 2, now + 2 * HOUR)
    assert await journal.take_nonce(b"b", now, now + HOUR)
    assert await journal.take_nonce(b"a", now + 2 * HOUR, now + 3 * HOUR)
    await journal.housekeep(now + 2 * HOUR, 30)
    assert not await journal.take_nonce(b"a", now + 2 * HOUR, now + 3 * HOUR)
