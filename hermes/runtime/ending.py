"""How an actor ends: from the order to the last one told.

`end` begins it: no more mail, no more timers. `wind_down` takes one step after the other and returns where it has to
wait (for a child, for an async `terminate`); what it waited for calls it again. `abort` undoes a spawn instead.

Invariants:
- An actor ends in this order: children (last first), `terminate`, name, links and monitors, parent.
- `_actor` is None from `_finish` or `abort` on.
"""

from __future__ import annotations

import asyncio
from functools import partial
from inspect import CORO_CREATED, getcoroutinestate
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast

from hermes.runtime.logs import kernel_log
from hermes.runtime.mailbox import ChildEnded, Down
from hermes.runtime.metered import Metered, metered
from hermes.runtime.reasons import KILL, NORMAL, SHUTDOWN, NotAlive, Reason
from hermes.runtime.states import ENDING, INIT, TERMINATED

if TYPE_CHECKING:
    from hermes.runtime.actor import Actor
    from hermes.runtime.rare import Family, Rare
    from hermes.runtime.ref import Ref


def end(ref: Ref, reason: Reason) -> None:
    """Begin to end: no more mail, no more timers; then wind down."""
    ref._state = ENDING
    ref._reason = reason
    if ref._main is not None:
        ref._give_up_main(reason)
    ref._lane = ref._urgent = None
    if ref._timers is not None:
        ref._cancel_timers()
    actor: Actor = ref._actor  # type: ignore[assignment]
    if ref._rare is None and not actor._has_terminate:
        _finish(ref)
        return
    rare = ref._rare
    if rare is not None and (rare.task is not None or rare.reply is not None):
        abandon_task(ref)
    if actor._supervises:
        actor._kernel_before_end()
    wind_down(ref)


def abandon_task(ref: Ref) -> None:
    """Cancel the coroutine of a killed actor without waiting for it."""
    rare = cast("Rare", ref._rare)
    task, rare.task = rare.task, None
    if task is not None:
        task.cancel()
        ref._system._adopt(task)
    reply, rare.reply = rare.reply, None
    if reply is not None:
        reply.error(NotAlive(ref, ref._reason))


def wind_down(ref: Ref) -> None:
    """Take the next step of the end: children, terminate, finish. Called again after each wait."""
    rare = ref._rare
    if rare is not None and rare.count and not _stop_children(ref, rare):
        return
    actor = ref._actor
    if actor is None:
        return
    reason = cast("Reason", ref._reason)
    if actor._has_terminate and reason is not KILL:
        try:
            result = actor.terminate(reason)
        except Exception as exc:  # the log and last_error are told; the end itself goes on
            ref._blame(exc)
        else:
            if result is not None and hasattr(type(result), "__await__"):
                system = ref._system
                rare = ref._need_rare()
                loop = asyncio.get_running_loop()
                task = rare.task = loop.create_task(metered(Metered(ref, result)), context=system._context)
                rare.limit = system.clock.call_later(system.terminate_limit_s, _terminate_overdue, ref, task)
                task.add_done_callback(partial(_terminate_done, ref), context=system._context)
                return
    _finish(ref)


def _terminate_done(ref: Ref, task: asyncio.Task[Any]) -> None:
    rare = ref._need_rare()
    if rare.task is not task:
        return
    rare.task = None
    drop_limit(ref)
    error = None if task.cancelled() else task.exception()
    if error is not None:
        ref._blame(error)
    _finish(ref)


def _terminate_overdue(ref: Ref, task: asyncio.Task[Any]) -> None:
    rare = ref._need_rare()
    if rare.task is task:
        rare.limit = None
        rare.last_error = f"terminate() took more than {ref._system.terminate_limit_s:g} s"
        kernel_log.error("%s: %s", ref, rare.last_error)
        abandon_task(ref)
        _finish(ref)


def drop_limit(ref: Ref) -> None:
    """Let the time limit that runs, if one does, not come."""
    rare = cast("Rare", ref._rare)
    limit, rare.limit = rare.limit, None
    if limit is not None:
        limit.cancel()


def _stop_children(ref: Ref, rare: Rare) -> bool:
    """Make the children end, last first; return whether all are gone already."""
    actor = cast("Actor", ref._actor)
    if rare.sweeping:
        return False
    rare.sweeping = True
    try:
        if ref._reason is KILL:
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
                    limit_s = _tell_to_end(ref, actor, child)
                    child = before
                if rare.count and limit_s is not None:
                    rare.awaited = last
                    rare.limit = ref._system.clock.call_later(limit_s, _children_overdue, ref, None)
        else:
            while (child := rare.last) is not None:
                if rare.awaited is child:
                    break
                limit_s = _tell_to_end(ref, actor, child)
                if child._state != TERMINATED:
                    rare.awaited = child
                    if limit_s is not None:
                        rare.limit = ref._system.clock.call_later(limit_s, _children_overdue, ref, child)
                    break
    finally:
        rare.sweeping = False
    return not rare.count


def _tell_to_end(ref: Ref, actor: Actor, child: Ref) -> float | None:
    limit_s = actor._kernel_shutdown_s(child)
    if limit_s is None:
        child.kill()
    else:
        child.stop(SHUTDOWN)
    return limit_s


def _children_overdue(ref: Ref, child: Ref | None) -> None:
    """Kill the child that used up its time, or all that are left."""
    rare = cast("Rare", ref._rare)
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
        wind_down(ref)


