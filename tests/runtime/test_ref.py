"""The end of an actor: in which order, who hears of it, and what may not be lost."""

import asyncio
from typing import Any

import pytest

from hermes.runtime import KILL, NORMAL, SHUTDOWN, Actor, NotAlive, SystemClosed
from hermes.testing import Do, start_probe
from tests.runtime.cast import Boom, SlowEnd, SlowStart, Stubborn, Worker, lives


async def test_name_is_released_after_terminate_and_before_anyone_hears(system, clock):
    """In Ergo links hear first, so a restart can race the cleanup of the old socket."""
    seen: list[Any] = []

    class Holder(Actor):
        async def terminate(self, reason):
            await asyncio.sleep(0)
            seen.append(("terminate", system.whereis("holder") is self.ref))

    class Watcher(Actor):
        def handle(self, message):
            self.monitor(message)

        def handle_down(self, down):
            seen.append(("down", system.whereis("holder")))

    holder, watcher = system.spawn(Holder, name="holder"), system.spawn(Watcher)
    watcher.send(holder)
    await clock.settle()
    holder.stop()
    await clock.settle()
    assert seen == [("terminate", True), ("down", None)]


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda ref: ref.stop(), NORMAL),
        (lambda ref: ref.stop(SHUTDOWN), SHUTDOWN),
        (lambda ref: ref.kill(), KILL),
        (lambda ref: ref.send("stop"), NORMAL),
    ],
)
async def test_monitor_hears_the_reason_once(system, clock, end, reason):
    watcher, probe = start_probe(system)
    target = system.spawn(Worker, [], "w")
    watcher.send(Do(lambda actor: actor.monitor(target)))
    await clock.settle()
    end(target)
    await clock.settle()
    assert [(down.ref, down.reason) for down in probe.downs] == [(target, reason)]
    assert await target.ended() is reason


async def test_monitor_hears_the_error_itself(system, clock):
    watcher, probe = start_probe(system)
    target = system.spawn(Worker, [], "w")
    watcher.send(Do(lambda actor: actor.monitor(target)))
    target.send("crash")
    await clock.settle()
    assert isinstance(probe.downs[0].reason, Boom)


async def test_monitoring_what_is_gone_answers_at_once(system, clock):
    watcher, probe = start_probe(system)
    target = system.spawn(Worker, [], "w")
    target.kill()
    watcher.send(Do(lambda actor: actor.monitor(target)))
    await clock.settle()
    assert [down.reason for down in probe.downs] == [KILL]


async def test_two_monitors_hear_twice_and_one_taken_back_does_not(system, clock):
    watcher, probe = start_probe(system)
    target = system.spawn(Worker, [], "w")
    ids: list[Any] = []
    watcher.send(Do(lambda actor: ids.extend(actor.monitor(target) for _ in range(3))))
    watcher.send(Do(lambda actor: actor.demonitor(ids[1])))
    await clock.settle()
    target.stop()
    await clock.settle()
    assert sorted(down.monitor for down in probe.downs) == [ids[0], ids[2]]


async def test_demonitor_takes_back_a_down_already_queued(system, clock):
    watcher, probe = start_probe(system)
    target = system.spawn(Worker, [], "w")
    ids: list[Any] = []
    watcher.send(Do(lambda actor: ids.append(actor.monitor(target))))
    await clock.settle()
    watcher.suspend()
    target.kill()
    assert watcher.mailbox == 1
    probe.demonitor(ids[0])
    watcher.resume()
    await clock.settle()
    assert probe.downs == []


@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, KILL, Boom("x")])
async def test_linked_actors_end_together_with_the_same_reason(system, clock, reason):
    class Linker(Actor):
        def handle(self, message):
            self.link(message)

    one, other = system.spawn(Linker), system.spawn(Linker)
    one.send(other)
    await clock.settle()
    if reason is KILL:
        other.kill()
    else:
        other.stop(reason)
    await clock.settle()
    assert one.reason is reason and other.reason is reason


