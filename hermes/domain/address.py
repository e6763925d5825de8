"""Addresses as Hermes keeps and compares them: phone numbers, e-mail addresses, device tokens."""

from __future__ import annotations

import re
from typing import Final

_is_phone: Final = re.compile(r"\+[1-9][0-9]{6,14}").fullmatch
_drop_phone: Final = str.maketrans("", "", " -.()")
_is_plain_email: Final = re.compile(
    r"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*@(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]+"
).fullmatch
_EMAIL_SPECIALS: Final = frozenset('()<>[]:;@\\,"')  # RFC 5322, 3.2.3, "specials" but for the dot
_LONGEST_LOCAL: Final = 64  # octets (RFC 5321, 4.5.3.1.1)
LONGEST_TOKEN: Final = 4096  # characters; longer than any provider's


class NoAddress(ValueError):
    """The text is no address of this channel."""


def phone_number(text: str) -> str | None:
    """Normalise a phone number to E.164 with its plus sign; None when it is none."""
    if _is_phone(text) is not None:
        return text
    text = text.translate(_drop_phone)
    return text if _is_phone(text) is not None else None


def is_email(text: str) -> bool:
    """Tell whether an address has the form local@domain: Unicode in both, no quoted parts."""
    if len(text) > 254:
        return False
    if _is_plain_email(text) is not None and text.index("@") <= _LONGEST_LOCAL:
        return True
    local, at, domain = text.rpartition("@")
    if not at or not text.isprintable() or " " in text or _EMAIL_SPECIALS.intersection(local + domain):
        return False
    if not 0 < len(local.encode()) <= _LONGEST_LOCAL or "" in local.split("."):
        return False
    return all(_is_domain_label(label) for label in domain.split("."))


def is_token(text: str) -> bool:
    """Tell whether a text can be a device token: 1 to 4096 printable characters, no spaces."""
    return 0 < len(text) <= LONGEST_TOKEN and text.isprintable() and " " not in text


def same_recipient(channel: str | None, address: str) -> str | None:
    """Write an address so that every spelling of one recipient is the same text; None when it is no address.

    Phone numbers become E.164; e-mail addresses are case-folded, the local part too: nobody runs two mailboxes that
    differ in case, and a recipient who opted out means both. Device tokens stay as they are.

    `channel` says whose kind of address it is; None tells by its form.
    """
    if channel == "email" or (channel is None and "@" in address):
        address = address.strip()
        return address.casefold() if is_email(address) else None
    if channel == "push":
        return address if is_token(address) else None
    number = phone_number(address.strip())
    if number is not None or channel is not None:
        return number
    return address if is_token(address) else None


def _is_domain_label(label: str) -> bool:
    return (
        0 < len(label) <= 63
        and label[0] != "-"
        and label[-1] != "-"
        and all(c.isalnum() or c == "-" or not c.isascii() for c in label)
    )
