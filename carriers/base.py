"""What a carrier is: how it is asked to send, what it answers, and how it reports receipts.

A carrier module says what to send and what the answer means. It does not retry, store or decide: it returns the
ids the other side gave, or raises `SendError`, and the cascade alone decides what happens next.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Protocol

from msgspec import Struct

from hermes.domain.inbound import KEYWORDS, Inbound, Keywords
from hermes.domain.message import Content
from hermes.domain.quiet import Quiet
from hermes.domain.receipt import DeliveryReceipt
from hermes.errors import HermesError


class Submission(Quiet, Struct, frozen=True, gc=False):
    """One try to send one message by one carrier.

    Attributes:
        client_reference: the same on every try of the same step, for carriers that take an idempotency key.
        to: the address for this channel, normalised (E.164 with `+` for phones).
        sender: who it is from, as the customer named it; None means the carrier's own default.
        content: resolved for the channel.
        attempt: 1.. within the step.
        traceparent: of this try's span, for carriers over HTTP; None while its trace is not recorded.
    """

    quiet: ClassVar[frozenset[str]] = frozenset({"to"})

    message_id: str
    tenant: str
    step: int
    attempt: int
    channel: str
    to: str
    sender: str | None
    content: Content
    category: str
    expires_at: datetime
    client_reference: str
    segments: int | None = None
    encoding: str | None = None
    traceparent: str | None = None


class SendResult(Struct, frozen=True, gc=False):
    """The carrier took the message.

    Attributes:
        carrier_message_ids: one per segment, in order; empty when the carrier gives none.
        cost: what the carrier said it costs, in the carrier's currency; None when it did not say.
    """

    carrier_message_ids: tuple[str, ...] = ()
    cost: float | None = None


class SendError(HermesError):
    """The carrier did not take the message, or nobody can tell.

    Attributes:
        error_class: a class of errors.yaml (`hermes.domain.state.ErrorClass`).
        code: the carrier's raw code as text; None when there was none (no connection).
        detail: for people; never the message text, a credential or a whole address.
        retryable: the same message may be tried at the same carrier again.
        retry_after_s: how long the carrier asked to wait, in seconds.
        ambiguous: the bytes left and no answer came: it may have been taken.
    """

    def __init__(
        self,
        error_class: str,
        code: str | None = None,
        detail: str = "",
        *,
        retryable: bool = False,
        retry_after_s: float | None = None,
        ambiguous: bool = False,
    ) -> None:
        super().__init__(f"{error_class} {code or ''} {detail}".strip())
        self.error_class = error_class
        self.code = code
        self.detail = detail
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.ambiguous = ambiguous


# Called once when the receipt is stored (True) or could not be (False: hold it and offer it again later).
ReceiptStored = Callable[[bool], None]


# Asks an actor of this node by its name and waits, at most so many seconds: `hermes.runtime.System.call`.
Call = Callable[[str, Any, float], Awaitable[Any]]


class ReceiptSink(Protocol):
    """Where a carrier hands its receipts. The carrier acknowledges to its other side only after `stored(True)`."""

    def receipt(self, receipt: DeliveryReceipt, stored: ReceiptStored | None = None) -> None:
        """Take a receipt. Never blocks, never raises; `stored` is called later, from the event loop."""


@dataclass(slots=True, frozen=True)
class CallbackRequest:
    """A provider's HTTP call to `/v1/webhooks/{carrier}`, as the gateway read it.

    Attributes:
        url: public_url + path and query: what the provider signed, never the Host header.
        headers: names lower-cased.
    """

    method: str
    url: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True, frozen=True)
class CallbackAnswer:
    """What a provider's call meant, and the answer it gets once the receipts and inbound messages are stored."""

    receipts: Sequence[DeliveryReceipt] = ()
    inbound: Sequence[Inbound] = ()
    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain"


class CallbackRefused(HermesError):
    """The call is not the provider's: missing or wrong signature (401) or forbidden (403). Nothing changed."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Carrier:
    """One configured way to send. Subclass it, or write anything of the same shape.

    A provider actor owns it: `open` before the first send, `close` after the last. `send` may be a plain function
    that answers at once, or a coroutine function; several may run at the same time, up to `max_in_flight`.
    """

    kind: str = "carrier"
    receipts: bool = True  # False: an accepted message is all it will ever tell
    keywords: Keywords = KEYWORDS  # what a whole inbound text may ask for
    receipt_secret: str | None = None  # signs what comes to /v1/webhooks/dlr for it; None: nothing is taken there

    def __init__(self, name: str, channel: str, *, cost: float = 0.0) -> None:
        self.name = name
        self.channel = channel
        self.cost = cost  # per segment (or message), in the operator's currency
        self.sink: ReceiptSink | None = None
        self.call: Call | None = None  # set before `open`, for a carrier whose other side is an actor of this node
        self.callback_url: str | None = None  # its webhook as the world reaches it, set before `open`; None: unknown

    async def open(self, sink: ReceiptSink) -> None:
        """Get ready to send; keep `sink` for receipts. Reaching the other side is not required to succeed."""
        self.sink = sink

    async def close(self) -> None:
        """Give back every connection. Called once, after the last send was answered or cancelled."""

    def succeed(self, former: Carrier) -> None:
        """Take over what a carrier of the same name, with other settings, still owes: receipts it holds itself.

        Called once, when both are open; `former` sends nothing new from then on.
        """

    def send(self, submission: Submission) -> SendResult | Awaitable[SendResult]:
        """Ask the other side to take one message.

        Raises:
            SendError: it did not, or nobody can tell (`ambiguous`). Anything else raised is a bug in the carrier
                and is treated as ambiguous, because the bytes may have left.
        """
        raise NotImplementedError

    def reports(self, submission: Submission) -> bool:
        """Tell whether a receipt should follow, once it took this message."""
        return self.receipts

    async def cancel(self, carrier_message_id: str) -> bool:
        """Ask the other side to stop a message it took. False: it cannot, or did not. Never raises SendError."""
        return False

    def awaits_receipt_at(self, submission: Submission, submitted_at: datetime) -> datetime | None:
        """Say when `resume` should be called if the process restarts or parks the message; None: never.

        Only for carriers whose receipts die with the process (mock) or must be asked for (polling).
        """
        return None

    def resume(self, submission: Submission, carrier_message_ids: Sequence[str], submitted_at: datetime) -> None:
        """Take up again a message that was submitted before a restart or a parking. Called at most once per load."""

    def about(self, submission: Submission) -> str | None:
        """Make the digest its receipts have in `DeliveryReceipt.about`; None when they have none."""
        return None

    def receipt_keys(self, receipt: DeliveryReceipt) -> Sequence[str]:
        """List the ids, canonical, by which a parked receipt's message may be known; its own is always tried."""
        return ()

    async def on_callback(self, request: CallbackRequest) -> CallbackAnswer:
        """Read a provider's call to our webhook.

        Raises:
            CallbackRefused: the signature is missing or wrong.
        """
        raise CallbackRefused(404, f"carrier {self.name} takes no callbacks")

    async def health(self) -> str | None:
        """Try the other side without sending a message. None when well, else the reason in a few words."""
        return None

    def inspect(self) -> dict[str, Any]:
        """Say what an operator should see, JSON values only; no credential."""
        return {}
