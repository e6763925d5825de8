"""A small world around one cascade: an actor, a journal that commits later, carriers, receipts, and crashes.

The actor does what `actors/cascade.py` does: it decides on the state so far, takes the events in, queues the
write, and carries out the effects once the write is committed. A crash loses what was not committed and what
only the process knew. What is checked here is checked after every single step.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hermes.domain.cascade import (
    BLOCKED,
    MAX_TRIES,
    PARKED,
    Begin,
    CallCarrier,
    CancelAtCarrier,
    Candidate,
    Cascade,
    Crashed,
    Dispatch,
    Effect,
    InDoubt,
    Input,
    Receipt,
    Recovered,
    Refused,
    Resume,
    Sending,
    Submitted,
    TimePassed,
    Withdraw,
    apply,
    decide,
    fold,
)
from hermes.domain.events import INTERNAL_EVENTS, Event
from hermes.domain.message import Content, Message, Step
from hermes.domain.state import CORRECTABLE_STATUSES, FINAL_STATUSES
from hermes.domain.view import public_message

START = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
MESSAGE_ID = "msg_01KQSJ2R000000000000000000"


def message(
    *steps: Step | str,
    expires_in_s: float = 600.0,
    send_in_s: float | None = None,
    on_ambiguous: str | None = None,
    segments: int | None = 1,
) -> Message:
    send_at = None if send_in_s is None else START + timedelta(seconds=send_in_s)
    return Message(
        message_id=MESSAGE_ID,
        tenant="ten_1",
        to={"phone": "+4520123456", "email": "a@example.com", "push": "tok", "whatsapp": "+4520123456"},
        cascade=tuple(Step(s, 60.0, "delivered") if isinstance(s, str) else s for s in steps),
        content=Content(text="hi"),
        created_at=START,
        expires_at=(send_at or START) + timedelta(seconds=expires_in_s),
        send_at=send_at,
        on_ambiguous=on_ambiguous,
        segments=segments,
    )


def through_json(events: Sequence[Event]) -> list[Event]:
    """Write events to JSON and read them back, as the journal does."""
    return [Event(e.seq, e.at, e.type, e.step, e.attempt, json.loads(json.dumps(e.data))) for e in events]


@dataclass(eq=False)
class Job:
    """An attempt in a carrier's queue."""

    step: int
    attempt: int
    carrier: str
    never: bool
    left: bool = False
    withdrawn: bool = False
    asked: bool = False  # for the go-ahead, under never
    may_go: bool = False


@dataclass
class PendingWrite:
    events: list[Event]
    effects: list[Effect]
    receipt: Receipt | None = None


