"""Supervisors at work; among them what is wrong in Ergo, each by name."""

import asyncio
import re
from typing import Any

import pytest

from hermes.runtime import (
    BRUTAL,
    KILL,
    NORMAL,
    SHUTDOWN,
    Actor,
    AddChild,
    AsyncInit,
    Backoff,
    ChildDisabled,
    ChildSpec,
    DisableChild,
    EnableChild,
    Intensity,
    ListChildren,
    NotAlive,
    Phase,
    RemoveChild,
    Restart,
    RestartChild,
    RestartsExceeded,
    StartChild,
    Strategy,
    Supervisor,
    UnknownChild,
)
from tests.runtime.cast import Boom, SlowEnd, SlowStart, Stubborn, Worker, lives

ONE, ALL, REST = Strategy.ONE_FOR_ONE, Strategy.ALL_FOR_ONE, Strategy.REST_FOR_ONE
SIMPLE = Strategy.SIMPLE_ONE_FOR_ONE
PLENTY = Intensity(100, 5.0)


def specs(diary, *names, factory=Worker, **options):
    return [ChildSpec(name, factory, (diary,), **options) for name in names]


def supervise(system, strategy, children, intensity=PLENTY, **options):
    return system.spawn(Supervisor, strategy, children, intensity, name="sup", **options)


class Simple(Supervisor):
    """A simple_one_for_one with messages and requests of its own."""

    def __init__(self, spec, intensity=PLENTY, auto_shutdown=False):
        super().__init__(SIMPLE, [spec], intensity, auto_shutdown)
        self.ended = []

    def handle_call(self, request, reply):
        return self.start_child(*request[1:], name=request[0])

    def child_ended(self, ref, reason):
        self.ended.append((ref, reason, self.system.whereis(ref.name) if ref.name else None))


# -- strategies


@pytest.mark.parametrize(
    ("strategy", "crashed", "ended", "started"),
    [
        (ONE, "b", ["b"], ["b"]),
        (ALL, "b", ["b", "d", "c", "a"], ["a", "b", "c", "d"]),
        (REST, "b", ["b", "d", "c"], ["b", "c", "d"]),
        (REST, "d", ["d"], ["d"]),
    ],
)
async def test_crash_restarts_whom_the_strategy_says_in_order(system, clock, strategy, crashed, ended, started):
    diary: list[Any] = []
    supervise(system, strategy, specs(diary, *"abcd"))
    assert lives(diary, "init") == list("abcd")
    diary.clear()
    before = {name: system.whereis(name) for name in "abcd"}
    system.send(crashed, "crash")
    await clock.settle()
    assert lives(diary, "end") == ended and lives(diary, "init") == started
    assert [name for name in "abcd" if system.whereis(name) is not before[name]] == started
    last_end = max(i for i, (what, _) in enumerate(diary) if what == "end")
    first_start = min(i for i, (what, _) in enumerate(diary) if what == "init")
    assert last_end < first_start


@pytest.mark.parametrize(
    ("restart", "message", "restarted"),
    [
        (Restart.PERMANENT, "stop", True),
        (Restart.PERMANENT, "crash", True),
        (Restart.TRANSIENT, "stop", False),
        (Restart.TRANSIENT, "crash", True),
        (Restart.TEMPORARY, "stop", False),
        (Restart.TEMPORARY, "crash", False),
    ],
)
async def test_restart_type_decides(system, clock, restart, message, restarted):
    supervise(system, ONE, specs([], "a", restart=restart))
    first = system.whereis("a")
    system.send("a", message)
    await clock.settle()
    second = system.whereis("a")
    assert not first.alive
    assert (second is not None and second is not first) == restarted


async def test_supervisor_stops_its_children_in_reverse_one_after_the_other(system, clock):
    diary: list[Any] = []
    children = [*specs(diary, "a"), *specs(diary, "slow", factory=SlowEnd), *specs(diary, "c")]
    sup = supervise(system, ONE, children)
    gate = system.whereis("slow")._actor.gate
    sup.stop()
    await clock.settle()
    assert lives(diary, "end") == ["c"]  # a waits for slow
    gate.set()
    await clock.settle()
    assert lives(diary, "end") == ["c", "slow", "a"]
    assert sup.reason is NORMAL


