"""The handle on an actor, and the actor's life behind it: mailbox and turns. How it ends: `ending.py`.

A ref is both what others hold and where the kernel keeps the actor's state, in one small object: an idle
actor is its own instance plus one ref, without task, queue or dictionary. What few actors need (links,
monitors, children, a running coroutine) lives in a `Rare` (`rare.py`), made on demand.

A turn (`_drain`) serves mail until the mailbox is empty, the budget is used up, a handler became a coroutine,
or the actor ends. Turns are handed out by the system, one ready actor after the other.

Invariants:
- `_state` is READY or READY_UP iff the ref is in the system's ready queue.
- READY_UP and ATTEND mean: look above the main lane (urgent or system mail, a stop, a suspension) before
  serving it.
- A lane that is not None holds at least one message.
- `_actor` is None iff the actor ended or its init failed. `_reason` is set iff it ended, is ending or is
  about to.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Iterable
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, cast

from hermes.runtime.ending import abandon_task, abort, drop_limit, end, wind_down
from hermes.runtime.logs import kernel_log
from hermes.runtime.mailbox import NO_REPLY, ChildEnded, Down, Envelope, Exit, Reply, SendResult, StopOrder, SystemItem
from hermes.runtime.metered import Metered, metered
from hermes.runtime.rare import Rare
from hermes.runtime.reasons import KILL, NORMAL, CallTimeout, MailboxFull, NotAlive, Reason, reason_text
from hermes.runtime.states import (
    ATTEND,
    ENDING,
    HELD,
    INIT,
    READY,
    READY_UP,
    RUNNING,
    SLEEP,
    STATE_NAMES,
    SUSPENDED,
    TERMINATED,
    WAIT,
)
from hermes.runtime.timers import Timer, TimerOwner

if TYPE_CHECKING:
    from hermes.runtime.actor import Actor
    from hermes.runtime.system import System

BUDGET: Final = 64  # messages one actor serves before the others get their turn
SHORTEST_COARSE_S: Final = 0.2  # call timeouts below this use the exact clock: the wheel is 100 ms coarse

_DELIVERED = SendResult.DELIVERED
_TERMINATED = SendResult.TERMINATED
_FULL = SendResult.FULL


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
            abort(self, KILL)
        elif state < ENDING:
            end(self, KILL)
        elif state == ENDING and self._reason is not KILL:
            self._reason = KILL
            rare = self._rare
            if rare is not None:
                drop_limit(self)
                abandon_task(self)
            wind_down(self)

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
                        end(self, self._reason)
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
                end(self, item.reason)
                return None
            if kind is Exit:
                if actor.trap_exits and item.ref is not self._parent:
                    self._received += 1
                    return actor.handle_exit(item)
                end(self, item.reason)
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
        task = rare.task = loop.create_task(metered(Metered(self, result)), context=system._context)
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

    def _abort(self, reason: Reason) -> None:
        """Undo its spawn: init failed."""
        abort(self, reason)

    def _fail(self, error: BaseException) -> None:
        self._blame(error)
        if self._state < ENDING:
            end(self, KILL if self._reason is KILL else error)

    def _refuse(self, main: Iterable[Any], reason: Reason) -> None:
        """Tell callers in the queue that nobody will answer."""
        for message in main:
            if type(message) is Envelope and message.reply is not None:
                message.reply.error(NotAlive(self, reason))

    def _give_up_main(self, reason: Reason) -> None:
        """Empty the main lane for good: callers and the actor are told what will not be served."""
        main, self._main = self._main, None
        if main is None:
            return
        self._refuse(main, reason)
        actor = self._actor
        if actor is not None and actor._has_unserved:
            for message in main:
                if type(message) is not Envelope:
                    payload = message
                elif message.reply is None:
                    payload = message.payload
                else:
                    continue
                try:
                    actor.unserved(payload)
                except Exception as exc:  # the log and last_error are told; the end itself goes on
                    self._blame(exc)


class Control:
    """Base of the orders a supervisor takes by `call`; kept apart from the requests of its subclasses."""

    __slots__ = ()


def _expire(argument: tuple[asyncio.Future[Any], Ref, float]) -> None:
    future, ref, timeout_s = argument
    if not future.done():
        future.set_exception(CallTimeout(f"{ref} did not answer within {timeout_s:g} s"))
