"""Messages from handsets over SMPP: parts put together, handed to `mo`, acknowledged once stored.

A whole message is acknowledged when it is stored. A part of a longer one is held back for a moment, because the others
most often follow at once; then it is stored by itself and acknowledged: a centre that sends one delivery at a time
would never send the next part. After a restart the parts in the journal wait for the others again; until these are
known, what comes stays unacknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from actors.context import Context
from carriers.smpp import constants as c
from carriers.smpp.inbound import InboundMessage, InboundPart, Reassembler
from carriers.smpp_carrier import SmppCarrier
from hermes.domain.inbound import Inbound, InboundReceived, PartKey, PartReceived, PartsWanted, StoredPart, e164
from hermes.logs import get_logger
from hermes.runtime import SendResult
from hermes.runtime.clock import TimerHandle

log = get_logger("hermes.smpp")

HOLD_PART_S: Final = 0.5  # a part's acknowledgement, while the others may follow
STORE_AGAIN_S: Final = 1.0  # when the journal is away, for a message that is acknowledged in part
ASK_AGAIN_S: Final = 0.1  # while `mo` is not there: a node starts its carriers first
ANSWER_WITHIN_S: Final = 1.0
LATEST_LOOK_S: Final = 1.0  # the longest wait between two looks at what is overdue


class _Delivery:
    """One deliver_sm, to be acknowledged once.

    Attributes:
        given: it went on with its whole message.
    """

    __slots__ = ("_acknowledge", "done", "given")

    def __init__(self, acknowledge: Callable[[int], None] | None) -> None:
        self._acknowledge = acknowledge
        self.done = acknowledge is None
        self.given = False

    def acknowledge(self, status: int = c.ESME_ROK) -> None:
        if not self.done and self._acknowledge is not None:
            self.done = True
            self._acknowledge(status)


class InboundParts:
    """What comes from handsets by one carrier, over all its binds."""

    def __init__(self, context: Context, carrier: SmppCarrier) -> None:
        self._context = context
        self._carrier = carrier
        self._reassembler = Reassembler(default_alphabet=carrier.settings.default_alphabet)
        self._timer: TimerHandle | None = None
        self._closed = False
        self._early: list[tuple[InboundPart, _Delivery]] | None = []  # until what is stored is known
        self._ask()

    def close(self) -> None:
        """Give nothing more: whoever serves the carrier next knows the parts from the journal."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    # --- what was stored before -----------------------------------------------------------------------------------

    def _ask(self) -> None:
        """Ask until there is an answer: `mo` may not be there, or end before it gives one."""
        if self._closed or self._early is None:
            return
        sent = self._context.system.send("mo", PartsWanted(self._carrier.name, self._known))
        self._context.clock.call_later(ANSWER_WITHIN_S if sent == SendResult.DELIVERED else ASK_AGAIN_S, self._ask)

    def _known(self, stored: list[StoredPart] | None) -> None:
        if self._early is None or self._closed:
            return
        early, self._early = self._early, None
        if stored is None:  # the journal is away: the carrier may offer them again
            self._early = []
            for _, delivery in early:
                delivery.acknowledge(c.ESME_RMSGQFUL)
            return
        self._join(stored)
        for part, delivery in early:
            self._take(part, delivery)
        self._look_later()

    def _join(self, stored: list[StoredPart]) -> None:
        """Take in what the journal has: our own from before, and what another worker was brought."""
        clock = self._context.clock
        now, at = clock.now(), clock.monotonic()
        for each in stored:
            key = each.key
            ties = (key.reference, key.total, each.number)
            part = InboundPart(key.sender, key.recipient, each.data_coding, each.octets, None, *ties)
            came = at - max((now - each.received_at).total_seconds(), 0.0)
            if each.number:
                self._add(part, _Delivery(None), came)
            else:
                for delivery in self._reassembler.whole(part, came, at):
                    assert isinstance(delivery, _Delivery)
                    delivery.given = True
                    delivery.acknowledge()

    # --- what comes -----------------------------------------------------------------------------------------------

    def take(self, part: InboundPart, acknowledge: Callable[[int], None]) -> None:
        """Take a message, or a part of one; `acknowledge` is called once, with a status."""
        delivery = _Delivery(acknowledge)
        if self._early is not None and part.total > 1:
            self._early.append((part, delivery))
        else:
            self._take(part, delivery)
            self._look_later()

    def _take(self, part: InboundPart, delivery: _Delivery) -> None:
        clock = self._context.clock
        self._add(part, delivery, clock.monotonic())
        if not delivery.given:
            clock.call_later(HOLD_PART_S, self._keep, part, delivery)

    def _add(self, part: InboundPart, delivery: _Delivery, at: float) -> None:
        for message in self._reassembler.add(part, delivery, at):
            self._hand_over(message)

    def _keep(self, part: InboundPart, delivery: _Delivery) -> None:
        """Store a part whose message is not whole yet, and acknowledge it."""
        if delivery.given:
            return
        now = self._context.clock.now()
        stored = StoredPart(self._key(part), part.number, part.data_coding, part.octets, now)
        if self._context.system.send("mo", PartReceived(stored, partial(_kept, delivery))) != SendResult.DELIVERED:
            _kept(delivery, False)

    def _key(self, of: InboundPart) -> PartKey:
        return PartKey(self._carrier.name, of.sender, of.recipient, of.reference, of.total)

    def _look_later(self) -> None:
        """Give what waited too long for its other parts as it is."""
        due = self._reassembler.next_due()
        if due is not None and self._timer is None and not self._closed:
            clock = self._context.clock
            wait = max(due - clock.monotonic(), LATEST_LOOK_S)
            self._timer = clock.call_later(wait, self._expire)

    def _expire(self) -> None:
        """Before a message is given without its missing parts: another worker may have them, or have stored it."""
        self._timer = None
        if self._reassembler.due(self._context.clock.monotonic()):
            self._context.system.send("mo", PartsWanted(self._carrier.name, self._looked_up))
        self._look_later()

    def _looked_up(self, stored: list[StoredPart] | None) -> None:
        if stored is None or self._closed:
            return
        self._join(stored)
        for message in self._reassembler.expire(self._context.clock.monotonic()):
            log.warning("a message from a handset is incomplete", carrier=self._carrier.name, parts=message.parts)
            self._hand_over(message)
        self._look_later()

    def _hand_over(self, message: InboundMessage) -> None:
        deliveries: Sequence[_Delivery] = message.deliveries  # type: ignore[assignment]
        for delivery in deliveries:
            delivery.given = True
        if not message.parts:  # a part that came again
            for delivery in deliveries:
                delivery.acknowledge()
            return
        inbound = Inbound(
            self._carrier.name,
            self._carrier.channel,
            e164(message.sender),
            e164(message.recipient),
            message.text,
            parts=message.parts,
        )
        key = None
        if message.parts > 1:
            ties = (message.sender, message.recipient, message.reference, message.parts)
            key = PartKey(self._carrier.name, *ties)
        self._store(inbound, deliveries, key)

    def _store(self, inbound: Inbound, deliveries: Sequence[_Delivery], key: PartKey | None) -> None:
        stored = partial(self._stored, inbound, deliveries, key)
        if self._context.system.send("mo", InboundReceived(inbound, stored, key)) != SendResult.DELIVERED:
            stored(False)

    def _stored(self, inbound: Inbound, deliveries: Sequence[_Delivery], key: PartKey | None, stored: bool) -> None:
        if stored:
            for delivery in deliveries:
                delivery.acknowledge()
        elif any(delivery.done for delivery in deliveries):  # the carrier will not bring all of it again
            self._context.clock.call_later(STORE_AGAIN_S, self._store, inbound, deliveries, key)
        else:
            for delivery in deliveries:
                delivery.acknowledge(c.ESME_RMSGQFUL)


def _kept(delivery: _Delivery, stored: bool) -> None:
    """A part is stored, or must be offered again."""
    delivery.acknowledge(c.ESME_ROK if stored else c.ESME_RMSGQFUL)