async def test_name_is_free_before_the_restart_and_a_slow_cleanup_is_waited_for(system, clock):
    diary: list[Any] = []
    supervise(system, ONE, specs(diary, "a", factory=SlowEnd))
    first = system.whereis("a")
    gate = first._actor.gate
    first.stop()
    await clock.settle()
    assert lives(diary, "init") == ["a"]  # not restarted yet: the old one still cleans up
    gate.set()
    await clock.settle()
    assert lives(diary, "init") == ["a", "a"]


# -- intensity


@pytest.mark.parametrize("most", [0, 1, 3])
async def test_more_restarts_than_allowed_end_the_supervisor(system, clock, most):
    diary: list[Any] = []
    sup = supervise(system, ONE, specs(diary, "a", "b"), Intensity(most, 5.0))
    for n in range(most):
        system.send("a" if n % 2 else "b", "crash")  # one window for all children
        await clock.settle()
        assert sup.alive
    system.send("a", "crash")
    await clock.settle()
    assert isinstance(sup.reason, RestartsExceeded) and isinstance(sup.reason.cause, Boom)
    assert system.whereis("b") is None and lives(diary, "init").count("a") + lives(diary, "init").count("b") == 2 + most


async def test_intensity_zero_allows_none(system, clock):
    """In Ergo 0 means 5."""
    sup = supervise(system, ONE, specs([], "a"), Intensity(0, 5.0))
    system.send("a", "crash")
    await clock.settle()
    assert not sup.alive


async def test_restarts_further_apart_than_the_period_are_never_too_many(system, clock):
    sup = supervise(system, ONE, specs([], "a"), Intensity(1, 5.0))
    for _ in range(10):
        system.send("a", "crash")
        await clock.settle()
        clock.advance(5.1)
    assert sup.alive


async def test_whole_all_for_one_cycle_counts_once(system, clock):
    sup = supervise(system, ALL, specs([], *"abcde"), Intensity(1, 5.0))
    system.send("c", "crash")
    await clock.settle()
    assert sup.alive
    system.send("c", "crash")
    await clock.settle()
    assert not sup.alive


async def test_second_death_while_a_cycle_stops_is_not_counted_and_does_no_harm(system, clock):
    """With kept order, a second death while stopping panics in Ergo."""
    diary: list[Any] = []
    children = [*specs(diary, "a", "b"), *specs(diary, "slow", factory=SlowEnd), *specs(diary, "d")]
    sup = supervise(system, ALL, children, Intensity(1, 5.0))
    gate = system.whereis("slow")._actor.gate
    system.send("d", "crash")
    await clock.settle()
    system.send("a", "crash")  # slow is being stopped
    await clock.settle()
    gate.set()
    await clock.settle()
    assert sup.alive
    assert sorted(lives(diary, "init")) == sorted(["a", "b", "slow", "d"] * 2)
    assert lives(diary, "init")[4:] == ["a", "b", "slow", "d"]


async def test_earlier_sibling_that_dies_while_later_ones_stop_is_restarted(system, clock):
    """rest_for_one in Ergo forgets it."""
    diary: list[Any] = []
    children = [*specs(diary, "a", "b"), *specs(diary, "slow", factory=SlowEnd)]
    sup = supervise(system, REST, children)
    gate = system.whereis("slow")._actor.gate
    system.send("b", "crash")
    await clock.settle()
    system.send("a", "crash")
    await clock.settle()
    gate.set()
    await clock.settle()
    assert [child.phase for child in await sup.call(ListChildren())] == [Phase.UP] * 3
    assert lives(diary, "init")[3:] == ["a", "b", "slow"]


# -- starting


class FailingFirst(Worker):
    """Its init fails as often as the list in args[0] says."""

    def init(self):
        if self.args[0]:
            raise self.args[0].pop()
        super().init()


async def test_failed_init_on_restart_counts_as_another_death(system, clock):
    """In Ergo it ends the supervisor at once."""
    diary: list[Any] = []
    failures: list[Any] = []
    spec = ChildSpec("a", FailingFirst, (diary, failures))
    sup = supervise(system, ONE, [spec], Intensity(3, 5.0))
    failures.extend([Boom("1"), Boom("2")])
    system.send("a", "crash")
    await clock.settle()
    assert sup.alive and system.whereis("a") is not None  # three restarts, the third came up
    failures.append(Boom("3"))
    system.send("a", "crash")
    await clock.settle()
    assert isinstance(sup.reason, RestartsExceeded)


