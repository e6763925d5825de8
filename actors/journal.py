"""The journal in the tree: keeps its database alive and its tables tidy. Writes do not pass through its mailbox."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

from actors.background import Background
from actors.context import Context
from hermes.journal.base import JournalError
from hermes.logs import get_logger
from hermes.runtime import Actor

log = get_logger("hermes.journal")

HOUSEKEEPING_EVERY_S: Final = 3600.0
NOTE_KEYS_EVERY_S: Final = 60.0  # when keys were last used is stored once in so long, in one statement


class JournalActor(Actor):
    """`journal`: watches the embedded server (if there is one), keeps house once an hour, notes which keys were used.

    Args:
        watch: runs until cancelled and restarts the embedded server when it dies; None with a server of one's own.
        messages_days: how long messages stay readable.
    """

    kind = "Journal"

    def __init__(self, context: Context, watch: Callable[[], Awaitable[None]] | None, messages_days: int) -> None:
        self._context = context
        self._watch = watch
        self._messages_days = messages_days

    def init(self) -> None:
        """Start watching."""
        self._background = Background(self.ref)
        if self._watch is not None:
            self._background.run(self._watched(self._watch))
        self._background.run(self._keep_house())
        self._background.run(self._note_keys())

    async def _watched(self, watch: Callable[[], Awaitable[None]]) -> None:
        await watch()

    async def _keep_house(self) -> None:
        context = self._context
        while True:
            try:
                for carrier in await context.journal.housekeep(context.clock.now(), self._messages_days):
                    context.metrics.receipts.inc(carrier, "orphan")
            except JournalError as error:
                log.warning("housekeeping is put off", error=str(error))
            await asyncio.sleep(HOUSEKEEPING_EVERY_S)

    async def _note_keys(self) -> None:
        while True:
            await asyncio.sleep(NOTE_KEYS_EVERY_S)
            with contextlib.suppress(JournalError):  # which tells everyone itself; the next minute has its own
                await self._context.directory.note_use()

    def terminate(self, reason: Any) -> None:
        """Stop watching."""
        self._background.cancel()

    def inspect(self) -> dict[str, Any]:
        """Show whether the database answers and what waits for it."""
        journal = self._context.journal
        return {
            "database": "up" if journal.available else "away",
            "queued": journal.queued,
            "embedded": self._watch is not None,
        }
