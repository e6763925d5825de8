"""The system base: what `ActorSystem(systemBase=...)` talks to, in front of the kernel.

Everything about mailboxes, names and families happens on the event loop's thread. Other threads (workers, and
programs that call `tell`, `ask`, `listen`) post operations, which the loop runs in the order they came.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from time import monotonic, sleep
from typing import Any, Final

from thespian.actors import (
    ActorAddress,
    ActorSystemFailure,
    ActorSystemRequestTimeout,
    ChildActorExited,
    DeadEnvelope,
    PoisonMessage,
    ThespianGeneration,
    WakeupMessage,
    WatchMessage,
)

from hermes.runtime.logs import kernel_log
from hermes.runtime.mailbox import Envelope, Reply, SendResult
from hermes.runtime.reasons import NORMAL, SHUTDOWN, RuntimeFault, reason_text
from hermes.runtime.ref import Ref
from hermes.runtime.states import ENDING
from hermes.runtime.system import System
from hermes.runtime.thespian.errors import Poisoned, SourceLoadingNotHosted, WouldBlock
from hermes.runtime.thespian.guest import Family, Guest, MountedGuest
from hermes.runtime.thespian.mail import Mail
from hermes.runtime.thespian.operations import LINGER_S, Operations
from hermes.runtime.thespian.outside import Admin, Asker, External
from hermes.runtime.thespian.worker import Crew, Handle, check_capabilities, resolve

log = logging.getLogger("hermes.runtime.thespian")

WORKERS: Final = 8  # threads for the guests that nobody mounted, and what they create
ROOM_LIMIT_S: Final = 30.0  # seconds an outside thread waits for a full mailbox before it is told
COARSE_S: Final = 1.0  # wake-ups from here on use the wheel, at most 100 ms late; shorter ones are exact
_TOLD_LIMIT: Final = 1000  # operations not yet run before an outside thread has to wait


class SystemBase:
    """Hosts Thespian's actors on the kernel. Give one to `ActorSystem(systemBase=...)`, or mount guests with it.

    Args:
        system: the kernel's system to live in, of the running event loop. None: an own one, on a thread of its own,
            which `shutdown` ends; for programs without a node, and for tests.
        capabilities: what `actorSystemCapabilityCheck` and `requireCapability` look at, besides the usual ones.
        name: registered name of the family of guests that nobody mounted; their addresses begin with it.

    Raises:
        RuntimeError: a `system` was given and no event loop is running.
    """

    def __init__(
        self, system: System | None = None, capabilities: dict[str, Any] | None = None, name: str = "thespian"
    ) -> None:
        self.name = name
        self.system_address = ActorAddress("/ActorSys")
        self.capabilities: dict[str, Any] = {
            "Python Version": tuple(sys.version_info),
            "Thespian Generation": ThespianGeneration,
            "Thespian Version": str(int(time.time() * 1000)),
            "Thespian ActorSystem Name": "hermes",
            "Thespian ActorSystem Version": 1,
            "Thespian Watch Supported": True,
            "AllowRemoteActorSources": "No",
            **(capabilities or {}),
        }
        self.crowded: set[str] = set()  # addresses of guests for whose mailboxes messages of outside threads wait
        self.names: dict[str, ActorAddress] = {}  # global names
        self.externals: dict[str, Any] = {"/ActorSys": Admin(self)}
        self.dead_letter_handler: ActorAddress | None = None
        self._dead_letter_order = 0
        self.dead_letters = 0
        self.orders = itertools.count(1)  # of messages handed to workers
        self._numbers = itertools.count(1)
        self._family: Ref | None = None
        self._watched: dict[Handle, tuple[int, ...]] = {}
        self._crew = Crew(self, name, WORKERS)
        self._stuck: dict[str, list[threading.Thread]] = {}
        self._closed = False
        self._own: threading.Thread | None = None
        if system is None:
            started = threading.Event()
            self._own = threading.Thread(target=self._own_loop, args=(started,), name=f"{name} loop", daemon=True)
            self._own.start()
            started.wait()
        else:
            self._live_in(system, asyncio.get_running_loop())
        self._outside = External(self, "System:ExternalRequester")

    def _live_in(self, system: System, loop: asyncio.AbstractEventLoop) -> None:
        self.system = system
        self._loop = loop
        self.operations = Operations(loop)

    def _own_loop(self, started: threading.Event) -> None:
        loop = asyncio.new_event_loop()
        try:
            self._live_in(System(), loop)
            loop.call_soon(started.set)
            loop.run_forever()
        finally:
            loop.close()

    # -- mounting

    def mount(
        self,
        actor_class: Any,
        global_name: str | None = None,
        requirements: dict[str, Any] | None = None,
        handler_limit_s: float = 60.0,
    ) -> MountedGuest:
        """Make a guest that is the child of a supervisor: the factory of a `ChildSpec`, with these as its `args`.

        Args:
            actor_class: a subclass of Thespian's Actor, or its dotted name.
            global_name: under which other guests find it with `createActor(..., globalName=...)`; kept over restarts.
            requirements: for its capability check and its `__init__`.
            handler_limit_s: seconds one message may take before the guest is started anew; 0: no limit.
        """
        return MountedGuest(self, actor_class, global_name, requirements, handler_limit_s)

    # -- sending; on the loop

    def send(self, sender: ActorAddress, target: ActorAddress, message: Any) -> None:
        """Deliver a message, or make it a dead letter."""
        result = self._deliver(sender, target, message)
        if result is SendResult.FULL:
            self._note_refused(target)
        if result:
            self.dead_letter(target, message)

    def _deliver(self, sender: ActorAddress, target: ActorAddress, message: Any) -> SendResult:
        details = target._aaddr
        ref = self.system.registry.get(details) if type(details) is str else None
        if ref is not None:
            if isinstance(ref._actor, Guest):
                return ref.send(Mail(sender, message))
        elif type(details) is str and (outside := self.externals.get(details)) is not None:
            outside.take(sender, message)
            return SendResult.DELIVERED
        return SendResult.UNKNOWN

    def _send_patiently(self, sender: ActorAddress, target: ActorAddress, message: Any) -> None:
        """Deliver for an outside thread: what finds a full mailbox waits for room, and so does what comes after it."""
        crowded = target._aaddr in self.crowded if self.crowded else False
        result = SendResult.FULL if crowded else self._deliver(sender, target, message)
        if result is SendResult.FULL:
            guest: Any = self.system.registry[target._aaddr]._actor
            if guest.waiting is None:
                guest.waiting = deque()
            guest.waiting.append(Mail(sender, message))
            self.crowded.add(target._aaddr)
        elif result:
            self.dead_letter(target, message)

    def _note_refused(self, target: ActorAddress) -> None:
        guest: Any = self.system.registry[target._aaddr]._actor
        guest.refused += 1
        if guest.refused == 1:
            kernel_log.warning("%s has a full mailbox; what it cannot take becomes dead letters", guest.ref)

    def dead_letter(self, target: ActorAddress, message: Any) -> None:
        """Give what could not be delivered to the actor that takes dead letters, if there is one."""
        if isinstance(message, DeadEnvelope | ChildActorExited | PoisonMessage):
            return
        self.dead_letters += 1
        if self.dead_letter_handler is not None:
            self._deliver(self.system_address, self.dead_letter_handler, DeadEnvelope(target, message))

    def handle_dead_letters(self, address: ActorAddress, enable: bool, order: int) -> None:
        """Let one actor take the dead letters from now on, or no longer.

        Of two actors on two threads the one that was told later (`order`) wins, whichever thread was faster.
        """
        if enable:
            if order > self._dead_letter_order:
                self._dead_letter_order = order
                self.dead_letter_handler = address
        elif self.dead_letter_handler == address:
            self.dead_letter_handler = None

    def wakeup(self, handle: Handle, delay_s: float, period: Any, payload: Any) -> None:
        """Send a guest a WakeupMessage later."""
        if handle.guest is not None:
            mail = Mail(handle.address, WakeupMessage(period, payload))
            handle.guest.send_after(max(delay_s, 0.0), mail, coarse=delay_s >= COARSE_S)

    def watch(self, handle: Handle, files: tuple[int, ...]) -> None:
        """Send a guest one WatchMessage when one of these file descriptors can be read; forget earlier ones."""
        for file in self._watched.pop(handle, ()):
            self._loop.remove_reader(file)
        if files and handle.guest is not None:
            self._watched[handle] = files
            for file in files:
                self._loop.add_reader(file, self._readable, handle, file)

    def _readable(self, handle: Handle, file: int) -> None:
        self.watch(handle, ())
        if handle.guest is not None:
            handle.guest.ref.send_system(Mail(handle.address, WatchMessage([file])))

    def asker(self, reply: Reply) -> ActorAddress:
        """Make an address that answers a call from the node; it goes when the caller has its answer or gave up."""
        name = f"{self.name}:call/{next(self._numbers)}"
        self.externals[name] = Asker(reply)
        reply._future.add_done_callback(lambda _: self.externals.pop(name, None))
        return ActorAddress(name)

    # -- lives of guests; on the loop

    def abandon(self, name: str, crew: Crew) -> None:
        """Leave the threads of a mounted guest behind, and remember those that are stuck."""
        stuck = crew.abandon()
        if stuck:
            log.error("%s leaves %d of its threads behind, each in a handler that does not return", name, len(stuck))
            self._stuck.setdefault(name, []).extend(stuck)

    def stuck(self, name: str) -> int:
        """Return how many threads of earlier lives of a mounted guest are still in a handler."""
        threads = [thread for thread in self._stuck.pop(name, ()) if thread.is_alive()]
        if threads:
            self._stuck[name] = threads
        return len(threads)

    def new_number(self) -> int:
        """Return a number this base has not given yet; any thread may ask."""
        return next(self._numbers)

    def new_name(self) -> str:
        """Return a name, and so an address, that no other guest of this base ever has; any thread may ask."""
        return f"{self.name}/{next(self._numbers)}"

    def family(self) -> Ref:
        """Return the root of the guests nobody mounted, started when first needed."""
        family = self._family
        if family is None or not family.alive:
            family = self._family = self.system.spawn(Family, name=self.name)
        return family

    def primaries(self) -> Iterator[Guest]:
        """Iterate over the guests nobody mounted and no guest made."""
        rare = self._family._rare if self._family is not None else None
        for ref in rare or ():
            if isinstance(ref._actor, Guest):
                yield ref._actor

    def _start(self, handle: Handle, parent: Handle | None) -> None:
        """Give a guest its actor in the kernel, and let its worker make the instance."""
        above = parent.guest if parent is not None else None
        if parent is not None and (above is None or above.ref._state >= ENDING):
            self._release_name(handle)
            return
        guest = Guest(handle)
        try:
            owner = self._home(above) if above is None or handle.globalName else above.ref
            ref = self.system.spawn(lambda: guest, name=handle.address._aaddr, parent=owner)
        except RuntimeFault:  # the system is shutting down: nobody is left who could be told
            return
        handle.guest = guest
        if above is not None and not handle.globalName:
            if above.children is None:
                above.children = {}
            above.children[ref] = handle.address
        handle.worker.put(handle.begin)

    def _home(self, guest: Guest | None) -> Ref:
        """Return who owns what has no parent among the guests: the mounted guest it came from, or the family."""
        above = guest.ref if guest is not None else None
        while above is not None:
            if isinstance(above._actor, MountedGuest):
                return above
            above = above._parent
        return self.family()

    def exited(self, handle: Handle, recursive: bool) -> None:
        """End a guest that has handled its ActorExitRequest."""
        guest = handle.guest
        if guest is None:
            return
        ref = guest.ref
        if not recursive and not isinstance(guest, MountedGuest):
            self._orphan(ref)
        self._return_mail(guest)
        ref.stop(NORMAL)

    def _orphan(self, ref: Ref) -> None:
        """Move the children of a guest that exits alone to whoever owns guests without a parent."""
        owner = self._home(ref._parent._actor if ref._parent and isinstance(ref._parent._actor, Guest) else None)
        rare = ref._rare
        if rare is None or owner._state >= ENDING:
            return
        for child in list(rare):
            rare.remove(child)
            owner._need_rare().add(child)
            child._parent = owner

    def _return_mail(self, guest: Guest) -> None:
        """Make dead letters of what waits for a guest that exits."""
        ref = guest.ref
        main, ref._main = ref._main, None
        for item in main or ():
            if type(item) is Mail:
                self.dead_letter(guest.handle_.address, item.message)
            elif type(item) is Envelope and item.reply is not None:
                ref._refuse((item,), NORMAL)

    def failed(self, handle: Handle, error: BaseException) -> None:
        """End a guest whose code ended it with an error."""
        if handle.guest is not None:
            if not isinstance(error, SystemExit):
                kernel_log.error("%s ended: %s", handle.guest.ref, reason_text(error), exc_info=error)
            handle.guest.ref.stop(error)

    def poisoned(self, handle: Handle, poison: Poisoned, cause: Exception) -> None:
        """Note that a guest failed twice on a message; one that is mounted ends of it."""
        guest = handle.guest
        if guest is None:
            return
        if isinstance(guest, MountedGuest):
            guest.poisoned(poison, cause)
        else:
            guest.ref._need_rare().last_error = reason_text(cause)

    def gone(self, guest: Guest) -> None:
        """Forget a guest that has begun to end."""
        handle = guest.handle_
        handle.guest = None
        if self._watched:
            self.watch(handle, ())
        if self.dead_letter_handler is not None and self.dead_letter_handler == handle.address:
            self.dead_letter_handler = None
        if not isinstance(guest, MountedGuest):  # whose name, like its address, outlives restarts
            self._release_name(handle)
        waiting, guest.waiting = guest.waiting, None
        self.crowded.discard(handle.address._aaddr)
        for mail in waiting or ():
            self.dead_letter(handle.address, mail.message)

    def _release_name(self, handle: Handle) -> None:
        name = handle.globalName
        if name and self.names.get(name) == handle.address:
            del self.names[name]

    # -- creating; on any thread

    def create(
        self, parent: Handle | None, actor_class: Any, requirements: Any, global_name: str | None
    ) -> ActorAddress:
        """Begin to make an actor, and return its address. A parent hears of a failure by ChildActorExited."""
        if global_name and (existing := self.names.get(global_name)) is not None:
            return existing
        address = ActorAddress(self.new_name())
        if parent is not None and (parent.dead or parent.worker.gone):
            return address
        if global_name and (existing := self.names.setdefault(global_name, address)) is not address:
            return existing
        above = self.system_address if parent is None or global_name else parent.address
        crew = self._crew if parent is None else parent.crew
        handle = Handle(self, crew, address, above, global_name, actor_class, requirements)
        if parent is None:
            self.operations.post(self._start, handle, None)
        else:
            parent.post(self._start, handle, parent)
        return address

    # -- what ActorSystem calls, on any thread; the names are Thespian's

    def refuse_to_block(self, what: str) -> None:
        """Raise where waiting would stop the loop.

        Raises:
            WouldBlock: called on the loop's own thread.
            ActorSystemFailure: the system has been shut down.
        """
        if threading.get_ident() == self.operations.thread:
            raise WouldBlock(what)
        if self._closed:
            raise ActorSystemFailure("the actor system has been shut down")

    def send_from_outside(self, sender: ActorAddress, target: ActorAddress, message: Any, now: bool) -> None:
        """Post a message for an outside thread; wait while the loop is far behind or the actor's mailbox is full."""
        if threading.get_ident() == self.operations.thread:
            self.send(sender, target, message)
            return
        if len(self.operations.queue) >= _TOLD_LIMIT or (self.crowded and target._aaddr in self.crowded):
            self._wait_for_room(target._aaddr)
        self.operations.queue.append((self._send_patiently, (sender, target, message)))
        self.operations.wake(now)

    def _wait_for_room(self, details: Any) -> None:
        deadline = monotonic() + ROOM_LIMIT_S
        while len(self.operations.queue) >= _TOLD_LIMIT or details in self.crowded:
            if monotonic() > deadline or self._closed:
                raise ActorSystemRequestTimeout(f"the mailbox of {details} is full")
            sleep(LINGER_S)

    def newPrimaryActor(
        self, actor_class: Any, requirements: Any, global_name: str | None, source_hash: Any = None
    ) -> ActorAddress:
        """Make a top-level actor; its `__init__` follows on a worker's thread.

        If that raises, the log is told, and what is sent to the actor becomes dead letters.

        Raises:
            SourceLoadingNotHosted: `source_hash` was given.
            NoCompatibleSystemForActor: its capability check says no.
            ImportError, InvalidActorSpecification: there is no such class.
        """
        if source_hash is not None:
            raise SourceLoadingNotHosted("createActor(sourceHash=...)")
        if global_name and (existing := self.names.get(global_name)) is not None:
            return existing
        found = resolve(actor_class)
        check_capabilities(found, self.capabilities, requirements)
        return self.create(None, found, requirements, global_name)

    def tell(self, target: ActorAddress, message: Any) -> None:
        """As `External.tell`, for the program's default address."""
        self._outside.tell(target, message)

    def ask(self, target: ActorAddress, message: Any, timeout: Any = None) -> Any:
        """As `External.ask`, for the program's default address."""
        return self._outside.ask(target, message, timeout)

    def listen(self, timeout: Any = None) -> Any:
        """As `External.listen`, for the program's default address."""
        return self._outside.listen(timeout)

    def external_clone(self) -> External:
        """Make an address of its own for a thread: `ActorSystem.private()`."""
        return External(self, f"System:ExternalRequester:{next(self._numbers)}")

    def updateCapability(self, name: str, value: Any = None) -> None:
        """Set a capability, or remove it with None; actors that no longer fit are told to exit."""
        if value is None:
            self.capabilities.pop(name, None)
        else:
            self.capabilities[name] = value
        self.operations.post(self._recheck)

    def _recheck(self) -> None:
        for ref in list(self.system.registry.values()):
            guest = ref._actor
            if isinstance(guest, Guest) and guest.handle_.base is self:
                guest.handle_.worker.put(guest.handle_.recheck)

    def loadActorSource(self, source: Any) -> None:
        """Refused: what a node runs is what was installed."""
        raise SourceLoadingNotHosted("loadActorSource")

    def unloadActorSource(self, source_hash: Any) -> None:
        """Refused: nothing was loaded."""
        raise SourceLoadingNotHosted("unloadActorSource")

    def shutdown(self) -> None:
        """End the guests nobody mounted, and wait; with an own system, end that and its thread too."""
        if self._closed:
            return
        self.refuse_to_block("shutdown")
        self._closed = True
        asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result()
        if self._own is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._own.join()

    def shutdown_from_inside(self) -> None:
        """End what `shutdown` ends, for a guest that asked for it and will end by it."""
        threading.Thread(target=self.shutdown, name=f"{self.name} shutdown", daemon=True).start()

    async def _shut_down(self) -> None:
        self.operations.run()
        if self._own is not None:
            await self.system.shutdown()
        elif self._family is not None and self._family.alive:
            self._family.stop(SHUTDOWN)
            await self._family.ended()
        self._crew.abandon()
        self.operations.close()
