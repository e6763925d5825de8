"""The intake of a carrier that this worker holds: what other workers have for it, and what became of that.

It takes from the table (SKIP LOCKED, in batches) no more than the dispatcher will soon send, gives it to the dispatcher
as any other job, and stores the outcomes, each with the end of its row. What certainly did not leave is put back; what
a former holder had in its hands when it ended is in doubt.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

from actors.background import Background, sleep, wait
from actors.context import Context
from actors.handover import CANCEL, LAST_TAKEN_S, Desk, in_doubt, read_cancel
from actors.messages import Gained, GoOn, Job, Release, WithdrawJob
from hermes.journal.base import LOST, NEWS_HANDOVER, Errand, Fenced, Handover, JournalError
from hermes.logs import get_logger
from hermes.runtime import NO_REPLY, Actor, Reply, SendResult

log = get_logger("hermes.intake")

IN_HAND: Final = 200  # taken and not answered; what more there is waits in the table, where its worker can take it back
AT_ONCE: Final = 500  # outcomes in one transaction
LOOK_EVERY_S: Final = 1.0  # for what nobody told of
RETRY_S: Final = 0.5  # while the journal is away
LAST_WORDS_S: Final = 4.0  # of the 5 s that a `terminate` may take


class IntakeActor(Actor):
    """`smpp/<carrier>/intake`: see the module.

    Args:
        actor: the name of the carrier's dispatcher.
    """

    kind = "Intake"

    def __init__(self, context: Context, name: str, actor: str, desk: Desk) -> None:
        self._context = context
        self._name = name
        self._actor = actor
        self._desk = desk
        self._wake = asyncio.Event()
        self._told_of_more = True
        self._ending = False
        self._releasing: list[Reply] = []
        self._received = 0
        self._doubtful = 0

    def init(self) -> None:
        """Begin to look."""
        self._background = Background(self.ref)
        self._desk.wake = self._wake.set
        self._desk.withdraw = self._withdraw
        self._context.journal.on_news(self._told)
        self._looking = self._background.run(self._live())

    def _told(self, topic: str, detail: str) -> None:
        if topic == LOST or (topic == NEWS_HANDOVER and detail == self._context.journal.worker_id):
            self._told_of_more = True
            self._wake.set()

    def _withdraw(self, job: Job) -> None:
        self.system.send(self._actor, WithdrawJob(job))

    async def _live(self) -> None:
        settled = False
        while not self._ending:
            self._wake.clear()
            try:
                if not settled:
                    await self._settle()
                    settled = True
                self._desk.let_expire(self._context.clock.now() + timedelta(seconds=LAST_TAKEN_S))
                await self._store()
                await self._take()
            except Fenced:
                return  # the node stops
            except JournalError:
                await sleep(self._context.clock, RETRY_S)
                continue
            self._tell_empty()
            others = self._context.shards.living > 1
            if others or self._told_of_more:
                self._told_of_more = True  # at the next look
                await wait(self._wake, self._context.clock, LOOK_EVERY_S)
            else:
                await self._wake.wait()

    # --- what a former holder left --------------------------------------------------------------------------------

    async def _settle(self) -> None:
        journal = self._context.journal
        left = [h for h in await journal.taken_handovers(self._name) if h.id not in self._desk.taken]
        if left:
            errands = [in_doubt(handover) for handover in left if handover.kind != CANCEL]
            await self._answer(errands, [handover.id for handover in left])
            self._doubtful += len(errands)
            log.warning("what the former holder had in its hands is in doubt", carrier=self._name, count=len(errands))

    async def _answer(self, errands: list[Errand], rows: list[int]) -> None:
        await self._context.journal.answer_handovers(errands, [(self._name, row) for row in rows])
        if any(self._context.shards.owns(errand.message_id) for errand in errands):
            self.system.send("errands", Gained({}))  # nobody is told of its own errands

    # --- outcomes -------------------------------------------------------------------------------------------------

    async def _store(self) -> None:
        desk = self._desk
        while desk.answers:
            batch = desk.answers[:AT_ONCE]
            errands = [errand for errand, _ in batch if errand is not None]
            await self._answer(errands, [row for _, row in batch if row is not None])
            del desk.answers[: len(batch)]
        while desk.back:
            back = desk.back[:AT_ONCE]
            await self._context.journal.give_back_handovers(self._name, back)
            del desk.back[: len(back)]

    # --- jobs -----------------------------------------------------------------------------------------------------

    def _may_take(self) -> bool:
        context = self._context
        health = context.health.get(self._name)
        now = context.clock.monotonic()
        if self._ending or context.draining or self._name in context.leaving:
            return False
        return (health is None or health.available(now)) and now < context.journal.lease_until

    async def _take(self) -> None:
        desk = self._desk
        while self._told_of_more and self._may_take():
            limit = IN_HAND - len(desk.taken)
            if limit < IN_HAND // 2:
                return  # an answer wakes us
            taken = await self._context.journal.take_handovers(self._name, limit, lasting_s=LAST_TAKEN_S)
            self._told_of_more = len(taken) == limit
            for handover in taken:
                self._received += 1
                self._hand(handover)
            await self._store()

    def _hand(self, handover: Handover) -> None:
        if handover.kind == CANCEL:
            self.system.send(self._actor, read_cancel(handover))
            self._desk.forget(handover)
            return
        job = self._desk.job(handover)
        if self.system.send(self._actor, job) != SendResult.DELIVERED:
            self._desk.give_back(handover)

    # --- giving the carrier to another worker ---------------------------------------------------------------------

    def handle_call(self, request: Any, reply: Reply) -> Any:
        """Take nothing more, and answer once all that was taken is answered or put back, and stored."""
        if type(request) is not Release:
            raise TypeError(f"the intake does not understand {type(request).__name__}")
        self._releasing.append(reply)
        self._wake.set()
        return NO_REPLY

    def _tell_empty(self) -> None:
        desk = self._desk
        if self._releasing and not (desk.taken or desk.answers or desk.back):
            releasing, self._releasing = self._releasing, []
            for reply in releasing:
                reply.ok(None)

    def handle(self, message: Any) -> None:
        """Hear that the carrier stays."""
        if type(message) is not GoOn:
            raise TypeError(f"the intake does not understand {type(message).__name__}")
        self._releasing.clear()
        self._told_of_more = True
        self._wake.set()

    async def terminate(self, reason: Any) -> None:
        """Store what is known; the dispatcher has given back what did not leave.

        What is being stored is not cut off: its rows would stay locked for who stores them again, and what is not
        stored here is in doubt for the next holder, although the carrier took it.
        """
        self._ending = True
        self._desk.wake = lambda: None
        self._wake.set()
        with suppress(JournalError, TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await asyncio.wait((self._looking,))
                await self._store()
        self._background.cancel()

    def inspect(self) -> dict[str, Any]:
        """Count what came from other workers."""
        return {
            "carrier": self._name,
            "received": self._received,
            "in_hand": len(self._desk.taken),
            "to_store": len(self._desk.answers) + len(self._desk.back),
            "left_in_doubt": self._doubtful,
        }
