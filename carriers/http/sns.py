"""Amazon SNS as a messenger: whose call to our webhook it is, and what it says.

Source: docs.aws.amazon.com/sns, "Verifying the signatures of Amazon SNS messages" (read 2026-11-24).

A message is believed when its topic is one we named, and its signature is by the key of a certificate that lies in
the configured folder or was fetched from SNS itself. Nothing is fetched from any other host. A message may come
twice: reading it again says the same.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64decode
from collections.abc import Awaitable, Callable, Collection
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, NamedTuple
from urllib.parse import parse_qs, urlsplit

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm

from carriers.base import CallbackRefused, SendError
from hermes.errors import HermesError
from hermes.logs import Unshown
from hermes.runtime.clock import Clock

# Gets what is at an address that was checked here. None: the host was reached and has no such thing; SendError: it
# could not be reached, or is not well.
Fetch = Callable[[str], Awaitable[bytes | None]]

CERTIFICATES_KEPT: Final = 32  # arbitrary; a region has one, changed about once a year
MAX_CERTIFICATE: Final = 1 << 16  # octets; one takes about 2 KiB

_is_sns_host: Final = re.compile(r"sns\.[a-z0-9-]{3,}\.amazonaws\.com(?:\.cn)?").fullmatch
_is_file_name: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,120}\.pem").fullmatch
# What SNS calls its certificates. Its own API answers on the same host, so no other path may be asked.
_is_fetched_path: Final = re.compile(r"/SimpleNotificationService-[A-Za-z0-9]{1,100}\.pem").fullmatch

_HASHES: Final[dict[str, HashAlgorithm]] = {"1": SHA1(), "2": SHA256()}
_SIGNED: Final[dict[str, tuple[str, ...]]] = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}


class SnsMessage(Unshown, msgspec.Struct, frozen=True):
    """What SNS posts, by its own names; `Subject`, `SubscribeURL` and `Token` may be absent."""

    Type: Literal["Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"]
    MessageId: str
    TopicArn: str
    Message: str
    Timestamp: str
    SignatureVersion: str
    Signature: str
    SigningCertURL: str
    Subject: str | None = None
    SubscribeURL: str | None = None
    Token: str | None = None


class CertificateAway(HermesError):
    """The certificate could not be fetched now; the call may be made again."""


class _Certificate(NamedTuple):
    key: RSAPublicKey
    valid_from: datetime
    valid_to: datetime


_message: Final = msgspec.json.Decoder(SnsMessage)


class SnsReader:
    """Reads what SNS posts, and believes only what is signed.

    Args:
        topic_arns: the only topics listened to; none of them: none.
        folder: certificates by file name, looked at before any fetch.
        fetch: how to get a certificate.
    """

    def __init__(self, topic_arns: Collection[str], folder: Path | None, fetch: Fetch, clock: Clock) -> None:
        self._topic_arns = frozenset(topic_arns)
        self._folder = folder
        self._fetch = fetch
        self._clock = clock
        self._certificates: dict[str, _Certificate] = {}
        self._fetching = asyncio.Lock()  # one at a time: unsigned calls cannot make a crowd of fetches

    async def read(self, body: bytes) -> SnsMessage:
        """Give the message that was posted.

        Raises:
            CallbackRefused: not from SNS, not of our topics, or changed on the way.
            CertificateAway: nobody can tell now.
        """
        try:
            message = _message.decode(body)
        except (msgspec.DecodeError, RecursionError):
            raise CallbackRefused(401, "not a signed Amazon SNS message") from None
        if message.TopicArn not in self._topic_arns:
            raise CallbackRefused(403, "the topic is none of sns_topic_arns")
        certificate = await self._certificate(message.SigningCertURL)
        if not certificate.valid_from <= self._clock.now() <= certificate.valid_to:
            raise CallbackRefused(401, "the signing certificate is not valid now")
        if not is_signed(message, certificate.key):
            raise CallbackRefused(401, "the signature of the Amazon SNS message is wrong")
        return message

    async def _certificate(self, url: str) -> _Certificate:
        kept = self._certificates.get(url)
        if kept is not None:
            return kept
        path = _sns_path(url)
        if path is None or _is_file_name(path[1:]) is None:
            raise CallbackRefused(401, "SigningCertURL is no address of Amazon SNS")
        pem = self._from_folder(path[1:])
        if pem is None:
            if _is_fetched_path(path) is None:
                raise CallbackRefused(401, "SigningCertURL is no address of an Amazon SNS certificate")
            async with self._fetching:
                kept = self._certificates.get(url)
                if kept is not None:
                    return kept
                try:
                    pem = await self._fetch(url)
                except SendError as exc:
                    raise CertificateAway("the signing certificate could not be fetched") from exc
        certificate = None if pem is None else _read_certificate(pem)
        if certificate is None:
            raise CallbackRefused(401, "SigningCertURL leads to no certificate")
        while len(self._certificates) >= CERTIFICATES_KEPT:
            del self._certificates[next(iter(self._certificates))]
        self._certificates[url] = certificate
        return certificate

    def _from_folder(self, name: str) -> bytes | None:
        if self._folder is None:
            return None
        try:
            with (self._folder / name).open("rb") as file:
                return file.read(MAX_CERTIFICATE)
        except OSError:
            return None


def confirmation_url(message: SnsMessage) -> str | None:
    """Give the address to get so that SNS begins to send; None when it is no such address.

    Only for a message that `SnsReader.read` gave.
    """
    url = message.SubscribeURL or ""
    if message.Type != "SubscriptionConfirmation" or _sns_path(url) != "/":
        return None
    asked = parse_qs(urlsplit(url).query)
    confirms = asked.get("Action") == ["ConfirmSubscription"] and asked.get("TopicArn") == [message.TopicArn]
    return url if confirms and asked.get("Token") == [message.Token] else None


def is_signed(message: SnsMessage, key: RSAPublicKey) -> bool:
    """Tell whether the signature is by this key."""
    algorithm = _HASHES.get(message.SignatureVersion)
    if algorithm is None:
        return False
    try:
        key.verify(b64decode(message.Signature, validate=True), string_to_sign(message), PKCS1v15(), algorithm)
    except (ValueError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def string_to_sign(message: SnsMessage) -> bytes:
    """Write what is signed: each field that is there, its name and its value on lines of their own."""
    fields = ((name, getattr(message, name)) for name in _SIGNED[message.Type])
    return "".join(f"{name}\n{value}\n" for name, value in fields if value is not None).encode()


def _sns_path(url: str) -> str | None:
    """Give the path of an https address at Amazon SNS, without its query; None for any other address."""
    try:
        parts = urlsplit(url)
        if parts.scheme != "https" or _is_sns_host(parts.netloc) is None or not url.isascii() or not url.isprintable():
            return None
    except ValueError:
        return None
    return None if parts.fragment or (parts.query and parts.path != "/") else parts.path


def _read_certificate(pem: bytes) -> _Certificate | None:
    try:
        found = x509.load_pem_x509_certificate(pem)
        key = found.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None
    if not isinstance(key, RSAPublicKey):
        return None
    return _Certificate(key, found.not_valid_before_utc, found.not_valid_after_utc)
