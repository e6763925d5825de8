"""A configured SMPP carrier: its settings, checked, and what its binds and its dispatcher share.

It sends nothing itself: the dispatcher and the connections (`actors/smpp.py`) own the sockets. `send` is not used.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import Annotated, Any, Final, Literal

import msgspec

from carriers.base import Carrier, SendError, SendResult, Submission
from carriers.registry import CarrierSettings, Kind
from carriers.smpp import constants as c
from carriers.smpp.errors import ErrorTable
from carriers.smpp.ids import IdForms
from carriers.smpp.pdu import CancelSm, PduError, SubmitSm, Tlv
from carriers.smpp.segmentation import References
from carriers.smpp.session import SessionSettings
from carriers.smpp.submit import SubmitSettings, build_submits, destination_address, source_address
from hermes.domain.inbound import Keywords
from hermes.domain.receipt import DeliveryReceipt
from hermes.errors import SettingsError
from hermes.runtime.clock import Clock

DEFAULT_PORT: Final = 2775  # IANA's for SMPP
DRAIN_S: Final = 5.0  # at a stop: the node has waited for the answers already
_Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
_Octet = Annotated[int, msgspec.Meta(ge=0, le=255)]
_Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]
_Base = Literal["auto", "dec", "hex"]


class SmppSettings(CarrierSettings, frozen=True, kw_only=True):
    """Where to bind, how, and how this carrier wants its PDUs. Times in seconds.

    Attributes:
        host, port: one centre; or `hosts`, each `host` or `host:port`, tried in turn.
        bind: `pair` makes a transmitter and a receiver of each of `binds`.
        throughput_per_bind_s: submit_sm a second of one bind; 0 for no limit. The account's is `throughput_per_s`.
        from_: sender when the customer names none.
        validity_s: longest validity_period, should the message's own time be longer.
        tls: verified; without `ca_file` the system's authorities are trusted.
        server_name: the name on the centre's certificate; default its host.
        source_address: local address to connect from.
        tlvs: tag ("0x1401") -> text, or "hex:" and octets; added to each submit_sm.
        error_classes: see `carriers.smpp.errors.ErrorTable`.
        keywords: see `hermes.domain.inbound.Keywords`.
        timeout_s: is not used: `response_timeout_s` ends the wait for an answer.
    """

    host: Annotated[str, msgspec.Meta(min_length=1, max_length=255)] | None = None
    port: _Port | None = None
    hosts: Annotated[list[str], msgspec.Meta(min_length=1, max_length=16)] | None = None
    system_id: Annotated[str, msgspec.Meta(min_length=1, max_length=15)]
    password: Annotated[str, msgspec.Meta(max_length=8)]
    bind: Literal["transceiver", "pair"] = "transceiver"
    binds: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    window_size: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 10
    throughput_per_bind_s: Annotated[float, msgspec.Meta(ge=0)] = 0
    system_type: Annotated[str, msgspec.Meta(max_length=12)] = ""
    address_range: Annotated[str, msgspec.Meta(max_length=40)] = ""
    source_ton: _Octet | None = None
    source_npi: _Octet | None = None
    dest_ton: _Octet = c.TON_INTERNATIONAL
    dest_npi: _Octet = c.NPI_ISDN
    default_alphabet: Literal["gsm7", "latin1", "ascii"] = "gsm7"
    concatenation: Literal["udh8", "udh16", "sar", "payload"] = "udh8"
    from_: str | None = msgspec.field(name="from", default=None)
    id_in_response: _Base = "auto"
    id_in_receipt: _Base = "auto"
    receipts_without_esm_class: bool = False
    enquire_link_s: _Seconds = 20
    enquire_timeout_s: _Seconds = 8
    response_timeout_s: _Seconds = 15
    bind_timeout_s: _Seconds = 8
    reconnect_max_s: _Seconds = 30
    registered_delivery: _Octet = c.RECEIPT_FINAL
    validity_s: _Seconds | None = None
    tls: bool = False
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    server_name: str | None = None
    source_address: str | None = None
    tlvs: dict[str, str] = msgspec.field(default_factory=dict)
    error_classes: dict[str, str] = msgspec.field(default_factory=dict)
    keywords: dict[str, list[str]] = msgspec.field(default_factory=dict)
    timeout_s: Annotated[float, msgspec.Meta(ge=0)] = 0

    def __post_init__(self) -> None:
        if (self.host is None) == (self.hosts is None):
            raise ValueError("host: give either host (and port) or hosts")
        if self.hosts is not None and self.port is not None:
            raise ValueError("port: with hosts, each has its own (host:port)")
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("key_file: needs cert_file")
        for host in self.hosts or ():
            _host_and_port(host)

    def addresses(self) -> tuple[tuple[str, int], ...]:
        """List where to connect, in order."""
        if self.hosts is not None:
            return tuple(_host_and_port(host) for host in self.hosts)
        return ((self.host or "", self.port or DEFAULT_PORT),)


def _host_and_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]") or (":" in host and not host.startswith("[")):  # no port; IPv6 needs [...]
        host, port = text, str(DEFAULT_PORT)
    host = host.strip("[]")
    if not host or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65_535:
        raise ValueError("hosts: each is a host, or host:port")
    return host, int(port)


class SmppCarrier(Carrier):
    """What the actors of one carrier share: how it writes things, and what it has been seen to do."""

    kind = "smpp"

    def __init__(self, name: str, channel: str, settings: SmppSettings, *, clock: Clock, cost: float = 0.0) -> None:
        super().__init__(name, channel, cost=cost)
        self.settings = settings
        self.addresses = settings.addresses()
        self.receipts = settings.registered_delivery & 0x03 != 0
        self.ids = IdForms(settings.id_in_response, settings.id_in_receipt)
        self.references = References(time.time())
        self.keywords = Keywords(settings.keywords)
        self.tls = _tls_context(name, settings) if settings.tls else None
        self._clock = clock
        try:
            self.errors = ErrorTable(settings.error_classes)
        except ValueError as exc:
            raise SettingsError(f"carrier {name!r}: error_classes: {exc}") from None
        if settings.from_ is not None:
            try:
                source_address(settings.from_, settings.default_alphabet)
            except PduError as exc:
                raise SettingsError(f"carrier {name!r}: from: {exc}") from None
        self._submit = SubmitSettings(
            default_alphabet=settings.default_alphabet,
            concatenation=settings.concatenation,
            source_ton=settings.source_ton,
            source_npi=settings.source_npi,
            dest_ton=settings.dest_ton,
            dest_npi=settings.dest_npi,
            registered_delivery=settings.registered_delivery,
            tlvs=_tlvs(name, settings.tlvs),
        )

    def send(self, submission: Submission) -> SendResult:
        """Not the way an SMPP carrier is asked: see `actors/smpp.py`."""
        raise NotImplementedError("an SMPP carrier is asked through its dispatcher")

    def session_settings(self, bind: str) -> SessionSettings:
        """Say what a bind of this mode (`transceiver`, `transmitter`, `receiver`) needs to know."""
        s = self.settings
        return SessionSettings(
            s.system_id,
            s.password,
            bind=bind,
            system_type=s.system_type,
            address_range=s.address_range,
            hosts=len(self.addresses),
            drain_s=DRAIN_S,
            window_size=s.window_size,
            enquire_link_s=s.enquire_link_s,
            enquire_timeout_s=s.enquire_timeout_s,
            response_timeout_s=s.response_timeout_s,
            bind_timeout_s=s.bind_timeout_s,
            reconnect_max_s=s.reconnect_max_s,
            receipts_without_esm_class=s.receipts_without_esm_class,
            default_alphabet=s.default_alphabet,
        )

    def submits(self, submission: Submission) -> list[SubmitSm]:
        """Make a message's submit_sm, in order.

        Raises:
            SendError: it cannot be written for this carrier; it says which status the carrier would have given.
        """
        sender = submission.sender or self.settings.from_
        if sender is None:
            raise SendError("provider_config", "no_sender", "neither the message nor the carrier names a sender")
        now = self._clock.now()
        refused: SendError
        try:
            _, submits = build_submits(
                submission.content.text or "",
                submission.to,
                sender,
                self._submit,
                self.references,
                now=now,
                expires_at=self._valid_until(now, submission.expires_at),
            )
        except PduError as exc:
            refused = self.refusal(exc.command_status, str(exc))
        else:
            return submits
        raise refused

    def cancellation(self, submission: Submission) -> CancelSm | None:
        """Make the cancel_sm of a message that was taken, without its message_id (4.9.1); None when it cannot be."""
        sender = submission.sender or self.settings.from_ or ""
        s = self._submit
        try:
            ton, npi, source = source_address(sender, s.default_alphabet)
            destination = destination_address(submission.to)
        except PduError:
            return None
        return CancelSm(
            source_addr_ton=ton if s.source_ton is None else s.source_ton,
            source_addr_npi=npi if s.source_npi is None else s.source_npi,
            source_addr=source,
            dest_addr_ton=s.dest_ton,
            dest_addr_npi=s.dest_npi,
            destination_addr=destination,
        )

    def _valid_until(self, now: datetime, expires_at: datetime) -> datetime:
        longest = self.settings.validity_s
        return expires_at if longest is None else min(expires_at, now + timedelta(seconds=longest))

    def refusal(self, command_status: int, detail: str = "") -> SendError:
        """Say what a refusal means, by the carrier's table."""
        fact = self.errors.status(command_status)
        return SendError(fact.error_class, fact.name, detail or "the carrier refused it", retryable=fact.retryable)

    def about(self, submission: Submission) -> str | None:
        """Make a digest of the destination and the sender, as they are written in PDUs."""
        pdu = self.cancellation(submission)
        return None if pdu is None else about(pdu.destination_addr, pdu.source_addr)

    def receipt_keys(self, receipt: DeliveryReceipt) -> Sequence[str]:
        """List the forms its id may have had in submit_sm_resp."""
        return self.ids.candidates(receipt.carrier_message_id)

    def inspect(self) -> dict[str, Any]:
        """Show where it binds, as whom, and which form of ids it was found to use."""
        return {
            "hosts": [f"{host}:{port}" for host, port in self.addresses],
            "system_id": self.settings.system_id,
            "tls": self.settings.tls,
            "id_form": self.ids.learned,
        }


