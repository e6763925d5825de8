"""Receipts in every form the simulated centre knows: the same fact, written as different carriers write it.

Sources of the forms: SMPP v3.4, Appendix B and 5.3.2 (parameters); the others were seen at carriers, see
tests/carriers/smpp/test_receipts.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from carriers.smpp import constants as c
from carriers.smpp.pdu import DataSm, DeliverSm, Tlv
from hermes.domain.segments import GSM7_BASIC
from hermes.smsc.settings import ReceiptForm

_STATES: Final = {word: state for state, word in c.MESSAGE_STATES.items()}


@dataclass(slots=True)
class Report:
    """What a receipt tells.

    Attributes:
        message_id: as receipts spell it.
        source_addr, source_ton, source_npi: of the message: where the receipt goes to.
        destination_addr, dest_ton, dest_npi: of the message: who the receipt is from.
        state: DELIVRD, UNDELIV, ...
        err: 0..255; 0 when all is well.
        text: what the message said, its beginning is repeated.
    """

    message_id: str
    source_addr: str
    source_ton: int
    source_npi: int
    destination_addr: str
    dest_ton: int
    dest_npi: int
    state: str
    err: int
    submitted_at: datetime
    done_at: datetime
    text: str = ""
    intermediate: bool = False


# Placeholders: i id, n number delivered, s submit date, d done date, t state, e err, h err in hexadecimal, x text.
_TEXTS: Final[dict[str, str]] = {
    "appendix_b": "id:{i} sub:001 dlvrd:{n} submit date:{s} done date:{d} stat:{t} err:{e} text:{x}",
    "reordered": "stat:{t} id:{i} done date:{d} submit date:{s} err:{e} sub:001 dlvrd:{n} text:{x}",
    "no_err": "id:{i} sub:001 dlvrd:{n} submit date:{s} done date:{d} stat:{t} text:{x}",
    "no_text": "id:{i} sub:001 dlvrd:{n} submit date:{s} done date:{d} stat:{t} err:{e}",
    "hex_err": "id:{i} sub:001 dlvrd:{n} submit date:{s} done date:{d} stat:{t} err:{h} text:{x}",
}
_TEXT_OF_FORM: Final[dict[ReceiptForm, str]] = {
    "appendix_b": "appendix_b",
    "reordered": "reordered",
    "no_err": "no_err",
    "no_text": "no_text",
    "seconds": "appendix_b",
    "lower_case": "appendix_b",
    "hex_err": "hex_err",
    "tlvs": "",
    "tlvs_without_nul": "",
    "tlvs_and_text": "appendix_b",
    "payload": "appendix_b",
    "data_sm": "appendix_b",
    "no_esm_class": "appendix_b",
}
_SAME_IN_GSM7: Final = frozenset(letter for code, letter in enumerate(GSM7_BASIC) if code == ord(letter) >= 0x20)
_WITH_TLVS: Final = frozenset(("tlvs", "tlvs_without_nul", "tlvs_and_text", "data_sm"))


def write_text(report: Report, form: ReceiptForm) -> str:
    """Write the receipt's text; empty in the forms that have none."""
    template = _TEXTS.get(_TEXT_OF_FORM[form])
    if template is None:
        return ""
    seconds = form == "seconds"
    text = template.format(
        i=report.message_id,
        n="001" if report.state == "DELIVRD" else "000",
        s=_date(report.submitted_at, seconds),
        d=_date(report.done_at, seconds),
        t=report.state,
        e=f"{report.err:03d}",
        h=f"{report.err:02x}",
        x=_same_in_gsm7(report.text[:20]),
    )
    return text.lower() if form == "lower_case" else text


def _same_in_gsm7(text: str) -> str:
    """Put `?` for what is not the same octet in ASCII and in GSM 7-bit: a receipt names no alphabet."""
    return "".join([letter if letter in _SAME_IN_GSM7 else "?" for letter in text])


def _date(at: datetime, seconds: bool) -> str:
    """Write YYMMDDhhmm, or with seconds; a third of strftime's time."""
    minute = f"{at.year % 100:02d}{at.month:02d}{at.day:02d}{at.hour:02d}{at.minute:02d}"
    return f"{minute}{at.second:02d}" if seconds else minute


def write_receipt(report: Report, form: ReceiptForm) -> DeliverSm | DataSm:
    """Write a receipt as the PDU that carries it; its sequence_number is the caller's."""
    octets = write_text(report, form).encode("ascii")
    esm_class = c.ESM_INTERMEDIATE if report.intermediate else c.ESM_RECEIPT
    if form == "no_esm_class":
        esm_class = 0
    tlvs: tuple[Tlv, ...] = ()
    if form in _WITH_TLVS:
        nul = b"" if form == "tlvs_without_nul" else b"\0"
        tlvs = (
            (c.RECEIPTED_MESSAGE_ID, report.message_id.encode("latin-1") + nul),
            (c.MESSAGE_STATE, bytes((_STATES[report.state],))),
        )
        if report.err:
            tlvs += ((c.NETWORK_ERROR_CODE, bytes((3, 0, report.err))),)
    if form in ("payload", "data_sm"):
        tlvs = ((c.MESSAGE_PAYLOAD, octets), *tlvs)
        octets = b""
    if form == "data_sm":
        return DataSm(
            0,
            0,
            tlvs,
            "",
            report.dest_ton,
            report.dest_npi,
            report.destination_addr,
            report.source_ton,
            report.source_npi,
            report.source_addr,
            esm_class,
        )
    return DeliverSm(
        0,
        0,
        tlvs,
        "",
        report.dest_ton,
        report.dest_npi,
        report.destination_addr,
        report.source_ton,
        report.source_npi,
        report.source_addr,
        esm_class,
        short_message=octets,
    )
