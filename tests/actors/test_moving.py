"""A carrier that goes from one living worker to another: two workers over one journal, real binds to a centre each."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any

import pytest

from actors.messages import Release
from hermes.domain.message import Content
from hermes.journal.memory import MemoryJournal
from hermes.smsc import Smsc
from tests.actors.cast import CastNode, start_cast
from tests.actors.test_courier import send, status
from tests.actors.test_smpp import centre, smpp, view

BOTH = {"alpha", "beta"}
SLOWLY = 5.0  # messages a second: much slower than they are accepted, so that some wait
ACTOR = "smpp/alpha/dispatcher"


@dataclass
class Two:
    """The first worker holds both carriers, the second none. Messages go by alpha while it is fit."""

    alpha: Smsc
    beta: Smsc
    first: CastNode
    second: CastNode
    monkeypatch: pytest.MonkeyPatch

    def let_move(self) -> None:
        """From now on a carrier moves as soon as somebody looks."""
        self.monkeypatch.setattr("actors.leases.STEADY_S", 0.0)

    async def moved(self, name: str = "alpha") -> None:
        await self.first.until(lambda: self.second.context.held == {name}, 30.0)
        await self.first.until(lambda: self.first.context.held == BOTH - {name})
        await self.first.until(lambda: held_by(self.first, name) == self.second.journal.worker_id)

    def sent(self) -> list[str]:
        """The numbers that alpha's centre took messages for, in order."""
        return [message.destination for message in self.alpha.messages]


def held_by(node: CastNode, name: str) -> str | None:
    if node.system.whereis(f"smpp/{name}/dispatcher") is None:
        return None  # just changing
    found: str | None = view(node, name).get("held_by")
    return found


def both_carriers(one: Smsc, other: Smsc, **options: Any) -> list[Any]:
    return [smpp(one, "alpha", **options), smpp(other, "beta")]


@asynccontextmanager
async def two(
    monkeypatch: pytest.MonkeyPatch, how: dict[str, Any] | None = None, pace: float = 0.0, **options: Any
) -> AsyncIterator[Two]:
    """Options are alpha's, `how` its centre's, `pace` its pace at the first worker. Nothing moves until `let_move`."""
    monkeypatch.setattr("actors.leases.STEADY_S", inf)
    monkeypatch.setattr("actors.leases.LOOK_EVERY_S", 0.05)
    async with centre(**(how or {})) as alpha, centre() as beta:
        journal = MemoryJournal(worker_id="worker-1")
        await journal.start()
        first = await start_cast(both_carriers(alpha, beta, throughput_per_s=pace, **options), journal)
        peer = journal.peer("worker-2")
        await peer.start()
        second = await start_cast(both_carriers(alpha, beta, **options), peer)
        try:
            assert (first.context.held, second.context.held) == (BOTH, set())
            await first.until(lambda: held_by(second, "alpha") == "worker-1" == held_by(second, "beta"), 30.0)
            await alpha.wait_for_binds()
            await beta.wait_for_binds()
            yield Two(alpha, beta, first, second, monkeypatch)
        finally:
            await second.stop()
            await first.stop()


async def delivered(node: CastNode, ids: list[str]) -> bool:
    return [(await node.final(id_, 30.0)).status for id_ in ids] == ["delivered"] * len(ids)


