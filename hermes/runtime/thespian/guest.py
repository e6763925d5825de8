"""A Thespian actor as the kernel sees it: a mailbox, a name, a place in the tree.

Its instance lives on a worker thread; here, on the loop, messages wait, are counted and are handed over,
at most `IN_HAND` at a time, so what floods a guest fills its bounded mailbox and nothing else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar, Final

from thespian.actors import ActorAddress, ChildActorExited, Thespian_StatusReq

from hermes.runtime.actor import Actor
from hermes.runtime.mailbox import NO_REPLY, ChildEnded, Reply
from hermes.runtime.reasons import KILL, Reason
from hermes.runtime.ref import Ref
from hermes.runtime.thespian.errors import HandlerOverdue, Poisoned, StuckThreads
from hermes.runtime.thespian.mail import Mail
from hermes.runtime.thespian.outside import Door
from hermes.runtime.thespian.status import actor_status
from hermes.runtime.thespian.worker import Crew, Handle

if TYPE_CHECKING:
    from hermes.runtime.thespian.base import SystemBase

IN_HAND: Final = 64  # messages given to the worker and not yet handled; the rest wait in the mailbox
_ACK: Final = 32  # the worker reports after so many: two reports fit into IN_HAND, so it never runs dry
MAILBOX_LIMIT: Final = 10_000  # Thespian's own mailboxes have no limit; programs send in bursts
MOUNTED_WORKERS: Final = 4  # threads for a mounted guest and what it creates
STUCK_LIMIT: Final = 8  # threads earlier lives of a mounted guest may hold before it is not started again
_CHECK: Final = object()


class Guest(Actor):
    """One Thespian actor, made by `createActor`. A failure on a message leaves it alive, as Thespian has it."""

    __slots__ = ("acked", "children", "handed", "handle_", "held", "refused", "waiting")

    mailbox_limit: ClassVar[int] = MAILBOX_LIMIT
    _supervises: ClassVar[bool] = True  # the ends of children come as ChildEnded

    handle_: Handle

    def __init__(self, handle: Handle | None = None) -> None:
        if handle is not None:  # a mounted guest learns its address in `init`
            self.handle_ = handle
        self.handed = 0  # messages given to the worker
        self.acked = 0  # of those, reported handled
        self.held = False
        self.refused = 0  # messages that found the mailbox full
        self.children: dict[Ref, ActorAddress] | None = None
        self.waiting: deque[Mail] | None = None  # from outside threads, for room in the mailbox

    # -- messages

    def handle(self, message: Any) -> None:
        """Hand a message over to the worker."""
        if type(message) is Mail:
            sender, message = message.sender, message.message
        else:
            sender = self.handle_.base.system_address  # from an actor of the node, which has no Thespian address
        self._hand_over(sender, message)

    def handle_call(self, request: Any, reply: Reply) -> Any:
        """Let the guest answer: what it sends to the sender of `request` first is the answer."""
        self._hand_over(self.handle_.base.asker(reply), request)
        return NO_REPLY

    def _hand_over(self, sender: ActorAddress, message: Any) -> None:
        handle = self.handle_
        if type(message) is Thespian_StatusReq:
            handle.base.send(handle.address, sender, actor_status(self))
            return
        handle.worker.put(handle.receive, sender, message, next(handle.base.orders))
        self.handed += 1
        if not self.handed % _ACK:
            handle.worker.put(handle.post, self._acknowledged)
            if self.handed - self.acked >= IN_HAND:
                self.held = True
                self.hold_mailbox()

    def _acknowledged(self) -> None:
        self.acked += _ACK
        if self.held:
            self.held = False
            self.release_mailbox()
        waiting = self.waiting
        if waiting:
            while waiting and not self.ref.send(waiting[0]):
                waiting.popleft()
            if not waiting:
                self.handle_.base.crowded.discard(self.handle_.address._aaddr)

    def _kernel_urgent(self, item: object) -> Awaitable[None] | None:
        if type(item) is ChildEnded and self.children is not None:
            address = self.children.pop(item.ref, None)
            if address is not None:
                self.tell_child_exited(address)
        return None

    def tell_child_exited(self, address: ActorAddress) -> None:
        """Say once that a child is gone."""
        handle = self.handle_
        base = handle.base
        handle.worker.put(handle.receive, base.system_address, ChildActorExited(address), next(base.orders))

    # -- the end

    def _kernel_before_end(self) -> None:
        handle = self.handle_
        handle.base.gone(self)
        if self.ref._reason is KILL:
            handle.worker.put(handle.let_go)

    def terminate(self, reason: Reason) -> Awaitable[None] | None:
        """Tell the guest to exit, if nobody has yet, and wait until it has cleaned up."""
        return None if self.handle_.dead else self._farewell()

    async def _farewell(self) -> None:
        cleaned_up = asyncio.Event()
        handle = self.handle_
        handle.worker.put(handle.farewell, cleaned_up.set)
        await cleaned_up.wait()

    def _kernel_together(self) -> bool:
        return True

    # -- seeing it

    def inspect(self) -> dict[str, Any]:
        """Return class, address, how many messages are with the worker, and how long the present one has been."""
        handle = self.handle_
        worker = handle.worker
        began = worker.began
        running = began > 0 and worker.current is handle
        return {
            "class": self.class_name(),
            "address": handle.address.addressDetails,
            "global_name": handle.globalName,
            "in_hand": max(self.handed - handle.served, 0),
            "handling_s": round(perf_counter() - began, 6) if running else 0.0,
            "handled": handle.served,
            "poisoned": handle.failures,
            "refused": self.refused,
            "time_spent_s": round(handle.spent, 6),
            "thread": worker.thread.name,
        }

    def class_name(self) -> str:
        """Return the dotted name of the actor's class."""
        found = self.handle_.actor_class
        return found if isinstance(found, str) else f"{found.__module__}.{found.__qualname__}"


