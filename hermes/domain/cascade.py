"""What a message may do next: the cascade as a fold over events and a pure decision.

    state    = fold(message, events)              the past, read back
    decision = decide(state, input, now, route)   the next facts, and what to do once they are stored
    apply(state, event)                           one fact, taken in

`decide` never changes the state and never does I/O. The cascade actor journals `decision.events`, waits for the
commit, then carries out `decision.effects`. The rules are numbered as in docs/cascade.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from zlib import crc32

from hermes.domain.events import INTERNAL_EVENTS, Event
from hermes.domain.message import Message, rfc3339
from hermes.domain.state import CORRECTABLE_STATUSES, OPEN_STATUSES, RECEIPT_RANK

MAX_TRIES: Final = 4  # per step, over all its carriers (API.md, "The message")
BACKOFF_S: Final = (1.0, 2.0, 4.0)  # before the 2nd, 3rd, 4th try of the same carrier
BACKOFF_JITTER: Final = 0.2  # +-20 %
MAX_CRASHES: Final = 5  # of one message's cascade actor, before the message is given up as failed

# Rule 2. The step goes on, at another carrier or at the same one after a back-off ...
MOVES_ON: Final = frozenset(
    {"retryable_transient", "throttled", "provider_auth", "provider_config", "insufficient_funds"}
)
# ... but not at a carrier that said it of itself: that one is out for the rest of the step.
CARRIER_IS_OUT: Final = frozenset({"provider_auth", "provider_config", "insufficient_funds"})
BLOCKED: Final = "blocked_or_opted_out"

_LIVE: Final = frozenset({"queued", "submitted", "ambiguous"})
_ENDED: Final = frozenset({"delivered", "read", "undelivered"})


# --- inputs: what can happen to a cascade ---------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class Begin:
    """The message was admitted."""


@dataclass(slots=True, frozen=True)
class TimePassed:
    """Something may be due: a retry, the step's receipt wait, the message's end."""


@dataclass(slots=True, frozen=True)
class Sending:
    """A carrier is about to be called under on_ambiguous=never: write it ahead."""

    step: int
    attempt: int
    carrier: str


@dataclass(slots=True, frozen=True)
class Submitted:
    """A carrier took the message."""

    step: int
    attempt: int
    carrier: str
    carrier_message_ids: tuple[str, ...] = ()
    segments: int | None = None
    cost: float | None = None


@dataclass(slots=True, frozen=True)
class Refused:
    """A carrier did not take the message, for certain."""

    step: int
    attempt: int
    carrier: str
    error_class: str
    code: str | None = None
    detail: str = ""
    retryable: bool = False
    retry_after_s: float | None = None


@dataclass(slots=True, frozen=True)
class InDoubt:
    """A carrier was called and nobody knows whether it took the message (rule 9)."""

    step: int
    attempt: int
    carrier: str
    error_class: str = "retryable_transient"
    code: str | None = None
    detail: str = ""


@dataclass(slots=True, frozen=True)
class Receipt:
    """A carrier reported on a segment of an attempt. `segment` counts from 0."""

    step: int
    attempt: int
    segment: int
    carrier_message_id: str
    status: str
    error_class: str | None = None
    error_code: str | None = None
    error_detail: str | None = None
    at: datetime | None = None


@dataclass(slots=True, frozen=True)
class Cancel:
    """The customer wants it stopped."""


@dataclass(slots=True, frozen=True)
class Recovered:
    """The state was read back after its actor, or the process, was gone.

    Attributes:
        last_alive: the latest moment the former owner may have called a carrier. What was not due by then, was not
            sent. A parked message had nothing in a carrier's hands: datetime.min.
    """

    last_alive: datetime


@dataclass(slots=True, frozen=True)
class Crashed:
    """The cascade actor crashed on this message; `detail` names the error's type."""

    detail: str


Input = (
    Begin | TimePassed | Sending | Submitted | Refused | InDoubt | Receipt | Cancel | Recovered | Crashed
)


# --- effects: what to do once the events are stored -----------------------------------------------------------


@dataclass(slots=True, frozen=True)
class Dispatch:
    """Hand the attempt to its carrier."""

    step: int
    attempt: int


@dataclass(slots=True, frozen=True)
class CallCarrier:
    """The write-ahead is stored: the carrier may be called now."""

    step: int
    attempt: int


