"""A message as the submit_sm that carry it: addresses, times, and the parts in order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from carriers.smpp import constants as c
from carriers.smpp.pdu import PduError, SubmitSm, Tlv
from carriers.smpp.segmentation import References, Segmented, TextTooLong, segment
from carriers.smpp.text import encode_text
from hermes.domain.segments import GSM7_EXTENSION

MAX_ALPHANUMERIC: Final = 11  # septets of a name for a sender (TS 23.040, 9.1.2.5: ten octets, packed)
SHORT_CODE_DIGITS: Final = 8  # without `+`; more digits are an international number


@dataclass(slots=True, frozen=True)
class SubmitSettings:
    """How one carrier wants its submit_sm.

    Attributes:
        source_ton, source_npi: for every sender; by the sender's form when None.
        relative_validity: write validity_period as a time span; some centres take only a moment, some only
            that.
        tlvs: added to every one, in this order, after those of the parts.
    """

    default_alphabet: str = "gsm7"
    concatenation: str = "udh8"
    source_ton: int | None = None
    source_npi: int | None = None
    dest_ton: int = c.TON_INTERNATIONAL
    dest_npi: int = c.NPI_ISDN
    registered_delivery: int = c.RECEIPT_FINAL
    relative_validity: bool = False
    service_type: str = ""
    esm_mode: int = 0
    protocol_id: int = 0
    priority_flag: int = 0
    tlvs: tuple[Tlv, ...] = ()


@lru_cache(maxsize=1_024)  # customers name few senders; reading one takes 3 us
def source_address(sender: str, default_alphabet: str = "gsm7") -> tuple[int, int, str]:
    """Write a sender: (source_addr_ton, source_addr_npi, source_addr).

    `+` and digits: international (1, 1). Up to 8 digits: a short code (3, 0). More digits: international.
    Anything else: a name (5, 0) of at most 11 septets, in the carrier's alphabet.

    Raises:
        PduError: ESME_RINVSRCADR: a name that is too long or has a letter the alphabet lacks.
    """
    digits = sender.removeprefix("+")
    if digits.isascii() and digits.isdigit() and len(digits) <= 20:
        if digits != sender or len(digits) > SHORT_CODE_DIGITS:
            return c.TON_INTERNATIONAL, c.NPI_ISDN, digits
        return c.TON_NETWORK_SPECIFIC, c.NPI_UNKNOWN, digits
    septets = sum(2 if letter in GSM7_EXTENSION else 1 for letter in sender)
    if not sender or septets > MAX_ALPHANUMERIC:
        raise PduError(f"a sender of {septets} septets; a name has 1 to 11", c.ESME_RINVSRCADR)
    try:
        octets = encode_text(sender, default_alphabet)
    except ValueError as exc:
        raise PduError(f"a sender with a letter {default_alphabet} lacks", c.ESME_RINVSRCADR) from exc
    if 0 in octets:
        raise PduError("a sender with an @: its octet ends the field", c.ESME_RINVSRCADR)
    return c.TON_ALPHANUMERIC, c.NPI_UNKNOWN, octets.decode("latin-1")


def destination_address(to: str) -> str:
    """Write a number in E.164 without its `+`.

    Raises:
        PduError: ESME_RINVDSTADR: no number of 1 to 20 digits.
    """
    digits = to.removeprefix("+")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
        raise PduError("a destination that is no number", c.ESME_RINVDSTADR)
    return digits


def absolute_time(at: datetime) -> str:
    """Write a moment as YYMMDDhhmmsstnnp, in UTC (7.1.1)."""
    return _second(at.replace(microsecond=0))


@lru_cache(maxsize=256)  # messages of one second mostly live equally long
def _second(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%y%m%d%H%M%S") + "000+"


def relative_time(seconds: float) -> str:
    """Write a time span as YYMMDDhhmmss000R, at most 99 days (7.1.1)."""
    whole = min(max(int(seconds), 1), 99 * 86_400)
    days, rest = divmod(whole, 86_400)
    hours, rest = divmod(rest, 3_600)
    return f"0000{days:02d}{hours:02d}{rest // 60:02d}{rest % 60:02d}000R"


def build_submits(
    text: str,
    to: str,
    sender: str,
    settings: SubmitSettings,
    references: References,
    *,
    now: datetime | None = None,
    expires_at: datetime | None = None,
) -> tuple[Segmented, list[SubmitSm]]:
    """Make a message's submit_sm, one a part, in order. They must go over one bind.

    Args:
        text: what the customer wrote.
        to: in E.164.
        sender: number, short code or name.
        settings: the carrier's.
        references: the carrier's, shared by its binds; asked only for a text of several parts.
        now: the present, when `expires_at` is given.
        expires_at: when the message is worth nothing any more: what it has waited already is taken off.

    Raises:
        PduError: an address cannot be written, or the text is too long (ESME_RINVMSGLEN); the status is the
        one
            the carrier would have answered.
    """
    source_ton, source_npi, source = source_address(sender, settings.default_alphabet)
    destination = destination_address(to)
    validity = ""
    if expires_at is not None:
        if settings.relative_validity:
            validity = relative_time((expires_at - (now or datetime.now(UTC))).total_seconds())
        else:
            validity = absolute_time(expires_at)
    alphabet, concatenation = settings.default_alphabet, settings.concatenation
    try:
        segmented = segment(text, 0, default_alphabet=alphabet, concatenation=concatenation)
        if len(segmented.parts) > 1:
            reference = references.next(destination)
            segmented = segment(text, reference, default_alphabet=alphabet, concatenation=concatenation)
    except TextTooLong as exc:
        raise PduError(str(exc), c.ESME_RINVMSGLEN) from exc
    submits = [
        SubmitSm(
            tlvs=part.tlvs + settings.tlvs,
            service_type=settings.service_type,
            source_addr_ton=source_ton if settings.source_ton is None else settings.source_ton,
            source_addr_npi=source_npi if settings.source_npi is None else settings.source_npi,
            source_addr=source,
            dest_addr_ton=settings.dest_ton,
            dest_addr_npi=settings.dest_npi,
            destination_addr=destination,
            esm_class=part.esm_class | settings.esm_mode,
            protocol_id=settings.protocol_id,
            priority_flag=settings.priority_flag,
            validity_period=validity,
            registered_delivery=settings.registered_delivery,
            data_coding=segmented.data_coding,
            short_message=part.short_message,
        )
        for part in segmented.parts
    ]
    return segmented, submits