async def test_thousand_failed_inits_in_a_row_do_not_run_out_of_stack(system, clock):
    failures: list[Any] = []
    spec = ChildSpec("a", FailingFirst, ([], failures))
    sup = supervise(system, ONE, [spec], Intensity(5000, 5.0))
    failures.extend(Boom() for _ in range(1500))
    system.send("a", "crash")
    await clock.settle()
    assert sup.alive and system.whereis("a") is not None


async def test_supervisor_whose_child_cannot_start_never_existed(system, clock):
    diary: list[Any] = []
    children = [*specs(diary, "a", "b"), ChildSpec("c", FailingFirst, (diary, [Boom("init")]))]
    with pytest.raises(Boom):
        supervise(system, ONE, children)
    await clock.settle()
    assert lives(diary, "end") == ["b", "a"]
    assert system.tree()["children_total"] == 0 and not system.registry


async def test_async_init_is_awaited_in_order(system, clock):
    diary: list[Any] = []
    gate = asyncio.Event()
    children = [*specs(diary, "a"), ChildSpec("slow", SlowStart, (diary, "slow", gate)), *specs(diary, "c")]
    with pytest.raises(AsyncInit):
        supervise(system, ONE, children)
    assert not system.registry
    diary.clear()
    start = asyncio.ensure_future(system.spawn_async(Supervisor, ONE, children, name="sup"))
    await clock.settle()
    assert lives(diary, "init") == ["a"]
    gate.set()
    sup = await start
    assert lives(diary, "init") == ["a", "slow", "c"]
    gate.clear()
    system.send("slow", "crash")
    await clock.settle()
    assert [child.phase for child in await sup.call(ListChildren())] == [
        Phase.UP,
        Phase.STARTING,
        Phase.UP,
    ]
    gate.set()
    await clock.settle()
    assert system.whereis("slow").alive


async def test_supervisor_told_to_stop_does_not_wait_for_a_child_that_is_starting(system, clock):
    diary: list[Any] = []
    gate = asyncio.Event()
    gate.set()
    children = [ChildSpec("slow", SlowStart, (diary, "slow", gate))]
    sup = await system.spawn_async(Supervisor, ONE, children)
    gate.clear()
    system.send("slow", "crash")
    await clock.settle()
    sup.stop()
    await clock.settle()
    assert not sup.alive and system.whereis("slow") is None


@pytest.mark.parametrize("order", [DisableChild("deaf"), None])
async def test_init_that_ignores_its_cancellation_hangs_nobody(system, clock, order):
    class Deaf(Worker):
        async def init(self):
            if self.args[0]:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    await asyncio.Event().wait()

    hang: list[Any] = []
    sup = await system.spawn_async(Supervisor, ONE, [ChildSpec("deaf", Deaf, ([], hang), shutdown_s=2.0)], PLENTY)
    hang.append(True)
    system.send("deaf", "crash")
    await clock.settle()
    done = asyncio.ensure_future(sup.call(order) if order is not None else sup.ended())
    await clock.settle()
    if order is None:
        sup.stop()
    await clock.elapse(1.9)
    assert not done.done()
    await clock.elapse(0.2)
    await done
    assert system.whereis("deaf") is None and sup.alive is (order is not None)


async def test_child_killed_while_it_starts_is_a_death_like_any_other(system, clock):
    gate = asyncio.Event()
    gate.set()
    sup = await system.spawn_async(Supervisor, ONE, [ChildSpec("slow", SlowStart, ([], "slow", gate))], PLENTY)
    gate.clear()
    system.send("slow", "crash")
    await clock.settle()
    first = system.whereis("slow")
    first.kill()
    await clock.settle()
    second = system.whereis("slow")
    assert second is not None and second is not first
    gate.set()
    await clock.settle()
    assert second.alive and sup.alive


# -- back-off


BACKOFF = Backoff(initial_s=1, factor=2, max_s=60, jitter=0, reset_after_s=100)


async def test_restart_waits_for_its_back_off_which_grows(system, clock):
    supervise(system, ONE, specs([], "a", backoff=BACKOFF))
    for delay_s in (1, 2, 4):
        system.send("a", "crash")
        await clock.elapse(delay_s - 0.01)
        assert system.whereis("a") is None
        await clock.elapse(0.02)
        assert system.whereis("a") is not None


