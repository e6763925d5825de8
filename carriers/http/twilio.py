"""Send SMS through Twilio's Messages API, and read its status and inbound webhooks.

The calls go through Twilio's own `AsyncTwilioHttpClient` and the signatures through its `RequestValidator`. Source:
twilio-oai spec/json/twilio_api_v2010.json @d50069b; twilio-python 9.13.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import aiohttp
import msgspec
from multidict import MultiDict
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.request_validator import RequestValidator, add_port, remove_port

from carriers.base import CallbackAnswer, CallbackRefused, CallbackRequest, SendError, SendResult, Submission
from carriers.errors import classify, classify_status, known, meaning, receipt_status
from carriers.http.common import HttpAnswer, HttpCarrier, HttpSettings, form, is_json, json_object, refusal
from carriers.registry import Kind
from hermes.domain.inbound import Inbound
from hermes.domain.receipt import DeliveryReceipt
from hermes.runtime.clock import Clock

MAX_VALIDITY: Final = 36_000  # seconds; Twilio's default too
MAX_MEDIA: Final = 10  # of one inbound message, by Twilio's own limit

_NO_REPLY: Final = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'  # text would be sent as an answer
_ASKED: Final = {"STOP": "stop", "START": "start", "HELP": "help"}  # OptOutType


class TwilioSettings(HttpSettings, frozen=True, kw_only=True):
    """An account.

    Attributes:
        auth_token: also the key of the webhooks' signatures.
        from_: sender when the customer names none: a number or an alphanumeric sender.
        messaging_service_sid: chooses the sender instead of `from`.
        status_callback_url: where receipts are to come; default the carrier's own webhook under public_url.
    """

    account_sid: str
    auth_token: str
    from_: str | None = msgspec.field(name="from", default=None)
    messaging_service_sid: str | None = None
    status_callback_url: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.account_sid or not self.auth_token:
            raise ValueError("account_sid, auth_token: empty")
        if (self.from_ is None) == (self.messaging_service_sid is None):
            raise ValueError("from: exactly one of from and messaging_service_sid is needed")


class _Client(AsyncTwilioHttpClient):  # type: ignore[misc]
    """Twilio's client over our session. It logs nothing and keeps no request: both hold the message."""

    def __init__(self) -> None:
        super().__init__(pool_connections=False)

    def log_request(self, kwargs: dict[str, Any]) -> None:
        pass

    def log_response(self, status_code: int, response: Any) -> None:
        pass

    async def call(self, session: aiohttp.ClientSession, method: str, url: str, form_: bytes | None) -> HttpAnswer:
        self.session = session
        try:
            answer = await self.request(method, url, data=form_)
        finally:
            self._test_only_last_request = self._test_only_last_response = None
        return HttpAnswer(answer.status_code, answer.headers, answer.text.encode())


