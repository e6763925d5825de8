"""What a phone number tells: its country and kind, its time zones, and what it is with its country code.

By the data of phonenumbers (Google's libphonenumber). The numbers are E.164 already, so its parser, which costs more
than all the rest, is left out; so is its matching, which looks each pattern up and matches it twice. Tests compare
every region with the library. What was asked is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import phonenumbers
from phonenumbers import (
    COUNTRY_CODE_TO_REGION_CODE,
    NumberParseException,
    PhoneMetadata,
    PhoneNumberDesc,
    PhoneNumberType,
)
from phonenumbers.phonenumberutil import is_number_type_geographical
from phonenumbers.tzdata import TIMEZONE_DATA, TIMEZONE_LONGEST_PREFIX

_Pattern = tuple[frozenset[int], Callable[[str], Any]]  # lengths (none: any), and whether all of it matches
_KINDS: Final = {
    PhoneNumberType.FIXED_LINE: "fixed_line",
    PhoneNumberType.MOBILE: "mobile",
    PhoneNumberType.FIXED_LINE_OR_MOBILE: "fixed_line_or_mobile",
    PhoneNumberType.TOLL_FREE: "toll_free",
    PhoneNumberType.PREMIUM_RATE: "premium_rate",
    PhoneNumberType.SHARED_COST: "shared_cost",
    PhoneNumberType.VOIP: "voip",
    PhoneNumberType.PERSONAL_NUMBER: "personal_number",
    PhoneNumberType.PAGER: "pager",
    PhoneNumberType.UAN: "uan",
    PhoneNumberType.VOICEMAIL: "voicemail",
}
# The kinds that are looked for before fixed and mobile, in this order, by the metadata's names.
_SPECIAL: Final = (
    (PhoneNumberType.PREMIUM_RATE, "premium_rate"),
    (PhoneNumberType.TOLL_FREE, "toll_free"),
    (PhoneNumberType.SHARED_COST, "shared_cost"),
    (PhoneNumberType.VOIP, "voip"),
    (PhoneNumberType.PERSONAL_NUMBER, "personal_number"),
    (PhoneNumberType.PAGER, "pager"),
    (PhoneNumberType.UAN, "uan"),
    (PhoneNumberType.VOICEMAIL, "voicemail"),
)
NOT_GEOGRAPHIC: Final = "001"  # the library's region of satellite and other world-wide numbers


class NumberFacts(NamedTuple):
    """What a number tells.

    Attributes:
        country: ISO 3166-1 alpha-2; None when the number is of none (satellite), or of no known plan.
        kind: mobile, fixed_line, ...; None when the plan does not tell, or has no such number.
    """

    country: str | None
    kind: str | None


class _Plan:
    """One region's numbering plan: the library's metadata, its patterns compiled. By `_number_type_helper` there."""

    __slots__ = ("_fixed", "_general", "_leading", "_mobile", "_special")

    def __init__(self, metadata: PhoneMetadata) -> None:
        self._leading = re.compile(metadata.leading_digits).match if metadata.leading_digits is not None else None
        self._general = _pattern(metadata.general_desc)
        special = ((kind, _pattern(getattr(metadata, name))) for kind, name in _SPECIAL)
        self._special = [(kind, *one) for kind, one in special if one is not None]
        self._fixed = _pattern(metadata.fixed_line)
        self._mobile = self._fixed if metadata.same_mobile_and_fixed_line_pattern else _pattern(metadata.mobile)

    def kind(self, national: str) -> int:
        """Tell the kind of a national number: a `PhoneNumberType`."""
        length = len(national)
        if not _fits(self._general, national, length):
            return int(PhoneNumberType.UNKNOWN)
        for kind, lengths, fullmatch in self._special:
            if (not lengths or length in lengths) and fullmatch(national):
                return kind
        mobile = _fits(self._mobile, national, length)
        if _fits(self._fixed, national, length):
            return int(PhoneNumberType.FIXED_LINE_OR_MOBILE if mobile else PhoneNumberType.FIXED_LINE)
        return int(PhoneNumberType.MOBILE if mobile else PhoneNumberType.UNKNOWN)

    def is_of(self, national: str) -> bool:
        """Tell whether a number is of this region, among those that share its code."""
        if self._leading is not None:
            return self._leading(national) is not None
        return self.kind(national) != PhoneNumberType.UNKNOWN


def _pattern(description: PhoneNumberDesc | None) -> _Pattern | None:
    if description is None or not description.national_number_pattern:
        return None
    return frozenset(description.possible_length), re.compile(description.national_number_pattern).fullmatch


def _fits(pattern: _Pattern | None, national: str, length: int) -> bool:
    if pattern is None:
        return False
    lengths, fullmatch = pattern
    return (not lengths or length in lengths) and fullmatch(national) is not None


@lru_cache(maxsize=512)  # as many as there are
def _plan(region: str, code: int) -> _Plan | None:
    metadata = PhoneMetadata.metadata_for_region_or_calling_code(code, region)
    return None if metadata is None else _Plan(metadata)


@lru_cache(maxsize=16_384)
def _looked_up(number: str) -> tuple[NumberFacts, int, int]:
    """Tell a number's facts, its `PhoneNumberType` and its country code (0: of no known plan)."""
    code, national = _split(number)
    regions = COUNTRY_CODE_TO_REGION_CODE.get(code)
    if regions is None:
        return NumberFacts(None, None), int(PhoneNumberType.UNKNOWN), 0
    # A shared code belongs to its main country unless the number is known to be another's.
    country: str | None = regions[0]
    if len(regions) > 1:
        plans = ((region, _plan(region, code)) for region in regions)
        found = (region for region, plan in plans if plan is not None and plan.is_of(national))
        country = next(found, None)
    plan = None if country is None else _plan(country, code)
    kind = int(PhoneNumberType.UNKNOWN) if plan is None else plan.kind(national)
    country = country or regions[0]
    return NumberFacts(None if country == NOT_GEOGRAPHIC else country, _KINDS.get(kind)), kind, code


