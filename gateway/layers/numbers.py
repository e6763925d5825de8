"""What a phone number tells: its country and kind, its time zones, and what it is with its country code.

By phonenumbers (Google's libphonenumber data). The numbers are E.164 already, so its parser, which costs more than all
the rest, is left out; what was asked is kept.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import phonenumbers
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, NumberParseException, PhoneNumber, PhoneNumberType, timezone

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
NOT_GEOGRAPHIC: Final = "001"  # the library's region of satellite and other world-wide numbers


class NumberFacts(NamedTuple):
    """What a number tells.

    Attributes:
        country: ISO 3166-1 alpha-2; None when the number is of none (satellite), or of no known plan.
        kind: mobile, fixed_line, ...; None when the plan does not tell, or has no such number.
    """

    country: str | None
    kind: str | None


@lru_cache(maxsize=16_384)
def number_facts(number: str) -> NumberFacts:
    """Tell a number's country and kind. About 7 us, 30 us where countries share a code (+1, +44)."""
    parsed = _parsed(number)
    if parsed is None:
        return NumberFacts(None, None)
    regions = COUNTRY_CODE_TO_REGION_CODE[parsed.country_code or 0]
    # A shared code belongs to its main country unless the number is known to be another's.
    country = regions[0] if len(regions) == 1 else phonenumbers.region_code_for_number(parsed) or regions[0]
    kind = _KINDS.get(phonenumbers.number_type(parsed))
    return NumberFacts(None if country == NOT_GEOGRAPHIC else country, kind)


@lru_cache(maxsize=4096)
def zones_of(number: str) -> tuple[ZoneInfo, ...]:
    """Tell in which time zones a number's owner may be; empty when nobody knows."""
    parsed = _parsed(number)
    if parsed is None:
        return ()
    names = timezone.time_zones_for_number(parsed)
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


def _parsed(number: str) -> PhoneNumber | None:
    """Take an E.164 number apart; None when no country has its code."""
    digits = number[1:]
    for length in (1, 2, 3):  # no code begins another (ITU-T E.164, 6.2.1)
        code = int(digits[:length])
        if code in COUNTRY_CODE_TO_REGION_CODE:
            national = digits[length:]
            significant = national.lstrip("0")
            zeros = len(national) - len(significant)
            return PhoneNumber(
                code,
                int(national or "0"),
                italian_leading_zero=zeros > 0 or None,
                number_of_leading_zeros=zeros if zeros > 1 else None,
            )
    return None
