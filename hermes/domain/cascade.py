"""What a message may do next: a pure decision over where it stands.

    state    = fold(message, events)              the past, read back (`fold.py`)
    decision = decide(state, input, now, route)   the next facts, and what to do once they are stored
    apply(state, event)                           one fact, taken in (`fold.py`)

`decide` never changes the state and never does I/O. The cascade actor journals `decision.events`, waits for
the commit, then carries out `decision.effects`. The rules are numbered as in docs/cascade.md.

Invariants, as long as every event comes from `decide`:
- at most one attempt is queued while the message is open; attempts of a step are numbered 1, 2, 3, ...
- a final message stays final; `corrected` is the only way from one final status to another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final
from zlib import crc32

from msgspec import Struct

from hermes.domain.events import Event
from hermes.domain.fold import ATTEMPT_RANK, RECEIVED, status_reached
from hermes.domain.fold import BLOCKED as BLOCKED
from hermes.domain.fold import Attempt as Attempt
from hermes.domain.fold import Cascade as Cascade
from hermes.domain.fold import Segment as Segment
from hermes.domain.fold import apply as apply
from hermes.domain.fold import fold as fold
from hermes.domain.message import Message, rfc3339
from hermes.domain.quiet import Quiet
from hermes.domain.state import CORRECTABLE_STATUSES, RECEIPT_RANK

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

MAX_SEGMENTS: Final = 255  # of one message: the part count is one octet (3GPP TS 23.040, 9.2.3.24.1)
LONGEST_WAIT_S: Final = 1_209_600.0  # a carrier's retry-after above this, twice the longest expiry, is cut to it

_LIVE: Final = frozenset({"queued", "submitted", "ambiguous"})


# --- inputs: what can happen to a cascade ---
# Structs, not dataclasses: a frozen dataclass takes eight times as long to make.


class Begin(Struct, frozen=True, gc=False):
    """The message was admitted."""


class TimePassed(Struct, frozen=True, gc=False):
    """Something may be due: a retry, the step's receipt wait, the message's end."""


class Sending(Struct, frozen=True, gc=False):
    """A carrier is about to be called under on_ambiguous=never: write it ahead."""

    step: int
    attempt: int
    carrier: str


class Submitted(Struct, frozen=True, gc=False):
    """A carrier took the message."""

    step: int
    attempt: int
    carrier: str
    carrier_message_ids: tuple[str, ...] = ()
    segments: int | None = None
    cost: float | None = None


class Refused(Quiet, Struct, frozen=True, gc=False):
    """A carrier did not take the message, for certain."""

    quiet: ClassVar[frozenset[str]] = frozenset({"detail"})

    step: int
    attempt: int
    carrier: str
    error_class: str
    code: str | None = None
    detail: str = ""
    retryable: bool = False
    retry_after_s: float | None = None


class InDoubt(Quiet, Struct, frozen=True, gc=False):
    """A carrier was called and nobody knows whether it took the message (rule 9)."""

    quiet: ClassVar[frozenset[str]] = frozenset({"detail"})

    step: int
    attempt: int
    carrier: str
    error_class: str = "retryable_transient"
    code: str | None = None
    detail: str = ""


class Receipt(Quiet, Struct, frozen=True, gc=False):
    """A carrier reported on a segment of an attempt. `segment` counts from 0."""

    quiet: ClassVar[frozenset[str]] = frozenset({"error_detail"})

    step: int
    attempt: int
    segment: int
    carrier_message_id: str
    status: str
    error_class: str | None = None
    error_code: str | None = None
    error_detail: str | None = None
    at: datetime | None = None
    cost: float | None = None


class Cancel(Struct, frozen=True, gc=False):
    """The customer wants it stopped."""


class Reschedule(Struct, frozen=True, gc=False):
    """The customer wants a scheduled message to be sent at another time; what has passed means now."""

    send_at: datetime


PARKED: Final = datetime.min.replace(tzinfo=UTC)  # `last_alive` of a message that had nothing in a carrier's hands


class Recovered(Struct, frozen=True, gc=False):
    """The state was read back after its actor, or the process, was gone.

    Attributes:
        last_alive: the latest moment the former owner may have called a carrier, as far as is known: an event of
            the message that is later shows that it lived longer. What was not due by then was not sent. Of a
            parked message: `PARKED`.
    """

    last_alive: datetime


class Crashed(Struct, frozen=True, gc=False):
    """The cascade actor crashed on this message; `detail` names the error's type."""

    detail: str


