"""Where a message stands: the fold over its events.

    state = fold(message, events)   the past, read back
    apply(state, event)             one fact, taken in

What the events mean is here, what follows from them in `cascade.py`. The rules are numbered as in
docs/cascade.md. A decision may change with a release; an event that was stored must be understood after it too.

Invariant: `fold` over the events gives the live state, but for what only this process knows (`dispatched`, `left`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from msgspec import Struct, structs

from hermes.domain.events import INTERNAL_EVENTS, Event
from hermes.domain.message import Message
from hermes.domain.quiet import Quiet
from hermes.domain.state import FINAL_STATUSES, RECEIPT_RANK

BLOCKED: Final = "blocked_or_opted_out"
RECEIVED: Final = frozenset({"delivered", "read", "undelivered"})
# How much is known of an attempt: a receipt changes its status only to one that says more (rule 7).
ATTEMPT_RANK: Final = {
    "queued": 0,
    "ambiguous": 0,
    "submitted": 1,
    "timed_out": 1,
    "rejected": 2,
    "undelivered": 2,
    "delivered": 3,
    "read": 4,
    "superseded": 5,
}


class Segment(Quiet, Struct, gc=False):
    """One radio part (or the whole message, where a carrier gives one id): its id and the best word on it."""

    quiet: ClassVar[frozenset[str]] = frozenset({"error"})

    carrier_message_id: str | None = None
    status: str = "submitted"
    error: dict[str, Any] | None = None
    cost: float | None = None  # what a receipt said; the highest, so that their order means nothing
    seen: tuple[str, ...] = ()  # receipt statuses recorded, so that a repeat is known as one


class Attempt(Quiet, Struct, gc=False):
    """One try at one carrier.

    Attributes:
        attempt: 1.. within its step.
        not_before: it must not leave before; None: at once.
        policy: what an ambiguous dispatch leads to: resend or never.
        sending: the write-ahead of the call is stored (policy never).
        doubtful: nobody knows whether the carrier took it; that was learnt when the attempt was superseded or
            timed out already.
        retry_at: the carrier asked not to be called before, when it refused.
        dispatched: this process has handed it to its carrier. Not journaled.
        left: the carrier was called and has not answered. Not journaled; set by the actor.
    """

    quiet: ClassVar[frozenset[str]] = frozenset({"error"})

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
    doubtful: bool = False
    retry_at: datetime | None = None
    submitted_at: datetime | None = None
    ended_at: datetime | None = None
    carrier_message_ids: list[str] = []
    segments: int | None = None
    parts: list[Segment] = []
    error: dict[str, Any] | None = None
    cost: float | None = None
    dispatched: bool = False
    left: bool = False

    def __eq__(self, other: object) -> bool:
        """Compare what is journaled."""
        if not isinstance(other, Attempt):
            return NotImplemented
        return self is other or _journaled(self) == _journaled(other)

    @property
    def gone(self) -> bool:
        """True while it may be in the carrier's hands unanswered: taking it back may come too late."""
        return self.left or self.sending

    @property
    def maybe_taken(self) -> bool:
        """True when a carrier took it, or may have, and nothing says that it did not reach the recipient."""
        if self.status == "rejected" or self.status == "undelivered":
            return False
        if self.parts or self.status == "ambiguous" or self.status == "timed_out":
            return True  # `parts` begin with the carrier's answer or its first receipt
        return self.gone or self.doubtful


