"""Guests as children of our supervisors: seen, bounded, restarted, and no harm to the loop they live beside."""

import asyncio
import logging
import subprocess
import sys
import threading
from contextlib import asynccontextmanager

import pytest
from thespian.actors import ActorExitRequest, ActorSystem

from hermes.runtime import (
    Actor,
    Backoff,
    ChildSpec,
    Intensity,
    MailboxFull,
    NotAlive,
    Restart,
    RestartChild,
    SendResult,
    Strategy,
    Supervisor,
    System,
)
from hermes.runtime.thespian import HandlerOverdue, Poisoned, StuckThreads, SystemBase, WouldBlock
from hermes.runtime.thespian.guest import IN_HAND
from tests.runtime.thespian.guests import Blocker, Counter, Echo, Flooder, Leaver, Parent, Sleeper

WAIT = 10.0


@pytest.fixture
def system():
    return System()  # the loop's own time: guests run on threads, which no manual clock can hold


@pytest.fixture
async def base(system):
    yield SystemBase(system)
    Blocker.release.set()
    await system.shutdown(2.0)


@pytest.fixture(autouse=True)
def unblocked():
    Blocker.entered.clear()
    Blocker.release.clear()


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


async def supervise(system, *specs, restarts=10):
    return await system.spawn_async(Supervisor, Strategy.ONE_FOR_ONE, specs, Intensity(restarts, 5.0), name="guests")


@asynccontextmanager
async def restarted(system, name="guest/a"):
    """Wait until the child has been started anew."""
    done = asyncio.Event()

    def heard(event):
        if event.child == name and event.decision in ("restart", "back_off"):
            done.set()

    forget = system.on_event(heard)
    yield
    async with asyncio.timeout(WAIT):
        await done.wait()
    forget()


async def until(holds):
    """Give the loop turns until something holds; the test's own time limit ends it."""
    for _ in iter(holds, True):
        await asyncio.sleep(0)


async def entered(event):
    assert await asyncio.to_thread(event.wait, WAIT)


async def test_a_mounted_guest_is_called_like_any_actor(system, base):
    await supervise(system, ChildSpec("guest/a", base.mount, (Echo,)))
    assert await system.call("guest/a", {"to": "+4520123456"}, WAIT) == {"to": "+4520123456"}
    node = system.tree("guests")["children"][0]
    assert (node["name"], node["kind"], node["state"]) == ("guest/a", "MountedGuest", "sleep")
    assert node["detail"]["class"] == "tests.runtime.thespian.guests.Echo"
    await asyncio.sleep(0)
    assert base.externals.keys() == {"/ActorSys", "System:ExternalRequester"}  # the caller's address is gone


async def test_a_guest_given_by_name_is_imported_on_its_own_thread(system, base):
    await supervise(system, ChildSpec("guest/a", base.mount, ("tests.runtime.thespian.guests.Counter",)))
    system.send("guest/a", "x")
    assert await system.call("guest/a", "count?", WAIT) == 1
    assert (await system.call("guest/a", "thread?", WAIT)).startswith("thespian guest/a")


async def test_what_a_mounted_guest_creates_is_in_the_tree_below_it(system, base):
    await supervise(system, ChildSpec("guest/a", base.mount, (Parent,)))
    child = await system.call("guest/a", Echo, WAIT)
    assert [n["name"] for n in system.tree("guest/a")["children"]] == [child.actorAddressString]
    assert await system.call(child.actorAddressString, "hello", WAIT) == "hello"
    await system.call("guests", RestartChild("guest/a"))
    assert system.whereis(child.actorAddressString) is None


async def test_a_guest_that_fails_twice_on_a_message_is_restarted_by_its_supervisor(system, base):
    await supervise(system, ChildSpec("guest/a", base.mount, (Counter,)))
    before = system.whereis("guest/a")
    system.send("guest/a", "x")
    async with restarted(system):
        with pytest.raises(Poisoned, match="told to fail"):
            await system.call("guest/a", "fail", WAIT)
    assert isinstance(before.reason, Poisoned)
    assert isinstance(before.reason.__cause__, ValueError)
    assert await system.call("guest/a", "count?", WAIT) == 0
    assert system.info("guest/a").restarts == 1


async def test_a_guest_whose_init_raises_is_tried_again_and_holds_nobody_up(system, base):
    spec = ChildSpec(
        "guest/a",
        base.mount,
        ("tests.runtime.thespian.guests.Unborn",),
        backoff=Backoff(initial_s=0.01, max_s=0.02),
    )
    async with restarted(system):
        await supervise(system, spec, ChildSpec("guest/b", base.mount, (Echo,)), restarts=1000)
        assert await system.call("guest/b", "hello", WAIT) == "hello"


