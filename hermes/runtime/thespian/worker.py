"""The thread a family of guests runs on, and the handle through which their code reaches the kernel.

Guest code may block, so none of it runs on the event loop's thread. The loop owns mailboxes, names and
families; a worker owns the guests' instances. They talk over two queues: the worker's inbox, and the
operations a worker posts to its base (`SystemBase.post`), which the loop runs in order.

Invariants:
- An instance is made, called and dropped by its worker alone.
- A worker that was abandoned posts nothing any more: its guests are gone.
"""

from __future__ import annotations

import copy
import logging
import traceback
from collections.abc import Callable
from functools import lru_cache
from inspect import signature
from itertools import count
from queue import SimpleQueue
from threading import Lock, Thread
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any, Final

from thespian.actors import (
    ActorAddress,
    ActorExitRequest,
    InvalidActorSpecification,
    NoCompatibleSystemForActor,
    PoisonMessage,
    ThespianWatch,
)
from thespian.system.timing import timePeriodSeconds
from thespian.system.utilis import actualActorClass

from hermes.runtime.reasons import reason_text
from hermes.runtime.thespian.errors import ConventionsNotHosted, Poisoned, SourceLoadingNotHosted

if TYPE_CHECKING:
    from hermes.runtime.thespian.base import SystemBase
    from hermes.runtime.thespian.guest import Guest

log = logging.getLogger("hermes.runtime.thespian")

POSTED_LIMIT: Final = 10_000  # operations the loop has not run yet before whoever posts more has to wait
_POLL_S: Final = 0.001


class Worker:
    """One daemon thread that runs the guests of a family, one message at a time, in the order they were handed over.

    Attributes:
        began: `perf_counter` when the running handler began; 0.0 between handlers.
        current: whose handler runs.
        gone: abandoned; whatever its guests still ask for is ignored.
    """

    __slots__ = ("_base", "began", "current", "gone", "inbox", "posted", "thread")

    def __init__(self, base: SystemBase, name: str) -> None:
        self._base = base
        self.inbox: SimpleQueue[tuple[Any, ...] | None] = SimpleQueue()
        self.began = 0.0
        self.current: Handle | None = None
        self.gone = False
        self.posted = False  # something was posted since the loop was last woken for it
        self.thread = Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def put(self, *work: Any) -> None:
        """Queue a function and its arguments; any thread may."""
        self.inbox.put(work)

    def put_end(self) -> None:
        """Let the thread end after what is queued."""
        self.inbox.put(None)

    def _run(self) -> None:
        base, inbox = self._base, self.inbox
        get, empty = inbox.get, inbox.empty
        while True:
            if self.posted:
                # With nothing left to do the loop is woken at once; amid a stream of work it looks by itself.
                idle = empty()
                self.posted = not idle
                base.operations.wake(idle)
            work = get()
            if work is None or self.gone:
                break
            try:
                work[0](*work[1:])
            except BaseException:  # a bug of ours, not of a guest: the log is told, the family goes on
                log.exception("a worker's own step failed")
            work = None
        if self.posted:
            base.operations.wake(True)


class Crew:
    """The workers of one family. Its guests take turns over them, so one that blocks holds up few others."""

    __slots__ = ("_base", "_lock", "_name", "_turns", "_workers", "gone")

    def __init__(self, base: SystemBase, name: str, size: int) -> None:
        self._base = base
        self._name = name
        self._workers: list[Worker | None] = [None] * size
        self._turns = count()
        self._lock = Lock()
        self.gone = False

    def next(self) -> Worker:
        """Return the worker whose turn it is, started when first needed; any thread may ask."""
        number = next(self._turns) % len(self._workers)
        worker = self._workers[number]
        if worker is None:
            with self._lock:
                worker = self._workers[number]
                if worker is None:
                    worker = self._workers[number] = Worker(self._base, f"{self._name} {number}")
                    worker.gone = self.gone
        return worker

    def close(self) -> None:
        """Let the threads end after what is queued; they are not waited for."""
        for worker in self._workers:
            if worker is not None:
                worker.put_end()

    def abandon(self) -> list[Thread]:
        """Let the threads end as soon as they can, ignore what they do until then; return those in a handler."""
        self.gone = True
        for worker in self._workers:
            if worker is not None:
                worker.gone = True
        self.close()
        return [worker.thread for worker in self._workers if worker is not None and worker.began]

    def overdue(self, limit_s: float) -> Handle | None:
        """Return a guest whose handler has been running for longer than the limit, or None."""
        now = perf_counter()
        for worker in self._workers:
            if worker is not None and 0 < worker.began < now - limit_s and (current := worker.current) is not None:
                return current
        return None


@lru_cache(maxsize=256)
def _wanted_arguments(actor_class: type) -> tuple[bool, bool]:
    """Tell whether `__init__` names `capabilities` and `requirements`; looking costs 20 us, so it is kept."""
    try:
        names = signature(actor_class.__init__).parameters  # type: ignore[misc]
    except (TypeError, ValueError):
        return False, False
    return "capabilities" in names, "requirements" in names