async def test_good_run_resets_the_back_off(system, clock):
    supervise(system, ONE, specs([], "a", backoff=BACKOFF))
    for _ in range(3):
        system.send("a", "crash")
        await clock.elapse(10)
    await clock.elapse(100)
    system.send("a", "crash")
    await clock.elapse(1.01)
    assert system.whereis("a") is not None


@pytest.mark.parametrize("order", [DisableChild("a"), RemoveChild("a"), None])
async def test_delayed_restart_is_cancelled_by_disable_remove_and_shutdown(system, clock, order):
    diary: list[Any] = []
    sup = supervise(system, ONE, specs(diary, "a", backoff=BACKOFF))
    system.send("a", "crash")
    await clock.settle()
    if order is None:
        sup.stop()
    else:
        await sup.call(order)
    await clock.elapse(10)
    assert lives(diary, "init") == ["a"]
    assert clock.pending <= 1  # the timer wheel's own


@pytest.mark.parametrize("order", [RestartChild("a"), EnableChild("a")])
async def test_explicit_start_does_not_wait_and_cancels_the_delayed_one(system, clock, order):
    diary: list[Any] = []
    sup = supervise(system, ONE, specs(diary, "a", backoff=BACKOFF))
    system.send("a", "crash")
    await clock.settle()
    assert (await sup.call(order)) is system.whereis("a")
    await clock.elapse(10)
    assert lives(diary, "init") == ["a", "a"]


# -- hanging children


@pytest.mark.parametrize("order", [DisableChild("a"), RestartChild("a"), RemoveChild("a")])
async def test_child_that_does_not_end_in_time_is_killed(system, clock, order):
    diary: list[Any] = []
    sup = supervise(system, ONE, specs(diary, "a", factory=SlowEnd, shutdown_s=2.0))
    first = system.whereis("a")
    call = asyncio.ensure_future(sup.call(order))
    await clock.elapse(1.9)
    assert not call.done()
    await clock.elapse(0.2)
    await call
    assert not first.alive
    assert (system.whereis("a") is not None) == isinstance(order, RestartChild)


async def test_one_hung_child_does_not_hang_the_tree(system, clock):
    """In Ergo it does."""
    diary: list[Any] = []
    children = [*specs(diary, "a"), *specs(diary, "hung", factory=Stubborn, shutdown_s=2.0)]
    sup = supervise(system, ALL, children)
    system.send("hung", "loop")
    await clock.settle()
    sup.stop()
    await clock.elapse(2.1)
    assert not sup.alive and lives(diary, "end") == ["a"]


async def test_brutal_child_is_killed_without_terminate(system, clock):
    diary: list[Any] = []
    sup = supervise(system, ONE, specs(diary, "a", shutdown_s=BRUTAL))
    ref = system.whereis("a")
    sup.stop()
    await clock.settle()
    assert ref.reason is KILL and lives(diary, "end") == []


# -- simple_one_for_one


async def test_simple_child_is_restarted_with_its_own_arguments(system, clock):
    """simple_one_for_one in Ergo loses them."""
    diary: list[Any] = []
    spec = ChildSpec("worker", Worker, (diary,), Restart.TRANSIENT)
    sup = system.spawn(Simple, spec)
    refs = [await sup.call((f"w/{n}", f"w/{n}", "own", n)) for n in range(3)]
    assert await refs[1].call("args") == ("args", "w/1", "own", 1)
    refs[1].send("crash")
    await clock.settle()
    again = system.whereis("w/1")
    assert again is not refs[1]
    assert await again.call("args") == ("args", "w/1", "own", 1)
    assert lives(diary, "init") == ["w/0", "w/1", "w/2", "w/1"]


async def test_disabled_child_of_simple_one_for_one_does_not_hang_a_later_shutdown(system, clock):
    """In Ergo it does."""
    diary: list[Any] = []
    spec = ChildSpec("worker", Worker, (diary,), Restart.PERMANENT)
    sup = system.spawn(Simple, spec)
    for n in range(3):
        await sup.call((f"w/{n}", f"w/{n}"))
    await sup.call(DisableChild("worker"))
    await clock.settle()
    assert sorted(lives(diary, "end")) == ["w/0", "w/1", "w/2"]
    with pytest.raises(ChildDisabled):
        await sup.call(StartChild(("late",)))
    sup.stop()
    await clock.settle()
    assert not sup.alive


