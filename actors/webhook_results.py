"""What became of customers' webhooks, on its way into the journal: all tenants' together, in batches."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Final

from actors.context import Context
from hermes.journal.base import JournalError, OutboxResult
from hermes.runtime import Ref

RESULTS_AT_ONCE: Final = 500  # written in one go
ENOUGH: Final = 100  # results: with so many waiting, do not wait for more
REST_S: Final = 0.05  # after a write, for company: a commit each 10 ms cost as much as the calls it wrote of
RETRY_S: Final = 1.0  # while the journal is away, should it not say itself that it is back


class Saved:
    """From the writer to whoever put the results: these are in the journal."""

    __slots__ = ("results",)

    def __init__(self, results: list[OutboxResult]) -> None:
        self.results = results


class ResultWriter:
    """Writes results, and tells each actor which of its own are stored.

    The first result is written at once, those that come soon after it together. Nobody waits for that: a result not
    yet written only means that a node that is killed calls once more.

    While the journal is away they are kept. How many there can be is bounded by the calls under way and the bodies
    at hand (`webhook_bodies.py`): for others messages would have to be loaded.

    Args:
        context: whose journal and clock are used.
        on_crash: the actor that ends with an error nobody expected.
    """

    def __init__(self, context: Context, on_crash: Ref) -> None:
        self._context = context
        self._on_crash = on_crash
        self._pending: dict[tuple[str, int, str], tuple[OutboxResult, Ref]] = {}
        self._task: asyncio.Task[None] | None = None  # None iff nothing is being written
        self._rested = 0.0  # loop time from which few are written, too
        self._timer: asyncio.TimerHandle | None = None  # at that time
        self._finishing = False
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
        self._finishing = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        task = self._task
        if task is not None:
            await asyncio.wait([task])
        self._start()
        task = self._task
        if task is not None:
            await asyncio.wait([task])

    def _start(self) -> None:
        if not self._pending or self._task is not None:
            return
        loop = asyncio.get_running_loop()
        if self._must_rest(loop):
            if self._timer is None:
                self._timer = loop.call_at(self._rested, self._rest_over)
            return
        self._task = loop.create_task(self._write(loop))
        self._task.add_done_callback(self._crashed)

    def _must_rest(self, loop: asyncio.AbstractEventLoop) -> bool:
        return len(self._pending) < ENOUGH and not self._finishing and loop.time() < self._rested

    def _rest_over(self) -> None:
        self._timer = None
        self._rested = 0.0
        self._start()

    def _journal_changed(self, available: bool) -> None:
        if available:
            self._start()

    async def _write(self, loop: asyncio.AbstractEventLoop) -> None:
        pending = self._pending
        while pending and not self._must_rest(loop):
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
            self._rested = loop.time() + REST_S
        self._task = None
        if self._must_rest(loop):
            self._start()  # sets the timer

    def _crashed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_crash.stop(error)
