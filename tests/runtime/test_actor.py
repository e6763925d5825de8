"""Mailboxes, calls, coroutines, timers: an actor while it lives."""

import asyncio
from typing import Any

import pytest

from hermes.runtime import (
    NO_REPLY,
    NORMAL,
    Actor,
    AsyncInit,
    CallTimeout,
    MailboxFull,
    NameTaken,
    NotAlive,
    SendResult,
    System,
)
from hermes.testing import Do, start_probe
from tests.runtime.cast import Boom, SlowStart, Worker


class Echo(Actor):
    """Answers in every way there is."""

    def __init__(self):
        self.parked = []

    def handle_call(self, request, reply):
        if request == "later":
            self.parked.append(reply)
            return NO_REPLY
        if request == "error":
            reply.error(Boom("answered"))
            return NO_REPLY
        if request == "raise":
            raise Boom("raised")
        if request == "coroutine":
            return self.slowly()
        return request

    async def slowly(self):
        await asyncio.sleep(0)
        return "slowly"

    def handle(self, message):
        self.parked.pop().ok(message)


async def test_messages_arrive_in_order_and_after_send_returns(system, clock):
    ref, probe = start_probe(system)
    assert [ref.send(n) for n in range(200)] == [SendResult.DELIVERED] * 200
    assert probe.messages == []
    await clock.settle()
    assert probe.messages == list(range(200))


async def test_full_main_lane_answers_full_and_loses_nothing_it_took(system, clock):
    diary: list[Any] = []
    ref = system.spawn(Worker, diary, "w", mailbox_limit=3)
    assert [ref.send(n) for n in range(5)] == [SendResult.DELIVERED] * 3 + [SendResult.FULL] * 2
    await clock.settle()
    assert [did for did, _ in diary] == ["init", 0, 1, 2]
    assert ref.send("again") is SendResult.DELIVERED


async def test_send_to_nobody_is_unknown_and_to_the_dead_is_terminated(system, clock):
    assert system.send("nobody", 1) is SendResult.UNKNOWN
    ref, _ = start_probe(system)
    ref.stop()
    await clock.settle()
    assert ref.send(1) is SendResult.TERMINATED
    assert ref.send_system(1) is SendResult.TERMINATED


async def test_delivered_is_the_only_false_answer():
    assert [result for result in SendResult if not result] == [SendResult.DELIVERED]


async def test_system_lane_goes_first_and_has_no_limit(system, clock):
    diary: list[Any] = []
    ref = system.spawn(Worker, diary, "w", mailbox_limit=1)
    ref.send("main")
    for n in range(10):
        assert ref.send_system(n) is SendResult.DELIVERED
    await clock.settle()
    assert [did for did, _ in diary] == ["init", *range(10), "main"]


class Returning(Worker):
    """Notes what it is not going to serve."""

    def unserved(self, message):
        self.diary.append((f"unserved {message}", self.label))
        if message == "bad":
            raise Boom("unserved")


@pytest.mark.parametrize("how", ["stop", "kill", "crash"])
async def test_mail_that_waits_when_an_actor_ends_is_returned_to_it_in_order_but_for_calls(system, clock, how):
    diary: list[Any] = []
    ref = system.spawn(Returning, diary, "w")
    ref.suspend()
    ref.send("crash" if how == "crash" else "bad")
    asked = asyncio.ensure_future(ref.call("x"))
    await asyncio.sleep(0)
    ref.send("bad" if how == "crash" else "next")
    ref.send("last", trace="t")
    {"stop": ref.stop, "kill": ref.kill, "crash": ref.resume}[how]()
    await clock.settle()
    waiting = (
        ["unserved bad", "unserved last"] if how == "crash" else ["unserved bad", "unserved next", "unserved last"]
    )
    assert [did for did, _ in diary] == ["init", *waiting, *([] if how == "kill" else ["end"])]
    with pytest.raises(NotAlive):
        await asked


async def test_exit_signal_overtakes_a_full_mailbox(system, clock):
    diary: list[Any] = []
    ref = system.spawn(Worker, diary, "w", mailbox_limit=2)
    ref.send(1), ref.send(2)
    assert ref.send(3) is SendResult.FULL
    ref.stop()
    await clock.settle()
    assert diary == [("init", "w"), ("end", "w")]


async def test_busy_actor_lets_others_have_their_turn(system, clock):
    order: list[Any] = []

    class Busy(Actor):
        mailbox_limit = 10_000

        def handle(self, message):
            order.append(self.kind)

    class Quiet(Busy):
        pass

    busy, quiet = system.spawn(Busy), system.spawn(Quiet)
    for _ in range(1000):
        busy.send(1)
    quiet.send(1)
    await clock.settle()
    assert order.index("Quiet") <= 64
    assert len(order) == 1001


