"""Read KumoMTA's log hooks: one log record, a list of them, or one a line, as receipts.

Source: KumoCorp/kumomta docs/reference/log_record.md @01c52ee.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from carriers.errors import classify_smtp, classify_status, meaning, receipt_status
from hermes.domain.receipt import DeliveryReceipt


def read_log_records(carrier: str, body: bytes) -> list[DeliveryReceipt]:
    """Turn the body of a log hook into receipts; records that say nothing of a message's fate are left out.

    A complaint is a `submitted` receipt of class `blocked_or_opted_out`: it changes no status. What the
    remote server said is left out, because it may name the recipient.

    Raises:
        ValueError: the body holds no log records.
    """
    try:
        try:
            found = json.loads(body)
        except ValueError:
            found = [json.loads(line) for line in body.splitlines() if line.strip()]
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc
    records = found if isinstance(found, list) else [found]
    if not all(isinstance(record, dict) for record in records):
        raise ValueError("not a log record")
    receipts = (_receipt(carrier, record) for record in records)
    return [receipt for receipt in receipts if receipt is not None]


def _receipt(carrier: str, record: dict[str, Any]) -> DeliveryReceipt | None:
    queue_id, canonical = (
        record.get("id"),
        classify_status("smtp", str(record.get("type")), "kumomta_status").canonical,
    )
    if not isinstance(queue_id, str) or canonical == "unknown":
        return None
    at = _time(record.get("timestamp"))
    status = receipt_status(canonical)
    if canonical == "complaint":
        return DeliveryReceipt(carrier, queue_id, "submitted", "blocked_or_opted_out", error_detail="complaint", at=at)
    if status is None:
        return None
    if canonical == "expired":  # the code it comes with is KumoMTA's own
        return DeliveryReceipt(carrier, queue_id, status, "expired", error_detail="delivery time ended", at=at)
    reply, enhanced = _reply(record.get("response"))
    if reply < 400:
        return DeliveryReceipt(carrier, queue_id, status, at=at)
    detail = (enhanced and meaning("smtp", "enhanced", enhanced)) or meaning("smtp", "api", reply)
    error_class = classify_smtp(reply, enhanced, "data").error_class
    return DeliveryReceipt(carrier, queue_id, status, error_class, enhanced or str(reply), detail or None, at)


def _reply(response: object) -> tuple[int, str | None]:
    """Read reply code and enhanced code; (0, None) when there are none."""
    if not isinstance(response, dict) or not isinstance(response.get("code"), int):
        return 0, None
    enhanced = response.get("enhanced_code")
    if not isinstance(enhanced, dict):
        return response["code"], None
    numbers = [enhanced.get(key) for key in ("class", "subject", "detail")]
    known = all(isinstance(number, int) for number in numbers)
    return response["code"], ".".join(map(str, numbers)) if known else None


def _time(timestamp: object) -> datetime | None:
    if isinstance(timestamp, bool) or not isinstance(timestamp, int | float):
        return None
    try:
        return datetime.fromtimestamp(timestamp, UTC)
    except (ValueError, OverflowError, OSError):
        return None