def resolve(actor_class: Any) -> type:
    """Return the class of a class or dotted name.

    Raises:
        ImportError: no such module.
        InvalidActorSpecification: no dotted name, no such class, or nothing to make an actor of.
    """
    try:
        found = actualActorClass(actor_class)
    except AttributeError as exc:
        raise InvalidActorSpecification(actor_class, str(exc)) from exc
    if not isinstance(found, type):
        raise InvalidActorSpecification(actor_class, "not a class")
    return found


def check_capabilities(actor_class: type, capabilities: dict[str, Any], requirements: Any) -> None:
    """Ask the class whether it can run here.

    Raises:
        NoCompatibleSystemForActor: it says no.
    """
    check = getattr(actor_class, "actorSystemCapabilityCheck", None)
    if check is not None and not check(dict(capabilities), requirements or {}):
        raise NoCompatibleSystemForActor(actor_class, "No compatible ActorSystem could be found")


def build(actor_class: Any, capabilities: dict[str, Any], requirements: Any) -> Any:
    """Make an instance, on the thread that will run it.

    Raises:
        NoCompatibleSystemForActor: its capability check says no.
        Exception: what `resolve` or its `__init__` raised.
    """
    found: Any = actor_class if type(actor_class) is type else resolve(actor_class)
    check_capabilities(found, capabilities, requirements)
    wants_capabilities, wants_requirements = _wanted_arguments(found)
    if not wants_capabilities and not wants_requirements:
        return found()
    arguments: dict[str, Any] = {}
    if wants_capabilities:
        arguments["capabilities"] = dict(capabilities)
    if wants_requirements:
        arguments["requirements"] = requirements
    return found(**arguments)


