"""The tenant supervisor: admits a tenant's messages and keeps one cascade actor for each that is being worked on."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from actors.cascade import CascadeActor
from actors.context import Context
from actors.messages import Adopt, CancelMail, RescheduleMail, Settle, Wake
from actors.throughput import Throughput
from hermes.domain import cascade as rules
from hermes.domain.cascade import Cascade
from hermes.domain.commands import Admitted, CancelMessage, Refused, RescheduleMessage, Submit, SubmitAll
from hermes.domain.events import Event
from hermes.domain.room import has_room, holds_little
from hermes.journal.base import (
    Conflict,
    IdempotencyRecord,
    JournalAway,
    JournalError,
    QueueFull,
    Write,
)
from hermes.runtime import NO_REPLY, NORMAL, SHUTDOWN, ChildSpec, Reply, Restart, Strategy, Supervisor

RETRY_AFTER_S: Final = 1.0  # what a refused caller is asked to wait when Hermes itself has no room


class TenantSupervisor(Supervisor):
    """`tenant/<id>`: simple_one_for_one over `cascade/<message id>`, all temporary.

    Cascades are temporary because restart intensity is shared: a handful of poison messages must not take the tenant
    down. A crash is journaled and the message is resumed from the journal, with its own count.
    """

    kind = "TenantSupervisor"
    forgets_normal_ends = True
    mailbox_limit = 50_000  # submits under way; the gateway's connections bound them further

    def __init__(self, context: Context, tenant: str) -> None:
        super().__init__(
            Strategy.SIMPLE_ONE_FOR_ONE,
            [ChildSpec("cascade", partial(CascadeActor, context), restart=Restart.TEMPORARY)],
        )
        self._context = context
        self._tenant = tenant
        self._accepted = 0
        self._throughput = Throughput()
        self._crashes = 0

    def handle_call(self, request: Any, reply: Reply) -> Any:
        """Answer `Submit` with `Admitted` once committed, `SubmitAll` and what a customer wishes with None then."""
        if type(request) is Submit:
            self._submit(request, reply)
        elif type(request) is SubmitAll:
            left = _Left(len(request.submits), reply)
            for submit in request.submits:
                self._submit(submit, _Share(submit, left))
        elif type(request) is CancelMessage:
            self.system.send("waker", Wake(request.message_id, CancelMail(reply)))
        elif type(request) is RescheduleMessage:
            self.system.send("waker", Wake(request.message_id, RescheduleMail(reply, request.send_at)))
        elif type(request) is Settle:
            reply.ok(None)
        else:
            raise TypeError(f"a tenant does not understand {type(request).__name__}")
        return NO_REPLY

    def handle(self, message: Any) -> None:
        """Start cascades: `Adopt` for what the journal held, `_Admission` for what was just committed."""
        if type(message) is _Admission:
            self._start(message)
        elif type(message) is Adopt:
            self._adopt(message)
        else:
            raise TypeError(f"a tenant does not understand {type(message).__name__}")

    # --- admission ------------------------------------------------------------------------------------------------

    def _submit(self, submit: Submit, reply: Reply | _Share) -> None:
        context = self._context
        message = submit.message
        refusal = self._refusal(submit)
        if refusal is not None:
            context.metrics.refused.inc(refusal.code)
            reply.error(refusal)
            return
        state = Cascade(message)
        decision = rules.decide(state, rules.Begin(), message.created_at, partial(context.routes.candidates, message))
        for event in decision.events:
            rules.apply(state, event)
        idempotency = IdempotencyRecord(*submit.idempotency) if submit.idempotency is not None else None
        write = Write(message.message_id, self._tenant, decision.events, message, None, (), (), idempotency, None)
        if submit.accepted is not None:
            write.usage = (submit.accepted,)
        admission = _Admission(state, decision.events, decision.effects, reply)
        ref = self.ref

        def done(error: JournalError | None) -> None:
            admission.error = error
            ref.send_system(admission)

        try:
            context.journal.append(write, done, refusable=True)
        except QueueFull:
            self._refuse(reply, "overloaded", "the journal's queue is full")
        except JournalAway:
            self._refuse(reply, "journal_away", "the database is away")
        else:
            submit.withdraw = partial(context.journal.withdraw, write)

    def _refusal(self, submit: Submit) -> Refused | None:
        """Say why this message cannot be taken now, or None."""
        context = self._context
        message = submit.message
        if context.draining:
            return Refused("overloaded", "the node is stopping", retry_after_s=RETRY_AFTER_S)
        if not context.shards.owns(message.message_id):
            return Refused("overloaded", "the message's shard was given to another worker", retry_after_s=RETRY_AFTER_S)
        most = context.max_open_messages * context.shards.part
        if most and not has_room(context.open_of.get(self._tenant, 0), context.open_messages, most):
            return Refused("too_many_open", "too many messages are waiting for their end", retry_after_s=RETRY_AFTER_S)
        for n, step in enumerate(message.cascade):
            candidates = context.routes.candidates(message, n)
            if not candidates:
                return Refused("no_route", f"no carrier serves channel {step.channel}", field=f"cascade[{n}].channel")
            if n == 0 and context.full_carriers and all(self._fills(c.carrier) for c in candidates):
                return Refused(
                    "overloaded", f"the queues of channel {step.channel} are full", retry_after_s=RETRY_AFTER_S
                )
        return None

    def _fills(self, carrier: str) -> bool:
        """Tell whether a carrier's queue is nearly full, and this tenant holds its share of it."""
        context = self._context
        if carrier not in context.full_carriers:
            return False
        queue = context.queues.get(carrier)
        return queue is None or not holds_little(queue.waiting(self._tenant), len(queue), queue.limit)

    def _refuse(self, reply: Reply | _Share, code: str, detail: str) -> None:
        self._context.metrics.refused.inc(code)
        reply.error(Refused(code, detail, retry_after_s=RETRY_AFTER_S))

    def _start(self, admission: _Admission) -> None:
        error = admission.error
        if error is not None:
            if isinstance(error, Conflict):
                self._refuse(admission.reply, "idempotency_running", "another request with this key was first")
            else:
                self._refuse(admission.reply, "journal_away", "the message could not be stored")
            return
        state = admission.state
        self._accepted += 1
        context = self._context
        self._throughput.count(context.clock.monotonic())
        context.opened(self._tenant)
        context.metrics.accepted.inc()
        admission.reply.ok(Admitted(state.status))
        message = state.message
        told = context.tracer is None and (message.callback_url or context.directory.endpoints(self._tenant))
        events = admission.events if told else ()
        self.start_child(state, admission.effects, False, events, name="cascade/" + message.message_id)

    # --- bringing back, cancelling --------------------------------------------------------------------------------

    def _adopt(self, adopt: Adopt) -> None:
        stored = adopt.stored
        message = stored.message
        name = "cascade/" + message.message_id
        adopt.taken = True
        cascade = self.system.whereis(name)
        if cascade is None:
            parked = stored.due is not None
            state = rules.fold(message, stored.events)
            cascade = self.start_child(state, None, parked, name=name)
            if adopt.first is not None:
                cascade.send(adopt.first)
            cascade.send(rules.Recovered(rules.PARKED if parked else adopt.last_alive))
            cascade.send(rules.TimePassed())
        for mail in adopt.mail:
            cascade.send(mail)

    def child_ended(self, ref: Any, reason: Any) -> None:
        """A cascade that crashed is brought back from the journal, which counts the crash."""
        if reason is NORMAL or reason is SHUTDOWN or self._context.draining:
            return
        self._crashes += 1
        name = ref.name or ""
        detail = type(reason).__name__ if isinstance(reason, BaseException) else str(reason)
        self.system.send("waker", Wake(name.removeprefix("cascade/"), rules.Crashed(detail), delay_s=0.5))

    def log_facts(self) -> dict[str, str]:
        """Name the tenant."""
        return {"tenant": self._tenant}

    def inspect(self) -> dict[str, Any]:
        """Show what was admitted, at what rate, and what crashed."""
        return {
            "tenant": self._tenant,
            "accepted": self._accepted,
            "rate_per_s": self._throughput.per_s(self._context.clock.monotonic()),
            "cascade_crashes": self._crashes,
        }


class _Admission:
    """To itself: the journal has stored the message (or never will)."""

    __slots__ = ("effects", "error", "events", "reply", "state")

    def __init__(self, state: Cascade, events: list[Event], effects: list[rules.Effect], reply: Reply | _Share) -> None:
        self.state = state
        self.events = events
        self.effects = effects
        self.reply = reply
        self.error: JournalError | None = None


class _Left:
    """How many messages of a `SubmitAll` nobody knows the outcome of yet."""

    __slots__ = ("count", "reply")

    def __init__(self, count: int, reply: Reply) -> None:
        self.count = count
        self.reply = reply


class _Share:
    """The part of one message in the answer to a `SubmitAll`; takes the place of a `Reply`."""

    __slots__ = ("_left", "_submit")

    def __init__(self, submit: Submit, left: _Left) -> None:
        self._submit = submit
        self._left = left

    def ok(self, admitted: Admitted) -> None:
        self._settle(admitted)

    def error(self, refused: Refused) -> None:
        self._settle(refused)

    def _settle(self, outcome: Admitted | Refused) -> None:
        self._submit.outcome = outcome
        left = self._left
        left.count -= 1
        if not left.count:
            left.reply.ok(None)
