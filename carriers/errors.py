"""What a provider's code or status means: typed look-ups over `errors.yaml`. Facts only; the cascade decides.

The table is read once, when first asked for. A code it does not hold is `unknown`, never an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final, NamedTuple

import yaml

# SMTP reply codes that are about us and not about this message, whatever enhanced code they carry
# (errors.yaml, refinements, smtp).
_SMTP_DECIDES_ALONE: Final = frozenset({"454", "530", "534", "535", "538"})
_RANGE: Final = re.compile(r"(\d+)-(\d+)")

# Canonical status -> the receipt status Hermes records; a complaint, an unknown or an inbound changes none
# (API.md, "Receipts and inbound").
_RECEIPT_STATUS: Final[dict[str, str]] = {
    "queued": "submitted",
    "sent": "submitted",
    "delivered": "delivered",
    "read": "read",
    "failed": "undelivered",
    "bounced": "undelivered",
    "undelivered": "undelivered",
    "expired": "undelivered",
    "cancelled": "undelivered",
}


class ErrorFact(NamedTuple):
    """What a code means: a class of errors.yaml, and whether the same message may be tried again."""

    error_class: str
    retryable: bool


class StatusFact(NamedTuple):
    """What a provider's status means: canonical name, and whether the provider may still say more."""

    canonical: str
    final: bool


UNKNOWN: Final = ErrorFact("unknown", False)
UNKNOWN_STATUS: Final = StatusFact("unknown", False)


class _Codes(NamedTuple):
    """One table of one provider: codes in full, then ranges (`200-299`), then patterns (`5xx`)."""

    exact: Mapping[str, ErrorFact]
    ranges: tuple[tuple[range, ErrorFact], ...]
    meanings: Mapping[str, str]

    def find(self, code: str) -> ErrorFact | None:
        fact = self.exact.get(code)
        if fact is None and code.isascii() and code.isdigit():
            if self.ranges:
                number = int(code[:9])
                fact = next((fact for span, fact in self.ranges if number in span), None)
            if fact is None and len(code) == 3:
                fact = self.exact.get(code[0] + "xx")
        return fact


@cache
def _document() -> dict[str, Any]:
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C loader takes 20 ms, the other 200
    text = files("carriers").joinpath("errors.yaml").read_bytes()
    document: dict[str, Any] = yaml.load(text, Loader=loader)
    return document


def _codes(rows: list[dict[str, Any]], key: str) -> _Codes:
    exact: dict[str, ErrorFact] = {}
    ranges: list[tuple[range, ErrorFact]] = []
    meanings: dict[str, str] = {}
    for row in rows:
        code, fact = str(row[key]), ErrorFact(row["class"], row["retryable"])
        span = _RANGE.fullmatch(code)
        if span:
            ranges.append((range(int(span[1]), int(span[2]) + 1), fact))
        else:
            exact[code] = fact
            meanings[code] = row.get("meaning", "")
    return _Codes(exact, tuple(ranges), meanings)


@cache
def _table(provider: str, table: str) -> _Codes:
    rows = _document()["providers"].get(provider, {}).get(table)
    return _codes(rows if isinstance(rows, list) else [], "code")


@cache
def _http() -> _Codes:
    return _codes(_document()["http_status_default"], "status")


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


@cache
def _statuses(provider: str, table: str) -> dict[str | None, StatusFact]:
    rows = _document()["providers"].get(provider, {}).get(table, [])
    return {_text(row["provider"]): StatusFact(row["canonical"], row["final"]) for row in rows}


def known(provider: str, table: str, code: str | int) -> bool:
    """Tell whether the table holds this code: `unknown` may be an entry or a miss."""
    return _table(provider, table).find(str(code)) is not None


def classify(provider: str, table: str, code: str | int | None) -> ErrorFact:
    """Look up a provider's code.

    Args:
        provider: twilio, vonage, messente, ses, smtp, fcm or whatsapp.
        table: `api` (answers to a send), `delivery` (receipts), `enhanced` (smtp).
        code: as the provider wrote it.

    Returns:
        `UNKNOWN` for a code, table or provider that nobody listed, and for None.
    """
    return UNKNOWN if code is None else _table(provider, table).find(str(code)) or UNKNOWN


def meaning(provider: str, table: str, code: str | int) -> str:
    """Say in a few words what a listed code means; empty for any other."""
    return _table(provider, table).meanings.get(str(code), "")


def classify_http(status: int) -> ErrorFact:
    """Class of an HTTP status when the provider gave no code that is known; 5xx and 429 are retryable."""
    return _http().find(str(status)) or UNKNOWN


def classify_answer(provider: str, code: str | int | None, http_status: int) -> ErrorFact:
    """Class of an HTTP answer to a send: the provider's code; without one, the HTTP status.

    A code listed as `unknown` takes the HTTP status's class only for 5xx and 429 (errors.yaml, `classes`). So
    does one nobody listed, also for what a status tells by itself (401, 402, 403, 408, 413); that a request
    was bad (400, 404, 422) says nothing that its code would not say better.
    """
    if code is None:
        return classify_http(http_status)
    fact = _table(provider, "api").find(str(code))
    if fact is None:
        told = classify_http(http_status)
        return UNKNOWN if told.error_class == "invalid_request" else told
    if fact.error_class == "unknown" and (http_status == 429 or http_status >= 500):
        return classify_http(http_status)
    return fact


def classify_smtp(reply: int, enhanced: str | None, stage: str) -> ErrorFact:
    """Class of an SMTP reply of 400 and above.

    `enhanced` is the RFC 3463 code (`5.1.1`), `stage` is auth, mail, rcpt or data. At `auth` a 5.7.x is
    about our login. At `mail` the other side judges the sender, so what the table says of the recipient (and
    what would suppress it) becomes `sender_not_allowed`. An unlisted 4yz is `unknown`, but retryable: RFC
    5321, 4.2.1.
    """
    if str(reply) in _SMTP_DECIDES_ALONE:
        return classify("smtp", "api", reply)
    if stage == "auth" and enhanced is not None and enhanced.startswith("5.7."):
        return ErrorFact("provider_auth", False)
    fact = _table("smtp", "enhanced").find(enhanced) if enhanced is not None else None
    fact = fact or _table("smtp", "api").find(str(reply)) or ErrorFact("unknown", 400 <= reply <= 499)
    if stage == "mail" and fact.error_class == "invalid_destination":
        return ErrorFact("sender_not_allowed", False)
    return fact


def classify_status(provider: str, status: str | None, table: str = "status") -> StatusFact:
    """Look up a delivery status (Messente's may be null); `UNKNOWN_STATUS` for one that nobody listed."""
    return _statuses(provider, table).get(status, UNKNOWN_STATUS)


def receipt_status(canonical: str) -> str | None:
    """Turn a canonical status into the one a receipt carries; None for what changes no attempt."""
    return _RECEIPT_STATUS.get(canonical)
