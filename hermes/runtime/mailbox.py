"""What lies in a mailbox, and what `send` answers.

A mailbox is three lanes, served in strict order: urgent (exit signals, the ends of children), system (down
notices, timers, orders to supervisors) and main. They are queues inside the ref, made when mail comes and
dropped when it is gone, so an idle actor holds none. Only the main lane has a limit: a full urgent lane would
lose exit signals.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hermes.runtime.reasons import Reason

if TYPE_CHECKING:
    import asyncio

    from hermes.runtime.ref import Ref


class SendResult(enum.IntEnum):
    """What became of a message. Zero (false) is good news, anything else says why not."""

    DELIVERED = 0
    UNKNOWN = 1  # no actor of that name
    TERMINATED = 2  # the actor ended, or is ending
    FULL = 3  # the main lane is at its limit; the message was not queued


class _NoReply(enum.Enum):
    NO_REPLY = "no reply yet"


NO_REPLY: Final = _NoReply.NO_REPLY
"""Returned by `handle_call` when the answer comes later, through the `Reply`."""


class SystemItem:
    """Base of what kernel classes send each other in the system lane; it never comes to `handle`."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Down(SystemItem):
    """A monitored actor ended. Comes once per monitor."""

    ref: Ref
    reason: Reason
    monitor: int


@dataclass(frozen=True, slots=True)
class Exit:
    """A linked actor ended, and we trap exits."""

    ref: Ref
    reason: Reason


class ChildEnded:
    """For a supervisor, in the urgent lane: a child is gone, its name is free."""

    __slots__ = ("reason", "ref")

    def __init__(self, ref: Ref, reason: Reason) -> None:
        self.ref = ref
        self.reason = reason


class StopOrder:
    """In the urgent lane: end with this reason. Never trapped."""

    __slots__ = ("reason",)

    def __init__(self, reason: Reason) -> None:
        self.reason = reason


class Reply:
    """The way back to a caller. Only the first answer counts, and none if the caller is gone."""

    __slots__ = ("_debtor", "_future")

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self._future = future
        self._debtor: Ref | None = None  # who promised an answer with NO_REPLY; its end answers for it

    @property
    def open(self) -> bool:
        """Tell whether an answer would still reach somebody."""
        return not self._future.done()

    def ok(self, value: Any = None) -> None:
        """Answer with a value."""
        if not self._future.done():
            self._future.set_result(value)
        if self._debtor is not None:
            self._settle()

    def error(self, exc: BaseException) -> None:
        """Answer with an error, which is raised in the caller. The answering actor lives on."""
        if not self._future.done():
            self._future.set_exception(exc)
        if self._debtor is not None:
            self._settle()

    def _settle(self) -> None:
        debtor, self._debtor = self._debtor, None
        if debtor is not None and debtor._rare is not None and debtor._rare.owed is not None:
            debtor._rare.owed.pop(self, None)


class Envelope:
    """Around a message that needs more than itself: a reply address, or a trace id."""

    __slots__ = ("payload", "reply", "trace")

    def __init__(self, payload: object, reply: Reply | None, trace: str | None) -> None:
        self.payload = payload
        self.reply = reply
        self.trace = trace
