"""The inbound actor: what somebody writes to one of our numbers, whatever carrier brought it.

It finds the tenant whose number it is, does what the words ask for, stores it with the customer's webhooks, and only
then says so: the carrier acknowledges it to its other side, or hears that it must offer it again. The words are
heeded first: whatever happens in between, the carrier brings it again, and heeding twice changes nothing.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from actors.background import Background
from actors.context import Context
from hermes.domain.commands import LiftOptOut, SuppressRecipient
from hermes.domain.inbound import (
    KEYWORDS,
    WROTE_WITHIN,
    Inbound,
    InboundReceived,
    PartKey,
    PartReceived,
    PartsWanted,
    asked_for,
    last_writer,
    opted_out_data,
    owner_of,
    received_data,
    storable,
)
from hermes.domain.suppression import OPTED_OUT
from hermes.journal.base import InboundRecord, JournalAway, JournalError, OutboxEntry
from hermes.journal.rows import to_json
from hermes.journal.suppressions import NoAddress
from hermes.runtime import NO_REPLY, Actor, Reply
from hermes.runtime.reasons import RuntimeFault

WAITING_LIMIT: Final = 5_000  # messages not yet stored; beyond, carriers are told to offer them again
AT_ONCE: Final = 16  # stored at the same time; the journal's connections are for others too
HEEDED_WITHIN_S: Final = 2.0  # by `suppressions`; then the carrier is asked to offer it again
WRITERS_LOOKED_AT: Final = 50  # of the newest messages to the sender


class _Item:
    """A message on its way into the journal, and whom to tell."""

    __slots__ = ("_reply", "_stored", "inbound", "parts")

    def __init__(self, received: InboundReceived, reply: Reply | None) -> None:
        self.inbound = storable(received.inbound)
        self.parts = received.parts
        self._stored = received.stored
        self._reply = reply

    def done(self, outcome: str) -> None:
        if self._reply is not None:
            self._reply.ok(outcome)
        elif self._stored is not None:
            self._stored(True)

    def failed(self) -> None:
        if self._reply is not None:
            self._reply.error(JournalAway("the message could not be stored"))
        elif self._stored is not None:
            self._stored(False)


class InboundActor(Actor):
    """`mo`: every message to one of our numbers comes through here."""

    kind = "Inbound"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: deque[_Item] = deque()
        self._running: set[_Item] = set()
        self._counts = dict.fromkeys(("stored", "repeated", "unrouted", "refused", "parts"), 0)

    def init(self) -> None:
        """Get ready."""
        self._background = Background(self.ref)

    def handle(self, message: Any) -> None:
        """Take a message or a part of one; `stored` is told what became of it."""
        kind = type(message)
        if kind is InboundReceived:
            self._take(_Item(message, None))
        elif kind is PartReceived:
            self._background.run(self._store_part(message))
        elif kind is PartsWanted:
            self._background.run(self._give_parts(message))
        else:
            raise TypeError(f"mo does not understand {kind.__name__}")

    def handle_call(self, request: Any, reply: Reply) -> Any:
        """Take a message and answer once it is stored."""
        if type(request) is not InboundReceived:
            raise TypeError(f"mo does not understand {type(request).__name__}")
        self._take(_Item(request, reply))
        return NO_REPLY

    def _take(self, item: _Item) -> None:
        if len(self._waiting) >= WAITING_LIMIT:
            self._counts["refused"] += 1
            item.failed()
            return
        self._waiting.append(item)
        self._start()

    def _start(self) -> None:
        while self._waiting and len(self._running) < AT_ONCE:
            item = self._waiting.popleft()
            self._running.add(item)
            self._background.run(self._work(item))

    async def _store_part(self, received: PartReceived) -> None:
        stored = False
        try:
            await self._context.journal.store_part(received.part)
            stored = True
            self._counts["parts"] += 1
        except JournalError:
            pass  # whoever sent it is told
        finally:  # also when this actor ends
            received.stored(stored)

    async def _give_parts(self, wanted: PartsWanted) -> None:
        try:
            parts = await self._context.journal.stored_parts(wanted.carrier)
        except JournalError:
            wanted.given(None)
        else:
            wanted.given(parts)

    async def _work(self, item: _Item) -> None:
        try:
            outcome = await self._store(item.inbound, item.parts)
        except JournalError:
            self._counts["refused"] += 1
            item.failed()
        else:
            self._counts[outcome] += 1
            self._context.metrics.inbound.inc(item.inbound.carrier, outcome)
            item.done(outcome)
        self._running.discard(item)
        self._start()

    async def _store(self, inbound: Inbound, parts: PartKey | None) -> str:
        """Store a message; says stored, repeated or unrouted."""
        context = self._context
        tenant = await self._tenant(inbound)
        now = context.clock.now()
        record = InboundRecord(context.shards.new_inbound_id(now), tenant, inbound, now)
        outbox: list[OutboxEntry] = []
        if tenant is not None:
            told = [(1, "inbound.received", to_json(received_data(inbound, now)))]
            keyword = await self._heed(inbound, tenant)
            if keyword is not None:
                told.append((2, "recipient.opted_out", to_json(opted_out_data(inbound, keyword))))
            outbox = [
                OutboxEntry(seq, endpoint.id, type_, now, payload)
                for seq, type_, payload in told
                for endpoint in context.directory.endpoints(tenant)
                if endpoint.disabled_at is None and type_ in endpoint.events
            ]
        if not await context.journal.store_inbound(record, outbox, parts):
            return "repeated"
        if tenant is None:
            return "unrouted"
        if outbox:
            context.webhook_due(tenant, record.inbound_id, outbox)
        return "stored"

    async def _heed(self, inbound: Inbound, tenant: str) -> str | None:
        """Do what the words ask for; gives the keyword of an opt-out.

        Raises:
            JournalError: it is not stored now.
        """
        plan = self._context.carriers.get(inbound.carrier)
        asked = asked_for(inbound, KEYWORDS if plan is None else plan.carrier.keywords)
        if asked is None or asked[0] not in ("stop", "start"):
            return None
        request: SuppressRecipient | LiftOptOut
        if asked[0] == "stop":
            request = SuppressRecipient(tenant, inbound.channel, inbound.sender, OPTED_OUT)
        else:
            request = LiftOptOut(tenant, inbound.channel, inbound.sender)
        suppressions = self.system.whereis("suppressions")
        if suppressions is None:
            raise JournalAway("the do-not-contact lists are being restarted")
        try:
            await suppressions.call(request, timeout_s=HEEDED_WITHIN_S)
        except NoAddress:
            return None  # a sender that has a name and no number: nobody could write to it anyway
        except RuntimeFault as exc:
            raise JournalAway("the do-not-contact lists do not answer") from exc
        return asked[1] if asked[0] == "stop" else None

    async def _tenant(self, inbound: Inbound) -> str | None:
        """Name the tenant a message belongs to; None: nobody's."""
        context = self._context
        tenants = context.directory.tenants()
        own = {tenant.id: numbers for tenant in tenants if (numbers := tenant.settings.get("numbers"))}
        owner = owner_of(inbound, context.numbers, own)
        if owner is None:
            since = context.clock.now() - WROTE_WITHIN
            found = await context.journal.messages_to(inbound.sender, since, WRITERS_LOOKED_AT)
            owner = last_writer(inbound, ((stored.message, _carriers(stored.events)) for stored in found))
        return owner if owner is not None and context.directory.tenant(owner) is not None else None

    def terminate(self, reason: Any) -> None:
        """What was not stored is offered again by the carriers."""
        self._background.cancel()
        for item in (*self._running, *self._waiting):
            item.failed()

    def inspect(self) -> dict[str, Any]:
        """Count what came and what became of it; no text and no address."""
        return {**self._counts, "waiting": len(self._waiting) + len(self._running)}


def _carriers(events: list[Any]) -> set[str]:
    """Name the carriers that were asked to send a message."""
    return {str(event.data["carrier"]) for event in events if "carrier" in event.data}
