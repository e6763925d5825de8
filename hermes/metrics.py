"""What Hermes counts and measures, and how a monitor reads it.

Counting happens for every message, so it is plain integers in plain dicts (about 0.1 us); only a scrape turns
them into Prometheus' text. All of it belongs to the event loop's thread. `FAMILIES` is the whole list.

Invariant: a metric holds at most `MOST_SERIES` combinations of label values, and one more, "other", under
which those that come later are counted together.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from hermes.samples import WORKER, Buckets, Labels, Over, Samples

logger = logging.getLogger(__name__)

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST  # of what `Metrics.render` returns
MOST_SERIES: Final = 1000  # arbitrary; ten times the carriers and statuses of the largest set-up we know
OTHER: Final = "other"


class Family(NamedTuple):
    """One metric, as the documentation lists it.

    Attributes:
        over: how the values of several workers become one; `asked`: only the one that is asked knows it.
    """

    name: str
    type: str  # counter, histogram or gauge
    labels: tuple[str, ...]
    unit: str
    help: str
    over: Over = "sum"


FAMILIES: Final[tuple[Family, ...]] = (
    Family("hermes_accepted_total", "counter", (), "messages", "Messages accepted: their 202 is committed."),
    Family("hermes_refused_total", "counter", ("code",), "requests", "Submissions refused, by problem code."),
    Family(
        "hermes_final_total",
        "counter",
        ("status", "channel"),
        "messages",
        "Messages that ended, by final status and the channel of their last step.",
    ),
    Family(
        "hermes_attempts_total",
        "counter",
        ("carrier", "status"),
        "attempts",
        "Statuses that attempts reached: submitted, rejected, ambiguous, timed_out, delivered, read, undelivered. "
        "One attempt reaches several.",
    ),
    Family(
        "hermes_errors_total",
        "counter",
        ("carrier", "class"),
        "errors",
        "Refusals by carriers, by error class.",
    ),
    Family(
        "hermes_receipts_total",
        "counter",
        ("carrier", "kind"),
        "receipts",
        "Delivery receipts: matched, late (after its step was over), duplicate, parked (nobody knows the id yet) or "
        "orphan (parked for a day, then dropped).",
    ),
    Family(
        "hermes_inbound_total",
        "counter",
        ("carrier", "outcome"),
        "messages",
        "Messages to our numbers: stored, repeated (the carrier brought it again) or unrouted (nobody's).",
    ),
    Family(
        "hermes_ambiguous_total",
        "counter",
        ("policy",),
        "attempts",
        "Tries of which nobody knows whether the carrier took them, by what follows: resend or never.",
    ),
    Family("hermes_restarts_total", "counter", ("supervisor",), "restarts", "Children restarted, by supervisor."),
    Family(
        "hermes_supervisor_decisions_total",
        "counter",
        ("supervisor", "decision"),
        "decisions",
        "What supervisors decided: restart, back_off, escalate, remove, disable, enable and the like.",
    ),
    Family(
        "hermes_webhook_attempts_total",
        "counter",
        ("outcome",),
        "requests",
        "Calls to customers' webhooks: delivered, retry, gone (410) or dead.",
    ),
    Family(
        "hermes_spans_total",
        "counter",
        ("outcome",),
        "spans",
        "Spans for OpenTelemetry: exported, or dropped because the collector was slow or away.",
    ),
    Family(
        "hermes_accept_seconds",
        "histogram",
        (),
        "seconds",
        "From a submission read to its 202 committed.",
    ),
    Family(
        "hermes_step_seconds",
        "histogram",
        (),
        "seconds",
        "From a step of a cascade begun to its end: success, or on to the next step.",
    ),
    Family(
        "hermes_end_to_end_seconds",
        "histogram",
        ("channel",),
        "seconds",
        "From accepted (or send_at) to delivered, by the channel that delivered.",
    ),
    Family("hermes_timer_late_seconds", "histogram", (), "seconds", "How late a message's timer was handled."),
    Family("hermes_journal_commit_seconds", "histogram", (), "seconds", "One group commit of the journal."),
    Family("hermes_journal_batch_rows", "histogram", (), "rows", "Rows that one group commit wrote."),
    Family(
        "hermes_messages",
        "gauge",
        ("state",),
        "messages",
        "Messages without a final status: active (an actor holds it) or parked (journal only).",
    ),
    Family(
        "hermes_carrier_queue",
        "gauge",
        ("carrier",),
        "messages",
        "Messages that wait for a carrier's window.",
    ),
    Family(
        "hermes_carrier_queue_age_seconds",
        "gauge",
        ("carrier",),
        "seconds",
        "How long the message that has waited longest for the carrier has waited; 0 when none waits.",
        "max",
    ),
    Family(
        "hermes_carrier_window",
        "gauge",
        ("carrier",),
        "requests",
        "Requests that the carrier has not answered yet; SMPP: in the windows of all its binds.",
    ),
    Family(
        "hermes_carrier_up",
        "gauge",
        ("carrier",),
        "1 or 0",
        "1 while the carrier is up or degraded; 0: down, paused or draining.",
        "min",
    ),
    Family(
        "hermes_breaker_state",
        "gauge",
        ("carrier",),
        "state",
        "The carrier's breaker: 0 closed, 1 half open, 2 open.",
        "max",
    ),
    Family(
        "hermes_binds",
        "gauge",
        ("carrier", "state"),
        "binds",
        "SMPP binds by state: connecting, bound, unbinding or refused.",
    ),
    Family(
        "hermes_mailbox_depth",
        "gauge",
        ("actor",),
        "messages",
        "Mail that waits for the children of the root; tenants/*, providers/*: the deepest mailbox among them.",
        "max",
    ),
    Family(
        "hermes_tenant_accepted_per_second",
        "gauge",
        ("tenant",),
        "messages per second",
        "Messages accepted, over the last ten seconds, of the twenty busiest tenants.",
    ),
    Family("hermes_ready", "gauge", (), "1 or 0", "1 while messages can be accepted, as /readyz says.", "worker"),
    Family("hermes_journal_up", "gauge", (), "1 or 0", "1 while the database answers.", "worker"),
    Family("hermes_journal_queue", "gauge", (), "writes", "Writes not yet committed."),
    Family("hermes_webhooks_pending", "gauge", (), "webhooks", "Webhooks not yet answered by customers."),
    Family(
        "hermes_data_free_bytes",
        "gauge",
        (),
        "bytes",
        "Room left on the disk of the data folder, where the embedded database is.",
        "worker",
    ),
    Family("hermes_data_size_bytes", "gauge", (), "bytes", "Size of that disk.", "worker"),
    Family("hermes_workers", "gauge", (), "workers", "Worker processes that live, by the database.", "asked"),
    Family(
        "hermes_workers_unreachable",
        "gauge",
        (),
        "workers",
        "Workers that live and did not tell the asked one their figures in time: the sums are without them.",
        "asked",
    ),
)
_BY_NAME: Final = {family.name: family for family in FAMILIES}
OVER: Final[Mapping[str, Over]] = {family.name: family.over for family in FAMILIES}

# Upper bounds, inclusive. The last bucket, +Inf, is added to each.
FAST_SECONDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0,
)  # a commit takes some milliseconds; every request is answered within 2 s  # fmt: skip
SLOW_SECONDS: Final = (
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0, 259200.0,
)  # a message lives for 72 h unless it says otherwise  # fmt: skip
ROWS: Final = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0)


_BOUNDS: Final = {
    "hermes_accept_seconds": FAST_SECONDS,
    "hermes_step_seconds": SLOW_SECONDS,
    "hermes_end_to_end_seconds": SLOW_SECONDS,
    "hermes_timer_late_seconds": FAST_SECONDS,
    "hermes_journal_commit_seconds": FAST_SECONDS,
    "hermes_journal_batch_rows": ROWS,
}


class Counter:
    """Counts up. `value` may be read."""

    __slots__ = ("name", "value")

    def __init__(self, name: str) -> None:
        self.name = name
        self.value = 0

    def inc(self, n: int = 1) -> None:
        self.value += n

    def _samples(self) -> Iterable[tuple[tuple[str, ...], int]]:
        return [((), self.value)]


class Counter1:
    """Counts up, apart for each value of one label. `values` may be read."""

    __slots__ = ("name", "values")

    def __init__(self, name: str) -> None:
        self.name = name
        self.values: dict[str, int] = {}

    def inc(self, label: str, n: int = 1) -> None:
        try:
            self.values[label] += n
        except KeyError:
            if len(self.values) >= MOST_SERIES:
                label = OTHER
            self.values[label] = self.values.get(label, 0) + n

    def _samples(self) -> Iterable[tuple[tuple[str, ...], int]]:
        return [((label,), value) for label, value in self.values.items()]


class Counter2:
    """Counts up, apart for each pair of values of two labels. `values` may be read."""

    __slots__ = ("name", "values")

    def __init__(self, name: str) -> None:
        self.name = name
        self.values: dict[tuple[str, str], int] = {}

    def inc(self, first: str, second: str, n: int = 1) -> None:
        key = (first, second)
        try:
            self.values[key] += n
        except KeyError:
            if len(self.values) >= MOST_SERIES:
                key = (OTHER, OTHER)
            self.values[key] = self.values.get(key, 0) + n

    def _samples(self) -> Iterable[tuple[tuple[str, ...], int]]:
        return self.values.items()


class _Counts:
    """One series: `counts[i]` observations in (bounds[i - 1], bounds[i]], the last entry above all bounds."""

    __slots__ = ("counts", "sum")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.sum = 0.0


class Histogram:
    """Sorts observations into buckets."""

    __slots__ = ("_bounds", "_counts", "_series", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._bounds = _BOUNDS[name]
        self._series = _Counts(len(self._bounds) + 1)
        self._counts = self._series.counts

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._series.sum += value

    @property
    def count(self) -> int:
        """How many observations there were."""
        return sum(self._counts)

    def _samples(self) -> Iterable[tuple[tuple[str, ...], _Counts]]:
        return [((), self._series)]


class Histogram1:
    """Sorts observations into buckets, apart for each value of one label."""

    __slots__ = ("_bounds", "_series", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._bounds = _BOUNDS[name]
        self._series: dict[str, _Counts] = {}

    def observe(self, value: float, label: str) -> None:
        series = self._series.get(label)
        if series is None:
            series = self._new(label)
        series.counts[bisect_left(self._bounds, value)] += 1
        series.sum += value

    def count(self, label: str) -> int:
        """How many observations there were under this label value."""
        series = self._series.get(label)
        return sum(series.counts) if series is not None else 0

    def _new(self, label: str) -> _Counts:
        if len(self._series) >= MOST_SERIES:
            label = OTHER
        return self._series.setdefault(label, _Counts(len(self._bounds) + 1))

    def _samples(self) -> Iterable[tuple[tuple[str, ...], _Counts]]:
        return [((label,), series) for label, series in self._series.items()]


# One number; for a metric with labels, one for each value of its label (or tuple of values).
GaugeCallback = Callable[[], float | Mapping[str, float] | Mapping[tuple[str, ...], float]]


class Metrics:
    """Everything a process counts; one object, handed to whoever counts. Attributes are named in `FAMILIES`.

    Labels are given in the order of the list: `metrics.final.inc("delivered", "sms")`,
    `metrics.end_to_end_seconds.observe(0.4, "sms")`.
    """

    def __init__(self) -> None:
        self.accepted = Counter("hermes_accepted_total")
        self.refused = Counter1("hermes_refused_total")
        self.final = Counter2("hermes_final_total")
        self.attempts = Counter2("hermes_attempts_total")
        self.errors = Counter2("hermes_errors_total")
        self.receipts = Counter2("hermes_receipts_total")
        self.inbound = Counter2("hermes_inbound_total")
        self.ambiguous = Counter1("hermes_ambiguous_total")
        self.restarts = Counter1("hermes_restarts_total")
        self.supervisor_decisions = Counter2("hermes_supervisor_decisions_total")
        self.webhook_attempts = Counter1("hermes_webhook_attempts_total")
        self.spans = Counter1("hermes_spans_total")
        self.accept_seconds = Histogram("hermes_accept_seconds")
        self.step_seconds = Histogram("hermes_step_seconds")
        self.end_to_end_seconds = Histogram1("hermes_end_to_end_seconds")
        self.timer_late_seconds = Histogram("hermes_timer_late_seconds")
        self.journal_commit_seconds = Histogram("hermes_journal_commit_seconds")
        self.journal_batch_rows = Histogram("hermes_journal_batch_rows")
        self._gauges: dict[str, GaugeCallback] = {}
        self._process = ProcessCollector(registry=None)  # process_cpu_seconds_total, process_resident_memory_bytes, ...
        self._of_process = [Family(m.name, m.type, (), "", m.documentation) for m in self._process.collect()]

    def gauge(self, name: str, callback: GaugeCallback) -> None:
        """Ask `callback` for the value at each scrape; a second callback replaces the first.

        A callback that raises costs its metric in that scrape, and is logged.

        Raises:
            KeyError: no gauge of that name is in `FAMILIES`.
        """
        if _BY_NAME[name].type != "gauge":
            raise KeyError(name)
        self._gauges[name] = callback

    def read(self, name: str) -> dict[str, float]:
        """Ask a gauge for its value now: label value -> number, "" for one without a label; {} when it cannot say."""
        callback = self._gauges.get(name)
        if callback is None:
            return {}
        try:
            value: Any = callback()
        except Exception:  # the operator is told, in the log
            logger.exception("metric %s could not be read", name)
            return {}
        return dict(value) if isinstance(value, Mapping) else {"": float(value)}

    def samples(self) -> Samples:
        """Take down everything as it is now."""
        counts = self.counts()
        gauges = {name: found for name in self._gauges if (found := self._gauge(name)) is not None}
        process: dict[str, dict[Labels, float]] = {m.name: {(): m.samples[0].value} for m in self._process.collect()}
        return Samples(counts.counters, counts.histograms, gauges, process)

    def counts(self) -> Samples:
        """Take down what only grows; nobody is asked for it, so it costs little."""
        counters: dict[str, dict[Labels, float]] = {}
        histograms: dict[str, dict[Labels, Buckets]] = {}
        for value in vars(self).values():
            if isinstance(value, Counter | Counter1 | Counter2):
                counters[value.name] = dict(value._samples())
            elif isinstance(value, Histogram | Histogram1):
                histograms[value.name] = {k: Buckets(tuple(of.counts), of.sum) for k, of in value._samples()}
        return Samples(counters, histograms)

    def _gauge(self, name: str) -> dict[Labels, float] | None:
        try:
            value: Any = self._gauges[name]()
            if not isinstance(value, Mapping):
                return {(): float(value)}
            some = list(value.items())[:MOST_SERIES]
            return {(label,) if isinstance(label, str) else label: float(number) for label, number in some}
        except Exception:  # the operator is told, in the log; the other metrics are still worth reading
            logger.exception("metric %s could not be read", name)
            return None

    def render(self, samples: Samples | None = None) -> bytes:
        """Write everything in Prometheus' text format (`CONTENT_TYPE`): this process's, or what several add up to."""
        shown = self.samples() if samples is None else samples
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Shown(shown, self._of_process))
        return generate_latest(registry)


class _Shown(Collector):
    """Turns samples into Prometheus' families, in the order of the list."""

    def __init__(self, samples: Samples, of_process: Sequence[Family]) -> None:
        self._samples = samples
        self._of_process = of_process

    def describe(self) -> Iterable[Metric]:
        return []  # so that registering does not collect

    def collect(self) -> Iterable[Metric]:
        samples = self._samples
        for family in FAMILIES:
            if family.type == "counter":
                yield _filled(family, samples.counters.get(family.name, {}))
            elif family.type == "histogram":
                yield _histogram(family, samples.histograms.get(family.name, {}))
            elif family.name in samples.gauges:
                yield _filled(family, samples.gauges[family.name])
        for family in self._of_process:
            yield _filled(family, samples.process.get(family.name, {}))


def _filled(family: Family, series: Mapping[Labels, float]) -> Metric:
    """Make a counter or gauge with these series; one label value more than it has labels is the worker's."""
    kind = CounterMetricFamily if family.type == "counter" else GaugeMetricFamily
    names = family.labels
    if any(len(labels) > len(names) for labels in series):
        names = (*names, WORKER)
    metric: CounterMetricFamily | GaugeMetricFamily = kind(family.name, family.help, labels=names)
    for labels, value in series.items():
        metric.add_metric(labels, value)
    return metric


def _histogram(family: Family, series: Mapping[Labels, Buckets]) -> Metric:
    bounds = (*_BOUNDS[family.name], float("inf"))
    metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    for labels, found in series.items():
        if len(found.counts) != len(bounds):
            continue  # of another version
        buckets: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip(bounds, found.counts, strict=True):
            total += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), total))
        metric.add_metric(labels, buckets, found.sum)
    return metric
