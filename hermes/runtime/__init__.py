"""OTP in asyncio: actors, supervisors, demand. It knows nothing of messaging and imports nothing of Hermes."""

from hermes.runtime.actor import Actor
from hermes.runtime.clock import Clock, SystemClock, TimerHandle
from hermes.runtime.fairqueue import Entry, FairQueue
from hermes.runtime.intensity import Intensity
from hermes.runtime.mailbox import NO_REPLY, Down, Exit, Reply, SendResult
from hermes.runtime.reasons import (
    KILL,
    NORMAL,
    SHUTDOWN,
    AsyncInit,
    CallTimeout,
    ChildDisabled,
    Ending,
    MailboxFull,
    NameTaken,
    NotAlive,
    Reason,
    RestartsExceeded,
    RuntimeFault,
    SystemClosed,
    UnknownChild,
    reason_text,
)
from hermes.runtime.ref import Ref
from hermes.runtime.strategy import Backoff, Restart, Strategy
from hermes.runtime.supervisor import (
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
    Supervisor,
)
from hermes.runtime.system import ActorInfo, SupervisorEvent, System
from hermes.runtime.timers import Timer, TimerWheel

__all__ = [
    "BRUTAL",
    "KILL",
    "NORMAL",
    "NO_REPLY",
    "SHUTDOWN",
    "Actor",
    "ActorInfo",
    "AddChild",
    "AsyncInit",
    "Backoff",
    "CallTimeout",
    "ChildDisabled",
    "ChildInfo",
    "ChildSpec",
    "Clock",
    "DisableChild",
    "Down",
    "EnableChild",
    "Ending",
    "Entry",
    "Exit",
    "FairQueue",
    "Intensity",
    "ListChildren",
    "MailboxFull",
    "NameTaken",
    "NotAlive",
    "Reason",
    "Ref",
    "RemoveChild",
    "Reply",
    "Restart",
    "RestartChild",
    "RestartsExceeded",
    "RuntimeFault",
    "SendResult",
    "StartChild",
    "Strategy",
    "Supervisor",
    "SupervisorEvent",
    "System",
    "SystemClock",
    "SystemClosed",
    "Timer",
    "TimerHandle",
    "TimerWheel",
    "UnknownChild",
    "reason_text",
]
