"""What became of customers' webhooks, on its way into the journal: all tenants' together, in batches."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Final

from actors.context import Context
from hermes.journal.base import JournalError, OutboxResult
from hermes.runtime import Ref

RESULTS_AT_ONCE: Final = 500  # written in one go
RETRY_S: Final = 1.0  # while the journal is away, should it not say itself that it is back


class Saved:
    """From the writer to whoever put the results: these are in the journal."""

    __slots__ = ("results",)

    def __init__(self, results: list[OutboxResult]) -> None:
        self.results = results


class ResultWriter:
    """Writes results, and tells each actor which of its own are stored.

    While the journal is away they are kept. How many there can be is bounded by the calls under way: no new
    one is started then, because messages cannot be loaded.

    Args:
        context: whose journal and clock are used.
        on_crash: the actor that ends with an error nobody expected.
    """

    def __init__(self, context: Context, on_crash: Ref) -> None:
        self._context = context
        self._on_crash = on_crash
        self._pending: dict[tuple[str, int, str], tuple[OutboxResult, Ref]] = {}
        self._task: asyncio.Task[None] | None = None  # None iff nothing is being written
        context.journal.on_change(self._journal_changed)

    def __len__(self) -> int:
        """Results not yet written."""
        return len(self._pending)

    def put(self, result: OutboxResult, ref: Ref) -> None:
        """Queue a result; `ref` hears `Saved` once it is written."""
        self._pending[result.message_id, result.seq, result.target] = (result, ref)
        self._start()

    async def finish(self) -> None:
        """Try once to write what is left. What cannot be written is delivered again after a restart."""
        task = self._task
        if task is not None:
            await asyncio.wait([task])
        self._start()
        task = self._task
        if task is not None:
            await asyncio.wait([task])

    def _start(self) -> None:
        if self._pending and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._write())
            self._task.add_done_callback(self._crashed)

    def _journal_changed(self, available: bool) -> None:
        if available:
            self._start()

    async def _write(self) -> None:
        pending = self._pending
        while pending:
            batch = list(islice(pending.items(), RESULTS_AT_ONCE))
            try:
                await self._context.journal.outbox_results([entry[0] for _, entry in batch])
            except JournalError:
                self._context.clock.call_later(RETRY_S, self._start)
                break
            by_ref: dict[Ref, list[OutboxResult]] = {}
            for key, entry in batch:
                if pending[key] is entry:  # else a restarted actor has put a newer one meanwhile
                    del pending[key]
                by_ref.setdefault(entry[1], []).append(entry[0])
            for ref, results in by_ref.items():
                ref.send_system(Saved(results))
        self._task = None

    def _crashed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_crash.stop(error)
