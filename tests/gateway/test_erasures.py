"""Erasing a recipient: nothing in the database, the log or memory tells any more whom it went to or what it said."""

from __future__ import annotations

import gc
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from actors.erasure import RETENTION_EVERY_S
from hermes.domain.commands import ReceiptArrived
from hermes.domain.inbound import Inbound, InboundReceived, PartKey
from hermes.domain.message import Message
from hermes.domain.receipt import DeliveryReceipt
from hermes.journal.base import OutboxEntry, OutboxResult, Write
from hermes.journal.postgres import PostgresJournal
from hermes.runtime import SystemClock
from hermes.testing.clock import ManualClock
from tests.gateway.api import OPERATOR, Api, start_api, stop_api
from tests.journal.makers import database

PHONE, EMAIL, TEXT = "+4520770001", "Zq-Anna@example.com", "zqsecret words"
MARKS = ("20770001", "zq-anna", "zqsecret", "zqmeta")
ALL_TABLES = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
WITH_TEXT = 'SELECT t::text FROM "{}" AS t WHERE strpos(lower(t::text), $1) > 0'
TO = {"phone": PHONE, "email": EMAIL}
CONTENT = {"text": TEXT, "subject": TEXT, "sms": {"text": f"{TEXT} short"}}


@pytest.fixture
async def connect() -> AsyncIterator[dict[str, Any]]:
    async with database() as made:
        yield made


@pytest.fixture
async def api(connect: dict[str, Any]) -> AsyncIterator[Api]:
    journal = PostgresJournal(connect, worker_id="w1", clock=SystemClock())
    await journal.start()
    made = await start_api(journal=journal, server={"allow_private_callbacks": True})
    yield made
    await stop_api(made)
    await journal.stop()


async def rows_with(connect: dict[str, Any], marks: tuple[str, ...]) -> list[str]:
    """Find every row of every table that holds one of the texts, whatever its case."""
    connection = await asyncpg.connect(**connect)
    try:
        tables = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        found = []
        for (table,) in tables:
            for mark in marks:
                rows = await connection.fetch(
                    f'SELECT t::text FROM "{table}" AS t WHERE strpos(lower(t::text), $1) > 0', mark
                )
                found += [f"{table}: {row[0]}" for row in rows]
        return found
    finally:
        await connection.close()


async def erase(api: Api, address: str, **more: Any) -> dict[str, Any]:
    path = f"/v1/tenants/{api.node.tenant}/erasures"
    asked = await api.call("POST", path, {"address": address, **more})
    assert (asked.status, asked.headers["Location"]) == (202, f"{path}/{asked.json['id']}"), asked.raw

    async def done() -> Any:
        shown = (await api.call("GET", f"{path}/{asked.json['id']}")).json
        return shown if shown["status"] == "done" else None

    shown: dict[str, Any] = await api.node.until(done, 30.0)
    return shown


async def shown(api: Api, message_id: str, key: str = "live") -> dict[str, Any]:
    found: dict[str, Any] = (await api.call("GET", f"/v1/messages/{message_id}", key=key)).json
    return found


async def usage(api: Api) -> Any:
    return (await api.call("GET", f"/v1/tenants/{api.node.tenant}/usage")).json["data"]


async def written(api: Api, text: str) -> None:
    """Let the recipient write to the tenant's number."""
    inbound = Inbound("mock-sms", "sms", PHONE, "+4570101010", text, f"in-{text[:5]}")
    mo = api.node.system.whereis("mo")
    assert mo is not None
    parts = PartKey("mock-sms", PHONE.removeprefix("+"), "4570101010", 7, 2)
    assert await mo.call(InboundReceived(inbound, parts=parts), timeout_s=10) == "stored"


