"""What several workers say becomes one answer: carriers, actors' names, log levels, the log. Nothing here does I/O."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.shapes import CarrierView, LogLine, LogPage
from gateway.workers import actors, figures
from hermes.journal.base import WorkerRow


def view(**how: Any) -> CarrierView:
    return CarrierView("acme", "smpp", "sms", **how)


UP = view(
    state="up", since="2026-11-24T10:00:00Z", queue=1, queue_age_s=2.0, in_flight=3, sent=4, failed=1, rate_per_s=0.5
)
DOWN = view(state="down", since="2026-11-24T11:00:00Z", reason="5 failures in a row", breaker="open", queue=10)
PAUSED = view(state="paused", since="2026-11-24T12:00:00Z", reason="paused by an operator")
HALF = view(state="degraded", reason="slow", breaker="half_open")
BIND = {"n": 2, "mode": "transceiver", "state": "bound"}
OTHER = {"n": 1, "mode": "transceiver", "state": "bound"}


@pytest.mark.parametrize(
    ("views", "state", "reason", "breaker"),
    [
        ([UP, UP], "up", None, "closed"),
        ([UP, DOWN], "down", "on 1 of 2 workers: 5 failures in a row", "open"),
        ([DOWN, UP, DOWN], "down", "on 2 of 3 workers: 5 failures in a row", "open"),
        ([DOWN, DOWN], "down", "5 failures in a row", "open"),
        ([UP, PAUSED], "paused", "on 1 of 2 workers: paused by an operator", "closed"),
        ([PAUSED, DOWN], "down", "on 1 of 2 workers: 5 failures in a row", "open"),
        ([UP, HALF], "degraded", "on 1 of 2 workers: slow", "half_open"),
        # Only one worker holds the binds; that the others have none says nothing of the carrier.
        ([view(state="up", binds=[BIND]), view(state="down", reason="no bind")], "up", None, "closed"),
        ([view(state="down", binds=[BIND], reason="ESME_RINVPASWD"), UP], "down", "ESME_RINVPASWD", "closed"),
    ],
)
def test_a_carrier_is_as_where_it_is_worst(
    views: list[CarrierView], state: str, reason: str | None, breaker: str
) -> None:
    one = figures.carrier(views)
    assert (one.state, one.reason, one.breaker) == (state, reason, breaker)


def test_a_carriers_counts_add_up_and_its_age_is_the_greatest() -> None:
    one = figures.carrier([UP, view(queue=2, queue_age_s=9.0, in_flight=1, sent=1, failed=1, rate_per_s=1.0)])
    assert (one.queue, one.queue_age_s, one.in_flight, one.sent, one.failed, one.rate_per_s) == (3, 9.0, 4, 5, 2, 1.5)


def test_binds_of_all_workers_are_listed_by_their_number() -> None:
    assert figures.carrier([view(binds=[BIND]), view(binds=[OTHER])]).binds == [OTHER, BIND]


def test_a_carrier_that_one_worker_alone_knows_is_listed_too() -> None:
    parts = [[CarrierView("a", "mock", "sms")], [CarrierView("b", "mock", "sms"), CarrierView("a", "mock", "sms")]]
    assert [one.name for one in figures.carriers(parts)] == ["a", "b"]


states = st.builds(
    view,
    state=st.sampled_from(["up", "degraded", "down", "paused", "draining"]),
    breaker=st.sampled_from(["closed", "open", "half_open"]),
    queue=st.integers(0, 100),
    sent=st.integers(0, 100),
)


@given(st.lists(states, min_size=1, max_size=4), st.randoms())
def test_the_order_in_which_workers_answer_does_not_matter(views: list[CarrierView], random: Any) -> None:
    shuffled = views[:]
    random.shuffle(shuffled)
    one, other = figures.carrier(views), figures.carrier(shuffled)
    assert (one.state, one.breaker, one.queue, one.sent) == (other.state, other.breaker, other.queue, other.sent)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("router", (None, "router")),
        ("provider/acme", (None, "provider/acme")),
        ("worker/w1", ("w1", "")),
        ("worker/w1/", ("w1", "")),
        ("worker/w1/tenant/ten_1", ("w1", "tenant/ten_1")),
        ("workers", (None, "workers")),
    ],
)
def test_a_name_may_say_its_worker(name: str, found: tuple[str | None, str]) -> None:
    assert actors.split(name) == found


@given(st.text("abc123", min_size=1), st.text("abc/_", min_size=1))
def test_a_name_is_found_again_in_what_was_made_of_it(worker: str, name: str) -> None:
    assert actors.split(actors.joined(worker, name)) == (worker, name)


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        ([("w1", {}), ("w2", {})], {}),
        ([("w1", {"dlr": "debug"}), ("w2", {"dlr": "debug"})], {"dlr": "debug"}),
        ([("w1", {"dlr": "debug"}), ("w2", {"dlr": "error"})], {"worker/w1/dlr": "debug", "worker/w2/dlr": "error"}),
        ([("w1", {"dlr": "debug"}), ("w2", {})], {"worker/w1/dlr": "debug"}),
    ],
)
def test_a_log_level_goes_by_the_plain_name_only_where_all_agree(parts: Any, shown: dict[str, str]) -> None:
    assert actors.levels(parts) == shown


def test_a_worker_that_has_not_opened_yet_is_starting_and_one_that_has_is_unreachable() -> None:
    at = datetime(2026, 11, 24, tzinfo=UTC)
    row = WorkerRow("w1", "alpha 9b2 pid:[1]", 7, "", at, at, dead=False, shards=32)
    node = actors.registered(actors.worker_node("w1", None), row)
    assert (node["name"], node["state"], node["detail"]["host"], node["detail"]["open"]) == (
        "worker/w1",
        "starting",
        "alpha",
        None,
    )
    row.control = "http+unix://:key@/x.sock"
    assert actors.registered(actors.worker_node("w1", None), row)["state"] == "unreachable"


# --- the log


class Writer:
    """A worker's log as `hermes.logs` keeps it: numbers grow, and never fall below what was answered."""

    def __init__(self) -> None:
        self.seq = 0
        self.lines: list[int] = []

    def write(self, at: int) -> None:
        self.seq = max(self.seq + 1, at)
        self.lines.append(self.seq)

    def page(self, after: int, at: int) -> LogPage:
        self.seq = max(self.seq, at)
        lines = [LogLine(seq, "", "info", "x", str(seq), {}) for seq in self.lines if seq > after]
        return LogPage(lines, self.seq)


@given(st.lists(st.sampled_from(["a", "b", "look", "look b late"]), max_size=40))
def test_no_line_is_skipped_and_none_comes_twice_whenever_one_looks(steps: list[str]) -> None:
    writers = {"a": Writer(), "b": Writer()}
    seen: list[tuple[str, int]] = []
    last = now = 0
    for step in [*steps, "look", "look"]:
        now += 1
        if step in writers:
            writers[step].write(now)
            continue
        pages = [("a", writers["a"].page(last, now))]
        if step == "look b late":  # while it is asked, both go on writing
            writers["a"].write(now + 1)
            writers["b"].write(now + 1)
            now += 2
        pages.append(("b", writers["b"].page(last, now)))
        page = figures.log(pages, 500)
        seen += [(line.facts["worker"], line.seq) for line in page.data]
        assert page.last >= last
        last = page.last
    now += 1
    page = figures.log([(name, writer.page(last, now)) for name, writer in writers.items()], 500)
    seen += [(line.facts["worker"], line.seq) for line in page.data]
    assert len(set(seen)) == len(seen)
    assert sorted(seen) == sorted((name, seq) for name, writer in writers.items() for seq in writer.lines)
    assert [seq for _, seq in seen] == sorted(seq for _, seq in seen)
