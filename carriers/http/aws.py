"""Credentials of AWS, and requests signed with them (Signature Version 4): boto3 finds, botocore signs.

What may ask the network for credentials (profiles, roles, instance metadata) runs in a thread, ahead of their end,
once for all who wait.

Signing is botocore's, but for one short cut: the requests to one address differ in time and body only, so what
botocore makes of the rest is kept and filled in. `add_auth` would take 100 us a request, this takes 10; the tests
compare the two.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import BotoCoreError, ClientError

from carriers.base import SendError

# Seconds before their end from which a send waits for new credentials; botocore's own mandatory time-out. From 15
# minutes before their end they are renewed beside the sends.
RENEW_BEFORE_S: Final = 600

_SOME_TIME: Final = "20000101T000000Z"


class AwsSigner:
    """Signs requests to one service in one region.

    Args:
        keys: `aws_access_key_id`, `aws_secret_access_key` and `aws_session_token`; None of them: where AWS's own
            tools look (variables, profiles, roles).
        limit_s: how long a request waits for credentials; None: as long as it takes.
    """

    def __init__(self, service: str, region: str, keys: Mapping[str, str | None], limit_s: float | None = None) -> None:
        self._service = service
        self._region = region
        self._limit_s = limit_s
        self._keys = dict(keys)
        self._credentials: Any = None
        self._auth: Any = None  # of the credentials as they are now
        self._forms: dict[tuple[str, str], _Form] = {}  # signed by `_auth`
        self._renewing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to look for credentials."""
        self._begin()

    async def close(self) -> None:
        """Stop looking."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
            self._renewing = None

    async def sign(self, method: str, url: str, body: bytes, now: datetime) -> dict[str, str]:
        """Give the headers of a signed request that carries JSON.

        Raises:
            SendError: there are no credentials. Nothing was sent.
        """
        if self._auth is None or self._ends_within(None):
            await self._make_current()
        form = self._forms.get((method, url))
        if form is None:
            form = self._forms[method, url] = _Form(self._auth, method, url)
        return form.fill(body, now)

    async def _make_current(self) -> None:
        renewing = self._begin()
        if self._auth is None or self._ends_within(RENEW_BEFORE_S):
            await asyncio.wait({renewing}, timeout=self._limit_s)
        if self._credentials is None and renewing.done():
            raise SendError("provider_config", None, "AWS credentials: none were found")
        if self._auth is None or self._ends_within(0):  # an answer to expired ones would stop the carrier
            raise SendError("retryable_transient", None, "AWS credentials: could not be had now", retryable=True)

    def _ends_within(self, seconds: int | None) -> bool:
        credentials = self._credentials
        return isinstance(credentials, RefreshableCredentials) and credentials.refresh_needed(seconds)

    def _begin(self) -> asyncio.Task[None]:
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew())
        return self._renewing

    async def _renew(self) -> None:
        try:
            frozen = await asyncio.to_thread(self._find)
        except (BotoCoreError, ClientError, OSError, ValueError):
            return  # the last ones serve until they end; AWS says when
        self._auth = None if frozen is None else SigV4Auth(frozen, self._service, self._region)
        self._forms = {}

    def _find(self) -> Any:
        if self._credentials is None:
            session = boto3.Session(region_name=self._region, **self._keys)
            self._credentials = session.get_credentials()
        return None if self._credentials is None else self._credentials.get_frozen_credentials()


class _Form:
    """A signed request to one address, its body left blank; what its time decides is kept for a second."""

    def __init__(self, auth: Any, method: str, url: str) -> None:
        self._auth = auth
        self._headers = {"Content-Type": "application/json"}
        if auth.credentials.token is not None:
            self._headers["X-Amz-Security-Token"] = auth.credentials.token
        self._request = AWSRequest(method, url, headers={**self._headers, "X-Amz-Date": _SOME_TIME}, data=b"")
        head, _, _ = auth.canonical_request(self._request).rpartition("\n")  # all but the body's hash
        self._before, _, self._after = head.partition(_SOME_TIME)
        _, _, self._signed_headers = head.rpartition("\n")
        self._second: datetime | None = None

    def fill(self, body: bytes, now: datetime) -> dict[str, str]:
        second = now.replace(microsecond=0)
        if second != self._second:
            self._begin(second)
        canonical = f"{self._canonical}\n{sha256(body).hexdigest()}"
        to_sign = f"{self._to_sign}\n{sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(self._key, to_sign.encode(), sha256).hex()
        return {**self._timed_headers, "Authorization": self._authorization + signature}

    def _begin(self, second: datetime) -> None:
        self._second = second
        auth, request = self._auth, self._request
        time = second.strftime("%Y%m%dT%H%M%SZ")
        request.context["timestamp"] = time
        self._canonical = f"{self._before}{time}{self._after}"
        self._to_sign, _, _ = auth.string_to_sign(request, "").rpartition("\n")
        self._timed_headers = {**self._headers, "X-Amz-Date": time}
        scope = auth.scope(request)
        self._authorization = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={self._signed_headers}, Signature="
        self._key = f"AWS4{auth.credentials.secret_key}".encode()
        for part in auth.credential_scope(request).split("/"):  # day, region, service, "aws4_request"
            self._key = hmac.digest(self._key, part.encode(), sha256)
