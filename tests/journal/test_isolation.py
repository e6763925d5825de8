"""What a query asked for one tenant can reach, proved by the database itself, and every query accounted for.

Row-level security here is a test's instrument: a role for which PostgreSQL hides every row of other tenants asks what
the journal asks. As long as the answers are equal to those without it, no query reached further than its tenant.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg
import pytest

from hermes.domain.consent import Consent
from hermes.domain.erasure import Erasure
from hermes.domain.suppression import Suppression
from hermes.domain.usage import UsageDelta
from hermes.journal.base import (
    ApiKey,
    Change,
    Endpoint,
    IdempotencyRecord,
    MessageQuery,
    OutboxEntry,
    OutboxResult,
    Policy,
    Template,
    Tenant,
)
from hermes.journal.postgres import PostgresJournal
from hermes.journal.queries import QUERIES
from tests.journal.makers import Bench, accept, close, database, message, store

BY_TENANT: Final = frozenset(
    {
        *("find_idempotent", "outbox_due", "dead_letters", "replay_dead_letter", "inbound", "usage", "tenant_by_id"),
        *("tenant_keys", "delete_key", "tenant_endpoints", "delete_endpoint", "tenant_policies", "delete_policy"),
        *("tenant_templates", "template", "delete_template"),
        *("changes", "delete_suppression", "find_suppressions", "suppressions"),
        *("consent", "consents", "consents_of", "withdraw_consents", "erase_consents"),
        *(
            "erasure",
            "erasures",
            "erasable",
            "erasable_inbound",
            "erase_answers",
        ),
    }
)
# Every other query, and why it need not name a tenant.
NOT_BY_TENANT: Final[dict[str, frozenset[str]]] = {
    "holds no tenant's data: workers, shards, batches, partitions, the operator's settings": frozenset(
        {
            *("batch_is_in", "forget_batches", "register_worker", "extend_lease", "living_workers", "declare_dead"),
            *("retire_worker", "claim_shards", "is_dead", "workers", "forget_workers", "forget_dead_batches"),
            *("announce", "release_shards", "notify"),
            *("other_secrets", "claim_carriers", "give_carrier", "carrier_leases", "tell_carrier"),
            *("partitions", "put_live_setting", "live_settings", "delete_live_setting"),
        }
    ),
    "writes rows that each carry their tenant, given by whoever accepted them": frozenset(
        {
            *("write_batch", "store_inbound", "put_tenant", "put_key", "put_endpoint", "put_policy", "put_change"),
            *("put_suppressions", "put_template", "put_erasure", "put_consent"),
        }
    ),
    "by message id: the gateway shows a message to its own tenant only (tests/gateway/test_isolation.py)": frozenset(
        {"load_messages", "load_events"}
    ),
    "by ids that a query for one tenant found": frozenset(
        {"erase_messages", "erase_events", "erase_refs", "erase_outbox", "erase_inbound"}
    ),
    "the worker's own work over all tenants; shown to nobody": frozenset(
        {
            *(
                "hot_page",
                "due_page",
                "find_refs",
                "find_all_refs",
                "park_receipt",
                "parked_receipts",
                "parked_by_id",
                "send_errands",
                "errands",
                "errands_done",
                *("hand_over", "take_handovers", "taken_handovers", "give_back_handovers", "recall_handovers"),
                *("handed_over", "handovers_done", "take_nonce"),
                "drop_parked",
                "messages_to",
                "store_part",
                "stored_parts",
            ),
            *("outbox_due_all", "outbox_tenants", "outbox_done", "outbox_undone", "keys_used"),
            *(
                "open_erasures",
                "consents_changed",
                "erase_parked",
                "tenants",
                "keys",
                "endpoints",
                "policies",
                "all_suppressions",
                "templates",
            ),
        }
    ),
    "numbers over all tenants, for the operator and metrics": frozenset({"accepted", "count_open", "outbox_pending"}),
    "conditions are written by the code, by tenant where a tenant asks (below)": frozenset(
        {"count_closed", "count_open_by_status"}
    ),
    "the operator's": frozenset({"all_changes"}),
    "housekeeping by age": frozenset(
        {
            *("open_in_range", "purge_idempotency", "purge_parked", "purge_outbox", "purge_inbound", "fold_usage"),
            *("purge_parts", "purge_errands", "purge_handovers", "purge_nonces"),
            *("purge_inbound_outbox", "erase_tenants"),
        }
    ),
}
_NAMES_ITS_TENANT = re.compile(r"(\btenant\b|\bWHERE id) (=|IS NOT DISTINCT FROM) \$\d")


def test_every_query_is_accounted_for_once() -> None:
    known = sorted([*BY_TENANT, *(name for names in NOT_BY_TENANT.values() for name in names)])
    assert known == sorted(QUERIES)


@pytest.mark.parametrize("name", sorted(BY_TENANT))
def test_a_query_for_one_tenant_names_it(name: str) -> None:
    assert _NAMES_ITS_TENANT.search(QUERIES[name]), QUERIES[name]


ONE, TWO = "ten_1", "ten_2"
HOUR = timedelta(hours=1)
SECURE = """
CREATE ROLE hermes_one NOLOGIN;
GRANT USAGE ON SCHEMA public TO hermes_one;
GRANT ALL ON ALL TABLES IN SCHEMA public TO hermes_one;
"""
OWN = """
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON {table} TO hermes_one USING ({column} = 'ten_1');
"""
OF_OWN_MESSAGE = """
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON {table} TO hermes_one
    USING (EXISTS (SELECT FROM message AS m WHERE m.message_id = {table}.message_id));
