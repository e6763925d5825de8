"""Addresses as they are compared: every spelling of one recipient is the same text."""

from __future__ import annotations

import pytest

from hermes.domain.address import same_recipient


@pytest.mark.parametrize(
    ("channel", "written", "kept"),
    [
        ("sms", "+4520123456", "+4520123456"),
        ("sms", " +45 (20) 12-34.56 ", "+4520123456"),
        ("whatsapp", "+45 20123456", "+4520123456"),
        ("sms", "20123456", None),
        ("sms", "anna@example.com", None),
        ("email", "Anna@Example.COM", "anna@example.com"),
        ("email", " anna@example.com ", "anna@example.com"),
        ("email", "anna", None),
        ("push", "Tok-1", "Tok-1"),
        ("push", "tok 1", None),
        ("push", "", None),
        (None, "+45 20123456", "+4520123456"),
        (None, "Anna@example.com", "anna@example.com"),
        (None, "Tok-1", "Tok-1"),
        (None, "anna@", None),
        (None, "two words", None),
        (None, "", None),
    ],
)
def test_every_spelling_of_a_recipient_is_the_same_text(channel: str | None, written: str, kept: str | None) -> None:
    assert same_recipient(channel, written) == kept
    if kept is not None:
        assert same_recipient(channel, kept) == kept
