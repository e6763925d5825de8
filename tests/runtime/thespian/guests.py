"""Actors written for Thespian, as a team would have them: they know nothing of Hermes."""

import threading
import time
from typing import ClassVar

from thespian.actors import Actor, ActorExitRequest, ActorTypeDispatcher, ChildActorExited, WakeupMessage


class Echo(Actor):
    def receiveMessage(self, msg, sender):
        if not isinstance(msg, ActorExitRequest):
            self.send(sender, msg)


class Counter(Actor):
    def __init__(self):
        self.count = 0

    def receiveMessage(self, msg, sender):
        if msg == "count?":
            self.send(sender, self.count)
        elif msg == "fail":
            raise ValueError("told to fail")
        elif msg == "thread?":
            self.send(sender, threading.current_thread().name)
        elif msg == "exit()":
            raise SystemExit
        else:
            self.count += 1


class Parent(ActorTypeDispatcher):
    """Makes children of a class it is told, and remembers which have exited."""

    def __init__(self):
        self.exited = []
        self.asked_to_exit = None

    def receiveMsg_str(self, msg, sender):
        if msg == "exited?":
            self.send(sender, list(self.exited))
        else:
            self.send(sender, self.createActor(msg))

    def receiveMsg_type(self, actor_class, sender):
        self.send(sender, self.createActor(actor_class))

    def receiveMsg_int(self, number, sender):
        self.send(sender, [self.createActor(Counter) for _ in range(number)])

    def receiveMsg_ChildActorExited(self, msg, sender):
        self.exited.append(msg.childAddress)


class Unborn(Actor):
    def __init__(self):
        raise ValueError("never starts")


class Blocker(Actor):
    """Blocks its thread until it is released."""

    release = threading.Event()
    entered = threading.Event()

    def receiveMessage(self, msg, sender):
        if msg == "block":
            self.entered.set()
            self.release.wait(60)
        elif isinstance(msg, str):
            self.send(sender, msg)


class Flooder(Actor):
    """Sends itself far more than a mailbox holds."""

    def receiveMessage(self, msg, sender):
        if isinstance(msg, int):
            for number in range(msg):
                self.send(self.myAddress, f"flood {number}")
            self.send(sender, "flooded")


class Leaver(Actor):
    """Writes down, in a list of the class, what it hears when it ends."""

    heard: ClassVar[list] = []

    def receiveMessage(self, msg, sender):
        if isinstance(msg, ActorExitRequest | ChildActorExited):
            self.heard.append((self.myAddress.actorAddressString, type(msg).__name__))
        elif msg == "child":
            self.send(sender, self.createActor(Leaver))
        elif msg == "hello":
            self.send(sender, "hello")


class Sleeper(Actor):
    def receiveMessage(self, msg, sender):
        if isinstance(msg, WakeupMessage):
            self.send(msg.payload, time.monotonic())
        elif isinstance(msg, float):
            self.wakeupAfter(msg, sender)


class Stuck(Actor):
    """Never comes back from a message of Hermes."""

    def receiveMessage(self, msg, sender):
        if isinstance(msg, dict):
            threading.Event().wait()


class Clumsy(Actor):
    """A carrier with a bug."""

    def receiveMessage(self, msg, sender):
        if isinstance(msg, dict):
            raise ValueError("a bug")
