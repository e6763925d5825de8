"""What an operator may set: one struct for each table of the settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, NoReturn
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from hermes.errors import SettingsError
from hermes.settings.described import describe

# Names that mean something else where a carrier's name stands: the built-in carrier, /v1/webhooks/dlr.
RESERVEDCARRIER_NAMES: Final = frozenset({"sandbox", "dlr"})

CARRIER_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_DOTTED_NAME: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_KIND: Final = re.compile(r"[a-z][a-z0-9_]{0,30}")


def _http_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good or "@" in parts.netloc or parts.query or parts.fragment or re.search(r"\s", text):
        raise ValueError("expected an http or https URL without user, query and fragment")
    return text.rstrip("/")


def _database_url(text: str) -> str:
    if not text.startswith(("postgresql://", "postgres://")):
        raise ValueError("expected a URL that begins with postgresql://")
    return text


def _redis_url(text: str) -> str:
    if not text.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("expected a URL that begins with redis://, rediss:// or unix://")
    return text


def _nats_url(text: str) -> str:
    for url in text.split(","):
        try:
            parts = urlsplit(url)
            good = parts.scheme in {"nats", "tls"} and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            good = False
        if not good or re.search(r"\s", url):
            raise ValueError("expected a URL that begins with nats:// or tls://, or several with commas between them")
    return text


def _host(text: str) -> str:
    if re.search(r"[\s/]", text):
        raise ValueError("expected an IP address or a host name")
    return text


def _own_host(text: str) -> str:
    if text in ("0.0.0.0", "::"):
        raise ValueError("expected the address that other machines reach this one by, not all addresses")
    return _host(text)


def _carrier_name(text: str) -> str:
    if not CARRIER_NAME.fullmatch(text):
        raise ValueError("expected 1 to 63 of a-z, 0-9, _ and -, beginning with a letter or digit")
    if text in RESERVEDCARRIER_NAMES:
        raise ValueError(f'"{text}" is reserved, choose another name')
    return text


def _guest_name(text: str) -> str:
    if not CARRIER_NAME.fullmatch(text):
        raise ValueError("expected 1 to 63 of a-z, 0-9, _ and -, beginning with a letter or digit")
    return text


def _dotted_name(text: str) -> str:
    if not _DOTTED_NAME.fullmatch(text):
        raise ValueError('expected a dotted name, such as "package.module.Class"')
    return text


def _kind(text: str) -> str:
    if not _KIND.fullmatch(text):
        raise ValueError('expected the kind of a carrier, such as "smtp"')
    return text


def _text(check: Callable[[str], str] | None = None, *, secret: bool = False) -> Meta:
    return Meta(min_length=1, extra={"check": check, "secret": secret})


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the settings. Its repr shows that a secret is set, never which."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        shown: list[tuple[str, Any]] = []
        for field in msgspec.structs.fields(self):
            value = getattr(self, field.name)
            hidden = value is not None and describe(field.type).secret
            shown.append((field.name, _Hidden() if hidden else value))
        return shown


class _Hidden:
    def __repr__(self) -> str:
        return "***"


class ServerSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[server]`: the HTTP API.

    Attributes:
        port: 0 takes any free one.
        workers: processes that share the port; 1: no parent process.
        control_host: where workers on other machines reach this one; None: nowhere, those of this machine use a socket.
        public_url: how the world reaches this node, without a slash at the end; None: http://host:port.
        max_body_bytes: of one message; a batch may have 32 times as many.
        metrics_key: what /metrics asks for as a bearer key; None: nothing.
        max_open_messages: messages without a final status before new ones are refused; 0: no limit.
        allow_private_callbacks: let webhooks go to private and loopback addresses.
    """

    host: Annotated[str, _text(_host)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    workers: Annotated[int, Meta(ge=1, le=32)] = 1
    control_host: Annotated[str, _text(_own_host)] | None = None
    public_url: Annotated[str, _text(_http_url)] | None = None
    max_body_bytes: Annotated[int, Meta(ge=1024, le=64 << 20)] = 256 << 10
    metrics_key: Annotated[str, _text(secret=True)] | None = None
    max_open_messages: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 2_000_000
    allow_private_callbacks: bool = False


class DatabaseSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[database]`: the journal.

    Attributes:
        url: a PostgreSQL 15 or newer; None: the embedded one in the data folder.
        batch_window_ms: how long the writer waits for company when load is low, in milliseconds.
        queue_limit: writes not yet committed before new messages are refused.
        secrets_key_file: what encrypts the secrets of carriers that were added while the node ran; None:
            `secrets.key` in the data folder, made when it is needed.
    """

    url: Annotated[str, _text(_database_url, secret=True)] | None = None
    batch_window_ms: Annotated[float, Meta(ge=0, le=1000)] = 5.0
    queue_limit: Annotated[int, Meta(ge=100, le=10_000_000)] = 20_000
    secrets_key_file: Annotated[str, _text()] | None = None


class RedisSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[redis]`: where workers count tenants' limits together; None: each process counts for itself."""

    url: Annotated[str, _text(_redis_url, secret=True)] | None = None


class NatsSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[nats]`: where workers tell one another what is for one of them; None: they do by the database."""

    url: Annotated[str, _text(_nats_url, secret=True)] | None = None


class LogSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[log]`: what is said on standard error."""

    format: Literal["console", "json"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"


class RetentionSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[retention]`: how many days a message stays readable."""

    messages_days: Annotated[int, Meta(ge=1, le=3650)] = 30


class TelemetrySettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[telemetry]`: traces for OpenTelemetry.

    Attributes:
        otlp_endpoint: base URL of a collector (OTLP over HTTP); None: no traces.
        sample_ratio: share of the messages without a traceparent whose traces are recorded.
    """

    otlp_endpoint: Annotated[str, _text(_http_url)] | None = None
    sample_ratio: Annotated[float, Meta(ge=0, le=1)] = 1.0


class SignupSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[signup]`: may a stranger become a tenant by `POST /v1/signup`.

    Attributes:
        mode: "off"; "approval": the operator lets each one into the sandbox; "open": at once.
        promotion: from the sandbox to production: "approval" by the operator, or "open".
        per_hour: sign-ups taken in any hour, by this process.
    """

    mode: Literal["off", "approval", "open"] = "off"
    promotion: Literal["approval", "open"] = "approval"
    per_hour: Annotated[int, Meta(ge=1, le=1_000_000)] = 20


class CarrierSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[carrier]]`: the keys that every kind has, and the kind's own in `options`.

    Attributes:
        cost: per segment or message, in the operator's currency.
        timeout_s: of one call to the carrier, in seconds; 0: no limit.
        max_in_flight: calls not yet answered; 0: no limit.
        throughput_per_s: messages handed to the carrier each second; 0: no limit.
        on_ambiguous: what follows when nobody knows whether the carrier took a message.
        tenant: the only tenant it serves; None: every tenant.
        weight: share of a weighted route's messages, relative to the others'.
        breaker_failures: failures in a row after which it is set aside; 0: never.
        breaker_open_s: seconds until it is tried again.
        rates: its prices by destination, CSV (`hermes.domain.rates`); `cost` where it names none.
        options: not checked here, `env:` and `file:` replaced; never shown in the repr.
    """

    name: Annotated[str, _text(_carrier_name)]
    kind: Annotated[str, _text(_kind)]
    channel: Literal["email", "sms", "push", "whatsapp"]
    enabled: bool = True
    cost: Annotated[float, Meta(ge=0)] = 0.0
    timeout_s: Annotated[float, Meta(ge=0, le=600)] = 30.0
    max_in_flight: Annotated[int, Meta(ge=0, le=1_000_000)] = 1000
    throughput_per_s: Annotated[float, Meta(ge=0)] = 0.0
    on_ambiguous: Literal["resend", "never"] = "resend"
    tenant: Annotated[str, _text()] | None = None
    weight: Annotated[float, Meta(ge=0)] = 1.0
    breaker_failures: Annotated[int, Meta(ge=0, le=1_000_000)] = 5
    breaker_open_s: Annotated[float, Meta(ge=0, le=86400)] = 10.0
    rates: Annotated[str, _text(secret=True)] | None = None
    options: Annotated[dict[str, Any], Meta(extra={"secret": True})] = msgspec.field(default_factory=dict)


Texts = str | list[str]
Codes = str | int | list[str | int]
Categories = Literal["otp", "transactional", "marketing"] | list[Literal["otp", "transactional", "marketing"]]
Channel = Literal["email", "sms", "push", "whatsapp"]


class MatchSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a message must be for a route to apply: one value or a list; nothing named matches everything.

    Attributes:
        prefix: beginnings of the number, with `+`.
        mcc: mobile country codes of the number's country.
        mnc: its network, where a rate deck tells which numbers are whose.
        from_hour, to_hour: UTC hours, from inclusive, to exclusive; may run over midnight; both or none.
    """

    tenant: Texts = ()  # type: ignore[assignment]
    prefix: Texts = ()  # type: ignore[assignment]
    mcc: Codes = ()  # type: ignore[assignment]
    mnc: Texts = ()  # type: ignore[assignment]
    sender: Texts = ()  # type: ignore[assignment]
    category: Categories = ()  # type: ignore[assignment]
    from_hour: Annotated[int, Meta(ge=0, le=23)] | None = None
    to_hour: Annotated[int, Meta(ge=0, le=24)] | None = None


class RouteSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[route]]`: which carriers, in which order, for the messages it matches. The first that matches decides.

    Attributes:
        sticky: of a weighted route: draw by recipient, so that each keeps its carrier (and so its sender).
    """

    channel: Channel
    carriers: Annotated[list[str], Meta(min_length=1, max_length=100)]
    match: MatchSettings = MatchSettings()
    strategy: Literal["fixed", "weighted", "least_cost", "quality"] = "fixed"
    on_ambiguous: Literal["resend", "never"] | None = None
    sticky: bool = False


class NumberSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[number]]`: whose messages to one of our numbers are. `keyword` is their first word, in any case."""

    number: Annotated[str, Meta(min_length=1, max_length=64)]
    tenant: Annotated[str, Meta(min_length=1, max_length=64)]
    carrier: str | None = None
    keyword: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


class GuestSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[guest]]`: an actor written for Thespian, hosted in the tree as `guest/<name>`.

    Attributes:
        name: also the global name under which other guests find it.
        class_: `class` in the file: where it can be imported from, package.module.Class.
        supervisor: whose child it is.
        handler_timeout_s: seconds it may take over one message before it is started anew; 0: no limit.
    """

    name: Annotated[str, _text(_guest_name)]
    class_: Annotated[str, _text(_dotted_name)] = msgspec.field(name="class")
    supervisor: Literal["guests", "carriers", "providers", "smpp", "tenants"] = "guests"
    handler_timeout_s: Annotated[float, Meta(ge=0, le=86400)] = 60.0


class Settings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that is set."""

    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    redis: RedisSettings = RedisSettings()
    nats: NatsSettings = NatsSettings()
    log: LogSettings = LogSettings()
    retention: RetentionSettings = RetentionSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    signup: SignupSettings = SignupSettings()
    carriers: tuple[CarrierSettings, ...] = ()
    routes: tuple[RouteSettings, ...] = ()
    numbers: tuple[NumberSettings, ...] = ()
    guests: tuple[GuestSettings, ...] = ()
    tenant_defaults: Mapping[str, Any] = msgspec.field(default_factory=dict)

    @property
    def names_carrier(self) -> bool:
        """Whether the file has a carrier that is enabled; others may be in the journal."""
        return any(carrier.enabled for carrier in self.carriers)

    def refuse_no_carrier(self) -> NoReturn:
        """Refuse to start: neither here nor in the journal is a carrier.

        Raises:
            SettingsError: always.
        """
        why = "every carrier has enabled = false" if self.carriers else "no carrier is set, so nothing could be sent"
        raise SettingsError(
            f"carrier: {why}; add a [[carrier]] to the file named with --config, or try `hermes demo`, "
            "which needs no settings"
        )


SECTIONS: Final[dict[str, type[Section]]] = {
    "server": ServerSettings,
    "database": DatabaseSettings,
    "redis": RedisSettings,
    "nats": NatsSettings,
    "log": LogSettings,
    "retention": RetentionSettings,
    "telemetry": TelemetrySettings,
    "signup": SignupSettings,
}


def base_url(host: str, port: int) -> str:
    """Write the URL under which a server on this address is reached from its own machine."""
    if host in {"", "0.0.0.0", "::", "*"}:
        host = "127.0.0.1" if host != "::" else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