def _child_gone(ref: Ref, child: Ref, reason: Reason, started: bool) -> None:
    """Hear that a child is out of the family."""
    state = ref._state
    if state == ENDING:
        rare = cast("Rare", ref._rare)
        if rare.awaited is child and not _stops_together(ref):
            rare.awaited = None
            drop_limit(ref)
            if not rare.sweeping:
                wind_down(ref)
        elif not rare.count and not rare.sweeping:
            drop_limit(ref)
            wind_down(ref)
    elif (
        state < ENDING
        and (actor := ref._actor) is not None
        and actor._supervises
        # A failed init is no end, but its supervisor may be waiting for it.
        and (started or actor._kernel_starting(child))
        and not (reason is NORMAL and started and actor._kernel_forgets(child))
    ):
        ref._push_urgent(ChildEnded(child, reason))


def _stops_together(ref: Ref) -> bool:
    return ref._actor is not None and ref._actor._kernel_together()


def _finish(ref: Ref) -> None:
    """Be gone: release the name, leave the family, tell everyone."""
    ref._state = TERMINATED
    ref._actor = None
    if ref.name is not None:
        ref._system.registry.pop(ref.name, None)
    parent = ref._parent
    family: Family = ref._system._roots if parent is None else parent._rare  # type: ignore[assignment]
    family.remove(ref)
    if ref._rare is not None:
        _tell(ref, ref._reason)  # type: ignore[arg-type]
    if parent is not None:
        _child_gone(parent, ref, ref._reason, True)  # type: ignore[arg-type]


def _leave(ref: Ref) -> None:
    if ref.name is not None:
        ref._system.registry.release(ref.name, ref)
    parent = ref._parent
    if parent is None:
        ref._system._roots.remove(ref)
    else:
        cast("Rare", parent._rare).remove(ref)


def _tell(ref: Ref, reason: Reason) -> None:
    rare = cast("Rare", ref._rare)
    links, rare.links = rare.links, None
    for other in links or ():
        if other._rare is not None and other._rare.links is not None:
            other._rare.links.pop(ref, None)
        other._exit_signal(ref, reason)
    watching, rare.watching = rare.watching, None
    for monitor, other in (watching or {}).items():
        if other._rare is not None and other._rare.watchers is not None:
            other._rare.watchers.pop(monitor, None)
    watchers, rare.watchers = rare.watchers, None
    for monitor, other in (watchers or {}).items():
        if other._rare is not None and other._rare.watching is not None:
            other._rare.watching.pop(monitor, None)
        other.send_system(Down(ref, reason, monitor))
    owed, rare.owed = rare.owed, None
    for reply in owed or ():
        reply._debtor = None
        reply.error(NotAlive(ref, reason))
    waiters, rare.waiters = rare.waiters, None
    for waiter in waiters or ():
        if not waiter.done():
            waiter.set_result(reason)


def abort(ref: Ref, reason: Reason) -> None:
    """Undo a spawn: the actor never existed. Its children, if it had any, are ended without waiting."""
    if ref._state >= ENDING:
        return
    ref._state = ENDING
    ref._reason = reason
    ref._give_up_main(reason)
    ref._lane = ref._urgent = None
    ref._cancel_timers()
    actor = cast("Actor", ref._actor)
    if actor._supervises:
        actor._kernel_before_end()
    rare = ref._rare
    if rare is not None:
        pending, rare.pending = rare.pending, None
        if isinstance(pending, CoroutineType) and getcoroutinestate(pending) == CORO_CREATED:
            pending.close()
        rare.sweeping = True
        while rare.last is not None and rare.last._state != TERMINATED:
            _force_end(rare.last)
        for other in rare.links or ():
            if other._rare is not None and other._rare.links is not None:
                other._rare.links.pop(ref, None)
        rare.links = None
    ref._state = TERMINATED
    ref._actor = None
    _leave(ref)
    if rare is not None:
        _tell(ref, reason)
    if ref._parent is not None:
        _child_gone(ref._parent, ref, reason, False)


def _force_end(ref: Ref) -> None:
    """End now: children first, `terminate` called but, if async, not waited for."""
    if ref._state == INIT:
        abort(ref, SHUTDOWN)
        return
    if ref._state == TERMINATED:
        return
    began = ref._state == ENDING
    ref._state = ENDING
    ref._reason = ref._reason or SHUTDOWN
    ref._give_up_main(ref._reason)
    ref._lane = ref._urgent = None
    ref._cancel_timers()
    actor = cast("Actor", ref._actor)
    if actor._supervises and not began:
        actor._kernel_before_end()
    rare = ref._rare
    waiting = rare is not None and rare.task is not None and began  # terminate is running already
    if rare is not None:
        rare.sweeping = True
        drop_limit(ref)
        while rare.last is not None and rare.last._state != TERMINATED:
            _force_end(rare.last)
        if waiting:
            if rare.task is not None:
                ref._system._adopt(rare.task)
            rare.task = None
        else:
            abandon_task(ref)
    if actor._has_terminate and not waiting:
        try:
            result = actor.terminate(ref._reason)
        except Exception as exc:  # the log and last_error are told
            ref._blame(exc)
        else:
            if result is not None and hasattr(type(result), "__await__"):
                system = ref._system
                task = asyncio.get_running_loop().create_task(metered(Metered(ref, result)), context=system._context)
                system._adopt(task)
                limit = system.clock.call_later(system.terminate_limit_s, task.cancel)
                task.add_done_callback(lambda _: limit.cancel())
    _finish(ref)
