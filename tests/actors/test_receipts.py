"""Receipts that came before they were waited for: each is one, however many spellings its id has."""

from __future__ import annotations

from typing import Any

import pytest

from actors import receipts
from actors.messages import ReceiptMail
from actors.receipts import ReceiptIndex, Unmatched
from hermes.domain.receipt import DeliveryReceipt

CASCADE: Any = object()
HEX, DEC, OTHER = ("tele", "ff"), ("tele", "255"), ("tele", "7")


def receipt() -> Unmatched:
    return Unmatched(ReceiptMail(DeliveryReceipt("tele", "ff", "delivered"), None))


def test_a_receipt_under_two_ids_is_one_and_gone_from_both_when_it_is_claimed() -> None:
    index, early = ReceiptIndex(), receipt()
    index.hold(early, [HEX, DEC, HEX])
    assert index.unmatched == 1
    assert index.expect(DEC, CASCADE, 0, 1, 0) == [early]
    assert early.claimed and index.unmatched == 0
    assert index.expect(HEX, CASCADE, 0, 1, 0) == []
    assert not index._early


def test_two_receipts_of_one_id_are_two_and_come_together() -> None:
    index, early = ReceiptIndex(), [receipt(), receipt()]
    for each in early:
        index.hold(each, [HEX])
    assert index.unmatched == 2
    assert index.expect(HEX, CASCADE, 0, 1, 0) == early
    assert index.unmatched == 0


def test_one_that_is_claimed_otherwise_is_counted_and_found_no_more() -> None:
    index, early = ReceiptIndex(), receipt()
    index.hold(early, [HEX, DEC])
    index.claim(early)
    index.claim(early)
    assert index.unmatched == 0
    assert index.expect(HEX, CASCADE, 0, 1, 0) == []


def test_the_oldest_goes_whole_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "UNMATCHED_LIMIT", 2)
    index, early = ReceiptIndex(), [receipt() for _ in range(3)]
    for each in early:
        index.hold(each, [HEX, DEC, OTHER])
    assert index.unmatched == 2
    assert index.expect(OTHER, CASCADE, 0, 1, 0) == early[1:]
    assert not early[0].claimed  # its row stays, for after a restart
