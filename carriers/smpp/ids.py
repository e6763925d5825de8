"""A carrier's message ids: one key for all the forms in which it writes the same id.

The id of submit_sm_resp and that of the receipt differ in case, leading zeros, dashes, a NUL, and in some
centres in their base: hexadecimal in the answer and decimal in the receipt, or the other way round (SMPP
3.3 had hexadecimal ids, which is where it comes from). `IdForms` makes the key under which an accepted
message is remembered, and the keys under which a receipt's message is looked for, the likeliest first.

With `id_in_response` and `id_in_receipt` given there is one key. With "auto" the forms are tried and the
one that keeps matching is learned; the caller says what matched (`learn`) or that nothing did (`missed`).
"""

from __future__ import annotations

import re
from typing import Final

BASES: Final = ("auto", "dec", "hex")
SURE_AFTER: Final = 3  # receipts matched by one form in a row; arbitrary, a wrong match of three is unlikely
DOUBT_AFTER: Final = 20  # receipts in a row that matched nothing: what was learned is forgotten
MAX_ID: Final = 65  # octets of a message_id with its NUL (SMPP v3.4, 5.2.23)

SAME: Final = "same"
DEC_TO_HEX: Final = "dec_to_hex"  # of the receipt's id, to get the response's
HEX_TO_DEC: Final = "hex_to_dec"

_is_dec: Final = re.compile("[0-9]+").fullmatch
_is_hex: Final = re.compile("[0-9a-f]+").fullmatch
_is_uuid: Final = re.compile(r"\{?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\}?").fullmatch


def canonical(message_id: str) -> str:
    """Reduce an id to what is the same in all its spellings; empty when there is none.

    Lower case, without NUL and blanks, `0x`, leading zeros, and a UUID's dashes and braces.
    """
    key = message_id.replace("\0", "").strip().casefold()
    if 36 <= len(key) <= 38 and _is_uuid(key):  # without and with braces
        key = key.strip("{}").replace("-", "")
    if key.startswith("0"):
        if key.startswith("0x") and _is_hex(key[2:]):
            key = key[2:]
        key = key.lstrip("0") or "0"
    return key


def to_dec(key: str) -> str | None:
    """Read a canonical id as hexadecimal and write it in decimal; None when it is not hexadecimal."""
    return str(int(key, 16)) if len(key) <= MAX_ID and _is_hex(key) else None


def to_hex(key: str) -> str | None:
    """Read a canonical id as decimal and write it in hexadecimal; None when it is not decimal."""
    return f"{int(key):x}" if len(key) <= MAX_ID and _is_dec(key) else None


class IdForms:
    """How one carrier writes its ids. Shared by its binds; small, and worth nothing when lost."""

    __slots__ = ("_hex_responses", "_in_receipt", "_in_response", "_misses", "_row", "learned")

    def __init__(self, id_in_response: str = "auto", id_in_receipt: str = "auto") -> None:
        """Take the carrier's settings, each of BASES.

        Raises:
            ValueError: no such base.
        """
        if id_in_response not in BASES or id_in_receipt not in BASES:
            raise ValueError(f"{id_in_response!r}, {id_in_receipt!r}: a message id's base is one of {BASES}")
        self._in_response = id_in_response
        self._in_receipt = id_in_receipt
        self.learned: str | None = None  # SAME, DEC_TO_HEX or HEX_TO_DEC once sure
        self._row: tuple[str, int] = ("", 0)
        self._misses = 0
        self._hex_responses = False

    @property
    def automatic(self) -> bool:
        """Whether forms are tried and learned."""
        return "auto" in (self._in_response, self._in_receipt)

    def key(self, response_id: str) -> str:
        """Make the key to remember an accepted message by."""
        key = canonical(response_id)
        if not self._hex_responses and _is_hex(key) and not _is_dec(key):
            self._hex_responses = True
        return key

    def candidates(self, *receipt_ids: str) -> list[str]:
        """Make the keys to look a receipt's message up by, the likeliest first, none twice.

        Args:
            *receipt_ids: every id the receipt has: the parameter's, then the text's.
        """
        keys: list[str] = []
        for receipt_id in receipt_ids:
            key = canonical(receipt_id)
            if not key:
                continue
            for form in self._order(key):
                tried = _apply(form, key)
                if tried is not None and tried not in keys:
                    keys.append(tried)
        return keys

    def _order(self, key: str) -> tuple[str, ...]:
        if not self.automatic:
            if self._in_response == self._in_receipt:
                return (SAME,)
            return (DEC_TO_HEX,) if self._in_response == "hex" else (HEX_TO_DEC,)
        if self.learned is not None:
            return (self.learned,)
        if self._in_response == "hex" or self._in_receipt == "dec":
            return (SAME, DEC_TO_HEX)
        if self._in_response == "dec" or self._in_receipt == "hex":
            return (SAME, HEX_TO_DEC)
        # Responses with letters and a receipt without: the same number in decimal, most likely.
        if self._hex_responses and _is_dec(key):
            return (DEC_TO_HEX, SAME)
        return (SAME, DEC_TO_HEX, HEX_TO_DEC)

    def learn(self, matched: str, *receipt_ids: str) -> None:
        """Say which candidate found the message. Three in a row by one form, and no other is tried again."""
        self._misses = 0
        if not self.automatic or self.learned is not None:
            return
        for receipt_id in receipt_ids:
            key = canonical(receipt_id)
            for form in (SAME, DEC_TO_HEX, HEX_TO_DEC):
                if _apply(form, key) != matched:
                    continue
                if form == SAME and to_hex(key) == key:
                    return  # a single digit says nothing
                row = self._row[1] + 1 if self._row[0] == form else 1
                self._row = (form, row)
                if row >= SURE_AFTER:
                    self.learned = form
                return

    def missed(self) -> None:
        """Say that no candidate found a message. Twenty in a row and what was learned is doubted."""
        self._misses += 1
        if self._misses >= DOUBT_AFTER:
            self._misses = 0
            self.learned = None
            self._row = ("", 0)


def _apply(form: str, key: str) -> str | None:
    if form == SAME:
        return key
    return to_hex(key) if form == DEC_TO_HEX else to_dec(key)
