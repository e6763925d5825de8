"""Firebase Cloud Messaging, HTTP v1: push notifications and data messages.

Source: FCM v1 discovery document, revision 20261023; firebase.google.com/docs/reference/fcm/rest/v1 (read
2026-11-24). FCM tells nothing after it took a message: there are no receipts.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable
from typing import Annotated, Any, Final

import msgspec

from carriers.base import SendError, SendResult, Submission
from carriers.errors import classify
from carriers.http.common import HttpAnswer, HttpCarrier, HttpSettings, refusal, retry_after
from carriers.http.google import GoogleTokens
from carriers.registry import Kind
from hermes.errors import SettingsError
from hermes.runtime.clock import Clock

SCOPE: Final = "https://www.googleapis.com/auth/firebase.messaging"
LONGEST_TTL_S: Final = 2_419_200  # four weeks
QUOTA_WAIT_S: Final = 60.0  # errors.yaml, QUOTA_EXCEEDED without Retry-After

_FCM_ERROR: Final = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
# A Firebase installation id: 17 octets in base64url, the first four bits 0111. A registration token is longer.
_is_fid: Final = re.compile(r"[c-f][A-Za-z0-9_-]{21}").fullmatch
_BAD_TOKEN: Final = re.compile(r"registration token", re.IGNORECASE)
_TARGETS: Final = frozenset({"message.token", "message.fid"})


class FcmSettings(HttpSettings, frozen=True, kw_only=True):
    """How to use Firebase Cloud Messaging.

    Attributes:
        project_id: the project whose apps are written to.
        service_account: the key file of a service account, as JSON text.
        token_url: where access tokens are had; None: where the account says.
    """

    project_id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9.:_-]{0,127}$")]
    service_account: str
    token_url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s/]")] | None = None


class FcmCarrier(HttpCarrier):
    """Push by Firebase Cloud Messaging."""

    kind = "fcm"
    provider = "fcm"
    root = "https://fcm.googleapis.com"
    receipts = False

    def __init__(self, name: str, channel: str, settings: FcmSettings, *, clock: Clock, cost: float = 0.0) -> None:
        super().__init__(name, channel, settings, clock=clock, cost=cost)
        self.settings = settings
        self._url = f"{self.base_url}/v1/projects/{settings.project_id}/messages:send"
        try:
            self._tokens = GoogleTokens(settings.service_account, SCOPE, settings.token_url)
        except ValueError as exc:
            raise SettingsError(f"carrier {name!r}: service_account: {exc}") from None

    async def close(self) -> None:
        await self._tokens.close()
        await super().close()

    async def submit(self, submission: Submission) -> SendResult:
        answer = await self._call({"message": self._message(submission)})
        message_id = answer.json().get("name") if answer.status == 200 else None
        if isinstance(message_id, str) and message_id:
            return SendResult((message_id,))
        raise self._refusal(answer)

    async def check(self) -> None:
        answer = await self._call({"validateOnly": True, "message": {"topic": "hermes-health"}})
        if answer.status != 200:
            raise self._refusal(answer)

    def inspect(self) -> dict[str, Any]:
        return {**super().inspect(), "project_id": self.settings.project_id}

    def _message(self, submission: Submission) -> dict[str, Any]:
        content = submission.content
        shown = {name: text for name, text in (("title", content.title), ("body", content.text)) if text}
        if not shown and not content.data:
            raise SendError("invalid_request", None, "the content has neither text, title nor data")
        left_s = int((submission.expires_at - self.clock.now()).total_seconds())
        ttl_s = min(max(left_s, 0), LONGEST_TTL_S)
        message: dict[str, Any] = {
            "fid" if _is_fid(submission.to) else "token": submission.to,
            "android": {"ttl": f"{ttl_s}s"},
            "apns": {"headers": {"apns-expiration": str(int(submission.expires_at.timestamp()))}},
            "webpush": {"headers": {"TTL": str(ttl_s)}},
        }
        if submission.category == "otp":
            message["android"]["priority"] = "HIGH"
            message["webpush"]["headers"]["Urgency"] = "high"
        if shown:
            message["notification"] = shown
        if content.data:
            message["data"] = {name: _text(value) for name, value in content.data.items()}
        return message

    async def _call(self, request: dict[str, Any]) -> HttpAnswer:
        """Make a call; once again with a new access token if this one is refused.

        Waiting for a token ends within the carrier's time limit, so that what was not sent is not called in doubt.
        """
        body = msgspec.json.encode(request)
        limit_s = self.settings.timeout_s or None
        began = self.clock.monotonic()
        token = await self._tokens.current(limit_s)
        answer = await self._post(body, token)
        if answer.status == 401 and _error_code(answer) != "THIRD_PARTY_AUTH_ERROR":
            left_s = None if limit_s is None else max(limit_s - (self.clock.monotonic() - began), 0.0)
            answer = await self._post(body, await self._tokens.another(token, left_s))
        return answer

    def _post(self, body: bytes, token: str) -> Awaitable[HttpAnswer]:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        return self.client.request("POST", self._url, data=body, headers=headers)

    def _refusal(self, answer: HttpAnswer) -> SendError:
        code = _error_code(answer)
        now = self.clock.now()
        if code == "INVALID_ARGUMENT" and _is_about_token(_error(answer)):
            return refusal("fcm", answer, code, fact=classify("fcm", "api", "INVALID_ARGUMENT:message.token"))
        if code == "QUOTA_EXCEEDED":
            wait_s = retry_after(answer.headers.get("Retry-After"), now)
            return refusal("fcm", answer, code, retry_after_s=QUOTA_WAIT_S if wait_s is None else wait_s)
        return refusal("fcm", answer, code, now=now)


def _text(value: Any) -> str:
    """Write a value of `data`, where FCM takes only texts: a text as it is, all else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _error(answer: HttpAnswer) -> dict[str, Any]:
    error = answer.json().get("error")
    return error if isinstance(error, dict) else {}


def _details(error: dict[str, Any]) -> list[dict[str, Any]]:
    details = error.get("details")
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def _error_code(answer: HttpAnswer) -> str | None:
    """Read FCM's own code, which says more than the status beside it; None when there is neither."""
    if 200 <= answer.status <= 299:
        return None
    error = _error(answer)
    own = (detail.get("errorCode") for detail in _details(error) if detail.get("@type") == _FCM_ERROR)
    return next((code for code in (*own, error.get("status")) if isinstance(code, str) and code), None)


def _is_about_token(error: dict[str, Any]) -> bool:
    if _BAD_TOKEN.search(str(error.get("message"))):
        return True
    for detail in _details(error):
        violations = detail.get("fieldViolations")
        for violation in violations if isinstance(violations, list) else ():
            if isinstance(violation, dict) and violation.get("field") in _TARGETS:
                return True
    return False


KIND: Final = Kind("fcm", FcmSettings, FcmCarrier, frozenset({"push"}))