async def test_nothing_tells_whom_it_went_to_or_what_it_said(
    api: Api, connect: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tenant = f"/v1/tenants/{api.node.tenant}"
    await api.call("PUT", tenant, {"numbers": ["+4570101010"]}, key=OPERATOR)
    events = ["inbound.received", "message.delivered", "message.cancelled"]
    endpoint = (await api.call("POST", tenant + "/webhooks", {"url": "http://127.0.0.1:1/gone", "events": events})).json
    body = {"to": TO, "cascade": ["email", "sms"], "content": CONTENT, "metadata": {"k": "zqmeta"}}
    delivered = await api.sent({**body, "reference": "order-17"}, Idempotency_Key="same")
    by_name = await api.sent({**body, "reference": f"for {PHONE}"}, Idempotency_Key=f"once {PHONE}")
    silent = await api.sent({**body, "cascade": ["sms"], "to": {"phone": "+4520770004"}})
    waiting = await api.sent(
        {**body, "to": {"email": EMAIL.lower()}, "cascade": ["email"], "send_at": "2027-01-01T00:00:00Z"}
    )
    tested = await api.sent(body, key="test")
    for message_id in (delivered, by_name, tested):
        await api.node.final(message_id)
    await written(api, f"{TEXT} in answer")
    # A carrier's words, a dead webhook's, and a digest that a doubtful attempt is found by.
    now = api.node.context.clock.now()
    journal: Any = api.node.journal
    outbox = [OutboxEntry(40, endpoint["id"], "message.failed", now + timedelta(days=1))]
    journal.append(Write(delivered, api.node.tenant, [], outbox=outbox))
    await api.node.until(lambda: not journal.queued)
    await journal.outbox_results([OutboxResult(delivered, 40, endpoint["id"], "dead", 9, error=f"no {PHONE} here")])
    connection = await asyncpg.connect(**connect)
    await connection.execute(
        "UPDATE event SET data = (data::jsonb || $2::text::jsonb)::text WHERE message_id = $1 AND type = 'submitted'",
        delivered,
        '{"error": {"class": "x", "code": "7", "detail": "to +4520770001"}}',
    )
    await connection.execute("INSERT INTO carrier_ref VALUES ('about:123', 'mock-sms', now(), $1, 0, 1, 0)", delivered)
    assert await rows_with(connect, MARKS)
    before, used = await shown(api, delivered), await usage(api)

    first = await erase(api, PHONE)
    second = await erase(api, EMAIL.upper(), channel="email")

    assert (first["messages"], first["inbound"], second["messages"]) == (3, 1, 1)
    left = {**await shown(api, delivered), "updated_at": None}
    for changed in ("to", "metadata", "events", "updated_at", "attempts"):
        before[changed], left[changed] = None, left[changed]
    assert (left.pop("to"), left.pop("metadata")) == ({}, {})
    assert left["reference"] == "order-17" and left["status"] == "delivered" and left["attempts"][0]["cost"] == 0.01
    assert (await shown(api, by_name))["reference"] is None
    assert (await shown(api, waiting))["status"] == "cancelled"
    assert [line for line in await usage(api) if line["status"] != "cancelled"] == used
    hashed = await connection.fetchval("SELECT count(*) FROM message WHERE recipient IS NOT NULL")
    assert hashed == 1, "the other recipient's"
    assert await connection.fetchval("SELECT count(*) FROM carrier_ref WHERE ref LIKE 'about:%'") == 0
    await connection.close()
    assert (await shown(api, silent))["to"] == {"phone": "+4520770004"}
    # The other recipient's message says the same words: it goes too, so that the rest can be searched for them.
    await erase(api, "+45 20 77 00 04")
    assert await rows_with(connect, MARKS) == []
    assert not [line for line in caplog.text.lower().splitlines() if any(mark in line for mark in MARKS)]
    repeated = await api.send({**body, "reference": "order-17"}, Idempotency_Key="same")
    assert (repeated.status, repeated.json["id"]) == (202, delivered), "a repeat is not sent again"


async def test_an_open_message_is_cancelled_and_leaves_no_trace_in_memory(api: Api) -> None:
    message_id = await api.sent({"channel": "sms", "to": "+4520880004", "content": {"text": "zqunique text"}})
    await api.node.until(lambda: api.node.system.whereis(f"cascade/{message_id}"))
    await erase(api, "+4520880004")
    assert (await shown(api, message_id))["status"] == "cancelled"

    def forgotten() -> bool:
        gc.collect()
        held = [m for m in gc.get_objects() if type(m) is Message and m.message_id == message_id]
        return all(not m.to and m.content.text is None for m in held)

    await api.sent()  # the journal's writer holds its newest batch until the next
    await api.node.until(forgotten)


async def test_a_late_receipt_of_an_erased_message_still_counts_but_its_words_do_not(
    api: Api, connect: dict[str, Any]
) -> None:
    message_id = await api.sent({"channel": "sms", "to": "+4520880004", "content": {"text": "Hi"}})

    async def submitted() -> Any:
        attempts = (await shown(api, message_id))["attempts"]
        return attempts[0]["carrier_message_ids"] if attempts and attempts[0]["status"] == "submitted" else None

    (known_as,) = await api.node.until(submitted)
    await erase(api, "+4520880004")

    dlr = api.node.system.whereis("dlr")
    assert dlr is not None
    said = ("undelivered", "invalid_destination", "7", "+4520880004 is off")
    receipt = DeliveryReceipt("mock-sms", known_as, *said)
    assert await dlr.call(ReceiptArrived(receipt), timeout_s=10) == "matched"
    left = await shown(api, message_id)
    assert (left["status"], left["attempts"][0]["status"]) == ("cancelled", "undelivered")
    assert await rows_with(connect, ("20880004",)) == []


async def test_the_same_recipient_of_another_tenant_is_not_touched(api: Api) -> None:
    other = (await api.call("POST", "/v1/tenants", {"name": "other"}, key=OPERATOR)).json["id"]
    key = await api.new_key(tenant=other)
    theirs = await api.sent({"channel": "sms", "to": PHONE, "content": {"text": "Hi"}}, key=key)
    await api.node.final(theirs)
    done = await erase(api, PHONE)
    assert done["messages"] == 0
    assert (await shown(api, theirs, key))["to"] == {"phone": PHONE}


async def test_what_was_begun_is_finished_after_a_restart(connect: dict[str, Any]) -> None:
    """The node dies right after the 202."""
    journal = PostgresJournal(connect, worker_id="w1", clock=SystemClock())
    await journal.start()
    api = await start_api(journal=journal)
    ids = [await api.sent({"channel": "sms", "to": PHONE, "content": {"text": TEXT}}) for _ in range(3)]
    for message_id in ids:
        await api.node.final(message_id)
    erasures = api.node.system.whereis("erasures")
    assert erasures is not None
    erasures.suspend()
    asked = await api.call("POST", f"/v1/tenants/{api.node.tenant}/erasures", {"address": PHONE})
    assert asked.json["status"] == "running"
    tenant = api.node.tenant
    await stop_api(api)
    await journal.stop()
    again = PostgresJournal(connect, worker_id="w2", clock=SystemClock())
    await again.start()
    api = await start_api(journal=again)
    try:

        async def done() -> bool:
            found = await again.erasure(tenant, asked.json["id"])
            return found is not None and found.done_at is not None

        await api.node.until(done, 30.0)
        assert await rows_with(connect, ("20770001", "zqsecret")) == []
    finally:
        await stop_api(api)
        await again.stop()


async def test_the_audit_log_says_that_it_was_done_and_not_to_whom(api: Api) -> None:
    one, two = await erase(api, PHONE), await erase(api, "+45 2077-0001")
    assert one["recipient"] == two["recipient"]
    log = (await api.call("GET", f"/v1/tenants/{api.node.tenant}/audit")).json["data"]
    entries = [change for change in log if change["action"] == "recipient.erased"]
    assert [change["target"] for change in entries] == [one["recipient"]] * 2
    assert "20770001" not in str(log)


async def test_who_is_no_recipient_cannot_be_erased(api: Api) -> None:
    path = f"/v1/tenants/{api.node.tenant}/erasures"
    for wrong in ({"address": "x y"}, {"address": "12", "channel": "sms"}, {"address": ""}, {}, {"address": "a\0b"}):
        answer = await api.call("POST", path, wrong)
        assert (answer.status, answer.fields) == (422, ["address"]), answer.raw
    assert (await api.call("GET", path + "/era_x")).status == 404


async def test_content_is_kept_as_long_as_the_tenant_says_and_facts_longer() -> None:
    clock = ManualClock()
    api = await start_api(clock=clock, linger_s=1.0)
    try:
        tenant = f"/v1/tenants/{api.node.tenant}"
        changed = await api.call("PUT", tenant, {"retention": {"content_days": 2}}, key=OPERATOR)
        assert changed.json["retention"] == {"content_days": 2}

        async def ended(message_id: str) -> bool:
            clock.advance(0.1)
            return (await api.node.stored(message_id)).status is not None

        old = await api.sent({"channel": "sms", "to": "+4520880001", "content": {"text": "old"}})
        await api.node.until(lambda: ended(old))
        still_open = await api.sent(
            {"channel": "sms", "to": "+4520880001", "content": {"text": "x"}, "send_at": "2026-03-01T00:00:00Z"}
        )
        clock.advance(86_400 * 1.5)
        new = await api.sent({"channel": "sms", "to": "+4520880001", "content": {"text": "new"}})
        await api.node.until(lambda: ended(new))
        clock.advance(86_400 * 1)

        async def gone() -> bool:
            clock.advance(RETENTION_EVERY_S / 4)
            return not (await api.node.stored(old)).message.to

        await api.node.until(gone)
        left = (await api.node.stored(old)).message
        assert left.content.text is None and (await shown(api, old))["status"] == "delivered"
        assert (await api.node.stored(new)).message.content.text == "new"
        assert (await api.node.stored(still_open)).message.content.text == "x"
    finally:
        await stop_api(api)
