"""What few actors have, made on demand: children, links, monitors, a coroutine that runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from typing import TYPE_CHECKING, Any

from hermes.runtime.mailbox import Reply
from hermes.runtime.reasons import Reason

if TYPE_CHECKING:
    from hermes.runtime.ref import Ref


class Family:
    """Children in start order, as a list threaded through their refs: no memory of its own per child."""

    __slots__ = ("count", "first", "last")

    def __init__(self) -> None:
        self.first: Ref | None = None
        self.last: Ref | None = None
        self.count = 0

    def add(self, child: Ref) -> None:
        """Put a child last."""
        last = self.last
        if last is None:
            self.first = child
        else:
            last._next = child
            child._previous = last
        self.last = child
        self.count += 1

    def remove(self, child: Ref) -> None:
        """Take a child out."""
        before, after = child._previous, child._next
        if before is None:
            self.first = after
        else:
            before._next = after
            child._previous = None
        if after is None:
            self.last = before
        else:
            after._previous = before
            child._next = None
        self.count -= 1

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Generator[Ref, None, None]:
        child = self.first
        while child is not None:
            after = child._next
            yield child
            child = after


class Rare(Family):
    """What few actors need. True iff: `awaited` is the child whose end the wind-down waits for."""

    __slots__ = (
        "awaited",
        "held",
        "id",
        "interrupted",
        "last_error",
        "level",
        "limit",
        "links",
        "owed",
        "pending",
        "reply",
        "restarts",
        "since",
        "suspended",
        "sweeping",
        "task",
        "trace",
        "waiters",
        "watchers",
        "watching",
    )

    def __init__(self) -> None:
        super().__init__()
        self.awaited: Ref | None = None
        self.held = False  # the main lane is left alone
        self.id = 0  # given when first asked for
        self.interrupted = False  # the running coroutine was cancelled already
        self.last_error: str | None = None
        self.level: int | None = None  # log level set by an operator
        self.limit: Any = None  # timer handle of the time limit that runs: a child's end or terminate
        self.links: dict[Ref, None] | None = None
        self.owed: dict[Reply, None] | None = None  # replies promised with NO_REPLY
        self.pending: Awaitable[None] | None = None  # what is left of init
        self.reply: Reply | None = None  # where the running coroutine's value goes
        self.restarts = 0
        self.since: float | None = None  # monotonic; when wait, suspended or terminated began
        self.suspended = False
        self.sweeping = False  # children are being told to end in a loop: their ends need no reaction
        self.task: asyncio.Task[Any] | None = None
        self.trace: str | None = None
        self.waiters: list[asyncio.Future[Reason]] | None = None
        self.watchers: dict[int, Ref] | None = None  # monitor id -> who hears of our end
        self.watching: dict[int, Ref] | None = None  # monitor id -> whose end we hear of
