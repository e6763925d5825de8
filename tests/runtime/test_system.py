"""What an operator sees, without the actors' help."""

import asyncio
import json
import logging
from typing import Any

import pytest

from hermes.runtime import Actor, Backoff, ChildSpec, DisableChild, NotAlive, Restart, Strategy, Supervisor
from hermes.testing import Do, start_probe
from tests.runtime.cast import Worker


class Family(Supervisor):
    def __init__(self):
        spec = ChildSpec("child", Worker, ([],), Restart.TEMPORARY)
        super().__init__(Strategy.SIMPLE_ONE_FOR_ONE, [spec])

    def handle(self, message):
        for n in range(message):
            self.start_child(n, name=f"child/{n}")


async def test_big_family_is_a_count_and_a_first_page(system, clock):
    system.spawn(Family, name="family").send(100)
    await clock.settle()
    node = system.tree("family", children_limit=20)
    assert [child["name"] for child in node["children"]] == [f"child/{n}" for n in range(20)]
    assert node["children_total"] == 100
    assert node["kind"] == "Family" and node["state"] == "sleep" and node["messages_in"] == 1
    assert system.tree(depth=0)["children"] == [] and system.tree(depth=0)["children_total"] == 1


async def test_tree_is_ready_for_json_but_for_the_dates(system, clock):
    system.spawn(Family, name="family").send(2)
    await clock.settle()
    clock.advance(7)
    tree = json.loads(json.dumps(system.tree(), default=lambda when: when.isoformat()))
    family = tree["children"][0]
    assert family["uptime_s"] == 7 and family["since"] == "2026-01-01T00:00:00+00:00"
    assert family["detail"]["strategy"] == "simple_one_for_one"


async def test_busy_actor_is_inspected_all_the_same(system, clock):
    class Busy(Actor):
        async def handle(self, message):
            await asyncio.Event().wait()

        def inspect(self):
            return {"doing": "something"}

    ref = system.spawn(Busy, name="busy")
    clock.advance(3)
    ref.send(1), ref.send(2), ref.send_system(3)
    await clock.settle()
    clock.advance(4)
    info = system.info("busy")
    assert info.state == "wait" and info.detail == {"doing": "something"}
    assert (clock.now() - info.since).total_seconds() == 4
    assert info.uptime_s == 7
    # The timer message went first and is the one being handled.
    assert info.mailbox == {"urgent": 0, "system": 0, "main": 2}
    ref.kill()


async def test_links_monitors_and_parent_are_seen_from_both_sides(system, clock):
    ref, _ = start_probe(system)
    target = system.spawn(Worker, [], "t", parent=ref)
    ref.send(Do(lambda actor: [actor.link(target), actor.monitor(target)]))
    await clock.settle()
    one, other = system.info(ref), system.info(target)
    assert one.links == (target,) and other.links == (ref,)
    assert one.monitors == (target,) and other.monitored_by == (ref,)
    assert one.children == (target,) and other.parent is ref


async def test_counters_count_messages_in_and_out(system, clock):
    receiver, _ = start_probe(system)

    class Forwarder(Actor):
        def handle(self, message):
            receiver.send(message)
            receiver.send_system(message)

    ref = system.spawn(Forwarder)
    for n in range(3):
        ref.send(n)
    await clock.settle()
    assert (system.info(ref).messages_in, system.info(ref).messages_out) == (3, 6)
    assert system.info(receiver).messages_in == 6
    assert system.info(ref).time_spent_s > 0


async def test_inspect_that_fails_harms_nobody(system):
    class Bad(Actor):
        def inspect(self):
            raise ValueError("no")

    ref = system.spawn(Bad)
    assert "ValueError" in system.info(ref).detail["inspect_error"]
    assert ref.alive


async def test_error_of_an_ended_actor_is_still_seen_through_its_ref(system, clock):
    ref = system.spawn(Worker, [], "w")
    ref.send("crash")
    await clock.settle()
    info = system.info(ref)
    assert info.state == "terminated" and info.last_error == "Boom: w"


