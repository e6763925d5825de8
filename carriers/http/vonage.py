"""Send SMS through Vonage's SMS API, and read its receipts and inbound messages.

Errors come with HTTP 200; a long message can be part accepted, part refused. Source: Nexmo/api-specification
definitions/sms.yml 1.0.10 @ad04200; signatures as in vonage-python-sdk http_client @b308cb1.
"""

from __future__ import annotations

import re
from base64 import b64encode
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Literal
from urllib.parse import quote_plus, urlencode

import msgspec

from carriers.base import CallbackAnswer, CallbackRefused, CallbackRequest, SendError, SendResult, Submission
from carriers.errors import classify, classify_status, meaning, receipt_status
from carriers.http.common import HttpAnswer, HttpCarrier, HttpSettings, form, is_json, json_object, refusal
from carriers.http.vonage_inbound import Parts
from carriers.http.vonage_signature import METHODS, check_jwt, check_sig
from carriers.registry import Kind
from hermes.domain.receipt import DeliveryReceipt
from hermes.domain.segments import encoding_of
from hermes.runtime.clock import Clock

SHORTEST_TTL: Final = 20_000  # milliseconds; by the specification
LONGEST_TTL: Final = 259_200_000  # Vonage's default: no need to name it
MOST_COST: Final = 1e6  # of a message; more is a mistake
OFFER_AGAIN_S: Final = 1.0  # until a receipt the journal could not store is offered again

_WAIT: Final = re.compile(r"\[ *(\d{1,7}) *\]")  # milliseconds: "please wait [ 250 ] and retry"
_is_unreserved: Final = re.compile(r"[A-Za-z0-9._~-]*").fullmatch


