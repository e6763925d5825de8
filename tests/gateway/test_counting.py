"""Counts that take longer than an answer may."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.counting import AT_ONCE, KEPT_S, Asked, Counting
from gateway.problems import Problem
from hermes.journal.base import JournalAway
from hermes.testing import ManualClock

ALL: Asked = (None, None, None, None)


class Journal:
    """Counts when it is told what came out; the rest of a journal is not asked for."""

    def __init__(self) -> None:
        self.available = True
        self.asked: list[Asked] = []
        self.answers: list[asyncio.Future[Mapping[str, int]]] = []

    async def count_messages(self, *asked: Any) -> Mapping[str, int]:
        self.asked.append(asked)
        answer: asyncio.Future[Mapping[str, int]] = asyncio.get_running_loop().create_future()
        self.answers.append(answer)
        return await answer


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def counting(journal: Journal, clock: ManualClock) -> Counting:
    return counting_in(journal, clock)


def counting_in(journal: Any, clock: ManualClock) -> Counting:
    return Counting(journal, clock)


async def refused(counting: Counting, asked: Asked = ALL) -> str:
    with pytest.raises(Problem) as caught:
        await counting.count(asked, within_s=0.0)
    return caught.value.code


async def test_a_slow_count_goes_on_and_who_asks_again_gets_it(counting: Counting, journal: Journal) -> None:
    assert await refused(counting) == await refused(counting) == "overloaded"
    again = asyncio.ensure_future(counting.count(ALL))
    await asyncio.sleep(0)
    journal.answers[0].set_result({"delivered": 7})
    assert await again == await counting.count(ALL) == {"delivered": 7}
    assert len(journal.asked) == 1


async def test_a_slow_count_is_made_anew_when_it_is_old(
    counting: Counting, journal: Journal, clock: ManualClock
) -> None:
    await refused(counting)
    journal.answers[0].set_result({"delivered": 7})
    assert await counting.count(ALL) == {"delivered": 7}
    await clock.elapse(KEPT_S + 1)
    assert await refused(counting) == "overloaded"
    assert len(journal.asked) == 2


async def test_a_quick_count_is_made_anew_each_time(clock: ManualClock) -> None:
    class Quick(Journal):
        async def count_messages(self, *asked: Any) -> Mapping[str, int]:
            self.asked.append(asked)
            return {"delivered": len(self.asked)}

    quick = counting_in(Quick(), clock)
    assert [await quick.count(ALL), await quick.count(ALL)] == [{"delivered": 1}, {"delivered": 2}]


async def test_a_journal_that_does_not_answer_is_away(counting: Counting, journal: Journal) -> None:
    journal.available = False
    assert await refused(counting) == "journal_away"


async def test_only_so_many_slow_counts_are_under_way(counting: Counting, journal: Journal) -> None:
    for n in range(AT_ONCE + 1):
        assert await refused(counting, (f"ten_{n}", None, None, None)) == "overloaded"
    assert len(journal.asked) == AT_ONCE
    journal.answers[0].set_result({})
    assert await counting.count(("ten_0", None, None, None)) == {}
    await refused(counting, ("ten_9", None, None, None))
    assert len(journal.asked) == AT_ONCE + 1


async def test_a_slow_count_that_fails_is_told_once_and_made_anew(counting: Counting, journal: Journal) -> None:
    await refused(counting)
    again = asyncio.ensure_future(counting.count(ALL))
    await asyncio.sleep(0)
    journal.answers[0].set_exception(JournalAway("gone"))
    with pytest.raises(Problem) as caught:
        await again
    assert caught.value.code == "journal_away"
    await refused(counting)
    assert len(journal.asked) == 2
