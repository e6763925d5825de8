"""A carrier that is an actor written for Thespian: it is asked in this process, and speaks plain dictionaries.

The actor is a `[[guest]]` of the settings. It gets one dictionary a try and sends one back to its sender; what its
handler does in between is its own business. Receipts, if it has any, it sends to the address in `receipts`.

Request: `message_id, tenant, step, attempt, channel, to, from, text, subject, html, title, data, category,
client_reference, expires_at` (aware datetime) and `receipts` (an ActorAddress).
Answer: `carrier_message_ids` (a list, may be left out) and `cost`, or `error`: `class` (of errors.yaml), `code`,
`detail`, `retryable`, `retry_after_s`.
Receipt: `carrier_message_id`, `status` (submitted, undelivered, delivered, read); `error_class`, `error_code`, `at`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import Meta

from carriers.base import Carrier, SendError, SendResult, Submission
from carriers.registry import CarrierSettings, Kind
from hermes.domain.receipt import DeliveryReceipt
from hermes.domain.state import ErrorClass
from hermes.errors import SettingsError
from hermes.logs import Unshown, get_logger
from hermes.runtime import CallTimeout, MailboxFull, NotAlive
from hermes.runtime.clock import Clock

try:
    from hermes.runtime.thespian import Door, Poisoned
except ImportError as exc:  # the extra is not installed: whoever configured the carrier is told
    raise SettingsError("carriers of kind \"guest\" need Thespian: pip install 'hermes-messaging[thespian]'") from exc

log = get_logger("hermes.carrier.guest")

CLASSES: Final = frozenset(get_args(ErrorClass))
OFFER_AGAIN_S: Final = 1.0  # after a receipt could not be stored
HELD_LIMIT: Final = 10_000  # receipts waiting to be stored; more are dropped and logged


class GuestSettings(CarrierSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of `kind = "guest"`.

    Attributes:
        guest: name of the `[[guest]]` that is asked.
        receipts: whether it sends receipts; else a message it took is all it will ever tell.
        timeout_s: seconds it may take to answer; 0: an hour.
    """

    guest: Annotated[str, Meta(min_length=1, max_length=63)]
    receipts: bool = False
    timeout_s: float = 30.0


class Refusal(Unshown, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why the guest did not take a message."""

    class_: str = msgspec.field(name="class", default="unknown")
    code: str | int | None = None
    detail: str = ""
    retryable: bool = False
    retry_after_s: float | None = None


class Answer(Unshown, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the guest sends back."""

    carrier_message_ids: tuple[Annotated[str, Meta(min_length=1, max_length=256)], ...] = ()
    cost: float | None = None
    error: Refusal | None = None


class Receipt(Unshown, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the guest says later about a message it took."""

    carrier_message_id: Annotated[str, Meta(min_length=1, max_length=256)]
    status: Literal["submitted", "undelivered", "delivered", "read"]
    error_class: str | None = None
    error_code: str | int | None = None
    at: datetime | None = None


class GuestCarrier(Carrier):
    """Asks one guest. A guest that fails twice on a message, ends or does not answer leaves it in doubt."""

    kind = "guest"

    def __init__(self, name: str, channel: str, settings: GuestSettings, *, clock: Clock, cost: float = 0.0) -> None:
        super().__init__(name, channel, cost=cost)
        self.receipts = settings.receipts
        self._guest = "guest/" + settings.guest
        self._timeout_s = settings.timeout_s or 3600.0
        self._clock = clock
        self._door = Door(self._on_receipt)
        self._held = 0
        self._malformed = 0

    async def close(self) -> None:
        """Take no more receipts."""
        self._door.close()

    async def send(self, submission: Submission) -> SendResult:
        """Ask the guest.

        Raises:
            SendError: it did not take it, or nobody can tell.
        """
        if self.call is None:
            raise SendError("provider_config", None, "no actor of this node can be asked from here", retryable=False)
        try:
            receipts = self._door.address
            if receipts is None:
                receipts = await self.call(self._guest, self._door, self._timeout_s)
            answer = await self.call(self._guest, _request(submission, receipts), self._timeout_s)
        except NotAlive as exc:
            # Without a reason nobody held the name: it cannot have left. With one it ended before it answered.
            raise SendError(
                "retryable_transient",
                "not_alive",
                f"{self._guest} is not there",
                retryable=True,
                ambiguous=exc.reason is not None,
            ) from exc
        except MailboxFull as exc:
            raise SendError("throttled", "mailbox_full", f"{self._guest} is full", retryable=True) from exc
        except CallTimeout as exc:
            raise SendError("retryable_transient", "timeout", "no answer in time", ambiguous=True) from exc
        except Poisoned as exc:
            raise SendError("unknown", "failed", f"{self._guest} failed on it twice", ambiguous=True) from exc
        return self._result(answer)

    def _result(self, answer: Any) -> SendResult:
        try:
            told = msgspec.convert(answer, Answer)
        except msgspec.ValidationError as exc:
            self._malformed += 1
            detail = f"{self._guest} answered something else"
            raise SendError("unknown", "malformed_answer", detail, ambiguous=True) from exc
        if told.error is None:
            return SendResult(told.carrier_message_ids, told.cost)
        error = told.error
        raise SendError(
            error.class_ if error.class_ in CLASSES else "unknown",
            None if error.code is None else str(error.code),
            error.detail[:200],
            retryable=error.retryable,
            retry_after_s=error.retry_after_s,
        )

    def _on_receipt(self, message: Any) -> None:
        try:
            told = msgspec.convert(message, Receipt)
        except msgspec.ValidationError:
            self._malformed += 1
            log.warning("a guest sent a receipt that is none", carrier=self.name)
            return
        at = told.at if told.at is not None and told.at.tzinfo is not None else self._clock.now()
        code = None if told.error_code is None else str(told.error_code)
        class_ = told.error_class if told.error_class is None or told.error_class in CLASSES else "unknown"
        self._offer(DeliveryReceipt(self.name, told.carrier_message_id, told.status, class_, code, at=at))

    def _offer(self, receipt: DeliveryReceipt) -> None:
        def stored(good: bool) -> None:
            if good:
                return
            if self._held >= HELD_LIMIT:
                log.error("receipts cannot be stored, and too many wait: one is dropped", carrier=self.name)
                return
            self._held += 1
            self._clock.call_later(OFFER_AGAIN_S, self._offer_again, receipt)

        if self.sink is not None:
            self.sink.receipt(receipt, stored)

    def _offer_again(self, receipt: DeliveryReceipt) -> None:
        self._held -= 1
        self._offer(receipt)

    def inspect(self) -> dict[str, Any]:
        """Return who is asked, and how often that one said what we could not read."""
        return {"guest": self._guest, "malformed": self._malformed, "receipts_held": self._held}


def _request(submission: Submission, receipts: Any) -> dict[str, Any]:
    content = submission.content
    return {
        "message_id": submission.message_id,
        "tenant": submission.tenant,
        "step": submission.step,
        "attempt": submission.attempt,
        "channel": submission.channel,
        "to": submission.to,
        "from": submission.sender,
        "text": content.text,
        "subject": content.subject,
        "html": content.html,
        "title": content.title,
        "data": content.data,
        "category": submission.category,
        "client_reference": submission.client_reference,
        "expires_at": submission.expires_at,
        "receipts": receipts,
    }


KIND: Final = Kind("guest", GuestSettings, GuestCarrier)
