"""What every carrier's actor does, whatever it speaks: its queue, its fitness, its orders, its answers.

It pulls: a job leaves the queue only when the carrier has room for it and is fit to be asked (breaker, an operator's
order), so pressure stays in a bounded queue that is fair between tenants and serves one-time codes first. When the
carrier becomes unfit, what waits goes back to its cascades, which ask another carrier, or the same one to hold it.
What an answer means for the message is the cascade's business alone.

How a job is sent is the subclass's: a call (`provider.py`), or submits over binds (`smpp.py`).
"""

from __future__ import annotations

import asyncio
from logging import DEBUG, getLogger
from typing import Any, Final

from actors.context import CarrierPlan, Context
from actors.lanes import Lane, Lanes, lane_of
from actors.messages import (
    CancelSubmitted,
    ChooseAgain,
    DropSuppressed,
    GoAhead,
    GoOn,
    HandoverEnded,
    HeldBy,
    Job,
    NotTaken,
    NotWanted,
    ResumeSubmitted,
    Retire,
    UseCarrier,
    Wake,
    WithdrawJob,
)
from actors.throughput import Throughput
from carriers.base import Carrier, SendError, SendResult, Submission
from hermes import runtime
from hermes.domain import cascade as rules
from hermes.domain.commands import ControlCarrier
from hermes.domain.health import Breaker, CarrierHealth, CarrierState
from hermes.domain.message import rfc3339
from hermes.domain.quality import Quality
from hermes.domain.room import has_room
from hermes.domain.state import CATEGORIES
from hermes.logs import get_logger
from hermes.runtime import NO_REPLY, Actor, Reply
from hermes.runtime.fairqueue import Entry, FairQueue

log = get_logger("hermes.carrier")
logger = getLogger("hermes.carrier")  # asked for every answer: structlog's would cost a microsecond to say no

HIGH_WATER: Final = 0.9  # of queue_limit: new messages for this carrier are refused, but of who holds little of it
LOW_WATER: Final = 0.7
# A job that was asked for and waits longer for its cascade's word holds no other: longer than a commit takes while the
# database is being restarted, which must not change an order.
PASS_BY_S: Final = 30.0


class Pump:
    """To itself: there may be room again."""

    __slots__ = ()


PUMP: Final = Pump()


class _Held:
    """To itself: has a lane waited too long for this one?"""

    __slots__ = ("job",)

    def __init__(self, job: Job) -> None:
        self.job = job


