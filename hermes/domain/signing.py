"""How a tenant signs its requests: HMAC-SHA256 over when, which, what and where. Pure.

The signed text is six lines joined by line feeds: `v1`, the timestamp, the nonce, the method, the request target (path
and query, as on the request line) and the SHA-256 of the body's octets as sent, in hexadecimal. The key is the signing
secret's text in ASCII.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Final

WINDOW_S: Final = 300  # a timestamp may be that far from our clock, either way

_is_timestamp: Final = re.compile(r"[0-9]{1,12}").fullmatch
_is_nonce: Final = re.compile(r"[A-Za-z0-9_-]{8,64}").fullmatch


class BadSignature(ValueError):
    """A request is not signed as it should be; the text says why, and holds nothing of the request."""


def signing_secret(installation: bytes, key_hash: bytes) -> str:
    """Derive a key's signing secret: nothing is stored, and the key alone does not tell it.

    Args:
        installation: this installation's secret, which also hashes the keys.
        key_hash: the keyed hash of the API key.

    Returns:
        `hss_` and 43 characters of base64url (256 bits).
    """
    derived = hmac.digest(installation, b"hermes request signing v1\0" + key_hash, "sha256")
    return "hss_" + base64.urlsafe_b64encode(derived).decode().rstrip("=")


def signature_of(secret: str, timestamp: str, nonce: str, method: str, target: str, body: bytes) -> str:
    """Sign a request. Returns the header's value: `v1=` and 64 hexadecimal digits."""
    digest = hashlib.sha256(body).hexdigest()
    text = "\n".join(("v1", timestamp, nonce, method, target, digest))
    return "v1=" + hmac.digest(secret.encode(), text.encode("utf-8", "surrogateescape"), "sha256").hex()


def check_signature(
    secret: str, signature: str, timestamp: str, nonce: str, method: str, target: str, body: bytes, now: float
) -> None:
    """Check a request against its headers. Whether the nonce was used before is the caller's business.

    Args:
        secret: of the key that asks.
        signature: `X-Hermes-Signature`.
        timestamp: `X-Hermes-Timestamp`, Unix seconds as decimal digits.
        nonce: `X-Hermes-Nonce`, 8 to 64 of `A-Z a-z 0-9 _ -`.
        method: as on the request line.
        target: path and query as on the request line.
        body: the octets as sent, before any decompression.
        now: Unix seconds.

    Raises:
        BadSignature: it is not of this request, or too old.
    """
    if _is_timestamp(timestamp) is None:
        raise BadSignature("X-Hermes-Timestamp is no number of seconds since 1970.")
    if _is_nonce(nonce) is None:
        raise BadSignature("X-Hermes-Nonce is 8 to 64 characters of A-Z a-z 0-9 _ -.")
    expected = signature_of(secret, timestamp, nonce, method, target, body)
    if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "surrogateescape")):
        raise BadSignature("The signature is not that of this request.")
    if abs(now - int(timestamp)) > WINDOW_S:
        raise BadSignature(f"The timestamp is more than {WINDOW_S} s from now.")
