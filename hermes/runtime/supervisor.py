"""Actors that start, watch and restart other actors.

What to do is decided in `strategy.py` and `intensity.py`; this module keeps the children's records, performs the
actions in one loop (`_settle`), and answers whoever asked. The ends of children come in the urgent lane, so a
supervisor with a full mailbox still supervises. A supervisor whose own handler is a coroutine serves them after it.

Invariants:
- A child's record is in `_by_ref` iff its ref is alive (phase UP or STOPPING).
- At most one timer and one start task run per record, and none once the supervisor is ending.
- For simple_one_for_one with temporary children there are no records: the family list is all there is.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import random
from typing import Any, ClassVar, Final

from hermes.runtime.actor import Actor
from hermes.runtime.clock import TimerHandle
from hermes.runtime.intensity import Intensity, count_restart
from hermes.runtime.mailbox import ChildEnded, Reply
from hermes.runtime.reasons import (
    NORMAL,
    SHUTDOWN,
    ChildDisabled,
    NotAlive,
    Reason,
    RestartsExceeded,
    UnknownChild,
    is_abnormal,
    reason_text,
)
from hermes.runtime.ref import TERMINATED, Control, Ref
from hermes.runtime.strategy import (
    Act,
    Backoff,
    ChildState,
    Phase,
    Restart,
    Strategy,
    Verdict,
    anyone_left,
    decide,
    next_actions,
)
from hermes.runtime.system import SupervisorEvent

HISTORY = 50  # decisions a supervisor remembers


class _Brutal(enum.Enum):
    BRUTAL = "brutal"


BRUTAL: Final = _Brutal.BRUTAL
"""As `shutdown_s`: kill the child at once, without `terminate`."""


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How to start and keep one child.

    Attributes:
        name: unique among its siblings; also the registered name, but for simple_one_for_one.
        factory: called with `args` (and, for simple_one_for_one, the arguments of `start_child` after them).
        restart: permanent, transient or temporary.
        significant: its end, when it is not restarted, ends the supervisor too. Never for a permanent child.
        shutdown_s: seconds it may take to end before it is killed; BRUTAL kills at once.
        backoff: wait before a restart; None restarts at once.
        mailbox_limit: instead of the class's own.
        register_as: registered name, where it should not be `name`.
    """

    name: str
    factory: Callable[..., Actor]
    args: tuple[Any, ...] = ()
    restart: Restart = Restart.PERMANENT
    significant: bool = False
    shutdown_s: float | _Brutal = 5.0
    backoff: Backoff | None = None
    mailbox_limit: int | None = None
    register_as: str | None = None

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if self.significant and self.restart is Restart.PERMANENT:
            raise ValueError(f"child {self.name!r}: a permanent child cannot be significant, it is always restarted")


@dataclass(frozen=True, slots=True)
class ChildInfo:
    """One child as its supervisor sees it."""

    name: str
    ref: Ref | None
    phase: Phase
    restart: Restart
    restarts: int
    disabled: bool
    last_reason: str | None


@dataclass(frozen=True, slots=True)
class StartChild(Control):
    """Call a simple_one_for_one supervisor: start a child with these arguments. Answer: its ref."""

    args: tuple[Any, ...] = ()
    name: str | None = None


@dataclass(frozen=True, slots=True)
class AddChild(Control):
    """Call a supervisor: add a spec as the last one and start it. Answer: its ref."""

    spec: ChildSpec


@dataclass(frozen=True, slots=True)
class RemoveChild(Control):
    """Call a supervisor: stop the child and forget its spec. Answered when it is gone."""

    name: str


@dataclass(frozen=True, slots=True)
class DisableChild(Control):
    """Call a supervisor: stop the child and leave it down. Answered when it is down."""

    name: str


@dataclass(frozen=True, slots=True)
class EnableChild(Control):
    """Call a supervisor: start a child that is down. Answer: its ref."""

    name: str


@dataclass(frozen=True, slots=True)
class RestartChild(Control):
    """Call a supervisor: stop the child and start it again. Answer: its new ref."""

    name: str


@dataclass(frozen=True, slots=True)
class ListChildren(Control):
    """Call a supervisor. Answer: `list[ChildInfo]` in start order."""


