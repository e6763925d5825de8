"""The PDUs of SMPP 3.4 an ESME meets, as bytes and as objects.

`decode` reads one whole frame (see `framer`), `encode` writes one. Both are strict and raise `PduError` only:
every length is checked against the frame before it is used, and nothing is allocated because a header says
so.

What is read with mercy, because carriers send it and a receipt would be lost:
- a response without its body: 4.4.2 leaves it out when the status is not zero, some centres always do;
- optional parameters after any PDU, unknown ones included: kept raw, in order (3.3 asks to ignore them);
- a `receipted_message_id` with or without its NUL.

Strings of octets (C-Octet String, 3.1) are `str` here, one character per octet (Latin-1), without their NUL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from struct import Struct
from typing import Any, ClassVar, Final, TypeVar

from carriers.smpp import constants as c
from hermes.errors import HermesError

HEADER_OCTETS: Final = 16  # command_length, command_id, command_status, sequence_number (3.2)
MAX_SEQUENCE_NUMBER: Final = 0x7FFFFFFF  # 5.1.4
MAX_SHORT_MESSAGE: Final = 254  # octets in short_message (5.2.21); beyond that message_payload

Tlv = tuple[int, bytes]

_HEADER: Final = Struct(">IIII")
_write_header: Final = _HEADER.pack
_read_header: Final = _HEADER.unpack_from
_TLV: Final = Struct(">HH")
_read_tlv: Final = _TLV.unpack_from
_write_tlv: Final = _TLV.pack

# Octets of the optional parameters whose value decides something here. Those of the others are nobody's
# business: refusing a receipt for an odd value that is never read would make the carrier send it for ever.
_TLV_OCTETS: Final[dict[int, tuple[int, int]]] = {
    c.RECEIPTED_MESSAGE_ID: (1, 65),  # 5.3.2.12
    c.MESSAGE_STATE: (1, 1),  # 5.3.2.35
    c.SAR_MSG_REF_NUM: (2, 2),  # 5.3.2.22
    c.SAR_TOTAL_SEGMENTS: (1, 1),  # 5.3.2.23
    c.SAR_SEGMENT_SEQNUM: (1, 1),  # 5.3.2.24
}


class PduError(HermesError):
    """A PDU cannot be read (theirs) or written (ours).

    Attributes:
        command_status: what to answer it with; when writing, what the other side would have answered.
        broken: the frame's borders are unknown from here on: close the connection.
        command_id, sequence_number: of the PDU at fault; 0 when unknown.
        received_status: the command_status it came with; a response's verdict is readable without its body.
    """

    def __init__(
        self,
        detail: str,
        command_status: int,
        *,
        broken: bool = False,
        command_id: int = 0,
        sequence_number: int = 0,
        received_status: int = 0,
    ) -> None:
        super().__init__(f"{detail} ({c.status_name(command_status)})")
        self.command_status = command_status
        self.broken = broken
        self.command_id = command_id
        self.sequence_number = sequence_number
        self.received_status = received_status


class _Field:
    """Where a field stands in a body: `octets` 0 is a string with its NUL, at most `limit` octets long."""

    __slots__ = ("limit", "name", "octets", "status")

    def __init__(self, name: str, octets: int, limit: int = 0, status: int = c.ESME_RINVPARLEN) -> None:
        self.name = name
        self.octets = octets
        self.limit = limit
        self.status = status  # what a fault in this field is answered with


def _text(name: str, size: int, status: int = c.ESME_RINVPARLEN) -> _Field:
    """A C-Octet String of the specification's `size`, which counts the NUL."""
    return _Field(name, 0, size - 1, status)


def _octet(name: str) -> _Field:
    return _Field(name, 1)


