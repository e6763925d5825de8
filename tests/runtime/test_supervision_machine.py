"""Supervision against a model, and over random trees.

No child lost, none twice, order kept, intensity exact.
"""

import asyncio
import logging
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hermes.runtime import (
    ChildDisabled,
    ChildSpec,
    DisableChild,
    EnableChild,
    Intensity,
    ListChildren,
    Phase,
    Restart,
    RestartChild,
    Strategy,
    Supervisor,
    System,
)
from hermes.testing import ManualClock
from tests.runtime.cast import Worker

STATIC = [Strategy.ONE_FOR_ONE, Strategy.ALL_FOR_ONE, Strategy.REST_FOR_ONE]
FEW = settings(max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))


class Machine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.log_level = logging.getLogger("hermes.runtime").level
        logging.getLogger("hermes.runtime").setLevel(logging.CRITICAL + 1)

    def run(self, coroutine):
        return self.runner.run(coroutine)

    def teardown(self):
        self.runner.close()
        logging.getLogger("hermes.runtime").setLevel(self.log_level)


class OneSupervisor(Machine):
    """One supervisor, any strategy and mix of children, compared step by step with a model."""

    @initialize(
        strategy=st.sampled_from(STATIC),
        restarts=st.lists(st.sampled_from(Restart), min_size=1, max_size=5),
        most=st.integers(0, 3),
    )
    def begin(self, strategy, restarts, most):
        self.strategy, self.most = strategy, most
        self.restart = dict(enumerate(restarts))
        self.diary: list[Any] = []
        self.expected: list[Any] = []
        self.up = set(self.restart)
        self.disabled, self.gone = set(), set()
        self.counted, self.alive = [], True

        async def start():
            self.system = System(self.clock)
            children = [ChildSpec(str(n), Worker, (self.diary, n), restart) for n, restart in self.restart.items()]
            self.sup = self.system.spawn(Supervisor, strategy, children, Intensity(most, 5.0))

        self.run(start())
        self.expected += [("init", n) for n in sorted(self.up)]

    def model_end(self, n, abnormal):
        self.expected.append(("end", n))
        self.up.discard(n)
        restart = self.restart[n]
        if restart is Restart.TEMPORARY or (restart is Restart.TRANSIENT and not abnormal):
            if restart is Restart.TEMPORARY:
                self.gone.add(n)
            return
        now = self.clock.monotonic()
        self.counted = [at for at in self.counted if at >= now - 5.0] + [now]
        if len(self.counted) > self.most:
            self.alive = False
            self.expected += [("end", m) for m in sorted(self.up, reverse=True)]
            self.up.clear()
            return
        along = set()
        if self.strategy is Strategy.ALL_FOR_ONE:
            along = set(self.up)
        elif self.strategy is Strategy.REST_FOR_ONE:
            along = {m for m in self.up if m > n}
        self.expected += [("end", m) for m in sorted(along, reverse=True)]
        self.gone |= {m for m in along if self.restart[m] is Restart.TEMPORARY}
        back = sorted({n} | {m for m in along if self.restart[m] is not Restart.TEMPORARY})
        self.expected += [("init", m) for m in back]
        self.up = (self.up - along) | set(back)

    async def send(self, n, message):
        self.system.send(str(n), message)
        await self.clock.settle()

    async def order(self, request):
        call = asyncio.ensure_future(self.sup.call(request))
        await self.clock.settle()
        assert call.done()
        return await call

    @precondition(lambda self: self.up)
    @rule(pick=st.integers(0, 100), message=st.sampled_from(["crash", "stop"]))
    def child_ends(self, pick, message):
        n = sorted(self.up)[pick % len(self.up)]
        self.model_end(n, message == "crash")
        self.run(self.send(n, message))

    @rule(seconds=st.sampled_from([0.5, 2.0, 5.0, 6.0]))
    def time_passes(self, seconds):
        self.run(self.clock.elapse(seconds))

    def known(self):
        return sorted(set(self.restart) - self.gone)

    @precondition(lambda self: self.alive and self.known())
    @rule(pick=st.integers(0, 100))
    def child_is_disabled(self, pick):
        n = self.known()[pick % len(self.known())]
        if n in self.up:
            self.expected.append(("end", n))
            self.up.discard(n)
        self.disabled.add(n)
        self.run(self.order(DisableChild(str(n))))

    @precondition(lambda self: self.alive and self.known())
    @rule(pick=st.integers(0, 100))
    def child_is_enabled(self, pick):
        n = self.known()[pick % len(self.known())]
        self.disabled.discard(n)
        if n not in self.up:
            self.expected.append(("init", n))
            self.up.add(n)
        self.run(self.order(EnableChild(str(n))))

    @precondition(lambda self: self.alive and self.known())
    @rule(pick=st.integers(0, 100))
    def child_is_restarted_by_hand(self, pick):
        n = self.known()[pick % len(self.known())]
        if n in self.disabled:
            with pytest.raises(ChildDisabled):
                self.run(self.order(RestartChild(str(n))))
            return
        if n in self.up:
            self.expected.append(("end", n))
        self.expected.append(("init", n))
        self.up.add(n)
        self.run(self.order(RestartChild(str(n))))

    @invariant()
    def supervisor_and_model_agree(self):
        if not hasattr(self, "sup"):
            return
        assert self.sup.alive == self.alive
        assert self.diary == self.expected  # every start and end, in this very order
        assert set(self.system.registry) == {str(n) for n in self.up}
        if self.alive:
            infos = self.run(self.order(ListChildren()))
            assert [info.name for info in infos] == [str(n) for n in self.known()]
            assert {int(info.name) for info in infos if info.phase is Phase.UP} == self.up
            family = list(self.sup._rare or ())
            assert len(family) == len(self.up) == (self.sup._rare.count if self.sup._rare else 0)


