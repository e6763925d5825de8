"""What the parts of Hermes say to each other: requests in the imperative, facts in the past.

The gateway and the cast do not import each other; they meet here and by actor name:
`tenant/<tenant id>`, `cascade/<message id>`, `carrier_actor(...)`, `dlr`, `router`, `webhook/<tenant id>`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from msgspec import Struct

from hermes.domain.message import Message
from hermes.domain.quiet import Quiet
from hermes.domain.receipt import DeliveryReceipt
from hermes.domain.usage import UsageDelta
from hermes.errors import HermesError


def carrier_actor(name: str, kind: str) -> str:
    """Name the actor that holds a carrier's queue and takes orders for it."""
    return f"smpp/{name}/dispatcher" if kind == "smpp" else f"provider/{name}"


class Submit(Quiet, Struct, eq=False):
    """To `tenant/<id>`, as a call: admit this message. Answered with `Admitted` once committed, or `Refused`.

    Attributes:
        idempotency: (key, request hash, 202 body as JSON text) to be stored with the message, or None.
        accepted: what the message counts for in its tenant's quotas; None where it has none.
        withdraw: set by the tenant once the write is queued. A caller that stops waiting calls it: True means
            the message was certainly not accepted, False that nobody knows yet.
        outcome: in a `SubmitAll`, what became of it, once that is known.
    """

    quiet: ClassVar[frozenset[str]] = frozenset({"idempotency"})

    message: Message
    idempotency: tuple[str, bytes, str] | None = None
    accepted: UsageDelta | None = None
    withdraw: Callable[[], bool] | None = None
    outcome: Admitted | Refused | None = None


class SubmitAll(Struct, eq=False):
    """To `tenant/<id>`, as a call: admit these messages, each for itself.

    Answered None once each has its `outcome`; a caller that gets no answer finds there what became known so far.
    """

    submits: Sequence[Submit]


class Admitted(Struct, frozen=True, gc=False):
    """The message is stored. `status` is accepted or scheduled."""

    status: str


class Refused(HermesError):
    """The message was not accepted; nothing was stored.

    Attributes:
        code: a problem code of the public contract (no_route, too_many_open, overloaded, journal_away, ...).
        layer: which validation layer refused, where one did.
        field: the field of the request it is about, or None.
        retry_after_s: for 429 and 503.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        layer: str | None = None,
        field: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.layer = layer
        self.field = field
        self.retry_after_s = retry_after_s


@dataclass(slots=True, frozen=True)
class CancelMessage:
    """To `tenant/<id>`, as a call: cancel.

    Answered None once committed; raises `NotFound` or `AlreadyFinal`.
    """

    message_id: str


@dataclass(slots=True, frozen=True)
class RescheduleMessage:
    """To `tenant/<id>`, as a call: send a scheduled message at another time.

    Answered None once committed; raises `NotFound`, `AlreadyFinal` or `AlreadyBegun`.
    """

    message_id: str
    send_at: datetime


class AlreadyBegun(HermesError):
    """The message waits for no time: it was not scheduled, or its time has come."""


class NotFound(HermesError):
    """There is no such message for this tenant."""


class AlreadyFinal(HermesError):
    """The message has a final status already."""

    def __init__(self, status: str) -> None:
        super().__init__(f"the message is already {status}")
        self.status = status


@dataclass(slots=True, frozen=True)
class ReceiptArrived:
    """To `dlr`, as a call: a carrier reports. Answered "matched" or "parked" once stored.

    Raises JournalAway to the caller when it cannot be stored now: do not acknowledge it to the carrier.
    """

    receipt: DeliveryReceipt


@dataclass(slots=True, frozen=True)
class ControlCarrier:
    """To a carrier's actor, as a call: an operator's order. Answered with its `inspect()`.

    Attributes:
        order: "pause" (send nothing), "drain" (the same; what is under way ends), "resume" (go on; also closes the
            breaker and lifts a stop made by a provider_auth answer).
    """

    order: str


@dataclass(slots=True, frozen=True)
class ExplainRoute:
    """To `router`, as a call: which carriers would be asked, in order, for each step of this message.

    Answered with a list (one entry per step) of lists of carrier names.
    """

    message: Message


@dataclass(slots=True, frozen=True)
class SuppressRecipient:
    """To `suppressions`: never write to this recipient again on this channel; what is queued for them ends at once.

    As a call: answered None once stored; raises JournalAway to the caller when it cannot be stored now. By `send`:
    stored as soon as the journal can.

    Attributes:
        channel: None for every channel that reaches the address.
        reason: one of `hermes.domain.suppression` (opted_out, complaint, ...).
    """

    tenant: str
    channel: str | None
    address: str = field(repr=False)
    reason: str


@dataclass(slots=True, frozen=True)
class LiftOptOut:
    """To `suppressions`, as a call: the recipient opts in again (START).

    Answered, once stored, with whether they had opted out; what was suppressed for another reason stays.
    """

    tenant: str
    channel: str
    address: str = field(repr=False)


@dataclass(slots=True, frozen=True)
class ErasureAsked:
    """To `erasures`: there is an erasure in the journal that is not done."""


@dataclass(slots=True, frozen=True)
class Listed:
    """A carrier there is. `off`: why it has no actor (not enabled, its stored secrets cannot be read), or None."""

    name: str
    kind: str
    channel: str
    tenant: str | None
    off: str | None = None


class SettingRefused(HermesError):
    """A carrier or route cannot be set like this; nothing was changed.

    Attributes:
        key: the setting it is about, as the request names it.
        why: for people; never a value that may be secret.
    """

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{key}: {why}")
        self.key = key
        self.why = why