@dataclass(slots=True, repr=False)
class Pdu:
    """What every PDU has. `repr` shows no password, no text and no whole number."""

    command_id: ClassVar[int] = 0
    response_id: ClassVar[int] = 0  # of the PDU that answers it; 0: none does
    layout: ClassVar[tuple[_Field, ...]] = ()
    may_lack_body: ClassVar[bool] = False

    command_status: int = 0
    sequence_number: int = 0
    tlvs: tuple[Tlv, ...] = ()

    def tlv(self, tag: int) -> bytes | None:
        """Find an optional parameter; the first of several."""
        for t, value in self.tlvs:
            if t == tag:
                return value
        return None

    def encode(self) -> bytes:
        """Write it.

        Raises:
            PduError: a field is too long or out of range; nothing was written.
        """
        body = b"".join([_write_field(getattr(self, field.name), field) for field in self.layout])
        return self._framed(body)

    def _framed(self, body: bytes) -> bytes:
        if self.tlvs:
            body += encode_tlvs(self.tlvs)
        try:
            return _write_header(16 + len(body), self.command_id, self.command_status, self.sequence_number) + body
        except Exception as exc:  # struct.error and TypeError, both for a number out of range: ours to fix
            raise PduError("header out of range", c.ESME_RINVCMDLEN, command_id=self.command_id) from exc

    def __repr__(self) -> str:
        shown = [f"seq={self.sequence_number}"]
        if self.command_status or self.command_id & c.RESPONSE:
            shown.append(f"status={c.status_name(self.command_status)}")
        for field in fields(self):
            if field.name in _HEADER_FIELDS:
                continue
            value = getattr(self, field.name)
            if value not in ("", b"", 0):
                shown.append(f"{field.name}={_masked(field.name, value)}")
        shown += [f"0x{tag:04X}[{len(value)}]" for tag, value in self.tlvs]
        return f"{NAMES.get(self.command_id, type(self).__name__)}({' '.join(shown)})"


_HEADER_FIELDS: Final = frozenset({"command_status", "sequence_number", "tlvs"})


def _masked(name: str, value: Any) -> str:
    if name == "password":
        return "***"
    if name == "short_message":
        return f"[{len(value)}]"
    if name.endswith("_addr") and len(value) > 4:
        return f"{value[:2]!r}...[{len(value)}]"
    return repr(value)


@dataclass(slots=True, repr=False)
class _Bind(Pdu):
    layout: ClassVar = (
        _text("system_id", 16, c.ESME_RINVSYSID),
        _text("password", 9, c.ESME_RINVPASWD),
        _text("system_type", 13, c.ESME_RINVSYSTYP),
        _octet("interface_version"),
        _octet("addr_ton"),
        _octet("addr_npi"),
        _text("address_range", 41),
    )
    system_id: str = ""
    password: str = ""
    system_type: str = ""
    interface_version: int = c.VERSION_34
    addr_ton: int = 0
    addr_npi: int = 0
    address_range: str = ""


@dataclass(slots=True, repr=False)
class BindReceiver(_Bind):
    """Log in to receive (4.1.3)."""

    command_id: ClassVar = c.BIND_RECEIVER
    response_id: ClassVar = c.BIND_RECEIVER_RESP


@dataclass(slots=True, repr=False)
class BindTransmitter(_Bind):
    """Log in to send (4.1.1)."""

    command_id: ClassVar = c.BIND_TRANSMITTER
    response_id: ClassVar = c.BIND_TRANSMITTER_RESP


@dataclass(slots=True, repr=False)
class BindTransceiver(_Bind):
    """Log in to do both (4.1.5)."""

    command_id: ClassVar = c.BIND_TRANSCEIVER
    response_id: ClassVar = c.BIND_TRANSCEIVER_RESP


@dataclass(slots=True, repr=False)
class _BindResp(Pdu):
    layout: ClassVar = (_text("system_id", 16),)
    may_lack_body: ClassVar = True
    system_id: str = ""


@dataclass(slots=True, repr=False)
class BindReceiverResp(_BindResp):
    """Answer to bind_receiver (4.1.4)."""

    command_id: ClassVar = c.BIND_RECEIVER_RESP


@dataclass(slots=True, repr=False)
class BindTransmitterResp(_BindResp):
    """Answer to bind_transmitter (4.1.2)."""

    command_id: ClassVar = c.BIND_TRANSMITTER_RESP


@dataclass(slots=True, repr=False)
class BindTransceiverResp(_BindResp):
    """Answer to bind_transceiver (4.1.6)."""

    command_id: ClassVar = c.BIND_TRANSCEIVER_RESP


@dataclass(slots=True, repr=False)
class Outbind(Pdu):
    """The centre asks us to bind (4.1.7). Nothing answers it."""

    command_id: ClassVar = c.OUTBIND
    layout: ClassVar = (_text("system_id", 16), _text("password", 9))
    system_id: str = ""
    password: str = ""


