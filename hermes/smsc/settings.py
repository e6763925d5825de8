"""How the simulated centre behaves, as data. Every setting may change while it runs, but for the address and TLS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from carriers.smpp import constants as c
from hermes.errors import SettingsError

Rate = Annotated[float, Meta(ge=0, le=1)]  # share of messages, 0..1
Seconds = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0)]
IdForm = Literal["dec", "dec_padded", "hex", "hex_padded", "hex_upper", "uuid", "uuid_upper"]
ReceiptForm = Literal[
    "appendix_b",
    "reordered",
    "no_err",
    "no_text",
    "seconds",
    "lower_case",
    "hex_err",
    "tlvs",
    "tlvs_without_nul",
    "tlvs_and_text",
    "payload",
    "data_sm",
    "no_esm_class",
]
Drop = Literal["reset", "close"]

FIXED: Final = ("host", "port", "tls_cert", "tls_key", "tls_client_ca", "keep", "seed", "first_id")


class SmscSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the centre does.

    Attributes:
        host, port: where it listens; port 0 takes a free one.
        tls_cert, tls_key: files; with both it speaks TLS only.
        tls_client_ca: file; then a client must show a certificate this authority vouches for.
        smsc_id: the system_id in its bind answers.
        accounts: system_id -> password; empty: anybody may bind.
        max_binds: connections bound at once for one account; one more is answered ESME_RALYBND. 0: no limit.
        allowed_addresses: others are closed right after accept; empty: all may connect.
        bind_status: answer every bind with this status; empty: judge the password.
        bind_delay_s: before a bind is answered.
        bind_timeout_s: a connection without a bind for so long is closed; 0: never.
        enquire_link_s: silence before it asks for a sign of life; 0: never asks.
        inactivity_s: silence before it closes the connection; 0: never.
        response_delay_s, response_jitter_s: before a submit_sm is answered; the jitter is drawn from 0 on and
            lets answers overtake each other.
        tps, tps_burst_s, tps_status: segments a second an account may send (0: no limit), how many seconds'
            worth at once, and what the rest is answered.
        error_rate, error_status: share of submits refused, and with what.
        statuses: end of a destination -> status it is refused with.
        magic: destinations that end in the digits of `outcomes.MAGIC` have their outcome.
        lost_answer_rate: share of submits taken and never answered.
        drop_every, drop_how: every so many submits taken, the connection ends instead of the answer; 0: never.
        id_in_response, id_in_receipt: how the same message id is written; the uuid forms go with each other only.
        first_id: the first message id as a number; 0: from the clock, so that ids stay unique over restarts.
        receipts: "asked" for in registered_delivery, "always" or "never".
        receipt_forms: taken in turn.
        receipt_delay_s, receipt_jitter_s: from the answer to the (final) receipt.
        delivered_rate: share of messages delivered; the rest is UNDELIV with `undelivered_err`.
        undelivered_err: 0..255.
        early_receipt_rate: share of receipts sent before the submit_sm_resp of their message.
        duplicate_receipt_rate: share of receipts sent twice.
        intermediate_rate: share of messages with an ENROUTE (esm_class 0x20) before the receipt; asking for one
            in registered_delivery (0x10) does it too.
        receipt_bind: the bind that "submitted" the message if it can receive, or "any" of the account, in turn.
        deliver_window: deliver_sm not yet answered on one bind; the rest waits.
        deliver_timeout_s: an unanswered deliver_sm is sent again after so long.
        deliver_retry_s: a deliver_sm refused for now (queue full, throttled, temporary) comes again after so long.
        default_alphabet: what data_coding 0 means.
        keep: messages, submits and waiting deliveries remembered, each; the oldest goes first. A message takes about
            1.2 KB.
        seed: of all chance; None: different each time.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_client_ca: str | None = None
    smsc_id: Annotated[str, Meta(max_length=15)] = "hermes-smsc"
    accounts: dict[str, str] = {}
    max_binds: Count = 0
    allowed_addresses: tuple[str, ...] = ()
    bind_status: str = ""
    bind_delay_s: Seconds = 0
    bind_timeout_s: Seconds = 0
    enquire_link_s: Seconds = 0
    inactivity_s: Seconds = 0
    response_delay_s: Seconds = 0
    response_jitter_s: Seconds = 0
    tps: Annotated[float, Meta(ge=0)] = 0
    tps_burst_s: Annotated[float, Meta(gt=0)] = 1
    tps_status: str = "ESME_RTHROTTLED"
    error_rate: Rate = 0
    error_status: str = "ESME_RSYSERR"
    statuses: dict[str, str] = {}
    magic: bool = True
    lost_answer_rate: Rate = 0
    drop_every: Count = 0
    drop_how: Drop = "reset"
    id_in_response: IdForm = "dec"
    id_in_receipt: IdForm = "dec"
    first_id: Annotated[int, Meta(ge=0, lt=2**62)] = 0
    receipts: Literal["asked", "always", "never"] = "asked"
    receipt_forms: Annotated[tuple[ReceiptForm, ...], Meta(min_length=1)] = ("appendix_b",)
    receipt_delay_s: Seconds = 0.2
    receipt_jitter_s: Seconds = 0
    delivered_rate: Rate = 1
    undelivered_err: Annotated[int, Meta(ge=0, le=255)] = 27
    early_receipt_rate: Rate = 0
    duplicate_receipt_rate: Rate = 0
    intermediate_rate: Rate = 0
    receipt_bind: Literal["submitted", "any"] = "submitted"
    deliver_window: Annotated[int, Meta(ge=1)] = 100
    deliver_timeout_s: Annotated[float, Meta(gt=0)] = 10
    deliver_retry_s: Seconds = 1
    default_alphabet: Literal["gsm7", "latin1", "ascii"] = "gsm7"
    keep: Annotated[int, Meta(ge=1)] = 50_000
    seed: int | None = None


def checked(values: Mapping[str, Any]) -> SmscSettings:
    """Make settings of plain values.

    Raises:
        SettingsError: an unknown name, a value out of range, settings that contradict each other; says which.
    """
    try:
        made = msgspec.convert(dict(values), SmscSettings, strict=False)
    except msgspec.ValidationError as exc:
        raise SettingsError(f"smsc: {exc}") from exc
    if made.id_in_response.startswith("uuid") != made.id_in_receipt.startswith("uuid"):
        raise SettingsError("smsc: id_in_response and id_in_receipt: a uuid is no number, take it for both or none")
    if (made.tls_cert is None) != (made.tls_key is None) or (made.tls_client_ca and not made.tls_cert):
        raise SettingsError("smsc: TLS needs both tls_cert and tls_key")
    for system_id, password in made.accounts.items():
        if not 0 < len(system_id) < 16 or len(password) > 8:
            raise SettingsError("smsc: accounts: a system_id has 1 to 15 letters, a password at most 8")
    for name in (made.bind_status, made.tps_status, made.error_status, *made.statuses.values()):
        if name:
            status_of(name)
    return made


def changed(settings: SmscSettings, changes: Mapping[str, Any]) -> SmscSettings:
    """Give the settings with changes laid over them.

    Raises:
        SettingsError: as `checked`, or a setting that stands from the start.
    """
    for name in changes:
        if name in FIXED and changes[name] != getattr(settings, name):
            raise SettingsError(f"smsc: {name} cannot change while it runs")
    return checked({**msgspec.structs.asdict(settings), **changes})


_STATUSES: Final = {name: status for status, name in c.STATUS_NAMES.items()}


def status_of(name: str) -> int:
    """Read a command_status: `ESME_RTHROTTLED`, `0x58` or `88`.

    Raises:
        SettingsError: it is none.
    """
    status = _STATUSES.get(name)
    if status is None:
        try:
            status = int(name, 0)
        except ValueError:
            status = -1
        if not 0 <= status <= 0xFFFFFFFF:
            raise SettingsError(f"smsc: {name!r} is no command_status: ESME_RTHROTTLED, 0x58, 88")
    return status