def number_facts(number: str) -> NumberFacts:
    """Tell a number's country and kind. About 4 us, more where countries share a code (+1, +44)."""
    return _looked_up(number)[0]


def zones_of(number: str) -> tuple[ZoneInfo, ...]:
    """Tell in which time zones a number's owner may be; empty when nobody knows."""
    _, kind, code = _looked_up(number)
    if kind == PhoneNumberType.UNKNOWN:
        return ()
    digits = number[1:] if is_number_type_geographical(kind, code) else str(code)
    for length in range(min(TIMEZONE_LONGEST_PREFIX, len(digits)), 0, -1):
        names = TIMEZONE_DATA.get(digits[:length])
        if names is not None:
            return _zones(names)
    return ()


@lru_cache(maxsize=4096)
def _zones(names: tuple[str, ...]) -> tuple[ZoneInfo, ...]:
    return tuple(zone for name in names if (zone := time_zone(name)) is not None)


@lru_cache(maxsize=1024)
def time_zone(name: str) -> ZoneInfo | None:
    """Find a time zone by its IANA name; None when this machine knows none of that name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def with_country_code(number: str, country: str) -> str | None:
    """Write a number as it is dialled in a country in E.164; None when it can be none of that country."""
    try:
        parsed = phonenumbers.parse(number, country)
    except NumberParseException:
        return None
    if not phonenumbers.is_possible_number(parsed):
        return None
    return str(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164))


def is_country(code: str) -> bool:
    """Tell whether phone numbers of this country are known."""
    return code in phonenumbers.SUPPORTED_REGIONS


def _split(number: str) -> tuple[int, str]:
    """Take an E.164 number apart: its country's code, and the rest; (0, "") when no country has its code."""
    for length in (2, 3, 4):  # no code begins another (ITU-T E.164, 6.2.1)
        code = int(number[1:length])
        if code in COUNTRY_CODE_TO_REGION_CODE:
            return code, number[length:]
    return 0, ""
