"""What the cast says among itself. What the gateway also says is in `hermes/domain/commands.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from carriers.base import ReceiptStored, Submission
from hermes.domain import cascade
from hermes.domain.receipt import DeliveryReceipt
from hermes.journal.base import StoredMessage
from hermes.runtime import Entry, Ref, Reply

if TYPE_CHECKING:
    from actors.context import CarrierPlan


class Job(Struct, eq=False):
    """One attempt in a carrier's hands. The cascade actor and the provider actor share it.

    Attributes:
        cascade: whom to answer.
        write_ahead: ask the cascade before the first call, which answers `GoAhead`: under policy `never`, and when the
            journal has noted that it has not left.
        once: nothing of it may be sent a second time (policy never).
        withdrawn: the cascade does not want it sent any more. Set by the cascade, heeded by the carrier's actor.
        allowed: the carrier may be called without asking (again), so the journal must not say that it has not left.
            Set with the go-ahead, or by the carrier's actor when it need not ask; never taken back.
        left: it is in the carrier's hands. Set by the carrier's actor, and taken back when the carrier certainly did
            not take it; read by the cascade.
        by: the worker whose message it is, when that is not this one.
        entry: its place in the carrier's queue, while it has one; the carrier's actor's own.
    """

    submission: Submission
    cascade: Ref
    write_ahead: bool
    once: bool = False
    withdrawn: bool = False
    allowed: bool = False
    left: bool = False
    by: str = ""
    entry: Entry | None = None


@dataclass(slots=True, frozen=True)
class WithdrawJob:
    """To a provider: take this out of the queue (it is marked `withdrawn` already)."""

    job: Job


@dataclass(slots=True, frozen=True)
class GoAhead:
    """To a provider: the write-ahead is stored, call the carrier."""

    job: Job


@dataclass(slots=True, frozen=True)
class CancelSubmitted:
    """To a carrier: ask it to stop what it took."""

    submission: Submission
    carrier_message_ids: tuple[str, ...]


@dataclass(slots=True, frozen=True)
class ResumeSubmitted:
    """To a provider: this attempt, submitted earlier, is waited for again."""

    submission: Submission
    carrier_message_ids: tuple[str, ...]
    submitted_at: datetime


@dataclass(slots=True, frozen=True)
class UseCarrier:
    """To a provider, as a call: serve this plan from now on. Answered with None once its carrier is open.

    What waits stays in the queue; calls under way end with the former carrier, which is closed then.
    """

    plan: CarrierPlan


@dataclass(slots=True, frozen=True)
class Retire:
    """To a provider, as a call: give back what waits, take nothing more. Answered with None once no call is under way.

    The carrier itself stays open for late receipts. `UseCarrier` puts the actor back into service.
    """


@dataclass(slots=True, frozen=True)
class Release:
    """To a dispatcher or an intake, as a call: the carrier is to be another worker's (`Context.leaving` has it).

    Begin nothing new, give back what other workers handed over, and answer once nothing is in the carrier's hands or
    to be stored: with None, or with the reason why the carrier must stay.
    """


class GoOn:
    """To the same: the carrier stays (`Context.leaving` has it no more)."""

    __slots__ = ()


GO_ON: Final = GoOn()


@dataclass(slots=True, frozen=True)
class HeldBy:
    """To a courier: this worker holds the carrier.

    Attributes:
        away: why the carrier cannot be asked, as its holder finds it; None: it can.
    """

    worker: str
    away: str | None


@dataclass(slots=True, frozen=True)
class HandoverEnded:
    """To a courier: the outcome of what it handed over is on its way to the cascade."""

    key: tuple[str, int, int]


@dataclass(slots=True, frozen=True)
class NotTaken:
    """To a cascade: the job did not leave and is not queued any more.

    Attributes:
        at_once: the carrier is taken out of service: ask another. False: the queue is full or the actor ended; try
            again in a moment.
    """

    job: Job
    at_once: bool = False


@dataclass(slots=True, frozen=True)
class ChooseAgain:
    """To a cascade: the carrier became unfit (down, paused, breaker open) and the job has not left.

    It keeps its place in the carrier's queue, so that it stays before what comes later; the cascade may withdraw it and
    ask another carrier.
    """

    job: Job


@dataclass(slots=True, frozen=True)
class DropSuppressed:
    """To a carrier: there are new do-not-contact entries; what waits for such a recipient must not leave."""


@dataclass(slots=True, frozen=True)
class NotWanted:
    """To a cascade: the job did not leave and will not: its recipient must not be written to any more."""

    job: Job


class Overdue:
    """To a cascade: it has waited as long as it may, for a carrier's answer (`Context.handed`) or for anything."""

    __slots__ = ()


OVERDUE: Final = Overdue()


class ReceiptMail(Struct, eq=False):
    """To `dlr`, `waker` or a cascade: a receipt on its way, and whom to tell when it is stored.

    Attributes:
        target: (step, attempt, segment) once known.
        keys: the ids it may be known by, canonical, the likeliest first; empty: its own.
        matched: called with the key its message was found by, or None when nobody knows it (yet).
    """

    receipt: DeliveryReceipt
    stored: ReceiptStored | None
    target: tuple[int, int, int] | None = None
    keys: tuple[str, ...] = ()
    matched: Callable[[str | None], None] | None = None


@dataclass(slots=True, frozen=True)
class CancelMail:
    """To `waker` or a cascade: the customer wants it stopped, and waits for the answer.

    Answered with None once stored, or with AlreadyFinal, NotFound or JournalAway.
    """

    reply: Reply


@dataclass(slots=True, frozen=True)
class RescheduleMail:
    """To `waker` or a cascade: the customer wants it sent at another time, and waits for the answer.

    Answered with None once stored, or with AlreadyBegun, AlreadyFinal, NotFound or JournalAway.
    """

    reply: Reply
    send_at: datetime


@dataclass(slots=True, frozen=True)
class Wake:
    """To `waker`: bring this message's cascade back from the journal and give it `mail`."""

    message_id: str
    mail: object | None = None
    delay_s: float = 0.0


@dataclass(slots=True, frozen=True)
class Gained:
    """To `waker` and `errands`: these shards are this worker's now.

    Each with the latest moment its former owner may have acted.
    """

    shards: dict[int, datetime]


@dataclass(slots=True, frozen=True)
class Forward:
    """To `errands`: this message is another worker's; see to it that its owner gets the mail."""

    message_id: str
    mail: object | None


class Settle:
    """To `waker` or a tenant, as a call: answered once the mail before it is dealt with.

    By the waker: once nothing is being brought back of the shards that are about to be given back.
    """

    __slots__ = ()


class HandOver:
    """To a cascade: its message is to be another worker's.

    It takes back what has not left, awaits what has, parks the message, and ends.
    """

    __slots__ = ()


HAND_OVER: Final = HandOver()


@dataclass(slots=True)
class Adopt:
    """To `tenant/<id>`: start a cascade for what the journal holds, and give it this mail, in order.

    Attributes:
        last_alive: see `cascade.Recovered`.
        first: an input to take before anything else (a crash to record), or None.
        taken: there is a cascade; until then more mail may be added, and what is in `stored` is not to be read again.
    """

    stored: StoredMessage
    last_alive: datetime
    mail: list[object] = field(default_factory=list)
    first: cascade.Input | None = None
    taken: bool = False
