"""SMS by Acme: the carrier that docs/adding-a-carrier.md adds to Hermes."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, Final

import msgspec

from carriers.base import CallbackAnswer, CallbackRefused, CallbackRequest, SendError, SendResult, Submission
from carriers.http.common import HttpCarrier, HttpSettings, json_object, refusal
from carriers.registry import Kind
from hermes.domain.receipt import DeliveryReceipt
from hermes.runtime.clock import Clock

# What Acme's codes mean, as (class, retryable); a code that is not here is `unknown`.
CODES: Final = {
    "BAD_NUMBER": ("invalid_destination", False),
    "STOPPED": ("blocked_or_opted_out", False),
    "BAD_KEY": ("provider_auth", False),
    "SLOW_DOWN": ("throttled", True),
}
STATUSES: Final = {"SENT": "submitted", "DELIVERED": "delivered", "FAILED": "undelivered"}


class AcmeSettings(HttpSettings, frozen=True, kw_only=True):
    """The keys of `[[carrier]]` that only this kind has."""

    api_key: str
    webhook_secret: str


class AcmeCarrier(HttpCarrier):
    """SMS by Acme."""

    kind = "acme"
    provider = "acme"
    root = "https://api.acme.example"

    def __init__(self, name: str, channel: str, settings: AcmeSettings, *, clock: Clock, cost: float = 0.0) -> None:
        super().__init__(name, channel, settings, clock=clock, cost=cost)
        self.settings = settings
        self._headers = {"Authorization": f"Bearer {settings.api_key}", "Content-Type": "application/json"}

    async def submit(self, submission: Submission) -> SendResult:
        message = {"to": submission.to, "text": submission.content.text, "callback": self.callback_url}
        body = msgspec.json.encode(message)
        answer = await self.client.request("POST", f"{self.base_url}/v1/sms", data=body, headers=self._headers)
        said = answer.json()
        if answer.status == 200 and isinstance(said.get("id"), str):
            return SendResult((said["id"],))
        code = said.get("error")
        if isinstance(code, str) and code in CODES:
            error_class, retryable = CODES[code]
            raise SendError(error_class, code, f"HTTP {answer.status}", retryable=retryable)
        raise refusal(self.provider, answer, now=self.clock.now())

    async def check(self) -> None:
        answer = await self.client.request("GET", f"{self.base_url}/v1/account", headers=self._headers)
        if answer.status != 200:
            raise refusal(self.provider, answer)

    async def on_callback(self, request: CallbackRequest) -> CallbackAnswer:
        signature = hmac.digest(self.settings.webhook_secret.encode(), request.body, hashlib.sha256).hex()
        if not hmac.compare_digest(request.headers.get("x-acme-signature", "").encode(), signature.encode()):
            raise CallbackRefused(403, "X-Acme-Signature is missing or wrong")
        said: dict[str, Any] = json_object(request.body) or {}
        status = STATUSES.get(str(said.get("status")))
        if status is None or not isinstance(said.get("id"), str):
            return CallbackAnswer()  # nothing we know of; Acme need not send it again
        error_class, _ = CODES.get(str(said.get("error")), ("unknown", False)) if status == "undelivered" else (None, 0)
        return CallbackAnswer([DeliveryReceipt(self.name, said["id"], status, error_class, said.get("error"))])


KIND: Final = Kind("acme", AcmeSettings, AcmeCarrier, frozenset({"sms"}))
