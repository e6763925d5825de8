"""What a carrier's tests need: a submission, a sink that remembers, and runners for its tables.

The tables are JSON files of cases (`tests/contracts/payloads`): what the other side answers or reports, and
in `expect` what Hermes must conclude. The runners raise AssertionError, so any test runner can use them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from carriers.base import Carrier, ReceiptStored, SendError, SendResult, Submission
from carriers.errors import receipt_status
from hermes.domain.message import Content
from hermes.domain.receipt import DeliveryReceipt

# Classes that make Hermes stop writing to an address (errors.yaml, `classes`).
SUPPRESSING: Final = frozenset({"invalid_destination", "blocked_or_opted_out"})

_SOME_TIME: Final = datetime(2026, 1, 1, tzinfo=UTC)
_SUBMISSION: Final = Submission(
    message_id="msg_01KE0000000000000000000000",
    tenant="ten_acme",
    step=0,
    attempt=1,
    channel="sms",
    to="+4520123456",
    sender=None,
    content=Content(text="Your code is 123456"),
    category="transactional",
    expires_at=_SOME_TIME + timedelta(hours=72),
    client_reference="msg_01KE0000000000000000000000.0",
)


def submission(**changes: Any) -> Submission:
    """Make a submission of a short SMS, changed as asked."""
    return replace(_SUBMISSION, **changes)


@dataclass(slots=True)
class RememberingSink:
    """A `ReceiptSink` that keeps every receipt it was handed.

    Attributes:
        stores: what it answers to `stored`; None answers nothing until the test does.
        pending: the `stored` callbacks not yet answered.
    """

    stores: bool | None = True
    receipts: list[DeliveryReceipt] = field(default_factory=list)
    pending: list[ReceiptStored] = field(default_factory=list)

    def receipt(self, receipt: DeliveryReceipt, stored: ReceiptStored | None = None) -> None:
        self.receipts.append(receipt)
        if stored is None:
            return
        if self.stores is None:
            self.pending.append(stored)
        else:
            stored(self.stores)

    def statuses(self) -> list[str]:
        """List the statuses in the order they came."""
        return [receipt.status for receipt in self.receipts]


@dataclass(slots=True, frozen=True)
class Case:
    """One row of a carrier's table; `str` of it is its id, for test names."""

    id: str
    given: dict[str, Any]
    expect: dict[str, Any]

    def __str__(self) -> str:
        return self.id


def load_cases(path: Path) -> list[Case]:
    """Read a table of cases; everything of a case but its id and `expect` is `given`."""
    rows = json.loads(path.read_text(encoding="utf-8"))["cases"]
    return [Case(row["id"], {k: v for k, v in row.items() if k not in ("id", "expect")}, row["expect"]) for row in rows]


def check_answer(case: Case, answer: SendResult | SendError) -> None:
    """Compare what a carrier concluded from an answer to its send with what it must conclude."""
    expect = case.expect
    if expect.get("outcome") == "accepted":
        assert isinstance(answer, SendResult), f"{case}: refused: {answer}"
        if "provider_message_id" in expect:
            # Receipts name the part's own id where that is another one.
            ids = expect.get("all_ids") or [expect.get("message_id") or expect["provider_message_id"]]
            found = answer.carrier_message_ids[: 1 if expect.get("partial") else None]
            assert list(found) == ids, f"{case}: {answer.carrier_message_ids}"
        if "all_ids" in expect or expect.get("partial"):
            assert len(answer.carrier_message_ids) == expect["segments"], f"{case}: {answer.carrier_message_ids}"
    elif expect.get("outcome") == "error":
        assert isinstance(answer, SendError), f"{case}: taken: {answer}"
        assert answer.error_class == expect["class"], f"{case}: {answer.error_class}"
        if "retryable" in expect:
            assert answer.retryable == expect["retryable"], f"{case}: retryable {answer.retryable}"
        if "provider_code" in expect:
            code = expect["provider_code"]
            assert answer.code == (None if code is None else str(code)), f"{case}: {answer.code}"
        if "retry_after_s" in expect:
            assert answer.retry_after_s == expect["retry_after_s"], f"{case}: {answer.retry_after_s}"


def check_receipt(case: Case, receipts: Iterable[DeliveryReceipt]) -> None:
    """Compare the one receipt a carrier read from a callback with what it must have read."""
    expect, found = case.expect, list(receipts)
    if "status" not in expect:
        return
    assert len(found) == 1, f"{case}: {len(found)} receipts"
    receipt = found[0]
    # A complaint changes no status; it is carried by its class (see `suppress`).
    assert receipt.status == (receipt_status(expect["status"]) or "submitted"), f"{case}: {receipt.status}"
    assert receipt.carrier_message_id == expect["provider_message_id"], case.id
    assert receipt.error_class == expect["class"], f"{case}: {receipt.error_class}"
    assert receipt.error_code == expect["provider_code"], f"{case}: {receipt.error_code}"
    if "suppress" in expect:
        assert (receipt.error_class in SUPPRESSING) == expect["suppress"], case.id


def check_keeps_secrets(carrier: Carrier, secrets: Iterable[str], *spoken: object) -> None:
    """Fail if a secret shows in what a carrier says of itself, or in what else it said (errors, receipts)."""
    settings = getattr(carrier, "settings", None)
    said: list[object] = [carrier, carrier.inspect(), settings, *spoken]
    for thing in said:
        text = f"{thing!s} {thing!r}"
        if isinstance(thing, BaseException):
            text += f" {thing.args!r} {vars(thing)!r}"
        for secret in secrets:
            assert secret not in text, f"{type(thing).__name__} shows a secret"
