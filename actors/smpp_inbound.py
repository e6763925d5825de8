"""Messages from handsets over SMPP: parts put together, handed to `mo`, acknowledged once stored.

A whole message is acknowledged when it is stored. A part of a longer one is held back for a moment, because the others
most often follow at once; then it is acknowledged all the same: a centre that sends one delivery at a time would never
send the next part. Until the message is whole such a part is only in memory: a crash then loses it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from actors.context import Context
from carriers.smpp import constants as c
from carriers.smpp.inbound import InboundMessage, InboundPart, Reassembler
from carriers.smpp_carrier import SmppCarrier
from hermes.domain.inbound import Inbound, InboundReceived, e164
from hermes.logs import get_logger
from hermes.runtime import SendResult
from hermes.runtime.clock import TimerHandle

log = get_logger("hermes.smpp")

HOLD_PART_S: Final = 0.5  # a part's acknowledgement, while the others may follow
STORE_AGAIN_S: Final = 1.0  # when the journal is away, for a message that is acknowledged in part
LATEST_LOOK_S: Final = 1.0  # the longest wait between two looks at what is overdue


class _Delivery:
    """One deliver_sm, to be acknowledged once."""

    __slots__ = ("_acknowledge", "done")

    def __init__(self, acknowledge: Callable[[int], None]) -> None:
        self._acknowledge = acknowledge
        self.done = False

    def acknowledge(self, status: int = c.ESME_ROK) -> None:
        if not self.done:
            self.done = True
            self._acknowledge(status)


class InboundParts:
    """What comes from handsets by one carrier, over all its binds."""

    def __init__(self, context: Context, carrier: SmppCarrier) -> None:
        self._context = context
        self._carrier = carrier
        self._reassembler = Reassembler(default_alphabet=carrier.settings.default_alphabet)
        self._timer: TimerHandle | None = None

    def take(self, part: InboundPart, acknowledge: Callable[[int], None]) -> None:
        """Take a message, or a part of one; `acknowledge` is called once, with a status."""
        clock = self._context.clock
        delivery = _Delivery(acknowledge)
        given = self._reassembler.add(part, delivery, clock.monotonic())
        for message in given:
            self._hand_over(message)
        if not any(delivery in message.deliveries for message in given):
            clock.call_later(HOLD_PART_S, delivery.acknowledge)
        self._look_later()

    def _look_later(self) -> None:
        """Give what waited too long for its other parts as it is."""
        due = self._reassembler.next_due()
        if due is not None and self._timer is None:
            clock = self._context.clock
            wait = max(due - clock.monotonic(), LATEST_LOOK_S)
            self._timer = clock.call_later(wait, self._expire)

    def _expire(self) -> None:
        self._timer = None
        for message in self._reassembler.expire(self._context.clock.monotonic()):
            log.warning("a message from a handset is incomplete", carrier=self._carrier.name, parts=message.parts)
            self._hand_over(message)
        self._look_later()

    def _hand_over(self, message: InboundMessage) -> None:
        deliveries: Sequence[_Delivery] = message.deliveries  # type: ignore[assignment]
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
        self._store(inbound, deliveries)

    def _store(self, inbound: Inbound, deliveries: Sequence[_Delivery]) -> None:
        stored = partial(self._stored, inbound, deliveries)
        if self._context.system.send("mo", InboundReceived(inbound, stored)) != SendResult.DELIVERED:
            stored(False)

    def _stored(self, inbound: Inbound, deliveries: Sequence[_Delivery], stored: bool) -> None:
        if stored:
            for delivery in deliveries:
                delivery.acknowledge()
        elif any(delivery.done for delivery in deliveries):  # the carrier will not bring all of it again
            self._context.clock.call_later(STORE_AGAIN_S, self._store, inbound, deliveries)
        else:
            for delivery in deliveries:
                delivery.acknowledge(c.ESME_RMSGQFUL)
