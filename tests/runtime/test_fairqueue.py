"""Fairness between keys, priority between lanes, order within."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.runtime import FairQueue


def queue(limit=1000, quantum=8):
    return FairQueue(["high", "normal"], limit, quantum)


def drain(fair):
    popped: list[Any] = []
    while (entry := fair.pop()) is not None:
        popped.append(entry)
    return popped


def test_urgent_lane_is_served_first_whoever_waits_below():
    fair = queue()
    fair.put("a", "normal", 1, "later")
    fair.put("b", "high", 1, "now")
    assert [entry.item for entry in drain(fair)] == ["now", "later"]


def test_key_with_a_flood_delays_another_by_at_most_its_quantum():
    fair = queue(quantum=4)
    for n in range(100):
        fair.put("flood", "normal", 1, n)
    fair.put("small", "normal", 1, "mine")
    items = [entry.item for entry in drain(fair)]
    assert items.index("mine") <= 4
    assert len(items) == 101


def test_shares_are_by_cost_not_by_count():
    fair = queue(quantum=4)
    for n in range(400):
        fair.put("long", "normal", 4, n)
        fair.put("short", "normal", 1, n)
    cost = {"long": 0, "short": 0}
    for _ in range(200):
        entry = fair.pop()
        cost[entry.key] += entry.cost
    assert abs(cost["long"] - cost["short"]) <= 8


def test_item_dearer_than_the_quantum_is_served_after_saving_up():
    fair = queue(quantum=2)
    fair.put("dear", "normal", 7, "big")
    for n in range(10):
        fair.put("cheap", "normal", 1, n)
    items = [entry.item for entry in drain(fair)]
    assert 0 < items.index("big") <= 8


def test_full_queue_answers_none_and_takes_again_after_a_pop():
    fair = queue(limit=2)
    assert fair.put("a", "normal", 1, 1) and fair.put("a", "normal", 1, 2)
    assert fair.full
    assert fair.put("b", "high", 1, 3) is None
    fair.pop()
    assert fair.put("b", "high", 1, 3) is not None


def test_put_front_restores_the_old_order():
    fair = queue()
    for n in range(4):
        fair.put("a", "normal", 1, n)
    first, second = fair.pop(), fair.pop()
    fair.put_front(second)
    fair.put_front(first)
    assert [entry.item for entry in drain(fair)] == [0, 1, 2, 3]


def test_put_front_is_taken_even_when_the_queue_is_full():
    fair = queue(limit=1)
    fair.put("a", "normal", 1, "first")
    entry = fair.pop()
    fair.put("b", "normal", 1, "second")
    fair.put_front(entry)
    assert len(fair) == 2
    assert fair.pop() is entry


def test_put_front_does_not_earn_its_key_more_than_its_share():
    fair = queue(quantum=1)
    for n in range(20):
        fair.put("again", "normal", 1, n)
        fair.put("other", "normal", 1, n)
    served = {"again": 0, "other": 0}
    for _ in range(20):
        entry = fair.pop()
        if entry.key == "again" and served["again"] % 2 == 0:
            fair.put_front(entry)
            entry = fair.pop()
        served[entry.key] += 1
    assert abs(served["again"] - served["other"]) <= 1


def test_put_front_of_a_queued_entry_is_refused():
    fair = queue()
    entry = fair.put("a", "normal", 1, "x")
    with pytest.raises(ValueError, match="still queued"):
        fair.put_front(entry)


def test_removed_entry_is_skipped_and_removing_it_again_says_no():
    fair = queue()
    first = fair.put("a", "normal", 1, 1)
    fair.put("a", "normal", 1, 2)
    assert fair.remove(first) is True
    assert fair.remove(first) is False
    assert len(fair) == 1
    assert [entry.item for entry in drain(fair)] == [2]
    assert fair.remove(first) is False


def test_idle_key_takes_no_memory():
    fair = queue(limit=10_000)
    for n in range(1000):
        entry = fair.put(f"tenant-{n}", "normal", 1, n)
        if n % 2:
            fair.remove(entry)
    drain(fair)
    lane = fair._lanes["normal"]
    assert not lane.lines and not lane.ring


def test_removing_without_popping_does_not_pile_up_dead_turns():
    """A queue that is only filled and withdrawn (a carrier that is down) must not grow."""
    fair = queue()
    fair.put("stays", "normal", 1, "x")
    for n in range(10_000):
        fair.remove(fair.put(f"key-{n}", "normal", 1, n))
    assert len(fair._lanes["normal"].ring) <= 100
    for _ in range(10_000):
        fair.remove(fair.put("stays", "normal", 1, n))
    assert len(fair._lanes["normal"].lines["stays"].entries) <= 100
    assert [entry.item for entry in drain(fair)] == ["x"]


def test_oldest_is_found_over_lanes_and_keys_without_the_removed():
    fair = queue()
    assert fair.oldest_at() is None
    oldest = fair.put("a", "normal", 1, "x", 1.0)
    fair.put("a", "normal", 1, "y", 3.0)
    fair.put("b", "high", 1, "z", 2.0)
    assert fair.oldest_at() == 1.0
    fair.remove(oldest)
    assert fair.oldest_at() == 2.0


@pytest.mark.parametrize(("lanes", "limit", "quantum"), [([], 1, 1), (["a", "a"], 1, 1), (["a"], 0, 1), (["a"], 1, 0)])
def test_meaningless_queue_is_refused(lanes, limit, quantum):
    with pytest.raises(ValueError, match="fair queue"):
        FairQueue(lanes, limit, quantum)


def test_cost_below_one_is_refused():
    with pytest.raises(ValueError, match="cost"):
        queue().put("a", "normal", 0, "x")


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from("abc"), st.sampled_from(["high", "normal"]), st.integers(1, 12)),
        st.tuples(st.just("pop")),
        st.tuples(st.just("remove"), st.integers(0, 50)),
        st.tuples(st.just("back"), st.integers(0, 50)),
    ),
    max_size=80,
)


@given(STEPS)
def test_nothing_is_lost_doubled_or_out_of_order_whatever_is_done(steps):
    fair = queue(limit=20, quantum=3)
    model: dict[Any, Any] = {}  # (key, lane) -> entries in order
    out: list[Any] = []
    for step in steps:
        if step[0] == "put":
            _, key, lane, cost = step
            entry = fair.put(key, lane, cost, object())
            assert (entry is None) == (sum(map(len, model.values())) >= 20)
            if entry is not None:
                model.setdefault((key, lane), []).append(entry)
        elif step[0] == "pop":
            entry = fair.pop()
            live = [line for line in model.values() if line]
            assert (entry is None) == (not live)
            if entry is not None:
                assert model[entry.key, entry.lane].pop(0) is entry
                if entry.lane == "normal":
                    assert not any(line for (_, lane), line in model.items() if lane == "high")
                out.append(entry)
        elif step[0] == "remove":
            live = [entry for line in model.values() for entry in line]
            if live:
                entry = live[step[1] % len(live)]
                assert fair.remove(entry)
                model[entry.key, entry.lane].remove(entry)
        elif out:
            entry = out.pop(step[1] % len(out))
            fair.put_front(entry)
            model.setdefault((entry.key, entry.lane), []).insert(0, entry)
        assert len(fair) == sum(map(len, model.values()))
    assert sorted(map(id, drain(fair))) == sorted(id(entry) for line in model.values() for entry in line)


def test_what_one_key_has_waiting_is_counted_over_all_lanes() -> None:
    queue = FairQueue(("otp", "marketing"), 10)
    first = queue.put("a", "otp", 1, 1)
    queue.put("a", "marketing", 3, 2)
    queue.put("b", "otp", 1, 3)
    assert [queue.waiting(key) for key in ("a", "b", "c")] == [2, 1, 0]
    assert first is not None and queue.remove(first)
    assert [queue.waiting(key) for key in ("a", "b", "c")] == [1, 1, 0]
