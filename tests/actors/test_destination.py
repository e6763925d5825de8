"""Where a number leads."""

from __future__ import annotations

import json
from pathlib import Path

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


# Where the published list says otherwise, and why ours stays. A visiting network's code is no country's: a price for
# Jamaica's 338 must not count for St Lucia because Digicel uses it in both.
MORE_IN_THE_LIST = {
    "AS": {"311"},  # a US network's
    "BM": {"310", "338"},
    "KY": {"338"},
    "LC": {"338"},
    "MD": {"255"},  # Ukraine's, in Transnistria
    "MS": {"338"},
    "PR": {"310", "313"},  # the USA's; 330 is in use, too
    "RU": {"255"},  # Ukraine's, on the Crimea
    "TC": {"338"},
}


def test_the_table_agrees_with_a_published_one_but_for_what_is_explained() -> None:
    published = json.loads(Path(__file__).with_name("mcc_mnc_list.json").read_text())["countries"]
    assert len(published) > 200
    missing = {region: more for region, codes in published.items() if (more := set(codes) - set(MCC.get(region, ())))}
    assert missing == MORE_IN_THE_LIST
    idle = {region for region in published if not set(MCC[region]) & set(published[region])}
    assert not idle  # of each country's codes at least one is in use


@pytest.mark.parametrize(("number", "code"), [("+594694200123", "340"), ("+13406421234", "310")])
def test_a_country_without_a_network_of_its_own_code_has_that_of_its_networks(number: str, code: str) -> None:
    assert code in mcc_of(number)