async def test_enabled_simple_supervisor_starts_children_again(system, clock):
    sup = system.spawn(Simple, ChildSpec("worker", Worker, ([],), Restart.TEMPORARY))
    await sup.call(StartChild(("a",), name="a"))
    await sup.call(DisableChild("worker"))
    await clock.settle()
    assert system.whereis("a") is None
    await sup.call(EnableChild("worker"))
    assert (await sup.call(StartChild(("b",), name="b"))).alive


async def test_one_simple_child_may_be_disabled_and_enabled(system, clock):
    sup = system.spawn(Simple, ChildSpec("worker", Worker, ([],), Restart.PERMANENT))
    await sup.call(StartChild(("a",), name="a"))
    await sup.call(DisableChild("a"))
    assert system.whereis("a") is None
    ref = await sup.call(EnableChild("a"))
    assert ref is system.whereis("a") and await ref.call("x") == ("x", "a")


async def test_end_of_a_temporary_child_is_told_after_its_name_is_free(system, clock):
    sup = system.spawn(Simple, ChildSpec("worker", Worker, ([],), Restart.TEMPORARY))
    one, other = await sup.call(("one", 1)), await sup.call(("two", 2))
    one.send("stop"), other.send("crash")
    await clock.settle()
    actor = sup._actor
    assert [(ref, type(reason)) for ref, reason, _ in actor.ended] == [(one, type(NORMAL)), (other, Boom)]
    assert all(holder is None for _, _, holder in actor.ended)
    assert sup.alive and not actor.children()


class Forgetful(Simple):
    """Does not ask to hear of children that end normally."""

    forgets_normal_ends = True


async def test_a_supervisor_may_leave_normal_ends_of_temporary_children_out(system, clock):
    sup = system.spawn(Forgetful, ChildSpec("worker", Worker, ([],), Restart.TEMPORARY))
    one, other = await sup.call(("one", 1)), await sup.call(("two", 2))
    one.send("stop"), other.send("crash")
    await clock.settle()
    actor = sup._actor
    assert [(ref, type(reason)) for ref, reason, _ in actor.ended] == [(other, Boom)]
    assert not actor.children() and system.whereis("one") is None
    sup.stop()
    await clock.settle()
    assert not sup.alive


async def test_who_leaves_normal_ends_out_still_ends_with_its_last_child(system, clock):
    sup = system.spawn(Forgetful, ChildSpec("worker", Worker, ([],), Restart.TEMPORARY), PLENTY, True)
    (await sup.call(("one", 1))).send("stop")
    await clock.settle()
    assert not sup.alive


async def test_who_leaves_normal_ends_out_still_restarts_permanent_children(system, clock):
    sup = system.spawn(Forgetful, ChildSpec("worker", Worker, ([],), Restart.PERMANENT))
    (await sup.call(("one", "one"))).send("stop")
    await clock.settle()
    assert system.whereis("one") is not None


async def test_simple_children_are_stopped_together_under_one_limit(system, clock):
    diary: list[Any] = []
    sup = system.spawn(Simple, ChildSpec("worker", SlowEnd, (diary,), Restart.TEMPORARY, shutdown_s=2.0))
    for n in range(5):
        await sup.call((f"w/{n}", n))
    sup.stop()
    await clock.settle()
    assert sorted(lives(diary, "ending")) == [0, 1, 2, 3, 4]
    await clock.elapse(2.1)
    assert not sup.alive and system.tree()["children_total"] == 0


async def test_subclass_messages_and_supervisor_orders_do_not_collide(system, clock):
    sup = system.spawn(Simple, ChildSpec("worker", Worker, ([],), Restart.TEMPORARY))
    await sup.call(("mine", 1))
    assert [child.name for child in await sup.call(ListChildren())] == ["mine"]


async def test_subclass_may_use_any_name_of_its_own(system, clock):
    """Supervision is an object of its own: an unlucky name overwrites nothing."""

    class Unlucky(Supervisor):
        def __init__(self):
            super().__init__(ONE, specs([], "a"), PLENTY)
            self.window = self.closed = self.settling = self.simple = self._children = True

        def note(self):
            raise AssertionError

        settle = launch = _died = _stop = note

    sup = system.spawn(Unlucky)
    system.send("a", "crash")
    await clock.settle()
    assert sup.alive and system.whereis("a").alive


async def test_order_to_what_is_no_supervisor_is_an_answer_not_a_crash(system):
    ref = system.spawn(Worker, [], "w")
    with pytest.raises(TypeError, match="not a supervisor"):
        await ref.call(ListChildren())
    assert ref.alive