Input = (
    Begin | TimePassed | Sending | Submitted | Refused | InDoubt | Receipt | Cancel | Reschedule | Recovered | Crashed
)


# --- effects: what to do once the events are stored ---


class Dispatch(Struct, frozen=True, gc=False):
    """Hand the attempt to its carrier."""

    step: int
    attempt: int


class CallCarrier(Struct, frozen=True, gc=False):
    """The write-ahead is stored: the carrier may be called now."""

    step: int
    attempt: int


class Withdraw(Struct, frozen=True, gc=False):
    """Take the attempt back from its carrier's queue."""

    step: int
    attempt: int


class CancelAtCarrier(Struct, frozen=True, gc=False):
    """Ask the carrier to stop what it took."""

    step: int
    attempt: int


class Resume(Struct, frozen=True, gc=False):
    """Tell the carrier that a submitted attempt is being waited for again."""

    step: int
    attempt: int


Effect = Dispatch | CallCarrier | Withdraw | CancelAtCarrier | Resume


@dataclass(slots=True, frozen=True)
class Candidate:
    """A carrier the router offers for a step.

    Attributes:
        on_ambiguous: the route's policy, else the carrier's.
        why: how it was chosen (route, strategy, carriers skipped), JSON values; None: by the order of the settings.
    """

    carrier: str
    on_ambiguous: str = "resend"
    why: Mapping[str, Any] | None = field(default=None, compare=False)


Route = Callable[[int], Sequence[Candidate]]  # step -> candidates in order


class Decision(Struct, gc=False):
    """The facts to store, in order, and the effects to carry out after the commit."""

    events: list[Event]
    effects: list[Effect]


# --- decide ---


class _Deciding:
    """A decision being made: numbers the events, and knows which attempts it has ended so far."""

    __slots__ = ("effects", "events", "now", "over", "seq", "state")

    def __init__(self, state: Cascade, now: datetime) -> None:
        self.state = state
        self.now = now
        self.seq = state.seq
        self.over: list[Attempt] = []
        self.events: list[Event] = []
        self.effects: list[Effect] = []

    def event(self, type: str, step: int | None, attempt: int | None, data: dict[str, Any]) -> None:
        self.seq += 1
        self.events.append(Event(self.seq, self.now, type, step, attempt, data))

    def effect(self, effect: Effect) -> None:
        self.effects.append(effect)

    def supersede(self, a: Attempt, reason: str) -> None:
        """End an attempt that is not wanted any more, and take it back where that may still be done."""
        self.event("superseded", a.step, a.attempt, {"reason": reason})
        self.over.append(a)
        if a.status == "queued":
            self.withdraw(a)
        else:
            self.cancel_at_carrier(a)

    def time_out(self, a: Attempt, data: dict[str, Any]) -> None:
        self.event("timed_out", a.step, a.attempt, data)
        self.over.append(a)
        if a.status == "queued":
            self.withdraw(a)

    def withdraw(self, a: Attempt) -> None:
        # One that has left answers; the answer decides what becomes of it.
        if a.dispatched and not a.left:
            self.effect(Withdraw(a.step, a.attempt))

    def cancel_at_carrier(self, a: Attempt) -> None:
        if a.carrier_message_ids:
            self.effect(CancelAtCarrier(a.step, a.attempt))

    def others(self, a: Attempt) -> list[Attempt]:
        """List the step's attempts, but for `a`, of which an answer or a receipt may still come."""
        return [
            o
            for o in self.state.attempts
            if o.step == self.state.step and o is not a and o.status in ("queued", "submitted") and o not in self.over
        ]


