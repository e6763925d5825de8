"""Rate decks: what a segment to a destination costs, and which decks are refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.domain.rates import Destination, Rate, RateDeck, WrongDeck, read_deck

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DECK = read_deck(
    "mcc,mnc,prefix,price,valid_from,valid_until,network\n"
    ",,,0.09,,,everything else\n"
    "238,,,0.04,,,\n"
    "238,,,0.03,2026-01-01,2026-04-01,\n"
    "238,01,,0.02,,,TDC\n"
    "238,,+4520,0.025,2026-03-02,,\n"
    ",,+45207,0.05,,,\n"
    "\n"
    "240,01,+46701,0.011,,,Telia\n"
)


@pytest.mark.parametrize(
    ("to", "at", "price"),
    [
        (Destination("+4530123456", ("238",)), NOW, 0.03),
        (Destination("+4530123456", ("238",)), datetime(2026, 4, 1, tzinfo=UTC), 0.04),
        (Destination("+4530123456", ("238",)), datetime(2025, 12, 31, 23, 59, tzinfo=UTC), 0.04),
        (Destination("+4530123456", ("238",), "01"), NOW, 0.02),
        (Destination("+4530123456", ("238",), "02"), NOW, 0.03),
        (Destination("+4520123456", ("238",)), NOW, 0.03),
        (Destination("+4520123456", ("238",)), NOW + timedelta(days=1), 0.025),
        (Destination("+4520723456", ("238",)), NOW + timedelta(days=1), 0.05),
        (Destination("+4520723456", ("238",), "01"), NOW + timedelta(days=1), 0.02),
        (Destination("+12025550123", ("310", "311")), NOW, 0.09),
        (Destination("a@example.com"), NOW, 0.09),
    ],
)
def test_the_most_specific_row_that_holds_now_decides(to: Destination, at: datetime, price: float) -> None:
    assert DECK.price(to, at) == price


def test_a_destination_no_row_names_has_no_price() -> None:
    assert read_deck("mcc,price\n238,0.1").price(Destination("+46701234567", ("240",)), NOW) is None


def test_a_deck_tells_which_numbers_are_whose() -> None:
    assert DECK.networks() == {"+46701": ("240", "01")}


def test_semicolons_a_byte_order_mark_and_times_with_a_zone_are_read() -> None:
    deck = read_deck("\ufeffPrefix;Price;Valid_From\r\n45;0.5;2026-03-01T14:00:00+02:00\r\n")
    assert deck.rates == (Rate(0.5, prefix="+45", valid_from=NOW),)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "line 1: expected a header"),
        ("rates.csv", "line 1: unknown column 'rates.csv'"),
        ("mcc,cost\n238,1", "line 1: unknown column 'cost'"),
        ("mcc,mnc\n238,01", "the column price"),
        ("price,price\n1,1", "each column once"),
        ("mcc,price\n238", "line 2: has 1 columns, the header 2"),
        ("mcc,price\n238,cheap", "line 2: price: expected a number"),
        ("mcc,price\n238,-1", "line 2: price: expected a number"),
        ("mcc,price\n238,nan", "line 2: price: expected a number"),
        ("mcc,price\n238,inf", "line 2: price: expected a number"),
        ("mcc,price\n\n23,1", "line 3: mcc: expected digits"),
        ("mnc,price\n01,1", "line 2: mnc: goes with an mcc"),
        ("mcc,mnc,price\n238,1,1", "line 2: mnc: expected digits"),
        ("prefix,price\n0045,1", "line 2: prefix: expected digits"),
        ("price,valid_from\n1,soon", "line 2: valid_from: expected a date"),
        ("price,valid_from,valid_until\n1,2026-01-02,2026-01-01", "line 2: valid_until: is not after valid_from"),
        ('price\n"1', "is not CSV"),
    ],
)
def test_a_wrong_deck_is_refused_by_line_and_column(text: str, why: str) -> None:
    with pytest.raises(WrongDeck) as refused:
        read_deck(text)
    assert why in str(refused.value)


@given(st.text(max_size=200))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    try:
        read_deck(text)
    except WrongDeck as exc:
        assert str(exc).startswith("line ")


RATE = st.builds(
    Rate,
    st.floats(0, 1),
    st.sampled_from(["", "238", "240"]),
    st.just(""),
    st.sampled_from(["", "+4", "+45", "+452", "+46"]),
    st.sampled_from([None, NOW - timedelta(days=1), NOW, NOW + timedelta(days=1)]),
    st.sampled_from([None, NOW, NOW + timedelta(days=1)]),
)


@given(st.lists(RATE, max_size=12))
def test_a_price_is_that_of_a_row_that_applies_and_none_longer_does(rates: list[Rate]) -> None:
    number = "+4520123456"
    price = RateDeck(rates).price(Destination(number, ("238",)), NOW)
    applying = [
        r
        for r in rates
        if number.startswith(r.prefix)
        and r.mcc in ("", "238")
        and (r.valid_from is None or r.valid_from <= NOW)
        and (r.valid_until is None or r.valid_until > NOW)
    ]
    if not applying:
        assert price is None
        return
    longest = max(len(r.prefix) for r in applying)
    assert price in [r.price for r in applying if len(r.prefix) == longest]