async def test_flood_of_messages_does_not_starve_the_loop(system):
    class Endless(Actor):
        def handle(self, message):
            self.ref.send(message)

    ref = system.spawn(Endless)
    ref.send("x")
    turns = 0
    for _ in range(50):
        await asyncio.sleep(0)
        turns += 1
    assert turns == 50 and ref.alive
    ref.kill()


async def test_idle_actor_owns_no_queue_no_task_no_dictionary(system, clock):
    ref, _ = start_probe(system)
    for n in range(10):
        ref.send(n)
    await clock.settle()
    assert [ref._main, ref._lane, ref._urgent, ref._rare] == [None] * 4
    assert len(asyncio.all_tasks()) == 1


# -- calls


async def test_call_returns_what_the_handler_returns(system):
    ref = system.spawn(Echo, name="echo")
    assert await ref.call("hello") == "hello"
    assert await system.call("echo", None) is None
    assert await ref.call("coroutine") == "slowly"


async def test_reply_may_come_later_from_another_turn(system, clock):
    ref = system.spawn(Echo)
    call = asyncio.ensure_future(ref.call("later"))
    await clock.settle()
    assert not call.done()
    ref.send("answer")
    assert await call == "answer"


async def test_error_answered_leaves_the_actor_alive(system):
    ref = system.spawn(Echo)
    with pytest.raises(Boom, match="answered"):
        await ref.call("error")
    assert ref.alive


async def test_error_raised_reaches_the_caller_and_ends_the_actor(system, clock):
    ref = system.spawn(Echo)
    with pytest.raises(Boom, match="raised"):
        await ref.call("raise")
    await clock.settle()
    assert isinstance(ref.reason, Boom)


async def test_call_times_out_and_the_late_answer_is_ignored(system, clock):
    ref = system.spawn(Echo)
    call = asyncio.ensure_future(ref.call("later", timeout_s=2.0))
    await clock.elapse(1.99)
    assert not call.done()
    await clock.elapse(0.2)
    with pytest.raises(CallTimeout):
        await call
    ref.send("too late")
    await clock.settle()
    assert ref.alive and await ref.call("still fine") == "still fine"


async def test_answered_call_leaves_no_timer_behind(system):
    ref = system.spawn(Echo)
    await ref.call("x")
    assert len(system.wheel) == 0


async def test_only_the_first_answer_counts(system, clock):
    ref = system.spawn(Echo)
    call = asyncio.ensure_future(ref.call("later"))
    await clock.settle()
    reply = ref._actor.parked[0]
    reply.ok(1)
    reply.ok(2)
    reply.error(Boom())
    assert await call == 1
    assert not reply.open


async def test_caller_who_gave_up_is_not_answered(system, clock):
    ref = system.spawn(Echo)
    call = asyncio.ensure_future(ref.call("later"))
    await clock.settle()
    call.cancel()
    await clock.settle()
    ref.send("nobody listens")
    await clock.settle()
    assert ref.alive and len(system.wheel) == 0


@pytest.mark.parametrize("request_", ["later", "in the queue"])
async def test_end_of_the_callee_answers_all_who_wait_at_once(system, clock, request_):
    ref = system.spawn(Echo)
    if request_ == "in the queue":
        ref.suspend()
        await clock.settle()
    call = asyncio.ensure_future(ref.call(request_))
    await clock.settle()
    ref.stop()
    await clock.settle()  # no time passes
    with pytest.raises(NotAlive):
        await call


async def test_call_to_the_dead_and_to_the_full_says_so(system, clock):
    ref = system.spawn(Echo, mailbox_limit=1)
    ref.suspend()
    ref.send("x")
    with pytest.raises(MailboxFull):
        await ref.call("y")
    ref.kill()
    with pytest.raises(NotAlive):
        await ref.call("y")
    with pytest.raises(NotAlive):
        await system.call("nobody", "y")


async def test_actor_that_calls_itself_is_told_instead_of_waiting(system, clock):
    class Narcissus(Actor):
        async def handle(self, message):
            await self.ref.call("me")

    ref = system.spawn(Narcissus)
    ref.send("go")
    await clock.settle()
    assert "called itself" in str(ref.reason)


# -- coroutines


async def test_coroutine_handler_keeps_the_rest_of_the_mail_waiting(system, clock):
    gate = asyncio.Event()
    order: list[Any] = []

    class Slow(Actor):
        async def handle(self, message):
            order.append(("begin", message))
            await gate.wait()
            order.append(("end", message))

    ref = system.spawn(Slow)
    ref.send(1), ref.send(2)
    await clock.settle()
    assert order == [("begin", 1)]
    assert ref.state == "wait"
    gate.set()
    await clock.settle()
    assert order == [("begin", 1), ("end", 1), ("begin", 2), ("end", 2)]