@dataclass(slots=True, frozen=True)
class Withdraw:
    """Take the attempt back from its carrier's queue."""

    step: int
    attempt: int


@dataclass(slots=True, frozen=True)
class CancelAtCarrier:
    """Ask the carrier to stop what it took."""

    step: int
    attempt: int


@dataclass(slots=True, frozen=True)
class Resume:
    """Tell the carrier that a submitted attempt is being waited for again."""

    step: int
    attempt: int


Effect = Dispatch | CallCarrier | Withdraw | CancelAtCarrier | Resume


@dataclass(slots=True, frozen=True)
class Candidate:
    """A carrier the router offers for a step, best first. `on_ambiguous`: the route's policy, else the carrier's."""

    carrier: str
    on_ambiguous: str = "resend"


Route = Callable[[int], Sequence[Candidate]]  # step -> candidates in order


@dataclass(slots=True)
class Decision:
    """The facts to store, in order, and the effects to carry out after the commit."""

    events: list[Event] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)


# --- state ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Segment:
    """One radio part (or the whole message, where a carrier gives one id): its id and the best word on it."""

    carrier_message_id: str | None = None
    status: str = "submitted"
    error: dict[str, Any] | None = None
    seen: tuple[str, ...] = ()  # receipt statuses recorded, so that a repeat is known as one


@dataclass(slots=True)
class Attempt:
    """One try at one carrier.

    Attributes:
        attempt: 1.. within its step.
        not_before: it must not leave before; None: at once.
        policy: what an ambiguous dispatch leads to: resend or never.
        sending: the write-ahead of the call is stored (policy never).
        dispatched: this process has handed it to its carrier. Not journaled.
        left: the carrier was called and has not answered. Not journaled; set by the actor.
    """

    step: int
    attempt: int
    channel: str
    carrier: str
    queued_at: datetime
    status: str = "queued"
    not_before: datetime | None = None
    policy: str = "resend"
    recovered: bool = False
    sending: bool = False
    submitted_at: datetime | None = None
    ended_at: datetime | None = None
    carrier_message_ids: list[str] = field(default_factory=list)
    segments: int | None = None
    parts: list[Segment] = field(default_factory=list)
    error: dict[str, Any] | None = None
    cost: float | None = None
    dispatched: bool = field(default=False, compare=False)
    left: bool = field(default=False, compare=False)


@dataclass(slots=True)
class Cascade:
    """Where a message stands: the fold over its events."""

    message: Message
    status: str = "accepted"
    seq: int = 0
    step: int = 0
    step_started_at: datetime | None = None
    attempts: list[Attempt] = field(default_factory=list)
    delivered_by: int | None = None
    final_at: datetime | None = None
    updated_at: datetime | None = None
    crashes: int = 0

    @property
    def open(self) -> bool:
        """True until the message has a final status."""
        return self.status in OPEN_STATUSES

    def find(self, step: int, attempt: int) -> Attempt | None:
        """Find an attempt; None when there is none."""
        for a in reversed(self.attempts):
            if a.step == step and a.attempt == attempt:
                return a
        return None

    def deadline(self) -> datetime:
        """Tell when the current step's receipt wait ends. The last step's ends when the message's time does."""
        message = self.message
        if self.step >= len(message.cascade) - 1 or self.step_started_at is None:
            return message.expires_at
        end = self.step_started_at + timedelta(seconds=message.cascade[self.step].timeout_s)
        return end if end < message.expires_at else message.expires_at

    def due(self) -> datetime | None:
        """Tell when `TimePassed` must be looked at next, should nothing else happen; None when final."""
        if self.status not in OPEN_STATUSES:
            return None
        due = self.deadline()
        for a in self.attempts:
            if a.status == "queued" and not a.dispatched:
                start = a.not_before or a.queued_at
                if start < due:
                    due = start
        return due

    def in_hand(self) -> bool:
        """True while a carrier holds an attempt unanswered: such a message must not be parked."""
        return any(a.dispatched and a.status == "queued" for a in self.attempts) or any(a.left for a in self.attempts)

    def cost(self) -> float | None:
        """Add up what the attempts cost; None when nothing did."""
        costs = [a.cost for a in self.attempts if a.cost is not None]
        return sum(costs) if costs else None


def fold(message: Message, events: Iterable[Event]) -> Cascade:
    """Read a message's past back into its state."""
    state = Cascade(message)
    for event in events:
        apply(state, event)
    return state