async def test_a_blocked_handler_holds_up_neither_the_loop_nor_other_guests(system, base):
    class Native(Actor):
        def handle_call(self, request, reply):
            return request

    specs = ChildSpec("guest/a", base.mount, (Blocker,)), ChildSpec("guest/b", base.mount, (Echo,))
    await supervise(system, *specs)
    system.spawn(Native, name="native")
    system.send("guest/a", "block")
    await entered(Blocker.entered)
    assert await system.call("native", "still here", WAIT) == "still here"
    assert await system.call("guest/b", "me too", WAIT) == "me too"
    assert system.info("guest/a").detail["handling_s"] > 0
    assert system.info("guest/a").detail["in_hand"] == 1
    Blocker.release.set()
    assert await system.call("guest/a", "done", WAIT) == "done"


async def test_a_child_that_blocks_does_not_hold_up_its_parent(system, base):
    await supervise(system, ChildSpec("guest/a", base.mount, (Parent,)))
    child = await system.call("guest/a", Blocker, WAIT)
    system.send(child.actorAddressString, "block")
    await entered(Blocker.entered)
    assert await system.call("guest/a", "exited?", WAIT) == []


@pytest.mark.parametrize("who", ["itself", "child"])
async def test_a_handler_that_overruns_its_limit_costs_the_guest_a_restart_on_new_threads(system, base, who):
    actor_class = Blocker if who == "itself" else Parent
    await supervise(system, ChildSpec("guest/a", base.mount, (actor_class, None, None, 0.2)))
    stuck = "guest/a"
    if who == "child":
        stuck = (await system.call("guest/a", Blocker, WAIT)).actorAddressString
    before = system.whereis("guest/a")
    async with restarted(system):
        system.send(stuck, "block")
        await entered(Blocker.entered)
    assert isinstance(before.reason, HandlerOverdue)
    assert stuck in str(before.reason)
    assert base.stuck("guest/a") == 1
    assert await system.call("guest/a", "exited?", WAIT) in ("exited?", [])
    Blocker.release.set()
    await until(lambda: base.stuck("guest/a") == 0)


