"""The handle on an actor, and the actor's life behind it: mailbox, turns, end.

A ref is both what others hold and where the kernel keeps the actor's state, in one small object: an idle
actor is its own instance plus one ref, without task, queue or dictionary. What few actors need (links,
monitors, children, a running coroutine) lives in a `Rare`, made on demand.

A turn (`_drain`) serves mail until the mailbox is empty, the budget is used up, a handler became a coroutine,
or the actor ends. Turns are handed out by the system, one ready actor after the other.

Invariants:
- `_state` is READY or READY_UP iff the ref is in the system's ready queue.
- READY_UP and ATTEND mean: look above the main lane (urgent or system mail, a stop, a suspension) before
  serving it.
- A lane that is not None holds at least one message.
- `_actor` is None iff the actor ended or its init failed. `_reason` is set iff it ended, is ending or is
  about to.
- An actor ends in this order: children (last first), `terminate`, name, links and monitors, parent.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Coroutine, Generator, Iterable
from inspect import CORO_CREATED, getcoroutinestate
from time import perf_counter
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, cast

from hermes.runtime.logs import kernel_log
from hermes.runtime.mailbox import (
    NO_REPLY,
    ChildEnded,
    Down,
    Envelope,
    Exit,
    Reply,
    SendResult,
    StopOrder,
    SystemItem,
)
from hermes.runtime.reasons import (
    KILL,
    NORMAL,
    SHUTDOWN,
    CallTimeout,
    MailboxFull,
    NotAlive,
    Reason,
    reason_text,
)
from hermes.runtime.timers import Timer, TimerOwner

if TYPE_CHECKING:
    from hermes.runtime.actor import Actor
    from hermes.runtime.system import System

BUDGET: Final = 64  # messages one actor serves before the others get their turn
SHORTEST_COARSE_S: Final = 0.2  # call timeouts below this use the exact clock: the wheel is 100 ms coarse

# States. The order matters: comparisons below rely on it.
INIT: Final = 0
SLEEP: Final = 1
READY: Final = 2
READY_UP: Final = 3
RUNNING: Final = 4  # READY + 2
ATTEND: Final = 5  # READY_UP + 2
WAIT: Final = 6
SUSPENDED: Final = 7
HELD: Final = 8  # asleep with the main lane left alone: `hold_mailbox`
ENDING: Final = 9
TERMINATED: Final = 10

STATE_NAMES: Final = (
    "init",
    "sleep",
    "running",
    "running",
    "running",
    "running",
    "wait",
    "suspended",
    "wait",
    "terminated",
    "terminated",
)

_DELIVERED = SendResult.DELIVERED
_TERMINATED = SendResult.TERMINATED
_FULL = SendResult.FULL


class Family:
    """Children in start order, as a list threaded through their refs: no memory of its own per child."""

    __slots__ = ("count", "first", "last")

    def __init__(self) -> None:
        self.first: Ref | None = None
        self.last: Ref | None = None
        self.count = 0

    def add(self, child: Ref) -> None:
        """Put a child last."""
        last = self.last
        if last is None:
            self.first = child
        else:
            last._next = child
            child._previous = last
        self.last = child
        self.count += 1

    def remove(self, child: Ref) -> None:
        """Take a child out."""
        before, after = child._previous, child._next
        if before is None:
            self.first = after
        else:
            before._next = after
            child._previous = None
        if after is None:
            self.last = before
        else:
            after._previous = before
            child._next = None
        self.count -= 1

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Generator[Ref, None, None]:
        child = self.first
        while child is not None:
            after = child._next
            yield child
            child = after


class Rare(Family):
    """What few actors need. True iff: `awaited` is the child whose end the wind-down waits for."""

    __slots__ = (
        "awaited",
        "held",
        "id",
        "interrupted",
        "last_error",
        "level",
        "limit",
        "links",
        "owed",
        "pending",
        "reply",
        "restarts",
        "since",
        "suspended",
        "sweeping",
        "task",
        "trace",
        "waiters",
        "watchers",
        "watching",
    )

    def __init__(self) -> None:
        super().__init__()
        self.awaited: Ref | None = None
        self.held = False  # the main lane is left alone
        self.id = 0  # given when first asked for
        self.interrupted = False  # the running coroutine was cancelled already
        self.last_error: str | None = None
        self.level: int | None = None  # log level set by an operator
        self.limit: Any = None  # timer handle of the time limit that runs: a child's end or terminate
        self.links: dict[Ref, None] | None = None
        self.owed: dict[Reply, None] | None = None  # replies promised with NO_REPLY
        self.pending: Awaitable[None] | None = None  # what is left of init
        self.reply: Reply | None = None  # where the running coroutine's value goes
        self.restarts = 0
        self.since: float | None = None  # monotonic; when wait, suspended or terminated began
        self.suspended = False
        self.sweeping = False  # children are being told to end in a loop: their ends need no reaction
        self.task: asyncio.Task[Any] | None = None
        self.trace: str | None = None
        self.waiters: list[asyncio.Future[Reason]] | None = None
        self.watchers: dict[int, Ref] | None = None  # monitor id -> who hears of our end
        self.watching: dict[int, Ref] | None = None  # monitor id -> whose end we hear of


class Ref(TimerOwner):
    """Handle on one actor's life. A restart makes a new ref; whoever wants the successor asks by name."""

    __slots__ = (
        "_actor",
        "_lane",
        "_limit",
        "_main",
        "_next",
        "_parent",
        "_previous",
        "_rare",
        "_reason",
        "_received",
        "_sent",
        "_spent",
        "_started",
        "_state",
        "_system",
        "_urgent",
        "name",
    )

    def __init__(
        self, system: System, actor: Actor, name: str | None, parent: Ref | None, limit: int, started: float
    ) -> None:
        """For the system only; actors are made with `spawn`."""
        self._system = system
        self._actor: Actor | None = actor
        self.name = name
        self._parent = parent
        self._limit = limit
        self._started = started
        self._state = INIT
        self._main: deque[Any] | list[Any] | None = None
        self._lane: deque[Any] | None = None
        self._urgent: deque[Any] | None = None
        self._rare: Rare | None = None
        self._reason: Reason | None = None
        self._timers = None
        self._previous: Ref | None = None
        self._next: Ref | None = None
        self._received = 0
        self._sent = 0
        self._spent: float = 0  # the shared integer: an actor that never ran owns no float

    # -- what others use

    @property
    def id(self) -> int:
        """A number no other ref of this system has; given when first asked for."""
        rare = self._need_rare()
        if not rare.id:
            rare.id = next(self._system._ids)
        return rare.id

    @property
    def alive(self) -> bool:
        """Tell whether it can still be sent to: true from before `init` until it begins to end."""
        return self._state < ENDING

    @property
    def state(self) -> str:
        """One of init, sleep, running, wait, suspended, terminated."""
        return STATE_NAMES[self._state]

    @property
    def reason(self) -> Reason | None:
        """Why it ended; None while it lives."""
        return self._reason if self._state >= ENDING else None

    @property
    def parent(self) -> Ref | None:
        """Who started it; None for a root actor."""
        return self._parent

    @property
    def mailbox(self) -> int:
        """Messages waiting in the three lanes."""
        return len(self._main or ()) + len(self._lane or ()) + len(self._urgent or ())

    def __repr__(self) -> str:
        return f"<{self.name or f'#{self.id}'}>"

    def send(self, message: object, trace: str | None = None) -> SendResult:
        """Queue a message in the main lane. Never waits, never raises.

        Args:
            message: anything but None; treat it as given away.
            trace: id to carry along; the receiver reads it as `self.trace_id`.

        Returns:
            DELIVERED (false), or why it was not queued: TERMINATED, FULL.
        """
        if trace is not None:
            message = Envelope(message, None, trace)
        queue = self._main
        if queue is not None:
            if len(queue) >= self._limit:
                return _FULL
            queue.append(message)
            self._system._sent += 1
            return _DELIVERED
        state = self._state
        if state >= ENDING:
            return _TERMINATED
        # A list is a tenth of a deque; most turns find one message. `_drain` makes a deque of a longer one.
        self._main = [message]
        system = self._system
        system._sent += 1
        if state == SLEEP:
            self._state = READY
            system._ready.append(self)
            if not system._awake:
                system._wake()
        return _DELIVERED

    def send_system(self, message: object) -> SendResult:
        """Queue a message in the system lane: before all main mail, without a limit. It comes to `handle`.

        For what the receiver asked for itself (timers, answers); unasked mail belongs in the main lane.
        """
        if self._state >= ENDING:
            return _TERMINATED
        if self._lane is None:
            self._lane = deque((message,))
        else:
            self._lane.append(message)
        self._system._sent += 1
        self._raise_hand(False)
        return _DELIVERED

    async def call(self, request: object, timeout_s: float = 5.0, trace: str | None = None) -> Any:
        """Ask, and wait for the answer.

        Args:
            request: comes to `handle_call`.
            timeout_s: seconds until `CallTimeout`, never early, at most 100 ms late.
            trace: id to carry along.

        Raises:
            CallTimeout: no answer in time; the request may still be carried out.
            NotAlive: it has ended, or ended before it answered.
            MailboxFull: its main lane is at its limit.
            Exception: whatever its handler raised or answered with `reply.error`.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        result = self.send(Envelope(request, Reply(future), trace))
        if result:
            if result is _FULL:
                raise MailboxFull(f"{self} has {self._limit} messages waiting")
            raise NotAlive(self, self._reason)
        rare = self._rare
        if rare is not None and rare.task is not None and rare.task is asyncio.current_task():
            raise RuntimeError(f"{self} called itself: it cannot answer while it waits")
        system = self._system
        if timeout_s >= SHORTEST_COARSE_S:
            timer: Any = system.wheel.after(timeout_s, _expire, (future, self, timeout_s))
        else:
            timer = system.clock.call_later(timeout_s, _expire, (future, self, timeout_s))
        try:
            return await future
        finally:
            timer.cancel()

    def stop(self, reason: Reason = NORMAL) -> None:
        """Order it to end: a running coroutine is cancelled, then `terminate` runs. Never trapped."""
        if self._state < ENDING:
            self._push_urgent(StopOrder(reason))
            if self._state == WAIT:
                self._interrupt()

    def kill(self) -> None:
        """End it and all below now, without `terminate`. A plain handler amid its run may finish first."""
        state = self._state
        if RUNNING <= state <= ATTEND:
            self._reason = KILL
            self._state = ATTEND
        elif state == INIT:
            self._abort(KILL)
        elif state < ENDING:
            self._end(KILL)
        elif state == ENDING and self._reason is not KILL:
            self._reason = KILL
            rare = self._rare
            if rare is not None:
                self._drop_limit()
                self._abandon_task()
            self._wind_down()

    def suspend(self) -> None:
        """Serve only urgent mail until `resume`; the rest waits, and the main lane may become full."""
        state = self._state
        if state < ENDING:
            rare = self._need_rare()
            if not rare.suspended:
                rare.suspended = True
                rare.since = self._system.clock.monotonic()
                if state in (SLEEP, HELD):
                    self._state = SUSPENDED
                else:
                    self._raise_hand(False)

    def resume(self) -> None:
        """Take up the mailbox again."""
        rare = self._rare
        if rare is not None and rare.suspended:
            rare.suspended = False
            if self._state == SUSPENDED:
                rare.since = None
                self._rest()

    def _hold(self) -> None:
        rare = self._need_rare()
        if not rare.held:
            rare.held = True
            self._raise_hand(False)

    def _release(self) -> None:
        rare = self._rare
        if rare is not None and rare.held:
            rare.held = False
            if self._state == HELD:
                self._rest()

    def _put_back(self, message: object, reply: Reply | None) -> None:
        """Put a message taken from the main lane back in front of it; may exceed the limit by that one."""
        item = message if reply is None else Envelope(message, reply, None)
        self._main = deque((item, *(self._main or ())))

    async def ended(self) -> Reason:
        """Wait until it has ended (name free, links and monitors told) and return why."""
        if self._state != TERMINATED:
            future: asyncio.Future[Reason] = asyncio.get_running_loop().create_future()
            rare = self._need_rare()
            if rare.waiters is None:
                rare.waiters = []
            rare.waiters.append(future)
            return await future
        return self._reason if self._reason is not None else NORMAL

    # -- scheduling

    def _need_rare(self) -> Rare:
        rare = self._rare
        if rare is None:
            rare = self._rare = Rare()
        return rare

    def _schedule(self, state: int) -> None:
        self._state = state
        system = self._system
        system._ready.append(self)
        if not system._awake:
            system._wake()

    def _raise_hand(self, urgent: bool) -> None:
        """Make the next step of the turn look above the main lane."""
        state = self._state
        if state in (SLEEP, HELD) or (urgent and state == SUSPENDED):
            self._schedule(READY_UP)
        elif state == RUNNING:
            self._state = ATTEND
        elif state == READY:
            self._state = READY_UP

    def _push_urgent(self, item: object) -> None:
        if self._urgent is None:
            self._urgent = deque((item,))
        else:
            self._urgent.append(item)
        self._raise_hand(True)

    def _rest(self) -> None:
        """After init, a coroutine or a suspension: sleep, or queue up for a turn when there is mail."""
        rare = self._rare
        if (
            self._urgent is not None
            or self._lane is not None
            or self._reason is not None
            or (rare is not None and (rare.suspended or rare.held))
        ):
            self._schedule(READY_UP)
        elif self._main is not None:
            self._schedule(READY)
        else:
            self._state = SLEEP

    def _drain(self, begun: float) -> float:
        """Take one turn; return the time it ended, as `begun` is the time it began."""
        system = self._system
        actor: Actor = self._actor  # type: ignore[assignment]
        self._state += 2  # READY -> RUNNING, READY_UP -> ATTEND
        sent = system._sent
        served = 0
        handle = actor.handle
        try:
            while True:
                if self._state != RUNNING:
                    if self._reason is not None:
                        self._end(self._reason)
                        break
                    result = self._attend(actor)
                    if self._state > ATTEND:
                        break
                else:
                    queue = self._main
                    if queue is None:
                        self._state = SLEEP
                        break
                    if len(queue) == 1:
                        message = queue[0]
                        self._main = None
                    else:
                        if type(queue) is list:
                            queue = self._main = deque(queue)
                        message = queue.popleft()  # type: ignore[union-attr]
                    served += 1
                    result = self._open(actor, message) if type(message) is Envelope else handle(message)
                if result is not None and hasattr(type(result), "__await__"):
                    self._await(result)
                    break
                if served >= BUDGET:
                    self._state -= 2
                    system._ready.append(self)
                    break
        except (Exception, asyncio.CancelledError) as exc:
            self._fail(exc)
        except BaseException as exc:
            self._fail(exc)
            raise
        finally:
            ended = perf_counter()
            self._received += served
            self._spent += ended - begun
            self._sent += system._sent - sent
        return ended

    def _attend(self, actor: Actor) -> Awaitable[None] | None:
        """Serve one item above the main lane, or find that there is none and go back to RUNNING."""
        lane = self._urgent
        if lane is not None:
            item = lane.popleft()
            if not lane:
                self._urgent = None
            kind = type(item)
            if kind is ChildEnded:
                return actor._kernel_urgent(item)
            if kind is StopOrder:
                self._end(item.reason)
                return None
            if kind is Exit:
                if actor.trap_exits and item.ref is not self._parent:
                    self._received += 1
                    return actor.handle_exit(item)
                self._end(item.reason)
                return None
            return actor._kernel_urgent(item)
        if self._rare is not None and self._rare.suspended:
            self._state = SUSPENDED
            return None
        lane = self._lane
        if lane is not None:
            item = lane.popleft()
            if not lane:
                self._lane = None
            self._received += 1
            return actor._kernel_system(item) if isinstance(item, SystemItem) else actor.handle(item)
        self._state = HELD if self._rare is not None and self._rare.held else RUNNING
        return None

    def _open(self, actor: Actor, envelope: Envelope) -> Awaitable[Any] | None:
        """Serve a call or a traced message; the result, if any, is an awaitable."""
        rare = None
        if envelope.trace is not None:
            rare = self._need_rare()
            rare.trace = envelope.trace
            if self._system._trace is not None:
                self._system._trace(envelope.trace, self, envelope.payload)
        reply = envelope.reply
        request = envelope.payload
        result: Any
        if reply is None:
            result = actor.handle(request)
        elif isinstance(request, Control):
            actor._kernel_control(request, reply)
            result = None
        else:
            try:
                result = actor.handle_call(request, reply)
            except BaseException as exc:
                reply.error(exc)
                raise
            if result is NO_REPLY:
                self._owe(reply)
            elif hasattr(type(result), "__await__"):
                self._need_rare().reply = reply
                return cast("Awaitable[Any]", result)
            else:
                reply.ok(result)
            result = None
        if rare is not None and result is None:
            rare.trace = None
        return cast("Awaitable[Any] | None", result)

    def _owe(self, reply: Reply) -> None:
        if reply.open:
            rare = self._need_rare()
            if rare.owed is None:
                rare.owed = {}
            rare.owed[reply] = None
            reply._debtor = self

    # -- coroutines

    def _await(self, result: Awaitable[Any]) -> None:
        """Give the handler's awaitable a task; the actor waits for it."""
        system = self._system
        rare = self._need_rare()
        self._state = WAIT
        rare.since = system.clock.monotonic()
        rare.interrupted = False
        loop = asyncio.get_running_loop()
        task = rare.task = loop.create_task(_metered(_Metered(self, result)), context=system._context)
        task.add_done_callback(self._awaited, context=system._context)
        if self._urgent is not None:
            for item in self._urgent:
                kind = type(item)
                if kind is StopOrder or (kind is Exit and not self._traps(item.ref)):
                    self._interrupt()

    def _traps(self, source: Ref) -> bool:
        return self._actor is not None and self._actor.trap_exits and source is not self._parent

    def _interrupt(self) -> None:
        rare = self._rare
        if rare is not None and rare.task is not None and not rare.interrupted:
            rare.interrupted = True
            rare.task.cancel()

    def _awaited(self, task: asyncio.Task[Any]) -> None:
        """Go on after a coroutine: answer, fail, or serve what came meanwhile."""
        rare = self._need_rare()
        if rare.task is not task:  # killed meanwhile: the task was let go
            return
        rare.task = None
        rare.since = None
        rare.trace = None
        reply, rare.reply = rare.reply, None
        error: BaseException | None = None
        if task.cancelled():
            if not rare.interrupted:
                error = asyncio.CancelledError(f"{self}: the handler was cancelled")
            elif reply is not None:
                reply.error(NotAlive(self, self._next_reason()))
        else:
            error = task.exception()
        if error is not None:
            if reply is not None:
                reply.error(error)
            if rare.interrupted:
                # It was told to end anyway; the order's reason stands, the error is kept to be seen.
                rare.last_error = reason_text(error)
                error = None
        elif reply is not None and not task.cancelled():
            value = task.result()
            if value is NO_REPLY:
                self._owe(reply)
            else:
                reply.ok(value)
        if error is not None:
            self._fail(error)
        else:
            self._rest()

    def _next_reason(self) -> Reason | None:
        if self._reason is not None:
            return self._reason
        for item in self._urgent or ():
            if type(item) is StopOrder or type(item) is Exit:
                return item.reason
        return None

    # -- links, monitors, timers

    def _link(self, other: Ref) -> None:
        if other is self:
            return
        if other._state == TERMINATED:
            self._exit_signal(other, other._reason if other._reason is not None else NORMAL)
            return
        for one, another in ((self, other), (other, self)):
            rare = one._need_rare()
            if rare.links is None:
                rare.links = {}
            rare.links[another] = None

    def _unlink(self, other: Ref) -> None:
        for one, another in ((self, other), (other, self)):
            if one._rare is not None and one._rare.links is not None:
                one._rare.links.pop(another, None)

    def _exit_signal(self, source: Ref, reason: Reason) -> None:
        if self._state < ENDING:
            self._push_urgent(Exit(source, reason))
            if self._state == WAIT and not self._traps(source):
                self._interrupt()

    def _monitor(self, other: Ref) -> int:
        monitor = next(self._system._ids)
        if other._state == TERMINATED:
            self.send_system(Down(other, other._reason if other._reason is not None else NORMAL, monitor))
            return monitor
        rare = other._need_rare()
        if rare.watchers is None:
            rare.watchers = {}
        rare.watchers[monitor] = self
        rare = self._need_rare()
        if rare.watching is None:
            rare.watching = {}
        rare.watching[monitor] = other
        return monitor

    def _demonitor(self, monitor: int) -> None:
        rare = self._rare
        other = rare.watching.pop(monitor, None) if rare is not None and rare.watching is not None else None
        if other is not None and other._rare is not None and other._rare.watchers is not None:
            other._rare.watchers.pop(monitor, None)
        if self._lane is not None:
            kept = deque(m for m in self._lane if not (type(m) is Down and m.monitor == monitor))
            self._lane = kept or None

    def _send_after(self, delay_s: float, message: object, coarse: bool) -> Timer:
        if self._state >= ENDING:
            return Timer(self.send_system, None)  # never fires
        if coarse:
            return self._system.wheel.after(delay_s, self.send_system, message, self)
        timer = Timer(self.send_system, message, self)
        timer._home = self._system.clock.call_later(delay_s, timer._fire)
        return timer

    # -- the end

    def _stop_self(self, reason: Reason) -> None:
        state = self._state
        if RUNNING <= state <= WAIT:
            if self._reason is None:
                self._reason = reason
                if isinstance(reason, BaseException):
                    self._blame(reason)
            if state == RUNNING:
                self._state = ATTEND
        else:
            self.stop(reason)

    def _blame(self, error: BaseException) -> None:
        text = self._need_rare().last_error = reason_text(error)
        if kernel_log.isEnabledFor(logging.ERROR):
            kernel_log.error("%s ended: %s", self, text, exc_info=error)

    def _fail(self, error: BaseException) -> None:
        self._blame(error)
        if self._state < ENDING:
            self._end(KILL if self._reason is KILL else error)

    def _end(self, reason: Reason) -> None:
        """Begin to end: no more mail, no more timers; then wind down."""
        self._state = ENDING
        self._reason = reason
        if self._main is not None:
            self._refuse(self._main, reason)
            self._main = None
        self._lane = self._urgent = None
        if self._timers is not None:
            self._cancel_timers()
        actor: Actor = self._actor  # type: ignore[assignment]
        if self._rare is None and not actor._has_terminate:
            self._finish()
            return
        rare = self._rare
        if rare is not None and (rare.task is not None or rare.reply is not None):
            self._abandon_task()
        if actor._supervises:
            actor._kernel_before_end()
        self._wind_down()

    def _refuse(self, main: Iterable[Any], reason: Reason) -> None:
        """Tell callers in the queue that nobody will answer."""
        for message in main:
            if type(message) is Envelope and message.reply is not None:
                message.reply.error(NotAlive(self, reason))

    def _abandon_task(self) -> None:
        """Cancel the coroutine of a killed actor without waiting for it."""
        rare = cast("Rare", self._rare)
        task, rare.task = rare.task, None
        if task is not None:
            task.cancel()
            self._system._adopt(task)
        reply, rare.reply = rare.reply, None
        if reply is not None:
            reply.error(NotAlive(self, self._reason))

    def _wind_down(self) -> None:
        """Take the next step of the end: children, terminate, finish. Called again after each wait."""
        rare = self._rare
        if rare is not None and rare.count and not self._stop_children(rare):
            return
        actor = self._actor
        if actor is None:
            return
        reason = cast("Reason", self._reason)
        if actor._has_terminate and reason is not KILL:
            try:
                result = actor.terminate(reason)
            except Exception as exc:  # the log and last_error are told; the end itself goes on
                self._blame(exc)
            else:
                if result is not None and hasattr(type(result), "__await__"):
                    system = self._system
                    rare = self._need_rare()
                    loop = asyncio.get_running_loop()
                    task = rare.task = loop.create_task(_metered(_Metered(self, result)), context=system._context)
                    rare.limit = system.clock.call_later(system.terminate_limit_s, self._terminate_overdue, task)
                    task.add_done_callback(self._terminate_done, context=system._context)
                    return
        self._finish()

    def _terminate_done(self, task: asyncio.Task[Any]) -> None:
        rare = self._need_rare()
        if rare.task is not task:
            return
        rare.task = None
        self._drop_limit()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._blame(error)
        self._finish()

    def _terminate_overdue(self, task: asyncio.Task[Any]) -> None:
        rare = self._need_rare()
        if rare.task is task:
            rare.limit = None
            rare.last_error = f"terminate() took more than {self._system.terminate_limit_s:g} s"
            kernel_log.error("%s: %s", self, rare.last_error)
            self._abandon_task()
            self._finish()

    def _drop_limit(self) -> None:
        rare = cast("Rare", self._rare)
        limit, rare.limit = rare.limit, None
        if limit is not None:
            limit.cancel()

    def _stop_children(self, rare: Rare) -> bool:
        """Make the children end, last first; return whether all are gone already."""
        actor = cast("Actor", self._actor)
        if rare.sweeping:
            return False
        rare.sweeping = True
        try:
            if self._reason is KILL:
                child = rare.last
                while child is not None:
                    before = child._previous
                    child.kill()
                    child = before
            elif actor._kernel_together():
                if rare.awaited is None:
                    last = rare.last
                    limit_s: float | None = None
                    child = last
                    while child is not None:
                        before = child._previous
                        limit_s = self._tell_to_end(actor, child)
                        child = before
                    if rare.count and limit_s is not None:
                        rare.awaited = last
                        rare.limit = self._system.clock.call_later(limit_s, self._children_overdue, None)
            else:
                while (child := rare.last) is not None:
                    if rare.awaited is child:
                        break
                    limit_s = self._tell_to_end(actor, child)
                    if child._state != TERMINATED:
                        rare.awaited = child
                        if limit_s is not None:
                            rare.limit = self._system.clock.call_later(limit_s, self._children_overdue, child)
                        break
        finally:
            rare.sweeping = False
        return not rare.count

    def _tell_to_end(self, actor: Actor, child: Ref) -> float | None:
        limit_s = actor._kernel_shutdown_s(child)
        if limit_s is None:
            child.kill()
        else:
            child.stop(SHUTDOWN)
        return limit_s

    def _children_overdue(self, child: Ref | None) -> None:
        """Kill the child that used up its time, or all that are left."""
        rare = cast("Rare", self._rare)
        rare.limit = None
        if child is not None:
            kernel_log.warning("%s did not end in time and is killed", child)
            child.kill()
            return
        rare.sweeping = True
        child = rare.last
        while child is not None:
            before = child._previous
            child.kill()
            child = before
        rare.sweeping = False
        if not rare.count:
            self._wind_down()

    def _child_gone(self, child: Ref, reason: Reason, started: bool) -> None:
        """Hear that a child is out of the family."""
        state = self._state
        if state == ENDING:
            rare = cast("Rare", self._rare)
            if rare.awaited is child and not self._stops_together():
                rare.awaited = None
                self._drop_limit()
                if not rare.sweeping:
                    self._wind_down()
            elif not rare.count and not rare.sweeping:
                self._drop_limit()
                self._wind_down()
        elif (
            state < ENDING
            and (actor := self._actor) is not None
            and actor._supervises
            # A failed init is no end, but its supervisor may be waiting for it.
            and (started or actor._kernel_starting(child))
        ):
            self._push_urgent(ChildEnded(child, reason))

    def _stops_together(self) -> bool:
        return self._actor is not None and self._actor._kernel_together()

    def _finish(self) -> None:
        """Be gone: release the name, leave the family, tell everyone."""
        self._state = TERMINATED
        self._actor = None
        if self.name is not None:
            self._system.registry.pop(self.name, None)
        parent = self._parent
        family: Family = self._system._roots if parent is None else parent._rare  # type: ignore[assignment]
        family.remove(self)
        if self._rare is not None:
            self._tell(self._reason)  # type: ignore[arg-type]
        if parent is not None:
            parent._child_gone(self, self._reason, True)  # type: ignore[arg-type]

    def _leave(self) -> None:
        if self.name is not None:
            self._system.registry.release(self.name, self)
        parent = self._parent
        if parent is None:
            self._system._roots.remove(self)
        else:
            cast("Rare", parent._rare).remove(self)

    def _tell(self, reason: Reason) -> None:
        rare = cast("Rare", self._rare)
        links, rare.links = rare.links, None
        for other in links or ():
            if other._rare is not None and other._rare.links is not None:
                other._rare.links.pop(self, None)
            other._exit_signal(self, reason)
        watching, rare.watching = rare.watching, None
        for monitor, other in (watching or {}).items():
            if other._rare is not None and other._rare.watchers is not None:
                other._rare.watchers.pop(monitor, None)
        watchers, rare.watchers = rare.watchers, None
        for monitor, other in (watchers or {}).items():
            if other._rare is not None and other._rare.watching is not None:
                other._rare.watching.pop(monitor, None)
            other.send_system(Down(self, reason, monitor))
        owed, rare.owed = rare.owed, None
        for reply in owed or ():
            reply._debtor = None
            reply.error(NotAlive(self, reason))
        waiters, rare.waiters = rare.waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(reason)

    # -- init that failed

    def _abort(self, reason: Reason) -> None:
        """Undo a spawn: the actor never existed. Its children, if it had any, are ended without waiting."""
        if self._state >= ENDING:
            return
        self._state = ENDING
        self._reason = reason
        if self._main is not None:
            self._refuse(self._main, reason)
        self._main = self._lane = self._urgent = None
        self._cancel_timers()
        actor = cast("Actor", self._actor)
        if actor._supervises:
            actor._kernel_before_end()
        rare = self._rare
        if rare is not None:
            pending, rare.pending = rare.pending, None
            if isinstance(pending, CoroutineType) and getcoroutinestate(pending) == CORO_CREATED:
                pending.close()
            rare.sweeping = True
            while rare.last is not None and rare.last._state != TERMINATED:
                rare.last._force_end()
            for other in rare.links or ():
                if other._rare is not None and other._rare.links is not None:
                    other._rare.links.pop(self, None)
            rare.links = None
        self._state = TERMINATED
        self._actor = None
        self._leave()
        if rare is not None:
            self._tell(reason)
        if self._parent is not None:
            self._parent._child_gone(self, reason, False)

    def _force_end(self) -> None:
        """End now: children first, `terminate` called but, if async, not waited for."""
        if self._state == INIT:
            self._abort(SHUTDOWN)
            return
        if self._state == TERMINATED:
            return
        began = self._state == ENDING
        self._state = ENDING
        self._reason = self._reason or SHUTDOWN
        if self._main is not None:
            self._refuse(self._main, self._reason)
        self._main = self._lane = self._urgent = None
        self._cancel_timers()
        actor = cast("Actor", self._actor)
        if actor._supervises and not began:
            actor._kernel_before_end()
        rare = self._rare
        waiting = rare is not None and rare.task is not None and began  # terminate is running already
        if rare is not None:
            rare.sweeping = True
            self._drop_limit()
            while rare.last is not None and rare.last._state != TERMINATED:
                rare.last._force_end()
            if waiting:
                if rare.task is not None:
                    self._system._adopt(rare.task)
                rare.task = None
            else:
                self._abandon_task()
        if actor._has_terminate and not waiting:
            try:
                result = actor.terminate(self._reason)
            except Exception as exc:  # the log and last_error are told
                self._blame(exc)
            else:
                if result is not None and hasattr(type(result), "__await__"):
                    system = self._system
                    task = asyncio.get_running_loop().create_task(
                        _metered(_Metered(self, result)), context=system._context
                    )
                    system._adopt(task)
                    limit = system.clock.call_later(system.terminate_limit_s, task.cancel)
                    task.add_done_callback(lambda _: limit.cancel())
        self._finish()


