"""A carrier that sends nothing: it answers and reports as told, by settings and by magic recipients.

Also the built-in `sandbox` carrier of test keys. What happens to a try is drawn from a hash of message, step
and attempt, never from chance: the same try has the same fate after a restart, so its receipt can be taken up
again.

Receipts wait in lanes, one per delay. In a lane they are due in the order they came, so a lane needs one
timer, not one per message: exact when the traffic is thin, at most TICK late when it is not.
"""

from __future__ import annotations

import asyncio
import base64
import os
import struct
from collections import deque
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from hashlib import blake2b
from itertools import count
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from carriers.base import Carrier, ReceiptSink, SendError, SendResult, Submission
from carriers.registry import CarrierSettings, Kind
from hermes.domain.receipt import DeliveryReceipt
from hermes.runtime.clock import Clock

TICK: Final = 0.01  # seconds between two rounds of a busy lane; arbitrary, well under the default delay
MESSAGES_PER_ROUND: Final = (
    500  # reported by a lane; so that a restart with many receipts overdue does not hold up the loop
)
EARLY_BY: Final = 0.001  # seconds; an event loop may run a timer a clock tick before it is due
OFFER_AGAIN: Final = 1.0  # seconds until a receipt the journal could not store is offered again
LATE: Final = 3.0  # seconds; API.md, magic recipients
THROTTLED_FOR: Final = 0.1  # seconds; API.md, magic recipients
MAX_SEGMENTS: Final = 255  # the most parts a concatenated message can have (GSM 03.40, 9.2.3.24.1)

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_PAIRS: Final = [a + b for a in _DIGITS for b in _DIGITS]

Rate = Annotated[float, msgspec.Meta(ge=0, le=1)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=86_400_000)]


class MockSettings(CarrierSettings, frozen=True, kw_only=True):
    """How the mock behaves.

    Attributes:
        latency_ms: from the call to the answer; 0 answers at once.
        success_rate: share of tries taken; the others are refused with a transient 500.
        receipt_delay_ms: from the answer to the receipt.
        receipt_success_rate: share of receipts that say delivered; the others say undelivered.
        duplicate_receipt_rate: share of receipts that come twice.
        early_receipt_rate: share of receipts handed over before the submit answer.
        reorder_receipts: receipts overtake each other (due at 0.5 to 1.5 times the delay); of half the
        messages
            the segments come last first, and a stale `submitted` comes after each final receipt.
        magic: whether magic recipients decide their own fate.
        secret: of `/v1/webhooks/dlr`; the gateway checks it.
    """

    latency_ms: Milliseconds = 0
    success_rate: Rate = 1
    receipt_delay_ms: Milliseconds = 200
    receipt_success_rate: Rate = 1
    duplicate_receipt_rate: Rate = 0
    early_receipt_rate: Rate = 0
    reorder_receipts: bool = False
    magic: bool = True
    secret: str | None = None


class _Refusal(NamedTuple):
    error_class: str
    code: str
    detail: str
    retryable: bool = False
    retry_after_s: float | None = None

    def error(self) -> SendError:
        return SendError(
            self.error_class,
            self.code,
            self.detail,
            retryable=self.retryable,
            retry_after_s=self.retry_after_s,
        )


@dataclass(slots=True, frozen=True)
class _Fate:
    """What becomes of one try.

    Attributes:
        receipt: the final status it reports; None for never a word.
        delay_s: from the answer to the receipt.
        copies: how often each receipt comes.
        early: receipts come before the answer.
        disorder: segments last first, then a stale `submitted`.
    """

    receipt: str | None
    delay_s: float
    refusal: _Refusal | None = None
    copies: int = 1
    early: bool = False
    disorder: bool = False


_REJECTED: Final = _Refusal("invalid_destination", "rejected", "mock: no such recipient")
_OPTED_OUT: Final = _Refusal("blocked_or_opted_out", "optout", "mock: the recipient opted out")
_THROTTLED: Final = _Refusal("throttled", "throttled", "mock: too many messages", True, THROTTLED_FOR)
_ERROR: Final = _Refusal("retryable_transient", "500", "mock: the carrier failed", True)

# What the magic recipients do (API.md, "Sandbox: magic recipients"): the receipt, its delay (None: the
# configured one), the refusal. `throttled` becomes `delivered` from the third attempt on.
_MAGIC: Final[dict[str, tuple[str | None, float | None, _Refusal | None]]] = {
    "delivered": ("delivered", None, None),
    "rejected": (None, None, _REJECTED),
    "undelivered": ("undelivered", None, None),
    "silent": (None, None, None),
    "throttled": (None, None, _THROTTLED),
    "late": ("delivered", LATE, None),
    "error": (None, None, _ERROR),
    "optout": (None, None, _OPTED_OUT),
}
_MAGIC_BY_PHONE: Final[dict[str, str]] = {f"{n:04}": name for n, name in enumerate(_MAGIC, 1)}


