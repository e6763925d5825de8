"""Who must not be written to: whose entries count for which message."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from hermes.domain.suppression import Suppression, SuppressionIndex

PHONE = "+4520123456"


def entry(tenant: str | None, channel: str | None, address: str) -> Suppression:
    return Suppression("sup_1", tenant, channel, address, "manual", datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("listed", "asked", "blocked"),
    [
        (("ten_1", "sms", PHONE), ("ten_1", "sms", PHONE, "marketing"), True),
        (("ten_1", "sms", PHONE), ("ten_1", "sms", PHONE, "transactional"), True),
        (("ten_1", "sms", PHONE), ("ten_1", "sms", PHONE, "otp"), False),
        (("ten_1", "sms", PHONE), ("ten_1", "whatsapp", PHONE, "marketing"), False),
        (("ten_1", None, PHONE), ("ten_1", "whatsapp", PHONE, "marketing"), True),
        (("ten_1", "sms", PHONE), ("ten_2", "sms", PHONE, "marketing"), False),
        ((None, "sms", PHONE), ("ten_2", "sms", PHONE, "otp"), True),
        ((None, None, PHONE), ("ten_2", "sms", PHONE, "otp"), True),
        ((None, "email", "a@b.example"), ("ten_2", "email", "A@B.example", "marketing"), True),
        (("ten_1", "push", "tok"), ("ten_1", "push", "Tok", "marketing"), False),
        (("ten_1", "sms", PHONE), ("ten_1", "sms", PHONE + "1", "marketing"), False),
    ],
)
def test_an_entry_counts_for_its_tenant_channel_and_categories(listed, asked, blocked) -> None:
    assert SuppressionIndex([entry(*listed)]).blocks(*asked) is blocked


def test_what_no_category_is_exempt_from_holds_for_codes_too() -> None:
    index = SuppressionIndex([entry("ten_1", "sms", PHONE)])
    assert index.blocks("ten_1", "sms", PHONE, "otp", frozenset())
    assert not index.blocks("ten_1", "sms", PHONE, "marketing", frozenset({"marketing"}))


def test_taken_in_twice_and_forgotten_twice_is_harmless() -> None:
    index = SuppressionIndex()
    for _ in range(2):
        index.add(entry("ten_1", "sms", PHONE))
    assert len(index) == 1
    for _ in range(2):
        index.discard(entry("ten_1", "sms", PHONE))
    assert len(index) == 0
    assert not index.blocks("ten_1", "sms", PHONE, "marketing")