class CarrierActor(Actor):
    """A carrier's queue and fitness. Subclasses say when there is room, and how a job is sent."""

    mailbox_limit = 100_000  # answers and hand-overs; the jobs waiting are bounded by the plan's queue_limit

    def __init__(self, context: Context, name: str) -> None:
        self._context = context
        self._name = name
        self._plan: CarrierPlan = context.carriers[name]
        self._carrier: Carrier = self._plan.carrier
        self._queue = FairQueue(CATEGORIES, self._plan.queue_limit)
        self._asked = Lanes()  # written ahead and not yet allowed, or behind such a one: each holds a place in flight
        self._watched: dict[Lane, Job] = {}  # whom a lane is held by, as a `_Held` under way says
        self._in_flight = 0
        self._pump_set = False
        self._retired = False
        self._drained: list[Reply] = []  # who waits for the last call to end
        self._sent = 0
        self._failed = 0
        self._last_error: str | None = None
        self._rate = Throughput()
        health = context.health.get(name)
        if health is None:  # an order or a stop outlives a crash of this actor
            breaker = Breaker(self._plan.breaker_failures, self._plan.breaker_open_s)
            health = context.health[name] = CarrierHealth(context.clock.now(), breaker)
        self._health = health
        self._quality = context.quality.setdefault(name, Quality())
        self._state: CarrierState = health.state(context.clock.monotonic())

    # --- what a subclass says -------------------------------------------------------------------------------------

    def _has_room(self) -> bool:
        """Tell whether one more job may leave now, its fitness apart."""
        raise NotImplementedError

    def _room_at(self) -> float | None:
        """Tell when the rate allows the next job (monotonic seconds); None when that is not what it waits for."""
        raise NotImplementedError

    def _send(self, job: Job) -> None:
        """Give the job to the carrier; `_answer` follows, once."""
        raise NotImplementedError

    async def _use(self, plan: CarrierPlan, reply: Reply) -> Any:
        """Serve another plan from now on; see `UseCarrier`."""
        raise NotImplementedError

    def _cancel(self, message: CancelSubmitted) -> None:
        """Ask the carrier to stop what it took."""

    def _leaving(self, job: Job) -> None:
        """A job leaves the queue: count it against the rate."""

    # --- mail -----------------------------------------------------------------------------------------------------

    def handle_call(self, request: Any, reply: Reply) -> Any:
        """Carry out an operator's order."""
        kind = type(request)
        if kind is UseCarrier:
            return self._use(request.plan, reply)
        if kind is Retire:
            return self._retire(reply)
        if kind is not ControlCarrier:
            raise TypeError(f"a carrier does not understand {kind.__name__}")
        health = self._health
        if request.order == "resume":
            health.order = None
            health.stopped = None
            health.breaker.succeeded()
        else:
            health.order = "paused" if request.order == "pause" else "draining"
        self._look_at_health()
        self._pump()
        return self.inspect()

    def handle(self, message: Any) -> None:
        """Take a job, or hear that one can go on, or is not wanted."""
        kind = type(message)
        if kind is Job:
            self._enqueue(message)
        elif kind is Pump:
            self._pump_set = False
            self._look_at_health()
            self._pump()
        elif kind is GoAhead:
            self._go_ahead(message.job)
        elif kind is WithdrawJob:
            self._withdraw(message.job)
        elif kind is _Held:
            self._held(message.job)
        elif kind is DropSuppressed:
            self._drop_suppressed()
        elif kind is CancelSubmitted:
            self._cancel(message)
        elif kind is ResumeSubmitted:
            self._carrier.resume(message.submission, message.carrier_message_ids, message.submitted_at)
        elif kind is HandoverEnded or kind is HeldBy or kind is GoOn:
            pass  # meant for the actor that this one followed: a courier, or the holder's dispatcher
        else:
            raise TypeError(f"a carrier does not understand {kind.__name__}")

    # --- changing what it serves ----------------------------------------------------------------------------------

    def _put_into_service(self, plan: CarrierPlan) -> None:
        """Go on with another plan: its carrier is open."""
        self._plan, self._carrier = plan, plan.carrier
        self._retired = False
        health = self._health
        health.breaker = Breaker(plan.breaker_failures, plan.breaker_open_s)
        health.stopped = health.away = health.unwell = None
        self._last_error = None
        self._look_at_health()
        self._pump()

    def _retire(self, reply: Reply) -> Any:
        """Give back what has not left, and answer once the last call has ended."""
        self._retired = True
        asked = self._asked.clear()
        self._count(-len(asked))
        for job in asked:
            job.cascade.send_system(NotTaken(job, at_once=True))
        self._give_back(at_once=True)
        self._drained.append(reply)
        self._tell_drained()
        return NO_REPLY

    def _tell_drained(self) -> None:
        if self._drained and not self._in_flight:
            drained, self._drained = self._drained, []
            for reply in drained:
                reply.ok(None)

    # --- the queue ------------------------------------------------------------------------------------------------

    def _enqueue(self, job: Job) -> None:
        if job.withdrawn:
            return
        if self._retired:
            job.cascade.send_system(NotTaken(job, at_once=True))
            return
        submission = job.submission
        if not self._queue and self._is_fit() and self._has_room():
            self._send_or_ask(job)
            return
        now = self._context.clock.monotonic()
        queue = self._queue
        key = f"{submission.tenant} {job.by}" if job.by else submission.tenant  # no worker's backlog holds up another's
        entry = None
        if has_room(queue.waiting(key), len(queue), queue.limit):
            entry = queue.put(key, submission.category, submission.segments or 1, job, now)
        if entry is None:
            job.cascade.send(NotTaken(job))
            return
        job.entry = entry
        if self._state != "up" and not job.write_ahead and not self._health.available(now):
            job.cascade.send_system(ChooseAgain(job))  # it became unfit while the job was on its way
        if len(queue) >= HIGH_WATER * self._plan.queue_limit:
            self._context.full_carriers.add(self._name)
        self._pump()

    def _is_fit(self) -> bool:
        """Tell whether what has not left yet may go now, room apart."""
        if self._context.draining or self._retired:
            return False
        return self._state == "up" or self._health.may_call(self._context.clock.monotonic())

    def _pump(self) -> None:
        """Let jobs go while there is room, and come back when the rate allows more."""
        queue = self._queue
        while queue and self._is_fit() and self._has_room():
            entry: Entry | None = queue.pop()
            if entry is None:
                break
            job = entry.item
            job.entry = None
            if not job.withdrawn:
                self._send_or_ask(job)
        if self._name in self._context.full_carriers and len(queue) < LOW_WATER * self._plan.queue_limit:
            self._context.full_carriers.discard(self._name)
        if not self._pump_set and not self._context.draining and self._has_work():
            self._set_pump()

    def _has_work(self) -> bool:
        """Tell whether something waits to be sent."""
        return bool(self._queue)

    def _set_pump(self) -> None:
        opened_at = self._health.breaker.opened_at
        until = self._room_at() if opened_at is None else opened_at + self._health.breaker.open_s
        now = self._context.clock.monotonic()
        if until is not None and until > now:
            self._pump_set = True
            self.send_after(until - now, PUMP, coarse=False)

    # --- health ---------------------------------------------------------------------------------------------------

    def _look_at_health(self) -> None:
        """After anything that may have changed it: note since when, and give back what another could send."""
        context = self._context
        now = context.clock.monotonic()
        state = self._health.state(now)
        if state == self._state:
            return
        was, self._state = self._state, state
        self._health.since = context.clock.now()
        log.warning("carrier state", carrier=self._name, state=state, was=was, reason=self._health.reason(now))
        if not self._health.available(now):
            self._offer_elsewhere()
            if self._health.breaker.opened_at is not None and not self._pump_set:
                self._set_pump()  # an open breaker half-opens by itself: look again then

    def _offer_elsewhere(self) -> None:
        """Let every job that has not left go to another carrier; who finds none stays in its place."""
        for entry in self._queue.entries():
            job: Job = entry.item
            job.cascade.send_system(ChooseAgain(job))

    def _give_back(self, *, at_once: bool) -> None:
        """Return every job that has not left."""
        while self._queue:
            entry = self._queue.pop()
            if entry is None:
                break
            job: Job = entry.item
            job.entry = None
            if not job.withdrawn:
                job.cascade.send_system(NotTaken(job, at_once))
        self._context.full_carriers.discard(self._name)

    def _drop_suppressed(self) -> None:
        """Give up what waits for a recipient who must not be written to any more."""
        for entry in self._queue.entries():
            job: Job = entry.item
            if self._is_suppressed(job):
                self._queue.remove(entry)
                job.entry = None

    def _is_suppressed(self, job: Job) -> bool:
        """Tell whether a job that has not left must not go any more; its cascade is told."""
        to = job.submission
        if job.withdrawn or not self._context.suppressions.blocks(to.tenant, to.channel, to.to, to.category):
            return False
        job.withdrawn = True
        job.cascade.send_system(NotWanted(job))
        return True

    def _learn(self, outcome: SendResult | BaseException) -> None:
        """Let an answer say how the carrier is."""
        health = self._health
        breaker = health.breaker
        error_class = outcome.error_class if isinstance(outcome, SendError) else ""
        now = self._context.clock.monotonic()
        if isinstance(outcome, SendResult):
            health.unwell = None
            if breaker.failures or breaker.opened_at is not None:
                breaker.succeeded()
        elif error_class == "throttled":
            breaker.said_nothing()
        elif error_class == "provider_auth":
            assert isinstance(outcome, SendError)
            health.stopped = f"provider_auth {outcome.code or ''}".strip()
            breaker.said_nothing()
        elif not isinstance(outcome, SendError) or outcome.ambiguous or error_class == "retryable_transient":
            breaker.failed(now)
        else:
            breaker.succeeded()
        if self._state != "up" or breaker.opened_at is not None or health.stopped is not None:
            self._look_at_health()

    # --- sending --------------------------------------------------------------------------------------------------

    def _withdraw(self, job: Job) -> None:
        if job.entry is not None:
            self._queue.remove(job.entry)
            job.entry = None
        elif job in self._asked:  # waiting for its write-ahead, which will not be asked for any more
            leaving = self._asked.remove(job)
            self._count(-1)
            self._let_go(leaving)

    def _send_or_ask(self, job: Job) -> None:
        self._leaving(job)
        if job.write_ahead:
            self._count(1)
            self._asked.add(job)
            submission = job.submission
            job.cascade.send(rules.Sending(submission.step, submission.attempt, self._name))
        elif self._asked and self._asked.holds(job):
            job.allowed = True
            self._count(1)
            self._asked.add(job)
            self._watch(lane_of(job))
        else:
            self._leave(job)

    def _go_ahead(self, job: Job) -> None:
        leaving = self._asked.allow(job)
        if leaving:
            self._let_go(leaving)
            self._watch(lane_of(job))

    def _let_go(self, jobs: list[Job]) -> None:
        for job in jobs:
            self._count(-1)
            if not job.withdrawn:
                self._leave(job)
        self._pump()

    def _watch(self, lane: Lane) -> None:
        """Come back if the first of a lane, which others wait for, hears nothing."""
        first = self._asked.first(lane)
        if first is not None and first is not self._watched.get(lane):
            self._watched[lane] = first
            self.send_after(PASS_BY_S, _Held(first))

    def _held(self, job: Job) -> None:
        lane = lane_of(job)
        if self._watched.get(lane) is job:
            del self._watched[lane]
        if self._asked.first(lane) is job:
            self._let_go(self._asked.pass_by(lane))
            self._watch(lane)

    def _leave(self, job: Job) -> None:
        job.allowed = job.left = True
        if self._state != "up":
            self._health.breaker.called(self._context.clock.monotonic())
        self._send(job)

    def _count(self, more: int) -> None:
        """Count what is in the carrier's hands; a node that stops waits for it."""
        self._in_flight += more
        self._context.in_flight += more
        if self._drained:
            self._tell_drained()

    def _answer(self, job: Job, outcome: SendResult | BaseException, carrier: Carrier | None = None) -> None:
        """Tell the cascade what happened; what it means is the cascade's business.

        `carrier` is who was asked, when it may be one that was replaced meanwhile.
        """
        carrier = carrier or self._carrier
        if carrier is self._carrier:  # a former one's answers say nothing of it
            self._learn(outcome)
        submission = job.submission
        step, attempt = submission.step, submission.attempt
        if logger.isEnabledFor(DEBUG):
            logger.debug("answer", extra={"actor": self.ref.name, "carrier": self._name, **_told(submission, outcome)})
        if isinstance(outcome, SendResult):
            self._sent += 1
            self._rate.count(self._context.clock.monotonic())
            if not job.by:  # whose receipts are counted where the message is
                self._watch_receipts(carrier, submission)
            segments = submission.segments
            cost = outcome.cost
            if cost is None:
                routes, now = self._context.routes, self._context.clock.now()
                cost = routes.price_to(self._name, submission.to, segments or 1, now)
                cost = cost or round(carrier.cost * (segments or 1), 6) or None
            self._tell(job, rules.Submitted(step, attempt, self._name, outcome.carrier_message_ids, segments, cost))
            return
        self._failed += 1
        if isinstance(outcome, SendError) and not outcome.ambiguous:
            self._last_error = f"{outcome.error_class} {outcome.code or ''}".strip()
            refused = rules.Refused(
                step,
                attempt,
                self._name,
                outcome.error_class,
                outcome.code,
                outcome.detail,
                outcome.retryable,
                outcome.retry_after_s,
            )
            self._tell(job, refused)
            return
        if isinstance(outcome, SendError):
            doubt = rules.InDoubt(step, attempt, self._name, outcome.error_class, outcome.code, outcome.detail)
        elif isinstance(outcome, TimeoutError):
            doubt = rules.InDoubt(step, attempt, self._name, "retryable_transient", None, "no answer in time")
        else:
            kind = type(outcome).__name__
            if not isinstance(outcome, asyncio.CancelledError):
                log.error("carrier raised what it should not", carrier=self._name, error=kind, exc_info=outcome)
            doubt = rules.InDoubt(step, attempt, self._name, "unknown", None, f"the carrier call failed: {kind}")
        self._last_error = doubt.detail
        self._tell(job, doubt)

    def _watch_receipts(self, carrier: Carrier, submission: Submission) -> None:
        """A message was taken: does the carrier still report on those before?"""
        quality = self._quality
        now = self._context.clock.monotonic()
        if carrier.reports(submission):
            quality.taken(now)
        if quality.fell_silent(now) and self._health.breaker.trip(now, "its receipts stopped coming"):
            quality.forgive_silence()
            self._look_at_health()

    def _tell(self, job: Job, answer: rules.Submitted | rules.Refused | rules.InDoubt) -> None:
        if job.cascade.send(answer) == runtime.SendResult.TERMINATED:  # a late answer, after the message was parked
            self._context.system.send("waker", Wake(job.submission.message_id, answer))

    # --- ending and showing ---------------------------------------------------------------------------------------

    def unserved(self, message: Any) -> None:
        """The actor ended before it looked at a job: its cascade tries again."""
        if type(message) is Job and not self._context.keeps(self._name, message):
            message.cascade.send_system(NotTaken(message))

    def _keep(self) -> None:
        """Leave what waits to the actor that follows in this one's place; what it never looked at is kept already."""
        kept: list[Job] = []
        while (entry := self._queue.pop()) is not None:
            job: Job = entry.item
            job.entry = None
            kept.append(job)
        self._context.kept[self._name] = kept + self._context.kept.get(self._name, [])
        self._context.full_carriers.discard(self._name)

    def _take_kept(self) -> None:
        """Take what the actor before kept, in its order."""
        for job in self._context.kept.pop(self._name, ()):
            if not self._is_suppressed(job):
                self._enqueue(job)

    def _give_back_all(self) -> None:
        """The actor ends: return what has not left."""
        for job in self._asked.clear():
            job.cascade.send(NotTaken(job))
        self._give_back(at_once=False)
        self._context.in_flight -= self._in_flight

    def log_facts(self) -> dict[str, str]:
        """Name the carrier."""
        return {"carrier": self._name}

    def inspect(self) -> dict[str, Any]:
        """Show the queue, the calls under way, its fitness, and the carrier's own view."""
        now = self._context.clock.monotonic()
        health = self._health
        oldest = self._queue.oldest_at()
        return {
            "carrier": self._name,
            "kind": self._carrier.kind,
            "channel": self._carrier.channel,
            "tenant": self._plan.tenant,
            "state": health.state(now),
            "since": rfc3339(health.since),
            "reason": health.reason(now),
            "breaker": health.breaker.state(now),
            "queue": len(self._queue),
            "queue_age_s": 0.0 if oldest is None else round(max(now - oldest, 0.0), 3),
            "in_flight": self._in_flight,
            "sent": self._sent,
            "failed": self._failed,
            "rate_per_s": self._rate.per_s(now),
            "last_error": self._last_error,
            **{key: value for key, value in self._carrier.inspect().items() if key != "state"},
        }


def _told(submission: Submission, outcome: SendResult | BaseException) -> dict[str, Any]:
    """Say in facts for the log what a carrier answered; no address and no text."""
    told: dict[str, Any] = {
        "message_id": submission.message_id,
        "tenant": submission.tenant,
        "step": submission.step,
        "attempt": submission.attempt,
    }
    if isinstance(outcome, SendResult):
        ids = outcome.carrier_message_ids
        return told | {"status": "submitted", "carrier_message_id": ids[0] if ids else None}
    if isinstance(outcome, SendError):
        status = "ambiguous" if outcome.ambiguous else "rejected"
        return told | {"status": status, "error_class": outcome.error_class, "code": outcome.code}
    return told | {"status": "ambiguous", "error_class": type(outcome).__name__}
