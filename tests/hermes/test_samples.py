"""Samples of several workers become one, whoever adds them up, and in whatever order."""

from __future__ import annotations

from functools import partial

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from hermes.metrics import OVER, Metrics
from hermes.samples import Buckets, Over, Samples, added, counted, encoded, later, told_apart

HOW: dict[str, Over] = {"s": "sum", "hi": "max", "lo": "min"}
numbers = st.integers(0, 1000).map(float)
labels = st.sampled_from([(), ("a",), ("b",)])
series = st.dictionaries(labels, numbers, max_size=3)
buckets = st.builds(Buckets, st.tuples(*[st.integers(0, 50)] * 3), numbers)
samples = st.builds(
    Samples,
    st.dictionaries(st.sampled_from(["x_total", "y_total"]), series),
    st.dictionaries(st.just("h"), st.dictionaries(labels, buckets, max_size=2)),
    st.dictionaries(st.sampled_from(list(HOW)), series),
    st.dictionaries(st.just("process_open_fds"), series),
)


@given(samples, samples, samples)
def test_it_does_not_matter_who_adds_up_and_in_which_order(a: Samples, b: Samples, c: Samples) -> None:
    whole = added([a, b, c], HOW)
    assert whole == added([added([a, b], HOW), c], HOW) == added([a, added([b, c], HOW)], HOW) == added([c, a, b], HOW)


@given(samples)
def test_nobody_adds_nothing(a: Samples) -> None:
    assert added([a], HOW) == added([Samples(), a], HOW)


@pytest.mark.parametrize(
    ("name", "values", "one"),
    [
        ("s", [1, 2, 3], 6),
        ("hi", [1, 3, 2], 3),
        ("lo", [2, 1, 3], 1),
        ("of another version", [1, 2], 3),
    ],
)
def test_a_gauge_becomes_one_number_as_its_kind_says(name: str, values: list[float], one: float) -> None:
    assert added([Samples(gauges={name: {(): value}}) for value in values], HOW).gauges == {name: {(): one}}


def test_a_series_that_one_alone_has_stays() -> None:
    parts = [Samples(gauges={"lo": {("a",): 5.0}}), Samples(gauges={"lo": {("b",): 1.0}})]
    assert added(parts, HOW).gauges == {"lo": {("a",): 5.0, ("b",): 1.0}}


def test_histograms_add_up_bucket_by_bucket_and_another_versions_are_left_out() -> None:
    parts = [Samples(histograms={"h": {(): Buckets(counts, 1.5)}}) for counts in ((1, 0, 2), (0, 3, 1), (9, 9))]
    assert added(parts, HOW).histograms == {"h": {(): Buckets((1, 3, 3), 3.0)}}


def test_what_stays_apart_names_its_worker_and_what_only_the_asked_one_says_is_left_out() -> None:
    taken = Samples({"x_total": {(): 1.0}}, {}, {"r": {(): 1.0}, "s": {(): 2.0}, "own": {(): 3.0}}, {"p": {(): 4.0}})
    told = told_apart(taken, "w1", {"r": "worker", "own": "asked"})
    assert told == Samples({"x_total": {(): 1.0}}, {}, {"r": {("w1",): 1.0}, "s": {(): 2.0}}, {"p": {("w1",): 4.0}})


@st.composite
def looks(draw: st.DrawFn) -> tuple[Samples, Samples]:
    """The same process looked at twice: nothing it counts becomes less."""
    first = counted(draw(samples))
    return first, counted(added([first, draw(samples)], HOW))


@given(looks())
def test_of_two_looks_at_the_same_process_the_later_one_counts(pair: tuple[Samples, Samples]) -> None:
    first, second = pair
    assert later(first, second) == later(second, first) == later(second, second)


@given(samples, samples, samples)
def test_looks_can_be_joined_in_any_order(a: Samples, b: Samples, c: Samples) -> None:
    assert later(later(a, b), c) == later(a, later(b, c)) == later(later(c, a), b)


@given(samples)
def test_samples_travel_unchanged(a: Samples) -> None:
    assert msgspec.msgpack.decode(encoded(a), type=Samples) == a


def test_a_page_of_several_workers_sums_counters_and_keeps_the_rest_as_the_list_says() -> None:
    taken = []
    for n, worker in enumerate(("w1", "w2"), 1):
        metrics = Metrics()
        metrics.accepted.inc(n)
        metrics.final.inc("delivered", "sms", n)
        metrics.accept_seconds.observe(n)
        metrics.gauge("hermes_ready", partial(float, n - 1))
        metrics.gauge("hermes_breaker_state", partial(dict, a=n))
        metrics.gauge("hermes_carrier_up", partial(dict, a=n - 1))
        metrics.gauge("hermes_journal_queue", partial(float, n))
        taken.append(told_apart(metrics.samples(), worker, OVER))
    page = Metrics().render(added(taken, OVER)).decode()
    found = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    assert found["hermes_accepted_total",] == 3
    assert found["hermes_final_total", ("channel", "sms"), ("status", "delivered")] == 3
    assert (found["hermes_accept_seconds_count",], found["hermes_accept_seconds_sum",]) == (2, 3.0)
    assert found["hermes_accept_seconds_bucket", ("le", "1.0")] == 1
    assert (found["hermes_ready", ("worker", "w1")], found["hermes_ready", ("worker", "w2")]) == (0, 1)
    assert found["hermes_breaker_state", ("carrier", "a")] == 2
    assert found["hermes_carrier_up", ("carrier", "a")] == 0
    assert found["hermes_journal_queue",] == 3
    assert found["process_resident_memory_bytes", ("worker", "w1")] > 0
