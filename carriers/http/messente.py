"""Send SMS through Messente's Omnichannel API, and read its delivery reports and inbound messages.

Source: messente-api-java api/openapi.yaml 2.1.0 @39e7237; messente.com documentation, api-setup/security and
omnichannel-api/inbound-messages (stored copies). Reports are signed with the API password, inbound messages with the
number's shared secret: two secrets, and neither speaks for the other.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from carriers.base import CallbackAnswer, CallbackRefused, CallbackRequest, SendError, SendResult, Submission
from carriers.errors import ErrorFact, classify, classify_status, meaning, receipt_status
from carriers.http.common import HttpAnswer, HttpCarrier, HttpSettings, json_object, refusal
from carriers.registry import Kind
from hermes.domain.inbound import Inbound, e164
from hermes.domain.receipt import DeliveryReceipt
from hermes.runtime.clock import Clock

LONGEST_TTL: Final = 259_200  # seconds; a message lives no longer, so there is no need to name it
NO_MESSAGE: Final = "00000000-0000-0000-0000-000000000000"  # no omnimessage has this id
_INVALID_DATA: Final = "105"

_encode = msgspec.json.Encoder().encode


class MessenteSettings(HttpSettings, frozen=True, kw_only=True):
    """An API user.

    Attributes:
        password: also the key of the delivery reports' signatures.
        inbound_secret: the shared secret of the inbound number; without it inbound messages are refused.
        from_: sender when the customer names none; None: the account's own default.
    """

    username: str
    password: str
    inbound_secret: str | None = None
    from_: str | None = msgspec.field(name="from", default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.username or not self.password:
            raise ValueError("username, password: empty")


class MessenteCarrier(HttpCarrier):
    """SMS by Messente."""

    kind = "messente"
    provider = "messente"
    root = "https://api.messente.com"

    def __init__(self, name: str, channel: str, settings: MessenteSettings, *, clock: Clock, cost: float = 0.0) -> None:
        super().__init__(name, channel, settings, clock=clock, cost=cost)
        self.settings = settings
        self._send_url = f"{self.base_url}/v1/omnimessage"
        login = b64encode(f"{settings.username}:{settings.password}".encode()).decode()
        self.client.headers |= {"Authorization": f"Basic {login}", "Content-Type": "application/json"}

    async def submit(self, submission: Submission) -> SendResult:
        text = submission.content.text
        if not text:
            raise SendError("invalid_request", None, "the content has no text")
        sms: dict[str, Any] = {"channel": "sms", "text": text}
        sender = submission.sender or self.settings.from_
        if sender is not None:
            sms["sender"] = sender
        ttl = int((submission.expires_at - self.clock.now()).total_seconds())
        if ttl < LONGEST_TTL:
            sms["ttl"] = max(ttl, 1)
        message: dict[str, Any] = {"to": submission.to, "messages": [sms]}
        if self.callback_url is not None:
            message["dlr_url"] = self.callback_url
        answer = await self.client.request("POST", self._send_url, data=_encode(message))
        if answer.status in (200, 201):
            messages = answer.json().get("messages")
            first = messages[0] if isinstance(messages, list) and messages else None
            message_id = first.get("message_id") if isinstance(first, dict) else None
            if isinstance(message_id, str) and message_id:
                return SendResult((message_id,))  # what the reports name; omnimessage_id is the envelope's
        raise self._refusal(answer)

    def _refusal(self, answer: HttpAnswer) -> SendError:
        errors = answer.json().get("errors")
        first = errors[0] if isinstance(errors, list) and errors else None
        code = first.get("code") if isinstance(first, dict) else None
        if not isinstance(code, str) or not code:
            return refusal(self.provider, answer, now=self.clock.now())
        assert isinstance(first, dict)
        bad_number = code == _INVALID_DATA and first.get("source") == "to"
        fact = ErrorFact("invalid_destination", False) if bad_number else None
        return refusal(self.provider, answer, code, fact=fact, now=self.clock.now())

    async def check(self) -> None:
        """Ask for a message that does not exist: 404 needs good credentials."""
        answer = await self.client.request("GET", f"{self._send_url}/{NO_MESSAGE}/status")
        if answer.status not in (200, 404):
            raise self._refusal(answer)

    # Webhooks

    async def on_callback(self, request: CallbackRequest) -> CallbackAnswer:
        given = request.headers.get("x-messente-signature")
        if given is None:
            raise CallbackRefused(401, "X-Messente-Signature is missing")
        report = _is_signed(request.body, given, self.settings.password)
        inbound = _is_signed(request.body, given, self.settings.inbound_secret)
        if not report and not inbound:
            raise CallbackRefused(403, "X-Messente-Signature is wrong")
        said = json_object(request.body)
        if said is None:
            return CallbackAnswer(status=400, body=b"not a JSON object")
        if inbound and isinstance(said.get("msg_id"), str) and isinstance(said.get("sender"), str):
            return CallbackAnswer(inbound=(self._inbound(said),))
        receipt = _receipt(self.name, said) if report else None
        return CallbackAnswer(() if receipt is None else (receipt,))

    def _inbound(self, said: dict[str, Any]) -> Inbound:
        text, recipient = said.get("text"), said.get("recipient")
        return Inbound(
            self.name,
            self.channel,
            e164(said["sender"]),
            e164(recipient) if isinstance(recipient, str) else "",
            text if isinstance(text, str) else None,
            said["msg_id"],
        )


def _is_signed(body: bytes, given: str, secret: str | None) -> bool:
    if not secret:
        return False
    wanted = hmac.digest(secret.encode(), body, hashlib.sha256).hex()
    return hmac.compare_digest(given.strip().lower().encode("utf-8", "replace"), wanted.encode())


def _receipt(carrier: str, said: dict[str, Any]) -> DeliveryReceipt | None:
    """Read a delivery report; None when it names no message or a status that nobody listed."""
    message_id, status, err = said.get("message_id"), said.get("status"), said.get("err")
    if not isinstance(message_id, str) or not message_id or not isinstance(status, str | None):
        return None
    canonical = classify_status("messente", status).canonical
    reported = receipt_status(canonical)
    if reported is None:
        return None
    at = _time(said.get("timestamp"))
    if reported != "undelivered":
        return DeliveryReceipt(carrier, message_id, reported, at=at)
    code = str(err)[:64] if isinstance(err, int | str) and not isinstance(err, bool) else None
    error_class = classify("messente", "delivery", code).error_class
    if error_class in ("none", "unknown"):
        error_class = "expired" if canonical == "expired" else "unknown"
    detail = meaning("messente", "delivery", code) if code else ""
    return DeliveryReceipt(carrier, message_id, reported, error_class, code, detail or None, at)


def _time(text: object) -> datetime | None:
    """Read an ISO 8601 time; UTC when it names no zone."""
    try:
        at = datetime.fromisoformat(text) if isinstance(text, str) else None
        return at if at is None else (at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC))
    except (ValueError, OverflowError):
        return None


KIND: Final = Kind("messente", MessenteSettings, MessenteCarrier, frozenset({"sms"}))
