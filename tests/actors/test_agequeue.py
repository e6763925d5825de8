"""AgeQueue: who waits too long is told, in order, and one timer is enough for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.agequeue import AgeQueue
from hermes.runtime import Ref
from hermes.testing.clock import ManualClock

LIMIT_S = 10.0
MAIL = object()


class Waiting:
    """Stands in for a ref: notes when it was told."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.told: list[float] = []

    def send_system(self, message: object) -> None:
        assert message is MAIL
        self.told.append(self.clock.monotonic())


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def actor(clock: ManualClock) -> Callable[[], Any]:
    return lambda: Waiting(clock)


def test_each_is_told_once_when_its_time_is_over(clock: ManualClock, actor: Callable[[], Any]) -> None:
    queue = AgeQueue(clock, LIMIT_S, MAIL)
    first, second = actor(), actor()
    queue.join(first)
    clock.advance(3)
    queue.join(second)
    clock.advance(100)
    assert (first.told, second.told) == ([10.0], [13.0])
    assert len(queue) == 0


def test_who_left_is_not_told(clock: ManualClock, actor: Callable[[], Any]) -> None:
    queue = AgeQueue(clock, LIMIT_S, MAIL)
    gone, stays = actor(), actor()
    queue.join(gone)
    queue.join(stays)
    queue.leave(gone)
    queue.leave(gone)
    clock.advance(100)
    assert (gone.told, stays.told) == ([], [10.0])


def test_joining_again_begins_anew(clock: ManualClock, actor: Callable[[], Any]) -> None:
    queue = AgeQueue(clock, LIMIT_S, MAIL)
    one = actor()
    queue.join(one)
    clock.advance(9)
    queue.join(one)
    clock.advance(9)
    assert one.told == []
    clock.advance(1)
    assert one.told == [19.0]


def test_the_oldest_are_told_early_when_too_many_wait(clock: ManualClock, actor: Callable[[], Any]) -> None:
    queue = AgeQueue(clock, LIMIT_S, MAIL, most=2)
    waiting = [actor() for _ in range(5)]
    for one in waiting:
        queue.join(one)
    assert [one.told for one in waiting] == [[0.0], [0.0], [0.0], [], []]
    clock.advance(LIMIT_S)
    assert [one.told for one in waiting[3:]] == [[10.0], [10.0]]


def test_all_that_wait_share_one_timer(clock: ManualClock, actor: Callable[[], Any]) -> None:
    queue = AgeQueue(clock, LIMIT_S, MAIL)
    for _ in range(1000):
        queue.join(actor())
        clock.advance(0.001)
    assert clock.pending == 1


@given(
    st.lists(
        st.tuples(st.sampled_from(["join", "leave", "wait"]), st.integers(0, 3), st.floats(0, 20, allow_nan=False)),
        max_size=40,
    )
)
def test_nobody_is_told_early_late_or_twice(steps: list[tuple[str, int, float]]) -> None:
    clock = ManualClock()
    queue = AgeQueue(clock, LIMIT_S, MAIL)
    actors = [Waiting(clock) for _ in range(4)]
    since: dict[int, float] = {}
    expected: list[list[float]] = [[] for _ in actors]

    def pass_to(at: float) -> None:
        for n, began in list(since.items()):
            if began + LIMIT_S <= at:
                expected[n].append(began + LIMIT_S)
                del since[n]

    for step, n, seconds in steps:
        if step == "wait":
            clock.advance(seconds)
            pass_to(clock.monotonic())
        elif step == "join":
            queue.join(refs(actors)[n])
            since[n] = clock.monotonic()
        else:
            queue.leave(refs(actors)[n])
            since.pop(n, None)
    clock.advance(2 * LIMIT_S)
    pass_to(clock.monotonic())
    for one, times in zip(actors, expected, strict=True):
        assert one.told == pytest.approx(times, abs=0.002)


def refs(actors: list[Waiting]) -> list[Ref]:
    """What the queue takes for refs."""
    return actors  # type: ignore[return-value]
