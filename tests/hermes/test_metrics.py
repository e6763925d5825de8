"""Metrics: what is counted is what a monitor reads, under documented names and bounded labels."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from hermes import metrics as module
from hermes.metrics import CONTENT_TYPE, FAMILIES, FAST_SECONDS, Histogram, Metrics


def read(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Scrape as a monitor does."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


COUNTERS: dict[str, tuple[Callable[[Metrics], None], tuple[tuple[str, str], ...]]] = {
    "hermes_accepted_total": (lambda m: m.accepted.inc(), ()),
    "hermes_refused_total": (lambda m: m.refused.inc("no_route"), (("code", "no_route"),)),
    "hermes_final_total": (
        lambda m: m.final.inc("delivered", "sms"),
        (("channel", "sms"), ("status", "delivered")),
    ),
    "hermes_attempts_total": (
        lambda m: m.attempts.inc("a", "submitted"),
        (("carrier", "a"), ("status", "submitted")),
    ),
    "hermes_errors_total": (
        lambda m: m.errors.inc("a", "throttled"),
        (("carrier", "a"), ("class", "throttled")),
    ),
    "hermes_receipts_total": (
        lambda m: m.receipts.inc("a", "matched"),
        (("carrier", "a"), ("kind", "matched")),
    ),
    "hermes_inbound_total": (lambda m: m.inbound.inc("a", "stored"), (("carrier", "a"), ("outcome", "stored"))),
    "hermes_ambiguous_total": (lambda m: m.ambiguous.inc("resend"), (("policy", "resend"),)),
    "hermes_restarts_total": (lambda m: m.restarts.inc("tenants"), (("supervisor", "tenants"),)),
    "hermes_spans_total": (lambda m: m.spans.inc("exported"), (("outcome", "exported"),)),
    "hermes_supervisor_decisions_total": (
        lambda m: m.supervisor_decisions.inc("root", "escalate"),
        (("decision", "escalate"), ("supervisor", "root")),
    ),
    "hermes_webhook_attempts_total": (lambda m: m.webhook_attempts.inc("done"), (("outcome", "done"),)),
}
HISTOGRAMS: dict[str, tuple[Callable[[Metrics, float], None], tuple[tuple[str, str], ...]]] = {
    "hermes_accept_seconds": (lambda m, x: m.accept_seconds.observe(x), ()),
    "hermes_step_seconds": (lambda m, x: m.step_seconds.observe(x), ()),
    "hermes_end_to_end_seconds": (
        lambda m, x: m.end_to_end_seconds.observe(x, "sms"),
        (("channel", "sms"),),
    ),
    "hermes_timer_late_seconds": (lambda m, x: m.timer_late_seconds.observe(x), ()),
    "hermes_journal_commit_seconds": (lambda m, x: m.journal_commit_seconds.observe(x), ()),
    "hermes_journal_batch_rows": (lambda m, x: m.journal_batch_rows.observe(x), ()),
}
GAUGES = {family.name: family.labels for family in FAMILIES if family.type == "gauge"}


def test_every_documented_metric_is_tested_here() -> None:
    assert {*COUNTERS, *HISTOGRAMS, *GAUGES} == {family.name for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_documentation_of_a_metric_follows_the_conventions(family: module.Family) -> None:
    assert family.name.startswith("hermes_")
    assert family.name.endswith("_total") == (family.type == "counter")
    assert family.help.endswith(".") and family.unit
    if family.unit in ("seconds", "rows"):
        assert family.name.endswith(family.unit)


def test_the_page_lists_every_metric_as_it_is() -> None:
    page = (Path(__file__).parents[2] / "docs/metrics.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")]
    assert rows == [
        [f"`{f.name}`", f.type, ", ".join(f"`{label}`" for label in f.labels), f.unit, f.over, f.help] for f in FAMILIES
    ]


@pytest.mark.parametrize("name", COUNTERS)
def test_counter_is_read_with_its_labels(name: str) -> None:
    count, labels = COUNTERS[name]
    metrics = Metrics()
    count(metrics)
    count(metrics)
    assert read(metrics)[name, labels] == 2


def test_counters_take_more_than_one_at_a_time() -> None:
    metrics = Metrics()
    metrics.accepted.inc(3)
    metrics.refused.inc("overloaded", 3)
    metrics.final.inc("failed", "sms", 3)
    values = read(metrics)
    assert values["hermes_accepted_total", ()] == 3
    assert values["hermes_refused_total", (("code", "overloaded"),)] == 3
    assert values["hermes_final_total", (("channel", "sms"), ("status", "failed"))] == 3


@pytest.mark.parametrize("name", HISTOGRAMS)
def test_histogram_is_read_with_its_labels(name: str) -> None:
    observe, labels = HISTOGRAMS[name]
    metrics = Metrics()
    observe(metrics, 2)
    observe(metrics, 1e9)
    values = read(metrics)
    assert values[name + "_count", labels] == 2
    assert values[name + "_sum", labels] == 1e9 + 2
    assert values[name + "_bucket", tuple(sorted((*labels, ("le", "+Inf"))))] == 2
    below = [value for (sample, _), value in values.items() if sample == name + "_bucket"]
    assert sorted(below) == below and 1 in below


@given(st.lists(st.floats(0, 20) | st.sampled_from(FAST_SECONDS)))
def test_bucket_counts_what_is_at_most_its_bound(observed: list[float]) -> None:
    metrics = Metrics()
    for value in observed:
        metrics.accept_seconds.observe(value)
    values = read(metrics)
    for bound in FAST_SECONDS:
        expected = sum(value <= bound for value in observed)
        assert values["hermes_accept_seconds_bucket", (("le", str(bound)),)] == expected
    assert metrics.accept_seconds.count == len(observed)


def test_labelled_histograms_do_not_mix() -> None:
    metrics = Metrics()
    metrics.end_to_end_seconds.observe(1, "sms")
    metrics.end_to_end_seconds.observe(2, "email")
    metrics.end_to_end_seconds.observe(3, "email")
    assert metrics.end_to_end_seconds.count("sms") == 1
    assert metrics.end_to_end_seconds.count("email") == 2
    assert metrics.end_to_end_seconds.count("push") == 0


@pytest.mark.parametrize("name", GAUGES)
def test_gauge_is_asked_at_each_scrape(name: str) -> None:
    labels = GAUGES[name]
    asked: list[int] = []

    def callback() -> Any:
        asked.append(1)
        if len(labels) == 2:
            return {("a", "b"): float(len(asked))}
        return {"a": len(asked)} if labels else len(asked)

    metrics = Metrics()
    metrics.gauge(name, callback)
    assert asked == []
    for n in (1, 2):
        assert read(metrics)[name, tuple(zip(labels, "ab", strict=False))] == n


def test_gauge_that_fails_is_logged_and_costs_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    metrics.gauge("hermes_journal_queue", lambda: 1 / 0)
    metrics.gauge("hermes_webhooks_pending", lambda: 7)
    with caplog.at_level(logging.ERROR):
        values = read(metrics)
    assert ("hermes_journal_queue", ()) not in values
    assert values["hermes_webhooks_pending", ()] == 7
    assert "hermes_journal_queue" in caplog.text


@pytest.mark.parametrize("name", ["hermes_nope", "hermes_accepted_total"])
def test_gauge_that_is_not_documented_is_refused(name: str) -> None:
    with pytest.raises(KeyError):
        Metrics().gauge(name, lambda: 1)


def test_label_values_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SERIES", 3)
    metrics = Metrics()
    metrics.gauge("hermes_carrier_queue", lambda: {str(n): float(n) for n in range(10)})
    for n in range(10):
        metrics.refused.inc(f"code {n}")
        metrics.final.inc("delivered", f"channel {n}")
        metrics.end_to_end_seconds.observe(1, f"channel {n}")
    metrics.refused.inc("code 0")
    values = read(metrics)
    assert values["hermes_refused_total", (("code", "other"),)] == 7
    assert values["hermes_refused_total", (("code", "code 0"),)] == 2
    assert values["hermes_final_total", (("channel", "other"), ("status", "other"))] == 7
    assert values["hermes_end_to_end_seconds_count", (("channel", "other"),)] == 7
    for name, most in (("hermes_refused_total", 4), ("hermes_final_total", 4), ("hermes_carrier_queue", 3)):
        assert sum(sample == name for sample, _ in values) <= most


def test_label_value_may_be_any_text() -> None:
    metrics = Metrics()
    metrics.refused.inc('a"b\\c\nd')
    assert read(metrics)["hermes_refused_total", (("code", 'a"b\\c\nd'),)] == 1


def test_process_is_measured_too() -> None:
    names = {name for name, _ in read(Metrics())}
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes"} <= names
    assert CONTENT_TYPE.startswith("text/plain")


def test_two_objects_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.accepted.inc()
    assert (first.accepted.value, second.accepted.value) == (1, 0)
    assert isinstance(first.accept_seconds, Histogram)