# -- dynamic


async def test_added_child_is_started_last_and_stopped_first(system, clock):
    diary: list[Any] = []
    sup = supervise(system, ONE, specs(diary, "a", "b"))
    ref = await sup.call(AddChild(ChildSpec("c", Worker, (diary,))))
    assert ref is system.whereis("c")
    sup.stop()
    await clock.settle()
    assert lives(diary, "end") == ["c", "b", "a"]


async def test_added_child_whose_init_fails_is_not_kept_and_not_counted(system, clock):
    gate = asyncio.Event()
    gate.set()
    sup = supervise(system, ONE, specs([], "a"), Intensity(0, 5.0))
    with pytest.raises(Boom):
        await sup.call(AddChild(ChildSpec("c", FailingFirst, ([], [Boom("x")]))))

    class AsyncFailing(Worker):
        async def init(self):
            await gate.wait()
            raise Boom("async")

    with pytest.raises(Boom, match="async"):
        await sup.call(AddChild(ChildSpec("c", AsyncFailing, ([],))))
    assert sup.alive and len(await sup.call(ListChildren())) == 1
    assert (await sup.call(AddChild(ChildSpec("c", Worker, ([],))))).alive


async def test_removed_child_is_gone_with_its_spec(system, clock):
    sup = supervise(system, ONE, specs([], "a", "b"))
    await sup.call(RemoveChild("a"))
    assert system.whereis("a") is None
    assert [child.name for child in await sup.call(ListChildren())] == ["b"]
    with pytest.raises(UnknownChild):
        await sup.call(RestartChild("a"))


async def test_disabled_child_stays_down_through_its_siblings_cycle(system, clock):
    diary: list[Any] = []
    sup = supervise(system, ALL, specs(diary, "a", "b", "c"))
    await sup.call(DisableChild("b"))
    system.send("a", "crash")
    await clock.settle()
    assert system.whereis("b") is None and system.whereis("c").alive
    with pytest.raises(ChildDisabled):
        await sup.call(RestartChild("b"))
    await sup.call(EnableChild("b"))
    assert system.whereis("b").alive


async def test_disabled_last_specs_leave_the_supervisor_working(system, clock):
    """In Ergo they leave it in "starting"."""
    sup = supervise(system, REST, specs([], "a", "b", "c"))
    await sup.call(DisableChild("b")), await sup.call(DisableChild("c"))
    for _ in range(2):
        system.send("a", "crash")
        await clock.settle()
        assert system.whereis("a").alive
    await sup.call(EnableChild("c"))
    assert system.whereis("c").alive and sup.state == "sleep"


async def test_manual_restart_is_counted_for_the_child_but_not_as_intensity(system, clock):
    sup = supervise(system, ALL, specs([], "a", "b"), Intensity(0, 5.0))
    bystander = system.whereis("b")
    for n in (1, 2, 3):
        ref = await sup.call(RestartChild("a"))
        assert system.info(ref).restarts == n
    assert sup.alive and system.whereis("b") is bystander


async def test_temporary_child_may_be_restarted_by_hand(system, clock):
    sup = supervise(system, ONE, specs([], "a", restart=Restart.TEMPORARY))
    first = system.whereis("a")
    assert (await sup.call(RestartChild("a"))) is not first
    assert system.whereis("a").alive


async def test_done_transient_child_comes_back_by_enable(system, clock):
    sup = supervise(system, ONE, specs([], "a", restart=Restart.TRANSIENT))
    system.send("a", "stop")
    await clock.settle()
    assert system.whereis("a") is None
    assert (await sup.call(EnableChild("a"))).alive


async def test_whoever_waits_on_an_ending_supervisor_is_answered(system, clock):
    sup = supervise(system, ONE, specs([], "a", factory=SlowEnd))
    call = asyncio.ensure_future(sup.call(RestartChild("a")))
    await clock.settle()
    sup.stop()
    await clock.settle()
    with pytest.raises(NotAlive):
        await call


# -- ending by itself


@pytest.mark.parametrize("auto", [True, False])
async def test_last_normal_end_ends_the_supervisor_only_if_asked(system, clock, auto):
    children = specs([], "a", "b", restart=Restart.TRANSIENT)
    sup = system.spawn(Supervisor, ONE, children, PLENTY, auto)
    system.send("a", "stop")
    await clock.settle()
    assert sup.alive
    system.send("b", "stop")
    await clock.settle()
    assert sup.alive is not auto