async def test_a_guest_is_not_started_again_while_too_many_of_its_threads_are_stuck(system, base):
    threads = [threading.Thread(target=Blocker.release.wait, args=(60,), daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    base._stuck["guest/a"] = list(threads)
    with pytest.raises(StuckThreads):
        system.spawn(base.mount, Echo, name="guest/a")
    Blocker.release.set()
    for thread in threads:
        thread.join()
    system.spawn(base.mount, Echo, name="guest/a")
    assert await system.call("guest/a", "hello", WAIT) == "hello"


async def test_a_mailbox_is_bounded_and_its_senders_are_told(system, base):
    await supervise(system, ChildSpec("guest/a", base.mount, (Blocker,), mailbox_limit=100))
    system.send("guest/a", "block")
    await entered(Blocker.entered)
    results = []
    for number in range(1000):
        results.append(system.send("guest/a", number))
        if not number % 50:
            await asyncio.sleep(0)
    assert results.count(SendResult.DELIVERED) <= 100 + IN_HAND
    assert results[-1] is SendResult.FULL
    info = system.info("guest/a")
    assert info.mailbox["main"] == 100
    assert info.detail["in_hand"] <= IN_HAND
    with pytest.raises(MailboxFull):
        await system.call("guest/a", "x", WAIT)
    Blocker.release.set()
    await until(lambda: system.info("guest/a").mailbox["main"] == 0)
    assert await system.call("guest/a", "hello", WAIT) == "hello"


async def test_a_guest_that_floods_another_leaves_it_its_limit_and_the_loop_its_turns(system, base):
    await supervise(system, ChildSpec("guest/a", base.mount, (Flooder,), mailbox_limit=200))
    flood = asyncio.ensure_future(system.call("guest/a", 20_000, 60))
    turns = 0
    while not flood.done():
        turns += 1
        await asyncio.sleep(0)
        assert system.info("guest/a").mailbox["main"] <= 200
    assert await flood == "flooded"
    assert turns > 10
    assert system.info("guest/a").detail["refused"] > 10_000


async def test_an_ordered_end_lets_the_guest_clean_up_first_and_ends_its_threads(system, base):
    Leaver.heard.clear()
    supervisor = await supervise(system, ChildSpec("guest/a", base.mount, (Leaver,)))
    child = await system.call("guest/a", "child", WAIT)
    workers = [w for w in system.whereis("guest/a")._actor.handle_.crew._workers if w is not None]
    supervisor.stop()
    await supervisor.ended()
    assert ("guest/a", "ActorExitRequest") in Leaver.heard
    assert (child.actorAddressString, "ActorExitRequest") in Leaver.heard
    for worker in workers:
        await asyncio.to_thread(worker.thread.join, WAIT)
        assert not worker.thread.is_alive()


async def test_a_guest_that_exits_by_itself_is_restarted_only_if_it_is_permanent(system, base):
    specs = [
        ChildSpec("guest/a", base.mount, (Leaver,)),
        ChildSpec("guest/b", base.mount, (Leaver,), restart=Restart.TRANSIENT),
    ]
    await supervise(system, *specs)
    gone = system.whereis("guest/b")
    async with restarted(system):
        system.send("guest/a", ActorExitRequest())
        system.send("guest/b", ActorExitRequest())
    assert str(await gone.ended()) == "Ending.NORMAL"
    assert await system.call("guest/a", "hello", WAIT) == "hello"
    assert system.whereis("guest/b") is None


async def test_a_kill_leaves_nothing_of_the_family(system, base):
    await supervise(system, ChildSpec("guest/a", base.mount, (Parent,), restart=Restart.TEMPORARY))
    child = await system.call("guest/a", Blocker, WAIT)
    system.send(child.actorAddressString, "block")
    await entered(Blocker.entered)
    asked = asyncio.ensure_future(system.call(child.actorAddressString, "x", WAIT))
    await asyncio.sleep(0)
    system.whereis("guest/a").kill()
    with pytest.raises(NotAlive):
        await asked
    assert system.whereis("guest/a") is None
    assert system.whereis(child.actorAddressString) is None


async def test_guests_find_each_other_by_global_name_also_after_a_restart(system, base):
    await supervise(
        system,
        ChildSpec("guest/a", base.mount, (Parent,)),
        ChildSpec("guest/b", base.mount, (Counter, "counter")),
    )
    assert (await system.call("guest/a", "exited?", WAIT)) == []
    address = base.names["counter"]
    async with restarted(system, "guest/b"):
        with pytest.raises(Poisoned):
            await system.call("guest/b", "fail", WAIT)
    outside = ActorSystem(base, transientUnique=True)
    found = await asyncio.to_thread(outside.createActor, Echo, globalName="counter")
    assert found == address
    assert await asyncio.to_thread(outside.ask, found, "count?", WAIT) == 0


async def test_on_the_loops_own_thread_what_would_wait_is_refused(system, base):
    outside = ActorSystem(base, transientUnique=True)
    echo = outside.createActor(Echo)
    outside.tell(echo, "not refused: it does not wait")
    for waits in (lambda: outside.ask(echo, "x"), outside.listen, outside.shutdown):
        with pytest.raises(WouldBlock):
            waits()


async def test_a_wakeup_is_never_early_and_ends_with_its_actor(system, base):
    await supervise(system, ChildSpec("guest/a", base.mount, (Sleeper,)))
    loop = asyncio.get_running_loop()
    before = loop.time()
    assert await system.call("guest/a", 0.05, WAIT) - before >= 0.05
    system.send("guest/a", 3600.0)
    await until(lambda: len(system.wheel) > 0)
    ref = system.whereis("guest/a")
    ref.kill()
    await ref.ended()


async def test_suspending_a_guest_leaves_its_mail_where_it_is(system, base):
    await supervise(system, ChildSpec("guest/a", base.mount, (Counter,)))
    ref = system.whereis("guest/a")
    ref.suspend()
    ref.send("x")
    await asyncio.sleep(0)
    assert system.info("guest/a").mailbox["main"] == 1
    ref.resume()
    assert await system.call("guest/a", "count?", WAIT) == 1


SOCKETS = """
import asyncio, sys
from thespian.actors import ActorSystem, ActorExitRequest
from hermes.runtime import System
from hermes.runtime.thespian import SystemBase
from tests.runtime.thespian.guests import Echo, Parent

seen = []
sys.addaudithook(lambda event, args: event.startswith("socket.") and seen.append((event, str(args[1:2]))))

def program(base):
    outside = ActorSystem(base, transientUnique=True)
    parent = outside.createActor(Parent)
    child = outside.ask(parent, Echo, 10)
    assert outside.ask(child, "hello", 10) == "hello"
    outside.tell(parent, ActorExitRequest())
    outside.shutdown()

async def node():
    seen.clear()  # the loop that asyncio.run made has its own pair of sockets to be woken by
    system = System()
    base = SystemBase(system)
    system.spawn(base.mount, Echo, name="guest/a")
    assert await system.call("guest/a", "hello", 10) == "hello"
    await asyncio.to_thread(program, base)
    await system.shutdown()
    return list(seen)

print(asyncio.run(node()))
seen.clear()
program(SystemBase())
print(sorted({event for event, _ in seen}), {family for _, family in seen})
"""


def test_no_socket_is_opened_but_the_pair_that_wakes_an_own_loop():
    """Audit events, not a list of open files: a socket that was opened and closed again would count too."""
    run = subprocess.run([sys.executable, "-c", SOCKETS], capture_output=True, text=True, check=True)
    in_a_node, alone = run.stdout.splitlines()
    assert in_a_node == "[]"
    assert alone.startswith("['socket.__new__'] {")
    assert "AF_INET" not in alone


def test_no_module_of_ours_names_a_network_base():
    code = "import sys, hermes.runtime.thespian; print([m for m in sys.modules if 'multiproc' in m.lower()])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "thespian.system" not in run.stdout