def decide(state: Cascade, input: Input, now: datetime, route: Route) -> Decision:
    """Decide what follows from one input: the events to store and the effects to carry out once they are.

    Total: every input in every state has an answer, which may be empty. Nothing is changed.

    Args:
        state: where the message stands.
        input: what happened.
        now: aware, UTC.
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
    elif isinstance(input, Reschedule):
        _on_reschedule(d, input)
    elif isinstance(input, Recovered):
        _on_recovered(d, input)
    else:
        _on_crashed(d, input)
    return Decision(d.events, d.effects)


def _on_begin(d: _Deciding, route: Route) -> None:
    message = d.state.message
    if d.state.seq:
        return
    first = _step_from(d, 0, route)
    if first is None:
        d.event("accepted", None, None, {})
        error = _error("provider_config", "no_route", "no carrier serves any step")
        d.event("failed", None, None, {"error": error})
    elif message.send_at is not None and message.send_at > d.now:
        d.event("accepted", None, None, {})
        step, candidate = first
        intent = _intent(message, step, 1, candidate, not_before=message.send_at)
        d.event("scheduled", None, None, {"send_at": rfc3339(message.send_at), "next": intent})
    else:
        step, candidate = first
        d.event("accepted", None, None, {"next": _intent(message, step, 1, candidate)})
        d.effect(Dispatch(step, 1))


def _on_reschedule(d: _Deciding, i: Reschedule) -> None:
    message = d.state.message
    if not d.state.movable or message.send_at is None:
        return
    send_at = max(i.send_at, d.now)
    expires_at = send_at + (message.expires_at - message.send_at)  # counted from send_at, as when it was accepted
    d.event("scheduled", None, None, {"send_at": rfc3339(send_at), "expires_at": rfc3339(expires_at)})


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
    enough = s.message.cascade[i.step].success == "submitted"
    if s.open:
        if enough:
            _deliver(d, a, {})
        elif a.status == "queued" or a.status == "ambiguous":
            _drop_resend(d, a)
        elif a.status == "superseded" and any(o.step == a.step and o.status == "submitted" for o in s.attempts):
            _cancel_late(d, i)  # both the doubtful attempt and its resend were taken
    elif s.status in CORRECTABLE_STATUSES:
        if enough:  # rule 6: the carrier's late answer is the positive word here
            d.event("corrected", i.step, i.attempt, {"from": s.status})
    elif a.status not in RECEIVED:
        _cancel_late(d, i)  # rules 5 and 10: nobody wants it any more


def _cancel_late(d: _Deciding, i: Submitted) -> None:
    if i.carrier_message_ids:
        d.effect(CancelAtCarrier(i.step, i.attempt))


def _drop_resend(d: _Deciding, a: Attempt) -> None:
    """The carrier has the doubtful attempt after all: a resend that has not left is not needed (rule 9)."""
    for o in d.state.attempts:
        if o is not a and o.step == a.step and o.status == "queued" and not o.gone:
            d.supersede(o, "taken_after_all")


def _deliver(d: _Deciding, a: Attempt, data: dict[str, Any]) -> None:
    """End the message as delivered by this attempt; the others are not wanted any more (rules 3, 4 and 5)."""
    for o in d.state.attempts:
        if o is a:
            continue
        if o.status == "queued" or o.status == "submitted":
            d.supersede(o, "delivered_by_another")
        elif o.status == "timed_out" or o.status == "ambiguous":  # it stays what it was: nobody knows better
            d.cancel_at_carrier(o)
    d.event("delivered", a.step, a.attempt, data)


def _on_refused(d: _Deciding, i: Refused, route: Route) -> None:
    s = d.state
    a = s.find(i.step, i.attempt)
    if a is None or a.submitted_at is not None or a.status == "rejected" or a.status in RECEIVED:
        return
    error = _error(i.error_class, i.code, i.detail)
    data: dict[str, Any] = {"carrier": i.carrier, "error": error}
    if i.retry_after_s is not None:
        data["retry_after_s"] = min(max(0.0, i.retry_after_s), LONGEST_WAIT_S)
    counts = s.open and a.step == s.step and a.status in _LIVE and not d.others(a)
    if counts and (i.error_class in MOVES_ON or (i.error_class == "unknown" and i.retryable)):
        intent = _next_try(d, a, i, route)
        if intent is not None:
            data["next"] = intent
            d.event("rejected", i.step, i.attempt, data)
            if "not_before" not in intent:
                d.effect(Dispatch(i.step, intent["attempt"]))
            return
    d.event("rejected", i.step, i.attempt, data)
    if not s.open:
        return
    if counts and d.now >= s.message.expires_at:
        _end_of_time(d, refused=a)
    else:
        _refused_for_good(d, a, error, i.error_class, route)


def _refused_for_good(d: _Deciding, a: Attempt, error: dict[str, Any], reason: str, route: Route) -> None:
    """The attempt failed for good: its step is over unless another attempt of it is under way."""
    s = d.state
    over = a.step == s.step and a.status in _LIVE
    if error["class"] == BLOCKED and a.channel == s.message.cascade[s.step].channel:
        for o in d.others(a):  # rule 2: not on this channel again, not even what is waiting to leave
            if o.status == "queued" and not o.gone:
                d.supersede(o, BLOCKED)
                over = True
    if over and not d.others(a):
        _step_over(d, a, error, reason, route)


def _next_try(d: _Deciding, a: Attempt, i: Refused, route: Route) -> dict[str, Any] | None:
    """Choose the next try of the same step: the first carrier tried least, at once if it is new (rule 2)."""
    s = d.state
    tries = [o for o in s.attempts if o.step == a.step]
    deadline = s.deadline()
    if len(tries) >= MAX_TRIES or d.now >= deadline or a.channel in s.shut:
        return None
    out = {o.carrier for o in tries if o.error is not None and o.error["class"] in CARRIER_IS_OUT}
    if i.error_class in CARRIER_IS_OUT:
        out.add(i.carrier)
    tried: dict[str, int] = {}
    for o in tries:
        carrier = i.carrier if o is a else o.carrier
        tried[carrier] = tried.get(carrier, 0) + 1
    number = tries[-1].attempt + 1
    for candidate in sorted(route(a.step), key=lambda c: tried.get(c.carrier, 0)):
        carrier = candidate.carrier
        if carrier in out:
            continue
        if carrier not in tried:
            return _intent(s.message, a.step, number, candidate)
        if carrier == i.carrier and i.retry_after_s is not None:
            delay = min(max(0.0, i.retry_after_s), LONGEST_WAIT_S)
        else:
            delay = backoff_s(s.message.message_id, a.step, number, tried[carrier])
        not_before = d.now + timedelta(seconds=delay)
        for o in tries:  # what it asked for at an earlier try still holds
            if o.carrier == carrier and o.retry_at is not None and o.retry_at > not_before:
                not_before = o.retry_at
        if not_before < deadline:
            return _intent(s.message, a.step, number, candidate, not_before=not_before)
    return None


def backoff_s(message_id: str, step: int, attempt: int, tried: int) -> float:
    """Give the wait before the next try of a carrier that was tried `tried` times: 1, 2, 4 s +-20 %.

    The jitter is drawn from the message and the attempt, so that a replay decides the same.
    """
    base = BACKOFF_S[min(tried, len(BACKOFF_S)) - 1]
    draw = crc32(f"{message_id}.{step}.{attempt}".encode()) / 0xFFFFFFFF  # 0..1
    return base * (1 - BACKOFF_JITTER + 2 * BACKOFF_JITTER * draw)


def _on_in_doubt(d: _Deciding, i: InDoubt) -> None:
    a = d.state.find(i.step, i.attempt)
    if a is None or a.parts or a.doubtful:
        return
    error = _error(i.error_class, i.code, i.detail)
    if a.status == "queued":
        _doubt(d, a, i.carrier, error, at_once=False)
    elif a.status == "superseded" or a.status == "timed_out":
        # The message went on without it; should its time end, this one may have been taken (rule 3).
        d.event("ambiguous", a.step, a.attempt, {"carrier": i.carrier, "error": error, "policy": a.policy})


def _doubt(d: _Deciding, a: Attempt, carrier: str, error: dict[str, Any], *, at_once: bool) -> None:
    """Rule 9: never, or a resend as a new attempt at the same carrier within the step's tries and time."""
    s = d.state
    data: dict[str, Any] = {"carrier": carrier, "error": error, "policy": a.policy}
    tries = [o for o in s.attempts if o.step == a.step]
    allowed = s.open and a.step == s.step and len(tries) < MAX_TRIES and a.channel not in s.shut
    if a.policy == "resend" and allowed:
        number = tries[-1].attempt + 1
        not_before = None
        if not at_once:
            tried = sum(1 for o in tries if o is a or o.carrier == carrier)
            delay = backoff_s(s.message.message_id, a.step, number, tried)
            not_before = d.now + timedelta(seconds=delay)
        if (not_before or d.now) < s.deadline():
            again = Candidate(carrier, a.policy)
            data["next"] = _intent(s.message, a.step, number, again, not_before=not_before, recovered=True)
    d.event("ambiguous", a.step, a.attempt, data)
    if "next" in data and at_once:
        d.effect(Dispatch(a.step, data["next"]["attempt"]))


