"""Answers to `Thespian_StatusReq`, read from the kernel: they come even from a guest that is stuck."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thespian.actors import Thespian_ActorStatus, Thespian_SystemStatus
from thespian.system.timing import ExpirationTimer

from hermes.runtime.thespian.mail import Mail
from hermes.runtime.timers import Timer

if TYPE_CHECKING:
    from hermes.runtime.system import System
    from hermes.runtime.thespian.base import SystemBase
    from hermes.runtime.thespian.guest import Guest


def actor_status(guest: Guest) -> Any:
    """Describe one guest: children, wake-ups to come, messages that wait (by type, never their text)."""
    handle, ref = guest.handle_, guest.ref
    answer = Thespian_ActorStatus(handle.address, guest.class_name(), handle.base.system_address, handle.parent)
    for address in (guest.children or {}).values():
        answer.addChild(address)
    system = ref._system
    now = system.clock.monotonic()
    timer = ref._timers
    while timer is not None:
        if type(timer._argument) is Mail:
            answer.addWakeups([(handle.address, ExpirationTimer(max(_due(timer, system) - now, 0.0)))])
        timer = timer._next
    for item in ref._main or ():
        if type(item) is Mail:
            answer.addReceivedMessage(item.sender, handle.address, type(item.message).__name__)
    answer.addReceived(handle.served)
    answer.addSent(ref._sent)
    answer.addKeyVal("Messages failed on", handle.failures)
    answer.addKeyVal("Messages refused by a full mailbox", guest.refused)
    return answer


def _due(timer: Timer, system: System) -> float:
    """Return when the timer fires, on the clock's monotonic scale; now, where the clock does not say."""
    home = timer._home
    if isinstance(home, dict):
        return system.wheel._origin + home[timer]
    when = getattr(home, "when", None)
    return float(when()) if when is not None else system.clock.monotonic()


def system_status(base: SystemBase) -> Any:
    """Describe the system: capabilities, top-level guests, global names, who takes dead letters."""
    answer = Thespian_SystemStatus(base.system_address, capabilities=dict(base.capabilities))
    for guest in base.primaries():
        answer.addChild(guest.handle_.address)
    for name, address in list(base.names.items()):
        answer.addGlobalActor(name, address)
    answer.setDeadLetterHandler(base.dead_letter_handler)
    answer.addKeyVal("Dead letters", base.dead_letters)
    return answer
