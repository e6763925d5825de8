"""The provider actor: asks a provider's API, one call a message. What it shares with other carriers: `carrier.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Final

from actors.carrier import CarrierActor
from actors.context import CarrierPlan, Context
from actors.messages import CancelSubmitted, Job, ReceiptMail
from carriers.base import Carrier, ReceiptStored, SendError, SendResult
from hermes import runtime
from hermes.domain.receipt import DeliveryReceipt
from hermes.logs import get_logger
from hermes.runtime import NO_REPLY, Reply

log = get_logger("hermes.provider")

GRACE_S: Final = 1.0  # beyond the carrier's own time-out, before its call is given up as in doubt
HEALTH_EVERY_S: Final = 60.0  # without a message taken since, the carrier is asked how it is
HEALTH_WITHIN_S: Final = 10.0
BURST_S: Final = 0.05  # a limited carrier may be at most this far ahead of its rate


class _Answered:
    """To itself: a call that took its time is over."""

    __slots__ = ("carrier", "job", "outcome")

    def __init__(self, job: Job, outcome: SendResult | BaseException, carrier: Carrier) -> None:
        self.job = job
        self.outcome = outcome
        self.carrier = carrier


class _Checked:
    """To itself: a health check is over; `reason` is None when the carrier is well."""

    __slots__ = ("carrier", "reason")

    def __init__(self, carrier: Carrier, reason: str | None) -> None:
        self.carrier = carrier
        self.reason = reason


_CHECK: Final = object()  # to itself: it is time to look how the carrier is


class ProviderActor(CarrierActor):
    """`provider/<carrier>`: asks one carrier to send, within its limits."""

    kind = "Provider"

    def __init__(self, context: Context, name: str) -> None:
        super().__init__(context, name)
        self._calls: dict[asyncio.Task[Any], tuple[Job, Carrier]] = {}
        self._next_at = 0.0  # monotonic; when the rate allows the next message
        self._sent_at_check = 0  # what `_sent` was when the last check was due

    async def init(self) -> None:
        """Open the carrier; its receipts go to `dlr`."""
        self._context.queues[self._name] = self._queue
        await self._open(self._carrier)
        self.send_after(HEALTH_EVERY_S, _CHECK)

    async def _open(self, carrier: Carrier) -> None:
        carrier.call = self.system.call
        root = self._context.public_url
        carrier.callback_url = None if root is None else f"{root}/v1/webhooks/{self._name}"
        await carrier.open(_Sink(self._context))

    def handle(self, message: Any) -> None:
        """Hear that a call is over, or what every carrier hears."""
        if type(message) is _Answered:
            self._count(-1)
            self._answer(message.job, message.outcome, message.carrier)
            self._pump()
        elif message is _CHECK:
            self._check()
        elif type(message) is _Checked:
            self._checked(message)
        else:
            super().handle(message)

    # --- changing what it serves ----------------------------------------------------------------------------------

    async def _use(self, plan: CarrierPlan, reply: Reply) -> Any:
        """Serve another plan: new calls by its carrier; the former one is closed once its own have ended."""
        carrier, former = plan.carrier, self._carrier
        try:
            await self._open(carrier)
        except Exception as exc:  # the operator is told; the former one goes on
            reply.error(exc)
            return NO_REPLY
        carrier.succeed(former)
        self._next_at = 0.0
        self._put_into_service(plan)
        self._close_former(former)
        return None

    def _close_former(self, former: Carrier) -> None:
        if former is not self._carrier and all(carrier is not former for _, carrier in self._calls.values()):
            self._run(former.close(), "a former carrier did not close")

    # --- how it is ------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Ask the carrier how it is, unless a message told since the last check, or an operator holds it."""
        told, self._sent_at_check = self._sent > self._sent_at_check, self._sent
        if told or self._health.order is not None or self._retired:
            self.send_after(HEALTH_EVERY_S, _CHECK)
        else:
            self._run(self._ask_health(self._carrier), "a health check failed")

    async def _ask_health(self, carrier: Carrier) -> None:
        try:
            async with asyncio.timeout(HEALTH_WITHIN_S):
                reason = await carrier.health()
        except TimeoutError:
            reason = f"no answer within {HEALTH_WITHIN_S:g} s"
        except Exception as exc:  # a bug in the carrier: the operator is told
            reason = type(exc).__name__
        self.ref.send_system(_Checked(carrier, reason))

    def _checked(self, checked: _Checked) -> None:
        self.send_after(HEALTH_EVERY_S, _CHECK)
        told = self._sent > self._sent_at_check
        if checked.carrier is self._carrier and not told:
            self._health.unwell = None if checked.reason is None else f"health check: {checked.reason}"
            self._look_at_health()

    # --- limits ---------------------------------------------------------------------------------------------------

    def _has_room(self) -> bool:
        plan = self._plan
        if plan.max_in_flight and self._in_flight >= plan.max_in_flight:
            return False
        return not plan.throughput_per_s or self._next_at <= self._context.clock.monotonic()

    def _room_at(self) -> float | None:
        return self._next_at

    def _leaving(self, job: Job) -> None:
        rate = self._plan.throughput_per_s
        if rate:
            cost = (job.submission.segments or 1) / rate
            self._next_at = max(self._next_at, self._context.clock.monotonic() - BURST_S) + cost

    # --- calls ----------------------------------------------------------------------------------------------------

    def _send(self, job: Job) -> None:
        carrier = self._carrier
        try:
            outcome = carrier.send(job.submission)
        except SendError as error:
            self._answer(job, error)
            return
        except Exception as error:  # a bug in the carrier; the cascade is told that the send is in doubt
            self._answer(job, error)
            return
        if type(outcome) is SendResult:
            self._answer(job, outcome)
            return
        self._count(1)
        task = asyncio.ensure_future(self._limited(outcome))  # type: ignore[arg-type]
        self._calls[task] = (job, carrier)
        task.add_done_callback(self._call_done)

    async def _limited(self, call: Awaitable[SendResult]) -> SendResult:
        limit = self._plan.timeout_s
        async with asyncio.timeout(limit + GRACE_S if limit else None):
            return await call

    def _call_done(self, task: asyncio.Task[SendResult]) -> None:
        job, carrier = self._calls.pop(task, (None, None))
        if job is None or carrier is None:
            return  # given up when the actor ended
        if task.cancelled():
            outcome: SendResult | BaseException = asyncio.CancelledError()
        else:
            outcome = task.exception() or task.result()
        self.ref.send_system(_Answered(job, outcome, carrier))
        self._close_former(carrier)

    def _cancel(self, message: CancelSubmitted) -> None:
        for carrier_message_id in message.carrier_message_ids:
            self._run(self._carrier.cancel(carrier_message_id), "cancel at carrier failed")

    def _run(self, call: Awaitable[Any], failed: str) -> None:
        """Start what nobody waits for; its failure is logged."""

        def done(task: asyncio.Future[Any]) -> None:
            if not task.cancelled() and task.exception() is not None:
                log.warning(failed, carrier=self._name, error=type(task.exception()).__name__)

        asyncio.ensure_future(call).add_done_callback(done)

    async def terminate(self, reason: Any) -> None:
        """Give back what has not left, call in doubt what has, and close the carrier."""
        calls, self._calls = self._calls, {}
        for task, (job, carrier) in calls.items():
            task.cancel()
            self._answer(job, asyncio.CancelledError(), carrier)
        self._give_back_all()
        for former in {carrier for _, carrier in calls.values()} - {self._carrier}:
            await former.close()
        if not self._retired:  # else its late receipts are still taken; the fleet closes it
            await self._carrier.close()


class _Sink:
    """Hands a carrier's receipts to `dlr`."""

    __slots__ = ("_context",)

    def __init__(self, context: Context) -> None:
        self._context = context

    def receipt(self, receipt: DeliveryReceipt, stored: ReceiptStored | None = None) -> None:
        """See `carriers.base.ReceiptSink`."""
        sent = self._context.system.send("dlr", ReceiptMail(receipt, stored))
        if sent != runtime.SendResult.DELIVERED and stored is not None:
            stored(False)