def magic_of(channel: str, to: str) -> str | None:
    """Name the magic recipient an address is (`delivered`, `silent`, ...); None for an ordinary one."""
    if channel == "sms" or channel == "whatsapp":
        return _MAGIC_BY_PHONE.get(to[-4:])
    if channel == "email":
        name = to.rpartition("@")[0].partition("-")[0]
    elif channel == "push" and to.startswith("tok-"):
        name = to[4:].partition("-")[0]
    else:
        return None
    return name if name in _MAGIC else None


def _draws(submission: Submission) -> tuple[float, ...]:
    """Draw five numbers in 0..1 for a try: always the same for the same message, step and attempt."""
    seed = f"{submission.message_id}/{submission.step}/{submission.attempt}".encode()
    return tuple(n / 2**32 for n in struct.unpack("<5I", blake2b(seed, digest_size=20).digest()))


def _new_ids() -> Iterator[str]:
    """Count up ids that no other process or start has: `mock-` + 40 random bits + `-` + a base-36 counter."""
    start = base64.b32encode(os.urandom(5)).decode().lower()
    for block in count():
        head, rest = "", block
        while rest:
            rest, digit = divmod(rest, 36)
            head = _DIGITS[digit] + head
        head = f"mock-{start}-{head}"
        for pair in _PAIRS:
            yield head + pair


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():  # cancelled
        waiting.set_result(None)


class _Lane:
    """Receipts that wait equally long, first due first. `armed` iff a timer of it is running."""

    __slots__ = ("armed", "delay_s", "queue")

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self.queue: deque[tuple[float, tuple[str, ...], _Fate]] = deque()  # due, by the monotonic clock
        self.armed = False