class Control:
    """Base of the orders a supervisor takes by `call`; kept apart from the requests of its subclasses."""

    __slots__ = ()


def _expire(argument: tuple[asyncio.Future[Any], Ref, float]) -> None:
    future, ref, timeout_s = argument
    if not future.done():
        future.set_exception(CallTimeout(f"{ref} did not answer within {timeout_s:g} s"))


async def _metered(steps: _Metered) -> Any:
    """Run a handler's awaitable, charging its steps (not its waits) to the actor."""
    if isinstance(steps.coroutine, Coroutine):
        return await steps
    return await steps.coroutine


class _Metered:
    """Steps a coroutine from inside its task, so that `current_task` and `asyncio.timeout` work as usual."""

    __slots__ = ("coroutine", "ref")

    def __init__(self, ref: Ref, coroutine: Awaitable[Any]) -> None:
        self.ref = ref
        self.coroutine = coroutine

    def __del__(self) -> None:
        # A task cancelled before its first step drops the coroutine unbegun; that is no oversight of anyone.
        if isinstance(self.coroutine, Coroutine):
            self.coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        ref = self.ref
        coroutine = cast("Coroutine[Any, Any, Any]", self.coroutine)
        system = ref._system
        step: Any = coroutine.send
        value: Any = None
        while True:
            sent = system._sent
            system._current = ref
            begun = perf_counter()
            try:
                wanted = step(value)
            except StopIteration as stop:
                return stop.value
            finally:
                system._current = None
                ref._spent += perf_counter() - begun
                ref._sent += system._sent - sent
            try:
                value = yield wanted
                step = coroutine.send
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as exc:  # cancellation or an error: it belongs to the coroutine
                value = exc
                step = coroutine.throw
