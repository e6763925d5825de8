"""What goes wrong is seen: in the tree, on the overview the console shows, in the metrics, and by an alert that fires.

Each test causes one thing on a node, scrapes it, and lets promtool judge the alert rules over what was scraped.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from actors import gauges
from tests.actors.cast import mock
from tests.gateway.api import OPERATOR, Api

Start = Callable[..., Awaitable[Api]]
Sample = tuple[str, tuple[tuple[str, str], ...]]
RULES = Path(__file__).parents[2] / "config/monitoring/alerts.yaml"


async def get(api: Api, path: str) -> Any:
    return (await api.call("GET", path, key=OPERATOR)).json


async def scrape(api: Api) -> dict[Sample, float]:
    """What a monitor reads, each series with the labels Prometheus adds."""
    gauges.measure(api.node.context)  # a new look: the last one is kept for half a second
    text = (await api.call("GET", "/metrics", key=None)).raw.decode()
    return {
        (sample.name, tuple(sorted({**sample.labels, "instance": "a", "job": "hermes"}.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("hermes_")
    }


def firing(
    before: dict[Sample, float], after: dict[Sample, float], folder: Path, minutes: int, rise: float = 0
) -> set[str]:
    """Say which alerts fire `minutes` after a node went from one scrape to the other.

    Args:
        rise: what each gauge and counter that changed goes on to rise by per minute.
    """
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("no promtool on this machine (Debian: prometheus)")
    series = []
    for key in sorted({*before, *after}):
        name, labels = key
        written = name + "{" + ",".join(f'{label}="{value}"' for label, value in labels) + "}"
        first, last = before.get(key, 0.0), after.get(key, 0.0)
        step = rise if last > first else 0
        series.append({"series": written, "values": f"{first:g}x1 {last:g}+{step:g}x{minutes + 2}"})
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": series,
                "promql_expr_test": [
                    {"expr": 'ALERTS{alertstate="firing"}', "eval_time": f"{minutes}m", "exp_samples": []}
                ],
            }
        ],
    }
    path = folder / "seen.test.yaml"
    path.write_text(yaml.safe_dump(test))
    said = subprocess.run([tool, "test", "rules", str(path)], capture_output=True, text=True, check=False, timeout=60)
    assert "error" not in said.stderr.lower() or "FAILED" in said.stdout + said.stderr, said.stderr
    words = (said.stdout + said.stderr).replace('"', " ").split()
    return {word for word in words if word.startswith("Hermes")}


def find(tree: Any, name: str) -> Any:
    """Find an actor in a tree."""
    if tree["name"] == name:
        return tree
    return next((found for child in tree["children"] if (found := find(child, name)) is not None), None)


async def measured(start: Start, *args: Any, **more: Any) -> Api:
    api = await start(*args, **more)
    system = api.node.system

    def supervised(event: Any) -> None:  # as hermes.boot does
        api.edge.metrics.supervisor_decisions.inc(event.supervisor, event.decision)
        if event.decision in ("restart", "back_off"):
            api.edge.metrics.restarts.inc(event.supervisor)

    system.on_event(supervised)
    return api


async def test_nothing_fires_on_a_node_that_is_well(start: Start, tmp_path: Path) -> None:
    api = await measured(start)
    before = await scrape(api)
    for _ in range(20):
        await api.node.final(await api.sent())
    assert firing(before, await scrape(api), tmp_path, 30) == set()


async def test_crashing_actor_is_seen(start: Start, tmp_path: Path) -> None:
    api = await measured(start)
    before = await scrape(api)
    for _ in range(4):
        ref = api.node.system.whereis("router")
        assert ref is not None
        ref.stop(ValueError("a bug in the router"))
        await ref.ended()
        await api.node.until(lambda: api.node.system.whereis("router"))
    router = find(await get(api, "/v1/actors"), "router")
    assert router["restarts"] == 4 and "a bug" in router["last_error"]
    decisions = (await get(api, "/v1/overview?limit=100"))["decisions"]
    assert sum((d["child"], d["decision"]) == ("router", "restart") for d in decisions) == 4
    after = await scrape(api)
    assert "HermesRestarts" in firing(before, after, tmp_path, 3)


async def test_dead_carrier_is_seen(start: Start, tmp_path: Path) -> None:
    api = await measured(start, [replace(mock("telco", "sms"), breaker_open_s=600.0)])
    before = await scrape(api)
    for _ in range(6):
        await api.sent({"channel": "sms", "to": "+4520120007", "content": {"text": "Hi"}})
    health = api.node.context.health["telco"]
    await api.node.until(lambda: health.breaker.opened_at is not None)
    detail = find(await get(api, "/v1/actors"), "provider/telco")["detail"]
    assert (detail["state"], detail["breaker"]) == ("down", "open")
    carrier = (await get(api, "/v1/overview"))["carriers"][0]
    assert (carrier["name"], carrier["state"]) == ("telco", "down") and "failures in a row" in carrier["reason"]
    fired = firing(before, await scrape(api), tmp_path, 12)
    assert {"HermesCarrierDown", "HermesBreakerOpen"} <= fired


async def test_full_queue_is_seen(start: Start, tmp_path: Path) -> None:
    api = await measured(start, [replace(mock("telco", "sms", latency_ms=60_000), max_in_flight=1, queue_limit=10)])
    before = await scrape(api)
    codes: list[str] = []
    while codes.count("overloaded") < 5 and len(codes) < 100:
        answer = await api.send()
        codes.append("" if answer.status == 202 else answer.code)
    assert "overloaded" in codes
    carrier = (await get(api, "/v1/overview"))["carriers"][0]
    assert carrier["queue"] >= 9 and carrier["in_flight"] == 1
    assert find(await get(api, "/v1/actors"), "provider/telco")["detail"]["queue"] == carrier["queue"]
    # Nobody waits a minute here: the oldest is as old as it would be then.
    (entry, *_) = api.node.context.queues["telco"]._heads()
    entry.queued_at = (entry.queued_at or 0.0) - 90
    fired = firing(before, await scrape(api), tmp_path, 15, rise=60)
    assert {"HermesRefusing", "HermesCarrierQueueOld"} <= fired


async def test_dead_database_is_seen(start: Start, tmp_path: Path) -> None:
    api = await measured(start)
    api.edge.metrics.gauge("hermes_ready", api.edge.ready)
    before = await scrape(api)
    journal: Any = api.node.journal
    journal.set_available(False)
    assert (await api.send()).code == "journal_away"
    seen = await get(api, "/v1/overview")
    assert not seen["ready"] and not seen["journal"]["up"]
    assert find(await get(api, "/v1/actors"), "journal")["detail"]["database"] == "away"
    fired = firing(before, await scrape(api), tmp_path, 5)
    assert {"HermesJournalAway", "HermesNotReady"} <= fired
    journal.set_available(True)


@pytest.mark.slow
async def test_blocked_webhook_endpoint_is_seen(start: Start, tmp_path: Path) -> None:
    api = await measured(start, server={"allow_private_callbacks": True})
    before = await scrape(api)
    body = {"channel": "sms", "to": "+4520120001", "content": {"text": "Hi"}, "callback_url": "http://127.0.0.1:9/hook"}
    for _ in range(11):
        batch = {"messages": [body] * 100}
        assert (await api.call("POST", "/v1/messages/batch", batch)).status == 200
    await api.node.until(lambda: api.edge.metrics.read("hermes_webhooks_pending")[""] > 1000, timeout_s=30)
    assert (await get(api, "/v1/overview"))["webhooks_pending"] > 1000
    actor = await get(api, f"/v1/actors/webhook/{api.node.tenant}")
    assert actor["detail"]
    fired = firing(before, await scrape(api), tmp_path, 40, rise=5)
    assert "HermesWebhooksBacklog" in fired