class Cascade(Struct, gc=False):
    """Where a message stands: the fold over its events.

    Attributes:
        seq: of the newest event; 0 before the first.
        step: the step under way; `step_started_at` is None before the first.
        shut: channels on which the recipient is blocked or has opted out: no further try there (rule 2).
        stays: no later step can be begun, so that this one's wait ends with the message's time.
        open: until the message has a final status.
    """

    message: Message
    status: str = "accepted"
    seq: int = 0
    step: int = 0
    step_started_at: datetime | None = None
    attempts: list[Attempt] = []
    delivered_by: int | None = None
    final_at: datetime | None = None
    updated_at: datetime | None = None
    crashes: int = 0
    shut: frozenset[str] = frozenset()
    stays: bool = False
    open: bool = True

    @property
    def movable(self) -> bool:
        """True while the message waits for its `send_at`: nothing of it has been begun."""
        if self.status != "scheduled" or len(self.attempts) != 1:
            return False
        a = self.attempts[0]
        return a.status == "queued" and not a.dispatched and not a.gone

    def find(self, step: int, attempt: int) -> Attempt | None:
        """Find an attempt; None when there is none."""
        attempts = self.attempts
        if attempts:
            a = attempts[-1]  # almost always
            if a.step == step and a.attempt == attempt:
                return a
            for a in attempts:
                if a.step == step and a.attempt == attempt:
                    return a
        return None

    def deadline(self) -> datetime:
        """Tell when the step's receipt wait ends. The last step's ends when the message's time does."""
        message = self.message
        if self.step >= len(message.cascade) - 1 or self.step_started_at is None or self.stays:
            return message.expires_at
        end = self.step_started_at + timedelta(seconds=message.cascade[self.step].timeout_s)
        return end if end < message.expires_at else message.expires_at

    def due(self) -> datetime | None:
        """Tell when `TimePassed` must be looked at next, should nothing else happen; None when final."""
        if not self.open:
            return None
        due = self.deadline()
        for a in self.attempts:
            if a.status == "queued" and not a.dispatched:
                start = a.not_before or a.queued_at
                if start < due:
                    due = start
        return due

    def cost(self) -> float | None:
        """Add up what the attempts cost, to a millionth; None when nothing did."""
        costs = [a.cost for a in self.attempts if a.cost is not None]
        return round(sum(costs), 6) if costs else None


def _journaled(a: Attempt) -> list[Any]:
    return [getattr(a, name) for name in a.__struct_fields__ if name != "dispatched" and name != "left"]


def fold(message: Message, events: Iterable[Event]) -> Cascade:
    """Read a message's past back into its state."""
    state = Cascade(message)
    for event in events:
        apply(state, event)
    return state


# --- apply: one fact, taken in ---


def apply(state: Cascade, event: Event) -> None:
    """Take one fact into the state. Facts are never questioned here; `decide` made sure of them."""
    state.seq = event.seq
    kind = event.type
    data = event.data
    if kind in INTERNAL_EVENTS:
        _apply_internal(state, event)
        return
    state.updated_at = event.at
    if kind == "accepted" or kind == "scheduled":
        state.status = kind
        if "expires_at" in data:
            _apply_rescheduled(state, data)
    else:
        if state.open:
            state.status = "in_progress"
        if kind in FINAL_STATUSES or kind == "corrected":
            _apply_final(state, event)
        elif event.step is not None and event.attempt is not None:
            a = state.find(event.step, event.attempt)
            if a is not None:
                _apply_to_attempt(state, a, event)
    following = data.get("next")
    if following is not None:
        _apply_next(state, following, event.at)


def _apply_rescheduled(state: Cascade, data: dict[str, Any]) -> None:
    send_at, expires_at = (datetime.fromisoformat(data[name]) for name in ("send_at", "expires_at"))
    state.message = structs.replace(state.message, send_at=send_at, expires_at=expires_at)
    state.attempts[0].not_before = state.step_started_at = send_at


def _apply_internal(state: Cascade, event: Event) -> None:
    if event.type == "crashed":
        state.crashes += 1
    elif event.type == "stays":
        state.stays = True
    else:
        a = state.find(event.step or 0, event.attempt or 0)
        if a is not None:
            a.sending = True
            a.carrier = event.data.get("carrier", a.carrier)


def _apply_final(state: Cascade, event: Event) -> None:
    state.open = False
    if event.type == "delivered" or event.type == "corrected":
        state.status = "delivered"
        state.delivered_by = event.step
        if event.step is not None and event.attempt is not None:
            a = state.find(event.step, event.attempt)
            if a is not None:
                _apply_success(state, a, event)
    else:
        state.status = event.type
    if state.final_at is None:
        state.final_at = event.at


def _apply_success(state: Cascade, a: Attempt, event: Event) -> None:
    """The attempt delivered the message: given up or not, it counts as what its carrier says of it."""
    if "receipt" in event.data:
        _apply_receipt(state, a, event.data["receipt"], event.at)
    if a.status == "superseded" or a.status == "timed_out":
        a.status = status_reached(a.parts) if a.parts else "submitted"
        a.ended_at = event.at if a.status in RECEIVED else None


