"""WhatsApp by Meta's Cloud API: texts, templates and media; statuses and messages by its webhook.

Source: facebook/openapi business-messaging-api_v23.0.yaml @ecba623; Meta Graph API webhooks (read 2026-11-24).

Outside of the 24 hours after the recipient last wrote only a template may be sent; Meta says so with error 131047,
class `policy_window`, in its answer or later as a status.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated, Any, Final

import msgspec

from carriers.base import CallbackAnswer, CallbackRefused, CallbackRequest, SendError, SendResult, Submission
from carriers.http.common import HttpAnswer, HttpCarrier, HttpSettings, json_object, refusal
from carriers.http.whatsapp_events import read_events
from carriers.registry import Kind
from hermes.domain.message import Content
from hermes.runtime.clock import Clock

VERSION: Final = "v23.0"  # of the Graph API
LONGEST_TEXT: Final = 4096  # characters

Secret = Annotated[str, msgspec.Meta(min_length=1)]


class WhatsAppSettings(HttpSettings, frozen=True, kw_only=True):
    """How to use WhatsApp's Cloud API.

    Attributes:
        phone_number_id: Meta's id of the number that sends.
        access_token: of a system user with whatsapp_business_messaging.
        app_secret: signs Meta's calls; without it they are refused.
        verify_token: what Meta must say when the webhook is set up; without it that is refused.
    """

    phone_number_id: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,32}$")]
    access_token: Secret
    app_secret: Secret | None = None
    verify_token: Secret | None = None


class WhatsAppCarrier(HttpCarrier):
    """WhatsApp from one business number."""

    kind = "whatsapp"
    provider = "whatsapp"
    root = "https://graph.facebook.com"

    def __init__(self, name: str, channel: str, settings: WhatsAppSettings, *, clock: Clock, cost: float = 0.0) -> None:
        super().__init__(name, channel, settings, clock=clock, cost=cost)
        self.settings = settings
        self._number_url = f"{self.base_url}/{VERSION}/{settings.phone_number_id}"
        self._send_url = self._number_url + "/messages"
        self._headers = {"Content-Type": "application/json", "Authorization": f"Bearer {settings.access_token}"}

    async def submit(self, submission: Submission) -> SendResult:
        message = {
            "messaging_product": "whatsapp",
            "recipient_type": "individual",
            "to": submission.to,
            **_said(submission.content),
        }
        body = msgspec.json.encode(message)
        answer = await self.client.request("POST", self._send_url, data=body, headers=self._headers)
        message_id = _message_id(answer) if 200 <= answer.status <= 299 else None
        if message_id is not None:
            return SendResult((message_id,))
        raise self._refusal(answer)

    async def check(self) -> None:
        answer = await self.client.request("GET", self._number_url + "?fields=id", headers=self._headers)
        if answer.status != 200:
            raise self._refusal(answer)

    async def on_callback(self, request: CallbackRequest) -> CallbackAnswer:
        """Answer Meta's challenge, or read what it posts, signed by X-Hub-Signature-256."""
        if request.method == "GET":
            return self._challenge(request)
        if self.settings.app_secret is None:
            raise CallbackRefused(403, f"carrier {self.name} has no app_secret")
        wanted = "sha256=" + hmac.digest(self.settings.app_secret.encode(), request.body, hashlib.sha256).hex()
        given = request.headers.get("x-hub-signature-256", "")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode()):
            raise CallbackRefused(401, "X-Hub-Signature-256 is missing or wrong")
        document = json_object(request.body)
        if document is None:
            return CallbackAnswer(status=400, body=b"not a JSON object")
        events = read_events(self.name, self.channel, document, f"{self.base_url}/{VERSION}/")
        return CallbackAnswer(events.receipts, events.inbound)

    def inspect(self) -> dict[str, Any]:
        return {**super().inspect(), "phone_number_id": self.settings.phone_number_id}

    def _challenge(self, request: CallbackRequest) -> CallbackAnswer:
        token, query = self.settings.verify_token, request.query
        given = query.get("hub.verify_token", "")
        right = token is not None and hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())
        if query.get("hub.mode") != "subscribe" or not right:
            raise CallbackRefused(403, "hub.verify_token is missing or wrong")
        return CallbackAnswer(body=query.get("hub.challenge", "").encode("utf-8", "replace"))

    def _refusal(self, answer: HttpAnswer) -> SendError:
        error = answer.json().get("error")
        code = error.get("code") if isinstance(error, dict) else None
        if isinstance(code, bool) or not isinstance(code, int | str):
            code = None
        return refusal("whatsapp", answer, code, now=self.clock.now())


def _said(content: Content) -> dict[str, Any]:
    """Write what is said: the template or media of the channel's own block, else the text."""
    own = content.whatsapp or {}
    template, media = own.get("template"), own.get("media")
    if template is not None:
        return {"type": "template", "template": template}
    if media is not None:
        kind = media["type"]
        return {"type": kind, kind: {name: value for name, value in media.items() if name != "type"}}
    if not content.text:
        raise SendError("invalid_request", None, "the content has neither text, template nor media")
    if len(content.text) > LONGEST_TEXT:
        raise SendError("message_too_large", None, f"a text has at most {LONGEST_TEXT} characters")
    return {"type": "text", "text": {"body": content.text}}


def _message_id(answer: HttpAnswer) -> str | None:
    messages = answer.json().get("messages")
    first = messages[0] if isinstance(messages, list) and messages else None
    found = first.get("id") if isinstance(first, dict) else None
    return found if isinstance(found, str) and found else None


KIND: Final = Kind("whatsapp", WhatsAppSettings, WhatsAppCarrier, frozenset({"whatsapp"}))