# --- apply: one fact, taken in ----------------------------------------------------------------------------------


def apply(state: Cascade, event: Event) -> None:
    """Take one fact into the state. Facts are never questioned here; `decide` made sure of them."""
    state.seq = event.seq
    kind = event.type
    data = event.data
    if kind in INTERNAL_EVENTS:
        _apply_internal(state, event)
        return
    state.updated_at = event.at
    a = state.find(event.step, event.attempt) if event.step is not None and event.attempt is not None else None
    if kind == "accepted" or kind == "scheduled":
        state.status = kind
    else:
        if state.status in OPEN_STATUSES:
            state.status = "in_progress"
        if kind == "submitted":
            if a is not None:
                _apply_submitted(a, event)
        elif kind == "delivered" or kind == "corrected":
            if a is not None and "receipt" in data:
                _apply_receipt(a, data["receipt"], event.at, revive=True)
            state.status = "delivered"
            state.delivered_by = event.step
        elif kind == "undelivered" or kind == "receipt":
            if a is not None:
                _apply_receipt(a, data, event.at)
        elif kind == "rejected":
            if a is not None:
                a.carrier = data.get("carrier", a.carrier)
                a.error = data["error"]
                a.left = False
                if a.status != "superseded":
                    a.status = "rejected"
                    a.ended_at = event.at
        elif kind == "ambiguous":
            if a is not None:
                a.carrier = data.get("carrier", a.carrier)
                a.error = data.get("error")
                a.status = "ambiguous"
                a.left = False
        elif kind == "timed_out" or kind == "superseded":
            if a is not None:
                a.status = kind
                a.ended_at = event.at
        elif kind in ("failed", "expired", "cancelled", "unknown"):
            state.status = kind
    if state.final_at is None and state.status not in OPEN_STATUSES:
        state.final_at = event.at
    following = data.get("next")
    if following is not None:
        _apply_next(state, following, event.at)


def _apply_internal(state: Cascade, event: Event) -> None:
    if event.type == "crashed":
        state.crashes += 1
        return
    a = state.find(event.step or 0, event.attempt or 0)
    if a is not None:
        a.sending = True
        a.carrier = event.data.get("carrier", a.carrier)


def _apply_submitted(a: Attempt, event: Event) -> None:
    data = event.data
    a.carrier = data.get("carrier", a.carrier)
    a.carrier_message_ids = list(data.get("carrier_message_ids", ()))
    a.segments = data.get("segments")
    a.cost = data.get("cost")
    a.submitted_at = event.at
    a.left = False
    if not a.parts:  # a doubtful attempt may have had its receipt before its late answer
        a.parts = [Segment(i) for i in a.carrier_message_ids] or [Segment()]
    if a.status == "queued" or a.status == "ambiguous":
        a.status = "submitted"
        a.error = None


def _apply_receipt(a: Attempt, data: dict[str, Any], at: datetime, *, revive: bool = False) -> None:
    n = data["segment"]
    while len(a.parts) <= n:
        a.parts.append(Segment())
    part = a.parts[n]
    status = data["status"]
    part.seen = (*part.seen, status)
    if part.carrier_message_id is None:
        part.carrier_message_id = data.get("carrier_message_id")
    if RECEIPT_RANK[status] > RECEIPT_RANK[part.status]:
        part.status = status
        part.error = data.get("error")
    reached = _reached(a.parts)
    if a.status == "superseded" and not revive:
        return
    a.status = reached
    if reached in _ENDED:
        if a.ended_at is None or reached != "undelivered":
            a.ended_at = a.ended_at or at
        a.error = next((p.error for p in a.parts if p.error is not None), None) if reached == "undelivered" else None
    if a.submitted_at is None and not a.carrier_message_ids and part.carrier_message_id:
        a.carrier_message_ids = [part.carrier_message_id]


def _apply_next(state: Cascade, data: dict[str, Any], at: datetime) -> None:
    step = data["step"]
    not_before = datetime.fromisoformat(data["not_before"]) if "not_before" in data else None
    state.attempts.append(
        Attempt(
            step,
            data["attempt"],
            state.message.cascade[step].channel,
            data["carrier"],
            at,
            not_before=not_before,
            policy=data.get("on_ambiguous", "resend"),
            recovered=data.get("recovered", False),
        )
    )
    if state.step_started_at is None or step != state.step:
        state.step = step
        state.step_started_at = not_before or at