class Handle:
    """What a guest's instance holds as `_myRef`: its way out. Used on the worker's thread only, but for `dead`.

    The names of its methods are Thespian's.

    Attributes:
        guest: its actor in the kernel, once the loop has started it; None again when it ended.
        dead: no message reaches the instance any more.
    """

    __slots__ = (
        "actor_class",
        "address",
        "base",
        "crew",
        "dead",
        "failures",
        "globalName",
        "guest",
        "instance",
        "order",
        "parent",
        "requirements",
        "served",
        "spent",
        "watching",
        "worker",
    )

    def __init__(
        self,
        base: SystemBase,
        crew: Crew,
        address: ActorAddress,
        parent: ActorAddress,
        global_name: str | None,
        actor_class: Any,
        requirements: Any,
    ) -> None:
        self.base = base
        self.crew = crew  # where its children will run
        self.worker = crew.next()
        self.address = address
        self.parent = parent
        self.globalName = global_name
        self.requirements = requirements
        self.actor_class = actor_class  # a class, or the dotted name of one
        self.instance: Any = None
        self.guest: Guest | None = None
        self.dead = False
        self.order = 0  # of the message it handles
        self.served = 0  # messages
        self.failures = 0  # messages it failed on twice
        self.spent = 0.0  # seconds in its handler
        self.watching = False  # its last answer was a ThespianWatch

    # -- what the worker does with it

    def receive(self, sender: ActorAddress, message: Any, order: int) -> None:
        """Handle one message: twice if it fails, then it goes back to its sender as poison.

        Args:
            sender: who gets the answer, and the poison.
            message: anything.
            order: its place among all messages the loop has handed to workers.
        """
        if self.dead:
            self.post(self.base.dead_letter, self.address, message)
            return
        self.order = order
        worker = self.worker
        worker.current = self
        begun = worker.began = perf_counter()
        error: BaseException | None = None
        result: Any = None
        try:
            try:
                result = self.instance.receiveMessage(message, sender)
            except Exception:
                if not isinstance(message, ActorExitRequest):
                    log.warning("%s failed on a message and is given it again", self.address, exc_info=True)
                    result = self.instance.receiveMessage(copy.deepcopy(message), sender)
        except Exception as exc:
            self._poisoned(sender, message, exc)
        except BaseException as exc:  # sys.exit() in a handler ends that guest, not the thread
            error = exc
        finally:
            worker.began = 0.0
            worker.current = None
            self.spent += perf_counter() - begun
            self.served += 1
        if error is not None:
            self.fail(error)
        elif isinstance(message, ActorExitRequest):
            self.let_go()
            self.post(self.base.exited, self, message.isRecursive)
        elif self.watching or type(result) is ThespianWatch:
            # Each answer says anew what to watch; an answer that says nothing ends the watch.
            self.watching = type(result) is ThespianWatch
            self.post(self.base.watch, self, tuple(result.filenos) if self.watching else ())

    def _poisoned(self, sender: ActorAddress, message: Any, error: Exception) -> None:
        self.failures += 1
        if not isinstance(message, PoisonMessage):
            poison = PoisonMessage(message, traceback.format_exc())
            self.post(self.base.send, self.address, sender, poison)
        self.post(self.base.poisoned, self, Poisoned(reason_text(error)), error)

    def farewell(self, done: Callable[[], object]) -> None:
        """Let it clean up: it is told to exit, and then gone. `done` runs in the loop."""
        if not self.dead:
            worker = self.worker
            worker.current = self
            worker.began = perf_counter()
            try:
                self.instance.receiveMessage(ActorExitRequest(), self.base.system_address)
            except BaseException:  # it ends anyway; the log is told
                log.warning("%s failed while it was told to exit", self.address, exc_info=True)
            finally:
                worker.began = 0.0
                worker.current = None
            self.let_go()
        self.post(done)

    def begin(self) -> None:
        """Make the instance; if that fails, the guest ends with the error."""
        worker = self.worker
        worker.current = self
        worker.began = perf_counter()
        try:
            self.instance = build(self.actor_class, self.base.capabilities, self.requirements)
            self.instance._myRef = self
        except BaseException as exc:  # the supervisor is told
            self.fail(exc)
        finally:
            worker.began = 0.0
            worker.current = None

    def recheck(self) -> None:
        """Exit if the capabilities are no longer what the class asks for."""
        check = getattr(self.instance, "actorSystemCapabilityCheck", None)
        if check is None or self.dead:
            return
        try:
            fits = check(dict(self.base.capabilities), self.requirements or {})
        except Exception:  # whoever wrote the check is told by the log; the actor stays
            log.warning("the capability check of %s failed", self.address, exc_info=True)
        else:
            if not fits:
                self.post(self.base.send, self.base.system_address, self.address, ActorExitRequest())

    def fail(self, error: BaseException) -> None:
        """End with an error."""
        self.let_go()
        self.post(self.base.failed, self, error)

    def let_go(self) -> None:
        """Drop the instance: nothing reaches it any more."""
        self.dead = True
        self.instance = None

    def post(self, operation: Callable[..., object], *arguments: Any) -> None:
        """Hand an operation to the loop; waits while the loop is far behind."""
        worker = self.worker
        if worker.gone:
            return
        base = self.base
        base.operations.queue.append((operation, arguments))
        worker.posted = True
        while len(base.operations.queue) > POSTED_LIMIT and not worker.gone:
            base.operations.wake(True)
            sleep(_POLL_S)

    # -- what Thespian's Actor asks of it

    def createActor(self, actor_class: Any, requirements: Any, global_name: str | None, source_hash: Any) -> Any:
        """Make a child; a failure is told by `ChildActorExited`."""
        if source_hash is not None:
            raise SourceLoadingNotHosted("createActor(sourceHash=...)")
        return self.base.create(self, actor_class, requirements, global_name)

    def actor_send(self, target: ActorAddress, message: Any) -> None:
        """Send; what cannot be delivered becomes a dead letter."""
        self.post(self.base.send, self.address, target, message)

    def wakeupAfter(self, period: Any, payload: Any) -> None:
        """Ask for one `WakeupMessage`."""
        self.post(self.base.wakeup, self, timePeriodSeconds(period), period, payload)

    def handleDeadLetters(self, address: ActorAddress, enable: bool) -> None:
        """Take, or stop taking, all dead letters; the last one that was told to takes them."""
        self.post(self.base.handle_dead_letters, address, enable, self.order)

    def updateCapability(self, name: str, value: Any) -> None:
        """Change a capability of the system; actors that no longer fit are told to exit."""
        self.base.updateCapability(name, value)

    def notifyOnSystemRegistrationChanges(self, address: ActorAddress, enable: bool) -> None:
        """Ask for convention updates; there is one system, so none ever comes."""

    def notifyOnSourceAvailability(self, address: ActorAddress, enable: bool) -> None:
        """Ask for news of loaded sources; none are loaded, so none ever comes."""

    def registerSourceAuthority(self, address: ActorAddress) -> None:
        """Refused: no source is loaded."""
        raise SourceLoadingNotHosted("registerSourceAuthority")

    def loadActorSource(self, source: Any) -> None:
        """Refused: no source is loaded."""
        raise SourceLoadingNotHosted("loadActorSource")

    def unloadActorSource(self, source_hash: Any) -> None:
        """Refused: no source is loaded."""
        raise SourceLoadingNotHosted("unloadActorSource")

    def preRegisterRemoteSystem(self, address: Any, capabilities: Any) -> None:
        """Refused: there is no convention."""
        raise ConventionsNotHosted("preRegisterRemoteSystem")

    def deRegisterRemoteSystem(self, address: Any) -> None:
        """Refused: there is no convention."""
        raise ConventionsNotHosted("deRegisterRemoteSystem")

    def actorSystemShutdown(self) -> None:
        """End the actor system, if it is the guests' own."""
        self.base.shutdown_from_inside()
