"""Where a number leads."""

from __future__ import annotations

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.destination import MCC, mcc_of


@pytest.mark.parametrize(
    ("number", "mcc"),
    [
        ("+4520123456", ("238",)),
        ("+12025550123", ("310", "311", "312", "313", "314", "315", "316")),
        ("+14165550123", ("302",)),
        ("+18765550123", ("338",)),
        ("+77012345678", ("401",)),
        ("+79161234567", ("250",)),
        ("+447400123456", ("234", "235")),
        ("+8613800138000", ("460", "461")),
        ("+35312345678", ("272",)),
        ("+999123456", ()),
        ("4520123456", ()),
        ("a@example.com", ()),
        ("+", ()),
        ("", ()),
    ],
)
def test_the_calling_code_names_the_country(number: str, mcc: tuple[str, ...]) -> None:
    assert mcc_of(number) == mcc


def test_every_country_with_a_calling_code_has_its_mobile_country_codes() -> None:
    regions = {region for found in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.values() for region in found}
    assert regions - set(MCC) == {"001", "AC"}  # services of no country; Ascension has no code of its own
    assert all(len(code) == 3 and code.isdigit() for codes in MCC.values() for code in codes)


@given(st.text(max_size=20) | st.from_regex(r"\+[0-9]{0,16}", fullmatch=True))
def test_no_text_is_more_than_unknown(text: str) -> None:
    assert isinstance(mcc_of(text), tuple)