def _reached(parts: Sequence[Segment]) -> str:
    """Fold segment statuses into the attempt's: undelivered when one is, delivered when all are (rule 8)."""
    if len(parts) == 1:
        return parts[0].status
    lowest = min(RECEIPT_RANK[p.status] for p in parts)
    if any(p.status == "undelivered" for p in parts):
        return "undelivered"
    return "read" if lowest == 4 else "delivered" if lowest == 3 else "submitted"


# --- decide -----------------------------------------------------------------------------------------------------


class _Deciding:
    """A decision being made: numbers the events."""

    __slots__ = ("decision", "now", "seq", "state")

    def __init__(self, state: Cascade, now: datetime) -> None:
        self.state = state
        self.now = now
        self.seq = state.seq
        self.decision = Decision()

    def event(self, type: str, step: int | None, attempt: int | None, data: dict[str, Any]) -> None:
        self.seq += 1
        self.decision.events.append(Event(self.seq, self.now, type, step, attempt, data))

    def effect(self, effect: Effect) -> None:
        self.decision.effects.append(effect)


def decide(state: Cascade, input: Input, now: datetime, route: Route) -> Decision:
    """Decide what follows from one input: the events to store and the effects to carry out once they are.

    Total: every input in every state has an answer, which may be empty. Nothing is changed.

    Args:
        route: names the candidates for a step, best first; empty when no carrier serves it.
    """
    d = _Deciding(state, now)
    if isinstance(input, Submitted):
        _on_submitted(d, input)
    elif isinstance(input, Receipt):
        _on_receipt(d, input, route)
    elif isinstance(input, Begin):
        _on_begin(d, route)
    elif isinstance(input, TimePassed):
        _on_time(d, route)
    elif isinstance(input, Refused):
        _on_refused(d, input, route)
    elif isinstance(input, InDoubt):
        _on_in_doubt(d, input)
    elif isinstance(input, Sending):
        _on_sending(d, input)
    elif isinstance(input, Cancel):
        _on_cancel(d)
    elif isinstance(input, Recovered):
        _on_recovered(d, input)
    else:
        _on_crashed(d, input)
    return d.decision


def _on_begin(d: _Deciding, route: Route) -> None:
    message = d.state.message
    if d.state.seq:
        return
    steps = len(message.cascade)
    first = next((n for n in range(steps) if route(n)), None)
    if message.send_at is not None and message.send_at > d.now:
        d.event("accepted", None, None, {})
        data: dict[str, Any] = {"send_at": rfc3339(message.send_at)}
        if first is not None:
            data["next"] = _intent(message, first, 1, route(first)[0], not_before=message.send_at)
        d.event("scheduled", None, None, data)
    elif first is not None:
        d.event("accepted", None, None, {"next": _intent(message, first, 1, route(first)[0])})
        d.effect(Dispatch(first, 1))
    else:
        d.event("accepted", None, None, {})
        d.event("failed", None, None, {"error": _error("provider_config", "no_route", "no carrier serves any step")})


def _on_submitted(d: _Deciding, i: Submitted) -> None:
    s = d.state
    a = s.find(i.step, i.attempt)
    if a is None or a.submitted_at is not None or a.status == "rejected":
        return
    data: dict[str, Any] = {"carrier": i.carrier, "carrier_message_ids": list(i.carrier_message_ids)}
    if i.segments is not None:
        data["segments"] = i.segments
    if i.cost is not None:
        data["cost"] = i.cost
    d.event("submitted", i.step, i.attempt, data)
    if not s.open or a.status == "superseded":
        if not s.open and s.delivered_by != a.step:
            d.effect(CancelAtCarrier(i.step, i.attempt))
        return
    # The answer came after all: a resend that has not left is not needed any more.
    _supersede(d, lambda o: o is not a and o.step == a.step and o.status == "queued" and not o.left)
    if s.message.cascade[i.step].success == "submitted":
        _supersede(d, lambda o: o is not a and o.step != a.step and o.status in ("queued", "submitted"))
        d.event("delivered", i.step, i.attempt, {})