@dataclass
class World:
    """One message's life. `calls` and `refusals` are the carriers' truth, whatever the cascade believes."""

    message: Message
    routes: list[list[Candidate]]
    now: datetime = START
    journal: list[Event] = field(default_factory=list)
    pending: list[PendingWrite] = field(default_factory=list)
    queue: list[Job] = field(default_factory=list)  # the carriers'; outlives the actor, not the process
    jobs: dict[tuple[int, int], Job] = field(default_factory=dict)  # the actor's
    calls: Counter[tuple[int, int]] = field(default_factory=Counter)
    refusals: set[tuple[int, int]] = field(default_factory=set)
    cancels: list[tuple[int, int]] = field(default_factory=list)
    resumed: list[tuple[int, int]] = field(default_factory=list)
    lost_receipts: list[Receipt] = field(default_factory=list)  # not acknowledged: the carrier sends them again
    idle_turns: int = 0

    def __post_init__(self) -> None:
        self.state = Cascade(self.message)

    def route(self, step: int) -> list[Candidate]:
        return self.routes[step]

    @property
    def events(self) -> list[Event]:
        return self.journal + [e for w in self.pending for e in w.events]

    # --- the actor ---

    def take(self, input: Input) -> list[Effect]:
        state = self.state
        for key, job in self.jobs.items():
            if job.left and (a := state.find(*key)) is not None:
                a.left = True
        before = fold(self.message, self.events)
        was_open = state.open
        called = set(self.calls)
        step, deadline, begun = state.step, state.deadline(), state.seq > 0
        decision = decide(state, input, self.now, self.route)
        assert state == before, "decide changed the state"
        for event in decision.events:
            apply(state, event)
            if begun and "next" in event.data and event.data["next"]["step"] == step:
                assert self.now < deadline, "tried again after the step's time"
        self.pending.append(
            PendingWrite(decision.events, decision.effects, input if isinstance(input, Receipt) else None)
        )
        self.check(was_open, decision.events, decision.effects, called)
        return decision.effects

    def commit(self) -> None:
        if self.pending:
            write = self.pending.pop(0)
            self.journal += write.events
            for effect in write.effects:
                self.perform(effect)

    def commit_all(self) -> None:
        while self.pending:
            self.commit()

    def perform(self, effect: Effect) -> None:
        a = self.state.find(effect.step, effect.attempt)
        if a is None:
            return
        key = (a.step, a.attempt)
        if isinstance(effect, Dispatch):
            if a.status == "queued" and not a.dispatched and self.state.open:
                a.dispatched = True
                job = Job(a.step, a.attempt, a.carrier, a.policy == "never")
                self.jobs[key] = job
                self.queue.append(job)
        elif isinstance(effect, CallCarrier):
            if key in self.jobs:
                self.jobs[key].may_go = True
        elif isinstance(effect, Withdraw):
            job2 = self.jobs.get(key)
            if job2 is not None and not job2.left:
                del self.jobs[key]
                job2.withdrawn = True
        elif isinstance(effect, CancelAtCarrier):
            assert a.carrier_message_ids
            self.cancels.append(key)
        else:
            assert isinstance(effect, Resume)
            assert a.submitted_at is not None
            self.resumed.append(key)

    def time_passes(self) -> None:
        """Look at what is due; it must lead somewhere."""
        due = self.state.due()
        before = len(self.events)
        effects = self.take(TimePassed())
        if due is None or due > self.now:
            assert not effects or not self.state.open or len(self.events) > before
            return
        after = self.state.due()
        moved = bool(effects) or len(self.events) > before
        assert moved, "due, but nothing followed"
        if after is not None and after <= self.now and not any(isinstance(e, Dispatch) for e in effects):
            self.idle_turns += 1
            assert self.idle_turns < 3, "TimePassed is due again and again"
            self.time_passes()
        self.idle_turns = 0

    # --- the carriers ---

    def waiting(self) -> list[Job]:
        return [j for j in self.queue if not j.left and not j.withdrawn]

    def in_flight(self) -> list[Job]:
        return [j for j in self.queue if j.left]

    def call(self, job: Job) -> None:
        """The carrier's actor gets to the job."""
        if job.never and not job.may_go:
            if not job.asked:
                job.asked = True
                a = self.state.find(job.step, job.attempt)
                if a is not None and a.sending:  # before it was parked: it did not leave then
                    if a.status == "queued" and self.state.open and not a.left:
                        self.pending.append(PendingWrite([], [CallCarrier(job.step, job.attempt)]))
                else:
                    self.take(Sending(job.step, job.attempt, job.carrier))
            return
        job.left = True
        self.calls[job.step, job.attempt] += 1
        self.check_calls()

    def answer(self, job: Job, answer: Submitted | Refused | InDoubt) -> None:
        self.queue.remove(job)
        self.jobs.pop((job.step, job.attempt), None)
        a = self.state.find(job.step, job.attempt)
        if a is not None:
            a.left = False if not isinstance(answer, Submitted) else a.left
        if isinstance(answer, Refused):
            self.refusals.add((job.step, job.attempt))
        self.take(answer)

    # --- crashes ---

    def crash_process(self) -> None:
        self.lost_receipts += [w.receipt for w in self.pending if w.receipt is not None]
        self.pending.clear()
        self.queue.clear()
        self.revive(self.now, None)

    def crash_actor(self) -> None:
        self.commit_all()
        self.revive(self.now, Crashed("ValueError"))

    def stop(self) -> None:
        """The process stops in order: what the carriers have is answered first, what has not left is noted."""
        self.commit_all()
        if self.in_flight():
            return
        self.queue.clear()
        queued = [(a.step, a.attempt) for a in self.state.attempts if a.status == "queued"]
        self.revive(PARKED, None)
        assert not any(a.status == "ambiguous" for at in queued if (a := self.state.find(*at)) is not None)

    def park(self) -> None:
        """Write it away and bring it back, as for a receipt that comes much later."""
        if self.pending or self.jobs or not self.journal:
            return
        assert not any(a.left or (a.dispatched and a.status == "queued") for a in self.state.attempts)
        self.revive(PARKED, None)

    def revive(self, last_alive: datetime, crashed: Crashed | None) -> None:
        self.jobs.clear()
        self.state = fold(self.message, through_json(self.journal))
        if not self.journal:
            self.take(Begin())  # the customer was not answered; he asks again
            return
        if crashed is not None:
            self.take(crashed)
        self.take(Recovered(last_alive))
        self.time_passes()

    # --- what always holds ---

    def check(self, was_open: bool, new: list[Event], effects: list[Effect], called: set[tuple[int, int]]) -> None:
        state, events = self.state, self.events
        assert [e.seq for e in events] == list(range(1, len(events) + 1))
        read_back = through_json(events)
        assert fold(self.message, read_back) == state
        assert public_message(self.message, events, state=state) == public_message(self.message, read_back)
        finals = [e for e in events if e.type in FINAL_STATUSES]
        corrected = [e for e in events if e.type == "corrected"]
        assert len(finals) == (0 if state.open else 1), "final exactly once"
        assert len(corrected) <= 1
        if corrected:
            assert finals[0].type in CORRECTABLE_STATUSES
            assert finals[0].seq < corrected[0].seq
            assert state.status == "delivered"
        elif finals:
            assert state.status == finals[0].type
            assert state.final_at == finals[0].at
        assert (state.delivered_by is not None) == (state.status == "delivered")
        for n, event in enumerate(new):
            if event.type in FINAL_STATUSES or event.type == "corrected":
                assert n == len(new) - 1, "the final event closes its decision"
        if not state.open:
            assert not any(isinstance(e, Dispatch | CallCarrier) for e in effects), "no dispatch after final"
            if not was_open:
                assert not any("next" in e.data for e in new)
            assert not any(a.status == "queued" for a in state.attempts), "nothing is left waiting"
        else:
            assert sum(a.status == "queued" for a in state.attempts) <= 1
        self.check_attempts()
        for effect in effects:
            a = state.find(effect.step, effect.attempt)
            assert a is not None
            if isinstance(effect, Dispatch):
                assert a.status == "queued"
                assert a.not_before is None or a.not_before <= self.now
                assert self.now < self.message.expires_at
        for event in new:
            if event.type == "superseded" and event.data["reason"] in ("step_timed_out", "message_expired"):
                assert (event.step, event.attempt) not in called, "given up as never sent, but it was called"
        if was_open and state.status == "expired":
            for step, attempt in called:
                a = state.find(step, attempt)
                if a is not None and a.status not in ("rejected", "undelivered"):
                    # Only one whose call overtook its withdrawal, and of which nothing was heard since.
                    assert a.status == "superseded", f"expired, but a carrier may have {step}.{attempt}"
                    assert not a.doubtful
                    assert a.submitted_at is None
        if was_open and state.status == "unknown":
            doubted = any(e.type in ("ambiguous", "sending") for e in events)
            assert called or doubted, "unknown, but no carrier can have been called"
        public_message(self.message, events)

    def check_attempts(self) -> None:
        """Attempts within their limit and numbered from 1, steps in order, no try on a shut channel."""
        attempts = self.state.attempts
        steps = [a.step for a in attempts]
        assert steps == sorted(steps)
        for step in set(steps):
            numbers = [a.attempt for a in attempts if a.step == step]
            assert numbers == list(range(1, len(numbers) + 1))
            assert len(numbers) <= MAX_TRIES
        shut: set[str] = set()
        receipts: Counter[tuple[Any, ...]] = Counter()
        for event in self.events:
            data = event.data
            if event.type in INTERNAL_EVENTS:
                continue
            if "next" in data:
                assert data["next"]["step"] >= (event.step or 0)
                assert event.at < self.message.expires_at
                channel = data["next"]["channel"]
                receipt = data.get("receipt", data)
                error = data.get("error") or receipt.get("error")
                assert channel not in shut
                assert not (error and error["class"] == BLOCKED)
            receipt = data.get("receipt", data)
            error = receipt.get("error")
            if error and error["class"] == BLOCKED and event.attempt is not None:
                shut.add(self.message.cascade[event.step or 0].channel)
            if "segment" in receipt:
                receipts[event.step, event.attempt, receipt["segment"], receipt["status"]] += 1
        assert all(n == 1 for n in receipts.values()), "a receipt is recorded once"

    def check_calls(self) -> None:
        """Sent twice only under resend, and only after a doubt that the journal knows."""
        events = self.events
        for key, n in self.calls.items():
            assert n == 1, f"attempt {key} was handed to its carrier {n} times"
        for step in {step for step, _ in self.calls}:
            open_calls = [k for k in self.calls if k[0] == step and k not in self.refusals]
            doubts = [e for e in events if e.type == "ambiguous" and e.step == step]
            resends = [e for e in doubts if "next" in e.data]
            assert len(open_calls) <= 1 + len(resends)
            if any(e.data["policy"] == "never" for e in doubts):
                assert not any(e.data["policy"] == "never" for e in resends)
        never = [k for k in self.calls if (a := self.state.find(*k)) is not None and a.policy == "never"]
        for step in {s for s, _ in never}:
            assert sum(1 for k in never if k[0] == step and k not in self.refusals) <= 1


def timeline(events: Sequence[Event]) -> list[str]:
    """Name the public events: "submitted 0.1", "fallback 1.1", "delivered 0.1", "unknown"."""
    shown = []
    for e in events:
        if e.type not in INTERNAL_EVENTS:
            where = "" if e.step is None else f" {e.step}" if e.attempt is None else f" {e.step}.{e.attempt}"
            shown.append(e.type + where)
    return shown