class TwilioCarrier(HttpCarrier):
    """SMS by Twilio."""

    kind = "twilio"
    provider = "twilio"
    root = "https://api.twilio.com"

    def __init__(self, name: str, channel: str, settings: TwilioSettings, *, clock: Clock, cost: float = 0.0) -> None:
        super().__init__(name, channel, settings, clock=clock, cost=cost)
        self.settings = settings
        self._sdk = _Client()
        self._validator = RequestValidator(settings.auth_token)
        account = f"{self.base_url}/2010-04-01/Accounts/{quote(settings.account_sid, safe='')}"
        self._send_url = f"{account}/Messages.json"
        self._account_url = f"{account}.json"
        login = b64encode(f"{settings.account_sid}:{settings.auth_token}".encode()).decode()
        self.client.headers |= {
            "Authorization": f"Basic {login}",
            "Content-Type": "application/x-www-form-urlencoded",
        }

    async def submit(self, submission: Submission) -> SendResult:
        text = submission.content.text
        if not text:
            raise SendError("invalid_request", None, "the content has no text")
        settings = self.settings
        fields = {"To": submission.to, "Body": text}
        sender = submission.sender or settings.from_
        if sender is not None:
            fields["From"] = sender
        else:
            fields["MessagingServiceSid"] = settings.messaging_service_sid or ""
        callback = settings.status_callback_url or self.callback_url
        if callback is not None:
            fields["StatusCallback"] = callback
        left_s = (submission.expires_at - self.clock.now()).total_seconds()
        if left_s < MAX_VALIDITY:
            fields["ValidityPeriod"] = str(max(1, int(left_s)))
        answer = await self._call("POST", self._send_url, urlencode(fields).encode())
        said = answer.json()
        sid = said.get("sid")
        if answer.status in (200, 201) and isinstance(sid, str) and sid:
            return SendResult((sid,), _price(said.get("price")))
        code = said.get("code")
        raise refusal(
            self.provider, answer, code if isinstance(code, int | str) and code else None, now=self.clock.now()
        )

    async def check(self) -> None:
        answer = await self._call("GET", self._account_url, None)
        if answer.status != 200:
            code = answer.json().get("code")
            raise refusal(self.provider, answer, code if isinstance(code, int | str) else None)

    async def _call(self, method: str, url: str, form_: bytes | None) -> HttpAnswer:
        return await self.client.run(lambda session: self._sdk.call(session, method, url, form_))

    # Webhooks

    async def on_callback(self, request: CallbackRequest) -> CallbackAnswer:
        fields = dict(self._signed_fields(request))
        sid = fields.get("MessageSid") or fields.get("SmsSid")
        status = fields.get("MessageStatus") or fields.get("SmsStatus")
        if not sid:
            return CallbackAnswer(status=400, body=b"no MessageSid")
        if "Body" in fields and (status is None or classify_status("twilio", status).canonical == "inbound"):
            return CallbackAnswer(inbound=(self._inbound(sid, fields),), body=_NO_REPLY, content_type="text/xml")
        receipt = _receipt(self.name, sid, status, fields.get("ErrorCode"))
        return CallbackAnswer(() if receipt is None else (receipt,))

    def _signed_fields(self, request: CallbackRequest) -> Iterable[tuple[str, str]]:
        """Give the parameters of a call that Twilio signed.

        Raises:
            CallbackRefused: it did not.
        """
        given = request.headers.get("x-twilio-signature")
        if given is None:
            raise CallbackRefused(401, "X-Twilio-Signature is missing")
        fields: list[tuple[str, str]] = []
        signed: list[tuple[str, str]] = []
        parts = urlsplit(request.url)
        if is_json(request):
            # The body's hash is in the URL, and only the URL is signed.
            hashes = parse_qs(parts.query).get("bodySHA256", [])
            if hashes != [hashlib.sha256(request.body).hexdigest()]:
                raise CallbackRefused(403, "bodySHA256 is missing or wrong")
            said = json_object(request.body) or {}
            fields = [(key, value) for key, value in said.items() if isinstance(value, str)]
        elif request.body:
            read = form(request.body)
            if read is None:
                raise CallbackRefused(403, "the body is no form")
            fields = signed = read
        else:
            fields = list(request.query.items())
        # Twilio signs with or without the port (twilio.request_validator).
        for url in {remove_port(parts), add_port(parts)}:
            wanted = self._validator.compute_signature(url, MultiDict(signed))
            if hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode()):
                return fields
        raise CallbackRefused(403, "X-Twilio-Signature is wrong")

    def _inbound(self, sid: str, fields: dict[str, str]) -> Inbound:
        media = [fields[key] for n in range(MAX_MEDIA) if (key := f"MediaUrl{n}") in fields]
        return Inbound(
            self.name,
            self.channel,
            fields.get("From", ""),
            fields.get("To", ""),
            fields["Body"],
            sid,
            _whole(fields.get("NumSegments")),
            tuple(media),
            _ASKED.get(fields.get("OptOutType", "")),
        )


def _receipt(carrier: str, sid: str, status: str | None, code: str | None) -> DeliveryReceipt | None:
    """Read a status; None for one that nobody listed."""
    reported = receipt_status(classify_status("twilio", status).canonical)
    if reported is None:
        return None
    if reported != "undelivered":
        return DeliveryReceipt(carrier, sid, reported)
    if not code:
        return DeliveryReceipt(carrier, sid, reported, "unknown")
    table = "delivery" if known("twilio", "delivery", code) else "api"  # 21610 comes both ways
    detail = meaning("twilio", table, code) or None
    return DeliveryReceipt(carrier, sid, reported, classify("twilio", table, code).error_class, code, detail)


def _price(price: object) -> float | None:
    """Read what Twilio says it costs: negative, as text; None until it knows."""
    try:
        return abs(float(price)) if isinstance(price, str) else None
    except ValueError:
        return None


def _whole(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 4 and int(text) else 1


KIND: Final = Kind("twilio", TwilioSettings, TwilioCarrier, frozenset({"sms"}))