def _on_refused(d: _Deciding, i: Refused, route: Route) -> None:
    s = d.state
    a = s.find(i.step, i.attempt)
    if a is None or a.submitted_at is not None or a.status in ("rejected", *_ENDED):
        return
    error = _error(i.error_class, i.code, i.detail)
    data: dict[str, Any] = {"carrier": i.carrier, "error": error}
    acts = s.open and a.step == s.step and a.status in ("queued", "ambiguous")
    others = acts and any(o is not a and o.step == a.step and o.status in ("queued", "submitted") for o in s.attempts)
    if not acts or others:
        d.event("rejected", i.step, i.attempt, data)
        return
    if d.now >= s.message.expires_at:
        d.event("rejected", i.step, i.attempt, data)
        _end_of_time(d, refused=a)
        return
    intent = None
    if i.error_class in MOVES_ON or (i.error_class == "unknown" and i.retryable):
        intent = _next_try(d, a, i, route)
    if intent is not None:
        data["next"] = intent
        d.event("rejected", i.step, i.attempt, data)
        if "not_before" not in intent:
            d.effect(Dispatch(i.step, intent["attempt"]))
        return
    d.event("rejected", i.step, i.attempt, data)
    _step_over(d, error, i.error_class, route, blocked=a.channel if i.error_class == BLOCKED else None)


def _next_try(d: _Deciding, a: Attempt, i: Refused, route: Route) -> dict[str, Any] | None:
    """Choose the next try of the same step: the first carrier tried least, at once if it is new (rule 2)."""
    s = d.state
    tries = [o for o in s.attempts if o.step == a.step]
    if len(tries) >= MAX_TRIES:
        return None
    out = {o.carrier for o in tries if o.error is not None and o.error["class"] in CARRIER_IS_OUT}
    if i.error_class in CARRIER_IS_OUT:
        out.add(i.carrier)
    counts = {o.carrier: 0 for o in tries}
    for o in tries:
        counts[i.carrier if o is a else o.carrier] = counts.get(i.carrier if o is a else o.carrier, 0) + 1
    candidates = [c for c in route(a.step) if c.carrier not in out]
    if not candidates:
        return None
    chosen = min(candidates, key=lambda c: counts.get(c.carrier, 0))
    number = tries[-1].attempt + 1
    tried = counts.get(chosen.carrier, 0)
    if tried == 0:
        return _intent(s.message, a.step, number, chosen)
    if i.retry_after_s is not None and chosen.carrier == i.carrier:
        delay = max(i.retry_after_s, 0.0)
    else:
        delay = backoff_s(s.message.message_id, a.step, number, tried)
    not_before = d.now + timedelta(seconds=delay)
    if not_before >= s.deadline():
        return None
    return _intent(s.message, a.step, number, chosen, not_before=not_before)


def backoff_s(message_id: str, step: int, attempt: int, tried: int) -> float:
    """Give the wait before the next try of a carrier that was tried `tried` times: 1, 2, 4 s +-20 %.

    The jitter is drawn from the message and the attempt, so that a replay decides the same.
    """
    base = BACKOFF_S[min(tried, len(BACKOFF_S)) - 1]
    draw = crc32(f"{message_id}.{step}.{attempt}".encode()) / 0xFFFFFFFF  # 0..1
    return base * (1 - BACKOFF_JITTER + 2 * BACKOFF_JITTER * draw)


def _on_in_doubt(d: _Deciding, i: InDoubt) -> None:
    s = d.state
    a = s.find(i.step, i.attempt)
    if a is None or a.status not in ("queued", "timed_out", "superseded") or a.submitted_at is not None:
        return
    if a.status != "queued":
        return  # the step went on without it; its receipt, should one come, is matched all the same
    error = _error(i.error_class, i.code, i.detail)
    _doubt(d, a, i.carrier, error, at_once=False)


def _doubt(d: _Deciding, a: Attempt, carrier: str, error: dict[str, Any], *, at_once: bool) -> None:
    """Rule 9: never, or a resend as a new attempt at the same carrier within the step's tries and time."""
    s = d.state
    data: dict[str, Any] = {"carrier": carrier, "error": error, "policy": a.policy}
    tries = [o for o in s.attempts if o.step == a.step]
    resend = a.policy == "resend" and s.open and a.step == s.step and len(tries) < MAX_TRIES
    if resend:
        number = tries[-1].attempt + 1
        candidate = Candidate(carrier, a.policy)
        not_before = None
        if not at_once:
            not_before = d.now + timedelta(seconds=backoff_s(s.message.message_id, a.step, number, len(tries)))
        if (not_before or d.now) < s.deadline():
            data["next"] = _intent(s.message, a.step, number, candidate, not_before=not_before, recovered=True)
    d.event("ambiguous", a.step, a.attempt, data)
    if "next" in data and at_once:
        d.effect(Dispatch(a.step, data["next"]["attempt"]))