class _Child(ChildState):
    """The record of one child."""

    __slots__ = (
        "args",
        "began",
        "disabled",
        "failures",
        "last_reason",
        "name",
        "ref",
        "removed",
        "restarts",
        "spec",
        "task",
        "timer",
        "waiters",
    )

    def __init__(self, spec: ChildSpec, name: str | None, args: tuple[Any, ...]) -> None:
        super().__init__(spec.restart, spec.significant)
        self.spec = spec
        self.name = name  # registered name
        self.args = args
        self.ref: Ref | None = None
        self.began = 0.0  # monotonic, last start
        self.failures = 0  # in a row
        self.restarts = 0
        self.last_reason: str | None = None
        self.disabled = False
        self.removed = False
        self.task: asyncio.Task[Ref] | None = None
        self.timer: TimerHandle | None = None
        self.waiters: list[Reply] = []

    def drop_timer(self) -> None:
        timer, self.timer = self.timer, None
        if timer is not None:
            timer.cancel()

    def answer(self, value: Any) -> None:
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            waiter.ok(value)

    def answer_error(self, error: BaseException) -> None:
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            waiter.error(error)


class _Due:
    """The back-off of a child is over."""

    __slots__ = ("child",)

    def __init__(self, child: _Child) -> None:
        self.child = child


class _Started:
    """An awaited init is over, one way or the other."""

    __slots__ = ("child", "task")

    def __init__(self, child: _Child, task: asyncio.Task[Ref]) -> None:
        self.child = child
        self.task = task