"""
BY_MESSAGE: Final = ("event", "closed_message", "open_message", "carrier_ref")


async def fill(bench: Bench, journal: Any, tenant: str) -> None:
    """One of everything, the same for each tenant but for its name."""
    now = bench.clock.now()
    n = tenant[-1]
    change = Change(now, "operator", tenant, "tenant.created", tenant, None, {"name": tenant})
    await journal.put_tenant(Tenant(tenant, "Same", "active", now, "whsec_" + n), change)
    await journal.put_key(ApiKey(f"key_{n}", tenant, n.encode(), "p", "live", (), now))
    await journal.put_endpoint(Endpoint(f"whk_{n}", tenant, "https://x.example", (), "whsec_" + n, now))
    await journal.put_policy(Policy(tenant, "otp", "{}", now, now))
    await journal.put_template(Template(tenant, "welcome", f"tpl_{n}", 1, tenant, now))
    await journal.put_suppressions([Suppression(f"sup_{n}", tenant, "sms", "+4520123456", "manual", now)])
    await journal.put_erasure(Erasure(f"era_{n}", tenant, "hash", "+4520123456", "operator", now))
    proof = ("form", None, None, now, now, now)
    await journal.put_consent(Consent(f"con_{n}", tenant, "sms", "marketing", "hash", "+4520123456", *proof))
    used = UsageDelta("live", now.date(), "sms", "a", "delivered", 1, 1, 1, 1)
    for k, reference in enumerate(("order-1", "order-2")):
        made = message(now, tenant=tenant, reference=reference)
        outbox = [OutboxEntry(1, f"whk_{n}", "t", now), OutboxEntry(1, "callback", "t", now)]
        record = IdempotencyRecord(f"same-{k}", b"hash", tenant)
        await store(journal, accept(made, outbox=outbox, idempotency=record))
        await journal.outbox_results([OutboxResult(made.message_id, 1, f"whk_{n}", "dead", attempts=9)])
        if k:
            await store(journal, close(made, usage=[used]))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with database() as connect:
        made = Bench("postgres", connect)
        yield made
        await made.end()


@pytest.fixture
async def journal(bench: Bench) -> Any:
    made = await bench.worker()
    for tenant in (ONE, TWO):
        await fill(bench, made, tenant)
    return made


@pytest.fixture
async def secured(bench: Bench, journal: Any) -> AsyncIterator[PostgresJournal]:
    """A journal for which every row of another tenant than `ONE` does not exist."""
    connect = bench.connect or {}
    owner = await asyncpg.connect(**connect)
    role = f"hermes_one_{connect['database']}"
    await owner.execute(SECURE.replace("hermes_one", role))
    tables = await owner.fetch(
        "SELECT DISTINCT c.table_name FROM information_schema.columns AS c "
        "JOIN pg_class AS p ON p.relname = c.table_name "
        "WHERE c.table_schema = 'public' AND c.column_name = 'tenant' AND NOT p.relispartition"
    )
    for (table,) in tables:
        await owner.execute(OWN.format(table=table, column="tenant").replace("hermes_one", role))
    await owner.execute(OWN.format(table="tenant", column="id").replace("hermes_one", role))
    for table in BY_MESSAGE:
        await owner.execute(OF_OWN_MESSAGE.format(table=table).replace("hermes_one", role))
    settings = {**dict(bench.connect or {}).get("server_settings", {}), "role": role}
    one = PostgresJournal(
        {**(bench.connect or {}), "server_settings": settings}, worker_id="secured", clock=bench.clock
    )
    one._shards = journal._shards
    await one._link.start()
    yield one
    await one._link.close()
    await owner.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    await owner.close()


READS: Final[dict[str, Callable[[Any, datetime], Any]]] = {
    "list": lambda j, now: j.list_messages(MessageQuery(tenant=ONE)),
    "list by status": lambda j, now: j.list_messages(MessageQuery(tenant=ONE, statuses=["open", "delivered"])),
    "list by reference": lambda j, now: j.list_messages(MessageQuery(tenant=ONE, reference="order-1")),
    "list by prefix": lambda j, now: j.list_messages(MessageQuery(tenant=ONE, reference_prefix="order", mode="live")),
    "list by time": lambda j, now: j.list_messages(MessageQuery(tenant=ONE, created_after=now - HOUR)),
    "counts": lambda j, now: j.count_messages(ONE, None, None, None),
    "counts of a mode": lambda j, now: j.count_messages(
        ONE, "live", now - timedelta(hours=1), now + timedelta(hours=1)
    ),
    "idempotency": lambda j, now: j.find_idempotent(ONE, "same-0"),
    "dead letters": lambda j, now: j.dead_letters(ONE, None, 10),
    "deliveries": lambda j, now: j.outbox_due(ONE, now + HOUR, 10),
    "tenant": lambda j, now: j.tenant_rows(ONE),
    "audit log": lambda j, now: j.changes(ONE, None, 10),
    "suppressions": lambda j, now: j.suppressions(ONE, None, 10),
    "suppressions of a recipient": lambda j, now: j.find_suppressions(ONE, "+4520123456"),
    "template": lambda j, now: j.template(ONE, "welcome", 1),
    "consents": lambda j, now: j.consents(ONE, None, None, 10),
    "consents of a recipient": lambda j, now: j.consents(ONE, "hash", None, 10),
    "a consent": lambda j, now: j.consent(ONE, "con_1"),
    "erasures": lambda j, now: j.erasures(ONE, None, 10),
    "an erasure": lambda j, now: j.erasure(ONE, "era_1"),
    "erasable": lambda j, now: j.erasable(ONE, "", "msg_~", 10),
    "usage": lambda j, now: j.usage(ONE, "live", now.date(), now.date()),
}


@pytest.mark.parametrize("name", READS)
async def test_what_is_read_for_a_tenant_is_what_the_database_would_let_it_see(
    bench: Bench, journal: Any, secured: PostgresJournal, name: str
) -> None:
    read = READS[name]
    open_, hidden = await read(journal, bench.clock.now()), await read(secured, bench.clock.now())
    assert open_, "this proves nothing without rows"
    assert open_ == hidden


async def test_the_role_sees_one_tenant_only(bench: Bench, journal: Any, secured: PostgresJournal) -> None:
    """Or the test above would compare one unlimited view with another."""
    assert len(await journal.list_messages(MessageQuery())) == 4
    assert {stored.message.tenant for stored in await secured.list_messages(MessageQuery())} == {ONE}
    assert [tenant.id for tenant in await secured.tenants()] == [ONE]
    assert {key.tenant for key in await secured.keys()} == {ONE}
    assert {change.tenant for change in await secured.changes(None, None, 10)} == {ONE}
    theirs = (await journal.list_messages(MessageQuery(tenant=TWO)))[0].message.message_id
    assert await secured.load([theirs]) == [] != await journal.load([theirs])


async def test_what_is_changed_for_a_tenant_does_not_touch_another(bench: Bench, journal: Any) -> None:
    connection = await asyncpg.connect(**(bench.connect or {}))

    async def theirs() -> list[Any]:
        """Every row of the other tenant, whatever table it is in."""
        tables = await connection.fetch(
            "SELECT DISTINCT table_name FROM information_schema.columns "
            "WHERE table_schema = 'public' AND column_name = 'tenant' ORDER BY 1"
        )
        rows = [
            (table, row)
            for (table,) in tables
            for row in await connection.fetch(f"SELECT * FROM {table} WHERE tenant = 'ten_2' ORDER BY 1, 2, 3")
        ]
        return [*rows, *await connection.fetch("SELECT * FROM tenant WHERE id = 'ten_2'")]

    before = await theirs()
    letter = (await journal.dead_letters(TWO, None, 10))[0].id
    now = bench.clock.now()
    assert not await journal.replay_dead_letter(ONE, letter, now)
    assert not await journal.delete_key(ONE, "key_2")
    assert not await journal.delete_endpoint(ONE, "whk_2")
    assert await journal.delete_suppression(ONE, "sup_2") is None
    assert await journal.delete_policy(ONE, "otp")  # its own, of the same name
    assert await journal.delete_template(ONE, "welcome")
    await journal.put_template(Template(ONE, "welcome", "tpl_3", 60, "", now))  # forgets versions up to 10
    await journal.put_policy(Policy(ONE, "otp", '{"changed": true}', now, now))
    # An id that is another tenant's cannot be taken over.
    await journal.put_key(ApiKey("key_2", ONE, b"mine", "p", "live", (), now))
    await journal.put_endpoint(Endpoint("whk_2", ONE, "https://mine.example", (), "whsec_mine", now))
    assert await journal.erasure(ONE, "era_2") is None
    assert await journal.consent(ONE, "con_2") is None
    mine = await journal.consent(ONE, "con_1")
    await journal.withdraw_consents(mine, now)
    await journal.erase_consents(ONE, "hash", now)
    messages = [stored.message.message_id for stored in await journal.list_messages(MessageQuery(tenant=TWO))]
    assert await journal.erase_messages(ONE, messages, now) == 0
    assert await theirs() == before and len(before) > 8
    await connection.close()