@dataclass(slots=True, repr=False)
class Unbind(Pdu):
    """Log out (4.2.1)."""

    command_id: ClassVar = c.UNBIND
    response_id: ClassVar = c.UNBIND_RESP


@dataclass(slots=True, repr=False)
class UnbindResp(Pdu):
    """Answer to unbind (4.2.2)."""

    command_id: ClassVar = c.UNBIND_RESP


@dataclass(slots=True, repr=False)
class GenericNack(Pdu):
    """Refusal of a PDU whose kind or length made no sense (4.3.1)."""

    command_id: ClassVar = c.GENERIC_NACK


@dataclass(slots=True, repr=False)
class EnquireLink(Pdu):
    """Are you there? (4.11.1)."""

    command_id: ClassVar = c.ENQUIRE_LINK
    response_id: ClassVar = c.ENQUIRE_LINK_RESP


@dataclass(slots=True, repr=False)
class EnquireLinkResp(Pdu):
    """Yes (4.11.2)."""

    command_id: ClassVar = c.ENQUIRE_LINK_RESP


_SM_LAYOUT: Final = (
    _text("service_type", 6, c.ESME_RINVSERTYP),
    _octet("source_addr_ton"),
    _octet("source_addr_npi"),
    _text("source_addr", 21, c.ESME_RINVSRCADR),
    _octet("dest_addr_ton"),
    _octet("dest_addr_npi"),
    _text("destination_addr", 21, c.ESME_RINVDSTADR),
    _octet("esm_class"),
    _octet("protocol_id"),
    _octet("priority_flag"),
    _text("schedule_delivery_time", 17, c.ESME_RINVSCHED),
    _text("validity_period", 17, c.ESME_RINVEXPIRY),
    _octet("registered_delivery"),
    _octet("replace_if_present_flag"),
    _octet("data_coding"),
    _octet("sm_default_msg_id"),
)


@dataclass(slots=True, repr=False)
class _ShortMessage(Pdu):
    """submit_sm and deliver_sm: one layout (4.4.1, 4.6.1). `sm_length` is that of `short_message`."""

    layout: ClassVar = _SM_LAYOUT
    service_type: str = ""
    source_addr_ton: int = 0
    source_addr_npi: int = 0
    source_addr: str = ""
    dest_addr_ton: int = 0
    dest_addr_npi: int = 0
    destination_addr: str = ""
    esm_class: int = 0
    protocol_id: int = 0
    priority_flag: int = 0
    schedule_delivery_time: str = ""
    validity_period: str = ""
    registered_delivery: int = 0
    replace_if_present_flag: int = 0
    data_coding: int = 0
    sm_default_msg_id: int = 0
    short_message: bytes = b""

    def encode(self) -> bytes:
        """Write it; see `Pdu.encode`. `short_message` and message_payload exclude each other (5.3.2.32)."""
        message = self.short_message
        service, source, destination = self.service_type, self.source_addr, self.destination_addr
        schedule, validity = self.schedule_delivery_time, self.validity_period
        size = len(message)
        if (
            len(source) > 20
            or len(destination) > 20
            or len(service) > 5
            or len(schedule) > 16
            or len(validity) > 16
            or size > MAX_SHORT_MESSAGE
            or "\0" in f"{service}{source}{destination}{schedule}{validity}"
        ):
            raise self._fault()
        try:
            body = (  # `%`, because no other form takes an octet as a letter
                "%s\0%c%c%s\0%c%c%s\0%c%c%c%s\0%s\0%c%c%c%c%c"  # noqa: UP031
                % (
                    service,
                    self.source_addr_ton,
                    self.source_addr_npi,
                    source,
                    self.dest_addr_ton,
                    self.dest_addr_npi,
                    destination,
                    self.esm_class,
                    self.protocol_id,
                    self.priority_flag,
                    schedule,
                    validity,
                    self.registered_delivery,
                    self.replace_if_present_flag,
                    self.data_coding,
                    self.sm_default_msg_id,
                    size,
                )
            ).encode("latin-1") + message
        except (OverflowError, TypeError, UnicodeEncodeError) as exc:
            raise self._fault() from exc
        if self.tlvs:
            if message and self.tlv(c.MESSAGE_PAYLOAD) is not None:
                raise PduError("short_message and message_payload", c.ESME_RINVMSGLEN, command_id=self.command_id)
            body += encode_tlvs(self.tlvs)
        try:
            return _write_header(16 + len(body), self.command_id, self.command_status, self.sequence_number) + body
        except Exception as exc:  # struct.error, TypeError
            raise PduError("header out of range", c.ESME_RINVCMDLEN, command_id=self.command_id) from exc

    def _fault(self) -> PduError:
        """Find the field that cannot be written."""
        for field in self.layout:
            try:
                _write_field(getattr(self, field.name), field)
            except PduError as exc:
                exc.command_id = self.command_id
                return exc
        return PduError(f"short_message over {MAX_SHORT_MESSAGE} octets", c.ESME_RINVMSGLEN, command_id=self.command_id)


