"""What one process has counted and measured at one moment, and how that of several becomes one. Pure.

Counters and histograms add up. A gauge adds up, is the greatest or the smallest of all, or stays apart with the label
`worker`, where any sum would lie: `Family.over` of each metric says which (hermes/metrics.py).

Invariant: adding is associative and commutative, so it does not matter who adds up, or in which order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

Labels = tuple[str, ...]  # label values, in the order of the metric's labels; `worker` comes last
Over = Literal["sum", "max", "min", "worker", "asked"]

WORKER: Final = "worker"  # the label of gauges that stay apart


class Buckets(msgspec.Struct, frozen=True, array_like=True):
    """A histogram's series: observations in each bucket, the last above all bounds, and the sum of them."""

    counts: tuple[int, ...]
    sum: float


class Samples(msgspec.Struct, frozen=True):
    """A process's metrics, by name and labels.

    Attributes:
        process: of the process itself, as prometheus-client measures it.
    """

    counters: dict[str, dict[Labels, float]] = {}
    histograms: dict[str, dict[Labels, Buckets]] = {}
    gauges: dict[str, dict[Labels, float]] = {}
    process: dict[str, dict[Labels, float]] = {}


def told_apart(samples: Samples, worker: str, over: Mapping[str, Over]) -> Samples:
    """Name whose they are in those gauges that stay apart; what only the asked worker says is left out of others'."""
    gauges: dict[str, dict[Labels, float]] = {}
    for name, series in samples.gauges.items():
        how = over.get(name)
        if how == "worker":
            gauges[name] = {(*labels, worker): value for labels, value in series.items()}
        elif how != "asked":
            gauges[name] = series
    process = {name: {(*labels, worker): v for labels, v in series.items()} for name, series in samples.process.items()}
    return Samples(samples.counters, samples.histograms, gauges, process)


def added(parts: Iterable[Samples], over: Mapping[str, Over]) -> Samples:
    """Add up. A histogram whose buckets are not those of the others (another version's) is left out."""
    counters: dict[str, dict[Labels, float]] = {}
    histograms: dict[str, dict[Labels, Buckets]] = {}
    gauges: dict[str, dict[Labels, float]] = {}
    process: dict[str, dict[Labels, float]] = {}
    for part in parts:
        for name, series in part.counters.items():
            _add(counters.setdefault(name, {}), series, "sum")
        for name, of in part.histograms.items():
            _add_buckets(histograms.setdefault(name, {}), of)
        for name, series in part.gauges.items():
            _add(gauges.setdefault(name, {}), series, over.get(name, "sum"))
        for name, series in part.process.items():
            _add(process.setdefault(name, {}), series, "sum")
    return Samples(counters, histograms, gauges, process)


def counted(samples: Samples) -> Samples:
    """Keep what only grows: it stays true when the process is gone."""
    return Samples(samples.counters, samples.histograms)


def later(one: Samples, other: Samples) -> Samples:
    """Join two looks at what the same process has counted: whatever is greater was seen later."""
    counters: dict[str, dict[Labels, float]] = {}
    histograms: dict[str, dict[Labels, Buckets]] = {}
    for part in (one, other):
        for name, series in part.counters.items():
            _add(counters.setdefault(name, {}), series, "max")
        for name, of in part.histograms.items():
            known = histograms.setdefault(name, {})
            for labels, buckets in of.items():
                before = known.get(labels)
                if before is None or _seen(before) < _seen(buckets):
                    known[labels] = buckets
    return Samples(counters, histograms)


def _seen(buckets: Buckets) -> tuple[int, tuple[int, ...], float]:
    return sum(buckets.counts), buckets.counts, buckets.sum


def _add(to: dict[Labels, float], series: Mapping[Labels, float], how: Over) -> None:
    for labels, value in series.items():
        before = to.get(labels)
        if before is None:
            to[labels] = value
        elif how == "max":
            to[labels] = max(before, value)
        elif how == "min":
            to[labels] = min(before, value)
        else:
            to[labels] = before + value


def _add_buckets(to: dict[Labels, Buckets], series: Mapping[Labels, Buckets]) -> None:
    for labels, buckets in series.items():
        before = to.get(labels)
        if before is None:
            to[labels] = buckets
        elif len(before.counts) == len(buckets.counts):
            counts = tuple(a + b for a, b in zip(before.counts, buckets.counts, strict=True))
            to[labels] = Buckets(counts, before.sum + buckets.sum)


_encode: Final = msgspec.msgpack.Encoder().encode


def encoded(value: Any) -> bytes:
    """Write samples, or a structure of them, for another worker (MessagePack: JSON has no keys of several values)."""
    return _encode(value)