@pytest.mark.parametrize("policy", ["resend", "never"])
async def test_what_waits_for_a_carrier_moves_with_it_in_its_order_and_is_sent_once(
    monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    async with two(monkeypatch, pace=SLOWLY) as both:
        texts: list[str] = []
        ids: list[str] = []

        async def post() -> None:
            texts.append(f"no. {len(texts)}")
            ids.extend(await send(both.first, content=Content(text=texts[-1]), on_ambiguous=policy))

        async with asyncio.TaskGroup() as tasks:
            while view(both.first, "alpha")["queue"] <= 20:
                await post()
            both.let_move()
            moved = tasks.create_task(both.moved())
            while not moved.done():  # also while nobody is there who takes them
                await post()
        assert await delivered(both.first, ids)
        assert [message.text for message in both.alpha.messages] == texts
        assert not both.beta.messages  # they waited, and did not go elsewhere
        assert both.second.system.info("smpp/alpha/intake").detail["left_in_doubt"] == 0


async def test_what_the_other_worker_had_handed_over_is_sent_by_it_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(monkeypatch, pace=SLOWLY) as both:
        theirs = await send(both.second, 60, on_ambiguous="never")
        await both.first.until(lambda: both.first.system.info("smpp/alpha/intake").detail["in_hand"] > 20)
        both.let_move()
        await both.moved()
        assert await delivered(both.second, theirs)
        assert set(Counter(both.sent()).values()) == {1} and len(both.sent()) == 60
        assert not both.beta.messages
        assert both.second.system.info("smpp/alpha/intake").detail["left_in_doubt"] == 0


async def test_what_is_being_taken_when_a_carrier_is_let_go_of_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(monkeypatch) as both:
        journal = both.first.journal
        take, taken, go_on = journal.take_handovers, asyncio.Event(), asyncio.Event()

        async def slowly(*what: Any, **how: Any) -> Any:
            found = await take(*what, **how)
            if found:
                taken.set()
                await go_on.wait()
            return found

        monkeypatch.setattr(journal, "take_handovers", slowly)
        (id_,) = await send(both.second, on_ambiguous="never")
        await taken.wait()
        async with asyncio.TaskGroup() as tasks:
            giving = tasks.create_task(
                both.first.fleet.give("alpha", partial(journal.give_carrier, "alpha", "worker-2"))
            )
            await both.first.until(lambda: "alpha" in both.first.context.leaving)
            go_on.set()
        assert giving.result() is None
        assert await delivered(both.second, [id_])
        assert len(both.alpha.messages) == 1
        assert both.second.system.info("smpp/alpha/intake").detail["received"] == 1


async def test_the_new_holder_sends_and_both_say_why_it_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(monkeypatch) as both:
        both.let_move()
        await both.moved()
        systems = both.first.system, both.second.system
        await both.first.until(lambda: all(system.info("leases").detail["moved"] for system in systems))
        given, taken = view(both.first, "alpha")["moved"], view(both.second, "alpha")["moved"]
        assert given.startswith("given to worker worker-2 at ") and given.endswith(": it held 2 fewer")
        assert taken.startswith("given by worker worker-1 at ") and taken.endswith(": it held 2 more")
        assert both.first.system.info("leases").detail["given"] == 1
        assert both.second.system.info("leases").detail["moved"] == {"alpha": taken}
        for node in (both.first, both.second):
            assert await delivered(node, await send(node, 3))
        assert (len(both.alpha.messages), len(both.beta.messages)) == (6, 0)
        await both.alpha.wait_until(lambda: len(both.alpha.bound_now()) == 1)


async def test_while_workers_come_and_go_nothing_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(monkeypatch) as both:
        looks = Counter[str]()
        for node in (both.first, both.second):
            look = node.journal.carrier_leases

            async def counted(who: str = node.journal.worker_id, look: Any = look) -> Any:
                looks[who] += 1
                return await look()

            monkeypatch.setattr(node.journal, "carrier_leases", counted)
        await both.first.until(lambda: min(looks["worker-1"], looks["worker-2"]) > 5)
        assert (both.first.context.held, both.second.context.held) == (BOTH, set())


async def test_a_carrier_that_is_down_stays_and_another_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(monkeypatch) as both:
        await both.alpha.go_away()
        await both.first.until(lambda: view(both.first, "alpha")["state"] == "down")
        await both.first.until(lambda: view(both.second, "alpha")["state"] == "down")
        both.let_move()
        await both.moved("beta")


async def test_a_carrier_that_does_not_answer_in_time_stays_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.fleet.RELEASE_S", 0.1)
    async with two(monkeypatch, {"response_delay_s": 1.5}) as both:
        under_way = await send(both.first, on_ambiguous="never")
        await both.alpha.wait_until(lambda: len(both.alpha.submits) == 1)
        both.let_move()
        await both.moved("beta")
        both.alpha.configure(response_delay_s=0.0)
        assert await delivered(both.first, under_way)
        assert await delivered(both.first, await send(both.first, 2))
        assert len(both.alpha.messages) == 3


async def test_a_carrier_whose_answers_may_still_come_late_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(monkeypatch, {"response_delay_s": 60.0}, response_timeout_s=1.0) as both:
        (id_,) = await send(both.first, on_ambiguous="never")

        async def doubtful() -> bool:
            return (await status(both.first, id_))[-1] == "ambiguous"

        await both.first.until(doubtful)
        assert await both.first.system.call(ACTOR, Release()) == "answers that are late may still come"


async def test_a_carrier_goes_on_where_it_is_when_the_other_worker_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with two(monkeypatch) as both:

        async def gone() -> bool:
            return False

        assert await both.first.fleet.give("alpha", gone) == "the other worker is gone"
        await both.first.until(lambda: both.first.context.held == BOTH)
        assert await delivered(both.first, await send(both.first, 3))
        assert len(both.alpha.messages) == 3 and not both.beta.messages


async def test_an_actor_that_ends_while_it_lets_go_leaves_the_carrier_where_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with two(monkeypatch, {"response_delay_s": 1.0}) as both:
        ids = await send(both.first, 5)
        await both.alpha.wait_until(lambda: len(both.alpha.submits) == 5)

        async def never() -> bool:
            raise AssertionError("it is not let go of")

        async with asyncio.TaskGroup() as tasks:
            giving = tasks.create_task(both.first.fleet.give("alpha", never))
            await both.first.until(lambda: "alpha" in both.first.context.leaving)
            dispatcher = both.first.system.whereis(ACTOR)
            assert dispatcher is not None
            dispatcher.stop(RuntimeError("a bug"))
        assert str(giving.result()).startswith("its actor did not answer: ")
        ids += await send(both.first, 3, on_ambiguous="never")
        assert await delivered(both.first, ids)
        assert set(Counter(message.text for message in both.alpha.messages).values()) == {8}
        assert (both.first.context.held, both.first.context.leaving) == (BOTH, set())
