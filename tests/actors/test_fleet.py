"""Carriers that come, change and go while messages are under way."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from actors.context import CarrierPlan
from actors.messages import UseCarrier
from carriers.base import SendResult
from hermes.domain.commands import SettingRefused
from hermes.domain.view import public_message
from hermes.journal.base import JournalAway
from tests.actors.cast import CastNode, message, mock, start_cast
from tests.actors.test_cast import Scripted, plan, types

NEW = {"name": "new", "kind": "mock", "channel": "sms", "receipt_delay_ms": 20, "secret": "canary-secret"}


def was_asked(carrier: Scripted, message_id: str) -> bool:
    return any(submission.message_id == message_id for submission in carrier.asked)


async def use(node: CastNode, plan_: CarrierPlan) -> None:
    """Have the actor of this name serve another plan, as a change does."""
    ref = node.system.whereis("provider/" + plan_.carrier.name)
    assert ref is not None
    await ref.call(UseCarrier(plan_))


async def test_an_added_carrier_serves_at_once_and_is_in_the_tree() -> None:
    node = await start_cast([mock("mail", "email")])
    assert await node.fleet.add(NEW) == "new"
    m = message(node.tenant)
    assert await node.submit(m) == "accepted"
    stored = await node.final(m.message_id)
    assert (stored.status, stored.events[1].data["carrier"]) == ("delivered", "new")
    assert node.system.info("provider/new").detail["state"] == "up"
    await node.stop()


async def test_what_was_added_comes_back_after_a_crash_and_its_secret_is_sealed() -> None:
    node = await start_cast([mock("mail", "email")])
    await node.fleet.add(NEW)
    await node.fleet.add({**NEW, "name": "second", "cost": 0.5})
    await node.fleet.change("new", {"cost": 0.25})
    rows = await node.journal.live_settings()
    assert [row.name for row in rows] == ["new", "second"]
    assert "canary-secret" not in repr(rows)
    again = await start_cast([mock("mail", "email")], node.journal, sealer=node.fleet._sealer)
    assert [(n, p.carrier.cost) for n, p in again.fleet.plans.items()][2:] == [("new", 0.25), ("second", 0.5)]
    assert again.fleet.secret("new") == "canary-secret"
    await again.stop()
    await node.stop()


async def test_without_the_key_a_stored_carrier_is_off_and_can_be_set_anew() -> None:
    node = await start_cast([mock("mail", "email")])
    await node.fleet.add(NEW)
    again = await start_cast([mock("mail", "email")], node.journal)
    (_, listed) = again.fleet.listed()
    assert listed.name == "new" and listed.off is not None and "key file" in listed.off
    assert "new" not in again.fleet.plans
    await again.fleet.change("new", NEW)
    assert again.fleet.listed()[1].off is None and "new" in again.fleet.plans
    await again.stop()
    await node.stop()


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        ({}, "name"),
        ({**NEW, "name": "mail"}, "name"),
        ({**NEW, "name": "Not Good"}, "name"),
        ({**NEW, "name": "sandbox"}, "name"),
        ({**NEW, "kind": "pigeon"}, "kind"),
        ({**NEW, "channel": "fax"}, "channel"),
        ({**NEW, "kind": "smtp"}, "channel"),
        ({"name": "m", "kind": "smtp", "channel": "email"}, "host"),
        ({**NEW, "weight": -1}, "weight"),
        ({**NEW, "success_rate": 2}, "success_rate"),
        ({**NEW, "speed": 1}, "speed"),
        ({**NEW, "secret": "env:HOME"}, "secret"),
        ({**NEW, "secret": "file:/etc/passwd"}, "secret"),
        ({**NEW, "options": {"secret": "x"}}, "options"),
        ({**NEW, "tenant": "ten_nobody"}, "tenant"),
    ],
)
async def test_a_wrong_setting_is_refused_by_its_key_and_changes_nothing(entry: dict[str, Any], key: str) -> None:
    node = await start_cast([mock("mail", "email")])
    with pytest.raises(SettingRefused) as refused:
        await node.fleet.add(entry)
    assert refused.value.key == key
    assert "canary" not in str(refused.value)
    assert [c.name for c in node.fleet.listed()] == ["mail"]
    assert await node.journal.live_settings() == []
    await node.stop()


async def test_the_files_carriers_are_not_changed_here() -> None:
    node = await start_cast([mock("mail", "email")])
    for change in (node.fleet.change("mail", {"cost": 1}), node.fleet.remove("mail")):
        with pytest.raises(SettingRefused, match="settings file"):
            await change
    for unknown in (node.fleet.change("nobody", {}), node.fleet.remove("sandbox")):
        with pytest.raises(KeyError):
            await unknown
    await node.stop()


async def test_while_the_database_is_away_nothing_changes() -> None:
    node = await start_cast([mock("mail", "email")])
    await node.fleet.add(NEW)
    node.journal.set_available(False)  # type: ignore[attr-defined]
    for change in (
        node.fleet.add({**NEW, "name": "other"}),
        node.fleet.change("new", {"cost": 9}),
        node.fleet.remove("new"),
    ):
        with pytest.raises(JournalAway):
            await change
    assert [c.name for c in node.fleet.listed()] == ["mail", "new"]
    assert node.fleet.plans["new"].carrier.cost == 0
    assert [c.name for c in node.context.routes.carriers] == ["mail", "new"]
    node.journal.set_available(True)  # type: ignore[attr-defined]
    await node.until(lambda: node.system.whereis("provider/other") is None)
    await node.stop()


async def test_a_call_under_way_ends_by_the_former_settings_and_what_waits_goes_by_the_new() -> None:
    former, later = Scripted("sms"), Scripted("sms")
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    former.answers = [answer]
    node = await start_cast([plan(former, max_in_flight=1)])
    first, second = message(node.tenant), message(node.tenant)
    await node.submit(first)
    await node.until(lambda: former.asked)
    await node.submit(second)
    await node.until(lambda: len(node.context.queues["sms"]) == 1)
    await use(node, plan(later))
    await node.until(lambda: later.asked)
    assert later.asked[0].message_id == second.message_id
    answer.set_result(SendResult(("late",)))
    later.report(f"{second.message_id}-0-1", "delivered")
    assert types(await node.final(second.message_id)) == ["accepted", "submitted", "delivered"]
    former.report("late", "delivered")
    assert types(await node.final(first.message_id)) == ["accepted", "submitted", "delivered"]
    assert len(former.asked) == len(later.asked) == 1
    await node.stop()


async def test_a_removed_carrier_ends_its_calls_gives_back_what_waits_and_still_takes_receipts() -> None:
    node = await start_cast([mock("mail", "email")])
    first, other = Scripted("first"), Scripted("other")
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    first.answers = [answer]
    await node.fleet.add({**NEW, "name": "first", "weight": 2})
    await node.fleet.add({**NEW, "name": "other"})
    for carrier in (first, other):
        swapped = plan(carrier, max_in_flight=1)
        node.fleet.plans[carrier.name] = swapped
        await use(node, swapped)
    called, waiting = message(node.tenant), message(node.tenant)
    await node.submit(called)
    await node.until(lambda: first.asked)
    await node.submit(waiting)
    await node.until(lambda: len(node.context.queues["first"]) == 1)
    await node.fleet.remove("first")
    await node.until(lambda: other.asked)
    assert other.asked[0].message_id == waiting.message_id
    assert node.system.whereis("provider/first") is not None  # the call is under way
    answer.set_result(SendResult(("taken",)))
    await node.until(lambda: node.system.whereis("provider/first") is None)
    first.report("taken", "delivered")
    assert (await node.final(called.message_id)).status == "delivered"
    assert "first" not in node.context.health
    await node.stop()


async def test_receipts_that_a_mock_holds_survive_its_change_and_its_removal() -> None:
    node = await start_cast([mock("mail", "email")])
    slow = {**NEW, "receipt_delay_ms": 300}
    await node.fleet.add(slow)
    first, second = message(node.tenant), message(node.tenant)
    await node.submit(first)
    await node.until(lambda: node.system.info("provider/new").detail["taken"] == 1)
    await node.fleet.change("new", {"receipt_delay_ms": 400})
    await node.submit(second)
    await node.until(lambda: node.system.info("provider/new").detail["taken"] == 1)
    await node.fleet.remove("new")
    for m in (first, second):
        assert types(await node.final(m.message_id)) == ["accepted", "submitted", "delivered"]
    await node.stop()


async def test_a_changed_carrier_still_knows_its_webhook() -> None:
    node = await start_cast([mock("mail", "email")], public_url="https://hermes.example")
    await node.fleet.add(NEW)
    first = node.context.carriers["new"].carrier
    await node.fleet.change("new", {**NEW, "cost": 0.5})
    second = node.context.carriers["new"].carrier
    assert second is not first
    assert first.callback_url == second.callback_url == "https://hermes.example/v1/webhooks/new"
    await node.stop()


async def test_a_carrier_may_come_back_under_its_name() -> None:
    node = await start_cast([mock("mail", "email")])
    for _ in range(3):
        await node.fleet.add(NEW)
        m = message(node.tenant)
        await node.submit(m)
        assert (await node.final(m.message_id)).status == "delivered"
        await node.fleet.remove("new")
    await node.until(lambda: node.system.whereis("provider/new") is None)
    await node.fleet.add(NEW)
    m = message(node.tenant)
    await node.submit(m)
    assert (await node.final(m.message_id)).status == "delivered"
    await node.stop()


async def test_new_credentials_lift_a_stop_made_by_a_refused_login() -> None:
    node = await start_cast([mock("mail", "email")])
    await node.fleet.add(NEW)
    node.context.health["new"].stopped = "provider_auth 401"
    await node.fleet.change("new", {"secret": "better"})
    assert node.system.info("provider/new").detail["state"] == "up"
    await node.stop()


async def test_a_carrier_that_is_not_enabled_is_listed_and_not_asked() -> None:
    node = await start_cast([mock("mail", "email"), mock("sms", "sms")])
    await node.fleet.add({**NEW, "enabled": False})
    assert node.fleet.listed()[-1].off == "enabled = false"
    assert "new" not in [c.name for c in node.context.routes.carriers]
    await node.fleet.change("new", {"enabled": True})
    assert node.fleet.listed()[-1].off is None
    assert "new" in [c.name for c in node.context.routes.carriers]
    await node.fleet.change("new", {"enabled": False})
    await node.until(lambda: node.system.whereis("provider/new") is None)
    assert "new" not in [c.name for c in node.context.routes.carriers]
    await node.stop()


async def test_a_tenants_own_live_carrier_is_asked_first_and_by_nobody_else() -> None:
    node = await start_cast([mock("shared", "sms")])
    await node.fleet.add({**NEW, "name": "own", "tenant": node.tenant})
    await node.fleet.add({**NEW, "name": "more"})
    other = await node.context.directory.create_tenant("other")
    asked = [c.carrier for c in node.context.routes.candidates(message(node.tenant), 0)]
    assert asked == ["own", "shared", "more"]
    assert [c.carrier for c in node.context.routes.candidates(message(other.id), 0)] == ["shared", "more"]
    await node.stop()


async def test_live_routes_and_rates_come_back_after_a_crash() -> None:
    node = await start_cast([mock("mail", "email")])
    await node.fleet.add({**NEW, "rates": "mcc,price\n238,0.01"})
    await node.fleet.set_routes([{"channel": "sms", "carriers": ["new"], "strategy": "quality"}])
    again = await start_cast([mock("mail", "email")], node.journal, sealer=node.fleet._sealer)
    assert [r.strategy for r in again.context.routes.routes] == ["quality"]
    assert again.context.routes.price("new", message(again.tenant), "sms") == 0.01
    await again.stop()
    await node.stop()


async def test_a_carrier_that_stops_reporting_is_set_aside_and_its_receipts_judge_it() -> None:
    quiet, other = Scripted("quiet"), Scripted("other")
    node = await start_cast([plan(quiet), plan(other)])
    quality = node.context.quality["quiet"]
    for _ in range(20):  # two minutes ago it took twenty messages, and nothing came of them
        quality.taken(node.context.clock.monotonic() - 120.0)
    first = message(node.tenant)
    await node.submit(first)
    await node.until(lambda: quiet.asked)
    quiet.report(f"{first.message_id}-0-1", "delivered")
    await node.final(first.message_id)
    assert quality.ratio(node.context.clock.monotonic()) > 0.9
    await node.submit(message(node.tenant))
    await node.until(lambda: node.context.health["quiet"].state(node.context.clock.monotonic()) == "down")
    assert node.context.health["quiet"].reason(0.0) == "its receipts stopped coming"
    last = message(node.tenant)
    await node.submit(last)
    await node.until(lambda: other.asked)
    assert (await node.stored(last.message_id)).events[0].data["next"]["why"] == {
        "skipped": {"quiet": "down: its receipts stopped coming"}
    }
    await node.stop()


async def test_an_undelivered_receipt_lowers_the_quality_unless_the_recipient_is_to_blame() -> None:
    carrier = Scripted("one")
    node = await start_cast([plan(carrier)])
    now = node.context.clock.monotonic
    for error_class, lowers in (("invalid_destination", False), ("unreachable_handset", True)):
        before = node.context.quality["one"].ratio(now())
        m = message(node.tenant)
        await node.submit(m)
        await node.until(partial(was_asked, carrier, m.message_id))
        carrier.report(f"{m.message_id}-0-1", "undelivered", error_class=error_class)
        await node.final(m.message_id)
        assert (node.context.quality["one"].ratio(now()) < before) is lowers
    await node.stop()


async def test_what_a_message_cost_is_what_the_carrier_says_else_the_price_in_events_and_usage() -> None:
    told, priced = Scripted("told"), Scripted("priced", "email")
    priced.cost = 0.01
    told.cost = 0.5
    node = await start_cast([plan(told), plan(priced)])
    m = message(node.tenant, "email", "sms", segments=2)
    await node.submit(m)
    await node.until(lambda: priced.asked)
    priced.report(f"{m.message_id}-0-1", "undelivered")
    await node.until(lambda: told.asked)
    told.report(f"{m.message_id}-1-1", "delivered", cost=0.07)
    stored = await node.final(m.message_id)
    assert stored.events[-1].data["receipt"]["cost"] == 0.07
    shown = public_message(m, stored.events)
    assert shown["cost"] == 0.08
    assert [a["cost"] for a in shown["attempts"]] == [0.01, 0.07]
    day = m.created_at.date()
    usage = await node.journal.usage(node.tenant, "live", day, day)
    assert {line.carrier: line.cost_micros for line in usage} == {"priced": 10_000, "told": 70_000}
    await node.stop()