async def test_trapped_exit_is_a_message_and_the_trapper_lives(system, clock):
    ref, probe = start_probe(system)
    target = system.spawn(Worker, [], "w")
    ref.send(Do(lambda actor: actor.link(target)))
    await clock.settle()
    target.send("crash")
    await clock.settle()
    assert ref.alive
    assert [(exit.ref, type(exit.reason)) for exit in probe.exits] == [(target, Boom)]


async def test_linking_to_the_dead_answers_at_once(system, clock):
    ref, probe = start_probe(system)
    target = system.spawn(Worker, [], "w")
    target.kill()
    ref.send(Do(lambda actor: actor.link(target)))
    await clock.settle()
    assert [exit.reason for exit in probe.exits] == [KILL]


async def test_unlinked_actors_do_not_hear(system, clock):
    ref, probe = start_probe(system)
    target = system.spawn(Worker, [], "w")
    ref.send(Do(lambda actor: [actor.link(target), actor.unlink(target)]))
    await clock.settle()
    target.kill()
    await clock.settle()
    assert probe.exits == []


async def test_stop_order_is_not_trapped(system, clock):
    ref, probe = start_probe(system)  # traps exits
    ref.stop(SHUTDOWN)
    await clock.settle()
    assert ref.reason is SHUTDOWN and probe.exits == []


async def test_exit_of_a_linked_actor_cancels_a_running_coroutine(system, clock):
    class Hanging(Actor):
        async def handle(self, message):
            self.link(message)
            await asyncio.Event().wait()

    target = system.spawn(Worker, [], "w")
    ref = system.spawn(Hanging)
    ref.send(target)
    await clock.settle()
    target.send("crash")
    await clock.settle()
    assert isinstance(ref.reason, Boom)


async def test_linked_child_ends_its_parent_and_a_plain_child_does_not(system, clock):
    class Parent(Actor):
        def handle(self, message):
            (self.spawn_link if message == "link" else self.spawn)(Worker, [], "c", name=f"{message} child")

    plain, linked = system.spawn(Parent), system.spawn(Parent)
    plain.send("plain"), linked.send("link")
    await clock.settle()
    system.send("plain child", "crash"), system.send("link child", "crash")
    await clock.settle()
    assert plain.alive and isinstance(linked.reason, Boom)


async def test_children_end_before_their_parent_last_first(system, clock):
    diary: list[Any] = []

    class Parent(Worker):
        def handle(self, message):
            for n in range(3):
                self.spawn(Worker, diary, f"c{n}")

    parent = system.spawn(Parent, diary, "p")
    parent.send(1)
    await clock.settle()
    parent.stop()
    await clock.settle()
    assert lives(diary, "end") == ["c2", "c1", "c0", "p"]


async def test_child_that_hangs_in_terminate_is_killed_and_the_tree_goes_on(system, clock):
    """One hung child hangs the tree in Ergo."""
    diary: list[Any] = []

    class Parent(Worker):
        def handle(self, message):
            self.spawn(Worker, diary, "first")
            self.spawn(SlowEnd, diary, "hung")
            self.spawn(Worker, diary, "last")

    parent = system.spawn(Parent, diary, "p", name="p")
    parent.send(1)
    await clock.settle()
    parent.stop()
    await clock.settle()
    assert lives(diary, "end") == ["last"]
    await clock.elapse(5.0)
    assert lives(diary, "end") == ["last", "first", "p"]
    assert system.whereis("p") is None


async def test_root_that_hangs_in_terminate_is_let_go_after_its_limit(system, clock):
    diary: list[Any] = []
    ref = system.spawn(SlowEnd, diary, "hung", name="hung")
    ref.stop()
    await clock.elapse(4.9)
    assert system.whereis("hung") is ref
    await clock.elapse(0.2)
    assert system.whereis("hung") is None and lives(diary, "end") == []


async def test_handler_that_ignores_cancellation_is_left_behind_by_kill(system, clock):
    diary: list[Any] = []
    ref = system.spawn(Stubborn, diary, "s", name="s")
    ref.send(1)
    await clock.settle()
    ref.stop()
    await clock.settle()
    assert ref.alive and lives(diary, "ignored") == ["s"]
    ref.kill()
    assert not ref.alive and system.whereis("s") is None