def _on_sending(d: _Deciding, i: Sending) -> None:
    s = d.state
    a = s.find(i.step, i.attempt)
    if a is None or a.status != "queued" or a.sending or not s.open or d.now >= s.message.expires_at:
        return  # withdrawn meanwhile: without the effect the carrier is not called
    d.event("sending", i.step, i.attempt, {"carrier": i.carrier})
    d.effect(CallCarrier(i.step, i.attempt))


def _on_receipt(d: _Deciding, i: Receipt, route: Route) -> None:
    s = d.state
    a = s.find(i.step, i.attempt)
    if a is None or not 0 <= i.segment < MAX_SEGMENTS or i.status not in RECEIPT_RANK:
        return
    part = a.parts[i.segment] if i.segment < len(a.parts) else Segment()
    if i.status in part.seen:
        return  # rule 7: recorded once
    after = _with_receipt(a, part, i)
    receipt: dict[str, Any] = {
        "status": i.status,
        "segment": i.segment,
        "carrier": a.carrier,
        "carrier_message_id": i.carrier_message_id,
    }
    error = None
    if i.status == "undelivered":
        error = _error(i.error_class or "unknown", i.error_code, i.error_detail or "")
        receipt["error"] = error
    if i.cost is not None:
        receipt["cost"] = i.cost
    if i.at is not None:
        receipt["carrier_at"] = rfc3339(i.at if i.at.tzinfo is UTC else i.at.astimezone(UTC))
    met = after == "read" or (after == "delivered" and s.message.cascade[a.step].success != "read")
    if met and (s.open or s.status in CORRECTABLE_STATUSES):
        data: dict[str, Any] = {"receipt": receipt}
        if i.status == "read":  # a fact of its own, with a webhook of its own
            d.event("receipt", a.step, a.attempt, receipt)
            data = {}
        if s.open:  # rules 3, 4, 5: the first receipt that meets its step's criterion delivers
            _deliver(d, a, data)
        else:  # rule 6
            d.event("corrected", a.step, a.attempt, {"from": s.status, **data})
        return
    news = after == "undelivered" and ATTEMPT_RANK[a.status] < ATTEMPT_RANK["undelivered"]
    d.event("undelivered" if news and s.open else "receipt", a.step, a.attempt, receipt)
    if not s.open:
        return
    if a.status == "ambiguous":
        _drop_resend(d, a)
    if error is not None and (news or error["class"] == BLOCKED):
        _refused_for_good(d, a, error, "undelivered", route)


