"""One timer for many calls: each still ends when its own time is over, and only for that reason."""

import asyncio

import pytest

from carriers.http.deadlines import Deadlines


async def for_ever():
    await asyncio.Event().wait()


async def test_a_call_in_time_gives_its_result_or_its_error():
    deadlines = Deadlines(30)

    async def answer():
        await asyncio.sleep(0)
        return 7

    async def fail():
        await asyncio.sleep(0)
        raise KeyError("x")

    assert await deadlines.run(answer()) == 7
    with pytest.raises(KeyError):
        await deadlines.run(fail())
    deadlines.close()


async def test_every_call_that_takes_too_long_ends_by_itself():
    deadlines = Deadlines(0.02)

    async def timed_out():
        with pytest.raises(TimeoutError):
            await deadlines.run(for_ever())
        await asyncio.sleep(0)  # it is not cancelled any more
        return True

    assert await asyncio.gather(*(timed_out() for _ in range(50))) == [True] * 50
    assert await timed_out()  # the timer is set again
    assert len(deadlines) <= 1
    deadlines.close()


async def test_a_short_call_does_not_hide_a_long_one_behind_it():
    deadlines = Deadlines(0.02)

    async def one():
        with pytest.raises(TimeoutError):
            await deadlines.run(for_ever())

    await deadlines.run(asyncio.sleep(0))
    long = asyncio.ensure_future(one())
    for _ in range(100):
        await deadlines.run(asyncio.sleep(0))
    async with asyncio.timeout(5):
        await long
    deadlines.close()


async def test_a_cancellation_from_outside_stays_one():
    deadlines = Deadlines(30)
    task = asyncio.ensure_future(deadlines.run(for_ever()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    deadlines.close()


async def test_both_at_once_is_a_cancellation():
    deadlines = Deadlines(0.01)

    async def both():
        task = asyncio.current_task()
        assert task is not None
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            task.cancel()  # somebody else, while the time limit's cancellation is under way
            raise

    task = asyncio.ensure_future(deadlines.run(both()))
    with pytest.raises(asyncio.CancelledError):
        await task
    deadlines.close()


async def test_no_limit_lets_a_call_take_its_time():
    deadlines = Deadlines(0)
    assert await deadlines.run(asyncio.sleep(0.02, "done")) == "done"
    assert len(deadlines) == 0


async def test_calls_that_ended_are_forgotten():
    deadlines = Deadlines(30)
    for _ in range(1000):
        await deadlines.run(asyncio.sleep(0))
    assert len(deadlines) == 1
    deadlines.close()