def _on_sending(d: _Deciding, i: Sending) -> None:
    a = d.state.find(i.step, i.attempt)
    if a is None or a.status != "queued" or not d.state.open or a.sending:
        return  # withdrawn meanwhile: without the effect the carrier is not called
    d.event("sending", i.step, i.attempt, {"carrier": i.carrier})
    d.effect(CallCarrier(i.step, i.attempt))


def _on_receipt(d: _Deciding, i: Receipt, route: Route) -> None:
    s = d.state
    a = s.find(i.step, i.attempt)
    if a is None or i.segment < 0 or i.status not in RECEIPT_RANK:
        return
    part = a.parts[i.segment] if i.segment < len(a.parts) else Segment()
    if i.status in part.seen:
        return  # rule 7: recorded once
    parts = list(a.parts)
    while len(parts) <= i.segment:
        parts.append(Segment())
    better = RECEIPT_RANK[i.status] > RECEIPT_RANK[part.status]
    parts[i.segment] = Segment(part.carrier_message_id, i.status if better else part.status)
    before, after = _reached(a.parts) if a.parts else "submitted", _reached(parts)
    error = None
    if i.status == "undelivered":
        error = _error(i.error_class or "unknown", i.error_code, i.error_detail or "")
    receipt: dict[str, Any] = {
        "status": i.status,
        "segment": i.segment,
        "carrier": a.carrier,
        "carrier_message_id": i.carrier_message_id,
    }
    if error is not None:
        receipt["error"] = error
    if i.at is not None:
        receipt["carrier_at"] = rfc3339(i.at)
    success = s.message.cascade[a.step].success
    met = after == "read" or (after == "delivered" and success != "read")
    if s.open and met:  # rules 3, 4, 5: the first receipt that meets its step's criterion delivers
        _supersede(d, lambda o: o is not a and o.status in ("queued", "submitted", "ambiguous"))
        d.event("delivered", a.step, a.attempt, {"receipt": receipt})
    elif not s.open and met and s.status in CORRECTABLE_STATUSES:  # rule 6
        d.event("corrected", a.step, a.attempt, {"from": s.status, "receipt": receipt})
    elif s.open and after == "undelivered" and before != "undelivered" and a.status in ("submitted", "ambiguous", "queued"):
        d.event("undelivered", a.step, a.attempt, receipt)
        others = any(o is not a and o.step == a.step and o.status in ("queued", "submitted") for o in s.attempts)
        if a.step == s.step and not others and error is not None:
            blocked = a.channel if error["class"] == BLOCKED else None
            _step_over(d, error, "undelivered", route, blocked=blocked)
    else:
        d.event("receipt", a.step, a.attempt, receipt)


def _on_time(d: _Deciding, route: Route) -> None:
    s = d.state
    if not s.open:
        return
    if d.now >= s.message.expires_at:
        _end_of_time(d)
        return
    if d.now >= s.deadline():
        taken = False
        for a in s.attempts:
            if a.step == s.step and a.status in _LIVE:
                if a.status == "queued" and not a.left:
                    d.event("superseded", a.step, a.attempt, {"reason": "step_timed_out"})
                    if a.dispatched:
                        d.effect(Withdraw(a.step, a.attempt))
                else:
                    d.event("timed_out", a.step, a.attempt, {"timeout_s": s.message.cascade[s.step].timeout_s})
                    taken = True
        error = _error("expired", None, "no receipt within the step's time" if taken else "not sent within the step's time")
        _step_over(d, error, "timed_out", route, blocked=None)
        return
    for a in s.attempts:
        if a.status == "queued" and not a.dispatched and (a.not_before is None or a.not_before <= d.now):
            d.effect(Dispatch(a.step, a.attempt))


def _step_over(
    d: _Deciding, error: dict[str, Any], reason: str, route: Route, *, blocked: str | None
) -> None:
    """Begin the next step that may be begun, or end the message. `blocked`: no further step on this channel."""
    s = d.state
    shut = {a.channel for a in s.attempts if a.error is not None and a.error["class"] == BLOCKED}
    if blocked is not None:
        shut.add(blocked)
    steps = s.message.cascade
    if d.now < s.message.expires_at:
        for n in range(s.step + 1, len(steps)):
            if steps[n].channel in shut:
                continue
            candidates = route(n)
            if candidates:
                intent = _intent(s.message, n, 1, candidates[0])
                d.event("fallback", n, 1, {"from_step": s.step, "reason": reason, "next": intent})
                d.effect(Dispatch(n, 1))
                return
    if reason == "timed_out":  # no further step could be begun
        _end_of_time(d)
    else:
        d.event("failed", s.step, None, {"error": error})


