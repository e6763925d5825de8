"""Why an actor ended, and the errors the kernel raises to whoever talks to one.

A reason is one of three words (`NORMAL`, `SHUTDOWN`, `KILL`) or the exception that ended the actor.
The errors here say whose doing it was: `RuntimeFault` is the root, a caller catches the leaf it can act on.
"""

from __future__ import annotations

import enum
from typing import Final, TypeAlias


class Ending(enum.Enum):
    """The three ends that are not an error."""

    NORMAL = "normal"  # the work is done
    SHUTDOWN = "shutdown"  # somebody above asked for it
    KILL = "kill"  # ended without a say; `terminate` did not run


Reason: TypeAlias = Ending | BaseException

NORMAL: Final = Ending.NORMAL
SHUTDOWN: Final = Ending.SHUTDOWN
KILL: Final = Ending.KILL

_LONGEST_TEXT = 200  # characters; enough for a status line, short enough for a table


class RuntimeFault(Exception):
    """Root of every error the actor kernel raises on its own account."""


class NotAlive(RuntimeFault):
    """The actor asked is unknown, has ended, or ended before it answered."""

    def __init__(self, who: object, reason: Reason | None = None) -> None:
        super().__init__(f"{who} is not alive" + (f": {reason_text(reason)}" if reason is not None else ""))
        self.who = who
        self.reason = reason


class MailboxFull(RuntimeFault):
    """The main lane of the actor asked is at its limit; nothing was queued."""


class CallTimeout(RuntimeFault):
    """No answer came in time. The request may still be carried out."""


class NameTaken(RuntimeFault):
    """Another living actor holds the name."""


class AsyncInit(RuntimeFault):
    """`spawn` met an `init` that must be awaited; use `spawn_async`."""


class SystemClosed(RuntimeFault):
    """The system is shutting down or has shut down; nothing new starts."""


class RestartsExceeded(RuntimeFault):
    """A supervisor gave up: more restarts than its intensity allows."""

    def __init__(self, child: str, restarts: int, period_s: float, cause: Reason) -> None:
        super().__init__(
            f"more than {restarts} restarts within {period_s:g} s, the last for {child}: {reason_text(cause)}"
        )
        self.child = child
        self.cause = cause


class UnknownChild(RuntimeFault):
    """The supervisor has no child of that name."""


class ChildDisabled(RuntimeFault):
    """The child, or the one spec of a simple_one_for_one, is disabled: it must be enabled first."""


def is_abnormal(reason: Reason) -> bool:
    """Tell whether a transient child must be restarted: anything but `NORMAL` and `SHUTDOWN`."""
    return reason is not NORMAL and reason is not SHUTDOWN


def reason_text(reason: Reason) -> str:
    """Return the reason as one short line: the word, or `ErrorType: text` cut at 200 characters."""
    if isinstance(reason, Ending):
        return reason.value
    text = str(reason)
    line = f"{type(reason).__name__}: {text}" if text else type(reason).__name__
    return line if len(line) <= _LONGEST_TEXT else line[: _LONGEST_TEXT - 1] + "…"
