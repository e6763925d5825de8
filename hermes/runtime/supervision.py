"""The inside of a supervisor: the records of its children, and the one loop that acts on them.

What to do is decided in `strategy.py` and `intensity.py`; here it is done (`settle`), and whoever asked is
answered. It is an object of its own, so that no subclass of `Supervisor` can overwrite a part of it by an
unlucky name.

Invariants:
- A record is in `by_ref` iff its ref is in the family: phase STARTING, UP or STOPPING.
- A record has at most one timer and one start task, and none once the supervisor is ending (`closed`).
- Temporary children of a simple_one_for_one have a record only while their `init` is awaited.
- `settle` never calls itself: what turns up while it acts is put on its agenda.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from random import random
from typing import TYPE_CHECKING, Any, Final

from hermes.runtime.actor import DEFAULT_SHUTDOWN_S
from hermes.runtime.childspec import (
    BRUTAL,
    AddChild,
    ChildInfo,
    ChildSpec,
    DisableChild,
    EnableChild,
    ListChildren,
    RemoveChild,
    RestartChild,
    StartChild,
)
from hermes.runtime.clock import TimerHandle
from hermes.runtime.intensity import Intensity, count_restart
from hermes.runtime.mailbox import ChildEnded, Reply
from hermes.runtime.reasons import (
    KILL,
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
from hermes.runtime.ref import Ref
from hermes.runtime.states import INIT, TERMINATED
from hermes.runtime.strategy import (
    Act,
    ChildState,
    Phase,
    Restart,
    Strategy,
    Verdict,
    anyone_left,
    decide,
    next_actions,
)
from hermes.runtime.system import SupervisorEvent, System

if TYPE_CHECKING:
    from hermes.runtime.supervisor import Supervisor

# Looking a member up in its class costs 90 ns on Python 3.11, and a restart does it thirty times.
_DOWN: Final = Phase.DOWN
_BACK_OFF: Final = Phase.BACK_OFF
_STARTING: Final = Phase.STARTING
_UP: Final = Phase.UP
_STOPPING: Final = Phase.STOPPING
_TEMPORARY: Final = Restart.TEMPORARY
_RESTART: Final = Verdict.RESTART

HISTORY: Final = 50  # decisions a supervisor remembers


class Child(ChildState):
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
        "settled",
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
        self.removed = False  # its record goes when it is down
        self.settled = False  # it was up once; before that a failed start is the asker's business alone
        self.task: asyncio.Task[None] | None = None
        self.timer: TimerHandle | None = None
        self.waiters: list[Reply] = []

    @property
    def label(self) -> str:
        """What people call it."""
        return self.name or self.spec.name

    def drop_timer(self) -> None:
        """Cancel the back-off or the limit that runs."""
        timer, self.timer = self.timer, None
        if timer is not None:
            timer.cancel()

    def answer(self, value: Any) -> None:
        """Answer everybody who waits for it to be as they asked."""
        if self.waiters:
            waiters, self.waiters = self.waiters, []
            for waiter in waiters:
                waiter.ok(value)

    def answer_error(self, error: BaseException) -> None:
        """Tell everybody who waits that it failed."""
        if self.waiters:
            waiters, self.waiters = self.waiters, []
            for waiter in waiters:
                waiter.error(error)


class Due:
    """In the urgent lane: the back-off of a child is over."""

    __slots__ = ("child",)

    def __init__(self, child: Child) -> None:
        self.child = child


class Started:
    """In the urgent lane: an awaited init came to a good end."""

    __slots__ = ("child", "ref")

    def __init__(self, child: Child, ref: Ref) -> None:
        self.child = child
        self.ref = ref


class Supervision:
    """State and acts of one supervisor. See `Supervisor` for the meaning of the arguments."""

    __slots__ = (
        "actor",
        "agenda",
        "auto_shutdown",
        "by_ref",
        "children",
        "closed",
        "disabled",
        "history",
        "independent",
        "intensity",
        "kept",
        "settling",
        "simple",
        "strategy",
        "window",
    )

    def __init__(
        self,
        actor: Supervisor,
        strategy: Strategy,
        children: Sequence[ChildSpec],
        intensity: Intensity,
        auto_shutdown: bool,
    ) -> None:
        names = [spec.name for spec in children]
        if len(set(names)) != len(names):
            raise ValueError(f"two children have the same name: {names}")
        self.actor = actor
        self.strategy = strategy
        self.intensity = intensity
        self.auto_shutdown = auto_shutdown
        self.independent = strategy in (Strategy.ONE_FOR_ONE, Strategy.SIMPLE_ONE_FOR_ONE)
        self.simple: ChildSpec | None = None
        self.children: list[Child] = []  # in start order; empty for a simple_one_for_one
        self.kept: dict[Child, None] = {}  # of a simple_one_for_one: those with a record
        if strategy is Strategy.SIMPLE_ONE_FOR_ONE:
            if len(children) != 1:
                raise ValueError("simple_one_for_one takes exactly one child spec")
            self.simple = children[0]
        else:
            self.children = [Child(spec, spec.register_as or spec.name, spec.args) for spec in children]
        self.window: tuple[float, ...] = ()
        self.by_ref: dict[Ref, Child] = {}
        self.history: deque[SupervisorEvent] = deque(maxlen=HISTORY)
        self.closed = False  # True iff it is ending: nothing starts any more
        self.disabled = False  # the one spec of a simple_one_for_one is disabled
        self.settling = False
        self.agenda: deque[Child] = deque()

    @property
    def system(self) -> System:
        """The system everything lives in."""
        return self.actor.ref._system

    @property
    def records(self) -> Iterable[Child]:
        """All records there are."""
        return self.children if self.simple is None else self.kept

    # -- starting

    def start_from(self, index: int) -> Awaitable[None] | None:
        """Start the children from this one on; what must be awaited is returned."""
        begun = self._start_plain(index)
        return None if begun is None else self._start_rest(*begun)

    def _start_plain(self, index: int) -> tuple[int, Ref, Awaitable[None]] | None:
        """Start children until one's init must be awaited; return that one, or None when all are up."""
        system = self.system
        parent = self.actor.ref
        while index < len(self.children):
            child = self.children[index]
            spec = child.spec
            ref, pending = system._begin(spec.factory, child.args, child.name, parent, spec.mailbox_limit)
            if pending is not None:
                return index, ref, pending
            self.up(child, ref)
            index += 1
        return None

    async def _start_rest(self, index: int, ref: Ref, pending: Awaitable[None]) -> None:
        begun: tuple[int, Ref, Awaitable[None]] | None = (index, ref, pending)
        while begun is not None:
            index, ref, pending = begun
            child = self.children[index]
            child.phase = _STARTING
            await self.system._await_init(ref, pending)
            self.up(child, ref)
            begun = self._start_plain(index + 1)

    def startable(self) -> ChildSpec:
        """Return the one spec of a simple_one_for_one, if children may be started."""
        spec = self.simple
        if spec is None:
            raise TypeError(f"{self.actor.ref} is a {self.strategy.value}: use add_child")
        if self.disabled:
            raise ChildDisabled(f"{spec.name!r} is disabled")
        return spec

    def enroll(self, spec: ChildSpec, ref: Ref, name: str | None, args: tuple[Any, ...]) -> None:
        """Remember a running simple child that may have to be restarted, with its own arguments."""
        child = Child(spec, name, (*spec.args, *args))
        self.kept[child] = None
        self._record_up(child, ref)

    def add(self, spec: ChildSpec) -> Child:
        """Make the record of one more static child."""
        if self.simple is not None:
            raise ValueError(f"{self.actor.ref} is a simple_one_for_one: use start_child")
        if any(child.spec.name == spec.name for child in self.children):
            raise ValueError(f"a child is named {spec.name!r} already")
        child = Child(spec, spec.register_as or spec.name, spec.args)
        self.children.append(child)
        return child

    def forget(self, child: Child) -> None:
        """Drop a record."""
        if self.simple is not None:
            self.kept.pop(child, None)
        elif child in self.children:
            self.children.remove(child)

    def up(self, child: Child, ref: Ref) -> None:
        """Note that a child's init is over, and let it run."""
        self._record_up(child, ref)
        self.system._started(ref)

    def _record_up(self, child: Child, ref: Ref) -> None:
        child.ref = ref
        child.phase = _UP
        child.recycle = child.spared = False
        child.settled = True
        child.began = self.system.clock.monotonic()
        if child.restarts:
            rare = ref._need_rare()
            rare.restarts = child.restarts
            rare.last_error = child.last_reason
        if self.simple is not None and child.restart is _TEMPORARY:
            self.by_ref.pop(ref, None)
            self.forget(child)
        else:
            self.by_ref[ref] = child
        child.answer(ref)

    def named(self, name: str) -> Child:
        """Find a record by spec name or registered name."""
        if self.simple is not None:
            ref = self.system.registry.get(name)
            found = self.by_ref.get(ref) if ref is not None else None
            if found is not None:
                return found
        for child in self.records:
            if child.name == name or (self.simple is None and child.spec.name == name):
                return child
        raise UnknownChild(f"{self.actor.ref} has no child {name!r} that it could restart")

    # -- orders

    def remove(self, name: str) -> None:
        """Stop a child; its record goes when it is down."""
        child = self.named(name)
        child.wanted = False
        child.removed = True
        self._calm(child)
        self.settle(child)

    def disable(self, name: str) -> None:
        """Stop a child, or all of a simple_one_for_one, and leave it down."""
        if self.simple is None or name != self.simple.name:
            self._disable(self.named(name))
            return
        self.disabled = True
        self.note(name, "disable", NORMAL)
        for child in list(self.kept):
            child.removed = True
            self._disable(child)
        for ref in reversed(list(self.actor.ref._rare or ())):
            if ref not in self.by_ref:
                self._order_stop(ref, self.simple)

    def _disable(self, child: Child) -> None:
        child.disabled = True
        child.wanted = child.recycle = False
        self._calm(child)
        self.note(child.label, "disable", NORMAL)
        self.settle(child)

    def enable(self, name: str) -> None:
        """Let a child that is down run again, now."""
        if self.simple is not None and name == self.simple.name:
            self.disabled = False
            self.note(name, "enable", NORMAL)
            return
        child = self.named(name)
        child.disabled = False
        child.wanted = child.spared = True
        self._calm(child)
        child.failures = 0
        self.note(child.label, "enable", NORMAL)
        self.settle(child)

    def restart(self, name: str) -> None:
        """Stop one child and start it again, without counting."""
        child = self.named(name)
        if child.disabled:
            raise ChildDisabled(f"child {name!r} is disabled")
        self.note(child.label, "restart", "by order")
        child.wanted = child.spared = True
        child.restarts += 1
        child.failures = 0
        self._calm(child)
        if child.phase is not _DOWN:
            child.recycle = True
        self.settle(child)

    def _calm(self, child: Child) -> None:
        """End a back-off: an order has the last word over a delayed restart."""
        if child.phase is _BACK_OFF:
            child.drop_timer()
            child.phase = _DOWN

    # -- the loop

    def settle(self, child: Child) -> None:
        """Act until nothing is left to do now. Independent children are settled one by one."""
        if self.independent and not self.settling and child.phase is _DOWN and child.wanted:
            self.settling = True  # the common case, a restart by itself: one start, and nothing else follows
            try:
                self.launch(child)
            finally:
                self.settling = False
            if not self.agenda:
                return
        self.agenda.append(child)
        if self.settling:
            return
        self.settling = True
        try:
            while self.agenda:
                child = self.agenda.popleft()
                family = [child] if self.independent else self.children
                while not self.closed and (actions := next_actions(self.strategy, family)):
                    for action in actions:
                        who = family[action.index]
                        if action.act is Act.STOP:
                            self._stop(who)
                        else:
                            self.launch(who)
                self._tidy(child)
        finally:
            self.settling = False
            self.agenda.clear()

    def _tidy(self, child: Child) -> None:
        """Forget a removed child that is down, and tell whoever waited for it to be."""
        if child.phase is _DOWN and not child.wanted:
            if child.removed:
                self.forget(child)
            child.answer(None)

    def launch(self, child: Child) -> None:
        """Start one child; a failure is judged as its death."""
        spec = child.spec
        system = self.system
        child.recycle = False
        try:
            ref, pending = system._begin(spec.factory, child.args, child.name, self.actor.ref, spec.mailbox_limit)
        except Exception as exc:  # the strategy is told, and whoever asked for the start
            self._died(child, exc)
            return
        if pending is None:
            self.up(child, ref)
            return
        child.phase = _STARTING
        child.ref = ref
        child.began = system.clock.monotonic()
        self.by_ref[ref] = child
        child.task = asyncio.get_running_loop().create_task(system._await_init(ref, pending), context=system._context)
        child.task.add_done_callback(_init_over(self, child, ref), context=system._context)

    def _stop(self, child: Child) -> None:
        child.drop_timer()
        starting = child.phase is _STARTING
        child.phase = _STOPPING
        ref = child.ref
        if ref is None:
            return
        if starting and child.task is not None:
            # Cancelling its init undoes the start; should it not care, the limit undoes it.
            child.task.cancel()
        child.timer = self._order_stop(ref, child.spec)

    def _order_stop(self, ref: Ref, spec: ChildSpec) -> TimerHandle | None:
        limit_s = spec.shutdown_s
        if limit_s is BRUTAL:
            ref.kill()
            return None
        ref.stop(SHUTDOWN)
        return self.system.clock.call_later(limit_s, _kill_overdue, ref)

    # -- what happens

    def urgent(self, item: object) -> Awaitable[None] | None:
        """Take an item from the urgent lane."""
        if type(item) is ChildEnded:
            return self._gone(item.ref, item.reason)
        if type(item) is Due:
            child = item.child
            if child.phase is _BACK_OFF and child.timer is None:
                child.phase = _DOWN
                self.settle(child)
        elif type(item) is Started:
            self._init_done(item.child, item.ref)
        return None

    def _init_done(self, child: Child, ref: Ref) -> None:
        if child.ref is not ref or ref._state != INIT:
            return  # it was killed between the end of its init and our turn
        child.task = None
        stopping = child.phase is _STOPPING
        self.up(child, ref)
        if stopping:
            child.phase = _STOPPING  # it was told to end before; the order lies in its mailbox
            return
        self.settle(child)

    def is_nobody(self, ref: Ref) -> bool:
        """Tell whether nothing follows from a child's normal end: it is not recorded, and nobody waits for the last."""
        simple = self.simple
        return simple is not None and not (simple.significant or self.auto_shutdown or ref in self.by_ref)

    def _gone(self, ref: Ref, reason: Reason) -> Awaitable[None] | None:
        child = self.by_ref.pop(ref, None)
        if child is None:
            # A temporary child of a simple_one_for_one, or one that a subclass spawned itself.
            if self.simple is not None:
                if is_abnormal(reason):
                    self.note(ref.name or repr(ref), Verdict.REMOVE.value, reason)
                if self.simple.significant and not self.closed:
                    self.note(ref.name or repr(ref), Verdict.FINISH.value, reason)
                    self._finish(SHUTDOWN)
            self._maybe_finish(reason)
            return self.actor.child_ended(ref, reason)
        child.drop_timer()
        child.ref = None
        task, child.task = child.task, None
        if task is not None:
            # Its init failed, or goes on although it was killed: then nobody waits for it any more.
            task.cancel()
            self.system._adopt(task)
            return self._died(child, reason)
        return self._died(child, reason, ref)

    def _died(self, child: Child, reason: Reason, ref: Ref | None = None) -> Awaitable[None] | None:
        """Judge an end or, without a ref, a failed start, and act on it."""
        if self.closed:
            return None
        if not child.settled:
            self._never_started(child, reason)
            return None
        family: list[Child] = [child] if self.simple is not None else self.children
        decision = decide(self.strategy, family, family.index(child), is_abnormal(reason))
        verdict = decision.verdict
        if child.phase is not _STOPPING and isinstance(reason, BaseException):
            child.answer_error(reason)
        child.phase = _DOWN
        child.last_reason = text = reason_text(reason)
        hook: Awaitable[None] | None = None
        if verdict is _RESTART:
            for sibling in decision.recycle:
                family[sibling].recycle = True
            if decision.counts and not self.count_restart(child.label, reason):
                return None
            child.restarts += 1
            self._plan_restart(child, text)
        else:
            self.note(child.label, verdict.value, reason)
            if verdict is Verdict.EXPECTED:
                if child.wanted and child.recycle and not child.spared:
                    child.restarts += 1
            else:
                child.wanted = child.recycle = False
                child.removed = verdict is Verdict.REMOVE or self.simple is not None
                if ref is not None:
                    hook = self.actor.child_ended(ref, reason)
                if verdict is Verdict.FINISH:
                    self._finish(SHUTDOWN)
                    return hook
        self.settle(child)
        if verdict is not _RESTART:
            self._maybe_finish(reason)
        return hook

    def _never_started(self, child: Child, reason: Reason) -> None:
        """The first start of an added child failed: it is not kept, and only the asker hears of it."""
        child.phase = _DOWN
        child.wanted = False
        self.forget(child)
        child.answer_error(reason if isinstance(reason, BaseException) else NotAlive(child.label, reason))

    def count_restart(self, name: str, reason: Reason) -> bool:
        """Count one restart; when there are too many, end with an error and return False."""
        limit = self.intensity
        self.window, allowed = count_restart(limit, self.window, self.system.clock.monotonic())
        if not allowed:
            self.note(name, "escalate", reason)
            self._finish(RestartsExceeded(name, limit.max_restarts, limit.period_s, reason))
        return allowed

    def _plan_restart(self, child: Child, text: str) -> None:
        backoff = child.spec.backoff
        if backoff is None:
            self.note(child.label, "restart", text)
            return
        clock = self.system.clock
        if clock.monotonic() - child.began >= backoff.reset_after_s:
            child.failures = 0
        child.failures += 1
        delay_s = backoff.delay_s(child.failures, random())
        self.note(child.label, "back_off", text, delay_s)
        child.phase = _BACK_OFF
        child.timer = clock.call_later(delay_s, self._due, child)

    def _due(self, child: Child) -> None:
        child.timer = None
        self.actor.ref._push_urgent(Due(child))

    def _finish(self, reason: Reason) -> None:
        self.closed = True
        self.actor.stop(reason)

    def _maybe_finish(self, reason: Reason) -> None:
        if not self.auto_shutdown or self.closed or self.disabled or is_abnormal(reason):
            return
        if any(child.disabled for child in self.children) or anyone_left(tuple(self.records)):
            return
        rare = self.actor.ref._rare
        if rare is not None and rare.count:
            return
        self.note("", Verdict.FINISH.value, reason)
        self._finish(NORMAL)

    def note(self, child: str, decision: str, reason: Reason | str, delay_s: float = 0.0) -> None:
        """Remember a decision and tell whoever listens."""
        system = self.system
        ref = self.actor.ref
        text = reason if isinstance(reason, str) else reason_text(reason)
        event = SupervisorEvent(ref.name or repr(ref), child, decision, text, system.clock.now(), delay_s)
        self.history.append(event)
        if system._listeners:
            system._announce(event)

    # -- ending

    def close(self) -> None:
        """Start nothing any more; the kernel stops the children next, the last of the family first."""
        self.closed = True
        family = self.actor.ref._rare
        if family is not None and self.children:
            # Restarted children stand last: put all back in the order of their specs, strangers after them.
            strangers = [ref for ref in family if ref not in self.by_ref]
            known = [child.ref for child in self.children if child.ref is not None]
            for ref in (*known, *strangers):
                if ref._state != TERMINATED:
                    family.remove(ref)
                    family.add(ref)
        gone = NotAlive(self.actor.ref, self.actor.ref._reason)
        for child in self.records:
            child.drop_timer()
            if child.task is not None:
                child.task.cancel()
            child.answer_error(gone)

    def shutdown_s(self, ref: Ref) -> float | None:
        """Return the seconds a child may take to end; None kills it at once."""
        record = self.by_ref.get(ref)
        spec = record.spec if record is not None else self.simple
        if spec is None:
            return DEFAULT_SHUTDOWN_S
        return None if spec.shutdown_s is BRUTAL else spec.shutdown_s

    # -- from outside

    def obey(self, request: object, reply: Reply) -> None:
        """Carry out an order and answer it, now or when it is done."""
        if type(request) is StartChild:
            spec = self.startable()
            child = Child(spec, request.name, (*spec.args, *request.args))
            self.kept[child] = None
            child.waiters.append(reply)
            self.launch(child)
        elif type(request) is AddChild:
            child = self.add(request.spec)
            child.waiters.append(reply)
            self.launch(child)
        elif type(request) is ListChildren:
            reply.ok(self.list())
        elif type(request) is RemoveChild:
            self.named(request.name).waiters.append(reply)
            self.remove(request.name)
        elif type(request) is RestartChild:
            child = self.named(request.name)
            if not child.disabled:
                child.waiters.append(reply)
            self.restart(request.name)
        elif type(request) is DisableChild or type(request) is EnableChild:
            act: Callable[[str], None] = self.disable if type(request) is DisableChild else self.enable
            if self.simple is not None and request.name == self.simple.name:
                act(request.name)
                reply.ok()
                return
            child = self.named(request.name)
            if type(request) is EnableChild and child.phase is _UP:
                reply.ok(child.ref)
                return
            child.waiters.append(reply)
            act(request.name)
        else:
            raise TypeError(f"a supervisor does not know {type(request).__name__}")

    # -- seeing

    def list(self) -> list[ChildInfo]:
        """Describe the children in start order."""
        if self.simple is None:
            return [_info(child) for child in self.children]
        found: list[ChildInfo] = []
        for ref in self.actor.ref._rare or ():
            child = self.by_ref.get(ref)
            if child is not None:
                found.append(_info(child))
            else:
                name = ref.name or repr(ref)
                found.append(ChildInfo(name, ref, _UP, self.simple.restart, 0, False, None))
        found.extend(_info(child) for child in self.kept if child.ref is None)
        return found

    def absent(self) -> Sequence[dict[str, Any]]:
        """Describe the children that have no actor now, as the tree shows them: state down, back_off or disabled."""
        return [
            {
                "name": child.label,
                "kind": "",
                "state": "disabled" if child.disabled else child.phase.value,
                "since": None,
                "restarts": child.restarts,
                "mailbox": 0,
                "uptime_s": 0.0,
                "messages_in": 0,
                "last_error": child.last_reason,
                "detail": {},
                "children": [],
                "children_total": 0,
            }
            for child in self.records
            if child.ref is None
        ]

    def detail(self) -> dict[str, Any]:
        """Say what the supervisor is doing about it."""
        oldest = self.system.clock.monotonic() - self.intensity.period_s
        told: dict[str, Any] = {
            "strategy": self.strategy.value,
            "restarts_in_window": sum(1 for at in self.window if at >= oldest),
            "max_restarts": self.intensity.max_restarts,
            "period_s": self.intensity.period_s,
            "history": [event.as_dict() for event in self.history],
        }
        down = [child for child in self.records if child.phase is not _UP]
        if down:
            told["not_up"] = [
                {
                    "name": child.label,
                    "phase": "disabled" if child.disabled else child.phase.value,
                    "restarts": child.restarts,
                    "last_reason": child.last_reason,
                }
                for child in down[:HISTORY]
            ]
        return told


def _info(child: Child) -> ChildInfo:
    return ChildInfo(
        child.label,
        child.ref,
        child.phase,
        child.restart,
        child.restarts,
        child.disabled,
        child.last_reason,
    )


def _init_over(supervision: Supervision, child: Child, ref: Ref) -> Callable[[asyncio.Task[None]], None]:
    """Tell the supervisor in its own turn; a failed init has told it already, by the ref's end."""

    def done(task: asyncio.Task[None]) -> None:
        if task.cancelled():
            ref._abort(SHUTDOWN)  # also when it was cancelled before it began
        elif task.exception() is None and child.task is task and not supervision.closed:
            supervision.actor.ref._push_urgent(Started(child, ref))
        elif ref._state == INIT:
            ref._abort(KILL)

    return done


def _kill_overdue(ref: Ref) -> None:
    if ref._state != TERMINATED:
        ref.kill()