class MountedGuest(Guest):
    """A Thespian actor as the child of a supervisor, with threads of its own for it and all it creates.

    It ends, and is so restarted, when it fails twice on the same message, when its `__init__` raises, or when
    it or one it created takes longer than `handler_limit_s` over one message. Its address is its registered name,
    and outlives restarts.
    """

    __slots__ = ("_actor_class", "_base", "_global_name", "_limit_s", "_requirements")

    def __init__(
        self, base: SystemBase, actor_class: Any, global_name: str | None, requirements: Any, handler_limit_s: float
    ) -> None:
        super().__init__()
        self._base = base
        self._actor_class = actor_class
        self._global_name = global_name
        self._requirements = requirements
        self._limit_s = handler_limit_s

    def init(self) -> None:
        """Start its thread; the instance is made there, so an `__init__` that blocks or raises holds nobody up.

        Raises:
            StuckThreads: earlier lives of it still hold `STUCK_LIMIT` threads.
        """
        base, ref = self._base, self.ref
        if ref.name is None:
            ref.name = base.new_name()
            ref._system.registry.reserve(ref.name, ref)
        if (stuck := base.stuck(ref.name)) >= STUCK_LIMIT:
            raise StuckThreads(stuck)
        address = ActorAddress(ref.name)
        if self._global_name:
            base.names.setdefault(self._global_name, address)
        crew = Crew(base, f"thespian {ref.name}", MOUNTED_WORKERS)
        above = base.system_address
        handle = Handle(base, crew, address, above, self._global_name, self._actor_class, self._requirements)
        handle.guest = self
        self.handle_ = handle
        handle.worker.put(handle.begin)
        if self._limit_s > 0:
            self.send_after(self._limit_s / 4, _CHECK)

    def handle(self, message: Any) -> None:
        """Hand a message over to the worker; look now and then whether anyone in the family is stuck."""
        if message is not _CHECK:
            super().handle(message)
            return
        overdue = self.handle_.crew.overdue(self._limit_s)
        if overdue is not None:
            self.stop(HandlerOverdue(str(overdue.address.addressDetails), self._limit_s))
        else:
            self.send_after(self._limit_s / 4, _CHECK)

    def handle_call(self, request: Any, reply: Reply) -> Any:
        """Open a door in the guest's base, or let the guest answer."""
        if type(request) is Door:
            return request.open(self._base)
        return super().handle_call(request, reply)

    def poisoned(self, poison: Poisoned, cause: Exception) -> None:
        """End with the error: the supervisor decides what is next."""
        poison.__cause__ = cause
        self.stop(poison)

    def terminate(self, reason: Reason) -> Awaitable[None] | None:
        """As any guest; threads that are stuck are left behind."""
        if isinstance(reason, HandlerOverdue) or self.handle_.dead:
            self._leave_threads()
            return None
        return self._last_farewell()

    async def _last_farewell(self) -> None:
        try:
            await self._farewell()
        finally:
            self._leave_threads()

    def _leave_threads(self) -> None:
        self._base.abandon(self.ref.name or "", self.handle_.crew)

    def _kernel_before_end(self) -> None:
        if not hasattr(self, "handle_"):  # its init failed
            return
        super()._kernel_before_end()
        if self.ref._reason is KILL:
            self._leave_threads()

    def _kernel_shutdown_s(self, child: Ref) -> float | None:
        return None if isinstance(self.ref._reason, HandlerOverdue) else super()._kernel_shutdown_s(child)


class Family(Actor):
    """The root of the guests nobody mounted: those an `ActorSystem` or a guest with a global name made."""

    kind = "ThespianSystem"

    def _kernel_together(self) -> bool:
        return True
