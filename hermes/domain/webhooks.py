"""A customer's webhook, decided purely: how it is signed, what an answer means, when it is tried again.

Standard Webhooks 1.0.0 (standard-webhooks on GitHub, spec/standard-webhooks.md, read 2026-11-24).
Carried out by `actors/webhook.py`; described for customers in docs/webhooks.md.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from binascii import b2a_base64
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final
from zlib import crc32

SECRET_PREFIX: Final = "whsec_"

# Seconds from one try to the next, measured from the answer: the specification's example ("Deliverability and
# reliability"), its end cut so that the whole adds up to three days.
RETRY_DELAYS_S: Final = (
    5.0,
    300.0,  # 5 min
    1_800.0,  # 30 min
    7_200.0,  # 2 h
    18_000.0,  # 5 h
    36_000.0,  # 10 h
    50_400.0,  # 14 h
    72_000.0,  # 20 h
    73_495.0,  # about 20 h: the rest of 72 h
)
RETRY_JITTER: Final = 0.2  # +-20 %, so that what failed together does not come back together
RETRY_AFTER_LIMIT_S: Final = 3_600.0  # the most a customer's Retry-After may add; arbitrary, far below a day

# Calls under way to one target. A target that answers fast is given more of them, any other one fewer.
WINDOW_START: Final = 8
WINDOW_MOST: Final = 64
WINDOW_SLOW: Final = 4  # what a target keeps that answers well but slowly
FAST_ANSWER_S: Final = 1.0  # an answer within this time is fast


@dataclass(slots=True, frozen=True)
class ReplayDue:
    """To `webhooks`: a dead letter of this tenant was made due again; look into the journal now."""

    tenant: str


@dataclass(slots=True, frozen=True)
class Answer:
    """What one call to a customer brought.

    Attributes:
        status: the HTTP status; None when there was no answer.
        error: why there was none, in a few words that hold nothing of the URL.
        retry_after_s: what the customer asked for, in seconds.
        hopeless: the URL itself is refused; another try would change nothing.
    """

    status: int | None
    error: str | None = None
    retry_after_s: float | None = None
    elapsed_s: float = 0.0
    hopeless: bool = False


@dataclass(slots=True, frozen=True)
class Verdict:
    """What follows from an answer.

    Attributes:
        outcome: delivered, retry, gone (410: send nothing more there) or dead.
        delay_s: for retry: seconds until the next try.
        error: for all but delivered: a few words, for `last_error`.
    """

    outcome: str
    delay_s: float = 0.0
    error: str | None = None


def webhook_id(message_id: str, seq: int) -> str:
    """Name an event towards the customer: the same at every try."""
    return f"{message_id}.{seq}"


def sign(secrets: Iterable[str], webhook_id: str, timestamp: int, body: bytes) -> str:
    """Make the `webhook-signature` header: one `v1,<base64>` for each secret, separated by spaces.

    Args:
        secrets: `whsec_` and base64 each, the current one first.
        webhook_id: as in the header of that name; holds nothing the customer chose.
        timestamp: Unix seconds of this try, as in `webhook-timestamp`.
        body: the octets that are sent.

    Raises:
        ValueError: a secret that is not base64.
    """
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    signatures = []
    for secret in secrets:
        keyed = _keyed(secret).copy()
        keyed.update(signed)
        signatures.append("v1," + b2a_base64(keyed.digest(), newline=False).decode())
    return " ".join(signatures)


@lru_cache(1_024)  # a tenant has few, and uses them for all its events
def _keyed(secret: str) -> hmac.HMAC:
    """Begin a signature: the key is hashed once, not for every event."""
    return hmac.new(base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True), digestmod=hashlib.sha256)


def judge(answer: Answer, attempt: int, seed: str) -> Verdict:
    """Decide what follows from an answer.

    Args:
        answer: what the try brought.
        attempt: which try this was, from 1.
        seed: names the delivery; the jitter follows from it.
    """
    status = answer.status
    if status is not None and 200 <= status < 300:
        return Verdict("delivered")
    error = answer.error or str(status)
    if status == 410:
        return Verdict("gone", error=error)
    if answer.hopeless:
        return Verdict("dead", error=error)
    delay_s = next_delay_s(attempt, seed)
    if delay_s is None:
        return Verdict("dead", error=error)
    if answer.retry_after_s is not None:
        delay_s = max(delay_s, min(answer.retry_after_s, RETRY_AFTER_LIMIT_S))
    return Verdict("retry", delay_s, error)


def next_delay_s(attempt: int, seed: str) -> float | None:
    """Tell how many seconds after failed try `attempt` (from 1) the next one is due; None: that was the last.

    Counted by tries and not by age: a dead letter that is replayed, or one that waited while Hermes was down,
    gets its three days all the same.
    """
    if attempt > len(RETRY_DELAYS_S):
        return None
    delay_s = RETRY_DELAYS_S[max(attempt, 1) - 1]
    share = crc32(f"{seed}.{attempt}".encode()) / 0xFFFF_FFFF  # 0..1, the same for the same try
    return delay_s * (1 + RETRY_JITTER * (2 * share - 1))


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """Read a Retry-After header (RFC 9110, 10.2.3): seconds from now, 0 or more; None: nothing to read."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())


def next_window(window: int, answer: Answer) -> int:
    """Tell how many calls a target may have under way after this answer: 1..`WINDOW_MOST`.

    Fast answers earn more; slow ones bring it down to `WINDOW_SLOW`, failures to 1: a customer's outage holds
    few connections.
    """
    status = answer.status
    if status is None or status == 429 or status >= 500:
        return max(1, window // 2)
    if answer.elapsed_s <= FAST_ANSWER_S:
        return min(WINDOW_MOST, window + 1)
    return max(WINDOW_SLOW, window - 1) if window > WINDOW_SLOW else min(WINDOW_SLOW, window + 1)
