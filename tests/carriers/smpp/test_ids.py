"""Message ids in all the forms carriers write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carriers.smpp.ids import DEC_TO_HEX, DOUBT_AFTER, HEX_TO_DEC, SAME, IdForms, canonical


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("00B8BE19", "b8be19"),  # Jasmin issue 1129
        ("0e999f21-81ef-4974-a414-3de98174e3c7", "0E999F21-81EF-4974-A414-3DE98174E3C7"),  # Jasmin issue 643
        ("74e02ee1-4e2f-4a6e-a78b-4b247d756a22", "74e02ee14e2f4a6ea78b4b247d756a22"),
        ("{74E02EE1-4E2F-4A6E-A78B-4B247D756A22}", "74e02ee1-4e2f-4a6e-a78b-4b247d756a22"),
        ("0000000012345678", "12345678"),
        ("0x1A2B3C4D", "1a2b3c4d"),
        ("1d305b4c\0", "1d305b4c"),
        (" 42 ", "42"),
        ("SAR-2347039245475-1eedf843-2-1", "SAR-2347039245475-1EEDF843-2-1"),  # Jasmin issue 418
        ("0", "000"),
        ("x" * 64, "X" * 64),
    ],
)
def test_28_one_key_for_all_spellings(one, other):
    assert canonical(one) == canonical(other) != ""


@pytest.mark.parametrize("nothing", ["", "\0", " "])
def test_28_no_id_is_no_key(nothing):
    assert canonical(nothing) == ""
    assert IdForms().candidates(nothing) == []


@pytest.mark.parametrize(
    ("in_response", "in_receipt", "response", "receipts"),
    [
        ("hex", "dec", "38601fa", ["0059113978"]),  # cloudhopper's parseRealWorldReceipt0
        ("dec", "hex", "98765432101", ["16FEE0E525"]),
        ("dec", "dec", "0042", ["42"]),
        ("hex", "hex", "00AF", ["af"]),
        ("hex", "auto", "38601fa", ["0059113978", "38601FA"]),
        ("auto", "hex", "59113978", ["38601fa", "59113978"]),
        ("auto", "auto", "812FC7470000001B", ["9308878062554710043", "812fc7470000001b"]),  # Jasmin issue 586
    ],
)
def test_28_hexadecimal_and_decimal(in_response, in_receipt, response, receipts):
    forms = IdForms(in_response, in_receipt)
    key = forms.key(response)
    for receipt in receipts:
        assert key in forms.candidates(receipt)


def test_28_configured_bases_give_one_candidate():
    assert IdForms("hex", "dec").candidates("255") == ["ff"]
    assert IdForms("dec", "hex").candidates("ff") == ["255"]
    assert IdForms("dec", "dec").candidates("255") == ["255"]
    assert IdForms("hex", "dec").candidates("not-a-number") == []


def test_30_the_parameters_id_comes_before_the_texts():
    assert IdForms("hex", "hex").candidates("38601fa", "0059113978") == ["38601fa", "59113978"]


@pytest.mark.parametrize(
    ("receipt", "matched", "learned"),
    [("4660", "4660", SAME), ("4660", "1234", DEC_TO_HEX), ("1234", "4660", HEX_TO_DEC)],
)
def test_28_auto_learns_after_three_in_a_row_and_then_tries_no_other(receipt, matched, learned):
    forms = IdForms()
    for _ in range(2):
        forms.learn(matched, receipt)
    assert forms.learned is None
    assert len(forms.candidates(receipt)) > 1
    forms.learn(matched, receipt)
    assert forms.learned == learned
    assert forms.candidates(receipt) == [matched]


def test_28_auto_starts_again_when_nothing_matches_any_more():
    forms = IdForms()
    for _ in range(3):
        forms.learn("1234", "4660")
    for _ in range(DOUBT_AFTER - 1):
        forms.missed()
    assert forms.learned == DEC_TO_HEX
    forms.missed()
    assert forms.learned is None


def test_28_responses_with_letters_make_decimal_receipts_hexadecimal_first():
    forms = IdForms()
    assert forms.candidates("59113978")[0] == "59113978"
    forms.key("38601fa")
    assert forms.candidates("59113978")[0] == "38601fa"


@given(st.integers(0, 2**64))
def test_28_every_number_is_found_across_bases(number):
    assert IdForms("hex", "dec").candidates(f"{number:020d}") == [IdForms("hex", "dec").key(f"{number:X}")]
    assert IdForms("dec", "hex").candidates(f"{number:08X}") == [IdForms("dec", "hex").key(str(number))]


@given(st.text(max_size=70), st.sampled_from(("auto", "dec", "hex")), st.sampled_from(("auto", "dec", "hex")))
def test_28_no_id_makes_it_fail(message_id, one, other):
    forms = IdForms(one, other)
    key = forms.key(message_id)
    candidates = forms.candidates(message_id)
    if one == other and key:
        assert key in candidates
    forms.learn(key, message_id)


def test_28_a_wrong_base_is_refused():
    with pytest.raises(ValueError, match="base"):
        IdForms("octal")