class VonageSettings(HttpSettings, frozen=True, kw_only=True):
    """An account.

    Attributes:
        signature_secret: key of the webhooks' signatures; without it every webhook is refused.
        signature_method: as the account is set; `jwt` is the Authorization header of the newer webhooks.
        from_: sender when the customer names none: a number or a name.
    """

    api_key: str
    api_secret: str
    signature_secret: str | None = None
    signature_method: Literal["md5hash", "md5", "sha1", "sha256", "sha512", "jwt"] = "md5hash"
    from_: str | None = msgspec.field(name="from", default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.api_key or not self.api_secret:
            raise ValueError("api_key, api_secret: empty")


class VonageCarrier(HttpCarrier):
    """SMS by Vonage."""

    kind = "vonage"
    provider = "vonage"
    root = "https://rest.nexmo.com"

    def __init__(self, name: str, channel: str, settings: VonageSettings, *, clock: Clock, cost: float = 0.0) -> None:
        super().__init__(name, channel, settings, clock=clock, cost=cost)
        self.settings = settings
        self._send_url = f"{self.base_url}/sms/json"
        self.client.headers["Content-Type"] = "application/x-www-form-urlencoded"
        self._balance_url = f"{self.base_url}/account/get-balance"
        self._login = urlencode({"api_key": settings.api_key, "api_secret": settings.api_secret})
        self._parts = Parts(name, channel, clock)

    async def submit(self, submission: Submission) -> SendResult:
        text = submission.content.text
        if not text:
            raise SendError("invalid_request", None, "the content has no text")
        sender = submission.sender or self.settings.from_
        if sender is None:
            raise SendError("provider_config", None, "neither the message nor the carrier names a sender (`from`)")
        # Written by hand: urlencode costs 12 us, of which most is for what is the same in every message.
        form_ = (
            f"{self._login}&from={_quote(sender.removeprefix('+'))}&to={_quote(submission.to.removeprefix('+'))}"
            f"&client-ref={_quote(submission.client_reference[:40])}&text={quote_plus(text)}"
        )
        if (submission.encoding or encoding_of(text)) != "gsm7":
            form_ += "&type=unicode"
        if self.callback_url is not None:
            form_ += f"&callback={_quote(self.callback_url)}"
        ttl = int((submission.expires_at - self.clock.now()).total_seconds() * 1000)
        if ttl < LONGEST_TTL:
            form_ += f"&ttl={max(ttl, SHORTEST_TTL)}"
        return self._read(await self.client.request("POST", self._send_url, data=form_.encode()))

    def _read(self, answer: HttpAnswer) -> SendResult:
        """Give the parts that were taken.

        A part that was refused beside others gets an id of ours and an undelivered receipt: the message has begun
        to be sent, and will not arrive whole.

        Raises:
            SendError: none was.
        """
        parts = answer.json().get("messages")
        parts = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
        taken = [part for part in parts if part.get("status") == "0" and isinstance(part.get("message-id"), str)]
        if answer.status != 200 or not taken:
            raise self._refusal(answer, parts)
        ids: list[str] = []
        for n, part in enumerate(parts, 1):
            if part in taken:
                ids.append(part["message-id"])
                continue
            ids.append(f"{taken[0]['message-id']}.{n}")
            code = str(part.get("status"))[:64]
            error_class = classify("vonage", "api", code).error_class
            detail = f"this part was refused: {meaning('vonage', 'api', code)}"
            self._report(DeliveryReceipt(self.name, ids[-1], "undelivered", error_class, code, detail))
        return SendResult(tuple(ids), _cost(taken))

    def _refusal(self, answer: HttpAnswer, parts: list[dict[str, Any]]) -> SendError:
        code = parts[0].get("status") if parts else None
        if not isinstance(code, str) or not code or code == "0":
            return refusal(self.provider, answer, now=self.clock.now())
        wait = _WAIT.search(str(parts[0].get("error-text")))
        return refusal(self.provider, answer, code, retry_after_s=int(wait[1]) / 1000 if wait else None)

    def _report(self, receipt: DeliveryReceipt) -> None:
        def stored(ok: bool) -> None:
            if not ok:
                self.clock.call_later(OFFER_AGAIN_S, self._report, receipt)

        if self.sink is not None:
            self.sink.receipt(receipt, stored)

    async def check(self) -> None:
        login = b64encode(f"{self.settings.api_key}:{self.settings.api_secret}".encode()).decode()
        answer = await self.client.request("GET", self._balance_url, headers={"Authorization": f"Basic {login}"})
        if answer.status != 200:
            raise refusal(self.provider, answer)

    # Webhooks

    async def on_callback(self, request: CallbackRequest) -> CallbackAnswer:
        fields = self._signed_fields(request)
        id_ = fields.get("messageId")
        if not id_:
            return CallbackAnswer()
        if "status" in fields:
            receipt = _receipt(self.name, id_, fields)
            return CallbackAnswer(() if receipt is None else (receipt,))
        if "msisdn" in fields and "to" in fields:
            return CallbackAnswer(inbound=(await self._parts.take(id_, fields),))
        return CallbackAnswer()

    def _signed_fields(self, request: CallbackRequest) -> dict[str, str]:
        """Give the parameters of a call that Vonage signed.

        Raises:
            CallbackRefused: it did not, or more than 48 h ago.
        """
        secret, method = self.settings.signature_secret, self.settings.signature_method
        if secret is None:
            raise CallbackRefused(403, f"carrier {self.name} has no signature_secret")
        if method == "jwt":
            # Only the body is signed: nothing of the query is believed.
            check_jwt(request, secret, self.settings.api_key, self.clock.now())
            return _fields(request, request.body)
        fields = _fields(request, request.body) if request.body else dict(request.query)
        check_sig(fields, secret, METHODS[method], self.clock.now())
        return fields


@lru_cache(maxsize=256)
def _quoted(text: str) -> str:
    return quote_plus(text)


def _quote(text: str) -> str:
    return text if _is_unreserved(text) else _quoted(text)


def _fields(request: CallbackRequest, body: bytes) -> dict[str, str]:
    """Read the parameters of a body; JSON values as the texts that Vonage signs."""
    if not is_json(request):
        return dict(form(body) or [])
    return {key: value if isinstance(value, str) else str(value) for key, value in (json_object(body) or {}).items()}


def _receipt(carrier: str, id_: str, fields: dict[str, str]) -> DeliveryReceipt | None:
    """Read a delivery receipt; None for a status that nobody listed."""
    status, code = fields["status"], fields.get("err-code")
    found = classify_status("vonage", status)
    at, cost = _time(fields.get("message-timestamp")), _cost([{"message-price": fields.get("price")}])
    reported = receipt_status(found.canonical)
    if reported is None:
        if status != "unknown":
            return None
        reported = "submitted"  # nobody knows what became of it: that changes nothing, and is told
    elif reported != "undelivered":
        return DeliveryReceipt(carrier, id_, reported, at=at, cost=cost)
    error_class = classify("vonage", "delivery", code).error_class
    if found.canonical == "expired":
        error_class = "expired"  # whatever the code says
    elif error_class == "none":
        error_class = "unknown"
    detail = meaning("vonage", "delivery", code) if code else ""
    return DeliveryReceipt(carrier, id_, reported, error_class, code or None, detail or None, at, cost=cost)


def _time(text: str | None) -> datetime | None:
    """Read `2020-01-01 14:00:00`, UTC."""
    try:
        return datetime.strptime(text or "", "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def _cost(parts: list[dict[str, Any]]) -> float | None:
    """Add up what the parts cost, in the account's currency; None when Vonage does not say."""
    try:
        cost = round(sum(float(part["message-price"]) for part in parts), 8)
    except (KeyError, TypeError, ValueError):
        return None
    return cost if 0 <= cost < MOST_COST else None  # no NaN either


KIND: Final = Kind("vonage", VonageSettings, VonageCarrier, frozenset({"sms"}))