@dataclass(slots=True, repr=False)
class SubmitSm(_ShortMessage):
    """A message to a handset (4.4.1)."""

    command_id: ClassVar = c.SUBMIT_SM
    response_id: ClassVar = c.SUBMIT_SM_RESP


@dataclass(slots=True, repr=False)
class DeliverSm(_ShortMessage):
    """A receipt, or a message from a handset (4.6.1)."""

    command_id: ClassVar = c.DELIVER_SM
    response_id: ClassVar = c.DELIVER_SM_RESP


@dataclass(slots=True, repr=False)
class _MessageIdResp(Pdu):
    layout: ClassVar = (_text("message_id", 65, c.ESME_RINVMSGID),)
    may_lack_body: ClassVar = True
    message_id: str = ""

    def encode(self) -> bytes:
        """Write it; see `Pdu.encode`."""
        if self.message_id or self.tlvs:
            return Pdu.encode(self)
        try:
            return _write_header(17, self.command_id, self.command_status, self.sequence_number) + b"\0"
        except Exception as exc:  # struct.error, TypeError
            raise PduError("header out of range", c.ESME_RINVCMDLEN, command_id=self.command_id) from exc


@dataclass(slots=True, repr=False)
class SubmitSmResp(_MessageIdResp):
    """Answer to submit_sm, with the centre's id for the message (4.4.2)."""

    command_id: ClassVar = c.SUBMIT_SM_RESP


@dataclass(slots=True, repr=False)
class DeliverSmResp(_MessageIdResp):
    """Answer to deliver_sm; its message_id is unused and empty (4.6.2)."""

    command_id: ClassVar = c.DELIVER_SM_RESP


@dataclass(slots=True, repr=False)
class DataSm(Pdu):
    """A message or a receipt either way, its text in message_payload (4.7.1)."""

    command_id: ClassVar = c.DATA_SM
    response_id: ClassVar = c.DATA_SM_RESP
    layout: ClassVar = (
        _text("service_type", 6, c.ESME_RINVSERTYP),
        _octet("source_addr_ton"),
        _octet("source_addr_npi"),
        _text("source_addr", 65, c.ESME_RINVSRCADR),
        _octet("dest_addr_ton"),
        _octet("dest_addr_npi"),
        _text("destination_addr", 65, c.ESME_RINVDSTADR),
        _octet("esm_class"),
        _octet("registered_delivery"),
        _octet("data_coding"),
    )
    service_type: str = ""
    source_addr_ton: int = 0
    source_addr_npi: int = 0
    source_addr: str = ""
    dest_addr_ton: int = 0
    dest_addr_npi: int = 0
    destination_addr: str = ""
    esm_class: int = 0
    registered_delivery: int = 0
    data_coding: int = 0


@dataclass(slots=True, repr=False)
class DataSmResp(_MessageIdResp):
    """Answer to data_sm (4.7.2)."""

    command_id: ClassVar = c.DATA_SM_RESP


@dataclass(slots=True, repr=False)
class QuerySm(Pdu):
    """What became of a message? (4.8.1)."""

    command_id: ClassVar = c.QUERY_SM
    response_id: ClassVar = c.QUERY_SM_RESP
    layout: ClassVar = (
        _text("message_id", 65, c.ESME_RINVMSGID),
        _octet("source_addr_ton"),
        _octet("source_addr_npi"),
        _text("source_addr", 21, c.ESME_RINVSRCADR),
    )
    message_id: str = ""
    source_addr_ton: int = 0
    source_addr_npi: int = 0
    source_addr: str = ""


