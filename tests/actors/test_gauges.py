"""What a scrape shows of the tree: carriers, mailboxes, tenants, and what became of steps and receipts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from actors import gauges
from hermes.domain.commands import ControlCarrier, ReceiptArrived
from hermes.domain.message import Step
from hermes.domain.receipt import DeliveryReceipt
from hermes.journal.memory import MemoryJournal
from hermes.metrics import Metrics
from hermes.runtime import Actor
from tests.actors.cast import CastNode, message, mock, start_cast


@pytest.fixture
async def node() -> AsyncIterator[CastNode]:
    """SMS answers at once and reports at once; e-mail reports never."""
    started = await start_cast([mock("mock-sms", "sms", receipt_delay_ms=1), mock("mock-email", "email")])
    gauges.measure(started.context)
    yield started
    await started.stop()


def read(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """Scrape one metric: label values -> value."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if sample.name == name
    }


async def test_carrier_gauges_follow_its_state(node: CastNode) -> None:
    metrics = node.context.metrics
    assert read(metrics, "hermes_carrier_up")["mock-sms",] == 1
    actor = node.system.whereis("provider/mock-sms")
    assert actor is not None
    await actor.call(ControlCarrier("pause"))
    gauges.measure(node.context)  # a new look: the one of a moment ago is kept for the gauges of its scrape
    assert read(metrics, "hermes_carrier_up")["mock-sms",] == 0
    assert read(metrics, "hermes_carrier_up")["mock-email",] == 1
    assert read(metrics, "hermes_breaker_state")["mock-sms",] == 0
    assert read(metrics, "hermes_carrier_window")["mock-sms",] == 0
    assert read(metrics, "hermes_binds") == {}


async def test_open_breaker_is_two_and_a_held_queue_ages(node: CastNode) -> None:
    health = node.context.health["mock-email"]
    for _ in range(health.breaker.limit):
        health.breaker.failed(node.context.clock.monotonic())
    queue = node.context.queues["mock-email"]
    queue.put("ten_1", "otp", 1, object(), node.context.clock.monotonic() - 30)
    values = {
        name: read(node.context.metrics, name)["mock-email",]
        for name in ("hermes_breaker_state", "hermes_carrier_queue", "hermes_carrier_queue_age_seconds")
    }
    assert values["hermes_breaker_state"] == 2
    assert values["hermes_carrier_queue"] == 1
    assert values["hermes_carrier_queue_age_seconds"] >= 30
    while queue:
        queue.pop()


class Bound(Actor):
    """A carrier's actor that keeps binds."""

    def inspect(self) -> dict[str, Any]:
        return {"state": "degraded", "in_flight": 7, "binds": [{"state": "bound"}, {"state": "refused"}] * 2}


async def test_any_actor_that_gives_its_figures_is_measured(node: CastNode) -> None:
    plan = mock("telco", "sms")
    plan.actor = "smpp/telco/dispatcher"
    node.context.carriers = {**node.context.carriers, "telco": plan}
    node.system.spawn(Bound, name=plan.actor)
    metrics = node.context.metrics
    assert read(metrics, "hermes_carrier_up")["telco",] == 1
    assert read(metrics, "hermes_carrier_window")["telco",] == 7
    assert read(metrics, "hermes_binds") == {
        ("telco", "connecting"): 0,
        ("telco", "bound"): 2,
        ("telco", "unbinding"): 0,
        ("telco", "refused"): 2,
    }


async def test_a_carrier_whose_actor_is_gone_is_down(node: CastNode) -> None:
    node.context.carriers = {**node.context.carriers, "gone": mock("gone", "sms")}
    assert read(node.context.metrics, "hermes_carrier_up")["gone",] == 0


async def test_mailbox_depth_names_the_branches_and_their_deepest(node: CastNode) -> None:
    tenant = node.system.whereis("tenant/" + node.tenant)
    assert tenant is not None
    tenant.suspend()
    for _ in range(3):
        tenant.send(object())
    depths = read(node.context.metrics, "hermes_mailbox_depth")
    assert {("router",), ("dlr",), ("webhooks",), ("waker",), ("tenants",), ("providers/*",)} <= set(depths)
    assert depths["tenants/*",] == 3


async def test_only_the_busiest_tenants_are_shown(node: CastNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gauges, "BUSIEST_TENANTS", 2)
    directory = node.context.directory
    rates: dict[str, float] = {}
    for n in range(4):
        tenant = await directory.create_tenant(f"tenant {n}")
        rates[tenant.id] = float(n)

    class Busy:
        def __init__(self, tenant: str) -> None:
            self.tenant = tenant

        def per_s(self, now: float) -> float:
            return rates.get(self.tenant, 0.0)

    for tenant in directory.tenants():
        ref = node.system.whereis("tenant/" + tenant.id)
        assert ref is not None and ref._actor is not None
        ref._actor._throughput = Busy(tenant.id)  # type: ignore[attr-defined]
    shown = read(node.context.metrics, "hermes_tenant_accepted_per_second")
    assert sorted(shown.values()) == [2, 3]


async def test_steps_and_attempts_are_counted_to_their_end(node: CastNode) -> None:
    metrics = node.context.metrics
    made = message(
        node.tenant,
        Step("email", 0.2, "delivered"),
        Step("sms", 60.0, "delivered"),
        to={"phone": "+4520120001", "email": "silent@example.com"},
    )
    await node.submit(made)
    assert (await node.final(made.message_id)).status == "delivered"
    assert metrics.attempts.values["mock-email", "timed_out"] == 1
    assert metrics.attempts.values["mock-sms", "delivered"] == 1
    assert metrics.receipts.values["mock-sms", "matched"] == 1
    assert metrics.step_seconds.count == 2
    assert metrics.step_seconds._series.sum >= 0.2


async def test_receipts_are_told_apart(node: CastNode) -> None:
    metrics = node.context.metrics
    made = message(
        node.tenant,
        Step("email", 0.2, "delivered"),
        Step("sms", 60.0, "delivered"),
        to={"phone": "+4520120004", "email": "silent@example.com"},
    )
    await node.submit(made)
    await node.until(lambda: ("mock-sms", "submitted") in metrics.attempts.values)
    events = (await node.stored(made.message_id)).events
    ids = {e.step: e.data["carrier_message_ids"][0] for e in events if e.type == "submitted"}
    dlr = node.system.whereis("dlr")
    assert dlr is not None

    async def report(carrier: str, carrier_message_id: str, status: str) -> None:
        await dlr.call(ReceiptArrived(DeliveryReceipt(carrier, carrier_message_id, status)))

    await report("mock-email", ids[0], "undelivered")
    await report("mock-email", ids[0], "undelivered")
    await report("mock-sms", "nobody's", "delivered")
    await report("mock-sms", ids[1], "delivered")
    await node.final(made.message_id)
    assert metrics.receipts.values == {
        ("mock-email", "late"): 1,
        ("mock-email", "duplicate"): 1,
        ("mock-sms", "parked"): 1,
        ("mock-sms", "matched"): 1,
    }


class WithOrphans(MemoryJournal):
    """Drops two parked receipts when it keeps house."""

    async def housekeep(self, now: datetime, messages_days: int) -> list[str]:
        return ["mock-sms", "mock-sms"]


async def test_a_receipt_that_nobody_ever_waits_for_becomes_an_orphan() -> None:
    journal = WithOrphans()
    await journal.start()
    node = await start_cast(journal=journal)
    await node.until(lambda: node.context.metrics.receipts.values.get(("mock-sms", "orphan")) == 2)
    await node.stop()
