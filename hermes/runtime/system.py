"""One actor system: names, turns, time, and the view of it all.

Everything happens in one event loop and one thread; nothing here may be called from another thread.
The system hands out turns: actors with mail stand in one queue, and one `call_soon` serves the actors that
    were in
it when the slice began, so thousands of small turns cost the loop one callback and I/O comes in between.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from hermes.runtime.clock import Clock, SystemClock
from hermes.runtime.logs import ActorLog, kernel_log
from hermes.runtime.mailbox import SendResult
from hermes.runtime.rare import Family
from hermes.runtime.reasons import SHUTDOWN, AsyncInit, NotAlive, SystemClosed
from hermes.runtime.ref import Ref
from hermes.runtime.registry import Registry
from hermes.runtime.states import ENDING, INIT, READY, READY_UP, SLEEP, STATE_NAMES
from hermes.runtime.timers import TimerWheel

if TYPE_CHECKING:
    from hermes.runtime.actor import Actor

SLICE_TURNS: Final = 256  # turns before the loop looks at its sockets and timers again
SLICE_S: Final = 0.005  # seconds, for the same reason


class SupervisorEvent(NamedTuple):
    """One decision of a supervisor.

    Attributes:
        supervisor: its name, or `#id`.
        child: the child's name in its spec, or its registered name.
        decision: start, restart, back_off, retry, remove, rest, stop, kill, escalate, finish, disable,
            enable.
        reason: the end that led to it, as text.
        at: aware, UTC.
        delay_s: seconds until the restart; 0 unless back_off.
    """

    supervisor: str
    child: str
    decision: str
    reason: str
    at: datetime
    delay_s: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {
            "child": self.child,
            "decision": self.decision,
            "reason": self.reason,
            "at": self.at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "delay_s": round(self.delay_s, 3),
        }


@dataclass(frozen=True, slots=True)
class ActorInfo:
    """One actor, seen from outside, without its help.

    Attributes:
        state: init, sleep, running, wait, suspended or terminated.
        since: aware; when `wait` or `suspended` began, else when the actor started.
        children: the first of them, in start order.
        mailbox: messages waiting, by lane: urgent, system, main.
        time_spent_s: seconds its handlers ran, waits of coroutines not counted.
    """

    name: str | None
    id: int
    kind: str
    state: str
    since: datetime
    uptime_s: float
    parent: Ref | None
    children: tuple[Ref, ...]
    children_total: int
    mailbox: dict[str, int]
    mailbox_limit: int
    messages_in: int
    messages_out: int
    time_spent_s: float
    restarts: int
    last_error: str | None
    links: tuple[Ref, ...]
    monitors: tuple[Ref, ...]
    monitored_by: tuple[Ref, ...]
    detail: dict[str, Any]


class System:
    """A forest of actors under one clock.

    Args:
        clock: the only source of time; the machine's own unless given.
        trace: called as `trace(trace_id, ref, message)` for every message that carries a trace id.
        terminate_limit_s: seconds an async `terminate` may take.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        trace: Callable[[str, Ref, object], object] | None = None,
        terminate_limit_s: float = 5.0,
    ) -> None:
        self.clock: Clock = SystemClock() if clock is None else clock
        self.registry = Registry()
        self.wheel = TimerWheel(self.clock)
        self.terminate_limit_s = terminate_limit_s
        self._trace = trace
        self._ids = itertools.count(1)
        self._roots = Family()
        self._ready: deque[Ref] = deque()
        self._current: Ref | None = None  # whose turn it is, or whose coroutine takes a step
        self._levels: dict[str, int] = {}  # log levels set by an operator, by name: they outlive restarts
        self._awake = False  # True iff `_run` is scheduled or running
        self._sent = 0  # messages sent in all; turns charge the difference to their actor
        self._closing = False
        self._context = contextvars.copy_context()
        self._orphans: set[asyncio.Task[Any]] = set()
        self._listeners: list[Callable[[SupervisorEvent], object]] = []

    # -- starting

    def spawn(
        self,
        factory: Callable[..., Actor],
        *args: Any,
        name: str | None = None,
        parent: Ref | None = None,
        link: bool = False,
        mailbox_limit: int | None = None,
    ) -> Ref:
        """Start an actor whose `init` is plain; it has run when this returns.

        Args:
            factory: called with `args`; returns a new actor, often the class itself.
            *args: for the factory.
            name: reserved before `init`; others may send to it at once.
            parent: whose end ends it; None makes a root actor.
            link: also let its end reach the parent.
            mailbox_limit: instead of the class's own.

        Raises:
            AsyncInit: `init` returned an awaitable; nothing was started.
            NameTaken: a living actor has the name.
            NotAlive: the parent has ended.
            SystemClosed: the system is shutting down.
            Exception: whatever the factory or `init` raised; the actor never existed.
        """
        ref = self._make(factory, args, name, parent, mailbox_limit)
        actor: Actor = ref._actor  # type: ignore[assignment]
        if not actor._has_init:
            ref._state = SLEEP  # nobody else knew of it until now: no mail can have come
        else:
            self._plain_init(ref, actor)
        if link and parent is not None:
            parent._link(ref)
        return ref

    def _plain_init(self, ref: Ref, actor: Actor) -> None:
        try:
            pending = actor.init()
        except BaseException as exc:
            ref._abort(exc)
            raise
        if pending is not None and hasattr(type(pending), "__await__"):
            error = AsyncInit(f"init of {actor.kind} must be awaited: use spawn_async")
            if isinstance(pending, Coroutine):
                pending.close()
            ref._abort(error)
            raise error
        if ref._state != INIT:
            raise NotAlive(ref, ref._reason)
        ref._rest()

    async def spawn_async(
        self,
        factory: Callable[..., Actor],
        *args: Any,
        name: str | None = None,
        parent: Ref | None = None,
        link: bool = False,
        mailbox_limit: int | None = None,
    ) -> Ref:
        """Start an actor and await its `init`, which may be plain as well. Like `spawn` otherwise.

        Cancelling it during `init` undoes the start.
        """
        ref, pending = self._begin(factory, args, name, parent, mailbox_limit)
        if pending is not None:
            await self._await_init(ref, pending)
        if link and parent is not None:
            parent._link(ref)
        self._started(ref)
        return ref

    def _make(
        self,
        factory: Callable[..., Actor],
        args: tuple[Any, ...],
        name: str | None,
        parent: Ref | None,
        mailbox_limit: int | None,
    ) -> Ref:
        """Build actor and ref, name reserved, in the family, before `init`."""
        if self._closing:
            raise SystemClosed("the system is shutting down")
        if parent is not None and parent._state >= ENDING:
            raise NotAlive(parent, parent._reason)
        actor = factory(*args)
        limit = actor.mailbox_limit if mailbox_limit is None else mailbox_limit
        ref = Ref(self, actor, name, parent, limit, self.clock.monotonic())
        if name is not None:
            self.registry.reserve(name, ref)
        actor.ref = ref
        if parent is None:
            self._roots.add(ref)
        else:
            (parent._rare or parent._need_rare()).add(ref)
        return ref

    def _begin(
        self,
        factory: Callable[..., Actor],
        args: tuple[Any, ...],
        name: str | None,
        parent: Ref | None,
        mailbox_limit: int | None,
    ) -> tuple[Ref, Awaitable[None] | None]:
        """Make an actor and call `init`; return what of it is left to await."""
        ref = self._make(factory, args, name, parent, mailbox_limit)
        actor = cast("Actor", ref._actor)
        if actor._has_init:
            try:
                pending = actor.init()
            except BaseException as exc:
                ref._abort(exc)
                raise
            if pending is not None and hasattr(type(pending), "__await__"):
                ref._need_rare().pending = pending
                return ref, pending
            if ref._state != INIT:
                raise NotAlive(ref, ref._reason)
        return ref, None

    async def _await_init(self, ref: Ref, pending: Awaitable[None]) -> None:
        try:
            await pending
        except BaseException as exc:
            ref._abort(exc if isinstance(exc, Exception) else SHUTDOWN)
            raise
        ref._need_rare().pending = None
        if ref._state != INIT:
            raise NotAlive(ref, ref._reason)

    def _started(self, ref: Ref) -> None:
        ref._rest()

    # -- talking

    def whereis(self, name: str) -> Ref | None:
        """Return who holds the name now, or None."""
        return self.registry.get(name)

    def send(self, name: str, message: object, trace: str | None = None) -> SendResult:
        """Send to whoever holds the name now; UNKNOWN when nobody does."""
        ref = self.registry.get(name)
        return SendResult.UNKNOWN if ref is None else ref.send(message, trace)

    async def call(self, name: str, request: object, timeout_s: float = 5.0, trace: str | None = None) -> Any:
        """Call whoever holds the name now. Like `Ref.call`; `NotAlive` when nobody does."""
        ref = self.registry.get(name)
        if ref is None:
            raise NotAlive(name)
        return await ref.call(request, timeout_s, trace)

    # -- seeing

    def on_event(self, listener: Callable[[SupervisorEvent], object]) -> Callable[[], None]:
        """Call `listener` with every supervisor decision; its errors are logged. Return the unsubscriber."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    def _announce(self, event: SupervisorEvent) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception:  # the log is told: metrics must not decide over supervision
                kernel_log.exception("a supervisor event listener failed")

    def _find(self, who: Ref | str) -> Ref:
        if isinstance(who, Ref):
            return who
        ref = self.registry.get(who)
        if ref is None:
            raise NotAlive(who)
        return ref

    def info(self, who: Ref | str, children_limit: int = 100) -> ActorInfo:
        """Describe one actor as it is now, ended ones included as far as is still known.

        Raises:
            NotAlive: nobody has that name.
        """
        ref = self._find(who)
        rare = ref._rare
        actor = ref._actor
        return ActorInfo(
            name=ref.name,
            id=ref.id,
            kind=actor.kind if actor is not None else "",
            state=STATE_NAMES[ref._state],
            since=self._since(ref),
            uptime_s=self.clock.monotonic() - ref._started,
            parent=ref._parent,
            children=tuple(itertools.islice(rare, children_limit)) if rare is not None else (),
            children_total=rare.count if rare is not None else 0,
            mailbox={
                "urgent": len(ref._urgent or ()),
                "system": len(ref._lane or ()),
                "main": len(ref._main or ()),
            },
            mailbox_limit=ref._limit,
            messages_in=ref._received,
            messages_out=ref._sent,
            time_spent_s=ref._spent,
            restarts=rare.restarts if rare is not None else 0,
            last_error=rare.last_error if rare is not None else None,
            links=tuple(rare.links or ()) if rare is not None else (),
            monitors=tuple((rare.watching or {}).values()) if rare is not None else (),
            monitored_by=tuple((rare.watchers or {}).values()) if rare is not None else (),
            detail=_detail(actor),
        )

    def figures(self, who: Ref | str) -> dict[str, Any]:
        """Return what an actor says of itself by `inspect`, nothing of the kernel's; {} when nobody has that name."""
        ref = who if isinstance(who, Ref) else self.registry.get(who)
        actor = ref._actor if ref is not None else None
        if actor is None:
            return {}
        try:
            return actor.inspect()
        except Exception as exc:  # whoever looks is told
            return {"inspect_error": f"{type(exc).__name__}: {exc}"}

    def standing_out(self, most: int, family_limit: int = 2000, look_at: int = 5000) -> list[ActorInfo]:
        """Return the actors with most mail, most time spent and most restarts: `most` of each, nobody twice.

        Args:
            most: of each kind.
            family_limit: families with more children are not looked through.
            look_at: actors looked at in all, those near the root first: this takes milliseconds however many there are.
        """
        everybody: list[Ref] = []
        left = deque(self._roots)
        while left and len(everybody) < look_at:
            ref = left.popleft()
            everybody.append(ref)
            rare = ref._rare
            if rare is not None and rare.count <= family_limit:
                left.extend(rare)
        chosen: dict[Ref, None] = {}
        for key in (_mail_of, _time_of, _restarts_of):
            chosen.update(dict.fromkeys(ref for ref in heapq.nlargest(most, everybody, key=key) if key(ref)))
        return [self.info(ref, children_limit=0) for ref in chosen]

    def tree(self, root: Ref | str | None = None, children_limit: int = 20, depth: int | None = None) -> dict[str, Any]:
        """Return a family as data: name, kind, state, counters, `children` (the first) and `children_total`.

        Children that their supervisor keeps but that do not run come last: state down, back_off or disabled.

        Args:
            root: whose family; None for all roots, under an entry called "system". May be the name of one that
                does not run.
            children_limit: children shown per actor, in start order; `children_total` counts all.
            depth: generations below the root that are shown; None for all.

        Raises:
            NotAlive: nobody has that name.
        """
        if isinstance(root, str) and self.registry.get(root) is None:
            return self._absent(root)
        if root is not None:
            return self._node(self._find(root), children_limit, depth)
        below = None if depth is None else depth - 1
        shown = itertools.islice(self._roots, children_limit) if depth is None or depth > 0 else ()
        return {
            "name": "system",
            "kind": "System",
            "state": "terminated" if self._closing else "running",
            "since": None,
            "restarts": 0,
            "mailbox": len(self._ready),
            "uptime_s": 0.0,
            "messages_in": self._sent,
            "last_error": None,
            "detail": {},
            "children": [self._node(child, children_limit, below) for child in shown],
            "children_total": self._roots.count,
        }

    def _node(self, ref: Ref, children_limit: int, depth: int | None) -> dict[str, Any]:
        rare = ref._rare
        actor = ref._actor
        below = None if depth is None else depth - 1
        room = children_limit if depth is None or depth > 0 else 0
        children = [self._node(child, children_limit, below) for child in itertools.islice(rare or (), room)]
        absent = actor._kernel_absent() if actor is not None and actor._supervises else ()
        children += absent[: room - len(children)]
        return {
            "name": ref.name or f"#{ref.id}",
            "kind": actor.kind if actor is not None else "",
            "state": STATE_NAMES[ref._state],
            "since": self._since(ref),
            "restarts": rare.restarts if rare is not None else 0,
            "mailbox": ref.mailbox,
            "uptime_s": self.clock.monotonic() - ref._started,
            "messages_in": ref._received,
            "last_error": rare.last_error if rare is not None else None,
            "detail": _detail(actor),
            "children": children,
            "children_total": (rare.count if rare is not None else 0) + len(absent),
        }

    def _absent(self, name: str) -> dict[str, Any]:
        supervisor = self.supervisor_of(name)
        actor = supervisor._actor if supervisor is not None else None
        for entry in actor._kernel_absent() if actor is not None else ():
            if entry["name"] == name:
                return entry
        raise NotAlive(name)

    def supervisor_of(self, name: str) -> Ref | None:
        """Return the supervisor that keeps the child of this name, running or not; None when nobody does.

        A running child is found at once; for another one all supervisors are asked.
        """
        ref = self.registry.get(name)
        if ref is not None:
            parent = ref._parent
            return parent if parent is not None and parent._actor is not None and parent._actor._supervises else None
        left = list(self._roots)
        while left:
            ref = left.pop()
            actor = ref._actor
            if actor is None or not actor._supervises:
                continue
            if any(entry["name"] == name for entry in actor._kernel_absent()):
                return ref
            if not actor._kernel_together():  # thousands of equal children are no supervisors of others
                left.extend(ref._rare or ())
        return None

    def _since(self, ref: Ref) -> datetime:
        rare = ref._rare
        at = rare.since if rare is not None and rare.since is not None else ref._started
        return self.clock.now() - timedelta(seconds=self.clock.monotonic() - at)

    def log_of(self, ref: Ref) -> ActorLog:
        """Return the logger of an actor: `hermes.actor.<kind>`, with its own level if one is set."""
        kind = ref._actor.kind if ref._actor is not None else "gone"
        return ActorLog(logging.getLogger(f"hermes.actor.{kind}"), ref, self.log_level(ref))

    def set_log_level(self, who: Ref | str, level: int | None) -> None:
        """Give an actor and all below it a log level of its own; None takes it back.

        A named actor keeps it over restarts.

        Raises:
            NotAlive: nobody has that name.
        """
        ref = self._find(who)
        ref._need_rare().level = level
        if ref.name is not None:
            if level is None:
                self._levels.pop(ref.name, None)
            else:
                self._levels[ref.name] = level

    def log_level(self, who: Ref | str) -> int | None:
        """Return the level that holds for an actor: its own, or that of the nearest above it; None when none is set.

        Raises:
            NotAlive: nobody has that name.
        """
        ref: Ref | None = self._find(who)
        while ref is not None:
            level = ref._rare.level if ref._rare is not None else None
            if level is None and self._levels and ref.name is not None:
                level = self._levels.get(ref.name)
            if level is not None:
                return level
            ref = ref._parent
        return None

    def log_level_by_name(self, name: str) -> int | None:
        """Return what `log_level` does; None when nobody has that name."""
        ref = self.registry.get(name)
        return None if ref is None else self.log_level(ref)

    def log_levels(self) -> dict[str, int]:
        """Return the levels that were set, by the name of the actor they were set for."""
        return dict(self._levels)

    def whose_log(self) -> tuple[dict[str, str], int | None]:
        """Tell a logger who is at work now: facts for its line (actor, and what `log_facts` adds), and the level."""
        ref = self._current
        if ref is None:
            return {}, None
        actor = ref._actor
        facts = {"actor": ref.name or repr(ref)}
        if actor is not None:
            facts.update(actor.log_facts())
        return facts, self.log_level(ref)

    # -- ending

    async def shutdown(self, limit_s: float = 30.0) -> None:
        """Stop the root actors, last first, one after the other, and wait; what outlasts its limit is killed.

        Args:
            limit_s: seconds each root actor may take with all that is below it.
        """
        self._closing = True
        while (root := self._roots.last) is not None:
            ended = asyncio.ensure_future(root.ended())
            root.stop(SHUTDOWN)
            limit = self.clock.call_later(limit_s, root.kill)
            try:
                await ended
            finally:
                limit.cancel()
                ended.cancel()
        self.wheel.close()
        if self._orphans:
            await asyncio.wait(tuple(self._orphans), timeout=1.0)

    def _adopt(self, task: asyncio.Task[Any]) -> None:
        """Keep a task nobody waits for, so that it is not collected and its error is read."""
        self._orphans.add(task)
        task.add_done_callback(self._orphan_done)

    def _orphan_done(self, task: asyncio.Task[Any]) -> None:
        self._orphans.discard(task)
        if not task.cancelled() and task.exception() is not None:
            kernel_log.error("a task outlived its actor and failed", exc_info=task.exception())

    # -- turns

    def _wake(self) -> None:
        asyncio.get_running_loop().call_soon(self._run, context=self._context)
        self._awake = True

    def _run(self) -> None:
        """Give a turn to each actor that is in the queue now."""
        ready = self._ready
        popleft = ready.popleft
        begun = now = perf_counter()
        try:
            for _ in range(min(len(ready), SLICE_TURNS)):
                ref = popleft()
                state = ref._state
                if READY <= state <= READY_UP:
                    self._current = ref
                    now = ref._drain(now)
                    if now - begun > SLICE_S:
                        break
        finally:
            self._current = None
            if ready:
                asyncio.get_running_loop().call_soon(self._run, context=self._context)
            else:
                self._awake = False


def _mail_of(ref: Ref) -> float:
    return ref.mailbox


def _time_of(ref: Ref) -> float:
    return ref._spent


def _restarts_of(ref: Ref) -> float:
    return ref._rare.restarts if ref._rare is not None else 0


def _detail(actor: Actor | None) -> dict[str, Any]:
    if actor is None:
        return {}
    try:
        return actor._kernel_detail()
    except Exception as exc:  # whoever looks is told; looking must not end anybody
        return {"inspect_error": f"{type(exc).__name__}: {exc}"}