@dataclass(slots=True, repr=False)
class QuerySmResp(Pdu):
    """Answer to query_sm (4.8.2)."""

    command_id: ClassVar = c.QUERY_SM_RESP
    layout: ClassVar = (
        _text("message_id", 65, c.ESME_RINVMSGID),
        _text("final_date", 17),
        _octet("message_state"),
        _octet("error_code"),
    )
    may_lack_body: ClassVar = True
    message_id: str = ""
    final_date: str = ""
    message_state: int = 0
    error_code: int = 0


@dataclass(slots=True, repr=False)
class CancelSm(Pdu):
    """Do not deliver a message (4.9.1)."""

    command_id: ClassVar = c.CANCEL_SM
    response_id: ClassVar = c.CANCEL_SM_RESP
    layout: ClassVar = (
        _text("service_type", 6, c.ESME_RINVSERTYP),
        _text("message_id", 65, c.ESME_RINVMSGID),
        _octet("source_addr_ton"),
        _octet("source_addr_npi"),
        _text("source_addr", 21, c.ESME_RINVSRCADR),
        _octet("dest_addr_ton"),
        _octet("dest_addr_npi"),
        _text("destination_addr", 21, c.ESME_RINVDSTADR),
    )
    service_type: str = ""
    message_id: str = ""
    source_addr_ton: int = 0
    source_addr_npi: int = 0
    source_addr: str = ""
    dest_addr_ton: int = 0
    dest_addr_npi: int = 0
    destination_addr: str = ""


@dataclass(slots=True, repr=False)
class CancelSmResp(Pdu):
    """Answer to cancel_sm (4.9.2)."""

    command_id: ClassVar = c.CANCEL_SM_RESP


@dataclass(slots=True, repr=False)
class ReplaceSm(Pdu):
    """Put another text in a message not yet delivered (4.10.1)."""

    command_id: ClassVar = c.REPLACE_SM
    response_id: ClassVar = c.REPLACE_SM_RESP
    layout: ClassVar = (
        _text("message_id", 65, c.ESME_RINVMSGID),
        _octet("source_addr_ton"),
        _octet("source_addr_npi"),
        _text("source_addr", 21, c.ESME_RINVSRCADR),
        _text("schedule_delivery_time", 17, c.ESME_RINVSCHED),
        _text("validity_period", 17, c.ESME_RINVEXPIRY),
        _octet("registered_delivery"),
        _octet("sm_default_msg_id"),
        _Field("short_message", -1, MAX_SHORT_MESSAGE, c.ESME_RINVMSGLEN),
    )
    message_id: str = ""
    source_addr_ton: int = 0
    source_addr_npi: int = 0
    source_addr: str = ""
    schedule_delivery_time: str = ""
    validity_period: str = ""
    registered_delivery: int = 0
    sm_default_msg_id: int = 0
    short_message: bytes = b""


@dataclass(slots=True, repr=False)
class ReplaceSmResp(Pdu):
    """Answer to replace_sm (4.10.2)."""

    command_id: ClassVar = c.REPLACE_SM_RESP


@dataclass(slots=True, repr=False)
class AlertNotification(Pdu):
    """A handset can be reached again (4.12.1). Nothing answers it."""

    command_id: ClassVar = c.ALERT_NOTIFICATION
    layout: ClassVar = (
        _octet("source_addr_ton"),
        _octet("source_addr_npi"),
        _text("source_addr", 65, c.ESME_RINVSRCADR),
        _octet("esme_addr_ton"),
        _octet("esme_addr_npi"),
        _text("esme_addr", 65, c.ESME_RINVDSTADR),
    )
    source_addr_ton: int = 0
    source_addr_npi: int = 0
    source_addr: str = ""
    esme_addr_ton: int = 0
    esme_addr_npi: int = 0
    esme_addr: str = ""