def _apply_to_attempt(state: Cascade, a: Attempt, event: Event) -> None:
    kind = event.type
    data = event.data
    if kind == "submitted":
        _apply_submitted(a, event)
    elif kind == "undelivered" or kind == "receipt":
        _apply_receipt(state, a, data, event.at)
    elif kind == "rejected":
        a.carrier = data.get("carrier", a.carrier)
        a.error = data["error"]
        a.left = False
        if a.error is not None and a.error["class"] == BLOCKED:
            state.shut |= {a.channel}
        if "retry_after_s" in data:
            a.retry_at = event.at + timedelta(seconds=data["retry_after_s"])
        if a.status != "superseded":
            a.status = "rejected"
            a.ended_at = event.at
    elif kind == "ambiguous":
        a.carrier = data.get("carrier", a.carrier)
        a.error = data.get("error")
        a.left = False
        if a.status == "queued":
            a.status = "ambiguous"
        else:
            a.doubtful = True
    elif kind == "timed_out" or kind == "superseded":
        a.status = kind
        a.ended_at = event.at


def _apply_submitted(a: Attempt, event: Event) -> None:
    data = event.data
    ids = list(data.get("carrier_message_ids", ()))
    known = a.parts  # a doubtful attempt may have had its receipts before its late answer
    a.carrier = data.get("carrier", a.carrier)
    a.carrier_message_ids = ids
    a.segments = data.get("segments")
    a.cost = data.get("cost")
    a.submitted_at = event.at
    a.error = None
    a.left = False
    a.parts = [Segment(i) for i in ids] or [Segment()]
    if known:
        _keep_receipts(a, ids, known)
    if a.status == "queued" or a.status == "ambiguous":
        a.status = "submitted"


def _keep_receipts(a: Attempt, ids: list[str], known: list[Segment]) -> None:
    """Put what receipts said before the carrier's answer where the answer's ids say."""
    for n, part in enumerate(known):
        place = ids.index(part.carrier_message_id) if part.carrier_message_id in ids else n
        while len(a.parts) <= place:
            a.parts.append(Segment())
        part.carrier_message_id = a.parts[place].carrier_message_id or part.carrier_message_id
        a.parts[place] = part
    _take_cost(a)


def _take_cost(a: Attempt) -> None:
    """What the receipts of all its parts say an attempt costs wins over what was known when it was submitted."""
    costs = [part.cost for part in a.parts if part.cost is not None]
    if costs and len(costs) == len(a.parts):
        a.cost = round(sum(costs), 6)


def _apply_receipt(state: Cascade, a: Attempt, data: dict[str, Any], at: datetime) -> None:
    n = data["segment"]
    while len(a.parts) <= n:
        a.parts.append(Segment())
    part = a.parts[n]
    status = data["status"]
    error = data.get("error")
    part.seen = (*part.seen, status)
    if part.carrier_message_id is None:
        part.carrier_message_id = data.get("carrier_message_id")
        if a.submitted_at is None:
            a.carrier_message_ids = [p.carrier_message_id for p in a.parts if p.carrier_message_id is not None]
    if RECEIPT_RANK[status] > RECEIPT_RANK[part.status]:
        part.status = status
        part.error = error
    cost = data.get("cost")
    if cost is not None:
        part.cost = cost if part.cost is None else max(cost, part.cost)
        _take_cost(a)
    if error is not None and error["class"] == BLOCKED:
        state.shut |= {a.channel}
    reached = status_reached(a.parts)
    if ATTEMPT_RANK[reached] <= ATTEMPT_RANK[a.status]:
        return
    if reached in RECEIVED and a.status != "delivered":
        a.ended_at = at
    a.status = reached
    a.error = next((p.error for p in a.parts if p.error is not None), None) if reached == "undelivered" else None


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


def status_reached(parts: Sequence[Segment]) -> str:
    """Fold segment statuses into the attempt's: undelivered when one is, delivered when all are (rule 8)."""
    if len(parts) == 1:
        return parts[0].status
    lowest = 4
    for part in parts:
        if part.status == "undelivered":
            return "undelivered"
        lowest = min(lowest, RECEIPT_RANK[part.status])
    return "read" if lowest == 4 else "delivered" if lowest == 3 else "submitted"
