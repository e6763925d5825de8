"""Counts of messages by status, also of so many that counting takes longer than an answer may.

A count that is not done in time goes on: who asks is told to come back, and then gets it, as old as that. Quick ones
are made anew each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from gateway.edge import ANSWER_WITHIN_S, journal_away
from gateway.problems import Problem
from hermes.journal.base import Journal, JournalError
from hermes.runtime import Clock

AT_ONCE: Final = 2  # slow counts under way: each keeps the database busy
KEPT_S: Final = 60.0  # how old a count may be, when counting was slow

Asked = tuple[str | None, str | None, datetime | None, datetime | None]  # tenant, mode, created after, before


class Counting:
    """Counts in the journal."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._under_way: dict[Asked, asyncio.Task[Mapping[str, int]]] = {}
        self._late: set[Asked] = set()  # of those, what somebody was told to ask for again
        self._kept: dict[Asked, tuple[float, Mapping[str, int]]] = {}  # with the monotonic time they are from

    async def count(self, asked: Asked, within_s: float = ANSWER_WITHIN_S) -> Mapping[str, int]:
        """Count, within the time an answer may take.

        Raises:
            Problem: overloaded (it takes longer, ask again; or too many such counts are under way), journal_away.
        """
        oldest = self._clock.monotonic() - KEPT_S
        self._kept = {key: kept for key, kept in self._kept.items() if kept[0] >= oldest}
        if asked in self._kept:
            return self._kept[asked][1]
        task = self._under_way.get(asked)
        if task is None:
            if len(self._late) >= AT_ONCE:
                raise Problem("overloaded", "Other messages are being counted; ask again.")
            task = self._under_way[asked] = asyncio.ensure_future(self._run(asked))
            task.add_done_callback(_seen)
        await asyncio.wait((task,), timeout=within_s)
        if not task.done():
            self._late.add(asked)
            if not self._journal.available:
                raise journal_away()
            raise Problem("overloaded", "So many messages take a while to count; that goes on: ask again.")
        try:
            return task.result()
        except JournalError as exc:
            raise journal_away() from exc

    async def _run(self, asked: Asked) -> Mapping[str, int]:
        try:
            found = await self._journal.count_messages(*asked)
            if asked in self._late:
                self._kept[asked] = (self._clock.monotonic(), found)
            return found
        finally:
            self._late.discard(asked)
            del self._under_way[asked]


def _seen(task: asyncio.Task[Mapping[str, int]]) -> None:
    """Look at how it ended, for perhaps nobody waits any more."""
    if not task.cancelled():
        task.exception()
