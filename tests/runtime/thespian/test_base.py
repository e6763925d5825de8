"""An actor system of its own: Thespian programs on the kernel, without a node."""

import gc
import subprocess
import sys
import threading

import pytest
from thespian.actors import (
    Actor,
    ActorExitRequest,
    ActorSystem,
    ChildActorExited,
    DeadEnvelope,
    NoCompatibleSystemForActor,
    PoisonMessage,
    Thespian_StatusReq,
    requireCapability,
)

from hermes.runtime.thespian import ConventionsNotHosted, NotHosted, SourceLoadingNotHosted, SystemBase
from tests.runtime.thespian.guests import Blocker, Counter, Echo, Flooder, Leaver, Parent, Unborn

WAIT = 10


@pytest.fixture
def base():
    return SystemBase()


@pytest.fixture
def system(base):
    system = ActorSystem(base, transientUnique=True)
    yield system
    system.shutdown()


def settled(system, *addresses):
    """Wait until the actors have handled what was sent to them so far."""
    for address in addresses:
        with system.private() as own:
            assert own.ask(address, Thespian_StatusReq(), WAIT) is not None


def test_a_guest_is_an_actor_of_the_kernel_under_its_creator(system, base):
    parent = system.createActor(Parent)
    child = system.ask(parent, Echo, WAIT)
    assert system.ask(child, "hello", WAIT) == "hello"
    tree = base.system.tree()
    family = tree["children"][0]
    assert (family["name"], family["kind"]) == ("thespian", "ThespianSystem")
    node = family["children"][0]
    assert node["name"] == parent.actorAddressString
    assert node["detail"]["class"] == "tests.runtime.thespian.guests.Parent"
    assert [below["name"] for below in node["children"]] == [child.actorAddressString]


def test_a_parent_hears_once_of_each_childs_end_however_it_ended(system):
    parent = system.createActor(Parent)
    kept, told, failed = (system.ask(parent, Counter, WAIT) for _ in range(3))
    unborn = system.ask(parent, Unborn, WAIT)
    unknown = system.ask(parent, "no.such.Actor", WAIT)
    system.tell(told, ActorExitRequest())
    system.tell(told, ActorExitRequest())
    system.tell(failed, "exit()")
    gone: list = []
    while len(gone) < 4:
        gone = system.ask(parent, "exited?", WAIT)
    settled(system, kept, parent)
    gone = system.ask(parent, "exited?", WAIT)
    assert len(gone) == 4
    assert all(address in gone for address in (told, failed, unborn, unknown))
    assert system.ask(kept, "count?", WAIT) == 0


def test_an_exit_takes_the_family_along_and_each_is_told_to_exit_first(system, base):
    Leaver.heard.clear()
    parent = system.createActor(Leaver)
    child = system.ask(parent, "child", WAIT)
    grandchild = system.ask(child, "child", WAIT)
    system.tell(parent, ActorExitRequest())
    while base.system.whereis(parent.actorAddressString):
        settled(system, system.systemAddress)
    told = [who for who, what in Leaver.heard if what == "ActorExitRequest"]
    assert sorted(told) == sorted(a.actorAddressString for a in (parent, child, grandchild))


def test_an_exit_that_is_not_recursive_leaves_the_children_at_work(system, base):
    parent = system.createActor(Parent)
    child = system.ask(parent, Echo, WAIT)
    grandchild = system.ask(parent, Parent, WAIT)
    system.tell(parent, ActorExitRequest(recursive=False))
    while base.system.whereis(parent.actorAddressString):
        settled(system, system.systemAddress)
    assert system.ask(child, "still here", WAIT) == "still here"
    assert system.ask(grandchild, "exited?", WAIT) == []
    assert base.system.info(child.actorAddressString).parent.name == "thespian"