class MockCarrier(Carrier):
    """Takes messages for any channel and sends none. Its receipts go to the sink like any other carrier's."""

    kind = "mock"

    def __init__(
        self,
        name: str,
        channel: str,
        settings: MockSettings | None = None,
        *,
        clock: Clock,
        cost: float = 0.0,
    ) -> None:
        super().__init__(name, channel, cost=cost)
        self.settings = settings = settings or MockSettings()
        self.receipt_secret = settings.secret
        self._clock = clock
        self._latency_s = settings.latency_ms / 1000
        self._ids = _new_ids()
        self._lanes: dict[float, _Lane] = {}
        self._held: list[DeliveryReceipt] = []  # the journal was away; offered again, oldest first
        self._held_timer = False  # True iff _held_due is due
        self._taken = self._refused = self._reported = 0
        delay_s = settings.receipt_delay_ms / 1000
        self._fate = _Fate("delivered", delay_s)
        self._magic = {
            name: _Fate(receipt, delay_s if own is None else own, refusal)
            for name, (receipt, own, refusal) in _MAGIC.items()
        }
        self._certain = (
            settings.success_rate == settings.receipt_success_rate == 1
            and not settings.duplicate_receipt_rate
            and not settings.early_receipt_rate
            and not settings.reorder_receipts
        )

    async def open(self, sink: ReceiptSink) -> None:
        """Report from now on, and what came due since `close`: nobody resumes a message still loaded."""
        self.sink = sink
        self._offer_held()
        for lane in list(self._lanes.values()):
            if not lane.armed:
                self._run(lane)

    async def close(self) -> None:
        """Report nothing more, and keep what is to be reported until `open`."""
        self.sink = None

    def succeed(self, former: Carrier) -> None:
        if not isinstance(former, MockCarrier):
            return
        lanes, former._lanes = former._lanes, {}
        for delay_s, lane in lanes.items():
            own = self._lanes.setdefault(delay_s, _Lane(delay_s))
            own.queue.extend(lane.queue)
            if not own.armed:
                self._run(own)
        held, former._held = former._held, []
        self._held += held
        self._offer_held()

    def send(self, submission: Submission) -> SendResult | Awaitable[SendResult]:
        return self._answer_later(submission) if self._latency_s else self._answer(submission)

    def reports(self, submission: Submission) -> bool:
        return self._fate_of(submission).receipt is not None

    def awaits_receipt_at(self, submission: Submission, submitted_at: datetime) -> datetime | None:
        fate = self._fate_of(submission)
        return None if fate.receipt is None else submitted_at + timedelta(seconds=fate.delay_s)

    def resume(self, submission: Submission, carrier_message_ids: Sequence[str], submitted_at: datetime) -> None:
        fate = self._fate_of(submission)
        if fate.receipt is not None:
            left = (submitted_at - self._clock.now()).total_seconds() + fate.delay_s
            # In whole ticks, so that a restart with many messages makes few lanes.
            self._schedule(tuple(carrier_message_ids), fate, max(0, -int(-left // TICK)) * TICK)

    async def health(self) -> str | None:
        return None

    def inspect(self) -> dict[str, Any]:
        return {
            "taken": self._taken,
            "refused": self._refused,
            "receipts_given": self._reported,
            "messages_awaiting_receipt": sum(len(lane.queue) for lane in self._lanes.values()),
            "receipts_held": len(self._held),
        }

    async def _answer_later(self, submission: Submission) -> SendResult:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._clock.call_later(self._latency_s, _wake, waiting)
        await waiting
        return self._answer(submission)

    def _answer(self, submission: Submission) -> SendResult:
        fate = self._fate_of(submission)
        if fate.refusal is not None:
            self._refused += 1
            raise fate.refusal.error()
        self._taken += 1
        segments = submission.segments
        if segments is None or segments < 2 or submission.channel != "sms":
            ids: tuple[str, ...] = (next(self._ids),)
        else:
            ids = tuple([next(self._ids) for _ in range(min(segments, MAX_SEGMENTS))])
        if fate.early:
            self._report(ids, fate, self._clock.now())
        elif fate.receipt is not None:
            self._schedule(ids, fate, fate.delay_s)
        return SendResult(ids)

    def _fate_of(self, submission: Submission) -> _Fate:
        fate = self._fate
        name = magic_of(submission.channel, submission.to) if self.settings.magic else None
        if name is not None:
            fate = self._magic["delivered" if name == "throttled" and submission.attempt > 2 else name]
        return fate if self._certain else self._drawn(submission, fate, magic=name is not None)

    def _drawn(self, submission: Submission, fate: _Fate, *, magic: bool) -> _Fate:
        settings = self.settings
        success, receipt, duplicate, early, order = _draws(submission)
        if not magic:
            fate = replace(
                fate,
                refusal=_ERROR if success >= settings.success_rate else None,
                receipt="delivered" if receipt < settings.receipt_success_rate else "undelivered",
            )
        if fate.receipt is None:
            return fate
        reorder = settings.reorder_receipts and fate.delay_s < LATE
        return replace(
            fate,
            copies=2 if duplicate < settings.duplicate_receipt_rate else 1,
            early=early < settings.early_receipt_rate,
            delay_s=fate.delay_s * (0.5 + int(order * 9) / 8) if reorder else fate.delay_s,  # nine lanes
            disorder=settings.reorder_receipts and int(order * 2**16) % 2 == 0,
        )

    def _schedule(self, ids: tuple[str, ...], fate: _Fate, delay_s: float) -> None:
        lane = self._lanes.get(delay_s)
        if lane is None:
            lane = self._lanes[delay_s] = _Lane(delay_s)
        lane.queue.append((self._clock.monotonic() + delay_s, ids, fate))
        if not lane.armed:
            lane.armed = True
            self._clock.call_later(delay_s, self._run, lane)

    def _run(self, lane: _Lane) -> None:
        lane.armed = False
        if self.sink is None or self._lanes.get(lane.delay_s) is not lane:
            return
        queue, now, at = lane.queue, self._clock.monotonic(), self._clock.now()
        for _ in range(min(len(queue), MESSAGES_PER_ROUND)):
            if queue[0][0] > now + EARLY_BY:
                break
            _, ids, fate = queue.popleft()
            self._report(ids, fate, at)
        if not queue:
            del self._lanes[lane.delay_s]
        else:
            lane.armed = True
            self._clock.call_later(max(TICK, queue[0][0] - now), self._run, lane)

    def _report(self, ids: tuple[str, ...], fate: _Fate, at: datetime) -> None:
        assert fate.receipt is not None
        for status in (fate.receipt, "submitted") if fate.disorder else (fate.receipt,):
            for carrier_message_id in reversed(ids) if fate.disorder else ids:
                if status == "undelivered":
                    receipt = DeliveryReceipt(
                        self.name,
                        carrier_message_id,
                        status,
                        "unreachable_handset",
                        "absent",
                        "mock: the handset is absent",
                        at,
                    )
                else:
                    receipt = DeliveryReceipt(self.name, carrier_message_id, status, at=at)
                for _ in range(fate.copies):
                    self._offer(receipt)

    def _offer(self, receipt: DeliveryReceipt) -> None:
        if self.sink is None:
            self._held.append(receipt)
            return
        self._reported += 1
        self.sink.receipt(receipt, partial(self._stored, receipt))

    def _stored(self, receipt: DeliveryReceipt, stored: bool) -> None:
        if stored:
            return
        self._reported -= 1
        self._held.append(receipt)
        if not self._held_timer:
            self._held_timer = True
            self._clock.call_later(OFFER_AGAIN, self._held_due)

    def _held_due(self) -> None:
        self._held_timer = False
        self._offer_held()

    def _offer_held(self) -> None:
        if self.sink is None:
            return
        held, self._held = self._held, []
        for receipt in held:
            self._offer(receipt)


KIND: Final = Kind("mock", MockSettings, MockCarrier)
