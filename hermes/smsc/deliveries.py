"""What the centre has for an account: receipts and messages from handsets, kept until they are acknowledged.

An ESME that is away, slow or refuses for now gets everything later, in order, on whichever of its binds can
receive. What it never acknowledged comes again, as from any centre.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from carriers.smpp import constants as c
from carriers.smpp.pdu import DataSm, DeliverSm

if TYPE_CHECKING:
    from hermes.smsc.connection import Connection
    from hermes.smsc.server import Smsc

MAX_TRIES: Final = 100  # then it is given up, as a centre does at the end of validity
# Answers to deliver_sm that mean: not now.
FOR_NOW: Final = frozenset((c.ESME_RMSGQFUL, c.ESME_RTHROTTLED, c.ESME_RX_T_APPN, c.ESME_RSYSERR))


@dataclass(slots=True, eq=False)
class Delivery:
    """One deliver_sm or data_sm to an ESME.

    Attributes:
        kind: "receipt" or "inbound".
        answered: gets the status it was answered in the end; None when nobody asked.
        sent_at: of the last try, the event loop's clock.
    """

    pdu: DeliverSm | DataSm
    kind: str
    answered: asyncio.Future[int] | None = None
    tries: int = 0
    sent_at: float = 0.0


class Bucket:
    """Tokens for submits: `tps` of them come in a second, and no more are kept than `tps_burst_s` bring."""

    __slots__ = ("_at", "_tokens")

    def __init__(self) -> None:
        self._at = 0.0
        self._tokens = -1.0  # full at first use

    def take(self, now: float, tps: float, burst_s: float) -> bool:
        """Take one token if there is one."""
        most = max(tps * burst_s, 1.0)
        tokens = most if self._tokens < 0 else min(most, self._tokens + (now - self._at) * tps)
        self._at = now
        self._tokens = tokens - 1 if tokens >= 1 else tokens
        return tokens >= 1


class Account:
    """One system_id: its binds, its rate, and what waits for it."""

    __slots__ = ("_smsc", "_turn", "binds", "bucket", "system_id", "waiting")

    def __init__(self, smsc: Smsc, system_id: str) -> None:
        self._smsc = smsc
        self._turn = 0
        self.system_id = system_id
        self.binds: list[Connection] = []
        self.bucket = Bucket()
        self.waiting: deque[Delivery] = deque()

    def deliver(self, delivery: Delivery, bind: Connection | None = None) -> None:
        """Send it on `bind` if that can receive, else on any, else when one can."""
        if not self.waiting:
            chosen = bind if bind is not None and bind.can_deliver() else self._choose()
            if chosen is not None:
                chosen.deliver(delivery)
                return
        if len(self.waiting) >= self._smsc.settings.keep:
            self.drop(self.waiting.popleft())
        self.waiting.append(delivery)

    def again(self, deliveries: list[Delivery]) -> None:
        """Take back what was not acknowledged, in order: before everything that waits."""
        self.waiting.extendleft(reversed(deliveries))
        self.pump()

    def pump(self) -> None:
        """Send what waits, as far as binds can take it."""
        while self.waiting:
            chosen = self._choose()
            if chosen is None:
                return
            chosen.deliver(self.waiting.popleft())

    def settle(self, delivery: Delivery, status: int) -> None:
        """Take the answer to a delivery."""
        smsc = self._smsc
        counts = smsc.deliveries[delivery.kind]
        if status in FOR_NOW and delivery.tries < MAX_TRIES:
            counts["again"] += 1
            smsc.agenda.after(smsc.settings.deliver_retry_s, self.deliver, delivery)
            return
        counts["refused" if status else "acknowledged"] += 1
        if delivery.answered is not None and not delivery.answered.done():
            delivery.answered.set_result(status)

    def drop(self, delivery: Delivery) -> None:
        """Give a delivery up."""
        self._smsc.deliveries[delivery.kind]["dropped"] += 1
        if delivery.answered is not None:
            delivery.answered.cancel()

    def _choose(self) -> Connection | None:
        binds = self.binds
        for n in range(len(binds)):
            bind = binds[(self._turn + n) % len(binds)]
            if bind.can_deliver():
                self._turn = (self._turn + n + 1) % len(binds)
                return bind
        return None


def delivery_counts() -> dict[str, Counter[str]]:
    """Make the counters of deliveries, by kind: sent, acknowledged, refused, again, dropped."""
    return {"receipt": Counter(), "inbound": Counter()}
