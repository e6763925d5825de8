"""Tell whether Vonage signed a webhook: the `sig` parameter of the SMS API, or a JWT over the body.

Source: vonage-python-sdk http_client/auth.py @b308cb1 (Apache-2.0) and developer.vonage.com, signing messages. The
account's default is `md5hash`, which that SDK does not know; the Node SDK signs another string.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import jwt

from carriers.base import CallbackRefused, CallbackRequest

OLDEST: Final = timedelta(hours=48)  # API.md: an older timestamp is refused; the same into the future

# Method -> hash of the HMAC; None: a plain MD5 of the string and the secret.
METHODS: Final[dict[str, str | None]] = {
    "md5hash": None,
    "md5": "md5",
    "sha1": "sha1",
    "sha256": "sha256",
    "sha512": "sha512",
}
_REPLACED: Final = str.maketrans("&=", "__")


def sign(fields: Mapping[str, str], secret: str, hash_name: str | None) -> str:
    """Make the `sig` of these parameters, in lower-case hex; one named sig is left out."""
    text = "".join(
        f"&{name}={value.translate(_REPLACED)}"
        for name, value in sorted(fields.items(), key=lambda field: field[0].encode("utf-8", "replace"))
        if name != "sig"
    ).encode("utf-8", "replace")
    if hash_name is None:
        return hashlib.md5(text + secret.encode(), usedforsecurity=False).hexdigest()
    return hmac.new(secret.encode(), text, hash_name).hexdigest()


def check_sig(fields: Mapping[str, str], secret: str, hash_name: str | None, now: datetime) -> None:
    """Let parameters pass whose `sig` is right and whose `timestamp` is not old.

    Raises:
        CallbackRefused: 401 without a signature, else 403.
    """
    given = fields.get("sig")
    if not given:
        raise CallbackRefused(401, "sig is missing")
    wanted = sign(fields, secret, hash_name)
    if not hmac.compare_digest(given.lower().encode("utf-8", "replace"), wanted.encode()):
        raise CallbackRefused(403, "sig is wrong")
    _check_age(fields.get("timestamp"), now)


def check_jwt(request: CallbackRequest, secret: str, api_key: str, now: datetime) -> None:
    """Let a call pass whose bearer token is of this account, over this body, and not old.

    Raises:
        CallbackRefused: 401 without a token, else 403.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise CallbackRefused(401, "the bearer token is missing")
    try:
        claims: dict[str, Any] = jwt.decode(
            token.strip(),
            secret,
            algorithms=["HS256"],
            options={"require": ["iat", "payload_hash"], "verify_iat": False, "verify_aud": False},
        )
    except jwt.InvalidTokenError:
        claims = {}
    given = claims.get("payload_hash")
    wanted = hashlib.sha256(request.body).hexdigest()
    if not isinstance(given, str) or not hmac.compare_digest(given.lower().encode("utf-8", "replace"), wanted.encode()):
        raise CallbackRefused(403, "the bearer token is wrong")
    if claims.get("api_key") != api_key:
        raise CallbackRefused(403, "the bearer token is of another account")
    _check_age(str(claims["iat"]), now)


def _check_age(timestamp: str | None, now: datetime) -> None:
    digits = (timestamp or "").partition(".")[0]
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 12):
        raise CallbackRefused(403, "the signed timestamp is missing")
    if abs(now.timestamp() - int(digits)) > OLDEST.total_seconds():
        raise CallbackRefused(403, "the signed timestamp is more than 48 hours away")