PDUS: Final[dict[int, type[Pdu]]] = {
    kind.command_id: kind
    for kind in (
        BindReceiver,
        BindReceiverResp,
        BindTransmitter,
        BindTransmitterResp,
        BindTransceiver,
        BindTransceiverResp,
        Outbind,
        Unbind,
        UnbindResp,
        GenericNack,
        EnquireLink,
        EnquireLinkResp,
        SubmitSm,
        SubmitSmResp,
        DeliverSm,
        DeliverSmResp,
        DataSm,
        DataSmResp,
        QuerySm,
        QuerySmResp,
        CancelSm,
        CancelSmResp,
        ReplaceSm,
        ReplaceSmResp,
        AlertNotification,
    )
}
# Command id -> the name the specification uses.
NAMES: Final[dict[int, str]] = {
    command_id: re.sub(r"(?<!^)([A-Z])", r"_\1", kind.__name__).lower() for command_id, kind in PDUS.items()
}

_DECODED = TypeVar("_DECODED", bound=Pdu)

# The body of submit_sm and deliver_sm up to sm_length, limits included. One match is half the time of a
# loop over the layout; whatever does not match goes to that loop, which says why.
_match_short_message: Final = re.compile(
    rb"([^\0]{0,5})\0(..[^\0]{0,20})\0(..[^\0]{0,20})\0(...[^\0]{0,16})\0([^\0]{0,16})\0(.....)", re.DOTALL
).match
_SHORT_MESSAGES: Final[dict[int, type[_ShortMessage]]] = {
    c.SUBMIT_SM: SubmitSm,
    c.DELIVER_SM: DeliverSm,
}
_MESSAGE_ID_RESPS: Final[dict[int, type[_MessageIdResp]]] = {
    c.SUBMIT_SM_RESP: SubmitSmResp,
    c.DELIVER_SM_RESP: DeliverSmResp,
    c.DATA_SM_RESP: DataSmResp,
}


def decode(frame: bytes) -> Pdu:
    """Read one PDU out of a whole frame.

    Raises:
        PduError: with what to answer; `broken` only when the frame's own length is wrong, which a `Framer`
            never lets through.
    """
    size = len(frame)
    if size < HEADER_OCTETS:
        raise PduError(f"{size} octets are no PDU", c.ESME_RINVCMDLEN, broken=True)
    length, command_id, status, sequence = _read_header(frame)
    if length != size:
        raise PduError(
            f"command_length {length} of {size} octets",
            c.ESME_RINVCMDLEN,
            broken=True,
            command_id=command_id,
            sequence_number=sequence,
            received_status=status,
        )
    try:
        message_id_resp = _MESSAGE_ID_RESPS.get(command_id)
        if message_id_resp is not None:
            if 16 < size <= 81 and frame.find(0, 16) == size - 1:
                return message_id_resp(status, sequence, (), frame[16:-1].decode("latin-1"))
            return _decode_any(message_id_resp, frame, size, status, sequence)
        short_message = _SHORT_MESSAGES.get(command_id)
        if short_message is not None:
            return _decode_short_message(short_message, frame, size, status, sequence)
        kind = PDUS.get(command_id)
        if kind is None:
            raise PduError(f"command_id 0x{command_id:08X}", c.ESME_RINVCMDID)
        return _decode_any(kind, frame, size, status, sequence)
    except PduError as exc:
        exc.command_id, exc.sequence_number, exc.received_status = command_id, sequence, status
        raise


def _decode_short_message(
    kind: type[_ShortMessage], frame: bytes, size: int, status: int, sequence: int
) -> _ShortMessage:
    match = _match_short_message(frame, 16)
    if match is None:
        _decode_fields(kind, frame, size)  # says which field
        raise PduError("body cut before sm_length", c.ESME_RINVMSGLEN)
    service, source, destination, schedule, validity, flags = match.groups()
    length = flags[4]
    start = match.end()
    end = start + length
    if end > size or length > MAX_SHORT_MESSAGE:
        raise PduError(f"sm_length {length}", c.ESME_RINVMSGLEN)
    return kind(
        status,
        sequence,
        _decode_tlvs(frame, end, size) if end < size else (),
        service.decode("latin-1") if service else "",
        source[0],
        source[1],
        source[2:].decode("latin-1"),
        destination[0],
        destination[1],
        destination[2:].decode("latin-1"),
        schedule[0],
        schedule[1],
        schedule[2],
        schedule[3:].decode("latin-1") if len(schedule) > 3 else "",
        validity.decode("latin-1") if validity else "",
        flags[0],
        flags[1],
        flags[2],
        flags[3],
        frame[start:end],
    )


