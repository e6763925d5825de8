"""Delivery receipts as carriers write them: in TLVs, in text, in both, and seldom as Appendix B has it.

What is a receipt: esm_class says so (SMPP v3.4, 5.2.12), or both receipted_message_id and message_state are
there, which no handset can send. A text that merely looks like one stays a message from a handset, unless
the carrier's `receipts_without_esm_class` says otherwise.

Parameters win over text (5.3.2.12, 5.3.2.35). The text's keys are searched in any order, case and spacing,
and only before `text:`, after which come the sender's own words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Final, Literal

from carriers.smpp import constants as c
from carriers.smpp.pdu import DataSm, DeliverSm
from hermes.domain.receipt import DeliveryReceipt

Kind = Literal["receipt", "intermediate", "inbound", "acknowledgement"]

MAX_TEXT: Final = 1_000  # octets read of a receipt's text; Appendix B needs 120

# State word (Appendix B, and what is seen beside it) -> (canonical word, attempt status, final).
_FINAL: Final = {
    "DELIVRD": "delivered",
    "UNDELIV": "undelivered",
    "DELETED": "undelivered",
    "EXPIRED": "undelivered",
    "REJECTD": "rejected",
}
_NOT_FINAL: Final = {"ENROUTE": "submitted", "ACCEPTD": "submitted", "SCHEDULED": "submitted"}
_SAME_STATE: Final = {
    "DELIVERED": "DELIVRD",
    "DELIVERD": "DELIVRD",
    "DELIVER": "DELIVRD",
    "DELIV": "DELIVRD",
    "UNDELIVERED": "UNDELIV",
    "UNDELIVERABLE": "UNDELIV",
    "UNDELIVE": "UNDELIV",
    "UNDELIVR": "UNDELIV",
    "UNDLVRD": "UNDELIV",
    "FAILED": "UNDELIV",  # Jasmin issue 447
    "FAIL": "UNDELIV",
    "REJECTED": "REJECTD",
    "DND_REJECTED": "REJECTD",  # jSMPP's example of a custom state
    "SKIPPED": "REJECTD",
    "ACCEPTED": "ACCEPTD",
    "BUFFERED": "ENROUTE",
    "BUFFRED": "ENROUTE",
    "UNKNOWN": "UNKNOWN",
    "DELETE": "DELETED",
    "EXPIRE": "EXPIRED",
}

_standard: Final = re.compile(
    r"id:([^\s:]+) sub:(\d{1,9}) dlvrd:(\d{1,9}) submit date:(\d{1,14}) done date:(\d{1,14})"
    r" stat:([A-Z]+) err:([^\s:]+)(?:\s+[Tt]ext:|\s*\Z)"
).match
_text_at: Final = re.compile(r"(?:^|[\s,;|/])text\s{0,8}[:=]", re.IGNORECASE).search


def _key(name: str, value: str = r"[^\s,;|]+") -> re.Pattern[str]:
    # Blanks are counted, so that a text of nothing but blanks costs no more than any other.
    return re.compile(rf"(?:^|[\s,;|/=]){name}\s{{0,8}}[:=]\s{{0,8}}[\"']?({value})", re.IGNORECASE)


# A value must not be the next key: `id: sub:001`.
_NO_KEY: Final = r"(?!(?:sub|dlvrd|submit|done|stat|err|text)\w*\s{0,8}(?:date\s{0,8})?[:=])"
_id: Final = _key("(?:message[_ -]?|msg[_ -]?)?id", _NO_KEY + r"[^\s,;|\"']+").search
_stat: Final = _key(r"stat(?:us|e)?", r"[A-Za-z_]+").search
_err: Final = _key(r"err(?:or)?(?:[_ -]?code)?", _NO_KEY + r"[^\s,;|]+").search
_submit: Final = _key(r"submit\s{0,8}date", r"\d{6,14}").search
_done: Final = _key(r"done\s{0,8}date", r"\d{6,14}").search


@dataclass(slots=True)  # not frozen: that costs a microsecond
class SmscReceipt:
    """What a receipt says.

    Attributes:
        message_ids: the ids it names, the parameter's before the text's; empty when it names none.
        state: DELIVRD, UNDELIV, ...: one of MESSAGE_STATES' words, or the carrier's own; None when it has
            none.
        status: delivered, undelivered, rejected or submitted; None for UNKNOWN and words nobody knows: the
            wait goes on.
        final: the carrier will say no more.
        error_code: `err` as the carrier wrote it, else network_error_code's number.
        submit_date, done_date: as written, digits only; empty when absent. See `read_date`.
    """

    message_ids: tuple[str, ...]
    state: str | None
    status: str | None
    final: bool
    error_code: str | None = None
    submit_date: str = ""
    done_date: str = ""
    network_error_code: bytes = b""

    def done_at(self, zone: tzinfo = UTC) -> datetime | None:
        """Say when it happened, in UTC; None when the carrier does not say.

        Receipts name no time zone. Most centres mean UTC or their own local time.
        """
        return read_date(self.done_date, zone)

    def delivery_receipt(
        self, carrier: str, carrier_message_id: str | None = None, error_class: str | None = None
    ) -> DeliveryReceipt | None:
        """Make the domain's receipt of it; None for one that changes nothing (no status or no id).

        Args:
            carrier: the configured name.
            carrier_message_id: the key that matched; the receipt's first id when absent.
            error_class: of the carrier's table for `error_code`; EXPIRED is `expired` without one.
        """
        if self.status is None or not (carrier_message_id or self.message_ids):
            return None
        status = "undelivered" if self.status == "rejected" else self.status
        if status == "undelivered" and error_class is None and self.state == "EXPIRED":
            error_class = "expired"
        failed = status == "undelivered"
        return DeliveryReceipt(
            carrier=carrier,
            carrier_message_id=carrier_message_id or self.message_ids[0],
            status=status,
            error_class=(error_class or "unknown") if failed else None,
            error_code=self.error_code if failed else None,
            error_detail=self.state if failed else None,
            at=self.done_at(),
        )


def kind_of(pdu: DeliverSm | DataSm, receipts_without_esm_class: bool = False) -> Kind:
    """Tell what came.

    Args:
        pdu: as it came.
        receipts_without_esm_class: the carrier marks its receipts by their text alone.

    Returns:
        receipt; intermediate (0x20: on its way, never final); acknowledgement (a handset's own, or a
        conversation abort: nothing to store); inbound for everything else.
    """
    kind = pdu.esm_class & c.ESM_TYPE_MASK
    if kind == c.ESM_RECEIPT:
        return "receipt"
    if kind == c.ESM_INTERMEDIATE:
        return "intermediate"
    if pdu.tlvs and pdu.tlv(c.MESSAGE_STATE) is not None and pdu.tlv(c.RECEIPTED_MESSAGE_ID) is not None:
        return "receipt"
    if kind in (c.ESM_DELIVERY_ACK, c.ESM_USER_ACK, c.ESM_CONVERSATION_ABORT):
        return "acknowledgement"
    if receipts_without_esm_class and looks_like_receipt(text_of(pdu)):
        return "receipt"
    return "inbound"


def text_of(pdu: DeliverSm | DataSm) -> str:
    """Read the octets as text: short_message, else message_payload; keys are ASCII whatever the coding."""
    octets = pdu.short_message if isinstance(pdu, DeliverSm) else b""
    if not octets and pdu.tlvs:
        octets = pdu.tlv(c.MESSAGE_PAYLOAD) or b""
    octets = octets[:MAX_TEXT]
    if pdu.data_coding == c.DATA_CODING_UCS2 and b"\0" in octets[:2]:  # some say UCS-2 and write ASCII
        text = octets.decode("utf-16-be", "replace")
    else:
        text = octets.decode("latin-1")
    return text.replace("\0", " ") if "\0" in text else text  # a NUL ends what centres write, no database takes it


def looks_like_receipt(text: str) -> bool:
    """Tell whether a text has Appendix B's form: an id and a state before `text:`."""
    message_id, state, *_ = read_text(text)
    return message_id != "" and state != "" and (state in _SAME_STATE or state in _FINAL or state in _NOT_FINAL)