def test_a_failing_actor_is_tried_twice_then_answers_poison_and_lives_on(system, base):
    counter = system.createActor(Counter)
    system.tell(counter, "one")
    poison = system.ask(counter, "fail", WAIT)
    assert isinstance(poison, PoisonMessage)
    assert poison.poisonMessage == "fail"
    assert "told to fail" in poison.details
    assert system.ask(counter, "count?", WAIT) == 1
    info = base.system.info(counter.actorAddressString)
    assert info.last_error == "ValueError: told to fail"
    assert info.detail["poisoned"] == 1


def test_what_a_guest_that_exits_had_not_read_becomes_dead_letters(system):
    class Undertaker(Actor):
        def receiveMessage(self, msg, sender):
            if msg == "start":
                self.handleDeadLetters()
                self.letters = []
                self.send(sender, "started")
            elif isinstance(msg, DeadEnvelope):
                self.letters.append((msg.deadAddress.actorAddressString, msg.deadMessage))
            elif msg == "letters?":
                self.send(sender, self.letters)

    undertaker = system.createActor(Undertaker)
    assert system.ask(undertaker, "start", WAIT) == "started"
    echo = system.createActor(Echo)
    system.tell(echo, ActorExitRequest())
    for word in ("a", "b", "c"):
        system.tell(echo, word)
    letters: list = []
    while len(letters) < 3:
        letters = system.ask(undertaker, "letters?", WAIT)
    assert letters == [(echo.actorAddressString, word) for word in ("a", "b", "c")]


def test_capabilities_decide_what_starts_and_what_stays(system, base):
    @requireCapability("Green")
    class GreenActor(Echo):
        pass

    with pytest.raises(NoCompatibleSystemForActor):
        system.createActor(GreenActor)
    system.updateCapability("Green", True)
    green = system.createActor(GreenActor)
    assert system.ask(green, "hello", WAIT) == "hello"
    system.updateCapability("Green")
    while base.system.whereis(green.actorAddressString):
        settled(system, system.systemAddress)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda actor: actor.loadActorSource("a.zip"), SourceLoadingNotHosted),
        (lambda actor: actor.unloadActorSource("hash"), SourceLoadingNotHosted),
        (lambda actor: actor.registerSourceAuthority(), SourceLoadingNotHosted),
        (lambda actor: actor.createActor(Echo, sourceHash="hash"), SourceLoadingNotHosted),
        (lambda actor: actor.preRegisterRemoteSystem("host:1900", {}), ConventionsNotHosted),
        (lambda actor: actor.deRegisterRemoteSystem("host:1900"), ConventionsNotHosted),
    ],
)
def test_what_does_not_apply_is_a_typed_error(system, call, error):
    class Asking(Actor):
        def receiveMessage(self, msg, sender):
            if msg == "go":
                try:
                    call(self)
                except NotHosted as exc:
                    self.send(sender, exc)

    assert type(system.ask(system.createActor(Asking), "go", WAIT)) is error
    with pytest.raises(SourceLoadingNotHosted):
        system.loadActorSource("a.zip")
    with pytest.raises(SourceLoadingNotHosted):
        system.createActor(Echo, sourceHash="hash")


def test_an_actor_runs_on_one_thread_which_is_not_the_loops(system):
    counter = system.createActor(Counter)
    threads = {system.ask(counter, "thread?", WAIT) for _ in range(20)}
    assert len(threads) == 1
    assert "loop" not in threads.pop()


def test_threads_outside_get_their_own_answers(system):
    echo = system.createActor(Echo)
    wrong = []

    def ask(name):
        with system.private() as own:
            for number in range(50):
                if own.ask(echo, (name, number), WAIT) != (name, number):
                    wrong.append((name, number))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_flood_fills_one_bounded_mailbox_and_what_is_too_much_is_counted(system, base):
    flooder = system.createActor(Flooder)
    assert system.ask(flooder, 30_000, 60) == "flooded"
    info = base.system.info(flooder.actorAddressString)
    assert info.detail["refused"] >= 30_000 - info.mailbox_limit - 64
    assert base.dead_letters >= info.detail["refused"]
    assert system.ask(system.createActor(Echo), "hello", WAIT) == "hello"


