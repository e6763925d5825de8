"""The courier of a carrier that another worker holds: hands over what this worker has for it, a window at a time.

To everybody on this worker it is the carrier's actor: a bounded queue, fair between tenants, an operator's orders.
What leaves the queue is stored for the holder, and counts as in the carrier's hands until its outcome comes back as an
errand. What the holder has not taken is taken back when the carrier becomes unfit, when its time is over, and when this
node stops: that certainly was not sent.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Final

from actors.background import Background, sleep
from actors.carrier import CarrierActor
from actors.context import Context
from actors.handover import LAST_HANDED_S, Key, key_of, written, written_cancel
from actors.messages import CancelSubmitted, HandoverEnded, HeldBy, Job, NotTaken
from hermes.domain import cascade as rules
from hermes.journal.base import Fenced, Handover, JournalError

WINDOW: Final = 200  # handed over and not answered: what a holder sends while a batch goes there and back
AT_ONCE: Final = 500  # in one statement
LOOK_EVERY_S: Final = 0.5
RETRY_S: Final = 0.5  # while the journal is away
SETTLE_S: Final = 0.05  # for an outcome that was read to get here
LAST_WORDS_S: Final = 2.0


class CourierActor(CarrierActor):
    """`smpp/<carrier>/dispatcher` on the workers that do not hold the carrier: see the module."""

    kind = "Courier"

    def __init__(self, context: Context, name: str) -> None:
        super().__init__(context, name)
        self._handed: dict[Key, Job] = {}
        self._out: list[Handover] = []  # to be stored, oldest first; there until it certainly is
        self._storing = False
        self._holder: str | None = None

    def init(self) -> None:
        """Take jobs."""
        self._context.queues[self._name] = self._queue
        self._background = Background(self.ref)
        self._background.run(self._look())
        self._take_kept()

    def handle(self, message: Any) -> None:
        """Hear what became of a job, or of the carrier; else what every carrier's actor takes."""
        kind = type(message)
        if kind is HandoverEnded:
            if self._forget(message.key) is not None:
                self._pump()
        elif kind is HeldBy:
            self._holder = message.worker
            self._health.away = message.away
            self._look_at_health()
            self._pump()
        else:
            super().handle(message)

    # --- room -----------------------------------------------------------------------------------------------------

    def _has_room(self) -> bool:
        return len(self._handed) < WINDOW

    def _room_at(self) -> float | None:
        return None

    # --- handing over ---------------------------------------------------------------------------------------------

    def _send(self, job: Job) -> None:
        last = self._context.clock.now() + timedelta(seconds=LAST_HANDED_S)
        if job.submission.expires_at <= last:
            job.left = False  # its cascade withdraws it in a moment
            return
        self._handed[key_of(job.submission)] = job
        self._count(1)
        self._hand_over(written(self._name, job))

    def _cancel(self, message: CancelSubmitted) -> None:
        self._hand_over(written_cancel(self._name, message))

    def _hand_over(self, handover: Handover) -> None:
        self._out.append(handover)
        if not self._storing:
            self._storing = True
            self._background.run(self._store())

    async def _store(self) -> None:
        journal = self._context.journal
        while self._out:
            batch = self._out[:AT_ONCE]
            try:
                await journal.hand_over(batch)
            except Fenced:
                return  # the node stops
            except JournalError:
                await self._find_out(len(batch))
                continue
            del self._out[: len(batch)]
        self._storing = False

    async def _find_out(self, count: int) -> None:
        """The journal was lost while it stored: keep to be stored what it certainly does not have."""
        while True:
            await sleep(self._context.clock, RETRY_S)
            try:
                known = await self._context.journal.handed_over(self._name)
            except Fenced:
                return
            except JournalError:
                continue
            break
        await sleep(self._context.clock, SETTLE_S)
        batch = self._out[:count]
        self._out[:count] = [h for h in batch if h.message_id not in known and self._wanted(h)]

    def _wanted(self, handover: Handover) -> bool:
        return (handover.message_id, handover.step, handover.attempt) in self._handed

    def _forget(self, key: Key) -> Job | None:
        job = self._handed.pop(key, None)
        if job is not None:
            self._count(-1)
        return job

    # --- taking back ----------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Again and again take back what will not be taken, and what nobody should take any more."""
        while True:
            await sleep(self._context.clock, LOOK_EVERY_S)
            if self._handed:
                try:
                    recalled = await self._context.journal.recall_handovers(
                        self._name, within_s=LAST_HANDED_S if self._is_fit() else None
                    )
                except Fenced:
                    return
                except JournalError:
                    continue
                for key in recalled:
                    self._take_back(key)
                if recalled:
                    self._pump()

    def _take_back(self, key: Key) -> None:
        job = self._forget(key)
        if job is not None:
            job.left = False
            job.cascade.send_system(NotTaken(job))

    # --- ending and showing ---------------------------------------------------------------------------------------

    async def terminate(self, reason: Any) -> None:
        """Give back what was not handed over. The rest is answered to its cascades, whoever holds the carrier."""
        for _ in range(round(LAST_WORDS_S / SETTLE_S)):
            if not self._out:
                break
            await asyncio.sleep(SETTLE_S)
        self._background.cancel()
        for handover in self._out:  # the journal is away: it may have been stored
            job = self._handed.get((handover.message_id, handover.step, handover.attempt))
            if job is not None:
                why = "the journal was lost while it was handed over"
                at = (handover.step, handover.attempt, self._name)
                job.cascade.send_system(rules.InDoubt(*at, "retryable_transient", None, why))
        self._give_back_all()

    def inspect(self) -> dict[str, Any]:
        """Show the queue, and who holds the carrier; what is handed over is shown there."""
        shown = super().inspect()
        shown["in_flight"] = 0
        shown["handed_over"] = len(self._handed)
        shown["held_by"] = self._holder
        shown["moved"] = self._context.moved.get(self._name)
        if shown["reason"] is None:
            shown["reason"] = "no worker holds it yet" if self._holder is None else f"held by worker {self._holder}"
        return shown