class Slow(Worker):
    """Takes a tenth of a second to end."""

    async def terminate(self, reason):
        done = asyncio.Event()
        self.system.clock.call_later(0.1, done.set)
        await done.wait()
        self.diary.append(("end", self.label))


class SlowBoth(Slow):
    """And a tenth to start."""

    async def init(self):
        done = asyncio.Event()
        self.system.clock.call_later(0.1, done.set)
        await done.wait()
        super().init()


class RandomTree(Machine):
    """Any tree of supervisors and workers, quick and slow; ends of all sorts, several at a time."""

    @initialize(data=st.data())
    def begin(self, data):
        self.diary: list[Any] = []
        self.names: list[str] = []
        self.permanent: dict[str, bool] = {}

        def specs(prefix, depth):
            children: list[Any] = []
            for n in range(data.draw(st.integers(1, 3))):
                name = f"{prefix}{n}"
                restart = data.draw(st.sampled_from([Restart.PERMANENT, Restart.PERMANENT, *Restart]))
                self.names.append(name)
                self.permanent[name] = restart is Restart.PERMANENT
                if depth and data.draw(st.booleans()):
                    args = (
                        data.draw(st.sampled_from(STATIC)),
                        specs(name + ".", depth - 1),
                        Intensity(3, 5.0),
                    )
                    children.append(ChildSpec(name, Supervisor, args, restart))
                else:
                    kind = data.draw(st.sampled_from([Worker, Worker, Slow, SlowBoth]))
                    children.append(ChildSpec(name, kind, (self.diary,), restart))
            return children

        top = specs("", 2)
        strategy = data.draw(st.sampled_from(STATIC))

        async def start():
            self.system = System(self.clock)
            starting = asyncio.ensure_future(
                self.system.spawn_async(Supervisor, strategy, top, Intensity(1000, 5.0), name="top")
            )
            await self.clock.elapse(3.0)
            self.top = await starting

        self.run(start())

    @rule(
        picks=st.lists(
            st.tuples(st.integers(0, 100), st.sampled_from(["crash", "stop", "order", "kill"])),
            min_size=1,
            max_size=4,
        ),
        between=st.sampled_from([0.0, 0.03, 0.1, 0.15]),
    )
    def actors_end(self, picks, between):
        async def act():
            for pick, how in picks:
                ref = self.system.whereis(self.names[pick % len(self.names)])
                if ref is None:
                    continue
                if how == "order":
                    ref.stop()
                elif how == "kill":
                    ref.kill()
                else:
                    ref.send(how)
                await self.clock.elapse(between)

        self.run(act())

    @rule(picks=st.lists(st.integers(0, 100), min_size=1, max_size=3))
    def supervisors_are_asked_for_restarts(self, picks):
        async def act():
            calls: list[Any] = []
            for pick in picks:
                name = self.names[pick % len(self.names)]
                ref = self.system.whereis(name)
                if ref is not None and ref.parent is not None:
                    calls.append(asyncio.ensure_future(ref.parent.call(RestartChild(name))))
            await self.clock.elapse(10.0)
            await asyncio.gather(*calls, return_exceptions=True)

        self.run(act())

    @invariant()
    def tree_comes_to_rest_whole(self):
        if not hasattr(self, "top"):
            return
        self.run(self.clock.elapse(20.0))
        assert self.top.alive
        seen: list[Any] = []

        def walk(ref):
            family = list(ref._rare or ())
            assert len(family) == (ref._rare.count if ref._rare is not None else 0)
            for child in family:
                assert child.alive and child.parent is ref and child.state == "sleep"
                seen.append(child.name)
                walk(child)
            if isinstance(ref._actor, Supervisor):
                up = {info.name for info in ref._actor.children() if info.phase is Phase.UP}
                assert up == {child.name for child in family}
                for info in ref._actor.children():
                    if self.permanent[info.name]:
                        assert info.phase is Phase.UP  # none lost

        walk(self.top)
        assert len(seen) == len(set(seen))  # none twice
        assert set(self.system.registry) == {*seen, "top"}
        assert not self.system._orphans and len(self.system.wheel) == 0

    def teardown(self):
        if hasattr(self, "top"):
            living = [
                name
                for name in self.names
                if (ref := self.system.whereis(name)) is not None and isinstance(ref._actor, Worker)
            ]
            self.diary.clear()

            async def end():
                ending = asyncio.ensure_future(self.system.shutdown())
                await self.clock.elapse(30.0)
                await ending

            self.run(end())
            ends = [label for did, label in self.diary if did == "end"]
            # Names sort as the specs do (a tree's preorder): stopped last first, each once.
            assert ends == sorted(living, reverse=True)
            assert not self.system.registry and self.system.tree()["children_total"] == 0
        super().teardown()


