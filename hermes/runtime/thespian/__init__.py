"""Actors written for Thespian, as guests of the kernel: no process and no socket each.

`ActorSystem(systemBase=SystemBase())` runs a Thespian program on this kernel. In a node,
`ChildSpec("guest/fraud", base.mount, (FraudCheck,))` makes a guest the child of any supervisor: it is then inspected,
suspended, stopped and restarted like any actor.

The only part of the kernel that knows another library; it is imported by whoever mounts guests and by nobody else.
"""

from hermes.runtime.thespian.base import SystemBase
from hermes.runtime.thespian.errors import (
    ConventionsNotHosted,
    HandlerOverdue,
    NotHosted,
    Poisoned,
    SourceLoadingNotHosted,
    StuckThreads,
    WouldBlock,
)
from hermes.runtime.thespian.guest import Guest, MountedGuest
from hermes.runtime.thespian.outside import Door, External
from hermes.runtime.thespian.worker import resolve

__all__ = [
    "ConventionsNotHosted",
    "Door",
    "External",
    "Guest",
    "HandlerOverdue",
    "MountedGuest",
    "NotHosted",
    "Poisoned",
    "SourceLoadingNotHosted",
    "StuckThreads",
    "SystemBase",
    "WouldBlock",
    "resolve",
]