async def test_coroutine_handler_runs_in_a_task_of_its_own(system, clock):
    seen: list[Any] = []

    class Tasked(Actor):
        async def handle(self, message):
            async with asyncio.timeout(5):  # needs a current task
                await asyncio.sleep(0)
            seen.append(asyncio.current_task())

    system.spawn(Tasked).send(1)
    await clock.settle()
    assert seen[0] is not None and seen[0] is not asyncio.current_task()


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_stop_and_kill_cancel_a_running_coroutine(system, clock, how):
    cancelled: list[Any] = []

    class Hanging(Worker):
        async def handle(self, message):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(1)
                raise

    diary: list[Any] = []
    ref = system.spawn(Hanging, diary, "h")
    ref.send(1)
    await clock.settle()
    getattr(ref, how)()
    await clock.settle()
    assert cancelled == [1] and not ref.alive
    assert (("end", "h") in diary) == (how == "stop")


async def test_stop_before_the_coroutine_took_its_first_step_still_ends_the_actor(system, clock):
    class Hanging(Actor):
        async def handle(self, message):
            await asyncio.Event().wait()

    class Stopper(Actor):
        def handle(self, message):
            message.stop()

    hanging, stopper = system.spawn(Hanging), system.spawn(Stopper)
    hanging.send(1)
    stopper.send(hanging)  # its turn comes in the same slice, before the task begins
    await clock.settle()
    assert hanging.reason is NORMAL


async def test_error_in_a_coroutine_ends_the_actor_with_it(system, clock):
    class Failing(Actor):
        async def handle(self, message):
            await asyncio.sleep(0)
            raise Boom("later")

    ref = system.spawn(Failing)
    ref.send(1)
    await clock.settle()
    assert isinstance(ref.reason, Boom)


async def test_interrupted_call_tells_its_caller(system, clock):
    class Hanging(Actor):
        async def handle_call(self, request, reply):
            await asyncio.Event().wait()

    ref = system.spawn(Hanging)
    call = asyncio.ensure_future(ref.call(1))
    await clock.settle()
    ref.stop()
    await clock.settle()
    with pytest.raises(NotAlive):
        await call


async def test_stop_from_inside_a_coroutine_lets_it_finish(system, clock):
    done: list[Any] = []

    class Finishing(Actor):
        async def handle(self, message):
            self.stop()
            await asyncio.sleep(0)
            done.append(1)

    ref = system.spawn(Finishing)
    ref.send(1)
    await clock.settle()
    assert done == [1] and ref.reason is NORMAL


async def test_time_spent_counts_work_and_messages_out_of_coroutines_but_not_waiting(system, clock):
    ref, probe = start_probe(system)

    class Sender(Actor):
        async def handle(self, message):
            ref.send(1)
            await asyncio.sleep(0.05)
            ref.send(2)

    sender = system.spawn(Sender)
    sender.send("go")
    await asyncio.wait_for(probe.wait_for(2), 5)
    await clock.settle()
    info = system.info(sender)
    assert info.messages_out == 2 and info.messages_in == 1
    assert 0 < info.time_spent_s < 0.05


# -- init and names


async def test_name_is_routable_during_init_and_mail_is_kept(system, clock):
    diary: list[Any] = []
    gate = asyncio.Event()
    start = asyncio.ensure_future(system.spawn_async(SlowStart, diary, "s", gate, name="slow"))
    await clock.settle()
    assert system.info("slow").state == "init"
    assert system.send("slow", "early") is SendResult.DELIVERED
    gate.set()
    ref = await start
    await clock.settle()
    assert diary == [("starting", "s"), ("init", "s"), ("early", "s")]
    assert system.whereis("slow") is ref


async def test_failed_init_means_it_never_existed(system, clock):
    ref, probe = start_probe(system)

    class Bad(Actor):
        def init(self):
            self.monitor(ref)
            self.link(ref)
            self.spawn(Worker, [], "child", name="child")
            self.send_after(1, "x")
            raise Boom("init")

    with pytest.raises(Boom):
        system.spawn(Bad, name="bad")
    await clock.settle()
    assert system.whereis("bad") is None and system.whereis("child") is None
    assert probe.exits == [] and probe.downs == []
    assert len(system.wheel) == 0
    assert system.tree()["children_total"] == 1
    system.spawn(Worker, [], "again", name="bad")


async def test_second_actor_of_a_name_is_refused_and_the_first_keeps_it(system):
    first = system.spawn(Worker, [], "1", name="n")
    with pytest.raises(NameTaken):
        system.spawn(Worker, [], "2", name="n")
    assert system.whereis("n") is first
    assert system.tree()["children_total"] == 1