def read_receipt(pdu: DeliverSm | DataSm, *, intermediate: bool = False) -> SmscReceipt:
    """Read a receipt. Never fails: what it does not say is empty or None."""
    text_id, state, error, submit_date, done_date = read_text(text_of(pdu))
    ids: tuple[str, ...] = (text_id,) if text_id else ()
    network_error = b""
    for tag, value in pdu.tlvs:
        if tag == c.RECEIPTED_MESSAGE_ID:
            tlv_id = value.split(b"\0", 1)[0].decode("latin-1").strip()
            if tlv_id:
                ids = (tlv_id, text_id) if text_id and text_id != tlv_id else (tlv_id,)
        elif tag == c.MESSAGE_STATE:
            state = c.MESSAGE_STATES.get(value[0], state or f"{value[0]}")
        elif tag == c.NETWORK_ERROR_CODE:
            network_error = value
    if not error and network_error:
        error = str(int.from_bytes(network_error[1:3], "big")) if len(network_error) == 3 else network_error.hex()
    state = _SAME_STATE.get(state, state)
    status = _FINAL.get(state)
    final = status is not None
    if status is None:
        status = _NOT_FINAL.get(state)
    elif intermediate:
        status, final = "submitted", False
    return SmscReceipt(ids, state or None, status, final, error or None, submit_date, done_date, network_error)


def read_text(text: str) -> tuple[str, str, str, str, str]:
    """Find id, state (upper case), err, submit date and done date in a text; empty what is not there."""
    match = _standard(text)
    if match is not None:
        message_id, _, _, submit_date, done_date, state, error = match.groups()
        return message_id, state, error, submit_date, done_date
    end = _text_at(text)
    head = text if end is None else text[: end.start()]
    found = [m[1] if (m := search(head)) is not None else "" for search in (_id, _stat, _err, _submit, _done)]
    return found[0], found[1].upper(), found[2], found[3], found[4]


@lru_cache(maxsize=256)  # most receipts of a minute have the same two dates
def read_date(digits: str, zone: tzinfo = UTC) -> datetime | None:
    """Read a receipt's date: YYMMDDhhmm, with seconds, or with a year of four digits; None for anything else.

    Twelve digits are YYMMDDhhmmss, or YYYYMMDDhhmm when that is the only way they are a date.
    """
    size = len(digits)
    if size == 14:
        return _date(digits, zone)
    if size == 12:
        return _date("20" + digits, zone) or _date(digits + "00", zone)
    if size == 10:
        return _date(f"20{digits}00", zone)
    return None


def _date(digits: str, zone: tzinfo) -> datetime | None:
    try:
        at = datetime(
            int(digits[:4]),
            int(digits[4:6]),
            int(digits[6:8]),
            int(digits[8:10]),
            int(digits[10:12]),
            int(digits[12:14]),
            tzinfo=zone,
        )
    except ValueError:  # 0000000000, a Unix time, any other number
        return None
    return at if zone is UTC else at.astimezone(UTC)