def test_a_thread_outside_waits_for_room_and_loses_nothing(system, base):
    Blocker.entered.clear()
    Blocker.release.clear()

    class Slow(Blocker):
        seen = 0

        def receiveMessage(self, msg, sender):
            super().receiveMessage(msg, sender)
            if isinstance(msg, int):
                self.seen += 1
            elif msg == "seen?":
                self.send(sender, self.seen)

    slow = system.createActor(Slow)
    system.tell(slow, "block")
    assert Blocker.entered.wait(WAIT)
    told = threading.Thread(target=lambda: [system.tell(slow, number) for number in range(20_000)])
    told.start()
    while not base.crowded:
        settled(system, system.systemAddress)
    assert system.ask(system.createActor(Echo), "others go on", WAIT) == "others go on"
    assert told.is_alive()  # the mailbox holds 10,000, some more are under way, the rest is not sent yet
    Blocker.release.set()
    told.join(60)
    assert not told.is_alive()
    seen = 0
    while seen < 20_000:
        answer = system.ask(slow, "seen?", WAIT)
        seen = answer if isinstance(answer, int) else seen
    assert seen == 20_000


def test_a_status_comes_even_from_an_actor_that_is_stuck(system):
    Blocker.entered.clear()
    Blocker.release.clear()
    blocker = system.createActor(Blocker)
    system.tell(blocker, "block")
    assert Blocker.entered.wait(WAIT)
    try:
        status = system.ask(blocker, Thespian_StatusReq(), WAIT)
        assert status.actorClass == "tests.runtime.thespian.guests.Blocker"
    finally:
        Blocker.release.set()


def live(*classes):
    gc.collect()
    return sum(isinstance(thing, classes) for thing in gc.get_objects())


def test_nothing_is_left_of_actors_that_ended(system, base):
    from hermes.runtime.ref import Ref
    from hermes.runtime.thespian.guest import Guest
    from hermes.runtime.thespian.worker import Handle

    kinds = (Ref, Guest, Handle, Counter)
    parent = system.createActor(Parent)
    with system.private() as own:
        own.ask(parent, "exited?", WAIT)

    def round_of(number):
        children = system.ask(parent, number, WAIT)
        for child in children:
            system.tell(child, ActorExitRequest())
        gone: list = []
        while len(gone) < number:
            gone = system.ask(parent, "exited?", WAIT)
        system.ask(system.ask(parent, Echo, WAIT), ActorExitRequest(), 0.01)

    before = live(*kinds)
    objects = len(gc.get_objects())
    round_of(2_000)
    assert live(*kinds) <= before + 2
    assert len(gc.get_objects()) < objects + 8_000  # the parent's own list of 2,000 addresses, three objects each
    assert len(base.system.registry) <= 4


@pytest.mark.slow
def test_a_hundred_thousand_actors_leave_nothing_behind(system, base):
    class Maker(Actor):
        """Lets ten thousand children come and go a round."""

        def receiveMessage(self, msg, sender):
            if isinstance(msg, int):
                self.left, self.asker = msg, sender
                for _ in range(msg):
                    self.send(self.createActor(Counter), ActorExitRequest())
            elif isinstance(msg, ChildActorExited):
                self.left -= 1
                if not self.left:
                    self.send(self.asker, "done")

    maker = system.createActor(Maker)
    assert system.ask(maker, 10_000, 60) == "done"
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(10):
        assert system.ask(maker, 10_000, 60) == "done"
    gc.collect()
    assert len(gc.get_objects()) - before < 100
    assert len(base.system.registry) == 2


def test_the_kernel_alone_does_not_import_thespian():
    code = "import sys, hermes.runtime; sys.exit('thespian' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