def _decode_any(kind: type[_DECODED], frame: bytes, size: int, status: int, sequence: int) -> _DECODED:
    if size == HEADER_OCTETS and kind.may_lack_body:
        return kind(status, sequence)
    values, at = _decode_fields(kind, frame, size)
    return kind(status, sequence, _decode_tlvs(frame, at, size) if at < size else (), *values)


def _decode_fields(kind: type[Pdu], frame: bytes, size: int) -> tuple[list[Any], int]:
    values: list[Any] = []
    at = HEADER_OCTETS
    for field in kind.layout:
        if field.octets == 0:
            end = frame.find(0, at, at + field.limit + 1)
            if end < 0:
                raise PduError(f"{field.name} without its NUL", field.status)
            values.append(frame[at:end].decode("latin-1"))
            at = end + 1
            continue
        if at >= size:
            raise PduError(f"no {field.name}", c.ESME_RINVCMDLEN)
        value = frame[at]
        at += 1
        if field.octets == 1:
            values.append(value)
            continue
        if at + value > size or value > field.limit:
            raise PduError(f"sm_length {value}", field.status)
        values.append(frame[at : at + value])
        at += value
    return values, at


def _decode_tlvs(frame: bytes, at: int, size: int) -> tuple[Tlv, ...]:
    tlvs: list[Tlv] = []
    last = size - 4
    while at <= last:
        tag, length = _read_tlv(frame, at)
        start = at + 4
        at = start + length
        if at > size:
            raise PduError(f"optional parameter 0x{tag:04X} is cut", c.ESME_RINVOPTPARSTREAM)
        if tag in _TLV_OCTETS:
            least, most = _TLV_OCTETS[tag]
            if not least <= length <= most:
                raise PduError(f"optional parameter 0x{tag:04X} of {length} octets", c.ESME_RINVPARLEN)
        tlvs.append((tag, frame[start:at]))
    if at != size:
        raise PduError("octets after the last field", c.ESME_RINVOPTPARSTREAM)
    return tuple(tlvs)


def encode_tlvs(tlvs: tuple[Tlv, ...]) -> bytes:
    """Write optional parameters in the order given.

    Raises:
        PduError: a tag or a length beyond 16 bits.
    """
    parts = []
    for tag, value in tlvs:
        if not 0 <= tag <= 0xFFFF or len(value) > 0xFFFF:
            raise PduError(f"optional parameter 0x{tag:04X} of {len(value)} octets", c.ESME_RINVPARLEN)
        parts.append(_write_tlv(tag, len(value)))
        parts.append(value)
    return b"".join(parts)


def _write_field(value: Any, field: _Field) -> bytes:
    if field.octets == 1:
        if not isinstance(value, int) or not 0 <= value <= 255:
            raise PduError(f"{field.name} {value!r} is no octet", field.status)
        return bytes((value,))
    if field.octets < 0:
        if len(value) > field.limit:
            raise PduError(f"{field.name} over {field.limit} octets", field.status)
        return bytes((len(value),)) + bytes(value)
    try:
        octets = value.encode("latin-1")
    except UnicodeEncodeError as exc:
        raise PduError(f"{field.name} has a letter beyond one octet", field.status) from exc
    if len(octets) > field.limit or 0 in octets:
        raise PduError(f"{field.name} over {field.limit} octets or with a NUL", field.status)
    return bytes(octets) + b"\0"


def response_to(request: Pdu, status: int = c.ESME_ROK) -> Pdu:
    """Make the response a request is owed, with its sequence number.

    Raises:
        PduError: nothing answers a PDU of this kind.
    """
    kind = PDUS.get(request.response_id) if request.response_id else None
    if kind is None:
        raise PduError(f"{NAMES[request.command_id]} has no response", c.ESME_RINVCMDID)
    return kind(status, request.sequence_number)


def encode_answer(response_id: int, status: int, sequence_number: int) -> bytes:
    """Write a response without information: its body is one NUL where the kind has an (empty) message_id."""
    if response_id in _MESSAGE_ID_RESPS:
        return _write_header(17, response_id, status, sequence_number) + b"\0"
    return _write_header(16, response_id, status, sequence_number)