async def test_spawn_refuses_an_async_init_and_leaves_nothing(system):
    with pytest.raises(AsyncInit):
        system.spawn(SlowStart, [], "s", asyncio.Event(), name="slow")
    assert system.whereis("slow") is None
    assert system.tree()["children_total"] == 0


async def test_cancelled_async_init_undoes_the_start(system, clock):
    start = asyncio.ensure_future(system.spawn_async(SlowStart, [], "s", asyncio.Event(), name="slow"))
    await clock.settle()
    start.cancel()
    await clock.settle()
    assert system.whereis("slow") is None


async def test_kill_during_init_frees_the_name_at_once(system, clock):
    gate = asyncio.Event()
    start = asyncio.ensure_future(system.spawn_async(SlowStart, [], "s", gate, name="slow"))
    await clock.settle()
    system.whereis("slow").kill()
    assert system.whereis("slow") is None
    gate.set()
    with pytest.raises(NotAlive):
        await start


# -- timers, suspension, holding


@pytest.mark.parametrize("coarse", [True, False])
async def test_send_after_arrives_in_time_in_the_system_lane(system, clock, coarse):
    ref, probe = start_probe(system)
    ref.send(Do(lambda actor: actor.send_after(1.0, "tick", coarse)))
    await clock.elapse(0.99)
    assert probe.messages == []
    ref.send("main")
    clock.advance(0.11)  # both lie in the mailbox now
    await clock.settle()
    assert probe.messages == ["tick", "main"]


@pytest.mark.parametrize("coarse", [True, False])
async def test_cancelled_send_after_never_arrives(system, clock, coarse):
    ref, probe = start_probe(system)
    timers: list[Any] = []
    ref.send(Do(lambda actor: timers.append(actor.send_after(1.0, "tick", coarse))))
    await clock.settle()
    timers[0].cancel()
    await clock.elapse(5)
    assert probe.messages == []


async def test_end_of_an_actor_cancels_its_timers(system, clock):
    ref, _ = start_probe(system)
    ref.send(Do(lambda actor: [actor.send_after(3600, "x", coarse) for coarse in (True, False)]))
    await clock.settle()
    ref.stop()
    await clock.settle()
    assert len(system.wheel) == 0 and clock.pending <= 1  # the wheel's own


async def test_suspended_actor_serves_nothing_but_its_end(system, clock):
    diary: list[Any] = []
    ref = system.spawn(Worker, diary, "w")
    ref.suspend()
    ref.send("main"), ref.send_system("system")
    await clock.settle()
    assert diary == [("init", "w")] and ref.state == "suspended"
    ref.resume()
    await clock.settle()
    assert diary[1:] == [("system", "w"), ("main", "w")] and ref.state == "sleep"
    ref.suspend()
    ref.stop()
    await clock.settle()
    assert not ref.alive


async def test_suspend_amid_a_turn_holds_after_the_message_in_hand(system, clock):
    diary: list[Any] = []

    class Self(Worker):
        def handle(self, message):
            super().handle(message)
            if message == "pause":
                self.ref.suspend()

    ref = system.spawn(Self, diary, "w")
    ref.send("pause"), ref.send("next")
    await clock.settle()
    assert diary == [("init", "w"), ("pause", "w")]
    ref.resume()
    await clock.settle()
    assert diary[-1] == ("next", "w")


async def test_held_mailbox_fills_up_while_the_other_lanes_are_served(system, clock):
    diary: list[Any] = []

    class Holder(Worker):
        mailbox_limit = 2

        def handle(self, message):
            super().handle(message)
            if message == "hold":
                self.hold_mailbox()
            elif message == "go on":
                self.release_mailbox()

    ref = system.spawn(Holder, diary, "w")
    ref.send("hold")
    await clock.settle()
    assert [ref.send(n) for n in range(3)] == [SendResult.DELIVERED] * 2 + [SendResult.FULL]
    ref.send_system("timer")
    await clock.settle()
    assert [did for did, _ in diary] == ["init", "hold", "timer"]
    ref.send_system("go on")
    await clock.settle()
    assert [did for did, _ in diary] == ["init", "hold", "timer", "go on", 0, 1]


async def test_trace_id_travels_with_a_message_and_is_reported(clock):
    reported: list[Any] = []
    system = System(clock, trace=lambda trace_id, ref, message: reported.append((trace_id, message)))
    seen: list[Any] = []

    class Traced(Actor):
        def handle(self, message):
            seen.append((message, self.trace_id))

    ref = system.spawn(Traced)
    ref.send("with", trace="t-1")
    ref.send("without")
    await clock.settle()
    assert seen == [("with", "t-1"), ("without", None)]
    assert reported == [("t-1", "with")]
