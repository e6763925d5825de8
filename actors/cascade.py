"""The cascade actor: one message's state and timer. The choice is pure (`hermes/domain/cascade.py`).

It takes an input, lets `decide` say what follows, journals the events and carries out the effects after the commit.
Inputs may come while a commit is under way: they are decided on the state so far, and the journal keeps the order.

When nothing is left to do but wait, the actor parks the message: it writes when to look at it next and ends.
The waker brings it back for a receipt, a cancel or its due time.

An attempt that waits long in a carrier's queue is noted in the journal as one that has not left (a due time in its
row, as for a parked message), and its carrier must then ask before it calls. So a crash leaves in doubt only what was
really in a carrier's hands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from logging import DEBUG, getLogger
from typing import Any, Final

from actors.agequeue import AgeQueue
from actors.cascade_counts import count_answer, count_event, count_final, judge
from actors.context import Context
from actors.messages import (
    CancelMail,
    CancelSubmitted,
    ChooseAgain,
    GoAhead,
    HandOver,
    Job,
    NotTaken,
    NotWanted,
    Overdue,
    ReceiptMail,
    RescheduleMail,
    ResumeSubmitted,
    Wake,
    WithdrawJob,
)
from actors.receipts import Unmatched, canonical
from actors.webhook_bodies import Body, body_now
from carriers.base import Submission
from hermes.domain import cascade as rules
from hermes.domain.cascade import Attempt, Cascade
from hermes.domain.commands import AlreadyBegun, AlreadyFinal, SuppressRecipient
from hermes.domain.erasure import erased, without_words
from hermes.domain.events import DEFAULT_WEBHOOK_TYPES, Event, webhook_type
from hermes.domain.message import Message, rfc3339
from hermes.domain.receipt import DeliveryReceipt
from hermes.domain.state import ADDRESS_FIELD
from hermes.domain.suppression import BOUNCED, COMPLAINT, INVALID_DESTINATION, OPTED_OUT
from hermes.domain.usage import UsageDelta, difference, usage_of
from hermes.journal.base import KEEP, CarrierRef, JournalError, OutboxEntry, Write
from hermes.runtime import SHUTDOWN, Actor, Reply, SendResult, Timer

logger = getLogger("hermes.cascade")  # asked for every event: structlog's would cost a microsecond to say no

RETRY_HAND_OVER_S: Final = 0.5  # a carrier's queue was full, or its actor is being restarted
# Why a message that only waits is parked no earlier: a receipt that comes soon then costs no read of the journal.
PARK_AT_LEAST_AHEAD_S: Final = 2.0  # nothing due sooner is parked
WAKE_AGAIN_S: Final = 0.5  # after its tenant ended under it
# The due time of the journal's note that an attempt has not left; a restart looks this far ahead (waker.py).
NOTED_FOR_S: Final = 60.0

Then = Callable[[JournalError | None], None]


class _Committed:
    """To itself: the journal has stored a write (or never will)."""

    __slots__ = ("effects", "error", "then")

    def __init__(self, effects: list[rules.Effect], then: Then | None) -> None:
        self.effects = effects
        self.then = then
        self.error: JournalError | None = None


class _Alarm:
    """To itself: the timer went off."""

    __slots__ = ()


class Forget:
    """To a cascade: its message was erased at this time."""

    __slots__ = ("at",)

    def __init__(self, at: datetime) -> None:
        self.at = at


_ALARM: Final = _Alarm()


class CascadeActor(Actor):
    """`cascade/<message id>`: walks one message through its steps.

    Args:
        state: the fold over the message's events so far; this actor owns it from now on.
        effects: to carry out first (the admission's), once; their events are stored.
        parked: the journal holds a due time for the message.
        events: all there are so far, where they are known and somebody is to be told how the message ends.
    """

    kind = "Cascade"
    __slots__ = (
        "_accepted_at",
        "_after",
        "_alarm_at",
        "_context",
        "_effects",
        "_expected",
        "_hand_over_at",
        "_handing_over",
        "_history",
        "_jobs",
        "_note_soon",
        "_noted_until",
        "_park_soon",
        "_parked",
        "_parking",
        "_pending",
        "_timer",
        "_waits_in",
        "state",
    )

    def __init__(
        self,
        context: Context,
        state: Cascade,
        effects: list[rules.Effect] | None = None,
        parked: bool = False,
        events: Sequence[Event] = (),
    ) -> None:
        self._context = context
        self.state = state
        self._effects = effects
        self._parked = parked
        self._history = list(events)  # all events from the first, or none
        self._parking = False
        self._park_soon = False  # once its writes are stored
        self._accepted_at: datetime | None = None  # where traces are made, and it was this process
        self._pending = 0  # writes not yet committed
        self._after: list[tuple[list[rules.Effect], Then | None]] = []  # to do once they are
        self._jobs: dict[tuple[int, int], Job] = {}
        self._expected: list[tuple[str, str]] = []
        self._timer: Timer | None = None
        self._alarm_at: float = 0.0
        self._hand_over_at: float | None = None  # monotonic; no attempt is handed to a carrier before
        self._waits_in: AgeQueue | None = None
        self._handing_over = False  # the message is to be another worker's
        self._note_soon = False
        self._noted_until = 0.0  # monotonic; until then the journal's note that nothing has left is good

    def init(self) -> None:
        """Carry out the admission's effects: their events are committed. A message brought back gets mail first."""
        self._context.active += 1
        effects, self._effects = self._effects, None
        if effects is not None:
            if self._context.tracer is not None:
                self._accepted_at = self._context.clock.now()
            self._perform(effects)
            self._settle()

    # --- mail -----------------------------------------------------------------------------------------------------

    def handle(self, message: Any) -> None:
        """Take one input."""
        kind = type(message)
        if kind is _Committed:
            self._committed(message)
        elif kind is rules.Submitted:
            self._jobs.pop((message.step, message.attempt), None)
            self._on_submitted(message)
        elif kind is ReceiptMail:
            self._on_receipt(message)
        elif kind is _Alarm:
            self._timer = None
            self._on_alarm()
        elif kind is rules.Refused or kind is rules.InDoubt:
            self._jobs.pop((message.step, message.attempt), None)
            a = self.state.find(message.step, message.attempt)
            if a is not None:
                a.left = False
            count_answer(self._context, self.state, message)
            self._learn_of_recipient(message.step, message.attempt, message.error_class)
            self._take(message)
        elif kind is NotTaken:
            self._on_not_taken(message)
        elif kind is ChooseAgain:
            self._on_choose_again(message.job)
        elif kind is NotWanted:
            submission = message.job.submission
            if self._jobs.pop((submission.step, submission.attempt), None) is not None:
                self._do_not_contact(submission.step, submission.attempt)
        elif kind is rules.Sending:
            self._on_sending(message)
        elif kind is Overdue:
            self._on_overdue()
        elif kind is Forget:
            self.state.message = erased(self.state.message, message.at)
        elif kind is HandOver:
            self._handing_over = True
        elif kind is CancelMail:
            self._ask(message.reply, rules.Cancel())
        elif kind is RescheduleMail:
            if self.state.open and not self.state.movable:
                message.reply.error(AlreadyBegun("the message waits for no time"))
            else:
                self._ask(message.reply, rules.Reschedule(message.send_at))
        else:  # Recovered, TimePassed, Crashed
            self._take(message)
        self._settle()

    # --- deciding -------------------------------------------------------------------------------------------------

    def _route(self, step: int) -> Any:
        return self._context.routes.candidates(self.state.message, step)

    def _take(
        self, input: rules.Input, then: Then | None = None, refs: tuple[CarrierRef, ...] | list[CarrierRef] = ()
    ) -> None:
        """Decide, take the facts in, journal them; effects and `then` follow the commit."""
        state = self.state
        if self._jobs:
            self._note_what_left()
        decision = rules.decide(state, input, self._context.clock.now(), self._route)
        events = decision.events
        if events:
            was_open = state.open
            counted, counted_as = {} if was_open else usage_of(state), state.status
            erased, debug = state.message.erased_at is not None, logger.isEnabledFor(DEBUG)
            for event in events:
                if erased:
                    event.data = without_words(event.data)
                if event.type == "fallback" or event.type == "timed_out":
                    count_event(self._context, state, event)
                if debug:
                    logger.debug("event", extra={"type": event.type, "step": event.step, "attempt": event.attempt})
                rules.apply(state, event)
                if self._history:
                    self._history.append(event)
                if event.type == "ambiguous":
                    refs = [*refs, *self._doubtful_refs(event)]
            usage = () if state.open else difference(state, counted, counted_as)
            self._append(events, refs, decision.effects, then, closes=was_open and not state.open, usage=usage)
        elif decision.effects and self._parked:
            self._append((), (), decision.effects, then)  # no carrier is called for a message that is parked
        elif self._pending:
            if decision.effects or then is not None:
                self._after.append((decision.effects, then))
        else:
            self._perform(decision.effects)
            if then is not None:
                then(None)

    def _note_what_left(self) -> None:
        for key, job in self._jobs.items():
            if job.left:
                attempt = self.state.find(*key)
                if attempt is not None:
                    attempt.left = True

    def _doubtful_refs(self, event: Event) -> list[CarrierRef]:
        """By what a receipt finds an attempt of which nobody knows the carrier's id (rule 9, policy never)."""
        attempt = self.state.find(event.step or 0, event.attempt or 0)
        if attempt is None or attempt.policy != "never":
            return []
        plan = self._context.carriers.get(attempt.carrier)
        about = None if plan is None else plan.carrier.about(self._submission(attempt))
        if about is None:
            return []
        return [CarrierRef(attempt.carrier, about, attempt.step, attempt.attempt, 0)]

    def _append(
        self,
        events: list[Event] | tuple[()],
        refs: Any,
        effects: list[rules.Effect],
        then: Then | None,
        closes: bool = False,
        usage: Sequence[UsageDelta] = (),
    ) -> None:
        state = self.state
        message = state.message
        status = None
        if events and not state.open:
            last = events[-1].type
            if closes or last == "corrected":
                status = state.status
        due: Any = KEEP
        if self._parked and status is None and state.open:
            due = None
            self._parked = False
        outbox = self._outbox(message, events) if events else ()
        self._write(
            Write(message.message_id, message.tenant, events, None, status, refs, outbox, None, due, usage),
            effects,
            then,
            self._body(outbox) if closes and outbox else None,
        )
        if closes:
            count_final(self._context, state, self._accepted_at)

    def _body(self, outbox: Sequence[OutboxEntry]) -> Body | None:
        """Make what customers are sent of the message's end, so that it need not be read back for it."""
        history, self._history = self._history, []
        return body_now(self.state, history, outbox) if history else None

    def _write(self, write: Write, effects: list[rules.Effect], then: Then | None, body: Body | None = None) -> None:
        """Journal a write; its effects and `then` follow the commit, from the mailbox."""
        committed = _Committed(effects, then)
        self._pending += 1
        ref = self.ref

        def done(error: JournalError | None) -> None:
            if error is None and not effects and then is None and self._awaits_no_commit():
                self._pending -= 1  # nobody waits for it: no turn is spent on hearing it
            else:
                committed.error = error
                ref.send_system(committed)
            if write.outbox and error is None:
                if body is not None and self.state.message.erased_at is None:
                    self._context.bodies.put(write.message_id, write.outbox[-1].seq, body)
                self._context.webhook_due(write.tenant, write.message_id, list(write.outbox))

        self._context.journal.append(write, done)

    def _awaits_no_commit(self) -> bool:
        """Tell whether nothing is held back until its writes are stored."""
        return self.state.open and not (
            self._after or self._handing_over or self._note_soon or self._park_soon or self._parking
        )

    def _write_due(self, due: datetime, then: Then | None) -> None:
        """Write when to look at the message next: as parked, or as one that has not left."""
        message = self.state.message
        self._parked = True
        self._write(Write(message.message_id, message.tenant, (), due=due), [], then)

    def _outbox(self, message: Message, events: list[Event] | tuple[()]) -> tuple[OutboxEntry, ...] | list[OutboxEntry]:
        """Say which customer webhooks these events cause: one per (seq, target)."""
        context = self._context
        endpoints = context.directory.endpoints(message.tenant)
        if message.callback_url is None and not endpoints:
            return ()
        entries: list[OutboxEntry] = []
        for event in events:
            type_ = webhook_type(event)
            if type_ is None:
                continue
            if message.callback_url is not None and type_ in DEFAULT_WEBHOOK_TYPES:
                entries.append(OutboxEntry(event.seq, "callback", type_, event.at))
            for endpoint in endpoints:
                if endpoint.disabled_at is None and type_ in (endpoint.events or DEFAULT_WEBHOOK_TYPES):
                    entries.append(OutboxEntry(event.seq, endpoint.id, type_, event.at))
        return entries

    def _committed(self, committed: _Committed) -> None:
        self._pending -= 1
        error = committed.error
        if error is not None:
            # Fenced: the node is stopping. Conflict or refused: what this actor believes is not what is stored;
            # it ends, and its supervisor has the message read back from the journal.
            if committed.then is not None:
                committed.then(error)
            for _, then in self._after:
                if then is not None:
                    then(error)
            raise error
        self._perform(committed.effects)
        if committed.then is not None:
            committed.then(None)
        if not self._pending and self._after:
            after, self._after = self._after, []
            for effects, then in after:
                self._perform(effects)
                if then is not None:
                    then(None)

    # --- inputs that need more than a decision ----------------------------------------------------------------------

    def _on_submitted(self, answer: rules.Submitted) -> None:
        ids = answer.carrier_message_ids
        refs: list[CarrierRef] = []
        early: list[tuple[int, Unmatched]] = []
        for n, carrier_message_id in enumerate(ids):
            key = (answer.carrier, canonical(carrier_message_id))
            refs.append(CarrierRef(key[0], key[1], answer.step, answer.attempt, n))
            self._expected.append(key)
            for unmatched in self._context.receipts.expect(key, self.ref, answer.step, answer.attempt, n):
                early.append((n, unmatched))
        self._context.metrics.attempts.inc(answer.carrier, "submitted")
        self._take(answer, None, refs)
        for n, unmatched in early:
            receipt = unmatched.mail.receipt
            self._take_receipt(receipt, answer.step, answer.attempt, n, partial(self._drop, unmatched))

    def _drop(self, unmatched: Unmatched, error: JournalError | None) -> None:
        """An early receipt is in the message's events: its parked row has done its duty."""
        if error is None and unmatched.row is not None:
            self._context.receipts_done(unmatched.row)

    def _on_receipt(self, mail: ReceiptMail) -> None:
        assert mail.target is not None
        step, attempt, segment = mail.target
        stored = mail.stored
        then = None if stored is None else (lambda error: stored(error is None))
        receipt = mail.receipt
        if receipt.error_class is not None or receipt.status == "undelivered":
            self._learn_of_recipient(step, attempt, receipt.error_class, receipt)
        self._take_receipt(receipt, step, attempt, segment, then)

    def _take_receipt(self, receipt: DeliveryReceipt, step: int, attempt: int, segment: int, then: Then | None) -> None:
        """Take a receipt, and count what it was to the message."""
        state = self.state
        a = state.find(step, attempt)
        was = None if a is None else a.status
        ended = not state.open
        over = not state.open or step != state.step or was == "timed_out" or was == "superseded"
        seq = state.seq
        self._take(_receipt_input(receipt, step, attempt, segment), then)
        metrics = self._context.metrics
        metrics.receipts.inc(receipt.carrier, "duplicate" if state.seq == seq else "late" if over else "matched")
        if a is not None and a.status != was:
            metrics.attempts.inc(a.carrier, a.status)
            judge(self._context, a, receipt.error_class)
        tracer = self._context.tracer
        if tracer is not None and ended:
            now = self._context.clock.now()
            tracer.receipt(state.message, step, attempt, receipt.carrier, receipt.status, now)

    def _do_not_contact(self, step: int, attempt: int) -> None:
        """The attempt may not leave: its recipient must not be written to on this channel (rule 2)."""
        a = self.state.find(step, attempt)
        if a is not None:
            a.dispatched = False
            why = "the recipient must not be written to on this channel"
            self._take(rules.Refused(step, attempt, a.carrier, rules.BLOCKED, "do_not_contact", why))

    def _learn_of_recipient(
        self, step: int, attempt: int, error_class: str | None, receipt: DeliveryReceipt | None = None
    ) -> None:
        """What a carrier says of the recipient for good goes on the tenant's do-not-contact list.

        A device token that does not exist, a complaint, and a bounce of an e-mail that had counted as delivered.
        Mock carriers play: what they say is of nobody.
        """
        a = self.state.find(step, attempt)
        plan = None if a is None else self._context.carriers.get(a.carrier)
        if a is None or plan is None or plan.carrier.kind == "mock":
            return
        if receipt is None or receipt.status == "undelivered":
            if error_class == "invalid_destination" and a.channel == "push":
                reason = INVALID_DESTINATION
            elif receipt is not None and a.channel == "email" and a.status in ("delivered", "read"):
                reason = BOUNCED
            else:
                return
        elif error_class == rules.BLOCKED:
            reason = COMPLAINT if receipt.error_detail == "complaint" else OPTED_OUT
        else:
            return
        message = self.state.message
        to = message.to.get(ADDRESS_FIELD[a.channel])
        if to is None:
            return  # it was erased
        self._context.system.send("suppressions", SuppressRecipient(message.tenant, a.channel, to, reason))

    def _ask(self, reply: Reply, wish: rules.Input) -> None:
        """Take what the customer wants; the answer comes once it is stored."""
        if not self.state.open:
            reply.error(AlreadyFinal(self.state.status))
            return

        def stored(error: JournalError | None) -> None:
            if error is None:
                reply.ok(None)
            else:
                reply.error(error)

        self._take(wish, stored)

    def _on_not_taken(self, message: NotTaken) -> None:
        submission = message.job.submission
        key = (submission.step, submission.attempt)
        if self._jobs.pop(key, None) is None:
            return
        attempt = self.state.find(*key)
        if attempt is None:
            return
        attempt.dispatched = False
        attempt.left = False
        if message.at_once:
            self._dispatch(attempt)
        else:
            self._hold_hand_over()

    def _on_choose_again(self, job: Job) -> None:
        """Its carrier became unfit: move what has not left to one that is fit, or have it noted where it waits."""
        key = (job.submission.step, job.submission.attempt)
        attempt = self.state.find(*key)
        if attempt is None or self._jobs.get(key) is not job or job.left or attempt.status != "queued":
            return
        unfit = attempt.carrier
        self._choose_again(attempt)
        if attempt.carrier == unfit:
            self._note_soon = True
            return
        job.withdrawn = True
        del self._jobs[key]
        self._tell_carrier(unfit, WithdrawJob(job))
        attempt.dispatched = False
        self._dispatch(attempt)

    def _on_sending(self, message: rules.Sending) -> None:
        """A carrier asks before it calls: write it ahead (policy never), or take back the note that it has not left."""
        attempt = self.state.find(message.step, message.attempt)
        if attempt is None or (attempt.policy == "never" and not attempt.sending):
            self._take(message)
        elif (
            attempt.status == "queued" and self.state.open and not attempt.left
        ):  # written ahead: it did not leave then
            go: list[rules.Effect] = [rules.CallCarrier(attempt.step, attempt.attempt)]
            if self._parked:
                self._append((), (), go, None)
            elif self._pending:
                self._after.append((go, None))
            else:
                self._perform(go)

    def _note_not_left(self) -> None:
        """Tell the journal that what is queued has not left; from now on its carrier asks before it calls."""
        jobs = self._jobs.values()
        if self._pending or not self._has_queued() or any(job.allowed for job in jobs):
            return
        now = self._context.clock.monotonic()
        if self._parked and now < self._noted_until - NOTED_FOR_S / 2:
            return
        for job in jobs:
            job.write_ahead = True
        self._noted_until = now + NOTED_FOR_S
        noted_until = self._context.clock.now() + timedelta(seconds=NOTED_FOR_S)
        self._write_due(min(noted_until, self.state.message.expires_at), None)

    def _has_queued(self) -> bool:
        """True while an attempt that may go now waits for its carrier."""
        now = self._context.clock.now()
        return any(
            a.status == "queued" and (a.dispatched or a.not_before is None or a.not_before <= now)
            for a in self.state.attempts
        )

    def _on_alarm(self) -> None:
        self._hand_over_at = None
        self._note_not_left()
        now = self._context.clock.now()
        due = self.state.due()
        if due is not None and due <= now:
            self._context.metrics.timer_late_seconds.observe((now - due).total_seconds())
            self._take(rules.TimePassed())

    def _on_overdue(self) -> None:
        """It has waited long: for its carrier, which the journal should know of, or for anything, outside memory."""
        self._waits_in = None
        if self._jobs:
            self._note_not_left()
        elif self._pending:
            self._park_soon = True
        else:
            self._park_if_idle()

    # --- effects ------------------------------------------------------------------------------------------------------

    def _perform(self, effects: list[rules.Effect]) -> None:
        for effect in effects:
            kind = type(effect)
            attempt = self.state.find(effect.step, effect.attempt)
            if attempt is None:
                continue
            if kind is rules.Dispatch:
                self._dispatch(attempt)
            elif kind is rules.CallCarrier:
                job = self._jobs.get((attempt.step, attempt.attempt))
                if job is not None:
                    job.allowed = True
                    self._tell_carrier(attempt.carrier, GoAhead(job))
            elif kind is rules.Withdraw:
                job = self._jobs.get((attempt.step, attempt.attempt))
                if job is not None and not job.left:  # one that left meanwhile is still waited for
                    job.withdrawn = True
                    del self._jobs[(attempt.step, attempt.attempt)]
                    self._tell_carrier(attempt.carrier, WithdrawJob(job))
            elif kind is rules.CancelAtCarrier:
                if attempt.carrier_message_ids:
                    self._cancel_at_carrier(attempt)
            elif attempt.submitted_at is not None:  # Resume
                self._resume(attempt)

    def _cancel_at_carrier(self, attempt: Attempt) -> None:
        ids = tuple(attempt.carrier_message_ids)
        self._tell_carrier(attempt.carrier, CancelSubmitted(self._submission(attempt), ids))

    def _dispatch(self, attempt: Attempt) -> None:
        """Hand an attempt to its carrier's actor, unless it is no longer wanted."""
        if attempt.status != "queued" or attempt.dispatched or not self.state.open:
            return
        if self._context.draining or self._handing_over:
            self._hold_hand_over()  # it is not for this process to send; the journal will say that it did not leave
            return
        message = self.state.message
        to = message.to[ADDRESS_FIELD[attempt.channel]]
        if self._context.suppressions.blocks(message.tenant, attempt.channel, to, message.category):
            self._do_not_contact(attempt.step, attempt.attempt)
            return
        self._choose_again(attempt)
        if attempt.carrier not in self._context.carriers:
            gone = "this carrier is not set any more"
            self._take(rules.Refused(attempt.step, attempt.attempt, attempt.carrier, "provider_config", None, gone))
            return
        health = self._context.health.get(attempt.carrier)
        unfit = health is not None and not health.available(self._context.clock.monotonic())
        self._note_soon = unfit  # nobody else is left: it waits there, and the journal is told at once
        job = Job(
            self._submission(attempt), self.ref, unfit or attempt.policy == "never", once=attempt.policy == "never"
        )
        told = self._tell_carrier(attempt.carrier, job)
        if told == SendResult.DELIVERED or self._context.keeps(attempt.carrier, job):
            attempt.dispatched = True
            self._jobs[(attempt.step, attempt.attempt)] = job
        else:
            self._hold_hand_over()

    def _hold_hand_over(self) -> None:
        """Nobody takes it now: try again in a moment, not at once."""
        self._hand_over_at = self._context.clock.monotonic() + RETRY_HAND_OVER_S

    def _choose_again(self, attempt: Attempt) -> None:
        """What has certainly not left moves to another carrier when its own is not fit and another is."""
        context = self._context
        health = context.health.get(attempt.carrier)
        fit = health is None or health.available(context.clock.monotonic())
        if fit and attempt.carrier in context.carriers and attempt.carrier not in context.full_carriers:
            return
        out = {
            a.carrier
            for a in self.state.attempts
            if a.step == attempt.step and a.error is not None and a.error["class"] in rules.CARRIER_IS_OUT
        }
        for candidate in self._route(attempt.step):
            if candidate.carrier not in out:
                attempt.carrier = candidate.carrier
                return

    def _tell_carrier(self, carrier: str, message: object) -> SendResult:
        plan = self._context.carriers.get(carrier)
        return SendResult.UNKNOWN if plan is None else self._context.system.send(plan.actor, message)

    def _resume(self, attempt: Attempt) -> None:
        """Wait again for the receipts of an attempt that was submitted before this actor began."""
        for n, carrier_message_id in enumerate(attempt.carrier_message_ids):
            key = (attempt.carrier, canonical(carrier_message_id))
            self._expected.append(key)
            for unmatched in self._context.receipts.expect(key, self.ref, attempt.step, attempt.attempt, n):
                receipt = unmatched.mail.receipt
                self._take(_receipt_input(receipt, attempt.step, attempt.attempt, n), partial(self._drop, unmatched))
        if attempt.submitted_at is not None and attempt.status not in ("delivered", "read", "undelivered"):
            self._tell_carrier(
                attempt.carrier,
                ResumeSubmitted(self._submission(attempt), tuple(attempt.carrier_message_ids), attempt.submitted_at),
            )

    def _submission(self, attempt: Attempt) -> Submission:
        message = self.state.message
        channel = attempt.channel
        is_sms = channel == "sms"
        tracer = self._context.tracer
        return Submission(
            message.message_id,
            message.tenant,
            attempt.step,
            attempt.attempt,
            channel,
            message.to.get(ADDRESS_FIELD[channel], ""),  # erased: it is asked about what it took, nothing is sent
            message.sender.get(channel),
            message.content.for_channel(channel),
            message.category,
            message.expires_at,
            f"{message.message_id}.{attempt.step}",
            message.segments if is_sms else None,
            message.encoding if is_sms else None,
            tracer.attempt_parent(message, attempt.step, attempt.attempt) if tracer is not None else None,
        )

    # --- waiting, parking, ending -------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """After every input: end, or see to it that it is looked at again when something is due."""
        state = self.state
        if not state.open:
            if not self._pending and not self._parking and not self._jobs:
                self._leave()
            return
        if self._parking:
            return
        if not self._pending:
            if self._handing_over:
                self._hand_over()
                return
            if self._note_soon:
                self._note_soon = False
                self._note_not_left()
            if self._park_soon:
                self._park_soon = False
                self._park_if_idle()
        if self._parking or self._park_soon:
            return
        wait_s = self._wait_s()
        if self._jobs and self._parked:
            self._wait_in(None)
            self._arm(min(wait_s, NOTED_FOR_S / 2))  # the note must be renewed
            return
        queue = self._context.handed if self._jobs else self._context.lingering
        if self._waits_in is not queue:
            self._wait_in(queue)
        if wait_s <= queue.limit_s:  # else it hears first that it waits long
            self._arm(wait_s)

    def _wait_s(self) -> float:
        """Tell in how many seconds an open message must be looked at, should nothing else happen."""
        context = self._context
        due = self.state.due() or self.state.message.expires_at
        wait_s = (due - context.clock.now()).total_seconds()
        if self._hand_over_at is not None:
            wait_s = max(wait_s, self._hand_over_at - context.clock.monotonic())
        return wait_s

    def _wait_in(self, queue: AgeQueue | None) -> None:
        if self._waits_in is not None:
            self._waits_in.leave(self.ref)
        self._waits_in = queue
        if queue is not None:
            queue.join(self.ref)

    def _arm(self, wait_s: float) -> None:
        """Let the timer go off in `wait_s` seconds, or earlier if it is set already."""
        at = self._context.clock.monotonic() + (wait_s if wait_s > 0 else 0.0)
        if self._timer is not None:
            if self._alarm_at <= at + 0.001:
                return
            self._timer.cancel()
        self._alarm_at = at
        self._timer = self.send_after(wait_s if wait_s > 0 else 0.0, _ALARM)

    def _park_if_idle(self) -> None:
        """Write when to look again, and end; unless something is under way or due soon."""
        if self._pending or self._jobs or self._parking or not self.state.open:
            return
        due = self._park_until()
        now = self._context.clock.now()
        if due is None or (due - now).total_seconds() < PARK_AT_LEAST_AHEAD_S:
            return
        self._parking = True
        self._write_due(due, self._parked_now)

    def _hand_over(self) -> None:
        """Take back what has not left; once nothing is in a carrier's hands, write when to look again, and end."""
        for at, job in list(self._jobs.items()):
            if job.left:
                continue
            job.withdrawn = True
            del self._jobs[at]
            attempt = self.state.find(*at)
            if attempt is not None:
                attempt.dispatched = False
                self._tell_carrier(attempt.carrier, WithdrawJob(job))
        if not self._jobs:
            self._parking = True
            self._write_due(self._park_until() or self._context.clock.now(), self._parked_now)

    def _parked_now(self, error: JournalError | None) -> None:
        self._parking = error is None and not self._pending and not self._after and self._leave()

    def _leave(self) -> bool:
        """End, unless there is mail: what is in the mailbox of an actor that ends is lost."""
        leaves = not self.ref.mailbox
        if leaves:
            self.stop()
        return leaves

    def _park_until(self) -> datetime | None:
        """The next moment something must be done: a due time, or a receipt that must be asked for."""
        due = self.state.due()
        for attempt in self.state.attempts:
            if attempt.submitted_at is not None and attempt.status in ("submitted", "timed_out"):
                plan = self._context.carriers.get(attempt.carrier)
                if plan is not None:
                    at = plan.carrier.awaits_receipt_at(self._submission(attempt), attempt.submitted_at)
                    if at is not None and (due is None or at < due):
                        due = at
        return due

    def terminate(self, reason: Any) -> None:
        """Leave the memory tidy. At a shutdown, tell the journal what certainly did not leave."""
        context = self._context
        context.active -= 1
        self._wait_in(None)
        for key in self._expected:
            context.receipts.forget(key, self.ref)
        if reason is SHUTDOWN and self.state.open and not self._parked:
            for at, job in self._jobs.items():
                job.withdrawn = True
                attempt = self.state.find(*at)
                if attempt is not None:
                    attempt.dispatched = False
            if not any(job.left for job in self._jobs.values()):
                due = self._park_until() or context.clock.now()
                message = self.state.message
                context.journal.append(Write(message.message_id, message.tenant, (), due=due))
            elif not context.draining:  # its tenant is restarted: what is in a carrier's hands is in doubt
                self.system.send("waker", Wake(self.state.message.message_id, delay_s=WAKE_AGAIN_S))

    def log_facts(self) -> dict[str, str]:
        """Name the message and its tenant."""
        message = self.state.message
        return {"message_id": message.message_id, "tenant": message.tenant}

    def inspect(self) -> dict[str, Any]:
        """Show where the message stands; no address and no text."""
        state = self.state
        due = state.due()
        return {
            "tenant": state.message.tenant,
            "status": state.status,
            "step": state.step,
            "attempts": [
                {"step": a.step, "attempt": a.attempt, "carrier": a.carrier, "status": a.status} for a in state.attempts
            ],
            "due": None if due is None else rfc3339(due),
            "writes_pending": self._pending,
        }


def _receipt_input(receipt: DeliveryReceipt, step: int, attempt: int, segment: int) -> rules.Receipt:
    return rules.Receipt(
        step,
        attempt,
        segment,
        receipt.carrier_message_id,
        receipt.status,
        receipt.error_class,
        receipt.error_code,
        receipt.error_detail,
        receipt.at,
        receipt.cost,
    )