async def test_unknown_name_is_not_alive(system):
    with pytest.raises(NotAlive):
        system.info("nobody")
    with pytest.raises(NotAlive):
        system.tree("nobody")


async def test_one_actor_may_have_a_log_level_of_its_own(system, caplog):
    loud, quiet = system.spawn(Worker, [], "l", name="loud"), system.spawn(Worker, [], "q", name="quiet")
    with caplog.at_level(logging.WARNING, logger="hermes.actor.Worker"):
        caplog.handler.setLevel(logging.NOTSET)
        system.set_log_level("loud", logging.DEBUG)
        for ref in (loud, quiet):
            system.log_of(ref).debug("hello from %s", ref.name)
        system.log_of(quiet).warning("trouble")
    assert [(record.getMessage(), record.actor) for record in caplog.records] == [
        ("hello from loud", "loud"),
        ("trouble", "quiet"),
    ]


async def test_refs_have_ids_of_their_own(system):
    refs = [system.spawn(Worker, [], n) for n in range(10)]
    assert len({ref.id for ref in refs}) == 10
    assert refs[0].id == refs[0].id


async def test_handlers_do_not_see_the_context_of_whoever_sent(system, clock):
    import contextvars

    variable = contextvars.ContextVar("variable", default="none")
    seen: list[Any] = []

    class Reader(Actor):
        def handle(self, message):
            seen.append(variable.get())

    ref = system.spawn(Reader)
    variable.set("sender's")
    ref.send(1)
    await clock.settle()
    assert seen == ["none"]


class Fails(Actor):
    """Its first start works, later ones do not."""

    started = 0

    def init(self) -> None:
        Fails.started += 1
        if Fails.started > 1:
            raise OSError("no route")


async def test_child_that_does_not_run_is_in_the_tree_after_its_siblings(system, clock):
    Fails.started = 0
    specs = [ChildSpec("a", Fails, backoff=Backoff(initial_s=5.0)), ChildSpec("b", Actor), ChildSpec("c", Actor)]
    supervisor = system.spawn(Supervisor, Strategy.ONE_FOR_ONE, specs, name="top")
    found = system.whereis("a")
    assert found is not None and system.supervisor_of("a") is supervisor
    found.stop(ValueError("boom"))
    await clock.settle()
    await supervisor.call(DisableChild("b"))
    children = system.tree("top")["children"]
    assert [(c["name"], c["state"]) for c in children] == [("c", "sleep"), ("a", "back_off"), ("b", "disabled")]
    assert system.tree("top")["children_total"] == 3
    assert "boom" in system.tree("a")["last_error"]
    assert system.supervisor_of("a") is system.supervisor_of("b") is supervisor
    assert len(system.tree("top", children_limit=2)["children"]) == 2


async def test_nobody_keeps_an_unknown_name_or_a_root(system):
    system.spawn(Actor, name="alone")
    assert system.supervisor_of("alone") is None
    assert system.supervisor_of("nobody") is None
    with pytest.raises(NotAlive):
        system.tree("nobody")


async def test_who_stands_out_is_looked_for_near_the_root_first_and_not_everywhere(system, clock):
    for n in range(30):
        parent = system.spawn(Actor, name=f"parent/{n}")
        for m in range(30):
            system.spawn(Actor, name=f"child/{n}/{m}", parent=parent)
    for name in ("parent/29", "child/0/0", "child/29/29"):
        ref = system.whereis(name)
        ref.suspend()
        ref.send(object())
    assert {info.name for info in system.standing_out(5)} == {"parent/29", "child/0/0", "child/29/29"}
    assert {info.name for info in system.standing_out(5, look_at=100)} == {"parent/29", "child/0/0"}
    assert {info.name for info in system.standing_out(5, family_limit=10)} == {"parent/29"}