class SimpleFamily(Machine):
    """A simple_one_for_one: starts and ends in any mix, each child with its own arguments."""

    @initialize(restart=st.sampled_from(Restart))
    def begin(self, restart):
        self.restart, self.expected, self.next = restart, {}, 0
        machine = self

        class Family(Supervisor):
            def __init__(self):
                spec = ChildSpec("child", Worker, ([],), restart)
                super().__init__(Strategy.SIMPLE_ONE_FOR_ONE, [spec], Intensity(10_000, 5.0))

            def child_ended(self, ref, reason):
                machine.told.append(ref.name)

        async def start():
            self.system = System(self.clock)
            self.family = Family()
            self.sup = self.system.spawn(lambda: self.family)

        self.told = []
        self.run(start())

    @rule(count=st.integers(1, 5))
    def children_are_started(self, count):
        for _ in range(count):
            name = f"c{self.next}"
            self.family.start_child(self.next, name=name)
            self.expected[name] = self.next
            self.next += 1

    @rule(
        picks=st.lists(st.integers(0, 100), min_size=1, max_size=4),
        message=st.sampled_from(["crash", "stop"]),
    )
    def children_end(self, picks, message):
        for pick in picks:
            if not self.expected:
                return
            name = sorted(self.expected)[pick % len(self.expected)]
            self.run(self.send(name, message))
            lives_on = self.restart is Restart.PERMANENT or (self.restart is Restart.TRANSIENT and message == "crash")
            if not lives_on:
                del self.expected[name]
                assert self.told.pop() == name
            assert not self.told

    async def send(self, name, message):
        self.system.send(name, message)
        await self.clock.settle()

    @invariant()
    def every_child_is_there_once_with_its_own_argument(self):
        if not hasattr(self, "sup"):
            return

        async def ask():
            asked = {name: asyncio.ensure_future(self.system.call(name, "?")) for name in self.expected}
            await self.clock.settle()
            return {name: (await call)[1] for name, call in asked.items()}

        assert self.run(ask()) == self.expected
        assert len(self.sup._rare or ()) == len(self.expected)
        assert set(self.system.registry) == set(self.expected)
        supervision = self.family._supervision
        temporary = self.restart is Restart.TEMPORARY
        assert len(supervision.kept) == len(supervision.by_ref) == (0 if temporary else len(self.expected))


TestOneSupervisor = OneSupervisor.TestCase
TestOneSupervisor.settings = FEW
TestRandomTree = RandomTree.TestCase
TestRandomTree.settings = FEW
TestSimpleFamily = SimpleFamily.TestCase
TestSimpleFamily.settings = FEW
