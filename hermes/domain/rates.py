"""What a carrier asks for a message: its rate deck, a table by destination with the dates each price holds. Pure.

A deck is CSV with a header line:

    mcc,mnc,prefix,price,valid_from,valid_until
    238,,,0.031,2026-01-01,
    238,01,+4520,0.027,2026-01-01,2026-07-01
    ,,,0.05,,

A row applies when everything it names fits the destination. Of those that apply the most specific decides: a network
before a prefix, a longer prefix before a shorter one, a country before none; then the one that began last.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

COLUMNS: Final = ("mcc", "mnc", "prefix", "price", "valid_from", "valid_until")
# What carriers put beside it for people; not looked at.
REMARKS: Final = frozenset({"country", "network", "operator", "comment"})
MOST_ROWS: Final = 200_000

_DIGITS: Final[dict[str, re.Pattern[str]]] = {
    "mcc": re.compile(r"[2-79][0-9]{2}"),  # E.212: 3 digits, the first is a zone
    "mnc": re.compile(r"[0-9]{2,3}"),
    "prefix": re.compile(r"\+?[1-9][0-9]{0,14}"),  # E.164: at most 15 digits
}


class WrongDeck(ValueError):
    """A rate deck cannot be read; the text names the line and the column."""


@dataclass(slots=True, frozen=True)
class Rate:
    """One row. `prefix` begins with `+`; an empty text matches everything; times are aware, UTC.

    Attributes:
        price: per segment (or message), in the operator's currency.
        valid_until: exclusive; None: no end.
    """

    price: float
    mcc: str = ""
    mnc: str = ""
    prefix: str = ""
    valid_from: datetime | None = None
    valid_until: datetime | None = None


@dataclass(slots=True, frozen=True)
class Destination:
    """Where a message goes, as far as its number tells.

    Attributes:
        number: E.164 with `+`; another address of the channel where there is no number.
        mcc: the country's mobile country codes; empty when unknown.
        mnc: the network, of the first of them; None when unknown.
    """

    number: str
    mcc: Collection[str] = ()
    mnc: str | None = None


class RateDeck:
    """A carrier's prices."""

    __slots__ = ("_lengths", "_rows", "rates")

    def __init__(self, rates: Iterable[Rate]) -> None:
        self.rates = tuple(rates)
        self._rows: dict[tuple[str, str], list[Rate]] = {}  # by prefix and mcc
        for rate in self.rates:
            self._rows.setdefault((rate.prefix, rate.mcc), []).append(rate)
        self._lengths = sorted({len(rate.prefix) for rate in self.rates}, reverse=True)

    def price(self, to: Destination, at: datetime) -> float | None:
        """Give the price of one segment at a moment (aware); None when no row applies."""
        best: Rate | None = None
        best_key: tuple[bool, int, bool, float] | None = None
        for length in self._lengths:
            if len(to.number) < length:
                continue
            prefix = to.number[:length]
            for mcc in ("", *to.mcc):
                for rate in self._rows.get((prefix, mcc), ()):
                    if _applies(rate, to, at):
                        began = rate.valid_from.timestamp() if rate.valid_from is not None else -math.inf
                        key = (rate.mnc != "", length, mcc != "", began)
                        if best_key is None or key > best_key:
                            best, best_key = rate, key
        return None if best is None else best.price

    def networks(self) -> dict[str, tuple[str, str]]:
        """List the networks that the deck names by number: prefix -> (mcc, mnc)."""
        return {rate.prefix: (rate.mcc, rate.mnc) for rate in self.rates if rate.prefix and rate.mcc and rate.mnc}


def _applies(rate: Rate, to: Destination, at: datetime) -> bool:
    """Tell whether a row of the destination's prefix and country fits it now."""
    if rate.mnc and rate.mnc != to.mnc:
        return False
    if rate.valid_from is not None and at < rate.valid_from:
        return False
    return rate.valid_until is None or at < rate.valid_until


def read_deck(text: str) -> RateDeck:
    """Read a deck from CSV; separated by commas or semicolons.

    Raises:
        WrongDeck: names the line and the column.
    """
    lines = text.removeprefix("\ufeff").splitlines()
    separator = ";" if lines and ";" in lines[0] else ","
    try:
        rows = list(csv.reader(lines, delimiter=separator, strict=True))
    except csv.Error as exc:
        raise WrongDeck(f"line 1: is not CSV: {exc}") from None
    if not rows:
        raise WrongDeck("line 1: expected a header with the column price")
    names = [name.strip().lower() for name in rows[0]]
    for name in names:
        if name not in COLUMNS and name not in REMARKS:
            raise WrongDeck(f"line 1: unknown column {name[:40]!r}; there are {', '.join(COLUMNS)}")
    if "price" not in names or len(set(names)) != len(names):
        raise WrongDeck("line 1: expected each column once, and the column price")
    if len(rows) > MOST_ROWS + 1:
        raise WrongDeck(f"line {MOST_ROWS + 2}: at most {MOST_ROWS} rates are taken")
    return RateDeck(
        _rate(dict(zip(names, row, strict=False)), n, row, names) for n, row in enumerate(rows[1:], 2) if row
    )


def _rate(cells: dict[str, str], line: int, row: list[str], names: list[str]) -> Rate:
    if len(row) != len(names):
        raise WrongDeck(f"line {line}: has {len(row)} columns, the header {len(names)}")
    cells = {name: cell.strip() for name, cell in cells.items()}
    for name, form in _DIGITS.items():
        if cells.get(name) and not form.fullmatch(cells[name]):
            raise WrongDeck(f"line {line}: {name}: expected digits, as {'238' if name == 'mcc' else '+45'}")
    try:
        price = float(cells["price"])
    except ValueError:
        price = -1.0
    if not 0 <= price < 1e9:
        raise WrongDeck(f"line {line}: price: expected a number of at least 0")
    mcc, mnc, prefix = (cells.get(name, "") for name in ("mcc", "mnc", "prefix"))
    if mnc and not mcc:
        raise WrongDeck(f"line {line}: mnc: goes with an mcc")
    begins, ends = _time(cells, "valid_from", line), _time(cells, "valid_until", line)
    if begins is not None and ends is not None and ends <= begins:
        raise WrongDeck(f"line {line}: valid_until: is not after valid_from")
    return Rate(price, mcc, mnc, "+" + prefix.removeprefix("+") if prefix else "", begins, ends)


def _time(cells: dict[str, str], name: str, line: int) -> datetime | None:
    """Read a date (its first moment, UTC) or an RFC 3339 time."""
    text = cells.get(name, "")
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise WrongDeck(f"line {line}: {name}: expected a date such as 2026-01-31, or a time with its zone") from None