def _with_receipt(a: Attempt, part: Segment, i: Receipt) -> str:
    """Tell what the attempt will have reached once this receipt is taken in."""
    better = RECEIPT_RANK[i.status] > RECEIPT_RANK[part.status]
    if len(a.parts) <= 1 and i.segment == 0:
        return i.status if better else part.status
    parts = list(a.parts)
    while len(parts) <= i.segment:
        parts.append(Segment())
    parts[i.segment] = Segment(None, i.status if better else part.status)
    return status_reached(parts)


def _on_time(d: _Deciding, route: Route) -> None:
    s = d.state
    if not s.open:
        return
    if d.now >= s.message.expires_at:
        _end_of_time(d)
        return
    if d.now >= s.deadline():
        _step_timed_out(d, route)
        return
    for a in s.attempts:
        if a.status == "queued" and not a.dispatched and (a.not_before is None or a.not_before <= d.now):
            d.effect(Dispatch(a.step, a.attempt))


def _step_timed_out(d: _Deciding, route: Route) -> None:
    """The step's receipt wait is over: fall back, or wait on when there is nothing to fall back to."""
    s = d.state
    following = _step_from(d, s.step + 1, route)
    if following is None:
        d.event("stays", s.step, None, {})
        return
    for a in s.attempts:
        if a.step != s.step or a.status not in _LIVE:
            continue
        if a.status == "queued" and not a.gone:
            d.supersede(a, "step_timed_out")
        else:
            d.time_out(a, {"timeout_s": s.message.cascade[s.step].timeout_s})
    _fall_back(d, following, "timed_out")