class Supervisor(Actor):
    """Starts its children in order, restarts them as their specs say, stops them in reverse.

    Use it as it is, with its arguments, or subclass it and pass them to `super().__init__`. A subclass may override
    `handle`, `handle_call` and `child_ended` freely: orders to supervisors (`StartChild`, ...) do not pass there.

    Args:
        strategy: who is restarted together.
        children: specs in start order; exactly one for simple_one_for_one.
        intensity: restarts allowed before it ends with `RestartsExceeded`.
        auto_shutdown: end normally when the last child has ended and none will be restarted.
    """

    __slots__ = (
        "_auto_shutdown",
        "_by_ref",
        "_children",
        "_closed",
        "_disabled",
        "_history",
        "_intensity",
        "_settling",
        "_simple",
        "_strategy",
        "_window",
    )

    kind: ClassVar[str] = "Supervisor"
    _supervises: ClassVar[bool] = True

    def __init__(
        self,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        children: Sequence[ChildSpec] = (),
        intensity: Intensity = Intensity(),  # noqa: B008 (frozen)
        auto_shutdown: bool = False,
    ) -> None:
        names = [spec.name for spec in children]
        if len(set(names)) != len(names):
            raise ValueError(f"two children have the same name: {names}")
        self._simple: ChildSpec | None = None
        self._children: list[_Child] = []  # in start order; of a simple_one_for_one only those to be restarted
        if strategy is Strategy.SIMPLE_ONE_FOR_ONE:
            if len(children) != 1:
                raise ValueError("simple_one_for_one takes exactly one child spec")
            self._simple = children[0]
        else:
            self._children = [_Child(spec, spec.register_as or spec.name, spec.args) for spec in children]
        self._strategy = strategy
        self._intensity = intensity
        self._auto_shutdown = auto_shutdown
        self._window: tuple[float, ...] = ()
        self._by_ref: dict[Ref, _Child] = {}
        self._history: deque[SupervisorEvent] = deque(maxlen=HISTORY)
        self._closed = False  # True iff it is ending: nothing starts any more
        self._disabled = False  # the one spec of a simple_one_for_one is disabled
        self._settling = False

    # -- for subclasses ---------------------------------------------------------------------------------------

    def child_ended(self, ref: Ref, reason: Reason) -> Awaitable[None] | None:
        """Hear that a child ended and will not be restarted; its name is free and its record gone."""

    def start_child(self, *args: Any, name: str | None = None) -> Ref:
        """Start one more child of a simple_one_for_one.

        Args:
            args: given to the factory after the spec's own; kept for restarts.
            name: its registered name.

        Raises:
            ChildDisabled: the spec is disabled.
            AsyncInit: its `init` must be awaited; use `start_child_async`.
            NameTaken: the name is in use.
            Exception: whatever its `init` raised.
        """
        spec = self._startable()
        ref = self.ref._system.spawn(
            spec.factory, *spec.args, *args, name=name, parent=self.ref, mailbox_limit=spec.mailbox_limit
        )
        if spec.restart is not Restart.TEMPORARY:
            self._enroll(spec, ref, name, args)
        return ref

    async def start_child_async(self, *args: Any, name: str | None = None) -> Ref:
        """Start one more child of a simple_one_for_one and await its `init`. Like `start_child` otherwise."""
        spec = self._startable()
        ref = await self.ref._system.spawn_async(
            spec.factory, *spec.args, *args, name=name, parent=self.ref, mailbox_limit=spec.mailbox_limit
        )
        if spec.restart is not Restart.TEMPORARY:
            self._enroll(spec, ref, name, args)
        return ref

    def add_child(self, spec: ChildSpec) -> Ref:
        """Add a spec as the last one and start it; its `init` must be plain (else call with `AddChild`).

        Raises:
            ValueError: a child has that name, or this is a simple_one_for_one.
            Exception: whatever its `init` raised; the spec is then not kept.
        """
        child = self._add(spec)
        try:
            ref = self.ref._system.spawn(
                spec.factory, *spec.args, name=child.name, parent=self.ref, mailbox_limit=spec.mailbox_limit
            )
        except BaseException:
            self._children.remove(child)
            raise
        self._up(child, ref)
        return ref

    def remove_child(self, name: str) -> None:
        """Stop a child and forget its spec; it may still be ending when this returns.

        Raises:
            UnknownChild: no child has that name.
        """
        child = self._named(name)
        child.wanted = False
        child.removed = True
        self._settle(child)

    def disable(self, name: str) -> None:
        """Stop a child and leave it down until `enable`; a delayed restart is cancelled.

        For a simple_one_for_one, with its spec's name: stop all children and refuse new ones.

        Raises:
            UnknownChild: no child has that name.
        """
        if self._simple is not None and name == self._simple.name:
            self._disabled = True
            for child in list(self._children):
                self._disable(child)
            for ref in reversed(list(self.ref._rare or ())):
                if ref not in self._by_ref:
                    self._order_stop(ref, self._simple)
            return
        self._disable(self._named(name))

    def enable(self, name: str) -> None:
        """Let a disabled child (or one that was done) run again; it is started now, without any delay.

        Raises:
            UnknownChild: no child has that name.
        """
        if self._simple is not None and name == self._simple.name:
            self._disabled = False
            return
        child = self._named(name)
        child.disabled = False
        child.wanted = True
        self._hasten(child)
        self._settle(child)

    def restart_child(self, name: str) -> None:
        """Stop a child and start it again, alone and without counting against the intensity.

        Raises:
            UnknownChild: no child has that name, or its kind is never restarted.
            ChildDisabled: it is disabled.
        """
        child = self._named(name)
        if child.disabled:
            raise ChildDisabled(f"child {name!r} is disabled")
        child.wanted = True
        child.restarts += 1
        self._hasten(child)
        if child.phase in (Phase.UP, Phase.STARTING, Phase.STOPPING):
            child.recycle = True
        self._settle(child)

    def children(self) -> list[ChildInfo]:
        """Return the children in start order, those that are down included."""
        if self._simple is None:
            return [self._info(child) for child in self._children]
        spec = self._simple
        found: list[ChildInfo] = []
        for ref in self.ref._rare or ():
            child = self._by_ref.get(ref)
            found.append(
                self._info(child)
                if child is not None
                else ChildInfo(ref.name or repr(ref), ref, Phase.UP, spec.restart, 0, False, None)
            )
        found.extend(self._info(child) for child in self._children if child.ref is None)
        return found

    # -- starting ---------------------------------------------------------------------------------------------

    def init(self) -> Awaitable[None] | None:
        """Start the children in order. A subclass that overrides it returns `super().init()`."""
        return self._start_from(0)

    def _start_from(self, index: int) -> Awaitable[None] | None:
        system = self.ref._system
        children = self._children
        while index < len(children):
            child = children[index]
            spec = child.spec
            ref, pending = system._begin(spec.factory, child.args, child.name, self.ref, spec.mailbox_limit)
            if pending is not None:
                return self._start_rest(index, ref, pending)
            self._up(child, ref)
            system._started(ref)
            index += 1
        return None

    async def _start_rest(self, index: int, ref: Ref, pending: Awaitable[None]) -> None:
        """Go on with the children from one whose init must be awaited."""
        system = self.ref._system
        child = self._children[index]
        child.phase = Phase.STARTING
        await system._await_init(ref, pending)
        self._up(child, ref)
        system._started(ref)
        rest = self._start_from(index + 1)
        if rest is not None:
            await rest

    def _startable(self) -> ChildSpec:
        spec = self._simple
        if spec is None:
            raise TypeError(f"{self.ref} is a {self._strategy.value}: use add_child")
        if self._disabled:
            raise ChildDisabled(f"{spec.name!r} is disabled")
        return spec

    def _enroll(self, spec: ChildSpec, ref: Ref, name: str | None, args: tuple[Any, ...]) -> None:
        """Remember a simple child that may have to be restarted, with its own arguments."""
        child = _Child(spec, name, (*spec.args, *args))
        self._children.append(child)
        self._up(child, ref)

    def _add(self, spec: ChildSpec) -> _Child:
        if self._simple is not None:
            raise ValueError(f"{self.ref} is a simple_one_for_one: use start_child")
        if any(child.spec.name == spec.name for child in self._children):
            raise ValueError(f"a child is named {spec.name!r} already")
        child = _Child(spec, spec.register_as or spec.name, spec.args)
        self._children.append(child)
        return child

    def _up(self, child: _Child, ref: Ref) -> None:
        child.ref = ref
        child.phase = Phase.UP
        child.recycle = False
        child.began = self.ref._system.clock.monotonic()
        self._by_ref[ref] = child
        if child.restarts:
            ref._need_rare().restarts = child.restarts
        if child.last_reason is not None and child.restarts:
            ref._need_rare().last_error = child.last_reason
        if child.waiters:
            child.answer(ref)

    def _named(self, name: str) -> _Child:
        for child in self._children:
            if child.spec.name == name and self._simple is None or child.name == name:
                return child
        raise UnknownChild(f"{self.ref} has no child {name!r}")

    # -- the loop ---------------------------------------------------------------------------------------------

    def _settle(self, child: _Child) -> None:
        """Act until nothing is left to do now. Independent children are settled one by one."""
        independent = self._strategy in (Strategy.ONE_FOR_ONE, Strategy.SIMPLE_ONE_FOR_ONE)
        if self._settling and not independent:
            return  # the loop below us will see it
        self._settling = True
        try:
            while not self._closed:
                family = [child] if independent else self._children
                actions = next_actions(self._strategy, family)
                if not actions:
                    break
                for action in actions:
                    who = family[action.index]
                    if action.act is Act.STOP:
                        self._stop_child(who)
                    else:
                        self._start_child(who)
        finally:
            self._settling = False
        self._tidy(child)

    def _tidy(self, child: _Child) -> None:
        """Forget a removed child that is down, and tell whoever waited for it."""
        if child.phase is Phase.DOWN and not child.wanted:
            if child.removed and child in self._children:
                self._children.remove(child)
            child.answer(None)

    def _start_child(self, child: _Child) -> None:
        spec = child.spec
        system = self.ref._system
        child.recycle = False
        try:
            ref, pending = system._begin(spec.factory, child.args, child.name, self.ref, spec.mailbox_limit)
        except Exception as exc:  # the strategy is told: a failed start is another death
            self._died(child, exc)
            return
        if pending is None:
            self._up(child, ref)
            system._started(ref)
            return
        child.phase = Phase.STARTING
        task = child.task = asyncio.get_running_loop().create_task(
            self._await_start(ref, pending), context=system._context
        )
        task.add_done_callback(lambda done: self._start_over(child, ref, done), context=system._context)

    async def _await_start(self, ref: Ref, pending: Awaitable[None]) -> Ref:
        await self.ref._system._await_init(ref, pending)
        return ref

    def _start_over(self, child: _Child, ref: Ref, task: asyncio.Task[Ref]) -> None:
        if task.cancelled():
            ref._abort(SHUTDOWN)  # also when it was cancelled before it began
        else:
            task.exception()  # read, so that asyncio does not complain if nobody is left to care
        if child.task is task and not self._closed:
            self.ref._push_urgent(_Started(child, task))

    def _stop_child(self, child: _Child) -> None:
        child.drop_timer()
        if child.phase is Phase.STARTING:
            child.phase = Phase.STOPPING
            if child.task is not None:
                child.task.cancel()
            return
        child.phase = Phase.STOPPING
        if child.ref is not None:
            child.timer = self._order_stop(child.ref, child.spec)

    def _order_stop(self, ref: Ref, spec: ChildSpec) -> TimerHandle | None:
        limit_s = spec.shutdown_s
        if limit_s is BRUTAL:
            ref.kill()
            return None
        ref.stop(SHUTDOWN)
        return self.ref._system.clock.call_later(limit_s, _kill_overdue, ref)

    # -- what happens -----------------------------------------------------------------------------------------

    def _urgent(self, item: object) -> Awaitable[None] | None:
        if type(item) is ChildEnded:
            return self._child_gone(item.ref, item.reason)
        if type(item) is _Due:
            child = item.child
            if child.phase is Phase.BACK_OFF and child.timer is None:
                child.phase = Phase.DOWN
                self._settle(child)
        elif type(item) is _Started:
            self._init_over(item.child, item.task)
        return None

    def _child_gone(self, ref: Ref, reason: Reason) -> Awaitable[None] | None:
        child = self._by_ref.pop(ref, None)
        if child is None:
            # A temporary child of a simple_one_for_one, or one a subclass spawned itself.
            if is_abnormal(reason) and self._simple is not None:
                self._note(ref.name or repr(ref), Verdict.REMOVE.value, reason)
            if self._simple is not None and self._simple.significant:
                self._note(ref.name or repr(ref), Verdict.FINISH.value, reason)
                self.stop(SHUTDOWN)
            else:
                self._maybe_finish(reason)
            return self.child_ended(ref, reason)
        child.drop_timer()
        child.ref = None
        return self._died(child, reason, ref)

    def _init_over(self, child: _Child, task: asyncio.Task[Ref]) -> None:
        if child.task is not task:
            return
        child.task = None
        error: BaseException | None = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            self._died(child, error if not task.cancelled() else SHUTDOWN)
            return
        ref = task.result()
        stopping = child.phase is Phase.STOPPING
        self._up(child, ref)
        self.ref._system._started(ref)
        if stopping:
            self._stop_child(child)  # it was told to stop, and its init did not care
            return
        self._settle(child)

    def _died(self, child: _Child, reason: Reason, ref: Ref | None = None) -> Awaitable[None] | None:
        """Judge an end or a failed start, and act on it."""
        if self._closed:
            return None
        simple = self._simple is not None
        family: list[_Child] = [child] if simple else self._children
        index = 0 if simple else family.index(child)
        decision = decide(self._strategy, family, index, is_abnormal(reason))
        verdict = decision.verdict
        stopped = child.phase is Phase.STOPPING
        child.phase = Phase.DOWN
        child.last_reason = reason_text(reason)
        if isinstance(reason, BaseException) and child.waiters and not stopped:
            child.answer_error(reason)
        hook: Awaitable[None] | None = None
        if verdict is Verdict.RESTART:
            for sibling in decision.recycle:
                family[sibling].recycle = True
            if decision.counts and not self._allowed(child, reason):
                return None
            child.restarts += 1
            self._schedule_restart(child, reason)
        elif verdict is Verdict.EXPECTED:
            if child.wanted and child.recycle:
                child.restarts += 1 if not simple and self._strategy is not Strategy.ONE_FOR_ONE else 0
            self._note(child.spec.name, verdict.value, reason)
        else:
            child.wanted = False
            child.recycle = False
            child.removed = verdict is Verdict.REMOVE or simple
            self._note(child.spec.name if not simple else child.name or child.spec.name, verdict.value, reason)
            if ref is not None:
                hook = self.child_ended(ref, reason)
            if verdict is Verdict.FINISH:
                self.stop(SHUTDOWN)
                return hook
        if simple and not child.wanted:
            child.removed = child.removed or not child.disabled or self._disabled
        self._settle(child)
        if verdict is not Verdict.RESTART:
            self._maybe_finish(reason)
        return hook

    def _allowed(self, child: _Child, reason: Reason) -> bool:
        """Count one restart; when there are too many, end with an error."""
        limit = self._intensity
        self._window, allowed = count_restart(limit, self._window, self.ref._system.clock.monotonic())
        if not allowed:
            self._note(child.spec.name, "escalate", reason)
            self._closed = True
            error = RestartsExceeded(child.spec.name, limit.max_restarts, limit.period_s, reason)
            child.answer_error(error)
            self.stop(error)
        return allowed

    def _schedule_restart(self, child: _Child, reason: Reason) -> None:
        backoff = child.spec.backoff
        name = child.name or child.spec.name
        if backoff is None or child.recycle:
            self._note(name, "restart", reason)
            return
        clock = self.ref._system.clock
        if clock.monotonic() - child.began >= backoff.reset_after_s:
            child.failures = 0
        child.failures += 1
        delay_s = backoff.delay_s(child.failures, random())
        self._note(name, "back_off", reason, delay_s)
        child.phase = Phase.BACK_OFF
        child.timer = clock.call_later(delay_s, self._due, child)

    def _due(self, child: _Child) -> None:
        child.timer = None
        self.ref._push_urgent(_Due(child))

    def _hasten(self, child: _Child) -> None:
        """An explicit start does not wait for a back-off."""
        if child.phase is Phase.BACK_OFF:
            child.drop_timer()
            child.phase = Phase.DOWN
        child.failures = 0

    def _disable(self, child: _Child) -> None:
        child.disabled = True
        child.wanted = False
        child.recycle = False
        if child.phase is Phase.BACK_OFF:
            child.drop_timer()
            child.phase = Phase.DOWN
        self._note(child.name or child.spec.name, "disable", NORMAL)
        self._settle(child)

    def _maybe_finish(self, reason: Reason) -> None:
        if self._auto_shutdown and not self._closed and not is_abnormal(reason) and not self._disabled:
            if any(child.disabled for child in self._children) or anyone_left(self._children):
                return
            rare = self.ref._rare
            if rare is not None and rare.count:
                return
            self._note("", Verdict.FINISH.value, reason)
            self.stop(NORMAL)

    def _note(self, child: str, decision: str, reason: Reason, delay_s: float = 0.0) -> None:
        system = self.ref._system
        name = self.ref.name or repr(self.ref)
        event = SupervisorEvent(name, child, decision, reason_text(reason), system.clock.now(), delay_s)
        self._history.append(event)
        if system._listeners:
            system._announce(event)

    # -- for the kernel ---------------------------------------------------------------------------------------

    def _before_end(self) -> None:
        self._closed = True
        gone = NotAlive(self.ref, self.ref._reason)
        for child in self._children:
            child.drop_timer()
            if child.task is not None:
                child.task.cancel()
            child.answer_error(gone)

    def _shutdown_s(self, child: Ref) -> float | None:
        record = self._by_ref.get(child)
        spec = record.spec if record is not None else self._simple
        if spec is None:
            return super()._shutdown_s(child)
        return None if spec.shutdown_s is BRUTAL else spec.shutdown_s

    def _stops_together(self) -> bool:
        return self._simple is not None

    def _control(self, request: object, reply: Reply) -> None:
        """Carry out an order and answer it, now or when it is done. An error goes to who asked, not to us."""
        try:
            self._obey(request, reply)
        except Exception as exc:  # the caller is told
            reply.error(exc)

    def _obey(self, request: object, reply: Reply) -> None:
        if type(request) is StartChild:
            self._start_for(request, reply)
        elif type(request) is AddChild:
            child = self._add(request.spec)
            child.waiters.append(reply)
            child.phase = Phase.DOWN
            self._first_start(child, reply)
        elif type(request) is RemoveChild:
            child = self._named(request.name)
            child.waiters.append(reply)
            self.remove_child(request.name)
        elif type(request) is DisableChild:
            if self._simple is not None and request.name == self._simple.name:
                self.disable(request.name)
                reply.ok()
                return
            child = self._named(request.name)
            child.waiters.append(reply)
            self.disable(request.name)
        elif type(request) is EnableChild:
            if self._simple is not None and request.name == self._simple.name:
                self.enable(request.name)
                reply.ok()
                return
            child = self._named(request.name)
            if child.phase is Phase.UP:
                reply.ok(child.ref)
                return
            child.waiters.append(reply)
            self.enable(request.name)
        elif type(request) is RestartChild:
            child = self._named(request.name)
            if child.disabled:
                raise ChildDisabled(f"child {request.name!r} is disabled")
            child.waiters.append(reply)
            self.restart_child(request.name)
        elif type(request) is ListChildren:
            reply.ok(self.children())
        else:
            raise TypeError(f"a supervisor does not know {type(request).__name__}")

    def _start_for(self, request: StartChild, reply: Reply) -> None:
        spec = self._startable()
        system = self.ref._system
        args = (*spec.args, *request.args)
        ref, pending = system._begin(spec.factory, args, request.name, self.ref, spec.mailbox_limit)
        if pending is None:
            if spec.restart is not Restart.TEMPORARY:
                self._enroll(spec, ref, request.name, request.args)
            system._started(ref)
            reply.ok(ref)
            return

        def done(task: asyncio.Task[Ref]) -> None:
            if task.cancelled():
                ref._abort(SHUTDOWN)
                reply.error(NotAlive(ref))
            elif (error := task.exception()) is not None:
                reply.error(error)
            elif ref._state != TERMINATED:
                if spec.restart is not Restart.TEMPORARY:
                    self._enroll(spec, ref, request.name, request.args)
                system._started(ref)
                reply.ok(ref)

        task = asyncio.get_running_loop().create_task(self._await_start(ref, pending), context=system._context)
        task.add_done_callback(done, context=system._context)

    def _first_start(self, child: _Child, reply: Reply) -> None:
        """Start an added child; if its first init fails, its spec is not kept."""
        spec = child.spec
        system = self.ref._system
        try:
            ref, pending = system._begin(spec.factory, child.args, child.name, self.ref, spec.mailbox_limit)
        except BaseException:
            self._children.remove(child)
            child.waiters.clear()
            raise
        if pending is None:
            self._up(child, ref)
            system._started(ref)
            return
        child.phase = Phase.STARTING
        task = child.task = asyncio.get_running_loop().create_task(
            self._await_start(ref, pending), context=system._context
        )

        def done(task: asyncio.Task[Ref]) -> None:
            if (task.cancelled() or task.exception() is not None) and child in self._children:
                self._children.remove(child)
                if task.cancelled():
                    ref._abort(SHUTDOWN)
                error = NotAlive(ref) if task.cancelled() else task.exception()
                child.answer_error(error if error is not None else NotAlive(ref))
                return
            self._start_over(child, ref, task)

        task.add_done_callback(done, context=system._context)

    def _info(self, child: _Child) -> ChildInfo:
        return ChildInfo(
            child.name or child.spec.name,
            child.ref,
            child.phase,
            child.restart,
            child.restarts,
            child.disabled,
            child.last_reason,
        )

    def _detail(self) -> dict[str, Any]:
        """What the supervisor is doing about it, then whatever a subclass adds."""
        oldest = self.ref._system.clock.monotonic() - self._intensity.period_s
        own: dict[str, Any] = {
            "strategy": self._strategy.value,
            "restarts_in_window": sum(1 for at in self._window if at >= oldest),
            "max_restarts": self._intensity.max_restarts,
            "period_s": self._intensity.period_s,
            "history": [event.as_dict() for event in self._history],
        }
        down = [child for child in self._children if child.phase is not Phase.UP]
        if down:
            own["not_up"] = [
                {
                    "name": child.name or child.spec.name,
                    "phase": "disabled" if child.disabled else child.phase.value,
                    "restarts": child.restarts,
                    "last_reason": child.last_reason,
                }
                for child in down[:HISTORY]
            ]
        return own | self.inspect()


def _kill_overdue(ref: Ref) -> None:
    if ref._state != TERMINATED:
        ref.kill()


__all__ = [
    "BRUTAL",
    "AddChild",
    "Backoff",
    "ChildInfo",
    "ChildSpec",
    "DisableChild",
    "EnableChild",
    "Intensity",
    "ListChildren",
    "RemoveChild",
    "Restart",
    "RestartChild",
    "StartChild",
    "Strategy",
    "Supervisor",
]