def _end_of_time(d: _Deciding, refused: Attempt | None = None) -> None:
    """End a message whose time is over: unknown when a carrier took it (or may have), else expired (rule 3)."""
    s = d.state
    ended = {(e.step, e.attempt) for e in d.decision.events}
    taken = False
    for a in s.attempts:
        if a is refused:
            continue
        if a.submitted_at is not None and a.status in ("submitted", "timed_out", "superseded"):
            taken = True
        elif a.status == "ambiguous" or a.left or (a.sending and a.status in ("queued", "timed_out")):
            taken = True
        elif a.status == "timed_out" and a.submitted_at is None:
            taken = True  # it had left and nobody answered
        if (a.step, a.attempt) in ended or a.status not in _LIVE:
            continue
        if a.status == "queued" and not a.left:
            d.event("superseded", a.step, a.attempt, {"reason": "message_expired"})
            if a.dispatched:
                d.effect(Withdraw(a.step, a.attempt))
        else:
            d.event("timed_out", a.step, a.attempt, {})
    d.event("unknown" if taken else "expired", None, None, {})


def _on_cancel(d: _Deciding) -> None:
    s = d.state
    if not s.open:
        return
    for a in s.attempts:
        if a.status == "queued" and not a.left:
            d.event("superseded", a.step, a.attempt, {"reason": "cancelled"})
            if a.dispatched:
                d.effect(Withdraw(a.step, a.attempt))
        elif a.status == "submitted":
            d.effect(CancelAtCarrier(a.step, a.attempt))
    d.event("cancelled", None, None, {})


def _on_recovered(d: _Deciding, i: Recovered) -> None:
    s = d.state
    for a in s.attempts:
        if a.status in ("submitted", "timed_out", "superseded") and a.submitted_at is not None:
            d.effect(Resume(a.step, a.attempt))
        if not s.open or a.status != "queued":
            continue
        if (a.not_before or a.queued_at) > i.last_alive:
            continue  # certainly not sent: `TimePassed` dispatches it when it is due
        if a.policy == "never" and not a.sending:
            continue  # likewise: the call is always written ahead
        detail = "the process ended between the carrier call and its recorded answer"
        _doubt(d, a, a.carrier, _error("unknown", None, detail), at_once=True)


def _on_crashed(d: _Deciding, i: Crashed) -> None:
    s = d.state
    d.event("crashed", None, None, {"error": i.detail})
    if s.crashes + 1 >= MAX_CRASHES and s.open:
        detail = f"processing this message failed {MAX_CRASHES} times ({i.detail})"
        d.event("failed", None, None, {"error": _error("unknown", "cascade_crashed", detail)})


def _supersede(d: _Deciding, which: Callable[[Attempt], bool]) -> None:
    """Withdraw or cancel the attempts that are not needed any more (rules 4 and 5)."""
    for a in d.state.attempts:
        if which(a):
            d.event("superseded", a.step, a.attempt, {"reason": "delivered_by_another" })
            if a.status == "queued":
                if a.dispatched:
                    d.effect(Withdraw(a.step, a.attempt))
            else:
                d.effect(CancelAtCarrier(a.step, a.attempt))


def _intent(
    message: Message,
    step: int,
    attempt: int,
    candidate: Candidate,
    *,
    not_before: datetime | None = None,
    recovered: bool = False,
) -> dict[str, Any]:
    """Write down what is to be done next: the event that carries it is its write-ahead."""
    intent: dict[str, Any] = {
        "step": step,
        "attempt": attempt,
        "channel": message.cascade[step].channel,
        "carrier": candidate.carrier,
    }
    if not_before is not None:
        intent["not_before"] = rfc3339(not_before)
    if recovered:
        intent["recovered"] = True
    if (message.on_ambiguous or candidate.on_ambiguous) == "never":
        intent["on_ambiguous"] = "never"
    return intent


def _error(error_class: str, code: str | None, detail: str) -> dict[str, Any]:
    return {"class": error_class, "code": code, "detail": detail}
