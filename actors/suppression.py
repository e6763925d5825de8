"""The suppression actor: whatever says that a recipient must not be written to any more says it here.

It stores the entry and has every carrier drop what is queued for such a recipient. Entries made through the API are
stored by the gateway; this actor hears of them too.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from actors.background import Background
from actors.context import Context
from actors.messages import DropSuppressed
from hermes.domain.commands import LiftOptOut, SuppressRecipient
from hermes.journal.base import JournalError
from hermes.journal.suppressions import NoAddress
from hermes.logs import get_logger
from hermes.runtime import NO_REPLY, Actor, Reply, SendResult

log = get_logger("hermes.suppression")

RETRY_S: Final = 1.0  # while the journal is away, or a carrier's mailbox is full
WAITING_LIMIT: Final = 10_000  # entries that wait for the journal; beyond, the carrier says it again at the next try
STORED_AT_ONCE: Final = 500  # entries in one statement


class _Drop:
    """To itself: a carrier whose mailbox was full must hear of new entries."""

    __slots__ = ("carrier",)

    def __init__(self, carrier: str) -> None:
        self.carrier = carrier


class SuppressionActor(Actor):
    """`suppressions`: see the module."""

    kind = "Suppressions"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: list[SuppressRecipient] = []
        self._storing = False
        self._suppressed = 0
        self._lifted = 0

    def init(self) -> None:
        """Hear of new entries, whoever stores them."""
        self._background = Background(self.ref)
        self._context.suppressions.on_added.append(self._added)

    def handle(self, message: Any) -> None:
        """Take an entry that nobody waits for."""
        if type(message) is SuppressRecipient:
            if len(self._waiting) < WAITING_LIMIT:
                self._waiting.append(message)
            if not self._storing:
                self._storing = True
                self._background.run(self._store())
        elif type(message) is _Drop:
            self._drop(message.carrier)
        else:
            raise TypeError(f"suppressions do not understand {type(message).__name__}")

    def handle_call(self, request: Any, reply: Reply) -> Any:
        """Store or lift an entry, and answer once that is committed."""
        if type(request) not in (SuppressRecipient, LiftOptOut):
            raise TypeError(f"suppressions do not understand {type(request).__name__}")
        self._background.run(self._answer(request, reply))
        return NO_REPLY

    async def _answer(self, request: SuppressRecipient | LiftOptOut, reply: Reply) -> None:
        suppressions = self._context.suppressions
        try:
            if isinstance(request, LiftOptOut):
                lifted = await suppressions.lift(request.tenant, request.channel, request.address)
                self._lifted += lifted
                reply.ok(lifted)
            else:
                await suppressions.add(request.tenant, request.channel, request.address, request.reason)
                self._suppressed += 1
                reply.ok(None)
        except (JournalError, NoAddress) as error:
            reply.error(error)

    async def _store(self) -> None:
        """Store what waits, as soon as the journal can."""
        suppressions = self._context.suppressions
        while self._waiting:
            batch = self._waiting[:STORED_AT_ONCE]
            entries = []
            for one in batch:
                try:
                    entries.append(suppressions.entry(one.tenant, one.channel, one.address, one.reason))
                except NoAddress:
                    log.warning("a carrier named a recipient that is no address", channel=one.channel)
            try:
                await suppressions.put(entries)
            except JournalError:
                await asyncio.sleep(RETRY_S)
                continue
            self._suppressed += len(entries)
            del self._waiting[: len(batch)]
        self._storing = False

    # --- what is queued -------------------------------------------------------------------------------------------

    def _added(self) -> None:
        for name in self._context.carriers:
            self._drop(name)

    def _drop(self, carrier: str) -> None:
        # Through its mailbox: a job on its way there was sent before, and is in the queue by then.
        sent = self._context.system.send(self._context.carriers[carrier].actor, DropSuppressed())
        if sent is SendResult.FULL:
            self.send_after(RETRY_S, _Drop(carrier))

    def terminate(self, reason: Any) -> None:
        """Hear of nothing more."""
        self._context.suppressions.on_added.remove(self._added)
        self._background.cancel()

    def inspect(self) -> dict[str, Any]:
        """Count the entries and what is waiting to be one; no address."""
        return {
            "entries": len(self._context.suppressions),
            "suppressed": self._suppressed,
            "lifted": self._lifted,
            "waiting": len(self._waiting),
        }
