"""Addresses that are no guests: threads outside the actors, actors of the node that call a guest, the system itself."""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from thespian.actors import ActorAddress, PoisonMessage, Thespian_StatusReq
from thespian.system import isInternalActorSystemMessage
from thespian.system.timing import timePeriodSeconds

from hermes.runtime.mailbox import Reply
from hermes.runtime.thespian.errors import Poisoned
from hermes.runtime.thespian.status import system_status

if TYPE_CHECKING:
    from hermes.runtime.thespian.base import SystemBase


class External:
    """A thread outside the actors, as an address to answer to: `ActorSystem.private()`, and the default one."""

    def __init__(self, base: SystemBase, name: str) -> None:
        self._base = base
        self.address = ActorAddress(name)
        self._answers: SimpleQueue[Any] = SimpleQueue()
        base.externals[name] = self

    def take(self, sender: ActorAddress, message: Any) -> None:
        """Keep an answer for `listen`; the system's own messages are not for programs outside."""
        if not isInternalActorSystemMessage(message):
            self._answers.put(message)

    def tell(self, target: ActorAddress, message: Any) -> None:
        """Send, waiting while the actor's mailbox is full.

        Raises:
            ActorSystemRequestTimeout: it was full for `ROOM_LIMIT_S`; the message was not sent.
        """
        self._base.send_from_outside(self.address, target, message, False)

    def ask(self, target: ActorAddress, message: Any, timeout: Any = None) -> Any:
        """Send and wait for the next message to this address; None after `timeout`."""
        self._base.refuse_to_block("ask")
        self._base.send_from_outside(self.address, target, message, True)
        return self.listen(timeout)

    def listen(self, timeout: Any = None) -> Any:
        """Wait for the next message to this address; None after `timeout` (seconds or timedelta)."""
        self._base.refuse_to_block("listen")
        try:
            return self._answers.get(timeout=None if timeout is None else max(timePeriodSeconds(timeout), 0.0))
        except Empty:
            return None

    def newPrimaryActor(self, *arguments: Any) -> ActorAddress:
        """As `SystemBase.newPrimaryActor`."""
        return self._base.newPrimaryActor(*arguments)

    def exit_context(self) -> None:
        """Be no address any more."""
        self._base.externals.pop(self.address.addressDetails, None)


class Asker:
    """The address of an actor of the node that called a guest: the first message to it is the answer."""

    __slots__ = ("_reply",)

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def take(self, sender: ActorAddress, message: Any) -> None:
        if isinstance(message, PoisonMessage):
            lines = str(message.details or "").strip().splitlines()
            self._reply.error(Poisoned(lines[-1] if lines else "the guest failed"))
        elif not isInternalActorSystemMessage(message):
            self._reply.ok(message)


class Door:
    """An address at which a program of the node takes messages from guests.

    Call a mounted guest with it (`System.call(name, door)`): it is opened in that guest's base, and the answer is its
    address, ready to be put into a message. The guest itself hears nothing of it.

    Args:
        take: called in the loop with each message; its errors are logged.
    """

    __slots__ = ("_base", "_take", "address")

    def __init__(self, take: Callable[[Any], object]) -> None:
        self._take = take
        self._base: SystemBase | None = None
        self.address: ActorAddress | None = None

    def open(self, base: SystemBase) -> ActorAddress:
        """Be an address of this base; the same one if it is open already."""
        if self._base is None:
            name = f"{base.name}:door/{base.new_number()}"
            self._base = base
            self.address = ActorAddress(name)
            base.externals[name] = self
        return self.address

    def close(self) -> None:
        """Be no address any more: what comes later is a dead letter."""
        if self._base is not None and self.address is not None:
            self._base.externals.pop(self.address.addressDetails, None)
            self._base = self.address = None

    def take(self, sender: ActorAddress, message: Any) -> None:
        """Hand a message on; the system's own messages are not for programs."""
        if not isInternalActorSystemMessage(message):
            self._take(message)


class Admin:
    """The system's own address."""

    __slots__ = ("_base",)

    def __init__(self, base: SystemBase) -> None:
        self._base = base

    def take(self, sender: ActorAddress, message: Any) -> None:
        if isinstance(message, Thespian_StatusReq):
            self._base.send(self._base.system_address, sender, system_status(self._base))