async def test_error_in_terminate_does_not_stop_the_end(system, clock):
    class Bad(Actor):
        def terminate(self, reason):
            raise Boom("terminate")

    class AsyncBad(Actor):
        async def terminate(self, reason):
            raise Boom("terminate")

    refs = [system.spawn(Bad, name="a"), system.spawn(AsyncBad, name="b")]
    for ref in refs:
        ref.stop()
    await clock.settle()
    assert system.whereis("a") is None and system.whereis("b") is None
    assert all(ref.reason is NORMAL for ref in refs)


async def test_kill_ends_everything_below_without_terminate(system, clock):
    diary: list[Any] = []

    class Parent(Worker):
        def handle(self, message):
            if message:
                self.spawn(Parent, diary, f"level {message}", name=f"level {message}").send(message - 1)

    top = system.spawn(Parent, diary, "top")
    top.send(5)
    await clock.settle()
    assert system.whereis("level 1") is not None
    top.kill()
    assert all(system.whereis(f"level {n}") is None for n in range(1, 6))
    assert lives(diary, "end") == []


async def test_kill_of_many_children_does_not_run_out_of_stack(system, clock):
    class Parent(Actor):
        def handle(self, message):
            for _ in range(5000):
                self.spawn(Actor)

    parent = system.spawn(Parent)
    parent.send(1)
    await clock.settle()
    parent.kill()
    assert not parent.alive and system.tree()["children_total"] == 0


async def test_actor_that_kills_its_own_supervisor_ends_after_its_handler(system, clock):
    done: list[Any] = []

    class Parent(Actor):
        def handle(self, message):
            self.spawn(Child).send("go")

    class Child(Actor):
        def handle(self, message):
            parent.kill()
            done.append(self.ref.alive)

    parent = system.spawn(Parent)
    parent.send(1)
    await clock.settle()
    assert done == [True] and not parent.alive and system.tree()["children_total"] == 0


async def test_messages_behind_a_crash_are_not_handled_and_senders_hear_terminated(system, clock):
    diary: list[Any] = []
    ref = system.spawn(Worker, diary, "w")
    for message in ("a", "crash", "b"):
        ref.send(message)
    await clock.settle()
    assert diary == [("init", "w"), ("a", "w"), ("end", "w")]


async def test_ending_actor_refuses_mail_and_children(system, clock):
    ref = system.spawn(SlowEnd, [], "s")
    actor = ref._actor
    ref.stop()
    await clock.settle()
    assert not ref.alive and ref.send(1)
    with pytest.raises(NotAlive):
        actor.spawn(Worker, [], "late")
    actor.gate.set()
    await clock.settle()
    assert await ref.ended() is NORMAL


async def test_shutdown_stops_the_roots_last_first_and_waits_for_each(system, clock):
    diary: list[Any] = []
    system.spawn(Worker, diary, "first")
    slow = system.spawn(SlowEnd, diary, "slow")
    system.spawn(Worker, diary, "last")
    gate = slow._actor.gate
    ending = asyncio.ensure_future(system.shutdown())
    await clock.settle()
    assert lives(diary, "end") == ["last"]
    gate.set()
    await ending
    assert lives(diary, "end") == ["last", "slow", "first"]
    with pytest.raises(SystemClosed):
        system.spawn(Worker, diary, "late")


async def test_shutdown_kills_what_outlasts_its_limit(system, clock):
    ref = system.spawn(Stubborn, [], "s")
    ref.send(1)
    await clock.settle()
    ending = asyncio.ensure_future(system.shutdown(limit_s=3))
    await clock.elapse(2.9)
    assert not ending.done() and ref.alive
    clock.advance(0.2)
    await asyncio.wait({ending}, timeout=5)
    assert ending.done() and not ref.alive


async def test_stop_during_async_init_is_carried_out_after_it(system, clock):
    diary: list[Any] = []
    gate = asyncio.Event()
    start = asyncio.ensure_future(system.spawn_async(SlowStart, diary, "s", gate, name="s"))
    await clock.settle()
    system.whereis("s").stop()
    gate.set()
    ref = await start
    await clock.settle()
    assert ref.reason is NORMAL and diary[-1] == ("end", "s")