def _step_over(d: _Deciding, a: Attempt, error: dict[str, Any], reason: str, route: Route) -> None:
    """The step ended with this error of this attempt: fall back, or fail at once (rule 1)."""
    s = d.state
    following = None
    if d.now < s.message.expires_at:
        following = _step_from(d, s.step + 1, route, shut=a.channel if error["class"] == BLOCKED else None)
    if following is not None:
        _fall_back(d, following, reason)
    else:
        d.event("failed", s.step, None, {"error": error})


def _step_from(d: _Deciding, first: int, route: Route, shut: str | None = None) -> tuple[int, Candidate] | None:
    """Find the next step that may begin: a carrier serves it, its channel is not shut (rule 2)."""
    steps = d.state.message.cascade
    for n in range(first, len(steps)):
        channel = steps[n].channel
        if channel == shut or channel in d.state.shut:
            continue
        candidates = route(n)
        if candidates:
            return n, candidates[0]
    return None


def _fall_back(d: _Deciding, following: tuple[int, Candidate], reason: str) -> None:
    step, candidate = following
    intent = _intent(d.state.message, step, 1, candidate)
    d.event("fallback", step, 1, {"from_step": d.state.step, "reason": reason, "next": intent})
    d.effect(Dispatch(step, 1))


def _end_of_time(d: _Deciding, refused: Attempt | None = None) -> None:
    """End a message whose time is over: unknown when a carrier may have it, else expired (rule 3)."""
    taken = False
    for a in d.state.attempts:
        if a is refused:
            continue
        taken = taken or a.maybe_taken
        if a.status == "queued" and not a.gone:
            d.supersede(a, "message_expired")
        elif a.status in _LIVE:
            d.time_out(a, {})
    d.event("unknown" if taken else "expired", None, None, {})


def _on_cancel(d: _Deciding) -> None:
    s = d.state
    if not s.open:
        return
    for a in s.attempts:
        if a.status == "queued":
            d.supersede(a, "cancelled")  # one that has left is cancelled at the carrier once it answers
        elif a.status == "submitted" or a.status == "timed_out":
            d.cancel_at_carrier(a)
    d.event("cancelled", None, None, {})


def _on_recovered(d: _Deciding, i: Recovered) -> None:
    s = d.state
    if not s.open:
        return
    parked = i.last_alive == PARKED
    lived = i.last_alive if s.updated_at is None else max(i.last_alive, s.updated_at)
    for a in s.attempts:
        if a.status in ("submitted", "timed_out", "superseded") and a.submitted_at is not None:
            d.effect(Resume(a.step, a.attempt))
        if a.status != "queued":
            continue
        unwritten = a.policy == "never" and not a.sending
        if unwritten or parked or (not a.sending and (a.not_before or a.queued_at) > lived):
            # Certainly not sent: its call would have been written ahead, it was parked, or it was not due yet.
            continue  # `TimePassed` dispatches it when it is due
        detail = "the process ended between the carrier call and its recorded answer"
        _doubt(d, a, a.carrier, _error("unknown", None, detail), at_once=True)


def _on_crashed(d: _Deciding, i: Crashed) -> None:
    s = d.state
    d.event("crashed", None, None, {"error": i.detail})
    if s.crashes + 1 >= MAX_CRASHES and s.open:
        for a in s.attempts:
            if a.status == "queued":
                d.supersede(a, "cascade_crashed")
        detail = f"processing this message failed {MAX_CRASHES} times ({i.detail})"
        d.event("failed", None, None, {"error": _error("unknown", "cascade_crashed", detail)})


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
    if candidate.why is not None:
        intent["why"] = candidate.why
    if not_before is not None:
        intent["not_before"] = rfc3339(not_before)
    if recovered:
        intent["recovered"] = True
    if (message.on_ambiguous or candidate.on_ambiguous) == "never":
        intent["on_ambiguous"] = "never"
    return intent


def _error(error_class: str, code: str | None, detail: str) -> dict[str, Any]:
    return {"class": error_class, "code": code, "detail": detail}
