"""The erasure actor: whom a tenant wants erased, and what is older than a tenant keeps.

An erasure is stored before it is begun and resumed after a restart. A message that is still open is cancelled first:
who asks to be forgotten is not written to any more. What the journal keeps are the facts of sending
(`hermes/domain/erasure.py`).
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any, Final

from actors.background import Background, sleep
from actors.cascade import Forget
from actors.context import Context
from actors.messages import Forward
from hermes.domain.commands import AlreadyFinal, CancelMessage, ErasureAsked, NotFound
from hermes.domain.erasure import Erasure, reaches
from hermes.domain.message import Message, ulid
from hermes.journal.base import JournalError
from hermes.logs import get_logger
from hermes.runtime import Actor
from hermes.runtime.reasons import RuntimeFault

log = get_logger("hermes.erasure")

PAGE: Final = 500  # messages looked at in one read
PAUSE_S: Final = 0.02  # between pages, so that traffic stays first
RETRY_S: Final = 1.0  # the journal is away, or a message cannot be cancelled now
RETENTION_EVERY_S: Final = 3600.0
LOOK_EVERY_S: Final = 10.0  # for what was asked of another worker
CANCEL_WITHIN_S: Final = 5.0
_LAST: Final = "msg_~"  # after every id


class ErasureActor(Actor):
    """`erasures`: see the module."""

    kind = "Erasures"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._asked = asyncio.Event()
        self._kept_from: dict[str, str] = {}  # tenant -> messages up to this id need not be looked at again
        self._counts = dict.fromkeys(("recipients", "messages", "inbound", "expired"), 0)

    def init(self) -> None:
        """Take up what was begun."""
        self._asked.set()
        self._background = Background(self.ref)
        self._background.run(self._erase_recipients())
        self._background.run(self._look())
        self._background.run(self._keep_no_longer())

    def handle(self, message: Any) -> None:
        """Hear that there is something to do."""
        if type(message) is not ErasureAsked:
            raise TypeError(f"erasures do not understand {type(message).__name__}")
        self._asked.set()

    # --- recipients
    async def _erase_recipients(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            if not await self._erase_open():
                self._asked.set()
                await sleep(self._context.clock, RETRY_S)

    async def _erase_open(self) -> bool:
        """Erase whom there is to erase; one that cannot be now does not hold up the others. False: some are left."""
        left = False
        try:
            for erasure in await self._context.journal.open_erasures():
                try:
                    await self._erase(erasure)
                except JournalError:
                    left = True
        except JournalError:
            return False
        return not left

    async def _look(self) -> None:
        while True:
            await sleep(self._context.clock, LOOK_EVERY_S)
            self._asked.set()

    async def _erase(self, erasure: Erasure) -> None:
        """Erase one recipient, from where it was left; each page is noted when it is done."""
        journal, address = self._context.journal, erasure.address
        assert address is not None
        while page := await journal.erasable(erasure.tenant, erasure.after_id, _LAST, PAGE):
            mine = [(message, is_open) for message, is_open in page if reaches(message, address)]
            for message, is_open in mine:
                if is_open and not await self._cancelled(message):
                    raise JournalError("a message cannot be cancelled now")
            erasure.messages += await self._forget(erasure.tenant, [message for message, _ in mine])
            erasure.after_id = page[-1][0].message_id
            await journal.put_erasure(erasure)
            await sleep(self._context.clock, PAUSE_S)
        now = self._context.clock.now()
        erasure.inbound += await journal.erase_inbound(erasure.tenant, address, now + timedelta(seconds=1))
        await self._context.suppressions.consents.erase(erasure.tenant, erasure.recipient)
        erasure.address, erasure.done_at = None, now
        await journal.put_erasure(erasure)
        self._counts["recipients"] += 1
        self._counts["messages"] += erasure.messages
        self._counts["inbound"] += erasure.inbound
        log.info("a recipient was erased", tenant=erasure.tenant, erasure=erasure.id, messages=erasure.messages)

    async def _cancelled(self, message: Message) -> bool:
        """Stop an open message. False: nobody can tell now whether it is."""
        tenant = self.system.whereis("tenant/" + message.tenant)
        if tenant is None:
            return False
        try:
            await tenant.call(CancelMessage(message.message_id), timeout_s=CANCEL_WITHIN_S)
        except (AlreadyFinal, NotFound):
            return True
        except (JournalError, RuntimeFault):
            return False
        return True

    async def _forget(self, tenant: str, messages: list[Message]) -> int:
        """Erase final messages, in the memory of their cascades, on whatever worker, and in the journal."""
        if not messages:
            return 0
        forget = Forget(self._context.clock.now())
        ids = [message.message_id for message in messages]
        for message_id in ids:
            self._context.bodies.forget(message_id)
            cascade = self.system.whereis("cascade/" + message_id)
            if cascade is not None:
                cascade.send_system(forget)
        count = await self._context.journal.erase_messages(tenant, ids, forget.at)
        for message_id in ids:
            if not self._context.shards.owns(message_id):
                self.system.send("errands", Forward(message_id, forget))
        return count

    # --- what is older than a tenant keeps
    async def _keep_no_longer(self) -> None:
        context = self._context
        while True:
            try:
                for tenant in context.directory.tenants():
                    days = context.directory.rules(tenant).retention.content_days
                    if days:
                        await self._expire(tenant.id, context.clock.now() - timedelta(days=days))
            except JournalError as error:
                log.warning("erasing old content is put off", error=str(error))
            await sleep(context.clock, RETENTION_EVERY_S)

    async def _expire(self, tenant: str, before: datetime) -> None:
        """Erase a tenant's final messages that were created before, this worker's, and what was written to it."""
        journal = self._context.journal
        end = "msg_" + ulid(int(before.timestamp() * 1000))[:10]
        after = kept_from = self._kept_from.get(tenant, "")
        waiting = False  # an open one was seen, or another worker's: it is looked at again
        while page := await journal.erasable(tenant, after, end, PAGE):
            over = []
            for message, is_open in page:
                over_now = not is_open and self._context.shards.owns(message.message_id)
                waiting = waiting or not over_now
                if over_now:
                    over.append(message)
                if not waiting:
                    kept_from = message.message_id
            self._counts["expired"] += await self._forget(tenant, over)
            after = page[-1][0].message_id
            await sleep(self._context.clock, PAUSE_S)
        self._kept_from[tenant] = kept_from
        await journal.erase_inbound(tenant, None, before)

    def terminate(self, reason: Any) -> None:
        """What was begun is taken up by the next one."""
        self._background.cancel()

    def inspect(self) -> dict[str, Any]:
        """Count what was erased since the start."""
        return dict(self._counts)