async def test_simple_supervisor_ends_with_its_last_child_only_if_asked(system, clock):
    spec = ChildSpec("worker", Worker, ([],), Restart.TEMPORARY)
    sup, stays = system.spawn(Simple, spec, PLENTY, True), system.spawn(Simple, spec)
    for owner in (sup, stays):
        for ref in [await owner.call((None, 1)), await owner.call((None, 2))]:
            assert owner.alive
            ref.send("stop")
            await clock.settle()
    assert not sup.alive and stays.alive


async def test_significant_child_ends_its_supervisor_when_it_is_done(system, clock):
    diary: list[Any] = []
    children = [*specs(diary, "a"), ChildSpec("main", Worker, (diary,), Restart.TRANSIENT, significant=True)]
    sup = supervise(system, ONE, children)
    system.send("main", "crash")
    await clock.settle()
    assert sup.alive
    system.send("main", "stop")
    await clock.settle()
    assert sup.reason is SHUTDOWN and lives(diary, "end")[-1] == "a"


def test_permanent_child_cannot_be_significant():
    with pytest.raises(ValueError, match="significant"):
        ChildSpec("a", Worker, significant=True)


@pytest.mark.parametrize(("strategy", "names"), [(ONE, ["a", "a"]), (SIMPLE, ["a", "b"]), (SIMPLE, [])])
def test_meaningless_family_is_refused(strategy, names):
    with pytest.raises(ValueError, match="child"):
        Supervisor(strategy, specs([], *names))


# -- being seen


async def test_decisions_are_announced_and_remembered(system, clock):
    events: list[Any] = []
    unsubscribe = system.on_event(events.append)
    system.on_event(lambda event: 1 / 0)  # a bad listener decides nothing
    sup = supervise(system, ONE, specs([], "a", backoff=BACKOFF), Intensity(1, 5.0))
    system.send("a", "crash")
    await clock.elapse(1.01)
    system.send("a", "crash")
    await clock.settle()
    assert [(event.supervisor, event.child, event.decision, event.delay_s) for event in events] == [
        ("sup", "a", "back_off", 1),
        ("sup", "a", "escalate", 0),
    ]
    assert events[0].reason == "Boom: a" and events[0].at.tzinfo is not None
    unsubscribe()
    assert not sup.alive


async def test_inspect_tells_what_the_supervisor_is_doing_about_it(system, clock):
    class Own(Supervisor):
        def inspect(self):
            return {"own": 1}

    system.spawn(Own, ONE, specs([], "a", backoff=BACKOFF), PLENTY, name="own")
    system.send("a", "crash")
    await clock.settle()
    detail = system.info("own").detail
    assert detail["own"] == 1 and detail["restarts_in_window"] == 1
    assert detail["history"][-1]["decision"] == "back_off"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", detail["history"][-1]["at"])
    assert detail["not_up"] == [{"name": "a", "phase": "back_off", "restarts": 1, "last_reason": "Boom: a"}]


async def test_restarted_child_shows_its_restarts_and_the_last_error(system, clock):
    supervise(system, ONE, specs([], "a"))
    for _ in range(2):
        system.send("a", "crash")
        await clock.settle()
    info = system.info("a")
    assert (info.restarts, info.last_error) == (2, "Boom: a")


async def test_supervisor_with_a_full_mailbox_still_supervises(system, clock):
    diary: list[Any] = []

    class Deaf(Supervisor):
        mailbox_limit = 1

    sup = system.spawn(Deaf, ONE, specs(diary, "a"), PLENTY)
    sup.suspend()
    sup.send("x")
    system.send("a", "crash")
    await clock.settle()
    assert lives(diary, "init") == ["a", "a"]


async def test_thousands_of_children_with_an_awaited_init_are_started_one_after_the_other(system, clock):
    started: list[int] = []

    class Slow(Actor):
        def __init__(self, n: int) -> None:
            self.n = n

        async def init(self) -> None:
            started.append(self.n)

    specs = [ChildSpec(f"slow/{n}", Slow, (n,)) for n in range(3000)]
    top = await system.spawn_async(Supervisor, Strategy.ONE_FOR_ONE, specs)
    assert started == list(range(3000))
    assert system.info(top).children_total == 3000
