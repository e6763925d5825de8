"""What leaves in its order, although some of it must be asked for first."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.lanes import Lanes, lane_of
from actors.messages import Job
from carriers.base import Submission
from hermes.domain.message import Content

AT = datetime(2026, 11, 24, tzinfo=UTC)
NOBODY: Any = None


def job(n: int, category: str = "otp", tenant: str = "ten_1", *, allowed: bool = False) -> Job:
    submission = Submission(
        f"msg_{n}", tenant, 0, 1, "sms", "+4520", None, Content(text="x"), category, AT, f"msg_{n}.0", 1, "gsm7"
    )
    return Job(submission, NOBODY, not allowed, allowed=allowed)


def added(*jobs: Job) -> Lanes:
    lanes = Lanes()
    for each in jobs:
        lanes.add(each)
    return lanes


def test_what_need_not_be_asked_for_waits_behind_what_must_be() -> None:
    asked, follows = job(1), job(2, allowed=True)
    lanes = added(asked)
    assert lanes.holds(follows)
    lanes.add(follows)
    assert lanes.allow(asked) == [asked, follows]
    assert not len(lanes) and not lanes.holds(follows)


def test_words_that_come_out_of_turn_change_no_order() -> None:
    jobs = [job(n) for n in range(4)]
    lanes = added(*jobs)
    assert lanes.allow(jobs[2]) == lanes.allow(jobs[1]) == []
    assert lanes.allow(jobs[0]) == jobs[:3]
    assert lanes.allow(jobs[3]) == jobs[3:]


@pytest.mark.parametrize("other", [job(9, "marketing", allowed=True), job(9, tenant="ten_2", allowed=True)])
def test_another_lane_waits_for_nobody(other: Job) -> None:
    assert not added(job(1)).holds(other)


def test_one_that_is_not_wanted_holds_nobody() -> None:
    first, second, third = job(1), job(2, allowed=True), job(3, allowed=True)
    lanes = added(first, second, third)
    assert lanes.remove(second) == []
    assert lanes.remove(first) == [third]


def test_one_that_hears_nothing_is_passed_by_and_leaves_when_it_hears() -> None:
    first, second = job(1), job(2, allowed=True)
    lanes = added(first, second)
    assert lanes.first(lane_of(first)) is first
    assert lanes.pass_by(lane_of(first)) == [second]
    assert lanes.first(lane_of(first)) is None
    assert first in lanes
    assert lanes.allow(first) == [first]
    assert lanes.allow(first) == []


def test_all_that_wait_are_given_up_once() -> None:
    jobs = [job(1), job(2), job(3, "marketing")]
    lanes = added(*jobs)
    lanes.pass_by(lane_of(jobs[0]))
    given_up = lanes.clear()
    assert set(given_up) == set(jobs) and len(given_up) == 3
    assert not len(lanes) and lanes.allow(jobs[0]) == []


@given(st.lists(st.tuples(st.sampled_from(["otp", "marketing"]), st.booleans()), max_size=12), st.randoms())
def test_each_lane_leaves_once_and_in_its_order(made: list[tuple[str, bool]], random: Any) -> None:
    lanes, left, asked = Lanes(), [], []
    jobs = [job(n, category, allowed=allowed) for n, (category, allowed) in enumerate(made)]
    for each in jobs:
        if not each.allowed:
            asked.append(each)
        if not each.allowed or lanes.holds(each):
            lanes.add(each)
        else:
            left.append(each)
        if asked and random.random() < 0.3:
            left += lanes.allow(asked.pop(random.randrange(len(asked))))
    random.shuffle(asked)
    for each in asked:
        left += lanes.allow(each)
    assert len(left) == len(jobs) and not len(lanes)
    for category in ("otp", "marketing"):
        mine = [each for each in left if each.submission.category == category]
        assert mine == [each for each in jobs if each.submission.category == category]
