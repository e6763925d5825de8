"""Amazon SES: e-mail by SendEmail of the SESv2 API; what became of it comes through Amazon SNS.

Source: botocore 1.44.5, sesv2/2019-09-27 service model; docs.aws.amazon.com/ses (read 2026-11-24).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from carriers.base import (
    CallbackAnswer,
    CallbackRefused,
    CallbackRequest,
    ReceiptSink,
    SendError,
    SendResult,
    Submission,
)
from carriers.errors import ErrorFact
from carriers.http.aws import AwsSigner
from carriers.http.common import HttpAnswer, HttpCarrier, HttpSettings, refusal
from carriers.http.ses_events import read_event
from carriers.http.sns import CertificateAway, SnsMessage, SnsReader, confirmation_url
from carriers.mime import AddressError, Mailbox, mailbox_header, parse_address, parse_mailbox
from carriers.registry import Kind
from hermes.errors import SettingsError
from hermes.logs import get_logger
from hermes.runtime.clock import Clock

log = get_logger("hermes.ses")

_SEND: Final = "/v2/email/outbound-emails"
_ACCOUNT: Final = "/v2/email/account"
_UNVERIFIED: Final = ErrorFact("provider_config", False)


class SesSettings(HttpSettings, frozen=True, kw_only=True):
    """How to use Amazon SES.

    Attributes:
        access_key_id: without it, credentials are looked for where AWS's own tools look.
        configuration_set: whose event destinations report what becomes of a message.
        from_: sender when the customer names none: an address, or `Name <address>`.
        sns_topic_arns: the only topics whose notifications are listened to.
        sns_cert_dir: SNS's certificates by file name, looked at before any is fetched.
    """

    region: Annotated[str, msgspec.Meta(pattern=r"^[a-z]{2,8}(-[a-z]{2,20}){1,3}-[0-9]{1,2}$")]
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    configuration_set: str | None = None
    from_: str | None = msgspec.field(name="from", default=None)
    sns_topic_arns: tuple[str, ...] = ()
    sns_cert_dir: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("secret_access_key: access_key_id and secret_access_key go together")
        if self.session_token is not None and self.access_key_id is None:
            raise ValueError("session_token: only beside access_key_id and secret_access_key")


class SesCarrier(HttpCarrier):
    """E-mail by Amazon SES."""

    kind = "ses"
    provider = "ses"

    def __init__(self, name: str, channel: str, settings: SesSettings, *, clock: Clock, cost: float = 0.0) -> None:
        china = ".cn" if settings.region.startswith("cn-") else ""
        self.root = f"https://email.{settings.region}.amazonaws.com{china}"
        super().__init__(name, channel, settings, clock=clock, cost=cost)
        self.settings = settings
        try:
            self._sender = None if settings.from_ is None else _sender(settings.from_)
        except AddressError as exc:
            raise SettingsError(f"carrier {name!r}: from: {exc}") from None
        keys = {
            "aws_access_key_id": settings.access_key_id,
            "aws_secret_access_key": settings.secret_access_key,
            "aws_session_token": settings.session_token,
        }
        self._signer = AwsSigner("ses", settings.region, keys, settings.timeout_s or None)
        folder = None if settings.sns_cert_dir is None else Path(settings.sns_cert_dir).expanduser()
        self._sns = SnsReader(settings.sns_topic_arns, folder, self._fetch_certificate, clock)

    async def open(self, sink: ReceiptSink) -> None:
        await super().open(sink)
        await self._signer.open()

    async def close(self) -> None:
        await self._signer.close()
        await super().close()

    async def submit(self, submission: Submission) -> SendResult:
        body = msgspec.json.encode(self._email(submission))
        answer = await self._call("POST", _SEND, body)
        message_id = answer.json().get("MessageId") if 200 <= answer.status <= 299 else None
        if isinstance(message_id, str) and message_id:
            return SendResult((message_id,))
        raise self._refusal(answer)

    async def check(self) -> None:
        answer = await self._call("GET", _ACCOUNT, b"")
        if answer.status == 403 and _error_code(answer) == "AccessDeniedException":
            return  # we are known, and may do no more than send
        if answer.status != 200:
            raise self._refusal(answer)
        if answer.json().get("SendingEnabled") is False:
            raise SendError("provider_auth", None, "sending is switched off for the account")

    async def on_callback(self, request: CallbackRequest) -> CallbackAnswer:
        """Read what Amazon SNS posts; a new subscription to one of our topics is confirmed."""
        try:
            message = await self._sns.read(request.body)
        except CertificateAway as away:
            return CallbackAnswer(status=503, body=str(away).encode())
        if message.Type == "Notification":
            return CallbackAnswer(read_event(self.name, message.Message))
        if message.Type == "SubscriptionConfirmation" and not await self._confirm(message):
            return CallbackAnswer(status=503, body=b"the subscription could not be confirmed now")
        return CallbackAnswer()

    def inspect(self) -> dict[str, Any]:
        settings = self.settings
        return {
            **super().inspect(),
            "region": settings.region,
            "configuration_set": settings.configuration_set,
            "sns_topics": len(settings.sns_topic_arns),
        }

    def _email(self, submission: Submission) -> dict[str, Any]:
        """Write a SendEmail request."""
        content = submission.content
        parts = {
            part: {"Data": text, "Charset": "UTF-8"}
            for part, text in (("Text", content.text), ("Html", content.html))
            if text is not None
        }
        if not parts:
            raise SendError("invalid_request", None, "the content has neither text nor html")
        email: dict[str, Any] = {
            "FromEmailAddress": self._from(submission.sender),
            "Destination": {"ToAddresses": [_recipient(submission.to)]},
            "Content": {"Simple": {"Subject": {"Data": content.subject or "", "Charset": "UTF-8"}, "Body": parts}},
            "EmailTags": [{"Name": "hermes_id", "Value": submission.message_id}],
        }
        if self.settings.configuration_set is not None:
            email["ConfigurationSetName"] = self.settings.configuration_set
        return email

    def _from(self, sender: str | None) -> str:
        problem = None
        try:
            found = self._sender if sender is None else _sender(sender)
        except AddressError as exc:
            problem = f"from: {exc}"
        if problem is not None:
            raise SendError("invalid_request", None, problem)
        if found is None:
            raise SendError("provider_config", None, "neither the message nor the carrier names a sender (`from`)")
        return found

    async def _call(self, method: str, path: str, body: bytes) -> HttpAnswer:
        url = self.base_url + path
        headers = await self._signer.sign(method, url, body, self.clock.now())
        return await self.client.request(method, url, data=body or None, headers=headers)

    def _refusal(self, answer: HttpAnswer) -> SendError:
        code = _error_code(answer)
        fact = None
        if code == "MessageRejected":
            said = answer.json()
            if "not verified" in str(said.get("message") or said.get("Message")):
                fact = _UNVERIFIED
        return refusal("ses", answer, code, fact=fact, now=self.clock.now())

    async def _fetch_certificate(self, url: str) -> bytes | None:
        answer = await self.client.request("GET", url)
        if answer.status == 429 or answer.status >= 500:
            raise refusal("ses", answer)
        return answer.body if answer.status == 200 else None

    async def _confirm(self, message: SnsMessage) -> bool:
        url = confirmation_url(message)
        if url is None:
            raise CallbackRefused(403, "SubscribeURL confirms no subscription to this topic")
        try:
            answer = await self.client.request("GET", url)
        except SendError:
            return False
        confirmed = 200 <= answer.status <= 299
        log.info("SNS subscription", carrier=self.name, topic=message.TopicArn, confirmed=confirmed)
        return confirmed


@lru_cache(maxsize=256)
def _sender(text: str) -> str:
    """Write a sender as SES takes it: the domain in ASCII, the name as encoded words where it needs them.

    Raises:
        AddressError: it is none, or one that SES cannot write from.
    """
    mailbox = parse_mailbox(text)
    if mailbox.needs_utf8:
        raise AddressError("Amazon SES takes only ASCII before the @")
    return mailbox_header(mailbox).replace("\r\n ", " ")


def _recipient(text: str) -> str:
    problem = None
    try:
        to: Mailbox = parse_address(text)
    except AddressError as exc:
        problem = str(exc)
    if problem is None and to.needs_utf8:
        problem = "Amazon SES takes only ASCII before the @"
    if problem is not None:
        raise SendError("invalid_destination", None, f"to: {problem}")
    return to.address


def _error_code(answer: HttpAnswer) -> str | None:
    """Read the error's type: from the header, which may go on with `:<uri>`, or from the body (`<prefix>#<type>`)."""
    if 200 <= answer.status <= 299:
        return None
    said = answer.headers.get("x-amzn-ErrorType") or answer.json().get("__type")
    if not isinstance(said, str):
        return None
    return said.partition(":")[0].rpartition("#")[2].strip() or None


KIND: Final = Kind("ses", SesSettings, SesCarrier, frozenset({"email"}))