def about(destination: str, source: str) -> str:
    """Digest whom a message went to and from whom, in whatever form both are written."""
    plain = f"{destination.removeprefix('+')}\0{source.removeprefix('+').casefold()}"
    return "about:" + sha256(plain.encode()).hexdigest()[:32]


def _tls_context(name: str, settings: SmppSettings) -> ssl.SSLContext:
    """Verified, TLS 1.2 or newer (behaviour 46)."""
    wrong = partial(_wrong_file, name)
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError):
        raise wrong("ca_file") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.cert_file is not None:
        try:
            context.load_cert_chain(settings.cert_file, settings.key_file)
        except (OSError, ssl.SSLError):
            raise wrong("cert_file") from None
    return context


def _wrong_file(name: str, key: str) -> SettingsError:
    return SettingsError(f"carrier {name!r}: {key}: cannot be read as PEM")


def _tlvs(name: str, tlvs: Mapping[str, str]) -> tuple[Tlv, ...]:
    made: list[Tlv] = []
    for tag, value in tlvs.items():
        try:
            number = int(tag, 0)
            octets = bytes.fromhex(value[4:]) if value.startswith("hex:") else value.encode("latin-1")
        except ValueError:
            number, octets = -1, b""
        if not 0 < number <= 0xFFFF or len(octets) > 1_000:
            raise SettingsError(f'carrier {name!r}: tlvs: {tag}: a tag like "0x1401", and text or "hex:..."')
        made.append((number, octets))
    return tuple(made)


KIND: Final = Kind("smpp", SmppSettings, SmppCarrier, frozenset({"sms"}))
