"""A pool says when it is full, and what was lost."""

import asyncio
from typing import Any

import pytest

from hermes.runtime import (
    Intensity,
    MailboxFull,
    NotAlive,
    Pool,
    PoolWorker,
    RestartsExceeded,
    SendResult,
    WorkLost,
)
from tests.runtime.cast import Boom


class Square(PoolWorker):
    """Squares numbers; waits at the gate when there is one; dies of strings."""

    def __init__(self, gate=None, done=None):
        self.gate = gate
        self.done_items = done if done is not None else []

    def work(self, item):
        if isinstance(item, str):
            raise Boom(item)
        self.done_items.append(item)
        return item * item if self.gate is None else self.waiting(item)

    async def waiting(self, item):
        await self.gate.acquire()
        if item < 0:
            raise Boom(item)
        return item * item


async def test_work_is_done_and_its_value_returned(system):
    pool = system.spawn(Pool, Square, 2)
    assert await asyncio.gather(*(pool.call(n) for n in range(10))) == [n * n for n in range(10)]
    assert system.info(pool).detail["done"] == 10


async def test_each_worker_has_one_piece_in_hand(system, clock):
    gate = asyncio.Semaphore(0)
    done: list[Any] = []
    pool = system.spawn(Pool, Square, 3, (gate, done))
    for n in range(10):
        pool.send(n)
    await clock.settle()
    assert done == [0, 1, 2] and pool.mailbox == 7
    gate.release()
    await clock.settle()
    assert done == [0, 1, 2, 3]


async def test_full_pool_answers_full_to_the_sender(system, clock):
    """Ergo drops the message."""
    pool = system.spawn(Pool, Square, 2, (asyncio.Semaphore(0),), mailbox_limit=3)
    pool.send(0), pool.send(1)
    await clock.settle()
    assert [pool.send(n) for n in range(4)] == [SendResult.DELIVERED] * 3 + [SendResult.FULL]
    with pytest.raises(MailboxFull):
        await pool.call(9)


async def test_dead_worker_is_replaced_and_what_it_had_in_hand_is_reported(system, clock):
    lost: list[Any] = []
    pool = system.spawn(lambda: Pool(Square, 2, lost=lambda work, why: lost.append((work, type(why)))))
    pool.send("poison")
    await clock.settle()
    assert lost == [("poison", Boom)]
    with pytest.raises(WorkLost) as caught:
        await pool.call("poison")
    assert caught.value.work == "poison" and isinstance(caught.value.reason, Boom)
    assert await asyncio.gather(*(pool.call(n) for n in range(5))) == [0, 1, 4, 9, 16]
    assert len(system.info(pool).children) == 2


async def test_lost_work_is_not_run_again(system, clock):
    gate = asyncio.Semaphore(0)
    done: list[Any] = []
    pool = system.spawn(Pool, Square, 1, (gate, done))
    pool.send(-1), pool.send(2)
    await clock.settle()
    for _ in range(2):
        gate.release()
    await clock.settle()
    assert done == [-1, 2]


async def test_pool_whose_workers_keep_dying_gives_up(system, clock):
    pool = system.spawn(Pool, Square, 1, (), Intensity(2, 5.0))
    for _ in range(3):
        pool.send("poison")
        await clock.settle()
    assert isinstance(pool.reason, RestartsExceeded)


async def test_end_of_the_pool_answers_all_who_wait(system, clock):
    pool = system.spawn(Pool, Square, 1, (asyncio.Semaphore(0),))
    calls = [asyncio.ensure_future(pool.call(n)) for n in range(3)]
    await clock.settle()
    pool.stop()
    await clock.settle()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(answer, NotAlive) for answer in answers)


async def test_worker_killed_while_free_is_replaced(system, clock):
    pool = system.spawn(Pool, Square, 1)
    system.info(pool).children[0].kill()
    assert await pool.call(3) == 9  # the call is taken back and given to the new one
    assert len(system.info(pool).children) == 1
